"""The rules in force and the symbols that are watched: what a change of them changes in kernel, series and processor.

A change costs what it names, however many other rules there are. It is taken between two batches, whole or not at all.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from tapeline.alerts.conditions import compile_rule
from tapeline.alerts.engine.compiled import CompiledRule
from tapeline.alerts.engine.evaluator import Evaluator
from tapeline.alerts.processor import AlertProcessor
from tapeline.alerts.rule import Rule
from tapeline.alerts.series import SeriesFeeds
from tapeline.core.errors import ConfigurationError

ALL = ("*",)


class Prepared(NamedTuple):
    """A rule that whoever had the time has compiled: the thread of the kernel need not."""

    rule: Rule
    compiled: CompiledRule


class Change(NamedTuple):
    """What changes at once.

    Parameters
    ----------
    rules:
        New or changed; one that is switched off goes.
    removed:
        Ids of rules that go; those that are not there are passed over.
    symbols, dropped:
        That are watched from now on, and no more. One that a rule names is not dropped.
    suspended, resumed:
        Owners of whose rules nothing is told from now on, and again.
    """

    rules: tuple[Prepared, ...] = ()
    removed: tuple[str, ...] = ()
    symbols: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()
    suspended: tuple[str, ...] = ()
    resumed: tuple[str, ...] = ()

    def plain(self) -> dict[str, Any]:
        """It as JSON keeps it."""
        return {
            "rules": [one.rule.model_dump(mode="json") for one in self.rules],
            "removed": list(self.removed),
            "symbols": list(self.symbols),
            "dropped": list(self.dropped),
            "suspended": list(self.suspended),
            "resumed": list(self.resumed),
        }

    @classmethod
    def of_plain(cls, plain: dict[str, Any]) -> Change:
        """What :meth:`plain` gave."""
        return cls(
            tuple(prepare(Rule.model_validate(one)) for one in plain["rules"]),
            *(tuple(plain[name]) for name in ("removed", "symbols", "dropped")),
            # What was written down before there were any has none.
            *(tuple(plain.get(name, ())) for name in ("suspended", "resumed")),
        )


class _Standing(NamedTuple):
    rule: Rule
    compiled: CompiledRule


def prepare(rule: Rule) -> Prepared:
    """Compile a rule for a change.

    Raises
    ------
    ConfigurationError
        It does not compile.
    """
    return Prepared(rule, compile_rule(rule))


class RulesInForce:
    """What stands, and the one way to change it.

    Parameters
    ----------
    evaluator, processor, series:
        What follows the rules.
    symbols:
        That are watched: all that there may be rules for, and all that ``*`` is.
    """

    def __init__(
        self, evaluator: Evaluator, processor: AlertProcessor, series: SeriesFeeds, symbols: Iterable[str] = ()
    ) -> None:
        self._evaluator, self._processor, self._series = evaluator, processor, series
        self.symbols: dict[str, None] = dict.fromkeys(symbols)
        self.references: Counter[str] = Counter()
        """How many rules name a symbol."""
        self.suspended: dict[str, None] = {}
        """Owners of whose rules nothing is told."""
        self._standing: dict[str, _Standing] = {}
        self._of_all: dict[str, None] = {}
        self._inhibiting: Counter[str] = Counter()
        evaluator.add_symbols(self.symbols)

    def __len__(self) -> int:
        return len(self._standing)

    @property
    def rules(self) -> tuple[Rule, ...]:
        """The rules in force."""
        return tuple(one.rule for one in self._standing.values())

    def rule(self, id: str) -> Rule | None:
        """One of them."""
        found = self._standing.get(id)
        return found.rule if found is not None else None

    def difference(self, rules: Iterable[Rule]) -> Change:
        """What must change for these rules to be in force and no others.

        Raises
        ------
        ConfigurationError
            One that is new does not compile.
        """
        wanted = {rule.id: rule for rule in rules if rule.enabled}
        removed = tuple(id for id in self._standing if id not in wanted)
        changed = [
            rule
            for id, rule in wanted.items()
            if id not in self._standing or (rule is not self._standing[id].rule and rule != self._standing[id].rule)
        ]
        return Change(tuple(map(prepare, changed)), removed)

    def needed(self, change: Change) -> Change | None:
        """The change without what stands so already; None where nothing is left."""
        rules = tuple(
            one
            for one in change.rules
            if (one.rule != self._standing[one.rule.id].rule if one.rule.id in self._standing else one.rule.enabled)
        )
        left = change._replace(
            rules=rules,
            removed=tuple(id for id in dict.fromkeys(change.removed) if id in self._standing),
            symbols=tuple(one for one in dict.fromkeys(change.symbols) if one not in self.symbols),
            dropped=tuple(one for one in dict.fromkeys(change.dropped) if one in self.symbols),
            suspended=tuple(one for one in dict.fromkeys(change.suspended) if one not in self.suspended),
            resumed=tuple(one for one in dict.fromkeys(change.resumed) if one in self.suspended),
        )
        return left if any(left) else None

    def check(self, change: Change) -> None:
        """Refuse what names a symbol that is not watched.

        Raises
        ------
        ConfigurationError
            With the rule and the symbols.
        """
        fresh = set(change.symbols)
        for rule, _ in change.rules:
            if not rule.enabled or rule.symbols == ALL:
                continue
            unknown = [one for one in rule.symbols if one not in self.symbols and one not in fresh]
            if unknown:
                raise ConfigurationError(
                    f"rule {rule.id}: {', '.join(unknown[:5])} is not collected", hint="name it in [alerts] symbols"
                )

    def apply(self, change: Change) -> None:
        """Let a change be in force, from the next batch on.

        Raises
        ------
        ConfigurationError
            A rule names a symbol that is not watched, or a symbol's rules need too much room; nothing is changed then.
        """
        self.check(change)
        before, coming = tuple(self.symbols), change.symbols
        wanted = {rule.id: compiled for rule, compiled in change.rules if rule.enabled}
        rules = {rule.id: rule for rule, _ in change.rules if rule.enabled}
        off = [rule.id for rule, _ in change.rules if not rule.enabled]
        gone = {id: self._standing[id] for id in (*change.removed, *off) if id in self._standing and id not in rules}
        inhibiting = self._inhibiting.copy()
        for id in (*gone, *rules):
            if id in self._standing:
                inhibiting.subtract(self._standing[id].rule.inhibited_by)
        for rule in rules.values():
            inhibiting.update(rule.inhibited_by)
        for id in {name for name, count in (inhibiting - self._inhibiting).items() if count} | {
            name for name, count in (self._inhibiting - inhibiting).items() if count
        }:
            # Who keeps another quiet tells each change of truth; who no longer does, no longer.
            if id in self._standing and id not in gone and id not in rules:
                rules[id], wanted[id] = self._standing[id]
        target = {
            id: _Standing(rule, _watched(wanted[id], rule.watched or inhibiting[id] > 0)) for id, rule in rules.items()
        }
        self._evaluator.add_symbols(coming)
        after = (*before, *coming)
        additions: list[tuple[CompiledRule, tuple[str, ...]]] = []
        left = [(one.compiled, _covered(one.rule, before)) for one in gone.values()]
        away: list[tuple[str, tuple[str, ...]]] = []
        for id, one in target.items():
            now, was = _covered(one.rule, after), self._standing.get(id)
            if was is None:
                additions.append((one.compiled, now))
                continue
            then = _covered(was.rule, before)
            if was.compiled != one.compiled:
                left.append((was.compiled, then))
                additions.append((one.compiled, now))
            elif then != now:
                staying, known = set(now), set(then)
                away.append((id, tuple(symbol for symbol in then if symbol not in staying)))
                left.append((was.compiled, away[-1][1]))
                additions.append((one.compiled, tuple(symbol for symbol in now if symbol not in known)))
        if coming:
            others = (id for id in self._of_all if id not in gone and id not in target)
            additions.extend((self._standing[id].compiled, coming) for id in others)
        self._evaluator.change([(compiled.id, symbols) for compiled, symbols in left], additions)
        self._inhibiting = +inhibiting
        self._note(gone, target)
        self.symbols.update(dict.fromkeys(coming))
        self._series.change(left, additions)
        self._processor.change_rules([(one.rule, one.compiled) for one in target.values()], tuple(gone), away)
        self._watch_silence(target, coming)
        self._drop(tuple(one for one in change.dropped if one in self.symbols and not self.references[one]))
        self._suspend(change.suspended, change.resumed)

    def suspension(self, owners: Iterable[str]) -> Change:
        """What must change for these owners to be suspended and no others."""
        wanted = dict.fromkeys(sorted(owners))
        return Change(
            suspended=tuple(one for one in wanted if one not in self.suspended),
            resumed=tuple(one for one in self.suspended if one not in wanted),
        )

    def restore(self, rules: Sequence[Prepared], symbols: Iterable[str], suspended: Iterable[str] = ()) -> None:
        """Have these rules in force, over a kernel and a processor that are as a snapshot has them."""
        self._suspend(tuple(suspended), ())
        self.symbols = dict.fromkeys(symbols)
        self._evaluator.add_symbols(self.symbols)
        self._inhibiting = Counter(name for rule, _ in rules for name in rule.inhibited_by)
        wanted = {
            rule.id: _Standing(rule, _watched(compiled, rule.watched or self._inhibiting[rule.id] > 0))
            for rule, compiled in rules
        }
        self._note({}, wanted)
        covered = [(one.compiled, _covered(one.rule, tuple(self.symbols))) for one in wanted.values()]
        meant: dict[str, dict[str, CompiledRule]] = {}
        for compiled, some in covered:
            for symbol in some:
                meant.setdefault(symbol, {})[compiled.id] = compiled
        # A snapshot has them as they were; a compiler of another version may read them in another way.
        stale: dict[str, list[str]] = {}
        for symbol in self._evaluator.names:
            mine = meant.get(symbol, {})
            for compiled in self._evaluator.rules(symbol):
                if mine.get(compiled.id) != compiled:
                    stale.setdefault(compiled.id, []).append(symbol)
        self._evaluator.change(stale.items(), covered)
        self._series.set_rules(covered)
        self._processor.set_rules([(one.rule, one.compiled) for one in wanted.values()])
        if self._processor.watermark:
            self.watch_silence(self._processor.watermark)

    def adopt(self, rules: Mapping[str, Rule]) -> None:
        """Hold these objects for rules that stand and are the same: one in memory for whoever else holds them."""
        for id, rule in rules.items():
            held = self._standing.get(id)
            if held is not None and held.rule == rule:
                self._standing[id] = held._replace(rule=rule)
                self._processor.rules[id] = rule

    def plain(self) -> dict[str, Any]:
        """All that stands, as JSON keeps it."""
        rules = [rule.model_dump(mode="json") for rule in self.rules]
        return {"rules": rules, "symbols": list(self.symbols), "suspended": list(self.suspended)}

    def watch_silence(self, ts: int) -> None:
        """Begin to count the silence of all symbols for the rules that mind it."""
        everything = tuple(self.symbols)
        for rule, _ in self._standing.values():
            if rule.no_data != "ok":
                self._processor.watch_silence(rule, _covered(rule, everything), ts)

    def _watch_silence(self, target: dict[str, _Standing], coming: tuple[str, ...]) -> None:
        ts = self._processor.watermark
        if not ts:
            return
        everything = tuple(self.symbols)
        for rule, _ in target.values():
            if rule.no_data != "ok":
                self._processor.watch_silence(rule, _covered(rule, everything), ts)
        for id in self._of_all if coming else ():
            if id not in target:
                self._processor.watch_silence(self._standing[id].rule, coming, ts)

    def _suspend(self, coming: tuple[str, ...], going: tuple[str, ...]) -> None:
        for owner in going:
            self.suspended.pop(owner, None)
        self.suspended.update(dict.fromkeys(coming))
        self._processor.suspend(self.suspended, resumed=going)

    def _drop(self, symbols: tuple[str, ...]) -> None:
        if not symbols:
            return
        for symbol in symbols:
            del self.symbols[symbol]
        self._evaluator.reset(symbols)
        self._series.forget(symbols)
        self._processor.change_rules((), (), [(id, symbols) for id in self._of_all])

    def _note(self, gone: dict[str, _Standing], target: dict[str, _Standing]) -> None:
        for id in (*gone, *target):
            was = self._standing.get(id)
            if was is not None and was.rule.symbols != ALL:
                self.references.subtract(was.rule.symbols)
                for symbol in was.rule.symbols:
                    if not self.references[symbol]:
                        del self.references[symbol]
            self._of_all.pop(id, None)
        for id in gone:
            del self._standing[id]
        for id, one in target.items():
            self._standing[id] = one
            if one.rule.symbols == ALL:
                self._of_all[id] = None
            else:
                self.references.update(one.rule.symbols)


def _covered(rule: Rule, symbols: tuple[str, ...]) -> tuple[str, ...]:
    return symbols if rule.symbols == ALL else rule.symbols


def _watched(compiled: CompiledRule, watched: bool) -> CompiledRule:
    return compiled if compiled.watched == watched else replace(compiled, watched=watched)
