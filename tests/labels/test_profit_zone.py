"""Profit zones against the definition written out slowly, and case by case."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tapeline.core.errors import ConfigurationError
from tapeline.labels.barrier_unit import unit_width
from tapeline.labels.profit_zone import profit_zone, profit_zones
from tests.core.samples import eurusd, rough_bars
from tests.labels.test_outcomes import bars_of


def slow(bars: pd.DataFrame, side: str, near: float, far: float, unit: str, horizon: int, window: int) -> pd.DataFrame:
    width = unit_width(bars, unit, window)
    rows = list(bars[["open", "high", "low", "close"]].itertuples(index=False, name=None))
    sign = 1 if side == "long" else -1
    found = []
    for t in range(len(rows) - 1):
        if not width[t] > 0:
            continue
        entry = rows[t + 1][0]
        edge, beyond = entry * (1 + sign * near * width[t]), entry * (1 + sign * far * width[t])
        ahead = range(t + 1, min(t + horizon, len(rows) - 1) + 1)
        best = {j: rows[j][1] if sign > 0 else rows[j][2] for j in ahead}
        entered = next((j for j in ahead if sign * (best[j] - edge) >= 0), None)
        answer = None
        for j in ahead:
            if entered is None or j < entered:
                continue
            if sign * (best[j] - beyond) >= 0:
                answer = (j, 1.0, rows[j][0] if sign * (rows[j][0] - beyond) >= 0 else beyond)
            elif sign * (rows[j][3] - edge) < 0:
                answer = (j, -1.0, rows[j][3])
            if answer:
                break
        if answer is None:
            if t + horizon > len(rows) - 1:
                continue
            answer = (t + horizon, np.nan if entered is None else 0.0, rows[t + horizon][3])
        j, left, price = answer
        found.append(
            (
                bars.index[t],
                float(entered is not None),
                bars["close_ts"].iloc[j],
                sign * (price / entry - 1),
                np.nan if entered is None else entered - t,
                j - t if left in (1.0, -1.0) else np.nan,
                left,
            )
        )
    names = ["ts", "value", "t_end", "outcome", "entered_bars", "left_bars", "left"]
    return pd.DataFrame(found, columns=names).set_index("ts")


def same(ours: pd.DataFrame, expected: pd.DataFrame) -> None:
    assert list(ours.index) == list(expected.index)
    assert list(ours["t_end"]) == list(expected["t_end"])
    numbers = [name for name in expected.columns if name != "t_end"]
    np.testing.assert_allclose(ours[numbers].to_numpy(float), expected[numbers].to_numpy(float), atol=1e-12)


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 999),
    side=st.sampled_from(["long", "short"]),
    near=st.sampled_from([0.2, 0.8]),
    far=st.sampled_from([0.9, 2.0]),
    horizon=st.integers(1, 15),
)
def test_equal_to_the_definition_on_random_bars(seed, side, near, far, horizon) -> None:
    bars = rough_bars(600, seed=seed).iloc[280:400]
    same(profit_zone(bars, side, near, far, "atr", horizon, 6), slow(bars, side, near, far, "atr", horizon, 6))


def test_equal_to_the_definition_on_real_bars_with_every_way_out() -> None:
    bars = eurusd().iloc[:800]
    ours = profit_zone(bars, "long", 1.0, 2.0, "volatility", 24, 24)
    same(ours, slow(bars, "long", 1.0, 2.0, "volatility", 24, 24))
    assert set(ours["value"]) == {0.0, 1.0}
    assert set(ours["left"].dropna()) == {-1.0, 0.0, 1.0}


def test_a_gap_over_the_zone_is_paid_at_the_open_and_a_close_short_of_it_ends_the_visit() -> None:
    gap = profit_zone(bars_of((100, 100, 100, 100), (100, 100.5, 99, 100), (105, 106, 104, 105)), unit="fixed").iloc[0]
    assert (gap["left"], gap["entered_bars"], gap["outcome"]) == (1.0, 2.0, pytest.approx(0.05))
    back = bars_of((100, 100, 100, 100), (100, 101.5, 99, 101.2), (101, 101.5, 100, 100.5), (101, 103, 101, 103))
    visit = profit_zone(back, unit="fixed").iloc[0]
    assert (visit["left"], visit["left_bars"], visit["t_end"]) == (-1.0, 2.0, back["close_ts"].iloc[2])


def test_neighbouring_zones_hang_together() -> None:
    bars = eurusd().iloc[:500]
    wide = profit_zones(bars, (0.5, 1.0, 2.0), horizon=12)
    both = wide.dropna(subset=["entered_1", "entered_2"])
    assert (both["entered_1"] >= both["entered_2"]).all(), "a farther zone is entered through the nearer one"
    assert (both["left_1"][both["left_1"] == 1] == 1).any()
    assert wide["t_end_1"].iloc[-1] is pd.NaT
    for wrong in ((1.0,), (1.0, 1.0), (2.0, 1.0)):
        with pytest.raises(ConfigurationError, match="must be two or more, and rise"):
            profit_zones(bars, wrong)
    with pytest.raises(ConfigurationError, match="not beyond near"):
        profit_zone(bars, near=2.0, far=2.0)
