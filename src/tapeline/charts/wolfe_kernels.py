"""The kernel that reads Wolfe waves off runs of five pivots."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit


@njit(cache=True, nogil=True)
def wolfe_runs(
    row: Any, confirmed: Any, side: Any, price: Any, bar_high: Any, bar_low: Any, usual: Any, overshoot: Any, reach: Any
) -> Any:
    """Every run of five pivots that is a Wolfe wave.

    Returns
    -------
    The index of point 5 among the pivots, and float64 of shape (found, 5): the prices at the row of point 5 of the line
    1-3 and of the far end of the sweet zone, the price of the line 1-4 at the confirmation and at the arrival, and the
    score.
    """
    last, values = np.empty(row.size, np.int64), np.empty((row.size, 5))
    count = 0
    for e in range(4, row.size):
        a, b, c, d = e - 4, e - 3, e - 2, e - 1
        # As if the wave were the bullish one: up is the way that price should go from point 5.
        up = -float(side[e])
        one, two, three = up * price[a], up * price[b], up * price[c]
        four, five = up * price[d], up * price[e]
        if not (three < one < four < two):
            continue
        lower = (three - one) / (row[c] - row[a])
        upper = (four - two) / (row[d] - row[b])
        if not upper < lower:
            continue
        line = one + lower * (row[e] - row[a])
        zone = three + upper * (row[e] - row[c])
        known = confirmed[e]
        if not (five < line and five >= zone - overshoot * usual[known]):
            continue
        # Counted from point 1, so that the last bit is the same wherever the bars begin.
        arrival = (two - one - upper * (row[b] - row[a])) / (lower - upper)
        if not (known - row[a] < arrival <= (1.0 + reach) * (row[e] - row[a])):
            continue
        rise = (four - one) / (row[d] - row[a])
        passed = False
        for t in range(row[e] + 1, known + 1):
            best = bar_high[t] if up > 0.0 else -bar_low[t]
            if best >= one + rise * (t - row[a]):
                passed = True
                break
        if passed:
            continue
        first, second = two - one, four - three
        early, late = row[c] - row[a], row[e] - row[c]
        last[count] = e
        values[count, 0], values[count, 1] = up * line, up * zone
        values[count, 2] = up * (one + rise * (known - row[a]))
        values[count, 3] = up * (one + rise * arrival)
        values[count, 4] = 0.5 * (min(first, second) / max(first, second) + min(early, late) / max(early, late))
        count += 1
    return last[:count], values[:count]
