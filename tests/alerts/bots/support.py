"""Bots on the loopback that implement the documented interfaces, and a store with signals in its outbox."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tapeline.alerts.bots.bot_endpoints import BotEndpoints
from tapeline.alerts.bots.bot_settings import BotSettings
from tapeline.alerts.bots.channel import BotChannel
from tapeline.alerts.bots.signal_book import SignalBook
from tapeline.alerts.delivery.manager import NotificationManager
from tapeline.alerts.delivery.messages import render
from tapeline.alerts.delivery.secret_vault import SecretVault, new_key
from tapeline.alerts.delivery.ssrf import TargetRules
from tapeline.alerts.firing import Firing, dedupe_key
from tapeline.alerts.records import Commit
from tapeline.alerts.routing import Route, Router
from tapeline.alerts.rule import Rule
from tests.alerts.delivery.support import SECOND, START, FakeClock

DROP = "drop"
"""What a handler answers when it acts and then says nothing."""
OPEN = {"action": "open", "side": "long", "quantity": 0.5, "stop_percent": 2.0, "take_percent": 4.0}


@dataclass(frozen=True)
class Asked:
    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def query(self) -> dict[str, list[str]]:
        return parse_qs(urlsplit(self.path).query)


Handle = Callable[[Asked], Any]


@contextmanager
def serving(handle: Handle) -> Iterator[str]:
    """The address of a server whose answers are ``(status, JSON)``, ``(status, JSON, headers)`` or ``DROP``."""

    class Handler(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            said = handle(Asked(self.command, self.path, dict(self.headers), body))
            if said == DROP:
                self.close_connection = True
                return
            status, data, *rest = said
            raw = json.dumps(data).encode()
            self.send_response(status)
            for name, value in (rest[0] if rest else {}).items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(raw)))
            self.end_headers()
            self.wfile.write(raw)

        do_GET = _answer  # noqa: N815 - the base class's name
        do_POST = _answer  # noqa: N815 - the base class's name
        do_PUT = _answer  # noqa: N815 - the base class's name

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/"
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)


def loopback(url: str) -> TargetRules:
    return TargetRules(http=True, ports=(urlsplit(url).port or 80,), networks=("127.0.0.0/8",))


@dataclass
class Freqtrade:
    """freqtrade's API server: tokens that run out, its refusals as 502, trades by id."""

    user: str = "tapeline"
    password: str = "correct horse"
    pairs: tuple[str, ...] = ("BTC/USDT", "ETH/USDT")
    most: int = 3
    running: bool = True
    fills: bool = True
    asked: list[Asked] = field(default_factory=list)
    trades: list[dict[str, Any]] = field(default_factory=list)
    access: set[str] = field(default_factory=set)
    refresh: set[str] = field(default_factory=set)
    faults: list[Any] = field(default_factory=list)
    made: int = 0

    def __call__(self, asked: Asked) -> Any:
        self.asked.append(asked)
        path = urlsplit(asked.path).path
        if not path.startswith("/api/v1/"):
            return 404, {"detail": "Not Found"}
        path = path.removeprefix("/api/v1")
        bearer = asked.headers.get("Authorization", "").removeprefix("Bearer ")
        if path == "/token/login":
            known = base64.b64encode(f"{self.user}:{self.password}".encode()).decode()
            if asked.headers.get("Authorization") != f"Basic {known}":
                return 401, {"detail": "Incorrect username or password"}
            return 200, {"access_token": self._token(self.access), "refresh_token": self._token(self.refresh)}
        if path == "/token/refresh":
            if bearer not in self.refresh:
                return 401, {"detail": "Could not validate credentials"}
            return 200, {"access_token": self._token(self.access)}
        if bearer not in self.access:
            return 401, {"detail": "Unauthorized"}
        fault = self.faults.pop(0) if self.faults and path in ("/forceenter", "/forceexit") else None
        if isinstance(fault, tuple):
            return fault
        answer = self._trading(path, asked)
        return fault if fault == DROP else answer

    def _trading(self, path: str, asked: Asked) -> Any:
        if path == "/status":
            return 200, [one for one in self.trades if one["is_open"]]
        if path == "/trades":
            closed = [one for one in self.trades if not one["is_open"]]
            limit, offset = int(asked.query["limit"][0]), int(asked.query.get("offset", ["0"])[0])
            found = closed[offset : offset + limit]
            return 200, {"trades": found, "trades_count": len(found), "offset": offset, "total_trades": len(closed)}
        if not self.running:
            return self._error(path, "trader is not running")
        if path == "/forceenter":
            return self._enter(path, asked.json)
        if path == "/forceexit":
            trade = next((one for one in self.trades if str(one["trade_id"]) == str(asked.json["tradeid"])), None)
            if trade is None or not trade["is_open"]:
                return self._error(path, "invalid argument")
            left = trade["amount"] - asked.json.get("amount", trade["amount"])
            trade["amount"], trade["is_open"] = left, left > 1e-9
            return 200, {"result": f"Created exit order for trade {trade['trade_id']}."}
        return 404, {"detail": "Not Found"}

    def _enter(self, path: str, wanted: dict[str, Any]) -> Any:
        if set(wanted) - {"pair", "side", "price", "ordertype", "stakeamount", "entry_tag", "leverage"}:
            return 422, {"detail": "extra"}
        if wanted["pair"] not in self.pairs:
            return self._error(path, "Symbol does not exist or market is not active.")
        if any(one["is_open"] and one["pair"] == wanted["pair"] for one in self.trades):
            return self._error(path, f"position for {wanted['pair']} already open - id: 1")
        if sum(one["is_open"] for one in self.trades) >= self.most:
            return self._error(path, "Maximum number of trades is reached.")
        rate = 60_000.0
        trade = {
            "trade_id": len(self.trades) + 1,
            "pair": wanted["pair"],
            "is_short": wanted.get("side") == "short",
            "is_open": True,
            "amount": wanted.get("stakeamount", 100.0) / rate,
            "open_rate": rate,
            "open_fill_date": "2026-05-28 20:26:40" if self.fills else None,
            "has_open_orders": not self.fills,
            "enter_tag": wanted.get("entry_tag"),
        }
        self.trades.append(trade)
        return 200, trade

    def _error(self, path: str, words: str) -> Any:
        return 502, {"error": f"Error querying /api/v1{path}: {words}"}

    def _token(self, kind: set[str]) -> str:
        self.made += 1
        kind.add(token := f"token-{self.made}")
        return token


