"""The outbox: deliveries are claimed under a lease, tried, settled; what was given up can be taken back."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any, Final

from sqlalchemy import Connection, RowMapping, bindparam, func, insert, select, update

from tapeline.alerts.records import Attempt, DeadLetter, Delivery
from tapeline.alerts.store import queries, rows
from tapeline.alerts.store.database import Database
from tapeline.alerts.store.metadata import attempt, delivery
from tapeline.alerts.store.store import ChannelCount, Claim, Page
from tapeline.core.errors import DataError

LONGEST_DETAIL: Final = 1_000
"""Characters of an attempt's detail that are kept: what a server answered may be long."""
MOST_IDS: Final = 10_000
"""Dead letters that one call may name."""
_SLICE: Final = 1_000
_CHANGED: Final = ("state", "not_before", "finished_at", "outcome", "status", "detail", "lease_until")
_SETTLE: Final = (
    update(delivery)
    .where(delivery.c.id == bindparam("key"))
    .values({name: bindparam(f"new_{name}") for name in _CHANGED})
)
_END: Final = (
    update(attempt)
    .where(attempt.c.delivery == bindparam("key"), attempt.c.number == bindparam("which"))
    .values({name: bindparam(f"new_{name}") for name in ("ended_at", "outcome", "status", "detail", "retry_at")})
)
_EXPIRE: Final = (
    update(delivery)
    .where(delivery.c.id == bindparam("key"))
    .values({name: bindparam(f"new_{name}") for name in ("state", "finished_at", "lease_until")})
)
_FREE: Final = update(delivery).where(delivery.c.id == bindparam("key")).values(state="waiting", lease_until=0)
_TRY: Final = update(delivery).where(delivery.c.id == bindparam("key")).values(attempts=delivery.c.attempts + 1)


