"""Windows are views of the table's own memory and cross no gap; what they hold is what slicing by hand gives."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tapeline.core.errors import ConfigurationError, DataError
from tapeline.core.timeframe import Timeframe
from tapeline.features.windows import slice_windows, unbroken_starts
from tapeline.quality.calendars import MarketCalendar
from tests.core.samples import eurusd
from tests.support import make_bars

H1, M1 = Timeframe.parse("H1"), Timeframe.parse("M1")
PRICES = ["open", "high", "low", "close"]


def test_a_million_bars_in_windows_of_64_by_20_are_not_copied() -> None:
    rows = 1_000_000
    table = np.zeros((rows, 20), dtype=np.float32)
    ts = pd.date_range("2010-01-04", periods=rows, freq="min", tz="UTC").as_unit("ns")
    tracemalloc.start()
    windows = slice_windows(table, 64, timeframe=M1, ts=ts)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert windows.view.shape == (rows - 63, 64, 20)
    assert np.shares_memory(windows.view, table)
    # All windows would be 5 GB; what is made on the way is a few numbers a bar.
    assert peak < 100e6, peak
    table[500_000, 3] = 7.0
    assert windows.view[499_990, 10, 3] == 7.0
    assert not windows.view.flags.writeable


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 40), st.integers(1, 8), st.lists(st.integers(1, 39), max_size=8))
def test_every_window_without_a_gap_is_there_and_no_other(rows: int, window: int, gaps: list[int]) -> None:
    table = np.arange(rows * 2.0).reshape(rows, 2)
    step = np.ones(rows, dtype=np.int64)
    step[[gap for gap in gaps if gap < rows]] = 3
    ts = pd.DatetimeIndex(np.cumsum(step) * H1.nanoseconds, tz="UTC")
    windows = slice_windows(table, window, timeframe=H1, ts=ts)
    expected = [i for i in range(rows - window + 1) if (step[i + 1 : i + window] == 1).all()]
    assert windows.starts.tolist() == expected
    assert len(windows) == len(expected)
    for place, start in enumerate(expected):
        np.testing.assert_array_equal(windows.take(slice(place, place + 1))[0], table[start : start + window])
        assert windows.first_ts[place] == ts[start]
        assert windows.last_ts[place] == ts[start + window - 1]
    runs = list(windows.runs())
    assert sum(len(view) for _, view in runs) == len(expected)
    for last, view in runs:
        assert np.shares_memory(view, table)
        assert len(last) == len(view)
    assert unbroken_starts(step > 1, window).tolist() == expected


def test_a_calendar_tells_a_weekend_from_a_gap_on_real_bars() -> None:
    bars = eurusd().iloc[:600]
    missing = bars.drop(bars.index[300])
    strict = slice_windows(missing, 24, timeframe=H1, columns=PRICES)
    open_hours = slice_windows(missing, 24, timeframe=H1, columns=PRICES, calendar=MarketCalendar.parse("24x5"))
    assert len(strict) < len(open_hours)
    spans = strict.last_ts - strict.first_ts
    assert (spans == pd.Timedelta(hours=23)).all()
    over_weekend = open_hours.last_ts - open_hours.first_ts > pd.Timedelta(hours=40)
    assert over_weekend.any()
    hole = bars.index[300]
    assert not ((open_hours.first_ts < hole) & (open_hours.last_ts > hole)).any()
    place = len(strict) // 2
    by_hand = missing.loc[strict.first_ts[place] : strict.last_ts[place], PRICES].to_numpy()
    np.testing.assert_array_equal(strict.take(np.array([place]))[0], by_hand)


def test_incomplete_windows_can_be_left_out() -> None:
    table = np.ones((6, 2))
    table[2, 1] = np.nan
    ts = pd.date_range("2017-01-02", periods=6, freq="h", tz="UTC").as_unit("ns")
    assert slice_windows(table, 2, timeframe=H1, ts=ts, complete=True).starts.tolist() == [0, 3, 4]
    assert len(slice_windows(table, 2, timeframe=H1, ts=ts)) == 5


def test_wrong_tables_are_refused() -> None:
    bars = make_bars(30)
    with pytest.raises(ConfigurationError, match="window = 0"):
        slice_windows(bars[PRICES], 0, timeframe=H1)
    with pytest.raises(ConfigurationError, match="open times"):
        slice_windows(bars[PRICES].to_numpy(), 3, timeframe=H1)
    with pytest.raises(DataError, match="close_ts"):
        slice_windows(bars, 3, timeframe=H1)
    with pytest.raises(DataError, match="do not rise"):
        slice_windows(bars[PRICES].iloc[::-1], 3, timeframe=H1)
    with pytest.raises(DataError, match="belong together"):
        slice_windows(np.ones((3, 1)), 2, timeframe=H1, ts=pd.DatetimeIndex(bars.index))
