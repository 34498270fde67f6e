"""No member speaks of a row that it was trained on, or whose label its training rows share."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.model_selection import KFold
from sklearn.neighbors import KNeighborsClassifier

from tapeline.core.errors import ConfigurationError, DataError
from tapeline.evaluation.metrics import auc
from tapeline.models import ensemble as ensemble_module
from tapeline.models.ensemble import BlendingEnsemble, StackingEnsemble, WeightedEnsemble
from tapeline.models.estimator import build_estimator
from tapeline.models.hybrid import HybridEnsemble
from tapeline.models.out_of_fold import inner_folds, out_of_fold
from tests.models.members import Told, Witness, hours

ROWS, HORIZON = 240, 9
LEARNERS = {
    "weighted": WeightedEnsemble([("a", Witness("a")), ("b", Witness("b"))]),
    "stacking": StackingEnsemble([("a", Witness("a")), ("b", Witness("b"))]),
    "stacking forward": StackingEnsemble([("a", Witness("a")), ("b", Witness("b"))], scheme="walk_forward"),
    "blending": BlendingEnsemble([("a", Witness("a")), ("b", Witness("b"))]),
    "hybrid": HybridEnsemble([("a", Witness("a")), ("b", Witness("b"))], regime=1),
    "nested": StackingEnsemble([("a", Witness("a")), ("inner", WeightedEnsemble([("b", Witness("b"))]))], folds=3),
}


def fit_witnesses(ensemble: Any) -> list[tuple[str, np.ndarray, np.ndarray]]:
    """Fit on rows in no order, several of one instant, and return what the members saw."""
    generator = np.random.default_rng(3)
    t0, t_end = hours(ROWS, HORIZON)
    order = generator.permutation(ROWS)
    rows = np.column_stack([np.arange(ROWS), np.arange(ROWS) % 2])[order]
    y = generator.integers(0, 2, ROWS)
    Witness.seen.clear()
    ensemble.fit(rows, y[order], generator.uniform(0.5, 1, ROWS), t0=t0[order], t_end=t_end[order])
    return list(Witness.seen)


def shared_labels(seen: list[tuple[str, np.ndarray, np.ndarray]]) -> int:
    """How many pairs of (training row, row spoken of) have intervals that meet; a row meets itself."""
    return sum(int((np.abs(trained[:, None] - said[None, :]) <= HORIZON).sum()) for _, trained, said in seen)


@pytest.mark.parametrize("name", list(LEARNERS))
def test_a_member_never_speaks_of_a_row_that_shares_a_label_with_its_training(name: str) -> None:
    seen = fit_witnesses(LEARNERS[name])
    assert {"a", "b"} <= {member for member, _, _ in seen}
    assert sum(said.size for _, _, said in seen) >= ROWS // 4
    assert shared_labels(seen) == 0


def test_the_witness_sees_folds_that_are_not_purged(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = list(KFold(5).split(np.empty(ROWS)))
    monkeypatch.setattr(ensemble_module, "inner_folds", lambda *_, **__: plain)
    assert shared_labels(fit_witnesses(LEARNERS["stacking"])) > 1000


def test_a_walk_forward_and_a_tail_know_the_past_alone() -> None:
    for name in ("stacking forward", "blending", "hybrid"):
        assert all(trained.max() + HORIZON < said.min() for _, trained, said in fit_witnesses(LEARNERS[name]))


@pytest.fixture(scope="module")
def overlapping_noise() -> list[tuple[np.ndarray, np.ndarray, Any, Any]]:
    """Signs of 20-hour sums of white noise, and slow columns that have nothing to do with them."""
    made = []
    for seed in range(8):
        generator = np.random.default_rng(seed)
        rows, horizon = 600, 20
        path = np.r_[0.0, np.cumsum(generator.normal(size=rows + horizon))]
        slow = np.column_stack([np.arange(rows) / rows, np.cumsum(generator.normal(size=rows)) / rows**0.5])
        made.append((slow, (path[horizon:][:rows] > path[:rows]).astype(int), *hours(rows, horizon)))
    return made


def test_overlapping_noise_looks_learnable_to_a_stacker_without_purging_and_not_to_this_one(
    overlapping_noise: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    members = [("near", KNeighborsClassifier(15))]
    claims: dict[str, list[tuple[float, float, float]]] = {"purged": [], "leaky": []}
    for rows, y, t0, t_end in overlapping_noise:
        shuffled = list(KFold(5, shuffle=True, random_state=0).split(rows))
        for kind, folds in (("leaky", shuffled), ("purged", inner_folds(t0, t_end, len(y)))):
            with monkeypatch.context() as patch:
                patch.setattr(ensemble_module, "inner_folds", lambda *_, f=folds, **__: f)
                fitted = StackingEnsemble(members).fit(rows, y, t0=t0, t_end=t_end)
            said = out_of_fold(members, rows, y, folds).probability[:, 0]
            claims[kind].append((auc(y, said), fitted.losses_["near"], fitted.meta_["coefficients"]["near"]))
    leaky, purged = np.array(claims["leaky"]), np.array(claims["purged"])
    error = purged[:, 0].std(ddof=1) / np.sqrt(len(purged))
    assert leaky[:, 0].mean() > 0.75
    assert abs(purged[:, 0].mean() - 0.5) < 3 * error < 0.15
    # It claims a loss below that of knowing nothing, and trusts the member; this one does neither.
    assert leaky[:, 1].mean() < 0.6 < np.log(2) < purged[:, 1].min()
    assert np.median(leaky[:, 2]) > 0.5 > 0.1 > purged[:, 2].max()


def test_without_label_intervals_nothing_is_learnt() -> None:
    with pytest.raises(ConfigurationError, match="t0 and t_end"):
        WeightedEnsemble([("a", Told(0))]).fit(np.full((20, 1), 0.5), [0, 1] * 10)
    with pytest.raises(ConfigurationError, match="no scheme"):
        inner_folds(*hours(20), 20, scheme="random")  # type: ignore[arg-type]


def test_what_no_fold_can_judge_is_refused() -> None:
    t0, t_end = hours(40)
    rows = np.full((40, 1), 0.5)
    with pytest.raises(DataError, match="one class"):
        out_of_fold([("a", Told(0))], rows, np.zeros(40, int), inner_folds(t0, t_end, 40))
    twice = [(np.arange(20), np.arange(20, 40))] * 2
    with pytest.raises(DataError, match="twice"):
        out_of_fold([("a", Told(0))], rows, [0, 1] * 20, twice)
    with pytest.raises(DataError, match="member 'a'"):
        out_of_fold([("a", Told(0))], rows + 1, [0, 1] * 20, inner_folds(t0, t_end, 40))


class _Weightless(ClassifierMixin, BaseEstimator):
    def fit(self, X: Any, y: Any) -> _Weightless:  # noqa: N803 - scikit-learn's name
        return self


def test_weights_are_never_dropped_in_silence() -> None:
    with pytest.raises(ConfigurationError, match="takes no sample_weight"):
        out_of_fold(
            [("plain", _Weightless())],
            np.zeros((20, 1)),
            [0, 1] * 10,
            inner_folds(*hours(20), 20),
            sample_weight=[1.0] * 20,
        )


def test_rows_that_no_fold_tests_stay_unknown() -> None:
    t0, t_end = hours(60)
    folds = inner_folds(t0, t_end, 60, scheme="walk_forward", folds=3)
    found = out_of_fold([("base", build_estimator("majority"))], np.zeros((60, 1)), [0, 1] * 30, folds)
    assert np.isnan(found.probability[:20]).all()
    assert found.rows.tolist() == list(range(20, 60))
    assert found.fold[[0, 20, 40]].tolist() == [-1, 0, 1]
