"""A text becomes the right tree or an error that points at its place; nothing else ever happens."""

from __future__ import annotations

import contextlib
import pickle

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tapeline.core.rule_expression import (
    KEYWORDS,
    MAXIMUM_DEPTH,
    MAXIMUM_PARTS,
    RuleExpressionError,
    did_you_mean,
    parse_condition,
    parse_value,
)
from tapeline.core.rule_nodes import (
    Arithmetic,
    Between,
    Call,
    Comparison,
    Crossing,
    Duration,
    Held,
    Logical,
    Name,
    Negative,
    Not,
    Number,
    Text,
    names_in,
    walk,
)

A, B, C = Name("a"), Name("b"), Name("c")
LESS = Comparison("<", A, B)

TREES = {
    "a < b": LESS,
    "a<b and not c>1 or b==c": Logical(
        "or", (Logical("and", (LESS, Not(Comparison(">", C, Number(1.0))))), Comparison("==", B, C))
    ),
    "a < b and c and b": Logical("and", (LESS, C, B)),
    "a < b for 2 bars": Held(LESS, 2),
    "c and a < b for 1 bar": Logical("and", (C, Held(LESS, 1))),
    "(c and a < b) for 4h": Held(Logical("and", (C, LESS)), 0, 4 * 3_600 * 10**9),
    "not a < b for 2 bars": Not(Held(LESS, 2)),
    "(not a < b) for 2 bars": Held(Not(LESS), 2),
    "c between a and b and a": Logical("and", (Between(C, A, B), A)),
    "a - b - c < 0": Comparison("<", Arithmetic("-", Arithmetic("-", A, B), C), Number(0.0)),
    "a - b * -c < .5e1": Comparison("<", Arithmetic("-", A, Arithmetic("*", B, Negative(C))), Number(5.0)),
    "-a * b < -3": Comparison("<", Arithmetic("*", Negative(A), B), Number(-3.0)),
    "a > 2%": Comparison(">", A, Number(0.02, True)),
    "score.age < 90m": Comparison("<", Name("score.age"), Duration(90 * 60 * 10**9)),
    'crosses_up(a, 60000) and rsi(14, "1h") < 30 for 2 bars': Logical(
        "and",
        (
            Crossing(True, A, Number(60_000.0)),
            Held(Comparison("<", Call("rsi", (Number(14.0), Text("1h"))), Number(30.0)), 2),
        ),
    ),
    "crosses_down(a, b + 1)": Crossing(False, A, Arithmetic("+", B, Number(1.0))),
    "now()": Call("now", ()),
}


@pytest.mark.parametrize("text", TREES)
def test_a_text_is_read_as_its_tree(text: str) -> None:
    assert parse_condition(text) == TREES[text]


WRONG = [
    # text, place of the caret, part of the reason, part of the hint
    ("", 0, "empty", None),
    ("a < (b", 6, "')' is missing before the end", None),
    ("a < b < c", 6, "comparison cannot be compared", "between"),
    ("a = b", 2, "'='", "=="),
    ("a & b", 2, "'&'", "and"),
    ("a > 1 AND b", 6, "'AND' is too much", "lower case"),
    ("a > 5x", 4, "neither a number nor a duration", "durations"),
    ("__import__('os')", 0, "'_'", "letter"),
    ("a.__class__ > 1; b", 15, "';'", None),
    ("lambda: 1", 6, "':'", None),
    ("7", 0, "a value, a condition is needed", "compare"),
    ("a > 1 and b + 1", 10, "a value, a condition is needed", "compare"),
    ("f(a > b) > 1", 2, "a condition, a value is needed", None),
    ("(a > b) + 1 > 2", 1, "a condition, a value is needed", None),
    ('a > "x"', 4, "is no number", "arguments"),
    ('a > "x', 4, "is not understood", "ends with"),
    ("a for 0 bars", 6, "'for' needs", "3 bars"),
    ("a for 2", 7, "'bars' is missing", None),
    ("a for 0h", 6, "between 1s and ten years", None),
    ("a < 999999999w", 4, "between 1s and ten years", None),
    ("a < 1e999", 4, "too large", None),
    ("f(a,)", 4, "missing before ')'", None),
    ("crosses_up(a)", 0, "takes a value and a level", "close"),
    ("f(" + ",".join("a" * 11) + ")", 22, "more than 10 arguments", None),
    ("(" * 100 + "a", MAXIMUM_DEPTH, "nested deeper", "names"),
    ("not " * 100 + "a", 4 * MAXIMUM_DEPTH, "nested deeper", "names"),
    ("-" * 100 + "a < 1", MAXIMUM_DEPTH, "nested deeper", "names"),
    ("+".join("a" * 300) + "> 1", 2 * MAXIMUM_PARTS, "more than 200 parts", "names"),
    ("a" + " for 1 bar" * 250, None, "longer than", None),
    ("a" * 101 + " > 1", 0, "longer than 100", None),
    ("a > ٣", 4, "is not understood", None),
    ("a\n > \x00b", 5, "is not understood", None),
]


