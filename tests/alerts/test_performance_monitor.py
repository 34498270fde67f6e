"""What is taken down of the engine, when it counts as alive and ready, and how fast its error budget goes."""

from __future__ import annotations

import asyncio
import json
import math
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tapeline.alerts.burn_rate import BurnRate
from tapeline.alerts.delivery.channel import Answer
from tapeline.alerts.engine.kernel import CLOCK, TRADE
from tapeline.alerts.engine_metrics import COUNTERS, render_metrics
from tapeline.alerts.engine_reports import EngineReport, read_engines
from tapeline.alerts.feeds.batcher import Batcher, BatcherOptions, Tick
from tapeline.alerts.feeds.source_names import SourceName
from tapeline.alerts.latency import BOUNDS, STAGES, StageLatency
from tapeline.alerts.passage import Taken
from tapeline.alerts.performance_monitor import (
    MOST_CHANNELS,
    Limits,
    PerformanceMonitor,
    Standing,
    TimedChannel,
    health,
    readiness,
    travel,
)
from tapeline.alerts.records import Delivery
from tapeline.alerts.routing import Route
from tapeline.alerts.rule import Rule
from tapeline.alerts.service import AlertEngine, EngineOptions
from tapeline.alerts.store.opening import open_store

SECOND = 1_000_000_000
WELL = Standing("running", rules=1, symbols=2, room=100)


def parsed(text: bytes) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    from prometheus_client.parser import text_string_to_metric_families

    families = list(text_string_to_metric_families(text.decode()))
    assert len({one.name for one in families}) == len(families)
    return {(one.name, tuple(sorted(one.labels.items()))): one.value for family in families for one in family.samples}


def test_histograms_count_by_bounds_and_what_a_clock_ahead_makes_negative_is_nothing() -> None:
    latency = StageLatency()
    for seconds in (-3.0, 0.0005, 0.00051, 0.1, 0.11, 61.0):
        latency.add("receive", seconds)
    found = latency.histogram("receive")
    assert found["sum"] == pytest.approx(61.21101)
    assert sum(found["counts"]) == latency.count("receive") == 6
    assert found["counts"][0] == 2
    assert found["counts"][BOUNDS.index(0.1)] == 1
    assert found["counts"][BOUNDS.index(0.15)] == 1
    assert found["counts"][-1] == 1


@pytest.mark.parametrize(
    ("changes", "alive", "reason"),
    [
        ({}, True, None),
        ({"state": "starting"}, True, "recovering"),
        ({"state": "stopped"}, True, "stopped"),
        ({"state": "failed", "problem": "boom"}, False, "it failed: boom"),
        ({"stalled": 11.0}, False, "not come round for 11 s"),
        ({"silent": 2}, True, "no source"),
        ({"silent": 1}, True, None),
        ({"idle": 61.0}, True, "no record for 61 s"),
        ({"idle": 61.0, "symbols": 0}, True, None),
        ({"store_problem": "disk full"}, True, "disk full"),
        ({"problem": "NUL in a text"}, True, "refused for good"),
        ({"waiting": 51}, True, "51 records wait"),
        ({"waiting": 50}, True, None),
        ({"commits": 1_001}, True, "1001 commits wait"),
    ],
)
def test_alive_is_not_ready(changes: dict[str, object], alive: bool, reason: str | None) -> None:
    standing = replace(WELL, **changes)
    assert health(standing).ok is alive
    found = readiness(standing)
    assert found.ok is (reason is None)
    assert reason is None or any(reason in one for one in found.reasons)


def test_limits_can_be_moved() -> None:
    assert not readiness(replace(WELL, idle=2.0), Limits(idle=1.0)).ok


def test_the_budget_burns_by_windows_and_what_is_old_is_forgotten() -> None:
    now = [0.0]
    burning = BurnRate(clock=lambda: now[0])
    burning.add(good=1_000)
    assert burning.alarms() == ()
    now[0] = 100.0
    burning.add(good=900, bad=100)
    assert burning.rate("5m") == pytest.approx(50.0)
    assert burning.alarms() == ("page", "ticket")
    # Ten minutes later nothing is bad any more: the short window ends the page at once, the ticket stays for longer.
    now[0] = 700.0
    burning.add(good=1_000)
    assert burning.rate("5m") == 0.0
    assert burning.rate("1h") == pytest.approx(100 / 3_000 / 0.001)
    assert burning.alarms() == ("ticket",)
    now[0] = 700.0 + 6 * 3_600
    assert [burning.rate(window) for window in ("5m", "30m", "1h", "6h")] == [0.0] * 4
    burning.add(bad=1)
    assert burning.rate("6h") == pytest.approx(1_000.0)
    assert (burning.good, burning.bad) == (2_900, 101)


