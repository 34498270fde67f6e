"""Unusual behaviour in an order book: large orders that vanish untraded, and bursts of updates without trades.

What is found looks like spoofing or quote stuffing; whether it was, only the venue's records of owners could say.

Spoof-like: Lee, Eom and Park, Microstructure-based manipulation, Journal of Financial Markets 16 (2013): large orders
near the top with little chance of execution, withdrawn and placed again. Quote stuffing: Egginton, Van Ness and Van
Ness, Quote Stuffing, Financial Management 45 (2016): bursts of quotations far above their usual number.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Final

import numpy as np
import pandas as pd
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass as validated

from tapeline.core.errors import ConfigurationError
from tapeline.core.symbol import Symbol

if TYPE_CHECKING:
    # At run time the streams are imported where a book is watched: they need an extra that features do not.
    from tapeline.streams.messages import BookDelta, Level, Record, Trade

SPOOFING: Final = "spoof-like"
STUFFING: Final = "quote stuffing"

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Number = Annotated[int, Field(ge=1, le=100_000)]
_SECOND: Final = 1_000_000_000
_MAXIMUM_PRICES: Final = 20_000


@validated(frozen=True, config=ConfigDict(extra="forbid"))
class BookWatchSettings:
    """What counts as unusual.

    Parameters
    ----------
    near_bps:
        Basis points from the mid within which an order is near the top.
    large:
        An order is large from this many times the 99th percentile of the recent additions near the top.
    lifetime:
        Seconds within which a large order must vanish to count.
    traded_share:
        The greatest share of it that may have traded at its price.
    settle:
        Seconds after it vanished in which trades may still be reported, before it counts as withdrawn.
    repeats, memory:
        So many withdrawals on one side within ``memory`` seconds are a finding.
    width:
        Length in seconds of the intervals in which updates are counted.
    burst:
        An interval is a burst from this many times the 99th percentile of the recent intervals' updates, provided that
        it also has more updates to a trade than 99 of 100 of them.
    fewest:
        Updates below which no interval is a burst.
    history:
        Intervals, and hundreds of additions, that are recent; nothing is found before a quarter of them has been seen.
    """

    near_bps: Positive = 10.0
    large: Positive = 3.0
    lifetime: Positive = 2.0
    traded_share: Annotated[float, Field(ge=0, lt=1)] = 0.1
    settle: Positive = 0.5
    repeats: Number = 4
    memory: Positive = 30.0
    width: Positive = 0.25
    burst: Positive = 2.0
    fewest: Number = 50
    history: Number = 240


@dataclass(frozen=True)
class BookFinding:
    """One finding. ``ts`` is when it could be known, in nanoseconds on the venue's clock; ``side`` 0 where neither."""

    ts: int
    kind: str
    side: int
    score: float
    reason: str


@dataclass
class _Order:
    side: int
    price: float
    added: float
    before: float
    born: int
    traded: float
    size: float
    gone: int = 0


