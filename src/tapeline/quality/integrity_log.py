"""The log of checks: every check as one line of JSON in a rotating file and one row of the audit table."""

from __future__ import annotations

import json
import logging
import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
from filelock import FileLock, Timeout

from tapeline.core.errors import ConfigurationError
from tapeline.core.schemas import AUDIT
from tapeline.core.symbol import Symbol
from tapeline.core.timeframe import Timeframe
from tapeline.core.versions import digest
from tapeline.lake.lake import Lake
from tapeline.lake.manifest import Lineage
from tapeline.quality.checks import Checked, times
from tapeline.quality.gate import Verdict

MAXIMUM_BYTES: Final = 10_000_000
"""At this size the file is rotated."""

KEPT_FILES: Final = 5
"""How many rotated files are kept."""

LONGEST_LINE: Final = 16_384
"""No line is longer, in characters; what does not fit is cut, and the line says so."""

LONGEST_TEXT: Final = 2_000
LOCK_SECONDS: Final = 5.0
"""How long a line waits for another process that writes or rotates the file; after that it is lost, and counted."""

_MOST_ITEMS: Final = 50
_DEEPEST: Final = 6
_LEVELS: Final = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
_EPOCH: Final = pd.Timestamp(0, tz="UTC")
_FIELDS: Final = ("id", "stage", "check", "check_version", "data_version", "passed", "rows", "rows_found", "newest")


@dataclass(frozen=True)
class CheckRecord:
    """One check of one batch, as the log and the audit table tell it.

    Parameters
    ----------
    check, check_version:
        What judged, and the hash of what it asks for.
    stage:
        Where in the chain.
    data_version:
        What was judged: the lake's content hash, or another name that is the same for the same data.
    passed:
        Whether the batch may go on. A row check passes a batch even where it refuses rows.
    rows, rows_found:
        Rows judged, and rows refused (row check, gate) or found (anomalies, gaps: bars missing).
    newest:
        The newest time judged; the epoch where there is none.
    details:
        Counts and examples, JSON-like, without wall-clock time.
    id:
        The verdict's own, or a hash: of all this where something was found, else of check, stage and data alone, so
        that looking again at the same data and finding nothing adds no row to the audit table.

    Examples
    --------
    >>> CheckRecord("row_check", "1a", "ingest", "2b", passed=True, rows=10, rows_found=2, newest=_EPOCH).level
    'WARNING'
    """

    check: str
    check_version: str
    stage: str
    data_version: str
    passed: bool
    rows: int
    rows_found: int
    newest: pd.Timestamp
    details: Mapping[str, Any] = field(default_factory=dict)
    id: str = ""

    def __post_init__(self) -> None:
        if not self.id:
            content: list[Any] = [self.check, self.check_version, self.stage, self.data_version]
            if self.rows_found or not self.passed:
                content += [self.passed, self.rows, self.rows_found, self.newest.isoformat(), _plain(self.details)]
            object.__setattr__(self, "id", digest(content))

    @property
    def level(self) -> str:
        """``ERROR`` where the batch may not go on, ``WARNING`` where rows were refused or found, else ``INFO``."""
        if not self.passed:
            return "ERROR"
        return "WARNING" if self.rows_found else "INFO"

    @classmethod
    def of_rows(
        cls, checked: Checked, batch: pd.DataFrame, *, stage: str, data_version: str, check: str = "row_check"
    ) -> CheckRecord:
        """A row check, of a batch or of a feed's chunk: the counts of each reason."""
        counts = checked.counts()
        return cls(
            check,
            digest([check]),
            stage,
            data_version,
            passed=True,
            rows=len(batch),
            rows_found=int(np.count_nonzero(~checked.passed)),
            newest=_newest(times(batch)),
            details={"reasons": counts, "unsorted": checked.n_unsorted},
        )

    @classmethod
    def of_verdict(cls, verdict: Verdict, *, stage: str) -> CheckRecord:
        """A gate's verdict, under the verdict's own id."""
        newest = verdict.details.get("newest")
        return cls(
            verdict.suite,
            verdict.suite_version,
            stage,
            verdict.data_version,
            passed=verdict.passed,
            rows=verdict.rows,
            rows_found=verdict.rows_refused,
            newest=pd.Timestamp(newest) if newest else _EPOCH,
            details={"failures": list(verdict.failures), **verdict.details},
            id=verdict.id,
        )

    @classmethod
    def of_anomalies(cls, found: pd.DataFrame, bars: pd.DataFrame, *, stage: str, data_version: str) -> CheckRecord:
        """The findings of :func:`tapeline.quality.anomalies.find_anomalies`: counts by method, the last messages."""
        return cls(
            "anomalies",
            digest(["anomalies"]),
            stage,
            data_version,
            passed=True,
            rows=len(bars),
            rows_found=int(found["ts"].nunique()),
            newest=_newest(times(bars)),
            details={
                "methods": {str(name): int(count) for name, count in sorted(found["method"].value_counts().items())},
                "messages": found["message"].tail(_MOST_ITEMS).tolist(),
            },
        )

    @classmethod
    def of_gaps(cls, gaps: pd.DataFrame, bars: pd.DataFrame, *, stage: str, data_version: str) -> CheckRecord:
        """The table of :func:`tapeline.quality.gaps.find_gaps`: missing bars by reason."""
        missing = gaps.groupby("reason", observed=True)["missing_bars"].sum()
        return cls(
            "gaps",
            digest(["gaps"]),
            stage,
            data_version,
            passed=True,
            rows=len(bars),
            rows_found=int(gaps["missing_bars"].sum()),
            newest=_newest(times(bars)),
            details={"gaps": len(gaps), "missing_bars": {str(name): int(n) for name, n in missing.items()}},
        )

    @classmethod
    def of_output(
        cls,
        check: str,
        frame: pd.DataFrame,
        *,
        stage: str,
        data_version: str,
        rows_found: int = 0,
        passed: bool = True,
        details: Mapping[str, Any] | None = None,
    ) -> CheckRecord:
        """A check of what a stage wrote, a frame on its time: how many rows, how many of them are worth a look.

        Examples
        --------
        >>> frame = pd.DataFrame({"x": [1.0]}, index=pd.DatetimeIndex(["2026-01-02"], tz="UTC", name="ts"))
        >>> CheckRecord.of_output("features", frame, stage="features", data_version="2b").newest
        Timestamp('2026-01-02 00:00:00+0000', tz='UTC')
        """
        return cls(
            check,
            digest([check]),
            stage,
            data_version,
            passed=passed,
            rows=len(frame),
            rows_found=rows_found,
            newest=_newest(pd.DatetimeIndex(frame.index)),
            details=details or {},
        )

    def to_fields(self) -> dict[str, Any]:
        """The record as the fields of one line of the log."""
        return {**{name: getattr(self, name) for name in _FIELDS}, "details": self.details}

    def to_audit_row(self) -> pd.DataFrame:
        """The record as one row of :data:`tapeline.core.schemas.AUDIT`, the level among its details."""
        row = {
            "id": self.id,
            "stage": self.stage,
            "suite": self.check,
            "suite_version": self.check_version,
            "data_version": self.data_version,
            "passed": self.passed,
            "rows": self.rows,
            "rows_refused": self.rows_found,
            "details": json.dumps({"level": self.level, **_plain(self.details)}, sort_keys=True),
        }
        return pd.DataFrame([row], index=pd.DatetimeIndex([self.newest], name="ts").as_unit("ns"))


