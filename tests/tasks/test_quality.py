"""Scores by day from the lake: what is stored, scored again, and explained."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from tapeline.core.errors import DataError
from tapeline.core.schemas import QUALITY, RAW_BARS
from tapeline.core.settings import load_settings
from tapeline.core.symbol import Symbol
from tapeline.core.timeframe import Timeframe
from tapeline.lake.lake import Lake, Lineage
from tapeline.lake.views import query
from tasks.job import plan_jobs
from tasks.quality import explain_day, score_series
from tests.lake.support import raw
from tests.support import make_bars

EURUSD, H1 = Symbol.parse("EURUSD"), Timeframe.parse("H1")
LINEAGE = Lineage("run", "test")
NOW = pd.Timestamp("2030-01-01", tz="UTC")


@pytest.fixture
def room(tmp_path):
    settings = load_settings(root=tmp_path, calendars={"symbols": {"EURUSD": "24x7"}})
    return settings, Lake(settings.lake_path)


def job(start=None, end=None):
    return plan_jobs("run", "", ["EURUSD"], "H1", start, end)[0]


def test_days_are_scored_once_again_where_late_bars_may_come_and_stored_in_the_lake(room) -> None:
    settings, lake = room
    frame = raw(make_bars(24 * 20, gaps=False))
    gone = (frame.index >= "2017-01-11 06:00") & (frame.index < "2017-01-11 18:00")
    lake.write(RAW_BARS, frame[: 24 * 14][~gone[: 24 * 14]], EURUSD, H1, lineage=LINEAGE)
    first, scores, history = score_series(job(), settings, lake, now=NOW)
    poor_day = pd.Timestamp("2017-01-11", tz="UTC")
    assert first.poor == ("2017-01-11: 0.824, worst completeness",)
    assert history.loc[poor_day, ["bars", "missing"]].tolist() == [12, 12]
    assert scores.faults["cost"].sum() == pytest.approx((1 - scores.days["score"]).sum())
    assert first.picture is not None
    assert first.picture.read_bytes().startswith(b"\x89PNG")
    version = lake.version(QUALITY, EURUSD, H1)
    score_series(job(), settings, lake, now=NOW)
    assert lake.version(QUALITY, EURUSD, H1) == version

    lake.write(RAW_BARS, frame, EURUSD, H1, lineage=LINEAGE)
    second, _, history = score_series(job(), settings, lake, now=NOW)
    assert second.poor == ()
    assert len(history) == 20
    # The same as from scratch.
    fresh = score_series(job("2017-01-02", "2017-01-22"), settings, lake, now=NOW)[1]
    np.testing.assert_allclose(fresh.days["score"], history["score"])
    trend = query(lake, "select count(*) as days, min(score) as worst from audit_quality").to_pandas()
    assert trend["days"].iloc[0] == 20


def test_a_day_that_is_not_over_waits_and_a_series_that_ended_owes_no_more(room) -> None:
    settings, lake = room
    lake.write(RAW_BARS, raw(make_bars(60, gaps=False)), EURUSD, H1, lineage=LINEAGE)
    during = score_series(job(), settings, lake, now=pd.Timestamp("2017-01-04 11:00", tz="UTC"))
    assert (during[0].days, during[0].newest) == (2, pd.Timestamp("2017-01-03", tz="UTC"))
    live = score_series(job(), settings, lake, now=pd.Timestamp("2017-01-07", tz="UTC"))[2]
    assert live["missing"].tolist() == [0, 0, 12, 24, 24], "the feed is silent, and its market is open"
    long_ago = score_series(job(), settings, lake, now=NOW)[2]
    assert len(long_ago) == 5


def test_a_day_is_explained_bar_by_bar(room) -> None:
    settings, lake = room
    frame = raw(make_bars(24 * 14, gaps=False))
    lake.write(RAW_BARS, frame, EURUSD, H1, lineage=LINEAGE)
    at = pd.Timestamp("2017-01-10 05:00", tz="UTC")
    fixed = frame.loc[[at]].reset_index().assign(close=frame.loc[at, "low"], known_at=NOW, revision=0)
    lake.write(RAW_BARS, fixed, EURUSD, H1, lineage=LINEAGE)
    found = explain_day(job(), settings, lake, at)
    assert found.faults[["ts", "part", "reason", "detail"]].to_numpy().tolist() == [
        [at, "consistency", "revised", "corrected once"]
    ]
    assert len(found.days) == 1
    with pytest.raises(DataError, match="no bars"):
        explain_day(plan_jobs("run", "", ["GBPUSD"], "H1", None, None)[0], settings, lake, at)
