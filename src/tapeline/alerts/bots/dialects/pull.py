"""A bot that asks for its signals itself: nothing is sent to it."""

from __future__ import annotations

from tapeline.alerts.bots.bot_http import BotHttp
from tapeline.alerts.bots.dialects.dialect import Bot, Reply
from tapeline.alerts.bots.signal import Signal


class PullDialect:
    """Signals wait in the book until the bot asks for them, see ``GET /v1/signals``."""

    recognises = True

    def check(self, bot: Bot) -> None:
        """Nothing can be wrong: there is no address and no secret."""

    def send(self, signal: Signal, body: bytes, bot: Bot, http: BotHttp, *, now: int, repeat: bool) -> Reply:
        """It is there to be asked for."""
        return Reply("sent", detail="waits to be asked for")
