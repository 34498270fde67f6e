"""Price action: what each bar did to the bars before it, as 1 (up), -1 (down) and 0.

Each annotation is stamped on the bar at whose close it was known: a swing at the bar that confirms it, a retest at the
bar that held. NaN stands only in the warm-up.
"""

from __future__ import annotations

import hashlib
from typing import Annotated, Any, Final

import numpy as np
import pandas as pd
from pydantic import Field

from tapeline.core.errors import DataError
from tapeline.core.registry import feature
from tapeline.core.timeframe import Timeframe
from tapeline.features.arrays import STILL, Count, Floats, Window, columns, frame, series
from tapeline.features.kernels import rolling_mean
from tapeline.features.price_action_kernels import breakouts, retests, swing_sequence

Span = Annotated[int, Field(ge=1, le=1000)]
Multiple = Annotated[float, Field(gt=0, le=100)]
Share = Annotated[float, Field(gt=0, lt=1)]

ANNOTATIONS: Final = (
    "inside_bar",
    "outside_bar",
    "highs",
    "lows",
    "swing_highs",
    "swing_lows",
    "impulse",
    "gap",
    "opening_gap",
    "rejection",
    "engulfing",
    "breakout",
    "retest",
)
"""The columns of :func:`annotate`, in order."""


@feature(
    lookback=2,
    outputs=("inside_bar", "outside_bar"),
    reference="Brooks, Reading Price Charts Bar by Bar (2009), chapter 1: inside and outside bars",
)
def inside_outside_bar(bars: pd.DataFrame) -> pd.DataFrame:
    """Whether a bar lies within the range of the bar before it, or goes beyond it on both sides.

    Returns
    -------
    ``inside_bar``: 1 where the high is not above and the low not below that of the bar before, else 0.
    ``outside_bar``: where the high is above and the low below, 1 if it closes in the upper half of its range (the
    middle counts as upper), -1 if in the lower; else 0.

    Examples
    --------
    >>> from tapeline.core.example import example_bars
    >>> bars = example_bars(10, 10, 10).assign(high=[12.0, 11, 13], low=[8.0, 9, 7], close=[10.0, 10, 12])
    >>> inside_outside_bar(bars).values.tolist()
    [[nan, nan], [1.0, 0.0], [0.0, 1.0]]
    """
    high, low, close = columns(bars, "high", "low", "close")
    high_before, low_before = _before(high), _before(low)
    inside = (high <= high_before) & (low >= low_before)
    outside = (high > high_before) & (low < low_before)
    upper = close - low >= high - close
    return frame(
        bars,
        inside_bar=_known(inside.astype(np.float64), 1),
        outside_bar=_known(np.where(outside, np.where(upper, 1.0, -1.0), 0.0), 1),
    )


@feature(
    lookback=2,
    outputs=("highs", "lows"),
    reference="Brooks, Reading Price Charts Bar by Bar (2009), chapter 1: a trend bar by bar",
)
def highs_and_lows(bars: pd.DataFrame) -> pd.DataFrame:
    """Whether a bar's high, and its low, is higher (1), lower (-1) or the same (0) as that of the bar before.

    Examples
    --------
    >>> from tapeline.core.example import example_bars
    >>> highs_and_lows(example_bars(10, 11, 12, 10)).values.tolist()
    [[nan, nan], [1.0, 0.0], [1.0, 1.0], [0.0, -1.0]]
    """
    high, low = columns(bars, "high", "low")
    return frame(bars, highs=np.sign(high - _before(high)), lows=np.sign(low - _before(low)))


