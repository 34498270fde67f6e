"""The charts flow on the packaged sample: outcomes in the lake, tables that say where there is no edge, a page."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tapeline.charts.reliability import outcomes
from tapeline.core.errors import DataError
from tapeline.core.schemas import CLEAN_BARS, EVENTS, OUTCOMES
from tapeline.core.settings import load_settings
from tapeline.features.trending_regime import name_trend, trending_regime
from tapeline.lake.lake import Lake
from tests.core.samples import eurusd
from tests.flows.artifacts import Shown, artifacts_shown
from tests.lake.support import EURUSD, H1, LINEAGE, raw

pytestmark = pytest.mark.prefect

DETECTORS = '{"break_of_structure": {}, "order_block": {}, "inverse_fair_value_gap": {}, "liquidity_sweep": {}}'


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory):
    """A project folder whose lake holds 3,000 clean hours of EURUSD and nothing else."""
    folder: Path = tmp_path_factory.mktemp("charts")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TAPELINE_ROOT", str(folder))
        patch.setenv("TAPELINE_CHARTS__DETECTORS", DETECTORS)
        patch.delenv("TAPELINE_SETTINGS", raising=False)
        patch.chdir(folder)
        bars = raw(eurusd().iloc[:3_000]).assign(repaired=False, outlier=False, filled=False)
        lake = Lake(load_settings().lake_path)
        lake.write(CLEAN_BARS, bars, EURUSD, H1, lineage=LINEAGE)
        yield folder


@pytest.fixture(scope="module")
def ran(prefect_server: str, root: Path) -> tuple[Lake, list, Shown]:
    from flows.charts import charts

    with artifacts_shown("charts") as shown:
        results = charts(symbols=["EURUSD"], timeframe="H1")
    return Lake(load_settings().lake_path), results, shown


def test_a_series_without_findings_is_scanned_and_each_decided_one_has_an_outcome(ran):
    lake, _, _ = ran
    bars = lake.read(CLEAN_BARS, EURUSD, H1)
    events = lake.read(EVENTS, EURUSD, H1).reset_index()
    told = lake.read(OUTCOMES, EURUSD, H1).reset_index()
    assert {"break_of_structure", "inverse_fair_value_gap"} <= set(told["kind"].astype(str)) <= set(events["kind"])
    plain = outcomes(events, bars).set_index("id")
    assert sorted(told["id"]) == sorted(plain.index)
    stored = told.set_index("id").loc[plain.index]
    for name in ("hit", "base", "reward", "risk", "result"):
        np.testing.assert_array_equal(stored[name], plain[name])
    regimes = pd.Series(name_trend(trending_regime(bars)).to_numpy(), index=bars["close_ts"])
    at_confirmation = regimes.loc[stored["confirmed_at"]]
    assert stored["regime"].astype(object).fillna("").tolist() == at_confirmation.fillna("").tolist()
    assert {"sideways", "trending up", "trending down"} <= set(stored["regime"].dropna())


def test_the_tables_say_which_kinds_show_no_edge_and_are_kept(ran):
    lake, _, shown = ran
    (by_kind,) = shown.of("table", "reliability-h1-by-kind")
    told = lake.read(OUTCOMES, EURUSD, H1)
    assert sum(row["events"] for row in by_kind) == int(told["base"].notna().sum()) > 500
    assert {row["verdict"] for row in by_kind} <= {"edge", "worse than chance", "no edge shown"}
    assert "no edge shown" in {row["verdict"] for row in by_kind}
    assert {"reliability-h1-by-kind-and-symbol", "reliability-h1-by-kind-and-regime"} <= shown.keys("table")
    (text,) = shown.of("markdown", "reliability-h1")
    assert f"Of {len(by_kind)} kinds: " in text
    assert "before costs" in text
    kept = pd.read_csv(load_settings().reports_path / "reliability-H1.csv")
    assert set(kept["by"]) == {"kind", "kind and symbol", "kind and regime"}
    assert kept[kept["by"] == "kind"]["events"].tolist() == [row["events"] for row in by_kind]
    assert set(kept.loc[kept["by"] == "kind and regime", "regime"]) == {"sideways", "trending up", "trending down"}


def test_what_speaks_stands_at_the_last_bar_and_is_weighed_and_drawn(ran):
    lake, (now,), shown = ran
    bars = lake.read(CLEAN_BARS, EURUSD, H1)
    assert now.at == bars["close_ts"].iloc[-1]
    assert len(now.speakers)
    assert now.speakers["weight"].is_monotonic_decreasing
    assert now.speakers["age"].between(0, 99).all()
    counted = now.confluence["bullish"] + now.confluence["bearish"]
    assert counted == len(now.speakers)
    signed = (now.speakers["weight"] * now.speakers["direction"]).sum()
    assert now.confluence["net_weight"] == pytest.approx(signed)
    assert (now.speakers["outcomes"] > 0).any()
    assert "EURUSD H1: what stands" in now.page.read_text()
    (link,) = shown.of("markdown", "confluence-eurusd-h1-page")
    assert now.page.as_uri() in link


def test_a_second_run_changes_nothing_and_a_missing_series_fails_without_stopping_the_others(ran):
    from flows.charts import charts

    lake, (first,), _ = ran
    versions = [lake.version(spec, EURUSD, H1) for spec in (EVENTS, OUTCOMES)]
    kept = (load_settings().reports_path / "reliability-H1.csv").read_bytes()
    with artifacts_shown("charts") as shown, pytest.raises(DataError, match="no clean bars of GBPUSD H1"):
        charts(symbols=["GBPUSD", "EURUSD"], timeframe="H1")
    assert [lake.version(spec, EURUSD, H1) for spec in (EVENTS, OUTCOMES)] == versions
    assert (load_settings().reports_path / "reliability-H1.csv").read_bytes() == kept
    (rows,) = shown.of("table", "confluence-h1")
    assert [row["series"] for row in rows] == ["EURUSD H1"]
    assert rows[0]["net_weight"] == pytest.approx(first.confluence["net_weight"], abs=1e-4)
