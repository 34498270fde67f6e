"""The log of checks: one call, two places; hostile texts, rotation, levels, and what a full disk does."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tapeline.core.errors import ConfigurationError
from tapeline.core.schemas import AUDIT
from tapeline.core.symbol import Symbol
from tapeline.core.timeframe import Timeframe
from tapeline.lake.lake import Lake, Lineage
from tapeline.lake.views import query
from tapeline.monitoring.redaction import Redactor
from tapeline.quality.anomalies import find_anomalies
from tapeline.quality.calendars import MarketCalendar
from tapeline.quality.checks import check_bars
from tapeline.quality.gaps import find_gaps
from tapeline.quality.gate import Verdict
from tapeline.quality.integrity_log import LONGEST_LINE, CheckRecord, IntegrityLog, JsonLines
from tests.quality.batches import raw_bars

SYMBOL, H1 = Symbol.parse("EURUSD"), Timeframe.parse("H1")
RUN = Lineage("run-1", "validate")
DAY = pd.Timestamp("2017-01-02", tz="UTC")


def record(**changes: object) -> CheckRecord:
    values = {"passed": True, "rows": 10, "rows_found": 0, "newest": DAY, "details": {}} | changes
    return CheckRecord("row_check", "v1", "ingest", "d1", **values)  # type: ignore[arg-type]


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="ascii").splitlines()]


def test_one_call_writes_the_line_and_the_row(tmp_path: Path) -> None:
    lake, path = Lake(tmp_path / "lake"), tmp_path / "logs" / "integrity.jsonl"
    bars = raw_bars(100)
    bars.iloc[7, bars.columns.get_loc("high")] = 0.1
    bars.iloc[8, bars.columns.get_loc("open")] = np.nan
    checked = check_bars(bars, H1)
    with IntegrityLog(path, lake) as log:
        log.write(CheckRecord.of_rows(checked, bars, stage="validate", data_version="d1"), SYMBOL, H1, RUN)
    (line,) = lines(path)
    assert {name: line[name] for name in ("level", "check", "symbol", "timeframe", "rows", "rows_found", "run_id")} == {
        "level": "WARNING",
        "check": "row_check",
        "symbol": "EURUSD",
        "timeframe": "H1",
        "rows": 100,
        "rows_found": 2,
        "run_id": "run-1",
    }
    assert line["details"]["reasons"] == {"not_finite": 1, "high_below_low": 1}
    assert pd.Timestamp(line["at"]).tz is not None
    found = query(lake, "select suite, rows, rows_refused, id, details from audit_verdicts").to_pylist()
    assert [(row["suite"], row["rows"], row["rows_refused"], row["id"]) for row in found] == [
        ("row_check", 100, 2, line["id"])
    ]
    assert json.loads(found[0]["details"])["level"] == "WARNING"


def test_the_same_check_of_the_same_data_is_one_row_and_leaves_the_same_bytes(tmp_path: Path) -> None:
    lake = Lake(tmp_path / "lake")
    with IntegrityLog(tmp_path / "log.jsonl", lake) as log:
        log.write(record(rows_found=1), SYMBOL, H1, RUN)
        version = lake.version(AUDIT, SYMBOL, H1)
        log.write(record(rows_found=1), SYMBOL, H1, Lineage("run-2", "validate"))
        assert lake.version(AUDIT, SYMBOL, H1) == version
        log.write(record(rows_found=2), SYMBOL, H1, RUN)
    assert len(lake.read(AUDIT, SYMBOL, H1)) == 2
    assert len(lines(tmp_path / "log.jsonl")) == 3


def test_every_kind_of_check_has_a_record(tmp_path: Path) -> None:
    lake = Lake(tmp_path / "lake")
    bars = raw_bars(400).drop(raw_bars(400).index[[50, 51]])
    bars.iloc[300, bars.columns.get_loc("close")] *= 1.1
    verdict = Verdict("1f", "labels", "2a", "3b", False, 10, 3, ("too few",), {"newest": "2017-01-02T09:00:00+00:00"})
    told = [
        CheckRecord.of_verdict(verdict, stage="gate"),
        CheckRecord.of_anomalies(find_anomalies(bars, H1), bars, stage="validate", data_version="d1"),
        CheckRecord.of_gaps(
            find_gaps(pd.DatetimeIndex(bars.index), H1, MarketCalendar.parse("24x7")), bars, stage="x", data_version="d"
        ),
        CheckRecord.of_rows(check_bars(bars.iloc[:0], H1), bars.iloc[:0], stage="x", data_version="d"),
    ]
    with IntegrityLog(tmp_path / "log.jsonl", lake) as log:
        for one in told:
            log.write(one, SYMBOL, H1, RUN)
    assert [line["level"] for line in lines(tmp_path / "log.jsonl")] == ["ERROR", "WARNING", "WARNING", "INFO"]
    assert told[0].id == "1f"
    assert any("OHLCV spike at" in text for text in told[1].details["messages"])
    missing = len(pd.date_range(bars.index[0], bars.index[-1], freq="1h")) - len(bars)
    assert told[2].rows_found == missing
    assert sorted(lake.read(AUDIT, SYMBOL, H1)["suite"]) == ["anomalies", "gaps", "labels", "row_check"]


@settings(max_examples=60, deadline=None)
@given(
    st.recursive(
        st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=40)),
        lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=10), inner, max_size=4)),
        max_leaves=12,
    ),
    st.text(max_size=30),
)
def test_any_text_becomes_one_line_of_plain_ascii(details: object, message: str) -> None:
    held = logging.LogRecord("x", logging.INFO, "", 0, message, None, None)
    held.values = {"details": details}
    line = JsonLines().format(held)
    assert all(" " <= character <= "~" for character in line)
    assert json.loads(line)["message"] == message
    assert len(line) <= LONGEST_LINE


def test_a_line_is_bounded_whatever_it_is_told() -> None:
    held = logging.LogRecord("x", logging.INFO, "", 0, "\x00" * 100_000, None, None)
    held.values = {"details": {str(i): "\u202e" * 10_000 for i in range(500)}, "stage": "\u202e" * 9_000}
    line = JsonLines().format(held)
    assert len(line) <= LONGEST_LINE
    assert json.loads(line)["cut"] is True


def test_files_are_rotated_and_bounded(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    with IntegrityLog(path, maximum_bytes=2_000, kept_files=2) as log:
        for rows in range(60):
            log.write(record(rows=rows), SYMBOL, H1)
    files = sorted(file for file in tmp_path.iterdir() if file.suffix != ".lock")
    assert [file.name for file in files] == ["log.jsonl", "log.jsonl.1", "log.jsonl.2"]
    assert all(file.stat().st_size <= 2_000 for file in files)
    kept = [line["rows"] for file in reversed(files) for line in lines(file)]
    assert kept == list(range(60 - len(kept), 60))


def test_the_level_thins_the_file_and_not_the_table(tmp_path: Path) -> None:
    lake = Lake(tmp_path / "lake")
    with IntegrityLog(tmp_path / "log.jsonl", lake, level="WARNING") as log:
        log.write(record(), SYMBOL, H1, RUN)
        log.write(record(rows_found=1), SYMBOL, H1, RUN)
        log.write(record(passed=False), SYMBOL, H1, RUN)
    assert [line["level"] for line in lines(tmp_path / "log.jsonl")] == ["WARNING", "ERROR"]
    assert len(lake.read(AUDIT, SYMBOL, H1)) == 3


def test_secrets_stay_out(tmp_path: Path) -> None:
    with IntegrityLog(tmp_path / "log.jsonl", redact=Redactor(["hunter2-hunter2"])) as log:
        log.write(record(details={"note": "it was hunter2-hunter2"}), SYMBOL, H1)
    assert lines(tmp_path / "log.jsonl")[0]["details"]["note"] == "it was ***"


def test_a_lost_line_is_counted_and_fails_no_check(tmp_path: Path) -> None:
    log = IntegrityLog(tmp_path / "log.jsonl")
    log._handler.stream.close()
    log.write(record(), SYMBOL, H1)
    assert log.lost_lines == 1


def test_what_cannot_work_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="level 'LOUD'"):
        IntegrityLog(tmp_path / "a", level="LOUD")
    with pytest.raises(ConfigurationError, match="at least 1"):
        IntegrityLog(tmp_path / "a", kept_files=0)
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match="cannot be written"):
        IntegrityLog(tmp_path / "file" / "log")
    with (
        IntegrityLog(tmp_path / "a", Lake(tmp_path / "lake")) as log,
        pytest.raises(ConfigurationError, match="lineage"),
    ):
        log.write(record(), SYMBOL, H1)
