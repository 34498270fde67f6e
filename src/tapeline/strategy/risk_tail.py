"""How much may be added to a book before its value at risk, or its expected shortfall, reaches a bound."""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np
from numba import njit

from tapeline.core.kernel_options import OWNING
from tapeline.strategy.value_at_risk import tail_of_losses

WITHIN: Final = 0
BEYOND_VALUE_AT_RISK: Final = 1
BEYOND_SHORTFALL: Final = 2
TOO_SHORT: Final = 3
"""What :func:`within_tail` found: all fits, which bound was met, or that too few returns are known."""

_HALVINGS: Final = 40
_SLACK: Final = 1e-9


@njit(**OWNING)
def within_tail(
    returns: Any,
    least: Any,
    confidence: Any,
    most_at_risk: Any,
    most_shortfall: Any,
    values: Any,
    which: Any,
    value: Any,
    unit: Any,
    wanted: Any,
    lot: Any,
) -> Any:
    """The most units, in whole lots, with which the book stays within both bounds; found by halving.

    The shortfall is convex in the quantity, so that what is found is the most there is; value at risk is not, so that
    beyond what is found there may be more that would do. If the book is beyond a bound already, only all that was
    wanted, or nothing, may be added.

    Parameters
    ----------
    returns:
        Known periods by symbols; a period that misses a symbol of the book is left out.
    least:
        Periods that must be left.
    confidence, most_at_risk, most_shortfall:
        The bounds in money.
    values, which, value:
        Signed market values by symbol; that of ``which`` is ``value``, whatever stands there.
    unit, wanted, lot:
        Signed value of one unit that is added, how many, and the smallest step (0: none).

    Returns
    -------
    Units, and ``WITHIN``, ``BEYOND_VALUE_AT_RISK``, ``BEYOND_SHORTFALL`` or ``TOO_SHORT``.

    Examples
    --------
    >>> returns = np.array([[0.01], [-0.04], [0.0], [-0.02], [0.03]])
    >>> within_tail(returns, 5, 0.8, 10.0, np.inf, np.zeros(1), 0, 0.0, 100.0, 9.0, 1.0)  # the second worst loses 2%
    (5.0, 1)
    """
    losses, own, count = np.empty(len(returns)), np.empty(len(returns)), 0
    for row in range(len(returns)):
        loss = -value * returns[row, which]
        for symbol in range(values.size):
            if symbol != which and values[symbol] != 0.0:
                loss -= values[symbol] * returns[row, symbol]
        if loss == loss:
            losses[count], own[count] = loss, -unit * returns[row, which]
            count += 1
    if count < least:
        return 0.0, TOO_SHORT
    losses, own = losses[:count], own[:count]
    # A hair beyond a bound is at it, as in all other limits.
    most_at_risk, most_shortfall = most_at_risk * (1.0 + _SLACK), most_shortfall * (1.0 + _SLACK)
    beyond = _beyond(confidence, most_at_risk, most_shortfall, losses, own, wanted)
    if beyond == WITHIN:
        return wanted, WITHIN
    if _beyond(confidence, most_at_risk, most_shortfall, losses, own, 0.0) != WITHIN:
        return 0.0, beyond
    step, low, high = wanted, 0.0, 1.0
    if lot > 0.0:
        step, high = lot, math.floor(wanted / lot + _SLACK) + 1.0
    for _ in range(_HALVINGS):
        middle = (low + high) / 2.0
        if lot > 0.0:
            middle = float(math.floor(middle))
            if middle == low:
                break
        if _beyond(confidence, most_at_risk, most_shortfall, losses, own, middle * step) == WITHIN:
            low = middle
        else:
            high = middle
    return low * step, beyond


@njit(**OWNING)
def _beyond(confidence: Any, most_at_risk: Any, most_shortfall: Any, losses: Any, own: Any, quantity: Any) -> Any:
    at_risk, shortfall = tail_of_losses(losses + quantity * own, confidence)
    if at_risk > most_at_risk:
        return BEYOND_VALUE_AT_RISK
    return BEYOND_SHORTFALL if shortfall > most_shortfall else WITHIN
