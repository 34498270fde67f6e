"""Pooling features and labels: nothing is mixed up, lost silently, or taken from another time."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tapeline.core.errors import DataError, LookAheadError
from tapeline.models.dataset import assemble
from tests.models.synthetic import make_parts


def test_rows_of_two_symbols_are_ordered_by_decision_time_and_keep_their_own_features() -> None:
    first, second = make_parts(50, seed=1), make_parts(50, seed=2, start="2017-01-02 00:30")
    dataset = assemble({"EURUSD": first, "AAPL": second})
    assert len(dataset) == 100
    assert dataset.t0.is_monotonic_increasing
    for symbol, (features, labels) in {"EURUSD": first, "AAPL": second}.items():
        mine = dataset.symbol == symbol
        np.testing.assert_array_equal(dataset.X[mine], features.drop(columns="known_at").to_numpy())
        np.testing.assert_array_equal(dataset.y[mine], (labels["value"] > 0).to_numpy())
        assert list(dataset.t_end[mine]) == list(labels["t_end"])
        np.testing.assert_array_equal(dataset.outcome[mine], labels["outcome"].to_numpy())


def test_what_is_left_out_is_counted() -> None:
    features, labels = make_parts(20)
    features.iloc[:3, 1:] = np.nan
    features.iloc[3, 1] = np.nan  # one missing feature is not a warm-up
    labels.iloc[5, labels.columns.get_loc("value")] = 0.0
    labels.iloc[1, labels.columns.get_loc("value")] = 0.0  # ambiguous and in warm-up: counted once
    labels = labels.iloc[:-4]
    dataset = assemble({"EURUSD": (features, labels)})
    assert dataset.dropped.to_dict("records") == [
        {"symbol": "EURUSD", "rows_in": 20, "unlabelled": 4, "ambiguous": 2, "warm_up": 2, "rows_out": 12}
    ]
    assert len(dataset) == 12
    assert np.isnan(dataset.X[0, 0])


def test_the_labels_of_other_bars_are_not_taken() -> None:
    features, labels = make_parts(30)
    shuffled = labels.iloc[::-1]
    np.testing.assert_array_equal(
        assemble({"EURUSD": (features, shuffled)}).y, assemble({"EURUSD": (features, labels)}).y
    )


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f, y: (f.drop(columns="known_at"), y), "known_at"),
        (lambda f, y: (f.tz_localize(None), y), "UTC"),
        (lambda f, y: (pd.concat([f, f.iloc[:1]]), y), "repeat"),
        (lambda f, y: (f.assign(f0=np.inf), y), "'f0' of EURUSD is infinite"),
        (lambda f, y: (f.assign(f0="x"), y), "not numeric"),
        (lambda f, y: (f, y.drop(columns="weight")), "weight"),
        (lambda f, y: (f, y.assign(weight=-1.0)), "weight of EURUSD is negative"),
        (lambda f, y: (f, y.assign(value=np.nan)), "labels of EURUSD are not a number"),
        (lambda f, y: (f, y.assign(value=0.0)), "no row is left"),
        (lambda f, y: (f[["known_at"]], y), "no column"),
    ],
)
def test_a_damaged_part_is_refused_by_name(damage: object, message: str) -> None:
    features, labels = make_parts(10)
    with pytest.raises(DataError, match=message):
        assemble({"EURUSD": damage(features, labels)})  # type: ignore[operator]


def test_a_label_that_was_known_before_its_decision_is_a_look_ahead() -> None:
    features, labels = make_parts(10)
    early = labels.assign(t_end=labels.index)
    with pytest.raises(LookAheadError, match="10 labels of EURUSD"):
        assemble({"EURUSD": (features, early)})


def test_symbols_with_other_features_are_refused() -> None:
    features, labels = make_parts(10)
    with pytest.raises(DataError, match="features of AAPL differ"):
        assemble({"EURUSD": (features, labels), "AAPL": (features.rename(columns={"f0": "g0"}), labels)})


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 7), st.sampled_from(["X", "y", "t0", "t_end", "weight", "outcome", "symbol", "columns"]))
def test_the_digest_changes_with_any_value_a_fit_reads(row: int, field: str) -> None:
    dataset = assemble({"EURUSD": make_parts(8)})
    value = getattr(dataset, field)
    here = np.arange(8) == row
    if field == "columns":
        changed: Any = value[::-1]
    elif field == "symbol":
        changed = np.where(here, "AAPL", value)
    elif field in ("t0", "t_end"):
        changed = value + pd.to_timedelta(here.astype(int), unit="s")
    else:
        changed = value + (here[:, None] if value.ndim == 2 else here)
    assert replace(dataset, **{field: changed}).digest != dataset.digest
    assert assemble({"EURUSD": make_parts(8)}).digest == dataset.digest
