"""Endpoints over time: rotation, switching off and who hears of it, limits of their own, health."""

from __future__ import annotations

import json
import threading
from dataclasses import replace

import pytest

from tapeline.alerts.delivery.channel import Answer
from tapeline.alerts.delivery.manager import NotificationManager
from tapeline.alerts.delivery.messengers import MessengerChannel
from tapeline.alerts.delivery.secret_vault import SecretVault, new_key
from tapeline.alerts.delivery.signing import verify
from tapeline.alerts.delivery.ssrf import TargetRules
from tapeline.alerts.delivery.webhook import WebhookChannel
from tapeline.alerts.endpoint_notices import LATEST, EndpointNotices
from tapeline.alerts.records import Attempt
from tapeline.alerts.store.store import Endpoint, RevisionConflictError, UnknownRecordError
from tapeline.alerts.webhook_manager import WebhookManager
from tapeline.core.errors import ConfigurationError, DataError, TemporaryError, ThrottledError
from tests.alerts.delivery.support import SECOND, START, FakeClock, Receiver, put, receiver

pytestmark = pytest.mark.network_shape
VAULT = SecretVault([new_key()])
CHAT = "tgram://123456789:AAbbccddeeffgghhiijjkkllmmnnooppqqr/42"


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def hooks():
    with receiver() as state:
        yield state


def channel_to(hooks: Receiver, clock: FakeClock) -> WebhookChannel:
    rules = TargetRules(http=True, ports=(hooks.port,), networks=("127.0.0.1/32",))
    return WebhookChannel(VAULT, rules=rules, timeout=3.0, monotonic=clock.monotonic)


@pytest.fixture
def channel(hooks: Receiver, clock: FakeClock) -> WebhookChannel:
    return channel_to(hooks, clock)


@pytest.fixture
def manager(store, channel: WebhookChannel, clock: FakeClock) -> WebhookManager:
    channels = {"webhook": channel, "telegram": MessengerChannel("telegram", vault=VAULT)}
    return WebhookManager(store, VAULT, channels, grace=3_600, clock=clock)


class Down:
    """A channel that answers as it is told, for endpoints that are only names."""

    digests = False

    def __init__(self, name: str, answer: Answer) -> None:
        self.name, self.answer, self.sent = name, answer, []

    def admit(self, endpoint) -> float:
        return 0.0

    def send(self, deliveries, endpoint, *, now: int) -> Answer:
        self.sent.append((endpoint.id, deliveries[0]))
        return self.answer


def signatures(hooks: Receiver) -> list[str]:
    return hooks.got[-1].headers["webhook-signature"].split(" ")


def fits(secret: str, hooks: Receiver, clock: FakeClock) -> bool:
    try:
        verify([secret], hooks.got[-1].headers, hooks.got[-1].body, now=clock.now / SECOND)
    except DataError:
        return False
    return True


def test_a_rotation_signs_by_both_until_its_grace_is_over_whether_or_not_anybody_looks(
    store, manager: WebhookManager, channel, hooks: Receiver, clock: FakeClock
) -> None:
    made = manager.register("me", "webhook", f"{hooks.url}/", name="desk", id="e1")
    clock.pass_(10)
    second = manager.rotate("e1").secret
    clock.pass_(1_800)
    third = manager.rotate("e1", grace=600).secret

    def said() -> list[bool]:
        put(store, "webhook", "e1", [len(hooks.got)])
        NotificationManager(store, [channel], clock=clock).step("webhook")
        return [fits(secret, hooks, clock) for secret in (made.secret, second, third)]

    assert said() == [True, True, True]
    clock.pass_(600)
    assert said() == [True, False, True]  # the second went after its own grace, before the older one
    assert manager.upkeep() == (1, 0)
    assert said() == [True, False, True]
    clock.pass_(1_200)
    assert said() == [False, False, True]
    before = manager.known("e1").revision
    assert (manager.upkeep(), manager.upkeep()) == ((1, 0), (0, 0))
    assert (len(manager.known("e1").secrets), manager.known("e1").revision) == (1, before)
    manager.rotate("e1", grace=0)
    assert said() == [False, False, False]
    for _ in range(5):
        manager.rotate("e1")
    assert len(manager.known("e1").secrets) == 3
    with pytest.raises(DataError, match="grace"):
        manager.rotate("e1", grace=1e9)


