"""What labels cost: the triple barrier and its like at every one of a million bars, against a loop over the events.

CPU seconds on one core. The loop is plain Python over the same rule; it is timed on fewer events, and both must give
the same labels there.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from benchmarks.harness import cpu_seconds, minute_bars, report
from tapeline.labels.excursions import adverse_excursion
from tapeline.labels.reversal_point import directional_reversal, zigzag_reversal
from tapeline.labels.time_to_target import time_to_target
from tapeline.labels.trend_scanning import trend_scanning
from tapeline.labels.triple_barrier import triple_barrier
from tapeline.labels.volatility import causal_volatility

ROWS, PEER_ROWS, HORIZON = 1_000_000, 20_000, 120
WIDTHS = (1.5, 10.0, 60.0)
"""Distances of the barriers in average true ranges: near ones end most labels in a few bars, far ones at the limit."""


def main() -> int:
    """Measure, compare, report; 1 where a target is missed."""
    bars = minute_bars(ROWS)
    return 0 if all([*(barriers(bars, width) for width in WIDTHS), others(bars)]) else 1


def barriers(bars: pd.DataFrame, width: float) -> bool:
    """The triple barrier with highs and lows at every bar, and the loop on the first of them."""
    few = bars.head(PEER_ROWS)
    ours = triple_barrier(few, HORIZON, width, width)
    kept: list[list[tuple[int, float, float]]] = []
    slow = cpu_seconds(lambda: kept.append(event_by_event(few, width)), repeats=1, warm=False) / PEER_ROWS
    theirs = pd.DataFrame(kept[0], columns=["row", "value", "outcome"])
    np.testing.assert_array_equal(few.index[theirs["row"]], ours.index)
    np.testing.assert_array_equal(theirs["value"], ours["value"])
    np.testing.assert_allclose(theirs["outcome"], ours["outcome"], atol=1e-12)
    seconds = cpu_seconds(lambda: triple_barrier(bars, HORIZON, width, width))
    report(
        f"triple barrier at {width:g} true ranges, {HORIZON} bars ahead, an event at each of {ROWS} bars",
        seconds,
        "s",
        target="under 0.3 s",
        holds=seconds < 0.3,
        peer=f"a plain loop over {PEER_ROWS} events, its time an event times {ROWS}",
        peer_value=slow * ROWS,
    )
    return seconds < 0.3


def event_by_event(bars: pd.DataFrame, width: float) -> list[tuple[int, float, float]]:
    """The rule of the triple barrier as one would write it down, over lists."""
    arrays = [bars[name].to_numpy() for name in ("open", "high", "low", "close")]
    volatility = causal_volatility(*arrays[1:], kind="atr", window=24).tolist()
    opened, high, low, close = (array.tolist() for array in arrays)
    found, rows = [], len(close)
    for event in range(rows - 1):
        if not volatility[event] > 0:
            continue
        entry = opened[event + 1]
        top, bottom = entry * (1 + width * volatility[event]), entry * (1 - width * volatility[event])
        for row in range(event + 1, min(event + HORIZON, rows - 1) + 1):
            if opened[row] >= top or opened[row] <= bottom:
                value, price = (1 if opened[row] >= top else -1), opened[row]
            elif high[row] >= top and low[row] <= bottom:
                value, price = 0, bottom
            elif high[row] >= top:
                value, price = 1, top
            elif low[row] <= bottom:
                value, price = -1, bottom
            elif row == event + HORIZON:
                price = close[row]
                value = (price > entry) - (price < entry)
            else:
                continue
            found.append((event, float(value), price / entry - 1))
            break
    return found


def others(bars: pd.DataFrame) -> bool:
    """Labels that look at each bar of their horizon, or scan both ways."""
    calls = {
        "time to target at 1 true range with a stop": lambda b: time_to_target(b, stop=1.0, horizon=HORIZON),
        "trend scanning over 5 to 24 closes": trend_scanning,
        "zigzag turning points of 3 true ranges": zigzag_reversal,
        "directional turning points of 0.3 percent": directional_reversal,
        f"adverse excursion over {HORIZON} bars": lambda b: adverse_excursion(b, HORIZON),
    }
    holds = True
    for name, call in calls.items():
        call(bars.head(2000))
        seconds = cpu_seconds(lambda call=call: call(bars), repeats=1, warm=False)
        report(f"{name}, {ROWS} bars", seconds, "s", target="under 3 s", holds=seconds < 3.0)
        holds &= seconds < 3.0
    return holds


if __name__ == "__main__":
    raise SystemExit(main())
