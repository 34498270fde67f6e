"""Signals through the API: asked for from a place on, waited for, acknowledged; another's bot does not exist."""

from __future__ import annotations

import threading
from dataclasses import replace

import jsonschema
import pytest
from sqlalchemy import select

from tapeline.alerts.bots.acknowledgement import Acknowledgement
from tapeline.alerts.bots.bot_settings import BotSettings
from tapeline.alerts.bots.client import SignalClient, acknowledgement_json, read_offer
from tapeline.alerts.delivery.messages import render
from tapeline.alerts.records import Commit
from tapeline.alerts.routing import Route, Router
from tapeline.alerts.store.people_tables import audit
from tapeline.core.errors import DataError
from tapeline.gateway.routes.bots import bot_endpoints
from tapeline.gateway.routes.signals import signal_book, signal_watch
from tests.alerts.bots.support import fire, rule
from tests.gateway.conftest import NOW

BOT = "ann.desk"


@pytest.fixture
def bot(context):
    bot_endpoints(context).create(BOT, "ann", BotSettings(name="desk", dialect="pull"), now=NOW)
    return BOT


def put(context, *numbers, at=NOW):
    router = Router({("ann", "desk"): Route("desk", "bot", (BOT,), 0)}, render)
    fired = [fire(number, at=at) for number in numbers]
    made = tuple(one for firing in fired for one in router.deliveries(firing, rule()))
    context.store.commit(Commit(tuple(fired), deliveries=made))
    return fired


def test_signals_are_replayed_from_a_place_on(context, as_user, bot) -> None:
    fired = put(context, *range(5))
    ann = as_user("ann")
    first = ann.get("/v1/signals", params={"bot": bot, "limit": 3}).json()
    assert [(one["signal"]["sequence"], one["signal"]["id"]) for one in first["items"]] == [
        (place, one.id) for place, one in enumerate(fired[:3], 1)
    ]
    rest = ann.get("/v1/signals", params={"bot": bot, "after": first["cursor"]}).json()
    assert [one["signal"]["sequence"] for one in rest["items"]] == [4, 5]
    again = ann.get("/v1/signals", params={"bot": bot, "after": rest["cursor"]}).json()
    assert again == {"items": [], "cursor": "5"}
    schema = ann.get("/v1/signals/schema").json()
    for one in first["items"]:
        jsonschema.validate(one["signal"], schema)
    assert first["items"][0]["expired"] is False


def test_what_has_expired_is_told_as_expired_and_leaves_no_gap(context, as_user, bot) -> None:
    put(context, 0, at=NOW - 60 * 10**9)
    put(context, 1)
    found = as_user("ann").get("/v1/signals", params={"bot": bot}).json()["items"]
    assert [(one["signal"]["sequence"], one["expired"]) for one in found] == [(1, True), (2, False)]


def test_a_request_waits_for_the_next_signal(context, as_user, bot) -> None:
    ann = as_user("ann")
    answers = []
    waiting = threading.Thread(
        target=lambda: answers.append(ann.get("/v1/signals", params={"bot": bot, "wait": 20}).json())
    )
    waiting.start()
    watch = context.part(signal_watch)
    # Not before it waits: an answer to what was there already would prove nothing.
    for _ in range(2_000):
        if watch._waiting:
            break
        threading.Event().wait(0.005)
    assert watch._waiting
    (fired,) = put(context, 0)
    waiting.join(15)
    assert [one["signal"]["id"] for one in answers[0]["items"]] == [fired.id]
    assert not watch._waiting


def test_a_wait_ends_without_a_signal(context, as_user, bot) -> None:
    found = as_user("ann").get("/v1/signals", params={"bot": bot, "wait": 0.05, "after": 7}).json()
    assert found == {"items": [], "cursor": "7"}


def test_a_bot_acknowledges_and_cannot_take_it_back(context, as_user, bot) -> None:
    (fired,) = put(context, 0)
    ann = as_user("ann")
    ann.get("/v1/signals", params={"bot": bot})
    path = f"/v1/signals/{bot}/{fired.id}/acknowledgement"
    done = ann.put(path, json={"state": "executed", "price": 60_001.5, "quantity": 0.5, "note": "order 17"})
    assert done.status_code == 200
    assert (done.json()["state"], done.json()["price"]) == ("executed", 60_001.5)
    assert ann.put(path, json={"state": "executed"}).json() == done.json()
    assert ann.put(path, json={"state": "rejected"}).status_code == 409
    assert ann.get(f"/v1/signals/{bot}/{fired.id}").json()["note"] == "order 17"
    assert ann.put(f"/v1/signals/{bot}/evt_no/acknowledgement", json={"state": "executed"}).status_code == 404
    for wrong in (
        {"state": "open"},
        {"state": "done"},
        {"state": "executed", "price": -1},
        {"state": "executed", "x": 1},
    ):
        assert ann.put(path, json=wrong).status_code == 422


