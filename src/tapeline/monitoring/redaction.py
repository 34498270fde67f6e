"""Secrets stay out of messages, logs and errors: those we were given, and what has the shape of one."""

from __future__ import annotations

import logging
import re
import traceback
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final
from urllib.parse import quote, unquote, urlsplit

from pydantic import BaseModel, SecretStr

MASK: Final = "***"
MAXIMUM_TEXT: Final = 50_000
SHORTEST_SECRET: Final = 6

SENSITIVE_NAME: Final = re.compile(
    r"(?i)(api_?-?key|access_?-?key|private_?-?key|token|secret|passw|passphrase|pwd|credential|authorization|signature)"
)

# Every repetition is bounded, so that no text, however hostile, makes the search slow.
_SHAPES: Final = (
    (re.compile(r"(?<!\d)\d{6,20}(?::|%3A)[A-Za-z0-9_-]{30,80}"), MASK),  # a Telegram bot token
    (re.compile(r"(?i)(hooks\.slack(?:-gov)?\.com/)[^\s\"'<>]{1,300}"), rf"\1{MASK}"),
    (re.compile(r"(?i)(discord(?:app)?\.com/api/webhooks/)[^\s\"'<>]{1,300}"), rf"\1{MASK}"),
    (re.compile(r"\bxox[a-z]-[A-Za-z0-9-]{8,300}"), MASK),  # a Slack token
    (re.compile(r"\beyJ[\w-]{8,2000}\.[\w-]{8,2000}\.[\w-]{0,2000}"), MASK),  # a JSON web token
    (re.compile(r"\btl[kt]_[A-Za-z0-9_-]{16,200}"), MASK),  # an API key of ours, a ticket of ours
    (re.compile(r"\$argon2(?:id|i|d)\$[^\s\"']{10,300}"), MASK),  # a hashed password
    (re.compile(r"\bAKIA[0-9A-Z]{16}\b"), MASK),  # an AWS access key
    (re.compile(r"(?i)\b([a-z][a-z0-9+.-]{0,30}://)[^/\s@]{1,300}@"), rf"\1{MASK}@"),  # user:password@ in a URL
    (re.compile(r"(?i)\b(bearer|basic)\s{1,5}[\w.~+/=-]{8,2000}"), rf"\1 {MASK}"),
    (
        re.compile(
            r"(?i)([\w-]{0,30}(?:api_?-?key|access_?-?key|private_?-?key|token|secret|passw(?:or)?d|passphrase|pwd"
            r"|credentials?|authorization|signature)[\"']?\s{0,3}[:=]\s{0,3})(?!\*\*\*|(?:bearer|basic)\s)"
            r"(\"[^\"]{1,500}\"|'[^']{1,500}'|[^\s\"'&,;)}\]]{1,500})"
        ),
        rf"\1{MASK}",
    ),
)

# These loggers write whole addresses, token and all: httpx at INFO, the others at DEBUG.
_TALKATIVE_LOGGERS: Final = ("apprise", "httpx", "urllib3.connectionpool", "urllib3.util.retry", "requests")


class Redactor:
    """Replaces secrets in a text by ``***``.

    Two kinds are found: the values it was built with, in plain and in percent-encoded form, and what has the shape of
    a secret (bot tokens, web hooks, passwords in addresses, ``token=...``, bearer headers). A shape is a net with
    holes; the given values are certain.

    Parameters
    ----------
    secrets:
        Values to hide wherever they stand. Those shorter than 6 characters are left out: they would hide half a text.

    Examples
    --------
    >>> Redactor(["hunter2-long"])("the word hunter2-long, postgresql://bob:x9@db/lake and api_key=abc")
    'the word ***, postgresql://***@db/lake and api_key=***'
    """

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        known: set[str] = set()
        for secret in secrets:
            if len(secret) >= SHORTEST_SECRET:
                known |= {secret, quote(secret, safe=""), quote(secret), unquote(secret)}
        # The longest first: a part of a secret must not be masked before the whole is found.
        self._known = sorted((k for k in known if len(k) >= SHORTEST_SECRET), key=len, reverse=True)

    def __call__(self, text: str) -> str:
        """The text without secrets, at most 50,000 characters of it."""
        text = text[:MAXIMUM_TEXT]
        for secret in self._known:
            text = text.replace(secret, MASK)
        for shape, mask in _SHAPES:
            text = shape.sub(mask, text)
        return text

    def __repr__(self) -> str:
        return f"Redactor({len(self._known)} values)"

    @classmethod
    def of(cls, *models: BaseModel) -> Redactor:
        """A redactor of every ``SecretStr`` found in settings, however deep; of addresses also their parts."""
        return cls(part for value in _secrets(models) for part in secret_parts(value))


def secret_parts(address: str) -> list[str]:
    """What must not be shown of an address: itself, its user part, and whatever in it is long enough for a token.

    Examples
    --------
    >>> secret_parts("slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7")[1:]
    ['TIiajkdnlazkcOXrIdevi7', 'A1BRTD4JD/TIiajkdnlazkcOXrIdevi7']
    >>> secret_parts("mailto://bob:open-sesame@example.com")[1:]
    ['open-sesame']
    """
    parts = [address]
    if "://" not in address:
        return parts
    rest = address.partition("://")[2]
    try:
        split = urlsplit(address)
        if split.password:
            parts.append(unquote(split.password))
    except ValueError:
        pass
    path = rest.partition("?")[0]
    pieces = [piece for piece in re.split(r"[/@]", path) if piece]
    # A host name and a word are shorter than this or hold a dot; tokens of the known services are longer and do not.
    parts += [piece for piece in pieces if len(piece) >= 16 and "." not in piece]
    parts += [half for piece in pieces for half in piece.split(":")[1:] if len(half) >= 16]
    if len(pieces) >= 3 and "." not in pieces[-1] and len(pieces[-1]) >= 16:
        parts.append("/".join(pieces[-2:]))
    parts += [unquote(v) for v in re.findall(r"[?&][^=&]*=([^&]{16,})", rest) if "://" not in unquote(v)]
    return list(dict.fromkeys(parts))


@contextmanager
def redacted_logs(redact: Redactor) -> Iterator[None]:
    """While it lasts, records of the HTTP libraries and of apprise reach the handlers without secrets."""
    shield = _RedactingFilter(redact)
    loggers = [logging.getLogger(name) for name in _TALKATIVE_LOGGERS]
    for logger in loggers:
        logger.addFilter(shield)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeFilter(shield)


class _RedactingFilter(logging.Filter):
    def __init__(self, redact: Redactor) -> None:
        super().__init__()
        self._redact = redact

    def filter(self, record: logging.LogRecord) -> bool:
        message = record.getMessage()
        if record.exc_info:
            message = f"{message}\n{''.join(traceback.format_exception(*record.exc_info))}"
        record.msg, record.args, record.exc_info, record.exc_text = self._redact(message), (), None, None
        return True


def _secrets(values: Iterable[Any]) -> Iterator[str]:
    for value in values:
        if isinstance(value, SecretStr):
            yield value.get_secret_value()
        elif isinstance(value, BaseModel):
            yield from _secrets(getattr(value, name) for name in type(value).model_fields)
        elif isinstance(value, Mapping):
            yield from _secrets(value.values())
        elif isinstance(value, tuple | list | set | frozenset):
            yield from _secrets(value)
