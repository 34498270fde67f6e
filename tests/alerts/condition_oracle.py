"""Conditions evaluated by walking the tree at each trade, over bars as plain rows: the engine must agree with it."""

from __future__ import annotations

import math
from typing import Any

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
    walk,
)

MINUTE = 60_000_000_000
LENGTHS = {"1m": MINUTE, "5m": 5 * MINUTE}
COLUMNS = ("open", "high", "low", "close", "volume")


class Tape:
    """Bars of both timeframes; the last row of each may still be under way."""

    def __init__(self) -> None:
        self.bars: dict[str, list[list[float]]] = {name: [] for name in LENGTHS}

    def trade(self, ts: int, price: float, size: float) -> None:
        """Take a trade; bars that ended before it are closed."""
        for name, length in LENGTHS.items():
            rows, begin = self.bars[name], ts // length
            if not rows or rows[-1][5] != begin:
                rows.append([price, price, price, price, size, begin])
            else:
                row = rows[-1]
                row[1], row[2], row[3] = max(row[1], price), min(row[2], price), price
                row[4] += size


class Walker:
    """One rule over one tape: which trades fire."""

    def __init__(self, tree: Expression, timeframe: str = "1m") -> None:
        self.tree, self.timeframe, self.tape = tree, timeframe, Tape()
        self.before: dict[int, bool | None] = {}
        self.streaks: dict[int, int] = {}
        self.state: bool | None = None
        self.closing = 0

    def trade(self, ts: int, price: float, size: float) -> bool:
        """Whether the rule fires with the trade."""
        self._closes(ts)
        self.closing = 0
        self.tape.trade(ts, price, size)
        self.now: dict[int, bool | None] = {}
        found = self.truth(self.tree, pulses=True)
        fires = found is True and self.state is not True
        self.state = self.truth(self.tree, pulses=False)
        self.before = self.now
        return fires

    def _closes(self, ts: int) -> None:
        """Count the bars at whose close a held comparison held: of its timeframe where it has one, else the rule's."""
        for node in _held(self.tree):
            timeframe = self._timeframe(node)
            rows = self.tape.bars[timeframe]
            if rows and rows[-1][5] != ts // LENGTHS[timeframe]:
                self.closing = (int(rows[-1][5]) + 1) * LENGTHS[timeframe]
                held = self.truth(node.condition, pulses=False) is True
                self.streaks[id(node)] = self.streaks.get(id(node), 0) + 1 if held else 0

    def _timeframe(self, node: Held) -> str:
        found = {
            next((_plain(one) for one in getattr(part, "arguments", ()) if _plain(one) in LENGTHS), self.timeframe)
            for part in walk(node)
            if isinstance(part, Name | Call)
        }
        return found.pop() if len(found) == 1 else self.timeframe

    def truth(self, node: Expression, *, pulses: bool) -> bool | None:
        match node:
            case Comparison(operator=mark, left=left, right=right):
                return _compared(self.value(left), mark, self.value(right))
            case Between(value=value, low=low, high=high):
                one = self.value(value)
                return _all([_compared(one, ">=", self.value(low)), _compared(one, "<=", self.value(high))])
            case Crossing(up=up, value=value, level=level):
                held = _compared(self.value(value), ">" if up else "<", self.value(level))
                self.now[id(node)] = held
                if held is not True:
                    return held
                return pulses and self.before.get(id(node)) is False
            case Not(condition=inner):
                found = self.truth(inner, pulses=pulses)
                return None if found is None else not found
            case Logical(operator=operator, parts=parts):
                found_all = [self.truth(part, pulses=pulses) for part in parts]
                if operator == "and":
                    return _all(found_all)
                turned = _all([None if one is None else not one for one in found_all])
                return None if turned is None else not turned
            case Held(condition=inner, bars=bars):
                now = self.truth(inner, pulses=pulses)
                if now is None:
                    return None
                return now and self.streaks.get(id(node), 0) + 1 >= bars
        raise AssertionError(node)

    def value(self, node: Expression) -> float:
        match node:
            case Number(value=value):
                return value
            case Negative(value=inner):
                return -self.value(inner)
            case Arithmetic(operator=operator, left=left, right=right):
                first, second = self.value(left), self.value(right)
                if operator == "/":
                    return first / second if second != 0.0 else math.nan
                return {"+": first + second, "-": first - second, "*": first * second}[operator]
            case Name(name=name):
                return self.reading(name, [])
            case Call(function=name, arguments=arguments):
                return self.reading(name, [_plain(one) for one in arguments])
        raise AssertionError(node)

    def reading(self, name: str, arguments: list[Any]) -> float:
        timeframe = next((one for one in arguments if one in LENGTHS), self.timeframe)
        rows = self.tape.bars[timeframe]
        if name in COLUMNS:
            place = -1
            if "closed" in arguments and (not rows or (rows[-1][5] + 1) * LENGTHS[timeframe] > self.closing):
                place = -2
            return rows[place][COLUMNS.index(name)] if len(rows) >= -place else math.nan
        bars = next(int(one) for one in arguments if isinstance(one, float))
        before = rows[-1 - bars : -1]
        if len(before) < bars:
            return math.nan
        return max(row[1] for row in before) if name == "highest" else min(row[2] for row in before)


def _held(node: Expression) -> list[Held]:
    return [one for one in walk(node) if isinstance(one, Held)]


def _plain(node: Expression) -> Any:
    if isinstance(node, Text):
        return node.value
    return str(node) if isinstance(node, Duration) else node.value  # type: ignore[union-attr]


def _compared(left: float, mark: str, right: float) -> bool | None:
    if math.isnan(left - right):
        return None
    return {
        ">": left > right, "<": left < right, ">=": left >= right, "<=": left <= right, "==": left == right,
        "!=": left != right,
    }[mark]  # fmt: skip


def _all(truths: list[bool | None]) -> bool | None:
    if False in truths:
        return False
    return None if None in truths else True
