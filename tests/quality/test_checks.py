"""The row check: each reason alone, all of them at random, and real bars."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tapeline.core.errors import ConfigurationError, SchemaError
from tapeline.core.symbol import Symbol
from tapeline.core.timeframe import Timeframe
from tapeline.quality.checks import ALL, ROUNDING, SENTENCES, STRUCTURAL, VALUES, Reason, check_bars, split
from tapeline.sources.base import BarRequest, Data
from tapeline.sources.sample import SampleSource
from tests.quality.batches import raw_bars, sample_bars
from tests.support import make_bars

HOUR = pd.Timedelta(hours=1)
NOW = pd.Timestamp("2030-01-01", tz="UTC")

# One fault a row: how a good bar is broken, and exactly what must be said of it.
FAULTS = {
    "nan open": ({"open": math.nan}, Reason.NOT_FINITE),
    "nan high": ({"high": math.nan}, Reason.NOT_FINITE),
    "nan low": ({"low": math.nan}, Reason.NOT_FINITE),
    "nan close": ({"close": math.nan}, Reason.NOT_FINITE),
    "infinite high": ({"high": math.inf}, Reason.NOT_FINITE),
    "negative infinite low": ({"low": -math.inf}, Reason.NOT_FINITE),
    "infinite volume": ({"volume": math.inf}, Reason.NOT_FINITE),
    "negative infinite volume": ({"volume": -math.inf}, Reason.NOT_FINITE),
    "zero open": ({"open": 0.0}, Reason.NOT_POSITIVE),
    "negative low": ({"low": -1.0}, Reason.NOT_POSITIVE),
    "all negative": ({"open": -1.0, "high": -1.0, "low": -1.0, "close": -1.0}, Reason.NOT_POSITIVE),
    "high below low": ({"high": 0.5}, Reason.HIGH_BELOW_LOW),
    "open above high": ({"open": 9.0}, Reason.OPEN_OUTSIDE),
    "open below low": ({"open": 0.1}, Reason.OPEN_OUTSIDE),
    "close above high": ({"close": 9.0}, Reason.CLOSE_OUTSIDE),
    "close below low": ({"close": 0.1}, Reason.CLOSE_OUTSIDE),
    "negative volume": ({"volume": -1.0}, Reason.NEGATIVE_VOLUME),
    "negative spread": ({"spread": -1e-5}, Reason.NEGATIVE_SPREAD),
    "wrong close time": ({"close_ts": pd.Timestamp("2017-01-02", tz="UTC")}, Reason.WRONG_CLOSE_TIME),
    "missing close time": ({"close_ts": pd.NaT}, Reason.WRONG_CLOSE_TIME),
    "known too early": ({"known_at": pd.Timestamp("2017-01-02", tz="UTC")}, Reason.KNOWN_BEFORE_CLOSE),
    "missing known_at": ({"known_at": pd.NaT}, Reason.KNOWN_BEFORE_CLOSE),
    "open and volume": ({"open": 9.0, "volume": -1.0}, Reason.OPEN_OUTSIDE | Reason.NEGATIVE_VOLUME),
    "open and close": ({"open": 9.0, "close": 0.1}, Reason.OPEN_OUTSIDE | Reason.CLOSE_OUTSIDE),
    "missing volume is no fault": ({"volume": math.nan}, Reason(0)),
    "zero volume is no fault": ({"volume": 0.0}, Reason(0)),
    "missing spread is no fault": ({"spread": math.nan}, Reason(0)),
}


def good_bars(rows: int = 40) -> pd.DataFrame:
    return raw_bars(rows).assign(spread=1e-5)


def assert_same(left: pd.DataFrame, right: pd.DataFrame) -> None:
    pd.testing.assert_frame_equal(left, right, check_freq=False)


def broken(bars: pd.DataFrame, faults: dict[int, str]) -> pd.DataFrame:
    bars = bars.copy()
    for row, fault in faults.items():
        for name, value in FAULTS[fault][0].items():
            bars.iloc[row, bars.columns.get_loc(name)] = value
    return bars


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_gets_exactly_its_reason(fault: str) -> None:
    checked = check_bars(broken(good_bars(), {7: fault}), Timeframe.parse("H1"), now=NOW)
    expected = np.zeros(40, dtype=np.uint32)
    expected[7] = FAULTS[fault][1]
    np.testing.assert_array_equal(checked.mask, expected)


def test_every_reason_is_reached_by_a_test_and_has_a_sentence() -> None:
    times = {
        Reason.MISSING_TIME,
        Reason.DUPLICATE_TIME,
        Reason.CONFLICTING_TIME,
        Reason.OFF_GRID,
        Reason.FUTURE,
        Reason.UNFINISHED,
        Reason.LATE,  # tests/quality/test_feed_validator.py
    }
    reached = {part for _, reasons in FAULTS.values() for part in reasons} | times
    assert reached == set(Reason) == set(SENTENCES)
    assert STRUCTURAL | VALUES == ALL
    assert not STRUCTURAL & VALUES


@settings(max_examples=60, deadline=None)
@given(
    faults=st.dictionaries(st.integers(0, 39), st.sampled_from(sorted(FAULTS)), max_size=20), seed=st.integers(0, 99)
)
def test_planted_faults_are_found_and_nothing_else_is_touched(faults: dict[int, str], seed: int) -> None:
    sound = good_bars()
    order = np.random.default_rng(seed).permutation(40)
    bars = broken(sound, faults).iloc[order]
    checked = check_bars(bars, "H1", now=NOW)
    expected = np.array([FAULTS[faults[row]][1] if row in faults else 0 for row in order], dtype=np.uint32)
    np.testing.assert_array_equal(checked.mask, expected)
    good, bad = split(bars, checked)
    assert len(good) + len(bad) == len(bars)
    passed = [row for row in range(40) if not (row in faults and FAULTS[faults[row]][1])]
    assert_same(good, broken(sound, faults).iloc[passed])
    assert_same(bad, bars[expected != 0])


def plain_verdict(o: float, h: float, low: float, c: float, v: float, s: float) -> int:
    """The reasons against the values of one row, written as a person would check them by hand."""
    found = Reason(0)
    if math.isinf(v):
        found |= Reason.NOT_FINITE
    elif v < 0:
        found |= Reason.NEGATIVE_VOLUME
    if s < 0:
        found |= Reason.NEGATIVE_SPREAD
    if not all(map(math.isfinite, (o, h, low, c))):
        return found | Reason.NOT_FINITE
    if min(o, h, low, c) <= 0:
        return found | Reason.NOT_POSITIVE
    slack = h * ROUNDING
    if h < low - slack:
        return found | Reason.HIGH_BELOW_LOW
    if not low - slack <= o <= h + slack:
        found |= Reason.OPEN_OUTSIDE
    if not low - slack <= c <= h + slack:
        found |= Reason.CLOSE_OUTSIDE
    return found


number = st.one_of(
    st.sampled_from([0.0, 1.0, 1.1, 0.9, -1.0, math.nan, math.inf, -math.inf, 1.7e308]), st.floats(0.5, 2)
)


@settings(max_examples=80, deadline=None)
@given(st.lists(st.tuples(number, number, number, number, number, number), min_size=1, max_size=30))
def test_any_values_get_the_verdict_of_a_check_by_hand(rows: list[tuple[float, ...]]) -> None:
    ts = pd.date_range("2017-01-02", periods=len(rows), freq="1h", tz="UTC", name="ts")
    bars = pd.DataFrame(rows, columns=["open", "high", "low", "close", "volume", "spread"], index=ts)
    assert check_bars(bars, "H1").mask.tolist() == [plain_verdict(*row) for row in rows]


@pytest.mark.parametrize(
    ("timeframe", "opens", "on_grid"),
    [
        ("M15", "2017-01-02 09:15", True),
        ("M15", "2017-01-02 09:20", False),
        ("H4", "2017-01-02 08:00", True),
        ("H4", "2017-01-02 21:00", True),  # a broker that follows the New York close
        ("H4", "2017-01-02 21:10", False),
        ("M10", "2017-01-02 09:05", True),  # of ten and fifteen minutes five is the greatest common divisor
        ("M10", "2017-01-02 09:04", False),
        ("H1", "2017-01-02 13:30", True),  # New York's shares in summer
        ("H1", "2017-01-02 03:45", True),  # Mumbai's
        ("H1", "2017-01-02 13:31", False),
        ("D1", "2017-01-03 00:00", True),
        ("D1", "2017-01-02 22:00", True),
        ("D1", "2017-01-03 05:20", False),
        ("W1", "2017-01-02 00:00", True),
        ("W1", "2017-01-01 22:00", True),
        ("W1", "2017-01-01 22:01", False),
        ("W1", "1969-12-29 00:00", True),  # before the epoch
        ("S30", "2017-01-02 09:00:30", True),
        ("S30", "2017-01-02 09:00:45", False),
        ("H1", "2017-01-02 09:00:00.000000001", False),
    ],
)
def test_grid(timeframe: str, opens: str, on_grid: bool) -> None:
    bars = make_bars(1).drop(columns="close_ts").set_axis(pd.DatetimeIndex([opens], tz="UTC", name="ts").as_unit("ns"))
    assert check_bars(bars, timeframe).mask[0] == (0 if on_grid else Reason.OFF_GRID)


@pytest.mark.parametrize(
    ("clock", "reason"),
    [
        ("2017-01-02 10:00", Reason(0)),  # complete at this very instant
        ("2017-01-02 09:59:59", Reason.UNFINISHED),
        ("2017-01-02 09:00", Reason.UNFINISHED),
        ("2017-01-02 08:59:59", Reason.FUTURE),
    ],
)
def test_clock(clock: str, reason: Reason) -> None:
    bars = make_bars(1, start="2017-01-02 09:00")
    assert check_bars(bars, "H1", now=pd.Timestamp(clock, tz="UTC")).mask[0] == reason
    assert check_bars(bars, "H1").mask[0] == 0
    with pytest.raises(ConfigurationError, match="time zone"):
        check_bars(bars, "H1", now=pd.Timestamp(clock))


def test_the_clock_parts_a_batch_at_the_last_complete_bar() -> None:
    checked = check_bars(make_bars(4, start="2017-01-02 09:00"), "H1", now=pd.Timestamp("2017-01-02 11:00", tz="UTC"))
    assert checked.mask.tolist() == [0, 0, Reason.UNFINISHED, Reason.FUTURE]


def test_a_missing_arrival_is_found_before_the_epoch_too() -> None:
    bars = raw_bars(3, start="1960-01-04")
    bars["known_at"] = bars["known_at"].where([True, False, True])
    assert check_bars(bars, "H1").mask.tolist() == [0, Reason.KNOWN_BEFORE_CLOSE, 0]


def test_of_equal_bars_the_first_is_kept() -> None:
    bars = good_bars(6)
    bars.iloc[2, bars.columns.get_loc("spread")] = np.nan
    batch = pd.concat([bars, bars.iloc[[2, 4, 2]]])
    checked = check_bars(batch, "H1")
    assert checked.mask.tolist() == [0] * 6 + [Reason.DUPLICATE_TIME] * 3
    assert_same(split(batch, checked)[0], bars)


def test_of_conflicting_bars_the_first_sound_one_is_kept() -> None:
    bars = good_bars(5)
    other = bars.iloc[[2]].assign(volume=1.5)
    rubbish = bars.iloc[[2]].assign(close=math.nan)
    assert check_bars(pd.concat([bars, other]), "H1").mask.tolist() == [0] * 5 + [Reason.CONFLICTING_TIME]
    # A broken row ahead of the sound one does not oust it, neither when values are judged nor when only times are.
    batch = pd.concat([rubbish, bars, other])
    broken_row = int(Reason.CONFLICTING_TIME | Reason.NOT_FINITE)
    assert check_bars(batch, "H1").mask.tolist() == [broken_row, 0, 0, 0, 0, 0, Reason.CONFLICTING_TIME]
    structure = check_bars(batch, "H1", reasons=STRUCTURAL)
    assert structure.mask.tolist() == [Reason.CONFLICTING_TIME, 0, 0, 0, 0, 0, Reason.CONFLICTING_TIME]
    # Where none is sound the first stands for its time and is refused for what is wrong with it.
    batch = pd.concat([rubbish, rubbish])
    assert check_bars(batch, "H1", reasons=STRUCTURAL).mask.tolist() == [0, Reason.DUPLICATE_TIME]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 6), st.sampled_from([1.0, 1.1, math.nan])), min_size=1, max_size=25))
def test_exactly_one_row_of_each_time_is_kept(rows: list[tuple[int, float]]) -> None:
    ts = pd.Timestamp("2017-01-02", tz="UTC") + pd.to_timedelta([hour for hour, _ in rows], unit="h")
    price = [value for _, value in rows]
    bars = pd.DataFrame(dict.fromkeys(("open", "high", "low", "close"), price) | {"volume": 1.0}, index=ts)
    bars.index.name = "ts"
    checked = check_bars(bars, "H1", reasons=STRUCTURAL)
    kept = bars[checked.passed]
    assert kept.index.is_unique
    assert set(kept.index) == set(ts)
    for hour in set(ts):
        mine = [(i, price[i]) for i in range(len(rows)) if ts[i] == hour]
        sound = [i for i, value in mine if not math.isnan(value)]
        first = sound[0] if sound else mine[0][0]
        for i, value in mine:
            same = value == price[first] or (math.isnan(value) and math.isnan(price[first]))
            expected = Reason(0) if i == first else Reason.DUPLICATE_TIME if same else Reason.CONFLICTING_TIME
            assert checked.mask[i] == expected


@pytest.mark.parametrize("far", ["2017-02-01", "2200-01-01", "1700-01-01"])
def test_repeated_times_are_found_however_far_the_rows_lie_apart(far: str) -> None:
    bars = good_bars(4).drop(columns=["close_ts", "known_at"])
    bars.index = pd.DatetimeIndex([*bars.index[:3], pd.Timestamp(far, tz="UTC")], name="ts").as_unit("ns")
    batch = pd.concat([bars, bars.iloc[[1, 3]]])
    assert check_bars(batch, "H1").mask.tolist() == [0, 0, 0, 0, Reason.DUPLICATE_TIME, Reason.DUPLICATE_TIME]
    both_ends = bars.set_axis(
        pd.DatetimeIndex(["2261-01-01", "1680-01-01", "2261-01-01", "1680-01-01"], tz="UTC", name="ts")
    )
    assert check_bars(both_ends, "H1", reasons=STRUCTURAL).passed.tolist() == [True, True, False, False]


def test_unsorted_rows_are_counted_and_sorted_not_refused() -> None:
    bars = good_bars(6)
    shuffled = bars.iloc[[0, 2, 1, 5, 3, 4]]
    checked = check_bars(shuffled, "H1")
    assert checked.passed.all()
    assert checked.n_unsorted == 3  # the rows 1, 3 and 4 each stand after a later one
    assert_same(split(shuffled, checked)[0], bars)


def test_rows_without_a_time() -> None:
    bars = good_bars(4)
    bars.index = bars.index.where([True, False, True, False])
    checked = check_bars(bars, "H1", now=NOW)
    assert checked.mask.tolist() == [0, Reason.MISSING_TIME, 0, Reason.MISSING_TIME]
    assert checked.n_unsorted == 0
    assert len(split(bars, checked)[0]) == 2
    nothing = bars.set_axis(pd.Index([None] * 4, name="ts"))
    assert check_bars(nothing, "H1").counts() == {"missing_time": 4}


def test_a_year_that_nanoseconds_cannot_hold_is_no_time() -> None:
    ts = pd.DatetimeIndex(np.array(["2017-01-02", "9999-01-01", "0001-01-01"], dtype="M8[us]"), name="ts")
    bars = make_bars(3).drop(columns="close_ts").set_axis(ts.tz_localize("UTC"))
    assert check_bars(bars, "H1").mask.tolist() == [0, Reason.MISSING_TIME, Reason.MISSING_TIME]


def test_times_of_another_zone_or_in_a_column_are_the_same_instants() -> None:
    bars = good_bars(5)
    moved = bars.tz_convert("America/New_York").reset_index()
    checked = check_bars(moved, "H1")
    assert checked.passed.all()
    assert_same(split(moved, checked)[0], bars)


def test_rounding_is_left_to_cleaning_and_more_is_refused() -> None:
    bars = make_bars(2)
    bars.iloc[0, bars.columns.get_loc("high")] = bars["close"].iloc[0] * (1 - ROUNDING / 2)
    bars.iloc[1, bars.columns.get_loc("high")] = bars["close"].iloc[1] * (1 - ROUNDING * 2)
    bars["open"] = bars["low"]
    assert check_bars(bars, "H1").mask.tolist() == [0, Reason.CLOSE_OUTSIDE]


def test_an_instrument_may_have_negative_prices() -> None:
    oil = pd.DataFrame(
        {"open": [17.73], "high": [17.85], "low": [-40.32], "close": [-37.63], "volume": [1.0]},  # WTI, 20 April 2020
        index=pd.DatetimeIndex(["2020-04-20"], tz="UTC", name="ts"),
    )
    assert check_bars(oil, "D1").counts() == {"not_positive": 1}
    assert check_bars(oil, "D1", reasons=ALL & ~Reason.NOT_POSITIVE).passed.all()
    assert check_bars(oil.assign(high=-50.0), "D1", reasons=ALL & ~Reason.NOT_POSITIVE).counts() == {
        "high_below_low": 1
    }


def test_text_that_reads_as_a_number_is_that_number_and_other_text_is_refused() -> None:
    bars = make_bars(3).astype({"open": object, "volume": object})
    opened = bars["open"].iloc[0]
    bars.iloc[0, 0] = repr(opened)
    bars.iloc[1, 0] = "=1+1"
    bars.iloc[2, bars.columns.get_loc("volume")] = "many"
    checked = check_bars(bars, "H1")
    assert checked.mask.tolist() == [0, Reason.NOT_FINITE, Reason.NOT_FINITE]
    good, bad = split(bars, checked)
    assert good["open"].dtype == np.float64
    assert good["open"].tolist() == [opened]
    assert bad["open"].iloc[0] == "=1+1"


def test_a_frame_that_is_no_bars_is_an_error_that_says_why() -> None:
    bars = make_bars(3)
    with pytest.raises(SchemaError, match="without a time zone"):
        check_bars(bars.tz_localize(None), "H1")
    with pytest.raises(SchemaError, match="int64"):
        check_bars(bars.reset_index(drop=True), "H1")
    with pytest.raises(SchemaError, match=r"lack the columns \['high', 'volume'\]"):
        check_bars(bars.drop(columns=["high", "volume"]), "H1")
    with pytest.raises(SchemaError, match="twice"):
        check_bars(pd.concat([bars, bars["open"]], axis=1), "H1")
    with pytest.raises(SchemaError, match="expected numbers"):
        check_bars(bars.assign(open=bars["close_ts"]), "H1")
    with pytest.raises(ConfigurationError, match="2 rows, the batch has 3"):
        split(bars, check_bars(bars.iloc[:2], "H1"))


def test_an_empty_batch_passes_with_nothing() -> None:
    nothing = good_bars(1).iloc[:0]
    checked = check_bars(nothing, "H1", now=NOW)
    assert checked.mask.shape == (0,)
    assert checked.counts() == {}
    assert [len(part) for part in split(nothing, checked)] == [0, 0]


def test_reasons_read_as_sentences() -> None:
    checked = check_bars(broken(good_bars(3), {1: "open and volume"}), "H1")
    assert checked.reasons(0) == []
    assert checked.reasons(1) == [
        "open_outside: the open lies outside low to high",
        "negative_volume: the volume is negative",
    ]


def test_the_packaged_bars_pass() -> None:
    bars = sample_bars()
    checked = check_bars(bars, "H1", now=NOW)
    assert len(bars) == 6225
    assert checked.counts() == {}
    assert checked.n_unsorted == 0


@pytest.mark.parametrize(("timeframe", "rows"), [("D1", 11_503), ("H1", 3_478), ("M1", 1_595)])
def test_the_packaged_bars_of_a_share_pass(timeframe: str, rows: int) -> None:
    outcome = SampleSource().fetch(BarRequest(Symbol.parse("AAPL"), Timeframe.parse(timeframe)))
    assert isinstance(outcome, Data)
    checked = check_bars(outcome.bars, timeframe, now=NOW)
    assert len(outcome.bars) == rows
    assert checked.counts() == {}


def test_crossed_quotes_of_a_real_broker_are_found(test_data: Path) -> None:
    folder = test_data / "data" / "nautilus" / "fxcm"
    bid = pd.read_csv(folder / "gbpusd-m1-bid-2012.csv")
    ask = pd.read_csv(folder / "gbpusd-m1-ask-2012.csv")
    ts = pd.DatetimeIndex(pd.to_datetime(bid.pop("timestamp"), utc=True), name="ts")
    bars = bid.assign(volume=np.nan, spread=ask["close"] - bid["close"]).set_axis(ts)
    checked = check_bars(bars, "M1")
    assert len(bars) == 30_117
    assert checked.counts() == {"negative_spread": 347}  # the count that stands in the set's ORIGIN.md


def test_a_file_broken_on_purpose(test_data: Path) -> None:
    table = pd.read_csv(test_data / "data" / "indicator_oracles" / "quotes" / "bad.csv")
    ts = pd.DatetimeIndex(pd.to_datetime(table.pop("date"), format="%m/%d/%Y", utc=True), name="ts")
    bars = table.set_axis(ts)
    checked = check_bars(bars, "D1", reasons=ALL & ~STRUCTURAL)
    names = ["open", "high", "low", "close", "volume"]
    assert checked.mask.tolist() == [plain_verdict(*row, 0.0) for row in bars[names].to_numpy()]
    assert check_bars(bars, "D1").counts()["missing_time"] == int(ts.isna().sum()) > 0


def test_a_file_in_descending_order_is_sorted(test_data: Path) -> None:
    table = pd.read_csv(test_data / "data" / "indicator_oracles" / "quotes" / "longest.csv", encoding="utf-8-sig")
    table.columns = table.columns.str.lower()
    ts = pd.DatetimeIndex(pd.to_datetime(table.iloc[:, 0], format="mixed", utc=True), name="ts")
    checked = check_bars(table.set_axis(ts), "D1")
    assert checked.n_unsorted == len(table) - 1
    good, bad = split(table.set_axis(ts), checked)
    assert good.index.is_monotonic_increasing
    assert bad.empty
