"""The language in which people write conditions: a text becomes a tree of plain values, and nothing is evaluated.

    crosses_up(close, 60000) and rsi(14, "1h") < 30 for 2 bars
    spread between 0 and 0.02% or not (volume > mean(volume, 24) for 4h)

A parser of its own reads it, so that no text is ever run as Python. What a name or a function means is for the reader
of the tree to say: rules of a strategy look a name up among columns, an alert among its indicators. Every node knows
the characters that it was read from, so that an error found later points at its place too.

Binding, from loose to tight: ``or``; ``and``; ``not``; comparisons, ``between`` and ``for``; ``+ -``; ``* /``; ``-x``.
``for`` takes the one comparison or function before it: ``a and b for 2 bars`` asks ``b`` to have held for two bars.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Final, NoReturn

from tapeline.core.errors import ConfigurationError
from tapeline.core.rule_nodes import (
    CONDITIONS,
    CROSSINGS,
    NANOSECONDS,
    ONLY_VALUES,
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

MAXIMUM_LENGTH: Final = 2_000
MAXIMUM_DEPTH: Final = 40
MAXIMUM_PARTS: Final = 200
LONGEST_NAME: Final = 100
LONGEST_HOLD: Final = 1_000_000
LONGEST_DURATION: Final = 3_660 * NANOSECONDS["d"]
MOST_ARGUMENTS: Final = 10
LARGEST: Final = 1e300

KEYWORDS: Final = frozenset({"and", "or", "not", "between", "for", "bar", "bars"})
COMPARISONS: Final = ("<=", ">=", "==", "!=", "<", ">")

_TOKEN: Final = re.compile(
    r"""(?P<duration>\d{1,9}[smhdw](?![A-Za-z0-9_.]))
      | (?P<number>(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)
      | (?P<name>[A-Za-z][A-Za-z0-9_]*(?:\.[A-Za-z0-9_]+)*)
      | (?P<text>"[^"\n]*"|'[^'\n]*')
      | (?P<mark><=|>=|==|!=|[-+*/(),<>%])""",
    re.VERBOSE | re.ASCII,
)
_SPACE: Final = re.compile(r"\s*", re.ASCII)
_INSTEAD: Final = {
    "=": "equality is written ==",
    "&": "write 'and'",
    "|": "write 'or'",
    "!": "write 'not' or '!='",
    "^": "there are no powers",
    "[": "the value n bars before is lag(x, n)",
    "_": "a name begins with a letter",
    '"': "a text ends with the quotation mark that it begins with",
    "'": "a text ends with the quotation mark that it begins with",
}


class RuleExpressionError(ConfigurationError):
    """A text that is no condition, or asks for what its reader does not have.

    Parameters
    ----------
    reason:
        What is wrong.
    text, position:
        The whole text, and the place in it that is at fault, counted from 0. The message shows the line and a caret.
    """

    def __init__(self, reason: str, text: str, position: int, *, hint: str | None = None) -> None:
        self.reason, self.text, self.position = reason, text, position
        super().__init__(f"{reason}\n{_pointed(text, position)}", hint=hint)

    @property
    def length(self) -> int:
        """How many characters of the text are at fault: the word, number or sign there; 0 behind its end.

        Examples
        --------
        >>> error = RuleExpressionError("unknown name", "close > rsii(14)", 8)
        >>> error.text[error.position : error.position + error.length]
        'rsii'
        """
        found = _TOKEN.match(self.text, self.position)
        return found.end() - self.position if found else int(self.position < len(self.text))

    def __str__(self) -> str:
        return f"{self.message}\n{self.hint}" if self.hint else self.message


def parse_condition(text: str) -> Expression:
    """Read what is true or false; a lone name or call may be either, its reader knows.

    Raises
    ------
    RuleExpressionError
        The text is no condition; it is longer than 2,000 characters, nested deeper than 40 levels, or has more than
        200 parts.

    Examples
    --------
    >>> str(parse_condition("close > 100 and rsi_14 < 30 for 2 bars"))
    'close > 100 and rsi_14 < 30 for 2 bars'
    >>> print(parse_condition('crosses_up(close, 60000) and (rsi(14, "1h") < 30 or not open >= 1.5%)'))
    crosses_up(close, 60000) and (rsi(14, "1h") < 30 or not open >= 1.5%)
    >>> parse_condition("rsi_14 < (30")
    Traceback (most recent call last):
    tapeline.core.rule_expression.RuleExpressionError: ')' is missing before the end
      rsi_14 < (30
                  ^
    """
    parser = _Parser(text)
    found = parser.whole()
    parser.need_condition(found)
    return found


def parse_value(text: str) -> Expression:
    """Read a number, a column or what is computed of them.

    Raises
    ------
    RuleExpressionError
        As of :func:`parse_condition`, or the text is a condition.

    Examples
    --------
    >>> str(parse_value("close - 2 * atr_14"))
    '(close - (2 * atr_14))'
    """
    parser = _Parser(text)
    found = parser.whole()
    parser.need_value(found)
    return found


def did_you_mean(name: str, known: Sequence[str]) -> str:
    """A hint for a name that is not known: the closest known one, or some of them."""
    close = get_close_matches(name, known, n=1)
    if close:
        return f"did you mean '{close[0]}'?"
    shown = ", ".join(known[:12])
    return f"known are {shown}{', ...' if len(known) > 12 else ''}"


@dataclass(frozen=True)
class _Token:
    kind: str
    text: str
    start: int
    end: int


class _Parser:
    """Top-down operator precedence (Pratt 1973) over the words of one text."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.place = self.depth = self.parts = 0
        if len(text) > MAXIMUM_LENGTH:
            self.fail(f"an expression of {len(text)} characters is longer than {MAXIMUM_LENGTH}", MAXIMUM_LENGTH)
        self.tokens = list(self._split())

    def _split(self) -> Iterator[_Token]:
        position, end = 0, len(self.text.rstrip())
        while (position := _SPACE.match(self.text, position).end()) < end:  # type: ignore[union-attr]
            found = _TOKEN.match(self.text, position)
            if found is None or found.lastgroup is None:
                mark = self.text[position]
                self.fail(f"{mark!r} is not understood", position, _INSTEAD.get(mark))
            if found.end() - position > LONGEST_NAME and found.lastgroup in ("name", "text", "number"):
                self.fail(f"a {found.lastgroup} is longer than {LONGEST_NAME} characters", position)
            yield _Token(found.lastgroup, found[0], position, found.end())
            position = found.end()
            if found.lastgroup in ("number", "duration") and self.text[position : position + 1].isalnum():
                self.fail(
                    f"'{found[0]}{self.text[position]}' is neither a number nor a duration",
                    found.start(),
                    "durations end in s, m, h, d or w; names begin with a letter",
                )

    def whole(self) -> Expression:
        if not self.tokens:
            self.fail("the expression is empty", 0)
        result = self.expression(0)
        if self.next is not None:
            hint = "keywords are written in lower case" if self.next.text.lower() in KEYWORDS else None
            self.fail(f"'{self.next.text}' is too much", self.next.start, hint)
        return result

    @property
    def next(self) -> _Token | None:
        return self.tokens[self.place] if self.place < len(self.tokens) else None

    @property
    def position(self) -> int:
        return self.next.start if self.next else len(self.text.rstrip())

    @property
    def last_end(self) -> int:
        return self.tokens[self.place - 1].end

    def has(self, *texts: str) -> bool:
        return self.next is not None and self.next.text in texts and self.next.kind in ("mark", "name")

    def take(self, text: str) -> bool:
        if self.has(text):
            self.place += 1
            return True
        return False

    def expect(self, text: str) -> None:
        if not self.take(text):
            where = f"before '{self.next.text}'" if self.next else "before the end"
            self.fail(f"'{text}' is missing {where}", self.position)

    def expression(self, binding: int) -> Expression:
        """Read as long as operators bind tighter than ``binding``."""
        self.depth += 1
        if self.depth > MAXIMUM_DEPTH:
            self.fail(f"it is nested deeper than {MAXIMUM_DEPTH} levels", self.position, "give its parts names")
        left = self.prefix()
        while (token := self.next) is not None and _BINDING.get(token.text, -1) > binding and token.kind != "text":
            self.place += 1
            left = self.infix(left, token)
        self.depth -= 1
        return left

    def count(self) -> None:
        self.parts += 1
        if self.parts > MAXIMUM_PARTS:
            self.fail(f"it has more than {MAXIMUM_PARTS} parts", self.position, "give some of them names")

    def prefix(self) -> Expression:
        self.count()
        token = self.next
        if token is None:
            self.fail("a value or a condition is missing before the end", self.position)
        self.place += 1
        start = token.start
        if token.text == "(":
            inner = self.expression(0)
            self.expect(")")
            return inner
        if token.text == "-":
            value = self.expression(_BINDING["*"])
            self.need_value(value)
            if isinstance(value, Number):
                return Number(-value.value, value.percent, start=start, end=value.end)
            return Negative(value, start=start, end=self.last_end)
        if token.text == "not":
            condition = self.expression(_NOT)
            self.need_condition(condition)
            return Not(condition, start=start, end=self.last_end)
        return self.atom(token)

    def atom(self, token: _Token) -> Expression:
        start, end = token.start, token.end
        if token.kind == "number":
            value = float(token.text)
            if value > LARGEST:
                self.fail(f"the number {token.text} is too large", start)
            percent = self.take("%")
            return Number(value / 100 if percent else value, percent, start=start, end=self.last_end)
        if token.kind == "duration":
            return Duration(self.nanoseconds(token), start=start, end=end)
        if token.kind == "text":
            if not token.text.isprintable():
                self.fail("a text has a character that cannot be printed", start)
            return Text(token.text[1:-1], start=start, end=end)
        if token.kind != "name" or token.text in KEYWORDS:
            self.fail(f"a value or a condition is missing before '{token.text}'", start)
        if not self.has("("):
            return Name(token.text, start=start, end=end)
        return self.call(token)

    def call(self, token: _Token) -> Expression:
        self.expect("(")
        arguments: list[Expression] = []
        while not self.has(")") or arguments:
            arguments.append(self.expression(0))
            self.need_value(arguments[-1])
            if len(arguments) > MOST_ARGUMENTS:
                self.fail(f"{token.text}() has more than {MOST_ARGUMENTS} arguments", arguments[-1].start)
            if not self.take(","):
                break
        self.expect(")")
        if token.text not in CROSSINGS:
            return Call(token.text, tuple(arguments), start=token.start, end=self.last_end)
        if len(arguments) != 2:
            self.fail(f"{token.text}() takes a value and a level", token.start, f"as in {token.text}(close, 100)")
        for argument in arguments:
            self.need_number(argument)
        return Crossing(token.text == CROSSINGS[0], *arguments, start=token.start, end=self.last_end)

    def infix(self, left: Expression, token: _Token) -> Expression:
        operator, start = token.text, left.start
        if operator in ("and", "or"):
            self.need_condition(left)
            right = self.expression(_BINDING[operator])
            self.need_condition(right)
            parts = (*left.parts, right) if isinstance(left, Logical) and left.operator == operator else (left, right)
            return Logical(operator, parts, start=start, end=self.last_end)
        if operator == "for":
            return self.held(left)
        if operator in COMPARISONS or operator == "between":
            if isinstance(left, CONDITIONS):
                self.fail("a comparison cannot be compared", token.start, "write: x between low and high")
            self.need_number(left)
            right = self.expression(_BINDING["<"])
            self.need_number(right)
            if operator in COMPARISONS:
                return Comparison(operator, left, right, start=start, end=self.last_end)
            self.expect("and")
            high = self.expression(_BINDING["<"])
            self.need_number(high)
            return Between(left, right, high, start=start, end=self.last_end)
        self.need_number(left)
        right = self.expression(_BINDING[operator])
        self.need_number(right)
        return Arithmetic(operator, left, right, start=start, end=self.last_end)

    def nanoseconds(self, token: _Token) -> int:
        length = int(token.text[:-1]) * NANOSECONDS[token.text[-1]]
        if not 0 < length <= LONGEST_DURATION:
            self.fail(f"the duration {token.text} is not between 1s and ten years", token.start)
        return length

    def held(self, condition: Expression) -> Expression:
        self.need_condition(condition)
        self.count()
        token = self.next
        if token is not None and token.kind == "duration":
            self.place += 1
            return Held(condition, 0, self.nanoseconds(token), start=condition.start, end=token.end)
        if token is None or not token.text.isdigit() or not 1 <= int(token.text) <= LONGEST_HOLD:
            self.fail(
                f"'for' needs a duration or a whole number of bars from 1 to {LONGEST_HOLD}",
                self.position,
                "as in 'for 3 bars' or 'for 4h'",
            )
        self.place += 1
        if not (self.take("bars") or self.take("bar")):
            self.expect("bars")
        return Held(condition, int(token.text), start=condition.start, end=self.last_end)

    def need_condition(self, node: Expression) -> None:
        if isinstance(node, ONLY_VALUES):
            self.fail(f"'{node}' is a value, a condition is needed", node.start, "compare it, as in x > 0")

    def need_value(self, node: Expression) -> None:
        if isinstance(node, CONDITIONS):
            self.fail(f"'{node}' is a condition, a value is needed", node.start)

    def need_number(self, node: Expression) -> None:
        self.need_value(node)
        if isinstance(node, Text):
            self.fail(f"the text {node} is no number", node.start, "texts stand only as arguments of functions")

    def fail(self, reason: str, position: int, hint: str | None = None) -> NoReturn:
        raise RuleExpressionError(reason, self.text, position, hint=hint)


_NOT: Final = 3
_BINDING: Final = {
    "or": 1,
    "and": 2,
    **dict.fromkeys((*COMPARISONS, "between", "for"), 4),
    "+": 5,
    "-": 5,
    "*": 6,
    "/": 6,
}


def _pointed(text: str, position: int) -> str:
    """The line of a place, cut to what fits on a screen, and a caret below the place."""
    position = min(max(position, 0), len(text))
    begin = text.rfind("\n", 0, position) + 1
    end = text.find("\n", position)
    line = "".join(mark if mark.isprintable() else " " for mark in text[begin : len(text) if end < 0 else end])
    column = position - begin
    cut = max(column - 50, 0)
    return f"  {line[cut : column + 50]}\n  {' ' * (column - cut)}^"
