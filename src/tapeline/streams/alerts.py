"""What a feed tells about itself when people should know: it is stale, it gave up, a gap could not be filled."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias

from tapeline.core.errors import TemporaryError

Kind: TypeAlias = Literal["stale", "half_open", "recovered", "gave_up", "refused", "gap_unfilled", "drift", "sink"]


@dataclass(frozen=True)
class FeedAlert:
    """One alert of a feed.

    Parameters
    ----------
    feed:
        Its name.
    kind:
        ``stale``: connected, but no data. ``half_open``: no answer to a ping. ``recovered``: data again after an
        alert. ``gave_up``: no more attempts; the feed is down until it is started again. ``refused``: the venue
        refused a subscription. ``gap_unfilled``: the venue's history does not give what the stream lost. ``drift``:
        the venue's clock and ours differ. ``sink``: what was received cannot be stored.
    detail:
        A sentence for people.
    at:
        Nanoseconds since the epoch, our clock.
    """

    feed: str
    kind: Kind
    detail: str
    at: int


OnAlert: TypeAlias = Callable[[FeedAlert], None]


class FeedLostError(TemporaryError):
    """A feed gave up; the alert ``gave_up`` was raised before."""


def ignore(_alert: FeedAlert) -> None:
    """Take an alert and do nothing."""
