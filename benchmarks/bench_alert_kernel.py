"""The alert kernel: 380,000 rules over 10,000 symbols, a million price levels, a year of bars, ten million updates.

CPU seconds of this process. The peer of the kernel is the readable engine of the tests, which gives the same firings:
that is asserted here for one symbol. It works each reading out of all bars, so
it is far slower than Python needs to be. ``--drift N`` sets the number of updates (default ten million), ``--year``
replays all of a year instead of 30 days of it.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.harness import report
from tapeline.alerts.engine import indicators as k
from tapeline.alerts.engine import table as t
from tapeline.alerts.engine.compiled import CompiledRule, Condition
from tapeline.alerts.engine.evaluator import Batch, Evaluator
from tapeline.alerts.engine.kernel import TRADE
from tapeline.alerts.engine.layout import TIMEFRAMES, Indicator
from tapeline.alerts.snapshot import load_snapshot, save_snapshot
from tests.alerts.oracle import Oracle

SYMBOLS = 10_000
SECOND = 1_000_000_000
MINUTE = 60 * SECOND
BEGIN = 1_700_006_400 * SECOND


def main() -> None:
    started = time.process_time()
    warm = engine_of(["W"], rules())
    warm.process(ticks(1, 10, 1.0, seed=9))
    print(f"# first use, compiled or from the cache: {time.process_time() - started:.1f} CPU s", file=sys.stderr)
    kernel()
    oracle()
    thresholds()
    replay()
    drift(int(sys.argv[sys.argv.index("--drift") + 1]) if "--drift" in sys.argv else 10_000_000)


def rules() -> list[CompiledRule]:
    """38 rules: six over each of six timeframes, and two levels of the price."""
    made = []
    for name, duration in TIMEFRAMES.items():
        close, rsi = (Indicator(k.CLOSE, duration), 0), (Indicator(k.RSI, duration, 14), 0)
        macd, band = Indicator(k.MACD, duration, 12, 26, 9), Indicator(k.BOLLINGER, duration, 20, factor=2.0)
        short, long = (Indicator(k.SMA, duration, 20), 0), (Indicator(k.SMA, duration, 50), 0)
        ratio = (Indicator(k.VOLUME_RATIO, duration, 20), 0)
        conditions = (
            Condition(rsi, t.BELOW, threshold=30.0, hysteresis=2.0),
            Condition(rsi, t.ABOVE, threshold=70.0, hysteresis=2.0),
            Condition((macd, 0), t.ABOVE, right=(macd, 1), crossing=True),
            Condition(close, t.ABOVE, right=(band, 1), crossing=True),
            Condition(short, t.ABOVE, right=long, crossing=True),
            Condition(ratio, t.ABOVE, threshold=3.0),
        )
        made += [CompiledRule(f"{name}-{n}", (one,), cooldown=60_000) for n, one in enumerate(conditions)]
    close = (Indicator(k.CLOSE, MINUTE), 0)
    made.append(CompiledRule("up", (Condition(close, t.ABOVE, threshold=101.0, crossing=True),)))
    made.append(CompiledRule("down", (Condition(close, t.BELOW, threshold=99.0, crossing=True),)))
    return made


def engine_of(names: list[str], some: list[CompiledRule]) -> Evaluator:
    engine = Evaluator(names)
    engine.add_all([(rule, names) for rule in some])
    return engine


def ticks(symbols: int, rows: int, seconds: float, seed: int = 0) -> Batch:
    """Trades of symbols as Zipf has them, each a random walk from 100."""
    rng = np.random.default_rng(seed)
    weights = 1.0 / np.arange(1, symbols + 1)
    numbers = rng.choice(symbols, rows, p=weights / weights.sum()).astype(np.int32)
    order = np.argsort(numbers, kind="stable")
    walk = np.cumsum(rng.normal(0, 2e-4, rows))
    begins = np.searchsorted(numbers[order], np.arange(symbols))
    before = np.where(begins > 0, walk[np.maximum(begins - 1, 0)], 0.0)
    prices = np.empty(rows)
    prices[order] = 100 * np.exp(walk - before[numbers[order]])
    times = BEGIN + np.sort(rng.integers(0, int(seconds * SECOND), rows))
    return Batch(numbers, times, prices, rng.exponential(1.0, rows), np.full(rows, TRADE, np.uint8))


def kernel() -> None:
    names = [f"S{number}" for number in range(SYMBOLS)]
    some = rules()
    started = time.process_time()
    engine = engine_of(names, some)
    built = time.process_time() - started
    report("build 380,000 rules", built, "CPU s", target="< 3", holds=built < 3)
    megabytes = engine.bytes / 1e6 / SYMBOLS * 1_000
    report("kernel memory per 1,000 symbols", megabytes, "MB", target="< 6", holds=megabytes < 6)
    batch = ticks(SYMBOLS, 4_000_000, 4_000.0)
    # Bars of the past, so that every indicator of the minutes is known.
    rng = np.random.default_rng(1)
    closes = 100 * np.exp(np.cumsum(rng.normal(0, 1e-3, 60)))
    for name in names:
        for duration in TIMEFRAMES.values():
            ts = BEGIN // duration * duration - duration * np.arange(60, 0, -1)
            engine.load(name, duration, {"ts": ts, **dict.fromkeys(("open", "high", "low", "close", "volume"), closes)})
    fired = 0
    rates = []
    for first in range(0, 4_000_000, 1_000_000):
        parts = [cut(batch, at, at + 1_000) for at in range(first, first + 1_000_000, 1_000)]
        started = time.process_time()
        for part in parts:
            fired += len(engine.process(part).firings)
        rates.append(1_000_000 / (time.process_time() - started))
    rate = float(np.median(rates))
    report("ticks a CPU second, 10,000 symbols, 380,000 rules", rate, "ticks/s", target=">= 1,000,000",
           holds=rate >= 1_000_000)  # fmt: skip
    report("firings in 4,000,000 ticks", fired, "firings", target="> 0", holds=fired > 0)
    pace()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "engine.snapshot"
        started = time.process_time()
        size = save_snapshot(engine, path, {"journal": 1})
        saved, started = time.process_time() - started, time.process_time()
        load_snapshot(path)
        report("snapshot of 10,000 symbols: save", saved, "CPU s", target="< 1", holds=saved < 1)
        loaded = time.process_time() - started
        report("snapshot of 10,000 symbols: load", loaded, "CPU s", target="< 2", holds=loaded < 2)
        report("snapshot of 10,000 symbols: size", size / 1e6, "MB", target="< 100", holds=size < 100e6)


def pace() -> None:
    """CPU time of a batch where 10,000 ticks a second come in batches of half a millisecond: five each."""
    names = [f"S{number}" for number in range(SYMBOLS)]
    engine = engine_of(names, rules())
    batch = ticks(SYMBOLS, 300_000, 30.0, seed=2)
    engine.process(cut(batch, 0, 200_000))
    spent = []
    for at in range(200_000, 300_000, 5):
        part = cut(batch, at, at + 5)
        started = time.thread_time_ns()
        engine.process(part)
        spent.append(time.thread_time_ns() - started)
    p50, p99 = (float(one) / 1e3 for one in np.quantile(spent, (0.5, 0.99)))
    report("CPU time of a batch at 10,000 ticks/s: p50", p50, "us", target="< 150", holds=p50 < 150)
    report("CPU time of a batch at 10,000 ticks/s: p99", p99, "us", target="< 150", holds=p99 < 150)


def oracle() -> None:
    """The readable engine over the same rules, for one symbol; the kernel's firings are the same."""
    some = rules()
    batch = ticks(1, 1_500, 15_000.0, seed=3)
    slow = Oracle()
    for rule in some:
        slow.add(rule)
    started = time.process_time()
    for at, (ts, price, size) in enumerate(zip(batch.times, batch.prices, batch.sizes, strict=True)):
        slow.take(at, TRADE, int(ts), float(price), float(size))
    theirs = 1_500 / (time.process_time() - started)
    engine = engine_of(["S"], some)
    fired = engine.process(batch).firings
    mine = sorted((engine.rule(int(one["rule"])).id, int(one["tick"]), int(one["ts"])) for one in fired)
    assert mine == sorted((one.rule, one.record, one.ts) for one in slow.fired)
    assert mine, "something fires"
    long = ticks(1, 1_000_000, 10_000_000.0, seed=3)
    started = time.process_time()
    engine_of(["S"], some).process(long)
    rate = 1_000_000 / (time.process_time() - started)
    report("ticks a CPU second, one symbol, 38 rules, 10 s apart", rate, "ticks/s", target=">= 20 x peer",
           holds=rate >= 20 * theirs, peer="readable Python", peer_value=theirs)  # fmt: skip


