"""The store of metrics under many writers, and what the exporter makes of it."""

from __future__ import annotations

import math
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterable
from pathlib import Path

import pytest
from prometheus_client import generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from tapeline.core.errors import ConfigurationError
from tapeline.monitoring.exporter import MAXIMUM_SERIES, Exporter, SeriesState, serve
from tapeline.monitoring.metric_store import MetricStore, Update
from tapeline.monitoring.metrics import METRICS, Metric, metric_of

HERE = {"flow": "pipeline", "stage": "ingest"}


@pytest.fixture
def store(tmp_path: Path) -> MetricStore:
    return MetricStore(tmp_path / "state" / "metrics.sqlite")


def state(symbol: str = "EURUSD", freshness: float = 60.0) -> SeriesState:
    return SeriesState("raw/bars", symbol, "H1", 10, 1_000, 0, 3_600.0, freshness, freshness / 2)


def samples(text: str) -> dict[tuple[str, frozenset], float]:
    return {(s.name, frozenset(s.labels.items())): s.value for family in parse_text(text) for s in family.samples}


def test_no_count_is_lost_among_processes_and_threads(store: MetricStore):
    code = (
        "import sys; from pathlib import Path; from tapeline.monitoring.metric_store import MetricStore, Update\n"
        "store = MetricStore(Path(sys.argv[1]), lock_seconds=60)\n"
        "for _ in range(50): store.apply([Update('tapeline_feed_messages_total', 2, {'feed': 'a'}),"
        " Update('tapeline_stage_duration_seconds', 0.2, {'flow': 'f', 'stage': 's'})])"
    )
    processes = [subprocess.Popen([sys.executable, "-c", code, str(store.path)]) for _ in range(3)]
    patient = MetricStore(store.path, lock_seconds=60)

    def count() -> None:
        for _ in range(25):
            patient.apply([Update("tapeline_feed_messages_total", 1, {"feed": "a"})])

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [process.wait(120) for process in processes] == [0, 0, 0]
    found = {one.metric.name: one for one in store.read()}
    assert found["tapeline_feed_messages_total"].value == 3 * 50 * 2 + 4 * 25
    assert found["tapeline_stage_duration_seconds"].buckets[-1] == (math.inf, 150)


def test_a_histogram_counts_every_observation_at_or_below_each_bound(store: MetricStore):
    observations = (0.05, 0.07, 3.0, 1e6)
    store.apply(Update("tapeline_stage_duration_seconds", value, HERE) for value in observations)
    (found,) = store.read()
    assert found.value == sum(observations)
    for bound, count in found.buckets:
        assert count == sum(value <= bound for value in observations)


def test_a_gauge_keeps_the_newest_value_and_goes_when_nobody_renews_it(tmp_path: Path):
    now = [1_000.0]
    store = MetricStore(tmp_path / "m.sqlite", clock=lambda: now[0])
    for value in (5, 3):
        store.apply([Update("tapeline_feed_lag_seconds", value, {"feed": "a"})])
    assert [one.value for one in store.read()] == [3.0]
    now[0] += METRICS["tapeline_feed_lag_seconds"].lifetime + 1
    assert store.read() == []


def test_label_values_are_bounded_in_number_and_length(tmp_path: Path):
    store = MetricStore(tmp_path / "m.sqlite", maximum_series=3)
    store.apply(Update("tapeline_feed_messages_total", 1, {"feed": f"f{number}" * 100}) for number in range(10))
    store.apply(Update("tapeline_feed_lag_seconds", 1, {"feed": f"f{number}"}) for number in range(10))
    found = store.read()
    counted = {one.labels["feed"]: one.value for one in found if one.metric.kind == "counter" and "feed" in one.labels}
    assert len(counted) == 4
    assert counted["other"] == 7
    assert sum(counted.values()) == 10, "what is put together is still counted"
    assert max(map(len, counted)) == 100
    assert sum(one.metric.name == "tapeline_feed_lag_seconds" for one in found) == 3
    dropped = {one.labels["metric"]: one.value for one in found if one.metric.name == "tapeline_series_dropped_total"}
    assert dropped == {"tapeline_feed_messages_total": 7, "tapeline_feed_lag_seconds": 7}


