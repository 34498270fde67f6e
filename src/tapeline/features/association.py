"""How far columns say the same: Pearson, Spearman and mutual information of all pairs, their clusters, and the pruning.

Mutual information is that of equal-mass bins, less the bias of its estimate (Miller 1955; Panzeri and Treves 1996), and
is told as the correlation that a bivariate normal pair of that information has (Linfoot 1957, Information and Control
1, p. 85), so that one threshold serves all three measures.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, get_args

import numpy as np
import pandas as pd
from numba import njit
from numpy.typing import NDArray

from tapeline.core.errors import ConfigurationError, DataError
from tapeline.features.arrays import Floats

Method = Literal["pearson", "spearman", "mutual_information"]
METHODS: Final[tuple[str, ...]] = get_args(Method)
BINS: Final = 12
MISSING: Final = 255

Codes = NDArray[np.uint8]


def equal_mass_codes(X: NDArray[np.floating], bins: int = BINS) -> Codes:  # noqa: N803 - scikit-learn's name
    """The bin of each value, about equally many values a bin, equal values together; ``MISSING`` for NaN.

    Returns
    -------
    Shape (columns, rows), each column contiguous.

    Examples
    --------
    >>> equal_mass_codes(np.array([[1.0], [2.0], [np.nan], [9.0]]), 3).tolist()
    [[0, 1, 255, 2]]
    """
    if not 2 <= bins <= 64:
        raise ConfigurationError(f"bins = {bins} is not in [2, 64]")
    rows, width = X.shape
    codes = np.full((width, rows), MISSING, dtype=np.uint8)
    for position in range(width):
        column = np.ascontiguousarray(X[:, position], dtype=np.float64)
        known = ~np.isnan(column)
        values = column[known]
        if values.size:
            edges = np.unique(np.quantile(values, np.arange(1, bins) / bins))
            # Only edges below the largest value part anything.
            codes[position, known] = np.searchsorted(edges[edges < values.max()], values, side="left")
    return codes


def association_matrix(
    X: NDArray[np.floating],  # noqa: N803
    method: Method = "spearman",
    *,
    bins: int = BINS,
) -> Floats:
    """The association of every pair of columns, from 0 to 1 for mutual information, else from -1 to 1.

    Parameters
    ----------
    X:
        Shape (rows, columns); a pair is measured on the rows where both are known. Ranks are taken among all known
        values of a column.
    method:
        ``pearson``, ``spearman``, or ``mutual_information`` as the correlation of a normal pair of that information.

    Returns
    -------
    Symmetric, 1 on the diagonal; 0 where a pair has no rows in common or a side does not vary.

    Raises
    ------
    ConfigurationError
        The method is unknown.

    Examples
    --------
    >>> association_matrix(np.array([[1.0, 1.0], [2.0, 4.0], [3.0, 9.0]]), "spearman").round(6).tolist()
    [[1.0, 1.0], [1.0, 1.0]]
    """
    if method not in METHODS:
        raise ConfigurationError(f"no measure is called {method!r}", hint=", ".join(METHODS))
    if method == "mutual_information":
        codes = equal_mass_codes(X, bins)
        result = information_correlation(_all_information(codes, bins))
    else:
        values = np.asarray(X, dtype=np.float64)
        result = _pearson(pd.DataFrame(values).rank().to_numpy() if method == "spearman" else values)
    np.fill_diagonal(result, 1.0)
    return result


def information_correlation(information: Floats) -> Floats:
    """The correlation of a bivariate normal pair whose mutual information is this, in nats.

    Examples
    --------
    >>> information_correlation(np.array([0.0, -0.5 * np.log(1 - 0.6**2)])).round(6)
    array([0. , 0.6])
    """
    return np.sqrt(1.0 - np.exp(-2.0 * np.maximum(information, 0.0)))


def mutual_information(first: Codes, second: Codes, bins: int = BINS, *, corrected: bool = True) -> float:
    """Mutual information of two columns of bins in nats, over the rows where both are known.

    ``corrected`` takes the bias of the estimate off, (cells - bins of one - bins of the other + 1) / (2 rows).
    """
    return float(_information(_counts(first, second, bins), corrected))


def target_information(codes: Codes, target: Codes, bins: int = BINS) -> Floats:
    """Mutual information of each column with one target, in nats, bias taken off."""
    return _target_information(codes, target, bins)


def shifted_maxima(codes: Codes, target: Codes, shifts: NDArray[np.int64], bins: int = BINS) -> Floats:
    """The greatest information of any column with the target moved around the circle of rows by each shift.

    A shift keeps the serial dependence of the target and of the columns and breaks what links them, so this is what
    the best of so many columns shows by luck (Westfall and Young 1993, Resampling-Based Multiple Testing).
    """
    return np.array([_target_information(codes, np.roll(target, int(shift)), bins).max() for shift in shifts])


@dataclass(frozen=True)
class Pruning:
    """Which columns stay.

    Parameters
    ----------
    kept:
        Positions, rising.
    clusters:
        The cluster of each column, numbered by their first column.
    dropped:
        A row a dropped column: ``column``, ``kept`` (the better one that speaks for it) and ``association``.
    """

    kept: NDArray[np.intp]
    clusters: NDArray[np.intp]
    dropped: pd.DataFrame


def clusters_of(association: Floats, threshold: float) -> NDArray[np.intp]:
    """Clusters within which every pair is associated by at least ``threshold``, sign aside (complete linkage).

    Returns
    -------
    A number a column; clusters are numbered by their first column.

    Examples
    --------
    >>> clusters_of(np.array([[1.0, 0.1, -0.95], [0.1, 1.0, 0.2], [-0.95, 0.2, 1.0]]), 0.9).tolist()
    [0, 1, 0]
    """
    if not 0 < threshold <= 1:
        raise ConfigurationError(f"threshold = {threshold} is not in (0, 1]")
    width = len(association)
    if width < 2:
        return np.zeros(width, dtype=np.intp)
    from scipy.cluster.hierarchy import fcluster, linkage
    from scipy.spatial.distance import squareform

    distance = np.clip(1.0 - np.abs(association), 0.0, 1.0)
    tree = linkage(squareform((distance + distance.T) / 2, checks=False), method="complete")
    return _by_first(fcluster(tree, 1.0 - threshold + 1e-12, criterion="distance"))


def natural_clusters(association: Floats) -> NDArray[np.intp]:
    """The clusters at the cut of the average-linkage tree where the mean silhouette is the greatest.

    Columns are as far apart as ``sqrt((1 - |association|) / 2)``, as in Lopez de Prado (2020), Machine Learning for
    Asset Managers, section 4.4; a column that is like no other is a cluster of its own, with a silhouette of 0.

    Returns
    -------
    A number a column; clusters are numbered by their first column.

    Examples
    --------
    >>> natural_clusters(np.array([[1, 0.9, 0, 0], [0.9, 1, 0, 0], [0, 0, 1, 0.8], [0, 0, 0.8, 1]])).tolist()
    [0, 0, 1, 1]
    """
    width = len(association)
    if width < 3:
        return np.arange(width)
    from scipy.cluster.hierarchy import fcluster, linkage
    from scipy.spatial.distance import squareform

    distance = np.sqrt(np.clip(1.0 - np.abs((association + association.T) / 2), 0.0, 1.0) / 2)
    np.fill_diagonal(distance, 0.0)
    tree = linkage(squareform(distance, checks=False), method="average")
    best, quality = np.arange(width), -np.inf
    for count in range(2, width):
        labels = _by_first(fcluster(tree, count, criterion="maxclust"))
        if labels.max() < 1:
            continue
        found = float(_silhouettes(distance, labels).mean())
        if found > quality + 1e-12:
            best, quality = labels, found
    return best


def prune(association: Floats, scores: Floats, threshold: float) -> Pruning:
    """Keep the best column of each cluster, and of any two that are still too close the better one.

    Parameters
    ----------
    association:
        From :func:`association_matrix`.
    scores:
        How good each column is; of equal ones the first is the better.
    threshold:
        No two kept columns are associated by this or more, sign aside.

    Examples
    --------
    >>> matrix = np.array([[1.0, 0.1, -0.95], [0.1, 1.0, 0.2], [-0.95, 0.2, 1.0]])
    >>> pruning = prune(matrix, np.array([1.0, 5.0, 2.0]), 0.9)
    >>> pruning.kept.tolist(), pruning.dropped.to_dict("records")
    ([1, 2], [{'column': 0, 'kept': 2, 'association': 0.95}])
    """
    if len(scores) != len(association):
        raise DataError(f"{len(scores)} scores for {len(association)} columns")
    clusters = clusters_of(association, threshold)
    order = np.lexsort((np.arange(len(scores)), -np.nan_to_num(scores, nan=-np.inf)))
    strength = np.abs(association)
    kept: list[int] = []
    taken: set[int] = set()
    for column in order:
        if clusters[column] not in taken and not (strength[column, kept] >= threshold).any():
            kept.append(int(column))
            taken.add(int(clusters[column]))
    # A cluster whose best column fell to another cluster's is spoken for by that one: none of it is missing.
    rows = []
    for column in sorted(set(range(len(scores))) - set(kept)):
        nearest = kept[int(strength[column, kept].argmax())]
        rows.append({"column": column, "kept": nearest, "association": float(strength[column, nearest])})
    dropped = pd.DataFrame(rows, columns=["column", "kept", "association"])
    return Pruning(np.array(sorted(kept), dtype=np.intp), clusters, dropped)


def _silhouettes(distance: Floats, labels: NDArray[np.intp]) -> Floats:
    """How much nearer each column is to its own cluster than to the next one, -1 to 1 (Rousseeuw 1987)."""
    member = np.eye(labels.max() + 1)[labels]
    counts = member.sum(axis=0)
    sums = distance @ member
    place = np.arange(labels.size)
    own = sums[place, labels] / np.maximum(counts[labels] - 1, 1)
    others = sums / counts
    others[place, labels] = np.inf
    nearest = others.min(axis=1)
    result = (nearest - own) / np.maximum(np.maximum(nearest, own), 1e-300)
    result[counts[labels] == 1] = 0.0
    return result


def _by_first(labels: NDArray[np.integer]) -> NDArray[np.intp]:
    _, first, inverse = np.unique(labels, return_index=True, return_inverse=True)
    number = np.empty(first.size, dtype=np.intp)
    number[np.argsort(first)] = np.arange(first.size)
    return number[inverse]


def _pearson(values: Floats) -> Floats:
    """Pairwise complete Pearson correlation by matrix products of values and of what is known."""
    known = ~np.isnan(values)
    mask = known.astype(np.float64)
    count = mask.sum(axis=0)
    centre = np.where(known, values, 0.0).sum(axis=0) / np.maximum(count, 1)
    away = np.where(known, values - centre, 0.0)
    largest = np.abs(away).max(axis=0, initial=0.0)
    away /= np.where(largest > 0, largest, 1.0)
    products = away.T @ away
    if known.all():
        spread = np.sqrt(np.diag(products))
        still = spread <= 0
        result = products / np.where(np.outer(~still, ~still), np.outer(spread, spread), np.inf)
        return np.clip(result, -1.0, 1.0)
    common = mask.T @ mask
    sums = away.T @ mask
    squares = (away * away).T @ mask
    rows = np.maximum(common, 1.0)
    covariance = products - sums * sums.T / rows
    variance = squares - sums * sums / rows
    floor = 1e-12 * np.maximum(squares, 1e-300)
    usable = (variance > floor) & (variance > floor).T & (common > 2)
    scale = np.sqrt(np.where(usable, variance * variance.T, np.inf))
    return np.clip(covariance / scale, -1.0, 1.0)


@njit(cache=True, nogil=True)
def _counts(first: Codes, second: Codes, bins: int) -> NDArray[np.int64]:
    # Four tables side by side: one counter would wait for its own last increment.
    tables = np.zeros((4, bins * bins), dtype=np.int32)
    rows = first.size
    for i in range(rows):
        a, b = first[i], second[i]
        if a < bins and b < bins:
            tables[i & 3, a * bins + b] += 1
    result = np.zeros((bins, bins), dtype=np.int64)
    for a in range(bins):
        for b in range(bins):
            for k in range(4):
                result[a, b] += tables[k, a * bins + b]
    return result


@njit(cache=True, nogil=True)
def _information(counts: NDArray[np.int64], corrected: bool) -> float:
    total = counts.sum()
    if total == 0:
        return 0.0
    rows, columns = counts.sum(axis=1), counts.sum(axis=0)
    information = 0.0
    cells = 0
    for a in range(counts.shape[0]):
        for b in range(counts.shape[1]):
            if counts[a, b] > 0:
                cells += 1
                information += counts[a, b] * np.log(counts[a, b] * float(total) / (float(rows[a]) * columns[b]))
    information /= total
    if corrected:
        information -= (cells - (rows > 0).sum() - (columns > 0).sum() + 1) / (2.0 * total)
    return information


@njit(cache=True, nogil=True)
def _target_information(codes: Codes, target: Codes, bins: int) -> Floats:
    result = np.empty(codes.shape[0])
    for column in range(codes.shape[0]):
        result[column] = _information(_counts(codes[column], target, bins), True)
    return result


@njit(cache=True, nogil=True)
def _all_information(codes: Codes, bins: int) -> Floats:
    width = codes.shape[0]
    result = np.zeros((width, width))
    for i in range(width):
        for j in range(i):
            result[i, j] = _information(_counts(codes[i], codes[j], bins), True)
            result[j, i] = result[i, j]
    return result
