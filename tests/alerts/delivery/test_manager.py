"""The manager: what waits is sent once it may be, retried by the schedule, and never lost."""

from __future__ import annotations

import contextlib
import itertools
import threading
from collections import Counter, defaultdict
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tapeline.alerts.delivery.channel import Answer
from tapeline.alerts.delivery.grouping import Grouping
from tapeline.alerts.delivery.manager import NotificationManager
from tapeline.alerts.delivery.secret_vault import SecretVault, new_key
from tapeline.alerts.delivery.signing import new_secret, verify
from tapeline.alerts.delivery.ssrf import TargetRules
from tapeline.alerts.delivery.webhook import WebhookChannel
from tapeline.alerts.store.store import Endpoint
from tapeline.alerts.webhook_manager import WebhookManager
from tapeline.core.errors import ConfigurationError, TemporaryError
from tests.alerts.delivery.support import SECOND, START, FakeClock, Receiver, Reply, put

NAMES = itertools.count()
DAY = 86_400


class ScriptedChannel:
    """Answers as told and remembers what it was given."""

    def __init__(self, digests: bool = False, script=(), otherwise: str = "sent", rest: float = 0.0) -> None:
        self.name = f"scripted{next(NAMES)}"
        self.digests = digests
        self.script, self.otherwise, self.rest = list(script), otherwise, rest
        self.sent: list[tuple[str, tuple[str, ...]]] = []
        self.bodies: dict[tuple[str, str], set[str]] = defaultdict(set)
        self.at: list[int] = []

    def admit(self, endpoint):
        return self.rest

    def send(self, deliveries, endpoint, *, now):
        self.sent.append((endpoint.id if endpoint else "", tuple(each.firing for each in deliveries)))
        self.at.append(now)
        for each in deliveries:
            self.bodies[each.firing, each.endpoint].add(each.body)
        found = self.script.pop(0) if self.script else self.otherwise
        if isinstance(found, BaseException):
            raise found
        return found if isinstance(found, Answer) else Answer(found)


def endpoint_of(store, channel, id: str | None = None, **changes) -> str:
    id = id or f"{channel.name}.e"
    store.save_endpoint(Endpoint(id, "me", channel.name, "somewhere", **changes))
    return id


def manager_of(store, channel, clock, **options) -> NotificationManager:
    return NotificationManager(store, [channel], clock=clock, **options)


def states(store, deliveries) -> list[str]:
    return [store.delivery(each.id).state for each in deliveries]


def log(store, delivery) -> list[str]:
    return [each.outcome for each in store.attempts(delivery.id)]


def test_what_waits_is_sent_and_written_down(delivery_store, clock) -> None:
    channel = ScriptedChannel()
    made = put(delivery_store, channel.name, endpoint_of(delivery_store, channel), range(3))
    assert manager_of(delivery_store, channel, clock).step(channel.name) == 3
    assert states(delivery_store, made) == ["sent"] * 3
    assert [log(delivery_store, each) for each in made] == [["sent"]] * 3
    assert manager_of(delivery_store, channel, clock).step(channel.name) == 0


def test_a_failure_is_tried_again_by_the_schedule_until_it_is_a_dead_letter_and_can_be_taken_back(
    delivery_store, clock
) -> None:
    channel = ScriptedChannel(otherwise="retry")
    (one,) = put(delivery_store, channel.name, endpoint_of(delivery_store, channel), [0])
    manager = manager_of(delivery_store, channel, clock)
    for _ in range(12):
        manager.step(channel.name)
        clock.now = max(clock.now, delivery_store.attempts(one.id)[-1].retry_at)
    gaps = [(b - a) / SECOND for a, b in itertools.pairwise(channel.at)]
    for gap, planned in zip(gaps, (5, 300, 1800, 7200, 18000, 36000, 50400, 72000, 86400), strict=True):
        assert 0.8 * planned <= gap <= 1.2 * planned + 0.001
    assert states(delivery_store, [one]) == ["dead"]
    assert log(delivery_store, one) == ["retry"] * 10
    channel.otherwise = "sent"
    assert delivery_store.redrive([one.id], now=clock.now) == 1
    channel.script = ["retry"]
    manager.step(channel.name)
    assert delivery_store.attempts(one.id)[-1].retry_at - clock.now <= 6 * SECOND  # the schedule begins anew
    clock.pass_(6)
    manager.step(channel.name)
    assert states(delivery_store, [one]) == ["sent"]
    assert [len(bodies) for bodies in channel.bodies.values()] == [1]


