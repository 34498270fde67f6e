"""Where price stands towards its profiles, by bar: the last completed one, the one that develops, and a rolling one."""

from __future__ import annotations

from typing import Final

import numpy as np
import pandas as pd

from tapeline.charts import profile_kernels as kernels
from tapeline.charts.bar_arrays import BarArrays, Floats, mean_true_range
from tapeline.charts.period_profiles import Longest, period_profiles, periods
from tapeline.charts.pivot_lines import Minute, Span
from tapeline.charts.profile_shape import SHAPES, profile_shapes
from tapeline.charts.swings import Period
from tapeline.charts.volume_profile import SOURCE, VALUE, Bins, Share, Together, Weight, weights
from tapeline.core.registry import feature
from tapeline.features.arrays import frame, ratio

_PLACES: Final = ("to_poc", "to_value_high", "to_value_low", "in_value", "value_width")


@feature(
    lookback=lambda longest, window: longest + window + 3,
    outputs=(
        *(f"{{span}}_profile_{name}" for name in _PLACES),
        *(f"{{span}}_profile_{name}" for name in SHAPES),
    ),
    reference=SOURCE,
    stackable=False,
)
def profile_place(
    bars: pd.DataFrame,
    span: Span = "day",
    zone: str = "UTC",
    start_minute: Minute = 0,
    weight: Weight = "volume",
    bins: Bins = 48,
    share: Share = VALUE,
    together: Together = 2,
    longest: Longest = 2_880,
    window: Period = 14,
) -> pd.DataFrame:
    """Where the close lies towards the profile of the last completed day, week or month, and the shape of that.

    Returns
    -------
    ``to_poc``, ``to_value_high``, ``to_value_low``: the close less that price, in mean true ranges over ``window``
    bars. ``in_value``: 1 where it lies from VAL to VAH, else 0. ``value_width``: VAH less VAL in mean true ranges.
    ``p``, ``b``, ``d``, ``double``: 1 for the shape of that profile (:func:`tapeline.charts.profile_shape.shape_of`),
    else 0. NaN before a whole period has passed, where that had no range or traded nothing or began ``longest`` bars
    ago or more, and where the mean true range is 0.

    Examples
    --------
    >>> from tapeline.core.example import example_bars
    >>> bars = example_bars(*[10.0] * 30, *[12.0] * 30, 15.0)
    >>> profile_place(bars, bins=6, window=2).iloc[-1, :4].round(2).tolist()
    [1.05, 0.57, 1.14, 0.0]
    """
    arrays = BarArrays.of(bars)
    found = period_profiles(arrays, span, zone, start_minute, weight, bins, share, together)
    last = found.last_told(longest)
    there = last >= 0
    unit = np.where(there, mean_true_range(arrays, window), np.nan)
    poc, low, high = (_at(prices, last) for prices in (found.poc, found.value_low, found.value_high))
    close = arrays.close
    known = there & (unit > 0.0)
    inside = np.where(known, ((close >= low) & (close <= high)).astype(np.float64), np.nan)
    values = {
        "to_poc": ratio(close - poc, unit),
        "to_value_high": ratio(close - high, unit),
        "to_value_low": ratio(close - low, unit),
        "in_value": inside,
        "value_width": ratio(high - low, unit),
    }
    code = _at(profile_shapes(found).code.astype(np.float64), last)
    for number, name in enumerate(SHAPES, start=1):
        values[name] = np.where(known, (code == number).astype(np.float64), np.nan)
    return frame(bars, **{f"{span}_profile_{name}": column for name, column in values.items()})


@feature(
    lookback=lambda longest: longest + 2,
    outputs=("{span}_developing_poc", "{span}_developing_value_high", "{span}_developing_value_low"),
    reference=SOURCE,
    scale=(1, 0),
    stackable=False,
)
def developing_profile(
    bars: pd.DataFrame,
    span: Span = "day",
    zone: str = "UTC",
    start_minute: Minute = 0,
    weight: Weight = "volume",
    bins: Bins = 48,
    share: Share = VALUE,
    together: Together = 2,
    longest: Longest = 1_500,
) -> pd.DataFrame:
    """The point of control and the value area of the day, week or month so far, in price.

    At a period's last bar they are those of its completed profile. NaN while nothing was traded or there is no range,
    and beyond ``longest`` bars: the default holds a day of minutes.

    Examples
    --------
    >>> from tapeline.core.example import example_bars
    >>> developing_profile(example_bars(10, 12, 12, 12), bins=6)["day_developing_poc"].round(2).tolist()
    [9.83, 10.67, 11.33, 11.33]
    """
    arrays = BarArrays.of(bars)
    first, which = arrays.once(periods, span, zone, start_minute)
    result = np.empty((3, len(arrays)))
    kernels.developing_profiles(
        arrays.low, arrays.high, weights(arrays, weight), first[which], longest, bins, share, together, result
    )
    names = ("poc", "value_low", "value_high")
    made = dict(zip(names, result, strict=True))
    return frame(bars, **{f"{span}_developing_{name}": made[name] for name in ("poc", "value_high", "value_low")})


@feature(
    lookback=lambda window, unit_window: max(window, unit_window + 1),
    outputs=("profile_to_poc_{window}", "profile_place_{window}", "profile_skew_{window}", "profile_width_{window}"),
    reference=SOURCE,
)
def rolling_profile(
    bars: pd.DataFrame,
    window: Period = 240,
    weight: Weight = "volume",
    bins: Bins = 48,
    share: Share = VALUE,
    together: Together = 2,
    unit_window: Period = 14,
) -> pd.DataFrame:
    """Where the close lies in the profile of the last ``window`` bars, and how that leans.

    Returns
    -------
    ``to_poc``: the close less the point of control, in mean true ranges over ``unit_window`` bars. ``place``: the close
    in the value area, 0 at VAL, 1 at VAH, beyond outside. ``skew``: the skewness of the profile, above 0 where its tail
    lies above. ``width``: the share of the window's range that the value area takes. NaN while the window is not full,
    has no range or traded nothing, and, for the first, where the mean true range is 0.

    Examples
    --------
    >>> from tapeline.core.example import example_bars
    >>> found = rolling_profile(example_bars(10, 10, 10, 10, 14), window=5, bins=6, unit_window=2)
    >>> found.iloc[-1].round(2).tolist()
    [0.88, 2.5, 1.44, 0.33]
    """
    arrays = BarArrays.of(bars)
    result = np.empty((5, len(arrays)))
    kernels.rolling_profiles(arrays.low, arrays.high, weights(arrays, weight), window, bins, share, together, result)
    poc, low, high, skew, reach = result
    unit = mean_true_range(arrays, unit_window)
    return frame(
        bars,
        **{
            f"profile_to_poc_{window}": ratio(arrays.close - poc, unit),
            f"profile_place_{window}": ratio(arrays.close - low, high - low),
            f"profile_skew_{window}": skew,
            f"profile_width_{window}": ratio(high - low, reach),
        },
    )


def _at(values: Floats, which: np.ndarray) -> Floats:
    return np.where(which >= 0, values[np.maximum(which, 0)], np.nan) if values.size else np.full(which.size, np.nan)
