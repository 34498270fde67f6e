"""Rules at work: one kernel reads a program bar after bar, for a whole history and for one new bar alike.

A program is a list of registers, each computed from columns, constants and registers before it. A number that is not
finite is unknown, and conditions are 1 (true), 0 (false) or NaN (unknown), joined by Kleene's strong three-valued logic
(Introduction to Metamathematics, 1952, section 64). What an operation must remember of earlier bars lies in ``memory``
and ``instants``, so that a stream, which keeps those, gives the same bits as the history.
"""

from __future__ import annotations

import math
from typing import Any, Final, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

CONSTANT, COLUMN, POSITION = 0, 1, 2
ADD, SUBTRACT, MULTIPLY, DIVIDE, NEGATE = 10, 11, 12, 13, 14
ABSOLUTE, SQUARE_ROOT, LOGARITHM, SIGN, MINIMUM, MAXIMUM = 20, 21, 22, 23, 24, 25
LAG, MEAN, HIGHEST, LOWEST = 30, 31, 32, 33
LESS, LESS_EQUAL, GREATER, GREATER_EQUAL, EQUAL, UNEQUAL = 40, 41, 42, 43, 44, 45
BETWEEN: Final = 46
NOT, AND, OR = 50, 51, 52
HELD_BARS, HELD_TIME = 53, 54

OPEN, HIGH, LOW, CLOSE = 0, 1, 2, 3
"""The first columns of every program."""

ENTER_LONG, ENTER_SHORT, EXIT, VETO, SIZE = 0, 1, 2, 3, 4

SIDE, SINCE, ENTRY, STOP, TAKE, SEEN = 0, 1, 2, 3, 4, 5
STATE_SIZE: Final = 6
"""State: the side held, bars since it began, the close of its decision, its protection, bars seen."""

NOTHING, ENTERED, EXITED, CONFLICT, VETOED, VETO_UNKNOWN, SIZE_UNKNOWN, PROTECTION_UNKNOWN, HELD, IGNORED = range(10)
UNTOUCHED, STOPPED, TAKEN = 0, 1, 2
LONG_AGO: Final = -(2**60)
INNER: Final[dict[str, Any]] = {"cache": True, "no_cpython_wrapper": True, "no_cfunc_wrapper": True}
"""Of functions that only kernels call: a third of the compiler's time goes into wrappers for Python."""


class Program(NamedTuple):
    """Registers in the order in which they are computed."""

    operation: Integers
    first: Integers
    second: Integers
    third: Integers
    amount: Floats
    place: Integers


class RuleTable(NamedTuple):
    """Rules, the highest priority first and equals in the order of the file; -1: no such register or column."""

    action: Integers
    side: Integers
    priority: Integers
    condition: Integers
    size: Integers
    stop: Integers
    take: Integers
    cooldown: Integers
    session: Integers
    passes: Integers
    again: bool
    opposite: int


class Memory(NamedTuple):
    """What is kept from bar to bar."""

    numbers: Floats
    instants: Integers
    state: Floats
    acted: Integers


class Outcome(NamedTuple):
    """What was decided, by bar: numbers, and codes (int16) of outcome, rule, other rule, protection and side held."""

    target: Floats
    stop: Floats
    take: Floats
    codes: NDArray[np.int16]


class Snapshot(NamedTuple):
    """Registers, state before the decision, and bars since each rule acted, at the rows asked for."""

    rows: Integers
    registers: Floats
    state: Floats
    since: Integers


@njit(**INNER)
def _finite(value: float) -> float:
    return value if math.isfinite(value) else math.nan


@njit(**INNER)
def _compared(operation: int, left: float, right: float) -> float:
    if math.isnan(left) or math.isnan(right):
        return math.nan
    if operation == LESS:
        holds = left < right
    elif operation == LESS_EQUAL:
        holds = left <= right
    elif operation == GREATER:
        holds = left > right
    elif operation == GREATER_EQUAL:
        holds = left >= right
    else:
        holds = (left == right) == (operation == EQUAL)
    return 1.0 if holds else 0.0


