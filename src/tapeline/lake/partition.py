"""Partitions: where a table's rows lie, and which stretch of time each file holds.

``<root>/<zone>/<table>/symbol=<encoded>/timeframe=<name>/period=<label>/data.parquet``. The label is a year
(``2017``), a month (``2017-03``) or a day (``2017-03-05``), always one folder deep: polars and DuckDB refuse a table
in which one timeframe lies in ``year=`` and another in ``year=/month=``.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from tapeline.core.errors import ConfigurationError, DataError, TapelineError
from tapeline.core.schemas import ZONES, TableSpec
from tapeline.core.symbol import Symbol, parse_name
from tapeline.core.timeframe import Period, Timeframe

DATA_FILE: Final = "data.parquet"
TEMPORARY_SUFFIX: Final = ".tmp"
_UNITS: Final[dict[Period, str]] = {"year": "Y", "month": "M", "day": "D"}
_LABEL: Final = re.compile(r"period=(\d{4}(?:-\d{2}){0,2})")
_UNIT_OF_LENGTH: Final = {4: "Y", 7: "M", 10: "D"}
_LAST_INSTANT: Final = np.iinfo(np.int64).max


@dataclass(frozen=True)
class Partition:
    """One file of one series: its period label and its path."""

    label: str
    path: Path

    @property
    def bounds(self) -> tuple[int, int]:
        """The first nanosecond since 1970 that belongs to the period, and the first that does not."""
        return period_bounds(self.label)


@dataclass(frozen=True)
class Place:
    """Where one table's rows of one symbol and timeframe lie, relative to the lake's root."""

    zone: str
    table: str
    symbol: Symbol
    timeframe: Timeframe

    @classmethod
    def of(cls, spec: TableSpec, symbol: Symbol, timeframe: Timeframe) -> Place:
        """Validate every part of a path; ConfigurationError where one could not safely name a folder."""
        if spec.zone not in ZONES:
            raise ConfigurationError(f"zone {spec.zone!r} is unknown", hint=f"use one of {', '.join(ZONES)}")
        if not isinstance(timeframe, Timeframe):
            raise ConfigurationError(f"timeframe {timeframe!r} is not a Timeframe", hint="use Timeframe.parse('H1')")
        # str() first: a Symbol that was made without Symbol.parse is validated here.
        name = Symbol.parse(str.__str__(symbol) if isinstance(symbol, str) else symbol)
        return cls(spec.zone, parse_name(spec.name, "table"), name, timeframe)

    @property
    def parts(self) -> tuple[str, str, str, str]:
        """The folder names below the root."""
        return (self.zone, self.table, f"symbol={self.symbol.path_segment}", f"timeframe={self.timeframe}")

    def folder(self, root: Path) -> Path:
        """The folder of the series."""
        return root.joinpath(*self.parts)

    def partition(self, root: Path, label: str) -> Partition:
        """The partition of one period, whether it exists or not."""
        return Partition(label, self.folder(root) / f"period={label}" / DATA_FILE)

    def __str__(self) -> str:
        return f"{self.zone}/{self.table}:{self.symbol}:{self.timeframe}"


def period_label(instant: int, period: Period) -> str:
    """The label of the period in which an instant (nanoseconds since 1970) lies.

    Examples
    --------
    >>> period_label(1_488_326_400_000_000_000, "month")
    '2017-03'
    """
    # Through seconds: numpy's step from nanoseconds to days overflows in the first of the years that 64 bits can hold.
    return str(np.datetime64(int(instant) // 1_000_000_000, "s").astype(f"datetime64[{_UNITS[period]}]"))


def period_bounds(label: str) -> tuple[int, int]:
    """The half-open stretch of nanoseconds since 1970 that a label stands for.

    Examples
    --------
    >>> low, high = period_bounds("1970")
    >>> low, high // 86_400_000_000_000
    (0, 365)
    """
    first = np.array(label, dtype=f"datetime64[{_UNIT_OF_LENGTH[len(label)]}]")
    # Through seconds as Python integers: the years 1677 and 2262 do not fit into 64 bits of nanoseconds.
    low, high = (int(edge.astype("datetime64[s]").astype(np.int64)) for edge in (first, first + 1))
    return low * 1_000_000_000, high * 1_000_000_000


def split(instants: np.ndarray, period: Period) -> Iterator[tuple[str, int, int]]:
    """Cut sorted instants (int64 nanoseconds) at the period borders: label, first row, row after the last."""
    start = 0
    while start < instants.size:
        label = period_label(instants[start], period)
        high = period_bounds(label)[1]
        stop = instants.size if high > _LAST_INSTANT else int(np.searchsorted(instants, high))
        yield label, start, stop
        start = stop


def partitions(folder: Path, *, start: int | None = None, end: int | None = None) -> list[Partition]:
    """The partitions of a series that hold a file and overlap ``[start, end)``, oldest first."""
    found = []
    for name in names_in(folder):
        match = _LABEL.fullmatch(name)
        if not match:
            continue
        partition = Partition(match[1], folder / name / DATA_FILE)
        low, high = partition.bounds
        if (start is not None and high <= start) or (end is not None and low >= end):
            continue
        if partition.path.is_symlink():
            raise _link(partition.path)
        if partition.path.is_file():
            found.append(partition)
    return sorted(found, key=lambda partition: partition.label)


def places(root: Path) -> Iterator[Place]:
    """Every series folder of the lake, in the order of its path."""
    for zone in ZONES:
        for table in names_in(root / zone):
            for symbol in names_in(root / zone / table):
                for timeframe in names_in(root / zone / table / symbol):
                    yield _parse_place(root, zone, table, symbol, timeframe)


def names_in(folder: Path) -> list[str]:
    """The sorted names of the folders in a folder, hidden ones left out; none where it does not exist.

    DataError where one is a symbolic link: the lake neither reads nor writes through links below its root.
    """
    try:
        with os.scandir(folder) as entries:
            names = []
            for entry in entries:
                if entry.name.startswith((".", "_")):
                    continue
                if entry.is_symlink():
                    raise _link(Path(entry.path))
                if entry.is_dir():
                    names.append(entry.name)
    except (FileNotFoundError, NotADirectoryError):
        return []
    return sorted(names)


def make_folder(root: Path, parts: tuple[str, ...], *, sync_last: bool = True) -> Path:
    """Create a folder below the root, one level at a time, without following a symbolic link.

    Its name is durable on return, or with ``sync_last=False`` once the caller has synchronised its parent.
    """
    root.mkdir(parents=True, exist_ok=True)
    folder = root
    for depth, part in enumerate(parts, start=1):
        parent, folder = folder, folder / part
        if folder.is_symlink():
            raise _link(folder)
        try:
            folder.mkdir()
        except FileExistsError:
            if not folder.is_dir():
                raise DataError(f"{folder} is not a folder", hint="move it away; the lake needs this name") from None
        else:
            if sync_last or depth < len(parts):
                sync_folder(parent)
    return folder


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable (a no-operation where the system cannot open folders)."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def refuse_link(path: Path) -> None:
    """DataError where a path is a symbolic link."""
    if path.is_symlink():
        raise _link(path)


def _parse_place(root: Path, zone: str, table: str, symbol: str, timeframe: str) -> Place:
    try:
        if not symbol.startswith("symbol=") or not timeframe.startswith("timeframe="):
            raise ConfigurationError("not named symbol=.../timeframe=...")
        return Place(
            zone,
            parse_name(table, "table"),
            Symbol.from_path_segment(symbol.removeprefix("symbol=")),
            Timeframe.parse(timeframe.removeprefix("timeframe=")),
        )
    except TapelineError as error:
        raise DataError(
            f"{root / zone / table / symbol / timeframe} is not a folder of the lake: {error.message}",
            hint="the lake did not make it: move it elsewhere",
        ) from error


def _link(path: Path) -> DataError:
    return DataError(
        f"{path} is a symbolic link, which the lake does not follow",
        hint="only the lake's root folder itself may be a link; replace this one by the folder it points to",
    )
