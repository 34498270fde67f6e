"""The main flow: ingest -> validate -> clean -> features -> charts -> labels -> train -> score.

A gate stands after each zone.
"""

from __future__ import annotations

from prefect import flow
from prefect.runtime import flow_run

from flows.hooks import HOOKS
from flows.workers import task_runner
from tapeline.core.settings import load_settings
from tapeline.quality.gate_process import GateProcess
from tasks.charts import find_events
from tasks.clean import clean_bars
from tasks.features import build_features
from tasks.ingest import ingest_bars
from tasks.job import context_jobs, model_name, plan_jobs
from tasks.labels import build_labels
from tasks.score import has_champion, score_bars
from tasks.stage import run_stage
from tasks.summary import RunSummary, publish
from tasks.train import train_model


@flow(
    name="pipeline",
    flow_run_name="pipeline {timeframe} of {source}",
    task_runner=task_runner(),
    persist_result=False,
    timeout_seconds=12 * 3600,
    **HOOKS,
)
def pipeline(
    source: str = "sample",
    symbols: list[str] = ["EURUSD"],  # noqa: B006 - Prefect shows the default in its UI and never changes it
    timeframe: str = "H1",
    start: str | None = None,
    end: str | None = None,
    train: bool = True,
    model: str | None = None,
) -> RunSummary:
    """Take the bars of some symbols through the whole chain.

    Parameters
    ----------
    source:
        ``sample``, ``files``, ``ccxt:<exchange>``, ``yahoo`` or ``mt5``.
    symbols:
        As the source spells them; one model is trained on all of them together.
    timeframe:
        Such as ``M1``, ``H1`` or ``D1``.
    start, end:
        UTC times that bound the bars by their open, [start, end); open where absent.
    train:
        Train a challenger. Without it the current champion scores.
    model:
        The registered model's name; derived from symbols and timeframe where absent.

    A symbol that fails a gate or a task stops there; the others go on. The run then ends as failed, after everything
    that could be done is done.
    """
    settings = load_settings()
    jobs = plan_jobs(flow_run.get_id() or "local", source, symbols, timeframe, start, end)
    name = model or model_name(jobs)
    summary = RunSummary(name=name)
    with GateProcess(settings.expectations_path) as gate:
        jobs = run_stage(summary, gate, "ingest", ingest_bars, [*jobs, *context_jobs(jobs)])
        jobs = run_stage(summary, gate, "clean", clean_bars, jobs)
        jobs = [job for job in jobs if not job.context]
        jobs = run_stage(summary, gate, "features", build_features, jobs)
        jobs = run_stage(summary, gate, "charts", find_events, jobs)
        jobs = run_stage(summary, gate, "labels", build_labels, jobs)
        if train and jobs:
            summary.result = train_model(name, jobs, verdict_ids=summary.verdict_ids)
        # A first model that is worse than the base rate becomes no champion; then there is nothing to score with, which
        # the summary says, and the run has done what it could.
        if summary.result is None or has_champion(name):
            run_stage(summary, gate, "score", score_bars, jobs, name=name)
    publish(summary)
    summary.raise_failures()
    return summary
