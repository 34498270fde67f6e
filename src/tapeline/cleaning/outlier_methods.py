"""Outlier methods: bounds for each value from its past, and what to do with a value outside them.

A method gives a lower bound, a centre and an upper bound a value. Everything else follows: a value outside is flagged,
clipped to the bound, winsorized to an inner quantile of its past, or repaired to the centre.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal, NamedTuple

import numpy as np
import pandas as pd
from pydantic import Field, TypeAdapter, ValidationError

from tapeline.cleaning.outlier_kernels import past_moments, past_order, past_order_expanding
from tapeline.core.errors import ConfigurationError
from tapeline.core.registry import research
from tapeline.quality.order_statistics import MAD_TO_SIGMA, MEAN_DEVIATION_TO_SIGMA

OutlierMethod = Literal["z", "robust_z", "iqr", "rolling", "hampel"]
OutlierAction = Literal["flag", "clip", "winsorize", "repair"]
METHODS: Final[tuple[OutlierMethod, ...]] = ("z", "robust_z", "iqr", "rolling", "hampel")
ACTIONS: Final[tuple[OutlierAction, ...]] = ("flag", "clip", "winsorize", "repair")

DEFAULT_THRESHOLD: Final[dict[str, float]] = {"z": 10.0, "robust_z": 10.0, "iqr": 7.0, "rolling": 10.0, "hampel": 10.0}
"""How far out is out: standard deviations or, for ``iqr``, interquartile ranges beyond the quartiles.

Under the normal distribution 7 ranges beyond are 10 standard deviations, so that the methods compare. Prices have fat
tails; the textbook's 3 would flag a hundred honest bars of a year of hours.
"""

_POSITIVE: Final = TypeAdapter(Annotated[float, Field(gt=0, allow_inf_nan=False)])
_COUNT: Final = TypeAdapter(Annotated[int, Field(ge=2, le=1_000_000)])


class Bounds(NamedTuple):
    """Where each value was expected: arrays of the values' length, NaN where the past says nothing."""

    lower: np.ndarray
    centre: np.ndarray
    upper: np.ndarray


def outlier_bounds(
    values: pd.Series | np.ndarray,
    method: OutlierMethod = "hampel",
    *,
    window: int = 100,
    minimum: int = 30,
    threshold: float | None = None,
) -> Bounds:
    """Bounds for each value from the values before it; the value itself and later ones have no part in them.

    ``z``
        Mean and standard deviation of all earlier values.
    ``robust_z``
        Their median and median absolute deviation (times 1.4826).
    ``iqr``
        Tukey's fences: their quartiles, widened by ``threshold`` interquartile ranges.
    ``rolling``
        Mean and standard deviation of the last ``window`` values.
    ``hampel``
        Their median and median absolute deviation.

    Parameters
    ----------
    values:
        A stationary series: changes of a price, not the price. Missing values are passed over.
    window:
        For ``rolling`` and ``hampel``.
    minimum:
        With fewer earlier values there are no bounds.
    threshold:
        :data:`DEFAULT_THRESHOLD` of the method where absent.

    Raises
    ------
    ConfigurationError
        An unknown method, or a number out of its bounds.

    References
    ----------
    B. Iglewicz and D. C. Hoaglin, "How to Detect and Handle Outliers" (ASQC, 1993); J. W. Tukey, "Exploratory Data
    Analysis" (Addison-Wesley, 1977), ch. 2; F. R. Hampel, JASA 69 (1974), 383-393.

    Examples
    --------
    >>> changes = np.r_[np.tile([1.0, -1.0, 0.5, -0.5], 10), 50.0, 1.0]
    >>> bounds = outlier_bounds(changes, "robust_z", threshold=5.0)
    >>> np.flatnonzero(changes > bounds.upper).tolist()
    [40]
    """
    _check(method, window, minimum, threshold)
    x = np.ascontiguousarray(values, dtype=np.float64)
    width = DEFAULT_THRESHOLD[method] if threshold is None else threshold
    if method in ("z", "rolling"):
        centre, scale = past_moments(x, window if method == "rolling" else 0, minimum)
        return _around(centre, scale, width)
    if method == "hampel":
        centre, scale, _, _ = past_order(x, window, minimum)
        return _around(centre, scale, width)
    present = ~np.isnan(x)
    order = np.argsort(x[present], kind="stable")
    ranks = np.full(x.size, -1, dtype=np.int64)
    places = np.empty(order.size, dtype=np.int64)
    places[order] = np.arange(order.size)
    ranks[present] = places
    centre, scale, low, high = past_order_expanding(ranks, x[present][order], minimum)
    return _around(centre, scale, width) if method == "robust_z" else _fences(centre, low, high, width)