@njit(**INNER)
def _both(left: float, right: float) -> float:
    if left == 0.0 or right == 0.0:
        return 0.0
    return 1.0 if left == 1.0 and right == 1.0 else math.nan


@njit(**INNER)
def _either(left: float, right: float) -> float:
    if left == 1.0 or right == 1.0:
        return 1.0
    return 0.0 if left == 0.0 and right == 0.0 else math.nan


@njit(**INNER)
def _arithmetic(operation: int, left: float, right: float) -> float:
    if operation == ADD:
        return _finite(left + right)
    if operation == SUBTRACT:
        return _finite(left - right)
    if operation == MULTIPLY:
        return _finite(left * right)
    if operation == DIVIDE:
        return _finite(left / right) if right != 0.0 else math.nan
    if operation == NEGATE:
        return -left
    if operation == ABSOLUTE:
        return abs(left)
    if operation == SQUARE_ROOT:
        return math.sqrt(left) if left >= 0.0 else math.nan
    if operation == LOGARITHM:
        return math.log(left) if left > 0.0 else math.nan
    if operation == SIGN:
        return 1.0 if left > 0.0 else -1.0 if left < 0.0 else left
    if math.isnan(left) or math.isnan(right):
        return math.nan
    return min(left, right) if operation == MINIMUM else max(left, right)


@njit(**INNER)
def _windowed(operation: int, value: float, bars: int, numbers: Any, place: int) -> float:
    """A ring of the last ``bars`` values behind a count of those seen; a value that is unknown makes all so."""
    seen = int(numbers[place])
    numbers[place] = seen + 1
    begin, end = place + 1, place + 1 + bars
    here = begin + seen % bars
    before = numbers[here]
    numbers[here] = value
    if operation == LAG:
        return before if seen >= bars else math.nan
    if seen + 1 < bars:
        return math.nan
    if operation == MEAN:
        # From the oldest to the newest, so that the sum does not depend on where the history begins.
        total = 0.0
        for at in range(here + 1, end):
            total += numbers[at]
        for at in range(begin, here + 1):
            total += numbers[at]
        return _finite(total / bars)
    result = value
    for at in range(begin, end):
        one = numbers[at]
        if math.isnan(one):
            return math.nan
        result = max(result, one) if operation == HIGHEST else min(result, one)
    return result


@njit(**INNER)
def _held_bars(condition: float, bars: float, numbers: Any, place: int) -> float:
    """True for all of the last ``bars`` bars: a conjunction, so one false bar decides whatever is unknown."""
    numbers[place] += 1.0
    seen = numbers[place]
    if condition == 0.0:
        numbers[place + 1] = seen
    elif condition != 1.0:
        numbers[place + 2] = seen
    if numbers[place + 1] > max(seen - bars, 0.0):
        return 0.0
    return 1.0 if seen >= bars and numbers[place + 2] <= seen - bars else math.nan


@njit(**INNER)
def _held_time(condition: float, length: int, now: int, instants: Any, place: int) -> float:
    """True at every close from ``length`` before this one to this one, both included, and known that far back."""
    if instants[place] == LONG_AGO:
        instants[place] = now
    if condition == 0.0:
        instants[place + 1] = now
    elif condition != 1.0:
        instants[place + 2] = now
    if instants[place + 1] >= now - length:
        return 0.0
    return 1.0 if instants[place] <= now - length and instants[place + 2] < now - length else math.nan


