"""The alert processor: what the kernel fired becomes firings, states and deliveries, all of one transaction.

Everything it does follows from the records in their order: timers run when the records' own times have passed them,
so that a replay of the same records, cut into any batches, gives the same firings under the same ids.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, replace
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tapeline.alerts import phases
from tapeline.alerts.engine.compiled import CompiledRule
from tapeline.alerts.engine.evaluator import Fired
from tapeline.alerts.firing import Firing, FiringKind, Side, dedupe_key
from tapeline.alerts.phases import nanoseconds
from tapeline.alerts.records import Commit, Delivery, RuleState
from tapeline.alerts.routing import Router
from tapeline.alerts.rule import TIMEFRAME_NAMES, Rule

_BARS: Final = dict(zip(TIMEFRAME_NAMES, (60, 300, 900, 3_600, 14_400, 86_400), strict=True))
_SECOND: Final = 1_000_000_000
_TRUTHS: Final[tuple[phases.Event, ...]] = ("unknown", "false", "true")
"""By the codes of ``table``."""
Key = tuple[str, str]
"""A rule's id and a symbol."""


class Taken(NamedTuple):
    """What the processor needs of a batch beside what fired, by record; see ``evaluator.Batch``.

    ``sequences`` are the feed's numbers (-1: none), ``late`` marks records found by going over a gap, ``positions``
    says how far each feed is taken with this batch.
    """

    symbols: NDArray[np.int32]
    times: NDArray[np.int64]
    prices: NDArray[np.float64]
    sequences: NDArray[np.int64]
    late: NDArray[np.bool_]
    positions: Mapping[str, int]


