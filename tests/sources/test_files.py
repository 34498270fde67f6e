from __future__ import annotations

import json
import os
import time

import numpy as np
import pandas as pd
import pytest

from tapeline.core.errors import ConfigurationError, DataError
from tapeline.sources import tables
from tapeline.sources.base import Data, Empty, Failed
from tapeline.sources.columns import recognise
from tapeline.sources.files import FileSource, parse_file_name
from tests.sources.support import at, clock_at, request_for
from tests.support import make_bars

HEAD = "Time,Open,High,Low,Close,Volume\n"
ROWS = "2020-01-01 00:00,1.1,1.2,1.0,1.15,10\n2020-01-01 01:00,1.15,1.25,1.05,1.2,20\n"


def fetch(folder, symbol="EURUSD", timeframe="H1", *bounds, clock="2030-01-01"):
    return FileSource(folder, clock=clock_at(clock)).fetch(request_for(symbol, timeframe, *bounds))


def data_of(folder, text, *, name="EURUSD_H1.csv", encoding="utf-8", **options) -> Data:
    (folder / name).write_bytes(text.encode(encoding))
    outcome = fetch(folder, **options)
    assert isinstance(outcome, Data), outcome
    return outcome


def error_of(outcome) -> Exception:
    assert isinstance(outcome, Failed), outcome
    return outcome.error


def test_a_plain_file(tmp_path):
    data = data_of(tmp_path, HEAD + ROWS)
    assert data.bars.index.tolist() == [at("2020-01-01 00:00"), at("2020-01-01 01:00")]
    assert data.bars.to_numpy().tolist() == [[1.1, 1.2, 1.0, 1.15, 10.0], [1.15, 1.25, 1.05, 1.2, 20.0]]
    assert data.source_id == "files:EURUSD_H1.csv"
    assert "sha256:" in data.provenance
    assert data.volume_kind == "traded"
    assert len(data.rejected) == 0


