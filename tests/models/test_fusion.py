"""Fusion: evidence adds up once, silence says nothing, and the fused probability comes true as often as it says."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone

from tapeline.charts.events import Findings, event_frame, standing
from tapeline.core.errors import ConfigurationError, DataError
from tapeline.evaluation.metrics import auc, brier_score, expected_calibration_error, log_loss
from tapeline.models.calibration import sigmoid
from tapeline.models.fusion import SignalFusion, event_signal
from tests.models.members import hours
from tests.support import make_bars

ROWS, LEARN = 8000, 6000


@pytest.fixture(scope="module")
def signals() -> tuple[pd.DataFrame, np.ndarray, Any]:
    """A model that is sure too seldom, a pattern that speaks a tenth of the time, its copy, and noise."""
    generator = np.random.default_rng(0)
    view = generator.normal(size=ROWS)
    spoke = generator.uniform(size=ROWS) < 0.1
    side = generator.choice([-1.0, 1.0], ROWS) * generator.uniform(0.5, 1, ROWS)
    y = (generator.uniform(size=ROWS) < sigmoid(view + 1.5 * side * spoke + 0.2)).astype(int)
    pattern = np.where(spoke, side, np.nan)
    frame = pd.DataFrame(
        {
            "model": sigmoid(0.4 * view),
            "pattern": pattern,
            "copy": pattern,
            "noise": generator.uniform(-1, 1, ROWS),
            "against": -pattern,
        }
    )
    return frame, y, hours(ROWS, 3)


@pytest.fixture(scope="module")
def fused(signals: Any) -> SignalFusion:
    frame, y, (t0, t_end) = signals
    fusion = SignalFusion(probabilities=("model",), signals=("pattern", "copy", "noise", "against"))
    return fusion.fit(frame[:LEARN], y[:LEARN], t0=t0[:LEARN], t_end=t_end[:LEARN])


def test_evidence_is_weighed_as_it_was_planted(fused: SignalFusion) -> None:
    weights = fused.weights_
    assert weights["model"] == pytest.approx(1 / 0.4, rel=0.15)
    assert weights["pattern"] + weights["copy"] == pytest.approx(1.5, rel=0.25)
    assert weights["noise"] < 0.1
    assert weights["against"] == 0
    assert min(weights.values()) >= 0


def test_a_copy_of_a_signal_adds_nothing(signals: Any, fused: SignalFusion) -> None:
    frame, y, (t0, t_end) = signals
    alone = SignalFusion(probabilities=("model",), signals=("pattern", "noise"))
    alone.fit(frame[:LEARN], y[:LEARN], t0=t0[:LEARN], t_end=t_end[:LEARN])
    both = fused.weights_["pattern"] + fused.weights_["copy"]
    assert both == pytest.approx(alone.weights_["pattern"], rel=0.05)
    apart = np.abs(fused.fuse(frame)["log_odds"] - alone.fuse(frame)["log_odds"])
    assert apart.max() < 0.1


@pytest.mark.parametrize("method", ["venn_abers", "isotonic", "platt"])
def test_the_fused_signal_is_calibrated_and_better_than_each_part(method: Any, signals: Any) -> None:
    frame, y, (t0, t_end) = signals
    fusion = SignalFusion(probabilities=("model",), signals=("pattern", "noise"), calibration=method)
    fusion.fit(frame[:LEARN], y[:LEARN], t0=t0[:LEARN], t_end=t_end[:LEARN])
    said, happened = fusion.predict_proba(frame[LEARN:])[:, 1], y[LEARN:]
    rows = ROWS - LEARN
    assert expected_calibration_error(happened, said) < 2 * 0.4 * np.sqrt(15 / rows)
    assert log_loss(happened, said) < log_loss(happened, frame["model"][LEARN:]) - 0.02
    assert auc(happened, said) > auc(happened, frame["model"][LEARN:])
    assert brier_score(happened, said) < 0.25
    # The model alone says too little: it is the one that was not calibrated.
    assert expected_calibration_error(happened, frame["model"][LEARN:]) > 0.08


def test_the_table_tells_where_a_signal_comes_from(signals: Any, fused: SignalFusion) -> None:
    frame = signals[0]
    table = fused.fuse(frame)
    parts = [name for name in table if str(name).startswith("contribution_")]
    assert len(parts) == 5
    assert (table[parts].sum(axis=1) + fused.intercept_).to_numpy() == pytest.approx(table["log_odds"], abs=1e-12)
    assert (table["low"] <= table["probability"] + 1e-12).all()
    assert (table["probability"] <= table["high"] + 1e-12).all()
    silent = frame["pattern"].isna()
    assert (table["contribution_pattern"][silent] == 0).all()
    assert (np.sign(table["contribution_pattern"][~silent]) == np.sign(frame["pattern"][~silent])).all()
    sure = table["direction"] != 0
    assert ((table["probability"] > 0.5) == (table["direction"] > 0))[sure].all()
    straddles = (table["low"] <= 0.5) & (table["high"] >= 0.5)
    assert (table["direction"][straddles] == 0).all()
    assert sure.mean() > 0.8


def test_where_nobody_speaks_there_is_no_direction(signals: Any, fused: SignalFusion) -> None:
    quiet = pd.DataFrame(np.nan, index=[0], columns=signals[0].columns)
    told = fused.fuse(quiet).iloc[0]
    assert told["log_odds"] == fused.intercept_
    assert told["direction"] == 0


def test_weights_never_see_the_calibration_rows(signals: Any, fused: SignalFusion) -> None:
    frame, y, (t0, t_end) = signals
    tail = int(LEARN * 0.7)
    turned = np.r_[y[:tail], 1 - y[tail:LEARN]]
    again = clone(fused).fit(frame[:LEARN], turned, t0=t0[:LEARN], t_end=t_end[:LEARN])
    assert again.weights_ == fused.weights_
    assert again.venn_abers_ != fused.venn_abers_
    # A row whose label reaches into the tail teaches neither.
    crossing = y[:LEARN].copy()
    crossing[tail - 3 : tail] = 1 - crossing[tail - 3 : tail]
    same = clone(fused).fit(frame[:LEARN], crossing, t0=t0[:LEARN], t_end=t_end[:LEARN])
    assert same.plan() == fused.plan()


@pytest.mark.parametrize("method", ["venn_abers", "isotonic", "platt"])
def test_its_plan_gives_the_same_table_to_the_bit(method: Any, signals: Any) -> None:
    frame, y, (t0, t_end) = signals
    weight = np.linspace(0.2, 1, 2000)
    first = SignalFusion(probabilities=("model",), signals=("pattern",), calibration=method)
    first.fit(frame[:2000], y[:2000], weight, t0=t0[:2000], t_end=t_end[:2000])
    again = SignalFusion.from_plan(json.loads(json.dumps(first.plan(), allow_nan=False)))
    pd.testing.assert_frame_equal(again.fuse(frame), first.fuse(frame), check_exact=True)


def test_a_plan_that_is_none_is_refused(fused: SignalFusion) -> None:
    for change in (
        {"weights": [1.0]},
        {"weights": [-1.0] * 5},
        {"intercept": float("nan")},
        {"venn_abers": {}},
        {"signals": []},
        {"calibration": {"kind": "pickle"}},
    ):
        with pytest.raises(DataError):
            SignalFusion.from_plan({**fused.plan(), **change})


def test_values_out_of_bounds_and_absent_columns_are_named(signals: Any, fused: SignalFusion) -> None:
    frame, y, (t0, t_end) = signals
    with pytest.raises(DataError, match=r"'model' holds 1\.5"):
        fused.fuse(frame.assign(model=1.5))
    with pytest.raises(DataError, match=r"'pattern' holds -1\.5"):
        fused.fuse(frame.assign(pattern=-1.5))
    with pytest.raises(ConfigurationError, match="noise"):
        fused.fuse(frame.drop(columns="noise"))
    for wrong in (
        SignalFusion(),
        SignalFusion(signals="pattern"),
        SignalFusion(signals=("pattern", "pattern")),
        SignalFusion(signals=("pattern",), ridge=0.0),
        SignalFusion(signals=("pattern",), calibration="guess"),  # type: ignore[arg-type]
    ):
        with pytest.raises(ConfigurationError):
            wrong.fit(frame, y, t0=t0, t_end=t_end)
    with pytest.raises(ConfigurationError, match="t0 and t_end"):
        SignalFusion(signals=("pattern",)).fit(frame, y)
    with pytest.raises(DataError, match="below the 50"):
        SignalFusion(signals=("pattern",)).fit(frame[:100], y[:100], t0=t0[:100], t_end=t_end[:100])


def test_events_become_a_signal_that_fades_and_ends() -> None:
    bars = make_bars(60)
    found = Findings(
        "level",
        np.array([1, -1], np.int8),
        np.array([2, 20]),
        np.array([3, 21]),
        np.array([4, 22]),
        low=np.array([1.0, 1.0]),
        high=np.array([1.1, 1.1]),
        score=np.array([0.8, 3.0]),
        invalidated=np.array([14, -1]),
    )
    signal = event_signal(standing(event_frame(bars, found, {}), bars), half_life=5).to_numpy()
    assert np.isnan(signal[:4]).all()
    assert signal[[4, 9]] == pytest.approx([0.8, 0.4])
    assert np.isnan(signal[14:22]).all()
    # A score above the full one counts fully, and a half-life that is infinite never fades.
    assert signal[[22, 27]] == pytest.approx([-1.0, -0.5])
    lasting = event_signal(pd.DataFrame({"direction": [1, 0], "age": [99, 1]}), half_life=float("inf"), confidence=None)
    assert lasting[0] == 1
    assert np.isnan(lasting[1])
    with pytest.raises(ConfigurationError, match="half_life"):
        event_signal(pd.DataFrame(), half_life=0)
    with pytest.raises(DataError, match="lacks"):
        event_signal(pd.DataFrame({"direction": [1.0]}), half_life=1)
    with pytest.raises(DataError, match="direction"):
        event_signal(pd.DataFrame({"direction": [2.0], "age": [0.0], "score": [1.0]}), half_life=1)
