"""Regimes against their peers (scikit-learn, hmmlearn, ruptures), against slow forms, and on staged series."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tapeline.core.errors import ConfigurationError, DataError
from tapeline.features.change_points import (
    change_point_regime,
    confirmed_changes,
    run_length_filter,
    student_constants,
)
from tapeline.features.hidden_markov import fit_gaussian_hmm
from tapeline.features.market_regime import (
    REGIMES,
    _first_guess,
    drift_and_turbulence,
    hidden_markov_regime,
    mixture_regime,
    name_regimes,
    ratio_returns,
)
from tapeline.features.mixture import SMALLEST_VARIANCE, fit_mixture
from tapeline.features.refit_clock import fit_spans, refit_starts
from tests.core.samples import eurusd
from tests.support import make_bars


def bars_of(returns: np.ndarray) -> pd.DataFrame:
    bars = make_bars(returns.size, gaps=False)
    close = np.exp(np.cumsum(returns))
    return bars.assign(open=close, high=close, low=close, close=close)


def staged(rows: int = 1_200, length: int = 150) -> tuple[pd.DataFrame, np.ndarray]:
    """Rise, fall and turbulence in turn, and the regime of each bar by its number."""
    generator = np.random.default_rng(4)
    regime = np.arange(rows) // length % 3
    drift, spread = np.array([4e-4, -4e-4, 0.0])[regime], np.array([5e-4, 5e-4, 3e-3])[regime]
    return bars_of(generator.normal(drift, spread)), regime


def blobs(rows: int = 300) -> np.ndarray:
    generator = np.random.default_rng(1)
    centres = np.array([[-2.0, 0.0], [2.0, 0.0], [0.0, 2.0]])
    return centres[generator.integers(3, size=rows)] + generator.normal(0, 0.7, (rows, 2))


def test_the_mixture_is_scikit_learns_from_the_same_start() -> None:
    from sklearn.mixture import GaussianMixture as Peer

    values = blobs()
    labels = _first_guess(values)
    ours = fit_mixture(values, labels, 3, iterations=15)
    start = fit_mixture(values, labels, 3, iterations=0)
    peer = Peer(
        3,
        covariance_type="diag",
        reg_covar=SMALLEST_VARIANCE,
        max_iter=15,
        tol=0.0,
        weights_init=start.weights / start.weights.sum(),
        means_init=start.means,
        precisions_init=1.0 / start.variances,
    )
    with pytest.warns(match="did not converge"):
        peer.fit(values)
    np.testing.assert_allclose(ours.means, peer.means_, atol=1e-6)
    np.testing.assert_allclose(ours.variances, peer.covariances_, atol=1e-6)
    np.testing.assert_allclose(ours.responsibilities(values), peer.predict_proba(values), atol=1e-6)


def test_a_mixture_refuses_what_it_cannot_fit() -> None:
    values = blobs(40)
    with pytest.raises(DataError, match="have 39 labels"):
        fit_mixture(values, np.zeros(39, dtype=np.int64), 3)
    with pytest.raises(DataError, match="too few for 5 parts"):
        fit_mixture(values, np.zeros(40, dtype=np.int64), 5)
    values[3, 1] = np.nan
    with pytest.raises(DataError, match="not finite"):
        fit_mixture(values, np.zeros(40, dtype=np.int64), 3)


@pytest.mark.parametrize(("regime", "least"), [(hidden_markov_regime, 0.8), (mixture_regime, 0.7)])
def test_staged_regimes_are_told_and_keep_their_names(regime, least) -> None:
    bars, truth = staged()
    found = regime(bars, span=24, prior=240, window=480, every=48)
    names = name_regimes(found)
    # The last 24 bars tell the regime: the first 36 of each stage belong to the change.
    settled = np.flatnonzero(names.notna().to_numpy() & (np.arange(len(bars)) % 150 >= 36))
    right = np.mean([REGIMES[truth[i]] == names.iloc[i] for i in settled])
    assert len(settled) > 300
    assert right > least, right
    np.testing.assert_allclose(found.dropna().sum(axis=1), 1.0, atol=1e-12)


def test_filtered_is_not_smoothed_and_each_fit_knows_the_past_alone() -> None:
    """The oracle: at one bar, fit on the window before the last refit, and filter up to the bar, by hmmlearn."""
    from hmmlearn.hmm import GaussianHMM

    bars = eurusd().iloc[:900]
    found = hidden_markov_regime(bars).to_numpy()
    observations = drift_and_turbulence(ratio_returns(bars["close"].to_numpy()), 24, 96)
    row, end = fit_spans(refit_starts(bars, 120), 240, 120)[-2]
    past = observations[row - 240 : row]
    model = fit_gaussian_hmm(past, _first_guess(past), 3, 5)
    peer = GaussianHMM(3, covariance_type="diag")
    peer.startprob_, peer.transmat_, peer.means_, peer.covars_ = (
        model.start,
        model.transition,
        model.means,
        model.variances,
    )
    turbulent = int(model.means[:, 1].argmax())
    calm = sorted({0, 1, 2} - {turbulent}, key=lambda state: -model.means[state, 0])
    differs = False
    for bar in (row, (row + end) // 2, end - 1):
        # Of a series that ends at the bar, the last smoothed probability is the filtered one.
        filtered = peer.predict_proba(observations[row - 240 : bar + 1])[-1][[*calm, turbulent]]
        np.testing.assert_allclose(found[bar], filtered, atol=1e-8)
        smoothed = peer.predict_proba(observations[row - 240 : end])[bar - row + 240][[*calm, turbulent]]
        differs |= bool(np.abs(smoothed - filtered).max() > 1e-4)
    assert differs, "the smoothed probabilities would have been others"


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 8), st.integers(2, 12))
def test_drift_and_turbulence_by_hand(seed: int, span: int, prior: int) -> None:
    returns = np.r_[np.nan, np.random.default_rng(seed).standard_t(3, 30) * 1e-3]
    found = drift_and_turbulence(returns, span, prior)
    for i in range(returns.size):
        if i < max(span, prior):
            assert np.isnan(found[i]).all()
            continue
        near, far = returns[i - span + 1 : i + 1], returns[i - prior + 1 : i + 1]
        usual = np.sqrt((far**2).mean())
        assert found[i, 0] == pytest.approx(np.clip(near.sum() / usual / np.sqrt(span), -6, 6), abs=1e-9)
        assert found[i, 1] == pytest.approx(np.clip(np.log(np.sqrt((near**2).mean()) / usual), -4, 4), abs=1e-9)


def test_regimes_are_named_or_refused() -> None:
    with pytest.raises(DataError, match="are no regimes"):
        name_regimes(pd.DataFrame({"sideways_mixture": [1.0]}))


def slow_run_lengths(values: np.ndarray, hazard: float) -> np.ndarray:
    """Adams and MacKay's algorithm 1 as written: each run length's posterior from its values anew, scipy's density."""
    from scipy.stats import t as student

    joint = np.array([1.0])
    rows = []
    for i, value in enumerate(values):
        predictive = np.empty(i + 1)
        for r in range(i + 1):
            run = values[i - r : i]
            weight, shape = 1.0 + r, 1.0 + r / 2
            mean = run.sum() / weight
            spread = ((run - run.mean()) ** 2).sum() if r else 0.0
            scale = 1.0 + 0.5 * spread + (r * (run.mean() if r else 0.0) ** 2) / (2.0 * weight)
            predictive[r] = student.pdf(value, 2 * shape, mean, math.sqrt(scale * (weight + 1) / (shape * weight)))
        grown, changed = joint * predictive * (1 - hazard), (joint * predictive * hazard).sum()
        joint = np.r_[changed, grown]
        joint /= joint.sum()
        rows.append((joint @ np.arange(i + 2), joint[:6].sum()))
    return np.array(rows)


