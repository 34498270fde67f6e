"""The distribution monitor: pieces give what the whole gives, unchanged rows raise nothing, changed ones are named."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import lfilter

from tapeline.core.errors import ConfigurationError, DataError
from tapeline.quality.block_bootstrap import block_length, draw_rows
from tapeline.quality.distances import kolmogorov_smirnov, mean_discrepancy, wasserstein
from tapeline.quality.distribution import DistributionMonitor, Reference
from tapeline.quality.histogram import bin_counts, jensen_shannon, stability

HOURS = pd.date_range("2017-01-02", periods=1_500, freq="h", tz="UTC", name="ts", unit="ns")


def rows(seed: int = 0, memory: float = 0.0) -> pd.DataFrame:
    steps = np.random.default_rng(seed).normal(size=(1_500, 3))
    frame = pd.DataFrame(lfilter([1], [1, -memory], steps, axis=0), index=HOURS, columns=["one", "two", "three"])
    frame.iloc[::7, 2] = np.nan
    return frame


def fed(frame: pd.DataFrame, cuts: list[int], **named) -> DistributionMonitor:
    monitor = DistributionMonitor(Reference.freeze(rows()[:1_000]), **named)
    for start, end in zip([0, *cuts], [*cuts, len(frame)], strict=True):
        monitor.update(frame[start:end])
    return monitor


@given(cuts=st.lists(st.integers(0, 500), max_size=6).map(sorted), window=st.sampled_from([None, 40, 200]))
@settings(max_examples=25, deadline=None)
def test_pieces_give_what_the_whole_gives(cuts, window):
    newer = rows()[1_000:]
    one, other = fed(newer, cuts, window=window), fed(newer, [], window=window)
    held = newer if window is None else newer[-window:]
    assert len(one) == len(held)
    for part in one.reference.columns:
        expected = bin_counts(held[part.name].to_numpy(), part.edges)
        np.testing.assert_array_equal(one.counts[part.name], expected)
        np.testing.assert_array_equal(other.counts[part.name], expected)


def test_pieces_and_merged_monitors_report_the_same():
    newer = rows()[1_000:]
    whole, parts = fed(newer, []), fed(newer[:200], [30])
    later = DistributionMonitor(whole.reference)
    later.update(newer[200:])
    parts.merge(later)
    one, other = (monitor.report(repeats=99, alpha=0.02) for monitor in (whole, parts))
    pd.testing.assert_frame_equal(one, other)
    with pytest.raises(DataError, match="order of time"):
        parts.update(newer[:10])
    with pytest.raises(DataError, match="different references"):
        parts.merge(DistributionMonitor(Reference.freeze(rows(1)[:1_000])))


def test_what_changed_is_named_and_nothing_else():
    newer = rows()[1_000:].copy()
    newer["two"] += 0.8
    newer.loc[newer.index[::2], "three"] = np.nan
    found = fed(newer, []).report()
    alarms = found[found["alarm"]]
    assert set(alarms[alarms["column"] == "two"]["statistic"]) == {"psi", "ks", "wasserstein", "jensen_shannon", "mmd"}
    assert alarms[alarms["column"] == "three"]["statistic"].tolist() == ["missing"]
    assert "one" not in set(alarms["column"])
    shift = found[(found["column"] == "two") & (found["statistic"] == "wasserstein")].iloc[0]
    assert shift["value"] == pytest.approx(0.8, abs=0.1), "in standard deviations of the reference"
    assert shift["after"] - shift["before"] == pytest.approx(0.8, abs=0.1)


def test_unchanged_rows_with_memory_raise_few_alarms_where_limits_for_independent_rows_raise_many():
    from scipy.stats import ks_2samp

    monitored = tested = 0
    for seed in range(20):
        frame = rows(seed, memory=0.9)
        monitor = DistributionMonitor(Reference.freeze(frame[:1_000]))
        monitor.update(frame[1_000:])
        monitored += bool(monitor.report(repeats=99, alpha=0.01)["changed"].any())
        tested += any(
            ks_2samp(frame[n][:1_000].dropna(), frame[n][1_000:].dropna()).pvalue < 0.01 / 3 for n in frame.columns
        )
    assert monitored <= 4
    assert tested >= 15


def test_a_constant_column_and_an_empty_one_do_not_stop_the_others():
    frame = rows().assign(constant=1.0, empty=np.nan, text="x")
    reference = Reference.freeze(frame[:1_000])
    assert reference.names == ("one", "two", "three", "constant")
    monitor = DistributionMonitor(reference)
    monitor.update(frame[1_000:].assign(constant=2.0))
    found = monitor.report(repeats=99, alpha=0.02)
    assert set(found[found["alarm"]]["column"]) == {"constant"}
    gone = DistributionMonitor(reference)
    gone.update(frame[1_000:].assign(one=np.nan))
    found = gone.report(repeats=99, alpha=0.02).set_index(["column", "statistic"])
    assert np.isnan(found.loc[("one", "psi"), "value"])
    assert found.loc[("one", "missing"), "alarm"]


def test_a_reference_is_named_by_its_content_and_cannot_be_written_to():
    frame = rows()[:1_000]
    reference = Reference.freeze(frame)
    assert reference.version == Reference.freeze(frame.copy()).version != Reference.freeze(frame * 2).version
    with pytest.raises(ValueError, match="read-only"):
        reference.values[0, 0] = 1.0  # noqa: PD011


def test_blocks_are_as_long_as_the_memory_and_wrap_around():
    assert block_length(rows()[["one"]].to_numpy(), 400) == 12
    assert block_length(rows(memory=0.9)[["one"]].to_numpy(), 400) > 50
    assert block_length(rows(memory=0.9)[["one"]].to_numpy(), 20) == 20
    drawn = draw_rows(100, 25, 10, 50, seed=1)
    assert drawn.shape == (50, 25)
    steps = np.diff(drawn, axis=1) % 100
    assert (np.delete(steps, [9, 19], axis=1) == 1).all()
    assert (drawn < 100).all()
    np.testing.assert_array_equal(drawn, draw_rows(100, 25, 10, 50, seed=1))


def test_drawn_windows_lie_as_far_from_the_reference_as_the_distances_say():
    frame = rows(memory=0.5)[:400].round(1)
    reference = Reference.freeze(frame)
    window, block = 60, 7
    null = reference.resampled(window, repeats=5, block=block, seed=3)
    drawn = draw_rows(400, window, block, 5, seed=3)
    more = 1 + window / 400
    for place, part in enumerate(reference.columns):
        for repeat in range(5):
            values = reference.values[drawn[repeat], place]  # noqa: PD011
            held = np.sort(values[np.isfinite(values)])
            counted = bin_counts(values, part.edges).astype(float)
            expected = [
                more * stability(part.counts.astype(float), counted),
                np.sqrt(more) * kolmogorov_smirnov(part.ordered, held),
                np.sqrt(more) * wasserstein(part.ordered, held) / part.spread,
                np.sqrt(more) * jensen_shannon(part.counts.astype(float), counted),
                more * mean_discrepancy(part.ordered, held, width=part.width),
                np.sqrt(more) * abs(np.isnan(values).mean() - np.isnan(frame[part.name]).mean()),
            ]
            np.testing.assert_allclose(null[place, :, repeat], expected, rtol=1e-9, atol=1e-12)


def test_hours_of_eurusd_do_not_drift_and_a_wider_range_does():
    from tapeline.core.settings import load_settings
    from tapeline.core.symbol import Symbol
    from tapeline.core.timeframe import Timeframe
    from tapeline.sources.base import BarRequest, open_source, require

    request = BarRequest(Symbol.parse("EURUSD"), Timeframe.parse("H1"), None, None)
    bars = require(open_source("sample", load_settings()).fetch(request)).bars
    values = pd.DataFrame({"log_return": np.log(bars["close"]).diff(), "log_range": np.log(bars["high"] / bars["low"])})
    monitor = DistributionMonitor(Reference.freeze(values[:3_000]))
    monitor.update(values[3_000:3_500])
    assert not monitor.report(repeats=199)["alarm"].any()
    wider = DistributionMonitor(monitor.reference)
    wider.update(values[3_000:3_500].assign(log_range=2 * values["log_range"]))
    found = wider.report(repeats=199)
    assert set(found[found["alarm"]]["column"]) == {"log_range"}


def test_what_says_too_little_is_refused():
    with pytest.raises(DataError, match="200 rows"):
        Reference.freeze(rows()[:199])
    with pytest.raises(DataError, match="window of 10 rows"):
        fed(rows()[1_000:1_010], []).report()
    with pytest.raises(ConfigurationError, match="alpha"):
        fed(rows()[1_000:], []).report(alpha=0.001, repeats=99)
    with pytest.raises(DataError, match="lack"):
        fed(rows()[["one"]][1_000:], [])
    with pytest.raises(DataError, match="not sorted"):
        Reference.freeze(rows()[::-1])
