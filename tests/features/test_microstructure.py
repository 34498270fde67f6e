"""Microstructure from bars and in volume buckets: worked numbers, slow oracles, known spreads found again."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tapeline.core.errors import ConfigurationError, DataError, SchemaError
from tapeline.features.microstructure import abdi_ranaldo, amihud, amihud_ratio, corwin_schultz, roll_spread, vpin
from tapeline.features.microstructure_kernels import (
    bucketed_imbalance,
    high_low_spreads,
    rolling_impact,
    window_sums,
)
from tapeline.features.volume_buckets import VolumeBuckets
from tests.core.samples import rough_bars
from tests.features.recorded_flow import futures
from tests.support import make_bars


def ohlc(high: list[float], low: list[float], close: list[float]) -> pd.DataFrame:
    return pd.DataFrame({"high": high, "low": low, "close": close})


def test_roll_finds_the_spread_of_the_paper_s_bounce() -> None:
    """Roll 1984, section I: bid and ask equally likely at each trade give a covariance of minus s squared over 4.

    The eight paths of three trades each occur once in a cycle of eight (a de Bruijn cycle), and once more.
    """
    spread = 0.01
    cycle = [0, 0, 0, 1, 0, 1, 1, 1]
    close = np.exp(spread * np.array([*cycle, *cycle, 0, 0], dtype=float))
    found = roll_spread(pd.DataFrame({"close": close}), window=16).iloc[-1]
    assert found == pytest.approx(1e4 * spread)


def test_roll_of_a_trend_is_nothing_and_of_no_move_too() -> None:
    rising = pd.DataFrame({"close": np.exp(np.arange(20) ** 2 * 1e-4)})
    assert roll_spread(rising, window=10).iloc[-1] == 0.0
    assert roll_spread(pd.DataFrame({"close": [5.0] * 20}), window=10).iloc[-1] == 0.0


def test_corwin_and_schultz_worked_by_hand() -> None:
    """Worked with 30-digit decimals: high 10.20, low 10.00, then high 10.25, low 10.05.

    beta = 0.000780433874, gamma = 0.000609725117, alpha = 0.007830825216 (their equation 18), spread = 0.78 % (14).
    """
    found = high_low_spreads(np.array([10.20, 10.25]), np.array([10.00, 10.05]), np.array([10.10, 10.15]))
    assert found[1] == pytest.approx(0.00783078519996158, rel=1e-11)


def test_corwin_and_schultz_take_a_gap_out() -> None:
    """A second day that lies wholly above the first close is moved down onto it: section II.C of the paper."""
    high, low, close = np.array([10.2, 10.6]), np.array([10.0, 10.4]), np.array([10.1, 10.5])
    moved = high_low_spreads(np.array([10.2, 10.3]), np.array([10.0, 10.1]), close)[1]
    assert high_low_spreads(high, low, close)[1] == pytest.approx(moved, rel=1e-12)
    below = high_low_spreads(np.array([10.2, 9.9]), np.array([10.0, 9.7]), np.array([10.1, 9.8]))[1]
    onto = high_low_spreads(np.array([10.2, 10.1]), np.array([10.0, 9.9]), np.array([10.1, 9.8]))[1]
    assert below == pytest.approx(onto, rel=1e-12)
    negative = corwin_schultz(ohlc([10.2, 11.5, 10.4], [10.0, 9.0, 10.0], [10.1] * 3), window=2)
    assert negative.iloc[-1] >= 0.0


def test_abdi_and_ranaldo_worked_by_hand() -> None:
    """Closes at the high of a range of 2 %: the close lies 1 % above both middles, so the spread is 2 %."""
    high = np.exp(np.array([0.02, 0.02, 0.02]))
    bars = pd.DataFrame({"high": high, "low": 1.0, "close": [high[0], 1.0, high[0]]})
    assert abdi_ranaldo(bars, window=2).iloc[-1] == pytest.approx(200.0)
    # A middle that has moved to the other side of the close makes the product negative: counted as 0.
    crossed = pd.DataFrame({"high": [1.02, 1.05], "low": [1.0, 1.03], "close": [1.015, 1.04]})
    crossed = pd.concat([crossed.iloc[:1], crossed], ignore_index=True)
    one = 2.0 * (math.log(1.015) - 0.5 * math.log(1.02))
    assert abdi_ranaldo(crossed, window=2).iloc[-1] == pytest.approx(1e4 * one / 2.0)


def test_amihud_worked_by_hand() -> None:
    """Equation 1: the mean over days of |R| / VOLD, days without trades left out."""
    bars = pd.DataFrame({"close": [100.0, 102.0, 102.0, 96.9], "volume": [1.0, 1000.0, 0.0, 500.0]})
    expected = 1e6 * (0.02 / 102_000.0 + 0.05 / 48_450.0) / 2.0
    assert amihud(bars, window=3).iloc[-1] == pytest.approx(expected)
    assert amihud_ratio(bars, window=2, long=3).iloc[-1] == pytest.approx(1e6 * 0.05 / 48_450.0 / expected)
    silent = bars.assign(volume=0.0)
    assert amihud(silent, window=3).isna().all()
    unknown = bars.assign(volume=[1.0, np.nan, 1.0, 1.0])
    assert amihud(unknown, window=3).isna().all()


@pytest.mark.parametrize("spread", [0.01, 0.03])
def test_known_spreads_are_found_again(spread) -> None:
    """As the papers' simulations: 390 trades a day at bid or ask around an efficient price of 3 % daily deviation."""
    generator = np.random.default_rng(5)
    days, trades = 1_200, 390
    efficient = np.cumsum(generator.normal(0, 0.03 / math.sqrt(trades), days * trades))
    price = np.exp(efficient + generator.choice([-0.5, 0.5], efficient.size) * spread).reshape(days, trades)
    bars = pd.DataFrame({"high": price.max(1), "low": price.min(1), "close": price[:, -1]})
    columns = [bars[name].to_numpy() for name in ("high", "low", "close")]
    assert np.nanmean(high_low_spreads(*columns)) == pytest.approx(spread, rel=0.2)
    # Negative estimates set to 0 push the mean up, most where the spread is small beside the range.
    assert spread < corwin_schultz(bars, window=days - 1).iloc[-1] / 1e4 < spread + 0.01
    within = pd.DataFrame({"close": price[:30].ravel()})
    assert roll_spread(within, window=30 * trades - 2).iloc[-1] / 1e4 == pytest.approx(spread, rel=0.03)
    high, low, close = (np.log(values) for values in columns)
    middle = 0.5 * (high + low)
    monthly = 2.0 * math.sqrt(np.mean((close[:-1] - middle[:-1]) * (close[:-1] - middle[1:])))
    assert monthly == pytest.approx(spread, abs=0.003), "their unbiased form, on the same bars"
    # The mean of roots with negative products as 0: above a small spread, below a large one.
    assert 0.75 * spread < abdi_ranaldo(bars, window=days - 1).iloc[-1] / 1e4 < spread + 0.01


