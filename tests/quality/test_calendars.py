"""Calendars: against the answer tables of exchange_calendars, New York's clock changes, and counting by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tapeline.core.errors import ConfigurationError
from tapeline.core.settings import load_settings
from tapeline.core.timeframe import Timeframe
from tapeline.quality.calendars import MarketCalendar, choose_calendar, missing_before

HOUR = 3_600_000_000_000


def at(text: str) -> pd.Timestamp:
    return pd.Timestamp(text, tz="UTC")


def span(start: str, end: str) -> tuple[np.ndarray, np.ndarray]:
    return np.array([at(start).value]), np.array([at(end).value])


# The futures table differs from today's calendar on six days around 19 June of 2022 to 2024, a holiday that the library
# learnt after the table was made; the two stock exchanges agree to the table's last day.
ANSWERS = {"XNYS": None, "XLON": None, "CMES": "2022-01-01"}


@pytest.mark.parametrize("name", list(ANSWERS))
def test_sessions_are_those_of_the_answer_table(test_data: Path, name: str) -> None:
    file = test_data / "data" / "exchange_calendars" / "tests" / "resources" / f"{name.lower()}.csv"
    table = pd.read_csv(file, index_col=0).sort_index()
    opens, closes = (pd.DatetimeIndex(pd.to_datetime(table[c], utc=True)).as_unit("ns").asi8 for c in ("open", "close"))
    until = at(ANSWERS[name]).value if ANSWERS[name] else opens[-1] + 1
    known = opens < until
    held = MarketCalendar.parse(name).sessions(at(str(table.index[0])[:10]), at(str(table.index[-1])[:10]))
    inside = (held.opens >= opens[0]) & (held.opens < until)
    np.testing.assert_array_equal(held.opens[inside], opens[known])
    np.testing.assert_array_equal(held.closes[inside], closes[known])
    assert known.sum() > 7000


def test_forex_follows_the_clock_of_new_york_and_not_of_europe() -> None:
    forex = MarketCalendar.parse("24x5")
    changes = {  # the last instant of the week, the first of the next
        "2017-03-03": ("2017-03-03 22:00", "2017-03-05 22:00"),
        "2017-03-10": ("2017-03-10 22:00", "2017-03-12 21:00"),  # New York has moved its clocks
        "2017-03-24": ("2017-03-24 21:00", "2017-03-26 21:00"),  # Europe moves its own
        "2017-11-03": ("2017-11-03 21:00", "2017-11-05 22:00"),
    }
    for close, opens in changes.values():
        assert forex.is_open(at(close) - pd.Timedelta(1))
        assert not forex.is_open(at(close))
        assert not forex.is_open(at(opens) - pd.Timedelta(1))
        assert forex.is_open(at(opens))
        assert forex.open_time(*span(close, opens)).tolist() == [0]
    assert not forex.is_open(at("2017-12-25 12:00"))
    assert forex.is_open(at("2017-12-26 12:00"))


def test_a_market_that_never_closes_is_always_due() -> None:
    always = MarketCalendar.parse("24x7")
    assert always.open_time(*span("2020-02-28", "2020-03-01")).tolist() == [48 * HOUR]
    assert always.due_bars(*span("2020-02-28", "2020-03-01"), "D1").tolist() == [2]
    assert always.due_bars(*span("2020-02-28 00:30", "2020-02-28 02:00"), "H1").tolist() == [2]


@pytest.mark.parametrize(
    ("name", "timeframe", "start", "end", "bars"),
    [
        ("XNYS", "H1", "2017-06-01 20:30", "2017-06-05 13:30", 7),  # one whole Friday, from half past to half past
        ("XNYS", "H1", "2017-07-03 00:00", "2017-07-04 00:00", 4),  # a short day: 13:30 to 17:00
        ("XNYS", "D1", "2017-07-01 00:00", "2017-07-05 00:00", 1),  # the 3rd; the 4th is a holiday
        ("XTKS", "M30", "2017-06-01 00:00", "2017-06-02 00:00", 10),  # 00:00 to 02:30 and 03:30 to 06:00
        ("XTKS", "H4", "2017-06-01 00:00", "2017-06-02 00:00", 2),  # a step that touches both halves is one bar
        ("24x5", "D1", "2017-06-03 00:00", "2017-06-05 00:00", 0),  # a Sunday's evening is no bar of its own
        ("24x5", "D1", "2017-06-03 00:00", "2017-06-06 00:00", 1),
        ("24x5", "W1", "2017-06-05 00:00", "2017-06-19 00:00", 2),
    ],
)
def test_due_bars(name: str, timeframe: str, start: str, end: str, bars: int) -> None:
    assert MarketCalendar.parse(name).due_bars(*span(start, end), timeframe).tolist() == [bars]


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from(["24x5", "XNYS", "XTKS"]),
    st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 200)), min_size=1, max_size=8),
    st.sampled_from(["M15", "H1", "H4"]),
)
def test_open_time_and_due_bars_are_those_of_a_count_by_the_minute(name, spans, timeframe) -> None:
    calendar, step = MarketCalendar.parse(name), Timeframe.parse(timeframe).nanoseconds
    quarter = 900_000_000_000
    origin = at("2017-12-15").value
    starts = np.array([origin + a * quarter for a, _ in spans])
    ends = starts + np.array([b * quarter for _, b in spans])
    held = calendar.sessions(at("2017-12-01"), at("2018-02-01"))

    def is_open(instant: int) -> bool:
        return bool(((held.opens <= instant) & (instant < held.closes)).any())

    for start, end, traded, due in zip(
        starts, ends, calendar.open_time(starts, ends), calendar.due_bars(starts, ends, timeframe), strict=True
    ):
        open_quarters = [t for t in range(start, end, quarter) if is_open(t)]
        assert traded == len(open_quarters) * quarter
        assert due == len({(t - start) // step for t in open_quarters})


def test_missing_bars_of_a_feed_count_from_the_newest_before() -> None:
    forex = MarketCalendar.parse("24x5")
    hours = [at(t).value for t in ("2017-01-06 20:00", "2017-01-08 23:00", "2017-01-08 22:00", "2017-01-09 02:00")]
    assert missing_before(np.array(hours), "H1", forex).tolist() == [0, 2, 0, 2]
    assert missing_before(np.array(hours[1:]), "H1", forex, newest=hours[0]).tolist() == [2, 0, 2]


def test_a_calendar_is_chosen_by_symbol_then_source_then_default() -> None:
    rules = {"symbols": {"BTC*": "24x7", "BTCX": "XNYS"}, "sources": {"mt5": "24x5"}}
    for symbol, source, name in [
        ("BTCUSD", "mt5", "24x7"),
        ("BTCX", "mt5", "XNYS"),
        ("EURUSD", "mt5", "24x5"),
        ("ACME", None, "XLON"),
        ("EURUSD", None, "24x5"),
        ("XAUUSD", "files", "24x5"),
        ("EUR/USD", "ccxt:kraken", "XLON"),
        ("EURABC", None, "XLON"),
    ]:
        assert choose_calendar(symbol, source, default="XLON", **rules).name == name
    with pytest.raises(ConfigurationError, match="'XNYSE' is unknown"):
        choose_calendar("A", None, default="XNYSE", symbols={}, sources={})


def test_bounds_without_a_zone_and_years_beyond_a_calendar_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="time zones"):
        MarketCalendar.parse("24x7").sessions(pd.Timestamp("2017-01-01"), at("2018-01-01"))
    with pytest.raises(ConfigurationError, match="XKRX is known from"):
        MarketCalendar.parse("XKRX").sessions(at("1900-01-01"), at("1901-01-01"))


def test_calendars_are_chosen_by_the_settings() -> None:
    chosen = load_settings(calendars={"symbols": {"AAPL": "XNYS"}, "sources": {"ccxt:*": "24x7"}, "default": "24x5"})
    rules = chosen.calendars.model_dump()
    assert choose_calendar("AAPL", "yahoo", **rules).name == "XNYS"
    assert choose_calendar("BTC/USDT", "ccxt:binance", **rules).name == "24x7"
    assert choose_calendar("EURUSD", "yahoo", **rules).name == "24x5"
