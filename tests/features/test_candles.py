"""Candlestick patterns against TA-Lib itself, every one of them held to both laws; sizes against definitions."""

from __future__ import annotations

from functools import lru_cache
from typing import get_args

import numpy as np
import pandas as pd
import pytest
import talib
from talib import abstract

from tapeline.core.errors import ConfigurationError
from tapeline.core.registry import component_of
from tapeline.features.candle_patterns import (
    PATTERN_MEMORY,
    PATTERNS,
    PENETRABLE,
    Pattern,
    candle_pattern,
    candle_pattern_counts,
)
from tapeline.features.candle_size import candle_size, neighbour, wick_ratios
from tests.core.samples import eurusd

PRICES = ["open", "high", "low", "close"]
# These ask for three or more particular bars with gaps between them; no bars used here hold one.
RARE = {
    "abandoned_baby",
    "breakaway",
    "concealing_baby_swallow",
    "identical_three_crows",
    "mat_hold",
    "three_stars_in_the_south",
}


@lru_cache
def coarse(rows: int = 40_000) -> pd.DataFrame:
    """Bars on a coarse grid of prices with gaps: rich in patterns, in ties, and in bars without body or range."""
    generator = np.random.default_rng(2)
    # Half of the bars are long and without wicks, so that patterns of several long bars with gaps come up as well.
    long = generator.random(rows) < 0.5
    body = np.where(long, generator.choice([-9, 9, 12, -12], rows), generator.integers(-2, 3, rows))
    body = np.where(generator.random(rows) < 0.3, np.abs(body), body)
    gap = generator.choice([0, 0, -5, 5, -14, 14, 3, -3], rows)
    close = np.cumsum(body + gap - (body + gap).mean().round())
    opened = close - body
    high = np.maximum(opened, close) + np.where(long, 0, generator.choice([0, 0, 1, 2, 9], rows))
    low = np.minimum(opened, close) - np.where(long, 0, generator.choice([0, 0, 1, 2, 9], rows))
    ts = pd.date_range("2000-01-03", periods=rows, freq="1h", tz="UTC", name="ts").as_unit("ns")
    values = np.column_stack([opened, high, low, close]).astype(float)
    values += 2000 - values.min()
    # A tenth cannot be written in binary, so ties are decided by rounding, as they are in real prices.
    return pd.DataFrame(values / 10.0, columns=PRICES, index=ts).assign(volume=1.0)


def everything(bars: pd.DataFrame) -> np.ndarray:
    return np.column_stack([candle_pattern(bars, name).to_numpy() for name in PATTERNS])


def test_all_61_of_talib_are_there_by_name() -> None:
    assert list(PATTERNS) == list(get_args(Pattern))
    assert sorted(PATTERNS.values()) == sorted(talib.get_function_groups()["Pattern Recognition"])
    assert len(PATTERNS) == 61
    assert {name for name, function in PATTERNS.items() if abstract.Function(function).parameters} == PENETRABLE


def test_the_memory_covers_what_talib_reads_and_a_late_confirmation() -> None:
    assert max(abstract.Function(function).lookback for function in PATTERNS.values()) + 1 + 3 <= PATTERN_MEMORY


@pytest.mark.parametrize("name", PATTERNS)
def test_sign_and_strength_are_talibs_on_real_bars(name) -> None:
    bars = eurusd()
    ours = candle_pattern(bars, name)
    theirs = getattr(talib, PATTERNS[name])(*(bars[column].to_numpy() for column in PRICES))[PATTERN_MEMORY - 1 :]
    signed = (ours[f"{name}_direction"] * ours[f"{name}_strength"] * 100.0).to_numpy()
    assert np.isnan(signed[: PATTERN_MEMORY - 1]).all()
    np.testing.assert_array_equal(signed[PATTERN_MEMORY - 1 :], theirs)


def test_nearly_all_patterns_occur_on_the_bars_that_the_laws_are_tested_on() -> None:
    found = everything(coarse())[:, ::2]
    silent = {name for name, column in zip(PATTERNS, found.T, strict=True) if not (np.nan_to_num(column) != 0).any()}
    assert silent <= RARE


