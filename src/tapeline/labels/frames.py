"""What the label modules share: the frame they return and the types of their parameters."""

from __future__ import annotations

from typing import Annotated

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import Field

Horizon = Annotated[int, Field(ge=1, le=100_000)]
"""A number of bars after the labelled one."""

Window = Annotated[int, Field(ge=2, le=100_000)]
"""A number of bars up to the labelled one over which volatility is measured."""

Multiple = Annotated[float, Field(gt=0, le=1000)]
"""A distance in units of volatility."""


def labels_frame(
    bars: pd.DataFrame, decided_in: NDArray[np.int64], value: NDArray[np.float64], outcome: NDArray[np.float64]
) -> pd.DataFrame:
    """Labels of the rows whose outcome is known: value, ``t_end`` and outcome.

    ``decided_in`` holds for each bar the row of the bar in which its label was decided, -1 where it is not known yet;
    ``t_end`` is that bar's close, because nothing inside a bar is known before.
    """
    known = decided_in >= 0
    closes = pd.DatetimeIndex(bars["close_ts"])
    return pd.DataFrame(
        {"value": value[known], "t_end": closes[decided_in[known]], "outcome": outcome[known]}, index=bars.index[known]
    )
