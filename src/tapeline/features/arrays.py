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
