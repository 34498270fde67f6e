"""How the engine does: latencies by stage, counts, its service level, whether it lives and can be relied on.

Recording costs some microseconds a batch and takes no lock for longer. What is reported goes into the database by a
thread of the engine (:mod:`tapeline.alerts.engine_reports`), where the gateway reads it
(:func:`tapeline.alerts.engine_metrics.render_metrics`).
"""

from __future__ import annotations

import math
import os
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

from tapeline.alerts.burn_rate import WINDOWS, BurnRate
from tapeline.alerts.delivery.channel import Answer, Channel
from tapeline.alerts.engine.kernel import TRADE
from tapeline.alerts.latency import STAGES, StageLatency
from tapeline.alerts.passage import Taken
from tapeline.alerts.records import Delivery
from tapeline.alerts.store.store import Endpoint
from tapeline.core.nanoseconds import SECOND

TARGET_SECONDS: Final = 0.1
"""A firing is on time where it is on the disk so long after the arrival of its trade."""
DELIVERY_SECONDS: Final = 10.0
"""A delivery is on time where a channel has taken it so long after it was due."""
MOST_CHANNELS: Final = 16
_LABEL: Final = re.compile(r"[a-z][a-z0-9_-]{0,31}")
_LOOKED_AT: Final = 4

State = Literal["starting", "running", "stopped", "failed"]


@dataclass(frozen=True)
class Standing:
    """What the engine finds when it looks at itself.

    Parameters
    ----------
    problem:
        What ended it, or a commit that was refused for good.
    rules, symbols, silent:
        How many there are; symbols of which no source has a record.
    idle, stalled:
        Seconds since the last record, and since the kernel's thread last came round.
    waiting, room:
        Records that wait for the kernel, and for how many there is room.
    commits, store_problem:
        Commits that wait for the store, and why it refuses, where it does.
    counters, gauges:
        Totals, and further values, by name: see ``engine_metrics.COUNTERS`` and ``GAUGES``.
    """

    state: State
    problem: str = ""
    rules: int = 0
    symbols: int = 0
    silent: int = 0
    idle: float = 0.0
    stalled: float = 0.0
    waiting: int = 0
    room: int = 1
    commits: int = 0
    store_problem: str = ""
    counters: Mapping[str, int] = field(default_factory=dict)
    gauges: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Limits:
    """From where on the engine is not ready, and for ``stalled`` not alive. Seconds, numbers, shares."""

    stalled: float = 10.0
    idle: float = 60.0
    waiting: float = 0.5
    commits: int = 1_000


class Verdict(NamedTuple):
    """Whether, and why not."""

    ok: bool
    reasons: tuple[str, ...]


def health(standing: Standing, limits: Limits | None = None) -> Verdict:
    """Whether the engine lives: if not, begin it anew.

    Examples
    --------
    >>> health(Standing("running", stalled=12.0))
    Verdict(ok=False, reasons=('the kernel has not come round for 12 s',))
    """
    bounds = limits or Limits()
    reasons = []
    if standing.state == "failed":
        reasons.append(f"it failed: {standing.problem}" if standing.problem else "it failed")
    elif standing.state == "running" and standing.stalled > bounds.stalled:
        reasons.append(f"the kernel has not come round for {standing.stalled:.0f} s")
    return Verdict(not reasons, tuple(reasons))


def readiness(standing: Standing, limits: Limits | None = None) -> Verdict:
    """Whether alerts can be relied on now: recovered, feeds fresh, the store takes commits, nothing piles up.

    Examples
    --------
    >>> readiness(Standing("running", symbols=2, silent=2, store_problem="disk full")).reasons
    ('no source has a record of any symbol', 'the store refuses: disk full')
    """
    bounds, reasons = limits or Limits(), list(health(standing, limits).reasons)
    if standing.state in ("starting", "stopped"):
        reasons.append({"starting": "it is recovering", "stopped": "it was stopped"}[standing.state])
    if standing.symbols and standing.silent >= standing.symbols:
        reasons.append("no source has a record of any symbol")
    elif standing.symbols and standing.idle > bounds.idle:
        reasons.append(f"no record for {standing.idle:.0f} s")
    if standing.store_problem:
        reasons.append(f"the store refuses: {standing.store_problem}")
    elif standing.problem and standing.state != "failed":
        reasons.append(f"a commit was refused for good: {standing.problem}")
    if standing.waiting > bounds.waiting * standing.room:
        reasons.append(f"{standing.waiting} records wait for the kernel")
    if standing.commits > bounds.commits:
        reasons.append(f"{standing.commits} commits wait for the store")
    return Verdict(not reasons, tuple(reasons))


