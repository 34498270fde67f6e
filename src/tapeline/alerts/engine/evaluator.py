"""The evaluator: symbols, their rules and all that indicators remember; ticks in, firings out.

One thread uses it. Rules may come and go between batches: what a condition knows of a symbol stays where neither the
rule nor its version changes, and indicators keep what they have learnt when others join them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tapeline.alerts.engine import indicators as kinds
from tapeline.alerts.engine import table
from tapeline.alerts.engine.compiled import CompiledRule
from tapeline.alerts.engine.history import load_bars
from tapeline.alerts.engine.kernel import COUNTERS, FIRINGS, LATE, SIDE_COUNT, Book, process
from tapeline.alerts.engine.layout import (
    CLOCK_SLOTS,
    FAR,
    INDICATOR_ROW,
    TIMEFRAME_ROW,
    Indicator,
    Layout,
    empty_block,
    plan,
)
from tapeline.core.errors import ConfigurationError, DataError

FIRST_ROOM: Final = 4_096


class Batch(NamedTuple):
    """Records in the order in which they are to be taken; arrays of one length.

    ``symbols`` are numbers of the evaluator, -1 for a clock of all; ``times`` nanoseconds; ``records`` codes of the
    kernel; of an external value ``prices`` is the value and ``sizes`` its place (:meth:`Evaluator.place`).
    """

    symbols: NDArray[np.int32]
    times: NDArray[np.int64]
    prices: NDArray[np.float64]
    sizes: NDArray[np.float64]
    records: NDArray[np.uint8]


class Fired(NamedTuple):
    """Firings of a batch in the order in which they happened (``table.FIRING``), and the sides of their conditions."""

    firings: NDArray[np.void]
    sides: NDArray[np.void]


class Evaluator:
    """The engine's state and the one way to move it.

    Parameters
    ----------
    symbols:
        Their names; more may join by :meth:`add_symbols`.

    Examples
    --------
    >>> from tapeline.alerts.engine.compiled import CompiledRule, Condition
    >>> from tapeline.alerts.engine.layout import TIMEFRAMES
    >>> close = (Indicator(kinds.CLOSE, TIMEFRAMES["1m"]), 0)
    >>> engine = Evaluator(["BTCUSDT"])
    >>> engine.add(CompiledRule("r1", (Condition(close, table.ABOVE, threshold=100.0, crossing=True),)), ["BTCUSDT"])
    >>> prices = np.array([99.0, 100.0, 101.0, 102.0, 99.0, 103.0])
    >>> fired = engine.process(engine.trades("BTCUSDT", np.arange(6) * 1_000_000_000, prices, np.ones(6)))
    >>> fired.firings["price"].tolist(), fired.sides["left"].tolist()
    ([101.0, 103.0], [101.0, 103.0])
    """

    def __init__(self, symbols: Iterable[str] = ()) -> None:
        self.symbols: dict[str, int] = {}
        self.names: list[str] = []
        self._layouts: list[Layout] = []
        self._layout_of: dict[frozenset[Indicator], int] = {}
        self._wanted: list[frozenset[Indicator]] = []
        self._rules: list[dict[str, tuple[CompiledRule, int]]] = []
        self._owners: list[tuple[int, CompiledRule] | None] = []
        self._programs: list[int] = []
        self._program_of: dict[tuple[int, ...], int] = {}
        self._arena_used = self._clocks_used = self._conditions_used = self._rules_used = 0
        self._arrays: dict[str, NDArray[Any]] = {
            "arena": np.zeros(1024),
            "clocks": np.zeros(64, np.int64),
            "conditions": np.zeros(64, table.CONDITION),
            "rules": np.zeros(64, table.RULE),
            "base": np.zeros(0, np.int64),
            "clock_base": np.zeros(0, np.int64),
            "price": np.zeros(0),
            "layout": np.zeros(0, np.int32),
            "condition_begin": np.zeros(0, np.int64),
            "condition_count": np.zeros(0, np.int32),
            "rule_begin": np.zeros(0, np.int64),
            "rule_count": np.zeros(0, np.int32),
        }
        self._counters = np.zeros(COUNTERS, np.int64)
        self._firings = np.zeros(FIRST_ROOM, table.FIRING)
        self._sides = np.zeros(2 * FIRST_ROOM, table.SIDES)
        self._book: Book | None = None
        self.add_symbols(symbols)

    def add_symbols(self, symbols: Iterable[str]) -> None:
        """Let symbols join; those that are there already stay as they are."""
        fresh = [name for name in dict.fromkeys(symbols) if name not in self.symbols]
        if not fresh:
            return
        number = self._layout_number(frozenset())
        for name in fresh:
            self.symbols[name] = len(self.names)
            self.names.append(name)
            self._wanted.append(frozenset())
            self._rules.append({})
        for name, value in (
            ("base", self._arena_used),
            ("clock_base", self._clocks_used),
            ("price", math.nan),
            ("layout", number),
            ("condition_begin", self._conditions_used),
            ("condition_count", 0),
            ("rule_begin", self._rules_used),
            ("rule_count", 0),
        ):
            held = self._arrays[name]
            self._arrays[name] = np.concatenate([held, np.full(len(fresh), value, held.dtype)])
        self._book = None

    def add(self, rule: CompiledRule, symbols: Iterable[str]) -> None:
        """Let a rule watch some symbols; where it does already, nothing happens."""
        self.add_all([(rule, symbols)])

    def add_all(self, rules: Iterable[tuple[CompiledRule, Iterable[str]]]) -> None:
        """Many at once: each symbol's arrays are made once."""
        fresh: dict[int, list[CompiledRule]] = {}
        for rule, symbols in rules:
            for name in symbols:
                number = self._number(name)
                if rule.id not in self._rules[number]:
                    fresh.setdefault(number, []).append(rule)
        for number, some in fresh.items():
            wanted = self._wanted[number].union(*(rule.indicators() for rule in some))
            if wanted != self._wanted[number]:
                self._relocate(number, wanted)
            self._rebuild(number, [*(rule for rule, _ in self._rules[number].values()), *some])
        self._book = None

    def remove(self, id: str, symbols: Iterable[str]) -> None:
        """Take a rule away from some symbols; its indicators stay until the symbol's next change of layout."""
        for name in symbols:
            number = self._number(name)
            if id in self._rules[number]:
                self._rebuild(number, [rule for rule, _ in self._rules[number].values() if rule.id != id])
        self._book = None

    def rule(self, number: int) -> CompiledRule:
        """The rule that a firing names."""
        owner = self._owners[number]
        if owner is None:
            raise DataError(f"rule number {number} is no longer in the table")
        return owner[1]

    def owner(self, number: int) -> tuple[str, CompiledRule]:
        """The symbol and the rule that a firing names; a clock for all closes bars of any symbol."""
        owner = self._owners[number]
        if owner is None:
            raise DataError(f"rule number {number} is no longer in the table")
        return self.names[owner[0]], owner[1]

    def place(self, symbol: str, indicator: Indicator) -> int:
        """Where an external value of a symbol goes: the ``sizes`` of a batch."""
        number = self._number(symbol)
        layout = self._layouts[self._arrays["layout"][number]]
        if indicator not in layout.places:
            raise DataError(f"no rule of {symbol} reads {indicator.key or indicator}")
        return layout.places[indicator]

    def value(self, symbol: str, reading: tuple[Indicator, int]) -> float:
        """What a reading of a symbol is now; NaN where it is not known yet."""
        number = self._number(symbol)
        layout = self._layouts[self._arrays["layout"][number]]
        return float(self._arrays["arena"][self._arrays["base"][number] + layout.place(reading)])

    def load(self, symbol: str, timeframe: int, bars: Mapping[str, Sequence[float] | NDArray[Any]]) -> None:
        """Warm a symbol's indicators of one timeframe with closed bars: ``ts`` (open, ns) and OHLCV, oldest first.

        Nothing fires. Bars that ended before one that is there already are refused.

        Raises
        ------
        DataError
            A bar is under way or has closed after these.
        """
        number = self._number(symbol)
        layout_number = int(self._arrays["layout"][number])
        layout = self._layouts[layout_number]
        found = np.flatnonzero(layout.timeframes["duration"] == timeframe)
        if found.size == 0 or len(bars["ts"]) == 0:
            return
        frame = int(found[0])
        ts = np.ascontiguousarray(bars["ts"], np.int64)
        clock = int(self._arrays["clock_base"][number]) + CLOCK_SLOTS * frame
        clocks = self._arrays["clocks"]
        if clocks[clock + 1] != FAR or clocks[clock + 2] > ts[0]:
            raise DataError(f"{symbol}: bars of the past must come before its first tick", hint="load, then process")
        columns = [np.ascontiguousarray(bars[name], np.float64) for name in ("open", "high", "low", "close", "volume")]
        load_bars(  # type: ignore[call-arg]
            *columns,
            self._arrays["arena"],
            int(self._arrays["base"][number]),
            layout.timeframes[frame : frame + 1],
            layout.indicators,
        )
        clocks[clock + 2] = ts[-1] + timeframe
        if math.isnan(self._arrays["price"][number]):
            self._arrays["price"][number] = columns[3][-1]

    def trades(self, symbol: str, times: Any, prices: Any, sizes: Any) -> Batch:
        """A batch of one symbol's trades."""
        rows = len(times)
        return Batch(
            np.full(rows, self._number(symbol), np.int32),
            np.ascontiguousarray(times, np.int64),
            np.ascontiguousarray(prices, np.float64),
            np.ascontiguousarray(sizes, np.float64),
            np.zeros(rows, np.uint8),
        )

    def process(self, batch: Batch) -> Fired:
        """Take a batch; what fired."""
        book = self._book or self._bound()
        counters = self._counters
        counters[FIRINGS] = counters[SIDE_COUNT] = 0
        found: list[NDArray[np.void]] = []
        sides: list[NDArray[np.void]] = []
        at, shift, rows = 0, 0, batch.symbols.size
        while True:
            before = at
            at = process(*batch, book, self._firings, self._sides, counters, at)
            fired, told = int(counters[FIRINGS]), int(counters[SIDE_COUNT])
            part = self._firings[:fired].copy()
            part["sides"] += shift
            found.append(part)
            sides.append(self._sides[:told].copy())
            shift += told
            counters[FIRINGS] = counters[SIDE_COUNT] = 0
            if at >= rows:
                break
            if at == before and fired == 0:
                self._firings = np.zeros(2 * self._firings.size, table.FIRING)
                self._sides = np.zeros(2 * self._sides.size, table.SIDES)
        if len(found) == 1:
            return Fired(found[0], sides[0])
        return Fired(np.concatenate(found), np.concatenate(sides))

    @property
    def late(self) -> int:
        """Ticks that came after a bar of theirs had closed."""
        return int(self._counters[LATE])

    @property
    def bytes(self) -> int:
        """Memory of the arrays in use."""
        return sum(array.nbytes for array in self._arrays.values())

    def _number(self, symbol: str) -> int:
        try:
            return self.symbols[symbol]
        except KeyError:
            raise DataError(f"symbol {symbol!r} is not known here", hint="add_symbols first") from None

    def _layout_number(self, wanted: frozenset[Indicator]) -> int:
        number = self._layout_of.get(wanted)
        if number is None:
            number = self._layout_of[wanted] = len(self._layouts)
            self._layouts.append(plan(sorted(wanted, key=repr)))
        return number

    def _relocate(self, number: int, wanted: frozenset[Indicator]) -> None:
        """Give a symbol a block of another layout; what both layouts have keeps what it knows."""
        old_number = int(self._arrays["layout"][number])
        new_number = self._layout_number(wanted)
        old, new = self._layouts[old_number], self._layouts[new_number]
        block, clocks = empty_block(new), np.zeros(CLOCK_SLOTS * len(new.timeframes), np.int64)
        clocks[1::CLOCK_SLOTS] = FAR
        old_base, old_clock = int(self._arrays["base"][number]), int(self._arrays["clock_base"][number])
        if old.size:
            held = self._arrays["arena"][old_base : old_base + old.size]
            times = self._arrays["clocks"][old_clock : old_clock + CLOCK_SLOTS * len(old.timeframes)]
            _carry(old, held, times, new, block, clocks)
        self._arrays["base"][number] = self._append("arena", "_arena_used", block)
        self._arrays["clock_base"][number] = self._append("clocks", "_clocks_used", clocks)
        self._arrays["layout"][number] = new_number
        self._wanted[number] = wanted
        # Places of readings have moved: the symbol's conditions are written again.
        self._rebuild(number, [rule for rule, _ in self._rules[number].values()])

    def _append(self, name: str, used: str, values: NDArray[Any]) -> int:
        begin = int(getattr(self, used))
        end = begin + len(values)
        array = self._arrays[name]
        if end > len(array):
            larger = np.zeros(max(end, 2 * len(array)), array.dtype)
            larger[:begin] = array[:begin]
            self._arrays[name] = array = larger
        array[begin:end] = values
        setattr(self, used, end)
        return begin

    def _rebuild(self, number: int, rules: Sequence[CompiledRule]) -> None:
        """Write a symbol's region of rules and conditions anew, with the state of those that stay."""
        layout = self._layouts[self._arrays["layout"][number]]
        frames = {int(row["duration"]): place + 1 for place, row in enumerate(layout.timeframes)}
        before = self._rules[number]
        held_rules, held_conditions = self._arrays["rules"], self._arrays["conditions"]
        total = sum(len(rule.conditions) for rule in rules)
        new_rules, new_conditions = np.zeros(len(rules), table.RULE), np.zeros(total, table.CONDITION)
        first_rule = self._region(number, "rule", len(rules))
        first_condition = self._region(number, "condition", total)
        places: dict[str, tuple[CompiledRule, int]] = {}
        at = 0
        for offset, rule in enumerate(rules):
            places[rule.id] = (rule, first_rule + offset)
            row = new_rules[offset]
            level = not any(condition.crossing for condition in rule.conditions)
            row["fired_at"], row["cooldown"], row["bar"] = table.NEVER, rule.cooldown, rule.bar
            row["program"] = self._program(rule.program) if rule.program else -1
            row["first"], row["symbol"], row["count"] = first_condition + at, number, len(rule.conditions)
            row["frequency"] = rule.frequency
            row["flags"] = (table.WATCHED if rule.watched else 0) | (table.LEVEL if level else 0)
            if rule.close_of and rule.close_of not in frames:
                raise ConfigurationError(f"rule {rule.id} is asked at closes of bars that it does not read")
            for condition in rule.conditions:
                new = new_conditions[at]
                new["threshold"], new["hysteresis"] = condition.threshold, condition.hysteresis
                new["rule"], new["left"] = first_rule + offset, layout.place(condition.left)
                new["right"] = table.NO_READING if condition.right is None else layout.place(condition.right)
                new["comparison"], new["flags"] = condition.comparison, table.CROSSING if condition.crossing else 0
                new["when"] = frames[rule.close_of] if rule.close_of else table.EACH_TICK
                at += 1
            if rule.id in before:
                old = held_rules[before[rule.id][1]]
                row["fired_at"], row["state"] = old["fired_at"], old["state"]
                row["flags"] |= old["flags"] & table.DISABLED
                begin = int(old["first"])
                states = held_conditions["state"][begin : begin + int(old["count"])]
                new_conditions["state"][at - len(rule.conditions) : at] = states
        for _, place in before.values():
            self._owners[place] = None
        held_rules = self._arrays["rules"]
        held_rules[first_rule : first_rule + len(rules)] = new_rules
        self._arrays["conditions"][first_condition : first_condition + total] = new_conditions
        self._owners.extend([None] * (self._rules_used - len(self._owners)))
        for rule, place in places.values():
            self._owners[place] = (number, rule)
        self._rules[number] = places

    def _region(self, number: int, name: str, count: int) -> int:
        """A region of so many rows: the old one where it fits, else a new one at the end."""
        begins, counts = self._arrays[f"{name}_begin"], self._arrays[f"{name}_count"]
        if count > int(counts[number]):
            dtype = table.RULE if name == "rule" else table.CONDITION
            begins[number] = self._append(f"{name}s", f"_{name}s_used", np.zeros(count, dtype))
        counts[number] = count
        return int(begins[number])

    def _program(self, steps: tuple[int, ...]) -> int:
        begin = self._program_of.get(steps)
        if begin is None:
            begin = self._program_of[steps] = len(self._programs)
            self._programs.extend([*steps, table.END])
        return begin

    def _bound(self) -> Book:
        """The arrays as the kernel takes them."""
        arrays = self._arrays
        frames = [layout.timeframes for layout in self._layouts]
        rows = [layout.indicators for layout in self._layouts]
        frame_end = np.cumsum([len(one) for one in frames]).astype(np.int32)
        row_end = np.cumsum([len(one) for one in rows]).astype(np.int32)
        row_begin = row_end - np.array([len(one) for one in rows], np.int32)
        computed = row_begin + np.array([layout.computed for layout in self._layouts], np.int32)
        most = int(arrays["rule_count"].max(initial=1))
        self._book = Book(
            arrays["arena"],
            arrays["base"],
            arrays["clocks"],
            arrays["clock_base"],
            arrays["price"],
            arrays["layout"],
            np.concatenate([*frames, np.zeros(0, TIMEFRAME_ROW)]),
            frame_end - np.array([len(one) for one in frames], np.int32),
            frame_end,
            np.concatenate([*rows, np.zeros(0, INDICATOR_ROW)]),
            row_begin,
            computed,
            row_end,
            arrays["conditions"],
            arrays["condition_begin"],
            arrays["condition_count"],
            arrays["rules"],
            arrays["rule_begin"],
            arrays["rule_count"],
            np.array([*self._programs, table.END], np.int16),
            np.zeros(table.DEEPEST, np.int64),
            np.zeros(most, np.int32),
        )
        return self._book


