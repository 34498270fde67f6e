"""The search: bounded, the same for the same seed, and the same again after it was killed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tapeline.core.errors import ConfigurationError, DataError, TemporaryError
from tapeline.core.settings import TrainingSettings
from tapeline.models.dataset import Dataset
from tapeline.models.tuning import Tuning, study_name, tune
from tapeline.models.validation import PurgedKFold
from tests.models.synthetic import make_dataset

TRAINING = TrainingSettings(trials=6, folds=3, threads=1)


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return make_dataset(900, signal=0.5, columns=5)


def search(dataset: Dataset, folder: Path, training: TrainingSettings = TRAINING, **options: object) -> Tuning:
    splitter = PurgedKFold(dataset.t0, dataset.t_end, folds=training.folds, embargo=training.embargo)
    name = study_name("direction", dataset, {"data": "d1"}, training)
    folds = list(splitter.split(dataset.X))
    return tune(dataset, folds, study=name, folder=folder, training=training, **options)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def whole(dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Tuning:
    return search(dataset, tmp_path_factory.mktemp("whole"))


def test_the_best_completed_trial_wins_and_the_number_is_bounded(whole: Tuning) -> None:
    assert len(whole.trials) == TRAINING.trials
    completed = whole.trials[whole.trials["state"] == "complete"]
    assert whole.value == completed["log_loss"].min()
    assert whole.value < np.log(2) - 0.02  # there is a signal, and it was found
    best = completed.loc[completed["log_loss"].idxmin()]
    assert {key: best[key] for key in whole.parameters} == whole.parameters
    assert set(whole.trials["folds"][whole.trials["state"] == "complete"]) == {3}
    assert completed["sharpe"].max() > 0.1


def test_bad_trials_are_pruned_before_their_last_fold(dataset: Dataset, tmp_path: Path) -> None:
    found = search(dataset, tmp_path, TRAINING.model_copy(update={"trials": 14}))
    pruned = found.trials[found.trials["state"] == "pruned"]
    assert len(pruned) > 0
    assert (pruned["folds"] < 3).all()
    assert pruned["sharpe"].isna().all()
    # The median rule may never throw away what was to be the best.
    assert found.value <= pruned["log_loss"].min() + 0.05


class Killed(BaseException):
    """Stands for a signal: nothing in the library may catch it."""


@pytest.mark.parametrize("after", [1, 2, 7, 13])
def test_a_killed_search_resumes_and_finds_what_an_uninterrupted_one_finds(
    dataset: Dataset, whole: Tuning, tmp_path: Path, after: int
) -> None:
    messages: list[str] = []

    def kill(message: str) -> None:
        messages.append(message)
        if len(messages) == after:
            raise Killed

    with pytest.raises(Killed):
        search(dataset, tmp_path, progress=kill)
    journal = next(tmp_path.glob("*.journal"))
    with journal.open("ab") as file:
        file.write(b'{"op_code": 8, "worker')  # killed while it wrote a line
    Path(f"{journal}.lock").symlink_to(journal)  # and while it held Optuna's lock
    resumed = search(dataset, tmp_path)
    assert resumed.parameters == whole.parameters
    assert resumed.value == whole.value
    columns = [name for name in whole.trials.columns if name != "number"]
    pd.testing.assert_frame_equal(resumed.trials[columns], whole.trials[columns])
    done_before = sum("fold 3 of 3" in m or "pruned" in m for m in messages[:-1])
    assert resumed.resumed == done_before


def test_a_finished_search_is_not_run_again_and_a_larger_one_continues_it(dataset: Dataset, tmp_path: Path) -> None:
    first = search(dataset, tmp_path, TRAINING.model_copy(update={"trials": 3}))
    calls: list[str] = []
    again = search(dataset, tmp_path, TRAINING.model_copy(update={"trials": 3}), progress=calls.append)
    assert (again.resumed, calls) == (3, [])
    assert again.parameters == first.parameters
    more = search(dataset, tmp_path, TRAINING.model_copy(update={"trials": 5}))
    assert (more.resumed, len(more.trials)) == (3, 5)


def test_the_study_is_another_one_for_other_data_versions_or_settings(dataset: Dataset) -> None:
    def name(**change: object) -> str:
        given: dict[str, object] = {"name": "m", "dataset": dataset, "versions": {"data": "1"}, "training": TRAINING}
        return study_name(**{**given, **change})  # type: ignore[arg-type]

    changed = make_dataset(900, signal=0.5, columns=5)
    changed.X[3, 3] += 1e-3
    names = [
        name(),
        name(dataset=changed),
        name(versions={"data": "2"}),
        name(training=TRAINING.model_copy(update={"seed": 8})),
        name(training=TRAINING.model_copy(update={"folds": 4})),
        name(name="n"),
    ]
    assert len(set(names)) == len(names)
    assert name(training=TRAINING.model_copy(update={"trials": 50})) == names[0]


def test_two_processes_do_not_run_one_study(dataset: Dataset, tmp_path: Path) -> None:
    def second(_: str) -> None:
        with pytest.raises(TemporaryError, match="another process"):
            search(dataset, tmp_path)
        raise Killed

    with pytest.raises(Killed):
        search(dataset, tmp_path, progress=second)


def test_one_class_is_refused(dataset: Dataset, tmp_path: Path) -> None:
    rising = dataset.take(np.flatnonzero(dataset.y == 1))
    with pytest.raises(DataError, match="same label"):
        search(rising, tmp_path)


@pytest.mark.parametrize("name", ["", "../x", "a/b", "a'b", "a b", "x" * 200])
def test_a_name_that_could_leave_a_folder_or_a_filter_is_refused(dataset: Dataset, name: str) -> None:
    with pytest.raises(ConfigurationError, match="model name"):
        study_name(name, dataset, {}, TRAINING)
