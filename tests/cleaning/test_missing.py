"""Missing values: each method against a slow plain one, causal ones against the future, limits and sessions."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from tapeline.cleaning.missing import backward_fill_whole, fill_missing, impute_whole, interpolate_whole
from tapeline.cleaning.missing_policy import CAUSAL, RESEARCH, MissingPolicy
from tapeline.core.errors import ConfigurationError, DataError
from tapeline.core.registry import feature

COLUMN = st.lists(st.none() | st.integers(-9, 9).map(float), min_size=1, max_size=30)


def framed(values: list[float | None], *more: list[float | None]) -> pd.DataFrame:
    ts = pd.date_range("2017-01-02", periods=len(values), freq="1h", tz="UTC", name="ts")
    columns = [np.array([math.nan if v is None else v for v in column]) for column in (values, *more)]
    return pd.DataFrame(dict(zip("abcd", columns, strict=False)), index=ts)


@settings(max_examples=150, deadline=None)
@given(COLUMN, st.integers(1, 4), st.lists(st.booleans(), min_size=30, max_size=30))
def test_forward_is_pandas_within_each_session(values: list[float | None], limit: int, breaks: list[bool]) -> None:
    frame = framed(values)
    session = np.cumsum(breaks[: len(values)])
    done = fill_missing(frame, MissingPolicy(method="forward", limit=limit), session=session)
    want = frame.groupby(session).ffill(limit=limit)
    pd.testing.assert_frame_equal(done.frame, want, check_freq=False)
    np.testing.assert_array_equal(done.rows, frame["a"].isna() & want["a"].notna())
    line = done.report.loc["a"]
    assert line["missing"] == line["filled"] + line["left"] == frame["a"].isna().sum()


@settings(max_examples=150, deadline=None)
@given(
    COLUMN, st.integers(1, 4), st.lists(st.booleans(), min_size=30, max_size=30), st.sampled_from(["linear", "time"])
)
def test_interpolation_is_that_of_a_plain_loop(
    values: list[float | None], limit: int, breaks: list[bool], kind: str
) -> None:
    frame = framed(values).iloc[[i for i in range(len(values)) if i % 4 != 2]]  # uneven times
    session = np.cumsum(breaks)[: len(frame)]
    done = fill_missing(frame, MissingPolicy(method=kind, limit=limit, causal=False), session=session)
    x = frame["a"].to_numpy()
    place = np.arange(len(x), dtype=float) if kind == "linear" else frame.index.asi8.astype(float)
    want = x.copy()
    for i in range(len(x)):
        if not math.isnan(x[i]):
            continue
        left = max((k for k in range(i) if not math.isnan(x[k])), default=None)
        right = min((k for k in range(i + 1, len(x)) if not math.isnan(x[k])), default=None)
        if left is None or right is None or session[left] != session[right] or right - left - 1 > limit:
            continue
        share = (place[i] - place[left]) / (place[right] - place[left])
        want[i] = x[left] + share * (x[right] - x[left])
    np.testing.assert_allclose(done.frame["a"], want, rtol=1e-12, atol=1e-12)


def test_a_spline_passes_through_a_cubic() -> None:
    x = np.arange(12.0)
    cubic = 2 + x - 0.5 * x**2 + 0.1 * x**3
    holed = cubic.copy()
    holed[[4, 5, 9]] = math.nan
    done = fill_missing(framed(holed.tolist()), MissingPolicy(method="spline", causal=False))
    np.testing.assert_allclose(done.frame["a"], cubic, rtol=1e-9)
    short = fill_missing(framed([1.0, None, 2.0]), MissingPolicy(method="spline", causal=False))
    assert short.report.loc["a", "left"] == 1  # three values do not carry a cubic


def test_backward_takes_the_next_value_of_the_session() -> None:
    frame = framed([None, 2.0, None, None, 5.0, None])
    session = np.array([0, 0, 0, 1, 1, 1])
    done = fill_missing(frame, MissingPolicy(method="backward", limit=1, causal=False), session=session)
    np.testing.assert_array_equal(done.frame["a"], [2.0, 2.0, math.nan, 5.0, 5.0, math.nan])


def test_drop_removes_rows_and_counts_them() -> None:
    done = fill_missing(framed([1.0, None, 3.0], [None, 2.0, 3.0]), MissingPolicy(method="drop"))
    assert done.frame["a"].tolist() == [3.0]
    assert done.report["dropped"].tolist() == [2, 2]
    assert not done.rows.any()


def correlated(rows: int = 700, seed: int = 1) -> tuple[pd.DataFrame, pd.DataFrame]:
    """A table whose third column is nearly the sum of the first two, whole and with holes."""
    generator = np.random.default_rng(seed)
    one, two = generator.normal(size=(2, rows))
    whole = pd.DataFrame(
        {"a": one, "b": 50 * two, "c": one + 50 * two + generator.normal(0, 0.01, rows)},
        index=pd.date_range("2017-01-02", periods=rows, freq="1h", tz="UTC", name="ts"),
    )
    holed = whole.copy()
    for name in whole:
        holed.loc[generator.random(rows) < 0.05, name] = math.nan
    return whole, holed


@pytest.mark.parametrize(("method", "error"), [("knn", 0.6), ("iterative", 0.05)])
def test_imputers_estimate_from_the_other_columns(method: str, error: float) -> None:
    whole, holed = correlated()
    policy = MissingPolicy(method=method, minimum=100, refit=100)
    done = fill_missing(holed, policy)
    late = np.flatnonzero(done.cells["c"].to_numpy())
    assert late.size > 15
    assert late.min() >= 100
    off = np.abs(done.frame["c"].to_numpy() - whole["c"].to_numpy())[late] / whole["c"].std()
    assert np.median(off) < error
    assert done.frame["c"].iloc[:100].equals(holed["c"].iloc[:100])  # nothing to fit on yet


@pytest.mark.parametrize("method", ["forward", "knn", "iterative"])
@pytest.mark.parametrize("cut", [101, 350, 523])
def test_causal_methods_do_not_see_what_comes_later(method: str, cut: int) -> None:
    _, holed = correlated(600)
    policy = MissingPolicy(method=method, minimum=60, refit=50, window=200)
    changed = holed.copy()
    changed.iloc[cut:] = changed.iloc[cut:] * -7 + 3
    whole = fill_missing(holed, policy).frame.iloc[:cut]
    # A matrix product of another number of rows may round its last digit otherwise; a leak shows in the first.
    for frame in (holed.iloc[:cut], changed):
        np.testing.assert_allclose(fill_missing(frame, policy).frame.iloc[:cut], whole, rtol=1e-11, atol=1e-11)


def test_research_methods_do_see_it_and_say_so() -> None:
    frame = framed([1.0, None, 3.0, 4.0, 5.0, 9.0])
    later = frame.assign(a=[1.0, math.nan, 7.0, 4.0, 5.0, 9.0])
    for method in ("backward", "linear", "time", "spline"):
        with pytest.raises(ValidationError, match="reads later values"):
            MissingPolicy(method=method)
        policy = MissingPolicy(method=method, causal=False)
        assert fill_missing(frame, policy).frame["a"].iloc[1] != fill_missing(later, policy).frame["a"].iloc[1]
    for function in (backward_fill_whole, interpolate_whole, impute_whole):
        with pytest.raises(ConfigurationError, match="reads the future"):
            feature(lookback=1, outputs="x", reference="none")(function)
    assert set(CAUSAL) & set(RESEARCH) == set()


def test_whole_sample_imputers_use_every_row() -> None:
    whole, holed = correlated(300)
    done = fill_missing(holed, MissingPolicy(method="iterative_whole", causal=False))
    gaps = holed["c"].isna() & holed[["a", "b"]].notna().all(axis=1)
    np.testing.assert_allclose(done.frame["c"][gaps], whole["c"][gaps], atol=0.2)
    assert done.frame["c"].iloc[:50].notna().sum() > holed["c"].iloc[:50].notna().sum()


def test_a_row_or_column_without_values_stays_missing() -> None:
    _, holed = correlated(300)
    holed = holed.assign(d=math.nan)
    holed.iloc[200] = math.nan
    done = fill_missing(holed, MissingPolicy(method="knn", minimum=60, refit=50))
    assert done.frame["d"].isna().all()
    assert done.frame.iloc[200].isna().all()


def test_arguments_are_checked() -> None:
    with pytest.raises(ValidationError, match="never be fitted"):
        MissingPolicy(method="knn", window=20, minimum=50)
    with pytest.raises(ValidationError):
        MissingPolicy(limit=0)
    with pytest.raises(ValidationError):
        MissingPolicy(methods="drop")  # type: ignore[call-arg]
    frame, policy = framed([1.0, None]), MissingPolicy(method="forward")
    with pytest.raises(DataError, match="not sorted and unique"):
        fill_missing(frame.iloc[::-1], policy)
    with pytest.raises(DataError, match="no time index"):
        fill_missing(frame.reset_index(drop=True), policy)
    with pytest.raises(DataError, match="3 session numbers for 2 rows"):
        fill_missing(frame, policy, session=np.array([0, 0, 1]))
    with pytest.raises(DataError, match="decrease"):
        fill_missing(frame, policy, session=np.array([1, 0]))
