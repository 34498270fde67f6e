"""Logging in, users, keys and the audit log through the API, with real tokens."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi.testclient import TestClient
from pydantic import SecretStr

from tapeline.alerts.access.access_control import AccessControl
from tapeline.alerts.client_address import client_address, trusted_networks
from tapeline.alerts.log import close_log, open_log
from tapeline.core.errors import ConfigurationError
from tapeline.core.settings import AlertGatewaySettings, AlertSettings, Settings
from tapeline.gateway.app import create_app
from tests.alerts.access.support import KEY, PASSWORD, Clock, make_access
from tests.gateway.conftest import open_context

NEW_PASSWORD = "one more kind of weather"


class People:
    """The API with real access control, and clients that logged in."""

    def __init__(self, app: Any, access: AccessControl, clock: Clock) -> None:
        self.app, self.access, self.clock = app, access, clock
        self.stranger = TestClient(app, raise_server_exceptions=False, client=("198.51.100.4", 50_000))

    def client(self, bearer: str) -> TestClient:
        return TestClient(self.app, raise_server_exceptions=False, headers={"Authorization": f"Bearer {bearer}"})

    def log_in(self, name: str, password: str = PASSWORD) -> TestClient:
        answer = self.stranger.post("/v1/auth/token", json={"name": name, "password": password})
        assert answer.status_code == 200, answer.text
        return self.client(answer.json()["access_token"])

    def actions(self) -> list[str]:
        return [row.action for row in reversed(self.access.audit.rows())]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Iterator[People]:
    """One application for the module: building it costs more than all that it answers."""
    clock, folder = Clock(), tmp_path_factory.mktemp("people")
    proxies = AlertGatewaySettings(trusted_proxies=("10.0.0.0/8",), requests_per_minute=100_000)
    settings = Settings(root=folder, alerts=AlertSettings(gateway=proxies))
    with open_context(folder, settings=settings, clock=clock) as context:
        access = make_access(context.store.database, clock)
        object.__setattr__(context, "access", access)
        yield People(create_app(context), access, clock)


@pytest.fixture
def people(built: People) -> People:
    """With ann, bob and root, under names that no other test has."""
    from tests.alerts.conftest import _empty

    _empty(built.app.state.context.store)
    built.access._standing.forget()
    for name, role in (("root", "admin"), ("ann", "user"), ("bob", "user"), ("olga", "operator")):
        built.access.users.add(name, role=role, password=PASSWORD)
    return built


def problem(answer: Any, status: int) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    return answer.json()


def test_from_a_password_to_the_next_pair_of_tokens(people) -> None:
    answer = people.stranger.post("/v1/auth/token", json={"name": "ann", "password": PASSWORD})
    pair = answer.json()
    assert (pair["token_type"], pair["expires_in"], pair["refresh_expires_in"]) == ("Bearer", 900, 1_209_600)
    assert answer.headers["cache-control"] == "no-store"
    me = people.client(pair["access_token"]).get("/v1/auth/me").json()
    assert (me["name"], me["role"], me["scopes"], me["quotas"]["rules"]) == ("ann", "user", None, 500)
    following = people.stranger.post("/v1/auth/refresh", json={"refresh_token": pair["refresh_token"]}).json()
    assert people.client(following["access_token"]).get("/v1/auth/me").status_code == 200
    people.clock.move(60)
    again = people.stranger.post("/v1/auth/refresh", json={"refresh_token": pair["refresh_token"]})
    assert problem(again, 401)["type"] == "/problems/not-authenticated"
    problem(people.client(following["access_token"]).get("/v1/auth/me"), 401)
    assert people.actions() == ["login", "session.reuse"]


def test_a_refresh_token_opens_nothing_else(people) -> None:
    pair = people.stranger.post("/v1/auth/token", json={"name": "ann", "password": PASSWORD}).json()
    for method, path in (("GET", "/v1/auth/me"), ("GET", "/v1/rules"), ("POST", "/v1/auth/ticket")):
        problem(people.client(pair["refresh_token"]).request(method, path), 401)
    problem(people.stranger.post("/v1/auth/refresh", json={"refresh_token": pair["access_token"]}), 401)


def test_a_logout_ends_the_token_and_a_lost_refresh(people) -> None:
    ann, other = people.log_in("ann"), people.log_in("ann")
    assert ann.post("/v1/auth/logout", json={}).status_code == 204
    problem(ann.get("/v1/auth/me"), 401)
    assert other.get("/v1/auth/me").status_code == 200
    third = people.log_in("ann")
    assert third.post("/v1/auth/logout", json={"everywhere": True}).status_code == 204
    problem(other.get("/v1/auth/me"), 401)
    assert people.actions()[2:] == ["logout", "login", "logout.everywhere"]


def test_who_fails_often_must_wait_and_is_told_how_long(people) -> None:
    def attempt(address: str) -> Any:
        headers = {"X-Forwarded-For": address}
        body = {"name": "ann", "password": "wrong"}
        return people.stranger.post("/v1/auth/token", json=body, headers=headers)

    # The peer is no trusted proxy: whatever it says about addresses, it is one.
    answers = [attempt(f"203.0.113.{n}") for n in range(8)]
    assert [one.status_code for one in answers] == [401] * 6 + [429] * 2
    assert problem(answers[-1], 429)["type"] == "/problems/too-many-requests"
    assert answers[-1].headers["retry-after"] == "1"
    assert {row.address for row in people.access.audit.rows()} == {"198.51.100.4"}


def test_a_trusted_proxy_is_believed(people) -> None:
    proxy = TestClient(people.app, raise_server_exceptions=False, client=("10.0.0.7", 50_000))
    headers = {"X-Forwarded-For": "6.6.6.6, 203.0.113.9, 10.1.2.3"}
    proxy.post("/v1/auth/token", json={"name": "ann", "password": "wrong"}, headers=headers)
    assert people.access.audit.rows()[0].address == "203.0.113.9"


def test_a_password_is_changed_by_who_knows_it(people) -> None:
    ann, other = people.log_in("ann"), people.log_in("ann")
    refused = ann.put("/v1/auth/password", json={"current": "wrong", "new": NEW_PASSWORD})
    assert problem(refused, 403)["type"] == "/problems/not-permitted"
    weak = ann.put("/v1/auth/password", json={"current": PASSWORD, "new": "short"})
    assert problem(weak, 422)["errors"][0]["pointer"] == "/new"
    assert "short" not in weak.text
    assert ann.put("/v1/auth/password", json={"current": PASSWORD, "new": NEW_PASSWORD}).status_code == 204
    assert ann.get("/v1/auth/me").status_code == 200
    problem(other.get("/v1/auth/me"), 401)
    people.log_in("ann", NEW_PASSWORD)
    assert people.actions()[2:] == ["password.refuse", "password.change", "login"]


def test_logins_are_seen_and_ended_by_their_owner_only(people) -> None:
    ann, phone, bob = people.log_in("ann"), people.log_in("ann"), people.log_in("bob")
    listed = ann.get("/v1/auth/sessions").json()["items"]
    assert sorted(one["current"] for one in listed) == [False, True]
    other = next(one["id"] for one in listed if not one["current"])
    problem(bob.delete(f"/v1/auth/sessions/{other}"), 404)
    assert phone.get("/v1/auth/me").status_code == 200
    assert ann.delete(f"/v1/auth/sessions/{other}").status_code == 204
    problem(phone.get("/v1/auth/me"), 401)
    problem(ann.delete(f"/v1/auth/sessions/{other}"), 404)


def test_a_ticket_opens_the_stream_once(people) -> None:
    answer = people.log_in("ann").post("/v1/auth/ticket")
    assert (answer.status_code, answer.json()["expires_in"]) == (201, 30)
    assert answer.json()["url"] == "ws://127.0.0.1:8790/"
    assert people.access.redeem(answer.json()["ticket"]).owner == "ann"


def test_a_key_is_shown_once_and_limited(people) -> None:
    ann = people.log_in("ann")
    answer = ann.post("/v1/keys", json={"name": "bot", "scopes": ["rules:read"], "expires_at": "2100-01-01T00:00:00Z"})
    assert answer.status_code == 201
    shown = answer.json()
    assert answer.headers["location"] == f"/v1/keys/{shown['id']}"
    kept = ann.get(f"/v1/keys/{shown['id']}").json()
    assert shown == {**kept, "key": shown["key"]}
    assert ann.get("/v1/keys").json()["items"] == [kept]
    bot = people.client(shown["key"])
    assert bot.get("/v1/rules").status_code == 200
    assert bot.get("/v1/auth/me").json()["scopes"] == ["rules:read"]
    problem(bot.get("/v1/silences"), 403)
    # Neither keys nor passwords nor users are within a key's reach, whatever it was given.
    for method, path, body in (
        ("POST", "/v1/keys", {"name": "more", "scopes": ["rules:write"]}),
        ("GET", "/v1/keys", None),
        ("PUT", "/v1/auth/password", {"current": PASSWORD, "new": NEW_PASSWORD}),
        ("POST", "/v1/auth/logout", {}),
        ("GET", "/v1/auth/sessions", None),
    ):
        problem(bot.request(method, path, json=body), 403)
    assert ann.delete(f"/v1/keys/{shown['id']}").status_code == 204
    problem(bot.get("/v1/rules"), 401)
    assert shown["key"] not in repr(people.access.audit.rows())
    assert [(row.action, row.record) for row in people.access.audit.rows(kind="api_key")] == [
        ("key.revoke", shown["id"]),
        ("key.create", shown["id"]),
    ]


def test_a_key_of_an_administrator_manages_no_users(people) -> None:
    root = people.log_in("root")
    key = root.post("/v1/keys", json={"name": "bot", "scopes": ["audit:read"]}).json()["key"]
    bot = people.client(key)
    assert bot.get("/v1/audit").status_code == 200
    for method, path in (("GET", "/v1/users"), ("DELETE", "/v1/users/ann"), ("GET", "/v1/users/ann/keys")):
        problem(bot.request(method, path), 403)


def test_another_persons_key_is_not_there(people) -> None:
    ann, bob = people.log_in("ann"), people.log_in("bob")
    id = ann.post("/v1/keys", json={"name": "bot", "scopes": ["rules:read"]}).json()["id"]
    for method in ("GET", "DELETE"):
        told = problem(bob.request(method, f"/v1/keys/{id}"), 404)
        never = problem(bob.request(method, "/v1/keys/AAAAAAAAAAAA"), 404)
        assert {**told, "instance": ""} == {**never, "instance": ""}
    assert bob.get("/v1/keys").json()["items"] == []
    assert ann.get(f"/v1/keys/{id}").status_code == 200


def test_an_administrator_manages_users(people) -> None:
    root = people.log_in("root")
    body = {"name": "Carl", "email": "carl@example.com", "password": PASSWORD, "quotas": {"rules": 3}}
    made = root.post("/v1/users", json=body)
    assert (made.status_code, made.headers["etag"]) == (201, '"r1"')
    assert (made.json()["role"], made.json()["quotas"]["rules"], made.json()["enabled"]) == ("user", 3, True)
    assert problem(root.post("/v1/users", json={**body, "name": "carl"}), 409)["type"] == "/problems/name-taken"
    carl = people.log_in("carl")
    assert carl.get("/v1/auth/me").json()["quotas"]["rules"] == 3
    assert root.get("/v1/users/Carl", headers={"If-None-Match": '"r1"'}).status_code == 304
    changed = root.patch("/v1/users/Carl", json={"role": "operator"}, headers={"If-Match": '"r1"'})
    assert (changed.json()["role"], changed.headers["etag"]) == ("operator", '"r2"')
    problem(root.patch("/v1/users/Carl", json={"enabled": False}, headers={"If-Match": '"r1"'}), 412)
    assert carl.get("/v1/auth/me").json()["role"] == "operator"
    assert root.patch("/v1/users/Carl", json={"enabled": False}).json()["enabled"] is False
    problem(carl.get("/v1/auth/me"), 401)
    root.patch("/v1/users/Carl", json={"enabled": True})
    assert root.put("/v1/users/Carl/password", json={"password": NEW_PASSWORD}).status_code == 204
    carl = people.log_in("Carl", NEW_PASSWORD)
    assert root.delete("/v1/users/Carl/sessions").status_code == 204
    problem(carl.get("/v1/auth/me"), 401)
    assert root.delete("/v1/users/Carl").status_code == 204
    problem(root.get("/v1/users/Carl"), 404)
    problem(root.delete("/v1/users/Carl"), 404)
    assert problem(root.delete("/v1/users/root"), 409)["type"] == "/problems/last-administrator"
    told = [row.action for row in reversed(people.access.audit.rows(kind="user"))]
    assert told == ["user.create", *["user.change"] * 3, "password.give", "session.end-all", "user.remove"]
    page = root.get("/v1/users", params={"limit": 2}).json()
    rest = root.get("/v1/users", params={"limit": 200, "cursor": page["cursor"]}).json()
    assert [one["name"] for one in page["items"] + rest["items"]] == ["ann", "bob", "olga", "root"]


def test_an_administrator_ends_another_persons_keys(people) -> None:
    root, ann = people.log_in("root"), people.log_in("ann")
    shown = ann.post("/v1/keys", json={"name": "bot", "scopes": ["rules:read"]}).json()
    assert [one["id"] for one in root.get("/v1/users/ann/keys").json()["items"]] == [shown["id"]]
    problem(root.delete(f"/v1/users/bob/keys/{shown['id']}"), 404)
    assert root.delete(f"/v1/users/ann/keys/{shown['id']}").status_code == 204
    problem(people.client(shown["key"]).get("/v1/rules"), 401)


@pytest.mark.parametrize("name", ["ann", "olga"])
def test_users_are_an_administrators_business(people, name) -> None:
    caller = people.log_in(name)
    for method, path, body in (
        *(("GET", "/v1/users", None), ("POST", "/v1/users", {"name": "x"}), ("GET", "/v1/users/bob", None)),
        *(("PATCH", f"/v1/users/{name}", {"role": "admin"}), ("DELETE", "/v1/users/bob", None)),
        *(("PUT", "/v1/users/root/password", {"password": NEW_PASSWORD}), ("GET", "/v1/users/bob/keys", None)),
        *(("DELETE", "/v1/users/bob/sessions", None), ("DELETE", "/v1/users/bob/keys/x", None)),
    ):
        problem(caller.request(method, path, json=body), 403)
        problem(people.stranger.request(method, path, json=body), 401)
    # Whether somebody is there is not told either.
    assert problem(caller.get("/v1/users/nobody"), 403)["type"] == "/problems/not-permitted"


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/v1/auth/token", {"name": "ann", "password": PASSWORD, "role": "admin"}),
        ("POST", "/v1/auth/refresh", {"refresh_token": "x", "family": "y"}),
        ("PUT", "/v1/auth/password", {"current": PASSWORD, "new": NEW_PASSWORD, "name": "root"}),
        ("POST", "/v1/auth/logout", {"owner": "root"}),
        ("POST", "/v1/keys", {"name": "bot", "scopes": ["rules:read"], "owner": "root"}),
        ("POST", "/v1/keys", {"name": "bot", "scopes": ["rules:read", "users:write"]}),
        ("POST", "/v1/keys", {"name": "bot", "scopes": []}),
        ("POST", "/v1/keys", {"name": "bot", "scopes": ["rules:read"] * 500}),
        ("POST", "/v1/keys", {"name": "bot", "scopes": ["rules:read"], "expires_at": "2001-01-01T00:00:00Z"}),
        ("POST", "/v1/users", {"name": "x", "revision": 9}),
        ("POST", "/v1/users", {"name": "x", "role": "root"}),
        ("POST", "/v1/users", {"name": "x", "quotas": {"rulez": 1}}),
        ("POST", "/v1/users", {"name": "x", "quotas": {"rules": 1.5}}),
        ("POST", "/v1/users", {"name": "x\ny"}),
        ("POST", "/v1/users", {"name": "x", "email": "a@b\r\nBcc: c@example.com"}),
        ("PATCH", "/v1/users/ann", {"name": "anna"}),
        ("PATCH", "/v1/users/ann", {"password": NEW_PASSWORD}),
        ("POST", "/v1/audit/verify", {"head": {"number": -1, "hash": "x"}}),
    ],
)
def test_a_field_that_is_not_asked_for_is_refused(people, method, path, body) -> None:
    root = people.log_in("root")
    told = problem(root.request(method, path, json=body), 422)
    assert told["errors"]
    assert PASSWORD not in json.dumps(told)
    assert NEW_PASSWORD not in json.dumps(told)
    assert people.actions() == ["login"]


def test_a_quota_is_held_for_keys(people) -> None:
    root, ann = people.log_in("root"), people.log_in("ann")
    root.patch("/v1/users/ann", json={"quotas": {"api_keys": 1}})
    body = {"name": "bot", "scopes": ["rules:read"]}
    assert ann.post("/v1/keys", json=body).status_code == 201
    assert problem(ann.post("/v1/keys", json=body), 403)["type"] == "/problems/quota-exceeded"
    assert len(people.access.audit.rows(kind="api_key")) == 1


def test_the_audit_log_is_read_by_operators(people) -> None:
    olga, ann = people.log_in("olga"), people.log_in("ann")
    ann.post("/v1/keys", json={"name": "bot", "scopes": ["rules:read"]})
    for path in ("/v1/audit", "/v1/audit/head"):
        problem(ann.get(path), 403)
        problem(people.stranger.get(path), 401)
    problem(ann.post("/v1/audit/verify", json={}), 403)
    page = olga.get("/v1/audit", params={"limit": 2}).json()
    assert [one["number"] for one in page["items"]] == [3, 2]
    newest = page["items"][0]
    assert (newest["actor"], newest["action"], newest["after"]["scopes"]) == ("ann", "key.create", ["rules:read"])
    assert newest["request_id"].startswith("req_")
    rest = olga.get("/v1/audit", params={"cursor": page["cursor"]}).json()
    assert ([one["number"] for one in rest["items"]], rest["cursor"]) == ([1], None)
    found = olga.get("/v1/audit", params={"actor": "ann", "action": "login"}).json()["items"]
    assert [one["number"] for one in found] == [2]
    problem(olga.get("/v1/audit", params={"cursor": "YQ"}), 422)
    head = olga.get("/v1/audit/head").json()
    verified = olga.post("/v1/audit/verify", json={"head": head}).json()
    assert verified == {"intact": True, "rows": 3, "head": head, "findings": []}
    other = {"number": 3, "hash": "0" * 64}
    verified = olga.post("/v1/audit/verify", json={"head": other}).json()
    assert verified["findings"] == [{"number": 3, "problem": "is not the row whose hash was noted"}]


def test_no_password_token_or_key_gets_into_the_log(people, tmp_path) -> None:
    path = tmp_path / "gateway.log"
    handler = open_log(path, secrets=[KEY], level=logging.DEBUG)
    log = logging.getLogger("tapeline.gateway.test")
    try:
        pair = people.stranger.post("/v1/auth/token", json={"name": "ann", "password": PASSWORD}).json()
        ann = people.client(pair["access_token"])
        key = ann.post("/v1/keys", json={"name": "bot", "scopes": ["rules:read"]}).json()["key"]
        ticket = ann.post("/v1/auth/ticket").json()["ticket"]
        kept = people.access.users.find("ann").password
        planted = [pair["access_token"], pair["refresh_token"], key, ticket, kept, KEY, PASSWORD.replace(" ", "-")]
        for secret in planted[:-1]:
            log.info("seen %s in the middle", secret, extra={"labels": secret})
            log.warning("header Authorization: Bearer %s\r\n\x1b[31mforged line", secret)
        log.info("password=%s and {'password': '%s'}", planted[-1], planted[-1])
        try:
            raise ValueError(f"cannot use {key} or {ticket} or {pair['refresh_token']}")
        except ValueError:
            log.exception("failed")
    finally:
        close_log(handler)
    text = path.read_text()
    assert len(text.splitlines()) >= 14
    for secret in planted:
        assert secret not in text
        assert secret[-20:] not in text
    assert "\x1b" not in text
    assert all(json.loads(line)["@timestamp"] for line in text.splitlines())


class TestClientAddress:
    proxies = trusted_networks(["10.0.0.0/8", "fd00::/8", "127.0.0.1"])

    @pytest.mark.parametrize(
        ("peer", "forwarded", "address"),
        [
            ("203.0.113.9", ["1.1.1.1"], "203.0.113.9"),
            ("203.0.113.9", ["10.0.0.1"], "203.0.113.9"),
            ("10.0.0.1", [], "10.0.0.1"),
            ("10.0.0.1", ["198.51.100.4"], "198.51.100.4"),
            ("10.0.0.1", ["6.6.6.6, 198.51.100.4"], "198.51.100.4"),
            ("10.0.0.1", ["6.6.6.6", "198.51.100.4, 10.2.2.2"], "198.51.100.4"),
            ("10.0.0.1", ["10.3.3.3, 10.2.2.2"], "10.3.3.3"),
            ("10.0.0.1", ["6.6.6.6, unknown"], "10.0.0.1"),
            ("10.0.0.1", ["6.6.6.6, "], "10.0.0.1"),
            ("10.0.0.1", ["198.51.100.4:5123"], "198.51.100.4"),
            ("10.0.0.1", ["[2001:db8::1]:5123"], "2001:db8::1"),
            ("::ffff:10.0.0.1", ["198.51.100.4"], "198.51.100.4"),
            ("fd00::1", ["::ffff:198.51.100.4"], "198.51.100.4"),
            ("127.0.0.1", ["0x7f.1"], "127.0.0.1"),
            ("10.0.0.1", ["198.51.100.4\r\nX: y"], "10.0.0.1"),
            ("testclient", ["198.51.100.4"], ""),
            (None, ["198.51.100.4"], ""),
        ],
    )
    def test_only_what_a_trusted_proxy_wrote_is_believed(self, peer, forwarded, address) -> None:
        assert client_address(peer, forwarded, self.proxies) == address

    def test_a_header_of_a_million_hops_is_not_followed(self) -> None:
        assert client_address("10.0.0.1", [",".join(["10.0.0.2"] * 100_000)], self.proxies) == "10.0.0.2"

    @pytest.mark.parametrize("name", ["everybody", "0.0.0.0/0", "::/0", "10.0.0.0/33"])
    def test_everybody_is_no_proxy(self, name) -> None:
        with pytest.raises(ConfigurationError):
            trusted_networks([name])


def test_settings_become_access(tmp_path) -> None:
    from tapeline.alerts.access.access_control import AccessSettings

    settings = AlertGatewaySettings(signing_keys=(SecretStr(KEY),), access_seconds=60.0, refresh_seconds=120.0)
    made = AccessSettings.of(settings)
    assert (made.signing_keys, made.access_seconds, made.refresh_seconds) == ((KEY,), 60.0, 120.0)
