"""Pictures of a training run, as SVG: drawn without a display and without matplotlib's global state.

Colours are those of Okabe and Ito (2008), which people with colour-blindness can tell apart; markers and line styles
differ as well. All times are UTC.
"""

from __future__ import annotations

from collections.abc import Mapping
from io import BytesIO
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Format = Literal["svg", "png"]

BLUE: Final = "#0072B2"
VERMILION: Final = "#D55E00"
GREEN: Final = "#009E73"
ORANGE: Final = "#E69F00"
GREY: Final = "#666666"
SHOWN_BARS: Final = 160
SHOWN_FEATURES: Final = 20
_TICKS: Final = 7


def bars(
    bars: pd.DataFrame,
    labels: pd.DataFrame | None = None,
    scores: pd.DataFrame | None = None,
    *,
    symbol: str = "",
    timeframe: str = "",
    count: int = SHOWN_BARS,
    format: Format = "svg",
) -> bytes:
    """The last bars as high-low-open-close strokes with their labels, above the model's probability of a rise.

    Where there are scores, the picture ends with the last scored bar. Bars stand side by side: time without trading
    takes no room, so ticks name the time of the bar they stand at.

    Parameters
    ----------
    bars:
        Index ``ts``; open, high, low, close.
    labels:
        Index ``ts``; ``value``: a triangle points where the label says price went, a dot where it was ambiguous.
    scores:
        Index ``ts``; ``probability``.
    """
    if scores is not None and len(scores):
        bars = bars[bars.index <= scores.index.max()]
    shown = bars.iloc[-count:]
    figure, (top, bottom) = new_figure(11, 5.6, rows=2, ratios=(3, 1))
    place = np.arange(len(shown))
    rising = (shown["close"] >= shown["open"]).to_numpy()
    for mask, colour, name in ((rising, BLUE, "bar closed up"), (~rising, VERMILION, "bar closed down")):
        part, at = shown[mask], place[mask]
        top.vlines(at, part["low"], part["high"], color=colour, linewidth=1.0, label=name)
        top.hlines(part["open"], at - 0.35, at, color=colour, linewidth=1.0)
        top.hlines(part["close"], at, at + 0.35, color=colour, linewidth=1.0)
    if labels is not None and len(shown):
        _draw_labels(top, shown, labels)
    name_axes(top, title=f"{symbol} {timeframe}: the last {len(shown)} bars with labels and scores", y="price")
    top.legend(loc="upper left", fontsize=7, ncols=4, frameon=False)
    values = np.full(len(shown), np.nan)
    if scores is not None and len(scores):
        newest = scores[~scores.index.duplicated(keep="last")]
        values = newest["probability"].reindex(shown.index).to_numpy(dtype=np.float64)
    bottom.axhline(0.5, color=GREY, linewidth=0.8, linestyle="--")
    bottom.plot(place, values, color=GREEN, linewidth=1.2, marker=".", markersize=3)
    reach = max(0.05, float(np.nanmax(np.abs(values - 0.5))) * 1.15) if np.isfinite(values).any() else 0.1
    bottom.set_ylim(0.5 - reach, 0.5 + reach)
    name_axes(bottom, x="bar open time (UTC)", y="probability of a rise")
    if len(shown):
        ticks = np.unique(np.linspace(0, len(shown) - 1, min(_TICKS, len(shown))).astype(int))
        stamps = pd.DatetimeIndex(shown.index).strftime("%Y-%m-%d\n%H:%M")
        bottom.set_xticks(ticks, [stamps[tick] for tick in ticks], fontsize=8)
    top.set_xticks([])
    top.sharex(bottom)
    top.tick_params(labelbottom=False)
    return rendered(figure, format)


