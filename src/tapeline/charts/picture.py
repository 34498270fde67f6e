"""A chart as a picture: bars with findings, overlays, annotations and the trend beneath, without a display."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from io import BytesIO
from typing import TYPE_CHECKING, Final, Literal

import numpy as np
import pandas as pd

from tapeline.charts.marks import Mark, marks

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Format = Literal["png", "svg"]

UP: Final = "#0072B2"
DOWN: Final = "#D55E00"
NEITHER: Final = "#666666"
LINES: Final = ("#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#8C6D31", "#000000")
"""Of Okabe and Ito (2008), which people with colour-blindness can tell apart."""

MOST_LABELS: Final = 24
_TICKS: Final = 8


@dataclass(frozen=True)
class Chart:
    """What is drawn.

    Parameters
    ----------
    bars:
        The bars shown, with ``close_ts``; they stand side by side, time without trading takes no room.
    events:
        Rows of the events schema, of any kinds and times: those that touch the bars are drawn.
    overlays:
        Prices by bar, each a line; on the bars' index.
    bands:
        Pairs of overlays with the area between them filled.
    annotations:
        A text by bar, drawn above it; empty or missing where there is none.
    trend:
        A number by bar, shown as a strip beneath: above zero rising, below falling.
    title:
        Over the picture.
    """

    bars: pd.DataFrame
    events: pd.DataFrame | None = None
    overlays: Mapping[str, pd.Series] = field(default_factory=dict)
    bands: tuple[tuple[str, str], ...] = ()
    annotations: pd.Series | None = None
    trend: pd.Series | None = None
    title: str = ""

    def marks(self) -> list[Mark]:
        """The events as shapes."""
        return [] if self.events is None else marks(self.events, self.bars)


def colour(direction: float) -> str:
    """Blue speaks for rising prices, vermilion for falling ones, grey for neither."""
    return UP if direction > 0 else DOWN if direction < 0 else NEITHER


def draw(chart: Chart, *, format: Format = "png", width: float = 15.0, height: float = 8.0) -> bytes:
    """Draw a chart with matplotlib.

    A zone or a level runs from its first bar to its invalidation, a pattern is the line through its points; the small
    bar beneath a finding marks the close at which it was known. Dotted lines are targets, dashed ones stops, of
    findings that still stand. Findings are named where they are few, else in the legend.

    Parameters
    ----------
    width, height:
        In inches, of 100 points each.

    Examples
    --------
    >>> from tapeline.charts.gaps import fair_value_gap
    >>> from tapeline.core.example import example_bars
    >>> bars = example_bars(10, 14, 15, 15, 12)
    >>> draw(Chart(bars, fair_value_gap(bars), title="example"))[1:4]
    b'PNG'
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=100, layout="constrained")
    strips = chart.trend is not None
    axes = figure.subplots(2 if strips else 1, 1, sharex=True, squeeze=False, height_ratios=(30, 1) if strips else (1,))
    top: Axes = axes[0, 0]
    _bars(top, chart.bars)
    low, high = float(chart.bars["low"].min()), float(chart.bars["high"].max())
    room = 0.06 * (high - low or 1.0)
    top.set_ylim(low - room, high + room)
    top.set_xlim(-1, len(chart.bars) + max(3, len(chart.bars) // 40))
    _overlays(top, chart)
    _marks(top, chart.marks(), len(chart.bars))
    if chart.annotations is not None:
        _annotations(top, chart)
    if chart.trend is not None:
        _trend(axes[1, 0], chart.trend)
    _dates(axes[-1, 0], chart.bars)
    top.set_title(chart.title, loc="left")
    top.grid(visible=True, color="#dddddd", linewidth=0.6)
    top.set_axisbelow(True)
    handles, names = top.get_legend_handles_labels()
    if names:
        top.legend(handles, names, loc="upper left", fontsize=8, framealpha=0.85, ncols=2)
    buffer = BytesIO()
    figure.savefig(buffer, format=format, metadata={"Date": None} if format == "svg" else {"Software": None})
    return buffer.getvalue()


def _bars(axes: Axes, bars: pd.DataFrame) -> None:
    place = np.arange(len(bars))
    rising = (bars["close"] >= bars["open"]).to_numpy()
    for chosen, tone in ((rising, UP), (~rising, DOWN)):
        part = bars[chosen]
        axes.vlines(place[chosen], part["low"], part["high"], color=tone, linewidth=0.8, alpha=0.75)
        body = np.maximum((part["close"] - part["open"]).abs(), 1e-12)
        bottom = part[["open", "close"]].min(axis=1)
        axes.bar(place[chosen], body, bottom=bottom, width=0.7, color=tone, alpha=0.55, linewidth=0)


def _overlays(axes: Axes, chart: Chart) -> None:
    place = np.arange(len(chart.bars))
    for number, (name, values) in enumerate(chart.overlays.items()):
        tone = LINES[number % len(LINES)]
        axes.plot(place, values.to_numpy(dtype=np.float64), color=tone, linewidth=1.1, label=name)
    for first, second in chart.bands:
        one, other = (chart.overlays[name].to_numpy(dtype=np.float64) for name in (first, second))
        for over, tone in ((one >= other, UP), (one < other, DOWN)):
            axes.fill_between(place, one, other, where=over, color=tone, alpha=0.10, linewidth=0)


def _marks(axes: Axes, found: list[Mark], count: int) -> None:
    named: set[str] = set()
    few = len(found) <= MOST_LABELS
    for mark in found:
        tone = colour(mark.direction)
        name = None if mark.label in named else mark.label
        named.add(mark.label)
        if mark.form == "marker":
            sign = "^" if mark.direction > 0 else "v" if mark.direction < 0 else "o"
            axes.plot(mark.x[:1], mark.y[:1], sign, color=tone, markersize=6, label=name)
        elif mark.form == "zone":
            axes.fill_between(
                [mark.begin, mark.end], mark.low, mark.high, color=tone, alpha=0.22 if mark.open else 0.12,
                linewidth=0.8, edgecolor=tone, label=name,
            )  # fmt: skip
        elif mark.form == "level":
            axes.plot([mark.begin, mark.end], [mark.high, mark.high], color=tone, linewidth=1.2, label=name)
        else:
            axes.plot(mark.x, mark.y, color=tone, linewidth=1.5, marker="o", markersize=3, label=name)
        axes.plot([mark.known] * 2, [mark.low, mark.high], color=tone, linewidth=0.9, linestyle=(0, (1, 1)))
        if mark.open:
            for price, style in ((mark.target, ":"), (mark.stop, "--")):
                if np.isfinite(price) and mark.form == "path":
                    axes.plot([mark.known, count], [price, price], color=tone, linewidth=0.9, linestyle=style)
        if few:
            x = mark.x[-1] if mark.form == "path" else max(mark.begin, 0.0)
            y = mark.y[-1] if mark.form == "path" else mark.high
            axes.annotate(
                mark.label, (max(x, 0.0), y), xytext=(2, 3), textcoords="offset points", fontsize=7, color=tone,
                clip_on=True,
            )  # fmt: skip


def _annotations(axes: Axes, chart: Chart) -> None:
    texts = chart.annotations
    assert texts is not None  # noqa: S101 - the caller looked
    tops = chart.bars["high"].to_numpy()
    for place, text in enumerate(texts.fillna("").astype(str)):
        if text:
            axes.annotate(
                text, (place, tops[place]), xytext=(0, 6), textcoords="offset points", fontsize=6.5, rotation=90,
                ha="center", va="bottom", color="#444444", clip_on=True,
            )  # fmt: skip


def _trend(axes: Axes, trend: pd.Series) -> None:
    values = trend.to_numpy(dtype=np.float64)
    for chosen, tone in ((values > 0, UP), (values < 0, DOWN), (values == 0, "#bbbbbb")):
        axes.bar(np.flatnonzero(chosen), 1.0, width=1.0, color=tone, linewidth=0)
    axes.set_yticks([])
    axes.set_ylabel("trend", rotation=0, ha="right", va="center", fontsize=8)
    axes.set_ylim(0, 1)


def _dates(axes: Axes, bars: pd.DataFrame) -> None:
    places = np.unique(np.linspace(0, len(bars) - 1, _TICKS).astype(int))
    axes.set_xticks(places, [bars.index[place].strftime("%Y-%m-%d\n%H:%M") for place in places], fontsize=8)
    axes.set_xlabel("UTC, bars side by side", fontsize=8)
