"""The triple barrier against a slow oracle that can be read, and case by case."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tapeline.core.registry import component_of
from tapeline.labels.triple_barrier import triple_barrier
from tapeline.labels.volatility import causal_volatility
from tests.core.samples import eurusd, rough_bars


def oracle(bars: pd.DataFrame, *, horizon: int, upper: float, lower: float, window: int, kind: str, vertical: str):
    """The definition, bar by bar, over plain Python numbers."""
    rows = [tuple(row) for row in bars[["open", "high", "low", "close"]].itertuples(index=False)]
    width = slow_volatility(rows, window, kind)
    found = []
    for t in range(len(rows) - 1):
        if math.isnan(width[t]) or width[t] <= 0:
            continue
        entry = rows[t + 1][0]
        top, bottom = entry * (1 + upper * width[t]), entry * (1 - lower * width[t])
        for j in range(t + 1, min(t + horizon, len(rows) - 1) + 1):
            opened, high, low, close = rows[j]
            hit_top, hit_bottom = high >= top, low <= bottom
            if opened >= top:
                value, price = 1, opened
            elif opened <= bottom:
                value, price = -1, opened
            elif hit_top and hit_bottom:
                value, price = 0, bottom
            elif hit_top:
                value, price = 1, top
            elif hit_bottom:
                value, price = -1, bottom
            elif j == t + horizon:
                price = close
                value = (price > entry) - (price < entry) if vertical == "sign" else 0
            else:
                continue
            found.append((bars.index[t], value, bars["close_ts"].iloc[j], price / entry - 1))
            break
    return pd.DataFrame(found, columns=["ts", "value", "t_end", "outcome"]).set_index("ts")


def slow_volatility(rows: list, window: int, kind: str) -> list[float]:
    values = []
    for i in range(1, len(rows)):
        _, high, low, close = rows[i]
        before = rows[i - 1][3]
        if kind == "atr":
            values.append(max(high - low, abs(high - before), abs(low - before)))
        else:
            values.append(math.log(close / before) ** 2)
    result = [math.nan] * len(rows)
    mean = math.nan
    for i in range(window, len(rows)):
        mean = sum(values[:window]) / window if i == window else mean + (values[i - 1] - mean) / window
        result[i] = mean / rows[i][3] if kind == "atr" else math.sqrt(mean)
    return result


def compare(bars: pd.DataFrame, **given_parameters) -> pd.DataFrame:
    expected = oracle(bars, **given_parameters)
    ours = triple_barrier(
        bars,
        horizon=given_parameters["horizon"],
        upper=given_parameters["upper"],
        lower=given_parameters["lower"],
        volatility=given_parameters["kind"],
        volatility_window=given_parameters["window"],
        vertical=given_parameters["vertical"],
    )
    assert list(ours.index) == list(expected.index)
    np.testing.assert_array_equal(ours["value"].to_numpy(), expected["value"].to_numpy(dtype=float))
    assert list(ours["t_end"]) == list(expected["t_end"])
    np.testing.assert_allclose(ours["outcome"].to_numpy(), expected["outcome"].to_numpy(dtype=float), atol=1e-12)
    return ours


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    horizon=st.integers(1, 12),
    upper=st.sampled_from([0.3, 1.0, 2.5]),
    lower=st.sampled_from([0.3, 1.0, 2.5]),
    kind=st.sampled_from(["atr", "ewm"]),
    vertical=st.sampled_from(["sign", "zero"]),
)
def test_equal_to_the_oracle_on_random_bars(seed, horizon, upper, lower, kind, vertical) -> None:
    bars = rough_bars(600, seed=seed).iloc[250:420]
    compare(bars, horizon=horizon, upper=upper, lower=lower, window=8, kind=kind, vertical=vertical)


@pytest.mark.parametrize("kind", ["atr", "ewm"])
def test_equal_to_the_oracle_on_real_bars(kind) -> None:
    ours = compare(eurusd(), horizon=24, upper=1.5, lower=1.5, window=24, kind=kind, vertical="sign")
    assert len(ours) > 6100
    assert set(ours["value"]) == {-1.0, 0.0, 1.0}


@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 10_000), horizon=st.integers(15, 150), upper=st.sampled_from([3.0, 9.0, 40.0]))
def test_far_barriers_and_long_horizons_skip_no_touch(seed, horizon, upper) -> None:
    bars = rough_bars(600, seed=seed).iloc[150:450]
    compare(bars, horizon=horizon, upper=upper, lower=9.0, window=8, kind="atr", vertical="sign")


def bars_of(*rows: tuple[float, float, float, float]) -> pd.DataFrame:
    """Three quiet bars of range 2 around 100, whose average true range is 2 percent, then these."""
    quiet = [(100.0, 101.0, 99.0, 100.0)] * 3
    ts = pd.date_range("2017-01-02", periods=3 + len(rows), freq="1h", tz="UTC", name="ts").as_unit("ns")
    frame = pd.DataFrame([*quiet, *rows], columns=["open", "high", "low", "close"], index=ts)
    return frame.assign(close_ts=ts + pd.Timedelta(hours=1))


def third(bars: pd.DataFrame, **more) -> pd.Series:
    """The label of the last quiet bar: barriers at 102 and 98 where the next bar opens at 100."""
    labels = triple_barrier(bars, **{"horizon": 3, "upper": 1.0, "lower": 1.0, "volatility_window": 2, **more})
    return labels.loc[bars.index[2]]


@pytest.mark.parametrize(
    ("rows", "value", "outcome", "decided"),
    [
        ([(100, 102, 99, 101)], 1, 0.02, 0),
        ([(100, 101, 98, 99)], -1, -0.02, 0),
        ([(100, 103, 97, 100)], 0, -0.02, 0),
        ([(100, 101, 99, 100), (105, 106, 104, 105)], 1, 0.05, 1),
        ([(100, 101, 99, 100), (90, 103, 89, 95)], -1, -0.10, 1),
        ([(100, 101, 99, 100), (100, 101, 99, 100), (100, 101, 99, 100.5)], 1, 0.005, 2),
        ([(100, 101, 99, 100), (100, 101, 99, 100), (100, 101, 99, 99.5)], -1, -0.005, 2),
        ([(100, 101, 99, 100), (100, 101, 99, 100), (100, 101, 99, 100)], 0, 0.0, 2),
    ],
    ids=["touch up", "touch down", "both", "gap up", "gap down then up", "time up", "time down", "time flat"],
)
def test_case_by_case(rows, value, outcome, decided) -> None:
    bars = bars_of(*rows)
    label = third(bars)
    assert label["value"] == value
    assert label["outcome"] == pytest.approx(outcome)
    assert label["t_end"] == bars["close_ts"].iloc[3 + decided]


def test_the_time_limit_may_count_as_zero() -> None:
    bars = bars_of((100, 101, 99, 100), (100, 101, 99, 100), (100, 101, 99, 100.5))
    label = third(bars, vertical="zero")
    assert (label["value"], label["outcome"]) == (0.0, pytest.approx(0.005))


def test_entry_is_the_next_open_not_the_close() -> None:
    bars = bars_of((110, 112.3, 109, 110))
    assert third(bars)["outcome"] == pytest.approx(0.02)


def test_an_undecided_label_is_absent_and_appears_when_it_is_known() -> None:
    early = bars_of((100, 101, 99, 100), (100, 101, 99, 100))
    assert early.index[2] not in triple_barrier(early, 3, 1.0, 1.0, volatility_window=2).index
    later = bars_of((100, 101, 99, 100), (100, 101, 99, 100), (100, 103, 99, 100))
    assert third(later)["value"] == 1


def test_no_volatility_no_label() -> None:
    still = bars_of().assign(high=100.0, low=100.0)
    assert triple_barrier(still, 1, 1.0, 1.0, volatility_window=2).empty
    assert triple_barrier(bars_of(), 1, 1.0, 1.0, volatility_window=50).empty


def test_the_volatility_is_causal() -> None:
    bars = eurusd().head(300)
    for kind in ("atr", "ewm"):
        full = causal_volatility(*(bars[c].to_numpy() for c in ("high", "low", "close")), kind=kind, window=24)
        part = causal_volatility(*(bars[c].to_numpy()[:200] for c in ("high", "low", "close")), kind=kind, window=24)
        np.testing.assert_array_equal(full[:200], part)


def test_parameters_are_bounded() -> None:
    component = component_of(triple_barrier)
    for wrong in ({"horizon": 0}, {"upper": 0.0}, {"volatility": "garch"}, {"vertical": "no"}):
        with pytest.raises(Exception, match="is refused"):
            component.parameters(wrong)
