from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from tapeline.core.errors import ConfigurationError, TemporaryError
from tapeline.core.schemas import RAW_BARS
from tapeline.core.settings import load_settings
from tapeline.core.symbol import Symbol
from tapeline.core.timeframe import Timeframe
from tapeline.lake.lake import Lake
from tapeline.sources.base import open_source
from tasks.backfill import load_history
from tasks.job import Job

REPOSITORY = Path(__file__).parents[2]
EURUSD, H1 = Symbol.parse("EURUSD"), Timeframe.parse("H1")
NOW = pd.Timestamp("2017-12-29 20:30", tz="UTC")


class Counted:
    """The packaged sample, with a count of what it was asked and a fault on demand."""

    def __init__(self, fail_at: int | None = None) -> None:
        self._source = open_source("sample", load_settings(), clock=lambda: NOW)
        self.name = "sample"
        self.fail_at = fail_at
        self.asked: list[tuple[pd.Timestamp, pd.Timestamp]] = []

    def symbols(self):
        return self._source.symbols()

    def fetch(self, request):
        self.asked.append((request.start, request.end))
        if self.fail_at is not None and len(self.asked) == self.fail_at:
            raise TemporaryError("the line is down")
        return self._source.fetch(request)


def job(start: str | None = "2017-06-01", end: str | None = "2017-09-01") -> Job:
    first, last = (None if text is None else pd.Timestamp(text, tz="UTC") for text in (start, end))
    return Job("run", "sample", EURUSD, H1, first, last)


def load(root: Path, source=None, *, of: Job | None = None, now=NOW, steps: list | None = None):
    settings = load_settings(root=root)
    lake = Lake(settings.lake_path)
    source = source or Counted()

    def report(done, total):
        if steps is not None:
            steps.append((done, total))

    result = load_history(of or job(), source, settings, lake, now=now, chunk_rows=300, report=report)
    return lake, source, result


def held(lake: Lake) -> pd.DataFrame:
    return lake.read(RAW_BARS, EURUSD, H1)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> Lake:
    return load(tmp_path_factory.mktemp("undisturbed"))[0]


def test_it_loads_the_range_with_progress_and_then_asks_for_nothing(tmp_path, undisturbed):
    steps: list[tuple[int, int]] = []
    lake, source, result = load(tmp_path, steps=steps)
    expected = held(undisturbed)
    assert result.rows_out == len(expected) == len(held(lake)) > 1500
    assert steps == [(k, len(source.asked)) for k in range(len(source.asked) + 1)]
    again, idle, nothing = load(tmp_path)
    assert idle.asked == [], "not even the weekends"
    assert nothing.notes == ("nothing was missing",)
    assert again.version(RAW_BARS, EURUSD, H1) == lake.version(RAW_BARS, EURUSD, H1)


def test_only_what_is_missing_is_asked_for(tmp_path):
    load(tmp_path, of=job("2017-07-01", "2017-08-01"))
    lake, source, _ = load(tmp_path)
    first, last = pd.Timestamp("2017-07-01", tz="UTC"), pd.Timestamp("2017-08-01", tz="UTC")
    assert source.asked
    assert all(end <= first or start >= last for start, end in source.asked)
    assert held(lake).index.is_unique


def test_a_failure_and_a_second_try_give_what_one_try_gives(tmp_path, undisturbed):
    source = Counted(fail_at=4)
    with pytest.raises(TemporaryError):
        load(tmp_path, source)
    lake, resumed, _ = load(tmp_path)
    assert resumed.asked[0] == source.asked[3], "it goes on at the piece that failed"
    pd.testing.assert_frame_equal(held(lake), held(undisturbed))


KILLED = """
import os, sys
from pathlib import Path
from tapeline.lake.lake import Lake
from tests.tasks.test_backfill import load

write, count = Lake.write, [0]

def dying(self, *given, **named):
    receipt = write(self, *given, **named)
    count[0] += 1
    if count[0] == int(sys.argv[2]):
        os._exit(9)  # after the write, before it is noted
    return receipt

Lake.write = dying
load(Path(sys.argv[1]))
"""


def test_killed_in_the_middle_and_resumed_it_equals_an_undisturbed_load(tmp_path, undisturbed):
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    for writes in (2, 1):
        done = subprocess.run(
            [sys.executable, "-c", KILLED, str(tmp_path), str(writes)], env=environment, cwd=REPOSITORY, check=False
        )
        assert done.returncode == 9
    lake, source, _ = load(tmp_path)
    assert 0 < len(source.asked) < 8
    pd.testing.assert_frame_equal(held(lake), held(undisturbed))
    assert lake.version(RAW_BARS, EURUSD, H1) == undisturbed.version(RAW_BARS, EURUSD, H1)


def test_a_lake_that_lost_its_rows_is_filled_again(tmp_path, undisturbed):
    lake, _, _ = load(tmp_path)
    for path in lake.root.rglob("*.parquet"):
        path.unlink()
    again, source, _ = load(tmp_path)
    assert source.asked
    assert len(held(again)) == len(held(undisturbed))


def test_the_bar_that_forms_is_left_for_the_next_run(tmp_path):
    lake, _, _ = load(tmp_path, of=job("2017-12-29", None))
    assert held(lake).index[-1] == pd.Timestamp("2017-12-29 19:00", tz="UTC")
    later = NOW + pd.Timedelta(hours=1)
    source = Counted()
    source._source = open_source("sample", load_settings(), clock=lambda: later)
    lake, source, _ = load(tmp_path, source, of=job("2017-12-29", None), now=later)
    assert held(lake).index[-1] == pd.Timestamp("2017-12-29 20:00", tz="UTC")
    assert len(source.asked) == 1
    with pytest.raises(ConfigurationError, match="start"):
        load(tmp_path, of=job(None, None))
