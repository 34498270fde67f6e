"""What microstructure costs: each feature of a million bars; trades into bars, against a pandas groupby."""

from __future__ import annotations

import numpy as np
import pandas as pd

from benchmarks.harness import cpu_seconds, report
from tapeline.core.registry import registered
from tapeline.core.timeframe import Timeframe
from tapeline.features import microstructure, order_flow
from tapeline.features.flow_bars import join_flow
from tapeline.features.trade_flow import trade_flow

BARS, TRADES = 1_000_000, 4_000_000
MOST_SECONDS = 0.2
LEAST_TRADES = 20e6


def main() -> int:
    """Measure, compare, report; 1 where a target is missed."""
    good = [*features_of_bars(), flow_of_trades(), join_of_flow()]
    return 0 if all(good) else 1


def features_of_bars() -> list[bool]:
    """Every registered feature of the two modules on a million bars."""
    generator = np.random.default_rng(0)
    close = 1.1 * np.exp(np.cumsum(generator.standard_t(4, BARS) * 1e-4))
    opened = np.concatenate((close[:1], close[:-1]))
    reach = np.abs(generator.normal(0, 1e-4, (2, BARS)))
    ts = pd.date_range("2017-01-02", periods=BARS, freq="1min", tz="UTC", name="ts")
    prices = {
        "open": opened,
        "high": np.maximum(opened, close) * (1 + reach[0]),
        "low": np.minimum(opened, close) * (1 - reach[1]),
        "close": close,
        "volume": generator.integers(1, 10_000, BARS).astype(float),
    }
    components = [component for module in (microstructure, order_flow) for component in registered(module)]
    needed = sorted({name for component in components for name in component.required_columns()})
    bars = pd.DataFrame({**prices, **{name: generator.exponential(1.0, BARS) for name in needed}}, index=ts)
    good = []
    for component in components:

        def work(compute=component.compute) -> pd.DataFrame:
            return compute(bars)

        seconds = cpu_seconds(work)
        holds = seconds < MOST_SECONDS
        report(f"{component.name}, {BARS} bars", seconds, "s", target=f"under {MOST_SECONDS} s", holds=holds)
        good.append(holds)
    return good


def flow_of_trades() -> bool:
    """Trades into minute bars, checks included, beside a groupby that counts and sums the same."""
    generator = np.random.default_rng(1)
    ts = pd.DatetimeIndex(1_500_000_000_000_000_000 + np.sort(generator.integers(0, 40_000_000 * TRADES, TRADES)))
    trades = pd.DataFrame(
        {
            "price": 1_000.0 + 0.25 * np.cumsum(generator.integers(-1, 2, TRADES)) % 500.0,
            # Whole numbers, so that both add up to the same bits.
            "size": generator.integers(1, 50, TRADES).astype(float),
            "side": generator.choice(np.array([-1, 1], dtype=np.int8), TRADES),
        },
        index=ts.tz_localize("UTC").rename("ts"),
    )

    def ours() -> pd.DataFrame:
        return trade_flow(trades, "M1", large_size=40.0)

    def groupby() -> pd.DataFrame:
        size, buy = trades["size"].to_numpy(), trades["side"].to_numpy() > 0
        parts = {
            "trade_count": 1,
            "buy_count": buy,
            "traded": size,
            "bought": size * buy,
            "sold": size * ~buy,
            "large": size * (size >= 40.0),
        }
        frame = pd.DataFrame(parts, index=trades.index).groupby(trades.index.floor("1min")).sum()
        frame["delta"] = frame["bought"] - frame["sold"]
        frame["cumulative_delta"] = frame["delta"].cumsum()
        return frame.iloc[:-1]

    expected = groupby()
    pd.testing.assert_frame_equal(ours()[expected.columns], expected, check_exact=True, check_dtype=False)
    seconds, peer = cpu_seconds(ours), cpu_seconds(groupby)
    rate = TRADES / seconds
    holds = rate >= LEAST_TRADES
    report(
        f"trade flow of {TRADES} trades in {len(expected)} bars",
        rate,
        "trades/s",
        target=f"at least {LEAST_TRADES:.0f}",
        holds=holds,
        peer="pandas groupby, fewer columns",
        peer_value=TRADES / peer,
    )
    return holds


def join_of_flow() -> bool:
    """The flow of a million bars joined to them."""
    ts = pd.date_range("2017-01-02", periods=BARS, freq="1min", tz="UTC", name="ts")
    bars = pd.DataFrame({"close": 1.0, "volume": 1.0}, index=ts)
    flow = pd.DataFrame({"known_at": ts + pd.Timedelta("1min"), "bought": np.arange(float(BARS)), "sold": 1.0}, ts)
    seconds = cpu_seconds(lambda: join_flow(bars, Timeframe.parse("M1"), flow, prefix="flow_"))
    holds = seconds < 1.0
    report(f"join of a flow to {BARS} bars", seconds, "s", target="under 1 s", holds=holds)
    return holds


if __name__ == "__main__":
    raise SystemExit(main())
