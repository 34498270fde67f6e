"""Harmonic patterns over the zigzag's pivots: those that have formed, and those that may, with the price of completion.

The ratios are those of :data:`tapeline.charts.harmonic_ratios.PATTERNS`. A pattern is known when its last pivot is
confirmed, which is later than its extreme: a reader who draws them on past bars sees D sooner than anybody could.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Final

import numpy as np
import pandas as pd
from pydantic import Field

from tapeline.charts.bar_arrays import BarArrays, Floats, Rows
from tapeline.charts.detector import Found, detector
from tapeline.charts.events import Findings
from tapeline.charts.fate import fates
from tapeline.charts.harmonic_kernels import formed_patterns, forming_patterns
from tapeline.charts.harmonic_ratios import KINDS, PATTERNS, RatioTable, ratio_table
from tapeline.charts.pivots import PIVOT_MEMORY, find_pivots
from tapeline.charts.swings import Period, Size, Swings, Unit
from tapeline.charts.watch import expires_or_ends_at, pending, watch_levels
from tapeline.core.errors import ConfigurationError

FORMING: Final = "forming_"
"""What the kind of a pattern that has no D yet begins with."""

SHARED_PIVOTS: Final = 5
"""Patterns of so many points or more exclude each other at one D."""

Deviation = Annotated[float, Field(gt=0.0, le=0.2)]
"""A share by which a ratio may lie below the least or above the greatest published value."""

Age = Annotated[int, Field(ge=1, le=100_000)]
"""Bars after its confirmation at which a finding expires."""

_SOURCE: Final = (
    "Carney, The Harmonic Trader (1998), Harmonic Trading 1-3 (2010, 2016); Oglesbee (Cypher); see harmonic_ratios"
)


@detector(lookback=PIVOT_MEMORY, reference=_SOURCE, follows=("max_age",), watch=expires_or_ends_at("target", "stop"))
def harmonic_pattern(
    arrays: BarArrays,
    tolerance: Deviation = 0.05,
    size: Size = 3.0,
    unit: Unit = "atr",
    window: Period = 14,
    max_age: Age = 200,
) -> Iterator[Found]:
    """Runs of pivots with the published ratios of a harmonic pattern, known when D is confirmed as a pivot.

    Kinds ``gartley``, ``bat``, ``alternate_bat``, ``butterfly``, ``crab``, ``deep_crab``, ``shark``, ``cypher``,
    ``five_zero``, ``three_drives``, ``ab_cd``; ``direction`` 1 where D is a low, from which price should rise. Each
    ratio demanded must lie within its published bounds, widened on both sides by ``tolerance`` as a share of them.

    ``low`` and ``high`` are the potential reversal zone: the prices of D at which every ratio holds, so the overlap
    of all projections from X, A, B and C; D lies in it. ``target`` is the first published one (0.382 of AD for most)
    that price had not traded by the confirmation, else the second (0.618), else NaN: D's confirmation takes a move,
    and a target reached by that move could be nobody's. ``stop`` is X where D lies within XA, else the zone's far end.
    Invalidated when target or stop is traded or ``max_age`` bars after the confirmation. ``points`` are the pivots
    from X (three drives and 5-0: from the one before, AB=CD: from A) to D.

    ``score`` is the mean over the ratios demanded of 1 - |r / p - 1| / tolerance, with r the ratio and p the nearest
    value within the published bounds: 1 as published, 0 at the edge of the tolerance.

    One D is given one pattern of five or six points, the one that scores best: they are readings of the same turn and
    only one of them can be meant. AB=CD is found beside them, because it is a claim on other points.

    Parameters
    ----------
    tolerance:
        At the default no two patterns share a D in XA: 0.786 and 0.886 overlap from 0.06 on.
    size, unit, window:
        Of the zigzag, as in ``zigzag_swing``.
    max_age:
        Bars.

    Examples
    --------
    >>> from tapeline.charts.synthetic import bars_through
    >>> points = [(0, 108.0), (20, 100.0), (40, 110.0), (55, 103.82), (65, 107.64), (80, 102.14), (95, 107.0)]
    >>> found = harmonic_pattern(bars_through(points))
    >>> found[["kind", "direction", "target", "stop"]].round(2).to_numpy().tolist()
    [['gartley', 1, 105.14, 100.0]]
    >>> found[["low", "high"]].round(2).to_numpy().tolist()
    [[101.75, 102.53]]
    """
    pivots = find_pivots(arrays, size, unit, window)
    if len(pivots) < 4:
        return
    table = ratio_table()
    where, values = formed_patterns(
        pivots.row, pivots.confirmed, pivots.side, pivots.price, arrays.high, arrays.low, table.points, table.low,
        table.high, table.leg, table.targets, table.stop_at_x, tolerance, SHARED_PIVOTS,
    )  # fmt: skip
    if not len(where):
        return
    last = where[:, 1]
    known, direction = pivots.confirmed[last], (-pivots.side[last]).astype(np.int8)
    gone = fates(arrays, known, direction, values[:, 2].copy(), values[:, 3].copy(), max_age).row
    yield from _by_kind("", pivots, table, where, values, known, direction, gone)


@detector(lookback=PIVOT_MEMORY, reference=_SOURCE, follows=("max_age",), watch=expires_or_ends_at())
def forming_harmonic(
    arrays: BarArrays,
    tolerance: Deviation = 0.05,
    size: Size = 3.0,
    unit: Unit = "atr",
    window: Period = 14,
    max_age: Age = 200,
) -> Iterator[Found]:
    """Runs of pivots up to C that have a pattern's ratios so far, with the zone in which D would complete it.

    Kinds ``forming_gartley`` and so on, as in ``harmonic_pattern``; known when C is confirmed as a pivot. Every pattern
    that is still possible is given, because nobody knows yet which of them price will complete. One whose zone price
    had reached by then is not.

    ``low`` and ``high`` are the potential reversal zone, exactly the prices of D at which ``harmonic_pattern`` will
    find it. The last of ``points`` is the completion price, dated at the bar that confirmed C; the others are the
    pivots up to C. It is the least published value of the ratio that defines D (0.786 of XA for the Gartley), moved
    into the zone where it lies outside. ``target`` and ``stop`` are reckoned from it as in ``harmonic_pattern``.
    ``score`` is as there, over the ratios known with C. Invalidated by the first bar that trades at the completion
    price (completed) or at C again (violated), or ``max_age`` bars after its confirmation (expired).

    Examples
    --------
    >>> from tapeline.charts.synthetic import bars_through
    >>> points = [(0, 108.0), (20, 100.0), (40, 110.0), (55, 103.82), (65, 107.64), (70, 106.0)]
    >>> found = forming_harmonic(bars_through(points))
    >>> gartley = found[found["kind"] == "forming_gartley"]
    >>> gartley[["low", "high", "target", "stop"]].round(2).to_numpy().tolist()
    [[101.75, 102.53, 105.14, 100.0]]
    >>> round(gartley["points"].iloc[0][-1]["price"], 2)
    102.14
    """
    pivots = find_pivots(arrays, size, unit, window)
    if len(pivots) < 3:
        return
    table = ratio_table()
    where, values = forming_patterns(
        pivots.row, pivots.confirmed, pivots.side, pivots.price, arrays.high, arrays.low, table.points, table.low,
        table.high, table.defining, table.leg, table.targets, table.stop_at_x, tolerance,
    )  # fmt: skip
    if not len(where):
        return
    last = where[:, 1]
    known, direction = pivots.confirmed[last], pivots.side[last]
    # Price goes from C to D, against the pattern's direction: D is what it aims at, C what would undo it.
    gone = fates(arrays, known, (-direction).astype(np.int8), values[:, 5].copy(), pivots.price[last], max_age).row
    yield from _by_kind(FORMING, pivots, table, where, values, known, direction, gone)
    # What completes it and what undoes it, whose prices are no borders of it.
    yield watch_levels(pending(gone, values[:, 5], pivots.price[last]))


def published_targets(kind: str, prices: Sequence[float]) -> tuple[float, float]:
    """The first and the second published target of a pattern with these corners.

    Parameters
    ----------
    kind:
        As in the events, with or without the prefix of forming ones.
    prices:
        Of its corners in order; the last is D, or the completion price of a forming one.

    Raises
    ------
    ConfigurationError
        The kind is no harmonic pattern, or it has another number of corners.

    Examples
    --------
    >>> [round(price, 2) for price in published_targets("gartley", [100.0, 110.0, 103.82, 107.64, 102.14])]
    [105.14, 107.0]
    """
    name = kind.removeprefix(FORMING)
    if name not in PATTERNS:
        raise ConfigurationError(f"'{kind}' is no harmonic pattern", hint=f"one of {', '.join(KINDS)}")
    pattern = PATTERNS[name]
    if len(prices) != pattern.points:
        raise ConfigurationError(f"a {name} has {pattern.points} corners, these are {len(prices)}")
    origin = {"AD": prices[-4], "CD": prices[-2], "OD": prices[0]}[pattern.target_leg]
    first, second = (prices[-1] + share * (origin - prices[-1]) for share in pattern.targets)
    return float(first), float(second)


def harmonic_targets(events: pd.DataFrame) -> pd.DataFrame:
    """Both published targets of each harmonic pattern, whatever price has done since.

    Parameters
    ----------
    events:
        Rows of ``harmonic_pattern`` or ``forming_harmonic``. Their ``target`` is the one that was still ahead.

    Returns
    -------
    A frame on the events' index: ``completion`` (the price of D, as it was or as projected), ``first_target`` and
    ``second_target``.

    Raises
    ------
    ConfigurationError
        A kind is no harmonic pattern.

    Examples
    --------
    >>> from tapeline.charts.synthetic import bars_through
    >>> points = [(0, 108.0), (20, 100.0), (40, 110.0), (55, 103.82), (65, 107.64), (80, 102.14), (95, 107.0)]
    >>> harmonic_targets(harmonic_pattern(bars_through(points))).round(2).to_numpy().tolist()
    [[102.14, 105.14, 107.0]]
    """
    corners = [[point["price"] for point in points] for points in events["points"]]
    rows = [
        (prices[-1], *published_targets(str(kind), prices))
        for kind, prices in zip(events["kind"], corners, strict=True)
    ]
    columns = ["completion", "first_target", "second_target"]
    return pd.DataFrame(rows, index=events.index, columns=columns, dtype=np.float64)


def _by_kind(
    prefix: str, pivots: Swings, table: RatioTable, where: Rows, values: Floats, known: Rows, direction: Any, gone: Rows
) -> Iterator[Findings]:
    """One :class:`Findings` a kind, in the order of the table, each a view on arrays that are put together once."""
    order = np.argsort(where[:, 0], kind="stable")
    where, values, known, direction, gone = where[order], values[order], known[order], direction[order], gone[order]
    # Shorter patterns have no use for the pivots before their own, which need not exist.
    corners = np.maximum(where[:, 1, None] + np.arange(-5, 1), 0)
    rows, prices = pivots.row[corners], pivots.price[corners]
    end = rows[:, -1]
    if prefix:
        rows, prices = np.column_stack((rows, known)), np.column_stack((prices, values[:, 5]))
    low, high, target, stop, score = np.ascontiguousarray(values[:, :5].T)
    ends = where[:, 0].searchsorted(np.arange(len(KINDS) + 1)).tolist()
    for kind, (name, points) in enumerate(zip(KINDS, table.points.tolist(), strict=True)):
        mine = slice(ends[kind], ends[kind + 1])
        if mine.start == mine.stop:
            continue
        yield Findings(
            prefix + name,
            direction=direction[mine],
            start=rows[mine, -points],
            end=end[mine],
            confirmed=known[mine],
            low=low[mine],
            high=high[mine],
            invalidated=gone[mine],
            target=target[mine],
            stop=stop[mine],
            score=score[mine],
            point_rows=rows[mine, -points:],
            point_prices=prices[mine, -points:],
        )
