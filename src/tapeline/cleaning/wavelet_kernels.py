"""Compiled wavelet loops: the decimated transform of one window, the maximal overlap pyramid, and their windows."""

from __future__ import annotations

from functools import lru_cache
from typing import Literal, get_args

import numpy as np
from numba import njit

from tapeline.cleaning.signal_array import Floats
from tapeline.core.errors import ConfigurationError

Wavelet = Literal["haar", "db2", "db3", "db4", "db6", "db8", "sym4", "sym6", "sym8", "coif1", "coif2"]
"""Orthogonal wavelets: Haar's, Daubechies' of least delay, her least asymmetric ones, and coiflets."""


@lru_cache(maxsize=32)
def wavelet_taps(wavelet: str) -> tuple[Floats, Floats, Floats, Floats]:
    """The four filters of an orthogonal wavelet: low and high of the analysis, low and high of the synthesis.

    Examples
    --------
    >>> wavelet_taps("haar")[0].round(4)
    array([0.7071, 0.7071])
    """
    if wavelet not in get_args(Wavelet):
        raise ConfigurationError(
            f"wavelet = {wavelet!r} is unknown", hint=f"give one of {', '.join(get_args(Wavelet))}"
        )
    import pywt

    low, high, rebuild_low, rebuild_high = (np.array(part) for part in pywt.Wavelet(wavelet).filter_bank)
    for taps in (low, high, rebuild_low, rebuild_high):
        taps.flags.writeable = False
    return low, high, rebuild_low, rebuild_high


@njit(cache=True)
def mirrored(index: int, size: int) -> int:
    """Where an index beyond either end lands when the values are mirrored there, the end itself repeated."""
    while index < 0 or index >= size:
        index = -1 - index if index < 0 else 2 * size - 1 - index
    return index


@njit(cache=True)
def analyse(values: Floats, size: int, low: Floats, high: Floats, approximation: Floats, detail: Floats) -> int:
    """One level of the decimated transform with mirrored ends; fills the two outputs and gives their length."""
    taps = low.size
    count = (size + taps - 1) // 2
    for k in range(count):
        a, d = 0.0, 0.0
        first = 2 * k + 1
        if first - taps + 1 >= 0 and first < size:
            for j in range(taps):
                value = values[first - j]
                a += low[j] * value
                d += high[j] * value
        else:
            for j in range(taps):
                value = values[mirrored(first - j, size)]
                a += low[j] * value
                d += high[j] * value
        approximation[k] = a
        detail[k] = d
    return count


@njit(cache=True)
def denoised_last(
    values: Floats,
    window: int,
    level: int,
    bank: tuple[Floats, Floats, Floats, Floats],
    multiple: float,
) -> Floats:
    """Last value of each window after its details were shrunk towards zero; NaN where a window is not whole.

    Forwards the window is transformed as a whole; backwards only those values are rebuilt that reach the last one.
    """
    low, high, rebuild_low, rebuild_high = bank
    taps = low.size
    room = window + taps
    approximations = np.empty((level + 1, room))
    details = np.empty((level + 1, room))
    lengths = np.empty(level + 1, dtype=np.int64)
    firsts = np.empty(level + 1, dtype=np.int64)
    universal = multiple * np.sqrt(2.0 * np.log(window)) / 0.6745
    lengths[0] = window
    result = np.full(values.size, np.nan)
    valid = 0
    for i in range(values.size):
        valid = 0 if np.isnan(values[i]) else valid + 1
        if valid < window:
            continue
        approximations[0, :window] = values[i - window + 1 : i + 1]
        firsts[0] = window - 1
        for j in range(level):
            lengths[j + 1] = analyse(approximations[j], lengths[j], low, high, approximations[j + 1], details[j + 1])
            firsts[j + 1] = firsts[j] // 2
        threshold = universal * np.median(np.abs(details[1, : lengths[1]])) if multiple < np.inf else np.inf
        for j in range(level, 0, -1):
            for k in range(firsts[j], lengths[j]):
                size = abs(details[j, k]) - threshold
                details[j, k] = np.sign(details[j, k]) * size if size > 0.0 else 0.0
            for place in range(firsts[j - 1], lengths[j - 1]):
                total = 0.0
                for k in range(place // 2, min((place + taps - 2) // 2 + 1, lengths[j])):
                    tap = place + taps - 2 - 2 * k
                    total += approximations[j, k] * rebuild_low[tap] + details[j, k] * rebuild_high[tap]
                approximations[j - 1, place] = total
        result[i] = approximations[0, window - 1]
    return result


@njit(cache=True)
def overlap_step(values: Floats, low: Floats, high: Floats, stride: int) -> tuple[Floats, Floats]:
    """One level of the maximal overlap transform: two filters with gaps of ``stride``, from the past alone.

    NaN where the filters reach before the first value.
    """
    taps = low.size
    reach = (taps - 1) * stride
    smooth, detail = np.full(values.size, np.nan), np.full(values.size, np.nan)
    for start in range(reach, values.size, 2048):
        stop = min(start + 2048, values.size)
        smooth[start:stop] = 0.0
        detail[start:stop] = 0.0
        for k in range(taps):
            a, d = low[k], high[k]
            part = values[start - k * stride : stop - k * stride]
            left, right = smooth[start:stop], detail[start:stop]
            for i in range(part.size):
                left[i] += a * part[i]
                right[i] += d * part[i]
    return smooth, detail


@njit(cache=True)
def circular_step(values: Floats, low: Floats, high: Floats, stride: int) -> tuple[Floats, Floats]:
    """One level of the maximal overlap transform on a ring: the first value follows the last."""
    size, taps = values.size, low.size
    smooth, detail = np.zeros(size), np.zeros(size)
    for i in range(size):
        place = i
        for k in range(taps):
            smooth[i] += low[k] * values[place]
            detail[i] += high[k] * values[place]
            place = (place - stride) % size
    return smooth, detail


@njit(cache=True)
def circular_back(smooth: Floats, detail: Floats, low: Floats, high: Floats, stride: int) -> Floats:
    """The inverse of ``circular_step``."""
    size, taps = smooth.size, low.size
    result = np.zeros(size)
    for i in range(size):
        place = i
        for k in range(taps):
            result[i] += low[k] * smooth[place] + high[k] * detail[place]
            place = (place + stride) % size
    return result
