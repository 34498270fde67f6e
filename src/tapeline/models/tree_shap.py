"""Exact SHAP values of a sum of trees against background rows, of trees of any library that are arrays here."""

from __future__ import annotations

from math import factorial
from typing import Final

import numpy as np
import numpy.typing as npt
from numba import njit

from tapeline.core.errors import DataError
from tapeline.models.tree_walk import Trees

MOST_SPLITS: Final = 60
"""Features on one path beyond which a weight of the formula is below the least float64 error."""


def tree_shap_values(
    trees: Trees,
    X: npt.NDArray[np.float32],  # noqa: N803 - scikit-learn's name
    background: npt.NDArray[np.float32],
) -> tuple[npt.NDArray[np.float64], float]:
    """What each feature adds to each row's sum of leaves, absent features being drawn from the background rows.

    For a row and a background row a tree is walked once: where both go the same way nothing is decided, where they part
    the split's feature belongs to the one or to the other from there on. A leaf reached with ``u`` features of the row
    and ``v`` of the background gives ``(u-1)! v! / (u+v)!`` of its value to each of the former and takes
    ``u! (v-1)! / (u+v)!`` from each of the latter (Lundberg et al. 2020, Nature Machine Intelligence 2, p. 56, the
    interventional values of the supplement). The mean over the background rows is exact.

    Parameters
    ----------
    trees:
        Over the columns of X.
    X, background:
        Rows to explain, and rows that stand for what is usual; a missing value goes where each split sends it.

    Returns
    -------
    The values, shape of X, and the background's mean sum of leaves; a row's values and the mean add up to its sum.

    Raises
    ------
    DataError
        The rows have another number of columns, or there is no background row.

    Examples
    --------
    >>> from tapeline.models.tree_walk import Tree
    >>> stump = Tree(*map(np.array, ([1], [0.5], [True], [-1], [-2], [-1.0, 1.0])))
    >>> rows = np.array([[0.0, 0.0], [0.0, 1.0]], dtype=np.float32)
    >>> values, expected = tree_shap_values(Trees.of([stump], width=2), rows, rows)
    >>> values.tolist(), expected
    ([[0.0, -1.0], [0.0, 1.0]], 0.0)
    """
    for rows in (X, background):
        if rows.ndim != 2 or rows.shape[1] != trees.width:
            raise DataError(f"the trees read rows of {trees.width} columns, these have the shape {rows.shape}")
    if not len(background):
        raise DataError("there is no background row to explain rows against")
    most = int(trees.depth.max())
    if most > MOST_SPLITS:
        raise DataError(f"a tree is {most} splits deep; values are exact up to {MOST_SPLITS}")
    weight = np.array(
        [[factorial(p) * factorial(q) / factorial(p + q + 1) for q in range(most + 1)] for p in range(most + 1)]
    )
    values = np.zeros(X.shape)
    _explain(
        np.ascontiguousarray(X, dtype=np.float32),
        np.ascontiguousarray(background, dtype=np.float32),
        trees.feature,
        trees.threshold,
        trees.missing_left,
        trees.child,
        trees.value,
        trees.root,
        most,
        weight,
        values,
    )
    return values / len(background), float(trees.sums(background).mean())


@njit(cache=True, nogil=True, error_model="numpy")
def _explain(X, usual, feature, threshold, missing_left, child, value, root, most, weight, values):  # type: ignore[no-untyped-def]  # pragma: no cover  # noqa: N803
    owner = np.zeros(X.shape[1], np.int8)  # of a feature on the path: 0 undecided, 1 the row's, 2 the background's
    decided = np.zeros(most + 1, np.int64)
    node_at, stage = np.zeros(most + 2, np.int64), np.zeros(most + 2, np.int8)
    for i in range(X.shape[0]):
        for b in range(usual.shape[0]):
            for tree in range(root.size):
                mine, theirs, top = 0, 0, 0
                node_at[0], stage[0] = root[tree], 0
                while top >= 0:
                    node = node_at[top]
                    if stage[top] == 0:
                        if child[2 * node] == node:
                            if mine + theirs > 0:
                                leaf = value[node]
                                gain = leaf * weight[mine - 1, theirs] if mine > 0 else 0.0
                                loss = leaf * weight[mine, theirs - 1] if theirs > 0 else 0.0
                                for k in range(mine + theirs):
                                    f = decided[k]
                                    values[i, f] += gain if owner[f] == 1 else -loss
                            top -= 1
                            continue
                        f = feature[node]
                        x, z = X[i, f], usual[b, f]
                        right = not ((x <= threshold[node]) or ((x != x) and missing_left[node]))
                        other = not ((z <= threshold[node]) or ((z != z) and missing_left[node]))
                        if right == other or owner[f] != 0:
                            stage[top] = 3
                            follow = other if owner[f] == 2 else right
                            node_at[top + 1] = child[2 * node + np.int64(follow)]
                        else:
                            owner[f] = 1
                            decided[mine + theirs] = f
                            mine += 1
                            stage[top] = 1
                            node_at[top + 1] = child[2 * node + np.int64(right)]
                        top += 1
                        stage[top] = 0
                    elif stage[top] == 1:
                        f = feature[node]
                        owner[f] = 2
                        mine -= 1
                        theirs += 1
                        stage[top] = 2
                        z = usual[b, f]
                        other = not ((z <= threshold[node]) or ((z != z) and missing_left[node]))
                        node_at[top + 1] = child[2 * node + np.int64(other)]
                        top += 1
                        stage[top] = 0
                    elif stage[top] == 2:
                        owner[feature[node]] = 0
                        theirs -= 1
                        top -= 1
                    else:
                        top -= 1
