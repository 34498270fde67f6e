"""The engine: declared columns, point-in-time context, and the same numbers on the tail as on all history."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from tapeline.core.errors import ConfigurationError, DataError
from tapeline.core.schemas import features_spec
from tapeline.core.timeframe import Timeframe
from tapeline.features.engine import compute
from tapeline.features.feature_set import load_feature_set, parse_feature_set
from tests.core.samples import eurusd, rough_bars

H1, D1 = Timeframe.parse("H1"), Timeframe.parse("D1")
FLOAT32 = 1e-6


@pytest.fixture(scope="module")
def real() -> pd.DataFrame:
    return eurusd()


@pytest.fixture(scope="module")
def whole(real) -> pd.DataFrame:
    return compute(load_feature_set(), real, H1)


def daily(days: int = 300, start: str = "2016-12-01") -> pd.DataFrame:
    ts = pd.date_range(start, periods=days, freq="1D", tz="UTC", name="ts").as_unit("ns")
    close = np.arange(1.0, days + 1.0)
    return pd.DataFrame({"open": close, "high": close, "low": close, "close": close, "volume": 1.0}, index=ts)


def test_the_whole_set_matches_its_table(real, whole) -> None:
    chosen = load_feature_set()
    assert list(whole.columns) == ["known_at", *chosen.columns]
    assert (whole[list(chosen.columns)].dtypes == np.float32).all()
    assert (whole["known_at"] == real["close_ts"]).all()
    table = features_spec(chosen.version, chosen.columns).to_arrow(whole)
    assert table.num_rows == len(real)


def test_every_feature_has_values_on_real_bars_after_its_warm_up(whole) -> None:
    features = whole.drop(columns="known_at")
    missing = features.iloc[800:].isna().mean()
    assert missing.max() < 0.02, missing[missing > 0.02]
    assert features.iloc[:1].isna().any().any()


@pytest.mark.parametrize("end", [6225, 5000, 3333, 1777, 1501])
@pytest.mark.parametrize("tail", [1, 5])
def test_the_tail_equals_all_history_for_every_feature(real, whole, end, tail) -> None:
    chosen = load_feature_set()
    live = compute(chosen, real.iloc[:end], H1, tail=tail)
    assert len(live) == tail
    expected = whole.iloc[end - tail : end]
    pd.testing.assert_index_equal(live.index, expected.index)
    for feature in chosen.features:
        tolerance = feature.component.tolerance
        for name in feature.columns:
            np.testing.assert_allclose(
                live[name], expected[name], rtol=tolerance.relative + FLOAT32, atol=tolerance.absolute, err_msg=name
            )


def test_the_tail_after_gaps_spikes_and_quiet_stretches() -> None:
    chosen = load_feature_set()
    bars = rough_bars(chosen.lookback + 400)
    everything = compute(chosen, bars, H1)
    for end in range(len(bars) - 280, len(bars), 7):
        live = compute(chosen, bars.iloc[:end], H1, tail=1)
        np.testing.assert_allclose(
            live[list(chosen.columns)], everything[list(chosen.columns)].iloc[end - 1 : end], rtol=5e-6, atol=2e-5
        )


def test_the_tail_reads_only_what_it_needs(real) -> None:
    chosen = parse_feature_set({"name": "short", "feature": [{"component": "log_return"}]})
    early = real.copy()
    early.iloc[:-10, :4] = -1.0  # would be refused if it were read
    assert len(compute(chosen, early, H1, tail=3)) == 3


def test_it_is_deterministic_and_leaves_its_bars_alone(real, whole) -> None:
    before = real.copy(deep=True)
    pd.testing.assert_frame_equal(compute(load_feature_set(), real, H1), whole)
    pd.testing.assert_frame_equal(real, before)


def test_close_ts_is_derived_where_it_is_missing(real, whole) -> None:
    pd.testing.assert_frame_equal(compute(load_feature_set(), real.drop(columns="close_ts"), H1), whole)


MACRO = {
    "name": "context",
    "context": {"vix": {"symbol": "VIX", "timeframe": "D1", "tolerance_days": 3}},
    "feature": [{"component": "context_level"}],
}


def test_context_is_seen_from_its_close_on_and_not_before(real) -> None:
    chosen = parse_feature_set(MACRO)
    bars = real.loc["2017-01-03 20:00":"2017-01-04 02:00"]
    context = daily()
    result = compute(chosen, bars, H1, context={"vix": (context, D1)})["vix_close_level"]
    before = context.loc["2017-01-02", "close"].item()
    # The daily bar of the 3rd closes at midnight: the hour that ends then is the first to see it.
    assert result.loc["2017-01-03 22:00"] == before
    assert result.loc["2017-01-03 23:00"] == before + 1
    assert result.loc["2017-01-04 01:00"] == before + 1


def test_context_that_arrived_late_is_seen_late(real) -> None:
    chosen = parse_feature_set(MACRO)
    bars = real.loc["2017-01-03 20:00":"2017-01-04 08:00"]
    context = daily()
    context["known_at"] = context.index + pd.Timedelta(days=1, hours=6)
    result = compute(chosen, bars, H1, context={"vix": (context, D1)})["vix_close_level"]
    assert result.loc["2017-01-04 04:00"] < result.loc["2017-01-04 05:00"]


def test_context_that_is_too_old_is_missing(real) -> None:
    chosen = parse_feature_set(MACRO)
    context = daily().loc[:"2017-01-05"]
    result = compute(chosen, real, H1, context={"vix": (context, D1)})["vix_close_level"]
    assert result.loc["2017-01-08 23:00"] == context["close"].iloc[-1]
    assert np.isnan(result.loc["2017-01-09 01:00"])


def test_the_tail_with_context_equals_all_history(real) -> None:
    chosen = load_feature_set("macro")
    context = {"vix": (daily(500), D1), "sp500": (daily(500), D1)}
    everything = compute(chosen, real, H1, context=context)
    live = compute(chosen, real, H1, context=context, tail=3)
    pd.testing.assert_frame_equal(live, everything.iloc[-3:], rtol=1e-5)
    assert everything.iloc[-3:].notna().all().all()


def test_a_missing_context_names_what_to_ingest(real) -> None:
    with pytest.raises(ConfigurationError, match="ingest VIX D1"):
        compute(parse_feature_set(MACRO), real, H1)


def test_a_missing_optional_context_is_nan(real) -> None:
    optional = {**MACRO, "context": {"vix": {"symbol": "VIX", "timeframe": "D1", "optional": True}}}
    assert compute(parse_feature_set(optional), real.head(), H1)["vix_close_level"].isna().all()


def test_a_context_of_another_timeframe_or_prefix_is_refused(real) -> None:
    chosen = parse_feature_set(MACRO)
    with pytest.raises(ConfigurationError, match="declared is D1"):
        compute(chosen, real, H1, context={"vix": (daily(), H1)})
    with pytest.raises(ConfigurationError, match="no context"):
        compute(chosen, real, H1, context={"vxi": (daily(), D1)})
    with pytest.raises(ConfigurationError, match=r"lacks the columns \['close'\]"):
        compute(chosen, real, H1, context={"vix": (daily().drop(columns="close"), D1)})


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda bars: bars.iloc[::-1], "not sorted"),
        (lambda bars: pd.concat([bars, bars]).sort_index(), "repeat"),
        (lambda bars: bars.tz_localize(None), "UTC"),
        (lambda bars: bars.tz_convert("Europe/Berlin"), "UTC"),
        (lambda bars: bars.drop(columns="volume"), "volume"),
        (lambda bars: bars.assign(low=bars["low"].where(bars.index != bars.index[5])), "low is nan at 2017-01-02 03"),
        (lambda bars: bars.assign(open=-bars["open"]), "open is -1"),
        (lambda bars: bars.assign(high=np.inf), "high is inf"),
    ],
)
def test_bars_that_are_not_clean_are_refused(real, spoil, message) -> None:
    with pytest.raises(DataError, match=message):
        compute(load_feature_set(), spoil(real.head(50)), H1)


def test_unknown_volume_costs_only_the_windows_that_hold_it(real) -> None:
    chosen = load_feature_set()
    bars = real.head(700).copy()
    bars.iloc[400, bars.columns.get_loc("volume")] = np.nan
    spoilt = compute(chosen, bars, H1).isna()
    whole = compute(chosen, real.head(700), H1).isna()
    extra = spoilt & ~whole
    assert extra.iloc[400].sum() >= 5
    assert not extra.iloc[:400].any().any()
    assert not extra.iloc[460:].any().any()


def test_a_component_that_gives_infinity_is_refused(real, tmp_path) -> None:
    (tmp_path / "mine.py").write_text(
        "import numpy as np\nfrom tapeline.core.registry import feature\n"
        "@feature(lookback=1, outputs='endless', reference='')\n"
        "def endless(bars):\n    return bars['close'] * np.inf\n"
    )
    chosen = parse_feature_set({"name": "mine", "feature": [{"component": "mine.py:endless"}]}, folder=tmp_path)
    with pytest.raises(DataError, match="'endless' is infinite"):
        compute(chosen, real.head(), H1)


def test_tail_must_be_positive(real) -> None:
    with pytest.raises(ConfigurationError, match="tail = 0"):
        compute(load_feature_set(), real, H1, tail=0)
