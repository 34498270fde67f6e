"""The backfill flow on the packaged sample: what it loads, what it shows, and that a second run asks for nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from tapeline.core.errors import TapelineError
from tapeline.core.schemas import RAW_BARS
from tapeline.core.symbol import Symbol
from tapeline.core.timeframe import Timeframe
from tapeline.lake.lake import Lake
from tests.flows.artifacts import artifacts_shown

pytestmark = pytest.mark.prefect


def test_the_flow_fills_the_lake_and_shows_progress(prefect_server: str, tmp_path: Path, monkeypatch, capsys):
    from flows.backfill import backfill

    monkeypatch.setenv("TAPELINE_ROOT", str(tmp_path))
    monkeypatch.delenv("TAPELINE_SETTINGS", raising=False)
    monkeypatch.chdir(tmp_path)
    asked = {"symbols": ["EURUSD"], "start": "2017-03-01", "end": "2017-04-01", "chunk_rows": 300}
    with artifacts_shown("backfill") as shown:
        (first,) = backfill(**asked)
    bars = Lake(tmp_path / "data").read(RAW_BARS, Symbol.parse("EURUSD"), Timeframe.parse("H1"))
    assert len(bars) == first.rows_out > 500
    assert "EURUSD H1" in capsys.readouterr().out
    assert shown.of("progress", "backfill-eurusd-h1") == [100.0]
    (table,) = shown.of("table", "backfill")
    assert table == [{"series": "EURUSD H1", "in": first.rows_in, "out": first.rows_out, "quarantined": 0}]
    (second,) = backfill(**asked)
    assert second.notes == ("nothing was missing",)
    with pytest.raises(TapelineError, match="XAUUSD"):
        backfill(symbols=["XAUUSD", "EURUSD"], start="2017-04-01", end="2017-05-01")
    more = Lake(tmp_path / "data").read(RAW_BARS, Symbol.parse("EURUSD"), Timeframe.parse("H1"))
    assert len(more) > len(bars), "one symbol that fails does not stop the others"