def reliability(table: pd.DataFrame, *, format: Format = "svg") -> bytes:
    """Calibrated probability against what happened on the holdout, with 95 % intervals; the diagonal is perfect."""
    figure, (axes,) = new_figure(5.4, 4.6)
    low = float(np.nanmin([table["low"].min(), table["probability"].min()]))
    high = float(np.nanmax([table["high"].max(), table["probability"].max()]))
    axes.plot([low, high], [low, high], color=GREY, linestyle="--", linewidth=1, label="perfect calibration")
    spread = [table["frequency"] - table["low"], table["high"] - table["frequency"]]
    axes.errorbar(
        table["probability"],
        table["frequency"],
        yerr=np.clip(np.array(spread), 0, None),
        fmt="o",
        color=BLUE,
        markersize=4,
        linewidth=1,
        capsize=2,
        label="holdout, equal-mass bins",
    )
    axes.legend(fontsize=8, frameon=False)
    name_axes(axes, title="Calibration on the holdout", x="predicted probability of a rise", y="share of rises")
    return rendered(figure, format)


def importance(table: pd.DataFrame, *, count: int = SHOWN_FEATURES, format: Format = "svg") -> bytes:
    """The features with the largest mean absolute SHAP value."""
    shown = table.head(count).iloc[::-1]
    figure, (axes,) = new_figure(6.4, max(2.0, 0.9 + 0.22 * len(shown)))
    place = np.arange(len(shown))
    axes.barh(place, shown["mean_abs_shap"], color=BLUE, height=0.7)
    _name_bars(axes, place, [str(name)[:40] for name in shown["feature"]])
    name_axes(axes, title="What moved the holdout's scores", x="mean |SHAP value| (log odds)", y="feature")
    return rendered(figure, format)


def equity(curve: pd.DataFrame, band: pd.DataFrame | None = None, *, format: Format = "svg") -> bytes:
    """Cumulative return of the holdout's trades by cost level, over the band of random entries at full costs."""
    figure, (axes,) = new_figure(8.6, 4.2)
    if band is not None and len(band):
        when = pd.DatetimeIndex(band.index).tz_localize(None)
        axes.fill_between(when, 100 * band["low"], 100 * band["high"], color=GREY, alpha=0.22, linewidth=0)
        axes.plot(when, 100 * band["median"], color=GREY, linewidth=1, linestyle=":")
        axes.plot([], [], color=GREY, alpha=0.5, linewidth=6, label="random entries, 5 % to 95 %, all costs")
    styles = {"no cost": (ORANGE, "--"), "fees": (GREEN, "-."), "fees and spread": (BLUE, "-")}
    for level, (colour, style) in styles.items():
        if level in curve:
            when = pd.DatetimeIndex(curve.index).tz_localize(None)
            axes.step(when, 100 * curve[level], where="post", color=colour, linestyle=style, linewidth=1.3, label=level)
    axes.axhline(0, color=GREY, linewidth=0.8)
    axes.legend(fontsize=8, frameon=False)
    date_axis(axes)
    name_axes(axes, title="Holdout equity after costs", x="exit time (UTC)", y="cumulative return, % of notional")
    return rendered(figure, format)


def histogram(holdout: pd.DataFrame, *, format: Format = "svg") -> bytes:
    """The holdout's calibrated probabilities, split by what happened: the further apart, the more they tell."""
    figure, (axes,) = new_figure(5.4, 4.6)
    values = holdout["probability"].to_numpy(dtype=np.float64)
    low, high = float(values.min()), float(values.max())
    edges = np.linspace(low, high, 31) if high - low > 1e-9 else np.linspace(low - 0.01, high + 0.01, 31)
    for outcome, colour, style, name in ((1, BLUE, "-", "price rose"), (0, VERMILION, "--", "price fell")):
        part = values[holdout["y"].to_numpy() == outcome]
        axes.hist(part, bins=edges.tolist(), histtype="step", color=colour, linestyle=style, linewidth=1.4, label=name)
    axes.axvline(0.5, color=GREY, linewidth=0.8, linestyle=":")
    axes.legend(fontsize=8, frameon=False)
    name_axes(axes, title="Holdout probabilities", x="calibrated probability of a rise", y="rows")
    return rendered(figure, format)


