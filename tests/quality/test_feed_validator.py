"""The feed's check: any chunks give the verdict of the whole, a plain account agrees, memory does not grow."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from zipfile import ZipFile

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tapeline.core.errors import ConfigurationError, SchemaError
from tapeline.quality.calendars import MarketCalendar
from tapeline.quality.checks import ALL, STRUCTURAL, Reason, check_bars
from tapeline.quality.feed_validator import BarFeedValidator, FeedVerdict, TickFeedValidator, check_bar_feed
from tapeline.quality.tick_checks import TickFlag, check_ticks, flag_counts
from tests.quality.batches import sample_bars

FOREX = MarketCalendar.parse("24x5")
ORIGIN = pd.Timestamp("2017-01-06 12:00", tz="UTC")  # a Friday: the weekend lies within reach


def bars_of(rows: list[tuple[int, float]]) -> pd.DataFrame:
    ts = pd.DatetimeIndex([ORIGIN + pd.Timedelta(hours=hour) for hour, _ in rows], name="ts").as_unit("ns")
    price = [value for _, value in rows]
    return pd.DataFrame(dict.fromkeys(("open", "high", "low", "close"), price) | {"volume": 1.0}, index=ts)


def in_chunks(validator, frame: pd.DataFrame, cuts: list[int], **options) -> FeedVerdict:
    edges = [0, *sorted(cut % (len(frame) + 1) for cut in cuts), len(frame)]
    parts = [validator.feed(frame.iloc[a:b], **options) for a, b in itertools.pairwise(edges)]
    return FeedVerdict(
        np.concatenate([part.mask for part in parts]),
        sum(part.n_unsorted for part in parts),
        missing=np.concatenate([part.missing for part in parts]),
        flags=np.concatenate([part.flags for part in parts]),
    )


def assert_equal(left: FeedVerdict, right: FeedVerdict) -> None:
    for name in ("mask", "missing", "flags"):
        np.testing.assert_array_equal(getattr(left, name), getattr(right, name), err_msg=name)
    assert left.n_unsorted == right.n_unsorted


def plain_account(rows: list[tuple[int, float]], memory: int, reasons: Reason) -> list[int]:
    """The rule as a person would keep the book: the times that stand, and the newest of them remembered."""
    held: dict[int, float] = {}
    forgotten = -math.inf
    out = []
    for hour, price in rows:
        if math.isnan(price) and reasons & Reason.NOT_FINITE:
            out.append(int(Reason.NOT_FINITE))
        elif hour in held:
            same = price == held[hour] or (math.isnan(price) and math.isnan(held[hour]))
            out.append(int(Reason.DUPLICATE_TIME if same else Reason.CONFLICTING_TIME))
        elif hour <= forgotten:
            out.append(int(Reason.LATE))
        else:
            out.append(0)
            held[hour] = price
            if len(held) > memory:
                forgotten = max(forgotten, min(held))
                del held[min(held)]
    return out


feeds = st.lists(st.tuples(st.integers(0, 70), st.sampled_from([1.0, 1.1, math.nan])), min_size=1, max_size=40)
cuts = st.lists(st.integers(0, 40), max_size=12)


@settings(max_examples=120, deadline=None)
@given(feeds, cuts, st.sampled_from([1, 2, 5, 100]), st.sampled_from([ALL, STRUCTURAL]))
def test_any_chunks_of_bars_get_the_verdict_of_the_whole_and_of_a_plain_account(rows, where, memory, reasons) -> None:
    bars = bars_of(rows)
    whole = check_bar_feed(bars, "H1", FOREX, reasons=reasons, memory=memory)
    assert_equal(in_chunks(BarFeedValidator("H1", FOREX, reasons=reasons, memory=memory), bars, where), whole)
    singly = list(range(len(bars)))
    assert_equal(in_chunks(BarFeedValidator("H1", FOREX, reasons=reasons, memory=memory), bars, singly), whole)
    assert whole.mask.tolist() == plain_account(rows, memory, reasons)


@settings(max_examples=80, deadline=None)
@given(feeds, cuts)
def test_the_rows_that_pass_are_those_of_the_batch_check(rows, where) -> None:
    bars = bars_of(rows)
    batch = check_bars(bars, "H1")
    feed = in_chunks(BarFeedValidator("H1"), bars, where)
    np.testing.assert_array_equal(feed.passed, batch.passed)
    # The reasons differ only where a broken row shares its time: the batch, which sees what follows, says that too.
    ties = np.uint32(Reason.DUPLICATE_TIME | Reason.CONFLICTING_TIME)
    np.testing.assert_array_equal(feed.mask & ~ties, batch.mask & ~ties)
    np.testing.assert_array_equal(
        feed.mask[feed.passed | (feed.mask & ties > 0)] & ties > 0,
        batch.mask[feed.passed | (feed.mask & ties > 0)] & ties > 0,
    )


def test_missing_bars_are_those_of_the_calendar_across_chunks() -> None:
    bars = bars_of([(h, 1.0) for h in (8, 9, 60, 58, 61, 61)])  # Friday 20, 21; Monday 0, Sunday 22, Monday 1, again
    verdict = in_chunks(BarFeedValidator("H1", FOREX), bars, [2, 3])
    assert verdict.missing.tolist() == [0, 0, 2, 0, 0, 0]
    assert verdict.n_unsorted == 1
    assert in_chunks(BarFeedValidator("H1"), bars, [2]).missing.tolist() == [0] * 6


def test_an_unfinished_bar_takes_no_place() -> None:
    validator = BarFeedValidator("H1")
    early, late = ORIGIN + pd.Timedelta(minutes=30), ORIGIN + pd.Timedelta(hours=1)
    assert validator.feed(bars_of([(0, 1.0)]), now=early).mask.tolist() == [Reason.UNFINISHED]
    assert validator.feed(bars_of([(0, 1.1)]), now=late).mask.tolist() == [0]


def test_real_bars_served_twice_in_overlapping_chunks_pass_once() -> None:
    bars = sample_bars()
    validator = BarFeedValidator("H1", FOREX)
    size = validator.memory_bytes
    passed = missing = 0
    for start in range(0, len(bars), 500):
        verdict = validator.feed(bars.iloc[max(start - 50, 0) : start + 500])
        passed += int(verdict.passed.sum())
        missing += int(verdict.missing.sum())
        assert verdict.counts() == ({"duplicate_time": 50} if start else {})
    assert (passed, missing) == (6225, 0)
    assert validator.memory_bytes == size < 100_000


number = st.sampled_from([0.0, 1.0, 1.1, math.nan, -1.0, math.inf])
tick_rows = st.lists(
    st.tuples(st.integers(0, 6), number, number, st.sampled_from([0.0, 1.0]), st.sampled_from(["a", "b", "c"])),
    min_size=1,
    max_size=30,
)


@settings(max_examples=100, deadline=None)
@given(tick_rows, cuts, st.sampled_from([1, 3, 100]), st.sampled_from(["id", "equal", "none", None]), st.booleans())
def test_any_chunks_of_ticks_get_the_verdict_of_the_whole(rows, where, memory, duplicates, with_id) -> None:
    ts = pd.DatetimeIndex([ORIGIN + pd.Timedelta(minutes=3 * row[0]) for row in rows], name="ts").as_unit("ns")
    ticks = pd.DataFrame(
        {"bid": [r[1] for r in rows], "ask": [r[2] for r in rows], "last": [r[3] for r in rows]}, index=ts
    )
    if with_id or duplicates == "id":
        ticks["id"] = [row[4] for row in rows]

    def validator() -> TickFeedValidator:
        return TickFeedValidator(FOREX, duplicates=duplicates, memory=memory)

    whole = validator().feed(ticks)
    assert_equal(in_chunks(validator(), ticks, where), whole)
    assert_equal(in_chunks(validator(), ticks, list(range(len(ticks)))), whole)
    own = check_ticks(ticks)
    np.testing.assert_array_equal(whole.mask[own.mask != 0], own.mask[own.mask != 0])
    if memory == 100 and duplicates == "equal" and not with_id:
        seen: set[tuple] = set()
        for i, row in enumerate(rows):
            key = (row[0], *(str(value or math.nan) for value in row[1:4]))
            assert bool(whole.mask[i] & Reason.DUPLICATE_TIME) == (own.mask[i] == 0 and key in seen)
            if own.mask[i] == 0:
                seen.add(key)


def test_ticks_by_id_and_by_value() -> None:
    ts = pd.DatetimeIndex([ORIGIN] * 4, name="ts")
    trades = pd.DataFrame({"price": [1.0, 1.0, 1.0, 2.0], "size": 3.0, "id": ["a", "b", "a", "a"]}, index=ts)
    assert TickFeedValidator().feed(trades).mask.tolist() == [0, 0, Reason.DUPLICATE_TIME, Reason.CONFLICTING_TIME]
    alike = trades.drop(columns="id")
    assert TickFeedValidator().feed(alike).passed.all()  # two trades may be alike
    assert TickFeedValidator(duplicates="equal").feed(alike).passed.tolist() == [True, False, False, True]
    with pytest.raises(SchemaError, match="no column 'id'"):
        TickFeedValidator(duplicates="id").feed(alike)
    with pytest.raises(ConfigurationError, match="'time' is unknown"):
        TickFeedValidator(duplicates="time")


@pytest.mark.parametrize(
    ("tick", "reason", "flag"),
    [
        ({"bid": 1.2, "ask": 1.1}, 0, TickFlag.CROSSED),
        ({"bid": 1.1, "ask": 1.1}, 0, TickFlag.LOCKED),
        ({"bid": 1.1, "ask": 0.0}, 0, TickFlag.ONE_SIDED),
        ({"bid": 1.1, "ask": math.nan}, 0, TickFlag.ONE_SIDED),
        ({"bid": 1.1, "ask": 1.2}, 0, 0),
        ({"bid": 0.0, "ask": math.nan}, Reason.NOT_FINITE, 0),
        ({"bid": math.inf, "ask": 1.1}, Reason.NOT_FINITE, 0),
        ({"bid": -1.0, "ask": 1.1}, Reason.NOT_POSITIVE, 0),
        ({"last": 1.0, "volume": -1.0}, Reason.NEGATIVE_VOLUME, 0),
        ({"last": 1.0, "volume": math.inf}, Reason.NOT_FINITE, 0),
    ],
)
def test_each_tick_gets_exactly_its_reason_and_flag(tick: dict, reason: int, flag: int) -> None:
    checked = check_ticks(pd.DataFrame([tick], index=pd.DatetimeIndex([ORIGIN], name="ts")))
    assert (checked.mask[0], checked.flags[0]) == (reason, flag)


def test_silence_counts_trading_time_only() -> None:
    ts = pd.DatetimeIndex(
        ["2017-01-06 21:59", "2017-01-08 22:01", "2017-01-08 22:10", "2017-01-08 22:09"], tz="UTC", name="ts"
    )
    ticks = pd.DataFrame({"bid": 1.0, "ask": [1.1, 1.2, 1.3, 1.4]}, index=ts)
    verdict = in_chunks(TickFeedValidator(FOREX), ticks, [1, 3])
    assert (verdict.missing / 60e9).tolist() == [0.0, 2.0, 9.0, 0.0]
    assert verdict.flags.tolist() == [0, 0, TickFlag.AFTER_SILENCE, TickFlag.OUT_OF_ORDER]
    now = pd.Timestamp("2017-01-08 22:00", tz="UTC")
    assert TickFeedValidator().feed(ticks, now=now).mask.tolist() == [0, *[Reason.FUTURE] * 3]


def test_crossed_quotes_of_a_real_broker_are_flagged_and_taken(test_data: Path) -> None:
    file = test_data / "data" / "lean" / "forex" / "fxcm" / "tick" / "eurusd" / "20140501_quote.zip"
    with ZipFile(file) as archive:
        table = pd.read_csv(archive.open(archive.namelist()[0]), names=["ms", "bid", "ask"])
    ts = pd.Timestamp("2014-05-01", tz="UTC") + pd.to_timedelta(table.pop("ms"), unit="ms")
    ticks = table.set_axis(pd.DatetimeIndex(ts, name="ts"))
    verdict = in_chunks(TickFeedValidator(duplicates="none"), ticks, [1_000, 20_000])
    crossed = flag_counts(verdict.flags)["crossed"]
    assert verdict.passed.all()
    assert crossed == int((ticks["bid"] > ticks["ask"]).sum())
    assert 0.05 < crossed / len(ticks) < 0.15