def test_no_pattern_looks_ahead_or_remembers_more_than_it_declares() -> None:
    """At the very bars where a pattern ends, where a leak or a longer memory must show."""
    bars = coarse()
    full = everything(bars)
    generator = np.random.default_rng(0)
    chosen: set[int] = set()
    for column in full[:, ::2].T:
        ends = np.flatnonzero(np.nan_to_num(column) != 0)
        ends = ends[ends > PATTERN_MEMORY]
        chosen.update(generator.choice(ends, min(2, ends.size), replace=False).tolist())
    for row in sorted(chosen):
        tail = everything(bars.iloc[row - PATTERN_MEMORY + 1 : row + 1])
        np.testing.assert_array_equal(tail[-1], full[row], err_msg=f"row {row}, lookback alone")
        # A history that ends here, whose rows must be those of the whole one.
        part = everything(bars.iloc[max(row - 60, 0) : row + 1])
        np.testing.assert_array_equal(part[PATTERN_MEMORY:], full[row + 1 - len(part) + PATTERN_MEMORY : row + 1])


def test_what_came_long_before_changes_nothing_not_even_a_tie() -> None:
    """Prices in tenths make many ties; running sums that kept their rounding would decide some of them otherwise."""
    bars = coarse()
    whole, later = everything(bars), everything(bars.iloc[10_000:])
    np.testing.assert_array_equal(whole[10_000 + PATTERN_MEMORY :], later[PATTERN_MEMORY:])


def test_counts_add_the_patterns_up() -> None:
    bars = coarse().head(600)
    signs = everything(bars)[:, ::2]
    counts = candle_pattern_counts(bars).to_numpy()[PATTERN_MEMORY - 1 :]
    np.testing.assert_array_equal(counts[:, 0], (signs > 0).sum(axis=1)[PATTERN_MEMORY - 1 :])
    np.testing.assert_array_equal(counts[:, 1], (signs < 0).sum(axis=1)[PATTERN_MEMORY - 1 :])
    assert counts.max() >= 3


def test_penetration_decides_who_asks_for_it_and_nothing_else() -> None:
    bars = coarse().head(5000)
    for name in ("morning_star", "hammer"):
        strict, loose = (np.count_nonzero(candle_pattern(bars, name, p).iloc[20:, 0]) for p in (1.0, 0.0))
        assert (strict < loose) == (name in PENETRABLE)
    with pytest.raises(ConfigurationError, match="is refused"):
        component_of(candle_pattern).parameters({"pattern": "inside_out"})
    with pytest.raises(ConfigurationError, match="is refused"):
        component_of(candle_pattern).parameters({"penetration": 1.5})


def test_a_hammer_and_an_engulfing_bar_drawn_by_hand() -> None:
    falling = [(110 - i, 110.3 - i, 108.7 - i, 109 - i) for i in range(30)]
    hammer = (80.0, 80.31, 77.0, 80.3)
    ts = pd.date_range("2017-01-02", periods=31, freq="1h", tz="UTC", name="ts")
    assert candle_pattern(pd.DataFrame([*falling, hammer], ts, PRICES), "hammer").iloc[-1].tolist() == [1.0, 1.0]
    bearish = [(80 + i, 81.3 + i, 79.7 + i, 81 + i) for i in range(30)]
    swallow = (111.5, 111.6, 108.0, 108.5)
    engulfed = candle_pattern(pd.DataFrame([*bearish, swallow], ts, PRICES), "engulfing")
    assert engulfed.iloc[-1].tolist() == [-1.0, 1.0]


def test_sizes_against_their_definitions() -> None:
    bars = eurusd().head(400)
    body, height = (bars["close"] - bars["open"]).abs(), bars["high"] - bars["low"]
    sizes = candle_size(bars, 10)
    np.testing.assert_allclose(sizes["body_size_10"], body / body.rolling(10).mean().shift(), rtol=1e-7)
    np.testing.assert_allclose(sizes["range_size_10"], height / height.rolling(10).mean().shift(), rtol=1e-7)
    wicks = wick_ratios(bars)
    upper = bars["high"] - bars[["open", "close"]].max(axis=1)
    lower = bars[["open", "close"]].min(axis=1) - bars["low"]
    both = wicks["wick_balance"].notna()
    np.testing.assert_allclose(wicks["wick_balance"][both], ((lower - upper) / (lower + upper))[both], atol=1e-9)
    np.testing.assert_allclose(wicks["body_to_wicks"], 2 * body / height - 1, atol=1e-9)


def test_neighbours_that_touch_overlap_or_leave_a_gap() -> None:
    bars = pd.DataFrame({"high": [4.0, 4.0, 3.0, 8.0], "low": [2.0, 2.0, 2.0, 4.0], "close": [3.0, 3.0, 3.0, 5.0]})
    ours = neighbour(bars)
    np.testing.assert_allclose(ours["overlap"], [np.nan, 1.0, 0.5, -1.0 / 6.0])
    np.testing.assert_allclose(ours["range_change"], [np.nan, 0.0, -np.log(2.0), np.log(4.0)])
