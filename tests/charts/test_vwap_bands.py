"""VWAP and its bands against pandas by period, numpy's weighted moments, and a loop for the signals."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from tapeline.charts.bar_arrays import BarArrays
from tapeline.charts.pivots import find_pivots
from tapeline.charts.vwap_bands import (
    anchored_average,
    anchored_vwap,
    average_of_span,
    average_of_window,
    vwap_bands,
    vwap_place,
    vwap_signal,
)
from tapeline.core.errors import DataError
from tests.core.samples import eurusd, rough_bars

BARS = eurusd().iloc[:1500]


def moments(part: pd.DataFrame) -> tuple[float, float]:
    price = (part["high"] + part["low"] + part["close"]) / 3
    mean = np.average(price, weights=part["volume"])
    return mean, np.sqrt(np.average((price - mean) ** 2, weights=part["volume"]))


@pytest.mark.parametrize(
    ("span", "key"),
    [
        ("day", lambda ts: ts.normalize()),
        ("week", lambda ts: ts.tz_localize(None).to_period("W").start_time),
        ("month", lambda ts: ts.tz_localize(None).to_period("M").start_time),
    ],
)
def test_it_is_the_weighted_mean_of_the_period_so_far(span, key):
    found = vwap_bands(BARS, span)
    price = (BARS["high"] + BARS["low"] + BARS["close"]) / 3
    groups = key(pd.DatetimeIndex(BARS.index))
    turnover, volume = (price * BARS["volume"]).groupby(groups).cumsum(), BARS["volume"].groupby(groups).cumsum()
    np.testing.assert_allclose(found[f"{span}_vwap"], turnover / volume, rtol=1e-12)
    for t in (37, 333, 901):
        part = BARS.iloc[: t + 1][groups[: t + 1] == groups[t]]
        mean, deviation = moments(part)
        assert found[f"{span}_vwap_upper_2"].iloc[t] == pytest.approx(mean + 2 * deviation, rel=1e-12)
        assert found[f"{span}_vwap_lower"].iloc[t] == pytest.approx(mean - deviation, rel=1e-12)


def test_a_day_begins_when_its_zone_says_so():
    found = vwap_bands(BARS, "day", "America/New_York", 17 * 60)["day_vwap"]
    local = pd.DatetimeIndex(BARS.index).tz_convert("America/New_York")
    begins = np.flatnonzero((local.hour == 17) & (local.minute == 0))
    price = ((BARS["high"] + BARS["low"] + BARS["close"]) / 3).to_numpy()
    np.testing.assert_allclose(found.to_numpy()[begins], price[begins], rtol=1e-12)


def test_small_moves_far_from_zero_keep_their_deviation():
    close = 1e6 + np.array([0.01, 0.02, 0.03, 0.02])
    bars = BARS.iloc[10:14].assign(open=close, high=close, low=close, close=close, volume=1.0)
    upper = vwap_bands(bars)["day_vwap_upper"].iloc[-1]
    assert upper - 1e6 == pytest.approx(0.02 + np.std([0.01, 0.02, 0.03, 0.02]), rel=1e-6)


def test_the_rolling_form_and_an_anchor():
    rolling = average_of_window(BARS, 48)
    for t in (47, 600, 1499):
        mean, deviation = moments(BARS.iloc[t - 47 : t + 1])
        assert rolling.price[t] == pytest.approx(mean, rel=1e-12)
        assert rolling.deviation[t] == pytest.approx(deviation, rel=1e-9)
    assert np.isnan(rolling.price[:47]).all()
    anchored = anchored_average(BARS, BARS.index[500])
    assert anchored["vwap"].iloc[:500].isna().all()
    assert (anchored["vwap"].iloc[900], anchored["deviation"].iloc[900]) == pytest.approx(moments(BARS.iloc[500:901]))
    with pytest.raises(DataError, match="no bar opens"):
        anchored_average(BARS, BARS.index[500] + pd.Timedelta("1min"))


def test_swings_anchor_from_the_bar_that_confirms_them():
    bars = rough_bars(700)
    found = anchored_vwap(bars)
    pivots = find_pivots(bars)
    for t in range(60, 700, 23):
        for side, name in ((1, "anchored_vwap_high"), (-1, "anchored_vwap_low")):
            known = np.flatnonzero((pivots.confirmed <= t) & (pivots.side == side))
            if not known.size:
                assert np.isnan(found[name].iloc[t])
                continue
            part = bars.iloc[pivots.row[known[-1]] : t + 1]
            if part["volume"].sum() > 0:
                assert found[name].iloc[t] == pytest.approx(moments(part)[0], rel=1e-9)


def test_signals_against_a_loop():
    found = vwap_signal(BARS)
    place = average_of_span(BarArrays(BARS), "day", "UTC", 0, 1_500).place_of(BARS["close"].to_numpy())
    begun = pd.DatetimeIndex(BARS.index).normalize()
    assert all(np.isnan(place[t]) for t in range(2, len(BARS)) if begun[t] != begun[t - 2]), "three bars make a place"
    expected = []
    for t in range(1, len(BARS)):
        if np.isnan(place[t - 1]) or np.isnan(place[t]):
            continue
        if place[t] * place[t - 1] < 0:
            expected.append(("vwap_cross", t, np.sign(place[t])))
        if abs(place[t]) > 2 >= abs(place[t - 1]):
            expected.append(("vwap_band_break", t, np.sign(place[t])))
        if abs(place[t]) <= 2 < abs(place[t - 1]):
            expected.append(("vwap_band_return", t, -np.sign(place[t - 1])))
    rows = BARS["close_ts"].searchsorted(found["confirmed_at"])
    mine = sorted(zip(found["kind"].astype(str), rows.tolist(), found["direction"].tolist(), strict=True))
    assert mine == sorted(expected)
    assert {kind for kind, _, _ in mine} == {"vwap_cross", "vwap_band_break", "vwap_band_return"}
    back = found[found["kind"] == "vwap_band_return"]
    assert (back["direction"] * (back["target"] - back["stop"]) > 0).all()


def test_a_market_without_volume_has_no_average():
    bars = BARS.iloc[:60].assign(volume=0.0)
    assert vwap_bands(bars).isna().all(axis=None)
    assert (vwap_place(bars).iloc[50:] == 0).all(axis=None)
    assert vwap_signal(bars).empty
    assert len(BarArrays(bars)) == 60
