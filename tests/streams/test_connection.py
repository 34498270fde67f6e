"""Back-off, pacing, addresses, and the connection's watchdogs on a clock that the test turns."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from tapeline.core.errors import ConfigurationError
from tapeline.streams.connection import Connection, ConnectionOptions
from tapeline.streams.timing import Backoff, RateLimiter, Timing
from tests.streams.fake_exchange import FakeExchange
from tests.streams.live_support import FAST


class TurnedClock:
    """Time passes only by ``turn``: what sleeps until then wakes in order."""

    def __init__(self) -> None:
        self.now = 1_000.0
        self.slept: list[float] = []
        self._sleepers: list[tuple[float, asyncio.Event]] = []

    def timing(self) -> Timing:
        return Timing(
            monotonic=lambda: self.now, wall=lambda: int(self.now * 1e9), sleep=self.sleep, random=lambda: 0.0
        )

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        event = asyncio.Event()
        self._sleepers.append((self.now + seconds, event))
        await event.wait()

    def turn(self, seconds: float) -> None:
        self.now += seconds
        for due, event in self._sleepers:
            if due <= self.now:
                event.set()
        self._sleepers = [(due, event) for due, event in self._sleepers if due > self.now]


def test_delays_double_to_the_cap_with_jitter_in_their_upper_half():
    backoff = Backoff(first=1.0, cap=60.0)
    assert [backoff.delay(n, lambda: 0.0) for n in range(1, 9)] == [0.5, 1, 2, 4, 8, 16, 30, 30]
    assert backoff.delay(3, lambda: 0.999) == pytest.approx(4.0, rel=1e-2)
    assert backoff.delay(10**6, lambda: 0.5) == 45.0
    with pytest.raises(ConfigurationError):
        Backoff(first=2.0, cap=1.0)


def test_the_limiter_never_lets_more_through_than_the_window_holds():
    clock = TurnedClock()
    limiter = RateLimiter(4, 1.0, clock.timing())
    due = [limiter.wait() for _ in range(10)]
    assert due == [0, 0, 0, 0, 1, 1, 1, 1, 2, 2]


@pytest.mark.parametrize("url", ["ws://example.org/x", "http://a/b", "wss://", "file:///etc/passwd", ""])
def test_other_addresses_are_refused(url):
    with pytest.raises(ConfigurationError, match="not a wss"):
        Connection("x", url, lambda raw, received: None)


@pytest.mark.parametrize("bad", [{"stale_after": 0}, {"overlap": 5.0, "life": 5.0}, {"ping_every": -1}])
def test_options_that_cannot_work_are_refused(bad):
    with pytest.raises(ConfigurationError):
        ConnectionOptions(**bad)


@pytest.mark.network_shape
def test_the_watchdog_reads_the_monotonic_clock_only():
    async def run():
        async with FakeExchange(("BTCUSDT",)).serving() as exchange:
            clock, alerts, got = TurnedClock(), [], []
            options = replace(FAST, stale_after=30, ping_every=1_000, watch_every=1)
            heard, broken = asyncio.Event(), asyncio.Event()

            def take(raw: bytes, received: int) -> None:
                got.append(received)
                heard.set()

            async def greet(session) -> None:
                await session.send('{"method":"SUBSCRIBE","params":["btcusdt@aggTrade"],"id":1}')

            connection = Connection(
                "one", exchange.url, take, on_open=greet, on_break=lambda reason: broken.set(),
                on_alert=alerts.append, options=options, timing=clock.timing(),
            )  # fmt: skip
            running = asyncio.create_task(connection.run())
            await exchange.subscribed()
            await heard.wait()  # the answer to the subscription
            clock.turn(29)  # in one step: the watchdog looks, and finds it quiet for less than 30 s
            heard.clear()
            await exchange.trade("BTCUSDT")
            await heard.wait()
            clock.turn(29)
            assert not broken.is_set()
            assert got == [1_000_000_000_000, 1_029_000_000_000]
            while not broken.is_set():  # a watchdog that has just looked sleeps again first
                clock.turn(2)
                await asyncio.sleep(0)
            assert clock.now >= 1_059
            assert [alert.kind for alert in alerts] == ["stale"]
            assert connection.counters.stale == 1
            assert not connection.connected
            connection.stop()
            await running

    asyncio.run(asyncio.wait_for(run(), 20))


@pytest.mark.network_shape
def test_an_abnormal_close_is_counted_as_1006_and_the_pause_grows():
    async def run():
        async with FakeExchange(("BTCUSDT",)).serving() as exchange:
            pauses = []

            async def sleep(seconds: float) -> None:
                if seconds < 0.02:
                    pauses.append(seconds)
                    return
                await asyncio.sleep(seconds)

            opened = asyncio.Event()

            async def on_open(session) -> None:
                opened.set()

            options = replace(FAST, stale_after=None, healthy_after=1_000, backoff=Backoff(first=0.002, cap=0.01))
            connection = Connection(
                "one", exchange.url, lambda raw, received: None, on_open=on_open, options=options,
                timing=Timing(sleep=sleep, random=lambda: 0.5),
            )  # fmt: skip
            running = asyncio.create_task(connection.run())
            for number in range(1, 5):
                await exchange.until(lambda number=number: exchange.opened >= number or not opened.is_set())
                await opened.wait()
                opened.clear()
                while not exchange.sessions:
                    await asyncio.sleep(0.001)
                exchange.reset()
            await opened.wait()
            assert connection.counters.closes == {1006: 4}
            assert [pause for pause in pauses if pause > 0][:4] == pytest.approx([0.0015, 0.003, 0.006, 0.0075])
            connection.stop()
            await running
            assert connection.counters.opened == 5

    asyncio.run(asyncio.wait_for(run(), 20))
