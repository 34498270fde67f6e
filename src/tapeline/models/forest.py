"""A random forest for labels that overlap: its draws mind uniqueness, and its out-of-bag score is honest.

Two labels that share bars share their answer. A bootstrap that draws as many rows as there are therefore draws the same
information again and again, and a row that is not drawn has neighbours that are: the usual out-of-bag score is a score
in sample. This module imports scikit-learn; the zoo imports it where it is used.
"""

from __future__ import annotations

from typing import Any, Final, Literal, Self, get_args

import numpy as np
import numpy.typing as npt
import pandas as pd
from numba import njit
from sklearn.ensemble import ExtraTreesClassifier, RandomForestClassifier
from sklearn.tree import DecisionTreeClassifier
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from tapeline.core.errors import ConfigurationError, DataError
from tapeline.labels.weights import average_uniqueness

Floats = npt.NDArray[np.float64]
Rows = npt.NDArray[np.int64]

DrawKind = Literal["uniqueness", "sequential", "rows"]
DRAW_KINDS: Final[tuple[str, ...]] = get_args(DrawKind)

_SEEDS: Final = 2**31 - 1


def label_lives(t0: npt.ArrayLike, t_end: npt.ArrayLike) -> tuple[Rows, Rows, int]:
    """Over which instants each label lives: what :func:`tapeline.labels.weights.average_uniqueness` takes as bars.

    Parameters
    ----------
    t0, t_end:
        Decision and label end of each row: times, or nanoseconds since 1970.

    Returns
    -------
    The first and the last instant of each label, both included, and how many instants there are. Instants are all
    distinct times of either kind; a label lives on those after its decision up to its end, since the bar that closes
    at the decision is no part of its outcome. One that ends at its decision lives on that instant. Labels of several
    symbols at one time count as concurrent: markets move together.

    Raises
    ------
    DataError
        There is no row, numbers of rows differ, a time is missing, or a label ends before its decision.

    Examples
    --------
    >>> first, last, instants = label_lives([0, 1, 2], [2, 3, 4])
    >>> first.tolist(), last.tolist(), instants
    ([1, 2, 3], [2, 3, 4], 5)
    """
    begin, end = _intervals(t0, t_end)
    instants = np.unique(np.concatenate([begin, end]))
    last = np.searchsorted(instants, end).astype(np.int64)
    return np.minimum(np.searchsorted(instants, begin).astype(np.int64) + 1, last), last, instants.size


def draw_rows(
    kind: DrawKind,
    lives: tuple[Rows, Rows, int],
    draws: int,
    generator: np.random.Generator,
    weight: npt.ArrayLike | None = None,
) -> Rows:
    """One bootstrap sample: the positions of the rows drawn, with replacement.

    Parameters
    ----------
    kind:
        ``rows``: a row's chance is its weight. ``uniqueness``: the same, and its average uniqueness where no weights
        are given. ``sequential``: a row's chance is its weight times its uniqueness beside those drawn already
        (Lopez de Prado 2018, section 4.5).
    lives:
        From :func:`label_lives`.
    draws:
        How many.
    generator:
        Of the chances; it moves on.
    weight:
        Of each row.

    Notes
    -----
    The sequential draw proposes rows by weight and accepts each with the probability of its uniqueness beside those
    drawn: the same distribution as :func:`tapeline.labels.sequential_bootstrap.sequential_bootstrap`, which computes
    the chances of all rows anew for each draw, at the cost of a few labels' lives a draw.

    Examples
    --------
    >>> lives = (np.array([0, 0, 1]), np.array([1, 1, 1]), 2)
    >>> draw_rows("sequential", lives, 4, np.random.default_rng(0)).size
    4
    """
    first, last, instants = lives
    if kind not in DRAW_KINDS:
        raise ConfigurationError(f"no draw is called {kind!r}", hint=", ".join(DRAW_KINDS))
    if weight is not None:
        chance = np.asarray(weight, dtype=np.float64)
    else:
        chance = average_uniqueness(first, last, instants) if kind == "uniqueness" else np.ones(first.size)
    if chance.size != first.size or not np.isfinite(chance).all() or (chance < 0).any() or not chance.sum() > 0:
        raise DataError(f"the weights of {first.size} rows must be numbers from 0 on, one a row, one of them above 0")
    cumulative = np.cumsum(chance)
    if kind == "sequential":
        return _accepted(first, last, np.zeros(instants), cumulative, draws, generator)
    found = np.searchsorted(cumulative, generator.random(draws) * cumulative[-1], side="right")
    return np.minimum(found, np.flatnonzero(chance)[-1]).astype(np.int64)


