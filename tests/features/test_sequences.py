"""Sequences hold one symbol's unbroken bars; what splits give shares nothing with what decides a test label."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tapeline.core.errors import ConfigurationError, DataError, LookAheadError
from tapeline.core.timeframe import Timeframe
from tapeline.features.engine import compute
from tapeline.features.feature_set import parse_feature_set
from tapeline.features.sequences import build_sequences
from tapeline.labels.future_return import future_return
from tapeline.models.validation import CombinatorialPurgedKFold, PurgedKFold, PurgedWalkForward
from tests.core.samples import eurusd
from tests.support import make_bars

H1 = Timeframe.parse("H1")
CHOSEN = parse_feature_set(
    {"name": "mine", "feature": [{"component": "log_return"}, {"component": "close_location"}, {"component": "rsi"}]}
)


def part(bars: pd.DataFrame, horizon: int = 6) -> tuple[pd.DataFrame, pd.DataFrame]:
    return compute(CHOSEN, bars, H1), future_return(bars, horizon=horizon).assign(weight=1.0)


@pytest.fixture(scope="module")
def sequences():
    return build_sequences({"A": part(make_bars(400, seed=1)), "B": part(make_bars(350, seed=2))}, 12, H1)


def test_each_window_is_its_symbols_own_unbroken_bars(sequences) -> None:
    frames = {name: part(make_bars(rows, seed=seed)) for name, rows, seed in (("A", 400, 1), ("B", 350, 2))}
    assert sequences.shape[1:] == (12, 3)
    assert set(sequences.symbol) == {"A", "B"}
    assert sequences.t0.is_monotonic_increasing
    rows = np.arange(0, len(sequences), 37)
    gathered = sequences.gather(rows)
    for place, row in enumerate(rows):
        features, labels = frames[str(sequences.symbol[row])]
        own = features[features["known_at"] <= sequences.t0[row]].iloc[-12:]
        assert own["known_at"].iloc[-1] == sequences.t0[row]
        assert own.index[0] == sequences.reach[row]
        assert own.index[-1] - own.index[0] == pd.Timedelta(hours=11), "no weekend inside"
        np.testing.assert_array_equal(gathered[place], own[list(sequences.columns)].to_numpy())
        assert sequences.y[row] == labels["value"].loc[own.index[-1]]
        assert sequences.t_end[row] == labels["t_end"].loc[own.index[-1]]
        window, label = sequences[int(row)]
        np.testing.assert_array_equal(window, gathered[place])
        assert label == sequences.y[row]
        assert np.shares_memory(window, sequences.tables[str(sequences.symbol[row])])
    assert np.isfinite(sequences.gather(np.arange(len(sequences)))).all()


def test_batches_are_drawn_once_each_and_the_same_again(sequences) -> None:
    rows = np.arange(10, 110)
    drawn = list(sequences.batches(rows, 32, seed=5))
    assert [batch.X.shape for batch in drawn] == [(32, 12, 3)] * 3 + [(4, 12, 3)]
    order = np.concatenate([batch.rows for batch in drawn])
    assert sorted(order) == rows.tolist()
    assert order.tolist() != rows.tolist()
    for first, again in zip(drawn, sequences.batches(rows, 32, seed=5), strict=True):
        np.testing.assert_array_equal(first.X, again.X)
        np.testing.assert_array_equal(first.y, sequences.y[first.rows])
    plain = np.concatenate([batch.rows for batch in sequences.batches(rows, 32)])
    assert plain.tolist() == rows.tolist()


def leaks(sequences, train: np.ndarray, test: np.ndarray) -> int:
    """Pairs of a training window with its label, and a test label, that meet in time: the slow way."""
    begin, end = sequences.reach.asi8[train][:, None], sequences.t_end.asi8[train][:, None]
    first, last = sequences.t0.asi8[test][None], sequences.t_end.asi8[test][None]
    return int(((begin <= last) & (end >= first)).sum())


@pytest.mark.parametrize("splitter", [PurgedKFold, CombinatorialPurgedKFold, PurgedWalkForward])
def test_no_window_of_a_training_row_meets_a_test_label(sequences, splitter) -> None:
    made = splitter(sequences.t0, sequences.t_end)
    plain = list(made.split(sequences))
    clean = list(sequences.splits(made))
    assert len(clean) == len(plain)
    for (before, test), (train, same) in zip(plain, clean, strict=True):
        np.testing.assert_array_equal(test, same)
        assert set(train) <= set(before)
        assert leaks(sequences, train, test) == 0
        kept = leaks(sequences, np.setdiff1d(before, train), test)
        assert kept or len(before) == len(train), "only what meets is dropped"
    if splitter is PurgedKFold:
        plain_fold = list(PurgedKFold(sequences.t0, sequences.t_end, embargo=0).split(sequences))
        assert any(leaks(sequences, train, test) for train, test in plain_fold), "purging labels alone lets windows in"


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.integers(0, 30))
def test_purging_is_what_all_pairs_say(sequences, seed: int, hours: int) -> None:
    generator = np.random.default_rng(seed)
    rows = generator.permutation(len(sequences))[:120]
    train, test = np.sort(rows[:100]), np.sort(rows[100:])
    embargo = pd.Timedelta(hours=hours)
    kept = sequences.purge(train, test, embargo=embargo)
    begin, end = sequences.reach.asi8, sequences.t_end.asi8
    expected = [
        i for i in train if not any(begin[i] <= end[j] + embargo.value and end[i] >= sequences.t0.asi8[j] for j in test)
    ]
    assert kept.tolist() == expected


def test_real_bars_make_sequences_and_splits() -> None:
    found = build_sequences({"EURUSD": part(eurusd().iloc[:2_000])}, 24, H1)
    assert 1_000 < len(found) < 2_000
    assert (found.t_end > found.t0).all()
    sizes = [(len(train), len(test)) for train, test in found.splits(PurgedKFold(found.t0, found.t_end))]
    assert all(train > 700 and test > 150 for train, test in sizes)


def test_parts_that_do_not_fit_are_refused() -> None:
    features, labels = part(make_bars(60))
    with pytest.raises(DataError, match="no symbol"):
        build_sequences({}, 4, H1)
    with pytest.raises(DataError, match="lack 'known_at'"):
        build_sequences({"A": (features.drop(columns="known_at"), labels)}, 4, H1)
    with pytest.raises(DataError, match="differ from those"):
        build_sequences({"A": (features, labels), "B": (features.rename(columns={"rsi_14": "x"}), labels)}, 4, H1)
    with pytest.raises(DataError, match="no unbroken"):
        build_sequences({"A": (features, labels)}, 59, H1)
    with pytest.raises(LookAheadError, match="end before their decision"):
        build_sequences({"A": (features, labels.assign(t_end=labels.index))}, 4, H1)
    with pytest.raises(DataError, match="not a number"):
        build_sequences({"A": (features, labels.assign(value=np.nan))}, 4, H1)
    found = build_sequences({"A": (features, labels)}, 4, H1)
    with pytest.raises(ConfigurationError, match="size = 0"):
        next(found.batches(np.arange(3), 0))
    with pytest.raises(ConfigurationError, match="negative"):
        found.purge(np.arange(3), np.arange(3), embargo=pd.Timedelta(-1))
