"""The processor against a slow machine that looks at each second; the same records in any cut; a stop in mid-stream."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tapeline.alerts import phases
from tapeline.alerts.records import Commit
from tapeline.alerts.rule import Escalation, Rule
from tests.alerts.processor_support import SECOND, Desk, Record, make_rule

END = 120


class Machine:
    """One rule and one symbol, second by second: what is told."""

    def __init__(self, rule: Rule) -> None:
        self.rule = rule
        self.pending, self.keep = rule.pending.seconds, rule.keep_firing.seconds
        self.after, self.cooldown = rule.no_data_after.seconds, rule.cooldown.seconds
        self.truth: bool | None = None
        self.phase, self.since, self.silent, self.heard = "normal", 0, False, 0
        self.was_firing = self.hidden = self.seen = False
        self.fired_at: int | None = None
        self.told: list[tuple[str, int]] = []

    def fire(self, t: int) -> None:
        self.phase, self.since, self.seen = "firing", t, False
        allowed = self.fired_at is None or (self.rule.frequency != "once" and t - self.fired_at >= self.cooldown)
        self.hidden = not allowed
        if allowed:
            self.fired_at = t
            self.told.append(("firing", t))

    def resolve(self, t: int) -> None:
        self.phase, self.since, self.seen = "normal", t, False
        if self.rule.notify_resolved and not self.hidden:
            self.told.append(("resolved", t))
        self.hidden = False

    def holds(self, t: int) -> None:
        if self.phase == "normal":
            self.phase, self.since = "pending", t
            if not self.pending:
                self.fire(t)
        elif self.phase == "recovering":
            self.phase = "firing"

    def fails(self, t: int, *, known: bool = True) -> None:
        if self.phase == "pending":
            self.phase = "normal"
        elif self.phase == "firing" and known:
            self.phase, self.since = "recovering", t
            if not self.keep:
                self.resolve(t)

    def wakes(self) -> None:
        if self.phase == "no_data":
            self.phase = "firing" if self.was_firing else "normal"

    def record(self, t: int, truth: bool | None) -> None:
        self.heard = t
        if truth is not self.truth:
            self.truth = truth
            self.wakes()
            if truth:
                self.holds(t)
            else:
                self.fails(t, known=truth is False)
        if self.silent:
            self.silent = False
            self.wakes()
            if self.rule.no_data == "alerting" and not self.truth:
                self.fails(t)
            elif self.rule.no_data == "keep_last":
                self.since = t
            if self.truth and self.phase == "normal":
                self.holds(t)

    def timers(self, t: int) -> None:
        frozen = self.silent and self.rule.no_data == "keep_last"
        if self.phase == "pending" and t >= self.since + self.pending and not frozen:
            self.fire(t)
        if self.phase == "recovering" and t >= self.since + self.keep and not frozen:
            self.resolve(t)
        for one in self.rule.escalation:
            meant = self.fired_at is not None and t == self.fired_at + one.after.seconds and not self.hidden
            if meant and self.phase in ("firing", "recovering") and not self.seen:
                self.told.append(("escalation", t))
        if self.rule.no_data != "ok" and not self.silent and t >= self.heard + self.after:
            self.silent = True
            if self.rule.no_data == "alerting":
                self.holds(t)
            elif self.rule.no_data == "nodata":
                self.was_firing = self.phase in ("firing", "recovering")
                self.phase = "no_data"
                self.told.append(("no_data", t))


@st.composite
def cases(draw: st.DrawFn) -> tuple[Rule, list[Record], list[int], list[int]]:
    """A rule, its records, the seconds at which someone acknowledges, and where batches are cut."""
    span = st.integers(0, 9).map(lambda seconds: timedelta(seconds=seconds))
    rule = make_rule(
        pending=draw(span),
        keep_firing=draw(span),
        cooldown=draw(st.sampled_from([0, 0, 15])) * timedelta(seconds=1),
        frequency=draw(st.sampled_from(["every_time", "every_time", "once"])),
        no_data=draw(st.sampled_from(["ok", "alerting", "nodata", "keep_last"])),
        no_data_after=timedelta(seconds=draw(st.integers(5, 20))),
        escalation=draw(st.sampled_from([(), (Escalation(after=timedelta(seconds=11), channels=("boss",)),)])),
        notify_resolved=True,
    )
    seconds = sorted(draw(st.sets(st.integers(1, END - 1), min_size=1, max_size=40)))
    truth: bool | None = None
    records = []
    for second in seconds:
        symbol = draw(st.sampled_from("AAAB"))
        new = draw(st.sampled_from([truth, True, False, None])) if symbol == "A" else truth
        said = (("r", new),) if new is not truth else ()
        records.append(Record(second, symbol, said))
        truth = new
    seen = sorted(draw(st.sets(st.integers(1, END), max_size=2)))
    cuts = sorted(draw(st.sets(st.integers(1, len(records)), max_size=6)))
    return rule, records, seen, cuts


def run(rule: Rule, records: list[Record], cuts: list[int], *, stop: bool = False) -> tuple[list[Commit], Desk]:
    desk = Desk(rule)
    commits = []
    for begin, end in zip([0, *cuts], [*cuts, len(records)], strict=True):
        if begin < end:
            commits.append(desk.take(records[begin:end]))
        if stop:
            desk = Desk(rule, snapshot=desk.processor.snapshot())
    commits.append(desk.advance(END))
    return commits, desk


@pytest.fixture(autouse=True)
def _no_flapping(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(phases, "FLAPPING_CHANGES", 10**9)


@settings(max_examples=150, deadline=None)
@given(cases())
def test_the_processor_tells_what_a_machine_that_looks_at_each_second_tells(
    case: tuple[Rule, list[Record], list[int], list[int]],
) -> None:
    rule, records, seen, _ = case
    machine, desk, ids, found = Machine(rule), Desk(rule), [], []
    by_second = {int(one.second): one for one in records}
    truth: bool | None = None
    for t in range(END + 1):
        record = by_second.get(t)
        if record is not None:
            if record.said:
                truth = record.said[0][1]
            if record.symbol == "A":
                machine.record(t, truth)
        machine.timers(t)
        commit = desk.take([record]) if record is not None else desk.advance(t)
        found.extend((one.kind, one.ts // SECOND) for one in commit.firings)
        ids.extend(one.id for one in commit.firings)
        if t in seen and ids:
            if machine.phase in ("firing", "recovering"):
                machine.seen = True
            desk.processor.acknowledge(ids[-1], "r", "A", "someone", t)
    assert found == machine.told


@settings(max_examples=80, deadline=None)
@given(cases())
def test_any_cut_of_the_records_and_any_stop_give_the_same_firings_and_the_same_end(
    case: tuple[Rule, list[Record], list[int], list[int]],
) -> None:
    rule, records, _, cuts = case
    whole, desk = run(rule, records, [])
    cut, other = run(rule, records, cuts)
    stopped, third = run(rule, records, cuts, stop=True)
    plain = [one for commit in whole for one in commit.firings]
    for commits, last in ((cut, other), (stopped, third)):
        assert [one for commit in commits for one in commit.firings] == plain or [
            replace(one, price=0.0) for commit in commits for one in commit.firings
        ] == [replace(one, price=0.0) for one in plain]
        assert [one.id for commit in commits for one in commit.deliveries] == [
            one.id for commit in whole for one in commit.deliveries
        ]
        assert last.processor.snapshot() == desk.processor.snapshot()
