"""Replay: any batching, live or from the journal, gives the same records and the same firings."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tapeline.alerts.engine import indicators, table
from tapeline.alerts.engine.compiled import CompiledRule, Condition
from tapeline.alerts.engine.evaluator import Evaluator
from tapeline.alerts.engine.kernel import GAP, TRADE
from tapeline.alerts.engine.layout import TIMEFRAMES, Indicator
from tapeline.alerts.feeds.batcher import SECOND, Batcher, BatcherOptions, Tick
from tapeline.alerts.feeds.data_manager import DataManager
from tapeline.alerts.feeds.replay import (
    Missing,
    bar_records,
    by_time,
    replay_batches,
    session_records,
    trade_records,
)
from tapeline.alerts.feeds.source_names import SourceName
from tapeline.alerts.feeds.tick_journal import JournalOptions, TickJournal
from tapeline.core.errors import DataError
from tapeline.streams.dialects.binance import Binance
from tests.support import make_bars

NUMBERS = {"A": 0, "B": 1}


def records(found) -> list[tuple]:
    return [
        row
        for batch, taken in found
        for row in zip(*(one.tolist() for one in batch), taken.sequences.tolist(), taken.late.tolist(), strict=True)
    ]


def engine() -> Evaluator:
    """Crossings at each tick and at the close of minutes."""
    made = Evaluator(NUMBERS)
    close = (Indicator(indicators.CLOSE, TIMEFRAMES["1m"]), 0)
    crossing = Condition(close, table.ABOVE, threshold=100.0, crossing=True)
    made.add(CompiledRule("tick", (crossing,)), NUMBERS)
    made.add(CompiledRule("close", (Condition(close, table.BELOW, threshold=100.0),), close_of=60 * SECOND), NUMBERS)
    return made


def firings(found) -> list[tuple]:
    made, out = engine(), []
    for batch, _ in found:
        rows = made.process(batch).firings
        out += [(int(row["ts"]), int(row["rule"]), float(row["price"]), int(row["truth"])) for row in rows]
    return out


@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 999), most=st.integers(1, 50), group=st.integers(1, 4_000))
def test_live_cut_anyhow_and_the_journal_and_the_replay_agree(tmp_path_factory, seed, most, group):
    generator = np.random.default_rng(seed)
    times = np.cumsum(generator.exponential(3.0, 80) * SECOND).astype(int).tolist()
    ticks = [
        Tick("AB"[int(generator.integers(2))], ts, float(100 + generator.normal()), 1.0, number)
        for number, ts in enumerate(times)
    ]
    whole = list(replay_batches(ticks, NUMBERS, source="s"))
    live = Batcher(NUMBERS, options=BatcherOptions(most=most))
    manager = DataManager(live)
    for symbol in NUMBERS:
        manager.watch(symbol, [SourceName("s", symbol)])
    journal = TickJournal(tmp_path_factory.mktemp("j"), list(NUMBERS), options=JournalOptions(1e9, group, 2 * group))
    cut = []
    for tick in ticks:
        manager.take("s", [tick])
        while generator.random() < 0.3 and (found := live.flush(0, force=True)) is not None:
            cut.append(found)
    while (found := live.flush(0, force=True)) is not None:
        cut.append(found)
    for found in cut:
        journal.append(*found)
    journal.commit()
    back = [(one.batch, one.taken) for one in journal.replay(0)]
    assert records(whole) == records(cut) == records(back)
    assert firings(whole) == firings(cut) == firings(back)
    assert firings(whole)
    half = len(cut) // 2
    assert records((one.batch, one.taken) for one in journal.replay(half)) == records(cut[half:])


def test_a_recorded_session_gives_its_trades_in_the_order_of_their_ids(test_data):
    path = test_data / "api/ws_recordings/BINANCE.ws.1.0"
    expected: dict[str, list] = {}
    for line in path.read_bytes().splitlines()[1:]:
        _, _, body = line.partition(b": ")
        data = json.loads(body)["data"] if b'"aggTrade"' in body and body.startswith(b'{"stream"') else None
        if data is not None:
            expected.setdefault(data["s"], []).append((data["a"], data["T"] * 1_000_000, float(data["p"])))
    found = list(session_records([path], Binance(), {"NKNUSDT": "NKN/USDT", "RUNEEUR": "RUNE/EUR"}))
    assert expected["NKNUSDT"]
    for venue, name in (("NKNUSDT", "NKN/USDT"), ("RUNEEUR", "RUNE/EUR")):
        ours = [(one.sequence, one.ts, one.price) for one in found if isinstance(one, Tick) and one.symbol == name]
        assert ours == expected.get(venue, [])
    batches = list(replay_batches(found, {"NKN/USDT": 0, "RUNE/EUR": 1}, source="binance"))
    trades = sum(int((batch.records == TRADE).sum()) for batch, _ in batches)
    assert trades == sum(isinstance(one, Tick) for one in found)


def test_a_hole_in_a_recording_is_a_gap_in_its_place(tmp_path):
    path = tmp_path / "session"
    lines = []
    for number in (7, 8, 8, 11, 12):
        data = {"e": "aggTrade", "E": 5, "s": "BTCUSDT", "a": number, "p": "1.5", "q": "2", "f": 1, "l": 1}
        data |= {"T": 1_000 * number, "m": False, "M": True}
        lines.append(
            f"{1_633_998_512_000_000_000 + number} " + json.dumps({"stream": "btcusdt@aggTrade", "data": data})
        )
    path.write_text("\n".join(lines) + "\n")
    found = list(session_records([path], Binance()))
    assert [one.sequence if isinstance(one, Tick) else "gap" for one in found] == [7, 8, "gap", 11, 12]
    assert found[2] == Missing("BTCUSDT", 11 * SECOND)
    batch, _ = next(replay_batches(found, {"BTCUSDT": 0}, source="binance"))
    assert (batch.records == GAP).sum() == 1


def test_bars_of_the_lake_are_the_bars_that_the_evaluator_closes():
    bars = make_bars(200, timeframe="M1")
    made = Evaluator(["A"])
    close = (Indicator(indicators.CLOSE, TIMEFRAMES["1m"]), 0)
    above = Condition(close, table.ABOVE, threshold=float(bars["close"].median()), crossing=True)
    made.add(CompiledRule("r", (above,), close_of=60 * SECOND), ["A"])
    fired = [
        int(row["ts"])
        for batch, _ in replay_batches(bar_records(bars, "A"), {"A": 0}, source="lake")
        for row in made.process(batch).firings
    ]
    over = bars["close"] > bars["close"].median()
    closes = pd.DatetimeIndex(bars["close_ts"]).as_unit("ns").asi8
    expected = closes[(over & ~over.shift(1, fill_value=True)).to_numpy()].tolist()
    # The clock stays two seconds behind: the last bar closes with nothing behind it.
    assert fired == [ts for ts in expected if ts < closes[-1]]
    assert fired


def test_trades_of_the_lake_in_several_symbols_by_time():
    index = pd.DatetimeIndex(["2024-01-01 00:00:00", "2024-01-01 00:00:02"], name="ts", tz="UTC")
    one = pd.DataFrame({"price": [1.0, 2.0], "size": [1.0, 1.0], "id": ["5", "6"]}, index=index)
    other = pd.DataFrame({"price": [9.0], "size": [1.0]}, index=index[:1] + pd.Timedelta("1s"))
    found = list(by_time(trade_records(one, "A"), trade_records(other, "B")))
    assert [(tick.symbol, tick.price, tick.sequence) for tick in found] == [
        ("A", 1.0, 5),
        ("B", 9.0, -1),
        ("A", 2.0, 6),
    ]


def test_what_cannot_be_replayed_is_named():
    with pytest.raises(DataError, match="A at 5 has a price that is not positive"):
        list(replay_batches([Tick("A", 5, float("nan"), 1.0)], NUMBERS, source="s"))
    with pytest.raises(DataError, match="'C' is not known"):
        list(replay_batches([Tick("C", 5, 1.0, 1.0)], NUMBERS, source="s"))
