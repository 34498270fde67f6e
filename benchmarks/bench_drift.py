"""Distances to a reference over many features: PSI, Kolmogorov-Smirnov, Wasserstein.

Run alone: ``python -m benchmarks.bench_drift``. PSI is taken over a million rows of 200 features, in float32 as the
lake keeps them, and in pieces of 100,000 rows as they arrive; the peers are pandas (``cut`` and ``value_counts``) and
numpy (``histogram``), column by column on the same bins. The reference's bins, which are frozen, are not timed. The
others are held against scipy, the sorting of the window included. The run stops if they disagree.
"""

from __future__ import annotations

import sys
import time

import numpy as np
import pandas as pd
from scipy.stats import ks_2samp, wasserstein_distance

from benchmarks.harness import cpu_seconds, report
from tapeline.quality.distances import kolmogorov_smirnov, wasserstein
from tapeline.quality.histogram import bin_counts, counts_of_sorted, equal_share_edges, stability

FEATURES = 200
ROWS = 1_000_000
PIECE = 100_000
REFERENCE = 20_000
SAMPLED = 20
"""Columns of the comparison with scipy, which sorts both sides of each."""


def psi_by_hand(reference: np.ndarray, counts: np.ndarray) -> float:
    """The index as one writes it down."""
    p, q = (counts + 0.5) / (counts + 0.5).sum(), (reference + 0.5) / (reference + 0.5).sum()
    return float(np.sum((p - q) * np.log(p / q)))


def main() -> int:
    """Run and report."""
    generator = np.random.default_rng(5)
    held = np.sort(generator.normal(size=(FEATURES, REFERENCE)).astype(np.float32).astype(np.float64), axis=1)
    edges = [equal_share_edges(column) for column in held]
    reference = np.array([counts_of_sorted(column, edge) for column, edge in zip(held, edges, strict=True)], float)
    bin_counts(np.zeros(10, dtype=np.float32), edges[0])

    counts = {name: np.zeros((FEATURES, len(edges[0]) + 1), dtype=np.int64) for name in ("ours", "numpy", "pandas")}
    seconds = dict.fromkeys(counts, 0.0)
    for _ in range(ROWS // PIECE):
        piece = np.asfortranarray(generator.normal(0.05, 1.1, size=(PIECE, FEATURES)).astype(np.float32))
        for name, count in (("ours", _ours), ("numpy", _numpy), ("pandas", _pandas)):
            started = time.process_time()
            count(piece, edges, counts[name])
            seconds[name] += time.process_time() - started
    started = time.process_time()
    ours = stability(reference, counts["ours"].astype(float))
    seconds["ours"] += time.process_time() - started
    for name in ("numpy", "pandas"):
        started = time.process_time()
        peer = np.array([psi_by_hand(*pair) for pair in zip(reference, counts[name], strict=True)])
        seconds[name] += time.process_time() - started
        np.testing.assert_array_equal(counts[name], counts["ours"])
        np.testing.assert_allclose(ours, peer, rtol=1e-12)
    assert counts["ours"].sum() == ROWS * FEATURES
    holds = seconds["ours"] < 1.0
    for name in ("numpy", "pandas"):
        report(
            "PSI of 200 features on 1,000,000 rows, in pieces", seconds["ours"], "s", peer=f"{name} by column",
            peer_value=seconds[name], target="< 1 s", holds=holds,
        )  # fmt: skip

    window = [generator.normal(0.05, 1.1, size=ROWS // SAMPLED) for _ in range(SAMPLED)]
    missed = 0
    for name, distance, peer_of in (
        ("Kolmogorov-Smirnov", kolmogorov_smirnov, lambda a, b: ks_2samp(a, b, method="asymp").statistic),
        ("Wasserstein", wasserstein, wasserstein_distance),
    ):
        mine = [distance(held[k], np.sort(window[k])) for k in range(SAMPLED)]
        theirs = [peer_of(held[k], window[k]) for k in range(SAMPLED)]
        np.testing.assert_allclose(mine, theirs, rtol=1e-9)
        own = cpu_seconds(lambda d=distance: [d(held[k], np.sort(window[k])) for k in range(SAMPLED)])
        peer_seconds = cpu_seconds(lambda d=peer_of: [d(held[k], window[k]) for k in range(SAMPLED)])
        figure = report(
            f"{name} of {SAMPLED} columns of {ROWS // SAMPLED:,} rows", own, "s", peer="scipy",
            peer_value=peer_seconds, target="no slower than scipy", holds=own <= peer_seconds,
        )  # fmt: skip
        missed += not figure.holds
    return int(missed > 0 or not holds)


def _ours(piece: np.ndarray, edges: list[np.ndarray], into: np.ndarray) -> None:
    for k, edge in enumerate(edges):
        into[k] += bin_counts(piece[:, k], edge)


def _numpy(piece: np.ndarray, edges: list[np.ndarray], into: np.ndarray) -> None:
    for k, edge in enumerate(edges):
        # In float64, because np.histogram would take float32 edges for float32 values.
        into[k] += np.histogram(piece[:, k].astype(np.float64), np.r_[-np.inf, edge, np.inf])[0]


def _pandas(piece: np.ndarray, edges: list[np.ndarray], into: np.ndarray) -> None:
    frame = pd.DataFrame(piece)
    for k, edge in enumerate(edges):
        bins = pd.cut(frame[k].astype("float64"), np.r_[-np.inf, edge, np.inf], right=False, labels=False)
        into[k] += bins.value_counts().reindex(range(into.shape[1]), fill_value=0).to_numpy()


if __name__ == "__main__":
    sys.exit(main())
