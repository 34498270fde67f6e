"""The sanitizer: each repair, nothing else, causal, and done once is done for good."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tapeline.cleaning.outliers import LOOKBACK
from tapeline.cleaning.sanitizer import Sanitized, sanitize
from tapeline.core.errors import DataError, SchemaError
from tapeline.core.schemas import CLEAN_BARS, OHLCV
from tapeline.quality.checks import ROUNDING, check_bars, split
from tests.quality.batches import raw_bars, sample_bars


def changes(result: Sanitized) -> dict[str, int]:
    return dict(zip(result.report["change"], result.report["rows"], strict=True))


def put(bars: pd.DataFrame, row: int, **values: object) -> pd.DataFrame:
    bars = bars.copy()
    for name, value in values.items():
        bars.iloc[row, bars.columns.get_loc(name)] = value
    return bars


def test_sound_bars_come_back_as_they_were() -> None:
    bars = raw_bars(50)
    result = sanitize(bars, "H1")
    assert changes(result) == {}
    assert list(result.report.columns) == ["change", "rows", "example", "reason"]
    pd.testing.assert_frame_equal(result.bars[bars.columns], bars, check_freq=False)
    assert not result.bars[["repaired", "outlier"]].to_numpy().any()
    assert CLEAN_BARS.to_arrow(result.bars).num_rows == 50


@pytest.mark.parametrize(
    ("column", "anchor", "factor", "change"),
    [("high", "close", 1 - ROUNDING / 2, "widened_high"), ("low", "open", 1 + ROUNDING / 2, "widened_low")],
)
def test_a_rounding_error_is_widened_away(column: str, anchor: str, factor: float, change: str) -> None:
    bars = raw_bars(5)
    if column == "high":
        bars["open"] = bars["low"]
    else:
        bars["close"] = bars["high"]
    bars = put(bars, 3, **{column: bars[anchor].iloc[3] * factor})
    result = sanitize(bars, "H1")
    assert changes(result) == {change: 1}
    assert str(bars.index[3]) in result.report["example"].iloc[0]
    assert result.bars[column].iloc[3] == bars[anchor].iloc[3]
    assert result.bars["repaired"].tolist() == [False, False, False, True, False]
    unchanged = [name for name in OHLCV if name != column]
    pd.testing.assert_frame_equal(result.bars[unchanged], bars[unchanged], check_freq=False)


def test_a_missing_volume_becomes_zero_and_is_marked() -> None:
    result = sanitize(put(raw_bars(4), 2, volume=math.nan), "H1")
    assert changes(result) == {"missing_volume_to_zero": 1}
    assert result.bars["volume"].iloc[2] == 0.0
    assert result.bars["repaired"].tolist() == [False, False, True, False]


def test_order_is_restored_and_counted() -> None:
    bars = raw_bars(6)
    result = sanitize(bars.iloc[[1, 0, 2, 3, 5, 4]], "H1")
    assert changes(result) == {"sorted_rows": 2}
    assert str(bars.index[0]) in result.report["example"].iloc[0]
    pd.testing.assert_frame_equal(result.bars[bars.columns], bars, check_freq=False)


def test_foreign_names_types_and_columns_are_brought_to_ours() -> None:
    bars = raw_bars(4)[list(OHLCV)].astype({"open": str})
    foreign = bars.rename(columns={"open": "Open ", "high": "High", "low": "LOW", "volume": "Volume"})
    foreign = foreign.assign(**{"Adj Close": 1.0}).tz_convert("Europe/London")
    result = sanitize(foreign, "H1")
    assert changes(result) == {"renamed_columns": 4, "changed_types": 4, "left_out_columns": 4, "assumed_arrival": 4}
    examples = result.report.set_index("change")["example"]
    assert "Open  -> open" in examples["renamed_columns"]
    assert "open: str -> float64" in examples["changed_types"]
    assert examples["left_out_columns"] == "adj_close"
    assert result.bars["open"].tolist() == [float(text) for text in bars["open"]]
    assert str(result.bars.index.dtype) == "datetime64[ns, UTC]"
    assert result.bars["known_at"].equals(result.bars["close_ts"])
    assert result.bars["known_at_is_estimate"].all()
    CLEAN_BARS.to_arrow(result.bars)
    with pytest.raises(DataError, match="not unique"):
        sanitize(raw_bars(3).assign(Open=1.0), "H1")


def test_known_at_and_gaps_are_left_alone() -> None:
    bars = raw_bars(30).iloc[[0, 1, 2, 9, 10, 25]]
    bars = bars.assign(known_at=bars["close_ts"] + pd.Timedelta(minutes=7), known_at_is_estimate=False)
    clean = sanitize(bars, "H1").bars
    assert clean.index.equals(bars.index)
    for name in ("known_at", "known_at_is_estimate", "close_ts", "source", "revision"):
        pd.testing.assert_series_equal(clean[name], bars[name])


def test_bars_that_fail_the_check_are_not_cleaned() -> None:
    with pytest.raises(DataError, match=r"1 of 4 bars do not pass the check: {'high_below_low': 1}.*quarantine"):
        sanitize(put(raw_bars(4), 2, high=0.1), "H1")
    with pytest.raises(DataError, match="duplicate_time"):
        sanitize(pd.concat([raw_bars(3), raw_bars(3).iloc[:1]]), "H1")
    with pytest.raises(SchemaError, match="lack"):
        sanitize(raw_bars(3).drop(columns="low"), "H1")


def test_no_bars_are_no_bars() -> None:
    result = sanitize(raw_bars(3).iloc[:0], "H1", history=sanitize(raw_bars(3), "H1").bars)
    assert CLEAN_BARS.to_arrow(result.bars).num_rows == 0


def odd_bars(seed: int, rows: int = 160) -> pd.DataFrame:
    """Bars with everything that cleaning repairs or flags, at random places, out of order."""
    generator = np.random.default_rng(seed)
    bars = raw_bars(rows, seed=seed)
    at = generator.choice(rows, 12, replace=False)
    for row in at[:3]:
        bars = put(bars, row, volume=math.nan)
    for row in at[3:6]:
        bars = put(bars, row, high=bars[["open", "close"]].iloc[row].max() * (1 - ROUNDING / 3))
    for row in at[6:9]:
        bars = put(bars, row, low=bars[["open", "close"]].iloc[row].min() * (1 + ROUNDING / 3))
    for row in at[9:]:
        bars = put(bars, row, high=bars["high"].iloc[row] * 1.2)
    return bars.iloc[generator.permutation(rows)]


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000))
def test_twice_is_once(seed: int) -> None:
    once = sanitize(odd_bars(seed), "H1")
    assert changes(once)["missing_volume_to_zero"] == 3
    again = sanitize(once.bars, "H1")
    pd.testing.assert_frame_equal(again.bars, once.bars)
    assert changes(again) == {}
    assert check_bars(once.bars, "H1").passed.all()


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), cut=st.integers(1, 159))
def test_a_clean_row_depends_on_the_rows_up_to_it(seed: int, cut: int) -> None:
    bars = odd_bars(seed).sort_index()
    whole = sanitize(bars, "H1").bars
    pd.testing.assert_frame_equal(sanitize(bars.iloc[:cut], "H1").bars, whole.iloc[:cut])
    rest = sanitize(bars.iloc[cut:], "H1", history=whole.iloc[max(cut - LOOKBACK, 0) : cut]).bars
    pd.testing.assert_frame_equal(rest, whole.iloc[cut:])
    overlapping = sanitize(bars.iloc[cut:], "H1", history=whole).bars  # only what lies before counts as the past
    pd.testing.assert_frame_equal(overlapping, whole.iloc[cut:])


def test_the_packaged_bars_need_no_repair() -> None:
    bars = sample_bars()
    result = sanitize(bars, "H1")
    assert len(result.bars) == 6225
    assert set(changes(result)) == {"changed_types", "assumed_arrival", "flagged_outlier"}  # times came in microseconds
    assert not result.bars["repaired"].any()
    assert changes(result)["flagged_outlier"] == 21  # as docs/cleaning.md says
    pd.testing.assert_frame_equal(
        result.bars[list(OHLCV)].reset_index(drop=True), bars[list(OHLCV)].reset_index(drop=True)
    )


def test_yahoo_bars_as_served(test_data: Path) -> None:
    table = pd.read_csv(test_data / "api" / "yahoo" / "yfinance_repair" / "CLC-L-1d-bad-div.csv")
    ts = pd.DatetimeIndex(pd.to_datetime(table.pop("Datetime" if "Datetime" in table else "Date"), utc=True), name="ts")
    bars = table.set_axis(ts.normalize()).rename(columns=str.lower)
    checked = check_bars(bars, "D1")
    good, bad = split(bars, checked)
    assert checked.counts() == {"not_finite": 1, "open_outside": 8, "close_outside": 8}
    assert len(good) + len(bad) == len(bars)
    clean = sanitize(good, "D1").bars
    assert clean.index.equals(good.index)
    inside = (clean["low"] <= clean[["open", "close"]].min(axis=1)) & (
        clean[["open", "close"]].max(axis=1) <= clean["high"]
    )
    assert inside.all()


def test_bars_with_our_names_do_not_pay_for_pyjanitor() -> None:
    code = (
        "import sys, tapeline.cleaning.sanitizer as s; from tests.quality.batches import raw_bars; "
        "s.sanitize(raw_bars(5), 'H1'); sys.exit('janitor' in sys.modules)"
    )
    root = Path(__file__).parents[2]
    assert subprocess.run([sys.executable, "-c", code], check=False, cwd=root).returncode == 0
