"""Journal entries: the rows of one table and symbol as bytes inside a frame, and back."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final, NamedTuple

import numpy as np

from tapeline.core.errors import ConfigurationError, DataError
from tapeline.core.schemas import TIME_ORIGINS, TableSpec, TimeOrigin
from tapeline.core.symbol import Symbol
from tapeline.streams.row_layouts import LAYOUTS, Rows, layout_of

_ENTRY: Final = struct.Struct("<BBBBI")
_TABLES: Final = tuple(LAYOUTS)
_ORIGINS: Final[tuple[TimeOrigin | None, ...]] = (None, *TIME_ORIGINS)


class Entry(NamedTuple):
    """Rows of one table and symbol as one ``append`` gave them."""

    spec: TableSpec
    symbol: Symbol
    source: str
    rows: Rows
    ts_origin: TimeOrigin | None = None


def encode(spec: TableSpec, symbol: Symbol, rows: Rows, source: str, ts_origin: TimeOrigin | None = None) -> bytes:
    """One entry of a frame's body; ConfigurationError where the rows are not the table's."""
    layout = layout_of(spec)
    if rows.dtype != layout or rows.ndim != 1 or not len(rows):
        raise ConfigurationError(f"{spec.path}: rows are {rows.dtype} of shape {rows.shape}", hint="see make_rows")
    name, origin = str(Symbol.parse(symbol)).encode(), source.encode()
    if not 0 < len(origin) < 256:
        raise ConfigurationError(f"source {source!r} must be a text of 1 to 255 bytes")
    if ts_origin is not None and ts_origin not in TIME_ORIGINS:
        raise ConfigurationError(f"ts_origin {ts_origin!r} is unknown", hint=f"use one of {', '.join(TIME_ORIGINS)}")
    clock = _ORIGINS.index(ts_origin)
    lead = _ENTRY.pack(_TABLES.index(spec.path), len(name), len(origin), clock, len(rows))
    return b"".join((lead, name, origin, rows.tobytes()))


def decode(body: bytes) -> Iterator[Entry]:
    """The entries of a frame's body; DataError where it is not one."""
    position = 0
    try:
        while position < len(body):
            table, name_length, source_length, clock, count = _ENTRY.unpack_from(body, position)
            position += _ENTRY.size
            spec, layout = LAYOUTS[_TABLES[table]]
            name = body[position : position + name_length].decode()
            position += name_length
            source = body[position : position + source_length].decode()
            position += source_length
            rows: Rows = np.frombuffer(body, dtype=layout, count=count, offset=position)
            position += rows.nbytes
            yield Entry(spec, Symbol.parse(name), source, rows, _ORIGINS[clock])
    except (struct.error, IndexError, ValueError) as error:
        raise DataError(
            f"a frame of the journal is no list of rows: {error}", hint="another version wrote it"
        ) from error


def count_rows(entry: bytes) -> int:
    """How many rows an encoded entry holds."""
    count: int = _ENTRY.unpack_from(entry)[4]
    return count
