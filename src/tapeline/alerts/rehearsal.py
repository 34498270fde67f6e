"""Going through it once beforehand: what is imported, loaded and compiled at the first time is there when it counts."""

from __future__ import annotations

import importlib
import tempfile
from pathlib import Path
from typing import Final

from tapeline.alerts.delivery.messages import render
from tapeline.alerts.feeds.batcher import Batcher, Tick
from tapeline.alerts.pipeline import AlertPipeline
from tapeline.alerts.routing import Route, Router
from tapeline.alerts.rule import Rule
from tapeline.alerts.store.opening import open_store
from tapeline.core.nanoseconds import SECOND

SYMBOL: Final = "BTCUSDT"
_AT_BEGIN: Final = (
    "requests",
    "websockets.asyncio.client",
    "websockets.asyncio.server",
    "tapeline.alerts.feeds.binance",
    "tapeline.alerts.feeds.news",
    "tapeline.alerts.feeds.polling",
    "tapeline.lake.lake",
)
"""What a start imports once it has its sources; some of it only where the settings ask for it."""
_CONDITIONS: Final = (
    "crosses_up(close, 100)",
    'rsi(14, "1h") < 30 or close > bollinger_upper(20, 2)',
    "volume_ratio(20) > 3",
)


def rehearse() -> int:
    """Take a few trades through kernel, processor, journal and a database of its own; how many firings were stored.

    Python's modules, the compiled kernel and the statements of the store are in memory afterwards. Nothing is left
    on the disk, and nobody is told of anything.

    Examples
    --------
    >>> rehearse()
    2
    """
    for module in _AT_BEGIN:
        importlib.import_module(module)
    with tempfile.TemporaryDirectory(prefix="tapeline-rehearsal-") as name:
        folder = Path(name)
        store = open_store(folder / "alerts.db")
        router = Router({("me", "hook"): Route("hook", "webhook", ("none",))}, render)
        try:
            for begin in (1, 3):
                pipeline = AlertPipeline(store, router, folder / "engine", [SYMBOL])
                try:
                    pipeline.recover()
                    pipeline.set_rules(
                        [
                            Rule(id=f"r{number}", owner="me", condition=text, symbols=(SYMBOL,), channels=("hook",))
                            for number, text in enumerate(_CONDITIONS)
                        ]
                    )
                    batcher = Batcher(pipeline.evaluator.symbols)
                    prices = (99.0, 101.0)
                    ticks = [Tick(SYMBOL, (begin + n) * SECOND, one, 1.0, begin + n) for n, one in enumerate(prices)]
                    batcher.take_all(ticks, "rehearsal")
                    found = batcher.flush(0, force=True)
                    if found is not None:
                        pipeline.take(*found).result(30.0)
                    pipeline.snapshot()
                finally:
                    pipeline.close()
            for claim in store.claim("webhook", limit=10, lease=SECOND, now=10 * SECOND):
                store.begin_attempt(claim, now=10 * SECOND)
            return store.count_firings()
        finally:
            store.close()
