"""From cells to numbers and instants: whole columns at once, and a verdict for each cell that cannot be read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from tapeline.core.errors import DataError
from tapeline.sources.frame import epoch_nanoseconds

MISSING: Final = ("", "nan", "null", "none", "na", "n/a", "#n/a", "nat")
"""Cells (in lower case) that say 'no value': they become NaN, which the quality gate judges."""

_PLAIN: Final = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$|^[+-]?([iI]nf|[iI]nfinity|INF)$"
_GROUPED: Final = r"^[+-]?\d{1,3}(,\d{3})+\.\d+$"
_GROUPED_INTEGER: Final = r"^[+-]?\d{1,3}(,\d{3})+$"
_DATE: Final = r"\d{4}-\d{2}-\d{2}"
_NAIVE: Final = rf"^{_DATE}([T ]\d{{2}}(:\d{{2}}(:\d{{2}}(\.\d{{1,9}})?)?)?)?$"
_ZONED: Final = rf"^{_DATE}[T ]\d{{2}}:\d{{2}}(:\d{{2}}(\.\d{{1,9}})?)?(Z|[+-]\d{{2}}:?\d{{2}}|[+-]\d{{2}})$"
_EPOCH: Final = r"^-?\d{9,19}(\.0*)?$"
_HEAD: Final = 1000

# Each rule brings one well-known spelling nearer to ISO 8601; they are applied in this order. RE2 knows the groups 0 to
# 9 only, so that "\10" is group 1 and a zero.
_RULES: Final = (
    (r"^(\d{4})[./](\d{2})[./](\d{2})", r"\1-\2-\3"),  # MetaTrader: 2021.11.15 01:39
    (r"^(\d{1})\.(\d{1,2})\.(\d{4})", r"0\1.\2.\3"),
    (r"^(\d{2})\.(\d{1})\.(\d{4})", r"\1.0\2.\3"),
    (r"^(\d{2})\.(\d{2})\.(\d{4})", r"\3-\2-\1"),  # Dukascopy: 01.01.2017 22:00:00.000; dots put the day first
    (r"^((?:1[6-9]|2[0-2])\d{2})(\d{2})(\d{2})($|[T ])", r"\1-\2-\3\4"),  # 20120201 000000
    (rf"^({_DATE})[T ](\d):", r"\1 0\2:"),
    (rf"^({_DATE})[T ](\d{{2}})(\d{{2}})(\d{{2}})?$", r"\1 \2:\3:\4"),
    (rf"^({_DATE} \d{{2}}:\d{{2}}):$", r"\1"),
    (r",(\d{1,9})", r".\1"),
    (r" ?(GMT|UTC)([+-]\d{2}:?\d{2})$", r"\2"),  # Dukascopy: 01.01.2017 00:00:00.000 GMT+0200
    (r" ?(GMT|UTC|z)$", "Z"),
    (r" ([+-]\d{2}:?\d{2})$", r"\1"),
)
_SLASHED: Final = r"^(?P<first>\d{1,2})[/-](?P<second>\d{1,2})[/-](?P<year>\d{4})"


@dataclass(frozen=True)
class Instants:
    """Open times in int64 nanoseconds UTC; where ``bad`` is true the time is 0 and ``reason(i)`` says why."""

    nanoseconds: np.ndarray
    bad: np.ndarray
    reasons: dict[int, str]


def numbers(column: pa.ChunkedArray, *, decimal: str = ".", grouped: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Read a column as float64.

    Parameters
    ----------
    column:
        Texts, or numbers of any width.
    decimal:
        The decimal mark, ``.`` or ``,``; the other one may group thousands where the cell has both.
    grouped:
        Also accept ``1,234,567`` without decimals (for volumes; in a price it could mean 1.234).

    Returns
    -------
    The values and a mask of the cells that hold something else than a number. Empty cells and the usual words for
    'no value' are NaN and not bad. Formulas such as ``=1+1`` are texts like any other, hence bad; nothing is evaluated.

    Examples
    --------
    >>> values, bad = numbers(pa.chunked_array([["1.5", "", "abc", "1,234.5", "-inf"]]))
    >>> values.tolist(), bad.tolist()
    ([1.5, nan, nan, 1234.5, -inf], [False, False, True, False, False])
    """
    kind = column.type
    if pa.types.is_null(kind):
        return np.full(len(column), np.nan), np.zeros(len(column), dtype=bool)
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        # Beyond 2**53 an integer has no exact float64; a volume may lose its last digits there, so safe is off.
        return _floats(pc.cast(column, pa.float64(), safe=False)), np.zeros(len(column), dtype=bool)
    text = texts(column)
    if decimal == ".":
        try:
            return _floats(pc.cast(text, pa.float64())), np.zeros(len(column), dtype=bool)
        except pa.ArrowInvalid:
            pass  # at least one cell is not a plain number: look at each
    text = pc.utf8_trim_whitespace(text)
    if decimal == ",":
        text = pc.replace_substring(pc.replace_substring(pc.replace_substring(text, ".", "\0"), ",", "."), "\0", ",")
    group = pc.match_substring_regex(text, _GROUPED)
    if grouped:
        group = pc.or_(group, pc.match_substring_regex(text, _GROUPED_INTEGER))
    text = pc.if_else(group, pc.replace_substring(text, ",", ""), text)
    good = pc.match_substring_regex(text, _PLAIN)
    missing = pc.is_in(pc.utf8_lower(text), value_set=pa.array(MISSING, pa.string()))
    values = pc.cast(pc.if_else(good, text, pa.scalar(None, pa.string())), pa.float64())
    bad = ~_mask(pc.or_(good, missing))
    return _floats(values), bad


