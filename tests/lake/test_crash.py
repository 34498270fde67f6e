"""Writers are killed: at every single step that touches the disk, and at random instants."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import time
from pathlib import Path
from pkgutil import resolve_name

import pandas as pd
import pytest

from tapeline.core.schemas import EVENTS, RAW_BARS, ZONES, features_spec
from tapeline.lake import Lake, Lineage
from tapeline.lake import partition as partition_module
from tests.lake.support import EURUSD, H1, SWAP, all_hashes, data_hashes, raw
from tests.support import make_bars

KILLS = int(os.environ.get("TAPELINE_LAKE_KILLS", "8"))
"""How many writers are killed at random instants; more in a long run."""

FEATURES = features_spec("core@0123abcd", ["ret_1"])
BATCHES = 5


def batches():
    """Five overlapping batches over three years, each into three zones, with corrections that were observed late."""
    bars = raw(make_bars(1500, start="2017-11-20", timeframe="H4"), observed=True)
    for number in range(BATCHES):
        rows = bars.iloc[max(0, number * 300 - 60) : (number + 1) * 300]
        lineage = Lineage("run-1", f"batch-{number}")
        yield RAW_BARS, rows, lineage
        late = rows.iloc[:7].assign(close=float(number), known_at=pd.Timestamp("2019-01-01", tz="UTC"))
        yield RAW_BARS, late, lineage
        returns = pd.DataFrame({"known_at": rows["close_ts"], "ret_1": rows["close"].diff().fillna(0.0)})
        yield FEATURES, returns.iloc[60 if number else 0 :], lineage
        yield EVENTS, events(rows.iloc[::40]), lineage


def events(rows: pd.DataFrame) -> pd.DataFrame:
    frame = pd.DataFrame({"id": rows.index.strftime("%Y%m%d%H"), "kind": "swing", "direction": 1}, index=rows.index)
    frame = frame.assign(start=rows.index, end=rows.index, confirmed_at=rows["close_ts"]).reset_index(drop=True)
    return frame.astype({"direction": "int8"})


def write_all(root: Path) -> None:
    lake = Lake(root)
    for spec, rows, lineage in batches():
        for symbol in (EURUSD, SWAP):
            lake.write(spec, rows, symbol, H1, lineage=lineage)


def write_once(root: Path) -> None:
    bars = raw(make_bars(1000, start="2017-11-20"), observed=True)
    Lake(root).write(RAW_BARS, bars, EURUSD, H1, lineage=Lineage("run-2", "second", ("x@2",)))


def die_at(step: int) -> None:
    """Kill this process just before the n-th call that changes the disk: the same disk as just after the one before."""
    count = 0

    def deadly(call):
        def wrapped(*arguments, **named):
            nonlocal count
            count += 1
            if count == step:
                os.kill(os.getpid(), signal.SIGKILL)
            return call(*arguments, **named)

        return wrapped

    os.fsync = deadly(os.fsync)
    Path.replace = deadly(Path.replace)
    Path.mkdir = deadly(Path.mkdir)
    partition_module.sync_folder = deadly(partition_module.sync_folder)


def write_once_and_die(root: Path, step: int) -> None:
    die_at(step)
    write_once(root)


@pytest.fixture(scope="module")
def processes():
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.lake.test_crash"])
    return context


def assert_readable(root: Path, complete: dict[str, set]) -> None:
    """Every zone reads, with pandas alone too, and holds nothing that was not written."""
    lake = Lake(root)
    for series in lake.series():
        held = lake.read(series.spec, series.symbol, series.timeframe)
        assert set(held.index) <= complete[series.spec.path]
        assert held.index.is_monotonic_increasing
        assert len(lake.version(series.spec, series.symbol, series.timeframe)) == 16
    for zone in ZONES:
        if any((root / zone).rglob("*.parquet")):
            pd.read_parquet(root / zone)


def test_a_writer_killed_at_any_step_leaves_the_lake_whole(tmp_path, processes):
    start = raw(make_bars(700, start="2017-11-20"), observed=True).assign(volume=1.0)
    new = set(make_bars(1000, start="2017-11-20").index)

    def seed(root: Path) -> Lake:
        lake = Lake(root)
        lake.write(RAW_BARS, start, EURUSD, H1, lineage=Lineage("run-1", "first"))
        return lake

    undisturbed = seed(tmp_path / "undisturbed")
    write_once(undisturbed.root)
    expected = all_hashes(undisturbed.root)
    assert len(data_hashes(undisturbed.root)) == 2
    died = 0
    for step in range(1, 100):
        lake = seed(tmp_path / f"{step}")
        worker = processes.Process(target=write_once_and_die, args=(lake.root, step))
        worker.start()
        worker.join(60)
        assert_readable(lake.root, {"raw/bars": new})
        for change in lake.lineage(RAW_BARS, EURUSD, H1):
            assert change.lineage.run_id in ("run-1", "run-2")
        write_once(lake.root)
        assert all_hashes(lake.root) == expected, f"died before step {step}"
        if worker.exitcode == 0:
            break
        died += 1
        assert worker.exitcode == -signal.SIGKILL
    assert died >= 8  # two files, two manifests, their folders and two renames at the least


def test_writers_killed_at_random_instants_and_the_next_run_finishes(tmp_path, processes):
    undisturbed = tmp_path / "undisturbed"
    started = time.perf_counter()
    worker = processes.Process(target=write_all, args=(undisturbed,))
    worker.start()
    worker.join(120)
    assert worker.exitcode == 0
    duration = time.perf_counter() - started
    lake = Lake(undisturbed)
    complete = {s.spec.path: set(lake.read(s.spec, s.symbol, s.timeframe).index) for s in lake.series()}
    generator = random.Random(7)
    killed = 0
    root = tmp_path / "killed"
    for number in range(KILLS):
        if number % 5 == 0:
            root = tmp_path / f"killed-{number}"  # first writes must die too, not only later ones
        worker = processes.Process(target=write_all, args=(root,))
        worker.start()
        worker.join(duration * generator.uniform(0.0, 0.9))
        worker.kill()
        worker.join()
        killed += worker.exitcode == -signal.SIGKILL
        assert_readable(root, complete)
        if number % 5 == 4 or number == KILLS - 1:
            if number % 2:
                Lake(root).recover()
                assert list(root.rglob("*.tmp")) == []
            write_all(root)
            assert data_hashes(root) == data_hashes(undisturbed)
            assert list(root.rglob("*.tmp")) == []
    assert killed >= KILLS // 2


@pytest.mark.parametrize(
    "place",
    [
        "pyarrow.parquet.write_table",
        "tapeline.lake.writer.write_temporary",
        "tapeline.lake.manifest.Manifest.append",
        "pathlib.Path.replace",
        "tapeline.lake.writer.sync_folder",
    ],
)
@pytest.mark.parametrize("call", [1, 2])
def test_an_error_at_any_step_cleans_up_and_a_retry_finishes(tmp_path, monkeypatch, place, call):
    write_once(tmp_path / "undisturbed")
    root, count = tmp_path / "lake", 0
    module, _, name = place.rpartition(".")
    target = resolve_name(place)

    def failing(*arguments, **named):
        nonlocal count
        count += 1
        if count == call:
            if place.endswith("write_table"):
                Path(arguments[1]).write_bytes(b"PAR1 half")
            raise OSError(28, "No space left on device")
        return target(*arguments, **named)

    with monkeypatch.context() as patch:
        patch.setattr(resolve_name(module), name, failing)
        with pytest.raises(Exception, match="No space left"):
            write_once(root)
    assert list(root.rglob("*.tmp")) == []
    assert_readable(root, {"raw/bars": set(make_bars(1000, start="2017-11-20").index)})
    write_once(root)
    assert all_hashes(root) == all_hashes(tmp_path / "undisturbed")


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="names open files through /proc")
def test_bytes_are_durable_before_the_rename_and_names_after_it(tmp_path, monkeypatch):
    done: list[tuple[str, str]] = []
    fsync, replace = os.fsync, Path.replace

    def recorded_fsync(descriptor):
        done.append(("fsync", Path(f"/proc/self/fd/{descriptor}").resolve().name))
        fsync(descriptor)

    def recorded_replace(source, target):
        done.append(("replace", target.parent.name))
        return replace(source, target)

    monkeypatch.setattr(os, "fsync", recorded_fsync)
    monkeypatch.setattr(Path, "replace", recorded_replace)
    write_once(tmp_path)
    first = done.index(("replace", "period=2017"))
    before, after = done[:first], done[first:]
    assert sum(name.endswith(".tmp") for _, name in before) == 2
    assert {("fsync", "2017.jsonl"), ("fsync", "2018.jsonl")} <= set(before)
    assert before[-1] == ("fsync", "timeframe=H1")  # the manifests' names
    assert after[:2] == [("replace", "period=2017"), ("replace", "period=2018")]
    assert after[2:] == [("fsync", "period=2017"), ("fsync", "period=2018"), ("fsync", "timeframe=H1")]


def test_a_torn_manifest_line_is_cut_off_by_the_next_writer(tmp_path):
    write_once(tmp_path / "undisturbed")
    root = tmp_path / "lake"
    bars = raw(make_bars(1000, start="2017-11-20"), observed=True)
    lake = Lake(root)
    lake.write(RAW_BARS, bars.iloc[:100], EURUSD, H1, lineage=Lineage("run-1", "first"))
    manifest = next((root / "_manifests").rglob("2017.jsonl"))
    whole = manifest.read_bytes()
    manifest.write_bytes(whole + whole[: len(whole) // 2])
    assert [change.lineage.run_id for change in lake.lineage(RAW_BARS, EURUSD, H1)] == ["run-1"]
    write_once(root)
    assert [c.lineage.run_id for c in lake.lineage(RAW_BARS, EURUSD, H1)] == ["run-1", "run-2", "run-2"]
    assert manifest.read_bytes().startswith(whole)
    assert manifest.read_bytes().count(b"\n") == 2
    # The first hundred bars came with another batch, and say so; everything else is as if they had not.
    versions = {Lake(path).version(RAW_BARS, EURUSD, H1) for path in (root, tmp_path / "undisturbed")}
    assert len(versions) == 1
