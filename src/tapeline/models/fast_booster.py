"""LightGBM's trees for scoring: equal to ``Booster.predict`` to the bit, and an order of magnitude faster on one row.

The text file is read here as well as by LightGBM. Trees of numerical splits are walked by
:mod:`tapeline.models.tree_walk`; what that does not know (categorical splits, linear leaves, zeros as missing values,
averaged output) is left to LightGBM, one row through its single-row function.
"""

from __future__ import annotations

import ctypes
import math
import re
import threading
import weakref
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from numba import njit

from tapeline.core.errors import DataError
from tapeline.models.tree_walk import Tree, Trees

_END: Final = b"end of trees\n\n"
_VERSIONS: Final = ("v3", "v4")
_INTEGER: Final = re.compile(r"-?[0-9]{1,10}")
_NUMBER: Final = re.compile(r"-?(?:[0-9]+(?:\.[0-9]+)?(?:[eE][-+]?[0-9]{1,3})?|inf|nan)")
_SPLIT_INTEGERS: Final = ("split_feature", "decision_type", "left_child", "right_child", "internal_count")
_SPLIT_NUMBERS: Final = ("split_gain", "threshold", "internal_value", "internal_weight")
_LEAF_INTEGERS: Final = ("leaf_count",)
_LEAF_NUMBERS: Final = ("leaf_value", "leaf_weight")
_SINGLE: Final = ("num_leaves", "num_cat", "shrinkage")
_OTHER: Final = (
    "Tree",
    "is_linear",
    "cat_boundaries",
    "cat_threshold",
    "leaf_const",
    "num_features",
    "leaf_features",
    "leaf_coeff",
)
_KNOWN: Final = frozenset(_SPLIT_INTEGERS + _SPLIT_NUMBERS + _LEAF_INTEGERS + _LEAF_NUMBERS + _SINGLE + _OTHER)
_DEFAULT_LEFT: Final = 2
_MISSING_SHIFT: Final = 2
_MISSING_ZERO: Final = 1
_MISSING_NAN: Final = 2
_ZERO: Final = float(np.float32(1e-35))
"""LightGBM reads values no further from 0 than this as 0."""
_FLOAT32: Final = 0  # C_API_DTYPE_FLOAT32
_NORMAL: Final = 0  # C_API_PREDICT_NORMAL


@dataclass(frozen=True)
class BoosterText:
    """What LightGBM's text file says.

    Parameters
    ----------
    width:
        Columns that the booster reads.
    slope:
        Of the sigmoid that turns the sum of leaves into a probability.
    trees:
        None where they hold something that a walk does not know.
    """

    width: int
    slope: float
    trees: Trees | None


def parse_text(text: bytes) -> BoosterText:
    """Read and check a booster's text.

    LightGBM trusts some numbers of the file, such as where in it each tree begins or which node is whose child; they
    are compared with the file here, before LightGBM sees it.

    Raises
    ------
    DataError
        It is no booster of a two-class model, or contradicts itself.
    """
    try:
        return _parse(text)
    except (KeyError, ValueError, OverflowError) as error:
        raise DataError(f"the booster does not parse: {type(error).__name__}: {error}") from error


def read_booster(text: bytes) -> Any:
    """LightGBM's booster of a text, after :func:`parse_text`; DataError where either refuses it.

    What follows the trees, which only tells how they were trained, is left away: LightGBM reads it unchecked.
    """
    import lightgbm

    parse_text(text)
    try:
        return lightgbm.Booster(model_str=(text[: text.index(_END)] + _END).decode())
    except (lightgbm.basic.LightGBMError, UnicodeDecodeError) as error:
        raise DataError(f"the booster does not parse: {error}") from error


