"""Filtered price: every method passes the audit, and follows price by its declared delay."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pandas as pd
import pytest

from tapeline.core.audit import audit
from tapeline.core.registry import component_of
from tapeline.core.timeframe import Timeframe
from tapeline.features.filters import FilterName, filtered_close
from tapeline.features.relative_volume import time_of_day_volume
from tapeline.features.spectrum import strongest_wave
from tapeline.features.wavelets import wavelet_energy
from tests.core.samples import eurusd, rough_bars
from tests.support import make_bars


@pytest.mark.parametrize("method", get_args(FilterName))
def test_every_method_passes_the_audit(method) -> None:
    findings = audit(
        component_of(filtered_close), rough_bars(700), Timeframe.parse("H1"), parameters={"method": method}, cuts=40
    )
    assert all(finding.passed for finding in findings), [str(finding) for finding in findings]


@pytest.mark.parametrize("method", get_args(FilterName))
def test_the_course_is_late_by_the_declared_delay(method) -> None:
    steps = np.arange(1500.0)
    bars = pd.DataFrame({"high": 101.0 + steps, "low": 99.0 + steps, "close": 100.0 + steps})
    found = filtered_close(bars, method=method).iloc[-1]
    delay = component_of(filtered_close).delay_of(method=method)
    # The average true range is 2 here, the slope 1 a bar.
    assert 2.0 * found[f"{method}_distance_20"] == pytest.approx(delay, abs=1e-4)
    assert 2.0 * found[f"{method}_slope_20"] == pytest.approx(1.0, abs=1e-6)


def test_features_say_what_they_promise() -> None:
    bars = make_bars(1500)
    energy = wavelet_energy(bars, window=800).iloc[-1]
    assert energy.sum() == pytest.approx(1.0)
    np.testing.assert_allclose(energy.iloc[:2], [0.5, 0.25], atol=0.08)
    real = eurusd().head(1500)
    wave = strongest_wave(real).dropna()
    assert wave["wave_period_128"].between(2, 128).all()
    assert wave["wave_share_128"].between(0, 1).all()
    relative = time_of_day_volume(real).iloc[500:]
    plain = (real["volume"] / real["volume"].median()).iloc[500:]
    by_hour = [x.groupby(x.index.hour).median().std() for x in (relative, plain)]
    assert by_hour[0] < 0.5 * by_hour[1], "the shape of the day is taken out"
