"""The engine once more, slowly: one symbol, plain objects, every indicator worked out from all bars at each reading.

Written from what rules mean, not from the kernel: lists of closed bars, one forming bar a timeframe, and for each
condition whether it held.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise

from tapeline.alerts.engine import indicators as k
from tapeline.alerts.engine import table
from tapeline.alerts.engine.compiled import CompiledRule, Condition
from tapeline.alerts.engine.kernel import CLOCK, EVENT, GAP, TRADE
from tapeline.alerts.engine.layout import NO_TIMEFRAME, Indicator, Reading

NAN = math.nan
DAY = 86_400_000_000_000


@dataclass
class Bar:
    begin: int
    open: float
    high: float
    low: float
    close: float
    volume: float


@dataclass(frozen=True)
class Fired:
    rule: str
    record: int
    ts: int
    price: float
    truth: bool | None
    at_close: int
    sides: tuple[tuple[float, float, bool | None], ...]


@dataclass
class Told:
    """What is remembered of a rule."""

    rule: CompiledRule
    held: list[bool | None] = field(init=False)
    truth: bool | None = None
    fired_at: int | None = None
    off: bool = False

    def __post_init__(self) -> None:
        self.held = [None] * len(self.rule.conditions)


class Oracle:
    """One symbol. ``timeframes``: those of which its engine keeps bars."""

    def __init__(self) -> None:
        self.rules: list[Told] = []
        self.closed: dict[int, list[Bar]] = {}
        self.forming: dict[int, Bar | None] = {}
        self.price = NAN
        self.newest = -(2**62)
        self.external: dict[Indicator, float] = {}
        self.extreme: dict[Indicator, float] = {}
        self.streak: dict[Indicator, int] = {}
        self.streak_now: dict[Indicator, float] = {}
        self.since: dict[Indicator, int | None] = {}
        self.since_now: dict[Indicator, float] = {}
        self.fired: list[Fired] = []
        self.refused: list[int] = []
        self.late = 0

    def add(self, rule: CompiledRule) -> None:
        self.rules.append(Told(rule))
        for one in rule.indicators():
            self._watch(one)
        if rule.close_of:
            self._frame(rule.close_of)
        if rule.frequency == table.ONCE_PER_BAR:
            self._frame(rule.bar * 1_000_000_000)

    def remove(self, id: str) -> None:
        self.rules = [told for told in self.rules if told.rule.id != id]

    def take(self, record: int, kind: int, ts: int, price: float, size: float, key: Indicator | None = None) -> None:
        if ts < 0:
            self.refused.append(record)
        elif kind == TRADE:
            if not (0 < price < math.inf and 0 <= size < math.inf):
                self.refused.append(record)
            else:
                self._trade(record, ts, price, size)
        elif kind == CLOCK:
            self._close_until(record, ts)
            if self.since:
                self._ask_each(record, max(ts, self.newest))
        elif kind == GAP:
            for told in self.rules:
                for place, condition in enumerate(told.rule.conditions):
                    if condition.crossing:
                        told.held[place] = None
        else:
            assert key is not None
            self._close_until(record, ts)
            before = self.external[key]
            self.external[key] = price
            self._ask_each(record, max(ts, self.newest))
            if kind == EVENT:
                self.external[key] = before
                self._ask_each(record, max(ts, self.newest))

    # Bars

    def _frame(self, duration: int) -> None:
        self.closed.setdefault(duration, [])
        self.forming.setdefault(duration, None)

    def _watch(self, one: Indicator) -> None:
        if one.timeframe != NO_TIMEFRAME:
            self._frame(one.timeframe)
        for side in (one.left, one.right):
            if side is not None:
                self._watch(side[0])
        if one.kind == k.EXTERNAL:
            self.external.setdefault(one, NAN)
        elif one.kind in (k.TRAILING_HIGH, k.TRAILING_LOW):
            self.extreme.setdefault(one, NAN)
        elif one.kind == k.STREAK:
            self.streak.setdefault(one, 0)
            self.streak_now.setdefault(one, NAN)
        elif one.kind == k.SINCE:
            self.since.setdefault(one, None)
            self.since_now.setdefault(one, NAN)

    def _trade(self, record: int, ts: int, price: float, size: float) -> None:
        self._close_until(record, ts)
        began: set[int] = set()
        if ts < self.newest:
            entered = False
            for duration, bar in self.forming.items():
                if bar is not None and bar.begin <= ts < bar.begin + duration:
                    bar.high, bar.low = max(bar.high, price), min(bar.low, price)
                    bar.volume += size
                    entered = True
            if not entered:
                self.refused.append(record)
                return
            self.late += 1
            ts = self.newest
        else:
            for duration, bar in self.forming.items():
                if bar is None:
                    self.forming[duration] = Bar(ts // duration * duration, price, price, price, price, size)
                    began.add(duration)
                else:
                    bar.high, bar.low = max(bar.high, price), min(bar.low, price)
                    bar.close = price
                    bar.volume += size
            self.newest, self.price = ts, price
        self._ask_each(record, ts)
        for told in self.rules:
            rule = told.rule
            level = not any(condition.crossing for condition in rule.conditions)
            again = rule.frequency == table.ONCE_PER_BAR and level and told.truth is True
            if again and rule.bar * 1_000_000_000 in began:
                if rule.watched:
                    self._fire(told, record, ts, 0, True)
                else:
                    self._try(told, record, ts, 0)

    def _close_until(self, record: int, ts: int) -> None:
        while True:
            ends = [bar.begin + duration for duration, bar in self.forming.items() if bar is not None]
            if not ends or min(ends) > ts:
                return
            ended = min(ends)
            ending = [
                duration for duration, bar in self.forming.items() if bar is not None and bar.begin + duration == ended
            ]
            for duration in ending:
                bar = self.forming[duration]
                assert bar is not None
                self.closed[duration].append(bar)
                self.forming[duration] = None
            self.newest = max(self.newest, ended)
            self._follow(ended, frozenset(ending))
            for duration in sorted(ending):
                asked = [told for told in self.rules if told.rule.close_of == duration]
                for told in sorted(asked, key=lambda told: bool(told.rule.program)):
                    self._ask(told, record, ended, sorted(self.forming).index(duration) + 1)

    # Readings

    def read(self, reading: Reading) -> float:
        one, output = reading
        if one.kind == k.EXTERNAL:
            return self.external[one]
        if one.kind in (k.TRAILING_HIGH, k.TRAILING_LOW):
            return self.extreme[one]
        if one.kind == k.STREAK:
            return self.streak_now[one]
        if one.kind == k.SINCE:
            return self.since_now[one]
        if one.kind in (k.ADD, k.SUBTRACT, k.MULTIPLY, k.DIVIDE):
            return self._arithmetic(one)
        forming = self.forming[one.timeframe]
        bars = self.closed[one.timeframe]
        if forming is not None and not one.closed:
            bars = [*bars, forming]
        return value(one, output, bars)

    def _arithmetic(self, one: Indicator) -> float:
        assert one.left is not None
        left = self.read(one.left)
        right = one.factor if one.right is None else self.read(one.right)
        if one.kind == k.DIVIDE:
            return left / right if right else NAN
        return {k.ADD: left + right, k.SUBTRACT: left - right, k.MULTIPLY: left * right}[one.kind]

    def _compared(self, one: Indicator) -> bool | None:
        left = self.price if one.left is None else self.read(one.left)
        return holds(one.n, left, one.factor if one.right is None else self.read(one.right), 0.0)

    def _follow(self, ts: int, ended: frozenset[int] = frozenset()) -> None:
        """What has a memory of its own."""
        for one in self.extreme:
            now = self.price if one.left is None else self.read(one.left)
            if not math.isnan(now):
                pick = max if one.kind == k.TRAILING_HIGH else min
                before = self.extreme[one]
                self.extreme[one] = now if math.isnan(before) else pick(before, now)
        for one in self.streak:
            held = self._compared(one)
            if self.forming[one.timeframe] is not None:
                shut = all(side is None or side[0].closed for side in (one.left, one.right))
                self.streak_now[one] = NAN if held is None else 0 if not held else self.streak[one] + (0 if shut else 1)
            elif one.timeframe in ended:
                self.streak[one] = self.streak[one] + 1 if held else 0
                self.streak_now[one] = NAN if held is None else self.streak[one]
        for one in self.since:
            held = self._compared(one)
            begun = self.since[one]
            if held:
                begun = ts if begun is None else begun
                self.since[one], self.since_now[one] = begun, float(ts - begun)
            else:
                self.since[one], self.since_now[one] = None, NAN if held is None else -1.0

    # Rules

    def _ask_each(self, record: int, ts: int) -> None:
        self._follow(ts)
        for told in self.rules:
            if not told.rule.close_of and not told.rule.program:
                self._ask(told, record, ts, 0)
        for told in self._compound():
            self._ask(told, record, ts, 0)

    def _compound(self) -> list[Told]:
        # Rules of several conditions are settled after those of one, in the order in which a condition of them changed:
        # that of their conditions, which is their own.
        return [told for told in self.rules if told.rule.program and not told.rule.close_of]

    def _ask(self, told: Told, record: int, ts: int, at_close: int) -> None:
        rule = told.rule
        now: list[bool | None] = []
        resting: list[bool | None] = []
        for place, condition in enumerate(rule.conditions):
            before = told.held[place]
            left, right = self.sides(condition)
            held = holds(condition.comparison, left, right, condition.hysteresis if before else 0.0)
            told.held[place] = held
            crosses = held is True and before is False
            now.append(held if not condition.crossing or held is not True else crosses)
            resting.append(held if not condition.crossing or held is not True else False)
        program = rule.program or (0,)
        truth, before_truth = combined(program, now), told.truth
        told.truth = combined(program, resting)
        if rule.watched:
            if truth is not before_truth or (truth is True and rule.frequency == table.ONCE_PER_BAR_CLOSE):
                self._fire(told, record, ts, at_close, truth)
            if told.truth is not truth:
                self._fire(told, record, ts, at_close, told.truth)
        elif truth is True and (before_truth is not True or rule.frequency == table.ONCE_PER_BAR_CLOSE):
            self._try(told, record, ts, at_close)

    def _try(self, told: Told, record: int, ts: int, at_close: int) -> None:
        rule, last = told.rule, told.fired_at
        if told.off:
            return
        if last is not None:
            bar = rule.bar * 1_000_000_000
            if rule.frequency == table.ONCE_PER_BAR and last // bar == ts // bar:
                return
            if ts - last < rule.cooldown * 1_000_000:
                return
        told.off = rule.frequency == table.ONCE
        told.fired_at = ts
        self._fire(told, record, ts, at_close, True)

    def _fire(self, told: Told, record: int, ts: int, at_close: int, truth: bool | None) -> None:
        sides = tuple(
            (*self.sides(condition), held) for condition, held in zip(told.rule.conditions, told.held, strict=True)
        )
        self.fired.append(Fired(told.rule.id, record, ts, self.price, truth, at_close, sides))

    def sides(self, condition: Condition) -> tuple[float, float]:
        right = condition.threshold if condition.right is None else self.read(condition.right)
        return self.read(condition.left), right


def holds(comparison: int, left: float, right: float, hysteresis: float) -> bool | None:
    if math.isnan(left) or math.isnan(right):
        return None
    away = left - right
    tests: dict[int, Callable[[], bool]] = {
        table.ABOVE: lambda: away > -hysteresis,
        table.BELOW: lambda: away < hysteresis,
        table.AT_LEAST: lambda: away >= -hysteresis,
        table.AT_MOST: lambda: away <= hysteresis,
        table.EQUAL: lambda: away == 0,
        table.UNEQUAL: lambda: away != 0,
    }
    return tests[comparison]()


def combined(program: tuple[int, ...], truths: list[bool | None]) -> bool | None:
    stack: list[bool | None] = []
    for step in program:
        if step >= 0:
            stack.append(truths[step])
        elif step == table.NOT:
            last = stack.pop()
            stack.append(None if last is None else not last)
        else:
            pair = (stack.pop(), stack.pop())
            deciding = step == table.OR
            stack.append(deciding if deciding in pair else None if None in pair else not deciding)
    return stack[0]


def value(one: Indicator, output: int, bars: list[Bar]) -> float:
    """An indicator of a list of bars, the last one its newest."""
    kind, n = one.kind, one.n
    if not bars:
        return NAN
    last = bars[-1]
    closes = [bar.close for bar in bars]
    if kind <= k.VOLUME:
        return (last.open, last.high, last.low, last.close, last.volume)[kind]
    if kind == k.SMA:
        return math.fsum(closes[-n:]) / n if len(closes) >= n else NAN
    if kind == k.EMA:
        return exponential(closes, n)[-1]
    if kind == k.RSI:
        return relative_strength(closes, n)
    if kind == k.MACD:
        return convergence(closes, one)[output]
    if kind == k.BOLLINGER:
        if len(closes) < n:
            return NAN
        mean = math.fsum(closes[-n:]) / n
        width = one.factor * math.sqrt(math.fsum((x - mean) ** 2 for x in closes[-n:]) / n)
        return (mean, mean + width, mean - width)[output]
    if kind == k.ATR:
        ranges = [max(bar.high, before.close) - min(bar.low, before.close) for before, bar in pairwise(bars)]
        return wilder(ranges, n)
    if kind == k.CHANGE:
        return last.close / closes[-1 - n] - 1 if len(closes) > n else NAN
    if kind == k.VOLUME_NORM:
        same = [bar.volume for bar in bars[:-1] if bar.begin % DAY == last.begin % DAY]
        return math.fsum(same[-n:]) / n if len(same) >= n else NAN
    before = bars[-1 - n : -1]
    if len(before) < n:
        return NAN
    if kind == k.HIGHEST:
        return max(bar.high for bar in before)
    if kind == k.LOWEST:
        return min(bar.low for bar in before)
    mean = math.fsum(bar.volume for bar in before) / n
    if kind == k.VOLUME_RATIO:
        return last.volume / mean if mean > 0 else NAN
    assert kind == k.VOLUME_SCORE
    deviation = math.sqrt(math.fsum((bar.volume - mean) ** 2 for bar in before) / n)
    return (last.volume - mean) / deviation if deviation > 0 else NAN


def exponential(values: list[float], n: int) -> list[float]:
    out: list[float] = []
    for place in range(len(values)):
        if place < n - 1:
            out.append(NAN)
        elif place == n - 1:
            out.append(math.fsum(values[:n]) / n)
        else:
            out.append(out[-1] + (values[place] - out[-1]) * 2 / (n + 1))
    return out


def wilder(values: list[float], n: int) -> float:
    if len(values) < n:
        return NAN
    mean = math.fsum(values[:n]) / n
    for one in values[n:]:
        mean = (mean * (n - 1) + one) / n
    return mean


def relative_strength(closes: list[float], n: int) -> float:
    changes = [after - before for before, after in pairwise(closes)]
    gain, loss = wilder([max(one, 0.0) for one in changes], n), wilder([max(-one, 0.0) for one in changes], n)
    if math.isnan(gain):
        return NAN
    return 100 * gain / (gain + loss) if gain + loss > 0 else 0.0


def convergence(closes: list[float], one: Indicator) -> tuple[float, float, float]:
    # Both averages have their first value at the slow one's.
    fast = exponential(closes[one.n2 - one.n :], one.n)
    slow = exponential(closes, one.n2)[one.n2 - 1 :]
    if not slow:
        return NAN, NAN, NAN
    lines = [a - b for a, b in zip(fast[one.n - 1 :], slow, strict=True)]
    signal = exponential(lines, one.n3)[-1]
    return lines[-1], signal, lines[-1] - signal
