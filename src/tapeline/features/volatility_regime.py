"""Volatility regimes: low, normal, high, extreme; by rolling quantiles and by a GARCH forecast."""

from __future__ import annotations

from typing import Annotated, Final

import numpy as np
import pandas as pd
from numba import njit
from numpy.typing import NDArray
from pydantic import Field

from tapeline.core.errors import ConfigurationError
from tapeline.core.registry import feature
from tapeline.features.arrays import Floats, Window, columns, frame
from tapeline.features.garch import garch_over_time
from tapeline.features.market_regime import FITTED, ratio_returns
from tapeline.features.refit_clock import Every, fit_spans, refit_starts
from tapeline.features.window_kernels import rolling_quantiles

LEVELS: Final = ("low", "normal", "high", "extreme")
"""Codes 0 to 3: below the first quartile, up to the third, up to the 95th percentile, above it."""

SHARES: Final = (0.25, 0.75, 0.95)
"""The quantiles between the levels."""


@feature(
    lookback=lambda window, memory: window + memory,
    outputs=("volatility_level_{window}_{memory}", "volatility_to_median_{window}_{memory}"),
    reference="Root mean square return; quantiles after Hyndman and Fan, The American Statistician 50 (1996), "
    "definition 7",
)
def volatility_regime(bars: pd.DataFrame, window: Window = 24, memory: Window = 480) -> pd.DataFrame:
    """Level of volatility among its own last values: 0 low, 1 normal, 2 high, 3 extreme; and how far from the usual.

    Volatility is the root mean square of the last ``window`` log returns. It is low below the first quartile of its
    last ``memory`` values, the current one included, high above the third, extreme above the 95th percentile; what
    equals a border is normal, so that a market without any movement is. ``volatility_to_median`` is the logarithm of
    volatility over its median in that memory, held to -4 to 4, 0 where the median is 0.

    Examples
    --------
    >>> from tapeline.core.example import example_bars
    >>> bars = example_bars(*[100, 101] * 10, 120)
    >>> volatility_regime(bars, window=2, memory=10).iloc[[-2, -1]].round(2).values.tolist()
    [[1.0, 0.0], [3.0, 2.51]]
    """
    (close,) = columns(bars, "close")
    volatility = window_root_mean_square(ratio_returns(close), window)
    low, middle, high, extreme = rolling_quantiles(volatility, memory, np.array([SHARES[0], 0.5, *SHARES[1:]]))
    level = 1.0 - (volatility < low) + (volatility > high) + (volatility > extreme)
    known = np.isfinite(extreme)
    moved = known & (middle > 1e-8)
    relative = np.zeros(close.size)
    np.divide(volatility, middle, out=relative, where=moved)
    relative = np.log(np.clip(relative, np.exp(-4.0), np.exp(4.0)))
    name = f"{window}_{memory}"
    return frame(
        bars,
        **{
            f"volatility_level_{name}": np.where(known, level, np.nan),
            f"volatility_to_median_{name}": np.where(known, np.where(moved, relative, 0.0), np.nan),
        },
    )


@feature(
    lookback=lambda window, every: window + every + 1,
    outputs=("garch_volatility_{window}", "garch_level_{window}"),
    requires=("close_ts",),
    reference="Bollerslev, Journal of Econometrics 31 (1986); variance targeting: Engle and Mezrich, Risk 9 (1996)",
    tolerance=FITTED,
)
def garch_regime(
    bars: pd.DataFrame, window: Annotated[int, Field(ge=100, le=20_000)] = 400, every: Every = 120
) -> pd.DataFrame:
    """GARCH(1,1) forecast of the next bar's volatility over the usual one, and its level 0 (low) to 3 (extreme).

    At the first bar of each stretch of ``every`` bar lengths on the clock the model is fitted on the ``window``
    returns before; the forecast made at a bar's close then uses the returns up to that bar. The usual volatility is
    the root mean square of the fitted window; the levels lie between the quartiles and the 95th percentile of the
    variances that the model sees within that window. NaN before the first fit, and where the fitted window did not
    move.

    Examples
    --------
    >>> from tapeline.core.example import example_bars
    >>> calm = 1000 * np.exp(0.001 * np.sin(np.arange(300.0) ** 2))
    >>> found = garch_regime(example_bars(*calm, 1100, 1000), window=200, every=48)
    >>> found["garch_level_200"].iloc[-1].item(), bool(found["garch_volatility_200"].iloc[-1] > 1)
    (3.0, True)
    """
    (close,) = columns(bars, "close")
    spans = fit_spans(refit_starts(bars, every), window + 1, every)
    relative, level = garch_over_time(ratio_returns(close), spans, window, np.array(SHARES))
    return frame(bars, **{f"garch_volatility_{window}": relative, f"garch_level_{window}": level})


