"""The cleaning chain: hostile tables in, clean bars out, nothing lost, twice is once, causal."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from tapeline.cleaning.chain import clean
from tapeline.cleaning.missing_policy import MissingPolicy
from tapeline.cleaning.policy import CleaningPolicy
from tapeline.cleaning.sanitizer import REASONS, sanitize
from tapeline.core.errors import ConfigurationError, DataError, SchemaError
from tapeline.core.schemas import CLEAN_BARS, OHLCV
from tapeline.core.settings import CleaningSettings
from tapeline.quality.calendars import MarketCalendar
from tapeline.quality.checks import check_bars
from tests.quality.batches import raw_bars, sample_bars

ALWAYS = MarketCalendar.parse("24x7")
FILLING = CleaningPolicy(missing=MissingPolicy(method="forward", limit=2), duplicates="last")


def hostile(seed: int, rows: int = 160) -> pd.DataFrame:
    """A table with every fault the chain knows, under foreign names, out of order, with times as epoch seconds."""
    generator = np.random.default_rng(seed)
    bars = raw_bars(rows, seed=seed, gaps=False)[list(OHLCV)]
    bars.insert(0, "Time", bars.index.asi8 // 1_000_000_000)
    bars = bars.reset_index(drop=True).drop(index=generator.choice(np.arange(2, rows - 2), 15, replace=False))
    at = generator.choice(len(bars), 18, replace=False)
    for rows_, (name, value) in zip(
        at.reshape(9, 2),
        [("open", math.nan), ("high", math.inf), ("low", -1.0), ("high", 0.1), ("close", 0.0), ("volume", -5.0),
         ("volume", math.nan), ("high", 5.0), ("low", 0.9)],
        strict=True,
    ):  # fmt: skip
        bars.iloc[rows_, bars.columns.get_loc(name)] = value
    again = bars.iloc[generator.choice(len(bars), 6, replace=False)]
    other = bars.iloc[generator.choice(len(bars), 4, replace=False)]
    bars = pd.concat([bars, again, other.assign(volume=777.0)])
    bars = bars.iloc[generator.permutation(len(bars))]
    return bars.rename(columns={name: f" {name.title()} " for name in OHLCV})


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([CleaningPolicy(), FILLING, CleaningPolicy(duplicates="aggregate")]))
def test_clean_bars_are_clean_and_nothing_is_lost(seed: int, policy: CleaningPolicy) -> None:
    table = hostile(seed)
    done = clean(table, "H1", policy, calendar=ALWAYS)
    filled = done.bars["filled"].fillna(False).astype(bool) if "filled" in done.bars else np.zeros(len(done.bars), bool)
    assert check_bars(done.bars, "H1").passed.all()
    assert done.bars.index.is_monotonic_increasing
    assert CLEAN_BARS.to_arrow(done.bars).num_rows == len(done.bars)
    assert len(done.bars) - int(filled.sum()) + len(done.refused) == len(table)
    assert done.refused["reasons"].map(len).gt(0).all()
    assert list(done.refused.columns[:-1]) == list(table.columns)  # as they came
    again = clean(done.bars, "H1", policy, calendar=ALWAYS)
    pd.testing.assert_frame_equal(again.bars, done.bars)
    assert len(again.report) == len(again.refused) == 0


def test_the_report_says_what_and_why() -> None:
    done = clean(hostile(3), "H1", FILLING, calendar=ALWAYS)
    report = done.report.set_index("change")
    assert {
        "renamed_columns",
        "read_times",
        "refused_rows",
        "sorted_rows",
        "dropped_exact_duplicates",
        "assumed_arrival",
        "missing_volume_to_zero",
        "filled_absent_bars",
        "flagged_outlier",
    } <= set(report.index)
    assert (report["reason"] == [REASONS[name] for name in report.index]).all()
    assert report["rows"].gt(0).all()
    assert report.loc["filled_absent_bars", "rows"] == done.bars["filled"].sum()
    assert report.loc["refused_rows", "rows"] == sum(
        not reasons[0].startswith(("duplicate", "conflicting")) for reasons in done.refused["reasons"]
    )


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), cut=st.integers(110, 150))
def test_a_filled_row_depends_on_the_past_alone(seed: int, cut: int) -> None:
    generator = np.random.default_rng(seed)
    bars = raw_bars(160, seed=seed, gaps=False)
    stored = bars.drop(bars.index[generator.choice(np.arange(1, 159), 30, replace=False)])
    whole = sanitize(stored, "H1", policy=FILLING, calendar=ALWAYS).bars
    part = sanitize(stored[stored.index < bars.index[cut]], "H1", policy=FILLING, calendar=ALWAYS).bars
    pd.testing.assert_frame_equal(part, whole.loc[: part.index[-1]].reindex(columns=part.columns))
    rest = stored[stored.index >= bars.index[cut]]
    history = part.tail(FILLING.lookback("H1"))
    after = sanitize(rest, "H1", policy=FILLING, calendar=ALWAYS, history=history).bars
    want = whole.loc[whole.index > part.index[-1]]
    pd.testing.assert_frame_equal(after, want.reindex(columns=after.columns), check_dtype="filled" in after)


def test_isolation_forests_may_flag_instead() -> None:
    bars = sample_bars().iloc[:3000].copy()
    bars.iloc[2500, bars.columns.get_loc("high")] *= 1.03
    forest = clean(bars, "H1", CleaningPolicy(outliers="isolation_forest")).bars["outlier"]
    hampel = clean(bars, "H1").bars["outlier"]
    both = clean(bars, "H1", CleaningPolicy(outliers="both")).bars["outlier"]
    assert forest.iloc[2500]
    assert (both == (forest | hampel)).all()
    assert not clean(bars, "H1", CleaningPolicy(outliers="none")).bars["outlier"].any()


def test_times_of_a_zone_are_read_and_doubtful_ones_refused() -> None:
    bars = raw_bars(5, gaps=False)[list(OHLCV)].reset_index(drop=True)
    wall = ["2017-11-05 00:00", "2017-11-05 01:00", "2017-11-05 02:00", "2017-11-05 03:00", "soon"]
    done = clean(bars.assign(date=wall), "H1", zone="America/New_York")
    assert [str(ts) for ts in done.bars.index.tz_convert("America/New_York").hour] == ["0", "2", "3"]
    assert [reasons[0].split(" America")[0] for reasons in done.refused["reasons"]] == [
        "missing_time: the time '2017-11-05 01:00' occurs twice in",
        "missing_time: the time 'soon' is no time",
    ]
    with pytest.raises(DataError, match="has no offset"):
        clean(bars.assign(date=wall), "H1")
    with pytest.raises(SchemaError, match="no times among"):
        clean(bars, "H1")


def test_the_settings_choose_the_policy() -> None:
    assert CleaningPolicy.from_settings(CleaningSettings()) == CleaningPolicy()
    chosen = CleaningSettings(missing="forward", missing_limit=3, duplicates="best_source", sources=("a",))
    policy = CleaningPolicy.from_settings(chosen)
    assert (policy.missing.method, policy.missing.limit, policy.sources) == ("forward", 3, ("a",))
    with pytest.raises(ValidationError, match="needs sources"):
        CleaningPolicy(duplicates="best_source")
    with pytest.raises(ValidationError, match="the chain is causal"):
        CleaningPolicy(missing=MissingPolicy(method="linear", causal=False))
    with pytest.raises(ValidationError, match="cannot make an absent bar"):
        CleaningPolicy(missing=MissingPolicy(method="knn"))
    with pytest.raises(ConfigurationError, match="no calendar"):
        sanitize(raw_bars(5), "H1", policy=FILLING)
