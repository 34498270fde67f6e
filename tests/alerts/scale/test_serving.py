"""A process as the settings make it: engine and feed in one, fed through the queue of events; and what it refuses."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from tapeline.alerts.engine_reports import EngineReport, read_engines
from tapeline.alerts.external import External
from tapeline.alerts.scale.event_queue import EventQueue
from tapeline.alerts.scale.redis_connection import redis_connection
from tapeline.alerts.scale.serving import Member, instance_name
from tapeline.alerts.store.opening import open_store
from tapeline.alerts.store.sql_store import SqlStore
from tapeline.core.errors import ConfigurationError
from tapeline.core.settings import AlertScaleSettings, AlertSettings, Settings, StreamSettings
from tests.alerts.scale.conftest import RedisServer
from tests.alerts.scale.support import BEGIN, LEASE, SECOND, stored, until

RULE = '{id: top, owner: me, condition: \'pattern("double_top", "1h")\', symbols: [BTCUSDT]}'


def settings_for(folder: Path, address: str | None, redis: str | None, **scale: object) -> Settings:
    (folder / "rules").mkdir(exist_ok=True)
    (folder / "rules" / "one.yaml").write_text(RULE)
    return Settings(
        root=folder,
        alerts=AlertSettings(
            store=address,
            folder=folder / "state",
            scale=AlertScaleSettings(redis=redis, shards=2, lease_seconds=LEASE, **scale),
        ),
        # Nobody answers there: the source is run again and again, and what comes by the queue is taken all the same.
        stream=StreamSettings(binance_stream="ws://127.0.0.1:9", binance_rest="http://127.0.0.1:9"),
    )


def test_an_event_from_another_process_takes_the_way_of_ticks(
    shared_address: str, shared_store: SqlStore, redis_server: RedisServer, tmp_path: Path
) -> None:
    member = Member(settings_for(tmp_path, shared_address, redis_server.address), shared_store, "all")
    client = redis_connection(redis_server.address)

    def reports() -> tuple[EngineReport, ...]:
        return read_engines(shared_store.database, time.time_ns())

    async def story() -> None:
        ending = asyncio.Event()
        running = asyncio.create_task(member.run(ending))
        try:
            EventQueue(client).publish(
                [
                    External(BEGIN, "BTCUSDT", "pattern:double_top:1h", 1.0, event=True),
                    External(BEGIN + SECOND, "NOBODY", "pattern:double_top:1h", 1.0, event=True),
                ]
            )
            await asyncio.to_thread(until, lambda: len(stored(shared_store)) == 1)
            await asyncio.to_thread(until, lambda: member.status()["engine"]["shards"] == [0, 1])
            assert member.status()["feed"]["speaking"]
            await asyncio.to_thread(until, lambda: any(one.ready for one in reports()))
        finally:
            ending.set()
            await running

    asyncio.run(story())
    assert [one[:4] for one in stored(shared_store).values()] == [("top", "BTCUSDT", "firing", BEGIN)]
    assert client.xlen("tapeline:events") == 0
    client.close()


def test_it_refuses_to_be_one_of_several_without_a_shared_queue_and_a_shared_database(
    shared_store: SqlStore, redis_server: RedisServer, tmp_path: Path
) -> None:
    with pytest.raises(ConfigurationError, match="redis is not set"):
        Member(settings_for(tmp_path, None, None), shared_store)
    alone = open_store(tmp_path / "alone.db")
    assert isinstance(alone, SqlStore)
    with pytest.raises(ConfigurationError, match="one PostgreSQL"):
        Member(settings_for(tmp_path, None, redis_server.address), alone)
    alone.close()


def test_every_process_has_a_name_of_its_own(tmp_path: Path) -> None:
    settings = settings_for(tmp_path, None, None, instance="left")
    names = {instance_name(settings) for _ in range(3)}
    assert len(names) == 3
    assert all(name.startswith("left-") for name in names)
