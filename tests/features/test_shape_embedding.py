"""Embeddings of sequences of shapes: what is alike lies near, the past alone is learned from and searched."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tapeline.core.errors import ConfigurationError, DataError, LookAheadError
from tapeline.features.market_regime import ratio_returns
from tapeline.features.shape_embedding import (
    ShapeVectors,
    _cooccurrences,
    _mutual_information,
    hashed_ngrams,
    nearest_sequences,
)
from tapeline.features.shape_words import spell, words_over_time
from tests.core.samples import eurusd

SENTENCE = st.lists(st.sampled_from(["aa", "ab", "ba", "bb", None]), max_size=8)


@settings(max_examples=40, deadline=None)
@given(SENTENCE, SENTENCE)
def test_hashed_counts_keep_the_products_of_the_plain_counts(first, second) -> None:
    """With far more dimensions than n-grams, cosines are those of the counts themselves."""

    def counts(sentence) -> dict[tuple[str, ...], int]:
        found: dict[tuple[str, ...], int] = {}
        for length in (1, 2):
            for start in range(len(sentence) - length + 1):
                gram = tuple(sentence[start : start + length])
                if None not in gram:
                    found[gram] = found.get(gram, 0) + 1
        return found

    vectors = hashed_ngrams([first, second], dimensions=1 << 16, longest=2)
    a, b = counts(first), counts(second)
    lengths = [np.sqrt(sum(n * n for n in part.values())) for part in (a, b)]
    expected = sum(n * b.get(gram, 0) for gram, n in a.items()) / (lengths[0] * lengths[1] or 1.0)
    assert vectors[0] @ vectors[1] == pytest.approx(expected, abs=1e-9)


def test_the_hash_is_the_same_in_every_process() -> None:
    found = hashed_ngrams([["ab"]], dimensions=16, longest=1)[0]
    # BLAKE2b-64 of "ab", by Python's hashlib: the place is the number halved, modulo 16, the sign its last bit.
    import hashlib

    number = int(hashlib.blake2b(b"ab", digest_size=8).hexdigest(), 16)
    expected = np.zeros(16)
    expected[(number // 2) % 16] = 1.0 if number % 2 else -1.0
    np.testing.assert_array_equal(found, expected)


def test_mutual_information_by_hand() -> None:
    # x y x y: x-y are side by side three times, never x-x: half of all pairs would be by chance.
    codes = np.array([0, 1, 0, 1])
    matrix = _cooccurrences(codes, np.zeros(4, dtype=bool), 2, 1)
    assert matrix.tolist() == [[0.0, 3.0], [3.0, 0.0]]
    np.testing.assert_allclose(_mutual_information(matrix), np.log(2) * np.array([[0, 1], [1, 0]]))
    broken = _cooccurrences(np.array([0, -1, 1]), np.array([False, True, False]), 2, 2)
    assert not broken.any(), "nothing is near over a gap"


def test_all_dimensions_give_the_information_back() -> None:
    words = list(np.random.default_rng(0).choice(list("abcdef"), 300))
    model = ShapeVectors.fit(words, dimensions=6)
    codes = pd.Index(model.shapes).get_indexer(pd.Index(words))
    information = _mutual_information(_cooccurrences(codes, np.zeros(300, dtype=bool), 6, 2))
    # The information is symmetric, so its SVD is U S U' but for signs, and the vectors are U sqrt(S): their products
    # are the symmetric root of the information times itself.
    values, axes = np.linalg.eigh(information)
    np.testing.assert_allclose(model.vectors @ model.vectors.T, axes @ np.diag(np.abs(values)) @ axes.T, atol=1e-8)


def test_shapes_that_share_their_neighbours_lie_near() -> None:
    generator = np.random.default_rng(1)
    words: list[str] = []
    for _ in range(200):
        middle = generator.choice(["hammer", "pin"]) if generator.random() < 0.5 else generator.choice(["star", "tomb"])
        words += ["fall", str(middle), "rise"] if middle in ("hammer", "pin") else ["climb", str(middle), "drop"]
    model = ShapeVectors.fit(words, dimensions=3, context=1)
    assert model.similarity("hammer", "pin") > 0.9
    assert model.similarity("hammer", "star") < 0.5
    assert model.similarity("hammer", "unknown") == 0.0


def test_only_the_past_is_learned_from_and_searched_on_real_bars() -> None:
    bars = eurusd().iloc[:1_500]
    words = spell(words_over_time(ratio_returns(bars["close"].to_numpy()), 12, 3, 3))
    known = pd.DatetimeIndex(bars["close_ts"])
    until = known[799]
    model = ShapeVectors.fit(words, ts=known, until=until)
    other = words.copy()
    other[800:] = "ccc"
    again = ShapeVectors.fit(other, ts=known, until=until)
    np.testing.assert_array_equal(model.vectors, again.vectors)
    ends = np.arange(812, 1_500, 12)
    sentences = [words[end - 36 : end + 1 : 12] for end in ends]
    vectors = model.embed(sentences, at=known[ends])
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0)
    found = nearest_sequences(vectors, known[ends], vectors[40], known[ends[40]], count=7)
    assert len(found) == 7
    assert (found["known_at"] < known[ends[40]]).all()
    slow = vectors[:40] @ vectors[40]
    np.testing.assert_allclose(found["similarity"], np.sort(slow)[::-1][:7], atol=1e-12)
    with pytest.raises(LookAheadError, match="fitted until"):
        model.embed([["aaa"]], at=known[[100]])


def test_what_cannot_be_learned_is_refused() -> None:
    ts = pd.date_range("2017-01-02", periods=3, freq="h", tz="UTC")
    with pytest.raises(ConfigurationError, match="go together"):
        ShapeVectors.fit(["a", "b", "a"], ts=ts)
    with pytest.raises(DataError, match="no pair"):
        ShapeVectors.fit(["a", None, "b"], least=1)
    with pytest.raises(ConfigurationError, match="1 at least"):
        ShapeVectors.fit(["a", "b"], dimensions=0)
    with pytest.raises(ConfigurationError, match="dimensions = 1"):
        hashed_ngrams([["a"]], dimensions=1)
    with pytest.raises(DataError, match="do not fit"):
        nearest_sequences(np.ones((2, 3)), ts, np.ones(3), ts[0])
