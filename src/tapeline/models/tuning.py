"""Hyperparameter search with Optuna: bounded, pruned over folds, and resumed where a killed run left off."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from tapeline.core.errors import ConfigurationError, DataError, TemporaryError
from tapeline.core.settings import TrainingSettings
from tapeline.core.versions import digest
from tapeline.evaluation.metrics import log_loss, sharpe_ratio
from tapeline.models.dataset import Dataset

if TYPE_CHECKING:
    import optuna

Progress = Callable[[str], None]
Fold = tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]

STARTUP_TRIALS: Final = 4
SPACE_VERSION: Final = 1
"""Raised whenever the search space or the objective changes, so that an old journal is not taken for this study."""

MODEL_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9%_.~-]{0,127}")


@dataclass(frozen=True)
class Tuning:
    """What the search found.

    Parameters
    ----------
    study:
        The study's name; the same data, settings and versions give the same one.
    parameters:
        Of the best completed trial.
    value:
        Its purged cross-validation log loss.
    trials:
        A row a finished trial: ``number``, ``state``, ``log_loss`` (of all folds, or of those before pruning),
        ``folds``, ``sharpe`` (of the out-of-fold sides, one row, before costs; NaN where pruned), and a column a
        parameter.
    resumed:
        How many of them an earlier run had finished.
    """

    study: str
    parameters: dict[str, Any]
    value: float
    trials: pd.DataFrame
    resumed: int


def suggest(trial: optuna.Trial) -> dict[str, Any]:
    """Draw LightGBM's parameters: shallow, slow, well regularised trees, as noisy targets need them."""
    return {
        "n_estimators": trial.suggest_int("n_estimators", 20, 160, step=20),
        "learning_rate": trial.suggest_float("learning_rate", 0.005, 0.1, log=True),
        "num_leaves": trial.suggest_int("num_leaves", 3, 16),
        "min_child_samples": trial.suggest_int("min_child_samples", 30, 400, log=True),
        "colsample_bytree": trial.suggest_float("colsample_bytree", 0.1, 0.8),
        "subsample": trial.suggest_float("subsample", 0.4, 1.0),
        "reg_lambda": trial.suggest_float("reg_lambda", 1.0, 200.0, log=True),
    }


def study_name(name: str, dataset: Dataset, versions: Mapping[str, str], training: TrainingSettings) -> str:
    """The study's name: a hash of all that decides its trials, but not of how many there are.

    A run with more ``trials`` therefore continues the study of an earlier one.
    """
    if not MODEL_NAME.fullmatch(name):
        raise ConfigurationError(f"model name {name!r} is not valid", hint="letters, digits, % _ . ~ - only")
    decisive = training.model_dump(exclude={"trials"})
    return f"{name}-{digest([SPACE_VERSION, dict(versions), decisive, dataset.digest])}"


def tune(
    dataset: Dataset,
    folds: Sequence[Fold],
    *,
    study: str,
    folder: Path,
    training: TrainingSettings,
    progress: Progress | None = None,
) -> Tuning:
    """Search for the parameters with the least weighted log loss over purged folds.

    The first trial takes the defaults, the next few are random, then a tree-structured Parzen estimator draws. A trial
    whose running mean over the folds is worse than the median of the completed ones stops early. Every trial's draw
    depends on the seed and on the trials finished before it only, so a study that was killed and resumed finds what an
    uninterrupted one finds.

    Parameters
    ----------
    dataset:
        The development rows; never the holdout.
    folds:
        Training and test positions of each fold.
    study:
        From :func:`study_name`.
    folder:
        Where the journal file of the study lies; made where absent.
    training:
        ``trials`` bounds the finished trials, earlier runs included.
    progress:
        Called with one line after each fold and trial.

    Raises
    ------
    TemporaryError
        Another process is running the same study.
    DataError
        A fold's training rows hold one class only.
    """
    import optuna
    from filelock import FileLock, Timeout
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    for number, (train, _) in enumerate(folds):
        if len(np.unique(dataset.y[train])) < 2:
            raise DataError(
                f"all {len(train)} training rows of fold {number} have the same label",
                hint="ask for a longer range or use another label",
            )
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{digest(study)}.journal"
    lock = FileLock(f"{path}.running", timeout=0)
    try:
        lock.acquire()
    except Timeout as error:
        raise TemporaryError(f"another process is running the study {study}", hint="wait until it is done") from error
    try:
        _repair(path)
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        handle = optuna.create_study(
            storage=JournalStorage(JournalFileBackend(str(path))),
            study_name=study,
            direction="minimize",
            pruner=optuna.pruners.MedianPruner(n_startup_trials=3, n_warmup_steps=1),
            load_if_exists=True,
        )
        resumed = _close_interrupted(handle)
        finished = resumed
        while finished < training.trials:
            _one_trial(handle, dataset, folds, training, finished, progress or _silent)
            finished += 1
        return Tuning(
            study=study,
            parameters=dict(handle.best_trial.params),
            value=float(handle.best_value),
            trials=_table(handle),
            resumed=min(resumed, training.trials),
        )
    finally:
        lock.release()


