"""What calibration, conformal sets and the choice of models cost, beside peers that give the same answers.

CPU seconds on one core.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from arch.bootstrap import MCS
from venn_abers import VennAbers

from benchmarks.harness import cpu_seconds, report
from tapeline.models.conformal import adaptive_sets
from tapeline.models.loss_comparison import confidence_set
from tapeline.models.pooling import fit_linear_pool
from tapeline.models.venn_abers import fit_venn_abers

ROWS, PEER_ROWS, PERIODS, CANDIDATES, MEMBERS = 1_000_000, 100_000, 1_000, 10, 6


def main() -> int:
    """Measure, compare, report; 1 where a target is missed."""
    generator = np.random.default_rng(0)
    figures = [against_venn_abers(generator), history(generator), against_arch(generator), weights(generator)]
    return 0 if all(figures) else 1


def against_venn_abers(generator: np.random.Generator) -> bool:
    """Fit on 100,000 rows and judge 1,000, with the peer's own bounds."""
    score = generator.uniform(size=PEER_ROWS)
    happened = (generator.uniform(size=PEER_ROWS) < score).astype(int)
    asked = generator.uniform(size=1_000)
    given, told = np.column_stack([1 - score, score]), np.column_stack([1 - asked, asked])

    def peer() -> np.ndarray:
        fitted = VennAbers()
        fitted.fit(given, happened)
        return fitted.predict_proba(told)[1]

    mine = np.column_stack(fit_venn_abers(score, happened).interval(asked))
    np.testing.assert_allclose(mine, peer(), atol=1e-12)
    took = cpu_seconds(lambda: fit_venn_abers(score, happened).interval(asked))
    theirs = cpu_seconds(peer, repeats=1, warm=False)
    return report(
        "Venn-Abers, 100,000 rows", took, "CPU s", peer="venn-abers", peer_value=theirs, target="10 times less",
        holds=took * 10 < theirs,
    ).holds  # fmt: skip


def history(generator: np.random.Generator) -> bool:
    """Adaptive conformal sets of a million rows whose labels overlap."""
    t0 = pd.date_range("2017-01-02", periods=ROWS, freq="1min", tz="UTC").as_unit("ns")
    p, happened = generator.uniform(size=ROWS), generator.integers(0, 2, ROWS)
    t_end = t0 + pd.Timedelta(minutes=120)
    took = cpu_seconds(lambda: adaptive_sets(p, happened, t0, t_end), repeats=1)
    return report("adaptive sets, 1,000,000 rows", took, "CPU s", target="below 2 s", holds=took < 2).holds


def against_arch(generator: np.random.Generator) -> bool:
    """The model confidence set of ten candidates over 1,000 periods, with 1,000 samples."""
    losses = generator.normal(size=(PERIODS, CANDIDATES)) + generator.normal(size=(PERIODS, 1))
    losses += np.linspace(0, 0.15, CANDIDATES)

    def peer() -> np.ndarray:
        fitted = MCS(losses, 0.05, reps=1_000, block_size=10, method="R", seed=1)
        fitted.compute()
        return fitted.pvalues["Pvalue"].sort_index().to_numpy()

    # Both are shares of 1,000 random samples.
    np.testing.assert_allclose(confidence_set(losses, mean_block=10), peer(), atol=0.06)
    took, theirs = cpu_seconds(lambda: confidence_set(losses, mean_block=10)), cpu_seconds(peer)
    return report(
        "model confidence set, 10 of 1,000 periods", took, "CPU s", peer="arch", peer_value=theirs,
        target="at most twice the peer", holds=took <= 2 * theirs,
    ).holds  # fmt: skip


def weights(generator: np.random.Generator) -> bool:
    """Shares of six members from 100,000 out-of-fold rows."""
    truth = generator.uniform(0.3, 0.7, PEER_ROWS)
    happened = (generator.uniform(size=PEER_ROWS) < truth).astype(float)
    said = np.clip(truth[:, None] + generator.normal(0, np.linspace(0.02, 0.2, MEMBERS), (PEER_ROWS, MEMBERS)), 0, 1)
    took = cpu_seconds(lambda: fit_linear_pool(said, happened, np.ones(PEER_ROWS)))
    return report("pooling weights, 6 by 100,000", took, "CPU s", target="below 2 s", holds=took < 2).holds


if __name__ == "__main__":
    raise SystemExit(main())
