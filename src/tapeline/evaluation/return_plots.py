"""Pictures of an account: equity, drawdown, months, trades on the price, distributions. As SVG, times in UTC."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import pandas as pd

from tapeline.evaluation.plots import BLUE, GREEN, GREY, ORANGE, VERMILION, date_axis, name_axes, new_figure, rendered

POINTS: Final = 1_500
SHOWN_TRADES: Final = 150
SHOWN_DOTS: Final = 1_500
MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def equity_and_drawdown(curves: pd.DataFrame, drawdown: pd.Series, *, currency: str = "") -> bytes:
    """Equity by time, the last column in full, above the share by which it stands below its former peak.

    Parameters
    ----------
    curves:
        A column a curve: the account's last, what it is compared with before.
    drawdown:
        Shares at or below 0.
    """
    figure, (top, bottom) = new_figure(9.6, 5.4, rows=2, ratios=(3, 1))
    styles = {"no cost": (GREEN, "--"), "buy and hold": (GREY, ":")}
    for name in curves.columns:
        last = name == curves.columns[-1]
        colour, style = (BLUE, "-") if last else styles.get(str(name), (ORANGE, "-."))
        shown = _thinned(curves[name])
        top.plot(_naive(shown.index), shown, color=colour, linestyle=style, linewidth=1.4 if last else 1.1, label=name)
    top.legend(fontsize=8, frameon=False, loc="upper left")
    name_axes(top, title="Equity at each close", y=f"equity, {currency}" if currency else "equity")
    deep = _thinned(drawdown, "min")
    bottom.fill_between(_naive(deep.index), 100 * deep.to_numpy(), 0, color=VERMILION, alpha=0.35, linewidth=0)
    bottom.plot(_naive(deep.index), 100 * deep, color=VERMILION, linewidth=0.8)
    top.tick_params(labelbottom=False)
    top.sharex(bottom)
    date_axis(bottom)
    name_axes(bottom, x="time (UTC)", y="below peak, %")
    return rendered(figure, "svg")


def monthly_returns(table: pd.DataFrame) -> bytes:
    """A square a month, a row a year, the year's return at the right.

    Parameters
    ----------
    table:
        Index the year; columns 1 to 12 and ``year``: shares, NaN where the account did not exist.
    """
    values = 100 * table.to_numpy(dtype=np.float64)
    figure, (axes,) = new_figure(9.6, 0.9 + 0.34 * max(len(table), 1))
    reach = float(np.nanmax(np.abs(values[:, :12]))) if np.isfinite(values[:, :12]).any() else 1.0
    axes.imshow(
        np.where(np.isfinite(values), values, 0.0),
        cmap="RdBu",
        vmin=-reach or -1,
        vmax=reach or 1,
        aspect="auto",
        alpha=0.75,
    )
    for row, column in np.argwhere(np.isfinite(values)):
        text = f"{values[row, column]:+.1f}"
        dark = abs(values[row, column]) > 0.75 * reach
        axes.text(column, row, text, ha="center", va="center", fontsize=8, color="white" if dark else "black")
    for row, column in np.argwhere(~np.isfinite(values)):
        axes.add_patch(_blank(column, row))
    axes.axvline(11.5, color="white", linewidth=3)
    axes.set_xticks(range(13), [*MONTHS, "year"])
    axes.set_yticks(range(len(table)), [str(year) for year in table.index])
    axes.grid(visible=False)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    name_axes(axes, title="Return by month, %")
    return rendered(figure, "svg")


def trades_on_price(close: pd.Series, trades: pd.DataFrame, *, symbol: str = "") -> bytes:
    """The price, and from the entry of a trade to its exit a line: blue where it won, red where it lost.

    At most 150 trades are drawn, evenly chosen, and the title says so.
    """
    figure, (axes,) = new_figure(9.6, 3.8)
    shown = _thinned(close)
    axes.plot(_naive(shown.index), shown, color=GREY, linewidth=0.8)
    ended = trades[trades["exit_at"].notna()]
    chosen = ended.iloc[np.unique(np.linspace(0, len(ended) - 1, min(SHOWN_TRADES, len(ended))).astype(int))]
    for won, colour, word in ((True, BLUE, "won"), (False, VERMILION, "lost")):
        part = chosen[(chosen["net"] > 0) == won]
        start, end = _naive(part["entry_at"]), _naive(part["exit_at"])
        axes.plot([start, end], [part["entry_price"], part["exit_price"]], color=colour, linewidth=1.1)
        for long, marker in ((True, "^"), (False, "v")):
            side = (part["quantity"] > 0).to_numpy() == long
            name = f"{'long' if long else 'short'}, {word}"
            axes.scatter(
                start[side], part["entry_price"][side], s=13, marker=marker, color=colour, label=name, zorder=3
            )
    axes.legend(fontsize=7, frameon=False, ncols=4, loc="upper left")
    date_axis(axes)
    count = f"all {len(ended):,}" if len(chosen) == len(ended) else f"{len(chosen)} of {len(ended):,}"
    name_axes(axes, title=f"{symbol}: {count} closed trades on the price", x="time (UTC)", y="price")
    return rendered(figure, "svg")


def histogram(values: Any, *, title: str, x: str, y: str) -> bytes:
    """How often which value came, the outermost half percent on each side drawn at the edge."""
    figure, (axes,) = new_figure(4.7, 3.2)
    known = np.asarray(values, dtype=np.float64)
    if known.size:
        low, high = np.quantile(known, [0.005, 0.995])
        width = (high - low) / 40 or max(abs(low) / 20, 1e-9)
        # An edge at 0, so that no bar holds gains and losses.
        edges = width * np.arange(np.floor(low / width), np.floor(high / width) + 2)
        counts, _ = np.histogram(np.clip(known, edges[0], edges[-1] - width / 2), edges)
        centre = (edges[:-1] + edges[1:]) / 2
        axes.bar(centre, counts, width=0.92 * width, color=np.where(centre >= 0, BLUE, VERMILION))
        axes.axvline(float(known.mean()), color="black", linewidth=1.0, linestyle=":", label="mean")
        axes.legend(fontsize=8, frameon=False)
    name_axes(axes, title=title, x=x, y=y)
    return rendered(figure, "svg")


def excursion_dots(trades: pd.DataFrame) -> bytes:
    """A dot a trade: how far it went against its side and how far for it; a winner that was deep down stands right."""
    figure, (axes,) = new_figure(4.7, 3.2)
    shown = trades.iloc[np.unique(np.linspace(0, len(trades) - 1, min(SHOWN_DOTS, len(trades))).astype(int))]
    for won, colour, marker, name in ((True, BLUE, "o", "won"), (False, VERMILION, "x", "lost")):
        part = shown[(shown["net"] > 0) == won]
        axes.scatter(
            -100 * part["adverse"],
            100 * part["favourable"],
            s=9,
            color=colour,
            marker=marker,
            alpha=0.6,
            linewidths=0.8,
            label=name,
        )
    axes.legend(fontsize=8, frameon=False)
    name_axes(axes, title="Excursions of trades", x="against, % of entry price", y="for, % of entry price")
    return rendered(figure, "svg")


def cost_steps(rungs: list[str], net: Any, *, currency: str = "") -> bytes:
    """The net profit of each rung of the cost ladder, from no cost at the top."""
    figure, (axes,) = new_figure(4.7, 3.2)
    values = np.asarray(net, dtype=np.float64)
    place = np.arange(len(rungs))
    axes.barh(place, values, color=np.where(values >= 0, BLUE, VERMILION), height=0.65)
    axes.axvline(0, color=GREY, linewidth=0.9)
    axes.set_yticks(place, rungs)
    axes.invert_yaxis()
    name_axes(axes, title="What each cost left", x=f"net profit, {currency}" if currency else "net profit")
    return rendered(figure, "svg")


def _thinned(values: pd.Series, how: str = "last") -> pd.Series:
    """At most 1,500 points: the last, or the smallest, of each stretch."""
    step = -(-len(values) // POINTS)
    if step <= 1:
        return values
    groups = values.groupby(np.arange(len(values)) // step)
    thin = groups.min() if how == "min" else groups.last()
    thin.index = values.index[np.minimum(np.arange(len(thin)) * step + step - 1, len(values) - 1)]
    return thin


def _naive(times: Any) -> pd.DatetimeIndex:
    return pd.DatetimeIndex(times).tz_convert("UTC").tz_localize(None)


def _blank(column: int, row: int) -> Any:
    from matplotlib.patches import Rectangle

    return Rectangle((column - 0.5, row - 0.5), 1, 1, facecolor="white", edgecolor="none")
