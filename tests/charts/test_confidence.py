"""Confidence against a loop over events, and that it reads nothing but what was decided before."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from tapeline.charts.confidence import confidence
from tapeline.core.errors import ConfigurationError, DataError


def history(rows: int = 300, seed: int = 0) -> pd.DataFrame:
    generator = np.random.default_rng(seed)
    confirmed = pd.date_range("2017-01-02", periods=rows, freq="1h", tz="UTC")
    return pd.DataFrame(
        {
            "kind": generator.choice(["flag", "gartley", "flag_failed"], rows),
            "timeframe": generator.choice(["H1", "D1"], rows),
            "symbol": generator.choice(["EURUSD", "USDJPY", "BTC/USDT"], rows),
            "regime": generator.choice(["trending", "sideways"], rows),
            "confirmed_at": confirmed,
            "decided_at": confirmed + pd.to_timedelta(generator.integers(1, 60, rows), unit="h"),
            "hit": generator.integers(0, 2, rows).astype(float),
            "base": generator.uniform(0.2, 0.6, rows),
        }
    )


LEVELS = (("kind",), ("kind", "timeframe"), ("kind", "timeframe", "symbol"), ("kind", "timeframe", "symbol", "regime"))


def plain(events: pd.DataFrame, told: pd.DataFrame, strength: float) -> list[tuple[float, float]]:
    found = []
    for _, event in events.iterrows():
        lift, number = 0.0, 0
        for level in LEVELS:
            same = told[told["decided_at"] <= event["confirmed_at"]]
            for name in level:
                same = same[same[name] == event[name]]
            number = len(same)
            base = same["base"].mean() if number else 0.0
            # The mean of Beta(hits + k p, misses + k (1 - p)) less the base rate, with p = base + lift above.
            posterior = (same["hit"].sum() + strength * (base + lift)) / (number + strength)
            lift = posterior - base
        found.append((number, lift))
    return found


def test_it_is_the_posterior_of_what_was_decided_by_then():
    told = history()
    events = told.drop(columns=["decided_at", "hit", "base"])
    mine = confidence(events, told, strength=20.0)
    number, lift = zip(*plain(events, told, 20.0), strict=True)
    np.testing.assert_array_equal(mine["outcomes"], number)
    np.testing.assert_allclose(mine["lift"], lift, atol=1e-12)
    assert (np.sign(mine["weight"]) == np.sign(np.round(mine["lift"], 14))).mean() > 0.98
    assert (mine["weight"].iloc[0], mine["lift"].iloc[0]) == (0.0, 0.0)


def test_later_outcomes_change_nothing():
    told = history()
    events = told.iloc[:200].drop(columns=["decided_at", "hit", "base"])
    until = events["confirmed_at"].iloc[-1]
    known = told[told["decided_at"] <= until]
    upset = pd.concat([known, told[told["decided_at"] > until].assign(hit=1.0, base=0.0)])
    pd.testing.assert_frame_equal(confidence(events, known), confidence(events, upset))


def test_few_outcomes_weigh_little_and_no_edge_weighs_nothing():
    days = pd.date_range("2017-01-02", periods=1000, freq="1D", tz="UTC")
    asked = pd.DataFrame({"kind": ["good", "rare", "chance", "unknown"], "confirmed_at": days[[999] * 4]})

    def of(kind: str, rows: int, share: float) -> pd.DataFrame:
        hit = (np.arange(rows) < share * rows).astype(float)
        return pd.DataFrame({"kind": kind, "decided_at": days[:rows], "hit": hit, "base": 0.4})

    told = pd.concat([of("good", 500, 0.6), of("rare", 5, 1.0), of("chance", 500, 0.4)])
    lift = confidence(asked, told)["lift"]
    assert lift.iloc[0] == pytest.approx(0.2 * 500 / 550)
    assert lift.iloc[1] == pytest.approx(0.6 * 5 / 55)
    assert lift.iloc[2] == pytest.approx(0.0, abs=1e-12)
    assert confidence(asked, told)["weight"].iloc[3] == 0.0


def test_what_cannot_be_weighed_is_refused():
    told = history(10)
    with pytest.raises(DataError, match="kind"):
        confidence(told.drop(columns="kind"), told)
    with pytest.raises(ConfigurationError, match="strength"):
        confidence(told, told, strength=0.0)
