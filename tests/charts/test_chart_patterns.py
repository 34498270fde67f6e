"""What chart patterns share: one finding of several readings, volume, and the same events bar by bar."""

from __future__ import annotations

import numpy as np
import pytest

from tapeline.charts import channels, continuation_patterns, fractals, reversal_patterns, trendlines
from tapeline.charts.pattern_kernels import LOG, PRICES, append, highest_since, volume_recedes
from tapeline.charts.scan import Choice, EventStream, scan
from tapeline.core.registry import registered
from tests.core.samples import eurusd

ROOMS = (reversal_patterns, continuation_patterns, trendlines, channels, fractals)
CHOICES = tuple(Choice(one) for room in ROOMS for one in registered(room) if one.kind == "pattern")


@pytest.mark.parametrize("scores", [(0.4, 0.7, 0.5), (0.7, 0.5, 0.4)])
def test_of_several_readings_of_one_close_the_best_stays(scores):
    log, prices = np.empty((5, LOG), np.int64), np.empty((5, PRICES))
    count = 0
    for place, score in enumerate(scores):
        count = append(log, prices, count, 2, -1, place, place + 4, 30, (1.0, 2.0, 3.0, score))
    assert count == 1
    assert prices[0, -1] == 0.7
    assert log[0, 2] == scores.index(0.7)
    # Another direction, and another bar, are other findings.
    count = append(log, prices, count, 2, 1, 0, 4, 30, (1.0, 2.0, 3.0, 0.1))
    assert append(log, prices, count, 2, -1, 0, 4, 31, (1.0, 2.0, 3.0, 0.1)) == 3


def test_volume_recedes_where_the_later_half_trades_less_a_bar():
    assert volume_recedes(np.array([4.0, 4.0, 3.0, 3.0]), 0, 3) == 1.0
    assert volume_recedes(np.array([3.0, 3.0, 4.0, 4.0]), 0, 3) == 0.0
    # An odd count gives the earlier half the bar more, which must not count as more volume.
    assert volume_recedes(np.array([2.0, 2.0, 3.0]), 0, 2) == 0.0
    assert volume_recedes(np.full(4, np.nan), 0, 3) == 0.5
    assert volume_recedes(np.zeros(4), 0, 3) == 0.5


def test_the_highest_price_in_the_mirror_is_the_lowest():
    high, low = np.array([3.0, 5.0, 4.0]), np.array([2.0, 1.0, 3.0])
    assert highest_since(high, low, 1, 0, 2) == 5.0
    assert -highest_since(high, low, -1, 0, 2) == 1.0


def test_a_stream_tells_what_a_scan_of_the_whole_history_finds():
    bars = eurusd()
    before, after = 3600, 3800
    whole = scan(bars.iloc[:after], CHOICES)
    expected = whole.loc[whole["confirmed_at"] > bars["close_ts"].iloc[before - 1], "id"].tolist()
    stream = EventStream.after(bars.iloc[:before], CHOICES)
    told = [event for row in bars.iloc[before:after].itertuples() for event in stream.push(*row).confirmed]
    assert [event.id for event in told] == expected
    assert len(expected) >= 30
    assert len({str(kind) for kind in whole["kind"]}) > 25
