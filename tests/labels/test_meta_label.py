"""Meta-labels: whether the primary side paid, against the positions themselves.

The rule is that of snippet 3.7 of Lopez de Prado (2018): the return times the side; 1 where it is above 0, else 0.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from tapeline.core.errors import ConfigurationError
from tapeline.labels.future_return import future_return
from tapeline.labels.meta_label import meta_label, meta_labels
from tapeline.labels.risk_reward import risk_reward
from tests.core.samples import eurusd


def signalled() -> pd.DataFrame:
    """Real bars with a crossing of two averages as the primary signal, silent where they are close."""
    bars = eurusd().iloc[:900]
    apart = bars["close"].rolling(8).mean() / bars["close"].rolling(32).mean() - 1
    return bars.assign(crossing=apart.where(apart.abs() > 3e-4, 0.0))


def test_the_side_that_the_signal_took_on_real_bars() -> None:
    bars = signalled()
    ours = meta_label(bars, "crossing", 1.0, 2.0, "atr", 24, 24, cost=0.05)
    side = np.sign(bars["crossing"])
    assert not ours.index.isin(bars.index[side.fillna(0) == 0]).any()
    for name, sign in (("long", 1.0), ("short", -1.0)):
        theirs = risk_reward(bars, name, 1.0, 2.0, "atr", 24)
        theirs = theirs[side.loc[theirs.index] == sign]
        mine = ours[ours["side"] == sign]
        assert list(mine.index) == list(theirs.index)
        np.testing.assert_array_equal(mine["value"], theirs["outcome"] > 0.0005)
        np.testing.assert_array_equal(mine["outcome"], theirs["outcome"])
        np.testing.assert_array_equal(mine["touched"], theirs["value"])
        assert list(mine["t_end"]) == list(theirs["t_end"])
        assert 0 < mine["value"].mean() < 1
    assert ours.index.is_monotonic_increasing


def test_costs_turn_small_wins_into_losses() -> None:
    bars = signalled()
    shares = [meta_label(bars, "crossing", cost=cost)["value"].mean() for cost in (0.0, 0.1, 0.2)]
    assert shares[0] > shares[1] > shares[2]


def test_a_signal_that_knows_the_outcome_always_pays_and_its_opposite_never() -> None:
    bars = eurusd().iloc[:500]
    labels = future_return(bars, 6)
    labels = labels[labels["outcome"] != 0]
    known = np.sign(labels["outcome"])
    assert meta_labels(labels, known)["value"].eq(1.0).all()
    against = meta_labels(labels, -3 * known)
    assert against["value"].eq(0.0).all()
    np.testing.assert_allclose(against["outcome"], -labels["outcome"].abs())
    silent = known.where(np.arange(len(known)) % 2 == 0)
    assert len(meta_labels(labels, silent)) == (len(labels) + 1) // 2
    assert meta_labels(labels, known, cost=1.0)["value"].eq(0.0).all()
    with pytest.raises(ConfigurationError, match="negative"):
        meta_labels(labels, known, cost=-0.1)
