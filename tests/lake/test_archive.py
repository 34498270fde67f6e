"""The archive: names, checksums, formats, object stores, retention that needs a copy, and replay at any speed."""

from __future__ import annotations

import json
import uuid
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from tapeline.core.errors import ConfigurationError, DataError, TemporaryError
from tapeline.core.schemas import RAW_BARS, RAW_TICKS, RAW_TRADES
from tapeline.core.symbol import Symbol
from tapeline.lake import Lake
from tapeline.lake.archive import MANIFEST, Archive
from tapeline.lake.archive_replay import replay
from tapeline.lake.archive_store import ArchiveStore
from tapeline.lake.partition import partitions
from tests.lake.support import EURUSD, H1, LINEAGE, SWAP, all_hashes, raw
from tests.lake.ticks import TICK, ticks
from tests.support import make_bars

GBPUSD = Symbol.parse("GBPUSD")
SECOND = 1_000_000_000
HOUR = 3600 * SECOND


@pytest.fixture
def lake(tmp_path) -> Lake:
    """Two days of ticks, several an instant, one of them corrected later."""
    lake = Lake(tmp_path / "lake")
    generator = np.random.default_rng(3)
    instants = np.sort(generator.integers(0, 30 * 60, 900)) * 60 * SECOND
    frame = ticks(instants)
    lake.write(RAW_TICKS, frame, EURUSD, TICK, lineage=LINEAGE)
    late = pd.Timestamp("2025-08-02", tz="UTC")
    lake.write(RAW_TICKS, frame.iloc[[5]].assign(bid=7.0, known_at=late), EURUSD, TICK, lineage=LINEAGE)
    lake.write(RAW_TICKS, ticks(instants[::3] + 5).assign(ask=3.0), GBPUSD, TICK, lineage=LINEAGE)
    return lake


def stored(lake: Lake, symbol=EURUSD, spec=RAW_TICKS, timeframe=TICK) -> pa.Table:
    """Every row of a series with every revision, as its files hold them."""
    from pyarrow import parquet

    files = partitions(lake.path_of(spec, symbol, timeframe))
    return pa.concat_tables([parquet.ParquetFile(item.path).read() for item in files]).cast(spec.schema)


def same_rows(left: pa.Table, right: pa.Table) -> bool:
    plain = dict.fromkeys(("source", "ts_origin", "data_version"), str)
    return left.to_pandas().astype(plain).equals(right.to_pandas().astype(plain))


def read_all(archive: Archive, symbol=EURUSD, spec=RAW_TICKS, timeframe=TICK) -> pa.Table:
    files = archive.files(spec, symbol, timeframe)
    return pa.concat_tables([archive.read(spec, symbol, timeframe, file) for file in files])


@pytest.mark.parametrize("file_format", ["parquet", "feather", "csv"])
@pytest.mark.parametrize("by", ["hour", "day", 100])
def test_every_row_comes_back_from_every_format_and_rule(lake, tmp_path, by, file_format):
    archive = Archive(tmp_path / "archive")
    receipt = archive.write(lake, RAW_TICKS, EURUSD, TICK, by=by, file_format=file_format)
    assert receipt.rows == 901
    assert same_rows(read_all(archive), stored(lake))
    assert archive.verify(RAW_TICKS, EURUSD, TICK) == {}
    names = [file.name for file in archive.files(RAW_TICKS, EURUSD, TICK)]
    assert list(receipt.written) == names
    example = {"hour": "2025-07-30_00-01", "day": "2025-07-30", 100: "2025-07-30_part-0001"}[by]
    assert names[0] == f"EURUSD_ticks_{example}.{file_format}"
    if by == 100:
        assert {file.rows for file in archive.files(RAW_TICKS, EURUSD, TICK)[:3]} == {100}
    before = all_hashes(tmp_path / "archive")
    again = archive.write(lake, RAW_TICKS, EURUSD, TICK, by=by, file_format=file_format)
    assert (again.written, again.unchanged) == ((), len(names))
    assert all_hashes(tmp_path / "archive") == before


