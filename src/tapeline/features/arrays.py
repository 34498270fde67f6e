"""Between frames and arrays: what every feature module needs to take bars apart and put a result together."""

from __future__ import annotations

from typing import Annotated, Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import Field

Floats = NDArray[np.float64]

Window = Annotated[int, Field(ge=2, le=100_000)]
"""A number of bars over which something is measured; two at least."""

Count = Annotated[int, Field(ge=1, le=100_000)]
"""A number of bars, one at least."""

WILDER_MEMORY: Final = 30
"""Windows after which a Wilder average has forgotten its start.

Its weights fall by (1 - 1/w) a bar, so exp(-30), 1e-13, of the start is left after 30 windows. A ratio of two such
averages is undefined below ``STILL``, so the start's share of it stays under 1e-13 / 1e-8 times a usual range.
"""

EMA_MEMORY: Final = 15
"""Windows after which an exponential average (weight 2 / (w + 1)) has forgotten its start: exp(-30) is left."""

STILL: Final = 1e-8
"""Below this share of the price a mean movement per bar is no movement: a ratio over it is NaN, not noise."""


def columns(bars: pd.DataFrame, *names: str) -> tuple[Floats, ...]:
    """The named columns as contiguous float64 arrays."""
    return tuple(np.ascontiguousarray(bars[name].to_numpy(dtype=np.float64)) for name in names)


def series(bars: pd.DataFrame, values: Any) -> pd.Series:
    """An array as a float64 Series on the bars' index."""
    return pd.Series(np.asarray(values, dtype=np.float64), index=bars.index)


def frame(bars: pd.DataFrame, **values: Any) -> pd.DataFrame:
    """Arrays as a float64 frame on the bars' index, in the order given."""
    return pd.DataFrame({name: np.asarray(value, dtype=np.float64) for name, value in values.items()}, index=bars.index)


def log_changes(values: Floats) -> Floats:
    """Logarithm of each value over the one before it; NaN first.

    Examples
    --------
    >>> log_changes(np.array([1.0, 1.0, 2.0])).round(4)
    array([   nan, 0.    , 0.6931])
    """
    return np.diff(np.log(values), prepend=np.nan) if values.size else values


def changes(values: Floats) -> Floats:
    """Each value less the one before it; NaN first.

    Examples
    --------
    >>> changes(np.array([1.0, 3.0]))
    array([nan,  2.])
    """
    return np.diff(values, prepend=np.nan) if values.size else values


def ratio(numerator: Floats, denominator: Floats, floor: Floats | float = 0.0) -> Floats:
    """``numerator / denominator``, NaN where the denominator is not above ``floor``.

    Examples
    --------
    >>> ratio(np.array([1.0, 1.0]), np.array([2.0, 0.0]))
    array([0.5, nan])
    """
    result = np.full(numerator.shape, np.nan)
    np.divide(numerator, denominator, out=result, where=denominator > floor)
    return result


def talib(name: str, *arrays: Floats, **parameters: Any) -> Any:
    """Call a function of TA-Lib; on no bars, as many empty arrays as it returns.

    Examples
    --------
    >>> talib("SMA", np.array([1.0, 3.0]), timeperiod=2)
    array([nan,  2.])
    """
    import talib as library

    function = getattr(library, name)
    if arrays[0].size:
        return function(*arrays, **parameters)
    # TA-Lib refuses empty arrays: ask it about one unknown bar, and drop that bar.
    result = function(*(np.full(1, np.nan) for _ in arrays), **parameters)
    return tuple(part[:0] for part in result) if isinstance(result, tuple) else result[:0]


def average_true_range(bars: pd.DataFrame, window: int) -> tuple[Floats, Floats]:
    """Wilder's average true range, and the floor below which a distance measured in it is undefined.

    Examples
    --------
    >>> from tapeline.core.example import example_bars
    >>> average_true_range(example_bars(10, 10, 10), 2)[0]
    array([nan, nan,  2.])
    """
    high, low, close = columns(bars, "high", "low", "close")
    return talib("ATR", high, low, close, timeperiod=window), STILL * close
