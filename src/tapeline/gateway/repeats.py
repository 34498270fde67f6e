"""A request that comes again under its Idempotency-Key: what it did is not done twice, and its answer is the same.

A row is written before the request runs. The first write that the request does to the database marks the row in its own
transaction, so that whatever happens after, it is known that it was done. Last comes the answer, sealed: an answer may
hold a secret that is shown once.

References
----------
IETF draft-ietf-httpapi-idempotency-key-header-07 (2025), The Idempotency-Key HTTP Header Field.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, delete, select, update
from starlette.concurrency import run_in_threadpool
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tapeline.alerts.access.principal import Principal
from tapeline.alerts.delivery.secret_vault import SecretVault, UnreadableSecretError
from tapeline.alerts.store.companions import accompanied, alone
from tapeline.alerts.store.database import Database
from tapeline.alerts.store.gateway_tables import repeated
from tapeline.core.errors import TapelineError
from tapeline.core.nanoseconds import SECOND
from tapeline.gateway.problems import ProblemError, problem_of, problem_response

KEPT_SECONDS: Final = 86_400
LEASE_SECONDS: Final = 60
LARGEST_ANSWER: Final = 256 << 10
_SWEEP_SECONDS: Final = 600
_KEY: Final = re.compile(rb'"?([\x21\x23-\x7e]{8,128})"?')
# What a caller may do something about, and then send the same request again.
_NOT_KEPT: Final = frozenset({401, 403, 408, 409, 429})
_KEPT_HEADERS: Final = (b"content-type", b"etag", b"location", b"cache-control")


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer as it was given."""

    status: int
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes


@dataclass(slots=True)
class Repetition:
    """One request under its key while it runs; it marks the request's row in the request's first write."""

    owner: str
    key: str
    token: str
    last: bool = False
    written: bool = False

    def begin(self, connection: Connection) -> None:
        """Nothing: the mark comes after the work."""

    def end(self, connection: Connection, answer: Any) -> None:
        """Mark the row: what the request does stands from here on."""
        if not self.written:
            marked = connection.execute(update(repeated).where(*_row(self)).values(state="written"))
            if not marked.rowcount:
                # It took longer than its lease, and the same request was begun anew: that one does it.
                raise _still_running()

    def stands(self) -> None:
        """The mark is on the disk."""
        self.written = True


class Repeats:
    """The rows of requests that came with a key.

    Parameters
    ----------
    database, vault:
        Where they are kept, and what answers are sealed with.
    clock:
        Nanoseconds since 1970.
    """

    def __init__(self, database: Database, vault: SecretVault, clock: Callable[[], int]) -> None:
        self._database, self._vault, self._clock = database, vault, clock
        self._swept = clock()

    def begin(self, owner: str, key: bytes, fingerprint: str) -> Repetition | Answer:
        """Take a key for a request, or give the answer of the one that had it.

        Raises
        ------
        ProblemError
            422: the key belongs to another request. 409: that request still runs, or its answer was lost.
        """
        now = self._clock()
        sweep = now - self._swept > _SWEEP_SECONDS * SECOND
        if sweep:
            self._swept = now
        mine = Repetition(owner, hashlib.sha256(key).hexdigest(), secrets.token_hex(8))

        def work(db: Connection) -> Any:
            if sweep:
                db.execute(delete(repeated).where(repeated.c.begun_at < now - KEPT_SECONDS * SECOND))
            found = db.execute(
                select(repeated).where(repeated.c.owner == owner, repeated.c.key == mine.key).with_for_update()
            ).first()
            over = found is not None and found.begun_at < now - KEPT_SECONDS * SECOND
            abandoned = found is not None and found.state == "running" and found.lease_until <= now
            if found is not None and not over and not (abandoned and found.fingerprint == fingerprint):
                return found
            db.execute(delete(repeated).where(repeated.c.owner == owner, repeated.c.key == mine.key))
            values: dict[str, Any] = {"owner": owner, "key": mine.key, "fingerprint": fingerprint, "state": "running"}
            values |= {"token": mine.token, "begun_at": now, "lease_until": now + LEASE_SECONDS * SECOND}
            if not db.execute(_insert_new(db, values | {"status": 0, "answer": b""})).rowcount:
                # Another worker has put its row between the two statements.
                raise _still_running()
            return None

        with alone():
            found = self._database.write(work)
        return mine if found is None else self._of(found, fingerprint)

    def finish(self, mine: Repetition, answer: Answer | None) -> None:
        """Keep a request's answer; where nothing was done and nothing is worth keeping, forget the key."""
        keep = answer is not None and (
            mine.written or (answer.status < 500 and answer.status not in _NOT_KEPT and answer.status >= 200)
        )
        if keep and answer is not None and len(answer.body) <= LARGEST_ANSWER:
            values = {"state": "done", "status": answer.status, "answer": self._sealed(mine, answer)}
            statement: Any = update(repeated).where(*_row(mine)).values(**values)
        elif mine.written:
            return
        else:
            statement = delete(repeated).where(*_row(mine))
        with alone():
            self._database.write(lambda db: db.execute(statement).rowcount)

    def _of(self, found: Any, fingerprint: str) -> Answer:
        if found.fingerprint != fingerprint:
            raise ProblemError(
                422, "key-reused", "the Idempotency-Key belongs to another request", hint="take a new key"
            )
        if found.state == "running":
            raise _still_running()
        lost = ProblemError(
            409, "answer-lost", "the request was done, and its answer is lost", hint="read what it made"
        )
        if found.state != "done":
            raise lost
        try:
            kept = json.loads(self._vault.open(found.answer, _record(found.owner, found.key)))
        except UnreadableSecretError:
            raise lost from None
        headers = tuple((name.encode("latin-1"), value.encode("latin-1")) for name, value in kept["headers"])
        return Answer(found.status, headers, base64.b64decode(kept["body"]))

    def _sealed(self, mine: Repetition, answer: Answer) -> bytes:
        headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in answer.headers]
        text = json.dumps({"headers": headers, "body": base64.b64encode(answer.body).decode()})
        return self._vault.seal(text, _record(mine.owner, mine.key))


