"""Rules with their revisions, silences and endpoints, on both databases."""

from __future__ import annotations

import threading
from dataclasses import replace
from datetime import UTC, datetime, time, timedelta

import pytest

from tapeline.alerts.records import Commit, RuleState, Silence
from tapeline.alerts.rule import Escalation, Hours, Hysteresis, Rule
from tapeline.alerts.store.store import Endpoint, RevisionConflictError, UnknownRecordError
from tapeline.core.errors import DataError


def make_rule(id: str = "btc", **changes) -> Rule:
    return Rule(**{"id": id, "owner": "me", "condition": "close > 1", "symbols": ("BTCUSDT",), **changes})


def test_a_rule_comes_back_as_it_was(store) -> None:
    rule = make_rule(
        name="Über 60k '; --",
        cooldown=timedelta(minutes=5),
        hysteresis=Hysteresis(percent=0.5),
        expires_at=datetime(2030, 1, 1, tzinfo=UTC),
        quiet_hours=(Hours(begin=time(22), end=time(6), days={0, 4}, zone="Europe/Berlin"),),
        labels={"desk": "crypto"},
        escalation=(Escalation(after=timedelta(minutes=1), channels=("sms",)),),
    )
    stored = store.save_rule(rule, by="ann", at=5)
    assert store.rule("btc") == stored
    assert stored.rule == rule
    assert stored.rule.version == rule.version
    assert (stored.revision, stored.changed_at, stored.changed_by, stored.deleted) == (1, 5, "ann", False)
    assert store.rule("none") is None


def test_every_revision_stays_readable_with_who_and_when(store) -> None:
    store.save_rule(make_rule(), by="ann", at=1, revision=0)
    store.save_rule(make_rule(condition="close > 2"), by="bob", at=2, revision=1)
    store.enable_rule("btc", False, by="ann", at=3)
    store.delete_rule("btc", by="bob", at=4)
    store.save_rule(make_rule(), by="ann", at=5)
    history = store.rule_history("btc")
    assert [(one.revision, one.changed_by, one.changed_at, one.deleted) for one in history] == [
        (1, "ann", 1, False),
        (2, "bob", 2, False),
        (3, "ann", 3, False),
        (4, "bob", 4, True),
        (5, "ann", 5, False),
    ]
    assert [one.rule.condition for one in history] == ["close > 1", "close > 2", "close > 2", "close > 2", "close > 1"]
    assert [one.rule.enabled for one in history] == [True, True, False, False, True]
    assert store.rule("btc") == history[-1]


def test_the_same_rule_again_is_no_change(store) -> None:
    first = store.save_rule(make_rule(), by="ann", at=1)
    assert store.save_rule(make_rule(), by="bob", at=2) == first
    assert store.enable_rule("btc", True, by="bob", at=3) == first
    assert len(store.rule_history("btc")) == 1


def test_whoever_changed_an_older_revision_is_told(store) -> None:
    store.save_rule(make_rule(), by="ann", at=1)
    for revision in (0, 2):
        with pytest.raises(RevisionConflictError, match="revision 1"):
            store.save_rule(make_rule(condition="close > 2"), by="bob", at=2, revision=revision)
        with pytest.raises(RevisionConflictError, match="revision 1"):
            store.delete_rule("btc", by="bob", at=2, revision=revision)
    assert store.rule("btc").rule.condition == "close > 1"


