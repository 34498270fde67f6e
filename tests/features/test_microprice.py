"""The micro-price: a chain worked by hand, symmetry, and whether it foretells recorded mids better than the mid."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tapeline.core.errors import ConfigurationError, DataError
from tapeline.features.microprice import fit_microprice
from tests.features.recorded_flow import futures


def chain(rows: int, stay: float, same: float, seed: int = 0) -> pd.DataFrame:
    """Quotes of one tick spread, imbalance a quarter or three quarters.

    From the high imbalance the quote stays as it is with probability ``stay``; else the mid moves up a tick, and the
    imbalance after it is high again with probability ``same``. The low one is its mirror.
    """
    generator = np.random.default_rng(seed)
    high, bid = True, 100.0
    values = []
    for move, keep in zip(generator.random(rows), generator.random(rows), strict=True):
        values.append((bid, 3.0 if high else 1.0, bid + 1.0, 1.0 if high else 3.0))
        if move >= stay:
            bid += 1.0 if high else -1.0
            high = high if keep < same else not high
    ts = pd.date_range("2017-01-02", periods=rows, freq="1s", tz="UTC", name="ts")
    quotes = pd.DataFrame(values, columns=["bid", "bid_size", "ask", "ask_size"], index=ts)
    # High above zero: the walk may not reach it.
    quotes[["bid", "ask"]] += 10_000.0
    return quotes


@pytest.mark.parametrize(("stay", "same"), [(0.5, 0.5), (0.8, 0.7), (0.2, 0.1)])
def test_the_adjustment_of_a_chain_worked_by_hand(stay, same) -> None:
    """Stoikov 2018, section 3: G1 = (1 - Q)^-1 R k = 1 tick from the high state, since only then the mid moves.

    B takes the high state to itself with ``same`` and to its mirror, where G is the negative, with ``1 - same``. So
    G = 1 + (2 same - 1) G, hence G = 1 / (2 - 2 same).
    """
    fitted = fit_microprice(chain(40_000, stay, same), tick=1.0, bins=2, spreads=1)
    low, high = fitted.adjustments[0]
    assert high == pytest.approx(1.0 / (2.0 - 2.0 * same), rel=0.06)
    assert low == pytest.approx(-high, abs=1e-9)


def test_a_price_is_the_mid_and_the_adjustment_of_its_state() -> None:
    fitted = fit_microprice(chain(2_000, 0.5, 0.5), tick=1.0, bins=2, spreads=1)
    found = fitted.price([10.0, 10.0], [3.0, 1.0], [11.0, 11.0], [1.0, 3.0])
    np.testing.assert_allclose(found, 10.5 + fitted.adjustments[0][::-1])


def test_what_was_never_seen_is_unknown() -> None:
    fitted = fit_microprice(chain(2_000, 0.5, 0.5), tick=1.0, bins=10, spreads=2)
    assert np.isnan(fitted.adjustments[1]).all()
    assert np.isfinite(fitted.adjustments[0][[2, 7]]).all()


def test_it_foretells_recorded_mids_better_than_the_mid_and_the_weighted_mid(test_data: Path) -> None:
    _, quotes, _ = futures(test_data)
    half = len(quotes) // 2
    fitted = fit_microprice(quotes.iloc[:half], tick=0.1)
    assert (np.diff(fitted.adjustments[0]) > 0).all(), "more bids, higher price"
    later = quotes.iloc[half:]
    mid = ((later["bid"] + later["ask"]) / 2).to_numpy()
    weight = (later["bid_size"] / (later["bid_size"] + later["ask_size"])).to_numpy()
    weighted = later["ask"].to_numpy() * weight + later["bid"].to_numpy() * (1 - weight)
    micro = fitted.price(later["bid"], later["bid_size"], later["ask"], later["ask_size"])
    ahead = np.searchsorted(later.index, later.index + pd.Timedelta("1s"))
    known = ahead < len(later)
    truth = mid[ahead[known]]

    def error(price: np.ndarray) -> float:
        return float(np.mean((price[known] - truth) ** 2))

    # Mean squared error a second ahead, on quotes after those of the fit.
    assert error(micro) < 0.98 * min(error(mid), error(weighted))


def test_what_is_refused() -> None:
    quotes = chain(50, 0.5, 0.5)
    for bad in ({"tick": 0.0}, {"tick": 1.0, "bins": 0}, {"tick": 1.0, "bins": 1_000, "spreads": 3}):
        with pytest.raises(ConfigurationError):
            fit_microprice(quotes, **bad)
    with pytest.raises(DataError, match="never changes"):
        fit_microprice(chain(50, 1.0, 0.5), tick=1.0)
    with pytest.raises(DataError, match="crossed"):
        fit_microprice(quotes.assign(bid=quotes["ask"] + 1.0), tick=1.0)
