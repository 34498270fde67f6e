"""The gap table: each reason by its evidence, real bars, and the lineage of a lake."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from tapeline.core.errors import ConfigurationError, DataError
from tapeline.core.schemas import RAW_BARS
from tapeline.core.symbol import Symbol
from tapeline.core.timeframe import Timeframe
from tapeline.lake.lake import Lake, Lineage
from tapeline.quality.calendars import MarketCalendar
from tapeline.quality.gaps import find_gaps, lineage_coverage, summarize
from tapeline.sources.base import BarRequest, Data
from tapeline.sources.sample import SampleSource
from tests.quality.batches import raw_bars, sample_bars

ALWAYS, FOREX = MarketCalendar.parse("24x7"), MarketCalendar.parse("24x5")
H1 = Timeframe.parse("H1")
SYMBOL = Symbol.parse("EURUSD")


def at(text: str) -> pd.Timestamp:
    return pd.Timestamp(text, tz="UTC")


def hours(*texts: str) -> pd.DatetimeIndex:
    return pd.DatetimeIndex(texts, name="ts").tz_localize("UTC")


def spans(*pairs: tuple[str, str]) -> pd.DataFrame:
    return pd.DataFrame({"start": hours(*(a for a, _ in pairs)), "end": hours(*(b for _, b in pairs))})


BARS = hours("2017-01-03 00:00", "2017-01-03 04:00", "2017-01-03 05:00")
WHOLE = spans(("2017-01-03 00:00", "2017-01-03 06:00"))
HALF = spans(("2017-01-03 00:00", "2017-01-03 02:00"))


@pytest.mark.parametrize(
    ("evidence", "reason"),
    [
        ({}, "unknown"),
        ({"coverage": WHOLE}, "unknown"),
        ({"coverage": HALF}, "not_downloaded"),
        ({"coverage": HALF, "outages": WHOLE}, "not_downloaded"),
        ({"coverage": WHOLE, "outages": HALF}, "outage"),
        ({"outages": spans(("2017-01-03 04:00", "2017-01-03 05:00"))}, "unknown"),  # elsewhere
        ({"coverage": WHOLE, "omits_empty": True}, "no_trade"),
        ({"omits_empty": True}, "unknown"),  # nothing says that it was asked for
        ({"coverage": WHOLE, "peers": hours("2017-01-03 02:00")}, "no_trade"),
        ({"coverage": WHOLE, "peers": hours("2017-01-03 00:00", "2017-01-03 04:00")}, "outage"),
        ({"peers": hours("2017-01-03 02:00")}, "unknown"),
    ],
)
def test_the_reason_follows_from_the_evidence(evidence: dict, reason: str) -> None:
    gaps = find_gaps(BARS, "H1", FOREX, **evidence)
    assert gaps[["start", "end", "missing_bars"]].to_numpy().tolist() == [
        [at("2017-01-03 01:00"), at("2017-01-03 04:00"), 3]
    ]
    assert gaps["reason"].tolist() == [reason]
    assert gaps["open_time"].tolist() == [pd.Timedelta(hours=3)]


def test_a_closed_market_needs_no_other_reason() -> None:
    weekend = hours("2017-01-06 21:00", "2017-01-08 22:00")
    gaps = find_gaps(weekend, "H1", FOREX, coverage=HALF, outages=spans(("2017-01-01", "2018-01-01")))
    assert gaps["reason"].tolist() == ["market_closed"]
    assert find_gaps(weekend, "H1", ALWAYS)["missing_bars"].tolist() == [48]


def test_both_ends_of_a_range_count_where_they_are_given() -> None:
    gaps = find_gaps(BARS[1:], "H1", ALWAYS, start=at("2017-01-03 02:00"), end=at("2017-01-03 09:00"))
    assert gaps["missing_bars"].tolist() == [2, 3]
    assert find_gaps(BARS[:0], "H1", ALWAYS, start=at("2017-01-03"), end=at("2017-01-04"))["missing_bars"].tolist() == [
        24
    ]
    assert find_gaps(BARS[:0], "H1", ALWAYS).empty
    assert find_gaps(BARS[1:], "H1", ALWAYS).empty


def test_every_gap_of_the_packaged_euro_is_a_closed_market() -> None:
    gaps = find_gaps(sample_bars().index, "H1", FOREX)
    assert len(gaps) == 52
    assert gaps["reason"].tolist() == ["market_closed"] * 52
    assert (gaps["open_time"] == pd.Timedelta(0)).all()
    # Without the holiday of 25 December two of them were not: one late open and 14 hours of Christmas Day.
    weekdays = gaps[gaps["start"].dt.day_of_week < 4]
    assert weekdays["start"].tolist() == [at("2017-12-25 08:00")]
    removed = sample_bars().index.delete([100, 101, 3000])
    found = find_gaps(removed, "H1", FOREX)
    assert found[found["reason"] != "market_closed"]["missing_bars"].tolist() == [2, 1]
    assert summarize(found)["missing_bars"].to_dict()["unknown"] == 3


def packaged_share(timeframe: str) -> pd.DatetimeIndex:
    outcome = SampleSource().fetch(BarRequest(Symbol.parse("AAPL"), Timeframe.parse(timeframe)))
    assert isinstance(outcome, Data)
    return pd.DatetimeIndex(outcome.bars.index)


@pytest.mark.parametrize(("timeframe", "holes"), [("D1", 2_491), ("M1", 4)])
def test_every_gap_of_the_packaged_share_is_a_closed_exchange(timeframe: str, holes: int) -> None:
    gaps = find_gaps(packaged_share(timeframe), timeframe, MarketCalendar.parse("XNYS"))
    assert gaps["reason"].tolist() == ["market_closed"] * holes


def test_the_hourly_bars_of_the_packaged_share_really_lack_fourteen() -> None:
    gaps = find_gaps(packaged_share("H1"), "H1", MarketCalendar.parse("XNYS"))
    left = gaps[gaps["reason"] != "market_closed"]
    # The file has no bar for the last half hour of a short day, and lacks most of 30 January and 2 February 2026.
    assert [(str(row.start.date()), row.missing_bars) for row in left.itertuples()] == [
        ("2024-11-29", 1),
        ("2024-12-24", 1),
        ("2025-07-03", 1),
        ("2025-11-28", 1),
        ("2025-12-24", 1),
        ("2026-01-30", 9),
    ]


def test_a_quiet_pair_has_minutes_without_a_trade(test_data: Path) -> None:
    table = pd.read_feather(test_data / "data" / "freqtrade" / "XRP_ETH-1m.feather")
    index = pd.DatetimeIndex(table["date"])
    whole = pd.DataFrame({"start": [index[0]], "end": [index[-1]]})
    gaps = find_gaps(index, "M1", ALWAYS, coverage=whole, omits_empty=True)
    assert (len(gaps), int(gaps["missing_bars"].sum())) == (676, 1091)  # the counts that stand in the set's notes
    assert set(gaps["reason"]) == {"no_trade"}


def test_lineage_proves_what_one_download_made(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    bars = raw_bars(300, start="2016-12-26")  # two years: two partitions of one download
    holed = bars.drop(bars.index[[50, 51, 250]])
    lake.write(RAW_BARS, holed, SYMBOL, H1, lineage=Lineage("one", "ingest"))
    coverage = lineage_coverage(lake, SYMBOL, H1)
    assert coverage[["start", "end", "run_id"]].to_numpy().tolist() == [
        [holed.index[0], holed.index[-1] + H1.duration, "one"]
    ]
    stored = pd.DatetimeIndex(lake.read(RAW_BARS, SYMBOL, H1).index)
    gaps = find_gaps(stored, H1, FOREX, coverage=coverage, omits_empty=True)
    assert gaps[gaps["reason"] == "no_trade"]["missing_bars"].tolist()[-1] == 1
    # A second download into the last year: nothing is proved there any more.
    more = raw_bars(400, start="2016-12-26").iloc[350:]
    lake.write(RAW_BARS, more, SYMBOL, H1, lineage=Lineage("two", "ingest"))
    assert lineage_coverage(lake, SYMBOL, H1)["end"].tolist() == [at("2017-01-01") - pd.Timedelta(days=1)]
    assert lineage_coverage(lake, Symbol.parse("GBPUSD"), H1).empty


def test_what_is_no_series_is_refused() -> None:
    with pytest.raises(DataError, match="sorted and unique"):
        find_gaps(BARS[[1, 0]], "H1", ALWAYS)
    with pytest.raises(DataError, match="time zone"):
        find_gaps(BARS.tz_localize(None), "H1", ALWAYS)
    with pytest.raises(ConfigurationError, match="expected start and end"):
        find_gaps(BARS, "H1", ALWAYS, coverage=pd.DataFrame({"from": []}))
