"""Indicators of closed bars against TA-Lib; the forming value is the closed one where the bar closes; no drift."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from tapeline.alerts.engine import indicators as k
from tapeline.alerts.engine import table as t
from tapeline.alerts.engine.compiled import CompiledRule, Condition
from tapeline.alerts.engine.evaluator import Evaluator
from tapeline.alerts.engine.layout import Indicator
from tapeline.core.errors import ConfigurationError, DataError

MINUTE = 60_000_000_000
RSI, MACD = Indicator(k.RSI, MINUTE, 14), Indicator(k.MACD, MINUTE, 12, 26, 9)
BANDS, SMA = Indicator(k.BOLLINGER, MINUTE, 20, factor=2.0), Indicator(k.SMA, MINUTE, 50)
EMA, ATR = Indicator(k.EMA, MINUTE, 30), Indicator(k.ATR, MINUTE, 14)
READINGS = [(RSI, 0), (MACD, 0), (MACD, 1), (MACD, 2), (BANDS, 0), (BANDS, 1), (BANDS, 2), (SMA, 0), (EMA, 0), (ATR, 0)]


def reading_rules(readings: list[tuple[Indicator, int]]) -> list[CompiledRule]:
    return [CompiledRule(f"r{n}", (Condition(one, t.ABOVE, threshold=1e300),)) for n, one in enumerate(readings)]


def random_bars(rows: int, seed: int = 0) -> dict[str, NDArray[np.float64]]:
    rng = np.random.default_rng(seed)
    close = 100 * np.exp(np.cumsum(rng.normal(0, 1e-3, rows)) - 1e-6 * np.arange(rows) % 0.2)
    opened = np.r_[100.0, close[:-1]]
    reach = np.abs(rng.normal(0, 1e-3, (2, rows)))
    return {
        "ts": np.arange(rows) * MINUTE,
        "open": opened,
        "high": np.maximum(opened, close) * (1 + reach[0]),
        "low": np.minimum(opened, close) * (1 - reach[1]),
        "close": close,
        "volume": rng.exponential(1.0, rows),
    }


def expected(bars: dict[str, NDArray[np.float64]]) -> NDArray[np.float64]:
    import talib

    high, low, close = bars["high"], bars["low"], bars["close"]
    upper, middle, lower = talib.BBANDS(close, 20, 2.0, 2.0)
    every = [talib.RSI(close, 14), *talib.MACD(close, 12, 26, 9), middle, upper, lower, talib.SMA(close, 50)]
    return np.array([*every, talib.EMA(close, 30), talib.ATR(high, low, close, 14)]).T


def scaled_error(mine: NDArray[np.float64], theirs: NDArray[np.float64]) -> float:
    # A difference of averages is as exact as they are: its error counts against the price.
    scale = np.abs(theirs)
    scale[..., 1:4] = 100.0
    return float(np.nanmax(np.abs(mine - theirs) / scale))


def test_every_close_agrees_with_ta_lib_and_so_does_the_forming_bar_where_it_closes() -> None:
    bars, wanted = random_bars(260), expected(random_bars(260))
    shut = [(one._replace(closed=True), output) for one, output in READINGS]
    engine = Evaluator(["S"])
    engine.add_all([(rule, ["S"]) for rule in reading_rules(READINGS + shut)])
    forming, closed = np.empty_like(wanted), np.empty_like(wanted)
    for row in range(260):
        begin = int(bars["ts"][row])
        path = np.array([bars[name][row] for name in ("open", "high", "low", "close")])
        engine.process(engine.trades("S", begin + np.arange(4) * 15_000_000_000, path, np.full(4, 1.0)))
        forming[row] = [engine.value("S", one) for one in READINGS]
        engine.process(engine.trades("S", [begin + MINUTE], [path[3]], [1.0])._replace(records=np.array([3], np.uint8)))
        closed[row] = [engine.value("S", one) for one in shut]
    assert np.array_equal(forming, closed, equal_nan=True)
    # TA-Lib shows no line before its signal.
    closed[:33, 1] = np.nan
    assert np.array_equal(np.isnan(closed), np.isnan(wanted)), "known from the same bar on"
    assert scaled_error(closed, wanted) < 1e-11


def test_no_drift_after_many_bars() -> None:
    bars = random_bars(200_000, seed=1)
    engine = Evaluator(["S"])
    engine.add_all([(rule, ["S"]) for rule in reading_rules(READINGS)])
    engine.load("S", MINUTE, bars)
    mine = np.array([engine.value("S", one) for one in READINGS])
    assert scaled_error(mine, expected(bars)[-1]) < 1e-9


def test_a_flat_price_is_its_own_mean_to_the_bit() -> None:
    engine = Evaluator(["S"])
    engine.add_all([(rule, ["S"]) for rule in reading_rules(READINGS)])
    price = 0.1 + 0.2
    engine.process(engine.trades("S", np.arange(80) * MINUTE, np.full(80, price), np.ones(80)))
    for one in ((SMA, 0), (BANDS, 0), (BANDS, 1), (BANDS, 2), (EMA, 0)):
        assert engine.value("S", one) == pytest.approx(price, rel=1e-15)
    assert engine.value("S", (SMA, 0)) == engine.value("S", (BANDS, 1)) == price
    assert engine.value("S", (ATR, 0)) == 0.0


def test_load_and_live_trades_leave_the_same() -> None:
    rows = 120
    bars = random_bars(rows, seed=2)
    one, other = Evaluator(["S"]), Evaluator(["S"])
    for engine in (one, other):
        engine.add_all([(rule, ["S"]) for rule in reading_rules(READINGS)])
    one.load("S", MINUTE, bars)
    path = np.stack([bars[name] for name in ("open", "high", "low", "close")], axis=1).ravel()
    times = (bars["ts"][:, None] + np.arange(4) * 15_000_000_000).ravel()
    other.process(other.trades("S", times, path, np.repeat(bars["volume"] / 4, 4)))
    for engine in (one, other):
        engine.process(engine.trades("S", [int(rows * MINUTE)], [100.0], [1.0]))
    assert [one.value("S", each) for each in READINGS] == [other.value("S", each) for each in READINGS]


def test_rules_that_come_and_go_leave_what_others_know() -> None:
    names = [f"S{number}" for number in range(5)]
    rng = np.random.default_rng(3)
    steady, busy = Evaluator(names), Evaluator(names)
    crossing = CompiledRule("x", (Condition((SMA, 0), t.ABOVE, right=(EMA, 0), crossing=True),))
    for engine in (steady, busy):
        engine.add(crossing, names)
    heard = []
    for turn in range(12):
        times = np.sort(rng.integers(turn, turn + 1, 400) * 20 * MINUTE + rng.integers(0, 20 * MINUTE, 400))
        prices = 100 + np.cumsum(rng.normal(0, 0.1, 400))
        symbols = rng.integers(0, 5, 400).astype(np.int32)
        fired = []
        for engine in (steady, busy):
            batch = engine.trades(names[0], times, prices, np.ones(400))._replace(symbols=symbols)
            result = engine.process(batch).firings
            mine = [one for one in result if engine.rule(int(one["rule"])).id == "x"]
            fired.append([(int(one["ts"]), int(one["symbol"]), float(one["price"])) for one in mine])
            assert all(engine.owner(int(one["rule"]))[0] == names[int(one["symbol"])] for one in result)
        assert fired[0] == fired[1]
        heard += fired[0]
        some = [name for name in names if rng.random() < 0.6]
        busy.add(reading_rules([(Indicator(k.SMA, 2 * MINUTE, 30 + turn), 0)])[0], some)
        busy.add(CompiledRule(f"t{turn}", (Condition((SMA, 0), t.ABOVE, threshold=100.0 + turn),)), some)
        busy.remove(f"t{turn - 2}", some)
        if turn % 3 == 0:
            before = busy.bytes
            busy.compact()
            assert busy.bytes <= before
    assert len(heard) > 10


def test_what_is_refused_says_why() -> None:
    engine = Evaluator(["A", "B"], ahead=10**9)
    engine.add_all([(rule, ["A", "B"]) for rule in reading_rules([(SMA, 0)])])
    rows = [
        (-1, 5 * MINUTE, 0.0, 0.0, 3),
        (0, 5 * MINUTE, 10.0, 1.0, 0),
        (7, 5 * MINUTE, 10.0, 1.0, 0),
        (0, 5 * MINUTE, 10.0, 1.0, 9),
        (0, -1, 10.0, 1.0, 0),
        (0, 5 * MINUTE + 2 * 10**9, 10.0, 1.0, 0),
        (0, 5 * MINUTE, float("nan"), 1.0, 0),
        (0, 5 * MINUTE, 10.0, -1.0, 0),
        (0, 5 * MINUTE, 10.0, 3.0, 1),
        (0, MINUTE, 10.0, 1.0, 0),
        (0, 5 * MINUTE, 11.0, 0.0, 0),
    ]
    columns = list(zip(*rows, strict=True))
    kinds = (np.int32, np.int64, np.float64, np.float64, np.uint8)
    from tapeline.alerts.engine.evaluator import Batch

    engine.process(Batch(*(np.array(column, kind) for column, kind in zip(columns, kinds, strict=True))))
    assert engine.refused == dict.fromkeys(engine.refused, 1)
    assert engine.refusals[:, 0].tolist() == list(range(2, 10))
    with pytest.raises(DataError, match="not known"):
        engine.trades("C", [], [], [])


@pytest.mark.parametrize(
    "wrong",
    [
        Indicator(k.RSI, MINUTE, 0),
        Indicator(k.SMA, 0, 5),
        Indicator(k.SMA, MINUTE, 10_000),
        Indicator(k.MACD, MINUTE, 26, 12, 9),
        Indicator(k.VOLUME_NORM, 1440 * MINUTE, 5),
        Indicator(k.STREAK, MINUTE),
        Indicator(99, MINUTE),
    ],
)
def test_refuses_what_is_no_indicator(wrong: Indicator) -> None:
    with pytest.raises(ConfigurationError):
        Evaluator(["S"]).add(reading_rules([(wrong, 0)])[0], ["S"])