@pytest.mark.parametrize(
    "update",
    [
        Update("tapeline_feed_messages_total", -1, {"feed": "a"}),
        Update("tapeline_feed_lag_seconds", math.nan, {"feed": "a"}),
        Update("tapeline_feed_lag_seconds", 1, {"exchange": "a"}),
        Update("Feed lag", 1),
    ],
)
def test_what_is_wrong_changes_nothing(store: MetricStore, update: Update):
    with pytest.raises(ConfigurationError):
        store.apply([Update("tapeline_feed_lag_seconds", 1, {"feed": "a"}), update])
    assert store.read() == []


def test_names_follow_the_conventions():
    for metric in METRICS.values():
        assert metric.help.endswith(".")
        assert not metric.name.endswith(("_ms", "_milliseconds", "_kb", "_minutes", "_count", "_sum", "_bucket"))
    assert metric_of("tapeline_anything_seconds", {"a": 1}).labels == ("a",)
    with pytest.raises(ConfigurationError, match="bounds"):
        Metric("tapeline_x_seconds", "histogram", "X.", (), (2.0, 1.0))


@pytest.mark.parametrize("hostile", ['a"b\\c\nd', "}\n# EOF\n", "\x1b[31mé漢🚨", "x" * 300, ""])
def test_both_formats_parse_whatever_a_label_holds(store: MetricStore, hostile: str):
    store.apply([Update("tapeline_feed_messages_total", 4, {"feed": hostile})])
    store.apply([Update("tapeline_stage_duration_seconds", 0.3, {"flow": hostile, "stage": "s"})])
    registry = Exporter(store, lambda: [state()]).registry()
    found = samples(generate_latest(registry).decode())
    assert [value for (name, _), value in found.items() if name == "tapeline_feed_messages_total"] == [4.0]
    families = {family.name: family for family in parse_openmetrics(generate_openmetrics(registry).decode())}
    assert families["tapeline_feed_messages"].type == "counter"
    assert families["tapeline_stage_duration_seconds"].type == "histogram"


def test_the_lake_is_looked_through_seldom_and_a_damaged_part_hides_no_other(store: MetricStore):
    now, looks = [0.0], []

    def inventory() -> Iterable[SeriesState]:
        looks.append(now[0])
        if len(looks) == 2:
            raise OSError("a damaged lake")
        return [state()]

    exporter = Exporter(store, inventory, scan_seconds=10, clock=lambda: now[0])
    store.apply([Update("tapeline_feed_messages_total", 1, {"feed": "a"})])
    names = [one.metric.name for one in exporter.series() + exporter.series()]
    assert names.count("tapeline_freshness_seconds") == 2
    assert len(looks) == 1
    now[0] = 10.0
    found = {(one.metric.name, one.labels.get("part")): one.value for one in exporter.series()}
    assert ("tapeline_freshness_seconds", None) not in found
    assert found["tapeline_exporter_problems", "lake"] == 1
    assert found["tapeline_feed_messages_total", None] == 1
    store.path.write_bytes(b"no database at all, but long enough to be taken for one" * 40)
    now[0] = 20.0
    found = {(one.metric.name, one.labels.get("part")): one.value for one in exporter.series()}
    assert found["tapeline_exporter_problems", "store"] == 1
    assert found["tapeline_exporter_problems", "lake"] == 0
    assert found["tapeline_freshness_seconds", None] == 60


def test_of_too_many_series_the_stalest_are_told(store: MetricStore):
    held = [state(f"S{number}", number) for number in range(MAXIMUM_SERIES + 5)]
    found = [one for one in Exporter(store, lambda: held).series() if one.metric.name == "tapeline_freshness_seconds"]
    assert len(found) == MAXIMUM_SERIES
    assert min(one.value for one in found) == 5


@pytest.mark.network_shape
def test_a_scrape_over_http_in_both_formats(store: MetricStore):
    store.apply([Update("tapeline_feed_messages_total", 7, {"feed": "a"})])
    server, thread = serve(Exporter(store, lambda: [state()]), port=0)
    try:
        address = f"http://127.0.0.1:{server.server_port}/metrics"
        with urllib.request.urlopen(address, timeout=10) as answer:
            assert samples(answer.read().decode())["tapeline_feed_messages_total", frozenset({("feed", "a")})] == 7
        ask = urllib.request.Request(address, headers={"Accept": "application/openmetrics-text; version=1.0.0"})
        with urllib.request.urlopen(ask, timeout=10) as answer:
            assert "openmetrics" in answer.headers["Content-Type"]
            assert answer.read().endswith(b"# EOF\n")
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)
    assert not thread.is_alive()
