"""Wavelets as features: at which scales price moves, where each scale stands, and how far the close is noise."""

from __future__ import annotations

from typing import Annotated, Final

import numpy as np
import pandas as pd
from pydantic import Field

from tapeline.cleaning.decomposition_wavelets import causal_scales, modwt
from tapeline.cleaning.signal_array import delay_of
from tapeline.cleaning.wavelet_denoise import wavelet_denoise
from tapeline.cleaning.wavelet_kernels import Wavelet, wavelet_taps
from tapeline.core.registry import Tolerance, feature
from tapeline.features.arrays import (
    STILL,
    WILDER_MEMORY,
    Window,
    average_true_range,
    changes,
    columns,
    frame,
    log_changes,
    ratio,
)
from tapeline.features.kernels import rolling_mean

LEVELS: Final = 4
RECURSIVE = Tolerance(relative=1e-6, absolute=1e-6)


@feature(
    lookback=lambda window, wavelet: window + (2**LEVELS - 1) * (wavelet_taps(wavelet)[0].size - 1) + 1,
    outputs=(*(f"wavelet_energy_{level}_{{window}}" for level in range(1, LEVELS + 1)), "wavelet_energy_rest_{window}"),
    reference="Percival and Walden, Wavelet Methods for Time Series Analysis (2000), section 8.3: wavelet variance",
)
def wavelet_energy(bars: pd.DataFrame, window: Window = 128, wavelet: Wavelet = "sym4") -> pd.DataFrame:
    """Share of the energy of the log returns at scales of 2, 4, 8 and 16 bars over the last ``window``, and the rest.

    From the causal maximal overlap transform; the shares add up to 1. White noise has one half at scale 2, a quarter
    at 4 and so on; a trend has more in the rest. NaN where price has stood still.

    Examples
    --------
    >>> bars = pd.DataFrame({"close": np.exp(0.01 * (np.arange(60) % 2))})
    >>> wavelet_energy(bars, window=16, wavelet="haar").iloc[-1].round(6).tolist()
    [1.0, 0.0, 0.0, 0.0, 0.0]
    """
    (close,) = columns(bars, "close")
    parts = modwt(log_changes(close), wavelet, LEVELS)
    energies = [rolling_mean(part**2, window) for part in (*parts.details, parts.smooth)]
    total = np.sum(energies, axis=0)
    names = [*(f"wavelet_energy_{level}_{window}" for level in range(1, LEVELS + 1)), f"wavelet_energy_rest_{window}"]
    shares = (ratio(energy, total, STILL**2) for energy in energies)
    return frame(bars, **dict(zip(names, shares, strict=True)))


@feature(
    lookback=lambda window: max(window + 1, 2**LEVELS),
    outputs=tuple(f"wavelet_move_{level}_{{window}}" for level in range(1, LEVELS + 1)),
    reference="Renaud, Starck and Murtagh, IEEE Transactions on Systems, Man and Cybernetics B 35 (2005)",
    delay=(2**LEVELS - 1) / 2,
)
def wavelet_move(bars: pd.DataFrame, window: Window = 96) -> pd.DataFrame:
    """Where each scale of 2, 4, 8 and 16 bars stands now: causal Haar details of the log close, in its volatility.

    Level ``j`` is the mean of the last ``2 ** (j - 1)`` log closes less that of the last ``2 ** j``, over the root mean
    square log return of the last ``window`` bars; unbounded, around 0. It follows the slope of price by
    ``(2 ** j - 1) / 2`` bars; the declared delay is that of the slowest. NaN where price has stood still.

    Examples
    --------
    >>> bars = pd.DataFrame({"close": np.exp(0.01 * np.arange(40.0))})
    >>> wavelet_move(bars, window=10).iloc[-1].round(6).tolist()
    [0.5, 1.0, 2.0, 4.0]
    """
    (close,) = columns(bars, "close")
    logs = np.log(close)
    volatility = np.sqrt(rolling_mean(log_changes(close) ** 2, window))
    details = causal_scales(logs, "haar", LEVELS).details
    return frame(
        bars,
        **{f"wavelet_move_{j + 1}_{window}": ratio(detail, volatility, STILL) for j, detail in enumerate(details)},
    )


@feature(
    lookback=lambda window, atr_window: max(window + 1, WILDER_MEMORY * atr_window),
    outputs=("wavelet_noise_{window}", "wavelet_slope_{window}"),
    reference="Donoho and Johnstone, Biometrika 81 (1994): the universal threshold, on each window of the past",
    tolerance=RECURSIVE,
    delay=lambda window, wavelet, level: delay_of(wavelet_denoise, window=window, wavelet=wavelet, level=level),
)
def wavelet_noise(
    bars: pd.DataFrame,
    window: Annotated[int, Field(ge=32, le=4096)] = 64,
    wavelet: Wavelet = "sym4",
    level: Annotated[int, Field(ge=1, le=2)] = 2,
    atr_window: Window = 14,
) -> pd.DataFrame:
    """Distance of the close above its denoised course, and the change of that course a bar, in average true ranges.

    The course is the last value of each window after wavelet denoising. Around 0; exactly 0 where all that moves
    stands out of the noise. NaN where price has stood still.

    Examples
    --------
    >>> from tapeline.core.example import example_bars
    >>> wavelet_noise(example_bars(*range(100, 140)), window=32, wavelet="db2").iloc[-1].abs().round(6).tolist()
    [0.0, 0.333333]
    """
    (close,) = columns(bars, "close")
    course = wavelet_denoise(close, window, wavelet, level)
    unit, floor = average_true_range(bars, atr_window)
    return frame(
        bars,
        **{
            f"wavelet_noise_{window}": ratio(close - course, unit, floor),
            f"wavelet_slope_{window}": ratio(changes(course), unit, floor),
        },
    )