class BookWatch:
    """Watches one instrument's book and trades, record by record; the same on a recording as live.

    Feed it every record of the instrument, snapshots included: it keeps its own book, and starts its evidence anew
    where the stream breaks. No finding is ever taken back.

    Parameters
    ----------
    symbol:
        The instrument; records of others are ignored.
    market:
        The name of a rule in :data:`tapeline.streams.book_sequence.RULES`.

    Raises
    ------
    MissingExtraError
        The extra ``streams`` is not installed.

    Attributes
    ----------
    withdrawals:
        How many large orders near the top vanished untraded so far; single ones are no finding.

    Examples
    --------
    >>> from tapeline.streams.messages import BookSnapshot
    >>> watch = BookWatch("BTCUSDT", "kraken")
    >>> symbol = Symbol.parse("BTCUSDT")
    >>> watch.take(BookSnapshot(symbol, 1, [(99.0, 1.0)], [(101.0, 1.0)]))
    []
    """

    def __init__(self, symbol: str, market: str, settings: BookWatchSettings | None = None) -> None:
        from tapeline.streams import book_sequence, book_sync, messages

        self.symbol = Symbol.parse(symbol)
        self.settings = settings or BookWatchSettings()
        self.withdrawals = 0
        self._messages = messages
        self._book = book_sync.LiveBook(self.symbol, book_sequence.rule_of(market))
        self._now = 0
        self._forget()

    def take(self, record: Record) -> list[BookFinding]:
        """Take a record; the findings that became known with it, mostly none.

        A record without a time of the venue's counts as of the newest time seen.
        """
        kinds = self._messages
        if isinstance(record, kinds.SequenceBreak):
            if record.symbol in (None, self.symbol):
                self._book.lose(record.detail)
                self._forget()
            return []
        if not isinstance(record, kinds.Trade | kinds.BookDelta | kinds.BookSnapshot) or record.symbol != self.symbol:
            return []
        now = max(self._now, record.ts if record.ts is not None else self._now)
        self._now = now
        findings = self._close_intervals(now)
        findings += self._settle(now)
        if isinstance(record, kinds.Trade):
            self._trade(record)
        elif isinstance(record, kinds.BookSnapshot):
            if self._book.take(record).value != "stale":
                self._orders.clear()
        else:
            self._delta(record, now)
        return findings

    def _forget(self) -> None:
        history = self.settings.history
        self._orders: dict[tuple[int, float], _Order] = {}
        self._vanished: list[_Order] = []
        self._counted: dict[int, deque[tuple[int, float]]] = {1: deque(), -1: deque()}
        self._traded: dict[float, float] = {}
        self._additions: deque[float] = deque(maxlen=100 * history)
        self._large = math.inf
        self._since_quantile = 0
        self._interval = -1
        self._changes, self._trades = 0, 0
        self._intervals: deque[tuple[int, int]] = deque(maxlen=history)

    def _trade(self, trade: Trade) -> None:
        self._trades += 1
        if len(self._traded) > _MAXIMUM_PRICES:
            # What was traded at other prices than those of pending orders is evidence of nothing any more.
            kept = {order.price for order in [*self._orders.values(), *self._vanished]}
            self._traded = {price: size for price, size in self._traded.items() if price in kept}
        self._traded[trade.price] = self._traded.get(trade.price, 0.0) + trade.size

    def _delta(self, delta: BookDelta, now: int) -> None:
        if not self._book.live:
            self._book.take(delta)
            return
        mid = self._book.book.mid
        reach = mid * self.settings.near_bps * 1e-4
        changed: list[tuple[int, float, float, float]] = []
        for side, levels, ladder in ((1, delta.bids, self._book.book.bids), (-1, delta.asks, self._book.book.asks)):
            changed += [(side, *change) for change in _changes(levels, ladder.size_at)]
        outcome = self._book.take(delta)
        if outcome.value == "gap":
            self._forget()
            return
        if outcome.value != "applied":
            return
        self._changes += len(changed)
        for side, price, before, after in changed:
            self._level(side, price, before, after, now, near=abs(price - mid) <= reach)

    def _level(self, side: int, price: float, before: float, after: float, now: int, *, near: bool) -> None:
        known = self._orders.get((side, price))
        if known is not None:
            if now - known.born > self.settings.lifetime * _SECOND:
                del self._orders[side, price]
            elif after <= known.before + 0.2 * known.added:
                known.gone = now
                self._vanished.append(known)
                del self._orders[side, price]
                return
        added = after - before
        if not near or added <= 0:
            return
        if added >= self._large and (side, price) not in self._orders:
            traded = self._traded.get(price, 0.0)
            self._orders[side, price] = _Order(side, price, added, before, now, traded, added / self._large)
        self._additions.append(added)
        self._since_quantile += 1
        # Sorting what is recent at each addition would cost more than the book itself.
        if self._since_quantile >= self.settings.history and len(self._additions) >= 25 * self.settings.history // 10:
            self._since_quantile = 0
            self._large = self.settings.large * float(np.quantile(np.array(self._additions), 0.99))

    def _settle(self, now: int) -> list[BookFinding]:
        """Judge the orders that vanished long enough ago for every trade to have been reported."""
        settings = self.settings
        due = [order for order in self._vanished if now - order.gone >= settings.settle * _SECOND]
        if not due:
            return []
        self._vanished = [order for order in self._vanished if now - order.gone < settings.settle * _SECOND]
        findings = []
        for order in due:
            traded = self._traded.get(order.price, 0.0) - order.traded
            if traded > settings.traded_share * order.added:
                continue
            self.withdrawals += 1
            counted = self._counted[order.side]
            counted.append((order.gone, order.size))
            while counted and order.gone - counted[0][0] > settings.memory * _SECOND:
                counted.popleft()
            if len(counted) >= settings.repeats:
                times, sizes = len(counted), [size for _, size in counted]
                side = "bid" if order.side == 1 else "ask"
                reason = (
                    f"{times} large {side} orders within {settings.near_bps:g} bps of the mid vanished untraded in "
                    f"{(counted[-1][0] - counted[0][0]) / _SECOND:.1f} s, the last of {order.added:g} at "
                    f"{order.price:g} after {(order.gone - order.born) / _SECOND:.2f} s"
                )
                findings.append(BookFinding(now, SPOOFING, order.side, float(np.mean(sizes)) * times, reason))
                counted.clear()
        return findings

    def _close_intervals(self, now: int) -> list[BookFinding]:
        width = int(self.settings.width * _SECOND)
        interval = now // width
        if interval == self._interval:
            return []
        findings = []
        if not self._book.live:
            # Without a book no change can be told, and the interval says nothing.
            self._interval, self._changes, self._trades = -1, 0, 0
            return []
        if self._interval >= 0:
            found = self._burst((self._interval + 1) * width)
            # A burst is not what is usual: counted as such, it would hide the next one.
            if found:
                findings.append(found)
            else:
                self._intervals.append((self._changes, self._trades))
            silent = min(interval - self._interval - 1, self.settings.history)
            self._intervals.extend([(0, 0)] * silent)
        self._interval, self._changes, self._trades = interval, 0, 0
        return findings

    def _burst(self, end: int) -> BookFinding | None:
        settings = self.settings
        if self._changes < settings.fewest or len(self._intervals) < settings.history // 4:
            return None
        changes, trades = np.array(self._intervals, dtype=np.float64).T
        usual = max(float(np.quantile(changes, 0.99)), 1.0)
        score = self._changes / (settings.burst * usual)
        # A burst that comes with as many trades as updates usually do is a market at work.
        per_trade = self._changes / (self._trades + 1.0)
        if score < 1.0 or per_trade < np.quantile(changes / (trades + 1.0), 0.99):
            return None
        reason = (
            f"{self._changes} level updates in {settings.width:g} s with {self._trades} trades; 99 of the last "
            f"100 such intervals had at most {usual:.0f}"
        )
        return BookFinding(end, STUFFING, 0, score, reason)


