"""The outcome of the next candle, case by case and on real bars."""

from __future__ import annotations

import numpy as np
import pytest

from tapeline.labels.candle_outcome import OUTCOMES, candle_outcome
from tests.core.samples import eurusd
from tests.labels.test_outcomes import bars_of


@pytest.mark.parametrize(
    ("following", "name", "rejected"),
    [
        ((101, 104, 101, 103), "continuation", None),
        ((101, 101, 97, 98), "reversal", None),
        ((101, 101.5, 100, 100.5), "inside", None),
        ((101, 102, 99, 100.5), "inside", None),
        ((101, 103, 100, 101), "rejection", 1.0),
        ((101, 101, 98, 100), "rejection", -1.0),
        ((101, 103, 98, 100), "rejection", 0.0),
        ((101, 104, 97, 103), "continuation", None),
    ],
)
def test_after_a_white_candle_and_its_mirror(following, name, rejected) -> None:
    first = (100, 102, 99, 101)
    found = candle_outcome(bars_of(first, following)).iloc[0]
    assert OUTCOMES[found["value"]] == name
    assert found["outcome"] == pytest.approx(following[3] / following[0] - 1)
    # Turned upside down, the sides change and the outcome does not.
    turned = [(200 - o, 200 - low, 200 - high, 200 - c) for o, high, low, c in (first, following)]
    mirror = candle_outcome(bars_of(*turned)).iloc[0]
    assert OUTCOMES[mirror["value"]] == name
    if rejected is None:
        assert np.isnan(found["rejected"])
    else:
        assert (found["rejected"], mirror["rejected"]) == (rejected, -rejected)


def test_a_candle_without_a_body_has_no_label() -> None:
    assert candle_outcome(bars_of((100, 102, 99, 100), (100, 104, 100, 103))).empty


def test_on_real_bars_against_the_words() -> None:
    bars = eurusd().iloc[:600]
    ours = candle_outcome(bars)
    assert set(ours["value"]) == {-1.0, 0.0, 1.0, 2.0}
    for row in range(len(bars) - 1):
        own, following = bars.iloc[row], bars.iloc[row + 1]
        if own["close"] == own["open"]:
            assert bars.index[row] not in ours.index
            continue
        white = own["close"] > own["open"]
        if following["close"] > own["high"]:
            name = "continuation" if white else "reversal"
        elif following["close"] < own["low"]:
            name = "reversal" if white else "continuation"
        elif following["high"] <= own["high"] and following["low"] >= own["low"]:
            name = "inside"
        else:
            name = "rejection"
        found = ours.loc[bars.index[row]]
        assert OUTCOMES[found["value"]] == name
        assert found["t_end"] == following["close_ts"]
