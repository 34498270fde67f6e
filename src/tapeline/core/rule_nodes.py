"""What an expression of the rule language is made of: a tree of plain values that know where they were read."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

NANOSECONDS: Final = {"s": 10**9, "m": 60 * 10**9, "h": 3_600 * 10**9, "d": 86_400 * 10**9, "w": 604_800 * 10**9}
CROSSINGS: Final = ("crosses_up", "crosses_down")


@dataclass(frozen=True)
class Node:
    """A part of an expression; ``start`` and ``end`` bound the characters that it was read from.

    Two nodes are equal where they mean the same, wherever they stand.
    """

    start: int = field(default=0, compare=False, kw_only=True)
    end: int = field(default=0, compare=False, kw_only=True)


@dataclass(frozen=True)
class Number(Node):
    """A constant; ``percent`` where it was written as a percentage, and ``value`` is then a hundredth of what stood."""

    value: float
    percent: bool = False

    def __str__(self) -> str:
        return f"{self.value * 100:.15g}%" if self.percent else f"{self.value:.17g}"


@dataclass(frozen=True)
class Duration(Node):
    """A length of time, such as ``4h`` or ``90s``."""

    nanoseconds: int

    def __str__(self) -> str:
        unit = next(one for one in "wdhms" if self.nanoseconds % NANOSECONDS[one] == 0)
        return f"{self.nanoseconds // NANOSECONDS[unit]}{unit}"


@dataclass(frozen=True)
class Text(Node):
    """A quoted text, as a function's argument."""

    value: str

    def __str__(self) -> str:
        return f"'{self.value}'" if '"' in self.value else f'"{self.value}"'


@dataclass(frozen=True)
class Name(Node):
    """A column, a level or a condition with a name: what it is, its reader knows."""

    name: str

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class Call(Node):
    """A function of values, texts and durations."""

    function: str
    arguments: tuple[Expression, ...]

    def __str__(self) -> str:
        return f"{self.function}({', '.join(map(str, self.arguments))})"


@dataclass(frozen=True)
class Negative(Node):
    """``-x``."""

    value: Expression

    def __str__(self) -> str:
        return f"-{self.value}"


@dataclass(frozen=True)
class Arithmetic(Node):
    """``left operator right`` with one of ``+ - * /``."""

    operator: str
    left: Expression
    right: Expression

    def __str__(self) -> str:
        return f"({self.left} {self.operator} {self.right})"


@dataclass(frozen=True)
class Comparison(Node):
    """``left operator right`` with one of ``< <= > >= == !=``."""

    operator: str
    left: Expression
    right: Expression

    def __str__(self) -> str:
        return f"{self.left} {self.operator} {self.right}"


@dataclass(frozen=True)
class Between(Node):
    """``value between low and high``, both included."""

    value: Expression
    low: Expression
    high: Expression

    def __str__(self) -> str:
        return f"{self.value} between {self.low} and {self.high}"


@dataclass(frozen=True)
class Crossing(Node):
    """``crosses_up(value, level)``: at or below it a bar ago and above it now; ``crosses_down`` the reverse."""

    up: bool
    value: Expression
    level: Expression

    def __str__(self) -> str:
        return f"{CROSSINGS[0] if self.up else CROSSINGS[1]}({self.value}, {self.level})"


@dataclass(frozen=True)
class Not(Node):
    """``not condition``."""

    condition: Expression

    def __str__(self) -> str:
        return f"not {_grouped(self.condition)}"


@dataclass(frozen=True)
class Logical(Node):
    """Two or more conditions, joined by ``and`` or by ``or``."""

    operator: str
    parts: tuple[Expression, ...]

    def __str__(self) -> str:
        return f" {self.operator} ".join(map(_grouped, self.parts))


@dataclass(frozen=True)
class Held(Node):
    """``condition for N bars`` (``bars``) or ``condition for 4h`` (``nanoseconds``); the other one is 0."""

    condition: Expression
    bars: int = 0
    nanoseconds: int = 0

    def __str__(self) -> str:
        unit = "bar" if self.bars == 1 else "bars"
        length = f"{self.bars} {unit}" if self.bars else str(Duration(self.nanoseconds))
        inner = f"({self.condition})" if isinstance(self.condition, Not | Held) else _grouped(self.condition)
        return f"{inner} for {length}"


Value = Number | Duration | Text | Name | Call | Negative | Arithmetic
Condition = Comparison | Between | Crossing | Not | Logical | Held
Expression = Value | Condition

ONLY_VALUES: Final = (Number, Duration, Text, Negative, Arithmetic)
CONDITIONS: Final = (Comparison, Between, Crossing, Not, Logical, Held)


def parts_of(expression: Expression) -> tuple[Expression, ...]:
    """The expressions that a node is directly made of."""
    match expression:
        case Call(arguments=parts) | Logical(parts=parts):
            return parts
        case Negative(value=inner) | Not(condition=inner) | Held(condition=inner):
            return (inner,)
        case Arithmetic(left=left, right=right) | Comparison(left=left, right=right):
            return left, right
        case Between(value=value, low=low, high=high):
            return value, low, high
        case Crossing(value=value, level=level):
            return value, level
    return ()


def walk(expression: Expression) -> Iterator[Expression]:
    """The node and all below it, each before its parts.

    Examples
    --------
    >>> from tapeline.core.rule_expression import parse_condition
    >>> [str(node) for node in walk(parse_condition("-a < 2"))]
    ['-a < 2', '-a', 'a', '2']
    """
    waiting = [expression]
    while waiting:
        node = waiting.pop()
        yield node
        waiting.extend(reversed(parts_of(node)))


def names_in(expression: Expression) -> tuple[str, ...]:
    """The names that an expression reads, each once, in the order of their first place.

    Examples
    --------
    >>> from tapeline.core.rule_expression import parse_condition
    >>> names_in(parse_condition("b > a and crosses_up(b, c)"))
    ('b', 'a', 'c')
    """
    return tuple(dict.fromkeys(node.name for node in walk(expression) if isinstance(node, Name)))


def _grouped(condition: Expression) -> str:
    return f"({condition})" if isinstance(condition, Logical) else str(condition)
