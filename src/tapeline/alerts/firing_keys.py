"""The keys of firings: what follows from the event alone, so that the same event found again is the same firing."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final

from tapeline.alerts.firing import Firing, dedupe_key

MOST: Final = 8_192
RECENT: Final = 60 * 1_000_000_000
"""Nanoseconds of event time for which trades without a number are counted at least."""


class FiringKeys:
    """Makes keys; remembers only how many firings of one instant there were where the feed has no numbers.

    Parameters
    ----------
    plain:
        Of :meth:`snapshot`.
    """

    def __init__(self, plain: Iterable[Iterable[Any]] = ()) -> None:
        self._counts = {(rule, symbol, kind): (ts, count) for rule, symbol, kind, ts, count in plain}

    def key(self, found: Firing, escalation: int = 0) -> str:
        """What a firing is recognised by.

        The feed's number tells trades of one instant apart; where it has none they are counted. A close comes once,
        whichever record brought it, and so does what a timer brought, which carries no sides.

        Parameters
        ----------
        escalation:
            Which of its escalations it is, counted from 1.
        """
        which = 0
        if found.kind == "escalation":
            which = escalation
        elif not found.at_close and found.sequence >= 0:
            which = found.sequence
        elif not found.at_close and found.sides:
            which = self._count((found.rule, found.symbol, found.kind), found.ts)
        return dedupe_key(found.rule, found.rule_version, found.symbol, found.kind, found.ts, which)

    def snapshot(self) -> list[list[Any]]:
        """What it remembers, as JSON keeps it."""
        return self.still()()

    def still(self) -> Callable[[], list[list[Any]]]:
        """:meth:`snapshot` as of now, to be made later."""
        counts = dict(self._counts)
        return lambda: [[*what, *value] for what, value in counts.items()]

    def _count(self, what: tuple[str, str, str], ts: int) -> int:
        at, count = self._counts.pop(what, (-1, -1))
        count = count + 1 if at == ts else 0
        self._counts[what] = (ts, count)
        if len(self._counts) > MOST:
            # The oldest entry stands first: entries move to the end when they count.
            recent = [one for one in self._counts.items() if one[1][0] >= ts - RECENT]
            self._counts = dict(recent[-MOST // 2 :])
        return count
