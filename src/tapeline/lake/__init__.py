"""The Parquet lake: one Arrow schema a table, atomic idempotent writes, point-in-time reads, SQL views."""
