"""Model files: every family comes back as it was, and nothing that was forged is read."""

from __future__ import annotations

import io
import json
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from tapeline.core.errors import ConfigurationError, DataError
from tapeline.models import forest_file
from tapeline.models.column_map import KINDS
from tapeline.models.ensemble import StackingEnsemble, VotingEnsemble
from tapeline.models.estimator import build_estimator, probability_up
from tapeline.models.forest_file import read_forest
from tapeline.models.hybrid import HybridEnsemble
from tapeline.models.model_file import ModelFile, Preparation, Prepared, read_model, write_model
from tapeline.models.rule_member import RuleMember
from tapeline.models.selection import CorrelationFilter
from tapeline.models.xgboost_classifier import XGBoostClassifier
from tapeline.models.xgboost_file import write_xgboost
from tapeline.models.zoo import families

WIDTH, ROWS = 7, 300
SMALL = {"n_estimators": 6}
FAMILIES = tuple(one.name for one in families())
TREES = ("lightgbm", "xgboost", "random_forest", "extra_trees")
EXACT = {*TREES, "persistence", "majority"}
"""The others may differ by the rounding of a sum of products, in float32 where scikit-learn computed in it."""


def no_parts(name: str, sha256: str) -> bytes:
    raise DataError(f"there is no part {name}")


