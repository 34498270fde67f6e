"""The drift flow: whether a series still looks, and still means, what the champion learned from it."""

from __future__ import annotations

from prefect import flow, unmapped
from prefect.runtime import flow_run
from prefect.task_runners import ThreadPoolTaskRunner

from flows.hooks import HOOKS, tell
from tapeline.console import print_table
from tapeline.monitoring.notification import Severity
from tasks.artifacts import show_table
from tasks.drift import MONTHS, WINDOW, DriftResult, check_drift
from tasks.job import plan_jobs

MAXIMUM_WORKERS = 2
NAMED_ALARMS = 12
"""Alarms that a message names; the others are counted."""


@flow(
    name="drift",
    flow_run_name="drift {timeframe}",
    task_runner=ThreadPoolTaskRunner(max_workers=MAXIMUM_WORKERS),
    persist_result=False,
    timeout_seconds=2 * 3600,
    **HOOKS,
)
def drift(
    symbols: list[str] = ["EURUSD"],  # noqa: B006 - Prefect shows the default in its UI and never changes it
    timeframe: str = "H1",
    model: str | None = None,
    window: int = WINDOW,
    months: int = MONTHS,
    start: str | None = None,
    end: str | None = None,
) -> list[DriftResult]:
    """Hold the newest features and the scores whose labels are known against what the champion learned from.

    Parameters
    ----------
    symbols, timeframe:
        The series.
    model:
        The registered model; each symbol's own where absent.
    window:
        Newest rows that are judged.
    months:
        How long the reference is where there is no champion.
    start, end:
        UTC times that bound the rows; all that is stored without.

    What drifted is told once, until something else does or the reference is another. A symbol that fails does not stop
    the others; the run then ends as failed.
    """
    import pandas as pd

    jobs = plan_jobs(flow_run.get_id() or "local", "", symbols, timeframe, start, end)
    futures = check_drift.map(jobs, model=unmapped(model), window=unmapped(window), months=unmapped(months))
    outcomes = [future.result(raise_on_failure=False) for future in futures]
    results = [outcome for outcome in outcomes if isinstance(outcome, DriftResult)]
    for result in results:
        if result.alarms:
            more = len(result.alarms) - NAMED_ALARMS
            lines = [*result.alarms[:NAMED_ALARMS], *([f"and {more} more"] if more > 0 else [])]
            title = f"{result.job.name} has drifted: {len(result.alarms)} alarms"
            tell(title, "\n".join(lines), key=result.key, severity=Severity.WARNING, once=True)
    rows = [
        {"series": r.job.name, "reference": r.reference, "rows": r.rows, "labelled": r.labelled,
         "alarms": len(r.alarms), "page": str(r.page or "")}
        for r in results
    ]  # fmt: skip
    show_table("drift", rows, "Drift by series")
    if rows:
        print_table("Drift", pd.DataFrame(rows))
    failures = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
    if failures:
        raise failures[0]
    return results
