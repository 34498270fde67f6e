from __future__ import annotations

import dataclasses
import importlib.util
import json
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from tapeline.core.errors import ConfigurationError
from tapeline.core.symbol import Symbol
from tapeline.core.timeframe import Timeframe
from tapeline.sources.base import Data, Empty, Failed
from tapeline.sources.sample import SAMPLE_FILES, SampleSource
from tests.sources.support import at, request_for


def fetch(symbol: str, timeframe: str, *bounds: str | None) -> Data:
    outcome = SampleSource().fetch(request_for(symbol, timeframe, *bounds))
    assert isinstance(outcome, Data), outcome
    return outcome


# Rows as counted in the packages' files by hand: 6225; 5031 twice; 1305 of which 46 without a value; one less for AAPL.
@pytest.mark.parametrize(
    ("symbol", "timeframe", "rows", "rejected", "unfinished", "first", "last"),
    [
        ("EURUSD", "H1", 6225, 0, 0, "2017-01-01 22:00", "2017-12-29 21:00"),
        ("SP500", "D1", 5031, 0, 0, "1999-01-04", "2018-12-31"),
        ("NASDAQ", "D1", 5031, 0, 0, "1999-01-04", "2018-12-31"),
        ("VIX", "D1", 1259, 46, 0, "2014-01-03", "2019-01-03"),
        ("AAPL", "D1", 11503, 0, 1, "1980-12-12", "2026-08-05"),
        ("AAPL", "H1", 3478, 0, 1, "2024-08-06 13:30", "2026-08-05 19:30"),
        ("AAPL", "M1", 1595, 0, 1, "2026-07-31 13:30", "2026-08-06 14:04"),
    ],
)
def test_every_file_is_read_whole(symbol, timeframe, rows, rejected, unfinished, first, last):
    data = fetch(symbol, timeframe)
    assert (len(data.bars), len(data.rejected), data.unfinished) == (rows, rejected, unfinished)
    assert (data.bars.index[0], data.bars.index[-1]) == (at(first), at(last))
    assert data.bars.index.is_monotonic_increasing
    assert data.bars.index.is_unique
    assert not data.bars.isna().any(axis=None)


def test_eurusd_values_and_clock():
    bars = fetch("EURUSD", "H1").bars
    assert bars.iloc[0].tolist() == [1.05236, 1.05253, 1.05221, 1.05227, 143539993.3]
    # The FX week opens at 17:00 New York; if the file's clock were not UTC this would fail in summer or in winter.
    opens = bars.index[np.diff(bars.index.asi8, prepend=0) > 40 * 3600 * 10**9][1:-1]
    assert set(opens.tz_convert("America/New_York").hour) == {17}


def test_vix_invents_no_range():
    data = fetch("VIX", "D1")
    assert data.volume_kind == "none"
    assert (data.bars["volume"] == 0).all()
    for name in ("open", "high", "low"):
        assert data.bars[name].equals(data.bars["close"].rename(name))
    assert data.bars["close"].iloc[-1] == 25.45
    assert json.loads(data.rejected["record"].iloc[0]) == {"Date": "1/20/2014", "vix": "."}
    assert data.rejected["row_number"].iloc[0] == 11
    assert data.rejected["reasons"].iloc[0] == ["no value for the day: vix is '.'"]


def test_real_defects_of_the_share_are_kept():
    hourly = fetch("AAPL", "H1").bars
    assert hourly["volume"].iloc[0] == 0
    assert hourly.index[0] == pd.Timestamp("2024-08-06 09:30", tz="America/New_York")


def test_the_daily_share_says_that_dividends_are_out():
    daily, hourly = fetch("AAPL", "D1"), fetch("AAPL", "H1")
    assert daily.adjusted
    assert not hourly.adjusted
    assert hourly.adjustment == "splits"
    day = at("2024-08-06")
    last_hour = hourly.bars.loc[day : day + pd.Timedelta("1D"), "close"].iloc[-1]
    assert daily.bars.loc[day, "close"] < last_hour - 1


