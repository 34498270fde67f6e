"""Price action against slow readable forms, TA-Lib's engulfing pattern, and bars made by hand."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import talib
from hypothesis import given, settings
from hypothesis import strategies as st

from tapeline.core.errors import DataError
from tapeline.core.schemas import EVENTS
from tapeline.core.timeframe import Timeframe
from tapeline.features.price_action import (
    ANNOTATIONS,
    annotate,
    annotation_events,
    breakout_and_retest,
    engulfing,
    impulse,
    inside_outside_bar,
    price_gap,
    rejection,
    swing_structure,
)
from tests.core.samples import eurusd
from tests.support import make_bars

H1 = Timeframe.parse("H1")


def bars_of(*rows: tuple[float, float, float, float]) -> pd.DataFrame:
    ts = pd.date_range("2017-01-02", periods=len(rows), freq="h", tz="UTC", name="ts").as_unit("ns")
    return pd.DataFrame(rows, columns=["open", "high", "low", "close"], index=ts, dtype=float).assign(volume=1.0)


def slow_swings(values: np.ndarray, span: int, window: int) -> np.ndarray:
    """By definition, from the last ``window`` values alone at each bar."""
    result = np.full(values.size, np.nan)
    for i in range(window - 1, values.size):
        part = values[i - window + 1 : i + 1]
        peaks = [
            m
            for m in range(span, window - span)
            if all(part[m] > part[m - k] and part[m] >= part[m + k] for k in range(1, span + 1))
        ]
        result[i] = 0.0
        if len(peaks) >= 2 and peaks[-1] == window - 1 - span:
            result[i] = np.sign(part[peaks[-1]] - part[peaks[-2]])
    return result


def slow_retests(bars: pd.DataFrame, window: int, within: int, share: float) -> np.ndarray:
    """One bar at a time: which breakout is the newest, did it already fail or hold, does this bar hold it."""
    high, low, close = (bars[name].to_numpy() for name in ("high", "low", "close"))
    beyond = np.zeros(len(bars))
    levels = np.full(len(bars), np.nan)
    for i in range(window, len(bars)):
        top, bottom = high[i - window : i].max(), low[i - window : i].min()
        beyond[i] = 1 if close[i] > top else -1 if close[i] < bottom else 0
        levels[i] = top if beyond[i] == 1 else bottom
    before = np.r_[np.nan, close[:-1]]
    ranges = pd.Series(np.maximum(high, before) - np.minimum(low, before)).rolling(window).mean().to_numpy()
    broke = np.array([0.0 if i <= window or beyond[i] == beyond[i - 1] else beyond[i] for i in range(len(bars))])
    result = np.full(len(bars), np.nan)
    for i in range(window + within + 1, len(bars)):
        result[i] = 0.0
        newest = [j for j in range(i - within, i) if broke[j] != 0]
        if not newest:
            continue
        j, side = newest[-1], broke[newest[-1]]
        states = []
        for k in range(j + 1, i + 1):
            edge = low[k] if side > 0 else high[k]
            lost = side * (close[k] - levels[j]) <= 0
            near = side * (edge - levels[j]) <= share * ranges[k]
            states.append("lost" if lost else "held" if near else "away")
        if set(states[:-1]) <= {"away"} and states[-1] == "held":
            result[i] = side
    return result


@settings(max_examples=25, deadline=None)
@given(
    values=st.lists(st.integers(0, 8), min_size=12, max_size=60),
    span=st.integers(1, 3),
    window=st.integers(8, 20),
)
def test_swings_are_those_of_the_slow_form(values: list[int], span: int, window: int) -> None:
    high = np.array(values, dtype=float) + 10
    bars = bars_of(*[(h, h, h - 1, h) for h in high])
    found = swing_structure(bars, span=span, window=window)
    np.testing.assert_array_equal(found[f"swing_highs_{span}"], slow_swings(high, span, window))
    np.testing.assert_array_equal(found[f"swing_lows_{span}"], -slow_swings(-(high - 1), span, window))


@pytest.mark.parametrize("seed", range(4))
def test_breakouts_and_retests_are_those_of_the_slow_form(seed: int) -> None:
    bars = make_bars(500, seed=seed)
    found = breakout_and_retest(bars, window=12, within=15)
    expected = slow_retests(bars, 12, 15, 0.25)
    assert {1.0, -1.0} <= set(expected)
    np.testing.assert_array_equal(found["retest_12"].iloc[28:], expected[28:])


def test_a_retest_speaks_only_after_a_breakout_and_before_the_level_is_lost() -> None:
    flat = [(10.0, 10.5, 9.5, 10.0)] * 6
    out, back, lost = (10.0, 12.2, 10.0, 12.0), (12.0, 12.0, 10.6, 11.5), (12.0, 12.0, 9.9, 10.2)
    held = breakout_and_retest(bars_of(*flat, out, back, back), window=3, within=2)["retest_3"]
    assert held.tail(3).tolist() == [0.0, 1.0, 0.0]
    failed = breakout_and_retest(bars_of(*flat, out, lost, back), window=3, within=2)["retest_3"]
    assert failed.tail(2).tolist() == [0.0, 0.0]


def test_engulfing_is_talibs_where_both_ends_differ() -> None:
    bars = eurusd().iloc[:4000]
    ours = engulfing(bars)
    peer = talib.CDLENGULFING(*(bars[name].to_numpy() for name in ("open", "high", "low", "close")))
    # TA-Lib counts a bar without a body as white; an engulfing pattern takes two bodies.
    body = (bars["open"] != bars["close"]).to_numpy()
    strict = (np.abs(peer) == 100) & body & np.r_[False, body[:-1]]
    assert strict.sum() > 200
    np.testing.assert_array_equal(ours[strict], np.sign(peer[strict]))
    # Beyond those TA-Lib finds the ones with one equal end (80); nothing else may stand in ours.
    assert (ours.to_numpy()[2:][peer[2:] == 0] == 0).all()


@pytest.mark.parametrize(
    ("rows", "function", "expected"),
    [
        ([(10, 12, 8, 10), (10, 12, 8, 10)], inside_outside_bar, [1, 0]),
        ([(10, 12, 8, 10), (10, 13, 7, 8)], inside_outside_bar, [0, -1]),
        ([(10, 12, 8, 10), (13, 14, 12.5, 13)], lambda bars: price_gap(bars)[["gap"]], [1]),
        ([(10, 12, 8, 10), (7, 7.5, 6, 7)], lambda bars: price_gap(bars)[["gap"]], [-1]),
        ([(10, 12, 8, 10), (10, 13, 9.8, 10)], lambda bars: rejection(bars).to_frame(), [-1]),
        ([(10, 12, 8, 10), (10, 10.2, 7, 10)], lambda bars: rejection(bars).to_frame(), [1]),
        ([(10, 12, 8, 10), (10, 10.2, 8.1, 10)], lambda bars: rejection(bars).to_frame(), [0]),
    ],
)
def test_what_the_second_bar_did(rows, function, expected) -> None:
    assert function(bars_of(*rows)).iloc[1].tolist() == expected


def test_an_impulse_is_wide_and_closes_at_its_end() -> None:
    quiet = [(10, 10.5, 9.5, 10)] * 4
    assert impulse(bars_of(*quiet, (10, 13, 9.9, 12.9)), window=3).iloc[-1] == 1
    assert impulse(bars_of(*quiet, (10, 10.1, 7, 7.1)), window=3).iloc[-1] == -1
    assert impulse(bars_of(*quiet, (10, 13, 9.9, 11)), window=3).iloc[-1] == 0, "closes in its middle"
    assert impulse(bars_of(*quiet, (10, 11.5, 9.9, 11.4)), window=3).iloc[-1] == 0, "not wide"


def test_events_are_confirmed_at_the_close_and_fit_the_one_schema() -> None:
    bars = eurusd().iloc[:600]
    annotations = annotate(bars)
    assert list(annotations.columns) == list(ANNOTATIONS)
    events = annotation_events(bars, H1, annotations)
    assert len(events) == int(annotations.fillna(0).ne(0).to_numpy().sum())
    assert (events["confirmed_at"] == events["start"] + pd.Timedelta(hours=1)).all()
    assert events["id"].is_unique
    EVENTS.to_arrow(events)
    with pytest.raises(DataError, match="another index"):
        annotation_events(bars, H1, annotations.iloc[1:])
