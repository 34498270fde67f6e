"""The quality flow: each finished day of a series scored, its trend shown, a poor day told."""

from __future__ import annotations

from prefect import flow
from prefect.runtime import flow_run
from prefect.task_runners import ThreadPoolTaskRunner

from flows.hooks import HOOKS, tell
from tapeline.console import print_table
from tapeline.monitoring.notification import Severity
from tasks.artifacts import show_table
from tasks.job import plan_jobs
from tasks.quality import POOR, QualityResult, score_quality

MAXIMUM_WORKERS = 2
NAMED_DAYS = 12


@flow(
    name="quality",
    flow_run_name="quality {timeframe}",
    task_runner=ThreadPoolTaskRunner(max_workers=MAXIMUM_WORKERS),
    persist_result=False,
    timeout_seconds=2 * 3600,
    **HOOKS,
)
def quality(
    symbols: list[str] = ["EURUSD"],  # noqa: B006 - Prefect shows the default in its UI and never changes it
    timeframe: str = "H1",
    start: str | None = None,
    end: str | None = None,
) -> list[QualityResult]:
    """Score the finished days of each series that have no score yet, and the week before them again.

    Parameters
    ----------
    symbols, timeframe:
        The series; bars of a day at most.
    start, end:
        UTC times that bound the days; without, from the last scored day on.

    Days below 0.9 are told once. A symbol that fails does not stop the others; the run then ends as failed.
    """
    import pandas as pd

    jobs = plan_jobs(flow_run.get_id() or "local", "", symbols, timeframe, start, end)
    outcomes = [future.result(raise_on_failure=False) for future in score_quality.map(jobs)]
    results = [outcome for outcome in outcomes if isinstance(outcome, QualityResult)]
    for result in results:
        if result.poor:
            more = len(result.poor) - NAMED_DAYS
            lines = [*result.poor[-NAMED_DAYS:], *([f"and {more} before"] if more > 0 else [])]
            title = f"{result.job.name}: {len(result.poor)} days with a quality below {POOR:g}"
            # By the newest of them: a day that was told is not told again until another one follows.
            key = f"quality/{result.job.name}/{result.poor[-1][:10]}"
            tell(title, "\n".join(lines), key=key, severity=Severity.WARNING, once=True)
    rows = [
        {"series": r.job.name, "days": r.days, "newest": str(r.newest or ""), "score": round(r.score, 4),
         "poor days": len(r.poor), "trend": str(r.picture or "")}
        for r in results
    ]  # fmt: skip
    show_table("quality", rows, "Quality by series")
    if rows:
        print_table("Quality", pd.DataFrame(rows))
    failures = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
    if failures:
        raise failures[0]
    return results
