"""Impact of trades: known coefficients found again, statsmodels' regression, and a recorded market."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tapeline.core.errors import ConfigurationError, DataError
from tapeline.core.pit import asof_join
from tapeline.features.price_impact import hasbrouck_response, kyle_lambda
from tests.features.recorded_flow import futures


def simulated(rows: int, noise: float) -> tuple[np.ndarray, np.ndarray]:
    """Quotes that move by 0.5 with a trade and turn back by 0.2 after it; trades that repeat themselves."""
    generator = np.random.default_rng(9)
    r, x = np.zeros(rows), np.zeros(rows)
    for t in range(1, rows):
        x[t] = 0.3 * x[t - 1] - 0.1 * r[t - 1] + generator.normal()
        r[t] = 0.5 * x[t] - 0.2 * x[t - 1] + 0.1 * r[t - 1] + noise * generator.normal()
    return r, x


def test_the_response_of_a_known_market_is_found_again() -> None:
    """Worked by hand from the recursion: 0.5, then x = 0.3 - 0.05 = 0.25 and r = 0.125 - 0.2 + 0.05 = -0.025."""
    found = hasbrouck_response(*simulated(60_000, 0.2), lags=3, horizon=30)
    assert found.path[:2] == pytest.approx([0.5, 0.475], abs=0.01)
    # For good: with sums X = 1 + 0.3 X - 0.1 R and R = 0.5 X - 0.2 X + 0.1 R, R = X / 3 and X = 1 / (0.7 + 0.1 / 3).
    assert found.impact == pytest.approx(1.0 / (0.7 + 0.1 / 3.0) / 3.0, abs=0.02)
    assert 0.5 < found.r_squared < 0.95


def test_the_equation_of_the_quote_is_that_of_statsmodels() -> None:
    import statsmodels.api as sm

    r, x = simulated(2_000, 1.0)
    table = np.column_stack([x[2:], r[1:-1], r[:-2], x[1:-1], x[:-2]])
    peer = sm.OLS(r[2:], table).fit().params
    assert hasbrouck_response(r, x, lags=2, horizon=0).impact == pytest.approx(peer[0], rel=1e-9)
    assert kyle_lambda(r, x) == pytest.approx(sm.OLS(r, sm.add_constant(x)).fit().params[1], rel=1e-9)


def test_recorded_trades_carry_information(test_data: Path) -> None:
    trades, quotes, _ = futures(test_data)
    before = asof_join(
        trades[["side"]], quotes[["bid", "ask"]], at=trades.index, known_at=quotes.index, lag=pd.Timedelta(1, "ns")
    )
    mid = np.log((before["bid"] + before["ask"]).to_numpy() / 2)
    known = np.flatnonzero(~np.isnan(mid))
    change, side = 1e4 * np.diff(mid[known]), trades["side"].to_numpy()[known][:-1]
    found = hasbrouck_response(change, side, horizon=50)
    # A bought trade lifts the quote, at once and more so in the end, when the rest of the order has come.
    assert 0.0 < found.path[0] < found.impact < 1.0
    assert kyle_lambda(change, side) > 0.0


def test_what_is_refused() -> None:
    r, x = simulated(200, 1.0)
    for options in ({"lags": 0}, {"lags": 101}, {"horizon": -1}):
        with pytest.raises(ConfigurationError):
            hasbrouck_response(r, x, **options)
    with pytest.raises(DataError, match="too few"):
        hasbrouck_response(r[:50], x[:50])
    with pytest.raises(DataError, match="do not vary"):
        kyle_lambda(r, np.ones(200))
    with pytest.raises(DataError, match="row 3 is not finite"):
        kyle_lambda(np.where(np.arange(200) == 3, np.nan, r), x)
    with pytest.raises(DataError, match="do not go with"):
        kyle_lambda(r, x[1:])