def test_the_files_are_plain_files_below_the_address(lake, tmp_path):
    archive = Archive(tmp_path / "archive")
    lake.write(RAW_TICKS, ticks([23 * HOUR]), SWAP, TICK, lineage=LINEAGE)
    archive.write(lake, RAW_TICKS, SWAP, TICK)
    path = tmp_path / "archive/raw/ticks/BTC%2FUSDT%3AUSDT/tick/BTC%2FUSDT%3AUSDT_ticks_2025-07-30_23-24.parquet"
    assert pd.read_parquet(path)["bid"].tolist() == [1.1]
    assert [item.name for item in path.parent.iterdir() if item.name.startswith(".")] == []


def test_bars_and_trades_are_archived_too(tmp_path):
    lake, archive = Lake(tmp_path / "lake"), Archive(tmp_path / "archive")
    lake.write(RAW_BARS, raw(make_bars(60)), EURUSD, H1, lineage=LINEAGE)
    receipt = archive.write(lake, RAW_BARS, EURUSD, H1, by="day", file_format="csv")
    assert receipt.written[0] == "EURUSD_bars-H1_2017-01-02.csv"
    assert same_rows(read_all(archive, spec=RAW_BARS, timeframe=H1), stored(lake, spec=RAW_BARS, timeframe=H1))
    lead = ticks([1, 1])[["ts", "sequence", "known_at", "known_at_is_estimate", "source", "revision"]]
    trades = lead.assign(price=[1.5, np.nan], size=1.0, side=np.int8(1), id=["", 'a,"b'])
    lake.write(RAW_TRADES, trades, EURUSD, TICK, lineage=LINEAGE)
    archive.write(lake, RAW_TRADES, EURUSD, TICK, file_format="csv")
    assert same_rows(read_all(archive, spec=RAW_TRADES), stored(lake, spec=RAW_TRADES))


def test_only_what_is_over_and_only_what_changed_is_written(lake, tmp_path):
    archive = Archive(tmp_path / "archive")
    early = archive.write(lake, RAW_TICKS, EURUSD, TICK, end="2025-07-30T03:30")
    assert [name[-13:-8] for name in early.written] == ["00-01", "01-02", "02-03"]
    rest = archive.write(lake, RAW_TICKS, EURUSD, TICK)
    assert rest.unchanged == 3
    assert len(rest.written) == 27
    lake.write(RAW_TICKS, ticks([HOUR + 7]), EURUSD, TICK, lineage=LINEAGE)
    assert archive.write(lake, RAW_TICKS, EURUSD, TICK).written == ("EURUSD_ticks_2025-07-30_01-02.parquet",)
    assert same_rows(read_all(archive), stored(lake))
    with pytest.raises(ConfigurationError, match="is archived by hour as parquet"):
        archive.write(lake, RAW_TICKS, EURUSD, TICK, by="day")


def test_a_lake_that_lost_rows_cannot_overwrite_the_archive(lake, tmp_path):
    archive = Archive(tmp_path / "archive")
    archive.write(lake, RAW_TICKS, EURUSD, TICK)
    poor = Lake(tmp_path / "poor")
    poor.write(RAW_TICKS, ticks([5, 6]), EURUSD, TICK, lineage=LINEAGE)
    before = all_hashes(tmp_path / "archive")
    with pytest.raises(DataError, match="the lake only 2"):
        archive.write(poor, RAW_TICKS, EURUSD, TICK)
    assert all_hashes(tmp_path / "archive") == before