def _one_trial(
    study: optuna.Study,
    dataset: Dataset,
    folds: Sequence[Fold],
    training: TrainingSettings,
    finished: int,
    progress: Progress,
) -> None:
    from optuna.samplers import TPESampler
    from optuna.trial import TrialState

    from tapeline.models.estimator import DEFAULT_PARAMETERS, build_estimator, probability_up, useful_threads

    # A fresh sampler each time: its random state must not depend on what this process did before.
    study.sampler = TPESampler(n_startup_trials=STARTUP_TRIALS, seed=training.seed + finished)
    if finished == 0 and not study.get_trials(deepcopy=False, states=(TrialState.WAITING,)):
        study.enqueue_trial(dict(DEFAULT_PARAMETERS))
    trial = study.ask()
    estimator = build_estimator(
        "lightgbm",
        seed=training.seed,
        threads=useful_threads(dataset.X.size, training.threads),
        parameters=suggest(trial),
        scaling=training.scaling,
    )
    total = mass = 0.0
    predicted = np.full(len(dataset), np.nan)
    for number, (train, test) in enumerate(folds):
        estimator.fit(dataset.X[train], dataset.y[train], dataset.weight[train])
        predicted[test] = probability_up(estimator, dataset.X[test])
        weight = dataset.weight[test]
        total += log_loss(dataset.y[test], predicted[test], weight) * weight.sum()
        mass += weight.sum()
        trial.report(total / mass, number)
        label = f"tune: trial {finished + 1} of {training.trials}"
        progress(f"{label}, fold {number + 1} of {len(folds)}, log loss {total / mass:.4f}")
        if number + 1 < len(folds) and trial.should_prune():
            study.tell(trial, state=TrialState.PRUNED)
            progress(f"{label} pruned")
            return
    returns = np.where(predicted > 0.5, 1.0, -1.0) * dataset.outcome
    sharpe = sharpe_ratio(returns[np.isfinite(returns)])
    trial.set_user_attr("sharpe", None if math.isnan(sharpe) else sharpe)
    study.tell(trial, total / mass)


def _repair(path: Path) -> None:
    """Undo what a process killed while it wrote leaves behind: half a line, and Optuna's own lock.

    The caller holds the study's lock, so no other process is writing.
    """
    Path(f"{path}.lock").unlink(missing_ok=True)
    if not path.exists():
        return
    content = path.read_bytes()
    whole = content.rfind(b"\n") + 1
    if whole < len(content):
        with path.open("r+b") as file:
            file.truncate(whole)


def _close_interrupted(study: optuna.Study) -> int:
    """End the trials that a killed process left running; return how many are finished."""
    from optuna.trial import TrialState

    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        study.tell(trial.number, state=TrialState.FAIL)
    return len(study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED)))


def _table(study: optuna.Study) -> pd.DataFrame:
    from optuna.trial import TrialState

    rows = []
    for trial in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED)):
        steps = trial.intermediate_values
        sharpe = trial.user_attrs.get("sharpe")
        rows.append(
            {
                "number": trial.number,
                "state": trial.state.name.lower(),
                "log_loss": trial.value if trial.value is not None else steps[max(steps)],
                "folds": len(steps),
                "sharpe": math.nan if sharpe is None else sharpe,
                **trial.params,
            }
        )
    return pd.DataFrame(rows)


def _silent(_: str) -> None:
    return None
