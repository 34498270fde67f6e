"""The quality score of a day: parts that are counted, costs that add up, markets that are closed owe nothing."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tapeline.core.errors import ConfigurationError, DataError
from tapeline.core.schemas import QUALITY
from tapeline.quality.calendars import MarketCalendar
from tapeline.quality.checks import check_bars
from tapeline.quality.daily_score import PARTS, WEIGHTS, score_days
from tapeline.quality.quarantine import quarantine
from tests.support import make_bars

FOREX, ALWAYS = MarketCalendar.parse("24x5"), MarketCalendar.parse("24x7")
MONDAY = pd.Timestamp("2017-01-02", tz="UTC")


def day(number: int) -> pd.Timestamp:
    return MONDAY + pd.Timedelta(days=number)


def week(rows: int = 24 * 12) -> pd.DataFrame:
    return make_bars(rows, gaps=False)


def scored(bars: pd.DataFrame, calendar=ALWAYS, **named):
    return score_days(bars, "H1", calendar, **named)


def test_whole_days_score_one():
    found = scored(week())
    assert found.days["score"].tolist() == [1.0] * 12
    assert found.faults.empty
    assert found.days["timeliness"].isna().all(), "nothing says when the bars came"
    assert QUALITY.to_arrow(found.days.assign(table="raw/bars", calendar="24x7")).num_rows == 12


def test_each_part_counts_its_faults_and_the_day_says_which_was_worst():
    bars = week().assign(revision=0, known_at_is_estimate=False)
    bars["known_at"] = bars["close_ts"]
    bars.loc[day(1) + pd.Timedelta(hours=3), "close"] = np.nan
    bars.loc[day(2) + pd.Timedelta(hours=4), "high"] = 0.5
    bars.loc[day(3) + pd.Timedelta(hours=5), "revision"] = 2
    bars.loc[day(4) : day(4) + pd.Timedelta(hours=5), "known_at"] += pd.Timedelta(minutes=6)
    twice = pd.concat([bars.loc[[day(5)]]] * 3)
    late_row = bars.loc[[day(6)]].set_index(pd.DatetimeIndex([day(6) + pd.Timedelta(minutes=7)], name="ts"))
    batch = pd.concat([twice, late_row])
    columns = ["open", "high", "low", "close", "volume"]
    refused = quarantine(batch[columns], check_bars(batch[columns], "H1"), stage="ingest", source="test")
    # Two rows equal in all are one row of the quarantine.
    assert len(refused) == 2
    bars = bars[(bars.index < day(7)) | (bars.index >= day(7) + pd.Timedelta(hours=6))]
    found = scored(bars, refused=refused)
    days = found.days
    assert days["invalid"].tolist() == [0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0]
    assert days.loc[day(1), "validity"] == pytest.approx(23 / 24)
    assert days.loc[day(6), "validity"] == pytest.approx(24 / 25)
    assert days.loc[day(2), "consistency"] <= 23 / 24
    assert (days.loc[day(3), "inconsistent"], days.loc[day(3), "measured"]) == (1, 23)
    assert (days.loc[day(4), "late"], days.loc[day(4), "timeliness"]) == (6, 0.75)
    assert days.loc[day(5), "uniqueness"] == pytest.approx(24 / 25)
    assert (days.loc[day(7), "missing"], days.loc[day(7), "completeness"]) == (6, 0.75)
    worst = ["", "validity", "consistency", "consistency", "timeliness", "uniqueness", "validity", "completeness"]
    assert days["worst"].tolist()[:8] == worst
    assert days.loc[day(7), "score"] == pytest.approx(1 - 0.25 * WEIGHTS["completeness"])
    drill = found.faults.set_index("day")
    assert drill.loc[day(1), ["part", "reason", "ts"]].tolist() == [
        "validity", "not_finite", day(1) + pd.Timedelta(hours=3)
    ]  # fmt: skip
    assert "known 0 days 00:06:00 after" in drill.loc[day(4), "detail"].iloc[0]
    costs = found.faults.groupby("day")["cost"].sum().reindex(days.index, fill_value=0.0)
    np.testing.assert_allclose(1 - days["score"], costs, atol=1e-12)


@given(
    gone=st.sets(st.integers(1, 286), max_size=120),
    broken=st.sets(st.integers(0, 287), max_size=20),
    turned=st.sets(st.integers(0, 287), max_size=20),
)
@settings(max_examples=25, deadline=None)
def test_costs_add_up_and_absent_bars_are_those_of_the_day(gone, broken, turned):
    bars = week()
    bars.iloc[sorted(broken), 3] = -1.0
    bars.iloc[sorted(turned), 1] = bars.iloc[sorted(turned), 2] * 0.5
    kept = bars[~np.isin(np.arange(288), list(gone))]
    found = scored(kept, end=bars.index[-1] + pd.Timedelta(hours=1))
    absent = pd.Series(1, index=bars.index[sorted(gone)]).groupby(lambda ts: ts.floor("D")).sum()
    assert found.days["missing"].to_dict() == absent.reindex(found.days.index, fill_value=0).to_dict()
    assert (found.days["bars"] + found.days["missing"] == 24).all()
    values = found.days[list(PARTS)].to_numpy()
    assert (np.isnan(values) | ((values >= 0) & (values <= 1))).all()
    costs = found.faults.groupby("day")["cost"].sum().reindex(found.days.index, fill_value=0.0)
    np.testing.assert_allclose(1 - found.days["score"], costs, atol=1e-9)


def test_a_closed_market_owes_nothing_and_a_day_without_a_bar_scores_nothing():
    bars = week()
    open_hours = bars[[FOREX.is_open(ts) for ts in bars.index]]
    found = scored(open_hours, FOREX)
    assert found.days["missing"].sum() == 0
    assert day(5) not in found.days.index, "Saturday"
    gone = scored(open_hours[open_hours.index.floor("D") != day(2)], FOREX)
    wednesday = gone.days.loc[day(2)]
    assert (wednesday["bars"], wednesday["missing"], wednesday["score"], wednesday["worst"]) == (
        0, 24, 0.0, "completeness"
    )  # fmt: skip
    assert np.isnan(wednesday["validity"])
    assert (gone.days.drop(day(2))["score"] == 1).all()
    nothing = scored(open_hours[:0], FOREX, start=day(0), end=day(2))
    assert nothing.days["missing"].tolist() == [24, 24]


def test_daily_bars_of_an_exchange():
    bars = make_bars(10, timeframe="D1", start="2017-01-03")
    bars = bars[bars.index.day_of_week < 5].drop(pd.Timestamp("2017-01-05", tz="UTC"))
    found = score_days(bars, "D1", MarketCalendar.parse("XNYS"))
    lacking = found.days[found.days["missing"] > 0]
    assert list(lacking.index) == [pd.Timestamp("2017-01-05", tz="UTC")]


def test_a_spike_of_the_price_makes_a_day_inconsistent_and_later_bars_change_no_earlier_day():
    bars = make_bars(24 * 20, gaps=False)
    bars.iloc[300, [1, 3]] *= 1.2
    found = scored(bars)
    spiked = bars.index[300].floor("D")
    assert found.days.loc[spiked, "inconsistent"] >= 1
    drill = found.faults[found.faults["ts"] == bars.index[300]]
    assert {"robust_zscore", "spike_and_return"} <= set(drill["reason"])
    early = scored(bars[: 24 * 8])
    pd.testing.assert_frame_equal(early.days, found.days[:8])
    # The past of a day is what unusual bars are held against, wherever the judging starts.
    part = scored(bars, start=spiked)
    pd.testing.assert_frame_equal(part.days, found.days[found.days.index >= spiked])


def test_weights_are_the_callers_and_wrong_ones_are_refused():
    bars = week().drop(day(1) + pd.Timedelta(hours=1))
    only = scored(bars, weights={part: float(part == "validity") for part in PARTS})
    assert (only.days["score"] == 1).all()
    for bad in ({"beauty": 1.0}, {"validity": -1.0}, {"validity": float("nan")}, dict.fromkeys(PARTS, 0.0)):
        with pytest.raises(ConfigurationError, match="weights"):
            scored(bars, weights=bad)
    with pytest.raises(ConfigurationError, match="W1"):
        score_days(bars, "W1", ALWAYS)
    with pytest.raises(DataError, match="no bar"):
        scored(bars[:0])


def test_the_packaged_sample_scores_well():
    from tapeline.core.settings import load_settings
    from tapeline.core.symbol import Symbol
    from tapeline.core.timeframe import Timeframe
    from tapeline.sources.base import BarRequest, open_source, require

    request = BarRequest(Symbol.parse("EURUSD"), Timeframe.parse("H1"), day(0), day(60))
    bars = require(open_source("sample", load_settings()).fetch(request)).bars
    found = scored(bars, FOREX)
    assert len(found.days) > 45
    assert found.days["score"].median() > 0.97
    assert found.days["completeness"].min() > 0.9
