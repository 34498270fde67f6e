"""Early stopping for boosted trees: how many rounds help on rows later than those that were learnt from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from tapeline.core.errors import ConfigurationError, DataError
from tapeline.models.validation import time_holdout

if TYPE_CHECKING:
    from tapeline.models.pipeline import WeightedPipeline
    from tapeline.models.training_rows import TrainingRows

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class EarlyStopping:
    """When to stop adding trees.

    Parameters
    ----------
    share:
        The latest share of the training rows, which judges the trees grown on the others.
    patience:
        After so many rounds without a smaller loss no more are grown.
    maximum:
        No more rounds than this.

    Examples
    --------
    >>> EarlyStopping(share=1.5)
    Traceback (most recent call last):
    ...
    tapeline.core.errors.ConfigurationError: early stopping: share = 1.5 is not in (0, 1)
    """

    share: float = 0.2
    patience: int = 30
    maximum: int = 500

    def __post_init__(self) -> None:
        if not 0 < self.share < 1:
            raise ConfigurationError(f"early stopping: share = {self.share} is not in (0, 1)")
        for name in ("patience", "maximum"):
            if getattr(self, name) < 1:
                raise ConfigurationError(f"early stopping: {name} = {getattr(self, name)} is below 1")


@dataclass(frozen=True)
class Stopped:
    """What early stopping found.

    Parameters
    ----------
    rounds:
        The number with the smallest loss.
    losses:
        Weighted log loss on the validation rows after each round, the last ones of ``patience`` included.
    training_rows, purged_rows, validation_rows:
        How many learnt, how many were left out since their label was not known when validation began, how many judged.
    """

    rounds: int
    losses: tuple[float, ...]
    training_rows: int
    purged_rows: int
    validation_rows: int


def stop_early(pipeline: WeightedPipeline, rows: TrainingRows) -> Stopped:
    """Find the number of rounds of a pipeline of boosted trees.

    A clone of the whole pipeline, its filter, selector and scaler included, is fitted on the earlier rows whose labels
    were known before the first validation row was decided, so that the validation rows are as new to it as test rows
    will be. The caller's pipeline is not touched.

    Raises
    ------
    ConfigurationError
        Label intervals were not given.
    DataError
        Too few rows are left on one side, or the earlier rows lack a class that the later ones have.
    """
    from sklearn.base import clone

    stopping = pipeline.early_stopping
    if stopping is None:
        raise ConfigurationError("this pipeline has no early stopping to do")
    if rows.t0 is None:
        raise ConfigurationError(
            "early stopping needs the label intervals t0 and t_end of the rows",
            hint="pass them to fit: a validation row must be later than all that was learnt from, and share no label",
        )
    early, late = time_holdout(rows.t0, rows.t_end, stopping.share)
    training, validation = rows.take(early), rows.take(late)
    if not np.isin(validation.y, training.y).all():
        raise DataError(
            f"the {len(training)} rows before the validation rows lack a class that those have",
            hint="ask for a longer range, or give early stopping a smaller share",
        )
    probe = clone(pipeline).set_params(early_stopping=None)
    probe.grow(training, validation, stopping)
    losses = validation_losses(probe[-1])
    return Stopped(
        rounds=int(np.argmin(losses)) + 1,
        losses=tuple(losses),
        training_rows=len(training),
        purged_rows=len(rows) - len(training) - len(validation),
        validation_rows=len(validation),
    )


def fit_validated(
    model: Any, rows: Any, target: Any, weight: Floats | None, later: TrainingRows, stopping: EarlyStopping
) -> None:
    """Fit a booster of LightGBM or XGBoost while later rows, transformed as its own are, judge each round."""
    weights = None if later.weight is None else [later.weight]
    model.set_params(n_estimators=stopping.maximum)
    if type(model).__module__.startswith("lightgbm"):
        from lightgbm import early_stopping

        model.fit(
            rows,
            target,
            sample_weight=weight,
            eval_X=later.X,
            eval_y=later.y,
            eval_sample_weight=weights,
            eval_metric="logloss",
            callbacks=[early_stopping(stopping.patience, verbose=False)],
        )
        return
    model.set_params(early_stopping_rounds=stopping.patience)
    model.fit(
        rows, target, sample_weight=weight, eval_set=[(later.X, later.y)], sample_weight_eval_set=weights, verbose=False
    )


def validation_losses(model: Any) -> list[float]:
    """The loss on the validation rows after each round, of a booster of LightGBM or XGBoost."""
    evaluated = model.evals_result_ if hasattr(model, "evals_result_") else model.evals_result()
    (losses,) = next(iter(evaluated.values())).values()
    return [float(loss) for loss in losses]
