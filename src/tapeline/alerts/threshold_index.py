"""Plain price alerts by the million: sorted levels of each symbol, so that a price costs what it crosses.

Each symbol has one list of levels to be crossed upwards and one downwards, the latter with signs turned, so that both
are crossed upwards: a level fires where the previous price was at or below it and the new one is above it. A list is
cut into blocks of at most ``WIDTH`` levels, found by bisection over the blocks. Beside it stand the levels next below
and above the price: as long as a price stays between them, two comparisons are all that it costs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from tapeline.alerts.engine.options import BORROWED
from tapeline.core.errors import DataError

WIDTH: Final = 64
UP, DOWN = 0, 1
CROSSED: Final = np.dtype([("tick", "i8"), ("id", "i8"), ("level", "f8"), ("direction", "u1")])
"""One alert: the place of the price in its batch, the alert's id, its level, and ``UP`` or ``DOWN``."""
# Of a list: where its blocks are named, how many there are, for how many there is room.
_BEGIN, _COUNT, _ROOM = range(3)
# Counters.
_BLOCKS, _NAMES, _FREE, _TOLD, _STOPPED = range(5)


class _Lists(NamedTuple):
    keys: NDArray[np.float64]
    ids: NDArray[np.int64]
    held: NDArray[np.int64]
    names: NDArray[np.int64]
    lists: NDArray[np.int64]
    free: NDArray[np.int64]
    bounds: NDArray[np.float64]
    prices: NDArray[np.float64]
    counters: NDArray[np.int64]


