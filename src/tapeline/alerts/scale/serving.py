"""One process of several, as the settings have it: an engine, a feed, or both."""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import signal
import socket
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, Final, Literal

from sqlalchemy import select

from tapeline.alerts.bots.configured import DeskUpkeep
from tapeline.alerts.bots.desk import BotDesk
from tapeline.alerts.bots.inbound_feed import InboundFeed
from tapeline.alerts.channel_settings import EndpointUpkeep, make_notices
from tapeline.alerts.delivery.messages import render
from tapeline.alerts.engine_changes import EngineChanges
from tapeline.alerts.engine_reports import BEAT_SECONDS, EngineReport, write_engine
from tapeline.alerts.feed_settings import news_sources, polled_sources
from tapeline.alerts.feeds.data_manager import DataManager
from tapeline.alerts.feeds.source import Source
from tapeline.alerts.log import close_log, open_log
from tapeline.alerts.performance_monitor import PerformanceMonitor, Standing, TimedChannel
from tapeline.alerts.routing import Router
from tapeline.alerts.scale.event_queue import EventReader
from tapeline.alerts.scale.feed_publisher import FeedPublisher
from tapeline.alerts.scale.membership import Membership
from tapeline.alerts.scale.redis_connection import redis_connection
from tapeline.alerts.scale.shard_engine import ShardEngine
from tapeline.alerts.scale.shard_leases import ShardLeases, View
from tapeline.alerts.scale.supply import ChangedSupply, Watch
from tapeline.alerts.scale.tick_streams import StreamReader, StreamWriter
from tapeline.alerts.service_settings import (
    alert_folder,
    alert_secrets,
    binance_source,
    channel_routes,
    lake_history,
    make_channels,
    rules_path,
    suspension_trace,
    symbol_sources,
)
from tapeline.alerts.store.metadata import counter
from tapeline.alerts.store.sql_store import SqlStore
from tapeline.core.errors import ConfigurationError, TapelineError
from tapeline.core.settings import Settings

_log = logging.getLogger(__name__)
Role = Literal["all", "engine", "feed"]
ANSWER_SECONDS: Final = 2.0
LOOK_SECONDS: Final = 1.0


def instance_name(settings: Settings) -> str:
    """What this process is called: by the settings, or by its machine, with what no other process has.

    Two processes of one name would take each other's leases for their own, so each has some letters of its own.
    """
    given = settings.alerts.scale.instance or socket.gethostname().split(".")[0] or "engine"
    return f"{given[:40]}-{os.getpid()}-{secrets.token_hex(3)}"


