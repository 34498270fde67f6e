"""Volatility breakouts against the definition through pandas."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tapeline.labels.volatility_breakout import volatility_breakout
from tests.core.samples import eurusd, rough_bars
from tests.labels.test_outcomes import bars_of


def check(bars, horizon: int, window: int, size: float):
    ours = volatility_breakout(bars, horizon, window, size)
    before = bars["close"].shift()
    ranges = (np.maximum(bars["high"], before) - np.minimum(bars["low"], before)) / before
    band = ranges.rolling(window).mean() + size * ranges.rolling(window).std(ddof=0)
    labelled = 0
    for t in range(len(bars)):
        ahead = range(t + 1, min(t + horizon, len(bars) - 1) + 1)
        # The rolling sums of pandas carry rounding: a tie would be theirs to decide.
        out = [j for j in ahead if ranges.iloc[j] > band.iloc[t] + 1e-12]
        if np.isnan(band.iloc[t]) or not len(ahead) or not (out or len(ahead) == horizon):
            assert bars.index[t] not in ours.index
            continue
        found = ours.loc[bars.index[t]]
        labelled += 1
        j = out[0] if out else ahead[-1]
        if band.iloc[t] < 1e-9:
            continue
        assert found["expanded"] == bool(out)
        assert found["t_end"] == bars["close_ts"].iloc[j]
        assert found["outcome"] == pytest.approx(bars["close"].iloc[j] / bars["open"].iloc[t + 1] - 1)
        up, down = bars["high"].iloc[j] / before.iloc[j] - 1, 1 - bars["low"].iloc[j] / before.iloc[j]
        both = bool(out) and min(up, down) > band.iloc[t]
        assert found["ambiguous"] == both
        side = np.sign(bars["close"].iloc[j] - before.iloc[j]) if out and not both else 0.0
        assert found["value"] == side
        assert found["bars"] == j - t if out else np.isnan(found["bars"])
    assert labelled == len(ours)
    return ours


@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 999), horizon=st.integers(1, 6), window=st.integers(2, 20), size=st.sampled_from([0.5, 2.0]))
def test_equal_to_the_definition_on_random_bars(seed, horizon, window, size) -> None:
    check(rough_bars(600, seed=seed).iloc[180:270], horizon, window, size)


def test_equal_to_the_definition_on_real_bars() -> None:
    ours = check(eurusd().iloc[:500], 12, 48, 3.0)
    assert set(ours["value"]) == {-1.0, 0.0, 1.0}


def test_a_bar_that_bursts_out_on_both_sides_has_none() -> None:
    bars = bars_of(*[(100, 100.5, 99.5, 100)] * 5, (100, 104, 96, 103))
    found = volatility_breakout(bars, 1, 3, 2.0).iloc[-1]
    assert (found["value"], found["expanded"], found["ambiguous"]) == (0.0, 1.0, 1.0)
    assert volatility_breakout(bars.iloc[:4], 1, 3, 2.0).empty
