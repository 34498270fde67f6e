"""Future volatility against its definition, and buckets whose edges no later bar moves."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from tapeline.core.errors import ConfigurationError, DataError
from tapeline.labels.future_volatility import future_volatility, volatility_buckets
from tests.core.samples import eurusd


@pytest.mark.parametrize("horizon", [1, 24])
def test_against_the_definition_on_real_bars(horizon) -> None:
    bars = eurusd().iloc[:400]
    realised, ranged = future_volatility(bars, horizon), future_volatility(bars, horizon, "parkinson")
    assert len(realised) == 400 - horizon
    for row in range(0, 400 - horizon, 37):
        closes = np.log(bars["close"].to_numpy()[row : row + horizon + 1])
        assert realised["value"].iloc[row] == pytest.approx(np.sqrt(np.mean(np.diff(closes) ** 2)))
        ahead = bars.iloc[row + 1 : row + horizon + 1]
        squares = np.log(ahead["high"] / ahead["low"]) ** 2 / (4 * np.log(2))
        assert ranged["value"].iloc[row] == pytest.approx(np.sqrt(squares.mean()))
        assert realised["t_end"].iloc[row] == ahead["close_ts"].iloc[-1]
        assert realised["outcome"].iloc[row] == pytest.approx(ahead["close"].iloc[-1] / ahead["open"].iloc[0] - 1)


def test_buckets_have_equal_parts_of_training_and_edges_from_it_alone() -> None:
    bars = eurusd().iloc[:1200]
    end = bars["close_ts"].iloc[700]
    labels, binner = volatility_buckets(bars, end, buckets=4)
    known = labels["t_end"] <= end
    np.testing.assert_allclose(labels["value"][known].value_counts(normalize=True), 0.25, atol=0.01)
    assert binner.trained_until == labels["t_end"][known].max().isoformat() == end.isoformat()
    # Bars after the end of training, a hundred times as wild: the same edges, and the past as it was.
    wild = bars.copy()
    wild.loc[wild["close_ts"] > end, ["open", "high", "low", "close"]] **= 100
    other, same = volatility_buckets(wild, end, buckets=4)
    assert same == binner
    pd.testing.assert_frame_equal(other[known.reindex(other.index)], labels[known])
    assert (other["value"][~known] == 3).all()


def test_higher_buckets_are_wilder() -> None:
    bars = eurusd().iloc[:1000]
    labels, _ = volatility_buckets(bars, bars["close_ts"].iloc[-1], buckets=3)
    assert labels.groupby("value")["volatility"].mean().is_monotonic_increasing
    with pytest.raises(DataError, match="no label is known"):
        volatility_buckets(bars, bars.index[0])
    with pytest.raises(ConfigurationError, match="mdlp needs the classes"):
        volatility_buckets(bars, bars.index[-1], kind="mdlp")
