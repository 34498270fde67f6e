"""What a fit costs, family by family: the pipeline against the bare library, and a forest for labels that overlap.

Run alone: ``python -m benchmarks.bench_models``. Each peer is fitted on the same rows with the same parameters in the
same run, and the run stops where it does not give the same probabilities; all on one thread.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.harness import Figure, cpu_seconds, report
from tapeline.evaluation.metrics import auc
from tapeline.labels.sequential_bootstrap import sequential_bootstrap
from tapeline.labels.weights import average_uniqueness
from tapeline.models.boosting import EarlyStopping
from tapeline.models.estimator import build_estimator
from tapeline.models.forest import UniquenessForest, draw_rows, label_lives
from tapeline.models.validation import PurgedKFold
from tapeline.models.zoo import families, family

ROWS, COLUMNS, HORIZON = 10_000, 40, 20
OVERHEAD = 1.1
BARE = ("lightgbm", "xgboost", "extra_trees", "logistic")


def made_rows() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Slow features, one of which tells a little of the side of the next 20 steps; every row's label overlaps 38."""
    generator = np.random.default_rng(0)
    steps = generator.standard_normal(ROWS + HORIZON)
    walk = np.cumsum(steps)
    ahead = walk[HORIZON:] - walk[:-HORIZON]
    x = generator.standard_normal((ROWS, COLUMNS)).astype(np.float32)
    x[:, 1:] = np.cumsum(x[:, 1:], axis=0) / 50
    x[:, 0] += 0.2 * ahead / HORIZON**0.5
    return x, (ahead > 0).astype(np.int8), np.arange(ROWS), np.arange(ROWS) + HORIZON


def bare(name: str, x: np.ndarray) -> tuple[Any, np.ndarray]:
    """The library's own classifier, and the rows as the pipeline would hand them over."""
    model = family(name).build(0, 1)
    rows = build_estimator(name)[:-1].fit_transform(x)
    return model, rows


def fits(x: np.ndarray, y: np.ndarray, t0: np.ndarray, t_end: np.ndarray) -> list[Figure]:
    """CPU seconds of a fit of each family with its defaults, beside the bare library where there is one."""
    figures = []
    for one in families():
        built: list[Any] = []

        def work(name: str = one.name, built: list[Any] = built) -> None:
            built[:] = [build_estimator(name, seed=0).fit(x, y, t0=t0, t_end=t_end)]

        seconds = cpu_seconds(work)
        peer_seconds = None
        if one.name in BARE:
            model, rows = bare(one.name, x)
            assert np.array_equal(built[0].predict_proba(x), model.fit(rows, y).predict_proba(rows)), one.name
            peer_seconds = cpu_seconds(_fitting(model, rows, y))
        figures.append(
            report(
                f"models.fit.{one.name}",
                seconds,
                "cpu s",
                target=f"< {OVERHEAD} of the peer + 0.05" if peer_seconds else "< 2",
                holds=seconds < (OVERHEAD * peer_seconds + 0.05 if peer_seconds else 2),
                peer="the bare library on prepared rows, same probabilities" if peer_seconds else None,
                peer_value=peer_seconds,
            )
        )
    return figures


def early_stopping(x: np.ndarray, y: np.ndarray, t0: np.ndarray, t_end: np.ndarray) -> list[Figure]:
    """Finding the rounds and fitting on all rows, against fitting the number found."""
    figures = []
    stopping = EarlyStopping(patience=20, maximum=200)
    for name in ("lightgbm", "xgboost"):
        pipeline = build_estimator(name, early_stopping=stopping)
        seconds = cpu_seconds(lambda pipeline=pipeline: pipeline.fit(x, y, t0=t0, t_end=t_end))
        known = build_estimator(name, parameters={"n_estimators": pipeline.stopped_.rounds})
        peer = cpu_seconds(_fitting(known, x, y))
        assert np.array_equal(pipeline.predict_proba(x), known.predict_proba(x))
        grown = len(pipeline.stopped_.losses) / pipeline.stopped_.rounds
        bound = 1.5 + 1.5 * grown
        figures.append(
            report(
                f"models.early_stopping.{name}",
                seconds,
                "cpu s",
                target=f"< {bound:.1f} of the peer: it grows {grown:.1f} times the trees on 0.8 of the rows before",
                holds=seconds < bound * peer,
                peer=f"fitting the {pipeline.stopped_.rounds} rounds found, same probabilities",
                peer_value=peer,
            )
        )
    return figures