class Outbox:
    """The part of the store that delivery works with; see the protocol for each method."""

    _database: Database

    def claim(
        self, channel: str, *, limit: int, lease: int, now: int, endpoint: str | None = None
    ) -> tuple[Claim, ...]:
        """Take deliveries that are due, the oldest first, for a while."""
        size = queries.page_size(limit)
        if lease <= 0:
            raise DataError(f"lease = {lease} nanoseconds is not positive")

        def work(db: Connection) -> tuple[Claim, ...]:
            claims: list[Claim] = []
            while True:
                found = _ready(db, channel, endpoint, now, size - len(claims))
                late = [row["id"] for row in found if 0 < row["expires_at"] <= now]
                ready = [row for row in found if not 0 < row["expires_at"] <= now]
                if late:
                    db.execute(update(delivery).where(delivery.c.id.in_(late)).values(**_expired(now)))
                if ready:
                    db.execute(
                        update(delivery)
                        .where(delivery.c.id.in_([row["id"] for row in ready]))
                        .values(state="inflight", lease_until=now + lease, token=delivery.c.token + 1)
                    )
                claims += (
                    Claim(rows.delivery_of({**row, "state": "inflight"}), row["token"] + 1, now + lease)
                    for row in ready
                )
                # What expired may have stood before another of its order, which is due now.
                if not late or len(claims) == size:
                    return tuple(claims)

        return self._database.write(work)

    def extend(self, claims: Sequence[Claim], *, lease: int, now: int) -> tuple[Claim, ...]:
        """Hold claims for longer; those that still hold."""

        def work(db: Connection) -> tuple[Claim, ...]:
            held = self._held(db, claims, now)
            ids = [claim.delivery.id for claim in held]
            db.execute(update(delivery).where(delivery.c.id.in_(ids)).values(lease_until=now + lease))
            return tuple(Claim(claim.delivery, claim.token, now + lease) for claim in held)

        return self._database.write(work) if claims else ()

    def release(self, claims: Sequence[Claim], *, not_before: int = 0) -> int:
        """Give claims back without an attempt; how many were still held."""

        def work(db: Connection) -> int:
            ids = [claim.delivery.id for claim in self._held(db, claims, None)]
            db.execute(
                update(delivery)
                .where(delivery.c.id.in_(ids))
                .values(state="waiting", lease_until=0, not_before=not_before)
            )
            return len(ids)

        return self._database.write(work) if claims else 0

    def release_all(self) -> int:
        """Give back all that is in flight; how many there were."""

        def work(db: Connection) -> int:
            chosen = select(delivery.c.id).where(delivery.c.state == "inflight", delivery.c.finished_at.is_(None))
            found = db.execute(chosen.order_by(delivery.c.id).with_for_update()).scalars().all()
            if found:
                db.execute(_FREE, [{"key": id} for id in found])
            return len(found)

        return self._database.write(work)

    def begin_attempt(self, claim: Claim, *, now: int) -> Attempt | None:
        """Write down that an attempt begins; None where the claim was lost."""
        begun = self.begin_attempts((claim,), now=now)
        return begun[0] if begun else None

    def begin_attempts(self, claims: Sequence[Claim], *, now: int) -> tuple[Attempt, ...]:
        """Write down that attempts begin; those whose claims still hold."""

        def work(db: Connection) -> tuple[Attempt, ...]:
            held = self._held(db, claims, now)
            if not held:
                return ()
            ids = [claim.delivery.id for claim in held]
            statement = select(delivery.c.id, delivery.c.attempts).where(delivery.c.id.in_(ids))
            counts = {row.id: row.attempts for row in db.execute(statement)}
            begun = tuple(Attempt(id, counts[id] + 1, now, 0, "begun") for id in ids)
            db.execute(_TRY, [{"key": id} for id in ids])
            db.execute(insert(attempt), [_attempt_values(one) for one in begun])
            return begun

        return self._database.write(work) if claims else ()

    def settle(self, *attempts: Attempt) -> frozenset[str]:
        """Write down how attempts ended; the ids of the deliveries that it changed."""
        for one in attempts:
            if one.outcome == "begun":
                raise DataError(f"attempt {one.number} at {one.delivery!r} has not ended", hint="settle it afterwards")

        def work(db: Connection) -> frozenset[str]:
            # In the order of the ids, as every other statement on several rows: two workers never wait in a circle.
            ids = sorted({one.delivery for one in attempts})
            statement = select(delivery).where(delivery.c.id.in_(ids)).order_by(delivery.c.id).with_for_update()
            found = {row["id"]: dict(row) for row in db.execute(statement).mappings()}
            db.execute(_END, [_ended(one) for one in attempts])
            changed = {}
            for one in attempts:
                row = found.get(one.delivery)
                if row is not None and _counts(row, one):
                    row.update(_after(one, row["expires_at"]))
                    changed[one.delivery] = row
            if changed:
                db.execute(
                    _SETTLE,
                    [
                        {"key": id, **{f"new_{name}": changed[id][name] for name in _CHANGED}}
                        for id in ids
                        if id in changed
                    ],
                )
            return frozenset(changed)

        return self._database.write(work) if attempts else frozenset()

    def expire(self, *, now: int) -> int:
        """Record what is past its expiry and not in flight as expired; how many."""

        def work(db: Connection) -> int:
            # What another worker is just looking at is his to record.
            chosen = select(delivery.c.id).where(queries.outdated(now)).with_for_update(skip_locked=True)
            found = db.execute(chosen).scalars().all()
            values = {f"new_{name}": value for name, value in _expired(now).items()}
            if found:
                db.execute(_EXPIRE, [{"key": id, **values} for id in found])
            return len(found)

        return self._database.write(work)

    def delivery(self, id: str) -> Delivery | None:
        """One delivery as it stands."""
        statement = select(delivery).where(delivery.c.id == id)
        found = self._database.read(lambda db: db.execute(statement).mappings().first())
        return None if found is None else rows.delivery_of(found)

    def deliveries(self, firing: str) -> tuple[Delivery, ...]:
        """The deliveries of a firing."""
        statement = select(delivery).where(delivery.c.firing == firing).order_by(delivery.c.number)
        return self._database.read(
            lambda db: tuple(rows.delivery_of(row) for row in db.execute(statement).mappings().all())
        )

    def attempts(self, delivery: str) -> tuple[Attempt, ...]:
        """Every attempt at a delivery, the first first."""
        statement = select(attempt).where(attempt.c.delivery == delivery).order_by(attempt.c.number)
        return self._database.read(
            lambda db: tuple(rows.attempt_of(row) for row in db.execute(statement).mappings().all())
        )

    def dead_letters(
        self, *, channel: str | None = None, endpoint: str | None = None, cursor: str | None = None, limit: int = 100
    ) -> Page[DeadLetter]:
        """What was given up, the newest first."""
        size = queries.page_size(limit)
        statement = queries.dead_page(channel, endpoint, cursor, size + 1)
        found = self._database.read(lambda db: db.execute(statement).mappings().all())
        more = len(found) > size
        place = queries.cursor_of(found[size - 1]["finished_at"], found[size - 1]["number"]) if more else None
        return Page(tuple(rows.dead_letter_of(row) for row in found[:size]), place)

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
        """Put dead letters back into the outbox; how many."""
        chosen = tuple(ids)
        if len(chosen) > MOST_IDS:
            raise DataError(f"{len(chosen)} ids are more than the {MOST_IDS} of one call", hint="name a range of time")
        conditions = queries.dead(channel, endpoint)
        if chosen:
            conditions.append(delivery.c.id.in_(chosen))
        if since is not None:
            conditions.append(delivery.c.finished_at >= since)
        if until is not None:
            conditions.append(delivery.c.finished_at < until)
        if len(conditions) == 1:
            raise DataError(
                "nothing says which dead letters to take back", hint="name ids, a channel or a range of time"
            )

        def work(db: Connection) -> int:
            statement = select(delivery.c.id).where(*conditions).order_by(delivery.c.number)
            # The counter first, as every writer that takes numbers: what died meanwhile is seen, and no one waits in a
            # circle. A new number, because what its order has in flight by now must not be overtaken.
            base = self._database.take_numbers(db, "commit", 0)
            found = db.execute(statement.with_for_update()).scalars().all()
            if found:
                base = self._database.take_numbers(db, "commit", len(found))
                db.execute(_redriven(now, expires_at), [{"key": id, "new": base + n} for n, id in enumerate(found, 1)])
            return len(found)

        return self._database.write(work)

    def delivery_counts(self) -> tuple[ChannelCount, ...]:
        """How many deliveries stand in which state, by channel."""
        keys = (delivery.c.channel, delivery.c.state)
        statement = select(*keys, func.count(), func.min(delivery.c.created_at)).group_by(*keys).order_by(*keys)
        return self._database.read(lambda db: tuple(ChannelCount(*row) for row in db.execute(statement).all()))

    @staticmethod
    def _held(db: Connection, claims: Sequence[Claim], now: int | None) -> list[Claim]:
        wanted = {claim.delivery.id: claim for claim in claims}
        statement = (
            select(delivery.c.id, delivery.c.token, delivery.c.lease_until)
            .where(delivery.c.id.in_(sorted(wanted)), delivery.c.state == "inflight")
            .order_by(delivery.c.id)
            .with_for_update()
        )
        return [
            wanted[id]
            for id, token, lease_until in db.execute(statement)
            if token == wanted[id].token and (now is None or lease_until > now)
        ]


