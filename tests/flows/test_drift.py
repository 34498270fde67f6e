"""The quality and the drift flow on the packaged sample: what they store, show and tell."""

from __future__ import annotations

from pathlib import Path

import pytest

from tapeline.core.errors import DataError
from tapeline.core.schemas import AUDIT, DRIFT, QUALITY
from tapeline.core.settings import load_settings
from tapeline.core.symbol import Symbol
from tapeline.core.timeframe import Timeframe
from tapeline.lake.lake import Lake
from tapeline.sources.base import open_source

pytestmark = pytest.mark.prefect


def test_quality_and_drift_of_the_sample(prefect_server: str, tmp_path: Path, monkeypatch, capsys):
    import pandas as pd
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey

    import flows.drift
    import flows.quality
    from flows.drift import drift
    from flows.quality import quality
    from tapeline.core.schemas import RAW_BARS
    from tapeline.features.engine import compute
    from tasks.backfill import load_history
    from tasks.features import feature_table
    from tasks.job import Job

    monkeypatch.setenv("TAPELINE_ROOT", str(tmp_path))
    monkeypatch.setenv("TAPELINE_CALENDARS__DEFAULT", "24x5")
    monkeypatch.delenv("TAPELINE_SETTINGS", raising=False)
    monkeypatch.chdir(tmp_path)
    told: list[tuple[str, str]] = []
    for module in (flows.drift, flows.quality):
        monkeypatch.setattr(module, "tell", lambda title, body, **_: told.append((title, body)))
    settings = load_settings()
    lake, symbol, hourly = Lake(settings.lake_path), Symbol.parse("EURUSD"), Timeframe.parse("H1")
    start, end = pd.Timestamp("2017-01-02", tz="UTC"), pd.Timestamp("2017-05-01", tz="UTC")
    job = Job("run", "sample", symbol, hourly, start, end)
    load_history(job, open_source("sample", settings), settings, lake, now=pd.Timestamp("2020-01-01", tz="UTC"))

    (scored,) = quality(symbols=["EURUSD"], timeframe="H1")
    stored = lake.read(QUALITY, symbol, hourly)
    assert len(stored) == scored.days > 90
    assert stored["score"].median() > 0.97

    bars = lake.read(RAW_BARS, symbol, hourly)
    feature_set, spec = feature_table(settings)
    features = compute(feature_set, bars, hourly)
    # A feed that doubles one column from April on.
    column = feature_set.columns[0]
    features.loc[features.index >= "2017-04-01", column] *= 5
    lake.write(spec, features, symbol, hourly, lineage=job.lineage("features"))
    (found,) = drift(symbols=["EURUSD"], timeframe="H1", months=2, window=400)
    assert any(text.startswith(f"{column}: ") for text in found.alarms)
    rows = lake.read(DRIFT, symbol, hourly)
    assert set(rows["column"]) <= set(feature_set.columns)
    assert rows["alarm"].any()
    assert any(title.startswith("EURUSD H1 has drifted") and column in body for title, body in told)
    checks = set(lake.read(AUDIT, symbol, hourly)["suite"].astype(str))
    assert {"drift", "quality_score"} <= checks
    keys = ["drift", "drift-eurusd-h1", "drift-plot-eurusd-h1", "quality-eurusd-h1", "quality-trend-eurusd-h1"]
    with get_client(sync_client=True) as client:
        # By key: the server is shared, and one answer holds only so many of its artifacts.
        wanted = ArtifactFilter(key=ArtifactFilterKey(any_=keys))
        shown = {artifact.key for artifact in client.read_artifacts(artifact_filter=wanted)}
    assert shown == set(keys)
    assert "Quality" in capsys.readouterr().out
    with pytest.raises(DataError, match="no bars of GBPUSD"):
        quality(symbols=["GBPUSD"], timeframe="H1")
