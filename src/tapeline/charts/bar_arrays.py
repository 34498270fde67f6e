"""Bars as arrays, with what detectors derive from them, each derived once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any, Concatenate, Final, NamedTuple, ParamSpec, TypeVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tapeline.charts.swing_kernels import advance_true_range
from tapeline.core.errors import DataError

Floats = NDArray[np.float64]
Rows = NDArray[np.int64]

_PRICES: Final = ("open", "high", "low", "close", "volume")
Given = ParamSpec("Given")
Found = TypeVar("Found")


class Call(NamedTuple):
    """A function with its arguments after the bars."""

    compute: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: tuple[tuple[str, Any], ...]


class BarArrays:
    """The columns of bars as contiguous arrays, and a memory of what was computed from them.

    A detector takes bars or this. A scan with many detectors makes one and hands it to all of them, so that swings,
    ranges and breaks which several of them stand on are found once. The bars must not change meanwhile.

    Parameters
    ----------
    bars:
        Bars by time, with ``close_ts`` where events are to be made of them.

    Examples
    --------
    >>> from tapeline.core.example import example_bars
    >>> arrays = BarArrays(example_bars(10, 12, 11))
    >>> arrays.high.tolist(), len(arrays)
    ([11.0, 13.0, 13.0], 3)
    >>> arrays.once(mean_true_range, 2) is arrays.once(mean_true_range, 2)
    True
    """

    def __init__(self, bars: pd.DataFrame) -> None:
        self.__dict__["bars"] = bars
        self.rows = len(bars)
        self._kept: dict[Call, Any] = {}

    @classmethod
    def of(cls, bars: pd.DataFrame | BarArrays) -> BarArrays:
        """These bars as arrays; what already is comes back as it is."""
        return bars if isinstance(bars, BarArrays) else cls(bars)

    @classmethod
    def of_columns(cls, opened: Rows, closed: Rows, prices: Floats | Sequence[Floats]) -> BarArrays:
        """Bars that are arrays already: when each opened and closed, and open, high, low, close, volume as rows."""
        arrays = cls.__new__(cls)
        arrays.rows, arrays._kept = opened.size, {}
        columns = dict(zip(_PRICES, prices, strict=True))
        arrays.__dict__.update(
            {name: _fixed(part) for name, part in (columns | {"opened": opened, "closed": closed}).items()}
        )
        return arrays

    def tail(self, rows: int) -> BarArrays:
        """The last rows, which remember nothing of what was computed of all."""
        begin = self.rows - min(rows, self.rows)
        prices = [getattr(self, name)[begin:] for name in _PRICES]
        return self.of_columns(self.opened[begin:], self.closed[begin:], prices)

    def __len__(self) -> int:
        return self.rows

    @cached_property
    def bars(self) -> pd.DataFrame:
        """The bars as a frame."""
        prices = {name: getattr(self, name) for name in _PRICES}
        close_ts = pd.DatetimeIndex(self.closed.view("M8[ns]"), tz="UTC")
        return pd.DataFrame(
            {**prices, "close_ts": close_ts}, index=pd.DatetimeIndex(self.opened.view("M8[ns]"), tz="UTC", name="ts")
        )

    @cached_property
    def open(self) -> Floats:
        """The first price of each bar."""
        return self._column("open")

    @cached_property
    def high(self) -> Floats:
        """The highest price of each bar."""
        return self._column("high")

    @cached_property
    def low(self) -> Floats:
        """The lowest price of each bar."""
        return self._column("low")

    @cached_property
    def close(self) -> Floats:
        """The last price of each bar."""
        return self._column("close")

    @cached_property
    def volume(self) -> Floats:
        """The volume of each bar; NaN where unknown."""
        return self._column("volume")

    @cached_property
    def opened(self) -> Rows:
        """When each bar opened, in nanoseconds since 1970 (UTC)."""
        if not isinstance(self.bars.index, pd.DatetimeIndex) or self.bars.index.tz is None:
            raise DataError(f"bars are indexed by {self.bars.index.dtype}, expected UTC instants")
        return _fixed(self.bars.index.as_unit("ns").asi8)

    @cached_property
    def closed(self) -> Rows:
        """When each bar closed, in nanoseconds since 1970 (UTC)."""
        if "close_ts" not in self.bars.columns:
            raise DataError(
                "bars lack the column 'close_ts'", hint="bars.assign(close_ts=timeframe.closes(bars.index))"
            )
        return _fixed(pd.DatetimeIndex(self.bars["close_ts"]).as_unit("ns").asi8)

    def once(
        self, compute: Callable[Concatenate[BarArrays, Given], Found], *args: Given.args, **kwargs: Given.kwargs
    ) -> Found:
        """``compute(self, ...)``, computed at the first call with these arguments and remembered; do not change it."""
        key = Call(compute, args, tuple(sorted(kwargs.items())))
        if key not in self._kept:
            self._kept[key] = compute(self, *args, **kwargs)
        return self._kept[key]

    def calls(self) -> tuple[Call, ...]:
        """What was computed once so far."""
        return tuple(self._kept)

    def keep(self, call: Call, found: Any) -> None:
        """Put down what a call would find, for one who knows it already."""
        self._kept[call] = found

    def _column(self, name: str) -> Floats:
        return _fixed(self.bars[name].to_numpy(dtype=np.float64))


def _fixed(part: Any) -> Any:
    """Contiguous and read-only, wherever it comes from: so that each kernel is compiled for one sort of array."""
    column = np.ascontiguousarray(part).view()
    column.setflags(write=False)
    return column


def mean_true_range(bars: pd.DataFrame | BarArrays, window: int) -> Floats:
    """The plain mean of the true range over the last ``window`` bars; NaN for the first ``window`` bars."""
    arrays = BarArrays.of(bars)
    ranges, mean = np.empty(len(arrays)), np.empty(len(arrays))
    advance_true_range(arrays.high, arrays.low, arrays.close, window, 0, len(arrays), ranges, mean)
    return mean
