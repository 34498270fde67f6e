"""Ensembles of classifiers: voting, weighted, stacking and blending, each a scikit-learn classifier itself.

What an ensemble learns of its members it learns from rows that they were not trained on and share no label with:
purged folds, a walk-forward or a purged tail. This module imports scikit-learn; import it where it is used.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Self

import numpy as np
import numpy.typing as npt
from sklearn.base import ClassifierMixin
from sklearn.utils.metaestimators import _BaseComposition
from sklearn.utils.validation import check_is_fitted

from tapeline.core.errors import ConfigurationError, DataError
from tapeline.evaluation.metrics import log_loss
from tapeline.models.calibration import log_odds
from tapeline.models.out_of_fold import (
    Members,
    Scheme,
    both_classes,
    check_weights,
    fit_member,
    inner_folds,
    label_intervals,
    member_probability,
    out_of_fold,
    take,
)
from tapeline.models.pooling import Pool, fit_linear_pool, fit_logarithmic_pool
from tapeline.models.validation import time_holdout

Array = npt.NDArray[np.float64]
Target = npt.NDArray[np.int64]
Meta = Literal["non_negative", "ridge"]


class Ensemble(ClassifierMixin, _BaseComposition):
    """What all ensembles share: members, checks, prediction, and the plan that a model file is written from.

    ``members`` are (name, unfitted classifier) pairs of any family: a pipeline of
    :func:`tapeline.models.estimator.build_estimator`, a net, a :class:`tapeline.models.rule_member.RuleMember`, another
    ensemble. Their parameters are reached as ``name__parameter``, so that a search may tune them.

    Attributes
    ----------
    members_:
        Name to classifier, fitted on all rows.
    pool_:
        How their probabilities become one.
    losses_:
        Name to weighted log loss on the rows that the member had not seen; empty where nothing was learnt from such.
    classes_:
        0 and 1.
    """

    kind: ClassVar[str]
    members: Members
    members_: dict[str, Any]
    pool_: Pool

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Own parameters, and where ``deep`` those of the members as ``name__parameter``."""
        return self._get_params("members", deep=deep)

    def set_params(self, **params: Any) -> Self:
        """Set own parameters, members by their name, and members' as ``name__parameter``."""
        self._set_params("members", **params)
        return self

    def fit(
        self,
        X: Any,  # noqa: N803 - scikit-learn's name
        y: npt.ArrayLike,
        sample_weight: npt.ArrayLike | None = None,
        *,
        t0: npt.ArrayLike | None = None,
        t_end: npt.ArrayLike | None = None,
    ) -> Self:
        """Learn how to combine the members, then fit each on all rows.

        Parameters
        ----------
        X, y:
            Rows and their class, 0 or 1.
        sample_weight:
            How many independent observations a row counts for, such as its average uniqueness.
        t0, t_end:
            Each row's decision and label end; needed wherever something is learnt from unseen rows.

        Raises
        ------
        ConfigurationError
            Label intervals are needed and absent, or two members share a name.
        DataError
            Classes other than 0 and 1, or rows too few for the folds.
        """
        target = self._checked(X, y, sample_weight, t0, t_end)
        weight = None if sample_weight is None else np.asarray(sample_weight, dtype=np.float64)
        self.losses_: dict[str, float] = {}
        kept = self._learn(X, target, weight, t0, t_end)
        self.members_ = kept or self._fitted(X, target, weight, t0, t_end)
        self.classes_ = np.array([0, 1])
        if hasattr(X, "shape"):
            self.n_features_in_ = int(X.shape[1])
        return self

    def predict_proba(self, X: Any) -> Array:  # noqa: N803
        """Probabilities of 0 and of 1, shape (rows, 2)."""
        check_is_fitted(self, "members_")
        up = self._combine(self.member_probabilities(X), X)
        return np.column_stack([1 - up, up])

    def predict(self, X: Any) -> npt.NDArray[np.int64]:  # noqa: N803
        """1 above a probability of 0.5, else 0."""
        return np.asarray(self.predict_proba(X)[:, 1] > 0.5, dtype=np.int64)

    def member_probabilities(self, X: Any) -> Array:  # noqa: N803
        """Each fitted member's probability of 1, shape (rows, members)."""
        return np.column_stack([member_probability(name, member, X) for name, member in self.members_.items()])

    def plan(self) -> dict[str, Any]:
        """Plain texts and numbers that, with the fitted members, give the same probabilities to the bit."""
        check_is_fitted(self, "members_")
        return {"kind": self.kind, "members": list(self.members_), "pool": self.pool_.to_json()}

    @classmethod
    def from_plan(cls, members: Mapping[str, Any], plan: Mapping[str, Any]) -> Self:
        """Make a fitted ensemble of fitted members; DataError where the plan is not one of this kind for them.

        Parameters
        ----------
        members:
            Name to fitted classifier, in any order.
        plan:
            From :meth:`plan`; treated as untrusted.
        """
        names = plan_members(members, plan)
        if plan.get("kind") != cls.kind:
            raise DataError(f"a plan of the kind {plan.get('kind')!r} makes no {cls.__name__}")
        pool = plan.get("pool")
        if not isinstance(pool, Mapping):
            raise DataError("the plan of an ensemble lacks its pool")
        made = cls([(name, members[name]) for name in names])
        made.members_ = {name: members[name] for name in names}
        made.pool_ = Pool.from_json(pool)
        if len(made.pool_.weights) != len(names):
            raise DataError(f"the plan has {len(made.pool_.weights)} weights for {len(names)} members")
        made.classes_ = np.array([0, 1])
        made.losses_ = {}
        return made

    def _learn(self, X: Any, y: Target, weight: Array | None, t0: Any, t_end: Any) -> dict[str, Any] | None:  # noqa: N803
        """Set ``pool_``; members that must not be fitted again on all rows are returned."""
        raise NotImplementedError

    def _combine(self, probability: Array, X: Any) -> Array:  # noqa: N803
        return self.pool_.apply(probability)

    def _named(self, values: Any) -> dict[str, float]:
        return {name: float(value) for (name, _), value in zip(self.members, values, strict=True)}

    def _fitted(self, X: Any, y: Target, weight: Array | None, t0: Any, t_end: Any) -> dict[str, Any]:  # noqa: N803
        return {
            name: fit_member(name, member, X, y, sample_weight=weight, t0=t0, t_end=t_end)
            for name, member in self.members
        }

    def _unseen(
        self,
        X: Any,  # noqa: N803
        y: Target,
        weight: Array | None,
        t0: Any,
        t_end: Any,
        scheme: Scheme,
        folds: int,
        embargo: float,
    ) -> tuple[Array, npt.NDArray[np.intp]]:
        """Out-of-fold probabilities of the rows that were tested, and which rows these are."""
        splits = inner_folds(t0, t_end, y.size, scheme=scheme, folds=folds, embargo=embargo)
        found = out_of_fold(self.members, X, y, splits, sample_weight=weight, t0=t0, t_end=t_end)
        rows = found.rows
        self._score(found.probability[rows], y[rows], None if weight is None else weight[rows])
        return found.probability[rows], rows

    def _score(self, probability: Array, y: Target, weight: Array | None) -> None:
        self.losses_ = self._named(log_loss(y, column, weight) for column in probability.T)

    def _checked(self, X: Any, y: npt.ArrayLike, weight: Any, t0: Any, t_end: Any) -> Target:  # noqa: N803
        names = [name for name, _ in self.members]
        if not names or len(set(names)) < len(names):
            raise ConfigurationError(f"the members {names} are none, or share a name")
        try:
            self._validate_names(names)
        except ValueError as error:
            raise ConfigurationError(
                f"the members' names {names} cannot be told from parameters",
                hint="a name has no '__' and is none of the ensemble's own parameters",
            ) from error
        target = np.asarray(y)
        if not target.size or not np.isin(target, (0, 1)).all():
            raise DataError("an ensemble's classes are 0 and 1", hint="encode the target: 1 for a rise, else 0")
        lengths = {len(part) for part in (X, target, weight, t0, t_end) if part is not None}
        if len(lengths) > 1:
            raise DataError(f"rows, classes, weights and label intervals differ in number: {sorted(lengths)}")
        check_weights(weight)
        return target.astype(np.int64)


