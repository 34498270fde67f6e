"""The batcher: records one by one from any thread, batches for the evaluator by time or number, and the clock of all.

A record is packed into 40 bytes when it comes, in one call of C, and a batch is made of them column by column.
"""

from __future__ import annotations

import struct
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tapeline.alerts.engine.evaluator import Batch
from tapeline.alerts.engine.kernel import CLOCK, EVENT, GAP, TRADE, VALUE
from tapeline.alerts.processor import Taken
from tapeline.core.errors import ConfigurationError, DataError, TemporaryError
from tapeline.core.nanoseconds import SECOND

ROW: Final = np.dtype(
    [
        ("symbol", "<i4"),
        ("record", "u1"),
        ("late", "u1"),
        ("source", "<u2"),
        ("ts", "<i8"),
        ("price", "<f8"),
        ("size", "<f8"),
        ("sequence", "<i8"),
    ]
)
"""One record: ``symbol`` is the evaluator's number (-1: all), ``record`` a code of the kernel, ``source`` a number of
the batcher (``NO_SOURCE``: none), ``ts`` nanoseconds. Of an external value ``size`` is its place in the symbol's block.
"""
NO_SOURCE: Final = 0xFFFF
_PACK: Final = struct.Struct("<iBBHqddq")
_EARLIEST: Final = -(2**62)
_FOR_GOOD: Final = 2**62


class Tick(NamedTuple):
    """One price of a symbol as a source gave it. ``sequence`` is the source's number of it, -1 where it has none."""

    symbol: str
    ts: int
    price: float
    size: float
    sequence: int = -1
    late: bool = False


class Rows(NamedTuple):
    """A batch as it came: rows of ``ROW``, the names of their sources, and symbol and key of each external value."""

    rows: NDArray[np.void]
    sources: tuple[str, ...]
    external: Mapping[int, tuple[str, str]]


@dataclass(frozen=True)
class BatcherOptions:
    """How records become batches.

    Parameters
    ----------
    window:
        Nanoseconds that the first record of a batch waits for others.
    most:
        Records a batch.
    capacity:
        Records waiting at which :meth:`Batcher.take` waits in its turn: nothing is dropped.
    lateness:
        Seconds of event time that the clock stays behind the newest record, so that slower symbols still reach their
        bars.
    hold_most:
        Seconds of event time for which the clock stands still for a symbol that :meth:`Batcher.hold` names.
    """

    window: int = 500_000
    most: int = 4_096
    capacity: int = 65_536
    lateness: float = 2.0
    hold_most: float = 60.0

    def __post_init__(self) -> None:
        if self.window < 0 or not 1 <= self.most <= self.capacity:
            raise ConfigurationError(
                f"window = {self.window} must not be negative and most = {self.most} must be 1 to capacity = "
                f"{self.capacity}"
            )
        if not (self.lateness >= 0 and self.hold_most >= 0):
            raise ConfigurationError(f"lateness = {self.lateness} and hold_most = {self.hold_most} must be 0 or more")


@dataclass
class BatcherCounters:
    """What went through. ``waits``: times a taker found it full; ``unread``: values that no rule reads."""

    records: int = 0
    batches: int = 0
    clocks: int = 0
    waits: int = 0
    unread: int = 0
    holds_expired: int = 0


