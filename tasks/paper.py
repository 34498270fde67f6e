"""Paper trading: one step of an account over what the lake holds now, written down before anything is told of it.

The order of writes makes a step safe: first the account's own file in one step, then its rows in the lake, which are
computed from that file and written again by each run, then what people are told, each once. Whatever a crash leaves
out, the next run brings.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
from filelock import FileLock, Timeout
from prefect import task
from prefect.cache_policies import NO_CACHE

from tapeline.core.errors import ConfigurationError, DataError, TemporaryError
from tapeline.core.symbol import Symbol, parse_name
from tapeline.core.whole_file import write_whole
from tapeline.lake.lake import Lake
from tapeline.strategy.backtest import ACCOUNT
from tapeline.strategy.cost_ladder import equity_of
from tapeline.strategy.paper_account import PaperAccount, open_account
from tapeline.strategy.portfolio_report import PortfolioSimulation, reconcile
from tapeline.strategy.signal_sources import Surroundings
from tapeline.strategy.strategy import Strategy, load_strategy
from tapeline.strategy.trade_feedback import TradeFeedback, corrected_scores, trade_outcomes
from tasks.artifacts import show_markdown, show_table
from tasks.backtest import exchange_rates, read_bars, surroundings
from tasks.job import STAGE_SECONDS, Job, open_lake
from tasks.observe import observed

FOLDER: Final = "paper"
LOCK_SECONDS: Final = 30.0
FRESH_BARS: Final = 3
"""A fill or a limit that bound is news for so many bar lengths."""


@dataclass(frozen=True)
class News:
    """Something to tell once: ``key`` is the same however often the run is repeated."""

    title: str
    body: str
    key: str
    urgent: bool = False


@dataclass(frozen=True)
class PaperReport:
    """What a person sees of a step.

    Parameters
    ----------
    name, reached:
        The account, and the close up to which it has traded; None before its first bar.
    account, positions, decisions, refused:
        Tables: one row of money; what is held; the decisions of the last day with their reasons; what was refused.
    news:
        Fresh fills and limits that bound.
    rows:
        Rows of each table of the lake.
    """

    name: str
    reached: pd.Timestamp | None
    account: pd.DataFrame
    positions: pd.DataFrame
    decisions: pd.DataFrame
    refused: pd.DataFrame
    news: tuple[News, ...]
    rows: dict[str, int]


@task(task_run_name="paper {name}", cache_policy=NO_CACHE, timeout_seconds=STAGE_SECONDS, tags=["paper"])
def trade_on_paper(
    name: str,
    strategy: str,
    jobs: Sequence[Job],
    *,
    capital: float | None = None,
    learn: bool = False,
    now: pd.Timestamp | None = None,
) -> PaperReport:
    """Take one step of a paper account: open it where it is not there yet, trade what has closed, write it down.

    Parameters
    ----------
    learn:
        Whether a model's probabilities are corrected by what the account's own trades have shown of it so far.
    now:
        The instant to take for the present; the clock's where absent.

    Raises
    ------
    ConfigurationError
        The account is another strategy's, or has other symbols, another timeframe or capital.
    TemporaryError
        Another process is trading it.
    """
    settings, lake = open_lake()
    read = load_strategy(strategy)
    present = pd.Timestamp.now("UTC") if now is None else now
    path = account_path(settings.state_path, name)
    with observed("paper", f"paper {name}") as seen, held_alone(path):
        account = load_account(path) or opened(read, name, jobs, capital, present)
        require_same(account, jobs, capital)
        bars = {str(job.symbol): read_bars(lake, job) for job in jobs}
        rates = exchange_rates(lake, read, jobs, capital)
        around = {str(job.symbol): known_by(surroundings(lake, read, job), present) for job in jobs}
        if learn:
            found = simulated(account, read, rates)
            around = {s: learned(account, found, read, s, one) for s, one in around.items()}
        before = account.reached
        account = account.step(read, bars, around, present, rates=rates)
        seen.count(rows_in=sum(map(len, bars.values())), rows_out=int(account.reached != before))
        write_whole(path, account.to_bytes(), what="paper account")
        # What the engine makes of it is asked once, for all that is told of it.
        found = simulated(account, read, rates)
        report = published(lake, account, found, jobs, present)
        write_feedback(path, account, found, read)
    return report


def account_path(state: Path, name: str) -> Path:
    """Where an account is kept."""
    return state / FOLDER / f"{parse_name(name, 'paper account')}.npz"


def load_account(path: Path) -> PaperAccount | None:
    """The account of a file; None where there is none."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    try:
        return PaperAccount.from_bytes(content)
    except DataError as error:
        raise DataError(f"{path}: {error.message}", hint="move the file away to open the account anew") from error


