"""The writer: one series locked, each of its partitions replaced in one step."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import filelock
import numpy as np
import pandas as pd
import pyarrow as pa

from tapeline.core.errors import ConfigurationError, TemporaryError
from tapeline.core.schemas import TableSpec
from tapeline.core.symbol import Symbol
from tapeline.core.timeframe import Timeframe
from tapeline.core.versions import digest
from tapeline.lake.batch import batches_of, check_spec, conform, key_frame, prepare, stamp
from tapeline.lake.content import content_hash
from tapeline.lake.manifest import MANIFEST_FOLDER, Change, Lineage, Manifest
from tapeline.lake.merge import match_keys, merge, moved_row
from tapeline.lake.parquet import Footer, instants_of, read_footer, read_rows, write_temporary
from tapeline.lake.partition import (
    TEMPORARY_SUFFIX,
    Partition,
    Place,
    make_folder,
    names_in,
    partitions,
    refuse_link,
    split,
    sync_folder,
)

LOCK_FOLDER: Final = "_locks"
LOCK_SECONDS: Final = 120.0
"""How long a writer waits for another writer of the same series before it gives up."""


@dataclass(frozen=True)
class WriteReceipt:
    """What one write did: rows by outcome, the partitions it changed, and the series' version afterwards."""

    table: str
    symbol: Symbol
    timeframe: Timeframe
    rows_given: int
    rows_added: int
    rows_revised: int
    rows_unchanged: int
    partitions: tuple[str, ...]
    version: str
    path: Path


def write(
    root: Path,
    spec: TableSpec,
    frame: pd.DataFrame | pa.Table,
    symbol: Symbol,
    timeframe: Timeframe,
    lineage: Lineage,
    arrived_at: pd.Timestamp | None = None,
) -> WriteReceipt:
    """Upsert a batch into one series; see :meth:`tapeline.lake.lake.Lake.write`."""
    check_spec(spec)
    if arrived_at is not None and (not spec.bitemporal or arrived_at.tzinfo is None):
        raise ConfigurationError(f"arrived_at = {arrived_at} needs a time zone and a bitemporal table, not {spec.path}")
    if not isinstance(lineage, Lineage):
        raise ConfigurationError(f"lineage is a {type(lineage).__name__}, expected a Lineage")
    place = Place.of(spec, symbol, timeframe)
    table = conform(spec, frame)
    given = table.num_rows
    batch = prepare(spec, table)
    counts = np.array([0, 0, given - batch.num_rows])
    if batch.num_rows == 0:
        return _receipt(root, place, spec, given, counts, ())
    try:
        with locked(root, place):
            batch, counts[2] = _drop_known_elsewhere(root, place, spec, batch, int(counts[2]))
            prepared: list[_Prepared] = []
            parts = list(split(instants_of(batch, spec.order), timeframe.period))
            batch, contents = stamp(spec, batch, parts, arrived_at)
            try:
                for label, start, stop in parts:
                    rows = batch.slice(start, stop - start)
                    counts += _prepare_partition(
                        root, place, spec, label, rows, lineage, arrived_at, contents.get(label), prepared
                    )
                _replace(root, place, prepared)
            finally:
                for item in prepared:
                    item.temporary.unlink(missing_ok=True)  # there only where something failed before its rename
            return _receipt(root, place, spec, given, counts, tuple(item.label for item in prepared))
    except OSError as error:
        raise ConfigurationError(
            f"the lake cannot write {place}: {error}", hint=f"check free space and permissions of {root}"
        ) from error


@dataclass(frozen=True)
class _Prepared:
    """A partition's next file, complete and durable under a hidden name."""

    label: str
    temporary: Path
    target: Path


@contextmanager
def locked(root: Path, place: Place, *, seconds: float = LOCK_SECONDS) -> Iterator[None]:
    """Hold the lock of a series; the system releases it when its holder dies.

    TemporaryError where another writer still holds it after ``seconds``.
    """
    folder = make_folder(root, (LOCK_FOLDER, *place.parts[:3]))
    path = folder / f"{place.parts[3]}.lock"
    refuse_link(path)
    try:
        with filelock.FileLock(path, timeout=seconds):
            yield
    except filelock.Timeout as error:
        raise TemporaryError(
            f"another process writes {place} and has held its lock for {seconds:g} seconds",
            hint="wait for it to finish, then try again",
        ) from error


