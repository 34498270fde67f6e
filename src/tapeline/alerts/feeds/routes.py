"""What the data manager remembers: of a symbol its sources and who speaks, of a source how far it is."""

from __future__ import annotations

from collections import deque
from typing import Final

from tapeline.alerts.feeds.batcher import Tick
from tapeline.alerts.feeds.source_names import SourceName

NEVER: Final = -(2**62)


class Route:
    """One source of one symbol, and how far it is."""

    __slots__ = ("heard", "instrument", "last", "named", "newest", "rank", "waiting")

    def __init__(self, instrument: Instrument, rank: int, named: SourceName, now: float, standby: int) -> None:
        self.instrument, self.rank, self.named = instrument, rank, named
        self.last, self.newest, self.heard = -1, NEVER, now
        self.waiting: deque[Tick] = deque(maxlen=standby)


class Instrument:
    """One symbol: its sources, who speaks, and the instants that decide."""

    __slots__ = ("active", "cut", "newest", "routes", "silent", "symbol")

    def __init__(self, symbol: str) -> None:
        self.symbol, self.active, self.silent = symbol, 0, False
        self.routes: list[Route] = []
        self.newest = self.cut = NEVER


class Run:
    """Records on their way to the batcher together, and where their routes stood before them."""

    __slots__ = ("before", "source", "ticks")

    def __init__(self, source: str) -> None:
        self.source = source
        self.ticks: list[Tick] = []
        self.before: list[tuple[Route, int, int, int]] = []

    def add(self, route: Route, tick: Tick) -> None:
        """Take a record, and note how far its route is with it."""
        instrument, ts, sequence = route.instrument, tick[1], tick[4]
        self.before.append((route, route.last, route.newest, instrument.newest))
        self.ticks.append(tick if tick[0] == instrument.symbol else tick._replace(symbol=instrument.symbol))
        if sequence >= 0:
            route.last = sequence
        if ts > route.newest:
            route.newest = ts
        if ts > instrument.newest:
            instrument.newest = ts

    def undo(self) -> None:
        """Put the routes back to where they stood before."""
        for route, last, newest, given in reversed(self.before):
            route.last, route.newest, route.instrument.newest = last, newest, given
        self.clear()

    def clear(self) -> None:
        """Forget what was taken."""
        self.ticks, self.before = [], []