def test_damage_is_found_and_named(lake, tmp_path):
    archive = Archive(tmp_path / "archive")
    archive.write(lake, RAW_TICKS, EURUSD, TICK, by="day")
    first, second = archive.files(RAW_TICKS, EURUSD, TICK)
    folder = tmp_path / "archive/raw/ticks/EURUSD/tick"
    flipped = bytearray((folder / first.name).read_bytes())
    flipped[len(flipped) // 2] ^= 1
    (folder / first.name).write_bytes(flipped)
    (folder / second.name).unlink()
    problems = archive.verify(RAW_TICKS, EURUSD, TICK)
    assert "SHA-256" in problems[first.name]
    assert "is missing" in problems[second.name]
    with pytest.raises(DataError, match="SHA-256"):
        list(replay(archive, RAW_TICKS, [EURUSD], TICK))
    manifest = folder / MANIFEST
    manifest.write_text(manifest.read_text().replace('"rows": 7', '"rows": 8').replace('"by": "day"', '"by": "hour"'))
    with pytest.raises(DataError, match="digest does not match"):
        archive.files(RAW_TICKS, EURUSD, TICK)


def test_a_manifest_cannot_name_a_file_elsewhere(lake, tmp_path):
    from tapeline.core.versions import digest

    archive = Archive(tmp_path / "archive")
    archive.write(lake, RAW_TICKS, EURUSD, TICK, by="day")
    manifest = tmp_path / "archive/raw/ticks/EURUSD/tick" / MANIFEST
    outer = json.loads(manifest.read_text())
    outer["files"][0]["name"] = "../../../../secret.parquet"
    manifest.write_text(json.dumps({**outer, "digest": digest(outer["files"])}))
    with pytest.raises(DataError, match="no file of an archive"):
        archive.files(RAW_TICKS, EURUSD, TICK)


def test_an_archiver_that_dies_between_file_and_manifest_is_completed(lake, tmp_path, monkeypatch):
    archive, undisturbed = Archive(tmp_path / "archive"), Archive(tmp_path / "undisturbed")
    undisturbed.write(lake, RAW_TICKS, EURUSD, TICK, by="day")
    real = ArchiveStore.put
    monkeypatch.setattr(ArchiveStore, "put", lambda store, parts, data: _die_at_manifest(real, store, parts, data))
    with pytest.raises(TemporaryError):
        archive.write(lake, RAW_TICKS, EURUSD, TICK, by="day")
    assert archive.files(RAW_TICKS, EURUSD, TICK) == []
    monkeypatch.undo()
    archive.write(lake, RAW_TICKS, EURUSD, TICK, by="day")
    assert all_hashes(tmp_path / "archive") == all_hashes(tmp_path / "undisturbed")


def _die_at_manifest(real, store, parts, data):
    if parts[-1] == MANIFEST:
        raise TemporaryError("died here")
    real(store, parts, data)


def test_retention_removes_nothing_that_no_verified_copy_holds(lake, tmp_path):
    archive, copy = Archive(tmp_path / "archive"), Archive(tmp_path / "copy")
    archive.write(lake, RAW_TICKS, EURUSD, TICK)
    folder = tmp_path / "archive/raw/ticks/EURUSD/tick"
    everything = all_hashes(tmp_path / "archive")

    def retain(copies, *, dry_run=False):
        return archive.retain(RAW_TICKS, EURUSD, TICK, before="2025-07-30T03:00", copies=copies, dry_run=dry_run)

    report = retain([])
    assert report.removed == ()
    assert set(report.kept.values()) == {"there is no copy"}
    assert set(retain([copy]).kept.values()) == {"no copy holds the same bytes"}
    assert len(archive.copy(RAW_TICKS, EURUSD, TICK, copy)) == 30
    assert archive.copy(RAW_TICKS, EURUSD, TICK, copy) == []
    damaged = tmp_path / "copy/raw/ticks/EURUSD/tick/EURUSD_ticks_2025-07-30_01-02.parquet"
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"x")
    planned = retain([copy], dry_run=True)
    assert [name[-13:-8] for name in planned.removed] == ["00-01", "02-03"]
    assert list(planned.kept) == ["EURUSD_ticks_2025-07-30_01-02.parquet"]
    assert all_hashes(tmp_path / "archive") == everything, "a dry run removed or changed something"
    assert retain([copy]).removed == planned.removed
    assert len(list(folder.glob("*.parquet"))) == 28
    assert retain([copy]).removed == ()
    # What was removed is neither written again nor a problem; a replay that needs it says so.
    assert archive.write(lake, RAW_TICKS, EURUSD, TICK).written == ()
    assert archive.verify(RAW_TICKS, EURUSD, TICK) == {}
    with pytest.raises(DataError, match="removed by retention"):
        list(replay(archive, RAW_TICKS, [EURUSD], TICK))
    with pytest.raises(ConfigurationError, match="its own copy"):
        retain([Archive(tmp_path / "archive")])


