"""Automatic selection of a feature set: selectors compete out of fold, the winner's set challenges the champion's.

Nothing here reads the rows on which champion and challenger are compared before they are compared: selectors are fitted
inside purged folds of the development rows, and both sets meet on later rows that neither was chosen on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from tapeline.core.errors import ConfigurationError
from tapeline.evaluation.metrics import log_loss
from tapeline.models.assessment import reach_in_instants
from tapeline.models.dataset import Dataset
from tapeline.models.promotion import COMPARABLE_ROWS, LossDifference, loss_difference
from tapeline.models.validation import PurgedKFold, time_holdout

BETTER_SHARE: Final = 0.95
"""The share of block bootstrap samples in which a challenger's loss must be smaller: a one-sided 5 % level."""
ALL: Final = "all columns"

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class ChampionSet:
    """The columns in force, and until when the labels reach that they were chosen on."""

    columns: tuple[str, ...]
    selected_until: pd.Timestamp


@dataclass(frozen=True)
class SelectionResult:
    """What a selection came to.

    Parameters
    ----------
    columns:
        The challenger's; empty where no selector found anything.
    selector:
        The one that won out of fold.
    promoted, reason:
        Whether the challenger takes the champion's place, and the sentence that says why.
    contest:
        A row a selector, and one for all columns: ``selector``, ``log_loss`` (out of fold), ``skill`` (the share of
        the base rate's loss that it saves), ``columns`` (mean a fold).
    stability:
        A row a column that any fold of the winner chose: ``column``, ``share`` of the folds, ``chosen`` in the end.
    comparison:
        Challenger (candidate) against champion (incumbent) on rows that neither was chosen on; None where there was
        nothing to compare.
    selected_until:
        When the last label became known that the challenger was chosen on.
    rows:
        ``development``, ``holdout``, ``compared``.
    """

    columns: tuple[str, ...]
    selector: str
    promoted: bool
    reason: str
    contest: pd.DataFrame
    stability: pd.DataFrame
    comparison: LossDifference | None
    selected_until: pd.Timestamp
    rows: Mapping[str, int]


def default_selectors(seed: int, threads: int) -> dict[str, Any]:
    """The selectors that compete: the filter, the embedded choice and clustered importance, with one seed."""
    from tapeline.models.selection import MinimumRedundancy
    from tapeline.models.selection_folds import BorutaShap, ClusteredImportance, RecursiveElimination

    model: dict[str, Any] = {"folds": 4, "seed": seed, "threads": threads}
    return {
        "mrmr": MinimumRedundancy(seed=seed),
        "recursive_elimination": RecursiveElimination(step=0.2, **model),
        "boruta_shap": BorutaShap(**model),
        "clustered_importance": ClusteredImportance(**{**model, "folds": 5}),
    }


def select_features(
    dataset: Dataset,
    *,
    champion: ChampionSet | None = None,
    selectors: Mapping[str, Any] | None = None,
    folds: int = 4,
    embargo: float = 0.01,
    holdout: float = 0.2,
    seed: int = 0,
    threads: int = 1,
    progress: Callable[[str], None] | None = None,
) -> SelectionResult:
    """Choose columns by how they do out of sample, and hold them against those in force.

    1. The last ``holdout`` of the time is set aside.
    2. On the rest, each selector is fitted inside each purged fold, a model on what it kept is scored on the fold's
       test rows, and the selector with the smallest log loss wins; it is then fitted on all development rows.
    3. A model on the winner's columns and one on the champion's, both fitted on the development rows, are compared on
       holdout rows decided after ``champion.selected_until``, by paired log loss and a block bootstrap. Without a
       champion the challenger meets all columns.

    Parameters
    ----------
    dataset:
        Of the whole feature set to choose from.
    champion:
        The set in force.
    selectors:
        By name, unfitted; :func:`default_selectors` where absent.
    folds, embargo, holdout, seed, threads:
        Of the splits and of LightGBM.
    progress:
        Called with one line a step.

    Raises
    ------
    ConfigurationError
        A column of the champion is not in the dataset.
    DataError
        There are too few rows for the folds.
    """
    if champion is not None:
        gone = [name for name in champion.columns if name not in dataset.columns]
        if gone:
            raise ConfigurationError(
                f"the champion set reads the columns {gone[:5]}, which the set to choose from lacks",
                hint="choose from a set that has them, or remove the champion's file",
            )
    say = progress or (lambda _: None)
    chosen_from = default_selectors(seed, threads) if selectors is None else dict(selectors)
    early, late = time_holdout(dataset.t0, dataset.t_end, holdout)
    development, held = dataset.take(early), dataset.take(late)
    splitter = PurgedKFold(development.t0, development.t_end, folds=folds, embargo=embargo)
    pairs = list(splitter.split(development.X))
    rows = []
    supports: dict[str, list[npt.NDArray[np.intp]]] = {}
    base = _base_rate(development, pairs)
    for name, selector in {ALL: None, **chosen_from}.items():
        say(f"select: {name} on {folds} folds")
        probability, supports[name] = _out_of_fold(development, pairs, selector, base, seed, threads)
        loss = log_loss(development.y, probability, development.weight)
        rows.append(
            {
                "selector": name,
                "log_loss": loss,
                "skill": 1 - loss / log_loss(development.y, base, development.weight),
                "columns": float(np.mean([kept.size for kept in supports[name]])),
            }
        )
    contest = pd.DataFrame(rows)
    rivals = contest[contest["selector"] != ALL]
    winner = str(rivals.sort_values(["log_loss", "columns"], kind="stable")["selector"].iloc[0])
    say(f"select: {winner} won; it chooses from all development rows")
    kept = _fit_selector(chosen_from[winner], development, np.arange(len(development))).kept_
    columns = tuple(dataset.columns[position] for position in kept)
    comparison, promoted, reason = _judge(development, held, kept, champion, seed, threads)
    return SelectionResult(
        columns=columns,
        selector=winner,
        promoted=promoted,
        reason=reason,
        contest=contest,
        stability=_stability(dataset.columns, supports[winner], kept),
        comparison=comparison,
        selected_until=development.t_end.max(),
        rows={
            "development": len(development),
            "holdout": len(held),
            "compared": 0 if comparison is None else comparison.rows,
        },
    )


