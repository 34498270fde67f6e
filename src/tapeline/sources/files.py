"""The user's own files: one folder (or one file) of CSV, Parquet or Feather, named by symbol and timeframe."""

from __future__ import annotations

import hashlib
import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from tapeline.core.errors import ConfigurationError, TapelineError
from tapeline.core.symbol import Symbol
from tapeline.core.timeframe import Timeframe
from tapeline.sources.base import (
    BarRequest,
    Clock,
    Data,
    Empty,
    Failed,
    Outcome,
    SpreadUnit,
    VolumeKind,
    unknown_symbol,
    utc_now,
)
from tapeline.sources.cells import Instants, decimal_mark, instants, numbers, texts
from tapeline.sources.columns import ColumnRoles, recognise
from tapeline.sources.frame import as_record, cut, make_bars, make_rejected
from tapeline.sources.tables import SUFFIXES, RawTable, read_table

OPTIONS_FILE: Final = "files.toml"
_STAMP: Final = r"(?:\d{8}|\d{12}|\d{14})"
_NAME: Final = re.compile(rf"(?P<symbol>.+?)_(?P<timeframe>[A-Za-z0-9]{{2,7}})(?:_{_STAMP}_{_STAMP})?")
_EXPORT_NAMES: Final = {"daily": "D1", "weekly": "W1"}


@dataclass(frozen=True)
class FileOptions:
    """What a file does not say about itself.

    Parameters
    ----------
    zone:
        The zone of times that carry none, such as ``America/New_York``. Default UTC.
    delimiter, decimal:
        Single characters; found out where absent.
    day_first:
        How to read ``1/2/2021``; needed only where no date of the file decides it.
    adjusted:
        True if dividends were taken out of past prices.
    """

    zone: str = "UTC"
    delimiter: str | None = None
    decimal: str | None = None
    day_first: bool | None = None
    adjusted: bool = False

    @classmethod
    def parse(cls, table: dict[str, Any], where: str) -> FileOptions:
        """Check one table of ``files.toml``; unknown names and wrong values raise ConfigurationError."""
        names = [f.name for f in fields(cls)]
        for name, value in table.items():
            if name not in names:
                raise ConfigurationError(f"{where}: option '{name}' is unknown", hint=f"it takes {', '.join(names)}")
            if not isinstance(value, bool if name in ("day_first", "adjusted") else str):
                raise ConfigurationError(f"{where}: option '{name}' has the wrong type: {value!r}")
        options = cls(**table)
        if options.decimal not in (None, ".", ","):
            raise ConfigurationError(f"{where}: decimal {options.decimal!r} must be '.' or ','")
        if options.delimiter is not None and (len(options.delimiter) != 1 or not options.delimiter.isascii()):
            raise ConfigurationError(f"{where}: delimiter {options.delimiter!r} must be one ASCII character")
        try:
            ZoneInfo(options.zone)
        except (KeyError, ValueError, OSError) as error:
            raise ConfigurationError(
                f"{where}: zone {options.zone!r} is unknown", hint="use an IANA name such as Europe/Berlin"
            ) from error
        return options


@dataclass(frozen=True)
class _Part:
    """What one file holds."""

    path: Path
    bars: pd.DataFrame
    rejected: pd.DataFrame
    volume_kind: VolumeKind
    spread_unit: SpreadUnit | None
    provenance: str
    adjusted: bool


