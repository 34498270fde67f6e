"""The tick buffer: the newest ticks of each symbol in memory, bounded in every direction."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from tapeline.core.errors import ConfigurationError
from tapeline.core.symbol import Symbol
from tapeline.streams.row_layouts import TICK, Rows

CAPACITY: Final = 5_000
_FIRST_ROWS: Final = 64


@dataclass(frozen=True)
class BufferCounters:
    """What a buffer holds and has let go.

    ``overwritten`` counts ticks that newer ones replaced; ``squeezed`` those of them that would still be there if
    ``maximum_bytes`` had let their ring grow to its capacity.
    """

    symbols: int
    ticks: int
    bytes: int
    appended: int
    overwritten: int
    squeezed: int


class TickBuffer:
    """The last ticks of each symbol, oldest first; a full ring overwrites its oldest.

    A ring starts small and doubles until ``capacity``, so that a symbol that hardly trades costs little. Safe to use
    from several threads. Ticks that leave it are not lost: the journal has them.

    Parameters
    ----------
    capacity:
        The most ticks that are kept of a symbol.
    maximum_symbols:
        A feed that invents symbols must not fill the memory: one more raises ConfigurationError.
    maximum_bytes:
        A bound on all rings together. Where it is reached, rings stop growing and hold fewer than ``capacity`` ticks;
        it must have room for the smallest ring of every symbol.

    Examples
    --------
    >>> from tapeline.core.schemas import RAW_TICKS
    >>> from tapeline.streams.row_layouts import make_rows
    >>> buffer, eurusd = TickBuffer(capacity=2), Symbol.parse("EURUSD")
    >>> buffer.extend(eurusd, make_rows(RAW_TICKS, ts=[1, 2, 3], bid=[1.1, 1.2, 1.3], ask=1.4, known_at=5))
    >>> buffer.last(eurusd)["bid"].tolist(), buffer.counters().overwritten
    ([1.2, 1.3], 1)
    """

    def __init__(
        self, capacity: int = CAPACITY, *, maximum_symbols: int = 10_000, maximum_bytes: int | None = None
    ) -> None:
        if capacity < 1 or maximum_symbols < 1:
            raise ConfigurationError(f"capacity {capacity} and maximum_symbols {maximum_symbols} must be 1 or more")
        smallest = maximum_symbols * min(capacity, _FIRST_ROWS) * TICK.itemsize
        if maximum_bytes is not None and maximum_bytes < smallest:
            raise ConfigurationError(
                f"maximum_bytes {maximum_bytes:,} has no room for {maximum_symbols:,} symbols",
                hint=f"give at least {smallest:,} bytes, or allow fewer symbols",
            )
        self.capacity = capacity
        self.maximum_symbols = maximum_symbols
        self.maximum_bytes = maximum_bytes
        self._rings: dict[Symbol, _Ring] = {}
        self._bytes = 0
        self._appended = 0
        self._overwritten = 0
        self._squeezed = 0
        self._lock = threading.Lock()

    def append(self, symbol: Symbol, tick: tuple[Any, ...] | np.void) -> None:
        """Add one tick: a row, or a tuple in the order of the layout's columns."""
        with self._lock:
            ring = self._ring(symbol)
            self._make_room(ring, 1)
            position = ring.total % len(ring.rows)
            ring.rows[position] = tick
            self._count(ring, 1)

    def extend(self, symbol: Symbol, ticks: Rows) -> None:
        """Add many ticks in their order; of more than ``capacity`` the last ones stay."""
        if ticks.dtype != TICK or ticks.ndim != 1:
            raise ConfigurationError(f"ticks are {ticks.dtype}, expected the tick layout", hint="see make_rows")
        with self._lock:
            ring = self._ring(symbol)
            self._make_room(ring, len(ticks))
            size = len(ring.rows)
            kept = ticks[-size:]
            start = (ring.total + len(ticks) - len(kept)) % size
            head = kept[: size - start]
            ring.rows[start : start + len(head)] = head
            ring.rows[: len(kept) - len(head)] = kept[len(head) :]
            self._count(ring, len(ticks))

    def last(self, symbol: Symbol, count: int | None = None) -> Rows:
        """A copy of the newest ``count`` ticks of a symbol (all where None), oldest first; none of an unknown one."""
        if count is not None and count < 0:
            raise ConfigurationError(f"count {count} is negative", hint="use 0 or more")
        with self._lock:
            ring = self._rings.get(symbol)
            if ring is None:
                return np.empty(0, dtype=TICK)
            return ring.last(ring.held if count is None else min(count, ring.held))

    def depth(self, symbol: Symbol) -> int:
        """How many ticks of a symbol are held."""
        with self._lock:
            ring = self._rings.get(symbol)
            return 0 if ring is None else ring.held

    def symbols(self) -> list[Symbol]:
        """The symbols seen, in the order in which they came."""
        with self._lock:
            return list(self._rings)

    def forget(self, symbol: Symbol) -> None:
        """Release a symbol's ring, as after it was unsubscribed."""
        with self._lock:
            ring = self._rings.pop(symbol, None)
            if ring is not None:
                self._bytes -= ring.rows.nbytes

    def counters(self) -> BufferCounters:
        """What it holds now, and what it has let go since it was made."""
        with self._lock:
            return BufferCounters(
                symbols=len(self._rings),
                ticks=sum(ring.held for ring in self._rings.values()),
                bytes=self._bytes,
                appended=self._appended,
                overwritten=self._overwritten,
                squeezed=self._squeezed,
            )

    def _ring(self, symbol: Symbol) -> _Ring:
        ring = self._rings.get(symbol)
        if ring is None:
            if len(self._rings) >= self.maximum_symbols:
                raise ConfigurationError(
                    f"symbol {symbol} would be number {self.maximum_symbols + 1:,} in the buffer",
                    hint="raise maximum_symbols, or forget symbols that are no longer subscribed",
                )
            ring = _Ring(np.empty(min(self.capacity, _FIRST_ROWS), dtype=TICK))
            self._bytes += ring.rows.nbytes
            self._rings[symbol] = ring
        return ring

    def _make_room(self, ring: _Ring, count: int) -> None:
        wanted = min(self.capacity, ring.held + count)
        size = len(ring.rows)
        while size < wanted:
            size = min(self.capacity, 2 * size)
        grown = (size - len(ring.rows)) * TICK.itemsize
        if not grown or (self.maximum_bytes is not None and self._reserved() + grown > self.maximum_bytes):
            return
        rows = np.empty(size, dtype=TICK)
        held = ring.held
        rows[:held] = ring.last(held)
        ring.rows, ring.total = rows, held
        self._bytes += grown

    def _reserved(self) -> int:
        """The bytes in use and those that symbols still to come must find."""
        to_come = self.maximum_symbols - len(self._rings)
        return self._bytes + to_come * min(self.capacity, _FIRST_ROWS) * TICK.itemsize

    def _count(self, ring: _Ring, count: int) -> None:
        lost = max(0, ring.held + count - len(ring.rows))
        self._squeezed += lost - max(0, ring.held + count - self.capacity)
        ring.total += count
        self._appended += count
        self._overwritten += lost


class _Ring:
    """One symbol's rows; ``total`` counts every tick written since the rows had their present size."""

    __slots__ = ("rows", "total")

    def __init__(self, rows: Rows) -> None:
        self.rows = rows
        self.total = 0

    @property
    def held(self) -> int:
        return min(self.total, len(self.rows))

    def last(self, count: int) -> Rows:
        size = len(self.rows)
        stop = self.total % size
        start = stop - count
        if start >= 0:
            return self.rows[start:stop].copy()
        return np.concatenate([self.rows[start % size :], self.rows[:stop]])
