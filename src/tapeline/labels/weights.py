"""Sample weights: labels that share bars share information, and count for less."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tapeline.core.errors import ConfigurationError, DataError


def average_uniqueness(first: NDArray[np.int64], last: NDArray[np.int64], rows: int) -> NDArray[np.float64]:
    """How much of each label's life it does not share with others, in (0, 1].

    Parameters
    ----------
    first, last:
        For each label the first and the last of the bars, both included, that decide it.
    rows:
        How many bars there are.

    Returns
    -------
    For each label the mean over its bars of 1 / (the number of labels alive there). A label alone has 1. O(labels +
    rows): the number alive is a cumulative sum of starts and ends, the mean a difference of cumulative sums.

    Raises
    ------
    DataError
        A label ends before it starts, or outside the bars.

    References
    ----------
    Lopez de Prado, Advances in Financial Machine Learning (2018), sections 4.3 and 4.4.

    Examples
    --------
    >>> average_uniqueness(np.array([0, 2, 4]), np.array([2, 3, 5]), 6).round(4)
    array([0.8333, 0.75  , 1.    ])
    """
    if first.size and (first.min() < 0 or last.max() >= rows or (last < first).any()):
        raise DataError(f"a label's bars must lie within 0 and {rows - 1}, the first not after the last")
    change = np.zeros(rows + 1, dtype=np.int64)
    np.add.at(change, first, 1)
    np.add.at(change, last + 1, -1)
    alive = np.cumsum(change)[:rows]
    share = np.zeros(rows)
    np.divide(1.0, alive, out=share, where=alive > 0)
    total = np.concatenate((np.zeros(1), np.cumsum(share)))
    return np.clip((total[last + 1] - total[first]) / (last - first + 1), 0.0, 1.0)


def time_decay(uniqueness: NDArray[np.float64], oldest: float) -> NDArray[np.float64]:
    """Factors that fall linearly with age, measured in accumulated uniqueness, from 1 for the newest label.

    ``oldest`` in [0, 1] is the factor that an oldest label would have; a negative one down to -1 leaves nothing of
    that share of the oldest labels; 1 means no decay. Labels are in order of time.

    References
    ----------
    Lopez de Prado (2018), section 4.7, snippet 4.11.

    Examples
    --------
    >>> time_decay(np.ones(4), 0.0)
    array([0.25, 0.5 , 0.75, 1.  ])
    >>> time_decay(np.ones(4), -0.5)
    array([0. , 0. , 0.5, 1. ])
    """
    if not -1 < oldest <= 1:
        raise ConfigurationError(f"time_decay: oldest = {oldest} is outside (-1, 1]")
    age = np.cumsum(uniqueness)
    if not age.size or age[-1] <= 0:
        return np.ones_like(age)
    slope = (1 - oldest) / age[-1] if oldest >= 0 else 1 / ((oldest + 1) * age[-1])
    return np.maximum(1 - slope * (age[-1] - age), 0.0)


def with_weights(labels: pd.DataFrame, bars: pd.DataFrame, *, oldest: float = 1.0) -> pd.DataFrame:
    """Add ``weight``: average uniqueness, times the time decay.

    A label's bars are those after the labelled one up to the one that decided it: the bars whose returns it is made
    of. Weights are for training only: a later label that overlaps an earlier one changes its weight.
    """
    closes = pd.DatetimeIndex(bars["close_ts"]).as_unit("ns").asi8
    first = bars.index.get_indexer(labels.index).astype(np.int64) + 1
    last = np.searchsorted(closes, pd.DatetimeIndex(labels["t_end"]).as_unit("ns").asi8).astype(np.int64)
    uniqueness = average_uniqueness(first, last, len(bars))
    return labels.assign(weight=uniqueness * time_decay(uniqueness, oldest))
