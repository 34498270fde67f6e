from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tapeline.core.errors import ConfigurationError, DataError, ProviderError, TemporaryError, ThrottledError
from tapeline.core.settings import load_settings
from tapeline.core.symbol import Symbol
from tapeline.core.timeframe import Timeframe
from tapeline.sources.base import BarRequest, Data, Empty, Failed, Source, Throttled, open_source, require
from tapeline.sources.frame import as_record, cut, epoch_nanoseconds, make_bars, make_rejected
from tests.sources.support import at, request_for

H1 = Timeframe.parse("H1")
EURUSD = Symbol.parse("EURUSD")


def some_bars(count: int = 3) -> pd.DataFrame:
    ts = at("2017-01-02").as_unit("ns").value + np.arange(count) * H1.nanoseconds
    return make_bars(ts, {name: np.arange(count) for name in ("open", "high", "low", "close", "volume")})


def test_a_request_refuses_bounds_without_a_zone_and_an_empty_range():
    with pytest.raises(ConfigurationError, match="time zone"):
        BarRequest(EURUSD, H1, pd.Timestamp("2017-01-01"))
    with pytest.raises(ConfigurationError, match="time zone"):
        BarRequest(EURUSD, H1, None, pd.NaT)
    with pytest.raises(ConfigurationError, match="not before"):
        BarRequest(EURUSD, H1, at("2017-01-02"), at("2017-01-02"))
    with pytest.raises(ConfigurationError, match="valid instrument name"):
        BarRequest("../../etc/passwd", H1)  # type: ignore[arg-type]


def test_a_request_brings_its_bounds_to_utc():
    request = BarRequest(EURUSD, H1, pd.Timestamp("2017-01-02", tz="America/New_York"))
    assert request.start == at("2017-01-02 05:00")
    assert str(request.start.tz) == "UTC"


def test_require_raises_what_a_retry_policy_decides_by():
    assert require(Empty("closed")) == Empty("closed")
    with pytest.raises(ThrottledError) as caught:
        require(Throttled(7.5, "slow down"))
    assert caught.value.retry_after == 7.5
    assert isinstance(caught.value, TemporaryError)
    with pytest.raises(ProviderError, match="no such market"):
        require(Failed(ProviderError("no such market")))


def test_data_refuses_what_is_no_answer():
    with pytest.raises(DataError, match="no bar and no rejected row"):
        Data(some_bars(0), make_rejected(), "s", "p")
    with pytest.raises(DataError, match="float64"):
        Data(some_bars().astype("float32"), make_rejected(), "s", "p")
    with pytest.raises(DataError, match="UTC nanoseconds"):
        Data(some_bars().tz_convert("Europe/Berlin"), make_rejected(), "s", "p")
    with pytest.raises(DataError, match="columns"):
        Data(some_bars(), make_rejected().drop(columns="record"), "s", "p")


def test_cut_holds_back_what_had_not_closed_wherever_it_stands():
    bars = some_bars(4).iloc[[3, 0, 2, 1]]
    kept, unfinished = cut(bars, request_for("EURUSD", "H1", "2017-01-02 00:00"), at("2017-01-02 03:00"))
    assert kept.index.hour.tolist() == [0, 2, 1]
    assert unfinished == 1
    complete, none = cut(bars, request_for("EURUSD", "H1"), at("2017-01-02 04:00"))
    assert len(complete) == 4
    assert none == 0


def test_cut_is_closed_on_the_left_and_open_on_the_right():
    request = request_for("EURUSD", "H1", "2017-01-02 01:00", "2017-01-02 03:00")
    kept, unfinished = cut(some_bars(4), request, at("2020-01-01"))
    assert kept.index.hour.tolist() == [1, 2]
    assert unfinished == 0


def test_epochs_beyond_64_bit_nanoseconds_are_marked_and_do_not_wrap():
    values, fits = epoch_nanoseconds(np.array([0, 32_503_680_000, -(2**62)]), 1_000_000_000)
    assert fits.tolist() == [True, False, False]
    assert values.tolist() == [0, 0, 0]


def test_a_record_keeps_every_cell():
    assert as_record({"a": float("inf"), "b": None, "c": pd.Timestamp("2020-01-01"), "d": np.int64(3)}) == (
        '{"a": "inf", "b": null, "c": "2020-01-01 00:00:00", "d": 3}'
    )


@pytest.mark.parametrize("text", ["", "samples", "sample:x", "ccxt", "ccxt:", "yahoo:AAPL", "mt5:x", "../../etc"])
def test_an_unknown_source_is_a_configuration_error(text, tmp_path):
    with pytest.raises(ConfigurationError, match="unknown"):
        open_source(text, load_settings(root=tmp_path))


def test_open_source_gives_each_kind(tmp_path):
    settings = load_settings(root=tmp_path)
    (tmp_path / "data" / "_inbox").mkdir(parents=True)
    for text, name in [
        ("sample", "sample"),
        ("files", "files"),
        (f"files:{tmp_path}", "files"),
        ("ccxt:kraken", "ccxt:kraken"),
        ("yahoo", "yahoo"),
        ("mt5", "mt5"),
    ]:
        source = open_source(text, settings)
        assert isinstance(source, Source)
        assert source.name == name


def test_the_clock_given_reaches_the_source(tmp_path):
    source = open_source("sample", load_settings(root=tmp_path), clock=lambda: at("2017-01-02 01:30"))
    data = require(source.fetch(request_for("EURUSD", "H1")))
    assert data.bars.index[-1] == at("2017-01-02 00:00")


def test_the_interface_imports_no_client_library():
    code = (
        "import sys, tapeline.sources.base, tapeline.sources.exchange, tapeline.sources.yahoo, "
        "tapeline.sources.metatrader, tapeline.sources.sample; "
        "print([m for m in ('ccxt', 'yfinance', 'arch', 'mintalib', 'gym_anytrading') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_example_of_the_page_runs(capsys):
    text = (Path(__file__).parents[2] / "docs" / "sources.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    assert blocks
    for block in blocks:
        exec(block, {})
    assert capsys.readouterr().out.startswith("6225 EURUSD hourly ask prices")
