"""The choice of families: right where the past is clear, the default where there is none, and blind to any holdout."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from tapeline.core.settings import Settings
from tapeline.models.ledger import STUDY_TAG
from tapeline.models.meta_learner import (
    KNOWN_UNTIL_TAG,
    PastStudy,
    PastTrial,
    candidates,
    learn,
    nearest,
    propose,
    record_traits,
)
from tapeline.models.tracking import Tracking, open_tracking
from tapeline.models.trial import TrialRecord
from tapeline.models.trial_log import TrialLog
from tapeline.models.zoo import family

TREES = PastTrial("lightgbm", {"num_leaves": 9, "learning_rate": 0.02}, 0.6900)
LINEAR = PastTrial("logistic", {"C": 3.0}, 0.6850)
BEFORE = pd.Timestamp("2020-01-01", tz="UTC")


@pytest.fixture
def tracking(settings: Settings) -> Tracking:
    return open_tracking(settings)


def remember(
    tracking: Tracking,
    study: str,
    traits: dict[str, float],
    trials: list[tuple[str, dict, float]],
    *,
    until: str = "2019-06-01",
) -> str:
    """A past training: its traits and its completed trials."""
    with tracking.run("m", {}) as run:
        record_traits(tracking, run, study, traits, pd.Timestamp(until, tz="UTC"))
        with TrialLog(tracking, run, study) as log:
            for slot, (name, parameters, loss) in enumerate(trials):
                log(TrialRecord(slot, name, parameters, "complete", loss, (loss,), 0.1, 5, 1.0))
    return run


def test_without_a_past_the_default_is_taken_and_said(tracking: Tracking) -> None:
    found = learn(tracking, {"log_rows": 3.0}, before=BEFORE, study="now")
    assert found.families == ("lightgbm",)
    assert "no past run" in found.reason
    plan = found.plan(trials=8, seed=7)
    assert plan.first == (("lightgbm", dict(family("lightgbm").defaults)),)
    assert plan.reason == found.reason


def test_the_family_that_won_on_like_data_is_first_with_the_parameters_it_won_with(tracking: Tracking) -> None:
    like, unlike = {"log_rows": 3.0, "linear_auc": 0.60}, {"log_rows": 6.0, "linear_auc": 0.50}
    linear = [("logistic", {"C": 3.0}, 0.685), ("lightgbm", {"num_leaves": 9}, 0.690)]
    trees = [("logistic", {"C": 0.01}, 0.692), ("lightgbm", {"num_leaves": 14}, 0.689)]
    for number in range(3):
        remember(tracking, f"like-{number}", {**like, "log_rows": 3.0 + number / 10}, linear)
        remember(tracking, f"unlike-{number}", {**unlike, "log_rows": 6.0 + number / 10}, trees)
    small = learn(tracking, like, before=BEFORE, study="now", neighbours=3)
    large = learn(tracking, unlike, before=BEFORE, study="now", neighbours=3)
    assert small.families[:2] == ("logistic", "lightgbm")
    assert small.first[0] == ("logistic", {"C": 3.0})
    assert large.families[:2] == ("lightgbm", "logistic")
    assert large.first[0] == ("lightgbm", {"num_leaves": 14})
    assert "like-0 (distance 0.00)" in small.reason
    assert "unlike" not in small.reason
    assert small.families[2] not in ("logistic", "lightgbm")  # one without a past is given its one trial
    assert "tried once" in small.reason


def test_no_holdout_is_read_neither_a_recorded_one_nor_one_within_a_later_study(tracking: Tracking) -> None:
    traits = {"log_rows": 3.0}
    run = remember(tracking, "past", traits, [("logistic", {"C": 3.0}, 0.685), ("lightgbm", {}, 0.690)])
    before = learn(tracking, traits, before=BEFORE, study="now")
    # A holdout result that says the opposite, of this very data.
    tracking.log(run, metrics={"holdout_log_loss": 9.0, "holdout_auc": 0.1, "sharpe_deflated": 0.0})
    with tracking.run("m", {}) as other:
        tracking.log(other, metrics={"holdout_log_loss": 0.1}, tags={STUDY_TAG: "now"})
    assert learn(tracking, traits, before=BEFORE, study="now") == before
    # A study that knew labels from within the present holdout's time is not asked at all.
    remember(tracking, "later", traits, [("ridge", {"penalty": 1.0}, 0.5)], until="2020-01-02")
    assert learn(tracking, traits, before=BEFORE, study="now") == before
    after = learn(tracking, traits, before=pd.Timestamp("2020-01-02", tz="UTC"), study="now")
    assert "later" in after.reason
    # Nor is the present study its own past.
    remember(tracking, "now", traits, [("ridge", {"penalty": 1.0}, 0.1)])
    assert learn(tracking, traits, before=BEFORE, study="now") == before


def test_pruned_trials_and_families_that_cannot_be_chosen_teach_nothing(tracking: Tracking) -> None:
    with tracking.run("m", {}) as run:
        record_traits(tracking, run, "past", {"log_rows": 3.0}, pd.Timestamp("2019-01-01", tz="UTC"))
        with TrialLog(tracking, run, "past") as log:
            log(TrialRecord(0, "logistic", {"C": 1.0}, "pruned", 0.1, (0.1,), np.nan, 0, 1.0))
            log(TrialRecord(1, "majority", {}, "complete", 0.2, (0.2,), 0.1, 5, 1.0))
            log(TrialRecord(2, "gone_since", {}, "complete", 0.1, (0.1,), 0.1, 5, 1.0))
    assert "no past run" in learn(tracking, {"log_rows": 3.0}, before=BEFORE, study="now").reason


def test_distance_is_in_standard_deviations_over_what_both_know() -> None:
    past = {"a": {"x": 1.0, "y": 100.0}, "b": {"x": 2.0, "y": 300.0}, "c": {"x": 1.2}, "d": {"z": 5.0}}
    found = nearest({"x": 1.0, "y": 200.0}, past, neighbours=3)
    assert set(found) == {"a", "b", "c"}  # nothing is known of d
    deviation = np.std([100.0, 300.0, 200.0])
    assert found["a"] == pytest.approx(np.sqrt((0 + (100 / deviation) ** 2) / 2))
    assert list(found) == sorted(found, key=lambda name: found[name])
    scaled = nearest({"x": 1000.0, "y": 200.0}, {k: {**v, "x": v.get("x", np.nan) * 1000} for k, v in past.items()})
    assert {k: scaled[k] for k in found} == pytest.approx(found)
    assert nearest({"x": np.nan}, {"a": {"x": 1.0}}) == {}


def test_one_lucky_study_does_not_outweigh_many() -> None:
    usual = [
        PastStudy(f"s{n}", 0.5, (replace(TREES, log_loss=0.689), replace(LINEAR, log_loss=0.690))) for n in range(4)
    ]
    lucky = PastStudy("lucky", 0.4, (TREES, replace(LINEAR, log_loss=0.6885)))
    known = ["lightgbm", "logistic"]
    assert propose([lucky, *usual], known=known).families[0] == "lightgbm"
    assert propose([lucky], known=known).families[0] == "logistic"
    near = PastStudy("near", 0.0, (TREES, LINEAR))
    far = PastStudy("far", 9.0, (replace(TREES, log_loss=0.680), LINEAR))
    assert propose([near, far], known=known).families[0] == "logistic"


def test_only_families_with_something_to_tune_are_candidates() -> None:
    found = candidates()
    assert "lightgbm" in found
    assert not {"majority", "persistence", "linear"} & set(found)


def test_traits_are_kept_with_the_time_up_to_which_labels_are_known(tracking: Tracking) -> None:
    with tracking.run("m", {}) as run:
        record_traits(tracking, run, "s", {"log_rows": 3.0, "unknown": np.nan}, BEFORE)
    kept = tracking.client.get_run(run).data
    assert kept.metrics == {"trait_log_rows": 3.0}
    assert int(kept.tags[KNOWN_UNTIL_TAG]) == BEFORE.value


def test_auto_trains_saves_and_scores_what_the_past_recommends(settings: Settings) -> None:
    """Two trainings: the first without a past takes the default; the second learns from it, and says so."""
    from tapeline.models.dataset import assemble
    from tapeline.models.registry import Registry
    from tapeline.models.scoring import load_scorer
    from tapeline.models.training import train
    from tests.models.synthetic import VERSIONS, make_dataset, make_parts, make_settings

    auto = make_settings(settings.root, family="auto", trials=4)
    old = make_dataset(900, signal=0.6, columns=4)
    first = train(old, settings=auto, name="old", versions=VERSIONS)
    assert first.family == "lightgbm"
    assert "no past run" in first.family_reason
    assert first.trials_total == len(first.trials) + 2  # two probes steered, or could have steered, the choice
    tracking = open_tracking(auto)
    study_traits = next(
        run.data.metrics
        for run in tracking.client.search_runs([tracking.experiment_id])
        if run.data.tags.get(STUDY_TAG) == first.study and "trait_log_rows" in run.data.metrics
    )
    remembered = {name.removeprefix("trait_"): value for name, value in study_traits.items() if "trait_" in name}
    remember(
        tracking, "linear-won", remembered, [("logistic", {"C": 2.0}, 0.55), ("lightgbm", {}, 0.6)], until="2017-01-09"
    )
    new = assemble({"EURUSD": make_parts(900, columns=4, signal=0.6, seed=1, start="2018-01-01")})
    lines: list[str] = []
    second = train(new, settings=auto, name="new", versions=VERSIONS, progress=lines.append)
    assert {"logistic", "lightgbm"} < set(second.trials["family"][:3])  # and one that has no past
    assert second.trials["family"][0] == "logistic"
    assert second.trials["C"][0] == 2.0
    assert second.family == "logistic"
    assert any("train: trying logistic" in line and "linear-won" in line for line in lines)
    found = Registry.open(auto).find("new")
    assert found is not None
    scorer = load_scorer(auto, "new")
    features, _ = make_parts(50, columns=4, signal=0.6, seed=2, start="2019-01-01")
    assert scorer.score(features)["probability"].between(0, 1).all()
    again = train(new, settings=auto, name="new", versions=VERSIONS)
    assert again.booster_sha256 == second.booster_sha256  # resumed: the study keeps the plan it began with
