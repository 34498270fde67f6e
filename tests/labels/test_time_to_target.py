"""Waits for a target against the definition, and the survival curve against statsmodels."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tapeline.core.errors import DataError
from tapeline.labels.barrier_unit import unit_width
from tapeline.labels.time_to_target import survival_curve, survival_table, time_to_target
from tests.core.samples import eurusd, rough_bars
from tests.labels.test_outcomes import bars_of


def slow(bars: pd.DataFrame, side: str, target: float, stop: float, horizon: int, window: int, to_the_end: bool):
    width = unit_width(bars, "atr", window)
    rows = list(bars[["open", "high", "low", "close"]].itertuples(index=False, name=None))
    sign = 1 if side == "long" else -1
    found = []
    for t in range(len(rows) - 1):
        if not width[t] > 0:
            continue
        entry = rows[t + 1][0]
        # In the position's own returns, so that long and short are one case.
        for j in range(t + 1, min(t + horizon, len(rows) - 1) + 1):
            opened, high, low, close = (sign * (price / entry - 1) for price in rows[j])
            best, worst = max(high, low), min(high, low)
            good, bad = target * width[t], -stop * width[t] if stop else -np.inf
            if opened >= good - 1e-15:
                event, outcome = 1, opened
            elif opened <= bad:
                event, outcome = -1, opened
            elif best >= good - 1e-15 and worst <= bad + 1e-15:
                event, outcome = 2, bad
            elif best >= good - 1e-15:
                event, outcome = 1, good
            elif worst <= bad + 1e-15:
                event, outcome = -1, bad
            elif j == t + horizon or (to_the_end and j == len(rows) - 1):
                event, outcome = 0, close
            else:
                continue
            minutes = (bars["close_ts"].iloc[j] - bars["close_ts"].iloc[t]).total_seconds() / 60
            found.append((bars.index[t], j - t, bars["close_ts"].iloc[j], outcome, minutes, event))
            break
    return pd.DataFrame(found, columns=["ts", "value", "t_end", "outcome", "minutes", "event"]).set_index("ts")


def same(ours: pd.DataFrame, expected: pd.DataFrame) -> None:
    assert list(ours.index) == list(expected.index)
    assert list(ours["t_end"]) == list(expected["t_end"])
    numbers = ["value", "outcome", "minutes", "event"]
    np.testing.assert_allclose(ours[numbers].to_numpy(float), expected[numbers].to_numpy(float), atol=1e-12)


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 999),
    side=st.sampled_from(["long", "short"]),
    target=st.sampled_from([0.3, 1.1]),
    stop=st.sampled_from([0.0, 0.4, 1.3]),
    horizon=st.integers(1, 12),
)
def test_equal_to_the_definition_on_random_bars(seed, side, target, stop, horizon) -> None:
    bars = rough_bars(600, seed=seed).iloc[280:400]
    same(time_to_target(bars, side, target, stop, "atr", horizon, 6), slow(bars, side, target, stop, horizon, 6, False))
    table = survival_table(bars, side=side, target=target, stop=stop, horizon=horizon, volatility_window=6)
    same(table, slow(bars, side, target, stop, horizon, 6, True))


def test_real_bars_have_every_event_and_minutes_count_the_weekend() -> None:
    bars = eurusd().iloc[:2000]
    ours = time_to_target(bars, "long", 0.7, 0.7, "atr", 8)
    same(ours, slow(bars, "long", 0.7, 0.7, 8, 24, False))
    assert set(ours["event"]) == {-1.0, 0.0, 1.0, 2.0}
    assert (ours["minutes"] >= 60 * ours["value"]).all()
    assert (ours["minutes"] > 2880).any()


def test_a_bar_with_both_is_an_event_of_its_own() -> None:
    found = time_to_target(bars_of((100, 100, 100, 100), (100, 102, 98, 100)), "long", 1.0, 1.0, "fixed", 3).iloc[0]
    assert (found["event"], found["outcome"]) == (2.0, pytest.approx(-0.01))


def test_the_last_waits_are_censored_and_no_labels() -> None:
    bars = eurusd().iloc[:300]
    labels, table = time_to_target(bars, target=3.0, horizon=50), survival_table(bars, target=3.0, horizon=50)
    assert 0 < len(table) - len(labels) <= 49
    more = table.loc[table.index.difference(labels.index)]
    assert (more["event"] == 0).all()
    assert (more["t_end"] == bars["close_ts"].iloc[-1]).all()


def test_the_survival_curve_is_that_of_statsmodels() -> None:
    from statsmodels.duration.survfunc import SurvfuncRight

    waits = time_to_target(eurusd().iloc[:1500], "long", 1.5, 1.0, "atr", 24)
    ours = survival_curve(waits["value"], waits["event"])
    theirs = SurvfuncRight(waits["value"], (waits["event"] == 1).astype(int))
    np.testing.assert_allclose(ours["survival"], theirs.surv_prob, atol=1e-12)
    np.testing.assert_allclose(ours["error"], theirs.surv_prob_se, atol=1e-12)
    np.testing.assert_array_equal(ours["at_risk"], theirs.n_risk)


def test_the_survival_curve_on_a_published_trial() -> None:
    """Remission times of the 6-MP arm of Freireich et al. (1963), the textbook case: 0.857 at 6, 0.448 at 23 weeks."""
    weeks = [6, 6, 6, 7, 10, 13, 16, 22, 23, 6, 9, 10, 11, 17, 19, 20, 25, 32, 32, 34, 35]
    events = [1] * 9 + [0] * 12
    curve = survival_curve(weeks, events)["survival"].round(4)
    assert curve.to_dict() == {6: 0.8571, 7: 0.8067, 10: 0.7529, 13: 0.6902, 16: 0.6275, 22: 0.5378, 23: 0.4482}


def test_what_a_survival_curve_cannot_take() -> None:
    with pytest.raises(DataError, match="2 durations for 1 events"):
        survival_curve([1, 2], [1])
    for wrong in (0.0, -1.0, np.nan, np.inf):
        with pytest.raises(DataError, match="not positive and finite"):
            survival_curve([1.0, wrong], [1, 1])
