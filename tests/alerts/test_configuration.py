"""Configurations: export and import are inverse, faults have places, applying is all or nothing, versions come back."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, time, timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some

from tapeline.alerts.configuration import AlertConfigManager, ConfigurationConflictError
from tapeline.alerts.configuration_document import (
    AliasEntry,
    ConfigurationFaultError,
    Document,
    EndpointEntry,
    SilenceEntry,
    check_document,
    instant_of,
    instant_text,
    read_document,
)
from tapeline.alerts.configuration_plan import plan_of
from tapeline.alerts.records import Silence
from tapeline.alerts.rule import Escalation, Hours, Hysteresis, Rule
from tapeline.alerts.store.sql_store import SqlStore
from tapeline.alerts.store.store import Endpoint, UnknownRecordError
from tapeline.alerts.symbol_manager import Instrument, SymbolManager
from tapeline.core.errors import TemporaryError

NOW = 1_767_225_600 * 10**9
HOUR = 3_600 * 10**9

names = some.text("ABCxyz019_.:-", min_size=1, max_size=9).filter(lambda one: one[0] not in "_.:-")
lines = some.one_of(
    # Texts that YAML would take for something else.
    some.sampled_from(
        ["no", "1e5", "08", "0x1F", "~", "22:00", "1_000", "- a", "a: b", "# c", "'", "null", "=", "é\u2028?"]
    ),
    some.text(some.characters(blacklist_categories=("Cs", "Cc")), min_size=1, max_size=12),
)
spans = some.integers(0, 3_600).map(lambda one: timedelta(seconds=one))
hours = some.builds(
    Hours,
    begin=some.integers(0, 23).map(time),
    end=some.integers(0, 59).map(lambda one: time(5, one)),
    days=some.frozensets(some.integers(0, 6), min_size=1),
    zone=some.sampled_from(["UTC", "Europe/Berlin"]),
)
rules = some.builds(
    Rule,
    id=names,
    owner=some.just("ann"),
    name=some.none() | lines,
    condition=some.sampled_from(["close > 100", 'rsi(14, "1h") < 30 for 2 bars', "crosses_up(close, 5) or volume > 1"]),
    symbols=some.sampled_from([("*",), ("BTCUSDT",), ("ETHUSDT", "BTC/USDT")]),
    timeframe=some.sampled_from(["1m", "4h"]),
    cooldown=spans,
    pending=spans,
    hysteresis=some.none() | some.builds(Hysteresis, absolute=some.floats(0, 1e9)),
    expires_at=some.none() | some.datetimes(datetime(2026, 1, 1), datetime(2050, 1, 1), timezones=some.just(UTC)),
    sessions=some.lists(hours, max_size=2).map(tuple),
    labels=some.dictionaries(names, lines, max_size=3),
    channels=some.lists(names, max_size=2).map(tuple),
    template=some.none() | some.just("{symbol} at {price}\n  now"),
    escalation=some.lists(
        some.builds(Escalation, after=some.just(timedelta(minutes=1)), channels=some.just(("x",))), max_size=1
    ).map(tuple),
    priority=some.sampled_from(["low", "critical"]),
    enabled=some.booleans(),
)
silences = some.builds(
    lambda id, begins, lasts, comment, matchers: SilenceEntry(
        id=id,
        matchers=matchers,
        begins_at=instant_text(NOW + begins),
        ends_at=instant_text(NOW + begins + lasts),
        comment=comment,
    ),
    id=names,
    begins=some.integers(0, 10 * HOUR),
    lasts=some.integers(1, HOUR),
    comment=some.just("") | lines.filter(lambda one: all(ord(each) >= 32 for each in one)),
    matchers=some.dictionaries(names, lines, min_size=1, max_size=2),
)


def by_id(entries: list) -> dict:
    return {one.id: one for one in entries}


documents = some.builds(
    Document, rules=some.lists(rules, max_size=4).map(by_id), silences=some.lists(silences, max_size=3).map(by_id)
)


@settings(max_examples=25, deadline=None)
@given(documents, some.booleans())
def test_a_document_read_back_is_the_same_in_yaml_and_in_json(document: Document, as_json: bool) -> None:
    text = document.text(as_json=as_json)
    read = read_document(text, "ann", is_json=as_json)
    assert read == document
    assert read.text(as_json=as_json) == text
    assert not plan_of(document, read)


@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(first=documents, second=documents)
def test_what_was_exported_changes_nothing_when_it_is_applied(
    tmp_path_factory, first: Document, second: Document
) -> None:
    from tapeline.alerts.store.sqlite import open_sqlite

    store = open_sqlite(tmp_path_factory.mktemp("configuration") / "alerts.db")
    manager = AlertConfigManager(store, clock=lambda: NOW)
    try:
        manager.apply("ann", "main", first, by="ann")
        again = read_document(manager.export("ann").text(), "ann")
        assert not manager.plan("ann", again)
        version = manager.versions("ann", "main")[0].version
        assert manager.apply("ann", "main", again, by="ann").version.version == version
        assert manager.export("ann") == replace(first, endpoints={}, aliases={})
        manager.apply("ann", "main", second, by="ann")
        assert manager.export("ann") == replace(second, endpoints={}, aliases={})
        # Rules come back as they were; a silence that was ended stays ended.
        manager.rollback("ann", "main", version, by="ann")
        assert manager.export("ann").rules == first.rules
    finally:
        store.close()


FAULTY = """\
rules:
  - {id: a, condition: close > 5, symbols: [A]}
  - id: a
    condition: close > 5
    symbols: [A]
  - id: b
    condition: rsii < 30
    symbols: ["../etc"]
    cooldown: -5
    owner: bob