def overlapping(t0: npt.ArrayLike, t_end: npt.ArrayLike, drawn: Rows) -> npt.NDArray[np.bool_]:
    """For each row whether its closed label interval meets that of a drawn row, itself included.

    Examples
    --------
    >>> overlapping([0, 1, 2, 3], [1, 2, 3, 4], np.array([0])).tolist()
    [True, True, False, False]
    """
    begin, end = _intervals(t0, t_end)
    bag = np.unique(drawn)
    began = np.searchsorted(np.sort(begin[bag]), end, side="right")
    over = np.searchsorted(np.sort(end[bag]), begin, side="left")
    return began > over


class OrderedVotes:
    """A forest whose trees are summed in their order, so that any number of threads gives the same bits.

    scikit-learn sums them as they come, and so rounds as the threads happen to run.
    """

    estimators_: list[Any]
    n_jobs: int | None

    def predict_proba(self, X: npt.ArrayLike) -> Floats:  # noqa: N803 - scikit-learn's name
        """The mean over the trees of the shares of the classes, in the order of ``classes_``."""
        from joblib import Parallel, delayed, effective_n_jobs

        check_is_fitted(self)
        rows = self._validate_X_predict(X)  # type: ignore[attr-defined]

        def vote(part: npt.NDArray[np.float32]) -> Floats:
            total = np.zeros((len(part), len(self.classes_)))  # type: ignore[attr-defined]
            for tree in self.estimators_:
                total += tree.predict_proba(part, check_input=False)
            return total / len(self.estimators_)

        parts = np.array_split(rows, max(1, min(effective_n_jobs(self.n_jobs), len(rows))))
        return np.concatenate(Parallel(n_jobs=self.n_jobs, prefer="threads")(delayed(vote)(part) for part in parts))


class OrderedExtraTrees(OrderedVotes, ExtraTreesClassifier):
    """scikit-learn's extra trees, with the same bits on any number of threads."""