class VotingEnsemble(Ensemble):
    """Members vote with weights that are given, not learnt.

    Parameters
    ----------
    members:
        (name, classifier) pairs.
    rule:
        ``mean`` of probabilities (soft voting), ``majority`` of members above 0.5 (hard voting: the probability is the
        share of votes), or ``log_odds``: the mean of log odds (the normalised geometric mean).
    weights:
        One a member, none negative; scaled to a sum of 1; equal where absent.

    Attributes
    ----------
    weights_:
        Name to share.

    Examples
    --------
    >>> from tapeline.models.estimator import build_estimator
    >>> rows, happened = np.array([[0.0], [0.1], [0.9], [1.0]] * 30), np.array([0, 0, 1, 1] * 30)
    >>> voting = VotingEnsemble([("line", build_estimator("logistic")), ("base", build_estimator("majority"))])
    >>> voting.fit(rows, happened).predict(rows[:4]).tolist()
    [0, 0, 1, 1]
    """

    kind = "voting"

    def __init__(
        self,
        members: Members,
        *,
        rule: Literal["mean", "majority", "log_odds"] = "mean",
        weights: tuple[float, ...] | None = None,
    ) -> None:
        self.members = members
        self.rule = rule
        self.weights = weights

    def _learn(self, X: Any, y: Target, weight: Array | None, t0: Any, t_end: Any) -> None:  # noqa: N803
        forms: dict[str, Any] = {"mean": "linear", "majority": "votes", "log_odds": "logarithmic"}
        if self.rule not in forms:
            raise ConfigurationError(f"no rule of voting is called {self.rule!r}", hint=", ".join(forms))
        share = np.ones(len(self.members)) if self.weights is None else np.asarray(self.weights, dtype=np.float64)
        if share.shape != (len(self.members),) or not (share >= 0).all() or not 0 < share.sum() < np.inf:
            raise ConfigurationError(f"weights = {self.weights} are not one number of 0 or more for each member")
        share = share / share.sum()
        self.weights_ = self._named(share)
        self.pool_ = Pool(forms[self.rule], tuple(map(float, share)))


