"""What all chart patterns share: from what a kernel wrote down to findings with border, target, stop and fate.

A pattern is a shape of confirmed pivots and a close that completes it: beyond the neckline or the border, no earlier
than its last pivot was confirmed and at most so many bars later. Before that close there is no finding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any, Final

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from tapeline.charts.bar_arrays import BarArrays, Floats, Rows
from tapeline.charts.events import Findings
from tapeline.charts.fate import fates
from tapeline.charts.pattern_kernels import LOG, PRICES
from tapeline.charts.pivots import PIVOT_MEMORY
from tapeline.charts.swings import Swings
from tapeline.charts.watch import Watch

Share = Annotated[float, Field(gt=0.0, le=1.0)]
"""A tolerance as a share of the pattern's own height."""

Wait = Annotated[int, Field(ge=0, le=10_000)]
"""Bars after the confirmation of the last pivot within which the completing close must come."""

Span = Annotated[int, Field(ge=4, le=20_000)]
"""Bars from the first to the last pivot of a pattern at most."""


def pattern_memory(max_span: int, window: int, max_wait: int = 0) -> int:
    """Bars that decide which patterns the newest bar completes."""
    return PIVOT_MEMORY + max_span + max_wait + window


@dataclass(frozen=True)
class Completed:
    """Patterns that a close completed, as a kernel wrote them down: arrays of one length.

    ``kind`` is the kernel's class, ``direction`` that of the close that completed the pattern, ``first`` and ``last``
    the places of its pivots among ``pivots``, ``row`` the completing bar; ``border``, ``target`` and ``stop`` are
    prices, ``score`` is 0 to 1. ``waiting`` are the borders at which a later close may complete one.
    """

    pivots: Swings
    kind: Rows
    direction: NDArray[np.int8]
    first: Rows
    last: Rows
    row: Rows
    border: Floats
    target: Floats
    stop: Floats
    score: Floats
    waiting: Watch

    def __len__(self) -> int:
        return len(self.row)

    def take(self, chosen: NDArray[np.bool_]) -> Completed:
        """Some of them."""
        return Completed(
            self.pivots, self.kind[chosen], self.direction[chosen], self.first[chosen], self.last[chosen],
            self.row[chosen], self.border[chosen], self.target[chosen], self.stop[chosen], self.score[chosen],
            self.waiting,
        )  # fmt: skip


def completed(pivots: Swings, kernel: Callable[..., tuple[int, int]], *args: Any) -> Completed:
    """Run a kernel over pivots; it writes at most one finding a pivot, and two borders that wait."""
    log, prices = np.empty((len(pivots) + 1, LOG), np.int64), np.empty((len(pivots) + 1, PRICES))
    waits = np.empty((2 * len(pivots) + 1, 2))
    count, waiting = kernel(*args, log, prices, waits)
    order = np.argsort(log[:count, 4], kind="stable")
    log, prices = log[order].T.copy(), prices[order].T.copy()
    return Completed(
        pivots, log[0], log[1].astype(np.int8), log[2], log[3], log[4], prices[0], prices[1], prices[2], prices[3],
        Watch(waits[:waiting, 0].copy(), waits[:waiting, 1].copy(), closes=np.ones(waiting)),
    )  # fmt: skip


def swing_arguments(pivots: Swings) -> tuple[Any, ...]:
    """Pivots as the kernels read them."""
    return pivots.row, pivots.confirmed, pivots.side, pivots.price


def pattern_findings(
    arrays: BarArrays, found: Completed, names: Mapping[int, tuple[str, str]], points: int, max_age: int
) -> Iterator[Findings]:
    """Findings by kind: the corner points are ``points`` pivots, the last ones, and the border at the close.

    Parameters
    ----------
    names:
        By class: the kind of event where the completing close speaks for falling prices, and where for rising ones.
    points:
        How many pivots, counted back from the last.
    max_age:
        Bars after which a finding expires that has met neither target nor stop.
    """
    if not len(found):
        return
    places = found.last[:, None] + np.arange(1 - points, 1)
    rows, prices = found.pivots.row[places], found.pivots.price[places]
    whole = completed_findings(arrays, found, "", rows, prices, max_age)
    for kind, (falling, rising) in names.items():
        of_class = found.kind == kind
        if not of_class.any():
            continue
        if falling == rising:
            yield replace(whole.take(of_class), kind=falling)
            continue
        for name, chosen in ((falling, of_class & (found.direction < 0)), (rising, of_class & (found.direction > 0))):
            if chosen.any():
                yield replace(whole.take(chosen), kind=name)


def completed_findings(
    arrays: BarArrays, found: Completed, name: str, rows: Rows, prices: Floats, max_age: int, end: Rows | None = None
) -> Findings:
    """Findings of one kind: corner points, (findings, points) each, to which the border at the close is added.

    ``end`` is the row of the last of them unless given.
    """
    fate = fates(arrays, found.row, found.direction, found.target, found.stop, max_age)
    return Findings(
        name,
        direction=found.direction,
        start=rows[:, 0],
        end=rows[:, -1] if end is None else end,
        confirmed=found.row,
        low=prices.min(axis=1),
        high=prices.max(axis=1),
        invalidated=fate.row,
        target=found.target,
        stop=found.stop,
        score=found.score,
        point_rows=np.column_stack((rows, found.row)),
        point_prices=np.column_stack((prices, found.border)),
    )


FINE: Final = 1.0
"""The zigzag's size, in mean true ranges, that sees the swings inside a flag."""
