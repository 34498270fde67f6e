"""The selector follows what a readable loop follows, changes only where it pays, and knows nothing of the future."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from tapeline.core.errors import DataError
from tapeline.strategy.strategy_selector import (
    Selection,
    SelectorSettings,
    SelectorStream,
    select_strategies,
    selected_returns,
)
from tests.quality.batches import sample_bars


def weighted(values, half_life):
    """Weights, their effective number, mean and unbiased variance of values, the newest last."""
    weights = [0.5 ** ((len(values) - 1 - place) / half_life) for place in range(len(values))]
    total, squares = sum(weights), sum(one * one for one in weights)
    if not values:
        return 0.0, 0.0, 0.0
    mean = sum(w * v for w, v in zip(weights, values, strict=True)) / total
    spread = sum(w * (v - mean) ** 2 for w, v in zip(weights, values, strict=True))
    degrees = total - squares / total
    return total * total / squares, mean, spread / degrees if degrees > 1e-9 else math.nan


def oracle(returns, regimes, settings):
    """Skill from the whole past at every bar, by the words of the page."""
    current, since, path, skills = None, 0, [], []
    names = list(returns.columns)
    for row in range(len(returns)):
        skill = {}
        for name in names:
            past = [(returns[name].iloc[at], regimes[at - 1] if at else None) for at in range(row + 1)]
            past = [(value, regime) for value, regime in past if not math.isnan(value)]
            bars, mean, variance = weighted([value for value, _ in past], settings.half_life)
            if not past or math.isnan(variance):
                skill[name] = (math.nan, math.nan, bars)
                continue
            expected = bars * mean / (bars + settings.prior_bars)
            strength = bars + settings.prior_bars
            if regimes[row] is not None:
                here, own, _ = weighted([value for value, regime in past if regime == regimes[row]], settings.half_life)
                prior = min(settings.regime_prior_bars, strength)
                if here + prior > 0:
                    expected = (here * own + prior * expected) / (here + prior)
                    strength = here + prior
            skill[name] = (expected, math.sqrt(variance / strength), bars)
        since += 1
        now = skill[current] if current else (0.0, 0.0, 0)
        options = []
        for name in [None, *names]:
            if name == current or (name is None and not settings.may_stand_aside):
                continue
            if name and (math.isnan(skill[name][0]) or skill[name][2] < settings.minimum_bars):
                continue
            other = skill[name] if name else (0.0, 0.0, 0)
            doubt = settings.caution * math.hypot(other[1], now[1])
            gain = settings.horizon * (other[0] - now[0] - doubt)
            cost = settings.switching_cost * (0.5 if name is None or current is None else 1)
            options.append((gain - cost, name, gain))
        best = max(options, key=lambda one: one[0]) if options else None
        forced = best and current is None and not settings.may_stand_aside
        if forced or (best and best[0] > settings.margin and since > settings.minimum_hold):
            current, since = best[1], 0
        path.append(current)
        skills.append([skill[name][0] for name in names])
    return path, np.array(skills)


def made(rows=260, seed=0):
    generator = np.random.default_rng(seed)
    regimes = [["calm", "wild", None][one] for one in generator.choice(3, rows, p=[0.5, 0.4, 0.1])]
    regimes = [regimes[row // 20 * 20] for row in range(rows)]
    frame = pd.DataFrame(generator.normal(0, 0.004, (rows, 3)), columns=["trend", "fade", "carry"])
    earned_in = pd.Series(regimes).shift()
    frame["trend"] += np.where(earned_in == "wild", 0.004, -0.002)
    frame["fade"] += np.where(earned_in == "calm", 0.003, -0.003)
    frame = frame.mask(generator.random(frame.shape) < 0.05)
    frame.index = pd.date_range("2017-01-02", periods=rows, freq="1h", tz="UTC", name="ts")
    return frame, regimes


VARIANTS = [
    SelectorSettings(half_life=60, prior_bars=20, regime_prior_bars=10),
    SelectorSettings(half_life=30, prior_bars=0, regime_prior_bars=0, caution=0, minimum_hold=7, minimum_bars=5),
    SelectorSettings(half_life=90, may_stand_aside=False, margin=0.01, switching_cost=0.002, horizon=40),
]


@pytest.mark.parametrize("settings", VARIANTS, ids=("shrunk", "bare", "never aside"))
def test_the_choice_is_that_of_the_oracle_and_of_the_stream(settings) -> None:
    returns, regimes = made(140)
    found = select_strategies(returns, settings, regimes=pd.Series(regimes, index=returns.index))
    path, skills = oracle(returns, regimes, settings)
    chosen = [None if pd.isna(one) else one for one in found.path["strategy"]]
    assert chosen == path
    np.testing.assert_allclose(found.skill.to_numpy(), skills, rtol=1e-9, atol=1e-15)
    assert len(set(path)) >= 3
    stream = SelectorStream(tuple(returns.columns), settings)
    for row, (earned, regime) in enumerate(zip(returns.to_dict("records"), regimes, strict=True)):
        assert stream.push(earned, regime) == path[row]
        np.testing.assert_array_equal(stream.skill, found.skill.to_numpy()[row])
        np.testing.assert_array_equal(stream.error, found.error.to_numpy()[row])


def test_the_future_changes_nothing() -> None:
    returns, regimes = made()
    series = pd.Series(regimes, index=returns.index)
    whole = select_strategies(returns, VARIANTS[0], regimes=series)
    differs = 0
    for cut in (1, 40, 41, 100, 200):
        other, words = returns.copy(), series.copy()
        other.iloc[cut:] *= -3
        words.iloc[cut:] = "unheard of"
        again = select_strategies(other, VARIANTS[0], regimes=words)
        pd.testing.assert_frame_equal(again.path[:cut], whole.path[:cut])
        pd.testing.assert_frame_equal(again.skill[:cut], whole.skill[:cut])
        differs += not again.path.equals(whole.path)
    assert differs == 5


def test_a_regime_is_followed_by_the_strategy_that_earns_in_it() -> None:
    returns, regimes = made(2_000)
    settings = SelectorSettings(half_life=400, horizon=20)
    found = select_strategies(returns, settings, regimes=pd.Series(regimes, index=returns.index))
    late = found.path["strategy"].iloc[1_000:]
    words = pd.Series(regimes, index=returns.index).iloc[1_000:]
    assert (late[words == "wild"] == "trend").mean() > 0.9
    assert (late[words == "calm"] == "fade").mean() > 0.9
    blind = select_strategies(returns, settings)
    earned = selected_returns(returns, found, settings).sum()
    assert earned > 2 * selected_returns(returns, blind, settings).sum()


def test_what_a_change_costs_holds_it_back() -> None:
    returns, regimes = made(1_000)
    series = pd.Series(regimes, index=returns.index)
    changes = [
        int(select_strategies(returns, SelectorSettings(half_life=60, **given), regimes=series).path["switched"].sum())
        for given in (
            {"switching_cost": 0.0, "caution": 0.0},
            {"switching_cost": 0.05, "caution": 0.0},
            {"switching_cost": 0.05, "caution": 0.0, "margin": 0.2},
            {"switching_cost": 10.0},
        )
    ]
    assert changes[0] > changes[1] > changes[2] > changes[3] == 0


def test_a_change_is_paid_in_the_bar_after_its_close() -> None:
    returns = pd.DataFrame({"a": [0.01, 0.01, 0.01, 0.01, 0.01], "b": [0.0, 0.0, 0.02, 0.0, 0.02]})
    path = pd.DataFrame({"strategy": ["a", "b", "b", None, None]})
    earned = selected_returns(returns, Selection(path, returns, returns), SelectorSettings(switching_cost=0.004))
    np.testing.assert_allclose(earned, [0.0, 0.01 - 0.002, 0.02 - 0.004, 0.0, -0.002], atol=1e-15)


def test_what_is_wrong_is_refused() -> None:
    with pytest.raises(DataError, match="infinite"):
        select_strategies(pd.DataFrame({"a": [math.inf]}))
    with pytest.raises(DataError, match="stands twice"):
        select_strategies(pd.DataFrame([[0.0, 0.0]], columns=["a", "a"]))
    with pytest.raises(DataError, match="not at the times"):
        select_strategies(pd.DataFrame({"a": [0.0]}), regimes=pd.Series(["x"], index=[5]))


def test_simple_strategies_on_real_bars() -> None:
    close = sample_bars()["close"]
    change = close.pct_change().fillna(0.0)
    trend = np.sign(close.rolling(24).mean() - close.rolling(120).mean()).shift().fillna(0.0)
    returns = pd.DataFrame({"long": change, "trend": trend * change, "fade": -trend * change})
    spread = change.rolling(48).std()
    regimes = pd.Series(np.where(spread > spread.rolling(500).median(), "wild", "calm"), index=close.index)
    free, dear = SelectorSettings(caution=0.0, switching_cost=0.0), SelectorSettings(caution=0.0, switching_cost=0.01)
    often, seldom = (select_strategies(returns, one, regimes=regimes) for one in (free, dear))
    assert often.path["switched"].sum() > 2 * seldom.path["switched"].sum() > 0
    # With its own cost taken off, changing at will is worth less than it looks.
    assert selected_returns(returns, often, dear).sum() < selected_returns(returns, seldom, dear).sum()
