"""The kernel gives, record by record, the firings of the readable engine, however its batches are cut."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.alerts.engine.cases import make_case, run_kernel, run_oracle


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**9))
def test_same_firings_as_the_oracle(seed: int) -> None:
    case = make_case(seed)
    oracle = run_oracle(case)
    splits = {int(one) for one in np.random.default_rng(seed).integers(0, len(case.records), 5)}
    found, engine = run_kernel(case, splits)
    expected = [(one.rule, one.record, one.ts, one.price, one.truth, one.at_close, one.sides) for one in oracle.fired]
    # Rules of several conditions are told in the order in which their conditions changed, the oracle's in their own.
    assert sorted((*one[:6],) for one in map(_plain, found)) == sorted((*one[:6],) for one in map(_plain, expected))
    for mine, theirs in zip(sorted(found, key=_plain), sorted(expected, key=_plain), strict=True):
        for left, right in zip(mine[6], theirs[6], strict=True):
            assert left[2] is right[2]
            for a, b in zip(left[:2], right[:2], strict=True):
                assert math.isclose(a, b, rel_tol=1e-9, abs_tol=1e-9) or (math.isnan(a) and math.isnan(b)), mine
    assert engine.late == oracle.late
    assert sum(engine.refused.values()) == len(oracle.refused)


def test_the_cases_are_not_empty() -> None:
    fired = [one for seed in range(40) for one in run_oracle(make_case(seed, 80)).fired]
    assert len(fired) > 300
    assert {one.truth for one in fired} == {None, False, True}
    assert any(one.at_close for one in fired)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10**9), st.lists(st.integers(0, 159), max_size=40))
def test_any_cut_into_batches_gives_the_same(seed: int, cuts: list[int]) -> None:
    case = make_case(seed)
    assert repr(run_kernel(case, set(cuts))[0]) == repr(run_kernel(case, set(range(160)), neighbours=2)[0])


def _plain(one: tuple) -> tuple:
    truth = {None: 0, False: 1, True: 2}[one[4]]
    return one[1], one[2], one[0], one[3], truth, one[5]
