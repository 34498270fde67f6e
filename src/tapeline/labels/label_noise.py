"""Label noise: labels that a model's own out-of-sample probabilities, or a bar's nearest neighbours, do not believe."""

from __future__ import annotations

from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from tapeline.core.errors import ConfigurationError, DataError, MissingExtraError

MOST_NEIGHBOURS: Final = 1000


def confident_learning(classes: ArrayLike, probabilities: ArrayLike, *, index: pd.Index | None = None) -> pd.DataFrame:
    """Which labels are likely wrong, by confident learning.

    A class's threshold is the mean probability that the model gives it where it is the label; a label is in doubt
    where another class passes its own threshold, and as many are pruned as the joint distribution so estimated says.

    Parameters
    ----------
    classes:
        Class codes 0, 1, ..., each of which occurs.
    probabilities:
        Rows x classes, from models that did not see the row: of purged folds, because a model that saw an overlapping
        label has seen this one.
    index:
        The rows' times.

    Returns
    -------
    A row a label: ``given`` its class, ``suggested`` the most probable one, ``quality`` the probability of the given
    class (self-confidence; low is doubtful), ``noisy`` whether it is likely wrong.

    Raises
    ------
    DataError
        The shapes do not fit, a probability is missing or outside 0 and 1, rows do not sum to 1, or a class is absent.
    MissingExtraError
        cleanlab is not installed.

    References
    ----------
    Northcutt, Jiang and Chuang, Journal of Artificial Intelligence Research 70 (2021).
    """
    given, chances = _checked(classes, probabilities)
    try:
        from cleanlab.filter import find_label_issues
        from cleanlab.rank import get_label_quality_scores
    except ImportError:
        raise MissingExtraError("cleanlab", "label-noise") from None
    # One process: the default of one a core costs more to start than these counts take.
    noisy = find_label_issues(given, chances, filter_by="prune_by_noise_rate", n_jobs=1)
    return pd.DataFrame(
        {
            "given": given,
            "suggested": chances.argmax(axis=1),
            "quality": get_label_quality_scores(given, chances, method="self_confidence"),
            "noisy": noisy,
        },
        index=index,
    )


def noise_joint(classes: ArrayLike, probabilities: ArrayLike) -> pd.DataFrame:
    """The estimated joint distribution of given and true class: what lies off the diagonal is noise.

    Raises
    ------
    DataError, MissingExtraError
        As :func:`confident_learning`.
    """
    given, chances = _checked(classes, probabilities)
    try:
        from cleanlab.count import estimate_joint
    except ImportError:
        raise MissingExtraError("cleanlab", "label-noise") from None
    joint = pd.DataFrame(estimate_joint(given, chances))
    return joint.rename_axis(index="given", columns="true")


