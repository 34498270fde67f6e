"""Conformal sets cover as often as they promise: exchangeable rows, each class alone, and rows that drift."""

from __future__ import annotations

import json
import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tapeline.core.errors import ConfigurationError, DataError
from tapeline.models.conformal import (
    AdaptiveConformal,
    ConformalSets,
    adaptive_sets,
    coverage_table,
    fit_conformal,
    set_kinds,
)
from tests.models.members import hours


def draw(generator: np.random.Generator, rows: int, share: float = 0.5) -> tuple[np.ndarray, np.ndarray]:
    """A rarer or more frequent class 1, and probabilities that are neither calibrated nor symmetric."""
    y = (generator.uniform(size=rows) < share).astype(int)
    return 1 / (1 + np.exp(-(2 * y - 1.5 + generator.normal(0, 1.2, rows)))), y


@pytest.mark.parametrize("by_class", [False, True])
@pytest.mark.parametrize("rows", [19, 60])
def test_sets_cover_exchangeable_rows_as_often_as_promised_and_hardly_more(rows: int, by_class: bool) -> None:
    generator = np.random.default_rng(0)
    hits = []
    for _ in range(3000):
        p, y = draw(generator, rows + 1)
        held = fit_conformal(p[:-1], y[:-1], miscoverage=0.2, by_class=by_class).sets(p[-1:])
        hits.append(held[0, y[-1]])
    error = 3 * math.sqrt(0.2 * 0.8 / len(hits))
    # 1 - miscoverage <= coverage <= 1 - miscoverage + 1 / (rows of the class + 1), as the theorem has it.
    assert 0.8 - error < np.mean(hits) < 0.8 + (3 if by_class else 1) / (rows + 1) + error


def test_by_class_the_rare_class_is_covered_as_well() -> None:
    generator = np.random.default_rng(1)
    p, y = draw(generator, 20_000, share=0.1)
    fitted, asked = slice(0, 10_000), slice(10_000, None)
    together = coverage_table(fit_conformal(p[fitted], y[fitted]).sets(p[asked]), y[asked])
    apart = coverage_table(fit_conformal(p[fitted], y[fitted], by_class=True).sets(p[asked]), y[asked])
    assert together.loc["all", "coverage"] == pytest.approx(0.9, abs=0.01)
    assert together.loc["1", "coverage"] < 0.8
    assert apart.loc[["0", "1"], "coverage"].to_numpy() == pytest.approx([0.9, 0.9], abs=0.03)
    assert apart.loc["all", "{0,1}"] > together.loc["all", "{0,1}"]


def test_the_threshold_is_the_order_statistic_of_the_definition() -> None:
    p, y = np.array([0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1]), np.ones(9, int)
    # Of nine nonconformities 0.1 .. 0.9 the eighth: ceil(10 * 0.8).
    assert fit_conformal(p, y, miscoverage=0.2).up == pytest.approx(0.8)
    assert fit_conformal(p, y, miscoverage=0.1).up == pytest.approx(0.9)
    assert fit_conformal(p, y, miscoverage=0.05).up == math.inf
    # A class without rows can never be ruled out.
    assert set_kinds(fit_conformal(p, y, miscoverage=0.2, by_class=True).sets([0.0, 1.0])).tolist() == ["{0}", "{0,1}"]


def bound(rows: int, rate: float, delay: int) -> float:
    """How far the share of misses may be from its aim: the level stays within (1 + delay) steps of [0, 1]."""
    return (1 + 2 * rate * (1 + delay)) / (rate * rows) + delay / rows


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from([0.05, 0.1, 0.3, 0.5]),
    st.sampled_from([0.02, 0.1, 0.5]),
    st.integers(0, 12),
    st.integers(1, 200),
)
def test_long_run_coverage_holds_whatever_the_rows_are(
    seed: int, miscoverage: float, rate: float, horizon: int, window: int
) -> None:
    """Drift, turned classes, constants: the guarantee asks nothing of the rows."""
    generator = np.random.default_rng(seed)
    rows = 1500
    kind = generator.integers(0, 4)
    p = generator.uniform(size=rows) if kind else np.full(rows, 0.99)
    agrees = np.sin(np.arange(rows) * generator.uniform(0.001, 0.05)) > generator.uniform(-1, 1, rows) * (kind != 1)
    y = np.where(agrees, p > 0.5, p <= 0.5).astype(int)
    t0, t_end = hours(rows, horizon)
    given_sets = adaptive_sets(p, y, t0, t_end, miscoverage=miscoverage, rate=rate, window=window)
    missed = ~given_sets[["down", "up"]].to_numpy()[np.arange(rows), y]
    assert abs(missed.mean() - miscoverage) <= bound(rows, rate, horizon + 1)


