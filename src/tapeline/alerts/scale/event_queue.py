"""What flows, bots and the gateway have to say of a symbol, as a queue in Redis: any process adds, the publisher takes.

It is a consumer group. What a publisher took and did not pass on before it died is claimed by the next one; what it
did pass on is recognised by its number, which follows from its id.
"""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final

from tapeline.alerts.external import External
from tapeline.alerts.scale.redis_connection import own_redis_errors
from tapeline.alerts.scale.tick_streams import PREFIX
from tapeline.core.errors import DataError, TapelineError, TemporaryError

if TYPE_CHECKING:
    import redis

    from tapeline.alerts.feeds.data_manager import DataManager

_log = logging.getLogger(__name__)
SOURCE: Final = "events"
"""What their positions are called after."""
GROUP: Final = "feed"
MOST: Final = 1_000
LONGEST_KEY: Final = 200
_SEQUENCE_BITS: Final = 20
_CLAIM_EVERY: Final = 50
"""Reads between two looks at what others hold."""


def queue_key(prefix: str = PREFIX) -> str:
    """The name of the queue."""
    return f"{prefix}:events"


class EventQueue:
    """The end at which events are added.

    Parameters
    ----------
    client:
        Of Redis.
    most:
        Events that may wait; then it refuses, so that nobody fills the server.
    """

    def __init__(self, client: redis.Redis, prefix: str = PREFIX, *, most: int = 100_000) -> None:
        self._client, self._key, self._most = client, queue_key(prefix), most

    def publish(self, events: Iterable[External]) -> int:
        """Add events; how many. They take the way of ticks once the publisher has read them.

        Raises
        ------
        DataError
            A value is infinite, or a name too long.
        TemporaryError
            Redis does not answer, or too many wait.
        """
        some = list(events)
        for one in some:
            if math.isinf(one.value) or len(one.key) > LONGEST_KEY or len(one.symbol) > LONGEST_KEY:
                raise DataError(f"{one.key[:50]} of {one.symbol[:50]} = {one.value} is no event: infinite, or too long")
        with own_redis_errors():
            waiting = int(self._client.xlen(self._key))
            if waiting + len(some) > self._most:
                raise TemporaryError(f"{waiting} events wait for the feed, of {self._most} at most")
            line = self._client.pipeline(transaction=True)
            for one in some:
                fields: dict[Any, Any] = {
                    "symbol": one.symbol,
                    "key": one.key,
                    "ts": one.ts,
                    "value": repr(one.value),
                    "event": int(one.event),
                }
                line.xadd(self._key, fields)
            line.execute()
        return len(some)


class EventReader:
    """The end at which the publisher that speaks takes them.

    Parameters
    ----------
    client:
        Of its own: it blocks.
    consumer:
        The process's name.
    idle:
        Milliseconds after which what another consumer holds is taken for abandoned.
    """

    def __init__(self, client: redis.Redis, consumer: str, prefix: str = PREFIX, *, idle: int = 5_000) -> None:
        self.taken = self.claimed = self.refused = 0
        self._client, self._consumer, self._key, self._idle = client, consumer, queue_key(prefix), idle
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._told: list[int] = []

    def start(self, manager: DataManager) -> None:
        """Take events into a data manager, those first that others took and did not pass on."""
        self._stopping = threading.Event()
        self._told = []
        self._thread = threading.Thread(
            target=self._run, args=(manager, self._stopping), name="tapeline-alert-events", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """Take no more."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()

    def told(self, numbers: Iterable[int], *, sent: bool) -> None:
        """These are on their way: with ``sent`` they are in their streams."""
        self._told.extend(numbers)
        if sent:
            self.settled()

    def settled(self) -> None:
        """All that is on its way is in its stream: nobody need take it again."""
        done, self._told = self._told, []
        if not done:
            return
        try:
            self._done([_id(one) for one in done])
        except TemporaryError as error:
            # They are claimed and taken again; their numbers say that they were there.
            _log.info("%d events are not acknowledged: %s", len(done), error)

    def read(self, manager: DataManager, *, block: int = 100, idle: int | None = None) -> int:
        """Take what is there once; how many. With ``idle`` first what others have held for so many milliseconds.

        Raises
        ------
        TemporaryError
            Redis does not answer, or the manager takes nothing more.
        """
        from redis.exceptions import ResponseError

        found: list[Any] = []
        with own_redis_errors():
            try:
                if idle is not None:
                    cursor: Any = "0-0"
                    while True:
                        answer: Any = self._client.xautoclaim(
                            self._key, GROUP, self._consumer, idle, cursor, count=MOST
                        )
                        found += answer[1]
                        self.claimed += len(answer[1])
                        cursor = answer[0]
                        if cursor in (b"0-0", "0-0"):
                            break
                answer = self._client.xreadgroup(GROUP, self._consumer, {self._key: ">"}, count=MOST, block=block)
            except ResponseError as error:
                if "NOGROUP" not in str(error):
                    raise
                self._client.xgroup_create(self._key, GROUP, "0", mkstream=True)
                return 0
        for _, entries in answer.items() if isinstance(answer, dict) else answer or ():
            nested = entries and entries[0] and isinstance(entries[0][0], (list, tuple))
            found += entries[0] if nested else entries
        useless = [id for id, fields in found if not self._give(manager, id, fields)]
        if useless:
            self.refused += len(useless)
            self._done(useless)
        self.taken += len(found) - len(useless)
        return len(found)

    def _run(self, manager: DataManager, stopping: threading.Event) -> None:
        reads = 0
        while not stopping.is_set():
            # At the beginning of a term whoever holds something does not speak any more.
            idle = 0 if reads == 0 else self._idle if reads % _CLAIM_EVERY == 0 else None
            try:
                self.read(manager, idle=idle)
                reads += 1
            except TapelineError as error:
                _log.info("events wait: %s", error)
                stopping.wait(0.5)

    def _give(self, manager: DataManager, id: bytes, fields: Any) -> bool:
        """Hand an event on; False where nobody ever can."""
        try:
            symbol, key = fields[b"symbol"].decode(), fields[b"key"].decode()
            ts, value, event = int(fields[b"ts"]), float(fields[b"value"]), fields[b"event"] == b"1"
            number = _number(id)
        except (KeyError, ValueError, TypeError):
            return False
        if not (0 <= ts < 2**62) or math.isinf(value) or not manager.batcher.knows(symbol):
            return False
        manager.value(symbol, key, ts, value, event=event, sequence=number, source=SOURCE)
        return True

    def _done(self, ids: list[Any]) -> None:
        with own_redis_errors():
            line = self._client.pipeline(transaction=False)
            line.xack(self._key, GROUP, *ids)
            line.xdel(self._key, *ids)
            line.execute()


def _number(id: bytes) -> int:
    milliseconds, _, sequence = id.partition(b"-")
    if int(sequence) >= 1 << _SEQUENCE_BITS:
        raise ValueError("more events in a millisecond than have numbers")
    return int(milliseconds) << _SEQUENCE_BITS | int(sequence)


def _id(number: int) -> str:
    return f"{number >> _SEQUENCE_BITS}-{number & ((1 << _SEQUENCE_BITS) - 1)}"
