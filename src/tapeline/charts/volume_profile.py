"""Profiles of a fixed range: at which prices bars traded, point of control, value area, nodes, brackets of time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Final, Literal

import numpy as np
import pandas as pd
from pydantic import Field

from tapeline.charts import profile_kernels as kernels
from tapeline.charts.bar_arrays import BarArrays, Floats, Rows
from tapeline.core.errors import ConfigurationError, DataError

Weight = Literal["volume", "time"]
"""``volume``: each bar weighs what it traded; ``time``: each bar weighs 1, for markets whose volume nobody knows."""
Bins = Annotated[int, Field(ge=4, le=1_000)]
Share = Annotated[float, Field(gt=0.0, le=1.0)]
Together = Literal[1, 2]
Prominence = Annotated[float, Field(gt=0.0, le=1.0)]

VALUE: Final = 0.7
SOURCE: Final = (
    "Steidlmayer, CBOT Market Profile (1984); value area: Dalton, Jones, Dalton, Mind over Markets (1993), appendix 1"
)
MOST_ROWS: Final = 1_000_000
LETTERS: Final = "ABCDEFGHIJKLMNOPQRSTUVWXabcdefghijklmnopqrstuvwx"
"""The 48 half hours of a day, as the Market Profile prints them."""


@dataclass(frozen=True)
class Profile:
    """What was traded in rows of price, lowest first.

    Parameters
    ----------
    edges:
        The borders of the rows in price: one more than there are rows.
    volume:
        What each row holds: volume, bars or brackets.
    control:
        The highest row; of equal ones that nearest to the middle of the profile, then the lower one.
    value:
        First and last row of the value area.
    high_nodes, low_nodes:
        Rows that are local extremes of the profile and stand out.
    """

    edges: Floats
    volume: Floats
    control: int
    value: tuple[int, int]
    high_nodes: Rows
    low_nodes: Rows

    @property
    def total(self) -> float:
        """The whole."""
        return float(self.volume.sum())

    @property
    def prices(self) -> Floats:
        """The middle of each row."""
        return 0.5 * (self.edges[:-1] + self.edges[1:])

    @property
    def poc(self) -> float:
        """The point of control: the middle of the highest row."""
        return float(self.prices[self.control])

    @property
    def value_low(self) -> float:
        """VAL: the lower border of the value area."""
        return float(self.edges[self.value[0]])

    @property
    def value_high(self) -> float:
        """VAH: the upper border of the value area."""
        return float(self.edges[self.value[1] + 1])

    @property
    def held(self) -> float:
        """The share of the whole that the value area holds; rows come whole, so it is mostly more than was asked."""
        return float(self.volume[self.value[0] : self.value[1] + 1].sum()) / self.total


@dataclass(frozen=True)
class MarketProfile(Profile):
    """A profile of time price opportunities: a row holds how many brackets traded there.

    ``brackets`` has the first and the last row of each bracket, ``begins`` the ts of its first bar.
    """

    brackets: Rows
    begins: pd.DatetimeIndex

    def letters(self) -> list[str]:
        """The letters of each row, lowest row first; the 49th bracket is A again.

        Examples
        --------
        >>> from tapeline.core.example import example_bars
        >>> bars = example_bars(10, 11, 12).assign(low=[10.0, 11.0, 11.0], high=[11.0, 12.0, 11.0])
        >>> market_profile(bars, step=1.0).letters()
        ['A', 'ABC', 'B']
        """
        names = [LETTERS[i % len(LETTERS)] for i in range(len(self.brackets))]
        return [
            "".join(name for name, (low, high) in zip(names, self.brackets.tolist(), strict=True) if low <= row <= high)
            for row in range(len(self.volume))
        ]


def profile_of_rows(
    edges: Floats, volume: Floats, share: float = VALUE, together: Together = 2, prominence: float = 0.2
) -> Profile:
    """The point of control, value area and nodes of rows whose volume is known, such as an exchange's volume at price.

    Value area: from the point of control on, the volume of the next two rows above is held against that of the next
    two below; the larger pair is added, until ``share`` of the whole is held (``together`` 2, as Mind over Markets has
    it; 1: row by row, as other handbooks do). Of equal ones the upper.

    Raises
    ------
    DataError
        The rows are empty, hold NaN or less than nothing, or do not fit the edges.
    ConfigurationError
        A share is not within 0 to 1.

    Examples
    --------
    >>> found = profile_of_rows(np.arange(7.0), np.array([1.0, 2.0, 9.0, 3.0, 3.0, 2.0]))
    >>> found.poc, found.value_low, found.value_high, round(found.held, 2)
    (2.5, 2.0, 5.0, 0.75)
    """
    for name, given in (("share", share), ("prominence", prominence)):
        if not 0.0 < given <= 1.0:
            raise ConfigurationError(f"{name} = {given} is refused", hint="above 0, at most 1")
    if together not in (1, 2):
        raise ConfigurationError(f"together = {together} is refused", hint="1 or 2 rows at a time")
    volume = np.ascontiguousarray(volume, dtype=np.float64)
    if volume.size == 0 or edges.size != volume.size + 1:
        raise DataError(f"{volume.size} rows of volume between {edges.size} edges", hint="one edge more than rows")
    if not (np.isfinite(volume).all() and volume.min() >= 0.0 and volume.sum() > 0.0):
        raise DataError("nothing was traded in these rows, or a row is negative or unknown", hint='weight="time"?')
    total = float(volume.sum())
    control = int(kernels.control_row(volume, total))
    first, last = kernels.value_rows(volume, total, control, share, together)
    row, side = np.empty(volume.size, np.int64), np.empty(volume.size, np.int8)
    count = kernels.profile_nodes(volume, total, prominence * volume.max(), row, side)
    row, side = row[:count], side[:count]
    return Profile(edges, volume, control, (int(first), int(last)), row[side > 0], row[side < 0])


def volume_profile(
    bars: pd.DataFrame | BarArrays,
    bins: int = 48,
    *,
    step: float | None = None,
    weight: Weight = "volume",
    share: float = VALUE,
    together: Together = 2,
    prominence: float = 0.2,
) -> Profile:
    """The profile of these bars, a fixed range: each bar's volume spread evenly over its low to high.

    Parameters
    ----------
    bins:
        Rows of one height from the lowest low to the highest high.
    step:
        In place of bins: the height of a row in price, such as a tick; rows then lie around its multiples, so that the
        middle of a row is a price that is traded.
    weight:
        What a bar weighs. A bar without a range goes to one row; one with NaN is no bar.
    share, together:
        Of the value area, as in :func:`profile_of_rows`.
    prominence:
        How far a node stands out, as a share of the highest row: a high node is a row from which the profile falls by
        so much on both sides before it gets higher, a low node the lowest row between two of them.

    Raises
    ------
    DataError
        Nothing was traded, or the bars have no range and no step is given.
    ConfigurationError
        A parameter is out of its bounds, or the step makes too many rows.

    Examples
    --------
    >>> from tapeline.core.example import example_bars
    >>> found = volume_profile(example_bars(10, 14, 13, 13, 13), bins=6)
    >>> found.volume.round(2).tolist(), found.poc, found.value_low, found.value_high
    ([0.83, 0.83, 0.33, 5.83, 5.83, 1.33], 12.5, 12.0, 15.0)
    """
    low, high, load = _traded(BarArrays.of(bars), weight)
    bottom, height, rows = _rows(low, high, bins, step)
    volume = np.empty(rows)
    kernels.spread(low, high, load, bottom, height, volume)
    return profile_of_rows(_edges(bottom, height, rows), volume, share, together, prominence)


def market_profile(
    bars: pd.DataFrame | BarArrays,
    bins: int = 48,
    *,
    step: float | None = None,
    minutes: int | None = None,
    share: float = VALUE,
    together: Together = 2,
    prominence: float = 0.2,
) -> MarketProfile:
    """The profile of time price opportunities: each bracket counts once in each row between its low and its high.

    Parameters
    ----------
    minutes:
        The length of a bracket by the clock, 30 in the original; each bar is one where absent.
    bins, step, share, together, prominence:
        As in :func:`volume_profile`.

    Raises
    ------
    DataError
        There is no bar, or the bars have no range and no step is given.
    ConfigurationError
        A parameter is out of its bounds, or the step makes too many rows.

    Examples
    --------
    >>> from tapeline.core.example import example_bars
    >>> bars = example_bars(10, 11, 12, 12).assign(low=[10.0, 11.0, 11.0, 12.0], high=[11.0, 12.0, 11.0, 12.0])
    >>> found = market_profile(bars, step=1.0, minutes=120)
    >>> found.letters(), found.poc
    (['A', 'AB', 'AB'], 11.0)
    """
    if minutes is not None and minutes < 1:
        raise ConfigurationError(f"minutes = {minutes} is refused", hint="1 or more, 30 in the original")
    arrays = BarArrays.of(bars)
    low, high, opened = arrays.low, arrays.high, arrays.opened
    there = low <= high
    low, high, opened = low[there], high[there], opened[there]
    bottom, height, rows = _rows(low, high, bins, step)
    if minutes is not None:
        number = opened // (minutes * 60_000_000_000)
        begins = np.flatnonzero(np.concatenate(([True], number[1:] != number[:-1])))
        low, high, opened = np.minimum.reduceat(low, begins), np.maximum.reduceat(high, begins), opened[begins]
    volume, brackets = np.empty(rows), np.empty((low.size, 2), np.int64)
    kernels.touch(low, high, bottom, height, volume, brackets)
    made = profile_of_rows(_edges(bottom, height, rows), volume, share, together, prominence)
    first = pd.DatetimeIndex(opened.view("M8[ns]"), tz="UTC")
    return MarketProfile(**vars(made), brackets=brackets, begins=first)


def _traded(arrays: BarArrays, weight: Weight) -> tuple[Floats, Floats, Floats]:
    load = weights(arrays, weight)
    chosen = (load > 0.0) & (arrays.low <= arrays.high)
    return arrays.low[chosen], arrays.high[chosen], load[chosen]


def _rows(low: Floats, high: Floats, bins: int, step: float | None) -> tuple[float, float, int]:
    """Where the rows begin, how high each is, and how many there are."""
    if not low.size:
        raise DataError("nothing was traded in these bars", hint='weight="time" counts bars in place of volume')
    least, most = float(low.min()), float(high.max())
    if not np.isfinite(most - least):
        raise DataError(f"the bars reach from {least} to {most}", hint="quarantine bars without finite prices")
    if step is None:
        if not 1 <= bins <= MOST_ROWS:
            raise ConfigurationError(f"bins = {bins} is refused", hint=f"1 to {MOST_ROWS}")
        if not most > least:
            raise DataError(f"all bars stand at {least}: a range of nothing has no rows", hint="give a step")
        return least, (most - least) / bins, bins
    if not 0.0 < step < np.inf:
        raise ConfigurationError(f"step = {step} is refused", hint="a price above 0, such as one tick")
    first, last = np.floor(least / step + 0.5), np.floor(most / step + 0.5)
    if last - first >= MOST_ROWS:
        raise ConfigurationError(f"step = {step} makes {last - first + 1:.0f} rows", hint=f"at most {MOST_ROWS}")
    return float((first - 0.5) * step), float(step), int(last - first) + 1


def _edges(bottom: float, height: float, rows: int) -> Floats:
    return bottom + height * np.arange(rows + 1, dtype=np.float64)


def weights(arrays: BarArrays, weight: Weight) -> Floats:
    """What each bar weighs; ConfigurationError where the weight is unknown."""
    if weight == "time":
        return np.ones(len(arrays))
    if weight != "volume":
        raise ConfigurationError(f"weight '{weight}' is unknown", hint="volume or time")
    return arrays.volume
