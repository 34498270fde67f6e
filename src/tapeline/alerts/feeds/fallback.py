"""The fallback: which symbols' streams are silent, when to ask the venue's history, and when the stream speaks again.

No I/O. What the history gives goes into the same sequence of ids as the stream, so that whichever of the two brings a
trade first, it is given once and in its place: the fallback only decides who is asked.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from tapeline.core.errors import ConfigurationError
from tapeline.streams.timing import Timing


@dataclass(frozen=True)
class FallbackOptions:
    """When the history is asked; seconds.

    Parameters
    ----------
    stale_after:
        Silence of a symbol's stream after which its history is asked.
    poll_every:
        Pause between two questions while they bring something.
    poll_most:
        Longest pause: each question that brings nothing doubles it, since most silent symbols are merely quiet.
    """

    stale_after: float = 5.0
    poll_every: float = 1.0
    poll_most: float = 60.0

    def __post_init__(self) -> None:
        if not (self.stale_after > 0 and 0 < self.poll_every <= self.poll_most):
            raise ConfigurationError(
                f"stale_after = {self.stale_after} must be positive, poll_every = {self.poll_every} positive and at "
                f"most poll_most = {self.poll_most}"
            )


@dataclass
class FallbackCounters:
    """``taken_over`` and ``handed_back`` are of symbols; ``missed``: take-overs in which the history had trades."""

    taken_over: int = 0
    handed_back: int = 0
    missed: int = 0
    polls: int = 0
    empty: int = 0
    failed: int = 0


class _State:
    __slots__ = ("active", "heard", "live", "missed", "next_poll", "pause")

    def __init__(self, now: float) -> None:
        self.heard, self.active, self.missed, self.live = now, False, False, -1
        self.next_poll = self.pause = 0.0


class Fallback:
    """Watches the streams of symbols on the monotonic clock.

    It takes over a symbol whose stream was silent for too long, and hands it back when a trade of the stream has been
    released: then everything before it has been, too.

    Examples
    --------
    >>> now = [0.0]
    >>> fallback = Fallback(["BTCUSDT"], timing=Timing(monotonic=lambda: now[0]))
    >>> fallback.heard("BTCUSDT", 7)
    False
    >>> now[0] = 6.0
    >>> fallback.due(), fallback.is_active("BTCUSDT")
    (['BTCUSDT'], True)
    >>> fallback.polled("BTCUSDT", found=3, more=False)
    True
    >>> fallback.heard("BTCUSDT", 12)
    True
    >>> [fallback.released("BTCUSDT", number) for number in (10, 11, 12)], fallback.is_active("BTCUSDT")
    ([False, False, True], False)
    """

    def __init__(
        self, symbols: Iterable[str] = (), *, options: FallbackOptions | None = None, timing: Timing | None = None
    ) -> None:
        self.options, self.timing = options or FallbackOptions(), timing or Timing()
        self.counters = FallbackCounters()
        self._asked = 0
        self._states: dict[str, _State] = {}
        self.watch(symbols)

    def watch(self, symbols: Iterable[str]) -> None:
        """Watch further symbols: they count as heard now."""
        now = self.timing.monotonic()
        for symbol in symbols:
            self._states.setdefault(symbol, _State(now))

    def forget(self, symbols: Iterable[str]) -> None:
        """Watch some no more."""
        for symbol in symbols:
            state = self._states.pop(symbol, None)
            self._asked -= state is not None and state.active

    def is_active(self, symbol: str) -> bool:
        """Whether the history is asked for it."""
        state = self._states.get(symbol)
        return state is not None and state.active

    @property
    def active(self) -> list[str]:
        """The symbols for which the history is asked."""
        return [symbol for symbol, state in self._states.items() if state.active]

    def heard(self, symbol: str, number: int | str) -> bool:
        """The stream brought a trade with this id; whether the history is being asked for its symbol."""
        state = self._states.get(symbol)
        if state is None:
            return False
        state.heard = self.timing.monotonic()
        if state.active:
            state.live = max(state.live, int(number))
        return state.active

    def released(self, symbol: str, number: int | str) -> bool:
        """A trade is in order now, whoever brought it; whether the stream has its symbol back with it."""
        if not self._asked:
            return False
        state = self._states.get(symbol)
        if state is None or not state.active or not 0 <= state.live <= int(number):
            return False
        state.active, state.live = False, -1
        self._asked -= 1
        self.counters.handed_back += 1
        return True

    def due(self) -> list[str]:
        """The symbols whose history is to be asked now."""
        now, found = self.timing.monotonic(), []
        for symbol, state in self._states.items():
            if not state.active and now - state.heard > self.options.stale_after:
                state.active, state.missed, state.live = True, False, -1
                state.next_poll, state.pause = now, self.options.poll_every
                self._asked += 1
                self.counters.taken_over += 1
            if state.active and state.next_poll <= now:
                found.append(symbol)
        return found

    def polled(self, symbol: str, *, found: int, more: bool) -> bool:
        """The history gave so many new trades, and has more; whether it is the first time since it took over."""
        self.counters.polls += 1
        state = self._states.get(symbol)
        if state is None:
            return False
        first = bool(found) and not state.missed
        if found:
            state.missed = True
            self.counters.missed += first
            state.pause = self.options.poll_every
        else:
            self.counters.empty += 1
        state.next_poll = self.timing.monotonic() + (0.0 if more else state.pause)
        if not found:
            state.pause = min(2 * state.pause, self.options.poll_most)
        return first

    def failed(self, symbol: str, wait: float = 0.0) -> None:
        """The history gave no answer: ask again after a longer pause, at least ``wait`` seconds."""
        self.counters.failed += 1
        state = self._states.get(symbol)
        if state is not None:
            state.next_poll = self.timing.monotonic() + max(state.pause, wait)
            state.pause = min(2 * state.pause, self.options.poll_most)
