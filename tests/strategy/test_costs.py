"""Commission against what brokers print, rounding, and money converted at the rate that was known."""

from __future__ import annotations

import io
import math
import zipfile
from datetime import timedelta
from decimal import ROUND_HALF_UP, Decimal
from fractions import Fraction

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tapeline.core.errors import ConfigurationError, DataError
from tapeline.strategy.costs import (
    Commission,
    ExchangeRates,
    Tier,
    commission,
    commission_of_part,
    parse_commission,
    rounded,
    traded_before,
)

SHARES = Commission(per_unit=0.005, minimum=1.0, maximum_share=0.01)
# A table that a venue published: notional traded in 30 days, maker, taker (basis points).
VENUE = Commission(
    increment=0.0,
    tiers=tuple(
        Tier(threshold=threshold, maker_bps=maker, taker_bps=taker)
        for threshold, maker, taker in (
            (0, 2.0, 5.0), (150_000, 2.0, 4.95), (300_000, 2.0, 4.9), (600_000, 2.0, 4.85), (1_250_000, 2.0, 4.8),
            (2_500_000, 2.0, 4.5), (7_500_000, 1.8, 4.2), (20_000_000, 1.6, 3.75), (50_000_000, 1.4, 3.5),
            (4_000_000_000, 0.0, 1.8),
        )
    ),
)  # fmt: skip
BONDS = Commission(
    tiered_by="notional",
    tiers=(Tier(threshold=0, maker_bps=5, taker_bps=5), Tier(threshold=10_000, maker_bps=1.25, taker_bps=1.25)),
)
TREASURIES = Commission(
    tiered_by="notional",
    minimum=5.0,
    tiers=(Tier(threshold=0, maker_bps=0.2, taker_bps=0.2), Tier(threshold=1e6, maker_bps=0.01, taker_bps=0.01)),
)
SCHEDULES = [SHARES, VENUE, BONDS, TREASURIES, Commission(taker_bps=10, minimum=2, increment=0.01)]


@pytest.mark.parametrize(
    ("schedule", "quantity", "price", "printed"),
    [
        # Interactive Brokers, US stocks, fixed: the three examples of the page, and of its note on the maximum.
        (SHARES, 100, 25.0, 1.00),
        (SHARES, 1_000, 25.0, 5.00),
        (SHARES, 1_000, 0.25, 2.50),
        (SHARES, 10, 0.20, 0.02),
        # Interactive Brokers, municipal bonds: 5,000 and 20,000 of face value.
        (BONDS, 5_000, 1.0, 2.50),
        (BONDS, 20_000, 1.0, 6.25),
        # Interactive Brokers, treasuries: one and two million.
        (TREASURIES, 1_000_000, 1.0, 20.00),
        (TREASURIES, 2_000_000, 1.0, 21.00),
        # A perpetual of 0.0001 coins a contract: 100 contracts at 100,000 for 5 basis points.
        (Commission(maker_bps=2, taker_bps=5, multiplier=0.0001), 100, 100_000.0, 0.50),
    ],
)
def test_the_examples_that_brokers_print(schedule, quantity, price, printed) -> None:
    assert commission(schedule.compiled(), quantity, price, False) == printed
    assert commission(schedule.compiled(), -quantity, price, False) == printed


@pytest.mark.parametrize(
    ("traded", "maker", "taker"),
    [(0, 2, 5), (149_999, 2, 5), (150_000, 2, 4.95), (8e6, 1.8, 4.2), (3.9e9, 1.4, 3.5), (9e9, 0.0, 1.8)],
)
def test_a_published_table_by_what_was_traded_in_30_days(traded, maker, taker) -> None:
    schedule = VENUE.compiled()
    assert commission(schedule, 2.0, 50_000.0, True, traded) == pytest.approx(10.0 * maker)
    assert commission(schedule, 2.0, 50_000.0, False, traded) == pytest.approx(10.0 * taker)


def test_a_rebate_is_paid_and_a_minimum_takes_it_away() -> None:
    assert commission(Commission(maker_bps=-1, taker_bps=5).compiled(), 1.0, 10_000.0, True) == -1.0
    assert commission(Commission(maker_bps=-1, minimum=0.0).compiled(), 1.0, 10_000.0, True) == 0.0


