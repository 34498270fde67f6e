"""Signatures of webhooks by the Standard Webhooks specification, made and checked.

Source: Standard Webhooks, https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
import secrets
from collections.abc import Mapping, Sequence
from typing import Final

from tapeline.core.errors import ConfigurationError, DataError

PREFIX: Final = "whsec_"
FEWEST_BYTES: Final = 24
MOST_BYTES: Final = 64
TOLERANCE: Final = 300
"""Seconds by which a timestamp may differ from our clock."""
_MOST_SIGNATURES: Final = 20
_ID: Final = re.compile(r"[A-Za-z0-9_:-]{1,128}")
_TIMESTAMP: Final = re.compile(r"[0-9]{1,12}")


class SignatureError(DataError):
    """A request is not signed as agreed; it must not be acted on."""


def new_secret() -> str:
    """A random secret of 32 bytes, as it is shown to the receiver once.

    Examples
    --------
    >>> len(secret_bytes(new_secret()))
    32
    """
    return PREFIX + base64.b64encode(secrets.token_bytes(32)).decode()


def secret_bytes(secret: str) -> bytes:
    """The key in a secret of the form ``whsec_<base64>``.

    Raises
    ------
    ConfigurationError
        It has another form, or holds less than 24 or more than 64 bytes. The message does not repeat it.
    """
    text = secret.removeprefix(PREFIX)
    try:
        key = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if not secret.startswith(PREFIX) or not FEWEST_BYTES <= len(key) <= MOST_BYTES:
        raise ConfigurationError(
            f"a webhook secret is not {PREFIX} and the base64 of {FEWEST_BYTES} to {MOST_BYTES} bytes",
            hint="new_secret() makes one",
        )
    return key


def sign(keys: Sequence[str], id: str, timestamp: int, body: bytes) -> dict[str, str]:
    """The three headers that sign a request.

    Parameters
    ----------
    keys:
        The secrets, the newest first: while one replaces another, a signature by each is sent.
    id:
        ``webhook-id``: the same on every try, by which the receiver tells a repeat.
    timestamp:
        Seconds since 1970 of this try.
    body:
        The bytes that are sent.

    Raises
    ------
    ConfigurationError
        No secret, or one that is unusable.
    DataError
        An id that may not stand in a signed text.

    Examples
    --------
    >>> secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    >>> sign([secret], "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}')["webhook-signature"]
    'v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE='
    """
    if not keys:
        raise ConfigurationError("a webhook without a secret cannot be signed")
    if not _ID.fullmatch(id):
        raise DataError("a webhook id must be 1 to 128 letters, digits, '_', ':' or '-'")
    signatures = [f"v1,{base64.b64encode(_digest(key, id, str(timestamp), body)).decode()}" for key in keys]
    return {"webhook-id": id, "webhook-timestamp": str(timestamp), "webhook-signature": " ".join(signatures)}


def verify(keys: Sequence[str], headers: Mapping[str, str], body: bytes, *, now: float) -> str:
    """Check a request that came in and return its id, by which a repeat is told.

    Compares in constant time, every signature with every key.

    Parameters
    ----------
    keys:
        The secrets that are valid, at least one.
    headers:
        The request's headers; their names in any case.
    now:
        Seconds since 1970; the timestamp may differ by five minutes.

    Raises
    ------
    SignatureError
        A header is missing or malformed, the timestamp is too far from now, or no signature fits.

    Examples
    --------
    >>> secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    >>> headers = sign([secret], "evt_1", 1_700_000_000, b"{}")
    >>> verify([secret], headers, b"{}", now=1_700_000_299.0)
    'evt_1'
    >>> verify([secret], headers, b"{ }", now=1_700_000_299.0)
    Traceback (most recent call last):
    ...
    tapeline.alerts.delivery.signing.SignatureError: no signature of the webhook fits its body
    """
    known = {name.lower(): value for name, value in headers.items()}
    id, timestamp, signatures = (known.get(f"webhook-{part}", "") for part in ("id", "timestamp", "signature"))
    if not (_ID.fullmatch(id) and _TIMESTAMP.fullmatch(timestamp) and signatures):
        raise SignatureError("a header webhook-id, webhook-timestamp or webhook-signature is missing or malformed")
    if not abs(now - int(timestamp)) <= TOLERANCE:
        raise SignatureError(f"the webhook's timestamp is more than {TOLERANCE} s from now")
    expected = [base64.b64encode(_digest(key, id, timestamp, body)) for key in keys]
    fits = False
    for signature in signatures.split(" ")[:_MOST_SIGNATURES]:
        version, _, value = signature.partition(",")
        if version == "v1":
            for each in expected:
                fits |= hmac.compare_digest(each, value.encode("utf-8", "replace"))
    if not fits:
        raise SignatureError("no signature of the webhook fits its body")
    return id


def _digest(secret: str, id: str, timestamp: str, body: bytes) -> bytes:
    return hmac.new(secret_bytes(secret), f"{id}.{timestamp}.".encode() + body, hashlib.sha256).digest()
