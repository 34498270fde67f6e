"""The live stream as a task: runs until it is stopped, and shows what it does while it runs."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any
from uuid import UUID

from prefect import task
from prefect.artifacts import create_progress_artifact, create_table_artifact, update_progress_artifact
from prefect.cache_policies import NO_CACHE
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import ArtifactUpdate

from tapeline.core.settings import load_settings
from tapeline.monitoring.metric_store import Update
from tapeline.quality.feed_sink import STAGE
from tasks.live_alerts import Notify
from tasks.live_run import LiveRun, StreamStatus, run_live
from tasks.live_venue import OpenVenue, StreamRequest, open_venue
from tasks.observe import measure_all, observed

Show = Callable[[StreamStatus], None]


@task(task_run_name="stream {request.feed}", cache_policy=NO_CACHE, tags=["live"])
def stream_feed(
    request: StreamRequest,
    *,
    notify: Notify = lambda notification: None,
    show: Show = lambda status: None,
    venue: OpenVenue = open_venue,
) -> StreamStatus:
    """Collect until the run is stopped, its time is over or the feed is lost.

    Parameters
    ----------
    request:
        What to collect.
    notify:
        Takes the feed's alerts, each as one notification.
    show:
        Told at the interval of the settings, as for a terminal.
    venue:
        Opens the venue.

    Raises
    ------
    FeedLostError
        The venue gave up; what was collected is in the lake.
    """
    board, metrics = Board(request), Metrics(request.feed)

    def report(status: StreamStatus) -> None:
        show(status)
        metrics.tell(status)
        board.tell(status)

    with observed(STAGE, request.feed, run_id=request.run_id) as seen:
        live = LiveRun(request, load_settings(), notify=notify, report=report, venue=venue)
        try:
            status = run_live(live)
        finally:
            last = live.status()
            seen.count(
                rows_in=last.rows + last.quarantined,
                rows_out=last.rows,
                quarantined=last.quarantined,
                reasons={**last.reasons, **({"unreadable": last.unreadable} if last.unreadable else {})},
            )
    return status


class Board:
    """The run's table and progress on its page: made once, then renewed in place.

    A run without an end of its own has no progress to show.
    """

    def __init__(self, request: StreamRequest) -> None:
        self._key = f"stream-{request.feed}"
        self._feed = request.feed
        self._table: UUID | None = None
        self._progress: UUID | None = None

    def tell(self, status: StreamStatus) -> None:
        """Show a state; what the server answers with passes through."""
        rows = [dict(row) for row in status.symbols]
        said = describe(status)
        if self._table is None:
            made = create_table_artifact(table=rows, key=self._key, description=said)
            self._table = UUID(str(made))
        else:
            with get_client(sync_client=True) as client:
                client.update_artifact(self._table, ArtifactUpdate(data=json.dumps(rows), description=said))
        if status.maximum_seconds is None:
            return
        percent = min(100.0, 100.0 * status.elapsed / status.maximum_seconds)
        if self._progress is None:
            made = create_progress_artifact(progress=percent, description=f"Live feed of {self._feed}")
            self._progress = UUID(str(made))
        else:
            update_progress_artifact(artifact_id=self._progress, progress=percent)


class Metrics:
    """A feed's numbers for Prometheus; counters are told by what was added since the last time."""

    def __init__(self, feed: str) -> None:
        self._feed = feed
        self._told: dict[tuple[Any, ...], float] = {}

    def tell(self, status: StreamStatus) -> None:
        """Tell a state. Never raises."""
        feed = {"feed": self._feed}
        lags = [row["lag_ms"] for row in status.symbols if row["lag_ms"] is not None]
        updates = [Update("tapeline_feed_buffer_rows", status.backlog_rows, feed)]
        for state, holds in (("connected", status.connected), ("disconnected", not status.connected)):
            updates.append(Update("tapeline_feed_state", float(holds), {**feed, "state": state}))
        if lags:
            updates.append(Update("tapeline_feed_lag_seconds", max(lags) / 1e3, feed))
        if status.drift_seconds is not None:
            updates.append(Update("tapeline_clock_drift_seconds", status.drift_seconds, feed))
        tables = {"trades": "trades", "quotes": "ticks", "bars": "bars", "depth_rows": "depth"}
        for name, table in tables.items():
            rows = sum(row[name] for row in status.symbols)
            self._add(updates, "tapeline_feed_rows_total", rows, {**feed, "table": f"raw/{table}"})
        self._add(updates, "tapeline_feed_messages_total", status.messages, feed)
        self._add(updates, "tapeline_feed_reconnects_total", status.reconnects + status.restarts, feed)
        self._add(updates, "tapeline_feed_gaps_total", status.gaps, feed)
        for kind, count in status.alerts.items():
            self._add(updates, "tapeline_feed_alerts_total", count, {**feed, "kind": kind})
        measure_all(*updates)

    def _add(self, updates: list[Update], name: str, total: float, labels: dict[str, str]) -> None:
        key = (name, *labels.values())
        added = total - self._told.get(key, 0.0)
        if added > 0:
            self._told[key] = total
            updates.append(Update(name, added, labels))


def describe(status: StreamStatus) -> str:
    """One line over the table: how long, what came, what was wrong."""
    state = "connected" if status.connected else "not connected"
    alerts = ", ".join(f"{count} {kind}" for kind, count in sorted(status.alerts.items())) or "none"
    return (
        f"{status.feed}: {state} after {status.elapsed:,.0f} s; {status.messages:,} messages, {status.rows:,} rows, "
        f"{status.backlog_rows:,} waiting for the lake, {status.quarantined:,} in quarantine, {status.gaps:,} gaps, "
        f"{status.reconnects + status.restarts:,} reconnections; alerts: {alerts}; "
        f"{time.strftime('%Y-%m-%d %H:%M:%S', time.gmtime())} UTC"
    )