def decimal_mark(columns: list[pa.ChunkedArray]) -> str:
    """The decimal mark of price columns, decided only where the cells decide it.

    Raises
    ------
    DataError
        Every price with a comma looks like ``1,234``, which may be 1.234 or 1234.

    Examples
    --------
    >>> decimal_mark([pa.chunked_array([["1,0523", "1,05"]])]), decimal_mark([pa.chunked_array([["1.05", "1,234.5"]])])
    (',', '.')
    """
    whole = [pc.utf8_trim_whitespace(texts(c)) for c in columns if not _is_numeric(c.type)]
    if not any(_any(pc.match_substring(c, ",")) for c in whole):
        return "."
    if any(_any(pc.match_substring_regex(c, r"^[+-]?[\d,]*\.\d+$")) for c in whole):
        return "."
    if any(_any(pc.match_substring_regex(c, r"^[+-]?\d*,(\d{1,2}|\d{4,})$|^[+-]?0,\d+$|\.\d{3},")) for c in whole):
        return ","
    if any(_any(pc.match_substring_regex(c, _GROUPED_INTEGER)) for c in whole):
        raise DataError("a price such as '1,234' may mean 1.234 or 1234", hint="set decimal = ',' or '.' in files.toml")
    return "."


def instants(column: pa.ChunkedArray, *, zone: str = "UTC", day_first: bool | None = None) -> Instants:
    """Read a column as instants in UTC.

    Understood are Arrow timestamps and dates; ISO 8601 with or without an offset; MetaTrader's ``2021.11.15 01:39``;
    Dukascopy's ``15.11.2021 01:39:00.000``; ``20211115 013900``; ``15/11/2021`` and ``11/15/2021`` where the column
    itself (or ``day_first``) decides which; epochs in s, ms, us or ns, told apart by their size.

    Parameters
    ----------
    zone:
        The zone of times that carry none. A local time that a clock change skipped or repeated is bad: it names no
        instant, or two. So is a time without a zone in a column where others carry one.
    """
    kind = column.type
    size = len(column)
    if pa.types.is_date(kind):
        column, kind = pc.cast(column, pa.timestamp("ms")), pa.timestamp("ms")
    if pa.types.is_timestamp(kind):
        return _from_timestamps(column, zone)
    if pa.types.is_integer(kind) or pa.types.is_floating(kind):
        stamps = column.to_numpy() if column.null_count == 0 else column.cast(pa.float64(), safe=False).to_numpy()
        return _from_epochs(stamps, np.zeros(size, dtype=bool))
    text = pc.utf8_trim_whitespace(texts(column))
    if size == 0:
        return Instants(np.empty(0, dtype=np.int64), np.empty(0, dtype=bool), {})
    head = text.slice(0, _HEAD)
    if _any(pc.match_substring_regex(head, _EPOCH)):
        good = _mask(pc.match_substring_regex(text, _EPOCH))
        stripped = pc.replace_substring_regex(text, r"\.0*$", "")
        stamps = pc.cast(pc.if_else(pa.array(good), stripped, "0"), pa.int64()).to_numpy()
        return _from_epochs(stamps, ~good)
    text = _slashes(text, day_first)
    quick = _apply(text, [rule for rule in _RULES if _any(pc.match_substring_regex(head, rule[0]))])
    for zoned in (False, True):
        try:
            parsed = pc.cast(quick, pa.timestamp("ns", "UTC" if zoned else None))
        except pa.ArrowInvalid:
            continue  # not the one form for all cells
        return _from_timestamps(parsed, zone)
    return _from_mixed(_rescue(text, quick), zone)


