"""A live run that is killed at random instants loses no trade that it acknowledged and doubles none."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
from pathlib import Path

import pytest

from tests.tasks.live_support import DepthExchange, fast_run, running, settings_for, stored, until

pytestmark = pytest.mark.network_shape

REPOSITORY = Path(__file__).parents[2]
KILLS = int(os.environ.get("TAPELINE_SOAK_KILLS", "3"))
"""``make soak-live`` raises it."""


@pytest.mark.timeout(120 + 20 * KILLS)
def test_killed_at_random_instants_nothing_acknowledged_is_lost_and_nothing_doubled(tmp_path):
    generator = random.Random(KILLS)
    acknowledged = tmp_path / "acknowledged"

    async def feed(exchange: DepthExchange) -> None:
        number = 0
        await exchange.until(lambda: any(exchange.sessions.values()), 60)
        while True:
            for _ in range(generator.randint(1, 20)):
                number += 1
                await generator.choice((exchange.trade, exchange.trade, exchange.reorder, exchange.drop))("BTCUSDT")
                await exchange.deepen("BTCUSDT", number % 2, 100.0 + number % 2, float(number))
            await exchange.bad_message(b'{"number":%d' % number)
            await asyncio.sleep(0.02)

    async def run() -> tuple[DepthExchange, int]:
        async with DepthExchange(("BTCUSDT",)).serving() as exchange:
            feeding = asyncio.create_task(feed(exchange))
            lost = 0
            for _ in range(KILLS):
                before = acknowledged.stat().st_size if acknowledged.exists() else 0
                child = await asyncio.create_subprocess_exec(
                    sys.executable, "-m", "tests.tasks.live_child",
                    str(tmp_path), exchange.url, exchange.rest, str(acknowledged),
                    cwd=REPOSITORY, env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
                )  # fmt: skip
                await until(lambda size=before: acknowledged.exists() and acknowledged.stat().st_size > size, 60)
                await asyncio.sleep(generator.uniform(0.0, 0.6))
                child.send_signal(signal.SIGKILL)
                assert await child.wait() == -signal.SIGKILL
                lost += 1
                told = int(acknowledged.read_text().split()[-1])
                assert told >= exchange.ids("BTCUSDT")[0]
            feeding.cancel()
            last_told = int(acknowledged.read_text().split()[-1])
            live = fast_run(exchange.made, settings_for(tmp_path, exchange, drain_seconds=60), stale=None)
            before = stored(tmp_path, "BTCUSDT")
            async with running(live, exchange):
                # The first thing a run does is to move to the lake what the one before had acknowledged.
                moved = stored(tmp_path, "BTCUSDT")
                assert moved[-1] >= last_told
                assert len(moved) >= len(before)
                await exchange.trade("BTCUSDT")
                await until(lambda: live._sink.last_ids["BTCUSDT"] == exchange.ids("BTCUSDT")[-1], 120)
            return exchange, lost

    exchange, lost = asyncio.run(run())
    assert lost == KILLS
    ids = stored(tmp_path, "BTCUSDT")
    assert ids == [number for number in exchange.ids("BTCUSDT") if number >= ids[0]], "each once, none missing"
    assert ids[0] <= exchange.ids("BTCUSDT")[0] + 10, "collecting began with the first trade seen"
