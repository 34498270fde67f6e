"""Event frames: the schema, ids of content, and the as-of projection against a plain loop."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tapeline.charts.event_kernels import first_crossings, first_returns
from tapeline.charts.events import Findings, event_frame, standing
from tapeline.charts.gaps import fair_value_gap, inverse_fair_value_gap
from tapeline.charts.structure import break_of_structure
from tapeline.core.errors import ConfigurationError, DataError
from tapeline.core.schemas import EVENTS
from tests.support import make_bars


def findings(confirmed, invalidated=None, kind="level", low=1.0) -> Findings:
    rows = np.asarray(confirmed, dtype=np.int64)
    return Findings(
        kind,
        direction=np.ones(rows.size, np.int8),
        start=np.maximum(rows - 1, 0),
        end=rows,
        confirmed=rows,
        low=np.full(rows.size, low),
        high=np.arange(rows.size) + 2.0,
        invalidated=None if invalidated is None else np.asarray(invalidated, dtype=np.int64),
        point_rows=rows[:, None],
        point_prices=np.arange(rows.size)[:, None] + 0.5,
    )


def test_a_frame_is_a_table_of_the_events_schema_in_the_order_of_confirmation():
    bars = make_bars(50)
    parts = [findings([5, 9], [7, -1], "one"), findings([3, 9], kind="two", low=0.5)]
    frame = event_frame(bars, parts, {"size": 1})
    table = EVENTS.to_arrow(frame)
    assert table.num_rows == 4
    assert frame["kind"].tolist() == ["two", "one", "one", "two"]
    assert frame["confirmed_at"].tolist() == [bars["close_ts"].iloc[i] for i in (3, 5, 9, 9)]
    assert frame["start"].iloc[0] == bars.index[2]
    assert frame["invalidated_at"].isna().tolist() == [True, False, True, True]
    assert frame["invalidated_at"].iloc[1] == bars["close_ts"].iloc[7]
    assert table.column("points").to_pylist()[1] == [{"ts": bars.index[5], "price": 0.5}]
    assert EVENTS.to_arrow(event_frame(bars, [], {})).num_rows == 0


def test_an_id_is_of_what_was_known_and_of_nothing_else():
    bars = make_bars(50)

    def ids(part: Findings, parameters=None, of=bars) -> list[str]:
        return event_frame(of, part, parameters or {"size": 1})["id"].tolist()

    base = ids(findings([5, 9]))
    assert len(set(base)) == 2
    assert ids(findings([5, 9], [7, -1])) == base
    assert ids(findings([5, 9], kind="other")) != base
    assert not set(ids(findings([5, 9]), {"size": 2})) & set(base)
    assert not set(ids(findings([5, 9], low=1.5))) & set(base)
    tail = findings([3, 7])
    assert ids(tail, of=bars.iloc[2:]) == base
    moved = findings([5, 9])
    moved.point_prices[:] += 1.0
    assert not set(ids(moved)) & set(base)


def test_a_finding_has_one_id_on_all_of_history_and_on_a_tail():
    bars = make_bars(1500)
    for detector in (fair_value_gap, break_of_structure):
        whole, tail = detector(bars), detector(bars.iloc[400:])
        late = whole[whole["start"] > bars.index[1400]]
        assert len(late) > 2
        assert set(late["id"]) <= set(tail["id"])
        assert whole["id"].is_unique


def test_invalidations_never_change_an_id_or_delete_a_row():
    bars = make_bars(600)
    short, long = inverse_fair_value_gap(bars.iloc[:400]), inverse_fair_value_gap(bars)
    assert long["id"].tolist()[: len(short)] == short["id"].tolist()
    assert long["invalidated_at"].iloc[: len(short)].notna().sum() > short["invalidated_at"].notna().sum()


def plain_standing(known, gone, rows):
    found = []
    for t in range(rows):
        live = [i for i in range(len(known)) if known[i] <= t < gone[i]]
        found.append((len(live), max(live, default=-1)))
    return found


@given(st.lists(st.tuples(st.integers(0, 29), st.integers(0, 12)), max_size=25))
@settings(max_examples=60, deadline=None)
def test_what_stands_is_what_a_plain_loop_says(lives):
    bars = make_bars(30)
    lives = sorted(lives)
    known = np.array([row for row, _ in lives], dtype=np.int64)
    gone = np.array([row + life if row + life < 30 else -1 for row, life in lives], dtype=np.int64)
    frame = event_frame(bars, findings(known, gone), {})
    dense = standing(frame, bars, ["high"])
    expected = plain_standing(known, np.where(gone < 0, 99, gone), 30)
    assert dense["count"].tolist() == [count for count, _ in expected]
    assert dense["high"].fillna(-1).tolist() == [newest + 2.0 if newest >= 0 else -1.0 for _, newest in expected]


def test_what_stood_at_a_bar_does_not_change_when_history_goes_on():
    bars = make_bars(400)
    whole = standing(fair_value_gap(bars), bars)
    for cut in range(40, 400, 9):
        past = bars.iloc[:cut]
        pd.testing.assert_frame_equal(standing(fair_value_gap(past), past), whole.iloc[:cut])


@given(
    st.lists(st.integers(0, 9), min_size=1, max_size=30),
    st.lists(st.tuples(st.integers(0, 29), st.integers(0, 9)), max_size=20),
    st.sampled_from([1, -1]),
    st.booleans(),
)
@settings(max_examples=80, deadline=None)
def test_first_crossings_are_those_of_a_plain_loop(values, levels, sign, strict):
    values = np.array(values, dtype=np.float64)
    levels = sorted(level for level in levels if level[0] < values.size)
    known = np.array([row for row, _ in levels], dtype=np.int64)
    level = np.array([price for _, price in levels], dtype=np.float64)
    expected = []
    for row, price in levels:
        gap = sign * (values[row + 1 :] - price)
        hits = np.flatnonzero(gap > 0 if strict else gap >= 0)
        expected.append(row + 1 + hits[0] if hits.size else -1)
    assert first_crossings(sign, values, known, level, strict=strict).tolist() == expected


def test_bad_input_is_named():
    bars = make_bars(30)
    frame = fair_value_gap(bars)
    with pytest.raises(DataError, match="close_ts"):
        fair_value_gap(bars.drop(columns="close_ts"))
    with pytest.raises(DataError, match="UTC"):
        fair_value_gap(bars.reset_index(drop=True))
    with pytest.raises(ConfigurationError, match="points"):
        standing(frame, bars, ["points"])
    with pytest.raises(DataError, match="order"):
        standing(frame.iloc[::-1], bars)


def test_levels_are_crossed_where_a_plain_search_says_near_and_far():
    generator = np.random.default_rng(0)
    for trial in range(60):
        rows = int(generator.integers(1, 1_500))
        values = np.round(np.cumsum(generator.normal(size=rows)), 1)
        values[generator.random(rows) < (0.1 if trial % 3 == 0 else 0.0)] = np.nan
        known = np.sort(generator.integers(-1, rows, 40))
        level = np.round(generator.normal(scale=20.0, size=40) + np.nan_to_num(values[np.maximum(known, 0)]), 1)
        direction = np.where(generator.random(40) < 0.5, 1, -1).astype(np.int8)
        expected = {}
        for sign, strict in ((1, False), (1, True), (-1, False), (-1, True)):
            plain = []
            for row, goal in zip(np.maximum(known, 0) + 1, level, strict=True):
                gone = sign * values[row:]
                at = np.flatnonzero(gone > sign * goal if strict else gone >= sign * goal)
                plain.append(row + at[0] if at.size else -1)
            assert first_crossings(sign, values, known, level, strict=strict).tolist() == plain
            expected[sign, strict] = np.array(plain)
        both = first_returns(direction, values, values, known, level)
        assert both.tolist() == np.where(direction > 0, expected[-1, False], expected[1, False]).tolist()
