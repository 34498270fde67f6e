"""The selection flow: a challenger feature set by out-of-sample results, and the importance of features over time."""

from __future__ import annotations

from prefect import flow
from prefect.runtime import flow_run
from prefect.task_runners import ThreadPoolTaskRunner

from flows.hooks import HOOKS, open_notifier
from tapeline.core.settings import load_settings
from tasks.job import model_name, plan_jobs
from tasks.select import SelectionReport, select_set, selection_report, track_importance


@flow(
    name="select",
    flow_run_name="select {timeframe} of {source}",
    task_runner=ThreadPoolTaskRunner(max_workers=1),
    persist_result=False,
    timeout_seconds=4 * 3600,
    **HOOKS,
)
def select(
    source: str = "sample",
    symbols: list[str] = ["EURUSD"],  # noqa: B006 - Prefect shows the default in its UI and never changes it
    timeframe: str = "H1",
    feature_set: str = "core",
    start: str | None = None,
    end: str | None = None,
    model: str | None = None,
) -> SelectionReport:
    """Select features of some symbols' stored bars and labels, and measure what matters to their champion.

    Parameters
    ----------
    source, symbols, timeframe, start, end:
        As for the main flow; the source is only a name here.
    feature_set:
        The set to choose from: a packaged one by name, or a file.
    model:
        The registered model's name; derived from symbols and timeframe where absent.

    The chosen set is kept as the challenger; it becomes the champion only where it is significantly better on rows
    that neither set was chosen on. What trains and scores is the set that the settings name, so a new champion set is
    in force once they name its file.
    """
    jobs = plan_jobs(flow_run.get_id() or "local", source, symbols, timeframe, start, end)
    name = model or model_name(jobs)
    snapshot = track_importance(name, jobs, open_notifier(load_settings()))
    result = select_set(name, jobs, feature_set=feature_set)
    return selection_report(name, result, snapshot)
