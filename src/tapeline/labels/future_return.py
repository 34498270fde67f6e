"""Future return: what a position opened after the bar would have earned over a fixed number of bars."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pandas as pd

from tapeline.core.registry import label
from tapeline.labels.frames import Horizon, labels_frame


@label(
    lookback=0,
    requires=("close_ts",),
    reference="Campbell, Lo and MacKinlay, The Econometrics of Financial Markets (1997), section 1.4",
)
def future_return(bars: pd.DataFrame, horizon: Horizon = 24, kind: Literal["simple", "log"] = "simple") -> pd.DataFrame:
    """Return from the next bar's open to the close ``horizon`` bars after the labelled one.

    The signal is known at the bar's close, so the next open is the first price at which anybody could act on it.

    Returns
    -------
    A frame on ``ts``: ``value`` the return, simple or logarithmic; ``t_end`` the close of the last bar held;
    ``outcome`` the simple return. The last ``horizon`` bars have no label yet and are absent.

    Examples
    --------
    >>> ts = pd.date_range("2017-01-02", periods=3, freq="1h", tz="UTC", name="ts")
    >>> bars = pd.DataFrame({"open": [1.0, 2.0, 4.0], "close": [1.0, 3.0, 5.0], "close_ts": ts + pd.Timedelta("1h")},
    ...     index=ts)
    >>> future_return(bars, horizon=2)[["value", "t_end"]].values.tolist()
    [[1.5, Timestamp('2017-01-02 03:00:00+0000', tz='UTC')]]
    """
    opened, close = (bars[name].to_numpy(dtype=np.float64) for name in ("open", "close"))
    rows = len(bars)
    decided = np.full(rows, -1, dtype=np.int64)
    simple = np.full(rows, np.nan)
    if rows > horizon:
        decided[: rows - horizon] = np.arange(horizon, rows)
        simple[: rows - horizon] = close[horizon:] / opened[1 : rows - horizon + 1] - 1.0
    return labels_frame(bars, decided, np.log1p(simple) if kind == "log" else simple, simple)
