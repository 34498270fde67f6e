"""Outlier flags: against a plain computation, causal, and the same on a tail."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tapeline.cleaning.outliers import LOOKBACK, MINIMUM, THRESHOLD, WINDOW, hampel_flags
from tests.quality.batches import sample_bars
from tests.support import make_bars


def plain_flags(bars: pd.DataFrame, window: int, minimum: int, threshold: float) -> list[bool]:
    """The definition, bar by bar, with numpy's medians."""
    high, low, close = (bars[name].to_numpy() for name in ("high", "low", "close"))
    change = np.diff(close)
    flags = [False]
    for i in range(1, len(close)):
        past = change[max(i - 1 - window, 0) : i - 1]
        if len(past) < minimum:
            flags.append(False)
            continue
        middle = np.median(past)
        scale = 1.4826 * np.median(np.abs(past - middle)) or 1.2533 * np.mean(np.abs(past - middle))
        stray = max(abs(high[i] - close[i - 1] - middle), abs(low[i] - close[i - 1] - middle))
        flags.append(bool(scale > 0 and stray > threshold * scale))
    return flags


def walk(steps: list[int]) -> pd.DataFrame:
    """Bars of whole numbers, so that many changes are equal and no rounding blurs a comparison."""
    close = 1000.0 + np.cumsum(steps)
    return pd.DataFrame({"high": close + 1, "low": close - 1, "close": close})


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(-6, 6), min_size=1, max_size=60), st.integers(2, 20), st.sampled_from([1.25, 2.75, 5.25]))
def test_flags_are_those_of_the_definition(steps: list[int], window: int, threshold: float) -> None:
    bars = walk(steps)
    found = hampel_flags(bars, window=window, minimum=2, threshold=threshold)
    assert found.tolist() == plain_flags(bars, window, 2, threshold)


def test_flags_of_real_bars_are_those_of_the_definition_and_rare() -> None:
    bars = sample_bars()
    found = hampel_flags(bars)
    assert found.tolist() == plain_flags(bars, WINDOW, MINIMUM, THRESHOLD)
    assert 0.001 < found.mean() < 0.005


@pytest.mark.parametrize(("column", "factor"), [("high", 1.05), ("low", 0.95), ("close", 1.05)])
def test_a_bad_print_is_flagged(column: str, factor: float) -> None:
    bars = make_bars(300)
    quiet = hampel_flags(bars)
    bars.iloc[200, bars.columns.get_loc(column)] *= factor
    bars["high"], bars["low"] = bars[["high", "close"]].max(axis=1), bars[["low", "close"]].min(axis=1)
    found = hampel_flags(bars)
    assert found[200]
    assert not quiet[200]
    np.testing.assert_array_equal(found[:200], quiet[:200])


def test_no_flag_without_a_scale() -> None:
    bars = walk([0] * 60)
    bars.loc[50, "high"] += 100
    assert not hampel_flags(bars).any()
    assert not hampel_flags(walk([1, -1] * 15)).any()
    assert hampel_flags(walk([])).tolist() == []


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 1000), cut=st.integers(1, 299))
def test_the_future_changes_no_flag_and_the_tail_suffices(seed: int, cut: int) -> None:
    bars = make_bars(300, seed=seed)
    whole = hampel_flags(bars, threshold=4.0)
    np.testing.assert_array_equal(hampel_flags(bars.iloc[:cut], threshold=4.0), whole[:cut])
    assert hampel_flags(bars.iloc[max(cut - LOOKBACK, 0) : cut], threshold=4.0)[-1] == whole[cut - 1]
