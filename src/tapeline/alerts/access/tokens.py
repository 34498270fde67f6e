"""Access and refresh tokens: signed JSON web tokens, of which nothing is believed that we did not write.

References
----------
RFC 7519, JSON Web Token (2015); RFC 8725, JSON Web Token Best Current Practices (2020).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from tapeline.alerts.access.principal import NotAuthenticatedError
from tapeline.alerts.access.signing_keys import checked_keys
from tapeline.core.errors import MissingExtraError
from tapeline.core.nanoseconds import SECOND

Kind = Literal["access", "refresh"]
ISSUER: Final = "tapeline"
AUDIENCE: Final = "tapeline-alerts"
ALGORITHM: Final = "HS256"
LONGEST: Final = 2_048
SKEW_SECONDS: Final = 5
"""By how much the clocks of two workers may differ: a token that the other just made is not from the future."""
MOST_REMEMBERED: Final = 4_096
_REQUIRED: Final = ("exp", "nbf", "iat", "aud", "iss", "sub", "jti", "fam", "typ")
_HEADER: Final = frozenset({"alg", "kid", "typ"})
_KID: Final = re.compile(r"[0-9a-f]{16}")
_SHAPE: Final = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")


@dataclass(frozen=True, slots=True)
class Claims:
    """What a token says.

    Parameters
    ----------
    owner:
        The user's name.
    family:
        The login that it came of.
    id:
        Its own.
    issued_at, expires_at:
        Seconds since 1970 UTC.
    """

    owner: str
    family: str
    id: str
    issued_at: int
    expires_at: int


class TokenSigner:
    """Signs and reads tokens.

    Each key has one algorithm, HMAC with SHA-256, whatever a token's header says; the header only names the key. What
    else stands in a header (an address to fetch keys from, a key) is reason to refuse it.

    Parameters
    ----------
    keys:
        The newest first: it signs; the others verify until they are taken out.
    clock:
        Nanoseconds since 1970 UTC.

    Raises
    ------
    ConfigurationError
        A key is missing or could be guessed.
    MissingExtraError
        PyJWT (extra ``gateway``) is not installed.
    """

    def __init__(self, keys: Sequence[str], clock: Callable[[], int]) -> None:
        try:
            import jwt
        except ImportError:
            raise MissingExtraError("PyJWT", "gateway") from None
        self._jwt, self._clock = jwt, clock
        self._keys = checked_keys(keys)
        self._newest = next(iter(self._keys))
        self._signed: dict[bytes, dict[str, Any]] = {}

    def signed(self, kind: Kind, claims: Claims) -> str:
        """The token of these claims; the same claims under the same key are the same text."""
        payload = {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "sub": claims.owner,
            "typ": kind,
            "jti": claims.id,
            "fam": claims.family,
            "iat": claims.issued_at,
            "nbf": claims.issued_at,
            "exp": claims.expires_at,
        }
        return self._jwt.encode(payload, self._keys[self._newest], ALGORITHM, headers={"kid": self._newest})

    def read(self, token: str, kind: Kind) -> Claims:
        """What a token of ours says.

        Raises
        ------
        NotAuthenticatedError
            It is not ours, is of the other kind, has expired, or begins in the future; which of these, is not said.
        """
        try:
            payload = self._remembered(token) if kind == "access" else self._verified(token)
            now = self._clock() // SECOND
            times = payload["iat"], payload["nbf"], payload["exp"]
            texts = payload["sub"], payload["fam"], payload["jti"]
            if not all(type(one) is int for one in times) or not all(type(one) is str and one for one in texts):
                raise ValueError("a claim is of another type")
            if payload["typ"] != kind or payload["exp"] <= now or max(times[:2]) > now + SKEW_SECONDS:
                raise ValueError("not of this kind, or not now")
        except (ValueError, KeyError, TypeError, RecursionError, self._jwt.PyJWTError):
            raise NotAuthenticatedError(f"the {kind} token is not valid") from None
        return Claims(payload["sub"], payload["fam"], payload["jti"], payload["iat"], payload["exp"])

    def _remembered(self, token: str) -> dict[str, Any]:
        """:meth:`_verified`, once a token: that it is ours does not change. When it is good, is asked every time."""
        name = hashlib.sha256(token.encode("utf-8", "replace")).digest()
        found = self._signed.get(name)
        if found is None:
            found = self._verified(token)
            if len(self._signed) >= MOST_REMEMBERED:
                self._signed.clear()
            self._signed[name] = found
        return found

    def _verified(self, token: str) -> dict[str, Any]:
        # Looked at as text first: nothing of a stranger's is decoded that could not be a token of ours.
        if len(token) > LONGEST or not _SHAPE.fullmatch(token):
            raise ValueError("not the shape of a token")
        header = self._jwt.get_unverified_header(token)
        name = header.get("kid")
        if set(header) != _HEADER or header["alg"] != ALGORITHM or not isinstance(name, str):
            raise ValueError("not a header of ours")
        key = self._keys.get(name) if _KID.fullmatch(name) else None
        if key is None:
            raise ValueError("no key of this name")
        # Times are ours to compare: with our clock, and without the library's tolerance for what is no number.
        options: Any = {
            "require": list(_REQUIRED),
            "strict_aud": True,
            **{f"verify_{name}": False for name in ("exp", "nbf", "iat")},
        }
        payload: dict[str, Any] = self._jwt.decode(
            token, key, algorithms=[ALGORITHM], audience=AUDIENCE, issuer=ISSUER, options=options
        )
        return payload

    def __repr__(self) -> str:
        return f"TokenSigner({len(self._keys)} keys)"