def neighbour_disagreement(
    features: pd.DataFrame, labels: pd.DataFrame, *, neighbours: int = 10, value: str = "value"
) -> pd.DataFrame:
    """How many of a bar's nearest neighbours in the features have another label.

    A neighbour whose label shares time with the bar's own is no witness: it agrees because it is made of the same bars.
    Such neighbours are passed over and the next nearest are asked. Features are centred at their median and divided by
    their interquartile range, over all rows: this is a judgement of labels after the fact, not a feature.

    Parameters
    ----------
    features, labels:
        On ``ts``; rows that both have, without NaN, are judged. Labels carry ``value`` and ``t_end``.
    neighbours:
        How many witnesses a bar has, fewer where no more are without overlap.

    Returns
    -------
    A row a bar: ``disagreement`` the share of witnesses with another value (NaN without any), ``suggested`` the value
    most of them have (the least of several), ``witnesses`` how many were asked.

    Raises
    ------
    ConfigurationError
        ``neighbours`` is outside 1 and 1000.
    DataError
        Fewer than two rows remain, or a feature is infinite.

    References
    ----------
    Wilson, IEEE Transactions on Systems, Man and Cybernetics 2 (1972): edited nearest neighbours.

    Examples
    --------
    >>> ts = pd.date_range("2017-01-02", periods=6, freq="1D", tz="UTC", name="ts")
    >>> labels = pd.DataFrame({"value": [0, 0, 1, 1, 1, 1], "t_end": ts + pd.Timedelta("1h")}, index=ts)
    >>> features = pd.DataFrame({"x": [0.0, 0.1, 0.2, 9.0, 9.1, 9.2]}, index=ts)
    >>> neighbour_disagreement(features, labels, neighbours=2)["disagreement"].tolist()
    [0.5, 0.5, 1.0, 0.0, 0.0, 0.0]
    """
    if not 1 <= neighbours <= MOST_NEIGHBOURS:
        raise ConfigurationError(f"neighbours = {neighbours} is outside 1 and {MOST_NEIGHBOURS}")
    numbers = features.dropna()
    shared = numbers.index.intersection(labels[value].dropna().index)
    if len(shared) < 2:
        raise DataError(f"{len(shared)} rows have both features and a label", hint="give at least two")
    points = numbers.loc[shared].to_numpy(dtype=np.float64)
    if np.isinf(points).any():
        raise DataError("a feature is infinite")
    quartiles = np.quantile(points, [0.25, 0.5, 0.75], axis=0)
    width = quartiles[2] - quartiles[0]
    points = (points - quartiles[1]) / np.where(width > 0, width, 1.0)
    given = labels.loc[shared, value].to_numpy(dtype=np.float64)
    start = pd.DatetimeIndex(shared).as_unit("ns").asi8
    end = pd.DatetimeIndex(labels.loc[shared, "t_end"]).as_unit("ns").asi8
    found = _witnesses(points, start, end, neighbours)
    asked = (found >= 0).sum(axis=1)
    said = np.where(found >= 0, given[found], np.nan)
    other = ((said != given[:, None]) & (found >= 0)).sum(axis=1)
    share = np.full(given.size, np.nan)
    np.divide(other, asked, out=share, where=asked > 0)
    values = np.unique(given)
    votes = np.stack([(said == one).sum(axis=1) for one in values], axis=1)
    suggested = np.where(asked > 0, values[votes.argmax(axis=1)], np.nan)
    return pd.DataFrame({"disagreement": share, "suggested": suggested, "witnesses": asked}, index=shared)


def _witnesses(
    points: NDArray[np.float64], start: NDArray[np.int64], end: NDArray[np.int64], neighbours: int
) -> NDArray[np.int64]:
    """The rows of the nearest neighbours without overlap, -1 where there are no more; asks for more until there are."""
    from scipy.spatial import cKDTree

    rows = len(points)
    tree = cKDTree(points)
    result = np.full((rows, neighbours), -1, dtype=np.int64)
    waiting = np.arange(rows)
    count = min(4 * neighbours + 1, rows)
    while waiting.size:
        near = tree.query(points[waiting], k=count)[1].reshape(waiting.size, -1)
        fair = (start[near] > end[waiting][:, None]) | (end[near] < start[waiting][:, None])
        rank = np.cumsum(fair, axis=1)
        taken = fair & (rank <= neighbours)
        line, column = np.nonzero(taken)
        result[waiting[line], rank[line, column] - 1] = near[line, column]
        if count == rows:
            break
        waiting = waiting[rank[:, -1] < neighbours]
        count = min(4 * count, rows)
    return result


def _checked(classes: ArrayLike, probabilities: ArrayLike) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    given, chances = np.asarray(classes, dtype=np.float64), np.asarray(probabilities, dtype=np.float64)
    if chances.ndim != 2 or given.shape != (len(chances),) or chances.shape[1] < 2:
        raise DataError(f"{given.shape} classes for probabilities of shape {chances.shape}")
    if not ((chances >= 0) & (chances <= 1)).all() or not np.allclose(chances.sum(axis=1), 1.0, atol=1e-6):
        raise DataError("a probability is missing, outside 0 and 1, or a row of them does not sum to 1")
    expected = np.arange(chances.shape[1])
    if not np.array_equal(np.unique(given), expected):
        raise DataError(f"the classes are not {expected.tolist()}, each at least once", hint="encode them first")
    return given.astype(np.int64), chances
