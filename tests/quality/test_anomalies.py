"""Anomalies: each score by its definition, causal, the same on a tail, and measured against planted faults."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tapeline.core.errors import ConfigurationError
from tapeline.quality.anomalies import BURST, LOOKBACK, METHODS, MINIMUM, WINDOW, find_anomalies
from tapeline.quality.checks import columns_of
from tests.quality.batches import sample_bars
from tests.quality.faults import FAULTS, measure, table
from tests.support import make_bars

PAGE = Path(__file__).parents[2] / "docs" / "validation.md"


def score(bars: pd.DataFrame, method: str) -> np.ndarray:
    return METHODS[method].scores(columns_of(bars))[0]


def plain_scores(bars: pd.DataFrame, method: str) -> np.ndarray:
    """The definitions, bar by bar, with numpy's own statistics."""
    change = np.r_[np.nan, np.diff(np.log(bars["close"].to_numpy()))]
    judged = change
    if method == "gap":
        judged = np.r_[np.nan, np.log(bars["open"].to_numpy()[1:]) - np.log(bars["close"].to_numpy()[:-1])]
    if method == "volume":
        judged = change = np.log1p(bars["volume"].to_numpy())
    out = np.full(len(bars), np.nan)
    for i in range(len(bars)):
        past = change[:i][~np.isnan(change[:i])][-WINDOW:]
        if method == "rolling_deviation":
            now = change[: i + 1][~np.isnan(change[: i + 1])]
            before = now[:-BURST][-WINDOW:]
            if len(before) >= MINIMUM:
                out[i] = np.std(now[-BURST:], ddof=1) / np.std(before, ddof=1)
            continue
        if len(past) < MINIMUM or np.isnan(judged[i]):
            continue
        if method == "zscore":
            out[i] = (judged[i] - past.mean()) / past.std(ddof=1)
        elif method == "iqr":
            low, high = np.quantile(past, [0.25, 0.75])
            out[i] = (max(judged[i] - high, 0.0) + min(judged[i] - low, 0.0)) / (high - low)
        else:
            middle = np.median(past)
            out[i] = (judged[i] - middle) / (1.4826 * np.median(np.abs(past - middle)))
    return out


@pytest.mark.parametrize("method", ["zscore", "robust_zscore", "iqr", "rolling_deviation", "gap", "volume"])
def test_scores_are_those_of_the_definition(method: str) -> None:
    bars = sample_bars().iloc[:600]
    np.testing.assert_allclose(score(bars, method), plain_scores(bars, method), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("method", METHODS)
@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 500), cut=st.integers(MINIMUM + 30, 499))
def test_the_future_changes_no_score_and_the_tail_suffices(method: str, seed: int, cut: int) -> None:
    bars = make_bars(500, seed=seed)
    bars.iloc[100:106, :4] = 1.1
    bars.iloc[cut - 1, 3] *= 1.05
    whole, back = METHODS[method].scores(columns_of(bars))
    early, early_back = METHODS[method].scores(columns_of(bars.iloc[:cut]))
    np.testing.assert_array_equal(early, whole[:cut])
    np.testing.assert_array_equal(early_back, back[:cut])
    tail = score(bars.iloc[max(cut - LOOKBACK, 0) : cut], method)
    np.testing.assert_array_equal(tail[-1], whole[cut - 1])


def flat(rows: int = 300) -> pd.DataFrame:
    """Bars that move by one step up and down, so that every deviation is known."""
    ts = pd.date_range("2025-07-30", periods=rows, freq="5min", tz="UTC", name="ts")
    close = np.exp(0.001 * (np.arange(rows) % 2))
    return pd.DataFrame({"open": close, "high": close, "low": close, "close": close, "volume": 1.0}, index=ts)


def put(bars: pd.DataFrame, rows: slice, factor: float, names: tuple[str, ...] = ("open", "high", "low", "close")):
    bars = bars.copy()
    for name in names:
        bars.iloc[rows, bars.columns.get_loc(name)] *= factor
    return bars


