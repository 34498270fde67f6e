"""The walk through LightGBM's trees gives LightGBM's own probabilities to the bit, and leaves no file unchecked."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import lightgbm
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tapeline.core.errors import DataError
from tapeline.evaluation.result import Versions
from tapeline.models.bundle import Bundle, Model
from tapeline.models.calibration import Calibration
from tapeline.models.column_map import ColumnMap
from tapeline.models.fast_booster import FastBooster, SingleRow, parse_text, read_booster
from tapeline.models.tree_walk import SHARED_ROWS, Tree, Trees

WIDTH = 6
KINDS = ("missing", "complete", "zero_as_missing", "categorical", "linear", "averaged", "slope", "leaves_only")


def make_rows(count: int, *, missing: float = 0.1, seed: int = 0) -> np.ndarray:
    generator = np.random.default_rng(seed)
    rows = generator.standard_normal((count, WIDTH)).astype(np.float32)
    rows[:, 5] = generator.integers(0, 8, count)
    rows[generator.random(rows.shape) < missing] = np.nan
    return rows


def make_booster(kind: str) -> Any:
    rows = make_rows(1500, missing=0.0 if kind in ("complete", "linear") else 0.1)
    known = np.nan_to_num(rows)
    up = known[:, 0] + known[:, 1] * known[:, 2] + np.random.default_rng(1).standard_normal(len(rows)) > 0
    if kind == "leaves_only":
        up = np.arange(len(rows)) % 3 == 0
    parameters: dict[str, Any] = {
        "objective": "binary",
        "num_leaves": 20,
        "min_data_in_leaf": len(rows) if kind == "leaves_only" else 10,
        "verbosity": -1,
        "num_threads": 1,
        "seed": 3,
        **{
            "zero_as_missing": {"zero_as_missing": True},
            "linear": {"linear_tree": True},
            "averaged": {"boosting": "rf", "bagging_freq": 1, "bagging_fraction": 0.5},
            "slope": {"sigmoid": 2.5},
        }.get(kind, {}),
    }
    categories = [5] if kind == "categorical" else "auto"
    return lightgbm.train(parameters, lightgbm.Dataset(rows, up, categorical_feature=categories), 40)


@pytest.fixture(scope="module")
def boosters() -> dict[str, Any]:
    return {kind: make_booster(kind) for kind in KINDS}


@pytest.fixture(scope="module")
def fast(boosters: dict[str, Any]) -> dict[str, FastBooster]:
    return {kind: FastBooster(boosters[kind]) for kind in ("missing", "complete")}


@pytest.fixture(scope="module")
def text(boosters: dict[str, Any]) -> bytes:
    return boosters["missing"].model_to_string().encode()


def awkward_rows(trees: Trees) -> np.ndarray:
    """Rows at each threshold of each tree, and at the float32 numbers on both sides of it."""
    split = trees.child.reshape(-1, 2)[:, 0] != np.arange(trees.feature.size)
    rows = make_rows(3 * split.sum(), seed=2)
    for number, (feature, threshold) in enumerate(zip(trees.feature[split], trees.threshold[split], strict=True)):
        # Thresholds around 0 are LightGBM's border of what it reads as 0.
        near = np.nextafter(threshold, np.float32([-np.inf, np.inf]), dtype=np.float32)
        rows[3 * number : 3 * number + 3, feature] = [near[0], threshold, near[1]]
    return rows


@pytest.mark.parametrize("kind", KINDS)
def test_probabilities_are_those_of_lightgbm_to_the_bit(boosters: dict[str, Any], kind: str) -> None:
    booster = boosters[kind]
    fast = FastBooster(booster)
    assert (fast.trees is not None) == (kind in ("missing", "complete", "slope", "leaves_only"))
    rows = make_rows(400, seed=7) if fast.trees is None else awkward_rows(fast.trees)
    if len(rows):
        rows[0], rows[1] = np.nan, 0.0
    rows = np.concatenate([rows, make_rows(50, seed=8)])
    expected = booster.predict(rows, num_threads=1)
    assert kind == "leaves_only" or expected.std() > 0.02
    np.testing.assert_array_equal(fast.raw_probability(rows), expected)
    alone = [fast.raw_probability(rows[[number]])[0] for number in range(0, len(rows), 7)]
    np.testing.assert_array_equal(alone, expected[::7])


@given(rows=arrays(np.float32, (5, WIDTH), elements=st.floats(width=32, allow_nan=True, allow_infinity=True)))
@settings(max_examples=60, deadline=None)
@pytest.mark.parametrize("kind", ["missing", "complete"])
def test_any_float32_goes_where_lightgbm_sends_it(
    boosters: dict[str, Any], fast: dict[str, FastBooster], kind: str, rows: np.ndarray
) -> None:
    np.testing.assert_array_equal(fast[kind].raw_probability(rows), boosters[kind].predict(rows, num_threads=1))


def test_threads_and_the_order_of_memory_change_nothing(boosters: dict[str, Any]) -> None:
    rows = make_rows(SHARED_ROWS + 3, seed=4)
    fast = FastBooster(boosters["missing"])
    expected = boosters["missing"].predict(rows)
    np.testing.assert_array_equal(fast.raw_probability(rows, threads=3), expected)
    np.testing.assert_array_equal(fast.raw_probability(np.asfortranarray(rows)), expected)
    np.testing.assert_array_equal(fast.raw_probability(rows.astype(np.float64)), expected)
    assert fast.raw_probability(rows[:0]).shape == (0,)


def test_columns_are_read_where_they_are_in_wider_rows(boosters: dict[str, Any]) -> None:
    rows = make_rows(100, seed=5)
    places = [8, 0, 3, 2, 9, 5]
    wide = np.full((100, 10), 1e30, dtype=np.float32)
    wide[:, places] = rows
    moved = FastBooster(boosters["missing"]).over(places, 10)
    assert moved is not None
    np.testing.assert_array_equal(moved.raw_probability(wide), boosters["missing"].predict(rows))
    assert FastBooster(boosters["categorical"]).over(places, 10) is None
    for columns, width in (([0], 3), ([0, 1, 2, 3, 4, 10], 10), ([-1, 1, 2, 3, 4, 5], 10)):
        with pytest.raises(DataError, match="6 columns cannot read"):
            FastBooster(boosters["missing"]).over(columns, width)


@pytest.mark.parametrize("kind", ["missing", "categorical"])
@pytest.mark.parametrize("scaled", [False, True])
def test_a_model_reads_its_columns_and_calibrates_as_the_long_way_does(
    boosters: dict[str, Any], kind: str, scaled: bool
) -> None:
    rows = make_rows(60, seed=11)
    wide = np.column_stack([rows[:, ::-1], np.full((60, 2), 9.0, dtype=np.float32)])
    scaling = ColumnMap("standard", centers=(0.1,) * WIDTH, scales=(1.5,) * WIDTH) if scaled else None
    bundle = Bundle(
        name="direction",
        columns=tuple("abcdefgh"),
        kept=(5, 4, 3, 2, 1, 0),
        calibration=Calibration("isotonic", x=(0.2, 0.5, 0.6), y=(0.3, 0.45, 0.7)),
        threshold=0.5,
        versions=Versions("f@1", "l@1", "d"),
        trained_until=pd.Timestamp("2017-01-01", tz="UTC"),
        booster_sha256="",
        scaling=scaling,
    )
    model = Model(bundle, boosters[kind])
    expected = boosters[kind].predict(rows if scaling is None else scaling.apply(rows))
    np.testing.assert_array_equal(model.raw_probability(wide), expected)
    np.testing.assert_array_equal(model.probability(wide), bundle.calibration.apply(expected))
    np.testing.assert_array_equal(model.probability(wide[[3]]), bundle.calibration.apply(expected[[3]]))
    with pytest.raises(DataError, match="8 columns"):
        model.probability(wide[:, :7])


@pytest.mark.parametrize("shape", [(3, WIDTH + 1), (3, WIDTH - 1), (WIDTH,)])
def test_rows_of_another_width_are_refused(boosters: dict[str, Any], shape: tuple[int, ...]) -> None:
    with pytest.raises(DataError, match=r"6 columns"):
        FastBooster(boosters["missing"]).raw_probability(np.zeros(shape, dtype=np.float32))
    with pytest.raises(DataError, match=r"one row of 6 columns"):
        SingleRow(boosters["missing"], WIDTH)(np.zeros(shape, dtype=np.float32))


def test_the_single_row_function_serves_threads_at_once(boosters: dict[str, Any]) -> None:
    booster, rows = boosters["categorical"], make_rows(300, seed=6)
    one = SingleRow(booster, WIDTH)
    with ThreadPoolExecutor(4) as pool:
        said = list(pool.map(lambda number: one(rows[[number]])[0], range(300)))
    np.testing.assert_array_equal(said, booster.predict(rows))


def test_a_text_reads_back_as_the_booster_that_wrote_it(boosters: dict[str, Any], text: bytes) -> None:
    rows = make_rows(50, seed=9)
    np.testing.assert_array_equal(read_booster(text).predict(rows), boosters["missing"].predict(rows))
    assert parse_text(text).width == WIDTH


def edited(text: bytes, key: str, change: Any) -> bytes:
    """The text with a line of its first tree (or header) changed in place, so that sizes still fit."""
    start = text.index(f"\n{key}=".encode()) + len(key) + 2
    end = text.index(b"\n", start)
    former = text[start:end]
    new = change(former)
    assert len(new) == len(former)
    return text[:start] + new + text[end:]


def endless(line: bytes) -> bytes:
    """The line with a first number that is beyond all that a float64 can hold."""
    size = line.index(b" ")
    return b"1" + b"0" * (size - 5) + b"e999" + line[size:]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda text: b"", "no LightGBM text"),
        (lambda text: text[: len(text) // 2], "not where the file says"),
        (lambda text: text.replace(b"Tree=3\n", b"Tree=9\n"), "tree 3 is not where"),
        (lambda text: text.replace(b"tree_sizes=", b"tree_sizes=1 "), "tree 0 is not where"),
        (lambda text: text.replace(b"tree_sizes=", b"tree_size_=", 1), "KeyError"),
        (lambda text: text.replace(b"num_class=1", b"num_class=3"), "3 classes"),
        (lambda text: text.replace(b"objective=binary sigmoid:1", b"objective=regression"), "objective"),
        (lambda text: text.replace(b"sigmoid:1", b"sigmoid:0"), "objective"),
        (lambda text: text.replace(b"max_feature_idx=5", b"max_feature_idx=1"), r"reads feature \d .*of 2"),
        (lambda text: text.replace(b"max_feature_idx=5", b"max_feature_idx=-1"), "reads 0 features"),
        (lambda text: edited(text, "left_child", lambda line: b"9" + line[1:]), "no tree"),
        (lambda text: edited(text, "left_child", lambda line: b"0" + line[1:]), "no tree"),
        (lambda text: edited(text, "split_feature", lambda line: b"9" + line[1:]), "feature"),
        (lambda text: edited(text, "leaf_value", endless), "not finite"),
        (lambda text: edited(text, "threshold", lambda line: line.replace(b".", b"_", 1)), "threshold of"),
        (lambda text: edited(text, "leaf_weight", lambda line: line.replace(b" ", b"0", 1)), "leaf_weight of"),
        (lambda text: edited(text, "split_gain", lambda line: b"x" + line[1:]), "split_gain of"),
        (lambda text: text.replace(b"internal_count=", b"internal_kount=", 1), "internal_count"),
        (lambda text: text.replace(b"label_index=0\n", b"label_index=0\nlabel_index=1\n", 1), "'label_index' twice"),
        (lambda text: text.replace(b"end of trees", b"end of wood.", 1), "does not end"),
        (lambda text: edited(text, "num_leaves", lambda line: b"9" * len(line)), "99 leaves"),
    ],
)
def test_a_forged_text_is_refused_before_lightgbm_sees_it(text: bytes, change: Any, told: str) -> None:
    with pytest.raises(DataError, match=told):
        parse_text(change(text))


def test_lightgbm_is_given_nothing_beside_the_trees(text: bytes, boosters: dict[str, Any]) -> None:
    """It ends the process where the parameters, which nobody needs to score, are damaged."""
    forged = text[: text.index(b"parameters:")] + b"parameters:\n[" + b"\xff" * 50
    rows = make_rows(20, seed=12)
    np.testing.assert_array_equal(read_booster(forged).predict(rows), boosters["missing"].predict(rows))


@given(data=st.data())
@settings(max_examples=100, deadline=None, derandomize=True)
def test_bytes_changed_at_random_never_lead_out_of_the_arrays(text: bytes, data: st.DataObject) -> None:
    changed = bytearray(text)
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, text.index(b"end of trees")))
        changed[place] = data.draw(st.sampled_from(b"0123456789-. e=\n") | st.integers(0, 255))
    try:
        parsed = parse_text(bytes(changed))
    except DataError:
        return
    # LightGBM reads it too, or refuses it; it does not end the process.
    with suppress(DataError):
        read_booster(bytes(changed))
    if parsed.trees is not None:
        rows = np.random.default_rng(0).standard_normal((3, parsed.trees.width)).astype(np.float32)
        assert np.isfinite(parsed.trees.sums(rows)).all()


def by_hand(tree: Tree, row: np.ndarray) -> float:
    """One row through one tree, as one would read it."""
    node = 0 if tree.feature.size else -1
    while node >= 0:
        x = float(row[tree.feature[node]])
        goes_left = tree.missing_left[node] if np.isnan(x) else x <= tree.threshold[node]
        node = int((tree.left if goes_left else tree.right)[node])
    return float(tree.value[-1 - node])


@given(seed=st.integers(0, 2**32 - 1), count=st.integers(1, 70))
@settings(max_examples=60, deadline=None)
def test_trees_of_any_shape_give_what_reading_them_gives(seed: int, count: int) -> None:
    generator = np.random.default_rng(seed)
    trees = [grow(generator) for _ in range(count)]
    rows = generator.choice(np.float32([0.0, 0.5, 1.0, -2.0, np.nan]), (4, 3))
    expected = [sum((by_hand(tree, row) for tree in trees), 0.0) for row in rows]
    np.testing.assert_array_equal(Trees.of(trees, 3).sums(rows), expected)


def grow(generator: np.random.Generator) -> Tree:
    """A tree grown by splitting a leaf drawn at random, as LightGBM grows them."""
    left: list[int] = []
    right: list[int] = []
    splits = int(generator.integers(0, 7))
    for split in range(splits):
        leaf = int(generator.integers(0, split + 1))  # this leaf becomes the split
        for side in (left, right):
            side[:] = [split if child == -1 - leaf else child for child in side]
        left.append(-1 - leaf)
        right.append(-2 - split)
    return Tree(
        generator.integers(0, 3, splits),
        generator.choice([0.0, 0.5, 0.7, -1.0], splits),
        generator.random(splits) < 0.5,
        np.array(left, dtype=np.int64),
        np.array(right, dtype=np.int64),
        generator.integers(-3, 4, splits + 1).astype(np.float64),
    )


def test_no_trees_are_no_model() -> None:
    with pytest.raises(DataError, match="holds no tree"):
        Trees.of([], 3)