def slices(table: pd.DataFrame, *, format: Format = "svg") -> bytes:
    """The skill of each slice with its 95 % interval, beside that of all rows; what differs surely is marked.

    Parameters
    ----------
    table:
        ``slicing``, ``slice``, ``rows``, ``skill`` with ``_low`` and ``_high``, ``p_holm``; the first row is the whole.
        Slices without an interval are left out.
    """
    shown = table[table["skill_low"].notna()].iloc[::-1]
    figure, (axes,) = new_figure(7.6, max(2.2, 1.1 + 0.23 * len(shown)))
    place = np.arange(len(shown))
    differs = (shown["p_holm"] < 0.05).to_numpy()
    whole = (shown["slicing"] == "all").to_numpy()
    groups = (
        (~differs & ~whole, BLUE, "o", "slice"),
        (differs, VERMILION, "D", "differs from all, corrected for their number"),
        (whole, "black", "s", "all rows"),
    )
    for mask, colour, marker, name in groups:
        part = shown[mask]
        spread = [part["skill"] - part["skill_low"], part["skill_high"] - part["skill"]]
        axes.errorbar(
            part["skill"],
            place[mask],
            xerr=np.clip(np.array(spread, dtype=np.float64), 0, None),
            fmt=marker,
            color=colour,
            markersize=4,
            linewidth=1,
            capsize=2,
            label=name if mask.any() else None,
        )
    axes.axvline(0, color=GREY, linewidth=0.9, linestyle="--", label="no better than the base rate")
    names = [
        f"{row.slicing}: {row.slice} ({row.rows:,})" if row.slicing != "all" else f"all rows ({row.rows:,})"
        for row in shown.itertuples()
    ]
    _name_bars(axes, place, names)
    axes.legend(fontsize=7, frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1.08), ncols=2)
    name_axes(
        axes, title="Where the model is good and where not", x="skill: log loss saved against the base rate (nats)"
    )
    return rendered(figure, format)


def paths(table: pd.DataFrame, *, format: Format = "svg") -> bytes:
    """The area under the curve and the net return of each backtest path, with the 5 % quantile.

    Parameters
    ----------
    table:
        A row a path: ``auc``, ``total_return``.
    """
    figure, (top, bottom) = new_figure(7.6, 3.4, rows=2, ratios=(1, 1))
    for axes, values, chance, name in (
        (top, table["auc"], 0.5, "area under the ROC curve of a path"),
        (bottom, 100 * table["total_return"], 0.0, "net return of a path, % of notional"),
    ):
        known = values[np.isfinite(values)].to_numpy(dtype=np.float64)
        axes.axvline(chance, color=GREY, linewidth=0.9, linestyle="--", label="no skill" if axes is top else None)
        axes.scatter(known, np.zeros(known.size), color=BLUE, s=26, alpha=0.65, linewidths=0, label="a path")
        if known.size:
            axes.axvline(float(np.quantile(known, 0.05)), color=VERMILION, linewidth=1.3, label="5 % quantile")
            axes.axvline(float(np.median(known)), color="black", linewidth=1.0, linestyle=":", label="median")
        axes.set_yticks([])
        axes.set_ylim(-1, 1)
        name_axes(axes, title="One configuration, many histories" if axes is top else "", x=name)
    top.legend(fontsize=7, frameon=False, ncols=4, loc="lower right", bbox_to_anchor=(1.0, 1.0))
    return rendered(figure, format)


def walks(steps: Mapping[str, pd.DataFrame], *, format: Format = "svg") -> bytes:
    """The area under the curve of each block of time, by a model trained before it.

    Parameters
    ----------
    steps:
        By kind of walk: ``tested_from``, ``auc``.
    """
    figure, (axes,) = new_figure(7.6, 2.7)
    styles = ((BLUE, "o", "-"), (ORANGE, "s", "--"), (GREEN, "^", "-."))
    for (name, table), (colour, marker, line) in zip(steps.items(), styles, strict=False):
        when = pd.DatetimeIndex(table["tested_from"]).tz_localize(None)
        axes.plot(when, table["auc"], color=colour, marker=marker, linestyle=line, markersize=4, label=name)
    axes.axhline(0.5, color=GREY, linewidth=0.9, linestyle="--")
    axes.legend(fontsize=8, frameon=False, ncols=3)
    date_axis(axes)
    name_axes(
        axes, title="Trained anew as time went on", x="the tested block begins (UTC)", y="area under the ROC curve"
    )
    return rendered(figure, format)


