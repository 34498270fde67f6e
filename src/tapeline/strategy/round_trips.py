"""From fills to round trips: what each position cost and earned, from flat to flat."""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np
from numba import njit

from tapeline.core.kernel_options import BORROWED, INNER
from tapeline.strategy.account_kernels import (
    FILL_COMMISSION,
    FILL_PRICE,
    FILL_QUANTITY,
    FILL_REASON,
    FILL_REFERENCE,
    FILL_ROW,
)

ENTRY_ROW, EXIT_ROW, REASON = range(3)
CODES: Final = 3
(QUANTITY, ENTRY_PRICE, EXIT_PRICE, GROSS, COMMISSION, SLIPPAGE, FINANCING, NET, ADVERSE, FAVOURABLE) = range(10)
AMOUNTS: Final = 10
OPEN: Final = -1
"""The exit row and the reason of a position that is still held; it is valued at the last close."""


@njit(cache=True, nogil=True)
def round_trips(market: Any, fill_codes: Any, fill_amounts: Any, charged: Any, rows: Any) -> Any:
    """Codes and amounts, one row a round trip.

    A fill that turns a position round is cut in two, and its commission and slippage with it, by quantity.
    """
    fills = fill_codes.shape[0]
    codes, amounts = np.empty((fills, CODES), np.int64), np.empty((fills, AMOUNTS))
    # Typed: for a plain constant among its arguments a kernel is compiled anew.
    count, seen = np.int64(0), np.int64(0)
    position = 0.0
    # Of the trip under way: units and money in, units and money out, worst and best move, next row to look at.
    units_in, money_in, units_out, money_out, worst, best = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    for fill in range(fills):
        row, left = fill_codes[fill, FILL_ROW], fill_amounts[fill, FILL_QUANTITY]
        whole, price, base = abs(left), fill_amounts[fill, FILL_PRICE], fill_amounts[fill, FILL_REFERENCE]
        while left != 0.0:
            side = 1.0 if position > 0.0 or (position == 0.0 and left > 0.0) else -1.0
            adding = side * left > 0.0
            if position == 0.0:
                codes[count, ENTRY_ROW], codes[count, EXIT_ROW], codes[count, REASON] = row, OPEN, OPEN
                amounts[count] = 0.0
                units_in, money_in, units_out, money_out, worst, best = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
                seen = row
            elif seen < row:
                worst, best = _excursion(
                    market, codes[count, ENTRY_ROW], seen, row, side, money_in / units_in, worst, best
                )
                seen = row
            part = abs(left) if adding else min(abs(left), abs(position))
            # What is left within rounding is nothing: the engine lands on the wanted position exactly.
            closes = not adding and part >= abs(position) * (1.0 - 1e-9)
            amounts[count, COMMISSION] += fill_amounts[fill, FILL_COMMISSION] * (part / whole)
            amounts[count, SLIPPAGE] += abs(price - base) * part
            if adding:
                units_in += part
                money_in += part * price
                position += side * part
                left -= side * part
            else:
                units_out += part
                money_out += part * price
                mean = money_in / units_in
                move = _move(price, side, mean)
                worst, best = min(worst, move), max(best, move)
                position = 0.0 if closes else position - side * part
                left += side * part
                if abs(left) < whole * 1e-9:
                    left = 0.0
            if closes:
                codes[count, EXIT_ROW], codes[count, REASON] = row, fill_codes[fill, FILL_REASON]
                _settle(
                    market,
                    codes,
                    amounts,
                    charged,
                    count,
                    side,
                    units_in,
                    money_in,
                    units_out,
                    money_out,
                    worst,
                    best,
                    row,
                )
                count += 1
    if position != 0.0:
        side = 1.0 if position > 0.0 else -1.0
        worst, best = _excursion(market, codes[count, ENTRY_ROW], seen, rows, side, money_in / units_in, worst, best)
        mark = math.nan
        for row in range(rows - 1, -1, -1):
            if -math.inf < market.close[row] < math.inf:
                mark = market.close[row]
                break
        if math.isnan(mark):
            mark = money_in / units_in
        _settle(
            market,
            codes,
            amounts,
            charged,
            count,
            side,
            units_in,
            money_in,
            units_out + abs(position),
            money_out + abs(position) * mark,
            worst,
            best,
            rows - 1,
        )
        amounts[count, EXIT_PRICE] = math.nan
        count += 1
    return codes[:count], amounts[:count]


@njit(**INNER)
def _excursion(market: Any, entry: Any, begin: Any, end: Any, side: Any, mean: Any, worst: Any, best: Any) -> Any:
    """Extreme moves against and for a position, over the bars from ``begin`` up to ``end`` without it.

    A move grows with its price, so the extreme prices give the extreme moves: to the bit, rounding keeps the order.
    """
    high, low = market.high, market.low
    if begin == entry and begin < end:
        # Its best price may have come before the entry; its worst is taken to have come after.
        if -math.inf < low[begin] <= high[begin] < math.inf:
            worst = min(worst, _move(low[begin] if side > 0.0 else high[begin], side, mean))
            if math.isfinite(market.close[begin]):
                best = max(best, _move(market.close[begin], side, mean))
        begin += 1
    lowest, highest = math.inf, -math.inf
    for row in range(begin, end):
        if -math.inf < low[row] <= high[row] < math.inf:
            lowest, highest = min(lowest, low[row]), max(highest, high[row])
    if lowest <= highest:
        against, along = (lowest, highest) if side > 0.0 else (highest, lowest)
        worst, best = min(worst, _move(against, side, mean)), max(best, _move(along, side, mean))
    return worst, best


@njit(inline="always", **BORROWED)
def _move(price: Any, side: Any, mean: Any) -> Any:
    return side * (price - mean) / abs(mean)


@njit(**INNER)
def _settle(
    market: Any,
    codes: Any,
    amounts: Any,
    charged: Any,
    count: Any,
    side: Any,
    units_in: Any,
    money_in: Any,
    units_out: Any,
    money_out: Any,
    worst: Any,
    best: Any,
    last: Any,
) -> None:
    financing = 0.0
    if charged.size > 0:
        for row in range(codes[count, ENTRY_ROW] + 1, last + 1):
            financing += charged[row]
    amounts[count, QUANTITY] = side * units_in
    amounts[count, ENTRY_PRICE], amounts[count, EXIT_PRICE] = money_in / units_in, money_out / units_out
    amounts[count, GROSS], amounts[count, FINANCING] = side * (money_out - money_in), financing
    amounts[count, NET] = amounts[count, GROSS] - amounts[count, COMMISSION] - financing
    amounts[count, ADVERSE], amounts[count, FAVOURABLE] = worst, best
