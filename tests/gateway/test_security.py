"""The part of the security checklist that the API's ground answers for; each line of it is one test."""

from __future__ import annotations

import json

import pytest
from fastapi.testclient import TestClient

from tapeline.alerts.access.principal import Principal
from tapeline.alerts.store.caller_queries import CallerQueries
from tapeline.core.settings import Settings
from tapeline.gateway.app import create_app
from tests.gateway.conftest import NOW, open_context
from tests.gateway.samples import keep_firings

RULE = {"condition": "close > 60000", "symbols": ["BTCUSDT"]}
SILENCE = {"matchers": {"rule": "*"}, "ends_at": "2026-01-01T06:00:00Z"}


@pytest.fixture
def ann(as_user):
    return as_user("ann")


@pytest.fixture(scope="module")
def steady(tmp_path_factory):
    """A client for requests that change nothing: one for all tests that send many of them."""
    with open_context(tmp_path_factory.mktemp("steady")) as context:
        context.access.tokens["t"] = Principal("ann", "user")
        with TestClient(create_app(context), raise_server_exceptions=False) as client:
            client.headers["Authorization"] = "Bearer t"
            yield client


@pytest.fixture
def belongings(ann, context):
    """What Ann has: the address of each, and how it could be asked for or changed."""
    rule = ann.post("/v1/rules", json={**RULE, "id": "ann-rule"})
    silence = ann.post("/v1/silences", json=SILENCE)
    (firing,) = keep_firings(context.store, "ann", NOW, dead=True)
    tag = {"If-Match": rule.headers["etag"]}
    return [
        ("GET", "/v1/rules/ann-rule", {}),
        ("GET", "/v1/rules/ann-rule/history", {}),
        ("PUT", "/v1/rules/ann-rule", {"json": RULE, "headers": tag}),
        ("PATCH", "/v1/rules/ann-rule", {"json": {"enabled": False}}),
        ("DELETE", "/v1/rules/ann-rule", {"headers": tag}),
        ("GET", silence.headers["location"], {}),
        ("DELETE", silence.headers["location"], {}),
        ("GET", f"/v1/firings/{firing.id}", {}),
        ("GET", f"/v1/firings/{firing.id}/deliveries", {}),
        ("POST", f"/v1/firings/{firing.id}/acknowledgement", {"json": {}}),
        ("GET", f"/v1/deliveries/{firing.id}/desk", {}),
    ]


def test_what_is_anothers_is_told_as_what_is_not_there(as_user, belongings, context) -> None:
    for role in ("viewer", "user", "operator"):
        bob = as_user("bob", role)
        for method, path, sent in belongings:
            answer = bob.request(method, path, **sent)
            absent = bob.request(method, path.replace("ann-rule", "no-rule").replace("_", "_0"), **sent)
            if role == "viewer" and method != "GET":
                assert answer.status_code == absent.status_code == 403
                continue
            assert (answer.status_code, absent.status_code) == (404, 404), (method, path, answer.text)
            told, untold = answer.json(), absent.json()
            assert {**told, "instance": ""} == {**untold, "instance": ""}, path
    assert context.store.rule("ann-rule").revision == 1
    assert context.store.acknowledgements() == ()


def test_no_list_and_no_export_tells_of_anothers(as_user, belongings) -> None:
    bob = as_user("bob")
    lists = ("/v1/rules", "/v1/silences", "/v1/firings", "/v1/deliveries", "/v1/dead-letters")
    for path in lists:
        assert bob.get(path, params={"ended": True} if path == "/v1/silences" else {}).json()["items"] == []
        if path != "/v1/dead-letters":
            for owner in ("ann", "*"):
                assert bob.get(path, params={"owner": owner}).status_code == 403
    assert bob.get("/v1/firings/export", params={"since": "1970-01-01T00:00:00Z"}).text == ""
    # A cursor that another was given shows nothing of his.
    cursor = as_user("ann").get("/v1/rules", params={"limit": 1}).json()["cursor"] or "YW5u"
    assert bob.get("/v1/rules", params={"cursor": cursor}).json()["items"] == []
    root = as_user("root", "admin")
    assert [one["owner"] for one in root.get("/v1/rules", params={"owner": "*"}).json()["items"]] == ["ann"]


