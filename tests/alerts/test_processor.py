"""What the processor makes of single stories: sessions, silences of others, bars, flapping, acknowledgement, keys."""

from __future__ import annotations

import json
from datetime import UTC, datetime, time, timedelta
from typing import Any

import numpy as np
import pytest

from tapeline.alerts import phases
from tapeline.alerts.engine import table
from tapeline.alerts.engine.compiled import CompiledRule, Condition
from tapeline.alerts.engine.evaluator import Evaluator
from tapeline.alerts.engine.indicators import CLOSE
from tapeline.alerts.engine.layout import TIMEFRAMES, Indicator
from tapeline.alerts.passage import Taken
from tapeline.alerts.processor import AlertProcessor
from tapeline.alerts.routing import Route, Router
from tapeline.alerts.rule import Escalation, Hours
from tests.alerts.processor_support import SECOND, Desk, Record, make_rule, told

ON, OFF = (("r", True),), (("r", False),)
TEN = timedelta(seconds=10)


def changes(count: int, begin: int = 1) -> list[Record]:
    """Truth that changes at each second, true first."""
    return [Record(begin + number, said=ON if number % 2 == 0 else OFF) for number in range(count)]


def test_time_passes_before_the_record_that_is_later_than_it() -> None:
    desk = Desk(make_rule(pending=TEN))
    # True for the ten seconds before the record that says it no longer is.
    assert told(desk.take([Record(1, said=ON), Record(30, said=OFF)])) == [("r", "firing", 11.0)]
    # At the very end of the wait it is false: it has not held for so long.
    assert told(desk.take([Record(41, said=ON), Record(51, said=OFF)])) == []


def test_a_rule_that_becomes_true_outside_its_sessions_fires_when_the_next_one_opens() -> None:
    day = Hours(begin=time(9, 30), end=time(16), days=frozenset({0, 1, 2, 3, 4}), zone="America/New_York")
    begun = datetime(2026, 3, 6, 15, tzinfo=UTC).timestamp()  # Friday 10:00 in New York, before the clocks change
    monday = datetime(2026, 3, 9, 13, 30, tzinfo=UTC).timestamp()  # 9:30 there, an hour earlier in UTC
    desk = Desk(make_rule(sessions=(day,)))
    assert told(desk.take([Record(begun, said=OFF), Record(begun + 8 * 3_600, said=ON)])) == []
    assert told(desk.take([Record(monday - 1)])) == []
    assert told(desk.take([Record(monday + 7)])) == [("r", "firing", monday)]
    # It held over the end of the session: the next opening is nothing new.
    assert told(desk.take([Record(monday + 86_400 + 7)])) == []


def test_a_crossing_outside_the_sessions_is_past_when_the_next_one_opens() -> None:
    day = Hours(begin=time(9), end=time(16))
    desk = Desk(make_rule(sessions=(day,)), crossing=True)
    assert told(desk.take([Record(8 * 3_600, said=ON), Record(9 * 3_600 + 5), Record(10 * 3_600)])) == []
    assert told(desk.take([Record(11 * 3_600, said=OFF), Record(12 * 3_600, said=ON)])) == [("r", "firing", 43_200.0)]


def test_a_wait_that_ends_outside_the_session_does_not_fire() -> None:
    day = Hours(begin=time(9), end=time(16))
    desk = Desk(make_rule(sessions=(day,), pending=TEN))
    assert told(desk.take([Record(16 * 3_600 - 5, said=ON), Record(16 * 3_600 + 60)])) == []
    assert told(desk.take([Record(33 * 3_600 + 60)])) == [("r", "firing", 33 * 3_600 + 10.0)]


def test_a_rule_keeps_another_quiet_while_it_fires_for_the_same_symbol() -> None:
    other = make_rule(id="storm", channels=())
    desk = Desk(make_rule(inhibited_by=("storm",)), other)
    assert not other.watched
    assert desk.processor.is_watched(other)
    records = [
        Record(1, said=(("storm", True),)),
        Record(2, said=ON),
        Record(3, "B", said=ON),
        Record(4, said=(("storm", False),)),
        Record(5, said=ON),
    ]
    commit = desk.take(records)
    assert [(one.rule, one.symbol) for one in commit.firings] == [("storm", "A"), ("r", "A"), ("r", "B"), ("r", "A")]
    tellings = [one.firing for one in commit.deliveries]
    assert tellings == [commit.firings[2].id, commit.firings[3].id]
    # One by one it is the same: what counts is how things stood at the record.
    single = Desk(make_rule(inhibited_by=("storm",)), other)
    assert [one.firing for record in records for one in single.take([record]).deliveries] == tellings