class FastBooster:
    """A booster that scores rows without a copy and without a frame.

    Parameters
    ----------
    booster:
        A ``lightgbm.Booster`` of two classes.
    text:
        Its text where it is at hand; asked of the booster where not.
    """

    def __init__(self, booster: Any, text: bytes | None = None) -> None:
        parsed = parse_text(booster.model_to_string().encode() if text is None else text)
        self.width = parsed.width
        self.trees = parsed.trees
        self._slope = parsed.slope
        self._booster = booster
        self._one = SingleRow(booster, parsed.width)

    def over(self, columns: npt.ArrayLike, width: int) -> FastBooster | None:
        """The same for rows of ``width`` columns of which it reads some; None where it cannot without a copy."""
        if self.trees is None:
            return None
        made = object.__new__(FastBooster)
        made.__dict__.update(self.__dict__, trees=self.trees.over(columns, width), width=width)
        return made

    def raw_probability(self, rows: npt.NDArray[np.float32], *, threads: int = 1) -> npt.NDArray[np.float64]:
        """The booster's probability of class 1 for each row, whatever the number of rows or threads."""
        if self.trees is not None:
            return _sigmoid(self.trees.sums(rows, threads=threads), self._slope)
        if len(rows) == 1:
            return self._one(rows)
        return np.asarray(self._booster.predict(rows, num_threads=threads), dtype=np.float64)