class AlertProcessor:
    """The state of all watched rules, and the one way to move it.

    Parameters
    ----------
    router:
        Who is told.
    names:
        Symbols by the evaluator's numbers.
    rule_of:
        The compiled rule that a firing of the kernel names: ``Evaluator.rule``.
    """

    def __init__(self, router: Router, names: list[str], rule_of: Callable[[int], CompiledRule]) -> None:
        self.router, self.names, self._rule_of = router, names, rule_of
        self.rules: dict[str, Rule] = {}
        self.states: dict[Key, RuleState] = {}
        self.counts: Counter[str] = Counter()
        self.watermark = 0
        self._compiled: dict[str, str] = {}
        self._timers: list[tuple[int, Key, str]] = []
        self._heard: dict[str, int] = {}
        self._silent: set[Key] = set()
        self._newest: dict[Key, tuple[int, int]] = {}
        self._inhibitors: frozenset[str] = frozenset()
        self._changed: dict[Key, RuleState] = {}

    def set_rules(self, rules: Iterable[tuple[Rule, CompiledRule]]) -> None:
        """Replace the rules; states of rules that are gone, or are another version, are forgotten."""
        pairs = list(rules)
        self.rules = {rule.id: rule for rule, _ in pairs}
        self._compiled = {compiled.id: rule.id for rule, compiled in pairs}
        self._inhibitors = frozenset(name for rule, _ in pairs for name in rule.inhibited_by)
        versions = {rule.id: rule.version for rule, _ in pairs}
        self.states = {key: one for key, one in self.states.items() if versions.get(key[0]) == one.rule_version}
        self._silent &= set(self.states)

    def is_watched(self, rule: Rule) -> bool:
        """Whether the kernel must tell each change of truth of it: its own wish, or that it keeps others quiet."""
        return rule.watched or rule.id in self._inhibitors

    def watch_silence(self, rule: Rule, symbols: Iterable[str], ts: int) -> None:
        """Begin to count the silence of symbols for a rule that minds it."""
        if rule.no_data in ("nodata", "alerting"):
            for symbol in symbols:
                self._heard.setdefault(symbol, ts)
                self._later(self._heard[symbol] + nanoseconds(rule.no_data_after), (rule.id, symbol), "silent")

    def take(self, fired: Fired, taken: Taken, detected_at: int) -> Commit:
        """What a batch of records brought.

        Parameters
        ----------
        detected_at:
            Nanoseconds, our clock: said in the firings, decides nothing.
        """
        found: list[tuple[Firing, Rule]] = []
        newest = np.maximum.accumulate(np.maximum(taken.times, self.watermark))
        back = self._back(taken)
        for row in fired.firings:
            tick = int(row["tick"])
            while back and back[0][0] <= tick:
                self._speak(*heapq.heappop(back), taken, newest, found, detected_at)
            self._until(int(newest[tick - 1]) if tick else self.watermark, found, detected_at)
            self._kernel(row, fired, taken, found, detected_at)
        while back:
            self._speak(*heapq.heappop(back), taken, newest, found, detected_at)
        if newest.size:
            self.watermark = int(newest[-1])
            spoke, last = np.unique(taken.symbols[::-1], return_index=True)
            for number, place in zip(spoke.tolist(), last.tolist(), strict=True):
                if number >= 0:
                    self._heard[self.names[number]] = int(taken.times[taken.times.size - 1 - place])
        self._until(self.watermark, found, detected_at)
        return self._commit(found, taken.positions)

    def advance(self, ts: int, detected_at: int) -> Commit:
        """Let time pass without a record: what was waiting for it comes due."""
        found: list[tuple[Firing, Rule]] = []
        self.watermark = max(self.watermark, ts)
        self._until(self.watermark, found, detected_at)
        return self._commit(found, {})

    def acknowledge(self, rule: str, symbol: str, who: str, at: int) -> Commit:
        """Someone has seen it: no escalation follows until it fires again."""
        state = self.states.get((rule, symbol))
        if state is None or state.phase not in ("firing", "recovering", "no_data"):
            return Commit()
        self._set(replace(state, acknowledged_by=who, acknowledged_at=at))
        return self._commit([], {})

    def snapshot(self) -> dict[str, Any]:
        """All that it remembers, as JSON keeps it: with the kernel's snapshot, of the same record."""
        return {
            "watermark": self.watermark,
            "states": [asdict(one) for _, one in sorted(self.states.items())],
            "timers": [[due, *key, why] for due, key, why in sorted(self._timers)],
            "heard": dict(sorted(self._heard.items())),
            "silent": sorted(map(list, self._silent)),
            "newest": [[*key, *value] for key, value in sorted(self._newest.items())],
        }

    def restore(self, plain: Mapping[str, Any]) -> None:
        """Stand where :meth:`snapshot` stood. Rules are set after it."""
        self.watermark = int(plain["watermark"])
        states = [RuleState(**{**one, "changes": tuple(one["changes"])}) for one in plain["states"]]
        self.states = {(one.rule, one.symbol): one for one in states}
        self._timers = [(due, (rule, symbol), why) for due, rule, symbol, why in plain["timers"]]
        heapq.heapify(self._timers)
        self._heard = dict(plain["heard"])
        self._silent = {(rule, symbol) for rule, symbol in plain["silent"]}
        self._newest = {(rule, symbol): (ts, count) for rule, symbol, ts, count in plain["newest"]}

    def _kernel(self, row: Any, fired: Fired, taken: Taken, found: list[tuple[Firing, Rule]], detected_at: int) -> None:
        compiled = self._rule_of(int(row["rule"]))
        rule = self.rules.get(self._compiled.get(compiled.id, ""))
        if rule is None:
            self.counts["of a rule that is gone"] += 1
            return
        tick = int(row["tick"])
        symbol, ts = self.names[int(taken.symbols[tick])], int(row["ts"])
        firing = self._firing(rule, symbol, "firing", ts, detected_at, float(row["price"]))
        begin = int(row["sides"])
        sides = fired.sides[begin : begin + int(row["count"])]
        firing = replace(
            firing,
            sequence=int(taken.sequences[tick]),
            late=bool(taken.late[tick]),
            lateness=max(detected_at - ts, 0) if taken.late[tick] else 0,
            at_close=bool(row["at_close"]),
            sides=tuple(
                Side(one.text, float(side["left"]), float(side["right"]), (None, False, True)[int(side["truth"])])
                for one, side in zip(compiled.conditions, sides, strict=True)
            ),
        )
        if not self.is_watched(rule):
            self._tell(firing, rule, found)
            return
        self._step(rule, symbol, _TRUTHS[int(row["truth"])], ts, firing, found)

    def _step(
        self, rule: Rule, symbol: str, event: phases.Event, ts: int, firing: Firing, found: list[tuple[Firing, Rule]]
    ) -> None:
        key = (rule.id, symbol)
        before = self.states.get(key) or RuleState(rule.id, rule.version, symbol, "normal", ts)
        if event == "true" and not _in_session(rule, ts):
            self.counts["outside its sessions"] += 1
            return
        after = phases.step(rule, phases.calmed(before, ts), event, ts)
        if after.state != before:
            self._set(after.state)
        if after.due:
            self._later(after.due, key, "due")
        if after.state.phase == "no_data":
            self._silent.add(key)
        if after.tell is None:
            return
        at = after.state.since
        told = replace(firing, kind=after.tell, ts=at, dedupe_key=self._key(rule, symbol, after.tell, at))
        if after.tell == "firing":
            if not self._may_fire(rule, before, at):
                return
            self._set(replace(after.state, fired_at=at))
            for number, escalation in enumerate(rule.escalation):
                self._later(at + nanoseconds(escalation.after), key, f"escalate {number}")
        if after.state.flapping and before.flapping:
            self.counts["flapping"] += 1
            return
        self._tell(told, rule, found)

    def _may_fire(self, rule: Rule, before: RuleState, ts: int) -> bool:
        """What the kernel asks of rules that are not watched."""
        if before.fired_at == 0:
            return True
        if rule.frequency == "once":
            return False
        bar = _BARS[rule.timeframe] * _SECOND
        if rule.frequency == "once_per_bar" and before.fired_at // bar == ts // bar:
            return False
        return ts - before.fired_at >= nanoseconds(rule.cooldown)

    def _tell(self, firing: Firing, rule: Rule, found: list[tuple[Firing, Rule]]) -> None:
        if not rule.enabled or (rule.expires_at is not None and firing.ts >= rule.expires_at.timestamp() * _SECOND):
            self.counts["of an expired rule"] += 1
            return
        found.append((firing, rule))

    def _until(self, ts: int, found: list[tuple[Firing, Rule]], detected_at: int) -> None:
        """Run the timers that are due by ``ts``, in the order of their times."""
        while self._timers and self._timers[0][0] <= ts:
            due, key, why = heapq.heappop(self._timers)
            rule = self.rules.get(key[0])
            if rule is None:
                continue
            state = self.states.get(key)
            if why == "due" and state is not None:
                firing = self._firing(rule, key[1], "firing", due, detected_at, float("nan"))
                self._step(rule, key[1], "due", due, firing, found)
            elif why == "silent":
                quiet = self._heard.get(key[1], due) + nanoseconds(rule.no_data_after)
                if quiet > due:
                    self._later(quiet, key, "silent")
                elif key not in self._silent:
                    firing = self._firing(rule, key[1], "no_data", due, detected_at, float("nan"))
                    self._step(rule, key[1], "silent", due, firing, found)
                    self._silent.add(key)
            elif why.startswith("escalate ") and state is not None:
                self._escalate(rule, state, int(why.split()[1]), due, found, detected_at)

    def _escalate(
        self, rule: Rule, state: RuleState, number: int, due: int, found: list[tuple[Firing, Rule]], detected_at: int
    ) -> None:
        meant = state.fired_at + nanoseconds(rule.escalation[number].after) == due
        if not meant or state.phase not in ("firing", "recovering") or state.acknowledged_by is not None:
            return
        self._set(replace(state, escalated=number + 1))
        self._tell(self._firing(rule, state.symbol, "escalation", due, detected_at, float("nan")), rule, found)

    def _back(self, taken: Taken) -> list[tuple[int, Key]]:
        """Silent symbols that speak in this batch, by the first record at which they do."""
        found = []
        if self._silent:
            numbers = {self.names[int(one)]: int(one) for one in np.unique(taken.symbols) if one >= 0}
            for key in self._silent:
                if key[1] in numbers:
                    found.append((int(np.argmax(taken.symbols == numbers[key[1]])), key))
        heapq.heapify(found)
        return found

    def _speak(
        self,
        tick: int,
        key: Key,
        taken: Taken,
        newest: NDArray[np.int64],
        found: list[tuple[Firing, Rule]],
        detected_at: int,
    ) -> None:
        self._until(int(newest[tick - 1]) if tick else self.watermark, found, detected_at)
        self._silent.discard(key)
        rule, ts = self.rules.get(key[0]), int(taken.times[tick])
        if rule is None:
            return
        state = self.states.get(key)
        if state is not None and state.phase == "no_data":
            firing = self._firing(rule, key[1], "resolved", ts, detected_at, float(taken.prices[tick]))
            self._step(rule, key[1], "heard", ts, firing, found)
        self._later(ts + nanoseconds(rule.no_data_after), key, "silent")

    def _commit(self, found: list[tuple[Firing, Rule]], positions: Mapping[str, int]) -> Commit:
        deliveries: list[Delivery] = []
        for firing, rule in found:
            if self._inhibited(rule, firing.symbol):
                self.counts["inhibited"] += 1
                continue
            channels = None
            if firing.kind == "escalation":
                number = self.states[(rule.id, firing.symbol)].escalated - 1
                channels = rule.escalation[max(number, 0)].channels
            deliveries.extend(self.router.deliveries(firing, rule, channels))
        states = tuple(self._changed.values())
        self._changed = {}
        self.counts["firings"] += len(found)
        return Commit(tuple(firing for firing, _ in found), states, tuple(deliveries), dict(positions))

    def _inhibited(self, rule: Rule, symbol: str) -> bool:
        for name in rule.inhibited_by:
            state = self.states.get((name, symbol))
            if state is not None and state.phase in ("firing", "recovering"):
                return True
        return False

    def _firing(self, rule: Rule, symbol: str, kind: FiringKind, ts: int, detected_at: int, price: float) -> Firing:
        bar = _BARS[rule.timeframe] * _SECOND
        return Firing(
            self._key(rule, symbol, kind, ts),
            rule.id,
            rule.version,
            rule.owner,
            symbol,
            kind,
            ts,
            detected_at,
            price,
            bar=ts // bar * bar,
            priority=rule.priority,
            labels=dict(rule.labels),
        )

    def _key(self, rule: Rule, symbol: str, kind: FiringKind, ts: int) -> str:
        """Counts what falls on one instant, so that it does not count as the same."""
        at, count = self._newest.get((f"{rule.id}/{kind}", symbol), (-1, -1))
        count = count + 1 if at == ts else 0
        self._newest[(f"{rule.id}/{kind}", symbol)] = (ts, count)
        return dedupe_key(rule.id, rule.version, symbol, kind, ts, count)

    def _set(self, state: RuleState) -> None:
        self.states[(state.rule, state.symbol)] = self._changed[(state.rule, state.symbol)] = state

    def _later(self, due: int, key: Key, why: str) -> None:
        heapq.heappush(self._timers, (due, key, why))


def _in_session(rule: Rule, ts: int) -> bool:
    if not rule.sessions:
        return True
    instant = datetime.fromtimestamp(ts // _SECOND, UTC)
    return any(one.holds(instant) for one in rule.sessions)
