"""Batches put together fire as they would one by one, and none reaches over a place where rules change."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tapeline.alerts.feeds.batcher import SECOND, BatcherOptions, Tick
from tapeline.alerts.feeds.joining import joined
from tapeline.alerts.feeds.replay import replay_batches
from tapeline.alerts.feeds.tick_journal import Replayed, TickJournal
from tests.alerts.feeds.test_replay import NUMBERS, firings, records


@pytest.fixture
def cut(tmp_path: Path) -> list[Replayed]:
    """A journal of small batches."""
    generator = np.random.default_rng(5)
    times = np.cumsum(generator.exponential(3.0, 300) * SECOND).astype(int).tolist()
    ticks = [
        Tick("AB"[int(generator.integers(2))], ts, float(100 + generator.normal()), 1.0, number)
        for number, ts in enumerate(times)
    ]
    journal = TickJournal(tmp_path, list(NUMBERS))
    for batch, taken in replay_batches(ticks, NUMBERS, source="s", options=BatcherOptions(most=7)):
        journal.append(batch, taken)
    journal.commit()
    found = list(journal.replay(0, NUMBERS))
    journal.close()
    assert len(found) > 40
    return found


def test_put_together_they_hold_and_fire_the_same(cut: list[Replayed]) -> None:
    whole = list(joined(cut, most=100))
    assert 3 < len(whole) < len(cut) / 5
    assert max(each.batch.times.size for each in whole) <= 100
    assert records((each.batch, each.taken) for each in whole) == records((each.batch, each.taken) for each in cut)
    fired = firings((each.batch, each.taken) for each in whole)
    assert fired == firings((each.batch, each.taken) for each in cut)
    assert fired
    last: dict[str, int] = {}
    for each in whole:
        last |= each.taken.positions
    assert last == {name: position for each in cut for name, position in each.taken.positions.items()}
    assert whole[-1].position == cut[-1].position


def test_no_batch_reaches_over_a_stop_and_none_is_left_out(cut: list[Replayed]) -> None:
    stops = [2, 17, 18, 40]
    positions = [each.position for each in joined(cut, stops)]
    assert positions == [*stops, cut[-1].position]
    assert [each.position for each in joined(cut, most=1)] == [each.position for each in cut]
    assert list(joined([])) == []
