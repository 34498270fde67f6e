"""Profiles by day, week or month: those of completed periods, and what they say as events."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import Field

from tapeline.charts import profile_kernels as kernels
from tapeline.charts.bar_arrays import BarArrays, Floats, Rows
from tapeline.charts.detector import Found, detector
from tapeline.charts.events import NOT_YET, Findings
from tapeline.charts.pivot_lines import Minute, Span, bar_periods, new_period
from tapeline.charts.volume_profile import SOURCE, VALUE, Bins, Prominence, Share, Together, Weight, weights
from tapeline.charts.watch import ends_at, pending, watch_levels

Longest = Annotated[int, Field(ge=2, le=100_000)]


@dataclass(frozen=True)
class PeriodProfiles:
    """The profile of every period of some bars: arrays of one length, but for ``which``.

    ``first`` is the row at which each period begins, ``which`` the period of each bar. A profile begins at ``bottom``,
    has rows of ``height`` that hold ``volume``, of shape (periods, rows), in all ``total``; ``control``, ``lowest`` and
    ``highest`` are rows of it. The last period is not over: it, and one that has no range or traded nothing, has no
    profile (``control`` -1, NaN).
    """

    first: Rows
    which: Rows
    bottom: Floats
    height: Floats
    volume: Floats
    total: Floats
    control: Rows
    lowest: Rows
    highest: Rows

    def __len__(self) -> int:
        return len(self.first)

    @property
    def poc(self) -> Floats:
        """Points of control."""
        return self.bottom + (self.control + 0.5) * self.height

    @property
    def value_low(self) -> Floats:
        """Lower edges of the value areas."""
        return self.bottom + self.lowest * self.height

    @property
    def value_high(self) -> Floats:
        """Upper edges of the value areas."""
        return self.bottom + (self.highest + 1) * self.height

    def held(self) -> Floats:
        """The share of each period's whole that its value area holds."""
        rows = np.arange(self.volume.shape[1])
        inside = (rows >= self.lowest[:, None]) & (rows <= self.highest[:, None])
        return _share((self.volume * inside).sum(axis=1), self.total)

    def told(self, longest: int) -> NDArray[np.bool_]:
        """Whether a profile is there, of a whole period, that began less than ``longest`` bars before it was known.

        The first period may have begun before these bars, so it is never whole.
        """
        result = self.control >= 0
        result[:1] = False
        result[:-1] &= self.first[1:] - self.first[:-1] < longest
        return result

    def last_told(self, longest: int) -> Rows:
        """By bar: the period before its own where that has a profile and began less than ``longest`` bars ago, or -1.

        The profile of a period is known at the close of the first bar of the next one: nobody knows of a bar that it
        was the last.
        """
        before = self.which - 1
        far = np.arange(self.which.size) - self.first[np.maximum(before, 0)] >= longest
        return np.where((before < 1) | far | (self.control[np.maximum(before, 0)] < 0), -1, before)


def periods(arrays: BarArrays, span: Span, zone: str, start_minute: int) -> tuple[Rows, Rows]:
    """The row at which each period begins, and the period of each bar."""
    numbers = arrays.once(bar_periods, span, zone, start_minute)
    if not numbers.size:
        return numbers, numbers
    new = np.concatenate(([True], numbers[1:] != numbers[:-1]))
    return np.flatnonzero(new), np.cumsum(new) - 1


def period_profiles(
    bars: pd.DataFrame | BarArrays,
    span: Span = "day",
    zone: str = "UTC",
    start_minute: int = 0,
    weight: Weight = "volume",
    bins: int = 48,
    share: float = VALUE,
    together: Together = 2,
) -> PeriodProfiles:
    """The profile of each day, week or month, as :func:`tapeline.charts.pivot_lines.period_numbers` counts them.

    Examples
    --------
    >>> from tapeline.core.example import example_bars
    >>> found = period_profiles(example_bars(*[10.0] * 30, *[12.0] * 30, 15.0), bins=6)
    >>> found.first.tolist(), found.poc.round(2).tolist()
    ([0, 24, 48], [9.83, 11.33, nan])
    """
    arrays = BarArrays.of(bars)
    first, which = arrays.once(periods, span, zone, start_minute)
    size = first.size
    bottom, height, total = np.empty(size), np.empty(size), np.empty(size)
    volume = np.empty((size, bins))
    control, lowest, highest = (np.empty(size, np.int64) for _ in range(3))
    kernels.period_profiles(
        arrays.low, arrays.high, weights(arrays, weight), first, share, together,
        bottom, height, volume, total, control, lowest, highest,
    )  # fmt: skip
    return PeriodProfiles(first, which, bottom, height, volume, total, control, lowest, highest)


