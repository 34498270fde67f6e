from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tapeline.core.errors import ConfigurationError, DataError
from tapeline.core.schemas import RAW_BARS
from tapeline.core.symbol import Symbol
from tapeline.lake.partition import Place, make_folder, partitions, period_bounds, period_label, places, split
from tests.lake.support import EURUSD, H1, SWAP

EXTREMES = np.iinfo(np.int64)


@given(st.integers(EXTREMES.min + 1, EXTREMES.max), st.sampled_from(["year", "month", "day"]))
def test_an_instant_lies_in_the_bounds_of_its_period(instant, period):
    label = period_label(instant, period)
    low, high = period_bounds(label)
    assert low <= instant < high
    expected = {"year": "%Y", "month": "%Y-%m", "day": "%Y-%m-%d"}[period]
    assert label == pd.Timestamp(instant, tz="UTC").strftime(expected)


@given(st.lists(st.integers(EXTREMES.min + 1, EXTREMES.max), max_size=30), st.sampled_from(["year", "month", "day"]))
def test_split_cuts_at_the_borders_and_loses_nothing(instants, period):
    values = np.sort(np.array(instants, dtype=np.int64))
    pieces = list(split(values, period))
    assert [row for _, start, stop in pieces for row in range(start, stop)] == list(range(values.size))
    assert all(period_label(value, period) == label for label, a, b in pieces for value in values[a:b])
    assert len({label for label, _, _ in pieces}) == len(pieces)


@pytest.mark.parametrize("hostile", ["../../etc", "..", "/etc/passwd", "a/../b", "EUR\0USD", "", "x" * 65, "a\\b"])
def test_a_hostile_symbol_never_becomes_a_path(hostile):
    with pytest.raises(ConfigurationError, match="symbol"):
        Place.of(RAW_BARS, hostile, H1)
    with pytest.raises(ConfigurationError, match="symbol"):
        Place.of(RAW_BARS, Symbol(hostile), H1)  # built around the validation


@pytest.mark.parametrize("symbol", [EURUSD, SWAP, Symbol.parse("^VIX"), Symbol.parse("BRK-B"), Symbol.parse("A&B=X")])
def test_every_valid_symbol_is_one_folder_that_reads_back(symbol, tmp_path):
    place = Place.of(RAW_BARS, symbol, H1)
    assert place.folder(tmp_path).relative_to(tmp_path).parts == place.parts
    make_folder(tmp_path, place.parts)
    assert list(places(tmp_path)) == [place]


def test_a_link_is_neither_followed_nor_created_through(tmp_path):
    root, outside = tmp_path / "lake", tmp_path / "outside"
    outside.mkdir()
    make_folder(root, ("raw",))
    (root / "raw" / "bars").symlink_to(outside)
    with pytest.raises(DataError, match="symbolic link"):
        make_folder(root, ("raw", "bars", "symbol=X"))
    with pytest.raises(DataError, match="symbolic link"):
        list(places(root))
    assert list(outside.iterdir()) == []


def test_partitions_are_pruned_by_their_path(tmp_path):
    for label in ("2016", "2017", "2018"):
        folder = make_folder(tmp_path, ("raw", f"period={label}"))
        (folder / "data.parquet").touch()
    make_folder(tmp_path, ("raw", "period=2019"))  # a writer died before its first file
    (tmp_path / "raw" / "period=2017" / ".1-ab.tmp").touch()
    low, high = period_bounds("2017")

    def labels(**span: int) -> list[str]:
        return [partition.label for partition in partitions(tmp_path / "raw", **span)]

    assert labels() == ["2016", "2017", "2018"]
    assert labels(start=low, end=high) == ["2017"]
    assert labels(start=low - 1, end=high + 1) == ["2016", "2017", "2018"]
    assert labels(start=high) == ["2018"]
    assert partitions(Path(tmp_path / "absent")) == []


def test_a_foreign_folder_is_reported(tmp_path):
    make_folder(tmp_path, ("raw", "bars", "notes", "timeframe=H1"))
    with pytest.raises(DataError, match="not a folder of the lake"):
        list(places(tmp_path))
