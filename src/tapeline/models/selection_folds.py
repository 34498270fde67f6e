"""Selectors that fit a model: recursive elimination, Boruta on SHAP values, and clustered importance, on purged folds.

Their ``fit`` takes the label interval of each row, ``t0`` and ``t_end``, and splits the rows it is given by
:class:`tapeline.models.validation.PurgedKFold`. In a pipeline these are passed as ``select__t0`` and
``select__t_end``; scikit-learn's cross-validation cuts them to a fold's rows as it cuts the rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Literal, Self

import numpy as np
import numpy.typing as npt
import pandas as pd

from tapeline.core.errors import ConfigurationError, DataError
from tapeline.evaluation.metrics import log_loss
from tapeline.features.association import Method, association_matrix, natural_clusters
from tapeline.models.estimator import build_estimator, probability_up, useful_threads
from tapeline.models.explain import shap_values
from tapeline.models.promotion import loss_difference
from tapeline.models.selection import ColumnSelector, Floats, Rows, rows_of
from tapeline.models.validation import PurgedKFold

Intervals = npt.ArrayLike
Fold = tuple[Rows, Rows]

SHADOWS: Final = 5
"""Boruta compares with the best of at least so many shadows."""


class FoldSelector(ColumnSelector):
    """What selectors on purged folds share: the folds, the model, its seed."""

    folds: int
    embargo: float
    seed: int
    threads: int
    parameters: dict[str, Any] | None

    def _folds(self, rows: int, t0: Intervals | None, t_end: Intervals | None) -> list[Fold]:
        if t0 is None or t_end is None:
            raise ConfigurationError(
                f"{type(self).__name__}.fit needs the label intervals t0 and t_end of its rows",
                hint="pass them on, in a pipeline as select__t0 and select__t_end",
            )
        splitter = PurgedKFold(_instants(t0), _instants(t_end), folds=self.folds, embargo=self.embargo)
        return list(splitter.split(np.empty(rows)))

    def _fitted(self, X: npt.NDArray[np.float32], y: Any, weight: Floats) -> Any:  # noqa: N803
        threads = useful_threads(X.size, self.threads)
        model = build_estimator("lightgbm", seed=self.seed, threads=threads, parameters=self.parameters)
        return model.fit(X, y, weight)


class RecursiveElimination(FoldSelector):
    """The wrapper RFECV: drop the least important columns step by step, keep the number that does best out of fold.

    In each purged fold a model is fitted, scored by log loss on the test rows, and the ``step`` least important columns
    leave, until one is left. Of all numbers of columns the smallest is taken whose mean loss is within a standard error
    of the best. Where even that is not better than the base rate in 99 % of block bootstrap samples, nothing is kept
    (Guyon et al. 2002, Machine Learning 46, p. 389).

    Parameters
    ----------
    step:
        How many columns leave at once; below 1 a share of all columns.
    importance:
        By what columns leave: ``shap`` (mean absolute), LightGBM's ``gain`` or ``split``.
    one_standard_error:
        False takes the best number itself.
    significance:
        Of the comparison with the base rate; 1 makes none.
    folds, embargo, seed, threads, parameters:
        Of the folds and of LightGBM.

    Attributes
    ----------
    path_:
        A row a number of columns: ``columns``, ``log_loss`` (mean over folds), ``error`` (of that mean).
    """

    def __init__(
        self,
        *,
        step: float = 0.1,
        importance: Literal["shap", "gain", "split"] = "shap",
        one_standard_error: bool = True,
        significance: float = 0.01,
        folds: int = 5,
        embargo: float = 0.01,
        seed: int = 0,
        threads: int = 1,
        parameters: dict[str, Any] | None = None,
        at_least: int = 0,
    ) -> None:
        self.step = step
        self.importance = importance
        self.one_standard_error = one_standard_error
        self.significance = significance
        self.folds = folds
        self.embargo = embargo
        self.seed = seed
        self.threads = threads
        self.parameters = parameters
        self.at_least = at_least

    def fit(
        self,
        X: npt.ArrayLike,  # noqa: N803
        y: npt.ArrayLike,
        *,
        t0: Intervals | None = None,
        t_end: Intervals | None = None,
        sample_weight: npt.ArrayLike | None = None,
    ) -> Self:
        """Choose the number out of fold, then the columns on all rows."""
        rows, target, weight = _checked(X, y, sample_weight)
        folds = self._folds(len(rows), t0, t_end)
        counts = self._counts(rows.shape[1])
        losses = np.empty((len(folds), len(counts)))
        predicted = np.full((len(counts), len(rows)), np.nan)
        base = np.full(len(rows), np.nan)
        for number, (train, test) in enumerate(folds):
            base[test] = np.average(target[train], weights=weight[train])
            for place, (columns, model) in enumerate(
                self._eliminate(rows[train], target[train], weight[train], counts)
            ):
                predicted[place, test] = probability_up(model, rows[test][:, columns])
                losses[number, place] = log_loss(target[test], predicted[place, test], weight[test])
        mean = losses.mean(axis=0)
        error = losses.std(axis=0, ddof=1) / np.sqrt(len(folds))
        self.path_ = pd.DataFrame({"columns": counts, "log_loss": mean, "error": error})
        # Counts fall: of equal losses the last is the one with the fewest columns.
        best = len(mean) - 1 - int(np.argmin(mean[::-1]))
        bound = mean[best] + (error[best] if self.one_standard_error else 0.0)
        chosen = max(place for place in range(len(counts)) if mean[place] <= bound)
        reach = float(np.mean(_reach(_instants(t0).asi8, _instants(t_end).asi8)))
        compared = loss_difference(
            target, predicted[best], base, _instants(t0).asi8, mean_block=max(2 * reach, 1.0), seed=self.seed
        )
        self.better_ = compared.better
        path = list(self._eliminate(rows, target, weight, counts))
        scores = np.zeros(rows.shape[1])
        for place, (columns, _) in enumerate(path):
            scores[columns] = place + 1.0
        sound = self.significance >= 1 or compared.better >= 1 - self.significance
        return self._keep(path[chosen][0] if sound else [], scores)

    def _counts(self, width: int) -> list[int]:
        step = int(self.step) if self.step >= 1 else max(1, int(self.step * width))
        if step < 1:
            raise ConfigurationError(f"step = {self.step} is not above 0")
        counts = [width]
        while counts[-1] > 1:
            counts.append(max(1, counts[-1] - step))
        return counts

    def _eliminate(
        self, rows: npt.NDArray[np.float32], target: Any, weight: Floats, counts: Sequence[int]
    ) -> list[tuple[Rows, Any]]:
        columns = np.arange(rows.shape[1])
        path = []
        for place, _ in enumerate(counts):
            model = self._fitted(rows[:, columns], target, weight)
            path.append((columns, model))
            if place + 1 < len(counts):
                order = np.argsort(_importance(model, rows[:, columns], self.importance), kind="stable")
                columns = np.sort(columns[order[len(columns) - counts[place + 1] :]])
        return path


class BorutaShap(FoldSelector):
    """The embedded choice by SHAP: columns that matter more, again and again, than any that cannot matter.

    Each round adds a shadow of every column that is still open, the column moved around the circle of rows by a random
    shift: of the same distribution and serial dependence, and without a link to the target. A model is fitted on a
    purged fold's training rows; a column has a hit where its mean absolute SHAP value on the fold's test rows is above
    that of every shadow. Columns with significantly more hits than half the rounds are kept, those with fewer leave
    (Kursa and Rudnicki 2010, Journal of Statistical Software 36(11); Keany 2020, BorutaShap).

    Parameters
    ----------
    rounds:
        How many; the folds take turns.
    significance:
        Of the binomial test, Bonferroni-corrected for the number of columns.
    folds, embargo, seed, threads, parameters:
        Of the folds and of LightGBM.

    Attributes
    ----------
    hits_:
        How often each column was above all shadows.
    decisions_:
        ``kept``, ``rejected`` or ``open`` a column.
    """

    def __init__(
        self,
        *,
        rounds: int = 20,
        significance: float = 0.05,
        folds: int = 5,
        embargo: float = 0.01,
        seed: int = 0,
        threads: int = 1,
        parameters: dict[str, Any] | None = None,
        at_least: int = 0,
    ) -> None:
        self.rounds = rounds
        self.significance = significance
        self.folds = folds
        self.embargo = embargo
        self.seed = seed
        self.threads = threads
        self.parameters = parameters
        self.at_least = at_least

    def fit(
        self,
        X: npt.ArrayLike,  # noqa: N803
        y: npt.ArrayLike,
        *,
        t0: Intervals | None = None,
        t_end: Intervals | None = None,
        sample_weight: npt.ArrayLike | None = None,
    ) -> Self:
        """Play the rounds."""
        from scipy.special import bdtr, bdtrc

        rows, target, weight = _checked(X, y, sample_weight)
        folds = self._folds(len(rows), t0, t_end)
        generator = np.random.default_rng(self.seed)
        width = rows.shape[1]
        hits, total = np.zeros(width, dtype=np.int64), np.zeros(width)
        decisions = np.full(width, "open", dtype=object)
        for played in range(1, self.rounds + 1):
            active = np.flatnonzero(decisions != "rejected")
            if not (decisions == "open").any():
                break
            train, test = folds[(played - 1) % len(folds)]
            shadows = _shadows(rows[:, np.resize(active, max(active.size, SHADOWS))], generator)
            both = np.column_stack([rows[:, active], shadows])
            model = self._fitted(both[train], target[train], weight[train])
            said = _importance(model, both[test], "shap")
            own, luck = said[: active.size], said[active.size :].max()
            hits[active] += own > luck
            total[active] += own
            bound = self.significance / width
            is_open = decisions == "open"
            decisions[is_open & (bdtrc(hits - 1, played, 0.5) < bound)] = "kept"
            decisions[is_open & (bdtr(hits, played, 0.5) < bound)] = "rejected"
        self.hits_, self.decisions_ = hits, decisions
        return self._keep(np.flatnonzero(decisions == "kept"), total / self.rounds)


class ClusteredImportance(FoldSelector):
    """Clustered MDA: clusters of columns without which a model does worse out of fold.

    Columns that say the same stand in for each other, so that shuffling one shows nothing; here all columns of a
    cluster are shuffled in the test rows of each purged fold, each by itself, and the loss is compared: (loss shuffled
    - loss) / loss shuffled (Lopez de Prado 2020, Machine Learning for Asset Managers, section 6.5.2). Clusters whose
    mean over the folds is above 0 by a one-sided t-test, Bonferroni-corrected, are kept with all their columns.

    Parameters
    ----------
    method:
        Of the association that makes the clusters; see :func:`tapeline.features.association.natural_clusters`.
    clustered:
        False makes every column a cluster of its own: plain MDA.
    repeats:
        Shuffles a fold.
    significance, folds, embargo, seed, threads, parameters:
        Of the test, the folds and LightGBM.

    Attributes
    ----------
    importance_:
        A row a cluster: ``cluster``, ``columns`` (positions), ``mean``, ``error`` (of the mean), ``p_value``.
    clusters_:
        The cluster of each column.
    """

    def __init__(
        self,
        *,
        method: Method = "spearman",
        clustered: bool = True,
        repeats: int = 5,
        significance: float = 0.05,
        folds: int = 6,
        embargo: float = 0.01,
        seed: int = 0,
        threads: int = 1,
        parameters: dict[str, Any] | None = None,
        at_least: int = 0,
    ) -> None:
        self.method = method
        self.clustered = clustered
        self.repeats = repeats
        self.significance = significance
        self.folds = folds
        self.embargo = embargo
        self.seed = seed
        self.threads = threads
        self.parameters = parameters
        self.at_least = at_least

    def fit(
        self,
        X: npt.ArrayLike,  # noqa: N803
        y: npt.ArrayLike,
        *,
        t0: Intervals | None = None,
        t_end: Intervals | None = None,
        sample_weight: npt.ArrayLike | None = None,
    ) -> Self:
        """Measure each cluster and keep those that matter."""
        from scipy.special import stdtr

        rows, target, weight = _checked(X, y, sample_weight)
        folds = self._folds(len(rows), t0, t_end)
        width = rows.shape[1]
        self.clusters_ = natural_clusters(association_matrix(rows, self.method)) if self.clustered else np.arange(width)
        members = [np.flatnonzero(self.clusters_ == number) for number in range(int(self.clusters_.max()) + 1)]
        generator = np.random.default_rng(self.seed)
        decrease = np.empty((len(folds), len(members)))
        for number, (train, test) in enumerate(folds):
            model = self._fitted(rows[train], target[train], weight[train])
            loss = log_loss(target[test], probability_up(model, rows[test]), weight[test])
            for place, columns in enumerate(members):
                shuffled = [
                    log_loss(
                        target[test], probability_up(model, _shuffled(rows[test], columns, generator)), weight[test]
                    )
                    for _ in range(self.repeats)
                ]
                decrease[number, place] = np.mean([(one - loss) / one for one in shuffled])
        mean = decrease.mean(axis=0)
        error = decrease.std(axis=0, ddof=1) / np.sqrt(len(folds))
        ratio = np.divide(mean, error, out=np.zeros_like(mean), where=error > 0)
        chance = stdtr(len(folds) - 1, -ratio)
        self.importance_ = pd.DataFrame(
            {
                "cluster": np.arange(len(members)),
                "columns": [columns.tolist() for columns in members],
                "mean": mean,
                "error": error,
                "p_value": np.minimum(1.0, chance * len(members)),
            }
        )
        sound = np.flatnonzero(self.importance_["p_value"] < self.significance)
        return self._keep(np.flatnonzero(np.isin(self.clusters_, sound)), mean[self.clusters_])


def _importance(model: Any, rows: npt.NDArray[np.float32], kind: str) -> Floats:
    """The importance of each column of a fitted pipeline; 0 for those it left out."""
    kept, booster = model.named_steps["columns"].kept_, model[-1].booster_
    result = np.zeros(rows.shape[1])
    if kind == "shap":
        result[kept] = np.abs(shap_values(booster, np.ascontiguousarray(rows[:, kept]))[0]).mean(axis=0)
    else:
        result[kept] = booster.feature_importance(importance_type=kind)
    return result


def _shadows(columns: npt.NDArray[np.float32], generator: np.random.Generator) -> npt.NDArray[np.float32]:
    rows, width = columns.shape
    edge = max(1, rows // 50)
    shifts = generator.integers(edge, max(edge + 1, rows - edge), size=width)
    return np.column_stack([np.roll(columns[:, place], int(shifts[place])) for place in range(width)])


def _shuffled(rows: npt.NDArray[np.float32], columns: Rows, generator: np.random.Generator) -> npt.NDArray[np.float32]:
    changed = rows.copy()
    for column in columns:
        changed[:, column] = generator.permutation(rows[:, column])
    return changed


def _checked(
    X: npt.ArrayLike,  # noqa: N803
    y: npt.ArrayLike,
    sample_weight: npt.ArrayLike | None,
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int8], Floats]:
    rows, target = rows_of(X), np.asarray(y).astype(np.int8)
    weight = np.ones(len(rows)) if sample_weight is None else np.asarray(sample_weight, dtype=np.float64)
    if not len(rows) == target.size == weight.size:
        raise DataError(f"{len(rows)} rows, {target.size} targets and {weight.size} weights differ in number")
    return rows, target, weight


def _instants(times: Any) -> pd.DatetimeIndex:
    index = pd.DatetimeIndex(np.asarray(times) if not isinstance(times, pd.DatetimeIndex) else times)
    return index.as_unit("ns")


def _reach(start: npt.NDArray[np.int64], end: npt.NDArray[np.int64]) -> npt.NDArray[np.intp]:
    instants = np.unique(start)
    return np.searchsorted(instants, end, side="right") - np.searchsorted(instants, start, side="left")
