"""The clean stage follows the policy of the settings, over one run or two."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from tapeline.core.schemas import CLEAN_BARS, RAW_BARS
from tapeline.core.symbol import Symbol
from tapeline.core.timeframe import Timeframe
from tapeline.lake.lake import Lake
from tasks.clean import clean_bars
from tasks.job import Job
from tests.quality.batches import raw_bars


def cleaned(root: Path, monkeypatch: pytest.MonkeyPatch, parts: list[slice], **settings: str) -> pd.DataFrame:
    """The clean zone after one run a part, of 400 hours of which some are absent."""
    monkeypatch.setenv("TAPELINE_ROOT", str(root))
    for name, value in settings.items():
        monkeypatch.setenv(f"TAPELINE_CLEANING__{name.upper()}", value)
    bars = raw_bars(400, gaps=False)
    stored = bars.drop(bars.index[[150, 199, 200, 201, 202, 310]])
    lake, symbol, timeframe = Lake(root / "data"), Symbol.parse("ACME"), Timeframe.parse("H1")
    for number, part in enumerate(parts):
        span = bars.index[part]
        job = Job(f"run{number}", "test", symbol, timeframe, span[0], span[-1] + timeframe.duration)
        rows = stored[(stored.index >= span[0]) & (stored.index <= span[-1])]
        lake.write(RAW_BARS, rows, symbol, timeframe, lineage=job.lineage("ingest"))
        _, result = clean_bars.fn(job)
        assert result.rows_out >= len(rows)
    return lake.read(CLEAN_BARS, symbol, timeframe)


def test_nothing_is_filled_by_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clean = cleaned(tmp_path, monkeypatch, [slice(0, 400)])
    assert len(clean) == 394
    assert clean["filled"].isna().all()


def test_a_policy_fills_and_says_so_in_one_run_or_two(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = {"missing": "forward", "missing_limit": "3"}
    whole = cleaned(tmp_path / "one", monkeypatch, [slice(0, 400)], **options)
    filled = whole.index[whole["filled"].notna().to_numpy()]
    hours = raw_bars(400, gaps=False).index
    assert filled.tolist() == hours[[150, 199, 200, 201, 310]].tolist()
    assert (whole.loc[filled, "volume"] == 0).all()
    # The second run begins within the gap: what was absent before it is filled from the bars of the first.
    halves = cleaned(tmp_path / "two", monkeypatch, [slice(0, 199), slice(199, 400)], **options)
    told = ["open", "high", "low", "close", "volume", "close_ts", "known_at", "outlier", "repaired"]
    pd.testing.assert_frame_equal(halves[told], whole[told])
    assert halves.index[halves["filled"].notna().to_numpy()].equals(filled)
