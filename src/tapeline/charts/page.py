"""A chart as a page: the same marks as the picture, to zoom into and to point at, in one file without a network."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from tapeline.charts.marks import Mark
from tapeline.charts.picture import LINES, Chart, colour

if TYPE_CHECKING:
    from plotly.graph_objects import Figure


def page(chart: Chart) -> str:
    """The chart as one HTML file: zoom, pan, a legend entry a kind that hides it, and a text for what is pointed at.

    Plotly's script is part of the file (about 4 MB), so that it opens without a network.

    Examples
    --------
    >>> from tapeline.charts.gaps import fair_value_gap
    >>> from tapeline.core.example import example_bars
    >>> bars = example_bars(10, 14, 15, 15, 12)
    >>> page(Chart(bars, fair_value_gap(bars), title="example")).count("fair value gap") > 0
    True
    """
    return figure(chart).to_html(
        full_html=True, include_plotlyjs=True, config={"scrollZoom": True, "displaylogo": False}, div_id="chart"
    )


def figure(chart: Chart) -> Figure:
    """The chart as a Plotly figure."""
    import plotly.graph_objects as go

    bars = chart.bars
    places = np.arange(len(bars))
    said = pd.DatetimeIndex(bars.index).strftime("%Y-%m-%d %H:%M UTC")
    shown = go.Figure()
    shown.add_trace(
        go.Candlestick(
            x=places, open=bars["open"], high=bars["high"], low=bars["low"], close=bars["close"], name="bars",
            increasing_line_color=colour(1), decreasing_line_color=colour(-1), text=said, showlegend=False,
        )
    )  # fmt: skip
    for number, (name, values) in enumerate(chart.overlays.items()):
        line = {"color": LINES[number % len(LINES)], "width": 1.3}
        shown.add_trace(go.Scatter(x=places, y=values.to_numpy(dtype=np.float64), mode="lines", name=name, line=line))
    seen: set[str] = set()
    for mark in chart.marks():
        shown.add_trace(_trace(mark, bars, first=mark.kind not in seen))
        seen.add(mark.kind)
    if chart.annotations is not None:
        texts = chart.annotations.fillna("").astype(str)
        told = np.flatnonzero(texts.to_numpy() != "")
        tops, words = bars["high"].to_numpy()[told], texts.to_numpy()[told]
        shown.add_trace(
            go.Scatter(
                x=told, y=tops, mode="markers", name="annotations", text=words,
                hovertemplate="%{text}<extra></extra>", marker={"symbol": "star", "size": 7, "color": "#444444"},
            )
        )  # fmt: skip
    if chart.trend is not None:
        shown.add_trace(_strip(chart.trend, bars))
    low, high = float(bars["low"].min()), float(bars["high"].max())
    room = 0.06 * (high - low or 1.0)
    ticks = np.unique(np.linspace(0, len(bars) - 1, 10).astype(int))
    shown.update_layout(
        title=chart.title, template="plotly_white", hovermode="closest", dragmode="pan", height=820,
        xaxis={
            "tickvals": ticks, "ticktext": [bars.index[tick].strftime("%Y-%m-%d<br>%H:%M") for tick in ticks],
            "range": [-1, len(bars) + 3], "rangeslider": {"visible": False}, "title": "UTC, bars side by side",
        },
        yaxis={"range": [low - room, high + room]},
        legend={"groupclick": "togglegroup"},
    )  # fmt: skip
    return shown


def _trace(mark: Mark, bars: pd.DataFrame, *, first: bool) -> Any:
    import plotly.graph_objects as go

    tone = colour(mark.direction)
    known = bars["close_ts"].iloc[int(min(mark.known, len(bars) - 1))]
    way = {1: "rising", -1: "falling", 0: "neither"}[int(np.sign(mark.direction))]
    lines = [f"<b>{mark.label}</b> ({way})", f"{mark.low:.6g} to {mark.high:.6g}", f"known {known:%Y-%m-%d %H:%M} UTC"]
    lines += [
        f"{name} {price:.6g}" for name, price in (("target", mark.target), ("stop", mark.stop)) if np.isfinite(price)
    ]
    lines.append("stands" if mark.open else "over")
    shared: dict[str, Any] = {
        "name": mark.label, "legendgroup": mark.kind, "showlegend": first, "text": "<br>".join(lines),
        "hovertemplate": "%{text}<extra></extra>",
    }  # fmt: skip
    if mark.form == "marker":
        sign = "triangle-up" if mark.direction > 0 else "triangle-down" if mark.direction < 0 else "circle"
        return go.Scatter(
            x=mark.x[:1], y=mark.y[:1], mode="markers", marker={"symbol": sign, "size": 9, "color": tone}, **shared
        )
    if mark.form == "zone":
        return go.Scatter(
            x=[mark.begin, mark.end, mark.end, mark.begin, mark.begin],
            y=[mark.low, mark.low, mark.high, mark.high, mark.low],
            mode="lines", fill="toself", opacity=0.35 if mark.open else 0.2, line={"color": tone, "width": 1}, **shared,
        )  # fmt: skip
    if mark.form == "level":
        return go.Scatter(
            x=[mark.begin, mark.end], y=[mark.high] * 2, mode="lines", line={"color": tone, "width": 1.5}, **shared
        )
    return go.Scatter(x=mark.x, y=mark.y, mode="lines+markers", line={"color": tone, "width": 2}, **shared)


def _strip(trend: pd.Series, bars: pd.DataFrame) -> Any:
    import plotly.graph_objects as go

    values = trend.to_numpy(dtype=np.float64)
    bottom = float(bars["low"].min()) - 0.04 * float(bars["high"].max() - bars["low"].min())
    said = np.where(values > 0, "rising", np.where(values < 0, "falling", np.where(np.isnan(values), "", "neither")))
    return go.Scatter(
        x=np.arange(len(bars)), y=np.full(len(bars), bottom), mode="markers", name="trend", text=said,
        hovertemplate="trend %{text}<extra></extra>",
        marker={"symbol": "square", "size": 6, "color": [colour(value) for value in values]},
    )  # fmt: skip
