"""The paper flow: a strategy traded on paper over the newest bars and scores of the lake, one step a run."""

from __future__ import annotations

import pandas as pd
from prefect import flow
from prefect.runtime import flow_run

from flows.backtest import bring
from flows.hooks import HOOKS, tell
from tapeline.console import print_table, say
from tapeline.core.errors import ConfigurationError
from tapeline.monitoring.notification import Severity
from tapeline.strategy.strategy import load_strategy
from tasks.job import plan_jobs, resume
from tasks.paper import PaperReport, trade_on_paper


@flow(
    name="paper",
    flow_run_name="paper {account}",
    persist_result=False,
    # A run that hangs must not hold back the next bars' run for long.
    timeout_seconds=1800,
    **HOOKS,
)
def paper(
    account: str = "first",
    strategy: str = "moving_average_cross",
    symbols: list[str] = ["EURUSD"],  # noqa: B006 - Prefect shows the default in its UI and never changes it
    timeframe: str = "H1",
    source: str | None = None,
    capital: float | None = None,
    learn: bool = False,
    at: str | None = None,
) -> PaperReport:
    """Trade the bars that closed since the last run on a paper account, and tell its fills and risk stops once.

    Parameters
    ----------
    account:
        Its name; an account that is not there yet is opened, and trades bars that open from then on.
    strategy, symbols, timeframe, capital:
        What it was opened with; an account does not become another one.
    source:
        Where new bars are brought from first; the lake alone is read where absent, as the score flow fills it.
    learn:
        Whether a model's probabilities are corrected by the account's own trades so far.
    at:
        An instant in the past, UTC, to take for the present: to live through stored bars step by step.
    """
    now = pd.Timestamp.now("UTC")
    if at is not None:
        asked = pd.Timestamp(at)
        asked = asked.tz_localize("UTC") if asked.tzinfo is None else asked.tz_convert("UTC")
        if asked > now:
            raise ConfigurationError(f"at = {at} lies ahead", hint="an account cannot live in the future")
        now = asked
    jobs = plan_jobs(flow_run.get_id() or "local", source or "", symbols, timeframe, None, None)
    if source:
        bring(load_strategy(strategy), [resume(job) for job in jobs])
    report = trade_on_paper(account, strategy, jobs, capital=capital, learn=learn, now=now)
    for news in report.news:
        tell(
            news.title,
            news.body,
            key=news.key,
            severity=Severity.WARNING if news.urgent else Severity.INFO,
            once=True,
        )
    announce(report)
    return report


def announce(report: PaperReport) -> None:
    """Print the account, what it holds, and the day's decisions."""
    if report.reached is None:
        say(f"Paper account '{report.name}' is open and waits for the first bar that opens after its opening.")
        return
    print_table(f"Paper account {report.name}", report.account)
    if len(report.positions):
        print_table("Held", report.positions)
    if len(report.decisions):
        print_table("Decisions of the last day", report.decisions.drop(columns="why"))
    if len(report.refused):
        print_table("Refused", report.refused)
