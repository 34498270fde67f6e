"""Any bot that takes a signed POST: the signal's own JSON by the Standard Webhooks specification."""

from __future__ import annotations

import math
from typing import Any, Final

from tapeline.alerts.bots.acknowledgement import LONGEST_NOTE, Acknowledgement
from tapeline.alerts.bots.bot_http import BotHttp
from tapeline.alerts.bots.dialects.dialect import Bot, Reply, rejected, said_no
from tapeline.alerts.bots.signal import Signal
from tapeline.alerts.delivery.signing import secret_bytes, sign
from tapeline.core.errors import ConfigurationError

_SAID: Final = ("accepted", "executed", "rejected")


class GenericDialect:
    """``webhook-id`` is the signal's id on every try, by which the bot recognises a repeat.

    An answer of 2xx takes the signal; its JSON may acknowledge it at once: ``{"state": "executed", "price": 60001.5,
    "quantity": 0.1, "note": "order 17"}``. 409 and 422 reject it, 410 switches the bot off.
    """

    recognises = True

    def check(self, bot: Bot) -> None:
        """It needs a secret to sign with."""
        if not bot.secrets:
            raise ConfigurationError("a generic bot needs a secret to sign signals with")
        for secret in bot.secrets:
            secret_bytes(secret)

    def send(self, signal: Signal, body: bytes, bot: Bot, http: BotHttp, *, now: int, repeat: bool) -> Reply:
        """Sign and post it."""
        answer = http.ask("POST", "", body, sign(bot.secrets, signal.id, now // 1_000_000_000, body))
        if answer.good:
            return Reply("sent", answer.status, f"HTTP {answer.status}", acknowledgement=read_answer(answer.data))
        if answer.status == 410:
            return Reply("gone", 410, "HTTP 410")
        if answer.status in (409, 422):
            return rejected(f"HTTP {answer.status}: {answer.excerpt}", answer.status)
        return said_no(answer)


def read_answer(data: Any) -> Acknowledgement | None:
    """The acknowledgement in a bot's answer; None where there is none that can be read.

    Examples
    --------
    >>> read_answer({"state": "executed", "price": 60001.5, "quantity": -1})
    Acknowledgement(state='executed', fill_price=60001.5, fill_quantity=None, note='')
    """
    if not isinstance(data, dict) or data.get("state") not in _SAID:
        return None
    note = data.get("note")
    return Acknowledgement(
        data["state"],
        number(data.get("price")),
        number(data.get("quantity")),
        " ".join(note.split())[:LONGEST_NOTE] if isinstance(note, str) else "",
    )


def number(value: Any) -> float | None:
    """A positive finite number, also as a text; None for everything else.

    Examples
    --------
    >>> number("60001.5"), number(True), number("NaN"), number(-1.0)
    (60001.5, None, None, None)
    """
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        found = float(value)
    except (ValueError, OverflowError):
        return None
    return found if math.isfinite(found) and found > 0 else None