@given(cents=st.integers(-(10**9), 10**9), mills=st.integers(0, 9))
@settings(max_examples=200, deadline=None)
def test_money_is_rounded_to_the_cent_as_on_paper(cents, mills) -> None:
    paper = Decimal(cents * 10 + mills) / 1000
    assert rounded(float(paper), 0.01) == float(paper.quantize(Decimal("0.01"), ROUND_HALF_UP))


@pytest.mark.parametrize("schedule", SCHEDULES)
@given(quantity=st.floats(0.01, 1e6), price=st.floats(0.01, 1e4), factor=st.floats(1, 50), traded=st.floats(0, 1e10))
@settings(max_examples=60, deadline=None)
def test_more_never_costs_less_in_all_and_the_bounds_hold(schedule, quantity, price, factor, traded) -> None:
    compiled = schedule.compiled()
    charged = commission(compiled, quantity, price, False, traded)
    more = commission(compiled, quantity * factor, price, False, traded)
    assert more >= charged - 1e-9 * abs(charged)
    cap = (schedule.maximum_share or math.inf) * quantity * price
    assert charged <= cap + schedule.increment
    assert charged >= min(schedule.minimum or 0.0, cap) - schedule.increment


@given(quantity=st.floats(0.01, 1e7), price=st.floats(0.01, 1e4))
@settings(max_examples=60, deadline=None)
def test_tiers_by_notional_charge_each_part_at_its_own_rate(quantity, price) -> None:
    notional = Fraction(quantity) * Fraction(price)
    first = min(notional, 10_000)
    by_hand = first * Fraction(5, 10_000) + (notional - first) * Fraction(125, 1_000_000)
    assert commission(BONDS.compiled(), quantity, price, True) == pytest.approx(float(by_hand), abs=0.0051)


@pytest.mark.parametrize("schedule", SCHEDULES)
@given(parts=st.lists(st.tuples(st.floats(0.01, 1e4), st.floats(0.5, 500)), min_size=1, max_size=8))
@settings(max_examples=40, deadline=None)
def test_an_order_in_parts_costs_what_it_costs_at_once(schedule, parts) -> None:
    compiled = schedule.compiled()
    filled = notional = money = charged = 0.0
    for quantity, price in parts:
        fee, notional, money = commission_of_part(compiled, quantity, price, False, 0.0, notional, money, charged)
        charged += fee
        filled += quantity
    mean = sum(quantity * price for quantity, price in parts) / filled
    assert charged == pytest.approx(commission(compiled, filled, mean, False), abs=1e-6)


def test_what_was_traded_before_is_that_of_whole_days() -> None:
    generator = np.random.default_rng(3)
    at = pd.Timestamp("2024-01-01", tz="UTC") + pd.to_timedelta(np.sort(generator.integers(0, 60 * 1440, 300)), "min")
    notional = generator.normal(0, 1000, 300)
    days = at.floor("D")
    slow = [
        np.abs(notional)[(days < day) & (days >= day - pd.Timedelta(days=30))].sum() for day in days
    ]  # the definition, fill by fill
    np.testing.assert_allclose(traded_before(at, notional), slow, atol=1e-6)
    with pytest.raises(DataError, match="decrease"):
        traded_before(at[::-1], notional)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"taker_bps": -5000}, "taker_bps"),
        ({"fee": 1}, "fee"),
        ({"currency": "usd"}, "currency"),
        ({"tiers": [{"threshold": 5, "maker_bps": 1, "taker_bps": 1}]}, "begins at 5"),
        ({"tiers": [{"threshold": 0, "maker_bps": 1, "taker_bps": 1}] * 2}, "increase"),
        ({"tiers": [{"maker_bps": 1, "taker_bps": 1}], "taker_bps": 1}, "beside tiers"),
    ],
)
def test_a_schedule_that_is_none_is_refused(wrong, told) -> None:
    with pytest.raises(ConfigurationError, match=told):
        parse_commission(wrong)
    assert parse_commission({"taker_bps": 1.5}) == Commission(taker_bps=1.5)


def stamps(*texts: str) -> pd.DatetimeIndex:
    return pd.DatetimeIndex(texts, tz="UTC")


