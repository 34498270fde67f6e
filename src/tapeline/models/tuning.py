"""Hyperparameter search with Optuna: bounded, pruned over folds, in several processes, resumed after any kill."""

from __future__ import annotations

import re
import shutil
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pandas as pd

from tapeline.core.errors import ConfigurationError, DataError, TemporaryError
from tapeline.core.settings import CostSettings, TrainingSettings
from tapeline.core.versions import digest
from tapeline.models.dataset import Dataset
from tapeline.models.search import ORIGIN, Plan, plan_of, stored_plan
from tapeline.models.study_storage import check_storage, open_study
from tapeline.models.trial import (
    SESSION,
    Fold,
    FoldModels,
    Progress,
    TrialRecord,
    record_of,
    return_matrix,
    run_trials,
)

if TYPE_CHECKING:
    import optuna

__all__ = ["Fold", "Progress", "Tuning", "study_name", "tune"]

SPACE_VERSION: Final = 2
"""Raised whenever the search space or the objective changes, so that an old journal is not taken for this study."""

MODEL_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9%_.~-]{0,127}")
_NOT_DECISIVE: Final = {"trials", "processes", "storage"}


@dataclass(frozen=True)
class Tuning:
    """What the search found.

    Parameters
    ----------
    study:
        The study's name; the same data, settings and versions give the same one.
    family, parameters:
        Of the best completed trial.
    value:
        Its purged cross-validation log loss.
    trials:
        A row a finished trial: ``number`` (its slot), ``state``, ``family``, ``log_loss`` (of all folds, or of those
        before pruning), ``folds``, ``sharpe`` (of one trade after costs, out of fold; NaN where pruned), ``trades``,
        and a column a parameter.
    resumed:
        How many of them an earlier run had finished.
    returns:
        Net return of each UTC day of every complete trial's out-of-fold trades: index ``day``, a column a trial.
    reason:
        Why these families were tried in this order; empty where the settings name one.
    """

    study: str
    family: str
    parameters: dict[str, Any]
    value: float
    trials: pd.DataFrame
    resumed: int
    returns: pd.DataFrame = field(default_factory=pd.DataFrame)
    reason: str = ""


def study_name(
    name: str,
    dataset: Dataset,
    versions: Mapping[str, str],
    training: TrainingSettings,
    costs: CostSettings | None = None,
) -> str:
    """The study's name: a hash of all that decides its trials, but not of how many there are or where they run.

    A run with more ``trials`` therefore continues the study of an earlier one, and so does one with more processes.
    """
    if not MODEL_NAME.fullmatch(name):
        raise ConfigurationError(f"model name {name!r} is not valid", hint="letters, digits, % _ . ~ - only")
    decisive = training.model_dump(exclude=_NOT_DECISIVE)
    paid = (costs or CostSettings()).model_dump()
    return f"{name}-{digest([SPACE_VERSION, dict(versions), decisive, paid, dataset.digest])}"


def tune(
    dataset: Dataset,
    folds: Sequence[Fold],
    *,
    study: str,
    folder: Path,
    training: TrainingSettings,
    plan: Plan | None = None,
    costs: CostSettings | None = None,
    progress: Progress | None = None,
    on_trial: Callable[[TrialRecord], None] | None = None,
) -> Tuning:
    """Search for the family and parameters with the least weighted log loss over purged folds.

    With ``tpe`` the first trial of a family takes its defaults, the next few are random, then a tree-structured
    Parzen estimator draws. A trial whose running mean over the folds is worse than the median of the completed ones
    stops early. ``grid`` tries every point of the family's grid.

    Every trial's draw depends on the seed, its slot and the trials finished before it only. In one process, a study
    that was killed and resumed therefore finds what an uninterrupted one finds; in several, trials finish in an order
    that the clock decides, and so do the draws. A trial that a kill interrupted counts as failed, and its slot is
    given to another one with the same parameters, so that the number of finished trials is exactly the budget.

    Parameters
    ----------
    dataset:
        The development rows; never the holdout.
    folds:
        Training and test positions of each fold.
    study:
        From :func:`study_name`.
    folder:
        Where the journal of the study and the returns of its trials lie; made where absent.
    training:
        ``trials`` bounds the finished trials, earlier runs included; ``processes`` share them, each fit using
        ``threads``; ``storage`` is a database instead of the journal file.
    plan:
        What to try; where absent, ``training.family`` by ``training.search``. A study that was begun keeps its plan.
    costs:
        Of the out-of-fold trades whose returns are kept.
    progress:
        Called with one line after each fold and trial.
    on_trial:
        Called with every finished trial, those of earlier runs first, so that what it keeps is complete.

    Raises
    ------
    TemporaryError
        Another process is running the same study, or too many of its processes died.
    ConfigurationError
        The storage cannot be opened, or cannot serve several processes.
    DataError
        A fold's training rows hold one class only.
    """
    from filelock import FileLock, Timeout

    check_storage(_url(training), training.processes)
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
        handle = open_study(study, journal=path, url=_url(training), pruner=_pruner())
        _end_trials(handle, None)
        chosen = stored_plan(handle, plan or plan_of_settings(training))
        records = _records(handle)
        for record in records.values():
            if on_trial:
                on_trial(record)
        _search(handle, dataset, folds, path, training, chosen, costs or CostSettings(), progress, on_trial)
        return _tuning(handle, dataset, path, chosen, min(len(records), chosen.budget))
    finally:
        lock.release()


