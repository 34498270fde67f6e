"""Regret stays within its bound on sequences made to break it; streams give the bits of the history; nothing peeks."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tapeline.core.errors import ConfigurationError, DataError
from tapeline.strategy.online_allocation import (
    AllocationStream,
    ChoiceStream,
    Exp3,
    FixedShare,
    Hedge,
    Thompson,
    UpperConfidence,
    allocate,
    allocated_returns,
    choose,
    losses_of_returns,
    regret,
)
from tests.quality.batches import sample_bars

ROUNDS, COUNT = 400, 5
FULL = [Hedge(), Hedge(horizon=ROUNDS), Hedge(rate=0.3), FixedShare(horizon=ROUNDS, switches=4)]
PARTIAL = [
    Exp3(horizon=ROUNDS),
    Exp3(horizon=ROUNDS, share=0.01),
    UpperConfidence(),
    Thompson(),
    Thompson(discount=0.9),
]


def sequences():
    """Losses that are hard for a learner: the leader is struck, the best changes, all are random, one is perfect."""
    generator = np.random.default_rng(0)
    turns = np.ones((ROUNDS, COUNT))
    turns[np.arange(ROUNDS), np.arange(ROUNDS) * COUNT // ROUNDS] = 0.0
    coins = generator.integers(0, 2, (ROUNDS, COUNT)).astype(float)
    alternating = np.zeros((ROUNDS, COUNT))
    alternating[0::2, 0], alternating[1::2, 1:] = 1.0, 1.0
    perfect = np.ones((ROUNDS, COUNT))
    perfect[:, 3] = 0.0
    return {"turns": turns, "coins": coins, "alternating": alternating, "perfect": perfect}


def struck_leader(method):
    """An adversary that sees the weights and takes all from the heaviest strategy."""
    stream, losses = AllocationStream(method, COUNT), np.zeros((ROUNDS, COUNT))
    for row in range(ROUNDS):
        losses[row, stream.weights.argmax()] = 1.0
        stream.update(losses[row])
    return losses


def best_sequence(losses, switches):
    """The least loss of a sequence of strategies with at most so many switches, by dynamic programming."""
    best = np.full((switches + 1, losses.shape[1]), np.inf)
    best[0] = 0.0
    for row in losses:
        moved = best.copy()
        moved[1:] = np.minimum(moved[1:], best[:-1].min(axis=1)[:, None])
        best = moved + row
    return best.min()


def test_weights_are_those_of_the_textbook() -> None:
    losses = np.random.default_rng(1).random((50, 3))
    for method, rate in ((Hedge(rate=0.7), lambda t: 0.7), (Hedge(), lambda t: 2 * math.sqrt(math.log(3) / t))):
        for row, weights in enumerate(allocate(losses, method)):
            raw = [math.exp(-rate(row + 1) * sum(losses[:row, one])) for one in range(3)]
            np.testing.assert_allclose(weights, np.array(raw) / sum(raw), rtol=1e-12)
    method = FixedShare(horizon=50, switches=5)
    _, rate, share = method.compiled(3)
    shares = [1 / 3] * 3
    for weights, loss in zip(allocate(losses, method), losses, strict=True):
        np.testing.assert_allclose(weights, shares, rtol=1e-12)
        posterior = [one * math.exp(-rate * lost) for one, lost in zip(shares, loss, strict=True)]
        shares = [(1 - share) * one / sum(posterior) + share / 3 for one in posterior]


@pytest.mark.parametrize("method", FULL[:3], ids=str)
def test_hedge_never_loses_more_than_its_bound(method) -> None:
    assert Hedge(horizon=ROUNDS).bound(COUNT, ROUNDS) == pytest.approx(math.sqrt(ROUNDS * math.log(COUNT) / 2))
    closest = 0.0
    for losses in [*sequences().values(), struck_leader(method)]:
        suffered = regret(losses, allocate(losses, method))
        bounds = [method.bound(COUNT, rounds) for rounds in range(1, ROUNDS + 1)]
        assert (suffered <= np.array(bounds) + 1e-9).all()
        closest = max(closest, suffered[-1] / bounds[-1])
    # The bound is no empty one: an adversary comes near it.
    assert closest > 0.3


@given(hnp.arrays(np.float64, (30, 4), elements=st.sampled_from([0.0, 0.25, 1.0])))
@settings(max_examples=60, deadline=None)
def test_no_sequence_breaks_the_bounds(losses) -> None:
    for method in (Hedge(), Hedge(horizon=30)):
        assert regret(losses, allocate(losses, method))[-1] <= method.bound(4, 30) + 1e-9
    method = FixedShare(horizon=30, switches=2)
    paid = (losses * allocate(losses, method)).sum()
    for switches in (0, 1, 2, 5):
        assert paid - best_sequence(losses, switches) <= method.bound(4, 30, switches) + 1e-9


def test_fixed_share_follows_a_best_strategy_that_changes() -> None:
    losses = sequences()["turns"]
    sharing, hedge = (allocate(losses, one) for one in (FULL[3], Hedge(horizon=ROUNDS)))
    paid = (losses * sharing).sum()
    assert paid - best_sequence(losses, 4) <= FULL[3].bound(COUNT, ROUNDS)
    assert paid < 0.4 * (losses * hedge).sum()


def test_exp3_stays_within_its_bound_in_the_mean() -> None:
    method = Exp3(horizon=2_000)
    generator = np.random.default_rng(3)
    hard = np.clip(generator.random((2_000, 4)) + np.array([0.0, 0.0, 0.0, -0.2]), 0, 1)
    turned = np.where(np.arange(2_000)[:, None] < 900, hard, hard[:, ::-1])
    for losses in (hard, turned):
        paid = [losses[np.arange(2_000), choose(losses, method, seed=seed)[0]].sum() for seed in range(20)]
        mean, error = np.mean(paid), np.std(paid) / math.sqrt(20)
        suffered = mean - losses.sum(axis=0).min()
        assert suffered + 3 * error <= method.bound(4, 2_000)
        assert suffered < losses.sum(axis=0).mean() - losses.sum(axis=0).min()


def test_ucb_and_thompson_find_the_best_arm() -> None:
    means = np.array([0.5, 0.7, 0.3])
    suffered = {"ucb": [], "thompson": []}
    for seed in range(10):
        rewards = (np.random.default_rng(100 + seed).random((1_500, 3)) < means).astype(float)
        for name, method in (("ucb", UpperConfidence()), ("thompson", Thompson())):
            chosen, _ = choose(1 - rewards, method, seed=seed)
            suffered[name].append((0.7 - means[chosen]).sum())
    assert np.mean(suffered["ucb"]) <= UpperConfidence.bound(means, 1_500)
    uniform = 1_500 * (0.7 - means.mean())
    assert np.mean(suffered["ucb"]) < 0.6 * uniform
    assert np.mean(suffered["thompson"]) < 0.4 * uniform


def test_what_forgets_follows_a_drift() -> None:
    losses = np.full((2_000, 3), 0.8)
    losses[:1_000, 0], losses[1_000:, 0], losses[1_000:, 2] = 0.1, 0.3, 0.0
    for remembering, forgetting in (
        (Exp3(horizon=2_000), Exp3(horizon=2_000, share=0.001)),
        (UpperConfidence(width=0.1), UpperConfidence(width=0.1, discount=0.98)),
        (Thompson(), Thompson(discount=0.98)),
    ):
        late = [
            np.mean([(choose(losses, one, seed=seed)[0][1_400:] == 2).mean() for seed in range(5)])
            for one in (remembering, forgetting)
        ]
        assert late[1] > late[0]
        assert late[1] > 0.45


@pytest.mark.parametrize("method", [*FULL, *PARTIAL], ids=str)
def test_a_stream_gives_the_bits_of_the_history_and_the_future_changes_nothing(method) -> None:
    losses = np.random.default_rng(7).random((150, 3))
    changed = losses.copy()
    changed[100:] = 1 - changed[100:]
    if method in FULL:
        whole = allocate(losses, method)
        stream = AllocationStream(method, 3)
        for weights, loss in zip(whole, losses, strict=True):
            np.testing.assert_array_equal(stream.weights, weights)
            stream.update(loss)
        other = allocate(changed, method)
        np.testing.assert_array_equal(other[:101], whole[:101])
        assert not np.array_equal(other[101:], whole[101:])
        return
    whole, _ = choose(losses, method, seed=3)
    stream = ChoiceStream(method, 3, seed=3)
    for taken, loss in zip(whole, losses, strict=True):
        assert stream.choose() == stream.choose() == taken
        stream.update(loss[taken])
    np.testing.assert_array_equal(choose(changed, method, seed=3)[0][:101], whole[:101])
    # The losses of what was not taken are never read.
    hidden = np.ones_like(losses)
    hidden[np.arange(150), whole] = losses[np.arange(150), whole]
    np.testing.assert_array_equal(choose(hidden, method, seed=3)[0], whole)


def test_what_is_wrong_is_refused() -> None:
    with pytest.raises(DataError, match="in \\[0, 1\\]"):
        allocate([[0.5, 1.2]], Hedge())
    with pytest.raises(DataError, match="missing"):
        losses_of_returns([[0.1, math.nan]], -1, 1)
    with pytest.raises(ConfigurationError, match="empty"):
        losses_of_returns([[0.1]], 1, 1)
    with pytest.raises(ConfigurationError, match="not below"):
        allocate([[0.5, 1.0]], FixedShare(horizon=3, switches=3))
    with pytest.raises(DataError, match="before a strategy was chosen"):
        ChoiceStream(Thompson(), 2, seed=0).update(0.5)
    with pytest.raises(DataError, match="given for 2"):
        AllocationStream(Hedge(), 2).update([0.1, 0.2, 0.3])


def test_simple_strategies_on_real_bars() -> None:
    close = sample_bars()["close"]
    change = close.pct_change().fillna(0.0)
    trend = np.sign(close.rolling(24).mean() - close.rolling(120).mean()).shift().fillna(0.0)
    returns = pd.DataFrame({"long": change, "trend": trend * change, "fade": -trend * change, "flat": 0.0 * change})
    losses = losses_of_returns(returns, -0.005, 0.005)
    assert losses.clipped < 0.01 * returns.size
    weights = allocate(losses.values, Hedge())
    suffered = regret(losses.values, weights)[-1]
    assert suffered <= Hedge().bound(4, len(returns))
    earned = allocated_returns(returns, weights)
    # Regret in losses is what was missed in returns over the width of the range, but for what was clipped.
    cut = returns.clip(-0.005, 0.005)
    missed = (cut.sum().max() - (weights * cut.to_numpy()).sum()) / 0.01
    assert missed == pytest.approx(suffered, abs=1e-9)
    assert earned.sum() > returns.sum().min()
    assert allocated_returns(returns, weights, cost=1e-3).sum() < earned.sum()