def test_the_recorded_instant_follows_from_the_files():
    """All three AAPL files end at one price, which is the minute bar's without volume."""
    last = {}
    for name in ("daily", "hourly", "minute"):
        folder = Path(importlib.util.find_spec("mintalib").origin).parent / "samples"
        last[name] = pd.read_csv(folder / f"{name}-prices.csv").iloc[-1]
    assert last["daily"].close == last["hourly"].close == last["minute"].close == last["minute"].open
    assert last["minute"].volume == 0
    recorded = {f.recorded_at for f in SAMPLE_FILES if f.symbol == "AAPL"}
    assert recorded == {pd.Timestamp(last["minute"].datetime).tz_convert("UTC")}


def test_a_replay_clock_holds_back_and_a_late_clock_changes_nothing():
    request = request_for("SP500", "D1")
    early = SampleSource(clock=lambda: at("2001-01-03 00:00")).fetch(request)
    assert early.bars.index[-1] == at("2001-01-02")
    late = SampleSource(clock=lambda: at("2099-01-01")).fetch(request_for("AAPL", "H1"))
    pd.testing.assert_frame_equal(late.bars, fetch("AAPL", "H1").bars)


def test_ranges_and_misses():
    bars = fetch("EURUSD", "H1", "2017-02-01", "2017-02-02").bars
    assert (bars.index[0], bars.index[-1], len(bars)) == (at("2017-02-01"), at("2017-02-01 23:00"), 24)
    assert isinstance(SampleSource().fetch(request_for("EURUSD", "H1", "2030-01-01")), Empty)
    unknown = SampleSource().fetch(request_for("EURUSDX", "H1"))
    assert isinstance(unknown.error, ConfigurationError)
    assert "did you mean EURUSD" in str(unknown.error)
    other = SampleSource().fetch(request_for("AAPL", "M5"))
    assert "it has M1, H1, D1" in str(other.error)


def test_the_packages_are_not_imported():
    before = set(sys.modules)
    fetch("EURUSD", "H1")
    fetch("SP500", "D1")
    fetch("AAPL", "D1")
    new = {name.partition(".")[0] for name in set(sys.modules) - before}
    assert not new & {"gym_anytrading", "arch", "mintalib"}


def one_file(tmp_path, monkeypatch, content: bytes | None) -> SampleSource:
    """A sample of one file whose package lies in ``tmp_path``."""
    folder = tmp_path / "pack"
    folder.mkdir()
    (folder / "__init__.py").write_text("raise ImportError('must not be imported')")
    if content is not None:
        (folder / "data.csv").write_bytes(content)
    real = importlib.util.find_spec
    found = SimpleNamespace(origin=str(folder / "__init__.py"))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: found if name == "pack" else real(name))
    file = dataclasses.replace(SAMPLE_FILES[0], package="pack", path="data.csv")
    return SampleSource(files=(file,))


@pytest.mark.parametrize("content", [b"Time,Open,High,Low,Close,Volume\n", None])
def test_another_file_than_the_pinned_one_is_refused(tmp_path, monkeypatch, content):
    outcome = one_file(tmp_path, monkeypatch, content).fetch(request_for("EURUSD", "H1"))
    assert isinstance(outcome, Failed)
    assert isinstance(outcome.error, ConfigurationError)
    assert "gym-anytrading==2.0.0" in str(outcome.error)


def test_an_absent_package_is_named():
    file = dataclasses.replace(SAMPLE_FILES[0], package="tapeline_no_such_package")
    outcome = SampleSource(files=(file,)).fetch(request_for("EURUSD", "H1"))
    assert "pip install 'gym-anytrading==2.0.0'" in str(outcome.error)


def test_pins_agree_with_the_project():
    import tomllib

    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    for file in SAMPLE_FILES:
        assert f"{file.distribution}=={file.version}" in project["dependencies"]
    assert {(f.symbol, f.timeframe.name) for f in SAMPLE_FILES if f.timeframe == Timeframe.parse("H1")} == {
        (Symbol.parse("EURUSD"), "H1"),
        (Symbol.parse("AAPL"), "H1"),
    }
