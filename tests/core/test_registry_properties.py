"""Laws 1 and 2 over the whole registry: a component is covered here from the moment it is registered.

Each is audited on rough random bars and on real ones. A fault on either fails it; and on at least one of the two every
check must have had something to compare, because a check that can show nothing shows nothing.

The audit cuts right after what a component says rarely or anew, beside gaps and where movement stops, densely and at
random: 150 places for a feature, 120 for a pattern. A third at most are asked for by the results, so that a leak which
nothing betrays still meets 80 to 100 cuts that do not look at them. `tapeline audit` cuts at 600 places.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import pandas as pd
import pytest

from tapeline.core.audit import Finding, audit
from tapeline.core.registry import Catalog, Component
from tapeline.core.timeframe import Timeframe
from tests.core.samples import eurusd, rough_bars

H1 = Timeframe.parse("H1")
COMPONENTS = list(Catalog.discover().values())
FEATURES = [component for component in COMPONENTS if component.kind == "feature"]
# What features read beyond the bars: other instruments, flows of trades, quotes and books.
CONTEXT = tuple(sorted({name for component in FEATURES for name in component.required_columns()} - {"close_ts"}))
# Between sessions there is no session so far: these are NaN there, and only there.
BETWEEN_SESSIONS = {"exchange_clock", "exchange_session", "session_so_far"}

CUTS = {"feature": (60, 40), "label": (60, 40), "pattern": (48, 32)}


@lru_cache
def rough(rows: int) -> pd.DataFrame:
    return rough_bars(rows)


@lru_cache
def real() -> pd.DataFrame:
    return eurusd()


def rows_for(component: Component) -> int:
    return max(600, component.lookback_of() + 260)


@pytest.mark.parametrize("component", COMPONENTS, ids=lambda component: component.name)
def test_it_never_looks_ahead_and_gives_the_same_on_the_tail(component: Component) -> None:
    rows, (first, second) = rows_for(component), CUTS[component.kind]
    findings: list[Finding] = audit(component, rough(rows), H1, cuts=first)
    findings += audit(component, real().iloc[1000 : 1000 + rows], H1, cuts=second)
    faults = [str(finding) for finding in findings if not finding.passed and finding.conclusive]
    assert not faults, "\n".join(faults)
    proven = {finding.check for finding in findings if finding.passed}
    assert proven == {"shape", "input", "repeat", "truncate", "perturb", "tail"}, [str(f) for f in findings]


def test_the_registry_is_not_empty() -> None:
    assert len(FEATURES) >= 45
    assert {component.name for component in COMPONENTS if component.kind == "label"} >= {
        "triple_barrier",
        "future_return",
    }


@pytest.mark.parametrize("component", COMPONENTS, ids=lambda component: component.name)
def test_it_says_what_it_is(component: Component) -> None:
    assert component.summary.endswith(".")
    assert component.reference
    assert component.lookback_of() >= (0 if component.kind == "label" else 1)
    assert ">>>" in (component.function.__doc__ or ""), "a runnable example"


@pytest.mark.parametrize("component", FEATURES, ids=lambda component: component.name)
def test_a_feature_is_float64_finite_or_nan_and_scales_as_it_declares(component: Component) -> None:
    """Prices times 1024 and volumes times 8, both exact in binary, multiply a feature by what its degrees say."""
    context = {name: np.linspace(10.0, 20.0, 900) for name in CONTEXT}
    bars = rough(900).assign(**context)
    scaled = bars.assign(
        **{name: bars[name] * 1024.0 for name in ("open", "high", "low", "close")}, volume=bars["volume"] * 8.0
    )
    before, after = component.compute(bars), component.compute(scaled)
    in_price, in_volume = component.scale
    after /= 1024.0**in_price * 8.0**in_volume
    assert (before.dtypes == np.float64).all()
    assert not np.isinf(before.to_numpy()).any()
    pd.testing.assert_frame_equal(before, after, rtol=1e-6, atol=1e-7)
    settled = before.iloc[560:630].notna().all(axis=1)
    if component.name in BETWEEN_SESSIONS:
        assert 10 <= settled.sum() < 70
    else:
        assert settled.all() or component.lookback_of() > 1000, "NaN beyond its warm-up"
