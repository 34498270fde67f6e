"""Rules are data: tried in order, learnt where no probability is declared, and never executed."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone

from tapeline.core.errors import ConfigurationError, DataError
from tapeline.models.rule_member import Condition, Rule, RuleMember


def condition(column: str, comparison: str, value: float) -> dict[str, Any]:
    return {"column": column, "comparison": comparison, "value": value}


RULES = [
    {"conditions": [condition("rsi", "below", 30), condition("trend", "above", 0)], "probability": 0.7},
    {"conditions": [condition("rsi", "at_least", 70)], "probability": 0.35},
    {"conditions": [condition("rsi", "at_most", 30)]},
]


def slow(rsi: float, trend: float) -> int:
    """Which rule holds first, by plain comparisons."""
    if rsi < 30 and trend > 0:
        return 0
    if rsi >= 70:
        return 1
    return 2 if rsi <= 30 else 3


def rows() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    generator = np.random.default_rng(0)
    made = np.column_stack([generator.choice([20, 29.5, 30, 50, 70, 80, np.nan], 400), generator.normal(size=400)])
    made[::17, 1] = np.nan
    return made, generator.integers(0, 2, 400), generator.uniform(0.1, 1, 400)


def test_the_first_rule_that_holds_speaks_and_a_missing_value_fulfils_nothing() -> None:
    made, y, weight = rows()
    fitted = RuleMember(RULES, columns=("rsi", "trend"), prior_rows=20).fit(made, y, weight)
    reached = np.array([slow(*row) for row in made])
    base = np.average(y, weights=weight)
    here = weight[reached == 2]
    learnt = (here @ y[reached == 2] + 20 * base) / (here.sum() + 20)
    expected = np.array([0.7, 0.35, learnt, base])[reached]
    assert fitted.predict_proba(made)[:, 1] == pytest.approx(expected, rel=1e-12)
    assert set(reached) == {0, 1, 2, 3}


def test_a_frame_brings_its_names_in_any_order() -> None:
    made, y, _ = rows()
    fitted = RuleMember(RULES, columns=("rsi", "trend")).fit(made, y)
    frame = pd.DataFrame(made, columns=["rsi", "trend"])
    assert np.array_equal(fitted.predict_proba(frame[["trend", "rsi"]]), fitted.predict_proba(made))


def test_it_is_cloned_and_comes_back_from_json_to_the_bit() -> None:
    made, y, weight = rows()
    first = RuleMember(RULES, columns=("rsi", "trend")).fit(made, y, weight)
    assert np.array_equal(clone(first).fit(made, y, weight).predict_proba(made), first.predict_proba(made))
    again = RuleMember.from_json(json.loads(json.dumps(first.to_json(), allow_nan=False)))
    assert np.array_equal(again.predict_proba(made), first.predict_proba(made))
    typed = RuleMember([Rule(conditions=(Condition(column="rsi", comparison="below", value=30),), probability=0.6)])
    assert clone(typed).get_params()["rules"][0].probability == 0.6


@pytest.mark.parametrize(
    ("rule", "told"),
    [
        ({"conditions": []}, "conditions"),
        ({"conditions": [condition("rsi", "__import__('os')", 1)]}, "comparison"),
        ({"conditions": [condition("rsi", "below", float("nan"))]}, "value"),
        ({"conditions": [condition("rsi", "below", 1)], "probability": 1.0}, "probability"),
        ({"conditions": [condition("rsi", "below", 1)], "code": "1 + 1"}, "code"),
        ("rsi < 30", "rule 0"),
    ],
)
def test_what_is_no_rule_is_refused_and_named(rule: Any, told: str) -> None:
    with pytest.raises(ConfigurationError, match=told):
        RuleMember([rule], columns=("rsi", "trend")).fit(rows()[0], rows()[1])


def test_a_column_that_is_absent_is_named() -> None:
    made, y, _ = rows()
    with pytest.raises(ConfigurationError, match="'trend'"):
        RuleMember(RULES, columns=("rsi", "other")).fit(made, y)
    with pytest.raises(ConfigurationError, match="a name for each"):
        RuleMember(RULES).fit(made, y)
    with pytest.raises(ConfigurationError, match="no rule"):
        RuleMember([], columns=("rsi", "trend")).fit(made, y)


@pytest.mark.parametrize(
    "change", [{"base_rate": 2.0}, {"base_rate": 10**400}, {"probabilities": [0.5]}, {"rules": "all"}, {"columns": 3}]
)
def test_fitted_rules_from_a_file_are_checked(change: dict[str, Any]) -> None:
    made, y, _ = rows()
    whole = RuleMember(RULES, columns=("rsi", "trend")).fit(made, y).to_json()
    with pytest.raises(DataError):
        RuleMember.from_json({**whole, **change})
