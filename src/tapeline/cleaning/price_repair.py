"""Price repair: bars quoted in the wrong unit, and splits applied to too many or too few rows.

Only steps by a factor that has a cause are repaired: a unit (100 pence to the pound) or the ratio of a known split.
A crash by any other factor is a crash. A repair is known when it is confirmed, and not before.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd

from tapeline.core.errors import ConfigurationError, DataError
from tapeline.core.schemas import PRICES

UNIT: Final = 100.0
"""Pence quoted as pounds, cents as dollars, and the reverse."""

LONGEST_RUN: Final = 5
"""For how many bars a price may stand in the wrong unit and be seen as such once it returns."""

SPLIT_REACH: Final = 20
"""A step belongs to a split when it stands at most so many bars from it."""

_BACKGROUND: Final = 50
_COLUMNS: Final = ("kind", "first", "last", "factor", "confirmed_at", "reason")


@dataclass(frozen=True)
class Repaired:
    """Bars after the repair, and what was done.

    Parameters
    ----------
    bars:
        Prices multiplied and volumes divided where a repair applies; ``repaired`` marks those rows.
    repairs:
        One row a repair: ``kind`` (``unit``, ``split_run``, ``split_step``), ``first`` and ``last`` row in time,
        ``factor`` of the prices, ``confirmed_at`` from when it is known, ``reason`` in words.
    """

    bars: pd.DataFrame
    repairs: pd.DataFrame


def repair_prices(
    bars: pd.DataFrame,
    *,
    splits: pd.Series | None = None,
    dividends: pd.Series | None = None,
    unit: float = UNIT,
    longest_run: int = LONGEST_RUN,
    as_of: pd.Timestamp | None = None,
) -> Repaired:
    """Find bars whose prices are off by a unit or by a split's ratio, and put them right.

    A step is the change from a close to the next bar's open or close, whichever is smaller. It counts as one by a
    factor where its logarithm lies nearer to the factor's than to 0 and no further from it than a third, or five times
    the usual change where that is more.

    ``unit``
        Prices leave by the factor ``unit`` (or 1 / ``unit``) and come back within ``longest_run`` bars: the bars
        between are divided by it. Confirmed by the bar that comes back.
    ``split_run``
        The same with the ratio of a split no further than 20 bars away.
    ``split_step``
        Near a split the prices step by its ratio and stay: a series adjusted for splits must not, so that the rows
        before the step were adjusted once too often or not at all. They are multiplied by the step. Confirmed when
        they have stayed for ``longest_run`` bars. The fall of a dividend on the same day is taken off first.

    Parameters
    ----------
    bars:
        Sorted, unique bars that their source has adjusted for splits. Rows without a finite close are passed over.
    splits:
        By row, the new shares for one old on its first day (2.0, or 0.1 for a reverse split), 0 elsewhere.
    dividends:
        By row, the amount paid on its first day without it, 0 elsewhere.
    unit:
        The factor between two units; 0 looks for none.
    as_of:
        Only repairs confirmed by then (a bar is known at the time of the next one); None for all.

    Raises
    ------
    ConfigurationError
        A unit between 0 and 2, or ``longest_run`` below 1.
    DataError
        A price column is missing, or the bars are not sorted and unique.

    Examples
    --------
    >>> ts = pd.date_range("2024-01-01", periods=6, tz="UTC", name="ts")
    >>> close = np.array([5.0, 5.1, 505.0, 5.0, 5.2, 5.1])
    >>> bars = pd.DataFrame({name: close for name in PRICES}, index=ts).assign(volume=100.0)
    >>> done = repair_prices(bars)
    >>> done.bars["close"].tolist(), done.repairs["confirmed_at"].tolist()
    ([5.0, 5.1, 5.05, 5.0, 5.2, 5.1], [Timestamp('2024-01-04 00:00:00+0000', tz='UTC')])
    """
    if not (unit == 0 or unit >= 2):
        raise ConfigurationError(f"unit = {unit} is no factor between two units", hint="100, or 0 for none")
    if longest_run < 1:
        raise ConfigurationError(f"longest_run = {longest_run} is below 1")
    absent = [name for name in PRICES if name not in bars.columns]
    if absent:
        raise DataError(f"the bars lack the columns {absent}")
    if (np.diff(pd.DatetimeIndex(bars.index).asi8) <= 0).any():
        raise DataError("the bars are not sorted and unique in time")
    prices = bars[list(PRICES)].to_numpy(dtype=np.float64)
    sound = np.flatnonzero((np.isfinite(prices) & (prices > 0)).all(axis=1))
    paid = np.zeros(len(bars)) if dividends is None else dividends.to_numpy(dtype=np.float64)
    factors = np.ones(len(bars))
    found: list[tuple[str, int, int, float, int, str]] = []
    if unit:
        taken: np.ndarray = np.zeros(len(bars), dtype=bool)
        _find_runs(bars, sound, paid, unit, longest_run, "unit", None, found, taken)
    for row, ratio in _split_rows(splits, len(bars)):
        taken = np.zeros(len(bars), dtype=bool)
        _find_runs(bars, sound, paid, ratio, longest_run, "split_run", row, found, taken)
        _find_step(bars, sound, paid, ratio, longest_run, row, found, taken)
    kept = [item for item in found if as_of is None or bars.index[item[4]] <= as_of]
    for _, first, last, factor, _, _ in kept:
        factors[first : last + 1] *= factor
    touched = factors != 1.0
    columns = {name: bars[name].where(~touched, bars[name] * factors) for name in PRICES}
    for name in ("adjusted_close", "spread"):
        if name in bars.columns:
            columns[name] = bars[name].where(~touched, bars[name] * factors)
    if "volume" in bars.columns:
        # A wrong unit of the price leaves the number of shares alone; a split changes both.
        shares = np.ones(len(bars))
        for kind, first, last, factor, _, _ in kept:
            if kind != "unit":
                shares[first : last + 1] *= factor
        columns["volume"] = bars["volume"].where(shares == 1.0, bars["volume"] / shares)
    earlier = bars["repaired"].to_numpy(dtype=bool) if "repaired" in bars.columns else np.zeros(len(bars), dtype=bool)
    return Repaired(bars.assign(**columns, repaired=touched | earlier), _table(bars, kept))


def _split_rows(splits: pd.Series | None, rows: int) -> list[tuple[int, float]]:
    if splits is None:
        return []
    if len(splits) != rows:
        raise DataError(f"there are {len(splits)} split cells for {rows} bars")
    values = splits.to_numpy(dtype=np.float64)
    # A ratio this near to 1 cannot be told from a change of the price.
    clear = (values > 0) & (np.abs(np.log(np.where(values > 0, values, 1.0))) > np.log(1.2))
    return [(int(row), float(values[row])) for row in np.flatnonzero(clear)]


def _steps(bars: pd.DataFrame, sound: np.ndarray, paid: np.ndarray) -> tuple[np.ndarray, float]:
    """The log change into each sound row, and the usual size of one."""
    opened, close = (np.log(bars[name].to_numpy(dtype=np.float64)[sound]) for name in ("open", "close"))
    base = close[:-1]
    before = np.exp(base)
    base = np.where(paid[sound][1:] < before, np.log(np.maximum(before - paid[sound][1:], before * 1e-3)), base)
    to_open, to_close = opened[1:] - base, close[1:] - base
    steps = np.where(np.abs(to_open) < np.abs(to_close), to_open, to_close)
    usual = 1.4826 * float(np.median(np.abs(steps))) if steps.size else 0.0
    return np.r_[0.0, steps], usual


def _sign(step: float, size: float, usual: float) -> int:
    """1 or -1 where a log step is one of this size, else 0."""
    off = abs(abs(step) - abs(size))
    near = off < 0.5 * abs(size) and off <= max(abs(size) / 3, 5 * usual)
    return (1 if step * size > 0 else -1) if near and abs(step) > 8 * usual else 0


def _find_runs(
    bars: pd.DataFrame,
    sound: np.ndarray,
    paid: np.ndarray,
    ratio: float,
    longest: int,
    kind: str,
    near: int | None,
    found: list[tuple[str, int, int, float, int, str]],
    taken: np.ndarray,
) -> None:
    size = float(np.log(ratio))
    steps, _ = _steps(bars, sound, paid)
    candidates = np.flatnonzero(np.abs(steps) > abs(size) / 2)
    at = 0
    for k in candidates.tolist():
        # The usual change is that of the bars before: a later turmoil must not change an earlier finding.
        usual = _usual(steps, k)
        sign = _sign(steps[k], size, usual)
        if k < at or not sign or (near is not None and abs(int(sound[k]) - near) > SPLIT_REACH):
            continue
        back = [j for j in range(k + 1, min(k + longest, len(steps) - 1) + 1) if _sign(steps[j], size, usual) == -sign]
        if not back:
            continue
        at = back[0] + 1
        first, last, confirmed = int(sound[k]), int(sound[back[0] - 1]), int(sound[back[0]])
        confirmed = confirmed if near is None else max(confirmed, near)  # the split must be known, too
        factor = ratio**-sign
        what = "the unit" if near is None else f"the split of {bars.index[near]:%Y-%m-%d}"
        found.append((kind, first, last, factor, confirmed, f"prices left by {1 / factor:g} and came back: {what}"))
        taken[k] = taken[back[0]] = True


def _find_step(
    bars: pd.DataFrame,
    sound: np.ndarray,
    paid: np.ndarray,
    ratio: float,
    longest: int,
    row: int,
    found: list[tuple[str, int, int, float, int, str]],
    taken: np.ndarray,
) -> None:
    size = float(np.log(ratio))
    steps, _ = _steps(bars, sound, paid)
    for k in range(1, len(steps)):
        if taken[k] or abs(int(sound[k]) - row) > SPLIT_REACH or k + longest >= len(steps):
            continue
        sign = _sign(steps[k], size, _usual(steps, k))
        if not sign:
            continue
        factor = ratio**sign
        reason = f"prices step by {factor:g} near the split of {bars.index[row]:%Y-%m-%d} and stay"
        found.append(("split_step", 0, int(sound[k]) - 1, factor, max(int(sound[k + longest]), row), reason))
        return


def _usual(steps: np.ndarray, k: int) -> float:
    past = steps[max(k - _BACKGROUND, 1) : k]
    return 1.4826 * float(np.median(np.abs(past))) if past.size >= 3 else 0.0


def _table(bars: pd.DataFrame, kept: list[tuple[str, int, int, float, int, str]]) -> pd.DataFrame:
    index = bars.index
    return pd.DataFrame(
        [
            (kind, index[first], index[last], factor, index[at], reason)
            for kind, first, last, factor, at, reason in kept
        ],
        columns=list(_COLUMNS),
    )
