"""Reliability: outcomes against a loop, chance on a random walk, a planted edge, intervals against statsmodels."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from tapeline.charts.events import Findings, event_frame
from tapeline.charts.reliability import block_interval, outcomes, reliability, wilson_interval
from tapeline.charts.scan import choose, scan
from tapeline.charts.structure import break_of_structure, mean_true_range
from tapeline.charts.synthetic import bars_of_closes, random_walk
from tapeline.core.multiple_testing import holm
from tests.core.samples import eurusd

HORIZON = 60


def events_at(bars: pd.DataFrame, rows, direction, reach: float, kind: str = "bet") -> pd.DataFrame:
    """Events with target and stop ``reach`` mean true ranges from the close."""
    rows = np.asarray(rows)
    way = np.broadcast_to(np.asarray(direction, np.int8), rows.shape)
    close, unit = bars["close"].to_numpy()[rows], mean_true_range(bars, 14)[rows]
    return event_frame(
        bars,
        Findings(
            kind,
            way,
            rows,
            rows,
            rows,
            close,
            close,
            target=close + way * reach * unit,
            stop=close - way * reach * unit,
        ),
        {},
    )


def test_an_outcome_is_what_the_bars_after_the_entry_did():
    bars = random_walk(1_500, seed=5)
    rows = np.arange(300, 1_480, 7)
    events = events_at(bars, rows, np.where(np.arange(rows.size) % 2, 1, -1), 2.0)
    told = outcomes(events, bars, horizon=HORIZON).set_index("id")
    high, low = bars["high"].to_numpy(), bars["low"].to_numpy()
    undecided = 0
    for (_, event), row in zip(events.iterrows(), rows, strict=True):
        way, verdict = event["direction"], None
        entry = bars["open"].iloc[row + 1] if row + 1 < len(bars) else np.nan
        if not way * event["stop"] < way * entry < way * event["target"]:
            assert event["id"] not in told.index
            continue
        for t in range(row + 1, min(len(bars), row + HORIZON + 1)):
            worst, best = (low[t], high[t]) if way > 0 else (high[t], low[t])
            if way * worst <= way * event["stop"]:
                verdict = (t, 0.0, -1.0)
            elif way * best >= way * event["target"]:
                verdict = (t, 1.0, (event["target"] - entry) / (entry - event["stop"]))
            if verdict:
                break
        else:
            if row + HORIZON < len(bars):
                t = row + HORIZON
                verdict = (t, 0.0, (bars["close"].iloc[t] - entry) / (entry - event["stop"]))
        if verdict is None:
            undecided += 1
            assert event["id"] not in told.index
            continue
        mine = told.loc[event["id"]]
        assert (mine["hit"], mine["decided_at"]) == (verdict[1], bars["close_ts"].iloc[verdict[0]])
        assert mine["result"] == pytest.approx(verdict[2])
    assert undecided
    assert len(told) > 140


def test_what_is_known_of_an_event_at_its_end_holds_nothing_that_came_after():
    bars = eurusd().iloc[:2500]
    events = scan(bars, choose(["break_of_structure", "fair_value_gap"]))
    whole = outcomes(events, bars, horizon=HORIZON)
    cut = bars.iloc[:1500]
    part = outcomes(scan(cut, choose(["break_of_structure", "fair_value_gap"])), cut, horizon=HORIZON)
    decided = whole[whole["decided_at"] <= cut["close_ts"].iloc[-1]].reset_index(drop=True)
    shared = part[part["id"].isin(decided["id"])].reset_index(drop=True)
    assert len(shared) == len(decided) > 20
    pd.testing.assert_frame_equal(shared, decided)


def test_chance_shows_no_edge_and_a_planted_one_is_found():
    bars = random_walk(12_000, seed=3)
    rows = np.arange(400, 11_800, 9)
    chance = events_at(bars, rows, np.random.default_rng(1).choice([-1, 1], rows.size), 2.0, "coin")
    ahead = np.sign(bars["close"].to_numpy()[rows + 12] - bars["close"].to_numpy()[rows])
    better = np.where(np.random.default_rng(2).random(rows.size) < 0.75, ahead, -ahead)
    planted = events_at(bars, rows, better, 2.0, "oracle")
    told = pd.concat([outcomes(chance, bars, horizon=HORIZON), outcomes(planted, bars, horizon=HORIZON)])
    table = reliability(told).set_index("kind")
    assert table.loc["coin", "verdict"] == "no edge shown"
    assert abs(table.loc["coin", "edge"]) < 0.06
    assert table.loc["coin", "edge_low"] < 0 < table.loc["coin", "edge_high"]
    assert table.loc["oracle", "verdict"] == "edge"
    assert table.loc["oracle", "edge_low"] > 0.05
    assert reliability(told, ("kind", "direction"))["events"].sum() == len(told)


def test_without_a_target_it_lies_so_many_risks_away_and_forming_kinds_have_no_entry():
    bars = random_walk(1_500, seed=6)
    events = events_at(bars, np.arange(400, 1_300, 11), 1, 1.5)
    told = outcomes(events.assign(target=np.nan), bars, reward=2.0)
    np.testing.assert_allclose(told["reward"] / told["risk"], 2.0)
    assert outcomes(events.assign(kind="forming_bet"), bars).empty
    assert outcomes(break_of_structure(bars.iloc[:0]), bars).empty


def test_a_bar_that_holds_target_and_stop_is_a_stop():
    bars = bars_of_closes(np.tile([10.0, 10.1], 300))
    bars = bars.assign(low=bars["low"] - 0.5, high=bars["high"] + 0.5)
    told = outcomes(events_at(bars, [400], 1, 0.2), bars)
    assert told[["hit", "result"]].to_numpy().tolist() == [[0.0, -1.0]]


def test_intervals_and_corrections_agree_with_statsmodels():
    from statsmodels.stats.multitest import multipletests
    from statsmodels.stats.proportion import proportion_confint

    for hits, trials in ((0, 12), (7, 31), (200, 201)):
        assert wilson_interval(hits, trials) == pytest.approx(
            proportion_confint(hits, trials, method="wilson"), abs=1e-6
        )
    assert np.isnan(wilson_interval(0, 0)).all()
    p_values = np.random.default_rng(4).random(30) ** 3
    np.testing.assert_allclose(holm(p_values), multipletests(p_values, method="holm")[1])


def test_the_block_interval_covers_and_widens_with_dependence():
    generator = np.random.default_rng(8)
    covered = 0
    for seed in range(60):
        values = generator.normal(0.0, 1.0, 400)
        low, high, _ = block_interval(values, seed=seed, resamples=300)
        covered += low <= 0.0 <= high
    assert covered >= 50
    steps = generator.normal(0.0, 1.0, 400)
    trend = np.convolve(steps, np.ones(8) / 8, mode="same")
    plain = 1.96 * trend.std() / 20
    low, high, _ = block_interval(trend)
    assert high - low > 2 * plain * 1.3
    assert block_interval(np.ones(5))[2] == 1.0


def test_an_event_is_held_against_the_same_bars_whatever_else_is_asked():
    bars = random_walk(1_500, seed=8)
    first, second = (events_at(bars, np.arange(start, 1_200, 23), 1, 2.0) for start in (400, 407))
    alone = outcomes(first, bars, horizon=HORIZON).set_index("id")
    merged = pd.concat([first, second]).sort_values("confirmed_at", kind="stable")
    among = outcomes(merged, bars, horizon=HORIZON).set_index("id")
    pd.testing.assert_series_equal(among.loc[alone.index, "base"], alone["base"])
    assert alone["base"].nunique() > 5
    other = outcomes(first, bars, horizon=HORIZON, seed=1).set_index("id")
    assert (other["base"] != alone["base"]).any()


def test_a_dozen_misses_are_no_proof():
    days = pd.date_range("2017", periods=12, tz="UTC")
    told = pd.DataFrame({"kind": "flag", "confirmed_at": days, "hit": 0.0, "base": [0.28, 0.32] * 6, "result": -1.0})
    (row,) = reliability(told).to_dict("records")
    assert row["p_value"] == pytest.approx(0.023, abs=0.001), "a normal of mean 12 x 0.3 and its binomial spread"
    assert reliability(pd.concat([told.assign(kind=kind) for kind in "abc"]))["verdict"].unique() == ["no edge shown"]
