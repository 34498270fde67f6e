"""Future returns: entry at the next open, exit at the last close, nothing before it is known."""

from __future__ import annotations

import numpy as np
import pytest

from tapeline.labels.future_return import future_return
from tests.core.samples import eurusd


@pytest.mark.parametrize("horizon", [1, 3, 24, 120])
def test_against_the_definition_on_real_bars(horizon) -> None:
    bars = eurusd()
    labels = future_return(bars, horizon=horizon)
    assert len(labels) == len(bars) - horizon
    for row in range(0, len(labels), 501):
        expected = bars["close"].iloc[row + horizon] / bars["open"].iloc[row + 1] - 1
        assert labels["value"].iloc[row] == pytest.approx(expected)
        assert labels["t_end"].iloc[row] == bars["close_ts"].iloc[row + horizon]
    logarithmic = future_return(bars, horizon=horizon, kind="log")
    np.testing.assert_allclose(np.expm1(logarithmic["value"]), labels["value"], atol=1e-14)
    np.testing.assert_array_equal(logarithmic["outcome"], labels["outcome"])


def test_fewer_bars_than_the_horizon_give_no_label() -> None:
    assert future_return(eurusd().head(5), horizon=5).empty
    assert len(future_return(eurusd().head(6), horizon=5)) == 1
