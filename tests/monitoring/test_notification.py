from __future__ import annotations

from datetime import UTC, datetime

import pandas as pd
import pytest

from tapeline.core.errors import ConfigurationError, DataError
from tapeline.monitoring.notification import (
    MAXIMUM_BODY,
    MAXIMUM_KEY,
    MAXIMUM_NOTES,
    Notification,
    Severity,
    clean_text,
    digest_of,
    score_alert,
    score_alerts,
)

SCORE = {
    "symbol": "EURUSD",
    "timeframe": "H1",
    "ts": pd.Timestamp("2017-01-02 09:00", tz="UTC"),
    "side": 1,
    "confidence": 0.71,
    "probability": 0.71,
    "model": "direction",
    "model_version": "3",
}


def test_texts_are_cleaned_and_bounded() -> None:
    note = Notification(
        "a\r\nb\x1b[31m\u202e", "x" * (MAXIMUM_BODY + 5), Severity.INFO, key="k", notes=tuple(map(str, range(20)))
    )
    assert note.title == "a b"
    assert len(note.body) == MAXIMUM_BODY
    assert note.body.endswith("…")
    assert len(note.notes) == MAXIMUM_NOTES


def test_long_keys_stay_apart() -> None:
    first, second = (Notification("t", "", Severity.INFO, key="k" * 1000 + end) for end in "ab")
    assert first.key != second.key
    assert len(first.key) < MAXIMUM_KEY


@pytest.mark.parametrize(
    "link",
    ["javascript:alert(1)", "file:///etc/passwd", "http://", "https://a b", "https://a/|x", "http://[::1", "x" * 3000],
)
def test_a_link_must_be_http(link: str) -> None:
    with pytest.raises(ConfigurationError, match="not an http or https address"):
        Notification("t", "", Severity.INFO, key="k", link=link)


@pytest.mark.parametrize(("title", "key"), [("", "k"), (" \x00 ", "k"), ("t", ""), ("t", "  ")])
def test_title_and_key_are_required(title: str, key: str) -> None:
    with pytest.raises(ConfigurationError):
        Notification(title, "", Severity.INFO, key=key)


def test_clean_text_replaces_lone_surrogates_and_keeps_emoji() -> None:
    assert clean_text("ok \ud83d end 🚨\tx\n") == "ok \ufffd end 🚨\tx\n"


def test_digest_names_the_urgent_first_and_counts_all() -> None:
    held = [Notification("slow feed", "", Severity.WARNING, key=f"w{i}") for i in range(5)]
    held += [Notification("ingest failed", "", Severity.ERROR, key=f"e{i}") for i in range(2)]
    held += [Notification(f"other {i}", "", Severity.INFO, key=f"i{i}") for i in range(30)]
    digest = digest_of(held, datetime(2026, 1, 2, 3, 4, tzinfo=UTC))
    lines = digest.body.splitlines()
    assert digest.title == "37 notifications held back since 2026-01-02 03:04 UTC"
    assert digest.severity is Severity.ERROR
    assert lines[:2] == ["2 x ingest failed", "5 x slow feed"]
    assert len(lines) == 21
    assert lines[-1] == "and 12 more of 12 other kinds"


def test_score_alert_says_what_when_and_by_which_model() -> None:
    alert = score_alert(**SCORE, threshold=0.65, link="https://example.com/run")
    assert alert.once
    assert alert.severity is Severity.INFO
    assert alert.body.splitlines() == [
        "bar 2017-01-02 09:00 to 2017-01-02 10:00 UTC",
        "probability of the upper class 71.0 %, at or above the threshold 65.0 %",
        "model direction, version 3",
    ]


def test_score_alert_key_depends_on_the_score_s_identity_only() -> None:
    same = score_alert(
        **{**SCORE, "confidence": 0.9, "side": -1, "ts": pd.Timestamp("2017-01-02 10:00", tz="Europe/Berlin")}
    )
    key = score_alert(**SCORE).key
    assert same.key == key
    for name, value in {"symbol": "GBPUSD", "timeframe": "D1", "model_version": "4", "model": "other"}.items():
        assert score_alert(**{**SCORE, name: value}).key != key


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ts", pd.Timestamp("2017-01-02")),
        ("ts", pd.NaT),
        ("side", 2),
        ("confidence", float("nan")),
        ("probability", 1.5),
    ],
)
def test_score_alert_refuses_what_is_no_score(name: str, value: object) -> None:
    with pytest.raises(DataError, match="score_alert"):
        score_alert(**{**SCORE, name: value})


def test_score_alerts_takes_confident_rows_with_a_side() -> None:
    ts = pd.date_range("2017-01-02", periods=4, freq="1h", tz="UTC", name="ts")
    scores = pd.DataFrame(
        {
            "probability": [0.7, 0.5, 0.2, 0.65],
            "side": [1, 0, -1, 1],
            "confidence": [0.7, 0.9, 0.8, 0.6499],
            "model": "direction",
            "model_version": "3",
        },
        index=ts,
    )
    alerts = score_alerts(scores, symbol="EURUSD", timeframe="H1", threshold=0.65)
    assert [a.title for a in alerts] == ["EURUSD H1: long, confidence 70.0 %", "EURUSD H1: short, confidence 80.0 %"]
    with pytest.raises(DataError, match="lack the columns"):
        score_alerts(scores.drop(columns="side"), symbol="EURUSD", timeframe="H1", threshold=0.65)
