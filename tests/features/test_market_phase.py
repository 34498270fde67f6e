"""Phases on staged cycles; the hidden Markov model against hmmlearn, and its filter against a slow one."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from tapeline.core.errors import DataError
from tapeline.features.hidden_markov import (
    GaussianHmm,
    filter_step,
    fit_gaussian_hmm,
    period_starts,
    rolling_filtered,
)
from tapeline.features.market_phase import PHASES, phase_probability, wyckoff_phase
from tests.core.samples import eurusd


def observations(rows: int = 400, seed: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """Two numbers of three states that last about 20 steps each, and the states."""
    generator = np.random.default_rng(seed)
    state = np.zeros(rows, dtype=np.int64)
    for i in range(1, rows):
        state[i] = state[i - 1] if generator.random() < 0.95 else generator.integers(3)
    centres = np.array([[-1.0, 0.5], [0.0, -1.0], [1.2, 0.8]])
    return centres[state] + generator.normal(0, 0.4, (rows, 2)), state


def staged_cycle(length: int = 150, lead: int = 0) -> tuple[pd.DataFrame, np.ndarray]:
    """Decline, range, advance, range, decline: closes of a Wyckoff cycle with noise, and the stage of each bar."""
    generator = np.random.default_rng(1)
    lengths = [length + lead, length, length, length, length]
    slopes = np.repeat([-0.001, 0.0, 0.001, 0.0, -0.001], lengths)
    stage = np.repeat([3, 0, 1, 2, 3], lengths)
    swing = np.where(slopes == 0.0, 0.004 * np.sin(np.arange(slopes.size) / 2.5), 0.0)
    close = 100 * np.exp(np.cumsum(slopes) + swing + np.cumsum(generator.normal(0, 1e-4, slopes.size)))
    opened = np.r_[close[0], close[:-1]]
    ts = pd.date_range("2017-01-02", periods=close.size, freq="h", tz="UTC", name="ts").as_unit("ns")
    high, low = np.maximum(opened, close) * 1.0002, np.minimum(opened, close) * 0.9998
    bars = pd.DataFrame({"open": opened, "high": high, "low": low, "close": close, "volume": 100.0}, index=ts)
    return bars, stage


def test_the_rule_tells_the_four_stages_of_a_cycle() -> None:
    bars, stage = staged_cycle()
    phases = wyckoff_phase(bars, window=30, memory=240)
    known = phases.notna().all(axis=1).to_numpy()
    assert (phases[known].sum(axis=1) <= 1).all()
    # A phase is told by the last 30 bars: the first 40 of each stage belong to the change.
    settled = known & (np.arange(len(bars)) % 150 >= 40)
    said = phases.to_numpy()[settled].argmax(axis=1)
    agreement = (said == stage[settled]).mean()
    assert agreement > 0.95, agreement
    assert set(said) == {0, 1, 2, 3}


def test_volume_on_the_falls_turns_a_range_after_a_decline_into_a_distribution() -> None:
    bars, stage = staged_cycle(lead=200)
    falling = bars["close"] < bars["open"]
    sold = bars.assign(volume=np.where(falling, 1000.0, 10.0))
    rows = np.flatnonzero(stage == 0)[45:105]
    plain = wyckoff_phase(bars, window=30, memory=240).iloc[rows]
    heavy = wyckoff_phase(sold, window=30, memory=240).iloc[rows]
    assert plain["accumulation"].mean() > 0.9
    assert heavy["distribution"].mean() > 0.3


def test_on_real_bars_the_rule_names_what_price_did() -> None:
    bars = eurusd()
    phases = wyckoff_phase(bars).dropna()
    assert (phases.sum(axis=1) <= 1).all()
    assert (phases.mean() > 0.02).all(), "each phase comes about"
    moved = np.log(bars["close"]).diff(40).loc[phases.index]
    assert (moved[phases["markup"] == 1] > 0).all()
    assert (moved[phases["markdown"] == 1] < 0).all()
    ranging = (phases["accumulation"] + phases["distribution"]) == 1
    assert moved[ranging].abs().median() < moved[~ranging].abs().median() / 2


def test_the_model_tells_the_stages_after_one_cycle() -> None:
    bars, stage = staged_cycle()
    twice = pd.concat([bars, bars])
    ts = pd.date_range("2017-01-02", periods=len(twice), freq="h", tz="UTC", name="ts").as_unit("ns")
    scale = np.r_[np.ones(len(bars)), np.full(len(bars), bars["close"].iloc[-1] / bars["close"].iloc[0])]
    prices = twice[["open", "high", "low", "close"]].mul(scale, axis=0)
    twice = twice.assign(**prices).set_index(ts)
    found = phase_probability(twice, span=24, prior=120, window=600, refit="day", longest=24, iterations=10)
    second = np.arange(len(twice)) >= 900
    settled = second & (np.arange(len(twice)) % 150 >= 60) & found.notna().all(axis=1).to_numpy()
    assert settled.sum() > 250
    said = found.to_numpy()[settled].argmax(axis=1)
    agreement = (said == np.tile(stage, 2)[settled]).mean()
    assert agreement > 0.8, agreement


def test_on_real_bars_the_probabilities_add_up_and_the_columns_keep_their_meaning() -> None:
    bars = eurusd()
    found = phase_probability(bars)
    known = found.dropna()
    assert len(known) > 5000
    np.testing.assert_allclose(known.sum(axis=1), 1.0, rtol=1e-9)
    assert list(found.columns) == [f"{name}_probability" for name in PHASES]
    past = np.log(bars["close"]).diff(24).loc[known.index]
    named = pd.Series(np.asarray(PHASES)[known.to_numpy().argmax(axis=1)], index=known.index)
    mean = past.groupby(named).mean()
    assert mean["markdown"] < min(mean["accumulation"], mean["distribution"])
    assert mean["markup"] > max(mean["accumulation"], mean["distribution"])


def test_the_fit_is_hmmlearns() -> None:
    from hmmlearn.hmm import GaussianHMM

    values, state = observations()
    guess = np.where(np.random.default_rng(0).random(state.size) < 0.3, (state + 1) % 3, state)
    ours = fit_gaussian_hmm(values, guess, 3, iterations=7)
    start = fit_gaussian_hmm(values, guess, 3, iterations=0)
    peer = GaussianHMM(3, "diag", n_iter=7, tol=-np.inf, init_params="", covars_prior=0.01, implementation="scaling")
    peer.startprob_, peer.transmat_ = start.start, start.transition
    peer.means_, peer.covars_ = start.means, start.variances
    peer.fit(values)
    np.testing.assert_allclose(ours.means, peer.means_, rtol=1e-6)
    np.testing.assert_allclose(ours.variances, np.array([np.diag(c) for c in peer.covars_]), rtol=1e-6)
    np.testing.assert_allclose(ours.transition, peer.transmat_, rtol=1e-5, atol=1e-12)
    # The smoothed probability at the last observation is the filtered one: it has no future to read.
    filtered = ours.filtered(values)
    for end in (1, 2, 50, 400):
        np.testing.assert_allclose(filtered[end - 1], peer.predict_proba(values[:end])[-1], rtol=1e-5, atol=1e-9)
    assert (filtered.argmax(axis=1) == state).mean() > 0.9


def test_one_step_at_a_time_gives_the_same_and_a_missing_observation_only_blurs() -> None:
    values, state = observations(120)
    model = fit_gaussian_hmm(values, state, 3)
    values[60] = np.nan
    whole = model.filtered(values)
    row = model.start
    for number, value in enumerate(values):
        row = filter_step(row, value, model.transition, model.means, model.variances, number == 0)
        np.testing.assert_array_equal(row, whole[number])
    np.testing.assert_allclose(whole[60], whole[59] @ model.transition, rtol=1e-12)


def test_a_refit_reads_the_past_alone_and_the_order_holds() -> None:
    values, _ = observations(600)
    refits = np.zeros(600, dtype=bool)
    refits[[200, 400]] = True

    def run(data: np.ndarray) -> np.ndarray:
        return rolling_filtered(
            data,
            refits[: len(data)],
            states=3,
            window=200,
            longest=150,
            label=lambda past: np.digitize(past[:, 0], np.quantile(past[:, 0], [1 / 3, 2 / 3])).astype(np.int64),
            order=lambda model: np.argsort(-model.means[:, 0]),
        )

    whole = run(values)
    assert np.isnan(whole[:200]).all()
    assert np.isnan(whole[350:400]).all(), "a model is not used for longer than it was given"
    changed = values.copy()
    changed[450:] *= -3
    np.testing.assert_array_equal(run(changed)[:450], whole[:450])
    for end in (201, 401, 430):
        np.testing.assert_array_equal(run(values[:end]), whole[:end], err_msg="the fit has read past its own bar")
    assert values[400:550][whole[400:550].argmax(axis=1) == 0, 0].mean() > 0.5, "the first state has the highest mean"


def test_the_labels_of_a_model_follow_the_order_asked_for() -> None:
    model = GaussianHmm(
        np.array([0.2, 0.8]), np.array([[0.9, 0.1], [0.3, 0.7]]), np.array([[1.0], [0.0]]), np.ones((2, 1))
    )
    turned = model.ordered(np.array([1, 0]))
    assert turned.transition.tolist() == [[0.7, 0.3], [0.1, 0.9]]
    assert turned.means[:, 0].tolist() == [0.0, 1.0]


@pytest.mark.parametrize("refit", ["day", "week", "month"])
def test_periods_start_where_the_calendar_turns(refit) -> None:
    index = eurusd().index[:1500]
    naive = index.tz_localize(None)
    starts = period_starts(index, refit)
    period = {"day": naive.floor("D"), "week": naive.to_period("W"), "month": naive.to_period("M")}[refit]
    expected = np.r_[False, np.asarray(period[1:] != period[:-1])]
    np.testing.assert_array_equal(starts, expected)


def test_what_cannot_be_fitted_is_refused() -> None:
    with pytest.raises(DataError, match="too few for 3 states"):
        fit_gaussian_hmm(np.zeros((20, 1)), np.zeros(20, dtype=np.int64), 3)
    with pytest.raises(DataError, match="not finite"):
        fit_gaussian_hmm(np.full((40, 1), np.nan), np.zeros(40, dtype=np.int64), 3)
