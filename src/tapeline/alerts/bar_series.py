"""Bars of one symbol and timeframe as they close, live, and the detectors that look at them."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tapeline.alerts.external import External
from tapeline.alerts.kinds.divergence import DivergenceFeed
from tapeline.alerts.kinds.pattern import PatternFeed, pattern_reach

LEAST: Final = 600
"""Closed bars that a series keeps at least; detectors that look further back keep more."""
COLUMNS: Final = ("open", "high", "low", "close", "volume")


class Bar(NamedTuple):
    """A closed bar; ``ts`` is its open in nanoseconds."""

    ts: int
    open: float
    high: float
    low: float
    close: float
    volume: float


class Given(NamedTuple):
    """Bars that history gave: of a symbol and timeframe (nanoseconds), when so many were asked for."""

    symbol: str
    timeframe: int
    asked: int
    bars: list[Bar]

    def plain(self) -> list[Any]:
        """It as JSON keeps it."""
        return [self.symbol, self.timeframe, self.asked, _packed(self.bars, self.timeframe)]

    @classmethod
    def of_plain(cls, plain: Sequence[Any]) -> Given:
        """What :meth:`plain` gave."""
        symbol, timeframe, asked, packed = plain
        return cls(symbol, timeframe, asked, _unpacked(packed, timeframe))


class Records(NamedTuple):
    """What of a batch concerns a symbol: rows of the batch, and its columns there."""

    rows: NDArray[np.intp]
    times: NDArray[np.int64]
    prices: NDArray[np.float64]
    sizes: NDArray[np.float64]
    trades: NDArray[np.bool_]


class BarSeries:
    """Bars of one symbol and timeframe as the kernel forms them, and the detectors that look at those that close.

    What the detectors know follows from ``closed`` alone, so that a series restored from it goes on as the other. At
    twice ``kept`` bars they begin anew with the newest ``kept``: swings that are older are forgotten.

    Examples
    --------
    >>> from tapeline.alerts.engine.layout import TIMEFRAMES
    >>> series = BarSeries("A", TIMEFRAMES["1m"])
    >>> minute = TIMEFRAMES["1m"]
    >>> times = np.array([5, minute - 1, minute])
    >>> prices, sizes = np.array([10.0, 12.0, 11.0]), np.ones(3)
    >>> _ = series.take(Records(np.arange(3), times, prices, sizes, np.ones(3, np.bool_)))
    >>> series.closed
    [Bar(ts=0, open=10.0, high=12.0, low=10.0, close=12.0, volume=2.0)]
    """

    def __init__(self, symbol: str, timeframe: int) -> None:
        self.symbol, self.timeframe = symbol, timeframe
        self.closed: list[Bar] = []
        self.forming: Bar | None = None
        self.newest = -1
        self.kept = LEAST
        self._kinds: tuple[str, ...] = ()
        self._indicators: tuple[str, ...] = ()
        self._feeds: list[PatternFeed | DivergenceFeed] = []

    def want(self, kinds: tuple[str, ...], indicators: tuple[str, ...]) -> None:
        """Look for these kinds of events and divergences of these indicators from the next bar on."""
        if (kinds, indicators) != (self._kinds, self._indicators):
            self._kinds, self._indicators = kinds, indicators
            self._build()

    def take(self, records: Records) -> list[tuple[int, External]]:
        """Take records in their order; what closed bars tell, with the row of the record that closed each."""
        found: list[tuple[int, External]] = []
        at, end = 0, records.times.size
        while at < end:
            if self.forming is None:
                # As in the kernel: only a trade that is not late begins a bar.
                begins = np.flatnonzero(records.trades[at:] & (records.times[at:] >= self.newest))
                if not begins.size:
                    break
                at += int(begins[0])
                ts, price = int(records.times[at]), float(records.prices[at])
                self.forming = Bar(ts - ts % self.timeframe, price, price, price, price, 0.0)
            ended = self.forming.ts + self.timeframe
            closing = np.flatnonzero(records.times[at:] >= ended)
            until = at + int(closing[0]) if closing.size else end
            self._form(records, at, until)
            if closing.size:
                bar, self.forming, self.newest = self.forming, None, max(self.newest, ended)
                found.extend((int(records.rows[until]), one) for one in self._close(bar))
            at = until
        return found

    def state(self) -> dict[str, Any]:
        """All of it, as JSON keeps it; bars as the base64 of their numbers."""
        return self.still()()

    def still(self) -> Callable[[], dict[str, Any]]:
        """:meth:`state` as of now, made when what is given is called: in any thread, at any time later."""
        newest, forming, closed = self.newest, self.forming, list(self.closed)
        return lambda: {
            "symbol": self.symbol,
            "timeframe": self.timeframe,
            "newest": newest,
            "forming": list(forming) if forming is not None else None,
            "closed": _packed(closed, self.timeframe),
        }

    @classmethod
    def restored(cls, plain: Mapping[str, Any]) -> BarSeries:
        """A series from its :meth:`state`; detectors come with :meth:`want`."""
        made = cls(str(plain["symbol"]), int(plain["timeframe"]))
        made.newest = int(plain["newest"])
        made.forming = Bar(*plain["forming"]) if plain["forming"] is not None else None
        made.closed = _unpacked(plain["closed"], made.timeframe)
        return made

    def _form(self, records: Records, begin: int, end: int) -> None:
        bar = self.forming
        if bar is None:
            return
        of_bar = records.trades[begin:end] & (records.times[begin:end] >= bar.ts)
        if not of_bar.any():
            return
        times = records.times[begin:end][of_bar]
        prices = records.prices[begin:end][of_bar]
        reached = np.maximum.accumulate(np.r_[self.newest, times])
        newer = np.flatnonzero(times >= reached[:-1])
        # A late trade does not move the close.
        close = float(prices[newer[-1]]) if newer.size else bar.close
        self.newest = int(reached[-1])
        # Added one by one, as the kernel adds: the same numbers whatever the batches.
        volume = float(np.add.accumulate(np.r_[bar.volume, records.sizes[begin:end][of_bar]])[-1])
        self.forming = Bar(
            bar.ts, bar.open, max(bar.high, float(prices.max())), min(bar.low, float(prices.min())), close, volume
        )

    def _close(self, bar: Bar) -> list[External]:
        if self.closed and bar.ts <= self.closed[-1].ts:
            return []
        import pandas as pd

        opened, closed = pd.Timestamp(bar.ts, tz="UTC"), pd.Timestamp(bar.ts + self.timeframe, tz="UTC")
        found = [record for feed in self._feeds for record in feed.push(opened, *bar[1:], closed)]
        self.closed.append(bar)
        if len(self.closed) >= 2 * self.kept:
            self.closed = self.closed[-self.kept :]
            self._build()
        return found

    def _build(self) -> None:
        import pandas as pd

        index = pd.DatetimeIndex(np.array([bar.ts for bar in self.closed], "M8[ns]"), name="ts").tz_localize("UTC")
        prices = np.array([bar[1:] for bar in self.closed], np.float64).reshape(-1, 5)
        bars = pd.DataFrame(prices, index=index, columns=list(COLUMNS))
        bars["close_ts"] = index + pd.Timedelta(self.timeframe, unit="ns")
        self._feeds = [*(DivergenceFeed(self.symbol, one, self.timeframe, history=bars) for one in self._indicators)]
        self.kept = kept_bars(self._kinds)
        if self._kinds:
            feed = PatternFeed(self.symbol, self._kinds, self.timeframe, history=bars if len(bars) else None)
            self._feeds.append(feed)


def kept_bars(kinds: tuple[str, ...]) -> int:
    """Closed bars that a series keeps at least for the detectors of some kinds of events.

    Examples
    --------
    >>> kept_bars(("fair_value_gap",))
    600
    """
    return max(LEAST, pattern_reach(kinds)) if kinds else LEAST


def _packed(bars: Sequence[Bar], timeframe: int) -> str:
    rows = np.array([(bar.ts // timeframe, *bar[1:]) for bar in bars], "<f8")
    return base64.b64encode(rows.tobytes()).decode("ascii")


def _unpacked(text: str, timeframe: int) -> list[Bar]:
    rows = np.frombuffer(base64.b64decode(text), "<f8").reshape(-1, 6)
    return [Bar(int(number) * timeframe, *prices) for number, *prices in rows.tolist()]