class IntegrityLog:
    """Writes checks to a rotating file of JSON lines and, where a lake is given, to its audit table.

    Several processes may write one file at once: each line is written, and the file rotated, under a lock beside it. A
    line that cannot be written (a full disk, a lock held too long) is counted in ``lost_lines`` and fails no check; a
    row that cannot be written raises, because the audit table is part of the data.

    Parameters
    ----------
    path:
        The file; its folder is made. Rotated files are ``<path>.1`` to ``<path>.<kept_files>``.
    lake:
        Where the rows go, None for the file alone.
    level:
        Checks below this level are left out of the file. The audit table has them all.
    maximum_bytes, kept_files:
        When the file is rotated, and how many old ones are kept.
    redact:
        Applied to every line before it is written, to keep secrets out.

    Raises
    ------
    ConfigurationError
        An unknown level, a bound below 1, or a file that cannot be opened.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "integrity.jsonl"
    >>> record = CheckRecord("gaps", "1a", "ingest", "2b", passed=True, rows=10, rows_found=0, newest=_EPOCH)
    >>> with IntegrityLog(path) as log:
    ...     log.write(record, Symbol.parse("EURUSD"), Timeframe.parse("H1"))
    >>> json.loads(path.read_text())["check"]
    'gaps'
    """

    def __init__(
        self,
        path: Path,
        lake: Lake | None = None,
        *,
        level: str = "INFO",
        maximum_bytes: int = MAXIMUM_BYTES,
        kept_files: int = KEPT_FILES,
        redact: Callable[[str], str] | None = None,
    ) -> None:
        _known(level)
        if maximum_bytes < 1 or kept_files < 1:
            raise ConfigurationError(f"maximum_bytes {maximum_bytes} and kept_files {kept_files} must be at least 1")
        path = Path(path)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._handler = _Handler(path, maximum_bytes=maximum_bytes, kept_files=kept_files)
        except OSError as error:
            raise ConfigurationError(f"the log {path} cannot be written: {error}") from error
        self._handler.setFormatter(JsonLines(redact))
        # Not one of logging's named loggers: those are shared by the whole process, and this one has an owner.
        self._logger = logging.Logger("tapeline.integrity", level)
        self._logger.addHandler(self._handler)
        self._lake = lake

    @property
    def lost_lines(self) -> int:
        """How many lines could not be written."""
        return self._handler.lost_lines

    def write(self, record: CheckRecord, symbol: Symbol, timeframe: Timeframe, lineage: Lineage | None = None) -> None:
        """Write one check to the file and to the audit table.

        Parameters
        ----------
        lineage:
            What ran the check; needed where there is a lake.

        Raises
        ------
        ConfigurationError
            There is a lake and no lineage.
        DataError, TemporaryError
            The lake refused the row; the line is written then.
        """
        if self._lake is not None and lineage is None:
            raise ConfigurationError("a row of the audit table needs a lineage", hint="pass Lineage(run_id, stage)")
        values = record.to_fields() | {"symbol": str(symbol), "timeframe": timeframe.name}
        values |= {"run_id": lineage.run_id} if lineage else {}
        self.note(record.level, record.check, values)
        if self._lake is not None and lineage is not None:
            self._lake.write(AUDIT, record.to_audit_row(), symbol, timeframe, lineage=lineage)

    def note(self, level: str, message: str, values: Mapping[str, Any]) -> None:
        """Write one line that is no check of a series, such as how a stage ended; it gets no row.

        Raises
        ------
        ConfigurationError
            An unknown level.
        """
        self._logger.log(logging.getLevelName(_known(level)), message, extra={"values": dict(values)})

    def close(self) -> None:
        """Close the file; safe to call twice."""
        self._handler.close()

    def __enter__(self) -> IntegrityLog:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class JsonLines(logging.Formatter):
    r"""A log record as one line of JSON in ASCII: ``at``, ``level``, ``message``, and the fields of its ``values``.

    Control characters, line ends and every character beyond ASCII are escaped by JSON's own rules. Texts are cut at
    2,000 characters, lists at 50 items, the line at 16,384 characters.

    Examples
    --------
    >>> record = logging.LogRecord("x", logging.INFO, "", 0, "one\ntwo\x1b[31m", None, None)
    >>> JsonLines().format(record).partition('"message": ')[2]
    '"one\\ntwo\\u001b[31m"}'
    """

    def __init__(self, redact: Callable[[str], str] | None = None) -> None:
        super().__init__()
        self._redact = redact

    def format(self, record: logging.LogRecord) -> str:
        """One line, without its end."""
        at = pd.Timestamp(record.created, unit="s", tz="UTC").isoformat(timespec="milliseconds")
        head = {"at": at, "level": record.levelname, "message": self._clean(record.getMessage())}
        values = self._clean(getattr(record, "values", {}))
        line = json.dumps(head | values, ensure_ascii=True, allow_nan=False)
        if len(line) > LONGEST_LINE:
            values["details"] = {}
            values["cut"] = True
            line = json.dumps(head | values, ensure_ascii=True, allow_nan=False)
        if len(line) > LONGEST_LINE:
            line = json.dumps({**head, "message": head["message"][:100], "cut": True}, ensure_ascii=True)
        return line

    def _clean(self, value: Any) -> Any:
        return _plain(value, self._redact)


