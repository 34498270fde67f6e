"""What a detector waits for: the prices, and the bar, before which a new bar cannot bring it anything.

Fed bar by bar, a detector need not search at a bar that leaves all as it was. A watch says what would not: a price
that is reached, a row at which something expires. The rest is said beside it: new swings, and a quick probe of the
newest bars. What is watched may be more than what matters, never less: a search too many costs time and tells nothing.

A level decides by being passed. Whatever condition on open, high, low or close it is part of, if that was false at
one bar and is true at the next, the prices of the two bars reach from one side of it to the other. So a level that the
range of two bars in a row does not hold has decided nothing at the second; a line is held to its prices at both.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np
from numba import njit

from tapeline.charts.bar_arrays import BarArrays, Floats, Rows
from tapeline.charts.event_kernels import EMPTY
from tapeline.charts.events import Findings

NEVER: Final = np.iinfo(np.int64).max
"""The row of what does not happen by itself."""

_SLACK: Final = 1e-9


Hook = Callable[..., "Watch"]
"""``(arrays, findings, parameters by name) -> Watch``."""


@dataclass(frozen=True)
class Watch:
    """Prices to watch, as they stand at the last bar, and the row at which to search whatever they do.

    Parameters
    ----------
    level:
        Prices, NaN for none.
    slope:
        How far each moves in a bar; they stand still where absent.
    width:
        How near counts as reached; not at all where absent.
    closes:
        Whether only closes reach it; any price does where absent.
    until:
        The row at which to search again at the latest.

    Examples
    --------
    >>> (Watch(np.array([9.0])) | Watch(np.array([11.0]), slope=np.array([0.5]), until=7)).slope.tolist()
    [0.0, 0.5]
    """

    level: Floats = field(default_factory=lambda: np.empty(0))
    slope: Floats | None = None
    width: Floats | None = None
    closes: Floats | None = None
    until: int = NEVER

    def __or__(self, other: Watch) -> Watch:
        return joined((self, other))


def joined(watches: Sequence[Watch]) -> Watch:
    """One watch for all of them."""
    filled = [one for one in watches if one.level.size]
    until = min((one.until for one in watches), default=NEVER)
    if len(filled) < 2:
        return replace(filled[0], until=until) if filled else Watch(until=until)
    columns: dict[str, Floats | None] = {}
    for name in ("slope", "width", "closes"):
        parts = [getattr(one, name) for one in filled]
        if any(part is not None for part in parts):
            sizes = [one.level.size for one in filled]
            columns[name] = np.concatenate(
                [np.zeros(size) if part is None else part for part, size in zip(parts, sizes, strict=True)]
            )
    return Watch(np.concatenate([one.level for one in filled]), until=until, **columns)


def watch_levels(*parts: Floats, closes: bool = False, until: int = NEVER) -> Watch:
    """A watch on prices that stand still."""
    level = np.concatenate(parts)
    return Watch(level, closes=np.ones(level.size) if closes else None, until=until)


def watch_standing(
    found: Iterable[Findings], prices: Sequence[str], *, closes: bool = False, rows: int = 0, max_age: int | None = None
) -> Watch:
    """A watch on findings that stand: on these of their prices, and on their age.

    The first to be ``max_age`` bars old at row ``rows`` or later says at which row to search at the latest.

    Examples
    --------
    >>> found = Findings("level", np.array([1], np.int8), *[np.array([3])] * 3, np.array([9.0]), np.array([10.0]),
    ...                  invalidated=np.array([-1]))
    >>> watch = watch_standing([found], ["low", "high"], rows=10, max_age=20)
    >>> watch.level.tolist(), watch.until
    ([9.0, 10.0], 23)
    """
    levels: list[Floats] = []
    until = NEVER
    for part in found:
        if part.invalidated is None:
            continue
        alive = part.invalidated == EMPTY
        if not alive.any():
            continue
        levels.extend(column[alive] for name in prices if (column := getattr(part, name)) is not None)
        if max_age is not None:
            ends = part.confirmed[alive] + max_age
            until = min(until, int(ends.min(where=ends >= rows, initial=NEVER)))
    return watch_levels(np.empty(0), *levels, closes=closes, until=until)


def ends_at(*prices: str, closes: bool = False) -> Hook:
    """What a detector waits for beside what its search says: that price, or a close, passes these of a finding.

    With no price it waits for nothing more: its findings stand, or end with one that its search tells as well.
    """

    def watch(arrays: BarArrays, found: Sequence[Findings]) -> Watch:
        return watch_standing(found, prices, closes=closes)

    return watch


def expires_or_ends_at(*prices: str, closes: bool = False) -> Hook:
    """As :func:`ends_at`, of findings that end at the latest when they are ``max_age`` bars old."""

    def watch(arrays: BarArrays, found: Sequence[Findings], max_age: int) -> Watch:
        return watch_standing(found, prices, closes=closes, rows=len(arrays), max_age=max_age)

    return watch


class WatchList:
    """The watches of some detectors, asked together at each bar.

    Examples
    --------
    >>> watches = WatchList(2)
    >>> watches.put(0, Watch(np.array([12.0])), row=5)
    >>> watches.put(1, Watch(until=7), row=5)
    >>> [watches.due(row, (9.0, high), (10.0, 11.0)).tolist() for row, high in ((6, 11.0), (7, 11.0), (8, 12.5))]
    [[False, False], [False, True], [True, True]]
    """

    def __init__(self, detectors: int) -> None:
        self._counts, self._rows = np.zeros(detectors, np.int64), np.zeros(detectors, np.int64)
        self._until = np.zeros(detectors, np.int64)
        self._lines = np.zeros((4, detectors, 64))

    def put(self, detector: int, watch: Watch, row: int, first: int = 0) -> None:
        """What this detector waits for from the bar after ``row`` on, in place of what it waited for before.

        ``first`` is the number of the bar that ``until`` counts from.
        """
        count = watch.level.size
        while count > self._lines.shape[2]:
            self._lines = np.concatenate((self._lines, np.zeros_like(self._lines)), axis=2)
        columns = watch.level, watch.slope, watch.width, watch.closes
        for line, column in zip(self._lines[:, detector, :count], columns, strict=True):
            line[:] = 0.0 if column is None else column
        self._counts[detector], self._rows[detector] = count, row
        self._until[detector] = watch.until if watch.until == NEVER else watch.until + first

    def due(self, row: int, prices: tuple[float, float], closes: tuple[float, float]) -> Any:
        """Which detectors have to search at this row: what its bar and the one before span, in all and in closes."""
        result = np.empty(self._counts.size, np.bool_)
        slack = _SLACK * max(abs(prices[0]), abs(prices[1]))
        _due(
            row, prices[0] - slack, prices[1] + slack, closes[0] - slack, closes[1] + slack,
            self._counts, self._rows, self._until, self._lines, result,
        )  # fmt: skip
        return result


@njit(cache=True, nogil=True)
def _due(
    row: Any,
    low: Any,
    high: Any,
    least: Any,
    most: Any,
    counts: Any,
    rows: Any,
    until: Any,
    lines: Any,
    result: Any,
) -> None:
    for i in range(counts.size):
        result[i] = row >= until[i]
        if result[i]:
            continue
        bars = row - rows[i]
        for k in range(counts[i]):
            slope, width = lines[1, i, k], lines[2, i, k]
            now = lines[0, i, k] + slope * bars
            before = now - slope
            top, bottom = (most, least) if lines[3, i, k] else (high, low)
            if min(now, before) - width <= top and max(now, before) + width >= bottom:
                result[i] = True
                break


def last_of_sides(side: Any, price: Floats) -> Floats:
    """The price of the last swing of each side, of which there may be none."""
    return np.concatenate([price[np.flatnonzero(side == one)[-1:]] for one in (1, -1)])


def next_row(arrays: BarArrays, confirmed: Rows) -> int:
    """The row after the last one where something was confirmed there, which begins to count from then on."""
    return len(arrays) if confirmed.size and int(confirmed.max()) == len(arrays) - 1 else NEVER


def pending(hit: Rows, *levels: Floats) -> Floats:
    """The levels of what has not happened yet."""
    waiting = hit == EMPTY
    return np.concatenate([part[waiting] for part in levels])
