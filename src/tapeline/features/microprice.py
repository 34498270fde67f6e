"""Stoikov's micro-price: where the mid is expected to settle, given imbalance and spread of the best quote."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from tapeline.core.errors import ConfigurationError, DataError
from tapeline.features.arrays import Floats
from tapeline.features.flow_bars import instants_of
from tapeline.features.quote_flow import QUOTE, positive

_ROUNDS = 200
_SETTLED = 1e-10


@dataclass(frozen=True)
class MicroPrice:
    """A fitted micro-price: the mid plus an adjustment that depends on spread and imbalance.

    Parameters
    ----------
    tick:
        The least step of price.
    adjustments:
        In ticks, by spread (a row for one tick, for two, ..., the last for all wider) and by imbalance (a column for
        each of equal parts of 0 to 1, where 1 is all bids). NaN where the quotes of the fit never were so.
    """

    tick: float
    adjustments: Floats

    def price(self, bid: Any, bid_size: Any, ask: Any, ask_size: Any) -> Floats:
        """The micro-price of each quote, in units of price; NaN where the fit has seen no such quote.

        Use it on quotes later than those of the fit: on the same ones it knows what came next.

        Examples
        --------
        >>> MicroPrice(0.5, np.array([[-1.0, 1.0]])).price([9.0], [3.0], [9.5], [1.0])
        array([9.75])
        """
        bids, bid_sizes, asks, ask_sizes = (
            np.atleast_1d(np.asarray(part, dtype=np.float64)) for part in (bid, bid_size, ask, ask_size)
        )
        spreads, bins = self.adjustments.shape
        row, column = _states(bids, bid_sizes, asks, ask_sizes, self.tick, bins, spreads)
        return np.asarray(0.5 * (bids + asks) + self.tick * self.adjustments[row, column])


def fit_microprice(quotes: pd.DataFrame, *, tick: float, bins: int = 10, spreads: int = 2) -> MicroPrice:
    """Fit the micro-price to recorded quotes.

    Imbalance and spread move as a Markov chain until the mid changes. With Q the probabilities of a move without a
    change of the mid, T of one with a change, and r the mean change, the expected first change is ``G1 = (1 - Q)^-1
    r``, the next one ``B G1`` with ``B = (1 - Q)^-1 T``, and the adjustment is the sum of them all. Each move is also
    counted with bids and asks exchanged, which makes the sum converge.

    Parameters
    ----------
    quotes:
        ``bid``, ``bid_size``, ``ask``, ``ask_size`` on ``ts``, every change of the best quote.
    tick:
        The least step of price.
    bins, spreads:
        In how many parts imbalance is cut, and how many spreads are told apart.

    Raises
    ------
    ConfigurationError
        A tick, a number of bins or spreads that is out of bounds.
    DataError
        Fewer than two quotes, a crossed one, a price or size that is not positive, or a mid that never changes.

    References
    ----------
    Stoikov, The Micro-Price: A High-Frequency Estimator of Future Prices, Quantitative Finance 18 (2018), sections 3
    and 4.

    Examples
    --------
    >>> ts = pd.date_range("2017-01-02", periods=5, freq="1s", tz="UTC", name="ts")
    >>> quotes = pd.DataFrame({"bid": [9.0, 9.0, 10.0, 10.0, 9.0], "bid_size": [3.0, 3.0, 1.0, 1.0, 3.0],
    ...     "ask": [10.0, 10.0, 11.0, 11.0, 10.0], "ask_size": [1.0, 1.0, 3.0, 3.0, 1.0]}, index=ts)
    >>> fit_microprice(quotes, tick=1.0, bins=2, spreads=1).adjustments.shape
    (1, 2)
    """
    if not 0.0 < tick < math.inf:
        raise ConfigurationError(f"tick = {tick} must be positive and finite")
    for name, value, highest in (("bins", bins, 1_000), ("spreads", spreads, 100)):
        if not 1 <= value <= highest:
            raise ConfigurationError(f"{name} = {value} must be from 1 to {highest}")
    if bins * spreads > 2_000:
        raise ConfigurationError(f"bins * spreads = {bins * spreads} must be at most 2000")
    instants_of(quotes, "quotes")
    bid, bid_size, ask, ask_size = (positive(quotes, name, "quotes") for name in QUOTE)
    if bid.size < 2 or (bid >= ask).any():
        raise DataError(f"fit_microprice: {bid.size} quotes, {int((bid >= ask).sum())} of them crossed or locked")
    row, column = _states(bid, bid_size, ask, ask_size, tick, bins, spreads)
    change = np.diff(bid + ask) / (2.0 * tick)
    # Half ticks are exact steps of the mid; what lies beside them is the rounding of prices.
    change = np.round(2.0 * change) / 2.0
    states = row * bins + column
    mirrored = row * bins + (bins - 1 - column)
    source = np.concatenate((states[:-1], mirrored[:-1]))
    target = np.concatenate((states[1:], mirrored[1:]))
    change = np.concatenate((change, -change))
    size = bins * spreads
    counts = np.bincount(source, minlength=size).astype(np.float64)
    seen = counts > 0
    share = 1.0 / np.where(seen, counts, 1.0)
    moved = change != 0.0
    if not moved.any():
        raise DataError("fit_microprice: the mid never changes", hint="fit on a longer record")

    def probabilities(chosen: np.ndarray) -> Floats:
        flat = np.bincount(source[chosen] * size + target[chosen], minlength=size * size)
        return flat.reshape(size, size) * share[:, None]

    first = np.bincount(source, weights=change, minlength=size) * share
    try:
        solved = np.linalg.solve(np.eye(size) - probabilities(~moved), np.column_stack((first, probabilities(moved))))
    except np.linalg.LinAlgError:
        raise DataError(
            "fit_microprice: from some states the mid never changes", hint="take fewer bins, or a longer record"
        ) from None
    step, after = solved[:, 0], solved[:, 1:]
    total = step.copy()
    for _ in range(_ROUNDS):
        step = after @ step
        total += step
        if np.abs(step).max() < _SETTLED:
            break
    total[~seen] = np.nan
    return MicroPrice(float(tick), np.asarray(total.reshape(spreads, bins), dtype=np.float64))


def _states(
    bid: Floats, bid_size: Floats, ask: Floats, ask_size: Floats, tick: float, bins: int, spreads: int
) -> tuple[np.ndarray, np.ndarray]:
    share = bid_size / (bid_size + ask_size)
    column = np.clip((share * bins).astype(np.int64), 0, bins - 1)
    row = np.clip(np.round((ask - bid) / tick).astype(np.int64) - 1, 0, spreads - 1)
    return row, column
