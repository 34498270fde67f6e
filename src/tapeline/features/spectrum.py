"""The spectrum of returns as features: the strongest wave, how much it explains, and how evenly power is spread."""

from __future__ import annotations

from typing import Annotated

import numpy as np
import pandas as pd
from pydantic import Field

from tapeline.cleaning.decomposition_fourier import rolling_spectrum, spectral_entropy, strongest_waves
from tapeline.core.registry import Tolerance, feature
from tapeline.features.arrays import columns, frame, log_changes


@feature(
    lookback=lambda window: window + 1,
    outputs=("wave_period_{window}", "wave_share_{window}", "spectral_entropy_{window}"),
    reference="Allen and Rabiner, Proceedings of the IEEE 65 (1977); entropy as Inouye et al. (1991)",
    tolerance=Tolerance(relative=1e-7, absolute=1e-7),
    delay=lambda window: (window - 1) / 2,
)
def strongest_wave(bars: pd.DataFrame, window: Annotated[int, Field(ge=16, le=4096)] = 128) -> pd.DataFrame:
    """The strongest wave in the last ``window`` log returns: its period in bars, its share of power; and the entropy.

    Of the short-time Fourier transform with Hann's taper. Share and entropy are 0 to 1; noise has a share of some 10
    percent and an entropy of about 0.9. NaN where price has stood still.

    Examples
    --------
    >>> bars = pd.DataFrame({"close": np.exp(0.01 * np.sin(2 * np.pi * np.arange(200) / 12))})
    >>> strongest_wave(bars, window=64).iloc[-1].round(1).tolist()
    [12.0, 1.0, 0.3]
    """
    (close,) = columns(bars, "close")
    # Rounded, so that a scale of prices cannot decide between two waves of equal power.
    power = rolling_spectrum(np.round(log_changes(close), 13), window)
    periods, shares = strongest_waves(power, window, 1)
    return frame(
        bars,
        **{
            f"wave_period_{window}": periods[:, 0],
            f"wave_share_{window}": shares[:, 0],
            f"spectral_entropy_{window}": spectral_entropy(power),
        },
    )
