"""Events from publication on: real vintages of US GDP (ALFRED), real changes of the Fed's discount rate, and cases."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tapeline.core.errors import ConfigurationError, DataError
from tapeline.core.schemas import CALENDAR
from tapeline.core.timeframe import Timeframe
from tapeline.features.event_calendar import as_of, currencies_of, parse_calendar, touching
from tapeline.features.event_impact import event_impact, normal_move, relative_move
from tapeline.features.event_mapper import event_columns, map_events
from tests.support import make_bars

H1 = Timeframe.parse("H1")
UTC = "UTC"

# ALFRED's vintages of US GDP (billions, annual rate), as printed in the README of mortada/fredapi: quarter, date of
# publication, value. The Bureau of Economic Analysis publishes at 08:30 New York.
GDP_VINTAGES = (
    ("2013-07-01", "2014-07-30", 16872.3),
    ("2013-10-01", "2014-01-30", 17102.5),
    ("2013-10-01", "2014-02-28", 17080.7),
    ("2013-10-01", "2014-03-27", 17089.6),
    ("2013-10-01", "2014-07-30", 17078.3),
    ("2014-01-01", "2014-04-30", 17149.6),
    ("2014-01-01", "2014-05-29", 17101.3),
    ("2014-01-01", "2014-06-25", 17016.0),
    ("2014-01-01", "2014-07-30", 17044.0),
    ("2014-04-01", "2014-07-30", 17294.7),
)


def gdp_calendar() -> pd.DataFrame:
    """The vintages as statements: the first of a quarter is its release, later ones revise it."""
    frame = pd.DataFrame(GDP_VINTAGES, columns=["quarter", "day", "actual"])
    known = pd.DatetimeIndex(frame["day"] + " 08:30").tz_localize("America/New_York").tz_convert(UTC)
    return parse_calendar(
        pd.DataFrame(
            {
                "id": "us-gdp-" + frame["quarter"],
                "known_at": known,
                "published_at": known,
                "status": np.where(frame.duplicated("quarter"), "revised", "released"),
                "kind": "us gdp",
                "touches": [["currency:USD"]] * len(frame),
                "importance": 3,
                "actual": frame["actual"],
                "source": "alfred",
            }
        )
    )


def statement(event: str, known: str, **values: object) -> dict[str, object]:
    row = {
        "id": event,
        "known_at": pd.Timestamp(known, tz=UTC),
        "scheduled_at": pd.NaT,
        "published_at": pd.NaT,
        "status": "scheduled",
        "kind": "cpi",
        "touches": ["currency:USD"],
        "importance": 2,
        "actual": np.nan,
        "forecast": np.nan,
        "source": "test",
    }
    stamps = {"scheduled_at", "published_at"}
    return row | {k: pd.Timestamp(v, tz=UTC) if k in stamps else v for k, v in values.items()}  # type: ignore[arg-type]


def calendar_of(*rows: dict[str, object]) -> pd.DataFrame:
    frame = pd.DataFrame(rows)
    for name in ("known_at", "scheduled_at", "published_at"):
        frame[name] = pd.DatetimeIndex(pd.to_datetime(frame[name], utc=True))
    return parse_calendar(frame)


def hours(start: str, periods: int) -> pd.DataFrame:
    return pd.DataFrame(index=pd.date_range(start, periods=periods, freq="h", tz=UTC, name="ts").as_unit("ns"))


def test_revisions_are_those_of_the_day() -> None:
    calendar = gdp_calendar()

    def gdp(day: str) -> dict[str, float]:
        known = as_of(calendar, pd.Timestamp(day, tz=UTC))
        return dict(zip(known["id"].str.removeprefix("us-gdp-"), known["actual"], strict=True))

    assert gdp("2014-06-01") == {"2013-10-01": 17089.6, "2014-01-01": 17101.3}
    assert gdp("2014-05-29 12:29:59")["2014-01-01"] == 17149.6
    assert gdp("2014-05-29 12:30:00")["2014-01-01"] == 17101.3
    assert gdp("2014-08-01")["2014-01-01"] == 17044.0


def test_a_bar_sees_the_revision_that_was_out_at_its_close_and_no_later_one() -> None:
    bars = hours("2014-04-29 00:00", 24 * 100)
    mapped = map_events(bars, gdp_calendar(), "EURUSD", H1, after=pd.Timedelta(hours=6))
    first = mapped[mapped["id"] == "us-gdp-2014-01-01"]
    assert first["ts"].min() == pd.Timestamp("2014-04-30 12:00", tz=UTC), "08:30 New York falls into this hour"
    days = first.groupby(first["ts"].dt.date.astype(str))["actual"].agg(["nunique", "first"])
    assert days["first"].to_dict() == {
        "2014-04-30": 17149.6,
        "2014-05-29": 17101.3,
        "2014-06-25": 17016.0,
        "2014-07-30": 17044.0,
    }
    assert (days["nunique"] == 1).all()
    assert (mapped["known_at"] <= mapped["ts"] + pd.Timedelta(hours=1)).all()
    assert map_events(bars, gdp_calendar(), "EURGBP", H1).empty


def test_the_schedule_is_known_ahead_the_figure_is_not() -> None:
    due = "2017-03-15 12:30"
    calendar = calendar_of(
        statement("cpi", "2017-01-01", scheduled_at=due, forecast=2.5),
        statement("cpi", due, scheduled_at=due, published_at=due, status="released", forecast=2.5, actual=2.7),
    )
    mapped = map_events(hours("2017-03-15 09:00", 6), calendar, "USDJPY", H1, before=pd.Timedelta(hours=2))
    # Closes 11:00, 12:00 stand before it, the bar of 12:00 holds it, 13:00 and 14:00 come after.
    assert mapped["ts"].dt.hour.tolist() == [10, 11, 12, 13, 14]
    assert mapped["relation"].tolist() == ["before", "before", "at", "after", "after"]
    assert mapped["minutes"].tolist() == [-90, -30, 30, 90, 150]
    assert mapped["actual"].isna().tolist() == [True, True, False, False, False]
    np.testing.assert_allclose(mapped["surprise"].tolist()[2:], 0.2)
    wide = event_columns(hours("2017-03-15 09:00", 6), mapped)
    assert wide["event_next_minutes"].tolist()[:4] == pytest.approx([np.nan, 90, 30, np.nan], nan_ok=True)
    assert wide["event_last_minutes"].tolist()[3:] == [30, 90, 150]
    assert wide["event_count"].tolist() == [0, 1, 1, 1, 1, 1]


def test_of_events_near_a_bar_the_nearest_counts_then_the_more_important() -> None:
    calendar = calendar_of(
        statement("low", "2017-03-01", scheduled_at="2017-03-15 12:30", importance=1),
        statement("high", "2017-03-01", scheduled_at="2017-03-15 12:30", importance=3),
        statement("later", "2017-03-01", scheduled_at="2017-03-15 13:30", importance=2),
    )
    bars = hours("2017-03-15 10:00", 5)
    wide = event_columns(bars, map_events(bars, calendar, "EURUSD", H1, before=pd.Timedelta(hours=3)))
    assert wide["event_next_minutes"].tolist() == pytest.approx([90, 30, 30, np.nan, np.nan], nan_ok=True)
    assert wide["event_next_importance"].tolist() == pytest.approx([3, 3, 2, np.nan, np.nan], nan_ok=True)
    assert wide["event_last_importance"].tolist() == pytest.approx([np.nan, np.nan, 3, 2, 2], nan_ok=True)
    assert wide["event_count"].tolist() == [3, 3, 3, 3, 3]
    important = map_events(bars, calendar, "EURUSD", H1, minimum_importance=3)
    assert set(important["id"]) == {"high"}


def test_unscheduled_news_touches_nothing_before_it_is_out_late_news_nothing_before_it_arrived() -> None:
    news = statement("flash", "2017-03-15 10:20", published_at="2017-03-15 10:00", status="released", kind="news")
    mapped = map_events(hours("2017-03-15 06:00", 8), calendar_of(news), "EURUSD", H1, after=pd.Timedelta(hours=2))
    assert mapped["ts"].dt.hour.tolist() == [10, 11]
    late = statement("flash", "2017-03-15 11:20", published_at="2017-03-15 10:00", status="released", kind="news")
    mapped = map_events(hours("2017-03-15 06:00", 8), calendar_of(late), "EURUSD", H1, after=pd.Timedelta(hours=2))
    assert mapped["ts"].dt.hour.tolist() == [11]
    assert mapped["relation"].tolist() == ["after"]


def test_a_moved_event_stands_where_the_newest_schedule_puts_it_and_a_cancelled_one_nowhere() -> None:
    calendar = calendar_of(
        statement("cpi", "2017-03-01", scheduled_at="2017-03-15 12:00"),
        statement("cpi", "2017-03-15 09:30", scheduled_at="2017-03-15 16:00"),
        statement("gdp", "2017-03-01", scheduled_at="2017-03-15 12:00", kind="gdp"),
        statement("gdp", "2017-03-15 09:30", status="cancelled", kind="gdp"),
    )
    mapped = map_events(
        hours("2017-03-15 06:00", 8), calendar, "EURUSD", H1, before=pd.Timedelta(hours=4), after=pd.Timedelta(0)
    )
    by_event = mapped.groupby("id")["ts"].apply(lambda ts: ts.dt.hour.tolist()).to_dict()
    # Closes from 08:00 on see the old date four hours ahead of it; from 09:30 on the new one counts, from 12:00 on.
    assert by_event == {"cpi": [7, 8, 11, 12, 13], "gdp": [7, 8]}


@settings(max_examples=40, deadline=None)
@given(
    known=st.lists(st.integers(0, 60 * 30), min_size=1, max_size=8),
    lead=st.lists(st.integers(-300, 300), min_size=8, max_size=8),
    cut=st.integers(1, 29),
)
def test_what_a_bar_was_told_does_not_change_with_what_comes_later(known: list[int], lead: list[int], cut: int) -> None:
    start = pd.Timestamp("2017-03-15", tz=UTC)
    rows = []
    for number, (minute, ahead) in enumerate(zip(sorted(set(known)), lead, strict=False)):
        at = start + pd.Timedelta(minutes=minute)
        rows.append(
            statement(
                f"e{number % 2}",
                str(at.tz_localize(None)),
                scheduled_at=at.tz_localize(None) + pd.Timedelta(minutes=ahead),
            )
        )
    calendar = calendar_of(*rows)
    bars = hours("2017-03-15", 30)
    whole = map_events(bars, calendar, "EURUSD", H1)
    close = bars.index[cut] + pd.Timedelta(hours=1)
    then = map_events(bars.iloc[: cut + 1], calendar[calendar["known_at"] <= close], "EURUSD", H1)
    pd.testing.assert_frame_equal(whole[whole["ts"] <= bars.index[cut]].reset_index(drop=True), then, check_dtype=False)
    # The slow form: for each bar the newest statement of each event known at its close, if its time is near.
    slow = 0
    for close in H1.closes(bars.index):
        stands = as_of(calendar, close)
        away = (close - stands["scheduled_at"]).dt.total_seconds() / 3600
        slow += int(((away >= -4) & (away <= 4)).sum())
    assert len(whole) == slow


def test_symbols_are_touched_by_currency_name_sector_and_all() -> None:
    rows = [
        statement("a", "2017-03-15", scheduled_at="2017-03-16", touches=["currency:JPY", "currency:USD"]),
        statement("b", "2017-03-15", scheduled_at="2017-03-16", touches=["symbol:AAPL"]),
        statement("c", "2017-03-15", scheduled_at="2017-03-16", touches=["sector:energy"]),
        statement("d", "2017-03-15", scheduled_at="2017-03-16", touches=["all"]),
    ]
    calendar = calendar_of(*rows)
    names = {symbol: "".join(touching(calendar, symbol)["id"]) for symbol in ("EURJPY", "AAPL", "BTC/USDT", "EURGBP")}
    assert names == {"EURJPY": "ad", "AAPL": "bd", "BTC/USDT": "ad", "EURGBP": "d"}
    assert "".join(touching(calendar, "XOM", sectors=["energy"])["id"]) == "cd"


@pytest.mark.parametrize(
    ("symbol", "currencies"),
    [("GBPJPY", "GBP JPY"), ("XAUUSD", "XAU USD"), ("EURUSDm", "EUR USD"), ("BTCUSDT", "BTC USDT USD"), ("USDX", "")],
)
def test_currencies_of_a_symbol(symbol: str, currencies: str) -> None:
    assert " ".join(currencies_of(symbol)) == currencies


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (statement("x", "2017-01-01", scheduled_at="2017-01-02", actual=1.0), "figure before it is released"),
        (statement("x", "2017-01-01", published_at="2017-01-02", status="released"), "known before it was published"),
        (statement("x", "2017-01-01", status="released"), "released at no time"),
        (statement("x", "2017-01-01"), "scheduled for no time"),
        (statement("x", "2017-01-01", scheduled_at="2017-01-02", importance=7), "importance"),
        (statement("x", "2017-01-01", scheduled_at="2017-01-02", touches=["usd"]), "touches"),
        (statement("x", "2017-01-01", scheduled_at="2017-01-02", status="maybe"), "status"),
    ],
)
def test_impossible_statements_are_refused(row: dict[str, object], message: str) -> None:
    with pytest.raises(DataError, match=message):
        calendar_of(row)


def test_the_calendar_fits_its_table() -> None:
    assert CALENDAR.to_arrow(gdp_calendar()).num_rows == len(GDP_VINTAGES)
    with pytest.raises(DataError, match="expected UTC instants"):
        parse_calendar(gdp_calendar().assign(known_at=pd.Timestamp("2017-01-01")))
    with pytest.raises(ConfigurationError, match="importance"):
        map_events(hours("2017-01-01", 2), gdp_calendar(), "EURUSD", H1, minimum_importance=0)


# ---- impact


def test_normal_is_the_median_of_the_same_time_of_day() -> None:
    bars = make_bars(900, seed=5)
    moves = np.log(bars["close"]).diff().to_numpy()
    hour = bars.index.hour.to_numpy()
    found = normal_move(moves, hour.astype(np.int64), 10, 400)
    for i in (300, 555, 899):
        past = [abs(moves[j]) for j in range(i - 400, i) if hour[j] == hour[i] and not np.isnan(moves[j])][-10:]
        assert found[i] == pytest.approx(np.median(past) / 0.6744897501960817)
    scaled = relative_move(bars, days=10, longest=400).iloc[300]
    assert scaled == pytest.approx(moves[300] / found[300])


def quiet_bars(rows: int = 24 * 60) -> pd.DataFrame:
    generator = np.random.default_rng(4)
    ts = pd.date_range("2017-01-02", periods=rows, freq="h", tz=UTC, name="ts").as_unit("ns")
    size = np.where(ts.hour == 13, 5e-3, 1e-3)
    return pd.DataFrame({"close": np.exp(np.cumsum(generator.choice([-1.0, 1.0], rows) * size))}, index=ts)


def test_a_move_counts_by_its_own_hour_and_is_known_at_the_horizons_end() -> None:
    bars = quiet_bars()
    jump = bars.index.get_loc(pd.Timestamp("2017-02-10 03:00", tz=UTC))
    close = bars["close"].to_numpy().copy()
    close[jump:] *= np.exp(0.02)
    bars = bars.assign(close=close)
    rows = [
        statement(f"e{n}", day, published_at=day, status="released", kind="cpi")
        for n, day in enumerate(("2017-02-08 12:30", "2017-02-10 03:10"))
    ]
    impact = event_impact(bars, calendar_of(*rows), "EURUSD", H1, horizon=1)
    # An hour that always moves 0.5 percent, scaled as a normal's median would be, is worth 0.6745.
    assert impact["realised"].iloc[0] == pytest.approx(0.6745, rel=1e-3)
    move = abs(np.log(close[jump] / close[jump - 1]))
    assert impact["realised"].iloc[1] == pytest.approx(0.6745 * move / 1e-3, rel=1e-3)
    assert impact["realised_at"].dt.strftime("%d %H:%M").tolist() == ["08 13:00", "10 04:00"]


def test_expected_reads_earlier_events_of_its_kind_and_shrinks() -> None:
    bars = quiet_bars()
    days = pd.date_range("2017-02-01 02:30", periods=6, freq="3D")
    close = bars["close"].to_numpy().copy()
    for number, day in enumerate(days):
        close[bars.index.get_loc(pd.Timestamp(day, tz=UTC).floor("h")) :] *= np.exp(0.01 * (number + 1))
    rows = [statement(f"e{n}", str(d), published_at=str(d), status="released") for n, d in enumerate(days)]
    rows.append(statement("next", "2017-02-02", scheduled_at="2017-02-28 12:00"))
    impact = event_impact(bars.assign(close=close), calendar_of(*rows), "EURUSD", H1, horizon=1, shrinkage=2.0)
    realised = impact["realised"].to_numpy()
    assert impact["expected"].iloc[0] == pytest.approx(0.6745, rel=1e-4)
    for n in range(1, 6):
        assert impact["earlier"].iloc[n] == n
        # One kind alone: its own median and that of all kinds are the same, whatever the weight.
        assert impact["expected"].iloc[n] == pytest.approx(np.median(realised[:n]))
    assert impact["earlier"].iloc[6] == 6
    other = [
        statement(f"o{n}", "2017-01-20 02:30", published_at=f"2017-01-{18 + n} 02:30", status="released", kind="pmi")
        for n in range(2)
    ]
    mixed = event_impact(bars.assign(close=close), calendar_of(*rows, *other), "EURUSD", H1, horizon=1, shrinkage=2.0)
    target = mixed[mixed["id"] == "e2"].iloc[0]
    known = mixed[mixed["realised_at"] <= target["event_at"]]
    own = known[known["kind"] == "cpi"]["realised"].median()
    assert target["expected"] == pytest.approx(0.5 * own + 0.5 * known["realised"].median())


def test_the_past_of_the_impact_does_not_change_with_the_future() -> None:
    bars = quiet_bars()
    days = pd.date_range("2017-02-01 12:30", periods=8, freq="2D")
    calendar = calendar_of(
        *[statement(f"e{n}", str(d), published_at=str(d), status="released") for n, d in enumerate(days)]
    )
    cut = 24 * 38
    whole = event_impact(bars, calendar, "EURUSD", H1)
    part = event_impact(bars.iloc[:cut], calendar, "EURUSD", H1)
    end = bars.index[cut - 1] + pd.Timedelta(hours=1)
    known = (whole["realised_at"] <= end).to_numpy()
    assert 0 < known.sum() < known.size
    pd.testing.assert_frame_equal(whole[known], part[known])
    assert part.loc[~known, "realised"].isna().all()
    told = (whole["event_at"] <= end).to_numpy()
    np.testing.assert_allclose(whole["expected"][told], part["expected"][told])


# Changes of the Fed's discount rate that came with a scheduled decision; the file holds the day they took effect, the
# day after the announcement at 14:15 New York (14:00 from 2013 on).
UNSCHEDULED = {"2007-08-20", "2008-01-23", "2008-03-17", "2008-10-09", "2010-02-19"}


def test_rate_decisions_move_eurusd_more_than_its_hour_does(test_data: Path) -> None:
    file = zipfile.ZipFile(test_data / "data/lean/forex/oanda/hour/eurusd.zip")
    raw = pd.read_csv(file.open(file.namelist()[0]), header=None, usecols=[0, 4, 9])
    ts = pd.DatetimeIndex(pd.to_datetime(raw[0], format="%Y%m%d %H:%M"), name="ts").tz_localize(UTC).as_unit("ns")
    bars = pd.DataFrame({"close": (raw[4] + raw[9]).to_numpy() / 2}, index=ts)
    rates = pd.read_csv(test_data / "data/lean/alternative/interest-rate/usa/interest-rate.csv")
    rates = rates[(rates["DATE"] > "2007-06") & (rates["DATE"] < "2018-12-30") & ~rates["DATE"].isin(UNSCHEDULED)]
    days = pd.DatetimeIndex(rates["DATE"]) - pd.Timedelta(days=1)
    clock = np.where(days.year < 2013, 14 * 60 + 15, 14 * 60)
    out = (days + pd.to_timedelta(clock, unit="min")).tz_localize("America/New_York").tz_convert(UTC)
    calendar = parse_calendar(
        pd.DataFrame(
            {
                "id": "discount-rate-" + rates["DATE"].to_numpy(),
                "known_at": out,
                "published_at": out,
                "status": "released",
                "kind": "rate decision",
                "touches": [["currency:USD"]] * len(rates),
                "importance": 3,
                "actual": rates["PCREDIT8"].to_numpy(),
                "source": "fred",
            }
        )
    )
    impact = event_impact(bars, calendar, "EURUSD", H1, horizon=2)
    # Of 17 decisions one, of 14 December 2016, falls into a gap of the recording.
    assert impact["realised"].notna().tolist() == [day != "2016-12-15" for day in rates["DATE"]]
    assert impact["realised"].median() > 4.0, "hours like others have 0.67"
    assert impact["expected"].iloc[-1] > 4.0
    # A day earlier, at the same hour, nothing was announced.
    calm = calendar.assign(**{name: calendar[name] - pd.Timedelta(days=1) for name in ("known_at", "published_at")})
    assert event_impact(bars, calm, "EURUSD", H1, horizon=2)["realised"].median() < impact["realised"].median() / 1.5
