"""The archive: raw rows as checksummed files on a disk or in an object store, verified, kept and copied.

``<table>/<symbol>/<timeframe>/`` holds the files of one series and ``manifest.json``, which names each file with its
rows, size, SHA-256 and content hash. A file is written before the manifest names it, so whatever stops the archiver,
the manifest never names what is not there, and the next run writes the same bytes again.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

import pandas as pd
import pyarrow as pa

from tapeline.core.errors import ConfigurationError, DataError
from tapeline.core.schemas import TableSpec
from tapeline.core.symbol import Symbol
from tapeline.core.timeframe import Timeframe
from tapeline.core.versions import digest
from tapeline.lake.archive_files import (
    FORMATS,
    FileFormat,
    Rule,
    Slice,
    check_rule,
    decode,
    encode,
    file_name,
    first_and_last,
    slices,
)
from tapeline.lake.archive_store import ArchiveStore
from tapeline.lake.batch import check_spec
from tapeline.lake.content import canonical, content_hash
from tapeline.lake.lake import Lake
from tapeline.lake.parquet import instants_of, read_footer, read_rows
from tapeline.lake.partition import Partition, Place, partitions
from tapeline.lake.reader import Instant, nanoseconds

MANIFEST: Final = "manifest.json"
_FILE: Final = re.compile(r"[A-Za-z0-9%_.~-]+\.(parquet|feather|csv)")


@dataclass(frozen=True)
class ArchivedFile:
    """One file of an archive.

    ``partition`` and ``partition_content`` say from which content of which partition of the lake it was cut, ``by``
    under which rule. ``removed`` is True once retention has deleted the file.
    """

    name: str
    format: FileFormat
    by: str
    rows: int
    first: str
    last: str
    bytes: int
    sha256: str
    content: str
    partition: str
    partition_content: str
    removed: bool = False


@dataclass(frozen=True)
class ArchiveReceipt:
    """What archiving a series did: the files it wrote, and how many were there already."""

    written: tuple[str, ...]
    unchanged: int
    rows: int


@dataclass(frozen=True)
class RetentionReport:
    """What retention removed (or would remove, in a dry run), and why it kept what was old enough."""

    removed: tuple[str, ...]
    kept: dict[str, str]
    dry_run: bool


class Archive:
    """Raw tables archived at one address.

    One process at a time writes a series: an object store has no lock.

    Parameters
    ----------
    address:
        A local folder, ``s3://bucket/path``, ``gs://bucket/path`` or ``memory://path``.
    options:
        Options of the object store's file system, such as ``key``, ``secret`` and ``endpoint_url``.

    Examples
    --------
    >>> import tempfile
    >>> from tapeline.core.schemas import RAW_TICKS
    >>> archive = Archive(Path(tempfile.mkdtemp()))
    >>> archive.files(RAW_TICKS, Symbol.parse("EURUSD"), Timeframe.parse("tick"))
    []
    """

    def __init__(self, address: str | Path, **options: Any) -> None:
        self.store = ArchiveStore(address, **options)

    def __repr__(self) -> str:
        return f"Archive({self.store.address!r})"

    def files(self, spec: TableSpec, symbol: Symbol, timeframe: Timeframe) -> list[ArchivedFile]:
        """The files of a series, by time; DataError where its manifest is damaged."""
        return self._files(Place.of(spec, symbol, timeframe))

    def write(
        self,
        lake: Lake,
        spec: TableSpec,
        symbol: Symbol,
        timeframe: Timeframe,
        *,
        by: Rule = "hour",
        file_format: FileFormat = "parquet",
        end: Instant | None = None,
    ) -> ArchiveReceipt:
        """Archive what the lake holds of a series, every revision of every row.

        What is archived with the same content is left alone; a stretch to which rows came is written again. Each file
        is read back and compared before the manifest names it.

        Parameters
        ----------
        by:
            ``"hour"``, ``"day"``, or a number: a file every so many rows of a day.
        file_format:
            ``"parquet"``, ``"feather"`` or ``"csv"``.
        end:
            Only stretches that are over by then, so that a running hour is not archived again and again.

        Raises
        ------
        ConfigurationError
            An unknown rule or format, or a part of the lake that is archived under another one.
        DataError
            The archive holds more rows of a partition than the lake does: the lake has lost rows, and the archive
            keeps them.
        TemporaryError
            The store could not be reached; the same call completes the work.
        """
        check_spec(spec)
        check_rule(by, file_format)
        place = Place.of(spec, symbol, timeframe)
        until = None if end is None else nanoseconds(end, "end")
        known = {file.name: file for file in self._files(place)}
        written: list[str] = []
        unchanged = rows = 0
        for partition in partitions(place.folder(lake.root)):
            held = [file for file in known.values() if file.partition == partition.label]
            content = read_footer(partition.path)
            _check_held(place, partition, held, by, file_format, content.rows)
            if _is_complete(held, content.rows, content.content):
                unchanged += len(held)
                continue
            _, table = read_rows(partition.path, spec)
            for part in slices(instants_of(table, spec.order), by):
                if until is not None and part.ends > until:
                    continue
                cut = canonical(table.slice(part.start, part.stop - part.start))
                fresh = _describe(place, spec, partition, content.content, part, cut, by, file_format)
                old = known.get(fresh.name)
                if old is not None and old.content == fresh.content:
                    known[fresh.name] = replace(old, partition_content=content.content)
                    unchanged += 1
                    continue
                known[fresh.name] = self._write_file(place, spec, fresh, cut)
                written.append(fresh.name)
                rows += fresh.rows
            self._save(place, known)
        return ArchiveReceipt(tuple(written), unchanged, rows)

    def read(self, spec: TableSpec, symbol: Symbol, timeframe: Timeframe, file: ArchivedFile) -> pa.Table:
        """The rows of one file, held against its checksum and its content hash.

        DataError where the file is missing, was removed by retention, or is not what the manifest says.
        """
        place = Place.of(spec, symbol, timeframe)
        problem, raw = self._bytes_of(place, file)
        if raw is None:
            raise DataError(f"{self.store.address}: {file.name} {problem}", hint="read it from a copy of the archive")
        table = decode(raw, file.format, spec, file.name)
        if content_hash(table, without=spec.provenance) != file.content:
            raise DataError(f"{self.store.address}: the rows of {file.name} are not those that were archived")
        return table

    def verify(self, spec: TableSpec, symbol: Symbol, timeframe: Timeframe) -> dict[str, str]:
        """Read every file of a series and say what is wrong with which; empty where all is well."""
        problems = {}
        for file in self.files(spec, symbol, timeframe):
            if not file.removed:
                try:
                    self.read(spec, symbol, timeframe, file)
                except DataError as error:
                    problems[file.name] = error.message
        return problems

    def copy(self, spec: TableSpec, symbol: Symbol, timeframe: Timeframe, target: Archive) -> list[str]:
        """Copy the files of a series that the target lacks, and compare each there; returns their names."""
        place = Place.of(spec, symbol, timeframe)
        there = {file.name: file for file in target.files(spec, symbol, timeframe)}
        copied = []
        for file in self.files(spec, symbol, timeframe):
            if file.removed or (file.name in there and there[file.name].sha256 == file.sha256):
                continue
            table = self.read(spec, symbol, timeframe, file)
            there[file.name] = target._write_file(place, spec, file, table)
            copied.append(file.name)
        if copied:
            target._save(place, there)
        return copied

    def retain(
        self,
        spec: TableSpec,
        symbol: Symbol,
        timeframe: Timeframe,
        *,
        before: Instant,
        copies: Sequence[Archive],
        dry_run: bool = True,
    ) -> RetentionReport:
        """Remove files whose rows all lie before an instant and that a copy of the archive holds.

        A file goes only if it is what the manifest says, here and, with the same SHA-256, in one of ``copies``; both
        are read for it. The manifest keeps its line, marked as removed. Without a copy nothing is ever removed.
        """
        place = Place.of(spec, symbol, timeframe)
        limit = nanoseconds(before, "before")
        if any(copy.store.address == self.store.address for copy in copies):
            raise ConfigurationError(f"{self.store.address} is named as its own copy", hint="name another archive")
        known = {file.name: file for file in self._files(place)}
        kept: dict[str, str] = {}
        removed = []
        for file in list(known.values()):
            if file.removed or nanoseconds(file.last, "last") >= limit:
                continue
            reason = self._reason_to_keep(place, spec, file, copies)
            if reason:
                kept[file.name] = reason
                continue
            removed.append(file.name)
            known[file.name] = replace(file, removed=True)
        if removed and not dry_run:
            self._save(place, known)
            for name in removed:
                self.store.delete((*_folder(place), name))
        return RetentionReport(tuple(removed), kept, dry_run)

    def _reason_to_keep(self, place: Place, spec: TableSpec, file: ArchivedFile, copies: Sequence[Archive]) -> str:
        problem, raw = self._bytes_of(place, file)
        if raw is None:
            return problem
        for copy in copies:
            there = [other for other in copy._files(place) if other.name == file.name and not other.removed]
            if there and there[0].sha256 == file.sha256 and copy._bytes_of(place, there[0])[1] is not None:
                return ""
        return "no copy holds the same bytes" if copies else "there is no copy"

    def _bytes_of(self, place: Place, file: ArchivedFile) -> tuple[str, bytes | None]:
        """What is wrong with a file, and its bytes where nothing is."""
        if file.removed:
            return "was removed by retention", None
        raw = self.store.get((*_folder(place), file.name))
        if raw is None:
            return "is missing", None
        if len(raw) != file.bytes or hashlib.sha256(raw).hexdigest() != file.sha256:
            return "does not match its SHA-256", None
        return "", raw

    def _write_file(self, place: Place, spec: TableSpec, file: ArchivedFile, table: pa.Table) -> ArchivedFile:
        raw = encode(table, file.format)
        if content_hash(decode(raw, file.format, spec, file.name), without=spec.provenance) != file.content:
            raise DataError(f"{file.name}: {file.format} does not hold these rows without loss", hint="use parquet")
        fresh = replace(file, bytes=len(raw), sha256=hashlib.sha256(raw).hexdigest())
        self.store.put((*_folder(place), file.name), raw)
        problem, _ = self._bytes_of(place, fresh)
        if problem:
            raise DataError(f"{self.store.address}: {file.name} {problem} right after it was written")
        return fresh

    def _files(self, place: Place) -> list[ArchivedFile]:
        raw = self.store.get((*_folder(place), MANIFEST))
        if raw is None:
            return []
        try:
            outer = json.loads(raw)
            if digest(outer["files"]) != outer["digest"]:
                raise ValueError("its digest does not match")
            found = [ArchivedFile(**values) for values in outer["files"]]
            if not all(_FILE.fullmatch(file.name) and file.format in FORMATS for file in found):
                raise ValueError("it names what is no file of an archive")
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(
                f"{self.store.address}: the manifest of {place} is damaged: {error}",
                hint="restore it from a copy; the files it names are not touched",
            ) from error
        return found

    def _save(self, place: Place, known: dict[str, ArchivedFile]) -> None:
        files = [asdict(file) for file in sorted(known.values(), key=lambda file: (file.first, file.name))]
        text = json.dumps({"series": str(place), "files": files, "digest": digest(files)}, indent=1, sort_keys=True)
        raw = text.encode()
        parts = (*_folder(place), MANIFEST)
        if self.store.get(parts) != raw:
            self.store.put(parts, raw)


def _folder(place: Place) -> tuple[str, ...]:
    return (place.zone, place.table, place.symbol.path_segment, place.timeframe.name)


def _describe(
    place: Place,
    spec: TableSpec,
    partition: Partition,
    partition_content: str,
    part: Slice,
    cut: pa.Table,
    by: Rule,
    file_format: FileFormat,
) -> ArchivedFile:
    first, last = first_and_last(spec, cut)
    return ArchivedFile(
        name=file_name(place, part.label, file_format),
        format=file_format,
        by=str(by),
        rows=cut.num_rows,
        first=first,
        last=last,
        bytes=0,
        sha256="",
        content=content_hash(cut, without=spec.provenance),
        partition=partition.label,
        partition_content=partition_content,
    )


def _check_held(
    place: Place, partition: Partition, held: list[ArchivedFile], by: Rule, file_format: str, rows: int
) -> None:
    other = [file for file in held if (file.by, file.format) != (str(by), file_format)]
    if other:
        raise ConfigurationError(
            f"{place}, period {partition.label}, is archived by {other[0].by} as {other[0].format}, not by {by} as "
            f"{file_format}",
            hint="keep to one rule at one address; use another address for another format",
        )
    archived = sum(file.rows for file in held)
    if archived > rows:
        raise DataError(
            f"the archive holds {archived} rows of {place}, period {partition.label}, the lake only {rows}",
            hint="the lake has lost rows: restore them from the archive before it is written again",
        )


def _is_complete(held: list[ArchivedFile], rows: int, content: str) -> bool:
    return sum(file.rows for file in held) == rows and all(file.partition_content == content for file in held)


def archived_span(file: ArchivedFile) -> tuple[int, int]:
    """The first and the last instant of a file in nanoseconds since 1970."""
    return (int(pd.Timestamp(file.first).as_unit("ns").value), int(pd.Timestamp(file.last).as_unit("ns").value))
