"""The published indicators against TA-Lib and ta, on real bars; what each function of TA-Lib became."""

from __future__ import annotations

import doctest
import importlib
import warnings
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
import talib
import talib.abstract

from tapeline.core.registry import Catalog, Component, registered
from tapeline.core.timeframe import Timeframe
from tapeline.features import average_indicators, band_indicators, oscillator_indicators, volume_indicators
from tapeline.features.average_indicators import sma
from tapeline.features.engine import compute
from tapeline.features.feature_set import load_feature_set, parse_feature_set
from tapeline.features.library_names import COMPONENTS, LEFT_OUT
from tests.core.samples import eurusd

MODULES = (average_indicators, band_indicators, oscillator_indicators, volume_indicators)
INDICATORS = [component for module in MODULES for component in registered(module)]
SETTLED = 1_500


@pytest.fixture(scope="module")
def bars() -> pd.DataFrame:
    # The sample's volume is zero; ticks of a random size stand in, which the indicators must only add up rightly.
    volume = np.random.default_rng(3).integers(1, 500, len(eurusd())).astype(float)
    return eurusd().assign(volume=volume)


def test_every_function_of_talib_is_a_component_or_left_out_for_a_reason() -> None:
    groups = talib.get_function_groups()
    arithmetic = {*groups["Math Operators"], *groups["Math Transform"]}
    wanted = set(talib.get_functions()) - arithmetic - set(groups["Pattern Recognition"])
    assert set(COMPONENTS) | set(LEFT_OUT) == wanted
    assert not set(COMPONENTS) & set(LEFT_OUT)
    assert set(COMPONENTS.values()) <= set(Catalog.discover())


def test_the_standard_set_is_there_by_name() -> None:
    named = set(COMPONENTS.values()) | {component.name for component in INDICATORS}
    columns = [column for name in named for column in Catalog.discover()[name].output_names()]
    patterns = talib.get_function_groups()["Pattern Recognition"]
    assert len(columns) >= 105
    assert len(columns) + len(patterns) >= 165


@pytest.mark.parametrize("component", INDICATORS, ids=lambda component: component.name)
def test_its_example_runs(component: Component) -> None:
    finder = doctest.DocTestFinder()
    module = importlib.import_module(component.function.__module__)
    runner = doctest.DocTestRunner()
    for example in finder.find(component.function, component.name, module=False, globs=vars(module).copy()):
        assert example.examples
        runner.run(example)
    assert runner.failures == 0


# The published form sums up for ever, or smooths otherwise: their own tests stand below.
BOUNDED = ("AD", "NVI", "OBV", "PVI", "PVT", "VWAP", "SMI")
CLOSE, RANGE, BAR = ("close",), ("high", "low"), ("high", "low", "close")
# Component, its parameters, the function of TA-Lib, its inputs and parameters; where a component computes otherwise
# than by that function, this holds the two apart.
PEERS: tuple[tuple[str, dict[str, object], str, tuple[str, ...], dict[str, object]], ...] = (
    ("sma", {"window": 9}, "SMA", CLOSE, {"timeperiod": 9}),
    ("bollinger_bands", {"window": 12}, "BBANDS", CLOSE, {"timeperiod": 12, "nbdevup": 2.0, "nbdevdn": 2.0}),
    ("close_deviation", {"window": 12}, "STDDEV", CLOSE, {"timeperiod": 12}),
    ("keltner_channel", {"window": 12}, "KC", BAR, {"timeperiod": 12, "atrperiod": 10, "nbdev": 2.0}),
    ("donchian_channel", {"window": 12}, "DONCHIAN", RANGE, {"timeperiod": 12}),
    ("directional_index", {}, "DX", BAR, {"timeperiod": 14}),
    ("directional_rating", {}, "ADXR", BAR, {"timeperiod": 14}),
    ("chande_momentum", {}, "CMOU", CLOSE, {"timeperiod": 14}),
    ("wilder_chande_momentum", {}, "CMO", CLOSE, {"timeperiod": 14}),
    ("absolute_oscillator", {}, "APO", CLOSE, {"fastperiod": 12, "slowperiod": 26, "matype": 1}),
    ("percentage_oscillator", {}, "PPO", CLOSE, {"fastperiod": 12, "slowperiod": 26, "matype": 1}),
    ("vertical_horizontal", {}, "VHF", CLOSE, {"timeperiod": 28}),
    ("mass_index", {}, "MASSI", RANGE, {"fastperiod": 9, "slowperiod": 25}),
    ("chaikin_volatility", {}, "CVI", RANGE, {"timeperiod": 10, "rocperiod": 10}),
    ("relative_volatility", {}, "RVI", CLOSE, {"timeperiod": 14, "stddevperiod": 10}),
    ("coppock", {}, "COPPOCK", CLOSE, {"wmaperiod": 10, "roc1period": 11, "roc2period": 14}),
    ("force_index", {}, "EFI", ("close", "volume"), {"timeperiod": 13}),
    ("percentage_volume_oscillator", {}, "PVO", ("volume",), {"fastperiod": 12, "slowperiod": 26, "matype": 1}),
    ("chaikin_oscillator", {}, "ADOSC", (*BAR, "volume"), {"fastperiod": 3, "slowperiod": 10}),
    ("volume_weighted_average", {}, "VWMA", ("close", "volume"), {"timeperiod": 20}),
    ("market_facilitation", {}, "MARKETFI", ("high", "low", "volume"), {}),
)


