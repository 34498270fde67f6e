"""Alerts that come in: by a token in the address, from where they may, once, and never with the token in a log."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime

import pytest
from fastapi.testclient import TestClient

from tapeline.alerts.bots.bot_settings import BotSettings
from tapeline.alerts.bots.inbound_queue import InboundQueue
from tapeline.alerts.bots.inbound_tokens import InboundSettings
from tapeline.alerts.delivery.messages import render
from tapeline.alerts.limits.local import LocalLimiter
from tapeline.alerts.records import Commit
from tapeline.alerts.routing import Route, Router
from tapeline.core.errors import ConfigurationError
from tapeline.core.settings import load_settings
from tapeline.gateway.app import create_app
from tapeline.gateway.routes.bots import bot_endpoints
from tapeline.gateway.routes.inbound import PER_SOURCE, inbound_tokens
from tapeline.gateway.routes.signals import signal_book
from tests.alerts.bots.support import fire, rule
from tests.gateway.conftest import NOW

TIME = f"{datetime.fromtimestamp(NOW // 10**9, UTC):%Y-%m-%dT%H:%M:%SZ}"
SAID = {"strategy": "macd", "order_id": "Long", "time": TIME, "ticker": "BINANCE:BTCUSDT", "action": "buy"}


@pytest.fixture
def token(context) -> str:
    return inbound_tokens(context).create("ann", "tv", InboundSettings(), now=NOW)


def post(client, token, said=None, **options):
    body = json.dumps({**SAID, **(said or {})})
    options = {"content": body, "headers": {"Content-Type": "text/plain; charset=utf-8"}} | options
    return client.post(f"/v1/inbound/tradingview/{token}", **options)


def queue(context) -> InboundQueue:
    return InboundQueue(context.store.database)


@pytest.mark.parametrize("kind", ["text/plain; charset=utf-8", "application/json; charset=utf-8", None])
def test_an_alert_is_on_the_disk_before_it_is_answered_and_taken_once(context, client, token, kind) -> None:
    headers = {"Content-Type": kind} if kind else {}
    answer = post(client, token, headers=headers)
    assert (answer.status_code, answer.json()) == (202, {"status": "taken"})
    (found,) = queue(context).waiting()
    assert (found.owner, found.source, json.loads(found.body)) == ("ann", "tv", SAID)
    again = post(client, token, headers=headers)
    assert (again.status_code, again.json()) == (202, {"status": "known"})
    assert len(queue(context).waiting()) == 1


@pytest.mark.parametrize(
    ("options", "status"),
    [
        ({"content": b'{"strategy": "a", "strategy": "b"}'}, 422),
        ({"content": json.dumps(SAID)[:-1] + ', "price": NaN}'}, 422),
        (
            {
                "content": json.dumps(SAID)[:-1] + ', "price": Infinity}',
                "headers": {"Content-Type": "application/json"},
            },
            400,
        ),
        ({"content": b"BTC crossed 60000"}, 422),
        ({"content": b" " * 9_000}, 413),
        ({"content": (b" " for _ in range(9_000))}, 413),
        ({"headers": {"Content-Type": "application/x-www-form-urlencoded"}}, 415),
        ({"said": {"time": "2020-01-01T00:00:00Z"}}, 403),
        ({"said": {"owner": "bob"}}, 422),
    ],
)
def test_what_may_not_come_in_is_refused_and_leaves_nothing(context, client, token, options, status) -> None:
    answer = post(client, token, **options)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert queue(context).waiting() == ()


def test_an_unknown_token_is_an_address_that_is_not_there(client, token) -> None:
    for wrong in (token[:-1] + ("A" if token[-1] != "A" else "B"), "x", "a" * 200):
        assert post(client, wrong).status_code == 404
    assert post(client, "a" * 201).status_code == 422


@pytest.mark.parametrize(
    ("peer", "forwarded", "status"),
    [
        ("52.89.214.238", None, 202),
        ("203.0.113.9", None, 403),
        ("203.0.113.9", "52.89.214.238", 403),
        ("10.0.0.1", "52.89.214.238", 202),
        ("10.0.0.1", "52.89.214.238, 203.0.113.9", 403),
    ],
)
def test_the_network_is_the_second_layer_and_only_a_trusted_proxy_is_believed(
    context, token, peer, forwarded, status
) -> None:
    gateway = context.settings.alerts.gateway.model_copy(
        update={"inbound_networks": ("52.89.214.238/32", "34.212.75.30"), "trusted_proxies": ("10.0.0.0/8",)}
    )
    alerts = context.settings.alerts.model_copy(update={"gateway": gateway})
    object.__setattr__(context, "settings", context.settings.model_copy(update={"alerts": alerts}))
    client = TestClient(create_app(context), client=(peer, 1), raise_server_exceptions=False)
    headers = {"Content-Type": "text/plain"} | ({"X-Forwarded-For": forwarded} if forwarded else {})
    assert post(client, token, headers=headers).status_code == status


def test_a_token_is_in_no_log_and_no_audit_row(context, client, as_user, caplog) -> None:
    with caplog.at_level(logging.DEBUG):
        made = as_user("ann").post("/v1/sources", json={"source": "macd", "settings": {"sides": ["buy"]}}).json()
        post(client, made["token"])
        post(client, made["token"], {"action": "sell", "order_id": "2"})
        as_user("ann").post("/v1/sources/macd/token")
    # What the test's own client writes is not ours.
    written = [one.getMessage() for one in caplog.records if one.name.startswith("tapeline")]
    assert any("/v1/inbound/tradingview/{token}" in line for line in written)
    assert not [line for line in written if made["token"] in line]
    tables = ("alert_audit", "alert_inbound", "alert_inbound_token", "alert_repeated")
    for table in tables:
        rows = context.store.database.read(lambda db, name=table: db.exec_driver_sql(f"SELECT * FROM {name}").all())
        assert made["token"] not in str(rows), table


def test_one_source_cannot_flood_the_queue(context, client, token) -> None:
    object.__setattr__(context, "limiter", LocalLimiter(lambda: 0))
    assert post(client, token).status_code == 202
    context.limiter.take("inbound:ann:tv", PER_SOURCE, PER_SOURCE.limit - 1)
    refused = post(client, token, {"order_id": "2"})
    assert (refused.status_code, refused.headers["Retry-After"]) == (429, "1")
    assert len(queue(context).waiting()) == 1


def test_sources_are_made_changed_rotated_and_removed_by_their_owner_alone(context, client, as_user) -> None:
    ann, bob = as_user("ann"), as_user("bob")
    made = ann.post("/v1/sources", json={"source": "macd", "settings": {"sides": ["buy"]}})
    assert made.status_code == 201
    token = made.json()["token"]
    assert made.json()["path"] == f"/v1/inbound/tradingview/{token}"
    assert ann.post("/v1/sources", json={"source": "macd"}).status_code == 409
    assert bob.post("/v1/sources", json={"source": "macd"}).status_code == 201
    assert post(client, token, {"action": "sell"}).status_code == 403
    assert ann.put("/v1/sources/macd", json={"sides": ["sell"]}).json()["settings"]["sides"] == ["sell"]
    assert post(client, token, {"action": "sell"}).status_code == 202
    new = ann.post("/v1/sources/macd/token", params={"grace": 0}).json()["token"]
    assert post(client, token, {"action": "sell", "order_id": "2"}).status_code == 404
    assert post(client, new, {"action": "sell", "order_id": "2"}).status_code == 202
    listed = ann.get("/v1/sources").json()["items"]
    assert [one["source"] for one in listed] == ["macd"]
    assert "token" not in listed[0]
    received = ann.get("/v1/sources/received").json()["items"]
    assert [one["state"] for one in received] == ["waiting", "waiting"]
    assert bob.get("/v1/sources/received").json()["items"] == []
    assert bob.delete("/v1/sources/macd").status_code == 204
    assert post(client, new, {"action": "sell", "order_id": "3"}).status_code == 202
    for answer in (
        as_user("eve").put("/v1/sources/macd", json={}),
        as_user("eve").post("/v1/sources/macd/token"),
        as_user("eve").delete("/v1/sources/macd"),
    ):
        assert answer.status_code == 404
    assert ann.put("/v1/sources/macd", json={"owner": "bob"}).status_code == 422


def test_a_short_token_in_the_settings_is_refused_at_the_start() -> None:
    with pytest.raises(ConfigurationError, match=r"inbound_tokens\.ann") as refusal:
        load_settings(alerts={"gateway": {"inbound_tokens": {"ann": "changeme"}}})
    assert "changeme" not in str(refusal.value)


def test_freqtrade_tells_what_became_of_an_order(context, client, as_user, token) -> None:
    bot_endpoints(context).create("ann.desk", "ann", BotSettings(name="desk", dialect="pull"), now=NOW)
    bot_endpoints(context).create("bob.desk", "bob", BotSettings(name="desk", dialect="pull"), now=NOW)
    router = Router({("ann", "desk"): Route("desk", "bot", ("ann.desk",), 0)}, render)
    fired = fire(at=NOW)
    context.store.commit(Commit((fired,), deliveries=router.deliveries(fired, rule())))
    signal_book(context).number()
    said = {"type": "entry_fill", "enter_tag": fired.id, "trade_id": "7", "open_rate": "60001.5", "amount": "0.5"}

    def tell(bot="ann.desk", **changes):
        return client.post(f"/v1/inbound/freqtrade/{token}", params={"bot": bot}, json=said | changes)

    assert tell(bot="bob.desk").status_code == 404
    assert tell(type="status").json() == {"status": "known"}
    assert tell(enter_tag="evt_other").status_code == 404
    assert tell().json() == {"status": "taken"}
    found = as_user("ann").get(f"/v1/signals/ann.desk/{fired.id}").json()
    assert (found["state"], found["price"], found["quantity"], found["note"]) == ("executed", 60_001.5, 0.5, "trade 7")
    assert tell(type="entry_cancel").status_code == 409
