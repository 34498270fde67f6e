"""The exporter: what Prometheus scrapes, from the store of metrics and from the lake as it lies there."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from tapeline.monitoring.metric_store import MetricStore, Series
from tapeline.monitoring.metrics import METRICS, metric_of

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry, Metric

MAXIMUM_SERIES: Final = 2_000
"""Series of the lake that are told one by one; of more, the stalest."""
SCAN_SECONDS: Final = 15.0
"""The lake is looked through at most so often, however often the exporter is scraped."""


@dataclass(frozen=True)
class SeriesState:
    """What the lake holds of one series, at one instant.

    Parameters
    ----------
    table, symbol, timeframe:
        Which series; ``table`` as ``raw/bars``.
    rows, size_bytes:
        How much it is.
    missing_bars:
        Bars absent between its first and last, None where bars are not one a step.
    timeframe_seconds:
        The length of one bar, 0 for ticks.
    freshness_seconds:
        Now less the close of the newest bar.
    open_freshness_seconds:
        The part of it in which the instrument's market was open.
    """

    table: str
    symbol: str
    timeframe: str
    rows: int
    size_bytes: int
    missing_bars: int | None
    timeframe_seconds: float
    freshness_seconds: float
    open_freshness_seconds: float


Inventory = Callable[[], Iterable[SeriesState]]


class Exporter:
    """A collector of prometheus_client over the store and the lake.

    A part that cannot be read (a locked file, a damaged lake) is left out and counted in
    ``tapeline_exporter_problems``: the other part is still served.

    Parameters
    ----------
    store:
        Where the runs left their numbers.
    inventory:
        Looks through the lake; asked at most every ``scan_seconds``.
    clock:
        Seconds that only move forward.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from prometheus_client import generate_latest
    >>> exporter = Exporter(MetricStore(Path(tempfile.mkdtemp()) / "metrics.sqlite"), lambda: [])
    >>> print(generate_latest(exporter.registry()).decode().splitlines()[-1])
    tapeline_exporter_problems{part="store"} 0.0
    """

    def __init__(
        self,
        store: MetricStore,
        inventory: Inventory,
        *,
        scan_seconds: float = SCAN_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._inventory = inventory
        self._scan_seconds = scan_seconds
        self._clock = clock
        self._lock = threading.Lock()
        self._scanned_at: float | None = None
        self._states: list[Series] = []
        self._lake_problem = False

    def registry(self) -> CollectorRegistry:
        """A registry that holds this collector and nothing else."""
        from prometheus_client import CollectorRegistry

        registry = CollectorRegistry(auto_describe=False)
        registry.register(self)
        return registry

    def series(self) -> list[Series]:
        """Every series as it stands now."""
        found = self._scan()
        store_problem = False
        try:
            found += self._store.read()
        except Exception:  # noqa: BLE001 - a damaged store must not hide the lake
            store_problem = True
        problems = {"store": store_problem, "lake": self._lake_problem}
        found += [_gauge("tapeline_exporter_problems", float(bad), part=part) for part, bad in problems.items()]
        return sorted(found, key=lambda one: (one.metric.name, sorted(one.labels.items())))

    def collect(self) -> Iterator[Metric]:
        """The metric families, as prometheus_client asks for them."""
        grouped: dict[str, list[Series]] = {}
        for one in self.series():
            grouped.setdefault(one.metric.name, []).append(one)
        # In the order of the catalogue, so that related metrics stand together; the undeclared come last.
        for name in sorted(grouped, key=lambda name: list(METRICS).index(name) if name in METRICS else len(METRICS)):
            yield _family(grouped[name])

    def _scan(self) -> list[Series]:
        # One scrape looks, the others of that moment wait for it and share what it found.
        with self._lock:
            now = self._clock()
            if self._scanned_at is None or now - self._scanned_at >= self._scan_seconds:
                try:
                    held = sorted(self._inventory(), key=lambda state: -state.open_freshness_seconds)
                    states = [one for state in held[:MAXIMUM_SERIES] for one in _of_state(state)]
                    states.append(_gauge("tapeline_lake_series", len(held)))
                    # Said once a timeframe, though many series have it.
                    self._states = list({(s.metric.name, tuple(s.labels.items())): s for s in states}.values())
                    self._lake_problem = False
                except Exception:  # noqa: BLE001 - a damaged lake must not hide what the runs said
                    self._states, self._lake_problem = [], True
                self._scanned_at = self._clock()
                self._states.append(_gauge("tapeline_lake_scan_seconds", self._scanned_at - now))
            return list(self._states)


def serve(exporter: Exporter, *, host: str = "127.0.0.1", port: int = 9464) -> tuple[Any, threading.Thread]:
    """Serve the exporter over HTTP in a thread; gives the server, whose ``shutdown`` ends it, and the thread.

    Prometheus asks for text or OpenMetrics by its ``Accept`` header and gets what it asked for.

    Raises
    ------
    OSError
        The port is taken, or the host is not one of this machine.
    """
    from prometheus_client import start_http_server

    return start_http_server(port, addr=host, registry=exporter.registry())


def exposition(series: Iterable[Series]) -> bytes:
    """Series as Prometheus's text format has them, those of one metric together.

    Examples
    --------
    >>> from tapeline.monitoring.metrics import Metric
    >>> one = Series(Metric("tapeline_things", "gauge", "Things.", ("kind",)), {"kind": "a"}, 2.0)
    >>> print(exposition([one]).decode().splitlines()[-1])
    tapeline_things{kind="a"} 2.0
    """
    from prometheus_client import CollectorRegistry, generate_latest

    grouped: dict[str, list[Series]] = {}
    for one in series:
        grouped.setdefault(one.metric.name, []).append(one)

    class Given:
        def collect(self) -> Iterator[Metric]:
            return map(_family, grouped.values())

    registry = CollectorRegistry(auto_describe=False)
    registry.register(Given())
    return generate_latest(registry)


def _of_state(state: SeriesState) -> Iterator[Series]:
    labels = {"table": state.table, "symbol": state.symbol, "timeframe": state.timeframe}
    yield _gauge("tapeline_freshness_seconds", state.freshness_seconds, **labels)
    yield _gauge("tapeline_open_freshness_seconds", state.open_freshness_seconds, **labels)
    yield _gauge("tapeline_lake_rows", state.rows, **labels)
    yield _gauge("tapeline_lake_size_bytes", state.size_bytes, **labels)
    if state.missing_bars is not None:
        yield _gauge("tapeline_lake_missing_bars", state.missing_bars, **labels)
    yield _gauge("tapeline_timeframe_seconds", state.timeframe_seconds, timeframe=state.timeframe)


def _gauge(name: str, value: float, **labels: str) -> Series:
    return Series(metric_of(name, labels), labels, float(value))


def _family(held: list[Series]) -> Metric:
    from prometheus_client import Metric
    from prometheus_client.utils import floatToGoString

    metric = held[0].metric
    base = metric.name.removesuffix("_total") if metric.kind == "counter" else metric.name
    family = Metric(base, metric.help, metric.kind)
    for one in held:
        labels: Mapping[str, str] = one.labels
        if metric.kind != "histogram":
            family.add_sample(metric.name, dict(labels), one.value)
            continue
        for bound, count in one.buckets:
            family.add_sample(f"{metric.name}_bucket", {**labels, "le": floatToGoString(bound)}, count)
        family.add_sample(f"{metric.name}_count", dict(labels), one.buckets[-1][1])
        family.add_sample(f"{metric.name}_sum", dict(labels), one.value)
    return family
