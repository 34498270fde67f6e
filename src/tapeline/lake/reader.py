"""The reader: the partitions, columns and revisions that were asked for, and nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from tapeline.core.errors import ConfigurationError
from tapeline.core.schemas import TableSpec
from tapeline.core.symbol import Symbol
from tapeline.core.timeframe import Timeframe
from tapeline.lake.batch import check_spec, last_of_key
from tapeline.lake.parquet import instants_of, read_footer, read_rows
from tapeline.lake.partition import Partition, Place, partitions

Instant = str | datetime | pd.Timestamp

KNOWN_COLUMNS: Final = ("known_at", "t_end", "confirmed_at")
"""The column that says when a row became known: an arrival, a label's end or an event's confirmation."""
INVALIDATED: Final = "invalidated_at"


def read_arrow(
    root: Path,
    spec: TableSpec,
    symbol: Symbol,
    timeframe: Timeframe,
    *,
    start: Instant | None = None,
    end: Instant | None = None,
    columns: Sequence[str] | None = None,
    as_of: Instant | None = None,
) -> pa.Table:
    """Read rows of one series; see :meth:`tapeline.lake.lake.Lake.read`."""
    check_spec(spec)
    place = Place.of(spec, symbol, timeframe)
    low, high = span(start, end)
    known_by = None if as_of is None else nanoseconds(as_of, "as_of")
    asked = _asked(spec, columns)
    known = None if known_by is None else _known_column(spec)
    needed = list(asked)
    if spec.bitemporal:
        needed = list(dict.fromkeys([*needed, *spec.key]))
    if known is not None:
        needed = list(dict.fromkeys([*needed, known]))
    tables = []
    for partition in partitions(place.folder(root), start=low, end=high):
        footer, table = read_rows(partition.path, spec, needed)
        table = _slice(spec, table, partition, low, high)
        if known is not None:
            table = _known(table, known, known_by)
        if footer.superseded:
            table = table.filter(pa.array(last_of_key(spec, table)))
        tables.append(table.select(asked))
    if not tables:
        return pa.schema([spec.schema.field(name) for name in asked]).empty_table()
    return tables[0] if len(tables) == 1 else pa.concat_tables(tables)


def to_frame(spec: TableSpec, table: pa.Table) -> pd.DataFrame:
    """An Arrow table of the lake as a frame indexed by its order column."""
    return table.unify_dictionaries().to_pandas().set_index(spec.order)


def last(root: Path, spec: TableSpec, symbol: Symbol, timeframe: Timeframe) -> pd.Timestamp | None:
    """The newest instant of a series, from the footer of its newest file."""
    check_spec(spec)
    found = partitions(Place.of(spec, symbol, timeframe).folder(root))
    return pd.Timestamp(read_footer(found[-1].path).last, unit="ns", tz="UTC") if found else None


def span(start: Instant | None, end: Instant | None) -> tuple[int | None, int | None]:
    """A half-open range in nanoseconds since 1970; ConfigurationError where it ends before it starts."""
    low = None if start is None else nanoseconds(start, "start")
    high = None if end is None else nanoseconds(end, "end")
    if low is not None and high is not None and high < low:
        raise ConfigurationError(f"end {end} lies before start {start}")
    return low, high


def nanoseconds(value: Instant, what: str) -> int:
    """An instant as nanoseconds since 1970. A text without a zone is UTC; a time object without one is refused."""
    try:
        instant = pd.Timestamp(value)
        if instant is pd.NaT or not isinstance(value, (str, datetime)):
            raise ValueError("no time")
        if instant.tzinfo is None:
            if not isinstance(value, str):
                raise ConfigurationError(f"{what} {value} has no time zone", hint="pass tz='UTC'")
            instant = instant.tz_localize("UTC")
        return int(instant.as_unit("ns").value)
    except (ValueError, TypeError, OverflowError) as error:
        raise ConfigurationError(f"{what} {value!r} is not a time", hint="for instance 2017-03-01T12:00") from error


def _asked(spec: TableSpec, columns: Sequence[str] | None) -> list[str]:
    if columns is None:
        return spec.schema.names
    if isinstance(columns, str):
        raise ConfigurationError(f"columns is the text {columns!r}", hint=f"pass a list: [{columns!r}]")
    unknown = [name for name in columns if name not in spec.schema.names]
    if unknown:
        raise ConfigurationError(f"{spec.path} has no columns {unknown}", hint=f"it has {', '.join(spec.schema.names)}")
    return list(dict.fromkeys([spec.order, *columns]))


def _known_column(spec: TableSpec) -> str:
    for name in KNOWN_COLUMNS:
        if name in spec.schema.names:
            return name
    raise ConfigurationError(
        f"{spec.path} does not say when its rows became known, so it cannot be read as_of a time",
        hint=f"it has none of the columns {', '.join(KNOWN_COLUMNS)}",
    )


def _slice(spec: TableSpec, table: pa.Table, partition: Partition, low: int | None, high: int | None) -> pa.Table:
    first, after = partition.bounds
    if (low is None or low <= first) and (high is None or high >= after):
        return table
    instants = instants_of(table, spec.order)
    start = 0 if low is None else int(np.searchsorted(instants, low))
    stop = instants.size if high is None else int(np.searchsorted(instants, high))
    return table.slice(start, stop - start)


def _known(table: pa.Table, column: str, known_by: int | None) -> pa.Table:
    is_known = instants_of(table, column) <= known_by
    if not is_known.all():
        table = table.filter(pa.array(is_known))
    if INVALIDATED in table.column_names:
        index = table.schema.get_field_index(INVALIDATED)
        field = table.schema.field(index)
        is_later = pc.greater(table.column(index), pa.scalar(known_by, field.type))
        table = table.set_column(index, field, pc.if_else(is_later, pa.scalar(None, field.type), table.column(index)))
    return table