silences:
  - id: s
    matchers: {}
    begins_at: 2026-01-02T00:00:00Z
    ends_at: yesterday
endpoints:
  - {id: e, channel: webhook, address: "https://example.com"}
aliases:
  - {source: kraken, name: XBT/USD, symbol: BTCUSD}
  - {source: kraken, name: XBTUSD, symbol: BTCUSD}
sirens: []
"""


def test_every_fault_is_told_with_its_line_and_place() -> None:
    with pytest.raises(ConfigurationFaultError) as caught:
        read_document(FAULTY, "ann")
    found = {(one.line, one.place) for one in caught.value.faults}
    assert found >= {
        (3, "rules[1].id"),
        (7, "rules[2].condition"),
        (9, "rules[2].cooldown"),
        (10, "rules[2].owner"),
        (13, "silences[0].matchers"),
        (17, "endpoints[0].address"),
        (20, "aliases[1].symbol"),
        (21, "sirens"),
    }
    with pytest.raises(ConfigurationFaultError, match="line 2: "):
        read_document("rules: [", "ann")
    for bad in (
        "2026-01-01",
        "2026-01-01T00:00:00",
        "9999-01-01T00:00:00Z",
        "2026-01-01T00:00:00.0000000001Z",
        "Z" * 50,
    ):
        with pytest.raises(ValueError, match="instant"):
            instant_of(bad)


def rule(id: str, condition: str = "close > 1", **more: object) -> Rule:
    return Rule(id=id, owner="ann", condition=condition, symbols=("BTCUSD",), **more)


def document(*some_rules: Rule, **sections: object) -> Document:
    return Document(rules=by_id(list(some_rules)), **sections)


def test_applying_is_all_or_nothing_and_the_engine_sees_one_change(store: SqlStore, monkeypatch) -> None:
    manager = AlertConfigManager(store, clock=lambda: NOW)
    store.save_rule(rule("old"), by="ann", at=1)
    store.save_rule(Rule(id="hers", owner="bob", condition="close > 1", symbols=("A",)), by="bob", at=1)
    before, number = manager.export("ann"), max(one.number for one in store.rules())
    with pytest.raises(ConfigurationFaultError, match="hers: the id is taken"):
        manager.apply("ann", "main", document(rule("new"), rule("hers")), by="ann")

    def broken(*_: object) -> None:
        raise TemporaryError("the disk is full")

    with monkeypatch.context() as patched:
        patched.setattr(AlertConfigManager, "_keep", broken)
        with pytest.raises(TemporaryError):
            manager.apply("ann", "main", document(rule("new")), by="ann")
    assert manager.export("ann") == before
    assert store.rule_changes(number) == ()
    applied = manager.apply("ann", "main", document(rule("new"), rule("old", "close > 2")), by="ann", comment="why")
    assert applied.plan.text().splitlines() == [
        "1 to add, 1 to change, 0 to remove",
        "+ rule new",
        '    condition: "close > 1"',
        '    symbols: ["BTCUSD"]',
        "~ rule old",
        '    condition: "close > 1" -> "close > 2"',
    ]
    changes = store.rule_changes(number)
    assert [(one.rule.id, one.revision, one.changed_by) for one in changes] == [("new", 1, "ann"), ("old", 2, "ann")]
    assert json.loads(json.dumps(applied.plan.plain()))["changes"][1]["fields"] == [
        {"field": "condition", "before": "close > 1", "after": "close > 2"}
    ]
    # What is another's is not touched.
    assert store.rule("hers").rule.owner == "bob"
    removed = manager.apply("ann", "main", document(), by="ann")
    assert removed.plan.count("remove") == 2
    assert store.rule_history("old")[-1].deleted
    kept = manager.apply("ann", "main", document(rule("one")), by="ann", remove=False)
    assert [one.id for one in kept.plan.changes] == ["one"]
    # An id that was another's stays his.
    store.delete_rule("hers", by="bob", at=2)
    with pytest.raises(ConfigurationFaultError, match="the id is taken"):
        manager.apply("ann", "main", document(rule("hers")), by="ann")


def test_who_has_not_seen_what_stands_overwrites_nothing(store: SqlStore) -> None:
    manager = AlertConfigManager(store, clock=lambda: NOW)
    plan = manager.plan("ann", document(rule("a")))
    manager.apply("ann", "main", document(rule("a")), by="ann", expected=0, base=plan.base)
    with pytest.raises(ConfigurationConflictError, match="version 2, not 0"):
        manager.apply("ann", "main", document(), by="ann", expected=0)
    plan = manager.plan("ann", document())
    store.save_rule(rule("b"), by="ann", at=5)
    with pytest.raises(ConfigurationConflictError, match="since the plan was made"):
        manager.apply("ann", "main", document(), by="ann", base=plan.base)
    # What was changed beside the configurations is kept as a version of its own.
    manager.apply("ann", "main", document(rule("c")), by="bea", comment="anew")
    told = [(one.version, one.comment, one.by) for one in manager.versions("ann", "main")]
    assert told == [(4, "anew", "bea"), (3, "as it stood", "bea"), (2, "", "ann"), (1, "as it stood", "ann")]
    assert [one.version for one in manager.versions("ann", "main", before=3, limit=1)] == [2]
    manager.rollback("ann", "main", 3, by="ann", expected=4)
    assert set(manager.export("ann").rules) == {"a", "b"}
    assert manager.names("ann") == ("main",)
    assert manager.names("bob") == ()
    with pytest.raises(UnknownRecordError):
        manager.rollback("bob", "main", 3, by="bob")


def test_endpoints_keep_their_secrets_and_aliases_are_everybodys(store: SqlStore) -> None:
    manager, symbols = AlertConfigManager(store, clock=lambda: NOW), SymbolManager(store.database, clock=lambda: NOW)
    hidden = Endpoint(
        "hook",
        "ann",
        "webhook",
        "sealed-address",
        (b"sealed-secret",),
        settings={"name": "bots", "token": "hush", "revision": 3},
    )
    store.save_endpoint(hidden)
    store.save_endpoint(Endpoint("desk", "ann", "slack", "sealed", settings={"name": "desk", "operator": True}))
    store.save_silence(Silence("over", "ann", {"rule": "x"}, NOW - 9, NOW - 5))
    store.save_silence(Silence("on", "ann", {"rule": "x"}, NOW - 9, NOW + HOUR, "note", "ann"))
    symbols.add([Instrument("BTCUSD")], by="root")
    symbols.name("kraken", "XBT/USD", "BTCUSD")
    store.save_rule(rule("a"), by="ann", at=1)
    exported = manager.export("ann")
    text = exported.text()
    assert not any(word in text for word in ("sealed", "hush", "over", "desk"))
    assert "XBT/USD" in text
    assert set(exported.silences) == {"on"}
    changed = EndpointEntry(id="hook", channel="webhook", name="robots", enabled=False, per_minute=5)
    manager.apply("ann", "main", Document(endpoints={"hook": changed}), by="ann")
    kept = store.endpoint("hook")
    assert (kept.address, kept.secrets, kept.enabled) == (hidden.address, hidden.secrets, False)
    assert kept.settings == {"name": "robots", "per_minute": 5, "token": "hush", "revision": 4}
    # Sections that are not spoken of stay; endpoints and aliases that are not named stay.
    assert set(manager.export("ann").rules) == {"a"}
    manager.apply("ann", "main", Document(endpoints={}, aliases={}, silences={}), by="ann")
    assert store.endpoint("hook") is not None
    assert symbols.resolve("kraken", "XBT/USD") == "BTCUSD"
    assert [one.ends_at for one in store.silences(owner="ann") if one.id == "on"] == [NOW]
    for entry, reason in (
        (AliasEntry(source="kraken", name="XBT/USD", symbol="NONE"), "there is no symbol NONE"),
        (AliasEntry(source="kraken", name="BTC/USD", symbol="BTCUSD"), "is called XBT/USD there already"),
    ):
        with pytest.raises(ConfigurationFaultError, match=reason):
            manager.plan("ann", Document(aliases={entry.id: entry}))
    fresh = AliasEntry(source="yahoo", name="BTC-USD", symbol="BTCUSD")
    with pytest.raises(ConfigurationFaultError, match="only an administrator"):
        manager.apply("ann", "main", Document(aliases={fresh.id: fresh}), by="ann", may_name=False)
    manager.apply("ann", "main", Document(aliases={fresh.id: fresh}), by="ann")
    assert symbols.resolve("yahoo", "BTC-USD") == "BTCUSD"
    for entry, reason in (
        (EndpointEntry(id="no", channel="webhook"), "register it first"),
        (EndpointEntry(id="hook", channel="slack"), "of the channel webhook"),
    ):
        with pytest.raises(ConfigurationFaultError, match=reason):
            manager.plan("ann", Document(endpoints={entry.id: entry}))


def test_ten_thousand_rules_are_one_transaction_of_few_statements(tmp_path: Path) -> None:
    from sqlalchemy import event

    from tapeline.alerts.store.sqlite import open_sqlite

    store = open_sqlite(tmp_path / "alerts.db")
    manager = AlertConfigManager(store, clock=lambda: NOW)
    plain = {"rules": [{"id": f"r{one}", "condition": "close > 1", "symbols": ["A"]} for one in range(1_500)]}
    made = check_document(plain, "ann")
    begun: list[str] = []
    event.listen(store.database._writer, "before_cursor_execute", lambda *given: begun.append(given[2]))
    manager.apply("ann", "main", made, by="ann")
    assert len(store.rules(owner="ann")) == 1_500
    assert len(begun) < 60
    store.close()
