"""Scoring: the stored model says what the trained one said, on the features it was trained on and no others."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from tapeline.core.errors import ConfigurationError, DataError, VersionMismatchError
from tapeline.core.schemas import SCORES
from tapeline.core.settings import Settings
from tapeline.evaluation.result import TrainingResult
from tapeline.models.bundle import Bundle
from tapeline.models.registry import Registry
from tapeline.models.scoring import Scorer, load_challenger, load_scorer
from tests.models.synthetic import make_parts

Trained = tuple[Settings, TrainingResult]


@pytest.fixture
def scorer(trained: Trained) -> Scorer:
    return load_scorer(trained[0], "direction-H1")


@pytest.fixture
def features() -> pd.DataFrame:
    return make_parts(2400, signal=0.6)[0]


def test_the_loaded_champion_gives_the_probabilities_of_the_holdout(
    scorer: Scorer, features: pd.DataFrame, trained: Trained
) -> None:
    holdout = trained[1].holdout.set_index("ts")
    scores = scorer.score(features.loc[holdout.index], feature_set_version="test@1")
    np.testing.assert_array_equal(scores["probability"], holdout["probability"])
    np.testing.assert_array_equal(scores["side"], holdout["side"])
    assert (holdout["t0"] > scorer.trained_until).all()


def test_scores_fit_the_table_and_carry_their_versions(scorer: Scorer, features: pd.DataFrame) -> None:
    scores = scorer.score(features.iloc[-20:])
    table = SCORES.to_arrow(scores.assign(scored_at=pd.Timestamp("2018-01-01", tz="UTC").as_unit("ns")))
    assert table.num_rows == 20
    first = scores.iloc[0]
    assert (first["model"], first["model_version"]) == ("direction-H1", "1")
    assert (first["feature_set_version"], first["label_version"], first["data_version"]) == (
        "test@1",
        "next_bar@1",
        "d1",
    )
    assert list(scores["known_at"]) == list(features["known_at"].iloc[-20:])
    np.testing.assert_array_equal(scores["confidence"], np.maximum(scores["probability"], 1 - scores["probability"]))
    np.testing.assert_array_equal(scores["side"], np.sign(scores["probability"] - 0.5))


def test_one_row_scores_as_it_does_among_others_in_any_column_order(scorer: Scorer, features: pd.DataFrame) -> None:
    whole = scorer.score(features.iloc[-50:])
    alone = scorer.score(features.iloc[[-7]][features.columns[::-1]])
    pd.testing.assert_series_equal(alone.iloc[0], whole.iloc[-7])


def test_rows_in_warm_up_have_no_score_and_single_gaps_do(scorer: Scorer, features: pd.DataFrame) -> None:
    rows = features.iloc[-5:].copy()
    rows.iloc[0, 1:] = np.nan
    rows.iloc[1, 1] = np.nan
    scores = scorer.score(rows)
    assert list(scores.index) == list(rows.index[1:])
    assert scores["probability"].notna().all()
    assert scorer.score(rows.iloc[:1]).empty
    assert (
        SCORES.to_arrow(scorer.score(rows.iloc[:0]).assign(scored_at=pd.Series([], dtype="datetime64[ns, UTC]")))
        is not None
    )


def test_other_features_are_refused_with_both_versions_and_what_to_do(scorer: Scorer, features: pd.DataFrame) -> None:
    for refuse in (
        lambda: scorer.require_feature_set("test@2"),
        lambda: scorer.score(features, feature_set_version="test@2"),
    ):
        with pytest.raises(VersionMismatchError, match=r"features test@1, these are test@2 \(train again"):
            refuse()
    scorer.require_feature_set("test@1")
    for different in (features.drop(columns="f3"), features.assign(g1=0.0), features.rename(columns={"f0": "F0"})):
        with pytest.raises(VersionMismatchError, match=r"test@1; the columns \["):
            scorer.score(different)


def test_features_that_are_no_numbers_are_refused(scorer: Scorer, features: pd.DataFrame) -> None:
    with pytest.raises(DataError, match="'f2' of direction-H1 is infinite"):
        scorer.score(features.assign(f2=np.float32(np.inf)))
    with pytest.raises(DataError, match="known_at"):
        scorer.score(features.drop(columns="known_at"))


def test_a_model_that_is_not_there_is_named_with_what_to_do(settings: Settings) -> None:
    with pytest.raises(ConfigurationError, match="'direction-H4' has no champion"):
        load_scorer(settings, "direction-H4")


def test_a_version_can_be_asked_for_by_number(trained: Trained) -> None:
    assert load_scorer(trained[0], "direction-H1", alias="1").version == "1"
    with pytest.raises(ConfigurationError, match="has no challenger"):
        load_scorer(trained[0], "direction-H1", alias="challenger")


def test_the_challenger_is_loaded_where_there_is_one(trained: Trained) -> None:
    assert load_challenger(trained[0], "direction-H1") is None
    Registry.open(trained[0])._client.set_registered_model_alias("direction-H1", "challenger", "1")
    try:
        found = load_challenger(trained[0], "direction-H1")
        assert found is not None
        assert (found.name, found.version) == ("direction-H1", "1")
    finally:
        Registry.open(trained[0])._client.delete_registered_model_alias("direction-H1", "challenger")


def test_a_bundle_is_the_same_after_a_trip_through_json(scorer: Scorer) -> None:
    bundle = scorer.model.bundle
    assert Bundle.from_bytes(bundle.to_bytes()) == bundle
    assert bundle.label == {"h": 1}


@pytest.mark.parametrize(
    "change",
    [
        {"format": 2},
        {"columns": None},
        {"kept": [99]},
        {"kept": []},
        {"kept": [-1]},
        {"calibration": {"kind": "pickle"}},
        {"versions": {"feature_set": "a"}},
        {"trained_until": "not a time"},
        {"trained_until": "2017-01-01"},
        {"threshold": "high"},
    ],
)
def test_a_forged_bundle_is_refused(scorer: Scorer, change: dict[str, object]) -> None:
    content = {**json.loads(scorer.model.bundle.to_bytes()), **change}
    with pytest.raises(DataError):
        Bundle.from_bytes(json.dumps(content).encode())


@pytest.mark.parametrize("text", [b"", b"[]", b"null", b"\xff\xfe", b'{"format": 1}'])
def test_what_is_no_bundle_is_refused(text: bytes) -> None:
    with pytest.raises(DataError, match="not a model bundle"):
        Bundle.from_bytes(text)
