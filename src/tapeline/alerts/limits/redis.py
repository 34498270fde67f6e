"""A limiter for all machines: the same arithmetic inside Redis, where it is one step that nobody comes between."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from tapeline.alerts.limits.limiter import Limiter, Rate, Verdict, checked_key
from tapeline.alerts.scale.redis_connection import redis_connection
from tapeline.core.nanoseconds import SECOND

if TYPE_CHECKING:
    from redis import Redis

_log = logging.getLogger(__name__)
ANSWER_SECONDS: Final = 0.25
AWAY_SECONDS: Final = 1.0
"""After a failure so long nothing is asked of Redis."""
PREFIX: Final = "tapeline:limit:"
_MICRO: Final = SECOND // 1_000_000
# Microseconds: Lua's numbers are doubles, which hold them exactly until the year 2255 and nanoseconds not even today.
# The clock is that of Redis: the workers' own need not agree. A key ends by itself when it no longer counts.
_SCRIPT: Final = """
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])
local interval, burst, cost = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local arrival = tonumber(redis.call('GET', KEYS[1]) or '0')
local latest = now + interval * burst
local begin = math.min(math.max(arrival, now), latest)
local after = begin + interval * cost
local earliest = after - interval * burst
local function keep(value)
  redis.call('SET', KEYS[1], string.format('%.0f', value), 'PX', math.ceil((value - now) / 1000) + 1)
end
if earliest > now then
  if arrival > latest then keep(begin) end
  return {0, math.floor((latest - begin) / interval), earliest - now, begin - now}
end
keep(after)
return {1, math.floor((now - earliest) / interval), 0, after - now}
"""


class RedisLimiter:
    """Counts in Redis.

    Parameters
    ----------
    client:
        Connected; it is not closed here where ``owned`` is false.
    fallback:
        What counts while Redis does not answer: the limit then holds for this worker alone, and nobody is shut out.
    monotonic:
        Seconds that never jump; injected in tests.

    References
    ----------
    https://redis.io/docs/latest/develop/programmability/eval-intro/
    """

    waits: Final = True

    def __init__(
        self,
        client: Redis,
        fallback: Limiter,
        *,
        owned: bool = False,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client, self._fallback, self._owned, self._monotonic = client, fallback, owned, monotonic
        self._script: Any = client.register_script(_SCRIPT)
        self._away_until = 0.0

    @classmethod
    def connect(cls, address: str, fallback: Limiter) -> RedisLimiter:
        """Over a connection of its own; none is made before the first request.

        Raises
        ------
        MissingExtraError, ConfigurationError
            The package ``redis`` is not installed; the address is none of Redis, or is not safe.
        """
        return cls(redis_connection(address, answer_seconds=ANSWER_SECONDS, retries=0), fallback, owned=True)

    def take(self, key: str, rate: Rate, cost: int = 1) -> Verdict:
        """Count ``cost`` requests of a key, or refuse them all."""
        from redis.exceptions import RedisError

        if self._monotonic() < self._away_until:
            return self._fallback.take(key, rate, cost)
        interval = max(1, rate.interval // _MICRO)
        try:
            allowed, remaining, retry, reset = self._script(
                keys=[PREFIX + checked_key(key)], args=[interval, rate.most, cost]
            )
        except (RedisError, OSError) as error:
            if not self._away_until:
                _log.warning("rate limits are counted in this process alone: Redis failed (%s)", type(error).__name__)
            # Requests must not each wait for a server that is away.
            self._away_until = self._monotonic() + AWAY_SECONDS
            return self._fallback.take(key, rate, cost)
        if self._away_until:
            self._away_until = 0.0
            _log.info("rate limits are counted in Redis again")
        wait = retry / 1e6 if cost <= rate.most else float("inf")
        return Verdict(bool(allowed), int(remaining), 0.0 if allowed else wait, reset / 1e6)

    def close(self) -> None:
        """Close the connection where it is its own, and what stood in for it."""
        if self._owned:
            self._client.close()
        self._fallback.close()