class WeightedEnsemble(Ensemble):
    """A weighted mean of probabilities; the weights minimise the log loss of out-of-fold probabilities.

    The weights are none negative and sum to 1; see :func:`tapeline.models.pooling.fit_linear_pool`. Each member's
    probabilities come from models that were not trained on those rows and share no label interval with them.

    Parameters
    ----------
    members:
        (name, classifier) pairs.
    prior_rows:
        How many rows' worth of evidence the weights need to leave equality; 0 does not shrink.
    scheme, folds, embargo:
        Of :func:`tapeline.models.out_of_fold.inner_folds`.

    Attributes
    ----------
    weights_:
        Name to share.
    """

    kind = "weighted"

    def __init__(
        self,
        members: Members,
        *,
        prior_rows: float = 10.0,
        scheme: Scheme = "purged",
        folds: int = 5,
        embargo: float = 0.01,
    ) -> None:
        self.members = members
        self.prior_rows = prior_rows
        self.scheme = scheme
        self.folds = folds
        self.embargo = embargo

    def _learn(self, X: Any, y: Target, weight: Array | None, t0: Any, t_end: Any) -> None:  # noqa: N803
        said, rows = self._unseen(X, y, weight, t0, t_end, self.scheme, self.folds, self.embargo)
        counted = np.ones(rows.size) if weight is None else weight[rows]
        share = fit_linear_pool(said, y[rows], counted, prior_rows=self.prior_rows)
        self.weights_ = self._named(share)
        self.pool_ = Pool("linear", tuple(map(float, share)))