@pytest.mark.parametrize("mark", [",", ";", "\t", "|"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_delimiters_and_encodings(tmp_path, mark, encoding):
    data = data_of(tmp_path, (HEAD + ROWS).replace(",", mark), encoding=encoding)
    assert data.bars["close"].tolist() == [1.15, 1.2]


def test_decimal_commas(tmp_path):
    text = "Datum;x\n".replace("Datum;x", "Date;Time;Open;High;Low;Close;Volume")
    data = data_of(
        tmp_path, text + "15.11.2021;00:00;1,1;1,2;1,0;1,15;1.234,5\n15.11.2021;01:00;1,1;1,2;1,0;1,1512;3\n"
    )
    assert data.bars["close"].tolist() == [1.15, 1.1512]
    assert data.bars["volume"].tolist() == [1234.5, 3.0]
    assert data.bars.index[1] == at("2021-11-15 01:00")


def test_metatrader_export(tmp_path):
    text = (
        "<DATE>\t<TIME>\t<OPEN>\t<HIGH>\t<LOW>\t<CLOSE>\t<TICKVOL>\t<VOL>\t<SPREAD>\n"
        "2021.11.15\t01:39:00\t1.14439\t1.1444\t1.14432\t1.14434\t20\t0\t8\n"
    )
    data = data_of(tmp_path, text, name="EURUSD_M1_202111150139_202111150139.csv", timeframe="M1")
    assert data.bars.index[0] == at("2021-11-15 01:39")
    assert data.bars[["volume", "tick_count", "spread"]].iloc[0].tolist() == [20, 20, 8]
    assert data.bars["tick_count"].dtype == "int64"
    assert (data.volume_kind, data.spread_unit) == ("tick", "points")


def test_what_is_served_is_not_judged(tmp_path):
    rows = (
        "2020-01-01 02:00,nan,inf,-1,1,1\n2020-01-01 01:00,1,0.5,2,1,-5\n2020-01-01 01:00,1,0.5,2,1,-5\n"
        "2020-01-01 00:00,,1,1,1,\n"
    )
    bars = data_of(tmp_path, HEAD + rows).bars
    assert bars.index.hour.tolist() == [2, 1, 1, 0]
    assert np.isinf(bars["high"].iloc[0])
    assert bars["low"].iloc[0] == -1
    assert bars["volume"].iloc[1] == -5
    assert bars["open"].isna().tolist() == [True, False, False, True]


def test_nothing_is_lost(tmp_path):
    rows = (
        "2020-01-01 00:00,1,1,1,1,1\n"
        "2020-01-01 01:00,abc,1,1,=1+1,1\n"
        "\n"
        "2020-01-01 02:00,1,1\n"
        "soon,1,1,1,1,1\n"
        "2020-01-01 03:00,1,1,1,1,1,7\n"
        "2020-01-01 04:00,1,1,1,1,1\n"
    )
    data = data_of(tmp_path, HEAD + rows)
    assert data.bars.index.hour.tolist() == [0, 4]
    assert data.rejected["row_number"].tolist() == [1, 2, 3, 4]
    assert data.rejected["row_number"].dtype == "int64"
    assert json.loads(data.rejected["record"][0])["Close"] == "=1+1"
    assert data.rejected["reasons"].tolist() == [
        ["open 'abc' is not a number", "close '=1+1' is not a number"],
        ["the line does not have 6 cells"],
        ["time 'soon' cannot be read"],
        ["the line does not have 6 cells"],
    ]
    assert json.loads(data.rejected["record"][1]) == ["2020-01-01 02:00,1,1"]


def test_rejected_rows_follow_the_range_where_their_time_is_known(tmp_path):
    rows = "2020-01-01 00:00,x,1,1,1,1\n2020-01-02 00:00,x,1,1,1,1\nsoon,1,1,1,1,1\n2020-01-02 01:00,1,1,1,1,1\n"
    (tmp_path / "EURUSD_H1.csv").write_text(HEAD + rows)
    data = fetch(tmp_path, "EURUSD", "H1", "2020-01-02", "2020-01-03")
    assert data.rejected["row_number"].tolist() == [1, 2]


def test_a_file_of_which_no_row_is_a_bar_still_hands_over_its_rows(tmp_path):
    data = data_of(tmp_path, HEAD + "soon,1,1,1,1,1\n")
    assert len(data.bars) == 0
    assert len(data.rejected) == 1


def test_zone_option_and_default(tmp_path):
    assert data_of(tmp_path, HEAD + ROWS).bars.index[0] == at("2020-01-01 00:00")
    (tmp_path / "files.toml").write_text('[default]\nzone = "America/New_York"\nadjusted = true\n')
    data = data_of(tmp_path, HEAD + ROWS)
    assert data.bars.index[0] == at("2020-01-01 05:00")
    assert data.adjusted
    (tmp_path / "files.toml").write_text('[default]\nzone = "America/New_York"\n["EURUSD_H1.csv"]\nzone = "UTC"\n')
    assert data_of(tmp_path, HEAD + ROWS).bars.index[0] == at("2020-01-01 00:00")


@pytest.mark.parametrize(
    ("toml", "words"),
    [
        ('[default]\nzone = "Mars/Base"', "Mars/Base"),
        ('[default]\nzoom = "UTC"', "'zoom' is unknown"),
        ('[default]\ndecimal = "x"', "must be '.' or ','"),
        ("[default]\nzone = 3", "wrong type"),
        ('[default]\ndelimiter = ";;"', "one ASCII character"),
    ],
)
def test_wrong_options_are_named(tmp_path, toml, words):
    (tmp_path / "files.toml").write_text(toml)
    (tmp_path / "EURUSD_H1.csv").write_text(HEAD + ROWS)
    error = error_of(fetch(tmp_path))
    assert isinstance(error, ConfigurationError)
    assert words in str(error)


@pytest.mark.parametrize("toml", ["zone = 'UTC'", "[default", "\xff"])
def test_an_options_file_that_is_none(tmp_path, toml):
    (tmp_path / "files.toml").write_bytes(toml.encode("latin-1"))
    with pytest.raises(ConfigurationError, match=r"files\.toml"):
        FileSource(tmp_path)


def test_unfinished_bars_go_by_the_clock(tmp_path):
    (tmp_path / "EURUSD_H1.csv").write_text(HEAD + ROWS)
    data = fetch(tmp_path, clock="2020-01-01 01:59:59")
    assert (len(data.bars), data.unfinished) == (1, 1)
    assert len(fetch(tmp_path, clock="2020-01-01 02:00").bars) == 2
    empty = fetch(tmp_path, clock="2020-01-01 00:10")
    assert isinstance(empty, Empty)
    assert "2 had not closed yet" in empty.reason


def test_empty_files_are_told_apart(tmp_path):
    path = tmp_path / "EURUSD_H1.csv"
    path.write_bytes(b"")
    error = error_of(fetch(tmp_path))
    assert isinstance(error, DataError)
    assert "EURUSD_H1.csv' is empty" in str(error)
    path.write_bytes(b"\n\n")
    assert isinstance(error_of(fetch(tmp_path)), DataError)
    path.write_text(HEAD)
    assert isinstance(fetch(tmp_path), Empty)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"<!DOCTYPE html><html>", "web page"),
        (b"PK\x03\x04\x00\x00", "binary data"),
        (b"Zeit,\xff\xfe\xfa\n1,2\n", "not UTF-8"),
        (b"A,B\n1,2\n", "no column for open"),
        (b"Time,Open,High,Low,Close,close\n", "all look like 'close'"),
        (b"Time,Open,High,Low,Close,Close\n", "several columns named"),
        (b"Time\n2020\n", "no delimiter"),
    ],
)
def test_files_that_are_no_table(tmp_path, content, words):
    (tmp_path / "EURUSD_H1.csv").write_bytes(content)
    error = error_of(fetch(tmp_path))
    assert isinstance(error, DataError)
    assert words in str(error)
    assert "EURUSD_H1.csv" in str(error)