@pytest.mark.parametrize("by", ["hour", 37])
def test_replay_gives_the_stored_rows_of_all_symbols_in_the_order_of_time(lake, tmp_path, by):
    archive = Archive(tmp_path / "archive")
    for symbol in (EURUSD, GBPUSD):
        archive.write(lake, RAW_TICKS, symbol, TICK, by=by)
    batches = list(replay(archive, RAW_TICKS, [GBPUSD, EURUSD], TICK, batch_rows=50))
    assert max(batch.num_rows for batch in batches) == 50
    tape = pa.concat_tables(batches).unify_dictionaries()
    assert tape.column("ts").to_pandas().is_monotonic_increasing
    names = tape.column("symbol").cast(pa.string())
    for symbol in (EURUSD, GBPUSD):
        mine = tape.filter(pa.compute.equal(names, str(symbol))).drop_columns("symbol")
        assert same_rows(mine, stored(lake, symbol))
    part = pa.concat_tables(
        list(replay(archive, RAW_TICKS, [EURUSD], TICK, start="2025-07-30T01:10", end="2025-07-30T02:20"))
    ).to_pandas()
    whole = stored(lake).to_pandas()
    inside = (whole["ts"] >= "2025-07-30T01:10Z") & (whole["ts"] < "2025-07-30T02:20Z")
    assert part["bid"].tolist() == whole["bid"][inside].tolist() != []


@pytest.mark.parametrize(("speed", "seconds"), [(1.0, 40.0), (10.0, 4.0)])
def test_replay_keeps_its_pace_and_gives_no_row_before_its_time(tmp_path, speed, seconds):
    lake, archive = Lake(tmp_path / "lake"), Archive(tmp_path / "archive")
    lake.write(RAW_TICKS, ticks(np.arange(0, 41) * SECOND), EURUSD, TICK, lineage=LINEAGE)
    archive.write(lake, RAW_TICKS, EURUSD, TICK)
    clock = [100.0]
    start = pd.Timestamp("2025-07-30", tz="UTC")

    def sleep(duration: float) -> None:
        clock[0] += duration

    rows = 0
    for batch in replay(
        archive, RAW_TICKS, [EURUSD], TICK, speed=speed, batch_seconds=5, sleep=sleep, monotonic=lambda: clock[0]
    ):
        due = (batch.column("ts").to_pandas().max() - start).total_seconds() / speed
        assert clock[0] - 100.0 == pytest.approx(due, abs=1e-6)
        clock[0] += 0.01  # the consumer takes time, which must not add up
        rows += batch.num_rows
    assert rows == 41
    assert clock[0] - 100.0 == pytest.approx(seconds, abs=0.02)


@pytest.mark.parametrize("named", [{"speed": 0}, {"speed": float("nan")}, {"batch_rows": 0}, {"batch_seconds": -1}])
def test_a_replay_that_makes_no_sense_is_refused(tmp_path, named):
    with pytest.raises(ConfigurationError):
        next(replay(Archive(tmp_path), RAW_TICKS, [EURUSD], TICK, **named))


@pytest.mark.parametrize(
    "address", ["http://example.com/x", "simplecache::s3://b/x", "file:///etc", "s3://bucket/../other", "sftp://h/x"]
)
def test_other_addresses_are_refused(address):
    with pytest.raises(ConfigurationError, match="not supported"):
        Archive(address)


def test_links_in_a_local_archive_are_not_followed(lake, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "archive").mkdir()
    (tmp_path / "archive" / "raw").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(DataError, match="symbolic link"):
        Archive(tmp_path / "archive").write(lake, RAW_TICKS, EURUSD, TICK)
    assert list((tmp_path / "elsewhere").iterdir()) == []


