"""Ichimoku Kinko Hyo, each line as it was known at its bar; nothing is read from the future the cloud is drawn into.

The two leading spans that stand at a bar were computed ``displacement`` bars before it, and those computed now stand
in the future: both are known. The lagging span is the close drawn into the past; its causal form compares the close
with the one ``displacement`` bars ago, and the line itself is not offered.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import Field

from tapeline.charts.bar_arrays import BarArrays, Floats, Rows, mean_true_range
from tapeline.charts.detector import Found, detector
from tapeline.charts.events import NOT_YET, Findings
from tapeline.charts.pivots import PIVOT_MEMORY, find_pivots
from tapeline.charts.swings import Period, Size, Unit
from tapeline.charts.watch import ends_at
from tapeline.core.registry import feature

Length = Annotated[int, Field(ge=2, le=1_000)]
Slack = Annotated[int, Field(ge=0, le=10)]

SOURCE: Final = "Hosoda, Ichimoku Kinko Hyo (1969); Linton, Cloud Charts (2010), chapters 3 to 6"

TIME_NUMBERS: Final = (9, 17, 26, 33, 42, 51, 65, 76, 83, 97, 101, 129, 172, 200, 226)
"""Hosoda's basic numbers, kihon suchi: bars after a turn at which the next is watched for, the turn being bar 1."""


@dataclass(frozen=True)
class Lines:
    """The lines by bar: ``span_a`` and ``span_b`` stand at the bar, ``leading_a`` and ``leading_b`` were made by it."""

    conversion: Floats
    base: Floats
    leading_a: Floats
    leading_b: Floats
    span_a: Floats
    span_b: Floats
    lagged: Floats


def find_lines(
    bars: pd.DataFrame | BarArrays, conversion: int = 9, base: int = 26, span: int = 52, displacement: int = 26
) -> Lines:
    """All lines of Ichimoku as arrays; ``lagged`` is the close ``displacement`` bars ago.

    Examples
    --------
    >>> from tapeline.core.example import example_bars
    >>> find_lines(example_bars(10, 12, 14), 2, 2, 3, 1).conversion.tolist()
    [nan, 11.0, 12.0]
    """
    arrays = BarArrays.of(bars)
    quick, slow, wide = (_middle(arrays, length) for length in (conversion, base, span))
    leading_a = (quick + slow) / 2.0
    return Lines(
        quick, slow, leading_a, wide, _later(leading_a, displacement), _later(wide, displacement),
        _later(arrays.close, displacement),
    )  # fmt: skip


def _middle(arrays: BarArrays, length: int) -> Floats:
    """The middle between the highest high and the lowest low of so many bars."""
    import talib

    if len(arrays) < length:
        return np.full(len(arrays), np.nan)
    return talib.MIDPRICE(arrays.high, arrays.low, timeperiod=length)


def _later(values: Floats, by: int) -> Floats:
    result = np.full(values.size, np.nan)
    if values.size > by:
        result[by:] = values[: values.size - by]
    return result


@feature(
    lookback=lambda base, span, displacement: max(base, span) + displacement,
    outputs=("ichimoku_conversion", "ichimoku_base", "ichimoku_span_a", "ichimoku_span_b"),
    reference=SOURCE,
    scale=(1, 0),
)
def ichimoku(
    bars: pd.DataFrame, conversion: Length = 9, base: Length = 26, span: Length = 52, displacement: Length = 26
) -> pd.DataFrame:
    """The lines that stand at each bar, in price: conversion (tenkan), base (kijun) and the two spans of the cloud.

    Each is the middle of the range of its last bars; span A is the middle between conversion and base, span B that of
    ``span`` bars, both as they were ``displacement`` bars ago.

    Examples
    --------
    >>> from tapeline.core.example import example_bars
    >>> ichimoku(example_bars(10, 12, 14, 13), 2, 2, 3, 1).iloc[-1].tolist()
    [13.0, 13.0, 12.0, 12.0]
    """
    lines = find_lines(bars, conversion, base, span, displacement)
    return pd.DataFrame(
        {
            "ichimoku_conversion": lines.conversion,
            "ichimoku_base": lines.base,
            "ichimoku_span_a": lines.span_a,
            "ichimoku_span_b": lines.span_b,
        },
        index=bars.index,
    )


