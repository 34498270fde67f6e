"""Bots in the settings file, and the desk beside a running engine."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from tapeline.alerts.bots.configured import DeskUpkeep, bot_settings
from tapeline.alerts.bots.desk import BotDesk
from tapeline.alerts.bots.inbound_alert import read_alert
from tapeline.alerts.bots.inbound_queue import InboundQueue
from tapeline.alerts.bots.inbound_tokens import InboundSettings, InboundSource
from tapeline.alerts.bots.signal import read_signal
from tapeline.alerts.bots.signal_book import SignalBook
from tapeline.alerts.delivery.secret_vault import new_key
from tapeline.alerts.engine_changes import routes_of
from tapeline.alerts.feeds.batcher import Tick
from tapeline.alerts.feeds.source_names import SourceName
from tapeline.alerts.routing import Route
from tapeline.alerts.rule import Rule
from tapeline.alerts.service import AlertEngine
from tapeline.alerts.service_settings import alert_secrets, make_channels
from tapeline.core.errors import ConfigurationError
from tapeline.core.settings import Settings
from tests.alerts.bots.support import Freqtrade, loopback, serving

KEY = new_key()


@pytest.fixture
def store(own_store):
    return own_store


def settings_of(url, **bot):
    rules = loopback(url)
    channel = {
        "kind": "bot",
        "owner": "ann",
        "address": url,
        "bot": {"dialect": "freqtrade", "ttl": 2.5, "symbols": {"BTCUSDT": "BTC/USDT"}, **bot},
        "credentials": {"username": "tapeline", "password": "correct horse"},
    }
    alerts = {
        "channels": {"desk": channel},
        "keys": [KEY],
        "plain_http": True,
        "permitted_ports": rules.ports,
        "permitted_networks": rules.networks,
    }
    return Settings(alerts=alerts)


def test_a_bot_of_the_settings_is_kept_once_and_anew_where_it_changed(store) -> None:
    url = "http://127.0.0.1:8080/"
    settings = settings_of(url)
    make_channels(settings, store)
    first = store.endpoint("ann.desk")
    assert first.channel == "bot"
    make_channels(settings, store)
    assert store.endpoint("ann.desk") == first
    make_channels(settings_of(url, ttl=1.0), store)
    assert store.endpoint("ann.desk").settings["ttl"] == 1.0
    assert "correct horse" in alert_secrets(settings)
    assert routes_of([first]) == {("ann", "desk"): Route("desk", "bot", ("ann.desk",), 2_500_000_000)}
    with pytest.raises(ConfigurationError, match=r"alerts\.channels\.desk.*ttl"):
        bot_settings("desk", settings_of(url, ttl=1e9).alerts.channels["desk"])


def test_a_running_engine_trades_what_fires_and_what_comes_in(store, tmp_path) -> None:
    bot, entered = Freqtrade(pairs=("BTC/USDT", "ETH/USDT")), threading.Event()

    def handle(asked):
        answer = bot(asked)
        if len(bot.trades) == 2:
            entered.set()
        return answer

    intent = {"action": "open", "side": "long", "quantity": 0.5}
    rule = Rule(id="r", owner="ann", condition="close > 100", symbols=("BTCUSDT",), channels=("desk",), signal=intent)

    async def run(url) -> None:
        settings = settings_of(url, ttl=30.0, symbols={"BTCUSDT": "BTC/USDT", "ETHUSDT": "ETH/USDT"})
        channels, _ = make_channels(settings, store)
        engine = AlertEngine(
            store,
            tmp_path,
            {"BTCUSDT": [SourceName("test", "BTCUSDT")]},
            rules=[rule],
            sources=lambda manager, positions: [
                DeskUpkeep(lambda: BotDesk(store, engine.router, wake=engine.wake, every=0.02))
            ],
            channels=channels,
        )
        await engine.start()
        now = time.time_ns()
        engine.manager.take("test", [Tick("BTCUSDT", now, 101.0, 1.0, 1)])
        said = (
            b'{"strategy": "s", "time": "%s", "ticker": "ETHUSDT", "position": "short", "contracts": 1, "price": 10}'
            % time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now / 1e9)).encode()
        )
        source = InboundSource("ann", "tv", InboundSettings())
        await asyncio.to_thread(InboundQueue(store.database).put, source, read_alert(said), said, address="", now=now)
        assert await asyncio.to_thread(entered.wait, 20)
        await engine.stop()

    with serving(handle) as url:
        asyncio.run(run(url))
    assert sorted((one["pair"], one["is_short"]) for one in bot.trades) == [("BTC/USDT", False), ("ETH/USDT", True)]
    found = SignalBook(store.database).after("ann.desk", 0)
    assert [one.state for one in found] == ["executed", "executed"]
    assert {read_signal(one.body).rule for one in found} == {"r", "tradingview:tv"}
