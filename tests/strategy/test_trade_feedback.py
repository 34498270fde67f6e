"""Feedback of trades: causal, fair to sources, and a loop that closes on real bars."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from tapeline.core.errors import ConfigurationError, DataError
from tapeline.core.schemas import labels_spec
from tapeline.labels.sequential_bootstrap import label_spans
from tapeline.labels.weights import average_uniqueness
from tapeline.strategy.signal_confidence import ConfidenceRules
from tapeline.strategy.simulator import SimulationSettings, simulate
from tapeline.strategy.trade_feedback import TradeFeedback, break_even_rates, hit_rates, trade_outcomes
from tapeline.strategy.trade_labels import taken_weights, trade_label_version, trade_labels
from tests.core.samples import eurusd
from tests.support import make_bars

SETTINGS = SimulationSettings(protect_by_distance=True)


def planted(rows=400, *, skill=0.65, seed=0):
    """Outcomes of a source that hits ``skill`` of its trades and of one that tosses a coin; both claim 0.6."""
    chance = np.random.default_rng(seed).uniform(size=(2, rows))
    at = pd.date_range("2024-01-01", periods=rows, freq="1h", tz="UTC")
    parts = [
        pd.DataFrame({"source": name, "decided_at": at, "probability": 0.6, "hit": (chance[row] < rate).astype(float)})
        for row, (name, rate) in enumerate((("skilled", skill), ("random", 0.5)))
    ]
    told = pd.concat(parts).sort_values("decided_at", kind="stable", ignore_index=True)
    return told.assign(outcome=np.where(told["hit"] > 0, 0.01, -0.01))


def traded(bars, seed=1, every=6, chance=0.7):
    """A run over bars with signals of two sources, some of them refused, all trades with a stop and a target."""
    generator = np.random.default_rng(seed)
    at = bars.index[5:-30:every]
    side = np.where(generator.uniform(size=len(at)) < 0.5, 1, -1)
    signals = pd.DataFrame(
        {
            "ts": at,
            "symbol": "EURUSD",
            "source": np.where(generator.uniform(size=len(at)) < 0.5, "one", "two"),
            "side": side,
            "probability": generator.uniform(0.5, 0.7, len(at)).round(3),
            "accepted": generator.uniform(size=len(at)) < chance,
        }
    )
    taken = signals[signals["accepted"]]
    decisions = pd.DataFrame(
        {"target": taken["side"].to_numpy() * 10.0, "stop": 0.002, "take": 0.003}, index=pd.DatetimeIndex(taken["ts"])
    )
    return simulate(bars, decisions, SETTINGS), signals


@pytest.fixture(scope="module")
def run():
    bars = make_bars(900, seed=4)
    found, signals = traded(bars)
    regimes = pd.Series(np.where(np.arange(900) < 450, "calm", "wild"), pd.DatetimeIndex(bars["close_ts"]))
    return bars, found, signals, trade_outcomes(found, found.orders, signals, bars, regimes=regimes)


def test_each_closed_trade_has_the_signal_that_was_there_when_it_was_decided(run):
    bars, found, signals, outcomes = run
    assert len(outcomes) == found.trades["exit_at"].notna().sum() > 30
    assert outcomes["decided_at"].is_monotonic_increasing
    by_bar = signals[signals["accepted"]].set_index("ts")
    for row in outcomes.itertuples():
        trade = found.trades.loc[row.trade]
        own = by_bar.loc[row.ts]
        # Read by hand: the signal of the bar before the one in which the trade was entered.
        assert bars.index.get_loc(trade["entry_at"]) == bars.index.get_loc(row.ts) + 1
        assert (own["source"], own["side"], own["probability"]) == (
            row.source,
            np.sign(trade["quantity"]),
            row.probability,
        )
        assert row.decided_at == bars.loc[trade["exit_at"], "close_ts"]
        assert row.outcome == trade["net"] / abs(trade["quantity"] * trade["entry_price"])
        assert row.hit == (trade["net"] > 0)
    assert set(outcomes["regime"]) == {"calm", "wild"}


def test_tables_as_the_lake_returns_them_give_the_same(run):
    bars, found, signals, outcomes = run
    account = SimpleNamespace(trades=found.trades.sample(frac=1, random_state=0).sort_index(), fills=found.fills)
    regimes = pd.Series(["calm", "wild"], pd.DatetimeIndex([bars["close_ts"].iloc[0], bars["close_ts"].iloc[450]]))
    again = trade_outcomes(account, found.orders, signals.set_index("ts"), bars, regimes=regimes)
    pd.testing.assert_frame_equal(again, outcomes)


def test_a_trade_without_a_signal_is_the_strategys_own(run):
    bars, found, signals, _ = run
    nothing = trade_outcomes(found, found.orders, signals[:0], bars, source="cross")
    assert set(nothing["source"]) == {"cross"}
    assert nothing["probability"].isna().all()
    with pytest.raises(DataError, match="none of the bars"):
        trade_outcomes(found, found.orders, signals, bars[:100])


def test_a_source_with_an_edge_rises_above_one_without_and_the_claim_of_the_other_is_taken_back():
    told = planted()
    asked = pd.DataFrame(
        {"source": ["skilled", "random", "new"], "known_at": told["decided_at"].max(), "probability": 0.6}
    )
    found = hit_rates(asked, told).set_index(asked["source"])
    assert found.loc["skilled", "edge"] > 0.08 > found.loc["random", "edge"]
    assert found.loc["skilled", "probability"] > 0.6 > found.loc["random", "probability"] > 0.45
    assert found.loc["new", "probability"] == 0.6
    assert np.isnan(found.loc["new", "hit_rate"])
    # With few trades both stay near what they claimed.
    early = hit_rates(asked.assign(known_at=told["decided_at"].iloc[5]), told)["probability"]
    assert (early - 0.6).abs().max() < 0.05
    feedback = TradeFeedback.of(told, told["decided_at"].max())
    signals = asked.assign(side=[1, -1, 1])
    trust = feedback.apply(signals).set_index("source")["confidence"]
    assert trust["skilled"] > trust["new"] > trust["random"]


def test_a_calibrated_source_keeps_its_probability():
    told = planted(4_000, skill=0.6, seed=3)
    told = told[told["source"] == "skilled"]
    asked = pd.DataFrame({"source": ["skilled"], "known_at": told["decided_at"].max(), "probability": 0.6})
    assert hit_rates(asked, told)["probability"].iloc[0] == pytest.approx(0.6, abs=0.02)


def test_what_wins_seldom_and_much_breaks_even_at_a_lower_rate():
    at = pd.date_range("2024-01-01", periods=300, freq="1h", tz="UTC")
    hit = (np.arange(300) % 3 == 0).astype(float)
    told = pd.DataFrame({"source": "trend", "decided_at": at, "hit": hit, "outcome": np.where(hit > 0, 0.03, -0.01)})
    found = hit_rates(pd.DataFrame({"source": ["trend"], "known_at": at[-1:]}), told, strength=5.0).iloc[0]
    assert found["hit_rate"] == pytest.approx(1 / 3, abs=0.02)
    assert found["break_even"] == pytest.approx(0.25, abs=0.04)
    assert found["edge"] > 0.05
    # Without a claim of its own, what it has shown is its probability; and its own break-even rate decides its edge.
    signals = pd.DataFrame({"source": ["trend"], "side": [1], "probability": [np.nan]})
    applied = TradeFeedback.of(told, at[-1], strength=5.0).apply(signals, ConfidenceRules(break_even=0.5))
    assert applied["probability"].iloc[0] == pytest.approx(found["hit_rate"], abs=1e-9)
    assert applied["confidence"].iloc[0] > 0.05


def test_break_even_rates_agree_with_a_loop():
    told = planted(60, seed=5)
    told = told.assign(outcome=told["outcome"] * np.random.default_rng(2).uniform(0.5, 2, len(told)))
    expected = []
    for row in told.itertuples():
        before = told[told["decided_at"] <= row.decided_at].loc[: row.Index]
        usual = before["outcome"].abs().mean()
        own = before.loc[before["source"] == row.source, "outcome"]
        win = (own[own > 0].sum() + 30 * usual) / ((own > 0).sum() + 30)
        loss = (-own[own < 0].sum() + 30 * usual) / ((own < 0).sum() + 30)
        expected.append(loss / (win + loss))
    np.testing.assert_allclose(break_even_rates(told), expected, rtol=1e-12)
    with pytest.raises(ConfigurationError, match="strength"):
        break_even_rates(told, strength=0)


def test_nothing_that_closed_later_changes_what_was_said(run):
    _, _, signals, outcomes = run
    asked = signals.assign(known_at=signals["ts"] + pd.Timedelta("1h"), regime="calm")
    said = hit_rates(asked, outcomes)
    assert said["outcomes"].max() > 10
    for place in (20, 60, 100):
        at = asked["known_at"].iloc[place]
        before = outcomes[outcomes["decided_at"] <= at]
        future = outcomes[outcomes["decided_at"] > at].assign(hit=1.0, outcome=9.0, probability=0.01)
        for changed in (before, pd.concat([before, future])):
            pd.testing.assert_frame_equal(hit_rates(asked[: place + 1], changed), said[: place + 1])
        snapshot = TradeFeedback.of(outcomes, at)
        assert snapshot == TradeFeedback.of(before, at)
        assert snapshot.to_json() == TradeFeedback.of(pd.concat([before, future]), at).to_json()


def test_what_is_written_down_says_what_is_computed_at_the_instant(run):
    _, _, signals, outcomes = run
    at = outcomes["decided_at"].iloc[-1]
    asked = pd.concat([signals.assign(regime="calm"), signals.assign(regime="wild"), signals.assign(regime="never")])
    asked = asked.assign(known_at=at).reset_index(drop=True)
    asked.loc[3, "source"] = "nobody"
    live = hit_rates(asked, outcomes)
    feedback = TradeFeedback.from_json(TradeFeedback.of(outcomes, at).to_json())
    kept = feedback.lookup(asked)
    wider = asked["regime"] == "never"
    pd.testing.assert_series_equal(kept["correction"], live["correction"], rtol=1e-12)
    # Of a regime that was never traded the wider group speaks, with its own count.
    pd.testing.assert_frame_equal(kept[~wider], live.loc[~wider, list(kept)], rtol=1e-12)
    pd.testing.assert_series_equal(feedback.apply(asked)["probability"], live["probability"], rtol=1e-9)
    assert feedback.version == TradeFeedback.of(outcomes, at).version


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"version":2}', '{"version":1,"at":"2024-01-01","strength":1,"groups":[]}']
)
def test_what_is_no_feedback_is_refused(text):
    with pytest.raises(DataError):
        TradeFeedback.from_json(text)


def test_labels_are_a_table_of_the_labels_zone_and_weigh_by_life_size_and_age(run):
    bars, _, _, outcomes = run
    labels = trade_labels(outcomes, bars, oldest=0.2)
    spec = labels_spec(trade_label_version("cross@1", oldest=0.2))
    assert spec.to_arrow(labels.drop(columns="side")).num_rows == len(labels) == outcomes["trade"].nunique()
    assert set(labels["value"]) == {0.0, 1.0}
    assert (labels["t_end"] > labels.index).all()
    plain = trade_labels(outcomes, bars, by_return=False)["weight"]
    np.testing.assert_allclose(plain, average_uniqueness(*label_spans(labels, bars), len(bars)))
    sized = trade_labels(outcomes, bars)
    ratio = sized["weight"] / plain / sized["outcome"].abs()
    assert ratio.std() < 1e-9 * ratio.mean()
    aged = labels["weight"] / sized["weight"]
    assert aged.is_monotonic_increasing
    assert aged.iloc[-1] == pytest.approx(1.0)
    half = outcomes["decided_at"].iloc[len(outcomes) // 2]
    until = trade_labels(outcomes, bars, at=half, by_return=False)
    future = outcomes.assign(outcome=np.where(outcomes["decided_at"] > half, 5.0, outcomes["outcome"]))
    pd.testing.assert_frame_equal(trade_labels(future, bars, at=half, by_return=False), until)
    assert until["t_end"].max() <= half
    with pytest.raises(DataError, match="two trades"):
        trade_labels(outcomes.assign(ts=outcomes["ts"].iloc[0]), bars)


def test_weights_of_what_was_taken_mend_a_choice_that_the_cells_explain():
    generator = np.random.default_rng(8)
    rows = 4_000
    probability = generator.uniform(0.5, 0.9, rows)
    won = generator.uniform(size=rows) < probability
    # The surer a signal, the more often it is traded: those traded win more often than all.
    taken = generator.uniform(size=rows) < np.clip((probability - 0.5) * 2, 0.02, 1)
    signals = pd.DataFrame({"source": "a", "side": 1, "probability": probability})
    found = taken_weights(signals, pd.Series(taken), bins=10, at_most=50)
    naive, mended = won[taken].mean(), np.average(won[taken], weights=found["weight"][taken])
    assert naive - won.mean() > 0.04
    assert abs(mended - won.mean()) < 0.015
    assert found.attrs["unseen"] == 0
    # A threshold leaves nothing to weigh by: the share that nobody has seen is told instead.
    cut = taken_weights(signals, pd.Series(probability > 0.7), bins=10)
    assert 0.3 < cut.attrs["unseen"] < 0.6
    assert (cut["weight"] <= 10).all()


def test_the_loop_closes_on_real_bars():
    """Trade, learn from what closed, judge the next signals by it: as of each instant, over the packaged sample."""
    bars = eurusd().iloc[:3_000]
    ahead = np.sign(bars["close"].shift(-8) - bars["open"].shift(-1)).to_numpy()
    generator = np.random.default_rng(0)
    at = np.arange(20, 2_960, 12)
    knows = np.where(generator.uniform(size=at.size) < 0.7, ahead[at], -ahead[at])
    coin = generator.choice([-1.0, 1.0], at.size)
    first = generator.uniform(size=at.size) < 0.5
    side = np.where(first, knows, coin)
    side[side == 0] = 1.0
    signals = pd.DataFrame({"ts": bars.index[at], "source": np.where(first, "knows", "coin"), "side": side.astype(int)})
    signals = signals.assign(probability=0.6, known_at=bars["close_ts"].iloc[at].to_numpy())
    signals["known_at"] = pd.DatetimeIndex(bars["close_ts"].iloc[at])
    target = pd.Series(np.nan, index=bars.index)
    target.iloc[at], target.iloc[at + 8] = side * 1_000.0, 0.0
    found = simulate(bars, pd.DataFrame({"target": target}))
    outcomes = trade_outcomes(found, found.orders, signals, bars)
    assert set(outcomes["source"]) == {"knows", "coin"}
    said = hit_rates(signals, outcomes)
    late = said[len(said) // 2 :].groupby(signals["source"])["probability"].mean()
    assert late["knows"] > late["coin"] + 0.05
    feedback = TradeFeedback.of(outcomes, bars["close_ts"].iloc[-1])
    trust = feedback.apply(signals)["confidence"].groupby(signals["source"]).mean()
    assert trust["knows"] > trust["coin"]
    labels = trade_labels(outcomes, bars)
    assert len(labels) == len(outcomes) > 200