def test_each_id_is_sent_again_the_same_and_its_receiver_takes_it_once(store, manager, channel, hooks, clock) -> None:
    secret = manager.register("me", "webhook", f"{hooks.url}/", name="desk", id="e1").secret
    (one,) = put(store, "webhook", "e1", [0])
    claim, lost = store.claim("webhook", limit=1, lease=5, now=clock.now)[0], clock.now
    store.begin_attempt(claim, now=lost)
    channel.send([one], manager.known("e1"), now=clock.now)  # sent, and the process died before it wrote that down
    clock.pass_(200)
    NotificationManager(store, [channel], clock=clock).step("webhook")
    taken = {}
    for got in hooks.got:
        id = verify([secret], got.headers, got.body, now=int(got.headers["webhook-timestamp"]))
        taken.setdefault(id, set()).add(got.body)
    assert len(hooks.got) == 2
    assert taken == {one.firing: {one.body.encode()}}


def test_who_is_switched_off_is_told_through_another_once_and_never_in_circles(store, clock) -> None:
    gone = Answer("gone", 410, disable="it answered 410 Gone")
    kinds = {kind: Down(kind, gone) for kind in ("webhook", "telegram", "email")}
    for position, kind in enumerate(kinds):
        store.save_endpoint(Endpoint(f"e{position}.{kind}", "me", kind, "x", settings={"name": kind}))
    store.save_endpoint(Endpoint("other", "you", "telegram", "x"))
    operator = []
    notices = EndpointNotices(store, operator=operator.append)
    sender = NotificationManager(store, kinds.values(), clock=clock, notice=notices)
    put(store, "webhook", "e0.webhook", range(3))
    for _ in range(6):
        for kind in kinds:
            sender.step(kind)
        clock.pass_(61)
    # The webhook fails; Telegram is told and fails; mail is told of that and fails; then only the operator is left.
    assert [len(kind.sent) for kind in kinds.values()] == [1, 1, 1]
    told = [json.loads(kinds[kind].sent[0][1].body) for kind in ("telegram", "email")]
    assert [(one["type"], one["data"]["endpoint"]) for one in told] == [
        ("endpoint.disabled", "e0.webhook"),
        ("endpoint.disabled", "e1.telegram"),
    ]
    assert told[0]["data"]["reason"] == "it answered 410 Gone"
    assert [message.title for message in operator] == ["the endpoint e2.email of me was switched off"]
    assert store.endpoint("other").enabled
    assert notices.catch_up(now=clock.now) == 0


