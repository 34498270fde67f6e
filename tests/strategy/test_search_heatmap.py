"""Cells against medians taken one by one, groups of drawn numbers, and a picture that is the same each time."""

from __future__ import annotations

import statistics

import numpy as np
import pandas as pd
import pytest

from tapeline.core.errors import ConfigurationError
from tapeline.strategy.search_heatmap import search_heatmap
from tapeline.strategy.search_space import ParameterDraws, ParameterRange, grid_sets, neighbours


@pytest.fixture(scope="module")
def sets() -> pd.DataFrame:
    frame = pd.DataFrame(grid_sets({"a": [3, 1, 2], "b": ["low", "high"], "c": [0.5, 1.5, 2.5]}))
    frame["sharpe"] = np.random.default_rng(0).normal(size=len(frame))
    return frame.drop(index=[0, 1, 2])


def test_a_cell_is_the_median_over_the_other_parameters(sets) -> None:
    found = search_heatmap(sets, "a", "b", parameters=("a", "b", "c"))
    assert found.over == ("c",)
    assert found.title == "sharpe, median over c"
    assert found.frame.columns.tolist() == [1, 2, 3]
    for b in ("low", "high"):
        for a in (1, 2, 3):
            cell = [one["sharpe"] for one in sets.to_dict("records") if one["a"] == a and one["b"] == b]
            value = found.frame.loc[b, a]
            assert value == pytest.approx(statistics.median(cell)) if cell else np.isnan(value)
    assert np.isnan(found.frame.loc["low", 3])


def test_many_numbers_are_grouped() -> None:
    draws = ParameterDraws({"x": ParameterRange(0.0, 1.0), "y": ParameterRange(1, 5)}, "random", trials=240, seed=0)
    frame = pd.DataFrame(draws.block(240))
    frame["sharpe"] = frame["x"]
    found = search_heatmap(frame, "x", "y", parameters=("x", "y"))
    assert found.frame.shape == (5, 12)
    assert found.title == "sharpe"
    assert np.abs(found.frame - found.frame.columns.to_numpy()).max(axis=None) < 0.1


def test_the_same_picture_has_the_same_bytes(sets) -> None:
    found = search_heatmap(sets, "a", "c", parameters=("a", "b", "c"))
    first = found.picture()
    assert first == found.picture()
    assert b"<svg" in first
    assert found.picture("png").startswith(b"\x89PNG")
    other = search_heatmap(sets.assign(sharpe=-sets["sharpe"]), "a", "c", parameters=("a", "b", "c"))
    assert other.picture() != first


@pytest.mark.parametrize(("x", "y", "value"), [("a", "a", "sharpe"), ("a", "z", "sharpe"), ("a", "b", "profit")])
def test_a_map_needs_two_parameters_and_a_figure(sets, x, y, value) -> None:
    with pytest.raises(ConfigurationError, match="cannot be drawn"):
        search_heatmap(sets, x, y, value=value)


def test_neighbours_differ_by_one_step_in_one_parameter() -> None:
    sets = grid_sets({"a": [1, 10, 100], "b": ["x", "y", "z"]})
    for which, one in enumerate(sets):
        rank = [1, 10, 100].index(one["a"])
        around = [
            row
            for row, other in enumerate(sets)
            if (abs([1, 10, 100].index(other["a"]) - rank) == 1 and other["b"] == one["b"])
            or (other["a"] == one["a"] and other["b"] != one["b"])
        ]
        assert neighbours(sets, which).tolist() == around


def test_sets_drawn_from_ranges_have_their_nearest_as_neighbours() -> None:
    sets = [{"x": x, "y": x} for x in (0.0, 0.1, 0.2, 0.3, 5.0, 9.0)]
    assert neighbours(sets, 1).tolist() == [0, 2, 3, 4]
