"""Sources that are asked: Alpha Vantage and Yahoo Finance, within their quotas.

What they give are bars. A bar is taken once it is complete, as four trades in the order in which a bar of its colour
most often went; its bars close by the source's own clock, since they come late.
"""

from __future__ import annotations

import asyncio
import math
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Final, NamedTuple
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from tapeline.alerts.feeds.batcher import SECOND, Tick
from tapeline.alerts.feeds.data_manager import LARGEST, DataManager
from tapeline.core.errors import ConfigurationError, ProviderError, TemporaryError, ThrottledError
from tapeline.core.symbol import Symbol
from tapeline.streams.alerts import FeedAlert, OnAlert, ignore
from tapeline.streams.http_client import HttpClient
from tapeline.streams.messages import msgspec
from tapeline.streams.timing import Backoff, Timing

ALPHA_VANTAGE: Final = "https://www.alphavantage.co"
YAHOO: Final = "https://query1.finance.yahoo.com"
MAXIMUM_BARS: Final = 20_000
MAXIMUM_BODY: Final = 8 * 1024 * 1024
INTERVALS: Final = {"1min": 60, "5min": 300, "15min": 900, "30min": 1_800, "60min": 3_600}
ALPHA_VANTAGE_FREE: Final = ((5, 60.0), (25, 86_400.0))
"""Its free key: calls and the seconds in which they fall."""
YAHOO_POLITE: Final = ((60, 60.0), (2_000, 3_600.0))
"""Yahoo publishes none; this is what users report to be tolerated, with room."""


class PolledBar(NamedTuple):
    """One bar of a source; ``ts`` its open, ``duration`` its length, both nanoseconds."""

    ts: int
    duration: int
    open: float
    high: float
    low: float
    close: float
    volume: float


class Bars(NamedTuple):
    """What an answer held: complete bars in order of time, and why others were refused."""

    bars: list[PolledBar]
    refused: Counter[str]


class Quota:
    """At most so many calls in each of several sliding windows.

    Calls are spread, too: none is due before its share of the longest window has passed, that a day's calls are not
    gone in its first minutes. The calls made are this process's: after a restart the count begins anew.

    Parameters
    ----------
    limits:
        Pairs of calls and seconds.

    Examples
    --------
    >>> now = [0.0]
    >>> quota = Quota([(2, 60.0)], timing=Timing(monotonic=lambda: now[0]))
    >>> [quota.spend(), quota.spend()], quota.wait(), quota.every
    ([True, True], 60.0, 30.0)
    >>> quota.spend()
    False
    """

    def __init__(self, limits: Iterable[tuple[int, float]], *, timing: Timing | None = None) -> None:
        self.timing = timing or Timing()
        self._limits = list(limits)
        if not self._limits or any(count < 1 or not seconds > 0 for count, seconds in self._limits):
            raise ConfigurationError(f"limits {self._limits} must be calls of 1 or more in seconds above 0")
        self._calls = [deque[float](maxlen=count) for count, _ in self._limits]
        self.spent = 0

    @property
    def every(self) -> float:
        """Seconds between two calls at which no window ever fills."""
        return max(seconds / count for count, seconds in self._limits)

    def wait(self) -> float:
        """Seconds until the next call is permitted."""
        now, due = self.timing.monotonic(), 0.0
        for (_, seconds), calls in zip(self._limits, self._calls, strict=True):
            if len(calls) == calls.maxlen:
                due = max(due, calls[0] + seconds - now)
        return due

    def spend(self) -> bool:
        """Take one call; False where none is permitted now."""
        if self.wait() > 0:
            return False
        now = self.timing.monotonic()
        for calls in self._calls:
            calls.append(now)
        self.spent += 1
        return True


@dataclass
class PollerCounters:
    """``refused`` bars have their reasons in :attr:`Poller.reasons`; ``failed`` are calls without a usable answer."""

    polls: int = 0
    bars: int = 0
    refused: int = 0
    failed: int = 0
    throttled: int = 0


Fetch = Callable[[str], Awaitable[bytes]]
"""The body of an answer for a symbol; raises as :class:`~tapeline.streams.http_client.HttpClient` says."""
Parse = Callable[[bytes], Bars]


