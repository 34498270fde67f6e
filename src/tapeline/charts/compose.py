"""Composing a chart: the bars asked for, and what was known of them by the last one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import numpy as np
import pandas as pd

from tapeline.charts.picture import Chart
from tapeline.charts.scan import Choice, scan
from tapeline.core.errors import ConfigurationError, DataError
from tapeline.core.registry import Catalog, Component

SHOWN_BARS: Final = 160
MOST_BARS: Final = 5_000
TOLD: Final = ("inside_bar", "outside_bar", "impulse", "gap", "rejection", "engulfing", "breakout", "retest")
"""Annotations of single bars; those that nearly every bar has, such as a higher high, would only cover the chart."""


def compose(
    history: pd.DataFrame,
    choices: Sequence[Choice] = (),
    *,
    start: pd.Timestamp | None = None,
    end: pd.Timestamp | None = None,
    overlays: Iterable[str] | Mapping[str, Mapping[str, Any]] = (),
    annotate: bool = False,
    trend: bool = False,
    title: str = "",
) -> Chart:
    """A chart of the bars from ``start`` to ``end``, drawn from the history up to ``end`` and from nothing after it.

    Parameters
    ----------
    history:
        Bars with ``close_ts``, from well before ``start`` on, so that what stood then is known.
    choices:
        Detectors, from :func:`tapeline.charts.scan.choose`.
    start, end:
        First bar shown, and the first one that is not; the last 160 bars without.
    overlays:
        Features whose output is a price, by name, with their parameters where they are not the defaults.
    annotate, trend:
        Name what single bars are (:mod:`tapeline.features.price_action`), and show the trend beneath
        (:mod:`tapeline.features.trend_context`).

    Raises
    ------
    DataError
        There is no bar between ``start`` and ``end``.
    ConfigurationError
        More bars are asked for than a picture can show, or an overlay is no price.

    Examples
    --------
    >>> from tapeline.charts.scan import choose
    >>> from tapeline.core.example import example_bars
    >>> chart = compose(example_bars(10, 14, 15, 15, 12), choose(["fair_value_gap"]))
    >>> len(chart.bars), chart.events["kind"].astype(str).tolist()
    (5, ['fair_value_gap'])
    """
    known = history if end is None else history[history.index < end]
    shown = known.iloc[-SHOWN_BARS:] if start is None else known[known.index >= start]
    if shown.empty:
        reach = f"{history.index[0]} to {history.index[-1]}" if len(history) else "none at all"
        raise DataError(f"there is no bar from {start} to {end}", hint=f"the bars there are: {reach}")
    if len(shown) > MOST_BARS:
        raise ConfigurationError(
            f"{len(shown)} bars are more than a picture shows",
            hint=f"at most {MOST_BARS}: a later --from or longer bars",
        )
    lines, bands = _overlays(known, overlays)
    rows = slice(len(known) - len(shown), None)
    return Chart(
        bars=shown,
        events=scan(known, choices) if choices else None,
        overlays={name: values.iloc[rows] for name, values in lines.items()},
        bands=bands,
        annotations=annotation_texts(known).iloc[rows] if annotate else None,
        trend=_trend(known).iloc[rows] if trend else None,
        title=title,
    )


def annotation_texts(bars: pd.DataFrame) -> pd.Series:
    """What each bar is, in words: ``engulfing up, rejection up``; empty where it is nothing of note.

    Examples
    --------
    >>> from tapeline.core.example import example_bars
    >>> annotation_texts(example_bars(10, 14, 11)).tolist()[0]
    ''
    """
    from tapeline.features.price_action import annotate

    found = annotate(bars)
    texts = np.full(len(bars), "", dtype=object)
    for name in TOLD:
        values = np.nan_to_num(found[name].to_numpy(dtype=np.float64))
        for way, word in ((1.0, " up"), (-1.0, " down")):
            said = name.replace("_", " ") + ("" if name.endswith("_bar") else word)
            rows = np.flatnonzero(values == way)
            texts[rows] = [f"{text}, {said}" if text else said for text in texts[rows]]
    return pd.Series(texts, index=bars.index, dtype="str")


def _trend(bars: pd.DataFrame) -> pd.Series:
    from tapeline.features.trend_context import trend_context

    tags = trend_context(bars)
    return tags[tags.columns[0]]


def _overlays(
    bars: pd.DataFrame, wanted: Iterable[str] | Mapping[str, Mapping[str, Any]]
) -> tuple[dict[str, pd.Series], tuple[tuple[str, str], ...]]:
    given = wanted if isinstance(wanted, Mapping) else {name: {} for name in wanted}
    if not given:
        return {}, ()
    catalog = Catalog.discover(["tapeline.features", "tapeline.charts"])
    lines: dict[str, pd.Series] = {}
    bands = []
    for name, parameters in given.items():
        component = catalog[name]
        if component.scale != (1, 0):
            prices = [one.name for one in catalog.of_kind("feature") if is_price(one)]
            raise ConfigurationError(f"'{name}' is no price, it cannot lie over bars", hint=f"prices are {prices}")
        frame = component.compute(bars, **parameters)
        lines.update({str(column): frame[column] for column in frame.columns})
        spans = [str(column) for column in frame.columns if "span" in str(column)]
        bands += [(spans[0], spans[1])] if len(spans) == 2 else []
    return lines, tuple(bands)


def is_price(component: Component) -> bool:
    """Whether a feature's output is a price, so that it can be drawn over bars."""
    return component.kind == "feature" and component.scale == (1, 0)
