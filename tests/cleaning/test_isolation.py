"""Isolation forests: they find what is planted, see no future, and give the same on a tail."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from tapeline.cleaning.isolation import isolation_flags, isolation_flags_whole, isolation_lookback
from tapeline.core.errors import ConfigurationError, DataError
from tapeline.core.registry import feature
from tests.quality.batches import sample_bars

SMALL = {"window": 400, "minimum": 200}


def planted() -> pd.DataFrame:
    bars = sample_bars().iloc[:1500].copy()
    for row in (700, 1100, 1400):
        bars.iloc[row, bars.columns.get_loc("low")] *= 0.97
    return bars


def test_planted_spikes_are_found_and_little_else() -> None:
    flags = isolation_flags(planted(), **SMALL)
    assert flags[[700, 1100, 1400]].all()
    assert not flags[:300].any()  # nothing to fit on in the first weeks
    assert flags.mean() < 0.02
    assert isolation_flags_whole(planted(), minimum=200)[[700, 1100, 1400]].all()


def test_the_future_changes_no_flag_and_the_tail_suffices() -> None:
    bars = planted()
    whole = isolation_flags(bars, **SMALL)
    for cut in (650, 1101, 1333):
        np.testing.assert_array_equal(isolation_flags(bars.iloc[:cut], **SMALL), whole[:cut])
    tail = bars.iloc[-isolation_lookback("H1", 400) :]
    assert isolation_flags(tail, **SMALL)[-1] == whole[-1]
    np.testing.assert_array_equal(isolation_flags(tail, **SMALL)[-90:], whole[-90:])
    with pytest.raises(ConfigurationError, match="reads the future"):
        feature(lookback=1, outputs="x", reference="none")(isolation_flags_whole)


def test_arguments_are_checked() -> None:
    bars = planted()
    for options in ({"contamination": 0.6}, {"minimum": 5}, {"window": 100, "minimum": 200}):
        with pytest.raises(ConfigurationError, match="is not between"):
            isolation_flags(bars, **options)
    with pytest.raises(DataError, match="no time index"):
        isolation_flags(bars.reset_index(drop=True))
    assert not isolation_flags(bars.iloc[:50]).any()