@pytest.mark.parametrize("bars_away", [1, 2, 3])
def test_a_spike_is_reported_at_its_first_bar_and_known_when_it_returned(bars_away: int) -> None:
    bars = put(flat(), slice(250, 250 + bars_away), 1.1)
    found = find_anomalies(bars, "M5", methods=["spike_and_return"])
    step = pd.Timedelta(minutes=5)
    assert found["ts"].tolist() == [bars.index[250]]
    assert found["known_at"].tolist() == [bars.index[250 + bars_away] + step]
    assert found["score"].iloc[0] > 60
    assert find_anomalies(bars.iloc[: 250 + bars_away], "M5", methods=["spike_and_return"]).empty


def test_what_stays_away_is_no_spike_and_a_wick_is_one_at_once() -> None:
    for away in (slice(250, 254), slice(250, None)):
        assert find_anomalies(put(flat(), away, 1.1), "M5", methods=["spike_and_return"]).empty
    wick = find_anomalies(put(flat(), slice(250, 251), 0.9, ("low",)), "M5", methods=["spike_and_return"])
    assert wick["known_at"].tolist() == [flat().index[251]]
    assert wick["score"].iloc[0] < -60


def test_a_frozen_price_counts_its_bars() -> None:
    bars = flat()
    bars.iloc[100:106, :4] = 1.0
    found = find_anomalies(bars, "M5", methods=["frozen_price"])
    assert found["score"].tolist() == [5.0, 6.0, 7.0]  # the bar after the six stands at 1.0 as well
    assert found["message"].iloc[0].startswith("OHLCV frozen price at 2025-07-30 08:")
    assert found["message"].iloc[0].endswith("bars=5.0")


def test_a_message_reads_as_promised() -> None:
    bars = put(flat(), slice(145, 146), 1.004)  # 12:05
    found = find_anomalies(bars, "M5", methods=["zscore"], thresholds={"zscore": 4.0})
    assert found["message"].iloc[0] == f"OHLCV spike at 2025-07-30 12:05, z={found['score'].iloc[0]:.1f}"
    assert list(found.columns) == ["ts", "known_at", "method", "field", "score", "message"]


def test_broken_prices_are_passed_over() -> None:
    bars = make_bars(400)
    bars.iloc[200, :4] = [np.nan, -1.0, 0.0, np.inf]
    for name in METHODS:
        assert not np.isinf(score(bars, name)).any(), name
    assert np.isnan(score(bars, "zscore")[[200, 201]]).all()
    assert np.isfinite(score(bars, "zscore")[202])
    assert find_anomalies(bars.iloc[:0], "H1").empty


def test_a_constant_price_has_no_deviation() -> None:
    bars = flat()
    bars[["open", "high", "low", "close"]] = 1.0
    found = find_anomalies(bars, "M5")
    assert set(found["method"]) == {"frozen_price"}


def test_unknown_methods_and_thresholds_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="guess"):
        find_anomalies(make_bars(5), "H1", methods=["guess"])
    with pytest.raises(ConfigurationError, match="above 0"):
        find_anomalies(make_bars(5), "H1", thresholds={"zscore": -1.0})


def test_planted_faults_are_found_as_the_page_says() -> None:
    measured = measure(sample_bars()).set_index(["fault", "method"])
    best = {
        "bad close": "robust_zscore",
        "bad wick": "spike_and_return",
        "level shift": "gap",
        "frozen 12 bars": "frozen_price",
        "burst 20 bars": "rolling_deviation",
        "volume x1000": "volume",
    }
    assert set(best) == set(FAULTS)
    for pair in best.items():
        assert measured.loc[pair, "recall"] >= 0.95, pair
    assert table(measured.reset_index()) in PAGE.read_text(encoding="utf-8")
