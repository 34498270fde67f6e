"""Live quotes: the best bid and ask of each instrument with spread, mid and micro-price, and how the spread behaves."""

from __future__ import annotations

import math
from typing import Final, NamedTuple

from tapeline.core.symbol import Symbol
from tapeline.streams.messages import Quote, msgspec

MAXIMUM_SYMBOLS: Final = 100_000


class LiveQuote(msgspec.Struct, frozen=True, gc=False):
    """A quote and what follows from it.

    ``ts`` is the venue's time, None where it sends none; ``known_at`` when we received it; both ns.
    """

    symbol: Symbol
    ts: int | None
    known_at: int
    bid: float
    bid_size: float
    ask: float
    ask_size: float

    @property
    def spread(self) -> float:
        """Ask less bid, in the price's unit; negative where the quote is crossed."""
        return self.ask - self.bid

    @property
    def mid(self) -> float:
        """Halfway between bid and ask."""
        return 0.5 * (self.bid + self.ask)

    @property
    def spread_bps(self) -> float:
        """The spread in hundredths of a percent of the mid."""
        return 1e4 * self.spread / self.mid

    @property
    def microprice(self) -> float:
        """Bid and ask, each weighted with the OTHER side's size: where the larger side pushes the price.

        NaN where the venue sends no sizes. Gatheral and Oomen 2010, "Zero-intelligence realized variance estimation",
        where it is the micro-price.

        Examples
        --------
        >>> LiveQuote(Symbol.parse("BTCUSDT"), None, 0, 10.0, 3.0, 11.0, 1.0).microprice
        10.75
        """
        total = self.bid_size + self.ask_size
        return (self.bid * self.ask_size + self.ask * self.bid_size) / total if total > 0 else math.nan


class SpreadStatistics(NamedTuple):
    """The spread of one instrument, in bps of the mid, over the quotes since the start; crossed ones stand apart.

    ``time_weighted`` weighs each spread with how long it stood (our clock); NaN before any time has passed.
    """

    quotes: int
    crossed: int
    mean: float
    deviation: float
    minimum: float
    maximum: float
    time_weighted: float


class _State:
    __slots__ = ("area", "crossed", "high", "low", "mean", "quote", "quotes", "sequence", "squares", "time")

    def __init__(self, quote: LiveQuote) -> None:
        self.quote = quote
        self.sequence = -1
        self.quotes = self.crossed = self.time = 0
        self.mean = self.squares = self.area = 0.0
        self.low, self.high = math.inf, -math.inf


class QuoteBoard:
    """The current quote and the spread statistics of each instrument, in constant memory an instrument.

    Examples
    --------
    >>> board, btc = QuoteBoard(), Symbol.parse("BTCUSDT")
    >>> for number, ask in enumerate((101.0, 103.0)):
    ...     quote = board.take(Quote(btc, None, 99.0, 1.0, ask, 1.0, number), number * 10)
    >>> quote.spread, quote.mid
    (4.0, 101.0)
    >>> board.statistics(btc).minimum
    200.0
    """

    def __init__(self, *, maximum_symbols: int = MAXIMUM_SYMBOLS) -> None:
        self.maximum_symbols = maximum_symbols
        self.stale = self.refused = 0
        self._states: dict[Symbol, _State] = {}

    def __len__(self) -> int:
        return len(self._states)

    def take(self, quote: Quote, known_at: int) -> LiveQuote | None:
        """The quote as it stands now; None for one that is older than the current, or of one instrument too many."""
        live = LiveQuote(quote.symbol, quote.ts, known_at, quote.bid, quote.bid_size, quote.ask, quote.ask_size)
        state = self._states.get(quote.symbol)
        if state is None:
            if len(self._states) >= self.maximum_symbols:
                self.refused += 1
                return None
            state = self._states[quote.symbol] = _State(live)
        if quote.sequence is not None:
            if quote.sequence <= state.sequence:
                self.stale += 1
                return None
            state.sequence = quote.sequence
        before, state.quote = state.quote, live
        passed = max(0, known_at - before.known_at)
        if before.ask >= before.bid:
            state.time += passed
            state.area += passed * before.spread_bps
        spread = live.spread_bps
        if spread < 0:
            state.crossed += 1
            return live
        # Welford 1962: the mean and the squared deviations without a sum that cancels.
        state.quotes += 1
        step = spread - state.mean
        state.mean += step / state.quotes
        state.squares += step * (spread - state.mean)
        state.low, state.high = min(state.low, spread), max(state.high, spread)
        return live

    def quote(self, symbol: str) -> LiveQuote | None:
        """The current quote of an instrument, None before the first."""
        state = self._states.get(Symbol.parse(symbol))
        return None if state is None else state.quote

    def statistics(self, symbol: str) -> SpreadStatistics | None:
        """The statistics of an instrument's spread, None before the first quote."""
        state = self._states.get(Symbol.parse(symbol))
        if state is None:
            return None
        if not state.quotes:
            nan = math.nan
            return SpreadStatistics(0, state.crossed, nan, nan, nan, nan, nan)
        deviation = math.sqrt(state.squares / (state.quotes - 1)) if state.quotes > 1 else math.nan
        weighted = state.area / state.time if state.time else math.nan
        return SpreadStatistics(state.quotes, state.crossed, state.mean, deviation, state.low, state.high, weighted)
