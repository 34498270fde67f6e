"""The backtest flow: a strategy on stored bars, its account in the lake, its figures and tear sheet on the page."""

from __future__ import annotations

from prefect import flow
from prefect.runtime import flow_run

from flows.hooks import HOOKS
from flows.workers import task_runner
from tapeline.console import print_table, say
from tapeline.core.settings import load_settings
from tapeline.quality.gate_process import GateProcess
from tapeline.strategy.strategy import Strategy, load_strategy
from tapeline.strategy.tear_sheet import Sample
from tasks.backtest import BacktestReport, backtest_strategy
from tasks.charts import find_events
from tasks.clean import clean_bars
from tasks.features import build_features
from tasks.ingest import ingest_bars
from tasks.job import Job, context_jobs, plan_jobs
from tasks.stage import run_stage
from tasks.summary import RunSummary


@flow(
    name="backtest",
    flow_run_name="backtest {strategy} {timeframe}",
    task_runner=task_runner(),
    persist_result=False,
    timeout_seconds=6 * 3600,
    **HOOKS,
)
def backtest(
    strategy: str = "moving_average_cross",
    symbols: list[str] = ["EURUSD"],  # noqa: B006 - Prefect shows the default in its UI and never changes it
    timeframe: str = "H1",
    start: str | None = None,
    end: str | None = None,
    source: str | None = None,
    capital: float | None = None,
    sample: Sample = "unknown",
) -> BacktestReport:
    """Trade a strategy on the clean bars that the lake holds of some symbols, all on one account.

    Parameters
    ----------
    strategy:
        A packaged strategy's name, or the path of a strategy file.
    symbols, timeframe, start, end:
        The bars, [start, end) by their open in UTC; what a strategy needs to warm up lies inside.
    source:
        Where the bars are brought from first, with features and findings where the strategy reads them; the lake alone
        is read where absent.
    capital:
        Cash at the start; the strategy's own where absent.
    sample:
        Whether these bars had a part in choosing what is traded: ``in sample``, ``out of sample``, ``walk-forward``.
        It stands on the tear sheet; nothing is computed from it.
    """
    read = load_strategy(strategy)
    jobs = plan_jobs(flow_run.get_id() or "local", source or "", symbols, timeframe, start, end)
    if source:
        bring(read, jobs)
    report = backtest_strategy(strategy, jobs, capital=capital, sample=sample)
    tell(report)
    return report


def bring(strategy: Strategy, jobs: list[Job]) -> None:
    """Ingest, check and clean the bars, and make what the strategy reads of features and findings."""
    summary = RunSummary(name="backtest")
    with GateProcess(load_settings().expectations_path) as gate:
        wanted = [*jobs, *context_jobs(jobs)] if strategy.needs_features else jobs
        passed = run_stage(summary, gate, "ingest", ingest_bars, wanted)
        passed = run_stage(summary, gate, "clean", clean_bars, passed)
        passed = [job for job in passed if not job.context]
        if strategy.needs_features:
            passed = run_stage(summary, gate, "features", build_features, passed)
        if strategy.findings:
            run_stage(summary, gate, "charts", find_events, passed)
    summary.raise_failures()


def tell(report: BacktestReport) -> None:
    """Print the figures, the cost ladder, the verdict and where the tear sheet lies."""
    for title, table in ((report.title, report.statistics), ("Trades", report.trades), ("Costs", report.ladder)):
        # Their first column names what the others say.
        print_table(title, table, right=list(table.columns[1:]))
    if len(report.refused):
        print_table("Refused", report.refused)
    say(f"Verdict     {report.verdict}")
    say(f"Run         {report.run}")
    say(f"Tear sheet  {report.page.as_uri()}")
