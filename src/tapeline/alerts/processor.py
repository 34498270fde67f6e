"""The alert processor: what the kernel fired becomes firings, states and deliveries, all of one transaction.

Everything it does follows from the records in their order: timers run when the records' own times have passed them,
so that a replay of the same records, cut into any batches, gives the same firings under the same ids.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields, replace
from typing import Any, Final

import numpy as np

from tapeline.alerts import phases
from tapeline.alerts.engine import table
from tapeline.alerts.engine.compiled import CompiledRule
from tapeline.alerts.engine.evaluator import Fired
from tapeline.alerts.engine.kernel import CLOCK
from tapeline.alerts.firing import Firing, FiringKind, Side
from tapeline.alerts.firing_keys import FiringKeys
from tapeline.alerts.firing_rates import FiringRates
from tapeline.alerts.passage import NEVER, Key, Passage, Taken
from tapeline.alerts.phases import nanoseconds
from tapeline.alerts.records import Commit, Delivery, RuleState
from tapeline.alerts.routing import Router, opens_after
from tapeline.alerts.rule import Rule
from tapeline.alerts.timeframes import TIMEFRAMES

_TRUTHS: Final[tuple[phases.Event, ...]] = ("unknown", "false", "true")
"""By the codes of ``table``."""
_MOST_SEEN: Final = 10_000
_STATE: Final = tuple(one.name for one in fields(RuleState))
NOTHING: Final = Fired(np.zeros(0, table.FIRING), np.zeros(0, table.SIDES))
"""That no rule fired."""

__all__ = ["NOTHING", "AlertProcessor", "Taken"]


class AlertProcessor:
    """The state of all watched rules, and the one way to move it.

    Parameters
    ----------
    router:
        Who is told.
    names:
        Symbols by the evaluator's numbers (``Evaluator.names``): it may grow.
    rule_of:
        The compiled rule that a firing of the kernel names: ``Evaluator.rule``.
    """

    def __init__(self, router: Router, names: Sequence[str], rule_of: Callable[[int], CompiledRule]) -> None:
        self.router = router
        self.rules: dict[str, Rule] = {}
        self.states: dict[Key, RuleState] = {}
        self.counts: Counter[str] = Counter()
        self.watermark = 0
        self._names, self._compiled = names, rule_of
        self._numbers: dict[str, int] = {}
        self._rule_of: dict[str, str] = {}
        self._versions: dict[str, str] = {}
        self._crossing: set[str] = set()
        self._inhibitors: Counter[str] = Counter()
        self._compiled_of: dict[str, str] = {}
        self._symbols_of: dict[str, set[str]] = {}
        self._timers: list[tuple[int, Key, str]] = []
        self._minded: set[Key] = set()
        self._heard: dict[str, int] = {}
        self._silent: set[Key] = set()
        self._true: set[Key] = set()
        self._quiet: dict[Key, str] = {}
        self._suspended: frozenset[str] = frozenset()
        self._keys = FiringKeys()
        self._rates = FiringRates()
        self._current: dict[Key, tuple[str, ...]] = {}
        self._seen: dict[str, tuple[str, int]] = {}
        self._changed: dict[Key, RuleState] = {}
        self._found: list[tuple[Firing, tuple[Delivery, ...]]] = []

    def set_rules(self, rules: Iterable[tuple[Rule, CompiledRule]]) -> None:
        """These rules and no others; see :meth:`change_rules`."""
        pairs = list(rules)
        staying = {rule.id for rule, _ in pairs}
        gone = {id for id in (*self.rules, *self._symbols_of) if id not in staying}
        self.change_rules(pairs, gone)

    def change_rules(
        self,
        rules: Iterable[tuple[Rule, CompiledRule]],
        removed: Iterable[str] = (),
        left: Iterable[tuple[str, Iterable[str]]] = (),
    ) -> None:
        """Some rules are new or changed, some go; what was known of those, or of another version, is forgotten.

        Only when they last fired stays, so that an edit does not end a cooldown.

        Parameters
        ----------
        removed:
            Ids of rules that go.
        left:
            By id the symbols that a rule which stays no longer watches.
        """
        pairs = list(rules)
        # A version is a hash: made once, not for each firing.
        versions = {rule.id: rule.version for rule, _ in pairs}
        gone, forgotten = set(removed), set[Key]()
        anew = {id for id, version in versions.items() if id in self.rules and self._versions[id] != version}
        for id in (*gone, *versions):
            version = versions.get(id)
            for symbol in tuple(self._symbols_of.get(id, ())):
                if self.states[id, symbol].rule_version != version:
                    self._forget((id, symbol), version)
        for id, symbols in left:
            for symbol in symbols:
                forgotten.add((id, symbol))
                self._forget((id, symbol), self._versions.get(id))
        others = gone | anew
        self._rates.forget(others)
        if self._timers and (forgotten or any(id in self.rules and self.is_watched(self.rules[id]) for id in others)):
            self._timers = [one for one in self._timers if one[1][0] not in others and one[1] not in forgotten]
            heapq.heapify(self._timers)
        if self._minded and others:
            self._minded = {key for key in self._minded if key[0] not in others}
        for id in (*gone, *versions):
            before = self.rules.pop(id, None)
            if before is not None:
                self._inhibitors.subtract(before.inhibited_by)
            self._versions.pop(id, None)
            self._rule_of.pop(self._compiled_of.pop(id, ""), None)
            self._crossing.discard(id)
        for rule, compiled in pairs:
            self.rules[rule.id], self._versions[rule.id] = rule, versions[rule.id]
            self._rule_of[compiled.id], self._compiled_of[rule.id] = rule.id, compiled.id
            self._inhibitors.update(rule.inhibited_by)
            if any(one.crossing for one in compiled.conditions):
                self._crossing.add(rule.id)

    def suspend(self, owners: Iterable[str], resumed: Iterable[str] = ()) -> None:
        """Nothing is told of the rules of these owners and of no others; their states go on.

        Parameters
        ----------
        resumed:
            Owners of whom something is told again: what fired meanwhile and still holds is told at the next record.
        """
        self._suspended = frozenset(owners)
        back = set(resumed)
        for key, why in sorted(self._quiet.items()):
            if why == "suspended" and key[0] in self.rules and self.rules[key[0]].owner in back:
                self._later(self.watermark, key, "resumed")

    def is_watched(self, rule: Rule) -> bool:
        """Whether the kernel must tell each change of truth of it: its own wish, or that it keeps others quiet."""
        return rule.watched or self._inhibitors[rule.id] > 0

    def watch_silence(self, rule: Rule, symbols: Iterable[str], ts: int) -> None:
        """Begin to count the silence of symbols for a rule that minds it; those that are counted already stay so."""
        if rule.no_data == "ok":
            return
        for symbol in symbols:
            if (rule.id, symbol) not in self._minded:
                self._minded.add((rule.id, symbol))
                self._heard.setdefault(symbol, ts)
                self._later(self._heard[symbol] + nanoseconds(rule.no_data_after), (rule.id, symbol), "silent")

    def take(self, fired: Fired, taken: Taken, detected_at: int) -> Commit:
        """What a batch of records brought.

        Parameters
        ----------
        detected_at:
            Nanoseconds, our clock: said in the firings, decides nothing.
        """
        now = Passage(taken, self.watermark, detected_at)
        for number in range(len(self._numbers), len(self._names)):
            self._numbers[self._names[number]] = number
        if self._silent:
            present = set(taken.symbols.tolist())
            for key in sorted(self._silent):
                number = self._numbers[key[1]]
                if number in present:
                    now.expect(key, number, 0)
        for row in fired.firings:
            tick = int(row["tick"])
            self._pass(now, tick, max(now.time(tick), min(int(row["ts"]), int(now.newest[tick])) - 1))
            self._kernel(row, fired, now)
        self._pass(now, now.size, now.time(now.size))
        if now.size:
            self.watermark = now.time(now.size)
            if self._heard:
                numbers = now.voices()
                for symbol in self._heard:
                    ts = numbers.get(self._numbers[symbol])
                    if ts is not None:
                        self._heard[symbol] = ts
        return self._commit(taken.positions)

    def advance(self, ts: int, detected_at: int) -> Commit:
        """Let time pass without a record: what was waiting for it comes due."""
        clock = Taken(
            np.full(1, -1, np.int32),
            np.full(1, ts, np.int64),
            np.full(1, np.nan),
            np.full(1, -1, np.int64),
            np.zeros(1, np.bool_),
            {},
            np.full(1, CLOCK, np.uint8),
        )
        return self.take(NOTHING, clock, detected_at)

    def acknowledge(self, firing: str, rule: str, symbol: str, who: str, at: int) -> Commit:
        """Someone has seen a firing, or an escalation of it, by its id: no further escalation of it follows.

        One that is not found yet is seen as soon as it is: records may be gone over again after a crash.
        """
        self._seen[firing] = (who, at)
        if len(self._seen) > _MOST_SEEN:
            del self._seen[next(iter(self._seen))]
        key = (rule, symbol)
        state = self.states.get(key)
        if state is None or state.acknowledged_by is not None or firing not in self._current.get(key, ()):
            return Commit()
        self._set(replace(state, acknowledged_by=who, acknowledged_at=at))
        return self._commit({})

    def snapshot(self) -> dict[str, Any]:
        """All that it remembers, as JSON keeps it: with the kernel's snapshot, of the same record."""
        return self.still()()

    def still(self) -> Callable[[], dict[str, Any]]:
        """:meth:`snapshot` as of now, made when what is given is called: in any thread, at any time later."""
        watermark, occurrences, rates = self.watermark, self._keys.still(), self._rates.still()
        states, timers = dict(self.states), list(self._timers)
        heard, quiet, current = dict(self._heard), dict(self._quiet), dict(self._current)
        marked = {name: set(getattr(self, f"_{name}")) for name in ("minded", "silent", "true")}

        def snapshot() -> dict[str, Any]:
            return {
                "watermark": watermark,
                "states": [{name: getattr(one, name) for name in _STATE} for _, one in sorted(states.items())],
                "timers": [[due, *key, why] for due, key, why in sorted(timers)],
                "heard": dict(sorted(heard.items())),
                **{name: sorted(map(list, keys)) for name, keys in marked.items()},
                "quiet": [[*key, why] for key, why in sorted(quiet.items())],
                "current": [[*key, *ids] for key, ids in sorted(current.items())],
                "occurrences": occurrences(),
                "rates": rates(),
            }

        return snapshot

    def restore(self, plain: Mapping[str, Any]) -> None:
        """Stand where :meth:`snapshot` stood. Rules are set after it."""
        self.watermark = int(plain["watermark"])
        states = [RuleState(**{**one, "changes": tuple(one["changes"])}) for one in plain["states"]]
        self.states = {(one.rule, one.symbol): one for one in states}
        for one in states:
            self._symbols_of.setdefault(one.rule, set()).add(one.symbol)
        self._timers = [(due, (rule, symbol), why) for due, rule, symbol, why in plain["timers"]]
        heapq.heapify(self._timers)
        self._heard = dict(plain["heard"])
        self._minded, self._silent, self._true = (
            {(rule, symbol) for rule, symbol in plain[name]} for name in ("minded", "silent", "true")
        )
        self._quiet = {(rule, symbol): why for rule, symbol, why in plain["quiet"]}
        self._current = {(rule, symbol): tuple(ids) for rule, symbol, *ids in plain["current"]}
        self._keys = FiringKeys(plain["occurrences"])
        self._rates = FiringRates(plain.get("rates", ()))

    def _pass(self, now: Passage, record: int, before: int) -> None:
        """Run what comes before a record: silent symbols of earlier records that speak, timers due by ``before``."""
        while True:
            due = self._timers[0][0] if self._timers else NEVER
            spoken = now.back[0][0] if now.back else NEVER
            if spoken < record and now.passed(due) > spoken:
                now.at = spoken
                _, key = heapq.heappop(now.back)
                self._speak(key, now)
            elif due <= before:
                due, key, why = heapq.heappop(self._timers)
                self._due(due, key, why, now)
            else:
                break
        now.at = record

    def _kernel(self, row: Any, fired: Fired, now: Passage) -> None:
        symbol, compiled = self._names[int(row["symbol"])], self._compiled(int(row["rule"]))
        rule = self.rules.get(self._rule_of.get(compiled.id, ""))
        if rule is None:
            self.counts["of a rule that is gone"] += 1
            return
        ts, at_close = int(row["ts"]), bool(row["at_close"])
        begin = int(row["sides"])
        sides = fired.sides[begin : begin + int(row["count"])]
        seen = tuple(
            Side(one.text, left, right, (None, False, True)[truth])
            for one, (left, right, truth) in zip(compiled.conditions, sides.tolist(), strict=True)
        )
        sequence = int(now.taken.sequences[now.at])
        found = self._firing(rule, symbol, "firing", ts, now, float(row["price"]), sequence, at_close, seen)
        if not self.is_watched(rule):
            if self._rates.fired((rule.id, symbol), ts) >= phases.FLAPPING_CHANGES:
                # Told all the same: that it fires so often may be what its owner wants.
                found = replace(found, labels={**found.labels, "flapping": f"{phases.FLAPPING_CHANGES} firings"})
            self._tell(rule, found)
            return
        key, truth = (rule.id, symbol), _TRUTHS[int(row["truth"])]
        if truth == "true" and key in self._true and rule.id in self._crossing:
            # Each crossing is a new one, whether or not the kernel told of the end of the last.
            self._step(rule, symbol, "false", ts, found)
        elif truth == "true" and key in self._true:
            truth = "again"
        elif truth == "true":
            self._true.add(key)
        else:
            self._true.discard(key)
        if truth in ("true", "again") and not phases.is_asked(rule, ts):
            self.counts["outside its sessions"] += 1
            if rule.id not in self._crossing:
                self._later(opens_after(rule.sessions, ts), key, "open")
            return
        self._step(rule, symbol, truth, ts, found)

    def _step(self, rule: Rule, symbol: str, event: phases.Event, ts: int, found: Firing) -> None:
        key = (rule.id, symbol)
        before = self.states.get(key) or RuleState(rule.id, self._versions[rule.id], symbol, "normal", ts)
        if phases.is_expired(rule, ts):
            if before.phase != "expired":
                self._set(replace(before, phase="expired", since=ts))
            return
        after = phases.step(rule, before, event, ts)
        if after.state != before:
            self._set(after.state)
        if after.due:
            self._later(after.due, key, "due")
        flapping = before.flapping
        if after.state.flapping and not flapping:
            self._later(after.state.changes[-1] + phases.CALM, key, "calm")
            found = replace(found, labels={**found.labels, "flapping": f"{phases.FLAPPING_CHANGES} changes"})
        if after.tell is None:
            if after.state.phase == "normal":
                self._quiet.pop(key, None)
            return
        at = ts if after.tell == "firing" and event == "again" else after.state.since
        told = replace(found, kind=after.tell, ts=at)
        if after.tell == "firing":
            if not self._may_fire(rule, before, at):
                if event != "again":
                    self._quiet[key] = "held back"
                return
            self._set(replace(after.state, fired_at=at))
            self._quiet.pop(key, None)
            if flapping:
                self._quiet[key] = "flapping"
        elif after.tell == "resolved" and self._quiet.pop(key, None) == "held back":
            return
        if flapping:
            self.counts["flapping"] += 1
        self._tell(rule, told, quiet=flapping)

    def _may_fire(self, rule: Rule, before: RuleState, ts: int) -> bool:
        """What the kernel asks of rules that are not watched."""
        if before.fired_at == 0:
            return True
        if rule.frequency == "once":
            return False
        bar = TIMEFRAMES[rule.timeframe]
        if rule.frequency == "once_per_bar" and before.fired_at // bar == ts // bar:
            return False
        return ts - before.fired_at >= nanoseconds(rule.cooldown)

    def _tell(self, rule: Rule, found: Firing, channels: tuple[str, ...] | None = None, *, quiet: bool = False) -> None:
        """Write a firing down, and tell it unless something keeps it quiet: as things stand at this record."""
        if not rule.enabled or phases.is_expired(rule, found.ts):
            self.counts["of an expired rule"] += 1
            return
        state, key = self.states.get((rule.id, found.symbol)), (rule.id, found.symbol)
        if rule.owner in self._suspended:
            self.counts["of a suspended owner"] += 1
            if state is not None and found.kind == "firing":
                self._quiet[key] = "suspended"
            return
        found = found.keyed(self._keys.key(found, state.escalated if state else 0))
        if state is not None and found.kind != "resolved":
            self._current[key] = (*(self._current.get(key, ()) if found.kind == "escalation" else ()), found.id)
            if found.id in self._seen:
                who, at = self._seen[found.id]
                self._set(replace(state, acknowledged_by=who, acknowledged_at=at))
            if found.kind == "firing" and not quiet:
                for number, escalation in enumerate(rule.escalation):
                    self._later(found.ts + nanoseconds(escalation.after), key, f"escalate {number}")
        deliveries: tuple[Delivery, ...] = ()
        if self._is_inhibited(rule, found.symbol):
            self.counts["inhibited"] += 1
        elif not quiet:
            deliveries = self.router.deliveries(found, rule, channels)
        self.counts["firings"] += 1
        self._found.append((found, deliveries))

    def _due(self, due: int, key: Key, why: str, now: Passage) -> None:
        """A timer has run out."""
        rule, state = self.rules.get(key[0]), self.states.get(key)
        if rule is None:
            return
        found = self._firing(rule, key[1], "firing", due, now, float("nan"))
        if why == "silent":
            self._listen(rule, key, due, found, now)
        elif why == "open":
            if key in self._true and (state is None or state.phase == "normal") and phases.is_asked(rule, due):
                self._step(rule, key[1], "true", due, found)
        elif state is None:
            return
        elif why == "due":
            if key in self._silent and rule.no_data == "keep_last":
                return
            if state.phase == "pending" and not phases.is_asked(rule, due):
                self._step(rule, key[1], "unknown", due, found)
                if rule.id not in self._crossing:
                    self._later(opens_after(rule.sessions, due), key, "open")
                return
            self._step(rule, key[1], "due", due, found)
        elif why == "calm":
            self._calm(rule, state, due, found)
        elif why == "resumed":
            if self._quiet.get(key) == "suspended":
                del self._quiet[key]
                self._tell_again(rule, state, due, found)
        else:
            self._escalate(rule, state, int(why.split()[1]), due, found)

    def _listen(self, rule: Rule, key: Key, due: int, found: Firing, now: Passage) -> None:
        """Whether a symbol has been silent for as long as the rule allows."""
        position, number = now.passed(due), self._numbers[key[1]]
        quiet = max(self._heard.get(key[1], due), now.heard(number, position)) + nanoseconds(rule.no_data_after)
        if quiet > due:
            self._later(quiet, key, "silent")
            return
        self._silent.add(key)
        now.expect(key, number, position)
        self._step(rule, key[1], "silent", due, found)

    def _speak(self, key: Key, now: Passage) -> None:
        """A silent symbol is heard again."""
        rule, ts = self.rules.get(key[0]), now.time(now.at + 1)
        self._silent.discard(key)
        if rule is None:
            return
        self._later(ts + nanoseconds(rule.no_data_after), key, "silent")
        if key not in self.states:
            return
        found = self._firing(rule, key[1], "firing", ts, now, float(now.taken.prices[now.at]))
        found = replace(found, sequence=int(now.taken.sequences[now.at]))
        if rule.no_data == "alerting" and key not in self._true:
            # It was silence that held, not the condition.
            self._step(rule, key[1], "false", ts, found)
            return
        self._step(rule, key[1], "heard", ts, found)
        if key in self._true and rule.id not in self._crossing and self.states[key].phase == "normal":
            self._step(rule, key[1], "true", ts, found)

    def _calm(self, rule: Rule, state: RuleState, due: int, found: Firing) -> None:
        """Flapping is over: a firing that nobody was told of and that still holds is told."""
        calm = phases.calmed(state, due)
        key = (rule.id, state.symbol)
        if calm.flapping:
            self._later(calm.changes[-1] + phases.CALM, key, "calm")
            return
        if calm == state:
            return
        self._set(calm)
        if self._quiet.get(key) != "suspended" and self._quiet.pop(key, None) == "flapping":
            self._tell_again(rule, calm, due, found)

    def _tell_again(self, rule: Rule, state: RuleState, due: int, found: Firing) -> None:
        """What was kept quiet for a reason that is over is told where it still holds."""
        if state.phase in ("firing", "recovering"):
            self._set(replace(state, fired_at=due))
            self._tell(rule, found)

    def _escalate(self, rule: Rule, state: RuleState, number: int, due: int, found: Firing) -> None:
        if number >= len(rule.escalation) or state.phase not in ("firing", "recovering", "no_data"):
            return
        if rule.owner in self._suspended:
            return
        meant = max(state.fired_at, state.since if state.phase == "no_data" else 0)
        if meant + nanoseconds(rule.escalation[number].after) != due or state.acknowledged_by is not None:
            return
        self._set(replace(state, escalated=number + 1))
        self._tell(rule, replace(found, kind="escalation"), rule.escalation[number].channels)

    def _commit(self, positions: Mapping[str, int]) -> Commit:
        found, states = self._found, tuple(self._changed.values())
        self._found, self._changed = [], {}
        deliveries = tuple(one for _, some in found for one in some)
        return Commit(tuple(one for one, _ in found), states, deliveries, dict(positions))

    def _is_inhibited(self, rule: Rule, symbol: str) -> bool:
        states = (self.states.get((name, symbol)) for name in rule.inhibited_by)
        return any(state is not None and state.phase in ("firing", "recovering") for state in states)

    def _firing(
        self, rule: Rule, symbol: str, kind: FiringKind, ts: int, now: Passage, price: float,
        sequence: int = -1, at_close: bool = False, sides: tuple[Side, ...] = (),
    ) -> Firing:  # fmt: skip
        bar, late = TIMEFRAMES[rule.timeframe], now.late
        return Firing(
            dedupe_key="",
            rule=rule.id,
            rule_version=self._versions[rule.id],
            owner=rule.owner,
            symbol=symbol,
            kind=kind,
            ts=ts,
            detected_at=now.detected_at,
            price=price,
            sequence=sequence,
            late=late,
            lateness=max(now.detected_at - ts, 0) if late else 0,
            bar=ts // bar * bar,
            at_close=at_close,
            priority=rule.priority,
            sides=sides,
            labels=dict(rule.labels),
        )

    def _forget(self, key: Key, version: str | None) -> None:
        """Forget what is known of a rule and a symbol; ``version`` is that of the rule which is there from now on."""
        state = self.states.pop(key, None)
        for known in (self._minded, self._silent, self._true):
            known.discard(key)
        self._quiet.pop(key, None)
        self._current.pop(key, None)
        if state is None:
            return
        self._symbols_of[key[0]].discard(key[1])
        if not self._symbols_of[key[0]]:
            del self._symbols_of[key[0]]
        if version is not None and state.fired_at:
            self._set(RuleState(key[0], version, key[1], "normal", self.watermark, fired_at=state.fired_at))

    def _set(self, state: RuleState) -> None:
        key = (state.rule, state.symbol)
        if key not in self.states:
            self._symbols_of.setdefault(state.rule, set()).add(state.symbol)
        self.states[key] = self._changed[key] = state

    def _later(self, due: int, key: Key, why: str) -> None:
        heapq.heappush(self._timers, (due, key, why))
