"""The store of metrics: counters, gauges and histograms of many short-lived processes in one SQLite file.

A flow run is a process that has ended before anyone could scrape it. So each writes its numbers here, in one
transaction a stage, and the exporter, which lives longer, serves them.
"""

from __future__ import annotations

import json
import math
import sqlite3
import time
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tapeline.core.errors import ConfigurationError
from tapeline.monitoring.database import transaction
from tapeline.monitoring.metrics import Metric, metric_of

STORE_FILE: Final = "metrics.sqlite"
MAXIMUM_SERIES: Final = 500
"""Label combinations that one metric may have; a metric of unbounded labels would fill the disk and Prometheus."""
MAXIMUM_LABEL: Final = 100
OTHER: Final = "other"
"""The label values of counts beyond that bound; such gauges are left out."""
_DROPPED: Final = "tapeline_series_dropped_total"
_SCHEMA_VERSION: Final = 1
_SCHEMA: Final = (
    "CREATE TABLE series (metric TEXT NOT NULL, labels TEXT NOT NULL, part TEXT NOT NULL, value REAL NOT NULL,"
    " updated_at REAL NOT NULL, PRIMARY KEY (metric, labels, part)) WITHOUT ROWID",
    f"PRAGMA user_version = {_SCHEMA_VERSION}",
)
_SUM: Final = "sum"


@dataclass(frozen=True)
class Update:
    """One change: the addend of a counter, the new value of a gauge, or one observation of a histogram."""

    name: str
    value: float
    labels: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class Series:
    """One series as stored: ``value`` of a counter or gauge, or the cumulative ``buckets`` and the sum as ``value``."""

    metric: Metric
    labels: Mapping[str, str]
    value: float
    buckets: tuple[tuple[float, float], ...] = ()