@research
def outlier_bounds_whole(
    values: pd.Series | np.ndarray,
    method: OutlierMethod = "hampel",
    *,
    window: int = 101,
    minimum: int = 30,
    threshold: float | None = None,
) -> Bounds:
    """The textbook forms: one bound from the whole sample, or a window centred on the value. Reads the future.

    ``z``, ``robust_z`` and ``iqr`` take mean, median and quartiles of the whole series; ``rolling`` and ``hampel`` of
    the ``window`` values around each, itself included (an odd number).

    Examples
    --------
    >>> changes = np.r_[np.tile([1.0, -1.0, 0.5, -0.5], 10), 50.0, 1.0]
    >>> np.flatnonzero(changes > outlier_bounds_whole(changes, "robust_z").upper).tolist()
    [40]
    """
    _check(method, window, minimum, threshold)
    if window % 2 == 0:
        raise ConfigurationError(f"window = {window} is even: a centred window has a middle", hint="pass an odd number")
    series = pd.Series(np.asarray(values, dtype=np.float64))
    x = series.to_numpy()
    width = DEFAULT_THRESHOLD[method] if threshold is None else threshold
    if method in ("rolling", "hampel"):
        around = series.rolling(window, center=True, min_periods=minimum)
        if method == "rolling":
            return _around(around.mean().to_numpy(), around.std().to_numpy(), width)
        return _around(*_centred_median(x, window, minimum), width)
    shape = np.full(x.size, np.nan if np.count_nonzero(~np.isnan(x)) < minimum else 0.0)
    if np.isnan(shape).all():
        return Bounds(shape, shape, shape)
    if method == "z":
        return _around(shape + np.nanmean(x), shape + np.nanstd(x, ddof=1), width)
    centre = float(np.nanmedian(x))
    if method == "iqr":
        low, high = np.nanquantile(x, [0.25, 0.75])
        return _fences(shape + centre, shape + low, shape + high, width)
    return _around(shape + centre, shape + _scale_about(x, centre), width)


def flag_outliers(values: pd.Series | np.ndarray, bounds: Bounds) -> np.ndarray:
    """True where a value lies outside its bounds; false where it is missing or has none.

    Examples
    --------
    >>> none = np.array([np.nan])
    >>> flag_outliers(np.array([9.0]), Bounds(none, none, none)).tolist()
    [False]
    """
    x = np.asarray(values, dtype=np.float64)
    return np.asarray((x < bounds.lower) | (x > bounds.upper))


def treat_outliers(
    values: pd.Series, bounds: Bounds, action: OutlierAction = "flag", *, tail: float = 0.01, minimum: int = 30
) -> tuple[pd.Series, np.ndarray]:
    """Do something about the values outside their bounds.

    Parameters
    ----------
    action:
        ``flag`` changes nothing. ``clip`` sets a value to the bound it crossed. ``winsorize`` sets it to the ``tail``
        or ``1 - tail`` quantile of the values before it. ``repair`` sets it to the centre of its bounds.
    tail:
        For ``winsorize``.

    Returns
    -------
    The values and the flags. Bounds from the past give a causal result with every action.

    Raises
    ------
    ConfigurationError
        An unknown action, or a tail that is not between 0 and 0.5.

    Examples
    --------
    >>> changes = pd.Series(np.r_[np.tile([1.0, -1.0, 0.5, -0.5], 10), 50.0])
    >>> bounds = outlier_bounds(changes, "hampel")
    >>> [float(treat_outliers(changes, bounds, how)[0].iloc[-1]) for how in ("flag", "winsorize", "repair")]
    [50.0, 1.0, 0.0]
    """
    if action not in ACTIONS:
        raise ConfigurationError(f"outlier action {action!r} is unknown", hint=f"use one of {', '.join(ACTIONS)}")
    if not 0 < tail < 0.5:
        raise ConfigurationError(f"tail = {tail} is not between 0 and 0.5")
    flags = flag_outliers(values, bounds)
    if action == "flag" or not flags.any():
        return values, flags
    if action == "repair":
        replacement = bounds.centre
    elif action == "clip":
        replacement = np.clip(values.to_numpy(dtype=np.float64), bounds.lower, bounds.upper)
    else:
        replacement = _past_tail(values, flags, bounds, tail, minimum)
    return values.mask(flags, replacement), flags


