"""Rules as arrays: conditions, programs and what each rule remembers, in regions by symbol."""

from __future__ import annotations

from typing import Final

import numpy as np

# What a condition compares: left with the right reading, or with the threshold where right is NO_READING.
ABOVE, BELOW, AT_LEAST, AT_MOST, EQUAL, UNEQUAL = range(6)
COMPARISONS: Final = (">", "<", ">=", "<=", "==", "!=")
NO_READING: Final = 0xFFFF

# Truth, three-valued.
UNKNOWN, FALSE, TRUE = range(3)
TRUTHS: Final = ("unknown", "false", "true")
PULSE: Final = 4
"""Added to a condition's state while it crosses."""

# When a condition is evaluated: at each tick, or where the bar of a timeframe closes (1 + its place in the layout).
EACH_TICK: Final = 0

CROSSING: Final = 1
"""Flag of a condition: true only where it becomes true after it was known to be false."""

# How often a rule fires.
EVERY_TIME, ONCE, ONCE_PER_BAR, ONCE_PER_BAR_CLOSE = range(4)
FREQUENCIES: Final = ("every_time", "once", "once_per_bar", "once_per_bar_close")

# Flags of a rule.
DISABLED, WATCHED, LEVEL, DIRTY = 1, 2, 4, 8
"""Watched: each change of truth is told and nothing is held back here. Level: no condition of it is a crossing."""

# Steps of a program, in reverse Polish notation: a number from 0 is a condition (counted from the rule's first).
AND, OR, NOT, END = -1, -2, -3, -4
DEEPEST: Final = 32
"""Values that a program may have on its stack."""

CONDITION: Final = np.dtype(
    [
        ("threshold", "f8"),
        ("hysteresis", "f4"),
        ("rule", "i4"),
        ("left", "u2"),
        ("right", "u2"),
        ("comparison", "u1"),
        ("state", "u1"),
        ("when", "u1"),
        ("flags", "u1"),
    ]
)
"""24 bytes. ``hysteresis`` is in units of the difference: what it must fall back before it is false again."""

RULE: Final = np.dtype(
    [
        ("fired_at", "i8"),
        ("cooldown", "u4"),
        ("bar", "u4"),
        ("program", "i4"),
        ("first", "i4"),
        ("symbol", "i4"),
        ("count", "u1"),
        ("frequency", "u1"),
        ("state", "u1"),
        ("flags", "u1"),
    ]
)
"""32 bytes. ``cooldown`` in milliseconds; ``bar`` in seconds, of the bars by which it counts; ``program`` -1: its one
condition is the rule; ``first`` and ``count``: its conditions."""

FIRING: Final = np.dtype(
    [
        ("ts", "i8"),
        ("price", "f8"),
        ("rule", "i4"),
        ("tick", "i4"),
        ("sides", "i4"),
        ("count", "u1"),
        ("truth", "u1"),
        ("at_close", "u1"),
    ]
)
"""One firing, or of a watched rule one change of truth.

``ts``: the tick's time, or the close of the bar. ``tick``: its place in the batch. ``sides`` and ``count``: where the
values of its conditions stand. ``at_close``: 0, or 1 + the place of the timeframe whose bar closed.
"""

SIDES: Final = np.dtype([("left", "f8"), ("right", "f8"), ("truth", "u1")])
"""Both sides of one condition as they stood."""

NEVER: Final = -(2**62)
"""``fired_at`` of a rule that has not fired."""