class PerformanceMonitor:
    """Takes down what happens; any thread may.

    Attributes
    ----------
    latency:
        Seconds by stage.
    objective:
        Of all firings the share on the disk within ``TARGET_SECONDS`` of their trade's arrival, and of all deliveries
        taken by a channel within ``DELIVERY_SECONDS`` of their due time, how fast the budget of the rest goes. What an
        endpoint refuses counts for neither side.

    Examples
    --------
    >>> monitor = PerformanceMonitor()
    >>> monitor.stored(firings=2, seconds=0.02)
    >>> status = monitor.status(Standing("running", rules=3))
    >>> status["readiness"], status["slo"]["good"], status["rules"]
    ({'ok': True, 'reasons': []}, 2, 3)
    """

    def __init__(self, limits: Limits | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self.latency, self.objective = StageLatency(), BurnRate(clock=clock)
        self.limits = limits or Limits()
        self._deliveries: Counter[tuple[str, str]] = Counter()
        self._channels: set[str] = set()
        self._lock = threading.Lock()

    def arrived(self, travelled: float | None, queued: float) -> None:
        """A batch is taken: for how long its first trade was on its way, where that is known, and waited here."""
        if travelled is not None:
            self.latency.add("receive", travelled)
        self.latency.add("queue", queued)

    def stored(self, firings: int, seconds: float) -> None:
        """Firings are on the disk, so many seconds after their trades had arrived; never, where that is infinite."""
        if math.isfinite(seconds):
            self.latency.add("processing", seconds)
        late = not seconds <= TARGET_SECONDS
        self.objective.add(good=0 if late else firings, bad=firings if late else 0)

    def delivered(self, channel: str, deliveries: Sequence[Delivery], outcome: str, now: int) -> None:
        """A channel has answered, at ``now`` in nanoseconds."""
        with self._lock:
            if channel not in self._channels:
                known = len(self._channels) < MOST_CHANNELS and _LABEL.fullmatch(channel)
                self._channels.add(channel) if known else None
                channel = channel if known else "other"
            self._deliveries[channel, outcome] += len(deliveries)
        if outcome != "sent":
            return
        for one in deliveries:
            self.latency.add("sent", (now - one.created_at) / SECOND)
            late = (now - max(one.created_at, one.not_before)) / SECOND > DELIVERY_SECONDS
            self.objective.add(good=not late, bad=late)

    def status(self, standing: Standing) -> dict[str, Any]:
        """All of it, as JSON keeps it."""
        with self._lock:
            deliveries = [[*key, count] for key, count in sorted(self._deliveries.items())]
        return {
            **standing.gauges,
            "state": standing.state,
            "health": _plain(health(standing, self.limits)),
            "readiness": _plain(readiness(standing, self.limits)),
            "rules": standing.rules,
            "symbols": standing.symbols,
            "silent_symbols": standing.silent,
            "idle_seconds": round(standing.idle, 3),
            "queue": standing.waiting,
            "commits_waiting": standing.commits,
            "memory_bytes": resident_bytes(),
            "counters": {name: int(count) for name, count in standing.counters.items()},
            "deliveries": deliveries,
            "stages": {stage: self.latency.histogram(stage) for stage in STAGES},
            "quantiles": {
                stage: [self.latency.quantile(stage, 0.5), self.latency.quantile(stage, 0.99)]
                for stage in STAGES
                if self.latency.count(stage)
            },
            "slo": {
                "objective": self.objective.objective,
                "good": self.objective.good,
                "bad": self.objective.bad,
                "burn": {window: round(self.objective.rate(window), 6) for window in WINDOWS},
                "alarms": list(self.objective.alarms()),
            },
        }


class TimedChannel:
    """A channel whose answers are taken down."""

    def __init__(self, channel: Channel, monitor: PerformanceMonitor, clock: Callable[[], int]) -> None:
        self.name, self.digests = channel.name, channel.digests
        self._channel, self._monitor, self._clock = channel, monitor, clock

    def admit(self, endpoint: Endpoint | None) -> float:
        """As the channel."""
        return self._channel.admit(endpoint)

    def send(self, deliveries: Sequence[Delivery], endpoint: Endpoint | None, *, now: int) -> Answer:
        """As the channel."""
        answer = self._channel.send(deliveries, endpoint, now=now)
        self._monitor.delivered(self.name, deliveries, answer.outcome, self._clock())
        return answer


def travel(taken: Taken, waited: float, now: int) -> float | None:
    """For how long the first trade of a batch was on its way to us, in seconds; None where none tells.

    It is what our clock said at its arrival less the venue's time of it: the network, and the difference of the clocks.

    Parameters
    ----------
    waited:
        Seconds since it arrived.
    now:
        Nanoseconds, our clock.
    """
    for at in range(min(taken.times.size, _LOOKED_AT)):
        # Clocks of ours stand before the trade that moved them; a trade of a gap's filling was not on its way.
        if (taken.records is None or taken.records[at] == TRADE) and not taken.late[at]:
            return (now - int(taken.times[at])) / SECOND - waited
    return None


def resident_bytes() -> int:
    """Memory of this process that lies in RAM; 0 where the system does not say."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return 0


def _plain(verdict: Verdict) -> dict[str, Any]:
    return {"ok": verdict.ok, "reasons": list(verdict.reasons)}
