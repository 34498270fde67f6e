"""Every row says whose clock stamped it, when it was stored and with which batch it came; none of it is a value."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tapeline.core.errors import ConfigurationError
from tapeline.core.schemas import CLEAN_BARS, FIXED_TABLES, PROVENANCE_COLUMNS, RAW_BARS, RAW_TICKS, TableSpec
from tapeline.core.symbol import Symbol
from tapeline.lake import Lake, Lineage, query
from tapeline.lake.archive import Archive
from tapeline.lake.archive_files import decode, encode
from tapeline.lake.partition import partitions
from tapeline.streams.drain import Drain
from tapeline.streams.journal import Journal
from tapeline.streams.row_layouts import make_rows, to_arrow
from tests.lake.support import EURUSD, H1, LINEAGE, all_hashes, raw
from tests.lake.ticks import TICK, ticks
from tests.support import make_bars

MONDAY, TUESDAY = pd.Timestamp("2019-05-06", tz="UTC"), pd.Timestamp("2019-05-07", tz="UTC")
BARS = raw(make_bars(300, start="2017-11-20")).assign(ts_origin="exchange")


def before(spec: TableSpec) -> TableSpec:
    """The table as it was before its rows said whence they came."""
    kept = [field for field in spec.schema if field.name not in PROVENANCE_COLUMNS]
    return TableSpec(spec.zone, spec.name, pa.schema(kept), key=spec.key, bitemporal=spec.bitemporal)


def write(lake: Lake, frame: pd.DataFrame, spec: TableSpec = RAW_BARS, **named) -> object:
    return lake.write(spec, frame, EURUSD, H1, lineage=named.pop("lineage", LINEAGE), **named)


def test_every_table_of_what_a_feed_brings_has_the_columns():
    holders = {path for path, spec in FIXED_TABLES.items() if spec.provenance == PROVENANCE_COLUMNS}
    assert {"raw/bars", "raw/ticks", "raw/trades", "raw/book", "raw/depth", "clean/bars"} <= holders
    assert all(FIXED_TABLES[path].schema.field(name).nullable for path in holders for name in PROVENANCE_COLUMNS)


def test_a_row_keeps_when_and_with_what_it_first_came(tmp_path):
    lake = Lake(tmp_path)
    write(lake, BARS.iloc[:200], arrived_at=MONDAY)
    hashes = all_hashes(tmp_path)
    assert write(lake, BARS.iloc[50:150], arrived_at=TUESDAY).rows_unchanged == 100
    assert all_hashes(tmp_path) == hashes, "the same rows on another day change no byte"
    write(lake, BARS.iloc[100:], arrived_at=TUESDAY)
    held = lake.read(RAW_BARS, EURUSD, H1)
    assert (held["ts_origin"] == "exchange").all()
    assert (held["ingested_at"] == np.where(np.arange(300) < 200, MONDAY, TUESDAY)).all()
    versions = held["data_version"].astype(str)
    assert versions.iloc[:200].nunique() == versions.iloc[200:].nunique() == 1
    assert versions.iloc[0] != versions.iloc[-1]
    assert lake.damaged() == []


def test_the_version_of_the_data_is_of_what_it_says_not_of_when_it_was_stored(tmp_path):
    one, other, third = (Lake(tmp_path / name) for name in "abc")
    write(one, BARS, arrived_at=MONDAY)
    write(other, BARS.iloc[:99], arrived_at=MONDAY)
    write(other, BARS.iloc[99:], arrived_at=TUESDAY)
    write(third, BARS.assign(close=BARS["close"] * 1.5), arrived_at=MONDAY)
    versions = [lake.version(RAW_BARS, EURUSD, H1) for lake in (one, other, third)]
    assert versions[0] == versions[1] != versions[2]
    # The batch, too, is what it says: the same answer has the same version wherever and whenever it comes in.
    again = Lake(tmp_path / "d")
    write(again, BARS.iloc[::-1].assign(revision=5), arrived_at=TUESDAY)
    first = [lake.read(RAW_BARS, EURUSD, H1)["data_version"].iloc[0] for lake in (one, again, other)]
    assert first[0] == first[1] != first[2]


def test_a_correction_says_when_it_came_and_a_repetition_of_it_changes_nothing(tmp_path):
    lake = Lake(tmp_path)
    write(lake, BARS, arrived_at=MONDAY)
    late = BARS.iloc[[7]].assign(close=9.0)
    assert write(lake, late, arrived_at=TUESDAY).rows_revised == 1
    hashes = all_hashes(tmp_path)
    write(lake, late, arrived_at=TUESDAY + pd.Timedelta("1D"))
    assert all_hashes(tmp_path) == hashes
    held = query(lake, "SELECT revision, ingested_at, data_version FROM raw_bars_revisions WHERE close = 9.0")
    assert held.num_rows == 1
    assert held["ingested_at"][0].as_py() == TUESDAY
    assert lake.read(RAW_BARS, EURUSD, H1, as_of=MONDAY)["ingested_at"].iloc[7] == MONDAY


def test_what_the_frame_says_itself_stands(tmp_path):
    lake = Lake(tmp_path)
    write(lake, BARS.assign(ingested_at=MONDAY, data_version="restored"), arrived_at=TUESDAY)
    held = lake.read(RAW_BARS, EURUSD, H1)
    assert (held["ingested_at"] == MONDAY).all()
    assert (held["data_version"] == "restored").all()
    assert [change.batches for change in lake.lineage(RAW_BARS, EURUSD, H1)] == [("restored",)] * len(
        partitions(lake.path_of(RAW_BARS, EURUSD, H1))
    )


@pytest.mark.parametrize("spec", [RAW_BARS, CLEAN_BARS])
def test_a_lake_from_before_reads_is_sound_and_grows(tmp_path, spec):
    lake = Lake(tmp_path)
    frame = BARS.drop(columns="ts_origin")
    frame = frame.assign(repaired=False, outlier=False) if spec is CLEAN_BARS else frame
    old = write(lake, frame.iloc[:200], before(spec), arrived_at=MONDAY)
    path = partitions(lake.path_of(spec, EURUSD, H1))[0].path
    assert not set(PROVENANCE_COLUMNS) & set(pq.read_schema(path).names)
    held = lake.read(spec, EURUSD, H1)
    assert held[list(PROVENANCE_COLUMNS)].isna().all(axis=None)
    assert held["close"].tolist() == frame["close"].tolist()[:200]
    assert lake.damaged() == []
    assert lake.version(spec, EURUSD, H1) == old.version
    view = spec.path.replace("/", "_")
    assert query(lake, f"SELECT count(*) FROM {view} WHERE ingested_at IS NULL")[0][0].as_py() == 200
    hashes = all_hashes(tmp_path)
    assert write(lake, frame.iloc[:200], spec, arrived_at=TUESDAY).rows_unchanged == 200
    assert all_hashes(tmp_path) == hashes
    write(lake, frame.assign(ts_origin="broker", ingested_at=TUESDAY), spec, arrived_at=TUESDAY)
    held = lake.read(spec, EURUSD, H1)
    assert held["ingested_at"].isna().tolist() == [True] * 200 + [False] * 100
    assert lake.damaged() == []
    # What is stored is the same as if it had been stored with the columns from the start.
    fresh = Lake(tmp_path / "fresh")
    write(fresh, frame, spec, arrived_at=MONDAY)
    assert lake.version(spec, EURUSD, H1) == fresh.version(spec, EURUSD, H1)


@pytest.mark.parametrize("file_format", ["parquet", "feather", "csv"])
def test_an_archive_from_before_is_read_and_one_from_now_keeps_the_columns(tmp_path, file_format):
    lake, archive = Lake(tmp_path / "lake"), Archive(tmp_path / "archive")
    frame = ticks([0, 0, 5]).assign(ts_origin="broker")
    lake.write(RAW_TICKS, frame, EURUSD, TICK, lineage=LINEAGE, arrived_at=MONDAY)
    archive.write(lake, RAW_TICKS, EURUSD, TICK, file_format=file_format)
    file = archive.files(RAW_TICKS, EURUSD, TICK)[0]
    held = archive.read(RAW_TICKS, EURUSD, TICK, file).to_pandas()
    assert held["ts_origin"].tolist() == ["broker"] * 3
    assert (held["ingested_at"] == MONDAY).all()
    old = before(RAW_TICKS)
    bytes_before = encode(old.to_arrow(frame.drop(columns="ts_origin")), file_format)
    assert decode(bytes_before, file_format, RAW_TICKS, "old").column("data_version").null_count == 3


def test_a_stream_says_whose_clock_it_was_through_journal_and_drain(tmp_path):
    lake = Lake(tmp_path / "lake")
    start = MONDAY.value
    with Journal(tmp_path / "journal") as journal:
        for number, origin in enumerate(("exchange", "local", None)):
            rows = make_rows(RAW_TICKS, ts=start + number, bid=1.0, ask=2.0, known_at=start + number + 5)
            journal.wait(journal.append(RAW_TICKS, EURUSD, rows, source="kraken", ts_origin=origin))
        with pytest.raises(ConfigurationError, match="ts_origin 'moon'"):
            journal.append(RAW_TICKS, EURUSD, rows, source="kraken", ts_origin="moon")  # type: ignore[arg-type]

        def put(spec: TableSpec, table: pa.Table, symbol: Symbol) -> None:
            lake.write(spec, table, symbol, TICK, lineage=Lineage("feed", "stream", ("journal:live",)))

        Drain(journal, put).drain_once()
    held = lake.read(RAW_TICKS, EURUSD, TICK)
    assert held["ts_origin"].astype(object).where(held["ts_origin"].notna(), None).tolist() == [
        "exchange",
        "local",
        None,
    ]
    assert (held["ingested_at"] == held["known_at"]).all()
    assert held["data_version"].notna().all()


def test_rows_of_one_source_need_no_array_of_names():
    rows = make_rows(RAW_TICKS, ts=[1, 2], bid=1.0, ask=2.0, known_at=5)
    table = to_arrow(RAW_TICKS, rows, "mt5:demo", "broker")
    assert table["source"].to_pylist() == ["mt5:demo"] * 2
    assert table["ts_origin"].to_pylist() == ["broker"] * 2
    assert table["data_version"].null_count == 2
