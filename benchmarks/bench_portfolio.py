"""What a portfolio costs: 50 symbols on one cash account, beside vectorbt's shared cash on the same orders."""

from __future__ import annotations

import sys

import numpy as np
import pandas as pd

from benchmarks.harness import cpu_seconds, minute_bars, report
from tapeline.strategy.costs import Commission
from tapeline.strategy.portfolio import simulate_portfolio
from tapeline.strategy.portfolio_account import PortfolioSettings, SymbolTerms
from tapeline.strategy.portfolio_report import PortfolioSimulation, reconcile

SYMBOLS, ROWS, CAPITAL, SHARE = 50, 20_000, 1e9, 2e-4


def main() -> int:
    """Measure, compare, report; 1 where the target is missed."""
    bars = {f"S{number:02d}": minute_bars(ROWS, seed=number, volatility=1e-4) for number in range(SYMBOLS)}
    targets = {name: crossing(frame["close"]) for name, frame in bars.items()}
    decisions = {name: pd.DataFrame({"target": target}) for name, target in targets.items()}
    # Without rounding of commission, which the peer does not do.
    terms = SymbolTerms(commission=Commission(taker_bps=SHARE * 1e4, increment=0.0), margin=1.0, maintenance=0.5)
    settings = PortfolioSettings(capital=CAPITAL, terms=terms)

    def work() -> PortfolioSimulation:
        return simulate_portfolio(bars, decisions, settings)

    found = work()
    reconcile(found)
    seconds = cpu_seconds(work)
    peer, equity = vectorbt_seconds(bars, targets)
    if not np.allclose(found.equity["equity"].to_numpy(), equity, rtol=1e-9):
        raise AssertionError("the two portfolios do not agree")
    holds = seconds <= peer
    report(
        f"{SYMBOLS} symbols x {ROWS} bars on one account with margin and tables, {len(found.fills)} fills",
        seconds,
        "cpu s",
        peer="vectorbt 1.2.0, from_orders with cash sharing and its value",
        peer_value=peer,
        target="no slower than the peer",
        holds=holds,
    )
    return 0 if holds else 1


def crossing(close: pd.Series, fast: int = 20, slow: int = 100) -> pd.Series:
    """Units wanted by one average above another; NaN while the side does not change."""
    side = np.sign(close.rolling(fast).mean() - close.rolling(slow).mean()).fillna(0.0)
    return (side * 1_000.0).where(side != side.shift())


def vectorbt_seconds(bars: dict[str, pd.DataFrame], targets: dict[str, pd.Series]) -> tuple[float, np.ndarray]:
    """The peer's CPU time for the same fills at the next open, and the value of its account at each close."""
    import vectorbt

    opened = pd.DataFrame({name: frame["open"] for name, frame in bars.items()})
    close = pd.DataFrame({name: frame["close"] for name, frame in bars.items()})
    size = pd.DataFrame(targets).shift()

    def work() -> np.ndarray:
        portfolio = vectorbt.Portfolio.from_orders(
            close,
            size=size,
            size_type="targetamount",
            price=opened,
            fees=SHARE,
            init_cash=CAPITAL,
            cash_sharing=True,
            group_by=True,
            freq="1min",
        )
        return np.asarray(portfolio.value())

    return cpu_seconds(work), work()


if __name__ == "__main__":
    sys.exit(main())
