"""Subscribers of live data: a bounded queue each, and what happens to one that is too slow."""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Hashable
from typing import Any, Literal, TypeAlias

from tapeline.core.errors import ConfigurationError, TemporaryError

Policy: TypeAlias = Literal["conflate", "disconnect"]


class SlowSubscriberError(TemporaryError):
    """The subscriber did not keep up and was disconnected, as it had asked for."""


class Subscriber:
    """One reader of a feed.

    Parameters
    ----------
    policy:
        ``conflate``: a new state replaces the unread one of the same kind and instrument, so that a slow reader sees
        fewer but current states; where there are more keys than ``size``, the oldest unread goes. ``disconnect``: every
        update in order, and a reader that lets more than ``size`` wait is cut off.
    size:
        The bound of the queue.

    Attributes
    ----------
    conflated, dropped:
        States that were replaced by newer ones, and states of other keys that had to go.

    Examples
    --------
    >>> reader = Subscriber("conflate", size=2)
    >>> for key, value in (("a", 1), ("a", 2), ("b", 3), ("c", 4)):
    ...     reader.offer(key, value)
    >>> reader.take(), reader.take(), reader.take(), reader.conflated, reader.dropped
    (3, 4, None, 1, 1)
    """

    def __init__(self, policy: Policy = "conflate", *, size: int = 10_000) -> None:
        if policy not in ("conflate", "disconnect"):
            raise ConfigurationError(f"policy {policy!r} is unknown", hint="use conflate or disconnect")
        if size < 1:
            raise ConfigurationError(f"size = {size} must be at least 1")
        self.policy, self.size = policy, size
        self.delivered = self.conflated = self.dropped = 0
        self.closed = False
        self.too_slow = False
        self._states: OrderedDict[Hashable, Any] = OrderedDict()
        self._updates: deque[Any] = deque()
        self._ready = asyncio.Event()

    def __len__(self) -> int:
        return len(self._states) + len(self._updates)

    def offer(self, key: Hashable, update: Any) -> None:
        """Put an update into the queue, by the policy."""
        if self.closed:
            return
        if self.policy == "conflate":
            if key in self._states:
                self.conflated += 1
            elif len(self._states) >= self.size:
                self._states.popitem(last=False)
                self.dropped += 1
            # A replaced state keeps its place: a busy instrument must not push itself behind forever.
            self._states[key] = update
        elif len(self._updates) >= self.size:
            self.dropped += len(self._updates) + 1
            self._updates.clear()
            self.too_slow = True
            self.close()
        else:
            self._updates.append(update)
        self._ready.set()

    def take(self) -> Any | None:
        """The next update, None where none waits; SlowSubscriberError after a disconnection."""
        if self.too_slow:
            raise SlowSubscriberError(f"more than {self.size} updates were waiting", hint="read faster, or conflate")
        if self._states:
            self.delivered += 1
            return self._states.popitem(last=False)[1]
        if self._updates:
            self.delivered += 1
            return self._updates.popleft()
        return None

    async def get(self) -> Any | None:
        """The next update, awaited; None after ``close``."""
        while True:
            update = self.take()
            if update is not None or self.closed:
                return update
            self._ready.clear()
            await self._ready.wait()

    async def __aiter__(self) -> AsyncIterator[Any]:
        while (update := await self.get()) is not None:
            yield update

    def close(self) -> None:
        """Take no more updates; what waits can still be read."""
        self.closed = True
        self._ready.set()