@dataclass
class Hummingbot:
    """The Hummingbot API's executors; as the real one, it would take the same id twice."""

    user: str = "admin"
    password: str = "correct horse"
    asked: list[Asked] = field(default_factory=list)
    executors: dict[str, dict[str, Any]] = field(default_factory=dict)
    created: int = 0
    faults: list[Any] = field(default_factory=list)

    def __call__(self, asked: Asked) -> Any:
        self.asked.append(asked)
        known = base64.b64encode(f"{self.user}:{self.password}".encode()).decode()
        if asked.headers.get("Authorization") != f"Basic {known}":
            return 401, {"detail": "Incorrect username or password"}
        if asked.path == "/executors/" and asked.method == "POST":
            fault = self.faults.pop(0) if self.faults else None
            if isinstance(fault, tuple):
                return fault
            answer = self._create(asked.json)
            return DROP if fault == DROP else answer
        if asked.path == "/executors/search":
            wanted = asked.json
            found = [
                one
                for one in self.executors.values()
                if one["controller_id"] in wanted["controller_ids"]
                and one["trading_pair"] in wanted["trading_pairs"]
                and one["status"] == wanted["status"]
            ]
            return 200, {"data": found, "pagination": {"total_count": len(found)}}
        id = asked.path.split("/")[2]
        if id not in self.executors:
            return 404, {"detail": f"Executor {id} not found"}
        if asked.path.endswith("/stop"):
            self.executors[id]["status"] = "TERMINATED"
            return 200, {"executor_id": id, "status": "stopping", "keep_position": asked.json["keep_position"]}
        return 200, self.executors[id]

    def _create(self, wanted: dict[str, Any]) -> Any:
        config = wanted["executor_config"]
        if config["type"] != "position_executor" or config["side"] not in (1, 2):
            return 400, {"detail": "Invalid executor config"}
        if config["trading_pair"] != "BTC-USDT":
            return 400, {"detail": "Failed to create executor: unknown trading pair"}
        self.created += 1
        made = {
            "executor_id": config["id"],
            "executor_type": config["type"],
            "connector_name": config["connector_name"],
            "trading_pair": config["trading_pair"],
            "controller_id": wanted["controller_id"],
            "side": {1: "BUY", 2: "SELL"}[config["side"]],
            "status": "RUNNING",
            "created_at": "2026-05-28T20:26:40",
            "config": config,
        }
        self.executors[config["id"]] = made
        return 201, {name: value for name, value in made.items() if name != "config"}


