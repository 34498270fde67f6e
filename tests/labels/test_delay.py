"""Delays by bars and by the clock: whose label a late order gets."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import pandas as pd
import pytest

from tapeline.core.errors import ConfigurationError, DataError
from tapeline.labels.consistency import wrong_ends
from tapeline.labels.delay import delayed_labels, delayed_return
from tapeline.labels.future_return import future_return
from tapeline.labels.triple_barrier import triple_barrier
from tests.core.samples import eurusd


@pytest.mark.parametrize(("by_bars", "minutes"), [(0, 0), (1, 0), (3, 0), (0, 61), (0, 600), (2, 120), (5, 61)])
def test_each_bar_gets_the_label_that_enters_at_its_late_open(by_bars, minutes) -> None:
    bars = eurusd().iloc[:400]
    labels = triple_barrier(bars, 12)
    late = delayed_labels(labels, bars, by_bars=by_bars, by_time=timedelta(minutes=minutes))
    seen = 0
    for row, ts in enumerate(bars.index):
        allowed = bars.index[row + 1 + by_bars :]
        allowed = allowed[allowed >= bars["close_ts"].iloc[row] + pd.Timedelta(minutes=minutes)]
        source = bars.index[bars.index.get_loc(allowed[0]) - 1] if len(allowed) else None
        if source is None or source not in labels.index:
            assert ts not in late.index
            continue
        pd.testing.assert_series_equal(late.loc[ts].drop("entry_ts"), labels.loc[source], check_names=False)
        assert late.loc[ts, "entry_ts"] == allowed[0]
        seen += 1
    assert seen == len(late) > 300
    assert (late["t_end"] > late["entry_ts"]).all()


def test_no_delay_is_the_label_itself() -> None:
    bars = eurusd().iloc[:200]
    labels = future_return(bars, 5)
    pd.testing.assert_frame_equal(delayed_labels(labels, bars).drop(columns="entry_ts"), labels)


def test_over_a_weekend_the_clock_has_run_and_the_bars_have_not() -> None:
    bars = eurusd().iloc[:400]
    gap = int(np.flatnonzero(np.diff(bars.index) > pd.Timedelta(hours=24))[0])
    labels = future_return(bars, 3)
    by_clock = delayed_labels(labels, bars, by_time=timedelta(hours=5)).loc[bars.index[gap]]
    by_bars = delayed_labels(labels, bars, by_bars=5).loc[bars.index[gap]]
    assert by_clock["entry_ts"] == bars.index[gap + 1]
    assert by_bars["entry_ts"] == bars.index[gap + 6]


def test_every_end_is_right_whatever_the_delay() -> None:
    bars = eurusd().iloc[:250]
    for delay, minutes in ((0, 0), (3, 0), (0, 90), (2, 600)):
        assert wrong_ends(lambda b, d=delay, m=minutes: delayed_return(b, 4, d, m), bars, sample=40).empty


def test_what_is_refused() -> None:
    bars = eurusd().iloc[:20]
    labels = future_return(bars, 2)
    with pytest.raises(ConfigurationError, match="negative"):
        delayed_labels(labels, bars, by_bars=-1)
    with pytest.raises(ConfigurationError, match="negative"):
        delayed_labels(labels, bars, by_time=timedelta(seconds=-1))
    with pytest.raises(DataError, match="none of the bars"):
        delayed_labels(labels, bars.iloc[5:])
    with pytest.raises(DataError, match="not sorted"):
        delayed_labels(labels, bars.iloc[::-1])
