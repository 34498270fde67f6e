"""What a dataset is like, in a few numbers: what a choice of model family may hang on, and how past runs are compared.

Everything is computed from the rows given, which are a run's development rows; no holdout is among them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Final

import numpy as np
import numpy.typing as npt

from tapeline.core.errors import DataError
from tapeline.evaluation.metrics import auc
from tapeline.labels.weights import average_uniqueness
from tapeline.models.dataset import Dataset
from tapeline.models.validation import PurgedKFold

Array = npt.NDArray[np.float64]

PROBES: Final = 2
"""How many models the traits fit and score out of fold; the trial ledger counts them where they steer a choice."""

MAXIMUM_ROWS: Final = 4000
MAXIMUM_COLUMNS: Final = 300
_RIDGE: Final = 0.1
_CLIP: Final = 5.0


def dataset_traits(dataset: Dataset, *, folds: int = 3, seed: int = 0) -> dict[str, float]:
    """Describe a dataset by numbers that do not depend on the scale of its features.

    Costs no more than a few matrix products: at most 4,000 rows and 300 columns are looked at, drawn with ``seed``.

    Returns
    -------
    - ``log_rows``, ``log_columns``, ``log_symbols``: decimal logarithms of the counts
    - ``log_step``: of the median seconds between decisions
    - ``missing``: share of cells without a value
    - ``balance``: weighted share of rises
    - ``effective_rows``: ``(sum w)**2 / (n * sum w**2)`` of the weights, 1 where all are equal
    - ``uniqueness``: mean average uniqueness of the labels (Lopez de Prado 2018, section 4.3), 1 without overlap
    - ``reach``: decimal logarithm of the decision times that a label spans
    - ``autocorrelation``: median over the columns of the correlation of a value with the one before it
    - ``target_autocorrelation``: the same of the target
    - ``dimension``: effective dimension of the columns over their number: ``(sum e)**2 / sum e**2 / columns``, e the
      eigenvalues of their correlations
    - ``tails``: median over the columns of the natural logarithm of kurtosis
    - ``linear_auc``: area under the ROC curve of a ridge regression over purged folds
    - ``linear_spread``: standard deviation of that area between folds
    - ``curvature``: how much the area grows when the regression also sees the squares of the features

    A number that cannot be computed (a fold without one of the classes) is NaN.

    Examples
    --------
    >>> import pandas as pd
    >>> from tapeline.models.dataset import assemble
    >>> ts = pd.date_range("2017-01-02", periods=900, freq="1h", tz="UTC", name="ts")
    >>> x = np.random.default_rng(0).normal(size=900)
    >>> features = pd.DataFrame({"known_at": ts + pd.Timedelta("1h"), "x": x}, index=ts)
    >>> labels = pd.DataFrame({"value": np.sign(x), "t_end": ts + pd.Timedelta("2h"), "outcome": 0.0, "weight": 1.0},
    ...     index=ts)
    >>> found = dataset_traits(assemble({"EURUSD": (features, labels)}))
    >>> found["log_step"].__round__(2), found["linear_auc"] > 0.99, abs(found["curvature"]) < 0.01
    (3.56, True, True)
    """
    generator = np.random.default_rng(seed)
    columns = np.sort(generator.permutation(dataset.X.shape[1])[:MAXIMUM_COLUMNS])
    rows = np.sort(generator.permutation(len(dataset))[:MAXIMUM_ROWS])
    sample = dataset.take(rows)
    values = sample.X[:, columns].astype(np.float64)
    z = _standardised(values, values, sample.weight)
    linear, spread = _probe(sample, values, folds)
    curved, _ = _probe(sample, np.hstack([values, z**2]), folds)
    weight = dataset.weight
    instants = np.unique(dataset.t0.asi8)
    step = float(np.median(np.diff(instants)) / 1e9) if instants.size > 1 else math.nan
    feature_lag, target_lag = _autocorrelation(dataset, columns)
    uniqueness, reach = _overlap(dataset)
    return {
        "log_rows": math.log10(len(dataset)),
        "log_columns": math.log10(dataset.X.shape[1]),
        "log_symbols": math.log10(len(np.unique(dataset.symbol))),
        "log_step": math.log10(step) if step > 0 else math.nan,
        "missing": float(np.isnan(values).mean()),
        "balance": float(np.average(dataset.y, weights=weight)) if weight.sum() > 0 else math.nan,
        "effective_rows": float(weight.sum() ** 2 / (len(weight) * (weight**2).sum())) if weight.any() else math.nan,
        "uniqueness": uniqueness,
        "reach": math.log10(reach),
        "autocorrelation": feature_lag,
        "target_autocorrelation": target_lag,
        "dimension": _dimension(z),
        "tails": _tails(z),
        "linear_auc": linear,
        "linear_spread": spread,
        "curvature": curved - linear,
    }


def _standardised(values: Array, training: Array, weight: Array) -> Array:
    """z-scores by the training rows, clipped, 0 where missing: what no single value can upset."""
    seen = np.isfinite(training)
    mass = np.maximum((seen * weight[:, None]).sum(axis=0), 1e-12)
    filled = np.where(seen, training, 0.0)
    mean = (filled * weight[:, None]).sum(axis=0) / mass
    spread = np.sqrt((np.where(seen, training - mean, 0.0) ** 2 * weight[:, None]).sum(axis=0) / mass)
    scaled = (values - mean) / np.where(spread > 0, spread, np.inf)
    return np.clip(np.where(np.isfinite(scaled), scaled, 0.0), -_CLIP, _CLIP)


def _probe(sample: Dataset, values: Array, folds: int) -> tuple[float, float]:
    """Mean and standard deviation over purged folds of the area under the ROC curve of a ridge regression."""
    try:
        pairs = list(PurgedKFold(sample.t0, sample.t_end, folds=folds).split(values))
    except DataError:
        return math.nan, math.nan
    areas = []
    for train, test in pairs:
        weight = sample.weight[train]
        if not weight.sum() > 0:
            continue
        x, beyond = (_standardised(values[part], values[train], weight) for part in (train, test))
        y = sample.y[train] - np.average(sample.y[train], weights=weight)
        gram = (x * weight[:, None]).T @ x + _RIDGE * weight.sum() * np.eye(x.shape[1])
        score = beyond @ np.linalg.solve(gram, x.T @ (weight * y))
        areas.append(auc(sample.y[test], score))
    finite = [area for area in areas if math.isfinite(area)]
    return (float(np.mean(finite)), float(np.std(finite))) if finite else (math.nan, math.nan)


def _by_symbol(dataset: Dataset) -> Iterator[npt.NDArray[np.intp]]:
    for symbol in np.unique(dataset.symbol):
        yield np.flatnonzero(dataset.symbol == symbol)


def _autocorrelation(dataset: Dataset, columns: npt.NDArray[np.intp]) -> tuple[float, float]:
    """Of neighbours within a symbol: median over the columns, and of the target."""
    features, targets = [], []
    for rows in _by_symbol(dataset):
        part = rows[-MAXIMUM_ROWS:]  # neighbours are needed, so no random rows
        features.append(_lagged(dataset.X[np.ix_(part, columns)].astype(np.float64)))
        targets.append(_lagged(dataset.y[part, None].astype(np.float64))[0])
    return _median(np.concatenate(features)), _median(np.asarray(targets))


def _lagged(values: Array) -> Array:
    """Correlation of each column with itself one row earlier, over pairs that are both there."""
    before, after = values[:-1], values[1:]
    both = np.isfinite(before) & np.isfinite(after)
    count = both.sum(axis=0)
    first, second = (np.where(both, part, 0.0) for part in (before, after))
    divisor = np.maximum(count, 1)
    first, second = (np.where(both, part - part.sum(axis=0) / divisor, 0.0) for part in (first, second))
    norm = np.sqrt((first**2).sum(axis=0) * (second**2).sum(axis=0))
    return np.divide((first * second).sum(axis=0), norm, out=np.full(len(norm), np.nan), where=norm > 0)


def _overlap(dataset: Dataset) -> tuple[float, float]:
    """Mean average uniqueness of the labels, and mean number of decision times that one spans."""
    unique: list[Array] = []
    spans: list[Array] = []
    for rows in _by_symbol(dataset):
        instants, first = np.unique(dataset.t0[rows].asi8, return_inverse=True)
        last = np.maximum(np.searchsorted(instants, dataset.t_end[rows].asi8, side="right") - 1, first)
        unique.append(average_uniqueness(first, last, instants.size))
        spans.append((last - first + 1).astype(np.float64))
    return float(np.concatenate(unique).mean()), float(np.concatenate(spans).mean())


def _dimension(z: Array) -> float:
    varying = z[:, z.std(axis=0) > 0]
    if not varying.shape[1]:
        return math.nan
    eigenvalues = np.linalg.eigvalsh(np.atleast_2d(np.corrcoef(varying, rowvar=False)))
    return float(eigenvalues.sum() ** 2 / (eigenvalues**2).sum() / varying.shape[1])


def _tails(z: Array) -> float:
    second, fourth = (z**2).mean(axis=0), (z**4).mean(axis=0)
    return _median(np.log(np.divide(fourth, second**2, out=np.full(len(second), np.nan), where=second > 0)))


def _median(values: Array) -> float:
    finite = values[np.isfinite(values)]
    return float(np.median(finite)) if finite.size else math.nan