def thresholds() -> None:
    """Price alerts by their number: all on one symbol, and spread over all of them, in the engine itself."""
    for name, symbols, counts in (("one symbol", 1, (1_000, 10_000, 100_000, 1_000_000)),
                                  (f"{SYMBOLS:,} symbols", SYMBOLS, (10_000, 1_000_000))):  # fmt: skip
        rates: list[float] = []
        for count in counts:
            engine, rate = watched_prices(symbols, count)
            rates.append(rate)
            title = f"{count:,} price alerts on {name}"
            report(f"{title}: ticks a CPU second", rate, "ticks/s", target=">= 1,000,000", holds=rate >= 1e6)
            spent = [join_and_leave(engine, f"S{number % symbols}", number) for number in range(300)]
            joined, left = (statistics.median(one) * 1e6 for one in zip(*spent, strict=True))
            report(f"{title}: one joins", joined, "us", target="< 1,000", holds=joined < 1_000)
            report(f"{title}: one leaves", left, "us", target="< 1,000", holds=left < 1_000)
        report(f"{counts[-1]:,} against {counts[0]:,} on {name}: ticks a CPU second", rates[-1], "ticks/s",
               target=">= half of peer", holds=rates[-1] >= rates[0] / 2, peer=f"{counts[0]:,} alerts",
               peer_value=rates[0])  # fmt: skip