class Poller:
    """Asks a source for its symbols, one after the other, as fast as the quota lets it and no faster.

    Parameters
    ----------
    symbols:
        As the source spells them; the manager watches them under ``name``, with ``own_clock``.
    every:
        Seconds between two calls for one symbol, at least.
    """

    def __init__(
        self,
        name: str,
        manager: DataManager,
        symbols: Sequence[str],
        fetch: Fetch,
        parse: Parse,
        quota: Quota,
        *,
        every: float = 60.0,
        backoff: Backoff | None = None,
        on_alert: OnAlert = ignore,
        timing: Timing | None = None,
    ) -> None:
        if not every > 0:
            raise ConfigurationError(f"every = {every} must be positive")
        self.name, self.manager, self.quota, self.timing = name, manager, quota, timing or Timing()
        self.symbols = [str(Symbol.parse(symbol)) for symbol in dict.fromkeys(symbols)]
        self.counters, self.reasons = PollerCounters(), Counter[str]()
        self._fetch, self._parse, self._on_alert, self._every = fetch, parse, on_alert, every
        self._backoff, self._failures = backoff or Backoff(first=5.0, cap=900.0), 0
        self._stopping = asyncio.Event()

    @property
    def pause(self) -> float:
        """Seconds between two calls, of whichever symbols."""
        return max(self.quota.every, self._every / max(len(self.symbols), 1))

    async def run(self) -> None:
        """Ask until :meth:`stop`."""
        turn = 0
        while not self._stopping.is_set():
            wait = self.quota.wait()
            if self.symbols and wait <= 0:
                wait = max(await self.poll(self.symbols[turn % len(self.symbols)]), self.pause)
                turn += 1
            await self.timing.sleep(wait if wait > 0 else self.pause)

    def stop(self) -> None:
        """Let ``run`` return after its pause."""
        self._stopping.set()

    async def poll(self, symbol: str) -> float:
        """Ask for one symbol now, if the quota permits; the least pause in seconds before the next call."""
        if not self.quota.spend():
            return self.quota.wait()
        self.counters.polls += 1
        try:
            found = self._parse(await self._fetch(symbol))
        except ThrottledError as error:
            self.counters.throttled += 1
            return self._failed(symbol, error, error.retry_after or 0.0)
        except (TemporaryError, ProviderError) as error:
            return self._failed(symbol, error, 0.0)
        if self._failures:
            self._failures = 0
            self._on_alert(FeedAlert(self.name, "recovered", f"{symbol} was answered", self.timing.wall()))
        self.counters.refused += sum(found.refused.values())
        self.reasons.update(found.refused)
        now = self.timing.wall()
        bars = [bar for bar in found.bars if bar.ts + bar.duration <= now]
        await asyncio.to_thread(self._give, symbol, bars)
        return 0.0

    def _give(self, symbol: str, bars: list[PolledBar]) -> None:
        given = self.manager.take(self.name, [tick for bar in bars for tick in bar_ticks(symbol, bar)])
        self.counters.bars += given // 4
        self.manager.heard(self.name, symbol)
        if bars:
            self.manager.reach(self.name, symbol, bars[-1].ts + bars[-1].duration)

    def _failed(self, symbol: str, error: Exception, wait: float) -> float:
        self.counters.failed += 1
        self._failures += 1
        if self._failures == 1:
            self._on_alert(FeedAlert(self.name, "stale", f"{symbol}: {error}", self.timing.wall()))
        return max(self._backoff.delay(self._failures, self.timing.random), wait)


def bar_ticks(symbol: str, bar: PolledBar) -> list[Tick]:
    """A complete bar as four trades: open, low and high (the high first where it fell), close; a quarter of its volume
    each. Their sequences rise from bar to bar, and are the same whenever the bar is asked for.

    Examples
    --------
    >>> bar = PolledBar(60_000_000_000, 60_000_000_000, 10.0, 12.0, 9.0, 11.0, 8.0)
    >>> [(tick.price, tick.size, tick.sequence) for tick in bar_ticks("MSFT", bar)]
    [(10.0, 2.0, 240), (9.0, 2.0, 241), (12.0, 2.0, 242), (11.0, 2.0, 243)]
    """
    second, third = (bar.low, bar.high) if bar.close >= bar.open else (bar.high, bar.low)
    size, first, step = bar.volume / 4, bar.ts // SECOND * 4, bar.duration // 3
    times = (bar.ts, bar.ts + step, bar.ts + 2 * step, bar.ts + bar.duration - 1)
    prices = (bar.open, second, third, bar.close)
    return [
        Tick(symbol, ts, price, size, first + part) for part, (ts, price) in enumerate(zip(times, prices, strict=True))
    ]


