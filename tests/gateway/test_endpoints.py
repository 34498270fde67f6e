"""Endpoints through the API: a secret once, nobody else's, nowhere that is not public, and what each does."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator

import pytest
from standardwebhooks.webhooks import Webhook

from tapeline.alerts.delivery.secret_vault import SecretVault, new_key
from tapeline.alerts.delivery.ssrf import TargetRules
from tapeline.alerts.records import Commit, Delivery
from tapeline.alerts.store.store import Endpoint
from tapeline.core.settings import AlertChannelSettings, AlertSettings, Settings
from tapeline.gateway.routes.endpoints import manager_of
from tests.alerts.delivery.support import Receiver, Reply, receiver
from tests.gateway.conftest import open_context

pytestmark = pytest.mark.network_shape


@pytest.fixture(scope="module")
def hooks() -> Iterator[Receiver]:
    with receiver() as state:
        yield state


@pytest.fixture
def context(tmp_path, empty_database, hooks: Receiver):
    shutil.copyfile(empty_database, tmp_path / "alerts.db")
    hooks.got.clear()
    hooks.otherwise = Reply()
    alerts = AlertSettings(plain_http=True, permitted_ports=(hooks.port,), permitted_networks=("127.0.0.1/32",))
    with open_context(tmp_path, settings=Settings(root=tmp_path, alerts=alerts), clock=time.time_ns) as opened:
        yield opened


@pytest.fixture
def ann(as_user):
    return as_user("ann")


def new(client, hooks: Receiver, **changes) -> dict:
    body = {"kind": "webhook", "name": "desk", "address": f"{hooks.url}/in/token-of-the-path", **changes}
    answer = client.post("/v1/endpoints", json=body)
    assert answer.status_code == 201, answer.text
    assert answer.headers["location"] == f"/v1/endpoints/{answer.json()['id']}"
    return answer.json()


def test_a_secret_is_shown_once_and_lies_nowhere_in_the_clear(ann, context, hooks: Receiver, tmp_path) -> None:
    made = new(ann, hooks)
    assert made["address"] == f"{hooks.url}/..."
    rotated = ann.post(f"/v1/endpoints/{made['id']}/rotate", json={}).json()
    secrets = made["secret"], rotated["secret"]
    assert len({*secrets}) == 2
    ann.post(f"/v1/endpoints/{made['id']}/test")
    said = ann.get(f"/v1/endpoints/{made['id']}").text + ann.get("/v1/endpoints").text
    said += ann.get(f"/v1/endpoints/{made['id']}/health").text
    said += str(context.access.audit.rows()) + str(context.store.endpoints())
    kept = b"".join(path.read_bytes() for path in tmp_path.glob("alerts.db*")).decode("latin-1")
    for hidden in (*secrets, *(each.removeprefix("whsec_") for each in secrets), "token-of-the-path"):
        assert hidden not in said
        assert hidden not in kept
    assert [row.action for row in context.access.audit.rows()] == [
        "endpoint.test",
        "endpoint.rotate",
        "endpoint.create",
    ]


def test_a_test_event_is_signed_by_both_secrets_until_the_rotation_ends(ann, hooks: Receiver) -> None:
    made = new(ann, hooks)
    newer = ann.post(f"/v1/endpoints/{made['id']}/rotate", json={"grace_seconds": 3_600}).json()
    assert (newer["secrets"], newer["rotation_ends_at"] is not None) == (2, True)
    answer = ann.post(f"/v1/endpoints/{made['id']}/test").json()
    assert (answer["outcome"], answer["status"]) == ("sent", 200)
    (got,) = hooks.got
    for secret in (made["secret"], newer["secret"]):
        assert Webhook(secret).verify(got.body, got.headers)["type"] == "test"
    retired = ann.post(f"/v1/endpoints/{made['id']}/retire").json()
    assert (retired["secrets"], retired["rotation_ends_at"]) == (1, None)
    ann.post(f"/v1/endpoints/{made['id']}/test")
    assert len(hooks.got[1].headers["webhook-signature"].split(" ")) == 1
    assert Webhook(newer["secret"]).verify(hooks.got[1].body, hooks.got[1].headers)
    throttled = ann.post(f"/v1/endpoints/{made['id']}/test")
    assert (throttled.status_code, int(throttled.headers["retry-after"]) > 0) == (429, True)
    assert len(hooks.got) == 2


FORBIDDEN = [
    *("http://169.254.169.254/latest/meta-data", "https://127.0.0.1/", "https://localhost/", "https://localhost./x"),
    *("https://0x7f.1/", "https://2130706433/", "https://0177.0.0.1/", "https://[::1]/", "https://[::ffff:10.0.0.1]/"),
    *("https://user:pass@example.com/", "https://example.com:22/", "file:///etc/passwd", "gopher://example.com/"),
    *("https://10.0.0.1/", "https://[64:ff9b::a00:1]/", "unix:///run/docker.sock", "https://example.com/#x"),
]


def test_no_address_leads_inside_when_it_is_made_or_changed(ann, context, hooks: Receiver) -> None:
    made = new(ann, hooks)
    context.part(manager_of)._channels["webhook"]._rules = TargetRules()  # as it is where an operator permits nothing
    for address in FORBIDDEN:
        body = {"kind": "webhook", "name": "desk", "address": address}
        answers = [
            ann.post("/v1/endpoints", json=body),
            ann.patch(f"/v1/endpoints/{made['id']}", json={"address": address}, headers={"If-Match": "*"}),
        ]
        for answer in answers:
            assert answer.status_code == 422, address
            assert answer.json()["errors"][0]["pointer"] == "/address"
    assert [one.revision for one in context.store.endpoints()] == [0]
    # And the one that led inside while it was permitted is not gone to any more, nor switched on.
    assert ann.post(f"/v1/endpoints/{made['id']}/enable").status_code == 422
    assert ann.post(f"/v1/endpoints/{made['id']}/test").json()["outcome"] == "retry"
    assert hooks.got == []


def test_an_address_is_one_of_its_kind_and_names_no_server(ann, context) -> None:
    good = {
        "telegram": "tgram://123456789:AAbbccddeeffgghhiijjkkllmmnnooppqqr/42",
        "slack": "https://hooks.slack.com/services/T000/B000/xyzxyzxyz",
        "discord": "https://discord.com/api/webhooks/123456789012345678/abcdefghijklmnopqrstuvwxyz",
    }
    for kind, address in good.items():
        answer = ann.post("/v1/endpoints", json={"kind": kind, "name": f"my-{kind}", "address": address})
        assert answer.status_code == 201, answer.text
        assert answer.json()["secret"] is None
        assert not any(part in answer.text for part in ("AAbbcc", "xyzxyz", "abcdefgh"))
    bad = [
        ("telegram", good["slack"]),
        ("telegram", good["telegram"] + "?api=http://127.0.0.1:8081"),
        ("slack", "slack://T000/B000/xyzxyzxyz?api=http://10.0.0.1"),
        ("discord", "https://discord.com.evil.example/api/webhooks/123456789012345678/abcdefghijklmnopqrstuvwxyz"),
        ("email", "ann@example.org"),  # no gateway is set here
    ]
    for kind, address in bad:
        answer = ann.post("/v1/endpoints", json={"kind": kind, "name": f"my-{kind}", "address": address})
        assert answer.status_code == 422, (kind, answer.text)
    assert len(context.store.endpoints()) == 3


def test_nobody_reaches_another_s_endpoint_by_any_door(ann, as_user, context, hooks: Receiver) -> None:
    made = new(ann, hooks)
    bob, place = as_user("bob"), f"/v1/endpoints/{made['id']}"
    match = {"If-Match": "*"}
    doors = [
        ("GET", place, None),
        ("PATCH", place, {"per_minute": 1}),
        ("DELETE", place, None),
        ("GET", f"{place}/health", None),
        ("POST", f"{place}/rotate", {}),
        *(("POST", f"{place}/{verb}", None) for verb in ("retire", "enable", "disable", "test")),
    ]
    strange = [bob.request(verb, path, json=body, headers=match) for verb, path, body in doors]
    nowhere = [
        bob.request(verb, path.replace(made["id"], "ep_none"), json=body, headers=match) for verb, path, body in doors
    ]
    assert [one.status_code for one in strange] == [404] * len(doors)
    # What is another's and what is not there are told alike.
    assert [one.json()["detail"] for one in strange] == [one.json()["detail"] for one in nowhere]
    assert bob.get("/v1/endpoints").json()["items"] == []
    assert bob.get("/v1/endpoints", params={"owner": "ann"}).status_code == 403
    assert context.store.endpoints()[0].revision == 0
    assert hooks.got == []
    assert as_user("root", "admin").get(place).status_code == 200
    viewer = as_user("ann", "viewer")
    assert (viewer.get(place).status_code, viewer.post(f"{place}/test").status_code) == (200, 403)
    limited = as_user("ann", "user", scopes={"rules:write"})
    assert limited.get(place).status_code == 403


def test_what_a_user_may_not_set_is_refused(ann, context, hooks: Receiver) -> None:
    made = new(ann, hooks)
    for more in ("owner", "id", "operator", "settings", "enabled", "failures", "secret", "secrets"):
        body = {"kind": "webhook", "name": "desk", "address": f"{hooks.url}/", more: "x"}
        assert ann.post("/v1/endpoints", json=body).status_code == 422
        changed = ann.patch(f"/v1/endpoints/{made['id']}", json={more: "x"}, headers={"If-Match": "*"})
        assert changed.status_code == 422
    for wrong in ({"name": "a b"}, {"per_minute": -1}, {"per_minute": 10**9}, {"lifetime_seconds": 1e99}):
        assert ann.patch(f"/v1/endpoints/{made['id']}", json=wrong, headers={"If-Match": "*"}).status_code == 422
    assert context.store.endpoints()[0].revision == 0


def test_a_change_names_what_it_changes_and_a_repeated_request_makes_nothing_twice(ann, hooks: Receiver) -> None:
    key = {"Idempotency-Key": "0123456789abcdef"}
    body = {"kind": "webhook", "name": "desk", "address": f"{hooks.url}/"}
    first, again = (ann.post("/v1/endpoints", json=body, headers=key) for _ in range(2))
    assert first.json() == again.json()
    place = f"/v1/endpoints/{first.json()['id']}"
    assert len(ann.get("/v1/endpoints").json()["items"]) == 1
    etag = ann.get(place).headers["etag"]
    assert ann.get(place, headers={"If-None-Match": etag}).status_code == 304
    assert ann.patch(place, json={"per_minute": 30}).status_code == 428
    changed = ann.patch(place, json={"per_minute": 30, "name": "night"}, headers={"If-Match": etag})
    assert (changed.json()["per_minute"], changed.json()["name"]) == (30, "night")
    for answer in (
        ann.patch(place, json={"per_minute": 31}, headers={"If-Match": etag}),
        ann.post(f"{place}/disable", headers={"If-Match": etag}),
        ann.delete(place, headers={"If-Match": etag}),
    ):
        assert answer.status_code == 412
    off = ann.post(f"{place}/disable", headers={"If-Match": changed.headers["etag"]}).json()
    assert (off["enabled"], off["reason"]) == (False, "switched off by its owner")
    on = ann.post(f"{place}/enable").json()
    assert (on["enabled"], on["per_minute"], on["revision"]) == (True, 30, 3)
    assert ann.delete(place).status_code == 204
    assert ann.get(place).status_code == 404


def test_health_tells_what_became_of_deliveries(ann, context, hooks: Receiver) -> None:
    from tapeline.alerts.delivery.manager import NotificationManager

    made = new(ann, hooks)
    place = f"/v1/endpoints/{made['id']}/health"
    assert ann.get(place).json()["state"] == "untried"
    hooks.script = [Reply(), Reply(500, "no")]
    sender = NotificationManager(context.store, context.part(manager_of).channels)
    for number in range(2):
        one = Delivery(f"d{number}", f"evt_{number}", "webhook", made["id"], "{}", time.time_ns())
        context.store.commit(Commit(deliveries=(one,)))
        sender.step("webhook")
    found = ann.get(place).json()
    assert (found["state"], found["failures"], found["attempts"], found["successes"]) == ("failing", 1, 2, 1)
    assert found["reason"] == "HTTP 500: no"
    assert found["deliveries"] == {"sent": 1, "waiting": 1}
    assert [one["outcome"] for one in found["recent"]] == ["retry", "sent"]
    assert 0 < found["latency_seconds"] <= found["latency_p95_seconds"] < 15
    assert len(ann.get(place, params={"attempts": 1}).json()["recent"]) == 1


def test_a_secret_that_cannot_be_decrypted_is_told_and_repaired(as_user, ann, context, hooks, tmp_path) -> None:
    made = new(ann, hooks)
    context.part(manager_of)._vault = strange = SecretVault([new_key()])  # the key was lost: another is in its place
    context.part(manager_of)._channels["webhook"]._vault = strange
    place = f"/v1/endpoints/{made['id']}"
    (listed,) = ann.get("/v1/endpoints").json()["items"]
    assert (listed["address"], "cannot be decrypted" in listed["problem"]) == (None, True)
    assert ann.post(f"{place}/enable").status_code == 422
    assert ann.post(f"{place}/test").json()["outcome"] == "refused"
    ann.patch(place, json={"address": f"{hooks.url}/"}, headers={"If-Match": "*"})
    repaired = ann.post(f"{place}/rotate", json={}).json()
    assert (repaired["problem"], repaired["secrets"]) == ("", 1)
    assert ann.post(f"{place}/enable").status_code == 200


def test_an_endpoint_of_the_settings_is_changed_there(ann, context, hooks: Receiver) -> None:
    from tapeline.alerts.channel_settings import keep_endpoint

    one = AlertChannelSettings(kind="webhook", owner="ann", address=f"{hooks.url}/settings")
    keep_endpoint(context.part(manager_of), context.store, context.vault, "desk", one)
    place = "/v1/endpoints/ann.desk"
    assert ann.get(place).json()["from_settings"]
    assert ann.patch(place, json={"per_minute": 1}, headers={"If-Match": "*"}).status_code == 409
    assert ann.delete(place).status_code == 409
    assert ann.post(f"{place}/test").json()["outcome"] == "sent"
    # Rules that name the channel mean the settings' endpoint; another of the name would never be told.
    body = {"kind": "webhook", "name": "desk", "address": f"{hooks.url}/"}
    assert ann.post("/v1/endpoints", json=body).status_code == 422


def test_a_name_is_a_channel_of_one_kind_and_a_bot_is_not_told_here(ann, as_user, context, hooks: Receiver) -> None:
    made = new(ann, hooks)
    assert new(ann, hooks)["name"] == made["name"]  # several of one kind may share it
    chat = {"kind": "telegram", "address": "tgram://123456789:AAbbccddeeffgghhiijjkkllmmnnooppqqr/42"}
    refused = ann.post("/v1/endpoints", json={**chat, "name": "desk"})
    assert (refused.status_code, refused.json()["errors"][0]["pointer"]) == (422, "/name")
    phone = ann.post("/v1/endpoints", json={**chat, "name": "phone"}).json()
    place = f"/v1/endpoints/{phone['id']}"
    assert ann.patch(place, json={"name": "desk"}, headers={"If-Match": "*"}).status_code == 422
    assert as_user("bob").post("/v1/endpoints", json={**chat, "name": "desk"}).status_code == 201
    context.store.save_endpoint(Endpoint("ann.bot", "ann", "bot", "x", settings={"name": "bot"}))
    assert ann.get("/v1/endpoints/ann.bot").status_code == 404
    assert len(ann.get("/v1/endpoints").json()["items"]) == 3


def test_pages_and_the_quota(ann, context, hooks: Receiver) -> None:
    context.access.users.add("ann", quotas={"endpoints": 5})
    for number in range(5):
        new(ann, hooks, name=f"n{number}")
    one_more = {"kind": "webhook", "name": "desk", "address": f"{hooks.url}/"}
    assert ann.post("/v1/endpoints", json=one_more).json()["type"].endswith("quota-exceeded")
    found, cursor = [], None
    while True:
        page = ann.get("/v1/endpoints", params={"limit": 2, **({"cursor": cursor} if cursor else {})}).json()
        assert len(page["items"]) <= 2
        found += [one["id"] for one in page["items"]]
        cursor = page["cursor"]
        if cursor is None:
            break
    assert found == sorted(one.id for one in context.store.endpoints())
    assert len(found) == 5