class Member:
    """One process: its membership, its engine and its feed.

    Parameters
    ----------
    store:
        PostgreSQL; stays the caller's to close.
    role:
        ``engine`` takes shards, ``feed`` publishes ticks or stands by to, ``all`` is both.

    Raises
    ------
    ConfigurationError
        There is no Redis in the settings, the database is not PostgreSQL, or the rules are wrong.
    MissingExtraError
        The extra ``redis`` is not installed.
    """

    def __init__(self, settings: Settings, store: SqlStore, role: Role = "all") -> None:
        scale = settings.alerts.scale
        if scale.redis is None:
            raise ConfigurationError("[alerts.scale] redis is not set: there is no queue between several engines")
        address = scale.redis.get_secret_value()
        self.name, self.role = instance_name(settings), role
        self.monitor = PerformanceMonitor()
        self._store, self._started_at = store, time.time_ns()
        self._closing = ExitStack()
        self.engine: ShardEngine | None = None
        self.feed: FeedPublisher | None = None
        try:
            leases = ShardLeases(
                store.database,
                self.name,
                shards=scale.shards,
                lease_seconds=scale.lease_seconds,
                engine=role != "feed",
            )
            changes = EngineChanges(
                store,
                rules_path(settings),
                settings.alerts.symbols,
                channel_routes(settings.alerts),
                trace=suspension_trace(settings, store),
            )
            self.watch = Watch(ChangedSupply(changes, lambda: _acknowledged(store)), LOOK_SECONDS)
            self._closing.callback(self.watch.stop)
            channels, endpoints = make_channels(settings, store)
            timed = [TimedChannel(one, self.monitor, time.time_ns) for one in channels]
            if role != "feed":
                self.engine = ShardEngine(
                    store,
                    StreamReader(self._client(address), self.name),
                    self.watch,
                    shards=scale.shards,
                    channels=timed,
                    notice=make_notices(settings, store),
                    history=lake_history(settings),
                )
            self.membership = Membership(leases, self._view, self._healthy)
            if role != "engine":
                router = self.engine.router if self.engine is not None else Router(self.watch.found.routes, render)

                def sources(manager: DataManager, positions: Mapping[str, int]) -> Iterable[Source]:
                    return [
                        *binance_source(settings, manager, positions),
                        *polled_sources(settings, manager),
                        *news_sources(settings, manager),
                        # What must run once of all processes runs where the feed is.
                        *([EndpointUpkeep(endpoints)] if endpoints is not None else []),
                        DeskUpkeep(lambda: BotDesk(store, router)),
                        InboundFeed(store, manager, positions),
                    ]

                self.feed = FeedPublisher(
                    store.database,
                    self.membership,
                    StreamWriter(self._client(address)),
                    alert_folder(settings) / "feed" / self.name,
                    lambda: self.watch.found.symbols,
                    symbol_sources(settings, store),
                    sources,
                    events=EventReader(self._client(address), self.name),
                )
        except BaseException:
            self._closing.close()
            raise

    async def run(self, ending: asyncio.Event) -> None:
        """Take part until ``ending``, or until this process cannot.

        Raises
        ------
        TapelineError
            What it failed with: a crash is better than shards that nobody evaluates.
        """
        feeding: asyncio.Task[None] | None = None
        try:
            if self.engine is not None:
                self.engine.start(self.membership)
            self.membership.start()
            if self.feed is not None:
                feeding = asyncio.create_task(self.feed.run())
            told = float("-inf")
            while not ending.is_set():
                if time.monotonic() - told >= BEAT_SECONDS:
                    told = time.monotonic()
                    await asyncio.to_thread(self._tell)
                with suppress(TimeoutError):
                    await asyncio.wait_for(ending.wait(), 0.2)
                problem = self.membership.problem or (self.engine.problem if self.engine is not None else None)
                if problem is not None:
                    raise problem
                if feeding is not None and feeding.done():
                    feeding.result()
                    return
        finally:
            if self.feed is not None and feeding is not None:
                self.feed.stop()
                with suppress(Exception):
                    await asyncio.wait_for(feeding, 20.0)
            await asyncio.to_thread(self._end)

    def status(self) -> dict[str, Any]:
        """What there is to say of it now."""
        return {
            "instance": self.name,
            "role": self.role,
            "engines": self.membership.view.engines,
            "engine": self.engine.status() if self.engine is not None else {},
            "feed": self.feed.status() if self.feed is not None else {},
        }

    def standing(self) -> Standing:
        """What this process finds when it looks at itself."""
        engine = self.engine.status() if self.engine is not None else {}
        manager = self.feed.manager if self.feed is not None and self.feed.speaking else None
        counts = engine.get("store")
        return Standing(
            engine.get("state", "running"),
            problem=engine.get("problem", ""),
            rules=len(self.watch.found.rules),
            symbols=len(self.watch.found.symbols),
            silent=manager.silent if manager is not None else 0,
            idle=manager.idle if manager is not None else 0.0,
            waiting=manager.batcher.depth if manager is not None else 0,
            room=manager.batcher.options.capacity if manager is not None else 0,
            commits=counts.waiting if counts is not None else 0,
            store_problem=counts.problem if counts is not None else "",
            counters={"ticks": engine.get("taken", 0), "firings": engine.get("firings", 0)},
        )

    def _tell(self) -> None:
        """Report to the database, as an engine that is alone does."""
        status = {**self.monitor.status(self.standing()), "shards": list(self.engine.owned) if self.engine else []}
        status["speaks"] = self.feed is not None and self.feed.speaking
        try:
            write_engine(self._store.database, EngineReport(self.name, self._started_at, time.time_ns(), status))
        except TapelineError as error:
            _log.info("this process cannot report itself for now: %s", error)

    def _end(self) -> None:
        failed = self.engine is not None and self.engine.problem is not None
        self.membership.stop(leave=False)
        if self.engine is not None:
            self.engine.stop()
        if not failed:
            with suppress(Exception):
                self.membership.leases.leave()
        self._closing.close()

    def _client(self, address: str) -> Any:
        client = redis_connection(address, answer_seconds=ANSWER_SECONDS, retries=0)
        self._closing.callback(client.close)
        return client

    def _view(self, view: View) -> None:
        if self.engine is not None:
            self.engine.view(view)

    def _healthy(self) -> bool:
        return self.engine is None or self.engine.healthy


async def serve_member(
    settings: Settings,
    store: SqlStore,
    *,
    role: Role = "all",
    log: Path | None = None,
    tell: Callable[[str], object] = print,
) -> None:
    """Run one process of several until it is told to end (SIGTERM, Ctrl-C), or it fails.

    Raises
    ------
    TapelineError
        The settings are wrong, or what it failed with.
    """
    member = await asyncio.to_thread(Member, settings, store, role)
    ending = asyncio.Event()
    with suppress(NotImplementedError, RuntimeError):
        for one in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(one, ending.set)
    path = log or alert_folder(settings) / "logs" / f"{member.name}.log"
    handler = open_log(path, secrets=alert_secrets(settings))
    try:
        scale = settings.alerts.scale
        tell(
            f"Instance  {member.name} ({role}), one of several; lease {scale.lease_seconds:g} s, {scale.shards} shards"
        )
        tell(f"Rules     {rules_path(settings)} and the database ({len(member.watch.found.rules)} in force)")
        tell(f"Log       {path}")
        tell("Ctrl-C ends it: its shards are handed over.")
        begun = time.monotonic()
        await member.run(ending)
        _log.info("ended after %.0f s", time.monotonic() - begun)
    finally:
        close_log(handler)


def _acknowledged(store: SqlStore) -> int:
    statement = select(counter.c.value).where(counter.c.name == "acknowledgement")
    return int(store.database.read(lambda db: db.execute(statement).scalar()) or 0)
