"""The report: whole, self-contained, honest, and safe whatever a symbol or a reason is called."""

from __future__ import annotations

import base64
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Literal
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest

from tapeline.core.errors import DataError
from tapeline.core.settings import CostSettings
from tapeline.evaluation import plots
from tapeline.evaluation.metrics import reliability_table
from tapeline.evaluation.report import METRIC_NAMES, Report, render, write_report
from tapeline.evaluation.result import TrainingResult, Versions
from tapeline.evaluation.trades import cost_ladder, equity_curve, random_entries, simulate
from tests.support import make_bars

HOSTILE = "<script>alert('x')</script>\"><img src=x onerror=alert(1)>${7*7}{{7*7}}"


def make_result(symbol: str = "EURUSD", rows: int = 200) -> TrainingResult:
    """A result as a training run would make it, of random probabilities."""
    generator = np.random.default_rng(0)
    bars = make_bars(rows)
    probability = generator.uniform(0.4, 0.6, rows)
    side = np.sign(probability - 0.5).astype(int)
    y = generator.integers(0, 2, rows)
    holdout = pd.DataFrame(
        {
            "ts": bars.index,
            "symbol": symbol,
            "t0": pd.DatetimeIndex(bars["close_ts"]),
            "t_end": pd.DatetimeIndex(bars["close_ts"]) + pd.Timedelta("4h"),
            "y": y,
            "outcome": np.where(y == 1, 1e-3, -1e-3),
            "raw": probability,
            "probability": probability,
            "side": side,
        }
    )
    trades = simulate(holdout, CostSettings())
    null = random_entries(holdout, trades, CostSettings(), draws=50)
    metrics = pd.DataFrame(
        {
            "metric": list(METRIC_NAMES),
            "value": 0.51,
            "low": 0.4,
            "high": 0.6,
            "majority": 0.5,
            "random": 0.5,
            "logistic": 0.5,
        }
    )
    sharpe = {"returns": len(trades), "sharpe": 0.01, "probabilistic": 0.6, "trials": 9, "deflated": 0.2}
    return TrainingResult(
        name="direction-H1",
        model_version="3",
        run_id="run-1",
        model_uri="models:/direction-H1/3",
        versions=Versions("core@f00", "direction@ba5", "data-77"),
        verdict_ids=("v1",),
        label={},
        promoted=False,
        reason="not shown better than the champion",
        aliases=("challenger",),
        rows={"development": 800, "purged": 3, "holdout": rows},
        dropped=pd.DataFrame({"symbol": [symbol], "rows_in": [1003], "rows_out": [1003]}),
        metrics=metrics,
        holdout=holdout,
        reliability=reliability_table(y, probability),
        calibration=pd.DataFrame({"stage": ["raw"], "ece": [0.02], "brier": [0.25], "log_loss": [0.69]}),
        trials=pd.DataFrame({"number": [0], "state": ["complete"], "log_loss": [0.693]}),
        importance=pd.DataFrame({"feature": ["rsi_14", "a$b$c_{"], "mean_abs_shap": [0.2, 0.1], "share": [0.67, 0.33]}),
        trades=trades,
        equity=equity_curve(trades),
        cost_ladder=cost_ladder(trades),
        random_band=null.band,
        sharpe=pd.DataFrame([{**sharpe, "minimum_length": 27_000.4}]),
        trials_total=8,
        holdout_looks=1,
        parameters={"num_leaves": 12},
        study="s",
        booster_sha256="ab",
    )


def make_report(symbol: str = "EURUSD", reason: str = "high below low") -> Report:
    bars = make_bars(200)
    labels = pd.DataFrame({"value": np.tile([1.0, -1.0, 0.0, 1.0], 50)}, index=bars.index)
    result = make_result(symbol)
    return Report(
        title="direction-H1",
        stages=pd.DataFrame(
            {"stage": ["ingest"], "symbol": [symbol], "rows_in": [210], "rows_out": [200], "quarantined": [10]}
        ),
        quarantine=pd.DataFrame({"stage": ["ingest"], "symbol": [symbol], "reason": [reason], "rows": [10]}),
        verdicts=[
            {"suite": "raw_bars", "passed": True, "rows": 210, "rows_refused": 10, "failures": (reason,), "id": "v1"}
        ],
        result=result,
        symbol=symbol,
        timeframe="H1",
        bars=bars,
        labels=labels,
        scores=result.holdout.set_index("ts")[["probability"]],
        links={"lake": "/tmp/lake"},
    )