@contextmanager
def held_alone(path: Path) -> Iterator[None]:
    """Keep other processes from trading the account meanwhile."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(path.with_suffix(".lock"), timeout=LOCK_SECONDS):
            yield
    except Timeout as error:
        raise TemporaryError(
            f"another process has traded the paper account '{path.stem}' for {LOCK_SECONDS:g} seconds",
            hint="wait for it to finish, then try again",
        ) from error


def opened(
    strategy: Strategy, name: str, jobs: Sequence[Job], capital: float | None, now: pd.Timestamp
) -> PaperAccount:
    """A new account that trades bars from now on."""
    symbols = [str(job.symbol) for job in jobs]
    return open_account(name, strategy, symbols, jobs[0].timeframe, at=now, capital=capital)


def require_same(account: PaperAccount, jobs: Sequence[Job], capital: float | None) -> None:
    """ConfigurationError where an account is asked to become another one."""
    terms = account.terms
    asked = (tuple(sorted(str(job.symbol) for job in jobs)), str(jobs[0].timeframe), capital or terms.capital)
    if asked != (terms.symbols, terms.timeframe, terms.capital):
        raise ConfigurationError(
            f"the paper account '{terms.name}' trades {', '.join(terms.symbols)} {terms.timeframe} with "
            f"{'the capital of its strategy' if terms.capital is None else f'{terms.capital:g}'}",
            hint="open another account, with another name, for anything else",
        )


def known_by(around: Surroundings, now: pd.Timestamp) -> Surroundings:
    """Without the scores that were not made yet."""
    if around.scores is None or "scored_at" not in around.scores:
        return around
    return replace(around, scores=around.scores[around.scores["scored_at"] <= now])


def simulated(account: PaperAccount, strategy: Strategy, rates: Any) -> PortfolioSimulation | None:
    """What the engine makes of the account; None before its first bar."""
    if not any(len(book.traded) for book in account.books.values()):
        return None
    return account.simulation(strategy, rates=rates)


def learned(
    account: PaperAccount, found: PortfolioSimulation | None, strategy: Strategy, symbol: str, around: Surroundings
) -> Surroundings:
    """With each score's probability corrected by the trades that had closed when it was known."""
    outcomes = outcomes_of(account, found, strategy, symbol)
    if around.scores is None or outcomes is None:
        return around
    return replace(around, scores=corrected_scores(around.scores, outcomes))


def outcomes_of(
    account: PaperAccount, found: PortfolioSimulation | None, strategy: Strategy, symbol: str
) -> pd.DataFrame | None:
    """What became of the signals of a symbol; None before the first trade has closed."""
    book = account.books.get(symbol)
    if found is None or book is None or not book.decisions or not book.signals:
        return None
    mine = replace(
        found,
        trades=found.trades[found.trades["symbol"] == symbol].reset_index(drop=True),
        fills=found.fills[found.fills["symbol"] == symbol].reset_index(drop=True),
    )
    if not mine.trades["exit_at"].notna().any():
        return None
    signals = pd.DataFrame(list(book.signals))
    signals = signals.assign(ts=pd.to_datetime(signals["ts"], utc=True), known_at=pd.to_datetime(signals["acted_at"]))
    return trade_outcomes(mine, found.orders, signals, book.traded, source=strategy.name)


