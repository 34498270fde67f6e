"""Profiles: exact against pandas and SciPy, on any table, and quiet on data that has not changed."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from tapeline.core.errors import ConfigurationError, DataError
from tapeline.core.schemas import PROFILES, RAW_TICKS
from tapeline.core.settings import load_settings
from tapeline.core.symbol import Symbol
from tapeline.core.timeframe import Timeframe
from tapeline.quality.calendars import MarketCalendar
from tapeline.quality.profile import (
    MAXIMUM_LABELS,
    OTHER,
    QUANTILES,
    describe_numbers,
    profile_batch,
    reference_edges,
    with_changes,
)
from tapeline.quality.profile_drift import MINIMUM_HISTORY, before, compare, population_stability
from tapeline.quality.profile_report import render_profile, summary_table, write_profile
from tapeline.sources.base import BarRequest, open_source
from tests.lake.ticks import ticks
from tests.support import make_bars

H1 = Timeframe.parse("H1")
HOUR = pd.Timedelta(hours=1)


def profile_of(frame: pd.DataFrame, **named) -> pd.DataFrame:
    if "start" not in named or "end" not in named:
        named = {"start": frame.index[0], "end": frame.index[-1] + HOUR, **named}
    return profile_batch(frame, **{"table": "raw/bars", "version": "v", **named})


@settings(deadline=None)
@given(
    st.lists(st.one_of(st.floats(-1e6, 1e6), st.sampled_from([math.nan, math.inf, -math.inf, 0.0, 1.0])), max_size=60)
)
def test_numbers_are_those_of_pandas_and_scipy(values) -> None:
    found = describe_numbers(np.array(values, dtype=np.float64))
    series = pd.Series(values, dtype="float64")
    held = series[np.isfinite(series)]
    assert (found["count"], found["nulls"]) == (len(held), int(series.isna().sum()))
    assert found["infinite"] == int(np.isinf(series).sum())
    assert found["uniques"] == held.nunique()
    assert sum(found["counts"]) == len(held)
    if held.empty:
        return
    assert found["mean"] == pytest.approx(held.mean(), rel=1e-9, abs=1e-9)
    assert (found["minimum"], found["maximum"]) == (held.min(), held.max())
    for name, share in QUANTILES.items():
        assert found[name] == pytest.approx(held.quantile(share), rel=1e-12, abs=1e-12)
    spread = held.max() - held.min()
    if len(held) > 1:
        assert found["std"] == pytest.approx(held.std(), rel=1e-9, abs=1e-9 * (1 + spread))
    if len(held) > 3 and held.std() > 1e-6 * (1 + held.abs().max()):
        assert found["skew"] == pytest.approx(scipy.stats.skew(held, bias=False), rel=1e-7, abs=1e-7)
        assert found["kurtosis"] == pytest.approx(scipy.stats.kurtosis(held, bias=False), rel=1e-6, abs=1e-6)
        assert found["skew"] == pytest.approx(held.skew(), rel=1e-7, abs=1e-7)
        assert found["kurtosis"] == pytest.approx(held.kurt(), rel=1e-6, abs=1e-6)


def test_large_prices_with_a_small_spread_keep_their_digits() -> None:
    offsets = np.random.default_rng(1).normal(size=5000)
    # Representable shifts: the moments of x + 2**33 are exactly those of x once x is rounded to that grid.
    rounded = np.round(offsets * 2**18) / 2**18
    near, far = describe_numbers(rounded), describe_numbers(rounded + 2.0**33)
    for name in ("std", "skew", "kurtosis"):
        assert far[name] == pytest.approx(near[name], rel=1e-10)


def test_equal_values_have_no_spread_and_no_shape() -> None:
    found = describe_numbers(np.full(7, 0.1))
    assert (found["std"], found["mean"], found["uniques"]) == (0.0, 0.1, 1)
    assert math.isnan(found["skew"])
    assert math.isnan(found["kurtosis"])
    assert math.isnan(describe_numbers(np.array([1.0]))["std"])


def test_a_histogram_counts_every_value_once_on_given_edges() -> None:
    values = np.array([-5.0, 0.0, 0.5, 1.0, 1.0, 2.0, np.nan])
    assert describe_numbers(values, [0.0, 1.0, 2.0])["counts"] == [1, 2, 2, 1]
    assert describe_numbers(np.array([np.nan]), [0.0])["counts"] == [0, 0]
    own = describe_numbers(np.random.default_rng(0).normal(size=2000))
    assert len(own["counts"]) == 20
    assert max(own["counts"]) - min(own["counts"]) <= 2


def test_times_categories_flags_and_lists() -> None:
    index = pd.date_range("2017-01-02", periods=5, freq="h", tz="UTC", name="ts", unit="ns").delete(3)
    frame = pd.DataFrame(
        {
            "known_at": (index + pd.Timedelta(seconds=90)).where([True, True, True, False]),
            "source": pd.Categorical(["a", "b", "b", None], categories=["a", "b", "unused"]),
            "repaired": [True, False, False, False],
            "reasons": [["x"], [], ["x", "y"], None],
        },
        index=index,
    )
    held = profile_of(frame).set_index("column")
    assert held["kind"].to_dict() == {
        "ts": "time", "known_at": "time", "source": "category", "repaired": "category", "reasons": "nested",
    }  # fmt: skip
    assert held.loc["ts", ["count", "uniques"]].tolist() == [4, 4]
    assert held.loc["ts", ["minimum", "maximum"]].tolist() == [3600.0, 7200.0]
    assert held.loc["ts", "first"] == index[0]
    assert held.loc["known_at", ["nulls", "mean", "last"]].tolist() == [1, 90.0, index[2] + pd.Timedelta(seconds=90)]
    assert (held.loc["source", "labels"], held.loc["source", "counts"]) == (["b", "a"], [2, 1])
    assert held.loc["source", ["uniques", "nulls", "top"]].tolist() == [2, 1, "b"]
    assert held.loc["repaired", "top_share"] == 0.75
    assert held.loc["reasons", ["count", "nulls"]].tolist() == [3, 1]
    assert (held["known_at"] == index[2] + pd.Timedelta(seconds=90)).sum() == 0, "no later than the last row's index"
    assert (held["known_at"] == index[3]).all()
    many = pd.DataFrame({"id": [f"n{k}" for k in range(60)]}, index=make_bars(60).index)
    one = profile_of(many).set_index("column").loc["id"]
    assert (len(one["labels"]), one["labels"][-1], one["counts"][-1]) == (MAXIMUM_LABELS + 1, OTHER, 10)
    assert one["uniques"] == 60


def test_gaps_are_those_of_the_calendar() -> None:
    index = pd.date_range("2017-01-02", "2017-01-03", freq="h", tz="UTC", name="ts", inclusive="left", unit="ns")
    frame = pd.DataFrame({"close": 1.0}, index=index.delete([5, 6, 20]))
    span = {"start": index[0], "end": index[0] + pd.Timedelta(days=1)}
    always = MarketCalendar.parse("24x7")
    first = profile_of(frame, **span, timeframe=H1, calendar=always).iloc[0]
    assert first[["gaps", "missing_bars", "gap_reasons"]].tolist() == [2, 3, "unknown: 3"]
    friday = pd.DataFrame({"close": 1.0}, index=index + pd.Timedelta(days=4))
    span = {"start": friday.index[0], "end": friday.index[0] + pd.Timedelta(days=2)}
    weekend = profile_of(friday, **span, timeframe=H1, calendar=MarketCalendar.parse("24x5")).iloc[0]
    assert weekend[["gaps", "missing_bars"]].tolist() == [0, 0]
    assert pd.isna(profile_of(frame).iloc[0]["gaps"])


def test_the_stored_form_of_any_table(test_data: Path) -> None:
    names = PROFILES.schema.names
    bars = with_changes(make_bars())
    quotes = with_changes(ticks(np.sort(np.random.default_rng(0).integers(0, 10**12, 400)))).set_index("ts")
    for frame, table in ((bars, "raw/bars"), (quotes, RAW_TICKS.path)):
        profile = profile_of(frame, table=table)
        assert list(profile.columns) == names
        assert PROFILES.to_arrow(profile).num_rows == len(frame.columns) + 1
    assert "ask_less_bid" in set(profile["column"])
    features = test_data / "data/freqtrade"
    trades = sorted(features.rglob("*trades*.feather"))
    if not trades:
        pytest.skip(f"no recorded trades below {features}")
    real = pd.read_feather(trades[0]).head(20_000)
    real = real.assign(ts=pd.to_datetime(real["timestamp"], unit="ms", utc=True).dt.as_unit("ns"))
    real = real.sort_values("ts", kind="stable").set_index("ts").rename(columns={"amount": "size"})
    held = profile_of(real, table="raw/trades").set_index("column")
    assert held.loc["price", "mean"] == pytest.approx(real["price"].mean(), rel=1e-12)
    assert held.loc["price", "kurtosis"] == pytest.approx(real["price"].kurt(), rel=1e-6)
    assert held.loc["side", "labels"] == real["side"].value_counts().index.tolist()


def test_what_cannot_be_profiled_is_refused() -> None:
    bars = make_bars(10)
    with pytest.raises(DataError, match="no row"):
        profile_of(bars.iloc[:0], start=bars.index[0], end=bars.index[1])
    with pytest.raises(DataError, match="sorted"):
        profile_of(bars.iloc[::-1], start=bars.index[0], end=bars.index[-1] + HOUR)
    with pytest.raises(DataError, match="sorted"):
        profile_of(bars, end=bars.index[3])
    with pytest.raises(DataError, match="instants"):
        profile_of(bars.reset_index(drop=True), start=bars.index[0], end=bars.index[-1])
    with pytest.raises(ConfigurationError, match="empty"):
        profile_of(bars, end=bars.index[0])


def batches(frame: pd.DataFrame, rows: int) -> list[pd.DataFrame]:
    """A profile of every so many rows, each on the edges that the first one froze."""
    index = pd.date_range("2000-01-01", periods=len(frame), freq="h", tz="UTC", name="ts", unit="ns")
    frame = frame.set_axis(index)
    found: list[pd.DataFrame] = []
    edges: dict[str, list[float]] = {}
    for number in range(len(frame) // rows):
        part = frame.iloc[number * rows : (number + 1) * rows]
        found.append(profile_of(part, version=str(number), edges=edges))
        edges = reference_edges(found[-1]) | edges
    return found


@pytest.fixture(scope="module")
def real_changes() -> pd.DataFrame:
    """Hourly log returns and ranges of EURUSD in 2017, the packaged sample, in random order: stationary by design."""
    source = open_source("sample", load_settings())
    bars = source.fetch(BarRequest(Symbol.parse("EURUSD"), H1, None, None)).bars
    changes = with_changes(bars)[["log_return", "log_range", "volume"]].dropna()
    return changes.iloc[np.random.default_rng(11).permutation(len(changes))]


def test_the_false_alarm_rate_on_stationary_real_data_is_below_what_the_page_says(real_changes) -> None:
    profiles = batches(real_changes, 60)
    judged = alarmed = 0
    for place in range(MINIMUM_HISTORY, len(profiles)):
        found = compare(profiles[place], pd.concat(profiles[max(place - 40, 0) : place]))
        judged += 1
        alarmed += bool(found["alarm"].any())
    assert judged > 85
    assert alarmed / judged <= 0.05, f"{alarmed} of {judged} batches"


@pytest.mark.parametrize(
    ("change", "statistic"),
    [
        (lambda x: x.assign(log_return=x["log_return"] * 5), "std"),
        (lambda x: x.assign(log_return=x["log_return"] + 0.02), "mean"),
        (lambda x: x.assign(volume=x["volume"].where(np.arange(len(x)) % 2 == 0)), "null_share"),
        (lambda x: x.assign(log_range=np.where(np.arange(len(x)) % 7 == 0, np.inf, x["log_range"])), "infinite_share"),
        (lambda x: x.assign(log_range=x["log_range"].quantile(0.5)), "psi"),
    ],
)
def test_a_change_of_the_source_is_found_in_its_column(real_changes, change, statistic) -> None:
    rows = 120
    past = batches(real_changes[: 30 * rows], rows)
    edges = reference_edges(past[0])
    spoilt = change(real_changes.iloc[30 * rows : 31 * rows])
    index = pd.date_range(past[-1]["end"].iloc[0], periods=rows, freq="h", name="ts", unit="ns")
    found = compare(profile_of(spoilt.set_axis(index), edges=edges), pd.concat(past))
    alarms = found[found["alarm"]]
    column = {"std": "log_return", "mean": "log_return", "null_share": "volume"}.get(statistic, "log_range")
    assert set(alarms["column"]) == {column}
    assert statistic in set(alarms["statistic"])


def test_only_what_was_over_and_known_before_is_history(real_changes) -> None:
    profiles = batches(real_changes[:1200], 60)
    one, rest = profiles[10], pd.concat(profiles)
    assert before(one, rest)["ts"].max() < one["ts"].iloc[0]
    late = profiles[3].assign(known_at=one["end"].iloc[0] + HOUR, version="corrected")
    assert "corrected" not in set(before(one, pd.concat([rest, late]))["version"])
    newer = profiles[3].assign(known_at=one["ts"].iloc[0], version="corrected")
    chosen = before(one, pd.concat([rest, newer]))
    assert set(chosen[chosen["ts"] == newer["ts"].iloc[0]]["version"]) == {"corrected"}
    pd.testing.assert_frame_equal(compare(one, rest), compare(one, pd.concat(profiles[:10])))
    few = compare(profiles[MINIMUM_HISTORY - 1].assign(mean=1e9), pd.concat(profiles[: MINIMUM_HISTORY - 1]))
    assert not few["alarm"].any()
    assert before(one, rest.assign(table="clean/bars")).empty
    later = pd.date_range("2001", periods=60, freq="h", tz="UTC", name="ts")
    wrong = profile_of(real_changes.iloc[700:760].set_axis(later))
    with pytest.raises(DataError, match="reference_edges"):
        compare(wrong, rest)


def test_the_stability_index_is_the_textbooks_on_large_counts() -> None:
    reference, batch = np.array([5e6, 3e6, 2e6]), np.array([4e6, 4e6, 2e6])
    p, q = batch / batch.sum(), reference / reference.sum()
    assert population_stability(reference, batch)[0] == pytest.approx(float(((p - q) * np.log(p / q)).sum()), rel=1e-5)
    generator = np.random.default_rng(2)
    draws = generator.multinomial(400, np.full(20, 0.05), size=(500, 2)).astype(float)
    pairs = [population_stability(a, b) for a, b in draws]
    assert sum(index > limit for index, limit in pairs) <= 1
    assert np.mean([index for index, _ in pairs]) == pytest.approx(19 * (1 / 400 + 1 / 400), rel=0.1)


def test_the_page_escapes_what_comes_from_outside_and_is_the_same_twice(tmp_path, real_changes) -> None:
    hostile = '<script>alert("x")</script>'
    frame = real_changes.iloc[:1800].assign(**{hostile: hostile})
    profiles = batches(frame, 60)
    history = pd.concat(profiles[:-1])
    drift = compare(profiles[-1], history)
    drift.loc[0, "alarm"] = True
    text = render_profile(profiles[-1], history, drift, title=hostile)
    assert hostile not in text
    assert "<script" not in text
    assert text.count("&lt;script&gt;") >= 3
    assert text.count("<svg") >= 8
    assert "1 statistic drifted from the 29 batches before" in text
    assert text == render_profile(profiles[-1], history, drift, title=hostile)
    path = write_profile(tmp_path / "a" / "page.html", profiles[-1], history, drift, title="t")
    assert path.read_text() == render_profile(profiles[-1], history, drift, title="t")
    rows = summary_table(profiles[-1], drift)
    assert rows[0]["drift"] == str(drift.loc[0, "statistic"])
    assert {row["column"] for row in rows} == {"ts", "log_return", "log_range", "volume", hostile}
    alone = render_profile(profiles[0], history.iloc[:0], drift.iloc[:0], title="t")
    assert "nothing to compare" in alone
