"""From expressions to registers: what names and functions mean to the rules of a strategy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, NoReturn

import numpy as np

from tapeline.core.errors import ConfigurationError
from tapeline.core.rule_expression import RuleExpressionError, did_you_mean
from tapeline.core.rule_nodes import (
    Arithmetic,
    Between,
    Call,
    Comparison,
    Crossing,
    Duration,
    Expression,
    Held,
    Logical,
    Name,
    Negative,
    Not,
    Number,
    Text,
)
from tapeline.features.formula import LONGEST_LAG, LONGEST_WINDOW
from tapeline.strategy import rule_kernels as kernels
from tapeline.strategy.rule_kernels import Program

MOST_REGISTERS: Final = 2_000
MOST_MEMORY: Final = 1_000_000
PRICES: Final = ("open", "high", "low", "close")
POSITION: Final = ("position.side", "position.bars", "position.return")
"""What an expression may ask of the side held: 1, -1 or 0; bars since it began; the return of close over its entry."""
SESSION_PREFIX: Final = "session."

_ARITHMETIC: Final = {"+": kernels.ADD, "-": kernels.SUBTRACT, "*": kernels.MULTIPLY, "/": kernels.DIVIDE}
_COMPARISONS: Final = {
    "<": kernels.LESS,
    "<=": kernels.LESS_EQUAL,
    ">": kernels.GREATER,
    ">=": kernels.GREATER_EQUAL,
    "==": kernels.EQUAL,
    "!=": kernels.UNEQUAL,
}
_OF_VALUES: Final = {
    "abs": (kernels.ABSOLUTE, 1),
    "sqrt": (kernels.SQUARE_ROOT, 1),
    "log": (kernels.LOGARITHM, 1),
    "sign": (kernels.SIGN, 1),
    "minimum": (kernels.MINIMUM, 2),
    "maximum": (kernels.MAXIMUM, 2),
}
_OF_BARS: Final = {
    "lag": (kernels.LAG, LONGEST_LAG),
    "difference": (kernels.SUBTRACT, LONGEST_LAG),
    "ratio": (kernels.DIVIDE, LONGEST_LAG),
    "mean": (kernels.MEAN, LONGEST_WINDOW),
    "highest": (kernels.HIGHEST, LONGEST_WINDOW),
    "lowest": (kernels.LOWEST, LONGEST_WINDOW),
}
FUNCTIONS: Final = (*_OF_VALUES, *_OF_BARS, "session")
"""The functions of rules; the first six take values, the next a value and a number of bars, the last a session."""


@dataclass
class RuleCompiler:
    """Registers, made of expressions one after the other; equal expressions share one.

    Parameters
    ----------
    sessions:
        The names that ``session("...")`` may ask for.
    """

    sessions: tuple[str, ...] = ()
    conditions: dict[str, int] = field(default_factory=dict)
    columns: dict[str, int] = field(default_factory=lambda: {name: place for place, name in enumerate(PRICES)})
    used: dict[str, tuple[str, int]] = field(default_factory=dict)
    registers: dict[Expression, int] = field(default_factory=dict)
    numbers: int = 0
    instants: int = 0
    _rows: list[tuple[int, int, int, int, float, int]] = field(default_factory=list)
    _text: str = ""

    def condition(self, expression: Expression, text: str) -> int:
        """The register of what is true, false or unknown; ``text`` is what the expression was read from."""
        self._text = text
        return self._condition(expression)

    def value(self, expression: Expression, text: str) -> int:
        """The register of a number."""
        self._text = text
        return self._value(expression)

    def program(self) -> Program:
        """What the kernel reads."""
        rows = np.array(self._rows, dtype=np.float64).reshape(-1, 6)
        whole = rows.astype(np.int64)
        return Program(*(np.ascontiguousarray(part) for part in (*whole[:, :4].T, rows[:, 4], whole[:, 5])))

    def _condition(self, node: Expression) -> int:
        if isinstance(node, Name):
            if node.name in self.conditions:
                return self.conditions[node.name]
            known = tuple(self.conditions)
            hint = f"a column is compared, as in {node.name} > 0"
            if known:
                hint += f"; {did_you_mean(node.name, known)} A condition must stand above those that use it."
            self._fail(f"there is no condition '{node.name}' here", node, hint)
        if isinstance(node, Call):
            if node.function != "session":
                self._fail(f"{node.function}() is a value, a condition is needed", node, "compare it, as in x > 0")
            return self._session(node)
        if node in self.registers:
            return self.registers[node]
        match node:
            case Comparison(operator=operator, left=left, right=right):
                made = self._add(_COMPARISONS[operator], self._value(left), self._value(right))
            case Between(value=value, low=low, high=high):
                made = self._add(kernels.BETWEEN, self._value(value), self._value(low), self._value(high))
            case Crossing(up=up, value=value, level=level):
                # Through lag() and constants, so that an explanation finds the values before among the registers.
                before = [one if isinstance(one, Number) else bar_before(one) for one in (value, level)]
                made = self._add(
                    kernels.AND,
                    self._add(kernels.LESS_EQUAL if up else kernels.GREATER_EQUAL, *map(self._value, before)),
                    self._add(kernels.GREATER if up else kernels.LESS, self._value(value), self._value(level)),
                )
            case Not(condition=inner):
                made = self._add(kernels.NOT, self._condition(inner))
            case Logical(operator=operator, parts=parts):
                made, *rest = [self._condition(part) for part in parts]
                for other in rest:
                    made = self._add(kernels.AND if operator == "and" else kernels.OR, made, other)
            case Held(condition=inner, bars=bars, nanoseconds=nanoseconds):
                if bars:
                    made = self._add(kernels.HELD_BARS, self._condition(inner), amount=bars, numbers=3)
                else:
                    made = self._add(kernels.HELD_TIME, self._condition(inner), amount=nanoseconds, instants=3)
            case _:
                self._fail(f"'{node}' is a value, a condition is needed", node, "compare it, as in x > 0")
        self.registers[node] = made
        return made

    def _value(self, node: Expression) -> int:
        if node in self.registers:
            return self.registers[node]
        match node:
            case Number(value=value):
                made = self._add(kernels.CONSTANT, amount=value)
            case Duration(nanoseconds=nanoseconds):
                made = self._add(kernels.CONSTANT, amount=nanoseconds / 1e9)
            case Name(name=name):
                made = self._named(node, name)
            case Negative(value=inner):
                made = self._add(kernels.NEGATE, self._value(inner))
            case Arithmetic(operator=operator, left=left, right=right):
                made = self._add(_ARITHMETIC[operator], self._value(left), self._value(right))
            case Call():
                made = self._called(node)
            case _:
                self._fail(f"'{node}' is no number", node)
        self.registers[node] = made
        return made

    def _named(self, node: Name, name: str) -> int:
        if name in self.conditions:
            self._fail(f"'{name}' is a condition, a value is needed", node)
        if name in POSITION:
            return self._add(kernels.POSITION, POSITION.index(name))
        if name.startswith("position."):
            self._fail(f"there is no '{name}'", node, f"there are {', '.join(POSITION)}")
        return self._column(name, node)

    def _column(self, name: str, node: Expression) -> int:
        place = self.columns.setdefault(name, len(self.columns))
        self.used.setdefault(name, (self._text, node.start))
        return self._add(kernels.COLUMN, place)

    def session_column(self, name: str) -> int:
        """The column that says whether a session is on."""
        return self.columns.setdefault(SESSION_PREFIX + name, len(self.columns))

    def _session(self, node: Call) -> int:
        if node in self.registers:
            return self.registers[node]
        if len(node.arguments) != 1 or not isinstance(node.arguments[0], Text):
            self._fail('session() takes the name of a session, as in session("london")', node)
        name = node.arguments[0].value
        if name not in self.sessions:
            hint = did_you_mean(name, self.sessions) if self.sessions else f"declare it as [session.{name}]"
            self._fail(f"there is no session '{name}'", node.arguments[0], hint)
        self.registers[node] = made = self._add(kernels.COLUMN, self.session_column(name))
        return made

    def _called(self, node: Call) -> int:
        name, arguments = node.function, node.arguments
        if name in _OF_VALUES:
            operation, count = _OF_VALUES[name]
            if len(arguments) != count:
                self._fail(f"{name}() takes {count} value{'s' if count > 1 else ''}", node)
            return self._add(operation, *(self._value(argument) for argument in arguments))
        if name in _OF_BARS:
            operation, longest = _OF_BARS[name]
            return self._windowed(node, operation, longest)
        if name == "session":
            self._fail("session() is a condition, a value is needed", node)
        return self._unknown(node, name)

    def _unknown(self, node: Call, name: str) -> NoReturn:
        hint = did_you_mean(name, FUNCTIONS)
        self._fail(f"there is no function '{name}'", node, f"{hint}; an indicator is a column of a feature set")

    def _windowed(self, node: Call, operation: int, longest: int) -> int:
        bars = node.arguments[1] if len(node.arguments) == 2 else None
        whole = isinstance(bars, Number) and not bars.percent and bars.value.is_integer()
        if not whole or not isinstance(bars, Number) or not 1 <= bars.value <= longest:
            self._fail(
                f"{node.function}() takes a value and a whole number of bars from 1 to {longest}",
                bars or node,
                f"as in {node.function}(close, 24)",
            )
        count = int(bars.value)
        value = self._value(node.arguments[0])
        before = operation if operation in (kernels.MEAN, kernels.HIGHEST, kernels.LOWEST) else kernels.LAG
        made = self._add(before, value, amount=count, numbers=count + 1)
        return made if before == operation else self._add(operation, value, made)

    def _add(
        self,
        operation: int,
        first: int = 0,
        second: int = 0,
        third: int = 0,
        *,
        amount: float = 0.0,
        numbers: int = 0,
        instants: int = 0,
    ) -> int:
        if len(self._rows) >= MOST_REGISTERS:
            raise ConfigurationError(f"the rules have more than {MOST_REGISTERS} parts")
        place = self.instants if instants else self.numbers
        self._rows.append((operation, first, second, third, amount, place))
        self.numbers += numbers
        self.instants += instants
        if self.numbers > MOST_MEMORY:
            raise ConfigurationError(f"the rules remember more than {MOST_MEMORY} numbers", hint="use shorter windows")
        return len(self._rows) - 1

    def _fail(self, reason: str, node: Expression, hint: str | None = None) -> NoReturn:
        raise RuleExpressionError(reason, self._text, node.start, hint=hint)


def bar_before(node: Expression) -> Expression:
    """The expression for a value one bar ago."""
    return Call("lag", (node, Number(1.0)), start=node.start, end=node.end)


def refuse_absent(used: Mapping[str, tuple[str, int]], available: tuple[str, ...]) -> None:
    """Point at the first use of a column that is not there.

    Raises
    ------
    RuleExpressionError
        A column of the rules is none of those available.
    """
    for name, (text, position) in used.items():
        if name not in available:
            raise RuleExpressionError(
                f"there is no column '{name}'", text, position, hint=did_you_mean(name, available)
            )