@pytest.mark.parametrize(("smallest", "within"), [(0.0, 1e-9), (1e-4, 0.02)])
def test_run_lengths_are_those_of_the_algorithm_as_written(smallest: float, within: float) -> None:
    generator = np.random.default_rng(7)
    values = np.r_[generator.normal(0, 1, 40), generator.normal(3, 0.5, 30), generator.normal(0, 3, 30)]
    found = run_length_filter(values, values.size, 5, student_constants(101), 0.02, smallest)
    slow = slow_run_lengths(values, 0.02)
    np.testing.assert_allclose(found[:, 0], slow[:, 0], rtol=within, atol=within)
    np.testing.assert_allclose(found[:, 1], slow[:, 1], atol=within)


def test_a_value_beyond_all_regimes_starts_a_new_one() -> None:
    found = run_length_filter(np.r_[np.zeros(20), 1e200, np.zeros(3)], 4, 5, student_constants(25), 0.01, 1e-4)
    assert np.isfinite(found).all()
    assert found[0, 0] < 1.0


def test_changes_are_seen_soon_and_ruptures_finds_the_same_ones_afterwards() -> None:
    import ruptures

    generator = np.random.default_rng(2)
    breaks = [400, 700, 850]
    spread = np.select([np.arange(1_000) < b for b in breaks], [5e-4, 3e-3, 8e-4], 4e-3)
    returns = generator.normal(0, spread)
    bars = bars_of(returns)
    since = change_point_regime(bars)["bars_since_change"].to_numpy() * 240
    for change in breaks[1:]:
        assert since[change - 1] > 60
        assert since[change + 20] < 40
    with pytest.warns(match="small bias"):
        pelt = ruptures.Pelt(model="normal", min_size=12, jump=5).fit(returns[1:].reshape(-1, 1) / returns.std())
    np.testing.assert_allclose(pelt.predict(pen=3.0 * math.log(1_000))[:-1], np.array(breaks) - 1, atol=10)
    told = confirmed_changes(bars, window=160, every=48)
    opens = pd.DatetimeIndex(bars.index)
    rows = opens.get_indexer(pd.DatetimeIndex(told["change"]))
    assert all(np.abs(rows - change).min() <= 10 for change in breaks)
    assert (told["confirmed_at"] > told["change"]).all()
    # One change every hundred bars at most is noise.
    assert len(told) <= len(breaks) + 3


