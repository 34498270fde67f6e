"""The live flow: new closed bars only, features on the tail, the champion's score, alerts above the threshold."""

from __future__ import annotations

import pandas as pd
from prefect import flow
from prefect.runtime import flow_run

from flows.hooks import HOOKS, open_notifier
from flows.workers import task_runner
from tapeline.core.settings import load_settings
from tapeline.quality.gate_process import GateProcess
from tasks.clean import clean_bars
from tasks.features import build_features
from tasks.ingest import ingest_bars
from tasks.job import context_jobs, model_name, plan_jobs, resume
from tasks.score import alert_on_scores, score_bars
from tasks.stage import run_stage
from tasks.summary import RunSummary, publish


@flow(
    name="score",
    flow_run_name="score {timeframe} of {source}",
    task_runner=task_runner(),
    persist_result=False,
    # A run that hangs must not hold back the next bars' run for long.
    timeout_seconds=1800,
    **HOOKS,
)
def score(
    source: str = "sample",
    symbols: list[str] = ["EURUSD"],  # noqa: B006 - Prefect shows the default in its UI and never changes it
    timeframe: str = "H1",
    model: str | None = None,
) -> RunSummary:
    """Score the bars that closed since the last run with the champion of the symbols' model.

    Each symbol goes on from the last bar that the lake holds. The same functions as in the main flow compute the
    features on the tail. The champion refuses features of another version than its own; scores are written once a bar
    and model version, and a fresh score above the confidence threshold is sent to the notification channels once.
    """
    settings = load_settings()
    asked = plan_jobs(flow_run.get_id() or "local", source, symbols, timeframe, None, None)
    name = model or model_name(asked)
    summary = RunSummary(name=name)
    jobs = [resume(job) for job in (*asked, *context_jobs(asked))]
    with GateProcess(settings.expectations_path) as gate:
        jobs = run_stage(summary, gate, "ingest", ingest_bars, jobs)
        jobs = run_stage(summary, gate, "clean", clean_bars, jobs)
        jobs = [job for job in jobs if not job.context]
        jobs = run_stage(summary, gate, "features", build_features, jobs)
        run_stage(summary, gate, "score", score_bars, jobs, name=name)
    # Also symbols without a new row: a score whose alert a crash prevented is still told while it is fresh.
    sound = [job for job in asked if job.name not in summary.failed_jobs]
    summary.alerts = alert_on_scores(open_notifier(settings), name, sound, now=pd.Timestamp.now("UTC"))
    publish(summary)
    summary.raise_failures()
    return summary
