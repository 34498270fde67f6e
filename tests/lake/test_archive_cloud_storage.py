"""The archive in Google Cloud Storage: the same files as in a folder, whole or not at all, kept and replayed."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pytest

from tapeline.core.errors import DataError, TemporaryError
from tapeline.core.schemas import RAW_TICKS
from tapeline.lake import Lake
from tapeline.lake.archive import MANIFEST, Archive
from tapeline.lake.archive_replay import replay
from tapeline.lake.archive_store import ArchiveStore
from tests.lake.fake_cloud_storage import CloudStorage, cloud_storage, crc32c
from tests.lake.support import EURUSD, LINEAGE, SWAP
from tests.lake.test_archive import same_rows
from tests.lake.ticks import TICK, ticks

pytest.importorskip("gcsfs", reason="the extra 'gcs' is not installed")
pytestmark = pytest.mark.network_shape
HOUR = 3600 * 1_000_000_000
FOLDER = "archive/raw/ticks/EURUSD/tick"


@pytest.fixture
def lake(tmp_path) -> Lake:
    lake = Lake(tmp_path / "lake")
    instants = np.sort(np.random.default_rng(3).integers(0, 30 * HOUR, 600))
    lake.write(RAW_TICKS, ticks(instants), EURUSD, TICK, lineage=LINEAGE)
    lake.write(RAW_TICKS, ticks([1, 1, HOUR]), SWAP, TICK, lineage=LINEAGE)
    return lake


@pytest.fixture
def storage() -> Iterator[CloudStorage]:
    with cloud_storage("tape", "copy") as served:
        yield served


def archive_in(storage: CloudStorage, bucket: str = "tape") -> Archive:
    # Each with a file system of its own, as a new process has: nothing may live in its caches.
    return Archive(f"gs://{bucket}/archive", endpoint_url=storage.url, token="anon", skip_instance_cache=True)


def test_the_bucket_holds_the_very_bytes_that_a_folder_holds(lake, tmp_path, storage) -> None:
    local, remote = Archive(tmp_path / "archive"), archive_in(storage)
    for symbol in (EURUSD, SWAP):
        written = local.write(lake, RAW_TICKS, symbol, TICK, by="day").written
        assert remote.write(lake, RAW_TICKS, symbol, TICK, by="day").written == written
        assert remote.write(lake, RAW_TICKS, symbol, TICK, by="day").written == ()
        assert remote.verify(RAW_TICKS, symbol, TICK) == {}
    held = {name: stored.data for name, stored in storage.buckets["tape"].items()}
    root = tmp_path / "archive"
    folder = {f"archive/{path.relative_to(root)}": path.read_bytes() for path in root.rglob("*") if path.is_file()}
    assert held == folder
    assert any("%2F" in name for name in held), "a symbol's slash stays escaped in the object's name"
    tape = pa.concat_tables(list(replay(archive_in(storage), RAW_TICKS, [EURUSD, SWAP], TICK, batch_rows=70)))
    here = pa.concat_tables(list(replay(local, RAW_TICKS, [EURUSD, SWAP], TICK, batch_rows=70)))
    assert tape.num_rows == 603
    assert same_rows(tape, here)


def test_an_upload_that_breaks_off_leaves_what_was_there(lake, storage) -> None:
    archive_in(storage).write(lake, RAW_TICKS, EURUSD, TICK, by="day", end="2025-07-31")
    before = {name: stored.data for name, stored in storage.buckets["tape"].items()}
    assert len(before) == 2
    for status, place in ((403, "uploadType"), (400, "uploadType")):
        storage.fail = [("POST", place, status)]
        with pytest.raises(TemporaryError, match="could not be reached"):
            archive_in(storage).write(lake, RAW_TICKS, EURUSD, TICK, by="day")
        assert {name: stored.data for name, stored in storage.buckets["tape"].items()} == before
        assert archive_in(storage).verify(RAW_TICKS, EURUSD, TICK) == {}
    assert len(archive_in(storage).write(lake, RAW_TICKS, EURUSD, TICK, by="day").written) == 1


def test_a_file_is_there_before_the_manifest_names_it(lake, storage, monkeypatch) -> None:
    def refused(self, parts, data):
        raise TemporaryError("the line is down")

    whole = ArchiveStore.put
    monkeypatch.setattr(
        ArchiveStore, "put", lambda self, parts, data: (refused if parts[-1] == MANIFEST else whole)(self, parts, data)
    )
    with pytest.raises(TemporaryError):
        archive_in(storage).write(lake, RAW_TICKS, EURUSD, TICK, by="day")
    monkeypatch.undo()
    names = set(storage.buckets["tape"])
    assert names == {f"{FOLDER}/EURUSD_ticks_2025-07-30.parquet"}
    assert archive_in(storage).files(RAW_TICKS, EURUSD, TICK) == []
    first = storage.buckets["tape"][f"{FOLDER}/EURUSD_ticks_2025-07-30.parquet"].data
    assert len(archive_in(storage).write(lake, RAW_TICKS, EURUSD, TICK, by="day").written) == 2
    assert storage.buckets["tape"][f"{FOLDER}/EURUSD_ticks_2025-07-30.parquet"].data == first


def test_retention_needs_a_copy_in_another_bucket(lake, storage) -> None:
    archive, copy = archive_in(storage), archive_in(storage, "copy")
    names = archive.write(lake, RAW_TICKS, EURUSD, TICK, by="day").written
    alone = archive.retain(RAW_TICKS, EURUSD, TICK, before="2025-07-31", copies=[copy], dry_run=False)
    assert (alone.removed, alone.kept) == ((), {names[0]: "no copy holds the same bytes"})
    assert archive.copy(RAW_TICKS, EURUSD, TICK, copy) == list(names)
    assert archive.retain(RAW_TICKS, EURUSD, TICK, before="2025-07-31", copies=[copy]).dry_run
    assert f"{FOLDER}/{names[0]}" in storage.buckets["tape"]
    done = archive.retain(RAW_TICKS, EURUSD, TICK, before="2025-07-31", copies=[copy], dry_run=False)
    assert done.removed == (names[0],)
    assert f"{FOLDER}/{names[0]}" not in storage.buckets["tape"]
    assert f"{FOLDER}/{names[0]}" in storage.buckets["copy"]
    assert [file.removed for file in archive_in(storage).files(RAW_TICKS, EURUSD, TICK)] == [True, False]
    with pytest.raises(DataError, match="removed by retention"):
        archive.read(RAW_TICKS, EURUSD, TICK, archive.files(RAW_TICKS, EURUSD, TICK)[0])


def test_changed_and_lost_objects_are_found(lake, storage) -> None:
    archive = archive_in(storage)
    names = archive.write(lake, RAW_TICKS, EURUSD, TICK, by="day").written
    bucket = storage.buckets["tape"]
    data = bytearray(bucket[f"{FOLDER}/{names[0]}"].data)
    data[len(data) // 2] ^= 1
    storage.store("tape", f"{FOLDER}/{names[0]}", bytes(data))
    del bucket[f"{FOLDER}/{names[1]}"]
    assert {name: problem.split()[-1] for name, problem in archive.verify(RAW_TICKS, EURUSD, TICK).items()} == {
        names[0]: "SHA-256", names[1]: "missing",
    }  # fmt: skip
    storage.store("tape", f"{FOLDER}/{MANIFEST}", b"{}")
    with pytest.raises(DataError, match="damaged"):
        archive_in(storage).files(RAW_TICKS, EURUSD, TICK)


def test_the_server_does_what_the_service_does(storage) -> None:
    """What the other tests rest on: uploads in pieces, ranges, checksums and pages, through gcsfs itself."""
    from gcsfs.core import GCSFileSystem

    assert crc32c(b"123456789") == 0xE3069283
    files = GCSFileSystem(endpoint_url=storage.url, token="anon", skip_instance_cache=True)
    data = np.random.default_rng(0).integers(0, 256, 3 * 2**18 + 17, dtype=np.uint8).tobytes() + b"\n--==0==--\r\n"
    files.pipe_file("tape/pieces", data, chunksize=2**18, consistency="md5")
    assert sum(method == "POST" and "upload_id" in path for method, path in storage.requests) == 4
    files.pipe_file("tape/whole", data, consistency="md5")
    assert storage.buckets["tape"]["whole"].data == storage.buckets["tape"]["pieces"].data == data
    assert files.cat_file("tape/whole", 5, 25) == data[5:25]
    for number in range(5):
        files.pipe_file(f"tape/many/{number}/x", b"1")
    storage.page = 2
    files.invalidate_cache()
    assert files.ls("tape/many") == [f"tape/many/{number}" for number in range(5)]
    assert len(files.find("tape")) == 7
    with pytest.raises(FileNotFoundError):
        files.cat_file("tape/none")
