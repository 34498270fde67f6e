"""The lifecycle flow: how a model does, whether it has drifted, and what becomes of it.

Track -> drift -> a challenger better live is promoted -> decide -> train a challenger -> score it in the shadow.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from prefect import flow, get_run_logger, unmapped
from prefect.runtime import flow_run

from flows.hooks import HOOKS, tell
from flows.workers import task_runner
from tapeline.core.errors import DataError
from tapeline.core.settings import load_settings
from tapeline.core.versions import digest
from tapeline.monitoring.notification import Severity
from tapeline.quality.gate_process import GateProcess
from tasks.artifacts import show_table
from tasks.drift import DriftResult, check_drift
from tasks.features import build_features
from tasks.job import Job, model_name, plan_jobs
from tasks.labels import build_labels
from tasks.performance import ModelDrift, Tracked, check_model, track_model
from tasks.retrain import LivePromotion, champion_reads, decide, promote_live
from tasks.score import score_bars
from tasks.stage import run_stage
from tasks.summary import RunSummary, publish
from tasks.train import train_model

if TYPE_CHECKING:
    from tapeline.evaluation.result import TrainingResult
    from tapeline.models.retraining import RetrainDecision

NAMED_ALARMS = 12
"""Alarms that a message names; the others are counted."""


@dataclass
class Lifecycle:
    """What a run of the flow did.

    Parameters
    ----------
    name:
        The model.
    tracked:
        Performance by version and period.
    drift, model_drift:
        What was found of the features and of the champion, a series each.
    live:
        The challenger beside the champion on live rows; None where there is nothing to compare.
    decision:
        Whether to train again, and why.
    result:
        Of the training; None where there was none.
    """

    name: str
    tracked: Tracked
    decision: RetrainDecision
    drift: list[DriftResult] = field(default_factory=list)
    model_drift: list[ModelDrift] = field(default_factory=list)
    live: LivePromotion | None = None
    result: TrainingResult | None = None

    @property
    def alarms(self) -> tuple[str, ...]:
        """Everything that was told to have drifted."""
        return tuple(alarm for found in (*self.drift, *self.model_drift) for alarm in found.alarms)


@flow(
    name="lifecycle",
    flow_run_name="lifecycle {timeframe}",
    task_runner=task_runner(),
    persist_result=False,
    timeout_seconds=11 * 3600,
    **HOOKS,
)
def lifecycle(
    symbols: list[str] = ["EURUSD"],  # noqa: B006 - Prefect shows the default in its UI and never changes it
    timeframe: str = "H1",
    model: str | None = None,
    manual: bool = False,
    dry_run: bool = False,
    end: str | None = None,
) -> Lifecycle:
    """Watch a model, and train a challenger where there is reason to.

    Parameters
    ----------
    symbols, timeframe:
        The series that the model is of.
    model:
        The registered model's name; derived from symbols and timeframe where absent.
    manual:
        Train now, without other reason; not on the very data of the last training.
    dry_run:
        Say what would be done: nothing is trained or promoted. What was measured is stored all the same.
    end:
        UTC time that bounds the bars; all that is stored without.

    A trained model becomes the champion only where it is better out of sample
    (:func:`tapeline.models.promotion.decide`); else it is the challenger, scores in the champion's shadow, and is
    promoted later where live rows show it better. Features and labels are brought up to date before a training, from
    the clean bars that are there; where one of the series fails there, nothing is trained and the run ends as failed.
    """
    settings = load_settings()
    jobs = plan_jobs(flow_run.get_id() or "local", "", symbols, timeframe, None, end)
    name = model or model_name(jobs)
    tracked = track_model(name, jobs)
    watched = check_drift.map(jobs, model=unmapped(name))
    judged = check_model.map(jobs, name=unmapped(name))
    found = [future.result(raise_on_failure=False) for future in watched]
    of_model = [future.result() for future in judged]
    drift = [one for one in found if isinstance(one, DriftResult)]
    for one in (*drift, *of_model):
        tell_drift(one)
    live = promote_live(name, jobs, dry_run=dry_run)
    if live is not None:
        get_run_logger().info("%s live: %s", name, live.reason)
    if live is not None and live.promoted:
        tell_promotion(name, live.version, live.reason)
    decision = decide(name, jobs, manual=manual)
    run = Lifecycle(name, tracked, decision, drift, of_model, live)
    may = manual or settings.lifecycle.automatic
    if decision.retrain and may and not dry_run:
        run.result = retrain(name, jobs)
    elif decision.retrain:
        tell(
            f"{name} wants to be trained again",
            f"{decision.text}\nto do it: tapeline models retrain {name}",
            key=f"retrain/{name}/{digest(list(decision.causes))}",
            severity=Severity.WARNING,
        )
    show_table("lifecycle", [summary_row(run)], f"Lifecycle of {name}")
    # Features that the drift check lacked, as after a change of their set, are what a training makes.
    needed = DataError if decision.retrain else ()
    failures = [one for one in found if isinstance(one, BaseException) and not isinstance(one, needed)]
    if failures:
        raise failures[0]
    return run


def retrain(name: str, jobs: list[Job]) -> TrainingResult | None:
    """Bring features and labels up to date, train, and let champion and challenger score."""
    summary = RunSummary(name=name)
    with GateProcess(load_settings().expectations_path) as gate:
        ready = run_stage(summary, gate, "features", build_features, jobs)
        ready = run_stage(summary, gate, "labels", build_labels, ready)
        # A model of all its series or none: one trained without some of them would be another model.
        if len(ready) == len(jobs):
            summary.result = train_model(name, ready, verdict_ids=summary.verdict_ids)
            if champion_reads(name):
                run_stage(summary, gate, "score", score_bars, ready, name=name)
            else:
                tell_refusal(name, summary.result)
    publish(summary)
    if summary.result is not None and summary.result.promoted:
        tell_promotion(name, summary.result.model_version, summary.result.reason)
    summary.raise_failures()
    return summary.result


def tell_drift(found: DriftResult | ModelDrift) -> None:
    """Tell what has drifted, once, until something else does."""
    if not found.alarms:
        return
    more = len(found.alarms) - NAMED_ALARMS
    lines = [*found.alarms[:NAMED_ALARMS], *([f"and {more} more"] if more > 0 else [])]
    whose = (
        f"{found.name} version {found.version} on {found.job.name}" if isinstance(found, ModelDrift) else found.job.name
    )
    title = f"{whose} has drifted: {len(found.alarms)} alarms"
    tell(title, "\n".join(lines), key=found.key, severity=Severity.WARNING, once=True)


def tell_refusal(name: str, result: TrainingResult) -> None:
    """Tell that nothing scores: the champion was trained on other features than those in force, or there is none."""
    tell(
        f"{name}: no champion reads the present features",
        f"They are {result.versions.feature_set}. Version {result.model_version} was trained on them and was not "
        f"promoted: {result.reason}\nto use it all the same: tapeline models promote {name} {result.model_version}",
        key=f"refusal/{name}/{result.model_version}",
        severity=Severity.WARNING,
        once=True,
    )


def tell_promotion(name: str, version: str, reason: str) -> None:
    """Tell that a version became the champion."""
    tell(
        f"{name}: version {version} is the champion",
        f"{reason}\nto undo it: tapeline models rollback {name}",
        key=f"promotion/{name}/{version}",
        severity=Severity.INFO,
        once=True,
    )


def summary_row(run: Lifecycle) -> dict[str, object]:
    """The run in one line of a table."""
    trained = run.result
    return {
        "model": run.name,
        "alarms": len(run.alarms),
        "decision": run.decision.text,
        "trained": "" if trained is None else trained.model_version,
        "promoted": (trained is not None and trained.promoted) or (run.live is not None and run.live.promoted),
        "why": "" if trained is None else trained.reason,
        "live": "" if run.live is None else run.live.reason,
    }