def test_nobody_makes_himself_more_than_he_is(ann, context) -> None:
    for field, value in (("owner", "bob"), ("role", "admin"), ("quota", 10**6), ("changed_by", "root"), ("number", 1)):
        for method, path in (("POST", "/v1/rules"), ("POST", "/v1/silences"), ("POST", "/v1/rules/validate")):
            body = {**(SILENCE if "silences" in path else RULE), field: value}
            assert ann.request(method, path, json=body).status_code == 422, (path, field)
    assert ann.patch("/v1/rules/x", json={"enabled": True, "owner": "bob"}).status_code == 422
    assert context.store.rules() == ()


def test_roles_and_scopes_bound_what_is_done(as_user) -> None:
    viewer = as_user("ann", "viewer")
    assert viewer.post("/v1/rules", json=RULE).status_code == 403
    assert viewer.get("/v1/rules").status_code == 200
    reader = as_user("ann", "user", scopes={"rules:read"})
    assert reader.get("/v1/rules").status_code == 200
    refused = reader.post("/v1/rules", json=RULE)
    assert (refused.status_code, "rules:write" in refused.json()["detail"]) == (403, True)
    assert reader.get("/v1/firings").status_code == 403


@pytest.mark.parametrize(
    "header", [None, "", "Basic YTpi", "Bearer", "Bearer nobody", "Bearer " + "x" * 9_000, "nobody"]
)
def test_who_is_not_known_learns_nothing(steady, header) -> None:
    with TestClient(steady.app, headers={} if header is None else {"Authorization": header}) as stranger:
        answer = stranger.get("/v1/rules")
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    assert answer.json()["type"] == "/problems/not-authenticated"


