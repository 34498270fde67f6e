"""Decision trees as flat arrays, and the walk through them: many trees at once, so that no step waits for memory.

The arrays are checked when they are made: a walk never leaves them, whatever file they came from.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import numpy.typing as npt
from numba import njit

from tapeline.core.errors import DataError

ABREAST: Final = 32
"""Trees that are walked side by side: the steps of one do not wait for those of another."""
SHARED_ROWS: Final = 2048
"""Fewer rows than this are walked by one thread: starting others costs more."""


@dataclass(frozen=True)
class Tree:
    """One tree as its file has it.

    Parameters
    ----------
    feature, threshold, missing_left:
        Of each split: rows with ``x[feature] <= threshold`` go left, and so do rows without a value where
        ``missing_left``.
    left, right:
        The child of each split: the number of a split, or ``-1 - k`` for leaf k. Splits come after their parents.
    value:
        Of each leaf.
    """

    feature: npt.NDArray[np.int64]
    threshold: npt.NDArray[np.float64]
    missing_left: npt.NDArray[np.bool_]
    left: npt.NDArray[np.int64]
    right: npt.NDArray[np.int64]
    value: npt.NDArray[np.float64]

    @classmethod
    def of_nodes(
        cls,
        feature: npt.NDArray[np.int64],
        threshold: npt.NDArray[np.float64],
        missing_left: npt.NDArray[np.bool_],
        left: npt.NDArray[np.int64],
        right: npt.NDArray[np.int64],
        value: npt.NDArray[np.float64],
    ) -> Tree:
        """A tree whose file numbers splits and leaves together and gives leaves children below 0.

        Examples
        --------
        >>> three = np.arange(3)
        >>> Tree.of_nodes(three, three / 2, three > 0, np.array([1, -1, -1]), np.array([2, -1, -1]), three * 1.0).value
        array([1., 2.])
        """
        leaf, split = left < 0, left >= 0
        if not left.size or not np.array_equal(leaf, right < 0) or max(left.max(), right.max()) >= left.size:
            raise DataError("a tree has no node, a node with one child, or a child out of range")
        number = np.where(leaf, -1 * np.cumsum(leaf), np.cumsum(split) - 1)
        return cls(
            feature[split],
            threshold[split],
            missing_left[split],
            number[left[split]],
            number[right[split]],
            value[leaf],
        )


@dataclass(frozen=True)
class Trees:
    """Trees in a row: splits and leaves are nodes, a leaf is its own child.

    Parameters
    ----------
    feature, threshold, missing_left, value:
        By node; a threshold is the largest float32 not above the tree's own, which sorts float32 rows just the same.
    child:
        The left and the right child of each node, side by side.
    root, depth:
        By tree.
    width:
        Columns that a row must have.
    """

    feature: npt.NDArray[np.uint32]
    threshold: npt.NDArray[np.float32]
    missing_left: npt.NDArray[np.bool_]
    value: npt.NDArray[np.float64]
    child: npt.NDArray[np.uint32]
    root: npt.NDArray[np.uint32]
    depth: npt.NDArray[np.int64]
    width: int

    def __len__(self) -> int:
        return self.root.size

    @classmethod
    def of(cls, trees: Sequence[Tree], width: int) -> Trees:
        """Flatten trees over rows of ``width`` columns.

        Raises
        ------
        DataError
            There is no tree, or one is none: a child out of range, in a circle or with two parents, a feature that
            the rows do not have, a threshold that is no number, a leaf that is not finite.

        Examples
        --------
        >>> stump = Tree(*map(np.array, ([1], [0.5], [True], [-1], [-2], [-1.0, 1.0])))
        >>> trees = Trees.of([stump, stump], width=2)
        >>> trees.sums(np.array([[9, 0.5], [9, 0.6], [9, np.nan]], dtype=np.float32)).tolist()
        [-2.0, 2.0, -2.0]
        """
        if not trees:
            raise DataError("a model of trees holds no tree")
        feature, threshold, missing, value, child, root, depth = [], [], [], [], [], [], []
        first = 0
        for number, tree in enumerate(trees):
            splits, leaves = tree.feature.size, tree.value.size
            _check(tree, number, width)
            parts = np.stack([tree.left, tree.right], axis=1)
            # Splits keep their places, leaves follow them.
            inner = np.where(parts >= 0, parts, splits - 1 - parts).ravel()
            own = np.repeat(np.arange(splits, splits + leaves), 2)
            child.append(np.concatenate([inner, own]) + first)
            feature.append(np.concatenate([tree.feature, np.zeros(leaves, dtype=np.int64)]))
            threshold.append(np.concatenate([_not_above(tree.threshold), np.zeros(leaves, dtype=np.float32)]))
            missing.append(np.concatenate([tree.missing_left, np.zeros(leaves, dtype=np.bool_)]))
            value.append(np.concatenate([np.zeros(splits), tree.value]))
            root.append(first)
            depth.append(_depth(tree.left, tree.right) if splits else 0)
            first += splits + leaves
        return cls(
            np.concatenate(feature).astype(np.uint32),
            np.concatenate(threshold),
            np.concatenate(missing).astype(np.bool_),
            np.concatenate(value),
            np.concatenate(child).astype(np.uint32),
            np.array(root, dtype=np.uint32),
            np.array(depth, dtype=np.int64),
            width,
        )

    def over(self, columns: npt.ArrayLike, width: int) -> Trees:
        """The same trees for rows of ``width`` columns, of which they read those at ``columns``, without a copy.

        DataError where the columns are not as many as the trees read, or one is not in the rows.
        """
        places = np.asarray(columns, dtype=np.int64)
        if places.size != self.width or (places.size and not 0 <= places.min() <= places.max() < width):
            raise DataError(f"trees over {self.width} columns cannot read {places.size} of rows of {width}")
        return replace(self, feature=places[self.feature].astype(np.uint32), width=width)

    def sums(
        self, rows: npt.NDArray[np.float32], *, threads: int = 1, start: float = 0.0, single: bool = False
    ) -> npt.NDArray[np.float64]:
        """The sum of the leaves that each row reaches, added in the order of the trees.

        Parameters
        ----------
        rows:
            Shape (rows, width).
        threads:
            At most so many share the rows, from 2,048 rows on; the result is the same to the bit.
        start:
            What the leaves are added to.
        single:
            Whether each addition is rounded to float32, as libraries do that compute in it.
        """
        if rows.ndim != 2 or rows.shape[1] != self.width:
            raise DataError(f"the trees read rows of {self.width} columns, these have the shape {rows.shape}")
        rows = np.ascontiguousarray(rows, dtype=np.float32)
        result = np.empty(len(rows))
        arrays = (self.feature, self.threshold, self.missing_left, self.child, self.value, self.root, self.depth)
        if threads < 2 or len(rows) < SHARED_ROWS:
            _walk(rows, *arrays, start, single, result)
            return result
        with ThreadPoolExecutor(threads) as pool:
            parts = zip(np.array_split(rows, threads), np.array_split(result, threads), strict=True)
            for done in [pool.submit(_walk, part, *arrays, start, single, out) for part, out in parts]:
                done.result()
        return result


@njit(cache=True, nogil=True, error_model="numpy")
def _walk(rows, feature, threshold, missing_left, child, value, root, depth, start, single, result):  # type: ignore[no-untyped-def]  # pragma: no cover
    at = np.empty(ABREAST, np.uint32)
    for i in range(rows.shape[0]):
        row = rows[i]
        total = start
        for first in range(0, root.size, ABREAST):
            count = min(ABREAST, root.size - first)
            steps = 0
            for j in range(count):
                at[j] = root[first + j]
                steps = max(steps, depth[first + j])
            # A leaf is its own child, so that trees of less depth stand still. No branch depends on the row.
            for _ in range(steps):
                for j in range(count):
                    node = at[j]
                    x = row[feature[node]]
                    right = np.uint32(not ((x <= threshold[node]) | ((x != x) & missing_left[node])))
                    at[j] = child[np.uint32(2) * node + right]
            for j in range(count):
                total += value[at[j]]
                # A sum of two float32 numbers in float64, rounded once more, is their sum in float32.
                if single:
                    total = np.float64(np.float32(total))
        result[i] = total


@njit(cache=True, nogil=True)
def _depth(left, right):  # type: ignore[no-untyped-def]  # pragma: no cover
    """The most splits on a path; 0 where a split is no child of exactly one that comes before it."""
    level = np.zeros(left.size, np.int64)
    level[0] = 1
    deepest = 1
    for node in range(left.size):
        if level[node] == 0:
            return 0
        for place in (left[node], right[node]):
            if place >= 0:
                if place <= node or place >= left.size or level[place]:
                    return 0
                level[place] = level[node] + 1
                deepest = max(deepest, level[place])
    return deepest


def _check(tree: Tree, number: int, width: int) -> None:
    splits, leaves = tree.feature.size, tree.value.size
    sizes = {tree.threshold.size, tree.missing_left.size, tree.left.size, tree.right.size}
    if sizes != {splits} or leaves != splits + 1:
        raise DataError(f"tree {number} has {splits} splits, {leaves} leaves and arrays of {sorted(sizes)} entries")
    if not np.isfinite(tree.value).all():
        raise DataError(f"tree {number} has a leaf that is not finite")
    if not splits:
        return
    if tree.feature.min() < 0 or tree.feature.max() >= width:
        raise DataError(f"tree {number} reads feature {tree.feature.max()} (or below 0) of {width}")
    if np.isnan(tree.threshold).any():
        raise DataError(f"tree {number} has a threshold that is no number")
    children = np.concatenate([tree.left, tree.right])
    found = np.sort(-1 - children[children < 0])
    # Each leaf is the child of one split, and each split but the root that of one before it.
    if not np.array_equal(found, np.arange(leaves)) or _depth(tree.left, tree.right) == 0:
        raise DataError(f"tree {number} is no tree: a child is out of range, in a circle or has two parents")


def _not_above(threshold: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
    """The largest float32 not above each number: float32 rows compare with it as with the number itself."""
    with np.errstate(over="ignore"):
        rounded = threshold.astype(np.float32)
    above = rounded.astype(np.float64) > threshold
    rounded[above] = np.nextafter(rounded[above], np.float32(-np.inf))
    return rounded
