"""Context columns against the real VIX, real yields and real vintages of GDP, with their ages."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tapeline.core.errors import ConfigurationError, DataError
from tapeline.core.timeframe import Timeframe
from tapeline.features.enrich import Context, enrich, newest_period
from tapeline.features.event_mapper import EVENT_COLUMNS
from tapeline.sources.volatility_index import read_cboe_history
from tests.core.samples import eurusd
from tests.features.test_events import GDP_VINTAGES, gdp_calendar
from tests.support import make_bars

H1 = Timeframe.parse("H1")
D1 = Timeframe.parse("D1")


def test_the_vix_is_joined_when_its_session_has_ended(test_data: Path) -> None:
    levels, _ = read_cboe_history(test_data / "data/vix/data/vix-daily.csv")
    bars = eurusd().iloc[:2000]
    vix = Context("vix", levels, pd.DatetimeIndex(levels["known_at"]), ("close",), tolerance=timedelta(days=5))
    result = enrich(bars, H1, [vix])
    assert list(result.columns) == ["vix_close", "vix_close_age"]
    closes = bars.index + pd.Timedelta(hours=1)
    for i in (30, 500, 1234, 1999):
        known = levels[levels["known_at"] <= closes[i]].iloc[-1]
        assert result["vix_close"].iloc[i] == known["close"]
        assert result["vix_close_age"].iloc[i] == (closes[i] - known["known_at"]).total_seconds()
    # On Wednesday 4 January 2017 the day's close, known 16:15 New York, shows from the bar of 21:00 UTC on.
    day = result.loc["2017-01-04"]["vix_close"]
    before, after = levels.loc["2017-01-03", "close"].item(), levels.loc["2017-01-04", "close"].item()
    assert set(day.loc[:"2017-01-04 20:00"]) == {before}
    assert set(day.loc["2017-01-04 21:00":]) == {after}


def test_yields_join_by_publication_each_with_its_own_age(test_data: Path) -> None:
    file = test_data / "data/zipline/src/zipline/resources/market_data/treasury_curves.csv"
    raw = pd.read_csv(file, parse_dates=["Time Period"])
    # The Treasury publishes a day's curve by 18:00 New York.
    day = pd.DatetimeIndex(raw["Time Period"]).tz_localize(None)
    known = (day + pd.Timedelta(hours=18)).tz_localize("America/New_York").tz_convert("UTC")
    bars = eurusd().iloc[:700]
    result = enrich(bars, H1, [Context("yield", raw, known, ("10year", "3month"))])
    row = result.loc["2017-01-20 13:00"]
    assert row.tolist() == [0.0247, 15 * 3600, 0.0052, 15 * 3600]
    assert result.loc["2017-01-19 21:00", "yield_10year"] == 0.0242
    # Nothing came out from Friday evening to Tuesday evening, Monday being Martin Luther King's day.
    assert result.loc["2017-01-17 12:00", "yield_10year_age"] == (3 * 24 + 14) * 3600


def test_of_vintages_the_newest_quarter_counts_and_an_old_one_never_comes_back() -> None:
    vintages = pd.DataFrame(GDP_VINTAGES, columns=["period", "day", "value"])
    vintages["known_at"] = pd.DatetimeIndex(vintages["day"] + " 08:30").tz_localize("America/New_York")
    kept = newest_period(vintages)
    assert kept["value"].tolist() == [17102.5, 17080.7, 17089.6, 17149.6, 17101.3, 17016.0, 17294.7]
    bars = make_bars(250, timeframe="D1", start="2014-01-25", gaps=False)
    gdp = Context("gdp", kept[["value"]], pd.DatetimeIndex(kept["known_at"]))
    result = enrich(bars, D1, [gdp])
    value = result["gdp_value"]
    assert np.isnan(value.loc["2014-01-29"])
    assert value.loc["2014-04-29"] == 17089.6
    assert value.loc["2014-05-28"] == 17149.6
    assert value.loc["2014-05-29"] == 17101.3
    assert value.loc["2014-08-20"] == 17294.7
    assert result["gdp_value_age"].loc["2014-05-30"] == pytest.approx((24 + 11.5) * 3600)


def test_every_column_has_its_own_age_and_a_stale_value_is_missing() -> None:
    bars = make_bars(30, start="2017-01-03")
    stamps = pd.DatetimeIndex(["2017-01-03 02:00", "2017-01-03 05:00"], tz="UTC")
    table = pd.DataFrame({"mood": [0.5, np.nan], "count": [3, 8]})
    result = enrich(bars, H1, [Context("news", table, stamps, lag=timedelta(minutes=30), tolerance=timedelta(hours=6))])
    row = result.loc["2017-01-03 06:00"]
    assert row.tolist() == [0.5, 4.5 * 3600, 8.0, 1.5 * 3600]
    assert result.loc["2017-01-03 04:00", "news_count"] == 3, "half an hour later, at 05:30, is the second one readable"
    stale = result.loc["2017-01-03 09:00"]
    assert stale[["news_mood", "news_mood_age"]].isna().all()
    assert stale["news_count"] == 8


def test_sessions_holidays_and_events_come_with_ages() -> None:
    bars = make_bars(24 * 20, start="2014-05-19", gaps=False)
    result = enrich(bars, H1, sessions=True, exchanges=["XNYS"], calendar=gdp_calendar(), symbol="EURUSD")
    names = [name for name in result.columns if not name.endswith("_age")]
    assert {"london", "XNYS_holiday", *EVENT_COLUMNS} <= set(names)
    assert [f"{name}_age" for name in names] == [name for name in result.columns if name.endswith("_age")]
    assert (result["london_age"] == 3600).all()
    memorial_day = result.loc["2014-05-26"]
    assert (memorial_day["XNYS_holiday"] == 1).all()
    assert (memorial_day["XNYS_open"] == 0).all()
    assert memorial_day["XNYS_minutes_from_open_age"].isna().all()
    # The revision of 29 May came out at 12:30 UTC; the bar of 13:00 closes at 14:00.
    hour = result.loc["2014-05-29 13:00"]
    assert hour["event_last_minutes"] == 90
    assert hour["event_last_minutes_age"] == 90 * 60
    assert np.isnan(result.loc["2014-05-29 11:00", "event_last_minutes"])


def test_the_past_of_every_column_stays_as_it_was() -> None:
    bars = make_bars(300, start="2014-05-19", gaps=False)
    generator = np.random.default_rng(0)
    known = pd.DatetimeIndex(bars.index[generator.integers(0, 300, 40)] + pd.Timedelta(minutes=17))
    table = pd.DataFrame({"score": generator.normal(size=40)})

    def run(rows: int) -> pd.DataFrame:
        seen = known <= bars.index[rows - 1] + pd.Timedelta(hours=1)
        told = gdp_calendar()
        told = told[told["known_at"] <= bars.index[rows - 1] + pd.Timedelta(hours=1)]
        context = Context("mood", table[seen], known[seen])
        return enrich(bars.iloc[:rows], H1, [context], sessions=True, calendar=told, symbol="EURUSD")

    whole = run(300)
    for rows in (50, 160, 252, 253, 254, 299):
        pd.testing.assert_frame_equal(run(rows), whole.iloc[:rows])


def test_what_does_not_fit_is_refused() -> None:
    bars = make_bars(5)
    one = Context("x", pd.DataFrame({"a": [1.0]}), pd.DatetimeIndex(["2017-01-01"], tz="UTC"))
    with pytest.raises(ConfigurationError, match="two contexts give the columns"):
        enrich(bars, H1, [one, one])
    with pytest.raises(ConfigurationError, match="needs a symbol"):
        enrich(bars, H1, calendar=gdp_calendar())
    with pytest.raises(ConfigurationError, match="has no columns"):
        Context("x", one.table, one.known_at, ("b",))
    with pytest.raises(DataError, match="2 instants for 1 rows"):
        enrich(bars, H1, [Context("x", one.table, one.known_at.append(one.known_at))])
    with pytest.raises(DataError, match="not numeric"):
        enrich(bars, H1, [Context("x", pd.DataFrame({"a": ["high"]}), one.known_at)])
