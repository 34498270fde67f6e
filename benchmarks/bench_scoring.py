"""Scoring: one row and a thousand through :meth:`Scorer.probability`, which live scores and backfills both call.

Run alone: ``python -m benchmarks.bench_scoring``. The model has 100 trees of 63 leaves over 200 features, some of which
it does not keep, and an isotonic calibration. Peers are LightGBM's ``Booster.predict`` and its single-row function, on
the same rows in the same run; the run stops if one probability differs in one bit. Times of one row and of a thousand
are on the clock, for that is what a live decision waits.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any

import lightgbm
import numpy as np
import pandas as pd
from sklearn.ensemble import RandomForestClassifier

from benchmarks.harness import cpu_seconds, report
from tapeline.evaluation.result import Versions
from tapeline.models.bundle import Bundle, make_model, sha256
from tapeline.models.calibration import fit_calibration
from tapeline.models.fast_booster import SingleRow
from tapeline.models.model_file import ModelFile, read_model, write_model
from tapeline.models.scoring import Scorer

FEATURES = 200
ROWS = 1000
TREES = 100
LEAVES = 63
ONE_ROW_MICROSECONDS = 25.0
BATCH_MILLISECONDS = 20.0


def fitted() -> tuple[Scorer, Any, np.ndarray]:
    """A scorer, the booster in it, and rows to score."""
    generator = np.random.default_rng(0)
    rows = generator.standard_normal((4000, FEATURES)).astype(np.float32)
    rows[generator.random(rows.shape) < 0.02] = np.nan
    up = np.nan_to_num(rows[:, 0]) + np.nan_to_num(rows[:, 1] * rows[:, 2]) + generator.standard_normal(len(rows)) > 0
    kept = np.setdiff1d(np.arange(FEATURES), [7, 77, 177])
    parameters = {
        "objective": "binary", "num_leaves": LEAVES, "min_data_in_leaf": 10, "max_bin": 63, "verbosity": -1,
        "num_threads": 2, "seed": 1,
    }  # fmt: skip
    booster = lightgbm.train(parameters, lightgbm.Dataset(rows[:, kept], up), TREES)
    text = booster.model_to_string().encode()
    assert text.count(b"num_leaves=63\n") == TREES
    bundle = Bundle(
        name="direction",
        columns=tuple(f"f{number}" for number in range(FEATURES)),
        kept=tuple(map(int, kept)),
        calibration=fit_calibration(generator.uniform(size=5000), generator.uniform(size=5000) < 0.5),
        threshold=0.5,
        versions=Versions("features@1", "label@1", "d"),
        trained_until=pd.Timestamp("2020-01-01", tz="UTC"),
        booster_sha256=sha256(text),
    )
    model = make_model(bundle, ModelFile("lightgbm", text))
    return Scorer("direction", "1", model), booster, generator.standard_normal((ROWS, FEATURES)).astype(np.float32)


def microseconds(work: Callable[[int], Any], repeats: int) -> tuple[float, float]:
    """The median and the 99th percentile of a call on the clock, after a few calls to warm up."""
    for number in range(min(repeats, 20)):
        work(number)
    taken = np.empty(repeats)
    for number in range(repeats):
        started = time.perf_counter_ns()
        work(number)
        taken[number] = time.perf_counter_ns() - started
    return float(np.median(taken)) / 1000, float(np.quantile(taken, 0.99)) / 1000


def main() -> int:
    """Run and report."""
    scorer, booster, rows = fitted()
    kept = list(scorer.model.bundle.kept)
    read = np.ascontiguousarray(rows[:, kept])
    singles, narrow = [rows[[number]] for number in range(ROWS)], [read[[number]] for number in range(ROWS)]
    apply = scorer.model.bundle.calibration.apply
    expected = apply(booster.predict(read, num_threads=1))
    one = SingleRow(booster, len(kept))
    np.testing.assert_array_equal(scorer.probability(rows), expected)
    np.testing.assert_array_equal([scorer.probability(row)[0] for row in singles], expected)
    np.testing.assert_array_equal(apply([one(row)[0] for row in narrow]), expected)
    results = []

    median, slowest = microseconds(lambda number: scorer.probability(singles[number % ROWS]), 5000)
    peers = {
        "Booster.predict, calibrated": lambda number: apply(booster.predict(narrow[number % ROWS], num_threads=1)),
        "LightGBM's single-row function, uncalibrated": lambda number: one(narrow[number % ROWS]),
    }
    for name, work in peers.items():
        holds = median < ONE_ROW_MICROSECONDS
        report(
            f"one row of {FEATURES} features, {TREES} trees of {LEAVES} leaves, median on the clock", median, "us",
            target=f"under {ONE_ROW_MICROSECONDS:g} us", holds=holds, peer=name, peer_value=microseconds(work, 2000)[0],
        )  # fmt: skip
        results.append(holds)
    holds = slowest < 150
    report("the same, 99th percentile on the clock", slowest, "us", target="under 150 us", holds=holds)
    results.append(holds)

    median, _ = microseconds(lambda number: scorer.probability(rows), 100)
    for threads in (1, 2):
        peer, _ = microseconds(lambda number, n=threads: apply(booster.predict(read, num_threads=n)), 50)
        holds = median < BATCH_MILLISECONDS * 1000
        report(
            f"{ROWS} rows of {FEATURES} features, one thread, median on the clock", median / 1000, "ms",
            target=f"under {BATCH_MILLISECONDS:g} ms", holds=holds,
            peer=f"Booster.predict, {threads} thread{'s' * (threads > 1)}", peer_value=peer / 1000,
        )  # fmt: skip
        results.append(holds)
    seconds = cpu_seconds(lambda: [scorer.probability(rows) for _ in range(20)]) / 20
    peer = cpu_seconds(lambda: [apply(booster.predict(read, num_threads=2)) for _ in range(20)]) / 20
    holds = seconds < peer
    report(
        f"{ROWS} rows, CPU time", seconds, "s", target="less than the peer", holds=holds,
        peer="Booster.predict, 2 threads", peer_value=peer,
    )  # fmt: skip
    results.append(holds)
    results.append(frames(scorer, rows))
    results.append(forest(rows))
    return 0 if all(results) else 1


def frames(scorer: Scorer, rows: np.ndarray) -> bool:
    """The same thousand rows as a frame, with its checks and its columns of the scores table."""
    stamps = pd.date_range("2024-01-01", periods=ROWS, freq="h", tz="UTC", name="ts")
    frame = pd.DataFrame(rows, index=stamps, columns=list(scorer.columns)).assign(known_at=stamps)
    np.testing.assert_array_equal(scorer.score(frame)["probability"], scorer.probability(rows))
    seconds = cpu_seconds(lambda: [scorer.score(frame) for _ in range(10)]) / 10
    holds = seconds < BATCH_MILLISECONDS / 1000
    report(
        f"{ROWS} rows as a frame, checked, into the scores table's columns, CPU time", seconds, "s",
        target=f"under {BATCH_MILLISECONDS:g} ms", holds=holds,
    )  # fmt: skip
    return holds


def forest(rows: np.ndarray) -> bool:
    """A random forest of scikit-learn, read from its file and walked by the same kernel."""
    model = RandomForestClassifier(TREES, max_depth=6, min_samples_leaf=20, random_state=0, n_jobs=1)
    model.fit(rows, rows[:, 0] > 0)
    model.classes_ = np.array([0, 1])
    _, files = write_model(model, FEATURES)
    stored = read_model(files.format, files.content, fetch=files.fetch)
    np.testing.assert_array_equal(stored.raw_probability(rows), model.predict_proba(rows)[:, 1])
    seconds = cpu_seconds(lambda: [stored.raw_probability(row[None]) for row in rows[:50]]) / 50
    peer = cpu_seconds(lambda: [model.predict_proba(row[None]) for row in rows[:50]]) / 50
    holds = seconds < peer / 20
    report(
        f"one row through a random forest of {TREES} trees, CPU time", seconds, "s",
        target="at most 1/20 of the peer", holds=holds, peer="scikit-learn's predict_proba", peer_value=peer,
    )  # fmt: skip
    return holds


if __name__ == "__main__":
    sys.exit(main())
