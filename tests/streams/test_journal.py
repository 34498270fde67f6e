"""The journal: what it acknowledges survives kill -9, slow and full disks; what it cannot take it refuses aloud."""

from __future__ import annotations

import errno
import multiprocessing
import os
import random
import signal
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tapeline.core.errors import ConfigurationError, DataError, SchemaError, TemporaryError
from tapeline.core.schemas import RAW_BARS, RAW_BOOK, RAW_TICKS, RAW_TRADES
from tapeline.core.symbol import Symbol
from tapeline.core.timeframe import Timeframe
from tapeline.lake import Lake, Lineage
from tapeline.streams import segments
from tapeline.streams.drain import Drain
from tapeline.streams.journal import Journal
from tapeline.streams.journal_entries import decode
from tapeline.streams.row_layouts import make_rows, number_rows
from tapeline.streams.segments import SegmentWriter

KILLS = int(os.environ.get("TAPELINE_JOURNAL_KILLS", "20"))
"""How many producers are killed at random instants; more in a long run."""

EURUSD, BITCOIN = Symbol.parse("EURUSD"), Symbol.parse("BTC/USDT")
TICK = Timeframe.parse("tick")
START = 1_753_833_600_000_000_000


def rows(first: int, count: int, *, known: int = 0) -> np.ndarray:
    """Ticks ``first``, ``first + 1``, ...: three an instant; the number stands in ``bid``."""
    number = np.arange(first, first + count)
    return make_rows(
        RAW_TICKS,
        ts=START + number // 3,
        sequence=number % 3,
        bid=number.astype(float),
        ask=0.5,
        known_at=START + known,
    )


def into(lake: Lake):
    lineage = Lineage("run-1", "stream", ("journal",))
    return lambda spec, table, symbol: lake.write(spec, table, symbol, TICK, lineage=lineage)


def everything(journal: Journal) -> list[int]:
    """The numbers of the ticks that a journal holds for the lake."""
    frames = journal.read(rows=10**9)
    return [int(n) for frame in frames for entry in decode(frame.body) for n in entry.rows["bid"]]


def put(journal: Journal, first: int, count: int) -> None:
    journal.wait(journal.append(RAW_TICKS, EURUSD, rows(first, count), source="test"))


def append_until_refused(journal: Journal, first: int, *, durably: bool = False) -> tuple[int, str]:
    """Append ten ticks at a time until there is no room: the next tick's number, and what was said."""
    for _ in range(1000):
        try:
            ticket = journal.append(RAW_TICKS, EURUSD, rows(first, 10), source="test")
        except TemporaryError as error:
            return first, str(error)
        if durably:
            journal.wait(ticket)
        first += 10
    raise AssertionError("the journal took 10,000 ticks and never pressed back")


def last_told(acknowledged: Path) -> int:
    """The tick behind the last acknowledged one; the log's lines are appended whole, each by one write."""
    lines = acknowledged.read_text().split() if acknowledged.exists() else []
    return int(lines[-1]) if lines else 0


def produce_until_killed(folder: Path, acknowledged: Path, generation: int) -> None:
    """A feed that goes on behind the last tick it was told is safe, as a restarted one does."""
    number = last_told(acknowledged)
    generator = random.Random(generation)
    log = os.open(acknowledged, os.O_CREAT | os.O_APPEND | os.O_WRONLY)
    journal = Journal(folder / "journal", segment_bytes=4096, commit_seconds=0.0005)
    with Drain(journal, into(Lake(folder / "lake")), rows=60, seconds=0.02):
        while True:
            count = generator.randint(1, 30)
            batch = rows(number, count, known=generation)
            ticket = journal.append(RAW_TICKS, EURUSD, batch, source="test")
            if generator.random() < 0.7:
                journal.wait(ticket)
                os.write(log, f"{number + count}\n".encode())
            number += count


def test_kill_9_at_random_instants_loses_no_acknowledged_tick_and_doubles_none(tmp_path):
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.streams.test_journal"])
    generator = random.Random(7)
    acknowledged = tmp_path / "acknowledged"
    told = 0
    for generation in range(KILLS):
        process = context.Process(target=produce_until_killed, args=(tmp_path, acknowledged, generation))
        process.start()
        before = told
        deadline = time.monotonic() + 30
        while told == before and process.is_alive() and time.monotonic() < deadline:
            told = last_told(acknowledged)
            time.sleep(0.001)
        time.sleep(generator.random() * 0.08)
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        assert process.exitcode == -signal.SIGKILL, "the producer died of something else"
        told = last_told(acknowledged)
    lake = Lake(tmp_path / "lake")
    with Journal(tmp_path / "journal") as journal:
        drain = Drain(journal, into(lake))
        while drain.drain_once():
            pass
        assert journal.counters().backlog_rows == 0
    held = lake.read(RAW_TICKS, EURUSD, TICK)
    numbers = held["bid"].astype(int).tolist()
    beyond = len(numbers)
    assert numbers == list(range(beyond)), "a tick is missing, doubled or out of order"
    assert beyond >= told > KILLS
    assert (held["revision"] == 0).all()
    assert lake.damaged() == []