def test_under_drift_the_adaptive_sets_hold_where_split_ones_fail() -> None:
    generator = np.random.default_rng(4)
    rows = 6000
    strength = np.where(np.arange(rows) < 2000, 2.0, -1.0)
    y = generator.integers(0, 2, rows)
    p = 1 / (1 + np.exp(-(strength * (2 * y - 1) + generator.normal(0, 1, rows))))
    t0, t_end = hours(rows)
    adaptive = adaptive_sets(p, y, t0, t_end, miscoverage=0.1, rate=0.02, window=300)[["down", "up"]].to_numpy()
    split = fit_conformal(p[:2000], y[:2000], miscoverage=0.1).sets(p)
    later = slice(3000, None)
    assert coverage_table(adaptive[later], y[later]).loc["all", "coverage"] == pytest.approx(0.9, abs=0.02)
    assert coverage_table(split[later], y[later]).loc["all", "coverage"] < 0.5


@pytest.mark.parametrize("horizon", [0, 5])
def test_one_pass_says_what_the_state_says_row_by_row(horizon: int) -> None:
    generator = np.random.default_rng(5)
    p, y = draw(generator, 300)
    t0, t_end = hours(300, horizon)
    order = generator.permutation(300)
    batch = adaptive_sets(p[order], y[order], t0[order], t_end[order], miscoverage=0.2, rate=0.05, window=40)
    batch = batch.iloc[np.argsort(order)].reset_index(drop=True)
    state = AdaptiveConformal(0.2, 0.05, 40)
    said: list[np.ndarray] = []
    for row in range(300):
        known = row - horizon - 1
        if known >= 0:
            state.learn(p[known], int(y[known]), missed=not said[known][y[known]])
        state = AdaptiveConformal.from_json(json.loads(json.dumps(state.to_json())))
        said.append(state.sets(p[row : row + 1])[0])
        assert batch["level"][row] == pytest.approx(state.level, abs=1e-12)
    assert np.array_equal(batch[["down", "up"]].to_numpy(), np.array(said))


def test_what_comes_later_changes_no_set() -> None:
    generator = np.random.default_rng(6)
    p, y = draw(generator, 400)
    t0, t_end = hours(400, 7)
    first = adaptive_sets(p, y, t0, t_end)
    # Classes of rows whose label had not ended before row 300 was decided.
    turned = np.where(np.arange(400) >= 300 - 7, 1 - y, y)
    pd.testing.assert_frame_equal(adaptive_sets(p, turned, t0, t_end)[:301], first[:301])


def test_sets_and_states_come_back_from_json() -> None:
    for made in (fit_conformal([0.2, 0.7, 0.9], [0, 1, 1], miscoverage=0.4), ConformalSets(0.1, math.inf, 0.3)):
        assert ConformalSets.from_json(json.loads(json.dumps(made.to_json(), allow_nan=False))) == made
    for wrong in (
        {},
        {"miscoverage": 0.1, "down": 10**400, "up": 0},
        {"miscoverage": 2, "down": 0, "up": 0},
        {"miscoverage": 0.1, "down": float("nan"), "up": 0},
    ):
        with pytest.raises(DataError):
            ConformalSets.from_json(wrong)
    whole = AdaptiveConformal().to_json()
    for change in ({"level": float("inf")}, {"distances": [3.0]}, {"rate": -1}, {"window": 0}, {"distances": None}):
        with pytest.raises(DataError):
            AdaptiveConformal.from_json({**whole, **change})


def test_the_table_counts_sets() -> None:
    table = coverage_table(np.array([[1, 0], [0, 1], [1, 1], [0, 0]], dtype=bool), [0, 0, 0, 0])
    assert table.loc["all"].tolist() == [4, 0.5, 0.25, 0.25, 0.25, 0.25]
    assert np.isnan(table.loc["1", "coverage"])


def test_what_is_out_of_bounds_is_refused() -> None:
    for wrong in (0.0, 1.0, -0.1, float("nan")):
        with pytest.raises(ConfigurationError, match="miscoverage"):
            fit_conformal([0.5], [1], miscoverage=wrong)
    with pytest.raises(ConfigurationError, match="rate"):
        AdaptiveConformal(rate=0.0)
    with pytest.raises(ConfigurationError, match="window"):
        AdaptiveConformal(window=0)
    for p, y in (([], []), ([1.2], [1]), ([0.5], [2]), ([float("nan")], [1]), ([0.5, 0.5], [1])):
        with pytest.raises(DataError):
            fit_conformal(p, y)
    t0, t_end = hours(3, 1)
    with pytest.raises(DataError, match="before its decision"):
        adaptive_sets([0.5] * 3, [0, 1, 0], t_end, t0)
    with pytest.raises(DataError, match="do not belong together"):
        adaptive_sets([0.5] * 2, [0, 1], t0, t_end)
