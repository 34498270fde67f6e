"""Schedules against their rules, a numerical minimiser and a plain loop over thin bars."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tapeline.core.errors import ConfigurationError, DataError
from tapeline.strategy.order_slicing import (
    ImpactModel,
    SliceRules,
    almgren_chriss_schedule,
    execute_schedule,
    execution_cost,
    optimal_holdings,
    twap_schedule,
    vwap_schedule,
)
from tapeline.strategy.simulator import SimulationSettings
from tapeline.strategy.slippage import FixedSlippage
from tests.core.samples import eurusd
from tests.support import make_bars

IMPACT = ImpactModel(
    volatility=0.95, temporary=2.5e-6, permanent=2.5e-7, fixed=0.0625, risk_aversion=2e-6, interval=0.5
)


@settings(max_examples=60, deadline=None)
@given(
    lots=st.integers(1, 5_000),
    lot=st.sampled_from([0.01, 0.1, 1.0, 100.0]),
    volumes=st.lists(st.floats(0, 1e6), min_size=1, max_size=30).filter(lambda x: sum(x) > 0),
    minimum=st.integers(0, 40),
    jitter=st.sampled_from([0.0, 0.3, 0.9]),
    seed=st.integers(0, 5),
)
def test_slices_sum_to_the_order_in_whole_lots(lots, lot, volumes, minimum, jitter, seed) -> None:
    rules = SliceRules(lot=lot, minimum=minimum * lot, jitter=jitter, seed=seed)
    for found in (
        twap_schedule(lots * lot, len(volumes), rules),
        vwap_schedule(lots * lot, volumes, rules),
        almgren_chriss_schedule(lots * lot, len(volumes), IMPACT, rules),
    ):
        counts = np.round(found / lot)
        assert np.allclose(found, counts * lot, rtol=1e-12)
        assert int(counts.sum()) == lots
        assert (counts >= 0).all()
        traded = counts[counts > 0]
        assert (traded >= min(minimum, lots)).all()


@settings(max_examples=60, deadline=None)
@given(lots=st.integers(1, 400), room=st.lists(st.integers(0, 60), min_size=1, max_size=20), minimum=st.integers(0, 10))
def test_no_slice_takes_more_than_its_share(lots, room, minimum) -> None:
    volumes = np.array(room) * 10.0
    rules = SliceRules(participation=0.1, minimum=minimum)
    if lots > sum(room):
        with pytest.raises(DataError, match="do not fit"):
            twap_schedule(lots, len(room), rules, volumes=volumes)
        return
    found = twap_schedule(lots, len(room), rules, volumes=volumes)
    assert found.sum() == lots
    assert (found <= volumes * 0.1).all()


def test_what_a_slice_may_not_take_is_caught_up_at_once() -> None:
    volumes = [100, 20, 100, 400]
    assert twap_schedule(40, 4, SliceRules(participation=0.2), volumes=volumes).tolist() == [10, 4, 16, 10]
    assert twap_schedule(60, 4, SliceRules(participation=0.2), volumes=[100, 500, 10, 10]).tolist() == [15, 41, 2, 2]


def test_jitter_is_of_the_seed_and_within_its_bounds() -> None:
    one, two, other = (twap_schedule(10_000, 10, SliceRules(jitter=0.2, seed=seed)) for seed in (4, 4, 5))
    assert one.tolist() == two.tolist() != other.tolist()
    assert one.std() > 20
    assert one.max() / one.min() <= 1.2 / 0.8 + 0.01


def test_vwap_follows_the_volumes() -> None:
    volumes = np.array([5.0, 1.0, 1.0, 3.0])
    assert np.abs(vwap_schedule(999, volumes) - 99.9 * volumes).max() <= 1.0


@pytest.mark.parametrize("aversion", [0.0, 1e-7, 2e-6, 1e-4])
def test_the_closed_form_is_where_a_minimiser_ends(aversion) -> None:
    from scipy.optimize import minimize

    impact = IMPACT.model_copy(update={"risk_aversion": aversion})
    shares, slices = 1e6, 6

    def objective(inner):
        expected, variance = execution_cost(shares * np.r_[1.0, inner, 0.0], impact)
        return (expected + aversion * variance) / 1e6

    found = minimize(objective, np.linspace(1, 0, slices + 1)[1:-1], method="BFGS", options={"gtol": 1e-9})
    closed = optimal_holdings(shares, slices, impact)
    assert np.abs(closed[1:-1] / shares - found.x).max() < 1e-4
    assert objective(closed[1:-1] / shares) <= found.fun * (1 + 1e-9)
    assert closed[0] == shares
    assert closed[-1] == 0.0


def test_the_example_of_almgren_and_chriss() -> None:
    """Section 3.4 of the paper: a million shares at 50 dollars in 5 days, lambda 1e-6: kappa is about 0.61 a day."""
    annual = 0.3 / math.sqrt(250) * 50
    impact = ImpactModel(
        volatility=annual, temporary=2.5e-6, permanent=2.5e-7, fixed=0.0625, risk_aversion=1e-6, interval=1.0
    )
    x = optimal_holdings(1e6, 5, impact)
    kappa = math.acosh((x[0] + x[2]) / (2 * x[1]))
    assert kappa == pytest.approx(0.61, abs=0.01)
    # Sold at once: 1.25e-7 X^2 + 0.0625 X + (eta - gamma / 2) X^2, and no variance at all.
    assert execution_cost([1e6, 0.0], impact) == pytest.approx((0.125e6 + 0.0625e6 + 2.375e6, 0.0))


def test_a_large_aversion_does_not_overflow() -> None:
    x = optimal_holdings(1000.0, 500, IMPACT.model_copy(update={"risk_aversion": 1e12}))
    assert np.isfinite(x).all()
    assert (np.diff(x) <= 0).all()
    assert x[1] < 1e-6


def test_a_schedule_in_thin_bars_is_the_one_of_a_plain_loop() -> None:
    bars = make_bars(60, seed=4)
    bars["volume"] = np.random.default_rng(0).integers(10, 120, len(bars)).astype(float)
    account = SimulationSettings(slippage=FixedSlippage(volume_limit=0.5, bps=2.0), lot=1.0)
    slices = twap_schedule(200, 6, SliceRules(jitter=0.5, seed=1))
    for side in (1, -1):
        found = execute_schedule(bars, bars.index[20], side, slices, account, grace=3, half_spread=1e-4)
        wanted = held = paid = 0.0
        for place, row in enumerate(range(21, 30)):
            wanted += slices[place] if place < 6 else 0.0
            units = min(wanted - held, math.floor(bars["volume"].iloc[row] * 0.5))
            held += units
            paid += units * (bars["open"].iloc[row] * (1 + side * 2e-4) + side * 1e-4)
        assert found.filled == held
        assert found.unfilled == 200 - held
        assert found.price == pytest.approx(paid / held, rel=1e-12)
        typical, full = bars.iloc[21:27], 0.0
        assert found.twap == pytest.approx(typical[["open", "high", "low", "close"]].to_numpy().mean())
        for _, bar in typical.iterrows():
            full += bar["volume"] * (bar["high"] + bar["low"] + bar["close"]) / 3
        assert found.vwap == pytest.approx(full / typical["volume"].sum())
        assert found.vwap_bps == pytest.approx(side * (found.price - found.vwap) / found.vwap * 1e4)
        assert found.arrival == bars["close"].iloc[20]


def test_without_costs_even_slices_pay_the_mean_of_the_opens_of_real_bars() -> None:
    bars = eurusd().iloc[:200]
    found = execute_schedule(bars, bars.index[50], -1, twap_schedule(1_200, 12))
    assert found.price == pytest.approx(bars["open"].iloc[51:63].mean(), rel=1e-12)
    assert abs(found.twap_bps) < 10
    assert found.unfilled == 0


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: twap_schedule(10.5, 3), DataError, "no whole number of lots"),
        (lambda: twap_schedule(-10, 3), DataError, "above 0"),
        (lambda: twap_schedule(math.nan, 3), DataError, "quantity = nan"),
        (lambda: twap_schedule(10, 0), ConfigurationError, "slices = 0"),
        (lambda: twap_schedule(10, 2, SliceRules(participation=0.1)), DataError, "usual volume of each of 2 bars"),
        (lambda: vwap_schedule(10, [1.0, math.nan]), DataError, "finite"),
        (lambda: vwap_schedule(10, [0.0, 0.0]), DataError, "not all 0"),
        (
            lambda: optimal_holdings(1.0, 3, ImpactModel(volatility=1, temporary=1, permanent=2)),
            ConfigurationError,
            "leaves",
        ),
        (lambda: execute_schedule(make_bars(9), make_bars(9).index[4], 1, np.ones(5)), DataError, "as many after it"),
        (lambda: execute_schedule(make_bars(9), pd.Timestamp(0, tz="UTC"), 1, [1.0]), DataError, "a bar of that time"),
        (lambda: execute_schedule(make_bars(9), make_bars(9).index[4], 0, [1.0]), DataError, "side = 0"),
    ],
)
def test_what_is_no_order_is_refused(make, error, words) -> None:
    with pytest.raises(error, match=words):
        make()
