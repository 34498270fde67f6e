"""The Parquet lake: one Arrow schema a table, atomic idempotent writes, point-in-time reads, SQL views."""

from tapeline.lake.lake import Change, Lake, Lineage, Series, WriteReceipt
from tapeline.lake.views import query

__all__ = ["Change", "Lake", "Lineage", "Series", "WriteReceipt", "query"]
