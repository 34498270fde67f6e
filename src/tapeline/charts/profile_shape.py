"""What profiles say: their shape, where value has moved to, and whether price accepts the last value area."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import Field

from tapeline.charts import profile_shape_kernels as kernels
from tapeline.charts.bar_arrays import BarArrays, Floats, Rows
from tapeline.charts.detector import Found, detector
from tapeline.charts.events import NOT_YET, Findings
from tapeline.charts.fate import fates
from tapeline.charts.gaps import Age
from tapeline.charts.period_profiles import Longest, PeriodProfiles, period_profiles
from tapeline.charts.pivot_lines import Minute, Span, new_period
from tapeline.charts.volume_profile import VALUE, Bins, Profile, Share, Together, Weight
from tapeline.charts.watch import NEVER, Watch, ends_at, watch_levels, watch_standing

Minutes = Annotated[int, Field(ge=1, le=1_440)]
Closes = Annotated[int, Field(ge=1, le=100)]

SHAPES: Final = ("p", "b", "d", "double")
"""Shapes by code, from 1 on."""
LEAN: Final = 0.45
"""The least share of the whole that the third with the point of control holds."""
LEAST: Final = 0.2
"""The largest share that the opposite third of a P or b holds."""
BALANCE: Final = 0.2
"""How far the outer thirds of a D may differ, as a share of the whole."""
SPLIT: Final = 0.3
"""The prominence of both peaks of a double distribution, as a share of the highest row."""
VALLEY: Final = 0.35
"""The height of the low node between them, at most, as a share of the lower peak."""
PART: Final = 0.25
"""The least share of the whole that either distribution holds."""
SHAPE_SOURCE: Final = (
    "Dalton, Jones, Dalton, Mind over Markets (1993): normal and double-distribution days, chapter 2; short covering "
    "(P) and long liquidation (b), chapter 4; the thresholds are ours, the book draws them"
)
RULE_SOURCE: Final = (
    "Dalton, Jones, Dalton, Mind over Markets (1993), chapter 4: value-area rule, acceptance and rejection, placement "
    "of value areas"
)


@dataclass(frozen=True)
class Shapes:
    """The shape of each profile: ``code`` 1 to 4 as in ``SHAPES``, 0 where it has none of them or there is no profile.

    ``score`` is the share of the whole in the third with the point of control, of a double distribution the depth of
    its low node below the lower peak, as a share of that peak. ``nodes``: the rows of the lower peak, the low node and
    the upper peak of a double distribution, else -1.
    """

    code: Rows
    score: Floats
    nodes: Rows


def profile_shapes(found: PeriodProfiles) -> Shapes:
    """The shape of each of these profiles, by the rules of :func:`shape_of`."""
    return _shapes(found.volume, found.total, found.control)


def shape_of(profile: Profile) -> str:
    """The shape of one profile: ``p``, ``b``, ``d``, ``double``, or nothing where it is none of them.

    The first that holds, of the rules below. Thirds are those of the profile's range.

    ========== ========================================================================================================
    shape      rule
    ========== ========================================================================================================
    ``double`` two high nodes with a prominence of ``SPLIT`` of the highest row, and between them a low node at most
               ``VALLEY`` as high as the lower of them, with ``PART`` of the whole on either side of it
    ``p``      the point of control in the upper third, which holds ``LEAN`` of the whole; the lower at most ``LEAST``
    ``b``      the point of control in the lower third, which holds ``LEAN`` of the whole; the upper at most ``LEAST``
    ``d``      the point of control in the middle third, which holds ``LEAN`` of the whole; the outer ones differ by
               ``BALANCE`` at most
    ========== ========================================================================================================

    Sources: Dalton, Jones, Dalton, Mind over Markets (1993): the normal and the double-distribution day in chapter 2,
    short covering (P) and long liquidation (b) in chapter 4. They are drawn there; the thresholds are ours.

    Examples
    --------
    >>> from tapeline.charts.volume_profile import profile_of_rows
    >>> edges = np.arange(10.0)
    >>> rows = ([1, 1, 1, 1, 1, 2, 5, 8, 4], [1, 5, 8, 4, 1, 3, 6, 7, 2], [1, 2, 3, 6, 8, 5, 3, 2, 1])
    >>> [shape_of(profile_of_rows(edges, np.array(volume, float))) for volume in rows]
    ['p', 'double', 'd']
    """
    made = _shapes(profile.volume[None, :], np.array([profile.total]), np.array([profile.control]))
    return SHAPES[made.code[0] - 1] if made.code[0] else ""


def _shapes(volume: Floats, total: Floats, control: Rows) -> Shapes:
    size = total.size
    made = Shapes(np.empty(size, np.int64), np.empty(size), np.empty((size, 3), np.int64))
    kernels.shapes(volume, total, control, LEAN, LEAST, BALANCE, SPLIT, VALLEY, PART, made.code, made.score, made.nodes)
    return made


@detector(lookback=lambda longest: longest + 3, reference=SHAPE_SOURCE, watch=ends_at(), probe=new_period)
def profile_shape(
    arrays: BarArrays,
    span: Span = "day",
    zone: str = "UTC",
    start_minute: Minute = 0,
    weight: Weight = "volume",
    bins: Bins = 48,
    share: Share = VALUE,
    together: Together = 2,
    longest: Longest = 1_500,
) -> Iterator[Found]:
    """The shape of each completed profile, known at the close of the first bar after its period.

    Kinds ``profile_shape_p`` (direction 1: value was built at the top of the range), ``profile_shape_b`` (-1),
    ``profile_shape_d`` (0) and ``profile_shape_double`` (1 where the period's last close lies above the low node, -1
    below), by the rules of :func:`shape_of`. ``low`` and ``high`` are the value area, of a double distribution the two
    peaks; ``score`` as in :class:`Shapes`. Invalidated when the next profile is known. Of a period
    of ``longest`` bars or more nothing is told: the default holds a day of minutes.

    Examples
    --------
    >>> from tapeline.core.example import example_bars
    >>> day = [10.0, 12.0, 14.0, 16.0] + [17.0, 18.0] * 10
    >>> found = profile_shape(example_bars(*[10.0] * 24, *day, 18.0))
    >>> found[["kind", "direction", "score"]].round(2).to_numpy().tolist()
    [['profile_shape_p', 1, 0.88]]
    """
    found = arrays.once(period_profiles, span, zone, start_minute, weight, bins, share, together)
    told, made = found.told(longest), arrays.once(_shapes_of, span, zone, start_minute, weight, bins, share, together)
    for number, name in enumerate(SHAPES, start=1):
        chosen = np.flatnonzero(told & (made.code == number))
        if not chosen.size:
            continue
        end = found.first[chosen + 1] - 1
        low, high = found.value_low[chosen], found.value_high[chosen]
        direction = np.full(chosen.size, {"p": 1, "b": -1}.get(name, 0), np.int8)
        if name == "double":
            low, valley, high = (found.bottom[chosen, None] + (made.nodes[chosen] + 0.5) * found.height[chosen, None]).T
            direction = np.sign(arrays.close[end] - valley).astype(np.int8)
        yield _of_profiles(f"profile_shape_{name}", found, chosen, direction, low, high, made.score[chosen])


def _shapes_of(
    arrays: BarArrays,
    span: Span,
    zone: str,
    start_minute: int,
    weight: Weight,
    bins: int,
    share: float,
    together: Together,
) -> Shapes:
    return profile_shapes(arrays.once(period_profiles, span, zone, start_minute, weight, bins, share, together))


def _visits_followed(arrays: BarArrays, found: Sequence[Findings], max_age: int) -> Watch:
    visits = [part for part in found if part.kind != "value_migration"]
    return watch_standing(visits, ("target", "stop"), rows=len(arrays), max_age=max_age)


def _next_visit(arrays: BarArrays, ends: NDArray[np.bool_], low: float, high: float) -> Watch:
    """A watch on a value area: while price is inside, or has been since the last bracket, every bar may tell."""
    closed = np.flatnonzero(ends)
    since = int(closed[-1]) if closed.size else 0
    outside = not low <= arrays.close[since] <= high
    apart = (arrays.low[since + 1 :] > high) | (arrays.high[since + 1 :] < low)
    return watch_levels(np.array([low, high]), until=NEVER if outside and apart.all() else len(arrays))


@detector(
    lookback=lambda longest: longest + 3,
    reference=RULE_SOURCE,
    follows=("max_age",),
    watch=_visits_followed,
    probe=new_period,
)
def profile_event(
    arrays: BarArrays,
    span: Span = "day",
    zone: str = "UTC",
    start_minute: Minute = 0,
    weight: Weight = "volume",
    bins: Bins = 48,
    share: Share = VALUE,
    together: Together = 2,
    minutes: Minutes = 30,
    closes: Closes = 2,
    longest: Longest = 2_880,
    max_age: Age = 500,
) -> Iterator[Found]:
    """What price does at the value area of the last completed period, and where that lies to the one before it.

    Closes are those of brackets of ``minutes`` by the clock; a bar as long or longer is a bracket of its own, and a
    bracket whose last bar is missing has none.

    ``value_acceptance``: price came from outside, by the open of the period or by a close, and closed inside for
    ``closes`` brackets in a row, the rule of 80 percent. ``direction`` through the area, ``low`` to ``high``;
    ``target`` its other edge, ``stop`` the farthest price since the last close outside; ``score`` the share of the
    area still ahead. Invalidated by target, stop or ``max_age``.

    ``value_rejection``: price came from outside, traded inside and closed outside again, on the side it came from.
    ``direction`` away from the area, ``stop`` the farthest price inside, ``score`` the share of the area that price did
    not reach. Invalidated by stop or ``max_age``.

    ``value_migration``: a completed value area, ``low`` to ``high``, against that of the period before, known at the
    close of the first bar after it. ``direction`` 1 where both edges lie higher, -1 lower, 0 inside, outside or the
    same; ``score`` the share of the new area that overlaps the old one: 0 a new area altogether. Invalidated when the
    next profile is known.

    Two profiles count that began less than ``longest`` bars ago: the default holds two days of minutes.

    Examples
    --------
    >>> from tapeline.core.example import example_bars
    >>> bars = example_bars(*[10.0] * 24, *[11.0] * 24, 15.0, 15.0, 11.5, 11.0, 9.0)
    >>> found = profile_event(bars.assign(low=bars["close"] - 1.0, high=bars["close"] + 1.0))
    >>> found[["kind", "direction", "target", "stop"]].round(2).to_numpy().tolist()
    [['value_acceptance', -1, 10.54, 16.0]]
    """
    given = (span, zone, start_minute, weight, bins, share, together)
    found = arrays.once(period_profiles, *given)
    last = found.last_told(longest)
    bracket = minutes * 60_000_000_000
    ends = arrays.closed // bracket > arrays.opened // bracket
    value_low, value_high = found.value_low, found.value_high
    log, stops = np.empty((int(ends.sum()) + 1, 4), np.int64), np.empty(int(ends.sum()) + 1)
    begins = found.first[found.which] if len(arrays) else found.which
    count = kernels.value_visits(
        arrays.open, arrays.high, arrays.low, arrays.close, ends, begins, last, value_low, value_high,
        closes, log, stops,
    )  # fmt: skip
    for number, kind in ((1, "value_acceptance"), (2, "value_rejection")):
        mine = np.flatnonzero(log[:count, 0] == number)
        if mine.size:
            yield _visit(arrays, kind, log[mine], stops[mine], value_low, value_high, last, max_age)
    profile = np.flatnonzero(found.told(longest))
    profile = profile[(profile >= 2) & (found.control[profile - 1] >= 0)]
    profile = profile[found.first[profile + 1] - found.first[profile - 1] < longest]
    if profile.size:
        low, high, before_low, before_high = (
            part[at] for at in (profile, profile - 1) for part in (value_low, value_high)
        )
        overlap = np.maximum(np.minimum(high, before_high) - np.maximum(low, before_low), 0.0) / (high - low)
        up, down = (low > before_low) & (high > before_high), (low < before_low) & (high < before_high)
        direction = (up.astype(np.int8) - down.astype(np.int8)).astype(np.int8)
        yield _of_profiles("value_migration", found, profile, direction, low, high, overlap, since=profile - 1)
    if len(arrays) and last[-1] >= 0:
        yield _next_visit(arrays, ends, float(value_low[last[-1]]), float(value_high[last[-1]]))


def _visit(
    arrays: BarArrays,
    kind: str,
    log: Rows,
    stop: Floats,
    value_low: Floats,
    value_high: Floats,
    last: Rows,
    max_age: int,
) -> Findings:
    row, direction, start = log[:, 1], log[:, 2].astype(np.int8), log[:, 3]
    low, high = value_low[last[row]], value_high[last[row]]
    accepted = kind == "value_acceptance"
    close, height = arrays.close[row], high - low
    target = np.where(direction > 0, high, low) if accepted else np.full(row.size, np.nan)
    # Where price came in, and how much of the area lies beyond the place it has come to.
    edge = np.where((direction > 0) == accepted, low, high)
    ahead = np.abs(target - close) if accepted else np.maximum(height - np.abs(stop - edge), 0.0)
    return Findings(
        kind,
        direction=direction,
        start=start,
        end=row,
        confirmed=row,
        low=low,
        high=high,
        invalidated=fates(arrays, row, direction, target, stop, max_age).row,
        target=target,
        stop=stop,
        score=ahead / height,
        point_rows=np.column_stack((start, row)),
        point_prices=np.column_stack((edge, close)),
    )


def _of_profiles(
    kind: str,
    found: PeriodProfiles,
    profile: Rows,
    direction: NDArray[np.int8],
    low: Floats,
    high: Floats,
    score: Floats,
    since: Rows | None = None,
) -> Findings:
    first = found.first
    start, end = first[profile if since is None else since], first[profile + 1] - 1
    return Findings(
        kind,
        direction=direction,
        start=start,
        end=end,
        confirmed=first[profile + 1],
        low=low,
        high=high,
        invalidated=np.append(first[2:], NOT_YET)[profile],
        score=score,
        point_rows=np.column_stack((start, end)),
        # A move of value is drawn from the old point of control to the new one.
        point_prices=np.column_stack((low, high) if since is None else (found.poc[since], found.poc[profile])),
    )


def shape_table(bars: pd.DataFrame, found: PeriodProfiles, longest: int = 1_500) -> pd.DataFrame:
    """One row a completed profile, for reading: when it was known, POC, VAL, VAH, what VAL to VAH holds, and the shape.

    Examples
    --------
    >>> from tapeline.core.example import example_bars
    >>> day = [10.0, 12.0, 14.0, 16.0] + [17.0, 18.0] * 10
    >>> bars = example_bars(*[10.0] * 24, *day, 18.0)
    >>> shape_table(bars, period_profiles(bars))[["poc", "shape"]].round(2).to_numpy().tolist()
    [[16.19, 'p']]
    """
    chosen = np.flatnonzero(found.told(longest))
    code = profile_shapes(found).code[chosen]
    return pd.DataFrame(
        {
            "known_at": pd.DatetimeIndex(bars["close_ts"])[found.first[chosen + 1]],
            "poc": found.poc[chosen],
            "value_low": found.value_low[chosen],
            "value_high": found.value_high[chosen],
            "held": found.held()[chosen],
            "shape": [SHAPES[number - 1] if number else "" for number in code],
        },
        index=pd.DatetimeIndex(bars.index)[found.first[chosen]],
    )
