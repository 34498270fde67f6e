from __future__ import annotations

import pytest

from tapeline.gateway.openapi import operations


@pytest.fixture(scope="module")
def document(tmp_path_factory):
    from tapeline.gateway.app import create_app
    from tests.gateway.conftest import open_context

    with open_context(tmp_path_factory.mktemp("openapi")) as context:
        yield create_app(context).openapi()


def test_every_operation_has_an_example_and_tells_its_problems(document) -> None:
    lacking = []
    for path, method, operation in operations(document):
        bodies = [operation["requestBody"]] if "requestBody" in operation else []
        bodies += [answer for status, answer in operation["responses"].items() if status.startswith("2")]
        if not all("example" in media for body in bodies for media in body.get("content", {}).values()):
            lacking.append(f"{method} {path}: no example")
        if "security" in operation and not {"401", "403", "429", "500", "503"} <= set(operation["responses"]):
            lacking.append(f"{method} {path}: problems")
        for status, answer in operation["responses"].items():
            if status.startswith("4") and "application/problem+json" not in answer["content"]:
                lacking.append(f"{method} {path}: {status} is no problem")
        if not operation.get("summary") or not operation.get("description"):
            lacking.append(f"{method} {path}: no words")
    assert not lacking, lacking


def test_who_may_call_what_is_said(document) -> None:
    create = document["paths"]["/v1/rules"]["post"]
    assert (create["x-role"], create["x-scope"]) == ("user", "rules:write")
    assert create["security"] == [{"bearer": []}]
    assert "security" not in document["paths"]["/healthz"]["get"]
    assert any(one["name"] == "Idempotency-Key" for one in create["parameters"])
    public = {f"{method} {path}" for path, method, operation in operations(document) if "security" not in operation}
    # Whoever adds an address that asks for nobody adds it here.
    assert (
        sorted(
            public
            - {
                "get /healthz",
                "get /readyz",
                "get /metrics",
                "post /v1/auth/token",
                "post /v1/auth/refresh",
                "post /v1/inbound/freqtrade/{token}",
                "post /v1/inbound/tradingview/{token}",
                "get /v1/signals/schema",
            }
        )
        == []
    )


def test_what_is_sent_is_part_of_it(document) -> None:
    assert set(document["webhooks"]) >= {"alert.firing", "alert.resolved", "alert.no_data", "alert.escalation"}
    sent = document["webhooks"]["alert.firing"]["post"]
    assert {one["name"] for one in sent["parameters"]} == {"webhook-id", "webhook-timestamp", "webhook-signature"}
    assert sent["requestBody"]["content"]["application/json"]["example"]["id"].startswith("evt_")
