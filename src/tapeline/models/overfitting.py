"""How likely the best of many trials is the luckiest one, and how many different trials they really were."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import combinations
from typing import Final

import numpy as np
import numpy.typing as npt

from tapeline.core.errors import ConfigurationError, DataError

Array = npt.NDArray[np.float64]

MAXIMUM_BLOCKS: Final = 16
MINIMUM_BLOCK_ROWS: Final = 2
_CLUSTERED: Final = 200
_CELLS: Final = 4_000_000


@dataclass(frozen=True)
class Overfitting:
    """What combinatorially symmetric cross-validation says of choosing the best of some trials.

    Parameters
    ----------
    probability:
        Of backtest overfitting: the share of splits in which the trial that was best in sample is at or below the
        median out of sample. NaN where there are fewer than two trials or too few periods.
    probability_of_loss:
        The share of splits in which it loses out of sample.
    degradation:
        Slope of its Sharpe ratio out of sample on that in sample; 1 where the past repeats, below 0 where the better
        the past, the worse the future.
    logits:
        ``ln(w / (1 - w))`` of each split, w being the relative rank out of sample, in (0, 1).
    trials, periods, blocks:
        Columns and rows of the matrix, and into how many blocks the rows were cut.
    """

    probability: float
    probability_of_loss: float
    degradation: float
    logits: Array
    trials: int
    periods: int
    blocks: int

    @property
    def splits(self) -> int:
        """How many ways there are to take half of the blocks as in-sample."""
        return math.comb(self.blocks, self.blocks // 2) if self.blocks else 0


def probability_of_overfitting(returns: npt.ArrayLike, *, blocks: int = MAXIMUM_BLOCKS) -> Overfitting:
    """Probability of backtest overfitting by combinatorially symmetric cross-validation.

    The rows are cut into ``blocks`` blocks in time order. Every half of them is in-sample once, the other half out of
    sample: the trial with the greatest Sharpe ratio in sample is looked up out of sample (Bailey, Borwein, Lopez de
    Prado and Zhu 2017, "The probability of backtest overfitting", Journal of Computational Finance 20 (4), section 2).

    Parameters
    ----------
    returns:
        Shape (periods, trials): the return of each trial in each period, 0 where it held nothing.
    blocks:
        Even, at least 2. Where a block would have fewer than two rows, fewer blocks are made; where the rows do not
        divide, blocks differ by one row.

    Notes
    -----
    A trial that does not vary in a half has a Sharpe ratio of 0 there; equal ranks share their mean, and a relative
    rank of exactly one half counts as overfitted.

    Raises
    ------
    ConfigurationError
        ``blocks`` is odd or below 2.
    DataError
        A return is not a finite number.

    Examples
    --------
    A trial that is better in every period is best out of sample too:

    >>> generator = np.random.default_rng(0)
    >>> noise = generator.normal(0, 0.01, (320, 10))
    >>> noise[:, 3] += 0.01
    >>> found = probability_of_overfitting(noise)
    >>> found.probability, found.splits
    (0.0, 12870)
    """
    if blocks < 2 or blocks % 2:
        raise ConfigurationError(f"blocks = {blocks} is not an even number of 2 or more")
    matrix = np.asarray(returns, dtype=np.float64)
    if matrix.ndim != 2:
        raise DataError(f"returns of shape {matrix.shape} are not a matrix of periods and trials")
    if not np.isfinite(matrix).all():
        raise DataError("a return is not a finite number", hint="give 0 where a trial held nothing")
    periods, trials = matrix.shape
    blocks = min(blocks, periods // MINIMUM_BLOCK_ROWS // 2 * 2)
    if trials < 2 or blocks < 2:
        return Overfitting(math.nan, math.nan, math.nan, np.empty(0), trials, periods, 0)
    edges = np.linspace(0, periods, blocks + 1).round().astype(np.intp)
    counts = np.diff(edges).astype(np.float64)
    sums = np.add.reduceat(matrix, edges[:-1], axis=0)
    squares = np.add.reduceat(matrix**2, edges[:-1], axis=0)
    halves = np.zeros((math.comb(blocks, blocks // 2), blocks))
    for row, chosen in enumerate(combinations(range(blocks), blocks // 2)):
        halves[row, list(chosen)] = 1.0
    inside, outside, rank = (np.empty(len(halves)) for _ in range(3))
    step = max(1, _CELLS // trials)
    for first in range(0, len(halves), step):
        part = slice(first, first + step)
        half = halves[part]
        seen = _sharpe(half, sums, squares, counts)
        unseen = _sharpe(1.0 - half, sums, squares, counts)
        best = seen.argmax(axis=1)
        place = np.arange(len(best))
        inside[part], outside[part] = seen[place, best], unseen[place, best]
        own = outside[part][:, None]
        rank[part] = (unseen < own).sum(axis=1) + ((unseen == own).sum(axis=1) + 1) / 2
    logits = np.log(rank / (trials + 1 - rank))
    spread = inside - inside.mean()
    slope = float(spread @ outside / (spread @ spread)) if spread.any() else math.nan
    return Overfitting(float((logits <= 0).mean()), float((outside < 0).mean()), slope, logits, trials, periods, blocks)


def effective_trials(returns: npt.ArrayLike) -> float:
    """How many independent trials some correlated ones amount to: ``r + (1 - r) * trials``, r the mean correlation.

    Bailey and Lopez de Prado 2014, "The Deflated Sharpe Ratio", appendix 3. A trial whose returns do not vary
    correlates with nothing; a negative mean correlation counts as none.

    Parameters
    ----------
    returns:
        Shape (periods, trials).

    Examples
    --------
    >>> same = np.tile([[0.01], [-0.02], [0.005]], (1, 4))
    >>> round(effective_trials(same), 6)
    1.0
    """
    correlation = _correlation(np.asarray(returns, dtype=np.float64))
    trials = len(correlation)
    if trials < 2:
        return float(trials)
    mean = (correlation.sum() - trials) / (trials * (trials - 1))
    mean = min(max(mean, 0.0), 1.0)
    return float(mean + (1 - mean) * trials)


def clusters_of_trials(returns: npt.ArrayLike) -> int | None:
    """How many groups of like trials there are, by correlation; None for more than 200 trials, where it takes long.

    Lopez de Prado and Lewis 2019, "Detection of false investment strategies using unsupervised learning methods",
    Quantitative Finance 19 (9): trials of one group are variations of one strategy.

    Examples
    --------
    >>> generator = np.random.default_rng(1)
    >>> source = generator.normal(size=(200, 3))
    >>> clusters_of_trials(np.repeat(source, 4, axis=1) + 0.1 * generator.normal(size=(200, 12)))
    3
    """
    from tapeline.features.association import natural_clusters

    correlation = _correlation(np.asarray(returns, dtype=np.float64))
    if len(correlation) > _CLUSTERED:
        return None
    return int(natural_clusters(correlation).max()) + 1 if len(correlation) else 0


def _sharpe(half: Array, sums: Array, squares: Array, counts: Array) -> Array:
    """Sharpe ratio of one period, of each trial in each half: shape (halves, trials)."""
    rows = (half @ counts)[:, None]
    mean = half @ sums / rows
    second = half @ squares / rows
    variance = (second - mean**2) * rows / (rows - 1)
    # Sums of squares leave rounding where a trial does not vary at all.
    flat = variance <= 1e-12 * second
    return np.where(flat, 0.0, mean / np.sqrt(np.where(flat, 1.0, variance)))


def _correlation(matrix: Array) -> Array:
    if matrix.ndim != 2:
        raise DataError(f"returns of shape {matrix.shape} are not a matrix of periods and trials")
    centred = matrix - matrix.mean(axis=0)
    norm = np.sqrt((centred**2).sum(axis=0))
    scaled = np.divide(centred, norm, out=np.zeros_like(centred), where=norm > 1e-12)
    correlation = np.clip(scaled.T @ scaled, -1.0, 1.0)
    np.fill_diagonal(correlation, 1.0)
    return correlation
