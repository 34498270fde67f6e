"""Drift detectors: change points that were planted, the past alone, and the table of the page."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import spearmanr
from sklearn.metrics import roc_auc_score

from benchmarks.detectors import TRIALS, detectors_of, measure, measure_marked
from tapeline.core.errors import ConfigurationError, DataError
from tapeline.quality.concept_drift import METHODS, DriftDetector, find_changes, split_point
from tapeline.quality.relation import RankRelation, block_relation, errors, losses, residual_signs

PAGE = Path(__file__).parents[2] / "docs" / "drift.md"


def stream(seed: int = 5, rows: int = 900) -> np.ndarray:
    return (np.random.default_rng(seed).random(rows) < np.where(np.arange(rows) < 450, 0.2, 0.7)).astype(float)


@pytest.mark.parametrize("name", METHODS)
def test_a_planted_change_is_told_where_it_was_and_what_it_was(name):
    detector = DriftDetector(name)
    found = find_changes(stream(), detector)
    assert len(found) == 1
    told = found.iloc[0]
    assert 450 < told["position"] < 650
    assert abs(told["since"] - 450) < 40
    assert told["before"] == pytest.approx(0.2, abs=0.06)
    assert told["after"] == pytest.approx(0.7, abs=0.15)
    assert told["rows_before"] + told["rows_after"] == told["position"] + 1
    pd.testing.assert_frame_equal(found, find_changes(stream(), detector))


@pytest.mark.parametrize("name", METHODS)
def test_an_alarm_depends_on_nothing_that_came_after_it(name):
    values = stream()
    whole = find_changes(values, DriftDetector(name))
    cut = int(whole["position"].iloc[0]) + 1
    other = np.r_[values[:cut], 1 - values[cut:]]
    pd.testing.assert_frame_equal(find_changes(values[:cut], DriftDetector(name)), whole)
    assert find_changes(other, DriftDetector(name)).iloc[0].to_dict() == whole.iloc[0].to_dict()


def test_a_scaled_detector_does_not_depend_on_the_unit():
    values = np.r_[np.random.default_rng(1).normal(size=400), np.random.default_rng(2).normal(2, 1, 200)]
    for name in ("adwin", "page_hinkley"):
        one = find_changes(values, DriftDetector(name))
        other = find_changes(values * 1024 + 4096, DriftDetector(name))
        assert len(one) == 1
        assert one["position"].tolist() == other["position"].tolist()


def test_states_say_where_a_detector_stands():
    detector = DriftDetector("ddm")
    states = [detector.update(x) for x in stream()]
    assert states.count("drift") == 1
    assert "warning" in states[450 : states.index("drift")]
    assert [DriftDetector("adwin").update(1.0)] == ["warming"]


def test_wrong_values_and_names_are_refused():
    with pytest.raises(ConfigurationError, match="adwin, page_hinkley"):
        DriftDetector("adwen")
    for name, value in (("ddm", 0.5), ("hddm_a", 1.5), ("adwin", float("nan"))):
        with pytest.raises(DataError):
            DriftDetector(name).update(value)


def test_the_split_is_the_one_of_least_squares():
    values = np.random.default_rng(8).normal(size=40) + (np.arange(40) >= 27) * 1.5
    costs = [values[:k].var() * k + values[k:].var() * (40 - k) for k in range(1, 40)]
    assert split_point(values) == 1 + int(np.argmin(costs))


def test_relations_are_those_of_scipy_and_sklearn():
    generator = np.random.default_rng(9)
    feature = generator.normal(size=305)
    target = feature + generator.normal(size=305)
    feature[3] = np.nan
    held = np.isfinite(feature)
    assert RankRelation(feature, target).stream(feature, target).mean() == pytest.approx(
        spearmanr(feature[held], target[held]).statistic, abs=0.01
    )
    blocks = block_relation(feature, target, block=100)
    assert blocks["position"].tolist() == [100, 200, 300]
    first = np.arange(101)[held[:101]]
    assert blocks["value"].iloc[0] == pytest.approx(spearmanr(feature[first], target[first]).statistic)
    areas = block_relation(feature, target, block=100, measure="auc")
    assert areas["value"].iloc[0] == pytest.approx(roc_auc_score(target[first] > 0, feature[first]))
    one_kind = block_relation(feature, np.abs(target), block=100, measure="auc")
    assert one_kind["value"].isna().all()
    with pytest.raises(ConfigurationError):
        block_relation(feature, target, block=3)


def test_streams_of_a_model_are_what_they_say():
    assert errors([1, -1, 1, 0], [1, 1, -1, 1]).tolist() == [0, 1, 1]
    assert losses([0.25, 0.75], [1, 1]).tolist() == [0.5625, 0.0625]
    assert residual_signs([0, 0, 0], [1, -1, np.nan]).tolist() == [1, 0]
    with pytest.raises(DataError):
        losses([1.5], [1])


def test_a_feature_that_turns_round_is_told_while_its_distribution_stays():
    turned = next(trial for trial in TRIALS if trial.name.startswith("relation"))
    values = turned.draw(np.random.default_rng(0), True)
    found = find_changes(values, DriftDetector("page_hinkley"))
    assert len(found) == 1
    assert found["before"].iloc[0] > 0.15 > -0.15 > found["after"].iloc[0]


def page_rows() -> dict[tuple[str, str], list[str]]:
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in PAGE.read_text().splitlines()
        if re.match(r"\| [^|-]", line)
    ]
    return {(row[0], row[1]): row for row in rows if len(row) > 2}


@pytest.mark.parametrize("trial", TRIALS, ids=lambda trial: trial.name)
def test_the_page_says_what_a_run_gives(trial):
    # Drawing and testing 100 values at each step, kswin takes minutes: the page's figures of it stand as printed.
    for name in detectors_of(trial):
        if name in ("adwin", "ddm", "page_hinkley"):
            assert page_rows()[(trial.name, name)] == [str(value) for value in measure(trial, name).values()]


def test_the_page_says_what_rivers_data_sets_give():
    for name in ("adwin", "page_hinkley"):
        for row in measure_marked(name):
            assert page_rows()[(row["series"], name)] == [str(value) for value in row.values()]
