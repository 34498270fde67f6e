"""What it takes a trading bot to hear of a firing, and TradingView to be answered.

Signals: firings are committed one by one, as the engine does, and a generic bot on the loopback notes when each
arrives; the time is from before the commit to the arrival, over SQLite with every commit flushed. Inbound: alerts are
posted over HTTP to the API in a process of its own, at a steady rate; the time is from the request's leaving to its
answer, which follows the flush. Wall times contain what else the machine does: load and CPU pressure stand beside them.
"""

from __future__ import annotations

import http.client
import json
import os
import secrets
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np

from benchmarks.bench_alert_service import pressure
from benchmarks.harness import report
from tapeline.alerts.bots.bot_endpoints import BotEndpoints
from tapeline.alerts.bots.bot_settings import BotSettings
from tapeline.alerts.bots.channel import BotChannel
from tapeline.alerts.bots.inbound_tokens import InboundSettings, InboundTokens
from tapeline.alerts.bots.signal import read_signal
from tapeline.alerts.bots.signal_book import SignalBook
from tapeline.alerts.delivery.manager import NotificationManager
from tapeline.alerts.delivery.messages import render
from tapeline.alerts.delivery.secret_vault import SecretVault, new_key
from tapeline.alerts.delivery.ssrf import TargetRules
from tapeline.alerts.firing import Firing, dedupe_key
from tapeline.alerts.records import Commit
from tapeline.alerts.routing import Route, Router
from tapeline.alerts.rule import Rule
from tapeline.alerts.store.opening import open_store

SIGNALS = int(os.environ.get("TAPELINE_BENCH_SIGNALS", "150"))
ALERTS = int(os.environ.get("TAPELINE_BENCH_ALERTS", "600"))
RATE = 60
CLIENTS = 8
_SERVER = """
import sys, time, json, uvicorn
from pathlib import Path
from tapeline.alerts.access.access_control import AccessControl, AccessSettings
from tapeline.alerts.delivery.secret_vault import SecretVault, new_key
from tapeline.alerts.limits.local import LocalLimiter
from tapeline.alerts.store.opening import open_store
from tapeline.core.settings import Settings
from tapeline.gateway.app import create_app
from tapeline.gateway.context import GatewayContext
import secrets
store = open_store(Path(sys.argv[1]))
settings = Settings(alerts={"gateway": {"requests_per_minute": 100000}})
access = AccessControl(store.database, AccessSettings((secrets.token_hex(32),)))
app = create_app(GatewayContext(store, access, settings, LocalLimiter(), SecretVault([new_key()])))
uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[2]), log_level="error", access_log=False)
"""


