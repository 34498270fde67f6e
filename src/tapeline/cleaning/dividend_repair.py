"""Dividend repair: amounts in the wrong unit, dividends told twice, and adjusted closes that do not fit them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd

from tapeline.core.errors import DataError

TWIN_DAYS: Final = 17
"""Two like dividends so near to each other are one that was told twice: no company pays that often."""

IMPLAUSIBLE_YIELD: Final = 0.10
"""From this share of the price on, a single dividend must show in the price to be believed."""

UNIT: Final = 100.0

_AGREES: Final = 0.03
_COLUMNS: Final = ("kind", "ts", "served", "amount", "step_served", "step", "confirmed_at", "reason")


@dataclass(frozen=True)
class RepairedDividends:
    """The table after the repair, and what was done.

    Parameters
    ----------
    frame:
        ``dividends`` and ``adjusted_close`` put right; ``repaired`` marks rows where either changed.
    repairs:
        One row a dividend: ``kind``, its day, the amount ``served`` and the ``amount`` it is taken for, the step of
        the adjusted close across its day as served and as it should be, from when it is known, and why.
    """

    frame: pd.DataFrame
    repairs: pd.DataFrame


def repair_dividends(frame: pd.DataFrame, *, as_of: pd.Timestamp | None = None) -> RepairedDividends:
    """Hold each dividend against the price and against the adjusted close, and repair the one that does not fit.

    Before the day of a dividend ``D`` the adjusted close is ``1 - D / P`` times what it is after, ``P`` the close
    before. Where it is not, and for dividends that are large for the price, the fall of the price decides:

    ``told_twice``
        Another dividend of the same or the hundredfold amount within 17 days fits its day's fall better: this one is
        removed with its step.
    ``wrong_unit``
        The amount is a hundredfold of what the price, or the price and the step, say: it is divided.
    ``split_unit``
        The step was made from the amount divided by the ratio of a split on that day: the amount is divided as well.
    ``not_adjusted``
        No step: it is put in.
    ``wrong_step``
        The step was made from a hundredth of the amount, or from more than it, and the fall says that the amount is
        right: the step is put right.

    Parameters
    ----------
    frame:
        Sorted rows with ``close``, ``adjusted_close``, ``dividends`` and optionally ``splits``.
    as_of:
        Only dividends whose day's row was there by then; None for all. A repair is known with the row of the
        dividend's own day, ``told_twice`` with that of the later twin.

    Raises
    ------
    DataError
        A column is missing or the rows are not sorted and unique.

    References
    ----------
    The cases are those of yfinance's price repair (its wiki page "Price repair"); the method is our own.

    Examples
    --------
    >>> ts = pd.date_range("2024-03-04", periods=3, tz="UTC", name="ts")
    >>> frame = pd.DataFrame({"close": [20.0, 19.0, 19.0], "adjusted_close": [20.0, 19.0, 19.0],
    ...                       "dividends": [0.0, 1.0, 0.0]}, index=ts)
    >>> done = repair_dividends(frame)
    >>> done.frame["adjusted_close"].tolist(), done.repairs["kind"].tolist()
    ([19.0, 19.0, 19.0], ['not_adjusted'])
    """
    absent = [name for name in ("close", "adjusted_close", "dividends") if name not in frame.columns]
    if absent:
        raise DataError(f"the table lacks the columns {absent}")
    if (np.diff(pd.DatetimeIndex(frame.index).asi8) <= 0).any():
        raise DataError("the rows are not sorted and unique in time")
    close, adjusted, paid = (
        frame[name].to_numpy(dtype=np.float64).copy() for name in ("close", "adjusted_close", "dividends")
    )
    splits = frame["splits"].to_numpy(dtype=np.float64) if "splits" in frame.columns else np.zeros(len(frame))
    days = [_Day(row, close, adjusted, paid, splits) for row in np.flatnonzero(paid > 0).tolist()]
    days = [day for day in days if day.usable and (as_of is None or frame.index[day.row] <= as_of)]
    twins = _twins(days, frame.index)
    rows = []
    for day in days:
        verdict = ("told_twice", 0.0, 1.0, twins[day.row][1]) if day.row in twins else _judge(day)
        if verdict is None:
            continue
        kind, amount, step, reason = verdict
        adjusted[: day.row] *= step / day.step
        paid[day.row] = amount
        known = twins[day.row][0] if day.row in twins else day.row
        index = frame.index
        rows.append((kind, index[day.row], day.amount, amount, day.step, step, index[max(known, day.row)], reason))
    before = frame["adjusted_close"].to_numpy(dtype=np.float64)
    changed = (paid != frame["dividends"].to_numpy()) | (np.abs(adjusted - before) > 1e-9 * np.abs(before))
    earlier = (
        frame["repaired"].to_numpy(dtype=bool) if "repaired" in frame.columns else np.zeros(len(frame), dtype=bool)
    )
    out = frame.assign(adjusted_close=adjusted, dividends=paid, repaired=changed | earlier)
    return RepairedDividends(out, pd.DataFrame(rows, columns=list(_COLUMNS)))


class _Day:
    """One dividend's day: the price before, its fall, and the step of the adjusted close across it."""

    def __init__(self, row: int, close: np.ndarray, adjusted: np.ndarray, paid: np.ndarray, splits: np.ndarray) -> None:
        sound = np.isfinite(close) & np.isfinite(adjusted) & (close > 0) & (adjusted > 0)
        before, after = np.flatnonzero(sound[:row]), row + np.flatnonzero(sound[row:])
        self.row = row
        self.amount = float(paid[row])
        self.usable = before.size > 0 and after.size > 0
        self.split = float(splits[row])
        if not self.usable:
            return
        last, first = int(before[-1]), int(after[0])
        self.price = float(close[last])
        self.fall = self.price - float(close[first])
        self.step = float(adjusted[last] / close[last] / (adjusted[first] / close[first]))
        self.implied = (1 - self.step) * self.price
        past = close[before[-61:]]
        self.noise = float(np.std(np.diff(past))) if past.size > 10 else 0.01 * self.price

    def misfit(self, amount: float) -> float:
        """How far the price's fall is from an amount."""
        return abs(self.fall - amount)