def test_bounds_on_size(tmp_path, monkeypatch):
    (tmp_path / "EURUSD_H1.csv").write_text(HEAD + ROWS)
    make_bars(10)[["open", "high", "low", "close", "volume"]].to_parquet(tmp_path / "GBPUSD_H1.parquet")
    monkeypatch.setattr(tables, "MAXIMUM_ROWS", 1)
    for symbol in ("EURUSD", "GBPUSD"):
        error = error_of(fetch(tmp_path, symbol))
        assert isinstance(error, ConfigurationError)
        assert "more than the bounds" in str(error)
    monkeypatch.setattr(tables, "MAXIMUM_BYTES", 10)
    assert "more than the bound of 10" in str(error_of(fetch(tmp_path)))


@pytest.mark.parametrize("kind", ["parquet", "feather"])
def test_arrow_files(tmp_path, kind):
    bars = make_bars(50)[["open", "high", "low", "close", "volume"]]
    path = tmp_path / f"EURUSD_H1.{kind}"
    if kind == "parquet":
        bars.to_parquet(path)
    else:
        bars.reset_index().to_feather(path)
    data = fetch(tmp_path)
    pd.testing.assert_frame_equal(data.bars, bars, check_freq=False)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    error = error_of(fetch(tmp_path))
    assert isinstance(error, DataError)
    assert f"EURUSD_H1.{kind}" in str(error)
    path.write_bytes(b"")
    assert isinstance(error_of(fetch(tmp_path)), DataError)


def test_an_arrow_file_with_texts_and_a_naive_zone(tmp_path):
    frame = pd.DataFrame({"Date": ["2020-07-01 09:30", "x"], "o": ["1", "2"], "h": 1, "l": 1, "c": [1.5, None]})
    frame.to_parquet(tmp_path / "AAPL_M1.parquet")
    (tmp_path / "files.toml").write_text('[default]\nzone = "America/New_York"')
    data = fetch(tmp_path, "AAPL", "M1")
    assert data.bars.index.tolist() == [at("2020-07-01 13:30")]
    assert data.volume_kind == "none"
    assert (data.bars["volume"] == 0).all()
    assert len(data.rejected) == 1


def test_a_request_cannot_leave_the_folder(tmp_path):
    inside = tmp_path / "inside"
    inside.mkdir()
    (tmp_path / "SECRET_H1.csv").write_text(HEAD + ROWS)
    (inside / "EURUSD_H1.csv").write_text(HEAD + ROWS)
    (inside / "SECRET_H1.csv").symlink_to(tmp_path / "SECRET_H1.csv")
    (inside / "..%2FSECRET_H1.csv").write_text(HEAD + ROWS)
    (inside / "GBPUSD_H1.csv").symlink_to(inside / "EURUSD_H1.csv")
    os.mkfifo(inside / "PIPE_H1.csv")
    source = FileSource(inside, clock=clock_at("2030-01-01"))
    assert source.symbols() == ["EURUSD", "GBPUSD"]
    error = error_of(source.fetch(request_for("SECRET", "H1")))
    assert isinstance(error, ConfigurationError)
    assert "the folder has EURUSD, GBPUSD" in str(error)


def test_a_folder_that_cannot_be_read_is_an_outcome(tmp_path, monkeypatch):
    source = FileSource(tmp_path)

    def refuse(self):
        raise PermissionError("no entry")

    monkeypatch.setattr(type(tmp_path), "iterdir", refuse)
    error = error_of(source.fetch(request_for("EURUSD", "H1")))
    assert isinstance(error, ConfigurationError)
    assert "no entry" in str(error)


