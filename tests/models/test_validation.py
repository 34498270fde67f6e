"""No split shares a label: held against a slow comparison of every training row with every test row."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tapeline.core.errors import ConfigurationError, DataError
from tapeline.models.validation import (
    CombinatorialPurgedKFold,
    PurgedGroupKFold,
    PurgedKFold,
    PurgedWalkForward,
    time_holdout,
)

HOUR = 3_600_000_000_000
MONDAY = pd.Timestamp("2017-01-02", tz="UTC").value


def instants(hours: list[int]) -> pd.DatetimeIndex:
    return pd.DatetimeIndex(pd.to_datetime(MONDAY + np.array(hours, dtype=np.int64) * HOUR, unit="ns", utc=True))


@st.composite
def intervals(draw: st.DrawFn) -> tuple[pd.DatetimeIndex, pd.DatetimeIndex]:
    """Label intervals of a few symbols: unsorted, with shared decision times, gaps and very different lengths."""
    start = draw(st.lists(st.integers(0, 60), min_size=12, max_size=60))
    length = draw(st.lists(st.sampled_from([0, 0, 1, 2, 3, 20]), min_size=len(start), max_size=len(start)))
    end = [a + b for a, b in zip(start, length, strict=True)]
    return instants(start), instants(end)


def brute_force(t0: pd.DatetimeIndex, t_end: pd.DatetimeIndex, test: np.ndarray, wait: int) -> set[int]:
    """The rows that may train for one test block, by the definition, pair by pair."""
    a, b = t0.asi8, t_end.asi8
    last = max(b[j] for j in test)
    allowed = set()
    for i in set(range(len(a))) - set(test.tolist()):
        meets = any(a[i] <= b[j] and b[i] >= a[j] for j in test)
        embargoed = last < a[i] <= last + wait
        if not meets and not embargoed:
            allowed.add(i)
    return allowed


@settings(max_examples=150, deadline=None)
@given(intervals(), st.integers(2, 5), st.sampled_from([0.0, 0.02, 0.1]))
def test_the_folds_are_those_of_the_definition(
    rows: tuple[pd.DatetimeIndex, pd.DatetimeIndex], folds: int, embargo: float
) -> None:
    t0, t_end = rows
    assume(len(t0.unique()) >= folds)
    splitter = PurgedKFold(t0, t_end, folds=folds, embargo=embargo)
    wait = round((t0.max().value - t0.min().value) * embargo)
    seen: list[int] = []
    try:
        pairs = list(splitter.split(np.zeros((len(t0), 1))))
    except DataError:
        # Only where some block truly leaves nothing.
        blocks = splitter._block
        assert any(not brute_force(t0, t_end, np.flatnonzero(blocks == k), wait) for k in range(folds))
        return
    assert len(pairs) == splitter.get_n_splits() == folds
    for train, test in pairs:
        assert test.size
        assert set(train.tolist()) == brute_force(t0, t_end, test, wait)
        # A decision time is on one side only, whatever the symbol.
        assert not set(t0.asi8[test]) & set(t0.asi8[train])
        seen += test.tolist()
    assert sorted(seen) == list(range(len(t0)))
    # The blocks follow each other in time.
    borders = [(t0[test].min(), t0[test].max()) for _, test in pairs]
    assert all(before[1] < after[0] for before, after in pairwise(borders))


def test_a_label_that_reaches_over_two_blocks_is_purged_from_both() -> None:
    t0 = instants(list(range(12)))
    t_end = instants([7, *range(1, 12)])  # blocks of three rows: the first label ends in the third block
    trains = [train.tolist() for train, _ in PurgedKFold(t0, t_end, folds=4, embargo=0).split(t0)]
    assert trains == [[8, 9, 10, 11], [1, 2, *range(6, 12)], [1, 2, 3, 4, 5, 9, 10, 11], [*range(9)]]


def test_touching_intervals_are_purged_because_they_share_an_instant() -> None:
    t0 = instants(list(range(6)))
    t_end = instants([h + 1 for h in range(6)])
    train, test = list(PurgedKFold(t0, t_end, folds=3, embargo=0).split(t0))[1]
    assert (train.tolist(), test.tolist()) == ([0, 5], [2, 3])


def test_the_embargo_is_time_so_a_weekend_counts() -> None:
    hours = [*range(10), *range(60, 70)]  # a gap of 50 hours in the middle
    t0 = instants(hours)
    with_embargo = PurgedKFold(t0, t0, folds=2, embargo=0.5)
    train, _ = next(iter(with_embargo.split(t0)))
    # Half of the 69 hours after hour 9 is embargoed: all rows up to hour 43, so none of those after the gap.
    assert train.tolist() == list(range(10, 20))
    longer = PurgedKFold(t0, t0, folds=2, embargo=0.75)
    train, _ = next(iter(longer.split(t0)))
    assert train.tolist() == list(range(11, 20))


def test_a_splitter_works_inside_scikit_learn() -> None:
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import cross_val_score

    generator = np.random.default_rng(0)
    x = generator.standard_normal((200, 2))
    y = (x[:, 0] > 0).astype(int)
    t0 = instants(list(range(200)))
    scores = cross_val_score(LogisticRegression(), x, y, cv=PurgedKFold(t0, t0, folds=5), scoring="roc_auc")
    assert len(scores) == 5
    assert scores.min() > 0.9


@settings(max_examples=100, deadline=None)
@given(intervals(), st.floats(0.05, 0.5))
def test_no_development_label_reaches_the_holdout(
    rows: tuple[pd.DatetimeIndex, pd.DatetimeIndex], share: float
) -> None:
    t0, t_end = rows
    try:
        development, holdout = time_holdout(t0, t_end, share)
    except DataError:
        return
    border = t0[holdout].min()
    assert (t_end[development] < border).all()
    assert holdout.tolist() == [i for i in range(len(t0)) if t0[i] >= border]
    crossing = set(range(len(t0))) - set(development) - set(holdout)
    assert all(t0[i] < border <= t_end[i] for i in crossing)
    # Rows that share the border's instant may make it larger, never smaller.
    assert holdout.size >= int(np.floor(len(t0) * share + 1e-9))


@settings(max_examples=60, deadline=None)
@given(intervals(), st.integers(3, 5))
def test_combinatorial_splits_purge_around_each_test_block(
    rows: tuple[pd.DatetimeIndex, pd.DatetimeIndex], folds: int
) -> None:
    t0, t_end = rows
    assume(len(t0.unique()) >= folds)
    splitter = CombinatorialPurgedKFold(t0, t_end, folds=folds, test_folds=2, embargo=0)
    a, b = t0.asi8, t_end.asi8
    try:
        pairs = list(splitter.split(t0))
    except DataError:
        return
    assert len(pairs) == splitter.get_n_splits()
    times_tested = np.zeros(len(t0), dtype=int)
    for train, test in pairs:
        times_tested[test] += 1
        assert not any(a[i] <= b[j] and b[i] >= a[j] for i in train for j in test)
    assert (times_tested == folds - 1).all()


@settings(max_examples=60, deadline=None)
@given(intervals(), st.integers(2, 5), st.sampled_from([None, 1, 2]))
def test_walk_forward_trains_on_labels_that_were_known(
    rows: tuple[pd.DatetimeIndex, pd.DatetimeIndex], folds: int, window: int | None
) -> None:
    t0, t_end = rows
    assume(len(t0.unique()) >= folds)
    splitter = PurgedWalkForward(t0, t_end, folds=folds, window=window)
    try:
        pairs = list(splitter.split(t0))
    except DataError:
        return
    assert len(pairs) == splitter.get_n_splits()
    for number, (train, test) in enumerate(pairs, start=1):
        assert t_end[train].max() < t0[test].min()
        blocks = set(splitter._block[train])
        assert blocks <= set(range(0 if window is None else max(0, number - window), number))


@pytest.mark.parametrize(
    ("options", "message"),
    [({"folds": 1}, "folds = 1"), ({"embargo": 1.0}, r"embargo = 1\.0"), ({"embargo": -0.1}, r"embargo = -0\.1")],
)
def test_impossible_settings_are_named(options: dict[str, float], message: str) -> None:
    t0 = instants(list(range(10)))
    with pytest.raises(ConfigurationError, match=message):
        PurgedKFold(t0, t0, **options)  # type: ignore[arg-type]


def test_impossible_data_is_named() -> None:
    t0 = instants(list(range(10)))
    with pytest.raises(DataError, match="end before their decision"):
        PurgedKFold(t0, t0 - pd.Timedelta("1h"))
    with pytest.raises(DataError, match="10 label intervals, but was given 9 rows"):
        next(iter(PurgedKFold(t0, t0).split(np.zeros((9, 1)))))
    with pytest.raises(DataError, match="no row to train on"):
        next(iter(PurgedKFold(t0, t0 + pd.Timedelta("99h"), folds=3).split(t0)))
    with pytest.raises(DataError, match="no row to develop on"):
        time_holdout(t0, t0 + pd.Timedelta("99h"), 0.2)
    with pytest.raises(ConfigurationError, match="holdout"):
        time_holdout(t0, t0, 1.0)


@given(
    rows=st.integers(12, 60),
    folds=st.integers(2, 4),
    length=st.integers(0, 5),
    seed=st.integers(0, 2**32 - 1),
)
@settings(max_examples=60, deadline=None)
def test_a_held_out_symbol_never_meets_itself_or_an_overlapping_label(
    rows: int, folds: int, length: int, seed: int
) -> None:
    generator = np.random.default_rng(seed)
    hours = np.sort(generator.integers(0, 4 * rows, rows))
    groups = generator.choice(["A", "B", "C"], rows)
    assume(len(set(groups)) > 1)
    assume(len(set(hours)) >= folds)
    t0 = pd.Timestamp("2017-01-02", tz="UTC") + pd.to_timedelta(hours, unit="h")
    t_end = t0 + pd.to_timedelta(generator.integers(0, length + 1, rows), unit="h")
    splitter = PurgedGroupKFold(t0, t_end, groups=groups, folds=folds, embargo=0)
    tested = np.zeros(rows, dtype=int)
    try:
        splits = list(splitter.split(t0))
    except DataError as error:
        assert "left to train on" in str(error) or "no row to train on" in str(error)  # noqa: PT017 - a valid refusal
        return
    assert len(splits) == splitter.get_n_splits()
    for train, test in splits:
        (group,) = set(groups[test])
        assert group not in set(groups[train])
        first, last = t0[test].min(), t_end[test].max()
        assert not ((t0[train] <= last) & (t_end[train] >= first)).any()
        tested[test] += 1
    assert (tested == 1).all(), "every row is tested exactly once"


def test_one_symbol_cannot_be_held_out_of_itself() -> None:
    t0 = pd.date_range("2017-01-02", periods=8, freq="1h", tz="UTC")
    with pytest.raises(DataError, match="EURUSD"):
        PurgedGroupKFold(t0, t0, groups=["EURUSD"] * 8, folds=2)
