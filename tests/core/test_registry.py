"""What a component declares, and how a call is held against it."""

from __future__ import annotations

import functools
import pickle
from typing import Annotated, Literal

import pandas as pd
import pytest
from pydantic import Field

from tapeline.core.errors import ConfigurationError, DataError
from tapeline.core.registry import Catalog, component_of, feature, label, pattern, registered, research
from tests.core import leaks
from tests.support import make_bars


@feature(
    lookback=lambda window, factor: window * factor,
    outputs=("a_{window}", "b_{kind}"),
    requires=("{column}",),
    reference="here",
)
def example(
    bars: pd.DataFrame,
    window: Annotated[int, Field(ge=2)] = 3,
    factor: float = 2.0,
    kind: Literal["x", "y"] = "x",
    column: str = "close_ts",
) -> pd.DataFrame:
    """First line."""
    return pd.DataFrame({f"a_{window}": bars["close"], f"b_{kind}": bars["open"]})


def test_a_decorated_function_is_still_that_function() -> None:
    assert list(example(make_bars(5)).columns) == ["a_3", "b_x"]
    component = component_of(example)
    assert component.function is example
    assert (component.kind, component.name, component.summary) == ("feature", "example", "First line.")


def test_lookback_outputs_and_requirements_follow_the_parameters() -> None:
    component = component_of(example)
    assert component.lookback_of() == 6
    assert component.lookback_of(window=10, factor=1.5) == 15
    assert component.output_names(window=7, kind="y") == ["a_7", "b_y"]
    assert component.required_columns(column="vix_close") == ["vix_close"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"windw": 3}, "did you mean 'window'"),
        ({"zzz": 3}, "it takes window, factor, kind, column"),
        ({"window": 1}, "window = 1 is refused"),
        ({"window": "3"}, "window = '3' is refused"),
        ({"window": True}, "window = True is refused"),
        ({"window": 3.5}, r"window = 3\.5 is refused"),
        ({"kind": "z"}, "kind = 'z' is refused"),
        ({"factor": "2"}, "factor = '2' is refused"),
    ],
)
def test_wrong_parameters_are_named(given, message) -> None:
    with pytest.raises(ConfigurationError, match=message):
        component_of(example).parameters(given)


def test_an_integer_counts_as_a_float_and_a_parameter_without_default_is_needed() -> None:
    assert component_of(example).parameters({"factor": 3})["factor"] == 3

    @label(lookback=0, reference="")
    def needs(bars: pd.DataFrame, horizon: int) -> pd.DataFrame:
        return bars

    with pytest.raises(ConfigurationError, match=r"needs the parameters \['horizon'\]"):
        component_of(needs).parameters()


def test_compute_holds_the_result_against_the_declaration() -> None:
    bars = make_bars(20)
    component = component_of(example)
    assert list(component.compute(bars, window=4).columns) == ["a_4", "b_x"]
    with pytest.raises(ConfigurationError, match=r"needs the columns \['vix_close'\]"):
        component.compute(bars, column="vix_close")
    with pytest.raises(DataError, match="declared are"):
        component_of(leaks.another_column).compute(bars)

    @feature(lookback=1, outputs="short", reference="")
    def short(bars: pd.DataFrame) -> pd.Series:
        return bars["close"].iloc[1:]

    with pytest.raises(DataError, match="19 rows on another index"):
        component_of(short).compute(bars)


def test_a_series_takes_the_declared_name() -> None:
    assert list(component_of(leaks.previous_close).compute(make_bars(5)).columns) == ["value"]


def test_only_what_a_module_defines_itself_is_registered() -> None:
    names = [component.name for component in registered(leaks)]
    assert "peak" in names
    assert "label_honest" in names
    assert registered(pytest) == []


def test_the_catalog_finds_by_name_and_kind() -> None:
    catalog = Catalog(registered(leaks))
    assert catalog["peak"].kind == "pattern"
    assert {component.kind for component in catalog.values()} == {"feature", "pattern", "label"}
    assert [component.name for component in catalog.of_kind("label")] == sorted(
        ["label_honest", "label_ends_late", "label_guessed", "label_scaled_by_all"]
    )
    with pytest.raises(ConfigurationError, match="did you mean peak"):
        catalog["peek"]
    assert "peek" not in catalog


def test_two_components_of_one_name_are_refused() -> None:
    @pattern(lookback=1, reference="")
    def peak(bars: pd.DataFrame) -> pd.DataFrame:
        return bars

    with pytest.raises(ConfigurationError, match="two components are called 'peak'"):
        Catalog([*registered(leaks), component_of(peak)])


def test_a_plain_function_is_no_component() -> None:
    with pytest.raises(ConfigurationError, match="is not a registered component"):
        component_of(make_bars)


def test_what_reads_the_future_has_its_own_name_and_is_refused() -> None:
    def smoothed(bars: pd.DataFrame) -> pd.Series:
        return bars["close"]

    with pytest.raises(ConfigurationError, match="must say so"):
        research(smoothed)
    smoothed.__name__ = "smoothed_whole"
    marked = research(smoothed)
    for register in (feature(lookback=1, outputs="x", reference="r"), label(lookback=1, reference="r")):
        with pytest.raises(ConfigurationError, match="reads the future"):
            register(marked)
        with pytest.raises(ConfigurationError, match="reads the future"):
            register(functools.wraps(marked)(lambda bars: marked(bars)))


def test_a_component_states_its_delay_under_its_parameters() -> None:
    @feature(lookback=lambda window: window, outputs="x", reference="r", delay=lambda window: (window - 1) / 2)
    def averaged(bars: pd.DataFrame, window: int = 9) -> pd.Series:
        return bars["close"].rolling(window).mean()

    assert component_of(averaged).delay_of() == 4.0
    assert component_of(averaged).delay_of(window=5) == 2.0


def test_a_component_travels_by_its_name() -> None:
    component = Catalog.discover()["rsi"]
    assert pickle.loads(pickle.dumps(component)) is component
