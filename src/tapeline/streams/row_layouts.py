"""Row layouts: ticks, trades and book levels as fixed-width rows, between the feed and the lake.

One layout a raw table, used by the ring buffer and the journal alike: a row is copied, never parsed, until it reaches
the lake. Integers and floats are little-endian, so that a journal reads the same on every machine.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tapeline.core.errors import ConfigurationError, SchemaError
from tapeline.core.schemas import RAW_BOOK, RAW_TICKS, RAW_TRADES, TableSpec, TimeOrigin

Rows = npt.NDArray[np.void]

ID_BYTES: Final = 40
"""The longest trade id that a row can hold: a UUID has 36 characters."""

TICK: Final = np.dtype(
    [
        ("ts", "<i8"),
        ("sequence", "<i8"),
        ("bid", "<f8"),
        ("ask", "<f8"),
        ("last", "<f8"),
        ("volume", "<f8"),
        ("flags", "<i4"),
        ("known_at", "<i8"),
    ]
)
TRADE: Final = np.dtype(
    [
        ("ts", "<i8"),
        ("sequence", "<i8"),
        ("price", "<f8"),
        ("size", "<f8"),
        ("side", "i1"),
        ("id", f"S{ID_BYTES}"),
        ("known_at", "<i8"),
    ]
)
LEVEL: Final = np.dtype(
    [
        ("ts", "<i8"),
        ("sequence", "<i8"),
        ("side", "i1"),
        ("level", "<i4"),
        ("price", "<f8"),
        ("size", "<f8"),
        ("known_at", "<i8"),
    ]
)

LAYOUTS: Final[Mapping[str, tuple[TableSpec, np.dtype[np.void]]]] = MappingProxyType(
    {spec.path: (spec, layout) for spec, layout in ((RAW_TICKS, TICK), (RAW_TRADES, TRADE), (RAW_BOOK, LEVEL))}
)
"""Each table's description and layout, by its path."""

_DEFAULTS: Final = {"sequence": 0, "last": np.nan, "volume": np.nan, "flags": 0, "id": b""}


def layout_of(spec: TableSpec) -> np.dtype[np.void]:
    """The layout of a table's rows; ConfigurationError for a table that does not come in as a stream."""
    try:
        return LAYOUTS[spec.path][1]
    except (KeyError, AttributeError) as error:
        raise ConfigurationError(
            f"{getattr(spec, 'path', spec)!r} has no row layout", hint=f"use one of {', '.join(LAYOUTS)}"
        ) from error


def make_rows(spec: TableSpec, **columns: Any) -> Rows:
    """Rows of a table from its columns, arrays or single values.

    Parameters
    ----------
    spec:
        ``RAW_TICKS``, ``RAW_TRADES`` or ``RAW_BOOK``.
    columns:
        The layout's columns; times as nanoseconds since 1970. ``sequence``, ``flags`` (0), ``last``, ``volume`` (NaN)
        and ``id`` ('') may be absent.

    Raises
    ------
    SchemaError
        A column is unknown or absent, has another length, does not cast without loss, or an id is too long.

    Examples
    --------
    >>> rows = make_rows(RAW_TICKS, ts=[1, 1], sequence=[0, 1], bid=1.1, ask=[1.2, 1.3], known_at=5)
    >>> rows["ask"].tolist(), rows["flags"].tolist()
    ([1.2, 1.3], [0, 0])
    """
    layout = layout_of(spec)
    names = layout.names or ()
    unknown = sorted(set(columns) - set(names))
    absent = [name for name in names if name not in columns and name not in _DEFAULTS]
    if unknown or absent:
        raise SchemaError(f"{spec.path}: columns {unknown} are unknown, {absent} are missing", hint=f"it has {names}")
    try:
        given = {name: _column(spec, name, columns[name], layout[name]) for name in names if name in columns}
        shape = np.broadcast_shapes(*(values.shape for values in given.values()), (1,))
        if len(shape) != 1:
            raise ValueError(f"columns of {len(shape)} dimensions")
        rows = np.empty(shape, dtype=layout)
        for name in names:
            rows[name] = given.get(name, _DEFAULTS.get(name))
    except (ValueError, TypeError, OverflowError) as error:
        raise SchemaError(f"{spec.path}: the columns do not make rows: {error}") from error
    return rows


