"""The check of ticks and trades: what is refused, and what is only flagged.

A crossed quote (bid above ask) is real: in one broker's ticks one in ten is. It is flagged, never refused, and whoever
computes a spread reads the flag.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd

from tapeline.core.errors import ConfigurationError, SchemaError
from tapeline.quality.checks import Checked, Reason, numbers_of, stamps_of, times

PRICE_COLUMNS: Final = ("bid", "ask", "last", "price")
_SIZE_COLUMNS: Final = ("volume", "size")


class TickFlag(enum.IntFlag):
    """What is unusual about a tick that is nevertheless taken."""

    CROSSED = enum.auto()
    """The bid lies above the ask."""
    LOCKED = enum.auto()
    """The bid equals the ask."""
    ONE_SIDED = enum.auto()
    """Only one of bid and ask is quoted."""
    OUT_OF_ORDER = enum.auto()
    """An earlier tick of the feed is later in time."""
    AFTER_SILENCE = enum.auto()
    """The market traded for longer than the feed's bound without a tick."""


@dataclass(frozen=True)
class CheckedTicks(Checked):
    """The verdict on each tick by itself.

    Parameters
    ----------
    mask, n_unsorted:
        As in :class:`tapeline.quality.checks.Checked`.
    flags:
        One ``uint32`` of :class:`TickFlag` a row.
    stamps:
        Nanoseconds since the epoch, 0 where a row has no usable time.
    numbers:
        ``bid ask last volume flags`` as float64, NaN where absent: what makes two ticks equal.
    is_trade:
        Which rows carry a trade's price (``last`` or ``price``).
    """

    flags: np.ndarray
    stamps: np.ndarray
    numbers: np.ndarray
    is_trade: np.ndarray

    def flag_counts(self) -> dict[str, int]:
        """How many rows carry each flag; flags that were not found are left out."""
        return flag_counts(self.flags)


def check_ticks(ticks: pd.DataFrame, *, now: pd.Timestamp | None = None) -> CheckedTicks:
    """Judge every tick or trade by itself; duplicates are the feed's matter.

    Refused are: a missing time; a time after ``now``; a row without any price, or with an infinite one
    (``NOT_FINITE``); a negative price (``NOT_POSITIVE``); a negative or infinite volume. A price of 0 means 'not
    quoted', as in MetaTrader's ticks. Flagged are crossed, locked and one-sided quotes and, against the rows before
    in the same call, ticks out of order.

    Parameters
    ----------
    ticks:
        The time as index or column ``ts``; ``bid``, ``ask``, ``last`` and ``volume``, or a trade's ``price`` and
        ``size``; optionally ``flags``. At least one price column.

    Raises
    ------
    SchemaError
        There is no price column, or the times are not time-zone-aware.

    Examples
    --------
    >>> ts = pd.DatetimeIndex(["2014-05-01"] * 3, tz="UTC", name="ts")
    >>> checked = check_ticks(pd.DataFrame({"bid": [1.2, 1.2, -1.0], "ask": [1.1, 0.0, 1.1]}, index=ts))
    >>> checked.flag_counts(), checked.counts()
    ({'crossed': 1, 'one_sided': 1}, {'not_positive': 1})
    """
    if not any(name in ticks.columns for name in PRICE_COLUMNS):
        raise SchemaError(f"ticks have none of the columns {list(PRICE_COLUMNS)}", hint="bid and ask, last, or price")
    if not ticks.columns.is_unique:
        raise SchemaError("the ticks have a column twice", hint="rename or drop one of each")
    rows = len(ticks)
    bid, ask = _prices(ticks, "bid"), _prices(ticks, "ask")
    last = _prices(ticks, "price" if "price" in ticks.columns else "last")
    size = next((name for name in _SIZE_COLUMNS if name in ticks.columns), None)
    volume = numbers_of(ticks[size]) if size else np.full(rows, np.nan)
    marks = numbers_of(ticks["flags"]) if "flags" in ticks.columns else np.full(rows, np.nan)
    stamps, usable = stamps_of(times(ticks))

    mask = np.zeros(rows, dtype=np.uint32)
    prices = np.stack([bid, ask, last])
    _mark(mask, Reason.MISSING_TIME, ~usable)
    _mark(mask, Reason.NOT_FINITE, np.isnan(prices).all(axis=0) | np.isinf(prices).any(axis=0) | np.isinf(volume))
    _mark(mask, Reason.NOT_POSITIVE, ((prices < 0) & ~np.isinf(prices)).any(axis=0))
    _mark(mask, Reason.NEGATIVE_VOLUME, (volume < 0) & ~np.isinf(volume))
    if now is not None:
        if now.tz is None:
            raise ConfigurationError(f"now ({now}) has no time zone", hint="pass pd.Timestamp.now('UTC')")
        _mark(mask, Reason.FUTURE, usable & (stamps > now.as_unit("ns").value))

    flags = np.zeros(rows, dtype=np.uint32)
    fine = mask == 0
    _mark(flags, TickFlag.CROSSED, fine & (bid > ask))
    _mark(flags, TickFlag.LOCKED, fine & (bid == ask))
    if "bid" in ticks.columns and "ask" in ticks.columns:
        _mark(flags, TickFlag.ONE_SIDED, fine & (np.isnan(bid) != np.isnan(ask)))
    behind = _behind(stamps, fine)
    _mark(flags, TickFlag.OUT_OF_ORDER, behind)
    values = np.column_stack([bid, ask, last, volume, marks]).reshape(rows, 5)
    return CheckedTicks(mask, int(np.count_nonzero(behind)), flags, stamps, values, ~np.isnan(last))


def flag_counts(flags: np.ndarray) -> dict[str, int]:
    """How many rows carry each flag, by name; flags that were not found are left out."""
    found = {str(flag.name).lower(): int(np.count_nonzero(flags & np.uint32(flag))) for flag in TickFlag}
    return {name: count for name, count in found.items() if count}


def _prices(ticks: pd.DataFrame, name: str) -> np.ndarray:
    if name not in ticks.columns:
        return np.full(len(ticks), np.nan)
    found = numbers_of(ticks[name])
    return np.where(found == 0, np.nan, found)


def _behind(stamps: np.ndarray, fine: np.ndarray) -> np.ndarray:
    out = np.zeros(stamps.size, dtype=bool)
    held = stamps[fine]
    if held.size:
        out[fine] = held < np.maximum.accumulate(held)
    return out


def _mark(mask: np.ndarray, bit: int, where: np.ndarray) -> None:
    mask[where] |= np.uint32(bit)
