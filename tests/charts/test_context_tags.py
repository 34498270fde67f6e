"""Liquidity levels against plain quantiles, and what stands at the swings against the detectors' own events."""

from __future__ import annotations

import numpy as np
import pandas as pd

from tapeline.charts.context_tags import liquidity_level, liquidity_volatility_context, name_liquidity
from tapeline.charts.events import event_rows
from tapeline.charts.liquidity import equal_extremes, liquidity_sweep
from tests.core.samples import eurusd

BARS = eurusd().iloc[1000:2200]


def votes(values: pd.Series, memory: int, sign: int) -> pd.Series:
    low, high = (values.rolling(memory).quantile(share) for share in (0.25, 0.75))
    return (sign * ((values > high).astype(float) - (values < low).astype(float))).where(high.notna())


def test_one_measure_speaks_for_itself():
    level = liquidity_level(BARS, memory=100)
    np.testing.assert_array_equal(level, votes(BARS["volume"], 100, 1))
    assert {-1.0, 0.0, 1.0} <= set(level[100:])


def test_several_measures_vote_and_a_small_spread_is_liquid():
    generator = np.random.default_rng(3)
    bars = BARS.assign(spread=generator.lognormal(size=len(BARS)), depth=generator.lognormal(size=len(BARS)))
    parts = [votes(bars[name], 100, sign) for name, sign in (("spread", -1), ("depth", 1), ("volume", 1))]
    expected = pd.concat(parts, axis=1).median(axis=1, skipna=False)
    np.testing.assert_array_equal(liquidity_level(bars, memory=100), expected)
    two = liquidity_level(bars.drop(columns="depth"), memory=100)
    both = (parts[0] + parts[2]).to_numpy()
    np.testing.assert_array_equal(two[100:], np.trunc(both[100:] / 2))


def test_without_any_measure_nothing_is_said():
    bars = BARS.iloc[:150].assign(volume=np.nan)
    assert np.isnan(liquidity_level(bars, memory=100)).all()
    assert name_liquidity(np.array([1.0, 0.0, np.nan])).tolist() == ["deep", "normal", None]


def test_sweeps_and_equal_extremes_are_those_of_the_detectors():
    found = liquidity_volatility_context(BARS, recent=24)
    sweeps = liquidity_sweep(BARS)
    at, _ = event_rows(sweeps, BARS)
    pools = equal_extremes(BARS)
    for t in range(50, len(BARS), 31):
        recent = np.flatnonzero((at <= t) & (t - at < 24))
        row = found.iloc[t]
        if recent.size:
            assert row["bars_since_sweep"] == t - at[recent[-1]]
            assert row["sweep_direction"] == sweeps["direction"].iloc[recent[-1]]
        else:
            assert (row["bars_since_sweep"], row["sweep_direction"]) == (24, 0)
        for kind, name in (("equal_highs", "equal_highs_above"), ("equal_lows", "equal_lows_below")):
            begin, gone = event_rows(pools[pools["kind"] == kind], BARS)
            assert row[name] == ((begin <= t) & (gone > t) & (t - begin < 300)).sum()
    assert found["equal_highs_above"].max() >= 2
    assert set(found["sweep_direction"]) == {-1.0, 0.0, 1.0}
