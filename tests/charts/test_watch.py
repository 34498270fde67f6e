"""A watch is due at every bar at which a condition on its prices may turn true, and quiet where none can."""

from __future__ import annotations

import numpy as np
import pytest

from tapeline.charts.events import Findings
from tapeline.charts.watch import NEVER, Watch, WatchList, joined, watch_levels, watch_standing

CONDITIONS = {
    "high reaches it": lambda bar, level: bar[1] >= level,
    "low passes it": lambda bar, level: bar[2] < level,
    "close passes it": lambda bar, level: bar[3] > level,
    "close falls below it": lambda bar, level: bar[3] < level,
    "the bar holds it": lambda bar, level: bar[2] <= level <= bar[1],
}


@pytest.mark.parametrize("name", CONDITIONS)
def test_whatever_turns_true_is_due_also_over_leaps_and_for_lines(name):
    draw = np.random.default_rng(5)
    met, rows = CONDITIONS[name], 400
    walk = 100.0 + np.cumsum(draw.normal(size=rows) * draw.choice([0.2, 3.0], size=rows))
    close = walk + draw.normal(size=rows) * 0.1
    bars = np.column_stack((walk, np.maximum(walk, close) + 0.2, np.minimum(walk, close) - 0.2, close))
    for level, slope in ((100.0, 0.0), (float(np.median(walk)), 0.0), (walk[0], 0.03), (walk[0], -0.02)):
        lines = level + slope * np.arange(rows)
        state = [met(bar, line) for bar, line in zip(bars, lines, strict=True)]
        watches, quiet = WatchList(1), 0
        closes = np.ones(1) if name.startswith("close") else None
        watches.put(0, Watch(np.array([level]), np.array([slope]), closes=closes), row=0)
        for t in range(1, rows):
            two = bars[t - 1 : t + 1]
            due = watches.due(t, (two.min(), two.max()), (two[:, 3].min(), two[:, 3].max()))[0]
            assert due or not (state[t] and not state[t - 1])
            quiet += not due
        assert quiet > rows // 4


def test_a_width_a_row_and_no_price_at_all():
    watches = WatchList(3)
    watches.put(0, Watch(np.array([10.0]), width=np.array([1.5])), row=0)
    watches.put(1, Watch(until=4), row=0, first=3)
    watches.put(2, watch_levels(np.array([np.nan])), row=0)
    assert watches.due(6, (5.0, 8.4), (5.0, 8.4)).tolist() == [False, False, False]
    assert watches.due(7, (5.0, 8.6), (5.0, 8.0)).tolist() == [True, True, False]
    watches.put(0, watch_levels(np.arange(300.0)), row=7)
    assert watches.due(8, (250.5, 251.5), (0.0, 0.0)).tolist() == [True, True, False]
    watches.put(0, Watch(), row=8)
    assert not watches.due(9, (250.5, 251.5), (0.0, 0.0))[0]


def test_watches_together_keep_their_kinds():
    both = joined([watch_levels(np.array([1.0]), closes=True), Watch(until=9), Watch(np.array([2.0]), np.array([0.5]))])
    assert (both.level.tolist(), both.slope.tolist(), both.closes.tolist()) == ([1.0, 2.0], [0.0, 0.5], [1.0, 0.0])
    assert (both.width, both.until, joined([]).until) == (None, 9, NEVER)


def test_only_what_stands_is_watched_and_only_until_it_expires():
    one = np.array([1, 5, 8])
    found = Findings(
        "x", np.ones(3, np.int8), one, one, one, np.array([1.0, 2.0, 3.0]), np.array([4.0, 5.0, 6.0]),
        invalidated=np.array([-1, 6, -1]), stop=np.array([7.0, 8.0, 9.0]),
    )  # fmt: skip
    watch = watch_standing([found], ("low", "stop", "target"), rows=12, max_age=10)
    assert watch.level.tolist() == [1.0, 3.0, 7.0, 9.0]
    # The first would have been ten bars old at row 11: it does not expire any more.
    assert watch.until == 18
