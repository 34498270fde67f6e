"""Sizing against definitions, printed examples and what must hold of any size."""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tapeline.core.errors import ConfigurationError, DataError
from tapeline.strategy.position_sizer import InstrumentTerms, SizingInputs, parse_position_sizer
from tapeline.strategy.position_sizing import (
    annualised_volatility,
    average_active_size,
    bet_size,
    discretise,
    fixed_fraction,
    kelly_binary,
    kelly_continuous,
    round_to_lot,
    to_units,
    volatility_target,
    within_margin,
)
from tapeline.strategy.risk_parity import risk_contributions, risk_parity_weights
from tests.core.samples import eurusd

SIZERS = [
    {"method": "fixed_fraction", "share": 0.01},
    {"method": "volatility_target", "target": 0.1, "maximum_leverage": 3},
    {"method": "kelly", "fraction": 0.5, "cap": 0.04, "observations": 60},
    {"method": "kelly_continuous", "fraction": 0.4, "cap": 5, "observations": 250},
    {"method": "bet_size", "leverage": 2, "step": 0.05},
]


def random_covariance(count: int, seed: int) -> np.ndarray:
    generator = np.random.default_rng(seed)
    factors = generator.normal(size=(count, count + 3)) * generator.uniform(0.01, 1, (count, 1))
    return factors @ factors.T


@given(equity=st.floats(1, 1e9), share=st.floats(1e-4, 1), distance=st.floats(1e-5, 1e3), point=st.floats(1e-2, 1e6))
@settings(max_examples=50, deadline=None)
def test_a_stop_costs_the_share_that_was_fixed(equity, share, distance, point) -> None:
    units = fixed_fraction(equity, share, distance, point_value=point)
    assert units * distance * point == pytest.approx(equity * share)


def test_kelly_is_where_capital_grows_fastest() -> None:
    stakes = np.linspace(0, 0.9, 9001)
    for probability, payoff in ((0.55, 1.0), (0.4, 3.0), (0.7, 0.6)):
        growth = probability * np.log1p(stakes * payoff) + (1 - probability) * np.log1p(-stakes)
        assert kelly_binary(probability, payoff, fraction=1.0) == pytest.approx(stakes[growth.argmax()], abs=1e-4)
    # No edge is no stake, and half is half.
    assert kelly_binary(0.5, 1.0) == 0.0
    assert kelly_binary(0.3, 2.0) == 0.0
    assert kelly_binary(0.6, 1.0) == pytest.approx(0.1)
    assert kelly_binary(0.9, 1.0, fraction=1.0, cap=0.25) == 0.25


def test_an_uncertain_estimate_is_shrunk_to_where_expected_growth_is_greatest() -> None:
    mean, variance, observations = 0.04, 0.03, 50
    generator = np.random.default_rng(5)
    estimates = mean + generator.normal(size=200_001) * math.sqrt(variance / observations)
    shares = np.linspace(0, 1, 1001)
    # Growth of the leverage share * estimate / variance, by its first two moments over the estimates.
    growth = shares * estimates.mean() * mean / variance - shares**2 * (estimates**2).mean() / (2 * variance)
    full = kelly_continuous(mean, variance, fraction=1.0, cap=100)
    shrunk = kelly_continuous(mean, variance, fraction=1.0, cap=100, observations=observations)
    assert shrunk / full == pytest.approx(shares[growth.argmax()], abs=0.005)
    assert shrunk < full
    assert kelly_continuous(-0.1, 0.04) == 0.0
    few, many = (kelly_binary(0.6, 1.5, observations=count) for count in (10, 10_000))
    assert few < many < kelly_binary(0.6, 1.5)
    assert many == pytest.approx(kelly_binary(0.6, 1.5), rel=0.01)


def test_volatility_is_that_of_the_recursion_and_of_the_past() -> None:
    returns = np.random.default_rng(2).normal(0, 0.01, 200)
    returns[[7, 90]] = np.nan
    known = [value for value in returns[:150] if value == value]
    variance = float(np.mean(np.square(known[:20])))
    for value in known[20:]:
        variance = 0.9 * variance + 0.1 * value**2
    result = annualised_volatility(returns, periods_per_year=252, decay=0.9)
    assert result[149] == pytest.approx(math.sqrt(252 * variance), rel=1e-12)
    assert np.isnan(result[:20]).all()
    assert not np.isnan(result[20])
    np.testing.assert_array_equal(annualised_volatility(returns[:150], periods_per_year=252, decay=0.9), result[:150])


def test_a_position_of_real_bars_has_the_volatility_that_was_targeted() -> None:
    close = eurusd()["close"]
    returns = close.pct_change()
    volatility = annualised_volatility(returns, periods_per_year=6_200, decay=0.97)
    units = pd.Series(volatility_target(10_000.0, 0.10, volatility, close, maximum_leverage=5.0), close.index)
    daily = (units.shift() * close.diff() / 10_000.0).dropna()
    assert daily.std() * math.sqrt(6_200) == pytest.approx(0.10, rel=0.15)
    assert (units * close).max() <= 5.0 * 10_000.0 * (1 + 1e-12)


