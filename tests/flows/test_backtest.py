"""The backtest flow on the packaged sample: the account in the lake, the figures on the page, the command line."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

import pandas as pd
import pytest

from tapeline import cli
from tapeline.core.account_tables import ACCOUNT_TABLES, DECISIONS, EQUITY, FILLS
from tapeline.core.errors import DataError
from tapeline.core.schemas import CLEAN_BARS
from tapeline.core.settings import load_settings
from tapeline.lake.lake import Lake
from tapeline.strategy.backtest import ACCOUNT
from tests.core.samples import eurusd
from tests.flows.artifacts import Shown, artifacts_shown
from tests.lake.support import EURUSD, H1, LINEAGE, raw

pytestmark = pytest.mark.prefect


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory):
    """A project folder whose lake holds 2,500 clean hours of EURUSD and nothing else."""
    folder: Path = tmp_path_factory.mktemp("backtest")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TAPELINE_ROOT", str(folder))
        patch.delenv("TAPELINE_SETTINGS", raising=False)
        patch.chdir(folder)
        bars = raw(eurusd().iloc[:2_500]).assign(repaired=False, outlier=False, filled=False)
        Lake(load_settings().lake_path).write(CLEAN_BARS, bars, EURUSD, H1, lineage=LINEAGE)
        yield folder


@pytest.fixture(scope="module")
def ran(prefect_server: str, root: Path) -> tuple[Lake, object, Shown]:
    from flows.backtest import backtest

    with artifacts_shown("backtest") as shown:
        report = backtest(strategy="moving_average_cross", symbols=["EURUSD"], timeframe="H1")
    return Lake(load_settings().lake_path), report, shown


def call(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """Run a command line in this process; gives its status."""
    monkeypatch.setattr(sys, "argv", ["tapeline", *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    return int(ended.value.code or 0)


def contents(lake: Lake) -> dict[str, str]:
    folder = lake.root / "strategy"
    return {str(file): hashlib.sha256(file.read_bytes()).hexdigest() for file in sorted(folder.rglob("*.parquet"))}


def test_the_account_lies_in_the_lake_and_adds_up(ran):
    lake, report, _ = ran
    equity = lake.read(EQUITY, ACCOUNT, H1)
    fills = lake.read(FILLS, EURUSD, H1)
    assert set(equity["run"]) == set(fills["run"]) == {report.run}
    assert len(equity) == 2_500
    bars = lake.read(CLEAN_BARS, EURUSD, H1)
    cash = 100_000 - (fills["quantity"] * fills["price"] + fills["commission"]).sum()
    held = fills["quantity"].sum() * bars["close"].iloc[-1]
    assert equity["equity"].iloc[-1] == pytest.approx(cash + held, abs=0.005)
    assert report.rows == {
        spec.path: len(lake.read(spec, ACCOUNT if spec is EQUITY else EURUSD, H1)) for spec in ACCOUNT_TABLES
    }
    decisions = lake.read(DECISIONS, EURUSD, H1)
    assert decisions["explanation"].str.startswith('{"why": ').all()


def test_the_page_shows_figures_costs_and_a_link_to_the_tear_sheet(ran):
    _, report, shown = ran
    (costs,) = shown.of("table", "backtest-moving-average-cross-h1-costs")
    assert [row["costs"] for row in costs] == ["no cost", "then fees", "then spread", "then slippage", "then delay"]
    (figures,) = shown.of("table", "backtest-moving-average-cross-h1-statistics")
    assert {"Sharpe ratio", "maximum drawdown"} <= {row["figure"] for row in figures}
    (text,) = shown.of("markdown", "backtest-moving-average-cross-h1")
    assert report.verdict in text
    assert report.run in text
    (link,) = shown.of("markdown", "backtest-moving-average-cross-h1-tear-sheet")
    assert report.page.as_uri() in link
    page = report.page.read_text(encoding="utf-8")
    assert "One configuration was tried" in page
    assert report.run in page
    assert "half spread 0.5 bp" in page


def test_the_same_run_leaves_the_same_bytes_and_another_counts_as_a_trial(ran, monkeypatch, capsys, tmp_path: Path):
    lake, report, _ = ran
    before = contents(lake)
    page = report.page.read_bytes()
    assert call(monkeypatch, "backtest") == 0
    out = capsys.readouterr().out
    assert contents(lake) == before
    assert report.page.read_bytes() == page
    assert report.page.name in out.replace("\n", "")
    assert "then slippage" in out
    assert "one configuration was tried" in out
    mine = tmp_path / "mine.toml"
    mine.write_text(
        'name = "mine"\n[signals]\nsource = "moving_average_cross"\nfast = 10\nslow = 50\n'
        '[sizing]\nmethod = "notional"\n[costs]\nhalf_spread_bps = 0.5\n',
        encoding="utf-8",
    )
    arguments = ["--strategy", str(mine), "--end", "2017-03-01", "--capital", "5000", "--sample", "out of sample"]
    assert call(monkeypatch, "backtest", *arguments) == 0
    told = capsys.readouterr().out
    assert "2 configurations were tried" in told
    assert "Out of sample" in told
    runs = lake.read(EQUITY, ACCOUNT, H1).groupby("run")["equity"]
    assert sorted(runs.first()) == [5_000, 100_000]
    assert (
        pd.Timestamp("2017-03-01", tz="UTC") >= lake.read(DECISIONS, EURUSD, H1).query("run != @report.run").index[-1]
    )


@pytest.mark.parametrize(
    ("strategy", "symbol", "named"),
    [
        ("moving_average_cross", "GBPUSD", "no clean bars of GBPUSD H1"),
        ("score_threshold", "EURUSD", "no scores of EURUSD H1"),
        ("rules_pullback", "EURUSD", "no features of EURUSD H1"),
    ],
)
def test_what_the_lake_lacks_is_named_with_what_brings_it(ran, strategy, symbol, named):
    from tasks.backtest import backtest_strategy
    from tasks.job import plan_jobs

    with pytest.raises(DataError, match=named) as caught:
        backtest_strategy.fn(strategy, plan_jobs("run", "", [symbol], "H1", None, None))
    assert "tapeline run" in str(caught.value.hint)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("--strategy", "holy_grail"), "moving_average_cross"),
        (("--sample", "hindsight"), "walk-forward"),
        (("--symbols", ""), "no symbol"),
        (("--source", "carrier-pigeon"), "carrier-pigeon"),
    ],
)
def test_a_bad_request_is_one_line_before_anything_starts(root, monkeypatch, capsys, arguments, named):
    assert call(monkeypatch, "backtest", *arguments) > 0
    err = capsys.readouterr().err
    assert named in err
    assert len(err.splitlines()) == 2


def test_strategies_are_listed(monkeypatch, capsys):
    assert call(monkeypatch, "strategies") == 0
    out = capsys.readouterr().out
    assert "score_threshold" in out
    assert "moving_average_cross@" in out
