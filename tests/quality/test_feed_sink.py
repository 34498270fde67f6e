"""The sink judges each row as a batch would, keeps what passes durably and loses nothing between two tries."""

from __future__ import annotations

import itertools
import math
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tapeline.core.errors import TemporaryError
from tapeline.core.schemas import QUARANTINE, RAW_TICKS, RAW_TRADES
from tapeline.core.symbol import Symbol
from tapeline.core.timeframe import Timeframe
from tapeline.lake.lake import Lake, Lineage
from tapeline.quality.calendars import MarketCalendar
from tapeline.quality.feed_sink import FeedSink
from tapeline.quality.feed_validator import TickFeedValidator
from tapeline.quality.quarantine_spill import QuarantineSpill
from tapeline.streams.drain import Drain
from tapeline.streams.journal import Journal
from tapeline.streams.messages import Quote, Trade
from tapeline.streams.trade_sequence import Collected

BITCOIN, ETHER = Symbol.parse("BTCUSDT"), Symbol.parse("ETHUSDT")
TICK = Timeframe.parse("tick")
START = 1_700_000_000_000_000_000
MILLISECOND = 1_000_000


def trade(number: int, *, price: float = 5.0, size: float = 1.0, at: int | None = None, symbol=BITCOIN) -> Collected:
    stamp = START + (number if at is None else at) * MILLISECOND
    return Collected(Trade(symbol, stamp, price, size, 1, str(number)), START + 100_000 * MILLISECOND)


def quote(number: int, bid: float, ask: float, ts: int | None = None) -> Collected:
    return Collected(Quote(BITCOIN, ts, bid, 1.0, ask, 1.0, number), START + number)


class Project:
    """A sink on a journal and a lake below a folder."""

    def __init__(self, root: Path, **options) -> None:
        self.lake = Lake(root / "lake")
        self.journal = Journal(root / "journal")
        self.spill = QuarantineSpill(root / "spill")
        self.sink = FeedSink(self.journal, self.spill, source="demo", **options)

    def close(self) -> None:
        write = lambda spec, table, symbol: self.lake.write(spec, table, symbol, TICK, lineage=Lineage("run", "stream"))  # noqa: E731
        while Drain(self.journal, write).drain_once():
            pass
        self.spill.flush(lambda rows, symbol: write(QUARANTINE, rows, symbol))
        self.journal.close()

    def read(self, spec, symbol=BITCOIN) -> pd.DataFrame:
        return self.lake.read(spec, symbol, TICK)


def test_trades_and_quotes_of_several_symbols_reach_their_tables(tmp_path):
    project = Project(tmp_path)
    project.sink.append([trade(1), quote(7, 1.0, 1.1), trade(9, symbol=ETHER), trade(2)])
    assert project.sink.last_ids == {"BTCUSDT": 2, "ETHUSDT": 9}
    project.close()
    trades = project.read(RAW_TRADES)
    assert trades[["sequence", "id", "price", "side"]].to_numpy().tolist() == [[1, "1", 5.0, 1], [2, "2", 5.0, 1]]
    assert trades["source"].unique().tolist() == ["demo"]
    assert trades["ts_origin"].unique().tolist() == ["exchange"]
    (row,) = project.read(RAW_TICKS).reset_index().to_dict("records")
    assert (row["sequence"], row["bid"], row["ask"]) == (7, 1.0, 1.1)
    assert row["ts"].value == START + 7, "a quote without a time of the venue stands at its receipt"
    assert row["ts_origin"] == "local"
    assert math.isnan(row["last"])
    assert math.isnan(row["volume"])
    assert len(project.read(RAW_TRADES, ETHER)) == 1


numbers = st.one_of(st.floats(0.5, 9.0), st.sampled_from([0.0, -1.0, math.inf, math.nan]))


