"""Marks, pictures and pages show what was known by the last bar shown, where it lies, and nothing else."""

from __future__ import annotations

from io import BytesIO

import numpy as np
import pandas as pd
import pytest

from tapeline.charts.compose import annotation_texts, compose
from tapeline.charts.gaps import fair_value_gap
from tapeline.charts.marks import form_of, marks
from tapeline.charts.page import figure, page
from tapeline.charts.picture import Chart, colour, draw
from tapeline.charts.scan import choose, scan
from tapeline.core.errors import ConfigurationError, DataError
from tapeline.features.price_action import annotate
from tests.core.samples import eurusd

HISTORY = eurusd().iloc[1500:2400]
SHOWN = HISTORY.iloc[600:700]
DETECTORS = choose(["fair_value_gap", "zigzag_swing", "break_of_structure", "order_block"])


def picture(png: bytes) -> np.ndarray:
    from matplotlib.image import imread

    return imread(BytesIO(png), format="png")


def test_a_mark_lies_where_its_event_does_and_ends_when_it_does():
    events = scan(HISTORY, DETECTORS)
    found = marks(events, SHOWN)
    touching = events[
        (events["confirmed_at"] <= SHOWN["close_ts"].iloc[-1]) & ~(events["invalidated_at"] < SHOWN["close_ts"].iloc[0])
    ]
    zones = [mark for mark in found if mark.kind == "fair_value_gap"]
    wanted = touching[touching["kind"] == "fair_value_gap"]
    assert [(mark.low, mark.high) for mark in zones] == list(zip(wanted["low"], wanted["high"], strict=True))
    for mark, (_, event) in zip(zones, wanted.iterrows(), strict=True):
        if event["start"] >= SHOWN.index[0]:
            assert SHOWN.index[int(mark.begin)] == event["start"]
        else:
            assert mark.begin < 0
        if mark.open:
            assert mark.end == len(SHOWN) - 1
        else:
            assert SHOWN["close_ts"].iloc[int(mark.end)] == event["invalidated_at"]
    inside = [mark for mark in found if mark.known > 0]
    assert len(inside) > 20
    assert all(mark.known <= len(SHOWN) - 1 for mark in found)


def test_nothing_after_the_last_bar_shown_is_drawn():
    end = HISTORY.index[700]
    known = compose(HISTORY, DETECTORS, start=SHOWN.index[0], end=end)
    cut = compose(HISTORY.iloc[:700], DETECTORS, start=SHOWN.index[0])
    pd.testing.assert_frame_equal(known.events, cut.events)
    assert draw(known) == draw(cut)
    assert known.events["confirmed_at"].max() <= end


@pytest.mark.parametrize(
    ("kind", "prices", "low", "high", "form"),
    [
        ("zigzag_swing", (1.0,), 1.0, 1.0, "marker"),
        ("break_of_structure", (1.0, 1.0), 1.0, 1.0, "path"),
        ("gartley", (1.0, 2.0, 1.4, 1.8, 1.2), 1.0, 2.0, "path"),
        ("supply_zone", (1.0, 2.0), 1.0, 2.0, "zone"),
        ("support", (1.0, 1.0, 1.0), 1.0, 1.0, "level"),
    ],
)
def test_how_a_kind_is_drawn(kind, prices, low, high, form):
    assert form_of(kind, prices, low, high) == form


def test_a_picture_shows_a_zone_in_the_colour_of_its_direction():
    events = scan(HISTORY, choose(["order_block"]))
    bare, full = picture(draw(Chart(SHOWN))), picture(draw(Chart(SHOWN, events)))
    assert bare.shape == full.shape == (800, 1500, 4)
    changed = np.abs(bare - full).max(axis=2) > 0.02
    assert 0.02 < changed.mean() < 0.9
    blue = full[..., 2] > full[..., 0] + 0.05
    assert blue[changed].mean() > 0.1, "bullish blocks are tinted blue"
    assert (colour(1), colour(-1), colour(0)) == ("#0072B2", "#D55E00", "#666666")


