"""Unusual bars: faults planted in real bars, slow readable forms, and stumpy and scikit-learn as peers."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from tapeline.core.errors import ConfigurationError, DataError
from tapeline.core.timeframe import Timeframe
from tapeline.features.behaviour import (
    KINDS,
    ProfileStream,
    discord_scores,
    effort_without_result,
    isolation_scores,
    left_profile,
    robust_score,
    stop_run,
    unusual_bars,
)
from tests.core.samples import eurusd
from tests.support import make_bars

H1 = Timeframe.parse("H1")


def wandering(rows: int = 420, seed: int = 1) -> np.ndarray:
    """A random walk with a flat stretch that comes twice."""
    values = np.cumsum(np.random.default_rng(seed).normal(size=rows))
    values[150:180] = values[150]
    values[300:330] = values[300]
    return values


def slow_stop_run(bars: pd.DataFrame, window: int, within: int) -> np.ndarray:
    high, low, close = (bars[name].to_numpy() for name in ("high", "low", "close"))
    result = np.full((len(bars), 2), np.nan)
    for i in range(window + within - 1, len(bars)):
        best = (0.0, 0.0)
        for first in range(i - within + 1, i + 1):
            before = slice(first - window, first)
            usual = (high[before] - low[before]).mean()
            if usual <= 1e-8 * close[i]:
                continue
            top, bottom = high[before].max(), low[before].min()
            inside = close[first:i]
            if high[first] > top and close[i] <= top and (inside > top).all():
                best = max(best, ((high[first : i + 1].max() - top) / usual, -1.0))
            if low[first] < bottom and close[i] >= bottom and (inside < bottom).all():
                best = max(best, ((bottom - low[first : i + 1].min()) / usual, 1.0))
        result[i] = best[1], best[0]
    return result


def test_the_profile_is_stumpys_value_by_value() -> None:
    """The batch form walks diagonals, the stream asks stumpy for one distance profile a value."""
    values = wandering()
    distance, nearest = left_profile(values, 24)
    stream = ProfileStream(values[:0], 24)
    live = np.array([stream.update(value) for value in values])
    # Of two stretches that are alike to the last bit, stumpy's difference of large sums leaves the root of a rounding.
    np.testing.assert_allclose(distance, live, atol=2e-6)
    assert np.isnan(distance[:29]).all()
    assert distance[329] == 0.0, "the flat stretch has come before"
    assert 173 <= nearest[329] <= 179
    seeded = ProfileStream(values[:400], 24)
    assert [seeded.update(value) for value in values[400:]] == live[400:].tolist()


def test_the_profile_of_the_past_does_not_change() -> None:
    values = wandering()
    whole, _ = left_profile(values, 16)
    other = values.copy()
    other[300:] = other[300:][::-1] * 7
    np.testing.assert_array_equal(left_profile(other, 16)[0][:300], whole[:300])
    np.testing.assert_allclose(left_profile(values[:300], 16)[0], whole[:300], atol=1e-9)


def test_a_bounded_stream_forgets() -> None:
    values = wandering()
    stream = ProfileStream(values[:329], 24, keep=100)
    full = ProfileStream(values[:329], 24)
    assert full.update(float(values[329])) == 0.0
    assert stream.update(float(values[329])) > 0.3, "the first flat stretch lies beyond what is kept"


def test_a_strange_shape_is_the_greatest_discord() -> None:
    beat = np.tile(np.exp(-0.5 * ((np.arange(25) - 8) / 2.0) ** 2), 40)
    beat += np.random.default_rng(3).normal(0, 0.02, beat.size)
    beat[700:725] = beat[700:725][::-1] * 0.7
    scores = discord_scores(beat, 25, memory=300)
    top = int(np.nanargmax(scores))
    assert 700 <= top < 750
    assert scores[top] > 6
    quiet = np.r_[scores[400:700], scores[750:]]
    assert np.nanmax(quiet) < scores[top] / 2


def test_a_robust_score_reads_the_values_before_alone() -> None:
    values = np.random.default_rng(0).normal(size=300)
    values[[20, 60]] = np.nan
    found = robust_score(values, 50)
    for i in (40, 120, 299):
        past = values[i - 50 : i] if i >= 50 else values[:i]
        past = past[~np.isnan(past)]
        expected = (values[i] - np.median(past)) / (1.4826 * np.median(np.abs(past - np.median(past))))
        assert found[i] == pytest.approx(expected)
    assert np.isnan(found[:25]).all()


@pytest.mark.parametrize("seed", range(3))
def test_stop_runs_are_those_of_the_slow_form(seed: int) -> None:
    bars = make_bars(400, seed=seed)
    found = stop_run(bars, window=20, within=3).to_numpy()
    expected = slow_stop_run(bars, 20, 3)
    assert {-1.0, 1.0} <= set(expected[22:, 0])
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_effort_compares_volume_with_movement() -> None:
    bars = eurusd().iloc[:500]
    found = effort_without_result(bars, window=30)
    before = bars["close"].shift(1)
    height = np.maximum(bars["high"], before) - np.minimum(bars["low"], before)
    volume = bars["volume"] / bars["volume"].rolling(30).mean().shift(1)
    expected = np.log(volume) - np.log(height / height.rolling(30).mean().shift(1))
    usable = np.isfinite(expected)
    np.testing.assert_allclose(found[usable], np.clip(expected[usable], -10, 10), rtol=1e-6, atol=1e-9)
    assert usable.sum() > 400


def test_the_forest_is_scikits_and_no_row_is_in_the_forest_that_scores_it() -> None:
    from sklearn.ensemble import IsolationForest

    ts = pd.date_range("2017-01-02", periods=700, freq="h", tz="UTC")
    generator = np.random.default_rng(5)
    rows = pd.DataFrame(generator.normal(size=(700, 3)), columns=["a", "b", "c"], index=ts)
    rows.iloc[400, 2] = 25.0
    rows.iloc[450, 0] = np.nan
    found = isolation_scores(rows, window=300, trees=25)
    assert found["score"].iloc[:336].isna().all(), "the first Monday with 300 rows behind it is the third"
    forest = IsolationForest(n_estimators=25, random_state=0).fit(rows.to_numpy()[36:336])
    expected = -forest.score_samples(rows.to_numpy()[336:450])
    np.testing.assert_allclose(found["score"].iloc[336:450], expected)
    assert np.isnan(found["score"].iloc[450])
    assert found["score"].iloc[336:500].idxmax() == ts[400]
    assert found["column"].iloc[400] == "c"
    assert found["deviations"].iloc[400] > 20
    later = rows.copy()
    later.iloc[600:] *= 100
    pd.testing.assert_frame_equal(isolation_scores(later, window=300, trees=25).iloc[:600], found.iloc[:600])


def test_planted_faults_in_real_bars_are_found_with_their_reason() -> None:
    bars = eurusd().iloc[:2400].copy()
    usual = (bars["high"] - bars["low"]).rolling(48).mean()
    volume = bars["volume"].rolling(50).mean()
    at = {"volume": bars.columns.get_loc("volume"), "high": bars.columns.get_loc("high")}
    loud = [1500, 1720, 1910, 2100, 2290]
    swept = [1550, 1760, 1960, 2165, 2340]
    for i in loud:
        bars.iloc[i, at["volume"]] = 40 * volume.iloc[i]
    for i in swept:
        bars.iloc[i, at["high"]] = bars["high"].iloc[i - 50 : i].max() + 4 * usual.iloc[i]
    found = unusual_bars(bars, H1)
    assert set(found["kind"].cat.categories) == set(KINDS)
    assert (found["known_at"] == found["ts"] + pd.Timedelta(hours=1)).all()
    assert (found["score"] >= 1).all()
    volumes = found[found["kind"] == "volume without move"].set_index("ts")
    assert set(bars.index[loud]) <= set(volumes.index)
    assert volumes.loc[bars.index[loud[0]], "reason"].startswith("volume 39.4 times, true range 0.7")
    runs = found[found["kind"] == "stop run"].set_index("ts")
    assert set(bars.index[swept]) <= set(runs.index)
    assert "above the high of 48 bars" in runs.loc[bars.index[swept[0]], "reason"]
    isolated = set(found.loc[found["kind"] == "isolated bar", "ts"])
    planted = set(bars.index[[*loud, *swept]])
    assert len(isolated & planted) >= 7, "three of the loud bars are loud in one number alone"
    assert len(isolated - planted) <= 0.02 * 1400, "of the bars that no fault was planted in"
    # What was found before a bar does not change with what comes after it.
    cut = 2000
    early = unusual_bars(bars.iloc[:cut], H1)
    pd.testing.assert_frame_equal(
        early.drop(columns="score"), found[found["ts"] < bars.index[cut]].drop(columns="score").reset_index(drop=True)
    )


def test_what_cannot_be_profiled_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="window = 2"):
        left_profile(np.arange(10.0), 2)
    with pytest.raises(DataError, match="value 3 is not finite"):
        left_profile(np.array([1.0, 2, 3, np.nan, 5]), 3)
    with pytest.raises(ConfigurationError, match="keep = 10"):
        ProfileStream(np.arange(10.0), 8, keep=10)
    with pytest.raises(DataError, match="value = inf"):
        ProfileStream(np.arange(10.0), 3).update(float("inf"))
