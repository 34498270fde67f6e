"""Sources that are asked: within their quotas, one target after the other, with back-off where they fail."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from tapeline.alerts.feeds.batcher import Tick
from tapeline.alerts.feeds.data_manager import DataManager
from tapeline.alerts.feeds.missed_bars import MissedBars
from tapeline.alerts.feeds.polled_bars import INTERVALS, Bars, PolledBar, bar_ticks
from tapeline.core.errors import ConfigurationError, ProviderError, TemporaryError, ThrottledError
from tapeline.core.symbol import Symbol
from tapeline.streams.alerts import FeedAlert, OnAlert, ignore
from tapeline.streams.http_client import HttpClient
from tapeline.streams.timing import Backoff, Timing

ALPHA_VANTAGE: Final = "https://www.alphavantage.co"
YAHOO: Final = "https://query1.finance.yahoo.com"
ALPHA_VANTAGE_FREE: Final = ((5, 60.0), (25, 86_400.0))
"""Its free key: calls and the seconds in which they fall."""
YAHOO_POLITE: Final = ((60, 60.0), (2_000, 3_600.0))
"""Yahoo publishes none; a guess on the careful side."""


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
    """``failed`` calls had no usable answer, ``throttled`` ones were refused for their number."""

    polls: int = 0
    failed: int = 0
    throttled: int = 0


Fetch = Callable[[str], Awaitable[bytes]]
"""The body of an answer for a target; raises as :class:`~tapeline.streams.http_client.HttpClient` says."""
Take = Callable[[str, bytes], None]
"""Takes the body of an answer for a target; ProviderError where it is unusable. Called in a thread."""


class Poller:
    """Asks a source for its targets, one after the other, as fast as the quota lets it and no faster.

    Parameters
    ----------
    targets:
        What is asked for: symbols as the source spells them, or questions.
    every:
        Seconds between two calls for one target, at least.
    """

    def __init__(
        self,
        name: str,
        targets: Sequence[str],
        fetch: Fetch,
        take: Take,
        quota: Quota,
        *,
        every: float = 60.0,
        backoff: Backoff | None = None,
        on_alert: OnAlert = ignore,
        timing: Timing | None = None,
    ) -> None:
        if not every > 0:
            raise ConfigurationError(f"every = {every} must be positive")
        self.name, self.quota, self.timing = name, quota, timing or Timing()
        self.targets = list(dict.fromkeys(targets))
        self.counters = PollerCounters()
        self._fetch, self._take, self._on_alert, self._every = fetch, take, on_alert, every
        self._backoff, self._failures = backoff or Backoff(first=5.0, cap=900.0), 0
        self._stopping = asyncio.Event()

    @property
    def pause(self) -> float:
        """Seconds between two calls, for whichever targets."""
        return max(self.quota.every, self._every / max(len(self.targets), 1))

    async def run(self) -> None:
        """Ask until :meth:`stop`."""
        turn = 0
        while not self._stopping.is_set():
            wait = self.quota.wait()
            if self.targets and wait <= 0:
                wait = max(await self.poll(self.targets[turn % len(self.targets)]), self.pause)
                turn += 1
            await self._rest(wait if wait > 0 else self.pause)

    async def _rest(self, seconds: float) -> None:
        """A pause, which may be an hour, ends where the poller does."""
        waits = {asyncio.ensure_future(self.timing.sleep(seconds)), asyncio.ensure_future(self._stopping.wait())}
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for one in waits:
                one.cancel()

    def stop(self) -> None:
        """Let ``run`` return."""
        self._stopping.set()

    async def subscribe(self, symbols: Iterable[str]) -> None:
        """Ask for further targets, each in its turn."""
        self.targets += [one for one in dict.fromkeys(symbols) if one not in self.targets]

    async def unsubscribe(self, symbols: Iterable[str]) -> None:
        """Ask for some no more."""
        gone = set(symbols)
        self.targets = [one for one in self.targets if one not in gone]

    async def poll(self, target: str) -> float:
        """Ask for one target now, if the quota permits; the least pause in seconds before the next call."""
        if not self.quota.spend():
            return self.quota.wait()
        self.counters.polls += 1
        try:
            await asyncio.to_thread(self._take, target, await self._fetch(target))
        except ThrottledError as error:
            self.counters.throttled += 1
            return self._failed(target, error, error.retry_after or 0.0)
        except (TemporaryError, ProviderError) as error:
            return self._failed(target, error, 0.0)
        if self._failures:
            self._failures = 0
            self._on_alert(FeedAlert(self.name, "recovered", f"{target} was answered", self.timing.wall()))
        return 0.0

    def _failed(self, target: str, error: Exception, wait: float) -> float:
        self.counters.failed += 1
        self._failures += 1
        if self._failures == 1:
            self._on_alert(FeedAlert(self.name, "stale", f"{target}: {error}", self.timing.wall()))
        return max(self._backoff.delay(self._failures, self.timing.random), wait)


class BarTaker:
    """Takes answers that hold bars: complete ones go to the manager, which tells those it had before by their times.

    Parameters
    ----------
    name:
        The source, as the manager watches it: with ``own_clock``.
    parse:
        ``parse_alpha_vantage`` or ``parse_yahoo``.
    missed:
        Of who asks: is told of each answer, and says which bars are late.

    Attributes
    ----------
    bars:
        How many were new; ``reasons`` counts those that were refused.
    """

    def __init__(
        self,
        name: str,
        manager: DataManager,
        parse: Callable[[bytes], Bars],
        *,
        missed: MissedBars | None = None,
        timing: Timing | None = None,
    ) -> None:
        self._missed = missed
        self.name, self.manager, self.timing = name, manager, timing or Timing()
        self.bars = 0
        self.reasons: Counter[str] = Counter()
        self._parse = parse

    def __call__(self, symbol: str, body: bytes) -> None:
        """Take the answer for a symbol, as the source spells it."""
        found = self._parse(body)
        self.reasons.update(found.refused)
        now = self.timing.wall()
        bars = [bar for bar in found.bars if bar.ts + bar.duration <= now]
        ticks = [tick for bar in bars for tick in self._ticks(symbol, bar)]
        given = self.manager.take(self.name, ticks)
        self.bars += given // 4
        if self._missed is not None:
            self._missed.answered(symbol)
        self.manager.heard(self.name, symbol)
        if bars:
            self.manager.reach(self.name, symbol, bars[-1].ts + bars[-1].duration)

    def _ticks(self, symbol: str, bar: PolledBar) -> list[Tick]:
        ticks = bar_ticks(symbol, bar)
        return ticks if self._missed is None else self._missed.marked(symbol, ticks, bar.ts + bar.duration)


def alpha_vantage_fetch(
    client: HttpClient, key: str, *, interval: str = "1min", missed: MissedBars | None = None
) -> Fetch:
    """Ask ``TIME_SERIES_INTRADAY``, with ``missed`` for the month of what was missed.

    The key goes into the query alone: no error of the client names it.
    """
    if interval not in INTERVALS:
        raise ConfigurationError(f"interval {interval!r} is not of {', '.join(INTERVALS)}")

    async def fetch(symbol: str) -> bytes:
        question = {"function": "TIME_SERIES_INTRADAY", "symbol": symbol, "interval": interval, "apikey": key}
        month = missed.month(symbol) if missed is not None else None
        if month is not None:
            question |= {"month": month, "outputsize": "full"}
        return await client.get("/query", question)

    return fetch


def yahoo_fetch(client: HttpClient, *, interval: str = "1m", missed: MissedBars | None = None) -> Fetch:
    """Ask the chart of the day, with ``missed`` that of what was missed."""

    async def fetch(symbol: str) -> bytes:
        stretch = missed.question(symbol) if missed is not None else None
        question = {"interval": interval, **(stretch or {"range": "1d"})}
        return await client.get(f"/v8/finance/chart/{Symbol.parse(symbol).path_segment}", question)

    return fetch
