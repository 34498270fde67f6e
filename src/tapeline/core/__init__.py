"""Core: schemas, timeframes, symbols, point-in-time joins, the component registry, settings and errors."""
