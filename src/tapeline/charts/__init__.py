"""Charts and structure: detectors that yield rows of the events schema, each with the time it was confirmed."""