class ThresholdIndex:
    """Price levels by symbol; ids are the caller's, each used once a symbol, level and direction.

    Parameters
    ----------
    symbols:
        How many there are; they are numbered from 0.

    Examples
    --------
    >>> index = ThresholdIndex(1)
    >>> index.insert([0, 0, 0], [101.0, 102.0, 99.0], [UP, UP, DOWN], [7, 8, 9])
    >>> index.cross(np.array([0, 0, 0, 0]), np.array([100.0, 101.0, 105.0, 98.0]))["id"].tolist()
    [7, 8, 9]
    """

    def __init__(self, symbols: int) -> None:
        if symbols < 1:
            raise DataError(f"symbols = {symbols} must be at least 1")
        self._symbols = symbols
        self._at = _Lists(
            np.zeros((16, WIDTH)),
            np.zeros((16, WIDTH), np.int64),
            np.zeros(16, np.int64),
            np.zeros(16, np.int64),
            np.zeros((2 * symbols, 3), np.int64),
            np.zeros(16, np.int64),
            np.full((symbols, 4), np.nan),
            np.full(symbols, np.nan),
            np.zeros(5, np.int64),
        )
        self._crossed = np.zeros(1_024, CROSSED)
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def insert(
        self,
        symbols: Sequence[int] | NDArray[Any],
        levels: Sequence[float] | NDArray[Any],
        directions: Sequence[int] | NDArray[Any],
        ids: Sequence[int] | NDArray[Any],
    ) -> None:
        """Let alerts join; one at or above the price is crossed upwards when the price next passes it.

        Raises
        ------
        DataError
            A symbol is not known, a level is not positive and finite, or a direction is neither ``UP`` nor ``DOWN``.
        """
        lists, keys, names = self._checked(symbols, levels, directions, ids)
        at = 0
        while at < len(lists):
            at = int(_insert(lists, keys, names, at, *self._at))
            if at < len(lists):
                self._grow()
        self._count += len(lists)

    def remove(
        self,
        symbols: Sequence[int] | NDArray[Any],
        levels: Sequence[float] | NDArray[Any],
        directions: Sequence[int] | NDArray[Any],
        ids: Sequence[int] | NDArray[Any],
    ) -> int:
        """Let alerts go; how many of them were there."""
        lists, keys, names = self._checked(symbols, levels, directions, ids)
        removed = int(_remove(lists, keys, names, *self._at))
        self._count -= removed
        return removed

    def cross(self, symbols: NDArray[Any], prices: NDArray[Any]) -> NDArray[np.void]:
        """Take prices in their order; the alerts that they crossed, each price's in the order in which it met them.

        A symbol's first price, and the first one after :meth:`forget`, crosses nothing. A price that is not positive
        and finite is passed over: the edge before this refuses and counts it.

        Raises
        ------
        DataError
            A symbol is not known.
        """
        numbers = np.ascontiguousarray(symbols, np.int64)
        values = np.ascontiguousarray(prices, np.float64)
        if numbers.size and (numbers.min() < 0 or numbers.max() >= self._symbols):
            raise DataError(f"a symbol is not from 0 to {self._symbols - 1}")
        found: list[NDArray[np.void]] = []
        at = 0
        while True:
            self._at.counters[_TOLD] = 0
            at = int(_cross(numbers, values, at, self._crossed, *self._at))
            found.append(self._crossed[: int(self._at.counters[_TOLD])].copy())
            if at >= numbers.size:
                return found[0] if len(found) == 1 else np.concatenate(found)
            if len(found[-1]) == 0:
                self._crossed = np.zeros(2 * len(self._crossed), CROSSED)

    def forget(self, symbol: int) -> None:
        """After a gap it is not known on which side of a level the price was."""
        self._at.prices[symbol] = math.nan
        self._at.bounds[symbol] = math.nan

    @property
    def bytes(self) -> int:
        """Memory of its arrays."""
        return sum(array.nbytes for array in self._at)

    def _checked(
        self, symbols: Any, levels: Any, directions: Any, ids: Any
    ) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.int64]]:
        numbers, keys = np.array(symbols, np.int64).ravel(), np.array(levels, np.float64).ravel()
        sides, names = np.array(directions, np.int64).ravel(), np.array(ids, np.int64).ravel()
        if not len(numbers) == len(keys) == len(sides) == len(names):
            raise DataError("symbols, levels, directions and ids must be of one length")
        if ((numbers < 0) | (numbers >= self._symbols)).any():
            raise DataError(f"a symbol is not from 0 to {self._symbols - 1}")
        if not (np.isfinite(keys) & (keys > 0)).all():
            raise DataError("a level must be positive and finite")
        if ((sides != UP) & (sides != DOWN)).any():
            raise DataError(f"a direction must be {UP} (up) or {DOWN} (down)")
        return 2 * numbers + sides, np.where(sides == DOWN, -keys, keys), names

    def _grow(self) -> None:
        """A quarter more blocks and names of blocks, and at least what the next insertion can need."""
        at = self._at
        blocks = len(at.held) + len(at.held) // 4 + 2
        need = int(at.counters[_STOPPED])
        names = max(len(at.names) + len(at.names) // 4, len(at.names) + need) + 2
        self._at = at._replace(
            keys=_longer(at.keys, blocks), ids=_longer(at.ids, blocks), held=_longer(at.held, blocks),
            free=_longer(at.free, blocks), names=_longer(at.names, names),
        )  # fmt: skip


def _longer(array: NDArray[Any], rows: int) -> NDArray[Any]:
    made = np.zeros((rows, *array.shape[1:]), array.dtype)
    made[: len(array)] = array
    return made


@njit(**BORROWED)
def _block_of(keys: Any, ids: Any, held: Any, names: Any, begin: Any, count: Any, key: Any, id: Any) -> Any:
    """The last block that begins at or before a level, the first where none does."""
    low, high = 0, count - 1
    while low < high:
        middle = (low + high + 1) // 2
        block = names[begin + middle]
        if keys[block, 0] < key or (keys[block, 0] == key and ids[block, 0] <= id):
            low = middle
        else:
            high = middle - 1
    return low


@njit(**BORROWED)
def _place_in(keys: Any, ids: Any, held: Any, block: Any, key: Any, id: Any) -> Any:
    """The first place in a block that is not before a level and id."""
    low, high = 0, held[block]
    while low < high:
        middle = (low + high) // 2
        if keys[block, middle] < key or (keys[block, middle] == key and ids[block, middle] < id):
            low = middle + 1
        else:
            high = middle
    return low


@njit(**BORROWED)
def _insert(
    lists: Any, new_keys: Any, new_ids: Any, start: Any, keys: Any, ids: Any, held: Any, names: Any, table: Any,
    free: Any, bounds: Any, prices: Any, counters: Any,
) -> Any:  # fmt: skip
    for at in range(start, lists.size):
        one, key, id = lists[at], new_keys[at], new_ids[at]
        if table[one, _COUNT] == table[one, _ROOM]:
            # Names move to the end, with room for as many again.
            room = max(2 * table[one, _ROOM], 1)
            if counters[_NAMES] + room > names.size:
                counters[_STOPPED] = room
                return at
            for place in range(table[one, _COUNT]):
                names[counters[_NAMES] + place] = names[table[one, _BEGIN] + place]
            table[one, _BEGIN], table[one, _ROOM] = counters[_NAMES], room
            counters[_NAMES] += room
        if counters[_FREE] == 0 and counters[_BLOCKS] == held.size:
            counters[_STOPPED] = 1
            return at
        begin = table[one, _BEGIN]
        if table[one, _COUNT] == 0:
            names[begin] = _new_block(held, free, counters)
            table[one, _COUNT] = 1
        where = _block_of(keys, ids, held, names, begin, table[one, _COUNT], key, id)
        block = names[begin + where]
        if held[block] == WIDTH:
            other = _new_block(held, free, counters)
            half = WIDTH // 2
            for place in range(half, WIDTH):
                keys[other, place - half], ids[other, place - half] = keys[block, place], ids[block, place]
            held[block], held[other] = half, WIDTH - half
            for place in range(table[one, _COUNT], where + 1, -1):
                names[begin + place] = names[begin + place - 1]
            names[begin + where + 1] = other
            table[one, _COUNT] += 1
            if keys[other, 0] < key or (keys[other, 0] == key and ids[other, 0] <= id):
                block = other
        place = _place_in(keys, ids, held, block, key, id)
        for later in range(held[block], place, -1):
            keys[block, later], ids[block, later] = keys[block, later - 1], ids[block, later - 1]
        keys[block, place], ids[block, place] = key, id
        held[block] += 1
        _forget_bounds(bounds, one)
    return lists.size


@njit(**BORROWED)
def _new_block(held: Any, free: Any, counters: Any) -> Any:
    if counters[_FREE] > 0:
        counters[_FREE] -= 1
        block = free[counters[_FREE]]
    else:
        block = counters[_BLOCKS]
        counters[_BLOCKS] += 1
    held[block] = 0
    return block


@njit(**BORROWED)
def _forget_bounds(bounds: Any, one: Any) -> None:
    """The next price looks for its neighbours again."""
    bounds[one // 2, 2 * (one % 2)] = math.nan


@njit(**BORROWED)
def _remove(
    lists: Any, old_keys: Any, old_ids: Any, keys: Any, ids: Any, held: Any, names: Any, table: Any, free: Any,
    bounds: Any, prices: Any, counters: Any,
) -> Any:  # fmt: skip
    removed = 0
    for at in range(lists.size):
        one, key, id = lists[at], old_keys[at], old_ids[at]
        count, begin = table[one, _COUNT], table[one, _BEGIN]
        if count == 0:
            continue
        where = _block_of(keys, ids, held, names, begin, count, key, id)
        block = names[begin + where]
        place = _place_in(keys, ids, held, block, key, id)
        if place == held[block] or keys[block, place] != key or ids[block, place] != id:
            continue
        removed += 1
        for later in range(place, held[block] - 1):
            keys[block, later], ids[block, later] = keys[block, later + 1], ids[block, later + 1]
        held[block] -= 1
        if held[block] == 0:
            for later in range(where, count - 1):
                names[begin + later] = names[begin + later + 1]
            table[one, _COUNT] = count - 1
            free[counters[_FREE]] = block
            counters[_FREE] += 1
        _forget_bounds(bounds, one)
    return removed


@njit(**BORROWED)
def _cross(
    symbols: Any, values: Any, start: Any, crossed: Any, keys: Any, ids: Any, held: Any, names: Any, table: Any,
    free: Any, bounds: Any, prices: Any, counters: Any,
) -> Any:  # fmt: skip
    """Take prices from ``start`` on; the one at which it stopped for want of room, else their number."""
    for tick in range(start, symbols.size):
        symbol, price = np.uintp(symbols[tick]), values[tick]
        if bounds[symbol, 0] < price <= bounds[symbol, 1] and bounds[symbol, 2] < -price <= bounds[symbol, 3]:
            prices[symbol] = price
            continue
        if not 0.0 < price < math.inf:
            continue
        number = np.int64(symbols[tick])
        before, told = prices[number], counters[_TOLD]
        for side in range(2):
            if not _pass(
                2 * number + side, before if side == 0 else -before, price if side == 0 else -price, tick, crossed,
                keys, ids, held, names, table, bounds, counters,
            ):  # fmt: skip
                # As if it had not come: it is taken again with more room.
                counters[_TOLD] = told
                bounds[number, 0], bounds[number, 2] = math.nan, math.nan
                return tick
        prices[number] = price
    return symbols.size


@njit(**BORROWED)
def _pass(
    one: Any, before: Any, value: Any, tick: Any, crossed: Any, keys: Any, ids: Any, held: Any, names: Any, table: Any,
    bounds: Any, counters: Any,
) -> Any:  # fmt: skip
    """Tell the levels of a list from the value before (itself as well) up to the new one, and find its neighbours."""
    count, begin = table[one, _COUNT], table[one, _BEGIN]
    below, above = -math.inf, math.inf
    if count > 0:
        lowest = -(1 << 62)
        # From unknown nothing is crossed, and a fall crosses nothing upwards: only the neighbours are looked for.
        origin = before if before < value else value
        where = _block_of(keys, ids, held, names, begin, count, origin, lowest)
        block = names[begin + where]
        place = _place_in(keys, ids, held, block, origin, lowest)
        if place > 0:
            below = keys[block, place - 1]
        elif where > 0:
            # The block begins at or after the level: the one before ends below it.
            other = names[begin + where - 1]
            below = keys[other, held[other] - 1]
        while where < count:
            block = names[begin + where]
            if place == held[block]:
                where += 1
                place = 0
                continue
            key = keys[block, place]
            if not key < value:
                above = key
                break
            if counters[_TOLD] == crossed.size:
                return False
            told = crossed[counters[_TOLD]]
            told.tick, told.id, told.level, told.direction = tick, ids[block, place], abs(key), one % 2
            counters[_TOLD] += 1
            below = key
            place += 1
    bounds[one // 2, 2 * (one % 2)], bounds[one // 2, 2 * (one % 2) + 1] = below, above
    return True