def test_overlays_bands_annotations_and_the_trend_are_drawn():
    chart = compose(HISTORY, overlays=["ema"], annotate=True, trend=True, start=SHOWN.index[0], end=HISTORY.index[700])
    (name,) = chart.overlays
    assert len(chart.overlays[name]) == len(chart.bars) == len(chart.annotations) == len(chart.trend)
    bare = picture(draw(Chart(chart.bars, trend=chart.trend)))
    assert np.abs(picture(draw(chart)) - bare).max(axis=2).mean() > 0.001
    traces = figure(chart).data
    assert {trace.name for trace in traces} >= {"bars", name, "annotations", "trend"}


def test_annotations_say_what_the_annotator_found():
    texts, found = annotation_texts(HISTORY), annotate(HISTORY)
    assert (texts.str.contains("engulfing up") == (found["engulfing"] == 1)).all()
    assert (texts.str.contains("inside bar") == (found["inside_bar"] == 1)).all()
    assert (texts == "").sum() > 100


def test_a_page_holds_every_mark_and_needs_no_network():
    events = scan(HISTORY, DETECTORS)
    html = page(Chart(SHOWN, events, title="EURUSD <H1>"))
    shown = figure(Chart(SHOWN, events))
    found = marks(events, SHOWN)
    assert len([trace for trace in shown.data if trace.legendgroup]) == len(found)
    assert sum(bool(trace.showlegend) for trace in shown.data if trace.legendgroup) == len({m.kind for m in found})
    assert 'src="http' not in html
    assert "fair value gap" in html


def test_what_cannot_be_drawn_is_refused_with_the_reason():
    with pytest.raises(DataError, match="no bar"):
        compose(HISTORY, start=HISTORY.index[-1] + pd.Timedelta("10D"))
    with pytest.raises(ConfigurationError, match="no price"):
        compose(HISTORY, overlays=["rsi"])
    with pytest.raises(ConfigurationError, match="no bar to draw"):
        marks(fair_value_gap(HISTORY), HISTORY.iloc[:0])


def test_the_lines_of_channels_and_forks_are_drawn_and_nothing_between_them():
    events = scan(HISTORY, choose(["parallel_channel", "pitchfork", "gap_encroachment", "profile_shape"]))
    found = marks(events, HISTORY.iloc[300:])
    by_kind = {kind: [mark for mark in found if mark.kind == kind] for kind in {mark.kind for mark in found}}
    for mark in by_kind["parallel_channel"]:
        first, second = (np.diff(mark.y[part]) / np.diff(mark.x[part]) for part in (slice(0, 2), slice(3, 5)))
        assert np.isnan([mark.x[2], mark.y[2]]).all()
        assert first == pytest.approx(second), "both sides have one slope"
    for mark in by_kind["pitchfork"]:
        lines = np.column_stack((mark.x, mark.y)).reshape(-1)[: 8 * 2].reshape(8, 2)
        slopes = [float(np.diff(lines[at : at + 2], axis=0)[0, 1]) for at in (0, 3, 6)]
        reach = [float(np.diff(lines[at : at + 2], axis=0)[0, 0]) for at in (0, 3, 6)]
        assert [rise / run for rise, run in zip(slopes, reach, strict=True)] == pytest.approx(
            [slopes[0] / reach[0]] * 3
        )
        middle = lines[[3, 6]].mean(axis=0)
        assert lines[0, 1] + slopes[0] / reach[0] * (middle[0] - lines[0, 0]) == pytest.approx(middle[1])
    assert {mark.form for mark in by_kind["gap_encroachment"]} == {"path"}
    shapes = [mark for mark in found if mark.kind.startswith("profile_shape")]
    assert shapes
    assert all(mark.form == "zone" and mark.end <= mark.known for mark in shapes)
    assert draw(Chart(HISTORY.iloc[300:], events)).startswith(b"\x89PNG")
    assert "parallel channel" in page(Chart(HISTORY.iloc[300:], events))
