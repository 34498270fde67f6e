"""Engines and feeds over a tape of trades, in this process or in one of their own, to be killed and stopped."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from tapeline.alerts.feeds.batcher import Tick
from tapeline.alerts.feeds.data_manager import DataManager, ManagerOptions
from tapeline.alerts.feeds.replay import replay_batches
from tapeline.alerts.feeds.source_names import SourceName
from tapeline.alerts.pipeline import AlertPipeline
from tapeline.alerts.records import Commit
from tapeline.alerts.routing import Router
from tapeline.alerts.rule import Rule
from tapeline.alerts.scale.event_queue import EventReader
from tapeline.alerts.scale.feed_publisher import FeedPublisher, PublisherOptions
from tapeline.alerts.scale.membership import Membership
from tapeline.alerts.scale.redis_connection import redis_connection
from tapeline.alerts.scale.shard_engine import ShardEngine, ShardEngineOptions
from tapeline.alerts.scale.shard_leases import ShardLeases
from tapeline.alerts.scale.supply import InForce, Watch
from tapeline.alerts.scale.tick_streams import StreamReader, StreamWriter
from tapeline.alerts.store.opening import open_store
from tapeline.alerts.store.sql_store import SqlStore
from tests.alerts.rules_with_memory import rules_with_memory

SECOND = 1_000_000_000
BEGIN = 1_700_000_000 * SECOND
SHARDS = 4
LEASE = 1.0
CHUNK = 20
"""Trades that a source gives at a time."""
SYMBOLS = tuple(f"S{number}USDT" for number in range(8))
Found = dict[str, tuple[object, ...]]


def tape(trades: int) -> list[Tick]:
    """Trades of the symbols, a fifth of a second apart, each symbol numbered from 1; the last one seldom trades.

    All trade at the beginning: silence counts from the first record, which is that of the shard.
    """
    random = np.random.default_rng(7)
    prices = 100.0 * np.exp(np.cumsum(random.normal(0, 0.002, (trades, len(SYMBOLS))), axis=0))
    share = np.array([1.0] * (len(SYMBOLS) - 1) + [0.1])
    which = random.choice(len(SYMBOLS), trades, p=share / share.sum())
    numbers = [0] * len(SYMBOLS)
    found = [Tick(name, BEGIN, 100.0, 1.0, 0) for name in SYMBOLS]
    for at, symbol in enumerate(which[: trades - len(SYMBOLS)].tolist(), 1):
        numbers[symbol] += 1
        price = round(float(prices[at - 1, symbol]), 2)
        found.append(Tick(SYMBOLS[symbol], BEGIN + at * SECOND // 5, price, 1.0, numbers[symbol]))
    return found


def rules() -> list[Rule]:
    """Rules of every kind of memory, and one that only some symbols have."""
    return [*rules_with_memory(), Rule(id="two", condition="close > 101", owner="me", symbols=SYMBOLS[:3])]


def undisturbed(folder: Path, trades: Sequence[Tick]) -> Found:
    """What one engine without shards finds on the tape."""
    store = open_store(folder / "alone.db")
    pipeline = AlertPipeline(store, Router({}, lambda *_: ""), folder / "alone", SYMBOLS)
    pipeline.recover()
    pipeline.set_rules(rules())
    for batch, taken in replay_batches(trades, pipeline.evaluator.symbols, source="tape"):
        pipeline.take(batch, taken)
    pipeline.close()
    found = stored(store)
    store.close()
    return found


def stored(store: Any) -> Found:
    """What a store has, by id, without what depends on when it was found; no id may be there twice."""
    every: list[Any] = []
    while some := store.firings_after(every[-1].number if every else 0, limit=1_000):
        every.extend(some)
    found = {
        one.firing.id: (one.firing.rule, one.firing.symbol, one.firing.kind, one.firing.ts, one.firing.sequence)
        for one in every
    }
    assert len(found) == len(every)
    assert len({one.firing.dedupe_key for one in every}) == len(every)
    return found


class GivenRules:
    """Rules that change when a test sets others."""

    def __init__(self, some: Sequence[Rule]) -> None:
        self.found = InForce(1, some, SYMBOLS, {}, {})

    def set(self, some: Sequence[Rule]) -> None:
        self.found = self.found._replace(generation=self.found.generation + 1, rules=some)

    def read(self) -> InForce:
        return self.found


class Gate:
    """How many trades of the tape the sources give: a test opens it further when what it waits for has come about."""

    def __init__(self, trades: int) -> None:
        self.trades = trades


class TapeSource:
    """Gives the tape behind what is known already, as far as the gate lets it, and waits at its end."""

    def __init__(self, manager: DataManager, positions: Mapping[str, int], trades: Sequence[Tick], gate: Gate) -> None:
        self.manager, self.positions, self.trades = manager, positions, trades
        self.gate = gate
        self.stopping = asyncio.Event()

    async def run(self) -> None:
        given = 0
        while not self.stopping.is_set():
            some = self.trades[given : min(given + CHUNK, self.gate.trades)]
            given += len(some)
            behind = [one for one in some if one.sequence > self.positions.get(f"tape:{one.symbol}", -1)]
            if behind:
                await asyncio.to_thread(self.manager.take, "tape", behind)
            await asyncio.sleep(0.001 if some else 0.01)

    def stop(self) -> None:
        self.stopping.set()


class Engine:
    """An engine among others, with its membership and its connections."""

    def __init__(
        self,
        address: str,
        redis_address: str,
        name: str,
        *,
        lease: float = LEASE,
        snapshot: float = 0.3,
        some: Sequence[Rule] | None = None,
    ) -> None:
        store = open_store(address)
        assert isinstance(store, SqlStore)
        self.store = store
        leases = ShardLeases(store.database, name, shards=SHARDS, lease_seconds=lease)
        self.client = redis_connection(redis_address, retries=0, answer_seconds=2.0)
        self.given = GivenRules(rules() if some is None else some)
        self.watch = Watch(self.given, 0.1)
        self.engine = ShardEngine(
            store,
            StreamReader(self.client, name),
            self.watch,
            shards=SHARDS,
            options=ShardEngineOptions(snapshot=snapshot),
        )
        self.membership = Membership(leases, self.engine.view, lambda: self.engine.healthy)
        self.engine.start(self.membership)
        self.membership.start()

    def stop(self) -> None:
        self.membership.stop(leave=False)
        self.engine.stop()
        self.watch.stop()
        self.membership.leases.leave()
        self.client.close()
        self.store.close()


class Feed:
    """A publisher of a tape in a thread."""

    def __init__(
        self,
        address: str,
        redis_address: str,
        name: str,
        folder: Path,
        trades: Sequence[Tick],
        *,
        gate: Gate | None = None,
        lease: float = LEASE,
        events: bool = False,
    ) -> None:
        self.gate = gate or Gate(len(trades))
        store = open_store(address)
        assert isinstance(store, SqlStore)
        self.store = store
        leases = ShardLeases(store.database, name, shards=SHARDS, lease_seconds=lease, engine=False)
        self.membership = Membership(leases, lambda _: None)
        self.clients = [redis_connection(redis_address, retries=0, answer_seconds=2.0) for _ in range(2)]
        self.publisher = FeedPublisher(
            store.database,
            self.membership,
            StreamWriter(self.clients[0]),
            folder / name,
            lambda: SYMBOLS,
            lambda symbol: [SourceName("tape", symbol, stale_after=3_600)],
            lambda manager, positions: [TapeSource(manager, positions, trades, self.gate)],
            events=EventReader(self.clients[1], name) if events else None,
            # The tape is of another year: its time does not follow our clock.
            options=PublisherOptions(upkeep=0.05, tidy=0.2, pause=0.05, manager=ManagerOptions(idle=1e9)),
        )
        self.loop = asyncio.new_event_loop()
        self.failed: BaseException | None = None
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.membership.start()
        self.thread.start()

    def stop(self) -> None:
        self.loop.call_soon_threadsafe(self.publisher.stop)
        self.thread.join(20)
        self.loop.close()
        self.membership.stop()
        for client in self.clients:
            client.close()
        self.store.close()

    def _run(self) -> None:
        try:
            self.loop.run_until_complete(self.publisher.run())
        except BaseException as error:
            self.failed = error
            raise


def until(holds: Callable[[], bool], seconds: float = 120.0) -> float:
    """Wait for what others do; how long it took."""
    begun = time.monotonic()
    while not holds():
        assert time.monotonic() - begun < seconds, "it did not come about"
        time.sleep(0.01)
    return time.monotonic() - begun


def serve_engine(address: str, redis_address: str, name: str, told: Connection, lease: float, snapshot: float) -> None:
    """An engine in a process of its own.

    It tells which shards it has, since which epochs, and how often it was refused, whenever that changes. Told
    ``stop at commit`` it stops itself (SIGSTOP) before its next commit's transaction begins, and goes on with that
    very commit when it is continued; told ``end``, it ends.
    """
    one = Engine(address, redis_address, name, lease=lease, snapshot=snapshot)
    written, armed = one.engine._store.commit_all, threading.Event()

    def commit_all(commits: Sequence[Commit]) -> tuple[frozenset[str], ...]:
        if armed.is_set():
            armed.clear()
            told.send("stopping")
            os.kill(os.getpid(), signal.SIGSTOP)
        return written(commits)

    one.engine._store.commit_all = commit_all  # type: ignore[method-assign]
    before: object = None
    while True:
        now = ({number: shard.owned.epoch for number, shard in list(one.engine._shards.items())}, one.engine.fenced_out)
        if now != before:
            told.send(now)
            before = now
        if one.engine.problem is not None:
            raise SystemExit(f"{name}: {one.engine.problem}")
        if told.poll(0.01):
            said = told.recv()
            if said == "end":
                break
            armed.set()
    one.stop()
    told.send("ended")


def serve_feed(address: str, redis_address: str, name: str, folder: Path, trades: int, gate: int, lease: float) -> None:
    """A publisher in a process of its own, until it is killed."""
    Feed(address, redis_address, name, folder, tape(trades), gate=Gate(gate), lease=lease)
    signal.pause()


def processes() -> Any:
    """What makes processes: forked from a server that has everything imported, so that one costs little."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.alerts.scale.preloaded"])
    return context


class EngineProcess:
    """The other end of :func:`serve_engine`."""

    def __init__(
        self, address: str, redis_address: str, name: str, *, lease: float = LEASE, snapshot: float = 0.3
    ) -> None:
        context = processes()
        self.name = name
        self.told, other = context.Pipe()
        self.process = context.Process(
            target=serve_engine, args=(address, redis_address, name, other, lease, snapshot), daemon=True
        )
        self.process.start()
        other.close()
        self.shards: dict[int, int] = {}
        self.refused = 0
        self.stopping = self.ended = False

    def look(self) -> None:
        """Read what it has told."""
        try:
            while self.told.poll():
                said = self.told.recv()
                if said == "stopping":
                    self.stopping = True
                elif said == "ended":
                    self.ended = True
                else:
                    self.shards, self.refused = said
        except (EOFError, ConnectionResetError):
            self.shards = {}

    def send(self, number: signal.Signals) -> None:
        """Send a signal."""
        assert self.process.pid is not None
        os.kill(self.process.pid, number)

    def end(self) -> None:
        """End it, however it is."""
        if self.process.is_alive():
            self.send(signal.SIGCONT)
            with suppress(OSError):
                self.told.send("end")
            self.process.join(10)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()
