"""Several processes on one study, and kills that come at a known instant: when a fold is told of."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tapeline.core.errors import ConfigurationError, DataError, TemporaryError
from tapeline.core.settings import CostSettings, TrainingSettings
from tapeline.models.dataset import Dataset
from tapeline.models.search import ORIGIN, plan_of, slot_of
from tapeline.models.study_storage import check_storage, drop_half_line, open_study
from tapeline.models.trial import TrialRecord
from tapeline.models.tuning import Tuning, tune
from tapeline.models.tuning_worker import read_rows, write_rows
from tapeline.models.validation import PurgedKFold
from tests.models.synthetic import make_dataset

TRAINING = TrainingSettings(family="logistic", trials=5, folds=3, threads=1)


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return make_dataset(600, signal=0.5, columns=4)


def search(dataset: Dataset, folder: Path, training: TrainingSettings = TRAINING, **options: object) -> Tuning:
    folds = list(PurgedKFold(dataset.t0, dataset.t_end, folds=3).split(dataset.X))
    return tune(dataset, folds, study="pool", folder=folder, training=training, **options)  # type: ignore[arg-type]


def optuna_trials(folder: Path) -> list:
    return open_study("pool", journal=next(folder.glob("*.journal")), url=None).get_trials()


def test_a_killed_worker_loses_its_trial_and_another_repeats_it(dataset: Dataset, tmp_path: Path) -> None:
    killed: list[tuple[int, dict]] = []
    told: list[TrialRecord] = []

    def kill(text: str) -> None:
        found = re.match(r"tune: trial (\d+) of 5, fold 2 of 3", text)
        if found and int(found[1]) >= 3 and not killed:
            # The worker holds still until this returns, so it is in the middle of the trial it tells of.
            slot = int(found[1]) - 1
            (running,) = [t for t in optuna_trials(tmp_path) if slot_of(t) == slot and t.state.name == "RUNNING"]
            os.kill(int(running.user_attrs[ORIGIN]["owner"].split(":")[1]), signal.SIGKILL)
            killed.append((slot, running.user_attrs[ORIGIN]["parameters"]))

    training = TRAINING.model_copy(update={"processes": 2})
    found = search(dataset, tmp_path, training, progress=kill, on_trial=told.append)
    slot, parameters = killed[0]
    trials = optuna_trials(tmp_path)
    assert [t.state.name for t in trials].count("FAIL") == 1
    assert [slot_of(t) for t in trials if t.state.name == "FAIL"] == [slot]
    assert list(found.trials["number"]) == [0, 1, 2, 3, 4]  # the budget exactly, over all processes
    assert found.trials.set_index("number").loc[slot, "C"] == parameters["C"]
    assert sorted(record.slot for record in told) == [0, 1, 2, 3, 4]
    owners = {t.user_attrs[ORIGIN]["owner"] for t in trials}
    assert len(owners) >= 2
    assert not list(tmp_path.glob("*.rows"))
    # Whatever the processes, a trial's parameters decide its value: one process finds the same for the same draw.
    alone = search(dataset, tmp_path / "alone", TRAINING.model_copy(update={"trials": 1}))
    assert alone.trials["log_loss"][0] == found.trials["log_loss"][0]


SCRIPT = """
import os, signal, sys
from pathlib import Path
from tests.models.test_tuning_pool import TRAINING, make_dataset, search

def kill(text):
    if text.startswith("tune: trial 3 of 5, fold 2"):
        os.kill(os.getpid(), signal.SIGKILL)

