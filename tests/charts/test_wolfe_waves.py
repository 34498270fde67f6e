"""Wolfe waves against the published rules in a plain loop, drawn waves, and the lines that move on with time."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from tapeline.charts.bar_arrays import mean_true_range
from tapeline.charts.pivots import find_pivots
from tapeline.charts.synthetic import accuracy, bars_through, random_walk
from tapeline.charts.wolfe_drawings import CASES, drawings, near_misses
from tapeline.charts.wolfe_waves import wolfe_projections, wolfe_wave
from tapeline.core.errors import DataError
from tests.core.samples import eurusd

PATH = ((0, 112.0), (20, 104.0), (40, 110.0), (60, 102.0), (80, 106.0), (100, 99.8), (110, 101.8))


def line(rows, prices, j, k, at):
    """The price at a row of the line through points j and k, counted from 1 as in the book."""
    x, y = rows[j - 1], prices[j - 1]
    return y + (prices[k - 1] - y) * (at - x) / (rows[k - 1] - x)


def rules(rows, prices, side):
    """Which of the rules in Street Smarts (1995, appendix) five points break; ``side`` -1 where point 5 is a low."""
    up = -side
    one, two, three, four, five = (up * price for price in prices)
    broken = []
    if not three < one:
        broken.append("3 beyond 1")
    if not one < four < two:
        broken.append("4 between 1 and 2")
    ahead = rows[4] + 1e-3 * (rows[4] - rows[0])
    width = [up * (line(rows, prices, 2, 4, at) - line(rows, prices, 1, 3, at)) for at in (rows[4], ahead)]
    if not width[1] < width[0]:
        broken.append("lines converge")
    if not five < up * line(rows, prices, 1, 3, rows[4]):
        broken.append("5 beyond the line 1-3")
    return broken


def plain_waves(bars, overshoot=3.0, reach=5.0, size=3.0):
    """(confirmed row, direction, rows, prices, zone, EPA, ETA) by the rules, run by run."""
    pivots, usual = find_pivots(bars, size=size), mean_true_range(bars, 14)
    high, low = bars["high"].to_numpy(), bars["low"].to_numpy()
    waves = []
    for last in range(4, len(pivots)):
        run = slice(last - 4, last + 1)
        rows, prices, side = pivots.row[run].tolist(), pivots.price[run].tolist(), int(pivots.side[last])
        known = int(pivots.confirmed[last])
        if rules(rows, prices, side):
            continue
        parallel = prices[2] + (prices[3] - prices[1]) * (rows[4] - rows[2]) / (rows[3] - rows[1])
        zone = sorted((line(rows, prices, 1, 3, rows[4]), parallel))
        if -side * (parallel - prices[4]) > overshoot * usual[known]:
            continue
        gap = [line(rows, prices, 2, 4, at) - line(rows, prices, 1, 3, at) for at in (0, 1)]
        eta = gap[0] / (gap[0] - gap[1])
        if not known < eta <= rows[4] + reach * (rows[4] - rows[0]):
            continue
        since = range(rows[4] + 1, known + 1)
        if any(-side * ((high if side < 0 else low)[t] - line(rows, prices, 1, 4, t)) >= 0 for t in since):
            continue
        waves.append((known, -side, rows, prices, zone, line(rows, prices, 1, 4, known), eta))
    return waves


@pytest.mark.parametrize(("overshoot", "reach"), [(3.0, 5.0), (0.0, 1.0)])
def test_waves_are_those_of_a_plain_loop(overshoot, reach):
    bars = random_walk(12_000, seed=8)
    found = wolfe_wave(bars, overshoot, reach, size=1.5)
    expected = plain_waves(bars, overshoot, reach, 1.5)
    assert len(found) == len(expected) >= 20
    projected = wolfe_projections(found, bars)
    high, low = bars["high"].to_numpy(), bars["low"].to_numpy()
    for event, lines, wave in zip(found.itertuples(), projected.itertuples(), expected, strict=True):
        known, direction, rows, prices, zone, epa, eta = wave
        assert event.confirmed_at == bars["close_ts"].iloc[known]
        assert event.direction == direction
        assert [bars.index.get_loc(point["ts"]) for point in event.points] == [*rows, known]
        assert [point["price"] for point in event.points[:-1]] == prices
        assert [event.low, event.high] == pytest.approx(zone)
        assert (event.target, event.stop) == (pytest.approx(epa), prices[4])
        assert event.points[-1]["price"] == pytest.approx(line(rows, prices, 1, 4, eta))
        assert lines.bars_to_arrival == pytest.approx(eta - (len(bars) - 1))
        moves = abs(prices[1] - prices[0]), abs(prices[3] - prices[2])
        stretches = rows[2] - rows[0], rows[4] - rows[2]
        assert event.score == pytest.approx((min(moves) / max(moves) + min(stretches) / max(stretches)) / 2.0)
        gone = None
        for t in range(known + 1, min(len(bars), known + 201)):
            stopped = low[t] <= prices[4] if direction > 0 else high[t] >= prices[4]
            arrived = high[t] >= event.target if direction > 0 else low[t] <= event.target
            if stopped or arrived or t == known + 200:
                gone = t
                break
        assert event.invalidated_at is pd.NaT if gone is None else event.invalidated_at == bars["close_ts"].iloc[gone]
    assert set(found["direction"]) == {1, -1}


def test_a_worked_wave():
    """Points 104, 110, 102, 106 and 99.8, twenty bars apart: the line 1-3 falls 0.05 a bar, 2-4 0.1, 1-4 rises 1/30."""
    bars = bars_through(PATH)
    event = wolfe_wave(bars).iloc[0]
    assert [point["price"] for point in event["points"]][:5] == [104.0, 110.0, 102.0, 106.0, 99.8]
    # Line 1-3 at bar 100: 104 - 0.05 * 80; the parallel through 3: 102 - 0.1 * 40.
    assert (event["low"], event["high"]) == (pytest.approx(98.0), pytest.approx(100.0))
    known = bars["close_ts"].searchsorted(event["confirmed_at"])
    assert event["target"] == pytest.approx(104.0 + (known - 20) / 30.0)
    # 104 - 0.05 (t - 20) = 110 - 0.1 (t - 40) at t = 180, where the EPA line stands at 104 + 160 / 30.
    lines = wolfe_projections(wolfe_wave(bars), bars, at=105).iloc[0]
    assert lines["bars_to_arrival"] == pytest.approx(75.0)
    assert lines["epa_at_arrival"] == event["points"][5]["price"] == pytest.approx(104.0 + 160.0 / 30.0)
    assert lines["arrival"] == bars.index[0] + pd.Timedelta(minutes=180)
    assert event["score"] == pytest.approx((4.0 / 6.0 + 1.0) / 2.0)


def test_an_arrival_of_the_past_is_a_bar_of_its_own_time():
    bars = bars_through([*PATH, (300, 103.0)])
    gap = bars.index + pd.to_timedelta(np.where(np.arange(len(bars)) >= 150, 48, 0), unit="h")
    bars = bars.set_index(gap.rename("ts")).assign(close_ts=gap + pd.Timedelta(minutes=1))
    events = wolfe_wave(bars)
    lines = wolfe_projections(events[:1], bars)
    assert lines["arrival"].tolist() == [bars.index[180]]
    assert lines["bars_to_arrival"].tolist() == pytest.approx([180.0 - 300.0])
    early = wolfe_projections(wolfe_wave(bars.iloc[:120]), bars.iloc[:120])
    assert early["arrival"].tolist() == [bars.index[119] + pd.Timedelta(minutes=61)]


def test_projections_refuse_what_is_not_theirs():
    bars = bars_through(PATH)
    events = wolfe_wave(bars)
    with pytest.raises(DataError, match="none of these bars"):
        wolfe_projections(events, bars.iloc[30:])
    with pytest.raises(DataError, match="none of these bars"):
        wolfe_projections(events, bars.iloc[:104])
    with pytest.raises(DataError, match="not all Wolfe waves"):
        wolfe_projections(events.assign(kind="gartley"), bars)
    with pytest.raises(DataError, match="500"):
        wolfe_projections(events, bars, at=500)
    assert wolfe_projections(events[:0], bars).columns.tolist() == wolfe_projections(events, bars).columns.tolist()


def test_drawn_waves_are_found_and_near_misses_refused():
    case = CASES["wolfe_wave"]
    drawn, missed = case.drawings(24, seed=6), case.near_misses(24, seed=6)
    told = accuracy(case.detect, "wolfe_wave", drawn, missed, [])
    assert (told.recall, told.precision, told.near_misses) == (1.0, 1.0, 0.0)
    assert accuracy(case.detect, "wolfe_wave", case.drawings(24, noise=1.0, seed=7), [], []).recall >= 0.85
    reasons = []
    for drawing in (*drawn, *missed):
        rows, prices = zip(*drawing.points, strict=True)
        pivots = find_pivots(drawing.bars)
        assert set(rows) <= set(pivots.row.tolist()), "a near-miss is refused for its shape, not for want of pivots"
        reasons.append(rules(rows, prices, -drawing.direction))
    assert not any(reasons[:24])
    assert {reason for broken in reasons[24:] for reason in broken} == {
        "3 beyond 1", "4 between 1 and 2", "lines converge", "5 beyond the line 1-3"
    }  # fmt: skip


def test_the_mirror_image_and_another_scale_give_the_same_wave():
    for drawing in drawings(4, seed=2):
        bars = drawing.bars
        columns = {"open": "open", "high": "low", "low": "high", "close": "close"}
        top = 2.0 * bars["high"].max()
        other = bars.assign(**{name: 512.0 * (top - bars[source]) for name, source in columns.items()})
        one, two = wolfe_wave(bars), wolfe_wave(other)
        assert one["confirmed_at"].tolist() == two["confirmed_at"].tolist()
        assert (one["direction"] == -two["direction"]).all()
        np.testing.assert_allclose(two["target"], 512.0 * (top - one["target"]))
        np.testing.assert_allclose(one["score"], two["score"])


def test_where_the_bars_begin_changes_not_even_the_last_bit():
    bars = random_walk(6_000, seed=8)
    whole, tail = wolfe_wave(bars), wolfe_wave(bars.iloc[1_777:])
    late = tail[tail["start"] > bars.index[3_000]]
    assert len(late) >= 3
    assert late["id"].tolist() == whole.loc[whole["start"] > bars.index[3_000], "id"].tolist()


def test_no_bars_hold_no_wave():
    bars = bars_through(PATH)
    for part in (bars.iloc[:0], bars.iloc[:104], near_misses(1)[0].bars):
        assert wolfe_wave(part).empty


def test_real_hours_hold_waves():
    bars = eurusd()
    found = wolfe_wave(bars)
    assert len(found) == len(plain_waves(bars)) >= 3
    assert (found["confirmed_at"] > found["end"]).all()
    assert found["score"].between(0.0, 1.0).all()
