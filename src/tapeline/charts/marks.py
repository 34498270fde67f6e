"""Marks: what is drawn of an event, as shapes in bar numbers and prices that any renderer can put on paper."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import pandas as pd

from tapeline.core.errors import ConfigurationError

Form = Literal["marker", "level", "zone", "path"]

ZONE_WORDS: Final = frozenset(
    {"gap", "block", "zone", "void", "support", "resistance", "demand", "supply", "confluence", "interest", "area",
     "rally", "drop", "forming", "shape"}
)  # fmt: skip
"""Kinds with one of these words in their name are areas of price; their points are no outline."""

ENDED_WORDS: Final = frozenset({"shape"})
"""Areas of kinds with one of these words speak of the bars from start to end and stand for nothing after them."""

RETURNS: Final = frozenset({"gap_encroachment"})
"""Returns to an area: the way back is drawn; the area is that of another finding."""

PARTS: Final = frozenset({"parallel_channel", "regression_channel", "fractal_repeat"})
"""Kinds whose points are two lines, the first half and the second; a line between them would lie."""

LEVEL_WORDS: Final = frozenset({"level", "support", "resistance", "pivot", "naked"})
"""Kinds with one of these words whose low is their high go on at their price until they are over."""


@dataclass(frozen=True)
class Mark:
    """One event, ready to be drawn.

    Parameters
    ----------
    kind, direction, form:
        ``marker``: a sign at a bar; ``level``: a line at one price; ``zone``: an area between two prices; ``path``: a
        line through the points.
    x, y:
        The points of a path, or the bar and price of a marker. Bar numbers count from the first bar shown, and may lie
        before it. A NaN lifts the pen.
    begin, end:
        From and to which bar a level or a zone is drawn: from its start to its invalidation, or to the last bar.
    low, high:
        Of the event.
    known:
        The bar at whose close it was confirmed.
    open:
        It still stands at the last bar.
    target, stop:
        Prices; NaN where absent.
    """

    kind: str
    direction: int
    form: Form
    x: tuple[float, ...]
    y: tuple[float, ...]
    begin: float
    end: float
    low: float
    high: float
    known: float
    open: bool
    target: float
    stop: float

    @property
    def label(self) -> str:
        """The kind in words."""
        return self.kind.replace("_", " ")


def marks(events: pd.DataFrame, bars: pd.DataFrame) -> list[Mark]:
    """The events that touch the bars shown: confirmed by the last of them, and not over before the first.

    Examples
    --------
    >>> from tapeline.core.example import example_bars
    >>> from tapeline.charts.gaps import fair_value_gap
    >>> bars = example_bars(10, 14, 15, 15, 12)
    >>> [(mark.form, mark.begin, mark.end, mark.known) for mark in marks(fair_value_gap(bars), bars)]
    [('zone', 0.0, 4.0, 2.0)]
    """
    if not len(bars):
        raise ConfigurationError("there is no bar to draw on", hint="take a longer range")
    opened = pd.DatetimeIndex(bars.index).as_unit("ns").asi8
    closed = pd.DatetimeIndex(bars["close_ts"]).as_unit("ns").asi8
    step = float(np.median(np.diff(opened))) if len(bars) > 1 else float(closed[0] - opened[0])
    last = len(bars) - 1
    known = pd.DatetimeIndex(events["confirmed_at"]).as_unit("ns").asi8
    gone = pd.DatetimeIndex(events["invalidated_at"]).as_unit("ns")
    found = []
    for place in np.flatnonzero((known <= closed[-1]) & (gone.isna() | (gone.asi8 >= closed[0]))):
        event = events.iloc[place]
        ended = not (pd.isna(event["invalidated_at"]) or event["invalidated_at"].value > closed[-1])
        points = event["points"] if isinstance(event["points"], list | np.ndarray | tuple) else []
        x = tuple(_place(pd.Timestamp(point["ts"]).value, opened, step) for point in points)
        y = tuple(float(point["price"]) for point in points)
        form = form_of(str(event["kind"]), y, float(event["low"]), float(event["high"]))
        begin = _place(event["start"].value, opened, step)
        end = float(np.searchsorted(closed, event["invalidated_at"].value)) if ended else float(last)
        known_at = float(np.searchsorted(closed, known[place]))
        if form == "path":
            x, y = lines_of(str(event["kind"]), x, y, max(known_at, end))
        elif ENDED_WORDS & set(str(event["kind"]).split("_")):
            end = min(end, _place(event["end"].value, opened, step))
        if (form == "path" and np.nanmax(x) < 0) or (form == "marker" and begin < 0) or end < 0:
            continue
        found.append(
            Mark(
                kind=str(event["kind"]),
                direction=int(event["direction"]),
                form=form,
                x=x or (begin,),
                y=y or (float(event["high"]),),
                begin=begin,
                end=end,
                low=float(event["low"]),
                high=float(event["high"]),
                known=known_at,
                open=not ended,
                target=float(event["target"]),
                stop=float(event["stop"]),
            )
        )
    return found


def form_of(kind: str, prices: tuple[float, ...], low: float, high: float) -> Form:
    """How an event of this kind and geometry is drawn.

    Examples
    --------
    >>> form_of("gartley", (1.0, 2.0, 1.4, 1.8, 1.2), 1.0, 2.0), form_of("order_block", (1.0, 2.0, 2.0), 1.0, 1.5)
    ('path', 'zone')
    """
    zone = high > low and kind not in RETURNS and bool(ZONE_WORDS & set(kind.split("_")))
    if zone:
        return "zone"
    if low == high and LEVEL_WORDS & set(kind.split("_")):
        return "level"
    return "path" if len(prices) > 1 else "marker"


def lines_of(
    kind: str, x: tuple[float, ...], y: tuple[float, ...], until: float
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """What is drawn through an event's points: most are one line, some two or three with NaN between them.

    A pitchfork's three points are its pivots; its lines are the median, from the first through the middle of the other
    two, and the parallels to it through these, up to the bar ``until``.

    Examples
    --------
    >>> lines_of("gartley", (0.0, 4.0), (1.0, 2.0), 9.0)
    ((0.0, 4.0), (1.0, 2.0))
    >>> lines_of("pitchfork", (0.0, 3.0, 5.0), (1.0, 3.0, 1.0), 8.0)
    ((0.0, 8.0, nan, 3.0, 8.0, nan, 5.0, 8.0), (1.0, 3.0, nan, 3.0, 4.25, nan, 1.0, 1.75))
    """
    gap = (float("nan"),)
    if kind in PARTS and len(x) % 2 == 0:
        half = len(x) // 2
        return x[:half] + gap + x[half:], y[:half] + gap + y[half:]
    if kind == "pitchfork" and len(x) == 3:
        slope = ((y[1] + y[2]) / 2.0 - y[0]) / ((x[1] + x[2]) / 2.0 - x[0])
        across: tuple[float, ...] = ()
        along: tuple[float, ...] = ()
        for at, price in zip(x, y, strict=True):
            across += (at, until, *gap)
            along += (price, price + slope * (until - at), *gap)
        return across[:-1], along[:-1]
    return x, y


def _place(instant: int, opened: np.ndarray, step: float) -> float:
    """The number of the bar that opened at an instant; before the first bar, as if bars had come at the usual pace."""
    if instant < opened[0]:
        return float((instant - opened[0]) / step)
    return float(np.searchsorted(opened, instant, side="right") - 1)