@feature(
    lookback=lambda window: window,
    outputs=("swing_highs_{span}", "swing_lows_{span}"),
    reference="Murphy, Technical Analysis of the Financial Markets (1999), chapter 4: peaks and troughs make a trend",
    delay=lambda span: span,
)
def swing_structure(bars: pd.DataFrame, span: Span = 3, window: Window = 120) -> pd.DataFrame:
    """Higher or lower swing highs and swing lows, each at the bar that confirms the newer one.

    A swing high is above the ``span`` highs before it and not below the ``span`` highs after it, so it is known
    ``span`` bars late. It is compared with the swing high before it, if that lies within the last ``window`` bars.

    Returns
    -------
    ``swing_highs``: 1 a higher high, -1 a lower high, 0 no new swing. ``swing_lows``: 1 a higher low, -1 a lower low.

    Examples
    --------
    >>> from tapeline.core.example import example_bars
    >>> swing_structure(example_bars(10, 12, 9, 13, 10, 14, 11), span=1, window=7).iloc[-1].tolist()
    [1.0, 0.0]
    """
    high, low = columns(bars, "high", "low")
    return frame(
        bars,
        **{
            f"swing_highs_{span}": swing_sequence(high, span, window),
            f"swing_lows_{span}": -swing_sequence(-low, span, window) + 0.0,
        },
    )


@feature(
    lookback=lambda window: window + 2,
    outputs="impulse_{window}",
    reference="Wyckoff's wide-range bars, in Pruden, The Three Skills of Top Trading (2007), chapter 7",
)
def impulse(bars: pd.DataFrame, window: Window = 20, multiple: Multiple = 2.0, outer: Share = 1 / 3) -> pd.Series:
    """A bar that moves far and closes at its end: 1 up, -1 down, else 0.

    Its true range is at least ``multiple`` times the mean true range of the ``window`` bars before it, its body points
    the same way, and it closes in the ``outer`` share of its true range.

    Examples
    --------
    >>> from tapeline.core.example import example_bars
    >>> impulse(example_bars(10, 10, 10, 10, 20), window=2).tolist()
    [nan, nan, nan, 0.0, 1.0]
    """
    opened, high, low, close = columns(bars, "open", "high", "low", "close")
    top, bottom = _true_range(high, low, close)
    height = top - bottom
    normal = _before(rolling_mean(height, window))
    wide = (height >= multiple * normal) & (normal > STILL * close)
    up = wide & (close > opened) & (top - close <= outer * height)
    down = wide & (close < opened) & (close - bottom <= outer * height)
    return series(bars, _signed(up, down, window + 1))


@feature(
    lookback=lambda window: window + 2,
    outputs=("gap", "opening_gap_{window}"),
    reference="Murphy, Technical Analysis of the Financial Markets (1999), chapter 4: price gaps",
)
def price_gap(bars: pd.DataFrame, window: Window = 20, share: Multiple = 0.5) -> pd.DataFrame:
    """Prices at which nothing traded between two bars.

    Returns
    -------
    ``gap``: 1 where the low is above the high before, -1 where the high is below the low before, else 0.
    ``opening_gap``: 1 or -1 where the open is away from the close before by at least ``share`` of the mean true range
    of the ``window`` bars before, filled later or not, else 0.

    Examples
    --------
    >>> from tapeline.core.example import example_bars
    >>> bars = example_bars(10, 10, 10, 10, 14).assign(open=[10.0, 10, 10, 10, 14], low=[9.0, 9, 9, 9, 13])
    >>> price_gap(bars, window=2).iloc[-2:].values.tolist()
    [[0.0, 0.0], [1.0, 1.0]]
    """
    opened, high, low, close = columns(bars, "open", "high", "low", "close")
    top, bottom = _true_range(high, low, close)
    normal = _before(rolling_mean(top - bottom, window))
    away = opened - _before(close)
    far = (np.abs(away) >= share * normal) & (normal > STILL * close)
    return frame(
        bars,
        **{
            "gap": _signed(low > _before(high), high < _before(low), 1),
            f"opening_gap_{window}": _signed(far & (away > 0), far & (away < 0), window + 1),
        },
    )


