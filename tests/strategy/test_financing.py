"""Financing against printed examples, the clocks of New York, and the days that passed."""

from __future__ import annotations

import math
from datetime import date, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tapeline.core.errors import ConfigurationError, DataError
from tapeline.strategy.costs import ExchangeRates
from tapeline.strategy.financing import (
    Financing,
    borrow_payment,
    financing,
    funding_payment,
    parse_financing,
    swap_payment,
)
from tapeline.strategy.simulator import simulate
from tests.support import make_bars

NEW_YORK = ZoneInfo("America/New_York")


def instant(text: str) -> pd.Timestamp:
    return pd.Timestamp(text, tz="UTC")


def paid(terms: Financing, quantity: float, opens: pd.DatetimeIndex, price: float = 1.0, funding=None) -> float:
    """A position opened at the first open and closed at the last."""
    carry = terms.carry(opens, funding)
    return sum(
        financing(terms.compiled(), quantity, price, *each)
        for each in zip(carry.days, carry.nights, carry.rate, strict=True)
    )


def test_a_brokers_example_of_five_nights_with_the_triple_one() -> None:
    # One lot of EURUSD at -13.472 points, point value 1, five nights: -67.36. The broker's page has it bought on
    # Tuesday and closed on Thursday, for which it lists one and three nights: the five it charges begin on Monday.
    opens = pd.date_range("2024-05-13 15:00", "2024-05-16 20:00", freq="1h", tz="UTC")
    terms = Financing(swap_long=-13.472, swap_short=7.9, point_value=0.00001 * 100_000)
    assert paid(terms, 1.0, opens) == pytest.approx(-67.36)
    assert paid(terms, -1.0, opens) == pytest.approx(5 * 7.9)
    assert paid(terms, 1.0, opens[24:]) == pytest.approx(-4 * 13.472)


def test_a_brokers_example_in_yen_is_converted() -> None:
    # One lot of USDJPY at 16.4 points worth 1,000 yen, one night: 16,400 yen, 110.42 dollars at 0.006733.
    yen = swap_payment(1.0, 16.4 * 1_000, -25.0, 1.0)
    at = pd.DatetimeIndex(["2024-05-14"], tz="UTC")
    dollars = ExchangeRates({"JPYUSD": pd.Series([0.006733], at)}).convert([yen], "JPY", "USD", at, increment=0.01)
    assert (yen, dollars[0]) == (16_400.0, 110.42)


@pytest.mark.parametrize(
    ("day", "hour"),
    [
        # In 2024 the clocks of New York went forward on 10 March and back on 3 November, both Sundays.
        ("2024-03-08", 22), ("2024-03-09", 22), ("2024-03-10", 21), ("2024-03-11", 21),
        ("2024-11-01", 21), ("2024-11-02", 21), ("2024-11-03", 22), ("2024-11-04", 22),
    ],
)  # fmt: skip
def test_a_day_ends_at_five_in_new_york_whatever_the_clocks_do(day, hour) -> None:
    found = Financing().rollovers(instant(day), instant(day) + pd.Timedelta(days=1))
    assert found.index.tolist() == [instant(f"{day} {hour}:00")]


def test_the_weeks_in_which_the_clocks_change_have_seven_nights_too() -> None:
    for first in ("2024-03-04", "2024-03-11", "2024-10-28", "2024-11-04"):
        start = instant(first)
        week = Financing().rollovers(start, start + pd.Timedelta(days=7))
        assert week.tolist() == [1, 1, 3, 1, 1, 0, 0]


@pytest.mark.parametrize(
    ("triple", "nights"),
    [(2, [1, 1, 3, 1, 1, 0, 0]), (3, [1, 1, 1, 3, 1, 0, 0]), (4, [1, 1, 1, 1, 3, 0, 0])],
)
def test_the_triple_day_is_the_instruments(triple, nights) -> None:
    assert Financing(triple_day=triple).rollovers(instant("2024-05-13"), instant("2024-05-20")).tolist() == nights


def test_a_holiday_is_charged_with_the_last_trading_day_before_it() -> None:
    terms = Financing(holidays=(date(2024, 12, 25), date(2025, 1, 1)))
    found = terms.rollovers(instant("2024-12-23"), instant("2025-01-06"))
    # Christmas 2024 was a Wednesday: its three nights go to Tuesday, as do those of New Year's day.
    assert found.tolist() == [1, 4, 0, 1, 1, 0, 0, 1, 4, 0, 1, 1, 0, 0]
    weekend = Financing(holidays=(date(2024, 3, 29), date(2024, 4, 1)))  # Good Friday and Easter Monday
    assert weekend.rollovers(instant("2024-03-25"), instant("2024-04-08")).tolist() == [1, 1, 3, 3] + [0] * 4 + [
        1, 3, 1, 1, 0, 0,
    ]  # fmt: skip


