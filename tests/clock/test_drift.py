"""Drift: the window's quantiles, one alert a crossing, bounded history, a picture, and the indicator's file."""

from __future__ import annotations

import io
from collections import deque
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tapeline.clock import drift as drift_module
from tapeline.clock.drift import DriftMonitor, plot_drift
from tapeline.clock.window import QuantileWindow
from tapeline.clock.zone_export import read_zone_export
from tapeline.core.errors import ConfigurationError, DataError

MILLISECOND, SECOND = 1_000_000, 1_000_000_000


@settings(max_examples=100, deadline=None)
@given(values=st.lists(st.integers(-50, 50), min_size=1, max_size=80), size=st.integers(1, 20))
def test_quantiles_are_those_of_the_latest_values(values: list[int], size: int) -> None:
    window, latest = QuantileWindow(size), deque(maxlen=size)
    for value in values:
        window.add(value)
        latest.append(value)
        for share in (0.0, 0.05, 0.5, 0.95, 1.0):
            assert window.quantile(share) == np.quantile(list(latest), share, method="lower")


def fed(monitor: DriftMonitor, drifts: list[int], *, start: int = 0, step: int = SECOND) -> list[str]:
    alerts = []
    for number, drift in enumerate(drifts):
        at = start + number * step
        alert = monitor.add("binance", at + drift * MILLISECOND, at)
        alerts += [] if alert is None else [alert.kind]
    return alerts


def test_an_alert_is_raised_once_and_cleared_once() -> None:
    monitor = DriftMonitor(window=11, warm_up=5)
    assert fed(monitor, [-60] * 30) == []
    assert fed(monitor, [1_270] * 30, start=30 * SECOND) == ["raised"]
    assert monitor.alerting() == ["binance"]
    assert monitor.drift("binance") == 1_270 * MILLISECOND
    # Between the two bounds nothing changes: no flapping.
    assert fed(monitor, [850, 990, 1_010] * 20, start=60 * SECOND) == []
    assert fed(monitor, [-60] * 30, start=200 * SECOND) == ["cleared"]
    assert monitor.alerting() == []


def test_one_late_message_raises_nothing_but_a_slow_feed_does() -> None:
    monitor = DriftMonitor(window=11, warm_up=5)
    assert fed(monitor, [-60] * 20 + [-30_000] + [-60] * 20) == []
    assert fed(monitor, [-1_500] * 11, start=100 * SECOND) == ["raised"]


def test_the_threshold_itself_is_no_alert() -> None:
    assert fed(DriftMonitor(window=5, warm_up=5), [1_000] * 20) == []
    assert fed(DriftMonitor(window=5, warm_up=5), [1_001] * 20) == ["raised"]
    assert fed(DriftMonitor(window=5, warm_up=5, threshold=500 * MILLISECOND), [501] * 20) == ["raised"]


def test_history_has_a_row_an_interval_and_one_at_each_alert() -> None:
    monitor = DriftMonitor(window=11, warm_up=5, every=10 * SECOND)
    fed(monitor, [-60] * 30 + [1_270] * 30)
    frame = monitor.frame()
    assert list(frame.columns) == ["feed", "median_ms", "low_ms", "high_ms", "messages", "alert"]
    assert str(frame.index.dtype) == "datetime64[ns, UTC]"
    assert frame.index.is_monotonic_increasing
    assert frame["alert"].sum() == frame["alert"].iloc[-3:].sum() == 3
    assert (frame["low_ms"] <= frame["median_ms"]).all()
    assert (frame["median_ms"] <= frame["high_ms"]).all()
    assert 6 <= len(frame) <= 8
    assert DriftMonitor().frame().empty


def test_history_and_feeds_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drift_module, "MAXIMUM_FEEDS", 3)
    monitor = DriftMonitor(window=5, warm_up=1, every=1, history=10)
    for number in range(50):
        monitor.add(f"feed {number % 5}", number, number)
    assert len(monitor.frame()) == 10
    assert monitor.refused == 20
    assert set(monitor.frame()["feed"]) == {"feed 0", "feed 1", "feed 2"}


@pytest.mark.parametrize(
    "bad", [{"clear": 0}, {"clear": 2 * SECOND}, {"warm_up": 0}, {"warm_up": 999}, {"every": 0}, {"history": 0}]
)
def test_bounds(bad: dict[str, int]) -> None:
    with pytest.raises(ConfigurationError):
        DriftMonitor(**bad)
    with pytest.raises(ConfigurationError):
        DriftMonitor().drift("nobody")
    with pytest.raises(ConfigurationError):
        QuantileWindow(0)
    with pytest.raises(ConfigurationError):
        QuantileWindow(3).quantile(0.5)


def test_the_picture_shows_every_feed_and_the_threshold() -> None:
    monitor = DriftMonitor(window=11, warm_up=5)
    fed(monitor, [-60] * 30 + [1_270] * 30)
    for number in range(40):
        monitor.add("kraken", number * SECOND, number * SECOND)
    figure = plot_drift(monitor.frame())
    axes = figure.axes[0]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["binance", "kraken"]
    assert {line.get_ydata()[0] for line in axes.lines[2:]} == {1_000.0, -1_000.0}
    figure.savefig(target := io.BytesIO(), format="png")
    assert target.getvalue()[:4] == b"\x89PNG"
    assert plot_drift(DriftMonitor().frame()).axes


EXPORT = (
    "TimeTradeServer\tTimeGMT\tTimeLocal\tnote\r\n"
    "2025.03.07 12:00:01\t2025.03.07 10:00:00\t2025.03.07 11:00:00\tx\r\n"
    "2025.03.10 12:00:00\t2025.03.10 09:00:02\t2025.03.10 10:00:02\t\r\n"
)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("delimiter", ["\t", ",", ";"])
def test_the_indicators_export(tmp_path: Path, encoding: str, delimiter: str) -> None:
    path = tmp_path / "zone.csv"
    path.write_bytes(EXPORT.replace("\t", delimiter).encode(encoding))
    frame = read_zone_export(path)
    assert frame.index.strftime("%m-%d %H:%M:%S").tolist() == ["03-07 10:00:00", "03-10 09:00:02"]
    assert frame["offset_hours"].tolist() == [2.0, 3.0]
    assert frame["drift_ms"].tolist() == [1_000.0, -2_000.0]
    assert frame["local_offset_hours"].tolist() == [1.0, 1.0]
    assert frame["changed"].tolist() == [False, True]


def test_an_export_in_any_order_without_local_time(tmp_path: Path) -> None:
    path = tmp_path / "zone.csv"
    path.write_text("GMT,Server\n2025-01-02 10:15,2025-01-02 15:45\n2025-01-01 10:15,2025-01-01 15:45\n\n")
    frame = read_zone_export(path)
    assert frame.index.is_monotonic_increasing
    assert frame["offset_hours"].tolist() == [5.5, 5.5]
    assert frame["local_offset_hours"].isna().all()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"a,b\n1,2\n", "columns for 'server'"),
        (b"server,server,gmt\n", "2 columns for 'server'"),
        (b"server,gmt\n2025.01.01 00:00:00,soon\n", "line 2 has the time 'soon'"),
        (b"server,gmt\n2025.13.01 00:00:00,2025.01.01 00:00:00\n", "line 2"),
        (b"server,gmt\n2025.01.01 00:00:00\n", "line 2 has the time ''"),
        (b"server,gmt\n\xff\xfe\xfa", "neither UTF-8"),
    ],
)
def test_broken_exports_are_named(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "zone.csv"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_zone_export(path)
    with pytest.raises(ConfigurationError, match="no export"):
        read_zone_export(tmp_path / "absent")