def test_bet_sizes_follow_the_normal_distribution_function() -> None:
    for probability in (0.01, 0.35, 0.5, 0.77, 0.99):
        z = (probability - 0.5) / math.sqrt(probability * (1 - probability))
        assert bet_size(probability) == pytest.approx(2 * NormalDist().cdf(z) - 1, abs=1e-12)
        assert bet_size(probability, -1) == -bet_size(probability)
    assert bet_size(1.0) == 1.0
    assert bet_size(0.0) == -1.0
    assert bet_size(1 / 3, classes=3) == 0.0
    assert discretise(np.array([0.26, -0.99, 1.0]), 0.25).tolist() == [0.25, -1.0, 1.0]


def test_the_mean_of_active_bets_is_that_of_a_loop() -> None:
    generator = np.random.default_rng(8)
    ts = pd.date_range("2024-01-01", periods=120, freq="h", tz="UTC")
    starts = ts[generator.integers(0, 110, 60)]
    ends = starts + pd.to_timedelta(generator.integers(0, 15, 60), unit="h")
    ends = ends.where(generator.random(60) >= 0.1)
    sizes = generator.uniform(-1, 1, 60)
    expected = []
    for instant in ts:
        standing = [
            size
            for start, end, size in zip(starts, ends, sizes, strict=True)
            if start <= instant and (end is pd.NaT or instant < end)
        ]
        expected.append(sum(standing) / len(standing) if standing else 0.0)
    np.testing.assert_allclose(average_active_size(starts, ends, sizes, ts), expected, atol=1e-12)


@given(
    units=st.floats(-1e6, 1e6),
    lot=st.sampled_from([0.0, 0.01, 0.1, 1.0, 25.0]),
    minimum=st.floats(0, 50),
    maximum=st.floats(50, 1e5),
)
@settings(max_examples=80, deadline=None)
def test_lots_are_whole_and_never_more(units, lot, minimum, maximum) -> None:
    rounded = round_to_lot(units, lot, minimum=minimum, maximum=maximum)
    assert abs(rounded) <= min(abs(units), maximum) + 1e-9 * max(lot, 1e-9)
    assert rounded == 0 or (rounded > 0) == (units > 0)
    assert rounded == 0 or abs(rounded) >= minimum * (1 - 1e-9)
    if lot:
        assert rounded / lot == pytest.approx(round(rounded / lot), abs=1e-6)
        if abs(units) < maximum and abs(units) - lot > minimum:
            assert abs(units) - abs(rounded) < lot


def test_margin_currency_and_contract_size_are_counted() -> None:
    # 3 contracts of 100 ounces at 2,000 USD, a USD worth 0.9 EUR, at a leverage of 20: 27,000 EUR of margin.
    assert to_units(540_000.0, 2_000.0, point_value=100 * 0.9) == pytest.approx(3.0)
    assert within_margin(10.0, 2_000.0, 27_000.0, 1 / 20, point_value=90.0) == pytest.approx(3.0)
    assert within_margin(2.0, 2_000.0, 27_000.0, 1 / 20, point_value=90.0) == 2.0
    assert within_margin(-2.0, 2_000.0, -5.0, 1 / 20, point_value=90.0) == 0.0
    sizer = parse_position_sizer({"method": "fixed_fraction", "share": 0.02})
    terms = InstrumentTerms(lot=0.01, contract_size=100, margin_rate=0.05, maximum_lot=0.5)
    inputs = SizingInputs(equity=50_000.0, price=2_000.0, rate=0.9, side=-1, stop_distance=10.0, free_margin=50_000.0)
    # 1,000 EUR over 10 points of 90 EUR is 1.11 contracts; half a contract is the most.
    assert sizer.units(inputs, terms) == -0.5
    assert sizer.units(inputs, terms.model_copy(update={"maximum_lot": None})) == pytest.approx(-1.11)
    tight = SizingInputs(equity=50_000.0, price=2_000.0, rate=0.9, stop_distance=10.0, free_margin=9_000.0)
    assert sizer.units(tight, terms.model_copy(update={"maximum_lot": None})) == pytest.approx(1.0)


@pytest.mark.parametrize("settings_of_it", SIZERS, ids=lambda values: values["method"])
def test_history_and_single_bars_are_sized_the_same(settings_of_it) -> None:
    generator, rows = np.random.default_rng(3), 60
    volatility = generator.uniform(0.02, 0.5, rows)
    volatility[:5] = np.nan
    inputs = SizingInputs(
        equity=generator.uniform(5_000, 20_000, rows),
        price=generator.uniform(1, 2, rows),
        rate=generator.uniform(0.8, 1.2, rows),
        side=generator.integers(-1, 2, rows),
        stop_distance=np.where(generator.random(rows) < 0.1, np.nan, generator.uniform(0.001, 0.01, rows)),
        volatility=volatility,
        probability=generator.uniform(0.3, 0.9, rows),
        payoff=generator.uniform(0.5, 3, rows),
        mean=generator.normal(0.01, 0.02, rows),
        variance=generator.uniform(0.001, 0.1, rows),
        free_margin=10_000.0,
    )
    sizer, terms = parse_position_sizer(settings_of_it), InstrumentTerms(lot=10, minimum_lot=20, margin_rate=0.03)
    units = sizer.units(inputs, terms)
    assert units.tolist() == [sizer.units(inputs.row(row), terms) for row in range(rows)]
    assert (units != 0).sum() > 10
    assert not np.isnan(units).any()
    assert (np.sign(units) * inputs.side >= 0).all()


