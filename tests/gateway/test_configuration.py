"""Configurations and symbols through the API: whose they are, what is refused, what a conflict answers."""

from __future__ import annotations

from tapeline.alerts.access import quotas
from tapeline.alerts.records import Silence
from tapeline.alerts.rule import Rule
from tests.gateway.conftest import NOW

RULE = {"id": "btc", "condition": "close > 1", "symbols": ["BTCUSDT"]}


def test_a_configuration_goes_there_and_back(as_user) -> None:
    ann = as_user("ann")
    document = {"rules": [RULE], "silences": []}
    plan = ann.post("/v1/configuration/plan", json={"document": document}).json()
    assert [(one["kind"], one["id"], one["action"]) for one in plan["changes"]] == [("rule", "btc", "add")]
    assert ann.get("/v1/rules").json()["items"] == []
    made = ann.put(
        "/v1/configuration/main",
        json={"document": document, "base": plan["base"], "comment": "why"},
        headers={"If-Match": '"r0"'},
    )
    assert made.status_code == 200, made.text
    assert (made.headers["ETag"], made.json()["version"]["comment"]) == ('"r2"', "why")
    assert [one["id"] for one in ann.get("/v1/rules").json()["items"]] == ["btc"]
    exported = ann.get("/v1/configuration")
    assert exported.json()["rules"] == [RULE]
    assert ann.get("/v1/configuration").content == exported.content
    assert "- id: btc" in ann.get("/v1/configuration", params={"format": "yaml"}).text
    again = {"document": exported.json()}
    assert ann.post("/v1/configuration/plan", json=again).json()["changes"] == []
    stale = ann.put("/v1/configuration/main", json=again, headers={"If-Match": '"r1"'})
    assert (stale.status_code, stale.json()["type"].rsplit("/", 1)[-1]) == (412, "changed-meanwhile")
    ann.put("/v1/configuration/main", json={"document": {"rules": []}})
    assert ann.get("/v1/rules").json()["items"] == []
    back = ann.post("/v1/configuration/main/rollback", json={"version": 2}, headers={"If-Match": '"r3"'})
    assert (back.status_code, back.json()["version"]["version"]) == (200, 4)
    assert [one["id"] for one in ann.get("/v1/rules").json()["items"]] == ["btc"]
    first = ann.get("/v1/configuration/main/versions", params={"limit": 3}).json()
    rest = ann.get("/v1/configuration/main/versions", params={"limit": 3, "cursor": first["cursor"]}).json()
    assert [one["version"] for one in first["items"] + rest["items"]] == [4, 3, 2, 1]
    assert ann.get("/v1/configuration/main/versions/2").json()["rules"] == [RULE]


def test_every_fault_is_told_and_nothing_is_changed(as_user, context) -> None:
    context.store.save_rule(Rule(id="hers", owner="bob", condition="close > 1", symbols=("A",)), by="bob", at=1)
    ann = as_user("ann")
    rules = [RULE, {"id": "bad", "condition": "rsii < 3", "symbols": ["../x"], "cooldown": -1, "owner": "bob"}]
    answer = ann.put("/v1/configuration/main", json={"document": {"rules": rules}})
    assert answer.status_code == 422
    pointers = {one["pointer"] for one in answer.json()["errors"]}
    assert pointers >= {"/document/rules[1].condition", "/document/rules[1].cooldown", "/document/rules[1].owner"}
    taken = ann.put("/v1/configuration/main", json={"document": {"rules": [RULE, {**RULE, "id": "hers"}]}})
    assert (taken.status_code, taken.json()["errors"][0]["detail"]) == (422, "the id is taken")
    assert ann.get("/v1/rules").json()["items"] == []
    for body in (
        {"document": {"sirens": []}},
        {"document": []},
        {},
        {"document": {"rules": [1]}},
        {"document": {}, "x": 1},
    ):
        assert ann.put("/v1/configuration/main", json=body).status_code == 422
    assert ann.put("/v1/configuration/main", json={"document": {}}, headers={"If-Match": "r2"}).status_code == 412


def test_quotas_hold_for_documents_too(as_user, context) -> None:
    many = [{**RULE, "id": f"r{number}"} for number in range(501)]
    answer = as_user("ann").put("/v1/configuration/main", json={"document": {"rules": many}})
    assert (answer.status_code, answer.json()["type"].rsplit("/", 1)[-1]) == (403, "quota-exceeded")
    assert context.store.rules() == ()
    assert as_user("ann").put("/v1/configuration/main", json={"document": {"rules": many[:500]}}).status_code == 200


