"""How an endpoint does: its last success, its failures, how long it takes to answer, and its newest attempts."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from sqlalchemy import Connection, func, select

from tapeline.alerts.records import Attempt
from tapeline.alerts.store import rows
from tapeline.alerts.store.database import Database
from tapeline.alerts.store.metadata import attempt, delivery
from tapeline.alerts.store.store import Endpoint

NEWEST: Final = 500
"""Deliveries of an endpoint that are looked at."""
SHOWN: Final = 100
State = Literal["untried", "healthy", "failing", "switched_off"]


@dataclass(frozen=True, slots=True)
class EndpointHealth:
    """What the newest deliveries of an endpoint tell.

    Parameters
    ----------
    state:
        ``failing`` after a failure that no success followed.
    reason:
        Why it is switched off, or how the newest failed attempt ended; empty where all is well.
    last_success_at, failing_since:
        Nanoseconds; 0: there was none among the newest deliveries, it does not fail.
    failures:
        Failed attempts in a row.
    attempts, successes:
        Among the newest deliveries.
    latency, latency_p95:
        Seconds from the request to the answer, the median and the 95th percentile; NaN without an answer.
    deliveries:
        The newest deliveries, by state.
    recent:
        The newest attempts, the newest first.
    """

    state: State
    reason: str
    last_success_at: int
    failures: int
    failing_since: int
    attempts: int
    successes: int
    latency: float
    latency_p95: float
    deliveries: dict[str, int] = field(default_factory=dict)
    recent: tuple[Attempt, ...] = ()


def endpoint_health(database: Database, endpoint: Endpoint, *, limit: int = 20) -> EndpointHealth:
    """The health of an endpoint, out of the attempts that the store keeps.

    Parameters
    ----------
    limit:
        How many attempts are shown, up to 100.
    """
    newest = (
        select(delivery.c.id, delivery.c.state)
        .where(delivery.c.endpoint == endpoint.id)
        .order_by(delivery.c.number.desc())
        .limit(NEWEST)
    )
    part = newest.subquery()
    states = select(part.c.state, func.count()).group_by(part.c.state)
    tries = (
        select(attempt)
        .join(part, part.c.id == attempt.c.delivery)
        .order_by(attempt.c.started_at.desc(), attempt.c.number.desc())
        .limit(NEWEST)
    )

    def work(db: Connection) -> tuple[dict[str, int], list[Attempt]]:
        counted: dict[str, int] = {row[0]: row[1] for row in db.execute(states)}
        return counted, [rows.attempt_of(row) for row in db.execute(tries).mappings()]

    counts, found = database.read(work)
    return _judged(endpoint, counts, found, min(limit, SHOWN))


def latencies(attempts: Sequence[Attempt]) -> tuple[float, float]:
    """Median and 95th percentile (nearest rank) of the seconds that answers took; NaN without one.

    Examples
    --------
    >>> tries = [Attempt("d", n, 0, n * 10**9, "sent", 200) for n in range(1, 21)]
    >>> latencies(tries)
    (10.0, 19.0)
    """
    # Without a status nobody answered: that says how patient we are, not how fast it is. Messengers give none.
    took = sorted((one.ended_at - one.started_at) / 1e9 for one in attempts if one.outcome == "sent" or one.status)
    if not took:
        return math.nan, math.nan
    return took[math.ceil(0.5 * len(took)) - 1], took[math.ceil(0.95 * len(took)) - 1]


def _judged(endpoint: Endpoint, counts: dict[str, int], found: Sequence[Attempt], limit: int) -> EndpointHealth:
    ended = [one for one in found if one.outcome != "begun"]
    outcomes: Counter[Any] = Counter(one.outcome for one in ended)
    success = max((one.ended_at for one in ended if one.outcome == "sent"), default=0)
    state: State = "healthy" if success else "untried"
    reason = ""
    if endpoint.failures:
        state = "failing"
        reason = next((one.detail for one in ended if one.outcome not in ("sent", "throttled")), "")
    if not endpoint.enabled:
        state, reason = "switched_off", endpoint.reason
    median, high = latencies(ended)
    return EndpointHealth(
        state=state,
        reason=reason,
        last_success_at=success,
        failures=endpoint.failures,
        failing_since=endpoint.failing_since,
        attempts=len(ended),
        successes=outcomes["sent"],
        latency=median,
        latency_p95=high,
        deliveries=counts,
        recent=tuple(found[:limit]),
    )
