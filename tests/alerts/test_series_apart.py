"""Many detectors: they run in a process of their own, and what they tell has its place whatever they take."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import numpy as np
import pytest

from tapeline.alerts.engine.evaluator import Batch
from tapeline.alerts.engine.kernel import CLOCK, EVENT, VALUE
from tapeline.alerts.pipeline import AlertPipeline
from tapeline.alerts.routing import Router
from tapeline.alerts.rule import Rule
from tapeline.alerts.series import FEW, SHARE
from tapeline.alerts.series_book import SeriesBook, columns_of
from tapeline.alerts.store.opening import open_store
from tapeline.core.errors import TemporaryError
from tests.alerts.test_series import pieces

MINUTE, MILLI = 60_000_000_000, 1_000_000
BEGIN = 28_333_440 * MINUTE
SYMBOLS = tuple(f"S{number:02d}" for number in range(FEW + 4))
MINUTES = 14
Found = dict[str, tuple[str, str, int, float]]


def tape() -> Batch:
    """Four trades a minute of each symbol, a clock each second minute, late trades among them."""
    random = np.random.default_rng(4)
    prices = 100.0 * np.exp(np.cumsum(random.normal(0, 0.004, (4 * MINUTES, len(SYMBOLS))), axis=0))
    rows = []
    for at in range(4 * MINUTES):
        begun = BEGIN + at * MINUTE // 4
        if at % 8 == 0:
            rows.append((-1, begun, 0.0, 0.0, CLOCK))
        for symbol in random.permutation(len(SYMBOLS)).tolist():
            late = MINUTE // 3 if random.random() < 0.02 else 0
            rows.append((symbol, begun + int(random.integers(0, 400)) * MILLI - late, prices[at, symbol], 1.0, 0))
    columns = zip(*rows, strict=True)
    kinds = (np.int32, np.int64, np.float64, np.float64, np.uint8)
    return Batch(*(np.array(column, kind) for column, kind in zip(columns, kinds, strict=True)))


def rules() -> list[Rule]:
    texts = {
        "gap": 'pattern("fair_value_gap", "1m")',
        "mixed": 'pattern("fair_value_gap", "1m") and close > open("1m")',
    }
    return [Rule(id=id, owner="me", condition=text, symbols=("*",), timeframe="1m") for id, text in texts.items()]


def opened(folder: Path, name: str, *, apart: bool = True) -> AlertPipeline:
    store = open_store(folder / f"{name}.db")
    router = Router({}, lambda *_: "")
    pipeline = AlertPipeline(store, router, folder / "engine", SYMBOLS, detectors_apart=apart)
    pipeline.recover()
    pipeline.set_rules(rules())
    return pipeline


def ended(pipeline: AlertPipeline) -> Found:
    pipeline.close()
    found = pipeline.store.firings_after(0, limit=1_000)
    pipeline.store.close()
    assert len(found) < 1_000
    return {one.firing.id: (one.firing.rule, one.firing.symbol, one.firing.ts, one.firing.price) for one in found}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> Found:
    """What is found where the detectors run in the engine's own thread, over the tape as one batch."""
    pipeline = opened(tmp_path_factory.mktemp("apart"), "own", apart=False)
    assert not pipeline.series.is_apart
    for part in pieces(tape(), []):
        pipeline.take(*part)
    found = ended(pipeline)
    assert {one[0] for one in found.values()} == {"gap", "mixed"}
    return found


def test_apart_cut_into_batches_killed_and_recovered_the_firings_are_the_same(undisturbed, tmp_path: Path) -> None:
    batch = tape()
    cuts = np.sort(np.random.default_rng(9).choice(np.arange(1, batch.times.size), 50, replace=False))
    some = pieces(batch, cuts.tolist())
    pipeline = opened(tmp_path, "first")
    assert pipeline.series.is_apart
    for part in some[:25]:
        pipeline.take(*part)
    # Among what the snapshot holds are events whose time has not come.
    assert pipeline.snapshot()
    for part in some[25:31]:
        pipeline.take(*part)
    pipeline.journal.commit()
    os.kill(pipeline.series._book.pid, signal.SIGKILL)
    with pytest.raises(TemporaryError, match="detectors of patterns are lost"):
        pipeline.series.still()()
    before = ended(pipeline)
    # The store is lost with the engine: the journal behind the snapshot finds again what was found there. Where the
    # detectors run decides nothing.
    again = opened(tmp_path, "second", apart=False)
    assert again.replayed == 6
    for part in some[31:]:
        again.take(*part)
    after = ended(again)
    assert before.keys() & after.keys()
    assert before | after == undisturbed


def test_an_event_stands_before_the_first_record_that_is_its_delay_behind_the_close(tmp_path: Path) -> None:
    pipeline = opened(tmp_path, "places", apart=False)
    batch, delay = tape(), len(SYMBOLS) * SHARE
    assert pipeline.series.delay == delay
    book = SeriesBook()
    for number, symbol in enumerate(SYMBOLS):
        book.follow(symbol, number, MINUTE, ("fair_value_gap",), (), ())
    expected = []
    for row, record in book.take(columns_of(batch, np.ones(len(SYMBOLS), np.bool_))):
        due = batch.times[: row + 1].max() + delay
        place = next((at for at in range(row, batch.times.size) if batch.times[: at + 1].max() >= due), None)
        if place is not None and record.event:
            expected.append((place, record.ts, SYMBOLS.index(record.symbol), record.value))
    found = []
    for part, taken in pieces(batch, [700, 701, 1_200]):
        made, _ = pipeline.series.take(part, taken)
        told = made.records == EVENT
        assert not (made.records == VALUE).any(), "no rule reads scores"
        # How many records of the tape stand before it.
        places = np.cumsum(~told) + (taken.sequences[0] if taken.sequences.size else 0)
        rows = np.flatnonzero(told)
        columns = places[rows], made.times[rows], made.symbols[rows], made.prices[rows]
        found += zip(*(column.tolist() for column in columns), strict=True)
    pipeline.close()
    pipeline.store.close()
    assert len(found) > 50
    assert sorted(found) == sorted(expected)
