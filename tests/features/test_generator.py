"""Formulas by rule are all there and none has a unit; a search finds what was planted and nothing in noise."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.stats import spearmanr

from tapeline.core.errors import ConfigurationError, DataError
from tapeline.core.timeframe import Timeframe
from tapeline.features.derived import BAR_DEGREES
from tapeline.features.engine import compute
from tapeline.features.feature_set import parse_feature_set
from tapeline.features.formula import evaluate, names_in, parse_formula
from tapeline.features.generator import formulas_by_rule, search_formulas
from tests.core.samples import eurusd

ROWS = 3000


def make_features(seed: int, rows: int = ROWS) -> pd.DataFrame:
    generator = np.random.default_rng(seed)
    return pd.DataFrame(generator.standard_normal((rows, 5)), columns=list("abcde"))


def test_rules_write_every_formula_once() -> None:
    names = ["a", "b", "c"]
    every = formulas_by_rule(names, ["product", "ratio", "difference", "rank", "zscore", "change"], windows=[10, 20])
    assert len(every) == 3 + 6 + 3 + 3 * 3 * 2
    assert len({one.name for one in every}) == len({one.formula for one in every}) == len(every)
    of_bars = formulas_by_rule(BAR_DEGREES, ["product", "ratio", "difference"])
    assert {one.name for one in of_bars} == {
        f"{x}_over_{y}" for x in BAR_DEGREES for y in BAR_DEGREES if x != y and "volume" not in (x, y)
    }
    with pytest.raises(ConfigurationError, match="no rule is called 'eval'"):
        formulas_by_rule(names, ["eval"])


def test_what_rules_write_is_computed_in_a_set_on_real_bars() -> None:
    features = [{"component": "rsi"}, {"component": "log_return"}]
    columns = parse_feature_set({"name": "x", "feature": features}).columns
    written = formulas_by_rule(columns, ["product", "ratio", "rank"], windows=[50])
    chosen = parse_feature_set({"name": "x", "feature": features, "derived": [vars(one) for one in written]})
    bars = eurusd().iloc[:700]
    found = compute(chosen, bars, Timeframe.parse("H1"))
    np.testing.assert_allclose(found["rsi_14_times_log_return_1"], found["rsi_14"] * found["log_return_1"], rtol=1e-5)
    told = (found["log_return_1"].rolling(50).rank() - 0.5) / 50
    np.testing.assert_allclose(found["log_return_1_rank_50"].dropna(), told.dropna(), atol=0.021)
    assert np.median(np.abs(found["log_return_1_rank_50"] - told).dropna()) < 1e-6


@pytest.mark.parametrize("planted", ["a * c", "b / d", "a * c + b"])
def test_a_planted_formula_is_found(planted: str) -> None:
    features = make_features(1)
    features["d"] = features["d"].abs() + 0.5
    columns = {name: features[name].to_numpy() for name in features}
    signal = evaluate(parse_formula(planted), columns)
    target = np.sign(signal + np.random.default_rng(9).standard_normal(ROWS) * signal.std())
    found = search_formulas(features, target)
    assert found[0].p_value <= 0.05
    best = parse_formula(found[0].declared.formula)
    assert abs(spearmanr(evaluate(best, columns), signal).statistic) > 0.9
    assert set(names_in(best)) == set(names_in(parse_formula(planted)))
    assert search_formulas(features, target) == found


def test_noise_confirms_almost_nothing() -> None:
    hits = 0
    for seed in range(6):
        target = np.random.default_rng(100 + seed).choice([-1.0, 1.0], 1500)
        hits += bool(search_formulas(make_features(seed, 1500), target))
    assert hits <= 1


def test_a_permuted_target_confirms_nothing_where_the_true_one_does() -> None:
    features = make_features(3)
    target = np.sign(features["a"] * features["b"] + np.random.default_rng(0).standard_normal(ROWS)).to_numpy()
    assert search_formulas(features, target, levels=1)
    assert not search_formulas(features, np.random.default_rng(1).permutation(target), levels=1)


def test_later_rows_decide_and_windows_stay_within_a_symbol() -> None:
    features = make_features(4)
    target = np.sign(features["a"] * features["b"]).to_numpy()
    faded = target.copy()
    faded[int(ROWS * 0.6) :] = np.random.default_rng(0).choice([-1.0, 1.0], ROWS - int(ROWS * 0.6))
    assert not search_formulas(features, faded, levels=1)
    # Two symbols row by row: the change of a since the symbol's own last row is what is planted.
    symbol = np.tile(["A", "B"], ROWS // 2)
    change = features["a"].groupby(symbol).diff().fillna(0.0)
    moved = search_formulas(features, np.sign(change), symbol=symbol, windows=[1], levels=1)
    assert moved[0].declared.formula == "difference(a, 1)"
    assert moved[0].confirmed > 0.8


def test_wrong_arguments_are_refused() -> None:
    features = make_features(0, 300)
    with pytest.raises(DataError, match="differ in number"):
        search_formulas(features, np.zeros(3))
    with pytest.raises(DataError, match="100 to confirm"):
        search_formulas(features, np.zeros(300), gap=100)
    with pytest.raises(ConfigurationError, match="cannot be a column"):
        search_formulas(features.rename(columns={"a": "a b"}), np.zeros(300))
