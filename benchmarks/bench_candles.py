"""Bars from ticks: full OHLCV bars a core and second, beside pandas and beside a pass that only finds the borders.

The bars come from a frame of 5 million trades (price, size) with every check included; CPU seconds on one thread. The
pass over borders is the least that any builder must do: one comparison a tick and no bar. pandas gets the bar numbers
of that pass for free where it cannot find the borders itself, and must then give the same bars.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from numba import njit

from benchmarks.harness import cpu_seconds, report
from tapeline.candles.builder import CandleBuilder, build_candles
from tapeline.candles.candle_type import CandleType
from tapeline.candles.information_bars import ImbalanceCandles
from tapeline.candles.range_bars import AdaptiveCandles, RangeCandles
from tapeline.candles.records import records_from
from tapeline.candles.renko_bars import RenkoCandles
from tapeline.candles.sampling import SamplingController, saving
from tapeline.candles.threshold_bars import DollarCandles, TickCandles, VolumeCandles
from tapeline.candles.time_bars import TimeCandles

TICKS = 5_000_000
MINUTE = 60_000_000_000
COUNT, VOLUME, VALUE, RANGE, BRICK = 100, 5000.0, 6000.0, 0.0004, 0.0002


def main() -> None:
    trades = make_trades()
    price, size = trades["price"].to_numpy(), trades["size"].to_numpy()
    stamps = trades.index.asi8  # type: ignore[attr-defined]
    cases: list[tuple[str, CandleType, Callable[[], np.ndarray]]] = [
        ("time", TimeCandles("M1"), lambda: time_borders(stamps, MINUTE)),
        ("tick", TickCandles(COUNT), lambda: tick_borders(price, COUNT)),
        ("volume", VolumeCandles(VOLUME), lambda: volume_borders(size, VOLUME)),
        ("dollar", DollarCandles(VALUE), lambda: dollar_borders(price, size, VALUE)),
        ("range", RangeCandles(RANGE), lambda: range_borders(price, RANGE)),
        ("Renko", RenkoCandles(BRICK, gaps="merge"), lambda: renko_borders(price, BRICK)),
    ]
    for name, candle, borders in cases:
        ours = TICKS / cpu_seconds(lambda candle=candle: build_candles(trades, candle), repeats=5)
        least = TICKS / cpu_seconds(borders, repeats=5)
        ends = borders()
        peer = with_resample if name == "time" else with_groupby
        theirs = TICKS / cpu_seconds(lambda ends=ends, peer=peer: peer(trades, ends), repeats=1, warm=False)
        check_same(build_candles(trades, candle), peer(trades, ends), prices=name != "Renko")
        target = ">= 50 million ticks/s/core, checks included"
        what = "pandas resample" if name == "time" else "pandas groupby over given bar numbers"
        report(f"{name} bars", ours, "ticks/s", target=target, holds=ours >= 50e6, peer=what, peer_value=theirs)
        report(
            f"{name} bars beside their borders alone",
            ours,
            "ticks/s",
            target="none: how far the bars are from the bound",
            holds=True,
            peer="numba pass that only finds the borders",
            peer_value=least,
        )
    for name, candle in (
        ("volume bars with split trades", VolumeCandles(VOLUME, split=True)),
        ("volume imbalance bars", ImbalanceCandles("volume")),
        ("adaptive candles", AdaptiveCandles("M1", smallest=0.0001)),
    ):
        speed = TICKS / cpu_seconds(lambda candle=candle: build_candles(trades, candle))
        report(name, speed, "ticks/s", target=">= 10 million ticks/s/core", holds=speed >= 10e6)
    incremental(trades.iloc[:400_000])
    sampling()


def incremental(trades: pd.DataFrame) -> None:
    """A builder fed 1,000 trades at a time as frames, and one trade at a time as numbers; the bars must be the same."""
    rows = list(zip(trades.index.asi8.tolist(), trades["price"].tolist(), trades["size"].tolist(), strict=True))  # type: ignore[attr-defined]
    for name, candle in (
        ("time", TimeCandles("M1")),
        ("volume", VolumeCandles(VOLUME)),
        ("Renko", RenkoCandles(BRICK)),
    ):
        whole = build_candles(trades, candle)

        def portions(candle: CandleType = candle) -> list[pd.DataFrame]:
            builder = CandleBuilder(candle)
            return [builder.update(trades.iloc[start : start + 1000]) for start in range(0, len(trades), 1000)]

        def singles(candle: CandleType = candle) -> list[float]:
            push = CandleBuilder(candle, columns=["volume"]).push
            closes = []
            for row in rows:
                done = push(*row)
                if done:
                    closes.extend(bar.close for bar in done)
            return closes

        pd.testing.assert_frame_equal(pd.concat([part for part in portions() if len(part)]), whole, check_exact=True)
        assert singles() == whole["close"].tolist()
        for how, work in (("1,000 trades a call", portions), ("one trade a call", singles)):
            speed = len(trades) / cpu_seconds(work)
            report(
                f"{name} bars incrementally, {how}",
                speed,
                "ticks/s",
                target=">= 1 million ticks/s",
                holds=speed >= 1e6,
            )


def sampling() -> None:
    """The share of samples that the controller saves on recorded quotes; nothing where there are none."""
    folder = Path(os.environ.get("TAPELINE_TEST_DATA", Path(__file__).parents[2] / "shared"))
    for broker in ("fxcm", "oanda"):
        ours = fixed = 0.0
        worst = 1.0
        for records in recorded_days(folder / "data" / "lean" / "forex" / broker / "tick" / "eurusd"):
            samples = SamplingController().update(records)
            share, _ = saving(records, samples)
            worst = min(worst, share)
            ours += samples.ts.size
            fixed += samples.ts.size / (1.0 - share)
        if ours:
            report(
                f"samples of EURUSD quotes ({broker}), saved on the worst day: {worst:.1%}",
                float(ours),
                "samples",
                target="fewer than at a fixed interval of equal information loss, every day",
                holds=bool(worst > 0.0),
                peer="samples at the fixed interval",
                peer_value=float(fixed),
            )


def recorded_days(folder: Path) -> Iterator:
    """Every third full trading day, to stay within a minute."""
    for path in [path for path in sorted(folder.glob("*.zip")) if path.stat().st_size > 200_000][::3]:
        raw = pd.read_csv(path, header=None)
        index = pd.Timestamp(path.name[:8], tz="UTC") + pd.to_timedelta(raw[0].to_numpy(), unit="ms")
        yield records_from(pd.DataFrame({"bid": raw[1].to_numpy(), "ask": raw[2].to_numpy()}, index=index))


def make_trades() -> pd.DataFrame:
    """Five million random trades over some weeks, on a price grid of 0.00001, sizes in quarters.

    Quarters add up without rounding, so that sums in another order are still equal to the last bit.
    """
    generator = np.random.default_rng(0)
    stamps = 1_400_000_000_000_000_000 + np.cumsum(generator.integers(0, 1_000_000_000, TICKS))
    price = np.round(1.2 + np.cumsum(generator.integers(-2, 3, TICKS)) * 1e-5, 5)
    assert price.min() > 0.5
    index = pd.DatetimeIndex(stamps.view("M8[ns]"), name="ts").tz_localize("UTC")
    return pd.DataFrame({"price": price, "size": generator.integers(1, 400, TICKS) / 4.0}, index=index)


def with_resample(trades: pd.DataFrame, _: np.ndarray) -> pd.DataFrame:
    groups = trades.resample("1min")
    bars = groups["price"].agg(["first", "max", "min", "last"])
    bars["volume"], bars["count"] = groups["size"].sum(), groups["size"].count()
    return bars[bars["count"] > 0].iloc[:-1]


def with_groupby(trades: pd.DataFrame, ends: np.ndarray) -> pd.DataFrame:
    numbers = np.repeat(np.arange(ends.size), np.diff(ends, prepend=0))
    groups = trades.iloc[: numbers.size].groupby(numbers, sort=False)
    bars = groups["price"].agg(["first", "max", "min", "last"])
    bars["volume"], bars["count"] = groups["size"].sum(), groups["size"].count()
    return bars


def check_same(ours: pd.DataFrame, theirs: pd.DataFrame, *, prices: bool) -> None:
    """Equal to the last bit; Renko bricks carry borders for prices, so only what was traded is compared."""
    names = ["open", "high", "low", "close", "volume", "tick_count"] if prices else ["volume", "tick_count"]
    others = ["first", "max", "min", "last", "volume", "count"] if prices else ["volume", "count"]
    assert len(ours) > 100
    np.testing.assert_array_equal(ours[names].to_numpy(), theirs[others].to_numpy())


@njit(cache=True)
def time_borders(stamps: np.ndarray, length: int) -> np.ndarray:
    ends, k, end = np.empty(stamps.size, np.int64), 0, (stamps[0] // length + 1) * length
    for i in range(stamps.size):
        if stamps[i] >= end:
            ends[k] = i
            k += 1
            end = (stamps[i] // length + 1) * length
    return ends[:k]


@njit(cache=True)
def tick_borders(price: np.ndarray, count: int) -> np.ndarray:
    ends, k, seen = np.empty(price.size, np.int64), 0, 0
    for i in range(price.size):
        seen += 1
        if seen >= count:
            ends[k] = i + 1
            k += 1
            seen = 0
    return ends[:k]


@njit(cache=True)
def volume_borders(size: np.ndarray, volume: float) -> np.ndarray:
    ends, k, total = np.empty(size.size, np.int64), 0, 0.0
    for i in range(size.size):
        total += size[i]
        if total >= volume * (1.0 - 1e-12):
            ends[k] = i + 1
            k += 1
            total = 0.0
    return ends[:k]


@njit(cache=True)
def dollar_borders(price: np.ndarray, size: np.ndarray, value: float) -> np.ndarray:
    ends, k, total = np.empty(size.size, np.int64), 0, 0.0
    for i in range(size.size):
        total += price[i] * size[i]
        if total >= value * (1.0 - 1e-12):
            ends[k] = i + 1
            k += 1
            total = 0.0
    return ends[:k]


@njit(cache=True)
def range_borders(price: np.ndarray, size: float) -> np.ndarray:
    ends, k, high, low = np.empty(price.size, np.int64), 0, -np.inf, np.inf
    for i in range(price.size):
        high, low = max(high, price[i]), min(low, price[i])
        if high - low >= size * (1.0 - 1e-9):
            ends[k] = i + 1
            k += 1
            high, low = -np.inf, np.inf
    return ends[:k]


@njit(cache=True)
def renko_borders(price: np.ndarray, brick: float) -> np.ndarray:
    ends, k, anchor, level, direction = np.empty(price.size, np.int64), 0, price[0], 0, 0
    slack = 1e-9 * brick
    for i in range(price.size):
        up, down = level + (1 if direction < 0 else 0), level - (1 if direction > 0 else 0)
        if price[i] >= anchor + (up + 1) * brick - slack:
            direction, level = 1, int(np.floor((price[i] - anchor + slack) / brick))
        elif price[i] <= anchor + (down - 1) * brick + slack:
            direction, level = -1, int(np.ceil((price[i] - anchor - slack) / brick))
        else:
            continue
        ends[k] = i + 1
        k += 1
    return ends[:k]


if __name__ == "__main__":
    main()