def _past_tail(values: pd.Series, flags: np.ndarray, bounds: Bounds, tail: float, minimum: int) -> np.ndarray:
    """For each flagged value the inner quantile of those before it that were not flagged, on its own side."""
    x = values.to_numpy(dtype=np.float64)
    sound = np.where(flags, np.nan, x)
    out = x.copy()
    for i in np.flatnonzero(flags).tolist():
        past = sound[:i][~np.isnan(sound[:i])]
        if past.size < minimum:
            out[i] = bounds.centre[i]
        else:
            out[i] = np.quantile(past, 1 - tail if x[i] > bounds.upper[i] else tail)
    return out


def _around(centre: np.ndarray, scale: np.ndarray, width: float) -> Bounds:
    # Without a scale nothing is known about what is unusual.
    reach = np.where(scale > 0, width * scale, np.nan)
    return Bounds(centre - reach, centre, centre + reach)


def _fences(centre: np.ndarray, low: np.ndarray, high: np.ndarray, width: float) -> Bounds:
    reach = np.where(high > low, width * (high - low), np.nan)
    return Bounds(low - reach, centre, high + reach)


def _centred_median(x: np.ndarray, window: int, minimum: int) -> tuple[np.ndarray, np.ndarray]:
    half = window // 2
    padded = np.concatenate([np.full(half, np.nan), x, np.full(half, np.nan)])
    centre, scale = np.full(x.size, np.nan), np.full(x.size, np.nan)
    views = np.lib.stride_tricks.sliding_window_view(padded, window)
    enough = np.count_nonzero(~np.isnan(views), axis=1) >= minimum
    rows = np.flatnonzero(enough)
    for part in np.array_split(rows, max(1, rows.size // 10_000)):
        centre[part] = np.nanmedian(views[part], axis=1)
        away = np.abs(views[part] - centre[part][:, None])
        deviation = MAD_TO_SIGMA * np.nanmedian(away, axis=1)
        scale[part] = np.where(deviation > 0, deviation, MEAN_DEVIATION_TO_SIGMA * np.nanmean(away, axis=1))
    return centre, scale


def _scale_about(x: np.ndarray, centre: float) -> float:
    away = np.abs(x - centre)
    deviation = MAD_TO_SIGMA * float(np.nanmedian(away))
    return deviation or MEAN_DEVIATION_TO_SIGMA * float(np.nanmean(away))


def _check(method: str, window: int, minimum: int, threshold: float | None) -> None:
    if method not in METHODS:
        raise ConfigurationError(f"outlier method {method!r} is unknown", hint=f"use one of {', '.join(METHODS)}")
    bounded: list[tuple[str, TypeAdapter[Any], Any]] = [
        ("window", _COUNT, window),
        ("minimum", _COUNT, minimum),
        ("threshold", _POSITIVE, 1.0 if threshold is None else threshold),
    ]
    for name, adapter, value in bounded:
        try:
            adapter.validate_python(value)
        except ValidationError as error:
            raise ConfigurationError(f"{name} = {value!r}: {error.errors()[0]['msg']}") from None
    if minimum > window:
        raise ConfigurationError(f"minimum ({minimum}) exceeds window ({window}): there would never be bounds")
