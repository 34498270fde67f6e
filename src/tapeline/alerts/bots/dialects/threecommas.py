"""3Commas' webhooks, and those of bots that copy them: a DCA bot's message, or a signal bot's.

Sources: 3Commas' help centre, "Signal bot: JSON file in Custom signal type" and "... for Strategy type"; the message of
DCA bots as 3Commas makes it for TradingView. Neither can be asked what became of a message, and neither recognises a
repeat: a message that may have arrived is not sent again.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final

from tapeline.alerts.bots.acknowledgement import Acknowledgement
from tapeline.alerts.bots.bot_http import BotHttp
from tapeline.alerts.bots.dialects.dialect import Bot, Reply, rejected, said_no
from tapeline.alerts.bots.signal import Signal
from tapeline.core.errors import ConfigurationError

_UUID: Final = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_ACTIONS: Final = {
    ("open", "long"): "enter_long",
    ("close", "long"): "exit_long",
    ("open", "short"): "enter_short",
    ("close", "short"): "exit_short",
}


class ThreeCommasDialect:
    """A numeric ``bot_id`` is a DCA bot, a UUID a signal bot.

    A DCA bot has its direction and its sizes, so a signal with a quantity, or of another side than the bot's, is
    rejected. A signal bot is told how old the signal may be (``max_lag``), so it refuses stale ones by itself too.
    """

    recognises = False

    def check(self, bot: Bot) -> None:
        """A DCA bot needs its ``email_token``; a signal bot its ``secret`` and TradingView's name of the exchange."""
        settings = bot.settings
        if _UUID.fullmatch(settings.bot_id or ""):
            if not bot.credentials.get("secret") or settings.exchange is None:
                raise ConfigurationError("a 3Commas signal bot needs the credential secret, and its exchange")
        elif (settings.bot_id or "").isdecimal():
            if not bot.credentials.get("email_token") or settings.side is None:
                raise ConfigurationError("a 3Commas DCA bot needs the credential email_token, and its side")
        else:
            raise ConfigurationError("bot_id is neither the number of a DCA bot nor the UUID of a signal bot")

    def send(self, signal: Signal, body: bytes, bot: Bot, http: BotHttp, *, now: int, repeat: bool) -> Reply:
        """Post one message."""
        if repeat:
            return Reply("refused", detail="it may have arrived before, and 3Commas does not recognise a repeat")
        dca = (bot.settings.bot_id or "").isdecimal()
        message = _dca(signal, bot) if dca else _signal_bot(signal, bot, now)
        if isinstance(message, str):
            return rejected(message)
        answer = http.ask("POST", "", message)
        if not answer.good:
            if answer.status in (400, 404, 422):
                return rejected(f"HTTP {answer.status}: {answer.excerpt}", answer.status)
            return said_no(answer)
        if isinstance(answer.data, dict) and (answer.data.get("error") or answer.data.get("errors")):
            return rejected(f"HTTP {answer.status}: {answer.excerpt}", answer.status)
        note = "3Commas took the message; it does not say what it did"
        return Reply("sent", answer.status, note, acknowledgement=Acknowledgement("accepted", note=note))


def _dca(signal: Signal, bot: Bot) -> dict[str, Any] | str:
    if signal.quantity is not None or (signal.fraction is not None and signal.fraction < 1):
        return "a DCA bot trades its own sizes: let the signal have no quantity"
    if signal.side is not None and signal.side != bot.settings.side:
        return f"the bot trades {bot.settings.side}, the signal is {signal.side}"
    message: dict[str, Any] = {
        "message_type": "bot",
        "bot_id": int(bot.settings.bot_id or 0),
        "email_token": bot.credentials["email_token"],
        "delay_seconds": 0,
        "pair": signal.pair,
    }
    if signal.action == "close":
        message["action"] = "close_at_market_price"
    return message


def _signal_bot(signal: Signal, bot: Bot, now: int) -> dict[str, Any] | str:
    side = signal.side or bot.settings.side
    if side is None:
        return "a signal bot is told which side to close: let the signal or the bot have a side"
    lag = max((signal.expires_at - signal.ts) // 1_000_000_000, 1)
    message: dict[str, Any] = {
        "secret": bot.credentials["secret"],
        "max_lag": str(lag),
        "timestamp": f"{datetime.fromtimestamp(signal.ts // 1_000_000_000, UTC):%Y-%m-%dT%H:%M:%SZ}",
        "tv_exchange": bot.settings.exchange,
        "tv_instrument": signal.pair,
        "action": _ACTIONS[(signal.action, side)],
        "bot_uuid": bot.settings.bot_id,
    }
    if signal.price is not None:
        message["trigger_price"] = _plain(signal.price)
    quantity = signal.quantity or (bot.settings.quantity if signal.action == "open" else None)
    if quantity is not None:
        message["order"] = {"amount": _plain(quantity), "currency_type": "base"}
    elif signal.fraction is not None and signal.action == "open":
        message["order"] = {"amount": _plain(100 * signal.fraction), "currency_type": "margin_percent"}
    elif signal.fraction is not None and signal.fraction < 1:
        return "a signal bot closes a quantity or everything, not a fraction"
    return message


def _plain(value: float) -> str:
    return format(Decimal(f"{value:.12g}"), "f")