def test_expiry_ends_a_rule_at_its_instant() -> None:
    rule = make_rule(expires_at=datetime.fromtimestamp(10, UTC), notify_resolved=True)
    desk = Desk(rule)
    assert told(desk.take([Record(9, said=ON), Record(10, said=OFF), Record(11, said=ON)])) == [("r", "firing", 9.0)]
    assert desk.processor.states[("r", "A")].phase == "expired"
    unwatched = Desk(make_rule(expires_at=datetime.fromtimestamp(10, UTC)))
    assert told(unwatched.take([Record(9, said=ON), Record(10, said=ON)])) == [("r", "firing", 9.0)]


def test_a_cooldown_holds_back_the_firing_and_its_end() -> None:
    desk = Desk(make_rule(cooldown=TEN, notify_resolved=True))
    commit = desk.take([*changes(4), Record(12, said=ON), Record(13, said=OFF)])
    assert told(commit) == [
        ("r", "firing", 1.0),
        ("r", "resolved", 2.0),
        ("r", "firing", 12.0),
        ("r", "resolved", 13.0),
    ]


def test_once_fires_once() -> None:
    assert told(Desk(make_rule(frequency="once", notify_resolved=True)).take(changes(5))) == [
        ("r", "firing", 1.0),
        ("r", "resolved", 2.0),
    ]


def test_once_per_bar_fires_in_each_bar_in_which_it_holds() -> None:
    desk = Desk(make_rule(frequency="once_per_bar", notify_resolved=True))
    records = [Record(1, said=ON), Record(2, said=OFF), Record(3, said=ON), Record(61, said=ON), Record(62, said=ON)]
    kinds = told(desk.take([*records, Record(121, said=ON)]))
    assert [one for one in kinds if one[1] == "firing"] == [("r", "firing", ts) for ts in (1.0, 61.0, 121.0)]


def test_an_edit_begins_anew_but_keeps_the_cooldown() -> None:
    desk = Desk(make_rule(cooldown=TEN, notify_resolved=True))
    desk.take([Record(1, said=ON)])
    edited = Desk(
        make_rule(cooldown=TEN, notify_resolved=True, condition="close > 2"), snapshot=desk.processor.snapshot()
    )
    assert edited.processor.states[("r", "A")].phase == "normal"
    assert told(edited.take([Record(5, said=ON)])) == []
    assert told(edited.take([Record(6, said=OFF), Record(12, said=ON)])) == [("r", "firing", 12.0)]


