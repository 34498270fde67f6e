"""The chain of the audit log: what a row's hash is made of, how the head is signed, and what is wrong with a chain."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Final

from tapeline.core.errors import ConfigurationError

GENESIS: Final = hashlib.sha256(b"tapeline audit log, first row").hexdigest()
"""What stands for the hash before the first row."""
MOST_FINDINGS: Final = 100


@dataclass(frozen=True, slots=True)
class AuditRow:
    """Something that somebody did.

    Parameters
    ----------
    number:
        Its place, from 1 without a gap.
    at:
        When, in nanoseconds since 1970 UTC.
    actor, credential:
        Who, and by which token family or key.
    action, kind, record:
        What was done to what: ``rule.change``, ``rule``, its id.
    before, after:
        JSON, without secrets; ``null`` where there was nothing.
    address, request_id:
        Where the request came from and its id.
    previous_hash, hash:
        Of the row before, and of this one.
    """

    number: int
    at: int
    actor: str
    credential: str
    action: str
    kind: str
    record: str
    before: str
    after: str
    address: str
    request_id: str
    previous_hash: str
    hash: str


@dataclass(frozen=True, slots=True)
class Head:
    """The end of the chain.

    Parameters
    ----------
    number, hash:
        Of the newest row; 0 and :data:`GENESIS` where there is none.
    doubt:
        The first row that was written upon a head without a valid signature; 0 where there is none.
    signature:
        ``<name of the key>:<HMAC-SHA256 of the other three>``.
    """

    number: int
    hash: str
    doubt: int = 0
    signature: str = ""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong, at a row."""

    number: int
    problem: str


@dataclass(frozen=True, slots=True)
class Verification:
    """What was read and what is wrong with it (the first :data:`MOST_FINDINGS`)."""

    rows: int
    head: Head
    findings: tuple[Finding, ...]

    @property
    def intact(self) -> bool:
        """Whether nothing is wrong."""
        return not self.findings


_HASHED: Final = tuple(one.name for one in fields(AuditRow) if one.name != "hash")


def row_hash(row: AuditRow) -> str:
    """SHA-256 of a row's other fields as one canonical JSON array, the hash of the row before among them.

    Examples
    --------
    >>> row = AuditRow(1, 0, "ann", "", "rule.create", "rule", "r1", "null", "{}", "", "", GENESIS, "")
    >>> row_hash(row)[:16]
    'a101176827bb5873'
    """
    values = [getattr(row, name) for name in _HASHED]
    return hashlib.sha256(json.dumps(values, ensure_ascii=True, separators=(",", ":")).encode()).hexdigest()


class HeadSigner:
    """Signs the head by keys that are not in the database.

    Parameters
    ----------
    keys:
        The service's signing keys, the newest first: it signs, all verify. The key that is used is derived from them,
        so that neither serves for the other's purpose.

    Examples
    --------
    >>> signer = HeadSigner(["a-long-random-text-of-32-bytes-or-more"])
    >>> head = signer.signed(7, "ab12", 0)
    >>> signer.holds(head), signer.holds(Head(6, "ab12", 0, head.signature))
    (True, False)
    """

    def __init__(self, keys: Sequence[str]) -> None:
        self._keys: dict[str, bytes] = {}
        for key in keys:
            derived = hmac.digest(key.encode(), b"tapeline audit head", "sha256")
            self._keys[hashlib.sha256(b"name" + derived).hexdigest()[:16]] = derived

    def signed(self, number: int, hash: str, doubt: int) -> Head:
        """A head under the newest key.

        Raises
        ------
        ConfigurationError
            There is no key.
        """
        if not self._keys:
            raise ConfigurationError(
                "the audit log cannot be written: there is no key to sign its head with",
                hint="set [alerts.gateway] signing_keys; `tapeline alerts key` makes one",
            )
        name, key = next(iter(self._keys.items()))
        return Head(number, hash, doubt, f"{name}:{_signature(key, number, hash, doubt)}")

    def holds(self, head: Head) -> bool:
        """Whether one of the keys signed it."""
        name, _, signature = head.signature.partition(":")
        key = self._keys.get(name)
        if key is None:
            return False
        return hmac.compare_digest(_signature(key, head.number, head.hash, head.doubt).encode(), signature.encode())

    def __repr__(self) -> str:
        return f"HeadSigner({len(self._keys)} keys)"


def _signature(key: bytes, number: int, hash: str, doubt: int) -> str:
    return hmac.digest(key, f"{number}:{hash}:{doubt}".encode(), "sha256").hex()


def verify_chain(rows: Iterable[AuditRow], head: Head | None, signer: HeadSigner, known: Head | None) -> Verification:
    """Everything that is wrong with rows in the order of their numbers, and with the head.

    Parameters
    ----------
    rows:
        All rows, by number.
    head:
        What the database holds as the head; None where that row is gone.
    signer:
        Verifies it.
    known:
        A head that was noted elsewhere earlier: the chain must hold the row it names.

    Notes
    -----
    A row that was changed no longer has its hash; one that was removed leaves a gap; reordering changes numbers, which
    are hashed; removal of the newest rows disagrees with the head, and the head's signature needs a key that is not in
    the database. What this cannot show: that the whole database was set back to an earlier state, its head with it.
    For that ``known`` is there: note the head elsewhere from time to time.
    """
    found: list[Finding] = []
    number, previous = 0, GENESIS
    for row in rows:
        found += _row_findings(row, number, previous)
        if known is not None and row.number == known.number and row.hash != known.hash:
            found.append(Finding(row.number, "is not the row whose hash was noted"))
        number, previous = row.number, row.hash
        if len(found) >= MOST_FINDINGS:
            return Verification(number, head or Head(0, GENESIS), tuple(found[:MOST_FINDINGS]))
    found += _head_findings(head, number, previous, signer)
    if known is not None and known.number > number:
        found.append(Finding(known.number, f"was noted as the head, and the log ends at {number}"))
    return Verification(number, head or Head(0, GENESIS), tuple(found))


def _row_findings(row: AuditRow, number: int, previous: str) -> Iterator[Finding]:
    if row.number != number + 1:
        yield Finding(number + 1, f"is missing: row {row.number} follows row {number}")
    elif row.previous_hash != previous:
        yield Finding(row.number, f"does not continue row {number}")
    if row_hash(row) != row.hash:
        yield Finding(row.number, "was changed: its hash is another")


def _head_findings(head: Head | None, number: int, hash: str, signer: HeadSigner) -> Iterator[Finding]:
    if head is None:
        if number:
            yield Finding(number, "the head of the log is gone")
        return
    if head.number > number:
        yield Finding(number + 1, f"rows up to {head.number} are missing at the end")
    elif head.number < number:
        yield Finding(head.number + 1, "rows were added behind the head")
    elif head.hash != hash:
        yield Finding(number, "is not the row that the head names")
    if not signer.holds(head):
        yield Finding(head.number, "the head carries no signature of ours")
    if head.doubt:
        yield Finding(head.doubt, "was written upon a head without a signature of ours")
