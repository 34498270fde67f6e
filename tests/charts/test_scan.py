"""A scan is its detectors one by one; a stream tells at each bar what the scan of all history confirms there."""

from __future__ import annotations

import pandas as pd
import pytest

from tapeline.charts.bar_arrays import BarArrays
from tapeline.charts.events import Event
from tapeline.charts.scan import EventStream, choose, scan
from tapeline.core.errors import ConfigurationError, DataError
from tests.core.samples import eurusd, rough_bars

OWN = ("open", "high", "low", "close", "volume", "close_ts")
PLAIN = tuple(one for one in choose() if set(one.component.required_columns()) <= {"close_ts"})


def fed(stream: EventStream, bars: pd.DataFrame) -> tuple[list[Event], list[Event]]:
    confirmed, invalidated = [], []
    for row in bars[list(OWN)].itertuples():
        update = stream.push(*row)
        confirmed += update.confirmed
        invalidated += update.invalidated
    return confirmed, invalidated


@pytest.mark.parametrize("bars", [eurusd().iloc[2000:2500], rough_bars(450)], ids=["real", "rough"])
def test_every_detector_fed_bar_by_bar_confirms_the_events_of_the_whole_history_in_order(bars):
    whole = scan(bars, PLAIN)
    confirmed, invalidated = fed(EventStream(PLAIN, follow=len(bars)), bars)
    assert len(whole) > 300
    assert [event.id for event in confirmed] == whole["id"].tolist()
    live = pd.DataFrame(confirmed)
    for name in ("kind", "direction", "start", "end", "confirmed_at", "low", "high", "target", "stop", "score"):
        pd.testing.assert_series_equal(
            live[name], whole[name].astype(live[name].dtype), check_dtype=False, check_freq=False
        )
    ended = whole[whole["invalidated_at"] > whole["confirmed_at"]]
    assert sorted(event.id for event in invalidated) == sorted(ended["id"])
    when = {event.id: event.invalidated_at for event in invalidated}
    assert [when[name] for name in ended["id"]] == ended["invalidated_at"].tolist()


def test_a_scan_is_each_detector_by_itself():
    bars = eurusd().iloc[:600]
    choices = choose({"fractal_swing": {"left": 3}, "order_block": {}, "break_of_structure": {}})
    whole = scan(bars, choices)
    alone = [choice.detector(bars, **choice.parameters) for choice in choices]
    assert sorted(whole["id"]) == sorted(name for frame in alone for name in frame["id"])
    assert whole["confirmed_at"].is_monotonic_increasing
    first = whole[whole["confirmed_at"] == whole["confirmed_at"].iloc[40]]
    order = {name: place for place, frame in enumerate(alone) for name in frame["id"]}
    assert [order[name] for name in first["id"]] == sorted(order[name] for name in first["id"])
    assert len(scan(bars.iloc[:0], choices)) == 0


def test_a_stream_that_starts_after_a_history_goes_on_where_it_ends_and_forgets_what_nobody_reads():
    bars = eurusd().iloc[:6000]
    choices = choose(["zigzag_swing", "fair_value_gap"])
    stream = EventStream.after(bars.iloc[:5000], choices, follow=50)
    confirmed, _ = fed(stream, bars.iloc[5000:])
    whole = scan(bars, choices)
    assert [event.id for event in confirmed] == whole["id"][whole["confirmed_at"] > bars.index[5000]].tolist()
    assert stream._times.shape[1] == 4096


def test_a_bar_out_of_order_and_a_detector_that_needs_more_are_refused():
    bars = eurusd().iloc[:3]
    stream = EventStream(choose(["fair_value_gap"]))
    fed(stream, bars)
    with pytest.raises(DataError, match="after the last"):
        fed(stream, bars.iloc[:1])
    with pytest.raises(ConfigurationError, match="no component"):
        choose(["no_such"])
    with pytest.raises(ConfigurationError, match="left"):
        choose({"fractal_swing": {"left": 0}})


def test_arrays_of_columns_are_the_bars():
    bars = rough_bars(650)
    arrays = BarArrays(bars)
    prices = [getattr(arrays, name) for name in OWN[:5]]
    again = BarArrays.of_columns(arrays.opened, arrays.closed, prices)
    pd.testing.assert_frame_equal(again.bars, bars[list(OWN)], check_freq=False)
