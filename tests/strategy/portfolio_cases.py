"""Random portfolios: books of several symbols, lengths, currencies and tags, whose settings meet every rule often."""

from __future__ import annotations

from bisect import bisect_right

import numpy as np
import pandas as pd

from tapeline.strategy.costs import ExchangeRates
from tapeline.strategy.portfolio import simulate_portfolio
from tapeline.strategy.portfolio_account import PortfolioSettings, SymbolTerms
from tapeline.strategy.risk_kernels import no_limits
from tests.strategy.cases import Case
from tests.strategy.portfolio_oracle import PortfolioOracle

START = pd.Timestamp("2017-01-02 23:30", tz="UTC")


class PortfolioCase:
    """One random portfolio; everything follows from the seed."""

    def __init__(self, seed: int, rows: int = 16, *, same_grid: bool = False) -> None:
        draw = np.random.default_rng(seed)
        symbols = ["A", "B", "C"][: draw.integers(1, 4)]
        hedging = bool(draw.integers(2))
        self.bars, self.decisions, self.options, self.latency = {}, {}, {}, {}
        terms = {}
        # Prices are near 100 and positions up to 50 units, so that margin and limits bind often.
        margin = float(draw.choice([0.0, 0.1, 0.5, 1.0]))
        for symbol in symbols:
            minutes, offset = (1, 0) if same_grid else (int(draw.choice([1, 1, 2, 5])), int(draw.integers(3)))
            for tag in ("", "hedge")[: 1 + (hedging and draw.integers(2))]:
                case = Case(int(draw.integers(2**32)), rows // minutes + 1)
                if not tag:
                    ts = START + pd.to_timedelta(offset + minutes * np.arange(len(case.bars)), unit="min")
                    ts = pd.DatetimeIndex(ts, name="ts").as_unit("ns")
                    bars = case.bars.set_axis(ts).assign(close_ts=ts + pd.Timedelta(minutes=minutes))
                    kept = np.r_[True, draw.random(len(ts) - 1) < 0.9]
                    self.bars[symbol] = bars[kept]
                    self.options[symbol] = {
                        name: np.asarray(values)[kept] for name, values in case.options.items() if len(values)
                    }
                    self.latency[symbol] = case.latency[kept] if len(case.latency) else case.latency
                    terms[symbol] = _terms(case.settings, draw, margin)
                decisions = case.decisions.set_axis(ts)[kept]
                if case.settings.protect_by_distance != terms[symbol].protect_by_distance:
                    decisions = decisions.drop(columns=["stop", "take"])
                self.decisions[(symbol, tag) if tag else symbol] = decisions
        self.settings = PortfolioSettings(
            capital=float(draw.choice([2_000.0, 6_000.0, 100_000.0])),
            symbols=terms,
            hedging=hedging,
            hedged_margin=str(draw.choice(["larger", "both"])),
        )
        self.limits = _limits(draw, len(symbols)) if draw.integers(2) else None
        self.quotes = {}
        for pair, level in (("EURUSD", 1.25), ("USDJPY", 4.0)):
            known = START + pd.to_timedelta(
                np.r_[-10, np.sort(draw.choice(np.arange(rows * 60), 8, False)) / 60], "min"
            )
            self.quotes[pair] = pd.Series(level + draw.integers(-3, 4, 9) / 16, pd.DatetimeIndex(known).as_unit("ns"))

    def simulated(self, **changed: object) -> object:
        """What the engine makes of it."""
        names = ("half_spread", "volatility", "long_rate", "short_rate")
        return simulate_portfolio(
            changed.get("bars", self.bars),
            changed.get("decisions", self.decisions),
            self.settings,
            rates=ExchangeRates(self.quotes),
            limits=self.limits,
            latency=self.latency,
            **{
                name: {symbol: given[name] for symbol, given in self.options.items() if name in given} for name in names
            },
        )

    def oracle(self) -> PortfolioOracle:
        """What the readable oracle makes of it."""
        books = []
        for key, decisions in self.decisions.items():
            symbol, tag = key if isinstance(key, tuple) else (key, "")
            terms = self.settings.terms_of(symbol)
            bars = [
                {
                    **{name: float(row[name]) for name in ("open", "high", "low", "close", "volume")},
                    **{name: float(values[i]) for name, values in self.options[symbol].items()},
                    "ts": row["ts"].value,
                    "close_ts": row["close_ts"].value,
                }
                for i, row in enumerate(self.bars[symbol].reset_index().to_dict("records"))
            ]
            wanted = [{**row, "target": _whole(row["target"], terms.lot)} for row in decisions.to_dict("records")]
            for i, late in enumerate(self.latency[symbol]):
                wanted[i]["latency"] = int(late)
            currency = {"USD": None, "EUR": "EURUSD", "JPY": "USDJPY"}[terms.currency]
            books.append(((symbol, tag), bars, wanted, terms, currency))
        known = {pair: (quote.index.asi8.tolist(), quote.tolist()) for pair, quote in self.quotes.items()}

        def rate_at(pair: str | None, now: int) -> float:
            if pair is None:
                return 1.0
            times, values = known[pair]
            rate = values[bisect_right(times, now) - 1]
            return rate if pair == "EURUSD" else 1.0 / rate

        return PortfolioOracle(self.settings, books, rate_at, self.limits).run()


def _terms(one: object, draw: np.random.Generator, margin: float) -> SymbolTerms:
    currency = str(draw.choice(["USD", "USD", "EUR", "JPY"]))
    return SymbolTerms(
        currency=currency,
        slippage=one.slippage,
        commission=one.commission.model_copy(update={"currency": currency}),
        lot=one.lot,
        limit_through=one.limit_through,
        bars_in_force=one.bars_in_force,
        margin=margin,
        maintenance=margin * float(draw.choice([0.0, 0.5, 1.0])),
        protect_by_distance=one.protect_by_distance,
    )


def _limits(draw: np.random.Generator, symbols: int) -> object:
    return no_limits(symbols)._replace(
        trade_notional=float(draw.choice([0.3, 2.0, np.inf])),
        symbol_exposure=float(draw.choice([0.5, 1.0, np.inf])),
        gross_leverage=float(draw.choice([1.0, 1.5, np.inf])),
        trade_risk=float(draw.choice([0.02, np.inf, np.inf])),
        open_positions=float(draw.choice([1.0, np.inf])),
        trades_per_day=float(draw.choice([2.0, np.inf])),
        daily_loss=float(draw.choice([0.02, np.inf])),
        drawdown=float(draw.choice([0.03, 0.1, np.inf])),
        close_all=bool(draw.integers(2)),
        lot=np.full(symbols, float(draw.choice([0.0, 1.0]))),
    )


def _whole(target: float, lot: float) -> float:
    if np.isnan(target) or lot == 0:
        return target
    return float(np.sign(target)) * np.floor(abs(target) / lot + 1e-9) * lot