@feature(
    lookback=2,
    outputs="rejection",
    reference="Nison, Japanese Candlestick Charting Techniques, 2nd ed. (2001), chapter 4: hammer and shooting star; "
    "Brooks, Reading Price Charts Bar by Bar (2009), chapter 1: reversal bars",
)
def rejection(bars: pd.DataFrame, tail: Share = 2 / 3) -> pd.Series:
    """A price that was tried and refused: 1 where the bar comes back from below, -1 where from above, else 0.

    The bar goes beyond the extreme of the bar before, and the tail on that side, from the body outwards, is at least
    ``tail`` of its range.

    Examples
    --------
    >>> from tapeline.core.example import example_bars
    >>> bars = example_bars(10, 10).assign(low=[9.0, 7.0], high=[11.0, 10.5])
    >>> rejection(bars).tolist()
    [nan, 1.0]
    """
    opened, high, low, close = columns(bars, "open", "high", "low", "close")
    height = high - low
    lower = (np.minimum(opened, close) - low >= tail * height) & (low < _before(low))
    upper = (high - np.maximum(opened, close) >= tail * height) & (high > _before(high))
    some = height > STILL * close
    return series(bars, _signed(lower & some, upper & some & ~lower, 1))


@feature(
    lookback=2,
    outputs="engulfing",
    reference="Nison, Japanese Candlestick Charting Techniques, 2nd ed. (2001), chapter 4: engulfing pattern",
)
def engulfing(bars: pd.DataFrame) -> pd.Series:
    """A body that covers the body before it, of the other colour: 1 a white one, -1 a black one, else 0.

    One end may be equal, not both.

    Examples
    --------
    >>> from tapeline.core.example import example_bars
    >>> engulfing(example_bars(11, 10, 12).assign(open=[11.0, 11, 9])).tolist()
    [nan, 0.0, 1.0]
    """
    opened, close = columns(bars, "open", "close")
    opened_before, close_before = _before(opened), _before(close)
    top, bottom = np.maximum(opened, close), np.minimum(opened, close)
    top_before, bottom_before = np.maximum(opened_before, close_before), np.minimum(opened_before, close_before)
    covers = (top >= top_before) & (bottom <= bottom_before) & ((top > top_before) | (bottom < bottom_before))
    white, white_before = close > opened, close_before > opened_before
    black, black_before = close < opened, close_before < opened_before
    return series(bars, _signed(covers & white & black_before, covers & black & white_before, 1))


@feature(
    lookback=lambda window, within: window + within + 2,
    outputs=("breakout_{window}", "retest_{window}"),
    reference="Bulkowski, Encyclopedia of Chart Patterns, 2nd ed. (2005): breakouts, throwbacks and pullbacks; "
    "Donchian's channel as the range",
)
def breakout_and_retest(
    bars: pd.DataFrame, window: Window = 20, within: Count = 30, share: Multiple = 0.25
) -> pd.DataFrame:
    """The first close out of a range, and the first return to its edge that held.

    Returns
    -------
    ``breakout``: 1 at the first close above the highest high of the ``window`` bars before it, -1 at the first below
    the lowest low, else 0. ``retest``: the side of the newest breakout, at the first of the ``within`` bars after it
    that comes to within ``share`` of the mean true range of the edge and closes outside the range; 0 at every other,
    and for good once a bar has closed back inside. It speaks only after it has happened.

    Examples
    --------
    >>> from tapeline.core.example import example_bars
    >>> bars = example_bars(10, 10, 10, 10, 13, 13, 12, 13)
    >>> breakout_and_retest(bars, window=2, within=3).iloc[-4:].values.tolist()
    [[1.0, nan], [0.0, nan], [0.0, 1.0], [0.0, 0.0]]
    """
    high, low, close = columns(bars, "high", "low", "close")
    side, level = breakouts(high, low, close, window)
    top, bottom = _true_range(high, low, close)
    reach = share * rolling_mean(top - bottom, window)
    return frame(
        bars,
        **{
            f"breakout_{window}": side,
            f"retest_{window}": retests(high, low, close, side, level, reach, within),
        },
    )