def texts(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """The column as strings (dictionaries are resolved); nulls become empty texts. Refuses nested and binary types."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        column = pc.cast(column, kind.value_type)
        kind = column.type
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)):
        raise DataError(f"a column of type {kind} holds neither numbers nor texts nor times")
    return pc.fill_null(pc.cast(column, pa.string()), "")


def _slashes(text: pa.ChunkedArray, day_first: bool | None) -> pa.ChunkedArray:
    slashed = _mask(pc.match_substring_regex(text, _SLASHED))
    if not slashed.any():
        return text
    if day_first is None:
        parts = pc.extract_regex(text.filter(pa.array(slashed)), _SLASHED)
        first, second = (
            pc.max(pc.cast(pc.struct_field(parts, name), pa.int32())).as_py() for name in ("first", "second")
        )
        if (first > 12) == (second > 12):
            raise DataError(
                f"dates such as {text.filter(pa.array(slashed))[0].as_py()!r} do not say whether the day comes first",
                hint="set day_first = true or false in files.toml",
            )
        day_first = first > 12
    text = _apply(text, ((r"^(\d)([/-])", r"0\1\2"), (r"^(\d{2}[/-])(\d)([/-])", r"\10\2\3")))
    order = r"\3-\2-\1" if day_first else r"\3-\1-\2"
    return pc.replace_substring_regex(text, r"^(\d{2})[/-](\d{2})[/-](\d{4})", order)


def _rescue(text: pa.ChunkedArray, quick: pa.ChunkedArray) -> pa.Array:
    """Put every rule to the few cells that the rules of the column's head did not bring into ISO form."""
    iso = pc.or_(pc.match_substring_regex(quick, _NAIVE), pc.match_substring_regex(quick, _ZONED))
    rest = pa.array(~_mask(iso))
    return pc.replace_with_mask(quick.combine_chunks(), rest, _apply(text.filter(rest), _RULES).combine_chunks())


def _parse(text: pa.Array, zone: str | None) -> pd.DatetimeIndex:
    """Texts of ISO form as instants; what names no day (February 30) or no 64-bit nanosecond becomes missing."""
    try:
        stamps = pc.cast(pc.cast(text, pa.timestamp("ns", zone)), pa.int64()).to_numpy()
    except pa.ArrowInvalid:
        index = pd.DatetimeIndex(
            pd.to_datetime(text.to_pandas(), format="ISO8601", errors="coerce", utc=zone is not None)
        )
        # Microseconds reach far enough for any year a cell may name.
        stamps, fits = epoch_nanoseconds(index.as_unit("us").asi8, 1_000)
        stamps = np.where(fits & ~np.asarray(index.isna()), stamps, np.iinfo(np.int64).min)
    return pd.DatetimeIndex(stamps.view("M8[ns]"), tz=zone)


def _from_mixed(text: pa.Array, zone: str) -> Instants:
    size = len(text)
    naive = _mask(pc.match_substring_regex(text, _NAIVE))
    zoned = _mask(pc.match_substring_regex(text, _ZONED))
    nanoseconds = np.zeros(size, dtype=np.int64)
    bad = np.ones(size, dtype=bool)
    reasons: dict[int, str] = {}
    mixed = bool(zoned.any())
    for mask, is_zoned in ((zoned, True), (naive & (not mixed), False)):
        if not mask.any():
            continue
        where = np.flatnonzero(mask)
        index = _parse(text.filter(pa.array(mask)), "UTC" if is_zoned else None)
        part = _localize(index, zone)
        nanoseconds[where], bad[where] = part.nanoseconds, part.bad
        reasons |= {int(where[i]): reason for i, reason in part.reasons.items()}
    if mixed:
        for i in np.flatnonzero(naive):
            reasons[int(i)] = f"time {text[int(i)].as_py()!r} has no zone, while others in its column have one"
    for i in np.flatnonzero(bad):
        reasons.setdefault(int(i), f"time {text[int(i)].as_py()!r} cannot be read")
    return Instants(nanoseconds, bad, reasons)


def _from_timestamps(column: pa.ChunkedArray, zone: str) -> Instants:
    kind = column.type
    scale = {"s": 1_000_000_000, "ms": 1_000_000, "us": 1_000, "ns": 1}[kind.unit]
    present = _mask(pc.is_valid(column))
    stamps = pc.fill_null(pc.cast(column, pa.int64()), 0).to_numpy()
    nanoseconds, fits = epoch_nanoseconds(stamps, scale)
    bad = ~(present & fits)
    if kind.tz is None and zone != "UTC":
        local = np.where(bad, np.iinfo(np.int64).min, nanoseconds).view("M8[ns]")
        return _localize(pd.DatetimeIndex(local), zone)
    reasons = {int(i): "time lies outside 1678..2261" if present[i] else "time is missing" for i in np.flatnonzero(bad)}
    return Instants(np.where(bad, 0, nanoseconds), bad, reasons)


def _localize(index: pd.DatetimeIndex, zone: str) -> Instants:
    unread = np.asarray(index.isna())
    if index.tz is None:
        index = index.tz_localize(ZoneInfo(zone), ambiguous="NaT", nonexistent="NaT")
    index = index.tz_convert("UTC")
    bad = np.asarray(index.isna())
    reasons = {
        int(i): "time is missing or cannot be read"
        if unread[i]
        else f"a clock change in {zone} skipped or repeated this local time"
        for i in np.flatnonzero(bad)
    }
    return Instants(np.where(bad, 0, index.as_unit("ns").asi8), bad, reasons)


def _from_epochs(stamps: np.ndarray, unread: np.ndarray) -> Instants:
    with np.errstate(invalid="ignore"):
        size = np.abs(stamps.astype(np.float64))
    step = np.searchsorted(np.array([1e11, 1e14, 1e17]), size, side="right")  # 1e11 s is the year 5138, 1e11 ms is 1973
    usable = ~unread & np.isfinite(size)
    unit = int(np.median(step[usable])) if usable.any() else 0
    nanoseconds, fits = epoch_nanoseconds(stamps, (1_000_000_000, 1_000_000, 1_000, 1)[unit])
    bad = ~(usable & fits & (step == unit))
    reasons = {
        int(i): "time cannot be read" if not usable[i] else f"epoch {stamps[i]} is not in the unit of its column"
        for i in np.flatnonzero(bad)
    }
    return Instants(np.where(bad, 0, nanoseconds), bad, reasons)


def _apply(text: pa.ChunkedArray, rules: list[tuple[str, str]] | tuple[tuple[str, str], ...]) -> pa.ChunkedArray:
    for pattern, replacement in rules:
        text = pc.replace_substring_regex(text, pattern, replacement)
    return text


def _is_numeric(kind: pa.DataType) -> bool:
    return (
        pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind) or pa.types.is_null(kind)
    )


def _any(mask: pa.ChunkedArray) -> bool:
    return bool(pc.any(mask).as_py())


def _mask(mask: pa.ChunkedArray) -> np.ndarray:
    flat = mask.combine_chunks() if isinstance(mask, pa.ChunkedArray) else mask
    return np.asarray(pc.fill_null(flat, False).to_numpy(zero_copy_only=False), dtype=bool)


def _floats(column: pa.ChunkedArray) -> np.ndarray:
    return np.asarray(pc.fill_null(column, float("nan")).to_numpy(), dtype=np.float64)
