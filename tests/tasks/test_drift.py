"""Drift from the lake: what is held against what, when a label counts, and that no future row moves an alarm."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from tapeline.core.errors import DataError
from tapeline.core.schemas import DRIFT, SCORES, features_spec, labels_spec
from tapeline.core.settings import load_settings
from tapeline.core.symbol import Symbol
from tapeline.core.timeframe import Timeframe
from tapeline.lake.lake import Lake, Lineage
from tasks import drift
from tasks.drift import find_drift
from tasks.job import plan_jobs

EURUSD, H1 = Symbol.parse("EURUSD"), Timeframe.parse("H1")
LINEAGE = Lineage("run", "test")
SPEC = features_spec("small@0123456789abcdef", ["one", "two"])
LABELS = "direction@0123456789abcdef"
ROWS, TRAINED, TURNED = 2_600, 1_200, 1_900
HOURS = pd.date_range("2017-01-02", periods=ROWS, freq="h", tz="UTC", name="ts", unit="ns")
NOW = pd.Timestamp("2030-01-01", tz="UTC")
HOUR = pd.Timedelta(hours=1)


@pytest.fixture
def room(tmp_path, monkeypatch):
    """Features of which ``two`` tells the label until the turn and the opposite after it; scores that believe it."""
    settings = load_settings(root=tmp_path)
    lake = Lake(settings.lake_path)
    feature_set = SimpleNamespace(columns=("one", "two"), version=SPEC.name)
    monkeypatch.setattr(drift, "feature_table", lambda _: (feature_set, SPEC))
    generator = np.random.default_rng(2)
    values = generator.normal(size=(ROWS, 2))
    features = pd.DataFrame(values.astype(np.float32), index=HOURS, columns=["one", "two"]).assign(
        known_at=HOURS + HOUR
    )
    sign = np.where(np.arange(ROWS) < TURNED, 1.0, -1.0)
    came = np.where(sign * values[:, 1] + generator.normal(size=ROWS) > 0, 1.0, -1.0)
    labels = pd.DataFrame({"value": came, "t_end": HOURS + 2 * HOUR, "outcome": came / 100, "weight": 1.0}, index=HOURS)
    probability = 1 / (1 + np.exp(-1.5 * values[:, 1]))
    scores = pd.DataFrame(
        {
            "known_at": HOURS + HOUR, "probability": probability, "side": np.sign(probability - 0.5).astype(np.int8),
            "confidence": np.maximum(probability, 1 - probability), "model": "m", "model_version": "1",
            "feature_set_version": SPEC.name, "label_version": LABELS, "data_version": "d", "scored_at": NOW,
        },
        index=HOURS,
    )[TRAINED:]  # fmt: skip
    lake.write(SPEC, features, EURUSD, H1, lineage=LINEAGE)
    lake.write(labels_spec(LABELS), labels, EURUSD, H1, lineage=LINEAGE)
    lake.write(SCORES, scores, EURUSD, H1, lineage=LINEAGE)
    versions = SimpleNamespace(feature_set=SPEC.name, label=LABELS)
    scorer = SimpleNamespace(
        name="m",
        version="1",
        trained_until=HOURS[TRAINED],
        model=SimpleNamespace(bundle=SimpleNamespace(versions=versions)),
    )
    return settings, lake, scorer, features


def job(end=None):
    return plan_jobs("run", "", ["EURUSD"], "H1", None, end)[0]


def test_a_concept_that_turned_is_told_on_errors_and_on_the_relation_while_no_distribution_moved(room) -> None:
    settings, lake, scorer, _ = room
    result, rows = find_drift(job(), settings, lake, scorer, now=NOW)
    assert not rows[rows["kind"] == "distribution"]["alarm"].any()
    assert set(rows["reference_end"]) == {HOURS[TRAINED - 1]}
    concept = rows[rows["kind"] == "concept"]
    assert set(concept["column"]) == {"error", "loss", "two ~ label"}
    assert set(concept["statistic"]) == {"ddm", "hddm_a", "adwin", "page_hinkley"}
    first = concept.sort_values("ts").groupby(["column", "statistic"]).first()
    assert (first["ts"] > HOURS[TURNED]).all()
    assert (first["ts"] < HOURS[TURNED + 500]).all()
    assert (abs(first["since"] - HOURS[TURNED]) < 60 * HOUR).all()
    turned = first.loc["two ~ label"].iloc[0]
    assert turned["before"] > 0.3 > -0.3 > turned["after"]
    stored = lake.read(DRIFT, EURUSD, H1)
    assert len(stored) == len(rows)
    version = lake.version(DRIFT, EURUSD, H1)
    again, _ = find_drift(job(), settings, lake, scorer, now=NOW)
    assert lake.version(DRIFT, EURUSD, H1) == version
    assert again.key == result.key
    assert result.labelled == pytest.approx((ROWS - TRAINED) / 2, abs=2), "labels over two bars: every other row"


def test_a_label_counts_once_it_is_known_and_nothing_later_moves_an_alarm(room) -> None:
    settings, lake, scorer, _ = room
    _, whole = find_drift(job(), settings, lake, scorer, now=NOW)
    concept = whole[whole["kind"] == "concept"].sort_values("ts")
    told = concept["ts"].iloc[0]
    before = find_drift(job(), settings, lake, scorer, now=told - pd.Timedelta(1))[1]
    assert before[before["kind"] == "concept"].empty
    at = find_drift(job(), settings, lake, scorer, now=told)[1]
    at = at[at["kind"] == "concept"]
    assert len(at) == (concept["ts"] == told).sum()
    np.testing.assert_allclose(at["after"], concept[concept["ts"] == told]["after"])
    assert at["since"].tolist() == concept[concept["ts"] == told]["since"].tolist()


def test_a_feature_that_shifted_is_told_with_a_page_and_a_picture(room) -> None:
    settings, lake, scorer, features = room
    features.loc[features.index[-500] :, "one"] += 0.7
    lake.write(SPEC, features, EURUSD, H1, lineage=LINEAGE)
    result, rows = find_drift(job(), settings, lake, scorer, now=NOW)
    alarms = rows[(rows["kind"] == "distribution") & rows["alarm"]]
    assert set(alarms["column"]) == {"one"}
    assert any(text.startswith("one: ") and "ks" in text for text in result.alarms)
    assert result.page is not None
    page = result.page.read_text()
    assert "1 of 2 columns raise an alarm" in page
    assert result.page.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
    assert DRIFT.to_arrow(rows).num_rows == len(rows)


def test_without_a_champion_the_first_months_are_the_reference(room) -> None:
    settings, lake, _, _ = room
    result, rows = find_drift(job(), settings, lake, None, months=1, now=NOW)
    assert result.labelled == 0
    assert set(rows["reference_end"]) == {HOURS[HOURS[0] + pd.DateOffset(months=1) >= HOURS + HOUR][-1]}
    assert result.reference.startswith("the first 1 months, 2017-01-02 to 2017-02-")
    with pytest.raises(DataError, match="too few"):
        find_drift(job("2017-01-05"), settings, lake, None, now=NOW)
    with pytest.raises(DataError, match="no features"):
        find_drift(plan_jobs("run", "", ["GBPUSD"], "H1", None, None)[0], settings, lake, None, now=NOW)
