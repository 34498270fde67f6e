"""VPIN from trades: buckets of equal volume, and how far the two sides lie apart in them."""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np
import pandas as pd
from numba import njit

from tapeline.candles.records import Integers, records_from
from tapeline.core.errors import ConfigurationError, DataError
from tapeline.features.arrays import Floats
from tapeline.features.flow_bars import known_instants, read_only
from tapeline.features.trade_sign import Signs, tick_signs

MAXIMUM_BUCKETS: Final = 10_000_000
"""Buckets that one call may make: one absurd size must not fill the memory."""

_LEFT, _BOUGHT, _SOLD, _DONE, _RING = range(5)


class VolumeBuckets:
    """The volume-synchronised probability of informed trading, bucket by bucket, from trades in any portions.

    A bucket is full when ``size`` has been traded in it; a trade that does not fit is divided. VPIN is the mean, over
    the last ``buckets`` of them, of bought less sold, as a distance, over ``size``. Sides are the trades' own, else the
    tick rule's; the paper divides volume by :func:`tapeline.features.trade_sign.bulk_buy_share` where sides are not
    known.

    Parameters
    ----------
    size:
        Quantity in a bucket; the paper takes a fiftieth of the average day.
    buckets:
        Over how many VPIN is taken.

    References
    ----------
    Easley, Lopez de Prado and O'Hara, Flow Toxicity and Liquidity in a High-Frequency World, Review of Financial
    Studies 25 (2012), sections 1.1 to 1.3 and the appendix.

    Examples
    --------
    >>> ts = pd.date_range("2017-01-02", periods=3, freq="1s", tz="UTC", name="ts")
    >>> trades = pd.DataFrame({"price": 10.0, "size": [3.0, 5.0, 1.0], "side": [1, -1, -1]}, index=ts)
    >>> found = VolumeBuckets(4.0, buckets=2).update(trades)
    >>> found[["bought", "sold", "vpin"]].to_numpy().tolist()
    [[3.0, 1.0, nan], [0.0, 4.0, 0.75]]
    """

    def __init__(self, size: float, *, buckets: int = 50) -> None:
        if not 0.0 < size < math.inf:
            raise ConfigurationError(f"size = {size} must be positive and finite")
        if not 1 <= buckets <= 100_000:
            raise ConfigurationError(f"buckets = {buckets} must be from 1 to 100000")
        self.size = float(size)
        self._state = np.zeros(_RING + buckets)
        self._state[_LEFT] = self.size
        self._price, self._sign = math.nan, 0
        self._newest: int | None = None
        self._known: int | None = None

    def update(self, trades: pd.DataFrame) -> pd.DataFrame:
        """Add trades and return the buckets that they fill.

        Parameters
        ----------
        trades:
            ``price``, ``size`` and optionally ``side`` and ``known_at`` on ``ts``, none earlier than those before.

        Returns
        -------
        One row a full bucket, on ``ts``, the time of the trade that filled it: ``known_at``, from which it could be
        known, ``bought``, ``sold``, ``vpin`` (NaN before the first ``buckets``). Times repeat where a trade filled
        several. Join it to bars with :func:`tapeline.core.pit.asof_join` by ``known_at``.

        Raises
        ------
        SchemaError, DataError
            As :func:`tapeline.candles.records.records_from`; trades before those already seen; a trade of so many
            buckets that they could fill the memory.
        """
        records = records_from(trades[[name for name in ("price", "size", "side") if name in trades.columns]])
        if not records.ts.size:
            return self._frame(np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64), np.empty((3, 0)))
        if self._newest is not None and records.ts[0] < self._newest:
            raise DataError(f"VolumeBuckets: a trade of {trades.index[0]} comes after a later one", hint="sort by ts")
        wanted = float(records.volume.sum()) / self.size
        if wanted > MAXIMUM_BUCKETS:
            raise DataError(
                f"VolumeBuckets: these trades fill {wanted:.0f} buckets of {self.size}, more than {MAXIMUM_BUCKETS}",
                hint="take larger buckets, or quarantine absurd sizes",
            )
        signs = tick_signs(records.close, self._price, self._sign)
        sides = signs if not records.side.size else np.where(records.side != 0, records.side, signs).astype(np.int8)
        received = known_instants(trades)
        known = records.ts if received is None else np.maximum(records.ts, received)
        known = np.maximum.accumulate(known if self._known is None else np.maximum(known, self._known))
        rows, values = fill_buckets(read_only(records.volume), read_only(sides), self.size, self._state)
        self._price, self._sign = float(records.close[-1]), int(signs[-1])
        self._newest, self._known = int(records.ts[-1]), int(known[-1])
        return self._frame(records.ts[rows], known[rows], values)

    @staticmethod
    def _frame(stamps: Integers, known: Integers, values: Floats) -> pd.DataFrame:
        def instants(of: Integers) -> Any:
            return pd.DatetimeIndex(of.view("M8[ns]")).tz_localize("UTC")

        columns = {"known_at": instants(known), "bought": values[0], "sold": values[1], "vpin": values[2]}
        return pd.DataFrame(columns, index=instants(stamps).rename("ts"))


@njit(cache=True, nogil=True)
def fill_buckets(size: Floats, side: Signs, bucket: float, state: Floats) -> tuple[Integers, Floats]:
    """The trade that fills each bucket, and its bought, sold and VPIN [3, buckets]; ``state`` is brought up to date.

    Examples
    --------
    >>> state = np.array([2.0, 0.0, 0.0, 0.0, 0.0])
    >>> rows, values = fill_buckets(np.array([1.0, 3.0]), np.array([1, -1], dtype=np.int8), 2.0, state)
    >>> rows.tolist(), values.tolist()
    ([1, 1], [[1.0, 0.0], [1.0, 2.0], [0.0, 1.0]])
    """
    total = 0.0
    for i in range(size.size):
        total += size[i]
    room = int(total / bucket) + 2
    rows = np.empty(room, dtype=np.int64)
    values = np.empty((3, room))
    count = state.size - 4
    left, bought, sold, done = state[0], state[1], state[2], int(state[3])
    k = 0
    for i in range(size.size):
        rest = size[i]
        while rest >= left and k < room:
            part = left
            rest -= left
            bought += part if side[i] > 0 else 0.0
            sold += part if side[i] < 0 else 0.0
            state[4 + done % count] = abs(bought - sold)
            done += 1
            away = np.nan
            if done >= count:
                away = 0.0
                for j in range(count):
                    away += state[4 + j]
                away /= count * bucket
            rows[k], values[0, k], values[1, k], values[2, k] = i, bought, sold, away
            k += 1
            left, bought, sold = bucket, 0.0, 0.0
        left -= rest
        bought += rest if side[i] > 0 else 0.0
        sold += rest if side[i] < 0 else 0.0
    state[0], state[1], state[2], state[3] = left, bought, sold, done
    return rows[:k], values[:, :k]