class RepeatedRequests:
    """The layer that answers repeated requests; it stands behind the door, so that a key belongs to its user.

    Parameters
    ----------
    app:
        What answers.
    repeats:
        The rows.
    database:
        Whose writes mark them.
    """

    def __init__(self, app: ASGIApp, repeats: Repeats, database: Database) -> None:
        self._app, self._repeats, self._database = app, repeats, database

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one connection; all but POST by a known user under a key passes."""
        given = None
        if scope["type"] == "http" and scope["method"] == "POST":
            given = next((value for name, value in scope["headers"] if name == b"idempotency-key"), None)
        principal = scope.get("state", {}).get("principal")
        if given is None or not isinstance(principal, Principal):
            await self._app(scope, receive, send)
            return
        try:
            key = _KEY.fullmatch(given)
            if key is None:
                raise ProblemError(
                    400, "bad-idempotency-key", "an Idempotency-Key has 8 to 128 visible characters", hint="a UUID"
                )
            body, whole = await _body(receive)
            found = await run_in_threadpool(self._repeats.begin, principal.owner, key[1], _fingerprint(scope, body))
        except TapelineError as error:
            await problem_response(problem_of(error), scope["state"]["request_id"])(scope, receive, send)
            return
        if isinstance(found, Answer):
            headers = [*found.headers, (b"idempotency-replayed", b"true")]
            await send({"type": "http.response.start", "status": found.status, "headers": headers})
            await send({"type": "http.response.body", "body": found.body})
            return
        await self._run(found, scope, whole, send)

    async def _run(self, mine: Repetition, scope: Scope, receive: Receive, send: Send) -> None:
        status, parts = 0, []
        headers: tuple[tuple[bytes, bytes], ...] = ()

        async def sending(message: Message) -> None:
            nonlocal status, headers
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = tuple((name, value) for name, value in message["headers"] if name in _KEPT_HEADERS)
                started.append(message)
            elif message["type"] == "http.response.body":
                parts.append(message.get("body", b""))
                if message.get("more_body", False):
                    return
                # Kept before it is told: what the caller has read is what he will be given again.
                answer = Answer(status, headers, b"".join(parts))
                await run_in_threadpool(self._repeats.finish, mine, answer)
                finished.append(answer)
                await send(started[0])
                await send({"type": "http.response.body", "body": answer.body})

        started: list[Message] = []
        finished: list[Answer] = []
        try:
            with accompanied(self._database, mine):
                await self._app(scope, receive, sending)
        finally:
            if not finished:
                await run_in_threadpool(self._repeats.finish, mine, None)


def _still_running() -> ProblemError:
    return ProblemError(
        409, "still-running", "the request of this Idempotency-Key still runs", headers={"Retry-After": "1"}
    )


def _insert_new(connection: Connection, values: dict[str, Any]) -> Any:
    from sqlalchemy.dialects import postgresql, sqlite

    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    return dialect.insert(repeated).values(values).on_conflict_do_nothing()


def _row(mine: Repetition) -> tuple[Any, ...]:
    return repeated.c.owner == mine.owner, repeated.c.key == mine.key, repeated.c.token == mine.token


def _record(owner: str, key: str) -> str:
    return f"repeated/{owner}/{key}"


def _fingerprint(scope: Scope, body: bytes) -> str:
    kind = next((value for name, value in scope["headers"] if name == b"content-type"), b"")
    parts = (scope["path"].encode("utf-8", "surrogateescape"), scope["query_string"], kind, body)
    return hashlib.sha256(b"".join(len(part).to_bytes(8, "big") + part for part in parts)).hexdigest()


async def _body(receive: Receive) -> tuple[bytes, Receive]:
    """The body, which the layer before has bounded, and how the application gets it again."""
    parts, more = [], True
    while more:
        message = await receive()
        if message["type"] != "http.request":
            break
        parts.append(message.get("body", b""))
        more = message.get("more_body", False)
    body, given = b"".join(parts), False

    async def again() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return body, again
