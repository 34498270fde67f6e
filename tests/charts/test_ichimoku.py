"""Ichimoku against published values, plain windows and a loop over bars."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd

from tapeline.charts.ichimoku import TIME_NUMBERS, find_lines, ichimoku, ichimoku_signal, ichimoku_state, ichimoku_time
from tapeline.charts.pivots import find_pivots
from tapeline.charts.structure import mean_true_range
from tests.core.samples import eurusd, rough_bars

BARS = rough_bars(700)


def test_published_values(test_data: Path):
    bars = pd.read_csv(test_data / "data/indicator_oracles/quotes/default.csv", parse_dates=["date"])
    bars = bars.set_index(pd.DatetimeIndex(bars.pop("date"), tz="UTC", name="ts")).astype(float)
    rows = json.loads((test_data / "data/indicator_oracles/results/ichimoku.standard.json").read_text())
    mine = ichimoku(bars)
    for name, field in (
        ("ichimoku_conversion", "tenkanSen"),
        ("ichimoku_base", "kijunSen"),
        ("ichimoku_span_a", "senkouSpanA"),
        ("ichimoku_span_b", "senkouSpanB"),
    ):
        expected = np.array([np.nan if row[field] is None else row[field] for row in rows], dtype=float)
        np.testing.assert_allclose(mine[name].to_numpy(), expected, rtol=1e-12)
    lagging = np.array([np.nan if row["chikouSpan"] is None else row["chikouSpan"] for row in rows], dtype=float)
    # There the close is drawn 26 bars back; here each bar reads the close of 26 bars ago. Neither is the other's.
    np.testing.assert_allclose(lagging[: len(bars) - 26], bars["close"].to_numpy()[26:])
    np.testing.assert_allclose(find_lines(bars).lagged[26:], bars["close"].to_numpy()[:-26])


def test_the_state_is_what_it_says():
    lines = ichimoku(BARS)
    state = ichimoku_state(BARS)
    usual = mean_true_range(BARS, 14)
    close = BARS["close"].to_numpy()
    for t in range(80, 700, 7):
        a, b = lines["ichimoku_span_a"].iloc[t], lines["ichimoku_span_b"].iloc[t]
        top, bottom = max(a, b), min(a, b)
        row = state.iloc[t]
        assert row["ichimoku_side"] == (1 if close[t] > top else -1 if close[t] < bottom else 0)
        away = close[t] - top if close[t] > top else close[t] - bottom if close[t] < bottom else 0.0
        if usual[t] > 1e-8 * close[t]:
            np.testing.assert_allclose(row["ichimoku_cloud_distance"], away / usual[t], atol=1e-9)
            np.testing.assert_allclose(row["ichimoku_cloud_thickness"], (a - b) / usual[t], atol=1e-9)
        assert row["ichimoku_lagging"] == np.sign(close[t] - close[t - 26])
        if t + 26 < 700:
            later = lines.iloc[t + 26]
            assert row["ichimoku_leading"] == np.sign(later["ichimoku_span_a"] - later["ichimoku_span_b"])


def test_signals_against_a_loop():
    bars = eurusd().iloc[:900]
    lines = ichimoku(bars)
    close, conversion, base = (
        bars["close"].to_numpy(),
        lines["ichimoku_conversion"].to_numpy(),
        lines["ichimoku_base"].to_numpy(),
    )
    found = ichimoku_signal(bars)
    expected = []
    last = 0.0
    for t in range(len(bars)):
        sign = np.sign(conversion[t] - base[t])
        if sign not in (1.0, -1.0):
            continue
        if last and sign != last:
            expected.append((bars["close_ts"].iloc[t], int(sign)))
        last = sign
    crosses = found[found["kind"] == "conversion_base_cross"]
    assert list(zip(crosses["confirmed_at"], crosses["direction"], strict=True)) == expected
    assert len(expected) > 10
    breakouts = found[found["kind"] == "cloud_breakout"]
    side = ichimoku_state(bars)["ichimoku_side"].to_numpy()
    wanted = [t for t in range(1, 900) if side[t] in (1, -1) and side[t] != side[t - 1] and np.isfinite(side[t - 1])]
    assert breakouts["confirmed_at"].tolist() == bars["close_ts"].iloc[wanted].tolist()
    assert (breakouts["score"] == 1.0).all(), "a breakout ends beyond the cloud"
    assert set(crosses["score"].dropna()) == {0.0, 0.5, 1.0}
    inside = np.isfinite(crosses["stop"])
    at = bars["close_ts"].searchsorted(crosses["confirmed_at"])
    assert (crosses["direction"] * (close[at] - crosses["stop"]) > 0)[inside].all()
    for _, group in crosses.groupby("direction"):
        ended = group["invalidated_at"].dropna()
        assert ended.isin(crosses["confirmed_at"]).all()


def test_time_numbers_count_from_the_turn_as_bar_one():
    found = ichimoku_time(BARS, slack=0)
    pivots = find_pivots(BARS)
    for t in range(0, 700, 13):
        known = pivots.row[pivots.confirmed <= t]
        ages = t - known + 1
        assert found["ichimoku_time_numbers"].iloc[t] == np.isin(ages, TIME_NUMBERS).sum()
        if known.size:
            following = [number - ages[-1] for number in TIME_NUMBERS if number >= ages[-1]]
            assert found["ichimoku_next_time_number"].iloc[t] == following[0]
    assert found["ichimoku_time_numbers"].max() >= 2