@feature(
    lookback=lambda base, span, displacement, window: max(max(base, span) + displacement, window + 1),
    outputs=(
        "ichimoku_side", "ichimoku_cloud_distance", "ichimoku_cloud_thickness", "ichimoku_leading",
        "ichimoku_cross", "ichimoku_lagging", "ichimoku_strength",
    ),
    reference=SOURCE,
)  # fmt: skip
def ichimoku_state(
    bars: pd.DataFrame,
    conversion: Length = 9,
    base: Length = 26,
    span: Length = 52,
    displacement: Length = 26,
    window: Period = 14,
) -> pd.DataFrame:
    """Where price stands towards the lines, without unit.

    Returns
    -------
    ``side``: 1 where the close is above the cloud, -1 below, 0 within; ``cloud_distance``: from the close to the nearer
    edge of the cloud, 0 within, and ``cloud_thickness``, both in mean true ranges over ``window`` bars, thickness
    positive where span A is on top; ``leading``: the sign of the cloud that this bar makes for the future; ``cross``:
    the sign of conversion less base; ``lagging``: the sign of the close less the close ``displacement`` bars ago;
    ``strength``: the sum of side, leading, cross, lagging and the sign of the close less base, from -5 to 5.

    Examples
    --------
    >>> from tapeline.core.example import example_bars
    >>> ichimoku_state(example_bars(10, 12, 14, 16, 18), 2, 3, 4, 1, 2)["ichimoku_strength"].tolist()[-1]
    5.0
    """
    arrays = BarArrays.of(bars)
    lines = find_lines(arrays, conversion, base, span, displacement)
    usual = mean_true_range(arrays, window)
    # A range that is nothing but rounding measures nothing.
    usual = np.where(usual > 1e-8 * arrays.close, usual, np.nan)
    top, bottom = np.maximum(lines.span_a, lines.span_b), np.minimum(lines.span_a, lines.span_b)
    above, below = np.maximum(arrays.close - top, 0.0), np.minimum(arrays.close - bottom, 0.0)
    side = np.sign(above) + np.sign(below)
    side[np.isnan(top)] = np.nan
    signs = [
        side,
        np.sign(lines.leading_a - lines.leading_b),
        np.sign(lines.conversion - lines.base),
        np.sign(arrays.close - lines.lagged),
    ]
    strength = signs[0] + signs[1] + signs[2] + signs[3] + np.sign(arrays.close - lines.base)
    return pd.DataFrame(
        {
            "ichimoku_side": side,
            "ichimoku_cloud_distance": (above + below) / usual,
            "ichimoku_cloud_thickness": (lines.span_a - lines.span_b) / usual,
            "ichimoku_leading": signs[1],
            "ichimoku_cross": signs[2],
            "ichimoku_lagging": signs[3],
            "ichimoku_strength": strength,
        },
        index=bars.index,
    )


def _states(close: Floats, lines: Lines) -> Iterator[tuple[str, Floats, Floats]]:
    """Kind, state whose sign turns, and the line that is crossed."""
    top, bottom = np.maximum(lines.span_a, lines.span_b), np.minimum(lines.span_a, lines.span_b)
    inside = np.where(close > top, 1.0, np.where(close < bottom, -1.0, 0.0))
    inside[np.isnan(top)] = np.nan
    yield "base_line_cross", close - lines.base, lines.base
    yield "lagging_cross", close - lines.lagged, lines.lagged
    yield "cloud_breakout", inside, np.where(inside > 0, top, bottom)
    yield "conversion_base_cross", lines.conversion - lines.base, lines.base
    yield "cloud_twist", lines.leading_a - lines.leading_b, lines.leading_b


def _changes(arrays: BarArrays, conversion: int, base: int, span: int, displacement: int) -> bool:
    """Whether any state is not what it was a bar before."""
    tail = arrays.tail(max(conversion, base, span) + displacement + 2)
    lines = find_lines(tail, conversion, base, span, displacement)
    for _, state, _ in _states(tail.close, lines):
        now, before = np.sign(state[-2:]).tolist()[::-1] if len(tail) > 1 else (np.nan, np.nan)
        if now != before and abs(now) == 1.0:
            return True
    return False


