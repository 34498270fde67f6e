"""The estimators, each a scikit-learn pipeline with one contract: ``fit(X, y, sample_weight)``, ``predict_proba(X)``.

Whatever is learnt from data, the choice of columns included, is a step of the pipeline, so that cross-validation fits
it inside the fold. This module imports scikit-learn; import it where it is used.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal, Self

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, TransformerMixin

from tapeline.core.errors import DataError
from tapeline.models.boosting import EarlyStopping
from tapeline.models.column_map import ScalingKind
from tapeline.models.monotone import Directions
from tapeline.models.pipeline import WeightedPipeline
from tapeline.models.zoo import ability, family

DEFAULT_PARAMETERS: Final[Mapping[str, Any]] = family("lightgbm").defaults
"""Where the search for LightGBM's parameters begins: small trees, for returns carry little signal in much noise."""

CELLS_PER_THREAD: Final = 1_000_000


class ColumnFilter(TransformerMixin, BaseEstimator):
    """Keep the columns that vary in the rows it was fitted on; drop those that are constant or all missing.

    A column that is empty in a fold's training rows (a long warm-up) teaches nothing there, and one that is constant
    there but not in the test rows would make a linear model extrapolate.

    Examples
    --------
    >>> ColumnFilter().fit([[1.0, 2.0, float("nan")], [1.0, 3.0, float("nan")]]).kept_.tolist()
    [1]
    """

    def fit(self, X: npt.ArrayLike, y: Any = None) -> Self:  # noqa: N803 - scikit-learn's name
        """Find the columns that vary; DataError where none does."""
        values = np.asarray(X, dtype=np.float32)
        missing = np.isnan(values)
        lowest = np.where(missing, np.inf, values).min(axis=0)
        highest = np.where(missing, -np.inf, values).max(axis=0)
        self.kept_ = np.flatnonzero(highest > lowest)
        self.n_features_in_ = values.shape[1]
        if not self.kept_.size:
            raise DataError(
                f"none of {values.shape[1]} features varies over {len(values)} training rows",
                hint="ask for a longer range, so that training begins after the warm-up",
            )
        return self

    def transform(self, X: npt.ArrayLike) -> npt.NDArray[np.float32]:  # noqa: N803
        """The kept columns as float32."""
        return np.asarray(X, dtype=np.float32)[:, self.kept_]

    def get_feature_names_out(self, input_features: Any = None) -> npt.NDArray[Any]:
        """The names of the kept columns."""
        names = input_features if input_features is not None else [f"x{i}" for i in range(self.n_features_in_)]
        return np.asarray(names, dtype=object)[self.kept_]


def build_estimator(
    kind: str = "lightgbm",
    *,
    seed: int = 0,
    threads: int = 1,
    parameters: Mapping[str, Any] | None = None,
    scaling: ScalingKind | Literal["none"] | None = None,
    selector: Any = None,
    early_stopping: EarlyStopping | None = None,
    monotone: Directions | None = None,
    balance: bool = False,
    column_names: Sequence[str] | None = None,
) -> WeightedPipeline:
    """An unfitted, cloneable classifier.

    Parameters
    ----------
    kind:
        The name of a family of :mod:`tapeline.models.zoo`.
    seed, threads:
        Of the families with chance; the same two give the same bits.
    parameters:
        The family's, over its defaults.
    scaling:
        A kind of :class:`tapeline.models.scaling.Scaler`, or ``none``; where absent, what the family states: trees,
        which see only the order of values, get none, linear models ``standard``.
    selector:
        A transformer that chooses columns, such as those of ``tapeline.models.selection_*``; a step of the pipeline,
        so that it is fitted inside the fold. What its ``fit`` needs beside rows and target is passed as
        ``select__<name>``.
    early_stopping:
        Find the number of trees of ``lightgbm`` or ``xgboost`` on the latest of the training rows, then fit on all of
        them; ``fit`` needs ``t0`` and ``t_end``.
    monotone:
        By name or position of a column, 1 where the probability may not fall as the column rises, -1 where it may not
        rise. Positions are those of the rows that ``fit`` gets, whatever filter and selector drop.
    balance:
        Give all classes the same mass of weight in training; calibrate afterwards.
    column_names:
        Names of the columns, where the rows are no frame.

    Raises
    ------
    ConfigurationError
        The kind or a parameter is unknown, or the family cannot do what is asked for.
    MissingExtraError
        The family's package is not installed; the hint names the extra that brings it.

    Examples
    --------
    >>> features = np.array([[0.0], [0.1], [0.9], [1.0]] * 30, dtype=np.float32)
    >>> model = build_estimator("logistic").fit(features, [0, 0, 1, 1] * 30)
    >>> (model.predict_proba(features)[:4, 1] > 0.5).tolist()
    [False, False, True, True]
    """
    chosen = family(kind)
    if early_stopping is not None:
        ability(kind, "rounds")
    if monotone:
        ability(kind, "monotone")
    steps: list[tuple[str, Any]] = []
    if not chosen.reads_rows:
        steps = [
            ("columns", ColumnFilter()),
            *_selection(selector),
            *_complete(chosen.needs_complete),
            *_scaling(scaling or chosen.scaling),
        ]
    return WeightedPipeline(
        [*steps, ("model", chosen.build(seed, threads, parameters))],
        kind=kind,
        early_stopping=early_stopping,
        monotone=None if monotone is None else dict(monotone),
        balance=balance,
        column_names=None if column_names is None else tuple(column_names),
    )


def _complete(needed: bool) -> list[tuple[str, Any]]:
    if not needed:
        return []
    from sklearn.impute import SimpleImputer

    return [("missing", SimpleImputer(strategy="median"))]


def _selection(selector: Any) -> list[tuple[str, Any]]:
    return [] if selector is None else [("select", selector)]


def _scaling(kind: ScalingKind | Literal["none"]) -> list[tuple[str, Any]]:
    if kind == "none":
        return []
    from tapeline.models.scaling import Scaler

    return [("scale", Scaler(kind))]


def useful_threads(cells: int, maximum: int) -> int:
    """How many threads a fit of so many cells (rows times columns) is worth: on a small one they wait for each other.

    A function of the data's shape and of the setting only, so that the same data gives the same trees anywhere.

    Examples
    --------
    >>> useful_threads(5_000 * 50, 8), useful_threads(100_000 * 50, 8)
    (1, 5)
    """
    return max(1, min(maximum, cells // CELLS_PER_THREAD))


def probability_up(estimator: Any, X: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:  # noqa: N803
    """The probability of class 1 for each row, as one float64 vector."""
    classes = list(estimator.classes_)
    if 1 not in classes:
        return np.zeros(len(X))
    return np.asarray(estimator.predict_proba(X), dtype=np.float64)[:, classes.index(1)]