def test_two_workers_that_find_it_at_once_tell_it_once_and_keep_what_its_owner_changed(store, clock) -> None:
    store.save_endpoint(Endpoint("e1", "me", "webhook", "x"))
    store.save_endpoint(Endpoint("e2", "me", "telegram", "x"))
    notices = EndpointNotices(store)
    both = threading.Barrier(2)

    class Slow(Down):
        def send(self, deliveries, endpoint, *, now: int) -> Answer:
            store.change_endpoint("e1", lambda one: replace(one, settings={**one.settings, "name": "renamed"}))
            both.wait(10)
            return super().send(deliveries, endpoint, now=now)

    slow = Slow("webhook", Answer("gone", 410, disable="gone"))
    put(store, "webhook", "e1", range(2))
    workers = [
        threading.Thread(
            target=NotificationManager(store, [slow], clock=clock, notice=notices, batch=1).step, args=["webhook"]
        )
        for _ in range(2)
    ]
    for one in workers:
        one.start()
    for one in workers:
        one.join(20)
    assert len(slow.sent) == 2
    assert len(store.claim("telegram", limit=10, lease=SECOND, now=clock.now + LATEST // 2)) == 1
    standing = store.endpoint("e1")
    assert (standing.enabled, standing.settings["name"], standing.revision) == (False, "renamed", 1)


def test_a_notice_that_a_crash_left_out_is_made_up_for_and_an_owner_is_not_told_of_himself(
    store, manager: WebhookManager, hooks, clock
) -> None:
    manager.register("me", "telegram", CHAT, name="phone", id="phone")
    for id in ("one", "two"):
        manager.register("me", "webhook", f"{hooks.url}/", name="desk", id=id)
    manager.disable("one", reason="a secret cannot be decrypted")  # and the process died here
    manager.disable("two")
    assert manager.upkeep() == (0, 1)
    manager.change("one", name="renamed")
    assert manager.upkeep() == (0, 0)
    (notice,) = store.claim("telegram", limit=10, lease=SECOND, now=clock.now)
    assert json.loads(notice.delivery.body)["data"]["endpoint"] == "one"
    manager.enable("one")
    clock.pass_(5)
    manager.disable("one", reason="again")
    assert manager.upkeep() == (0, 1)  # another switching off is another notice
    clock.pass_(LATEST / SECOND)
    assert manager.upkeep() == (0, 0)


def test_an_own_limit_lets_deliveries_wait_and_loses_none(store, manager, channel, hooks, clock) -> None:
    manager.register("me", "webhook", f"{hooks.url}/slow", name="desk", id="slow", per_minute=6)
    manager.register("me", "webhook", f"{hooks.url}/free", name="desk", id="free")
    made = put(store, "webhook", "slow", range(6)) + put(store, "webhook", "free", range(6))
    sender = NotificationManager(store, [channel], clock=clock)
    times: list[float] = []
    while any(store.delivery(one.id).state != "sent" for one in made) and clock.monotonic() < 120:
        before = len([got for got in hooks.got if got.path == "/slow"])
        sender.step("webhook")
        times += [clock.monotonic()] * (len([got for got in hooks.got if got.path == "/slow"]) - before)
        if clock.monotonic() == 0:
            assert len([got for got in hooks.got if got.path == "/free"]) == 6  # nobody waits for another
        clock.pass_(4)
    assert [store.delivery(one.id).state for one in made] == ["sent"] * 12
    assert [store.delivery(one.id).attempts for one in made] == [1] * 12
    assert len(hooks.got) == len({(got.path, got.headers["webhook-id"]) for got in hooks.got}) == 12
    assert all(sum(begin <= each < begin + 60 for each in times) <= 6 for begin in times)
    manager.change("slow", per_minute=0)
    put(store, "webhook", "slow", range(6, 10))
    sender.step("webhook")
    assert len(hooks.got) == 16


def test_a_change_holds_for_the_revision_that_was_read(store, manager: WebhookManager, hooks) -> None:
    manager.register("me", "webhook", f"{hooks.url}/", name="desk", id="e1")
    first = manager.change("e1", revision=0, name="night")
    assert (first.revision, first.settings["name"]) == (1, "night")
    for refused in (
        lambda: manager.change("e1", revision=0, name="day"),
        lambda: manager.rotate("e1", revision=0),
        lambda: manager.disable("e1", revision=0),
        lambda: manager.enable("e1", revision=0),
        lambda: manager.retire("e1", revision=0),
    ):
        with pytest.raises(RevisionConflictError):
            refused()
    assert manager.known("e1") == first
    assert manager.change("e1", name="day").changed_at > first.changed_at  # the clock stands still; changes do not
    manager.remove("e1")
    for gone in (manager.remove, manager.known, manager.enable, manager.test, manager.disable):
        with pytest.raises(UnknownRecordError):
            gone("e1")


def test_what_is_wrong_with_an_endpoint_is_refused_before_it_is_kept(store, manager: WebhookManager, hooks) -> None:
    for kind, address, more in (
        ("fax", "+4930123456", {}),
        ("telegram", f"{CHAT}?api=http://127.0.0.1:1", {}),
        ("telegram", CHAT, {"secret": "whsec_" + "A" * 44}),
        ("webhook", f"{hooks.url}/", {"secret": "short"}),
        ("webhook", f"{hooks.url}/", {"name": "a b"}),
        ("webhook", f"{hooks.url}/", {"per_minute": -1}),
        ("webhook", f"{hooks.url}/", {"lifetime": float("inf")}),
    ):
        with pytest.raises((ConfigurationError, DataError)):
            manager.register("me", kind, address, **{"name": "desk", **more})
    assert store.endpoints() == ()
    manager.register("me", "telegram", CHAT, name="phone", id="phone")
    with pytest.raises(ConfigurationError, match="only webhooks"):
        manager.rotate("phone")

    def nowhere(host: str, port: int) -> list[str]:
        raise OSError("no such host")

    lost = WebhookManager(store, VAULT, {"webhook": WebhookChannel(VAULT, resolve=nowhere)})
    with pytest.raises(ConfigurationError, match="does not resolve"):
        lost.register("me", "webhook", "https://mistyped.example.org/", name="desk")
    with pytest.raises(TemporaryError):
        lost.channels[0].parse("https://mistyped.example.org/")  # at a try it is one to come again


def test_a_test_event_goes_the_guarded_way_and_touches_no_health(store, manager, hooks: Receiver, clock) -> None:
    secret = manager.register("me", "webhook", f"{hooks.url}/", name="desk", id="e1").secret
    assert manager.test("e1").outcome == "sent"
    assert json.loads(hooks.got[0].body)["type"] == "test"
    assert fits(secret, hooks, clock)
    hooks.script = [replace(hooks.otherwise, status=500)]
    assert (manager.test("e1").status, manager.known("e1").failures) == (500, 0)
    with pytest.raises(ThrottledError) as caught:
        manager.test("e1")
    assert caught.value.retry_after > 0
    assert len(hooks.got) == 2


def test_health_is_that_of_its_own_deliveries(store, manager: WebhookManager, hooks, clock) -> None:
    for id in ("e1", "e2"):
        manager.register("me", "webhook", f"{hooks.url}/", name="desk", id=id)
    for id, count in (("e1", 20), ("e2", 3)):
        for number, one in enumerate(put(store, "webhook", id, range(count))):
            (claim,) = store.claim("webhook", limit=1, lease=SECOND, now=clock.now, endpoint=id)
            assert claim.delivery.id == one.id
            begun = store.begin_attempt(claim, now=clock.now)
            took = (number + 1) * SECOND // 100
            ended = replace(begun, ended_at=clock.now + took, outcome="sent", status=200)
            if id == "e2":
                ended = replace(ended, outcome="retry", status=0, detail="no answer", retry_at=clock.now + 10**12)
            store.settle(ended)
            store.endpoint_answered(id, ok=id == "e1", at=ended.ended_at)
            clock.pass_(1)
    well, ill = (manager.health(manager.known(id)) for id in ("e1", "e2"))
    assert (well.state, well.attempts, well.successes, well.failures) == ("healthy", 20, 20, 0)
    assert (well.latency, well.latency_p95) == (pytest.approx(0.10), pytest.approx(0.19))
    assert well.last_success_at == START + 19 * SECOND + 20 * SECOND // 100
    assert len(well.recent) == 20
    assert isinstance(well.recent[0], Attempt)
    assert well.recent[0].started_at == START + 19 * SECOND
    assert (ill.state, ill.reason, ill.failures, ill.successes) == ("failing", "no answer", 3, 0)
    assert (ill.latency != ill.latency, ill.last_success_at, ill.deliveries) == (True, 0, {"waiting": 3})
    assert manager.health(manager.disable("e2")).state == "switched_off"
