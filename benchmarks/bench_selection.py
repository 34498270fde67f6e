"""What selection costs on 200 columns of 100,000 rows, and the measures of association against their peers.

CPU seconds. Peers measure fewer columns, because they take minutes for all; both sides get the same ones.
"""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pandas as pd

from benchmarks.harness import cpu_seconds, report
from tapeline.features.association import (
    association_matrix,
    equal_mass_codes,
    mutual_information,
    natural_clusters,
    prune,
)
from tapeline.models.selection import MinimumRedundancy

ROWS, COLUMNS, PEER_COLUMNS = 100_000, 200, 30


def main() -> int:
    """Measure, compare, report; 1 where a target is missed."""
    X, y = make_rows()  # noqa: N806 - scikit-learn's name
    return 0 if all([*whole(X, y), spearman(X), information(X)]) else 1


def make_rows() -> tuple[np.ndarray, np.ndarray]:
    """Columns in groups of five that say nearly the same; ten of the groups tell of the target."""
    generator = np.random.default_rng(0)
    source = generator.standard_normal((ROWS, COLUMNS // 5))
    X = np.repeat(source, 5, axis=1) + 0.3 * generator.standard_normal((ROWS, COLUMNS))  # noqa: N806
    y = (source[:, :10].sum(axis=1) + 6 * generator.standard_normal(ROWS) > 0).astype(np.int8)
    return X.astype(np.float32), y


def whole(X: np.ndarray, y: np.ndarray) -> list[bool]:  # noqa: N803
    """The filter mRMR with its test against luck, and clusters by each measure: both find what was planted."""
    held = []
    MinimumRedundancy(10).fit(X[:2000], y[:2000])  # compiles
    chosen = MinimumRedundancy(10).fit(X, y)
    assert sorted({column // 5 for column in chosen.order_}) == list(range(10))
    seconds = cpu_seconds(lambda: MinimumRedundancy(10).fit(X, y), repeats=1, warm=False)
    held.append(report("mRMR, 200 x 100,000, 99 shifts", seconds, "s", target="< 10 s", holds=seconds < 10).holds)
    for method in ("pearson", "spearman", "mutual_information"):

        def clusters(method=method):
            matrix = association_matrix(X, method)
            return natural_clusters(matrix), prune(matrix, np.zeros(COLUMNS), 0.8)

        labels, pruning = clusters()
        assert len(pruning.kept) == COLUMNS // 5
        assert (labels == np.arange(COLUMNS) // 5).all()
        seconds = cpu_seconds(clusters, repeats=1, warm=False)
        name = f"{method} clusters, 200 x 100,000"
        held.append(report(name, seconds, "s", target="< 10 s", holds=seconds < 10).holds)
    return held


def spearman(X: np.ndarray) -> bool:  # noqa: N803
    """Rank correlations of all pairs against pandas: at so few columns both spend their time ranking."""
    part = X[:, :PEER_COLUMNS]
    frame = pd.DataFrame(part)
    np.testing.assert_allclose(association_matrix(part, "spearman"), frame.corr(method="spearman"), atol=1e-9)
    mine = cpu_seconds(lambda: association_matrix(part, "spearman"), repeats=1)
    peer = cpu_seconds(lambda: frame.corr(method="spearman"), repeats=1, warm=False)
    name = f"Spearman, {PEER_COLUMNS} x 100,000"
    return report(
        name, mine, "s", peer="pandas", peer_value=peer, target="at most 1.5 times", holds=mine <= 1.5 * peer
    ).holds


def information(X: np.ndarray) -> bool:  # noqa: N803
    """Mutual information of all pairs against scikit-learn on the same bins."""
    from sklearn.metrics import mutual_info_score

    codes = equal_mass_codes(X[:, :PEER_COLUMNS])
    pairs = list(combinations(range(PEER_COLUMNS), 2))

    def ours():
        return [mutual_information(codes[i], codes[j], corrected=False) for i, j in pairs]

    def theirs():
        return [mutual_info_score(codes[i], codes[j]) for i, j in pairs]

    np.testing.assert_allclose(ours(), theirs(), atol=1e-10)
    mine, peer = cpu_seconds(ours, repeats=1), cpu_seconds(theirs, repeats=1, warm=False)
    return report(
        f"mutual information, {len(pairs)} pairs of 100,000",
        mine,
        "s",
        peer="scikit-learn",
        peer_value=peer,
        target="at least 5 times faster",
        holds=mine * 5 <= peer,
    ).holds


if __name__ == "__main__":
    raise SystemExit(main())
