"""The live feed: quotes, the forming bar and the instrument's status, to any number of subscribers."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

import pandas as pd

from tapeline.candles.builder import CandleBuilder
from tapeline.candles.finished import Candle as Bar
from tapeline.candles.time_bars import TimeCandles
from tapeline.core.errors import ConfigurationError, DataError
from tapeline.core.symbol import Symbol
from tapeline.core.timeframe import Timeframe
from tapeline.streams.messages import Quote, Trade, msgspec
from tapeline.streams.quotes import LiveQuote, QuoteBoard
from tapeline.streams.subscribers import Policy, Subscriber
from tapeline.streams.timing import Timing

Status: TypeAlias = Literal["open", "closed", "halted", "stale"]
Topic: TypeAlias = Literal["quote", "bar", "forming", "status"]
TOPICS: Final[tuple[Topic, ...]] = ("quote", "bar", "forming", "status")
MAXIMUM_BUILDERS: Final = 50_000


class BarUpdate(msgspec.Struct, frozen=True):
    """A bar of an instrument. Complete where ``final``; else as it stands, and it may still change."""

    symbol: Symbol
    timeframe: str
    ts: int
    open: float
    high: float
    low: float
    close: float
    volume: float
    tick_count: int
    final: bool


class StatusUpdate(msgspec.Struct, frozen=True):
    """The status of an instrument has become this one at ``at`` (ns, our clock)."""

    symbol: Symbol
    status: Status
    at: int


@dataclass(frozen=True)
class _Reader:
    subscriber: Subscriber
    symbols: frozenset[Symbol] | None
    topics: frozenset[str]

    def wants(self, topic: str, symbol: Symbol) -> bool:
        return topic in self.topics and (self.symbols is None or symbol in self.symbols)


class LiveFeed:
    """One place where quotes and trades come in and everybody reads.

    An instrument is ``closed`` where ``is_open`` or the venue says so, else ``halted`` where the venue says so, else
    ``stale`` where neither trade nor quote came for ``stale_after`` seconds (or ever), else ``open``.

    Parameters
    ----------
    timeframes:
        Of the bars that are formed from trades.
    stale_after:
        Seconds on the monotonic clock.
    is_open:
        Whether the market of an instrument is open at an instant (ns): a calendar's answer. Absent: always.

    Examples
    --------
    >>> feed, btc = LiveFeed(timeframes=["M1"]), Symbol.parse("BTCUSDT")
    >>> reader = feed.subscribe(["BTCUSDT"], topics=["bar"])
    >>> for number, (ts, price) in enumerate(((0, 10.0), (30, 12.0), (60, 11.0))):
    ...     feed.trade(Trade(btc, ts * 1_000_000_000, price, 1.0, 1, str(number)))
    >>> bar = reader.take()
    >>> (bar.ts, bar.open, bar.high, bar.close, bar.volume, bar.final), feed.status("BTCUSDT")
    ((0, 10.0, 12.0, 12.0, 2.0, True), 'open')
    """

    def __init__(
        self,
        *,
        timeframes: Iterable[str | Timeframe] = (),
        stale_after: float = 60.0,
        is_open: Callable[[Symbol, int], bool] | None = None,
        timing: Timing | None = None,
    ) -> None:
        if not stale_after > 0:
            raise ConfigurationError(f"stale_after = {stale_after} must be positive")
        self.board = QuoteBoard()
        self.stale_after, self.is_open, self.timing = stale_after, is_open, timing or Timing()
        self.disconnected = self.late_for_bar = self.refused = 0
        self._timeframes = tuple(dict.fromkeys(Timeframe.parse(each) for each in timeframes))
        self._builders: dict[tuple[Symbol, Timeframe], CandleBuilder] = {}
        self._readers: list[_Reader] = []
        self._topics: frozenset[str] = frozenset()
        self._heard: dict[Symbol, float] = {}
        self._said: dict[Symbol, Status] = {}
        self._venue: dict[Symbol, Literal["open", "closed", "halted"]] = {}

    @property
    def subscribers(self) -> list[Subscriber]:
        """Those who read."""
        return [reader.subscriber for reader in self._readers]

    def subscribe(
        self,
        symbols: Iterable[str] | None = None,
        *,
        topics: Iterable[Topic] = TOPICS,
        policy: Policy = "conflate",
        size: int = 10_000,
    ) -> Subscriber:
        """A new reader.

        Parameters
        ----------
        symbols:
            None for all.
        topics:
            ``quote``, ``bar`` (complete bars), ``forming`` (the bar as it stands, put together when it is read),
            ``status``.
        policy, size:
            See :class:`~tapeline.streams.subscribers.Subscriber`. A forming bar is a state under either policy: only
            its latest waits.
        """
        wanted = frozenset(topics)
        if not wanted or not wanted <= set(TOPICS):
            raise ConfigurationError(f"topics {sorted(wanted)} are not of {', '.join(TOPICS)}")
        if wanted & {"bar", "forming"} and not self._timeframes and wanted != set(TOPICS):
            raise ConfigurationError("the feed forms no bars", hint="give it timeframes")
        reader = _FormingSubscriber(policy, size=size)
        named = None if symbols is None else frozenset(Symbol.parse(symbol) for symbol in symbols)
        self._readers.append(_Reader(reader, named, wanted))
        self._retopic()
        return reader

    def unsubscribe(self, subscriber: Subscriber) -> None:
        """Let a reader go."""
        subscriber.close()
        self._readers = [reader for reader in self._readers if reader.subscriber is not subscriber]
        self._retopic()

    def quote(self, quote: Quote, known_at: int) -> None:
        """Take a quote."""
        self._hear(quote.symbol)
        live = self.board.take(quote, known_at)
        if live is not None and "quote" in self._topics:
            self._offer("quote", quote.symbol, ("quote", quote.symbol), live)

    def trade(self, trade: Trade) -> None:
        """Take a trade, in the order of its ids: after a gap was filled the bars are as if there had been none."""
        symbol = trade.symbol
        self._hear(symbol)
        for timeframe in self._timeframes:
            builder = self._builder(symbol, timeframe)
            if builder is None:
                continue
            try:
                bars = builder.push(trade.ts, trade.price, trade.size, trade.side)
            except DataError:
                # Time went back within the ids, or the clock has closed the bar.
                self.late_for_bar += 1
                continue
            for bar in bars:
                self._finished(symbol, timeframe, bar)
            if "forming" in self._topics:
                key = ("forming", symbol, timeframe)
                self._offer("forming", symbol, key, _Forming(self, symbol, timeframe))

    def forming(self, symbol: str, timeframe: str | Timeframe) -> BarUpdate | None:
        """The bar that is being formed, None where there is none."""
        frame = Timeframe.parse(timeframe)
        builder = self._builders.get((Symbol.parse(symbol), frame))
        bar: pd.DataFrame | None = None if builder is None else builder.forming()
        if bar is None or bar.empty:
            return None
        row: Any = bar.iloc[0]
        prices = float(row["open"]), float(row["high"]), float(row["low"]), float(row["close"])
        count, ts = int(row["tick_count"]), int(pd.Timestamp(bar.index[0]).value)
        return BarUpdate(Symbol.parse(symbol), frame.name, ts, *prices, float(row["volume"]), count, False)

    def quote_of(self, symbol: str) -> LiveQuote | None:
        """The current quote."""
        return self.board.quote(symbol)

    def venue_status(self, symbol: str, status: Literal["open", "closed", "halted"]) -> None:
        """Take what the venue says of an instrument."""
        name = Symbol.parse(symbol)
        self._venue[name] = status
        self._say(name)

    def status(self, symbol: str) -> Status:
        """The status of an instrument now."""
        name = Symbol.parse(symbol)
        said = self._venue.get(name, "open")
        if said == "closed" or (self.is_open is not None and not self.is_open(name, self.timing.wall())):
            return "closed"
        if said == "halted":
            return "halted"
        heard = self._heard.get(name)
        return "stale" if heard is None or self.timing.monotonic() - heard > self.stale_after else "open"

    def check(self) -> None:
        """Tell the subscribers of each status that has changed by time alone: call it about once a second."""
        for symbol in {*self._heard, *self._venue}:
            self._say(symbol)

    def _hear(self, symbol: Symbol) -> None:
        first = symbol not in self._heard
        self._heard[symbol] = self.timing.monotonic()
        if first or self._said[symbol] == "stale":
            self._say(symbol)

    def _say(self, symbol: Symbol) -> None:
        status = self.status(symbol)
        if self._said.get(symbol) != status:
            self._said[symbol] = status
            if "status" in self._topics:
                update = StatusUpdate(symbol, status, self.timing.wall())
                self._offer("status", symbol, ("status", symbol), update)

    def _builder(self, symbol: Symbol, timeframe: Timeframe) -> CandleBuilder | None:
        builder = self._builders.get((symbol, timeframe))
        if builder is None:
            if len(self._builders) >= MAXIMUM_BUILDERS:
                self.refused += 1
                return None
            builder = CandleBuilder(TimeCandles(timeframe), columns=("volume", "side"))
            self._builders[symbol, timeframe] = builder
        return builder

    def _finished(self, symbol: Symbol, timeframe: Timeframe, bar: Bar) -> None:
        if "bar" in self._topics:
            prices = bar.open, bar.high, bar.low, bar.close, bar.volume
            update = BarUpdate(symbol, timeframe.name, bar.ts, *prices, int(bar.tick_count), True)
            self._offer("bar", symbol, ("bar", symbol, timeframe, bar.ts), update)

    def _offer(self, topic: str, symbol: Symbol, key: tuple[Any, ...], update: Any) -> None:
        slow = False
        for reader in self._readers:
            if reader.wants(topic, symbol):
                reader.subscriber.offer(key, update)
                slow = slow or reader.subscriber.too_slow
        if slow:
            kept = [reader for reader in self._readers if not reader.subscriber.too_slow]
            self.disconnected += len(self._readers) - len(kept)
            self._readers = kept
            self._retopic()

    def _retopic(self) -> None:
        self._topics = frozenset().union(*(reader.topics for reader in self._readers))


class _Forming:
    """A forming bar that is put together when it is read: most are replaced before anybody does."""

    __slots__ = ("feed", "symbol", "timeframe")

    def __init__(self, feed: LiveFeed, symbol: Symbol, timeframe: Timeframe) -> None:
        self.feed, self.symbol, self.timeframe = feed, symbol, timeframe

    def read(self) -> BarUpdate | None:
        return self.feed.forming(self.symbol, self.timeframe)


class _FormingSubscriber(Subscriber):
    """A subscriber that reads forming bars when they are taken, and keeps only the latest of each waiting."""

    def offer(self, key: Any, update: Any) -> None:
        if self.policy == "disconnect" and isinstance(update, _Forming):
            if key in self._states:
                self.conflated += 1
            elif not self.closed and len(self._states) < self.size:
                self._states[key] = update
                self._ready.set()
            return
        super().offer(key, update)

    def take(self) -> Any | None:
        while (update := super().take()) is not None:
            bar = update.read() if isinstance(update, _Forming) else update
            if bar is not None:
                return bar
        return None
