"""Batches as bytes: what goes in comes out, split by shard and joined again; what was altered is refused."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from tapeline.alerts.engine.evaluator import Evaluator
from tapeline.alerts.feeds.batcher import NO_SOURCE, ROW, Batcher, Rows, Tick
from tapeline.alerts.scale.packed_batch import (
    LARGEST_NUMBER,
    beginning,
    entry_id,
    joined,
    pack_by_shard,
    position_of,
    position_of_id,
    term_and_number,
    unpack,
)
from tapeline.alerts.scale.shard_records import ShardRecords
from tapeline.core.errors import DataError

NAMES = ("A", "BTC/USD:USD", "C", "D", "E")
SHARD_OF = np.array([0, 2, 1, 2, 0], np.int32)
SHARDS = 4


def rows_of(count: int, seed: int) -> Rows:
    random = np.random.default_rng(seed)
    rows = np.zeros(count, ROW)
    rows["symbol"] = random.integers(-1, len(NAMES), count)
    rows["record"], rows["late"] = random.integers(0, 4, count), random.integers(0, 2, count)
    rows["source"] = random.choice([0, 1, NO_SOURCE], count)
    rows["ts"], rows["sequence"] = random.integers(0, 2**60, count), random.integers(-1, 2**60, count)
    rows["price"], rows["size"] = random.normal(size=count), random.normal(size=count)
    named = np.flatnonzero(rows["symbol"] >= 0)[:2].tolist()
    return Rows(rows, ("venue", "other"), {at: (NAMES[rows["symbol"][at]], f"series:{at}") for at in named})


@given(some.integers(1, 60), some.integers(0, 10_000))
@settings(max_examples=40, deadline=None)
def test_each_shard_gets_its_records_and_those_of_all_in_their_order(count: int, seed: int) -> None:
    found = rows_of(count, seed)
    packed = {shard: unpack(body) for shard, body in pack_by_shard(found, NAMES, SHARD_OF, SHARDS).items()}
    for shard in range(SHARDS):
        mine = [
            at for at in range(count) if found.rows["symbol"][at] < 0 or SHARD_OF[found.rows["symbol"][at]] == shard
        ]
        if shard not in packed:
            assert mine == []
            continue
        one = packed[shard]
        symbols = [one.symbols[number] if number >= 0 else "" for number in one.columns["symbol"].tolist()]
        assert symbols == [NAMES[number] if number >= 0 else "" for number in found.rows["symbol"][mine].tolist()]
        for name in ("record", "late", "source", "ts", "price", "size", "sequence"):
            np.testing.assert_array_equal(one.columns[name], found.rows[name][mine])
        expected = {mine.index(at): key for at, (_, key) in found.external.items() if at in mine}
        assert dict(one.external) == expected
        assert one.sources == found.sources


@given(some.integers(0, 10_000), some.data())
@settings(max_examples=30, deadline=None)
def test_a_byte_that_was_changed_or_cut_off_is_noticed(seed: int, data: some.DataObject) -> None:
    body = pack_by_shard(rows_of(9, seed), NAMES, SHARD_OF, SHARDS).popitem()[1]
    at = data.draw(some.integers(0, len(body) - 1))
    # Flags and what is reserved are all that no checksum covers.
    altered = bytes([*body[:at], body[at] ^ data.draw(some.integers(1, 255)), *body[at + 1 :]])
    for damaged in (body[:at], body + b"x") if at in (5, 6, 7) else (altered, body[:at], body + b"x"):
        with pytest.raises(DataError):
            unpack(damaged)


def test_neighbours_are_joined_and_numbered_anew() -> None:
    batcher, parts = Batcher({"A": 0, "B": 1}, clock=lambda: 0), []
    for number, symbol in enumerate(("A", "B", "B", "A")):
        batcher.take_all([Tick(symbol, number, 1.0 + number, 1.0, number)], "venue")
        parts.append(unpack(pack_by_shard(batcher.flush_rows(0, force=True), ["A", "B"], np.zeros(2, np.int32), 1)[0]))
    found = list(joined([unpack(beginning()), *parts]))
    assert [(count, one.begins, one.records) for count, one in found] == [(1, True, 0), (4, False, 4)]
    one = found[1][1]
    assert [one.symbols[number] for number in one.columns["symbol"]] == ["A", "B", "B", "A"]
    assert one.columns["price"].tolist() == [1.0, 2.0, 3.0, 4.0]


def test_positions_rise_over_terms_and_are_ids_of_entries() -> None:
    places = [(1, 0), (1, 7), (1, LARGEST_NUMBER), (2, 0), (300, 5)]
    positions = [position_of(*place) for place in places]
    assert positions == sorted(positions)
    assert [term_and_number(one) for one in positions] == places
    assert [position_of_id(entry_id(one).encode()) for one in positions] == positions
    for wrong in ((0, 1), (1, -1), (1 << 22, 0)):
        with pytest.raises(DataError, match="out of bounds"):
            position_of(*wrong)


def test_what_was_taken_is_passed_over_by_number_or_by_time_and_remembered() -> None:
    batcher = Batcher({"A": 0, "B": 1}, clock=lambda: 0)
    numbered = [Tick("A", 1, 1.0, 1.0, 4), Tick("A", 2, 1.5, 1.0, 5), Tick("B", 2, 2.0, 1.0, 1)]
    polled = [Tick("A", 3, 3.0, 1.0), Tick("A", 4, 4.0, 1.0)]
    batcher.take_all(numbered, "venue")
    batcher.take_all(polled, "polled")
    batcher.gap("A", 9)
    packed = unpack(pack_by_shard(batcher.flush_rows(0, force=True), ["A", "B"], np.zeros(2, np.int32), 1)[0])
    records = ShardRecords(Evaluator(["A"]), {})
    assert records.take(packed)[0].prices.tolist() == [1.0, 1.5, 2.0, 3.0, 4.0, 0.0]
    # A gap has neither number nor time of its own: it is taken, which makes unknown what is known again at once.
    assert records.take(packed)[0].prices.tolist() == [0.0]
    assert records.positions() == {"venue:A": 5, "venue:B": 1, "@polled:A": 4}
    other = ShardRecords(Evaluator(["B"]), {"venue:A": 4, "venue:B": 0, "@polled:A": 3})
    batch, taken = other.take(packed)
    assert batch.prices.tolist() == [1.5, 2.0, 4.0, 0.0]
    assert [other._evaluator.names[number] for number in batch.symbols] == ["A", "B", "A", "A"]
    assert taken.sequences.tolist() == [5, 1, -1, -1]


def test_a_value_that_no_rule_reads_moves_nothing() -> None:
    batcher = Batcher({"A": 0}, clock=lambda: 0)
    batcher.take("A", 1, 5.0, 1.0, 1, "venue")
    batcher.value("A", "sentiment:level", 2, 0.5, sequence=3, source="events")
    packed = unpack(pack_by_shard(batcher.flush_rows(0, force=True), ["A"], np.zeros(1, np.int32), 1)[0])
    records = ShardRecords(Evaluator(["A"]), {})
    assert records.take(packed)[0].prices.tolist() == [5.0]
    assert records.unread == 1