@contextmanager
def receiver(arrived: dict[str, float]) -> Iterator[str]:
    """A bot that notes when each signal came."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            arrived[read_signal(body).id] = time.perf_counter()
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/"
    finally:
        server.shutdown()
        server.server_close()


def signals(folder: Path) -> tuple[np.ndarray, float]:
    """Milliseconds from each firing to its arrival, and CPU milliseconds a signal."""
    store, arrived, left = open_store(folder / "signals.db"), {}, {}
    intent = {"action": "open", "side": "long", "quantity": 1.0}
    rule = Rule(id="r", owner="me", condition="close > 1", symbols=("BTCUSDT",), channels=("desk",), signal=intent)
    with receiver(arrived) as url:
        vault = SecretVault([new_key()])
        target = TargetRules(http=True, ports=(int(url.split(":")[2].strip("/")),), networks=("127.0.0.0/8",))
        BotEndpoints(store, vault, rules=target).create("me.desk", "me", BotSettings(name="desk"), now=1, url=url)
        router = Router({("me", "desk"): Route("desk", "bot", ("me.desk",))}, render)
        manager = NotificationManager(store, [BotChannel(SignalBook(store.database), vault, rules=target)])
        manager.start()
        used = time.process_time()
        for number in range(SIGNALS):
            now = time.time_ns()
            key = dedupe_key("r", "v", "BTCUSDT", "firing", now, number)
            firing = Firing(key, "r", "v", "me", "BTCUSDT", "firing", now, now, 60_000.0)
            left[firing.id] = time.perf_counter()
            store.commit(Commit((firing,), deliveries=router.deliveries(firing, rule)))
            manager.wake()
            time.sleep(0.1)
        until = time.monotonic() + 10
        while len(arrived) < SIGNALS and time.monotonic() < until:
            time.sleep(0.05)
        used = time.process_time() - used
        manager.stop()
    store.close()
    if len(arrived) < SIGNALS:
        raise SystemExit(f"{SIGNALS - len(arrived)} signals did not arrive")
    return np.array([1e3 * (arrived[id] - left[id]) for id in left]), 1e3 * used / SIGNALS


def inbound(folder: Path) -> np.ndarray:
    """Milliseconds from each alert's leaving to its answer."""
    path = folder / "inbound.db"
    store = open_store(path)
    tokens = [
        InboundTokens(store.database).create("me", f"s{n}", InboundSettings(), now=time.time_ns())
        for n in range(CLIENTS * 2)
    ]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = subprocess.Popen([sys.executable, "-c", _SERVER, str(path), str(port)])
    try:
        _until_up(port)
        local = threading.local()

        def post(number: int) -> float:
            if not hasattr(local, "connection"):
                local.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
            said = {
                "strategy": "s",
                "order_id": f"{number}-{secrets.token_hex(4)}",
                "time": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}",
                "ticker": "BINANCE:BTCUSDT",
                "action": "buy",
                "price": "60001.5",
            }
            begun = time.perf_counter()
            address = f"/v1/inbound/tradingview/{tokens[number % len(tokens)]}"
            local.connection.request("POST", address, json.dumps(said), {"Content-Type": "text/plain"})
            answer = local.connection.getresponse()
            answer.read()
            if answer.status != 202:
                raise SystemExit(f"an alert was answered {answer.status}")
            return 1e3 * (time.perf_counter() - begun)

        with ThreadPoolExecutor(CLIENTS) as pool:
            list(pool.map(post, range(CLIENTS * 4)))
            begun, waiting = time.perf_counter(), []
            for number in range(ALERTS):
                time.sleep(max(begun + number / RATE - time.perf_counter(), 0))
                waiting.append(pool.submit(post, CLIENTS * 4 + number))
            found = np.array([one.result() for one in waiting])
    finally:
        server.terminate()
        server.wait(20)
    kept = store.database.read(lambda db: db.exec_driver_sql("SELECT count(*) FROM alert_inbound").scalar())
    store.close()
    if kept != ALERTS + CLIENTS * 4:
        raise SystemExit(f"{kept} alerts are kept, not {ALERTS + CLIENTS * 4}")
    return found


def _until_up(port: int) -> None:
    until = time.monotonic() + 60
    while True:
        try:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
            connection.request("GET", "/healthz")
            if connection.getresponse().status == 200:
                return
        except OSError:
            if time.monotonic() > until:
                raise SystemExit("the API did not start") from None
        time.sleep(0.1)


def main() -> int:
    """Print the figures; 1 where one misses its target."""
    with tempfile.TemporaryDirectory() as folder:
        before = pressure()
        found, cpu = signals(Path(folder))
        told = f"{SIGNALS} signals, 10 a second, SQLite flushed ({before}; then {pressure()})"
        p50, p99 = map(float, np.quantile(found, (0.5, 0.99)))
        figures = [
            report(f"firing to bot, p50, {told}", p50, "ms", target="below 500", holds=p50 < 500),
            report(f"firing to bot, p99, {told}", p99, "ms", target="below 2500: half its life", holds=p99 < 2_500),
            report("a signal, firing to bot, both ends", cpu, "CPU ms", target="below 25", holds=cpu < 25),
        ]
        before = pressure()
        answered = inbound(Path(folder))
        p50, p99 = map(float, np.quantile(answered, (0.5, 0.99)))
        told = f"{ALERTS} alerts, {RATE} a second, {CLIENTS} connections ({before}; then {pressure()})"
        figures += [
            report(f"inbound alert answered, p50, {told}", p50, "ms", target="below 50", holds=p50 < 50),
            report(f"inbound alert answered, p99, {told}", p99, "ms", target="below 100", holds=p99 < 100),
        ]
    return 0 if all(figure.holds for figure in figures) else 1


if __name__ == "__main__":
    sys.exit(main())