def rule(**changes: Any) -> Rule:
    values = {"id": "btc-60k", "owner": "ann", "condition": "close > 60000", "symbols": ("BTCUSDT",)}
    return Rule(**{**values, "channels": ("desk",), "signal": OPEN, **changes})


def fire(number: int = 0, *, at: int = START, **changes: Any) -> Firing:
    values = {
        "dedupe_key": dedupe_key("btc-60k", "v1", "BTCUSDT", "firing", at, number),
        "rule": "btc-60k",
        "rule_version": "v1",
        "owner": "ann",
        "symbol": "BTCUSDT",
        "kind": "firing",
        "ts": at,
        "detected_at": at,
        "price": 60_000.0,
    }
    return Firing(**{**values, **changes})


@dataclass
class Desk:
    """One bot of ann's over a store, and what sends to it."""

    store: Any
    url: str
    settings: BotSettings
    credentials: dict[str, str] = field(default_factory=dict)
    clock: FakeClock = field(default_factory=FakeClock)
    id: str = "ann.desk"
    slept: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.vault = SecretVault([new_key()])
        self.rules = loopback(self.url) if self.url else TargetRules()
        self.endpoints = BotEndpoints(self.store, self.vault, rules=self.rules)
        self.endpoint, self.secret = self.endpoints.create(
            self.id, "ann", self.settings, now=START, url=self.url, credentials=self.credentials
        )
        self.book = SignalBook(self.store.database)
        routes = {("ann", "desk"): Route("desk", "bot", (self.id,), self.settings.lifetime)}
        self.router = Router(routes, render)
        self.restart()

    def restart(self) -> None:
        """As after a crash: nothing is remembered but what the store has."""
        self.channel = BotChannel(self.book, self.vault, rules=self.rules, clock=self.clock, sleep=self._sleep)
        self.manager = NotificationManager(self.store, [self.channel], clock=self.clock)

    def fire(self, number: int = 0, *, of: Rule | None = None, **changes: Any) -> Firing:
        found = fire(number, **({"at": self.clock.now} | changes))
        deliveries = self.router.deliveries(found, of or rule())
        self.store.commit(Commit((found,), deliveries=deliveries))
        return found

    def deliver(self, rounds: int = 1) -> None:
        for _ in range(rounds):
            self.manager.step("bot")

    def state(self, firing: Firing) -> str:
        return self.store.deliveries(firing.id)[0].state

    def _sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.clock.pass_(seconds)


__all__ = [
    "DROP",
    "OPEN",
    "SECOND",
    "START",
    "Asked",
    "Desk",
    "FakeClock",
    "Freqtrade",
    "Hummingbot",
    "fire",
    "loopback",
    "rule",
    "serving",
]