def slow_buckets(volume: list[float], signed: list[float], buckets: int) -> float:
    """The window's volume in pieces, one bucket after the other."""
    room, away, left, imbalance = sum(volume) / buckets, [], sum(volume) / buckets, 0.0
    for amount, tilt in zip(volume, signed, strict=True):
        rest = amount
        while rest > 0.0:
            part = min(rest, left)
            imbalance += part * tilt / amount
            rest, left = rest - part, left - part
            if left <= 1e-9 * room:
                away.append(abs(imbalance))
                left, imbalance = room, 0.0
    return (sum(away) + abs(imbalance)) / (buckets * room)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 20), st.floats(-1.0, 1.0)), min_size=6, max_size=30),
    st.integers(2, 6),
    st.integers(2, 7),
)
def test_bucketed_imbalance_equals_the_slow_one(bars, window, buckets) -> None:
    volume = np.array([float(v) for v, _ in bars])
    signed = volume * np.array([share for _, share in bars])
    found = bucketed_imbalance(volume, signed, window, buckets)
    assert np.isnan(found[: window - 1]).all()
    for i in range(window - 1, volume.size):
        inside = slice(i - window + 1, i + 1)
        if volume[inside].sum() == 0.0:
            assert np.isnan(found[i])
        else:
            expected = slow_buckets(volume[inside].tolist(), signed[inside].tolist(), buckets)
            assert found[i] == pytest.approx(expected, abs=1e-6)


