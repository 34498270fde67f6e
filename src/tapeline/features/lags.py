"""Lags: what any feature was some bars before, how far it has moved since, and in what proportion."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, Literal

import numpy as np
import pandas as pd

from tapeline.core.errors import ConfigurationError, DataError

LagKind = Literal["lag", "difference", "ratio"]
KINDS: Final = ("lag", "difference", "ratio")


def lag_features(
    features: pd.DataFrame,
    lags: Iterable[int],
    *,
    columns: Sequence[str] | None = None,
    kinds: Sequence[LagKind] = ("lag",),
    by: Sequence[str] = (),
) -> pd.DataFrame:
    """Lags, differences and lagged ratios of features, never across the border of a group.

    Parameters
    ----------
    features:
        Features on a ``ts`` that does not fall; rows of several symbols may stand one after another or mixed, as long
        as ``by`` tells them apart.
    lags:
        Bars back, each 1 or more: ``1`` is the row before in the same group.
    columns:
        Which features; all numeric ones that are not in ``by`` where absent.
    kinds:
        ``lag``: the value then. ``difference``: the value now less the one then. ``ratio``: the value now over the one
        then, NaN where that is zero.
    by:
        Columns whose values make the groups, such as ``symbol`` and ``session``. Rows with a missing one belong to no
        group and get NaN.

    Returns
    -------
    A frame on the same index with ``<column>_lag_<n>``, ``<column>_difference_<n>``, ``<column>_ratio_<n>``, float64,
    by column, then kind, then lag. The first ``n`` rows of each group are NaN.

    Raises
    ------
    ConfigurationError
        A lag below 1 or named twice, an unknown kind or column.
    DataError
        The times fall within a group, so that a lag would read the future.

    Examples
    --------
    >>> frame = pd.DataFrame({"rsi": [50.0, 60.0, 20.0, 30.0], "symbol": ["A", "A", "B", "B"]})
    >>> lag_features(frame, [1], kinds=["lag", "difference"], by=["symbol"]).values.tolist()
    [[nan, nan], [50.0, 10.0], [nan, nan], [20.0, 10.0]]
    """
    steps = list(lags)
    if not steps or len(set(steps)) < len(steps) or any(step < 1 for step in steps):
        raise ConfigurationError(f"lags = {steps}: each must be 1 or more, and named once")
    wrong = [kind for kind in kinds if kind not in KINDS]
    if wrong:
        raise ConfigurationError(f"the kind '{wrong[0]}' is unknown", hint=f"choose from {', '.join(KINDS)}")
    chosen = (
        [name for name in features.select_dtypes(include="number").columns if name not in by]
        if columns is None
        else list(columns)
    )
    absent = [name for name in [*chosen, *by] if name not in features.columns]
    if absent:
        raise ConfigurationError(f"there are no columns {absent} to take lags of or to group by")
    group = _groups(features, by)
    order = np.argsort(group, kind="stable")
    sorted_group = group[order]
    _refuse_falling(features, sorted_group, order)
    result: dict[str, np.ndarray] = {}
    for name in chosen:
        values = features[name].to_numpy(dtype=np.float64)
        for kind in kinds:
            for step in steps:
                result[f"{name}_{kind}_{step}"] = _combined(kind, values, _before(values, sorted_group, order, step))
    return pd.DataFrame(result, index=features.index)


def _groups(features: pd.DataFrame, by: Sequence[str]) -> np.ndarray:
    """A number by group; -1 where a key is missing."""
    if not by:
        return np.zeros(len(features), dtype=np.int64)
    return features.groupby(list(by), sort=False, dropna=True).ngroup().fillna(-1).to_numpy(dtype=np.int64)


def _refuse_falling(features: pd.DataFrame, sorted_group: np.ndarray, order: np.ndarray) -> None:
    if not isinstance(features.index, pd.DatetimeIndex):
        return
    times = features.index.as_unit("ns").asi8[order]
    falls = (np.diff(times) < 0) & (np.diff(sorted_group) == 0)
    if falls.any():
        row = int(order[1:][falls][0])
        raise DataError(f"{features.index[row]} comes after a later row of its group", hint="sort by ts")


def _before(values: np.ndarray, sorted_group: np.ndarray, order: np.ndarray, step: int) -> np.ndarray:
    result = np.full(values.size, np.nan)
    if step < values.size:
        same = (sorted_group[step:] == sorted_group[:-step]) & (sorted_group[step:] >= 0)
        result[order[step:][same]] = values[order[:-step][same]]
    return result


def _combined(kind: LagKind, now: np.ndarray, then: np.ndarray) -> np.ndarray:
    if kind == "lag":
        return then
    if kind == "difference":
        return now - then
    result = np.full(now.size, np.nan)
    np.divide(now, then, out=result, where=np.abs(then) > 0.0)
    result[np.isinf(result)] = np.nan
    return result
