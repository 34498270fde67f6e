"""Trend scanning against statsmodels' least squares, length by length."""

from __future__ import annotations

import numpy as np
import pytest
import statsmodels.api as sm
from hypothesis import given, settings
from hypothesis import strategies as st

from tapeline.core.errors import ConfigurationError
from tapeline.labels.trend_scanning import LARGEST_T, trend_scanning
from tests.core.samples import eurusd, rough_bars
from tests.labels.test_outcomes import bars_of


def check(bars, shortest: int, longest: int, rows) -> None:
    ours = trend_scanning(bars, shortest, longest)
    assert len(ours) == max(len(bars) - longest + 1, 0)
    closes = bars["close"].to_numpy()
    for t in rows:
        scores = {
            n: sm.OLS(closes[t : t + n], sm.add_constant(np.arange(n))).fit().tvalues[1]
            for n in range(shortest, longest + 1)
        }
        best = max(scores, key=lambda n: abs(scores[n]))
        found = ours.iloc[t]
        assert found["t_value"] == pytest.approx(scores[best], rel=1e-6)
        assert found["bars"] == best
        assert found["value"] == np.sign(scores[best])
        assert found["t_end"] == bars["close_ts"].iloc[t + longest - 1]
        assert found["outcome"] == pytest.approx(closes[t + best - 1] / bars["open"].iloc[t + 1] - 1)


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 999), shortest=st.integers(3, 6), more=st.integers(0, 8))
def test_equal_to_statsmodels_on_random_bars(seed, shortest, more) -> None:
    bars = rough_bars(600, seed=seed).iloc[100:140]
    check(bars, shortest, shortest + more, range(0, 25, 6))


def test_equal_to_statsmodels_on_real_bars() -> None:
    bars = eurusd().iloc[:400]
    check(bars, 5, 24, range(0, 370, 60))
    assert set(trend_scanning(bars)["value"]) == {-1.0, 1.0}


def test_a_line_and_no_movement() -> None:
    line = bars_of(*[(x, x, x, x) for x in (100, 101, 102, 103, 104)])
    assert trend_scanning(line, 3, 5)["t_value"].tolist() == [LARGEST_T]
    still = bars_of(*[(100, 100, 100, 100)] * 5)
    assert trend_scanning(still, 3, 5)[["value", "t_value"]].values.tolist() == [[0.0, 0.0]]


def test_the_label_waits_for_the_longest_length_even_if_a_shorter_one_wins() -> None:
    bars = bars_of(*[(x, x, x, x) for x in (100, 101, 102.1, 103, 99, 104)])
    found = trend_scanning(bars, 3, 6).iloc[0]
    assert found["bars"] < 6
    assert found["t_end"] == bars["close_ts"].iloc[-1]
    with pytest.raises(ConfigurationError, match="below shortest"):
        trend_scanning(bars, 6, 5)
