"""Kernels of market structure: which closes broke which swing, and the bar an order came from."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit


@njit(cache=True, nogil=True)
def advance_breaks(
    up: Any,
    down: Any,
    rises: Any,
    begin: Any,
    end: Any,
    row: Any,
    at: Any,
    side: Any,
    price: Any,
    swings: Any,
    state: Any,
    levels: Any,
    found: Any,
    stops: Any,
    count: Any,
) -> Any:
    """Walk on through the rows ``begin`` to ``end`` and log each break of the last confirmed swing.

    Parameters
    ----------
    up, down:
        What must exceed a swing high, and fall below a swing low, to break it: closes, or highs and lows.
    rises:
        Whether each bar closed at or above its open: in a bar that breaks both sides, the later of the two breaks.
    row, at, side, price, swings:
        The swings so far, by their confirmation. One confirmed at a bar counts from the next bar on.
    state:
        (swings taken in, trend, row of the standing high or -1, that of the standing low or -1, row of the last high,
        row of the last low), kept between calls.
    levels:
        Prices of the standing high and low, then of the last high and low, broken or not.
    found, stops:
        The log: (row of the break, row of its swing, direction, trend before), and the price of the last swing on the
        other side, NaN before there is one.
    """
    taken, trend, high_row, low_row = state[0], state[1], state[2], state[3]
    for t in range(begin, end):
        for turn in range(2):
            # In a rising bar the low came first.
            upwards = (turn == 1) == rises[t]
            if upwards and high_row >= 0 and up[t] > levels[0]:
                found[count, 0], found[count, 1], found[count, 2], found[count, 3] = t, high_row, 1, trend
                stops[count] = levels[3]
                count += 1
                trend, high_row = 1, -1
            elif not upwards and low_row >= 0 and down[t] < levels[1]:
                found[count, 0], found[count, 1], found[count, 2], found[count, 3] = t, low_row, -1, trend
                stops[count] = levels[2]
                count += 1
                trend, low_row = -1, -1
        while taken < swings and at[taken] <= t:
            if side[taken] > 0:
                high_row = row[taken]
                levels[0] = levels[2] = price[taken]
            else:
                low_row = row[taken]
                levels[1] = levels[3] = price[taken]
            taken += 1
    state[0], state[1], state[2], state[3] = taken, trend, high_row, low_row
    return count


@njit(cache=True, nogil=True)
def opposite_next(confirmed: Any, direction: Any) -> Any:
    """The row of the next finding of the other direction, -1 where there is none.

    Examples
    --------
    >>> opposite_next(np.array([3, 5, 9]), np.array([1, 1, -1])).tolist()
    [9, 9, -1]
    """
    result = np.full(confirmed.size, -1)
    up, down = -1, -1
    for i in range(confirmed.size - 1, -1, -1):
        if direction[i] > 0:
            result[i], up = down, confirmed[i]
        else:
            result[i], down = up, confirmed[i]
    return result


@njit(cache=True, nogil=True)
def order_rows(opened: Any, high: Any, low: Any, close: Any, swing: Any, broken: Any, direction: Any) -> Any:
    """The bar each break came from: the last opposite candle at or before the extreme of the move that broke.

    The extreme is looked for between the broken swing and the break, which no two breaks of one side share, so that
    all of it is one pass.
    """
    result = np.empty(swing.size, np.int64)
    for i in range(swing.size):
        extreme = swing[i]
        for j in range(swing[i], broken[i]):
            if (direction[i] > 0 and low[j] <= low[extreme]) or (direction[i] < 0 and high[j] >= high[extreme]):
                extreme = j
        place = extreme
        while place > swing[i] and not direction[i] * (close[place] - opened[place]) < 0.0:
            place -= 1
        result[i] = place if direction[i] * (close[place] - opened[place]) < 0.0 else extreme
    return result


@njit(cache=True, nogil=True)
def equal_levels(row: Any, at: Any, price: Any, tolerance: Any, max_age: Any, count_needed: Any) -> Any:
    """Swings of one side at the price of earlier ones that still stand: how many, which one first, and their range.

    ``tolerance`` is that of each swing. Standing are the swings none after which has gone beyond; of these, the last
    ones are the nearest in price. Returned a swing: (members, row of the first member), then lowest and highest.
    ``price`` is that of highs; of lows, give it negated.
    """
    members = np.zeros((row.size, 2), np.int64)
    reach = np.zeros((row.size, 2))
    stack = np.empty(row.size, np.int64)
    size = 0
    for i in range(row.size):
        most = price[i]
        first, number = row[i], 1
        least, greatest = most, most
        j = size - 1
        while j >= 0 and price[stack[j]] <= most + tolerance[i]:
            other = stack[j]
            if row[i] - row[other] > max_age:
                break
            if price[other] >= most - tolerance[i]:
                number += 1
                first = min(first, row[other])
                least, greatest = min(least, price[other]), max(greatest, price[other])
            j -= 1
        if number >= count_needed:
            members[i, 0], members[i, 1] = number, first
            reach[i, 0], reach[i, 1] = least, greatest
        # A swing more than the tolerance below this one has been passed; nearer ones still count for the next.
        while size and price[stack[size - 1]] < most - tolerance[i]:
            size -= 1
        stack[size] = i
        size += 1
    return members, reach
