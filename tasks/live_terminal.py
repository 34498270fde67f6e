"""Live ticks of a MetaTrader 5 terminal as a venue of the live flow: polled, resumed behind the last stored tick."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final

import pandas as pd

from tapeline.clock.drift import DriftMonitor
from tapeline.core.errors import ConfigurationError, TapelineError
from tapeline.core.settings import Settings
from tapeline.core.symbol import Symbol
from tapeline.lake.lake import Lake
from tapeline.quality.feed_sink import FeedSink
from tapeline.sources.broker_clock import BrokerClock, agrees, choose_clock, expected_clock, measured_offset_hours
from tapeline.sources.metatrader_resume import OVERLAP, ResumedPoll
from tapeline.sources.metatrader_session import MetaTraderSession, open_gateway
from tapeline.streams.alerts import FeedAlert, Kind, OnAlert
from tapeline.streams.book_keeper import BookKeeper
from tapeline.streams.timing import Backoff, Timing
from tasks.live_venue import StreamRequest, SymbolFeed, VenueStatus, stored_ticks

CLOCK_READINGS: Final = 10
"""Ticks, a second apart, that may contradict a reading of the broker's clock which a closed market could explain."""


class TerminalVenue:
    """Ticks of a terminal; see :class:`tasks.live_venue.LiveVenue`.

    Parameters
    ----------
    session:
        How the terminal is reached; the one of the settings where None.
    """

    keeper: BookKeeper | None = None

    def __init__(
        self,
        request: StreamRequest,
        settings: Settings,
        lake: Lake,
        sink: FeedSink,
        on_alert: OnAlert,
        timing: Timing,
        *,
        session: Callable[[], MetaTraderSession] | None = None,
    ) -> None:
        self._request, self._settings, self._lake, self._sink = request, settings, lake, sink
        self._on_alert, self._timing = on_alert, timing
        self._open_session = session or self._default_session
        self._session: MetaTraderSession | None = None
        self._polls: dict[Symbol, ResumedPoll] = {}
        self._pending: dict[Symbol, tuple[pd.DataFrame, int]] = {}
        self._feeds: dict[Symbol, SymbolFeed] = {}
        self._stop: asyncio.Event = asyncio.Event()
        self._drift, self._polled = DriftMonitor(), 0
        self._connected = False
        self._sink_failures = 0

    async def run(self) -> None:
        """Ask for new ticks of each instrument in turn; a lost connection is entered again by the session itself."""
        if not self._polls:
            await asyncio.to_thread(self._begin)
        try:
            while not self._stop.is_set():
                for symbol, poll in self._polls.items():
                    await self._step(symbol, poll)
                self._connected = True
                with suppress(TimeoutError):
                    async with asyncio.timeout(self._settings.stream.poll_seconds):
                        await self._stop.wait()
        finally:
            self._connected = False

    def stop(self) -> None:
        """Let ``run`` return after the instrument at hand."""
        self._stop.set()

    def close(self) -> None:
        """Leave the terminal."""
        if self._session is not None:
            self._session.close()

    def status(self) -> VenueStatus:
        """What was collected so far; a terminal numbers nothing, so that gaps within a connection cannot be counted."""
        drift = None
        with suppress(ConfigurationError):  # no tick was seen yet
            drift = self._drift.drift(self._request.feed) / 1e9
        session = self._session
        return VenueStatus(
            connected=self._connected,
            messages=self._polled,
            reconnects=max(0, session.connections - 1) if session is not None else 0,
            drift=drift,
            symbols={symbol: SymbolFeed(**vars(feed)) for symbol, feed in self._feeds.items()},
        )

    async def _step(self, symbol: Symbol, poll: ResumedPoll) -> None:
        """Fetch and keep the new ticks of one instrument; what the sink does not take is offered until it does."""
        if symbol not in self._pending:
            ticks = await asyncio.to_thread(poll.new)
            if not len(ticks):
                return
            self._pending[symbol] = ticks, self._timing.wall()
        ticks, received = self._pending[symbol]
        backoff, attempt = Backoff(first=0.1, cap=10.0), 0
        while True:
            try:
                await asyncio.to_thread(self._sink.append_ticks, symbol, ticks, known_at=received)
                break
            except (OSError, TapelineError) as error:
                attempt += 1
                if attempt == 1:
                    self._alert("sink", f"{type(error).__name__}: {error}", received)
                if self._stop.is_set():
                    return  # never acknowledged: the next run asks the terminal for them again
                await self._timing.sleep(backoff.delay(attempt, self._timing.random))
        if attempt:
            self._alert("recovered", "the sink takes rows again", received)
        del self._pending[symbol]
        self._count(symbol, ticks, received)

    def _count(self, symbol: Symbol, ticks: pd.DataFrame, received: int) -> None:
        self._polled += len(ticks)
        feed = self._feeds.setdefault(symbol, SymbolFeed())
        feed.duplicates = self._polls[symbol].already_stored
        bid, ask = float(ticks["bid"].iloc[-1]), float(ticks["ask"].iloc[-1])
        if bid == bid and ask == ask and bid + ask > 0:
            feed.spread_bps = 2e4 * (ask - bid) / (ask + bid)
        alert = self._drift.add(self._request.feed, int(ticks.index[-1].value), received)
        if alert is not None:
            self._alert("drift", str(alert), received)

    def _alert(self, kind: Kind, detail: str, at: int) -> None:
        self._on_alert(FeedAlert(self._request.feed, kind, detail, at))

    def _default_session(self) -> MetaTraderSession:
        settings = self._settings
        gateway = open_gateway(settings.metatrader, settings.network)
        return MetaTraderSession(gateway, settings.metatrader, network=settings.network)

    def _begin(self) -> None:
        session = self._session = self._session or self._open_session()
        clock = self._clock(session, str(self._request.symbols[0]))
        now = pd.Timestamp(self._timing.wall(), tz="UTC")
        polls = {}
        for symbol in self._request.symbols:
            stored = stored_ticks(self._lake, symbol, self._request.feed, OVERLAP)
            polls[symbol] = ResumedPoll(session, str(symbol), clock, stored=stored, start=now)
        self._polls = polls

    def _clock(self, session: MetaTraderSession, symbol: str) -> BrokerClock:
        """The broker's clock: the configured one or the New York close rule, unless fresh ticks speak against it."""
        configured = self._settings.metatrader.utc_offset_hours
        first = session.tick(symbol).time
        for reading in range(CLOCK_READINGS):
            now, stamp = pd.Timestamp(self._timing.wall(), tz="UTC"), session.tick(symbol).time
            measured = measured_offset_hours(stamp, now)
            # A tick that is whole hours old, of a market that closed then, looks like another offset.
            if measured is None or agrees(expected_clock(configured), measured, now) or stamp != first:
                return choose_clock(configured, measured, now)
            if self._stop.is_set():
                break
            if reading + 1 < CLOCK_READINGS:
                time.sleep(1.0)
        return expected_clock(configured)
