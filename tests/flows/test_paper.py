"""The paper flow: step by step over stored bars, through crashes between any two writes, told once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
import yaml

from tapeline.core.account_tables import ACCOUNT_TABLES, DECISIONS, FILLS
from tapeline.core.errors import ConfigurationError, DataError
from tapeline.core.schemas import CLEAN_BARS
from tapeline.core.settings import load_settings
from tapeline.lake.lake import Lake
from tapeline.strategy.backtest import ACCOUNT
from tapeline.strategy.paper_account import PaperAccount
from tapeline.strategy.trade_feedback import TradeFeedback
from tests.core.samples import eurusd
from tests.flows.artifacts import artifacts_shown
from tests.lake.support import EURUSD, H1, LINEAGE, raw
from tests.monitoring.fake_services import FakeServices, fake_services

pytestmark = [pytest.mark.prefect, pytest.mark.network_shape]

STRATEGY = """
name = "quick"
[signals]
source = "moving_average_cross"
fast = 1
slow = 2
[sizing]
method = "units"
units = 1000
[costs]
half_spread_bps = 0.5
"""


@pytest.fixture
def services() -> Iterator[FakeServices]:
    with fake_services() as running:
        yield running


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, services: FakeServices) -> tuple[str, pd.DataFrame]:
    """A project whose lake holds clean bars, and the path of a strategy that trades often."""
    monkeypatch.delenv("TAPELINE_SETTINGS", raising=False)
    monkeypatch.setenv("TAPELINE_ROOT", str(tmp_path))
    monkeypatch.setenv("TAPELINE_NOTIFICATIONS__URLS", f'["{services.telegram_url()}"]')
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "quick.toml"
    path.write_text(STRATEGY)
    bars = eurusd().iloc[:60]
    clean = raw(bars).assign(repaired=False, outlier=False, filled=False)
    Lake(load_settings().lake_path).write(CLEAN_BARS, clean, EURUSD, H1, lineage=LINEAGE)
    return str(path), bars


def instants(bars: pd.DataFrame, *places: int) -> list[pd.Timestamp]:
    return [bars["close_ts"].iloc[place] + pd.Timedelta("20s") for place in places]


def stored(lake: Lake, account: str = "first") -> dict[str, pd.DataFrame]:
    found = {}
    for spec in ACCOUNT_TABLES:
        symbol = ACCOUNT if spec.name == "equity" else EURUSD
        rows = lake.read(spec, symbol, H1)
        found[spec.name] = rows[rows["run"] == f"paper:{account}"]
    return found


def test_each_run_takes_one_step_shows_it_and_tells_each_fill_once(
    prefect_server: str, project: tuple[str, pd.DataFrame], services: FakeServices
):
    from flows.paper import paper

    strategy, bars = project
    with artifacts_shown("paper") as shown:
        for at in instants(bars, 22, 24, 25, 25):
            report = paper(strategy=strategy, at=str(at))
    lake = Lake(load_settings().lake_path)
    fills = lake.read(FILLS, EURUSD, H1)
    told = [text for text in services.texts() if "paper first" in text]
    assert 1 <= len(fills) == len(told)
    assert all("bought" in text or "sold" in text for text in told)
    assert report.reached == bars["close_ts"].iloc[25]
    last = round(float(stored(lake)["equity"]["equity"].iloc[-1]), 2)
    assert last in [row["equity"] for (row,) in shown.of("table", "paper-first-account")]
    decisions = max(shown.of("table", "paper-first-decisions"), key=len)
    assert len(decisions) == len(lake.read(DECISIONS, EURUSD, H1))
    assert all('"why"' in one["why"] for one in decisions)
    with pytest.raises(ConfigurationError, match="ahead"):
        paper.fn(strategy=strategy, at="2100-01-01")


def test_a_crash_between_any_two_writes_leaves_what_the_next_run_finishes(
    project: tuple[str, pd.DataFrame], monkeypatch: pytest.MonkeyPatch
):
    from tasks import paper as tasks
    from tasks.job import plan_jobs

    strategy, bars = project
    jobs = plan_jobs("local", "", ["EURUSD"], "H1", None, None)
    steps = instants(bars, 22, 24, 25, 26, 28, 29, 31, 34)
    step = tasks.trade_on_paper.fn
    for now in steps:
        step("whole", strategy, jobs, now=now)
    count, crash_at = 0, -1
    written, wrote = Lake.write, tasks.write_whole

    def counted(write):
        def counting(*given, **named):
            nonlocal count
            # Checks of the stage are written too; they are no part of the account.
            if write is wrote or given[1].zone == "strategy":
                if count == crash_at:
                    raise RuntimeError("the machine stopped")
                count += 1
            return write(*given, **named)

        return counting

    monkeypatch.setattr(Lake, "write", counted(written))
    monkeypatch.setattr(tasks, "write_whole", counted(wrote))
    crashed = 0
    for number, now in enumerate(steps):
        # The account's file, up to six tables, then the feedback: each run dies one write later.
        count, crash_at = 0, number
        try:
            step("broken", strategy, jobs, now=now)
        except RuntimeError:
            crashed += 1
        count, crash_at = 0, -1
        step("broken", strategy, jobs, now=now)
    assert crashed == len(steps)
    lake, folder = Lake(load_settings().lake_path), load_settings().state_path / "paper"
    expected, found = stored(lake, "whole"), stored(lake, "broken")
    assert len(expected["fills"]) > 3
    for name, rows in expected.items():
        pd.testing.assert_frame_equal(found[name].drop(columns="run"), rows.drop(columns="run"), check_exact=True)
    whole, broken = ((folder / f"{name}.npz").read_bytes() for name in ("whole", "broken"))
    books = [PaperAccount.from_bytes(content).books["EURUSD"] for content in (whole, broken)]
    assert books[0].decisions == books[1].decisions
    texts = [(folder / f"{name}.feedback.json").read_text() for name in ("whole", "broken")]
    assert texts[0] == texts[1]
    (group, *_) = TradeFeedback.from_json(texts[0]).groups
    assert group["source"] == "moving_average_cross 1/2"
    assert group["outcomes"] == expected["trades"]["exit_at"].notna().sum()


def test_an_account_does_not_become_another_one_and_damage_names_the_file(project: tuple[str, pd.DataFrame]):
    from tasks.job import plan_jobs
    from tasks.paper import account_path, trade_on_paper

    strategy, bars = project
    (now,) = instants(bars, 9)
    jobs = plan_jobs("local", "", ["EURUSD"], "H1", None, None)
    trade_on_paper.fn("kept", strategy, jobs, capital=5_000.0, now=now)
    with pytest.raises(ConfigurationError, match="trades EURUSD H1 with 5000"):
        trade_on_paper.fn("kept", strategy, jobs, capital=6_000.0, now=now)
    with pytest.raises(ConfigurationError, match="trades EURUSD"):
        trade_on_paper.fn("kept", strategy, plan_jobs("local", "", ["GBPUSD"], "H1", None, None), now=now)
    with pytest.raises(ConfigurationError, match="paper account"):
        trade_on_paper.fn("../kept", strategy, jobs, now=now)
    path = account_path(load_settings().state_path, "kept")
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(DataError, match=r"kept\.npz"):
        trade_on_paper.fn("kept", strategy, jobs, now=now)


def test_scores_are_read_once_they_are_made_and_corrected_by_what_had_closed_by_then(
    project: tuple[str, pd.DataFrame],
):
    from tapeline.strategy.paper_account import open_account
    from tapeline.strategy.signal_sources import Surroundings
    from tapeline.strategy.strategy import parse_strategy
    from tasks.paper import known_by, learned

    _, bars = project
    strategy = parse_strategy(
        {"name": "scored", "signals": {"source": "scores"}, "sizing": {"method": "units", "units": 1_000.0}}
    )
    flips = [0.7 if place % 4 < 2 else 0.3 for place in range(len(bars))]
    scores = pd.DataFrame({"probability": flips, "model": "m", "known_at": bars["close_ts"]}, index=bars.index)
    scores["scored_at"] = bars["close_ts"] + pd.Timedelta("1min")
    around = Surroundings("EURUSD", H1, scores=scores)
    assert known_by(around, instants(bars, 20)[0]).scores.index[-1] == bars.index[19]
    account = open_account("l", strategy, ["EURUSD"], H1, at=bars.index[20])
    for place in range(20, 40):
        now = bars["close_ts"].iloc[place] + pd.Timedelta("2min")
        account = account.step(strategy, {"EURUSD": bars}, {"EURUSD": known_by(around, now)}, now)
    found = account.simulation(strategy)
    trades = found.trades
    first = pd.DatetimeIndex(bars.loc[trades["exit_at"].dropna(), "close_ts"]).min()
    changed = learned(account, found, strategy, "EURUSD", around).scores["probability"] != scores["probability"]
    assert trades["exit_at"].notna().sum() > 3
    assert not changed[scores["known_at"] < first].any()
    assert changed[scores["known_at"] >= first].all()


def test_the_schedule_is_off_until_someone_wants_it():
    text = (Path(__file__).parents[2] / "prefect.yaml").read_text()
    (one,) = [each for each in yaml.safe_load(text)["deployments"] if each["entrypoint"] == "flows/paper.py:paper"]
    assert [schedule["active"] for schedule in one["schedules"]] == [False]
