"""Slots, draws and plans: what makes a search resumable, whoever runs it."""

from __future__ import annotations

from itertools import product
from typing import Any

import optuna
import pytest

from tapeline.core.errors import ConfigurationError
from tapeline.models.search import ORIGIN, draw, grid_point, plan_of, slot_of, stored_plan, vacant_slot
from tapeline.models.zoo import family

PLAN = plan_of(["logistic"], trials=9, seed=7)


@pytest.fixture
def study() -> optuna.Study:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna.create_study(direction="minimize")


def finish(study: optuna.Study, slot: int, value: float, plan=PLAN) -> dict[str, Any]:
    drawn = draw(study, plan, slot, owner="a")
    study.tell(drawn.trial, value)
    return drawn.parameters


def test_a_killed_trials_slot_is_vacant_and_its_parameters_are_drawn_again(study: optuna.Study) -> None:
    for slot in range(5):
        finish(study, slot, 0.7 - slot / 100)
    killed = draw(study, PLAN, 5, owner="a")
    assert vacant_slot(study, PLAN) == 6
    study.tell(killed.trial, state=optuna.trial.TrialState.FAIL)
    # Others went on meanwhile, so a fresh draw would see another past.
    finish(study, 6, 0.1)
    finish(study, 7, 0.9)
    assert vacant_slot(study, PLAN) == 5
    assert finish(study, 5, 0.5) == killed.parameters
    assert vacant_slot(study, PLAN) == 8
    finish(study, 8, 0.5)
    assert vacant_slot(study, PLAN) is None


def test_a_draw_hangs_on_seed_slot_and_past_only(study: optuna.Study) -> None:
    other = optuna.create_study(direction="minimize")
    for slot in range(7):
        finish(study, slot, 0.7 - slot / 100)
        finish(other, slot, 0.7 - slot / 100)
    assert finish(study, 7, 0.5) == finish(other, 7, 0.5)
    third = optuna.create_study(direction="minimize")
    for slot in range(7):
        finish(third, slot, 0.6 + slot / 100)
    assert finish(third, 7, 0.5) != study.trials[7].user_attrs[ORIGIN]["parameters"]
    seeds = [optuna.create_study(direction="minimize") for _ in range(2)]
    drawn = [
        finish(one, 3, 0.5, plan_of(["logistic"], trials=9, seed=seed)) for one, seed in zip(seeds, (1, 2), strict=True)
    ]
    assert drawn[0] != drawn[1]


def test_the_first_trial_takes_the_defaults_and_a_value_outside_the_space_is_drawn(study: optuna.Study) -> None:
    assert finish(study, 0, 0.5) == dict(family("logistic").defaults)
    odd = plan_of(["logistic"], trials=3, seed=7, first=[("logistic", {"C": 1e9, "unknown": 3})])
    drawn = finish(optuna.create_study(direction="minimize"), 0, 0.5, odd)
    assert 1e-4 <= drawn["C"] <= 100
    assert set(drawn) == {"C"}


def test_two_families_may_mean_different_things_by_one_name(study: optuna.Study) -> None:
    plan = plan_of(["lightgbm", "random_forest"], trials=4, seed=7)
    first, second = finish(study, 0, 0.6, plan), finish(study, 1, 0.5, plan)
    assert first == dict(family("lightgbm").defaults)
    assert set(second) == set(family("random_forest").defaults)
    finish(study, 2, 0.4, plan)
    assert study.trials[2].user_attrs[ORIGIN]["family"] == "random_forest"  # the better one goes on
    assert [slot_of(trial) for trial in study.trials] == [0, 1, 2]


def test_a_grid_has_every_combination_once_over_all_its_families(study: optuna.Study) -> None:
    plan = plan_of(["lightgbm", "logistic", "majority"], trials=1, seed=7, search="grid")
    points = [grid_point(plan, slot) for slot in range(plan.budget)]
    trees = family("lightgbm").grid
    expected = [("lightgbm", dict(zip(trees, values, strict=True))) for values in product(*trees.values())]
    expected += [("logistic", {"C": value}) for value in family("logistic").grid["C"]]
    assert points == [*expected, ("majority", {})]
    with pytest.raises(ConfigurationError, match="no point"):
        grid_point(plan, plan.budget)
    assert finish(study, 9, 0.5, plan) == points[9][1]
    assert study.trials[0].user_attrs[ORIGIN]["family"] == "logistic"


def test_a_study_keeps_its_plan_but_for_the_budget(study: optuna.Study) -> None:
    assert stored_plan(study, PLAN) == PLAN
    later = plan_of(["ridge", "lightgbm"], trials=20, seed=7, reason="learnt since")
    kept = stored_plan(study, later)
    assert (kept.families, kept.first, kept.budget, kept.reason) == (PLAN.families, PLAN.first, 20, "")


def test_a_family_with_nothing_to_tune_has_one_trial() -> None:
    assert plan_of(["majority"], trials=8, seed=0).budget == 1
    with pytest.raises(ConfigurationError, match="no estimator is called 'lightgbn'") as caught:
        plan_of(["lightgbn"], trials=8, seed=0)
    assert "lightgbm" in str(caught.value.hint)