class FileSource:
    """Bars from files named ``<SYMBOL>_<TIMEFRAME>.csv`` (``.txt .tsv .parquet .feather``) or as MetaTrader 5 does.

    A request never becomes a path: the folder is listed, each name is parsed, and the request is looked up among them.
    Links that lead out of the folder, sub-folders and anything that is not a regular file are not seen. Several files
    of one symbol and timeframe are read in the order of their names.

    Parameters
    ----------
    root:
        A folder, or one file.

    Raises
    ------
    ConfigurationError
        ``root`` does not exist, or ``files.toml`` in it is wrong.
    """

    name = "files"

    def __init__(self, root: Path, *, clock: Clock = utc_now) -> None:
        if not root.exists():
            raise ConfigurationError(
                f"there is no file or folder '{root}'", hint="put EURUSD_H1.csv there, or name it: files:<folder>"
            )
        self._folder = root.resolve() if root.is_dir() else root.resolve().parent
        self._only = None if root.is_dir() else root.resolve()
        self._clock = clock
        self._options = _load_options(self._folder / OPTIONS_FILE)

    def symbols(self) -> list[Symbol]:
        """The symbols that file names speak of."""
        return sorted({symbol for symbol, _, _ in self._listing()})

    def timeframes(self, symbol: Symbol) -> list[Timeframe]:
        """The timeframes of one symbol, shortest first."""
        return sorted({timeframe for name, timeframe, _ in self._listing() if name == symbol})

    def fetch(self, request: BarRequest) -> Outcome:
        """Read every file of the request's symbol and timeframe.

        A file of zero bytes is ``Failed`` with a DataError (an export went wrong); a file with a header and no row is
        a valid answer without bars.
        """
        try:
            paths = self._find(request)
            parts = [_read(path, self._options_of(path), request, many=len(paths) > 1) for path in paths]
        except TapelineError as error:
            return Failed(error)
        except OSError as error:
            return Failed(ConfigurationError(f"'{self._folder}' cannot be read: {error}", hint="check its permissions"))
        if len({part.volume_kind for part in parts}) > 1:
            return Failed(
                ConfigurationError(
                    f"the files {[path.name for path in paths]} differ in what their volume counts",
                    hint="traded units, ticks and no volume cannot share a column; keep one kind in the folder",
                )
            )
        rejected = pd.concat([part.rejected for part in parts], ignore_index=True)
        bars, unfinished = cut(_join(parts), request, self._clock())
        if bars.empty and rejected.empty:
            held = f"; {unfinished} had not closed yet" if unfinished else ""
            return Empty(f"{', '.join(path.name for path in paths)}: no complete bar in the range{held}")
        return Data(
            bars,
            rejected,
            source_id=f"files:{paths[0].name}" if len(paths) == 1 else f"files:{request.symbol}_{request.timeframe}",
            provenance="; ".join(part.provenance for part in parts),
            adjustment="splits and dividends" if any(part.adjusted for part in parts) else "none",
            volume_kind=parts[0].volume_kind,
            unfinished=unfinished,
            spread_unit=next((part.spread_unit for part in parts if part.spread_unit), None),
        )

    def _listing(self) -> Iterator[tuple[Symbol, Timeframe, Path]]:
        for path in [self._only] if self._only else sorted(self._folder.iterdir()):
            if path.suffix.lower() not in SUFFIXES or path.name.startswith((".", "~")):
                continue
            target = path.resolve()
            # A link may point to another file of the folder, not out of it; pipes and devices would block a read.
            if target.parent == self._folder and target.is_file():
                named = parse_file_name(path.stem)
                if named:
                    yield *named, target

    def _find(self, request: BarRequest) -> list[Path]:
        listing = list(self._listing())
        frames = sorted({timeframe for name, timeframe, _ in listing if name == request.symbol})
        if not frames:
            known = sorted({str(name) for name, _, _ in listing})
            raise ConfigurationError(
                f"no file in '{self._folder}' holds {str(request.symbol)!r}",
                hint=unknown_symbol(request.symbol, known, "the folder"),
            )
        paths = [path for name, timeframe, path in listing if (name, timeframe) == (request.symbol, request.timeframe)]
        if not paths:
            raise ConfigurationError(
                f"no file in '{self._folder}' holds {request.timeframe} bars of {request.symbol}",
                hint=f"it has {', '.join(map(str, frames))}",
            )
        return list(dict.fromkeys(paths))

    def _options_of(self, path: Path) -> FileOptions:
        tables = {**self._options.get("default", {}), **self._options.get(path.name, {})}
        return FileOptions.parse(tables, f"{OPTIONS_FILE}, {path.name}")


def parse_file_name(stem: str) -> tuple[Symbol, Timeframe] | None:
    """Symbol and timeframe of a file name without its suffix; None where it is not of the known form.

    Examples
    --------
    >>> parse_file_name("BTC%2FUSDT_1h"), parse_file_name("EURUSD_M15_202001020000_202012312345")
    ((Symbol('BTC/USDT'), Timeframe('H1')), (Symbol('EURUSD'), Timeframe('M15')))
    >>> parse_file_name("EURUSD_Daily_202001020000_202012310000"), parse_file_name("notes")
    ((Symbol('EURUSD'), Timeframe('D1')), None)
    """
    found = _NAME.fullmatch(stem)
    if not found:
        return None
    frame = found["timeframe"]
    try:
        return Symbol.parse(unquote(found["symbol"])), Timeframe.parse(_EXPORT_NAMES.get(frame.lower(), frame))
    except ConfigurationError:
        return None  # some other file of the user's; the listing in an error message shows what was understood