_Verdict = tuple[str, float, float, str]


def _judge(day: _Day) -> _Verdict | None:
    amount, price, implied = day.amount, day.price, day.implied
    right_step = 1 - amount / price

    def near(one: float, other: float) -> bool:
        return abs(one - other) <= _AGREES * max(abs(other), 1e-12)

    if near(implied, amount):
        large = amount / price > IMPLAUSIBLE_YIELD
        if large and day.misfit(amount) > day.misfit(amount / UNIT) + 2 * day.noise:
            small = amount / UNIT
            return "wrong_unit", small, 1 - small / price, f"a fall of {day.fall:.4g} does not show {amount:g}"
        return None
    if day.split > 0 and day.split != 1 and near(implied, amount / day.split):
        return "split_unit", amount / day.split, day.step, f"the step is that of {amount:g} / {day.split:g}"
    if near(implied, amount / UNIT):
        # One of the two is off by a hundred: a small dividend is believed, a large one must show in the price.
        if amount / price > IMPLAUSIBLE_YIELD and day.misfit(amount) > day.misfit(amount / UNIT):
            return "wrong_unit", amount / UNIT, day.step, f"the step and a fall of {day.fall:.4g} say a hundredth"
        if amount < price:
            return "wrong_step", amount, right_step, "the step was made from a hundredth of the amount"
        return None
    if amount < price and abs(implied) < 0.02 * amount:
        return "not_adjusted", amount, right_step, "the adjusted close does not step"
    if amount < price and implied > 1.2 * amount and day.misfit(amount) < day.misfit(implied):
        return "wrong_step", amount, right_step, f"the step is that of {implied:.4g}, more than was paid"
    return None


def _twins(days: list[_Day], index: pd.Index) -> dict[int, tuple[int, str]]:
    """The dividends told twice: by row, the later twin's row and a reason."""
    out: dict[int, tuple[int, str]] = {}
    for k, one in enumerate(days):
        for other in days[k + 1 :]:
            if index[other.row] - index[one.row] > pd.Timedelta(days=TWIN_DAYS):
                break
            ratio = max(one.amount, other.amount) / min(one.amount, other.amount)
            if not (ratio < 1.25 or 0.8 < ratio / UNIT < 1.25):
                continue
            worse, better = (one, other) if one.misfit(one.amount) > other.misfit(other.amount) else (other, one)
            reason = f"that of {index[better.row]:%Y-%m-%d} fits the price better"
            out[worse.row] = (max(one.row, other.row), reason)
    return out