search(make_dataset(600, signal=0.5, columns=4), Path(sys.argv[1]), progress=kill)
"""


def test_a_search_killed_as_a_whole_keeps_what_was_finished(dataset: Dataset, tmp_path: Path) -> None:
    ended = subprocess.run([sys.executable, "-c", SCRIPT, str(tmp_path)], cwd=Path(__file__).parents[2], check=False)
    assert ended.returncode == -signal.SIGKILL
    before = optuna_trials(tmp_path)
    assert [t.state.name for t in before] == ["COMPLETE", "COMPLETE", "RUNNING"]
    told: list[TrialRecord] = []
    resumed = search(dataset, tmp_path, on_trial=told.append)
    assert resumed.resumed == 2
    after = optuna_trials(tmp_path)
    assert [(t.number, t.value) for t in after[:2]] == [(t.number, t.value) for t in before[:2]]
    assert after[2].state.name == "FAIL"
    assert after[3].user_attrs[ORIGIN]["parameters"] == after[2].user_attrs[ORIGIN]["parameters"]
    assert list(resumed.trials["number"]) == [0, 1, 2, 3, 4]
    assert [record.slot for record in told] == [0, 1, 2, 3, 4]  # those of the killed run are told again
    whole = search(dataset, tmp_path / "whole")
    pd.testing.assert_frame_equal(resumed.trials, whole.trials)
    pd.testing.assert_frame_equal(resumed.returns, whole.returns)


def test_a_search_whose_workers_keep_dying_ends_and_can_be_resumed(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tapeline.models import tuning_pool

    with monkeypatch.context() as broken:
        broken.setattr(tuning_pool.sys, "executable", "false")
        with pytest.raises(TemporaryError, match="3 tuning processes died, the last with status 1") as caught:
            search(dataset, tmp_path, TRAINING.model_copy(update={"processes": 2}))
    assert "finished trials are kept" in str(caught.value.hint)
    assert not list(tmp_path.glob("*.rows"))
    assert len(search(dataset, tmp_path, TRAINING.model_copy(update={"trials": 2})).trials) == 2


def test_errors_cross_the_pipe_as_what_they_are() -> None:
    from tapeline.core.errors import MissingExtraError, TapelineError
    from tapeline.models.tuning_pool import _error

    for error in (MissingExtraError("xgboost", "xgboost"), DataError("a", hint="b")):
        again = _error(**{"class": type(error).__name__, "message": error.message, "hint": error.hint})
        assert (type(again), str(again)) == (type(error), str(error))
    assert type(_error(**{"class": "os", "message": "a", "hint": None})) is TapelineError


def test_an_error_in_a_worker_is_the_callers(dataset: Dataset, tmp_path: Path) -> None:
    from dataclasses import replace

    weight = dataset.weight.copy()
    weight[400:] = 0.0
    with pytest.raises(DataError, match="log loss of logistic on fold 2") as caught:
        search(replace(dataset, weight=weight), tmp_path, TRAINING.model_copy(update={"processes": 2}))
    assert "weights" in str(caught.value.hint)


def test_sqlite_is_refused_for_several_processes_and_serves_one(dataset: Dataset, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/secret-study.db"
    one = TrainingSettings(family="logistic", trials=2, folds=3, threads=1, storage=url)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="one writer") as caught:
        search(dataset, tmp_path, one.model_copy(update={"processes": 2}))
    assert "journal" in str(caught.value.hint)
    found = search(dataset, tmp_path / "a", one)
    assert (tmp_path / "secret-study.db").exists()
    assert not list((tmp_path / "a").glob("*.journal"))
    again = search(dataset, tmp_path / "a", one.model_copy(update={"trials": 3}))
    assert (again.resumed, len(again.trials)) == (2, 3)
    assert again.trials["log_loss"][0] == found.trials["log_loss"][0]
    journal = search(dataset, tmp_path / "b", TRAINING.model_copy(update={"trials": 3}))
    pd.testing.assert_frame_equal(journal.trials, again.trials)  # where trials are kept decides nothing


def test_a_database_that_cannot_be_opened_is_named_without_its_password(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as caught:
        open_study("s", journal=tmp_path / "j", url="sqlite:////nowhere/hunter2/x.db")
    assert "hunter2" not in str(caught.value)
    with pytest.raises(ConfigurationError) as caught:
        open_study("s", journal=tmp_path / "j", url="nonsense+driver://user:hunter2@host/x")
    assert "hunter2" not in str(caught.value)
    check_storage("postgresql://host/x", 8)


def test_only_half_lines_are_dropped(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    for content, kept in [(b"", b""), (b"a\nb\n", b"a\nb\n"), (b"a\nb", b"a\n"), (b"half", b"")]:
        path.write_bytes(content)
        drop_half_line(path)
        assert path.read_bytes() == kept


def test_rows_laid_down_are_read_back_to_the_bit(dataset: Dataset, tmp_path: Path) -> None:
    folds = [(np.array([0, 1]), np.array([2])), (np.array([2]), np.array([0]))]
    write_rows(tmp_path, dataset, folds)
    again, rows = read_rows(tmp_path)
    assert again.digest == dataset.digest
    assert [[part.tolist() for part in pair] for pair in rows] == [[[0, 1], [2]], [[2], [0]]]


def test_a_grid_is_searched_exhaustively_whatever_the_budget(dataset: Dataset, tmp_path: Path) -> None:
    from tapeline.models.zoo import family

    grid = TRAINING.model_copy(update={"search": "grid", "trials": 1})
    found = search(dataset, tmp_path, grid)
    assert sorted(found.trials["C"]) == sorted(family("logistic").grid["C"])
    assert found.parameters["C"] in family("logistic").grid["C"]
    assert search(dataset, tmp_path, grid).resumed == 3
    with pytest.raises(ConfigurationError, match="at least one family"):
        plan_of([], trials=3, seed=0)


def test_a_search_over_families_gives_each_a_trial_and_the_best_the_rest(dataset: Dataset, tmp_path: Path) -> None:
    plan = plan_of(["majority", "logistic", "ridge"], trials=6, seed=7)
    found = search(dataset, tmp_path, TRAINING.model_copy(update={"trials": 6}), plan=plan)
    families = list(found.trials["family"])
    assert families[:3] == ["majority", "logistic", "ridge"]
    best = found.trials.iloc[1:3].set_index("family")["log_loss"].astype(float).idxmin()
    assert families[3] == best
    assert "majority" not in families[3:]
    assert found.family in ("logistic", "ridge")
    # The plan of a study is kept: what was learnt since may not change its course.
    other = search(
        dataset, tmp_path, TRAINING.model_copy(update={"trials": 6}), plan=plan_of(["ridge"], trials=6, seed=7)
    )
    assert (other.resumed, other.family) == (6, found.family)


def test_the_returns_of_complete_trials_are_those_of_their_trades(dataset: Dataset, tmp_path: Path) -> None:
    from tapeline.evaluation.metrics import sharpe_ratio
    from tapeline.models.trial import FoldModels, out_of_fold_trades

    found = search(dataset, tmp_path, TRAINING.model_copy(update={"trials": 1}))
    folds = list(PurgedKFold(dataset.t0, dataset.t_end, folds=3).split(dataset.X))
    predicted = FoldModels(dataset, folds, TRAINING).out_of_fold(found.family, found.parameters)
    trades = out_of_fold_trades(dataset, predicted, CostSettings())
    assert found.returns["trial_0"].sum() == pytest.approx(trades["net"].sum(), rel=1e-4)
    by_day = trades.groupby(trades["t_end"].dt.floor("D"))["net"].sum()
    assert found.returns["trial_0"].reindex(by_day.index).to_numpy() == pytest.approx(by_day.to_numpy(), abs=1e-6)
    assert found.trials["sharpe"][0] == sharpe_ratio(trades["net"])
    assert found.trials["trades"][0] == len(trades)
