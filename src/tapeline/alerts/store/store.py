"""What the alert system asks of its database: one protocol, which SQLite and PostgreSQL implement alike.

Every method is one transaction: when it returns, what it wrote is on the disk; when it raises, nothing was written.
All times are nanoseconds since 1970, UTC, and come in as arguments: the store reads no clock. Methods may be called
from any thread; they block, so a coroutine calls them through ``asyncio.to_thread``.

Errors: ``DataError`` where a value can never be stored, ``TemporaryError`` where the same call may succeed later (a
locked file, a full disk, a lost server), ``ConfigurationError`` where a person must act first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Generic, Protocol, TypeVar

from tapeline.alerts.firing import Firing, FiringKind
from tapeline.alerts.records import Attempt, Commit, DeadLetter, Delivery, RuleState, Silence
from tapeline.alerts.rule import Rule
from tapeline.core.errors import DataError

Item = TypeVar("Item")
LARGEST_PAGE: Final = 1_000


class RevisionConflictError(DataError):
    """Somebody else changed it meanwhile: the revision that the caller had read is no longer the newest."""


class UnknownRecordError(DataError):
    """There is no record of that id."""


@dataclass(frozen=True, slots=True)
class Page(Generic[Item]):
    """A part of a longer answer. ``cursor`` asks for the next part and is None after the last."""

    items: tuple[Item, ...]
    cursor: str | None = None


@dataclass(frozen=True, slots=True)
class StoredRule:
    """A rule as it stood after one change.

    Parameters
    ----------
    rule:
        The rule.
    revision:
        Counts the changes of this rule from 1.
    number:
        Counts the changes of all rules: what a reader goes on from.
    changed_at, changed_by:
        When (nanoseconds) and by whom.
    deleted:
        Whether this change removed it.
    """

    rule: Rule
    revision: int
    number: int
    changed_at: int
    changed_by: str
    deleted: bool = False


@dataclass(frozen=True, slots=True)
class StoredFiring:
    """A firing with its number, which rises in the order in which firings became visible, and who acknowledged it."""

    number: int
    firing: Firing
    acknowledged_by: str | None = None
    acknowledged_at: int = 0


@dataclass(frozen=True, slots=True)
class Acknowledgement:
    """That a person took notice of a firing. ``number`` rises in the order in which they became visible."""

    number: int
    firing: str
    rule: str
    symbol: str
    by: str
    at: int
    comment: str = ""


@dataclass(frozen=True, slots=True)
class FiringQuery:
    """Which firings: those that match all that is given. ``since`` is included and ``until`` is not (nanoseconds)."""

    rule: str | None = None
    symbol: str | None = None
    owner: str | None = None
    kinds: tuple[FiringKind, ...] = ()
    since: int | None = None
    until: int | None = None


@dataclass(frozen=True, slots=True)
class Claim:
    """A delivery that this worker alone may send until ``lease_until``; ``token`` tells this claim from a later one."""

    delivery: Delivery
    token: int
    lease_until: int


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a channel delivers to.

    Parameters
    ----------
    id, owner, channel:
        Its id, whose it is, and the kind and name of its channel.
    address:
        Where to; as the caller wants it kept, which may be encrypted text.
    secrets:
        What requests are signed with, the newest first; encrypted by the caller, never read here.
    enabled, reason:
        Whether it is delivered to, and why not.
    failures, failing_since:
        Failed attempts in a row, and when the first of them was (0: it does not fail).
    settings:
        What else its channel needs, as JSON.
    created_at, changed_at:
        Nanoseconds.
    """

    id: str
    owner: str
    channel: str
    address: str
    secrets: tuple[bytes, ...] = ()
    enabled: bool = True
    reason: str = ""
    failures: int = 0
    failing_since: int = 0
    settings: Mapping[str, Any] = field(default_factory=dict)
    created_at: int = 0
    changed_at: int = 0

    @property
    def revision(self) -> int:
        """How often it was changed since it was made; kept among its settings."""
        return int(self.settings.get("revision", 0))


@dataclass(frozen=True, slots=True)
class ChannelCount:
    """How many deliveries of a channel stand in a state, and when the oldest of them was made (nanoseconds)."""

    channel: str
    state: str
    count: int
    oldest: int


@dataclass(frozen=True, slots=True)
class Removed:
    """How many rows a clean-up removed."""

    firings: int
    deliveries: int
    attempts: int


