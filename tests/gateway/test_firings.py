from __future__ import annotations

import json

import pytest

from tests.gateway.conftest import NOW
from tests.gateway.samples import SECOND, keep_firings


@pytest.fixture
def ann(as_user):
    return as_user("ann")


def test_firings_come_in_pages_the_newest_first_and_only_the_callers(ann, context) -> None:
    mine = keep_firings(context.store, "ann", *(NOW + number * SECOND for number in range(5)))
    keep_firings(context.store, "bob", NOW + 10 * SECOND)
    seen, cursor = [], None
    while True:
        page = ann.get("/v1/firings", params={"limit": 2} | ({"cursor": cursor} if cursor else {})).json()
        seen += [one["id"] for one in page["items"]]
        # What is written meanwhile shifts nothing.
        keep_firings(context.store, "ann", NOW + (100 + len(seen)) * SECOND)
        cursor = page["cursor"]
        if cursor is None:
            break
    assert seen == [one.id for one in reversed(mine)]


def test_firings_are_looked_for(ann, context) -> None:
    mine = keep_firings(context.store, "ann", NOW, NOW + SECOND, NOW + 2 * SECOND)

    def found(**asked):
        answer = ann.get("/v1/firings", params=asked)
        assert answer.status_code == 200, answer.text
        return {one["id"] for one in answer.json()["items"]}

    assert found(since="2026-01-01T00:00:01Z") == {mine[1].id, mine[2].id}
    assert found(since="2026-01-01T01:00:01+01:00", until="2026-01-01T00:00:02Z") == {mine[1].id}
    assert found(symbol="ETHUSDT") == set()
    assert found(rule="ann-rule", kind=["firing", "resolved"]) == {one.id for one in mine}
    assert found(kind="resolved") == set()
    assert ann.get("/v1/firings", params={"since": "2026-01-01T00:00:01"}).status_code == 422
    assert ann.get("/v1/firings", params={"cursor": "x"}).json()["errors"][0]["pointer"] == "cursor"


def test_a_filter_that_is_misspelt_does_not_answer_with_everything(ann) -> None:
    answer = ann.get("/v1/firings", params={"symbl": "BTCUSDT"})
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["pointer"] == "symbl"
    assert "symbol" in answer.json()["hint"]


def test_a_firing_explains_itself(ann, context) -> None:
    (one,) = keep_firings(context.store, "ann", NOW + 123_456_789)
    answer = ann.get(f"/v1/firings/{one.id}").json()
    assert answer["ts"] == "2026-01-01T00:00:00.123456789Z"
    assert answer["conditions"] == [
        {"text": "close > 60000", "left": 60_001.5, "right": 60_000.0, "held": True},
        {"text": "rsi(14) < 30", "left": None, "right": 30.0, "held": None},
    ]


def test_who_takes_notice_first_stays(as_user, context) -> None:
    (one,) = keep_firings(context.store, "ann", NOW)
    path = f"/v1/firings/{one.id}/acknowledgement"
    first = as_user("ann").post(path, json={"comment": "looking"})
    second = as_user("root", "admin").post(path, json={})
    assert (first.json()["acknowledged_by"], second.json()["acknowledged_by"]) == ("ann", "ann")
    assert [row.action for row in context.access.audit.rows(id=one.id)] == ["firing.acknowledge"]
    assert context.store.acknowledgements()[0].comment == "looking"


def test_an_export_has_every_firing_once(ann, context, monkeypatch) -> None:
    from tapeline.gateway.routes import firings as module

    mine = keep_firings(context.store, "ann", *(NOW + number for number in range(7)))
    keep_firings(context.store, "bob", NOW + 3)
    monkeypatch.setattr(module, "EXPORT_PAGE", 3)
    answer = ann.get("/v1/firings/export", params={"since": "2026-01-01T00:00:00Z"})
    assert answer.headers["content-type"].startswith("application/x-ndjson")
    lines = [json.loads(line) for line in answer.text.splitlines()]
    assert [line["id"] for line in lines] == [one.id for one in mine]
    assert len(lines[0]["conditions"]) == 2


def test_what_became_of_telling_is_seen(ann, context) -> None:
    (one,) = keep_firings(context.store, "ann", NOW, dead=True)
    (delivery,) = ann.get(f"/v1/firings/{one.id}/deliveries").json()["items"]
    assert (delivery["state"], delivery["body"]) == ("dead", '{"a":1}')
    assert [(tried["number"], tried["status"], tried["detail"]) for tried in delivery["tried"]] == [
        (1, 404, "no such hook")
    ]
    assert ann.get(f"/v1/deliveries/{delivery['id']}").json() == delivery


def test_deliveries_come_in_pages_by_the_time_of_their_events(ann, context) -> None:
    mine = keep_firings(context.store, "ann", *(NOW + number * SECOND for number in range(5)))
    keep_firings(context.store, "bob", NOW, dead=True)
    seen, cursor = [], None
    while True:
        page = ann.get("/v1/deliveries", params={"limit": 2} | ({"cursor": cursor} if cursor else {})).json()
        seen += [one["firing"] for one in page["items"]]
        cursor = page["cursor"]
        if cursor is None:
            break
    assert seen == [one.id for one in reversed(mine)]
    assert ann.get("/v1/deliveries", params={"state": "dead"}).json()["items"] == []
    assert len(ann.get("/v1/deliveries", params={"channel": "webhook"}).json()["items"]) == 5
    for broken in ("x", "eC54", "MTc2NzIyNTYwMDAwMDAwMDAwMC4x."):
        assert ann.get("/v1/deliveries", params={"cursor": broken}).status_code == 422


def test_dead_letters_are_taken_back_by_their_owner_and_nobody_else(as_user, context) -> None:
    keep_firings(context.store, "ann", NOW, NOW + SECOND, dead=True)
    keep_firings(context.store, "bob", NOW, dead=True)
    ann, bob, operator = as_user("ann"), as_user("bob"), as_user("olga", "operator")
    letters = ann.get("/v1/dead-letters").json()["items"]
    assert {one["endpoint"] for one in letters} == {"ann.desk"}
    assert len(operator.get("/v1/dead-letters").json()["items"]) == 3

    ids = [one["id"] for one in letters]
    assert bob.post("/v1/dead-letters/redrive", json={"ids": ids}).json() == {"redriven": 0}
    assert bob.post("/v1/dead-letters/redrive", json={"endpoint": "ann.desk"}).json() == {"redriven": 0}
    assert ann.post("/v1/dead-letters/redrive", json={"ids": ids[:1]}).json() == {"redriven": 1}
    assert ann.post("/v1/dead-letters/redrive", json={}).status_code == 422
    everything = {"since": "1970-01-01T00:00:00Z"}
    assert operator.post("/v1/dead-letters/redrive", json=everything).json() == {"redriven": 2}
    assert operator.get("/v1/dead-letters").json()["items"] == []
    assert context.store.delivery(ids[0]).state == "waiting"