class SingleRow:
    """LightGBM's own way to score one row: its settings are read once, and nothing is copied.

    Each thread gets a handle of its own: one handle holds one row's working memory.
    """

    def __init__(self, booster: Any, width: int) -> None:
        import lightgbm.basic

        self._library: Any = lightgbm.basic._LIB  # type: ignore[attr-defined]
        self._booster = booster
        self._width = width
        self._own = threading.local()

    def __call__(self, row: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        """The probability of class 1 of one row, shape (1, width)."""
        row = np.ascontiguousarray(row, dtype=np.float32)
        if row.shape != (1, self._width):
            raise DataError(f"the booster reads one row of {self._width} columns, this has the shape {row.shape}")
        handle = getattr(self._own, "handle", None)
        if handle is None:
            handle = self._own.handle = _Handle(self._library, self._booster, self._width)
        result = np.empty(1)
        handle.predict(row.ctypes.data, result.ctypes.data)
        return result


class _Handle:
    def __init__(self, library: Any, booster: Any, width: int) -> None:
        self._library = library
        self._booster = booster  # keeps the trees alive as long as this handle
        self._handle = ctypes.c_void_p()
        self._length = ctypes.c_int64()
        status = library.LGBM_BoosterPredictForMatSingleRowFastInit(
            booster._handle, _NORMAL, 0, -1, _FLOAT32, width, b"num_threads=1", ctypes.byref(self._handle)
        )
        self._raise(status)
        weakref.finalize(self, library.LGBM_FastConfigFree, self._handle)

    def predict(self, row: int, result: int) -> None:
        status = self._library.LGBM_BoosterPredictForMatSingleRowFast(
            self._handle, ctypes.c_void_p(row), ctypes.byref(self._length), ctypes.c_void_p(result)
        )
        self._raise(status)

    def _raise(self, status: int) -> None:
        if status:
            raise DataError(f"LightGBM cannot score the row: {self._library.LGBM_GetLastError()!r}")


@njit(cache=True, nogil=True, error_model="numpy")
def _sigmoid(sums, slope):  # type: ignore[no-untyped-def]  # pragma: no cover
    for i in range(sums.size):
        sums[i] = 1.0 / (1.0 + math.exp(-slope * sums[i]))
    return sums


def _parse(text: bytes) -> BoosterText:
    begin = text.find(b"\n\nTree=0\n") + 2
    if not text.startswith(b"tree\n") or begin < 2:
        raise DataError("this is no LightGBM text of trees")
    head = _fields(text[:begin])
    if head["num_class"] != "1" or head["num_tree_per_iteration"] != "1":
        raise DataError(f"the booster has {head['num_class']} classes of its own, a model of two classes has 1")
    slope = _slope(head["objective"])
    width = int(head["max_feature_idx"]) + 1
    if not 0 < width <= len(text):
        raise DataError(f"the booster reads {width} features")
    sizes = [int(size) for size in head["tree_sizes"].split()]
    blocks = []
    for number, size in enumerate(sizes):
        block = text[begin : begin + size] if size > 0 else b""
        if len(block) != size or not block.startswith(b"Tree=%d\n" % number) or block.count(b"Tree=") != 1:
            raise DataError(f"the booster's tree {number} is not where the file says")
        blocks.append(_fields(block))
        begin += size
    if not text[begin:].startswith(_END):
        raise DataError(f"the booster's file does not end after {len(sizes)} trees")
    parts = [_tree(block, number) for number, block in enumerate(blocks)]
    known = head.get("version") in _VERSIONS and "average_output" not in head
    simple = [part for part in parts if part is not None]
    walkable = known and len(simple) == len(parts)
    return BoosterText(width, slope, Trees.of(simple, width) if walkable else None)


def _fields(block: bytes) -> dict[str, str]:
    found: dict[str, str] = {}
    for line in block.decode("ascii").splitlines():
        key, _, value = line.partition("=")
        # Of two lines with one key LightGBM takes the first.
        if key and found.setdefault(key, value) is not value:
            raise DataError(f"the booster's file holds {key[:40]!r} twice")
    return found


def _slope(objective: str) -> float:
    if objective == "cross_entropy":
        return 1.0
    found = re.fullmatch(r"binary sigmoid:(\S+)", objective)
    if not found or not 0 < float(found[1]) < math.inf:
        raise DataError(f"the booster's objective is {objective[:40]!r}, which gives no probability of two classes")
    return float(found[1])


def _tree(block: dict[str, str], number: int) -> Tree | None:
    leaves = int(block["num_leaves"])
    value = _floats(block["leaf_value"])
    if leaves != value.size:
        raise DataError(f"the booster's tree {number} has {leaves} leaves and {value.size} values")
    if leaves > 1:
        _check_lists(block, leaves, number)
    if block["num_cat"] != "0" or block.get("is_linear", "0") != "0":
        return None
    if leaves == 1:
        none = np.empty(0, dtype=np.int64)
        return Tree(none, np.empty(0), none.astype(np.bool_), none, none, value)
    kinds = _integers(block["decision_type"])
    threshold = _floats(block["threshold"])
    missing = kinds >> _MISSING_SHIFT & 3
    if (missing == _MISSING_ZERO).any() or (kinds & 1).any():
        return None
    # A column without missing values in training: LightGBM reads a missing one as 0.
    left = np.where(missing == _MISSING_NAN, (kinds & _DEFAULT_LEFT) > 0, threshold >= 0)
    return Tree(
        _integers(block["split_feature"]),
        _around_zero(threshold),
        left,
        _integers(block["left_child"]),
        _integers(block["right_child"]),
        value,
    )


def _around_zero(threshold: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Thresholds that send all that LightGBM reads as 0 where they send 0."""
    moved = np.where((threshold >= 0) & (threshold < _ZERO), _ZERO, threshold)
    return np.where((moved < 0) & (moved >= -_ZERO), np.nextafter(-_ZERO, -np.inf), moved)


def _check_lists(block: dict[str, str], leaves: int, number: int) -> None:
    """A list of another length, or a number that is none, makes LightGBM end the process."""
    for names, count, form in (
        (_SPLIT_INTEGERS, leaves - 1, _INTEGER),
        (_SPLIT_NUMBERS, leaves - 1, _NUMBER),
        (_LEAF_INTEGERS, leaves, _INTEGER),
        (_LEAF_NUMBERS, leaves, _NUMBER),
        (_SINGLE, 1, _NUMBER),
    ):
        for name in names:
            parts = block[name].split(" ")
            if len(parts) != count or not all(map(form.fullmatch, parts)):
                raise DataError(
                    f"the booster's tree {number} has a {name} of {len(parts)} parts, not of {count} numbers"
                )
    unknown = set(block) - _KNOWN
    if unknown:
        raise DataError(f"the booster's tree {number} has the unknown lines {sorted(unknown)[:3]}")


def _integers(text: str) -> npt.NDArray[np.int64]:
    return np.array([int(part) for part in text.split(" ")], dtype=np.int64)


def _floats(text: str) -> npt.NDArray[np.float64]:
    return np.array([float(part) for part in text.split(" ")], dtype=np.float64)