def watch_book(
    records: Iterable[Record], symbol: str, market: str, settings: BookWatchSettings | None = None
) -> pd.DataFrame:
    """All findings in the records of a book, such as a replayed recording.

    Returns
    -------
    One row a finding: ``ts`` (when it could be known), ``kind``, ``side`` (1 bid, -1 ask, 0 neither), ``score`` (1 at
    the threshold of one order or interval, more beyond it), ``reason``.

    Examples
    --------
    >>> watch_book([], "BTCUSDT", "binance").columns.tolist()
    ['ts', 'kind', 'side', 'score', 'reason']
    """
    return _frame(finding for found in map(BookWatch(symbol, market, settings).take, records) for finding in found)


def parse_settings(values: object) -> BookWatchSettings:
    """Settings from outside, such as a table of a settings file; ConfigurationError for an unknown or wrong one.

    Examples
    --------
    >>> parse_settings({"repeats": 4}).repeats
    4
    """
    try:
        return TypeAdapter(BookWatchSettings).validate_python(values)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        raise ConfigurationError(f"book watch: {name} = {first['input']!r} is refused", hint=first["msg"]) from None


def _changes(levels: Iterable[Level], size_at: Callable[[float], float]) -> Iterator[tuple[float, float, float]]:
    """Price, size before and size after of each level that changes."""
    for level in levels:
        price, after = level[0], float(level[1])
        before = size_at(price)
        if before != after:
            yield price, before, after


def _frame(findings: Iterable[BookFinding]) -> pd.DataFrame:
    rows = list(findings)
    return pd.DataFrame(
        {
            "ts": pd.DatetimeIndex(np.array([row.ts for row in rows], dtype="int64"), tz="UTC").as_unit("ns"),
            "kind": pd.Series([row.kind for row in rows], dtype="str"),
            "side": np.array([row.side for row in rows], dtype=np.int8),
            "score": np.array([row.score for row in rows], dtype=np.float64),
            "reason": pd.Series([row.reason for row in rows], dtype="str"),
        }
    )