def write_feedback(
    path: Path, account: PaperAccount, found: PortfolioSimulation | None, strategy: Strategy
) -> Path | None:
    """Write what the account's closed trades say of their sources beside the account; None where there is none."""
    each = [outcomes_of(account, found, strategy, symbol) for symbol in account.terms.symbols]
    known = [one for one in each if one is not None]
    if not known:
        return None
    feedback = TradeFeedback.of(pd.concat(known, ignore_index=True), pd.Timestamp(account.reached, tz="UTC"))
    return write_whole(path.with_suffix(".feedback.json"), feedback.to_json(), what="feedback of trades")


def published(
    lake: Lake,
    account: PaperAccount,
    simulation: PortfolioSimulation | None,
    jobs: Sequence[Job],
    now: pd.Timestamp,
) -> PaperReport:
    """Write the account's rows and show what it did."""
    nothing = pd.DataFrame()
    if simulation is None:
        return PaperReport(account.terms.name, None, nothing, nothing, nothing, nothing, (), {})
    reconcile(simulation)
    rows = store(lake, account, simulation, jobs)
    report = PaperReport(
        account.terms.name,
        pd.Timestamp(account.reached, tz="UTC"),
        account_table(account, simulation),
        positions_table(simulation),
        decisions_table(account),
        refused_table(account, simulation),
        tuple(news(account, simulation, jobs, now)),
        rows,
    )
    show(report)
    return report


def store(lake: Lake, account: PaperAccount, simulation: PortfolioSimulation, jobs: Sequence[Job]) -> dict[str, int]:
    """Write all rows of the account; those that are there already change no byte."""
    by_symbol = {str(job.symbol): job for job in jobs}
    written: dict[str, int] = {}
    for name, tables in account.tables(simulation).items():
        job = by_symbol.get(name, jobs[0])
        # Of an account, unlike a run, the lineage is the same each time: the account itself.
        lineage = replace(job, run_id=account.terms.run).lineage("paper", account.terms.strategy)
        for spec, frame in tables:
            if len(frame):
                lake.write(
                    spec, frame, ACCOUNT if name == str(ACCOUNT) else Symbol.parse(name), job.timeframe, lineage=lineage
                )
            written[spec.path] = written.get(spec.path, 0) + len(frame)
    return written


def account_table(account: PaperAccount, simulation: PortfolioSimulation) -> pd.DataFrame:
    """One row: money now, since the opening, and the fall from the highest."""
    equity, capital = equity_of(simulation), simulation.settings.capital
    last = simulation.equity.iloc[-1]
    high = max(capital, float(equity.max()))
    row = {
        "account": account.terms.name,
        "at": f"{simulation.equity.index[-1]:%Y-%m-%d %H:%M}",
        "equity": round(float(last["equity"]), 2),
        "cash": round(float(last["cash"]), 2),
        "gross": round(float(last["gross"]), 2),
        "net": round(float(last["net"]), 2),
        "currency": simulation.settings.currency,
        "return": f"{last['equity'] / capital - 1:+.2%}",
        "below the highest": f"{1 - last['equity'] / high:.2%}",
        "trades": int(simulation.trades["exit_at"].notna().sum()),
        "bars late": account.late_bars,
    }
    return pd.DataFrame([row])


def positions_table(simulation: PortfolioSimulation) -> pd.DataFrame:
    """What is held: since when, at which price, and what it has made so far."""
    held = simulation.trades[simulation.trades["exit_at"].isna()]
    table = held[["symbol", "entry_at", "quantity", "entry_price", "profit"]].astype({"symbol": str})
    return table.assign(entry_at=table["entry_at"].dt.strftime("%Y-%m-%d %H:%M")).reset_index(drop=True)