def test_a_limit_counts_no_try_and_waits_as_asked(delivery_store, clock) -> None:
    channel = ScriptedChannel(script=[Answer("throttled", 429, retry_after=40.0)] * 15)
    (one,) = put(delivery_store, channel.name, "", [0])
    manager = manager_of(delivery_store, channel, clock)
    for _ in range(15):
        manager.step(channel.name)
        clock.pass_(39)
        assert manager.step(channel.name) == 0
        clock.pass_(1.001)
    manager.step(channel.name)
    assert log(delivery_store, one) == ["throttled"] * 15 + ["sent"]


def test_what_has_no_place_in_the_limits_is_given_back_without_a_try(delivery_store, clock) -> None:
    channel = ScriptedChannel(rest=3.0)
    (one,) = put(delivery_store, channel.name, "", [0])
    manager = manager_of(delivery_store, channel, clock)
    manager.step(channel.name)
    assert (channel.sent, log(delivery_store, one)) == ([], [])
    channel.rest = 0.0
    clock.pass_(2.9)
    assert manager.step(channel.name) == 0
    clock.pass_(0.2)
    manager.step(channel.name)
    assert states(delivery_store, [one]) == ["sent"]


def test_killed_between_sending_and_settling_it_goes_out_again_under_the_same_id(store, clock) -> None:
    class Killed(BaseException):
        pass

    channel = ScriptedChannel()
    put(store, channel.name, endpoint_of(store, channel), [7])
    manager = manager_of(store, channel, clock)

    def killed(*attempts):
        raise Killed

    store.settle = killed
    try:
        with pytest.raises(Killed):
            manager.step(channel.name)
    finally:
        del store.settle
    assert manager_of(store, channel, clock).step(channel.name) == 0  # the lease of the dead still holds
    clock.pass_(121)
    manager_of(store, channel, clock).step(channel.name)
    first, second = channel.sent
    assert first == second
    assert [len(bodies) for bodies in channel.bodies.values()] == [1]
    (one,) = store.deliveries(first[1][0])
    assert one.state == "sent"
    assert log(store, one) == ["begun", "sent"]


def test_the_order_of_a_key_is_kept_over_failures_while_others_pass(delivery_store, clock) -> None:
    channel = ScriptedChannel(script=["sent", "retry"])
    id = endpoint_of(delivery_store, channel)
    ordered = put(delivery_store, channel.name, id, range(4), order=f"{id}/rule")
    other = put(delivery_store, channel.name, id, [9], order=f"{id}/other")
    manager = manager_of(delivery_store, channel, clock)
    for _ in range(12):
        manager.step(channel.name)
        clock.pass_(7)
    assert states(delivery_store, ordered + other) == ["sent"] * 5
    told = [firing for _, (firing,) in channel.sent]
    # Of each key the firings come in their order; the one that failed comes again before its successors.
    last = [len(told) - 1 - told[::-1].index(each.firing) for each in ordered]
    assert last == sorted(last)
    assert Counter(told)[other[0].firing] + Counter(told)[ordered[0].firing] == 3


def test_the_most_urgent_goes_first_and_what_is_worthless_is_not_sent(delivery_store, clock) -> None:
    channel = ScriptedChannel()
    made = {
        priority: put(delivery_store, channel.name, "", [number], priority=priority)[0]
        for number, priority in enumerate(("low", "normal", "critical", "high"))
    }
    (late,) = put(delivery_store, channel.name, "", [8], priority="critical", expires_at=START + SECOND)
    clock.pass_(2)
    manager_of(delivery_store, channel, clock).step(channel.name)
    urgent = [made[priority].firing for priority in ("critical", "high", "normal", "low")]
    assert [firing for _, (firing,) in channel.sent] == urgent
    assert states(delivery_store, [late]) == ["expired"]


