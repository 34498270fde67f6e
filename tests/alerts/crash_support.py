"""An engine over a tape of trades, in a process of its own: killed and begun again by the crash test.

The venue is a tape of numbered trades, one list for all symbols: whoever connects says how far he is and gets what is
behind it, as from an exchange with a history by id.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
from collections.abc import Callable, Mapping
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path

import numpy as np

from tapeline.alerts.delivery.secret_vault import SecretVault
from tapeline.alerts.delivery.ssrf import TargetRules
from tapeline.alerts.delivery.webhook import WebhookChannel
from tapeline.alerts.feeds.batcher import Tick
from tapeline.alerts.feeds.data_manager import DataManager
from tapeline.alerts.feeds.source_names import SourceName
from tapeline.alerts.routing import Route
from tapeline.alerts.service import AlertEngine, EngineOptions
from tapeline.alerts.store.opening import open_store
from tapeline.alerts.webhook_manager import WebhookManager
from tests.alerts.rules_with_memory import rules_with_memory

SECOND = 1_000_000_000
BEGIN = 1_700_000_000 * SECOND
SYMBOLS = ("BTCUSDT", "ETHUSDT", "SOLUSDT")
KILLS = int(os.environ.get("TAPELINE_ALERT_KILLS", "2"))
TRADES = 6_000 if KILLS > 10 else 1_800
"""A soak has a tape that lasts."""
PACE = 0.004 * KILLS * 6_000 / TRADES
"""The tape takes as long whatever its length: a kill a few tenths of a second."""
KEY = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="


def tape(trades: int = TRADES) -> list[Tick]:
    """Trades of three symbols, a fifth of a second apart, each symbol numbered from 1."""
    random = np.random.default_rng(7)
    prices = 100.0 * np.exp(np.cumsum(random.normal(0, 0.002, (trades, len(SYMBOLS))), axis=0))
    which = random.choice(len(SYMBOLS), trades, p=(0.6, 0.37, 0.03))
    numbers = [0] * len(SYMBOLS)
    found = []
    for at, symbol in enumerate(which.tolist()):
        numbers[symbol] += 1
        price = round(float(prices[at, symbol]), 2)
        found.append(Tick(SYMBOLS[symbol], BEGIN + at * SECOND // 5, price, 1.0, numbers[symbol]))
    return found


class TapeSource:
    """Gives the tape behind what is known already, and waits at its end."""

    def __init__(self, manager: DataManager, positions: Mapping[str, int], done: Path, pace: float) -> None:
        self.manager, self.positions, self.done, self.pace = manager, positions, done, pace
        self.stopping = asyncio.Event()

    async def run(self) -> None:
        waiting = [one for one in tape() if one.sequence > self.positions.get(f"tape:{one.symbol}", -1)]
        for begin in range(0, len(waiting), 50):
            if self.stopping.is_set():
                return
            await asyncio.to_thread(self.manager.take, "tape", waiting[begin : begin + 50])
            await asyncio.sleep(self.pace)
        self.done.touch()
        await self.stopping.wait()

    def stop(self) -> None:
        self.stopping.set()


def permitted(port: int) -> TargetRules:
    """The loopback interface, at one port."""
    return TargetRules(http=True, ports=(port,), networks=("127.0.0.0/8",))


def channel(port: int) -> WebhookChannel:
    """Webhooks to this machine."""
    return WebhookChannel(SecretVault([KEY]), rules=permitted(port))


async def serve(
    folder: Path, url: str, pace: float, stop_at_end: bool, tell: Callable[[int], None] = lambda replayed: None
) -> None:
    """Run the engine; with ``stop_at_end`` until everything was taken and delivered.

    It tells how many batches it went over again, once it has begun.
    """
    store = open_store(folder / "alerts.db")
    port = int(url.rsplit(":", 1)[1].split("/")[0])
    if store.endpoint("hook-1") is None:
        manager = WebhookManager(store, SecretVault([KEY]), {"webhook": channel(port)})
        manager.register("me", "webhook", url, name="hook", id="hook-1")
    done = folder / "done"
    done.unlink(missing_ok=True)
    engine = AlertEngine(
        store,
        folder / "engine",
        {symbol: [SourceName("tape", symbol, stale_after=3_600)] for symbol in SYMBOLS},
        rules=rules_with_memory(("hook",)),
        sources=lambda manager, positions: [TapeSource(manager, positions, done, pace)],
        routes={("me", "hook"): Route("hook", "webhook", ("hook-1",))},
        channels=[channel(port)],
        options=EngineOptions(snapshot=0.25, look=0.2, journal=0.01),
    )
    # Whoever is begun while another one has the folder waits, ready, until that one has been killed.
    if not stop_at_end:
        await engine.stand_by()
    await engine.start()
    tell(engine.status()["replayed"])
    while not (stop_at_end and done.exists()):
        await asyncio.sleep(0.02)
        problem = engine.status()["problem"]
        if problem:
            raise SystemExit(problem)
    await asyncio.sleep(0.2)
    await engine.stop()
    store.close()


def serve_until_killed(folder: Path, url: str, told: Connection) -> None:
    """An engine in a process of its own."""
    asyncio.run(serve(folder, url, PACE, False, told.send))


def begin(folder: Path, url: str) -> tuple[BaseProcess, Connection]:
    """Such a process, forked from a server that has everything imported, and the end of what it tells."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    told, theirs = context.Pipe(duplex=False)
    process = context.Process(target=serve_until_killed, args=(folder, url, theirs), daemon=True)
    process.start()
    theirs.close()
    return process, told