@njit(**INNER)
def _compute(program: Program, columns: Any, row: int, now: int, memory: Memory, registers: Any) -> None:
    state = memory.state
    for this in range(program.operation.size):
        operation, first, place = program.operation[this], program.first[this], program.place[this]
        if operation == CONSTANT:
            registers[this] = program.amount[this]
        elif operation == COLUMN:
            registers[this] = _finite(columns[first, row])
        elif operation == POSITION:
            if first < 2:
                registers[this] = state[first]
            else:
                moved = state[SIDE] * (columns[CLOSE, row] / state[ENTRY] - 1.0) if state[SIDE] != 0.0 else math.nan
                registers[this] = _finite(moved)
        elif operation < LAG:
            registers[this] = _arithmetic(operation, registers[first], registers[program.second[this]])
        elif operation < LESS:
            bars = int(program.amount[this])
            registers[this] = _windowed(operation, registers[first], bars, memory.numbers, place)
        elif operation < BETWEEN:
            registers[this] = _compared(operation, registers[first], registers[program.second[this]])
        elif operation == BETWEEN:
            registers[this] = _both(
                _compared(np.int64(GREATER_EQUAL), registers[first], registers[program.second[this]]),
                _compared(np.int64(LESS_EQUAL), registers[first], registers[program.third[this]]),
            )
        elif operation == NOT:
            registers[this] = 1.0 - registers[first]
        elif operation == AND:
            registers[this] = _both(registers[first], registers[program.second[this]])
        elif operation == OR:
            registers[this] = _either(registers[first], registers[program.second[this]])
        elif operation == HELD_BARS:
            registers[this] = _held_bars(registers[first], program.amount[this], memory.numbers, place)
        else:
            length = int(program.amount[this])
            registers[this] = _held_time(registers[first], length, now, memory.instants, place)


@njit(**INNER)
def _protected(columns: Any, row: int, state: Any) -> int:
    """Whether the bar touched the stop or the target of the side held; a broken bar touches nothing."""
    opened, high, low = columns[OPEN, row], columns[HIGH, row], columns[LOW, row]
    if state[SIDE] == 0.0 or not (low <= opened <= high and math.isfinite(high - low)):
        return UNTOUCHED
    long = state[SIDE] > 0.0
    if (low <= state[STOP]) if long else (high >= state[STOP]):
        return STOPPED
    if (high >= state[TAKE]) if long else (low <= state[TAKE]):
        return TAKEN
    return UNTOUCHED


@njit(**INNER)
def _begin(state: Any, side: float, entry: float, stop: float, take: float) -> None:
    state[SIDE], state[SINCE], state[ENTRY], state[STOP], state[TAKE] = side, 0.0, entry, stop, take


@njit(**INNER)
def _acts(rules: RuleTable, this: int, columns: Any, row: int, memory: Memory, registers: Any) -> bool:
    if registers[rules.condition[this]] != 1.0:
        return False
    if rules.session[this] >= 0 and columns[rules.session[this], row] != 1.0:
        return False
    return memory.state[SEEN] - memory.acted[this] > rules.cooldown[this]


@njit(**INNER)
def _entry(rules: RuleTable, columns: Any, row: int, memory: Memory, registers: Any) -> tuple[int, int]:
    """The outcome so far and the rule that would enter."""
    chosen = -1
    for this in range(rules.action.size):
        if chosen >= 0 and rules.priority[this] < rules.priority[chosen]:
            break
        if rules.action[this] > ENTER_SHORT or not _acts(rules, this, columns, row, memory, registers):
            continue
        if chosen < 0:
            chosen = this
        elif rules.action[this] != rules.action[chosen]:
            return CONFLICT, chosen
    return NOTHING, chosen