def number_rows(instants: npt.NDArray[np.int64], *, after: tuple[int, int] | None = None) -> npt.NDArray[np.int64]:
    """The ``sequence`` of rows whose source does not number them: the position among the rows of the same instant.

    Parameters
    ----------
    instants:
        The rows' ``ts`` in the order in which the source gave them; need not be sorted.
    after:
        ``ts`` and ``sequence`` of the last row stored before these, which they continue.

    Examples
    --------
    >>> number_rows(np.array([5, 5, 7, 5])).tolist()
    [0, 1, 0, 2]
    >>> number_rows(np.array([5, 7]), after=(5, 2)).tolist()
    [3, 0]
    """
    order = np.argsort(instants, kind="stable")
    ordered = instants[order]
    starts = np.r_[True, ordered[1:] != ordered[:-1]][: ordered.size]
    first = np.maximum.accumulate(np.where(starts, np.arange(ordered.size), 0))
    numbers = np.empty(ordered.size, dtype=np.int64)
    numbers[order] = np.arange(ordered.size) - first
    if after is not None:
        numbers[instants == after[0]] += after[1] + 1
    return numbers


def to_arrow(
    spec: TableSpec,
    rows: Rows,
    sources: npt.NDArray[np.object_] | str,
    origins: npt.NDArray[np.object_] | TimeOrigin | None = None,
) -> pa.Table:
    """Rows as the lake takes them, with their source and whose clock stamped them (None where it does not say).

    Their ``known_at`` was observed, not estimated, and is their ``ingested_at`` too: what a stream received is in its
    journal at once, and read from there a second time it must say the same. The lake gives the ``data_version``.
    """
    columns: dict[str, Any] = {}
    texts = {"source": sources, "ts_origin": origins, "data_version": None}
    for field in spec.schema:
        if field.name in (rows.dtype.names or ()):
            values = np.ascontiguousarray(rows[field.name])
            if pa.types.is_string(field.type):
                columns[field.name] = pa.array(values.astype(object), type=pa.binary()).cast(pa.string())
            else:
                columns[field.name] = pa.array(values).cast(field.type)
        elif field.name in texts:
            given = texts[field.name]
            columns[field.name] = _names(given, len(rows)).cast(field.type)
        elif field.name == "ingested_at":
            columns[field.name] = pa.array(np.ascontiguousarray(rows["known_at"])).cast(field.type)
        else:
            columns[field.name] = pa.array(np.zeros(len(rows), dtype=np.int32)).cast(field.type)
    return pa.table(columns, schema=spec.schema)


def _names(given: npt.NDArray[np.object_] | str | None, rows: int) -> pa.DictionaryArray:
    """One text for all rows or one a row, as a dictionary."""
    if given is None or isinstance(given, str):
        codes = np.zeros(rows, dtype=np.int32)
        absent = np.full(rows, given is None)
        return pa.DictionaryArray.from_arrays(pa.array(codes, mask=absent), pa.array([given or ""]))
    return pa.array(given, type=pa.string()).dictionary_encode()


def _column(spec: TableSpec, name: str, given: Any, kind: np.dtype[Any]) -> npt.NDArray[Any]:
    values = np.asarray(given)
    if kind.kind == "S":
        texts = np.char.encode(values.astype(str), "utf-8")
        longest = texts.dtype.itemsize
        if longest > ID_BYTES:
            raise SchemaError(f"{spec.path}: an {name} has {longest} bytes, at most {ID_BYTES} fit")
        return texts
    cast = values.astype(kind)
    whole = kind.kind == "i" and values.dtype.kind != "i"
    if (whole or cast.dtype.itemsize < values.dtype.itemsize) and not (cast == values).all():
        raise SchemaError(f"{spec.path}: column '{name}' ({values.dtype}) does not cast to {kind} without loss")
    return cast
