"""Soak: the alert service while it is killed, cut off from its feed, its receiver or its database.

``make soak-availability`` runs ``tapeline alerts serve`` as a person would, one process at work and one standing by,
against an exchange and a webhook receiver in processes of their own (loopback, real time: 200 trades a second of 40
symbols, some 20 firings a second, eight webhooks, SQLite). A minute apart the process at work is killed by SIGKILL;
another one is then begun to stand by. Every trade and every message is written down outside the service: what was
due follows from the trades alone.

Environment: TAPELINE_SOAK_SECONDS (600), TAPELINE_SOAK_EVERY (60 s between faults), TAPELINE_SOAK_FAULTS (``kill``, or
of ``kill feed receiver store`` several, in turn), TAPELINE_SOAK_STANDBY (1; 0: one process, begun again when killed).

It fails where a firing is lost, arrives twice as different messages or was not due, and, with kills alone and a
standby, where less than 99.9 per cent arrive within a second.
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import json
import os
import random
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from websockets.asyncio.server import serve

from benchmarks.bench_alert_service import pressure
from tapeline.alerts.availability import Arrival, availability, recovery_times
from tapeline.alerts.delivery.secret_vault import new_key
from tapeline.alerts.folder_lock import FolderLock
from tests.streams.fake_exchange import FakeExchange

SYMBOLS, RATE, CHANNELS, LEVEL = 40, 200, 8, 100.0
ABOVE = 0.11
"""The share of trades above the level: a tenth of all trades cross it upwards."""
WARM, DRAIN = 10.0, 90.0
BOUNDS = (0.1, 0.25, 0.5, 1.0, 5.0)
ON_TIME = 1.0
TARGET = 0.999
DOWN = {"feed": 3.0, "receiver": 3.0, "store": 3.0}
"""Seconds for which each fault lasts."""


def symbols() -> list[str]:
    """The instruments of the exchange."""
    return [f"S{number:02d}USDT" for number in range(SYMBOLS)]


class Exchange(FakeExchange):
    """Trades in real time, a millisecond apart at least within a symbol."""

    def __init__(self) -> None:
        super().__init__(tuple(symbols()))
        self.random = random.Random(11)

    def make(self, symbol: str) -> dict[str, Any]:
        """A trade happens now."""
        made = self.made[symbol]
        trade = super().make(symbol)
        trade["T"] = max(time.time_ns() // 1_000_000, made[-2]["T"] + 1 if len(made) > 1 else 0)
        trade["p"] = "101" if self.random.random() < ABOVE else "99"
        return trade

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[Exchange]:
        """As the scripted one, patient with clients on a busy machine."""
        async with serve(self._session, "127.0.0.1", 0, process_request=self._http, ping_interval=None) as server:
            self.port = server.sockets[0].getsockname()[1]
            yield self
            for session in list(self.sessions):
                session.transport.abort()


async def exchange_process(out: Path) -> None:
    """Make trades until told to stop; the tape goes into a file."""
    commands: asyncio.Queue[str] = asyncio.Queue()
    _listen(commands)
    exchange = Exchange()
    async with exchange.serving():
        print(exchange.port, flush=True)
        begun, count, stopped = time.monotonic(), 0, False
        while not stopped:
            for _ in range(int((time.monotonic() - begun) * RATE) - count):
                symbol = exchange.random.choice(list(exchange.made))
                await exchange.trade(symbol)
                count += 1
            while not commands.empty():
                command = commands.get_nowait()
                if command.startswith("cut"):
                    exchange.refuse_connections = 1_000_000
                    exchange.reset()
                elif command.startswith("mend"):
                    exchange.refuse_connections = 0
                else:
                    stopped = True
            await asyncio.sleep(0.002)
        out.write_text(json.dumps(exchange.made))
        print("written", flush=True)
        # The service may still ask for what it missed.
        while (await commands.get()).strip() != "end":
            pass


async def receiver_process(out: Path) -> None:
    """Take webhooks until told to stop; what came goes into a file."""
    commands: asyncio.Queue[str] = asyncio.Queue()
    _listen(commands)
    found: list[tuple[str, int, str, str]] = []
    up = True

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
            fields = dict(line.split(": ", 1) for line in head.split("\r\n")[1:] if ": " in line)
            body = await reader.readexactly(int(fields["content-length"]))
            if up:
                data = json.loads(body)["data"]
                key = f"{data['symbol']}/{data['ts'] // 1_000_000}"
                found.append((key, time.time_ns(), fields["webhook-id"], hashlib.sha256(body).hexdigest()))
            status = b"204 No Content" if up else b"503 Service Unavailable"
            writer.write(b"HTTP/1.1 " + status + b"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the sender was killed
        finally:
            writer.close()

    server = await asyncio.start_server(take, "127.0.0.1", 0)
    async with server:
        print(server.sockets[0].getsockname()[1], flush=True)
        while True:
            command = (await commands.get()).strip()
            if command == "count":
                print(len(found), flush=True)
            elif command == "end":
                out.write_text(json.dumps(found))
                return
            else:
                up = command == "up"


def _listen(commands: asyncio.Queue[str]) -> None:
    """Lines of the standard input, as they come."""
    loop = asyncio.get_running_loop()

    def read() -> None:
        for line in sys.stdin:
            loop.call_soon_threadsafe(commands.put_nowait, line)
        loop.call_soon_threadsafe(commands.put_nowait, "end")

    threading.Thread(target=read, daemon=True).start()


@dataclass
class Faults:
    """What was done to the service, and when (nanoseconds)."""

    done: list[tuple[str, int]] = field(default_factory=list)

    def of(self, kind: str) -> list[int]:
        """When faults of a kind were."""
        return [at for name, at in self.done if name == kind]


class Supervisor:
    """One process at work and, where wanted, one that stands by."""

    def __init__(self, root: Path, standby: bool) -> None:
        self.root, self.standby = root, standby
        self.lock = FolderLock(root / "data" / "_state" / "alerts")
        self.processes: list[subprocess.Popen[bytes]] = []
        self._output = (root / "output.txt").open("ab")

    def begin(self, standby: bool) -> None:
        """Begin a process."""
        command = [sys.executable, "-c", "from tapeline.cli import main; main()", "alerts", "serve"]
        environment = {**os.environ, "TAPELINE_ROOT": str(self.root)}
        environment.pop("TAPELINE_SETTINGS", None)
        self.processes.append(
            subprocess.Popen(
                [*command, *(["--standby"] if standby else [])],
                cwd=self.root,
                env=environment,
                stdout=self._output,
                stderr=self._output,
            )
        )

    def kill(self) -> int:
        """Kill the process at work, and begin the next one; when it was killed."""
        holder = self.lock.holder()
        (victim,) = [one for one in self.processes if one.pid == holder]
        at = time.time_ns()
        victim.kill()
        victim.wait()
        self.processes.remove(victim)
        self.begin(self.standby)
        return at

    def end(self) -> list[int]:
        """End all, gently; their exit codes."""
        for one in self.processes:
            # Not SIGINT, which whoever is begun in the background of a shell is told to ignore.
            one.terminate()
        codes = [one.wait(timeout=120) for one in self.processes]
        self._output.close()
        return codes

    def check(self) -> None:
        """Fail where a process has ended by itself."""
        for one in self.processes:
            if one.poll() is not None:
                raise SystemExit(f"the service ended with {one.returncode}: {(self.root / 'output.txt').read_text()}")


@contextmanager
def helper(kind: str, out: Path) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A process of this file, and the port that it listens on."""
    with subprocess.Popen(
        [sys.executable, "-m", "benchmarks.soak_availability", kind, str(out)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            yield process, int(process.stdout.readline())
        finally:
            process.kill()


def order(process: subprocess.Popen[str], command: str) -> None:
    """Tell a helper something."""
    assert process.stdin is not None
    process.stdin.write(f"{command}\n")
    process.stdin.flush()


def counted(receiver: subprocess.Popen[str]) -> int:
    """How many messages have arrived."""
    assert receiver.stdout is not None
    order(receiver, "count")
    return int(receiver.stdout.readline())


def configure(root: Path, exchange: int, receiver: int) -> None:
    """Settings and rules, as a person writes them."""
    (root / "rules").mkdir()
    rules = [
        {
            "id": f"up-{number}",
            "owner": "me",
            "condition": f"crosses_up(close, {LEVEL:g})",
            "symbols": symbols()[number::CHANNELS],
            "channels": [f"hook-{number}"],
        }
        for number in range(CHANNELS)
    ]
    (root / "rules" / "rules.json").write_text(json.dumps(rules))
    lines = [
        f'[stream]\nbinance_stream = "ws://127.0.0.1:{exchange}/stream"',
        f'binance_rest = "http://127.0.0.1:{exchange}"\n[alerts]\nkeys = ["{new_key()}"]\nstream_port = 0',
        f'plain_http = true\npermitted_ports = [{receiver}]\npermitted_networks = ["127.0.0.0/8"]',
    ]
    for number in range(CHANNELS):
        lines.append(f'[alerts.channels.hook-{number}]\nkind = "webhook"')
        lines.append(f'address = "http://127.0.0.1:{receiver}/hook-{number}"')
    (root / "tapeline.toml").write_text("\n".join(lines) + "\n")


def due_of(tape: dict[str, list[dict[str, Any]]], since: int, until: int) -> dict[str, int]:
    """What the rules' words mean on the tape: each trade above the level whose predecessor was at or below it."""
    found = {}
    for symbol, trades in tape.items():
        for before, now in itertools.pairwise(trades):
            if float(before["p"]) <= LEVEL < float(now["p"]) and since <= now["T"] * 1_000_000 < until:
                found[f"{symbol}/{now['T']}"] = now["T"] * 1_000_000
    return found


def hold_database(path: Path, seconds: float) -> None:
    """Another process has the database: nobody can write."""
    with closing(sqlite3.connect(path, isolation_level=None, timeout=30)) as database:
        database.execute("BEGIN IMMEDIATE")
        time.sleep(seconds)
        database.execute("ROLLBACK")


def strike(kind: str, supervisor: Supervisor, exchange: subprocess.Popen[str], receiver: subprocess.Popen[str]) -> int:
    """Do one fault; when it began."""
    at = time.time_ns()
    if kind == "kill":
        return supervisor.kill()
    if kind == "feed":
        order(exchange, "cut")
        time.sleep(DOWN[kind])
        order(exchange, "mend")
    elif kind == "receiver":
        order(receiver, "down")
        time.sleep(DOWN[kind])
        order(receiver, "up")
    elif kind == "store":
        hold_database(supervisor.root / "data" / "_state" / "alerts" / "alerts.db", DOWN[kind])
    else:
        raise SystemExit(f"there is no fault {kind!r}")
    return at


def run(root: Path, seconds: float, every: float, kinds: list[str], standby: bool) -> tuple[Any, ...]:
    """The soak; what was due, what arrived, what was done to it."""
    faults = Faults()
    tape, posted = root / "tape.json", root / "posted.json"
    with helper("exchange", tape) as (exchange, port), helper("receiver", posted) as (receiver, hook):
        configure(root, port, hook)
        supervisor = Supervisor(root, standby)
        supervisor.begin(False)
        while not supervisor.lock.holder():
            supervisor.check()
            time.sleep(0.05)
        # Until the first message: a first start may compile its kernel, and what was traded before it is nobody's.
        while counted(receiver) == 0:
            supervisor.check()
            time.sleep(0.2)
        if standby:
            supervisor.begin(True)
        # Each symbol needs a first trade through the stream, and a standby its time to make ready.
        time.sleep(WARM)
        since = time.time_ns()
        begun, number = time.monotonic(), 0
        while (now := time.monotonic() - begun) < seconds:
            # The first fault half an interval after the beginning, the last one half an interval before the end.
            if now >= (number + 0.5) * every:
                faults.done.append((kinds[number % len(kinds)], 0))
                at = strike(kinds[number % len(kinds)], supervisor, exchange, receiver)
                faults.done[-1] = (kinds[number % len(kinds)], at)
                number += 1
            supervisor.check()
            time.sleep(0.02)
        until = time.time_ns()
        order(exchange, "stop")
        assert exchange.stdout is not None
        exchange.stdout.readline()
        made = json.loads(tape.read_text())
        due, every_due = due_of(made, since, until), due_of(made, 0, 2**62)
        # What was made before the service first ran is not to come; the rest may still be on its way.
        end = time.monotonic() + DRAIN
        before, rest = -1, 0
        while time.monotonic() < end and rest < 25:
            now_there = counted(receiver)
            rest = rest + 1 if now_there == before else 0
            before = now_there
            time.sleep(0.2)
        codes = supervisor.end()
        order(receiver, "end")
        receiver.wait(timeout=30)
        order(exchange, "end")
    arrivals = [Arrival(*one) for one in json.loads(posted.read_text())]
    return due, every_due, arrivals, faults, codes


def main() -> None:
    """Run, print, and fail where something was lost or late."""
    seconds = float(os.environ.get("TAPELINE_SOAK_SECONDS", "600"))
    every = float(os.environ.get("TAPELINE_SOAK_EVERY", "60"))
    kinds = os.environ.get("TAPELINE_SOAK_FAULTS", "kill").split()
    standby = os.environ.get("TAPELINE_SOAK_STANDBY", "1") != "0"
    before = pressure()
    folder = Path(os.environ.get("TAPELINE_SOAK_FOLDER") or tempfile.mkdtemp(prefix="tapeline-soak-"))
    folder.mkdir(parents=True, exist_ok=True)
    print(f"the service's log and database: {folder}", flush=True)
    due, every_due, arrivals, faults, codes = run(folder, seconds, every, kinds, standby)
    # What came of the first seconds, before the measurement, is neither due nor undue.
    counted = [one for one in arrivals if one.due in due or one.due not in every_due]
    found = availability(due, counted)
    missing = set(every_due) - {one.due for one in arrivals}
    how = "one at work and one standing by" if standby else "one process, begun again"
    print(f"{seconds:.0f} s, {len(faults.done)} faults ({' '.join(kinds)}), {how}; {before}; then {pressure()}")
    print(
        f"due {found.due}, lost {len(found.lost)} (of all there ever were {len(missing)}), undue {len(found.undue)}, "
        f"doubled {len(found.doubled)}, repeated {found.repeated}; exit codes {codes}"
    )
    shares = ", ".join(f"{bound:g} s: {100 * found.on_time(bound):.3f} %" for bound in BOUNDS)
    quantiles = ", ".join(f"p{100 * share:g} {1e3 * found.quantile(share):.0f} ms" for share in (0.5, 0.99, 0.999, 1))
    print(f"arrived within {shares}; lateness {quantiles}")
    for kind in dict.fromkeys(kinds):
        for bound in (0.25, ON_TIME):
            times = recovery_times(due, counted, [at for _, at in faults.done], bound=bound)
            mine = times[np.array([name == kind for name, _ in faults.done], np.bool_)]
            if mine.size:
                print(
                    f"{kind}: in time ({bound:g} s) again after {np.median(mine):.2f} s (median of {mine.size}), "
                    f"{mine.max():.2f} s at most"
                )
    if found.lost or found.undue or found.doubled or any(codes):
        raise SystemExit("a firing was lost, doubled or not due, or a process failed")
    if standby and kinds == ["kill"] and found.on_time(ON_TIME) < TARGET:
        raise SystemExit(f"less than {100 * TARGET:g} per cent arrived within {ON_TIME:g} s")


if __name__ == "__main__":
    if sys.argv[1:2] == ["exchange"]:
        asyncio.run(exchange_process(Path(sys.argv[2])))
    elif sys.argv[1:2] == ["receiver"]:
        asyncio.run(receiver_process(Path(sys.argv[2])))
    else:
        main()
