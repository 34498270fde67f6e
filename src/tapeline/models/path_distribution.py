"""Many histories instead of one: combinatorial purged cross-validation put together to whole backtest paths.

Lopez de Prado 2018, Advances in Financial Machine Learning, chapter 12. Of ``N`` blocks every choice of ``k`` is
tested by a model trained on the others, purged and embargoed. Each block is tested ``k / N * C(N, k)`` times, so that
there are as many paths through all blocks, each out of sample from end to end.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from tapeline.core.errors import ConfigurationError
from tapeline.core.settings import CostSettings
from tapeline.evaluation.metrics import auc, log_loss, sharpe_ratio
from tapeline.evaluation.trades import random_entries, simulate, trades_per_year
from tapeline.models.dataset import Dataset
from tapeline.models.refit import Refit, checked_predictions
from tapeline.models.validation import CombinatorialPurgedKFold, time_blocks

Array = npt.NDArray[np.float64]

NULL_DRAWS: Final = 200
METRICS: Final = ("auc", "log_loss", "skill", "total_return", "sharpe_annual", "percentile_of_random_entries")
HIGHER_IS_BETTER: Final = {name: name != "log_loss" for name in METRICS}


@dataclass(frozen=True)
class PathDistribution:
    """What one configuration shows over all backtest paths.

    Parameters
    ----------
    paths:
        A row a path: ``path`` (from 1), ``trades`` and ``METRICS``: area under the curve, log loss, ``skill`` (log loss
        of the base rate less the model's), net return of the trades at a fixed notional, annual Sharpe ratio, and the
        percentile among random entries.
    summary:
        A row a metric: ``metric``, ``bad`` (the 5 % quantile where more is better, the 95 % quantile where less is:
        what to expect when it goes badly), ``median``, ``best``, ``mean``, ``deviation`` (between paths).
    probability:
        Shape (paths, rows): what each path says of each row.
    splits, folds, test_folds:
        How many fits there were, blocks, and blocks tested at once.
    trained_rows:
        The fewest rows that a fit was trained on.
    """

    paths: pd.DataFrame
    summary: pd.DataFrame
    probability: Array
    splits: int
    folds: int
    test_folds: int
    trained_rows: int


def path_table(folds: int, test_folds: int) -> npt.NDArray[np.intp]:
    """Which split gives each path each of its blocks, splits numbered in lexicographic order from 0.

    A block's first test belongs to the first path, its second test to the second path, and so on (figure 12.2 of the
    book).

    Returns
    -------
    Shape (paths, folds).

    Examples
    --------
    Six blocks, two at a time: 15 splits, 5 paths. The first path is made of the splits 1, 1, 2, 3, 4 and 5 of the
    book, which counts from 1.

    >>> path_table(6, 2)[0].tolist(), path_table(6, 2).shape
    ([0, 0, 1, 2, 3, 4], (5, 6))
    """
    if not 1 <= test_folds < folds:
        raise ConfigurationError(f"test_folds = {test_folds} is not in [1, {folds - 1}]")
    testing: list[list[int]] = [[] for _ in range(folds)]
    for split, blocks in enumerate(combinations(range(folds), test_folds)):
        for block in blocks:
            testing[block].append(split)
    return np.array(testing, dtype=np.intp).T


def path_distribution(
    dataset: Dataset,
    refit: Refit,
    *,
    folds: int = 6,
    test_folds: int = 2,
    embargo: float = 0.01,
    costs: CostSettings | None = None,
    seed: int = 0,
) -> PathDistribution:
    """Fit one configuration on every combinatorial split and measure it along every path.

    Parameters
    ----------
    dataset:
        Development rows; never the holdout.
    refit:
        The configuration.
    folds, test_folds, embargo:
        Of :class:`tapeline.models.validation.CombinatorialPurgedKFold`.
    costs:
        Of the trades.
    seed:
        Of the random entries.

    Raises
    ------
    DataError
        Purging leaves a split nothing to train on, or one class only.
    ConfigurationError
        ``folds`` and ``test_folds`` do not fit each other.

    Examples
    --------
    >>> from tapeline.models.dataset import assemble
    >>> from tapeline.models.refit import FamilyRefit
    >>> ts = pd.date_range("2017-01-02", periods=600, freq="1h", tz="UTC", name="ts")
    >>> x = np.random.default_rng(0).standard_normal(600)
    >>> features = pd.DataFrame({"known_at": ts, "x": x}, index=ts)
    >>> side = np.where(x + np.random.default_rng(1).standard_normal(600) > 0, 1.0, -1.0)
    >>> labels = pd.DataFrame({"value": side, "t_end": ts, "outcome": side / 1e3, "weight": 1.0}, index=ts)
    >>> found = path_distribution(assemble({"EURUSD": (features, labels)}), FamilyRefit("logistic", {}))
    >>> found.splits, len(found.paths), bool(found.summary.set_index("metric").loc["auc", "bad"] > 0.7)
    (15, 5, True)
    """
    splitter = CombinatorialPurgedKFold(dataset.t0, dataset.t_end, folds=folds, test_folds=test_folds, embargo=embargo)
    splits = list(splitter.split(dataset.X))
    said = np.full((len(splits), len(dataset)), np.nan)
    for number, ((_, test), values) in enumerate(zip(splits, checked_predictions(refit, dataset, splits), strict=True)):
        said[number, test] = values
    block = time_blocks(dataset.t0.as_unit("ns").asi8, folds)
    probability = said[path_table(folds, test_folds)[:, block], np.arange(len(dataset))]
    records = [
        {"path": number, **history_metrics(dataset, values, costs or CostSettings(), seed=seed)}
        for number, values in enumerate(probability, start=1)
    ]
    paths = pd.DataFrame(records)
    return PathDistribution(
        paths=paths,
        summary=summarise(paths),
        probability=probability,
        splits=len(splits),
        folds=folds,
        test_folds=test_folds,
        trained_rows=min(train.size for train, _ in splits),
    )


def summarise(paths: pd.DataFrame) -> pd.DataFrame:
    """The distribution of each metric over paths, as in :class:`PathDistribution`.

    Examples
    --------
    >>> made = pd.DataFrame({name: [1.0, 2.0, 3.0] for name in METRICS})
    >>> summarise(made)[["metric", "bad", "median"]].iloc[:2].values.tolist()
    [['auc', 1.1, 2.0], ['log_loss', 2.9, 2.0]]
    """
    rows = []
    for name in METRICS:
        values = paths[name].to_numpy(dtype=np.float64)
        values = values[np.isfinite(values)]
        if not values.size:
            rows.append({"metric": name, **dict.fromkeys(("bad", "median", "best", "mean", "deviation"), np.nan)})
            continue
        up = HIGHER_IS_BETTER[name]
        rows.append(
            {
                "metric": name,
                "bad": float(np.quantile(values, 0.05 if up else 0.95)),
                "median": float(np.median(values)),
                "best": float(values.max() if up else values.min()),
                "mean": float(values.mean()),
                "deviation": float(values.std(ddof=1)) if values.size > 1 else np.nan,
            }
        )
    return pd.DataFrame(rows)


def history_metrics(dataset: Dataset, probability: Array, costs: CostSettings, *, seed: int = 0) -> dict[str, Any]:
    """``METRICS`` and ``trades`` of one history of probabilities, a value a row of the dataset."""
    side = np.where(probability > 0.5, 1, np.where(probability < 0.5, -1, 0)).astype(np.int8)
    frame = dataset.frame.assign(side=side)
    trades = simulate(frame, costs)
    total = float(trades["net"].sum())
    null = random_entries(frame, trades, costs, draws=NULL_DRAWS, seed=seed)
    base = float(np.average(dataset.y, weights=dataset.weight))
    loss = log_loss(dataset.y, probability)
    return {
        "trades": len(trades),
        "auc": auc(dataset.y, probability),
        "log_loss": loss,
        "skill": log_loss(dataset.y, np.full(len(dataset), base)) - loss,
        "total_return": total,
        "sharpe_annual": sharpe_ratio(trades["net"], periods_per_year=trades_per_year(trades)),
        "percentile_of_random_entries": null.percentile(total),
    }
