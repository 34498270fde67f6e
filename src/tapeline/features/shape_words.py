"""SAX: a stretch of price as a word of a few letters.

Lin, Keogh, Lonardi and Chiu, A Symbolic Representation of Time Series, DMKD (2003); Lin, Keogh, Wei and Lonardi,
Experiencing SAX, Data Mining and Knowledge Discovery 15 (2007).
"""

from __future__ import annotations

from statistics import NormalDist
from typing import Annotated, Final

import numpy as np
import pandas as pd
from numba import njit
from numpy.typing import NDArray
from pydantic import Field

from tapeline.core.errors import ConfigurationError
from tapeline.core.registry import feature
from tapeline.features.analogue_kernels import normalised_windows
from tapeline.features.arrays import Floats, columns, frame
from tapeline.features.market_regime import ratio_returns

ALPHABET: Final = "abcdefghijklmnopqrst"
SEGMENTS: Final = 4
"""Letters of the registered word."""

Letters = Annotated[int, Field(ge=3, le=20)]
Codes = NDArray[np.int64]


@feature(
    lookback=lambda window: window + 1,
    outputs=tuple(f"sax_{place}_{{window}}_{{letters}}" for place in range(1, SEGMENTS + 1)),
    reference="Lin, Keogh, Wei and Lonardi, Experiencing SAX, Data Mining and Knowledge Discovery 15 (2007)",
)
def sax_letters(
    bars: pd.DataFrame, window: Annotated[int, Field(ge=4, le=2_000)] = 24, letters: Letters = 5
) -> pd.DataFrame:
    """The last ``window`` closes as a word of four letters, one a column, 0 (lowest) to ``letters - 1`` (highest).

    The path of log closes is brought to mean 0 and deviation 1, averaged over four equal parts, and each mean put
    between the breakpoints that cut the normal distribution into equally likely letters. NaN where price has stood
    still: it has no shape.

    Examples
    --------
    >>> from tapeline.core.example import example_bars
    >>> sax_letters(example_bars(10, 11, 12, 13, 14), window=4, letters=4).iloc[-1].tolist()
    [0.0, 1.0, 2.0, 3.0]
    """
    (close,) = columns(bars, "close")
    codes = words_over_time(ratio_returns(close), window, SEGMENTS, letters)
    values = np.where(codes < 0, np.nan, codes.astype(np.float64))
    return frame(bars, **{f"sax_{place + 1}_{window}_{letters}": values[:, place] for place in range(SEGMENTS)})


def breakpoints(letters: int) -> Floats:
    """The ``letters - 1`` cuts that make ``letters`` equally likely parts of the standard normal distribution.

    Raises
    ------
    ConfigurationError
        Fewer than 2 letters or more than 20.

    Examples
    --------
    >>> breakpoints(4).round(2).tolist()
    [-0.67, 0.0, 0.67]
    """
    if not 2 <= letters <= len(ALPHABET):
        raise ConfigurationError(f"letters = {letters} is not in [2, {len(ALPHABET)}]")
    cuts = np.array([NormalDist().inv_cdf(k / letters) for k in range(1, letters)])
    # The middle one is 0 by definition, not by rounding.
    cuts[np.abs(cuts) < 1e-12] = 0.0
    return cuts


@njit(cache=True, nogil=True)
def piecewise_means(values: Floats, segments: int) -> Floats:
    """Means of ``segments`` equal parts; a value on a border counts to both by the share that lies in each.

    Examples
    --------
    >>> piecewise_means(np.array([1.0, 2.0, 6.0]), 2).round(4).tolist()
    [1.3333, 4.6667]
    """
    result = np.zeros(segments)
    size = values.size
    # In units of 1/segments of a value, so that all borders are whole numbers.
    for i in range(size):
        at, end = i * segments, (i + 1) * segments
        while at < end:
            part = at // size
            until = min(end, (part + 1) * size)
            result[part] += values[i] * (until - at)
            at = until
    return result / size


def words_over_time(returns: Floats, window: int, segments: int, letters: int) -> Codes:
    """The SAX word of the price path that ends at each bar, ``(n, segments)`` letters from 0; -1 where there is none.

    Parameters
    ----------
    returns:
        Log returns; the path of a bar adds up the ``window - 1`` last ones.

    Raises
    ------
    ConfigurationError
        More segments than the window has bars, or none; letters not in [2, 20].

    Examples
    --------
    >>> words_over_time(np.array([np.nan, 0.1, 0.1, 0.1]), 4, 2, 2).tolist()[-1]
    [0, 1]
    """
    if not 1 <= segments <= window:
        raise ConfigurationError(f"segments = {segments} is not in [1, {window}], the window")
    return _words(returns, window, segments, breakpoints(letters))


def spell(codes: Codes) -> NDArray[np.object_]:
    """Letters as words; None where a row has none.

    Examples
    --------
    >>> spell(np.array([[0, 1, 2], [-1, -1, -1]])).tolist()
    ['abc', None]
    """
    result = np.full(len(codes), None, dtype=object)
    for row in np.flatnonzero((codes >= 0).all(axis=1)):
        result[row] = "".join(ALPHABET[code] for code in codes[row])
    return result


def word_distance(first: str, second: str, window: int, letters: int) -> float:
    """MINDIST of two words: a lower bound of the Euclidean distance of the normalised paths they stand for.

    Letters side by side are at distance 0, others as far apart as the breakpoints between them.

    Raises
    ------
    ConfigurationError
        The words differ in length, are empty, or hold a letter beyond the alphabet.

    Examples
    --------
    >>> round(word_distance("ac", "ba", 8, 3), 3)
    1.723
    """
    if len(first) != len(second) or not first:
        raise ConfigurationError(f"the words {first!r} and {second!r} have no common length")
    cuts = breakpoints(letters)
    known = ALPHABET[:letters]
    wrong = sorted(set(first + second) - set(known))
    if wrong:
        raise ConfigurationError(f"{wrong} are no letters of an alphabet of {letters}")
    total = 0.0
    for a, b in zip(first, second, strict=True):
        low, high = sorted((known.index(a), known.index(b)))
        if high - low > 1:
            total += (cuts[high - 1] - cuts[low]) ** 2
    return float(np.sqrt(window / len(first) * total))


@njit(cache=True, nogil=True)
def _words(returns: Floats, window: int, segments: int, cuts: Floats) -> Codes:
    result = np.full((returns.size, segments), -1, dtype=np.int64)
    for begin in range(0, returns.size, 4096):
        end = min(returns.size, begin + 4096)
        paths, deviations = normalised_windows(returns, window, begin, end)
        for row in range(begin, end):
            if deviations[row - begin] == 0.0 or np.isnan(deviations[row - begin]):
                continue
            means = piecewise_means(paths[:, row - begin].copy(), segments)
            for k in range(segments):
                letter = 0
                # Rounded, so that a mean that is 0 by symmetry lies on its border and not beside it.
                while letter < cuts.size and round(means[k], 12) >= cuts[letter]:
                    letter += 1
                result[row, k] = letter
    return result
