"""The data manager: several sources to one stream per symbol, each record once and in order, or a gap that is said.

Of a symbol's sources one speaks at a time. Another takes over at a definite instant of event time, the newest record
given: what it has up to that instant is passed over, what it has behind it is given. The better source comes back in
the same way, once it has a record behind what was given meanwhile.
"""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from tapeline.alerts.feeds.batcher import Batcher, Tick
from tapeline.alerts.feeds.routes import NEVER, Instrument, Route, Run
from tapeline.alerts.feeds.source_names import EARLIEST, LARGEST, SourceName, fault
from tapeline.core.errors import ConfigurationError, TapelineError
from tapeline.core.symbol import Symbol
from tapeline.streams.alerts import FeedAlert, Kind, OnAlert, ignore
from tapeline.streams.timing import Timing

LARGEST_RUN: Final = 512
"""Records that go to the batcher in one call."""


@dataclass(frozen=True)
class ManagerOptions:
    """How the manager decides.

    Parameters
    ----------
    ahead:
        Seconds that a record may be ahead of our clock; one that is further ahead is refused.
    standby:
        Records kept of each source that waits, for the instant at which it takes over.
    check_every:
        Seconds between two looks for silent sources.
    idle:
        Seconds without any record after which event time follows our clock, that bars of quiet markets close.
    """

    ahead: float = 60.0
    standby: int = 1_024
    check_every: float = 0.5
    idle: float = 5.0


@dataclass
class ManagerCounters:
    """Every decision, counted.

    ``given`` went to the batcher; ``duplicates`` had been given by the same source; ``superseded`` fall in a stretch
    for which another source spoke; ``standby`` were kept of a source that waits, ``standby_dropped`` of them fell out
    again; ``unknown`` are of no watched symbol; ``refused`` have the reasons in :attr:`DataManager.reasons`.
    """

    given: int = 0
    late: int = 0
    duplicates: int = 0
    superseded: int = 0
    standby: int = 0
    standby_dropped: int = 0
    unknown: int = 0
    refused: int = 0
    gaps: int = 0
    values: int = 0
    taken_over: int = 0
    handed_back: int = 0
    silent: int = 0


