"""Noise in labels: planted flips are found, clean labels are left alone."""

from __future__ import annotations

import sys

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_predict

from tapeline.core.errors import ConfigurationError, DataError, MissingExtraError
from tapeline.labels.future_return import future_return
from tapeline.labels.future_volatility import future_volatility
from tapeline.labels.label_noise import confident_learning, neighbour_disagreement, noise_joint
from tapeline.models.validation import PurgedKFold
from tests.core.samples import eurusd


def planted(flipped: float) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Two classes that two features tell apart, of which a share is flipped: features, truth, given, flipped."""
    generator = np.random.default_rng(0)
    truth = generator.integers(0, 2, 600)
    features = generator.normal(0, 0.5, (600, 2)) + 2.0 * truth[:, None]
    flips = generator.random(600) < flipped
    return features, truth, np.where(flips, 1 - truth, truth), flips


def out_of_sample(features: np.ndarray, classes: np.ndarray) -> np.ndarray:
    return cross_val_predict(LogisticRegression(), features, classes, cv=5, method="predict_proba")


def test_confident_learning_finds_planted_flips() -> None:
    pytest.importorskip("cleanlab")
    features, truth, given, flips = planted(0.1)
    found = confident_learning(given, out_of_sample(features, given))
    assert found["noisy"][flips].mean() > 0.8
    assert found["noisy"][~flips].mean() < 0.02
    assert (found["suggested"][found["noisy"]] == truth[found["noisy"]]).mean() > 0.9
    assert found["quality"][flips].mean() < found["quality"][~flips].mean() - 0.4
    joint = noise_joint(given, out_of_sample(features, given)).to_numpy()
    assert joint.sum() == pytest.approx(1)
    assert joint[0, 1] + joint[1, 0] == pytest.approx(flips.mean(), abs=0.03)


def test_planted_flips_of_real_labels_by_purged_folds() -> None:
    """Whether the next hours are wilder than usual, which the time of day tells well; a tenth of it planted wrong."""
    pytest.importorskip("cleanlab")
    bars = eurusd().iloc[:3000]
    labels = future_volatility(bars, 6)
    hour = 2 * np.pi * bars.index.hour / 24
    day = bars["close"].pct_change().rolling(24).std()
    features = pd.DataFrame({"sin": np.sin(hour), "cos": np.cos(hour), "day": day * 1e3}, index=bars.index).dropna()
    labels = labels.loc[labels.index.intersection(features.index)]
    truth = (labels["value"] > labels["value"].median()).to_numpy().astype(int)
    flips = np.random.default_rng(0).random(truth.size) < 0.1
    given = np.where(flips, 1 - truth, truth)
    folds = PurgedKFold(pd.DatetimeIndex(labels.index), pd.DatetimeIndex(labels["t_end"]), folds=4)
    numbers = features.loc[labels.index].to_numpy()
    chances = cross_val_predict(LogisticRegression(), numbers, given, cv=folds, method="predict_proba")
    found = confident_learning(given, chances, index=labels.index)
    assert found.index.equals(labels.index)
    # The truth is itself noisy here, so what counts is that a flip is suspected far more often than a label is.
    assert found["noisy"][flips].mean() > 2.0 * found["noisy"][~flips].mean()
    assert found["quality"][flips].mean() < found["quality"][~flips].mean() - 0.1


def test_clean_labels_stay() -> None:
    pytest.importorskip("cleanlab")
    features, _, given, _ = planted(0.0)
    assert confident_learning(given, out_of_sample(features, given))["noisy"].mean() < 0.02


def test_probabilities_that_are_none_are_refused(monkeypatch) -> None:
    fair = np.full((2, 2), 0.5)
    for classes, chances, message in (
        ([0, 1, 0], fair, r"\(3,\) classes"),
        ([0, 1], np.full((2, 2), 0.6), "does not sum to 1"),
        ([0, 1], np.full((2, 2), np.nan), "missing"),
        ([0, 0], fair, "each at least once"),
        ([0, 2], fair, "each at least once"),
    ):
        with pytest.raises(DataError, match=message):
            confident_learning(classes, chances)
    monkeypatch.setitem(sys.modules, "cleanlab.filter", None)
    with pytest.raises(MissingExtraError, match="label-noise"):
        confident_learning([0, 1], fair)


def frames(features: np.ndarray, given: np.ndarray, hours: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    ts = pd.date_range("2017-01-02", periods=len(given), freq="1h", tz="UTC", name="ts").as_unit("ns")
    labels = pd.DataFrame({"value": given.astype(float), "t_end": ts + pd.Timedelta(hours=hours)}, index=ts)
    return pd.DataFrame(features, index=ts, columns=["a", "b"]), labels


def test_neighbours_disagree_with_planted_flips() -> None:
    features, truth, given, flips = planted(0.1)
    found = neighbour_disagreement(*frames(features, given, 3))
    assert (found["witnesses"] == 10).all()
    assert found["disagreement"][flips].median() > 0.8
    assert found["disagreement"][~flips].median() < 0.2
    assert (found["suggested"].to_numpy() == truth).mean() > 0.97


@pytest.mark.parametrize("hours", [0, 5, 60])
def test_witnesses_against_a_slow_search(hours) -> None:
    features, _, given, _ = planted(0.2)
    numbers, labels = frames(features[:150], given[:150], hours)
    found = neighbour_disagreement(numbers, labels, neighbours=7)
    points = numbers.to_numpy()
    quartiles = np.quantile(points, [0.25, 0.75], axis=0)
    points = points / (quartiles[1] - quartiles[0])
    for row in range(0, 150, 7):
        order = np.argsort(((points - points[row]) ** 2).sum(axis=1))
        apart = [i for i in order if abs(i - row) > hours][:7]
        assert found["witnesses"].iloc[row] == len(apart)
        assert found["disagreement"].iloc[row] == pytest.approx((given[apart] != given[row]).mean())


def test_overlapping_labels_are_no_witnesses_on_real_bars() -> None:
    """Returns over a day from bars side by side are nearly one return: neighbours in time would agree for nothing."""
    bars = eurusd().iloc[:800]
    returns = future_return(bars, 24)
    labels = returns.assign(value=np.sign(returns["value"]))
    trailing = pd.DataFrame({name: bars["close"].pct_change(int(name)) for name in ("24", "48", "96")})
    honest = neighbour_disagreement(trailing, labels)["disagreement"].mean()
    naive = neighbour_disagreement(trailing, labels.assign(t_end=labels.index))["disagreement"].mean()
    assert naive < honest - 0.1
    assert 0.35 < honest < 0.65


def test_what_neighbours_refuse() -> None:
    numbers, labels = frames(np.zeros((4, 2)), np.zeros(4), 9)
    alone = neighbour_disagreement(numbers, labels)
    assert (alone["witnesses"] == 0).all()
    assert alone["disagreement"].isna().all()
    with pytest.raises(ConfigurationError, match="outside 1 and 1000"):
        neighbour_disagreement(numbers, labels, neighbours=0)
    with pytest.raises(DataError, match="1 rows have both"):
        neighbour_disagreement(numbers.iloc[:1], labels)
    with pytest.raises(DataError, match="infinite"):
        neighbour_disagreement(numbers + np.inf, labels)