def test_what_expires_while_it_waits_its_turn_is_recorded_as_expired(delivery_store, clock) -> None:
    channel = ScriptedChannel()
    first = put(delivery_store, channel.name, "", [0])
    stale = put(delivery_store, channel.name, "", [1], expires_at=START + 3 * SECOND)
    send = channel.send

    def slow(deliveries, endpoint, *, now):
        clock.pass_(4)
        return send(deliveries, endpoint, now=now)

    channel.send = slow
    manager_of(delivery_store, channel, clock).step(channel.name)
    assert states(delivery_store, first + stale) == ["sent", "expired"]
    assert log(delivery_store, stale[0]) == []


@pytest.mark.parametrize(("count", "messages"), [(5, 5), (6, 1), (40, 1)])
def test_a_flood_is_one_digest_for_people_and_each_for_itself_for_bots(delivery_store, clock, count, messages) -> None:
    for digests in (True, False):
        channel = ScriptedChannel(digests=digests)
        made = put(delivery_store, channel.name, "", range(count))
        urgent = put(delivery_store, channel.name, "", [999], priority="critical")
        manager_of(delivery_store, channel, clock).step(channel.name)
        assert len(channel.sent) == (messages if digests else count) + 1
        assert channel.sent[0][1] == (urgent[0].firing,)
        assert {states(delivery_store, made)[0], states(delivery_store, made)[-1]} == {"sent"}
        assert all(log(delivery_store, each) == ["sent"] for each in made)


def test_what_quiet_hours_held_goes_as_one_digest_at_their_end(delivery_store, clock) -> None:
    channel = ScriptedChannel(digests=True)
    held = put(delivery_store, channel.name, "", range(3), not_before=START + 3_600 * SECOND, state="held")
    manager = manager_of(delivery_store, channel, clock)
    assert manager.step(channel.name) == 0
    clock.pass_(3_601)
    fresh = put(delivery_store, channel.name, "", [50], created_at=clock.now)
    manager.step(channel.name)
    assert sorted(len(firings) for _, firings in channel.sent) == [1, 3]
    assert states(delivery_store, held + fresh) == ["sent"] * 4


def test_a_group_waits_for_its_others_and_then_for_its_interval(delivery_store, clock) -> None:
    channel = ScriptedChannel(digests=True)
    manager = manager_of(delivery_store, channel, clock)
    grouping = Grouping()
    put(delivery_store, channel.name, "", range(3), created_at=START, group="g")
    manager.step(channel.name)
    assert channel.sent == []
    clock.now = START + grouping.group_wait
    manager.step(channel.name)
    put(delivery_store, channel.name, "", range(3, 5), created_at=clock.now, group="g")
    put(delivery_store, channel.name, "", [6], created_at=clock.now, group="other")
    clock.now += grouping.group_wait + 1
    manager.step(channel.name)
    assert [len(firings) for _, firings in channel.sent] == [3, 1]
    clock.now = START + grouping.group_wait + grouping.group_interval
    manager.step(channel.name)
    assert [len(firings) for _, firings in channel.sent] == [3, 1, 2]


def test_after_five_days_of_failures_an_endpoint_is_switched_off_and_another_channel_is_told(
    delivery_store, clock
) -> None:
    channel = ScriptedChannel(otherwise="retry")
    id = endpoint_of(delivery_store, channel)
    told = []

    def notice(endpoint, message) -> None:
        assert (endpoint.id, endpoint.enabled) == (id, False)
        told.append(message)
        raise RuntimeError("the other channel is down as well")

    manager = manager_of(delivery_store, channel, clock, notice=notice)
    made = put(delivery_store, channel.name, id, [0])
    for day in range(6):
        made += put(delivery_store, channel.name, id, [day + 1], created_at=clock.now)
        manager.step(channel.name)
        assert delivery_store.endpoint(id).enabled == (day < 5)
        clock.pass_(DAY + 61)
    (message,) = told
    assert id in message.title
    assert "over 5 days" in message.body
    for _ in range(3):
        manager.step(channel.name)
        clock.pass_(61)
    assert set(states(delivery_store, made)) == {"dead"}
    (last,) = [each for each in delivery_store.attempts(made[-1].id) if each.outcome == "refused"]
    assert "switched off" in last.detail
    clean = delivery_store.endpoint(id)
    delivery_store.save_endpoint(replace(clean, enabled=True, failures=0, failing_since=0))
    channel.otherwise = "sent"
    assert delivery_store.redrive(endpoint=id, now=clock.now) == len(made)
    manager.step(channel.name)
    assert set(states(delivery_store, made)) == {"sent"}


