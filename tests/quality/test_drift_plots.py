"""The page and the pictures: what is told stands first, what comes from outside is escaped."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from tapeline.core.errors import DataError
from tapeline.quality.calendars import MarketCalendar
from tapeline.quality.daily_score import score_days
from tapeline.quality.distribution import DistributionMonitor, Reference
from tapeline.quality.drift_plots import plot_distances, plot_scores, render_report, write_figure, write_page
from tests.support import make_bars

HOURS = pd.date_range("2017-01-02", periods=700, freq="h", tz="UTC", name="ts", unit="ns")


@pytest.fixture(scope="module")
def report() -> pd.DataFrame:
    values = np.random.default_rng(0).normal(size=(700, 2))
    values[400:, 1] += 1.0
    frame = pd.DataFrame(values, index=HOURS, columns=["calm", "<script>alert(1)</script>"])
    monitor = DistributionMonitor(Reference.freeze(frame[:400]))
    monitor.update(frame[400:])
    return monitor.report(repeats=99, alpha=0.02)


def test_the_page_names_alarms_first_and_runs_nothing(report) -> None:
    page = render_report(report, title="A & B", span="300 rows", picture='x".png')
    assert "<script" not in page
    assert "A &amp; B" in page
    assert 'src="x&quot;.png"' in page
    assert "1 of 2 columns raise an alarm" in page
    assert page.count('<tr class="alarm">') == int(report["alarm"].sum()) == 5
    assert page.index("&lt;script&gt;") < page.index("<td>calm</td>")


def test_pictures_show_each_column_and_each_part(report, tmp_path) -> None:
    axes = plot_distances(report).axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["calm", "<script>alert(1)</script>"]
    farthest = max(line.get_xdata().max() for line in axes.lines if line.get_label() == "ks")
    assert farthest == pytest.approx((report["value"] / report["limit"])[report["statistic"] == "ks"].max())
    days = score_days(make_bars(240, gaps=False), "H1", MarketCalendar.parse("24x7")).days
    figure = plot_scores(days)
    assert figure.axes[0].lines[0].get_ydata().tolist() == days["score"].tolist()
    assert write_figure(tmp_path / "new" / "trend.png", figure).read_bytes().startswith(b"\x89PNG")
    assert write_page(tmp_path / "page.html", "text").read_text() == "text"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new", "page.html"]
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot be written"):
        write_page(tmp_path / "file" / "page.html", "text")
