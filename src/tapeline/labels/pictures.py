"""Pictures of labels, drawn without a display and without matplotlib's global state; the same labels, the same bytes.

Colours are those of Okabe and Ito (2008), which people with colour-blindness can tell apart. All times are UTC.
"""

from __future__ import annotations

from io import BytesIO
from typing import TYPE_CHECKING, Final, Literal

import numpy as np
import pandas as pd

from tapeline.core.errors import ConfigurationError
from tapeline.labels.distribution import balance_by_regime, balance_over_time, class_balance

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Format = Literal["svg", "png"]
Colours = dict[float, str]

COLOURS: Final = ("#D55E00", "#999999", "#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#F0E442")
SIDES: Final = {-1.0: COLOURS[0], 0.0: COLOURS[1], 1.0: COLOURS[2]}
"""Directions keep their colours where one of them does not occur."""

_MOST_CLASSES: Final = len(COLOURS)
_MOST_REGIMES: Final = 12


def label_distribution(
    labels: pd.DataFrame,
    *,
    regime: pd.Series | None = None,
    every: str = "MS",
    title: str = "",
    format: Format = "svg",
) -> bytes:
    """The class balance: in all, over time, and by regime where one is given.

    Parameters
    ----------
    labels:
        ``value`` and ``outcome`` on ``ts``; at most 8 classes (put others in bins first).
    regime:
        A name or number on ``ts``, at most 12.
    every:
        The period, as for :func:`tapeline.labels.distribution.balance_over_time`.

    Returns
    -------
    The picture's file as bytes.

    Raises
    ------
    ConfigurationError
        Too many classes or regimes.
    DataError
        There is no label, or none has a regime.

    Examples
    --------
    >>> ts = pd.date_range("2017-01-02", periods=90, freq="1D", tz="UTC", name="ts")
    >>> labels = pd.DataFrame({"value": np.sign(np.arange(90) % 3 - 1.0), "outcome": 0.0}, index=ts)
    >>> label_distribution(labels)[:5]
    b'<?xml'
    """
    from matplotlib.figure import Figure

    balance = class_balance(labels)
    if len(balance) > _MOST_CLASSES:
        raise ConfigurationError(f"{len(balance)} classes are too many to draw", hint="put the values in bins first")
    by_regime = None if regime is None else balance_by_regime(labels, regime)
    if by_regime is not None and len(by_regime) > _MOST_REGIMES:
        raise ConfigurationError(f"{len(by_regime)} regimes are too many to draw", hint=f"give at most {_MOST_REGIMES}")
    values = [float(value) for value in balance.index]
    colours = [SIDES[value] for value in values] if set(values) <= set(SIDES) else list(COLOURS[: len(values)])
    chosen = dict(zip(values, colours, strict=True))
    figure = Figure(figsize=(11, 6.4), layout="constrained")
    grid = figure.add_gridspec(2, 2)
    _totals(figure.add_subplot(grid[0, 0] if by_regime is not None else grid[0, :]), balance, chosen)
    if by_regime is not None:
        _stacked(
            figure.add_subplot(grid[0, 1]),
            by_regime.drop(columns=["labels", "distance"]),
            [f"{name}\n{count:,}" for name, count in zip(by_regime.index, by_regime["labels"], strict=True)],
            chosen,
        )
    _over_time(figure.add_subplot(grid[1, :]), balance_over_time(labels, every), every, chosen)
    # A symbol may hold a dollar sign, which would otherwise start a formula.
    figure.suptitle(title or "Class balance of the labels", fontsize=11, x=0.01, ha="left", parse_math=False)
    return _render(figure, format)


def _totals(axes: Axes, balance: pd.DataFrame, colours: Colours) -> None:
    _style(axes, "all labels", "labels")
    places = np.arange(len(balance))
    axes.bar(places, balance["labels"], color=[colours[float(value)] for value in balance.index], width=0.7)
    for place, (count, share) in enumerate(zip(balance["labels"], balance["share"], strict=True)):
        axes.annotate(
            f"{count:,} ({share:.1%})",
            (place, count),
            ha="center",
            va="bottom",
            fontsize=8,
            textcoords="offset points",
            xytext=(0, 2),
        )
    axes.set_xticks(places, [f"{value:g}" for value in balance.index])
    axes.set_xlabel("class", fontsize=9)
    axes.margins(y=0.15)


def _stacked(axes: Axes, shares: pd.DataFrame, names: list[str], colours: Colours) -> None:
    _style(axes, "by regime", "share")
    places, floor = np.arange(len(shares)), np.zeros(len(shares))
    for value in shares.columns:
        axes.bar(places, shares[value], bottom=floor, color=colours[float(value)], width=0.7)
        floor = floor + shares[value].to_numpy()
    axes.set_xticks(places, names, parse_math=False)
    axes.set_ylim(0, 1)


def _over_time(axes: Axes, over_time: pd.DataFrame, every: str, colours: Colours) -> None:
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

    _style(axes, "over time", "share")
    # Periods without labels are gaps, not a wider period before them.
    shares = over_time.drop(columns="labels").asfreq(every)
    starts = pd.DatetimeIndex(shares.index).tz_convert(None)
    edges = starts.append(pd.DatetimeIndex([starts[-1] + pd.tseries.frequencies.to_offset(every)])).to_numpy()
    floor = np.zeros(len(shares))
    for value in shares.columns:
        top = floor + shares[value].to_numpy()
        axes.stairs(top, edges, baseline=floor, fill=True, color=colours[float(value)], label=f"{value:g}")
        floor = top
    axes.set_xlim(edges[0], edges[-1])
    axes.set_ylim(0, 1)
    locator = AutoDateLocator(maxticks=9)
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))
    axes.legend(title="class", fontsize=8, title_fontsize=8, loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False)


def _style(axes: Axes, title: str, y: str) -> None:
    axes.grid(visible=True, axis="y", color="#DDDDDD", linewidth=0.5)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8)
    axes.set_title(title, fontsize=10, loc="left")
    axes.set_ylabel(y, fontsize=9)


def _render(figure: Figure, kind: Format) -> bytes:
    import matplotlib as mpl

    buffer = BytesIO()
    # A fixed salt and no date: the same picture has the same bytes.
    with mpl.rc_context({"svg.hashsalt": "tapeline", "svg.fonttype": "path"}):
        figure.savefig(buffer, format=kind, dpi=120, metadata={"Date": None} if kind == "svg" else None)
    return buffer.getvalue()
