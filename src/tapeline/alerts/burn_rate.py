"""How fast an error budget is used up: of a service level objective, over several windows at once.

A rate of 1 uses up the budget of the objective's period exactly; 14.4 over an hour uses 2 per cent of a month's. An
alarm wants the rate over a long window and, so that it ends soon after the trouble does, over a short one as well
(Beyer et al., The Site Reliability Workbook, 2018, chapter 5).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Final, NamedTuple

OBJECTIVE: Final = 0.999
SLOT_SECONDS: Final = 30
WINDOWS: Final = {"5m": 300, "30m": 1_800, "1h": 3_600, "6h": 21_600}
"""Windows by name, in seconds."""


class Alarm(NamedTuple):
    """When the budget goes too fast: the rate over both windows is above ``rate``."""

    name: str
    short: str
    long: str
    rate: float


ALARMS: Final = (Alarm("page", "5m", "1h", 14.4), Alarm("ticket", "30m", "6h", 6.0))


class BurnRate:
    """Good and bad events of the last six hours, in slots of half a minute. Any thread may add.

    Parameters
    ----------
    objective:
        The share that must be good.
    clock:
        Seconds, monotonic.

    Examples
    --------
    >>> burning = BurnRate(clock=lambda: 0.0)
    >>> burning.add(good=980, bad=20)
    >>> round(burning.rate("5m"), 6), burning.alarms()
    (20.0, ('page', 'ticket'))
    """

    def __init__(self, objective: float = OBJECTIVE, clock: Callable[[], float] = time.monotonic) -> None:
        self.objective = objective
        self.good = self.bad = 0
        self._clock = clock
        self._slots = max(WINDOWS.values()) // SLOT_SECONDS + 1
        self._good, self._bad = [0] * self._slots, [0] * self._slots
        self._newest = int(clock() // SLOT_SECONDS)
        self._lock = threading.Lock()

    def add(self, *, good: int = 0, bad: int = 0) -> None:
        """Count events of now."""
        with self._lock:
            place = self._turn() % self._slots
            self._good[place] += good
            self._bad[place] += bad
            self.good += good
            self.bad += bad

    def rate(self, window: str) -> float:
        """The share of bad events in a window, in units of the budget; 0 where there were none."""
        with self._lock:
            newest = self._turn()
            count = WINDOWS[window] // SLOT_SECONDS
            places = [slot % self._slots for slot in range(newest - count + 1, newest + 1)]
            good, bad = sum(self._good[place] for place in places), sum(self._bad[place] for place in places)
        return bad / (good + bad) / (1.0 - self.objective) if bad else 0.0

    def alarms(self) -> tuple[str, ...]:
        """The alarms that sound."""
        return tuple(one.name for one in ALARMS if min(self.rate(one.short), self.rate(one.long)) > one.rate)

    def _turn(self) -> int:
        """Empty the slots that time has come to since; the newest."""
        newest = int(self._clock() // SLOT_SECONDS)
        for slot in range(max(self._newest + 1, newest - self._slots + 1), newest + 1):
            self._good[slot % self._slots] = self._bad[slot % self._slots] = 0
        self._newest = max(self._newest, newest)
        return self._newest