class UniquenessForest(OrderedVotes, RandomForestClassifier):
    """A random forest whose bootstrap knows that labels overlap (Lopez de Prado 2018, sections 4.5 and 6.4).

    Parameters
    ----------
    n_estimators, criterion, max_depth, min_samples_split, min_samples_leaf, max_features, max_leaf_nodes, \
monotonic_cst, n_jobs, random_state:
        As in scikit-learn's ``RandomForestClassifier``.
    draw:
        How each tree's rows are drawn, see :func:`draw_rows`.
    max_samples:
        How many rows a tree draws, as a share of all. Where absent ``uniqueness`` and ``sequential`` draw as many as
        there are rows times their average uniqueness, which is how much there is to know, and ``rows`` as many as there
        are rows.
    oob_score:
        Whether to compute the out-of-bag attributes. A tree counts for a row only if none of the rows it drew has a
        label interval that meets the row's (both closed): it knows nothing of the row's outcome.

    Attributes
    ----------
    average_uniqueness_:
        Mean over the rows that were fitted.
    draws_:
        How many rows each tree drew.
    oob_decision_function_:
        Out-of-bag probability of each class, a row a training row; NaN where no tree counts.
    oob_trees_:
        How many trees count, a number a row. The more rows a tree draws, the fewer.
    oob_score_:
        Weighted accuracy of the rows for which a tree counts; NaN where there are none.
    oob_log_loss_:
        Weighted log loss of the same rows, in nats.

    Notes
    -----
    A row's weight is its chance to be drawn; trees see how often a row was drawn. Tapeline's label weights hold the
    average uniqueness already; under ``sequential`` they count it twice, so give it weights without. Where ``fit`` gets
    no label intervals, no two rows are taken to overlap, as scikit-learn takes it.

    Examples
    --------
    >>> generator = np.random.default_rng(0)
    >>> x, hours = generator.standard_normal((400, 2)), np.arange(400)
    >>> forest = UniquenessForest(50, min_samples_leaf=10, oob_score=True, random_state=0)
    >>> forest = forest.fit(x, x[:, 0] > 0, t0=hours, t_end=hours + 9)
    >>> round(forest.average_uniqueness_, 2), forest.draws_, forest.oob_score_ > 0.8
    (0.11, 45, True)
    """

    def __init__(
        self,
        n_estimators: int = 100,
        *,
        draw: DrawKind = "uniqueness",
        max_samples: float | None = None,
        criterion: str = "gini",
        max_depth: int | None = None,
        min_samples_split: int = 2,
        min_samples_leaf: int = 1,
        max_features: float | str = "sqrt",
        max_leaf_nodes: int | None = None,
        monotonic_cst: npt.ArrayLike | None = None,
        oob_score: bool = False,
        n_jobs: int | None = None,
        random_state: Any = None,
    ) -> None:
        super().__init__(
            n_estimators,
            criterion=criterion,
            max_depth=max_depth,
            min_samples_split=min_samples_split,
            min_samples_leaf=min_samples_leaf,
            max_features=max_features,
            max_leaf_nodes=max_leaf_nodes,
            monotonic_cst=monotonic_cst,
            oob_score=oob_score,
            max_samples=max_samples,
            n_jobs=n_jobs,
            random_state=random_state,
        )
        self.draw = draw

    def fit(
        self,
        X: npt.ArrayLike,  # noqa: N803 - scikit-learn's name
        y: npt.ArrayLike,
        sample_weight: npt.ArrayLike | None = None,
        *,
        t0: npt.ArrayLike | None = None,
        t_end: npt.ArrayLike | None = None,
    ) -> Self:
        """Draw rows and grow a tree on each draw.

        Raises
        ------
        ConfigurationError
            ``draw`` is unknown, a number is out of its bounds, or an out-of-bag score is asked for without label
            intervals.
        DataError
            Rows, labels, weights and intervals do not belong together.
        """
        from joblib import Parallel, delayed

        rows = np.ascontiguousarray(X, dtype=np.float32)
        self.classes_, target = np.unique(np.asarray(y), return_inverse=True)
        begin, end = self._times(len(rows), t0, t_end)
        if rows.ndim != 2 or len(rows) != target.size or len(rows) != begin.size:
            raise DataError(
                f"rows of the shape {rows.shape}, {target.size} labels, {begin.size} intervals do not match"
            )
        lives = label_lives(begin, end)
        self.average_uniqueness_ = float(average_uniqueness(*lives).mean())
        self.draws_ = self._count(len(rows))
        self.n_features_in_, self.n_outputs_, self.n_classes_ = rows.shape[1], 1, self.classes_.size
        self.estimator_ = self.estimator
        seeds = check_random_state(self.random_state).randint(_SEEDS, size=self.n_estimators)
        weight = None if sample_weight is None else np.asarray(sample_weight, dtype=np.float64)

        def grow(seed: int) -> tuple[DecisionTreeClassifier, Rows]:
            drawn = draw_rows(self.draw, lives, self.draws_, np.random.default_rng(seed), weight)
            counts = np.bincount(drawn, minlength=len(rows)).astype(np.float64)
            return self._tree(int(seed)).fit(rows, target, sample_weight=counts), drawn

        grown = Parallel(n_jobs=self.n_jobs, prefer="threads")(delayed(grow)(seed) for seed in seeds)
        self.estimators_ = [tree for tree, _ in grown]
        if self.oob_score:
            self._score_out_of_bag(rows, target, weight, begin, end, [drawn for _, drawn in grown])
        return self

    @property
    def estimators_samples_(self) -> list[Rows]:
        """Not kept: a stored model holds no positions of its training rows."""
        raise AttributeError("the rows that the trees drew are not kept")

    def _times(self, rows: int, t0: Any, t_end: Any) -> tuple[Rows, Rows]:
        if t0 is not None and t_end is not None:
            return _intervals(t0, t_end)
        if self.oob_score:
            raise ConfigurationError(
                "an out-of-bag score needs the label intervals t0 and t_end of the rows",
                hint="pass them to fit: without them rows that share their outcome would judge each other",
            )
        alone = np.arange(rows, dtype=np.int64)
        return alone, alone

    def _count(self, rows: int) -> int:
        if self.n_estimators < 1:
            raise ConfigurationError(f"n_estimators = {self.n_estimators} is below 1")
        if self.max_samples is None:
            share = 1.0 if self.draw == "rows" else self.average_uniqueness_
        elif 0 < self.max_samples <= 1:
            share = self.max_samples
        else:
            raise ConfigurationError(f"max_samples = {self.max_samples} is not in (0, 1]", hint="a share of the rows")
        return max(1, round(rows * share))

    def _tree(self, seed: int) -> DecisionTreeClassifier:
        return DecisionTreeClassifier(
            criterion=self.criterion,
            max_depth=self.max_depth,
            min_samples_split=self.min_samples_split,
            min_samples_leaf=self.min_samples_leaf,
            max_features=self.max_features,
            max_leaf_nodes=self.max_leaf_nodes,
            monotonic_cst=self.monotonic_cst,
            random_state=seed,
        )

    def _score_out_of_bag(
        self,
        rows: npt.NDArray[np.float32],
        target: npt.NDArray[np.intp],
        weight: Floats | None,
        begin: Rows,
        end: Rows,
        bags: list[Rows],
    ) -> None:
        total = np.zeros((len(rows), self.n_classes_))
        trees = np.zeros(len(rows), dtype=np.int64)
        for tree, drawn in zip(self.estimators_, bags, strict=True):
            outside = np.flatnonzero(~overlapping(begin, end, drawn))
            if outside.size:
                total[outside] += tree.predict_proba(rows[outside])
                trees[outside] += 1
        judged = trees > 0
        said = np.full_like(total, np.nan)
        said[judged] = total[judged] / trees[judged, None]
        self.oob_decision_function_, self.oob_trees_ = said, trees
        mass = (np.ones(len(rows)) if weight is None else weight) * judged
        if not mass.sum() > 0:
            self.oob_score_ = self.oob_log_loss_ = float("nan")
            return
        hit = said[judged].argmax(axis=1) == target[judged]
        chance = np.clip(said[judged, target[judged]], 1e-15, 1.0)
        self.oob_score_ = float(np.average(hit, weights=mass[judged]))
        self.oob_log_loss_ = float(-np.average(np.log(chance), weights=mass[judged]))


