"""Duplicates: each rule against a plain loop, counts that add up, and nothing lost."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tapeline.cleaning.duplicates import RULES, remove_duplicates
from tapeline.core.errors import ConfigurationError, SchemaError
from tests.quality.batches import raw_bars

ROWS = st.lists(
    st.tuples(st.integers(0, 4), st.integers(1, 3), st.sampled_from(["a", "b", "c"])), min_size=0, max_size=25
)


def made(rows: list[tuple[int, int, str]]) -> pd.DataFrame:
    """Bars at a few times, with few values, so that exact and conflicting rows abound."""
    ts = pd.DatetimeIndex([pd.Timestamp("2017-01-02", tz="UTC") + pd.Timedelta(hours=row[0]) for row in rows])
    price = np.array([float(row[1]) for row in rows])
    columns = {"open": price, "high": price + 1, "low": price - 0.5, "close": price + 0.5, "volume": price * 8}
    return pd.DataFrame({**columns, "source": pd.array([row[2] for row in rows], dtype="str")}).set_index(
        pd.DatetimeIndex(ts, tz="UTC", name="ts")
    )


def plain(frame: pd.DataFrame, rule: str, sources: list[str]) -> dict[pd.Timestamp, list[object]]:
    out = {}
    for ts in dict.fromkeys(frame.index):
        rows = [tuple(row) for row in frame[frame.index == ts].itertuples(index=False)]
        rows = list(dict.fromkeys(rows))  # exact repetitions say nothing new
        if rule == "first":
            out[ts] = list(rows[0])
        elif rule == "last":
            out[ts] = list(rows[-1])
        elif rule == "best_source":
            out[ts] = list(min(rows, key=lambda row: sources.index(row[5]) if row[5] in sources else 99))
        else:
            opens, highs, lows, closes, volumes, names = zip(*rows, strict=True)
            out[ts] = [opens[0], max(highs), min(lows), closes[-1], sum(volumes), names[-1]]
    return out


@settings(max_examples=150, deadline=None)
@given(ROWS, st.sampled_from(RULES))
def test_each_rule_is_that_of_a_plain_loop(rows: list[tuple[int, int, str]], rule: str) -> None:
    frame = made(rows)
    done = remove_duplicates(frame, rule=rule, sources=["b", "a"] if rule == "best_source" else ())
    found = {ts: row.tolist() for ts, row in zip(done.frame.index, done.frame.to_numpy(), strict=True)}
    assert found == plain(frame, rule, ["b", "a"])
    assert done.frame.index.is_unique
    assert len(done.frame) + len(done.removed) == len(frame)
    assert done.counts["exact"] + done.counts["conflicting"] == len(done.removed)
    distinct = frame.reset_index().drop_duplicates()
    assert done.counts["exact"] == len(frame) - len(distinct)
    assert done.counts["keys"] == int((distinct["ts"].value_counts() > 1).sum())
    again = remove_duplicates(done.frame, rule=rule, sources=["b"] if rule == "best_source" else ())
    pd.testing.assert_frame_equal(again.frame, done.frame)
    assert not sum(again.counts.values())


def test_joined_bars_are_consistent_and_keep_types() -> None:
    bars = raw_bars(6).assign(tick_count=np.array([1, 2, 3, 4, 5, 6], dtype=np.int64))
    second = bars.iloc[[2]].assign(high=9.0, known_at=bars["known_at"].iloc[[2]] + pd.Timedelta(hours=9))
    done = remove_duplicates(pd.concat([bars, second]), rule="aggregate")
    assert done.frame.dtypes.equals(pd.concat([bars, second]).dtypes)
    joined = done.frame.iloc[2]
    assert joined["high"] == 9.0
    assert joined["tick_count"] == 6
    assert joined["known_at"] == second["known_at"].iloc[0]
    pd.testing.assert_frame_equal(done.frame.drop(bars.index[2]), bars.drop(bars.index[2]), check_freq=False)


def test_rows_without_a_key_are_kept_and_counted() -> None:
    frame = pd.DataFrame({"id": ["x", None, None, "x"], "price": [1.0, 2.0, 2.0, 3.0]})
    done = remove_duplicates(frame, key=("id",), rule="last")
    assert done.frame["price"].tolist() == [2.0, 2.0, 3.0]
    assert done.counts == {"exact": 0, "conflicting": 1, "keys": 1, "without_key": 2}


def test_a_sound_series_comes_back_itself() -> None:
    bars = raw_bars(10)
    done = remove_duplicates(bars)
    assert done.frame is bars
    assert len(done.removed) == 0


def test_arguments_are_checked() -> None:
    bars = raw_bars(3)
    with pytest.raises(ConfigurationError, match="rule 'newest' is unknown"):
        remove_duplicates(bars, rule="newest")  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="no sources"):
        remove_duplicates(bars, rule="best_source")
    with pytest.raises(ConfigurationError, match="names no columns"):
        remove_duplicates(bars, key="ts")
    with pytest.raises(SchemaError, match=r"lack the columns \['id'\]"):
        remove_duplicates(bars, key=("id",))


def test_real_trades_share_times_but_not_ids(test_data: Path) -> None:
    found = sorted((test_data / "data" / "freqtrade").rglob("XRP_ETH-trades*.feather"))
    if not found:
        pytest.skip("the trades are not there")
    trades = pd.read_feather(found[0])
    assert trades["timestamp"].duplicated().sum() == 2490
    assert remove_duplicates(trades, key=("id",)).counts == {"exact": 0, "conflicting": 0, "keys": 0, "without_key": 0}
    twice = pd.concat([trades, trades.iloc[100:120]])
    done = remove_duplicates(twice, key=("id",))
    assert done.counts["exact"] == 20
    pd.testing.assert_frame_equal(done.frame, trades)
