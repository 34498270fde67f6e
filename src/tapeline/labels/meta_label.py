"""Meta-labels: whether the side that a primary signal took paid; a second model learns from them when to trust it."""

from __future__ import annotations

from typing import Annotated

import numpy as np
import pandas as pd
from pydantic import Field

from tapeline.core.errors import ConfigurationError
from tapeline.core.registry import Tolerance, label
from tapeline.labels.barrier_unit import BarrierUnit, unit_lookback
from tapeline.labels.frames import Horizon, Multiple, Window
from tapeline.labels.risk_reward import risk_reward

Percent = Annotated[float, Field(ge=0, le=100)]


@label(
    lookback=unit_lookback,
    requires=("close_ts", "{signal}"),
    reference="Lopez de Prado, Advances in Financial Machine Learning (2018), sections 3.5 and 3.6",
    tolerance=Tolerance(relative=1e-6, absolute=1e-9),
)
def meta_label(
    bars: pd.DataFrame,
    signal: str = "signal",
    stop: Multiple = 1.0,
    target: Multiple = 1.0,
    unit: BarrierUnit = "atr",
    horizon: Horizon = 24,
    volatility_window: Window = 24,
    cost: Percent = 0.0,
) -> pd.DataFrame:
    """Whether the primary side paid after costs: 1 yes, 0 no, where the signal took one.

    The position is that of :func:`tapeline.labels.risk_reward.risk_reward`: entered at the next open on the signal's
    side, left at the stop, the target or the horizon, the worse of two barriers inside one bar.

    Parameters
    ----------
    signal:
        The column of the primary signal, known at each bar's close: above 0 long, below 0 short, 0 or NaN no trade
        and no label. Its size is not read.
    cost:
        What a round trip costs, in percent of the entry.

    Returns
    -------
    A frame on ``ts``: ``value``; ``side`` 1 or -1; ``touched`` 1 target, -1 stop, 0 time; ``t_end``; ``outcome`` the
    simple return of the position before costs.

    Examples
    --------
    >>> ts = pd.date_range("2017-01-02", periods=4, freq="1h", tz="UTC", name="ts")
    >>> bars = pd.DataFrame({"open": 100.0, "high": 100.5, "low": [99.5, 98.0, 98.0, 99.5], "close": 100.0,
    ...     "signal": [1.0, -1.0, 0.0, 1.0], "close_ts": ts + pd.Timedelta("1h")}, index=ts)
    >>> meta_label(bars, unit="fixed", horizon=2)[["value", "side"]].values.tolist()
    [[0.0, 1.0], [1.0, -1.0]]
    """
    side = np.sign(bars[signal].to_numpy(dtype=np.float64))
    parts = []
    for name, sign in (("long", 1.0), ("short", -1.0)):
        found = risk_reward(bars, name, stop, target, unit, horizon, 0, volatility_window)  # type: ignore[arg-type]
        parts.append(found[(side == sign)[bars.index.get_indexer(found.index)]].assign(side=sign))
    both = pd.concat(parts).sort_index(kind="stable")
    return pd.DataFrame(
        {
            "value": (both["outcome"] > cost / 100.0).astype(np.float64),
            "t_end": both["t_end"],
            "outcome": both["outcome"],
            "side": both["side"],
            "touched": both["value"],
        },
        index=both.index,
    )


def meta_labels(labels: pd.DataFrame, side: pd.Series, *, cost: float = 0.0) -> pd.DataFrame:
    """Meta-labels from any labels whose ``outcome`` is the return of a long position.

    For exits that do not depend on the side: a fixed horizon, or barriers at equal distances.

    Parameters
    ----------
    side:
        The primary signal on ``ts``: above 0 long, below 0 short, 0, NaN or absent no trade.
    cost:
        What a round trip costs, as a share of the entry price.

    Returns
    -------
    A frame on ``ts``: ``value`` 1 where side times outcome exceeds the cost, else 0; ``t_end``; ``outcome`` the return
    of the position; ``side``.

    Raises
    ------
    ConfigurationError
        The cost is negative.

    Examples
    --------
    >>> ts = pd.date_range("2017-01-02", periods=3, freq="1h", tz="UTC", name="ts")
    >>> labels = pd.DataFrame({"value": 1.0, "t_end": ts + pd.Timedelta("2h"), "outcome": [0.01, 0.01, 0.01]}, index=ts)
    >>> meta_labels(labels, pd.Series([1.0, -2.0, 0.0], index=ts))["value"].tolist()
    [1.0, 0.0]
    """
    if cost < 0:
        raise ConfigurationError(f"meta_labels: cost = {cost} is negative")
    taken = np.sign(side.reindex(labels.index).to_numpy(dtype=np.float64))
    traded = np.abs(taken) == 1.0
    kept, sign = labels[traded], taken[traded]
    gained = kept["outcome"] * sign
    return pd.DataFrame(
        {"value": (gained > cost).astype(np.float64), "t_end": kept["t_end"], "outcome": gained, "side": sign},
        index=kept.index,
    )
