"""The language of formulas: what it means (pandas as the oracle), what it refuses, how far it looks back."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tapeline.core.errors import ConfigurationError
from tapeline.features.formula import (
    FUNCTIONS,
    Call,
    Column,
    Number,
    degrees_of,
    evaluate,
    lookback_of,
    names_in,
    parse_formula,
    replace_columns,
    size,
)

ROWS = 60
PANDAS = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
    "/": lambda a, b: a / b.where(b != 0),
    "negative": lambda a: -a,
    "abs": lambda a: a.abs(),
    "sign": lambda a: np.sign(a),
    "sqrt": lambda a: np.sqrt(a.where(a >= 0)),
    "log": lambda a: np.log(a.where(a > 0)),
    "tanh": lambda a: np.tanh(a),
    "minimum": lambda a, b: np.minimum(a, b),
    "maximum": lambda a, b: np.maximum(a, b),
    "lag": lambda a, n: a.shift(n),
    "difference": lambda a, n: a.diff(n),
    "ratio": lambda a, n: a / a.shift(n).where(a.shift(n) != 0),
    "mean": lambda a, n: a.rolling(n).mean(),
    "deviation": lambda a, n: a.rolling(n).std(ddof=0),
    "zscore": lambda a, n: (a - a.rolling(n).mean()) / a.rolling(n).std(ddof=0),
    "rank": lambda a, n: (a.rolling(n).rank() - 0.5) / n,
}


@pytest.fixture
def columns() -> dict[str, np.ndarray]:
    generator = np.random.default_rng(3)
    a, b = generator.standard_normal((2, ROWS))
    a[7], b[20:22], b[40] = np.nan, np.nan, 0.0
    return {"a": a, "b": b}


@pytest.mark.parametrize("name", sorted(FUNCTIONS))
def test_each_function_is_what_pandas_makes_of_it(name: str, columns) -> None:
    function = FUNCTIONS[name]
    bars = (5,) if function.longest else ()
    arguments = (Column("a"), Column("b"))[: function.arity]
    found = evaluate(Call(name, arguments, *bars), columns)
    told = PANDAS[name](*(pd.Series(columns[x]) for x in "ab"[: function.arity]), *bars)
    np.testing.assert_allclose(found, told.to_numpy(), rtol=1e-9, atol=1e-12)
    assert np.isfinite(found).sum() > 10


def test_precedence_is_that_of_arithmetic(columns) -> None:
    a, b = columns["a"], columns["b"]
    for text, wanted in {
        "a + b * 2": a + b * 2,
        "(a + b) * 2": (a + b) * 2,
        "a - b - 1.5": (a - b) - 1.5,
        "a / b / 2": np.where(b == 0, np.nan, a / np.where(b == 0, 1, b) / 2),
        "-a * -2e-1": a * 0.2,
        "minimum(a, -b) + abs( a )": np.minimum(a, -b) + np.abs(a),
        "3": np.full(ROWS, 3.0),
    }.items():
        np.testing.assert_allclose(evaluate(parse_formula(text), columns), wanted, rtol=1e-12, err_msg=text)


EXPRESSIONS = st.recursive(
    st.one_of(
        st.sampled_from([Column("a"), Column("b")]),
        st.floats(0, 1e6, allow_nan=False).map(Number),
    ),
    lambda inner: st.one_of(
        *(
            st.builds(
                Call,
                st.just(name),
                st.tuples(*[inner] * function.arity),
                st.integers(function.shortest, 12) if function.longest else st.just(0),
            )
            for name, function in FUNCTIONS.items()
        )
    ),
    max_leaves=8,
)


@settings(max_examples=150, deadline=None)
@given(EXPRESSIONS)
def test_the_text_of_a_formula_is_the_formula_and_its_lookback_decides_it(expression) -> None:
    again = parse_formula(str(expression))
    assert str(again) == str(expression)
    if "a" not in names_in(expression):
        return
    generator = np.random.default_rng(0)
    columns = dict(zip("ab", generator.standard_normal((2, 120)), strict=True))
    whole = evaluate(expression, columns)
    assert np.isfinite(whole[~np.isnan(whole)]).all()
    reach = lookback_of(expression, {"a": 1, "b": 1})
    changed = {name: values.copy() for name, values in columns.items()}
    for values in changed.values():
        values[: 120 - reach] = generator.standard_normal(120 - reach) if reach < 120 else 0.0
    np.testing.assert_array_equal(evaluate(expression, changed)[-1], whole[-1])
    future = {name: np.append(values, [7.0, -7.0]) for name, values in columns.items()}
    np.testing.assert_array_equal(evaluate(expression, future)[:120], whole)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "a number or '\\(' is missing at its end"),
        ("a +", "missing at its end"),
        ("a b", "'b' at character 3 is too much"),
        ("(a", "'\\)' is missing before its end"),
        ("a ** 2", "missing at '\\*'"),
        ("__import__('os').system('x')", "'_' at character 1"),
        ("a.__class__", "'_' at character|is not understood|is not there|reads"),
        ("a[0]", "'\\[' at character 2"),
        ("exec(a)", "there is no function 'exec'"),
        ("lambda: 1", "':' at character 7"),
        ("lag(a)", "',' is missing"),
        ("lag(a, 0)", "whole number from 1"),
        ("lag(a, -1)", "the bars of lag\\(\\) are -"),
        ("lag(a, 1.5)", "are 1.5"),
        ("lag(a, b)", "are b"),
        ("mean(a, 1)", "from 2 to 5000"),
        ("mean(a, 5001)", "are 5001"),
        ("lag(a, 99999999999999999999)", "whole number"),
        ("a, b", "',' at character 2 is too much"),
        ("1e999", "too large"),
        ("(" * 50 + "a" + ")" * 50, "nested deeper than 40"),
        ("+".join("a" * 500), "more than 400 parts"),
        ("a" * 3000, "longer than 2000"),
        ("\u0430 + 1", "is not understood"),  # a Cyrillic letter
    ],
)
def test_what_is_no_formula_is_refused_by_name(text: str, message: str) -> None:
    if text == "a.__class__":
        # One odd name, not an attribute: nothing in the language reaches into an object.
        assert names_in(parse_formula(text)) == ("a.__class__",)
        return
    with pytest.raises(ConfigurationError, match=message):
        parse_formula(text)


def test_a_long_chain_is_walked_without_running_out_of_stack() -> None:
    longest = parse_formula("+".join("a" * 200))
    assert size(longest) == 399
    assert evaluate(longest, {"a": np.ones(2)}).tolist() == [200.0, 200.0]


def test_units_are_followed_and_wrong_ones_refused() -> None:
    units = {"close": (1, 0), "volume": (0, 1), "rsi": (0, 0)}
    for text, wanted in {
        "close * volume": (1, 1),
        "close / lag(close, 3)": (0, 0),
        "rank(volume, 10) * rsi": (0, 0),
        "sqrt(close * close)": (1, 0),
        "mean(close, 5) - close": (1, 0),
        "2 * volume": (0, 1),
        "log(close / mean(close, 9))": (0, 0),
    }.items():
        assert degrees_of(parse_formula(text), units) == wanted, text
    for text, message in {
        "close + volume": "different units",
        "close + 1": "different units",
        "maximum(rsi, close)": "different units",
        "log(close)": "without a unit",
        "sqrt(volume)": "no whole degree",
    }.items():
        with pytest.raises(ConfigurationError, match=message):
            degrees_of(parse_formula(text), units)


def test_a_formula_of_formulas_cannot_grow_without_bound() -> None:
    inner = parse_formula("+".join("a" * 100))
    assert size(replace_columns(parse_formula("b + 1"), {"b": inner})) == 201
    with pytest.raises(ConfigurationError, match="more than 400"):
        replace_columns(parse_formula("b * b * b"), {"b": inner})


def test_what_is_beyond_float32_is_undefined() -> None:
    columns = {"a": np.array([1e30, 1.0, 1e200])}
    found = evaluate(parse_formula("a * a"), columns)
    assert np.isnan(found[[0, 2]]).all()
    assert found[1] == 1.0
    assert np.isnan(evaluate(parse_formula("1 / (a * a)"), columns)[2]), "an overflow must not come back as 0"