def test_one_file_as_source_sees_no_other(tmp_path):
    (tmp_path / "EURUSD_H1.csv").write_text(HEAD + ROWS)
    (tmp_path / "GBPUSD_H1.csv").write_text(HEAD + ROWS)
    assert FileSource(tmp_path / "EURUSD_H1.csv").symbols() == ["EURUSD"]
    with pytest.raises(ConfigurationError, match="no file or folder"):
        FileSource(tmp_path / "nothing")


def test_misses_say_what_is_there(tmp_path):
    (tmp_path / "EURUSD_H1.csv").write_text(HEAD + ROWS)
    assert "did you mean EURUSD" in str(error_of(fetch(tmp_path, "eurusd")))
    assert "it has H1" in str(error_of(fetch(tmp_path, "EURUSD", "M1")))


def test_several_files_of_one_series(tmp_path):
    (tmp_path / "EURUSD_H1_20200101_20200101.csv").write_text(HEAD + ROWS)
    (tmp_path / "EURUSD_H1_20210101_20210101.csv").write_text(HEAD + ROWS.replace("2020", "2021") + "x,1,1,1,1,1\n")
    data = fetch(tmp_path)
    assert data.bars.index.year.tolist() == [2020, 2020, 2021, 2021]
    assert data.rejected["reasons"][0] == ["time 'x' cannot be read", "in file EURUSD_H1_20210101_20210101.csv"]
    (tmp_path / "EURUSD_H1_20220101_20220101.csv").write_text("Time,Open,High,Low,Close\n2022-01-01,1,1,1,1\n")
    assert "differ in what their volume counts" in str(error_of(fetch(tmp_path)))


@pytest.mark.parametrize("stem", ["notes", "EURUSD", "EURUSD_H7", "..%2Fetc_H1", "_H1", "EURUSD_H1_extra"])
def test_names_that_are_none(stem):
    assert parse_file_name(stem) is None


def test_unwell_counts_do_not_wrap_into_integers(tmp_path):
    text = "Time,Open,High,Low,Close,TickVol\n2020-01-01,1,1,1,1,1e300\n2020-01-01 01:00,1,1,1,1,\n"
    data = data_of(tmp_path, text)
    assert "tick_count" not in data.bars.columns
    assert data.bars["volume"].iloc[0] == 1e300
    assert np.isnan(data.bars["volume"].iloc[1])


def test_preference_among_time_columns():
    names = ["unix", "date", "symbol", "open", "high", "low", "close", "Volume BTC", "Volume"]
    roles = recognise(names, "f")
    assert (roles.time, roles.clock, roles.volume) == ("unix", None, "Volume")


def test_a_million_rows_are_quick(tmp_path):
    bars = make_bars(1_000_000, timeframe="M1", gaps=False)[["open", "high", "low", "close", "volume"]]
    path = tmp_path / "EURUSD_M1.csv"
    import pyarrow as pa
    import pyarrow.csv

    pa.csv.write_csv(pa.Table.from_pandas(bars.reset_index()), path)
    started = time.process_time()
    data = fetch(tmp_path, "EURUSD", "M1")
    spent = time.process_time() - started
    pd.testing.assert_frame_equal(data.bars, bars, check_freq=False, check_exact=True)
    assert spent < 6, f"{spent:.1f} s of CPU"  # about 2 s, most of it pyarrow reading 73 MB of text


def test_real_exports(test_data, tmp_path):
    (tmp_path / "EURUSD_M15.csv").write_bytes((test_data / "data/smc_eurusd_m15_mt5/EURUSD_15M.csv").read_bytes())
    (tmp_path / "EURUSD_M1.csv").write_bytes((test_data / "data/mt5_rates/EURUSD_M1.csv").read_bytes())
    (tmp_path / "BTC%2FUSDT_M5.feather").write_bytes(
        (test_data / "data/freqtrade/UNITTEST_BTC-5m.feather").read_bytes()
    )
    export = fetch(tmp_path, "EURUSD", "M15")
    assert (len(export.bars), len(export.rejected), export.volume_kind) == (24424, 0, "tick")
    assert export.bars.index[-1] == at("2023-10-02 06:45")
    rates = fetch(tmp_path, "EURUSD", "M1")
    assert len(rates.bars) == 500
    assert rates.bars.index[0] == at("2021-11-15 01:39")
    candles = fetch(tmp_path, "BTC/USDT", "M5")
    assert len(candles.bars) == 5760