@njit(**INNER)
def _entered(
    rules: RuleTable, chosen: int, columns: Any, row: int, memory: Memory, registers: Any, out: Outcome
) -> tuple[int, int]:
    """Try the entry of one rule: the outcome, and the rule that stood in its way."""
    state = memory.state
    side = 1.0 if rules.action[chosen] == ENTER_LONG else -1.0
    if state[SIDE] == side and not rules.again:
        return HELD, -1
    if state[SIDE] == -side and rules.opposite == 2:
        return IGNORED, -1
    mask = 1 if side > 0.0 else 2
    size = registers[rules.size[chosen]] if rules.size[chosen] >= 0 else 1.0
    closing = state[SIDE] == -side and rules.opposite == 1
    for this in range(rules.action.size):
        if rules.action[this] < VETO or not rules.side[this] & mask or closing:
            continue
        if rules.session[this] >= 0 and columns[rules.session[this], row] != 1.0:
            continue
        holds = registers[rules.condition[this]]
        if rules.action[this] == VETO:
            if holds == 1.0:
                return VETOED, this
            if holds != 0.0 and not rules.passes[this]:
                return VETO_UNKNOWN, this
        elif holds == 1.0:
            size *= registers[rules.size[this]]
        elif holds != 0.0:
            return SIZE_UNKNOWN, this
    close = columns[CLOSE, row]
    if closing:
        out.target[row] = 0.0
        _begin(state, 0.0, math.nan, math.nan, math.nan)
        return EXITED, -1
    if not (0.0 < size < math.inf):
        return SIZE_UNKNOWN, chosen
    stop = registers[rules.stop[chosen]] if rules.stop[chosen] >= 0 else math.nan
    take = registers[rules.take[chosen]] if rules.take[chosen] >= 0 else math.nan
    # A price that is unknown, or would act at once, is no protection: without it there is no entry.
    if rules.stop[chosen] >= 0 and not side * (close - stop) > 0.0:
        return PROTECTION_UNKNOWN, chosen
    if rules.take[chosen] >= 0 and not side * (take - close) > 0.0:
        return PROTECTION_UNKNOWN, chosen
    out.target[row], out.stop[row], out.take[row] = side * size, stop, take
    if state[SIDE] == side:
        state[STOP], state[TAKE] = stop, take
    else:
        _begin(state, side, close, stop, take)
    return ENTERED, -1


@njit(cache=True)
def advance_rules(
    program: Program,
    rules: RuleTable,
    memory: Memory,
    columns: Any,
    closes: Any,
    held: Any,
    out: Outcome,
    snapshot: Snapshot,
) -> None:
    """Decide all bars of ``columns`` (one row a column), going on from ``memory``.

    ``closes`` are the instants of the decisions in nanoseconds, ``held`` the side really held at each, or empty.
    """
    state = memory.state
    registers = np.empty(program.operation.size)
    asked = 0
    for row in range(closes.size):
        touched = _protected(columns, row, state)
        state[SINCE] += 1.0
        if touched != UNTOUCHED:
            _begin(state, 0.0, math.nan, math.nan, math.nan)
        if held.size and held[row] != state[SIDE]:
            _begin(state, held[row], columns[CLOSE, row], math.nan, math.nan)
        _compute(program, columns, row, closes[row], memory, registers)
        if asked < snapshot.rows.size and snapshot.rows[asked] == row:
            # Element by element: an assignment of arrays costs the compiler seconds.
            for this in range(registers.size):
                snapshot.registers[asked, this] = registers[this]
            for this in range(STATE_SIZE):
                snapshot.state[asked, this] = state[this]
            for this in range(rules.action.size):
                snapshot.since[asked, this] = int(state[SEEN]) - memory.acted[this]
            asked += 1
        outcome, chosen, other = NOTHING, -1, -1
        if state[SIDE] != 0.0:
            mask = 1 if state[SIDE] > 0.0 else 2
            for this in range(rules.action.size):
                wanted = rules.action[this] == EXIT and rules.side[this] & mask
                if wanted and _acts(rules, this, columns, row, memory, registers):
                    outcome, chosen = EXITED, this
                    break
        if outcome == EXITED:
            out.target[row] = 0.0
            _begin(state, 0.0, math.nan, math.nan, math.nan)
        else:
            outcome, chosen = _entry(rules, columns, row, memory, registers)
            if outcome == NOTHING and chosen >= 0:
                outcome, other = _entered(rules, chosen, columns, row, memory, registers, out)
        if outcome in (ENTERED, EXITED):
            memory.acted[chosen] = int(state[SEEN])
        state[SEEN] += 1.0
        out.codes[row, 0], out.codes[row, 1], out.codes[row, 2] = outcome, chosen, other
        out.codes[row, 3], out.codes[row, 4] = touched, int(state[SIDE])
