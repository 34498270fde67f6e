"""Alerts of a live feed on their way to people: one notification each, sent beside the feed and never in its way."""

from __future__ import annotations

import asyncio
import logging
import re
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from types import MappingProxyType
from typing import Final

from tapeline.monitoring.notification import Notification, Severity
from tapeline.streams.alerts import FeedAlert, Kind

Notify = Callable[[Notification], object]

MAXIMUM_WAITING: Final = 1_000
CLOSE_SECONDS: Final = 30.0
"""How long the last alerts may take at the end of a run."""

SEVERITIES: Final[Mapping[Kind, Severity]] = MappingProxyType(
    {
        "stale": Severity.WARNING,
        "half_open": Severity.WARNING,
        "recovered": Severity.INFO,
        "gave_up": Severity.ERROR,
        "refused": Severity.ERROR,
        "gap_unfilled": Severity.ERROR,
        "drift": Severity.WARNING,
        "sink": Severity.CRITICAL,
    }
)
_CHANGING: Final = re.compile(r"[-+]?\d+(?:[.,:]\d+)*")
_log: Final = logging.getLogger(__name__)


def notification_of(alert: FeedAlert) -> Notification:
    """An alert as people read it. Its key holds no number, so that the same trouble is the same a minute later.

    Examples
    --------
    >>> one, other = (FeedAlert("binance", "gap_unfilled", f"BTCUSDT: trades {n} to {n}", n) for n in (4, 5))
    >>> notification_of(one).key == notification_of(other).key
    True
    """
    return Notification(
        title=f"feed {alert.feed}: {alert.kind.replace('_', ' ')}",
        body=alert.detail,
        severity=SEVERITIES[alert.kind],
        key=f"feed/{alert.feed}/{alert.kind}/{_CHANGING.sub('#', alert.detail)}",
        error_type="FeedAlert",
    )


class AlertRelay:
    """Hands alerts to the channels in a thread; a slow channel holds up neither the feed nor its shutdown.

    Parameters
    ----------
    notify:
        Sends one notification, such as ``Notifier.notify``.
    """

    def __init__(self, notify: Notify) -> None:
        self._notify = notify
        self._waiting: asyncio.Queue[FeedAlert | None] = asyncio.Queue(MAXIMUM_WAITING)
        self.kinds: Counter[str] = Counter()
        self.unsent = 0

    def put(self, alert: FeedAlert) -> None:
        """Take an alert, from the loop's thread."""
        self.kinds[alert.kind] += 1
        _log.log(logging.INFO if alert.kind == "recovered" else logging.WARNING, "feed %s: %s: %s", *_shown(alert))
        try:
            self._waiting.put_nowait(alert)
        except asyncio.QueueFull:
            self.unsent += 1

    async def run(self) -> None:
        """Send until :meth:`close`."""
        while (alert := await self._waiting.get()) is not None:
            try:
                await asyncio.to_thread(self._notify, notification_of(alert))
            except Exception as error:  # noqa: BLE001 - a channel that fails must not end the feed
                self.unsent += 1
                _log.warning("alert not sent: %s", type(error).__name__)

    async def close(self, running: asyncio.Task[None]) -> None:
        """Send what waits, for a bounded time."""
        with suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_SECONDS):
                await self._waiting.put(None)
                await asyncio.wait({running})
        running.cancel()
        await asyncio.wait({running})


def _shown(alert: FeedAlert) -> tuple[str, str, str]:
    return alert.feed, alert.kind, alert.detail