def test_one_success_begins_the_five_days_anew(delivery_store, clock) -> None:
    channel = ScriptedChannel(otherwise="retry")
    id = endpoint_of(delivery_store, channel)
    manager = manager_of(delivery_store, channel, clock)
    for day in range(9):
        put(delivery_store, channel.name, id, [day], created_at=clock.now, expires_at=clock.now + DAY * SECOND)
        channel.otherwise = "sent" if day == 4 else "retry"
        manager.step(channel.name)
        clock.pass_(DAY + 1)
    assert delivery_store.endpoint(id).enabled


@pytest.mark.parametrize(
    "answer", [Answer("gone", 410, disable="it answered 410 Gone"), Answer("refused", disable="x")]
)
def test_an_endpoint_that_is_gone_is_asked_once(delivery_store, clock, answer) -> None:
    channel = ScriptedChannel(script=[answer])
    id = endpoint_of(delivery_store, channel)
    made = put(delivery_store, channel.name, id, range(3))
    manager = manager_of(delivery_store, channel, clock)
    manager.step(channel.name)
    manager.step(channel.name)
    assert len(channel.sent) == 1
    assert states(delivery_store, made) == ["dead"] * 3
    assert all(log(delivery_store, each) for each in made)
    assert not delivery_store.endpoint(id).enabled


def test_no_endpoint_or_another_channels_is_a_dead_letter(delivery_store, clock) -> None:
    channel, other = ScriptedChannel(), ScriptedChannel()
    made = put(delivery_store, channel.name, "nobody", [0])
    made += put(delivery_store, channel.name, endpoint_of(delivery_store, other), [1])
    manager_of(delivery_store, channel, clock).step(channel.name)
    assert channel.sent == []
    assert states(delivery_store, made) == ["dead"] * 2


def test_a_channel_that_raises_and_a_database_that_fails_end_nothing(delivery_store, clock) -> None:
    channel = ScriptedChannel(script=[RuntimeError("bug with a secret"), "sent"])
    (one,) = put(delivery_store, channel.name, "", [0])
    manager = manager_of(delivery_store, channel, clock)
    manager.step(channel.name)
    (attempt,) = delivery_store.attempts(one.id)
    assert (attempt.outcome, attempt.detail) == ("retry", "the channel failed: RuntimeError")
    clock.pass_(7)

    def lost(claims, *, now):
        raise TemporaryError("the database is away")

    delivery_store.begin_attempts = lost
    try:
        manager.step(channel.name)
    finally:
        del delivery_store.begin_attempts
    clock.pass_(121)
    manager.step(channel.name)
    assert states(delivery_store, [one]) == ["sent"]


def test_a_slow_endpoint_holds_up_no_other_and_stop_ends_cleanly(delivery_store) -> None:
    entered, released = threading.Event(), threading.Event()

    class Blocking(ScriptedChannel):
        def send(self, deliveries, endpoint, *, now):
            if endpoint.id.endswith(".slow"):
                entered.set()
                released.wait(20)
            return super().send(deliveries, endpoint, now=now)

    channel = Blocking()
    slow = put(delivery_store, channel.name, endpoint_of(delivery_store, channel, f"{channel.name}.slow"), range(3))
    quick = endpoint_of(delivery_store, channel, f"{channel.name}.quick")
    settled, settle = threading.Event(), delivery_store.settle

    def watched(*attempts):
        found = settle(*attempts)
        settled.set()
        return found

    delivery_store.settle = watched
    try:
        manager = NotificationManager(delivery_store, [channel], poll_seconds=0.02)
        manager.start()
        with pytest.raises(ConfigurationError):
            manager.start()
        assert entered.wait(10)
        made = put(delivery_store, channel.name, quick, range(4))
        manager.wake()
        assert settled.wait(10)
        while states(delivery_store, made) != ["sent"] * 4:
            settled.clear()
            assert settled.wait(10)
        assert not manager.stop(timeout=0.05)  # a try is under way
        released.set()
        assert manager.stop(timeout=10)
    finally:
        del delivery_store.settle
        released.set()
    # The try that was under way is settled; what waited behind it was given back, not tried.
    assert states(delivery_store, slow) == ["sent", "waiting", "waiting"]


