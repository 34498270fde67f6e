"""The life of one rule for one symbol: normal, pending, firing, recovering, silent, expired.

A pure step: a phase and what happened give the next phase, what is to be told, and when to look again. Time is that
of the events; nothing here reads a clock.

    normal --true--> pending --pending passed--> firing --false--> recovering --keep_firing passed--> normal
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Final, Literal

from tapeline.alerts.firing import FiringKind
from tapeline.alerts.records import RuleState
from tapeline.alerts.rule import Rule

Event = Literal["true", "false", "unknown", "silent", "heard", "due"]
"""The condition's truth changed; the symbol went silent or spoke again; the time that was asked for has come."""

FLAPPING_CHANGES: Final = 6
FLAPPING_WINDOW: Final = 10 * 60 * 1_000_000_000
"""So many changes of truth within ten minutes are flapping: they are recorded, and told once they calm down."""
CALM: Final = 4
"""Pauses of a quarter of the window that must pass without a change before it counts as calm."""


@dataclass(frozen=True, slots=True)
class Step:
    """What follows of an event: the state, what is told (None: nothing), and when to look again (0: never)."""

    state: RuleState
    tell: FiringKind | None = None
    due: int = 0


def step(rule: Rule, state: RuleState, event: Event, ts: int) -> Step:
    """The next state of a rule.

    Parameters
    ----------
    rule:
        Read for ``pending``, ``keep_firing``, ``no_data`` and ``notify_resolved``.
    state, event, ts:
        Where it stands, what happened and when (nanoseconds).

    Examples
    --------
    >>> from datetime import timedelta
    >>> rule = Rule(id="r", owner="o", condition="close > 1", symbols=("A",), pending=timedelta(seconds=5))
    >>> begun = step(rule, RuleState("r", "v", "A", "normal", 0), "true", 10**9)
    >>> begun.state.phase, begun.due
    ('pending', 6000000000)
    >>> step(rule, begun.state, "due", begun.due).tell
    'firing'
    """
    phase = state.phase
    if phase == "expired":
        return Step(state)
    if event in ("true", "false"):
        state = _changed(state, ts)
    if event == "silent":
        return _silent(rule, state, ts)
    if phase == "no_data":
        # Data came back: what was firing before goes on quietly, and nothing fires a second time for it.
        back = replace(state, phase="firing" if state.was_firing else "normal", since=ts, was_firing=False)
        if event == "heard":
            return Step(back)
        return step(rule, back, event, ts)
    if event == "true":
        if phase == "normal":
            if rule.pending:
                return Step(replace(state, phase="pending", since=ts), None, ts + nanoseconds(rule.pending))
            return _fire(state, ts)
        if phase == "recovering":
            return Step(replace(state, phase="firing", since=ts))
        return Step(state)
    if event == "false":
        if phase == "pending":
            return Step(replace(state, phase="normal", since=ts))
        if phase == "firing":
            if rule.keep_firing:
                return Step(replace(state, phase="recovering", since=ts), None, ts + nanoseconds(rule.keep_firing))
            return _resolve(rule, state, ts)
        return Step(state)
    if event == "unknown":
        # What is not known neither fires nor resolves.
        return Step(replace(state, phase="normal", since=ts)) if phase == "pending" else Step(state)
    if event == "due":
        if phase == "pending" and ts >= state.since + nanoseconds(rule.pending):
            return _fire(state, state.since + nanoseconds(rule.pending))
        if phase == "recovering" and ts >= state.since + nanoseconds(rule.keep_firing):
            return _resolve(rule, state, state.since + nanoseconds(rule.keep_firing))
    return Step(state)


def calmed(state: RuleState, ts: int) -> RuleState:
    """The state with flapping over where it has been calm for long enough."""
    if state.flapping and state.changes and ts - state.changes[-1] >= CALM * FLAPPING_WINDOW // 4:
        return replace(state, flapping=False, changes=())
    return state


def nanoseconds(span: timedelta) -> int:
    """A length of time as a whole number of nanoseconds."""
    return span // timedelta(microseconds=1) * 1_000


def _changed(state: RuleState, ts: int) -> RuleState:
    recent = tuple(one for one in state.changes if ts - one <= FLAPPING_WINDOW)[-(FLAPPING_CHANGES - 1) :]
    changes = (*recent, ts)
    return replace(state, changes=changes, flapping=state.flapping or len(changes) >= FLAPPING_CHANGES)


def _fire(state: RuleState, ts: int) -> Step:
    return Step(
        replace(state, phase="firing", since=ts, acknowledged_by=None, acknowledged_at=0, escalated=0), "firing"
    )


def _resolve(rule: Rule, state: RuleState, ts: int) -> Step:
    ended = replace(state, phase="normal", since=ts, acknowledged_by=None, acknowledged_at=0, escalated=0)
    return Step(ended, "resolved" if rule.notify_resolved else None)


def _silent(rule: Rule, state: RuleState, ts: int) -> Step:
    if state.phase == "no_data" or rule.no_data in ("ok", "keep_last"):
        return Step(state)
    if rule.no_data == "alerting":
        return step(rule, state, "true", ts)
    was_firing = state.phase in ("firing", "recovering")
    return Step(replace(state, phase="no_data", since=ts, was_firing=was_firing), "no_data")
