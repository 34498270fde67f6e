from __future__ import annotations

import pandas as pd
import pytest

from tapeline.core.errors import ConfigurationError, DataError, TapelineError
from tapeline.core.schemas import RAW_BARS, features_spec, labels_spec
from tapeline.lake import Lake, query
from tests.lake.support import D1, EURUSD, H1, LINEAGE, M1, TOKYO, all_hashes, raw
from tests.support import make_bars

FEATURES = features_spec("core@0123abcd", ["ret_1", "select"])


@pytest.fixture(scope="module")
def lake(tmp_path_factory):
    lake = Lake(tmp_path_factory.mktemp("symbol=NOT_ME") / "lake")
    bars = raw(make_bars(800, start="2017-11-20"))
    for symbol in (EURUSD, TOKYO):
        lake.write(RAW_BARS, bars, symbol, H1, lineage=LINEAGE)
    lake.write(RAW_BARS, raw(make_bars(50, timeframe="M1")), EURUSD, M1, lineage=LINEAGE)
    late = bars.iloc[:20].assign(close=9.0, known_at=pd.Timestamp("2019-01-01", tz="UTC"))
    lake.write(RAW_BARS, late, EURUSD, H1, lineage=LINEAGE)
    features = pd.DataFrame({"known_at": bars["close_ts"], "ret_1": 1.0, "select": 2.0})
    lake.write(FEATURES, features, EURUSD, H1, lineage=LINEAGE)
    return lake


def column(lake, sql):
    return query(lake, sql).column(0).to_pylist()


def test_an_empty_lake_can_be_asked(tmp_path):
    assert query(Lake(tmp_path / "none"), "show tables").num_rows == 0
    assert not (tmp_path / "none").exists()


def test_each_table_is_a_view(lake):
    assert column(lake, "SHOW TABLES") == ["features_core_0123abcd", "raw_bars", "raw_bars_revisions"]
    described = query(lake, "DESCRIBE raw_bars").to_pandas().set_index("column_name")["column_type"]
    assert described["ts"] == "TIMESTAMPTZ_NS"
    assert described[["symbol", "timeframe", "period"]].tolist() == ["VARCHAR"] * 3
    assert set(RAW_BARS.schema.names) < set(described.index)
    assert column(lake, "explain select 1")


def test_symbols_and_timeframes_are_columns(lake):
    rows = query(lake, "SELECT symbol, timeframe, count(*) AS n FROM raw_bars GROUP BY ALL ORDER BY ALL").to_pylist()
    assert [tuple(row.values()) for row in rows] == [("7203", "H1", 800), ("EURUSD", "H1", 800), ("EURUSD", "M1", 50)]


def test_a_view_shows_the_latest_revision_and_the_other_all(lake):
    at_nine = "SELECT count(*) FROM {} WHERE close = 9 AND symbol = 'EURUSD'"
    assert column(lake, at_nine.format("raw_bars")) == [20]
    assert column(lake, "SELECT count(*) FROM raw_bars") == [1650]
    assert column(lake, "SELECT count(*) FROM raw_bars_revisions") == [1670]
    assert column(lake, "SELECT max(revision) FROM raw_bars WHERE symbol = '7203'") == [0]


def test_sql_reads_what_the_lake_reads(lake):
    sql = """
        WITH hourly AS (SELECT * FROM raw_bars WHERE symbol = 'EURUSD' AND timeframe = 'H1'
                        AND ts >= '2017-12-01' AND ts < '2018-01-05')
        SELECT ts, close FROM hourly ORDER BY ts
    """
    held = lake.read(RAW_BARS, EURUSD, H1, start="2017-12-01", end="2018-01-05", columns=["close"])
    got = query(lake, sql).to_pandas().set_index("ts")
    assert got["close"].tolist() == held["close"].tolist()
    assert got.index.tz_convert("UTC").tolist() == held.index.tolist()
    joined = "SELECT count(*) FROM raw_bars JOIN features_core_0123abcd USING (symbol, timeframe, ts)"
    assert column(lake, joined) == [800]
    assert column(lake, 'SELECT sum("select") FROM features_core_0123abcd') == [1600.0]


def test_rows_can_be_limited(lake):
    assert query(lake, "SELECT * FROM raw_bars ORDER BY ts DESC, symbol", limit_rows=3).num_rows == 3
    assert query(lake, "SELECT * FROM range(100000000000)", limit_rows=200_000).num_rows == 200_000
    assert query(lake, "SELECT * FROM raw_bars", limit_rows=0).num_rows == 0
    with pytest.raises(ConfigurationError, match="negative"):
        query(lake, "SELECT 1", limit_rows=-1)


