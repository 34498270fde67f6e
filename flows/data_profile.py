"""The profile flow: what each batch of a stored table looked like, and whether it drifted from the ones before."""

from __future__ import annotations

from prefect import flow, unmapped
from prefect.artifacts import create_table_artifact
from prefect.runtime import flow_run
from prefect.task_runners import ThreadPoolTaskRunner

from flows.hooks import HOOKS, tell
from tapeline.console import print_table
from tapeline.monitoring.notification import Severity
from tasks.profile import ProfileResult, plan_series, profile_series

MAXIMUM_WORKERS = 2


@flow(
    name="profile",
    flow_run_name="profile {table} {timeframe}",
    task_runner=ThreadPoolTaskRunner(max_workers=MAXIMUM_WORKERS),
    persist_result=False,
    timeout_seconds=6 * 3600,
    **HOOKS,
)
def profile(
    symbols: list[str] = ["EURUSD"],  # noqa: B006 - Prefect shows the default in its UI and never changes it
    timeframe: str = "H1",
    table: str = "raw/bars",
    period: str | None = None,
    start: str | None = None,
    end: str | None = None,
) -> list[ProfileResult]:
    """Describe the finished batches of a table that have no profile yet.

    Parameters
    ----------
    symbols, timeframe:
        The series, ``tick`` for ticks and trades.
    table:
        Such as ``raw/bars``, ``clean/bars``, ``raw/ticks``, or a version of features by its full name; a zone alone
        (``features``) where it holds one version.
    period:
        ``day``, ``week``, ``month`` or ``year``; without one, a day of minutes and ticks, a week of hours, a year of
        days.
    start, end:
        UTC times that bound the batches; all that is stored without.

    A symbol that fails does not stop the others; the run then ends as failed.
    """
    import pandas as pd

    jobs = plan_series(flow_run.get_id() or "local", symbols, timeframe, start, end)
    futures = profile_series.map(jobs, table=unmapped(table), period=unmapped(period))
    outcomes = [future.result(raise_on_failure=False) for future in futures]
    results = [outcome for outcome in outcomes if isinstance(outcome, ProfileResult)]
    rows = [
        {
            "series": r.job.name, "table": r.table, "batches": r.batches, "new": r.profiled, "alarms": r.alarms,
            "newest": str(r.newest or ""), "page": str(r.report or ""),
        }
        for r in results
    ]  # fmt: skip
    create_table_artifact(rows, key="profile", description=f"Profiles of {table}")
    for result in results:
        tell_drift(result)
    if rows:
        print_table(f"Profiles of {table}", pd.DataFrame(rows))
    failures = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
    if failures:
        raise failures[0]
    return results


def tell_drift(result: ProfileResult) -> None:
    """Tell people, once a batch, that the newest one is unlike those before it; of older ones the page says so."""
    if not result.drifted:
        return
    where = [f"page: {result.report}"] if result.report else []
    tell(
        f"{result.table} of {result.job.name} drifted in the {result.period} of {result.newest:%Y-%m-%d}",
        "\n".join([*result.drifted, *where]),
        key=f"profile/{result.table}/{result.job.name}/{result.period}/{result.newest}",
        severity=Severity.WARNING,
        error_type="ProfileDriftAlert",
        once=True,
    )
