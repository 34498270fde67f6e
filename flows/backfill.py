"""The backfill flow: a date range of bars into the raw zone, only what is missing, resumable, with progress."""

from __future__ import annotations

from prefect import flow, unmapped
from prefect.artifacts import create_table_artifact
from prefect.runtime import flow_run
from prefect.task_runners import ThreadPoolTaskRunner
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from flows.hooks import HOOKS
from tapeline.core.errors import ConfigurationError
from tasks.arrival import announce
from tasks.backfill import CHUNK_ROWS, Reports, backfill_bars
from tasks.job import StageResult, plan_jobs

MAXIMUM_WORKERS = 2
"""Series that are loaded at once: more would only meet the source's own limits."""


@flow(
    name="backfill",
    flow_run_name="backfill {timeframe} of {source}",
    task_runner=ThreadPoolTaskRunner(max_workers=MAXIMUM_WORKERS),
    persist_result=False,
    timeout_seconds=24 * 3600,
    **HOOKS,
)
def backfill(
    source: str = "sample",
    symbols: list[str] = ["EURUSD"],  # noqa: B006 - Prefect shows the default in its UI and never changes it
    timeframe: str = "H1",
    start: str = "2017-01-01",
    end: str | None = None,
    chunk_rows: int = CHUNK_ROWS,
) -> list[StageResult]:
    """Load what the lake lacks of [start, end).

    Parameters
    ----------
    source, symbols, timeframe:
        As for the main flow.
    start, end:
        UTC times that bound the bars by their open; without an end up to the last complete bar.
    chunk_rows:
        Bars a piece. A crash costs one piece; the next run goes on there.

    A symbol that fails does not stop the others; the run then ends as failed.
    """
    if not start:
        raise ConfigurationError("a backfill needs a start", hint="for instance 2020-01-01")
    jobs = plan_jobs(flow_run.get_id() or "local", source, symbols, timeframe, start, end)
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns) as progress:
        bars = {job.name: progress.add_task(job.name, total=None) for job in jobs}
        reports = Reports(
            {
                name: lambda done, total, bar=bar: progress.update(bar, completed=done, total=max(total, 1))  # type: ignore[misc]
                for name, bar in bars.items()
            }
        )
        futures = backfill_bars.map(jobs, chunk_rows=unmapped(chunk_rows), reports=unmapped(reports))
        outcomes = [future.result(raise_on_failure=False) for future in futures]
    results = [outcome for outcome in outcomes if isinstance(outcome, StageResult)]
    create_table_artifact(
        table=[
            {"series": r.job.name, "in": r.rows_in, "out": r.rows_out, "quarantined": r.quarantined} for r in results
        ],
        key="backfill",
        description=f"Rows loaded from {source}",
    )
    # Also where another symbol failed: what did arrive is there.
    announce(results)
    failures = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
    if failures:
        raise failures[0]
    return results
