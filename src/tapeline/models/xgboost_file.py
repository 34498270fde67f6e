"""XGBoost's own JSON, scored without XGBoost: it trusts node numbers of a file, and a forged one crashes the process.

The trees are walked by :mod:`tapeline.models.tree_walk` in the float32 that XGBoost computes in, to the bit.
"""

from __future__ import annotations

import json
import math
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from numba import njit

from tapeline.core.errors import DataError
from tapeline.models.tree_walk import Tree, Trees

_BY_NODE: Final = (
    "right_children",
    "split_indices",
    "split_conditions",
    "split_type",
    "default_left",
    "parents",
    "base_weights",
    "loss_changes",
    "sum_hessian",
)
_OBJECTIVE: Final = "binary:logistic"


class XGBoostModel:
    """The trees of an XGBoost booster of two classes."""

    def __init__(self, trees: Trees, margin: float) -> None:
        self.trees = trees
        self.width = trees.width
        self.margin = margin

    def over(self, columns: npt.ArrayLike, width: int) -> XGBoostModel:
        """The same for rows of ``width`` columns, of which it reads those at ``columns``."""
        return XGBoostModel(self.trees.over(columns, width), self.margin)

    def raw_probability(self, rows: npt.NDArray[np.float32], *, threads: int = 1) -> npt.NDArray[np.float64]:
        """The probability of class 1 for each row: a float32 number."""
        return _sigmoid(self.trees.sums(rows, threads=threads, start=self.margin, single=True))


def write_xgboost(model: Any) -> bytes:
    """A fitted ``XGBClassifier`` as JSON, up to its best round; the same model gives the same bytes."""
    booster = model.get_booster()
    # Known only where fitting was stopped early, and asking otherwise raises.
    best = getattr(model, "best_iteration", None)
    return bytes((booster if best is None else booster[: best + 1]).save_raw("json"))


def read_xgboost(content: bytes) -> XGBoostModel:
    """The booster of a JSON file; DataError where it is none of two classes and numerical splits, or no trees."""
    try:
        return _read(json.loads(content)["learner"])
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError, RecursionError) as error:
        raise DataError(f"this is no XGBoost booster: {type(error).__name__}: {error}") from error


@njit(cache=True, nogil=True, error_model="numpy")
def _sigmoid(margins):  # type: ignore[no-untyped-def]  # pragma: no cover
    one, smallest = np.float32(1.0), np.float32(1e-16)
    for i in range(margins.size):
        margin = max(np.float32(margins[i]), np.float32(-88.7))
        margins[i] = np.float64(one / (np.float32(math.exp(-margin)) + one + smallest))
    return margins


def _read(learner: dict[str, Any]) -> XGBoostModel:
    objective = learner["objective"]["name"]
    shape, booster = learner["learner_model_param"], learner["gradient_booster"]
    width, classes = int(shape["num_feature"]), int(shape["num_class"])
    if booster["name"] != "gbtree" or objective != _OBJECTIVE or classes not in (0, 1):
        raise DataError(f"the booster is a {str(booster['name'])[:40]!r} for {str(objective)[:40]!r}")
    base = np.float32(str(shape["base_score"]).strip("[]"))
    if not 0 < base < 1:
        raise DataError(f"the booster begins at the probability {base}")
    trees = booster["model"]["trees"]
    if len(booster["model"]["tree_info"]) != len(trees):
        raise DataError("the booster's list of trees and its trees differ in number")
    margin = -np.log(np.float32(1) / base - np.float32(1))
    return XGBoostModel(Trees.of([_tree(tree, width) for tree in trees], width), float(margin))


def _tree(tree: dict[str, Any], width: int) -> Tree:
    param = tree["tree_param"]
    left, right = _integers(tree["left_children"]), _integers(tree["right_children"])
    size = left.size
    if int(param["num_nodes"]) != size or any(len(tree[name]) != size for name in _BY_NODE):
        raise DataError(f"a tree of the booster has {size} nodes and lists of other lengths")
    if int(param["num_feature"]) != width or int(param["size_leaf_vector"]) > 1:
        raise DataError("a tree of the booster has other columns than the booster, or leaves of several numbers")
    if tree["categories_nodes"] or any(tree["split_type"]):
        raise DataError("a tree of the booster splits by categories", hint="only numerical splits are read")
    with np.errstate(over="ignore"):
        values = np.array(tree["split_conditions"], dtype=np.float32)
    # XGBoost sends left what is below a threshold, the walk what is not above it.
    below = np.nextafter(values, np.float32(-np.inf)).astype(np.float64)
    default_left = np.array(tree["default_left"], dtype=np.bool_)
    return Tree.of_nodes(_integers(tree["split_indices"]), below, default_left, left, right, values.astype(np.float64))


def _integers(values: Any) -> npt.NDArray[np.int64]:
    found = np.array(values, dtype=np.float64)
    if found.ndim != 1 or (found != np.round(found)).any():
        raise DataError("a tree of the booster lists numbers that are not whole")
    return found.astype(np.int64)
