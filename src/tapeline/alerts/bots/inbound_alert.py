"""An alert that came in from TradingView, read with distrust: nobody signed it.

The message of an alert there is ours to write; this form, pasted into it, is what is taken:

    {"strategy": "macd", "order_id": "{{strategy.order.id}}", "time": "{{timenow}}",
     "ticker": "{{exchange}}:{{ticker}}", "action": "{{strategy.order.action}}",
     "position": "{{strategy.market_position}}", "contracts": "{{strategy.order.contracts}}",
     "price": "{{close}}", "interval": "{{interval}}"}

Source: TradingView's help centre, "How to configure webhook alerts" and "How to use a variable value in alert".
"""

from __future__ import annotations

import hashlib
import json
import math
from datetime import datetime
from typing import Annotated, Any, Final, Literal

from pydantic import AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from tapeline.alerts.rule import Line, Name
from tapeline.alerts.signal_intent import Said, SignalIntent
from tapeline.core.errors import DataError

LARGEST_BODY: Final = 8 << 10
LONGEST_MESSAGE: Final = 500
RULE: Final = "tradingview:"
VERSION: Final = "1"
"""Of the rule under which an alert is told; a rule that somebody wrote has a longer one, whatever its id is."""
_EPOCH: Final = datetime.fromisoformat("1970-01-01T00:00:00+00:00")


def _number(value: Any) -> Any:
    """A number that stands between quotes, as placeholders are written; nothing else is converted."""
    if isinstance(value, str):
        if len(value) > 40 or not value.isascii() or "_" in value:
            raise ValueError("is no number")
        value = float(value)
    if isinstance(value, bool) or (isinstance(value, float) and not math.isfinite(value)):
        raise ValueError("is no finite number")
    return value


def _nothing(value: Any) -> Any:
    return None if value == "" else value


_Number = Annotated[float, BeforeValidator(_number), Field(ge=0, le=1e15)]


class InboundAlert(BaseModel):
    """One alert.

    Parameters
    ----------
    strategy:
        What people call the strategy or the condition.
    time:
        When it was sent (``{{timenow}}``), with its time zone.
    ticker:
        The instrument as TradingView names it.
    order_id:
        The strategy's order; with strategy and time it makes the alert the same one if it comes again.
    action, position:
        What was ordered, and what is held afterwards, which decides where it is given.
    contracts, price:
        How much, and the newest price.
    interval, message:
        For people.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    strategy: Name
    time: AwareDatetime
    ticker: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.:!/-]{0,63}$")]
    order_id: Annotated[Line | None, BeforeValidator(_nothing)] = None
    action: Annotated[Literal["buy", "sell", "close"] | None, BeforeValidator(_nothing)] = None
    position: Annotated[Literal["long", "short", "flat"] | None, BeforeValidator(_nothing)] = None
    contracts: _Number | None = None
    price: _Number | None = None
    interval: Annotated[str, Field(max_length=10, pattern=r"^[0-9A-Za-z]*$")] = ""
    message: Annotated[str, Field(max_length=LONGEST_MESSAGE)] = ""

    @model_validator(mode="before")
    @classmethod
    def _time_is_text(cls, data: Any) -> Any:
        if isinstance(data, dict) and not isinstance(data.get("time"), str):
            raise ValueError("time is a text such as 2026-01-01T00:00:00Z")
        return data

    @property
    def ts(self) -> int:
        """Its time in nanoseconds since 1970."""
        span = self.time - _EPOCH
        return (span.days * 86_400 + span.seconds) * 1_000_000_000 + span.microseconds * 1_000

    @property
    def said(self) -> Said | None:
        """What it says: ``close`` where nothing is held afterwards, else its action."""
        return said_by(self.action, self.position)

    @property
    def intent(self) -> SignalIntent:
        """What a bot is to do: by the position that is held afterwards, or else by the order.

        Examples
        --------
        >>> body = b'{"strategy": "s", "time": "2026-01-01T00:00:00Z", "ticker": "A", "action": "sell"'
        >>> read_alert(body + b', "position": "flat"}').intent.action
        'close'
        """
        quantity = self.contracts or None
        if self.position == "flat" or (self.position is None and self.action == "close"):
            return SignalIntent(action="close")
        if self.position is None and self.action is None:
            return SignalIntent(action="hold")
        side = self.position or ("long" if self.action == "buy" else "short")
        return SignalIntent(action="open", side="short" if side == "short" else "long", quantity=quantity)


def read_alert(body: bytes) -> InboundAlert:
    """Read the body of a request.

    Raises
    ------
    DataError
        It is too large, no JSON object (twice the same name, NaN, infinity and deep nesting are none), or a field is
        wrong or unknown. The message quotes nothing of it.

    Examples
    --------
    >>> read_alert(b'{"strategy": "s", "strategy": "t"}')
    Traceback (most recent call last):
    ...
    tapeline.core.errors.DataError: the alert cannot be read: the name 'strategy' stands there twice
    """
    if len(body) > LARGEST_BODY:
        raise DataError(f"an alert of {len(body)} bytes is larger than {LARGEST_BODY}")
    try:
        data = json.loads(body.decode("utf-8"), object_pairs_hook=_once, parse_constant=_constant)
    except RecursionError:
        raise DataError("the alert cannot be read: it is nested too deeply") from None
    except ValueError as error:
        reason = str(error) if isinstance(error, _UnreadableError) else "it is no JSON"
        raise DataError(f"the alert cannot be read: {reason}") from None
    try:
        return InboundAlert.model_validate(data)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "alert"
        told = where if where in InboundAlert.model_fields else "alert"
        raise DataError(f"the alert cannot be read: {told}: {first['msg']}") from None


def said_by(action: str | None, position: str | None) -> Said | None:
    """What an action and the position afterwards come to.

    Examples
    --------
    >>> said_by("sell", "flat"), said_by("sell", None), said_by(None, "long")
    ('close', 'sell', None)
    """
    if position == "flat" or action == "close":
        return "close"
    return "buy" if action == "buy" else "sell" if action == "sell" else None


def alert_id(owner: str, source: str, alert: InboundAlert, body: bytes) -> str:
    """What an alert is recognised by: its strategy, order and time, or where it names no order, all of it."""
    if alert.order_id is not None:
        parts: tuple[str, ...] = (owner, source, "order", alert.strategy, alert.order_id, str(alert.ts))
    else:
        parts = (owner, source, "body", hashlib.sha256(body).hexdigest())
    return hashlib.sha256("\x1f".join(parts).encode()).hexdigest()


class _UnreadableError(ValueError):
    """What stands there is JSON to Python and not to us."""


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise _UnreadableError(f"the name {name[:40]!r} stands there twice")
        found[name] = value
    return found


def _constant(name: str) -> Any:
    raise _UnreadableError(f"{name} is no number")
