"""What a table of the lake is: its place, its columns, its key, and how a frame becomes it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, get_args

import pandas as pd
import pyarrow as pa

from tapeline.core.errors import ConfigurationError, SchemaError
from tapeline.core.symbol import parse_name

Zone = Literal["raw", "clean", "features", "labels", "events", "scores", "strategy", "quarantine", "audit"]
ZONES: Final[tuple[Zone, ...]] = get_args(Zone)

INSTANT: Final = pa.timestamp("ns", tz="UTC")
NAME: Final = pa.dictionary(pa.int32(), pa.string())
PROVENANCE_COLUMNS: Final = ("ts_origin", "ingested_at", "data_version")
"""Whence a row came to be in the lake. A table has all of them or none; they say nothing of the market.

``ts_origin`` is one of :data:`TIME_ORIGINS`, null where the source does not say. ``ingested_at`` is when the row was
first stored; for a stream, when it was received. ``data_version`` is the content hash of the batch (an answer of a
source, a raw file, a piece of a journal) that brought the row; the manifest names the same hash beside the raw file.
Rows written before a table had these columns read as null.
"""


@dataclass(frozen=True)
class TableSpec:
    """What the lake needs to know of one table.

    Parameters
    ----------
    zone, name:
        Where it lies: ``data/<zone>/<name>/symbol=/timeframe=/<period>=``.
    schema:
        The columns inside a file. ``symbol``, ``timeframe`` and the period are folders, not columns.
    key:
        The columns that identify a row within one symbol and timeframe.
    order:
        The time column by which rows are sorted and partitioned.
    bitemporal:
        True where a row with a known key and other values is a correction: it is appended with the next ``revision``
        and its own ``known_at``, and ``as_of`` reads can still see what was known before. False where the first write
        of a key (``keep="first"``) or the last one (``keep="last"``) stands.
    """

    zone: Zone
    name: str
    schema: pa.Schema
    key: tuple[str, ...]
    order: str = "ts"
    bitemporal: bool = False
    keep: Literal["first", "last"] = "last"

    def __post_init__(self) -> None:
        parse_name(self.name, "table")
        absent = {*self.key, self.order} - set(self.schema.names)
        if absent:
            raise ConfigurationError(
                f"table {self.zone}/{self.name}: key columns {sorted(absent)} are not in its schema"
            )

    @property
    def provenance(self) -> tuple[str, ...]:
        """The columns that say whence a row came to be in the lake; they count neither as a value nor in a version."""
        return PROVENANCE_COLUMNS if "ingested_at" in self.schema.names else ()

    @property
    def path(self) -> str:
        """``<zone>/<name>``, as the lake, SQL views and messages call it."""
        return f"{self.zone}/{self.name}"

    def to_arrow(self, frame: pd.DataFrame) -> pa.Table:
        """Cast a frame (time as index or column) to exactly this schema.

        Nullable columns that the frame lacks become null. Columns the schema lacks, a missing required column, a
        value that does not cast, or a null in a required column raise SchemaError: nothing is dropped or promoted.
        """
        if self.order not in frame.columns and frame.index.name == self.order:
            frame = frame.reset_index()
        unknown = [str(c) for c in frame.columns if c not in self.schema.names]
        if unknown:
            raise SchemaError(f"{self.path}: columns {unknown} are not in its schema", hint="drop or rename them first")
        arrays = []
        for field in self.schema:
            if field.name not in frame.columns:
                if not field.nullable:
                    raise SchemaError(f"{self.path}: required column '{field.name}' is missing")
                arrays.append(pa.nulls(len(frame), field.type))
                continue
            arrays.append(self._cast(frame[field.name], field))
        return pa.Table.from_arrays(arrays, schema=self.schema)

    def _cast(self, column: pd.Series, field: pa.Field) -> pa.Array:
        if pa.types.is_timestamp(field.type) and not isinstance(column.dtype, pd.DatetimeTZDtype):
            if not (len(column) == 0 or column.isna().all()):
                raise SchemaError(f"{self.path}: '{field.name}' holds {column.dtype}, expected UTC instants")
            return pa.nulls(len(column), field.type)
        if isinstance(column.dtype, pd.DatetimeTZDtype):
            # Arrow would ask pandas for the values with their zone, a way that pandas is about to close.
            column = column.dt.tz_convert("UTC").dt.tz_localize(None)
        try:
            # NaN is a value here, not a null: a missing measurement and an absent cell must stay apart on disk.
            nan_is_null = not pa.types.is_floating(field.type)
            array = pa.array(column, from_pandas=nan_is_null)
            if isinstance(array, pa.ChunkedArray):
                array = array.combine_chunks()
            array = array.cast(field.type)
        except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError) as error:
            raise SchemaError(
                f"{self.path}: column '{field.name}' ({column.dtype}) does not cast to {field.type}: {error}"
            ) from error
        if not field.nullable and array.null_count:
            raise SchemaError(f"{self.path}: required column '{field.name}' has {array.null_count} nulls")
        return array


def fields(*columns: tuple[str, pa.DataType, bool]) -> list[pa.Field]:
    """Arrow fields from (name, type, whether it may be null)."""
    return [pa.field(name, kind, nullable=nullable) for name, kind, nullable in columns]


def empty(spec: TableSpec) -> pd.DataFrame:
    """An empty frame of a table, with its dtypes, indexed by its time column."""
    return spec.schema.empty_table().to_pandas().set_index(spec.order)
