"""Passwords: argon2id, as long for a stranger as for a user, and only a few computed at the same time."""

from __future__ import annotations

import base64
import secrets
import threading
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from tapeline.core.errors import DataError, MissingExtraError, ThrottledError

if TYPE_CHECKING:
    import argon2

SHORTEST: Final = 12
LONGEST: Final = 128
LEAST_DIFFERENT: Final = 5
_SALT: Final = 16
_HASH: Final = 32


@dataclass(frozen=True, slots=True)
class HashCosts:
    """What one hash costs: the second recommended choice of RFC 9106, section 4.

    Parameters
    ----------
    memory:
        KiB.
    passes:
        How often the memory is gone over.
    lanes:
        Threads of one computation.
    at_once:
        How many are computed at the same time: a flood of logins must take neither all memory nor all cores.
    wait_seconds, waiting:
        How long one waits for its turn before it is refused, and how many may wait: they hold threads that others need.
    """

    memory: int = 65_536
    passes: int = 3
    lanes: int = 4
    at_once: int = 2
    wait_seconds: float = 3.0
    waiting: int = 4


RECOMMENDED: Final = HashCosts()


class Passwords:
    """Makes and checks hashes of passwords.

    Parameters
    ----------
    costs:
        Of a new hash; what was hashed at other costs still matches, and is said to be :meth:`outdated`.

    Examples
    --------
    >>> passwords = Passwords(HashCosts(memory=64, passes=1, lanes=1))
    >>> kept = passwords.hashed("correct horse battery staple")
    >>> passwords.match(kept, "correct horse battery staple"), passwords.match(kept, "another"), \
passwords.match("", "another")
    (True, False, False)

    References
    ----------
    RFC 9106, Argon2 Memory-Hard Function for Password Hashing (2021); NIST SP 800-63B-4, section 3.1.1 (2025).
    """

    def __init__(self, costs: HashCosts = RECOMMENDED) -> None:
        self._costs = costs
        self._turns = threading.BoundedSemaphore(costs.at_once)
        self._places = threading.BoundedSemaphore(costs.at_once + costs.waiting)
        self._hasher = _hasher(costs)
        # Nobody's hash, at the same costs: what a stranger's password is compared with. It was never computed, so that
        # no password belongs to it.
        salt, hash = (_unpadded(secrets.token_bytes(size)) for size in (_SALT, _HASH))
        self._nobody = f"$argon2id$v=19$m={costs.memory},t={costs.passes},p={costs.lanes}${salt}${hash}"

    def hashed(self, password: str) -> str:
        """A new hash, with its own salt.

        Raises
        ------
        ThrottledError
            Too many are being computed.
        """
        with self._turn():
            return self._hasher.hash(_normal(password))

    def match(self, kept: str, password: str) -> bool:
        """Whether a password belongs to a hash; for an empty one False, after the same work.

        Raises
        ------
        ThrottledError
            Too many are being computed.
        """
        from argon2.exceptions import InvalidHashError, VerificationError

        with self._turn():
            try:
                return self._hasher.verify(kept or self._nobody, _normal(password)) and bool(kept)
            except (VerificationError, InvalidHashError):
                return False

    def outdated(self, kept: str) -> bool:
        """Whether a hash was made at other costs than new ones are."""
        return self._hasher.check_needs_rehash(kept)

    @contextmanager
    def _turn(self) -> Iterator[None]:
        busy = ThrottledError("too many logins at the same time", retry_after=1.0)
        if not self._places.acquire(blocking=False):
            raise busy
        try:
            if not self._turns.acquire(timeout=self._costs.wait_seconds):
                raise busy
            try:
                yield
            finally:
                self._turns.release()
        finally:
            self._places.release()


def check_new_password(password: str, name: str) -> None:
    """Refuse a password that is short, too long, made of few characters, or has the user's name in it.

    Raises
    ------
    DataError
        Without the password in its message.

    Examples
    --------
    >>> check_new_password("aaaaaaaaaaaaaaa", "ann")
    Traceback (most recent call last):
    ...
    tapeline.core.errors.DataError: the password has fewer than 5 different characters (several words are easy to \
remember and hard to guess)
    """
    hint = "several words are easy to remember and hard to guess"
    length = len(_normal(password))
    if not SHORTEST <= length <= LONGEST:
        raise DataError(f"the password has {length} characters, not {SHORTEST} to {LONGEST}", hint=hint)
    if len(set(password.casefold())) < LEAST_DIFFERENT:
        raise DataError(f"the password has fewer than {LEAST_DIFFERENT} different characters", hint=hint)
    if len(name) > 2 and name.casefold() in password.casefold():
        raise DataError("the password has the user's name in it", hint=hint)


def _normal(password: str) -> str:
    """One form, however a keyboard composes its letters; surrogates, which no keyboard makes, cannot be encoded."""
    return unicodedata.normalize("NFKC", password).encode("utf-8", "replace").decode()


def _unpadded(raw: bytes) -> str:
    return base64.b64encode(raw).decode().rstrip("=")


def _hasher(costs: HashCosts) -> argon2.PasswordHasher:
    try:
        import argon2
    except ImportError:
        raise MissingExtraError("argon2-cffi", "gateway") from None
    return argon2.PasswordHasher(
        time_cost=costs.passes,
        memory_cost=costs.memory,
        parallelism=costs.lanes,
        hash_len=_HASH,
        salt_len=_SALT,
        type=argon2.Type.ID,
    )
