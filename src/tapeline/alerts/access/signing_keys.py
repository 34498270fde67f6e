"""The keys that tokens are signed with: refused at the start where somebody could guess them."""

from __future__ import annotations

import hashlib
import math
import re
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from typing import Final

from tapeline.core.errors import ConfigurationError

SHORTEST: Final = 32
"""Bytes of a key for HS256: as many as its hash has (RFC 7518, section 3.2)."""
LEAST_BITS: Final = 96.0
"""Of a key as the frequencies of its bytes tell them; 32 random hexadecimal digits have about 115."""
_HINT: Final = "`tapeline alerts key` makes one"
_EXAMPLES: Final = re.compile(
    r"super.?secret|secret.?key|your.?(?:256.?bit.?)?secret|my.?secret|jwt.?secret|a-string-secret|change.?(?:me|it|this)"
    r"|replace.?me|insecure|password|example|default|placeholder|s3cr3t|qwerty|letmein|tapeline"
    # Keys that stand in much-read pages: FastAPI's guide, RFC 7515 A.1 and jwt.io.
    r"|09d25e094faa6ca2556c818166b7a9563b93f7099f6f0f4caa6cf63b88e8d3e7|aym1sysppbydfgzld3umj1qz"
    r"|0123456789|1234567890|abcdefghij",
    re.IGNORECASE,
)


def checked_keys(keys: Sequence[str]) -> dict[str, bytes]:
    """Signing keys by their names (``kid``), in their order.

    Parameters
    ----------
    keys:
        The newest first: it signs, all verify.

    Raises
    ------
    ConfigurationError
        There is none; one is shorter than :data:`SHORTEST` bytes, is no secret (a PEM text, an example that many
        know), or repeats itself too much to be random; two are the same. The message names the place, never the key.

    Examples
    --------
    >>> checked_keys(["super-secret-super-secret-super-secret"])
    Traceback (most recent call last):
    ...
    tapeline.core.errors.ConfigurationError: signing key 1 holds words of a well-known example \
(`tapeline alerts key` makes one)
    """
    if not keys:
        raise ConfigurationError("there is no key to sign tokens with", hint=f"[alerts.gateway] signing_keys; {_HINT}")
    named: dict[str, bytes] = {}
    for place, key in enumerate(keys, 1):
        problem = weakness(key)
        if problem is not None:
            raise ConfigurationError(f"signing key {place} {problem}", hint=_HINT)
        named[key_name(key)] = key.encode()
    if len(named) != len(keys):
        raise ConfigurationError("two signing keys are the same", hint="to change the key, put a new one in front")
    return named


def key_name(key: str) -> str:
    """The ``kid`` of a key: the beginning of a digest, from which the key cannot be found."""
    return hashlib.sha256(b"tapeline signing key" + key.encode()).hexdigest()[:16]


def weakness(key: str) -> str | None:
    """Why a key is refused, or None.

    Examples
    --------
    >>> weakness("short"), weakness("ab" * 20)
    ('has 5 bytes, fewer than 32', 'repeats itself: it is not random')
    """
    raw = key.encode()
    if len(raw) < SHORTEST:
        return f"has {len(raw)} bytes, fewer than {SHORTEST}"
    if "-----BEGIN" in key or key.startswith(("ssh-", "ecdsa-")):
        return "is a key for public-key signatures, whose public half everybody may know"
    if _EXAMPLES.search(key):
        return "holds words of a well-known example"
    counts = Counter(raw)
    bits = -sum(count * math.log2(count / len(raw)) for count in counts.values())
    steps = Counter((after - before) % 256 for before, after in pairwise(raw))
    if bits < LEAST_BITS or raw in (raw + raw)[1:-1] or steps.most_common(1)[0][1] > len(raw) // 2:
        return "repeats itself: it is not random"
    return None
