"""Every trial in MLflow, once, whatever was killed in between; and what the ledger makes of them."""

from __future__ import annotations

import math

import pytest

from tapeline.core.errors import ConfigurationError
from tapeline.core.settings import Settings
from tapeline.models.ledger import MODEL_TAG, STUDY_TAG, read_ledger, record_fits, record_look
from tapeline.models.tracking import PARENT_TAG, Tracking, open_tracking
from tapeline.models.trial import TrialRecord
from tapeline.models.trial_log import FAMILY_TAG, SLOT_TAG, STATE_TAG, TrialLog


def record(slot: int, *, state: str = "complete", value: float = 0.69) -> TrialRecord:
    losses = (0.68, 0.69, 0.70) if state == "complete" else (0.75, 0.76)
    sharpe, trades = (0.1, 40) if state == "complete" else (math.nan, 0)
    return TrialRecord(slot, "ridge", {"penalty": 0.5}, state, value, losses, sharpe, trades, 1.5)


@pytest.fixture
def tracking(settings: Settings) -> Tracking:
    return open_tracking(settings)


def children(tracking: Tracking, parent: str) -> list:
    return tracking.client.search_runs(
        [tracking.experiment_id], filter_string=f"tags.`{PARENT_TAG}` = '{parent}'", order_by=["attributes.start_time"]
    )


def test_each_trial_is_a_finished_run_below_its_training_with_everything_in_it(tracking: Tracking) -> None:
    with tracking.run("m", {MODEL_TAG: "m"}) as parent, TrialLog(tracking, parent, "m-1") as log:
        log(record(0))
        log(record(1, state="pruned", value=0.755))
    complete, pruned = sorted(children(tracking, parent), key=lambda run: run.data.tags[SLOT_TAG])
    assert {run.info.status for run in (complete, pruned)} == {"FINISHED"}
    assert complete.data.params == {"penalty": "0.5"}
    assert complete.data.metrics["log_loss"] == 0.69
    assert complete.data.metrics["trades"] == 40
    assert complete.data.tags[FAMILY_TAG] == "ridge"
    assert complete.data.tags[STUDY_TAG] == "m-1"
    assert [run.data.tags[STATE_TAG] for run in (complete, pruned)] == ["complete", "pruned"]
    history = tracking.client.get_metric_history(complete.info.run_id, "fold_log_loss")
    assert [(one.step, one.value) for one in sorted(history, key=lambda one: one.step)] == [
        (0, 0.68),
        (1, 0.69),
        (2, 0.70),
    ]
    assert len(tracking.client.get_metric_history(pruned.info.run_id, "fold_log_loss")) == 2
    assert "sharpe" not in pruned.data.metrics  # unknown is left out, not 0


def test_a_trial_is_written_in_one_batch(tracking: Tracking, monkeypatch: pytest.MonkeyPatch) -> None:
    with tracking.run("m", {MODEL_TAG: "m"}) as parent:
        batches: list[str] = []
        original = type(tracking.client).log_batch

        def counted(client, run_id: str, **parts) -> None:
            batches.append(run_id)
            original(client, run_id, **parts)

        monkeypatch.setattr(type(tracking.client), "log_batch", counted)
        with TrialLog(tracking, parent, "m-1") as log:
            log(record(0))
    (child,) = children(tracking, parent)
    assert batches.count(child.info.run_id) == 1
    assert batches.count(parent) == 1  # the ledger's count


def test_what_an_earlier_run_wrote_is_not_repeated_and_what_it_could_not_is_added(tracking: Tracking) -> None:
    first = tracking.client.create_run(tracking.experiment_id, tags={MODEL_TAG: "m"}).info.run_id  # killed: never ends
    with TrialLog(tracking, first, "m-1") as log:
        log(record(0))
    # Killed between opening the run of trial 1 and ending it.
    tracking.child(first, "trial 2", {STUDY_TAG: "m-1", SLOT_TAG: "1"})
    assert read_ledger(tracking, "m").trials == 1
    with tracking.run("m", {MODEL_TAG: "m"}) as second, TrialLog(tracking, second, "m-1") as resumed:
        for slot in range(3):
            resumed(record(slot))
    assert sorted(run.data.tags[SLOT_TAG] for run in children(tracking, second)) == ["1", "2"]
    assert read_ledger(tracking, "m").trials == 3  # the study's trials count once, whichever run did them
    with tracking.run("m", {MODEL_TAG: "m"}) as third, TrialLog(tracking, third, "m-2") as another:
        another(record(0))
    assert read_ledger(tracking, "m").trials == 4


def test_what_cannot_be_written_is_an_error_and_not_forgotten(tracking: Tracking) -> None:
    with tracking.run("m", {MODEL_TAG: "m"}) as parent:
        bad = record(0)
        bad.parameters["no/such\nname"] = 1
        with pytest.raises(Exception, match="Invalid value"), TrialLog(tracking, parent, "m-1") as log:
            log(bad)


def test_other_fits_count_once_a_study_and_kind(tracking: Tracking) -> None:
    for _ in range(2):
        with tracking.run("m", {MODEL_TAG: "m"}) as run:
            record_fits(tracking, run, "m-1", "trait_probes", 2)
            record_fits(tracking, run, "m-1", "ensemble", 5)
            record_look(tracking, run, "m-1", "abc")
    ledger = read_ledger(tracking, "m")
    assert (ledger.fits, ledger.trials, ledger.holdout_looks, ledger.total) == (7, 0, 1, 8)
    with tracking.run("m", {MODEL_TAG: "m"}) as run, pytest.raises(ConfigurationError, match="kind"):
        record_fits(tracking, run, "m-1", "a b", 1)