def local(weights: pd.DataFrame, *, count: int = 8, title: str = "", format: Format = "svg") -> bytes:
    """What pushed one row's probability up and down, with twice the standard error.

    Parameters
    ----------
    weights:
        ``condition``, ``weight``, ``error``; the heaviest first.
    """
    shown = weights.head(count).iloc[::-1]
    figure, (axes,) = new_figure(4.6, max(1.7, 0.9 + 0.24 * len(shown)))
    place = np.arange(len(shown))
    colours = [BLUE if weight > 0 else VERMILION for weight in shown["weight"]]
    axes.barh(place, 100 * shown["weight"], xerr=200 * shown["error"], color=colours, height=0.7, ecolor=GREY)
    axes.axvline(0, color=GREY, linewidth=0.9)
    _name_bars(axes, place, [str(text) for text in shown["condition"]])
    name_axes(axes, title=title, x="percentage points of probability")
    return rendered(figure, format)


def _name_bars(axes: Axes, place: Any, names: list[str]) -> None:
    axes.set_yticks(place, [name[:48] for name in names], fontsize=8)
    for label in axes.get_yticklabels():
        label.set_parse_math(False)


def _draw_labels(axes: Axes, shown: pd.DataFrame, labels: pd.DataFrame) -> None:
    value = labels["value"].reindex(shown.index).to_numpy(dtype=np.float64)
    gap = 0.02 * float(shown["high"].max() - shown["low"].min())
    below, above = shown["low"].to_numpy() - gap, shown["high"].to_numpy() + gap
    kinds: tuple[tuple[Any, Any, str, str, str], ...] = (
        (value > 0, below, "^", GREEN, "label: up"),
        (value < 0, above, "v", ORANGE, "label: down"),
        (value == 0, below, ".", GREY, "label: ambiguous"),
    )
    for mask, height, marker, colour, name in kinds:
        if mask.any():
            axes.scatter(
                np.flatnonzero(mask), height[mask], s=12, marker=marker, color=colour, linewidths=0, label=name
            )


def new_figure(
    width: float, height: float, *, rows: int = 1, ratios: tuple[int, ...] = (1,)
) -> tuple[Figure, list[Axes]]:
    """A figure of rows of axes, of these inches, dressed as all pictures here are."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    grid = figure.add_gridspec(rows, 1, height_ratios=ratios)
    axes = [figure.add_subplot(grid[row]) for row in range(rows)]
    for one in axes:
        one.grid(visible=True, color="#DDDDDD", linewidth=0.5)
        one.set_axisbelow(True)
        one.spines[["top", "right"]].set_visible(False)
        one.tick_params(labelsize=8)
    return figure, axes


def name_axes(axes: Axes, *, title: str = "", x: str = "", y: str = "") -> None:
    """Title and names of the axes."""
    # A symbol may hold a dollar sign, which would otherwise start a formula.
    axes.set_title(title, fontsize=10, loc="left", parse_math=False)
    axes.set_xlabel(x, fontsize=9, parse_math=False)
    axes.set_ylabel(y, fontsize=9, parse_math=False)


def date_axis(axes: Axes) -> None:
    """Dates along the horizontal axis, each said once."""
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

    locator = AutoDateLocator(maxticks=9)
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))


def rendered(figure: Figure, kind: Format) -> bytes:
    """The figure as a file; the same figure gives the same bytes."""
    import matplotlib as mpl

    buffer = BytesIO()
    # A fixed salt and no date: the same picture has the same bytes.
    with mpl.rc_context({"svg.hashsalt": "tapeline", "svg.fonttype": "path"}):
        metadata = {"Date": None} if kind == "svg" else None
        figure.savefig(buffer, format=kind, dpi=120, metadata=metadata)
    return buffer.getvalue()