def test_silences_that_have_ended_take_no_room(as_user, context, monkeypatch) -> None:
    monkeypatch.setattr(quotas, "QUOTAS", {**quotas.QUOTAS, "silences": 2})
    for number in range(2):
        context.store.save_silence(Silence(f"past{number}", "ann", {"rule": "*"}, 0, NOW))
    ann = as_user("ann")
    ends = {"matchers": {"rule": "*"}, "begins_at": "2026-01-01T00:00:00Z", "ends_at": "2026-01-02T00:00:00Z"}
    two, three = ([{**ends, "id": f"s{number}"} for number in range(count)] for count in (2, 3))
    refused = ann.put("/v1/configuration/main", json={"document": {"silences": three}})
    assert (refused.status_code, refused.json()["detail"]) == (403, "'ann' may have 2 silences")
    assert ann.put("/v1/configuration/main", json={"document": {"silences": two}}).status_code == 200
    # Those that a document no longer names end, and may be named again.
    assert ann.put("/v1/configuration/main", json={"document": {"silences": []}}).status_code == 200
    assert ann.post("/v1/configuration/main/rollback", json={"version": 2}).status_code == 200


def test_nobody_sees_or_changes_anothers(as_user) -> None:
    ann, bob, viewer = as_user("ann"), as_user("bob"), as_user("eve", "viewer")
    ann.put("/v1/configuration/main", json={"document": {"rules": [RULE]}})
    assert bob.get("/v1/configuration").json()["rules"] == []
    for path in ("/v1/configuration/main/versions", "/v1/configuration/main/versions/1"):
        assert bob.get(path).status_code == 404
    assert bob.post("/v1/configuration/main/rollback", json={"version": 1}).status_code == 404
    assert viewer.put("/v1/configuration/main", json={"document": {}}).status_code == 403
    scoped = as_user("ann", scopes={"rules:read"})
    assert scoped.get("/v1/configuration").status_code == 403


def test_what_was_done_stands_in_the_audit_log(as_user, context) -> None:
    as_user("ann").put("/v1/configuration/main", json={"document": {"rules": [RULE]}, "comment": "new"})
    (row,) = context.access.audit.rows(kind="configuration")
    assert (row.actor, row.action, row.record) == ("ann", "configuration.apply", "main")
    assert context.access.audit.verify().intact


def test_symbols_and_watch_lists(as_user) -> None:
    ann, root = as_user("ann"), as_user("root", "admin")
    kraken = {"symbol": "BTCUSD", "base": "BTC", "quote": "USD", "names": {"kraken": "XBT/USD"}}
    assert ann.put("/v1/symbols", json=kraken).status_code == 403
    assert root.put("/v1/symbols", json=kraken).json()["names"] == {"kraken": "XBT/USD"}
    clash = root.put("/v1/symbols", json={"symbol": "XBTUSD", "names": {"kraken": "XBT/USD"}})
    assert (clash.status_code, clash.json()["detail"]) == (409, "XBT/USD of kraken is BTCUSD already")
    assert root.put("/v1/symbols", json={"symbol": "../x"}).status_code == 422
    assert [one["symbol"] for one in ann.get("/v1/symbols").json()["items"]] == ["BTCUSD"]
    found = ann.get("/v1/symbols/resolve", params={"source": "kraken", "name": "XBT/USD"})
    assert found.json()["symbol"] == "BTCUSD"
    assert ann.get("/v1/symbols/resolve", params={"source": "kraken", "name": "NO/USD"}).status_code == 404
    assert ann.put("/v1/symbols/watchlists/mine", json={"symbols": ["BTCUSD", "BTCUSD"]}).json() == {
        "symbols": ["BTCUSD"]
    }
    assert ann.put("/v1/symbols/watchlists/mine", json={"symbols": ["NONE"]}).status_code == 404
    assert ann.get("/v1/symbols/watchlists/mine").json() == {"symbols": ["BTCUSD"]}
    # Another's list of the same name is another list.
    assert as_user("bob").get("/v1/symbols/watchlists/mine").json() == {"symbols": []}
    assert root.delete("/v1/symbols", params={"symbol": "BTCUSD"}).status_code == 409
    ann.put("/v1/symbols/watchlists/mine", json={"symbols": []})
    assert root.delete("/v1/symbols", params={"symbol": "BTCUSD"}).status_code == 204
    assert root.delete("/v1/symbols", params={"symbol": "BTCUSD"}).status_code == 404