@pytest.mark.parametrize(("name", "given", "function", "inputs", "named"), PEERS, ids=lambda value: str(value)[:30])
def test_it_equals_talib(
    name: str,
    given: dict[str, object],
    function: str,
    inputs: tuple[str, ...],
    named: dict[str, object],
    bars: pd.DataFrame,
) -> None:
    ours = Catalog.discover()[name].compute(bars, **given)
    theirs = getattr(talib, function)(*(bars[column].to_numpy() for column in inputs), **named)
    theirs = theirs if isinstance(theirs, tuple) else (theirs,)
    # BBANDS and KC give upper, middle, lower, in the order of the component's columns.
    for column, other in zip(ours.columns, theirs, strict=True):
        scale = np.nanmax(np.abs(other[SETTLED:]))
        np.testing.assert_allclose(ours[column].iloc[SETTLED:], other[SETTLED:], rtol=1e-6, atol=1e-9 * scale)


@pytest.mark.parametrize(
    ("component", "function"),
    [
        (component, library)
        for library, name in COMPONENTS.items()
        for component in INDICATORS
        if component.name == name and library not in {*(peer[2] for peer in PEERS), *BOUNDED}
    ],
    ids=lambda value: getattr(value, "name", value),
)
def test_it_equals_the_function_of_its_name_under_its_own_defaults(
    component: Component, function: str, bars: pd.DataFrame
) -> None:
    ours = component.compute(bars)
    abstract = talib.abstract.Function(function)
    defaults = component.defaults
    names = [key for key in abstract.parameters if key != "matype"]
    given = dict(zip(names, defaults.values(), strict=False))
    inputs = {column: bars[column].to_numpy() for column in ("open", "high", "low", "close", "volume")}
    found = abstract(inputs, **given)
    found = found if isinstance(found, list | tuple) else [found]
    assert len(found) == ours.shape[1]
    for column, other in zip(ours.columns, found, strict=True):
        np.testing.assert_allclose(ours[column].iloc[SETTLED:], other[SETTLED:], rtol=1e-9, atol=1e-12)


def from_ta(call: Callable[[], pd.Series]) -> np.ndarray:
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        return call().to_numpy()[SETTLED:]


