"""What passes between the processor, the store and delivery: plain values, all of one transaction in one record."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

from tapeline.alerts.firing import Firing

Phase = Literal["normal", "pending", "firing", "recovering", "no_data", "expired"]
DeliveryState = Literal["waiting", "inflight", "sent", "dead", "expired", "held"]
Outcome = Literal["begun", "sent", "retry", "refused", "gone", "throttled"]
PHASES: Final[tuple[Phase, ...]] = ("normal", "pending", "firing", "recovering", "no_data", "expired")


@dataclass(frozen=True, slots=True)
class RuleState:
    """Where one rule stands for one symbol.

    ``since`` is when it came into its phase and ``fired_at`` when it last fired, in nanoseconds of event time (0:
    never); ``changes`` are the newest changes of truth, by which flapping is recognised; ``was_firing`` says of the
    rule of a silent symbol what it goes back to.
    """

    rule: str
    rule_version: str
    symbol: str
    phase: Phase
    since: int
    fired_at: int = 0
    flapping: bool = False
    acknowledged_by: str | None = None
    acknowledged_at: int = 0
    escalated: int = 0
    changes: tuple[int, ...] = ()
    was_firing: bool = False


@dataclass(frozen=True, slots=True)
class Delivery:
    """One firing, or a digest of several, for one channel: a row of the outbox.

    Parameters
    ----------
    id:
        Constant: follows from the firing's id and the channel, so that the same row is never written twice.
    firing:
        The id of the firing (of a digest, of its first).
    channel, endpoint:
        The channel's kind and name, and the endpoint's id where it has several.
    body:
        What is sent, rendered once: a retry sends the same bytes.
    created_at, not_before, expires_at:
        Nanoseconds, our clock. ``not_before`` in the future: held for a digest, a group or the end of quiet hours.
        ``expires_at`` 0: never; a bot's delivery is worthless after it and is then recorded as expired, not sent.
    order:
        What must go out one after the other within its channel shares it (an endpoint and a rule).
    attempts, tried_before:
        How often it was tried, and how often of these before it was last taken back from the dead letters: a retry
        schedule counts from there.
    """

    id: str
    firing: str
    channel: str
    endpoint: str
    body: str
    created_at: int
    not_before: int = 0
    expires_at: int = 0
    order: str = ""
    group: str = ""
    priority: str = "normal"
    attempts: int = 0
    state: DeliveryState = "waiting"
    tried_before: int = 0


@dataclass(frozen=True, slots=True)
class Commit:
    """What one transaction writes, all of it or nothing, before anything of it is sent.

    ``positions`` is how far each feed has been taken: what a recovery goes on from.
    """

    firings: tuple[Firing, ...] = ()
    states: tuple[RuleState, ...] = ()
    deliveries: tuple[Delivery, ...] = ()
    positions: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try to deliver: written as ``begun`` before the request leaves and settled after the answer.

    ``retry_at`` (nanoseconds) is when to try again after an outcome other than ``sent``; 0: never, a dead letter.
    """

    delivery: str
    number: int
    started_at: int
    ended_at: int
    outcome: Outcome
    status: int = 0
    detail: str = ""
    retry_at: int = 0


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A delivery that was given up at ``died_at`` (nanoseconds), and how its last attempt ended."""

    delivery: Delivery
    died_at: int
    outcome: Outcome
    status: int = 0
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Silence:
    """Firings that match are recorded and not told, from ``begins_at`` to ``ends_at`` (nanoseconds).

    ``matchers`` are names and patterns (``*`` and ``?``) of a firing's rule, symbol, owner, priority or labels; all
    must match.
    """

    id: str
    owner: str
    matchers: Mapping[str, str]
    begins_at: int
    ends_at: int
    comment: str = ""
    created_by: str = ""