def _share(part: Floats, whole: Floats) -> Floats:
    result = np.full(part.shape, np.nan)
    np.divide(part, whole, out=result, where=whole > 0.0)
    return result


def _findings(kind: str, found: PeriodProfiles, profile: Rows, low: Floats, high: Floats, **more: Any) -> Findings:
    first = found.first
    after = np.append(first[2:], NOT_YET)[profile]
    start, end = first[profile], first[profile + 1] - 1
    return Findings(
        kind,
        direction=np.zeros(profile.size, np.int8),
        start=start,
        end=end,
        confirmed=first[profile + 1],
        low=low,
        high=high,
        point_rows=np.column_stack((start, end)),
        **{"invalidated": after, "point_prices": np.column_stack((low, high)), **more},
    )


@detector(lookback=lambda longest: longest + 3, reference=SOURCE, watch=ends_at(), probe=new_period)
def session_profile(
    arrays: BarArrays,
    span: Span = "day",
    zone: str = "UTC",
    start_minute: Minute = 0,
    weight: Weight = "volume",
    bins: Bins = 48,
    share: Share = VALUE,
    together: Together = 2,
    prominence: Prominence = 0.2,
    longest: Longest = 1_500,
) -> Iterator[Found]:
    """What the profile of each completed day, week or month says, known at the close of the next one's first bar.

    Kinds ``value_area`` (from VAL to VAH), ``point_of_control`` (a level), ``high_volume_node`` and ``low_volume_node``
    (from the lower to the upper border of their row), as :func:`volume_profile` defines them, without direction.
    ``score`` is the share of the period's volume that they hold. A point of control is invalidated by the first bar
    that trades it, from the confirming bar on: until then it is naked, in however many periods; the others when the
    next profile is known. Of a period of ``longest`` bars or more nothing is told: the default holds a day of minutes.

    Examples
    --------
    >>> from tapeline.core.example import example_bars
    >>> found = session_profile(example_bars(*[10.0] * 30, *[12.0] * 30, 15.0, 12.0), bins=6)
    >>> found[["kind", "low", "high", "score"]].round(2).to_numpy().tolist()[:2]
    [['value_area', 11.0, 13.0, 0.79], ['point_of_control', 11.33, 11.33, 0.26]]
    >>> [str(time) for time in found.loc[found["kind"] == "point_of_control", "invalidated_at"]]
    ['2017-01-04 01:00:00+00:00']
    """
    found = arrays.once(period_profiles, span, zone, start_minute, weight, bins, share, together)
    chosen = found.told(longest)
    profile = np.flatnonzero(chosen)
    if not profile.size:
        return
    yield _findings(
        "value_area", found, profile, found.value_low[profile], found.value_high[profile], score=found.held()[profile]
    )
    poc = found.poc[profile]
    traded = kernels.first_trades(arrays.low, arrays.high, found.first[profile + 1], poc)
    yield watch_levels(pending(traded, poc))
    held = found.volume[profile, found.control[profile]] / found.total[profile]
    yield _findings("point_of_control", found, profile, poc, poc, score=held, invalidated=traded)
    most = profile.size * bins
    of, row, side = np.empty(most, np.int64), np.empty(most, np.int64), np.empty(most, np.int8)
    count = kernels.all_nodes(found.volume, found.total, prominence, chosen, of, row, side)
    for kind, sign in (("high_volume_node", 1), ("low_volume_node", -1)):
        mine = np.flatnonzero(side[:count] == sign)
        which, at = of[mine], row[mine]
        low = found.bottom[which] + at * found.height[which]
        part = found.volume[which, at] / found.total[which]
        line = low + 0.5 * found.height[which]
        yield _findings(
            kind, found, which, low, low + found.height[which], score=part, point_prices=np.column_stack((line, line))
        )
