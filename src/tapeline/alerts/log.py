"""The log of the alert service: one JSON object a line in the Elastic Common Schema, rotated, without secrets."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterable
from datetime import UTC, datetime
from functools import lru_cache
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Any, Final

from tapeline.core.errors import ConfigurationError, TapelineError
from tapeline.monitoring.redaction import Redactor

ECS_VERSION: Final = "8.11.0"
DATASET: Final = "tapeline.alerts"
ROTATE_BYTES: Final = 16 << 20
KEPT_FILES: Final = 8
_KNOWN: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_CONTROL: Final = re.compile(r"\x1b\[[0-9;]*[A-Za-z]|[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029]")
_REQUEST_ID: Final = re.compile(r"req_[0-9a-f]{24}")
_FIELD: Final = re.compile(r"[a-z][a-z0-9_.]{0,63}")


class JsonFormatter(logging.Formatter):
    """A record as one line of JSON: ``@timestamp``, ``log.level``, ``message``, what else was given, and the error.

    Parameters
    ----------
    redact:
        Takes secrets out of every text.
    service:
        ``service.name``.

    Examples
    --------
    >>> record = logging.makeLogRecord({"name": "a", "levelname": "INFO", "msg": "token=abc123", "created": 0.0})
    >>> json.loads(JsonFormatter(Redactor()).format(record))["message"]
    'token=***'
    """

    def __init__(self, redact: Redactor, service: str = "tapeline-alerts") -> None:
        super().__init__()
        self._redact, self._service = redact, service
        # Owners, addresses and routes come again and again, and each search for secrets is a dozen expressions.
        self._known = lru_cache(maxsize=512)(self._clean)

    def format(self, record: logging.LogRecord) -> str:
        """The line, without its end."""
        made = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        line: dict[str, Any] = {
            "@timestamp": made,
            "log.level": record.levelname.lower(),
            "message": self._short(record.getMessage()),
            "ecs.version": ECS_VERSION,
            "service.name": self._service,
            "event.dataset": DATASET,
            "log.logger": record.name,
            "process.pid": record.process,
            "process.thread.name": record.threadName,
        }
        for name, value in vars(record).items():
            if name not in _KNOWN and _FIELD.fullmatch(name):
                line[f"labels.{name}"] = self._plain(value)
        if record.exc_info and record.exc_info[1] is not None:
            error = record.exc_info[1]
            line["error.type"] = type(error).__name__
            line["error.message"] = self._clean(error.message if isinstance(error, TapelineError) else str(error))
            line["error.stack_trace"] = self._redact(self.formatException(record.exc_info))
        return json.dumps(line, ensure_ascii=False)

    def _plain(self, value: object) -> object:
        if value is None or isinstance(value, (bool, int)):
            return value
        text = str(value)
        # A request's id is new every time, so that no memory helps, and it is random: there is nothing to search for.
        return text if _REQUEST_ID.fullmatch(text) else self._short(text)

    def _short(self, text: str) -> str:
        return self._known(text) if len(text) <= 100 else self._clean(text)

    def _clean(self, text: str) -> str:
        """Without secrets, and without what could pass for a line or a colour of its own in a terminal."""
        return _CONTROL.sub(" ", self._redact(text)).replace("\n", "\\n")


class _LogFile(RotatingFileHandler):
    """Formats a line once; the standard one would do it twice, first to know whether it still fits."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            line = self.format(record) + self.terminator
            if self.stream is None:
                self.stream = self._open()
            if 0 < self.maxBytes < self.stream.tell() + len(line.encode("utf-8", "replace")):
                self.doRollover()
            self.stream.write(line)
            self.flush()
        except Exception:  # noqa: BLE001 - as logging has it: a log that fails must not stop what it tells of
            self.handleError(record)


def open_log(
    path: Path,
    *,
    secrets: Iterable[str] = (),
    rotate_bytes: int = ROTATE_BYTES,
    kept: int = KEPT_FILES,
    level: int = logging.INFO,
) -> logging.Handler:
    """Write what the library logs into a file of JSON lines; the handler, to be removed and closed at the end.

    Parameters
    ----------
    path:
        The file; its folder is made where it is not there. Only its owner may read it.
    secrets:
        Values that must appear in no line.
    rotate_bytes, kept:
        Size at which a new file is begun, and how many old ones (``.1`` is the newest) stay.

    Raises
    ------
    ConfigurationError
        The file cannot be written, or a bound is not positive.
    """
    if rotate_bytes < 1 or kept < 1:
        raise ConfigurationError(f"rotate_bytes = {rotate_bytes} and kept = {kept} must be positive")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handler = _LogFile(path, maxBytes=rotate_bytes, backupCount=kept, encoding="utf-8")
        path.chmod(0o600)
    except OSError as error:
        raise ConfigurationError(f"the log {path} cannot be written: {error}") from None
    handler.setFormatter(JsonFormatter(Redactor(secrets)))
    handler.setLevel(level)
    logger = logging.getLogger("tapeline")
    logger.addHandler(handler)
    if logger.level == logging.NOTSET or logger.level > level:
        logger.setLevel(level)
    return handler


def close_log(handler: logging.Handler) -> None:
    """Remove a handler of :func:`open_log` and close its file."""
    logging.getLogger("tapeline").removeHandler(handler)
    handler.close()
