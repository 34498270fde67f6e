"""How fast a service takes messages: token buckets by bot, chat and group, below each service's own limit."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from tapeline.alerts.store.store import Endpoint
from tapeline.core.token_bucket import TokenBucket

MOST_BUCKETS: Final = 20_000
_ALMOST_NOTHING: Final = 1e-9


@dataclass(frozen=True)
class Rate:
    """``burst`` messages at once and ``per_second`` after: in any ``t`` seconds at most ``burst + t * per_second``."""

    per_second: float
    burst: int = 1


# "Avoid sending more than one message per second in a chat", "20 messages per minute to a group", "about 30 messages
# per second" overall: https://core.telegram.org/bots/faq#my-bot-is-hitting-limits-how-do-i-avoid-this
TELEGRAM_CHAT: Final = Rate(1.0)
TELEGRAM_GROUP: Final = Rate(0.25, burst=5)
TELEGRAM_BOT: Final = Rate(25.0, burst=5)
# One message a second for each webhook: https://docs.slack.dev/apis/web-api/rate-limits#webhooks
SLACK_WEBHOOK: Final = Rate(1.0)
# Discord tells its limits in each answer and asks not to hard-code them; this is what its webhooks have long shown,
# five in two seconds and thirty a minute in a channel: https://discord.com/developers/docs/topics/rate-limits
DISCORD_WEBHOOK: Final = Rate(0.4, burst=5)


def endpoint_keys(endpoint: Endpoint | None) -> list[tuple[str, Rate]]:
    """The bucket of an endpoint whose owner says how much it takes a minute (``per_minute``); none where he does not.

    In any minute not more than that goes out, a tenth of it at once.

    Examples
    --------
    >>> endpoint_keys(Endpoint("e1", "me", "webhook", "https://example.org", settings={"per_minute": 60}))
    [('endpoint/e1/60', Rate(per_second=0.9, burst=6))]
    """
    most = 0 if endpoint is None else endpoint.settings.get("per_minute") or 0
    if endpoint is None or most < 1:
        return []
    burst = max(1, most // 10)
    return [(f"endpoint/{endpoint.id}/{most}", Rate(max(most - burst, 1) / 60, burst))]


class Limiter:
    """Buckets by key.

    Parameters
    ----------
    monotonic:
        Seconds that never jump; injected in tests.

    Examples
    --------
    >>> limiter = Limiter(monotonic=lambda: 0.0)
    >>> chat = [("chat/1", Rate(1.0))]
    >>> limiter.admit(chat), round(limiter.admit(chat), 6)
    (0.0, 1.0)
    """

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._buckets: OrderedDict[str, TokenBucket] = OrderedDict()
        self._lock = threading.Lock()

    def admit(self, keys: Iterable[tuple[str, Rate]]) -> float:
        """Take one message's place in all of these buckets and return 0; else the seconds to wait, nothing taken."""
        with self._lock:
            buckets = [self._bucket(key, rate) for key, rate in keys]
            wait = max((bucket.reserve(0.0) for bucket in buckets), default=0.0)
            if wait <= 0:
                for bucket in buckets:
                    bucket.reserve()
            return wait

    def pause(self, keys: Iterable[tuple[str, Rate]], seconds: float) -> None:
        """Let nothing pass them for so long: what a service asked for."""
        with self._lock:
            for key, rate in keys:
                self._bucket(key, rate).pause(max(seconds, 0.0))

    def _bucket(self, key: str, rate: Rate) -> TokenBucket:
        bucket = self._buckets.get(key)
        if bucket is None:
            # A message passes while the bucket is not below zero, so it may go below by one: hence one less of burst.
            capacity = rate.burst - 1 or _ALMOST_NOTHING
            bucket = self._buckets[key] = TokenBucket(rate.per_second, capacity=capacity, monotonic=self._monotonic)
            if len(self._buckets) > MOST_BUCKETS:
                self._buckets.popitem(last=False)
        self._buckets.move_to_end(key)
        return bucket
