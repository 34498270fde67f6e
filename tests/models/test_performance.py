"""The tracker: every score counts once, in the period in which its outcome became known, by the metrics themselves."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from tapeline.core.errors import ConfigurationError, DataError
from tapeline.core.schemas import PERFORMANCE
from tapeline.core.symbol import Symbol
from tapeline.core.timeframe import Timeframe
from tapeline.evaluation import metrics
from tapeline.lake.lake import Lake, Lineage
from tapeline.models.performance import (
    METRICS,
    judged_rows,
    mean_block,
    merge_judged,
    plot_performance,
    track_performance,
)
from tapeline.models.statistics import bootstrap_intervals

ROWS = 1200
TS = pd.date_range("2017-01-20", periods=ROWS, freq="1h", tz="UTC", name="ts").as_unit("ns")
HOUR = pd.Timedelta("1h")


def scores(version: str = "1", *, seed: int = 0, late: int = 0) -> pd.DataFrame:
    generator = np.random.default_rng(seed)
    delay = np.where(np.arange(ROWS) < late, 24, 0) * HOUR
    return pd.DataFrame(
        {
            "known_at": TS + HOUR,
            "probability": generator.uniform(0.3, 0.7, ROWS),
            "model": "m",
            "model_version": version,
            "scored_at": TS + HOUR + delay,
        },
        index=TS,
    )


def labels(said: pd.DataFrame, *, seed: int = 1) -> pd.DataFrame:
    up = np.random.default_rng(seed).random(ROWS) < said["probability"].to_numpy()
    return pd.DataFrame({"value": np.where(up, 1.0, -1.0), "t_end": TS + 4 * HOUR}, index=TS)


def test_the_join_is_that_of_a_loop_over_what_is_known() -> None:
    said = scores(late=300)
    came = labels(said)
    came.loc[TS[5], "value"] = 0.0
    came.loc[TS[6], "value"] = math.nan
    came = came.drop(TS[7])
    now = TS[1000]
    rows = judged_rows(said, came, symbol="EURUSD", now=now).set_index("ts")
    expected = {}
    for at in TS:
        if at not in came.index or not abs(came.loc[at, "value"]) > 0 or came.loc[at, "t_end"] > now:
            continue
        live = said.loc[at, "scored_at"] < came.loc[at, "t_end"]
        expected[at] = (int(came.loc[at, "value"] > 0), "live" if live else "backtest")
    assert {at: (int(y), origin) for at, y, origin in rows[["y", "origin"]].itertuples()} == expected
    assert rows["t_end"].is_monotonic_increasing
    assert set(judged_rows(said, came, symbol="EURUSD", shadow=True)["origin"]) == {"shadow", "backtest"}


def test_a_row_of_a_version_counts_once_as_the_strongest_evidence() -> None:
    said = scores()
    came = labels(said)
    live = judged_rows(said, came, symbol="EURUSD").iloc[200:]
    kept = live.iloc[:50].assign(origin="holdout", probability=0.5)
    whole = judged_rows(said, came, symbol="EURUSD").iloc[:400].assign(origin="backtest", probability=0.9)
    other = whole.iloc[:1].assign(symbol="GBPUSD")
    merged = merge_judged([whole, kept, live, other])
    assert len(merged) == ROWS + 1
    assert merged["origin"].value_counts().to_dict() == {"live": ROWS - 200, "backtest": 201}
    held = merge_judged([whole, live.assign(model_version="2"), kept])
    assert (held.loc[held["origin"] == "holdout", "probability"] == 0.5).all()
    assert held["origin"].value_counts().to_dict() == {"live": ROWS - 200, "backtest": 350, "holdout": 50}
    assert merge_judged([]).empty
    with pytest.raises(DataError, match="unknown origin"):
        merge_judged([live.assign(origin="guess")])


def test_each_period_has_the_metrics_of_its_rows_and_the_bootstrap_of_the_reports() -> None:
    said = scores()
    rows = judged_rows(said, labels(said), symbol="EURUSD")
    table = track_performance(rows, periods=("month", "whole"), samples=150, seed=3)
    months = table[table["period"] == "month"]
    assert sorted(set(months["ts"])) == [pd.Timestamp(f"2017-0{month}-01", tz="UTC") for month in (1, 2, 3)]
    assert list(table[table["period"] == "whole"]["metric"]) == list(METRICS)
    february = rows[(rows["t_end"] >= "2017-02-01") & (rows["t_end"] < "2017-03-01")]
    found = months[months["ts"] == "2017-02-01"].set_index("metric")
    y, p = february["y"], february["probability"]
    functions = {
        "log_loss": metrics.log_loss, "brier": metrics.brier_score, "auc": metrics.auc, "accuracy": metrics.accuracy
    }  # fmt: skip
    for name, function in functions.items():
        assert found.loc[name, "value"] == pytest.approx(function(y, p))
    assert found.loc["calibration_error", "value"] == pytest.approx(metrics.expected_calibration_error(y, p))
    assert found.loc["bias", "value"] == pytest.approx(float((y - p).mean()))
    assert set(found["rows"]) == {len(february)}
    assert set(found["known_at"]) == {february["t_end"].max()}
    expected = bootstrap_intervals(
        functions, y, p, february["known_at"].astype("int64"), mean_block=mean_block(february), samples=150, seed=3
    )
    for name, around in expected.items():
        assert tuple(found.loc[name, ["low", "high"]]) == pytest.approx(around)


def test_intervals_hold_the_truth_about_as_often_as_they_say() -> None:
    # Outcomes come by the probabilities themselves, so that the true bias is 0.
    hit = 0
    for seed in range(40):
        said = scores(seed=seed).iloc[:300]
        rows = judged_rows(said, labels(scores(seed=seed), seed=seed + 100), symbol="EURUSD")
        bias = track_performance(rows, periods=("whole",), samples=100, seed=seed).set_index("metric").loc["bias"]
        hit += bias["low"] <= 0 <= bias["high"]
    assert hit >= 33


def test_few_rows_have_a_value_and_no_interval() -> None:
    said = scores().iloc[2:20]
    rows = judged_rows(said, labels(scores()), symbol="EURUSD")
    table = track_performance(rows.assign(y=1), periods=("day",)).set_index("metric")
    assert len(table) == len(METRICS)
    assert math.isfinite(table.loc["log_loss", "value"])
    assert table["low"].isna().all()
    assert math.isnan(table.loc["auc", "value"])


def test_an_ended_period_never_changes_and_a_second_write_changes_no_byte(tmp_path) -> None:
    said = scores()
    came = labels(said)
    lake, place = Lake(tmp_path), (Symbol.parse("EURUSD"), Timeframe.parse("H1"))

    def store(now: pd.Timestamp) -> str:
        table = track_performance(judged_rows(said, came, symbol="EURUSD", now=now))
        lake.write(PERFORMANCE, table, *place, lineage=Lineage("run", "test"))
        return lake.version(PERFORMANCE, *place)

    first = store(pd.Timestamp("2017-02-20", tz="UTC"))
    early = lake.read(PERFORMANCE, *place)
    assert store(pd.Timestamp("2017-02-20", tz="UTC")) == first
    assert store(pd.Timestamp("2017-03-10", tz="UTC")) != first
    late = lake.read(PERFORMANCE, *place)
    january = (early["period"] == "month") & (early.index == "2017-01-01")
    pd.testing.assert_frame_equal(early[january], late[(late["period"] == "month") & (late.index == "2017-01-01")])
    assert (late["period"] == "whole").sum() == len(METRICS), "the whole is one row a metric, however long it grows"


def test_the_picture_has_a_line_a_version_and_origin() -> None:
    said = scores(late=300)
    rows = judged_rows(said, labels(said), symbol="EURUSD")
    figure = plot_performance(track_performance(rows, samples=50), title="m")
    (axes,) = figure.axes
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["version 1, backtest", "version 1, live"]


def test_what_does_not_belong_together_is_refused() -> None:
    said = scores()
    with pytest.raises(DataError, match=r"scores of EURUSD lack .*scored_at"):
        judged_rows(said.drop(columns="scored_at"), labels(said), symbol="EURUSD")
    with pytest.raises(DataError, match="ends before its decision"):
        judged_rows(said, labels(said).assign(t_end=TS), symbol="EURUSD")
    with pytest.raises(ConfigurationError, match="period 'year' is unknown"):
        track_performance(judged_rows(said, labels(said), symbol="EURUSD"), periods=("year",))  # type: ignore[arg-type]
