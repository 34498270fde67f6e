"""The volatility that sets a label's barriers: a share of price a bar, from bars up to the labelled one."""

from __future__ import annotations

from typing import Final, Literal

import numpy as np
from numba import njit
from numpy.typing import NDArray

from tapeline.core.errors import ConfigurationError

VolatilityKind = Literal["atr", "ewm"]

MEMORY: Final = 30
"""Windows after which both averages have forgotten their start: less than exp(-30) of it is left."""


def causal_volatility(
    high: NDArray[np.float64],
    low: NDArray[np.float64],
    close: NDArray[np.float64],
    *,
    kind: VolatilityKind = "atr",
    window: int = 24,
) -> NDArray[np.float64]:
    """Volatility a bar as a share of price; NaN for the first ``window`` bars.

    ``atr`` is Wilder's average true range over the close (Wilder 1978, section III), ``ewm`` the root of the
    exponentially weighted mean squared log return with centre of mass ``window - 1`` (RiskMetrics Technical Document,
    1996, section 5.2).

    Examples
    --------
    >>> price = np.array([1.0, 1.0, 1.0, 1.0])
    >>> causal_volatility(price * 1.01, price * 0.99, price, window=2).round(4)
    array([ nan,  nan, 0.02, 0.02])
    """
    if kind == "atr":
        previous = np.concatenate((np.full(1, np.nan), close[:-1])) if close.size else close
        true_range = np.maximum(high, previous) - np.minimum(low, previous)
        return _smoothed(true_range, window) / close
    if kind == "ewm":
        squared = np.diff(np.log(close), prepend=np.nan) ** 2 if close.size else close
        return np.sqrt(_smoothed(squared, window))
    raise ConfigurationError(f"volatility {kind!r} is unknown", hint="use 'atr' or 'ewm'")


@njit(cache=True)
def _smoothed(values: NDArray[np.float64], window: int) -> NDArray[np.float64]:
    """Weight 1 / window a bar, seeded with the mean of the values 1 to ``window`` (value 0 has no predecessor)."""
    result = np.full(values.size, np.nan)
    if values.size <= window:
        return result
    mean = 0.0
    for i in range(1, window + 1):
        mean += values[i] / window
    result[window] = mean
    for i in range(window + 1, values.size):
        mean += (values[i] - mean) / window
        result[i] = mean
    return result
