"""Rules that fire again and again: how often one fired for a symbol lately, where nobody follows its changes."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final

from tapeline.alerts.phases import FLAPPING_CHANGES, FLAPPING_WINDOW

MOST: Final = 8_192
"""Rules and symbols that are remembered: those that fired last. What fires often is among them."""


class FiringRates:
    """Counts firings in the window in which changes of truth are counted.

    Parameters
    ----------
    plain:
        Of :meth:`still`.

    Examples
    --------
    >>> rates = FiringRates()
    >>> [rates.fired(("r", "A"), second * 10**9) for second in range(7)]
    [1, 2, 3, 4, 5, 6, 6]
    >>> rates.fired(("r", "A"), 700 * 10**9)
    1
    """

    def __init__(self, plain: Iterable[Iterable[Any]] = ()) -> None:
        self._times = {(rule, symbol): tuple(times) for rule, symbol, *times in plain}

    def fired(self, key: tuple[str, str], ts: int) -> int:
        """How many of the newest firings, at most ``FLAPPING_CHANGES``, lie within the window with this one."""
        before = self._times.pop(key, ())[-(FLAPPING_CHANGES - 1) :]
        times = (*(one for one in before if ts - one <= FLAPPING_WINDOW), ts)
        self._times[key] = times
        if len(self._times) > MOST:
            # The one that fired longest ago stands first.
            del self._times[next(iter(self._times))]
        return len(times)

    def forget(self, rules: Iterable[str]) -> None:
        """Forget rules that are gone or have changed."""
        gone = set(rules)
        if gone and any(rule in gone for rule, _ in self._times):
            self._times = {key: times for key, times in self._times.items() if key[0] not in gone}

    def still(self) -> Callable[[], list[list[Any]]]:
        """What it remembers, as of now, to be made later: in any thread, at any time."""
        times = dict(self._times)
        return lambda: [[*key, *some] for key, some in times.items()]
