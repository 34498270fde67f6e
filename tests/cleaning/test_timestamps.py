"""Timestamps: every unit and spelling, each rule for a doubtful hour, and errors that name the value."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tapeline.cleaning.timestamps import UNITS, normalize_timestamps
from tapeline.core.errors import ConfigurationError, DataError

NEW_YORK = "America/New_York"


@settings(max_examples=100, deadline=None)
@given(st.integers(pd.Timestamp("1990-01-01").value, pd.Timestamp("2099-12-31").value), st.sampled_from(list(UNITS)))
def test_the_unit_is_told_by_the_size(stamp: int, unit: str) -> None:
    number = stamp // UNITS[unit]
    read = normalize_timestamps([number, number + 1])
    assert read.unit == unit
    assert read.index.as_unit("ns").asi8.tolist() == [number * UNITS[unit], (number + 1) * UNITS[unit]]


@settings(max_examples=100, deadline=None)
@given(st.integers(-9_000_000_000_000_000_000, 9_000_000_000_000_000_000), st.sampled_from(list(UNITS)))
def test_integers_of_a_stated_unit_are_exact(stamp: int, unit: str) -> None:
    number = stamp // UNITS[unit]
    for values in ([number], np.array([number]), pd.Series([number]), [str(number)]):
        assert normalize_timestamps(values, unit=unit).index.asi8.tolist() == [number * UNITS[unit]]


def test_floats_keep_their_fraction() -> None:
    read = normalize_timestamps([1483347600.25, 1483347600.5, float("nan")], errors="reject")
    assert read.unit == "s"
    assert read.index[:2].tolist() == [
        pd.Timestamp("2017-01-02 09:00:00.25", tz="UTC"),
        pd.Timestamp("2017-01-02 09:00:00.5", tz="UTC"),
    ]
    assert read.rejected.to_dict("list") == {"row": [2], "value": ["nan"], "reason": ["is missing"]}


def test_a_unit_that_cannot_be_told_is_refused_with_the_value() -> None:
    with pytest.raises(DataError, match=r"1483347600000 in row 1 cannot be told: the others are in s"):
        normalize_timestamps([1483347600, 1483347600000])
    with pytest.raises(DataError, match=r"12345 in row 0 .* no unit"):
        normalize_timestamps([12345])
    assert normalize_timestamps([12345], unit="s").index[0] == pd.Timestamp(12345, unit="s", tz="UTC")
    with pytest.raises(DataError, match="mix numbers with others such as '2017"):
        normalize_timestamps([1483347600, "2017-01-02"])
    with pytest.raises(DataError, match="truth values"):
        normalize_timestamps([True, False])


def test_text_datetimes_and_offsets_agree() -> None:
    want = pd.Timestamp("2017-07-03 13:30", tz="UTC")
    spelled = ["2017-07-03T13:30Z", "2017-07-03 09:30-04:00", datetime(2017, 7, 3, 13, 30, tzinfo=UTC)]
    spelled.append(datetime(2017, 7, 3, 19, 0, tzinfo=timezone(timedelta(hours=5, minutes=30))))
    assert normalize_timestamps(spelled).index.tolist() == [want] * 4
    local = ["2017-07-03 09:30", "2017-07-03T09:30:00.000", datetime(2017, 7, 3, 9, 30)]
    assert normalize_timestamps(local, zone=NEW_YORK).index.tolist() == [want] * 3
    assert normalize_timestamps(["03.07.2017 09:30"], zone=NEW_YORK, text_format="%d.%m.%Y %H:%M").index[0] == want
    for held in (pd.DatetimeIndex(["2017-07-03 09:30"]).as_unit("s"), np.array(["2017-07-03T09:30"], dtype="M8[ms]")):
        assert normalize_timestamps(held, zone=NEW_YORK).index[0] == want
    assert normalize_timestamps(pd.DatetimeIndex([want]).tz_convert("Asia/Tokyo")).index[0] == want


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, "is missing"),
        ("", "is no time"),
        ("yesterday-ish", "is no time"),
        ("2017-02-30", "is no time"),
        ("9999-01-01", "lies outside the years 1678 to 2261"),
        ("nan", "is no time"),
    ],
)
def test_what_gives_no_instant_is_listed_or_raised(value: object, reason: str) -> None:
    values = ["2017-01-02T00:00Z", value]
    read = normalize_timestamps(values, errors="reject")
    assert read.index.isna().tolist() == [False, True]
    assert read.rejected["reason"].tolist() == [reason]
    with pytest.raises(DataError, match=f"in row 1 {reason}"):
        normalize_timestamps(values)


def test_numbers_out_of_range_are_rejected() -> None:
    read = normalize_timestamps([1483347600, 10**19, float("inf")], unit="s", errors="reject")
    assert read.index.isna().tolist() == [False, True, True]
    assert read.rejected["value"].tolist() == [str(10**19), "inf"]


def test_a_repeated_hour_follows_the_rule() -> None:
    clock = ["2017-11-05 00:30", "2017-11-05 01:30", "2017-11-05 02:30"]
    read = {rule: normalize_timestamps(clock, zone=NEW_YORK, ambiguous=rule).index[1] for rule in ("earlier", "later")}
    assert read == {
        "earlier": pd.Timestamp("2017-11-05 05:30", tz="UTC"),
        "later": pd.Timestamp("2017-11-05 06:30", tz="UTC"),
    }
    with pytest.raises(DataError, match=r"'2017-11-05 01:30' in row 1 occurs twice in America/New_York"):
        normalize_timestamps(clock, zone=NEW_YORK, errors="reject")
    rejected = normalize_timestamps(clock, zone=NEW_YORK, ambiguous="reject").rejected
    assert rejected["value"].tolist() == ["2017-11-05 01:30"]
    with pytest.raises(DataError, match="the order of the values does not tell"):
        normalize_timestamps(clock, zone=NEW_YORK, ambiguous="infer")


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from([(NEW_YORK, "2017-11-05 04:00"), ("Europe/Berlin", "2021-10-30 23:00"), ("Europe/Dublin",
    "2020-10-24 23:00"), ("Australia/Lord_Howe", "2019-04-06 13:00")]),
    st.sampled_from([1, 5, 10, 15]),
)  # fmt: skip
def test_the_order_tells_the_two_passings_apart(place: tuple[str, str], minutes: int) -> None:
    zone, start = place
    true = pd.date_range(start, periods=240 // minutes, freq=f"{minutes}min", tz="UTC")
    wall = true.tz_convert(zone).tz_localize(None)
    assert not wall.is_monotonic_increasing  # the clock did go back
    assert normalize_timestamps(wall, zone=zone, ambiguous="infer").index.tolist() == true.tolist()


def test_a_skipped_hour_follows_the_rule() -> None:
    clock = ["2017-03-12 01:59", "2017-03-12 02:30"]
    after = pd.Timestamp("2017-03-12 07:00", tz="UTC")
    forward = normalize_timestamps(clock, zone=NEW_YORK, nonexistent="shift_forward").index[1]
    backward = normalize_timestamps(clock, zone=NEW_YORK, nonexistent="shift_backward").index[1]
    assert (forward, backward) == (after, after - pd.Timedelta(1, unit="ns"))
    with pytest.raises(DataError, match=r"'2017-03-12 02:30' in row 1 does not exist in America/New_York"):
        normalize_timestamps(clock, zone=NEW_YORK, errors="reject")
    assert normalize_timestamps(clock, zone=NEW_YORK, nonexistent="reject").index.isna().tolist() == [False, True]


@settings(max_examples=60, deadline=None)
@given(st.datetimes(datetime(1975, 1, 1), datetime(2035, 1, 1)), st.sampled_from([NEW_YORK, "Europe/London", "UTC"]))
def test_wall_clocks_agree_with_the_standard_library(wall: datetime, zone: str) -> None:
    place = ZoneInfo(zone)
    want = [wall.replace(tzinfo=place, fold=fold) for fold in (0, 1)]
    if want[0].astimezone(UTC).astimezone(place).replace(tzinfo=None) != wall:
        return  # skipped by the clock; has its own test
    for rule, at in zip(("earlier", "later"), want, strict=True):
        read = normalize_timestamps([wall], zone=zone, ambiguous=rule).index[0]
        assert read.to_pydatetime() == at.astimezone(UTC)


def test_rules_and_zones_are_checked() -> None:
    with pytest.raises(ConfigurationError, match="etc/passwd' is unknown"):
        normalize_timestamps(["2017-01-02"], zone="../etc/passwd")
    for options in ({"unit": "h"}, {"ambiguous": "guess"}, {"nonexistent": "NaT"}, {"errors": "coerce"}):
        with pytest.raises(ConfigurationError, match="is unknown"):
            normalize_timestamps([1483347600], **options)
    with pytest.raises(DataError, match="'2017-01-02' in row 0 has no offset"):
        normalize_timestamps(["2017-01-02"])
    assert len(normalize_timestamps([]).index) == 0


def test_yahoos_own_days(test_data: Path) -> None:
    table = pd.read_csv(test_data / "api/yahoo/yfinance_repair/AV-L-1wk-bad-stock-split.csv")
    read = normalize_timestamps(table["Date"])
    assert read.index.tz_convert("Europe/London").normalize().equals(read.index.tz_convert("Europe/London"))
    assert len(set(read.index.hour)) == 2  # winter and summer
