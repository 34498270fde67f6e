"""A backtest: a strategy's decisions on the bars of some symbols, simulated, priced cost by cost, and reconciled."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd

from tapeline.core.account_tables import DECISIONS, EQUITY, FILLS, ORDERS, SIGNALS, TRADES
from tapeline.core.errors import DataError
from tapeline.core.symbol import Symbol
from tapeline.core.table import TableSpec
from tapeline.core.timeframe import Timeframe
from tapeline.core.versions import code_digest, digest, digest_bytes
from tapeline.evaluation.annual_periods import Calendar
from tapeline.evaluation.return_statistics import ReturnStatistics, equity_statistics
from tapeline.features.trending_regime import name_trend, trending_regime
from tapeline.strategy.cost_ladder import CostLadder, cost_ladder, equity_of, portfolio_run
from tapeline.strategy.costs import ExchangeRates
from tapeline.strategy.portfolio_account import PortfolioSettings
from tapeline.strategy.portfolio_report import PortfolioSimulation, reconcile
from tapeline.strategy.signal_sources import Surroundings
from tapeline.strategy.slippage import FixedSlippage
from tapeline.strategy.strategy import Strategy
from tapeline.strategy.strategy_decisions import Decided, decide, half_spreads
from tapeline.strategy.tear_sheet import SAMPLES, Sample, TearSheet, buy_and_hold, write_tear_sheet
from tapeline.strategy.trade_analysis import account_trades, positions, trade_statistics, traded_value

ACCOUNT: Final = Symbol.parse("#account")
"""Under this name the equity of an account lies in the lake: it belongs to no symbol."""
BAR_COLUMNS: Final = ("open", "high", "low", "close", "volume")
RUN_MODULE: Final = "tapeline.strategy.portfolio"
Said = Callable[[str], None]


@dataclass(frozen=True)
class BacktestResult:
    """What a backtest gave.

    Parameters
    ----------
    run:
        The content hash of strategy, code, settings, bars and decisions: what rows of the tables are kept under.
    decided:
        Signals and decisions by symbol.
    ladder, simulation:
        The rungs of the cost ladder, and the last of them, with all costs.
    statistics, benchmark:
        Of the account; of an account that buys all symbols in equal parts at the first close and holds them, without
        costs, each in its own currency.
    trades:
        Figures of the trades, as :func:`tapeline.strategy.trade_analysis.trade_statistics` gives them.
    """

    strategy: Strategy
    timeframe: Timeframe
    run: str
    bars: Mapping[str, pd.DataFrame]
    settings: PortfolioSettings
    decided: Mapping[str, Decided]
    ladder: CostLadder
    simulation: PortfolioSimulation
    statistics: ReturnStatistics
    benchmark: ReturnStatistics
    trades: pd.Series
    calendar: Calendar | float = "measured"
    facts: Mapping[str, str] = field(default_factory=dict)

    @property
    def symbols(self) -> tuple[str, ...]:
        """In alphabetical order."""
        return tuple(sorted(self.bars))

    @cached_property
    def signals(self) -> pd.DataFrame:
        """Signals of all symbols by their verdict: ``reason`` (``accepted``) and ``signals``, how many."""
        reasons = pd.concat([one.signals["reason"] for one in self.decided.values()])
        counts = reasons.fillna("accepted").value_counts()
        return counts.rename_axis("reason").rename("signals").reset_index()

    @cached_property
    def refusals(self) -> pd.DataFrame:
        """What limits of risk and margin cut or refused: ``reason`` and ``orders``, how many."""
        counts = self.simulation.refusals["reason"].astype(str).value_counts()
        return counts.rename_axis("reason").rename("orders").reset_index()

    def tables(self) -> dict[str, list[tuple[TableSpec, pd.DataFrame]]]:
        """Rows of the tables in the zone ``strategy`` by symbol; the account's equity under :data:`ACCOUNT`."""
        made = account_rows(self.run, self.simulation, self.symbols)
        for symbol, one in self.decided.items():
            own = [(SIGNALS, one.signal_rows(self.run)), (DECISIONS, one.decision_rows(self.run))]
            made[symbol] = [*own, *made[symbol]]
        return made

    def verdict(self, *, trials: int = 1, sample: Sample = "unknown") -> str:
        """Two sentences for the reader: what came of it, and how little one may conclude from that."""
        net = self.statistics.total_return * self.settings.capital
        free = float(self.ladder.table["net"].iloc[0])
        tried = "one configuration was tried" if trials == 1 else f"{trials} configurations were tried"
        return (
            f"{int(self.trades['trades'])} trades, net {net:+,.0f} {self.settings.currency} "
            f"({self.statistics.total_return:+.2%}) after all costs, {free:+,.0f} before; buying and holding returned "
            f"{self.benchmark.total_return:+.2%}. {SAMPLES[sample]} On these bars {tried}."
        )

    def tear_sheet(
        self, folder: Path, *, trials: int = 1, trial_sharpes: tuple[float, ...] = (), sample: Sample = "unknown"
    ) -> Path:
        """Write the HTML page; of several symbols it draws, and holds, the one with the most fills."""
        fills = self.simulation.fills["symbol"].astype(str).value_counts()
        drawn = str(fills.index[0]) if len(fills) else self.symbols[0]
        bars = self.bars[drawn]
        alone = len(self.bars) == 1
        closes = pd.DatetimeIndex(bars["close_ts"])
        regimes = pd.Series(name_trend(trending_regime(bars)).to_numpy(dtype=object), index=closes).dropna()
        return write_tear_sheet(
            TearSheet(
                title=f"{self.strategy.name} on {', '.join(self.symbols)}",
                symbol=drawn,
                timeframe=str(self.timeframe),
                account=self.simulation,
                capital=self.settings.capital,
                bars=bars,
                ladder=self.ladder,
                costs=cost_sentences(self.strategy, self.symbols, self.settings),
                trials=trials,
                trial_sharpes=trial_sharpes,
                sample=sample,
                currency=self.settings.currency,
                calendar=self.calendar,
                regimes=regimes if alone and len(regimes) else None,
                facts={
                    "strategy": self.strategy.version,
                    "run": self.run,
                    "signals": _counted(self.signals, "signals"),
                    "orders cut or refused": _counted(self.refusals, "orders") or "none",
                    **self.facts,
                },
            ),
            folder,
        )


