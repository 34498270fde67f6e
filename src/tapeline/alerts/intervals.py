"""Whether a compiled condition can hold at all, by the bounds of what it reads: interval reasoning over its cases."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace
from itertools import product
from typing import Final, NamedTuple

from tapeline.alerts.catalogue import Catalogue, catalogue
from tapeline.alerts.engine import indicators as kinds
from tapeline.alerts.engine import table
from tapeline.alerts.engine.compiled import CompiledRule, Condition
from tapeline.alerts.engine.layout import Indicator, Reading
from tapeline.alerts.operands import opposite

MOST_CASES: Final = 512
_EVER: Final = (-math.inf, math.inf)
_POSITIVE: Final = (0.0, math.inf)


class Interval(NamedTuple):
    """Numbers between two bounds, each of which is left out where it is open; ``without`` are left out as well."""

    low: float = -math.inf
    high: float = math.inf
    low_open: bool = False
    high_open: bool = False
    without: frozenset[float] = frozenset()

    @property
    def empty(self) -> bool:
        """Whether no number is in it."""
        if self.low > self.high or (self.low == self.high and (self.low_open or self.high_open)):
            return True
        return self.low == self.high and self.low in self.without

    def narrowed(self, comparison: int, bound: float) -> Interval:
        """The numbers of it for which a comparison with the bound holds."""
        if comparison == table.UNEQUAL:
            return self._replace(without=self.without | {bound})
        found = self
        if comparison in (table.ABOVE, table.AT_LEAST, table.EQUAL) and bound >= found.low:
            is_open = comparison == table.ABOVE or (bound == found.low and found.low_open)
            found = found._replace(low=bound, low_open=is_open)
        if comparison in (table.BELOW, table.AT_MOST, table.EQUAL) and bound <= found.high:
            is_open = comparison == table.BELOW or (bound == found.high and found.high_open)
            found = found._replace(high=bound, high_open=is_open)
        return found


Case = tuple[Condition, ...]


def truth_of(compiled: CompiledRule, functions: Catalogue | None = None) -> bool | None:
    """False: it can never hold. True: it holds whenever it is known. None: neither can be said.

    Examples
    --------
    >>> from tapeline.alerts.conditions import compile_rule
    >>> from tapeline.alerts.rule import Rule
    >>> texts = ["close > 5 and close < 3", "rsi >= 0 or close > 5", "close > 5"]
    >>> rules = [Rule(id="r", owner="me", condition=text, symbols=("BTCUSDT",)) for text in texts]
    >>> [truth_of(compile_rule(rule)) for rule in rules]
    [False, True, None]
    """
    known = functions or catalogue()
    for wanted in (True, False):
        cases = _cases(compiled, wanted)
        if cases is not None and all(_impossible(case, known) for case in cases):
            return not wanted
    return None


def bounds_of(reading: Reading, functions: Catalogue) -> tuple[float, float]:
    """Between which numbers a reading always is."""
    one, output = reading
    if one.kind == kinds.EXTERNAL:
        return functions.range_of(one.key)
    if one.kind in _ARITHMETIC:
        left = bounds_of(one.left, functions) if one.left else _EVER
        right = bounds_of(one.right, functions) if one.right else (one.factor, one.factor)
        return _combined(one, left, right)
    if one.kind == kinds.BOLLINGER and output == 2:
        return _EVER
    return _BOUNDS.get(one.kind, _EVER)


_ARITHMETIC: Final = frozenset({kinds.ADD, kinds.SUBTRACT, kinds.MULTIPLY, kinds.DIVIDE})
_BOUNDS: Final = {
    **dict.fromkeys(
        (kinds.OPEN, kinds.HIGH, kinds.LOW, kinds.CLOSE, kinds.VOLUME, kinds.SMA, kinds.EMA, kinds.BOLLINGER), _POSITIVE
    ),
    **dict.fromkeys((kinds.ATR, kinds.VOLUME_RATIO, kinds.HIGHEST, kinds.LOWEST, kinds.VOLUME_NORM), _POSITIVE),
    **dict.fromkeys((kinds.TRAILING_HIGH, kinds.TRAILING_LOW, kinds.STREAK), _POSITIVE),
    kinds.RSI: (0.0, 100.0),
    kinds.CHANGE: (-1.0, math.inf),
    kinds.SINCE: (-1.0, math.inf),
}
"""Prices and volumes are not below 0."""


def _combined(one: Indicator, left: tuple[float, float], right: tuple[float, float]) -> tuple[float, float]:
    if one.kind == kinds.ADD:
        return left[0] + right[0], left[1] + right[1]
    if one.kind == kinds.SUBTRACT:
        if one.left == one.right:
            return 0.0, 0.0
        return left[0] - right[1], left[1] - right[0]
    if one.kind == kinds.MULTIPLY:
        ends = [_times(first, second) for first, second in product(left, right)]
        return min(ends), max(ends)
    if right[0] < 0.0 < right[1] or right == (0.0, 0.0):
        return _EVER
    # 0 itself is never divided by: towards it the quotient grows beyond bounds.
    inverse = sorted(math.copysign(math.inf, sum(right)) if end == 0.0 else 1.0 / end for end in right)
    ends = [_times(first, second) for first, second in product(left, inverse)]
    return min(ends), max(ends)


def _times(first: float, second: float) -> float:
    return 0.0 if first == 0.0 or second == 0.0 else first * second


def _cases(compiled: CompiledRule, wanted: bool) -> list[Case] | None:
    """The ways in which it comes out as wanted, each a conjunction of comparisons; None where there are too many.

    Of a crossing that does not happen nothing follows.
    """
    stack: list[tuple[list[Case], list[Case]]] = []
    for step in compiled.program or (0,):
        if step >= 0:
            one = compiled.conditions[step]
            fails: list[Case] = [()] if one.crossing else [(replace(opposite(one), hysteresis=0.0),)]
            stack.append(([_implied(one)], fails))
        elif step == table.NOT:
            first, second = stack.pop()
            stack.append((second, first))
        else:
            right, left = stack.pop(), stack.pop()
            joined, either = (0, 1) if step == table.AND else (1, 0)
            both = [one_way + other for one_way, other in product(left[joined], right[joined])]
            some = left[either] + right[either]
            if len(both) > MOST_CASES or len(some) > MOST_CASES:
                return None
            stack.append((both, some) if step == table.AND else (some, both))
    return stack[-1][0 if wanted else 1]


def _implied(one: Condition) -> Case:
    """What is so where a comparison holds: what it held on to by its hysteresis, and what it has held for."""
    inner = one.left[0]
    if inner.kind in (kinds.STREAK, kinds.SINCE) and inner.left is not None and one.threshold > 0.0:
        return one, Condition(inner.left, inner.n, right=inner.right, threshold=inner.factor)
    return (one,)


def _bound(one: Condition) -> float:
    """What the difference of both sides, or the left side of one with a number, is compared with."""
    bound = one.threshold if one.right is None else 0.0
    if one.crossing:
        return bound
    if one.comparison in (table.ABOVE, table.AT_LEAST):
        return bound - one.hysteresis
    return bound + one.hysteresis if one.comparison in (table.BELOW, table.AT_MOST) else bound


def _impossible(case: Iterable[Condition], functions: Catalogue) -> bool:
    found: dict[tuple[Reading, Reading | None], Interval] = {}
    for one in case:
        key, comparison, bound = (one.left, one.right), one.comparison, _bound(one)
        if one.right is not None and repr(one.left) > repr(one.right):
            key, comparison, bound = (one.right, one.left), _MIRRORED[comparison], -bound
        if key not in found:
            low, high = bounds_of(key[0], functions)
            if key[1] is not None:
                other = bounds_of(key[1], functions)
                low, high = (0.0, 0.0) if key[0] == key[1] else (low - other[1], high - other[0])
            found[key] = Interval(low, high)
        found[key] = found[key].narrowed(comparison, bound)
        if found[key].empty:
            return True
    return False


_MIRRORED: Final = {
    table.ABOVE: table.BELOW,
    table.BELOW: table.ABOVE,
    table.AT_LEAST: table.AT_MOST,
    table.AT_MOST: table.AT_LEAST,
    table.EQUAL: table.EQUAL,
    table.UNEQUAL: table.UNEQUAL,
}