class DataManager:
    """Sources give, the batcher gets.

    Its methods may be called from any thread. They wait while the batcher is full: on an event loop call them through
    ``asyncio.to_thread``, as the tick collector does with its sink.

    Parameters
    ----------
    batcher:
        Where records go.
    positions:
        By ``source:symbol`` the last sequence that was kept, as batches carry it: what is not newer is a duplicate.

    Examples
    --------
    >>> batcher = Batcher({"BTCUSDT": 0})
    >>> manager = DataManager(batcher)
    >>> manager.watch("BTCUSDT", [SourceName("binance", "BTCUSDT"), SourceName("yahoo", "BTC-USD")])
    >>> manager.take("binance", [Tick("BTCUSDT", 10, 100.0, 1.0, 1), Tick("BTCUSDT", 10, 100.0, 1.0, 1)])
    1
    >>> manager.counters.duplicates, manager.speaking("BTCUSDT")
    (1, 'binance')
    """

    def __init__(
        self,
        batcher: Batcher,
        *,
        positions: dict[str, int] | None = None,
        options: ManagerOptions | None = None,
        on_alert: OnAlert = ignore,
        timing: Timing | None = None,
        name: str = "data",
    ) -> None:
        self.batcher, self.options, self.timing, self.name = (
            batcher,
            options or ManagerOptions(),
            timing or Timing(),
            name,
        )
        self.counters = ManagerCounters()
        self.reasons: Counter[str] = Counter()
        self._positions = dict(positions or {})
        self._on_alert = on_alert
        self._instruments: dict[str, Instrument] = {}
        self._routes: dict[tuple[str, str], Route] = {}
        self._lock = threading.RLock()
        self._heard = self.timing.monotonic()
        self._stopping = asyncio.Event()
        self._chunk = min(LARGEST_RUN, batcher.options.capacity)

    def watch(self, symbol: str, sources: Sequence[SourceName]) -> None:
        """Follow a symbol: the first source is the best, those behind it stand by. Again: its sources are replaced.

        Raises
        ------
        ConfigurationError
            There is no source, one is named twice, or its name there is another symbol's already; or the evaluator
            has no such symbol.
        """
        Symbol.parse(symbol)
        if not self.batcher.knows(symbol):
            raise ConfigurationError(f"{symbol} is not a symbol of the evaluator", hint="add_symbols first")
        keys = [(one.source, one.name) for one in sources]
        if not keys or len({source for source, _ in keys}) < len(keys):
            raise ConfigurationError(f"{symbol}: name at least one source, and each once")
        with self._lock:
            for key in keys:
                route = self._routes.get(key)
                if route is not None and route.instrument.symbol != symbol:
                    raise ConfigurationError(f"{key[1]} of {key[0]} is {route.instrument.symbol} already, not {symbol}")
            before = self._forget(symbol)
            instrument = self._instruments[symbol] = Instrument(symbol)
            if before is not None:
                instrument.newest = before.newest
            held = {route.named.source: route for route in before.routes} if before is not None else {}
            for rank, named in enumerate(sources):
                route = Route(instrument, rank, named, self.timing.monotonic(), self.options.standby)
                route.last = self._positions.get(f"{named.source}:{symbol}", -1)
                if named.source in held:
                    route.last, route.newest = held[named.source].last, held[named.source].newest
                instrument.routes.append(route)
                self._routes[named.source, named.name] = route
            self._set_clock(instrument)

    def unwatch(self, symbol: str) -> None:
        """Follow a symbol no more; how far its sources are is remembered."""
        with self._lock:
            self._forget(symbol)

    def take(self, source: str, ticks: Iterable[Tick]) -> int:
        """Take records of one source in their order, with the symbols as the source spells them.

        A record with a sequence is told apart by it, which must rise; one without by its time, which must rise too.

        Returns
        -------
        int
            How many went on to the batcher.

        Raises
        ------
        TemporaryError
            The batcher is closed. What was given before is a duplicate when it is offered again.
        """
        with self._lock:
            before = self.counters.given
            now, ahead = self.timing.monotonic(), self.timing.wall() + int(self.options.ahead * 1e9)
            routes, run = self._routes, Run(source)
            for tick in ticks:
                route = routes.get((source, tick[0]))
                if route is None:
                    self.counters.unknown += 1
                    continue
                _, ts, price, size, sequence, _ = tick
                # The question that almost every record answers with yes, before the one that says why not.
                if not (0.0 < price <= LARGEST and 0.0 <= size <= LARGEST and EARLIEST <= ts <= ahead):
                    self._pass(run)
                    self._refuse(route, tick, fault(tick, ahead) or "a number out of bounds")
                    continue
                instrument = route.instrument
                if sequence <= route.last if sequence >= 0 else ts <= route.newest:
                    self.counters.duplicates += 1
                    continue
                if route.rank == instrument.active and ts > instrument.cut and not instrument.silent:
                    if len(run.ticks) >= self._chunk:
                        self._pass(run)
                    run.add(route, tick)
                else:
                    self._pass(run)
                    self._seldom(route, tick)
                route.heard = now
            self._pass(run)
            self._heard = now
            return self.counters.given - before

    def gap(self, source: str, name: str, ts: int, detail: str) -> None:
        """Records of a symbol are lost for good: the evaluator is told in their place, and people by an alert."""
        with self._lock:
            route = self._routes.get((source, name))
            if route is None:
                self.counters.unknown += 1
                return
            self._gap(route, ts, detail)

    def value(
        self, symbol: str, key: str, ts: int, value: float, *, event: bool = False, sequence: int = -1, source: str = ""
    ) -> None:
        """Take an external value of a watched symbol, or with ``event`` one of that instant; see ``Batcher.value``."""
        with self._lock:
            if symbol not in self._instruments:
                self.counters.unknown += 1
                return
            if value in (float("inf"), float("-inf")) or abs(value) > LARGEST:
                self.counters.refused += 1
                self.reasons["a value that is not finite"] += 1
                return
            self.batcher.value(symbol, key, ts, value, event=event, sequence=sequence, source=source)
            self.counters.values += 1

    # The four below take no lock: an event loop calls them while a taker may wait for room.

    def heard(self, source: str, name: str) -> None:
        """A source is alive for a symbol though it has no new record."""
        route = self._routes.get((source, name))
        if route is not None:
            route.heard = self.timing.monotonic()

    def reach(self, source: str, name: str, ts: int) -> None:
        """Nothing of a symbol before this instant is still to come from a source with its own clock."""
        route = self._routes.get((source, name))
        if route is not None and route.named.own_clock and route.rank == route.instrument.active:
            self.batcher.reach(route.instrument.symbol, ts)

    def hold(self, source: str, name: str) -> None:
        """Records of a symbol are on their way: its bars stay open for them, see ``Batcher.hold``."""
        route = self._routes.get((source, name))
        if route is not None and route.rank == route.instrument.active:
            self.batcher.hold(route.instrument.symbol)

    def release(self, source: str, name: str) -> None:
        """They have come."""
        route = self._routes.get((source, name))
        if route is not None and route.rank == route.instrument.active:
            self._set_clock(route.instrument)

    def check(self) -> None:
        """Look for sources that fell silent, and let event time go on where everything is quiet."""
        with self._lock:
            now = self.timing.monotonic()
            for instrument in self._instruments.values():
                route = instrument.routes[instrument.active]
                if now - route.heard > route.named.stale_after:
                    self._replace(instrument, now)
            if now - self._heard > self.options.idle:
                # Behind what came last by as much as it was silent: a clock of ours that is ahead closes no bar early.
                self.batcher.advance(self.timing.wall() - int(self.options.idle * 1e9))

    async def run(self) -> None:
        """Check until :meth:`stop`."""
        while not self._stopping.is_set():
            await self.timing.sleep(self.options.check_every)
            await asyncio.to_thread(self.check)

    def stop(self) -> None:
        """Let ``run`` return after its next look."""
        self._stopping.set()

    def sources_of(self, symbol: str) -> tuple[SourceName, ...]:
        """The sources of a symbol, the best first; none where it is not watched."""
        with self._lock:
            instrument = self._instruments.get(symbol)
            return () if instrument is None else tuple(route.named for route in instrument.routes)

    def names(self, source: str) -> dict[str, str]:
        """By what a source calls them, the symbols that are watched of it."""
        with self._lock:
            return {name: route.instrument.symbol for (at, name), route in self._routes.items() if at == source}

    def speaking(self, symbol: str) -> str:
        """The source that gives a symbol's records now."""
        instrument = self._instruments[symbol]
        return instrument.routes[instrument.active].named.source

    def last_taken(self, source: str, name: str) -> int:
        """The last sequence taken of a source that speaks for a symbol, before a restart too; -1: another speaks."""
        route = self._routes.get((source, name))
        return route.last if route is not None and route.rank == route.instrument.active else -1

    @property
    def idle(self) -> float:
        """Seconds since the last record of any source."""
        return max(self.timing.monotonic() - self._heard, 0.0)

    @property
    def silent(self) -> int:
        """How many watched symbols no source has a record of."""
        return sum(one.silent for one in list(self._instruments.values()))

    def positions(self) -> dict[str, int]:
        """By ``source:symbol`` the last sequence seen."""
        routes = list(self._routes.values())
        seen = {f"{one.named.source}:{one.instrument.symbol}": one.last for one in routes if one.last >= 0}
        return {**self._positions, **seen}

    def metrics(self) -> dict[str, Any]:
        """Every counter by name."""
        return {
            **asdict(self.counters),
            "reasons": dict(self.reasons),
            "batcher": asdict(self.batcher.counters),
            "waiting": self.batcher.depth,
        }

    def _pass(self, run: Run) -> None:
        """Give what was gathered; where the batcher refuses, none of it was taken."""
        if not run.ticks:
            return
        try:
            self.batcher.take_all(run.ticks, run.source)
        except TapelineError:
            run.undo()
            raise
        self.counters.given += len(run.ticks)
        self.counters.late += sum(tick[5] for tick in run.ticks)
        run.clear()

    def _seldom(self, route: Route, tick: Tick) -> None:
        """A record of a source that does not speak, or may not yet."""
        instrument = route.instrument
        given = False
        if route.rank == instrument.active:
            given = tick.ts > instrument.cut
            self.counters.superseded += not given
        elif route.rank < instrument.active:
            given = tick.ts > instrument.newest
            if given:
                self._switch(instrument, route)
                self.counters.handed_back += 1
                self._alert("recovered", f"{instrument.symbol}: {route.named.source} speaks again")
            else:
                self.counters.superseded += 1
        else:
            self.counters.standby += 1
            self.counters.standby_dropped += len(route.waiting) == route.waiting.maxlen
            route.waiting.append(tick)
        if given:
            self._give(route, tick)
        # Only now: where the batcher refused, the record is none that was taken.
        if tick.sequence >= 0:
            route.last = tick.sequence
        route.newest = max(route.newest, tick.ts)

    def _give(self, route: Route, tick: Tick) -> None:
        instrument = route.instrument
        symbol, source = instrument.symbol, route.named.source
        self.batcher.take(symbol, tick.ts, tick.price, tick.size, tick.sequence, source, tick.late)
        instrument.newest = max(instrument.newest, tick.ts)
        self.counters.given += 1
        self.counters.late += tick.late
        if instrument.silent:
            instrument.silent = False
            self._alert("recovered", f"{symbol}: {source} gives records again")

    def _replace(self, instrument: Instrument, now: float) -> None:
        """Let the best source that is not silent take over."""
        silent = instrument.routes[instrument.active]
        for route in instrument.routes:
            if route.rank != silent.rank and route.newest > NEVER and now - route.heard <= route.named.stale_after:
                self._switch(instrument, route)
                self.counters.taken_over += 1
                detail = f"no record of {silent.named.source} for {now - silent.heard:.1f} s"
                self._alert("stale", f"{instrument.symbol}: {detail}; {route.named.source} takes over")
                while route.waiting:
                    tick = route.waiting[0]
                    if tick.ts > instrument.cut:
                        self._give(route, tick)
                    else:
                        self.counters.superseded += 1
                    route.waiting.popleft()
                return
        if not instrument.silent:
            instrument.silent = True
            self.counters.silent += 1
            self._alert("stale", f"{instrument.symbol}: no source has a record")

    def _switch(self, instrument: Instrument, route: Route) -> None:
        instrument.active, instrument.cut = route.rank, instrument.newest
        self._set_clock(instrument)

    def _set_clock(self, instrument: Instrument) -> None:
        if instrument.routes[instrument.active].named.own_clock:
            self.batcher.hold(instrument.symbol, for_good=True)
        else:
            self.batcher.release(instrument.symbol)

    def _gap(self, route: Route, ts: int, detail: str) -> None:
        instrument = route.instrument
        self.counters.gaps += 1
        if route.rank == instrument.active:
            self.batcher.gap(instrument.symbol, ts, route.named.source)
        self._alert("gap_unfilled", f"{instrument.symbol} of {route.named.source}: {detail}")

    def _refuse(self, route: Route, tick: Tick, reason: str) -> None:
        """A numbered record that cannot be used is a hole in the numbers: the evaluator is told."""
        self.counters.refused += 1
        self.reasons[reason] += 1
        if tick.sequence > route.last:
            route.last = tick.sequence
            self._gap(route, max(route.newest, EARLIEST), f"record {tick.sequence} has {reason}")

    def _forget(self, symbol: str) -> Instrument | None:
        instrument = self._instruments.pop(symbol, None)
        if instrument is not None:
            for route in instrument.routes:
                del self._routes[route.named.source, route.named.name]
                if route.last >= 0:
                    self._positions[f"{route.named.source}:{symbol}"] = route.last
        return instrument

    def _alert(self, kind: Kind, detail: str) -> None:
        self._on_alert(FeedAlert(self.name, kind, detail, self.timing.wall()))
