"""Turning points: the definition written out, and the classical walk along a zigzag."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tapeline.core.registry import Catalog
from tapeline.labels.reversal_point import directional_reversal, zigzag_reversal
from tests.core.samples import eurusd, rough_bars
from tests.labels.test_outcomes import bars_of


def classical(closes: np.ndarray, size: float) -> list[tuple[int, int, int]]:
    """The textbook walk: (row of the extreme, -1 peak or 1 trough, row of its confirmation), first extreme left out."""
    step = 1 + size / 100
    low = high = 0
    leg, found = 0, []
    for row in range(1, closes.size):
        if leg >= 0 and closes[row] > closes[high]:
            high = row
        if leg <= 0 and closes[row] < closes[low]:
            low = row
        if leg >= 0 and np.log(closes[row]) <= np.log(closes[high]) - np.log(step):
            found.append((high, -1, row))
            leg, low = -1, row
        elif leg <= 0 and np.log(closes[row]) >= np.log(closes[low]) + np.log(step):
            found.append((low, 1, row))
            leg, high = 1, row
    return found[1:]


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 9999), size=st.sampled_from([0.05, 0.2, 0.5]))
def test_directional_changes_are_the_classical_walk(seed, size) -> None:
    bars = rough_bars(600, seed=seed).iloc[100:400]
    ours = directional_reversal(bars, size, horizon=1000)
    points = ours[ours["value"] != 0]
    walked = classical(bars["close"].to_numpy(), size)
    assert list(points.index) == [bars.index[row] for row, _, _ in walked]
    assert points["value"].tolist() == [side for _, side, _ in walked]
    assert list(points["t_end"]) == [bars["close_ts"].iloc[row] for _, _, row in walked]
    # Each leg runs from the turning point before it.
    closes = bars["close"].to_numpy()
    legs = [np.log(closes[b[0]] / closes[a[0]]) for a, b in pairwise(walked)]
    np.testing.assert_allclose(points["leg"].to_numpy()[1:], legs, atol=1e-12)
    gone_on = np.exp(np.abs(legs)) / (1 + size / 100) - 1
    np.testing.assert_allclose(points["overshoot"].to_numpy()[1:], gone_on, atol=1e-12)


def test_on_real_bars_the_turning_points_alternate() -> None:
    bars = eurusd()
    ours = directional_reversal(bars, 0.5, horizon=100_000)
    walked = classical(bars["close"].to_numpy(), 0.5)
    points = ours[ours["value"] != 0]
    assert len(points) == len(walked) > 100
    assert (points["value"].diff().abs().iloc[1:] == 2).all()
    assert (points["overshoot"] >= -1e-12).all()


def meets(bars: pd.DataFrame, t: int, rows: list[int], step: float, peak: bool, later: bool) -> tuple[str, int | None]:
    """What a walk over these rows finds for a peak (or a trough, prices turned) at ``t``."""
    log = np.log(bars[["high", "low"]].to_numpy())
    far, near = (log[:, 0], log[:, 1]) if peak else (-log[:, 1], -log[:, 0])
    for j in rows:
        beyond = far[j] > far[t] if later else far[j] >= far[t]
        away = near[j] <= far[t] - np.log1p(step)
        if beyond or away:
            return ("both" if beyond and away else "beyond" if beyond else "away"), j
    return "nothing", None


def slow_zigzag(bars: pd.DataFrame, percent: float, horizon: int) -> dict:
    found, last = {}, len(bars) - 1
    for t in range(len(bars)):
        sides, known, doubtful, open_question = [], [t], False, False
        for peak in (True, False):
            back, _ = meets(bars, t, list(range(t - 1, max(t - horizon, 0) - 1, -1)), percent / 100, peak, False)
            if back in ("beyond", "nothing"):
                continue
            ahead = list(range(t + 1, min(t + horizon, last) + 1))
            then, row = meets(bars, t, ahead, percent / 100, peak, True)
            if then == "nothing" and t + horizon > last:
                open_question = True
                break
            known.append(t + horizon if row is None else row)
            if then in ("away", "both"):
                sides.append(-1.0 if peak else 1.0)
                doubtful |= "both" in (back, then)
        if open_question:
            continue
        doubtful |= len(sides) == 2
        found[bars.index[t]] = (sides[0] if sides and not doubtful else 0.0, float(doubtful), max(known))
    return found


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 9999), percent=st.sampled_from([0.1, 0.3, 0.8]), horizon=st.sampled_from([3, 10, 60]))
def test_the_zigzag_is_the_definition(seed, percent, horizon) -> None:
    bars = rough_bars(600, seed=seed).iloc[230:340]
    ours = zigzag_reversal(bars, percent, "fixed", horizon)
    expected = slow_zigzag(bars, percent, horizon)
    assert list(ours.index) == list(expected)
    for (value, doubtful, row), found in zip(expected.values(), ours.itertuples(), strict=True):
        assert (found.value, found.ambiguous) == (value, doubtful)
        assert found.t_end == bars["close_ts"].iloc[row]


def test_the_zigzag_on_real_bars_finds_both_sides() -> None:
    found = zigzag_reversal(eurusd(), 3.0)
    share = found["value"].value_counts(normalize=True)
    assert 0.005 < share[1.0] < 0.1
    assert share[-1.0] == pytest.approx(share[1.0], rel=0.2)
    legs = found.loc[found["value"] != 0, "leg"]
    assert (np.sign(legs) == -found.loc[legs.index, "value"]).all(), "a rise leads to a peak"


def test_one_bar_with_both_leaves_the_point_in_doubt() -> None:
    bars = bars_of((97, 97, 97, 97), (100, 100, 100, 100), (100, 101, 97, 99), (97, 97, 97, 97))
    found = zigzag_reversal(bars, 2.0, "fixed", 3).loc[bars.index[1]]
    assert (found["value"], found["ambiguous"], found["t_end"]) == (0.0, 1.0, bars["close_ts"].iloc[2])


def test_they_are_labels_and_no_feature_set_can_name_them() -> None:
    catalog = Catalog.discover(["tapeline.labels"])
    assert {catalog[name].kind for name in ("zigzag_reversal", "directional_reversal", "trend_scanning")} == {"label"}
    for name in catalog:
        assert catalog[name].kind == "label"
