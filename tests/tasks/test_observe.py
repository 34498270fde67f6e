"""Observing stages: times, rows, checks and ends in the metrics, the log and the audit table; never in the way."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import threading
import time
from pathlib import Path

import pandas as pd
import pytest
from prefect import task

from tapeline.core.errors import DataError, ProviderError
from tapeline.core.schemas import AUDIT
from tapeline.core.settings import load_settings
from tapeline.core.symbol import Symbol
from tapeline.core.timeframe import Timeframe
from tapeline.lake.lake import Lake
from tapeline.lake.views import query
from tapeline.quality.integrity_log import CheckRecord
from tasks import observe
from tasks.job import Job, StageResult
from tasks.observe import LOG_FILE, measure, observed, observes, open_metrics

EURUSD, H1 = Symbol.parse("EURUSD"), Timeframe.parse("H1")
JOB = Job("run-1", "sample", EURUSD, H1)
NEWEST = pd.Timestamp("2026-01-02 10:00", tz="UTC")


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("TAPELINE_SETTINGS", raising=False)
    monkeypatch.setenv("TAPELINE_ROOT", str(tmp_path))
    monkeypatch.setenv("TAPELINE_METATRADER__PASSWORD", "terminal-password")
    return tmp_path


def record(*, found: int = 0, rows: int = 10, version: str = "2b") -> CheckRecord:
    details = {"reasons": {"no_time": found}} if found else {}
    return CheckRecord("row_check", "1a", "ingest", version, True, rows, found, NEWEST, details)


def metrics() -> dict[tuple[str, ...], float]:
    return {(s.metric.name, *sorted(s.labels.values())): s.value for s in open_metrics(load_settings()).read()}


def lines() -> list[dict]:
    return [json.loads(line) for line in (load_settings().state_path / LOG_FILE).read_text().splitlines()]


def audit() -> pd.DataFrame:
    return Lake(load_settings().lake_path).read(AUDIT, EURUSD, H1)


def test_a_finished_stage_is_timed_counted_and_logged_with_its_checks():
    with observed("ingest", JOB, flow="pipeline") as seen:
        seen.count(rows_in=6, rows_out=5, quarantined=1, reasons={"no_time": 1})
        seen.count(rows_in=4, rows_out=4)
        seen.check(record(found=1))
        spent = time.thread_time()
        while time.thread_time() < spent + 0.05:
            pass
    found = metrics()
    assert found["tapeline_stage_runs_total", "finished", "ingest", "pipeline"] == 1
    assert found["tapeline_stage_rows_total", "in", "ingest", "pipeline"] == 10
    assert found["tapeline_stage_rows_total", "ingest", "out", "pipeline"] == 9
    assert found["tapeline_rows_quarantined_total", "ingest", "no_time"] == 1
    assert found["tapeline_checks_total", "ingest", "passed", "row_check"] == 1
    assert found["tapeline_stage_duration_seconds", "ingest", "pipeline"] >= 0.05
    assert 0.05 <= found["tapeline_stage_cpu_seconds_total", "ingest", "pipeline"] <= 0.5
    check, end = lines()
    assert (check["check"], check["level"], check["symbol"], check["run_id"]) == (
        "row_check",
        "WARNING",
        "EURUSD",
        "run-1",
    )
    assert (end["message"], end["flow"], end["wall_seconds"] >= 0.05) == ("stage finished", "pipeline", True)
    assert end["rows"]["ingest"] == {"rows_in": 10, "rows_out": 9, "quarantined": 1, "reasons": {"no_time": 1}}
    (row,) = audit().itertuples()
    assert (row.suite, row.rows_refused, row.Index) == ("row_check", 1, NEWEST)


def test_a_failed_stage_is_told_by_its_error_and_keeps_what_it_counted_and_no_secret():
    def stage() -> None:
        with observed("ingest", JOB) as seen:
            seen.count(rows_in=3)
            raise ProviderError("refused terminal-password")

    with pytest.raises(ProviderError, match="terminal-password"):
        stage()
    found = metrics()
    assert found["tapeline_stage_failures_total", "ProviderError", "ingest", "none"] == 1
    assert found["tapeline_stage_runs_total", "failed", "ingest", "none"] == 1
    assert found["tapeline_stage_rows_total", "in", "ingest", "none"] == 3
    assert not any(name.startswith("tapeline_stage_last_success") for name, *_ in found)
    (end,) = lines()
    assert (end["level"], end["error"]) == ("ERROR", "ProviderError")
    assert "terminal-password" not in json.dumps(end)


def test_the_same_check_again_changes_no_byte_of_the_lake_and_a_new_finding_adds_a_row():
    def hashes() -> dict[str, str]:
        root = load_settings().lake_path
        return {str(p): hashlib.sha256(p.read_bytes()).hexdigest() for p in root.rglob("*.parquet")}

    with observed("ingest", JOB, run_id="run-1") as seen:
        seen.check(record(rows=10))
    before = hashes()
    with observed("ingest", JOB, run_id="run-2") as seen:
        seen.check(record(rows=1))
    assert hashes() == before
    assert len(lines()) == 4, "when each check ran stands in the log"
    with observed("ingest", JOB) as seen:
        seen.check(record(found=2), record(version="other data"))
    assert len(audit()) == 3


def test_the_audit_table_answers_questions_in_sql():
    with observed("ingest", JOB) as seen:
        seen.check(record(), record(found=4))
    lake = Lake(load_settings().lake_path)
    page = (Path(__file__).parents[2] / "docs" / "monitoring.md").read_text()
    questions = [line.split('"')[1] for line in page.splitlines() if line.startswith("tapeline sql ")]
    assert len(questions) == 3
    first, second, third = (query(lake, question).to_pylist() for question in questions)
    assert [(row["suite"], row["rows_refused"]) for row in first] == [("row_check", 4)]
    assert second == [{"suite": "row_check", "checks": 2, "refused": 4}]
    assert [json.loads(row["reasons"]) for row in third] == [{"no_time": 4}]


def test_nothing_that_cannot_be_written_fails_the_stage(project: Path, monkeypatch: pytest.MonkeyPatch, caplog):
    state = load_settings().state_path
    state.parent.mkdir(parents=True)
    state.write_text("a file where the folder should be")
    with observed("ingest", JOB) as seen:
        seen.check(record())
    measure("tapeline_feed_lag_seconds", 1, feed="a")
    measure("no name at all", 1)
    assert caplog.text.count("metrics not written") == 3
    assert "could not be observed" in caplog.text
    monkeypatch.setattr(observe, "load_settings", lambda: 1 / 0)
    with pytest.raises(DataError), observed("ingest", JOB):
        raise DataError("the stage's own error, and no other")
    measure("tapeline_feed_lag_seconds", 1, feed="a")


def test_an_audit_row_that_the_lake_refuses_hides_no_other(monkeypatch: pytest.MonkeyPatch, caplog):
    write = Lake.write

    def refusing(self, spec, frame, *given, **named):
        if (frame["data_version"] == "bad").any():
            raise DataError("refused")
        return write(self, spec, frame, *given, **named)

    monkeypatch.setattr(Lake, "write", refusing)
    with observed("ingest", JOB) as seen:
        seen.check(record(version="bad"), record(version="good"))
    assert audit()["data_version"].tolist() == ["good"]
    assert "not in the audit table" in caplog.text


def test_a_task_s_results_are_counted_under_their_own_stage_and_the_signature_stays():
    @task
    @observes("clean")
    def clean(job: Job, *, factor: int = 2) -> tuple[StageResult, StageResult]:
        validated = StageResult("validate", job, 10, 8, "v", "", 2, {"range": 2}, checks=(record(found=2),))
        return validated, StageResult("clean", job, 8, 8, "v", "")

    assert list(clean.fn.__wrapped__.__annotations__) == ["job", "factor", "return"]
    results = clean.fn(JOB, factor=3)
    assert [result.stage for result in results] == ["validate", "clean"]
    found = metrics()
    assert found["tapeline_stage_rows_total", "in", "none", "validate"] == 10
    assert found["tapeline_stage_rows_total", "clean", "in", "none"] == 8
    assert found["tapeline_rows_quarantined_total", "range", "validate"] == 2
    assert len(audit()) == 1


def test_a_subject_without_a_series_is_in_the_log_alone():
    with observed("clock", "ntp") as seen:
        seen.check(record())
    assert audit().empty
    assert [line["subject"] for line in lines()] == ["ntp", "ntp"]


def test_processes_and_threads_lose_no_line_and_no_count_while_the_file_is_rotated(project: Path):
    code = (
        "from tapeline.quality.integrity_log import IntegrityLog\n"
        "IntegrityLog.__init__.__kwdefaults__['maximum_bytes'] = 3_000\n"
        "IntegrityLog.__init__.__kwdefaults__['kept_files'] = 50\n"
        "from tasks.observe import observed\n"
        "for number in range(40):\n"
        "    with observed('ingest', 'feed') as seen: seen.count(rows_in=1)\n"
    )
    processes = [subprocess.Popen([sys.executable, "-c", code], cwd=Path(__file__).parents[2]) for _ in range(2)]

    def work() -> None:
        for _ in range(10):
            with observed("ingest", "feed") as seen:
                seen.count(rows_in=1)

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for worker in (*threads, *processes):
        worker.join() if isinstance(worker, threading.Thread) else worker.wait(120)
    assert [process.returncode for process in processes] == [0, 0]
    assert metrics()["tapeline_stage_rows_total", "in", "ingest", "none"] == 2 * 40 + 2 * 10
    files = [f for f in (load_settings().state_path / LOG_FILE).parent.iterdir() if f.suffix != ".lock"]
    assert len(files) > 3
    written = [json.loads(line) for file in files for line in file.read_text().splitlines()]
    assert len(written) == 100


def test_gaps_that_ought_to_hold_bars_are_counted_in_the_lake():
    from tapeline.core.schemas import GAPS
    from tasks.gaps import unfilled

    reasons = ["outage", "unknown", "not_downloaded", "market_closed", "no_trade", "filled"]
    ts = pd.date_range("2026-01-02", periods=len(reasons), freq="D", tz="UTC", name="ts").as_unit("ns")
    frame = pd.DataFrame(
        {
            "end": ts + H1.duration,
            "known_at": ts + 2 * H1.duration,
            "missing_bars": 1,
            "open_time": 1,
            "reason": reasons,
            "evidence": "",
            "calendar": "24x7",
        },
        index=ts,
    )
    lake = Lake(load_settings().lake_path)
    assert unfilled(lake, JOB) == 0
    lake.write(GAPS, frame, EURUSD, H1, lineage=JOB.lineage("gaps"))
    assert unfilled(lake, JOB) == 3
