from __future__ import annotations

import datetime as dt
import math

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tapeline.core.errors import DataError
from tapeline.sources.cells import decimal_mark, instants, numbers


def column(values, kind=None) -> pa.ChunkedArray:
    return pa.chunked_array([pa.array(values, kind)])


def read(values, **options) -> list[str | None]:
    result = instants(column(values), **options)
    assert set(result.reasons) == set(np.flatnonzero(result.bad))
    return [
        None if bad else str(pd.Timestamp(ns, unit="ns"))
        for ns, bad in zip(result.nanoseconds, result.bad, strict=True)
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2020-01-02", "2020-01-02 00:00:00"),
        ("2020-01-02 03:04", "2020-01-02 03:04:00"),
        ("2020-01-02T03:04:05.123456", "2020-01-02 03:04:05.123456"),
        ("2020-01-02T03:04:05Z", "2020-01-02 03:04:05"),
        ("2020-01-02 03:04:05+02:00", "2020-01-02 01:04:05"),
        ("2020-01-02 03:04:05 -0500", "2020-01-02 08:04:05"),
        ("2020-01-02 03:04:05 UTC", "2020-01-02 03:04:05"),
        ("2021.11.15 01:39", "2021-11-15 01:39:00"),
        ("2021.11.15 01:39:00", "2021-11-15 01:39:00"),
        ("15.11.2021 22:00:00.000", "2021-11-15 22:00:00"),
        ("01.01.2017 00:00:00.000 GMT+0200", "2016-12-31 22:00:00"),
        ("20120201 010203", "2012-02-01 01:02:03"),
        ("20120201", "2012-02-01 00:00:00"),
        ("2020/01/02 3:04", "2020-01-02 03:04:00"),
        ("25/12/2021 10:00", "2021-12-25 10:00:00"),
        ("12/25/2021 10:00", "2021-12-25 10:00:00"),
        ("1609459200", "2021-01-01 00:00:00"),
        ("1609459200000", "2021-01-01 00:00:00"),
        ("1609459200000000", "2021-01-01 00:00:00"),
        ("1609459200000000000", "2021-01-01 00:00:00"),
    ],
)
def test_known_spellings(text, expected):
    assert read([text]) == [expected]


def test_a_slashed_date_that_says_nothing_is_not_guessed():
    with pytest.raises(DataError, match="day comes first"):
        read(["1/2/2021"])
    with pytest.raises(DataError, match="day comes first"):
        read(["13/2/2021", "2/13/2021"])
    assert read(["1/2/2021"], day_first=True) == ["2021-02-01 00:00:00"]
    assert read(["1/2/2021"], day_first=False) == ["2021-01-02 00:00:00"]


def test_naive_times_are_of_the_zone_given():
    assert read(["2020-07-01 09:30", "2020-01-01 09:30"], zone="America/New_York") == [
        "2020-07-01 13:30:00",
        "2020-01-01 14:30:00",
    ]


def test_a_clock_change_names_no_instant_or_two():
    result = instants(column(["2020-03-29 02:30", "2020-10-25 02:30", "2020-10-25 03:30"]), zone="Europe/Berlin")
    assert result.bad.tolist() == [True, True, False]
    assert "clock change in Europe/Berlin" in result.reasons[0]


def test_mixed_zones_come_to_utc_and_the_zoneless_among_them_is_bad():
    values = ["2020-01-01 00:00+02:00", "2020-01-01T00:00:00Z", "2020-01-01 00:00"]
    assert read(values) == ["2019-12-31 22:00:00", "2020-01-01 00:00:00", None]
    assert "no zone" in instants(column(values)).reasons[2]


def test_one_bad_time_costs_one_row():
    values = ["2021.11.15 01:39", "soon", "", "2021.02.30 00:00", "9999.01.01 00:00", "15.11.2021 01:40"]
    assert read(values) == ["2021-11-15 01:39:00", None, None, None, None, "2021-11-15 01:40:00"]


def test_epochs_keep_the_unit_of_their_column():
    assert read(["1609459200", "1609459260000", "x"]) == ["2021-01-01 00:00:00", None, None]
    assert read([1609459200000, 1609459260, 1609459260000]) == ["2021-01-01 00:00:00", None, "2021-01-01 00:01:00"]
    assert read(np.array([1609459200000, 1609459260000])) == ["2021-01-01 00:00:00", "2021-01-01 00:01:00"]
    assert read([1609459200, None]) == ["2021-01-01 00:00:00", None]
    assert read([1609459200.0, math.nan, math.inf]) == ["2021-01-01 00:00:00", None, None]


