"""One trial: a family with its parameters fitted on every fold, scored on rows that no fit saw, and stopped if bad."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from tapeline.core.errors import DataError
from tapeline.core.settings import CostSettings, TrainingSettings
from tapeline.evaluation.metrics import log_loss, sharpe_ratio
from tapeline.evaluation.trades import simulate
from tapeline.models.dataset import Dataset
from tapeline.models.search import ORIGIN, OUTCOME, Draw, Plan, draw, vacant_slot
from tapeline.models.zoo import family as find_family

if TYPE_CHECKING:
    import optuna

    from tapeline.models.binned import BinnedDataset

Progress = Callable[[str], None]
Fold = tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]

SESSION: Final = "session"
"""The attribute of a study that names the run it belongs to now."""

ALL_ROWS: Final = slice(None)
DAY_NANOSECONDS: Final = 86_400 * 10**9


@dataclass(frozen=True)
class TrialRecord:
    """What is known of one finished trial.

    Parameters
    ----------
    slot:
        Its number in the study, from 0; a trial repeated after a kill keeps it.
    family, parameters:
        What was fitted.
    state:
        ``complete`` or ``pruned``.
    value:
        Weighted log loss over all folds, or over those before pruning.
    losses:
        The log loss of each fold that was run.
    sharpe, trades:
        Sharpe ratio of one trade after costs, and number of trades, out of fold; NaN and 0 where pruned.
    seconds:
        How long it took, by the clock.
    """

    slot: int
    family: str
    parameters: dict[str, Any]
    state: str
    value: float
    losses: tuple[float, ...]
    sharpe: float
    trades: int
    seconds: float


class FoldModels:
    """Fits families on the training rows of folds; LightGBM's rows are binned once for all of them.

    Parameters
    ----------
    dataset:
        The development rows.
    folds:
        Training and test positions of each fold.
    training:
        ``seed``, ``threads``, ``scaling``; ``strict_bins`` bins each fold's training rows anew, see
        :class:`tapeline.models.binned.BinnedDataset`.
    """

    def __init__(self, dataset: Dataset, folds: Sequence[Fold], training: TrainingSettings) -> None:
        self.dataset = dataset
        self.folds = folds
        self._training = training
        self._binned: BinnedDataset | None = None

    def estimator(self, family: str, parameters: dict[str, Any]) -> Any:
        """The unfitted pipeline of a family, at the run's seed, threads and scaling."""
        from tapeline.models.estimator import build_estimator, useful_threads

        training = self._training
        own = {name: getattr(training, name) for name in find_family(family).settings}
        return build_estimator(
            family,
            seed=training.seed,
            threads=useful_threads(self.dataset.X.size, training.threads),
            parameters={**own, **parameters},
            scaling=None if training.scaling == "none" else training.scaling,
        )

    def predict(self, family: str, parameters: dict[str, Any], fold: int) -> npt.NDArray[np.float64]:
        """Fit on a fold's training rows; the probability of class 1 for its test rows."""
        from tapeline.models.estimator import probability_up

        train, test = self.folds[fold]
        data, estimator = self.dataset, self.estimator(family, parameters)
        if family == "lightgbm" and self._training.scaling == "none" and not self._training.strict_bins:
            booster = self._bins(estimator[-1]).fit(train, estimator[-1])
            threads = estimator[-1].get_params()["n_jobs"]
            return np.asarray(booster.predict(data.X[test], num_threads=threads), dtype=np.float64)
        self.fit(estimator, train)
        return probability_up(estimator, data.X[test])

    def fit(self, estimator: Any, rows: npt.NDArray[np.intp] | slice = ALL_ROWS) -> Any:
        """Fit a pipeline on rows, with their weights and label intervals."""
        data = self.dataset
        return estimator.fit(data.X[rows], data.y[rows], data.weight[rows], t0=data.t0[rows], t_end=data.t_end[rows])

    def out_of_fold(self, family: str, parameters: dict[str, Any]) -> npt.NDArray[np.float64]:
        """The probability of each row by the fold that was not trained on it; NaN in rows that no fold tests."""
        predicted = np.full(len(self.dataset), np.nan)
        for number, (_, test) in enumerate(self.folds):
            predicted[test] = self.predict(family, parameters, number)
        return predicted

    def _bins(self, model: Any) -> BinnedDataset:
        from tapeline.models.binned import BinnedDataset

        if self._binned is None:
            data = self.dataset
            self._binned = BinnedDataset(data.X, data.y, data.weight, model)
        return self._binned


