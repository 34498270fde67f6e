"""A signal: what a rule's firing tells a trading bot, in one form for every bot."""

from __future__ import annotations

import json
import math
from datetime import timedelta
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from tapeline.alerts.firing import Firing
from tapeline.alerts.rule import Rule
from tapeline.alerts.signal_intent import Action, PositionSide, SignalIntent
from tapeline.core.errors import DataError
from tapeline.monitoring.notification import clean_text, shorten

CHANNEL: Final = "bot"
"""The kind of channel that signals go through."""
LIFETIME: Final = 5_000_000_000
"""Nanoseconds after its event that a signal is worth anything where neither rule nor bot says otherwise."""
LONGEST_REASON: Final = 200
SCHEMA_ID: Final = "urn:tapeline:signal:1"

_Instant = Annotated[int, Field(ge=0, lt=2**63)]
_Price = Annotated[float, Field(gt=0)]
_HOLD: Final = SignalIntent(action="hold")


class Signal(BaseModel):
    """One signal to one bot.

    Times are nanoseconds since 1970, UTC. What is absent is not said: the bot decides it by its own settings.

    Parameters
    ----------
    type, version:
        ``signal`` and 1: a field may be added under the same version, none changes its meaning.
    id:
        The same on every try, and over every crash of ours: what a bot recognises a repeat by.
    bot:
        The bot's id.
    sequence:
        Counts the signals of this bot from 1, without gaps, in the order in which they must be taken.
    symbol, pair:
        The instrument as rules name it, and as the bot does.
    action, side:
        Open or close which position; ``hold`` asks for nothing.
    quantity, fraction:
        How much, in units or as a part of what the bot trades with (to open) or holds (to close); at most one.
    price:
        The newest trade when it fired.
    stop, take:
        Prices at which to give up and to take profit.
    confidence:
        0 to 1.
    reason:
        The conditions that held, for people.
    rule, rule_version:
        Which rule.
    ts:
        When it happened, on the venue's clock.
    created_at, expires_at:
        When we found it, and from when on it must not be acted on.

    Examples
    --------
    >>> Signal(id="evt_1", bot="me.desk", sequence=1, symbol="BTCUSDT", pair="BTC/USDT", action="close", rule="r",
    ...        rule_version="v", ts=10, created_at=10, expires_at=20).is_stale(20)
    True
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    type: Literal["signal"] = "signal"
    version: Literal[1] = 1
    id: Annotated[str, Field(pattern=r"^[A-Za-z0-9_:-]{1,128}$")]
    bot: Annotated[str, Field(min_length=1, max_length=200)]
    sequence: Annotated[int, Field(ge=1, lt=2**63)]
    symbol: Annotated[str, Field(min_length=1, max_length=64)]
    pair: Annotated[str, Field(min_length=1, max_length=64)]
    action: Action
    side: PositionSide | None = None
    quantity: _Price | None = None
    fraction: Annotated[float, Field(gt=0, le=1)] | None = None
    price: _Price | None = None
    stop: _Price | None = None
    take: _Price | None = None
    confidence: Annotated[float, Field(ge=0, le=1)] | None = None
    reason: Annotated[str, Field(max_length=LONGEST_REASON)] = ""
    rule: Annotated[str, Field(min_length=1, max_length=64)]
    rule_version: Annotated[str, Field(max_length=64)]
    ts: _Instant
    created_at: _Instant
    expires_at: _Instant

    @model_validator(mode="after")
    def _sensible(self) -> Signal:
        if self.action == "open" and self.side is None:
            raise ValueError("a signal that opens names its side")
        if self.quantity is not None and self.fraction is not None:
            raise ValueError("a signal has a quantity or a fraction, not both")
        return self

    def is_stale(self, now: int) -> bool:
        """Whether it must no longer be acted on at ``now`` (nanoseconds)."""
        return now >= self.expires_at

    def text(self) -> str:
        """The signal as the JSON that is kept and sent; the same signal gives the same text."""
        return self.model_dump_json(exclude_none=True)


def read_signal(text: str | bytes) -> Signal:
    """Read a signal from JSON.

    Raises
    ------
    DataError
        It is none; the message names the field.
    """
    try:
        return Signal.model_validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "signal"
        raise DataError(f"this is no signal: {where}: {first['msg']}", hint="signal_schema() says its form") from None


def signal_schema() -> dict[str, Any]:
    """The JSON Schema of a signal (draft 2020-12)."""
    schema = Signal.model_json_schema(mode="serialization")
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "$id": SCHEMA_ID, **schema}


def expiry(firing: Firing, rule: Rule, lifetime: int) -> int:
    """From when on a firing's signal is worthless, in nanoseconds.

    Counted from the event, not from when we found it: what is found again after a crash, or over a gap of the feed, is
    as old as it is.

    Parameters
    ----------
    lifetime:
        The bot's own, in nanoseconds; 0 is five seconds. The rule's ``signal.ttl`` goes before it.

    Examples
    --------
    >>> rule = Rule(id="r", owner="me", condition="close > 1", symbols=("A",))
    >>> late = Firing("ab" * 32, "r", "v", "me", "A", "firing", ts=10**18, detected_at=10**18 + 60 * 10**9, price=1.0)
    >>> expiry(late, rule, 0) - late.ts
    5000000000
    """
    own = rule.signal.ttl if rule.signal is not None else None
    span = int(own / timedelta(microseconds=1)) * 1_000 if own is not None else lifetime or LIFETIME
    return min(firing.ts, firing.detected_at) + span


def signal_draft(firing: Firing, rule: Rule, lifetime: int = 0) -> str:
    """What the outbox keeps of a signal: all of it but the bot, its name for the symbol and the sequence.

    A rule without ``signal`` asks the bot to hold; so does everything but a firing, except the end of a rule whose
    signal says ``close_when_resolved``.

    Examples
    --------
    >>> intent = SignalIntent(action="open", side="long")
    >>> rule = Rule(id="r", owner="me", condition="close > 1", symbols=("A",), signal=intent)
    >>> firing = Firing("ab" * 32, "r", "v", "me", "A", "firing", 10**18, 10**18, 2.5)
    >>> json.loads(signal_draft(firing, rule))["action"]
    'open'
    """
    intent = rule.signal or _HOLD
    if firing.kind == "resolved" and intent.close_when_resolved:
        intent = SignalIntent(action="close", side=intent.side)
    elif firing.kind != "firing":
        intent = _HOLD
    price = firing.price if math.isfinite(firing.price) and firing.price > 0 else None
    stop, take = intent.prices(price) if price is not None else (None, None)
    held = "; ".join(side.text for side in firing.sides if side.held) or rule.name or rule.id
    draft = {
        "id": firing.id,
        "symbol": firing.symbol,
        "action": intent.action,
        "side": intent.side,
        "quantity": intent.quantity,
        "fraction": intent.fraction,
        "price": price,
        "stop": stop,
        "take": take,
        "confidence": intent.confidence,
        "reason": shorten(" ".join(clean_text(held).split()), LONGEST_REASON),
        "rule": firing.rule,
        "rule_version": firing.rule_version,
        "ts": firing.ts,
        "created_at": firing.detected_at,
        "expires_at": expiry(firing, rule, lifetime),
    }
    kept = {name: value for name, value in draft.items() if value is not None}
    return json.dumps(kept, ensure_ascii=False, separators=(",", ":"))


def complete(draft: str, *, bot: str, sequence: int, pair: str) -> Signal:
    """A draft of the outbox as the signal of one bot.

    Raises
    ------
    DataError
        It is no draft.
    """
    try:
        known = json.loads(draft)
    except ValueError:
        known = None
    if not isinstance(known, dict):
        raise DataError("the body of a bot's delivery is no draft of a signal", hint="signal_draft() makes them")
    return read_signal(json.dumps({**known, "bot": bot, "sequence": sequence, "pair": pair}))
