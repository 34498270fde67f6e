"""The rebuild flow: from raw bars that are in the lake already to scores; no source is asked, nothing is trained."""

from __future__ import annotations

from prefect import flow, get_run_logger
from prefect.runtime import flow_run

from flows.hooks import HOOKS
from flows.workers import task_runner
from tapeline.core.schemas import RAW_BARS
from tapeline.core.settings import load_settings
from tapeline.quality.gate_process import GateProcess
from tasks.charts import find_events
from tasks.clean import clean_bars
from tasks.features import build_features
from tasks.job import model_name, open_lake, plan_jobs
from tasks.labels import build_labels
from tasks.score import has_champion, score_bars
from tasks.stage import run_stage
from tasks.summary import RunSummary, publish


@flow(
    name="rebuild",
    flow_run_name="rebuild {timeframe} of {source}",
    task_runner=task_runner(),
    persist_result=False,
    timeout_seconds=4 * 3600,
    **HOOKS,
)
def rebuild(
    source: str = "sample",
    symbols: list[str] = ["EURUSD"],  # noqa: B006 - Prefect shows the default in its UI and never changes it
    timeframe: str = "H1",
    start: str | None = None,
    end: str | None = None,
    model: str | None = None,
) -> RunSummary:
    """Clean, describe, label and score what the raw zone holds of some symbols.

    Parameters
    ----------
    source, symbols, timeframe, start, end:
        As for the main flow; the source is only a name here. A symbol of which the raw zone holds nothing is left out.
    model:
        The registered model's name; derived from symbols and timeframe where absent. Without a champion nothing is
        scored.

    Features and labels whose inputs, code and output are what they were are not computed again.
    """
    settings = load_settings()
    asked = plan_jobs(flow_run.get_id() or "local", source, symbols, timeframe, start, end)
    _, lake = open_lake()
    jobs = [job for job in asked if lake.last(RAW_BARS, job.symbol, job.timeframe) is not None]
    for job in asked:
        if job not in jobs:
            get_run_logger().info("%s: the raw zone holds nothing of it", job.name)
    name = model or model_name(asked)
    summary = RunSummary(name=name)
    with GateProcess(settings.expectations_path) as gate:
        jobs = run_stage(summary, gate, "clean", clean_bars, jobs)
        jobs = run_stage(summary, gate, "features", build_features, jobs)
        jobs = run_stage(summary, gate, "charts", find_events, jobs)
        jobs = run_stage(summary, gate, "labels", build_labels, jobs)
        if jobs and has_champion(name):
            run_stage(summary, gate, "score", score_bars, jobs, name=name)
    publish(summary)
    summary.raise_failures()
    return summary
