"""Confluence against a loop over bars and events, and that it knows only what had happened."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tapeline.charts.confluence import confluence, merge, speaking
from tapeline.charts.events import Findings, event_frame, event_rows
from tapeline.charts.scan import choose, scan
from tapeline.core.errors import DataError, SchemaError
from tests.core.samples import eurusd
from tests.support import make_bars


def some_events(bars: pd.DataFrame, seed: int, count: int = 30) -> tuple[pd.DataFrame, pd.Series]:
    generator = np.random.default_rng(seed)
    parts = []
    for kind in ("flag", "pennant", "gartley"):
        known = np.sort(generator.integers(0, len(bars), count))
        gone = known + generator.integers(0, 25, count)
        gone[(gone >= len(bars)) | (generator.random(count) < 0.3)] = -1
        direction = generator.integers(-1, 2, count).astype(np.int8)
        price = np.arange(count) + 1.0
        parts.append(Findings(kind, direction, known, known, known, price, price + 1, invalidated=gone))
    events = event_frame(bars, parts, {})
    return events, pd.Series(generator.normal(size=len(events)), index=events.index)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 30))
def test_it_counts_what_stands(seed, max_age):
    bars = make_bars(80)
    events, weight = some_events(bars, seed)
    families = {"flag": "pause", "pennant": "pause"}
    mine = confluence(events, bars, weight=weight, max_age=max_age, families=families)
    known, gone = event_rows(events, bars)
    for t in range(len(bars)):
        stands = (known <= t) & (gone > t) & (t - known < max_age)
        sides = {way: stands & (events["direction"] == way).to_numpy() for way in (1, -1)}
        voices = {way: {families.get(k, k) for k in events["kind"].astype(str)[side]} for way, side in sides.items()}
        row = mine.iloc[t]
        assert (row["bullish"], row["bearish"]) == (sides[1].sum(), sides[-1].sum())
        assert (row["bullish_families"], row["bearish_families"]) == (len(voices[1]), len(voices[-1]))
        assert row["net_weight"] == pytest.approx(weight[sides[1]].sum() - weight[sides[-1]].sum(), abs=1e-9)
        if voices[1] or voices[-1]:
            both = len(voices[1]), len(voices[-1])
            assert row["agreement"] == max(both) / sum(both)
            assert row["conflict"] == min(both) / max(both)
        else:
            assert np.isnan(row["agreement"])


def test_a_bar_knows_nothing_of_what_comes_after():
    bars = eurusd().iloc[:1200]
    choices = choose(["break_of_structure", "order_block", "fair_value_gap"])
    whole = confluence(scan(bars, choices), bars)
    for cut in (400, 777, 1001):
        part = confluence(scan(bars.iloc[:cut], choices), bars.iloc[:cut])
        pd.testing.assert_frame_equal(part, whole.iloc[:cut], check_freq=False)
    assert whole["conflict"].max() > 0


def test_what_is_behind_a_row():
    bars = make_bars(80)
    events, weight = some_events(bars, 3)
    mine = confluence(events, bars, weight=weight, max_age=12)
    for t in (20, 50, 79):
        told = speaking(events, bars, at=bars.index[t], weight=weight, max_age=12)
        assert len(told) == mine["bullish"].iloc[t] + mine["bearish"].iloc[t]
        assert told["weight"].is_monotonic_decreasing
    with pytest.raises(DataError, match="no bar"):
        speaking(events, bars, at=pd.Timestamp("2031-01-01", tz="UTC"))


def test_tables_of_any_origin_become_one():
    bars = make_bars(80)
    events, _ = some_events(bars, 1)
    one, other = events.iloc[::2], events.iloc[::3]
    both = merge([one, other.set_index("confirmed_at"), events.iloc[:0]])
    assert sorted(both["id"]) == sorted(set(one["id"]) | set(other["id"]))
    assert both["confirmed_at"].is_monotonic_increasing
    assert merge([]).empty
    with pytest.raises(SchemaError):
        merge([bars])
    with pytest.raises(DataError, match="order"):
        confluence(events.iloc[::-1], bars)