def run_trial(
    study: optuna.Study,
    drawn: Draw,
    models: FoldModels,
    *,
    costs: CostSettings,
    returns: Path,
    label: str,
    progress: Progress,
) -> None:
    """Fit and score a drawn trial fold by fold, report each, and end it in the study's storage.

    The returns of its out-of-fold trades are written below ``returns`` before the study hears that it is complete, so
    that a complete trial always has them.
    """
    dataset, folds, trial = models.dataset, models.folds, drawn.trial
    started = perf_counter()
    total = mass = 0.0
    losses: list[float] = []
    predicted = np.full(len(dataset), np.nan)
    pruned = False
    for number, (_, test) in enumerate(folds):
        predicted[test] = models.predict(drawn.family, drawn.parameters, number)
        weight = dataset.weight[test]
        losses.append(log_loss(dataset.y[test], predicted[test], weight))
        total += losses[-1] * weight.sum()
        mass += weight.sum()
        if not math.isfinite(total):
            raise DataError(
                f"the log loss of {drawn.family} on fold {number} is {losses[-1]}",
                hint="all weights of the fold's test rows are 0, or the model gave something that is no probability",
            )
        # Told before it is written: whoever listens may be gone, and then nothing more may be written.
        progress(f"{label}, fold {number + 1} of {len(folds)}, log loss {total / mass:.4f}")
        trial.report(total / mass, number)
        if number + 1 < len(folds) and trial.should_prune():
            pruned = True
            break
    sharpe, trades = math.nan, 0
    if not pruned:
        net = out_of_fold_trades(dataset, predicted, costs)
        sharpe, trades = sharpe_ratio(net["net"]), len(net)
        _write_returns(returns / f"{drawn.slot:05d}.npy", daily_returns(dataset, net))
    outcome = {
        "losses": losses,
        "sharpe": None if math.isnan(sharpe) else sharpe,
        "trades": trades,
        "seconds": perf_counter() - started,
    }
    trial.set_user_attr(OUTCOME, outcome)
    from optuna.trial import TrialState

    if pruned:
        study.tell(trial, state=TrialState.PRUNED)
        progress(f"{label} pruned")
    else:
        study.tell(trial, total / mass)


def run_trials(
    study: optuna.Study,
    plan: Plan,
    models: FoldModels,
    *,
    lock: AbstractContextManager[Any],
    session: str,
    owner: str,
    costs: CostSettings,
    returns: Path,
    progress: Progress,
    on_finished: Callable[[int], None],
) -> None:
    """Take slot after slot until the study's budget is spent; several processes may do so at once.

    Parameters
    ----------
    lock:
        Held while a slot is taken, by all processes of the study.
    session:
        Of the run that started this process; where the study belongs to a later one, nothing more is begun.
    owner:
        Written into each trial, so that those of a killed process are found.
    on_finished:
        Called with the slot of each finished trial.
    """
    while True:
        with lock:
            slot = vacant_slot(study, plan) if study.user_attrs.get(SESSION) == session else None
            if slot is None:
                return
            drawn = draw(study, plan, slot, owner=owner)
        label = f"tune: trial {slot + 1} of {plan.budget}"
        run_trial(study, drawn, models, costs=costs, returns=returns, label=label, progress=progress)
        on_finished(slot)


def record_of(trial: Any) -> TrialRecord:
    """The record of one of Optuna's finished trials."""
    origin, outcome = trial.user_attrs[ORIGIN], trial.user_attrs[OUTCOME]
    steps = trial.intermediate_values
    return TrialRecord(
        slot=int(origin["slot"]),
        family=str(origin["family"]),
        parameters=dict(origin["parameters"]),
        state=trial.state.name.lower(),
        value=float(trial.value if trial.state.name == "COMPLETE" else steps[max(steps)]),
        losses=tuple(map(float, outcome["losses"])),
        sharpe=math.nan if outcome["sharpe"] is None else float(outcome["sharpe"]),
        trades=int(outcome["trades"]),
        seconds=float(outcome["seconds"]),
    )


def out_of_fold_trades(dataset: Dataset, probability: npt.NDArray[np.float64], costs: CostSettings) -> pd.DataFrame:
    """The trades that out-of-fold probabilities lead to, after costs; rows without a probability make none."""
    side = np.where(probability > 0.5, 1, np.where(probability < 0.5, -1, 0)).astype(np.int8)
    return simulate(dataset.frame.assign(side=side), costs)


def daily_returns(dataset: Dataset, trades: pd.DataFrame) -> npt.NDArray[np.float32]:
    """Net return of each UTC day that the dataset spans, by the day a trade left; 0 on days without one.

    The same dataset gives the same days for every trial, so that the trials' returns make a matrix.
    """
    first, last = _days(dataset)
    day = pd.DatetimeIndex(trades["t_end"]).as_unit("ns").asi8 // DAY_NANOSECONDS - first
    return np.bincount(day, weights=trades["net"].to_numpy(), minlength=last - first + 1).astype(np.float32)


def return_matrix(dataset: Dataset, folder: Path, slots: Sequence[int]) -> pd.DataFrame:
    """The stored daily returns of complete trials: index ``day`` (UTC), one float32 column a slot."""
    first, last = _days(dataset)
    index = pd.DatetimeIndex(pd.to_datetime(np.arange(first, last + 1) * DAY_NANOSECONDS, unit="ns", utc=True))
    columns = {f"trial_{slot}": np.load(folder / f"{slot:05d}.npy", allow_pickle=False) for slot in slots}
    return pd.DataFrame(columns, index=index.rename("day"))


def _days(dataset: Dataset) -> tuple[int, int]:
    ends = dataset.t_end.as_unit("ns").asi8
    return int(ends.min()) // DAY_NANOSECONDS, int(ends.max()) // DAY_NANOSECONDS


def _write_returns(path: Path, returns: npt.NDArray[np.float32]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    half = path.with_name(f".{path.name}.{os.getpid()}")
    with half.open("wb") as file:
        np.save(file, returns, allow_pickle=False)
    half.replace(path)