def run_backtest(
    strategy: Strategy,
    bars: Mapping[str, pd.DataFrame],
    timeframe: Timeframe,
    *,
    around: Mapping[str, Surroundings] | None = None,
    rates: ExchangeRates | None = None,
    capital: float | None = None,
    calendar: Calendar | float = "measured",
    facts: Mapping[str, str] | None = None,
    say: Said = lambda _: None,
) -> BacktestResult:
    """Decide, simulate on every rung of the cost ladder, reconcile, and compute the figures.

    Parameters
    ----------
    bars:
        By symbol: index ``ts``; ``open``, ``high``, ``low``, ``close``, ``volume``, ``close_ts``.
    around:
        What else the strategy looks at, by symbol; nothing where absent.
    rates:
        Between the currencies of prices and that of the account, where they differ.
    capital:
        Cash at the start; the strategy's where absent.
    calendar:
        Periods a year, as :func:`tapeline.evaluation.annual_periods.annual_periods` takes it.
    facts:
        What else the tear sheet names in its header, such as versions of data.
    say:
        Told what is under way.

    Raises
    ------
    DataError
        There are no bars, or the simulation does not agree with its own fills to the cent.
    ConfigurationError
        Something that the strategy looks at is not given, or exchange rates are missing.

    Examples
    --------
    >>> from tapeline.core.example import example_bars
    >>> from tapeline.strategy.strategy import parse_strategy
    >>> strategy = parse_strategy({
    ...     "name": "cross", "sizing": {"method": "units", "units": 10}, "costs": {"half_spread_bps": 100},
    ...     "signals": {"source": "moving_average_cross", "fast": 1, "slow": 2}})
    >>> bars = {"EURUSD": example_bars(102, 101, 104, 104, 106)}
    >>> found = run_backtest(strategy, bars, Timeframe.parse("H1"), calendar="crypto")
    >>> found.ladder.table[["rung", "net"]].iloc[[0, 2]].round(6).values.tolist()
    [['no cost', 20.0], ['+ spread', 9.6]]
    """
    if not bars:
        raise DataError("there are no bars", hint="give at least one symbol")
    names = sorted(bars)
    settings = strategy.settings(names, capital=capital)
    decided: dict[str, Decided] = {}
    for symbol in names:
        say(f"deciding {symbol}")
        seen = (around or {}).get(symbol, Surroundings(symbol, timeframe))
        seen = replace(seen, equity=settings.capital if seen.equity is None else seen.equity)
        priced = settings.terms_of(symbol).currency
        if priced != settings.currency and rates is not None:
            at = pd.DatetimeIndex(bars[symbol]["close_ts"])
            known = rates.rates(priced, settings.currency, at)
            seen = replace(seen, rate=pd.Series(known, bars[symbol].index))
        decided[symbol] = decide(strategy, bars[symbol], seen)
    say("simulating with each cost more")
    ladder = cost_ladder(_simulation(strategy, bars, settings, decided, rates), settings.capital, calendar=calendar)
    simulation: PortfolioSimulation = ladder.last
    reconcile(simulation)
    say("computing figures")
    equity = equity_of(simulation)
    held = _held(bars, equity, settings.capital)
    return BacktestResult(
        strategy,
        timeframe,
        _run_hash(strategy, bars, timeframe, settings, decided, equity),
        bars,
        settings,
        decided,
        ladder,
        simulation,
        equity_statistics(
            equity,
            settings.capital,
            calendar=calendar,
            benchmark=held,
            position=positions(simulation),
            traded=traded_value(simulation.fills),
        ),
        equity_statistics(held, settings.capital, calendar=calendar),
        trade_statistics(account_trades(simulation)),
        calendar,
        dict(facts or {}),
    )


