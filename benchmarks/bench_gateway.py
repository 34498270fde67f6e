"""What the API costs: reads at 200 a second on one worker, over 10,000 rules and 100,000 firings in SQLite.

A real server in a process of its own, real tokens, a real socket. Requests leave at their planned times whether or not
the ones before were answered, and each is timed from its planned time, so that a stall is felt by all that it holds up.
Wall times contain what else the machine does: load and CPU pressure stand beside them, and ``--real-time`` (root) puts
client and server into the scheduler's real-time class, which is as near to a quiet machine as a busy one comes. The CPU
that the server spends on a request depends on that much less, and the peer shares what is left: a bare FastAPI route
that gives a rule's row out of the same file as it lies there, under the same server, knowing nobody, counting and
logging nothing.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
from sqlalchemy import insert

from benchmarks.harness import report
from tapeline.alerts.access.access_control import AccessControl, AccessSettings
from tapeline.alerts.delivery.secret_vault import new_key
from tapeline.alerts.firing import Firing, Side, dedupe_key
from tapeline.alerts.records import Commit
from tapeline.alerts.rule import Rule
from tapeline.alerts.store import rows
from tapeline.alerts.store.metadata import rule, rule_revision
from tapeline.alerts.store.sql_store import SqlStore
from tapeline.alerts.store.sqlite import open_sqlite

RULES, FIRINGS, OWNERS = 10_000, 100_000, 20
RATE = int(os.environ.get("TAPELINE_BENCH_RATE", "200"))
SECONDS = float(os.environ.get("TAPELINE_BENCH_SECONDS", "10"))
CONNECTIONS = 16
EACH, ROUNDS = 200, 5
SINGLE_MS, PAGE_MS = 1.5, 2.5
PEER = """
import os, sqlite3
import uvicorn
from fastapi import FastAPI, Response

database = sqlite3.connect(os.environ["PEER"], check_same_thread=False)
app = FastAPI()

@app.get("/v1/rules/{id}")
def rule(id: str):
    (body,) = database.execute("SELECT body FROM alert_rule WHERE id = ?", (id,)).fetchone()
    return Response(body, media_type="application/json")

async def told(*given, startup, **options):
    await startup(*given, **options)
    print(f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}/v1", flush=True)

from functools import partial
server = uvicorn.Server(uvicorn.Config(app, port=0, http="h11", log_config=None, access_log=False))
server.startup = partial(told, startup=server.startup)
server.run()
"""
TARGET_MS = 20.0
_BEGIN = 1_700_000_000_000_000_000


class Reads(NamedTuple):
    """What was measured: milliseconds of each request by its kind, and the server's CPU milliseconds a request."""

    kinds: np.ndarray
    milliseconds: np.ndarray
    server_cpu: float
    elapsed: float


def fill(store: SqlStore, keys: tuple[str, ...]) -> str:
    """Rules and firings of twenty owners: made up, to measure time only; an API key of one of them."""
    made = [
        Rule(
            id=f"rule-{n:05d}",
            owner=f"user-{n % OWNERS}",
            name=f"Rule {n}",
            condition=f'crosses_up(close, {n}) and rsi(14, "1h") < 30',
            symbols=(f"S{n % 500}USDT",),
            channels=("desk",),
        )
        for n in range(RULES)
    ]
    values = [
        {"id": one.id, "revision": 1, "number": n, "changed_at": _BEGIN, "changed_by": one.owner}
        | {"body": rows.rule_text(one)}
        for n, one in enumerate(made, 1)
    ]

    def work(db):
        owned = [v | {"owner": one.owner, "enabled": True} for v, one in zip(values, made, strict=True)]
        db.execute(insert(rule), owned)
        db.execute(insert(rule_revision), [v | {"deleted": False} for v in values])

    store.database.write(work)
    for begin in range(0, FIRINGS, 5_000):
        store.commit(Commit(tuple(_firing(n) for n in range(begin, begin + 5_000))))
    access = AccessControl(store.database, AccessSettings(keys))
    access.users.add("user-0")
    return access.keys.create("user-0", "bench", ["rules:read", "firings:read", "health:read"])[1]