def version_of(found: list[Partition]) -> str:
    """The version of some partitions: the digest of their labels and content hashes."""
    return digest({partition.label: read_footer(partition.path).content for partition in found})


def stale_files(folder: Path) -> list[Path]:
    """The temporary files in the partitions of a series; with its lock held, their writers are dead."""
    return [
        path
        for name in names_in(folder)
        for path in sorted((folder / name).iterdir())
        if path.name.startswith(".") and path.name.endswith(TEMPORARY_SUFFIX)
    ]


def _prepare_partition(
    root: Path,
    place: Place,
    spec: TableSpec,
    label: str,
    rows: pa.Table,
    lineage: Lineage,
    arrived_at: pd.Timestamp | None,
    first_content: str | None,
    prepared: list[_Prepared],
) -> np.ndarray:
    """Merge rows into one partition and write its next file beside it; returns rows added, revised and unchanged.

    ``first_content`` is the content hash of a partition that holds these rows and nothing else, where it is known.
    All that can fail for the data's sake fails here, before any partition of the write is replaced.
    """
    partition = place.partition(root, label)
    refuse_link(partition.path.parent)
    refuse_link(partition.path)
    stored: pa.Table | None = None
    footer: Footer | None = None
    if partition.path.exists():
        footer, stored = read_rows(partition.path, spec)
    merged = merge(spec, stored, rows, arrived_at=arrived_at)
    if merged.table is not None:
        folder = make_folder(root, (*place.parts, f"period={label}"), sync_last=False)
        for path in folder.glob(f".*{TEMPORARY_SUFFIX}"):
            path.unlink(missing_ok=True)  # its writer is dead: this process holds the lock of the series
        content = first_content if stored is None else None
        content = content or content_hash(merged.table, without=spec.provenance)
        fresh = Footer.of(spec, merged.table, place.timeframe, content, merged.superseded)
        prepared.append(_Prepared(label, write_temporary(merged.table, fresh, folder), partition.path))
        held = (None, 0) if footer is None else (footer.content, footer.rows)
        change = Change(label, content, fresh.rows, lineage, batches_of(spec, rows))
        Manifest(root, place, label).append(change, *held)
    return np.array([merged.added, merged.revised, merged.unchanged])


def _replace(root: Path, place: Place, prepared: list[_Prepared]) -> None:
    """Put the prepared files in place, each by one rename, and make the names durable.

    The order makes every instant safe to die at: the files' bytes are durable already, then the manifests' names are,
    then each rename replaces a file whole, then the renames are durable.
    """
    if not prepared:
        return
    sync_folder(root.joinpath(MANIFEST_FOLDER, *place.parts))
    for item in prepared:
        item.temporary.replace(item.target)
    for item in prepared:
        sync_folder(item.target.parent)
    sync_folder(place.folder(root))


def _drop_known_elsewhere(
    root: Path, place: Place, spec: TableSpec, batch: pa.Table, unchanged: int
) -> tuple[pa.Table, int]:
    """Hold keys that do not contain the time against the whole series: a key may stand in one partition only."""
    if spec.order in spec.key:
        return batch, unchanged
    columns = [spec.order, *spec.key]
    held = [read_rows(partition.path, spec, columns)[1] for partition in partitions(place.folder(root))]
    if not held:
        return batch, unchanged
    stored = pa.concat_tables(held).unify_dictionaries()
    asked = key_frame(spec, batch)
    match = match_keys(key_frame(spec, stored), asked)
    instants = instants_of(stored, spec.order)
    moved = (match >= 0) & (instants[match] != instants_of(batch, spec.order))
    if not moved.any():
        return batch, unchanged
    if spec.keep == "last":
        raise moved_row(spec, asked[moved])
    return batch.filter(pa.array(~moved)), unchanged + int(moved.sum())


def _receipt(
    root: Path, place: Place, spec: TableSpec, given: int, counts: np.ndarray, touched: tuple[str, ...]
) -> WriteReceipt:
    added, revised, unchanged = (int(count) for count in counts)
    folder = place.folder(root)
    return WriteReceipt(
        table=spec.path,
        symbol=place.symbol,
        timeframe=place.timeframe,
        rows_given=given,
        rows_added=added,
        rows_revised=revised,
        rows_unchanged=unchanged,
        partitions=touched,
        version=version_of(partitions(folder)),
        path=folder,
    )