def test_firings_are_good_within_a_tenth_of_a_second_of_their_trade() -> None:
    monitor = PerformanceMonitor()
    monitor.stored(3, 0.1)
    monitor.stored(2, 0.101)
    monitor.stored(1, math.inf)
    assert (monitor.objective.good, monitor.objective.bad) == (3, 3)
    assert monitor.latency.count("processing") == 2


def test_deliveries_are_late_by_their_due_time_and_refusals_are_nobodys_fault() -> None:
    monitor = PerformanceMonitor()
    outcome = ["sent"]

    class Channel:
        name, digests = "webhook", False

        def admit(self, endpoint: object) -> float:
            return 0.0

        def send(self, deliveries: object, endpoint: object, *, now: int) -> Answer:
            return Answer(outcome[0])

    clock = [30 * SECOND]
    timed = TimedChannel(Channel(), monitor, lambda: clock[0])
    one = Delivery("a", "f", "webhook", "e", "{}", 29 * SECOND)
    held = replace(one, created_at=0, not_before=25 * SECOND)
    late = replace(one, created_at=19 * SECOND)
    assert timed.admit(None) == 0.0
    timed.send([one, held], None, now=0)
    timed.send([late], None, now=0)
    outcome[0] = "refused"
    timed.send([one], None, now=0)
    assert (monitor.objective.good, monitor.objective.bad) == (2, 1)
    assert monitor.latency.count("sent") == 3
    assert monitor.status(WELL)["deliveries"] == [["webhook", "refused", 1], ["webhook", "sent", 3]]


def test_labels_stay_few_whatever_channels_are_called() -> None:
    monitor = PerformanceMonitor()
    one = Delivery("a", "f", "c", "e", "{}", 0)
    for name in ['x"} 1\n', "Ünder", *(f"kind{n}" for n in range(50))]:
        monitor.delivered(name, [one], "retry", 0)
    found = {channel: count for channel, _, count in monitor.status(WELL)["deliveries"]}
    assert len(found) == MOST_CHANNELS + 1
    assert found["other"] == 2 + 50 - MOST_CHANNELS


def test_the_way_here_is_that_of_a_trade_that_was_on_its_way() -> None:
    def taken(records: list[int], late: list[bool]) -> Taken:
        rows = len(records)
        times = np.arange(1, rows + 1) * SECOND
        return Taken(
            np.zeros(rows, np.int32), times, np.ones(rows), np.full(rows, -1), np.array(late), {},
            np.array(records, np.uint8),
        )  # fmt: skip

    now = 5 * SECOND
    assert travel(taken([TRADE, TRADE], [False, False]), 0.5, now) == pytest.approx(3.5)
    assert travel(taken([CLOCK, TRADE], [False, False]), 0.5, now) == pytest.approx(2.5)
    assert travel(taken([TRADE, TRADE], [True, False]), 0.0, now) == pytest.approx(3.0)
    assert travel(taken([CLOCK], [False]), 0.0, now) is None
    assert travel(taken([], []), 0.0, now) is None


def test_a_batch_says_how_long_its_first_record_waited() -> None:
    now = [0]
    batcher = Batcher({"A": 0}, options=BatcherOptions(window=1_000), clock=lambda: now[0])
    batcher.take_all([Tick("A", 5, 1.0, 1.0, 1)], "tape")
    assert batcher.flush(999) is None
    assert batcher.flush(3_000_000) is not None
    assert batcher.waited == pytest.approx(0.003)


def test_a_report_is_text_that_prometheus_reads_and_its_numbers_are_the_monitors() -> None:
    monitor = PerformanceMonitor()
    for milliseconds in range(1, 101):
        monitor.latency.add("durable", milliseconds / 1_000)
    monitor.stored(7, 0.02)
    monitor.stored(1, 2.0)
    monitor.delivered("webhook", [Delivery("a", "f", "webhook", "e", "{}", 0)], "sent", SECOND)
    status = json.loads(json.dumps(monitor.status(replace(WELL, waiting=4, counters={"ticks": 9, "gaps": 2}))))
    found = parsed(render_metrics([EngineReport("one", 3 * SECOND, 0, status, age=1.5)]))
    engine = ("engine", "one")
    assert found["tapeline_alerts_engine_ready", (engine,)] == 1.0
    assert found["tapeline_alerts_engine_beat_age_seconds", (engine,)] == 1.5
    assert found["tapeline_alerts_engine_start_timestamp_seconds", (engine,)] == 3.0
    assert found["tapeline_alerts_ticks_total", (engine,)] == 9.0
    assert found["tapeline_alerts_gaps_total", (engine,)] == 2.0
    assert found["tapeline_alerts_queue_records", (engine,)] == 4.0
    assert found["tapeline_alerts_resident_memory_bytes", (engine,)] > 10e6
    stage = (engine, ("stage", "durable"))
    assert found["tapeline_alerts_stage_seconds_bucket", (engine, ("le", "0.05"), ("stage", "durable"))] == 50.0
    assert found["tapeline_alerts_stage_seconds_bucket", (engine, ("le", "+Inf"), ("stage", "durable"))] == 100.0
    assert found["tapeline_alerts_stage_seconds_count", stage] == 100.0
    assert found["tapeline_alerts_stage_seconds_sum", stage] == pytest.approx(5.05)
    assert {dict(labels)["stage"] for name, labels in found if name.endswith("_count")} == set(STAGES)
    sent = (("channel", "webhook"), engine, ("outcome", "sent"))
    assert found["tapeline_alerts_deliveries_total", sent] == 1.0
    assert found["tapeline_alerts_slo_events_total", (engine, ("result", "bad"))] == 1.0
    assert found["tapeline_alerts_error_budget_burn_rate", (engine, ("window", "5m"))] == pytest.approx(1000 / 9)
    assert found["tapeline_alerts_error_budget_alarm", (("alarm", "page"), engine)] == 1.0