@pytest.mark.parametrize("search", ["pelt", "binary_segmentation", "window"])
def test_a_confirmed_change_stays_whatever_follows(search) -> None:
    bars, _ = staged(420, length=90)
    clock = {"window": 120, "every": 24}
    whole = confirmed_changes(bars, search=search, **clock)
    assert len(whole) >= 2
    for cut in (237, 371):
        early = confirmed_changes(bars.iloc[:cut], search=search, **clock)
        known = whole[whole["confirmed_at"] <= bars.index[cut - 1]].reset_index(drop=True)
        pd.testing.assert_frame_equal(early.reset_index(drop=True), known, check_dtype=False)


def test_bad_questions_about_changes_are_refused() -> None:
    bars, _ = staged(300)
    for wrong, words in (({"window": 20}, "too short"), ({"penalty": 0.0}, "above 0"), ({"search": "x"}, "unknown")):
        with pytest.raises(ConfigurationError, match=words):
            confirmed_changes(bars, **wrong)


def test_on_real_bars_turbulence_is_where_price_moves_and_regimes_last() -> None:
    bars = eurusd().iloc[:3_000]
    size = ratio_returns(bars["close"].to_numpy()) ** 2
    changes = {}
    for regime in (hidden_markov_regime, mixture_regime):
        names = name_regimes(regime(bars))
        wild = (names == "turbulent").to_numpy()
        calm = names.notna().to_numpy() & ~wild
        assert size[wild].mean() > 1.5 * size[calm].mean()
        names = names.dropna()
        changes[regime] = (names != names.shift()).sum()
    assert changes[hidden_markov_regime] < 0.7 * changes[mixture_regime]
    found = change_point_regime(bars).dropna()
    now = pd.Series(np.sqrt(size), bars.index).rolling(24).mean().reindex(found.index)
    assert found["regime_volatility"].corr(now, method="spearman") > 0.5


def test_the_refit_clock_is_the_same_on_any_tail() -> None:
    bars = make_bars(500)
    whole = np.flatnonzero(refit_starts(bars, 48))
    for cut in (1, 77, 200):
        tail = np.flatnonzero(refit_starts(bars.iloc[cut:], 48)) + cut
        np.testing.assert_array_equal(tail, whole[whole > cut])
    assert np.diff(whole).max() <= 48
