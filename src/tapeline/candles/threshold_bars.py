"""Tick, volume and dollar bars: a bar is complete when enough has been traded in it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numba import njit

from tapeline.candles.candle_type import CandleType, Kernel, Push, require, require_count, require_positive
from tapeline.candles.forming import (
    OPTION,
    PARAMETERS,
    PREVIOUS_TS,
    emit,
    grown,
    loaded,
    nothing,
    one_row,
    refuses,
    started,
    store,
    views_at,
)
from tapeline.candles.records import Floats, Integers, Records
from tapeline.core.errors import DataError, SchemaError

ROUNDING: Final = 1e-12
"""The relative shortfall that counts as having reached a threshold: ten trades of 0.1 do make one of 1."""

MAXIMUM_PARTS: Final = 100_000
"""Bars over which one trade may be split: a wrong size must not fill the memory."""

_TICKS, _VOLUME, _VALUE = 0, 1, 2


@dataclass(frozen=True)
class TickCandles(CandleType):
    """A bar every ``count`` ticks or trades (of finer bars: when their tick counts add up to that).

    Source: Lopez de Prado, Advances in Financial Machine Learning (2018), section 2.3.1.2.
    """

    count: int

    def __post_init__(self) -> None:
        require_count(self, "count", self.count)

    @property
    def kernel(self) -> Kernel:
        """The loop over records."""
        return threshold_kernel

    @property
    def push(self) -> Push:
        """The step for one record."""
        return push_threshold

    def prepare(self, floats: Floats, integers: Integers) -> None:
        """Write threshold and measure."""
        floats[PARAMETERS], integers[OPTION] = self.count, _TICKS


@dataclass(frozen=True)
class VolumeCandles(CandleType):
    """A bar each time ``volume`` units have been traded.

    Source: Lopez de Prado, Advances in Financial Machine Learning (2018), section 2.3.1.3.

    Parameters
    ----------
    volume:
        The threshold.
    split:
        False: the trade that reaches the threshold belongs to the bar as a whole, so bars hold at least the threshold.
        True: it is divided, so that every bar holds exactly the threshold; a large trade makes several bars, all at
        its price, and counts as one tick in each of them. Bars cannot be split.
    """

    volume: float
    split: bool = False

    def __post_init__(self) -> None:
        require_positive(self, "volume", self.volume)
        require(isinstance(self.split, bool), self, "split", self.split, "True or False")

    @property
    def kernel(self) -> Kernel:
        """The loop over records."""
        return split_kernel if self.split else threshold_kernel

    @property
    def push(self) -> Push:
        """The step for one record."""
        return push_split if self.split else push_threshold

    def prepare(self, floats: Floats, integers: Integers) -> None:
        """Write threshold and measure."""
        floats[PARAMETERS], integers[OPTION] = self.volume, _VOLUME

    def check(self, records: Records, from_bars: bool) -> None:
        """Refuse records without a volume, bars that would have to be divided, and trades that make too many bars."""
        _require_volume(records, self)
        if not self.split:
            return
        if from_bars:
            raise SchemaError("VolumeCandles: bars cannot be split over bars", hint="use split=False, or trades")
        largest = int(records.volume.argmax())
        if records.volume[largest] > MAXIMUM_PARTS * self.volume:
            raise DataError(
                f"the size {records.volume[largest]} at row {largest} would make more than {MAXIMUM_PARTS} bars of "
                f"{self.volume}",
                hint="raise the volume of a bar, or quarantine the row",
            )


@dataclass(frozen=True)
class DollarCandles(CandleType):
    """A bar each time ``value`` units of the quote currency (price times size) have been traded.

    The trade that reaches the threshold belongs to the bar as a whole. Of finer bars without ``vwap`` the value is
    taken as close times volume, which is an approximation.

    Source: Lopez de Prado, Advances in Financial Machine Learning (2018), section 2.3.1.4.
    """

    value: float

    def __post_init__(self) -> None:
        require_positive(self, "value", self.value)

    @property
    def kernel(self) -> Kernel:
        """The loop over records."""
        return threshold_kernel

    @property
    def push(self) -> Push:
        """The step for one record."""
        return push_threshold

    def prepare(self, floats: Floats, integers: Integers) -> None:
        """Write threshold and measure."""
        floats[PARAMETERS], integers[OPTION] = self.value, _VALUE

    def check(self, records: Records, from_bars: bool) -> None:
        """Refuse records without a volume."""
        _require_volume(records, self)


def _require_volume(records: Records, owner: CandleType) -> None:
    if not records.volume.size:
        raise SchemaError(f"{type(owner).__name__}: the records have no volume", hint="use TickCandles")


@njit(cache=True)
def threshold_kernel(
    records: Records, floats: Floats, integers: Integers, out_floats: Floats, out_integers: Integers, start: int
) -> tuple[int, int, int]:
    """Tick, volume or dollar bars; see :data:`~tapeline.candles.candle_type.Kernel`."""
    enough, measure = floats[PARAMETERS] * (1.0 - ROUNDING), integers[OPTION]
    previous = integers[PREVIOUS_TS]
    rows, capacity = records.ts.size, out_integers.shape[1]
    bar = loaded(floats, integers)
    i, k = start, 0
    while i < rows and k < capacity:
        if bar.rows == 0:
            bar = started(records, i, records.ts[i])
        bar = grown(bar, records, i, 1.0)
        i += 1
        reached = float(bar.ticks) if measure == _TICKS else (bar.volume if measure == _VOLUME else bar.value)
        if reached >= enough:
            previous = max(bar.ts, previous + 1)
            emit(bar, previous, max(bar.known, previous), 0.0, out_floats, out_integers, k)
            k += 1
            bar = nothing()
    store(bar, floats, integers)
    integers[PREVIOUS_TS] = previous
    return i, k, 1


@njit(cache=True)
def split_kernel(
    records: Records, floats: Floats, integers: Integers, out_floats: Floats, out_integers: Integers, start: int
) -> tuple[int, int, int]:
    """Volume bars of exactly one volume; see :data:`~tapeline.candles.candle_type.Kernel`."""
    volume = floats[PARAMETERS]
    dust = volume * ROUNDING
    previous = integers[PREVIOUS_TS]
    rows, capacity = records.ts.size, out_integers.shape[1]
    bar = loaded(floats, integers)
    i, k, needed = start, 0, 0
    while i < rows:
        size = records.volume[i]
        needed = int(np.ceil((bar.volume + size) / volume)) + 1
        if k + needed > capacity:
            break
        left = size
        first = True
        # A tick without volume still belongs to the bar: its price and its spread were seen.
        while left > dust or first:
            first = False
            if bar.rows == 0:
                bar = started(records, i, records.ts[i])
            room = volume - bar.volume
            if left < room - dust:
                bar = grown(bar, records, i, left / size if size > 0.0 else 0.0)
                break
            bar = grown(bar, records, i, room / size)
            left -= room
            previous = max(bar.ts, previous + 1)
            emit(bar, previous, max(bar.known, previous), 0.0, out_floats, out_integers, k)
            # Exact by definition, whatever the parts rounded to.
            out_floats[4, k] = volume
            out_floats[6, k] = min(out_floats[6, k], volume)
            k += 1
            bar = nothing()
        i += 1
    store(bar, floats, integers)
    integers[PREVIOUS_TS] = previous
    return i, k, needed


@njit(cache=True)
def push_threshold(address: int, ts: int, price: float, size: float, side: int, spread: float) -> int:
    """One tick or trade; see :data:`~tapeline.candles.candle_type.Push`."""
    floats, integers, out_floats, out_integers = views_at(address)
    if refuses(integers, ts, price, size, side, spread):
        return -1
    records = one_row(floats, integers, ts, price, size, side, spread)
    return threshold_kernel(records, floats, integers, out_floats, out_integers, 0)[1]


@njit(cache=True)
def push_split(address: int, ts: int, price: float, size: float, side: int, spread: float) -> int:
    """One tick or trade; see :data:`~tapeline.candles.candle_type.Push`."""
    floats, integers, out_floats, out_integers = views_at(address)
    if refuses(integers, ts, price, size, side, spread):
        return -1
    if size > (out_integers.shape[1] - 3) * floats[PARAMETERS]:
        return -1
    records = one_row(floats, integers, ts, price, size, side, spread)
    return split_kernel(records, floats, integers, out_floats, out_integers, 0)[1]
