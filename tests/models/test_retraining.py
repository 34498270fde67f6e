"""When a model is trained again: each rule by a table, and a season of days in which nothing makes it loop."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pandas as pd
import pytest

from tapeline.core.errors import ConfigurationError
from tapeline.core.settings import LifecycleSettings, load_settings
from tapeline.evaluation.result import Versions
from tapeline.models.retraining import Alarm, Attempt, RetrainDecision, Situation, decide_retraining, standing_run

DAY = pd.Timedelta("1D")
NOW = pd.Timestamp("2017-06-01", tz="UTC")
OLD, NEW = Versions("f@1", "l@1", "d1"), Versions("f@1", "l@1", "d2")
RULES = LifecycleSettings(maximum_age_days=30, minimum_days=7, minimum_new_rows=200, confirmations=2)
LAST = Attempt("3", OLD, known_until=NOW - 20 * DAY, at=NOW - 20 * DAY)
QUIET = Situation(NOW, "3", LAST, NEW, new_rows=400)


def alarm(kind: str = "performance", *, days: float = 3, checks: int = 2, sequential: bool = False) -> Alarm:
    return Alarm(kind, f"{kind} fell", NOW - days * DAY, checks, sequential)


@pytest.mark.parametrize(
    ("change", "retrain", "causes", "waits"),
    [
        ({}, False, (), 0),
        ({"manual": True}, True, ("manual",), 0),
        ({"manual": True, "new_rows": 0}, True, ("manual",), 0),
        ({"manual": True, "versions": OLD}, False, ("manual",), 1),
        ({"manual": True, "versions": replace(OLD, feature_set="f@2")}, True, ("manual",), 0),
        ({"champion": None}, True, ("first",), 0),
        ({"champion": None, "last": None}, True, ("first",), 0),
        ({"champion": None, "last": replace(LAST, at=NOW - DAY)}, False, ("first",), 1),
        ({"last": None}, True, ("time",), 0),
        ({"last": replace(LAST, at=NOW - 30 * DAY)}, True, ("time",), 0),
        ({"last": replace(LAST, at=NOW - 29.9 * DAY)}, False, (), 0),
        ({"last": replace(LAST, at=NOW - 40 * DAY), "new_rows": 199}, False, ("time",), 1),
        ({"last": replace(LAST, at=NOW - 40 * DAY), "versions": OLD}, False, ("time",), 1),
        ({"last": replace(LAST, at=NOW - 40 * DAY), "versions": replace(NEW, feature_set="f@2")}, True, ("time",), 0),
        ({"alarms": [alarm()]}, True, ("performance",), 0),
        ({"alarms": [alarm("calibration")]}, True, ("performance",), 0),
        ({"alarms": [alarm("score"), alarm("distribution")]}, True, ("drift",), 0),
        ({"alarms": [alarm(), alarm("concept", checks=1, sequential=True)]}, True, ("drift", "performance"), 0),
        ({"alarms": [alarm(checks=1)]}, False, (), 0),
        ({"alarms": [alarm(days=20)]}, False, (), 0),
        ({"alarms": [alarm("concept", days=21, sequential=True)]}, False, (), 0),
        ({"alarms": [alarm()], "new_rows": 10}, False, ("performance",), 1),
        ({"alarms": [alarm()], "last": replace(LAST, at=NOW - 6 * DAY), "new_rows": 10}, False, ("performance",), 2),
    ],
)  # fmt: skip
def test_each_rule(change: dict[str, object], retrain: bool, causes: tuple[str, ...], waits: int) -> None:
    decision = decide_retraining(replace(QUIET, **change), RULES)  # type: ignore[arg-type]
    assert (decision.retrain, decision.causes, len(decision.waits)) == (retrain, causes, waits)
    assert decision.text.startswith("train again: " if retrain else "not now (" if waits else "no training: ")


def test_a_run_of_checks_is_unbroken() -> None:
    at = pd.date_range("2017-01-02", periods=5, freq="1D", tz="UTC")

    def run(*found: bool) -> tuple[pd.Timestamp, int] | None:
        return standing_run(pd.DataFrame({"ts": at[: len(found)], "alarm": found}).sample(frac=1, random_state=0))

    assert run(True, True, False) is None
    assert run(False, True, True) == (at[1], 2)
    assert run(True, True, True) == (at[0], 3)
    two_of_one_check = pd.DataFrame({"ts": [at[0], at[0], at[1], at[1]], "alarm": [False, True, True, False]})
    assert standing_run(two_of_one_check) == (at[0], 2)
    assert standing_run(two_of_one_check.iloc[:0]) is None


def season(alarmed: list[bool], *, promoted: bool = False) -> list[int]:
    """The days of a season on which a model is trained, where a check finds something on the given days."""
    days = pd.date_range("2017-01-01", periods=len(alarmed), freq="1D", tz="UTC")
    last = Attempt("1", OLD, known_until=days[0], at=days[0])
    trained = []
    for day in range(1, len(alarmed)):
        run = standing_run(pd.DataFrame({"ts": days[: day + 1], "alarm": alarmed[: day + 1]}))
        alarms = [] if run is None else [Alarm("performance", "worse", *run)]
        present = Versions("f@1", "l@1", f"d{day}")
        new = 24 * (days[day] - last.known_until).days
        decision = decide_retraining(Situation(days[day], "1", last, present, new, alarms), RULES)
        if decision.retrain:
            trained.append(day)
            last = Attempt(str(day), present, known_until=days[day], at=days[day])
    return trained


def test_a_standing_alarm_leads_to_one_training_and_the_calendar_to_the_rest() -> None:
    assert season([True] * 100) == [30, 60, 90], "it stood since before the first training: time alone"
    once = season([False] * 45 + [True] * 40)
    assert once == [30, 46, 76], "confirmed on its second day; after that training it is no news"


def test_an_alarm_that_flickers_trains_no_more_often_than_the_spacing_allows() -> None:
    trained = season([day % 4 in (1, 2) for day in range(100)])
    assert trained
    assert min(b - a for a, b in pairwise(trained)) >= 7
    assert season([day % 2 == 0 for day in range(100)]) == [30, 60, 90], "never twice in a row: unconfirmed"


def test_the_settings_are_checked_and_read_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAPELINE_LIFECYCLE__MINIMUM_DAYS", "3")
    assert load_settings().lifecycle.minimum_days == 3
    monkeypatch.setenv("TAPELINE_LIFECYCLE__MAXIMUM_AGE_DAYS", "2")
    with pytest.raises(ConfigurationError, match="minimum_days 3 is above maximum_age_days 2"):
        load_settings()


def test_the_sentence_says_why_and_what_for() -> None:
    decision = RetrainDecision(False, ("worse",), ("2 new labels, 200 are needed",), ("performance",))
    assert decision.text == "not now (2 new labels, 200 are needed): worse"