def decisions_table(account: PaperAccount) -> pd.DataFrame:
    """The decisions of the last day, newest first."""
    since = account.reached - pd.Timedelta("1D").value
    rows = [
        {
            "symbol": symbol,
            "bar": f"{pd.Timestamp(one['ts']):%Y-%m-%d %H:%M}",
            "target": one["target"],
            "stop": None if np.isnan(one["stop"]) else one["stop"],
            "take": None if np.isnan(one["take"]) else one["take"],
            "reason": one["reason"],
            "why": one["explanation"],
        }
        for symbol, book in account.books.items()
        for one in book.decisions
        if one["ts"] >= since
    ]
    return pd.DataFrame(sorted(rows, key=lambda row: (row["bar"], row["symbol"]), reverse=True))


def refused_table(account: PaperAccount, simulation: PortfolioSimulation) -> pd.DataFrame:
    """Signals that were refused and wishes that limits cut, by reason."""
    reasons = [s["reason"] for book in account.books.values() for s in book.signals if not s["accepted"]]
    parts = {"signals": pd.Series(reasons, dtype=object), "orders": simulation.refusals["reason"].astype(str)}
    counts = [
        part.value_counts().rename("number").rename_axis("reason").reset_index().assign(of=of)
        for of, part in parts.items()
    ]
    return pd.concat(counts, ignore_index=True)[["of", "reason", "number"]]


def news(
    account: PaperAccount, simulation: PortfolioSimulation, jobs: Sequence[Job], now: pd.Timestamp
) -> Iterator[News]:
    """Fills and limits that bound of the last bars, each under a key that stays the same."""
    since, run = now - FRESH_BARS * jobs[0].timeframe.duration, account.terms.run
    fills = simulation.fills
    # The close of its bar is when a fill is known of, the last bar's included.
    for number in np.flatnonzero((fills["ts"] >= since - jobs[0].timeframe.duration).to_numpy()).tolist():
        fill = fills.iloc[number]
        what = "bought" if fill["quantity"] > 0 else "sold"
        by = "" if fill["reason"] == "signal" else f" by {fill['reason']}"
        title = f"paper {account.terms.name}: {what} {abs(fill['quantity']):.10g} {fill['symbol']}{by}"
        when = f"{fill['ts']:%Y-%m-%d %H:%M}"
        body = f"at {fill['price']:.10g}, in the bar of {when} UTC; commission {fill['commission']:.4g}"
        yield News(title, body, f"{run}/fill/{number}", fill["reason"] in ("margin", "kill_switch"))
    refusals = simulation.refusals[simulation.refusals["ts"] >= since - jobs[0].timeframe.duration]
    for row in refusals.drop_duplicates(["decided_at", "symbol", "reason"]).to_dict("records"):
        title = f"paper {account.terms.name}: {row['reason']} bound in {row['symbol']}"
        body = f"asked {row['asked']:.10g} units, permitted {row['permitted']:.10g}, decided at {row['decided_at']}"
        key = f"{run}/risk/{row['decided_at'].value}/{row['symbol']}/{row['reason']}"
        yield News(title, body, key, urgent=row["reason"] in ("margin", "kill_switch", "daily_loss"))


def show(report: PaperReport) -> None:
    """Put the tables on the run's page."""
    key = f"paper {report.name}"
    show_table(f"{key} account", report.account.to_dict("records"), f"Paper account {report.name}")
    show_table(f"{key} positions", report.positions.to_dict("records"), f"What {report.name} holds")
    show_table(f"{key} decisions", report.decisions.to_dict("records"), f"Decisions of {report.name}, the last day")
    show_table(f"{key} refused", report.refused.to_dict("records"), f"What was refused to {report.name}")
    held = (
        "nothing"
        if report.positions.empty
        else ", ".join(f"{row.quantity:g} {row.symbol}" for row in report.positions.itertuples())
    )
    one = report.account.iloc[0]
    text = f"Equity {one['equity']:,.2f} {one['currency']} ({one['return']}) at {one['at']} UTC; holds {held}."
    show_markdown(key, text, f"Paper account {report.name}")