@pytest.mark.parametrize(("count", "seed"), [(2, 0), (5, 1), (20, 2), (60, 3)])
def test_risk_contributions_equal_their_budgets(count, seed) -> None:
    covariance = random_covariance(count, seed)
    weights = risk_parity_weights(covariance)
    assert weights.sum() == pytest.approx(1.0, abs=1e-14)
    assert (weights > 0).all()
    assert np.abs(risk_contributions(weights, covariance) - 1 / count).max() < 1e-10
    budgets = np.random.default_rng(seed).uniform(0.1, 1, count)
    budgets /= budgets.sum()
    assert np.abs(risk_contributions(risk_parity_weights(covariance, budgets), covariance) - budgets).max() < 1e-10
    # Units of return do not matter.
    np.testing.assert_allclose(risk_parity_weights(covariance * 1e-8), weights, rtol=1e-10)


def test_risk_parity_of_uncorrelated_assets_is_inverse_volatility_and_of_two_always() -> None:
    volatility = np.array([0.1, 0.2, 0.4, 0.05])
    inverse = (1 / volatility) / (1 / volatility).sum()
    np.testing.assert_allclose(risk_parity_weights(np.diag(volatility**2)), inverse, rtol=1e-12)
    for correlation in (-0.9, 0.3, 0.999):
        two = np.array([[0.01, correlation * 0.02], [correlation * 0.02, 0.04]])
        np.testing.assert_allclose(risk_parity_weights(two), [2 / 3, 1 / 3], rtol=1e-10)


def test_risk_parity_sizes_assets_side_by_side_for_the_book_as_it_is_held() -> None:
    covariances = np.stack([random_covariance(3, seed) for seed in range(4)])
    prices = np.random.default_rng(0).uniform(10, 100, (4, 3))
    side = np.array([1, -1, 1])
    sizer = parse_position_sizer({"method": "risk_parity", "leverage": 2})
    units = sizer.units(SizingInputs(equity=1e5, price=prices, side=side, covariance=covariances))
    values = units * prices
    np.testing.assert_allclose(np.abs(values).sum(axis=1), 2e5)
    assert (np.sign(values) == side).all()
    np.testing.assert_allclose(risk_contributions(values, covariances), 1 / 3, atol=1e-10)
    live = sizer.units(SizingInputs(equity=1e5, price=prices[2], side=side, covariance=covariances[2]))
    assert live.tolist() == units[2].tolist()


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda: fixed_fraction(1.0, 0.1, 0.0), "stop_distance = 0.0 must be above 0"),
        (lambda: fixed_fraction(1.0, 1.5, 1.0), "share = 1.5 must be from 0 to 1"),
        (lambda: volatility_target(1.0, 0.1, 0.0, 1.0), "volatility = 0"),
        (lambda: kelly_binary(1.2, 1.0), "probability = 1.2"),
        (lambda: kelly_binary(0.5, -1.0), "payoff = -1.0"),
        (lambda: kelly_continuous(0.1, 0.0), "variance = 0.0"),
        (lambda: to_units(math.inf, 1.0), "money = inf must be finite"),
        (lambda: risk_parity_weights([[1.0, 1.0], [1.0, 1.0]]), "not positive definite"),
        (lambda: risk_parity_weights([[1.0, 0.5], [0.1, 1.0]]), "not symmetric"),
        (lambda: risk_parity_weights([[1.0, 0.0], [0.0, 1.0]], [1.0, 0.0]), "budgets"),
        (lambda: parse_position_sizer(SIZERS[0]).units(SizingInputs(equity=1.0, price=1.0)), "stop_distance"),
    ],
)
def test_data_out_of_bounds_is_named(call, named) -> None:
    with pytest.raises(DataError, match=named.replace("(", r"\(")):
        call()


@pytest.mark.parametrize(
    "values",
    [
        {"method": "martingale"},
        {"method": "fixed_fraction", "share": 0},
        {"method": "fixed_fraction", "shares": 0.1},
        {"share": 0.1},
        {"method": "kelly", "fraction": math.nan},
    ],
)
def test_a_setting_out_of_bounds_is_refused(values) -> None:
    with pytest.raises(ConfigurationError, match="sizing"):
        parse_position_sizer(values)


def test_parameters_out_of_bounds_are_refused() -> None:
    for call in (
        lambda: kelly_binary(0.5, 1.0, fraction=0.0),
        lambda: round_to_lot(1.0, -1.0),
        lambda: round_to_lot(1.0, 1.0, minimum=2.0, maximum=1.0),
        lambda: annualised_volatility([0.0], periods_per_year=0),
        lambda: bet_size(0.5, step=2.0),
    ):
        with pytest.raises(ConfigurationError):
            call()