class _Handler(RotatingFileHandler):
    """Shares its file with other processes, and counts what it could not write instead of printing it."""

    lost_lines = 0

    def __init__(self, path: Path, *, maximum_bytes: int, kept_files: int) -> None:
        super().__init__(path, maxBytes=maximum_bytes, backupCount=kept_files, encoding="ascii")
        self._between = FileLock(f"{self.baseFilename}.lock", timeout=LOCK_SECONDS)

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line under the lock, to the file that now has the name."""
        try:
            with self._between:
                self._follow()
                super().emit(record)
        except (Timeout, OSError, ValueError):  # ValueError: the stream is closed
            self.handleError(record)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - the name that logging calls
        self.lost_lines += 1

    def _follow(self) -> None:
        # Another process may have rotated the file that is open here.
        if self.stream is None:
            return
        held = os.fstat(self.stream.fileno())
        try:
            named = Path(self.baseFilename).stat()
        except FileNotFoundError:
            named = None
        if named is None or (held.st_dev, held.st_ino) != (named.st_dev, named.st_ino):
            self.stream.close()
            self.stream = self._open()


def _known(level: str) -> str:
    if level not in _LEVELS:
        raise ConfigurationError(f"log level {level!r} is unknown", hint=f"use one of {', '.join(_LEVELS)}")
    return level


def _plain(value: Any, redact: Callable[[str], str] | None = None, depth: int = 0) -> Any:
    """A JSON-like copy with bounds: long texts and lists are cut, what is not finite becomes a text."""
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, np.generic):
        return _plain(value.item(), redact, depth)
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, Mapping) and depth < _DEEPEST:
        items = list(value.items())[:_MOST_ITEMS]
        return {str(_plain(str(key), redact)): _plain(held, redact, depth + 1) for key, held in items}
    if isinstance(value, list | tuple) and depth < _DEEPEST:
        return [_plain(held, redact, depth + 1) for held in value[:_MOST_ITEMS]]
    text = value.isoformat() if isinstance(value, pd.Timestamp) else str(value)
    text = redact(text) if redact else text
    return text if len(text) <= LONGEST_TEXT else f"{text[:LONGEST_TEXT]}..."


def _newest(held: pd.DatetimeIndex) -> pd.Timestamp:
    low, high = pd.Timestamp.min.tz_localize("UTC"), pd.Timestamp.max.tz_localize("UTC")
    usable = held[(held >= low) & (held <= high)]
    return usable.max().tz_convert("UTC") if len(usable) else _EPOCH
