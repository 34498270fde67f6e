"""Formulas: a small language in which a feature is declared from other features and from the columns of the bars.

    rsi_14 * atr_ratio_14              products, ratios (/), sums and differences of columns, numbers and parentheses
    lag(rsi_14, 4)                     the value 4 bars before
    rank(close / lag(close, 24), 240)  where the value stands among the last 240

A text is parsed by a parser of its own into a tree of plain values: no Python is evaluated, whatever the text says.
Every function looks back only, so that a formula's lookback follows from its tree, and so does its unit: a sum of a
price and a volume is refused.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, NoReturn

import numpy as np

from tapeline.core.errors import ConfigurationError
from tapeline.features.arrays import STILL, Floats
from tapeline.features.kernels import rolling_deviation, rolling_mean, rolling_rank

Degrees = tuple[int, int]
"""The degrees in price and in volume, as a component declares them in ``scale``."""

MAXIMUM_LENGTH: Final = 2_000
MAXIMUM_DEPTH: Final = 40
MAXIMUM_NODES: Final = 400
LONGEST_LAG: Final = 100_000
LONGEST_WINDOW: Final = 5_000
LARGEST: Final = float(np.finfo(np.float32).max)
"""Features are stored as float32: a value beyond its range counts as undefined."""

COLUMN_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9_.]{0,99}")
_TOKEN: Final = re.compile(r"\s*(?:([A-Za-z][A-Za-z0-9_.]*)|(\d+(?:\.\d*)?(?:e[+-]?\d+)?)|([-+*/(),]))")


@dataclass(frozen=True)
class Number:
    """A constant."""

    value: float

    def __str__(self) -> str:
        return f"{self.value:.17g}"


@dataclass(frozen=True)
class Column:
    """A column that is read: a feature's, or one of the bars'."""

    name: str

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class Call:
    """A function or an operator on one or two expressions; ``bars`` is the number of bars it looks back, or 0."""

    function: str
    arguments: tuple[Expression, ...]
    bars: int = 0

    def __str__(self) -> str:
        if self.function in _OPERATORS:
            return f"({self.arguments[0]} {self.function} {self.arguments[1]})"
        inner = [*map(str, self.arguments), *([str(self.bars)] if self.bars else [])]
        return f"{self.function}({', '.join(inner)})"


Expression = Number | Column | Call


@dataclass(frozen=True)
class _Function:
    """How a function computes, and what it does to units: ``same``, ``none``, ``pure`` (must have none), ``half``."""

    compute: Callable[..., Floats]
    arity: int = 1
    unit: str = "same"
    shortest: int = 0
    longest: int = 0
    window: bool = False


def _shifted(values: Floats, bars: int) -> Floats:
    result = np.full(values.size, np.nan)
    if bars < values.size:
        result[bars:] = values[: values.size - bars]
    return result


def _divided(numerator: Floats, denominator: Floats) -> Floats:
    result = np.full(numerator.size, np.nan)
    np.divide(numerator, denominator, out=result, where=np.abs(denominator) > 0.0)
    return result


def _score(values: Floats, window: int) -> Floats:
    mean, deviation = rolling_deviation(values, window)
    result = np.full(values.size, np.nan)
    np.divide(values - mean, deviation, out=result, where=deviation > STILL * np.abs(mean))
    return result


_OPERATORS: Final = ("+", "-", "*", "/")
FUNCTIONS: Final[Mapping[str, _Function]] = {
    "+": _Function(np.add, arity=2),
    "-": _Function(np.subtract, arity=2),
    "*": _Function(np.multiply, arity=2, unit="product"),
    "/": _Function(_divided, arity=2, unit="quotient"),
    "negative": _Function(np.negative),
    "abs": _Function(np.abs),
    "sign": _Function(np.sign, unit="none"),
    "sqrt": _Function(lambda x: np.sqrt(np.where(x >= 0.0, x, np.nan)), unit="half"),
    "log": _Function(lambda x: np.log(np.where(x > 0.0, x, np.nan)), unit="pure"),
    "tanh": _Function(np.tanh, unit="pure"),
    "minimum": _Function(np.minimum, arity=2),
    "maximum": _Function(np.maximum, arity=2),
    "lag": _Function(_shifted, shortest=1, longest=LONGEST_LAG),
    "difference": _Function(lambda x, bars: x - _shifted(x, bars), shortest=1, longest=LONGEST_LAG),
    "ratio": _Function(lambda x, bars: _divided(x, _shifted(x, bars)), unit="none", shortest=1, longest=LONGEST_LAG),
    "mean": _Function(rolling_mean, shortest=2, longest=LONGEST_WINDOW, window=True),
    "deviation": _Function(
        lambda x, bars: rolling_deviation(x, bars)[1], shortest=2, longest=LONGEST_WINDOW, window=True
    ),
    "zscore": _Function(_score, unit="none", shortest=2, longest=LONGEST_WINDOW, window=True),
    "rank": _Function(rolling_rank, unit="none", shortest=2, longest=LONGEST_WINDOW, window=True),
}
"""Every function of the language. Those with a number of bars read that many back; all of them give NaN where a value
that they need is NaN or where the result is undefined (a division by zero, a logarithm of what is not positive)."""


def parse_formula(text: str) -> Expression:
    """Read a formula.

    Parameters
    ----------
    text:
        Columns, numbers, ``+ - * /``, parentheses, ``abs sign sqrt log tanh`` of one expression,
        ``minimum maximum`` of two, and, of an expression and a number of bars, ``lag`` (the value then),
        ``difference`` (now less then), ``ratio`` (now over then), ``mean``, ``deviation`` (population), ``zscore``
        and ``rank`` (share of the window below the value, ties half) over a window that ends now.

    Raises
    ------
    ConfigurationError
        The text is no formula: the message names the place. It is longer than 2,000 characters, nested deeper than 40
        levels, or a number of bars is out of its bounds.

    Examples
    --------
    >>> str(parse_formula("rsi_14 / lag(rsi_14, 4) - 1"))
    '((rsi_14 / lag(rsi_14, 4)) - 1)'
    >>> parse_formula("__import__('os')")
    Traceback (most recent call last):
    tapeline.core.errors.ConfigurationError: formula "__import__('os')": '_' at character 1 is not understood
    """
    return _Parser(text).whole()


class _Parser:
    """Recursive descent over the words of one text."""

    def __init__(self, text: str) -> None:
        self.text = text
        if len(text) > MAXIMUM_LENGTH:
            raise ConfigurationError(f"a formula of {len(text)} characters is longer than {MAXIMUM_LENGTH}")
        self.words = list(self._split())
        self.place = self.depth = 0

    def _split(self) -> Iterator[tuple[str, int]]:
        position, end = 0, len(self.text.rstrip())
        while position < end:
            found = _TOKEN.match(self.text, position)
            if found is None:
                rest = self.text[position:]
                at = position + len(rest) - len(rest.lstrip())
                self._fail(f"'{self.text[at]}' at character {at + 1} is not understood")
            yield found[0].strip(), found.end() - len(found[0].strip())
            position = found.end()

    def whole(self) -> Expression:
        # Before a tree is built: a long chain would be a tree too deep to walk.
        if sum(word not in "()," for word, _ in self.words) > MAXIMUM_NODES:
            self._fail(f"it has more than {MAXIMUM_NODES} parts")
        result = self._sum()
        if self._next:
            self._fail(f"'{self._next}' at character {self.words[self.place][1] + 1} is too much")
        return result

    @property
    def _next(self) -> str:
        return self.words[self.place][0] if self.place < len(self.words) else ""

    def _take(self) -> str:
        word = self._next
        self.place += 1
        return word

    def _expect(self, wanted: str) -> None:
        if self._next != wanted:
            self._fail(f"'{wanted}' is missing before {repr(self._next) if self._next else 'its end'}")
        self.place += 1

    def _sum(self) -> Expression:
        self.depth += 1
        if self.depth > MAXIMUM_DEPTH:
            self._fail(f"it is nested deeper than {MAXIMUM_DEPTH} levels")
        result = self._product()
        while self._next in ("+", "-"):
            result = Call(self._take(), (result, self._product()))
        self.depth -= 1
        return result

    def _product(self) -> Expression:
        result = self._unary()
        while self._next in ("*", "/"):
            result = Call(self._take(), (result, self._unary()))
        return result

    def _unary(self) -> Expression:
        negative = False
        while self._next == "-":
            self.place += 1
            negative = not negative
        inner = self._atom()
        if not negative:
            return inner
        return Number(-inner.value) if isinstance(inner, Number) else Call("negative", (inner,))

    def _atom(self) -> Expression:
        word = self._take()
        if word == "(":
            inner = self._sum()
            self._expect(")")
            return inner
        if word and word[0].isdigit():
            return Number(self._finite(word))
        if not COLUMN_NAME.fullmatch(word):
            self._fail(f"a column, a number or '(' is missing at {repr(word) if word else 'its end'}")
        return self._call(word) if self._next == "(" else Column(word)

    def _call(self, name: str) -> Expression:
        function = FUNCTIONS.get(name)
        if function is None:
            names = ", ".join(known for known in FUNCTIONS if known not in _OPERATORS)
            self._fail(f"there is no function '{name}'", hint=f"it knows {names}")
        self._expect("(")
        arguments = [self._sum()]
        for _ in range(function.arity - 1):
            self._expect(",")
            arguments.append(self._sum())
        bars = 0
        if function.longest:
            self._expect(",")
            word = self._take()
            bars = int(word) if word.isdigit() and len(word) < 9 else -1
            if not function.shortest <= bars <= function.longest:
                self._fail(
                    f"the bars of {name}() are {word or 'missing'}; "
                    f"a whole number from {function.shortest} to {function.longest} is needed"
                )
        self._expect(")")
        return Call(name, tuple(arguments), bars)

    def _finite(self, word: str) -> float:
        value = float(word)
        if value > LARGEST:
            self._fail(f"the number {word} is too large")
        return value

    def _fail(self, reason: str, hint: str | None = None) -> NoReturn:
        raise ConfigurationError(f'formula "{self.text[:200]}": {reason}', hint=hint)


def names_in(expression: Expression) -> tuple[str, ...]:
    """The columns that a formula reads, each once, in the order of their first place.

    Examples
    --------
    >>> names_in(parse_formula("b * a + b"))
    ('b', 'a')
    """
    if isinstance(expression, Column):
        return (expression.name,)
    if isinstance(expression, Number):
        return ()
    return tuple(dict.fromkeys(name for part in expression.arguments for name in names_in(part)))


def size(expression: Expression) -> int:
    """How many columns, numbers and functions a formula is made of."""
    return 1 + sum(map(size, expression.arguments)) if isinstance(expression, Call) else 1


def replace_columns(expression: Expression, known: Mapping[str, Expression]) -> Expression:
    """The formula with columns replaced by the formulas that they stand for.

    Raises ConfigurationError where it would grow beyond ``MAXIMUM_NODES`` parts.
    """
    grown = size(expression) + sum(size(known[name]) - 1 for name in _columns(expression) if name in known)
    if grown > MAXIMUM_NODES:
        raise ConfigurationError(f"a formula of formulas has {grown} parts, more than {MAXIMUM_NODES}")
    return _replaced(expression, known)


def lookback_of(expression: Expression, lookbacks: Mapping[str, int]) -> int:
    """The bars, the current one included, that decide the current value, given those of its columns.

    Examples
    --------
    >>> lookback_of(parse_formula("mean(lag(close, 3), 10)"), {"close": 1})
    13
    """
    if isinstance(expression, Number):
        return 1
    if isinstance(expression, Column):
        return lookbacks[expression.name]
    inner = max(lookback_of(part, lookbacks) for part in expression.arguments)
    return inner + expression.bars - (1 if FUNCTIONS[expression.function].window else 0)


def degrees_of(expression: Expression, degrees: Mapping[str, Degrees]) -> Degrees:
    """The degrees in price and volume of a formula, given those of its columns.

    Raises ConfigurationError where units do not go together: a price plus a volume, the logarithm of a price.

    Examples
    --------
    >>> degrees_of(parse_formula("close * volume"), {"close": (1, 0), "volume": (0, 1)})
    (1, 1)
    """
    if isinstance(expression, Number):
        return 0, 0
    if isinstance(expression, Column):
        return degrees[expression.name]
    of = [degrees_of(part, degrees) for part in expression.arguments]
    unit = FUNCTIONS[expression.function].unit
    if unit == "none":
        return 0, 0
    if unit == "product":
        return of[0][0] + of[1][0], of[0][1] + of[1][1]
    if unit == "quotient":
        return of[0][0] - of[1][0], of[0][1] - of[1][1]
    if unit == "half":
        if of[0][0] % 2 or of[0][1] % 2:
            raise ConfigurationError(f"'{expression}' has no whole degree in price or volume", hint=_UNIT_HINT)
        return of[0][0] // 2, of[0][1] // 2
    if unit == "pure" and of[0] != (0, 0):
        raise ConfigurationError(f"'{expression}' needs a number without a unit", hint=_UNIT_HINT)
    if len(set(of)) > 1:
        raise ConfigurationError(f"the sides of '{expression}' have different units", hint=_UNIT_HINT)
    return of[0]


_UNIT_HINT: Final = "divide prices by prices and volumes by volumes first, as in close / mean(close, 24)"


def evaluate(expression: Expression, columns: Mapping[str, Floats]) -> Floats:
    """The value of a formula on every bar.

    Parameters
    ----------
    columns:
        By name, arrays of one length; at least one.

    Returns
    -------
    float64; NaN where a value that it needs is NaN, where it is undefined, or where it is beyond float32.

    Examples
    --------
    >>> evaluate(parse_formula("a / lag(a, 1)"), {"a": np.array([1.0, 2.0, 0.0, 3.0])})
    array([nan,  2.,  0., nan])
    """
    length = next(iter(columns.values())).size
    with np.errstate(all="ignore"):
        result = np.array(np.broadcast_to(_value(expression, columns, length), (length,)), dtype=np.float64)
    result[~(np.abs(result) <= LARGEST)] = np.nan
    return result


def _value(expression: Expression, columns: Mapping[str, Floats], length: int) -> Floats:
    if isinstance(expression, Number):
        return np.full(length, expression.value)
    if isinstance(expression, Column):
        return columns[expression.name]
    given = [_value(part, columns, length) for part in expression.arguments]
    bars = (expression.bars,) if expression.bars else ()
    result = FUNCTIONS[expression.function].compute(*given, *bars)
    # An overflow in between must not come back as a number, as 1 / infinity would.
    return np.where(np.isinf(result), np.nan, result) if np.isinf(result).any() else result


def _columns(expression: Expression) -> Iterator[str]:
    if isinstance(expression, Column):
        yield expression.name
    elif isinstance(expression, Call):
        for part in expression.arguments:
            yield from _columns(part)


def _replaced(expression: Expression, known: Mapping[str, Expression]) -> Expression:
    if isinstance(expression, Column):
        return known.get(expression.name, expression)
    if isinstance(expression, Number):
        return expression
    return Call(expression.function, tuple(_replaced(part, known) for part in expression.arguments), expression.bars)