def test_nothing_is_acknowledged_before_it_is_on_disk(tmp_path, monkeypatch):
    allowed = threading.Event()
    real = segments.sync

    def slow(descriptor):
        allowed.wait(10)
        real(descriptor)

    monkeypatch.setattr(segments, "sync", slow)
    with Journal(tmp_path, commit_seconds=0) as journal:
        ticket = journal.append(RAW_TICKS, EURUSD, rows(0, 3), source="test")
        with pytest.raises(TemporaryError, match="not acknowledged"):
            journal.wait(ticket, timeout=0.02)
        assert (journal.durable, journal.counters().durable_rows, journal.counters().queued_rows) == (0, 0, 3)
        allowed.set()
        journal.wait(ticket)
        assert (journal.durable, journal.counters().durable_rows, journal.counters().queued_rows) == (1, 3, 0)


@pytest.mark.parametrize("when_full", ["refuse", "block"])
def test_a_slow_disk_presses_back_and_memory_stays_bounded(tmp_path, monkeypatch, when_full):
    allowed = threading.Event()
    real = segments.sync
    monkeypatch.setattr(segments, "sync", lambda descriptor: (allowed.wait(10), real(descriptor)))
    journal = Journal(tmp_path, queue_bytes=10_000, when_full=when_full, block_seconds=0.05)
    taken, said = append_until_refused(journal, 0)
    assert "the disk is slower than the feed" in said
    counted = journal.counters()
    assert counted.queued_bytes <= 10_000
    assert (counted.queued_rows, counted.refused_rows) == (taken, 10)
    assert (counted.blocked_seconds > 0.04) == (when_full == "block")
    allowed.set()
    journal.wait(taken // 10, timeout=10)
    put(journal, taken, 5)
    assert everything(journal) == list(range(taken + 5))
    journal.close()


def test_a_slow_lake_presses_back_through_the_backlog(tmp_path):
    with Journal(tmp_path, queue_bytes=4096, backlog_bytes=8192, when_full="refuse", commit_seconds=0) as journal:
        taken, said = append_until_refused(journal, 0, durably=True)
        assert "the lake is slower than the feed" in said
        assert journal.counters().backlog_bytes <= 8192
        assert journal.counters().lag_seconds > 0
        journal.mark_drained(journal.read(rows=20))
        put(journal, taken, 10)
        assert everything(journal) == list(range(20, taken + 10))
        journal.mark_drained(journal.read(rows=10**9))
        assert (journal.counters().backlog_rows, journal.counters().lag_seconds) == (0, 0)


@pytest.mark.parametrize("step", ["write", "sync"])
def test_a_full_disk_is_said_aloud_and_nothing_queued_is_lost(tmp_path, monkeypatch, step):
    full = threading.Event()
    real_write, real_sync = SegmentWriter._write, segments.sync

    def write(writer, parts):
        if full.is_set() and step == "write":
            real_write(writer, [b"".join(parts)[:7]])  # a short write, then the error
            raise OSError(errno.ENOSPC, "No space left on device")
        real_write(writer, parts)

    def sync(descriptor):
        if full.is_set() and step == "sync":
            raise OSError(errno.EIO, "Input/output error")
        real_sync(descriptor)

    monkeypatch.setattr(SegmentWriter, "_write", write)
    monkeypatch.setattr(segments, "sync", sync)
    said = "No space left" if step == "write" else "Input/output error"
    with Journal(tmp_path, queue_bytes=8192, block_seconds=0.2, commit_seconds=0) as journal:
        put(journal, 0, 10)
        full.set()
        ticket = journal.append(RAW_TICKS, EURUSD, rows(10, 10), source="test")
        with pytest.raises(TemporaryError, match=said):
            journal.wait(ticket, timeout=0.3)
        taken, refused = append_until_refused(journal, 20)
        assert said in refused
        assert journal.counters().failures > 0
        full.clear()
        journal.wait(ticket, timeout=10)
        put(journal, taken, 1)
        assert everything(journal) == list(range(taken + 1))
    with Journal(tmp_path) as again:
        assert everything(again) == list(range(taken + 1))


def test_closing_on_a_dead_disk_says_how_many_rows_were_never_safe(tmp_path, monkeypatch):
    def broken(descriptor):
        raise OSError(errno.EIO, "Input/output error")

    journal = Journal(tmp_path, block_seconds=0.1)
    monkeypatch.setattr(segments, "sync", broken)
    journal.append(RAW_TICKS, EURUSD, rows(0, 4), source="test")
    with pytest.raises(TemporaryError, match=r"4 rows that are not durable.*Input/output error"):
        journal.close()
    with pytest.raises(ConfigurationError, match="is closed"):
        journal.append(RAW_TICKS, EURUSD, rows(0, 1), source="test")


def filled(folder: Path, frames: int = 4) -> Path:
    with Journal(folder) as journal:
        for number in range(frames):
            put(journal, number * 2, 2)
    return next(folder.glob("*.segment"))


def test_a_torn_end_is_cut_off_wherever_it_is_torn(tmp_path):
    whole = filled(tmp_path / "whole").read_bytes()
    ends = [frame.end for frame in segments.read_frames(next((tmp_path / "whole").glob("*.segment")))]
    for size in range(ends[2], len(whole)):
        folder = tmp_path / str(size)
        folder.mkdir()
        (folder / f"{1:020d}.segment").write_bytes(whole[:size])
        with Journal(folder) as journal:
            assert everything(journal) == [0, 1, 2, 3, 4, 5]
            assert journal.counters().torn_bytes == size - ends[2]
            assert journal.counters().recovered_rows == 6
            if size % 40 == 0:
                put(journal, 6, 2)
                assert everything(journal) == list(range(8))


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_damage_to_acknowledged_frames_is_an_error_and_changes_nothing(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("damage")
    path = filled(folder)
    ends = [frame.end for frame in segments.read_frames(path)]
    raw = bytearray(path.read_bytes())
    raw[data.draw(st.integers(0, ends[2] - 1))] ^= 1 << data.draw(st.integers(0, 7))
    path.write_bytes(raw)
    with pytest.raises(DataError, match="damaged or missing"):
        Journal(folder)
    assert path.read_bytes() == raw


def test_a_missing_segment_is_an_error(tmp_path):
    with Journal(tmp_path, segment_bytes=4096) as journal:
        for number in range(40):
            put(journal, number * 10, 10)
    found = sorted(tmp_path.glob("*.segment"))
    assert len(found) > 3
    found[1].unlink()
    with pytest.raises(DataError, match="damaged or missing"):
        Journal(tmp_path)


def test_segments_go_when_the_lake_has_them_and_the_position_survives(tmp_path):
    with Journal(tmp_path, segment_bytes=4096) as journal:
        for number in range(60):
            put(journal, number * 10, 10)
        assert len(list(tmp_path.glob("*.segment"))) > 5
        journal.mark_drained(journal.read(rows=595))
        assert len(list(tmp_path.glob("*.segment"))) == 1
        put(journal, 600, 3)
        left = everything(journal)
    with Journal(tmp_path) as journal:
        assert everything(journal) == left == [600, 601, 602]
        assert journal.counters().recovered_rows == 3
        journal.mark_drained(journal.read(rows=10**9))
    with Journal(tmp_path) as journal:
        assert everything(journal) == []
        assert list(tmp_path.glob("*.segment")) == []
        put(journal, 603, 1)
        assert everything(journal) == [603]


def test_one_process_holds_a_journal(tmp_path):
    with Journal(tmp_path), pytest.raises(TemporaryError, match="another process holds"):
        Journal(tmp_path)


def test_many_threads_share_commits(tmp_path):
    with Journal(tmp_path, commit_seconds=0.01) as journal:
        threads = [threading.Thread(target=put, args=(journal, n * 5, 5)) for n in range(40)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(everything(journal)) == list(range(200))
        assert 1 <= journal.counters().commits < 40


def test_a_crash_between_lake_and_position_repeats_without_effect(tmp_path, monkeypatch):
    lake = Lake(tmp_path / "lake")
    with Journal(tmp_path / "journal") as journal:
        put(journal, 0, 9)
        monkeypatch.setattr(journal, "mark_drained", lambda frames: (_ for _ in ()).throw(OSError("died here")))
        with pytest.raises(OSError, match="died here"):
            Drain(journal, into(lake)).drain_once()
    version = lake.version(RAW_TICKS, EURUSD, TICK)
    with Journal(tmp_path / "journal") as journal:
        assert Drain(journal, into(lake)).drain_once() == 9
    assert lake.version(RAW_TICKS, EURUSD, TICK) == version
    assert len(lake.read(RAW_TICKS, EURUSD, TICK)) == 9


def test_repeated_rows_are_stored_once_and_corrections_become_revisions(tmp_path):
    lake = Lake(tmp_path / "lake")
    with Journal(tmp_path / "journal") as journal:
        put(journal, 0, 4)
        put(journal, 2, 4)  # the feed was not told of the first success
        corrected = rows(1, 1, known=5)
        corrected["bid"] = 99.0
        journal.wait(journal.append(RAW_TICKS, EURUSD, corrected, source="test"))
        Drain(journal, into(lake)).drain_once()
    assert lake.read(RAW_TICKS, EURUSD, TICK)["bid"].tolist() == [0.0, 99.0, 2.0, 3.0, 4.0, 5.0]
    assert lake.status().iloc[0]["revisions"] == 1


def test_ticks_trades_and_books_of_several_symbols_reach_their_tables(tmp_path):
    lake = Lake(tmp_path / "lake")
    trades = make_rows(
        RAW_TRADES, ts=START, sequence=[8, 9], price=5.0, size=1.0, side=1, id=["a", "b"], known_at=START
    )
    book = make_rows(
        RAW_BOOK, ts=START, sequence=4, side=[1, -1], level=0, price=[9.0, 10.0], size=[1.0, 0.0], known_at=START
    )
    with Journal(tmp_path / "journal") as journal, Drain(journal, into(lake), seconds=60):
        journal.append(RAW_TICKS, EURUSD, rows(0, 2), source="one")
        journal.append(RAW_TICKS, EURUSD, rows(2, 1), source="two")
        journal.append(RAW_TRADES, BITCOIN, trades, source="one")
        journal.wait(journal.append(RAW_BOOK, BITCOIN, book, source="one"))
    # Leaving the drain writes what is left.
    assert lake.read(RAW_TICKS, EURUSD, TICK)["source"].tolist() == ["one", "one", "two"]
    assert lake.read(RAW_TRADES, BITCOIN, TICK)["id"].tolist() == ["a", "b"]
    assert lake.read(RAW_BOOK, BITCOIN, TICK)["price"].tolist() == [10.0, 9.0]


def test_a_lake_that_fails_is_tried_again_and_the_journal_keeps_the_rows(tmp_path):
    lake, failed = Lake(tmp_path / "lake"), threading.Event()

    def write(spec, table, symbol):
        if not failed.is_set():
            failed.set()
            raise ConfigurationError("the lake cannot write: No space left on device")
        into(lake)(spec, table, symbol)

    with Journal(tmp_path / "journal") as journal:
        put(journal, 0, 4)
        with Drain(journal, write, seconds=0.01) as drain:
            assert failed.wait(10)
            for _ in range(1000):
                if drain.counters().rows:
                    break
                journal.wait_for_backlog(10**9, timeout=0.01)
        assert (drain.counters().rows, drain.counters().failures, drain.counters().failure) == (4, 1, None)
    assert len(lake.read(RAW_TICKS, EURUSD, TICK)) == 4


def test_what_is_no_row_of_a_table_is_refused(tmp_path):
    with pytest.raises(SchemaError, match="are unknown"):
        make_rows(RAW_TICKS, ts=1, bid=1.0, ask=1.0, known_at=1, price=5.0)
    with pytest.raises(SchemaError, match="41 bytes"):
        make_rows(RAW_TRADES, ts=1, price=1.0, size=1.0, side=1, id="x" * 41, known_at=1)
    with pytest.raises(SchemaError, match="without loss"):
        make_rows(RAW_TICKS, ts=1.5, bid=1.0, ask=1.0, known_at=1)
    with pytest.raises(SchemaError, match="do not make rows"):
        make_rows(RAW_TICKS, ts=[1, 2], bid=[1.0, 2.0, 3.0], ask=1.0, known_at=1)
    with Journal(tmp_path, queue_bytes=4096) as journal:
        with pytest.raises(ConfigurationError, match="has no row layout"):
            journal.append(RAW_BARS, EURUSD, rows(0, 1), source="test")
        with pytest.raises(ConfigurationError, match="rows are"):
            journal.append(RAW_TRADES, EURUSD, rows(0, 1), source="test")
        with pytest.raises(ConfigurationError, match="smaller batches"):
            journal.append(RAW_TICKS, EURUSD, rows(0, 1000), source="test")
        with pytest.raises(ConfigurationError, match="not a valid instrument"):
            journal.append(RAW_TICKS, "../etc", rows(0, 1), source="test")


@given(st.lists(st.integers(0, 4), max_size=30))
def test_rows_are_numbered_within_their_instant(instants):
    seen: dict[int, int] = {}
    expected = []
    for instant in instants:
        expected.append(seen.get(instant, 0))
        seen[instant] = seen.get(instant, 0) + 1
    assert number_rows(np.array(instants, dtype=np.int64)).tolist() == expected


def test_a_journal_that_one_thread_opened_another_can_release(tmp_path):
    opened = []
    thread = threading.Thread(target=lambda: opened.append(Journal(tmp_path)))
    thread.start()
    thread.join()
    opened[0].close()
    with Journal(tmp_path) as journal:
        put(journal, 0, 1)
