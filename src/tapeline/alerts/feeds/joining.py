"""Batches of a journal put together: a recovery takes thousands of small ones as few large ones, with the same result.

What fires does not depend on how records are cut into batches, so a recovery need not pay for each of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

import numpy as np

from tapeline.alerts.engine.evaluator import Batch
from tapeline.alerts.feeds.tick_journal import Replayed
from tapeline.alerts.processor import Taken

MOST: Final = 4_096
"""Records of a batch that is put together, as of one that the batcher makes."""


def joined(batches: Iterable[Replayed], stops: Sequence[int] = (), *, most: int = MOST) -> Iterator[Replayed]:
    """Batches in their order, those that follow one another as one, under the position of the last of them.

    Parameters
    ----------
    stops:
        Positions in ascending order behind which something else happens, such as other rules: no batch reaches over
        one of them.
    most:
        Records from which a batch is whole; one that is larger already stays as it is.

    Examples
    --------
    >>> def one(position):
    ...     whole, none = np.array([position]), np.zeros(1)
    ...     batch = Batch(np.zeros(1, np.int32), whole, none, none, np.zeros(1, np.uint8))
    ...     taken = Taken(batch.symbols, whole, none, whole, np.zeros(1, np.bool_), {"a": position}, batch.records)
    ...     return Replayed(position, batch, taken)
    >>> found = list(joined(map(one, range(1, 6)), stops=[3]))
    >>> [(each.position, each.batch.times.tolist(), each.taken.positions) for each in found]
    [(3, [1, 2, 3], {'a': 3}), (5, [4, 5], {'a': 5})]
    """
    waiting: list[Replayed] = []
    size, ahead = 0, list(stops)
    for each in batches:
        if waiting and (size + each.batch.times.size > most or (ahead and ahead[0] < each.position)):
            yield _whole(waiting)
            waiting, size = [], 0
        while ahead and ahead[0] < each.position:
            ahead.pop(0)
        waiting.append(each)
        size += each.batch.times.size
    if waiting:
        yield _whole(waiting)


def _whole(some: Sequence[Replayed]) -> Replayed:
    if len(some) == 1:
        return some[0]
    batch = Batch(*(np.concatenate(columns) for columns in zip(*(each.batch for each in some), strict=True)))
    positions: dict[str, int] = {}
    for each in some:
        for feed, position in each.taken.positions.items():
            positions[feed] = max(position, positions.get(feed, position))
    taken = Taken(
        batch.symbols,
        batch.times,
        batch.prices,
        np.concatenate([each.taken.sequences for each in some]),
        np.concatenate([each.taken.late for each in some]),
        positions,
        batch.records,
    )
    return Replayed(some[-1].position, batch, taken)
