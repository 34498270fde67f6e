"""Sequences of shapes as vectors, and the past sequences nearest to one.

Two embeddings: hashed n-grams, which need no fit (Weinberger et al., Feature Hashing, ICML 2009), and word vectors from
the past: a truncated SVD of the positive pointwise mutual information of shapes that follow each other (Levy and
Goldberg, Neural Word Embedding as Implicit Matrix Factorization, NIPS 2014: what word2vec factorises).
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from tapeline.core.errors import ConfigurationError, DataError, LookAheadError
from tapeline.features.arrays import Floats

Sentence = Sequence[Hashable | None]


def hashed_ngrams(sentences: Iterable[Sentence], *, dimensions: int = 64, longest: int = 3) -> Floats:
    """Each sequence as counts of its n-grams of 1 to ``longest`` shapes, hashed into ``dimensions``, of length 1.

    The hash (BLAKE2b) is the same in every process; its sign bit makes collisions cancel on average. An n-gram does
    not reach over a missing shape (None). A sequence without a shape is all 0.

    Examples
    --------
    >>> found = hashed_ngrams([["ab", "ba"], ["ab", "ba"], ["cc", "cc"]], dimensions=32)
    >>> (found @ found.T).round(6)[0, :2].tolist(), bool(abs(found[0] @ found[2]) < 0.9)
    ([1.0, 1.0], True)
    """
    if dimensions < 2 or longest < 1:
        raise ConfigurationError(f"dimensions = {dimensions} must be 2 at least, longest = {longest} 1")
    rows: list[Floats] = []
    places: dict[tuple[str, ...], tuple[int, float]] = {}
    for sentence in sentences:
        row = np.zeros(dimensions)
        words = [None if word is None else str(word) for word in sentence]
        for length in range(1, longest + 1):
            for start in range(len(words) - length + 1):
                gram = tuple(word for word in words[start : start + length] if word is not None)
                if len(gram) < length:
                    continue
                if gram not in places:
                    number = int.from_bytes(hashlib.blake2b("\x1f".join(gram).encode(), digest_size=8).digest())
                    places[gram] = (number >> 1) % dimensions, 1.0 if number & 1 else -1.0
                place, sign = places[gram]
                row[place] += sign
        rows.append(row)
    return _unit(np.array(rows).reshape(-1, dimensions))


@dataclass(frozen=True)
class ShapeVectors:
    """A vector a shape, learned from which shapes stood near each other up to ``fitted_until``.

    Parameters
    ----------
    shapes:
        The shapes known, in the order of the rows.
    vectors:
        ``(shapes, dimensions)``.
    fitted_until:
        The last instant that the fit has read; None where it was told none.
    """

    shapes: tuple[str, ...]
    vectors: Floats
    fitted_until: pd.Timestamp | None = None

    @classmethod
    def fit(
        cls,
        words: Sentence,
        *,
        ts: pd.DatetimeIndex | None = None,
        until: pd.Timestamp | None = None,
        dimensions: int = 8,
        context: int = 2,
        least: int = 2,
    ) -> ShapeVectors:
        """Learn from one sequence of shapes, or the part of it known by ``until``.

        Parameters
        ----------
        words:
            Shapes in the order of time; None breaks the sequence (a gap).
        ts, until:
            When each shape was known; only those not after ``until`` are read.
        context:
            How many shapes to either side count as near.
        least:
            Shapes that come up less often are left out.

        Raises
        ------
        ConfigurationError
            ``until`` without ``ts``, or a size below 1.
        DataError
            Lengths differ, or no pair of shapes is left.

        Examples
        --------
        >>> model = ShapeVectors.fit(["up", "down"] * 20 + ["flat", "wide"] * 20, dimensions=2)
        >>> near = model.similarity("up", "down"), model.similarity("up", "wide")
        >>> bool(near[0] > near[1])
        True
        """
        if (ts is None) != (until is None):
            raise ConfigurationError("'ts' and 'until' go together")
        if min(dimensions, context, least) < 1:
            raise ConfigurationError(f"dimensions = {dimensions}, context = {context} and least = {least}: 1 at least")
        names = [None if word is None else str(word) for word in words]
        if ts is not None and until is not None:
            if len(ts) != len(names):
                raise DataError(f"{len(names)} shapes and {len(ts)} times do not belong together")
            names = [name for name, known in zip(names, np.asarray(ts <= until), strict=True) if known]
        counts = Counter(name for name in names if name is not None)
        shapes = tuple(sorted(name for name, count in counts.items() if count >= least))
        codes = pd.Index(shapes, dtype=object).get_indexer(pd.Index(names, dtype=object))
        matrix = _cooccurrences(codes, np.array([name is None for name in names]), len(shapes), context)
        if not matrix.any():
            raise DataError(
                f"{len(names)} shapes hold no pair to learn from", hint="give a longer past, or a smaller 'least'"
            )
        left, weights, _ = np.linalg.svd(_mutual_information(matrix))
        kept = min(dimensions, len(shapes))
        vectors = left[:, :kept] * np.sqrt(weights[:kept])
        # The sign of a singular vector is free: the largest entry is made positive, so that two machines agree.
        vectors *= np.sign(vectors[np.abs(vectors).argmax(axis=0), np.arange(kept)] + 1e-300)
        padded = np.zeros((len(shapes), dimensions))
        padded[:, :kept] = vectors
        return cls(shapes, padded, None if until is None else pd.Timestamp(until))

    def similarity(self, first: Hashable, second: Hashable) -> float:
        """Cosine of two shapes' vectors, -1 to 1; 0 where one is unknown."""
        both = _unit(np.array([self.embed([[first]])[0], self.embed([[second]])[0]]))
        return float(both[0] @ both[1])

    def embed(self, sentences: Iterable[Sentence], *, at: pd.DatetimeIndex | None = None) -> Floats:
        """Each sequence as the mean of its shapes' vectors, ``(n, dimensions)``, of length 1; all 0 if none is known.

        Raises LookAheadError where a sequence of the time ``at`` is older than what the fit has read.
        """
        rows = list(sentences)
        if at is not None and self.fitted_until is not None and len(at) and at.min() < self.fitted_until:
            raise LookAheadError(
                f"the vectors were fitted until {self.fitted_until}, a sequence to embed is of {at.min()}",
                hint="fit on an earlier past",
            )
        place = {name: row for row, name in enumerate(self.shapes)}
        result = np.zeros((len(rows), self.vectors.shape[1]))
        for number, sentence in enumerate(rows):
            known = [place[str(word)] for word in sentence if word is not None and str(word) in place]
            if known:
                result[number] = self.vectors[known].mean(axis=0)
        return _unit(result)


