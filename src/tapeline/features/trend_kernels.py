"""Compiled loops for how a path scales."""

from __future__ import annotations

import numpy as np
from numba import njit

from tapeline.features.arrays import Floats


@njit(cache=True, nogil=True)
def rolling_hurst(logs: Floats, window: int) -> Floats:
    """Slope of the log mean absolute change over 1, 2, 4, ... steps against the log of the steps.

    Examples
    --------
    >>> rolling_hurst(np.arange(10.0), 8)[-1].round(6).item()
    1.0
    """
    result = np.full(logs.size, np.nan)
    scales = 0
    while 2**scales <= window // 4:
        scales += 1
    if scales < 2:
        return result
    for i in range(window, logs.size):
        x_total, y_total, xx, xy = 0.0, 0.0, 0.0, 0.0
        known = True
        for k in range(scales):
            step = 2**k
            total = 0.0
            for j in range(i - window + step, i + 1):
                total += abs(logs[j] - logs[j - step])
            mean = total / (window - step + 1)
            known = known and mean > 1e-10
            if not known:
                break
            x, y = np.log(step), np.log(mean)
            x_total += x
            y_total += y
            xx += x * x
            xy += x * y
        if known:
            result[i] = (scales * xy - x_total * y_total) / (scales * xx - x_total * x_total)
    return result
