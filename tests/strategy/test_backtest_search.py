"""The search against a walk written out in plain steps, on noise, on a planted effect, and with its future changed."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from tapeline.core.errors import ConfigurationError, DataError
from tapeline.strategy.backtest_search import BacktestSearch, SearchPlan, record_search, search_backtest
from tapeline.strategy.costs import Commission
from tapeline.strategy.search_space import ParameterRange
from tapeline.strategy.search_walk import statistic_of
from tapeline.strategy.simulator import SimulationSettings, simulate, sweep
from tapeline.strategy.slippage import FixedSlippage
from tests.core.samples import eurusd
from tests.support import make_bars

SPACE = {"fast": [3, 8, 21], "slow": [8, 20, 55], "stop": [0.001, 0.004]}
SETTINGS = SimulationSettings(
    commission=Commission(taker_bps=0.2), slippage=FixedSlippage(bps=0.1), protect_by_distance=True, lot=100.0
)
PLAN = SearchPlan(periods=96, windows=6)
SPREAD = 2e-5


def decide(bars: pd.DataFrame, fast: int, slow: int, stop: float) -> pd.DataFrame:
    close = bars["close"]
    side = np.sign(close.rolling(fast).mean() - close.rolling(slow).mean())
    return pd.DataFrame({"target": (side * 10_050).where(side != side.shift()), "stop": stop})


def crosses(bars: pd.DataFrame, fast: int, slow: int) -> np.ndarray:
    return decide(bars, fast, slow, 0.0)["target"].to_numpy()


def sensible(one) -> bool:
    return one["fast"] < one["slow"]


def run(bars: pd.DataFrame, plan: SearchPlan = PLAN) -> BacktestSearch:
    return search_backtest(bars, decide, SPACE, SETTINGS, plan, allowed=sensible, half_spread=SPREAD)


@pytest.fixture(scope="module")
def bars() -> pd.DataFrame:
    return make_bars(1500, seed=2)


@pytest.fixture(scope="module")
def found(bars) -> BacktestSearch:
    return run(bars)


def test_a_set_is_worth_what_its_simulation_says(bars, found) -> None:
    assert found.parameters == ("fast", "slow", "stop")
    assert len(found.sets) == found.trials == 12
    for row in (0, 7, 11):
        fast, slow, stop = found.sets.loc[row, ["fast", "slow", "stop"]]
        one = simulate(bars, decide(bars, int(fast), int(slow), stop), SETTINGS, half_spread=SPREAD)
        assert found.sets["return"][row] == one.equity.iloc[-1] / SETTINGS.capital - 1.0
        assert found.sets["fills"][row] == len(one.fills) > 20
        assert found.sets["commission"][row] == pytest.approx(one.fills["commission"].sum())
        peak = np.maximum.accumulate(np.r_[SETTINGS.capital, one.equity])[1:]
        assert found.sets["drawdown"][row] == pytest.approx((1 - one.equity / peak).max())
        marked = one.equity[pd.DatetimeIndex(bars["close_ts"]).isin(found.returns.index)]
        assert np.allclose(found.returns[row], np.diff(np.r_[SETTINGS.capital, marked]) / SETTINGS.capital, atol=1e-15)


def test_the_figures_are_those_of_a_sweep(bars) -> None:
    space = {"fast": [5, 9], "slow": [20, 40]}
    found = search_backtest(bars, crosses, space, SETTINGS, PLAN, half_spread=SPREAD)
    targets = np.stack([crosses(bars, fast, slow) for fast in space["fast"] for slow in space["slow"]])
    swept = sweep(bars, [targets], SETTINGS, half_spread=SPREAD)
    assert (found.sets["return"] == swept["equity"] / SETTINGS.capital - 1.0).all()
    for name in ("drawdown", "fills", "commission"):
        assert (found.sets[name] == swept[name]).all()


def test_blocks_only_bound_the_memory(bars, found) -> None:
    told = []
    again = search_backtest(
        bars,
        decide,
        SPACE,
        SETTINGS,
        PLAN.model_copy(update={"block": 5}),
        allowed=sensible,
        half_spread=SPREAD,
        progress=lambda done, count: told.append((done, count)),
    )
    assert told == [(5, 12), (10, 12), (12, 12)]
    pd.testing.assert_frame_equal(again.sets, found.sets)
    pd.testing.assert_frame_equal(again.returns, found.returns)
    assert again.study == found.study


@pytest.mark.parametrize(("train", "statistic"), [(None, "sharpe"), (2, "calmar")])
def test_the_walk_is_the_one_written_out(bars, train, statistic) -> None:
    found = run(bars, PLAN.model_copy(update={"train": train, "statistic": statistic}))
    sets = found.sets[["fast", "slow", "stop"]].to_dict("records")
    returns, size, rows = found.returns.to_numpy(), 16, len(bars)
    last_rows = [round(rows * (period + 1) / 96) - 1 for period in range(96)]
    target, stops = [math.nan] * rows, [math.nan] * rows
    before = None
    for place, window in enumerate(range(train or 1, 6)):
        begin = 0 if train is None else (window - train) * size
        values = []
        for which in range(len(sets)):
            past = returns[begin : window * size, which]
            if statistic == "sharpe":
                values.append(past.mean() / past.std(ddof=1))
            else:
                curve, peak, deepest = 0.0, 0.0, 0.0
                for one in past:
                    curve += one
                    peak = max(peak, curve)
                    deepest = max(deepest, peak - curve)
                values.append(curve / deepest)
        best = values.index(max(values))
        line = found.windows.loc[place]
        assert line["set"] == best
        assert line["train_statistic"] == pytest.approx(values[best])
        assert line["test_return"] == pytest.approx(
            (
                found.walk.equity.iloc[last_rows[(window + 1) * size - 1]]
                - found.walk.equity.iloc[last_rows[window * size - 1]]
            )
            / SETTINGS.capital
        )
        near = [
            values[other]
            for other, one in enumerate(sets)
            if sum(abs(SPACE[name].index(one[name]) - SPACE[name].index(sets[best][name])) for name in SPACE) == 1
        ]
        assert line["neighbour_mean"] == pytest.approx(sum(near) / len(near))
        seam = last_rows[window * size - 1]
        assert line["trained_until"] == bars["close_ts"].iloc[seam] <= line["tested_from"] == bars.index[seam + 1]
        own = decide(bars, **sets[best])
        for row in range(seam, rows):
            target[row], stops[row] = own["target"].iloc[row], sets[best]["stop"]
        if best != before:
            held = [value for value in own["target"].iloc[: seam + 1] if not math.isnan(value)]
            target[seam] = held[-1] if held else 0.0
        before = best
    decisions = pd.DataFrame({"target": target, "stop": stops}, index=bars.index)
    expected = simulate(bars, decisions, SETTINGS, half_spread=SPREAD)
    assert len(found.windows["set"].unique()) > 1
    assert found.walk.equity.tolist() == expected.equity.tolist()


def test_the_future_of_a_window_changes_nothing_before_it(bars, found) -> None:
    cut = int(bars.index.get_loc(found.windows["tested_from"].iloc[2]))
    changed = bars.copy()
    prices = ["open", "high", "low", "close"]
    changed.loc[changed.index[cut:], prices] = bars[prices].iloc[cut:].to_numpy()[::-1] * 1.3
    changed["high"], changed["low"] = changed[prices].max(axis=1), changed[prices].min(axis=1)
    other = run(changed)
    assert other.walk.equity.iloc[:cut].tolist() == found.walk.equity.iloc[:cut].tolist()
    assert other.walk.equity.iloc[-1] != found.walk.equity.iloc[-1]
    known = [name for name in found.windows.columns if name not in ("tested_until", "test_return")]
    pd.testing.assert_frame_equal(other.windows[known].iloc[:3], found.windows[known].iloc[:3])
    assert other.windows["test_return"].iloc[:2].tolist() == found.windows["test_return"].iloc[:2].tolist()


def test_noise_shows_no_skill_and_its_best_set_is_as_likely_bad_as_good() -> None:
    overfitted, skilled = [], []
    for seed in range(6):
        noise = search_backtest(
            make_bars(700, seed=100 + seed),
            lambda bars, draw: np.random.default_rng(draw).choice([-1e4, 1e4], len(bars)),
            {"draw": range(12)},
            plan=SearchPlan(periods=96, windows=4),
        )
        overfitted.append(noise.overfitting.probability)
        skilled.append(noise.skill)
        assert noise.verdict.startswith("no evidence of skill after 12 trials") != noise.skill
    assert sum(skilled) == 0
    assert 0.3 < np.mean(overfitted) < 0.7


@pytest.fixture(scope="module")
def planted() -> BacktestSearch:
    """Prices rise in the hour after 09:00, every day."""
    bars = make_bars(24 * 50, seed=5, gaps=False)
    lift = np.exp(np.cumsum(np.where(bars.index.hour == 10, 1.2e-3, 0.0)))
    for name in ("high", "low", "close"):
        bars[name] *= lift
    bars["open"] *= np.r_[1.0, lift[:-1]]
    bars["high"], bars["low"] = bars[["open", "high", "close"]].max(axis=1), bars[["open", "low", "close"]].min(axis=1)

    def hold(bars: pd.DataFrame, hour: int, side: str) -> np.ndarray:
        units = 1e4 if side == "long" else -1e4
        return np.where(bars.index.hour == hour, units, np.where(bars.index.hour == (hour + 1) % 24, 0.0, np.nan))

    space = {"hour": list(range(5, 15)), "side": ["long", "short"]}
    return search_backtest(bars, hold, space, plan=SearchPlan(periods=100, windows=5))


def test_a_planted_effect_is_found_in_every_window(planted) -> None:
    assert planted.windows["hour"].tolist() == [9] * 4
    assert planted.windows["side"].tolist() == ["long"] * 4
    assert planted.sets.loc[planted.best, ["hour", "side"]].tolist() == [9, "long"]
    assert planted.overfitting.probability < 0.05
    assert planted.evidence.deflated > 0.99
    assert (planted.windows["test_return"] > 0).all()
    assert planted.skill
    assert planted.verdict.startswith("evidence of skill that survives 20 trials")
    # Its neighbours, the hours beside it and the other side, earn nothing.
    assert planted.neighbour_count == 3
    assert planted.neighbour_mean < 0.2 * planted.sets["sharpe"][planted.best]


def test_trials_of_earlier_searches_count(bars, found) -> None:
    more = run(bars, PLAN.model_copy(update={"earlier_trials": 400}))
    assert more.trials == 412
    assert "after 412 trials" in more.verdict
    assert more.evidence.deflated < found.evidence.deflated
    assert more.minimum_years > found.minimum_years
    kept = {}
    record_search(more, SimpleNamespace(log=lambda run_id, tags: kept.update(tags)), "one")
    assert sorted(kept.values()) == sorted([more.study, "12"])


def test_drawn_sets_come_from_the_seed_and_the_first_window_alone(bars) -> None:
    space = {"fast": ParameterRange(2, 20), "slow": ParameterRange(10, 100, log=True)}
    for sampler in ("random", "tpe"):
        plan = SearchPlan(sampler=sampler, trials=14, seed=3, periods=48, windows=4, block=4)
        one = search_backtest(bars, crosses, space, SETTINGS, plan, allowed=sensible)
        later = bars.copy()
        later.loc[later.index[len(bars) // 4 + 1 :], ["open", "high", "low", "close"]] = 1.0
        two = search_backtest(later, crosses, space, SETTINGS, plan, allowed=sensible)
        names = ["fast", "slow"]
        pd.testing.assert_frame_equal(one.sets[names], two.sets[names])
        assert len(one.sets.drop_duplicates(names)) == 14
        assert (one.sets["fast"] < one.sets["slow"]).all()


def test_foresight_is_refused(bars) -> None:
    def ahead(bars: pd.DataFrame, units: float) -> pd.Series:
        return np.sign(bars["close"].shift(-1) - bars["close"]).fillna(0.0) * units

    with pytest.raises(DataError, match="decides otherwise at"):
        search_backtest(bars, ahead, {"units": [1.0, 2.0]}, plan=PLAN)


@pytest.mark.parametrize(
    ("space", "plan", "error", "words"),
    [
        ({"set": [1]}, PLAN, ConfigurationError, "named like columns"),
        ({"a": []}, PLAN, ConfigurationError, "at least one value"),
        ({"a": [1]}, SearchPlan(periods=96, windows=6, train=6), ConfigurationError, "leaves none"),
        ({"a": [1]}, SearchPlan(periods=9_000), DataError, "1500 bars, 9000 periods"),
        ({"a": [1]}, PLAN, DataError, "gives 3 values for 1500 bars"),
        ({"a": ParameterRange(1, 2)}, PLAN, ConfigurationError, "is a range"),
        ({"a": ParameterRange(1, 2)}, SearchPlan(sampler="random"), ConfigurationError, "trials = None"),
    ],
)
def test_what_cannot_be_searched_is_refused(bars, space, plan, error, words) -> None:
    with pytest.raises(error, match=words):
        search_backtest(bars, lambda bars, **parameters: np.zeros(3), space, plan=plan)


def test_statistics_by_hand() -> None:
    returns = np.array([[0.02], [-0.01], [0.03], [-0.02]])
    assert statistic_of(returns, "return")[0] == pytest.approx(0.02)
    assert statistic_of(returns, "sharpe")[0] == pytest.approx(0.005 / math.sqrt(0.0017 / 3))
    assert statistic_of(returns, "sortino")[0] == pytest.approx(0.005 / math.sqrt(0.0005 / 4))
    assert statistic_of(returns, "calmar")[0] == pytest.approx(1.0)


def test_an_hour_of_real_prices_gives_no_skill_to_an_average() -> None:
    real = eurusd().iloc[:3000]
    found = search_backtest(
        real, crosses, {"fast": [5, 10, 20], "slow": [30, 60, 120]}, SETTINGS, PLAN, half_spread=SPREAD
    )
    assert not found.skill
    assert found.walk.equity.iloc[: real.index.get_loc(found.windows["tested_from"].iloc[0])].eq(100_000).all()
    assert len(found.walk.fills) > 50
    assert found.years == pytest.approx((real["close_ts"].iloc[-1] - real.index[0]).days / 365.25, abs=0.01)
