"""Many symbols at once give what each gives alone; history is the same bits whoever computes it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest

from tapeline.core.errors import DataError
from tapeline.core.registry import Catalog, Component
from tapeline.core.timeframe import Timeframe
from tapeline.features.engine import compute
from tapeline.features.feature_set import Feature, FeatureSet, load_feature_set, parse_feature_set
from tapeline.features.panel import compute_panel, latest
from tests.core.samples import rough_bars
from tests.core.test_registry_properties import CONTEXT
from tests.support import make_bars

H1 = Timeframe.parse("H1")
FEATURES = Catalog.discover().of_kind("feature")


def panel_of(rows: int) -> dict[str, pd.DataFrame]:
    """Five instruments of very different levels; one is rough, one trades nothing."""
    bars = [make_bars(rows, seed=seed) for seed in range(4)]
    prices = ["open", "high", "low", "close"]
    for position, level in enumerate((1.0, 63_000.0, 1e-6, 150.0)):
        bars[position][prices] *= level
    bars[3]["volume"] = 0.0
    context = {name: np.linspace(10.0, 20.0, rows) for name in CONTEXT}
    panel = {name: frame.assign(**context) for name, frame in zip("ABCD", bars, strict=True)}
    return {**panel, "E": rough_bars(rows).assign(**context)}


@pytest.mark.parametrize("component", FEATURES, ids=lambda component: component.name)
def test_each_symbol_gets_from_the_panel_what_it_gets_alone(component: Component) -> None:
    chosen = FeatureSet("one", (Feature(component, component.parameters({})),), {})
    panel = panel_of(max(component.lookback_of() + 5, 600))
    together = latest(chosen, panel, H1)
    for symbol, bars in panel.items():
        alone = component.compute(bars.iloc[-max(component.lookback_of(), 64) :]).iloc[-1].astype(np.float32)
        np.testing.assert_allclose(
            together.loc[symbol, list(chosen.columns)].to_numpy(dtype=np.float64),
            alone.to_numpy(dtype=np.float64),
            rtol=max(component.tolerance.relative, 1e-6),
            atol=max(component.tolerance.absolute, 1e-6 if component.scale == (0, 0) else 0.0),
            err_msg=f"{component.name} of {symbol}",
        )


def test_a_young_symbol_has_no_neighbours_bars_in_its_warm_up() -> None:
    chosen = parse_feature_set({"name": "mine", "feature": [{"component": "return_moments"}, {"component": "rsi"}]})
    panel = {"old": make_bars(600, seed=1), "young": make_bars(50, seed=2), "other": make_bars(600, seed=3)}
    found = latest(chosen, panel, H1)
    assert found.loc["young", list(chosen.columns[:2])].isna().all()
    alone = compute(chosen, panel["young"], H1, tail=1)
    np.testing.assert_array_equal(found.loc["young", "rsi_14"], alone["rsi_14"].iloc[0])
    assert list(found.index) == ["old", "young", "other"]
    assert found.loc["young", "known_at"] == panel["young"]["close_ts"].iloc[-1]


def test_the_core_set_of_a_panel_equals_the_tail_of_each() -> None:
    chosen = load_feature_set()
    panel = {name: bars[["open", "high", "low", "close", "volume"]] for name, bars in panel_of(1_600).items()}
    # One symbol is a day behind.
    panel["B"] = panel["B"].iloc[:-24]
    found = latest(chosen, panel, H1)
    for symbol, bars in panel.items():
        alone = compute(chosen, bars, H1, tail=1)
        assert found.loc[symbol, "ts"] == bars.index[-1]
        np.testing.assert_allclose(
            found.loc[symbol, list(chosen.columns)].to_numpy(dtype=float),
            alone[list(chosen.columns)].to_numpy(dtype=float)[0],
            rtol=2e-5,
            atol=1e-5,
            err_msg=symbol,
        )


def test_history_is_the_same_bits_by_threads_and_by_one() -> None:
    chosen = load_feature_set()
    panel = {name: bars[["open", "high", "low", "close", "volume"]] for name, bars in panel_of(700).items()}
    plain = compute_panel(chosen, panel, H1)
    with ThreadPoolExecutor(2) as executor:
        threaded = compute_panel(chosen, panel, H1, executor=executor)
    assert list(plain) == list(threaded) == list(panel)
    for symbol, frame in plain.items():
        pd.testing.assert_frame_equal(threaded[symbol], frame, check_exact=True)
        pd.testing.assert_frame_equal(compute(chosen, panel[symbol], H1), frame, check_exact=True)


def test_history_is_the_same_bits_on_a_cluster() -> None:
    distributed = pytest.importorskip("distributed")
    chosen = parse_feature_set({"name": "mine", "feature": [{"component": "rsi"}, {"component": "return_moments"}]})
    panel = {name: make_bars(300, seed=seed) for seed, name in enumerate("ABC")}
    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, processes=False, dashboard_address=None) as cluster,
        distributed.Client(cluster) as client,
    ):
        spread = compute_panel(chosen, panel, H1, executor=client.get_executor())
    for symbol, frame in compute_panel(chosen, panel, H1).items():
        pd.testing.assert_frame_equal(spread[symbol], frame, check_exact=True)


def test_a_bad_price_is_refused_with_its_symbol() -> None:
    chosen = parse_feature_set({"name": "mine", "feature": [{"component": "rsi"}]})
    bad = make_bars(600).assign(close=-1.0)
    for call in (latest, compute_panel):
        with pytest.raises(DataError, match="EURUSD: bars: close is -1"):
            call(chosen, {"GBPUSD": make_bars(600), "EURUSD": bad}, H1)
    with pytest.raises(DataError, match="EURUSD has no bar"):
        latest(chosen, {"EURUSD": make_bars(600).iloc[:0]}, H1)