def _firing(n: int) -> Firing:
    ts, name = _BEGIN + n * 1_000_000, f"rule-{n % RULES:05d}"
    sides = (
        Side("crosses_up(close, 60000)", 60_001.5, 60_000.0, True),
        Side('rsi(14, "1h") < 30', 28.4, 30.0, True),
    )
    key = dedupe_key(name, "v1", f"S{n % 500}USDT", "firing", ts)
    return Firing(
        key, name, "v1", f"user-{n % RULES % OWNERS}", f"S{n % 500}USDT", "firing", ts, ts + 1, 60_001.5, n, sides=sides
    )


@contextmanager
def server(folder: Path, keys: tuple[str, ...]) -> Iterator[tuple[int, int]]:
    """The API as ``tapeline alerts gateway`` starts it: its process and port."""
    environment = os.environ | {
        "TAPELINE_ROOT": str(folder),
        "TAPELINE_ALERTS__STORE": str(folder / "alerts.db"),
        "TAPELINE_ALERTS__KEYS": f'["{new_key()}"]',
        "TAPELINE_ALERTS__GATEWAY__SIGNING_KEYS": f'["{keys[0]}"]',
        "TAPELINE_ALERTS__GATEWAY__REQUESTS_PER_MINUTE": "1000000",
    }
    with started([sys.executable, "-m", "tapeline.cli", "alerts", "gateway", "--port", "0"], folder, environment) as of:
        yield of


@contextmanager
def peer(folder: Path) -> Iterator[tuple[int, int]]:
    """The bare route: its process and port."""
    with started([sys.executable, "-c", PEER], folder, os.environ | {"PEER": str(folder / "alerts.db")}) as of:
        yield of