def alpha_vantage_fetch(client: HttpClient, key: str, *, interval: str = "1min") -> Fetch:
    """Ask ``TIME_SERIES_INTRADAY``. The key goes into the query alone: no error of the client names it."""
    if interval not in INTERVALS:
        raise ConfigurationError(f"interval {interval!r} is not of {', '.join(INTERVALS)}")

    async def fetch(symbol: str) -> bytes:
        question = {"function": "TIME_SERIES_INTRADAY", "symbol": symbol, "interval": interval, "apikey": key}
        return await client.get("/query", question)

    return fetch


def yahoo_fetch(client: HttpClient, *, interval: str = "1m") -> Fetch:
    """Ask the chart of the day."""

    async def fetch(symbol: str) -> bytes:
        return await client.get(
            f"/v8/finance/chart/{Symbol.parse(symbol).path_segment}", {"interval": interval, "range": "1d"}
        )

    return fetch


def parse_alpha_vantage(body: bytes) -> Bars:
    """The bars of an answer to ``TIME_SERIES_INTRADAY``.

    A bar's stamp is read as its open, in the zone that the answer names. Where the service meant the close, the bar is
    known one interval later than it could be, never earlier.

    Raises
    ------
    ThrottledError
        The service says, with status 200, that the quota is spent.
    ProviderError
        It says that it refuses, or the body is not of its form.
    """
    answer = _decoded(_ALPHA_VANTAGE, body, "Alpha Vantage")
    for name in ("Note", "Information"):
        if name in answer:
            raise ThrottledError(f"Alpha Vantage: {_said(answer[name])}", retry_after=60.0)
    if "Error Message" in answer:
        raise ProviderError(f"Alpha Vantage: {_said(answer['Error Message'])}")
    series = [name for name in answer if name.startswith("Time Series (")]
    about = answer.get("Meta Data")
    if len(series) != 1 or not isinstance(about, dict) or not isinstance(answer[series[0]], dict):
        raise ProviderError(f"Alpha Vantage: no time series among {sorted(answer)[:5]}")
    step = INTERVALS.get(series[0][len("Time Series (") : -1])
    if step is None:
        raise ProviderError(f"Alpha Vantage: {series[0][:40]!r} is no intraday series")
    zone = _zone(next((text for name, text in about.items() if name.endswith("Time Zone")), ""))
    rows = answer[series[0]]
    if len(rows) > MAXIMUM_BARS:
        raise ProviderError(f"Alpha Vantage: {len(rows)} bars, more than {MAXIMUM_BARS}")
    found, refused = [], Counter[str]()
    for stamp, cells in rows.items():
        try:
            instant = datetime.strptime(stamp, "%Y-%m-%d %H:%M:%S").replace(tzinfo=zone)
        except ValueError:
            refused["a time that cannot be read"] += 1
            continue
        fields = {name.split(". ", 1)[-1]: cell for name, cell in cells.items()} if isinstance(cells, dict) else {}
        values = [fields.get(name) for name in ("open", "high", "low", "close", "volume")]
        _add(found, refused, int(instant.timestamp()), step, values)
    return Bars(sorted(found), refused)


