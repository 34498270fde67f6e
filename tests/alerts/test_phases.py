"""Each step of a rule's life by itself."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from tapeline.alerts import phases
from tapeline.alerts.phases import step
from tapeline.alerts.records import RuleState
from tests.alerts.processor_support import SECOND, make_rule

NORMAL = RuleState("r", "v", "A", "normal", 0)
FIVE = timedelta(seconds=5)


def at(phase: str, **changes: object) -> RuleState:
    return replace(NORMAL, phase=phase, **changes)


def test_without_waits_truth_fires_at_once_and_its_end_is_told_only_where_asked() -> None:
    assert step(make_rule(), NORMAL, "true", 7).tell == "firing"
    assert step(make_rule(), at("firing"), "false", 7) == phases.Step(replace(NORMAL, since=7, changes=(7,)), None, 0)
    assert step(make_rule(notify_resolved=True), at("firing"), "false", 7).tell == "resolved"


def test_a_pending_rule_fires_when_it_ripens_and_not_before() -> None:
    rule = make_rule(pending=FIVE)
    begun = step(rule, NORMAL, "true", SECOND)
    assert (begun.state.phase, begun.tell, begun.due) == ("pending", None, 6 * SECOND)
    assert step(rule, begun.state, "due", 6 * SECOND - 1).tell is None
    ripe = step(rule, begun.state, "due", 9 * SECOND)
    assert (ripe.tell, ripe.state.since) == ("firing", 6 * SECOND)
    assert step(rule, begun.state, "false", 2 * SECOND).state.phase == "normal"
    assert step(rule, begun.state, "unknown", 2 * SECOND).state.phase == "normal"


def test_a_recovering_rule_goes_back_to_firing_without_a_word() -> None:
    rule = make_rule(keep_firing=FIVE, notify_resolved=True)
    recovering = step(rule, at("firing"), "false", SECOND)
    assert (recovering.state.phase, recovering.tell, recovering.due) == ("recovering", None, 6 * SECOND)
    back = step(rule, recovering.state, "true", 2 * SECOND)
    assert (back.state.phase, back.tell) == ("firing", None)
    assert step(rule, recovering.state, "due", 6 * SECOND).tell == "resolved"


@pytest.mark.parametrize("phase", ["firing", "recovering"])
def test_what_is_not_known_neither_fires_nor_resolves(phase: str) -> None:
    assert step(make_rule(notify_resolved=True), at(phase), "unknown", 9) == phases.Step(at(phase))


@pytest.mark.parametrize(
    ("policy", "phase", "tell"),
    [
        ("ok", "normal", None),
        ("keep_last", "normal", None),
        ("nodata", "no_data", "no_data"),
        ("alerting", "firing", "firing"),
    ],
)
def test_silence_by_policy(policy: str, phase: str, tell: str | None) -> None:
    found = step(make_rule(no_data=policy), NORMAL, "silent", 9)
    assert (found.state.phase, found.tell) == (phase, tell)


def test_the_wait_holds_for_silence_too() -> None:
    found = step(make_rule(no_data="alerting", pending=FIVE), NORMAL, "silent", SECOND)
    assert (found.state.phase, found.tell, found.due) == ("pending", None, 6 * SECOND)


@pytest.mark.parametrize("before", ["firing", "recovering"])
def test_data_that_comes_back_does_not_fire_again(before: str) -> None:
    rule = make_rule(no_data="nodata")
    silent = step(rule, at(before), "silent", 9).state
    assert step(rule, silent, "silent", 10) == phases.Step(silent)
    assert step(rule, silent, "due", 10) == phases.Step(silent)
    back = step(rule, silent, "heard", 20)
    assert (back.state.phase, back.tell, back.state.was_firing) == ("firing", None, False)
    assert step(rule, silent, "true", 20).tell is None
    assert step(rule, step(rule, NORMAL, "silent", 9).state, "heard", 20).state.phase == "normal"


def test_under_keep_last_what_was_under_way_counts_anew_when_data_comes_back() -> None:
    rule = make_rule(no_data="keep_last", pending=FIVE)
    heard = step(rule, at("pending", since=SECOND), "heard", 60 * SECOND)
    assert (heard.state.phase, heard.state.since, heard.due) == ("pending", 60 * SECOND, 65 * SECOND)


def test_a_new_bar_repeats_a_firing_and_nothing_else() -> None:
    rule = make_rule(frequency="once_per_bar")
    assert step(rule, at("firing"), "again", 9) == phases.Step(at("firing"), "firing")
    for phase in ("pending", "normal", "recovering"):
        assert step(rule, at(phase), "again", 9) == phases.Step(at(phase))


def test_many_changes_are_flapping_until_it_has_been_calm() -> None:
    state, rule = NORMAL, make_rule()
    for number in range(phases.FLAPPING_CHANGES):
        assert not state.flapping
        state = step(rule, state, "true" if number % 2 == 0 else "false", number * SECOND).state
    assert state.flapping
    last = (phases.FLAPPING_CHANGES - 1) * SECOND
    assert phases.calmed(state, last + phases.CALM - 1) == state
    assert not phases.calmed(state, last + phases.CALM).flapping


def test_changes_that_lie_far_apart_are_not_flapping() -> None:
    state = NORMAL
    for number in range(4 * phases.FLAPPING_CHANGES):
        event = "true" if number % 2 == 0 else "false"
        state = step(make_rule(), state, event, number * phases.FLAPPING_WINDOW // 4).state
        assert not state.flapping


def test_an_expired_rule_moves_no_more() -> None:
    for event in ("true", "false", "unknown", "again", "silent", "heard", "due"):
        assert step(make_rule(no_data="nodata"), at("expired"), event, 9) == phases.Step(at("expired"))
