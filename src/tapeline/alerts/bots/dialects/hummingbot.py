"""Hummingbot through the Hummingbot API: a position executor for each position, stopped to close it.

Of Hummingbot's ways in, this is the one that opens and closes positions by request and can be asked what it did: its
MQTT commands start and stop whole strategies, and Gateway speaks to decentralised exchanges for Hummingbot itself.

Source: ``hummingbot/hummingbot-api`` 1.0.1 (``routers/executors.py``, ``services/executor_service.py``) and
``hummingbot/strategy_v2/executors``. An executor takes the id that it is given, the signal's; the API would take the
same id twice, so an executor of that id is looked for before a try that might be a repeat.
"""

from __future__ import annotations

import base64
from decimal import Decimal
from typing import Any, Final
from urllib.parse import quote

from tapeline.alerts.bots.acknowledgement import Acknowledgement
from tapeline.alerts.bots.bot_http import BotAnswer, BotHttp
from tapeline.alerts.bots.dialects.dialect import Bot, Reply, rejected, said_no
from tapeline.alerts.bots.signal import Signal
from tapeline.core.errors import ConfigurationError

# The values of Hummingbot's TradeType and OrderType.
_SIDE: Final = {"long": 1, "short": 2}
_MARKET: Final = 1
_PAGE: Final = 100


class HummingbotDialect:
    """A position executor with the signal's stop and target as its barriers.

    Its controller is called like our bot, so that closing finds only what our signals opened.
    """

    recognises = True

    def check(self, bot: Bot) -> None:
        """It needs a user and a password."""
        _basic(bot)

    def send(self, signal: Signal, body: bytes, bot: Bot, http: BotHttp, *, now: int, repeat: bool) -> Reply:
        """Create an executor, or stop those of the pair."""
        if signal.action == "open":
            return self._open(signal, bot, http, repeat)
        return self._close(signal, bot, http)

    def _open(self, signal: Signal, bot: Bot, http: BotHttp, repeat: bool) -> Reply:
        quantity = signal.quantity or bot.settings.quantity
        if quantity is None or signal.fraction is not None:
            return rejected("an executor needs its amount: let the signal or the bot have a quantity, and no fraction")
        if repeat:
            known = http.ask("GET", f"/executors/{quote(signal.id, safe='')}", None, _basic(bot))
            if known.good:
                return _created(signal.id, known.status)
            if known.status != 404:
                return Reply("retry", known.status, "whether it was created before cannot be found out now")
        barriers: dict[str, Any] = {"open_order_type": _MARKET}
        if signal.price is not None and signal.stop is not None:
            barriers["stop_loss"] = _part(signal.stop, signal.price)
        if signal.price is not None and signal.take is not None:
            barriers["take_profit"] = _part(signal.take, signal.price)
        config: dict[str, Any] = {
            "type": "position_executor",
            "id": signal.id,
            "controller_id": bot.id,
            "connector_name": bot.settings.connector,
            "trading_pair": signal.pair,
            "side": _SIDE[signal.side or "long"],
            "amount": _decimal(quantity),
            "triple_barrier_config": barriers,
        }
        if bot.settings.leverage is not None:
            config["leverage"] = bot.settings.leverage
        payload: dict[str, Any] = {"controller_id": bot.id, "executor_config": config}
        if bot.settings.account is not None:
            payload["account_name"] = bot.settings.account
        answer = http.ask("POST", "/executors/", payload, _basic(bot))
        if answer.good and isinstance(answer.data, dict) and "executor_id" in answer.data:
            return _created(str(answer.data["executor_id"]), answer.status)
        return _refusal(answer)

    def _close(self, signal: Signal, bot: Bot, http: BotHttp) -> Reply:
        if signal.quantity is not None or (signal.fraction is not None and signal.fraction < 1):
            return rejected("an executor closes its whole position: let the signal have no quantity")
        wanted = {"controller_ids": [bot.id], "trading_pairs": [signal.pair], "status": "RUNNING", "limit": _PAGE}
        answer = http.ask("POST", "/executors/search", wanted, _basic(bot))
        if not answer.good or not isinstance(answer.data, dict):
            return _refusal(answer)
        found = [one for one in answer.data.get("data", []) if isinstance(one, dict) and _fits(one, signal)]
        stopped = []
        for one in found:
            id = str(one.get("executor_id"))
            path = f"/executors/{quote(id, safe='')}/stop"
            answer = http.ask("POST", path, {"keep_position": False}, _basic(bot))
            # 400 and 404: it closed by itself meanwhile.
            if not answer.good and answer.status not in (400, 404):
                return _refusal(answer)
            stopped.append(id)
        if not stopped:
            return Reply(
                "sent", 200, "nothing was open", acknowledgement=Acknowledgement("executed", note="nothing open")
            )
        said = f"executor {', '.join(stopped)} stopped"
        return Reply("sent", 200, said, acknowledgement=Acknowledgement("accepted", note=said))


def _created(id: str, status: int) -> Reply:
    return Reply("sent", status, f"executor {id}", acknowledgement=Acknowledgement("accepted", note=f"executor {id}"))


def _fits(executor: dict[str, Any], signal: Signal) -> bool:
    if executor.get("trading_pair") != signal.pair:
        return False
    side = str(executor.get("side", "")).upper()
    return signal.side is None or side in (("BUY", "1") if signal.side == "long" else ("SELL", "2"))


def _refusal(answer: BotAnswer) -> Reply:
    words = answer.excerpt
    if isinstance(answer.data, dict) and isinstance(answer.data.get("detail"), str):
        words = " ".join(answer.data["detail"].split())[:200]
    if answer.status in (400, 404, 422):
        return rejected(f"HTTP {answer.status}: {words}", answer.status)
    if answer.status in (401, 403):
        return Reply("refused", answer.status, f"HTTP {answer.status}: user or password is wrong")
    return said_no(answer, words)


def _part(level: float, price: float) -> str:
    """The distance of a level as a part of the price, as barriers are written."""
    return _decimal(abs(level - price) / price)


def _decimal(value: float) -> str:
    return format(Decimal(f"{value:.12g}"), "f")


def _basic(bot: Bot) -> dict[str, str]:
    user, password = bot.credentials.get("username"), bot.credentials.get("password")
    if not user or not password or ":" in user:
        raise ConfigurationError("a hummingbot needs the credentials username and password of its API")
    return {"Authorization": f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}"}
