"""A firing: that a rule's condition was met, with everything that explains it, under an id that never changes."""

from __future__ import annotations

import hashlib
from base64 import b32encode
from dataclasses import dataclass, field
from typing import Any, Final, Literal

FiringKind = Literal["firing", "resolved", "no_data", "escalation"]
_LETTERS: Final = bytes.maketrans(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567", b"0123456789ABCDEFGHJKMNPQRSTVWXYZ")
"""From the alphabet of RFC 4648 to Crockford's, which leaves out what is easily misread."""


@dataclass(frozen=True, slots=True)
class Side:
    """One condition as it stood: ``text`` as written, both sides' values, and whether it held (None: not known)."""

    text: str
    left: float
    right: float
    held: bool | None


@dataclass(frozen=True, slots=True)
class Firing:
    """One firing of one rule for one symbol.

    Parameters
    ----------
    dedupe_key:
        What makes it the same firing if it is found again: see :func:`dedupe_key`.
    rule, rule_version, owner, symbol:
        Whose.
    kind:
        ``firing``: the condition was met. ``resolved``: it no longer is. ``no_data``: the symbol went silent.
        ``escalation``: nobody acknowledged.
    ts, sequence:
        The event: nanoseconds on the venue's clock, and the feed's number of the tick (-1 where it has none).
    detected_at:
        Nanoseconds on our clock.
    late, lateness:
        Whether it was found by going over a gap afterwards, and how many nanoseconds after the event.
    price:
        The newest trade.
    bar:
        The open of the bar in which it happened, and whether at its close.
    sides:
        Each condition of the rule as it stood.
    """

    dedupe_key: str
    rule: str
    rule_version: str
    owner: str
    symbol: str
    kind: FiringKind
    ts: int
    detected_at: int
    price: float
    sequence: int = -1
    late: bool = False
    lateness: int = 0
    bar: int | None = None
    at_close: bool = False
    priority: str = "normal"
    sides: tuple[Side, ...] = ()
    labels: dict[str, str] = field(default_factory=dict)

    @property
    def id(self) -> str:
        """``evt_`` and 26 characters that follow from the key: the id that every delivery of it carries."""
        return firing_id(self.dedupe_key)

    def keyed(self, key: str) -> Firing:
        """The same under a dedupe key. ``dataclasses.replace`` asks each field by its name and takes thrice as long."""
        return Firing(
            key, self.rule, self.rule_version, self.owner, self.symbol, self.kind, self.ts, self.detected_at,
            self.price, self.sequence, self.late, self.lateness, self.bar, self.at_close, self.priority, self.sides,
            self.labels,
        )  # fmt: skip

    def explanation(self) -> dict[str, Any]:
        """Why it fired, as JSON: a value that is not known is null."""
        return {
            "rule": self.rule,
            "rule_version": self.rule_version,
            "sequence": self.sequence,
            "bar": self.bar,
            "bar_state": "closed" if self.at_close else "forming",
            "conditions": [
                {"text": side.text, "left": _number(side.left), "right": _number(side.right), "held": side.held}
                for side in self.sides
            ],
        }


def dedupe_key(rule: str, version: str, symbol: str, kind: FiringKind, ts: int, occurrence: int = 0) -> str:
    """What a firing is recognised by: the same event found twice, before and after a crash, has the same key.

    Parameters
    ----------
    ts:
        The event's time in nanoseconds; of a firing at a bar's close, the close.
    occurrence:
        Counts firings of one rule, symbol and time, of which a feed may bring several.

    Examples
    --------
    >>> dedupe_key("r", "v", "BTCUSDT", "firing", 1) == dedupe_key("r", "v", "BTCUSDT", "firing", 1)
    True
    >>> firing_id(dedupe_key("r", "v", "BTCUSDT", "firing", 1))
    'evt_22A0E7FY5DB3RK3CXWVF4FDVB6'
    """
    text = "\x1f".join((rule, version, symbol, kind, str(ts), str(occurrence)))
    return hashlib.sha256(text.encode()).hexdigest()


def firing_id(key: str) -> str:
    """The public id of a dedupe key."""
    # 160 bits are 32 letters; the key's 128 are the last 26 of them.
    return "evt_" + b32encode(bytes.fromhex("00000000" + key[:32]))[6:].translate(_LETTERS).decode()


def _number(value: float) -> float | None:
    return value if value == value and abs(value) != float("inf") else None
