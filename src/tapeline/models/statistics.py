"""How far a result may be believed: Sharpe ratios after trials, track record lengths, block bootstrap intervals.

Sharpe ratios here are those of one period (one trade), never annualised; kurtosis is Pearson's (3 for a normal).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Final

import numpy as np
import numpy.typing as npt

from tapeline.core.errors import ConfigurationError, DataError
from tapeline.evaluation.metrics import sharpe_ratio

EULER_GAMMA: Final = 0.5772156649015329
_NORMAL: Final = NormalDist()

Metric = Callable[..., float]
"""A function of (target, prediction, weight)."""


@dataclass(frozen=True)
class SharpeEvidence:
    """What a series of returns says of its Sharpe ratio.

    Parameters
    ----------
    returns:
        How many returns.
    sharpe:
        Ratio of one period.
    skewness, kurtosis:
        Third and fourth standardised moments (population; kurtosis 3 for a normal).
    probabilistic:
        Probability that the true ratio is above 0, given one trial (Bailey and Lopez de Prado 2012).
    trials:
        How many configurations were tried before this one was shown.
    deflated:
        Probability that it is above what the best of so many worthless trials would show (2014).
    effective_trials:
        How many independent trials these amount to, for trials that resemble each other are not as many chances.
    deflated_effective:
        The same probability against the best of so many. It is the more lenient of the two.
    minimum_length:
        Returns needed for 95 % confidence that the ratio is above 0; infinite where it is not positive.
    """

    returns: int
    sharpe: float
    skewness: float
    kurtosis: float
    probabilistic: float
    trials: int
    deflated: float
    effective_trials: float
    deflated_effective: float
    minimum_length: float


def probabilistic_sharpe_ratio(
    sharpe: float, length: int, *, skewness: float = 0.0, kurtosis: float = 3.0, benchmark: float = 0.0
) -> float:
    """Probability that the true Sharpe ratio exceeds ``benchmark``, from a track record of ``length`` returns.

    Bailey and Lopez de Prado 2012, "The Sharpe Ratio Efficient Frontier", Journal of Risk 15 (2), equation 9.

    Examples
    --------
    >>> round(probabilistic_sharpe_ratio(0.458, 24, skewness=-2.448, kurtosis=10.164), 3)
    0.913
    """
    if length < 2:
        return math.nan
    variance = _sharpe_variance(sharpe, skewness, kurtosis)
    return _NORMAL.cdf((sharpe - benchmark) * math.sqrt(length - 1) / math.sqrt(variance))


def minimum_track_record_length(
    sharpe: float,
    *,
    skewness: float = 0.0,
    kurtosis: float = 3.0,
    benchmark: float = 0.0,
    confidence: float = 0.95,
) -> float:
    """How many returns it takes to say, with ``confidence``, that the true ratio exceeds ``benchmark``.

    Bailey and Lopez de Prado 2012, equation 11. Infinite where ``sharpe`` does not exceed the benchmark.

    Examples
    --------
    >>> round(minimum_track_record_length(2 / 250**0.5, benchmark=1 / 250**0.5) / 250, 2)
    2.73
    """
    if not 0 < confidence < 1:
        raise ConfigurationError(f"confidence = {confidence} is not in (0, 1)")
    if not sharpe > benchmark:
        return math.inf
    variance = _sharpe_variance(sharpe, skewness, kurtosis)
    return 1 + variance * (_NORMAL.inv_cdf(confidence) / (sharpe - benchmark)) ** 2


def expected_maximum_sharpe(trials: float, variance: float) -> float:
    """The Sharpe ratio that the best of ``trials`` worthless, independent strategies is expected to show.

    Bailey and Lopez de Prado 2014, "The Deflated Sharpe Ratio", Journal of Portfolio Management 40 (5), equation 1;
    0 for a single trial, ``variance`` being that of the ratios between trials.

    Examples
    --------
    >>> round(expected_maximum_sharpe(100, 0.5 / 250), 4)
    0.1132
    """
    if not trials >= 1 or not variance >= 0:
        raise ConfigurationError(f"trials = {trials} must be 1 or more and variance = {variance} 0 or more")
    if trials == 1:
        return 0.0
    first = _NORMAL.inv_cdf(1 - 1 / trials)
    second = _NORMAL.inv_cdf(1 - 1 / (trials * math.e))
    return math.sqrt(variance) * ((1 - EULER_GAMMA) * first + EULER_GAMMA * second)


def deflated_sharpe_ratio(
    sharpe: float,
    length: int,
    *,
    trials: float,
    variance: float,
    skewness: float = 0.0,
    kurtosis: float = 3.0,
) -> float:
    """Probability that a Sharpe ratio is real, given how many trials it was the best of.

    The probabilistic Sharpe ratio against the expected maximum of ``trials`` (Bailey and Lopez de Prado 2014,
    equation 2).

    Parameters
    ----------
    sharpe, length:
        The ratio of one period and the number of returns behind it.
    trials, variance:
        Number of independent trials and the variance of their ratios.
    skewness, kurtosis:
        Of the returns.

    Examples
    --------
    The paper's own example: 100 trials, five years of daily returns, an annualised ratio of 2.5.

    >>> ratio = 2.5 / 250**0.5
    >>> round(deflated_sharpe_ratio(ratio, 1250, trials=100, variance=0.5 / 250, skewness=-3, kurtosis=10), 4)
    0.9004
    """
    benchmark = expected_maximum_sharpe(trials, variance)
    return probabilistic_sharpe_ratio(sharpe, length, skewness=skewness, kurtosis=kurtosis, benchmark=benchmark)


def minimum_backtest_length(trials: float, sharpe: float = 1.0) -> float:
    """Years of data that so many trials need, lest the best of worthless ones be expected to show this annual ratio.

    Bailey, Borwein, Lopez de Prado and Zhu 2014, "Pseudo-mathematics and financial charlatanism", Notices of the AMS
    61 (5), equation 6: the square of the expected maximum of ``trials`` independent ratios over ``sharpe``.

    Examples
    --------
    The paper's warning: with five years of data, no more than 45 configurations should be tried.

    >>> minimum_backtest_length(45) < 5 < minimum_backtest_length(46)
    True
    """
    if not sharpe > 0:
        raise ConfigurationError(f"sharpe = {sharpe} is not above 0")
    return (expected_maximum_sharpe(trials, 1.0) / sharpe) ** 2


def sharpe_evidence(
    returns: npt.ArrayLike,
    *,
    trials: int,
    trial_sharpes: Sequence[float] = (),
    effective_trials: float | None = None,
) -> SharpeEvidence:
    """Judge a series of returns in the light of the trials that led to it.

    The variance between trials is the greater of what ``trial_sharpes`` show and ``1 / (length - 1)``, which
    independent worthless trials of this length would show: trials of one study resemble each other, and their small
    spread must not make a lucky one look sound. ``effective_trials`` is their number in independent ones, all of them
    where it is not known.
    """
    effective = float(max(trials, 1)) if effective_trials is None else max(float(effective_trials), 1.0)
    r = np.asarray(returns, dtype=np.float64)
    sharpe = sharpe_ratio(r)
    if r.size < 3 or not math.isfinite(sharpe) or np.ptp(r) == 0:
        unknown = math.nan
        return SharpeEvidence(r.size, sharpe, unknown, unknown, unknown, trials, unknown, effective, unknown, unknown)
    z = (r - r.mean()) / r.std()
    skewness, kurtosis = float((z**3).mean()), float((z**4).mean())
    finite = [value for value in trial_sharpes if math.isfinite(value)]
    seen = float(np.var(finite, ddof=1)) if len(finite) > 1 else 0.0
    moments = {"skewness": skewness, "kurtosis": kurtosis}
    variance = max(seen, 1 / (r.size - 1))
    return SharpeEvidence(
        returns=r.size,
        sharpe=sharpe,
        skewness=skewness,
        kurtosis=kurtosis,
        probabilistic=probabilistic_sharpe_ratio(sharpe, r.size, **moments),
        trials=trials,
        deflated=deflated_sharpe_ratio(sharpe, r.size, trials=max(trials, 1), variance=variance, **moments),
        effective_trials=effective,
        deflated_effective=deflated_sharpe_ratio(sharpe, r.size, trials=effective, variance=variance, **moments),
        minimum_length=minimum_track_record_length(sharpe, **moments),
    )


def stationary_bootstrap(instants: int, mean_block: float, samples: int, *, seed: int = 0) -> npt.NDArray[np.int64]:
    """How often each instant is drawn in each sample of a stationary bootstrap.

    Blocks of geometric length around ``mean_block`` start at random instants and wrap around, so that serial
    dependence within a block survives (Politis and Romano 1994, JASA 89, p. 1303).

    Returns
    -------
    Counts of shape (samples, instants); every row sums to ``instants``.

    Examples
    --------
    >>> stationary_bootstrap(4, 2.0, 3).sum(axis=1).tolist()
    [4, 4, 4]
    """
    if instants < 1 or mean_block < 1 or samples < 1:
        raise ConfigurationError(f"a bootstrap of {samples} samples in blocks of {mean_block} is impossible")
    generator = np.random.default_rng(seed)
    begins = generator.random((samples, instants)) < 1 / mean_block
    begins[:, 0] = True
    starts = generator.integers(0, instants, size=(samples, instants))
    place = np.arange(instants)
    last_begin = np.maximum.accumulate(np.where(begins, place, 0), axis=1)
    chosen = (np.take_along_axis(starts, last_begin, axis=1) + place - last_begin) % instants
    flat = chosen + instants * np.arange(samples)[:, None]
    return np.bincount(flat.ravel(), minlength=samples * instants).reshape(samples, instants)


def bootstrap_intervals(
    metrics: Mapping[str, Metric],
    target: npt.ArrayLike,
    prediction: npt.ArrayLike,
    instant: npt.ArrayLike,
    *,
    mean_block: float,
    samples: int = 400,
    confidence: float = 0.95,
    seed: int = 0,
) -> dict[str, tuple[float, float]]:
    """Percentile intervals of metrics of dependent rows.

    Instants are resampled in blocks, each with all its rows, so that neither overlapping labels nor symbols that move
    together make the interval too narrow.

    Parameters
    ----------
    metrics:
        By name, a function of (target, prediction, weight); the weight counts how often a row was drawn.
    target, prediction:
        What each row was and what was said of it.
    instant:
        The decision time of each row, of any sortable type.
    mean_block:
        Mean block length in instants; about twice the reach of a label.

    Returns
    -------
    (low, high) by name; NaN where no sample allowed the metric.
    """
    y, p = np.asarray(target), np.asarray(prediction)
    if not y.size == p.shape[0] == np.size(instant):
        raise DataError(f"{y.size} targets, {p.shape[0]} predictions and {np.size(instant)} instants differ in number")
    unique, position = np.unique(np.asarray(instant), return_inverse=True)
    counts = stationary_bootstrap(unique.size, min(mean_block, float(unique.size)), samples, seed=seed)
    drawn: dict[str, list[float]] = {name: [] for name in metrics}
    for row in counts:
        weight = row[position].astype(np.float64)
        for name, metric in metrics.items():
            drawn[name].append(metric(y, p, weight))
    tail = (1 - confidence) / 2
    return {name: _quantiles(values, tail) for name, values in drawn.items()}


def _quantiles(values: Sequence[float], tail: float) -> tuple[float, float]:
    finite = [value for value in values if math.isfinite(value)]
    if not finite:
        return math.nan, math.nan
    low, high = np.quantile(finite, [tail, 1 - tail])
    return float(low), float(high)


def _sharpe_variance(sharpe: float, skewness: float, kurtosis: float) -> float:
    variance = 1 - skewness * sharpe + (kurtosis - 1) / 4 * sharpe**2
    if not variance > 0:
        raise DataError(f"skewness {skewness} and kurtosis {kurtosis} belong to no distribution of returns")
    return variance
