"""Rules as arrays: conditions, programs, what symbols with the same rules share, and what each remembers."""

from __future__ import annotations

from typing import Final

import numpy as np

# What a condition compares: left with the right reading, or with the threshold where right is NO_READING.
ABOVE, BELOW, AT_LEAST, AT_MOST, EQUAL, UNEQUAL = range(6)
COMPARISONS: Final = (">", "<", ">=", "<=", "==", "!=")
NO_READING: Final = -1

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

# Flags of a rule in its set.
WATCHED, LEVEL = 1, 2
"""Watched: each change of truth is told and nothing is held back here. Level: no condition of it is a crossing."""

# What a symbol remembers of a rule: its truth, and beside it
OFF, DIRTY = 4, 8
"""Off: it fired once and shall not again. Dirty: a condition of it has just changed."""

# Steps of a program, in reverse Polish notation: a number from 0 is a condition (counted from the rule's first).
AND, OR, NOT, END = -1, -2, -3, -4
DEEPEST: Final = 32
"""Values that a program may have on its stack."""

CONDITION: Final = np.dtype(
    [
        ("threshold", "f8"),
        ("hysteresis", "f8"),
        ("left", "i4"),
        ("right", "i4"),
        ("rule", "i4"),
        ("comparison", "u1"),
        ("when", "u1"),
        ("flags", "u1"),
        ("pad", "u1"),
    ]
)
"""A condition of a set. ``hysteresis``: what the difference must fall back before it is false again; ``rule``: counted
from the set's first."""

RULE: Final = np.dtype(
    [
        ("cooldown", "i8"),
        ("bar", "i8"),
        ("program", "i4"),
        ("first", "i4"),
        ("count", "u1"),
        ("frequency", "u1"),
        ("flags", "u1"),
        ("frame", "u1"),
        ("pad", "u1", (4,)),
    ]
)
"""A rule of a set, which all symbols with the same rules share. ``cooldown`` and ``bar``, by which it counts, in
nanoseconds; ``program`` -1: its one condition is the rule; ``first`` and ``count``: its conditions, counted from the
set's first; ``frame``: the place of the timeframe by whose bars it counts."""

FIRING: Final = np.dtype(
    [
        ("ts", "i8"),
        ("price", "f8"),
        ("rule", "i4"),
        ("tick", "i4"),
        ("sides", "i4"),
        ("symbol", "i4"),
        ("count", "u1"),
        ("truth", "u1"),
        ("at_close", "u1"),
    ]
)
"""One firing, or of a watched rule one change of truth.

``ts``: the tick's time (of a late one the newest trade's or close's before it), or the close of the bar. ``tick``:
its place in the batch. ``sides`` and ``count``: where the values of its conditions stand. ``at_close``: 0, or 1 + the
place of the timeframe whose bar closed.
"""

SIDES: Final = np.dtype([("left", "f8"), ("right", "f8"), ("truth", "u1")])
"""Both sides of one condition as they stood."""

NEVER: Final = -(2**62)
"""``fired_at`` of a rule that has not fired."""
