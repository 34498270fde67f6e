"""Archive files: how rows become the bytes of one file, in which slices, under which name, and back."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any, Final, Literal, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa

from tapeline.core.errors import ConfigurationError, DataError
from tapeline.core.schemas import TableSpec
from tapeline.lake.content import canonical
from tapeline.lake.parquet import COMPRESSION, COMPRESSION_LEVEL, encodings, instants_of
from tapeline.lake.partition import Place, split

FileFormat = Literal["parquet", "feather", "csv"]
FORMATS: Final[tuple[FileFormat, ...]] = ("parquet", "feather", "csv")
Rule = Literal["hour", "day"] | int
"""A file an hour, a file a day, or a file every so many rows of a day."""

_HOUR: Final = 3_600_000_000_000


class Slice(NamedTuple):
    """The rows of one file: its label and the half-open range of rows, and the instant at which its stretch ends."""

    label: str
    start: int
    stop: int
    ends: int


def check_rule(by: Rule, file_format: str) -> None:
    """ConfigurationError where a rule or a format is unknown."""
    is_count = isinstance(by, int) and not isinstance(by, bool) and by >= 1
    if not is_count and by not in ("hour", "day"):
        raise ConfigurationError(f"by {by!r} is unknown", hint="use 'hour', 'day' or a number of rows")
    if file_format not in FORMATS:
        raise ConfigurationError(f"format {file_format!r} is unknown", hint=f"use one of {', '.join(FORMATS)}")


def slices(instants: np.ndarray, by: Rule) -> Iterator[Slice]:
    """Cut sorted instants into the files' stretches.

    Examples
    --------
    >>> hours = np.array([0, 1, 3_600_000_000_000])
    >>> [(part.label, part.start, part.stop) for part in slices(hours, "hour")]
    [('1970-01-01_00-01', 0, 2), ('1970-01-01_01-02', 2, 3)]
    >>> [part.label for part in slices(hours, 2)]
    ['1970-01-01_part-0001', '1970-01-01_part-0002']
    """
    for day, first, last in split(instants, "day"):
        midnight = int(np.datetime64(day, "D").astype("datetime64[ns]").astype(np.int64))
        if by == "day":
            yield Slice(day, first, last, midnight + 24 * _HOUR)
        elif by == "hour":
            hours = (instants[first:last] - midnight) // _HOUR
            for hour in np.unique(hours):
                low, high = np.searchsorted(hours, [hour, hour + 1])
                label = f"{day}_{hour:02d}-{hour + 1:02d}"
                yield Slice(label, first + int(low), first + int(high), midnight + (int(hour) + 1) * _HOUR)
        else:
            for number, start in enumerate(range(first, last, int(by)), start=1):
                stop = min(last, start + int(by))
                # A part that is not full may still grow until its day is over.
                ends = int(instants[stop - 1]) if stop - start == by else midnight + 24 * _HOUR
                yield Slice(f"{day}_part-{number:04d}", start, stop, ends)


def file_name(place: Place, label: str, file_format: FileFormat) -> str:
    """``EURUSD_ticks_2025-07-30_00-01.parquet``; the symbol percent-encoded, the timeframe of bars behind the table."""
    table = place.table if place.timeframe.is_tick else f"{place.table}-{place.timeframe}"
    return f"{place.symbol.path_segment}_{table}_{label}.{file_format}"


def encode(table: pa.Table, file_format: FileFormat) -> bytes:
    """The bytes of one file; the same rows give the same bytes. ConfigurationError for nested columns in CSV."""
    sink = pa.BufferOutputStream()
    table = canonical(table)
    if file_format == "parquet":
        import pyarrow.parquet as pq

        pq.write_table(
            table,
            sink,
            compression=COMPRESSION,
            compression_level=COMPRESSION_LEVEL,
            write_page_checksum=True,
            **encodings(table.schema),
        )
    elif file_format == "feather":
        from pyarrow import feather

        feather.write_feather(table, sink, compression=COMPRESSION)
    else:
        from pyarrow import csv

        nested = [field.name for field in table.schema if pa.types.is_nested(field.type)]
        if nested:
            raise ConfigurationError(f"columns {nested} do not fit into CSV", hint="use parquet or feather")
        csv.write_csv(_plain(table), sink)
    raw: bytes = sink.getvalue().to_pybytes()
    return raw


def decode(raw: bytes, file_format: FileFormat, spec: TableSpec, name: str) -> pa.Table:
    """The rows of one file in the table's schema; DataError where it cannot be read or holds something else."""
    try:
        if file_format == "parquet":
            import pyarrow.parquet as pq

            table = pq.read_table(pa.BufferReader(raw), page_checksum_verification=True)
        elif file_format == "feather":
            from pyarrow import feather

            table = feather.read_table(pa.BufferReader(raw))
        else:
            table = _read_csv(raw, spec)
        for field in spec.schema:
            # What a table gained after the file was archived; a csv file's header is held to the same.
            if field.nullable and field.name not in table.column_names:
                table = table.append_column(field, pa.nulls(table.num_rows, field.type))
        return canonical(table.select(spec.schema.names).cast(spec.schema).replace_schema_metadata(None))
    except (pa.ArrowException, OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"the archive's file {name} cannot be read: {error}", hint="restore it from a copy, or archive again"
        ) from error


def first_and_last(spec: TableSpec, table: pa.Table) -> tuple[str, str]:
    """The first and the last instant of a sorted table as text."""
    instants = instants_of(table, spec.order)
    first, last = (pd.Timestamp(int(value), unit="ns", tz="UTC").isoformat() for value in (instants[0], instants[-1]))
    return first, last


def _read_csv(raw: bytes, spec: TableSpec) -> pa.Table:
    from pyarrow import csv

    kinds: dict[str, Any] = {
        field.name: field.type.value_type if pa.types.is_dictionary(field.type) else field.type for field in spec.schema
    }
    return csv.read_csv(
        io.BytesIO(raw),
        convert_options=csv.ConvertOptions(
            column_types=kinds, null_values=[""], strings_can_be_null=True, quoted_strings_can_be_null=False
        ),
    )


def _plain(table: pa.Table) -> pa.Table:
    columns = [
        column.cast(column.type.value_type) if pa.types.is_dictionary(column.type) else column
        for column in table.columns
    ]
    return pa.table(dict(zip(table.column_names, columns, strict=True)))
