"""One interface to send deliveries through, and what became of a try."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from tapeline.alerts.records import Delivery, Outcome
from tapeline.alerts.store.store import Endpoint


@dataclass(frozen=True)
class Answer:
    """What became of one try.

    Parameters
    ----------
    outcome:
        ``sent``; ``retry``: try again by the schedule; ``throttled``: try again when its limit allows, without
        counting; ``refused``: trying again gives the same; ``gone``: the endpoint asked to be left alone.
    status:
        The HTTP status; 0 where there was none.
    detail:
        Why, in one line without secrets.
    retry_after:
        Seconds that were asked for, where they were.
    disable:
        Why the endpoint must be switched off, where it must.
    """

    outcome: Outcome
    status: int = 0
    detail: str = ""
    retry_after: float | None = None
    disable: str = ""


class Channel(Protocol):
    """A kind of place that deliveries go to. Called from several threads, for one endpoint from one at a time."""

    @property
    def name(self) -> str:
        """What ``Delivery.channel`` calls it."""
        ...

    @property
    def digests(self) -> bool:
        """Whether several deliveries may go as one message; a bot gets each as it is."""
        ...

    def admit(self, endpoint: Endpoint | None) -> float:
        """Take one message's place within the service's limits and return 0, or the seconds to wait for one."""
        ...

    def send(self, deliveries: Sequence[Delivery], endpoint: Endpoint | None, *, now: int) -> Answer:
        """Send them now, once, as one message. A bad answer is an ``Answer``, not an exception.

        ``endpoint`` is None where the delivery names none; ``now`` is the time of the try in nanoseconds.
        """
        ...
