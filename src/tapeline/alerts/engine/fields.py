"""Where the numbers of a symbol and of a set of rules stand in their rows."""

from __future__ import annotations

from typing import Final

# What stands of a symbol in its row, a line of the processor's memory.
BASE, CLOCK_AT, SET, TRUTH_AT, SLOT, NEXT_END, NEWEST, OPENED = range(8)
"""Where its block, its times, its truths and its rules' slots begin; the number of its set; when the next bar ends;
its newest trade or close; whether a bar of every timeframe is under way and nothing has changed since the last trade
but by trades: then one at the same price changes no truth."""
SYMBOL_FIELDS: Final = 8

# What stands of a set of rules over a layout: counts and first places in the other tables.
(S_FRAMES, S_FRAME, S_COMPUTED, S_COMPUTED_END, S_ROW, S_FLAGS, S_SPAN, S_CONDITION, S_CONDITION_END, S_RULE,
 S_RULE_END, S_ONCE_A_BAR, S_LAYOUT) = range(13)  # fmt: skip
S_GROUP, S_MEMBER = 16, 24
SET_FIELDS: Final = 32

# Counters of a call, and those that go on.
FIRINGS, SIDE_COUNT, NEXT_SYMBOL, LATE, REFUSED, CLOCK_TIME, AHEAD_LIMIT, REFUSED_FIRST = range(8)
"""Firings and sides written; where a clock record goes on; late trades that entered; refusals of this call; the newest
clock of all; how far ahead of it a record may be (0: any); then one counter for each reason of ``REFUSALS``."""

REFUSALS: Final = ("symbol", "record", "time", "ahead", "price", "size", "place", "too_late")
"""Why a record is refused: a symbol that is not known; a record that is none; a time before 1970 or after
2199; one too far ahead of the clock; a price that is not positive and finite; a size that is negative
or not finite; a place that is no external value's; a trade older than every open bar."""
SYMBOL, RECORD, TIME, AHEAD, PRICE, SIZE, PLACE, TOO_LATE = range(8)
COUNTERS: Final = REFUSED_FIRST + len(REFUSALS)
