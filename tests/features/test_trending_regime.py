"""Trending or sideways: planted stretches are told apart soon, and nothing that comes later changes what was said."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from tapeline.core.errors import DataError
from tapeline.features.trending_regime import name_trend, trending_regime
from tests.core.samples import eurusd
from tests.support import make_bars


def planted(seed: int, drift: float = 0.9, stretch: int = 300, parts: int = 8) -> tuple[pd.DataFrame, np.ndarray]:
    """Bars that go sideways (returns that turn back) and trend (returns with a drift) by turns."""
    generator = np.random.default_rng(seed)
    trending = np.repeat(np.arange(parts) % 2 == 1, stretch)
    noise = generator.normal(0.0, 1.0, trending.size)
    back = noise - 0.7 * np.concatenate(([0.0], noise[:-1]))
    returns = 0.001 * np.where(
        trending, noise + drift * np.where(np.arange(trending.size) // stretch % 4 == 1, 1, -1), back
    )
    bars = make_bars(trending.size)
    close = 100.0 * np.exp(np.cumsum(returns))
    opened = np.concatenate((close[:1], close[:-1]))
    return bars.assign(
        open=opened, close=close, high=np.maximum(opened, close), low=np.minimum(opened, close)
    ), trending


@pytest.mark.parametrize("seed", [1, 2])
def test_planted_trends_are_told_from_ranges(seed):
    bars, trending = planted(seed)
    found = trending_regime(bars, span=24, prior=240, window=960, every=240)
    known = found["trending_filtered"].notna().to_numpy()
    settled = known & (np.arange(len(bars)) % 300 > 40)
    said = (found["trending_filtered"] > 0.5).to_numpy()
    assert (said == trending)[settled].mean() > 0.85
    up = trending & (np.arange(len(bars)) // 300 % 4 == 1)
    names = name_trend(found)
    assert (names[settled & up & said] == "trending up").mean() > 0.9
    assert (names[settled & trending & ~up & said] == "trending down").mean() > 0.9
    np.testing.assert_allclose(found.loc[known, "trending_filtered"] + found.loc[known, "sideways_filtered"], 1.0)


def test_the_past_does_not_change_on_real_bars():
    bars = eurusd().iloc[:1500]
    whole = trending_regime(bars)
    for cut in (700, 1123):
        pd.testing.assert_frame_equal(trending_regime(bars.iloc[:cut]), whole.iloc[:cut], check_freq=False)
    assert set(name_trend(whole).dropna()) == {"trending up", "trending down", "sideways"}


def test_other_columns_are_refused():
    with pytest.raises(DataError, match="not the columns"):
        name_trend(pd.DataFrame({"bull": [1.0]}))