class StackingEnsemble(Ensemble):
    """A logistic regression on the log odds of out-of-fold probabilities (Wolpert 1992, Neural Networks 5, p. 241).

    Breiman (1996, Machine Learning 24, p. 49) found that stacking works where the coefficients may not be negative,
    which is the default. A ridge penalty pulls them to 0, where the ensemble says the base rate.

    Parameters
    ----------
    members:
        (name, classifier) pairs.
    meta:
        ``non_negative``, or ``ridge``, which leaves the signs free.
    ridge:
        Strength of the penalty on squared coefficients against the sum of log losses.
    scheme, folds, embargo:
        Of :func:`tapeline.models.out_of_fold.inner_folds`.

    Attributes
    ----------
    meta_:
        ``coefficients`` (name to number) and ``intercept``.
    """

    kind = "stacking"

    def __init__(
        self,
        members: Members,
        *,
        meta: Meta = "non_negative",
        ridge: float = 1.0,
        scheme: Scheme = "purged",
        folds: int = 5,
        embargo: float = 0.01,
    ) -> None:
        self.members = members
        self.meta = meta
        self.ridge = ridge
        self.scheme = scheme
        self.folds = folds
        self.embargo = embargo

    def _learn(self, X: Any, y: Target, weight: Array | None, t0: Any, t_end: Any) -> dict[str, Any] | None:  # noqa: N803
        said, rows = self._unseen(X, y, weight, t0, t_end, self.scheme, self.folds, self.embargo)
        self._stack(said, y[rows], None if weight is None else weight[rows])
        return None

    def _stack(self, said: Array, y: Target, weight: Array | None) -> None:
        if self.meta not in ("non_negative", "ridge"):
            raise ConfigurationError(f"no meta-learner is called {self.meta!r}", hint="non_negative or ridge")
        counted = np.ones(y.size) if weight is None else weight
        coefficient, intercept = fit_logarithmic_pool(
            log_odds(said), y, counted, ridge=self.ridge, non_negative=self.meta == "non_negative"
        )
        self.meta_ = {"coefficients": self._named(coefficient), "intercept": intercept}
        self.pool_ = Pool("logarithmic", tuple(map(float, coefficient)), intercept)


class BlendingEnsemble(StackingEnsemble):
    """Stacking on one purged tail instead of folds: members learn the early rows, the combination the late ones.

    Each member is fitted twice at most instead of once a fold and again. A row whose label crosses the tail's beginning
    teaches neither.

    Parameters
    ----------
    members, meta, ridge:
        As in stacking.
    tail:
        Share of the rows, the last in time, that the combination is learnt from.
    refit:
        Whether the members are fitted again on all rows; False keeps those that the combination was learnt for.
    """

    kind = "blending"

    def __init__(
        self,
        members: Members,
        *,
        meta: Meta = "non_negative",
        ridge: float = 1.0,
        tail: float = 0.25,
        refit: bool = True,
    ) -> None:
        self.members = members
        self.meta = meta
        self.ridge = ridge
        self.tail = tail
        self.refit = refit

    def _learn(self, X: Any, y: Target, weight: Array | None, t0: Any, t_end: Any) -> dict[str, Any] | None:  # noqa: N803
        begin, end = label_intervals(t0, t_end)
        early, late = time_holdout(begin, end, self.tail)
        part = None if weight is None else weight[early]
        if not both_classes(y[early], part):
            raise DataError("the rows before the tail hold one class only", hint="use a shorter tail or more data")
        made = self._fitted(take(X, early), y[early], part, begin[early], end[early])
        said = np.column_stack([member_probability(name, member, take(X, late)) for name, member in made.items()])
        counted = None if weight is None else weight[late]
        self._score(said, y[late], counted)
        self._stack(said, y[late], counted)
        return None if self.refit else made


def ensemble_from_plan(members: Mapping[str, Any], plan: Mapping[str, Any]) -> Ensemble:
    """The fitted ensemble of a plan of any kind; DataError where it is none."""
    from tapeline.models.hybrid import HybridEnsemble

    kinds: tuple[type[Ensemble], ...] = (
        VotingEnsemble,
        WeightedEnsemble,
        StackingEnsemble,
        BlendingEnsemble,
        HybridEnsemble,
    )
    for made in kinds:
        if plan.get("kind") == made.kind:
            return made.from_plan(members, plan)
    raise DataError(f"no ensemble has the kind {plan.get('kind')!r}", hint=", ".join(made.kind for made in kinds))


def plan_members(members: Mapping[str, Any], plan: Mapping[str, Any]) -> list[str]:
    """The members' names in the plan's order; DataError where they are not exactly the members at hand."""
    names = plan.get("members")
    if not isinstance(names, list | tuple) or not names or not all(isinstance(name, str) for name in names):
        raise DataError("the plan of an ensemble lacks its members' names")
    if len(set(names)) < len(names) or set(names) != set(members):
        raise DataError(f"the plan names the members {list(names)}, at hand are {sorted(members)}")
    return list(names)