@given(
    start=st.datetimes(pd.Timestamp("2015-01-01"), pd.Timestamp("2030-01-01")),
    first=st.integers(0, 60 * 24),
    second=st.integers(0, 60 * 24),
    weeks=st.integers(1, 60),
    triple=st.integers(0, 4),
)
@settings(max_examples=40, deadline=None)
def test_nights_are_conserved(start, first, second, weeks, triple) -> None:
    terms = Financing(triple_day=triple, holidays=(date(2020, 12, 25), date(2024, 12, 25)))
    begin = pd.Timestamp(start, tz="UTC")
    middle, end = begin + pd.Timedelta(hours=first), begin + pd.Timedelta(hours=first + second)
    parts = pd.concat([terms.rollovers(begin, middle), terms.rollovers(middle, end)])
    pd.testing.assert_series_equal(parts, terms.rollovers(begin, end), check_freq=False)
    # Whole weeks of New York's calendar have seven nights each, and a borrow day each.
    local = pd.Timestamp(begin.tz_convert(NEW_YORK).date())
    span = [(local + pd.Timedelta(days=each)).tz_localize(NEW_YORK).tz_convert("UTC") for each in (0, 7 * weeks)]
    plain = Financing(triple_day=triple).rollovers(*span)
    assert (plain.sum(), len(plain)) == (7 * weeks, 7 * weeks)


@pytest.mark.parametrize(("day_count", "fee"), [(360, 1000 * 50 * 0.036 * 7 / 360), (365, 1000 * 50 * 0.036 * 7 / 365)])
def test_borrow_is_paid_by_shorts_for_every_calendar_day(day_count, fee) -> None:
    terms = Financing(borrow_rate=0.036, day_count=day_count)
    opens = pd.date_range("2024-05-13", "2024-05-20", freq="4h", tz="UTC")
    opens = opens[opens.day_of_week < 5]  # Friday's, Saturday's and Sunday's end fall into the gap
    assert paid(terms, -1000.0, opens, 50.0) == pytest.approx(-fee)
    assert paid(terms, 1000.0, opens, 50.0) == 0.0


def test_funding_is_paid_by_those_who_held_before_the_stamp() -> None:
    opens = pd.date_range("2024-05-13 06:00", periods=4, freq="1h", tz="UTC")
    stamps = pd.Series([0.0001, 0.01], pd.DatetimeIndex(["2024-05-13 08:00", "2024-05-13 10:00"], tz="UTC"))
    rate = Financing().carry(opens, stamps).rate
    # Opened at 06:00 or 07:00 and held at 08:00: charged at that open. The stamp after the last open is nobody's yet.
    assert rate.tolist() == [0.0, 0.0, 0.0001, 0.0]
    assert Financing().carry(opens[2:], stamps).rate.tolist() == [0.0, 0.0]
    daily = pd.date_range("2024-05-13", periods=2, freq="1D", tz="UTC")
    three = pd.Series([1e-4, 2e-4, 4e-4, 8e-4], pd.date_range("2024-05-13", periods=4, freq="8h", tz="UTC"))
    assert Financing().carry(daily, three).rate.tolist() == [0.0, pytest.approx(14e-4)]


def test_funding_after_a_bars_open_does_not_touch_it() -> None:
    opens = pd.date_range("2024-05-13", periods=30, freq="1h", tz="UTC")
    stamps = pd.date_range("2024-05-13", periods=4, freq="8h", tz="UTC")
    rates = pd.Series([0.1, 0.2, 0.3, 0.4], stamps)
    whole = Financing().carry(opens, rates)
    for row in range(1, 30):
        known = rates[rates.index <= opens[row]]
        cut = Financing().carry(opens[: row + 1], known)
        for one, other in zip(whole, cut, strict=True):
            np.testing.assert_array_equal(one[: row + 1], other)


@given(
    closes=st.lists(st.floats(0.01, 1e4), min_size=1, max_size=40),
    borrow=st.floats(0, 1),
    swaps=st.tuples(st.floats(-5, 5), st.floats(-5, 5)),
    rate=st.floats(-0.03, 0.03),
)
@settings(max_examples=40, deadline=None)
def test_rates_by_side_are_the_same_money(closes, borrow, swaps, rate) -> None:
    opens = pd.date_range("2024-05-13", periods=len(closes), freq="8h", tz="UTC")
    terms = Financing(borrow_rate=borrow, swap_long=swaps[0], swap_short=swaps[1])
    funding = pd.Series(rate, opens[::2])
    carry = terms.carry(opens, funding)
    sides = terms.position_rates(opens, np.array(closes), funding)
    for quantity, rates in ((3.0, sides[0]), (-3.0, sides[1])):
        assert rates[0] == 0
        for row in range(1, len(closes)):
            money = financing(
                terms.compiled(), quantity, closes[row - 1], carry.days[row], carry.nights[row], carry.rate[row]
            )
            assert -rates[row] * abs(quantity) * closes[row - 1] == pytest.approx(money, abs=1e-9)
    with pytest.raises(DataError, match="closes"):
        terms.position_rates(opens, np.array([*closes, 1.0]))
    with pytest.raises(DataError, match="not positive"):
        terms.position_rates(opens, np.array([*closes[1:], 0.0]))


