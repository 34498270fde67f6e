"""What a person asked for is parsed once, at the edge."""

from __future__ import annotations

import pickle

import pandas as pd
import pytest

from tapeline.core.errors import ConfigurationError, QualityError, ThrottledError
from tapeline.core.request import parse_instant
from tapeline.core.schemas import CLEAN_BARS
from tapeline.lake.lake import Lake
from tasks.ingest import stamp_arrival
from tasks.job import history_start, is_temporary, model_name, plan_jobs
from tests.support import make_bars


def plan(symbols, start=None, end=None, timeframe="H1"):
    return plan_jobs("run", "sample", symbols, timeframe, start, end)


def test_plan_gives_a_job_a_symbol_with_the_same_bounds():
    jobs = plan(["EURUSD", "BTC/USDT"], "2017-03-01", "2017-04-01T12:00+02:00")
    assert [str(job.symbol) for job in jobs] == ["EURUSD", "BTC/USDT"]
    assert {job.start for job in jobs} == {pd.Timestamp("2017-03-01", tz="UTC")}
    assert {job.end for job in jobs} == {pd.Timestamp("2017-04-01 10:00", tz="UTC")}


@pytest.mark.parametrize(
    ("symbols", "start", "end", "named"),
    [
        ([], None, None, "no symbol"),
        (["EURUSD", "EURUSD"], None, None, "twice"),
        (["../../etc"], None, None, "../../etc"),
        (["EURUSD"], "2017-02-01", "2017-02-01", "not before"),
        (["EURUSD"], "soon", None, "soon"),
    ],
)
def test_plan_refuses_with_the_value_named(symbols, start, end, named):
    with pytest.raises(ConfigurationError, match=named):
        plan(symbols, start, end)


def test_an_instant_without_a_zone_is_utc():
    assert parse_instant("2017-03-01 05:00", "start") == pd.Timestamp("2017-03-01 05:00", tz="UTC")
    assert parse_instant(None, "start") is None


def test_the_model_name_does_not_depend_on_the_order_and_stays_short():
    assert model_name(plan(["B", "A"])) == model_name(plan(["A", "B"])) == "direction-H1-A-B"
    many = [f"SYM{i}" for i in range(500)]
    assert model_name(plan(many)) == model_name(plan(many[::-1]))
    assert len(model_name(plan(many))) < 60
    assert model_name(plan(many)) != model_name(plan(many[:-1]))


def test_a_job_survives_the_trip_to_another_process():
    (job,) = plan(["BTC/USDT"], "2017-03-01")
    assert pickle.loads(pickle.dumps(job)) == job


class _State:
    def __init__(self, error: Exception) -> None:
        self.error = error

    def result(self) -> None:
        raise self.error


def test_only_temporary_errors_are_tried_again():
    assert is_temporary(None, None, _State(ThrottledError("slow down", retry_after=1.0)))
    assert not is_temporary(None, None, _State(QualityError("bad batch")))
    assert not is_temporary(None, None, _State(ZeroDivisionError()))


def test_a_bar_seen_live_is_known_from_its_arrival_and_a_backfilled_one_from_its_close():
    (job,) = plan(["EURUSD"])
    bars = make_bars(10)
    now = bars["close_ts"].iloc[-1] + pd.Timedelta(seconds=3)
    stamped = stamp_arrival(bars[["open", "high", "low", "close", "volume"]], job.timeframe, source="s", now=now)
    assert stamped["known_at"].iloc[-1] == now
    assert not stamped["known_at_is_estimate"].iloc[-1]
    old = stamped.iloc[:-3]
    assert (old["known_at"] == old["close_ts"]).all()
    assert old["known_at_is_estimate"].all()
    assert (stamped["known_at"] >= stamped["close_ts"]).all()


def test_history_is_counted_in_stored_bars_however_far_apart_they_lie(tmp_path):
    lake, (job,) = Lake(tmp_path), plan(["EURUSD"], "2017-12-01")
    bars = make_bars(8).assign(known_at_is_estimate=True, source="s", revision=0, repaired=False, outlier=False)
    bars.index = pd.date_range("2017-01-01", periods=8, freq="40D", tz="UTC", name="ts").as_unit("ns")
    bars["close_ts"] = bars["known_at"] = job.timeframe.closes(bars.index)
    assert history_start(lake, job, 3) == job.start, "nothing is stored yet"
    lake.write(CLEAN_BARS, bars, job.symbol, job.timeframe, lineage=job.lineage("clean"))
    assert history_start(lake, job, 3) == bars.index[-3]
    assert history_start(lake, job, 100) == bars.index[0]
    assert history_start(lake, plan(["EURUSD"])[0], 3) is None


def test_prefects_word_on_time_limits_in_threads_is_not_repeated_at_every_task(caplog) -> None:
    import logging

    from tasks.job import is_news

    logger = logging.getLogger("prefect.task_runs")
    assert is_news in logger.filters
    warned = logging.LogRecord(
        "prefect.task_runs", logging.WARNING, "", 0, "Timeout of %s seconds configured for this task, but", (1,), None
    )
    other = logging.LogRecord("prefect.task_runs", logging.WARNING, "", 0, "Timeout of the source", (), None)
    assert not logger.filter(warned)
    assert logger.filter(other)
