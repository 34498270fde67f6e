"""How far a window would lie from its reference if nothing had changed: distances of windows made of the reference.

Bars are not independent of each other, and neither are features over rolling windows: a limit for independent rows
would raise an alarm nearly every time. So windows are put together from whole blocks of consecutive reference rows
(H. R. Künsch, Annals of Statistics 17, 1989; circular as by D. N. Politis and J. P. Romano, 1992), which keeps the
dependence within a block, and the same rows are drawn of every column, which keeps the dependence between columns.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numba import njit
from numpy.typing import NDArray

from tapeline.core.errors import ConfigurationError

Floats = NDArray[np.float64]

CORRELATED: Final = 0.1
"""An autocorrelation below this ends the dependence of a column."""
TIMES_REACH: Final = 4
"""A block of one reach cuts most of the dependence at its ends; false alarms fall until about four."""
LONGEST_SHARE: Final = 0.1
"""Blocks are no longer than this share of the reference: fewer than ten different ones would say nothing."""


def block_length(columns: Floats, window: int) -> int:
    """How long a block must be to carry the dependence of the column that depends longest on itself.

    Parameters
    ----------
    columns:
        The reference, one column each, NaN where absent.
    window:
        Rows of the window that will be judged: no block is longer.

    Returns
    -------
    The first lag at which the autocorrelation of the values, and that of their distance from the median, is below 0.1,
    four times; at least the cube root of the rows, at most the window and a tenth of the reference.

    Examples
    --------
    >>> steps = np.random.default_rng(0).normal(size=(4000, 1))
    >>> block_length(steps, 500), block_length(np.convolve(steps[:, 0], np.ones(50))[:, None], 500) > 60
    (16, True)
    """
    rows = len(columns)
    longest = max(1, min(window, int(rows * LONGEST_SHARE)))
    needed = int(np.ceil(rows ** (1 / 3)))
    for column in columns.T:
        held = np.isfinite(column)
        if held.sum() < 3:
            continue
        middle = np.median(column[held])
        for values in (column, np.abs(column - middle)):
            centred = np.where(held, values - np.mean(values[held]), 0.0)
            needed = max(needed, TIMES_REACH * _reach(centred, longest))
    return min(needed, longest)


def draw_rows(rows: int, window: int, block: int, repeats: int, seed: int) -> NDArray[np.int64]:
    """Which rows of the reference make up each window: circular blocks from random starts, one window a line.

    Examples
    --------
    >>> draw_rows(10, 4, 2, 1, seed=1).shape
    (1, 4)
    """
    if not 1 <= block <= rows or window < 1 or repeats < 1:
        raise ConfigurationError(
            f"windows of {window} rows in blocks of {block} cannot be drawn {repeats} times from {rows} rows",
            hint="a block must be no longer than the reference",
        )
    generator = np.random.default_rng(seed)
    starts = generator.integers(0, rows, (repeats, -(-window // block), 1))
    return np.asarray(((starts + np.arange(block)) % rows).reshape(repeats, -1)[:, :window], dtype=np.int64)


@njit(cache=True)
def resampled_distances(
    drawn: np.ndarray, ranks: np.ndarray, cells: np.ndarray, below: np.ndarray, bins: np.ndarray, reference: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Kolmogorov-Smirnov, Wasserstein, absent share and bin counts of each drawn window of one column.

    Parameters
    ----------
    drawn:
        Rows of each window.
    ranks, cells, below:
        Of each row the place of its value among the distinct reference values, -1 where absent; these values; and
        how many reference values are no larger than each.
    bins, reference:
        Of each row the bin of its value, -1 where absent; the counts of the reference.
    """
    repeats, window = drawn.shape
    largest, area, absent = np.zeros(repeats), np.zeros(repeats), np.zeros(repeats)
    counts = np.zeros((repeats, reference.size))
    held = np.zeros(cells.size, dtype=np.int64)
    total = below[-1] if below.size else 0
    for r in range(repeats):
        held[:] = 0
        present = 0
        for k in range(window):
            rank = ranks[drawn[r, k]]
            if rank >= 0:
                present += 1
                held[rank] += 1
                counts[r, bins[drawn[r, k]]] += 1.0
        absent[r] = 1.0 - present / window
        if present == 0:
            largest[r] = area[r] = np.nan
            continue
        seen = 0
        for k in range(cells.size):
            seen += held[k]
            apart = abs(seen / present - below[k] / total)
            largest[r] = max(largest[r], apart)
            if k + 1 < cells.size:
                area[r] += apart * (cells[k + 1] - cells[k])
    return largest, area, absent, counts


@njit(cache=True)
def resampled_discrepancies(drawn: np.ndarray, prefix: np.ndarray, present: np.ndarray, block: int) -> np.ndarray:
    """The squared mean discrepancy of each drawn window to the reference, from running sums of the kernel's map.

    ``prefix`` holds, before each row of the reference repeated twice, the sum of the map less its mean over all rows
    before; ``present`` the same of rows that have a value.
    """
    repeats, window = drawn.shape
    out = np.zeros(repeats)
    for r in range(repeats):
        sums = np.zeros(prefix.shape[1])
        count = 0
        k = 0
        while k < window:
            start = drawn[r, k]
            end = start + min(block, window - k)
            sums += prefix[end] - prefix[start]
            count += present[end] - present[start]
            k += block
        out[r] = np.sum((sums / count) ** 2) if count else np.nan
    return out


@njit(cache=True)
def _reach(centred: np.ndarray, longest: int) -> int:
    variance = np.sum(centred * centred)
    if variance <= 0:
        return 1
    for lag in range(1, longest):
        if np.sum(centred[lag:] * centred[: centred.size - lag]) / variance < CORRELATED:
            return lag
    return longest