def arch_forecasts(bars: pd.DataFrame, *, window: int = 400, every: int = 120) -> pd.DataFrame:
    """The forecast and level of :func:`garch_regime`, with the models fitted by the package ``arch``.

    For research and to check the kernel: ``arch`` also fits the long-run variance, and takes some 10 ms a fit. Fits
    are at the same bars and on the same past windows.

    Returns
    -------
    ``forecast``: volatility of the next bar, as a log return; ``level`` 0 to 3; ``omega``, ``alpha``, ``beta`` of the
    model in force, of returns in percent.

    Raises
    ------
    ConfigurationError
        A window below 100.

    Examples
    --------
    >>> from tapeline.core.example import example_bars
    >>> calm = 1000 * np.exp(0.001 * np.sin(np.arange(230.0) ** 2))
    >>> found = arch_forecasts(example_bars(*calm), window=200, every=24)
    >>> list(found.columns), bool(0.0003 < found["forecast"].iloc[-1] < 0.003)
    (['forecast', 'level', 'omega', 'alpha', 'beta'], True)
    """
    if window < 100:
        raise ConfigurationError(f"window = {window} is below 100")
    from arch import arch_model

    (close,) = columns(bars, "close")
    returns = 100.0 * ratio_returns(close)
    result = np.full((close.size, 5), np.nan)
    for row, end in fit_spans(refit_starts(bars, every), window + 1, every):
        past = returns[row - window : row]
        if not past.any():
            continue
        model = arch_model(past, mean="Zero", vol="GARCH", p=1, q=1, rescale=False)
        omega, alpha, beta = model.fit(disp="off", show_warning=False).params.to_numpy()
        fixed = arch_model(returns[row - window : end], mean="Zero", vol="GARCH", p=1, q=1, rescale=False)
        seen = fixed.fix([omega, alpha, beta]).conditional_volatility ** 2
        ahead = omega + alpha * returns[row:end] ** 2 + beta * seen[window:]
        borders = np.quantile(seen[:window], SHARES)
        result[row:end, 0] = np.sqrt(ahead) / 100.0
        result[row:end, 1] = (ahead[:, None] > borders).sum(axis=1)
        result[row:end, 2:] = omega, alpha, beta
    return pd.DataFrame(result, index=bars.index, columns=["forecast", "level", "omega", "alpha", "beta"])


def name_levels(levels: Floats | pd.Series) -> NDArray[np.object_]:
    """Codes 0 to 3 as words; None where a code is NaN.

    Examples
    --------
    >>> name_levels(np.array([np.nan, 0.0, 3.0])).tolist()
    [None, 'low', 'extreme']
    """
    codes = np.asarray(levels, dtype=np.float64)
    known = np.isfinite(codes)
    result = np.full(codes.size, None, dtype=object)
    result[known] = np.asarray(LEVELS, dtype=object)[codes[known].astype(np.int64)]
    return result


@njit(cache=True, nogil=True)
def window_root_mean_square(values: Floats, window: int) -> Floats:
    """Root mean square of the last ``window`` values, each window summed afresh; NaN where one is NaN.

    Examples
    --------
    >>> window_root_mean_square(np.array([3.0, 4.0]), 2).round(4).tolist()
    [nan, 3.5355]
    """
    result = np.full(values.size, np.nan)
    for i in range(window - 1, values.size):
        total = 0.0
        for j in range(i - window + 1, i + 1):
            total += values[j] * values[j]
        result[i] = np.sqrt(total / window)
    return result
