"""What there is to say of a running engine: for people who ask, and for the report in the database."""

from __future__ import annotations

from typing import Any, NamedTuple

from tapeline.alerts.engine_changes import EngineChanges
from tapeline.alerts.feeds.data_manager import DataManager
from tapeline.alerts.latency import STAGES
from tapeline.alerts.performance_monitor import PerformanceMonitor, Standing
from tapeline.alerts.pipeline import AlertPipeline
from tapeline.alerts.websocket_server import COUNTED, WebSocketServer


class EngineView(NamedTuple):
    """The parts of an engine at one look.

    Parameters
    ----------
    pipeline, manager:
        None where it was not started.
    failed:
        What it failed with.
    is_over:
        Whether it is stopping.
    stalled:
        Seconds since the kernel came round.
    """

    pipeline: AlertPipeline | None
    manager: DataManager | None
    monitor: PerformanceMonitor
    changes: EngineChanges
    server: WebSocketServer | None
    failed: BaseException | None
    is_over: bool
    stalled: float

    def status(self) -> dict[str, Any]:
        """What there is to say of it now: rules, firings, latencies in seconds, feeds, the store's queue."""
        pipeline = self.pipeline
        if pipeline is None:
            return {"state": "not started"}
        latency = self.monitor.latency
        latencies = {
            stage: {
                "count": latency.count(stage),
                "p50": latency.quantile(stage, 0.5),
                "p99": latency.quantile(stage, 0.99),
            }
            for stage in STAGES
        }
        problem = self.failed or pipeline.problem
        return {
            "state": "failed" if problem else "stopped" if self.is_over else "running",
            "problem": str(problem or ""),
            "rules": len(pipeline.in_force),
            "symbols": len(pipeline.in_force.symbols),
            "problems": self.changes.problems,
            "suspended": sorted(self.changes.suspended),
            "firings": pipeline.firings,
            "replayed": pipeline.replayed,
            "latency": latencies,
            "processor": dict(pipeline.processor.counts),
            "feeds": self.manager.metrics() if self.manager is not None else {},
            "store": pipeline.group.counts(),
        }

    def standing(self) -> Standing:
        """What it finds when it looks at itself."""
        pipeline, manager = self.pipeline, self.manager
        if pipeline is None or manager is None:
            return Standing("failed" if self.failed else "starting", str(self.failed or ""))
        group, batcher, given = pipeline.group.counts(), manager.batcher, manager.counters
        problem = self.failed or pipeline.problem
        stream = self.server.metrics() if self.server is not None else {}
        return Standing(
            "failed" if self.failed else "stopped" if self.is_over else "running",
            problem=str(problem or ""),
            rules=len(pipeline.in_force),
            symbols=len(pipeline.in_force.symbols),
            silent=manager.silent,
            idle=manager.idle,
            stalled=self.stalled,
            waiting=batcher.depth,
            room=batcher.options.capacity,
            commits=group.waiting,
            store_problem=group.problem,
            counters={
                "ticks": batcher.counters.records,
                "batches": batcher.counters.batches,
                "firings": pipeline.firings,
                "replayed": pipeline.replayed,
                "late": given.late,
                "gaps": given.gaps,
                "duplicates": given.duplicates,
                "refused": given.refused,
                "dropped": given.standby_dropped,
                "waits": batcher.counters.waits,
                "store_failures": group.failures,
                **{f"stream_{name}": int(value) for name, value in stream.items() if name in COUNTED},
            },
            gauges={f"stream_{name}": value for name, value in stream.items() if name not in COUNTED},
        )
