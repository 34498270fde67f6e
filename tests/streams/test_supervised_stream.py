"""A stream's supervisor on scripted sessions and on a clock that the test turns."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tapeline.core.errors import ConfigurationError, TapelineError, TemporaryError, ThrottledError
from tapeline.core.exchange_errors import BookChecksumError, CredentialsError
from tapeline.core.symbol import Symbol
from tapeline.streams.alerts import FeedAlert, FeedLostError
from tapeline.streams.messages import Heartbeat, Trade
from tapeline.streams.supervised_stream import RecentIds, StreamOptions, SupervisedStream
from tapeline.streams.timing import Backoff, Timing
from tests.streams.test_connection import TurnedClock

SYMBOL = Symbol.parse("BTC/USD")


def trade(number: int) -> Trade:
    return Trade(SYMBOL, number, 5.0, 1.0, 1, str(number))


class Sessions:
    """Each session is a list of what it does: batches, errors, waits; after the last one it stays silent."""

    def __init__(self, *scripts: list[Any]) -> None:
        self.scripts, self.opened, self.closed = list(scripts), 0, 0

    @asynccontextmanager
    async def connect(self):
        script = self.scripts[self.opened] if self.opened < len(self.scripts) else []
        self.opened += 1
        try:
            if script and isinstance(script[0], TapelineError):
                raise script[0]
            yield self._play(script)
        finally:
            self.closed += 1

    async def _play(self, script: list[Any]):
        for each in script:
            if isinstance(each, Exception):
                raise each
            yield each
        if script and script[-1] == []:
            return
        await asyncio.Event().wait()


def run(sessions: Sessions, enough: Callable[[SupervisedStream], bool], **more: Any) -> tuple[Any, ...]:
    got: list[Any] = []
    alerts: list[FeedAlert] = []
    broken: list[str] = []
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        await asyncio.sleep(0)

    async def main() -> SupervisedStream:
        stream = SupervisedStream(
            "x", sessions.connect, more.get("on_record", lambda record, at: got.append(record)),
            on_break=broken.append, on_alert=alerts.append,
            options=more.get("options", StreamOptions(stale_after=None, watch_every=5, backoff=Backoff(1.0, 8.0))),
            timing=Timing(sleep=sleep, random=lambda: 0.0),
        )  # fmt: skip
        running = asyncio.create_task(stream.run())
        while not running.done() and not enough(stream):
            await asyncio.sleep(0)
        stream.stop()
        await running
        return stream

    stream = asyncio.run(asyncio.wait_for(main(), 10))
    return got, alerts, broken, [each for each in slept if each != 5], stream


def test_trades_are_told_once_over_all_sessions_and_heartbeats_not_at_all() -> None:
    sessions = Sessions(
        [[trade(1), trade(2)], [Heartbeat()], TemporaryError("cut")], [[trade(1), trade(2), trade(3)], [trade(4)]]
    )
    got, _, broken, slept, stream = run(sessions, lambda stream: stream.counters.records == 4)
    assert [record.id for record in got] == ["1", "2", "3", "4"]
    assert stream.counters.doubled == 2
    assert broken == ["cut"]
    assert slept == [0.5]
    assert sessions.opened == sessions.closed == 2


def test_back_off_doubles_to_the_cap_and_a_healthy_session_resets_it() -> None:
    failures = [[TemporaryError("no")] for _ in range(5)]
    sessions = Sessions(*failures, [[trade(1)], TemporaryError("cut")], [[trade(2)]])
    options = StreamOptions(stale_after=None, watch_every=5, healthy_after=0.0, backoff=Backoff(1.0, 8.0))
    *_, slept, stream = run(sessions, lambda stream: stream.counters.records == 2, options=options)
    assert slept == [0.5] * 6  # every session counts as healthy
    sessions = Sessions(*failures, [[trade(1)]])
    *_, slept, stream = run(sessions, lambda stream: stream.counters.records == 1)
    assert slept == [0.5, 1.0, 2.0, 4.0, 4.0]
    assert stream.counters.failed == 5


def test_what_a_venue_asks_for_is_waited_for() -> None:
    sessions = Sessions([ThrottledError("slow", retry_after=17.0)], [[trade(1)]])
    *_, slept, _ = run(sessions, lambda stream: stream.counters.records == 1)
    assert slept == [17.0]


def test_a_wrong_checksum_opens_the_stream_again() -> None:
    sessions = Sessions([[trade(1)], BookChecksumError("checksum")], [[trade(2)]])
    got, alerts, broken, _, _ = run(sessions, lambda stream: stream.counters.records == 2)
    assert len(got) == 2
    assert broken == ["checksum"]
    assert alerts == []


def test_an_end_of_the_stream_is_a_break() -> None:
    sessions = Sessions([[trade(1)], []], [[trade(2)]])
    _, _, broken, _, _ = run(sessions, lambda stream: stream.counters.records == 2)
    assert broken == ["x: the venue ended the stream"]


def test_what_time_does_not_heal_ends_the_stream_with_an_alert() -> None:
    alerts: list[FeedAlert] = []

    async def main() -> None:
        sessions = Sessions([CredentialsError("wrong key")])
        stream = SupervisedStream("x", sessions.connect, lambda record, at: None, on_alert=alerts.append)
        with pytest.raises(CredentialsError):
            await stream.run()
        assert sessions.opened == sessions.closed == 1

    asyncio.run(asyncio.wait_for(main(), 10))
    assert [(alert.feed, alert.kind) for alert in alerts] == [("x", "refused")]


def test_giving_up_is_an_alert_and_an_error_that_may_be_tried_again() -> None:
    options = StreamOptions(maximum_attempts=3, watch_every=5, backoff=Backoff(0.001, 0.001))
    sessions = Sessions(*([TemporaryError("no")] for _ in range(9)))
    alerts: list[FeedAlert] = []

    async def main() -> None:
        stream = SupervisedStream(
            "x", sessions.connect, lambda record, at: None, on_alert=alerts.append, options=options
        )
        with pytest.raises(FeedLostError, match="gave up after 3"):
            await stream.run()

    asyncio.run(asyncio.wait_for(main(), 10))
    assert sessions.opened == 4
    assert [alert.kind for alert in alerts] == ["gave_up"]


def test_a_fault_of_the_reader_is_not_swallowed() -> None:
    def fails(record: Any, at: int) -> None:
        raise ZeroDivisionError("ours")

    with pytest.raises(ZeroDivisionError, match="ours"):
        run(Sessions([[trade(1)]]), lambda stream: False, on_record=fails)


def test_the_watchdog_reads_the_monotonic_clock_only() -> None:
    clock = TurnedClock()
    sessions = Sessions([[trade(1)]], [[trade(2)]])
    alerts: list[FeedAlert] = []

    async def main() -> None:
        stream = SupervisedStream(
            "x", sessions.connect, lambda record, at: None, on_alert=alerts.append,
            options=StreamOptions(stale_after=30, watch_every=1, backoff=Backoff(1.0, 1.0)), timing=clock.timing(),
        )  # fmt: skip
        running = asyncio.create_task(stream.run())

        async def settle() -> None:
            for _ in range(20):
                await asyncio.sleep(0)

        await settle()
        clock.turn(29)
        await settle()
        assert alerts == []
        for _ in range(4):
            clock.turn(1)
            await settle()
        assert [alert.kind for alert in alerts] == ["stale", "recovered"]
        assert alerts[0].at >= 1_030 * 10**9
        assert stream.counters.stale == 1
        assert stream.connected
        stream.stop()
        await running

    asyncio.run(asyncio.wait_for(main(), 10))
    assert sessions.opened == sessions.closed == 2


def test_a_stop_ends_a_stream_that_waits_for_its_next_attempt() -> None:
    async def main() -> None:
        sessions = Sessions([TemporaryError("no")])
        options = StreamOptions(backoff=Backoff(3_000.0, 3_000.0))
        stream = SupervisedStream("x", sessions.connect, lambda record, at: None, options=options)
        running = asyncio.create_task(stream.run())
        while not stream.counters.failed:
            await asyncio.sleep(0)
        stream.stop()
        await running

    asyncio.run(asyncio.wait_for(main(), 10))


@given(st.lists(st.integers(0, 30), max_size=200), st.integers(1, 10))
def test_the_latest_ids_are_remembered_and_no_more(numbers: list[int], maximum: int) -> None:
    seen, noted = RecentIds(maximum=maximum), []
    for number in numbers:
        assert seen.is_new(trade(number)) is (number not in noted)
        if number not in noted:
            noted = [*noted, number][-maximum:]


@pytest.mark.parametrize("bad", [{"stale_after": 0}, {"watch_every": 0}])
def test_options_that_cannot_work_are_refused(bad: dict[str, float]) -> None:
    with pytest.raises(ConfigurationError):
        StreamOptions(**bad)
