"""What a feed remembers: the newest rows that passed, to tell a repetition from a new row, in bounded memory."""

from __future__ import annotations

from typing import Final

import numpy as np
from numba import njit
from numpy.typing import NDArray

from tapeline.core.errors import ConfigurationError

NEW: Final = 0
EQUAL: Final = 1
DIFFERENT: Final = 2
TOO_OLD: Final = 3

_NONE: Final = np.iinfo(np.int64).min
_START, _COUNT, _FLOOR, _NEWEST, _UNIQUE = range(5)


class FeedMemory:
    """The newest rows by time, each with a key and its values.

    Parameters
    ----------
    size:
        How many rows are remembered.
    width:
        How many values a row has.
    unique_times:
        True where one time holds one row: then a row of a time that was forgotten is too old. False where a burst of
        rows may share a time: then only what is older still is.

    Examples
    --------
    >>> memory = FeedMemory(2, 1, unique_times=True)
    >>> def meet(*stamps):
    ...     rows = np.array(stamps)
    ...     return memory.meet(rows, np.zeros(len(rows), dtype=np.int64), rows[:, None] * 1.0).tolist()
    >>> meet(1, 2, 2), meet(3), meet(1)  # the third row drove the first out: whether it was seen cannot be told
    ([0, 0, 1], [0], [3])
    """

    def __init__(self, size: int, width: int, *, unique_times: bool) -> None:
        if size < 1:
            raise ConfigurationError(f"memory {size} must be at least 1 row")
        self._stamps = np.zeros(size, dtype=np.int64)
        self._keys = np.zeros(size, dtype=np.int64)
        self._values = np.zeros((size, width))
        self._state = np.array([0, 0, _NONE, _NONE, int(unique_times)], dtype=np.int64)

    @property
    def newest(self) -> int | None:
        """The newest time that was ever remembered."""
        found = int(self._state[_NEWEST])
        return None if found == _NONE else found

    def advance(self, stamp: int) -> None:
        """Take note of a time whose row is not remembered."""
        self._state[_NEWEST] = max(self._state[_NEWEST], stamp)

    @property
    def nbytes(self) -> int:
        """The size of what is held; it never changes."""
        return self._stamps.nbytes + self._keys.nbytes + self._values.nbytes + self._state.nbytes

    def meet(
        self, stamps: NDArray[np.int64], keys: NDArray[np.int64], values: NDArray[np.float64]
    ) -> NDArray[np.uint8]:
        """Hold rows against what is remembered, one after the other, and remember the new ones.

        Returns
        -------
        For each row ``NEW``; ``EQUAL`` or ``DIFFERENT`` where a row of its time and key is remembered, with equal
        values (NaN equals NaN) or others; ``TOO_OLD`` where none is and its time lies before one already forgotten.
        """
        return _meet(stamps, keys, np.ascontiguousarray(values), self._stamps, self._keys, self._values, self._state)


@njit(cache=True)
def _meet(
    stamps: np.ndarray,
    keys: np.ndarray,
    values: np.ndarray,
    held_stamps: np.ndarray,
    held_keys: np.ndarray,
    held_values: np.ndarray,
    state: np.ndarray,
) -> np.ndarray:
    size = held_stamps.size
    out = np.zeros(stamps.size, dtype=np.uint8)
    for i in range(stamps.size):
        stamp = stamps[i]
        start, count = state[_START], state[_COUNT]
        low, high = 0, count  # the place behind the last remembered row that is not later
        if count and held_stamps[(start + count - 1) % size] <= stamp:
            low = count
        while low < high:
            half = (low + high) // 2
            if held_stamps[(start + half) % size] <= stamp:
                low = half + 1
            else:
                high = half
        place = low
        k = place - 1
        while k >= 0 and held_stamps[(start + k) % size] == stamp:
            at = (start + k) % size
            if held_keys[at] == keys[i]:
                out[i] = EQUAL
                for c in range(values.shape[1]):
                    one, other = values[i, c], held_values[at, c]
                    if one != other and not (np.isnan(one) and np.isnan(other)):
                        out[i] = DIFFERENT
                break
            k -= 1
        if out[i] != NEW:
            continue
        if stamp < state[_FLOOR] or (stamp == state[_FLOOR] and state[_UNIQUE]):
            out[i] = TOO_OLD
            continue
        state[_NEWEST] = max(state[_NEWEST], stamp)
        if count == size:
            if place == 0:  # older than all that is held: it is forgotten as it comes
                state[_FLOOR] = stamp
                continue
            state[_FLOOR] = held_stamps[start]
            start = (start + 1) % size
            count -= 1
            place -= 1
            state[_START] = start
        for k in range(count, place, -1):
            to, source = (start + k) % size, (start + k - 1) % size
            held_stamps[to] = held_stamps[source]
            held_keys[to] = held_keys[source]
            held_values[to] = held_values[source]
        at = (start + place) % size
        held_stamps[at] = stamp
        held_keys[at] = keys[i]
        held_values[at] = values[i]
        state[_COUNT] = count + 1
    return out