def test_a_rate_is_used_from_when_it_was_known_on() -> None:
    rates = ExchangeRates({"EURUSD": pd.Series([1.10, 1.20], stamps("2024-01-02", "2024-01-03"))})
    at = stamps("2024-01-03", "2024-01-02 23:59:59.999999999", "2024-01-02")
    assert rates.rates("EUR", "USD", at).tolist() == [1.2, 1.1, 1.1]
    with pytest.raises(DataError, match=r"EUR/USD has no rate at 2024-01-01"):
        rates.rates("EUR", "USD", stamps("2024-01-02", "2024-01-01 23:59"))
    fresh = ExchangeRates({"EURUSD": pd.Series([1.1], stamps("2024-01-02"))}, tolerance=timedelta(days=3))
    assert fresh.rates("EUR", "USD", stamps("2024-01-05")).tolist() == [1.1]
    with pytest.raises(DataError, match="no rate at 2024-01-05 00:00:01"):
        fresh.rates("EUR", "USD", stamps("2024-01-05 00:00:01"))


def test_a_missing_pair_is_named_with_those_that_are_held() -> None:
    rates = ExchangeRates(
        {"EURUSD": pd.Series([1.1], stamps("2024-01-02")), "BTC/USDT": pd.Series(5e4, stamps("2024"))}
    )
    with pytest.raises(ConfigurationError, match=r"no rate for EUR/USDT.*held: EUR/USD, BTC/USDT"):
        rates.rates("EUR", "USDT", stamps("2024-01-02"))
    for pair in ("EURUS", "EUR-USD", "EUREUR", "../x"):
        with pytest.raises(ConfigurationError, match="pair"):
            ExchangeRates({pair: pd.Series([1.0], stamps("2024"))})
    for rate in (0.0, -1.0, math.nan, math.inf):
        with pytest.raises(DataError, match="EURUSD"):
            ExchangeRates({"EURUSD": pd.Series([rate], stamps("2024"))})


def test_the_printed_swap_in_yen_is_so_much_in_dollars() -> None:
    # A broker's example: 16,400 yen at 0.006733 dollars are 110.42.
    rates = ExchangeRates({"JPYUSD": pd.Series([0.006733], stamps("2024"))})
    assert rates.convert([16_400.0], "JPY", "USD", stamps("2024"), increment=0.01).tolist() == [110.42]


@given(amount=st.floats(-1e6, 1e6), first=st.floats(0.01, 100), second=st.floats(0.01, 100), markup=st.floats(0, 100))
@settings(max_examples=60, deadline=None)
def test_inverse_and_cross_agree_and_a_markup_is_always_paid(amount, first, second, markup) -> None:
    at = stamps("2024-01-02")
    quotes = {"EURUSD": pd.Series([first], at), "USDJPY": pd.Series([second], at)}
    rates = ExchangeRates(quotes)
    assert rates.rates("EUR", "JPY", at)[0] == pytest.approx(first * second)
    assert rates.rates("JPY", "EUR", at)[0] == pytest.approx(1 / (first * second))
    there = rates.convert([amount], "EUR", "JPY", at)
    assert rates.convert(there, "JPY", "EUR", at)[0] == pytest.approx(amount)
    dear = ExchangeRates(quotes, markup_bps=markup).convert([amount], "EUR", "JPY", at)
    assert dear[0] <= there[0]
    assert ExchangeRates(quotes, markup_bps=markup).convert([amount], "EUR", "EUR", at)[0] == amount


def test_the_recorded_cross_lies_within_the_spread_of_its_legs(test_data) -> None:
    quotes = {}
    for pair in ("EURUSD", "GBPUSD", "EURGBP"):
        with zipfile.ZipFile(test_data / f"data/lean/forex/oanda/daily/{pair.lower()}.zip") as archive:
            frame = pd.read_csv(io.BytesIO(archive.read(archive.namelist()[0])), header=None)
        known = pd.to_datetime(frame[0], format="%Y%m%d %H:%M").dt.tz_localize("UTC") + pd.Timedelta(days=1)
        quotes[pair] = pd.Series(((frame[4] + frame[9]) / 2).to_numpy(), pd.DatetimeIndex(known))
    direct = quotes.pop("EURGBP")
    at = pd.DatetimeIndex(direct.index[100:])
    cross = ExchangeRates(quotes).rates("EUR", "GBP", at)
    away = np.abs(cross / direct.to_numpy()[100:] - 1)
    assert len(away) > 2_000
    assert np.median(away) < 2e-4
    # Were a rate of the next day used, the median would lie at a day's movement.
    late = ExchangeRates({pair: quote.set_axis(quote.index - pd.Timedelta(days=2)) for pair, quote in quotes.items()})
    assert np.median(np.abs(late.rates("EUR", "GBP", at[:-5]) / direct.to_numpy()[100:-5] - 1)) > 5e-4