def _load_options(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        options = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise ConfigurationError(f"'{path}' does not parse: {error}") from error
    loose = [name for name, table in options.items() if not isinstance(table, dict)]
    if loose:
        raise ConfigurationError(
            f"'{path}': {loose} stand outside a table", hint='write them under [default] or ["EURUSD_H1.csv"]'
        )
    return options


def _read(path: Path, options: FileOptions, request: BarRequest, *, many: bool) -> _Part:
    raw = read_table(path, delimiter=options.delimiter)
    roles = recognise(raw.table.column_names, path.name)
    table = raw.table
    times = instants(_time_column(table, roles), zone=options.zone, day_first=options.day_first)
    price_columns = [table[name] for name in roles.prices.values()]
    decimal = options.decimal or decimal_mark(price_columns)
    cells = {role: numbers(table[name], decimal=decimal) for role, name in roles.prices.items()}
    for role, name in (("volume", roles.volume), ("tick_count", roles.tick_count), ("spread", roles.spread)):
        if name is not None:
            cells[role] = numbers(table[name], decimal=decimal, grouped=True)
    bad = times.bad.copy()
    for _, unread in cells.values():
        bad |= unread
    values = {role: array[~bad] for role, (array, _) in cells.items()}
    volume_kind = _settle_volume(values, len(bad) - int(bad.sum()))
    rejected = _rejections(raw, roles, times, cells, bad, request, path.name if many else None)
    with path.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    return _Part(
        path,
        make_bars(times.nanoseconds[~bad], values),
        rejected,
        volume_kind,
        "points" if roles.spread and roles.tick_count else "unknown" if roles.spread else None,
        f"{path.name}, sha256:{digest}",
        options.adjusted,
    )


def _time_column(table: pa.Table, roles: ColumnRoles) -> pa.ChunkedArray:
    if roles.clock is None:
        return table[roles.time]
    return pc.binary_join_element_wise(texts(table[roles.time]), texts(table[roles.clock]), " ")


def _settle_volume(values: dict[str, np.ndarray], rows: int) -> VolumeKind:
    """Give ``volume`` its meaning: traded units where the file has them, else ticks, else zeros that mean nothing."""
    ticks = values.get("tick_count")
    volume = values.get("volume")
    # A count that is missing or no whole number cannot stand in an integer column; ``volume`` still carries it.
    if ticks is not None and not bool(((np.abs(ticks) < 2.0**53) & (ticks == np.floor(ticks))).all()):
        del values["tick_count"]
    if volume is not None and (ticks is None or bool((volume > 0).any())):
        return "traded"
    if ticks is not None:
        # MetaTrader leaves the real volume of a currency pair at 0 and counts price changes instead.
        values["volume"] = ticks.astype(np.float64)
        return "tick"
    values["volume"] = np.zeros(rows)
    return "none"


def _rejections(
    raw: RawTable,
    roles: ColumnRoles,
    times: Instants,
    cells: dict[str, tuple[np.ndarray, np.ndarray]],
    bad: np.ndarray,
    request: BarRequest,
    file_name: str | None,
) -> pd.DataFrame:
    """The rows that are no bar, in the order of the file; those whose time is known and outside the range are left."""
    columns = {"volume": roles.volume, "tick_count": roles.tick_count, "spread": roles.spread, **roles.prices}
    found: list[tuple[int, str, list[str]]] = []
    for i in np.flatnonzero(bad & (times.bad | _inside(times.nanoseconds, request))):
        row = {name: raw.table[name][int(i)].as_py() for name in raw.table.column_names}
        reasons = [times.reasons[int(i)]] if times.bad[i] else []
        for role, (_, unread) in cells.items():
            if unread[i]:
                reasons.append(f"{role} {row[str(columns[role])]!r} is not a number")
        found.append((int(raw.positions[i]), as_record(row), reasons))
    expected = raw.table.num_columns
    found += [(place, as_record([text]), [f"the line does not have {expected} cells"]) for place, text in raw.ragged]
    found.sort(key=lambda row: row[0])
    extra = [] if file_name is None else [f"in file {file_name}"]
    return make_rejected([n for n, _, _ in found], [r for _, r, _ in found], [why + extra for _, _, why in found])


def _inside(nanoseconds: np.ndarray, request: BarRequest) -> np.ndarray:
    inside = np.ones(len(nanoseconds), dtype=bool)
    if request.start is not None:
        inside &= nanoseconds >= request.start.as_unit("ns").value
    if request.end is not None:
        inside &= nanoseconds < request.end.as_unit("ns").value
    return inside


def _join(parts: list[_Part]) -> pd.DataFrame:
    if len(parts) == 1:
        return parts[0].bars
    shared = [name for name in parts[0].bars.columns if all(name in part.bars.columns for part in parts)]
    return pd.concat([part.bars[shared] for part in parts])
