"""Out-of-fold probabilities: what each member says of rows that it was not trained on and shares no label with.

This module imports scikit-learn; import it where it is used.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.base import clone
from sklearn.utils.validation import has_fit_parameter

from tapeline.core.errors import ConfigurationError, DataError
from tapeline.models.estimator import probability_up
from tapeline.models.validation import PurgedKFold, PurgedWalkForward

Array = npt.NDArray[np.float64]
Rows = npt.NDArray[np.intp]
Members = Sequence[tuple[str, Any]]
Scheme = Literal["purged", "walk_forward"]


@dataclass(frozen=True)
class OutOfFold:
    """The members' probabilities of class 1 on rows they had not seen.

    Parameters
    ----------
    probability:
        Shape (rows, members); NaN in rows that no fold tests, such as the first block of a walk-forward.
    fold:
        The number of the fold that tested each row, -1 where none did.
    """

    probability: Array
    fold: Rows

    @property
    def rows(self) -> Rows:
        """The positions of the rows that were tested."""
        return np.flatnonzero(self.fold >= 0)


def inner_folds(
    t0: npt.ArrayLike | None,
    t_end: npt.ArrayLike | None,
    rows: int,
    *,
    scheme: Scheme = "purged",
    folds: int = 5,
    embargo: float = 0.01,
) -> list[tuple[Rows, Rows]]:
    """(training rows, test rows) that no label interval crosses.

    ``purged`` is :class:`tapeline.models.validation.PurgedKFold`: every row is tested, by models of the past and the
    future. ``walk_forward`` is :class:`tapeline.models.validation.PurgedWalkForward`: models of the past alone, and the
    first block is never tested.

    Raises
    ------
    ConfigurationError
        The label intervals are absent, or the scheme is unknown.

    Examples
    --------
    >>> t0 = pd.date_range("2017-01-02", periods=6, freq="1h", tz="UTC")
    >>> [test.tolist() for _, test in inner_folds(t0, t0, 6, scheme="walk_forward", folds=3)]
    [[2, 3], [4, 5]]
    """
    begin, end = label_intervals(t0, t_end)
    if scheme not in ("purged", "walk_forward"):
        raise ConfigurationError(f"no scheme of inner folds is called {scheme!r}", hint="purged or walk_forward")
    splitter = (
        PurgedKFold(begin, end, folds=folds, embargo=embargo)
        if scheme == "purged"
        else PurgedWalkForward(begin, end, folds=folds)
    )
    return list(splitter.split(np.empty(rows)))


def out_of_fold(
    members: Members,
    X: Any,  # noqa: N803 - scikit-learn's name
    y: npt.ArrayLike,
    folds: Iterable[tuple[Rows, Rows]],
    *,
    sample_weight: npt.ArrayLike | None = None,
    t0: npt.ArrayLike | None = None,
    t_end: npt.ArrayLike | None = None,
) -> OutOfFold:
    """Fit a clone of each member on each fold's training rows and let it speak of the test rows.

    Parameters
    ----------
    members:
        (name, unfitted classifier) pairs; they are cloned, never changed.
    X, y:
        Rows and their class, 0 or 1.
    folds:
        From :func:`inner_folds`; test rows are disjoint.
    sample_weight, t0, t_end:
        Of the rows; the intervals reach members that are ensembles themselves.

    Raises
    ------
    DataError
        A fold's training rows hold one class, a row is tested twice, or a member's probability is not one.

    Examples
    --------
    >>> from tapeline.models.estimator import build_estimator
    >>> t0 = pd.date_range("2017-01-02", periods=8, freq="1h", tz="UTC")
    >>> rows, happened = np.arange(8.0)[:, None], [0, 1, 0, 1, 0, 0, 0, 1]
    >>> found = out_of_fold([("base", build_estimator("majority"))], rows, happened,
    ...                     inner_folds(t0, t0, 8, folds=2, embargo=0))
    >>> found.probability[:, 0].tolist()
    [0.25, 0.25, 0.25, 0.25, 0.5, 0.5, 0.5, 0.5]
    """
    target = np.asarray(y)
    weight = None if sample_weight is None else np.asarray(sample_weight, dtype=np.float64)
    probability = np.full((target.size, len(members)), np.nan)
    fold = np.full(target.size, -1, dtype=np.intp)
    for number, (train, test) in enumerate(folds):
        if (fold[test] >= 0).any():
            raise DataError("the inner folds test a row twice", hint="use purged k-fold or walk-forward")
        if not both_classes(target[train], None if weight is None else weight[train]):
            raise DataError(
                f"the {train.size} training rows of inner fold {number} hold one class only",
                hint="use fewer folds or more data",
            )
        for column, (name, member) in enumerate(members):
            fitted = fit_member(
                name,
                member,
                take(X, train),
                target[train],
                sample_weight=None if weight is None else weight[train],
                t0=None if t0 is None else instants(t0)[train],
                t_end=None if t_end is None else instants(t_end)[train],
            )
            probability[test, column] = member_probability(name, fitted, take(X, test))
        fold[test] = number
    return OutOfFold(probability, fold)


def fit_member(
    name: str,
    member: Any,
    X: Any,  # noqa: N803
    y: npt.ArrayLike,
    *,
    sample_weight: npt.ArrayLike | None,
    t0: Any,
    t_end: Any,
) -> Any:
    """A fitted clone of a member, given what its ``fit`` takes: weights, and label intervals where it asks for them.

    Raises
    ------
    ConfigurationError
        There are weights, and the member takes none: to leave them out would not be the fit that was asked for.
    """
    made = clone(member)
    parameters: dict[str, Any] = {}
    if sample_weight is not None:
        if not has_fit_parameter(made, "sample_weight"):
            raise ConfigurationError(
                f"member '{name}' ({type(made).__name__}) takes no sample_weight",
                hint="put it into tapeline.models.estimator.WeightedPipeline, or choose a model that takes weights",
            )
        parameters["sample_weight"] = sample_weight
    if has_fit_parameter(made, "t0") and t0 is not None:
        parameters |= {"t0": t0, "t_end": t_end}
    return made.fit(X, y, **parameters)


def member_probability(name: str, fitted: Any, X: Any) -> Array:  # noqa: N803
    """A fitted member's probability of class 1, checked to be one for each row."""
    said = probability_up(fitted, X)
    if said.shape != (_length(X),) or not ((said >= 0) & (said <= 1)).all():
        raise DataError(f"member '{name}' gave something that is not a probability for each row")
    return said


