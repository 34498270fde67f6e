"""freqtrade through its REST API: a token by login, ``forceenter`` and ``forceexit``.

Source: freqtrade's documentation (REST API, webhook configuration) and ``freqtrade/rpc/api_server`` of version 2024.10.
An entry carries the signal's id as its ``entry_tag``, by which an entry that was answered by silence is found again.
freqtrade answers every refusal of its own with 502 and ``{"error": "Error querying ..."}``.
"""

from __future__ import annotations

import base64
import threading
from collections.abc import Mapping
from typing import Any, Final

from tapeline.alerts.bots.acknowledgement import Acknowledgement
from tapeline.alerts.bots.bot_http import BotAnswer, BotHttp
from tapeline.alerts.bots.dialects.dialect import Bot, Reply, rejected, said_no
from tapeline.alerts.bots.dialects.generic import number
from tapeline.alerts.bots.signal import Signal
from tapeline.core.errors import ConfigurationError

API: Final = "/api/v1"
CLOSED_LOOKED_AT: Final = 50
_OWN_ERROR: Final = "Error querying "
_LATER: Final = ("trader is not running",)


class FreqtradeDialect:
    """``force_entry_enable`` must be true in freqtrade's configuration, and ``api_server`` enabled.

    Stop and target are the strategy's own: the API takes none. A quantity becomes a stake at the signal's price; a
    fraction of an account cannot be said.
    """

    recognises = True

    def __init__(self) -> None:
        self._tokens: dict[str, tuple[str, str]] = {}
        self._lock = threading.Lock()

    def check(self, bot: Bot) -> None:
        """It needs a user and a password."""
        _user(bot)

    def send(self, signal: Signal, body: bytes, bot: Bot, http: BotHttp, *, now: int, repeat: bool) -> Reply:
        """Enter or exit at the market."""
        if signal.action == "open":
            return self._open(signal, bot, http, repeat)
        return self._close(signal, bot, http, repeat)

    def _open(self, signal: Signal, bot: Bot, http: BotHttp, repeat: bool) -> Reply:
        if signal.fraction is not None:
            return rejected("freqtrade takes no fraction of an account: let the signal have a quantity or none")
        if repeat:
            known = self._entered(signal, bot, http)
            if isinstance(known, Reply):
                return known
        payload: dict[str, Any] = {"pair": signal.pair, "side": signal.side, "entry_tag": signal.id}
        quantity = signal.quantity or bot.settings.quantity
        if quantity is not None:
            if signal.price is None:
                return rejected("freqtrade is told a stake, and the signal has no price to make one of its quantity")
            payload["stakeamount"] = quantity * signal.price
        if bot.settings.leverage is not None:
            payload["leverage"] = bot.settings.leverage
        answer = self._ask(bot, http, "POST", "/forceenter", payload)
        if not answer.good:
            return _refusal(answer)
        if not isinstance(answer.data, dict) or "trade_id" not in answer.data:
            return rejected(f"freqtrade did not enter: {_words(answer)}", answer.status)
        return _trade(answer.data, answer.status)

    def _close(self, signal: Signal, bot: Bot, http: BotHttp, repeat: bool) -> Reply:
        partial = signal.quantity is not None or (signal.fraction is not None and signal.fraction < 1)
        if partial and repeat:
            return Reply("refused", detail="a part may have been closed before: it is not closed again")
        answer = self._ask(bot, http, "GET", "/status")
        if not answer.good or not isinstance(answer.data, list):
            return _refusal(answer) if not answer.good else Reply("retry", answer.status, "no list of open trades")
        trades = [one for one in answer.data if isinstance(one, dict) and _fits(one, signal)]
        left = signal.quantity
        closed = []
        for trade in trades:
            payload: dict[str, Any] = {"tradeid": str(trade["trade_id"])}
            held = number(trade.get("amount")) or 0.0
            if left is not None:
                if left <= 0:
                    break
                payload["amount"] = min(left, held)
                left -= held
            elif partial:
                payload["amount"] = held * (signal.fraction or 1.0)
            answer = self._ask(bot, http, "POST", "/forceexit", payload)
            if not answer.good:
                # What was closed stays closed; a repeat finds only the rest.
                return _refusal(answer)
            closed.append(str(trade["trade_id"]))
        if not closed:
            return Reply(
                "sent", 200, "nothing was open", acknowledgement=Acknowledgement("executed", note="nothing open")
            )
        said = f"exit of trade {', '.join(closed)}"
        return Reply("sent", 200, said, acknowledgement=Acknowledgement("accepted", note=said))

    def _entered(self, signal: Signal, bot: Bot, http: BotHttp) -> Reply | None:
        """The reply where an earlier try did enter, or where that cannot be found out now; None where it did not."""
        answer = self._ask(bot, http, "GET", "/status")
        if not answer.good or not isinstance(answer.data, list):
            return Reply("retry", answer.status, "whether it was entered before cannot be found out now")
        found = list(answer.data)
        count = self._ask(bot, http, "GET", "/trades?limit=1")
        total = count.data.get("total_trades", 0) if count.good and isinstance(count.data, dict) else None
        if not isinstance(total, int):
            return Reply("retry", count.status, "whether it was entered before cannot be found out now")
        if total:
            offset = max(total - CLOSED_LOOKED_AT, 0)
            closed = self._ask(bot, http, "GET", f"/trades?limit={CLOSED_LOOKED_AT}&offset={offset}")
            if not closed.good or not isinstance(closed.data, dict):
                return Reply("retry", closed.status, "whether it was entered before cannot be found out now")
            found += closed.data.get("trades", [])
        for trade in found:
            if isinstance(trade, dict) and trade.get("enter_tag") == signal.id:
                return _trade(trade, 200)
        return None

    def _ask(self, bot: Bot, http: BotHttp, method: str, path: str, body: object = None) -> BotAnswer:
        """One request under a valid token: renewed where it has run out, made anew where it cannot be renewed."""
        with self._lock:
            known = self._tokens.get(bot.id)
        held = known or self._login(bot, http)
        if isinstance(held, BotAnswer):
            return held
        answer = http.ask(method, API + path, body, _bearer(held[0]))
        if answer.status != 401:
            return answer
        renewed = http.ask("POST", f"{API}/token/refresh", None, _bearer(held[1]))
        access = renewed.data.get("access_token") if renewed.good and isinstance(renewed.data, dict) else None
        again: tuple[str, str] | BotAnswer
        if isinstance(access, str):
            again = (access, held[1])
            self._keep(bot, again)
        else:
            again = self._login(bot, http)
            if isinstance(again, BotAnswer):
                return again
        return http.ask(method, API + path, body, _bearer(again[0]))

    def _login(self, bot: Bot, http: BotHttp) -> tuple[str, str] | BotAnswer:
        user, password = _user(bot)
        basic = base64.b64encode(f"{user}:{password}".encode()).decode()
        answer = http.ask("POST", f"{API}/token/login", None, {"Authorization": f"Basic {basic}"})
        data = answer.data if answer.good and isinstance(answer.data, dict) else {}
        access, refresh = data.get("access_token"), data.get("refresh_token")
        if not isinstance(access, str) or not isinstance(refresh, str):
            with self._lock:
                self._tokens.pop(bot.id, None)
            return answer if not answer.good else BotAnswer(502, None, "the login answered no token")
        self._keep(bot, (access, refresh))
        return access, refresh

    def _keep(self, bot: Bot, tokens: tuple[str, str]) -> None:
        with self._lock:
            self._tokens[bot.id] = tokens


