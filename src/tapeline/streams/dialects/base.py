"""What every dialect shares: bounds, number types that refuse nonsense in C, and the wall around bad messages."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable
from datetime import UTC, datetime
from functools import lru_cache
from typing import Annotated, Any, ClassVar, Final

from tapeline.core.errors import TapelineError
from tapeline.core.symbol import Symbol
from tapeline.streams.messages import Level, Quarantined, Record, Side, msgspec

MAXIMUM_BYTES: Final = 16 * 1024 * 1024
"""No message may be longer. The largest real one seen, a full Coinbase book, has under 3 MB."""

KEPT_BYTES: Final = 4096
"""How much of a refused message is kept."""

MILLISECOND: Final = 1_000_000
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

Price = Annotated[float, msgspec.Meta(gt=0, lt=1e15)]
Size = Annotated[float, msgspec.Meta(ge=0, lt=1e18)]
Number = Annotated[float, msgspec.Meta(gt=-1e18, lt=1e18)]
Milliseconds = Annotated[int, msgspec.Meta(ge=0, le=9_000_000_000_000)]
Sequence = Annotated[int, msgspec.Meta(ge=-1, lt=2**62)]
Instant = Annotated[datetime, msgspec.Meta(tz=True)]
Text = Annotated[str, msgspec.Meta(max_length=256)]
Levels = Annotated[list[tuple[Price, Size]], msgspec.Meta(max_length=200_000)]

ABSENT: Final = msgspec.Raw()
"""What a raw field holds where a message lacks it; compare with ``is``."""

symbol_of = lru_cache(maxsize=65_536)(Symbol.parse)
"""The validated symbol of a text; validation is a pure function of the text, so it is done once a text."""


class Unreadable(ValueError):  # noqa: N818 - it never leaves a dialect: it becomes a Quarantined record
    """A message that is JSON but not what the venue documents."""


class Unknown(Unreadable):
    """A message of a kind that the dialect does not read, such as a private channel: nothing of ours is lost."""


# RecursionError comes from arrays nested thousands deep, TapelineError from a symbol that could not name a folder.
REFUSALS: Final = (msgspec.MsgspecError, ValueError, RecursionError, OverflowError, TapelineError)


class Dialect(ABC):
    """A venue's language. One instance serves one connection: some venues need memory of what was said before.

    Parameters
    ----------
    maximum_bytes:
        Longer messages are refused before they are looked at.
    """

    venue: ClassVar[str]

    def __init__(self, *, maximum_bytes: int = MAXIMUM_BYTES) -> None:
        self.maximum_bytes = maximum_bytes

    def parse(self, raw: bytes) -> list[Record]:
        """The records of one message; exactly one ``Quarantined`` where it cannot be read. Never raises for data."""
        if len(raw) > self.maximum_bytes:
            return [self.refuse(raw, f"{len(raw)} bytes, more than {self.maximum_bytes}")]
        try:
            return self._read(raw)
        except REFUSALS as error:
            refused = self.refuse(raw, f"{type(error).__name__}: {error}")
            return [msgspec.structs.replace(refused, unknown=True) if isinstance(error, Unknown) else refused]

    def reset(self) -> None:  # noqa: B027 - most venues need no memory
        """Forget the connection: call it after each reconnect."""

    def refuse(self, raw: bytes, reason: str) -> Quarantined:
        """The record of a message that cannot be read."""
        return Quarantined(self.venue, reason[:300], bytes(raw[:KEPT_BYTES]), len(raw))

    @abstractmethod
    def _read(self, raw: bytes) -> list[Record]: ...


def decoder(kind: Any) -> msgspec.json.Decoder:
    """A decoder that takes numbers written as texts, as most venues write them."""
    return msgspec.json.Decoder(kind, strict=False)


def nanoseconds(instant: datetime) -> int:
    """Nanoseconds since the epoch, exact to the microsecond.

    Examples
    --------
    >>> from datetime import datetime, UTC
    >>> nanoseconds(datetime(2021, 4, 17, 16, 43, 30, 244075, tzinfo=UTC))
    1618677810244075000
    """
    passed = instant - _EPOCH
    return ((passed.days * 86_400 + passed.seconds) * 1_000_000 + passed.microseconds) * 1_000


def seconds_text(text: str) -> int:
    """Nanoseconds of decimal seconds since the epoch, such as ``1618678133.365913``, without a float's rounding.

    Examples
    --------
    >>> seconds_text("1618678133.365913")
    1618678133365913000
    """
    whole, _, part = text.partition(".")
    if not (whole.isascii() and whole.isdigit() and len(whole) <= 10 and len(part) <= 9):
        raise Unreadable(f"{text[:40]!r} is not a time in seconds")
    if part and not (part.isascii() and part.isdigit()):
        raise Unreadable(f"{text[:40]!r} is not a time in seconds")
    return int(whole) * 1_000_000_000 + int(part.ljust(9, "0") or 0)


def positive(text: str) -> float:
    """A price written as a text; refuses what is not a plain finite positive number."""
    value = _plain(text)
    if not 0.0 < value < 1e15:
        raise Unreadable(f"price {text[:40]!r} is not between 0 and 1e15")
    return value


def amount(text: str) -> float:
    """A size written as a text: zero or positive."""
    value = _plain(text)
    if not 0.0 <= value < 1e18:
        raise Unreadable(f"size {text[:40]!r} is not between 0 and 1e18")
    return value


def _plain(text: str) -> float:
    # float() would also take "1_0", " 1", "nan" and digits of other scripts.
    if len(text) > 40 or not text.isascii() or "_" in text or text != text.strip():
        raise Unreadable(f"{text[:40]!r} is not a plain number")
    return float(text)


def side_of(text: str) -> Side:
    """1 for a buying taker, -1 for a selling one; refuses other words."""
    lowered = text.lower()
    if lowered in ("buy", "b", "bid"):
        return 1
    if lowered in ("sell", "s", "offer", "ask"):
        return -1
    raise Unreadable(f"side {text[:20]!r} is neither buy nor sell")


def split_sides(changes: Iterable[tuple[Side, Level]]) -> tuple[list[Level], list[Level]]:
    """Bids and asks of a mixed list of levels."""
    bids: list[Level] = []
    asks: list[Level] = []
    for side, level in changes:
        (bids if side > 0 else asks).append(level)
    return bids, asks


def or_nan(value: float | None) -> float:
    """NaN where a venue sends null or nothing."""
    return math.nan if value is None else value
