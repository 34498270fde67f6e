"""Importance is what scikit-learn and SHAP say, is kept once a snapshot, and a feature that changes rank is told."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from sklearn.inspection import permutation_importance

from tapeline.core.errors import DataError, VersionMismatchError
from tapeline.models.importance import (
    ImportanceTracker,
    Snapshot,
    importance_alert,
    measure_importance,
    rank_changes,
)
from tapeline.models.registry import Registry
from tapeline.models.tracking import open_tracking
from tests.models.synthetic import make_dataset


@pytest.fixture(scope="module")
def model(trained):
    settings, _ = trained
    registry = Registry.open(settings)
    return registry.load(registry.find("direction-H1"))


def at(day: str, *features: str) -> Snapshot:
    ranks = range(1, len(features) + 1)
    table = pd.DataFrame({"feature": features, "rank": ranks, "shap_share": 0.1, "permutation": 0.0})
    return Snapshot("direction-H1", "1", pd.Timestamp(day, tz="UTC"), True, table)


def test_the_planted_feature_matters_and_the_numbers_are_those_of_scikit_learn(model) -> None:
    dataset = make_dataset(1500, signal=0.6, seed=3, start="2019-01-07")
    table = measure_importance(model, dataset, repeats=3)
    assert table["feature"].iloc[0] == "f0"
    assert table.loc[0, ["rank", "permutation_rank"]].tolist() == [1, 1]
    assert table["shap_share"].sum() == pytest.approx(1)
    assert table["permutation"][0] > 0.02
    assert table["permutation"][1:].abs().max() < 0.005

    class Peer:
        classes_ = np.array([0, 1])

        def fit(self, *_):
            return self

        def predict_proba(self, x):
            p = model.probability(np.asarray(x, dtype=np.float32))
            return np.column_stack([1 - p, p])

    peer = permutation_importance(
        Peer(),
        dataset.X,
        dataset.y,
        scoring=lambda m, x, y: -_loss(y, m.predict_proba(x)[:, 1]),
        n_repeats=20,
        random_state=0,
    )
    told = table.set_index("feature").loc[list(dataset.columns), "permutation"]
    # Two means over permutations, of 3 and of 20: they may differ by what one permutation differs from the next.
    assert (np.abs(told - peer.importances_mean) <= 5 * peer.importances_std * np.sqrt(1 / 3 + 1 / 20) + 5e-4).all()
    pd.testing.assert_frame_equal(table, measure_importance(model, dataset, repeats=3))


def _loss(y: np.ndarray, p: np.ndarray) -> float:
    return float(-(y * np.log(p) + (1 - y) * np.log1p(-p)).mean())


def test_snapshots_are_kept_once_and_drawn_over_time(model, settings) -> None:
    tracking = open_tracking(settings)
    tracker = ImportanceTracker(tracking, "direction-H1")
    assert tracker.history() == []
    tables = [measure_importance(model, make_dataset(300, seed=seed), repeats=1) for seed in (1, 2)]
    snapshots = [
        Snapshot("direction-H1", "1", pd.Timestamp(day, tz="UTC"), True, table)
        for day, table in zip(("2019-01-01", "2019-01-08"), tables, strict=True)
    ]
    assert [tracker.record(one) for one in (*snapshots, snapshots[0])] == [True, True, False]
    read = tracker.history()
    assert [one.as_of for one in read] == [one.as_of for one in snapshots]
    pd.testing.assert_frame_equal(read[1].table, snapshots[1].table)
    (run,) = tracking.client.search_runs([tracking.experiment_id])
    drawn = tracking.client.get_metric_history(run.info.run_id, "shap_share/f0")
    assert [one.step for one in drawn] == [0, 1]
    assert [pd.Timestamp(one.timestamp, unit="ms", tz="UTC") for one in drawn] == [one.as_of for one in snapshots]
    assert drawn[0].value == pytest.approx(tables[0].set_index("feature").loc["f0", "shap_share"])
    assert [one.as_of for one in tracker.history(1)] == [snapshots[1].as_of]
    with pytest.raises(DataError, match="does not belong"):
        ImportanceTracker(tracking, "other").record(snapshots[0])


def test_a_change_of_rank_is_told_and_small_moves_are_not() -> None:
    same = [at(f"2019-01-0{day}", *"abcdefgh") for day in (1, 2, 3)]
    assert rank_changes(same) == ([], 1.0)
    assert rank_changes(same[:1]) == ([], 1.0)
    swapped, agreement = rank_changes([*same, at("2019-01-04", *"bacdefgh")])
    assert not swapped
    assert 0.9 < agreement < 1
    fallen, _ = rank_changes([*same, at("2019-01-04", *"bcdefgha")])
    assert [str(change) for change in fallen] == ["a: rank 1 -> 8"]
    replaced, _ = rank_changes([*same, at("2019-01-04", *"xbcdefgh")])
    assert {str(change) for change in replaced} == {"x: new at rank 1", "a: gone, rank 1 before"}
    deep, _ = rank_changes([*same, at("2019-01-04", *"abchgfed")], top=3, moved=3)
    assert not deep, "what happens below the top is nobody's alarm"


def test_the_alert_names_what_changed_and_is_sent_once() -> None:
    history = [at("2019-01-01", *"abcdefgh"), at("2019-01-08", *"bcdefgha")]
    changes, agreement = rank_changes(history)
    alert = importance_alert(history[-1], changes, agreement)
    assert "a: rank 1 -> 8" in alert.body
    assert alert.once
    assert alert.key != importance_alert(replace(history[-1], as_of=history[0].as_of), changes, 1.0).key
    assert importance_alert(history[-1], [], 1.0) is None


def test_rows_of_another_feature_set_are_refused(model) -> None:
    dataset = make_dataset(200)
    with pytest.raises(VersionMismatchError, match="compute the features with test@1"):
        measure_importance(model, make_dataset(200, columns=9))
    with pytest.raises(DataError, match="no row"):
        measure_importance(model, dataset.take(np.arange(0)))