def _judge(
    development: Dataset,
    held: Dataset,
    kept: npt.NDArray[np.intp],
    champion: ChampionSet | None,
    seed: int,
    threads: int,
) -> tuple[LossDifference | None, bool, str]:
    if not kept.size:
        return None, False, "no column stands out from what luck shows"
    present = development.columns if champion is None else champion.columns
    other = np.array([development.columns.index(name) for name in present], dtype=np.intp)
    incumbent = "all columns" if champion is None else "the champion set"
    if set(other.tolist()) == set(kept.tolist()):
        return None, False, f"the challenger is {incumbent} already"
    unseen = np.ones(len(held), dtype=bool) if champion is None else np.asarray(held.t0 > champion.selected_until)
    if unseen.sum() < COMPARABLE_ROWS:
        told = f"only {int(unseen.sum())} rows were decided after both sets were chosen, {COMPARABLE_ROWS} are needed"
        return None, False, told
    rows = held.take(np.flatnonzero(unseen))
    everything = np.arange(len(development))
    probability = [_predicted(development, everything, columns, rows.X, seed, threads) for columns in (kept, other)]
    comparison = loss_difference(
        rows.y,
        probability[0],
        probability[1],
        rows.t0.asi8,
        mean_block=max(2.0 * reach_in_instants(rows), len(rows.t0.unique()) ** (1 / 3), 1.0),
        seed=seed,
    )
    promoted = comparison.better >= BETTER_SHARE
    reason = (
        f"{'better' if promoted else 'not shown better'} than {incumbent}: log loss {comparison.candidate:.4f} with "
        f"{kept.size} columns against {comparison.incumbent:.4f} with {other.size} on the same {comparison.rows} rows, "
        f"better in {comparison.better:.0%} of resamples, {BETTER_SHARE:.0%} are needed"
    )
    return comparison, promoted, reason


def _out_of_fold(
    development: Dataset,
    pairs: Sequence[tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]],
    selector: Any,
    base: Floats,
    seed: int,
    threads: int,
) -> tuple[Floats, list[npt.NDArray[np.intp]]]:
    """The probability of each row by the fold that saw neither it nor its neighbours, and each fold's columns."""
    probability, supports = base.copy(), []
    for train, test in pairs:
        if selector is None:
            kept = np.arange(len(development.columns))
        else:
            kept = _fit_selector(selector, development, train).kept_
        supports.append(kept)
        if kept.size:
            probability[test] = _predicted(development, train, kept, development.X[test], seed, threads)
    return probability, supports


def _fit_selector(selector: Any, dataset: Dataset, rows: npt.NDArray[np.intp]) -> Any:
    from sklearn.base import clone

    from tapeline.models.selection_folds import FoldSelector

    fresh = clone(selector)
    if not isinstance(fresh, FoldSelector):
        return fresh.fit(dataset.X[rows], dataset.y[rows])
    part = dataset.take(rows)
    return fresh.fit(part.X, part.y, t0=part.t0, t_end=part.t_end, sample_weight=part.weight)


def _predicted(
    dataset: Dataset,
    train: npt.NDArray[np.intp],
    columns: npt.NDArray[np.intp],
    rows: npt.NDArray[np.float32],
    seed: int,
    threads: int,
) -> Floats:
    from tapeline.models.estimator import build_estimator, probability_up, useful_threads

    X = np.ascontiguousarray(dataset.X[np.ix_(train, columns)])  # noqa: N806 - scikit-learn's name
    estimator = build_estimator("lightgbm", seed=seed, threads=useful_threads(X.size, threads))
    estimator.fit(X, dataset.y[train], dataset.weight[train])
    return probability_up(estimator, np.ascontiguousarray(rows[:, columns]))


def _base_rate(development: Dataset, pairs: Sequence[tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]]) -> Floats:
    base = np.empty(len(development))
    for train, test in pairs:
        base[test] = np.average(development.y[train], weights=development.weight[train])
    return base


def _stability(
    names: Sequence[str], supports: Sequence[npt.NDArray[np.intp]], kept: npt.NDArray[np.intp]
) -> pd.DataFrame:
    counts = np.bincount(np.concatenate(supports), minlength=len(names)) / len(supports)
    table = pd.DataFrame({"column": list(names), "share": counts, "chosen": np.isin(np.arange(len(names)), kept)})
    table = table[(table["share"] > 0) | table["chosen"]]
    return table.sort_values(["share", "column"], ascending=[False, True]).reset_index(drop=True)
