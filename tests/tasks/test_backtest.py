"""What a backtest reads from the lake: rates between currencies, scores, findings, each from when it was known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tapeline.core.errors import DataError
from tapeline.core.schemas import CLEAN_BARS, EVENTS, SCORES
from tapeline.core.settings import load_settings
from tapeline.core.symbol import Symbol
from tapeline.lake.lake import Lake
from tapeline.strategy.strategy import load_strategy, parse_strategy
from tapeline.strategy.strategy_decisions import decide
from tasks.backtest import exchange_rates, from_first_score, read_bars, surroundings
from tasks.job import Job, plan_jobs
from tests.lake.support import EURUSD, H1, LINEAGE, raw
from tests.support import make_bars

BARS = make_bars(300, seed=3)
NAMES = ("EURUSD", "USDJPY", "GOLD")


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory):
    """A lake with the clean bars of three symbols, of which two are pairs of currencies."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TAPELINE_ROOT", str(tmp_path_factory.mktemp("backtest")))
        patch.delenv("TAPELINE_SETTINGS", raising=False)
        held = Lake(load_settings().lake_path)
        for name, times in zip(NAMES, (1, 100, 1000), strict=True):
            bars = raw(BARS).assign(repaired=False, outlier=False, filled=False)
            bars[["open", "high", "low", "close"]] *= times
            held.write(CLEAN_BARS, bars, Symbol.parse(name), H1, lineage=LINEAGE)
        yield held


def jobs(*names: str) -> list[Job]:
    return plan_jobs("run", "", list(names), "H1", None, None)


def strategy(**tables):
    signals = {"source": "moving_average_cross", "fast": 5, "slow": 20}
    return parse_strategy({"name": "mine", "signals": signals, "sizing": {"method": "notional"}, **tables})


def test_rates_are_the_closes_of_pairs_known_at_their_close(lake: Lake):
    assert exchange_rates(lake, strategy(), jobs("EURUSD", "GOLD"), None) is None
    rates = exchange_rates(lake, strategy(account={"currency": "EUR"}), jobs("EURUSD", "USDJPY"), None)
    assert rates is not None
    at = pd.DatetimeIndex(BARS["close_ts"])
    dollars = rates.rates("JPY", "USD", at)
    assert np.allclose(dollars, 1 / (100 * BARS["close"]))
    assert np.allclose(rates.rates("JPY", "EUR", at), dollars / BARS["close"].to_numpy())
    with pytest.raises(DataError, match="no rate at"):
        rates.rates("JPY", "USD", at[:1] - pd.Timedelta("1ns"))


def test_the_account_of_scores_begins_with_the_first(lake: Lake):
    scored = load_strategy("score_threshold")
    (job,) = jobs("EURUSD")
    with pytest.raises(DataError, match="no scores of EURUSD H1"):
        surroundings(lake, scored, job)
    tail = BARS.iloc[200:]
    rows = pd.DataFrame(
        {
            "known_at": tail["close_ts"],
            "probability": 0.6,
            "side": 1,
            "confidence": 0.6,
            "model": "direction",
            "model_version": "1",
            "scored_at": tail["close_ts"],
            **dict.fromkeys(("feature_set_version", "label_version", "data_version"), "x@1"),
        },
        index=tail.index,
    )
    lake.write(SCORES, rows, EURUSD, H1, lineage=LINEAGE)
    seen = surroundings(lake, scored, job)
    assert seen.scores is not None
    assert len(seen.scores) == 100
    kept = from_first_score(scored, {"EURUSD": read_bars(lake, job)}, {"EURUSD": seen})
    assert kept["EURUSD"].index.equals(tail.index)
    with pytest.raises(DataError, match="no bar of EURUSD comes after the first score"):
        from_first_score(scored, {"EURUSD": BARS.iloc[:100]}, {"EURUSD": seen})
    plain = {"EURUSD": BARS}
    assert from_first_score(strategy(), plain, {"EURUSD": seen}) is plain


def test_findings_that_rules_read_come_by_kind(lake: Lake, tmp_path: Path):
    (tmp_path / "own.toml").write_text(
        'name = "own"\n[[rule]]\nname = "buy"\naction = "long"\nwhen = "order_block.count > 0"\n', encoding="utf-8"
    )
    named = {"source": "rules", "rules": "own.toml"}
    by_findings = parse_strategy({"name": "mine", "signals": named}, folder=tmp_path)
    (job,) = jobs("EURUSD")
    with pytest.raises(DataError, match="no findings of kind 'order_block'"):
        surroundings(lake, by_findings, job)
    at = BARS["close_ts"]
    rows = pd.DataFrame(
        {
            "id": ["a", "b"],
            "kind": ["order_block", "fair_value_gap"],
            "direction": [1, -1],
            **{name: [at.iloc[10], at.iloc[20]] for name in ("start", "end", "confirmed_at")},
        }
    )
    lake.write(EVENTS, rows, EURUSD, H1, lineage=LINEAGE)
    seen = surroundings(lake, by_findings, job)
    assert list(seen.events) == ["order_block"]
    assert seen.events["order_block"]["id"].tolist() == ["a"]
    # What is confirmed at a close stands at that close, and the rule enters there.
    made = decide(by_findings, read_bars(lake, job), seen).decisions
    assert made.index.tolist() == [BARS.index[10]]
