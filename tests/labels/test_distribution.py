"""Class balance in all, over time and by regime, and the picture of it."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from tapeline.core.errors import ConfigurationError, DataError
from tapeline.core.timeframe import Timeframe
from tapeline.labels.distribution import balance_by_regime, balance_over_time, class_balance
from tapeline.labels.label_set import compute, load_label_set
from tapeline.labels.pictures import label_distribution
from tests.core.samples import eurusd


@pytest.fixture(scope="module")
def labels() -> pd.DataFrame:
    return compute(load_label_set(), eurusd(), Timeframe.parse("H1"))


@pytest.fixture(scope="module")
def regime() -> pd.Series:
    move = eurusd()["close"].pct_change().rolling(48).std()
    return pd.Series(np.where(move > move.expanding().median(), "wild", "calm"), move.index).where(move.notna())


def test_the_balance_counts_shares_weights_and_outcomes(labels) -> None:
    balance = class_balance(labels)
    for value, row in balance.iterrows():
        own = labels[labels["value"] == value]
        assert row["labels"] == len(own)
        assert row["weight"] == pytest.approx(own["weight"].sum() / labels["weight"].sum())
        assert row["outcome"] == pytest.approx(own["outcome"].mean())
    assert balance["share"].sum() == pytest.approx(1)
    plain = class_balance(labels.drop(columns="weight"))
    np.testing.assert_allclose(plain["weight"], plain["share"])


def test_the_balance_by_month_on_real_bars(labels) -> None:
    monthly = balance_over_time(labels)
    assert monthly["labels"].sum() == len(labels)
    for start, row in monthly.iterrows():
        own = labels[(labels.index.year == start.year) & (labels.index.month == start.month)]["value"]
        assert row["labels"] == len(own)
        for value in (-1.0, 0.0, 1.0):
            assert row[value] == pytest.approx((own == value).mean())
    holes = labels[(labels.index.month < 3) | (labels.index.month > 5)]
    assert not balance_over_time(holes).index.month.isin([3, 4, 5]).any()
    weekly = balance_over_time(labels, "W")
    for start in weekly.index[::9]:
        own = labels[(labels.index >= start) & (labels.index < start + pd.Timedelta(days=7))]
        assert weekly.loc[start, "labels"] == len(own)
    with pytest.raises(ConfigurationError, match="period 'often'"):
        balance_over_time(labels, "often")


def test_the_balance_by_regime(labels, regime) -> None:
    found = balance_by_regime(labels, regime)
    kept = labels[regime.reindex(labels.index).notna()]
    assert found["labels"].sum() == len(kept)
    wild = kept[regime.loc[kept.index] == "wild"]["value"]
    assert found.loc["wild", 1.0] == pytest.approx((wild == 1).mean())
    usual = [(kept["value"] == value).mean() for value in (-1.0, 0.0, 1.0)]
    gap = np.abs(found.loc["wild", [-1.0, 0.0, 1.0]].to_numpy(float) - usual).sum() / 2
    assert found.loc["wild", "distance"] == pytest.approx(gap)
    # A regime that is the class itself is as far from the usual as can be.
    self_told = balance_by_regime(labels, labels["value"])
    assert self_told.loc[1.0, "distance"] == pytest.approx(1 - (labels["value"] == 1).mean())


def test_nothing_to_show_is_refused(labels) -> None:
    for call in (class_balance, balance_over_time):
        with pytest.raises(DataError, match="no label"):
            call(labels.head(0))
    with pytest.raises(DataError, match="no label has a regime"):
        balance_by_regime(labels, pd.Series(dtype=object))
    with pytest.raises(DataError, match="repeat a time"):
        balance_by_regime(labels, pd.Series(["a", "b"], index=labels.index[[0, 0]]))


def test_the_picture_shows_its_numbers_and_has_the_same_bytes_twice(labels, regime) -> None:
    drawn = label_distribution(labels, regime=regime, title="EURUSD $1")
    assert drawn == label_distribution(labels, regime=regime, title="EURUSD $1")
    assert drawn != label_distribution(labels, title="EURUSD $1")
    assert drawn != label_distribution(labels.assign(value=-labels["value"].abs()), regime=regime, title="EURUSD $1")
    assert b"</svg>" in drawn[-20:]
    assert label_distribution(labels, every="W", format="png")[:4] == b"\x89PNG"
    # One month alone has no period before it to take its width from.
    assert label_distribution(labels.head(50))
    with pytest.raises(ConfigurationError, match="classes are too many"):
        label_distribution(labels.assign(value=np.arange(len(labels)) % 9.0))
    with pytest.raises(ConfigurationError, match="regimes are too many"):
        label_distribution(labels, regime=pd.Series(np.arange(len(labels)) % 13, labels.index))
