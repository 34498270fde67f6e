"""The bar that is being formed, and the state arrays in which it survives between two calls.

All of a builder's state lies in one float64 and one int64 array, so that it can be written down and restored to the
last bit. A kernel loads the forming bar into local variables, runs over its records and stores it back.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
from numba import carray, njit, types  # type: ignore[attr-defined]
from numba.extending import intrinsic

from tapeline.candles.records import Floats, Integers, Records

# The integer state: the forming bar (0-3), order and uniqueness (4-5), which columns are known, one row for push,
# the type's options (9-11), the instant up to which a clock has closed the bars, and what the family needs.
PREVIOUS_TS: Final = 4
LAST_RECORD_TS: Final = 5
COLUMNS: Final = 6
ROW_TS: Final = 7
ROW_SIDE: Final = 8
OPTION: Final = 9
CLOSED_UNTIL: Final = 12
FAMILY_INTEGERS: Final = 13
INTEGERS: Final = 24

# The float state: the forming bar (0-12), one row for push, the parameters, what the family needs.
ROW_PRICE: Final = 13
ROW_SIZE: Final = 14
ROW_SPREAD: Final = 15
PARAMETERS: Final = 16
FAMILY_FLOATS: Final = 24
FLOATS: Final = 48

# The rows of the output arrays.
OUT_FLOATS: Final = 10
OUT_INTEGERS: Final = 3
OUT_EXTRA: Final = 9
FEW: Final = 8
MEMORY: Final = FLOATS + INTEGERS + (OUT_FLOATS + OUT_INTEGERS) * FEW

NEVER: Final = -(2**62)
"""Before every instant of a 64-bit nanosecond clock, and far enough from its end that adding to it does not wrap."""


@intrinsic
def _floats_at(typingctx: Any, address: Any) -> Any:
    """An address as a pointer to float64."""
    return types.CPointer(types.float64)(types.int64), _cast_address


@intrinsic
def _integers_at(typingctx: Any, address: Any) -> Any:
    """An address as a pointer to int64."""
    return types.CPointer(types.int64)(types.int64), _cast_address


def _cast_address(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    return builder.inttoptr(arguments[0], context.get_value_type(signature.return_type))


class Forming(NamedTuple):
    """The bar that is being formed; ``rows`` 0 means that there is none.

    ``*_rest`` is the part of a sum that its last addition rounded away: sums are compensated (Kahan, Communications
    of the ACM 8(1), 1965), so that ten trades of 0.1 make a volume of 1 and a large trade does not swallow small ones.
    """

    rows: int
    ts: int
    known: int
    ticks: int
    open: float
    high: float
    low: float
    close: float
    volume: float
    volume_rest: float
    value: float
    value_rest: float
    buy: float
    buy_rest: float
    spread: float
    spread_rest: float
    spread_close: float


def new_memory() -> Floats:
    """The memory of a builder: its empty state, and room for the bars of a single tick."""
    memory = np.zeros(MEMORY)
    views(memory)[1][np.array([PREVIOUS_TS, LAST_RECORD_TS, CLOSED_UNTIL])] = NEVER
    return memory


def views(memory: Floats) -> tuple[Floats, Integers, Floats, Integers]:
    """State floats, state integers, and output arrays for a few bars: four views of one array."""
    first = FLOATS + INTEGERS
    second = first + OUT_FLOATS * FEW
    return (
        memory[:FLOATS],
        memory[FLOATS:first].view(np.int64),
        memory[first:second].reshape(OUT_FLOATS, FEW),
        memory[second:].view(np.int64).reshape(OUT_INTEGERS, FEW),
    )


@njit(cache=True)
def views_at(address: int) -> tuple[Floats, Integers, Floats, Integers]:
    """The same views inside compiled code, of the memory that begins at an address.

    Arrays made from an address are not reference-counted. For a single tick the counting alone, an atomic operation
    for each array that is passed on, costs four times what adding the tick costs. Whoever owns the memory keeps it
    alive and in place.
    """
    first = FLOATS + INTEGERS
    second = first + OUT_FLOATS * FEW
    return (
        carray(_floats_at(address), (FLOATS,)),  # type: ignore[call-arg]
        carray(_integers_at(address + 8 * FLOATS), (INTEGERS,)),  # type: ignore[call-arg]
        carray(_floats_at(address + 8 * first), (OUT_FLOATS, FEW)),  # type: ignore[call-arg]
        carray(_integers_at(address + 8 * second), (OUT_INTEGERS, FEW)),  # type: ignore[call-arg]
    )


@njit(cache=True)
def plus(total: float, rest: float, value: float) -> tuple[float, float]:
    """One step of Kahan's compensated sum.

    Examples
    --------
    >>> plus(1.0, 0.0, 1e-17)
    (1.0, -1e-17)
    """
    corrected = value - rest
    larger = total + corrected
    return larger, (larger - total) - corrected


@njit(cache=True)
def nothing() -> Forming:
    """No forming bar."""
    return Forming(0, 0, 0, 0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)


@njit(cache=True)
def started(records: Records, i: int, ts: int) -> Forming:
    """A bar that opens at ``ts`` with record ``i``, which is still to be added."""
    return Forming(
        0,
        ts,
        ts,
        0,
        records.open[i],
        records.high[i],
        records.low[i],
        records.close[i],
        0.0,
        0.0,
        0.0,
        0.0,
        0.0,
        0.0,
        0.0,
        0.0,
        0.0,
    )


@njit(cache=True)
def grown(bar: Forming, records: Records, i: int, share: float) -> Forming:
    """The bar with ``share`` (1 where a trade is not split) of record ``i`` added."""
    count = records.ticks[i] if records.ticks.size else 1
    size = records.volume[i] * share if records.volume.size else 0.0
    traded = records.value[i] * share if records.value.size else size * records.close[i]
    buy, buy_rest = bar.buy, bar.buy_rest
    if records.buy.size:
        buy, buy_rest = plus(buy, buy_rest, records.buy[i] * share)
    elif records.side.size:
        buy, buy_rest = plus(buy, buy_rest, size if records.side[i] > 0 else 0.0)
    spread, spread_rest, spread_close = bar.spread, bar.spread_rest, bar.spread_close
    if records.spread.size:
        spread, spread_rest = plus(spread, spread_rest, records.spread[i] * count)
        spread_close = records.spread_close[i]
    volume, volume_rest = plus(bar.volume, bar.volume_rest, size)
    value, value_rest = plus(bar.value, bar.value_rest, traded)
    return Forming(
        bar.rows + 1,
        bar.ts,
        records.known[i],
        bar.ticks + count,
        bar.open,
        max(bar.high, records.high[i]),
        min(bar.low, records.low[i]),
        records.close[i],
        volume,
        volume_rest,
        value,
        value_rest,
        buy,
        buy_rest,
        spread,
        spread_rest,
        spread_close,
    )


@njit(cache=True)
def loaded(floats: Floats, integers: Integers) -> Forming:
    """The forming bar out of the state arrays."""
    return Forming(
        integers[0],
        integers[1],
        integers[2],
        integers[3],
        floats[0],
        floats[1],
        floats[2],
        floats[3],
        floats[4],
        floats[5],
        floats[6],
        floats[7],
        floats[8],
        floats[9],
        floats[10],
        floats[11],
        floats[12],
    )


@njit(cache=True)
def store(bar: Forming, floats: Floats, integers: Integers) -> None:
    """The forming bar into the state arrays."""
    integers[0], integers[1], integers[2], integers[3] = bar.rows, bar.ts, bar.known, bar.ticks
    floats[0], floats[1], floats[2], floats[3] = bar.open, bar.high, bar.low, bar.close
    floats[4], floats[5], floats[6], floats[7] = bar.volume, bar.volume_rest, bar.value, bar.value_rest
    floats[8], floats[9], floats[10], floats[11] = bar.buy, bar.buy_rest, bar.spread, bar.spread_rest
    floats[12] = bar.spread_close


@njit(cache=True)
def emit(
    bar: Forming, ts: int, close_ts: int, extra: float, out_floats: Floats, out_integers: Integers, k: int
) -> None:
    """The finished bar as column ``k`` of the output arrays."""
    out_floats[0, k], out_floats[1, k], out_floats[2, k], out_floats[3, k] = bar.open, bar.high, bar.low, bar.close
    out_floats[4, k], out_floats[5, k], out_floats[6, k] = bar.volume, bar.value, bar.buy
    out_floats[7, k], out_floats[8, k], out_floats[9, k] = bar.spread, bar.spread_close, extra
    out_integers[0, k], out_integers[1, k], out_integers[2, k] = ts, close_ts, bar.ticks


@njit(cache=True)
def one_row(
    floats: Floats, integers: Integers, ts: int, price: float, size: float, side: int, spread: float
) -> Records:
    """One tick or trade as records, in slots of the state arrays: no array is allocated for it."""
    integers[ROW_TS], integers[ROW_SIDE] = ts, side
    floats[ROW_PRICE], floats[ROW_SIZE], floats[ROW_SPREAD] = price, size, spread
    columns = integers[COLUMNS]
    stamp = integers[ROW_TS : ROW_TS + 1]
    value = floats[ROW_PRICE : ROW_PRICE + 1]
    has_volume, has_spread, has_side = columns & 1, (columns & 4) >> 2, (columns & 8) >> 3
    quoted = floats[ROW_SPREAD : ROW_SPREAD + has_spread]
    return Records(
        stamp,
        stamp,
        value,
        value,
        value,
        value,
        floats[ROW_SIZE : ROW_SIZE + has_volume],
        floats[0:0],
        floats[0:0],
        integers[ROW_SIDE : ROW_SIDE + 1].view(np.int8)[0:has_side],
        quoted,
        quoted,
        integers[0:0],
    )


@njit(cache=True)
def refuses(integers: Integers, ts: int, price: float, size: float, side: int, spread: float) -> bool:
    """True where one row must take the path that checks and explains; otherwise its time is noted as the last seen."""
    good = ts >= integers[LAST_RECORD_TS] and ts >= integers[CLOSED_UNTIL]
    good = good and 0.0 < price < np.inf and 0.0 <= size < np.inf and -1 <= side <= 1 and -np.inf < spread < np.inf
    if good:
        integers[LAST_RECORD_TS] = ts
    return not good
