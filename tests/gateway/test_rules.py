from __future__ import annotations

import pytest

BODY = {"condition": "crosses_up(close, 60000)", "symbols": ["BTCUSDT"], "channels": ["desk"]}


@pytest.fixture
def ann(as_user):
    return as_user("ann")


def test_a_rule_is_made_read_replaced_switched_and_removed(ann, context) -> None:
    made = ann.post("/v1/rules", json={**BODY, "id": "btc-60k"})
    assert made.status_code == 201, made.text
    assert made.headers["location"] == "/v1/rules/btc-60k"
    assert made.json()["owner"] == "ann"
    etag = made.headers["etag"]
    assert ann.get("/v1/rules/btc-60k").json() == made.json()

    replaced = ann.put("/v1/rules/btc-60k", json={**BODY, "priority": "high"}, headers={"If-Match": etag})
    assert replaced.status_code == 200, replaced.text
    assert (replaced.json()["priority"], replaced.json()["revision"]) == ("high", 2)

    switched = ann.patch("/v1/rules/btc-60k", json={"enabled": False})
    assert (switched.json()["enabled"], switched.json()["priority"]) == (False, "high")

    assert ann.delete("/v1/rules/btc-60k", headers={"If-Match": switched.headers["etag"]}).status_code == 204
    assert ann.get("/v1/rules/btc-60k").status_code == 404
    history = ann.get("/v1/rules/btc-60k/history").json()["items"]
    assert [(one["revision"], one["deleted"]) for one in history] == [(4, True), (3, False), (2, False), (1, False)]
    assert [row.action for row in context.access.audit.rows(actor="ann")] == [
        "rule.delete",
        "rule.disable",
        "rule.change",
        "rule.create",
    ]
    assert context.access.audit.verify().intact


def test_nobody_overwrites_what_he_has_not_read(ann) -> None:
    etag = ann.post("/v1/rules", json={**BODY, "id": "r"}).headers["etag"]
    assert ann.put("/v1/rules/r", json=BODY).status_code == 428
    changed = ann.put("/v1/rules/r", json={**BODY, "name": "one"}, headers={"If-Match": etag})
    late = ann.put("/v1/rules/r", json={**BODY, "name": "two"}, headers={"If-Match": etag})
    assert late.status_code == 412
    assert late.json()["type"] == "/problems/changed-meanwhile"
    assert ann.get("/v1/rules/r").json()["name"] == "one"
    known = ann.get("/v1/rules/r", headers={"If-None-Match": changed.headers["etag"]})
    assert (known.status_code, known.content) == (304, b"")
    # A weak tag is not good enough for a change.
    weak = ann.put("/v1/rules/r", json=BODY, headers={"If-Match": "W/" + changed.headers["etag"]})
    assert weak.status_code == 412


def test_a_condition_may_be_json(ann) -> None:
    plain = {"all": [{"compare": ["close", ">", 100]}, {"crosses_up": ["close", 60000]}]}
    made = ann.post("/v1/rules", json={**BODY, "condition": plain})
    assert made.status_code == 201, made.text
    assert made.json()["condition"] == "close > 100 and crosses_up(close, 60000)"
    assert made.json()["id"].startswith("rul_")


@pytest.mark.parametrize(
    ("change", "pointer", "words"),
    [
        ({"condition": "rsii(14) < 30"}, "/condition", "rsii"),
        ({"condition": {"compare": ["close", "~", 1]}}, "/condition", "~"),
        ({"condition": "close > "}, "/condition", "character"),
        ({"symbols": ["../etc"]}, "/symbols", ""),
        ({"symbols": ["*", "BTCUSDT"]}, "", "all of them"),
        ({"template": "{symbol.__class__}"}, "/template", "__class__"),
        ({"priority": "urgent"}, "/priority", "low"),
        ({"cooldown": "P400D"}, "/cooldown", "30 days"),
        ({"owner": "bob"}, "/owner", "Extra"),
        ({"revision": 7}, "/revision", "Extra"),
        ({"symbols": [f"S{number}" for number in range(1_001)]}, "/symbols", "1000"),
    ],
)
def test_what_is_wrong_is_told_with_its_place(ann, change, pointer, words) -> None:
    answer = ann.post("/v1/rules", json={**BODY, **change})
    assert answer.status_code == 422, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    errors = answer.json()["errors"]
    assert any(one["pointer"].startswith(pointer) and words in one["detail"] for one in errors), errors
    assert ann.get("/v1/rules").json()["items"] == []


def test_pages_go_through_all_rules_and_each_comes_once(ann, as_user) -> None:
    for number in range(5):
        ann.post("/v1/rules", json={**BODY, "id": f"r{number}", "enabled": number != 3})
    as_user("bob").post("/v1/rules", json={**BODY, "id": "r2b"})
    seen, cursor = [], None
    while True:
        page = ann.get("/v1/rules", params={"limit": 2} | ({"cursor": cursor} if cursor else {})).json()
        seen += [one["id"] for one in page["items"]]
        assert len(page["items"]) <= 2
        cursor = page["cursor"]
        if cursor is None:
            break
    assert seen == ["r0", "r1", "r2", "r3", "r4"]
    assert [one["id"] for one in ann.get("/v1/rules", params={"enabled": "false"}).json()["items"]] == ["r3"]
    assert ann.get("/v1/rules", params={"cursor": "!!"}).status_code == 422
    assert ann.get("/v1/rules", params={"limit": 201}).status_code == 422


def test_an_id_is_taken_once_and_stays_with_its_first_owner(ann, as_user) -> None:
    bob = as_user("bob")
    assert ann.post("/v1/rules", json={**BODY, "id": "mine"}).status_code == 201
    assert ann.post("/v1/rules", json={**BODY, "id": "mine"}).status_code == 409
    ann.delete("/v1/rules/mine")
    refused = bob.post("/v1/rules", json={**BODY, "id": "mine"})
    assert (refused.status_code, "ann" in refused.text) == (409, False)
    again = ann.post("/v1/rules", json={**BODY, "id": "mine"})
    assert again.json()["revision"] == 3


def test_a_quota_holds(ann, context, monkeypatch) -> None:
    from tapeline.alerts.access import quotas

    monkeypatch.setattr(quotas, "QUOTAS", {**quotas.QUOTAS, "rules": 1})
    assert ann.post("/v1/rules", json=BODY).status_code == 201
    refused = ann.post("/v1/rules", json=BODY)
    assert refused.status_code == 403
    assert refused.json()["type"] == "/problems/quota-exceeded"
    assert len(ann.get("/v1/rules").json()["items"]) == 1
