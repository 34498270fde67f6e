"""Backtest: from clean bars, and what else a strategy reads, to the tables of the account and its tear sheet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
from prefect import task
from prefect.cache_policies import NO_CACHE

from tapeline.console import say
from tapeline.core.account_tables import DECISIONS, EQUITY
from tapeline.core.errors import ConfigurationError, DataError
from tapeline.core.schemas import CLEAN_BARS, EVENTS, SCORES
from tapeline.core.symbol import Symbol
from tapeline.core.timeframe import Timeframe
from tapeline.lake.lake import Lake
from tapeline.strategy.backtest import ACCOUNT, BacktestResult, run_backtest
from tapeline.strategy.costs import ExchangeRates
from tapeline.strategy.signal_sources import ModelScores, Surroundings
from tapeline.strategy.strategy import Strategy, load_strategy
from tapeline.strategy.tear_sheet import Sample, daily_returns
from tasks.artifacts import Progress, show_link, show_markdown, show_table
from tasks.features import feature_table
from tasks.job import STAGE_SECONDS, Job, open_lake
from tasks.observe import observed
from tasks.summary import markdown_table, safe_file_name

_PERCENT: Final = ("total_return", "annual_return", "annual_volatility", "maximum_drawdown", "time_in_drawdown")
_SHOWN: Final = (*_PERCENT[:3], "sharpe", "sortino", "calmar", *_PERCENT[3:], "exposure", "turnover")


@dataclass(frozen=True)
class BacktestReport:
    """What a person sees of a backtest.

    Parameters
    ----------
    title, run, verdict:
        Strategy, symbols and timeframe; the content hash under which its rows lie in the lake; what may be concluded.
    statistics, ladder, trades, refused:
        Tables of texts and numbers for a terminal or a page.
    page:
        The tear sheet.
    rows:
        How many rows each table of the lake has of this run.
    """

    title: str
    run: str
    verdict: str
    statistics: pd.DataFrame
    ladder: pd.DataFrame
    trades: pd.DataFrame
    refused: pd.DataFrame
    page: Path
    rows: dict[str, int]


@task(task_run_name="backtest {strategy}", cache_policy=NO_CACHE, timeout_seconds=STAGE_SECONDS, tags=["backtest"])
def backtest_strategy(
    strategy: str, jobs: Sequence[Job], *, capital: float | None = None, sample: Sample = "unknown"
) -> BacktestReport:
    """Trade the stored clean bars of some series on one account, store what it did, and show the figures."""
    _, lake = open_lake()
    steps = Progress("progress-backtest", f"Backtest of {strategy}")
    read = load_strategy(strategy)
    with observed("backtest", read.name) as seen:
        bars = {str(job.symbol): read_bars(lake, job) for job in jobs}
        around = {str(job.symbol): surroundings(lake, read, job) for job in jobs}
        bars = from_first_score(read, bars, around)
        steps(0.2)
        seen.count(rows_in=sum(map(len, bars.values())))
        versions = {f"bars of {job.name}": lake.version(CLEAN_BARS, job.symbol, job.timeframe) for job in jobs}
        result = run_backtest(
            read,
            bars,
            jobs[0].timeframe,
            around=around,
            rates=exchange_rates(lake, read, jobs, capital),
            capital=capital,
            facts=versions,
            say=lambda text: say(f"backtest: {text}"),
        )
        steps(0.6)
        rows = store(lake, result, jobs, versions)
        steps(0.8)
        report = show(lake, result, jobs, rows, sample)
        steps(1.0)
        seen.count(rows_out=sum(rows.values()))
    return report


def read_bars(lake: Lake, job: Job) -> pd.DataFrame:
    """A job's clean bars, those without a price left out.

    Raises
    ------
    DataError
        There are none.
    """
    names = ["open", "high", "low", "close", "volume", "close_ts"]
    bars = lake.read(CLEAN_BARS, job.symbol, job.timeframe, start=job.start, end=job.end, columns=names)
    if bars.empty:
        raise DataError(
            f"the lake holds no clean bars of {job.name} in that range",
            hint=f"bring them first: tapeline run --symbols {job.symbol} --timeframe {job.timeframe}, or add --source",
        )
    return bars


def surroundings(lake: Lake, strategy: Strategy, job: Job) -> Surroundings:
    """What a strategy reads beside a job's bars, from the lake.

    Raises
    ------
    DataError
        The lake does not hold it.
    """
    settings, _ = open_lake()
    scores = features = higher = None
    if strategy.needs_scores:
        scores = lake.read(SCORES, job.symbol, job.timeframe, end=job.end)
        if scores.empty:
            raise DataError(f"the lake holds no scores of {job.name}", hint="train and score first: tapeline run")
    if strategy.needs_features:
        _, spec = feature_table(settings)
        read_by = set() if strategy.rules is None else set(strategy.rules.used)
        wanted = [name for name in spec.schema.names if name in read_by]
        features = lake.read(
            spec, job.symbol, job.timeframe, start=job.start, end=job.end, columns=["known_at", *wanted]
        )
        if features.empty:
            raise DataError(
                f"the lake holds no features of {job.name} of the set {spec.name}",
                hint=f"compute them: tapeline run --no-train --symbols {job.symbol}, or add --source",
            )
    if strategy.content.higher_timeframe is not None:
        step = Timeframe.parse(strategy.content.higher_timeframe)
        higher = lake.read(CLEAN_BARS, job.symbol, step, end=job.end)
        if higher.empty:
            raise DataError(f"the lake holds no clean bars of {job.symbol} {step}", hint="bring them: tapeline run")
    findings = lake.read(EVENTS, job.symbol, job.timeframe, end=job.end) if strategy.findings else pd.DataFrame()
    events = {}
    for kind in strategy.findings:
        found = findings[findings["kind"].astype(str) == kind] if len(findings) else findings
        if found.empty:
            raise DataError(
                f"the lake holds no findings of kind '{kind}' of {job.name}", hint="tapeline run finds them"
            )
        events[kind] = found.reset_index().assign(kind=found["kind"].astype(str).to_numpy())
    return Surroundings(str(job.symbol), job.timeframe, scores=scores, features=features, events=events, higher=higher)


def from_first_score(
    strategy: Strategy, bars: dict[str, pd.DataFrame], around: dict[str, Surroundings]
) -> dict[str, pd.DataFrame]:
    """The bars from the first score on where a strategy trades scores: before it the account could only have slept."""
    signals = strategy.content.signals
    if not isinstance(signals, ModelScores):
        return bars
    scored = [one.scores for one in around.values() if one.scores is not None]
    first = min(signals.chosen(each)["ts"].min() for each in scored)
    kept = {name: frame[frame.index >= first] for name, frame in bars.items()}
    if empty := [name for name, frame in kept.items() if frame.empty]:
        raise DataError(f"no bar of {', '.join(empty)} comes after the first score at {first}", hint="move the range")
    return kept


def exchange_rates(lake: Lake, strategy: Strategy, jobs: Sequence[Job], capital: float | None) -> ExchangeRates | None:
    """Rates between the currencies of prices and that of the account, from the closes of pairs that the lake holds."""
    names = [str(job.symbol) for job in jobs]
    settings = strategy.settings(names, capital=capital)
    if {settings.terms_of(name).currency for name in names} == {settings.currency}:
        return None
    quotes: dict[str, pd.Series] = {}
    for series in lake.series():
        if series.spec.path != CLEAN_BARS.path or series.timeframe != jobs[0].timeframe:
            continue
        closes = lake.read(CLEAN_BARS, series.symbol, series.timeframe, columns=["close", "close_ts"])
        known = closes["close"].set_axis(pd.DatetimeIndex(closes["close_ts"]))
        try:
            ExchangeRates({str(series.symbol): known[:0]})
        except ConfigurationError:
            continue  # no pair of currencies
        quotes[str(series.symbol)] = known[np.isfinite(known) & (known > 0)]
    return ExchangeRates(quotes)


def store(lake: Lake, result: BacktestResult, jobs: Sequence[Job], versions: dict[str, str]) -> dict[str, int]:
    """Write the tables; the same run again changes no byte."""
    by_symbol = {str(job.symbol): job for job in jobs}
    inputs = (result.strategy.version, *(f"{name}@{version}" for name, version in versions.items()))
    written: dict[str, int] = {}
    for name, tables in result.tables().items():
        job = by_symbol.get(name, jobs[0])
        for spec, frame in tables:
            if len(frame):
                lineage = job.lineage("backtest", *inputs)
                lake.write(spec, frame, Symbol.parse(name), job.timeframe, lineage=lineage)
            written[spec.path] = written.get(spec.path, 0) + len(frame)
    return written


def earlier_trials(lake: Lake, result: BacktestResult, jobs: Sequence[Job]) -> tuple[int, tuple[float, ...]]:
    """How many strategies the lake knows to have been tried on these series, this one included.

    Returns
    -------
    The number of versions, and the Sharpe ratio of one day of each whose equity is there.
    """
    parts = [
        lake.read(DECISIONS, job.symbol, job.timeframe, columns=["run", "strategy"]).drop_duplicates() for job in jobs
    ]
    known = pd.concat(parts).astype(str).drop_duplicates()
    tried = {*known["strategy"], result.strategy.version}
    equity = lake.read(EQUITY, ACCOUNT, jobs[0].timeframe, columns=["run", "equity"])
    sharpes = {}
    for (version,), runs in known.groupby(["strategy"]):
        for run, rows in equity[equity["run"].isin(runs["run"])].groupby("run")["equity"]:
            daily = daily_returns(rows, float(rows.iloc[0]))
            if run != result.run and len(daily) > 2 and daily.std() > 0:
                sharpes[str(version)] = float(daily.mean() / daily.std())
    return len(tried), tuple(sharpes[name] for name in sorted(sharpes))


def show(
    lake: Lake, result: BacktestResult, jobs: Sequence[Job], rows: dict[str, int], sample: Sample
) -> BacktestReport:
    """Write the tear sheet and put tables, verdict and link on the run's page."""
    settings, _ = open_lake()
    trials, sharpes = earlier_trials(lake, result, jobs)
    verdict = result.verdict(trials=trials, sample=sample)
    names = "-".join(result.symbols[:3]) + (f"-and-{len(result.symbols) - 3}-more" if len(result.symbols) > 3 else "")
    stem = safe_file_name(f"{result.strategy.name}-{names}-{result.timeframe}-{result.run[:8]}")
    folder = settings.reports_path / "backtests" / stem
    page = result.tear_sheet(folder, trials=trials, trial_sharpes=sharpes, sample=sample)
    title = f"{result.strategy.name} on {', '.join(result.symbols)} {result.timeframe}"
    report = BacktestReport(
        title,
        result.run,
        verdict,
        statistics_table(result),
        ladder_table(result),
        trades_table(result),
        refused_table(result),
        page,
        rows,
    )
    key = f"backtest {result.strategy.name} {jobs[0].timeframe}"
    show_table(f"{key} statistics", report.statistics.to_dict("records"), f"Figures: {title}")
    show_table(f"{key} costs", report.ladder.to_dict("records"), f"What each cost took: {title}")
    text = "\n\n".join(
        [
            verdict,
            f"Run `{result.run}` of `{result.strategy.version}`.",
            "### What each cost took",
            markdown_table(report.ladder),
            "### Figures",
            markdown_table(report.statistics),
            "### Trades",
            markdown_table(report.trades),
            *(["### Refused", markdown_table(report.refused)] if len(report.refused) else []),
        ]
    )
    show_markdown(key, text, f"Backtest: {title}")
    show_link(f"{key} tear sheet", page.as_uri(), f"Tear sheet: {title}")
    return report


