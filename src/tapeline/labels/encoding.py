"""Encoding: directions -1, 0, 1 to class codes 0, 1, 2 and back, and weights that balance the classes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tapeline.core.errors import DataError


@dataclass(frozen=True)
class DirectionEncoder:
    """Directions to class codes, in ascending order, and back.

    Parameters
    ----------
    directions:
        The directions that may occur; -1, 0 and 1 get the codes 0, 1 and 2, and -1 and 1 alone 0 and 1.

    Examples
    --------
    >>> encoder = DirectionEncoder()
    >>> encoder.encode([-1.0, 1.0, 0.0])
    array([0, 2, 1])
    >>> encoder.decode(encoder.encode([-1.0, 1.0, 0.0]))
    array([-1.,  1.,  0.])
    """

    directions: tuple[float, ...] = (-1.0, 0.0, 1.0)

    def encode(self, values: ArrayLike) -> NDArray[np.int64]:
        """The code of each direction; DataError for a value that is none of them, NaN included."""
        given, known = np.asarray(values, dtype=np.float64), self._sorted
        codes = np.minimum(np.searchsorted(known, given), known.size - 1)
        wrong = known[codes] != given
        if wrong.any():
            raise DataError(
                f"{given[wrong].flat[0]} is no direction", hint=f"the directions are {self._sorted.tolist()}"
            )
        return codes.astype(np.int64)

    def decode(self, codes: ArrayLike) -> NDArray[np.float64]:
        """The direction of each code; DataError for a code that stands for none."""
        given = np.asarray(codes)
        wrong = ~np.isin(given, np.arange(self._sorted.size))
        if wrong.any():
            raise DataError(f"{given[wrong].flat[0]} is no class code", hint=f"codes run to {self._sorted.size - 1}")
        return self._sorted[given.astype(np.int64)]

    def class_weights(self, values: ArrayLike) -> dict[int, float]:
        """By code, rows / (classes present * rows of the class): each class then weighs as much as another.

        Classes that do not occur have no weight. The rule is scikit-learn's ``balanced``.

        Examples
        --------
        >>> DirectionEncoder().class_weights([1.0, 1.0, 1.0, -1.0])
        {0: 2.0, 2: 0.6666666666666666}
        """
        codes, counts = np.unique(self.encode(values), return_counts=True)
        total = int(counts.sum())
        return {int(c): float(total / (codes.size * n)) for c, n in zip(codes, counts, strict=True)}

    @property
    def _sorted(self) -> NDArray[np.float64]:
        return np.unique(np.asarray(self.directions, dtype=np.float64))