def test_anothers_bot_does_not_exist(context, as_user, bot) -> None:
    (fired,) = put(context, 0)
    bob = as_user("bob")
    answers = [
        bob.get("/v1/signals", params={"bot": bot}),
        bob.get(f"/v1/signals/{bot}/{fired.id}"),
        bob.put(f"/v1/signals/{bot}/{fired.id}/acknowledgement", json={"state": "executed"}),
        bob.get(f"/v1/bots/{bot}"),
        bob.patch(f"/v1/bots/{bot}", json={"enabled": False}),
        bob.post(f"/v1/bots/{bot}/secrets"),
        bob.delete(f"/v1/bots/{bot}/secrets"),
        bob.delete(f"/v1/bots/{bot}"),
    ]
    assert [one.status_code for one in answers] == [404] * len(answers)
    assert [one.json()["detail"] for one in answers] == ["there is no bot of this id"] * len(answers)
    assert bob.get("/v1/bots").json()["items"] == []
    assert (
        signal_book(context).signal(bot, fired.id) is None or signal_book(context).signal(bot, fired.id).state == "open"
    )


@pytest.mark.parametrize(
    ("scopes", "role", "status"),
    [({"signals:read"}, "user", 403), ({"signals:read", "signals:write"}, "user", 404), (None, "viewer", 403)],
)
def test_a_key_may_only_what_it_was_given(context, as_user, bot, scopes, role, status) -> None:
    ann = as_user("ann", role, scopes=scopes)
    assert ann.get("/v1/signals", params={"bot": bot}).status_code == 200
    assert ann.put(f"/v1/signals/{bot}/evt_1/acknowledgement", json={"state": "executed"}).status_code == status
    blind = as_user("ann", scopes={"rules:read"})
    assert blind.get("/v1/signals", params={"bot": bot}).status_code == 403


def test_nobody_knows_a_stranger(client, bot) -> None:
    assert client.get("/v1/signals", params={"bot": bot}).status_code == 401
    assert client.get("/v1/signals/schema").status_code == 200


class _Api:
    """The client's API over the test's own."""

    def __init__(self, client) -> None:
        self._client = client

    def signals(self, bot, after, *, limit, wait):
        return read_offer(self._client.get("/v1/signals", params={"bot": bot, "after": after, "limit": limit}).json())

    def acknowledge(self, bot, id, said) -> None:
        answer = self._client.put(f"/v1/signals/{bot}/{id}/acknowledgement", json=acknowledgement_json(said))
        if answer.status_code >= 400:
            raise DataError(answer.text)


def test_the_reference_client_takes_them_through_the_api(context, as_user, bot, tmp_path) -> None:
    fired = put(context, *range(3))
    executed = []

    def handle(signal):
        executed.append(signal.id)
        return Acknowledgement("executed", fill_price=signal.price)

    def client():
        return SignalClient(bot, tmp_path / "state", handle, api=_Api(as_user("ann")), clock=lambda: NOW)

    assert client().poll() == 3
    (late,) = put(context, 9, at=NOW - 60 * 10**9)
    assert client().poll() == 1
    assert executed == [one.id for one in fired]
    book = signal_book(context)
    assert [book.signal(bot, one.id).state for one in [*fired, late]] == ["executed"] * 3 + ["rejected"]
    (tmp_path / "state").unlink()
    # Even a client that lost all it knew executes nothing again: we know what it said.
    assert client().poll() == 4
    assert len(executed) == 3


def test_who_gets_an_id_that_was_anothers_gets_nothing_of_his(context, as_user, bot) -> None:
    (fired,) = put(context, 0)
    signal_book(context).number()
    # "ann" and "desk" make the same id as no one else's today; the table must not rely on it.
    context.store.save_endpoint(replace(context.store.endpoint(bot), owner="bob"))
    bob = as_user("bob")
    assert bob.get("/v1/signals", params={"bot": bot}).json()["items"] == []
    assert bob.get(f"/v1/signals/{bot}/{fired.id}").status_code == 404
    path = f"/v1/signals/{bot}/{fired.id}/acknowledgement"
    assert bob.put(path, json={"state": "rejected"}).status_code == 404