def cost_sentences(strategy: Strategy, symbols: tuple[str, ...], settings: PortfolioSettings) -> list[str]:
    """One sentence a cost that was assumed, symbols of equal terms together."""
    told: dict[str, list[str]] = {}
    for symbol in symbols:
        terms = settings.terms_of(symbol)
        fee, slip = terms.commission, terms.slippage
        tiers = f"{len(fee.tiers)} tiers" if fee.tiers else f"{fee.taker_bps:g} bp taker, {fee.maker_bps:g} bp maker"
        extra = f", {fee.per_unit:g} a unit" if fee.per_unit else ""
        least = f", at least {fee.minimum:g}" if fee.minimum is not None else ""
        if isinstance(slip, FixedSlippage):
            slipped = f"{slip.bps:g} bp" + (f" and {slip.ticks:g} ticks" if slip.ticks else "")
        else:
            slipped = f"the model '{slip.kind}'"
        said = (
            f"Commission {tiers}{extra}{least} ({fee.currency}); half spread {1e4 * strategy.half_spread(symbol):g} bp "
            f"of the open; slippage {slipped}"
        )
        told.setdefault(said, []).append(symbol)
    late = strategy.content.costs.latency
    sentences = [f"{said}: {', '.join(names)}." if len(told) > 1 else f"{said}." for said, names in told.items()]
    instant = late.kind == "constant" and not late.median_ms
    sentences.append(
        "Orders arrive at the close that decided them and are filled from the next open on."
        if instant
        else f"Orders arrive late by a delay of kind '{late.kind}', seed {late.seed}."
    )
    charged = [symbol for symbol in symbols if symbol in strategy.content.costs.financing]
    sentences.append(f"Holding is charged in {', '.join(charged)}." if charged else "Holding a position costs nothing.")
    return [*sentences, "No dividend is paid."]


def _simulation(
    strategy: Strategy,
    bars: Mapping[str, pd.DataFrame],
    settings: PortfolioSettings,
    decided: Mapping[str, Decided],
    rates: ExchangeRates | None,
) -> Any:
    late = strategy.content.costs.latency
    instant = late.kind == "constant" and not late.median_ms
    return portfolio_run(
        bars,
        {(name, strategy.name) if settings.hedging else name: one.decisions for name, one in decided.items()},
        settings,
        rates=rates,
        latency=None if instant else {name: _delays(strategy, bars[name]) for name in bars},
        **trading_terms(strategy, bars, settings),
    )


def account_rows(
    run: str, simulation: PortfolioSimulation, symbols: Sequence[str]
) -> dict[str, list[tuple[TableSpec, pd.DataFrame]]]:
    """Rows of the tables of orders, fills and trades by symbol; the account's equity under :data:`ACCOUNT`."""
    made: dict[str, list[tuple[TableSpec, pd.DataFrame]]] = {}
    for symbol in symbols:
        made[symbol] = []
        for spec, number, frame in (
            (ORDERS, "order", simulation.orders),
            (FILLS, "fill", simulation.fills),
            (TRADES, "trade", simulation.trades),
        ):
            rows = frame.assign(run=run, **{number: np.arange(len(frame))})[frame["symbol"] == symbol]
            made[symbol].append((spec, rows[[name for name in spec.schema.names if name in rows]]))
    equity = simulation.equity.rename_axis("ts").reset_index().assign(run=run)
    made[str(ACCOUNT)] = [(EQUITY, equity[EQUITY.schema.names])]
    return made