@given(quantity=st.floats(-1e6, 1e6), price=st.floats(0.01, 1e5), rate=st.floats(-0.03, 0.03), days=st.integers(0, 9))
@settings(max_examples=60, deadline=None)
def test_what_longs_pay_shorts_receive_and_a_flat_position_pays_nothing(quantity, price, rate, days) -> None:
    assert funding_payment(quantity, price, rate) == -funding_payment(-quantity, price, rate)
    assert funding_payment(abs(quantity), price, abs(rate)) <= 0
    assert borrow_payment(quantity, price, 1e-4, days) <= 0
    terms = Financing(borrow_rate=0.1, swap_long=-1, swap_short=-2).compiled()
    assert financing(terms, 0.0, price, days, days, rate) == 0.0
    parts = borrow_payment(quantity, price, 0.1 / 365, days) + swap_payment(quantity, -1, -2, days)
    together = financing(terms, quantity, price, days, days, rate)
    assert together == pytest.approx(parts + funding_payment(quantity, price, rate))


def test_recorded_funding_is_charged_at_its_stamps(test_data) -> None:
    folder = test_data / "data/freqtrade/futures"
    rates = pd.read_feather(folder / "XRP_USDT_USDT-8h-funding_rate.feather").set_index("date")["open"]
    mark = pd.read_feather(folder / "XRP_USDT_USDT-8h-mark.feather").set_index("date")["open"]
    opens = pd.DatetimeIndex(mark.index)
    # The recording stamps some milliseconds after the hour: those rates are the next bar's.
    exact = rates.set_axis(rates.index.floor("8h"))
    assert (rates.index > exact.index).any()
    carry = Financing().carry(opens, exact)
    short = sum(funding_payment(-100.0, price, rate) for price, rate in zip(mark, carry.rate, strict=True))
    by_hand = sum(100.0 * mark[stamp] * rate for stamp, rate in exact.iloc[1:].items() if stamp in mark.index)
    assert short == pytest.approx(by_hand)
    assert short > 0
    late = Financing().carry(opens, rates).rate
    assert late.sum() <= exact.sum()


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"day_count": 364}, "day_count"),
        ({"triple_day": 5}, "triple_day"),
        ({"rollover_zone": "Mars/Olympus"}, "rollover_zone"),
        ({"rollover_zone": "../../etc/passwd"}, "rollover_zone"),
        ({"borrow_rate": -0.1}, "borrow_rate"),
        ({"swap_long": math.inf}, "swap_long"),
        ({"holidays": ["tomorrow"]}, "holidays"),
        ({"swaps": 1}, "swaps"),
    ],
)
def test_terms_that_are_none_are_refused(wrong, told) -> None:
    with pytest.raises(ConfigurationError, match=told):
        parse_financing(wrong)
    assert parse_financing({"holidays": ["2024-12-25"]}) == Financing(holidays=(date(2024, 12, 25),))


def test_bars_and_rates_that_are_none_are_refused() -> None:
    opens = pd.date_range("2024-05-13", periods=3, freq="1h", tz="UTC")
    for bad, rates, told in (
        (opens[::-1], None, "increase"),
        (opens.tz_localize(None), None, "time zone"),
        (opens, pd.Series([math.nan], opens[:1]), "finite"),
        (opens, pd.Series([0.1, 0.1], opens[[0, 0]]), "two funding rates"),
    ):
        with pytest.raises(DataError, match=told):
            Financing().carry(bad, rates)
    assert Financing().carry(opens[:0]).days.size == 0


def test_a_rollover_hour_that_the_clocks_skip_or_repeat_still_comes_once_a_day() -> None:
    terms = Financing(rollover_hour=2)
    for day in ("2024-03-10", "2024-11-03"):
        start = pd.Timestamp(day, tz=NEW_YORK)
        found = terms.rollovers(start.tz_convert("UTC"), (start + timedelta(days=1)).tz_convert("UTC"))
        assert len(found) == 1
    skipped = terms.rollovers(instant("2024-03-10 05:00"), instant("2024-03-10 12:00"))
    assert skipped.index[0] == instant("2024-03-10 07:00")


def test_the_simulator_charges_what_was_held_through_each_rollover() -> None:
    bars = make_bars(200)
    opens, close = pd.DatetimeIndex(bars.index), bars["close"].to_numpy()
    decisions = pd.DataFrame({"target": [-1000.0, 0.0]}, index=opens[[3, 150]])
    terms = Financing(borrow_rate=0.05, swap_short=-1e-5)
    long_rate, short_rate = terms.position_rates(opens, close)
    found = simulate(bars, decisions, long_rate=long_rate, short_rate=short_rate).trades["financing"].sum()
    carry = terms.carry(opens)
    # Sold at the open of row 4, bought back at that of row 151: held into rows 5 to 151.
    by_hand = sum(
        financing(terms.compiled(), -1000.0, close[row - 1], carry.days[row], carry.nights[row], 0.0)
        for row in range(5, 152)
    )
    assert found == pytest.approx(-by_hand)
    assert found > 0