def statistics_table(result: BacktestResult) -> pd.DataFrame:
    """Figures of the account beside those of buying and holding, as texts."""

    def told(name: str, value: Any) -> str:
        if value is None or not np.isfinite(value):
            return "-"
        return f"{value:.2%}" if name in _PERCENT or name == "exposure" else f"{value:.2f}"

    own, other = result.statistics.series(), result.benchmark.series()
    words = {"turnover": "turnover a year, times equity", "sharpe": "Sharpe ratio", "sortino": "Sortino ratio"}
    words |= {"calmar": "Calmar ratio", "time_in_drawdown": "time below a former peak"}
    named = {name: words.get(name, name.replace("_", " ")) for name in _SHOWN}
    rows = [(text, told(name, own[name]), told(name, other[name])) for name, text in named.items()]
    return pd.DataFrame(rows, columns=["figure", "strategy", "buy and hold"])


def ladder_table(result: BacktestResult) -> pd.DataFrame:
    """The cost ladder, as texts and whole numbers."""
    table = result.ladder.table
    return pd.DataFrame(
        {
            # A cell is Markdown on Prefect's pages, where a plus begins a list.
            "costs": [str(rung).replace("+ ", "then ") for rung in table["rung"]],
            f"net, {result.settings.currency}": [f"{value:,.2f}" for value in table["net"]],
            "taken": ["" if np.isnan(value) else f"{value:,.2f}" for value in table["taken"]],
            "return": [f"{value:.2%}" for value in table["total_return"]],
            "Sharpe": [f"{value:.2f}" for value in table["sharpe"]],
            "drawdown": [f"{value:.2%}" for value in table["maximum_drawdown"]],
            "trades": table["trades"],
            "fills": table["fills"],
        }
    )


