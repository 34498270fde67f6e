"""Who is still good: a short memory of users, logins and keys, so that a request need not ask the database."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Final, Generic, TypeVar

Value = TypeVar("Value")
MOST: Final = 20_000


class Standing(Generic[Value]):
    """Remembers answers for a while, and forgets all of them at once when anything changes here.

    What changes in this process is seen by the very next question; what changes in another, after ``seconds`` at most.
    An answer that was being fetched while something changed is given to him who asked before, and not remembered.

    Parameters
    ----------
    seconds:
        How long an answer is believed; 0 asks every time.
    timer:
        Seconds of a clock that is never set back.

    Examples
    --------
    >>> standing = Standing(60.0)
    >>> standing.of("ann", lambda: "user"), standing.of("ann", lambda: "admin")
    ('user', 'user')
    >>> standing.forget()
    >>> standing.of("ann", lambda: "admin")
    'admin'
    """

    def __init__(self, seconds: float, timer: Callable[[], float] = time.monotonic) -> None:
        self._seconds, self._timer = seconds, timer
        self._lock = threading.Lock()
        self._age = 0
        self._known: dict[str, tuple[float, Value]] = {}

    def of(self, key: str, fetch: Callable[[], Value | None]) -> Value | None:
        """The answer for a key; None is never remembered, for strangers could fill the memory with it."""
        known = self.known(key)
        if known is not None:
            return known
        age = self._age
        # The time begins before the question: what happens while it is asked must not be believed for longer.
        until = self._timer() + self._seconds
        value = fetch()
        if value is not None:
            with self._lock:
                if age == self._age:
                    if len(self._known) >= MOST:
                        self._known.clear()
                    self._known[key] = (until, value)
        return value

    def known(self, key: str) -> Value | None:
        """The answer for a key where it is remembered: for those who must not wait."""
        found = self._known.get(key)
        return found[1] if found is not None and self._timer() < found[0] else None

    def forget(self) -> None:
        """Something changed: ask anew."""
        with self._lock:
            self._age += 1
            self._known = {}
