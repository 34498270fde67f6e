"""The charts flow: what became of the findings of stored series, how reliable each kind is, and what speaks now."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prefect import flow, unmapped
from prefect.runtime import flow_run
from prefect.task_runners import ThreadPoolTaskRunner

from flows.hooks import HOOKS
from tapeline.console import print_table, say
from tasks.artifacts import show_table
from tasks.job import plan_jobs
from tasks.reliability import Decided, Now, decide, measure, plain_rows, show_now

if TYPE_CHECKING:
    import pandas as pd

MAXIMUM_WORKERS = 2
SPEAKERS_PRINTED = 10


@flow(
    name="charts",
    flow_run_name="charts {timeframe}",
    task_runner=ThreadPoolTaskRunner(max_workers=MAXIMUM_WORKERS),
    persist_result=False,
    timeout_seconds=6 * 3600,
    **HOOKS,
)
def charts(
    symbols: list[str] = ["EURUSD"],  # noqa: B006 - Prefect shows the default in its UI and never changes it
    timeframe: str = "H1",
) -> list[Now]:
    """Measure the reliability of all findings of stored series, and weigh by it what stands at their last bars.

    Parameters
    ----------
    symbols, timeframe:
        Series whose clean bars the lake holds. Findings are those of the pipeline; a series without any is scanned.

    A symbol that fails does not stop the others; the run then ends as failed.
    """
    import pandas as pd

    jobs = plan_jobs(flow_run.get_id() or "local", "", symbols, timeframe, None, None)
    decided: list[object] = [future.result(raise_on_failure=False) for future in decide.map(jobs)]
    done = [one for one in decided if isinstance(one, Decided)]
    failures = [one for one in decided if isinstance(one, BaseException)]
    results: list[Now] = []
    if done:
        measured = measure(done)
        held = [one.job for one in done]
        shown: list[object] = [
            future.result(raise_on_failure=False) for future in show_now.map(held, jobs=unmapped(held))
        ]
        results = [one for one in shown if isinstance(one, Now)]
        failures += [one for one in shown if isinstance(one, BaseException)]
        rows = [
            {"series": one.job.name, "closed": f"{one.at:%Y-%m-%d %H:%M}", **one.confluence, "page": str(one.page)}
            for one in results
        ]
        table = pd.DataFrame(rows)
        show_table(f"confluence {timeframe}", plain_rows(table), "What the findings say together at the last bars")
        tell(pd.read_csv(measured), results)
        print_table("What the findings say together at the last bars", table.drop(columns="page", errors="ignore"))
        say(f"Reliability  {measured}")
        for one in results:
            say(f"Page         {one.page.as_uri()}")
    if failures:
        raise failures[0]
    return results


def tell(measured: pd.DataFrame, results: list[Now]) -> None:
    """Print the reliability by kind, what it shows first, and what speaks in each series."""
    kinds = measured[measured["by"] == "kind"].sort_values("edge_low", ascending=False, kind="stable")
    columns = ["kind", "events", "hit_rate", "base_rate", "edge", "edge_low", "edge_high", "p_value", "verdict"]
    print_table("Hit of target before stop, by kind, against chance", kinds[columns])
    for one in results:
        print_table(f"What speaks in {one.job.name}, {one.at:%Y-%m-%d %H:%M} UTC", one.speakers.head(SPEAKERS_PRINTED))
