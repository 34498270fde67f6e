"""Slippage against its published formulas, and always against the one who trades."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from tapeline.core.errors import ConfigurationError
from tapeline.strategy.slippage import (
    AlmgrenSlippage,
    FixedSlippage,
    SquareRootSlippage,
    VolumeShareSlippage,
    fillable,
    impact,
    parse_slippage,
    permanent_impact,
    slipped,
    slipped_prices,
    temporary_impact,
)
from tests.core.samples import eurusd

MODELS = [
    FixedSlippage(bps=3, ticks=2, tick_size=0.01),
    VolumeShareSlippage(),
    VolumeShareSlippage(price_impact=5, volume_limit=0.5),
    SquareRootSlippage(),
    AlmgrenSlippage(outstanding=1e9, bars_per_day=24),
    AlmgrenSlippage(turnover_exponent=0),
]
positive = st.floats(1e-3, 1e6)


@pytest.mark.parametrize(
    ("volume", "outstanding", "volatility", "lasting", "passing", "whole"),
    [
        # Almgren, Thum, Hauptmann and Li (2005), table 3: buying 10% of a day's volume in 0.1, 0.2 and 0.5 days.
        (6.561e6, 1_728e6, 0.0157, 20, (22, 15, 8), (32, 25, 18)),  # IBM
        (1.929e6, 168e6, 0.0226, 22, (32, 21, 12), (43, 32, 23)),  # DRI
    ],
)
def test_the_printed_example_of_the_impact_of_a_tenth_of_a_days_volume(
    volume, outstanding, volatility, lasting, passing, whole
) -> None:
    quantity = volume / 10
    assert round(permanent_impact(quantity, volume, volatility, 0.314, outstanding, 0.25) * 1e4) == lasting
    for days, printed, together in zip((0.1, 0.2, 0.5), passing, whole, strict=True):
        assert round(temporary_impact(quantity, volume, volatility, days, 0.142, 0.6) * 1e4) == printed
        bars = 1 / days
        model = AlmgrenSlippage(outstanding=outstanding, bars_per_day=bars).compiled()
        cost = impact(model, quantity, volume / bars, volatility / math.sqrt(bars))
        assert round(cost * 1e4) == together


def test_volume_share_is_quadratic_up_to_its_limit() -> None:
    model = VolumeShareSlippage().compiled()
    # zipline's formula: price * (1 + 0.1 * share ** 2), share at most 2.5%.
    for quantity, share in ((5.0, 0.005), (25.0, 0.025), (900.0, 0.025)):
        assert slipped(model, 1, quantity, 50.0, 1000.0, math.nan, 0.0) == pytest.approx(50 * (1 + 0.1 * share**2))
    assert fillable(model, 900.0, 1000.0, 0.0) == 25.0
    assert fillable(model, 900.0, 1000.0, 24.0) == 1.0
    assert fillable(model, 900.0, 1000.0, 30.0) == 0.0


@given(quantity=positive, factor=st.floats(1.5, 100))
@settings(max_examples=40, deadline=None)
def test_the_square_root_law_is_that_of_four_times_the_quantity_twice_the_cost(quantity, factor) -> None:
    model = SquareRootSlippage(coefficient=0.7).compiled()
    once = impact(model, quantity, 1e6, 0.01)
    assert once == pytest.approx(0.7 * 0.01 * math.sqrt(quantity / 1e6))
    assert impact(model, 4 * quantity, 1e6, 0.01) == pytest.approx(2 * once)
    # The law does not depend on the span over which volume and volatility are taken.
    assert impact(model, quantity, 1e6 * factor, 0.01 * math.sqrt(factor)) == pytest.approx(once)


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.kind)
@given(side=st.sampled_from([1, -1]), quantity=positive, price=positive, volume=positive, sigma=st.floats(0, 0.5),
       spread=st.floats(0, 10))  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_slippage_is_never_in_favour_and_more_never_costs_less_a_unit(
    model, side, quantity, price, volume, sigma, spread
) -> None:
    compiled = model.compiled()
    paid = slipped(compiled, side, quantity, price, volume, sigma, spread)
    assert side * (paid - price) >= 0
    assert paid >= 0
    assert side * (slipped(compiled, side, 2 * quantity, price, volume, sigma, spread) - paid) >= 0
    assert side * (slipped(compiled, side, quantity, price, volume, sigma, spread + 1) - paid) >= 0


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.kind)
@given(quantity=positive, volume=st.floats(0, 1e6), parts=st.integers(1, 5))
@settings(max_examples=30, deadline=None)
def test_a_bar_fills_no_more_than_its_share_however_often_it_is_asked(model, quantity, volume, parts) -> None:
    compiled = model.model_copy(update={"volume_limit": 0.1}).compiled()
    taken = 0.0
    for _ in range(parts):
        part = fillable(compiled, quantity, volume, taken)
        assert 0 <= part <= quantity
        taken += part
    assert taken <= 0.1 * volume * (1 + 1e-12)


def test_a_half_spread_is_paid_by_its_share() -> None:
    for share, paid in ((0.0, 100.0), (0.5, 100.01), (1.0, 100.02), (2.0, 100.04)):
        model = FixedSlippage(spread_share=share).compiled()
        assert slipped(model, 1, 1.0, 100.0, 0.0, 0.0, 0.02) == pytest.approx(paid)
        assert slipped(model, -1, 1.0, 100.0, 0.0, 0.0, 0.02) == pytest.approx(200 - paid)


@pytest.mark.parametrize(("volume", "sigma"), [(math.nan, 0.01), (0.0, 0.01), (100.0, math.nan)])
def test_where_the_volume_or_volatility_is_unknown_there_is_no_price(volume, sigma) -> None:
    assert math.isnan(slipped(SquareRootSlippage().compiled(), 1, 1.0, 100.0, volume, sigma, 0.0))
    assert slipped(FixedSlippage().compiled(), 1, 1.0, 100.0, volume, sigma, 0.0) == 100.0
    if not volume > 0:
        assert fillable(SquareRootSlippage().compiled(), 1.0, volume, 0.0) == 0.0
        assert fillable(FixedSlippage(volume_limit=0.5).compiled(), 1.0, volume, 0.0) == 0.0
    assert fillable(FixedSlippage().compiled(), 1.0, volume, 0.0) == 1.0


def test_prices_that_may_be_negative_slip_against_the_trader_too() -> None:
    model = FixedSlippage(bps=100).compiled()
    assert slipped(model, 1, 1.0, -37.63, 0.0, 0.0, 0.0) == pytest.approx(-37.63 + 0.3763)
    assert slipped(model, -1, 1.0, -37.63, 0.0, 0.0, 0.0) == pytest.approx(-37.63 - 0.3763)


def test_a_price_that_is_positive_is_never_sold_below_nothing() -> None:
    assert slipped(SquareRootSlippage(coefficient=900).compiled(), -1, 100.0, 10.0, 100.0, 0.1, 0.0) == 0.0


def test_a_file_names_a_model_by_its_kind() -> None:
    for model in MODELS:
        assert parse_slippage(model.model_dump()) == model
    for wrong, told in (
        ({"kind": "magic"}, "kind"),
        ({"kind": "fixed", "bps": -1.0}, "bps"),
        ({"kind": "volume_share", "volume_limit": 2.0}, "volume_limit"),
        ({"kind": "fixed", "bps": math.nan}, "bps"),
        ({"kind": "square_root", "eta": 1.0}, "eta"),
    ):
        with pytest.raises(ConfigurationError, match=told):
            parse_slippage(wrong)
    with pytest.raises(ValidationError):
        FixedSlippage(bps=-1)
    with pytest.raises(ConfigurationError, match="tick_size"):
        FixedSlippage(ticks=1).compiled()
    with pytest.raises(ConfigurationError, match="outstanding"):
        AlmgrenSlippage().compiled()


def test_recorded_bars_slip_by_what_the_formula_says() -> None:
    bars = eurusd().tail(500)
    sides = np.where(np.arange(500) % 2 == 0, 1, -1)
    volatility = bars["close"].pct_change().rolling(50).std().to_numpy()
    price, volume = bars["open"].to_numpy(), bars["volume"].to_numpy()
    model = SquareRootSlippage(spread_share=0).compiled()
    paid = slipped_prices(model, sides, 0.01 * volume, price, volume=volume, volatility=volatility)
    assert np.isnan(paid[:50]).all()
    np.testing.assert_allclose((sides * (paid / price - 1))[50:], 0.1 * volatility[50:], atol=1e-12)
