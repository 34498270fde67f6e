"""The life of one rule for one symbol: normal, pending, firing, recovering, silent, expired.

A pure step: a phase and what happened give the next phase, what is to be told, and when to look again. Time is that
of the events; nothing here reads a clock.

    normal --true--> pending --pending passed--> firing --false--> recovering --keep_firing passed--> normal
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Final, Literal

from tapeline.alerts.firing import FiringKind
from tapeline.alerts.records import RuleState
from tapeline.alerts.rule import Rule

Event = Literal["true", "false", "unknown", "again", "silent", "heard", "due"]
"""The condition's truth changed, or holds in a new bar too; the symbol went silent or spoke again; the time that was
asked for has come."""

FLAPPING_CHANGES: Final = 6
FLAPPING_WINDOW: Final = 10 * 60 * 1_000_000_000
"""So many changes of truth within ten minutes are flapping: the first is told with a note, the others recorded."""
CALM: Final = FLAPPING_WINDOW
"""Nanoseconds without a change after which it counts as calm again."""


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
        if event == "due":
            return Step(state)
        # Data came back: what was firing before goes on quietly, and nothing fires a second time for it.
        back = replace(state, phase="firing" if state.was_firing else "normal", since=ts, was_firing=False)
        return Step(back) if event in ("heard", "again") else _step(rule, back, event, ts)
    return _step(rule, state, event, ts)


def nanoseconds(span: timedelta) -> int:
    """A length of time as a whole number of nanoseconds."""
    return span // timedelta(microseconds=1) * 1_000


def calmed(state: RuleState, ts: int) -> RuleState:
    """The state with flapping over where nothing has changed for :data:`CALM`."""
    if state.flapping and (not state.changes or ts - state.changes[-1] >= CALM):
        return replace(state, flapping=False, changes=())
    return state


def is_asked(rule: Rule, ts: int) -> bool:
    """Whether an instant (nanoseconds) lies in the sessions of a rule."""
    if not rule.sessions:
        return True
    instant = datetime.fromtimestamp(ts // 1_000_000_000, UTC)
    return any(one.holds(instant) for one in rule.sessions)


def is_expired(rule: Rule, ts: int) -> bool:
    """Whether a rule is over at an instant (nanoseconds)."""
    return rule.expires_at is not None and ts >= int(rule.expires_at.timestamp() * 1_000_000) * 1_000


def _step(rule: Rule, state: RuleState, event: Event, ts: int) -> Step:
    """What happens to a rule whose symbol is heard."""
    phase = state.phase
    if event == "true":
        if phase == "normal":
            if rule.pending:
                return Step(replace(state, phase="pending", since=ts), None, ts + nanoseconds(rule.pending))
            return _fire(state, ts)
        if phase == "recovering":
            return Step(replace(state, phase="firing", since=ts))
    elif event == "again":
        if phase == "firing":
            return Step(state, "firing")
    elif event == "false":
        if phase == "pending":
            return Step(replace(state, phase="normal", since=ts))
        if phase == "firing":
            if rule.keep_firing:
                return Step(replace(state, phase="recovering", since=ts), None, ts + nanoseconds(rule.keep_firing))
            return _resolve(rule, state, ts)
    elif event == "unknown":
        # What is not known neither fires nor resolves.
        if phase == "pending":
            return Step(replace(state, phase="normal", since=ts))
    elif event == "heard":
        # Silence proves nothing: what was under way begins to count anew.
        wait = {"pending": rule.pending, "recovering": rule.keep_firing}.get(phase)
        if rule.no_data == "keep_last" and wait:
            return Step(replace(state, since=ts), None, ts + nanoseconds(wait))
    elif phase == "pending" and ts >= state.since + nanoseconds(rule.pending):
        return _fire(state, state.since + nanoseconds(rule.pending))
    elif phase == "recovering" and ts >= state.since + nanoseconds(rule.keep_firing):
        return _resolve(rule, state, state.since + nanoseconds(rule.keep_firing))
    return Step(state)


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
        return _step(rule, state, "true", ts)
    was_firing = state.phase in ("firing", "recovering")
    return Step(replace(state, phase="no_data", since=ts, was_firing=was_firing), "no_data")