def nearest_sequences(
    vectors: Floats,
    known_at: pd.DatetimeIndex,
    query: Floats,
    at: pd.Timestamp,
    *,
    count: int = 5,
) -> pd.DataFrame:
    """The stored sequences most like one, by cosine, among those known before ``at``.

    Parameters
    ----------
    vectors:
        ``(n, dimensions)``, of :func:`hashed_ngrams` or :meth:`ShapeVectors.embed`.
    known_at:
        When each stored sequence, with whatever is wanted of it (such as its label), was known.

    Returns
    -------
    A row each, nearest first, of equals the latest first: ``row`` (its place), ``known_at``, ``similarity`` (-1 to 1).

    Raises
    ------
    DataError
        Shapes do not belong together.

    Examples
    --------
    >>> ts = pd.date_range("2017-01-02", periods=3, freq="D", tz="UTC")
    >>> stored = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
    >>> nearest_sequences(stored, ts, np.array([1.0, 0.1]), ts[2], count=2)["row"].tolist()
    [0, 1]
    """
    if vectors.ndim != 2 or len(vectors) != len(known_at) or query.shape != vectors.shape[1:]:
        raise DataError(f"vectors {vectors.shape}, {len(known_at)} times and a query {query.shape} do not fit")
    rows = np.flatnonzero(np.asarray(known_at < at))
    likeness = _unit(vectors[rows]) @ _unit(query[None])[0]
    order = np.lexsort((-known_at.asi8[rows], -likeness))[:count]
    return pd.DataFrame({"row": rows[order], "known_at": known_at[rows[order]], "similarity": likeness[order]})


def _cooccurrences(codes: np.ndarray, breaks: np.ndarray, size: int, context: int) -> Floats:
    matrix = np.zeros((size, size))
    run = np.cumsum(breaks)
    for apart in range(1, context + 1):
        first, second = codes[:-apart], codes[apart:]
        both = (first >= 0) & (second >= 0) & (run[:-apart] == run[apart:])
        np.add.at(matrix, (first[both], second[both]), 1.0)
    return matrix + matrix.T


def _mutual_information(matrix: Floats) -> Floats:
    """Positive pointwise mutual information: the logarithm of how much oftener than by chance a pair is, 0 if not."""
    shares = matrix / matrix.sum()
    chance = np.outer(shares.sum(axis=1), shares.sum(axis=0))
    result = np.zeros_like(shares)
    some = shares > 0
    result[some] = np.log(shares[some] / chance[some])
    return np.maximum(result, 0.0)


def _unit(vectors: Floats) -> Floats:
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.divide(vectors, length, out=np.zeros_like(vectors), where=length > 0)
