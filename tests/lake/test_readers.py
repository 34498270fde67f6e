"""The lake as others read it: pandas, polars and DuckDB, without Tapeline."""

from __future__ import annotations

import duckdb
import numpy as np
import pandas as pd
import polars
import pytest

from tapeline.core.schemas import CLEAN_BARS, RAW_BARS
from tapeline.core.symbol import Symbol
from tapeline.lake import Lake
from tests.lake.support import D1, EURUSD, H1, LINEAGE, M1, S1, SWAP, TOKYO, raw
from tests.support import make_bars

SERIES = [(EURUSD, H1), (EURUSD, M1), (SWAP, H1), (SWAP, S1), (TOKYO, D1), (Symbol.parse("^VIX"), D1)]
ROWS = 700
EXPECTED = sorted((str(symbol), timeframe.name, ROWS) for symbol, timeframe in SERIES)


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """The folder of raw bars of four timeframes, hence with years, months and days as periods."""
    lake = Lake(tmp_path_factory.mktemp("lake"))
    for seed, (symbol, timeframe) in enumerate(SERIES):
        bars = raw(make_bars(ROWS, timeframe=timeframe.name, seed=seed))
        lake.write(RAW_BARS, bars, symbol, timeframe, lineage=LINEAGE)
        clean = bars.assign(repaired=False, outlier=False)
        lake.write(CLEAN_BARS, clean, symbol, timeframe, lineage=LINEAGE)
    return lake.root / "raw" / "bars"


def test_pandas_reads_the_folder(table):
    frame = pd.read_parquet(table)
    counts = frame.groupby(["symbol", "timeframe"], observed=True).size()
    assert sorted((str(s), str(t), int(n)) for (s, t), n in counts.items()) == EXPECTED
    assert str(frame["ts"].dtype) == "datetime64[ns, UTC]"
    swap = pd.read_parquet(table, filters=[("symbol", "==", "BTC/USDT:USDT"), ("timeframe", "==", "H1")])
    np.testing.assert_array_equal(swap.sort_values("ts")["close"], make_bars(ROWS, seed=2)["close"])


def test_pandas_reads_a_zone_and_one_series(table):
    assert len(pd.read_parquet(table.parent)) == ROWS * len(SERIES)
    one = pd.read_parquet(table / "symbol=EURUSD" / "timeframe=M1")
    np.testing.assert_array_equal(one.sort_values("ts")["close"], make_bars(ROWS, timeframe="M1", seed=1)["close"])


@pytest.mark.parametrize("path", ["{}/**/*.parquet", "{}"], ids=["glob", "folder"])
def test_polars_scans_the_folder(table, path):
    lazy = polars.scan_parquet(path.format(table), hive_partitioning=True)
    counts = lazy.group_by("symbol", "timeframe").len().collect()
    assert sorted(counts.rows()) == EXPECTED
    swap = lazy.filter(polars.col("symbol") == "BTC/USDT:USDT", polars.col("timeframe") == "H1").sort("ts").collect()
    np.testing.assert_array_equal(swap["close"].to_numpy(), make_bars(ROWS, seed=2)["close"])


def test_duckdb_reads_the_folder(table):
    source = f"read_parquet('{table}/**/*.parquet', hive_partitioning = true)"
    counts = duckdb.sql(f"SELECT symbol, timeframe, count(*) FROM {source} GROUP BY ALL").fetchall()
    assert sorted((str(symbol), timeframe, n) for symbol, timeframe, n in counts) == EXPECTED
    closes = duckdb.sql(
        f"SELECT close FROM {source} WHERE symbol = 'BTC/USDT:USDT' AND timeframe = 'H1' ORDER BY ts"
    ).fetchnumpy()
    np.testing.assert_array_equal(closes["close"], make_bars(ROWS, seed=2)["close"])


def test_manifests_locks_and_half_written_files_confuse_no_reader(table):
    (table / "symbol=EURUSD" / "timeframe=H1" / "period=2017" / ".1-ab.tmp").write_bytes(b"PAR1 half")
    try:
        test_pandas_reads_the_folder(table)
        test_polars_scans_the_folder(table, "{}/**/*.parquet")
        test_duckdb_reads_the_folder(table)
    finally:
        (table / "symbol=EURUSD" / "timeframe=H1" / "period=2017" / ".1-ab.tmp").unlink()


def test_texts_and_instants_keep_their_types_for_every_reader(table):
    glob = f"{table}/**/*.parquet"
    assert polars.scan_parquet(glob).collect_schema()["ts"] == polars.Datetime("ns", "UTC")
    types = dict(duckdb.sql(f"SELECT column_name, column_type FROM (DESCRIBE FROM '{glob}')").fetchall())
    assert types["ts"] == "TIMESTAMPTZ_NS"
    assert types["source"] == "VARCHAR"