def test_bucketed_imbalance_forgets_what_has_left_the_window() -> None:
    generator = np.random.default_rng(3)
    volume = generator.integers(1, 100, 9_000).astype(float)
    signed = volume * generator.uniform(-1, 1, 9_000)
    volume[4_000], signed[4_000] = np.nan, np.nan
    volume[4_200] = 1e9
    found = bucketed_imbalance(volume, signed, 50, 10)
    assert np.isnan(found[4_000:4_050]).all()
    for i in (3_999, 4_050, 4_095, 4_144, 4_145, 4_300, 8_999):
        inside = slice(i - 49, i + 1)
        expected = slow_buckets(volume[inside].tolist(), signed[inside].tolist(), 10)
        assert found[i] == pytest.approx(expected, rel=1e-6), i


def test_vpin_worked_by_hand() -> None:
    """Easley, Lopez de Prado and O'Hara 2012, section 1.2: V_B = sum of V Z(dP / sigma); VPIN = sum |V_S - V_B| / nV.

    Changes of one, minus one and one deviation; Z(1) = 0.841345. A bucket is a bar here.
    """
    ratio, sign = 0.01, [1, -1, 1, -1, 1, -1]
    close = np.cumprod([1.0] + [1.0 + ratio * s for s in sign])
    bars = pd.DataFrame({"close": close, "volume": 4.0})
    # Changes of plus and minus 1 % in equal number have a deviation of 1 %.
    assert vpin(bars, window=2, buckets=2, deviation_window=4).iloc[-1] == pytest.approx(2 * 0.8413447461 - 1)
    # With one bucket of two bars, buying and selling cancel.
    halves = bucketed_imbalance(np.array([4.0, 4.0, 4.0, 4.0]), np.array([2.0, -2.0, 2.0, -2.0]), 4, 2)
    assert halves[-1] == 0.0


def test_vpin_rises_when_one_side_keeps_buying() -> None:
    generator = np.random.default_rng(1)
    steps = generator.normal(0, 1e-3, 900)
    steps[600:700] = np.abs(steps[600:700])
    bars = pd.DataFrame({"close": np.exp(np.cumsum(steps)), "volume": 10.0})
    found = vpin(bars)
    assert found.iloc[690] > 2 * found.iloc[300:590].mean()
    assert found.dropna().between(0, 1).all()


@settings(deadline=None)
@given(st.lists(st.floats(-1e3, 1e3), max_size=40), st.integers(2, 9))
def test_window_sums_equal_the_slow_ones(values, window) -> None:
    array = np.array(values, dtype=np.float64)
    found = window_sums(array, window)
    for i in range(array.size):
        if i < window - 1:
            assert np.isnan(found[i])
        else:
            assert found[i] == pytest.approx(math.fsum(values[i - window + 1 : i + 1]), abs=1e-9)


def test_a_spike_leaves_no_digit_behind_in_window_sums() -> None:
    values = np.ones(200)
    values[77], values[120] = 1e300, np.nan
    found = window_sums(values, 24)
    assert (found[101:120] == 24.0).all()
    assert np.isnan(found[120:144]).all()
    assert (found[144:] == 24.0).all()


def test_impact_is_the_slope_of_least_squares() -> None:
    generator = np.random.default_rng(2)
    flow = generator.normal(3.0, 50.0, 200)
    change = 2e-5 * flow + generator.normal(0, 1e-4, 200)
    slopes, moved = rolling_impact(change, flow, 60)
    for i in (59, 130, 199):
        inside = slice(i - 59, i + 1)
        assert slopes[i] == pytest.approx(np.polyfit(flow[inside], change[inside], 1)[0], rel=1e-9)
        assert moved[i] == pytest.approx(slopes[i] * flow[inside].std(), rel=1e-9)
    # Kyle's theorem 1 in small: price = lambda times flow exactly.
    exact = rolling_impact(0.25 * flow, flow, 60)[0]
    assert exact[-1] == pytest.approx(0.25)
    assert np.isnan(rolling_impact(change, np.full(200, 7.0), 60)[0]).all()