def test_typed_times():
    naive = pa.array([dt.datetime(2020, 7, 1, 9, 30), None], pa.timestamp("us"))
    assert read(naive, zone="America/New_York") == ["2020-07-01 13:30:00", None]
    aware = pa.array([dt.datetime(2020, 7, 1, 9, 30, tzinfo=dt.UTC)], pa.timestamp("ms", "Asia/Tokyo"))
    assert read(aware) == ["2020-07-01 09:30:00"]
    assert read(pa.array([dt.date(2020, 7, 1)])) == ["2020-07-01 00:00:00"]
    assert read(pa.array([2**60], pa.timestamp("s"))) == [None]


def test_values_that_are_numbers_by_some_word():
    values, bad = numbers(
        column(["1", " 2.5 ", "+3", "-4e-1", ".5", "6.", "inf", "-Infinity", "NaN", "", "n/a", "NULL"])
    )
    assert not bad.any()
    np.testing.assert_array_equal(
        values, [1, 2.5, 3, -0.4, 0.5, 6, math.inf, -math.inf, math.nan, math.nan, math.nan, math.nan]
    )


@pytest.mark.parametrize("cell", ["abc", "=1+1", "@SUM(A1)", "+cmd|'/c calc'!A0", "0x10", "1_000", "1,5", "--1", "1 2"])
def test_cells_that_are_no_number(cell):
    values, bad = numbers(column([cell, "1.5"]))
    assert bad.tolist() == [True, False]
    assert math.isnan(values[0])


def test_decimal_commas_and_groups():
    values, bad = numbers(column(["1.234,5", "1,5", "1.5.5"]), decimal=",")
    assert values[:2].tolist() == [1234.5, 1.5]
    assert bad.tolist() == [False, False, True]
    assert numbers(column(["1,234,567"]))[1].tolist() == [True]
    assert numbers(column(["1,234,567"]), grouped=True)[0].tolist() == [1234567.0]
    assert decimal_mark([column(["1,2345", "1,23"])]) == ","
    assert decimal_mark([column(["0,987"])]) == ","
    assert decimal_mark([column(["1,234.5", "1,234"])]) == "."
    assert decimal_mark([column([1.5])]) == "."
    with pytest.raises(DataError, match=r"1\.234 or 1234"):
        decimal_mark([column(["1,234", "1,235"])])


def test_typed_numbers_and_refusals():
    values, bad = numbers(column([1, None, 3], pa.uint8()))
    np.testing.assert_array_equal(values, [1, math.nan, 3])
    assert not bad.any()
    assert numbers(column([2**63 + 1024], pa.uint64()))[0][0] == float(2**63 + 1024)
    with pytest.raises(DataError, match="neither numbers nor texts"):
        numbers(column([[1.0]]))


@given(st.lists(st.floats(allow_nan=True, allow_infinity=True), min_size=1, max_size=20))
def test_every_float_survives_as_text(values):
    result, bad = numbers(column([repr(value) for value in values]))
    assert not bad.any()
    np.testing.assert_array_equal(result, values)


@given(
    st.lists(st.datetimes(dt.datetime(1700, 1, 1), dt.datetime(2200, 1, 1)), min_size=1, max_size=10),
    st.sampled_from(
        ["%Y-%m-%d %H:%M:%S", "%Y.%m.%d %H:%M:%S", "%d.%m.%Y %H:%M:%S", "%Y%m%d %H%M%S", "%Y-%m-%dT%H:%M:%SZ"]
    ),
)
def test_every_instant_survives_each_spelling(moments, form):
    moments = [moment.replace(microsecond=0) for moment in moments]
    result = instants(column([moment.strftime(form) for moment in moments]))
    assert not result.bad.any()
    assert result.nanoseconds.tolist() == [pd.Timestamp(moment).as_unit("ns").value for moment in moments]


@given(st.lists(st.text(max_size=30), max_size=10))
def test_no_text_breaks_the_reader(values):
    times = column(values, pa.string())
    try:
        result = instants(times)
    except DataError:
        result = None  # a slashed date that does not say its order is refused as a whole
    cells, bad = numbers(times)
    assert len(cells) == len(bad) == len(values)
    assert result is None or set(result.reasons) == set(np.flatnonzero(result.bad))
