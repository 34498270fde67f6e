"""XGBoost's own JSON: checked by us before XGBoost, which trusts the node numbers of a file, reads it."""

from __future__ import annotations

import json
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from tapeline.core.errors import DataError, MissingExtraError
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
    """An XGBoost booster of two classes, without scikit-learn around it."""

    def __init__(self, booster: Any, width: int) -> None:
        self.booster = booster
        self.width = width
        self._threads = 0

    def raw_probability(self, rows: npt.NDArray[np.float32], *, threads: int = 1) -> npt.NDArray[np.float64]:
        """The probability of class 1 for each row, in the float32 that XGBoost computes in."""
        if rows.ndim != 2 or rows.shape[1] != self.width:
            raise DataError(f"the booster reads rows of {self.width} columns, these have the shape {rows.shape}")
        if threads != self._threads:
            self.booster.set_param({"nthread": threads})
            self._threads = threads
        return np.asarray(self.booster.inplace_predict(rows, validate_features=False), dtype=np.float64)


def write_xgboost(model: Any) -> bytes:
    """A fitted ``XGBClassifier`` as JSON; the same model gives the same bytes."""
    return bytes(model.get_booster().save_raw("json"))


def read_xgboost(content: bytes) -> XGBoostModel:
    """The booster of a JSON file.

    Raises
    ------
    DataError
        It is no booster of two classes on numerical splits, or its trees are none.
    MissingExtraError
        XGBoost is not installed.
    """
    width = _inspect(content)
    try:
        import xgboost
    except ModuleNotFoundError as error:
        raise MissingExtraError("xgboost", "xgboost") from error
    booster = xgboost.Booster()
    try:
        booster.load_model(bytearray(content))
    except xgboost.core.XGBoostError as error:
        raise DataError(f"XGBoost does not read the booster: {str(error).splitlines()[0]}") from error
    return XGBoostModel(booster, width)


def _inspect(content: bytes) -> int:
    try:
        learner = json.loads(content)["learner"]
        objective = learner["objective"]["name"]
        shape = learner["learner_model_param"]
        width, classes = int(shape["num_feature"]), int(shape["num_class"])
        booster = learner["gradient_booster"]
        if booster["name"] != "gbtree" or objective != _OBJECTIVE or classes not in (0, 1):
            raise DataError(f"the booster is a {str(booster['name'])[:40]!r} for {str(objective)[:40]!r}")
        trees = booster["model"]["trees"]
        if len(booster["model"]["tree_info"]) != len(trees):
            raise DataError("the booster's list of trees and its trees differ in number")
        Trees.of([_tree(tree, width) for tree in trees], width)
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError, RecursionError) as error:
        raise DataError(f"this is no XGBoost booster: {type(error).__name__}: {error}") from error
    return width


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
    values = np.array(tree["split_conditions"], dtype=np.float64)
    default_left = np.array(tree["default_left"], dtype=np.bool_)
    return Tree.of_nodes(_integers(tree["split_indices"]), values, default_left, left, right, values)


def _integers(values: Any) -> npt.NDArray[np.int64]:
    found = np.array(values, dtype=np.float64)
    if found.ndim != 1 or (found != np.round(found)).any():
        raise DataError("a tree of the booster lists numbers that are not whole")
    return found.astype(np.int64)