def test_volume_buckets_equal_a_slow_count_in_any_portions() -> None:
    generator = np.random.default_rng(4)
    rows = 400
    ts = pd.date_range("2017-01-02", periods=rows, freq="1s", tz="UTC", name="ts")
    trades = pd.DataFrame(
        {"price": 10.0, "size": generator.integers(1, 30, rows).astype(float), "side": generator.choice([-1, 1], rows)},
        index=ts,
    )
    found = VolumeBuckets(25.0, buckets=5).update(trades)
    units = np.repeat(trades["side"].to_numpy(), trades["size"].astype(int))
    full = units[: units.size // 25 * 25].reshape(-1, 25)
    np.testing.assert_array_equal(found["bought"], (full > 0).sum(1))
    np.testing.assert_array_equal(found["sold"], (full < 0).sum(1))
    away = pd.Series(np.abs(full.sum(1)) / 25.0).rolling(5).mean()
    np.testing.assert_allclose(found["vpin"], away)
    filled_by = np.searchsorted(trades["size"].cumsum(), 25.0 * np.arange(1, len(full) + 1))
    assert (found["known_at"] == ts[filled_by]).all()
    buckets = VolumeBuckets(25.0, buckets=5)
    parts = [buckets.update(trades.iloc[a:b]) for a, b in ((0, 1), (1, 1), (1, 133), (133, 400))]
    pd.testing.assert_frame_equal(pd.concat(parts), found, check_exact=True, check_freq=False)


def test_a_bucket_is_known_when_its_last_trade_was_received() -> None:
    ts = pd.date_range("2017-01-02", periods=3, freq="1s", tz="UTC", name="ts")
    known = ts + pd.to_timedelta([0, 9, 1], unit="s")
    trades = pd.DataFrame({"price": 1.0, "size": 2.0, "side": [1, 1, -1], "known_at": known}, index=ts)
    found = VolumeBuckets(3.0, buckets=1).update(trades)
    assert found["known_at"].tolist() == [known[1], known[1]], "the third trade lies behind the late one"


def test_a_time_of_arrival_without_a_zone_is_refused() -> None:
    ts = pd.date_range("2017-01-02", periods=2, freq="1s", tz="UTC", name="ts")
    trades = pd.DataFrame({"price": 1.0, "size": 2.0, "known_at": ts.tz_localize(None)}, index=ts)
    with pytest.raises(SchemaError, match="known_at"):
        VolumeBuckets(3.0).update(trades)


def test_volume_buckets_refuse_what_would_fill_the_memory() -> None:
    ts = pd.date_range("2017-01-02", periods=1, tz="UTC", name="ts")
    trades = pd.DataFrame({"price": [1.0], "size": [1e18], "side": [1]}, index=ts)
    with pytest.raises(DataError, match="quarantine absurd sizes"):
        VolumeBuckets(1.0).update(trades)
    for bad in ({"size": 0.0}, {"size": 1.0, "buckets": 0}):
        with pytest.raises(ConfigurationError):
            VolumeBuckets(**bad)


def test_vpin_of_recorded_trades(test_data: Path) -> None:
    trades, _, _ = futures(test_data)
    found = VolumeBuckets(trades["size"].sum() / 60.0, buckets=20).update(trades)
    assert len(found) == pytest.approx(60, abs=1)
    assert found["vpin"].dropna().between(0.05, 0.95).all()
    assert (found["bought"] + found["sold"]).to_numpy() == pytest.approx(trades["size"].sum() / 60.0)


@pytest.mark.parametrize("component", [roll_spread, corwin_schultz, abdi_ranaldo, amihud, vpin])
def test_estimates_stay_positive_on_rough_bars(component) -> None:
    found = component(rough_bars(800)).dropna()
    assert len(found) > 500
    assert (found >= 0.0).all()
    assert component(make_bars(600)).iloc[-1] > 0.0
