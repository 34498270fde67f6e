"""What a training said out of sample is kept with its run, read back as it was, and refused where it was changed."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from tapeline.core.errors import ConfigurationError, DataError
from tapeline.core.settings import Settings
from tapeline.evaluation.metrics import auc, log_loss
from tapeline.evaluation.result import TrainingResult
from tapeline.models.registry import Registry
from tapeline.models.tracking import open_tracking
from tapeline.models.training_history import last_training
from tapeline.models.training_scores import FILE, read_training_scores, training_scores
from tests.models.synthetic import VERSIONS, make_dataset

Trained = tuple[Settings, TrainingResult]


def test_they_come_back_as_the_holdout_and_the_folds_were(trained: Trained) -> None:
    settings, result = trained
    tracking = open_tracking(settings)
    registered = Registry.open(settings, tracking).find(result.name)
    assert registered is not None
    rows = read_training_scores(tracking, registered)
    assert rows is not None
    assert set(rows["model_version"]) == {result.model_version}
    holdout = rows[rows["origin"] == "holdout"].set_index("ts")
    expected = result.holdout.set_index("ts")
    np.testing.assert_array_equal(holdout["probability"], expected["probability"])
    np.testing.assert_array_equal(holdout["t_end"], expected["t_end"])
    folds = rows[rows["origin"] == "out_of_fold"]
    assert len(folds) == result.rows["development"]
    assert folds["t_end"].max() <= holdout["known_at"].min()
    # Calibrated, and by models that did not see the row: as good as the holdout, not better.
    assert abs(auc(folds["y"], folds["probability"]) - auc(holdout["y"], holdout["probability"])) < 0.08
    assert log_loss(folds["y"], folds["probability"]) < log_loss(folds["y"], np.full(len(folds), folds["y"].mean()))


def test_the_last_training_is_known_by_its_versions_and_its_newest_outcome(trained: Trained) -> None:
    settings, result = trained
    tracking = open_tracking(settings)
    last = last_training(tracking, result.name)
    assert last is not None
    assert (last.model_version, last.versions) == (result.model_version, VERSIONS)
    assert last.known_until == result.holdout["t_end"].max()
    assert abs(last.at - pd.Timestamp.now("UTC")) < pd.Timedelta("1D")
    assert last_training(tracking, "another") is None
    with pytest.raises(ConfigurationError, match="not valid"):
        last_training(tracking, "x' or '1' = '1")


def test_a_changed_or_absent_file_is_refused_and_an_old_training_has_none(trained: Trained, tmp_path: Path) -> None:
    settings, result = trained
    tracking = open_tracking(settings)
    registered = Registry.open(settings, tracking).find(result.name)
    assert registered is not None
    run = tracking.client.get_run(result.run_id)
    copy = tmp_path / FILE
    shutil.copy(tracking.client.download_artifacts(result.run_id, FILE), copy)

    def store(tags: dict[str, str]) -> SimpleNamespace:
        client = SimpleNamespace(
            get_run=lambda _: SimpleNamespace(data=SimpleNamespace(tags=tags)),
            download_artifacts=lambda *_: str(copy),
        )
        return SimpleNamespace(client=client)

    assert read_training_scores(store(run.data.tags), registered) is not None  # type: ignore[arg-type]
    assert read_training_scores(store({}), registered) is None  # type: ignore[arg-type]
    content = bytearray(copy.read_bytes())
    content[len(content) // 2] ^= 1
    copy.write_bytes(bytes(content))
    with pytest.raises(DataError, match="were changed"):
        read_training_scores(store(run.data.tags), registered)  # type: ignore[arg-type]
    copy.unlink()
    with pytest.raises(DataError, match="are gone"):
        read_training_scores(store(run.data.tags), registered)  # type: ignore[arg-type]


def test_a_row_that_no_fold_scored_is_left_out() -> None:
    dataset = make_dataset(60)
    said = np.full(40, 0.5)
    said[3] = np.nan
    holdout = dataset.take(np.arange(40, 60)).frame.assign(probability=0.6)
    rows = training_scores(dataset.take(np.arange(40)), said, holdout)
    assert rows["origin"].value_counts().to_dict() == {"out_of_fold": 39, "holdout": 20}
    assert rows["t_end"].is_monotonic_increasing
