"""The pipeline that every model of the zoo is: one ``fit`` for weights, label intervals, and what a family allows.

This module imports scikit-learn; import it where it is used.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from inspect import signature
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.pipeline import Pipeline

from tapeline.core.errors import DataError
from tapeline.models.boosting import EarlyStopping, fit_validated, stop_early
from tapeline.models.monotone import Directions, positioned, surviving
from tapeline.models.training_rows import TrainingRows, balancing_factors, training_rows
from tapeline.models.zoo import ability


class WeightedPipeline(Pipeline):
    """A pipeline whose ``fit`` takes weights and label intervals and hands them to the steps that know them.

    Parameters
    ----------
    steps:
        Name and estimator of each step, the model last.
    kind:
        The model's family; needed for what follows.
    early_stopping:
        How the number of rounds is found, of boosted families; see :func:`tapeline.models.boosting.stop_early`.
    monotone:
        Directions by name or position of the columns of ``X``; they follow the columns through filter and selector.
    balance:
        Whether all classes get the same mass of weight; see
        :func:`tapeline.models.training_rows.balancing_factors`.
    column_names:
        Names of the columns of ``X``, where it is no frame.
    transform_input, memory, verbose:
        As in scikit-learn's ``Pipeline``.

    Attributes
    ----------
    stopped_:
        What early stopping found, where it was asked for.
    """

    def __init__(
        self,
        steps: list[tuple[str, Any]],
        *,
        kind: str | None = None,
        early_stopping: EarlyStopping | None = None,
        monotone: Directions | None = None,
        balance: bool = False,
        column_names: Sequence[str] | None = None,
        transform_input: Any = None,
        memory: Any = None,
        verbose: bool = False,
    ) -> None:
        super().__init__(steps, transform_input=transform_input, memory=memory, verbose=verbose)
        self.kind = kind
        self.early_stopping = early_stopping
        self.monotone = monotone
        self.balance = balance
        self.column_names = column_names

    def fit(
        self,
        X: Any,  # noqa: N803 - scikit-learn's name
        y: Any = None,
        sample_weight: npt.ArrayLike | None = None,
        *,
        t0: Any = None,
        t_end: Any = None,
        **parameters: Any,
    ) -> Self:
        """Fit every step on these rows only.

        Parameters
        ----------
        X, y, sample_weight:
            Rows, labels, weights. A row of weight 0 is left out of every step.
        t0, t_end:
            Label intervals, for early stopping and for each step whose ``fit`` takes them: selectors on folds, forests
            that mind uniqueness. In scikit-learn's cross-validation pass them as ``params={"t0": ..., "t_end": ...}``.
        parameters:
            ``<step>__<name>``, for one step.

        Raises
        ------
        DataError
            Rows, labels, weights and intervals do not belong together.
        ConfigurationError
            What was asked for is none of the family's, or needs intervals that were not given.
        """
        rows = training_rows(X, y, sample_weight, t0, t_end, parameters)
        changes: dict[str, Any] = {}
        if self.early_stopping is not None:
            rounds = ability(self.kind, "rounds")
            self.stopped_ = stop_early(self, rows)
            changes[rounds] = self.stopped_.rounds
        self.grow(rows, changes=changes)
        return self

    def grow(
        self,
        rows: TrainingRows,
        later: TrainingRows | None = None,
        stopping: EarlyStopping | None = None,
        changes: dict[str, Any] | None = None,
    ) -> None:
        """Fit every step; where ``later`` rows are given, they judge each round of the model."""
        if self.balance:
            factors = balancing_factors(rows.y, rows.weight)
            rows = rows.balanced(factors)
            later = None if later is None else later.balanced(factors)
        values = rows.X
        if len(self.steps) > 1:
            before_model = self[:-1]
            given = {
                f"{name}__{key}": value
                for name, step in before_model.steps
                for key, value in self._given(name, step, rows).items()
            }
            values = before_model.fit_transform(values, rows.y, **given)
            self.steps[:-1] = before_model.steps
            later = None if later is None else replace(later, X=before_model.transform(later.X))
        name, model = self.steps[-1]
        given = self._given(name, model, rows)
        if rows.weight is not None:
            given["sample_weight"] = rows.weight
        decided = {**(changes or {}), **self._directions(rows)}
        # A fit leaves the parameters of an estimator as they were: a clone of it must not inherit what one fold found.
        before = {key: value for key, value in model.get_params(deep=False).items() if key in decided}
        model.set_params(**decided)
        try:
            if later is None or stopping is None:
                model.fit(values, rows.y, **given)
            else:
                fit_validated(model, values, rows.y, rows.weight, later, stopping)
        finally:
            model.set_params(**{key: before.get(key) for key in decided})

    def _given(self, name: str, step: Any, rows: TrainingRows) -> dict[str, Any]:
        prefix = f"{name}__"
        given = {key.removeprefix(prefix): value for key, value in rows.parameters.items() if key.startswith(prefix)}
        if rows.t0 is not None and hasattr(step, "fit") and {"t0", "t_end"} <= set(signature(step.fit).parameters):
            given = {"t0": rows.t0, "t_end": rows.t_end, **given}
        return given

    def _directions(self, rows: TrainingRows) -> dict[str, Any]:
        if not self.monotone:
            return {}
        parameter = ability(self.kind, "monotone")
        if np.unique(rows.y).size > 2:
            raise DataError("directions are of the probability of one class among two, the rows hold more")
        names = list(rows.X.columns) if isinstance(rows.X, pd.DataFrame) else self.column_names
        directions = positioned(self.monotone, np.shape(rows.X)[1], names)
        kept = surviving(directions, self.steps[:-1])
        return {parameter: f"({','.join(map(str, kept))})" if self.kind == "xgboost" else kept}
