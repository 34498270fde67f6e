"""A cache of answers between processes: in memory and in Redis, each for a while, and never in the way.

What is asked for is in the key, and so is a version that the caller reads from the database: an answer of another
version is never given. Where there is no Redis, or it does not answer, the caller's own question is asked.
"""

from __future__ import annotations

import hashlib
import json
import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeVar

from tapeline.alerts.scale.redis_connection import own_redis_errors
from tapeline.alerts.scale.tick_streams import PREFIX
from tapeline.core.errors import TapelineError

if TYPE_CHECKING:
    import redis

_log = logging.getLogger(__name__)
Answer = TypeVar("Answer")
LARGEST: Final = 1 << 20
"""Bytes of an answer beyond which it is not kept."""
MOST: Final = 1_024
"""Answers kept in memory."""
_QUIET_SECONDS: Final = 1.0
"""For which a Redis that did not answer is not asked again."""


@dataclass
class CacheCounters:
    """What became of what was asked: found in memory, found in Redis, asked anew, and failures of Redis."""

    near: int = 0
    far: int = 0
    missed: int = 0
    failed: int = 0
    forgotten: int = 0


class Cache:
    """Answers by name and version, as JSON.

    Parameters
    ----------
    client:
        Of Redis; in memory alone where absent.
    seconds:
        For which an answer is given again.
    clock:
        Seconds, monotonic.

    Examples
    --------
    >>> cache = Cache(None, seconds=60.0)
    >>> [cache.get("rules", "ann", version, lambda: version * 10) for version in (1, 1, 2)]
    [10, 10, 20]
    >>> cache.counters.near, cache.counters.missed
    (1, 2)
    """

    def __init__(
        self,
        client: redis.Redis | None,
        *,
        seconds: float = 5.0,
        prefix: str = PREFIX,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.counters = CacheCounters()
        self._client, self._seconds, self._prefix, self._clock = client, seconds, prefix, clock
        self._near: OrderedDict[str, tuple[float, Any]] = OrderedDict()
        self._lock = threading.Lock()
        self._quiet_until = float("-inf")
        self._listener: Any = None

    def get(self, group: str, name: str, version: int, ask: Callable[[], Answer]) -> Answer:
        """The answer of this version, asked anew where it is not kept.

        Parameters
        ----------
        group:
            Of answers that are forgotten together.
        name:
            What is asked; of any length.
        version:
            What the answer depends on, as the database counts it: read it before this call.
        ask:
            Gives the answer, which JSON can keep.
        """
        key = self._key(group, name, version)
        with self._lock:
            found = self._near.get(key)
            if found is not None and found[0] > self._clock():
                self._near.move_to_end(key)
                self.counters.near += 1
                answer: Answer = found[1]
                return answer
        far = self._far(lambda client: client.get(key))
        if far is not None:
            try:
                answer = json.loads(far)
            except ValueError:
                self.counters.failed += 1
            else:
                self.counters.far += 1
                self._keep(key, answer)
                return answer
        self.counters.missed += 1
        answer = ask()
        text = json.dumps(answer, separators=(",", ":"))
        if len(text) <= LARGEST:
            self._keep(key, answer)
            self._far(lambda client: client.set(key, text, px=max(int(self._seconds * 1e3), 1)))
        return answer

    def forget(self, group: str) -> None:
        """Forget the answers of a group, here and in every process that listens: where no version tells of a change."""
        self._forget(group)

        def work(client: redis.Redis) -> None:
            for key in client.scan_iter(f"{self._prefix}:cache:{group}:*", count=500):
                client.unlink(key)
            client.publish(self._channel, group)

        self._far(work)

    def listen(self) -> None:
        """Hear of what other processes forget, in a thread, until :meth:`close`."""
        if self._client is None or self._listener is not None:
            return
        with own_redis_errors():
            listening = self._client.pubsub(ignore_subscribe_messages=True)
            listening.subscribe(**{self._channel: lambda message: self._forget(message["data"].decode())})
            self._listener = listening.run_in_thread(sleep_time=0.1, daemon=True, exception_handler=self._deaf)

    def close(self) -> None:
        """Hear no more."""
        if self._listener is not None:
            self._listener.stop()
            self._listener.join(1.0)
            self._listener = None

    @property
    def _channel(self) -> str:
        return f"{self._prefix}:cache-forgotten"

    def _key(self, group: str, name: str, version: int) -> str:
        digest = hashlib.blake2b(name.encode(), digest_size=16).hexdigest()
        return f"{self._prefix}:cache:{group}:{version}:{digest}"

    def _keep(self, key: str, answer: Any) -> None:
        with self._lock:
            self._near[key] = (self._clock() + self._seconds, answer)
            self._near.move_to_end(key)
            while len(self._near) > MOST:
                self._near.popitem(last=False)

    def _forget(self, group: str) -> None:
        begins = f"{self._prefix}:cache:{group}:"
        with self._lock:
            for key in [key for key in self._near if key.startswith(begins)]:
                del self._near[key]
                self.counters.forgotten += 1

    def _far(self, work: Callable[[redis.Redis], Any]) -> Any:
        """What Redis says; None where there is none, or where it does not answer: then it is left alone for a while."""
        if self._client is None or self._clock() < self._quiet_until:
            return None
        try:
            with own_redis_errors():
                return work(self._client)
        except TapelineError as error:
            self.counters.failed += 1
            self._quiet_until = self._clock() + _QUIET_SECONDS
            _log.debug("the cache goes on without Redis: %s", error)
            return None

    def _deaf(self, error: BaseException, pubsub: Any, thread: Any) -> None:
        """The connection of the listener was lost: what it may have missed is forgotten, and it connects again."""
        with self._lock:
            self._near.clear()
        time.sleep(_QUIET_SECONDS)
