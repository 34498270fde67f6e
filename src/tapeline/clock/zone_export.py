"""The export of a MetaTrader time-zone indicator: what the server, GMT and the computer showed, side by side.

An indicator or script writes one line a reading with MQL5's ``TimeTradeServer()`` (or ``TimeCurrent()``),
``TimeGMT()`` and ``TimeLocal()``. Accepted: a header with the columns ``server`` and ``gmt``, and ``local`` where it
is there, under these or MQL5's names, in any order and case; times as ``2025.07.30 12:05:01`` or with dashes; comma,
semicolon or tab between them; UTF-8 or UTF-16 (what ``FileOpen`` writes by default). Further columns are ignored.
"""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path
from typing import Final

import pandas as pd

from tapeline.core.errors import ConfigurationError, DataError

MAXIMUM_BYTES: Final = 64 * 1024 * 1024
QUARTER: Final = 900

_NAMES: Final = {
    "server": "server",
    "timetradeserver": "server",
    "timecurrent": "server",
    "gmt": "gmt",
    "utc": "gmt",
    "timegmt": "gmt",
    "local": "local",
    "timelocal": "local",
}
_TIME: Final = re.compile(r"(\d{4})[.\-/](\d{2})[.\-/](\d{2})[ T](\d{2}):(\d{2})(?::(\d{2}))?")


def read_zone_export(path: Path) -> pd.DataFrame:
    """Read an export.

    Returns
    -------
    Indexed by ``ts`` (the GMT column, UTC, sorted), one row a reading:

    - ``offset_hours``: the server's offset from UTC, rounded to the quarter of an hour;
    - ``drift_ms``: what is left of server less GMT, ms: how far the server's last tick is off the computer's clock;
    - ``local_offset_hours``: the computer's offset, NaN without that column;
    - ``changed``: True where the server's offset differs from the reading before: it changed its clock.

    Raises
    ------
    ConfigurationError
        There is no such file.
    DataError
        It is too long, lacks a column, or a time cannot be read; names the line.
    """
    if not path.is_file():
        raise ConfigurationError(f"there is no export '{path}'")
    if path.stat().st_size > MAXIMUM_BYTES:
        raise DataError(f"{path.name} has more than {MAXIMUM_BYTES} bytes")
    lines = _text(path).splitlines()
    if not lines:
        raise DataError(f"{path.name} is empty")
    delimiter = max(",;\t", key=lines[0].count)
    names = [_NAMES.get(re.sub(r"[^a-z]", "", cell.lower())) for cell in lines[0].split(delimiter)]
    for needed in ("server", "gmt"):
        if names.count(needed) != 1:
            raise DataError(
                f"{path.name}: {names.count(needed)} columns for '{needed}' in the header {lines[0][:200]!r}",
                hint="TimeTradeServer or server, and TimeGMT or gmt",
            )
    columns: dict[str, list[int]] = {name: [] for name in names if name}
    for number, row in enumerate(csv.reader(io.StringIO("\n".join(lines[1:])), delimiter=delimiter), start=2):
        if not row:
            continue
        for position, name in enumerate(names):
            if name:
                columns[name].append(_seconds(row[position] if position < len(row) else "", path.name, number))
    return _frame(columns)


def _text(path: Path) -> str:
    raw = path.read_bytes()
    encoding = "utf-16" if raw[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        return raw.decode(encoding)
    except UnicodeDecodeError as error:
        raise DataError(f"{path.name} is neither UTF-8 nor UTF-16: {error}") from error


def _seconds(cell: str, name: str, line: int) -> int:
    found = _TIME.fullmatch(cell.strip())
    try:
        if found:
            year, month, day, hour, minute = (int(found[i]) for i in range(1, 6))
            return int(pd.Timestamp(year, month, day, hour, minute, int(found[6] or 0)).timestamp())
    except ValueError:
        pass
    raise DataError(f"{name}: line {line} has the time {cell[:40]!r}", hint="written as 2025.07.30 12:05:01")


def _frame(columns: dict[str, list[int]]) -> pd.DataFrame:
    gmt = pd.Series(columns["gmt"], dtype="int64")
    ahead = pd.Series(columns["server"], dtype="int64") - gmt
    whole = (ahead / QUARTER).round() * QUARTER
    local = pd.Series(columns["local"], dtype="int64") - gmt if "local" in columns else gmt * float("nan")
    frame = pd.DataFrame(
        {
            "offset_hours": whole / 3600,
            "drift_ms": (ahead - whole) * 1000.0,
            "local_offset_hours": (local / QUARTER).round() * QUARTER / 3600,
        }
    )
    frame.index = pd.DatetimeIndex(pd.to_datetime(gmt.to_numpy(), unit="s", utc=True), name="ts").as_unit("ns")
    frame = frame.sort_index(kind="stable")
    frame["changed"] = frame["offset_hours"].diff().fillna(0.0) != 0
    return frame
