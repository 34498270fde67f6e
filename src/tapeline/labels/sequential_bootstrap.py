"""The sequential bootstrap: draws of labels in which those that share bars with earlier draws become less likely."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numba import njit
from numpy.typing import NDArray

from tapeline.core.errors import ConfigurationError, DataError

Rows = NDArray[np.int64]


def label_spans(labels: pd.DataFrame, bars: pd.DataFrame) -> tuple[Rows, Rows]:
    """For each label the first and the last row, both included, of the bars that decide it.

    Raises
    ------
    DataError
        A label is on none of the bars, ends beyond them, or has no ``t_end``.

    Examples
    --------
    >>> ts = pd.date_range("2017-01-02", periods=3, freq="1h", tz="UTC", name="ts")
    >>> bars = pd.DataFrame({"close_ts": ts + pd.Timedelta("1h")}, index=ts)
    >>> first, last = label_spans(pd.DataFrame({"t_end": ts[2:] + pd.Timedelta("1h")}, index=ts[:1]), bars)
    >>> first.tolist(), last.tolist()
    ([1], [2])
    """
    place = bars.index.get_indexer(labels.index).astype(np.int64)
    if (place < 0).any():
        raise DataError(f"the label of {labels.index[place < 0][0]} is on none of the bars")
    if labels["t_end"].isna().any():
        raise DataError("a label has no t_end")
    closes = pd.DatetimeIndex(bars["close_ts"]).as_unit("ns").asi8
    last = np.searchsorted(closes, pd.DatetimeIndex(labels["t_end"]).as_unit("ns").asi8).astype(np.int64)
    if (last >= len(bars)).any():
        raise DataError(f"a label ends after the last of the bars, {bars['close_ts'].iloc[-1]}")
    # A label that is decided at its own bar's close lives in that bar.
    return np.minimum(place + 1, last), last


def sequential_bootstrap(first: Rows, last: Rows, rows: int, *, draws: int | None = None, seed: int = 0) -> Rows:
    """Draw labels with replacement, each with a chance in proportion to its uniqueness among those drawn before.

    Parameters
    ----------
    first, last:
        For each label the first and the last of the bars, both included, that decide it.
    rows:
        How many bars there are.
    draws:
        How many; as many as there are labels where absent.
    seed:
        The same seed draws the same.

    Returns
    -------
    The positions of the labels drawn, in the order of drawing. O(draws * (labels + rows)).

    Raises
    ------
    ConfigurationError
        ``draws`` is below 1.
    DataError
        There is no label, or one ends before it starts, or lies outside the bars.

    References
    ----------
    Lopez de Prado, Advances in Financial Machine Learning (2018), section 4.5.

    Examples
    --------
    >>> drawn = sequential_bootstrap(np.array([0, 2, 4]), np.array([2, 3, 5]), 6, draws=1000)
    >>> np.bincount(drawn).tolist()[2] > np.bincount(drawn).tolist()[1]
    True
    """
    count = first.size if draws is None else draws
    if count < 1:
        raise ConfigurationError(f"draws = {count} is below 1")
    _check(first, last, rows)
    return _drawn(first, last, rows, np.random.default_rng(seed).random(count))


def draw_chances(first: Rows, last: Rows, rows: int, drawn: Rows) -> NDArray[np.float64]:
    """The chance of each label to be drawn next, given those drawn.

    Examples
    --------
    >>> draw_chances(np.array([0, 2, 4]), np.array([2, 3, 5]), 6, np.array([1])).round(4)
    array([0.3571, 0.2143, 0.4286])
    """
    _check(first, last, rows)
    alive = np.zeros(rows)
    for label in drawn:
        alive[first[label] : last[label] + 1] += 1.0
    sums = _uniqueness_beside(alive, first, last)
    return sums / sums.sum()


def _check(first: Rows, last: Rows, rows: int) -> None:
    if not first.size:
        raise DataError("there is no label to draw")
    if first.size != last.size or first.min() < 0 or last.max() >= rows or (last < first).any():
        raise DataError(f"a label's bars must lie within 0 and {rows - 1}, the first not after the last")


@njit(cache=True, nogil=True)
def _uniqueness_beside(alive: NDArray[np.float64], first: Rows, last: Rows) -> NDArray[np.float64]:
    """Each label's average uniqueness were it drawn beside what is alive: differences of one cumulative sum."""
    total = np.zeros(alive.size + 1)
    for i in range(alive.size):
        total[i + 1] = total[i] + 1.0 / (alive[i] + 1.0)
    result = np.empty(first.size)
    for k in range(first.size):
        result[k] = (total[last[k] + 1] - total[first[k]]) / (last[k] - first[k] + 1)
    return result


@njit(cache=True, nogil=True)
def _drawn(first: Rows, last: Rows, rows: int, chances: NDArray[np.float64]) -> Rows:
    alive = np.zeros(rows)
    drawn = np.empty(chances.size, dtype=np.int64)
    for i in range(chances.size):
        cumulative = np.cumsum(_uniqueness_beside(alive, first, last))
        chosen = np.searchsorted(cumulative, chances[i] * cumulative[-1], side="right")
        drawn[i] = min(chosen, first.size - 1)
        for j in range(first[drawn[i]], last[drawn[i]] + 1):
            alive[j] += 1.0
    return drawn