def both_classes(target: npt.NDArray[Any], weight: Array | None) -> bool:
    """Whether there are rows of both classes that have weight."""
    return len(np.unique(target if weight is None else target[weight > 0])) == 2


def check_weights(weight: npt.ArrayLike | None) -> None:
    """DataError where a weight is negative or not finite."""
    if weight is not None and not (np.isfinite(weight) & (np.asarray(weight) >= 0)).all():
        raise DataError("a sample weight is negative or not finite")


def take(X: Any, rows: Rows) -> Any:  # noqa: N803
    """Rows by position, of an array or a frame."""
    return X.iloc[rows] if hasattr(X, "iloc") else np.asarray(X)[rows]


def label_intervals(t0: npt.ArrayLike | None, t_end: npt.ArrayLike | None) -> tuple[pd.DatetimeIndex, pd.DatetimeIndex]:
    """Both ends of the rows' labels; ConfigurationError where they were not given."""
    if t0 is None or t_end is None:
        raise ConfigurationError(
            "to learn from unseen rows takes the label intervals t0 and t_end of the rows",
            hint="call fit(X, y, t0=..., t_end=...); cross_val_score passes them as params={'t0': ..., 't_end': ...}",
        )
    return instants(t0), instants(t_end)


def instants(times: npt.ArrayLike) -> pd.DatetimeIndex:
    """Times as UTC instants; naive ones are taken for UTC."""
    index = pd.DatetimeIndex(np.asarray(times) if not isinstance(times, pd.Series | pd.Index) else times)
    return index.tz_localize("UTC") if index.tz is None else index.tz_convert("UTC")


def _length(X: Any) -> int:  # noqa: N803
    return int(X.shape[0]) if hasattr(X, "shape") else len(X)