def test_what_only_ta_has_equals_ta(bars: pd.DataFrame) -> None:
    import ta

    catalog = Catalog.discover()
    volume = {"high": bars["high"], "low": bars["low"], "volume": bars["volume"]}
    kst = ta.trend.KSTIndicator(bars["close"])
    cases = (
        (
            "vwap",
            "vwap_14",
            ta.volume.VolumeWeightedAveragePrice(close=bars["close"], **volume).volume_weighted_average_price,
            1.0,
        ),
        (
            "ease_of_movement",
            "ease_of_movement_14",
            ta.volume.EaseOfMovementIndicator(**volume).sma_ease_of_movement,
            1e8,
        ),
        ("know_sure_thing", "know_sure_thing_1", kst.kst, 1.0),
        ("know_sure_thing", "know_sure_thing_signal_1", kst.kst_sig, 1.0),
        ("schaff_cycle", "schaff_cycle_23_50_10", ta.trend.STCIndicator(bars["close"]).stc, 1.0),
        ("trix", "trix_15", ta.trend.TRIXIndicator(bars["close"]).trix, 1.0),
    )
    for name, column, theirs, factor in cases:
        ours = catalog[name].compute(bars)[column].iloc[SETTLED:] * factor
        np.testing.assert_allclose(ours, from_ta(theirs), rtol=1e-6, atol=1e-6 * float(ours.abs().max()), err_msg=name)


def test_stochastic_momentum_is_blaus_formula(bars: pd.DataFrame) -> None:
    def smoothed(values: pd.Series) -> pd.Series:
        return values.ewm(span=25, adjust=False).mean().ewm(span=2, adjust=False).mean()

    top, bottom = bars["high"].rolling(13).max(), bars["low"].rolling(13).min()
    theirs = 100 * smoothed(bars["close"] - (top + bottom) / 2) / (smoothed(top - bottom) / 2)
    ours = Catalog.discover()["stochastic_momentum"].compute(bars).iloc[SETTLED:, 0]
    np.testing.assert_allclose(ours, theirs.iloc[SETTLED:], rtol=1e-6, atol=1e-6)


def test_changes_over_a_window_are_differences_of_the_sums_for_ever(bars: pd.DataFrame) -> None:
    catalog, window = Catalog.discover(), 20
    high, low, close, volume = (bars[name].to_numpy() for name in ("high", "low", "close", "volume"))

    def change(line: np.ndarray) -> np.ndarray:
        return line[window:] - line[:-window]

    cases = (
        ("accumulation_change", talib.AD(high, low, close, volume)),
        ("on_balance_change", talib.OBV(close, volume)),
        ("price_trend_change", np.cumsum(np.r_[0.0, np.diff(close) / close[:-1]] * volume)),
    )
    for name, line in cases:
        ours = catalog[name].compute(bars, window=window).iloc[window:, 0]
        np.testing.assert_allclose(ours, change(line), rtol=1e-7, atol=1e-5, err_msg=name)
    for name, function in (("quiet_return", talib.NVI), ("busy_return", talib.PVI)):
        ours = catalog[name].compute(bars, window=window).iloc[window:, 0]
        np.testing.assert_allclose(ours, change(np.log(function(close, volume))), atol=1e-9, err_msg=name)


def test_an_unknown_volume_is_unknown_for_a_while_and_not_for_ever(bars: pd.DataFrame) -> None:
    holed = bars.assign(volume=bars["volume"].where(np.arange(len(bars)) != 1_000))
    for component in registered(volume_indicators):
        found = component.compute(holed)
        assert found.iloc[1_000].isna().any(), component.name
        assert found.iloc[1_600:].notna().all(axis=None), component.name


def test_a_set_file_names_them_and_the_packaged_sets_know_no_level(bars: pd.DataFrame) -> None:
    chosen = parse_feature_set({"name": "mine", "feature": [{"component": "sma", "window": 5}, {"component": "atr"}]})
    found = compute(chosen, bars, Timeframe.parse("H1"))
    assert list(found.columns) == ["known_at", "sma_5", "atr_14"]
    np.testing.assert_array_equal(found["sma_5"], sma(bars, window=5).astype(np.float32))
    for packaged in ("core", "macro", "standard"):
        for feature in load_feature_set(packaged).features:
            assert feature.component.scale == (0, 0), feature.component.name


def test_the_standard_set_is_wide_and_runs_on_a_short_lookback() -> None:
    chosen = load_feature_set("standard")
    assert len(chosen.columns) >= 150
    assert chosen.lookback <= 1_500