FAULTS = st.sampled_from(["ok", "ok", "500", "429", "503", "301", "drop", "410", "killed"])
REPLIES = {
    "ok": Reply(),
    "500": Reply(500, "down"),
    "429": Reply(429, headers=(("Retry-After", "30"),)),
    "503": Reply(503, headers=(("Retry-After", "999999"),)),
    "301": Reply(
        301,
        headers=(("Location", "/")),
    )
    if False
    else Reply(301),
    "drop": Reply(fault="drop"),
    "410": Reply(410),
    "killed": Reply(),
}


@pytest.mark.network_shape
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(faults=st.lists(FAULTS, min_size=4, max_size=25), count=st.integers(1, 4), ordered=st.booleans())
def test_under_any_faults_every_delivery_ends_with_a_whole_log_and_each_id_has_one_body(
    delivery_store, hooks: Receiver, faults, count, ordered
) -> None:
    clock = FakeClock()
    vault = SecretVault([new_key()])
    rules = TargetRules(http=True, ports=(hooks.port,), networks=("127.0.0.0/8",))
    channel = WebhookChannel(vault, rules=rules, timeout=5.0, name=f"webhook{next(NAMES)}")
    book = WebhookManager(delivery_store, vault, {channel.name: channel}, clock=clock)
    keys, made = {}, []
    for position in range(2):
        id = f"{channel.name}.{position}"
        keys[f"/{position}"] = book.register(
            "me", channel.name, f"{hooks.url}/{position}", name=channel.name, id=id, secret=new_secret()
        ).secret
        made += put(delivery_store, channel.name, id, range(count), order=f"{id}/rule" if ordered else "")
    hooks.got.clear()
    hooks.script, hooks.otherwise = [REPLIES[each] for each in faults], Reply()
    kills = faults.count("killed")
    settle = delivery_store.settle

    class Killed(BaseException):
        pass

    def sometimes(*attempts):
        nonlocal kills
        position = len(hooks.got) - 1
        if attempts[0].outcome != "refused" and position < len(faults) and faults[position] == "killed" and kills:
            kills -= 1
            raise Killed
        return settle(*attempts)

    delivery_store.settle = sometimes
    try:
        for _ in range(400):
            with contextlib.suppress(Killed):
                NotificationManager(delivery_store, [channel], clock=clock).step(channel.name)
            if all(state in ("sent", "dead") for state in states(delivery_store, made)):
                break
            clock.pass_(1_800)
    finally:
        del delivery_store.settle
    bodies: dict[tuple[str, str], set[bytes]] = defaultdict(set)
    for got in hooks.got:
        key = (got.path, got.headers["webhook-id"])
        bodies[key].add(got.body)
        stamp = int(got.headers["webhook-timestamp"])
        assert verify([keys[got.path]], got.headers, got.body, now=stamp) == got.headers["webhook-id"]
    assert all(len(each) == 1 for each in bodies.values())
    for each in made:
        found = delivery_store.attempts(each.id)
        assert [attempt.number for attempt in found] == list(range(1, len(found) + 1))
        state = delivery_store.delivery(each.id).state
        path = f"/{each.endpoint[-1]}"
        off = not delivery_store.endpoint(each.endpoint).enabled
        assert state == "sent" or (state == "dead" and off)
        assert found[-1].outcome == "sent" if state == "sent" else found[-1].outcome in ("gone", "refused")
        assert found[-1].ended_at >= found[-1].started_at > 0
        if state == "sent":
            assert bodies[path, each.firing] == {each.body.encode()}
