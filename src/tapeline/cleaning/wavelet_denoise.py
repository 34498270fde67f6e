"""Wavelet denoising: a window is split into scales, what looks like noise in its details is shrunk, the end is kept."""

from __future__ import annotations

import math

import numpy as np

from tapeline.cleaning.signal_array import Floats, Values, delayed, on_values, require
from tapeline.cleaning.wavelet_kernels import Wavelet, denoised_last, wavelet_taps
from tapeline.core.errors import ConfigurationError
from tapeline.core.registry import research


def _removed_delay(window: int, wavelet: Wavelet, level: int) -> float:
    """How late a straight move comes out where all details are removed."""
    line = np.arange(float(window))
    return float(window - 1.0 - denoised_last(line, window, level, wavelet_taps(wavelet), np.inf)[-1])


@delayed(_removed_delay)
def wavelet_denoise(
    values: Values, window: int = 64, wavelet: Wavelet = "sym4", level: int = 3, multiple: float = 1.0
) -> Values:
    """Rolling wavelet denoising: each output is the last value of its own denoised window.

    The window is transformed with mirrored ends, its details of all levels are shrunk towards zero by ``multiple``
    times the universal threshold ``sigma sqrt(2 log window)``, with ``sigma`` from the median of the finest ones.

    Parameters
    ----------
    window:
        Values a transform sees, past and present; NaN before the first full one and where one holds a NaN.
    level:
        Scales that are split off: 1 to the highest that the window's length and the wavelet allow.
    multiple:
        0 leaves the signal as it is.

    Notes
    -----
    Not linear. The declared delay is that of a move too slow to stand out of the noise, where all details go; a move
    that does stand out comes sooner, one without noise at once. Mirroring bends a trend at the window's end; the
    other common continuations were measured to leave two to four times the noise there.

    References
    ----------
    D. L. Donoho and I. M. Johnstone, Ideal spatial adaptation by wavelet shrinkage, Biometrika 81 (1994), 425-455.

    Examples
    --------
    >>> wavelet_denoise(np.arange(20.0), window=16, wavelet="haar", level=2, multiple=0.0)[-1].round(9).item()
    19.0
    """
    require("multiple", multiple, 0.0, 1e6)
    bank = _checked(window, wavelet, level)
    return on_values(values, lambda x: denoised_last(x, window, level, bank, float(multiple)))


@research
def wavelet_denoise_whole(values: Values, wavelet: Wavelet = "sym4", level: int = 3, multiple: float = 1.0) -> Values:
    """Wavelet denoising of the whole series at once: no delay, and each value reads the future.

    Examples
    --------
    >>> wavelet_denoise_whole(np.arange(64.0), multiple=0.0).round(9)[10].item()
    10.0
    """
    require("multiple", multiple, 0.0, 1e6)

    def denoised(x: Floats) -> Floats:
        import pywt

        _checked(x.size, wavelet, level)
        parts: list[Floats] = pywt.wavedec(x, wavelet, mode="symmetric", level=level)
        threshold: float = multiple * math.sqrt(2.0 * math.log(x.size)) * float(np.median(np.abs(parts[-1]))) / 0.6745
        kept = [parts[0], *(pywt.threshold(part, threshold, "soft") for part in parts[1:])] if threshold else parts
        return pywt.waverec(kept, wavelet, mode="symmetric")[: x.size]

    return on_values(values, denoised)


def _checked(window: int, wavelet: Wavelet, level: int) -> tuple[Floats, Floats, Floats, Floats]:
    bank = wavelet_taps(wavelet)
    taps = bank[0].size
    require("window", window, 2, whole=True)
    require("level", level, 1, whole=True)
    highest = int(math.log2(max(window / (taps - 1), 1.0)))
    if level > highest:
        raise ConfigurationError(
            f"level = {level} is above {highest}, the highest of {window} values with {wavelet}",
            hint="take a longer window or a shorter wavelet",
        )
    return bank
