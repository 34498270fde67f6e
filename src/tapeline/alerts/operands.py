"""What conditions compare: numbers and readings, arithmetic of them, and how comparisons combine."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Final, Literal, NamedTuple

from tapeline.alerts.engine import indicators as kinds
from tapeline.alerts.engine import table
from tapeline.alerts.engine.compiled import Condition
from tapeline.alerts.engine.layout import Indicator, Reading
from tapeline.core.errors import ConfigurationError

Operand = Reading | float


class Combined(NamedTuple):
    """Conditions joined by ``and`` or ``or``, or one turned round by ``not``; three-valued, after Kleene."""

    operator: Literal["and", "or", "not"]
    parts: tuple[Truth, ...]


Truth = Condition | Combined

_CODES: Final = {mark: code for code, mark in enumerate(table.COMPARISONS)}
_FLIPPED: Final = {">": "<", "<": ">", ">=": "<=", "<=": ">=", "==": "==", "!=": "!="}
_OPPOSITE: Final = {">": "<=", "<=": ">", "<": ">=", ">=": "<", "==": "!=", "!=": "=="}
_KINDS: Final = {"+": kinds.ADD, "-": kinds.SUBTRACT, "*": kinds.MULTIPLY, "/": kinds.DIVIDE}
_FOLDS: Final[dict[str, Callable[[float, float], float]]] = {
    "+": lambda left, right: left + right,
    "-": lambda left, right: left - right,
    "*": lambda left, right: left * right,
    "/": lambda left, right: left / right,
}


def external(key: str) -> Reading:
    """A series that is computed outside the kernel, by its key; not known before its first record."""
    return Indicator(kinds.EXTERNAL, key=key), 0


def combine(operator: str, left: Operand, right: Operand) -> Operand:
    """``left operator right`` with one of ``+ - * /``; numbers are worked out at once.

    Raises
    ------
    ConfigurationError
        A number is divided by 0, or the result is too large.

    Examples
    --------
    >>> combine("*", 3.0, 0.5)
    1.5
    """
    if operator == "/" and right == 0.0:
        raise ConfigurationError("a division by 0 is never known")
    if isinstance(left, float):
        return _of_number(operator, left, right)
    if isinstance(right, float):
        return Indicator(_KINDS[operator], factor=right, left=left), 0
    return Indicator(_KINDS[operator], left=left, right=right), 0


def _of_number(operator: str, left: float, right: Operand) -> Operand:
    if isinstance(right, float):
        value = _FOLDS[operator](left, right)
        if not math.isfinite(value):
            raise ConfigurationError(f"{left:g} {operator} {right:g} is too large")
        return value
    if operator in "+*":
        return combine(operator, right, left)
    if operator == "-":
        # -x + c rounds as c - x does.
        return combine("+", combine("*", right, -1.0), left)
    # The kernel divides readings: a reading that is always c, where x is known.
    return combine("/", combine("+", combine("*", right, 0.0), left), right)


def compare(left: Operand, mark: str, right: Operand, *, crossing: bool = False, text: str = "") -> Condition:
    """One comparison; ``mark`` is one of ``> < >= <= == !=``.

    Raises
    ------
    ConfigurationError
        Both sides are numbers.
    """
    if isinstance(left, float):
        if isinstance(right, float):
            raise ConfigurationError(f"{left:g} {mark} {right:g} compares two numbers, which nothing can change")
        return compare(right, _FLIPPED[mark], left, crossing=crossing, text=text)
    if isinstance(right, float):
        return Condition(left, _CODES[mark], threshold=right, crossing=crossing, text=text)
    return Condition(left, _CODES[mark], right=right, crossing=crossing, text=text)


def crosses(up: bool, value: Operand, level: Operand, *, text: str = "") -> Condition:
    """True at the tick with which the value comes beyond the level, from at or before it."""
    return compare(value, ">" if up else "<", level, crossing=True, text=text)


def all_of(*parts: Truth) -> Truth:
    """All of them."""
    return parts[0] if len(parts) == 1 else Combined("and", parts)


def any_of(*parts: Truth) -> Truth:
    """At least one of them."""
    return parts[0] if len(parts) == 1 else Combined("or", parts)


def conditions_of(truth: Truth) -> Iterator[Condition]:
    """Its comparisons, from left to right."""
    if isinstance(truth, Condition):
        yield truth
    else:
        for part in truth.parts:
            yield from conditions_of(part)


def mapped(truth: Truth, change: Callable[[Condition], Condition]) -> Truth:
    """The same with each comparison changed."""
    if isinstance(truth, Condition):
        return change(truth)
    return Combined(truth.operator, tuple(mapped(part, change) for part in truth.parts))


def opposite(condition: Condition) -> Condition:
    """What holds where a comparison is known not to; of a crossing there is none."""
    mark = _OPPOSITE[table.COMPARISONS[condition.comparison]]
    return replace(condition, comparison=_CODES[mark])


def steps_of(truth: Truth) -> tuple[tuple[Condition, ...], tuple[int, ...]]:
    """The comparisons and the program that combines them, in reverse Polish notation; the program of one is empty.

    Examples
    --------
    >>> above = compare(external("x"), ">", 1.0)
    >>> steps_of(Combined("or", (above, Combined("not", (above,)))))[1] == (0, 1, table.NOT, table.OR)
    True
    """
    if isinstance(truth, Condition):
        return (truth,), ()
    found: list[Condition] = []
    steps: list[int] = []
    _emit(truth, found, steps)
    return tuple(found), tuple(steps)


def _emit(truth: Truth, found: list[Condition], steps: list[int]) -> None:
    if isinstance(truth, Condition):
        steps.append(len(found))
        found.append(truth)
    elif truth.operator == "not":
        _emit(truth.parts[0], found, steps)
        steps.append(table.NOT)
    else:
        for number, part in enumerate(truth.parts):
            _emit(part, found, steps)
            if number:
                steps.append(table.AND if truth.operator == "and" else table.OR)
