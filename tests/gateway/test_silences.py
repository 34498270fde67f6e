from __future__ import annotations

import pytest

BODY = {"matchers": {"rule": "btc-*"}, "ends_at": "2026-01-01T06:00:00Z", "comment": "maintenance"}


@pytest.fixture
def ann(as_user):
    return as_user("ann")


def test_a_silence_is_made_listed_and_ended(ann, context) -> None:
    made = ann.post("/v1/silences", json=BODY)
    assert made.status_code == 201, made.text
    one = made.json()
    assert one["begins_at"] == "2026-01-01T00:00:00.000000000Z"
    assert one["owner"] == one["created_by"] == "ann"
    assert ann.get(made.headers["location"]).json() == one
    assert [found["id"] for found in ann.get("/v1/silences").json()["items"]] == [one["id"]]
    assert context.store.silences(owner="ann")[0].matchers == {"rule": "btc-*"}

    ended = ann.delete(made.headers["location"]).json()
    assert ended["ends_at"] == "2026-01-01T00:00:00.000000000Z"
    assert ann.get("/v1/silences").json()["items"] == []
    assert len(ann.get("/v1/silences", params={"ended": True}).json()["items"]) == 1
    assert ann.delete(made.headers["location"]).json() == ended
    assert [row.action for row in context.access.audit.rows(kind="silence")] == ["silence.end", "silence.create"]


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"ends_at": "2025-01-01T00:00:00Z"}, "/ends_at"),
        ({"begins_at": "2026-01-01T07:00:00Z"}, ""),
        ({"ends_at": "2026-01-01T06:00:00"}, "/ends_at"),
        ({"ends_at": "9999-01-01T06:00:00Z"}, "/ends_at"),
        ({"matchers": {}}, "/matchers"),
        ({"matchers": {"rule": "a\nb"}}, "/matchers/rule"),
        ({"matchers": {"rule": "*" * 101}}, "/matchers/rule"),
        ({"owner": "bob"}, "/owner"),
        ({"id": "sil_1"}, "/id"),
    ],
)
def test_what_is_wrong_is_told_with_its_place(ann, change, pointer) -> None:
    answer = ann.post("/v1/silences", json={**BODY, **change})
    assert answer.status_code == 422, answer.text
    assert pointer in {one["pointer"] for one in answer.json()["errors"]}, answer.text


def test_pages_and_quotas_of_silences(ann, monkeypatch) -> None:
    from tapeline.alerts.access import quotas

    monkeypatch.setattr(quotas, "QUOTAS", {**quotas.QUOTAS, "silences": 3})
    made = {ann.post("/v1/silences", json=BODY).json()["id"] for _ in range(3)}
    assert ann.post("/v1/silences", json=BODY).status_code == 403
    first = ann.get("/v1/silences", params={"limit": 2}).json()
    second = ann.get("/v1/silences", params={"limit": 2, "cursor": first["cursor"]}).json()
    assert {one["id"] for one in first["items"] + second["items"]} == made
    assert second["cursor"] is None
    # What has ended takes no room.
    ann.delete(f"/v1/silences/{made.pop()}")
    assert ann.post("/v1/silences", json=BODY).status_code == 201