class MetricStore:
    """Counters, gauges and histograms that many processes and threads change at once, each change atomic.

    Parameters
    ----------
    path:
        The SQLite file (write-ahead log); it and its folder are made where absent.
    clock:
        POSIX seconds; when a gauge was set.
    lock_seconds:
        How long to wait for another process's transaction.
    maximum_series:
        Label combinations a metric may have.

    Every method may raise ``sqlite3.Error`` or ``OSError``.

    Examples
    --------
    >>> import tempfile
    >>> store = MetricStore(Path(tempfile.mkdtemp()) / "metrics.sqlite")
    >>> store.apply([Update("tapeline_feed_messages_total", 3, {"feed": "binance"})] * 2)
    >>> store.read()[0].value
    6.0
    """

    def __init__(
        self,
        path: Path,
        *,
        clock: Callable[[], float] = time.time,
        lock_seconds: float = 5.0,
        maximum_series: int = MAXIMUM_SERIES,
    ) -> None:
        self.path = Path(path)
        self._clock = clock
        self._lock_seconds = lock_seconds
        self._maximum = maximum_series

    def apply(self, updates: Iterable[Update]) -> None:
        """Make all these changes in one transaction.

        Raises
        ------
        ConfigurationError
            A name or label against the catalogue, a value that is not finite, or a counter that would fall. Nothing
            is changed then.
        """
        changes = [_checked(update) for update in updates]
        if not changes:
            return
        with self._transaction() as db:
            now = self._clock()
            for metric, labels, value in changes:
                self._change(db, metric, labels, value, now)

    def read(self) -> list[Series]:
        """Every series, sorted by name and labels; a gauge that nobody renewed within its lifetime is left out."""
        if not self.path.exists():
            return []
        address = f"{self.path.resolve().as_uri()}?mode=ro"
        with closing(sqlite3.connect(address, uri=True, timeout=self._lock_seconds)) as db:
            if db.execute("PRAGMA user_version").fetchone()[0] < _SCHEMA_VERSION:
                return []
            rows = db.execute(
                "SELECT metric, labels, part, value, updated_at FROM series ORDER BY metric, labels, part"
            ).fetchall()
        now = self._clock()
        grouped: dict[tuple[str, str], dict[str, tuple[float, float]]] = {}
        for name, labels, part, value, updated_at in rows:
            grouped.setdefault((name, labels), {})[part] = (value, updated_at)
        found = []
        for (name, text), parts in grouped.items():
            labels = {str(key): str(value) for key, value in json.loads(text).items()}
            try:
                metric = metric_of(name, labels)
            except ConfigurationError:
                # Left by another version of the catalogue.
                continue
            if metric.kind == "histogram":
                found.append(_histogram(metric, labels, parts))
                continue
            value, updated_at = parts.get("", (0.0, 0.0))
            if metric.kind == "counter" or now - updated_at <= metric.lifetime:
                found.append(Series(metric, labels, value))
        return found

    def _change(self, db: sqlite3.Connection, metric: Metric, labels: str, value: float, now: float) -> None:
        known = db.execute(
            "SELECT 1 FROM series WHERE metric = ? AND labels = ? LIMIT 1", (metric.name, labels)
        ).fetchone()
        if known is None and metric.labels:
            count = db.execute("SELECT count(DISTINCT labels) FROM series WHERE metric = ?", (metric.name,)).fetchone()[
                0
            ]
            if count >= self._maximum:
                self._add(db, _DROPPED, json.dumps({"metric": metric.name}), "", 1.0, now)
                if metric.kind == "gauge":
                    return
                labels = _text(dict.fromkeys(metric.labels, OTHER))
        if metric.kind == "counter":
            self._add(db, metric.name, labels, "", value, now)
        elif metric.kind == "gauge":
            db.execute(
                "INSERT INTO series VALUES (?, ?, '', ?, ?) ON CONFLICT DO UPDATE SET"
                " value = excluded.value, updated_at = excluded.updated_at",
                (metric.name, labels, value, now),
            )
        else:
            # Each observation is counted in one bucket; reading adds them up.
            self._add(db, metric.name, labels, f"{bisect_left(metric.bounds, value):03d}", 1.0, now)
            self._add(db, metric.name, labels, _SUM, value, now)

    @staticmethod
    def _add(db: sqlite3.Connection, name: str, labels: str, part: str, value: float, now: float) -> None:
        db.execute(
            "INSERT INTO series VALUES (?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET"
            " value = value + excluded.value, updated_at = excluded.updated_at",
            (name, labels, part, value, now),
        )

    def _transaction(self) -> AbstractContextManager[sqlite3.Connection]:
        # A power cut may cost the newest counts, which is better than a disk flush for each of them.
        return transaction(
            self.path, _SCHEMA, version=_SCHEMA_VERSION, lock_seconds=self._lock_seconds, synchronous="NORMAL"
        )


def _checked(update: Update) -> tuple[Metric, str, float]:
    metric = metric_of(update.name, update.labels)
    value = float(update.value)
    if not math.isfinite(value) or (metric.kind == "counter" and value < 0):
        raise ConfigurationError(f"{update.name} cannot be changed by {value}", hint="finite, and a counter only grows")
    return metric, _text({label: update.labels[label] for label in metric.labels}), value


def _text(labels: Mapping[str, object]) -> str:
    """The labels as the store's key; a value from outside is cut and loses what cannot be printed."""
    cleaned = {
        name: "".join(c if c.isprintable() else " " for c in str(value))[:MAXIMUM_LABEL]
        for name, value in labels.items()
    }
    return json.dumps(cleaned, sort_keys=True)


def _histogram(metric: Metric, labels: Mapping[str, str], parts: Mapping[str, tuple[float, float]]) -> Series:
    total, buckets = 0.0, []
    for number, bound in enumerate((*metric.bounds, math.inf)):
        total += parts.get(f"{number:03d}", (0.0, 0.0))[0]
        buckets.append((bound, total))
    return Series(metric, labels, parts.get(_SUM, (0.0, 0.0))[0], tuple(buckets))
