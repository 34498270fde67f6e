"""What a series of returns says: growth, risk, ratios with their errors, and how it compares with a benchmark.

Returns are simple, of one period, of one account. A year's number of periods is given or measured, and always stated:
a wrong one scales every annual figure.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from tapeline.core.errors import ConfigurationError, DataError
from tapeline.evaluation import return_kernels as kernels
from tapeline.evaluation.annual_periods import AnnualPeriods, Calendar, annual_periods

Floats = NDArray[np.float64]

TAIL: Final = 0.05


@dataclass(frozen=True)
class ReturnStatistics:
    """Figures of one series of returns. Shares are plain numbers: 0.1 is ten percent. NaN where undefined.

    Parameters
    ----------
    periods, periods_per_year, basis:
        How many returns; how many a year has, and how that is known.
    total_return, annual_return:
        Growth over all periods, and the constant yearly growth that gives the same.
    annual_volatility:
        Standard deviation (n - 1) times the root of periods a year.
    sharpe, sharpe_error, sharpe_error_robust:
        Annual Sharpe ratio (1994) and its standard errors by Lo 2002, Financial Analysts Journal 58 (4): for
        independent normal returns (equation 9), and for dependent ones of any shape (his section on non-IID returns)
        with Newey and West's weights over ``floor(4 (n / 100)^(2/9))`` lags.
    sortino:
        Annual mean above the required return over the annual root mean square of what fell short of it.
    calmar:
        Annual return over the deepest drawdown.
    omega:
        Sum of gains above the required return over the sum of what fell short (Keating and Shadwick 2002).
    maximum_drawdown, longest_drawdown, time_in_drawdown:
        Deepest fall below a former peak as a share of it, the longest in periods, and the share of periods below one.
    stability:
        R squared of a line through cumulative log returns: 1 is steady growth, or steady loss.
    tail_ratio:
        The 95th percentile over the 5th, both without their signs.
    skewness, kurtosis:
        Third and fourth standardised moments of the population; kurtosis is excess (0 for a normal).
    value_at_risk, conditional_value_at_risk:
        The 5 % quantile of one period's return, and the mean of the returns up to it (its lower order statistic).
    best, worst, positive, idle:
        Largest and smallest return; shares of periods that gained and that did not change.
    alpha, beta:
        Intercept, annual by compounding, and slope against the benchmark's returns.
    capture, up_capture, down_capture:
        Annual return over the benchmark's: of all periods, of those in which it rose, of those in which it fell.
    information_ratio:
        Mean over standard deviation of the return above the benchmark's, annual.
    benchmark_return:
        The benchmark's growth over the same periods.
    exposure, turnover:
        Share of periods that held a position; value traded a year, buys and sells, over the mean equity.
    ruined:
        Whether equity reached 0: the returns after that are none.
    """

    periods: int
    periods_per_year: float
    basis: str
    total_return: float
    annual_return: float
    annual_volatility: float
    sharpe: float
    sharpe_error: float
    sharpe_error_robust: float
    sortino: float
    calmar: float
    omega: float
    maximum_drawdown: float
    longest_drawdown: int
    time_in_drawdown: float
    stability: float
    tail_ratio: float
    skewness: float
    kurtosis: float
    value_at_risk: float
    conditional_value_at_risk: float
    best: float
    worst: float
    positive: float
    idle: float
    alpha: float = math.nan
    beta: float = math.nan
    capture: float = math.nan
    up_capture: float = math.nan
    down_capture: float = math.nan
    information_ratio: float = math.nan
    benchmark_return: float = math.nan
    exposure: float = math.nan
    turnover: float = math.nan
    ruined: bool = False

    def series(self) -> pd.Series:
        """The figures by name."""
        return pd.Series(asdict(self), dtype=object)


def equity_returns(equity: ArrayLike, capital: float) -> tuple[Floats, bool]:
    """Simple returns from one close to the next, the first from ``capital``; and whether the account was ruined.

    The period in which equity reaches 0 or less returns -1; those after it 0, since there is nothing to return on.

    Examples
    --------
    >>> equity_returns([110.0, 99.0, -5.0, 20.0], 100.0)[0].round(3).tolist()
    [0.1, -0.1, -1.0, 0.0]
    """
    level = np.asarray(equity, dtype=np.float64)
    if level.ndim != 1 or not level.size or not np.isfinite(level).all():
        raise DataError(f"equity has the shape {level.shape}, or a value that is no number")
    if not 0 < capital < math.inf:
        raise DataError(f"capital = {capital} is not above 0")
    before = np.concatenate(([capital], level[:-1]))
    ruin = int(np.argmax(level <= 0)) if (level <= 0).any() else level.size
    returns = np.zeros(level.size)
    np.divide(level[:ruin], before[:ruin], out=returns[:ruin])
    returns[:ruin] -= 1.0
    if ruin < level.size:
        returns[ruin] = -1.0
    return returns, ruin < level.size


def equity_statistics(
    equity: pd.Series,
    capital: float,
    *,
    calendar: Calendar | float = "measured",
    benchmark: pd.Series | None = None,
    position: ArrayLike | None = None,
    traded: float = math.nan,
    risk_free: float = 0.0,
    required: float = 0.0,
) -> ReturnStatistics:
    """Figures of an account from its equity by period.

    Parameters
    ----------
    equity, capital:
        At the close of each period, indexed by time; and before the first.
    benchmark:
        Prices of what the account is compared with, such as the bars' close, on the same index. Its first return is
        taken as 0, for there is no price before.
    position:
        Units held at each close; for the exposure.
    traded:
        Value of all buys and sells; for the turnover.
    calendar, risk_free, required:
        As for :func:`annual_periods` and :func:`return_statistics`.

    Examples
    --------
    >>> days = pd.date_range("2024-01-01", periods=3, freq="1D", tz="UTC")
    >>> found = equity_statistics(pd.Series([110.0, 99.0, 121.0], days), 100.0, calendar=252)
    >>> round(found.total_return, 2), round(found.maximum_drawdown, 2), found.basis
    (0.21, 0.1, 'given')
    """
    returns, ruined = equity_returns(equity.to_numpy(), capital)
    other = None
    if benchmark is not None:
        if not benchmark.index.equals(equity.index):
            raise DataError("the benchmark has another index than equity", hint="reindex it, or leave it out")
        price = benchmark.to_numpy(dtype=np.float64)
        other = np.zeros(price.size)
        other[1:] = price[1:] / price[:-1] - 1.0
    periods = annual_periods(pd.DatetimeIndex(equity.index), calendar)
    # Falls are those of equity itself: levels put together from returns miss an old peak by a rounding.
    levels = np.concatenate(([capital], np.maximum(equity.to_numpy(dtype=np.float64), 0.0)))
    if ruined:
        levels[1 + int(np.argmax(levels[1:] == 0)) :] = 0.0
    found = _figures(returns, levels, periods, other, risk_free, required)
    years = returns.size / periods.per_year
    extra: dict[str, Any] = {"ruined": ruined}
    if position is not None:
        extra["exposure"] = float(np.count_nonzero(np.asarray(position)) / returns.size)
    extra["turnover"] = traded / float(equity.mean()) / years if equity.mean() > 0 else math.nan
    return ReturnStatistics(**{**asdict(found), **extra})


def return_statistics(
    returns: ArrayLike,
    periods: AnnualPeriods | float,
    *,
    benchmark: ArrayLike | None = None,
    risk_free: float = 0.0,
    required: float = 0.0,
) -> ReturnStatistics:
    """Figures of a series of simple returns; agrees with empyrical-reloaded where that has the same one.

    Parameters
    ----------
    returns:
        One a period, finite, not below -1.
    periods:
        Periods a year.
    benchmark:
        The benchmark's return of the same periods.
    risk_free:
        Return of one period without risk; taken off in the Sharpe ratio, alpha and beta.
    required:
        Return of one period below which one falls short; for Sortino and omega.

    Raises
    ------
    DataError
        No returns, one that is not finite or below -1, or a benchmark of another length.

    Examples
    --------
    >>> found = return_statistics([0.01, -0.02, 0.03, 0.0], 252)
    >>> round(found.total_return, 6), round(found.sharpe, 4), round(found.omega, 2)
    (0.019494, 3.8129, 2.0)
    """
    year = periods if isinstance(periods, AnnualPeriods) else annual_periods(pd.DatetimeIndex([]), float(periods))
    values = _checked(returns, "returns")
    other = None if benchmark is None else _checked(benchmark, "benchmark")
    return _figures(values, np.concatenate(([1.0], np.cumprod(1.0 + values))), year, other, risk_free, required)


def _figures(
    values: Floats, levels: Floats, year: AnnualPeriods, other: Floats | None, risk_free: float, required: float
) -> ReturnStatistics:
    risky = values if risk_free == 0 else values - risk_free
    of = kernels.moments(values, required)
    growth = math.exp(of[kernels.LOG_GROWTH])
    annual = _annual(growth, values.size, year.per_year)
    mean, deviation, root = of[kernels.MEAN] - risk_free, of[kernels.DEVIATION], math.sqrt(year.per_year)
    sharpe = float(mean / deviation) if deviation > 0 else math.nan
    _, depths, longest, below = kernels.drawdowns(levels)
    deepest = float(depths.max()) if depths.size else 0.0
    lower, upper = np.percentile(values, [100 * TAIL, 100 - 100 * TAIL])
    lags = int(4 * (values.size / 100) ** (2 / 9))
    return ReturnStatistics(
        periods=values.size,
        periods_per_year=year.per_year,
        basis=year.basis,
        total_return=growth - 1.0,
        annual_return=annual,
        annual_volatility=float(deviation * root),
        sharpe=sharpe * root,
        sharpe_error=root * math.sqrt((1 + sharpe**2 / 2) / values.size),
        sharpe_error_robust=math.nan
        if math.isnan(sharpe)
        else root
        * math.sqrt(
            max(kernels.robust_variance(risky, mean, deviation, min(lags, values.size - 1)), 0.0) / values.size
        ),
        sortino=float((of[kernels.MEAN] - required) * root / of[kernels.DOWNSIDE])
        if of[kernels.DOWNSIDE] > 0
        else math.nan,
        calmar=annual / deepest if deepest > 0 else math.nan,
        omega=_omega(values - required),
        maximum_drawdown=deepest,
        longest_drawdown=int(longest),
        time_in_drawdown=below / values.size,
        stability=float(of[kernels.STABILITY]),
        tail_ratio=abs(float(upper)) / abs(float(lower)) if lower != 0 else math.nan,
        skewness=float(of[kernels.SKEWNESS]),
        kurtosis=float(of[kernels.KURTOSIS]),
        value_at_risk=float(lower),
        conditional_value_at_risk=_lower_mean(values),
        best=float(of[kernels.LARGEST]),
        worst=float(of[kernels.SMALLEST]),
        positive=float(of[kernels.POSITIVE]),
        idle=float(of[kernels.IDLE]),
        **(_against(values, other, year.per_year, risk_free) if other is not None else {}),
    )


def drawdown_table(equity: pd.Series, capital: float, *, count: int = 10) -> pd.DataFrame:
    """The deepest falls of equity below a former peak, the deepest first.

    Returns
    -------
    ``depth`` (share of the peak), ``start`` (the peak), ``trough``, ``end`` (first time at the peak again; NaT: not
    yet), ``periods_down`` from peak to trough and ``periods_up`` from there to the end (-1: not yet). The capital
    stands as a peak at the first time.

    Examples
    --------
    >>> days = pd.date_range("2024-01-01", periods=4, freq="1D", tz="UTC")
    >>> found = drawdown_table(pd.Series([110.0, 99.0, 121.0, 118.0], days), 100.0)
    >>> found[["depth", "periods_up"]].round(3).values.tolist()
    [[0.1, 1.0], [0.025, -1.0]]
    """
    if count < 1:
        raise ConfigurationError(f"count = {count} is below 1")
    level = np.concatenate(([capital], equity.to_numpy(dtype=np.float64)))
    places, depths, _, _ = kernels.drawdowns(level)
    chosen = np.argsort(-depths, kind="stable")[:count]
    times = pd.DatetimeIndex(equity.index)
    places, depths = places[chosen], depths[chosen]
    rows = np.maximum(places - 1, 0)
    recovered = places[:, kernels.RECOVERY] >= 0
    return pd.DataFrame(
        {
            "depth": depths,
            "start": times.take(rows[:, kernels.PEAK]),
            "trough": times.take(rows[:, kernels.TROUGH]),
            "end": pd.DatetimeIndex(times.take(rows[:, kernels.RECOVERY]).where(recovered)),
            "periods_down": places[:, kernels.TROUGH] - places[:, kernels.PEAK],
            "periods_up": np.where(recovered, places[:, kernels.RECOVERY] - places[:, kernels.TROUGH], -1),
        }
    )


def bootstrap_statistics(
    returns: ArrayLike,
    periods: AnnualPeriods | float,
    *,
    mean_block: float = 20.0,
    samples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> pd.DataFrame:
    """Percentile intervals of a few figures, from histories of blocks of the returns (Politis and Romano 1994).

    Blocks of geometric length keep the dependence within them. What the series never showed no resampling can show.

    Returns
    -------
    Index ``total_return``, ``annual_return``, ``annual_volatility``, ``sharpe``, ``maximum_drawdown``; columns ``low``,
    ``high``.

    Examples
    --------
    >>> steady = bootstrap_statistics([0.01] * 30, 252, samples=10)
    >>> steady.loc["total_return"].round(4).tolist()
    [0.3478, 0.3478]
    """
    values = _checked(returns, "returns")
    if mean_block < 1 or samples < 1 or not 0 < confidence < 1:
        raise ConfigurationError(
            f"mean_block = {mean_block} or samples = {samples} is below 1, or confidence = {confidence} not in (0, 1)"
        )
    year = periods.per_year if isinstance(periods, AnnualPeriods) else float(periods)
    draw = np.random.default_rng(seed)
    begins = draw.random((samples, values.size)) < 1 / min(mean_block, values.size)
    of = kernels.resampled(values, begins, draw.integers(0, values.size, (samples, values.size)))
    steady = of[:, 2] <= 1e-12 * np.abs(of[:, 1])
    figures = {
        "total_return": of[:, 0] - 1,
        "annual_return": np.maximum(of[:, 0], 0.0) ** (year / values.size) - 1,
        "annual_volatility": of[:, 2] * math.sqrt(year),
        "sharpe": np.where(steady, np.nan, of[:, 1] / np.where(steady, 1.0, of[:, 2]) * math.sqrt(year)),
        "maximum_drawdown": of[:, 3],
    }
    tail = (1 - confidence) / 2
    rows = {
        name: np.quantile(known, [tail, 1 - tail]) if (known := v[np.isfinite(v)]).size else (math.nan, math.nan)
        for name, v in figures.items()
    }
    return pd.DataFrame.from_dict(rows, orient="index", columns=["low", "high"])


def _checked(values: ArrayLike, name: str) -> Floats:
    array = np.ascontiguousarray(np.asarray(values, dtype=np.float64))
    if array.ndim != 1 or not array.size:
        raise DataError(f"{name} have the shape {array.shape}; one value a period is needed")
    bad = ~(np.isfinite(array) & (array >= -1))
    if bad.any():
        raise DataError(
            f"{name} hold {int(bad.sum())} values that are no number or below -1, the first at {int(bad.argmax())}",
            hint="a first return without a price before it is left out or 0",
        )
    return array


def _annual(growth: float, rows: int, year: float) -> float:
    try:
        return float(growth ** (year / rows) - 1.0) if rows else math.nan
    except OverflowError:
        return math.inf


def _omega(excess: Floats) -> float:
    short = -float(excess[excess < 0].sum())
    return float(excess[excess > 0].sum()) / short if short > 0 else math.nan


def _lower_mean(values: Floats) -> float:
    last = int((values.size - 1) * TAIL)
    return float(np.partition(values, last)[: last + 1].mean())


def _against(values: Floats, other: Floats, year: float, risk_free: float) -> dict[str, Any]:
    if other.size != values.size:
        raise DataError(f"{values.size} returns and {other.size} of the benchmark do not belong together")
    centred = other - other.mean()
    variance = float(np.square(centred).mean())
    beta = float((centred * values).mean()) / variance if variance > 1e-30 else math.nan
    rest = float((values - risk_free - beta * (other - risk_free)).mean())
    active = values - other
    spread = float(active.std(ddof=1)) if active.size > 1 else math.nan
    return {
        "alpha": _annual(1 + rest, 1, year) if rest > -1 else math.nan,
        "beta": beta,
        "capture": _capture(values, other, year),
        "up_capture": _capture(values[other > 0], other[other > 0], year),
        "down_capture": _capture(values[other < 0], other[other < 0], year),
        "information_ratio": float(active.mean()) / spread * math.sqrt(year) if spread > 1e-15 else math.nan,
        "benchmark_return": float(np.prod(1.0 + other)) - 1.0,
    }


def _capture(values: Floats, other: Floats, year: float) -> float:
    if not values.size:
        return math.nan
    theirs = _annual(float(np.prod(1.0 + other)), other.size, year)
    mine = _annual(float(np.prod(1.0 + values)), values.size, year)
    return mine / theirs if theirs != 0 and math.isfinite(theirs) else math.nan
