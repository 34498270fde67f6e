"""Gaps, breaks, order blocks and liquidity against plain loops over the same bars."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from tapeline.charts.bar_arrays import BarArrays
from tapeline.charts.gaps import fair_value_gap, find_gaps, gap_encroachment, inverse_fair_value_gap
from tapeline.charts.liquidity import equal_extremes, liquidity_sweep
from tapeline.charts.order_blocks import breaker_block, find_blocks, order_block, order_block_mitigation
from tapeline.charts.structure import (
    StructureStream,
    break_of_structure,
    change_of_character,
    displacement_of,
    find_breaks,
    mean_true_range,
    swing_label,
)
from tapeline.charts.swings import SwingStream, find_swings
from tests.support import make_bars


@pytest.fixture(scope="module")
def bars():
    return make_bars(900, seed=5)


def arrays(bars):
    return tuple(bars[name].to_numpy() for name in ("open", "high", "low", "close"))


def plain_breaks(bars, reach, by):
    """Every break by looking at each bar at the swings confirmed before it."""
    opened, high, low, close = arrays(bars)
    swings = find_swings(bars, "fractal", left=reach, right=reach)
    broken, trend, found = set(), 0, []
    for t in range(len(bars)):
        order = (-1, 1) if close[t] >= opened[t] else (1, -1)
        for side in order:
            standing = [i for i in range(len(swings)) if swings.confirmed[i] < t and swings.side[i] == side]
            if not standing or standing[-1] in broken:
                continue
            level = swings.price[standing[-1]]
            price = close[t] if by == "close" else high[t] if side == 1 else low[t]
            if side * (price - level) > 0:
                broken.add(standing[-1])
                found.append((t, int(swings.row[standing[-1]]), side, trend, float(level)))
                trend = side
    return found


@pytest.mark.parametrize("by", ["close", "wick"])
def test_breaks_are_those_of_a_plain_loop(bars, by):
    got = find_breaks(bars, find_swings(bars, "fractal", left=3, right=3), by)
    expected = plain_breaks(bars, 3, by)
    assert len(expected) > 40
    assert [*zip(got.row, got.swing, got.direction, got.trend, got.level, strict=True)] == expected


def test_one_bar_at_a_time_gives_the_same_breaks(bars):
    swings, structure = SwingStream("fractal", left=3, right=3), StructureStream()
    seen = []
    for opened, high, low, close in bars[["open", "high", "low", "close"]].to_numpy().tolist():
        seen += structure.push(opened, high, low, close, swings.push(high, low, close))
    assert seen == [line[:4] for line in plain_breaks(bars, 3, "close")]


def test_each_break_is_of_structure_or_of_character(bars):
    kept, turned = break_of_structure(bars, reach=3), change_of_character(bars, reach=3)
    expected = plain_breaks(bars, 3, "close")
    assert len(kept) == sum(trend != -side for _, _, side, trend, _ in expected)
    assert len(turned) == sum(trend == -side for _, _, side, trend, _ in expected)
    assert set(turned["kind"]) == {"change_of_character", "market_structure_shift"}
    strong = turned["kind"] == "market_structure_shift"
    assert (turned["score"][strong] >= 1.0).all()
    assert not (turned["score"][~strong] >= 1.0).any()


def test_displacement_is_the_body_in_ranges_of_the_bars_before(bars):
    opened, high, low, close = arrays(bars)
    breaks = find_breaks(bars, find_swings(bars, "fractal", left=3, right=3))
    t = int(breaks.row[-1])
    ranges = [max(high[j], close[j - 1]) - min(low[j], close[j - 1]) for j in range(t - 14, t)]
    body = breaks.direction[-1] * (close[t] - opened[t])
    assert displacement_of(BarArrays.of(bars), breaks, 14)[-1] == pytest.approx(body / np.mean(ranges))
    assert np.isnan(mean_true_range(bars, 14)[:14]).all()


def test_labels_compare_each_swing_with_the_last_of_its_side(bars):
    found = swing_label(bars, reach=3)
    swings = find_swings(bars, "fractal", left=3, right=3)
    assert len(found) == len(swings) - 2
    last, expected = {}, []
    for row, side, price in zip(swings.row, swings.side, swings.price, strict=True):
        if side in last:
            higher = price > last[side] if side == 1 else price >= last[side]
            expected.append((bars.index[row], f"{'higher' if higher else 'lower'}_{'high' if side == 1 else 'low'}"))
        last[side] = price
    assert sorted(zip(found["end"], found["kind"], strict=True)) == sorted(expected)
    ends = bars.index.get_indexer(found["end"])
    assert found["confirmed_at"].tolist() == bars["close_ts"].iloc[ends + 3].tolist()


def first_row(values, after, reached):
    hits = [t for t in range(after + 1, len(values)) if reached(values[t])]
    return hits[0] if hits else None


def test_gaps_and_what_became_of_them_are_those_of_a_plain_loop(bars):
    opened, high, low, close = arrays(bars)
    closes = bars["close_ts"]
    gaps = []
    for t in range(2, len(bars)):
        if low[t] > high[t - 2] and close[t - 1] > opened[t - 1]:
            gaps.append((t, 1, high[t - 2], low[t]))
        elif high[t] < low[t - 2] and close[t - 1] < opened[t - 1]:
            gaps.append((t, -1, high[t], low[t - 2]))
    found = find_gaps(bars)
    assert [*zip(found.third, found.direction, found.low, found.high, strict=True)] == gaps
    assert len(gaps) > 60
    for share, mitigation in ((0.0, "touch"), (0.5, "encroachment"), (1.0, "fill")):
        frame = fair_value_gap(bars, mitigation=mitigation)
        for (t, side, bottom, top), gone in zip(gaps, frame["invalidated_at"], strict=True):
            level = top - share * (top - bottom) if side > 0 else bottom + share * (top - bottom)
            hit = first_row(low if side > 0 else -high, t, lambda value, mark=side * level: value <= mark)
            assert gone is pd.NaT if hit is None else gone == closes.iloc[hit]
    turned = inverse_fair_value_gap(bars, max_age=50)
    expected = []
    for t, side, bottom, top in gaps:
        hit = first_row(side * close, t, lambda value, mark=side * (bottom if side > 0 else top): value < mark)
        if hit is not None and hit - t <= 50:
            expected.append((closes.iloc[hit], -side, bottom))
    assert sorted(zip(turned["confirmed_at"], turned["direction"], turned["low"], strict=True)) == sorted(expected)
    assert (gap_encroachment(bars, max_age=50)["score"] <= 50).all()


def test_an_order_block_is_the_last_opposite_candle_of_the_move(bars):
    opened, high, low, close = arrays(bars)
    breaks = find_breaks(bars, find_swings(bars, "fractal", left=3, right=3))
    blocks = find_blocks(bars, breaks)
    assert len(blocks) == len(breaks)
    for i in range(len(blocks)):
        first, last, side = breaks.swing[i], breaks.row[i], breaks.direction[i]
        window = np.arange(first, last)
        values = low[window] if side > 0 else -high[window]
        extreme = first + int(np.flatnonzero(values == values.min())[-1])
        against = [j for j in range(first, extreme + 1) if side * (close[j] - opened[j]) < 0]
        assert blocks.row[i] == (against[-1] if against else extreme)
        assert blocks.low[i] == low[blocks.row[i]]
        back = first_row(
            low if side > 0 else -high, last, lambda v, m=side * (blocks.high if side > 0 else blocks.low)[i]: v <= m
        )
        assert blocks.touched[i] == (-1 if back is None else back)


def test_blocks_are_mitigated_and_become_breakers(bars):
    made, back, broken = order_block(bars), order_block_mitigation(bars), breaker_block(bars)
    assert min(len(made), len(back), len(broken)) > 10
    failed = made["invalidated_at"].dropna()
    assert set(broken["confirmed_at"]) <= set(failed)
    spans = dict(zip(zip(made["start"], made["end"], strict=True), made["direction"], strict=True))
    for start, points, direction in zip(broken["start"], broken["points"], broken["direction"], strict=True):
        assert spans[(start, points[1]["ts"])] == -direction
    t = bars.index.get_loc(made["start"].iloc[3])
    volume = bars["volume"].to_numpy()
    assert made["score"].iloc[3] == pytest.approx(volume[t] / volume[t - 14 : t].mean())


def test_sweeps_are_first_trades_beyond_a_swing_that_close_back(bars):
    _, high, low, close = arrays(bars)
    swings = find_swings(bars, "fractal", left=5, right=5)
    expected = []
    for row, at, side, price in zip(swings.row, swings.confirmed, swings.side, swings.price, strict=True):
        hit = first_row(side * (high if side > 0 else low), at, lambda value, mark=side * price: value > mark)
        if hit is not None and hit - at <= 300 and side * (close[hit] - price) <= 0:
            expected.append((bars.index[row], bars["close_ts"].iloc[hit], -side))
    found = liquidity_sweep(bars)
    assert len(expected) > 20
    assert sorted(zip(found["start"], found["confirmed_at"], found["direction"], strict=True)) == sorted(expected)


def test_equal_extremes_lie_within_the_tolerance_of_their_time(bars):
    found = equal_extremes(bars, reach=3, tolerance=0.25)
    usual = mean_true_range(bars, 14)
    at = bars["close_ts"].searchsorted(found["confirmed_at"])
    assert len(found) > 10
    assert ((found["high"] - found["low"]).to_numpy() <= 2 * 0.25 * usual[at]).all()
    assert (found["score"] >= 2).all()
    high, low = bars["high"].to_numpy(), bars["low"].to_numpy()
    first, last = bars.index.get_indexer(found["start"]), bars.index.get_indexer(found["end"])
    for i, kind in enumerate(found["kind"]):
        values, outer = (high, found["high"].iloc[i]) if kind == "equal_highs" else (-low, -found["low"].iloc[i])
        # Nothing between them stands out beyond what the tolerance and the width of a swing allow.
        between = values[first[i] : last[i] + 1]
        assert (between > outer + usual[at[i]]).mean() < 0.5