def plan_of_settings(training: TrainingSettings) -> Plan:
    """The plan where nobody learnt from past runs: the named family, LightGBM where it is ``auto``."""
    automatic = training.family == "auto"
    return plan_of(
        ["lightgbm" if automatic else training.family],
        trials=training.trials,
        seed=training.seed,
        search=training.search,
        reason="no past run to learn from: the default family" if automatic else "",
    )


def _search(
    study: optuna.Study,
    dataset: Dataset,
    folds: Sequence[Fold],
    path: Path,
    training: TrainingSettings,
    plan: Plan,
    costs: CostSettings,
    progress: Progress | None,
    on_trial: Callable[[TrialRecord], None] | None,
) -> None:
    from filelock import FileLock

    from tapeline.models.tuning_pool import TuningPool
    from tapeline.models.tuning_worker import write_rows

    vacant = plan.budget - len(_records(study))
    if vacant <= 0:
        return
    session = uuid.uuid4().hex
    study.set_user_attr(SESSION, session)
    slots, returns = f"{path}.slots", path.with_suffix(".returns")

    def finished(slot: int) -> None:
        if on_trial:
            on_trial(_records(study)[slot])

    if min(training.processes, vacant) == 1:
        run_trials(
            study,
            plan,
            FoldModels(dataset, folds, training),
            lock=FileLock(slots),
            session=session,
            owner=session,
            costs=costs,
            returns=returns,
            progress=progress or _silent,
            on_finished=finished,
        )
        return
    rows = path.with_suffix(".rows")
    job = {
        "study": study.study_name,
        "journal": str(path),
        "url": _url(training),
        "lock": slots,
        "rows": str(rows),
        "returns": str(returns),
        "session": session,
        "plan": asdict(plan),
        "training": training.model_dump(mode="json", exclude={"storage"}),
        "costs": costs.model_dump(mode="json"),
    }
    try:
        write_rows(rows, dataset, folds)
        TuningPool(
            job,
            min(training.processes, vacant),
            progress=progress or _silent,
            on_finished=finished,
            on_death=lambda owner: _end_trials(study, owner),
        ).run()
    finally:
        shutil.rmtree(rows, ignore_errors=True)


def _end_trials(study: optuna.Study, owner: str | None) -> None:
    """Count the trials that a killed process left running as failed: those of one owner, or all."""
    from optuna.trial import TrialState

    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        if owner is None or trial.user_attrs.get(ORIGIN, {}).get("owner") == owner:
            study.tell(trial.number, state=TrialState.FAIL)


def _records(study: optuna.Study) -> dict[int, TrialRecord]:
    """The finished trials by slot, in order."""
    from optuna.trial import TrialState

    states = (TrialState.COMPLETE, TrialState.PRUNED)
    found = [record_of(trial) for trial in study.get_trials(deepcopy=False, states=states)]
    return {record.slot: record for record in sorted(found, key=lambda record: record.slot)}


def _tuning(study: optuna.Study, dataset: Dataset, path: Path, plan: Plan, resumed: int) -> Tuning:
    records = list(_records(study).values())
    complete = [record for record in records if record.state == "complete"]
    if not complete:
        raise DataError(f"none of {len(records)} trials of the study {study.study_name} was completed")
    best = min(complete, key=lambda record: (record.value, record.slot))
    table = [
        {
            "number": record.slot,
            "state": record.state,
            "family": record.family,
            "log_loss": record.value,
            "folds": len(record.losses),
            "sharpe": record.sharpe,
            "trades": record.trades,
            **record.parameters,
        }
        for record in records
    ]
    return Tuning(
        study=study.study_name,
        family=best.family,
        parameters=dict(best.parameters),
        value=best.value,
        trials=pd.DataFrame(table),
        resumed=resumed,
        returns=return_matrix(dataset, path.with_suffix(".returns"), [record.slot for record in complete]),
        reason=plan.reason,
    )


def _url(training: TrainingSettings) -> str | None:
    return None if training.storage is None else training.storage.get_secret_value()


def _pruner() -> Any:
    from tapeline.models.tuning_worker import pruner

    return pruner()


def _silent(_: str) -> None:
    return None
