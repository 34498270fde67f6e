"""Shadow evidence: only rows that both scored, that came true, and that nobody could know when they were scored."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from tapeline.core.errors import DataError
from tapeline.models.promotion import loss_difference
from tapeline.models.shadow import shadow_evidence

ROWS = 300
TS = pd.date_range("2017-01-02", periods=ROWS, freq="1h", tz="UTC", name="ts").as_unit("ns")
HOUR = pd.Timedelta("1h")
UP = np.random.default_rng(0).random(ROWS) < 0.5


def scores(version: str, skill: float, *, late: int = 0) -> pd.DataFrame:
    """Probabilities that lean to what happens; the first ``late`` rows were scored a day after."""
    said = pd.DataFrame({"known_at": TS + HOUR, "probability": np.where(UP, 0.5 + skill, 0.5 - skill)}, index=TS)
    delay = np.where(np.arange(ROWS) < late, 24, 0) * HOUR
    return said.assign(model_version=version, scored_at=TS + HOUR + delay)


def labels() -> pd.DataFrame:
    return pd.DataFrame({"value": np.where(UP, 1.0, -1.0), "t_end": TS + 4 * HOUR}, index=TS)


def test_the_losses_are_those_of_the_same_rows() -> None:
    champion, challenger, known = scores("1", 0.1), scores("2", 0.2, late=40), labels()
    known.loc[TS[50], "value"] = 0.0
    known.loc[TS[51], "value"] = np.nan
    evidence = shadow_evidence(champion.iloc[:200], challenger.iloc[10:], known.drop(TS[52]))
    kept = [place for place in range(40, 200) if place not in (50, 51, 52)]
    assert evidence.difference.rows == len(kept)
    assert evidence.late == 30, "rows 10 to 39 were scored after their outcome was known"
    assert evidence.difference.candidate == pytest.approx(-np.log(0.7))
    assert evidence.difference.incumbent == pytest.approx(-np.log(0.6))
    assert (evidence.first, evidence.last) == (TS[40] + HOUR, TS[199] + HOUR)
    assert evidence.decision.promote
    assert "version 2 against 0.5108 of champion 1 on the same 157 rows" in evidence.decision.reason
    worse = shadow_evidence(challenger.assign(model_version="1"), champion.assign(model_version="2"), known)
    assert not worse.decision.promote


def test_the_blocks_are_as_long_as_labels_overlap() -> None:
    generator = np.random.default_rng(1)
    noisy = scores("2", 0.0).assign(probability=generator.uniform(0.3, 0.7, ROWS))
    champion, known = scores("1", 0.0), labels()
    evidence = shadow_evidence(champion, noisy, known, seed=3)
    # A label lives over its own decision and the next three, but for the last ones.
    span = np.minimum(4, ROWS - np.arange(ROWS)).mean()
    expected = loss_difference(UP, noisy["probability"], champion["probability"], TS.asi8, mean_block=2 * span, seed=3)
    assert evidence.difference == expected
    assert not evidence.decision.promote


def test_equal_models_are_not_better_and_few_rows_decide_nothing() -> None:
    same = shadow_evidence(scores("1", 0.1), scores("2", 0.1), labels())
    assert same.difference.better == 0.0
    few = shadow_evidence(scores("1", 0.1), scores("2", 0.3).iloc[:99], labels())
    assert few.difference.better == 1.0
    assert not few.decision.promote
    assert "too few rows to decide, 100 are needed" in few.decision.reason


def test_symbols_with_bars_at_the_same_time_are_told_apart() -> None:
    def both(frame: pd.DataFrame, other: pd.DataFrame) -> pd.DataFrame:
        return pd.concat([frame.assign(symbol="EURUSD"), other.assign(symbol="GBPUSD")])

    turned = labels().assign(value=-labels()["value"])
    evidence = shadow_evidence(
        both(scores("1", 0.1), scores("1", 0.1)), both(scores("2", 0.2), scores("2", -0.2)), both(labels(), turned)
    )
    assert evidence.difference.rows == 2 * ROWS
    assert evidence.difference.candidate == pytest.approx(-np.log(0.7)), "each symbol with its own outcome"


@pytest.mark.parametrize(
    ("champion", "challenger", "known", "told"),
    [
        (scores("1", 0.1).drop(columns="scored_at"), scores("2", 0.1), labels(), r"champion frame lacks .*scored_at"),
        (scores("1", 0.1), scores("2", 0.1), labels().drop(columns="t_end"), "labels frame lacks"),
        (scores("1", 0.1), pd.concat([scores("2", 0.1), scores("3", 0.1)]), labels(), r"versions \['2', '3'\]"),
        (scores("1", 0.1), scores("2", 0.1, late=ROWS), labels(), "outcome 300, of these 0 before it was known"),
        (scores("1", 0.1).iloc[:5], scores("2", 0.1).iloc[5:], labels(), "outcome 0"),
    ],
)
def test_what_cannot_be_compared_is_refused(
    champion: pd.DataFrame, challenger: pd.DataFrame, known: pd.DataFrame, told: str
) -> None:
    with pytest.raises(DataError, match=told):
        shadow_evidence(champion, challenger, known)
