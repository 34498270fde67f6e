"""A hybrid ensemble: trees, nets and rules together, weighted by the regime a row is in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from numbers import Integral
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from sklearn.utils.validation import check_is_fitted

from tapeline.core.errors import ConfigurationError, DataError
from tapeline.models.ensemble import Ensemble, Target
from tapeline.models.out_of_fold import Members, Scheme
from tapeline.models.pooling import Pool, fit_linear_pool

Array = npt.NDArray[np.float64]


class HybridEnsemble(Ensemble):
    """A weighted mean of members of any kind, with weights of its own for each regime.

    Global weights minimise the log loss of out-of-fold probabilities, by default of a walk-forward: each made by a
    member that knew the past alone. Each regime's weights minimise it over the regime's rows, where ``shrinkage`` rows
    speak for the global ones: a regime seen in few rows is gated as all are. A regime that was not seen in training,
    or that is NaN, has the global weights.

    A net is a member as any other: what it needs beside (an imputer, a scaler) is a step of its pipeline.

    Parameters
    ----------
    members:
        (name, classifier) pairs.
    regime:
        The column of X that tells the regime, by position, or by name where X is a frame. It must be known at the
        decision, as every feature: a filtered state, not one smoothed over the whole series.
    edges:
        Rising borders that cut the column into regimes 0, 1, ... (a value at a border belongs above it); or into how
        many parts of equal mass of the training rows; None where the column holds whole numbers already.
    shrinkage:
        How many rows' worth of evidence a regime needs to leave the global weights.
    prior_rows:
        The same for the global weights, against equality.
    scheme, folds, embargo:
        Of :func:`tapeline.models.out_of_fold.inner_folds`.

    Attributes
    ----------
    weights_:
        Name to global share.
    gates_:
        Regime to name to share.
    edges_:
        The borders, or None.

    Examples
    --------
    >>> import pandas as pd
    >>> from tapeline.models.rule_member import RuleMember
    >>> def member(probability):
    ...     condition = {"column": "x", "comparison": "above", "value": 0.0}
    ...     return RuleMember([{"conditions": [condition], "probability": probability}], columns=("x", "regime"))
    >>> regime = np.repeat([0.0, 1.0, 0.0, 1.0], 50)
    >>> rows, t0 = np.column_stack([np.ones(200), regime]), pd.date_range("2017-01-02", periods=200, freq="1h")
    >>> happened = np.where(np.arange(200) % 5 < 4, 1 - regime, regime)
    >>> hybrid = HybridEnsemble([("up", member(0.8)), ("down", member(0.2))], regime=1, shrinkage=1.0, folds=4)
    >>> hybrid.fit(rows, happened, t0=t0, t_end=t0).predict_proba([[1, 0], [1, 1]])[:, 1].round(1).tolist()
    [0.8, 0.2]
    """

    kind = "hybrid"

    def __init__(
        self,
        members: Members,
        *,
        regime: int | str = 0,
        edges: Sequence[float] | int | None = None,
        shrinkage: float = 50.0,
        prior_rows: float = 10.0,
        scheme: Scheme = "walk_forward",
        folds: int = 5,
        embargo: float = 0.01,
    ) -> None:
        self.members = members
        self.regime = regime
        self.edges = edges
        self.shrinkage = shrinkage
        self.prior_rows = prior_rows
        self.scheme = scheme
        self.folds = folds
        self.embargo = embargo

    def plan(self) -> dict[str, Any]:
        """As :meth:`Ensemble.plan`, with the regime's column, its borders, and each regime's weights."""
        check_is_fitted(self, "members_")
        return {
            **super().plan(),
            "regime": self.regime if isinstance(self.regime, str) else int(self.regime),
            "edges": None if self.edges_ is None else list(self.edges_),
            "gates": [[regime, list(shares.values())] for regime, shares in self.gates_.items()],
        }

    @classmethod
    def from_plan(cls, members: Mapping[str, Any], plan: Mapping[str, Any]) -> Self:
        """As :meth:`Ensemble.from_plan`."""
        made = super().from_plan(members, plan)
        names = list(made.members_)
        column, edges, gates = plan.get("regime"), plan.get("edges"), plan.get("gates")
        if not isinstance(column, int | str) or isinstance(column, bool):
            raise DataError("the plan of a hybrid ensemble lacks its regime's column")
        try:
            made.edges_ = None if edges is None else _rising(edges)
            made.gates_ = {}
            for regime, shares in gates or ():
                if not isinstance(regime, int) or isinstance(regime, bool):
                    raise DataError(f"a gate of this plan is for the regime {regime!r}, no whole number")
                pool = Pool("linear", tuple(map(float, shares)))
                made.gates_[regime] = dict(zip(names, pool.weights, strict=True))
        except (TypeError, ValueError, OverflowError, ConfigurationError) as error:
            raise DataError(f"the gates of this plan are none: {type(error).__name__}: {error}") from error
        made.regime, made.edges = column, made.edges_
        made.weights_ = dict(zip(names, made.pool_.weights, strict=True))
        return made

    def regimes(self, X: Any) -> Array:  # noqa: N803 - scikit-learn's name
        """The regime of each row as a whole number, NaN where it is not known."""
        column = self._column(X)
        values = np.where(np.isfinite(column), column, np.nan)
        if self.edges_ is None:
            return values
        return np.where(np.isnan(values), np.nan, np.searchsorted(self.edges_, values, side="right"))

    def _learn(self, X: Any, y: Target, weight: Array | None, t0: Any, t_end: Any) -> None:  # noqa: N803
        if not self.shrinkage > 0:
            raise ConfigurationError(f"shrinkage = {self.shrinkage} is not above 0")
        self.edges_ = self._edges(self._column(X))
        regime = self.regimes(X)
        known = regime[~np.isnan(regime)]
        if (known != np.round(known)).any():
            raise DataError(
                f"the regime's column {self.regime!r} holds {known[known != np.round(known)][0]}, no whole number",
                hint="give edges=, numbers or a count of parts, to cut a continuous column into regimes",
            )
        said, rows = self._unseen(X, y, weight, t0, t_end, self.scheme, self.folds, self.embargo)
        counted = np.ones(rows.size) if weight is None else weight[rows]
        target, regime = y[rows], regime[rows]
        share = fit_linear_pool(said, target, counted, prior_rows=self.prior_rows)
        self.weights_ = self._named(share)
        self.pool_ = Pool("linear", tuple(map(float, share)))
        self.gates_: dict[int, dict[str, float]] = {}
        for value in np.unique(regime[~np.isnan(regime)]):
            inside = regime == value
            gate = fit_linear_pool(
                said[inside], target[inside], counted[inside], prior=share, prior_rows=self.shrinkage
            )
            self.gates_[int(value)] = self._named(gate)

    def _combine(self, probability: Array, X: Any) -> Array:  # noqa: N803
        pooled = self.pool_.apply(probability)
        regime = self.regimes(X)
        for value, shares in self.gates_.items():
            inside = regime == value
            if inside.any():
                pooled[inside] = Pool("linear", tuple(shares.values())).apply(probability[inside])
        return pooled

    def _column(self, X: Any) -> Array:  # noqa: N803
        if isinstance(self.regime, str):
            if not hasattr(X, "columns") or self.regime not in X.columns:
                raise ConfigurationError(
                    f"X has no column called '{self.regime}'", hint="give the position of the regime's column"
                )
            return np.asarray(X[self.regime], dtype=np.float64)
        values = np.asarray(X)
        if values.ndim != 2 or not 0 <= self.regime < values.shape[1]:
            raise ConfigurationError(f"regime = {self.regime} is no column of X, shape {values.shape}")
        return np.asarray(values[:, self.regime], dtype=np.float64)

    def _edges(self, values: Array) -> tuple[float, ...] | None:
        if self.edges is None:
            return None
        if not isinstance(self.edges, Integral):
            return _rising(self.edges)
        parts = int(self.edges)
        if parts < 2:
            raise ConfigurationError(f"edges = {parts} parts make no regimes", hint="at least 2")
        known = values[np.isfinite(values)]
        if not known.size:
            raise DataError("the regime's column is not finite in any training row")
        return _rising(np.unique(np.quantile(known, np.arange(1, parts) / parts)))


def _rising(edges: Any) -> tuple[float, ...]:
    borders = np.asarray(edges, dtype=np.float64)
    if borders.ndim != 1 or not borders.size or not np.isfinite(borders).all() or (np.diff(borders) <= 0).any():
        raise ConfigurationError(f"edges = {edges!r} are not rising numbers")
    return tuple(map(float, borders))
