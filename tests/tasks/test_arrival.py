"""What a run announces of new bars, and that the deployments listen for just that."""

from __future__ import annotations

from pathlib import Path

import yaml

from tasks.arrival import EVENT, RESOURCE, arrivals
from tasks.job import StageResult, plan_jobs
from tasks.venue_turn import limit_name

DEPLOYMENTS = yaml.safe_load((Path(__file__).parents[2] / "prefect.yaml").read_text())["deployments"]


def results(rows: list[int]) -> list[StageResult]:
    jobs = plan_jobs("run-1", "ccxt:binance", ["BTC/USDT", "ETH/USDT", "XRP/USDT"], "H1", "2024-01-01", None)
    return [StageResult("backfill", job, n, n, "", "") for job, n in zip(jobs, rows, strict=True)]


def test_only_series_with_new_rows_are_announced():
    told = arrivals(results([5, 0, 7]))
    assert told is not None
    assert told["symbols"] == ["BTC/USDT", "XRP/USDT"]
    assert (told["source"], told["timeframe"], told["rows"], told["run_id"]) == ("ccxt:binance", "H1", 12, "run-1")
    assert arrivals(results([0, 0, 0])) is None
    assert arrivals([]) is None


def test_the_rebuild_waits_for_that_event_and_takes_its_parameters():
    (rebuild,) = [deployment for deployment in DEPLOYMENTS if deployment["entrypoint"].startswith("flows/rebuild.py")]
    (trigger,) = rebuild["triggers"]
    assert (trigger["expect"], trigger["match"]) == ([EVENT], {"prefect.resource.id": RESOURCE})
    payload = arrivals(results([1, 0, 0])) or {}
    for name, template in trigger["parameters"].items():
        assert template == "{{ event.payload." + name + " }}"
        assert name in payload
    assert rebuild["concurrency_limit"]["collision_strategy"] == "ENQUEUE"


def test_there_are_schedules_of_every_kind_and_every_deployment_has_a_limit():
    schedules = [schedule for deployment in DEPLOYMENTS for schedule in deployment.get("schedules", ())]
    assert {"cron", "interval"} <= {kind for schedule in schedules for kind in schedule}
    assert all(deployment["concurrency_limit"]["limit"] == 1 for deployment in DEPLOYMENTS)


def test_local_sources_need_no_turn():
    assert limit_name("sample") is limit_name("files:/inbox") is None
    assert limit_name("ccxt:binance") == "source-ccxt-binance" != limit_name("ccxt:kraken")