def read_fill(message: Mapping[str, Any]) -> tuple[str, Acknowledgement] | None:
    """What freqtrade's own webhook says of an entry: the signal's id and its acknowledgement; None for all else.

    freqtrade sends what its configuration asks for; this reads ``{"type": "entry_fill", "enter_tag": "{enter_tag}",
    "trade_id": "{trade_id}", "open_rate": "{open_rate}", "amount": "{amount}"}`` and the same with ``entry_cancel``.

    Examples
    --------
    >>> read_fill({"type": "entry_fill", "enter_tag": "evt_1", "trade_id": "7", "open_rate": "100.5", "amount": "2"})
    ('evt_1', Acknowledgement(state='executed', fill_price=100.5, fill_quantity=2.0, note='trade 7'))
    """
    tag = message.get("enter_tag")
    if not isinstance(tag, str) or not tag:
        return None
    note = f"trade {str(message.get('trade_id', '?'))[:20]}"
    if message.get("type") == "entry_fill":
        return tag, Acknowledgement("executed", number(message.get("open_rate")), number(message.get("amount")), note)
    if message.get("type") == "entry_cancel":
        return tag, Acknowledgement("rejected", note=f"{note} was cancelled")
    return None


def _fits(trade: Mapping[str, Any], signal: Signal) -> bool:
    if trade.get("pair") != signal.pair or "trade_id" not in trade:
        return False
    return signal.side is None or bool(trade.get("is_short")) == (signal.side == "short")


def _trade(trade: Mapping[str, Any], status: int) -> Reply:
    note = f"trade {trade.get('trade_id')}"
    filled = trade.get("open_fill_date") or trade.get("open_fill_timestamp")
    if filled and not trade.get("has_open_orders"):
        fill = Acknowledgement("executed", number(trade.get("open_rate")), number(trade.get("amount")), note)
        return Reply("sent", status, note, acknowledgement=fill)
    return Reply("sent", status, note, acknowledgement=Acknowledgement("accepted", note=note))


def _refusal(answer: BotAnswer) -> Reply:
    words = _words(answer)
    if answer.status == 502 and words.startswith(_OWN_ERROR):
        if any(one in words for one in _LATER):
            return Reply("retry", 502, words)
        return rejected(words, 502)
    if answer.status == 422:
        return rejected(f"HTTP 422: {answer.excerpt}", 422)
    if answer.status in (401, 403):
        return Reply("refused", answer.status, f"HTTP {answer.status}: user or password is wrong")
    return said_no(answer)


def _words(answer: BotAnswer) -> str:
    if isinstance(answer.data, dict):
        said = answer.data.get("error") or answer.data.get("status") or answer.data.get("detail")
        if isinstance(said, str):
            return " ".join(said.split())[:200]
    return answer.excerpt


def _bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def _user(bot: Bot) -> tuple[str, str]:
    user, password = bot.credentials.get("username"), bot.credentials.get("password")
    if not user or not password or ":" in user:
        raise ConfigurationError("a freqtrade bot needs the credentials username and password of its api_server")
    return user, password