def test_flapping_is_told_once_with_a_note_then_counted_and_told_when_it_has_settled() -> None:
    desk = Desk(make_rule(notify_resolved=True))
    commit = desk.take(changes(9))
    assert len(commit.firings) == 9
    noted = [one for one in commit.firings if "flapping" in one.labels]
    assert [one.ts for one in noted] == [phases.FLAPPING_CHANGES * SECOND]
    assert len(commit.deliveries) == phases.FLAPPING_CHANGES
    assert desk.processor.counts["flapping"] == 3
    settled = desk.advance(9 + phases.CALM // SECOND)
    assert told(settled) == [("r", "firing", 9.0 + phases.CALM / SECOND)]
    assert len(settled.deliveries) == 1
    assert not desk.processor.states[("r", "A")].flapping


def test_who_acknowledges_stops_the_escalation_until_it_fires_again() -> None:
    rule = make_rule(
        escalation=(Escalation(after=TEN, channels=("boss",)), Escalation(after=2 * TEN, channels=("boss",)))
    )
    desk = Desk(rule)
    first = desk.take([Record(1, said=ON), Record(12)])
    assert told(first) == [("r", "firing", 1.0), ("r", "escalation", 11.0)]
    assert [one.endpoint for one in first.deliveries] == ["hook-1", "boss-1"]
    commit = desk.processor.acknowledge(first.firings[1].id, "r", "A", "ann", 99)
    assert [(one.acknowledged_by, one.acknowledged_at) for one in commit.states] == [("ann", 99)]
    assert desk.processor.acknowledge(first.firings[1].id, "r", "A", "bob", 100).states == ()
    assert told(desk.take([Record(40)])) == []
    again = desk.take([Record(50, said=OFF), Record(51, said=ON), Record(62)])
    assert told(again) == [("r", "firing", 51.0), ("r", "escalation", 61.0)]
    # The old id says nothing of the new firing.
    assert desk.processor.acknowledge(first.firings[0].id, "r", "A", "ann", 101).states == ()


def test_a_firing_that_was_seen_before_it_is_found_again_does_not_escalate() -> None:
    rule = make_rule(escalation=(Escalation(after=TEN, channels=("boss",)),))
    found = Desk(rule).take([Record(1, said=ON)]).firings[0]
    desk = Desk(rule)
    desk.processor.acknowledge(found.id, "r", "A", "ann", 5)
    assert told(desk.take([Record(1, said=ON), Record(30)])) == [("r", "firing", 1.0)]


def test_keys_follow_from_the_event() -> None:
    unwatched = make_rule()
    numbered = [Record(1, said=ON, sequence=7), Record(1, said=ON, sequence=8)]
    assert len({one.id for one in Desk(unwatched).take(numbered).firings}) == 2
    # Found again without what came before, it is the same.
    assert Desk(unwatched).take(numbered[1:]).firings[0].id == Desk(unwatched).take(numbered).firings[1].id
    plain = [Record(1, said=ON), Record(1, said=ON), Record(2, said=ON)]
    assert len({one.id for one in Desk(unwatched).take(plain).firings}) == 3
    cut = Desk(unwatched)
    assert [one.id for record in plain for one in cut.take([record]).firings] == [
        one.id for one in Desk(unwatched).take(plain).firings
    ]


def test_what_counts_trades_without_a_number_does_not_grow_without_end() -> None:
    desk = Desk(make_rule(), symbols=("A",))
    keys = desk.processor._keys
    base = desk.take([Record(1, said=ON)]).firings[0]
    from dataclasses import replace

    from tapeline.alerts import firing_keys

    for number in range(firing_keys.MOST + 10):
        keys.key(replace(base, symbol=f"S{number}", ts=base.ts + number))
    assert len(keys.snapshot()) <= firing_keys.MOST


def test_a_late_record_makes_a_late_firing_and_decides_nothing_else() -> None:
    late = Desk(make_rule()).take([Record(1, said=ON, late=True)]).firings[0]
    plain = Desk(make_rule()).take([Record(1, said=ON)]).firings[0]
    assert (late.late, plain.late, late.lateness, plain.lateness) == (True, False, 10**18 - SECOND, 0)
    assert late.id == plain.id


def test_silence_is_told_once_and_names_no_other_symbol() -> None:
    desk = Desk(make_rule(no_data="nodata", no_data_after=TEN))
    commit = desk.take([Record(1), *(Record(second, "B") for second in range(2, 60))])
    assert told(commit) == [("r", "no_data", 11.0)]
    assert {one.symbol for one in commit.firings} == {"A"}
    assert told(desk.take([Record(70), Record(75, "B")])) == []
    assert told(desk.take([Record(90, "B")])) == [("r", "no_data", 80.0)]


def test_rules_that_go_leave_nothing_behind() -> None:
    desk = Desk(make_rule(no_data="nodata", pending=TEN, no_data_after=TEN))
    desk.take([Record(1, said=ON)])
    desk.processor.set_rules([])
    assert told(desk.advance(1_000)) == []
    plain = desk.processor.snapshot()
    assert [plain[name] for name in ("states", "timers", "minded", "silent", "true")] == [[]] * 5


ABOVE = Condition((Indicator(CLOSE, TIMEFRAMES["1m"]), 0), table.ABOVE, threshold=100.0, text="close > 100")


DAY = 86_400 * SECOND


def kernel(condition: Condition, prices: list[float], *, second: Condition | None = None, **rule: Any) -> list[Any]:
    """What is told of a watched rule through the kernel, of prices at each 20 seconds: (kind, second)."""
    whole = make_rule(notify_resolved=True, **rule)
    conditions = (condition,) if second is None else (condition, second)
    program = () if second is None else (0, 1, table.AND)
    frequency = table.FREQUENCIES.index(whole.frequency)
    close_of = TIMEFRAMES["1m"] if frequency == table.ONCE_PER_BAR_CLOSE else 0
    compiled = CompiledRule("k", conditions, program, frequency=frequency, close_of=close_of, watched=True)
    evaluator = Evaluator(["A"])
    evaluator.add(compiled, ["A"])
    router = Router({("me", "hook"): Route("hook", "webhook", ("one",))}, lambda *_: "")
    processor = AlertProcessor(router, evaluator.names, evaluator.rule)
    processor.set_rules([(whole, compiled)])
    batch = evaluator.trades("A", DAY + np.arange(len(prices)) * 20 * SECOND, prices, np.ones(len(prices)))
    clock = np.array([[-1, 10**6 * 60 * SECOND]])
    batch = batch._replace(
        symbols=np.append(batch.symbols, clock[:, 0]).astype(np.int32),
        times=np.append(batch.times, batch.times[-1] + 60 * SECOND),
        prices=np.append(batch.prices, np.nan),
        sizes=np.append(batch.sizes, 0.0),
        records=np.append(batch.records, 3).astype(np.uint8),
    )
    count = len(batch.symbols)
    taken = Taken(
        batch.symbols, batch.times, batch.prices, np.full(count, -1), np.zeros(count, bool), {}, batch.records
    )
    commit = processor.take(evaluator.process(batch), taken, 0)
    return [(one.kind, (one.ts - DAY) / SECOND) for one in commit.firings]


def test_a_watched_crossing_does_not_cross_from_what_is_not_known() -> None:
    crossing = Condition(ABOVE.left, table.ABOVE, threshold=100.0, crossing=True)
    assert kernel(crossing, [101.0, 102.0]) == []
    found = kernel(crossing, [99.0, 101.0, 99.0, 101.0])
    assert [one for one in found if one[0] == "firing"] == [("firing", 20.0), ("firing", 60.0)]


def test_a_watched_crossing_among_other_conditions_fires_at_each_crossing() -> None:
    crossing = Condition(ABOVE.left, table.ABOVE, threshold=100.0, crossing=True)
    positive = Condition(ABOVE.left, table.ABOVE, threshold=0.0)
    found = kernel(crossing, [99.0, 101.0, 102.0, 99.0, 101.0], second=positive)
    assert [one for one in found if one[0] == "firing"] == [("firing", 20.0), ("firing", 80.0)]


def test_a_watched_rule_asked_at_closes_fires_at_each_close_at_which_it_holds() -> None:
    found = kernel(ABOVE, [101.0] * 7, frequency="once_per_bar_close")
    assert found == [("firing", 60.0), ("firing", 120.0), ("firing", 180.0)]


def test_a_watched_rule_fires_in_each_bar_and_at_a_close_that_a_clock_brought_names_its_symbol() -> None:
    assert kernel(ABOVE, [101.0] * 7, frequency="once_per_bar") == [
        ("firing", 0.0),
        ("firing", 60.0),
        ("firing", 120.0),
    ]


@pytest.mark.parametrize("policy", ["ok", "keep_last"])
def test_silence_that_does_not_matter_is_not_told(policy: str) -> None:
    desk = Desk(make_rule(no_data=policy, no_data_after=TEN, notify_resolved=True))
    commit = desk.take([Record(1, said=ON), Record(100, "B"), Record(200), Record(210, said=OFF)])
    assert told(commit) == [("r", "firing", 1.0), ("r", "resolved", 210.0)]


def test_a_rule_that_only_fires_is_told_each_time_and_says_that_it_fires_too_often() -> None:
    rule = make_rule()
    assert not rule.watched
    desk = Desk(rule, crossing=True)
    first = desk.take([Record(second, said=(("r", True),), sequence=second) for second in (1, 2, 3, 4)])
    again = Desk(rule, crossing=True, snapshot=json.loads(json.dumps(desk.processor.snapshot())))
    rest = again.take([Record(second, said=(("r", True),), sequence=second) for second in (5, 6, 7, 1_000)])
    found = [*first.firings, *rest.firings]
    assert [one.labels.get("flapping") for one in found] == [None] * 5 + ["6 firings"] * 2 + [None]
    assert len(first.deliveries) + len(rest.deliveries) == len(found) == 8