def watched_prices(symbols: int, count: int) -> tuple[Evaluator, float]:
    """An engine with so many alerts, a thousand (or one a symbol) of them where prices go, and ticks a CPU second."""
    rng = np.random.default_rng(4)
    near = max(1_000, symbols)
    away = 1 + rng.exponential(0.05, near), 2 + rng.exponential(1.0, count - near)
    factors = np.concatenate(away)
    upwards = rng.integers(0, 2, count) == 1
    levels = np.where(upwards, 100 * factors, 100 / factors)
    names = [f"S{number}" for number in range(symbols)]
    engine = Evaluator(names)
    started = time.process_time()
    engine.add_all(
        (price_alert(f"a{number}", level, up), [names[number % symbols]])
        for number, (level, up) in enumerate(zip(levels.tolist(), upwards.tolist(), strict=True))
    )
    built = (time.process_time() - started) / count * 1e6
    where = "one symbol" if symbols == 1 else f"{symbols:,} symbols"
    report(f"{count:,} price alerts on {where}: all join, each", built, "us", target="< 50", holds=built < 50)
    batch = ticks(symbols, 1_200_000, 1_200.0, seed=5)
    parts = [cut(batch, at, at + 1_000) for at in range(0, 1_200_000, 1_000)]
    fired = sum(len(engine.process(part).firings) for part in parts[:200])
    started = time.process_time()
    fired += sum(len(engine.process(part).firings) for part in parts[200:])
    rate = 1_000_000 / (time.process_time() - started)
    assert fired, "some are crossed"
    return engine, rate


def price_alert(id: str, level: float, up: bool) -> CompiledRule:
    close = (Indicator(k.CLOSE, MINUTE), 0)
    return CompiledRule(id, (Condition(close, t.ABOVE if up else t.BELOW, threshold=level, crossing=True),))


def join_and_leave(engine: Evaluator, symbol: str, number: int) -> tuple[float, float]:
    """CPU seconds for one alert to join, and to leave, with a trade after each: what a change costs, all told."""
    one, spent = price_alert("one", 90 + number / 15, True), []
    price = np.array([engine.value(symbol, (Indicator(k.CLOSE, MINUTE), 0))])
    for change in (lambda: engine.add(one, [symbol]), lambda: engine.remove("one", [symbol])):
        ts = np.array([BEGIN + 2_000 * SECOND])
        trade = engine.trades(symbol, ts, np.where(np.isnan(price), 100.0, price), np.ones(1))
        started = time.process_time()
        change()
        engine.process(trade)
        spent.append(time.process_time() - started)
    return spent[0], spent[1]


