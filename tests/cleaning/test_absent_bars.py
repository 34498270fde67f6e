"""Absent bars: what is put in, where nothing may be, and that twice is once."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tapeline.cleaning import absent_bars
from tapeline.cleaning.absent_bars import due_between, fill_bars
from tapeline.cleaning.missing_policy import MissingPolicy
from tapeline.core.errors import ConfigurationError, DataError
from tapeline.core.timeframe import Timeframe
from tapeline.quality.calendars import MarketCalendar
from tests.quality.batches import raw_bars, sample_bars

ALWAYS = MarketCalendar.parse("24x7")
FOREX = MarketCalendar.parse("24x5")


def forward(limit: int = 5) -> MissingPolicy:
    return MissingPolicy(method="forward", limit=limit)


def test_an_absent_bar_repeats_the_close_and_says_so() -> None:
    bars = raw_bars(6, gaps=False)
    bars["known_at"] = bars["close_ts"] + pd.Timedelta(minutes=90)
    done = fill_bars(bars.drop(bars.index[[2, 3]]), "H1", ALWAYS, forward())
    assert (done.due, done.filled) == (2, 2)
    assert done.bars.index.equals(bars.index)
    assert done.bars["filled"].tolist() == [False, False, True, True, False, False]
    put, before = done.bars.iloc[2:4], bars.iloc[1]
    for name in ("open", "high", "low", "close"):
        assert put[name].tolist() == [before["close"]] * 2
    assert put["volume"].tolist() == [0.0, 0.0]
    assert put["close_ts"].equals(bars["close_ts"].iloc[2:4])
    # What it repeats arrived half an hour after this bar's own close: it was not known before.
    assert put["known_at"].tolist() == [before["known_at"], bars["close_ts"].iloc[3]]
    assert put["known_at_is_estimate"].all()
    rest = done.bars.drop(columns="filled").drop(put.index)
    pd.testing.assert_frame_equal(rest, bars.drop(put.index), check_freq=False)


def test_nothing_crosses_a_closed_market() -> None:
    hours = pd.date_range("2017-01-06 18:00", "2017-01-09 04:00", freq="1h", tz="UTC", name="ts").as_unit("ns")
    bars = raw_bars(len(hours), gaps=False).set_axis(hours).assign(close_ts=hours + pd.Timedelta(hours=1))
    stored = bars[(bars.index <= "2017-01-06 19:00") | (bars.index >= "2017-01-09 01:00")]
    done = fill_bars(stored, "H1", FOREX, forward(50))
    # Friday's last two hours are filled from Friday; Sunday's first three have no bar before them in their week.
    assert [str(t) for t in done.bars.index[done.bars["filled"]]] == [
        "2017-01-06 20:00:00+00:00",
        "2017-01-06 21:00:00+00:00",
    ]
    assert done.due == 5


def test_exchange_nights_and_holidays_are_not_filled() -> None:
    days = pd.DatetimeIndex(["2017-07-03", "2017-07-05", "2017-07-07", "2017-07-10", "2017-07-12"], tz="UTC", name="ts")
    bars = raw_bars(5, gaps=False).drop(columns=["close_ts", "known_at"]).set_axis(days)
    done = fill_bars(bars, "D1", MarketCalendar.parse("XNYS"), forward())
    # The fourth of July and the weekend were not due; Thursday the sixth and Tuesday the eleventh were.
    assert [t.day for t in done.bars.index[done.bars["filled"]]] == [6, 11]


@settings(max_examples=60, deadline=None)
@given(
    gone=st.sets(st.integers(1, 58), max_size=40),
    limit=st.integers(1, 6),
    cut=st.integers(2, 58),
    calendar=st.sampled_from([ALWAYS, FOREX]),
)
def test_twice_is_once_and_new_bars_alone_give_the_same(
    gone: set[int], limit: int, cut: int, calendar: MarketCalendar
) -> None:
    bars = raw_bars(60, gaps=False, start="2017-01-05 12:00")
    stored = bars.drop(bars.index[sorted(gone)])
    done = fill_bars(stored, "H1", calendar, forward(limit)).bars
    again = fill_bars(done, "H1", calendar, forward(limit))
    pd.testing.assert_frame_equal(again.bars, done, check_freq=False)
    assert again.filled == 0
    first, rest = stored[stored.index < bars.index[cut]], stored[stored.index >= bars.index[cut]]
    early = fill_bars(first, "H1", calendar, forward(limit)).bars
    late = fill_bars(rest, "H1", calendar, forward(limit), history=early).bars
    pd.testing.assert_frame_equal(pd.concat([early, late]), done, check_freq=False)


def test_research_methods_lie_between_the_bars() -> None:
    bars = raw_bars(6, gaps=False)
    bars["open"] = bars["close"].shift(1, fill_value=bars["open"].iloc[0])
    stored = bars.drop(bars.index[[2, 3]])
    for method in ("linear", "time"):
        done = fill_bars(stored, "H1", ALWAYS, MissingPolicy(method=method, causal=False)).bars
        want = np.linspace(bars["close"].iloc[1], bars["close"].iloc[4], 4)
        np.testing.assert_allclose(done["close"].iloc[1:5], want)
        assert (done["high"] >= done[["open", "close"]].max(axis=1)).iloc[2:4].all()
        assert done["open"].iloc[3] == done["close"].iloc[2]
    done = fill_bars(stored, "H1", ALWAYS, MissingPolicy(method="backward", causal=False)).bars
    assert done[["open", "close"]].iloc[2:4].to_numpy().ravel().tolist() == [stored["open"].iloc[2]] * 4


def test_without_a_policy_only_the_flag_is_added() -> None:
    bars = raw_bars(6, gaps=False).drop(raw_bars(6, gaps=False).index[2])
    for method in ("none", "drop"):
        done = fill_bars(bars, "H1", ALWAYS, MissingPolicy(method=method))
        pd.testing.assert_frame_equal(done.bars.drop(columns="filled"), bars)
        assert (done.due, done.filled) == (1, 0)


def test_arguments_are_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    bars = raw_bars(4, gaps=False)
    with pytest.raises(ConfigurationError, match="cannot make an absent bar"):
        fill_bars(bars, "H1", ALWAYS, MissingPolicy(method="knn"))
    with pytest.raises(DataError, match="not sorted"):
        fill_bars(bars.iloc[::-1], "H1", ALWAYS, forward())
    monkeypatch.setattr(absent_bars, "MAXIMUM_FILL", 1)
    with pytest.raises(DataError, match="hold 2 steps of H1, more than 1"):
        fill_bars(bars.iloc[[0, 3]], "H1", ALWAYS, forward())


def test_the_packaged_hours_are_filled_within_their_weeks() -> None:
    bars = sample_bars()
    bars.index = bars.index.as_unit("ns")
    timeframe = Timeframe.parse("H1")
    assert fill_bars(bars, "H1", FOREX, forward(3)).due == 0  # the year is complete
    inner = np.flatnonzero((np.diff(bars.index.asi8) == timeframe.nanoseconds)[:-1]) + 1
    gone = np.random.default_rng(3).choice(inner, 300, replace=False)
    stored = bars.drop(bars.index[gone])
    done = fill_bars(stored, "H1", FOREX, forward(50))
    due = due_between(stored.index.asi8, timeframe, FOREX)
    assert done.due == len(due) == 300
    put = done.bars[done.bars["filled"]]
    # Only what stood at the beginning of a week has nothing before it.
    assert 290 <= len(put) <= 300
    assert all(FOREX.is_open(ts) for ts in put.index)
    assert (done.bars["close"].shift()[put.index] == put["close"]).all()
