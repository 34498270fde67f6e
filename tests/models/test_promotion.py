"""Who becomes champion: decided on unseen rows, with the chance of luck taken into account."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from tapeline.evaluation.result import Versions
from tapeline.models.promotion import BETTER_SHARE, Champion, Decision, decide, loss_difference

ROWS = 1200
T0 = pd.date_range("2017-06-01", periods=ROWS, freq="1h", tz="UTC")
VERSIONS = Versions("core@1", "label@1", "data@1")
GENERATOR = np.random.default_rng(0)
TRUTH = np.clip(0.5 + 0.15 * GENERATOR.standard_normal(ROWS), 0.05, 0.95)
TARGET = (GENERATOR.uniform(size=ROWS) < TRUTH).astype(np.int8)
X = np.zeros((ROWS, 2), dtype=np.float32)
BASE = np.full(ROWS, 0.5)
BEFORE = pd.Timestamp("2017-05-31", tz="UTC")


def champion(probability: np.ndarray, *, until: pd.Timestamp = BEFORE, **change: object) -> Champion:
    def predict(matrix: np.ndarray) -> np.ndarray:
        return probability[-len(matrix) :]

    given: dict[str, object] = {
        "version": "1",
        "versions": VERSIONS,
        "trained_until": until,
        "skill": 0.01,
        "predict": predict,
    }
    return Champion(**{**given, **change})  # type: ignore[arg-type]


def judge(probability: np.ndarray, present: Champion | None, target: np.ndarray = TARGET) -> Decision:
    against = loss_difference(target, probability, BASE, T0.asi8, mean_block=5)
    return decide(
        versions=VERSIONS,
        X=X,
        target=target,
        probability=probability,
        t0=T0,
        against_base=against,
        champion=present,
        mean_block=5,
    )


def test_a_first_model_with_skill_is_champion_and_says_so() -> None:
    decision = judge(TRUTH, None)
    assert decision.promote
    assert "with skill shown" in decision.reason


def test_a_first_model_without_skill_is_champion_but_says_so() -> None:
    noise = 0.5 + 0.005 * np.random.default_rng(2).standard_normal(ROWS)
    decision = judge(noise, None)
    assert decision.promote
    assert "no skill over the base rate shown" in decision.reason


def test_a_first_model_that_is_worse_than_knowing_nothing_is_not() -> None:
    decision = judge(1 - TRUTH, None)
    assert not decision.promote
    assert "significantly worse" in decision.reason


def test_one_number_for_all_rows_shows_no_skill_however_well_the_holdout_suits_it() -> None:
    """Where more rose than before, every constant above the base rate beats it in every resample."""
    risen = np.ones(ROWS, dtype=np.int8)
    risen[::5] = 0
    for constant in (0.5001, 0.6):
        said = np.full(ROWS, constant)
        assert loss_difference(risen, said, BASE, T0.asi8, mean_block=5).better == 1.0
        first = judge(said, None, risen)
        assert first.promote
        assert "no skill over the base rate shown" in first.reason
        other = champion(said, versions=Versions("core@2", "label@1", "data@1"), skill=-1.0)
        assert not judge(said, other, risen).promote


def test_a_first_model_that_is_worse_by_a_hair_is_as_good_as_the_base_rate() -> None:
    """A constant a hair beside the base rate loses in every resample and by nothing that matters."""
    risen = np.ones(ROWS, dtype=np.int8)
    risen[::10] = 0
    decision = judge(BASE - 1e-4, None, target=risen)
    assert loss_difference(risen, BASE - 1e-4, BASE, T0.asi8, mean_block=5).better == 0
    assert decision.promote
    assert "no skill over the base rate shown" in decision.reason


def test_the_better_one_of_two_on_the_same_rows_wins() -> None:
    assert judge(TRUTH, champion(BASE)).promote
    assert not judge(BASE, champion(TRUTH)).promote
    assert not judge(TRUTH, champion(TRUTH)).promote  # equal is not better


def test_a_difference_that_luck_explains_is_not_enough() -> None:
    generator = np.random.default_rng(3)
    promoted = 0
    for _ in range(40):
        first, second = (np.clip(TRUTH[:300] + 0.05 * generator.standard_normal(300), 0.01, 0.99) for _ in range(2))
        pair = loss_difference(TARGET[:300], first, second, T0.asi8[:300], mean_block=5)
        promoted += pair.better >= BETTER_SHARE
    assert promoted <= 10  # about a tenth, not the half that a bare comparison would promote


def test_rows_that_the_champion_was_trained_on_are_not_used() -> None:
    # The champion has learnt the first 800 rows by heart and knows nothing of the rest.
    learnt = np.where(np.arange(ROWS) < 800, np.where(TARGET == 1, 0.99, 0.01), 0.5)
    decision = judge(TRUTH, champion(learnt, until=T0[799]))
    assert decision.promote
    assert "the same 400 rows" in decision.reason
    too_few = judge(TRUTH, champion(learnt, until=T0[ROWS - 50]))
    assert not too_few.promote
    assert "49 holdout rows are unseen" in too_few.reason


@pytest.mark.parametrize(
    ("probability", "skill", "promoted"), [(TRUTH, 0.0001, True), (TRUTH, 0.5, False), (BASE, -0.1, False)]
)
def test_models_of_other_versions_are_compared_by_their_skill(
    probability: np.ndarray, skill: float, promoted: bool
) -> None:
    present = champion(BASE, versions=Versions("core@2", "label@1", "data@1"), skill=skill)
    decision = judge(probability, present)
    assert decision.promote is promoted
    assert "each on its own holdout" in decision.reason


def test_a_champion_without_recorded_skill_or_files_is_left_to_a_person() -> None:
    other = Versions("core@2", "label@1", "data@1")
    assert "no recorded skill" in judge(TRUTH, champion(BASE, versions=other, skill=None)).reason
    broken = judge(TRUTH, champion(BASE, predict=None, problem="it was changed"))
    assert not broken.promote
    assert "it was changed" in broken.reason


def test_a_holdout_of_one_class_decides_nothing() -> None:
    decision = judge(TRUTH, None, np.ones(ROWS, dtype=np.int8))
    assert not decision.promote
    assert "one class" in decision.reason


def test_the_comparison_is_paired_and_by_blocks() -> None:
    # The same rows written ten times are no more evidence than once, if they share an instant.
    near = np.clip(TRUTH + 0.06 * np.random.default_rng(7).standard_normal(ROWS), 0.01, 0.99)[:150]
    compare: Callable[..., float] = lambda y, p, q, t: loss_difference(y, p, q, t, mean_block=1).better  # noqa: E731
    once = compare(TARGET[:150], near, BASE[:150], T0.asi8[:150])
    often = compare(*(np.repeat(part[:150], 10) for part in (TARGET, near, BASE, T0.asi8)))
    assert often == once
