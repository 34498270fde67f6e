"""What engines report as Prometheus reads it; every label has few values, whatever a report says."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from tapeline.alerts.burn_rate import ALARMS, WINDOWS
from tapeline.alerts.engine_reports import EngineReport
from tapeline.alerts.latency import BOUNDS, STAGES
from tapeline.monitoring.exporter import exposition
from tapeline.monitoring.metric_store import Series
from tapeline.monitoring.metrics import Metric

MOST_ENGINES: Final = 200
MOST_DELIVERIES: Final = 100
_ENGINE: Final = ("engine",)


def _gauge(name: str, help: str, *labels: str) -> Metric:
    return Metric(f"tapeline_alerts_{name}", "gauge", help, (*_ENGINE, *labels))


def _counter(name: str, help: str, *labels: str) -> Metric:
    return Metric(f"tapeline_alerts_{name}_total", "counter", help, (*_ENGINE, *labels))


COUNTERS: Final[Mapping[str, Metric]] = {
    "ticks": _counter("ticks", "Records that the kernel has taken."),
    "batches": _counter("batches", "Batches of records."),
    "firings": _counter("firings", "New firings that are on the disk."),
    "replayed": _counter("replayed_batches", "Batches gone over again at the start."),
    "late": _counter("late", "Records found by going over a gap."),
    "gaps": _counter("gaps", "Stretches of records that no source has."),
    "duplicates": _counter("duplicates", "Records that had come before."),
    "refused": _counter("refused", "Records that cannot be used."),
    "dropped": _counter("dropped", "Records of standing-by sources that fell out again."),
    "waits": _counter("full_queue_waits", "Times a source waited because the queue was full."),
    "store_failures": _counter("store_failures", "Commits that had to be tried again."),
    "stream_sent": _counter("stream_sent", "Messages to WebSocket clients."),
    "stream_slow": _counter("stream_slow_clients", "WebSocket clients that were closed for being too slow."),
    "stream_dropped": _counter("stream_dropped", "Firings that waited for them; they resume and get them."),
    "stream_refused": _counter("stream_refused", "WebSocket handshakes that were refused."),
    "stream_expired": _counter("stream_expired", "WebSocket clients whose credential ended."),
    "stream_broken": _counter("stream_broken", "WebSocket clients that were closed for what they said."),
}
"""Totals by their name in a report."""
GAUGES: Final[Mapping[str, Metric]] = {
    "rules": _gauge("rules", "Rules in force."),
    "symbols": _gauge("symbols", "Symbols that are watched."),
    "silent_symbols": _gauge("silent_symbols", "Watched symbols of which no source has a record."),
    "idle_seconds": _gauge("feed_idle_seconds", "Since the last record of any source."),
    "queue": _gauge("queue_records", "Records that wait for the kernel."),
    "commits_waiting": _gauge("commits_waiting", "Commits that wait for the store."),
    "stream_clients": _gauge("stream_clients", "WebSocket clients that are connected."),
    "stream_groups": _gauge("stream_groups", "Groups of WebSocket clients with equal filters."),
    "stream_waiting": _gauge("stream_waiting", "Firings that wait for WebSocket clients."),
    "stream_waiting_most": _gauge("stream_waiting_most", "The most that ever waited for one of them."),
    "memory_bytes": _gauge("resident_memory_bytes", "Memory of the engine's process."),
}
"""Values by their name in a report."""
_ALIVE: Final = _gauge("engine_alive", "1 where the engine was heard of lately and says that it lives.")
_READY: Final = _gauge("engine_ready", "1 where it can be relied on.")
_AGE: Final = _gauge("engine_beat_age_seconds", "Since it was heard of.")
_STARTED: Final = _gauge("engine_start_timestamp_seconds", "When it began (POSIX).")
_STAGE: Final = Metric(
    "tapeline_alerts_stage_seconds", "histogram", "Time of each stage of an alert.", (*_ENGINE, "stage"), BOUNDS
)
_DELIVERIES: Final = _counter("deliveries", "Answers of channels.", "channel", "outcome")
_EVENTS: Final = _counter("slo_events", "Firings and deliveries, on time (good) or not (bad).", "result")
_BURN: Final = _gauge("error_budget_burn_rate", "Bad events in units of the error budget.", "window")
_ALARM: Final = _gauge("error_budget_alarm", "1 where the error budget goes too fast.", "alarm")


def render_metrics(reports: Iterable[EngineReport]) -> bytes:
    """What engines report in Prometheus's text format (version 0.0.4).

    A report comes from the database and is believed in nothing: what is not the number it ought to be is left out,
    and of too many engines or channels the rest.

    Examples
    --------
    >>> report = EngineReport("one", 0, 0, {"rules": 3, "readiness": {"ok": True}})
    >>> [line for line in render_metrics([report]).decode().splitlines() if "rules{" in line]
    ['tapeline_alerts_rules{engine="one"} 3.0']
    """
    some = list(reports)[:MOST_ENGINES]
    return exposition(series for report in some for series in _of_report(report))


def _of_report(report: EngineReport) -> Iterator[Series]:
    status, engine = report.status, {"engine": report.instance}
    yield Series(_ALIVE, engine, float(report.alive))
    yield Series(_READY, engine, float(report.ready))
    yield Series(_AGE, engine, report.age)
    yield Series(_STARTED, engine, report.started_at / 1e9)
    for name, metric in GAUGES.items():
        yield from _plain(metric, engine, status.get(name))
    for name, metric in COUNTERS.items():
        yield from _plain(metric, engine, _part(status, "counters").get(name))
    for stage in STAGES:
        yield from _histogram({**engine, "stage": stage}, _part(_part(status, "stages"), stage))
    rows = status.get("deliveries")
    for row in (rows if isinstance(rows, list) else ())[:MOST_DELIVERIES]:
        if isinstance(row, list) and len(row) == 3 and all(isinstance(one, str) and len(one) <= 32 for one in row[:2]):
            yield from _plain(_DELIVERIES, {**engine, "channel": row[0], "outcome": row[1]}, row[2])
    slo = _part(status, "slo")
    for result in ("good", "bad"):
        yield from _plain(_EVENTS, {**engine, "result": result}, slo.get(result))
    for window in WINDOWS:
        yield from _plain(_BURN, {**engine, "window": window}, _part(slo, "burn").get(window))
    sounding = slo.get("alarms")
    if isinstance(sounding, list):
        for alarm in ALARMS:
            yield Series(_ALARM, {**engine, "alarm": alarm.name}, float(alarm.name in sounding))


def _histogram(labels: Mapping[str, str], plain: Mapping[str, Any]) -> Iterator[Series]:
    counts, total = plain.get("counts"), plain.get("sum")
    if not isinstance(counts, list) or len(counts) != len(BOUNDS) + 1 or not all(map(_is_count, counts)):
        return
    if total is None or not _is_count(total):
        return
    reached, buckets = 0.0, []
    for bound, count in zip((*BOUNDS, math.inf), counts, strict=True):
        reached += count
        buckets.append((bound, reached))
    yield Series(_STAGE, labels, float(total), tuple(buckets))


def _plain(metric: Metric, labels: Mapping[str, str], value: Any) -> Iterator[Series]:
    if _is_count(value):
        yield Series(metric, labels, float(value))


def _is_count(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < math.inf


def _part(status: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = status.get(name)
    return found if isinstance(found, dict) else {}
