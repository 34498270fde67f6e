"""The tick collector: every trade of its instruments once and in order, and their quotes, into a sink."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, Protocol

from tapeline.core.errors import DataError, ProviderError, TapelineError, TemporaryError, ThrottledError
from tapeline.core.symbol import Symbol
from tapeline.streams.alerts import FeedAlert, Kind, OnAlert, ignore
from tapeline.streams.messages import Quote, Record, Trade
from tapeline.streams.timing import Backoff, Timing
from tapeline.streams.trade_sequence import Collected, MissingIds, SequenceCounters, TradeSequence

MAXIMUM_SYMBOLS: Final = 20_000


class Sink(Protocol):
    """Where rows go. What ``append`` has returned from is acknowledged: it is the sink's to keep, also over a crash.

    ``append`` takes all rows or raises and takes none; the same rows are offered again then. It is called in a thread,
    one call at a time, in order.
    """

    def append(self, records: Sequence[Collected]) -> None:
        """Keep the rows, durably before returning."""
        ...


class TradeHistory(Protocol):
    """A venue's trades by id."""

    async def trades_from(self, symbol: Symbol, first: int) -> list[Trade]:
        """One page: every trade with an id of at least ``first``, ascending, up to the venue's page size."""
        ...


@dataclass(frozen=True)
class CollectorOptions:
    """How a collector works.

    Parameters
    ----------
    grace:
        Seconds a missing trade may still come by itself before the history is asked.
    flush_every:
        Seconds between two calls of the sink, at least.
    high_water:
        Rows waiting for the sink at which the connections stop reading, until the sink has taken them.
    patience:
        Attempts that bring nothing after which an alert is raised; the feed then goes on without the missing trades
        and names them in ``unfilled``. None waits for ever.
    concurrency:
        Gaps filled at a time.
    """

    grace: float = 0.25
    flush_every: float = 0.005
    high_water: int = 50_000
    patience: int | None = 30
    concurrency: int = 4
    backoff: Backoff = field(default_factory=lambda: Backoff(first=0.5, cap=30.0))


