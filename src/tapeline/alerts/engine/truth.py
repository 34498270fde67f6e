"""Whether a comparison holds."""

from __future__ import annotations

import math
from typing import Any

from numba import njit

from tapeline.alerts.engine.options import INNER
from tapeline.alerts.engine.table import ABOVE, AT_LEAST, AT_MOST, BELOW, EQUAL, FALSE, TRUE, UNKNOWN


@njit(**INNER)
def truth_of(comparison: Any, difference: Any, hysteresis: Any) -> Any:
    """Whether a comparison holds, by the difference of its sides; one that held lets go ``hysteresis`` later."""
    if math.isnan(difference):
        return UNKNOWN
    if comparison == ABOVE:
        held = difference > -hysteresis
    elif comparison == BELOW:
        held = difference < hysteresis
    elif comparison == AT_LEAST:
        held = difference >= -hysteresis
    elif comparison == AT_MOST:
        held = difference <= hysteresis
    elif comparison == EQUAL:
        held = difference == 0.0
    else:
        held = difference != 0.0
    return TRUE if held else FALSE
