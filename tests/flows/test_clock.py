"""The clock flow against a server on the loopback interface that is five seconds ahead."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from tapeline.core.errors import TemporaryError
from tapeline.core.schemas import CLOCK
from tapeline.core.symbol import Symbol
from tapeline.core.timeframe import Timeframe
from tapeline.lake.lake import Lake
from tests.clock.servers import SECOND, World, http_server
from tests.flows.artifacts import artifacts_shown

pytestmark = [pytest.mark.prefect, pytest.mark.network_shape]


def test_the_flow_measures_stores_draws_and_shows(prefect_server: str, tmp_path: Path, monkeypatch, capsys):
    from flows.clock import clock

    monkeypatch.setenv("TAPELINE_ROOT", str(tmp_path))
    monkeypatch.delenv("TAPELINE_SETTINGS", raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TAPELINE_CLOCK__SAMPLES", "2")
    monkeypatch.setenv("TAPELINE_CLOCK__TIMEOUT_SECONDS", "5")

    class Ahead(World):
        """A server whose clock really runs, five seconds ahead of ours."""

        def server(self) -> int:
            return time.time_ns() + 5 * SECOND

    with http_server(Ahead()) as url:
        references = {"exchange": f"exchange:binance@{url}", "gone": "ntp://127.0.0.1:9"}
        monkeypatch.setenv("TAPELINE_CLOCK__REFERENCES", json.dumps(references))
        with artifacts_shown("clock") as shown:
            report = clock()
    assert report.table["state"].tolist() == ["off", "silent"]
    assert report.table.loc["exchange", "offset_ms"] == pytest.approx(5000, abs=500)
    assert report.raised == ["exchange"]
    rows = Lake(tmp_path / "data").read(CLOCK, Symbol.parse("exchange"), Timeframe.parse("tick"))
    assert len(rows) == 2
    assert "exchange" in capsys.readouterr().out
    (table,) = shown.of("table", "clock")
    assert [row["state"] for row in table] == ["off", "silent"]
    assert "clock-history" in {each.key for each in shown.all}
    assert (tmp_path / "data/_reports/clock.png").is_file()
    monkeypatch.setenv("TAPELINE_CLOCK__REFERENCES", json.dumps({"gone": "ntp://127.0.0.1:9"}))
    with pytest.raises(TemporaryError, match="no reference clock answered"):
        clock()
