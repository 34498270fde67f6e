"""Each function of price, volume and technical alerts against TA-Lib or plain numpy, with bars under way and closed."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import pytest

from tapeline.alerts.conditions import compile_rule
from tapeline.alerts.engine.evaluator import Evaluator
from tapeline.alerts.engine.layout import TIMEFRAMES
from tapeline.alerts.rule import Rule

talib = pytest.importorskip("talib")
SECOND = 1_000_000_000
ROWS = 900
_random = np.random.default_rng(7)
TIMES = np.arange(ROWS, dtype=np.int64) * 20 * SECOND
PRICES = np.round(100 * np.exp(np.cumsum(_random.normal(0, 0.002, ROWS))), 2)
SIZES = _random.integers(1, 50, ROWS).astype(np.float64)


class Bars(NamedTuple):
    """Columns of bars."""

    open: np.ndarray
    high: np.ndarray
    low: np.ndarray
    close: np.ndarray
    volume: np.ndarray


def bars_until(row: int, timeframe: str, *, closed: bool) -> Bars:
    """Open, high, low, close, volume up to a trade; the last bar is under way, or left out."""
    begins = TIMES[: row + 1] // TIMEFRAMES[timeframe]
    found = []
    for begin in np.unique(begins):
        mine = begins == begin
        prices = PRICES[: row + 1][mine]
        found.append((prices[0], prices.max(), prices.min(), prices[-1], SIZES[: row + 1][mine].sum()))
    rows = found[:-1] if closed else found
    return Bars(*np.array(rows, np.float64).reshape(-1, 5).T)


def last(values) -> float:
    return float(values[-1]) if len(values) else math.nan


ORACLES = {
    "open": lambda b: last(b.open),
    "high": lambda b: last(b.high),
    "low": lambda b: last(b.low),
    "close": lambda b: last(b.close),
    "change(3": lambda b: b.close[-1] / b.close[-4] - 1,
    "change_since_open(": lambda b: b.close[-1] / b.open[-1] - 1,
    "highest(5": lambda b: b.high[-6:-1].max(),
    "lowest(5": lambda b: b.low[-6:-1].min(),
    "rsi(14": lambda b: last(talib.RSI(b.close, 14)),
    "sma(10": lambda b: last(talib.SMA(b.close, 10)),
    "ema(10": lambda b: last(talib.EMA(b.close, 10)),
    "atr(7": lambda b: last(talib.ATR(b.high, b.low, b.close, 7)),
    "macd(5, 12, 4": lambda b: last(talib.MACD(b.close, 5, 12, 4)[0]),
    "macd_signal(5, 12, 4": lambda b: last(talib.MACD(b.close, 5, 12, 4)[1]),
    "macd_histogram(5, 12, 4": lambda b: last(talib.MACD(b.close, 5, 12, 4)[2]),
    "bollinger_upper(10, 1.5": lambda b: last(talib.BBANDS(b.close, 10, 1.5, 1.5)[0]),
    "bollinger_middle(10, 1.5": lambda b: last(talib.BBANDS(b.close, 10, 1.5, 1.5)[1]),
    "bollinger_lower(10, 1.5": lambda b: last(talib.BBANDS(b.close, 10, 1.5, 1.5)[2]),
    "bollinger_percent(10, 2": lambda b: (
        (b.close[-1] - b.close[-10:].mean() + 2 * b.close[-10:].std()) / (4 * b.close[-10:].std())
    ),
    "bollinger_width(10, 2": lambda b: 4 * b.close[-10:].std() / b.close[-10:].mean(),
    "volume": lambda b: last(b.volume),
    "volume_ratio(6": lambda b: b.volume[-1] / b.volume[-7:-1].mean(),
    "volume_zscore(6": lambda b: (b.volume[-1] - b.volume[-7:-1].mean()) / b.volume[-7:-1].std(),
    "volume_mean(6": lambda b: b.volume[-7:-1].mean(),
    "volume_sum(6": lambda b: b.volume[-6:].sum(),
}
VARIANTS = [("1m", False), ("5m", False), ("5m", True)]


@pytest.fixture(scope="module")
def values() -> dict[tuple[str, str, bool, int], float]:
    """What the engine says of each function after some of the trades."""
    engine, readings = Evaluator(["A"]), {}
    rules = []
    for name in ORACLES:
        for timeframe, closed in VARIANTS:
            start = name.rstrip("(") + ("(" if "(" not in name or name.endswith("(") else ", ")
            text = f'{start if "(" in name else name + "("}"{timeframe}", "{"closed" if closed else "forming"}") > 0'
            rule = Rule(id=f"r{len(readings)}", owner="me", condition=text, symbols=("A",))
            compiled = compile_rule(rule)
            rules.append((compiled, ["A"]))
            readings[(name, timeframe, closed)] = compiled.conditions[0].left
    engine.add_all(rules)
    found, begin = {}, 0
    for row in (400, 640, ROWS - 1):
        engine.process(engine.trades("A", TIMES[begin : row + 1], PRICES[begin : row + 1], SIZES[begin : row + 1]))
        begin = row + 1
        for key, reading in readings.items():
            found[(*key, row)] = engine.value("A", reading)
    return found


@pytest.mark.parametrize("name", ORACLES)
@pytest.mark.parametrize(("timeframe", "closed"), VARIANTS)
def test_a_function_is_what_its_oracle_says(values, name, timeframe, closed) -> None:
    known = 0
    for row in (400, 640, ROWS - 1):
        bars = bars_until(row, timeframe, closed=closed)
        expected = ORACLES[name](bars)
        assert values[(name, timeframe, closed, row)] == pytest.approx(expected, rel=1e-9, abs=1e-9, nan_ok=True)
        known += not math.isnan(expected)
    assert known


def firings(text: str, prices: list[float], *, gap: int = 20, sizes: list[float] | None = None, **more) -> list[int]:
    """The places of the trades with which a condition fires."""
    rule = Rule(**{"id": "r", "owner": "me", "condition": text, "symbols": ("A",)} | more)
    engine = Evaluator(["A"])
    engine.add(compile_rule(rule), ["A"])
    times = np.arange(len(prices)) * gap * SECOND
    batch = engine.trades("A", times, np.array(prices, np.float64), np.array(sizes or [1.0] * len(prices)))
    return engine.process(batch).firings["tick"].tolist()


@pytest.mark.parametrize(
    ("text", "prices", "expected"),
    [
        ("outside(close, 2, 4)", [3, 5, 6, 3, 1, 3], [1, 4]),
        ("leaves(close, 2, 4)", [5, 3, 4, 5, 3, 2, 1], [3, 6]),
        ("enters(close, 2, 4)", [5, 4.5, 3, 5, 1, 3, 6, 4], [2, 5]),
        ("price between 2 and 4", [5, 4, 2, 1, 3], [1, 4]),
        ("trailing_stop(10%)", [100, 110, 100, 99, 111, 100, 99], [3, 6]),
        ("trailing_rise(10%)", [100, 90, 98, 99.5, 80, 88.5], [3, 5]),
        ("price < trailing_high - 5", [100, 104, 99, 98, 110, 104], [3, 5]),
        ("crosses_up(close, 10)", [11, 10, 11, 12, 9, 10, 10.5], [2, 6]),
    ],
)
def test_price_conditions_fire_with_these_trades(text, prices, expected) -> None:
    assert firings(text, prices) == expected


def test_hysteresis_keeps_a_level_from_firing_twice() -> None:
    prices = [99, 101, 99.5, 101, 98, 101]
    assert firings("close > 100", prices) == [1, 3, 5]
    assert firings("close > 100", prices, hysteresis={"absolute": 1}) == [1, 5]
    assert firings("close > 100", prices, hysteresis={"percent": 3}) == [1]


def test_new_highs_and_crosses_of_averages() -> None:
    prices = [1, 2, 3, 2, 1, 3.5, 4, 1, 1]
    assert firings("new_high(2)", prices, gap=60) == [5]
    averages = firings('average_cross(1, 3, "down")', prices, gap=60)
    assert averages == [3, 7]
    line = [10.0] * 12 + [11, 12, 13, 9, 5, 3]
    assert firings('macd_cross("up", 2, 4, 2)', line, gap=60) == [12]
    assert firings('macd_cross("down", 2, 4, 2)', line, gap=60) == [15]


def test_volume_spikes_and_drying_up() -> None:
    sizes = [2.0, 2, 2, 5, 2, 1, 9, 0.5, 1, 1]
    assert firings("volume_spike(2, 2)", [1.0] * 10, gap=60, sizes=sizes) == [3, 6]
    # The bars of 1 (after 5 and 2) and of 0.5 (after 1 and 9) are dry, which is known with the trades after them.
    assert firings("volume_dry_up(30%, 2)", [1.0] * 10, gap=60, sizes=sizes) == [6, 8]


def test_volume_is_compared_with_the_norm_of_its_time_of_day() -> None:
    hour = 3_600
    sizes = [float(1 + number % 24) for number in range(24 * 3)]
    sizes += [float(1 + number) * (4 if number == 5 else 1) for number in range(24)]
    found = firings('volume_against_norm(3, "1h") >= 4', [1.0] * len(sizes), gap=hour, sizes=sizes)
    assert found == [24 * 3 + 5]