def test_a_page_is_never_larger_than_its_bound(steady) -> None:
    for path in ("/v1/rules", "/v1/silences", "/v1/firings", "/v1/deliveries", "/v1/dead-letters"):
        for limit in (0, -1, 201, 10**9, "many"):
            assert steady.get(path, params={"limit": limit}).status_code == 422, (path, limit)


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        (b"[" * 100_000, 400, "deeper"),
        (b'{"a":' * 50 + b"1" + b"}" * 50, 400, "deeper"),
        (b'{"enabled": true, "enabled": false}', 400, "twice"),
        (b'{"enabled": NaN}', 400, "NaN"),
        (b'{"enabled": -Infinity}', 400, "NaN"),
        (b'{"enabled": 1e999}', 400, "too large"),
        (b'{"enabled": ' + b"9" * 10_000 + b"}", 400, "too large"),
        (b'{"enabled": tru', 400, "not JSON"),
        (b'{"enabled": "\xff"}', 400, "not JSON"),
        (b'{"a\\u0000b": 1}', 400, "NUL"),
        (b" " * (1 << 20) + b"{}", 413, "larger"),
        (b"", 422, "not valid"),
        (b"null", 422, "not valid"),
    ],
)
def test_bodies_that_are_meant_to_harm(steady, body, status, words) -> None:
    answer = steady.patch("/v1/rules/r", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == status, answer.text
    assert words in answer.json()["detail"]


def test_a_body_is_bounded_while_it_comes_and_not_after(steady) -> None:
    sent = []

    def endless():
        for number in range(1_000):
            sent.append(number)
            yield b" " * 65_536

    answer = steady.post("/v1/rules", content=endless(), headers={"Content-Type": "application/json"})
    assert answer.status_code == 413


def test_compressed_bodies_are_not_unpacked(steady) -> None:
    import gzip

    bomb = gzip.compress(b" " * (1 << 24))
    headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
    assert steady.post("/v1/rules", content=bomb, headers=headers).status_code == 415


def test_addresses_and_headers_are_bounded(steady) -> None:
    assert steady.get("/v1/rules", params={"symbol": "x" * 5_000}).status_code == 414
    assert steady.get("/v1/rules", headers={"X-Long": "x" * 20_000}).status_code == 431
    assert steady.get("/v1/rules", headers={f"X-{n}": "1" for n in range(80)}).status_code == 431


@pytest.mark.parametrize(
    "hostile", ["a\r\nSet-Cookie: b=1", "\x1b[31mred", "<script>alert(1)</script>", "\u202eevil", "a\0b", "x" * 3_000]
)
def test_what_was_sent_comes_back_harmless_and_short(steady, hostile) -> None:
    answers = [
        steady.post("/v1/rules", json={**RULE, "condition": f"close > {hostile}"}),
        steady.post("/v1/rules", json={**RULE, hostile: 1}),
        steady.post("/v1/rules", json={**RULE, "symbols": [hostile]}),
        steady.post("/v1/rules", json={**RULE, "channels": [hostile]}),
        steady.get("/v1/firings", params={hostile: "1"}) if len(hostile) < 100 else steady.get("/v1/firings?limit=x"),
        steady.get("/v1/rules", params={"cursor": hostile}),
    ]
    for answer in answers:
        assert 400 <= answer.status_code < 500, answer.text
        assert answer.headers["content-type"] == "application/problem+json"
        assert "set-cookie" not in answer.headers
        assert answer.headers["x-content-type-options"] == "nosniff"
        raw = answer.content
        assert b"<" not in raw
        assert b"\x1b" not in raw
        told = answer.json()
        texts = [told["detail"], told.get("hint") or "", *(one["detail"] for one in told.get("errors", []))]
        texts += [one["pointer"] for one in told.get("errors", [])]
        assert all(len(text) <= 300 for text in texts)
        assert not any(ord(sign) < 32 or sign in "\u202e\x7f" for text in texts for sign in text)


def test_an_error_of_the_inside_stays_inside(ann, context, monkeypatch, caplog) -> None:
    def broken(*given, **options):
        raise KeyError("/srv/secret/path")

    monkeypatch.setattr(CallerQueries, "rule", broken)
    answer = ann.get("/v1/rules/r")
    assert answer.status_code == 500
    assert "secret" not in answer.text
    assert answer.json()["instance"] == f"urn:request:{answer.headers['x-request-id']}"
    # The log has it, under the same id.
    assert any(
        record.exc_info and getattr(record, "request_id", "") == answer.headers["x-request-id"]
        for record in caplog.records
    )


def test_methods_that_are_not_there_are_refused(steady) -> None:
    for method in ("PUT", "TRACE", "OPTIONS", "CONNECT", "QUERY", "PROPFIND"):
        answer = steady.request(method, "/v1/firings")
        assert answer.status_code == 405, method
        assert answer.headers["allow"] == "GET"
    assert steady.post("/v1/rules/r/", json=RULE).status_code == 404


def test_cookies_are_neither_taken_nor_given(app, ann, context) -> None:
    token = next(iter(context.access.tokens))
    other = TestClient(app, cookies={"token": token, "Authorization": f"Bearer {token}"})
    assert other.get("/v1/rules").status_code == 401
    assert "set-cookie" not in ann.get("/v1/rules").headers


def configured(tmp_path, **gateway):
    return open_context(tmp_path, settings=Settings(root=tmp_path, alerts={"gateway": gateway}))


def test_only_listed_origins_may_read_answers(tmp_path, app) -> None:
    hostile = {"Origin": "https://evil.example", "Access-Control-Request-Method": "GET"}
    with TestClient(app) as closed:
        assert "access-control-allow-origin" not in closed.get("/healthz", headers=hostile).headers
    with configured(tmp_path, origins=["https://desk.example"]) as context, TestClient(create_app(context)) as client:
        wanted = {**hostile, "Origin": "https://desk.example", "Access-Control-Request-Headers": "authorization"}
        preflight = client.options("/v1/rules", headers=wanted)
        assert preflight.headers["access-control-allow-origin"] == "https://desk.example"
        assert "access-control-allow-credentials" not in preflight.headers
        assert client.options("/v1/rules", headers=hostile).status_code == 400
        for headers in (hostile, {"Origin": "null"}, {"Origin": "https://desk.example.evil.example"}):
            assert "access-control-allow-origin" not in client.get("/v1/rules", headers=headers).headers
        # A refusal can be read too, by whom it is meant for.
        assert client.get("/v1/rules", headers=wanted).headers["access-control-allow-origin"] == "https://desk.example"


def test_a_caller_cannot_choose_his_address(tmp_path) -> None:
    with configured(tmp_path, requests_per_minute=3, trusted_proxies=["10.0.0.0/8"]) as context:
        app = create_app(context)
        stranger = TestClient(app, client=("203.0.113.9", 50_000))
        statuses = [stranger.get("/v1/rules", headers={"X-Forwarded-For": f"1.1.1.{n}"}).status_code for n in range(4)]
        assert statuses == [401, 401, 401, 429]
        proxy = TestClient(app, client=("10.0.0.1", 50_000))
        for address in ("198.51.100.1", "198.51.100.2"):
            # What stands further left was written by strangers.
            headers = [{"X-Forwarded-For": f"6.6.6.{n}, {address}"} for n in range(4)]
            assert [proxy.get("/v1/rules", headers=one).status_code for one in headers] == [401, 401, 401, 429]
        # One customer has a whole network of IPv6, with a token that is wrong or without one.
        for said in ({}, {"Authorization": "Bearer wrong"}):
            near = [TestClient(app, client=(f"2001:db8::{n}", 1)).get("/v1/rules", headers=said) for n in range(4)]
            assert [one.status_code for one in near] == [401, 401, 401, 429]
        assert TestClient(app, client=("2001:db8:0:1::1", 1)).get("/v1/rules").status_code == 401


def test_the_limit_is_told_and_a_user_has_one_wherever_he_comes_from(tmp_path) -> None:
    with configured(tmp_path, requests_per_minute=3) as context:
        context.access.tokens["t"] = Principal("ann", "user")
        app = create_app(context)
        headers = {"Authorization": "Bearer t"}
        answers = [TestClient(app, client=(f"203.0.113.{n}", 1)).get("/v1/rules", headers=headers) for n in range(4)]
        assert [one.status_code for one in answers] == [200, 200, 200, 429]
        assert answers[0].headers["ratelimit-policy"] == '"requests";q=3;w=60'
        assert [one.headers["ratelimit"].split(";")[1] for one in answers] == ["r=2", "r=1", "r=0", "r=0"]
        assert 0 < int(answers[3].headers["retry-after"]) <= 20
        assert answers[3].json()["type"] == "/problems/too-many-requests"
        # A probe is never held back.
        assert TestClient(app).get("/healthz").status_code == 200


def test_the_log_has_no_secret_and_no_line_of_a_strangers_making(ann, client, tmp_path) -> None:
    from tapeline.alerts.log import close_log, open_log

    token = ann.headers["authorization"].removeprefix("Bearer ")
    handler = open_log(tmp_path / "gateway.log", secrets=[token])
    try:
        ann.get("/v1/rules", params={"cursor": "a\nb"}, headers={"X-Forwarded-For": "1.1.1.1\x1b[31m"})
        ann.get("/v1/rules/%0a%22forged%22")
        client.get("/v1/inbound/tradingview/tv_secret-token-in-the-path")
        client.request("GE%0dT", "/v1/rules", headers={"Authorization": "Bearer leaked-by-mistake"})
    finally:
        close_log(handler)
    text = (tmp_path / "gateway.log").read_text()
    lines = [json.loads(line) for line in text.splitlines()]
    requests = [line for line in lines if line["log.logger"].endswith("envelope")]
    assert len(requests) == 4
    assert requests[0]["message"] == "GET /v1/rules 422"
    assert requests[0]["labels.owner"] == "ann"
    for secret in (token, "tv_secret", "leaked-by-mistake", "forged", "\x1b"):
        assert secret not in text
