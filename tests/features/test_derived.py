"""Formulas and lags of a feature set: the same values as by hand, live as in history, with versions of their own."""

from __future__ import annotations

import pickle

import numpy as np
import pandas as pd
import pytest

from tapeline.core.audit import audit
from tapeline.core.errors import ConfigurationError
from tapeline.core.timeframe import Timeframe
from tapeline.features.engine import compute
from tapeline.features.feature_set import diff, load_feature_set, parse_feature_set
from tapeline.features.lags import lag_features
from tapeline.features.panel import latest
from tapeline.features.set_writer import feature_set_text, subset
from tests.core.samples import eurusd, rough_bars
from tests.support import make_bars

H1 = Timeframe.parse("H1")
FEATURES = [{"component": "rsi"}, {"component": "return_moments"}, {"component": "log_return"}]
DERIVED = [
    {"name": "rsi_by_range", "formula": "rsi_14 * rank((high - low) / close, 20)"},
    {"name": "body_then", "formula": "lag((close - open) / maximum(high - low, 1e-9 * close), 2)"},
    {"name": "both", "formula": "rsi_by_range - mean(body_then, 5)"},
]
LAGS = [{"columns": ["rsi_14", "both"], "lags": [1, 6], "kinds": ["lag", "difference", "ratio"]}]


def make(**more: object):
    return parse_feature_set({"name": "mine", "feature": FEATURES, **more})


def test_lags_are_those_of_the_lag_table() -> None:
    chosen = make(derived=DERIVED, lag=LAGS)
    bars = rough_bars(700)
    found = compute(chosen, bars, H1)
    plain = compute(make(derived=DERIVED), bars, H1)
    wanted = lag_features(plain, [1, 6], columns=["rsi_14", "both"], kinds=["lag", "difference", "ratio"])
    assert chosen.columns == (*plain.columns[1:], *wanted.columns)
    # The table takes lags of float32, the engine of float64: they differ by one rounding.
    np.testing.assert_allclose(found[wanted.columns], wanted.astype(np.float32), rtol=2e-5, atol=2e-5)
    assert found["both_ratio_6"].notna().sum() > 500


def test_formulas_are_what_they_say() -> None:
    bars = eurusd().iloc[:800]
    found = compute(make(derived=DERIVED), bars, H1)
    high_low = (bars["high"] - bars["low"]) / bars["close"]
    rank = (high_low.rolling(20).rank() - 0.5) / 20
    rsi = make().features[0].component.compute(bars)["rsi_14"]
    body = ((bars["close"] - bars["open"]) / np.maximum(bars["high"] - bars["low"], 1e-9 * bars["close"])).shift(2)
    both = rsi * rank - body.rolling(5).mean()
    np.testing.assert_allclose(found["rsi_by_range"], rsi * rank, rtol=1e-5)
    np.testing.assert_allclose(found["both"], both, rtol=1e-5, atol=1e-6)


def test_the_lookback_is_extended_and_the_tail_equals_history() -> None:
    chosen = make(derived=DERIVED, lag=LAGS)
    rsi = make().features[0].lookback
    assert {feature.lookback for feature in chosen.features[3:]} == {rsi + 6}
    bars = rough_bars(chosen.lookback + 300)
    history, live = compute(chosen, bars, H1), compute(chosen, bars, H1, tail=1)
    np.testing.assert_allclose(live[list(chosen.columns)], history[list(chosen.columns)].iloc[-1:], rtol=1e-5)


def test_a_formula_passes_the_audit_that_every_component_passes() -> None:
    (feature,) = make(derived=DERIVED, lag=LAGS).features[3:]
    rows = feature.lookback + 200
    findings = audit(feature.component, rough_bars(rows), H1, cuts=20)
    assert not [str(finding) for finding in findings if not finding.passed]


def test_a_panel_gives_each_symbol_its_own_whatever_the_unit() -> None:
    chosen = make(
        derived=[
            *DERIVED,
            {"name": "turnover", "formula": "mean(close * volume, 5)"},
            {"name": "half", "formula": "0.5"},
        ]
    )
    panel = {name: make_bars(700, seed=seed) for seed, name in enumerate("AB")}
    panel["B"][["open", "high", "low", "close"]] *= 60_000.0
    found = latest(chosen, panel, H1)
    for name, bars in panel.items():
        alone = compute(chosen, bars, H1, tail=1)[list(chosen.columns)].iloc[0]
        np.testing.assert_allclose(found.loc[name, list(chosen.columns)].astype(float), alone, rtol=2e-5, atol=1e-6)


def test_the_version_follows_the_formula_and_what_it_reads() -> None:
    base = make(derived=DERIVED)
    same = make(derived=[{**DERIVED[0], "formula": "rsi_14*rank( (high-low)/close , 20)"}, *DERIVED[1:]])
    assert base.version == same.version
    other = make(derived=[{**DERIVED[0], "formula": "rsi_14 * rank((high - low) / close, 21)"}, *DERIVED[1:]])
    assert len({make().version, base.version, other.version}) == 3
    assert any("rank" in line and "21" in line for line in diff(base, other))
    read = {"derived": [{"name": "x", "formula": "rsi_9 - rsi_9"}]}
    hidden = make(source=[{"component": "rsi", "window": 9}], **read)
    assert hidden.columns[-1] == "x"
    assert "rsi_9" not in hidden.columns
    assert hidden.version != make().version