@settings(max_examples=40, deadline=None)
@given(
    rows=st.lists(st.tuples(numbers, numbers, st.integers(0, 400)), min_size=1, max_size=30),
    cuts=st.lists(st.integers(0, 30), max_size=4),
)
def test_the_stream_gives_the_verdict_of_the_batch_and_every_row_is_somewhere(rows, cuts):
    records = [trade(n, price=price, size=size, at=at * 1_000) for n, (price, size, at) in enumerate(rows)]
    columns = {
        "price": [row.record.price for row in records],
        "size": [row.record.size for row in records],
        "id": [row.record.id for row in records],
    }
    index = pd.to_datetime([row.record.ts for row in records], unit="ns", utc=True)
    now = pd.Timestamp(START + 100_000 * MILLISECOND + 60_000_000_000, tz="UTC")
    batch = TickFeedValidator(duplicates="id").feed(pd.DataFrame(columns, index=index.rename("ts")), now=now)
    with tempfile.TemporaryDirectory() as folder:
        project = Project(Path(folder))
        bounds = [0, *sorted(min(cut, len(records)) for cut in cuts), len(records)]
        for low, high in itertools.pairwise(bounds):
            if low < high:
                project.sink.append(records[low:high])
        project.close()
        stored, refused = project.read(RAW_TRADES), project.read(QUARANTINE)
        assert sorted(stored["sequence"]) == np.flatnonzero(batch.passed).tolist()
        assert len(stored) + len(refused) == len(records)
        tally = project.sink.tallies[BITCOIN]
        assert tally.reasons == batch.counts()
        codes = [reason.partition(":")[0] for reasons in refused["reasons"] for reason in reasons]
        assert {code: codes.count(code) for code in set(codes)} == batch.counts()


def test_a_journal_that_is_full_refuses_and_the_same_rows_are_taken_later(tmp_path, monkeypatch):
    project = Project(tmp_path)
    records = [trade(1), quote(5, 1.0, 1.1), trade(2, price=-1.0), trade(3)]
    append, failures = project.journal.append, [TemporaryError("no room")] * 2

    def fails(*given, **named):
        if given[0] is RAW_TICKS and failures:
            raise failures.pop()
        return append(*given, **named)

    monkeypatch.setattr(project.journal, "append", fails)
    for _ in range(2):
        with pytest.raises(TemporaryError, match="no room"):
            project.sink.append(records)
        assert project.sink.last_ids == {}
    project.sink.append(records)
    assert project.sink.last_ids == {"BTCUSDT": 3}
    project.close()
    assert project.read(RAW_TRADES)["sequence"].tolist() == [1, 3]
    assert len(project.read(RAW_TICKS)) == 1
    assert len(project.read(QUARANTINE)) == 1
    assert project.sink.tallies[BITCOIN].quarantined == 1


def test_a_batch_that_is_given_up_is_no_repetition_when_it_is_collected_again(tmp_path, monkeypatch):
    project = Project(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(project.journal, "append", lambda *a, **b: (_ for _ in ()).throw(TemporaryError("no room")))
        with pytest.raises(TemporaryError):
            project.sink.append([trade(1), trade(2)])
    project.sink.append([trade(1), trade(2), trade(3)])
    project.close()
    assert project.read(RAW_TRADES)["sequence"].tolist() == [1, 2, 3]
    assert project.read(QUARANTINE).empty


def test_nothing_is_acknowledged_before_it_is_durable(tmp_path, monkeypatch):
    project = Project(tmp_path)
    waited = []
    wait = project.journal.wait
    monkeypatch.setattr(
        project.journal, "wait", lambda ticket: (waited.append(dict(project.sink.last_ids)), wait(ticket))
    )
    project.sink.append([trade(1)])
    assert waited == [{}]
    assert project.journal.counters().durable_rows == 1
    project.close()


def test_silence_is_judged_by_the_market_calendar(tmp_path):
    def silences(name: str) -> int:
        project = Project(tmp_path / name, calendar_of=lambda symbol: MarketCalendar.parse(name))
        friday = pd.Timestamp("2023-11-17 21:59", tz="UTC").value - START
        sunday = pd.Timestamp("2023-11-19 22:01", tz="UTC").value - START
        for number, at in enumerate((friday, sunday)):
            row = trade(number, at=at // MILLISECOND)
            project.sink.append([Collected(row.record, row.record.ts)])
        project.close()
        return project.sink.tallies[BITCOIN].silences

    assert silences("24x5") == 0
    assert silences("24x7") == 1


def test_quotes_without_numbers_are_numbered_within_their_instant(tmp_path):
    project = Project(tmp_path)
    plain = [Collected(Quote(BITCOIN, START, bid, 1.0, 9.0, 1.0), START) for bid in (1.0, 2.0, 2.0)]
    project.sink.append(plain[:2])
    project.sink.append(plain[2:])
    project.close()
    rows = project.read(RAW_TICKS)
    assert list(zip(rows["sequence"], rows["bid"], strict=True)) == [(0, 1.0), (1, 2.0), (2, 2.0)]
