"""SAX against the published breakpoints and the definition; encodings of patterns that know the past alone."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tapeline.core.errors import ConfigurationError, DataError
from tapeline.features.market_regime import ratio_returns
from tapeline.features.pattern_encoding import (
    PatternVocabulary,
    ShapeCodebook,
    fold_target_encoding,
    past_target_encoding,
)
from tapeline.features.shape_words import (
    breakpoints,
    piecewise_means,
    sax_letters,
    spell,
    word_distance,
    words_over_time,
)
from tapeline.labels.future_return import future_return
from tapeline.models.validation import PurgedKFold
from tests.core.samples import eurusd
from tests.support import make_bars

# Lin, Keogh, Lonardi and Chiu (2003), table 3: breakpoints for 3 to 10 letters.
PUBLISHED = {
    3: [-0.43, 0.43],
    4: [-0.67, 0, 0.67],
    5: [-0.84, -0.25, 0.25, 0.84],
    6: [-0.97, -0.43, 0, 0.43, 0.97],
    7: [-1.07, -0.57, -0.18, 0.18, 0.57, 1.07],
    8: [-1.15, -0.67, -0.32, 0, 0.32, 0.67, 1.15],
    9: [-1.22, -0.76, -0.43, -0.14, 0.14, 0.43, 0.76, 1.22],
    10: [-1.28, -0.84, -0.52, -0.25, 0, 0.25, 0.52, 0.84, 1.28],
}


@pytest.mark.parametrize("letters", list(PUBLISHED))
def test_breakpoints_are_the_published_ones(letters: int) -> None:
    np.testing.assert_allclose(breakpoints(letters), PUBLISHED[letters], atol=0.0051)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(-3, 3), min_size=1, max_size=12), st.integers(1, 7))
def test_piecewise_means_are_those_of_each_value_repeated(values: list[float], segments: int) -> None:
    repeated = np.repeat(values, segments).reshape(segments, -1).mean(axis=1)
    np.testing.assert_allclose(piecewise_means(np.array(values), segments), repeated, atol=1e-12)


@pytest.mark.parametrize(("window", "segments", "letters"), [(24, 4, 5), (10, 3, 4), (7, 7, 20)])
def test_words_are_the_definition(window: int, segments: int, letters: int) -> None:
    close = make_bars(90)["close"].to_numpy()
    found = words_over_time(ratio_returns(close), window, segments, letters)
    assert (found[: window - 1] == -1).all()
    for row in range(window - 1, 90):
        path = np.log(close[row - window + 1 : row + 1])
        path = (path - path.mean()) / path.std()
        means = np.repeat(path, segments).reshape(segments, -1).mean(axis=1)
        expected = np.searchsorted(breakpoints(letters), means, side="right")
        assert found[row].tolist() == expected.tolist()


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(3, 10))
def test_the_words_distance_is_a_lower_bound(seed: int, letters: int) -> None:
    returns = np.random.default_rng(seed).normal(0, 1e-3, 60)
    codes = words_over_time(returns, 24, 6, letters)
    first, second = spell(codes)[[30, 59]]

    def path(row: int) -> np.ndarray:
        logs = np.cumsum(returns)[row - 23 : row + 1]
        return (logs - logs.mean()) / logs.std()

    assert word_distance(first, second, 24, letters) <= np.linalg.norm(path(30) - path(59)) + 1e-9
    assert word_distance(first, first, 24, letters) == 0.0


def test_the_component_gives_the_words_letters_and_nothing_where_nothing_moves() -> None:
    bars = eurusd().iloc[:500]
    codes = words_over_time(ratio_returns(bars["close"].to_numpy()), 24, 4, 5)
    found = sax_letters(bars)
    np.testing.assert_array_equal(found.to_numpy()[23:], codes[23:])
    assert found.iloc[:23].isna().all().all()
    assert len(set(spell(codes[23:]))) > 60, "many words come about on real bars"
    assert sax_letters(make_bars(60).assign(close=1.0)).isna().all().all()


def test_wrong_words_are_refused() -> None:
    for call in (
        lambda: breakpoints(1),
        lambda: breakpoints(21),
        lambda: words_over_time(np.zeros(9), 4, 5, 4),
        lambda: word_distance("ab", "abc", 8, 4),
        lambda: word_distance("ab", "ae", 8, 4),
    ):
        with pytest.raises(ConfigurationError):
            call()


def test_patterns_become_columns_and_unknown_ones_none() -> None:
    names = pd.Series(["doji", "star", "doji", None], index=[5, 6, 7, 8])
    known = PatternVocabulary.of(names, least=2)
    assert known.patterns == ("doji",)
    found = known.one_hot(names)
    assert found["doji"].tolist() == [1.0, 0.0, 1.0, 0.0]
    assert found.index.tolist() == [5, 6, 7, 8]


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 30), st.sampled_from([0.0, 2.5]))
def test_past_target_encoding_is_the_slow_one(seed: int, rows: int, weight: float) -> None:
    generator = np.random.default_rng(seed)
    start = generator.integers(0, 40, rows)
    end = start + generator.integers(0, 15, rows)
    codes, values = generator.integers(-1, 3, rows), generator.normal(size=rows)
    values[generator.random(rows) < 0.2] = np.nan
    origin = pd.Timestamp("2017-01-02", tz="UTC")
    t0, t_end = (pd.DatetimeIndex(origin + pd.to_timedelta(part, unit="h")) for part in (start, end))
    found = past_target_encoding(codes, values, t0, t_end, weight=weight)
    for i in range(rows):
        known = [j for j in range(rows) if end[j] < start[i] and np.isfinite(values[j])]
        if not known:
            assert np.isnan(found[i])
            continue
        mean = values[known].mean()
        own = values[[j for j in known if codes[j] == codes[i] and codes[j] >= 0]]
        expected = (own.sum() + weight * mean) / (own.size + weight) if own.size + weight and codes[i] >= 0 else mean
        assert found[i] == pytest.approx(expected, abs=1e-9)


def test_later_labels_and_ones_own_change_nothing_on_real_bars() -> None:
    bars = eurusd().iloc[:800]
    words = spell(words_over_time(ratio_returns(bars["close"].to_numpy()), 24, 3, 4))
    labels = future_return(bars, horizon=6)
    kept = bars.index.isin(labels.index)
    codes = PatternVocabulary.of(words[kept][:300]).codes(words[kept])
    t0, t_end = pd.DatetimeIndex(bars["close_ts"][kept]), pd.DatetimeIndex(labels["t_end"])
    value = labels["value"].to_numpy()
    found = past_target_encoding(codes, value, t0, t_end)
    for row in (300, 500, 700):
        other = value.copy()
        other[np.asarray(t_end >= t0[row])] = 99.0
        assert past_target_encoding(codes, other, t0, t_end)[row] == found[row]
        assert np.isfinite(found[row])
        other[np.flatnonzero(np.asarray(t_end < t0[row]))[-1]] = 99.0
        assert past_target_encoding(codes, other, t0, t_end)[row] != found[row]
    splits = list(PurgedKFold(t0, t_end).split(value))
    out = fold_target_encoding(codes, value, splits)
    assert np.isfinite(out).all()
    train, test = splits[2]
    row = test[10]
    mine = value[train][codes[train] == codes[row]] if codes[row] >= 0 else np.empty(0)
    mean = value[train].mean()
    assert out[row] == pytest.approx((mine.sum() + 20 * mean) / (mine.size + 20))


def test_encodings_refuse_what_does_not_fit() -> None:
    ts = pd.date_range("2017-01-02", periods=2, freq="h", tz="UTC")
    with pytest.raises(DataError, match="belong together"):
        past_target_encoding([0], [1.0, 2.0], ts, ts)
    with pytest.raises(DataError, match="below -1"):
        past_target_encoding([0, -2], [1.0, 2.0], ts, ts)
    with pytest.raises(ConfigurationError, match="negative"):
        past_target_encoding([0, 0], [1.0, 2.0], ts, ts, weight=-1)
    with pytest.raises(DataError, match="both in training and test"):
        fold_target_encoding([0, 0], [1.0, 2.0], [(np.array([0, 1]), np.array([1]))])


def test_learned_codes_tell_shapes_apart_and_are_the_same_again() -> None:
    generator = np.random.default_rng(6)
    grid = np.linspace(0, 1, 24)
    kinds = np.array([grid - 0.5, 0.5 - grid, np.sin(2 * np.pi * grid)])
    truth = generator.choice(3, size=300, p=[0.5, 0.3, 0.2])
    windows = kinds[truth] + generator.normal(0, 0.1, (300, 24))
    book = ShapeCodebook.fit(windows[:200], 3)
    np.testing.assert_array_equal(book.codes(windows), truth, err_msg="numbered by how common they are")
    np.testing.assert_array_equal(ShapeCodebook.fit(windows[:200], 3).centres, book.centres)
    windows[0, 3] = np.nan
    assert book.codes(windows)[0] == -1
    with pytest.raises(DataError, match="not finite"):
        ShapeCodebook.fit(windows, 3)
    with pytest.raises(DataError, match="do not fit"):
        book.codes(windows[:, :5])
    with pytest.raises(DataError, match="do not make"):
        ShapeCodebook.fit(windows[1:3], 3)
