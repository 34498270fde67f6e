"""Timestamps: any epoch unit, text or zone to UTC nanoseconds, with an explicit rule for every doubtful hour."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import numpy as np
import pandas as pd

from tapeline.core.errors import ConfigurationError, DataError

EpochUnit = Literal["s", "ms", "us", "ns"]
Ambiguous = Literal["raise", "reject", "earlier", "later", "infer"]
Nonexistent = Literal["raise", "reject", "shift_forward", "shift_backward"]

UNITS: Final[dict[str, int]] = {"s": 1_000_000_000, "ms": 1_000_000, "us": 1_000, "ns": 1}
"""Nanoseconds in one of each epoch unit."""

_AMBIGUOUS: Final = ("raise", "reject", "earlier", "later", "infer")
_NONEXISTENT: Final = ("raise", "reject", "shift_forward", "shift_backward")
_FIRST_YEAR: Final = pd.Timestamp("1990-01-01", tz="UTC").value
_LAST_YEAR: Final = pd.Timestamp("2100-01-01", tz="UTC").value
_HOUR: Final = 3_600_000_000_000


@dataclass(frozen=True)
class NormalizedTimes:
    """UTC instants and the values that gave none.

    Parameters
    ----------
    index:
        One UTC instant (ns) a value, NaT where it was rejected.
    rejected:
        One row a rejected value: ``row`` its position, ``value`` as it came (text), ``reason``.
    unit:
        The epoch unit that numbers were read in; None where there were no numbers.
    """

    index: pd.DatetimeIndex
    rejected: pd.DataFrame
    unit: EpochUnit | None


def normalize_timestamps(
    values: pd.Series | pd.Index | np.ndarray | Sequence[Any],
    *,
    unit: EpochUnit | None = None,
    zone: str | None = None,
    ambiguous: Ambiguous = "raise",
    nonexistent: Nonexistent = "raise",
    text_format: str | None = None,
    errors: Literal["raise", "reject"] = "raise",
) -> NormalizedTimes:
    """Read times of any spelling as UTC nanoseconds.

    Numbers count from the epoch in ``unit``. Without one the unit is read from their size, which tells the units apart
    for the years 1990 to 2100 and is refused for anything else or for a mixture. Text is ISO 8601 or ``text_format``;
    text of digits alone is a number only where ``unit`` is given, because ``20170102`` is also a date. Times without
    an offset are wall-clock times of ``zone``.

    Parameters
    ----------
    values:
        Numbers, text, datetimes or datetime64; no mixture of numbers with the others.
    unit:
        ``s``, ``ms``, ``us`` or ``ns``. Fractions count; a float of seconds resolves about 0.2 microseconds today.
    zone:
        IANA name of the zone of times without an offset. None refuses them.
    ambiguous:
        For a wall-clock time that occurs twice, when clocks go back: ``earlier`` or ``later`` of the two, ``infer``
        from the order of the values (within one such hour the clock must be seen to step back once), ``reject`` the
        value, or ``raise``.
    nonexistent:
        For a wall-clock time that is skipped, when clocks go forward: ``shift_forward`` to the first instant after,
        ``shift_backward`` to the last nanosecond before, ``reject`` or ``raise``.
    text_format:
        A ``strptime`` format for text.
    errors:
        What becomes of a value that is missing, does not parse or lies outside the years 1678 to 2261: ``reject``
        lists it in ``rejected``, ``raise`` does so for the first of them.

    Raises
    ------
    ConfigurationError
        An unknown rule, unit or zone.
    DataError
        The unit cannot be told, a time has no offset and no ``zone`` was given, or a value met a rule ``raise``; the
        message names the first such value and its row.

    Examples
    --------
    >>> normalize_timestamps([1483347600, 1483351200]).index[0]
    Timestamp('2017-01-02 09:00:00+0000', tz='UTC')
    >>> wall = ["2017-11-05 01:30", "2017-11-05 01:10", "2017-03-12 02:30"]
    >>> read = normalize_timestamps(
    ...     wall, zone="America/New_York", ambiguous="infer", nonexistent="reject", errors="reject"
    ... )
    >>> [str(t) for t in read.index]
    ['2017-11-05 05:30:00+00:00', '2017-11-05 06:10:00+00:00', 'NaT']
    >>> read.rejected["reason"].tolist()
    ['does not exist in America/New_York: clocks went forward over it']
    """
    _require(unit is None or unit in UNITS, "unit", unit, UNITS)
    _require(ambiguous in _AMBIGUOUS, "ambiguous", ambiguous, _AMBIGUOUS)
    _require(nonexistent in _NONEXISTENT, "nonexistent", nonexistent, _NONEXISTENT)
    _require(errors in ("raise", "reject"), "errors", errors, ("raise", "reject"))
    _check_zone(zone)
    held = _as_series(values)
    refused = _Refused(held, errors)
    found_unit: EpochUnit | None = None
    if isinstance(held.dtype, pd.DatetimeTZDtype) or held.dtype.kind == "M":
        wall, aware = _from_instants(held, refused)
    else:
        numbers = _numbers(held, unit)
        if numbers is not None:
            found_unit, stamps = _from_numbers(numbers, unit, refused)
            wall, aware = stamps, np.ones(len(stamps), dtype=bool)
        else:
            wall, aware = _from_text(held, text_format, refused)
    local = ~aware & ~refused.mask
    if local.any():
        if zone is None:
            first = int(local.argmax())
            raise DataError(
                f"time {held.iloc[first]!r} in row {first} has no offset", hint="name the zone of its clock, zone='UTC'"
            )
        wall = _localize(wall, local, zone, ambiguous, nonexistent, refused)
    stamps = np.where(refused.mask, np.iinfo(np.int64).min, wall)
    index = pd.DatetimeIndex(stamps.view("M8[ns]"), name="ts").tz_localize("UTC")
    return NormalizedTimes(index, refused.table(), found_unit)


class _Refused:
    """Collects the values that give no instant; raises at the first where that is the rule."""

    def __init__(self, values: pd.Series, errors: str) -> None:
        self.mask = np.zeros(len(values), dtype=bool)
        self._values = values
        self._errors = errors
        self._reasons: dict[int, str] = {}

    def add(self, where: np.ndarray, reason: str, *, always: bool = False, never: bool = False) -> None:
        """Refuse the rows of a mask; ``always`` and ``never`` override whether that raises."""
        rows = np.flatnonzero(where & ~self.mask)
        if not rows.size:
            return
        if always or (self._errors == "raise" and not never):
            row = int(rows[0])
            raise DataError(f"time {self._values.iloc[row]!r} in row {row} {reason}", hint="state a rule for it")
        self.mask[rows] = True
        self._reasons.update(dict.fromkeys(rows.tolist(), reason))

    def table(self) -> pd.DataFrame:
        rows = sorted(self._reasons)
        return pd.DataFrame(
            {
                "row": np.array(rows, dtype=np.int64),
                "value": pd.array([str(self._values.iloc[row]) for row in rows], dtype="str"),
                "reason": pd.array([self._reasons[row] for row in rows], dtype="str"),
            }
        )


def _require(holds: bool, name: str, value: object, known: Any) -> None:
    if not holds:
        raise ConfigurationError(f"{name} = {value!r} is unknown", hint=f"use one of {', '.join(known)}")


def _check_zone(zone: str | None) -> None:
    if zone is None:
        return
    try:
        ZoneInfo(zone)
    except (ZoneInfoNotFoundError, ValueError, OSError, TypeError) as error:
        raise ConfigurationError(f"zone {zone!r} is unknown", hint="an IANA name such as Europe/London") from error


def _as_series(values: Any) -> pd.Series:
    if isinstance(values, pd.Series):
        return values.reset_index(drop=True)
    if isinstance(values, pd.Index | np.ndarray):
        return pd.Series(values)
    held = list(values)
    # A list of Python objects is not converted yet: pandas would guess, and integers beyond 64 bits must stay exact.
    return pd.Series(held, dtype=object)


def _from_instants(held: pd.Series, refused: _Refused) -> tuple[np.ndarray, np.ndarray]:
    aware = isinstance(held.dtype, pd.DatetimeTZDtype)
    naive = held.dt.tz_convert("UTC").dt.tz_localize(None) if aware else held
    refused.add(naive.isna().to_numpy(), "is missing")
    outside = ((naive < pd.Timestamp.min) | (naive > pd.Timestamp.max)).to_numpy()
    refused.add(outside, "lies outside the years 1678 to 2261")
    stamps = naive.mask(refused.mask).dt.as_unit("ns").astype("int64").to_numpy()
    return stamps, np.full(len(held), aware)


def _numbers(held: pd.Series, unit: EpochUnit | None) -> pd.Series | None:
    """The values where they are numbers, else None; mixtures of numbers and other things are refused."""
    if held.dtype.kind in "iuf":
        return held
    present = held.dropna()
    if held.dtype.kind == "b" or present.map(lambda value: isinstance(value, bool | np.bool_)).any():
        raise DataError("times are truth values, expected instants", hint="pick another column")
    if not len(present):
        return None
    number = present.map(lambda value: isinstance(value, int | float | np.integer | np.floating))
    if number.all():
        return held
    if number.any():
        first = present[~number].iloc[0]
        raise DataError(f"times mix numbers with others such as {first!r}", hint="split them by kind first")
    if unit is not None and present.map(lambda value: isinstance(value, str)).all():
        try:
            return present.map(lambda text: float(text) if "." in text else int(text)).reindex(held.index)
        except ValueError as error:
            raise DataError(f"unit = {unit!r} was given for text that is no number: {error}") from error
    return None


def _from_numbers(numbers: pd.Series, unit: EpochUnit | None, refused: _Refused) -> tuple[EpochUnit | None, np.ndarray]:
    exact = numbers.dtype.kind in "iu"
    approximate = pd.to_numeric(numbers, errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
    refused.add(np.isnan(approximate), "is missing")
    refused.add(np.isinf(approximate), "is infinite")
    if unit is None:
        unit = _detect(numbers, approximate, ~refused.mask)
    if unit is None:
        return None, np.zeros(len(numbers), dtype=np.int64)
    scale = UNITS[unit]
    largest = np.iinfo(np.int64).max / scale
    refused.add(~(np.abs(approximate) < largest), f"lies outside the years 1678 to 2261 as an epoch in {unit}")
    usable = ~refused.mask
    stamps = np.zeros(len(numbers), dtype=np.int64)
    if exact:
        stamps[usable] = numbers.to_numpy()[usable].astype(np.int64) * scale
        return unit, stamps
    if numbers.dtype == object:
        # Python integers are multiplied as such: a float would lose the last digits of nanoseconds.
        stamps[usable] = [
            int(v) * scale if isinstance(v, int | np.integer) else _scaled(float(v), scale)
            for v in numbers.to_numpy()[usable]
        ]
        return unit, stamps
    whole = np.floor(approximate[usable])
    rest = np.rint((approximate[usable] - whole) * scale)
    stamps[usable] = whole.astype(np.int64) * scale + rest.astype(np.int64)
    return unit, stamps


def _scaled(value: float, scale: int) -> int:
    whole = int(np.floor(value))
    return whole * scale + round((value - whole) * scale)


def _detect(numbers: pd.Series, approximate: np.ndarray, usable: np.ndarray) -> EpochUnit | None:
    """The one unit in which every value lies in the years 1990 to 2100."""
    if not usable.any():
        return None
    fits = {
        name: usable & (approximate * scale >= _FIRST_YEAR) & (approximate * scale < _LAST_YEAR)
        for name, scale in UNITS.items()
    }
    for name, inside in fits.items():
        if inside[usable].all():
            return name  # type: ignore[return-value]
    found = [name for name, inside in fits.items() if inside.any()]
    known = np.logical_or.reduce(list(fits.values()))
    row = int((usable & ~known).argmax()) if (usable & ~known).any() else int((usable & ~fits[found[0]]).argmax())
    detail = f"the others are in {', '.join(found)}" if found else "no unit puts it in the years 1990 to 2100"
    raise DataError(
        f"the epoch unit of {numbers.iloc[row]!r} in row {row} cannot be told: {detail}", hint="state it, unit='ms'"
    )


def _from_text(held: pd.Series, text_format: str | None, refused: _Refused) -> tuple[np.ndarray, np.ndarray]:
    """Wall-clock or UTC nanoseconds, and whether a value named its offset."""
    missing = held.isna().to_numpy()
    refused.add(missing, "is missing")
    stamps = np.zeros(len(held), dtype=np.int64)
    aware = np.zeros(len(held), dtype=bool)
    unread, outside = np.zeros(len(held), dtype=bool), np.zeros(len(held), dtype=bool)
    for row in np.flatnonzero(~missing).tolist():
        value = held.iloc[row]
        try:
            if isinstance(value, str):
                text = value.strip()
                read = pd.to_datetime(text, format=text_format or "ISO8601") if text else pd.NaT
            else:
                read = pd.Timestamp(value)
            if read is pd.NaT or not isinstance(read, pd.Timestamp):
                unread[row] = True
                continue
            aware[row] = read.tzinfo is not None
            naive = read.tz_convert("UTC").tz_localize(None) if read.tzinfo is not None else read
            stamps[row] = naive.as_unit("ns").value
        except (pd.errors.OutOfBoundsDatetime, OverflowError):
            outside[row] = True
        except (ValueError, TypeError):
            unread[row] = True
    refused.add(unread, "is no time")
    refused.add(outside, "lies outside the years 1678 to 2261")
    return stamps, aware


def _localize(
    wall: np.ndarray,
    local: np.ndarray,
    zone: str,
    ambiguous: Ambiguous,
    nonexistent: Nonexistent,
    refused: _Refused,
) -> np.ndarray:
    rows = np.flatnonzero(local)
    clock = pd.DatetimeIndex(wall[rows].view("M8[ns]"))
    options: dict[str, Any] = {"nonexistent": "NaT"}
    one, other = (
        clock.tz_localize(zone, ambiguous=np.full(len(clock), first), **options).asi8 for first in (True, False)
    )
    skipped = pd.isna(clock.tz_localize(zone, ambiguous=np.ones(len(clock), dtype=bool), **options))
    earlier, later = np.minimum(one, other), np.maximum(one, other)
    chosen = earlier.copy()

    where = np.zeros(len(wall), dtype=bool)
    where[rows[skipped]] = True
    reason = f"does not exist in {zone}: clocks went forward over it"
    if nonexistent in ("raise", "reject"):
        refused.add(where, reason, always=nonexistent == "raise", never=nonexistent == "reject")
    elif skipped.any():
        shifted = clock[skipped].tz_localize(zone, nonexistent=nonexistent)  # type: ignore[arg-type]
        chosen[skipped] = shifted.asi8

    twice = (earlier != later) & ~skipped
    where = np.zeros(len(wall), dtype=bool)
    where[rows[twice]] = True
    reason = f"occurs twice in {zone}: clocks went back over it"
    if ambiguous == "later":
        chosen[twice] = later[twice]
    elif ambiguous == "infer":
        second, decided = _by_order(wall[rows], earlier, twice)
        chosen[second] = later[second]
        where[rows[twice & decided]] = False
        refused.add(where, f"{reason}, and the order of the values does not tell which")
    elif ambiguous in ("raise", "reject"):
        refused.add(where, reason, always=ambiguous == "raise", never=ambiguous == "reject")
    out = wall.copy()
    out[rows] = chosen
    return out


def _by_order(wall: np.ndarray, earlier: np.ndarray, twice: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Which ambiguous values are the second passing, and which the order of the values decides at all.

    Within one repeated hour the first passing ends where the wall clock steps back. Without a step, or with more than
    one, nothing is known.
    """
    second, decided = np.zeros(len(wall), dtype=bool), np.zeros(len(wall), dtype=bool)
    rows = np.flatnonzero(twice)
    if not rows.size:
        return second, decided
    # Another autumn, or an interruption by an unambiguous value, begins another group.
    new = np.r_[True, (np.diff(rows) > 1) | (np.abs(np.diff(earlier[rows])) > 3 * _HOUR)]
    for group in np.split(rows, np.flatnonzero(new)[1:]):
        back = np.flatnonzero(np.diff(wall[group]) < 0)
        if back.size == 1:
            decided[group] = True
            second[group[back[0] + 1 :]] = True
    return second, decided
