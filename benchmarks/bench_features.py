"""What features cost: the standard set on a million bars, a peer's whole set, many symbols, window kernels.

CPU seconds on one core. Wherever a peer computes the same number, the two are held to be equal.
"""

from __future__ import annotations

import resource
import time
import warnings
from concurrent.futures import ProcessPoolExecutor

import numpy as np
import pandas as pd

from benchmarks.harness import cpu_seconds, minute_bars, report
from tapeline.core.timeframe import Timeframe
from tapeline.features.engine import compute
from tapeline.features.feature_set import load_feature_set
from tapeline.features.panel import latest
from tapeline.features.ta_columns import DIFFERENCES, ta_columns
from tapeline.features.window_kernels import rolling_quantiles, running_moments

ROWS, PEER_ROWS, WINDOW = 1_000_000, 100_000, 100
SETTLED = 1_000
SYMBOLS = 1_000
M1 = Timeframe.parse("M1")


def main() -> int:
    """Measure, compare, report; 1 where a target is missed."""
    bars = minute_bars(ROWS)
    figures = [standard_set(bars), against_ta(bars.head(PEER_ROWS)), newest_bars(bars), *kernels(bars)]
    return 0 if all(figures) else 1


def standard_set(bars: pd.DataFrame) -> bool:
    """The whole standard set on all bars; the kernels are compiled on a few before."""
    chosen = load_feature_set("standard")
    compute(chosen, bars.head(2000), M1)
    seconds = cpu_seconds(lambda: compute(chosen, bars, M1), repeats=1, warm=False)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    holds = seconds < 10.0 and peak < 3.0
    report(
        f"standard set, {len(chosen.columns)} columns on {len(bars)} bars, peak {peak:.1f} GB",
        seconds,
        "s",
        target="under 10 s and 3 GB",
        holds=holds,
    )
    return holds


def against_ta(bars: pd.DataFrame) -> bool:
    """The columns of the library ta, by it and by us, equal but for the differences that our page names."""
    from ta import add_all_ta_features

    # On an index of times ta's parabolic stop writes new rows instead of values, and never comes to an end.
    plain = bars[["open", "high", "low", "close", "volume"]].reset_index(drop=True)

    def peer() -> pd.DataFrame:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            return add_all_ta_features(plain.copy(), "open", "high", "low", "close", "volume")

    kept: list[pd.DataFrame] = []
    peer_seconds = cpu_seconds(lambda: kept.append(peer()), repeats=1, warm=False)
    theirs, ours = kept[0].iloc[:, plain.shape[1] :], ta_columns(plain)
    assert list(theirs.columns) == list(ours.columns)
    for name in ours.columns.difference(list(DIFFERENCES)):
        size = float(theirs[name].abs().max())
        np.testing.assert_allclose(
            ours[name].iloc[SETTLED:], theirs[name].iloc[SETTLED:], rtol=1e-6, atol=1e-6 * size, err_msg=name
        )
    seconds = cpu_seconds(lambda: ta_columns(bars))
    holds = peer_seconds >= 200.0 * seconds
    report(
        f"the {ours.shape[1]} columns of ta on {len(bars)} bars, {len(DIFFERENCES)} of them better than there",
        seconds,
        "s",
        target="at least 200 times the peer",
        holds=holds,
        peer="ta.add_all_ta_features",
        peer_value=peer_seconds,
    )
    return holds


def newest_bars(bars: pd.DataFrame) -> bool:
    """One new bar of each of many symbols, by two processes, in seconds on the clock: that is what is waited for."""
    chosen = load_feature_set()
    panel = {f"S{i}": bars.iloc[i : i + chosen.lookback] for i in range(SYMBOLS)}
    some = dict(list(panel.items())[:3])
    alone = {symbol: compute(chosen, frame, M1, tail=1) for symbol, frame in some.items()}
    peer_seconds = cpu_seconds(lambda: [compute(chosen, frame, M1, tail=1) for frame in some.values()])
    with ProcessPoolExecutor(2) as executor:
        found = latest(chosen, panel, M1, executor=executor)
        for symbol, row in alone.items():
            np.testing.assert_allclose(
                found.loc[symbol, list(chosen.columns)].astype(float),
                row[list(chosen.columns)].iloc[0],
                rtol=1e-4,
                atol=1e-5,
            )
        waited = []
        for _ in range(3):
            started = time.perf_counter()
            latest(chosen, panel, M1, executor=executor)
            waited.append(time.perf_counter() - started)
    seconds = min(waited)
    holds = seconds < 1.0
    report(
        f"{len(chosen.columns)} features of the newest bar of {SYMBOLS} symbols, two cores, on the clock",
        seconds,
        "s",
        target="under 1 s",
        holds=holds,
        peer="symbol by symbol, one core",
        peer_value=peer_seconds / len(some) * SYMBOLS,
    )
    return holds


def kernels(bars: pd.DataFrame) -> list[bool]:
    """Quantiles, skewness and kurtosis of a rolling window against pandas, equal to rounding."""
    returns = np.diff(np.log(bars["close"].to_numpy()))
    rolled = pd.Series(returns).rolling(WINDOW)
    shares = (0.05, 0.25, 0.5, 0.75, 0.95)
    _, _, skew, kurtosis = running_moments(returns, WINDOW)
    n = WINDOW
    np.testing.assert_allclose(skew * np.sqrt(n * (n - 1)) / (n - 2), rolled.skew(), rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(
        ((n + 1) * kurtosis + 6) * (n - 1) / ((n - 2) * (n - 3)), rolled.kurt(), rtol=1e-6, atol=1e-8
    )
    found = rolling_quantiles(returns, WINDOW, np.array(shares))
    for share, ours in zip(shares, found, strict=True):
        np.testing.assert_allclose(ours, rolled.quantile(share), rtol=0, atol=1e-15)
    cases = (
        (
            "5 quantiles",
            lambda: rolling_quantiles(returns, WINDOW, np.array(shares)),
            lambda: [rolled.quantile(share) for share in shares],
            0.2,
        ),
        (
            "1 quantile",
            lambda: rolling_quantiles(returns, WINDOW, np.array([0.05])),
            lambda: rolled.quantile(0.05),
            0.5,
        ),
        (
            "mean, deviation, skewness and kurtosis",
            lambda: running_moments(returns, WINDOW),
            lambda: (rolled.mean(), rolled.std(), rolled.skew(), rolled.kurt()),
            0.2,
        ),
    )
    results = []
    for name, ours, theirs, part in cases:
        seconds, peer_seconds = cpu_seconds(ours), cpu_seconds(theirs)
        holds = seconds <= part * peer_seconds
        report(
            f"{name}, window {WINDOW}, {returns.size} values",
            seconds,
            "s",
            target=f"at most {part:g} of the peer's time",
            holds=holds,
            peer="pandas rolling",
            peer_value=peer_seconds,
        )
        results.append(holds)
    return results


if __name__ == "__main__":
    raise SystemExit(main())