@njit(cache=True, nogil=True)
def _accepted(
    first: Rows, last: Rows, alive: Floats, cumulative: Floats, draws: int, generator: np.random.Generator
) -> Rows:
    drawn = np.empty(draws, dtype=np.int64)
    count = 0
    while count < draws:
        row = np.searchsorted(cumulative, generator.random() * cumulative[-1], side="right")
        if row >= first.size:
            continue
        share = 0.0
        for instant in range(first[row], last[row] + 1):
            share += 1.0 / (alive[instant] + 1.0)
        if generator.random() * (last[row] - first[row] + 1) < share:
            drawn[count] = row
            count += 1
            for instant in range(first[row], last[row] + 1):
                alive[instant] += 1.0
    return drawn


def _intervals(t0: Any, t_end: Any) -> tuple[Rows, Rows]:
    begin, end = (pd.DatetimeIndex(times) for times in (t0, t_end))
    if not begin.size or begin.size != end.size:
        raise DataError(f"{begin.size} decision times and {end.size} label ends do not belong together")
    if begin.hasnans or end.hasnans:
        raise DataError("a row has no decision time or no label end")
    starts, ends = begin.as_unit("ns").asi8, end.as_unit("ns").asi8
    if (ends < starts).any():
        raise DataError(f"{int((ends < starts).sum())} labels end before their decision")
    return starts, ends
