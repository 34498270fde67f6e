"""The worker beside a flow: the same verdicts as here, and clear errors where it fails."""

from __future__ import annotations

import io
import json
import os
import signal
import stat
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

from tapeline.core.errors import ConfigurationError, DataError, TemporaryError
from tapeline.quality.gate import judge
from tapeline.quality.gate_process import GateProcess, GateRequest, judge_in_subprocess
from tapeline.quality.gate_worker import answer, read_batch, serve
from tests.quality import batches
from tests.quality.batches import EXPECTATIONS


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A batch of clean bars as one Parquet file, as two, and as an Arrow file; and a batch with a hole."""
    folder = tmp_path_factory.mktemp("batches")
    bars = batches.clean_bars(100).reset_index()
    bars.to_parquet(folder / "whole.parquet")
    bars.to_feather(folder / "whole.arrow")
    parts = folder / "symbol=EURUSD" / "timeframe=H1"
    for year, part in ((2017, bars.iloc[:60]), (2018, bars.iloc[60:])):
        (parts / f"year={year}").mkdir(parents=True)
        part.to_parquet(parts / f"year={year}" / "bars.parquet")
    (parts / "year=2018" / ".tmp-1.parquet").write_bytes(b"half a file")
    bars.assign(open=bars["open"].where(bars.index > 0)).to_parquet(folder / "holed.parquet")
    (folder / "truncated.parquet").write_bytes((folder / "whole.parquet").read_bytes()[:-100])
    return folder


@pytest.fixture(scope="module")
def gate() -> Iterator[GateProcess]:
    with GateProcess(EXPECTATIONS, timeout_seconds=120) as process:
        yield process


def request(*paths: Path, suite: str = "clean_bars") -> GateRequest:
    return GateRequest(paths, suite, "d1")


def test_the_worker_says_what_this_process_says(gate: GateProcess, folder: Path) -> None:
    files = [
        (folder / "whole.parquet",),
        (folder / "whole.arrow",),
        (folder / "symbol=EURUSD",),
        (folder / "holed.parquet",),
    ]
    found = gate.judge(request(*paths) for paths in files)
    bars = batches.clean_bars(100)
    sound = judge(bars, "clean_bars", expectations=EXPECTATIONS, data_version="d1")
    assert found[:3] == [sound] * 3
    assert not found[3].passed
    assert found[3].failures[0].startswith("expect_column_values_to_not_be_null(open): 1 rows")
    assert gate.judge([]) == []


def test_calls_from_several_threads_get_their_own_answers(gate: GateProcess, folder: Path) -> None:
    names = ["whole.parquet", "holed.parquet"] * 2
    passed: dict[int, bool] = {}

    def work(i: int) -> None:
        passed[i] = gate.judge([request(folder / names[i])])[0].passed

    threads = [threading.Thread(target=work, args=(i,)) for i in range(len(names))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert passed == {0: True, 1: False, 2: True, 3: False}


def test_errors_keep_their_class_message_and_hint_and_the_worker_lives_on(gate: GateProcess, folder: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"no suite 'nope' \(there are: clean_bars"):
        gate.judge([request(folder / "whole.parquet", suite="nope")])
    with pytest.raises(ConfigurationError, match="not there"):
        gate.judge([request(folder / "absent.parquet")])
    with pytest.raises(DataError, match="cannot be read"):
        gate.judge([request(folder / "truncated.parquet")])
    assert gate.judge([request(folder / "whole.parquet")])[0].passed


def fake_python(folder: Path, script: str) -> str:
    """Something that starts like the interpreter and does what a broken worker would."""
    path = folder / "python"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


def test_a_crash_is_temporary_and_quotes_the_last_lines(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, folder: Path
) -> None:
    monkeypatch.setattr(sys, "executable", fake_python(tmp_path, "read job; echo out of memory >&2; exit 9"))
    with pytest.raises(TemporaryError, match=r"ended with status 9 \(its last words: out of memory\)"):
        judge_in_subprocess([request(folder / "whole.parquet")], expectations=EXPECTATIONS)


def test_a_worker_that_does_not_answer_is_stopped(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, folder: Path
) -> None:
    monkeypatch.setattr(sys, "executable", fake_python(tmp_path, f"echo $$ > {tmp_path}/pid; exec sleep 60"))
    with pytest.raises(TemporaryError, match=r"no answer in 0.5 s"):
        judge_in_subprocess([request(folder / "whole.parquet")], expectations=EXPECTATIONS, timeout_seconds=0.5)
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


def test_a_killed_worker_is_started_anew_by_the_next_call(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, folder: Path
) -> None:
    reply = json.dumps({"verdicts": []})
    monkeypatch.setattr(sys, "executable", fake_python(tmp_path, f"while read job; do echo '{reply}'; done"))
    with GateProcess(EXPECTATIONS, timeout_seconds=10) as gate:
        assert gate.judge([request(folder / "whole.parquet")]) == []
        assert gate._process is not None
        os.kill(gate._process.pid, signal.SIGKILL)
        gate._process.wait()
        assert gate.judge([request(folder / "whole.parquet")]) == []


def test_the_worker_serves_line_by_line(folder: Path) -> None:
    job = {"expectations": str(EXPECTATIONS), "requests": [request(folder / "whole.arrow").to_json()]}
    written = io.StringIO()
    serve(
        [
            json.dumps(job),
            "\n",
            json.dumps({**job, "requests": [{"paths": [], "suite": "raw_bars", "data_version": "d"}]}),
        ],
        written,
    )
    first, second = map(json.loads, written.getvalue().splitlines())
    assert first["verdicts"][0]["passed"] is True
    assert second["error"]["class"] == "ConfigurationError"
    assert answer({**job, "requests": []}) == {"verdicts": []}


def test_a_batch_is_read_as_it_was_written(folder: Path) -> None:
    bars = batches.clean_bars(100).reset_index()
    for path in (folder / "whole.parquet", folder / "whole.arrow", folder / "symbol=EURUSD"):
        pd.testing.assert_frame_equal(read_batch([path]), bars)