class Page(HTMLParser):
    """Every tag, attribute and text of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def test_everything_a_reader_needs_is_there(tmp_path: Path) -> None:
    path = write_report(tmp_path / "new" / "report.html", make_report())
    page = Page(path.read_text(encoding="utf-8"))
    words = " ".join(page.text.split())
    for expected in (
        "direction-H1, version 3 (challenger)",
        "not promoted: not shown better than the champion",
        "core@f00",
        "direction@ba5",
        "data-77",
        "EURUSD, H1. 2017-01-02 00:00 to 2017-01-12 07:00 UTC, 200 bars of EURUSD",
        "800 to develop on, 3 purged at the border, 200 held out",
        "high below low",
        "raw_bars",
        "Area under the ROC curve",
        "0.4 to 0.6",
        "The holdout does not show that the model's probabilities are better than the base rate.",
        "Configurations tried under this model's name so far: 8; models evaluated on a holdout: 1.",
        "Deflated Sharpe ratio: 0.2.",
        "27,001 trades to be 95 % sure",
        "no queue, no partial fill, no latency",
        "/tmp/lake",
    ):
        assert expected in words
    assert [path.name for path in path.parent.iterdir()] == ["report.html"]


def test_it_needs_no_network_and_no_script() -> None:
    page = Page(render(make_report()))
    names = {tag for tag, _ in page.tags}
    assert not names & {"script", "link", "iframe", "object", "embed", "form", "base"}
    for tag, attributes in page.tags:
        for name, value in attributes.items():
            assert not name.startswith("on")
            if name in ("src", "href"):
                assert tag == "img"
                assert (value or "").startswith("data:image/svg+xml;base64,")
    policy = [a["content"] for _, a in page.tags if a.get("http-equiv") == "Content-Security-Policy"]
    assert policy == ["default-src 'none'; img-src data:; style-src 'unsafe-inline'"]


def test_pictures_are_whole_and_have_their_axes_named() -> None:
    sources = [a["src"] or "" for tag, a in Page(render(make_report())).tags if tag == "img"]
    assert len(sources) == 5
    for source in sources:
        ElementTree.fromstring(base64.b64decode(source.partition(",")[2]))


def test_hostile_names_are_text_everywhere() -> None:
    text = render(make_report(symbol=HOSTILE, reason=HOSTILE))
    page = Page(text)
    assert not {tag for tag, _ in page.tags} & {"script"}
    assert all(a.get("src", "data:").startswith("data:") for tag, a in page.tags if tag == "img")  # type: ignore[union-attr]
    assert not [name for _, attributes in page.tags for name in attributes if name.startswith("on")]
    assert page.text.count(HOSTILE) >= 4  # shown to the reader as it is, not evaluated
    assert "49" not in re.findall(r"\$?\{?(49)\}?(?=<)", text)
    for match in re.finditer(r"base64,([A-Za-z0-9+/=]+)", text):
        svg = ElementTree.fromstring(base64.b64decode(match[1]))
        assert not [node for node in svg.iter() if node.tag.endswith(("script", "foreignObject"))]


def test_the_headline_says_what_the_interval_allows() -> None:
    report = make_report()

    def told(low: float, high: float) -> str:
        metrics = report.result.metrics.assign(low=low, high=high)
        return render(replace(report, result=replace(report.result, metrics=metrics)))

    assert "were better than the base rate on the holdout" in told(0.3, 0.49)
    assert "were worse than the base rate on the holdout" in told(0.51, 0.6)
    assert "does not show" in told(0.49, 0.51)
    losing = report.result.trades.assign(net=-0.001)
    page = render(replace(report, result=replace(report.result, trades=losing)))
    assert f"{len(losing)} trades lost {0.001 * len(losing):.2%}" in page


def test_a_run_without_trades_or_quarantine_or_scores_is_still_reported() -> None:
    report = make_report()
    none = simulate(report.result.holdout.assign(side=0), CostSettings())
    metrics = report.result.metrics.copy()
    metrics.loc[metrics["metric"] == "percentile_of_random_entries", ["value", "low", "high"]] = np.nan
    sharpe = report.result.sharpe.assign(returns=0, deflated=np.nan, minimum_length=np.nan)
    band = random_entries(report.result.holdout, none, CostSettings()).band
    result = replace(
        report.result,
        trades=none,
        equity=equity_curve(none),
        cost_ladder=cost_ladder(none),
        random_band=band,
        metrics=metrics,
        sharpe=sharpe,
    )
    page = render(replace(report, result=result, quarantine=report.quarantine.iloc[:0], scores=report.scores.iloc[:0]))
    assert "It made no trade." in page
    assert "None." in page


def test_the_same_report_gives_the_same_bytes() -> None:
    assert render(make_report()) == render(make_report())


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot be written"):
        write_report(tmp_path / "file" / "report.html", make_report())


@pytest.mark.parametrize("name", ["bars", "reliability", "importance", "equity", "histogram"])
def test_every_picture_is_also_a_png(name: str) -> None:
    report = make_report()
    result = report.result
    draw = {
        "bars": lambda: plots.bars(
            report.bars, report.labels, report.scores, symbol="$x_{", timeframe="H1", format="png"
        ),
        "reliability": lambda: plots.reliability(result.reliability, format="png"),
        "importance": lambda: plots.importance(result.importance, format="png"),
        "equity": lambda: plots.equity(result.equity, result.random_band, format="png"),
        "histogram": lambda: plots.histogram(result.holdout, format="png"),
    }
    assert draw[name]().startswith(b"\x89PNG")


def test_the_bars_picture_ends_with_the_last_score() -> None:
    report = make_report()
    some = report.scores.iloc[:50]
    assert plots.bars(report.bars, None, some) == plots.bars(report.bars.loc[: some.index[-1]], None, some)
    assert plots.bars(report.bars, None, some) != plots.bars(report.bars, None, None)


def test_the_choice_among_trials_is_told_in_words() -> None:
    from dataclasses import replace

    base = make_report()
    assert "overfitting" not in render(base)  # what was not judged is not spoken of
    row = {
        "trials": 9,
        "effective_trials": 4.25,
        "trials_with_returns": 6,
        "clusters": 2.0,
        "pbo": 0.37,
        "probability_of_loss": 0.41,
        "degradation": -0.5,
        "days": 620,
        "blocks": 16,
        "splits": 12870,
        "years_needed": 1.1,
        "years": 1.7,
    }
    sharpe = base.result.sharpe.assign(deflated_effective=0.31)
    judged = replace(
        base.result, overfitting=pd.DataFrame([row]), sharpe=sharpe, family="ridge", family_reason="won on <like> data"
    )
    text = render(replace(base, result=judged))
    words = " ".join(Page(text).text.split())
    assert "Probability of backtest overfitting: 37%" in words
    assert "12,870 ways to split 620 days" in words
    assert "9 counted, about 4.25 independent ones" in words
    assert "deflated Sharpe ratio is 0.31" in words
    assert "won on <like> data" in words
    assert "<like>" not in text  # escaped
    unknown = replace(judged, overfitting=pd.DataFrame([{**row, "pbo": float("nan"), "trials_with_returns": 1}]))
    assert "overfitting: unknown" in " ".join(Page(render(replace(base, result=unknown))).text.split())


def make_slices() -> pd.DataFrame:
    table = pd.DataFrame(
        {
            "slicing": ["all", "trend", "trend", "hour"],
            "slice": ["all", "$ranging_{", "trending", "00-04 UTC"],
            "rows": [900, 500, 400, 20],
            "skill": [0.01, 0.03, -0.02, 0.1],
            "skill_low": [0.0, 0.01, -0.04, np.nan],
            "skill_high": [0.02, 0.05, -0.01, np.nan],
            "p_holm": [np.nan, 0.2, 0.01, np.nan],
        }
    )
    return table.astype({"slice": object})


@pytest.mark.parametrize("kind", ["svg", "png"])
def test_the_pictures_of_a_card_are_drawn(kind: Literal["svg", "png"]) -> None:
    paths = pd.DataFrame({"auc": [0.5, 0.52, np.nan], "total_return": [-0.01, 0.02, 0.0]})
    steps = pd.DataFrame({"tested_from": pd.date_range("2017-01-02", periods=3, tz="UTC"), "auc": [0.5, 0.6, 0.4]})
    weights = pd.DataFrame({"condition": ["$a <= 3", "b_{ > 1"], "weight": [0.1, -0.05], "error": [0.01, 0.02]})
    drawn = [
        plots.slices(make_slices(), format=kind),
        plots.paths(paths, format=kind),
        plots.walks({"anchored": steps, "rolling 2": steps}, format=kind),
        plots.local(weights, format=kind),
    ]
    for picture in drawn:
        assert picture.startswith(b"\x89PNG") if kind == "png" else ElementTree.fromstring(picture).tag.endswith("svg")
    assert len(set(drawn)) == 4


def test_a_slice_that_surely_differs_is_drawn_in_another_colour_and_one_without_interval_not_at_all() -> None:
    text = plots.slices(make_slices()).decode().lower()
    assert plots.VERMILION.lower() in text
    alike = make_slices().assign(p_holm=0.9)
    assert plots.VERMILION.lower() not in plots.slices(alike).decode().lower()
    assert plots.slices(make_slices().iloc[:3]) == plots.slices(make_slices())
