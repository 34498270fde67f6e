"""Conditions as JSON say what the text says."""

from __future__ import annotations

import json

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tapeline.alerts.condition_json import condition_from_json, condition_schema, condition_to_json
from tapeline.core.errors import ConfigurationError
from tapeline.core.rule_expression import parse_condition

SCHEMA = {"$ref": "#/$defs/condition", "$defs": condition_schema()}
TEXTS = [
    'crosses_up(close, 60000) and (rsi(14, "1h") < 30 or not open >= 1.5%)',
    "not (a > 1 and b < 2) for 2 bars",
    "-(a + b) * -3 > -2%",
    "(a > 1 and b < 1) for 3 bars or c between -1 and x / 2",
    "f('a\"b', 4h) > 1 for 90s",
    "((a > 1 and b > 1) and c > 1)",
    "(a > 1 for 2 bars) for 3 bars",
    "trailing_stop(5%)",
    "new_high",
]


@pytest.mark.parametrize("text", TEXTS)
def test_a_condition_comes_back_from_json_as_the_same_tree(text) -> None:
    tree = parse_condition(text)
    plain = json.loads(json.dumps(condition_to_json(tree)))
    jsonschema.validate(plain, SCHEMA)
    assert parse_condition(condition_from_json(plain)) == tree


_values = st.recursive(
    st.sampled_from(["close", "2", "1.5%", 'rsi(14, "1h")', "volume(4h)"]),
    lambda one: st.builds("({} {} {})".format, one, st.sampled_from("+-*/"), one) | st.builds("-({})".format, one),
    max_leaves=4,
)
_conditions = st.recursive(
    st.builds("{} {} {}".format, _values, st.sampled_from(["<", "<=", ">", ">=", "==", "!="]), _values)
    | st.builds("crosses_down({}, {})".format, _values, _values)
    | st.builds("{} between {} and {}".format, _values, _values, _values),
    lambda one: (
        st.builds("({} and {})".format, one, one)
        | st.builds("({} or {} or {})".format, one, one, one)
        | st.builds("not ({})".format, one)
        | st.builds("({}) for {} bars".format, one, st.integers(1, 9))
    ),
    max_leaves=5,
)


@given(_conditions)
@settings(max_examples=60, deadline=None)
def test_random_conditions_come_back_as_the_same_tree(text) -> None:
    tree = parse_condition(text)
    assert parse_condition(condition_from_json(json.loads(json.dumps(condition_to_json(tree))))) == tree


@pytest.mark.parametrize(
    ("plain", "place"),
    [
        (5, "5 is no condition"),
        ({"compare": ["close", ">"]}, "at compare: a list of 3"),
        ({"compare": ["close", "=>", 1]}, "at compare[1]: '=>'"),
        ({"all": ["a", {"compare": ["close", ">", True]}]}, "at all[1].compare[2]: True is no value"),
        ({"all": ["a"]}, "at all: two or more"),
        ({"held": "a", "bars": 2, "time": "4h"}, "at held: either"),
        ({"held": "a", "bars": True}, "at held: bars = True"),
        ({"compare": ["close) or (open", ">", 1]}, "is not a name"),
        ({"compare": [{"text": "a\" or 'b"}, ">", 1]}, "is not a text"),
        ({"compare": ["close", ">", 10**400]}, "is no finite number"),
        ({"compare": ["close", ">", float("nan")]}, "is no finite number"),
        ({"not": "a", "all": []}, "is not one of"),
        ({"call": "f", "arguments": "x"}, "the arguments must be a list"),
        ({"call": "f", "more": 1}, "a call has 'call' and 'arguments' only"),
        ({"compare": [{"duration": "4 h"}, ">", 1]}, "is not a duration"),
    ],
)
def test_what_is_no_condition_is_refused_at_its_place(plain, place) -> None:
    with pytest.raises(ConfigurationError) as caught:
        condition_from_json(plain)
    assert place in str(caught.value)


def test_a_condition_nested_without_end_is_refused() -> None:
    plain: object = "a"
    for _ in range(5_000):
        plain = {"not": plain}
    with pytest.raises(ConfigurationError, match="nested deeper than 40"):
        condition_from_json(plain)
