"""Plain price alerts: rules that only compare the price with a number. They join and leave in no time by themselves."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tapeline.alerts.engine import table
from tapeline.alerts.engine.compiled import CompiledRule
from tapeline.alerts.engine.indicators import CLOSE
from tapeline.alerts.engine.layout import Indicator, Layout
from tapeline.alerts.engine.level_lists import (
    LEVEL,
    LEVEL_LIST,
    LEVEL_RULE,
    LISTS,
    NAMES,
    NOBODY,
    STOPPED,
    WIDTH,
    LevelTables,
    insert,
    remove,
    renumber,
)
from tapeline.core.errors import DataError
from tapeline.core.nanoseconds import SECOND

_MILLISECOND: Final = 1_000_000


LayoutOf = Callable[[int], Layout]
"""The layout of a symbol."""


class Coming(NamedTuple):
    """A level that joins a symbol: behind ``after`` rules of its set, and ``joined`` says behind which levels."""

    symbol: int
    rule: CompiledRule
    after: int
    joined: int


def is_level(rule: CompiledRule) -> bool:
    """Whether nothing happens to a rule as long as the price passes no level.

    It is asked at each trade, has one condition without hysteresis on a forming close, and does not fire again where a
    bar begins.
    """
    one = rule.conditions[0]
    return (
        len(rule.conditions) == 1
        and not rule.program
        and rule.close_of == 0
        and one.right is None
        and one.hysteresis == 0.0
        and one.left[0].kind == CLOSE
        and not one.left[0].closed
        and math.isfinite(one.threshold)
        and (
            rule.frequency in (table.EVERY_TIME, table.ONCE) or (rule.frequency == table.ONCE_PER_BAR and one.crossing)
        )
    )


class Levels:
    """The levels of all symbols, by number of the symbol and by slot."""

    def __init__(self) -> None:
        self._rules: list[CompiledRule] = []
        self._rule_of: dict[CompiledRule, int] = {}
        self._uses: list[int] = []
        self._idle: list[int] = []
        self._slot_of: dict[int, dict[str, int]] = {}
        self._closes: dict[int, dict[int, int]] = {}
        self._used = 0
        self._vacant: list[int] = []
        self.joined = 0
        """Greater than that of each level that there is."""
        self._tables = LevelTables(
            np.zeros((0, 2)), np.zeros(0, np.int32), np.zeros(0, LEVEL_LIST), np.zeros(0, np.int32),
            np.zeros((0, WIDTH)), np.zeros((0, WIDTH), np.int32), np.zeros(0, np.int32), np.zeros(0, np.int32),
            np.zeros(0, LEVEL), np.zeros((0, 2), np.int32), np.zeros(0, LEVEL_RULE), np.zeros(16, np.int32),
            np.zeros(5, np.int64),
        )  # fmt: skip

    def add_symbols(self, count: int) -> None:
        """Let so many symbols join that have no level."""
        at = self._tables
        self._tables = at._replace(
            near=np.concatenate([at.near, np.full((count, 2), (-np.inf, np.inf))]),
            first=np.concatenate([at.first, np.full(count, NOBODY, np.int32)]),
        )

    def tables(self) -> LevelTables:
        """As the kernel reads them; of a change there are new ones."""
        return self._tables

    def slots_of(self, symbol: int) -> Mapping[str, int]:
        """A symbol's levels: slot by id of the rule."""
        return self._slot_of.get(symbol, {})

    def rules_of(self, symbol: int) -> list[tuple[CompiledRule, int]]:
        """A symbol's levels as they joined, each with the number of rules of the set before it."""
        levels = self._tables.levels
        slots = sorted(self.slots_of(symbol).values(), key=lambda slot: int(levels[slot]["joined"]))
        return [(self._rules[levels[slot]["rule"]], int(levels[slot]["after"])) for slot in slots]

    def owner(self, slot: int) -> tuple[int, CompiledRule]:
        """The symbol and the rule of a slot.

        Raises
        ------
        DataError
            It is vacant.
        """
        if not (0 <= slot < self._used and self._tables.levels[slot]["symbol"] >= 0):
            raise DataError(f"rule number {-1 - slot} is no longer in the table")
        return int(self._tables.levels[slot]["symbol"]), self.rule(slot)

    def rule(self, slot: int) -> CompiledRule:
        """The rule of a slot that is not vacant."""
        return self._rules[self._tables.levels[slot]["rule"]]

    def closes_of(self, symbol: int) -> Mapping[int, int]:
        """The timeframes whose bars a symbol's levels need, and how many of them need each."""
        return self._closes.get(symbol, {})

    def remove(self, symbol: int, ids: Collection[str]) -> None:
        """Let levels of a symbol go that are there."""
        if not ids:
            return
        held = self._slot_of[symbol]
        slots = [held.pop(id) for id in ids]
        levels, closes = self._tables.levels, self._closes[symbol]
        numbers = levels["rule"][slots].tolist()
        remove(np.array(slots, np.int64), self._tables)
        for number in numbers:
            for duration in closes_read(self._rules[number]):
                closes[duration] -= 1
                if closes[duration] == 0:
                    del closes[duration]
            self._uses[number] -= 1
            if self._uses[number] == 0:
                del self._rule_of[self._rules[number]]
                self._idle.append(number)
        self._vacant.extend(slots)
        if not held:
            del self._slot_of[symbol], self._closes[symbol]

    def insert(self, coming: Sequence[Coming], layout_of: LayoutOf) -> None:
        """Let levels join that are not there. ``layout_of``: the layout of a symbol, which has their closes."""
        if not coming:
            return
        self.joined = max(self.joined, 1 + max(one.joined for one in coming))
        numbers = [self._intern(one.rule) for one in coming]
        slots = self._take(len(coming))
        rows = np.zeros(len(coming), LEVEL)
        rows["fired_at"], rows["rule"] = table.NEVER, numbers
        for name in ("symbol", "after", "joined"):
            rows[name] = [getattr(one, name) for one in coming]
        self._tables.levels[slots] = rows
        for one, number, slot in zip(coming, numbers, slots.tolist(), strict=True):
            self._slot_of.setdefault(one.symbol, {})[one.rule.id] = slot
            self._uses[number] += 1
            closes = self._closes.setdefault(one.symbol, {})
            for duration in closes_read(one.rule):
                closes[duration] = closes.get(duration, 0) + 1
        self._file(slots, layout_of)

    def rejoin(self, symbol: int, id: str, after: int, joined: int) -> None:
        """A level that went and came back in one step: it keeps what it knows, and is the last from now on."""
        level = self._tables.levels[self._slot_of[symbol][id]]
        level["after"], level["joined"] = after, joined
        self.joined = max(self.joined, joined + 1)

    def renumber(self, symbol: int, gone: Sequence[int]) -> None:
        """The rules of the symbol's set that stood at these places, ascending, have gone."""
        if symbol in self._slot_of:
            renumber(symbol, np.array(gone, np.int64), self._tables)

    def ask_all(self, symbol: int, layout: Layout) -> None:
        """The block of a symbol has changed: its closes stand elsewhere, or are others."""
        at = self._tables
        one = int(at.first[symbol])
        while one >= 0:
            group = at.lists[one]
            group["left"] = layout.places.get(Indicator(CLOSE, int(group["duration"])), (0,))[0]
            group["fresh"], group["head"], group["waiting"] = 1, NOBODY, 0
            one = int(group["next"])
            at.near[symbol, 0] = np.nan

    @property
    def bytes(self) -> int:
        """Memory of its arrays."""
        return sum(array.nbytes for array in self._tables)

    def state(self) -> tuple[tuple[CompiledRule, ...], NDArray[np.uint8]]:
        """Its rules by number, and its levels by slot, each as bytes: the engine's own."""
        return tuple(self._rules), self._tables.levels[: self._used].view(np.uint8).reshape(-1, LEVEL.itemsize)

    def fill(
        self, rules: Sequence[CompiledRule], slots: NDArray[np.uint8] | None, layout_of: LayoutOf, symbols: int
    ) -> None:
        """Have what :meth:`state` gave; no levels where it is None.

        Raises
        ------
        ValueError
            They do not fit together.
        """
        self.__init__()  # type: ignore[misc]
        self.add_symbols(symbols)
        levels = np.zeros(0, LEVEL) if slots is None else np.ascontiguousarray(slots).reshape(-1).view(LEVEL)
        there = np.flatnonzero(levels["symbol"] != NOBODY)
        some = levels[there]
        if there.size and not (
            some["symbol"].min() >= 0 and some["symbol"].max() < symbols
            and some["rule"].min() >= 0 and some["rule"].max() < len(rules)
            and all(is_level(rules[number]) for number in np.unique(some["rule"]).tolist())
        ):  # fmt: skip
            raise ValueError("a level has no symbol or no rule")
        self._rules, self._uses = list(rules), [0] * len(rules)
        at = self._tables
        self._tables = at._replace(
            levels=levels.copy(), links=np.zeros((len(levels), 2), np.int32),
            rules=np.zeros(len(rules), LEVEL_RULE),
        )  # fmt: skip
        self._used = len(levels)
        self._vacant = np.flatnonzero(levels["symbol"] == NOBODY).tolist()
        for slot, number, symbol in zip(there.tolist(), some["rule"].tolist(), some["symbol"].tolist(), strict=True):
            rule = rules[number]
            self._rule_of[rule] = number
            self._uses[number] += 1
            held, closes = self._slot_of.setdefault(symbol, {}), self._closes.setdefault(symbol, {})
            if rule.id in held:
                raise ValueError("a symbol has a rule twice")
            held[rule.id] = slot
            for duration in closes_read(rule):
                closes[duration] = closes.get(duration, 0) + 1
        for number, uses in enumerate(self._uses):
            if uses:
                self._tables.rules[number] = _written(rules[number])
            else:
                self._idle.append(number)
        self.joined = int(some["joined"].max(initial=-1)) + 1
        self._file(there, layout_of)

    def _intern(self, rule: CompiledRule) -> int:
        number = self._rule_of.get(rule)
        if number is not None:
            return number
        if self._idle:
            number = self._idle.pop()
            self._rules[number] = rule
        else:
            number = len(self._rules)
            self._rules.append(rule)
            self._uses.append(0)
            if number == len(self._tables.rules):
                self._tables = self._tables._replace(rules=_longer(self._tables.rules, number + 1))
        self._rule_of[rule] = number
        self._tables.rules[number] = _written(rule)
        return number

    def _take(self, count: int) -> NDArray[np.int64]:
        """Vacant slots, those that were vacant before first."""
        again = [self._vacant.pop() for _ in range(min(count, len(self._vacant)))]
        end = self._used + count - len(again)
        at = self._tables
        if end > len(at.levels):
            self._tables = at._replace(levels=_longer(at.levels, end), links=_longer(at.links, end))
        slots = np.array([*again, *range(self._used, end)], np.int64)
        self._used = end
        return slots

    def _file(self, slots: NDArray[np.int64], layout_of: LayoutOf) -> None:
        """Put levels into their lists, those of a list in their order: what ascends fills its blocks."""
        levels, rules = self._tables.levels[slots], self._tables.rules
        written = rules[levels["rule"]]
        order = np.lexsort((slots, written["threshold"], written["duration"], levels["symbol"]))
        slots = slots[order]
        symbols, durations = levels["symbol"][order].tolist(), written["duration"][order].tolist()
        known: dict[tuple[int, int], int] = {}
        lefts = np.zeros(len(slots), np.int64)
        for at, key in enumerate(zip(symbols, durations, strict=True)):
            if key not in known:
                places = layout_of(key[0]).places
                if (close := Indicator(CLOSE, key[1])) not in places:
                    raise ValueError("a symbol has no bars of a level's timeframe")
                known[key] = places[close][0]
            lefts[at] = known[key]
        begin = 0
        while True:
            begin = int(insert(slots, lefts, begin, self._tables))
            if begin == len(slots):
                break
            self._grow(len(known))
        most = 2 * max(map(len, (self._slot_of[symbol] for symbol in set(symbols))), default=0)
        if most > len(self._tables.touched):
            self._tables = self._tables._replace(touched=np.zeros(most + most // 4, np.int32))

    def _grow(self, lists: int) -> None:
        """Room for an eighth more, at least for so many more lists of one level, of what there was too little of."""
        at = self._tables
        lacking = int(at.counters[STOPPED])
        if lacking == LISTS:
            changed = {"lists": _longer(at.lists, len(at.lists) + lists)}
        elif lacking == NAMES:
            room = max(lists, 2 * int(at.lists["room"].max(initial=0)) + 1)
            changed = {"names": _longer(at.names, len(at.names) + room)}
        else:
            rows = len(at.sizes) + lists
            changed = {name: _longer(getattr(at, name), rows) for name in ("keys", "slots", "sizes", "free")}
        self._tables = at._replace(**changed)


def closes_of(durations: Collection[int]) -> frozenset[Indicator]:
    """The closes of some timeframes."""
    return frozenset(Indicator(CLOSE, duration) for duration in durations)


def closes_read(rule: CompiledRule) -> set[int]:
    """The timeframes, in nanoseconds, whose bars a level needs."""
    own = rule.conditions[0].left[0].timeframe
    return {own, rule.bar * SECOND} if rule.frequency == table.ONCE_PER_BAR else {own}


def _written(rule: CompiledRule) -> tuple[Any, ...]:
    one = rule.conditions[0]
    return (
        one.threshold, rule.cooldown * _MILLISECOND, rule.bar * SECOND, one.left[0].timeframe, one.comparison,
        rule.frequency, table.WATCHED if rule.watched else 0, one.crossing, 0,
    )  # fmt: skip


def _longer(array: NDArray[Any], rows: int) -> NDArray[Any]:
    """An array of at least so many rows; an eighth more than it had, so that growing costs little."""
    made = np.zeros((max(rows, len(array) + len(array) // 8), *array.shape[1:]), array.dtype)
    made[: len(array)] = array
    return made
