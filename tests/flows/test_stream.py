"""The stream flow against a scripted exchange: what it stores, shows and tells, and how it ends."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tapeline.core.errors import ConfigurationError
from tapeline.core.schemas import RAW_DEPTH
from tapeline.core.symbol import Symbol
from tapeline.lake.lake import Lake
from tapeline.streams.alerts import FeedLostError
from tasks.live_venue import TICK
from tests.flows.artifacts import artifacts_shown
from tests.monitoring.fake_services import FakeServices, fake_services
from tests.tasks.live_support import DepthExchange, stored

pytestmark = [pytest.mark.prefect, pytest.mark.network_shape]


@pytest.fixture
def services() -> Iterator[FakeServices]:
    with fake_services() as running:
        yield running


@pytest.fixture
def exchange() -> Iterator[DepthExchange]:
    """An exchange in a thread of its own, as the flow takes the main one; it trades until it is told to end."""
    made, started, ended = DepthExchange(("BTCUSDT",)), threading.Event(), threading.Event()
    made.most = 40

    async def serve() -> None:
        async with made.serving():
            started.set()
            number = 0
            while not ended.is_set():
                await asyncio.sleep(0.005)
                if any(made.sessions.values()) and len(made.made["BTCUSDT"]) < made.most:
                    number += 1
                    await made.trade("BTCUSDT")
                    await made.quote("BTCUSDT", number)
                    await made.deepen("BTCUSDT", 0, 100.0, float(number))

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    assert started.wait(10)
    yield made
    ended.set()
    thread.join(10)


@pytest.fixture
def project(tmp_path: Path, prefect_server: str, exchange, services, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TAPELINE_SETTINGS", raising=False)
    for name, value in {
        "ROOT": str(tmp_path),
        "STREAM__BINANCE_STREAM": exchange.url,
        "STREAM__BINANCE_REST": exchange.rest,
        "STREAM__DRAIN_SECONDS": "0.2",
        "STREAM__REPORT_SECONDS": "0.2",
        "NOTIFICATIONS__URLS": f'["{services.telegram_url()}"]',
    }.items():
        monkeypatch.setenv(f"TAPELINE_{name}", value)
    return tmp_path


def test_a_run_stores_everything_and_renews_one_table_and_one_progress(project, exchange, services):
    from flows.stream import stream

    with artifacts_shown("stream") as shown:
        status = stream(depth_levels=3, depth_seconds=0.1, maximum_seconds=3.0)
    assert stored(project, "BTCUSDT") == exchange.ids("BTCUSDT")
    assert status.symbols[0]["trades"] == status.symbols[0]["quotes"] == 40
    assert len(Lake(project / "data").read(RAW_DEPTH, Symbol.parse("BTCUSDT"), TICK)) >= 6
    (rows,) = shown.of("table", "stream-binance")  # one: renewed in place
    assert (rows[0]["symbol"], rows[0]["trades"], rows[0]["quarantined"]) == ("BTCUSDT", 40, 0)
    assert shown.of("progress") == [100.0]
    # The fake's trades are stamped years ago: the venue's clock differs from ours, and people are told once.
    told = [message for message in services.texts() if "drift" in message]
    assert len(told) == 1


def test_a_terminated_run_ends_in_good_order(project, exchange):
    from flows.stream import stream

    def later() -> None:
        while len(exchange.made["BTCUSDT"]) < exchange.most:
            exchange_ready.wait(0.05)
        os.kill(os.getpid(), signal.SIGTERM)

    exchange_ready = threading.Event()
    thread = threading.Thread(target=later)
    thread.start()
    status = stream(channels=["aggTrade"])
    thread.join()
    assert stored(project, "BTCUSDT") == exchange.ids("BTCUSDT")
    assert status.rows == 40


def test_a_lost_feed_fails_the_flow_and_its_hooks_tell(project, exchange, services, monkeypatch):
    from flows.stream import stream

    exchange.refuse_connections = 1_000
    monkeypatch.setenv("TAPELINE_STREAM__MAXIMUM_ATTEMPTS", "1")
    with pytest.raises(FeedLostError, match="gave up"):
        stream()
    told = "\n".join(services.texts())
    assert "feed binance-0: gave up" in told
    assert "flow stream failed" in told
    with pytest.raises(ConfigurationError, match="has no live feed"):
        stream(source="nowhere")