def _ready(db: Connection, channel: str, endpoint: str | None, now: int, limit: int) -> list[RowMapping]:
    """What may be claimed: the first unfinished row of each order, and rows that no order binds."""
    due = queries.due(endpoint, now, limit)
    free = delivery.c.channel == channel, delivery.c.order_key == ""
    found = list(db.execute(due.where(*free)).mappings())
    # By their keys alone and in a statement of their own: joined, or with the channel named again, a planner may read
    # the whole outbox instead.
    heads = db.execute(queries.heads(channel)).scalars().all()
    for begin in range(0, len(heads), _SLICE):
        found += db.execute(due.where(delivery.c.id.in_(heads[begin : begin + _SLICE]))).mappings()
    return sorted(found, key=lambda row: row["number"])[:limit]


def _expired(now: int) -> dict[str, Any]:
    return {"state": "expired", "finished_at": now, "lease_until": 0}


def _redriven(now: int, expires_at: int | None) -> Any:
    values = {"expires_at": expires_at} if expires_at is not None else {}
    return (
        update(delivery)
        .where(delivery.c.id == bindparam("key"))
        .values(
            number=bindparam("new"),
            state="waiting",
            finished_at=None,
            lease_until=0,
            not_before=now,
            tried_before=delivery.c.attempts,
            **values,
        )
    )


def _attempt_values(one: Attempt) -> dict[str, Any]:
    return asdict(one)


def _ended(one: Attempt) -> dict[str, Any]:
    return {
        "key": one.delivery,
        "which": one.number,
        "new_ended_at": one.ended_at,
        "new_outcome": one.outcome,
        "new_status": one.status,
        "new_detail": _short(one.detail),
        "new_retry_at": one.retry_at,
    }


def _counts(row: dict[str, Any], one: Attempt) -> bool:
    if not 1 <= one.number <= row["attempts"] or row["state"] == "sent":
        return False
    return one.outcome == "sent" or (row["state"] == "inflight" and row["attempts"] == one.number)


def _after(one: Attempt, expires_at: int) -> dict[str, Any]:
    if one.outcome == "sent":
        state, finished_at = "sent", one.ended_at
    elif 0 < expires_at <= one.retry_at:
        # It would be worthless by then, and until then would hold up what follows in its order.
        state, finished_at = "expired", one.ended_at
    elif one.retry_at > 0:
        state, finished_at = "waiting", None
    else:
        state, finished_at = "dead", one.ended_at
    return {
        "state": state,
        "finished_at": finished_at,
        "not_before": one.retry_at,
        "outcome": one.outcome,
        "status": one.status,
        "detail": _short(one.detail),
        "lease_until": 0,
    }


def _short(detail: str) -> str:
    return detail[:LONGEST_DETAIL].replace("\0", "\N{REPLACEMENT CHARACTER}")