@pytest.fixture
def bucket(request) -> tuple[str, dict]:
    """An address in an object store: memory, or an S3 server on the loopback interface."""
    name = f"tape-{uuid.uuid4().hex[:8]}"
    if request.param == "memory":
        yield f"memory://{name}", {}
        return
    pytest.importorskip("s3fs", reason="the extra 's3' is not installed")
    server_module = pytest.importorskip("moto.server", reason="moto, a loopback S3 server, is not installed")
    server = server_module.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    options = {"key": "test", "secret": "test", "endpoint_url": f"http://{host}:{port}"}
    try:
        import fsspec

        fsspec.filesystem("s3", **options).mkdir(name)
        yield f"s3://{name}/tape", options
    finally:
        server.stop()


@pytest.mark.network_shape
@pytest.mark.parametrize("bucket", ["memory", "s3"], indirect=True)
def test_an_object_store_holds_what_a_folder_holds(lake, tmp_path, bucket):
    address, options = bucket
    local, remote = Archive(tmp_path / "archive"), Archive(address, **options)
    lake.write(RAW_TICKS, ticks([1, 1, HOUR]), SWAP, TICK, lineage=LINEAGE)
    for symbol in (EURUSD, SWAP):
        written = local.write(lake, RAW_TICKS, symbol, TICK, by="day").written
        assert remote.write(lake, RAW_TICKS, symbol, TICK, by="day").written == written
        assert remote.write(lake, RAW_TICKS, symbol, TICK, by="day").written == ()
        assert remote.files(RAW_TICKS, symbol, TICK) == local.files(RAW_TICKS, symbol, TICK)
        assert remote.verify(RAW_TICKS, symbol, TICK) == {}
    assert same_rows(read_all(remote), stored(lake))
    tape = pa.concat_tables(list(replay(remote, RAW_TICKS, [SWAP], TICK)))
    assert tape.column("bid").to_pylist() == ticks([1, 1, HOUR])["bid"].tolist()
    report = remote.retain(RAW_TICKS, EURUSD, TICK, before="2025-07-31", copies=[local], dry_run=False)
    assert report.removed == ("EURUSD_ticks_2025-07-30.parquet",)
    folder = ("raw", "ticks", "EURUSD", "tick")
    assert remote.store.get((*folder, "EURUSD_ticks_2025-07-30.parquet")) is None
    name = "EURUSD_ticks_2025-07-31.parquet"
    remote.store.put((*folder, name), b"other bytes")
    assert "SHA-256" in remote.verify(RAW_TICKS, EURUSD, TICK)[name]


def test_a_store_that_cannot_be_reached_says_so(lake):
    pytest.importorskip("s3fs", reason="the extra 's3' is not installed")
    unreachable = {"endpoint_url": "http://127.0.0.1:9", "config_kwargs": {"retries": {"max_attempts": 0}}}
    with pytest.raises(TemporaryError, match="could not be reached"):
        Archive("s3://nowhere/x", key="k", secret="s", **unreachable).write(lake, RAW_TICKS, EURUSD, TICK)


def test_real_ticks_survive_the_archive(test_data: Path, tmp_path):
    """TrueFX USDJPY quotes as nautilus_trader carries them."""
    file = test_data / "data/nautilus/truefx/usdjpy-ticks.csv"
    if not file.is_file():
        pytest.skip(f"no {file}")
    frame = pd.read_csv(file)
    ts = pd.to_datetime(frame["timestamp"], utc=True, format="ISO8601").dt.as_unit("ns")
    real = ticks((ts - ts.min()).dt.as_unit("ns").astype("int64").to_numpy(), start=str(ts.min().tz_localize(None)))
    real = real.assign(bid=frame["bid"].astype(float), ask=frame["ask"].astype(float))
    lake, archive = Lake(tmp_path / "lake"), Archive(tmp_path / "archive")
    usdjpy = Symbol.parse("USDJPY")
    assert lake.write(RAW_TICKS, real, usdjpy, TICK, lineage=LINEAGE).rows_added == len(frame) > 500
    archive.write(lake, RAW_TICKS, usdjpy, TICK, file_format="csv")
    tape = pa.concat_tables(list(replay(archive, RAW_TICKS, [usdjpy], TICK))).to_pandas()
    assert tape["bid"].tolist() == real.sort_values(["ts", "sequence"])["bid"].tolist()