def test_a_rule_with_a_signal_goes_through_the_api(as_user) -> None:
    ann = as_user("ann")
    signal = {"action": "open", "side": "long", "quantity": 0.5, "ttl": "PT2S"}
    body = {"id": "r", "condition": "close > 1", "symbols": ["BTCUSDT"], "channels": ["desk"], "signal": signal}
    assert ann.post("/v1/rules", json=body).status_code == 201
    assert ann.get("/v1/rules/r").json()["signal"]["quantity"] == 0.5
    plain = {name: value for name, value in body.items() if name != "signal"} | {"id": "s"}
    assert ann.post("/v1/rules", json=plain).json().get("signal") is None
    wrong = body | {"id": "t", "signal": {"action": "open"}}
    assert ann.post("/v1/rules", json=wrong).status_code == 422


def test_bots_are_registered_changed_and_removed(context, as_user) -> None:
    object.__setattr__(context, "target", replace(context.target, networks=("203.0.113.0/24",)))
    ann = as_user("ann")
    body = {"settings": {"name": "desk", "symbols": {"BTCUSDT": "BTC/USDT"}}, "url": "https://203.0.113.7/hook/secret"}
    made = ann.post("/v1/bots", json=body)
    assert made.status_code == 201
    assert made.headers["Location"] == "/v1/bots/ann.desk"
    assert made.json()["secret"].startswith("whsec_")
    shown = ann.get("/v1/bots/ann.desk").json()
    assert "secret" not in str(shown)
    assert shown["host"] == "203.0.113.7"
    assert ann.post("/v1/bots", json=body).status_code == 409
    changed = ann.patch("/v1/bots/ann.desk", json={"settings": {"name": "desk", "ttl": 2.0}, "enabled": False}).json()
    assert (changed["settings"]["ttl"], changed["enabled"]) == (2.0, False)
    assert ann.patch("/v1/bots/ann.desk", json={"settings": {"name": "other"}}).status_code == 422
    rotated = ann.post("/v1/bots/ann.desk/secrets").json()["secret"]
    assert rotated != made.json()["secret"]
    assert len(context.store.endpoint("ann.desk").secrets) == 2
    ann.delete("/v1/bots/ann.desk/secrets")
    assert len(context.store.endpoint("ann.desk").secrets) == 1
    assert [one["id"] for one in ann.get("/v1/bots").json()["items"]] == ["ann.desk"]
    assert ann.delete("/v1/bots/ann.desk").status_code == 204
    assert ann.get("/v1/bots/ann.desk").status_code == 404
    told = [(one.actor, one.action, one.record) for one in _audited(context)]
    assert told == [("ann", f"bot.{what}", "ann.desk") for what in ("create", "change", "rotate", "retire", "delete")]


@pytest.mark.parametrize(
    "body",
    [
        {"settings": {"name": "desk"}, "url": "https://127.0.0.1/"},
        {"settings": {"name": "desk"}, "url": "http://203.0.113.7/"},
        {"settings": {"name": "desk"}, "url": ""},
        {"settings": {"name": "../x"}, "url": "https://203.0.113.7/"},
        {"settings": {"name": "desk", "dialect": "freqtrade", "symbols": {"A": "A/B"}}, "url": "https://203.0.113.7/"},
        {"settings": {"name": "desk", "owner": "bob"}, "url": "https://203.0.113.7/"},
        {"settings": {"name": "desk", "ttl": 1e9}, "url": "https://203.0.113.7/"},
        {"settings": {"name": "desk"}, "url": "https://203.0.113.7/", "credentials": {"username": "a\r\nb"}},
    ],
)
def test_a_bot_that_may_not_be_is_refused(context, as_user, body) -> None:
    object.__setattr__(context, "target", replace(context.target, networks=("203.0.113.0/24",)))
    assert as_user("ann").post("/v1/bots", json=body).status_code == 422
    assert context.store.endpoints() == ()
    assert _audited(context) == []


def _audited(context):
    statement = select(audit).order_by(audit.c.number)
    return context.store.database.read(lambda db: db.execute(statement).all())
