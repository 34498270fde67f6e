"""Noise of bars against its definition, and beside other labels."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tapeline.labels.barrier_unit import unit_width
from tapeline.labels.future_return import future_return
from tapeline.labels.noisy_candle import mark_noisy, noisy_candle
from tests.core.samples import eurusd, rough_bars
from tests.labels.test_outcomes import bars_of


def check(bars, horizon, cost, size, unit, window) -> None:
    ours = noisy_candle(bars, horizon, cost, size, unit, window)
    width = unit_width(bars, unit, window)
    labelled = 0
    for t in range(len(bars) - 1):
        ahead = bars.iloc[t + 1 : t + horizon + 1]
        entry = ahead["open"].iloc[0]
        up = np.flatnonzero(ahead["high"] >= entry * (1 + size * width[t]))
        down = np.flatnonzero(ahead["low"] <= entry * (1 - size * width[t]))
        swung = bool(up.size and down.size)
        if not width[t] > 0 or not (swung or len(ahead) == horizon):
            assert bars.index[t] not in ours.index
            continue
        end = max(up[0], down[0]) if swung else horizon - 1
        seen = ahead.iloc[: end + 1]
        reach = (max(seen["high"].max(), entry) - min(seen["low"].min(), entry)) / entry
        reason = (3 if up[0] == down[0] else 2) if swung else int(reach < cost / 100)
        found = ours.loc[bars.index[t]]
        assert (found["reason"], found["value"]) == (reason, float(reason > 0))
        assert found["t_end"] == seen["close_ts"].iloc[-1]
        assert found["range"] == pytest.approx(reach)
        assert found["outcome"] == pytest.approx(seen["close"].iloc[-1] / entry - 1)
        labelled += 1
    assert labelled == len(ours)


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 999), horizon=st.integers(1, 9), cost=st.sampled_from([0.0, 0.1, 0.3]))
def test_equal_to_the_definition_on_random_bars(seed, horizon, cost) -> None:
    check(rough_bars(600, seed=seed).iloc[290:370], horizon, cost, 0.7, "atr", 5)


def test_equal_to_the_definition_on_real_bars_with_every_reason() -> None:
    bars = eurusd().iloc[:300]
    check(bars, 4, 0.1, 1.0, "atr", 24)
    assert set(noisy_candle(eurusd(), 4, 0.1, 1.0)["reason"]) == {0.0, 1.0, 2.0, 3.0}


def test_a_higher_cost_makes_more_noise() -> None:
    bars = eurusd().iloc[:1000]
    shares = [noisy_candle(bars, 6, cost)["value"].mean() for cost in (0.0, 0.1, 0.3)]
    assert shares[0] < shares[1] < shares[2]


def test_marked_labels_are_known_when_both_are() -> None:
    bars = eurusd().iloc[:300]
    labels, noisy = future_return(bars, 3), noisy_candle(bars, 8)
    marked = mark_noisy(labels, noisy)
    assert set(marked.index) == set(labels.index) & set(noisy.index)
    assert (marked["t_end"] == np.maximum(labels["t_end"].loc[marked.index], noisy["t_end"].loc[marked.index])).all()
    np.testing.assert_array_equal(marked["noisy"], noisy["value"].loc[marked.index])


def test_one_bar_with_both_sides() -> None:
    found = noisy_candle(bars_of((100, 100, 100, 100), (100, 102, 98, 100)), 5, unit="fixed").iloc[0]
    assert (found["reason"], found["value"]) == (3.0, 1.0)