@pytest.fixture(scope="module")
def rows() -> np.ndarray:
    generator = np.random.default_rng(0)
    made = generator.standard_normal((ROWS, WIDTH)).astype(np.float32)
    made[generator.random(made.shape) < 0.05] = np.nan
    made[:, 1], made[:, 6] = 3.0, (np.arange(ROWS) // 50) % 2
    return made


@pytest.fixture(scope="module")
def target(rows: np.ndarray) -> np.ndarray:
    return (np.nan_to_num(rows[:, 0]) + np.random.default_rng(1).standard_normal(ROWS) > 0).astype(np.int64)


@pytest.fixture(scope="module")
def fitted(rows: np.ndarray, target: np.ndarray) -> dict[str, Any]:
    return {name: member(name).fit(rows, target) for name in FAMILIES}


@pytest.fixture(scope="module")
def ensembles(rows: np.ndarray, target: np.ndarray) -> dict[str, Any]:
    stamps = pd.date_range("2017-01-02", periods=ROWS, freq="1h", tz="UTC")
    intervals = {"t0": stamps, "t_end": stamps + pd.Timedelta("59min")}
    rule = {"conditions": [{"column": "c0", "comparison": "above", "value": 0.5}]}
    members = [("boosted", member("lightgbm")), ("bagged", member("random_forest")), ("line", member("logistic"))]
    rules = RuleMember([rule], columns=tuple(f"c{place}" for place in range(WIDTH)))
    inner = VotingEnsemble([*members[:2], ("net", member("neural_net")), ("rules", rules)], rule="log_odds")
    return {
        "stacking": StackingEnsemble(members, folds=3).fit(rows, target, **intervals),
        "hybrid": HybridEnsemble([("vote", inner), members[2]], regime=6, folds=3).fit(rows, target, **intervals),
    }


@pytest.fixture(scope="module")
def written(fitted: dict[str, Any], ensembles: dict[str, Any]) -> dict[str, ModelFile]:
    return {name: write_model(model, WIDTH)[1] for name, model in {**fitted, **ensembles}.items()}


def member(name: str) -> Any:
    return build_estimator(name, parameters=SMALL if name in TREES else None)


def read(model: Any) -> Prepared:
    """The model after a trip through its files, its preparation through JSON."""
    preparation, files = write_model(model, WIDTH)
    kept = Preparation.from_json(json.loads(json.dumps(preparation.to_json())))
    return Prepared(kept, read_model(files.format, files.content, fetch=files.fetch))


@pytest.mark.parametrize("name", FAMILIES)
def test_a_family_comes_back_with_its_probabilities(fitted: dict[str, Any], rows: np.ndarray, name: str) -> None:
    said, expected = read(fitted[name]).raw_probability(rows), probability_up(fitted[name], rows)
    assert name == "majority" or np.ptp(expected) > 0.01
    if name in EXACT:
        np.testing.assert_array_equal(said, expected)
    else:
        np.testing.assert_allclose(said, expected, rtol=0, atol=2e-7 if name == "logistic" else 1e-14)


@pytest.mark.parametrize("name", ["stacking", "hybrid"])
def test_an_ensemble_comes_back_with_its_members_and_weights(
    ensembles: dict[str, Any], rows: np.ndarray, name: str
) -> None:
    expected = probability_up(ensembles[name], rows)
    np.testing.assert_allclose(read(ensembles[name]).raw_probability(rows), expected, rtol=0, atol=2e-7)
    assert np.ptp(expected) > 0.02


@pytest.mark.parametrize("name", [*FAMILIES, "stacking", "hybrid"])
def test_a_row_alone_has_the_score_that_it_has_among_others(
    fitted: dict[str, Any], ensembles: dict[str, Any], rows: np.ndarray, name: str
) -> None:
    model = read({**fitted, **ensembles}[name])
    among = model.raw_probability(rows)
    alone = [model.raw_probability(rows[[place]])[0] for place in range(0, ROWS, 17)]
    np.testing.assert_array_equal(alone, among[::17])


def test_xgboost_comes_back_to_the_bit_from_any_margin_and_at_every_threshold() -> None:
    generator = np.random.default_rng(4)
    rows = np.round(generator.standard_normal((3000, WIDTH)), 1).astype(np.float32)
    rows[generator.random(rows.shape) < 0.1] = np.nan
    up = (np.nan_to_num(rows[:, 0]) > 0.9).astype(np.int64)
    model = XGBoostClassifier(n_estimators=60, learning_rate=0.9, max_depth=6, n_jobs=1, verbosity=0).fit(rows, up)
    expected = probability_up(model, rows)
    assert expected.min() < 1e-3, "far from the middle of the sigmoid"
    # Rounded columns lie on the very thresholds, which XGBoost's histogram puts at values of the rows.
    conditions = json.loads(write_xgboost(model))["learner"]["gradient_booster"]["model"]["trees"][0][
        "split_conditions"
    ]
    assert np.isin(np.float32(conditions), rows).any()
    np.testing.assert_array_equal(read(model).raw_probability(rows), expected)


def test_xgboost_stopped_early_is_kept_up_to_its_best_round(rows: np.ndarray, target: np.ndarray) -> None:
    model = XGBoostClassifier(n_estimators=80, early_stopping_rounds=3, learning_rate=0.9, n_jobs=1, verbosity=0)
    model.fit(rows[:200], target[:200], eval_set=[(rows[200:], target[200:])], verbose=False)
    assert model.best_iteration + 1 < model.get_booster().num_boosted_rounds()
    np.testing.assert_array_equal(read(model).raw_probability(rows), probability_up(model, rows))


def test_the_same_model_gives_the_same_bytes(written: dict[str, ModelFile], rows: np.ndarray, target: Any) -> None:
    for name in TREES:
        again = write_model(member(name).fit(rows, target), WIDTH)[1]
        assert again == written[name], name


@pytest.mark.parametrize("scaling", KINDS)
def test_what_a_pipeline_does_before_its_model_travels_as_numbers(
    rows: np.ndarray, target: np.ndarray, scaling: Any
) -> None:
    pipeline = build_estimator("linear", scaling=scaling, selector=CorrelationFilter()).fit(rows, target)
    preparation, _ = write_model(pipeline, WIDTH)
    assert 1 not in preparation.kept, "a constant column teaches nothing"
    np.testing.assert_array_equal(preparation.apply(rows), pipeline[:-1].transform(rows))
    np.testing.assert_allclose(read(pipeline).raw_probability(rows), probability_up(pipeline, rows), atol=1e-14)


def test_a_forest_scores_rows_that_its_training_had_no_gaps_like(target: np.ndarray) -> None:
    whole = np.random.default_rng(3).standard_normal((ROWS, WIDTH)).astype(np.float32)
    forest = read(member("random_forest").fit(whole, target))
    gap = whole[:1].copy()
    gap[0, 0] = np.nan
    assert 0 <= forest.raw_probability(gap)[0] <= 1


@pytest.mark.parametrize(
    ("model", "told"),
    [
        (make_pipeline(PCA(2), LogisticRegression()), "'pca'"),
        (make_pipeline(LogisticRegression(), LogisticRegression()), "'logisticregression-1'"),
        (PCA(2), "classes"),
    ],
)
def test_what_no_format_knows_is_refused(rows: np.ndarray, target: np.ndarray, model: Any, told: str) -> None:
    whole = np.nan_to_num(rows)
    if isinstance(model, PCA):
        model.fit(whole)
    elif isinstance(model[0], PCA):
        model.fit(whole, target)
    else:
        for _, step in model.steps:
            step.fit(whole, target)
    with pytest.raises(ConfigurationError, match=told):
        write_model(model, WIDTH)


def test_a_model_of_other_classes_is_refused(rows: np.ndarray, target: np.ndarray) -> None:
    for name in ("lightgbm", "xgboost", "logistic", "majority"):
        with pytest.raises(ConfigurationError, match="classes"):
            write_model(member(name).fit(rows, 2 * target - 1), WIDTH)


@pytest.mark.parametrize("width", [WIDTH - 1, WIDTH + 1])
@pytest.mark.parametrize("name", [*FAMILIES, "stacking"])
def test_rows_of_another_width_are_refused(
    fitted: dict[str, Any], ensembles: dict[str, Any], name: str, width: int
) -> None:
    with pytest.raises(DataError, match="columns"):
        read({**fitted, **ensembles}[name]).raw_probability(np.zeros((2, width), dtype=np.float32))


class Bomb:
    """Whoever unpickles this makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return self.path.touch, ()


@pytest.mark.parametrize("format_", ["lightgbm", "xgboost", "forest", "numbers", "composite"])
def test_what_is_no_model_is_refused_in_every_format(format_: str, tmp_path: Path) -> None:
    bomb = pickle.dumps(Bomb(tmp_path / "exploded"))
    for content in (b"", b"{}", b"[]", b"null", b"\xff" * 50, b"[" * 100_000, bomb, packed({"schema.json": bomb})):
        with pytest.raises(DataError):
            read_model(format_, content, fetch=no_parts)
    assert not (tmp_path / "exploded").exists()
    pickle.loads(bomb)
    assert (tmp_path / "exploded").exists(), "the bomb would have worked"


def test_an_unknown_format_is_refused() -> None:
    with pytest.raises(DataError, match=r"format 'pickle' \(known are lightgbm"):
        read_model("pickle", b"", fetch=no_parts)


def with_schema(content: bytes, change: Any) -> bytes:
    """A skops file whose schema was changed."""
    with zipfile.ZipFile(io.BytesIO(content)) as source:
        parts = {name: source.read(name) for name in source.namelist()}
    parts["schema.json"] = json.dumps(change(json.loads(parts["schema.json"]))).encode()
    return packed(parts)


def packed(parts: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as target:
        for name, content in parts.items():
            target.writestr(name, content)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("module", "name", "loader"),
    [
        ("os", "system", "FunctionNode"),
        ("builtins", "eval", "TypeNode"),
        ("operator", "methodcaller", "OperatorFuncNode"),
        ("functools", "partial", "PartialNode"),
        ("sklearn.linear_model._logistic", "LogisticRegression", "ObjectNode"),
        ("numpy", "ndarray", "ObjectNode"),
        ("sklearn.tree._tree", "Tree", "ObjectNode"),
    ],
)
def test_a_forest_file_with_anything_else_in_it_is_refused(
    written: dict[str, ModelFile], module: str, name: str, loader: str
) -> None:
    def smuggle(schema: dict[str, Any]) -> dict[str, Any]:
        node = {"__module__": module, "__class__": name, "__loader__": loader, "content": {}}
        schema["content"]["content"]["verbose"] = node
        return schema

    with pytest.raises(DataError, match=f"{name} as {loader}, which is not trusted"):
        read_forest(with_schema(written["random_forest"].content, smuggle))


def test_a_sound_skops_file_of_another_model_is_refused(rows: np.ndarray, target: np.ndarray) -> None:
    import skops.io  # three seconds of a core, which each process would spend that only collects

    other = LogisticRegression().fit(np.nan_to_num(rows), target)
    with pytest.raises(DataError, match="LogisticRegression as ObjectNode, which is not trusted"):
        read_forest(skops.io.dumps(other))


@pytest.mark.parametrize(
    ("field", "value", "told"),
    [
        ("left_child", 10**6, "out of range"),
        ("left_child", 0, "no tree"),
        ("right_child", 1, "no tree"),
        ("feature", 99, "reads feature 99"),
        ("feature", -5, "below 0"),
        ("threshold", np.nan, "no number"),
    ],
)
def test_a_forest_whose_nodes_lead_outside_is_refused(
    written: dict[str, ModelFile], field: str, value: float, told: str
) -> None:
    with zipfile.ZipFile(io.BytesIO(written["random_forest"].content)) as source:
        parts = {name: source.read(name) for name in source.namelist()}
    changed = 0
    for name, content in parts.items():
        array = np.load(io.BytesIO(content)) if name.endswith(".npy") else np.empty(0)
        if array.dtype.names and field in array.dtype.names:
            array[field][0] = value
            buffer = io.BytesIO()
            np.save(buffer, array)
            parts[name], changed = buffer.getvalue(), changed + 1
    assert changed == SMALL["n_estimators"]
    with pytest.raises(DataError, match=told):
        read_forest(packed(parts))


def test_a_forest_that_asks_for_more_memory_than_it_has_is_refused(
    written: dict[str, ModelFile], monkeypatch: pytest.MonkeyPatch
) -> None:
    content = written["random_forest"].content
    with zipfile.ZipFile(io.BytesIO(content)) as source:
        parts = {name: source.read(name) for name in source.namelist()}
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": "<f8", "fortran_order": False, "shape": (10**12,)})
    with pytest.raises(DataError, match=r"claims the shape \(1000000000000,\)"):
        read_forest(packed({**parts, "1.npy": buffer.getvalue()}))
    monkeypatch.setattr(forest_file, "MAXIMUM_UNPACKED", 10_000)
    with pytest.raises(DataError, match="more than 10000 bytes"):
        read_forest(packed({**parts, "9999.npy": bytes(20_000)}))


def changed_tree(**fields: Any) -> Any:
    def change(content: dict[str, Any]) -> dict[str, Any]:
        tree = content["learner"]["gradient_booster"]["model"]["trees"][0]
        for name, value in fields.items():
            tree[name] = [value, *tree[name][1:]] if isinstance(tree[name], list) else value
        return content

    return change


def shortened_tree(name: str) -> Any:
    def change(content: dict[str, Any]) -> dict[str, Any]:
        content["learner"]["gradient_booster"]["model"]["trees"][0][name].pop()
        return content

    return change


def changed_learner(**fields: Any) -> Any:
    def change(content: dict[str, Any]) -> dict[str, Any]:
        for name, value in fields.items():
            content["learner"][name] = value
        return content

    return change


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (changed_tree(left_children=10**6), "out of range"),
        (changed_tree(left_children=-1), "one child"),
        (changed_tree(left_children=0), "no tree"),
        (changed_tree(left_children=1.5), "not whole"),
        (changed_tree(split_indices=99), "reads feature 99"),
        (changed_tree(split_type=1), "categories"),
        (shortened_tree("sum_hessian"), "other lengths"),
        (changed_tree(split_conditions="x"), "no XGBoost booster"),
        (changed_learner(objective={"name": "reg:squarederror"}), "reg:squarederror"),
        (changed_learner(learner_model_param={"num_feature": "2", "num_class": "0", "base_score": ".5"}), "columns"),
        (changed_learner(learner_model_param={"num_feature": "7", "num_class": "0", "base_score": "2"}), "begins at"),
        (changed_learner(gradient_booster={"name": "gblinear"}), "gblinear"),
    ],
)
def test_a_forged_xgboost_booster_is_refused(written: dict[str, ModelFile], change: Any, told: str) -> None:
    content = json.dumps(change(json.loads(written["xgboost"].content))).encode()
    with pytest.raises(DataError, match=told):
        read_model("xgboost", content, fetch=no_parts)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("logistic", {"coefficients": [1.0]}),
        ("logistic", {"intercept": "much"}),
        ("logistic", {"coefficients": [float("inf")] * (WIDTH - 1)}),
        ("logistic", {"width": 10**12}),
        ("logistic", {"kind": "SVC"}),
        ("linear", {"clip": 0.9}),
        ("ridge", {"calibration": {"kind": "platt", "a": -1.0, "b": 0.0}}),
        ("persistence", {"column": WIDTH}),
        ("persistence", {"holds": 1.5}),
        ("majority", {"share": -0.1}),
    ],
)
def test_forged_numbers_are_refused(written: dict[str, ModelFile], name: str, change: dict[str, Any]) -> None:
    content = {**json.loads(written[name].content), **change}
    with pytest.raises(DataError):
        read_model("numbers", json.dumps(content).encode(), fetch=no_parts)


def manifest(files: ModelFile, **change: Any) -> bytes:
    return json.dumps({**json.loads(files.content), **change}).encode()


def test_a_manifest_that_names_other_files_is_refused(written: dict[str, ModelFile]) -> None:
    files = written["stacking"]
    members = json.loads(files.content)["members"]
    asked: list[str] = []

    def fetch(name: str, sha256: str) -> bytes:
        asked.append(name)
        return files.fetch(name, sha256)

    outside = ("../member-0.txt", "/etc/passwd", "member-0.txt/../../x.txt", "member-0.txt\n", "bundle.json", "", "C:x")
    for place in outside:
        forged = {**members, "boosted": {**members["boosted"], "file": place}}
        with pytest.raises(DataError, match="no member's file"):
            read_model("composite", manifest(files, members=forged), fetch=fetch)
    assert not set(asked) & set(outside)
    exchanged = {**members, "boosted": {**members["boosted"], "sha256": "0" * 64}}
    with pytest.raises(DataError, match="of this hash"):
        read_model("composite", manifest(files, members=exchanged), fetch=fetch)


@pytest.mark.parametrize(
    "change",
    [
        {"manifest": 2},
        {"width": WIDTH + 1},
        {"width": "wide"},
        {"members": {}},
        {"members": {f"m{number}": {} for number in range(65)}},
        {"members": ["boosted"]},
        {"plan": {"kind": "stacking"}},
        {"plan": {"kind": "pickle", "members": ["boosted", "bagged", "line"]}},
        {"plan": None},
    ],
)
def test_a_forged_manifest_is_refused(written: dict[str, ModelFile], change: dict[str, Any]) -> None:
    files = written["stacking"]
    with pytest.raises(DataError):
        read_model("composite", manifest(files, **change), fetch=files.fetch)


def test_an_ensemble_within_itself_ends(written: dict[str, ModelFile]) -> None:
    files = written["hybrid"]
    entry = {**json.loads(files.content)["members"]["vote"], "file": "member-0.json"}
    endless = manifest(files, members={"vote": entry})
    with pytest.raises(DataError, match="more than 3 deep"):
        read_model("composite", endless, fetch=lambda name, sha256: endless)


@given(data=st.data())
@settings(max_examples=120, deadline=None, derandomize=True)
@pytest.mark.parametrize("name", ["xgboost", "random_forest", "logistic", "ridge", "stacking"])
def test_a_file_changed_at_random_is_refused_or_still_a_model(
    written: dict[str, ModelFile], name: str, data: st.DataObject
) -> None:
    files = written[name]
    changed = bytearray(files.content)
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(changed) - 1))
        changed[place] = data.draw(st.integers(0, 255))
    try:
        model = read_model(files.format, bytes(changed), fetch=files.fetch)
    except DataError:
        return
    said = model.raw_probability(np.zeros((2, model.width), dtype=np.float32))
    assert ((said >= 0) & (said <= 1)).all()


@given(data=st.data())
@settings(max_examples=150, deadline=None, derandomize=True)
def test_a_part_of_a_forest_changed_at_random_is_refused_or_still_a_model(
    written: dict[str, ModelFile], data: st.DataObject
) -> None:
    with zipfile.ZipFile(io.BytesIO(written["extra_trees"].content)) as source:
        parts = {name: source.read(name) for name in source.namelist()}
    name = data.draw(st.sampled_from(sorted(parts)))
    changed = bytearray(parts[name])
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(changed) - 1))
        changed[place] = data.draw(st.sampled_from(b"0123456789-.,()[]{}'\"e: ") | st.integers(0, 255))
    try:
        model = read_forest(packed({**parts, name: bytes(changed)}))
    except DataError:
        return
    said = model.raw_probability(np.zeros((2, model.width), dtype=np.float32))
    assert ((said >= 0) & (said <= 1 + 1e-9)).all()
