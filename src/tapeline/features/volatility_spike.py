"""Volatility spikes: bars that move far more than is usual at their time of day, and what is left of them since."""

from __future__ import annotations

from typing import Annotated

import numpy as np
import pandas as pd
from numba import njit
from pydantic import Field

from tapeline.cleaning.volume_profile import relative_volume_by_time
from tapeline.core.registry import feature
from tapeline.features.arrays import Count, Floats, columns, frame
from tapeline.features.relative_volume import MINIMUM, Days, SlotMinutes, Zone

Multiple = Annotated[float, Field(gt=1, le=1000)]
HalfLife = Annotated[float, Field(gt=0, le=10_000)]


@njit(cache=True, nogil=True)
def spike_memory(sizes: Floats, multiple: float, half_life: float, memory: int) -> tuple[Floats, Floats, Floats]:
    """The newest spike within the last ``memory`` values, and what is left of all of them.

    A spike is a size of ``multiple`` or more. An unknown size is none.

    Returns
    -------
    How many values ago the newest one was, ``memory`` where there was none; its size, 0 where there was none; and the
    largest of all sizes in the memory that were spikes, each halved every ``half_life`` values.

    Examples
    --------
    >>> age, size, left = spike_memory(np.array([1.0, 8.0, 1.0, 4.0, np.nan]), 3.0, 1.0, 4)
    >>> age.tolist(), size.tolist(), left.tolist()
    ([4.0, 0.0, 1.0, 0.0, 1.0], [0.0, 8.0, 8.0, 4.0, 4.0], [0.0, 8.0, 4.0, 4.0, 2.0])
    """
    size = sizes.size
    ages, newest, left = np.empty(size), np.empty(size), np.empty(size)
    keep = 0.5 ** (1.0 / half_life)
    last, strongest = -1, -1
    for i in range(size):
        if sizes[i] >= multiple:
            last = i
            # Sizes fall alike, so that a spike that is smaller now stays so, until the larger one is forgotten.
            if strongest < 0 or sizes[i] >= sizes[strongest] * keep ** (i - strongest):
                strongest = i
        if last >= 0 and i - last >= memory:
            last, strongest = -1, -1
        if strongest >= 0 and i - strongest >= memory:
            strongest = last
            for j in range(i - memory + 1, i + 1):
                if sizes[j] >= multiple and sizes[j] * keep ** (i - j) >= sizes[strongest] * keep ** (i - strongest):
                    strongest = j
        ages[i] = i - last if last >= 0 else memory
        newest[i] = sizes[last] if last >= 0 else 0.0
        left[i] = sizes[strongest] * keep ** (i - strongest) if strongest >= 0 else 0.0
    return ages, newest, left


@feature(
    lookback=lambda longest, memory: longest + memory,
    outputs=(
        "range_to_norm_{days}",
        "volatility_spike_{days}",
        "spike_age_{days}",
        "spike_decay_{days}",
        "spike_left_{days}",
    ),
    reference="Andersen and Bollerslev, Journal of Empirical Finance 4 (1997): the pattern of volatility in the day; "
    "Boudt, Croux and Laurent, Journal of Empirical Finance 18 (2011): jumps against a robust pattern",
    stackable=False,
)
def volatility_spike(
    bars: pd.DataFrame,
    days: Days = 20,
    multiple: Multiple = 3.0,
    memory: Count = 96,
    half_life: HalfLife = 12.0,
    slot_minutes: SlotMinutes = 60,
    zone: Zone = "UTC",
    longest: Count = 480,
) -> pd.DataFrame:
    """Bars whose true range is a multiple of what is usual at their time of day, and how far the last one has faded.

    Usual is the median of the last ``days`` bars in the same slot of the local day, among the ``longest`` bars before;
    take ``days * 1440`` and ``slot_minutes=1`` for minutes. So the opening hour is no spike day after day.

    Returns
    -------
    The true range, in percent of price, over the usual one: 1 is usual. Whether that is ``multiple`` or more, 1 or 0.
    The age of the last spike in bars, 0 at it, ``memory`` where there was none as near. The decay: the bar's own
    measure over that of the last spike, 1 at it, falling as it calms; 0 where there was none. What is left: the
    largest spike in memory with its size halved every ``half_life`` bars, 0 where none. All are NaN until 5
    bars of some time of day are known; later, where the usual range is 0 or unknown, the first alone is NaN, and the
    second and the decay are 0.

    Examples
    --------
    >>> from tapeline.core.example import example_bars
    >>> calm = example_bars(*[10.0] * 147)
    >>> calm.iloc[145, calm.columns.get_loc("high")] = 19.0
    >>> volatility_spike(calm, longest=144, memory=3).iloc[-2:].round(2).values.tolist()
    [[5.0, 1.0, 0.0, 1.0, 5.0], [1.0, 0.0, 1.0, 0.2, 4.72]]
    """
    high, low, close = columns(bars, "high", "low", "close")
    before = np.concatenate((close[:1], close[:-1]))
    height = (np.maximum(high, before) - np.minimum(low, before)) / before
    measured = relative_volume_by_time(
        pd.Series(np.maximum(height, 0.0), bars.index),
        days=days,
        minimum=MINIMUM,
        slot_minutes=slot_minutes,
        zone=zone,
        longest=longest,
    ).to_numpy(dtype=np.float64)
    # Rounded, so that a scale of prices cannot decide what is a spike.
    sizes = np.round(measured, 9)
    ages, newest, left = spike_memory(sizes, multiple, half_life, memory)
    decay = np.zeros(sizes.size)
    np.divide(sizes, newest, out=decay, where=(newest > 0.0) & ~np.isnan(sizes))
    values = {
        f"range_to_norm_{days}": sizes,
        f"volatility_spike_{days}": (sizes >= multiple).astype(np.float64),
        f"spike_age_{days}": ages,
        f"spike_decay_{days}": decay,
        f"spike_left_{days}": left,
    }
    # Before anything is usual, that there was no spike is not known either.
    known = ~np.isnan(sizes)
    warm = int(np.argmax(known)) if known.any() else sizes.size
    for value in values.values():
        value[:warm] = np.nan
    return frame(bars, **values)
