"""Slow, readable definitions of every candle type, against which the kernels are held.

A tick is ``(ts, price, size, side, spread)``. Nothing here is shared with the library: no numba, no state arrays.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from itertools import pairwise


@dataclass
class Bar:
    ticks: list = field(default_factory=list)
    ts: int = 0
    close_ts: int = 0
    prices: tuple | None = None
    extra: float = 0.0
    volume_is: float | None = None

    def row(self) -> tuple:
        """(ts, close_ts, open, high, low, close, volume, count, buys, spread close, extra)."""
        values = [tick[1] for tick in self.ticks]
        prices = self.prices or (values[0], max(values), min(values), values[-1])
        volume = math.fsum(tick[2] for tick in self.ticks) if self.volume_is is None else self.volume_is
        buys = math.fsum(tick[2] for tick in self.ticks if tick[3] > 0)
        return (self.ts, self.close_ts, *prices, volume, len(self.ticks), buys, self.extra)


def stamped(bars: list[Bar]) -> list[tuple]:
    """First and last tick as times, moved on by a nanosecond where two bars would share one."""
    previous = None
    for bar in bars:
        first, last = (bar.ticks[0][0], bar.ticks[-1][0]) if bar.ticks else (bar.ts, bar.close_ts)
        bar.ts = first if previous is None else max(first, previous + 1)
        bar.close_ts = max(last, bar.ts)
        previous = bar.ts
    return [bar.row() for bar in bars]


def until(ticks, is_complete):
    """Cut the ticks into bars, each complete as soon as ``is_complete(bar's ticks)``."""
    bars, current = [], Bar()
    for tick in ticks:
        current.ticks.append(tick)
        if is_complete(current.ticks):
            bars.append(current)
            current = Bar()
    return bars


def time_bars(ticks, length):
    groups: dict[int, list] = {}
    for tick in ticks:
        groups.setdefault(tick[0] // length * length, []).append(tick)
    opens = sorted(groups)[:-1]
    return [Bar(groups[ts], ts, ts + length).row() for ts in opens]


def tick_bars(ticks, count):
    return stamped(until(ticks, lambda bar: len(bar) >= count))


def volume_bars(ticks, volume):
    return stamped(until(ticks, lambda bar: math.fsum(tick[2] for tick in bar) >= volume))


def dollar_bars(ticks, value):
    return stamped(until(ticks, lambda bar: math.fsum(tick[1] * tick[2] for tick in bar) >= value))


def split_volume_bars(ticks, volume):
    """Every unit of every trade one by one: sizes and volume are whole numbers of quarters here."""
    bars, current, room = [], Bar(), volume
    for ts, price, size, side, spread in ticks:
        left = size
        while True:
            part = min(left, room)
            current.ticks.append((ts, price, part, side, spread))
            left -= part
            room -= part
            if room == 0:
                bars.append(current)
                current, room = Bar(), volume
            if left == 0:
                break
    return stamped(bars)


def range_bars(ticks, size):
    def wide(bar):
        prices = [tick[1] for tick in bar]
        return max(prices) - min(prices) >= size

    return stamped(until(ticks, wide))


def signs(ticks):
    """The aggressor's side, or the sign of the last change of price."""
    found, sign = [], 0
    for j, tick in enumerate(ticks):
        if j and tick[1] != ticks[j - 1][1]:
            sign = 1 if tick[1] > ticks[j - 1][1] else -1
        found.append(tick[3] or sign)
    return found


def information_bars(ticks, measure, *, run, expected_length, span, shortest, longest):
    """Lopez de Prado, section 2.3.2, with bounds on the expected and on the actual length."""
    weight = 2.0 / (span + 1.0)
    amounts = [{"tick": 1.0, "volume": t[2], "dollar": t[1] * t[2]}[measure] for t in ticks]
    side = signs(ticks)

    def average(old, new):
        return new if old is None else old + weight * (new - old)

    length, imbalance, share, buy_mean, sell_mean = float(expected_length), None, None, None, None
    bars, first = [], 0
    for j in range(len(ticks)):
        inside = range(first, j + 1)
        buys = [amounts[i] for i in inside if side[i] > 0]
        sells = [amounts[i] for i in inside if side[i] < 0]
        count = len(inside)
        if not bars:
            threshold = math.nan
            done = count >= expected_length
        else:
            if run:
                chance = share or 0.0
                threshold = length * max(chance * (buy_mean or 0.0), (1.0 - chance) * (sell_mean or 0.0))
                theta = max(sum(buys), sum(sells))
            else:
                threshold = length * abs(imbalance)
                theta = abs(sum(buys) - sum(sells))
            done = count >= longest or (count >= shortest and theta >= threshold)
        if done:
            bars.append(Bar(ticks[first : j + 1], extra=threshold))
            first = j + 1
            length = min(max(length + weight * (count - length), shortest), longest)
            imbalance = average(imbalance, (sum(buys) - sum(sells)) / count)
            if buys or sells:
                share = average(share, len(buys) / (len(buys) + len(sells)))
            if buys:
                buy_mean = average(buy_mean, sum(buys) / len(buys))
            if sells:
                sell_mean = average(sell_mean, sum(sells) / len(sells))
    return stamped(bars)


def renko_bars(ticks, size, *, gaps="bricks", wicks=False):
    """Brick borders as whole multiples of the size from the first price."""
    anchor = ticks[0][1]
    level, direction = 0, 0
    bars, waiting = [], []
    for tick in ticks:
        waiting.append(tick)
        reached = (tick[1] - anchor) / size
        up = level + (1 if direction < 0 else 0)
        down = level - (1 if direction > 0 else 0)
        if reached >= up + 1:
            start, end, step = up, math.floor(reached), 1
        elif reached <= down - 1:
            start, end, step = down, math.ceil(reached), -1
        else:
            continue
        borders = list(range(start, end + step, step))
        if gaps == "merge":
            borders = [start, end]
        for j, (a, b) in enumerate(pairwise(borders)):
            opened, close = anchor + a * size, anchor + b * size
            high, low = max(opened, close), min(opened, close)
            if wicks and j == 0:
                seen = [t[1] for t in waiting]
                high, low = (high, min(low, *seen, low)) if step > 0 else (max(high, *seen), low)
            bars.append(Bar(waiting if j == 0 else [], tick[0], tick[0], (opened, high, low, close), float(j > 0)))
            waiting = waiting if j == 0 else []
        waiting = []
        level, direction = end, step
    return stamped(bars)


class Wilder:
    """Average true range and tick counts of finished interval bars, interval by interval."""

    def __init__(self, length, window, fast):
        self.length, self.window, self.fast_window = length, window, fast
        self.ticks, self.ranges, self.counts, self.last = [], [], [], None
        self.average = self.fast = self.slow = 0.0

    def before(self, ts):
        """Take the forming interval in if it ended by ``ts``."""
        if self.ticks and ts >= (self.ticks[0][0] // self.length + 1) * self.length:
            prices = [tick[1] for tick in self.ticks] + ([] if self.last is None else [self.last])
            self.ranges.append(max(prices) - min(prices))
            self.counts.append(len(self.ticks))
            self.last = self.ticks[-1][1]
            self.ticks = []
            bars = len(self.ranges)
            self.average += (self.ranges[-1] - self.average) / min(bars, self.window)
            self.fast += (self.counts[-1] - self.fast) / min(bars, self.fast_window)
            self.slow += (self.counts[-1] - self.slow) / min(bars, self.window)

    @property
    def known(self):
        return len(self.ranges) >= self.window


def adaptive_bars(ticks, length, *, smallest, largest, multiple, window, fast):
    market = Wilder(length, window, fast)
    bars, current, size = [], Bar(), 0.0
    for tick in ticks:
        market.before(tick[0])
        if market.known:
            if not current.ticks:
                size = multiple * market.average * math.sqrt(market.fast / market.slow)
                size = min(max(size, smallest), largest)
            current.ticks.append(tick)
            prices = [t[1] for t in current.ticks]
            if max(prices) - min(prices) >= size * (1 - 1e-9):
                current.extra = size
                bars.append(current)
                current = Bar()
        market.ticks.append(tick)
    return stamped(bars)


def atr_renko_bars(ticks, length, *, smallest, window, multiple):
    market = Wilder(length, window, window)
    bars, waiting = [], []
    base, size, direction = None, 0.0, 0
    for tick in ticks:
        ts, price = tick[:2]
        market.before(ts)
        if market.known:
            if base is None:
                base, size = price, max(multiple * market.average, smallest)
            waiting.append(tick)
            step = 0
            if price >= base + (2 if direction < 0 else 1) * size - 1e-9 * size:
                step = 1
            elif price <= base - (2 if direction > 0 else 1) * size + 1e-9 * size:
                step = -1
            if step:
                start = 1 if direction == -step else 0
                j = start
                while step * (price - (base + step * (j + 1) * size)) >= -1e-9 * size:
                    opened, close = base + step * j * size, base + step * (j + 1) * size
                    prices = (opened, max(opened, close), min(opened, close), close)
                    bars.append(Bar(waiting if j == start else [], ts, ts, prices, float(j > start)))
                    j += 1
                waiting = []
                base, direction = base + step * j * size, step
                size = max(multiple * market.average, smallest)
        market.ticks.append(tick)
    return stamped(bars)


def heikin_ashi(prices):
    result = []
    for j, (opened, high, low, close) in enumerate(prices):
        middle = (result[-1][0] + result[-1][3]) / 2 if j else (opened + close) / 2
        mean = (opened + high + low + close) / 4
        result.append((middle, max(high, middle, mean), min(low, middle, mean), mean))
    return result