REFUSED = {
    "copy out": "COPY raw_bars TO '{out}'",
    "copy out inside a SELECT": "WITH x AS (COPY (SELECT 1 AS a) TO '{out}') SELECT * FROM x",
    "copy over a file of the lake": "WITH x AS (COPY (SELECT 1 AS a) TO '{file}' (USE_TMP_FILE false)) SELECT * FROM x",
    "copy out under EXPLAIN ANALYZE": "EXPLAIN ANALYZE COPY (SELECT 1) TO '{out}'",
    "copy in": "COPY raw_bars FROM '/etc/passwd'",
    "a file as CSV": "SELECT * FROM read_csv('/etc/passwd')",
    "a file as text": "SELECT * FROM read_text('/etc/passwd')",
    "a file as bytes": "SELECT * FROM read_blob('/etc/passwd')",
    "a file by its name": "SELECT * FROM '/etc/passwd'",
    "a Parquet file by its name": "SELECT * FROM '{file}'",
    "a listing": "SELECT * FROM glob('/etc/*')",
    "the network": "SELECT * FROM read_csv('https://example.org/x.csv')",
    "attach": "ATTACH '{out}' AS other",
    "install": "INSTALL httpfs",
    "load": "LOAD httpfs",
    "set": "SET threads = 1",
    "a setting that opens files again": "SET enable_external_access = true",
    "reset": "RESET threads",
    "pragma": "PRAGMA database_list",
    "create": "CREATE TABLE mine AS SELECT 1",
    "drop": "DROP VIEW raw_bars",
    "insert": "INSERT INTO raw_bars SELECT * FROM raw_bars",
    "delete": "DELETE FROM raw_bars",
    "export": "EXPORT DATABASE '{out}'",
    "two statements": "SELECT 1; SELECT 2",
    "a read with a rider": "SELECT 1; COPY raw_bars TO '{out}'",
    "none": "  -- nothing",
    "no SQL": "give me the bars",
    "an unknown view": "SELECT * FROM clean_bars",
    "an unknown column": "SELECT clothes FROM raw_bars",
    "a variable of this program": "SELECT * FROM secret_frame",
}


@pytest.mark.parametrize("sql", REFUSED.values(), ids=REFUSED)
def test_what_is_not_one_read_of_the_views_is_refused(lake, tmp_path, sql):
    secret_frame = pd.DataFrame({"password": ["x"]})
    file = next((lake.root / "raw").rglob("*.parquet"))
    before, out = all_hashes(lake.root), tmp_path / "out"
    with pytest.raises(ConfigurationError) as caught:
        query(lake, sql.format(out=out, file=file))
    assert caught.value.hint
    assert not out.exists()
    assert all_hashes(lake.root) == before
    assert len(secret_frame) == 1


def test_the_session_is_locked_down(lake):
    expected = {
        "lock_configuration": "true",
        "enable_external_access": "false",
        "python_enable_replacements": "false",
        "autoload_known_extensions": "false",
        "autoinstall_known_extensions": "false",
        "temp_directory": "",
    }
    names = ", ".join(f"'{name}'" for name in expected)
    rows = query(lake, f"SELECT name, value FROM duckdb_settings() WHERE name IN ({names})").to_pylist()
    assert {row["name"]: row["value"] for row in rows} == expected


def test_wrong_types_and_failing_reads_are_clear_errors(lake):
    with pytest.raises(ConfigurationError, match="does not parse"):
        query(lake, 42)
    with pytest.raises(DataError, match="Could not convert"):
        query(lake, "SELECT CAST('x' AS INTEGER)")
    assert column(lake, "SELECT 1") == [1]  # one failure leaves nothing behind


def test_a_damaged_file_is_an_error_and_other_symbols_still_read(tmp_path):
    lake = Lake(tmp_path)
    spec = labels_spec("up@1")
    ts = pd.date_range("2017-01-02", periods=2000, tz="UTC", name="ts", unit="ns")
    frame = pd.DataFrame({"value": range(2000), "t_end": ts + D1.duration, "weight": 1.0}, index=ts).astype(
        {"value": float}
    )
    for symbol in (EURUSD, TOKYO):
        receipt = lake.write(spec, frame, symbol, D1, lineage=LINEAGE)
    assert receipt.symbol == TOKYO
    (receipt.path / "period=2018" / "data.parquet").write_bytes(b"PAR1 gone PAR1")
    with pytest.raises(TapelineError, match="period=2018"):
        query(lake, "SELECT sum(value) FROM labels_up_1")
    # The filter reaches the partitions: the damaged one is not opened.
    assert column(lake, "SELECT count(*) FROM labels_up_1 WHERE symbol = 'EURUSD'") == [2000]


def test_tables_whose_names_sound_alike_are_told_apart(tmp_path):
    lake = Lake(tmp_path)
    ts = pd.date_range("2017-01-02", periods=3, tz="UTC", name="ts", unit="ns")
    for name in ("core-a", "core.a", "core@a"):
        spec = features_spec(name, ["x"])
        lake.write(spec, pd.DataFrame({"known_at": ts, "x": 1.0}, index=ts), EURUSD, D1, lineage=LINEAGE)
    names = column(lake, "SHOW TABLES")
    assert len(names) == 3
    assert names[0] == "features_core_a"
    assert [column(lake, f"SELECT count(*) FROM {name}") for name in names] == [[3]] * 3
