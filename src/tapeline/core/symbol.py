"""Symbols: the one place where a name from outside becomes something that may name a folder."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import quote, unquote

from tapeline.core.errors import ConfigurationError

MAXIMUM_LENGTH: Final = 64
_ALLOWED: Final = re.compile(r"[A-Za-z0-9^#][A-Za-z0-9^#&=_+.:/-]*")
_NAME: Final = re.compile(r"[a-z][a-z0-9_]*(?:[.@-][a-z0-9_]+)*")


class Symbol(str):
    """A validated instrument name, as its source spells it (``EURUSD``, ``BTC/USDT:USDT``, ``^VIX``, ``BRK-B``).

    Case is kept, because brokers differ in it. A symbol is a ``str``; ``Symbol.parse`` is the only way from outside in.

    Examples
    --------
    >>> Symbol.parse("BTC/USDT").path_segment
    'BTC%2FUSDT'
    >>> Symbol.from_path_segment("BTC%2FUSDT")
    Symbol('BTC/USDT')
    """

    __slots__ = ()

    @classmethod
    def parse(cls, text: str) -> Symbol:
        """Validate a name; raise ConfigurationError where it could not safely name an instrument or a folder."""
        if isinstance(text, Symbol):
            return text
        if not isinstance(text, str) or not text or len(text) > MAXIMUM_LENGTH:
            raise ConfigurationError(
                f"symbol {text!r} must be a text of 1 to {MAXIMUM_LENGTH} characters", hint="for instance EURUSD"
            )
        if not _ALLOWED.fullmatch(text) or ".." in text or "//" in text or text[-1] in "./:":
            raise ConfigurationError(
                f"symbol {text!r} is not a valid instrument name",
                hint="letters, digits and ^ # & = _ + . : / - only, starting with a letter, a digit, ^ or #",
            )
        return cls(text)

    @property
    def path_segment(self) -> str:
        """The percent-encoded form that names the lake's ``symbol=`` folder; no character of it can leave a folder."""
        return quote(self, safe="")

    @classmethod
    def from_path_segment(cls, text: str) -> Symbol:
        """Read a folder name back."""
        return cls.parse(unquote(text))

    def __repr__(self) -> str:
        return f"Symbol({str(self)!r})"


def parse_name(text: str, what: str) -> str:
    """Validate the name of a table, a feature set, a label or a model before it becomes part of a path.

    Raises ConfigurationError, naming ``what`` it should have been.
    """
    if not isinstance(text, str) or len(text) > MAXIMUM_LENGTH or not _NAME.fullmatch(text):
        raise ConfigurationError(
            f"{what} {text!r} is not a valid name",
            hint=f"lower-case letters, digits, _ . @ - and at most {MAXIMUM_LENGTH} characters",
        )
    return text