def forests(x: np.ndarray, y: np.ndarray, t0: np.ndarray, t_end: np.ndarray) -> list[Figure]:
    """The draws, the trees and the score of the forest against the exact bootstrap and scikit-learn's forest."""
    from sklearn.ensemble import RandomForestClassifier

    lives = label_lives(t0, t_end)
    draws = round(ROWS * average_uniqueness(*lives).mean())
    ours = cpu_seconds(lambda: draw_rows("sequential", lives, draws, np.random.default_rng(0)))
    exact = cpu_seconds(lambda: sequential_bootstrap(*lives, draws=draws, seed=0))
    unique = [
        np.mean([_uniqueness(draw(seed), lives) for seed in range(10)])
        for draw in (
            lambda seed: draw_rows("sequential", lives, draws, np.random.default_rng(seed)),
            lambda seed: sequential_bootstrap(*lives, draws=draws, seed=seed),
        )
    ]
    assert abs(unique[0] - unique[1]) < 0.01, unique
    figures = [
        report(
            "models.forest.sequential_draw",
            ours,
            "cpu s",
            target="< 0.02 of the peer",
            holds=ours < 0.02 * exact,
            peer=f"chances of all {ROWS} rows anew for each of {draws} draws, same mean uniqueness within 0.01",
            peer_value=exact,
        )
    ]
    options: dict[str, Any] = {
        "n_estimators": 100,
        "max_depth": 6,
        "min_samples_leaf": 5,
        "max_features": 0.3,
        "oob_score": True,
        "random_state": 0,
    }
    found: dict[str, Any] = {}

    def fit(name: str) -> Callable[[], None]:
        def work() -> None:
            if name == "honest":
                found[name] = UniquenessForest(**options).fit(x, y, t0=t0, t_end=t_end)
            else:
                found[name] = RandomForestClassifier(**options).fit(x, y)

        return work

    seconds, peer = cpu_seconds(fit("honest"), repeats=1), cpu_seconds(fit("usual"), repeats=1)
    figures.append(
        report(
            "models.forest.fit_and_out_of_bag",
            seconds,
            "cpu s",
            target="< the peer",
            holds=seconds < peer,
            peer="scikit-learn's forest with its out-of-bag score",
            peer_value=peer,
        )
    )
    forest = found["honest"]
    said = np.empty(ROWS)
    hours = pd.DatetimeIndex(t0), pd.DatetimeIndex(t_end)
    for train, test in PurgedKFold(*hours, folds=4).split(x):
        fold = UniquenessForest(**{**options, "oob_score": False})
        fold.fit(x[train], y[train], t0=t0[train], t_end=t_end[train])
        said[test] = fold.predict_proba(x[test])[:, 1]
    outside = auc(y == 1, said)
    judged = forest.oob_trees_ > 0
    honest = auc(y[judged] == 1, forest.oob_decision_function_[judged, 1])
    usual = auc(y == 1, found["usual"].oob_decision_function_[:, 1])
    figures.append(
        report(
            "models.forest.out_of_bag_auc_beyond_that_of_purged_folds",
            abs(honest - outside),
            "auc",
            target="< 0.05 and below the peer",
            holds=abs(honest - outside) < min(0.05, abs(usual - outside)),
            peer="scikit-learn's out-of-bag score",
            peer_value=abs(usual - outside),
        )
    )
    return figures


def _fitting(model: Any, rows: np.ndarray, y: np.ndarray) -> Callable[[], Any]:
    return lambda: model.fit(rows, y)


def _uniqueness(drawn: np.ndarray, lives: tuple[np.ndarray, np.ndarray, int]) -> float:
    return float(average_uniqueness(lives[0][drawn], lives[1][drawn], lives[2]).mean())


def main() -> int:
    """Measure, compare, print; 1 where a target is missed."""
    from threadpoolctl import threadpool_limits

    rows = made_rows()
    # Threads of the linear algebra that wait in a loop for work would be counted as work.
    with threadpool_limits(1):
        figures = [*fits(*rows), *early_stopping(*rows), *forests(*rows)]
    return 0 if all(figure.holds for figure in figures) else 1


if __name__ == "__main__":
    sys.exit(main())