class TickCollector:
    """Collects trades without gap or copy, and quotes without copy.

    A trade whose id is not the next one waits until the history has given those between. So the sink sees each
    instrument's trades in the order of their ids, whatever the connection did. Quotes have no history at the venue:
    what a broken connection did not bring is gone, but none is stored twice and none goes back.

    Parameters
    ----------
    sink:
        Takes the rows.
    history:
        The venue's trades by id; None where there is none, then a gap is given up at once and named.
    last_ids:
        Of each instrument, the id of the last trade that the sink has: collecting goes on behind it.
    on_rows:
        Sees the rows as they are released, before the sink has them, as for live bars.

    Attributes
    ----------
    gate:
        Cleared while too many rows wait: give it to the connections.
    acknowledged:
        Of each instrument, the last trade id that the sink has.
    unfilled:
        Gaps that were given up, to be repaired later.
    """

    def __init__(
        self,
        sink: Sink,
        history: TradeHistory | None,
        *,
        last_ids: Mapping[str, int] | None = None,
        on_rows: Callable[[list[Collected]], None] | None = None,
        on_alert: OnAlert = ignore,
        options: CollectorOptions | None = None,
        timing: Timing | None = None,
        name: str = "collector",
    ) -> None:
        self.name = name
        self.options, self.timing = options or CollectorOptions(), timing or Timing()
        self.gate = asyncio.Event()
        self.gate.set()
        self.unfilled: list[tuple[Symbol, MissingIds]] = []
        self.acknowledged: dict[Symbol, int] = {}
        self.stored = self.sink_failures = self.history_failures = self.stale_quotes = self.refused = 0
        self._sink, self._history, self._on_rows, self._on_alert = sink, history, on_rows, on_alert
        self._sequences: dict[Symbol, TradeSequence] = {}
        self._quoted: dict[Symbol, int] = {}
        for text, last in (last_ids or {}).items():
            symbol = Symbol.parse(text)
            self._sequences[symbol] = TradeSequence(last)
            self.acknowledged[symbol] = last
        self._waiting: list[Collected] = []
        self._arrived = asyncio.Event()
        self._filling: dict[Symbol, asyncio.Task[None]] = {}
        self._slots = asyncio.Semaphore(self.options.concurrency)
        self._stopping = False

    @property
    def depth(self) -> int:
        """Rows that wait for the sink."""
        return len(self._waiting)

    def take(self, record: Record, received: int) -> None:
        """Take a record of the stream; only trades and quotes are collected."""
        if isinstance(record, Trade):
            self._trade(record, received)
        elif isinstance(record, Quote):
            self._quote(record, received)

    def counters(self) -> SequenceCounters:
        """The sum over all instruments."""
        total = SequenceCounters()
        for sequence in self._sequences.values():
            for name, value in vars(sequence.counters).items():
                setattr(total, name, getattr(total, name) + value)
        return total

    def symbol_counters(self) -> dict[Symbol, SequenceCounters]:
        """The counters of each instrument."""
        return {symbol: replace(sequence.counters) for symbol, sequence in self._sequences.items()}

    def catch_up(self) -> None:
        """Ask the history for what came after the last trade of each instrument: at the start and after a break.

        An instrument that trades rarely would else show its loss only at its next trade.
        """
        if self._history is not None:
            for symbol, sequence in self._sequences.items():
                if sequence.last is not None:
                    self._fill_soon(symbol, at_least_once=True)

    def forget(self, symbols: Iterable[str]) -> None:
        """Forget instruments that are no longer followed: one that comes back begins with what it trades then."""
        for text in symbols:
            symbol = Symbol.parse(text)
            filling = self._filling.get(symbol)
            if filling is not None:
                filling.cancel()
            self._sequences.pop(symbol, None)
            self._quoted.pop(symbol, None)

    async def run(self) -> None:
        """Give rows to the sink until :meth:`stop`, then the last ones; a sink that fails is offered them again.

        May be run again afterwards.
        """
        attempt = 0
        while True:
            if not self._waiting:
                self._arrived.clear()
                if self._stopping:
                    self._stopping = False  # who failed and is run again begins here
                    return
                await self._arrived.wait()
                continue
            batch, self._waiting = self._waiting, []
            while True:
                try:
                    await asyncio.to_thread(self._sink.append, batch)
                    break
                except (OSError, TapelineError) as error:
                    attempt += 1
                    self.sink_failures += 1
                    if attempt == 1:
                        self._alert("sink", f"{type(error).__name__}: {error}")
                    await self.timing.sleep(self.options.backoff.delay(attempt, self.timing.random))
            if attempt:
                self._alert("recovered", "the sink takes rows again")
                attempt = 0
            self.stored += len(batch)
            for row in batch:
                if isinstance(row.record, Trade):
                    self.acknowledged[row.record.symbol] = int(row.record.id)
            if len(self._waiting) < self.options.high_water:
                self.gate.set()
            await self.timing.sleep(self.options.flush_every)

    async def stop(self) -> None:
        """Stop filling gaps and let ``run`` return when the sink has what was released."""
        tasks = list(self._filling.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._stopping = True
        self._arrived.set()

    async def settle(self) -> None:
        """Wait until no gap is being filled."""
        while self._filling:
            await asyncio.wait(set(self._filling.values()))

    def _trade(self, trade: Trade, received: int) -> None:
        sequence = self._sequences.get(trade.symbol)
        if sequence is None:
            if len(self._sequences) >= MAXIMUM_SYMBOLS:
                self.refused += 1
                return
            sequence = self._sequences[trade.symbol] = TradeSequence()
        try:
            rows = sequence.take(trade, received)
        except DataError:
            self.refused += 1
            return
        if rows:
            self._release(rows)
        elif sequence.gap is not None:
            self._fill_soon(trade.symbol)

    def _quote(self, quote: Quote, received: int) -> None:
        if quote.sequence is not None:
            if quote.sequence <= self._quoted.get(quote.symbol, -1):
                self.stale_quotes += 1
                return
            if quote.symbol not in self._quoted and len(self._quoted) >= MAXIMUM_SYMBOLS:
                self.refused += 1
                return
            self._quoted[quote.symbol] = quote.sequence
        self._release([Collected(quote, received)])

    def _release(self, rows: list[Collected]) -> None:
        self._waiting += rows
        self._arrived.set()
        if len(self._waiting) >= self.options.high_water:
            self.gate.clear()
        if self._on_rows is not None:
            self._on_rows(rows)

    def _fill_soon(self, symbol: Symbol, *, at_least_once: bool = False) -> None:
        if symbol not in self._filling:
            task = asyncio.create_task(self._fill(symbol, at_least_once))
            self._filling[symbol] = task
            task.add_done_callback(lambda _: self._filling.pop(symbol, None))

    async def _fill(self, symbol: Symbol, at_least_once: bool) -> None:
        sequence, failures = self._sequences[symbol], 0
        patience = self.options.patience if self._history is not None else 1
        if not at_least_once:
            # After a start or a break what is missing does not come by itself.
            await self.timing.sleep(self.options.grace)
        while at_least_once or sequence.gap is not None:
            async with self._slots:
                progress, wait, reason = await self._page(symbol, sequence)
            if progress:
                failures = 0
                continue
            at_least_once = at_least_once and wait > 0
            if sequence.gap is None and not at_least_once:
                return
            failures += 1
            if patience is not None and failures >= patience:
                if sequence.gap is not None:
                    self._give_up(symbol, sequence, reason)
                    failures = 0
                    continue
                if failures == patience:
                    detail = f"{symbol}: what came after trade {sequence.last} is not known: {reason}"
                    self._alert("gap_unfilled", detail)
            await self.timing.sleep(max(self.options.backoff.delay(failures, self.timing.random), wait))

    async def _page(self, symbol: Symbol, sequence: TradeSequence) -> tuple[bool, float, str]:
        """Whether a page brought something; the least pause before the next, 0 where the answer was good; why."""
        if self._history is None or sequence.last is None:
            return False, 0.0, "there is no history"
        first = sequence.last + 1
        try:
            page = await self._history.trades_from(symbol, first)
            rows = sequence.fill(first, page, self.timing.wall())
        except (TemporaryError, ProviderError, DataError) as error:
            self.history_failures += 1
            retry_after = error.retry_after if isinstance(error, ThrottledError) else None
            return False, retry_after or 1e-3, str(error)
        # While the page was under way, trades may have come in order by themselves: nothing new is an answer, too.
        if rows:
            self._release(rows)
        return bool(rows), 0.0, "the history does not reach what was streamed"

    def _give_up(self, symbol: Symbol, sequence: TradeSequence, reason: str) -> None:
        gap, rows = sequence.give_up()
        if gap is not None:
            self.unfilled.append((symbol, gap))
            self._alert("gap_unfilled", f"{symbol}: trades {gap.first} to {gap.last}: {reason}")
        if rows:
            self._release(rows)

    def _alert(self, kind: Kind, detail: str) -> None:
        self._on_alert(FeedAlert(self.name, kind, detail, self.timing.wall()))


def describe(collector: TickCollector) -> dict[str, Any]:
    """The collector's counters by name, for metrics."""
    return {
        **vars(collector.counters()),
        "stored": collector.stored,
        "waiting": collector.depth,
        "sink_failures": collector.sink_failures,
        "history_failures": collector.history_failures,
        "stale_quotes": collector.stale_quotes,
        "refused": collector.refused,
    }