def annotate(bars: pd.DataFrame) -> pd.DataFrame:
    """Every annotation of every bar, under the default parameters.

    Returns
    -------
    A frame on the bars' index with the float64 columns :data:`ANNOTATIONS`, each 1, -1, 0, or NaN in its warm-up.

    Examples
    --------
    >>> from tapeline.core.example import example_bars
    >>> annotate(example_bars(10, 11, 12))[["highs", "lows"]].iloc[-1].tolist()
    [1.0, 1.0]
    """
    parts = (
        inside_outside_bar(bars),
        highs_and_lows(bars),
        swing_structure(bars),
        impulse(bars).to_frame(),
        price_gap(bars),
        rejection(bars).to_frame(),
        engulfing(bars).to_frame(),
        breakout_and_retest(bars),
    )
    return pd.concat(parts, axis=1).set_axis(list(ANNOTATIONS), axis=1)


def annotation_events(bars: pd.DataFrame, timeframe: Timeframe, annotations: pd.DataFrame | None = None) -> Any:
    """The annotations as rows of the events schema, each confirmed at its bar's close.

    Parameters
    ----------
    annotations:
        A frame of 1, -1, 0 and NaN on the bars' index, one kind a column; :func:`annotate` where absent.

    Returns
    -------
    One row for every 1 and -1: ``id`` (a hash of kind and time), ``kind``, ``direction`` (0 for an inside bar),
    ``start`` and ``end`` (the bar's open), ``confirmed_at`` (its close), ``low`` and ``high``; by time, then kind.

    Raises
    ------
    DataError
        The annotations stand on another index than the bars.

    Examples
    --------
    >>> from tapeline.core.example import example_bars
    >>> events = annotation_events(example_bars(10, 11), Timeframe.parse("H1"))
    >>> events[["kind", "direction"]].values.tolist()
    [['highs', 1]]
    """
    found = annotate(bars) if annotations is None else annotations
    if not found.index.equals(bars.index):
        raise DataError(f"{len(found)} annotations stand on another index than the {len(bars)} bars")
    values = np.nan_to_num(found.to_numpy(dtype=np.float64))
    row, column = np.nonzero(values)
    index = pd.DatetimeIndex(bars.index)
    kinds = np.asarray(found.columns, dtype=object)[column]
    starts = index[row]
    closes = timeframe.closes(index)[row]
    direction = np.where(kinds == "inside_bar", 0, values[row, column]).astype(np.int8)
    names = [f"{kind}|{start}" for kind, start in zip(kinds, starts.asi8, strict=True)]
    return pd.DataFrame(
        {
            "id": pd.Series([hashlib.sha256(name.encode()).hexdigest()[:24] for name in names], dtype="str"),
            "kind": pd.Categorical(kinds, categories=sorted(set(found.columns))),
            "direction": direction,
            "start": starts,
            "end": starts,
            "confirmed_at": closes,
            "low": bars["low"].to_numpy()[row],
            "high": bars["high"].to_numpy()[row],
        }
    )


def _before(values: Floats) -> Floats:
    """Each value's predecessor; NaN first."""
    return np.concatenate((np.full(min(values.size, 1), np.nan), values[:-1]))


def _true_range(high: Floats, low: Floats, close: Floats) -> tuple[Floats, Floats]:
    """Top and bottom of each bar, stretched to the close before it; NaN first."""
    before = _before(close)
    return np.maximum(high, before), np.minimum(low, before)


def _known(values: Floats, warm_up: int) -> Floats:
    values[:warm_up] = np.nan
    return values


def _signed(up: Any, down: Any, warm_up: int) -> Floats:
    return _known(np.where(up, 1.0, np.where(down, -1.0, 0.0)), warm_up)