@pytest.mark.parametrize(
    "status",
    [
        {},
        {"counters": 5, "stages": [], "slo": "x", "deliveries": {}, "rules": "many"},
        {"counters": {"ticks": -1, "gaps": True, "late": None, "batches": 1e400}, "rules": float("nan")},
        {"stages": {"durable": {"counts": [1, 2], "sum": 3}, "queue": {"counts": ["a"] * 19, "sum": 1}}},
        {"stages": {"sent": {"counts": [1] * 19, "sum": None}}},
        {"deliveries": [["a" * 40, "sent", 1], ["x", "sent"], [1, 2, 3], ["x", "y", "z"]]},
        {"deliveries": [[f"c{n}", "sent", 1] for n in range(5_000)]},
    ],
)
def test_a_report_is_believed_in_nothing(status: dict[str, object]) -> None:
    found = parsed(render_metrics([EngineReport("one", 0, 0, status)]))
    assert found["tapeline_alerts_engine_ready", (("engine", "one"),)] == 0.0
    assert len(found) < 120
    assert not any(name.startswith("tapeline_alerts_stage") for name, _ in found)


def test_an_engine_takes_down_every_stage_and_reports_itself(tmp_path: Path) -> None:
    class Channel:
        name, digests = "webhook", False

        def __init__(self) -> None:
            self.sent = threading.Event()

        def admit(self, endpoint: object) -> float:
            return 0.0

        def send(self, deliveries: object, endpoint: object, *, now: int) -> Answer:
            self.sent.set()
            return Answer("sent")

    channel = Channel()
    store = open_store(tmp_path / "alerts.db")
    rule = Rule(id="r", owner="me", condition="close > 100", symbols=("BTCUSDT",), channels=("hook",))
    engine = AlertEngine(
        store,
        tmp_path / "engine",
        {"BTCUSDT": [SourceName("tape", "BTCUSDT", stale_after=3_600)]},
        rules=[rule],
        routes={("me", "hook"): Route("hook", "webhook", ("",))},
        channels=[channel],
        instance="desk-1",
        options=EngineOptions(look=0.05, journal=0.01, beat=0.01),
    )

    async def story() -> None:
        await engine.start()
        assert engine.manager is not None
        sent = time.time_ns() - 3_600 * SECOND
        engine.manager.take("tape", [Tick("BTCUSDT", sent + n, price, 1.0, n) for n, price in ((1, 99.0), (2, 101.0))])
        assert await asyncio.to_thread(channel.sent.wait, 60)
        while not any(one.status.get("counters", {}).get("firings") for one in read_engines(store.database, sent)):
            await asyncio.sleep(0.01)
        await engine.stop()

    asyncio.run(asyncio.wait_for(story(), 120))
    (report,) = read_engines(store.database, engine._clock())
    assert report.instance == "desk-1"
    assert report.status["health"]["ok"]
    assert not report.ready
    assert report.reasons[-1] == "it was stopped"
    assert set(report.status["counters"]) == {name for name in COUNTERS if not name.startswith("stream_")}
    assert report.status["counters"]["firings"] == 1
    latency = engine.monitor.latency
    assert {stage for stage in STAGES if latency.count(stage)} == set(STAGES)
    # An hour on the way is the network's, and no part of what is ours; a hundred seconds are the most that is told.
    assert latency.quantile("receive", 0.5) > 99
    assert latency.quantile("processing", 0.5) < 60
    assert engine.monitor.objective.good + engine.monitor.objective.bad == 2
    assert b'tapeline_alerts_firings_total{engine="desk-1"} 1.0' in render_metrics([report])
    store.close()