class Store(Protocol):
    """The alert system's database."""

    # -- what the engine writes

    def commit(self, commit: Commit) -> frozenset[str]:
        """Write firings, rule states, deliveries and positions in one transaction.

        Idempotent: a firing that is there already is left as it is and brings no delivery; rule states are
        overwritten, and a position moves only forward. A delivery is skipped where its id is there already, unless
        that row is still ``held``: then body, ``not_before``, ``expires_at``, ``priority`` and state are replaced,
        which is how a digest grows and is let go. A delivery whose firing is not part of the commit is judged by its
        own id alone.

        Returns
        -------
        frozenset of str
            The ids of the firings that were new.
        """
        ...

    def commit_all(self, commits: Sequence[Commit]) -> tuple[frozenset[str], ...]:
        """Write several commits, in their order, in one transaction; the new ids of each."""
        ...

    def states(self, rules: Iterable[str] | None = None) -> tuple[RuleState, ...]:
        """Every rule's state for every symbol, by rule and symbol; of some rules where they are named."""
        ...

    def forget_states(self, rule: str) -> int:
        """Remove the states of a rule; how many there were."""
        ...

    def positions(self) -> dict[str, int]:
        """How far each feed has been taken."""
        ...

    def rewind(self, feed: str, position: int) -> None:
        """Set a feed's position, backwards too: where its numbers began anew."""
        ...

    # -- firings

    def firing(self, id: str) -> StoredFiring | None:
        """One firing by its id."""
        ...

    def firings(
        self,
        query: FiringQuery | None = None,
        *,
        cursor: str | None = None,
        limit: int = 100,
        oldest_first: bool = False,
    ) -> Page[StoredFiring]:
        """Firings by the time of their event, the newest first, in pages that stay true while more are written."""
        ...

    def firings_after(
        self, number: int, *, query: FiringQuery | None = None, limit: int = 100
    ) -> tuple[StoredFiring, ...]:
        """Firings in the order in which they became visible, after ``number``: what a client that was away missed.

        No firing ever appears below a number that was already seen.
        """
        ...

    def last_number(self) -> int:
        """The number of the newest firing; 0 where there is none."""
        ...

    def count_firings(self, query: FiringQuery | None = None) -> int:
        """How many firings match."""
        ...

    def acknowledge(self, firing: str, *, by: str, at: int, comment: str = "") -> bool:
        """Write down that somebody took notice; False where somebody had already, whose entry stays.

        The rule's state belongs to the processor, which reads :meth:`acknowledgements` and commits what follows.

        Raises
        ------
        UnknownRecordError
            There is no such firing.
        """
        ...

    def acknowledgements(self, after: int = 0, *, limit: int = 1_000) -> tuple[Acknowledgement, ...]:
        """Acknowledgements in the order in which they became visible, after a number."""
        ...

    # -- rules

    def rules(self, *, owner: str | None = None, enabled: bool | None = None) -> tuple[StoredRule, ...]:
        """The rules as they stand, by id."""
        ...

    def rule(self, id: str) -> StoredRule | None:
        """One rule as it stands; None where there is none or it was deleted."""
        ...

    def save_rule(self, rule: Rule, *, by: str, at: int, revision: int | None = None) -> StoredRule:
        """Keep a rule, new or changed; every revision stays readable. The same rule again is no change.

        Parameters
        ----------
        revision:
            The revision that the caller changed (0: he believes it new); None: whatever stands is overwritten.

        Raises
        ------
        RevisionConflictError
            Another revision is the newest.
        """
        ...

    def enable_rule(self, id: str, enabled: bool, *, by: str, at: int) -> StoredRule:
        """Switch a rule on or off; a change like any other. ``UnknownRecordError`` where there is none."""
        ...

    def delete_rule(self, id: str, *, by: str, at: int, revision: int | None = None) -> StoredRule:
        """Remove a rule and its states; its history and its firings stay."""
        ...

    def rule_history(self, id: str) -> tuple[StoredRule, ...]:
        """Every revision of a rule, the oldest first; also of a deleted one."""
        ...

    def rule_changes(self, after: int, *, limit: int = 1_000) -> tuple[StoredRule, ...]:
        """Changes of rules after a number, in order: what a running engine loads."""
        ...

    # -- silences

    def save_silence(self, silence: Silence) -> None:
        """Keep a silence; one of the same id is replaced."""
        ...

    def end_silence(self, id: str, *, at: int) -> Silence:
        """Let a silence end at ``at``. ``UnknownRecordError`` where there is none."""
        ...

    def silences(self, *, at: int | None = None, owner: str | None = None) -> tuple[Silence, ...]:
        """Silences by begin; with ``at`` those that have not ended by then."""
        ...

    # -- delivery

    def claim(
        self, channel: str, *, limit: int, lease: int, now: int, endpoint: str | None = None
    ) -> tuple[Claim, ...]:
        """Take deliveries that are due, the oldest first, for ``lease`` nanoseconds; no one else gets them meanwhile.

        Of a channel's deliveries that share an ``order`` only the first unfinished one is ever given out: the next
        follows when it was sent, died or expired (an empty ``order`` binds nothing). What is past its ``expires_at``
        is recorded as expired instead. A delivery whose lease has run out is given out again under the same id.
        """
        ...

    def extend(self, claims: Sequence[Claim], *, lease: int, now: int) -> tuple[Claim, ...]:
        """Hold claims for longer; those that were lost meanwhile are left out."""
        ...

    def release(self, claims: Sequence[Claim], *, not_before: int = 0) -> int:
        """Give claims back without an attempt (the channel's limit is reached); how many were still held."""
        ...

    def release_all(self) -> int:
        """Give back all that is in flight, of all channels; how many there were.

        For who knows that nobody delivers from this database any more: it then goes out at once, under the same ids,
        instead of when the leases of the dead have run out.
        """
        ...

    def begin_attempt(self, claim: Claim, *, now: int) -> Attempt | None:
        """Write down that an attempt begins, before the request leaves; None where the claim was lost: do not send."""
        ...

    def begin_attempts(self, claims: Sequence[Claim], *, now: int) -> tuple[Attempt, ...]:
        """The same for several in one transaction; attempts (outcome ``begun``) of those claims that still hold."""
        ...

    def settle(self, *attempts: Attempt) -> frozenset[str]:
        """Write down how attempts ended, in one transaction.

        ``sent`` finishes the delivery, whichever attempt says so. Every other outcome puts it back for ``retry_at``,
        or makes it a dead letter where ``retry_at`` is 0; it counts only while no later attempt has begun.

        Returns
        -------
        frozenset of str
            The ids of the deliveries that it changed.
        """
        ...

    def expire(self, *, now: int) -> int:
        """Record what is past its ``expires_at`` and not in flight as expired; how many."""
        ...

    def delivery(self, id: str) -> Delivery | None:
        """One delivery as it stands."""
        ...

    def deliveries(self, firing: str) -> tuple[Delivery, ...]:
        """The deliveries of a firing."""
        ...

    def attempts(self, delivery: str) -> tuple[Attempt, ...]:
        """Every attempt at a delivery, the first first; one that has not ended has the outcome ``begun``."""
        ...

    def dead_letters(
        self, *, channel: str | None = None, endpoint: str | None = None, cursor: str | None = None, limit: int = 100
    ) -> Page[DeadLetter]:
        """What was given up, the newest first."""
        ...

    def redrive(
        self,
        ids: Iterable[str] = (),
        *,
        now: int,
        channel: str | None = None,
        endpoint: str | None = None,
        since: int | None = None,
        until: int | None = None,
        expires_at: int | None = None,
    ) -> int:
        """Put dead letters back into the outbox, by id or by the time they died in; how many.

        Each keeps its id, body and attempts; ``Delivery.tried_before`` says how many attempts lie before it, so that
        the retry schedule begins anew. It goes out after what else of its ``order`` waits. ``expires_at`` replaces
        theirs where given. Without ids at least one of the other bounds is needed.
        """
        ...

    def delivery_counts(self) -> tuple[ChannelCount, ...]:
        """How many deliveries stand in which state, by channel."""
        ...

    # -- endpoints

    def save_endpoint(self, endpoint: Endpoint) -> None:
        """Keep an endpoint; one of the same id is replaced, its ``created_at`` stays."""
        ...

    def endpoint(self, id: str) -> Endpoint | None:
        """One endpoint."""
        ...

    def endpoints(self, *, owner: str | None = None, channel: str | None = None) -> tuple[Endpoint, ...]:
        """Endpoints by id."""
        ...

    def change_endpoint(self, id: str, change: Callable[[Endpoint], Endpoint]) -> Endpoint:
        """Change an endpoint as it stands, in one transaction; as it then stands.

        Parameters
        ----------
        change:
            Called in the transaction, with nobody else changing it meanwhile; what it raises leaves all as it was,
            and the same endpoint given back is no write.

        Raises
        ------
        UnknownRecordError
            There is none.
        """
        ...

    def endpoint_answered(self, id: str, *, ok: bool, at: int) -> Endpoint | None:
        """Count an attempt's outcome towards an endpoint's health; the endpoint as it then stands."""
        ...

    def delete_endpoint(self, id: str) -> bool:
        """Remove an endpoint; False where there was none."""
        ...

    # -- upkeep

    def remove_before(self, before: int, *, limit: int = 1_000) -> Removed:
        """Remove finished deliveries made before ``before`` and firings whose event was, at most ``limit`` of each.

        A firing of which a delivery remains stays, and so does every delivery that is not finished. Dead letters are
        finished. Call again while it removes as many as ``limit``.
        """
        ...

    def close(self) -> None:
        """Close every connection; a second call does nothing."""
        ...