def trading_terms(strategy: Strategy, bars: Mapping[str, pd.DataFrame], settings: PortfolioSettings) -> dict[str, Any]:
    """What the engine takes beside bars, decisions and settings: limits of risk, spreads, volatility, holding costs."""
    names = sorted(bars)
    limits = None
    if strategy.content.risk is not None:
        returns = _past_returns(bars) if strategy.content.risk.needs_returns else None
        lots = {name: settings.terms_of(name).lot for name in names if settings.terms_of(name).lot > 0}
        limits = strategy.content.risk.compiled(names, lots=lots, returns=returns)
    models = [settings.terms_of(name).slippage for name in names]
    moving = not all(isinstance(model, FixedSlippage) for model in models)
    window = strategy.content.volatility_window
    charged = {
        name: terms.position_rates(pd.DatetimeIndex(bars[name].index), bars[name]["close"].to_numpy(dtype=np.float64))
        for name, terms in strategy.content.costs.financing.items()
        if name in bars
    }
    return {
        "limits": limits,
        "half_spread": {name: half_spreads(strategy, bars[name], name) for name in names},
        "volatility": {name: _deviation(bars[name], window) for name in names} if moving else None,
        "long_rate": {name: rates[0] for name, rates in charged.items()} or None,
        "short_rate": {name: rates[1] for name, rates in charged.items()} or None,
    }


def _counted(table: pd.DataFrame, column: str) -> str:
    return ", ".join(f"{reason} {number}" for reason, number in zip(table["reason"], table[column], strict=True))


def _past_returns(bars: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Simple returns from close to close, by when each was known."""
    columns = {}
    for name, frame in bars.items():
        change = frame["close"].pct_change(fill_method=None)
        columns[name] = change.where(np.isfinite(change)).set_axis(pd.DatetimeIndex(frame["close_ts"]))
    return pd.DataFrame(columns).sort_index()


def _deviation(bars: pd.DataFrame, window: int) -> np.ndarray:
    """Standard deviation of a bar's return over the bars before it, for the fills that happen in it."""
    found = bars["close"].pct_change(fill_method=None).rolling(window).std().shift()
    return np.asarray(found, dtype=np.float64)


def _delays(strategy: Strategy, bars: pd.DataFrame) -> np.ndarray:
    delays = strategy.content.costs.latency.delays(np.arange(len(bars)))
    return np.asarray(delays.as_unit("ns").asi8)


def _held(bars: Mapping[str, pd.DataFrame], equity: pd.Series, capital: float) -> pd.Series:
    """Equity of equal parts in every symbol, bought at the first close and held."""
    share = capital / len(bars)
    parts = [buy_and_hold(frame, equity.index, share) for frame in bars.values()]
    return pd.Series(np.sum([part.to_numpy() for part in parts], axis=0), equity.index)


def _run_hash(
    strategy: Strategy,
    bars: Mapping[str, pd.DataFrame],
    timeframe: Timeframe,
    settings: PortfolioSettings,
    decided: Mapping[str, Decided],
    equity: pd.Series,
) -> str:
    # Equity stands for all that decisions do not show, such as exchange rates.
    parts = {"": digest_bytes(np.ascontiguousarray(equity.to_numpy(dtype=np.float64)).tobytes())}
    for symbol in sorted(bars):
        frame, made = bars[symbol], decided[symbol]
        times = (frame.index, frame["close_ts"], made.decisions.index, made.signals["ts"])
        arrays = [pd.DatetimeIndex(each).as_unit("ns").asi8 for each in times]
        arrays += [frame[name].to_numpy(dtype=np.float64) for name in BAR_COLUMNS]
        arrays += [made.decisions[name].to_numpy(dtype=np.float64) for name in made.decisions]
        arrays += [made.signals[name].to_numpy(dtype=np.float64) for name in ("side", "accepted", "probability")]
        parts[symbol] = digest_bytes(*(np.ascontiguousarray(each).tobytes() for each in arrays))
    account = {"capital": settings.capital, "currency": settings.currency}
    return digest([strategy.version, str(timeframe), account, parts, code_digest(RUN_MODULE)])