class Batcher:
    """Gathers records into batches; any thread may take, one flushes.

    Each second of event time, ``lateness`` behind the newest trade, a clock record of all symbols goes in, so that
    the bars of those that do not trade close as well. Its place is before the record that moved it: the records in
    their order are the same however they are cut into batches.

    Parameters
    ----------
    numbers:
        The evaluator's numbers of the symbols (``Evaluator.symbols``): it may grow.
    place_of:
        Where an external value of a symbol stands (symbol, key), DataError where nobody reads it: asked at the flush,
        since rules that come move places.
    clock:
        Nanoseconds, monotonic: when the first record of a batch came.
    block:
        Whether a taker waits where it is full; else it is refused.

    Attributes
    ----------
    waited:
        Seconds that the first record of the last batch had waited.

    Examples
    --------
    >>> batcher = Batcher({"BTCUSDT": 0}, clock=lambda: 0)
    >>> batcher.take("BTCUSDT", 5_000_000_000, 100.0, 0.5, 7, "binance")
    >>> batcher.take("BTCUSDT", 6_000_000_000, 101.0, 0.5, 8, "binance")
    >>> batcher.flush(100_000) is None
    True
    >>> batch, taken = batcher.flush(500_000)
    >>> batch.symbols.tolist(), batch.times.tolist()
    ([0, -1, 0], [5000000000, 4000000000, 6000000000])
    >>> taken.positions
    {'binance:BTCUSDT': 8}
    """

    def __init__(
        self,
        numbers: Mapping[str, int],
        *,
        place_of: Callable[[str, str], int] | None = None,
        options: BatcherOptions | None = None,
        clock: Callable[[], int] = time.monotonic_ns,
        block: bool = True,
    ) -> None:
        self.options = options or BatcherOptions()
        self.counters = BatcherCounters()
        self.watermark = _EARLIEST
        self.waited = 0.0
        self._numbers, self._place_of, self._clock, self._block = numbers, place_of, clock, block
        self._sources: dict[str, int] = {}
        self._rows: list[bytes] = []
        self._external: dict[int, tuple[str, str]] = {}
        self._since, self._newest = 0, _EARLIEST
        self._lateness = int(self.options.lateness * SECOND)
        self._next_clock = _EARLIEST
        self._held: dict[int, int] = {}
        self._by_number: dict[int, str] = {}
        self._changed = threading.Condition()
        self._closed = False

    @property
    def depth(self) -> int:
        """Records that wait for a flush."""
        return len(self._rows)

    @property
    def sources(self) -> tuple[str, ...]:
        """The sources by their numbers."""
        return tuple(self._sources)

    def take(
        self, symbol: str, ts: int, price: float, size: float, sequence: int = -1, source: str = "", late: bool = False
    ) -> None:
        """Take a trade.

        Raises
        ------
        DataError
            The symbol is not the evaluator's.
        TemporaryError
            It is full and does not block, or it was closed: the record is not taken.
        """
        with self._changed:
            self._room(1)
            self._trade(self._number(symbol), ts, price, size, sequence, self._source(source), late)

    def take_all(self, ticks: Iterable[Tick], source: str) -> None:
        """Take trades of one source in their order, all or none; symbols are the evaluator's."""
        some = list(ticks)
        with self._changed:
            self._room(len(some))
            number = self._source(source)
            numbers = [self._number(tick[0]) for tick in some]
            pack, rows = _PACK.pack, self._rows
            if some and not rows:
                self._since = self._clock()
                self._changed.notify_all()
            for one, (_, ts, price, size, sequence, late) in zip(numbers, some, strict=True):
                if ts > self._newest:
                    self._newest = ts
                    if ts >= self._next_clock:
                        self._reach(ts)
                rows.append(pack(one, TRADE, late, number, ts, price, size, sequence))
            self.counters.records += len(some)

    def value(
        self, symbol: str, key: str, ts: int, value: float, *, event: bool = False, sequence: int = -1, source: str = ""
    ) -> None:
        """Take an external value, or with ``event`` one that holds for this instant only.

        Parameters
        ----------
        key:
            The external series, such as ``sentiment:level``.
        ts:
            When it became known, nanoseconds.
        """
        with self._changed:
            self._room(1)
            number = self._number(symbol)
            self._external[len(self._rows)] = (symbol, key)
            row = _PACK.pack(number, EVENT if event else VALUE, 0, self._source(source), ts, value, -1.0, sequence)
            self._put(row)

    def gap(self, symbol: str, ts: int, source: str = "") -> None:
        """Say that records of a symbol are missing here: on which side of a threshold it was is not known."""
        with self._changed:
            self._room(1)
            number = self._number(symbol)
            self._put(_PACK.pack(number, GAP, 1, self._source(source), ts, 0.0, 0.0, -1))

    def advance(self, ts: int) -> None:
        """Let event time reach an instant without a trade, as where all markets are quiet; never back."""
        with self._changed:
            self._reach(ts)

    def knows(self, symbol: str) -> bool:
        """Whether the evaluator has such a symbol."""
        return symbol in self._numbers

    def hold(self, symbol: str, *, for_good: bool = False) -> None:
        """Stop the clock for a symbol whose records are on their way: its bars wait for them.

        Parameters
        ----------
        for_good:
            Its records always come late: only :meth:`reach` moves its clock, until :meth:`release`.
        """
        with self._changed:
            number = self._number(symbol)
            if for_good:
                self._held[number] = _FOR_GOOD
            else:
                self._held.setdefault(number, self._newest)

    def reach(self, symbol: str, ts: int) -> None:
        """Put a clock record of one symbol: nothing of it before this instant is still to come."""
        with self._changed:
            self._put(_PACK.pack(self._number(symbol), CLOCK, 0, NO_SOURCE, ts, 0.0, 0.0, -1))

    def release(self, symbol: str) -> None:
        """Let the clock of a symbol catch up with that of the others."""
        with self._changed:
            self._release(self._number(symbol))

    def flush(self, now: int, *, force: bool = False) -> tuple[Batch, Taken] | None:
        """The next batch, None where none is due: the first record waited less than the window and there is room.

        Parameters
        ----------
        now:
            Nanoseconds of the batcher's clock.
        force:
            Give what there is.
        """
        found = self.flush_rows(now, force=force)
        if found is None:
            return None
        rows = self._placed(found.rows, found.external)
        return batch_of(rows, found.sources, self._names(rows))

    def flush_rows(self, now: int, *, force: bool = False) -> Rows | None:
        """The next batch as it came, for who places external values elsewhere; due as :meth:`flush` has it."""
        with self._changed:
            waiting, most = len(self._rows), self.options.most
            if not waiting or not (force or waiting >= most or now - self._since >= self.options.window):
                return None
            rows = np.frombuffer(b"".join(self._rows[:most]), ROW).copy()
            external, self._external = self._external, {}
            for at, named in external.items():
                if at >= most:
                    self._external[at - most] = named
            del self._rows[:most]
            self.counters.batches += 1
            self.waited = max(now - self._since, 0) / SECOND
            sources = tuple(self._sources)
            self._changed.notify_all()
        return Rows(rows, sources, {at: named for at, named in external.items() if at < most})

    def wait(self, timeout: float) -> bool:
        """Wait until there is a record, at most so many seconds; whether there is one."""
        with self._changed:
            return self._changed.wait_for(lambda: bool(self._rows) or self._closed, timeout) and bool(self._rows)

    def next(self, timeout: float) -> tuple[Batch, Taken] | None:
        """Wait for the next batch as :meth:`flush` defines it; None where no record came in so many seconds."""
        with self._changed:
            if not self._changed.wait_for(lambda: bool(self._rows) or self._closed, timeout):
                return None
            left = self.options.window - (self._clock() - self._since)
            if left > 0 and len(self._rows) < self.options.most and not self._closed:
                self._changed.wait(left / SECOND)
        return self.flush(self._clock(), force=True)

    def close(self) -> None:
        """Wake those who wait; nothing more is taken."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _trade(self, number: int, ts: int, price: float, size: float, sequence: int, source: int, late: bool) -> None:
        if ts > self._newest:
            self._newest = ts
            if ts >= self._next_clock:
                self._reach(ts)
        self._put(_PACK.pack(number, TRADE, late, source, ts, price, size, sequence))

    def _put(self, row: bytes) -> None:
        if not self._rows:
            self._since = self._clock()
            self._changed.notify_all()
        self._rows.append(row)
        self.counters.records += 1

    def _reach(self, ts: int) -> None:
        """Put a clock record where a further second has passed, ``lateness`` behind."""
        self._newest = max(self._newest, ts)
        reached = (ts - self._lateness) // SECOND * SECOND
        if reached <= self.watermark:
            return
        begun, self.watermark = self.watermark > _EARLIEST, reached
        self._next_clock = reached + SECOND + self._lateness
        if not begun:
            # Nothing was before the first record that could close now.
            self._held = {number: max(since, ts) for number, since in self._held.items()}
            return
        longest = int(self.options.hold_most * SECOND)
        for number in [number for number, since in self._held.items() if ts - since > longest]:
            self.counters.holds_expired += 1
            del self._held[number]
        if not self._held:
            self._clock_of(-1)
            return
        for number in self._numbers.values():
            if number not in self._held:
                self._clock_of(number)

    def _release(self, number: int) -> None:
        if self._held.pop(number, None) is not None and self.watermark > _EARLIEST:
            self._clock_of(number)

    def _clock_of(self, number: int) -> None:
        self.counters.clocks += 1
        self._put(_PACK.pack(number, CLOCK, 0, NO_SOURCE, self.watermark, 0.0, 0.0, -1))

    def _room(self, rows: int) -> None:
        capacity = self.options.capacity
        if len(self._rows) + rows > capacity and self._rows and not self._closed:
            self.counters.waits += 1
            if not self._block:
                raise TemporaryError(f"{len(self._rows)} records wait for a flush, of {capacity} at most")
            self._changed.wait_for(lambda: len(self._rows) + rows <= capacity or not self._rows or self._closed)
        if self._closed:
            raise TemporaryError("the batcher is closed: nothing more is taken")

    def _number(self, symbol: str) -> int:
        try:
            return self._numbers[symbol]
        except KeyError:
            raise DataError(f"symbol {symbol!r} is not known here", hint="add_symbols first") from None

    def _source(self, source: str) -> int:
        if not source:
            return NO_SOURCE
        number = self._sources.get(source)
        if number is None:
            if len(self._sources) >= NO_SOURCE:
                raise ConfigurationError(f"source {source!r}: there are {NO_SOURCE} sources already")
            number = self._sources[source] = len(self._sources)
        return number

    def _names(self, rows: NDArray[np.void]) -> Mapping[int, str]:
        wanted = set(rows["symbol"][rows["sequence"] >= 0].tolist())
        if not wanted:
            return {}
        if len(self._by_number) != len(self._numbers):
            self._by_number = {number: name for name, number in self._numbers.items()}
        return self._by_number

    def _placed(self, rows: NDArray[np.void], external: Mapping[int, tuple[str, str]]) -> NDArray[np.void]:
        """Give external values their places; those that nobody reads are left out."""
        unread = []
        for at, (symbol, key) in external.items():
            try:
                if self._place_of is None:
                    raise DataError(f"{key}: there are no external series here")
                rows["size"][at] = self._place_of(symbol, key)
            except DataError:
                unread.append(at)
        self.counters.unread += len(unread)
        return np.delete(rows, unread) if unread else rows


def batch_of(rows: NDArray[np.void], sources: tuple[str, ...], names: Mapping[int, str]) -> tuple[Batch, Taken]:
    """Rows as the evaluator and the processor take them.

    Parameters
    ----------
    rows:
        Of ``ROW``.
    sources, names:
        What the numbers of sources and symbols in them mean; ``names`` only where a record carries a sequence.

    Examples
    --------
    >>> rows = np.zeros(1, ROW)
    >>> rows["sequence"] = 9
    >>> batch_of(rows, ("binance",), {0: "BTCUSDT"})[1].positions
    {'binance:BTCUSDT': 9}
    """
    symbols, times, prices = (np.ascontiguousarray(rows[name]) for name in ("symbol", "ts", "price"))
    batch = Batch(symbols, times, prices, np.ascontiguousarray(rows["size"]), np.ascontiguousarray(rows["record"]))
    sequences, late = np.ascontiguousarray(rows["sequence"]), rows["late"].astype(np.bool_)
    positions: dict[str, int] = {}
    numbered = zip(rows["source"].tolist(), symbols.tolist(), sequences.tolist(), strict=True)
    last = {(source, symbol): sequence for source, symbol, sequence in numbered if sequence >= 0}
    for (source, symbol), sequence in last.items():
        positions[f"{sources[source] if source != NO_SOURCE else ''}:{names[symbol]}"] = sequence
    return batch, Taken(symbols, times, prices, sequences, late, positions, batch.records)
