"""What the detector decorator makes: one component, ids of the right parameters, findings shared in a scan."""

from __future__ import annotations

import numpy as np
import pytest

from tapeline.charts.bar_arrays import BarArrays
from tapeline.charts.detector import detector
from tapeline.charts.events import Findings
from tapeline.charts.gaps import fair_value_gap
from tapeline.charts.structure import break_of_structure
from tapeline.charts.swings import fractal_swing
from tapeline.core.errors import ConfigurationError
from tapeline.core.registry import component_of
from tests.support import make_bars


def test_it_is_a_component_with_the_parameters_of_the_search():
    component = component_of(break_of_structure)
    assert component.kind == "pattern"
    assert component.defaults == {"reach": 5, "by": "close", "window": 14}
    with pytest.raises(ConfigurationError, match="reach"):
        component.parameters({"reach": 0})


def test_an_id_knows_defaults_and_place_of_a_parameter_but_not_how_a_finding_is_followed():
    bars = make_bars(300)
    assert fractal_swing(bars, 2, right=2)["id"].tolist() == fractal_swing(bars)["id"].tolist()
    assert not set(fractal_swing(bars, 3)["id"]) & set(fractal_swing(bars)["id"])
    touched, filled = fair_value_gap(bars), fair_value_gap(bars, mitigation="fill")
    assert touched["id"].tolist() == filled["id"].tolist()
    assert (touched["invalidated_at"].notna().sum()) > filled["invalidated_at"].notna().sum()


def test_a_scan_shares_what_detectors_stand_on():
    bars = make_bars(300)
    arrays = BarArrays(bars)
    calls = []

    def counted(given: BarArrays) -> int:
        calls.append(given)
        return len(given)

    @detector(lookback=1, reference="none")
    def one(given: BarArrays):
        given.once(counted)
        yield Findings("one", *(np.zeros(1, np.int64),) * 4, given.low[:1], given.high[:1])

    assert len(one(arrays)) == len(one(arrays)) == 1
    assert calls == [arrays]
    one(bars)
    assert len(calls) == 2


def test_follows_must_name_a_parameter():
    with pytest.raises(ConfigurationError, match="nothing"):
        detector(lookback=1, reference="none", follows=("nothing",))(lambda arrays: [])