def parse_yahoo(body: bytes) -> Bars:
    """The bars of a chart answer (``/v8/finance/chart``) in seconds since 1970, UTC.

    Null cells are minutes without a trade and are passed over.

    Raises
    ------
    ProviderError
        The service refuses, or the body is not of its form.
    """
    answer = _decoded(_YAHOO, body, "Yahoo")
    if answer.chart.error is not None or not answer.chart.result:
        raise ProviderError(f"Yahoo: {_said(answer.chart.error)}")
    chart = answer.chart.result[0]
    step = _YAHOO_STEPS.get(chart.meta.dataGranularity)
    if step is None:
        raise ProviderError(
            f"Yahoo: granularity {chart.meta.dataGranularity[:20]!r} is not of {', '.join(_YAHOO_STEPS)}"
        )
    if not chart.indicators.quote:
        return Bars([], Counter())
    quote = chart.indicators.quote[0]
    columns = (quote.open, quote.high, quote.low, quote.close, quote.volume)
    if any(len(column) != len(chart.timestamp) for column in columns):
        raise ProviderError(
            f"Yahoo: columns of {[len(column) for column in columns]} cells for {len(chart.timestamp)} bars"
        )
    found: list[PolledBar] = []
    refused = Counter[str]()
    for stamp, *cells in zip(chart.timestamp, *columns, strict=True):
        if all(cell is None for cell in cells[:4]):
            continue
        _add(found, refused, stamp, step, [*cells[:4], 0 if cells[4] is None else cells[4]])
    return Bars(sorted(found), refused)


def _add(found: list[PolledBar], refused: Counter[str], opened: int, step: int, values: Sequence[Any]) -> None:
    """Take a bar, or count why not."""
    numbers = [_number(value) for value in values]
    if any(math.isnan(number) for number in numbers):
        refused["a cell that is no number"] += 1
    elif not all(0 < number <= LARGEST for number in numbers[:4]) or not 0 <= numbers[4] <= LARGEST:
        refused["a price or volume out of bounds"] += 1
    elif not numbers[2] <= min(numbers[0], numbers[3]) or not max(numbers[0], numbers[3]) <= numbers[1]:
        refused["a high or low that does not hold the bar"] += 1
    elif not 0 <= opened < 1 << 33:
        refused["a time that cannot be read"] += 1
    else:
        found.append(PolledBar(opened * SECOND, step * SECOND, *numbers))


def _number(value: Any) -> float:
    """A cell as a number; NaN where it is none. Infinity stays, to be refused by its bounds."""
    if isinstance(value, bool) or not isinstance(value, int | float | str) or len(str(value)) > 40:
        return math.nan
    try:
        return float(value)
    except ValueError:
        return math.nan


def _zone(name: Any) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, TypeError, OSError) as error:
        raise ProviderError(f"Alpha Vantage: {str(name)[:40]!r} is no time zone") from error


def _said(text: Any) -> str:
    """What a service said, as one short line; its key may stand in it, after a word that says so."""
    words = " ".join(str(text).split())
    return words.split("API key as", 1)[0][:200]


def _decoded(reader: Any, body: bytes, who: str) -> Any:
    if len(body) > MAXIMUM_BODY:
        raise ProviderError(f"{who}: an answer of {len(body)} bytes, more than {MAXIMUM_BODY}")
    try:
        return reader.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ProviderError(f"{who}: {str(error)[:200]}") from error


_Cells = Annotated[list[Any], msgspec.Meta(max_length=MAXIMUM_BARS)]


class _Meta(msgspec.Struct):
    dataGranularity: str = ""  # noqa: N815 - the service's spelling


class _Quote(msgspec.Struct):
    open: _Cells = []
    high: _Cells = []
    low: _Cells = []
    close: _Cells = []
    volume: _Cells = []


class _Indicators(msgspec.Struct):
    quote: list[_Quote] = []


class _Chart(msgspec.Struct):
    meta: _Meta
    indicators: _Indicators
    timestamp: Annotated[list[int], msgspec.Meta(max_length=MAXIMUM_BARS)] = []


class _Charts(msgspec.Struct):
    result: list[_Chart] | None = None
    error: Any = None


class _Answer(msgspec.Struct):
    chart: _Charts


_YAHOO_STEPS: Final[Mapping[str, int]] = {
    "1m": 60,
    "2m": 120,
    "5m": 300,
    "15m": 900,
    "30m": 1_800,
    "60m": 3_600,
    "1h": 3_600,
    "1d": 86_400,
}
_YAHOO: Final = msgspec.json.Decoder(_Answer)
_ALPHA_VANTAGE: Final = msgspec.json.Decoder(dict[str, Any])
