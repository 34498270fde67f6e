"""Killed at random instants while another one stands by: every firing is there, each once, and told of."""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
import sqlite3
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest

from tapeline.alerts.availability import Arrival, availability
from tapeline.alerts.delivery.manager import NotificationManager
from tapeline.alerts.store.opening import open_store
from tests.alerts.crash_support import KILLS, begin, channel, serve
from tests.alerts.rules_with_memory import rules_with_memory

LATER = 3_600 * 10**9


class Receiver(ThreadingHTTPServer):
    """Keeps what was posted, by the id that the header names."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.arrivals: list[Arrival] = []
        threading.Thread(target=self.serve_forever, daemon=True).start()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        assert isinstance(self.server, Receiver)
        id, digest = self.headers["webhook-id"], hashlib.sha256(body).hexdigest()
        self.server.arrivals.append(Arrival(json.loads(body)["id"], time.time_ns(), id, digest))
        self.send_response(204)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    server = Receiver()
    yield server
    server.shutdown()
    server.server_close()


def address_of(receiver: Receiver) -> str:
    return f"http://127.0.0.1:{receiver.server_address[1]}/hook"


def stored(folder: Path) -> dict[str, tuple[object, ...]]:
    """What the store has, by id, without what depends on when it was found."""
    store = open_store(folder / "alerts.db")
    try:
        found = store.firings_after(0, limit=1_000)
        every = list(found)
        while found:
            found = store.firings_after(every[-1].number, limit=1_000)
            every.extend(found)
    finally:
        store.close()
    assert len({one.firing.id for one in every}) == len(every)
    return {
        one.firing.id: (one.firing.rule, one.firing.symbol, one.firing.kind, one.firing.ts, one.firing.sequence)
        for one in every
    }


def count(folder: Path) -> int:
    """How many firings another process has stored so far."""
    with closing(sqlite3.connect(f"file:{folder / 'alerts.db'}?mode=ro", uri=True, timeout=30)) as database:
        return int(database.execute("SELECT count(*) FROM alert_firing").fetchone()[0])


def finish(folder: Path, receiver: Receiver) -> None:
    """Run to the end of the tape in this process, and send what killed processes had claimed."""
    asyncio.run(serve(folder, address_of(receiver), 0.0, True))
    store = open_store(folder / "alerts.db")
    # Their leases have run out for who looks later.
    later = NotificationManager(store, [channel(receiver.server_address[1])], clock=lambda: time.time_ns() + LATER)
    while later.step("webhook"):
        pass
    store.close()


def told(folder: Path, ids: Iterable[str]) -> dict[str, str]:
    """The state of each delivery of these firings."""
    store = open_store(folder / "alerts.db")
    try:
        return {one.id: one.state for id in ids for one in store.deliveries(id)}
    finally:
        store.close()


# A soak of hundreds of kills takes as long as it takes: up to 15 s each where others use the machine.
@pytest.mark.timeout(300 + 15 * KILLS)
def test_killed_at_random_instants_nothing_is_lost_and_nothing_is_doubled(tmp_path: Path, receiver: Receiver) -> None:
    quiet, broken = tmp_path / "quiet", tmp_path / "broken"
    quiet.mkdir()
    broken.mkdir()
    undisturbed = Receiver()
    finish(quiet, undisturbed)
    undisturbed.shutdown()
    undisturbed.server_close()
    expected = stored(quiet)
    assert {one[0] for one in expected.values()} == {rule.id for rule in rules_with_memory()}
    assert {one[2] for one in expected.values()} == {"firing", "resolved", "no_data", "escalation"}
    choose, replayed, kills = random.Random(KILLS), 0, 0
    with ExitStack() as processes:

        def another() -> tuple[BaseProcess, Connection]:
            process, told = begin(broken, address_of(receiver))
            processes.callback(process.kill)
            processes.enter_context(told)
            return process, told

        working, heard = another()
        for kill in range(KILLS):
            # One that dies before it has begun ends its side of the pipe.
            replayed += heard.recv()
            # By how much was found, not by a time: machines differ, and the kills must fall all over the tape.
            found = count(broken)
            if found == len(expected):
                break
            kills += 1
            waiting = another() if kill < KILLS - 1 else None
            goal = len(expected) * (kill + choose.random()) / (KILLS + 1)
            while count(broken) < goal and working.is_alive():
                time.sleep(0.005)
            working.kill()
            working.join()
            if waiting is not None:
                working, heard = waiting
    # On a slow machine the engine may be done before it has been killed as often as it should.
    assert kills >= max(1, KILLS // 4), f"the engine was done after {kills} kills"
    finish(broken, receiver)
    assert stored(broken) == expected
    assert replayed > 0
    deliveries = told(broken, expected)
    assert deliveries == told(quiet, expected)
    assert set(deliveries.values()) == {"sent"}
    outcome = availability({one.split(".")[0]: 0 for one in deliveries}, receiver.arrivals)
    assert (outcome.lost, outcome.undue, outcome.doubled) == ((), (), ())
    assert all(one.id == one.due for one in receiver.arrivals)