@pytest.mark.parametrize(("text", "place", "reason", "hint"), WRONG)
def test_what_is_wrong_is_shown_at_its_place(text, place, reason, hint) -> None:
    with pytest.raises(RuleExpressionError) as caught:
        parse_condition(text)
    error = caught.value
    assert reason in error.reason
    if place is not None:
        assert error.position == place
    assert (error.hint is None) == (hint is None)
    assert hint is None or hint in error.hint
    shown = error.message.split("\n")
    assert shown[-1].strip() == "^"
    assert len(shown[-2]) <= 102
    if place is not None and place < len(text):
        under = text[place]
        assert shown[-2][len(shown[-1]) - 1] == (under if under.isprintable() else " ")


def test_the_caret_stands_below_the_line_at_fault() -> None:
    with pytest.raises(RuleExpressionError) as caught:
        parse_condition("a > 1 and\n  b > $ and\n  c > 1")
    assert caught.value.message.split("\n")[1:] == ["    b > $ and", "        ^"]


def test_a_value_is_no_condition() -> None:
    assert parse_value("close - 2 * atr") == Arithmetic("-", Name("close"), Arithmetic("*", Number(2.0), Name("atr")))
    with pytest.raises(RuleExpressionError, match="is a condition"):
        parse_value("a < b")


def test_nodes_know_their_characters() -> None:
    text = "a > 1 and crosses_up(b, 2) for 3 bars"
    spans = {text[node.start : node.end] for node in walk(parse_condition(text))}
    assert spans == {text, "a > 1", "a", "1", "crosses_up(b, 2) for 3 bars", "crosses_up(b, 2)", "b", "2"}
    assert names_in(parse_condition(text)) == ("a", "b")


def test_an_error_crosses_processes() -> None:
    with pytest.raises(RuleExpressionError) as caught:
        parse_condition("a >")
    copy = pickle.loads(pickle.dumps(caught.value))
    assert (str(copy), copy.position) == (str(caught.value), 3)


def test_the_nearest_name_is_offered() -> None:
    assert did_you_mean("rsi14", ("rsi_14", "close")) == "did you mean 'rsi_14'?"
    assert "close" in did_you_mean("zzz", ("rsi_14", "close"))


names = st.from_regex(r"[a-z][a-z0-9_]{0,5}", fullmatch=True).filter(
    lambda name: name not in KEYWORDS and not name.startswith("crosses_")
)
values = st.recursive(
    st.one_of(
        st.builds(Name, names),
        st.builds(Number, st.floats(-1e9, 1e9)),
        st.builds(Duration, st.integers(1, 10_000).map(lambda seconds: seconds * 10**9)),
    ),
    lambda inner: st.one_of(
        st.builds(Arithmetic, st.sampled_from("+-*/"), inner, inner),
        st.builds(Negative, inner.filter(lambda node: not isinstance(node, Number))),
        st.builds(lambda name, one, text: Call(name, (one, Text(text))), names, inner, st.sampled_from(["1h", "x y"])),
    ),
    max_leaves=5,
)
conditions = st.recursive(
    st.one_of(
        st.builds(Comparison, st.sampled_from(["<", "<=", ">", ">=", "==", "!="]), values, values),
        st.builds(Between, values, values, values),
        st.builds(Crossing, st.booleans(), values, values),
    ),
    lambda inner: st.one_of(
        st.builds(Not, inner),
        st.builds(Held, inner, st.integers(1, 99)),
        st.builds(lambda inner, hours: Held(inner, 0, hours * 3_600 * 10**9), inner, st.integers(1, 99)),
        st.builds(
            lambda parts, operator: Logical(
                operator, tuple(p for p in parts if not (isinstance(p, Logical) and p.operator == operator))
            ),
            st.lists(inner, min_size=2, max_size=3),
            st.sampled_from(["and", "or"]),
        ).filter(lambda node: len(node.parts) > 1),
    ),
    max_leaves=5,
)


@given(conditions)
@settings(max_examples=150, deadline=None)
def test_what_is_written_is_read_back(tree) -> None:
    assert parse_condition(str(tree)) == tree


@given(st.text(alphabet="ab01.%<>=!()+-*/,\" '\nfor and or not between bars crosses_up24h\x00é", max_size=60))
@settings(max_examples=300, deadline=None)
def test_any_text_is_a_tree_or_an_error_of_its_own(text: str) -> None:
    with contextlib.suppress(RuleExpressionError):
        tree = parse_condition(text)
        assert parse_condition(str(tree)) == tree
