"""Imbalance and run bars: a bar is complete when one side has traded more than was to be expected.

The known trap of these bars: the threshold is a product of two estimates that the bars themselves produce. If it
shrinks, bars get shorter, and the expected length with them, until every tick is a bar; if it grows, bars get longer
until one swallows the rest. Here the expected length is held within two bounds, and so is every bar's actual length.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final, Literal

import numpy as np
from numba import njit

from tapeline.candles.candle_type import CandleType, Kernel, Push, require, require_count
from tapeline.candles.forming import (
    FAMILY_FLOATS,
    FAMILY_INTEGERS,
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
from tapeline.core.errors import SchemaError

Measure = Literal["tick", "volume", "dollar"]
_MEASURES: Final = ("tick", "volume", "dollar")

_MEASURE, _IS_RUN = OPTION, OPTION + 1
_EXPECTED, _SPAN, _SHORTEST, _LONGEST = PARAMETERS, PARAMETERS + 1, PARAMETERS + 2, PARAMETERS + 3
# What the finished bars have taught, then what the forming bar has seen.
_LENGTH, _IMBALANCE, _SHARE, _BUY_MEAN, _SELL_MEAN = (FAMILY_FLOATS + j for j in range(5))
_BUYS, _SELLS, _PRICE = (FAMILY_FLOATS + j for j in range(5, 8))
_BARS, _SIGN, _BUY_ROWS, _SELL_ROWS, _BUYS_KNOWN, _SELLS_KNOWN = (FAMILY_INTEGERS + j for j in range(6))


@dataclass(frozen=True)
class _InformationCandles(CandleType):
    """The parameters that imbalance and run bars share."""

    measure: Measure = "tick"
    expected_length: int = 100
    span: int = 20
    shortest: int = 10
    longest: int = 1000
    extra: ClassVar[str | None] = "threshold"

    def __post_init__(self) -> None:
        require(self.measure in _MEASURES, self, "measure", self.measure, f"one of {', '.join(_MEASURES)}")
        require_count(self, "span", self.span)
        require_count(self, "shortest", self.shortest)
        require_count(self, "longest", self.longest, self.shortest)
        require_count(self, "expected_length", self.expected_length, self.shortest, self.longest)

    @property
    def kernel(self) -> Kernel:
        """The loop over records."""
        return information_kernel

    @property
    def push(self) -> Push:
        """The step for one record."""
        return push_information

    def prepare(self, floats: Floats, integers: Integers) -> None:
        """Write the bounds, the weight of a new bar and the first expectation."""
        integers[_MEASURE], integers[_IS_RUN] = _MEASURES.index(self.measure), isinstance(self, RunCandles)
        floats[_EXPECTED], floats[_SPAN] = self.expected_length, 2.0 / (self.span + 1.0)
        floats[_SHORTEST], floats[_LONGEST] = self.shortest, self.longest
        floats[_LENGTH] = self.expected_length

    def check(self, records: Records, from_bars: bool) -> None:
        """Refuse records without a volume where it is measured."""
        if self.measure != "tick" and not records.volume.size:
            raise SchemaError(
                f"{type(self).__name__}: the records have no volume to measure", hint="use the measure 'tick'"
            )


@dataclass(frozen=True)
class ImbalanceCandles(_InformationCandles):
    """A bar is complete when buying less selling departs from zero by more than expected.

    With b = +1 for a buy, -1 for a sale and v the measure of a record (1, its volume, its value), the imbalance is
    theta = sum(b v). The bar is complete when ``|theta| >= E[T] |E[b v]|``: E[T] is the expected number of records,
    an exponentially weighted mean over finished bars; E[b v] the same mean of theta / T. b is the aggressor's side
    where it is known, else the tick rule: the sign of the last change of price (0 before the first change).

    Source: Lopez de Prado, Advances in Financial Machine Learning (2018), section 2.3.2.1 and 2.3.2.2; the bounds are
    ours, since the book's recursion is known to explode or to collapse without them.

    Parameters
    ----------
    measure:
        ``tick``, ``volume`` or ``dollar``.
    expected_length:
        The length of the first bar, from which the first expectations come.
    span:
        Span in bars of the exponentially weighted means: a new bar weighs 2 / (span + 1).
    shortest, longest:
        Bounds, in records, of the expected length and of every bar: a bar below ``shortest`` is not complete whatever
        its imbalance, one of ``longest`` is complete whatever its imbalance.

    The column ``threshold`` is the one the bar had to reach; NaN for the first, which has none.
    """


@dataclass(frozen=True)
class RunCandles(_InformationCandles):
    """A bar is complete when the buying or the selling in it, taken alone, exceeds what was expected of it.

    The run is theta = max(sum of v over buys, sum of v over sales), which unlike the imbalance lets the two sides not
    offset each other. The bar is complete when ``theta >= E[T] max(P E[v|buy], (1 - P) E[v|sale])``, with P the
    expected share of buys among the records that have a side; all expectations are exponentially weighted means over
    finished bars. Parameters as for :class:`ImbalanceCandles`.

    Source: Lopez de Prado, Advances in Financial Machine Learning (2018), section 2.3.2.3 and 2.3.2.4.
    """


@njit(cache=True)
def information_kernel(
    records: Records, floats: Floats, integers: Integers, out_floats: Floats, out_integers: Integers, start: int
) -> tuple[int, int, int]:
    """Imbalance or run bars; see :data:`~tapeline.candles.candle_type.Kernel`."""
    measure, is_run = integers[_MEASURE], integers[_IS_RUN] == 1
    shortest, longest = floats[_SHORTEST], floats[_LONGEST]
    previous = integers[PREVIOUS_TS]
    buys, sells, price = floats[_BUYS], floats[_SELLS], floats[_PRICE]
    sign, buy_rows, sell_rows = integers[_SIGN], integers[_BUY_ROWS], integers[_SELL_ROWS]
    threshold = _threshold(floats, integers)
    rows, capacity = records.ts.size, out_integers.shape[1]
    bar = loaded(floats, integers)
    i, k = start, 0
    while i < rows and k < capacity:
        close = records.close[i]
        if price > 0.0:
            sign = 1 if close > price else (-1 if close < price else sign)
        price = close
        side = records.side[i] if records.side.size else 0
        if side == 0:
            side = sign
        if bar.rows == 0:
            bar = started(records, i, records.ts[i])
        bar = grown(bar, records, i, 1.0)
        amount = 1.0
        if measure == 1:
            amount = records.volume[i]
        elif measure == 2:
            amount = records.value[i] if records.value.size else records.volume[i] * close
        if side > 0:
            buys += amount
            buy_rows += 1
        elif side < 0:
            sells += amount
            sell_rows += 1
        i += 1
        theta = max(buys, sells) if is_run else abs(buys - sells)
        length = float(bar.rows)
        done = length >= longest or (length >= shortest and theta >= threshold)
        if integers[_BARS] == 0:
            done = length >= floats[_EXPECTED]
        if done:
            previous = max(bar.ts, previous + 1)
            shown = threshold if integers[_BARS] > 0 else np.nan
            emit(bar, previous, max(bar.known, previous), shown, out_floats, out_integers, k)
            k += 1
            _learn(floats, integers, length, buys, sells, buy_rows, sell_rows)
            threshold = _threshold(floats, integers)
            buys, sells, buy_rows, sell_rows = 0.0, 0.0, 0, 0
            bar = nothing()
    store(bar, floats, integers)
    integers[PREVIOUS_TS] = previous
    floats[_BUYS], floats[_SELLS], floats[_PRICE] = buys, sells, price
    integers[_SIGN], integers[_BUY_ROWS], integers[_SELL_ROWS] = sign, buy_rows, sell_rows
    return i, k, 1


@njit(cache=True)
def _threshold(floats: Floats, integers: Integers) -> float:
    """What the forming bar has to reach, from finished bars only; infinite for the first bar."""
    if integers[_BARS] == 0:
        return np.inf
    if integers[_IS_RUN] == 1:
        share = floats[_SHARE]
        return floats[_LENGTH] * max(share * floats[_BUY_MEAN], (1.0 - share) * floats[_SELL_MEAN])
    return floats[_LENGTH] * abs(floats[_IMBALANCE])


@njit(cache=True)
def _learn(
    floats: Floats, integers: Integers, length: float, buys: float, sells: float, buy_rows: int, sell_rows: int
) -> None:
    """Take a finished bar into the expectations."""
    weight = floats[_SPAN]
    expected = floats[_LENGTH] + weight * (length - floats[_LENGTH])
    floats[_LENGTH] = min(max(expected, floats[_SHORTEST]), floats[_LONGEST])
    imbalance = (buys - sells) / length
    if integers[_BARS] == 0:
        floats[_IMBALANCE] = imbalance
    else:
        floats[_IMBALANCE] += weight * (imbalance - floats[_IMBALANCE])
    if buy_rows + sell_rows > 0:
        share = buy_rows / (buy_rows + sell_rows)
        if integers[_BUYS_KNOWN] + integers[_SELLS_KNOWN] == 0:
            floats[_SHARE] = share
        else:
            floats[_SHARE] += weight * (share - floats[_SHARE])
    # A side that did not trade in this bar teaches nothing about the size of its trades.
    if buy_rows > 0:
        mean = buys / buy_rows
        floats[_BUY_MEAN] += (weight if integers[_BUYS_KNOWN] == 1 else 1.0) * (mean - floats[_BUY_MEAN])
        integers[_BUYS_KNOWN] = 1
    if sell_rows > 0:
        mean = sells / sell_rows
        floats[_SELL_MEAN] += (weight if integers[_SELLS_KNOWN] == 1 else 1.0) * (mean - floats[_SELL_MEAN])
        integers[_SELLS_KNOWN] = 1
    integers[_BARS] += 1


@njit(cache=True)
def push_information(address: int, ts: int, price: float, size: float, side: int, spread: float) -> int:
    """One tick or trade; see :data:`~tapeline.candles.candle_type.Push`."""
    floats, integers, out_floats, out_integers = views_at(address)
    if refuses(integers, ts, price, size, side, spread):
        return -1
    records = one_row(floats, integers, ts, price, size, side, spread)
    return information_kernel(records, floats, integers, out_floats, out_integers, 0)[1]
