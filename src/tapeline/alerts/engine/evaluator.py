"""The evaluator: symbols, their rules and all that indicators remember; ticks in, firings out.

One thread uses it. Rules may come and go between batches: what a condition knows of a symbol stays where neither the
rule nor its version changes, and indicators keep what they have learnt when others join them.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tapeline.alerts.engine import table
from tapeline.alerts.engine.carrying import carry, moved
from tapeline.alerts.engine.compiled import CompiledRule
from tapeline.alerts.engine.fields import (
    AHEAD_LIMIT,
    BASE,
    CLOCK_AT,
    COUNTERS,
    FIRINGS,
    LATE,
    NEWEST,
    NEXT_END,
    OPENED,
    REFUSALS,
    REFUSED,
    REFUSED_FIRST,
    SET,
    SIDE_COUNT,
    SLOT,
    SYMBOL_FIELDS,
    TRUTH_AT,
)  # fmt: skip
from tapeline.alerts.engine.history import load_bars
from tapeline.alerts.engine.kernel import Book, process
from tapeline.alerts.engine.layout import CLOCK_SLOTS, FAR, Indicator, Layout
from tapeline.alerts.engine.levels import Levels, closes_of, is_level
from tapeline.alerts.engine.pool import Pool
from tapeline.alerts.engine.rule_sets import RuleSets
from tapeline.alerts.engine.symbol_change import LEVEL, SymbolChange, change_of
from tapeline.core.errors import DataError

_POOLS: Final = ("arena", "clocks", "truths", "status", "fired_at")
FIRST_ROOM: Final = 4_096
REFUSED_ROOM: Final = 256


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


class State(NamedTuple):
    """All of an engine: rules of sets, its sets (their rules' numbers, what their layout reads), its arrays, levels."""

    rules: tuple[CompiledRule, ...]
    sets: tuple[tuple[tuple[int, ...], tuple[Indicator, ...]], ...]
    arrays: dict[str, NDArray[Any]]
    levels: tuple[CompiledRule, ...] = ()


class Still(NamedTuple):
    """An engine as it was at one batch: its own arrays, which nothing changes any more."""

    names: tuple[str, ...]
    kept: State

    def state(self) -> State:
        """As :meth:`Evaluator.state`."""
        return self.kept


def room_for(sizes: Mapping[str, tuple[np.dtype[Any], int]]) -> dict[str, NDArray[Any]]:
    """Memory for a copy of arrays of these types and numbers of elements, each page of it touched."""
    return {name: np.full(size, 0, dtype) for name, (dtype, size) in sizes.items()}


class Evaluator:
    """The engine's state and the one way to move it.

    Parameters
    ----------
    symbols:
        Their names; more may join by :meth:`add_symbols`.
    ahead:
        Nanoseconds that a trade may lie ahead of the newest clock record before its time is refused; 0: any number.

    Examples
    --------
    >>> from tapeline.alerts.engine import indicators
    >>> from tapeline.alerts.engine.compiled import CompiledRule, Condition
    >>> from tapeline.alerts.engine.layout import TIMEFRAMES
    >>> close = (Indicator(indicators.CLOSE, TIMEFRAMES["1m"]), 0)
    >>> engine = Evaluator(["BTCUSDT"])
    >>> engine.add(CompiledRule("r1", (Condition(close, table.ABOVE, threshold=100.0, crossing=True),)), ["BTCUSDT"])
    >>> prices = np.array([99.0, 100.0, 101.0, 102.0, 99.0, 103.0])
    >>> fired = engine.process(engine.trades("BTCUSDT", np.arange(6) * 1_000_000_000, prices, np.ones(6)))
    >>> fired.firings["price"].tolist(), fired.sides["left"].tolist()
    ([101.0, 103.0], [101.0, 103.0])
    """

    def __init__(self, symbols: Iterable[str] = (), ahead: int = 0) -> None:
        self.symbols: dict[str, int] = {}
        self.names: list[str] = []
        self._sets, self._levels = RuleSets(), Levels()
        self._arena, self._clocks = Pool(np.dtype("f8")), Pool(np.dtype("i8"))
        self._truths, self._status, self._fired_at = (Pool(np.dtype(each)) for each in ("u1", "u1", "i8"))
        self._rows = np.zeros((0, SYMBOL_FIELDS), np.int64)
        self._counters = np.zeros(COUNTERS, np.int64)
        self._counters[AHEAD_LIMIT] = ahead
        self._firings = np.zeros(FIRST_ROOM, table.FIRING)
        self._sides = np.zeros(2 * FIRST_ROOM, table.SIDES)
        self._refusals = np.zeros((REFUSED_ROOM, 2), np.int64)
        self.refusals: NDArray[np.int64] = self._refusals[:0]
        self._book: Book | None = None
        self._slots: tuple[list[int], list[int]] | None = None
        self.add_symbols(symbols)

    def add_symbols(self, symbols: Iterable[str]) -> None:
        """Let symbols join; those that are there already stay as they are."""
        fresh = [name for name in dict.fromkeys(symbols) if name not in self.symbols]
        if not fresh:
            return
        for name in fresh:
            self.symbols[name] = len(self.names)
            self.names.append(name)
        rows = self._fresh_rows(len(fresh))
        self._rows = np.concatenate([self._rows, rows])
        self._levels.add_symbols(len(fresh))
        self._changed()

    def add(self, rule: CompiledRule, symbols: Iterable[str]) -> None:
        """Let a rule watch some symbols; where one of its id does already, nothing happens."""
        self.add_all([(rule, symbols)])

    def add_all(self, rules: Iterable[tuple[CompiledRule, Iterable[str]]]) -> None:
        """Many at once: symbols that get the same rules are moved together."""
        self.change((), rules)

    def remove(self, id: str, symbols: Iterable[str]) -> None:
        """Take a rule away from some symbols; some indicators may stay until a later change."""
        self.change([(id, symbols)], ())

    def change(
        self,
        removed: Iterable[tuple[str, Iterable[str]]],
        added: Iterable[tuple[CompiledRule, Iterable[str]]],
    ) -> None:
        """Take rules away and let others watch, in one step; a rule that is there already is left as it is.

        What rules that stay know of their symbols stays too. It costs what the symbols that are named cost, however
        many others there are.

        Raises
        ------
        ConfigurationError
            What the rules of a symbol read needs too much room; nothing is changed then.
        DataError
            A symbol is not known; nothing is changed then.
        """
        gone: dict[int, dict[str, None]] = {}
        for id, symbols in removed:
            for name in symbols:
                gone.setdefault(self._number(name), {})[id] = None
        fresh: dict[int, dict[str, tuple[CompiledRule, int]]] = {}
        for rule, symbols in added:
            known = rule, LEVEL if is_level(rule) else self._sets.intern(rule)
            for name in symbols:
                fresh.setdefault(self._number(name), {}).setdefault(rule.id, known)
        in_set: dict[int, frozenset[str]] = {}
        changes: dict[int, SymbolChange] = {}
        groups: dict[tuple[int, tuple[str, ...], tuple[int, ...], frozenset[int], bool], list[int]] = {}
        for number in {**gone, **fresh}:
            old = int(self._rows[number, SET])
            if old not in in_set:
                in_set[old] = frozenset(rule.id for rule in self._sets.rules_of(old))
            one = change_of(number, gone.get(number, {}), fresh.get(number, {}), in_set[old], self._levels)
            changes[number] = one
            groups.setdefault((old, one.away, one.more, one.closes, one.dropped), []).append(number)
        # Every set is found before the first symbol moves: a layout that is too large is refused here.
        moves = [
            (numbers, old, away, self._sets.changed(old, away, more, closes_of(closes), dropped=dropped))
            for (old, away, more, closes, dropped), numbers in groups.items()
        ]
        self._leave(changes)
        for numbers, old, away, new in moves:
            places = [place for place, rule in enumerate(self._sets.rules_of(old)) if rule.id in away] if away else []
            for number in numbers if places else ():
                self._levels.renumber(number, places)
            self._move(np.array(numbers), old, new)
        self._join(changes)
        # The next trade is asked even where it does not move the price.
        self._rows[list(changes), OPENED] = 0
        self._tidy()
        self._changed()

    def reset(self, symbols: Iterable[str]) -> None:
        """Forget all that is known of symbols, their rules too: as if they had just joined."""
        numbers = np.array([self._number(name) for name in dict.fromkeys(symbols)], np.int64)
        if not numbers.size:
            return
        sizes = self._sets.sizes()[self._rows[numbers, SET]].sum(axis=0)
        for pool, dead in zip((self._arena, self._clocks, self._truths, self._status), sizes.tolist(), strict=True):
            pool.dead += dead
        for number in numbers.tolist():
            self._levels.remove(number, tuple(self._levels.slots_of(number)))
        self._rows[numbers] = self._fresh_rows(len(numbers))
        for number in numbers.tolist():
            self._levels.ask_all(number, self._layout(number))
        self._tidy()
        self._changed()

    def rule(self, number: int) -> CompiledRule:
        """The rule that a firing names."""
        return self.owner(number)[1]

    def owner(self, number: int) -> tuple[str, CompiledRule]:
        """The symbol and the rule that a firing names; a clock for all closes bars of any symbol."""
        if number < 0:
            symbol, rule = self._levels.owner(-1 - number)
            return self.names[symbol], rule
        if self._slots is None:
            # Symbols without rules have no slots: they would share a beginning with others.
            with_rules = np.flatnonzero(self._sets.sizes()[self._rows[:, SET], 3])
            with_rules = with_rules[np.argsort(self._rows[with_rules, SLOT])]
            self._slots = self._rows[with_rules, SLOT].tolist(), with_rules.tolist()
        begins, ruled = self._slots
        at = bisect_right(begins, number) - 1
        if at >= 0:
            rules = self._sets.rules_of(int(self._rows[ruled[at], SET]))
            if number - begins[at] < len(rules):
                return self.names[ruled[at]], rules[number - begins[at]]
        raise DataError(f"rule number {number} is no longer in the table")

    def rules(self, symbol: str) -> tuple[CompiledRule, ...]:
        """The rules that watch a symbol, in their order."""
        number = self._number(symbol)
        found = list(self._sets.rules_of(int(self._rows[number, SET])))
        for before, (rule, after) in enumerate(self._levels.rules_of(number)):
            found.insert(after + before, rule)
        return tuple(found)

    def place(self, symbol: str, indicator: Indicator) -> int:
        """Where an external value of a symbol goes: the ``sizes`` of a batch."""
        layout = self._layout(self._number(symbol))
        if indicator not in layout.places:
            raise DataError(f"no rule of {symbol} reads {indicator.key or indicator}")
        return layout.places[indicator][0]

    def value(self, symbol: str, reading: tuple[Indicator, int]) -> float:
        """What a reading of a symbol is now; NaN where it is not known yet."""
        number = self._number(symbol)
        return float(self._arena.array[self._rows[number, BASE] + self._layout(number).place(reading)])

    def load(self, symbol: str, timeframe: int, bars: Mapping[str, Sequence[float] | NDArray[Any]]) -> None:
        """Warm a symbol's indicators of one timeframe with closed bars: ``ts`` (open, ns) and OHLCV, oldest first.

        Nothing fires. A timeframe that no rule of the symbol reads is passed over.

        Raises
        ------
        DataError
            A bar is under way or has closed after these; they do not ascend, or do not begin where bars begin.
        """
        number = self._number(symbol)
        layout = self._layout(number)
        if timeframe not in layout.durations or len(bars["ts"]) == 0:
            return
        frame = layout.durations.index(timeframe)
        ts = np.ascontiguousarray(bars["ts"], np.int64)
        if (np.diff(ts) <= 0).any() or (ts % timeframe != 0).any():
            raise DataError(f"{symbol}: bars must ascend and begin at whole multiples of {timeframe} ns")
        columns = [np.ascontiguousarray(bars[name], np.float64) for name in ("open", "high", "low", "close", "volume")]
        if not all(np.isfinite(column).all() for column in columns):
            raise DataError(f"{symbol}: a bar of the past holds what is not finite", hint="clean it, then load")
        row, clocks = self._rows[number], self._clocks.array
        clock = int(row[CLOCK_AT]) + CLOCK_SLOTS * frame
        if clocks[clock] != FAR or clocks[clock + 1] > ts[0]:
            raise DataError(f"{symbol}: bars of the past must come before its first tick", hint="load, then process")
        load_bars(ts, *columns, self._bound(), int(row[BASE]), int(row[SET]), frame)
        ended = int(ts[-1]) + timeframe
        clocks[clock + 1] = ended
        if ended >= row[NEWEST]:
            row[NEWEST] = ended
            self._arena.array[row[BASE]] = columns[3][-1]
        self._levels.ask_all(number, layout)

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
        """Take a batch; what fired. What was refused of it stands in :attr:`refusals` until the next call."""
        book = self._bound()
        counters = self._counters
        counters[FIRINGS] = counters[SIDE_COUNT] = counters[REFUSED] = 0
        found: list[NDArray[np.void]] = []
        sides: list[NDArray[np.void]] = []
        at, shift, rows = 0, 0, batch.symbols.size
        if rows > len(self._refusals):
            self._refusals = np.zeros((2 * rows, 2), np.int64)
        while True:
            before = at
            at = process(*batch, book, self._firings, self._sides, self._refusals, counters, at)
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
        self.refusals = self._refusals[: int(counters[REFUSED])]
        if len(found) == 1:
            return Fired(found[0], sides[0])
        return Fired(np.concatenate(found), np.concatenate(sides))

    @property
    def late(self) -> int:
        """Trades older than their symbol's newest that entered the bars still open."""
        return int(self._counters[LATE])

    @property
    def refused(self) -> dict[str, int]:
        """How many records were refused so far, by reason (``fields.REFUSALS``)."""
        counts = self._counters[REFUSED_FIRST : REFUSED_FIRST + len(REFUSALS)]
        return {reason: int(count) for reason, count in zip(REFUSALS, counts, strict=True)}

    @property
    def bytes(self) -> int:
        """Memory of the arrays in use."""
        pools = (self._arena, self._clocks, self._truths, self._status, self._fired_at)
        return sum(pool.array.nbytes for pool in pools) + self._rows.nbytes + self._sets.bytes + self._levels.bytes

    def compact(self) -> None:
        """Give back what symbols left behind as their rules changed; done by itself where it is a quarter."""
        sizes = self._sets.sizes()[self._rows[:, SET]]
        pools = ((BASE, self._arena), (CLOCK_AT, self._clocks), (TRUTH_AT, self._truths), (SLOT, self._status))
        for column, (field, pool) in enumerate(pools):
            before, count = self._rows[:, field].copy(), sizes[:, column]
            after = np.cumsum(count) - count
            if field == SLOT:
                self._fired_at.replace(moved(self._fired_at.array, before, after, count))
            pool.replace(moved(pool.array, before, after, count))
            self._rows[:, field] = after
        self._sets.keep(self._rows[:, SET])
        self._changed()

    def state(self) -> State:
        """All of it, for a snapshot; the arrays are the engine's own, to be written before the next batch."""
        rules, sets = self._sets.contents()
        arrays: dict[str, NDArray[Any]] = {"rows": self._rows, "counters": self._counters}
        for name in _POOLS:
            pool = getattr(self, f"_{name}")
            arrays[name] = pool.array[: pool.used]
        levels, arrays["levels"] = self._levels.state()
        return State(rules, sets, arrays, levels)

    def still(self, room: Mapping[str, NDArray[Any]] | None = None) -> Still:
        """All of it as it is now, to be written by another thread while this one goes on.

        Parameters
        ----------
        room:
            What :func:`room_for` gave for this engine's :meth:`state`: memory that the system has handed out already,
            without which a copy takes ten times as long. Where it does not fit any more, it is passed over.
        """
        state = self.state()
        kept = {}
        for name, array in state.arrays.items():
            given = None if room is None else room.get(name)
            if given is None or given.dtype != array.dtype or given.size < array.size:
                kept[name] = array.copy()
            else:
                kept[name] = given[: array.size].reshape(array.shape)
                kept[name][...] = array
        return Still(tuple(self.names), state._replace(arrays=kept))

    @classmethod
    def restored(
        cls,
        symbols: Sequence[str],
        rules: Sequence[CompiledRule],
        sets: Sequence[tuple[Sequence[int], Sequence[Indicator]]],
        arrays: Mapping[str, NDArray[Any]],
        levels: Sequence[CompiledRule] = (),
    ) -> Evaluator:
        """An engine from what :meth:`state` gave; without levels where it is of a time when they stood in sets.

        Raises
        ------
        ValueError
            The parts do not fit together.
        """
        made = cls()
        made.names = list(symbols)
        made.symbols = {name: number for number, name in enumerate(symbols)}
        made._sets.fill(rules, sets)
        made._rows, made._counters = arrays["rows"].astype(np.int64), arrays["counters"].astype(np.int64)
        for name in _POOLS:
            pool = getattr(made, f"_{name}")
            pool.replace(arrays[name].astype(pool.array.dtype))
        made._check()
        made._levels.fill(levels, arrays.get("levels"), made._layout, len(symbols))
        made._changed()
        return made

    def _check(self) -> None:
        """Refuse rows that point outside of the arrays."""
        rows = self._rows
        if rows.shape != (len(self.names), SYMBOL_FIELDS) or self._counters.shape != (COUNTERS,):
            raise ValueError("the number of symbols does not fit")
        if rows.size == 0:
            return
        known = self._sets.sizes()
        if rows[:, SET].min() < 0 or rows[:, SET].max() >= len(known):
            raise ValueError("a symbol has a set of rules that is not there")
        pools = (self._arena, self._clocks, self._truths, self._status)
        for column, (field, pool) in enumerate(zip((BASE, CLOCK_AT, TRUTH_AT, SLOT), pools, strict=True)):
            if rows[:, field].min() < 0 or (rows[:, field] + known[rows[:, SET], column]).max() > pool.used:
                raise ValueError("a symbol stands outside of the arrays")
        if self._fired_at.used != self._status.used:
            raise ValueError("rules and their times do not fit")

    def _leave(self, changes: Mapping[int, SymbolChange]) -> None:
        for number, one in changes.items():
            if one.left:
                self._levels.remove(number, one.left)

    def _join(self, changes: Mapping[int, SymbolChange]) -> None:
        self._levels.insert([level for one in changes.values() for level in one.coming], self._layout)
        for number, one in changes.items():
            for id, after, joined in one.again:
                self._levels.rejoin(number, id, after, joined)

    def _changed(self) -> None:
        self._book = self._slots = None

    def _number(self, symbol: str) -> int:
        try:
            return self.symbols[symbol]
        except KeyError:
            raise DataError(f"symbol {symbol!r} is not known here", hint="add_symbols first") from None

    def _layout(self, number: int) -> Layout:
        return self._sets.layout_of(int(self._rows[number, SET]))

    def _fresh_rows(self, count: int) -> NDArray[np.int64]:
        """Rows of symbols that have seen no tick and have no rule, with their blocks."""
        number = self._sets.find((), ())
        layout = self._sets.layout_of(number)
        rows = np.zeros((count, SYMBOL_FIELDS), np.int64)
        rows[:, SET], rows[:, NEXT_END], rows[:, NEWEST] = number, FAR, table.NEVER
        rows[:, BASE] = self._arena.append(np.tile(layout.block, count)) + layout.size * np.arange(count)
        rows[:, CLOCK_AT], rows[:, TRUTH_AT], rows[:, SLOT] = self._clocks.used, self._truths.used, self._status.used
        return rows

    def _tidy(self) -> None:
        """Give back what was left behind, where it is much; numbers of sets and rules change with it."""
        pools = (self._arena, self._truths, self._status)
        if any(pool.dead > 1_000_000 and 4 * pool.dead > pool.used for pool in pools) or self._sets.is_wasteful(
            self._rows[:, SET]
        ):
            self.compact()

    def _move(self, numbers: NDArray[np.int64], old: int, new: int) -> None:
        """Let symbols with one set of rules have another; what both know stays known."""
        if old == new:
            return
        count = len(numbers)
        rows = self._rows
        before, after = self._sets.rules_of(old), self._sets.rules_of(new)
        kept = {rule.id: place for place, rule in enumerate(before)}
        conditions_before = np.cumsum([0, *(len(rule.conditions) for rule in before)])
        sizes_before, sizes_after = self._sets.sizes()[old], self._sets.sizes()[new]
        truths = np.zeros((count, int(sizes_after[2])), np.uint8)
        status = np.zeros((count, int(sizes_after[3])), np.uint8)
        fired_at = np.full((count, int(sizes_after[3])), table.NEVER)
        at = 0
        for place, rule in enumerate(after):
            width = len(rule.conditions)
            was = kept.get(rule.id)
            if was is not None and before[was] is rule:
                begin = rows[numbers, TRUTH_AT] + conditions_before[was]
                truths[:, at : at + width] = self._truths.array[begin[:, None] + np.arange(width)]
                status[:, place] = self._status.array[rows[numbers, SLOT] + was]
                fired_at[:, place] = self._fired_at.array[rows[numbers, SLOT] + was]
            at += width
        if self._sets.layout_number(old) != self._sets.layout_number(new):
            self._relocate(numbers, self._sets.layout_of(old), self._sets.layout_of(new))
        rows[numbers, TRUTH_AT] = self._truths.append(truths.ravel()) + truths.shape[1] * np.arange(count)
        rows[numbers, SLOT] = self._status.append(status.ravel()) + status.shape[1] * np.arange(count)
        self._fired_at.append(fired_at.ravel())
        rows[numbers, SET] = new
        self._truths.dead += count * int(sizes_before[2])
        self._status.dead += count * int(sizes_before[3])

    def _relocate(self, numbers: NDArray[np.int64], old: Layout, new: Layout) -> None:
        """Give symbols blocks of another layout; what both layouts have keeps what it knows."""
        count, rows = len(numbers), self._rows
        begin = self._arena.reserve(count * new.size)
        clocks_begin = self._clocks.reserve(count * CLOCK_SLOTS * len(new.durations))
        blocks = self._arena.array[begin : begin + count * new.size].reshape(count, new.size)
        clocks = self._clocks.array[clocks_begin : self._clocks.used].reshape(count, CLOCK_SLOTS * len(new.durations))
        blocks[:] = new.block
        clocks[:, ::CLOCK_SLOTS], clocks[:, 1::CLOCK_SLOTS] = FAR, 0
        # A thousand symbols at a time: what is carried is held twice only for so many.
        for first in range(0, count, 1_000):
            some = numbers[first : first + 1_000]
            held = self._arena.array[rows[some, BASE][:, None] + np.arange(old.size)]
            times = self._clocks.array[rows[some, CLOCK_AT][:, None] + np.arange(CLOCK_SLOTS * len(old.durations))]
            carry(old, held, times, new, blocks[first : first + 1_000], clocks[first : first + 1_000])
        rows[numbers, BASE] = begin + new.size * np.arange(count)
        rows[numbers, CLOCK_AT] = clocks_begin + clocks.shape[1] * np.arange(count)
        ends = clocks[:, ::CLOCK_SLOTS]
        rows[numbers, NEXT_END] = ends.min(axis=1, initial=FAR)
        rows[numbers, OPENED] = (ends != FAR).all(axis=1)
        for number in numbers.tolist():
            self._levels.ask_all(number, new)
        self._arena.dead += count * old.size
        self._clocks.dead += count * CLOCK_SLOTS * len(old.durations)

    def _bound(self) -> Book:
        """The arrays as the kernel takes them."""
        if self._book is None:
            shared = self._sets.arrays()
            most = max(int(self._sets.sizes()[:, 3].max(initial=1)), 1)
            self._book = Book(  # type: ignore[call-arg]
                self._arena.array, self._clocks.array, self._rows, self._truths.array, self._status.array,
                self._fired_at.array, *shared,  # type: ignore[arg-type]
                np.zeros(table.DEEPEST, np.int64), np.zeros(most, np.int64),
                self._levels.tables(),
            )  # fmt: skip
        return self._book
