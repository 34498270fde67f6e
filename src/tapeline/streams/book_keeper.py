"""Live books of a feed and their depth at an interval: kept from snapshot and deltas, resynchronised, sampled, stored.

No clock of its own: every method takes the instant at which something was received, so that a recorded session gives
the same rows as the live one did.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, TypeAlias

import pandas as pd

from tapeline.core.errors import ConfigurationError
from tapeline.core.symbol import Symbol
from tapeline.streams.book_depth import DepthSampler
from tapeline.streams.book_sync import LiveBooks, Outcome
from tapeline.streams.messages import BookDelta, BookSnapshot, Record

WriteDepth: TypeAlias = Callable[[pd.DataFrame, Symbol], object]
"""Writes rows of ``RAW_DEPTH`` of one instrument, as ``Lake.write`` does."""

MAXIMUM_SILENCE: Final = 30_000_000_000
"""Without a call for so long, ns, the process stood still: the books are no longer what the venue shows."""


@dataclass(frozen=True)
class DepthOptions:
    """What is sampled.

    Parameters
    ----------
    levels:
        Levels a side: 1 is level 1, the best bid and ask; more is level 2.
    interval:
        Nanoseconds between samples.
    """

    levels: int = 20
    interval: int = 1_000_000_000


class BookKeeper:
    """Keeps the books of one connection and samples their depth.

    A gap in a book's numbers, a lost connection or a standstill of the process takes the book out of use until a new
    snapshot has been joined; there are no samples meanwhile.

    Parameters
    ----------
    market:
        The name of a rule in ``book_sequence.RULES``.
    options:
        What is sampled; None keeps the books without samples.

    Examples
    --------
    >>> keeper, btc = BookKeeper("binance", DepthOptions(levels=1)), Symbol.parse("BTCUSDT")
    >>> keeper.take(BookSnapshot(btc, None, [(9.0, 1.0)], [(10.0, 2.0)], 5), 2_500_000_000).value
    'synced'
    >>> keeper.advance(3_500_000_000)
    >>> keeper.flush(lambda frame, symbol: print(symbol, frame["price"].tolist()))
    BTCUSDT [9.0, 10.0]
    2
    """

    def __init__(self, market: str, options: DepthOptions | None = None) -> None:
        self.books, self.options = LiveBooks(market), options
        self.samples = 0
        self._samplers: dict[Symbol, DepthSampler] = {}
        self._unwritten: dict[Symbol, list[pd.DataFrame]] = {}
        self._latest: int | None = None
        self._guard = threading.Lock()

    def take(self, record: Record, received: int) -> Outcome:
        """Take the samples that were due before a record was received, then apply it."""
        self._notice_standstill(received)
        if not isinstance(record, BookDelta | BookSnapshot):
            return self.books.take(record)
        sampler = self._samplers.get(record.symbol)
        if sampler is not None:
            sampler.advance(received)
            return self.books.take(record)
        outcome = self.books.take(record)
        if self.options is not None and outcome is not Outcome.IGNORED:
            live = self.books[record.symbol]
            sampler = DepthSampler(live, interval=self.options.interval, depth=self.options.levels)
            # The first instant that can show this record is the first multiple of the interval from now on.
            sampler.advance(received)
            self._samplers[record.symbol] = sampler
        return outcome

    def advance(self, now: int) -> None:
        """Take the samples due before ``now``, also of books that nothing changes."""
        self._notice_standstill(now)
        for sampler in self._samplers.values():
            sampler.advance(now)

    def disconnect(self) -> None:
        """The connection ended: no book is live until its next snapshot."""
        self.books.disconnect()

    def requests(self) -> list[Symbol]:
        """The instruments that wait for a snapshot."""
        return self.books.requests()

    @property
    def waiting_rows(self) -> int:
        """Rows that were not written yet."""
        with self._guard:
            unwritten = sum(len(frame) for frames in self._unwritten.values() for frame in frames)
        return unwritten + sum(map(len, self._samplers.values()))

    def take_rows(self) -> None:
        """Set the samples so far apart for ``write``, in the thread that feeds the books."""
        for symbol, sampler in self._samplers.items():
            if len(sampler):
                with self._guard:
                    self._unwritten.setdefault(symbol, []).append(sampler.frame())
                sampler.clear()

    def write(self, write: WriteDepth) -> int:
        """Write what was set apart, in any thread; what cannot be written is kept for the next time."""
        with self._guard:
            taken, self._unwritten = self._unwritten, {}
        written = 0
        try:
            while taken:
                symbol, frames = next(iter(taken.items()))
                frame = pd.concat(frames) if len(frames) > 1 else frames[0]
                write(frame, symbol)
                del taken[symbol]
                written += len(frame)
        finally:
            with self._guard:
                for symbol, frames in taken.items():
                    self._unwritten[symbol] = frames + self._unwritten.get(symbol, [])
                self.samples += written
        return written

    def flush(self, write: WriteDepth) -> int:
        """Write all samples so far; gives the number of rows."""
        self.take_rows()
        return self.write(write)

    def counters(self) -> Iterator[tuple[Symbol, dict[str, int]]]:
        """What happened to each book."""
        for live in self.books:
            yield live.symbol, {**vars(live.counters), "live": int(live.live)}

    def _notice_standstill(self, now: int) -> None:
        if self._latest is not None and now - self._latest > MAXIMUM_SILENCE:
            self.books.disconnect()
        self._latest = now if self._latest is None else max(now, self._latest)


def check_depth(levels: int, seconds: float) -> DepthOptions:
    """Options from what a user gives; ConfigurationError with the bound where it is out of it."""
    if not 1 <= levels <= 1_000:
        raise ConfigurationError(f"depth levels = {levels} must be from 1 to 1000", hint="1 is the best bid and ask")
    if not 0.1 <= seconds <= 3_600:
        raise ConfigurationError(f"depth seconds = {seconds} must be from 0.1 to 3600")
    return DepthOptions(levels, round(seconds * 1e9))
