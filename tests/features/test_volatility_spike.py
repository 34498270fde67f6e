"""Spikes against the norm of their time of day: planted ones, a plain memory, the hours of real bars."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tapeline.features.volatility_spike import spike_memory, volatility_spike
from tests.core.samples import eurusd


def quiet_days(days: int) -> pd.DataFrame:
    """Hours whose range is 10 points at 14:00 UTC and 1 point else, every day alike but for a little noise."""
    ts = pd.date_range("2017-01-02", periods=24 * days, freq="1h", tz="UTC", name="ts").as_unit("ns")
    noise = 1.0 + 0.05 * np.random.default_rng(0).uniform(-1, 1, ts.size)
    height = np.where(ts.hour == 14, 10e-4, 1e-4) * noise
    close = np.ones(ts.size)
    return pd.DataFrame({"open": close, "high": 1.0 + height / 2, "low": 1.0 - height / 2, "close": close}, index=ts)


@settings(max_examples=80, deadline=None)
@given(
    st.lists(st.one_of(st.just(float("nan")), st.floats(0.0, 20.0)), max_size=40),
    st.floats(1.5, 6.0),
    st.floats(0.5, 30.0),
    st.integers(1, 15),
)
def test_the_memory_equals_its_plain_form(sizes: list[float], multiple: float, half_life: float, memory: int) -> None:
    ages, newest, left = spike_memory(np.array(sizes), multiple, half_life, memory)
    for i in range(len(sizes)):
        spikes = [j for j in range(max(i - memory + 1, 0), i + 1) if sizes[j] >= multiple]
        assert ages[i] == (i - spikes[-1] if spikes else memory)
        assert newest[i] == (sizes[spikes[-1]] if spikes else 0.0)
        remains = [sizes[j] * 0.5 ** ((i - j) / half_life) for j in spikes]
        assert left[i] == pytest.approx(max(remains, default=0.0), rel=1e-9)


def test_a_busy_hour_is_no_spike_and_the_same_range_in_a_quiet_hour_is() -> None:
    bars = quiet_days(30)
    assert volatility_spike(bars)["volatility_spike_20"].sum() == 0
    at = bars.index.get_loc(pd.Timestamp("2017-01-25 03:00", tz="UTC"))
    bars.iloc[at, bars.columns.get_loc("high")] = 1.0 + 10e-4
    found = volatility_spike(bars, memory=48, half_life=6.0)
    row = found.iloc[at]
    assert row["range_to_norm_20"] == pytest.approx(10.5, rel=0.05)
    assert row[["volatility_spike_20", "spike_age_20", "spike_decay_20"]].tolist() == [1.0, 0.0, 1.0]
    assert found["volatility_spike_20"].sum() == 1
    later = found.iloc[at + 12]
    assert later["spike_age_20"] == 12.0
    assert later["spike_left_20"] == pytest.approx(row["range_to_norm_20"] / 4)
    assert later["spike_decay_20"] == pytest.approx(1 / 10.5, rel=0.1)
    assert found.iloc[at + 48][["spike_age_20", "spike_decay_20", "spike_left_20"]].tolist() == [48.0, 0.0, 0.0]
    # The next day at that hour is measured by a median, which one spike does not move.
    assert found.iloc[at + 24]["range_to_norm_20"] == pytest.approx(1.0, abs=0.1)


def test_nothing_is_said_before_something_is_usual() -> None:
    found = volatility_spike(quiet_days(8))
    assert found.iloc[:120].isna().all().all()
    assert found.iloc[121:].notna().all().all()
    assert volatility_spike(quiet_days(3)).isna().all().all()


def test_real_spikes_are_rare_at_every_hour_and_die_away() -> None:
    bars = eurusd()
    found = volatility_spike(bars).iloc[600:]
    spikes = found["volatility_spike_20"] == 1
    assert 0.005 < spikes.mean() < 0.08
    plain = ((bars["high"] - bars["low"]) / bars["close"]).iloc[600:]
    hours = found.index.hour
    usual, raw = (values.groupby(hours).median() for values in (found["range_to_norm_20"], plain / plain.median()))
    assert usual.between(0.8, 1.25).all(), "1 is usual at every hour"
    assert raw.max() > 2.5 * raw.min()
    assert (spikes.groupby(hours).mean() > 0).sum() >= 18
    after = found[found["spike_age_20"].between(1, 3)]["range_to_norm_20"].mean()
    much_later = found[found["spike_age_20"] >= 24]["range_to_norm_20"].mean()
    assert 3.0 > after > 1.1 * much_later