def test_of_changes_at_the_same_time_one_wins(store) -> None:
    store.save_rule(make_rule(), by="ann", at=1)
    outcomes = []

    def change(number: int) -> None:
        try:
            store.save_rule(make_rule(condition=f"close > {number + 2}"), by="x", at=2, revision=1)
            outcomes.append("saved")
        except RevisionConflictError:
            outcomes.append("refused")

    threads = [threading.Thread(target=change, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(outcomes) == ["refused", "refused", "refused", "saved"]
    assert [one.revision for one in store.rule_history("btc")] == [1, 2]


def test_what_is_not_there_is_said(store) -> None:
    for change in (
        lambda: store.enable_rule("none", True, by="a", at=1),
        lambda: store.delete_rule("none", by="a", at=1),
        lambda: store.end_silence("none", at=1),
    ):
        with pytest.raises(UnknownRecordError, match="none"):
            change()


def test_rules_of_an_owner_and_those_that_are_on(store) -> None:
    for id, owner, enabled in (("c", "me", True), ("a", "me", False), ("b", "you", True)):
        store.save_rule(make_rule(id, owner=owner, enabled=enabled), by="x", at=1)
    assert [one.rule.id for one in store.rules()] == ["a", "b", "c"]
    assert [one.rule.id for one in store.rules(owner="me")] == ["a", "c"]
    assert [one.rule.id for one in store.rules(enabled=True)] == ["b", "c"]
    assert [one.rule.id for one in store.rules(owner="me", enabled=False)] == ["a"]


def test_an_engine_reads_on_from_the_last_change_it_saw(store) -> None:
    first = store.save_rule(make_rule("a"), by="x", at=1)
    second = store.save_rule(make_rule("b"), by="x", at=2)
    third = store.delete_rule("a", by="x", at=3)
    assert store.rule_changes(0) == (first, second, third)
    assert store.rule_changes(0, limit=2) == (first, second)
    assert store.rule_changes(second.number) == (third,)
    assert third.deleted


def test_with_a_rule_go_its_states(store) -> None:
    store.save_rule(make_rule(), by="x", at=1)
    states = (RuleState("btc", "v", "BTCUSDT", "firing", 1), RuleState("other", "v", "BTCUSDT", "firing", 1))
    store.commit(Commit(states=states))
    store.delete_rule("btc", by="x", at=2)
    assert store.states() == states[1:]


def test_silences_are_kept_replaced_and_ended(store) -> None:
    silence = Silence("s1", "me", {"symbol": "BTC*", "priority": "low"}, 10, 20, "maintenance ü", "ann")
    later = Silence("s2", "you", {}, 30, 40)
    store.save_silence(silence)
    store.save_silence(later)
    assert store.silences() == (silence, later)
    assert store.silences(at=19) == (silence, later)
    assert store.silences(at=20) == (later,)
    assert store.silences(owner="me") == (silence,)
    store.save_silence(replace(silence, comment="longer", ends_at=25))
    assert store.silences(owner="me")[0].ends_at == 25
    assert store.end_silence("s1", at=15).ends_at == 15
    assert store.end_silence("s1", at=18).ends_at == 15
    assert store.end_silence("s2", at=15).ends_at == 30
    assert store.silences(at=15) == (replace(later, ends_at=30),)
    with pytest.raises(DataError, match="before it begins"):
        store.save_silence(Silence("s3", "me", {}, 2, 1))


def test_an_endpoint_is_kept_with_its_secrets_as_they_are(store) -> None:
    endpoint = Endpoint(
        "e1",
        "me",
        "webhook",
        "https://example.org/ü",
        (b"\x00\xff secret", b""),
        settings={"a": [1, None]},
        created_at=5,
    )
    store.save_endpoint(endpoint)
    assert store.endpoint("e1") == endpoint
    changed = replace(endpoint, enabled=False, reason="410", secrets=(), created_at=99, changed_at=9)
    store.save_endpoint(changed)
    assert store.endpoint("e1") == replace(changed, created_at=5)
    store.save_endpoint(Endpoint("e0", "you", "telegram", "42"))
    assert [one.id for one in store.endpoints()] == ["e0", "e1"]
    assert [one.id for one in store.endpoints(owner="me")] == ["e1"]
    assert [one.id for one in store.endpoints(channel="telegram")] == ["e0"]
    assert store.delete_endpoint("e0")
    assert not store.delete_endpoint("e0")
    assert store.endpoint("e0") is None


def test_an_endpoint_is_changed_as_it_stands_or_not_at_all(store) -> None:
    store.save_endpoint(Endpoint("e1", "me", "webhook", "https://example.org", created_at=1))
    store.endpoint_answered("e1", ok=False, at=5)
    changed = store.change_endpoint("e1", lambda standing: replace(standing, enabled=False, created_at=9))
    assert (changed.failures, changed.enabled) == (1, False)
    assert store.endpoint("e1") == changed
    assert store.change_endpoint("e1", lambda standing: standing) == changed

    def refuse(standing: Endpoint) -> Endpoint:
        raise ValueError(standing.id)

    with pytest.raises(ValueError, match="e1"):
        store.change_endpoint("e1", refuse)
    with pytest.raises(UnknownRecordError):
        store.change_endpoint("none", refuse)
    assert store.endpoint("e1") == changed


def test_failures_in_a_row_are_counted_from_the_first(store) -> None:
    store.save_endpoint(Endpoint("e1", "me", "webhook", "https://example.org"))
    for at in (10, 20, 30):
        found = store.endpoint_answered("e1", ok=False, at=at)
    assert (found.failures, found.failing_since) == (3, 10)
    assert store.endpoint("e1") == found
    found = store.endpoint_answered("e1", ok=True, at=40)
    assert (found.failures, found.failing_since) == (0, 0)
    assert store.endpoint_answered("none", ok=True, at=1) is None