def trades_table(result: BacktestResult) -> pd.DataFrame:
    """The figures of trades that are read first."""
    found, unit = result.trades, result.settings.currency

    def told(text: str, *names: str) -> str:
        values = [float(found[name]) for name in names]
        return "-" if any(map(np.isnan, values)) else text.format(*values)

    rows = [
        ("trades", f"{found['trades']}, {found['open']} of them open"),
        ("win rate", told("{:.1%} (95 %: {:.1%} to {:.1%})", "win_rate", "win_rate_low", "win_rate_high")),
        ("payoff", told("{:.2f}", "payoff")),
        ("profit factor", told("{:.2f}", "profit_factor")),
        (f"mean net of a trade, {unit}", told("{:,.2f}", "expectancy")),
        ("its 95 % interval", told("{:,.2f} to {:,.2f}", "expectancy_low", "expectancy_high")),
        ("p-value of a mean of 0", told("{:.3f}", "p_value")),
        ("longest losing streak", f"{found['losing_streak']}"),
    ]
    return pd.DataFrame(rows, columns=["figure", "value"])


def refused_table(result: BacktestResult) -> pd.DataFrame:
    """Signals that were refused, and orders that limits cut, with their reasons; empty where all went through."""
    signals = result.signals[result.signals["reason"] != "accepted"].rename(columns={"signals": "number"})
    orders = result.refusals.rename(columns={"orders": "number"})
    return pd.concat([signals.assign(of="signals"), orders.assign(of="orders")], ignore_index=True)[
        ["of", "reason", "number"]
    ]
