"""A snapshot that a thread writes: of the batch at which it was begun, and only once all it knows of is durable."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tapeline.alerts.background_snapshots import BackgroundSnapshots, Moment
from tapeline.alerts.engine.evaluator import Evaluator
from tapeline.alerts.engine_snapshots import EngineSnapshots
from tapeline.alerts.json_parts import PART, json_parts
from tapeline.core.errors import DataError
from tests.alerts.engine.cases import as_batch, make_case, run_kernel


class Journal:
    """Notes what is asked of it."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def commit(self) -> int:
        self.asked.append("commit")
        return 0

    def remove(self, before: int) -> int:
        self.asked.append(f"remove {before}")
        return 0


class Slow:
    """Keeps a state once it is let go."""

    def __init__(self) -> None:
        self.may, self.kept = threading.Event(), []

    def save(self, evaluator: Any, processor: Mapping[str, Any], position: int, feeds: Mapping[str, int]) -> int:
        assert self.may.wait(20)
        arrays = {name: array.tobytes() for name, array in evaluator.state().arrays.items()}
        self.kept.append((arrays, processor, position, dict(feeds)))
        return position - 1


def moment(engine: Evaluator, position: int = 7, last: Future | None = None, known: Any = None) -> Moment:
    return Moment(engine.still(), known or (lambda: {"watermark": 5}), position, {"feed": 3}, last)


def test_what_is_kept_is_the_state_at_which_it_was_begun_whatever_came_meanwhile() -> None:
    case = make_case(3, 200)
    half = len(case.records) // 2
    case.changes = {at: change for at, change in case.changes.items() if at < half}
    rest, case.records = case.records[half:], case.records[:half]
    _, engine = run_kernel(case, set())
    journal, slow = Journal(), Slow()
    writer = BackgroundSnapshots(slow, journal)
    before = {name: array.tobytes() for name, array in engine.state().arrays.items()}
    writer.begin(moment(engine))
    assert writer.is_busy
    assert writer.end() is None
    engine.process(as_batch(engine, rest))
    engine.add_symbols(["LATER"])
    slow.may.set()
    assert writer.end(wait=True) == (7, 6)
    assert writer.end(wait=True) is None
    assert slow.kept == [(before, {"watermark": 5}, 7, {"feed": 3})]
    assert before != {name: array.tobytes() for name, array in engine.state().arrays.items()}
    assert journal.asked == ["commit", "remove 6"]
    writer.close()


def test_it_counts_only_once_the_commits_before_it_are_on_the_disk(tmp_path: Path) -> None:
    snapshots, journal = EngineSnapshots(tmp_path), Journal()
    writer, last = BackgroundSnapshots(snapshots, journal), Future()
    writer.begin(moment(Evaluator(["S"]), last=last))
    assert writer.is_busy
    assert snapshots.load() is None
    assert journal.asked == []
    last.set_result(frozenset())
    assert writer.end(wait=True) == (7, 7)
    found = snapshots.load()
    assert found is not None
    assert (found.position, found.processor, found.feeds) == (7, {"watermark": 5}, {"feed": 3})
    writer.close()


def test_a_store_that_is_too_slow_means_no_snapshot_this_time_and_one_that_refuses_ends_the_engine(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    snapshots = EngineSnapshots(tmp_path)
    writer = BackgroundSnapshots(snapshots, Journal())
    writer.begin(moment(Evaluator(["S"]), last=Future()), timeout=0.0)
    assert writer.end(wait=True) is None
    assert "no snapshot at batch 7" in caplog.text
    writer.begin(moment(Evaluator(["S"]), last=Future()), timeout=0.0)
    with pytest.raises(TimeoutError):
        writer.end(wait=True, must=True)
    refused: Future = Future()
    refused.set_exception(DataError("refused for good"))
    writer.begin(moment(Evaluator(["S"]), last=refused))
    with pytest.raises(DataError, match="for good"):
        writer.end(wait=True)
    assert snapshots.load() is None
    writer.close()


def test_json_in_parts_is_json() -> None:
    import json

    many = {
        "none": [],
        "empty": {},
        "long": list(range(2 * PART + 3)),
        "names": {f"s{n}": n for n in range(PART + 1)},
        "deep": [{"a": [1, None, float("nan")]}],
        "text": 'a"b\u00e9',
        "number": 1.5,
    }
    parts = list(json_parts({**many, "given": (n for n in range(PART))}))
    assert b"".join(parts) == json.dumps({**many, "given": list(range(PART))}, separators=(",", ":")).encode()
    assert max(map(len, parts)) < 12 * PART


def test_a_kernel_that_stands_still_shares_no_memory_with_the_one_that_goes_on() -> None:
    engine = Evaluator(["S"])
    for name, array in engine.still().state().arrays.items():
        assert not np.shares_memory(array, engine.state().arrays[name]), name


def test_memory_that_was_made_ready_is_used_where_it_still_fits() -> None:
    _, engine = run_kernel(make_case(3, 50), set())
    writer = BackgroundSnapshots(Slow(), Journal())
    room = writer.room(engine.state())
    writer.close()
    room = room or writer.room(engine.state())
    assert room is not None
    found = engine.still(room)
    for name, array in engine.state().arrays.items():
        assert found.kept.arrays[name].tobytes() == array.tobytes()
        assert np.shares_memory(found.kept.arrays[name], room[name]) is bool(array.size)
    engine.add_symbols([f"S{n}" for n in range(50)])
    later = engine.still(room)
    for name, array in engine.state().arrays.items():
        assert later.kept.arrays[name].tobytes() == array.tobytes()
    assert not np.shares_memory(later.kept.arrays["rows"], room["rows"])