@contextmanager
def started(command: list[str], folder: Path, environment: Mapping[str, str]) -> Iterator[tuple[int, int]]:
    process = subprocess.Popen(command, env=environment, cwd=folder, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        yield process.pid, int(line.rpartition(":")[2].partition("/")[0])
    finally:
        process.terminate()
        process.wait(timeout=30)


def addresses() -> dict[str, Callable[[int], str]]:
    """The kinds of requests, and the address of the nth of each."""
    mine = [_firing(n) for n in range(0, FIRINGS, OWNERS * 50)]
    return {
        "rules": lambda n: "/v1/rules?limit=50",
        "rule": lambda n: f"/v1/rules/rule-{n * OWNERS % RULES:05d}",
        "firings": lambda n: "/v1/firings?limit=50",
        "firings of a symbol": lambda n: f"/v1/firings?limit=50&symbol=S{n * OWNERS % 500}USDT",
        "firing": lambda n: f"/v1/firings/{mine[n % len(mine)].id}",
        "status": lambda n: "/v1/status",
    }


def requests(count: int) -> list[tuple[str, str]]:
    """Kinds and addresses in the order in which a page and its programs ask: lists, single ones, searches."""
    generator, kinds = np.random.default_rng(7), addresses()
    names = list(kinds)
    chosen = generator.choice(len(names), count, p=[0.15, 0.25, 0.2, 0.1, 0.25, 0.05])
    return [(names[kind], kinds[names[kind]](int(generator.integers(10_000)))) for kind in chosen]


async def read(port: int, pid: int, token: str, rate: int, seconds: float) -> Reads:
    """Send requests at a steady rate over kept connections."""
    asked = requests(int(rate * seconds))
    head = f"Host: 127.0.0.1\r\nAuthorization: Bearer {token}\r\n\r\n"
    free: asyncio.Queue[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = asyncio.Queue()
    for _ in range(CONNECTIONS):
        free.put_nowait(await asyncio.open_connection("127.0.0.1", port))
    took = np.zeros(len(asked))
    loop = asyncio.get_running_loop()

    async def one(n: int, planned: float) -> None:
        reader, writer = await free.get()
        writer.write(f"GET {asked[n][1]} HTTP/1.1\r\n{head}".encode())
        answer = await reader.readuntil(b"\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 200"), answer
        length = answer.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
        await reader.readexactly(int(length))
        took[n] = (loop.time() - planned) * 1e3
        free.put_nowait((reader, writer))

    # The first request of each kind pays for imports and statements that are compiled once.
    for n in range(min(200, len(asked))):
        await one(n, loop.time())
    before, begun = _cpu(pid), loop.time()
    tasks = []
    for n in range(len(asked)):
        planned = begun + n / rate
        await asyncio.sleep(max(0.0, planned - loop.time()))
        tasks.append(asyncio.create_task(one(n, planned)))
    await asyncio.gather(*tasks)
    elapsed = loop.time() - begun
    kinds = np.array([kind for kind, _ in asked])
    return Reads(kinds, took, (_cpu(pid) - before) * 1e3 / len(asked), elapsed)


async def cost(port: int, pid: int, token: str, address: Callable[[int], str]) -> float:
    """The server's CPU milliseconds for a request of one kind, one after the other: the least of several rounds."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    head = f"Host: 127.0.0.1\r\nAuthorization: Bearer {token}\r\n\r\n"
    least = np.inf
    for _ in range(ROUNDS):
        before = _cpu(pid)
        for n in range(EACH):
            writer.write(f"GET {address(n)} HTTP/1.1\r\n{head}".encode())
            answer = await reader.readuntil(b"\r\n\r\n")
            assert answer.startswith(b"HTTP/1.1 200"), answer
            await reader.readexactly(int(answer.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]))
        least = min(least, (_cpu(pid) - before) * 1e3 / EACH)
    writer.close()
    return float(least)


def _cpu(pid: int) -> float:
    # Linux's clock of what a process has used, threads that ended included; /proc/pid/stat counts in hundredths.
    return time.clock_gettime(~pid << 3 | 2)


def pressure() -> str:
    path = Path("/proc/pressure/cpu")
    some = path.read_text().split("avg10=")[1].split()[0] + " %" if path.exists() else "unknown"
    return f"load {os.getloadavg()[0]:.1f}, CPU pressure {some}"


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder, keys = Path(name), (secrets.token_hex(32),)
        store = open_sqlite(folder / "alerts.db")
        token = fill(store, keys)
        store.close()
        if "--real-time" in sys.argv:
            # What else the machine does then waits, as far as the processor goes; the server inherits it.
            os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(5))
        with server(folder, keys) as (pid, port):
            found = asyncio.run(read(port, pid, token, RATE, SECONDS))
            spent = {kind: asyncio.run(cost(port, pid, token, of)) for kind, of in addresses().items()}
        with peer(folder) as (pid, port):
            bare = asyncio.run(cost(port, pid, token, addresses()["rule"]))
    where = f"{RATE} reads/s, 1 worker, {RULES} rules, {FIRINGS} firings ({pressure()})"
    for kind in (None, *dict.fromkeys(found.kinds)):
        took = found.milliseconds if kind is None else found.milliseconds[found.kinds == kind]
        middle, high = np.quantile(took, (0.5, 0.99))
        words = "all" if kind is None else kind
        report(f"{where}: {words}, p50", float(middle), "ms", target="", holds=True)
        report(f"{where}: {words}, p99", float(high), "ms", target=f"< {TARGET_MS:g}", holds=bool(high < TARGET_MS))
    held = found.elapsed < SECONDS + 1.0
    report(f"{where}: CPU of the server", found.server_cpu, "ms a read", target="< 3", holds=found.server_cpu < 3)
    for kind, value in spent.items():
        target = SINGLE_MS if kind in ("rule", "firing", "status") else PAGE_MS
        report(
            f"one after the other ({pressure()}): {kind}, CPU of the server", value, "ms a read",
            peer="a bare FastAPI route", peer_value=bare, target=f"< {target:g}", holds=value < target,
        )  # fmt: skip
    report(f"{where}: rate kept", len(found.milliseconds) / found.elapsed, "reads/s", target=f">= {RATE}", holds=held)


if __name__ == "__main__":
    main()
