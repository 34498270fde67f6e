"""Rate limits: what a limit is, what a limiter answers, and the arithmetic that every limiter shares.

The generic cell rate algorithm keeps one number a key, the theoretical arrival time: when the key would be even again.
A request moves it on by ``period / limit`` and is refused where it would then lie more than ``burst`` requests ahead of
now. So there are no windows at whose edges twice the limit passes, and nothing to sweep but numbers that lie behind.

References
----------
ITU-T Recommendation I.371 (2004), Traffic control and congestion control in B-ISDN, annex A.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, Protocol

from tapeline.core.errors import ConfigurationError
from tapeline.core.nanoseconds import SECOND

LONGEST_KEY: Final = 200


@dataclass(frozen=True, slots=True)
class Rate:
    """``limit`` requests in ``seconds``, and ``burst`` of them at once after a rest (``limit`` where absent).

    Raises
    ------
    ConfigurationError
        A bound is not positive.

    Examples
    --------
    >>> Rate(600, 60.0).interval
    100000000
    """

    limit: int
    seconds: float
    burst: int | None = None

    def __post_init__(self) -> None:
        if self.limit < 1 or not (math.isfinite(self.seconds) and self.seconds > 0) or self.most < 1:
            raise ConfigurationError(
                f"a rate of {self.limit} in {self.seconds} s with burst {self.burst} must be positive"
            )

    @property
    def interval(self) -> int:
        """Nanoseconds that one request costs."""
        return max(1, round(self.seconds * SECOND / self.limit))

    @property
    def most(self) -> int:
        """Requests that may pass at once."""
        return self.limit if self.burst is None else self.burst


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a limiter answers.

    Parameters
    ----------
    allowed:
        Whether it may pass; only then was it counted.
    remaining:
        How many more may pass at once.
    retry_after:
        Seconds after which the same request would pass; 0 where it did.
    reset_after:
        Seconds until nothing is counted any more.
    """

    allowed: bool
    remaining: int
    retry_after: float = 0.0
    reset_after: float = 0.0


class Limiter(Protocol):
    """Counts requests by key. Methods may be called from any thread."""

    @property
    def waits(self) -> bool:
        """Whether :meth:`take` may have to wait, for a disk, a lock of another process or a server."""
        ...

    def take(self, key: str, rate: Rate, cost: int = 1) -> Verdict:
        """Count ``cost`` requests of a key, or refuse them all."""
        ...

    def close(self) -> None:
        """Give back what it holds; a second call does nothing."""
        ...


def judged(arrival: int, now: int, rate: Rate, cost: int) -> tuple[int | None, Verdict]:
    """The algorithm: the key's new theoretical arrival time (None: it stays as it is), and the answer.

    Parameters
    ----------
    arrival, now:
        Nanoseconds of one clock; ``arrival`` 0 where the key is not known.

    Examples
    --------
    >>> rate = Rate(2, 10.0)
    >>> first, verdict = judged(0, 100 * SECOND, rate, 1)
    >>> first // SECOND, verdict.remaining
    (105, 1)
    >>> second, _ = judged(first, 100 * SECOND, rate, 1)
    >>> judged(second, 100 * SECOND, rate, 1)
    (None, Verdict(allowed=False, remaining=0, retry_after=5.0, reset_after=10.0))
    """
    interval, burst = rate.interval, rate.most
    # What was written by a clock that has since been set back would otherwise lock a key for as long.
    latest = now + interval * burst
    begin = min(max(arrival, now), latest)
    after = begin + interval * cost
    earliest = after - interval * burst
    if earliest > now:
        retry = (earliest - now) / SECOND if cost <= burst else math.inf
        verdict = Verdict(False, (latest - begin) // interval, retry, (begin - now) / SECOND)
        return begin if arrival > latest else None, verdict
    return after, Verdict(True, (now - earliest) // interval, 0.0, (after - now) / SECOND)


def checked_key(key: str) -> str:
    """A key as limiters keep it: a long one by its hash, for keys are made of what strangers send."""
    if len(key) <= LONGEST_KEY:
        return key
    import hashlib

    return f"{key[:100]}#{hashlib.sha256(key.encode('utf-8', 'surrogatepass')).hexdigest()}"
