"""Hedge against its slow form and its bound; adaptive weights against what they promise."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tapeline.cleaning.signal_weights import (
    adaptive_weights,
    combine,
    hedge_regret_bound,
    hedge_weights,
    regret,
)
from tapeline.core.errors import ConfigurationError, DataError
from tests.core.samples import eurusd

LOSSES = st.integers(1, 6).flatmap(
    lambda experts: st.integers(1, 60).flatmap(
        lambda rounds: arrays(float, (rounds, experts), elements=st.floats(0, 1))
    )
)


@settings(max_examples=150, deadline=None)
@given(losses=LOSSES, rate=st.one_of(st.none(), st.floats(0.01, 5.0)))
def test_the_regret_never_exceeds_its_bound(losses, rate) -> None:
    weights = hedge_weights(losses, rate=rate)
    np.testing.assert_allclose(weights.sum(axis=1), 1.0, rtol=1e-12)
    assert (weights >= 0).all()
    assert regret(losses, weights) <= hedge_regret_bound(*losses.shape, rate) + 1e-9


@pytest.mark.parametrize("rate", [None, 0.7])
def test_an_adversary_gets_near_the_bound_and_not_beyond(rate) -> None:
    """Losses that always hit the current leader: the worst a learner can meet."""
    losses = np.zeros((400, 2))
    totals = np.zeros(2)
    for row in losses:
        row[np.argmin(totals)] = 1.0
        totals += row
    found, bound = regret(losses, hedge_weights(losses, rate=rate)), hedge_regret_bound(400, 2, rate)
    assert 0.05 * bound < found <= bound


@settings(max_examples=50, deadline=None)
@given(losses=LOSSES, decay=st.floats(0.5, 1.0))
def test_hedge_is_the_slow_form(losses, decay) -> None:
    rounds = len(losses)
    weights = hedge_weights(losses, rate=0.8, decay=decay)
    for t in range(rounds):
        aged = losses[: t + 1] * decay ** np.arange(t, -1, -1)[:, None]
        expected = np.exp(-0.8 * aged.sum(axis=0))
        np.testing.assert_allclose(weights[t], expected / expected.sum(), rtol=1e-9)


def test_an_absent_expert_keeps_its_standing() -> None:
    losses = np.array([[0.2, 0.8, 0.5], [0.9, np.nan, 0.1], [0.9, np.nan, 0.1]])
    weights = hedge_weights(losses, rate=1.0)
    mixed = (weights[0][[0, 2]] @ losses[1][[0, 2]]) / weights[0][[0, 2]].sum()
    expected = weights[0] * np.exp(-np.array([0.9, mixed, 0.1]))
    np.testing.assert_allclose(weights[1], expected / expected.sum(), rtol=1e-12)


@pytest.fixture(scope="module")
def outcomes() -> pd.Series:
    return np.log(eurusd()["close"].head(3000)).diff().fillna(0.0)


def random_signals(outcomes: pd.Series, count: int, seed: int = 0) -> pd.DataFrame:
    values = np.random.default_rng(seed).uniform(-1, 1, (len(outcomes), count))
    return pd.DataFrame(values, outcomes.index, [f"s{k}" for k in range(count)])


def test_skill_is_found_and_lost_again(outcomes) -> None:
    """The leader changes half way: the weights must follow within the memory."""
    signals = random_signals(outcomes, 4)
    ahead = np.sign(outcomes.shift(-1, fill_value=0.0))
    hit = np.random.default_rng(1).uniform(size=len(outcomes)) < 0.7
    skilled = np.where(hit, ahead, -ahead)
    half = len(outcomes) // 2
    signals.iloc[:half, 0] = skilled[:half]
    signals.iloc[half:, 1] = skilled[half:]
    weights = adaptive_weights(signals, outcomes, memory=200, rate=3.0)
    np.testing.assert_allclose(weights.sum(axis=1), 1.0, rtol=1e-12)
    assert weights["s0"].iloc[half - 500 : half].mean() > 0.4
    assert weights["s1"].iloc[-500:].mean() > 0.4
    earned = (combine(signals, weights).shift() * outcomes).sum()
    assert earned > (signals.mean(axis=1).shift() * outcomes).sum()


def test_copies_share_the_weight_of_one(outcomes) -> None:
    signals = random_signals(outcomes, 2)
    doubled = signals.assign(copy=signals["s0"])
    weights = adaptive_weights(doubled, outcomes, rate=0.0, risk=0.0, memory=1000).iloc[-1]
    assert weights["s0"] == pytest.approx(weights["copy"], rel=1e-12)
    assert weights["s0"] + weights["copy"] == pytest.approx(0.5, abs=0.02)


def test_the_wilder_signal_weighs_less(outcomes) -> None:
    signals = random_signals(outcomes, 1).assign(calm=lambda s: np.random.default_rng(5).uniform(-0.5, 0.5, len(s)))
    weights = adaptive_weights(signals, outcomes, rate=0.0, memory=1000).iloc[-1]
    assert weights["calm"] / weights["s0"] == pytest.approx(2.0, rel=0.15)
    even = adaptive_weights(signals, outcomes, rate=0.0, risk=0.0, memory=1000).iloc[-1]
    assert even["calm"] == pytest.approx(0.5, abs=0.03)


def test_weights_know_no_future(outcomes) -> None:
    signals = random_signals(outcomes.head(400), 3)
    signals.iloc[50:80, 1] = np.nan
    part = outcomes.head(400)
    full = adaptive_weights(signals, part, memory=50)
    for cut in (1, 2, 60, 250):
        other, later = signals.copy(), part.copy()
        other.iloc[cut:] = -other.iloc[cut:]
        later.iloc[cut:] *= 10.0
        pd.testing.assert_frame_equal(adaptive_weights(other, later, memory=50).iloc[:cut], full.iloc[:cut])
        pd.testing.assert_frame_equal(adaptive_weights(signals.iloc[:cut], part.iloc[:cut], memory=50), full.iloc[:cut])
    changed = part.copy()
    changed.iloc[250] *= -20.0
    assert not np.allclose(adaptive_weights(signals, changed, memory=50).iloc[250], full.iloc[250]), (
        "known at its close"
    )


def test_missing_signals_and_outcomes(outcomes) -> None:
    part = outcomes.head(300).mask(np.arange(300) == 100)
    signals = random_signals(part, 3)
    signals.iloc[50:80, 1] = np.nan
    signals.iloc[200:203] = np.nan
    weights = adaptive_weights(signals, part, memory=50)
    assert (weights.iloc[50:80]["s1"] == 0).all()
    assert weights.iloc[200:203].isna().all(axis=None)
    np.testing.assert_allclose(weights.drop(weights.index[200:203]).sum(axis=1), 1.0, rtol=1e-12)
    assert combine(signals, weights).isna().sum() == 3
    single = adaptive_weights(signals[["s0"]], part)
    assert (single["s0"].dropna() == 1.0).all()
    # The same signals in another unit of return have the same weights.
    pd.testing.assert_frame_equal(adaptive_weights(signals, part * 1024.0, memory=50), weights)


def test_what_cannot_be_weighed_is_refused(outcomes) -> None:
    signals = random_signals(outcomes, 2)
    with pytest.raises(DataError, match=r"'s1' is 2\.0 at row 7"):
        adaptive_weights(signals.assign(s1=signals["s1"].mask(np.arange(len(signals)) == 7, 2.0)), outcomes)
    with pytest.raises(DataError, match="indexes"):
        adaptive_weights(signals, outcomes.iloc[1:])
    with pytest.raises(DataError, match="round 0, expert 1"):
        hedge_weights(np.array([[0.5, 1.5]]))
    with pytest.raises(DataError, match="shape"):
        hedge_weights(np.ones(3))
    for wrong in ({"memory": 1}, {"rate": -1.0}, {"risk": float("nan")}):
        with pytest.raises(ConfigurationError, match=next(iter(wrong))):
            adaptive_weights(signals, outcomes, **wrong)
    with pytest.raises(ConfigurationError, match="decay"):
        hedge_weights(np.ones((2, 2)), decay=1.5)