def test_a_set_with_formulas_travels_to_another_process() -> None:
    chosen = make(derived=DERIVED, lag=LAGS)
    bars = make_bars(400)
    again = pickle.loads(pickle.dumps(chosen))
    pd.testing.assert_frame_equal(compute(again, bars, H1), compute(chosen, bars, H1))
    assert again.version == chosen.version


def test_context_columns_can_be_read() -> None:
    content = {
        "name": "x",
        "feature": [],
        "derived": [{"name": "calm", "formula": "mean(vix_close, 3) / vix_close"}],
        "context": {"vix": {"symbol": "VIX", "timeframe": "D1"}},
    }
    chosen = parse_feature_set(content)
    bars, vix = make_bars(100), make_bars(30, timeframe="D1", start="2016-12-20")
    found = compute(chosen, bars, H1, context={"vix": (vix, Timeframe.parse("D1"))})
    assert found["calm"].notna().sum() > 90
    with pytest.raises(ConfigurationError, match="'calm' reads 'vix_close'"):
        parse_feature_set({**content, "context": {}})


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (
            {"derived": [{"name": "x", "formula": "rsi_15"}]},
            "reads 'rsi_15'.*did you mean 'rsi_14'",
        ),
        ({"derived": [{"name": "x", "formula": "y"}, {"name": "y", "formula": "rsi_14"}]}, "reads 'y'"),
        ({"derived": [{"name": "close", "formula": "rsi_14"}]}, "cannot be called 'close'"),
        ({"derived": [{"name": "../x", "formula": "rsi_14"}]}, "cannot be called"),
        ({"derived": [{"name": "{x}", "formula": "rsi_14"}]}, "cannot be called"),
        ({"derived": [DERIVED[0], DERIVED[0]]}, "cannot be called 'rsi_by_range'"),
        ({"derived": [{"name": "rsi_14", "formula": "rsi_14 * 2"}]}, "the name of a column of rsi"),
        ({"derived": [{"name": "rsi_14", "formula": "rsi_14"}]}, "the column 'rsi_14' is written by"),
        ({"derived": [{"name": "known_at", "formula": "rsi_14"}]}, "is taken"),
        ({"derived": [{"name": "x", "formula": "close + volume"}]}, "'x': the sides"),
        ({"lag": [{"columns": ["rsi_14"], "lags": [0]}]}, "whole number from 1"),
        ({"lag": [{"columns": ["rsi_14"], "lags": [-1]}]}, "lag"),
        ({"lag": [{"columns": ["rsi_14"], "lags": [1], "kinds": ["lead"]}]}, "'lag.0.kinds.0'"),
        ({"lag": [{"columns": ["rsi_14"], "lags": [2, 2]}]}, "cannot be called 'rsi_14_lag_2'"),
        ({"lag": [{"columns": ["nothing"], "lags": [1]}]}, "reads 'nothing'"),
    ],
)
def test_what_a_set_may_not_derive(more, message) -> None:
    with pytest.raises(ConfigurationError, match=message):
        make(**more)


def test_a_set_written_and_read_is_the_same_version(tmp_path) -> None:
    whole = parse_feature_set(
        {
            "name": "mine",
            "feature": [*FEATURES, {"component": "context_return", "column": "gold_close"}, {"component": "macd"}],
            "derived": DERIVED,
            "lag": LAGS,
            "context": {"gold": {"symbol": "XAUUSD", "timeframe": "D1", "tolerance_days": 2.5}},
        }
    )
    file = tmp_path / "x.toml"
    chosen = [whole.columns[2], "both_lag_6", whole.features[4].columns[0], "rsi_by_range"]
    for one in (whole, load_feature_set(), subset(whole, chosen), subset(whole, ["gold_close_return_24"])):
        file.write_text(
            feature_set_text(one, description='of "many"\nlines \x7f', provenance={"by": "me", "n": [1, 2.5]})
        )
        again = load_feature_set(file)
        assert again.version == one.version
        assert again.columns == one.columns


def test_a_subset_computes_what_the_whole_computes() -> None:
    whole = make(derived=DERIVED, lag=LAGS)
    chosen = (whole.columns[3], "both_difference_1", whole.columns[1])
    part = subset(whole, chosen, name="few")
    assert set(part.columns) == set(chosen)
    assert part.name == "few"
    bars = rough_bars(600)
    together, alone = compute(whole, bars, H1), compute(part, bars, H1)
    pd.testing.assert_frame_equal(alone[list(chosen)], together[list(chosen)])
    with pytest.raises(ConfigurationError, match="no columns \\['nothing'\\]"):
        subset(whole, ["nothing"])
    with pytest.raises(ConfigurationError, match="no column was chosen"):
        subset(whole, [])
