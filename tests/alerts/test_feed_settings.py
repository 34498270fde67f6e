"""The feeds of the settings: who is asked for what, and who takes over when Binance is silent."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from tapeline.alerts.feed_settings import NamesWithPolled, news_sources, polled_sources
from tapeline.alerts.feeds.batcher import SECOND, Batcher, Tick
from tapeline.alerts.feeds.data_manager import DataManager
from tapeline.alerts.feeds.polling import Poller
from tapeline.alerts.feeds.source_names import SourceName
from tapeline.core.settings import Settings
from tapeline.streams.http_client import RequestsClient
from tapeline.streams.timing import Timing

MINUTE = 60 * SECOND
BEGIN = 1_767_225_600 * SECOND


class Yahoo:
    """Answers with three complete minutes from the beginning."""

    def __init__(self) -> None:
        self.paths: list[str] = []

    async def get(self, path: str, parameters: Mapping[str, str]) -> bytes:
        self.paths.append(path)
        stamps = [(BEGIN + number * MINUTE) // SECOND for number in range(3)]
        quote = {name: [10.0, 11.0, 12.0] for name in ("open", "high", "low", "close", "volume")}
        result = {"meta": {"dataGranularity": "1m"}, "timestamp": stamps, "indicators": {"quote": [quote]}}
        return json.dumps({"chart": {"result": [result], "error": None}}).encode()


def test_yahoo_takes_over_from_a_binance_that_is_silent_and_its_minutes_are_trades(tmp_path: Path) -> None:
    settings = Settings(root=tmp_path, alerts={"yahoo": {"symbols": {"BTCUSDT": "BTC-USD"}}})
    names = NamesWithPolled(settings.alerts, lambda symbol: [SourceName("binance", symbol, 5.0)], dict)
    now = [0.0]
    timing = Timing(monotonic=lambda: now[0], wall=lambda: BEGIN + 10 * MINUTE + int(now[0] * SECOND))
    batcher = Batcher({"BTCUSDT": 0})
    manager = DataManager(batcher, timing=timing)
    manager.watch("BTCUSDT", names("BTCUSDT"))
    manager.take("binance", [Tick("BTCUSDT", BEGIN + 30 * SECOND, 9.0, 1.0, 1)])
    yahoo = Yahoo()
    (poller,) = polled_sources(settings, manager, {"yahoo": yahoo})
    assert isinstance(poller, Poller)

    async def story() -> None:
        await poller.poll(poller.targets[0])
        assert manager.speaking("BTCUSDT") == "binance"
        now[0] = 6.0
        manager.check()

    asyncio.run(story())
    assert yahoo.paths == ["/v8/finance/chart/BTC-USD"]
    assert manager.speaking("BTCUSDT") == "yahoo"
    batch = batcher.flush(0, force=True)
    assert batch is not None
    trades = batch[0].records == 0
    # Of the first minute only what lies behind what Binance gave.
    assert np.unique(batch[0].prices[trades]).tolist() == [9.0, 10.0, 11.0, 12.0]
    assert (batch[0].times[trades][1:] > BEGIN + 30 * SECOND).all()


def test_names_come_from_the_settings_the_universe_and_binance(tmp_path: Path) -> None:
    alerts = Settings(
        root=tmp_path,
        alerts={
            "unlisted": ["MSFT"],
            "alpha_vantage": {"key": "k", "symbols": {"MSFT": "MSFT"}},
            "yahoo": {"enabled": True},
        },
    ).alerts
    universe = {"MSFT": {"yahoo": "MSFT.Y"}, "EURUSD": {"yahoo": "EURUSD=X", "alpha_vantage": "EURUSD"}}
    names = NamesWithPolled(alerts, lambda symbol: [SourceName("binance", symbol)], lambda: universe)
    found = {symbol: [(one.source, one.name) for one in names(symbol)] for symbol in ("MSFT", "EURUSD", "BTCUSDT")}
    assert found == {
        "MSFT": [("alpha_vantage", "MSFT"), ("yahoo", "MSFT.Y")],
        "EURUSD": [("binance", "EURUSD"), ("alpha_vantage", "EURUSD"), ("yahoo", "EURUSD=X")],
        "BTCUSDT": [("binance", "BTCUSDT")],
    }
    vantage, _ = names("MSFT")
    assert vantage.own_clock
    # 25 calls a day for two symbols: three rounds of two hours may be missing.
    assert vantage.stale_after == pytest.approx(3 * 2 * 86_400 / 25)
    closed = Settings(root=tmp_path, alerts={"alpha_vantage": {"symbols": {"MSFT": "MSFT"}}})
    assert polled_sources(closed, DataManager(Batcher({}))) == []


@pytest.fixture
def heard() -> Iterator[tuple[str, list[dict[str, str]]]]:
    """A server that answers as X does, and the headers that it saw."""
    seen: list[dict[str, str]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seen.append({name.lower(): value for name, value in self.headers.items()})
            body = (
                b'{"data": [{"id": "1", "text": "Bitcoin plunges", "created_at": "2026-01-01T00:00:00Z"}], "meta": {}}'
            )
            self.send_response(200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}", seen
    server.shutdown()
    server.server_close()


def test_x_is_asked_with_its_token_and_its_posts_move_the_sentiment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, heard: tuple[str, list[dict[str, str]]]
) -> None:
    from tapeline.alerts.feeds import news

    address, seen = heard
    monkeypatch.setattr(news, "X", address)
    (tmp_path / "words.json").write_text('{"plunges": -0.8}')
    wanted = {"x_token": "secret-token", "questions": ["bitcoin"], "names": {"A": ["bitcoin"]}, "lexicon": "words.json"}
    settings = Settings(root=tmp_path, alerts={"news": wanted})
    batcher = Batcher({"A": 0}, place_of=lambda symbol, key: 7)
    manager = DataManager(batcher)
    manager.watch("A", [SourceName("tape", "A")])
    (poller,) = news_sources(settings, manager)
    assert isinstance(poller, Poller)
    asyncio.run(poller.poll("bitcoin"))
    assert seen[0]["authorization"] == "Bearer secret-token"
    assert poller.counters.failed == 0
    assert manager.counters.values > 0
    found = batcher.flush(0, force=True)
    assert found is not None
    assert -0.8 in found[0].prices.tolist()
    assert "secret-token" not in repr(vars(RequestsClient(address))) + repr(settings)


def test_a_poller_whose_next_call_is_an_hour_away_ends_at_once_and_takes_other_symbols(tmp_path: Path) -> None:
    settings = Settings(root=tmp_path, alerts={"yahoo": {"symbols": {"A": "A-1"}, "every_seconds": 3_600}})
    batcher = Batcher({"A": 0})
    manager = DataManager(batcher)
    manager.watch("A", [SourceName("yahoo", "A-1", own_clock=True)])
    yahoo = Yahoo()
    (poller,) = polled_sources(settings, manager, {"yahoo": yahoo})
    assert isinstance(poller, Poller)

    async def story() -> None:
        running = asyncio.create_task(poller.run())
        while not poller.counters.polls:
            await asyncio.sleep(0)
        await poller.subscribe(["B-1", "A-1"])
        await poller.unsubscribe(["A-1"])
        assert poller.targets == ["B-1"]
        poller.stop()
        async with asyncio.timeout(10):
            await running

    asyncio.run(story())
