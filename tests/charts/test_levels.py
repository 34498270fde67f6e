"""Levels against a readable machine of the same rules, against drawings, one bar at a time and on real bars."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import pytest

from tapeline.charts.bar_arrays import BarArrays, mean_true_range
from tapeline.charts.level_drawings import CASES
from tapeline.charts.levels import (
    LevelStream,
    find_levels,
    level_break,
    level_flip,
    level_memory,
    nearest_levels,
    support_resistance,
)
from tapeline.charts.swings import find_swings
from tapeline.charts.synthetic import accuracy, random_walk
from tapeline.core.errors import ConfigurationError
from tests.core.samples import eurusd, rough_bars


@dataclass
class Candidate:
    """One price that price turned at, as LevelStream describes it."""

    start: int
    known: int
    price: float
    width: float
    side: int
    extreme: float
    turn: int
    visiting: bool = True
    leaving: bool = False
    broke: bool = False
    reached: int | None = None
    told: bool = False
    shown: bool = False
    flips: int = 0
    touches: list[tuple[int, float, float]] = field(default_factory=list)
    breaks: list[int] = field(default_factory=list)

    def strength(self, now: int, half_life: float) -> float:
        """The sum over touches, each fading, each halved by every break after it."""
        return sum(
            0.5 ** ((now - row) / half_life) * 0.5 ** sum(b > row for b in self.breaks) * min(size, 5.0)
            for row, size, _ in self.touches
        )

    def zone(self) -> tuple[float, float]:
        """The prices its touches span."""
        prices = [
            self.price,
            *(min(max(p, self.price - self.width), self.price + self.width) for *_, p in self.touches),
        ]
        return min(prices), max(prices)


def slow_levels(bars, reach, touches, tolerance, reaction, max_age, window):
    """Every candidate looked at on every bar, with plain objects; (what, direction, start, end, known, low, high)."""
    arrays = BarArrays(bars)
    unit = mean_true_range(arrays, window)
    swings = find_swings(arrays, "fractal", left=reach, right=reach)
    alive: list[Candidate] = []
    events, lines = [], []
    for t in range(len(bars)):
        high, low, close, u = arrays.high[t], arrays.low[t], arrays.close[t], unit[t]
        alive = [c for c in alive if t - c.known <= max_age]

        def note(what, direction, c, end, now=t):
            events.append((what, direction, c.start, end, now, *c.zone()))

        def turned(c, now=t, close=close, u=u):
            back = c.side * (close - c.extreme)
            if u > 0 and back >= reaction * u and c.side * (close - c.price) > c.width:
                c.touches.append((now, back / u, c.extreme))
                c.visiting = False
                if c.broke:
                    c.broke, c.flips = False, c.flips + 1
                    if c.shown:
                        note(2, c.side, c, c.turn)
                if len(c.touches) == touches:
                    c.reached = now

        for c in list(alive):
            ahead = c.side * (close - c.price)
            if ahead < -c.width:
                if len(c.touches) < touches or c.broke:
                    alive.remove(c)
                    continue
                if c.shown:
                    note(1, -c.side, c, t)
                c.side, c.visiting, c.leaving, c.broke = -c.side, False, True, True
                c.breaks.append(t)
                continue
            if c.leaving:
                c.leaving = not (ahead >= reaction * u and ahead > c.width)
                continue
            near = low if c.side > 0 else high
            if not c.visiting:
                if c.side * (near - c.price) <= c.width:
                    c.visiting, c.extreme, c.turn = True, near, t
            elif c.side * (near - c.extreme) < 0:
                c.extreme, c.turn = near, t
            if c.visiting:
                turned(c)
        for i in np.flatnonzero(swings.confirmed == t):
            if tolerance * u > 0:
                price, row = swings.price[i], int(swings.row[i])
                c = Candidate(row, t, price, tolerance * u, -int(swings.side[i]), price, row)
                alive.append(c)
                turned(c)
        shown: list[Candidate] = []
        for c in sorted((c for c in alive if c.reached is not None), key=lambda c: c.reached):
            c.shown = all(abs(c.price - other.price) > other.width for other in shown)
            if c.shown:
                shown.append(c)
                if not c.told:
                    c.told = True
                    note(0, c.side, c, c.turn)
        line = []
        for side in (1, -1):
            near = [c for c in shown if c.side == side and side * (close - c.price) < 20.0 * u]
            if not near:
                line += [20.0, 0.0, 0.0, 0.0, 0.0]
                continue
            c = min(near, key=lambda c: side * (close - c.price))
            line += [
                side * (close - c.price) / u, len(c.touches), c.strength(t, max_age / 2), t - c.start, c.flips,
            ]  # fmt: skip
        lines.append(line if u > 0 else [np.nan] * 10)
    return events, np.array(lines)


RULES = {"reach": 3, "touches": 3, "tolerance": 0.5, "reaction": 1.0, "max_age": 120, "window": 14}


def told(log):
    return list(
        zip(
            *(a.tolist() for a in (log.what, log.direction, log.start, log.end, log.known, log.low, log.high)),
            strict=True,
        )
    )


@pytest.mark.parametrize(
    ("bars", "changed"),
    [
        (random_walk(700, seed=3), {}),
        (rough_bars(700), {}),
        # Wide and near each other, so that it matters which of them had its touches first.
        (random_walk(700, seed=4), {"tolerance": 1.5, "reaction": 0.7, "touches": 2, "reach": 2}),
    ],
    ids=["walk", "rough", "crowded"],
)
def test_the_kernel_says_what_the_readable_machine_says(bars, changed):
    rules = {**RULES, **changed}
    events, lines = slow_levels(bars, **rules)
    log = find_levels(bars, **rules)
    assert {what for what, *_ in events} == {0, 1, 2}
    assert sorted(told(log)) == sorted(events)
    np.testing.assert_allclose(nearest_levels(bars, **rules).to_numpy(), lines, rtol=1e-9, atol=1e-9)


def test_one_bar_at_a_time_gives_the_same_in_order():
    bars = rough_bars(600)
    stream = LevelStream(**RULES)
    live, dense = [], []
    for bar in bars[["high", "low", "close"]].to_numpy():
        live += stream.push(*bar)
        dense.append(stream.nearest())
    assert live == told(find_levels(bars, **RULES))
    np.testing.assert_array_equal(np.array(dense), nearest_levels(bars, **RULES).to_numpy())


def test_the_memory_of_a_stream_is_bounded_and_the_oldest_candidate_goes_first():
    stream = LevelStream(reach=1, max_age=5_000, window=2, tolerance=0.1)
    # A rise in small steps back: each low is a candidate below price that nothing ever breaks.
    closes = [10.0 * i - (15.0 if i % 2 else 0.0) + 1000.0 for i in range(600)]
    for close in closes:
        stream.push(close + 1.0, close - 1.0, close)
    kept = stream.levels(all_candidates=True)
    assert len(kept) == 128
    assert kept["age"].max() < 300
    assert (kept["side"] == 1).sum() > 100


def test_what_is_said_depends_on_the_declared_memory_only():
    bars = random_walk(1_200, seed=8)
    rules = {"reach": 3, "max_age": 100, "window": 10}
    memory = level_memory(3, 100, 10)
    whole = nearest_levels(bars, **rules)
    for end in range(memory, 1_200, 97):
        tail = nearest_levels(bars.iloc[end - memory : end], **rules)
        pd.testing.assert_series_equal(tail.iloc[-1], whole.iloc[end - 1])


def test_a_level_lives_breaks_and_flips():
    closes = [10, 12, 14, 12, 10, 12, 14, 12, 14, 20, 24, 20, 16.5, 20, 24, 20, 16, 12, 8]
    bars = random_walk(len(closes), seed=0).assign(
        close=closes, high=np.array(closes) + 1.0, low=np.array(closes) - 1.0
    )
    rules = {"reach": 1, "touches": 2, "window": 2}
    level, broken, flip = (
        detect(bars, **rules).query("low == 15.0").iloc[0] for detect in (support_resistance, level_break, level_flip)
    )
    closed = bars["close_ts"]
    assert (level["direction"], broken["direction"], flip["direction"]) == (-1, 1, 1)
    assert level["invalidated_at"] == broken["confirmed_at"] == closed.iloc[9]
    assert flip["end"] == bars.index[12]
    assert flip["confirmed_at"] == closed.iloc[13]
    # The close at 12 lies beyond the level by more than its tolerance: neither break nor flip holds any more.
    assert broken["invalidated_at"] == flip["invalidated_at"] == closed.iloc[17]


def test_a_level_that_nobody_breaks_ends_with_its_first_swing():
    closes = [10.0, 12, 14, 12, 10, 12, 14, 12, 10] + [10.0, 10.5] * 20
    bars = random_walk(len(closes), seed=0).assign(
        close=closes, high=np.array(closes) + 1.0, low=np.array(closes) - 1.0
    )
    found = support_resistance(bars, reach=1, touches=2, window=2, max_age=10).iloc[0]
    # The swing at row 2 is confirmed at row 3 and is more than ten bars old at row 14.
    assert found["invalidated_at"] == bars["close_ts"].iloc[14]


@pytest.mark.parametrize("kind", sorted(CASES))
def test_drawn_levels_are_found_and_near_misses_refused(kind):
    case = CASES[kind]
    clean = accuracy(case.detect, kind, case.drawings(25, noise=0.0, seed=1), case.near_misses(25, seed=2), [])
    shaken = accuracy(case.detect, kind, case.drawings(25, noise=0.5, seed=3), [], [])
    assert clean.recall == 1.0
    assert shaken.recall >= 0.9
    assert clean.near_misses == 0.0


def test_levels_of_real_bars_are_narrow_and_were_met_three_times():
    bars = eurusd()
    found = support_resistance(bars)
    assert 100 < len(found) < 400
    low, high, close = (bars[name].to_numpy() for name in ("low", "high", "close"))
    unit = mean_true_range(bars, 14)
    rows = bars["close_ts"].searchsorted(found["confirmed_at"])
    starts = bars.index.searchsorted(found["start"])
    for row, start, event in zip(rows, starts, found.itertuples(), strict=True):
        middle = (event.low + event.high) / 2
        assert event.high - event.low <= 2.0 * unit[start : row + 1].max()
        met = (low[start : row + 1] <= middle + unit[row]) & (high[start : row + 1] >= middle - unit[row])
        assert met.sum() >= 3
        # One that takes over from an older one may be reported while price is at it.
        assert event.direction * (close[row] - middle) > -unit[row]


@pytest.mark.parametrize("wrong", [{"touches": 1}, {"max_age": 3}, {"tolerance": 0.0}, {"reaction": float("nan")}])
def test_a_stream_refuses_rules_without_meaning(wrong):
    with pytest.raises(ConfigurationError, match=f"{next(iter(wrong))} = "):
        LevelStream(**wrong)