def replay() -> None:
    """A year of minutes of 100 symbols, a bar as its four prices, through six rules over three timeframes."""
    names = [f"S{number}" for number in range(100)]
    some = [rule for rule in rules() if rule.id in ("1m-0", "1m-2", "5m-3", "1h-1", "1h-4", "up")]
    engine = engine_of(names, some)
    minutes = 1_440
    rng = np.random.default_rng(6)
    spent = bars = fired = 0.0
    for day in range(365):
        close = 100 * np.exp(np.cumsum(rng.normal(0, 1e-3, (minutes, 100)), axis=0))
        path = np.stack([close, close * 1.0005, close * 0.9995, close], axis=2)
        seconds = np.array([0, 1, 2, 59]) * SECOND
        times = BEGIN + (day * minutes + np.arange(minutes)[:, None, None]) * MINUTE + seconds
        batch = Batch(
            np.broadcast_to(np.arange(100, dtype=np.int32)[None, :, None], path.shape).ravel(),
            np.broadcast_to(times, path.shape).ravel().astype(np.int64),
            path.ravel(),
            np.ones(path.size),
            np.zeros(path.size, np.uint8),
        )
        started = time.process_time()
        fired += len(engine.process(batch).firings)
        spent += time.process_time() - started
        bars += minutes * 100
        if day == 29 and "--year" not in sys.argv:
            break
    rate = bars / spent
    report(f"replay of {bars:,.0f} M1 bars of 100 symbols, four prices each", rate, "bars/s", target=">= 500,000",
           holds=rate >= 500_000)  # fmt: skip
    assert fired > 0


def drift(updates: int) -> None:
    """Indicators after so many closed bars against TA-Lib over all of them."""
    import talib

    rng = np.random.default_rng(7)
    close = 100 + 10 * np.sin(np.arange(updates) / 1e5) + rng.normal(0, 0.1, updates)
    high, low = close + np.abs(rng.normal(0, 0.1, updates)), close - np.abs(rng.normal(0, 0.1, updates))
    readings = [
        (Indicator(k.RSI, MINUTE, 14), 0), (Indicator(k.MACD, MINUTE, 12, 26, 9), 0), (Indicator(k.SMA, MINUTE, 50), 0),
        (Indicator(k.BOLLINGER, MINUTE, 20, factor=2.0), 1), (Indicator(k.EMA, MINUTE, 30), 0),
        (Indicator(k.ATR, MINUTE, 14), 0),
    ]  # fmt: skip
    engine = engine_of(["S"], [CompiledRule(f"r{n}", (Condition(one, t.ABOVE),)) for n, one in enumerate(readings)])
    bars = {"ts": np.arange(updates) * MINUTE, "open": close, "high": high, "low": low, "close": close, "volume": close}
    started = time.process_time()
    engine.load("S", MINUTE, bars)
    rate = updates / (time.process_time() - started)
    mine = np.array([engine.value("S", one) for one in readings])
    theirs = np.array(
        [
            talib.RSI(close, 14)[-1], talib.MACD(close, 12, 26, 9)[0][-1], talib.SMA(close[-50:], 50)[-1],
            talib.BBANDS(close[-20:], 20, 2.0, 2.0)[0][-1], talib.EMA(close, 30)[-1],
            talib.ATR(high, low, close, 14)[-1],
        ]
    )  # fmt: skip
    # The line of MACD is a difference of two prices: its error counts against a price.
    worst = float(np.max(np.abs(mine - theirs) / np.where(np.arange(6) == 1, 100.0, np.abs(theirs))))
    report(f"worst relative difference to TA-Lib after {updates:,} bars", worst * 1e12, "1e-12", target="< 1,000",
           holds=worst < 1e-9)  # fmt: skip
    report("bars of the past a CPU second, six indicators", rate, "bars/s", target=">= 1,000,000", holds=rate >= 1e6)


def cut(batch: Batch, begin: int, end: int) -> Batch:
    return Batch(*(column[begin:end] for column in batch))


if __name__ == "__main__":
    main()
