"""Sets of rules: what symbols with the same rules share, as the kernel reads it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from tapeline.alerts.engine import table
from tapeline.alerts.engine.compiled import CompiledRule
from tapeline.alerts.engine.fields import (
    S_COMPUTED,
    S_COMPUTED_END,
    S_CONDITION,
    S_CONDITION_END,
    S_FLAGS,
    S_FRAME,
    S_FRAMES,
    S_GROUP,
    S_LAYOUT,
    S_MEMBER,
    S_ONCE_A_BAR,
    S_ROW,
    S_RULE,
    S_RULE_END,
    S_SPAN,
    SET_FIELDS,
)  # fmt: skip
from tapeline.alerts.engine.indicators import CLOSE, GROUPS
from tapeline.alerts.engine.layout import CLOCK_SLOTS, FRAME_FIELDS, ROW, Indicator, Layout, plan
from tapeline.alerts.engine.pool import Pool
from tapeline.core.nanoseconds import SECOND

MILLISECOND: Final = 1_000_000
_SPARE: Final = 8
"""Indicators that nobody reads and that a layout keeps nevertheless."""
_ROOM: Final = 20_000
"""Rules of sets that nobody has, for which tables are not yet written anew."""


class RuleSets:
    """Sets by number; one for each list of rules and layout that some symbol has."""

    def __init__(self) -> None:
        self._layouts: list[Layout] = []
        self._layout_of: dict[frozenset[Indicator], int] = {}
        self._layout_first: list[tuple[int, int, int, int]] = []
        self._rule_of: dict[CompiledRule, int] = {}
        self._known: list[CompiledRule] = []
        self._reads: list[frozenset[Indicator]] = []
        self._set_of: dict[tuple[int, tuple[int, ...]], int] = {}
        self._members: list[tuple[int, ...]] = []
        self._rules_of: list[tuple[CompiledRule, ...]] = []
        self._wanted: list[frozenset[Indicator]] = []
        self._sets, self._sizes = Pool(np.dtype("i8"), SET_FIELDS), Pool(np.dtype("i8"), 4)
        self._frames, self._rows = Pool(np.dtype("i8"), FRAME_FIELDS), Pool(ROW)
        self._spans, self._constants = Pool(np.dtype("i4"), 2 * GROUPS), Pool(np.dtype("f8"), 4)
        self._conditions, self._rules = Pool(table.CONDITION), Pool(table.RULE)
        self._programs: list[int] = []
        self._program_of: dict[tuple[int, ...], int] = {}
        self._live = 0

    def intern(self, rule: CompiledRule) -> int:
        """The number of a rule; equal ones have one."""
        number = self._rule_of.get(rule)
        if number is None:
            number = self._rule_of[rule] = len(self._known)
            self._known.append(rule)
            self._reads.append(_read(rule))
        return number

    def find(self, rules: Sequence[int], wanted: Iterable[Indicator]) -> int:
        """The set of some rules, in their order, over a layout of at least what is wanted."""
        needed = frozenset(wanted).union(*(self._reads[one] for one in rules))
        layout = self._layout_of.get(needed)
        if layout is None:
            # Sorted, so that a snapshot that is loaded has the same places.
            self._add_layout(plan(sorted(needed, key=repr)))
            layout = self._layout_of[needed] = len(self._layouts) - 1
        key = layout, tuple(rules)
        number = self._set_of.get(key)
        if number is None:
            number = self._set_of[key] = self._add(layout, tuple(rules), needed)
        return number

    def changed(
        self,
        number: int,
        gone: Iterable[str],
        more: Iterable[int],
        beside: frozenset[Indicator] = frozenset(),
        *,
        dropped: bool = False,
    ) -> int:
        """The set without some rules, by id, and with some more, by number; one that is there already stays as it is.

        ``beside``: what is read besides by rules that stand in no set; ``dropped``: it is less than before.

        What only rules read that are gone stays in the layout, for rules that are edited, until it is more than what
        the others read: then it goes, that a symbol whose rules change all day does not work for all of them.
        """
        away = frozenset(gone)
        members = [one for one in self._members[number] if self._known[one].id not in away]
        there = {self._known[one].id for one in members}
        members += [one for one in more if self._known[one].id not in there]
        wanted = self._wanted[number]
        if tuple(members) == self._members[number] and beside <= wanted and not dropped:
            return number
        wanted |= beside
        if away or dropped:
            needed = beside.union(*(self._reads[one] for one in members))
            if len(wanted - needed) > max(_SPARE, len(needed)):
                wanted = needed
        return self.find(members, wanted)

    def rules_of(self, number: int) -> tuple[CompiledRule, ...]:
        """Its rules in their order."""
        return self._rules_of[number]

    def layout_of(self, number: int) -> Layout:
        """Its layout."""
        return self._layouts[self.layout_number(number)]

    def layout_number(self, number: int) -> int:
        """The number of its layout."""
        return int(self._sets.array[number, S_LAYOUT])

    def wanted(self, number: int) -> frozenset[Indicator]:
        """The indicators of its layout that were asked for."""
        return self._wanted[number]

    def sizes(self) -> NDArray[np.int64]:
        """Of each set, what a symbol needs: numbers, times, truths, slots."""
        return self._sizes.array[: self._sizes.used]

    def arrays(self) -> tuple[NDArray[Any], ...]:
        """Sets, frames, rows, spans, constants, conditions, rules and programs, for the kernel."""
        pools = self._sets, self._frames, self._rows, self._spans, self._constants, self._conditions, self._rules
        return *(pool.array for pool in pools), np.array([*self._programs, table.END], np.int16)

    @property
    def bytes(self) -> int:
        """Memory of its arrays."""
        pools = (self._sets, self._sizes, self._frames, self._rows, self._spans, self._constants, self._conditions)
        return sum(pool.array.nbytes for pool in (*pools, self._rules)) + 2 * len(self._programs)

    def contents(
        self,
    ) -> tuple[tuple[CompiledRule, ...], tuple[tuple[tuple[int, ...], tuple[Indicator, ...]], ...]]:
        """All rules by number, and of each set the numbers of its rules and what its layout reads."""
        sets = zip(self._members, self._wanted, strict=True)
        return tuple(self._known), tuple((members, tuple(sorted(wanted, key=repr))) for members, wanted in sets)

    def fill(
        self, rules: Sequence[CompiledRule], sets: Sequence[tuple[Sequence[int], Sequence[Indicator]]]
    ) -> None:  # fmt: skip
        """Have these contents, numbered as they were.

        Raises
        ------
        ValueError
            They would be numbered in another way.
        """
        self.__init__()  # type: ignore[misc]
        for rule in rules:
            self.intern(rule)
        for number, (members, wanted) in enumerate(sets):
            if self.find(members, wanted) != number:
                raise ValueError("two sets of rules are the same")
        self._live = self._rules.used

    def is_wasteful(self, numbers: NDArray[np.int64]) -> bool:
        """Whether sets that came and went have left more than half of the tables behind; ``numbers`` are in use."""
        if self._rules.used <= _ROOM + 2 * self._live:
            return False
        self._live = int(self._sizes.array[np.unique(numbers), 3].sum())
        return self._rules.used > _ROOM + 2 * self._live

    def keep(self, numbers: NDArray[np.int64]) -> None:
        """Forget the sets that no symbol has; ``numbers``, by symbol, are changed to the new ones."""
        used = np.unique(numbers)
        old = [(self._members[one], self._wanted[one]) for one in used.tolist()]
        known = self._known
        self.__init__()  # type: ignore[misc]
        renamed = np.zeros(int(used[-1]) + 1 if used.size else 1, np.int64)
        for one, (members, wanted) in zip(used.tolist(), old, strict=True):
            renamed[one] = self.find([self.intern(known[rule]) for rule in members], wanted)
        numbers[:] = renamed[numbers]
        self._live = self._rules.used

    def _add_layout(self, layout: Layout) -> None:
        self._layouts.append(layout)
        pools = self._frames, self._rows, self._spans, self._constants
        parts: tuple[NDArray[Any], ...] = (layout.frames, layout.rows, layout.spans, layout.constants)
        first = [pool.append(parts[place]) for place, pool in enumerate(pools)]
        self._layout_first.append((first[0], first[1], first[2], first[3]))

    def _add(self, layout_number: int, members: tuple[int, ...], wanted: frozenset[Indicator]) -> int:
        layout = self._layouts[layout_number]
        frame, row, span, constant = self._layout_first[layout_number]
        rules = tuple(self._known[one] for one in members)
        rule_rows, condition_rows = self._written(layout, rules)
        entry = np.zeros((1, SET_FIELDS), np.int64)
        one = entry[0]
        one[[S_FRAMES, S_FRAME, S_ROW, S_FLAGS]] = len(layout.durations), frame, row, layout.flags
        one[[S_COMPUTED, S_COMPUTED_END]] = row + layout.computed, row + len(layout.rows)
        one[S_SPAN] = span
        one[S_CONDITION] = self._conditions.append(condition_rows)
        one[S_CONDITION_END] = one[S_CONDITION] + len(condition_rows)
        one[S_RULE] = self._rules.append(rule_rows)
        one[S_RULE_END] = one[S_RULE] + len(rules)
        one[S_ONCE_A_BAR] = any(rule.frequency == table.ONCE_PER_BAR for rule in rules)
        one[S_LAYOUT] = layout_number
        one[S_GROUP : S_GROUP + GROUPS] = layout.groups
        one[S_MEMBER : S_MEMBER + GROUPS] = np.array(layout.members) + constant
        self._sets.append(entry)
        self._sizes.append(
            np.array([[layout.size, CLOCK_SLOTS * len(layout.durations), len(condition_rows), len(rules)]])
        )
        self._members.append(members)
        self._rules_of.append(rules)
        self._wanted.append(wanted)
        return len(self._members) - 1

    def _written(
        self, layout: Layout, rules: tuple[CompiledRule, ...]
    ) -> tuple[NDArray[np.void], NDArray[np.void]]:  # fmt: skip
        frames = {duration: place + 1 for place, duration in enumerate(layout.durations)}
        rule_rows = np.zeros(len(rules), table.RULE)
        condition_rows: list[tuple[float, ...]] = []
        for place, rule in enumerate(rules):
            level = not any(condition.crossing for condition in rule.conditions)
            program = self._program(rule.program) if rule.program else -1
            rule_rows[place] = (
                rule.cooldown * MILLISECOND, rule.bar * SECOND, program, len(condition_rows), len(rule.conditions),
                rule.frequency, (table.WATCHED if rule.watched else 0) | (table.LEVEL if level else 0),
                layout.durations.index(rule.bar * SECOND) if rule.frequency == table.ONCE_PER_BAR else 0, 0,
            )  # fmt: skip
            when = frames[rule.close_of] if rule.close_of else table.EACH_TICK
            for one in rule.conditions:
                right = table.NO_READING if one.right is None else layout.place(one.right)
                condition_rows.append(
                    (one.threshold, one.hysteresis, layout.place(one.left), right, place, one.comparison, when,
                     table.CROSSING if one.crossing else 0, 0)
                )  # fmt: skip
        return rule_rows, np.array(condition_rows, table.CONDITION)

    def _program(self, steps: tuple[int, ...]) -> int:
        begin = self._program_of.get(steps)
        if begin is None:
            begin = self._program_of[steps] = len(self._programs)
            self._programs.extend([*steps, table.END])
        return begin


def _read(rule: CompiledRule) -> frozenset[Indicator]:
    """All that a rule reads, and the bars at whose beginnings or closes it is asked."""
    needed = rule.indicators()
    if rule.close_of:
        needed |= {Indicator(CLOSE, rule.close_of)}
    if rule.frequency == table.ONCE_PER_BAR:
        needed |= {Indicator(CLOSE, rule.bar * SECOND)}
    return needed
