"""Slices: a regime in which the model fails is found, one that only looks bad by luck is not."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from tapeline.core.errors import DataError
from tapeline.evaluation.metrics import auc, log_loss
from tapeline.models.block_metrics import BlockMetrics, interval
from tapeline.models.slices import Slicing, by_column, by_hour, by_period, by_symbol, measure_slices
from tapeline.models.statistics import bootstrap_intervals


def make_rows(count: int, *, seed: int = 0, failing: bool = False) -> tuple[pd.DataFrame, np.ndarray]:
    """Scores that come true as often as they say, but for rows of high volatility where they say nothing."""
    generator = np.random.default_rng(seed)
    t0 = pd.date_range("2017-01-02", periods=count, freq="1h", tz="UTC")
    volatility = np.abs(np.sin(np.arange(count) / 150)) + 0.1 * generator.standard_normal(count)
    probability = generator.uniform(0.3, 0.7, count)
    truth = np.where(volatility > 0.8, 1 - probability, probability) if failing else probability
    y = (generator.uniform(size=count) < truth).astype(int)
    rows = pd.DataFrame(
        {"symbol": np.where(np.arange(count) % 2, "GBPUSD", "EURUSD"), "ts": t0, "t0": t0, "y": y}
    ).assign(probability=probability)
    return rows, volatility


def measure(rows: pd.DataFrame, slicings: list[Slicing], **change: object) -> pd.DataFrame:
    return measure_slices(rows, slicings, **{"base_rate": 0.5, "mean_block": 2.0, **change})  # type: ignore[arg-type]


def test_a_regime_in_which_the_model_fails_is_found() -> None:
    rows, volatility = make_rows(3000, failing=True)
    past = make_rows(3000, seed=1)[1]
    table = measure(rows, [by_column("volatility", past, volatility), by_hour(pd.DatetimeIndex(rows["t0"]))])
    found = table.set_index("slice")
    assert found.loc["high", "p_holm"] < 0.001
    assert found.loc["high", "difference"] < -0.02
    assert found.loc["high", "skill_high"] < 0
    assert found.loc["high", "auc_high"] < 0.5
    assert found.loc["low", "auc_low"] > 0.5
    assert found.loc["high", "ece"] > 3 * found.loc["high", "ece_by_chance"]
    hours = table[table["slicing"] == "hour"]
    assert (hours["p_holm"] > 0.05).all()


def test_slices_of_a_model_that_is_alike_everywhere_are_rarely_told_apart() -> None:
    alarms = 0
    for seed in range(20):
        rows, volatility = make_rows(500, seed=seed)
        table = measure(rows, [by_column("v", volatility, volatility), by_hour(pd.DatetimeIndex(rows["t0"]))])
        alarms += bool((table["p_holm"] < 0.05).any())
    assert alarms <= 4  # 1 expected of 20; 5 or more has a chance of a quarter of a percent


def test_the_numbers_are_those_of_the_metrics_on_the_rows_of_the_slice() -> None:
    rows, _ = make_rows(600)
    table = measure(rows, [by_symbol(rows["symbol"])]).set_index("slice")
    euro = rows[rows["symbol"] == "EURUSD"]
    assert table.loc["EURUSD", "rows"] == len(euro) == 300
    assert table.loc["EURUSD", "auc"] == auc(euro["y"], euro["probability"])
    assert table.loc["EURUSD", "log_loss"] == log_loss(euro["y"], euro["probability"])
    assert table.loc["EURUSD", "skill"] == pytest.approx(np.log(2) - log_loss(euro["y"], euro["probability"]))
    assert table.loc["EURUSD", "bias"] == pytest.approx((euro["probability"] - euro["y"]).mean())
    assert table.loc["all", "rows"] == 600
    assert np.isnan(table.loc["all", "p_holm"])
    shares = table.loc[["EURUSD", "GBPUSD"], "difference"]
    assert shares.sum() == pytest.approx(0, abs=1e-12)  # two halves lie as far above as below the whole


def test_the_intervals_of_the_whole_are_those_of_the_ordinary_bootstrap() -> None:
    rows, _ = make_rows(400)
    table = measure(rows, [], mean_block=3.0, seed=5).iloc[0]
    peer = bootstrap_intervals(
        {"auc": auc, "log_loss": log_loss},
        rows["y"],
        rows["probability"],
        pd.DatetimeIndex(rows["t0"]).asi8,
        mean_block=3.0,
        seed=5,
    )
    for name, (low, high) in peer.items():
        assert (table[f"{name}_low"], table[f"{name}_high"]) == (pytest.approx(low), pytest.approx(high))


def test_small_slices_say_that_they_are_small() -> None:
    rows, _ = make_rows(500)
    name = np.where(np.arange(500) < 40, "rare", "usual").astype(object)
    name[450:] = None
    table = measure(rows, [Slicing("kind", name)]).set_index("slice")
    assert "too small to judge: fewer than 100 rows" in table.loc["rare", "note"]
    assert np.isnan(table.loc["rare", ["auc_low", "p_value", "p_holm"]].to_numpy(dtype=float)).all()
    assert table.loc["rare", "rows"] == 40
    assert table.loc["usual", "rows"] == 410
    assert table.loc["usual", "note"] == ""
    overlapping = measure(rows, [Slicing("kind", name)], mean_block=100.0).set_index("slice")
    assert "overlapping labels amount to 4.1 blocks" in overlapping.loc["usual", "note"]


def test_trades_are_counted_in_the_slice_of_their_decision() -> None:
    rows, _ = make_rows(400)
    trades = rows.iloc[[0, 1, 2, 4]][["symbol", "ts"]].assign(net=[0.001, -0.005, 0.002, 0.003])
    table = measure(rows, [by_symbol(rows["symbol"])], trades=trades).set_index("slice")
    assert table["trades"].to_dict() == {"all": 4, "EURUSD": 3, "GBPUSD": 1}
    assert table.loc["EURUSD", "mean_trade_bps"] == pytest.approx(20.0)


def test_borders_come_from_the_past_alone() -> None:
    past = np.arange(300.0)
    shifted = by_column("x", past, past + 1000).part
    assert set(shifted) == {"high"}
    assert by_column("x", np.full(9, np.nan), [1.0]).part.tolist() == [None]
    constant = by_column("x", np.full(9, 0.5), [0.4, 0.6])
    assert len(constant.parts) == 2
    assert by_column("x", past, past).parts == ("low", "middle", "high")


def test_periods_are_as_fine_as_twelve_parts_allow() -> None:
    def named(start: str, days: int) -> str:
        return by_period(pd.date_range(start, periods=days, freq="1D", tz="UTC")).name

    assert [named("2017-01-02", days) for days in (60, 300, 900, 3000)] == ["week", "month", "quarter", "year"]
    hourly = pd.date_range("2017-01-02", periods=60 * 24, freq="1h", tz="UTC")
    assert by_period(hourly, fewest=168).name == "week"
    assert by_period(hourly, fewest=169).name == "month"
    quarter = by_period(pd.DatetimeIndex(["2017-03-31", "2017-04-01"], tz="UTC"), "quarter")
    assert quarter.part.tolist() == ["2017-Q1", "2017-Q2"]
    with pytest.raises(DataError, match="fortnight"):
        by_period(pd.DatetimeIndex([], tz="UTC"), "fortnight")


def test_ties_and_missing_classes_of_a_resampled_auc() -> None:
    drawn = BlockMetrics(np.arange(4), mean_block=1, samples=200)
    y, p = np.array([0, 0, 1, 1]), np.array([0.2, 0.5, 0.5, 0.9])
    found = drawn.auc(y, p, np.ones(4, dtype=bool))
    counts = drawn._counts
    for sample in (0, 7, 31):
        weight = counts[sample]
        expected = auc(y, p, weight) if weight @ y and weight @ (1 - y) else np.nan
        assert found[sample] == pytest.approx(expected, nan_ok=True)
    assert np.isnan(drawn.auc(y, p, np.zeros(4, dtype=bool))).all()
    assert all(np.isnan(interval(np.full(3, np.nan))))


def test_what_does_not_fit_is_refused() -> None:
    rows, _ = make_rows(200)
    with pytest.raises(DataError, match="199 rows, the scores 200"):
        measure(rows, [by_symbol(rows["symbol"][1:])])
    with pytest.raises(DataError, match="lack"):
        measure(rows.drop(columns="probability"), [])
    with pytest.raises(DataError, match="no row"):
        measure(rows.iloc[:0], [])
    with pytest.raises(DataError, match="no row"):
        BlockMetrics([], mean_block=1)
