"""Series that bars and news tell, driven by the service; indicators and detectors that begin with history."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tapeline.alerts.backtest import backtest_rule, coarser, history_batch
from tapeline.alerts.bar_series import LEAST, BarSeries, Records
from tapeline.alerts.conditions import compile_rule
from tapeline.alerts.engine.evaluator import Batch, Evaluator
from tapeline.alerts.feed_settings import news_sources
from tapeline.alerts.feeds.data_manager import DataManager
from tapeline.alerts.feeds.source import Source
from tapeline.alerts.feeds.source_names import SourceName
from tapeline.alerts.passage import Taken
from tapeline.alerts.pipeline import AlertPipeline
from tapeline.alerts.routing import Router
from tapeline.alerts.rule import Rule
from tapeline.alerts.series import History
from tapeline.alerts.series_book import columns_of
from tapeline.alerts.service import AlertEngine, EngineOptions
from tapeline.alerts.service_settings import lake_history
from tapeline.alerts.store.opening import open_store
from tapeline.core.errors import ConfigurationError
from tapeline.core.schemas import CLEAN_BARS
from tapeline.core.settings import Settings
from tapeline.core.symbol import Symbol
from tapeline.lake.lake import Lake
from tests.lake.support import H1, LINEAGE, raw
from tests.support import make_bars

MINUTE = 60_000_000_000
PATTERNS = 'pattern("fair_value_gap", "1m") and pattern_score("fair_value_gap", "1m") > 0'
RULES = {
    "gap": PATTERNS,
    "break": 'pattern("level_break", "up", "1m")',
    "divergence": 'divergence("rsi", "up", "1m")',
    "mixed": 'pattern("fair_value_gap", "5m") and close > sma(20, "1m", "closed")',
}


@pytest.fixture(scope="module")
def bars() -> pd.DataFrame:
    return make_bars(800, timeframe="M1", seed=5, gaps=False)


def make_rules() -> list[Rule]:
    return [Rule(id=id, owner="me", condition=text, symbols=("A",), timeframe="1m") for id, text in RULES.items()]


def opened(folder: Path, name: str, history: History | None = None) -> AlertPipeline:
    store = open_store(folder / f"{name}.db")
    return AlertPipeline(store, Router({}, lambda *_: ""), folder / "engine", ["A"], history=history)


def ended(pipeline: AlertPipeline) -> dict[str, tuple[str, int, float]]:
    """Close it; what its store has, by id."""
    pipeline.close()
    found = pipeline.store.firings_after(0, limit=1_000)
    pipeline.store.close()
    assert len(found) < 1_000
    return {one.firing.id: (one.firing.rule, one.firing.ts, one.firing.price) for one in found}


def pieces(batch: Batch, cuts: list[int]) -> list[tuple[Batch, Taken]]:
    """A batch cut at rows; records are numbered by their place in the whole."""
    numbers = np.arange(batch.times.size)
    found = []
    for begin, end in zip([0, *cuts], [*cuts, batch.times.size], strict=True):
        part = Batch(*(column[begin:end] for column in batch))
        late = np.zeros(end - begin, np.bool_)
        found.append((part, Taken(*part[:3], numbers[begin:end], late, {"tape:A": end})))
    return found


def run(pipeline: AlertPipeline, some: list[tuple[Batch, Taken]]) -> None:
    for part in some:
        pipeline.take(*part)


def of_symbol(batch: Batch, number: int) -> Records:
    """The records of a batch that concern one symbol."""
    columns = columns_of(batch, np.arange(number + 1) == number)
    return columns.of(np.arange(columns.rows.size))


def fired_at(found: Mapping[str, tuple[str, int, float]], rule: str) -> list[tuple[int, float]]:
    return sorted((ts, price) for one, ts, price in found.values() if one == rule)


@pytest.fixture(scope="module")
def undisturbed(bars, tmp_path_factory) -> dict[str, tuple[str, int, float]]:
    pipeline = opened(tmp_path_factory.mktemp("series"), "one")
    pipeline.set_rules(make_rules())
    run(pipeline, pieces(history_batch(pipeline.evaluator, {"A": bars}), []))
    return ended(pipeline)


@pytest.mark.parametrize("rule", make_rules(), ids=list(RULES))
def test_what_bars_tell_fires_live_where_the_backtest_says(bars, undisturbed, rule) -> None:
    told = backtest_rule(rule, bars).firings
    expected = sorted(zip(told["ts"].astype("int64").tolist(), told["price"].tolist(), strict=True))
    assert len(expected) >= 3
    assert fired_at(undisturbed, rule.id) == expected


def test_cut_into_any_batches_and_recovered_on_the_way_the_firings_are_the_same(bars, undisturbed, tmp_path) -> None:
    pipeline = opened(tmp_path, "before")
    pipeline.set_rules(make_rules())
    batch = history_batch(pipeline.evaluator, {"A": bars})
    inside = 4 * 449 + 2
    cuts = np.random.default_rng(3).choice(np.arange(1, batch.times.size), 40, replace=False)
    some = pieces(batch, sorted({*cuts.tolist(), inside}))
    kept = next(number for number, (_, taken) in enumerate(some, 1) if taken.positions["tape:A"] == inside)
    run(pipeline, some[:kept])
    assert pipeline.snapshot()
    run(pipeline, some[kept : kept + 5])
    pipeline.journal.commit()
    before = ended(pipeline)
    # The store that had the newest firings is lost: what the journal holds behind the snapshot must find them again.
    again = opened(tmp_path, "after")
    assert again.recover() == 5
    assert again.series.wanted == (("A", MINUTE), ("A", 5 * MINUTE))
    run(again, some[kept + 5 :])
    after = ended(again)
    since = int(batch.times[inside])
    assert after == {id: one for id, one in undisturbed.items() if one[1] >= since}
    assert before.keys() & after.keys()
    assert before | after == undisturbed


def test_bars_that_a_clock_closes_tell_what_those_that_a_trade_closes_tell(bars, undisturbed, tmp_path) -> None:
    pipeline = opened(tmp_path, "clock")
    pipeline.set_rules(make_rules())
    whole = history_batch(pipeline.evaluator, {"A": bars})
    at = np.flatnonzero((whole.times % MINUTE == 0) & (whole.records == 0))[1:]
    clocks = (np.full(at.size, -1), whole.times[at], np.zeros(at.size), np.zeros(at.size), np.full(at.size, 3))
    mixed = Batch(*(np.insert(column, at, new) for column, new in zip(whole, clocks, strict=True)))
    run(pipeline, pieces(mixed, [500, 501]))
    found = ended(pipeline)
    for rule in RULES:
        assert fired_at(found, rule) == fired_at(undisturbed, rule)


def test_history_warms_indicators_and_detectors_and_fires_nothing(bars, tmp_path) -> None:
    import talib

    past, live = bars.iloc[:600], bars.iloc[600:]
    asked: list[tuple[int, int]] = []

    def history(symbol: str, timeframe: int, count: int) -> pd.DataFrame | None:
        asked.append((timeframe, count))
        return past if timeframe == MINUTE else None

    level = Rule(
        id="rsi",
        owner="me",
        condition='rsi(14, "1m", "closed") < 40',
        symbols=("A",),
        timeframe="1m",
        frequency="once_per_bar_close",
    )
    gaps = Rule(id="break", owner="me", condition='breaks_resistance("1m")', symbols=("A",), timeframe="1m")
    found = {}
    for name, given in (("warm", history), ("cold", None)):
        pipeline = opened(tmp_path / name, name, given) if (tmp_path / name).mkdir() is None else None
        assert pipeline is not None
        pipeline.set_rules([level, gaps])
        assert pipeline.firings == 0
        run(pipeline, pieces(history_batch(pipeline.evaluator, {"A": live}), [100]))
        found[name] = ended(pipeline)
    assert sorted(asked) == [(MINUTE, 300), (MINUTE, 628)]
    strength = talib.RSI(bars["close"].to_numpy(), 14)[600:]
    closes = live["close_ts"].astype("int64").to_numpy()
    assert [ts for ts, _ in fired_at(found["warm"], "rsi")] == closes[strength < 40].tolist()
    assert fired_at(found["cold"], "rsi") != fired_at(found["warm"], "rsi")
    told = backtest_rule(gaps, bars).firings["ts"].astype("int64")
    expected = told[told > int(live.index[0].value)].tolist()
    assert expected
    assert [ts for ts, _ in fired_at(found["warm"], "break")] == expected


def test_bars_are_those_of_the_kernel_with_late_and_refused_trades_in_any_batches() -> None:
    generator = np.random.default_rng(8)
    size = 600
    times = np.sort(generator.integers(0, 40 * MINUTE, size)) - generator.integers(0, 3, size) * MINUTE // 3
    prices = generator.uniform(90, 110, size)
    prices[::50] = np.nan
    records = generator.choice(np.array([0, 3, 4], np.uint8), size, p=[0.9, 0.05, 0.05])
    batch = Batch(np.zeros(size, np.int32), times, prices, generator.uniform(0, 5, size), records)
    condition = " or ".join(f'{name}("1m", "closed") > 1000' for name in ("open", "high", "low", "close", "volume"))
    rule = compile_rule(Rule(id="r", owner="me", condition=condition, symbols=("A",)))
    engine, series = Evaluator(["A"]), BarSeries("A", MINUTE)
    engine.add(rule, ["A"])
    for part, _ in pieces(batch, np.sort(generator.choice(np.arange(1, size), 200, replace=False)).tolist()):
        engine.process(part)
        before = len(series.closed)
        series.take(of_symbol(part, 0))
        if len(series.closed) > before:
            kernel = [engine.value("A", one.left) for one in rule.conditions]
            assert list(series.closed[-1][1:]) == kernel
    assert len(series.closed) >= 30
    assert engine.late > 20
    assert engine.refused["price"] > 5


def test_a_series_forgets_in_time_and_goes_on_from_what_it_keeps() -> None:
    bars = make_bars(2 * LEAST + 40, timeframe="M1", seed=7, gaps=False)
    engine = Evaluator(["A"])
    first, second = pieces(history_batch(engine, {"A": bars}), [4 * (2 * LEAST + 10)])
    series = BarSeries("A", MINUTE)
    series.want(("fair_value_gap",), ("rsi",))
    assert series.take(of_symbol(first[0], 0))
    assert LEAST <= len(series.closed) < LEAST + 40
    again = BarSeries.restored(json.loads(json.dumps(series.state())))
    again.want(("fair_value_gap",), ("rsi",))
    rest = series.take(of_symbol(second[0], 0))
    assert rest
    assert again.take(of_symbol(second[0], 0)) == rest
    assert again.closed == series.closed


def test_history_comes_from_the_lake_unless_it_is_too_old(tmp_path: Path) -> None:
    stored = make_bars(60, seed=2, gaps=False)
    clean = raw(stored).assign(repaired=False, outlier=False, filled=False)
    Lake(tmp_path / "data").write(CLEAN_BARS, clean, Symbol.parse("BTCUSDT"), H1, lineage=LINEAGE)
    settings, hour, end = Settings(root=tmp_path), 60 * MINUTE, int(stored["close_ts"].iloc[-1].value)
    found = lake_history(settings, clock=lambda: end + hour)("BTCUSDT", hour, 20)
    assert found is not None
    assert found.index[-1] == stored.index[-1]
    assert found["close"].tolist() == stored["close"].tolist()[-len(found) :]
    assert 19 <= len(found) <= 20
    for clock, symbol, timeframe in (
        (end + 30 * hour, "BTCUSDT", hour),
        (end, "ETHUSDT", hour),
        (end, "BTCUSDT", MINUTE),
    ):
        other = lake_history(settings, clock=lambda clock=clock: clock)(symbol, timeframe, 20)
        assert other is None or other.empty


def test_a_rule_that_is_added_later_begins_with_history(bars, tmp_path) -> None:
    import talib

    fives = coarser(bars, 5 * MINUTE)
    split = 600
    first = Rule(id="first", owner="me", condition="close > 0", symbols=("A",), timeframe="1m")
    text = 'rsi(14, "5m", "closed") > 0'
    later = Rule(id="later", owner="me", condition=text, symbols=("A",), timeframe="5m", frequency="once_per_bar_close")
    pipeline = opened(tmp_path, "later", lambda symbol, frame, count: fives.iloc[: split // 5].tail(count))
    pipeline.set_rules([first])
    begun, rest = pieces(history_batch(pipeline.evaluator, {"A": bars}), [4 * split + 3])
    run(pipeline, [begun])
    pipeline.set_rules([first, later])
    reading = compile_rule(later).conditions[0].left
    expected = talib.RSI(fives["close"].to_numpy(), 14)
    assert pipeline.evaluator.value("A", reading) == pytest.approx(expected[split // 5 - 1])
    run(pipeline, [rest])
    assert pipeline.evaluator.value("A", reading) == pytest.approx(expected[-1], rel=1e-2)
    closes = fives["close_ts"].astype("int64").to_numpy()
    assert [ts for ts, _ in fired_at(ended(pipeline), "later")] == closes[split // 5 :].tolist()


class Wire:
    """A news service that has one headline."""

    async def get(self, path: str, parameters: Mapping[str, str]) -> bytes:
        assert (path, parameters["q"], parameters["apiKey"]) == ("/v2/everything", "bitcoin", "k")
        article = {"title": "Bitcoin plunges", "url": "https://a/1", "publishedAt": "2026-01-01T00:00:00Z"}
        return json.dumps({"status": "ok", "articles": [article]}).encode()


def test_a_headline_moves_a_sentiment_rule(tmp_path: Path) -> None:
    (tmp_path / "words.json").write_text('{"plunges": -0.8}')
    news = {"key": "k", "questions": ["bitcoin"], "names": {"A": ["bitcoin"]}, "lexicon": "words.json"}
    settings = Settings(root=tmp_path, alerts={"news": news})
    rule = Rule(id="fear", owner="me", condition="sentiment < -0.5 and high_impact_news(0.7)", symbols=("A",))

    def sources(manager: DataManager, _: Mapping[str, int]) -> list[Source]:
        return news_sources(settings, manager, {"newsapi": Wire()})

    async def story() -> None:
        store = open_store(tmp_path / "alerts.db")
        names = {"A": [SourceName("tape", "A", stale_after=3_600)]}
        engine = AlertEngine(store, tmp_path / "engine", names, rules=[rule], sources=sources, options=EngineOptions())
        await engine.start()
        until = time.monotonic() + 20
        while not store.count_firings() and time.monotonic() < until:
            await asyncio.sleep(0.01)
        for source in engine._sources:
            source.stop()
        for task in engine._tasks:
            task.cancel()
        await engine.stop()
        assert [one.firing.rule for one in store.firings_after(0)] == ["fear"]
        store.close()

    asyncio.run(story())
    assert news_sources(Settings(root=tmp_path), None) == []  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="lacks one of questions"):
        news_sources(Settings(root=tmp_path, alerts={"news": {"key": "k"}}), None)  # type: ignore[arg-type]