def _carry(
    old: Layout,
    held: NDArray[np.float64],
    times: NDArray[np.int64],
    new: Layout,
    block: NDArray[np.float64],
    clocks: NDArray[np.int64],
) -> None:
    """Copy what two layouts share: bars, times, outputs, states, rings."""
    for place, row in enumerate(new.timeframes):
        found = np.flatnonzero(old.timeframes["duration"] == row["duration"])
        if found.size == 0:
            continue
        was = old.timeframes[found[0]]
        block[row["bar"] : row["bar"] + kinds.BAR_SLOTS] = held[was["bar"] : was["bar"] + kinds.BAR_SLOTS]
        clocks[CLOCK_SLOTS * place : CLOCK_SLOTS * (place + 1)] = times[
            CLOCK_SLOTS * found[0] : CLOCK_SLOTS * (found[0] + 1)
        ]
        total, before, after = int(block[row["bar"] + kinds.BAR_COUNT]), int(was["capacity"]), int(row["capacity"])
        if before and after:
            for ring in range(4):
                for number in range(max(total - min(before, after), 0), total):
                    block[row["ring"] + ring * after + number % after] = held[
                        was["ring"] + ring * before + number % before
                    ]
        block[row["bar"] + kinds.BAR_COUNT] = min(total, before) if after else 0
    states_old = {int(row["out"]): int(row["state"]) for row in old.indicators}
    states_new = {int(row["out"]): int(row["state"]) for row in new.indicators}
    for indicator, place in new.places.items():
        was_at = old.places.get(indicator)
        if was_at is None:
            continue
        outputs = kinds.OUTPUT_SLOTS[indicator.kind]
        block[place : place + outputs] = held[was_at : was_at + outputs]
        if not indicator.closed:
            slots = kinds.STATE_SLOTS[indicator.kind]
            begin, was_begin = states_new[place], states_old[was_at]
            block[begin : begin + slots] = held[was_begin : was_begin + slots]
