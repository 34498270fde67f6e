"""Commits, firings and their history, on both databases."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tapeline.alerts.firing import Side
from tapeline.alerts.records import Commit, RuleState
from tapeline.alerts.rule import Rule
from tapeline.alerts.store.caller_queries import CallerQueries
from tapeline.alerts.store.store import FiringQuery, UnknownRecordError
from tapeline.core.errors import DataError
from tests.alerts.store.samples import make_commit, make_delivery, make_firing


def test_a_commit_is_there_as_it_was_given(store) -> None:
    firing = replace(
        make_firing(1_700_000_000_000_000_001, kind="no_data"),
        price=math.nan,
        sequence=7,
        late=True,
        lateness=12,
        bar=1_700_000_000_000_000_000,
        at_close=True,
        priority="high",
        sides=(Side('rsi(14) < "30" ü', math.inf, -math.inf, None), Side("close > 1", 0.1, math.nan, True)),
        labels={"desk": "crypto"},
    )
    state = RuleState("r", "v", "BTCUSDT", "firing", 5, 6, True, "me", 7, 2, (1, 2, 3))
    delivery = make_delivery(firing, body='{"é": "\\u0000"}', not_before=3, expires_at=9, group="g", priority="high")

    assert store.commit(Commit((firing,), (state,), (delivery,), {"trades": 2**62})) == {firing.id}

    found = store.firing(firing.id)
    assert repr(found.firing) == repr(firing)
    assert store.states() == (state,)
    assert store.delivery(delivery.id) == delivery
    assert store.deliveries(firing.id) == (delivery,)
    assert store.positions() == {"trades": 2**62}


def test_the_same_firing_again_brings_no_second_delivery_but_states_and_positions_advance(store) -> None:
    first = make_commit(1)
    store.commit(first)
    extra = make_delivery(first.firings[0], id="another", channel="telegram")
    again = Commit(
        first.firings, (RuleState("r", "v", "BTCUSDT", "normal", 9),), (*first.deliveries, extra), {"feed": 8}
    )

    assert store.commit(again) == frozenset()

    assert store.deliveries(first.firings[0].id) == first.deliveries
    assert store.states()[0].phase == "normal"
    assert store.positions() == {"feed": 8}
    assert store.count_firings() == 1


def test_several_commits_at_once_are_as_one_after_the_other(store) -> None:
    one, two = make_commit(1, 2), make_commit(2, 3)
    late = replace(one, positions={"feed": 1}, states=(RuleState("r", "v", "A", "firing", 1),))

    answers = store.commit_all((one, two, late))

    assert answers == (
        {one.firings[0].id, one.firings[1].id},
        {two.firings[1].id},
        frozenset(),
    )
    assert [stored.firing.ts for stored in store.firings_after(0)] == [1, 2, 3]
    assert sum(count.count for count in store.delivery_counts()) == 3
    assert store.positions() == {"feed": 3}


def test_a_position_goes_back_only_when_it_is_told_to(store) -> None:
    store.commit(Commit(positions={"a": 5, "b": 1}))
    store.commit(Commit(positions={"a": 4}))
    assert store.positions() == {"a": 5, "b": 1}
    store.rewind("a", 2)
    store.rewind("new", -1)
    assert store.positions() == {"a": 2, "b": 1, "new": -1}


def test_a_held_delivery_grows_and_is_let_go_and_after_that_nothing_changes_it(store) -> None:
    first = make_commit(1)
    digest = make_delivery(first.firings[0], id="digest", state="held", not_before=100, body="one")
    store.commit(replace(first, deliveries=(digest,)))
    store.commit(Commit(deliveries=(replace(digest, body="two", not_before=200),)))
    assert store.delivery("digest") == replace(digest, body="two", not_before=200)
    store.commit(Commit(deliveries=(replace(digest, body="three", state="waiting", not_before=0),)))
    store.commit(Commit(deliveries=(replace(digest, body="four", state="held", not_before=999),)))
    assert store.delivery("digest") == replace(digest, body="three", state="waiting", not_before=0)


def test_nothing_of_a_commit_is_written_when_part_of_it_cannot_be(store) -> None:
    commit = make_commit(1)
    bad = make_delivery(commit.firings[0], id="bad", created_at=2**63)
    with pytest.raises(DataError):
        store.commit(replace(commit, deliveries=(*commit.deliveries, bad)))
    assert store.count_firings() == 0
    assert store.positions() == {}
    assert store.commit(commit) == {commit.firings[0].id}


@pytest.mark.parametrize("change", [{"body": "a\0b"}, {"body": "\ud800"}, {"state": "inflight"}, {"expires_at": 2**64}])
def test_what_no_database_keeps_is_refused_by_both(store, change) -> None:
    firing = make_firing(1)
    with pytest.raises(DataError):
        store.commit(Commit((firing,), deliveries=(make_delivery(firing, **change),)))
    assert store.count_firings() == 0


@pytest.mark.parametrize("text", ["'; DROP TABLE alert_firing; --", "%s %(id)s :id ?", '{a,"b\\\\"}', "NULL", ""])
def test_text_is_never_part_of_a_statement(store, text) -> None:
    firing = replace(make_firing(1, symbol=text), owner=text, labels={"a": text})
    store.commit(Commit((firing,), deliveries=(make_delivery(firing, body=text, order=text),), positions={text: 1}))
    assert store.firings(FiringQuery(symbol=text, owner=text)).items[0].firing == firing
    assert store.deliveries(firing.id)[0].body == text
    assert store.positions() == {text: 1}


def test_states_of_some_rules_and_their_end(store) -> None:
    states = tuple(RuleState(rule, "v", symbol, "firing", 1) for rule in ("a", "b", "c") for symbol in ("X", "Y"))
    store.commit(Commit(states=states[::-1]))
    assert store.states() == states
    assert store.states(("c", "a", "none")) == states[:2] + states[4:]
    assert store.forget_states("a") == 2
    assert store.states() == states[2:]


@pytest.fixture
def history(store):
    firings = [
        make_firing(
            1_000 + n // 3,
            rule=f"r{n % 4}",
            symbol=f"S{n % 5}",
            owner=f"o{n % 2}",
            kind=("firing", "resolved")[n % 3 == 0],
        )
        for n in range(60)
    ]
    store.commit_all([Commit((firing,)) for firing in firings])
    return store, firings


@pytest.mark.parametrize(
    ("query", "holds"),
    [
        (None, lambda f: True),
        (FiringQuery(rule="r1"), lambda f: f.rule == "r1"),
        (FiringQuery(symbol="S2", owner="o0"), lambda f: f.symbol == "S2" and f.owner == "o0"),
        (FiringQuery(kinds=("resolved", "no_data")), lambda f: f.kind == "resolved"),
        (FiringQuery(since=1_003, until=1_011), lambda f: 1_003 <= f.ts < 1_011),
        (FiringQuery(rule="none"), lambda f: False),
    ],
)
@pytest.mark.parametrize("oldest_first", [False, True])
def test_pages_give_every_firing_once_in_the_order_of_time(history, query, holds, oldest_first) -> None:
    store, firings = history
    callers = CallerQueries(store.database)
    seen, cursor = [], None
    while True:
        page = store.firings(query, cursor=cursor, limit=7, oldest_first=oldest_first)
        lines = callers.firings(query or FiringQuery(), cursor=cursor, limit=7, oldest_first=oldest_first)
        assert [(one.id, one.number, one.ts, one.price) for one in lines.items] == [
            (one.firing.id, one.number, one.firing.ts, one.firing.price) for one in page.items
        ]
        assert lines.cursor == page.cursor
        seen += [stored.firing for stored in page.items]
        cursor = page.cursor
        if cursor is None:
            break
        assert len(page.items) == 7
    expected = [firing for firing in firings if holds(firing)]
    assert seen == (expected if oldest_first else expected[::-1])
    assert store.count_firings(query) == len(expected)
    assert [stored.firing for stored in store.firings_after(0, query=query)] == expected


def test_a_callers_line_is_the_firing_as_it_is_kept(store) -> None:
    sides = (Side("close > 1", 2.5, math.inf, None),)
    firing = replace(make_firing(5, owner="ann"), price=math.nan, late=True, sides=sides, labels={"desk": "é"}, bar=4)
    store.commit(Commit((firing,)))
    store.acknowledge(firing.id, by="bob", at=9)
    callers = CallerQueries(store.database)
    line = callers.firing("ann", firing.id)
    assert (line.id, line.owner, line.price, bool(line.late), line.bar) == (firing.id, "ann", None, True, 4)
    assert (line.acknowledged_by, line.acknowledged_at) == ("bob", 9)
    assert json.loads(line.sides) == [["close > 1", 2.5, "inf", None]]
    assert json.loads(line.labels) == {"desk": "é"}
    assert callers.firing(None, firing.id) == line == callers.firings(FiringQuery(), explained=True).items[0]
    assert callers.firing("bob", firing.id) is None
    assert callers.firing("ann", "none") is None


def test_a_callers_rules_are_the_rules_as_they_are_kept(store) -> None:
    for number in range(6):
        rule = Rule(id=f"r{number}", owner=f"o{number % 2}", condition="close > 1", symbols=("A",), enabled=number > 2)
        store.save_rule(rule, by="me", at=number)
    callers = CallerQueries(store.database)
    for owner, enabled in ((None, None), ("o1", None), (None, False), ("o0", True)):
        expected = store.rules(owner=owner, enabled=enabled)
        kept = callers.rules(owner, enabled=enabled)
        assert [Rule.model_validate_json(one.body) for one in kept] == [one.rule for one in expected]
        assert [(one.id, *one[2:]) for one in kept] == [
            (one.rule.id, one.revision, one.changed_at, one.changed_by) for one in expected
        ]
    assert [one.id for one in callers.rules(None, after="r1", limit=2)] == ["r2", "r3", "r4"]
    assert callers.rule("o1", "r1") == callers.rules(None)[1] == callers.rule(None, "r1")
    assert callers.rule("o0", "r1") is None


def test_a_page_is_not_shifted_by_what_comes_meanwhile(history) -> None:
    store, firings = history
    first = store.firings(limit=10)
    store.commit(make_commit(9_999))
    second = store.firings(cursor=first.cursor, limit=10)
    assert [stored.firing for stored in second.items] == firings[::-1][10:20]


@pytest.mark.parametrize("cursor", ["", "x", "MTIz", "é", "A" * 100, "OTk5OTk5OTk5OTk5OTk5OTk5OTk5OS4x", "LTEuLTE=="])
def test_a_cursor_that_is_not_ours_is_refused(store, cursor) -> None:
    with pytest.raises(DataError, match="cursor"):
        store.firings(cursor=cursor)


@pytest.mark.parametrize("limit", [0, -1, 1_001])
def test_a_page_has_bounds(store, limit) -> None:
    with pytest.raises(DataError, match="limit"):
        store.firings(limit=limit)


def test_numbers_rise_with_what_becomes_visible_and_a_client_reads_on(store) -> None:
    for ts in (5, 3, 9):
        store.commit(make_commit(ts))
    stored = store.firings_after(0)
    assert [one.firing.ts for one in stored] == [5, 3, 9]
    assert store.last_number() == stored[-1].number
    assert store.firings_after(stored[0].number, limit=1) == stored[1:2]
    store.commit(make_commit(1))
    assert [one.firing.ts for one in store.firings_after(stored[-1].number)] == [1]


def test_the_first_acknowledgement_stays(store) -> None:
    commit = make_commit(1, 2)
    store.commit(commit)
    first, second = (firing.id for firing in commit.firings)
    assert store.acknowledge(first, by="ann", at=10, comment="seen")
    assert not store.acknowledge(first, by="bob", at=11)
    assert store.acknowledge(second, by="bob", at=12)
    told = store.acknowledgements()
    assert [(one.firing, one.rule, one.symbol, one.by, one.at, one.comment) for one in told] == [
        (first, "r", "BTCUSDT", "ann", 10, "seen"),
        (second, "r", "BTCUSDT", "bob", 12, ""),
    ]
    assert store.acknowledgements(told[0].number) == told[1:]
    assert (store.firing(first).acknowledged_by, store.firing(first).acknowledged_at) == ("ann", 10)
    with pytest.raises(UnknownRecordError, match="evt_0"):
        store.acknowledge("evt_0", by="ann", at=1)


def test_what_is_old_and_told_is_removed_and_what_is_not_told_stays(store) -> None:
    commit = make_commit(1, 2, 3)
    store.commit(commit)
    store.commit(Commit((make_firing(4),)))
    store.acknowledge(commit.firings[0].id, by="a", at=1)
    sent = replace(commit.deliveries[0], id="sent", state="sent", order="")
    store.commit(Commit(deliveries=(sent,)))

    removed = store.remove_before(3)
    assert (removed.firings, removed.deliveries) == (0, 1)

    claim = store.claim("webhook", limit=1, lease=10, now=10)[0]
    store.settle(replace(store.begin_attempt(claim, now=11), ended_at=12, outcome="sent"))
    removed = store.remove_before(3)
    assert (removed.firings, removed.deliveries, removed.attempts) == (1, 1, 1)
    assert store.firing(commit.firings[0].id) is None
    assert store.acknowledgements() == ()
    assert store.remove_before(100).firings == 1
    assert [one.firing.ts for one in store.firings_after(0)] == [2, 3]


names = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=12)
wholes = st.integers(-(2**63), 2**63 - 1)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    text=names, whole=wholes, price=st.floats(), held=st.none() | st.booleans(), labels=st.dictionaries(names, names)
)
def test_any_value_comes_back_as_it_was(store, text, whole, price, held, labels) -> None:
    firing = replace(
        make_firing(whole, rule=text, symbol=text),
        price=price,
        detected_at=whole,
        bar=whole,
        sides=(Side(text, price, price, held),),
        labels=labels,
    )
    state = RuleState(text, text, text, "pending", whole, changes=(whole,))
    store.commit(Commit((firing,), (state,), (make_delivery(firing, body=text),)))
    assert repr(store.firing(firing.id).firing) == repr(firing)
    assert state in store.states((text,))
    assert store.deliveries(firing.id)[0].body == text