@detector(
    # The base line as stop counts from the signal on; whether a line was crossed shows in two bars that differ.
    lookback=lambda base, span, displacement, max_age: max(base, span) + displacement + max_age + 2,
    reference=SOURCE,
    watch=ends_at(),
    probe=_changes,
)
def ichimoku_signal(
    arrays: BarArrays,
    conversion: Length = 9,
    base: Length = 26,
    span: Length = 52,
    displacement: Length = 26,
    max_age: Annotated[int, Field(ge=1, le=10_000)] = 500,
) -> Iterator[Found]:
    """Crosses of the lines, breakouts from the cloud and its twists, confirmed at the close that makes them.

    Kinds ``conversion_base_cross`` (tenkan over kijun), ``base_line_cross`` (close over kijun), ``cloud_breakout``
    (close out of the cloud, from within or from the other side), ``cloud_twist`` (the leading spans made at this bar
    change places) and ``lagging_cross`` (close over the close ``displacement`` bars ago). ``direction`` 1 upwards.
    ``low`` and ``high`` are the price of the crossed line, ``stop`` is the base line of that bar where it lies on the
    other side of the close. ``score`` is the strength that the teaching gives a signal by where it happens: 1 (strong)
    with the close beyond the cloud in its direction, 0.5 within, 0 (weak) on the far side. Invalidated by the next
    signal of the same kind and the other direction, within ``max_age`` bars.

    Examples
    --------
    >>> from tapeline.core.example import example_bars
    >>> found = ichimoku_signal(example_bars(10, 9, 8, 7, 9, 12, 14), 2, 3, 4, 1)
    >>> found["kind"].astype(str).tolist()
    ['base_line_cross', 'lagging_cross', 'conversion_base_cross', 'cloud_twist']
    """
    lines = arrays.once(find_lines, conversion, base, span, displacement)
    close = arrays.close
    states = {kind: (state, level) for kind, state, level in _states(close, lines)}
    inside = states["cloud_breakout"][0]
    for kind, (state, level) in states.items():
        row, direction = _turns(np.sign(state), through_zero=kind != "cloud_breakout")
        following = np.full(row.size, NOT_YET)
        opposite = direction[1:] != direction[:-1]
        soon = opposite & (row[1:] - row[:-1] <= max_age)
        following[:-1][soon] = row[1:][soon]
        stop = np.where(direction * (close[row] - lines.base[row]) > 0, lines.base[row], np.nan)
        score = 0.5 + 0.5 * direction.astype(np.float64) * inside[row]
        yield Findings(
            kind,
            direction=direction,
            start=np.maximum(row - 1, 0),
            end=row,
            confirmed=row,
            low=level[row],
            high=level[row],
            invalidated=following,
            stop=stop,
            score=score,
            point_rows=row[:, None],
            point_prices=level[row][:, None],
        )


def _turns(sign: Floats, *, through_zero: bool) -> tuple[Rows, NDArray[np.int8]]:
    """The rows at which a sign becomes 1 or -1 after the other one (or, else, after anything that was known)."""
    if not through_zero:
        changed = np.flatnonzero((sign[1:] != sign[:-1]) & (sign[1:] != 0.0) & ~np.isnan(sign[1:] + sign[:-1])) + 1
        return changed, sign[changed].astype(np.int8)
    spoken = np.flatnonzero(np.isfinite(sign) & (sign != 0.0))
    turned = spoken[1:][sign[spoken[1:]] != sign[spoken[:-1]]]
    return turned, sign[turned].astype(np.int8)


@feature(
    lookback=PIVOT_MEMORY + TIME_NUMBERS[-1],
    outputs=("ichimoku_time_numbers", "ichimoku_next_time_number"),
    reference="Hosoda, Ichimoku Kinko Hyo (1969), the theory of time (kihon suchi); Linton (2010), chapter 9",
)
def ichimoku_time(
    bars: pd.DataFrame, size: Size = 3.0, unit: Unit = "atr", window: Period = 14, slack: Slack = 1
) -> pd.DataFrame:
    """The theory of time: how many of the confirmed turns lie a basic number of bars back.

    The turn is counted as bar 1, as Hosoda counts.

    Returns
    -------
    ``ichimoku_time_numbers``: of the zigzag's turns confirmed by this bar, those whose age is one of 9, 17, 26, 33, 42,
    51, 65, 76, 83, 97, 101, 129, 172, 200, 226 within ``slack`` bars; ``ichimoku_next_time_number``: in how many bars
    the newest turn reaches its next one, NaN before the first turn and beyond the last number.

    Examples
    --------
    >>> from tapeline.core.example import example_bars
    >>> found = ichimoku_time(example_bars(10, 14, 18, 15, 12, 16), size=20.0, unit="percent", slack=0)
    >>> found["ichimoku_next_time_number"].tolist()
    [nan, 7.0, 6.0, 7.0, 6.0, 7.0]
    """
    rows = len(bars)
    pivots = find_pivots(bars, size=size, unit=unit, window=window)
    numbers = np.array(TIME_NUMBERS)
    # A turn reaches the number n at the bar n - 1 after it; it must have been confirmed by then.
    matches = np.zeros(rows)
    for number in TIME_NUMBERS:
        for off in range(-slack, slack + 1):
            at = pivots.row + number - 1 + off
            at = at[(at >= pivots.confirmed) & (at < rows)]
            np.add.at(matches, at, 1.0)
    newest = np.full(rows, -1)
    inside = pivots.confirmed < rows
    newest[pivots.confirmed[inside]] = pivots.row[inside]
    newest = np.maximum.accumulate(newest) if rows else newest
    age = np.arange(rows) - newest + 1
    place = np.searchsorted(numbers, age)
    following = np.where(place < numbers.size, numbers[np.minimum(place, numbers.size - 1)] - age, np.nan)
    following = np.where(newest < 0, np.nan, following)
    return pd.DataFrame(
        {"ichimoku_time_numbers": matches, "ichimoku_next_time_number": following.astype(np.float64)}, index=bars.index
    )
