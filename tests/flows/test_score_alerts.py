"""A fresh, confident score reaches people once; one of long ago, or below the threshold, never."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

from tapeline.core.settings import load_settings
from tapeline.core.timeframe import Timeframe
from tapeline.sources.base import BarRequest, Data, open_source, require
from tests.monitoring.fake_services import FakeServices, fake_services

pytestmark = [pytest.mark.prefect, pytest.mark.network_shape]

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def services() -> Iterator[FakeServices]:
    with fake_services() as running:
        yield running


@pytest.fixture
def inbox(prefect_server: str, services: FakeServices, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project whose inbox holds real bars, moved in time so that the last one has just closed."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TAPELINE_SETTINGS", raising=False)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    few = tmp_path / "few.toml"
    few.write_text("".join(['name = "few"\n', *(f'[[feature]]\ncomponent = "{one}"\n' for one in ("rsi", "macd"))]))
    for name, value in {
        "ROOT": str(tmp_path),
        "EXPECTATIONS": str(REPOSITORY / "expectations"),
        "TRAINING__TRIALS": "1",
        "TRAINING__FOLDS": "3",
        "TRAINING__FAMILY": "logistic",
        "CARD__WRITE": "false",
        "FEATURE_SET": str(few),
        "CHARTS__DETECTORS": '{"break_of_structure": {}}',
        "NOTIFICATIONS__URLS": f'["{services.telegram_url()}"]',
    }.items():
        monkeypatch.setenv(f"TAPELINE_{name}", value)
    hourly = Timeframe.parse("H1")
    outcome = require(open_source("sample", load_settings()).fetch(BarRequest("EURUSD", hourly)))
    assert isinstance(outcome, Data)
    bars = outcome.bars.tail(3000)
    now = pd.Timestamp.now("UTC")
    bars.index = bars.index + (hourly.floor(pd.DatetimeIndex([now]))[0] - hourly.duration - bars.index[-1])
    folder = tmp_path / "inbox"
    folder.mkdir()
    bars.to_csv(folder / "EURUSD_H1.csv")
    return folder


def test_a_confident_fresh_score_alerts_once(inbox: Path, services: FakeServices, monkeypatch: pytest.MonkeyPatch):
    from flows.pipeline import pipeline
    from flows.score import score

    source = f"files:{inbox}"
    monkeypatch.setenv("TAPELINE_SCORING__CONFIDENCE_THRESHOLD", "1.0")
    pipeline(source=source)
    assert score(source=source).alerts == 0
    assert services.texts() == [], "nothing is that confident"

    monkeypatch.setenv("TAPELINE_SCORING__CONFIDENCE_THRESHOLD", "0.5")
    first = score(source=source)
    assert 1 <= first.alerts <= 4, "only the bars of the last three hours are news"
    told = [text for text in services.texts() if "EURUSD H1" in text]
    assert len(told) == first.alerts
    assert all("confidence" in text for text in told)

    score(source=source)
    assert [text for text in services.texts() if "EURUSD H1" in text] == told, "a second run repeats nothing"
