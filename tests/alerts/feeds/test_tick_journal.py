"""The journal: what was durable comes back bit for bit, a torn end is cut off, damage is named."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tapeline.alerts.feeds import tick_journal
from tapeline.alerts.feeds.batcher import Batcher
from tapeline.alerts.feeds.tick_journal import JournalOptions, TickJournal
from tapeline.core.errors import DataError

NAMES = ["A", "B", "C"]
EACH = JournalOptions(delay=0.0)


def batches(count: int, *, seed: int = 0, symbols: int = 3) -> list:
    generator = np.random.default_rng(seed)
    batcher = Batcher({name: number for number, name in enumerate(NAMES[:symbols])})
    found = []
    for number in range(count):
        for _ in range(int(generator.integers(1, 6))):
            name = NAMES[int(generator.integers(symbols))]
            ts = number * 700_000_000
            batcher.take(name, ts, float(generator.uniform(1, 2)), 1.0, number, "x", late=bool(generator.integers(2)))
        if number % 3 == 0:
            batcher.gap("A", ts)
        found.append(batcher.flush(0, force=True))
    return found


def same(replayed, found) -> None:
    assert [one.position for one in replayed] == list(range(replayed[0].position, replayed[0].position + len(found)))
    for one, (batch, taken) in zip(replayed, found, strict=True):
        assert one.taken.positions == taken.positions
        for left, right in zip((*one.batch, *one.taken), (*batch, *taken), strict=True):
            if isinstance(right, np.ndarray):
                assert left.dtype == right.dtype
                assert left.tobytes() == right.tobytes()


@settings(max_examples=15, deadline=None)
@given(
    count=st.integers(1, 12),
    group=st.integers(1, 1_500),
    segment=st.integers(1, 2_500),
    after=st.integers(0, 12),
    seed=st.integers(0, 99),
)
def test_any_grouping_gives_the_batches_back_bit_for_bit(tmp_path_factory, count, group, segment, after, seed):
    folder = tmp_path_factory.mktemp("journal")
    found = batches(count, seed=seed)
    options = JournalOptions(delay=1e9, group_bytes=group, segment_bytes=segment)
    journal = TickJournal(folder, NAMES, options=options)
    assert [journal.append(*one) for one in found] == list(range(1, count + 1))
    journal.close()
    opened = TickJournal(folder, NAMES)
    assert opened.position == opened.durable == count
    after = min(after, count)
    if after < count:
        same(list(opened.replay(after)), found[after:])
    else:
        assert list(opened.replay(after)) == []


def test_what_was_not_durable_is_lost_and_nothing_else(tmp_path):
    journal = TickJournal(tmp_path, NAMES, options=JournalOptions(delay=1e9))
    found = batches(5)
    for one in found[:3]:
        journal.append(*one)
    assert journal.durable == 0
    assert journal.commit() == journal.durable == 3
    for one in found[3:]:
        journal.append(*one)
    same(list(TickJournal(tmp_path, NAMES).replay(0)), found[:3])


def test_a_group_is_written_when_its_first_batch_has_waited(tmp_path):
    now = [0.0]
    journal = TickJournal(tmp_path, NAMES, options=JournalOptions(delay=0.005), clock=lambda: now[0])
    found = batches(3)
    journal.append(*found[0])
    now[0] = 0.004
    journal.append(*found[1])
    assert journal.durable == 0
    now[0] = 0.005
    journal.append(*found[2])
    assert (journal.durable, journal.frames) == (3, 1)


@pytest.mark.parametrize("cut", [1, 7, 30])
def test_a_torn_end_is_cut_off_and_the_journal_goes_on(tmp_path, cut):
    journal = TickJournal(tmp_path, NAMES, options=EACH)
    found = batches(4)
    for one in found:
        journal.append(*one)
    journal.close()
    (path,) = tmp_path.glob("*.segment")
    os.truncate(path, path.stat().st_size - cut)
    opened = TickJournal(tmp_path, NAMES, options=EACH)
    assert opened.position == 3
    same(list(opened.replay(0)), found[:3])
    assert opened.append(*found[3]) == 4
    opened.close()
    same(list(TickJournal(tmp_path, NAMES).replay(0)), found)


def test_damage_before_durable_frames_is_named(tmp_path):
    journal = TickJournal(tmp_path, NAMES, options=EACH)
    for one in batches(4):
        journal.append(*one)
    journal.close()
    (path,) = tmp_path.glob("*.segment")
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    path.write_bytes(raw)
    with pytest.raises(DataError, match="damaged or missing"):
        TickJournal(tmp_path, NAMES)


def test_segments_before_a_snapshot_are_removed_and_positions_go_on(tmp_path):
    journal = TickJournal(tmp_path, NAMES, options=JournalOptions(delay=0.0, segment_bytes=1))
    found = batches(6)
    for one in found:
        journal.append(*one)
    assert journal.remove(4) == 4
    same(list(journal.replay(4)), found[4:])
    with pytest.raises(DataError, match="batch 4 is not there"):
        list(journal.replay(3))
    assert journal.remove(6) == 1
    journal.close()
    assert len(list(tmp_path.glob("*.segment"))) == 1
    opened = TickJournal(tmp_path, NAMES, options=EACH)
    assert opened.append(*found[0]) == 7
    assert [one.position for one in opened.replay(5)] == [6, 7]


def test_a_lost_folder_does_not_give_old_numbers_again(tmp_path):
    journal = TickJournal(tmp_path, NAMES, options=EACH, after=500)
    assert journal.append(*batches(1)[0]) == 501
    assert [one.position for one in journal.replay(500)] == [501]


@pytest.mark.parametrize("segment_bytes", [1, 1 << 20])
def test_symbols_are_found_by_name_in_another_order(tmp_path, segment_bytes):
    names = ["A", "B"]
    journal = TickJournal(tmp_path, names, options=JournalOptions(delay=0.0, segment_bytes=segment_bytes))
    first = batches(1, symbols=2)[0]
    journal.append(*first)
    names.append("C")
    second = batches(3)[2]
    journal.append(*second)
    numbers = {"C": 0, "B": 1, "A": 2, "D": 3}
    for one, (batch, _) in zip(journal.replay(0, numbers), (first, second), strict=True):
        expected = [-1 if number < 0 else numbers[NAMES[number]] for number in batch.symbols]
        assert one.batch.symbols.tolist() == one.taken.symbols.tolist() == expected
    with pytest.raises(DataError, match="'C' of the journal is not known"):
        list(journal.replay(0, {"A": 0, "B": 1}))


def test_a_disk_that_refuses_loses_nothing(tmp_path, monkeypatch):
    journal = TickJournal(tmp_path, NAMES, options=EACH)
    found = batches(4)
    journal.append(*found[0])

    def refuse(self, number: int, parts: list[bytes]) -> int:
        raise OSError("no space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(tick_journal.SegmentWriter, "commit", refuse)
        for one in found[1:3]:
            with pytest.raises(OSError, match="no space"):
                journal.append(*one)
    assert (journal.position, journal.durable) == (3, 1)
    journal.append(*found[3])
    journal.close()
    same(list(TickJournal(Path(tmp_path), NAMES).replay(0)), found)
