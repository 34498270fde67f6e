from __future__ import annotations

import pytest
from fastapi.testclient import TestClient

from tapeline.alerts.engine_reports import EngineReport, write_engine
from tapeline.core.errors import TemporaryError
from tests.gateway.conftest import NOW
from tests.gateway.samples import SECOND, keep_firings

GOOD = {"health": {"ok": True}, "readiness": {"ok": True}, "rules": 3}


def beat(context, *, seconds_ago: float = 1.0, status=None, instance: str = "one") -> None:
    at = NOW - int(seconds_ago * SECOND)
    write_engine(context.store.database, EngineReport(instance, at - SECOND, at, status or GOOD))


def test_ready_is_where_the_database_answers_and_an_engine_lives(client, context, monkeypatch) -> None:
    def told():
        answer = client.get("/readyz")
        return answer.status_code, answer.json()["database"], answer.json()["engine"]

    assert told() == (503, "ok", "none")
    beat(context)
    assert told() == (200, "ok", "ok")
    beat(context, status={"health": {"ok": True}, "readiness": {"ok": False, "reasons": ["no feed"]}})
    assert told() == (503, "ok", "not ready")
    beat(context, seconds_ago=60)
    assert told() == (503, "ok", "silent")
    # One that is ready is enough.
    beat(context, instance="two")
    assert told() == (200, "ok", "ok")

    def away(*_):
        raise TemporaryError("postgresql://me:secret@host does not answer")

    for ask in ("read", "rows"):
        monkeypatch.setattr(context.store.database, ask, away)
    assert told() == (503, "away", "unknown")
    assert client.get("/healthz").status_code == 200


def test_operators_see_engines_and_deliveries_and_others_whether_it_works(as_user, context) -> None:
    beat(context)
    keep_firings(context.store, "bob", NOW, dead=True)
    seen = as_user("olga", "operator").get("/v1/status").json()
    assert [(one["instance"], one["state"], one["status"]["rules"]) for one in seen["engines"]] == [("one", "ok", 3)]
    assert [(one["channel"], one["state"], one["count"]) for one in seen["deliveries"]] == [("webhook", "dead", 1)]
    others = as_user("ann").get("/v1/status").json()
    assert (others["ready"], others["engines"], others["deliveries"]) == (True, [], [])


def test_metrics_are_for_operators_and_for_this_machine(app, client, as_user, context) -> None:
    beat(context, seconds_ago=3)
    keep_firings(context.store, "bob", NOW, dead=True)
    assert client.get("/metrics").status_code == 401
    assert as_user("ann").get("/metrics").status_code == 403
    assert as_user("olga", "operator", scopes={"rules:read"}).get("/metrics").status_code == 403
    as_user("ann").get("/v1/firings/none")
    text = as_user("olga", "operator", scopes={"health:read"}).get("/metrics").text
    assert "tapeline_gateway_ready 1.0" in text
    assert 'tapeline_gateway_engine_beat_age_seconds{instance="one"} 3.0' in text
    assert 'tapeline_gateway_deliveries{channel="webhook",state="dead"} 1.0' in text
    # What the engine says of itself, as it said it.
    assert 'tapeline_alerts_engine_beat_age_seconds{engine="one"} 3.0' in text
    # The route, never what was sent.
    assert 'tapeline_gateway_requests_total{method="GET",route="/v1/firings/{id}",status="404"} 1.0' in text
    assert "none" not in text
    local = TestClient(app, client=("127.0.0.1", 1))
    assert local.get("/metrics").status_code == 200
    # A proxy on this machine makes strangers look local.
    for name in ("X-Forwarded-For", "Forwarded", "X-Real-IP", "Via"):
        assert local.get("/metrics", headers={name: "203.0.113.9"}).status_code == 401
    assert TestClient(app, client=("203.0.113.9", 1)).get("/metrics").status_code == 401


def test_what_strangers_ask_for_makes_no_series(client, as_user) -> None:
    for number in range(5):
        client.get(f"/v1/nothing-{number}")
        client.request(f"METHOD{number}", "/v1/rules")
    text = as_user("olga", "operator").get("/metrics").text
    assert "nothing" not in text
    assert "METHOD" not in text
    assert 'tapeline_gateway_requests_total{method="GET",route="other",status="404"} 5.0' in text


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
def test_a_probe_asks_for_nobody_and_is_not_counted(client, path, context) -> None:
    answer = client.get(path, headers={"Authorization": "Bearer wrong"})
    assert answer.status_code in (200, 503)
    assert "ratelimit" not in answer.headers
