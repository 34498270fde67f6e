"""Where the numbers of a symbol stand: bars, indicators by group, and rings of closed bars.

Symbols whose rules read the same indicators share one layout. A block of the arena is, in this order: the newest
price, bars (row by row over the timeframes), groups of indicators, computed readings, outputs as of the last closed
bar, counts, rings; what each tick touches comes first.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tapeline.alerts.engine import indicators as kinds
from tapeline.alerts.timeframes import TIMEFRAMES as TIMEFRAMES
from tapeline.core.errors import ConfigurationError

NO_TIMEFRAME: Final = -1
LONGEST: Final = 1_000
"""Bars that a window may have: rings hold so many."""
CLOCK_SLOTS: Final = 2
"""Of each timeframe: where its bar ends (``FAR`` where none is under way), where the last one ended."""
FAR: Final = 2**62
MOST_NUMBERS: Final = 1_000_000
"""Numbers that one symbol's block may have."""


class Indicator(NamedTuple):
    """What a rule reads. Equal ones are computed once.

    Attributes
    ----------
    kind:
        One of :mod:`tapeline.alerts.engine.indicators`.
    timeframe:
        Nanoseconds, or ``NO_TIMEFRAME``.
    n, n2, n3, factor:
        Its parameters.
    closed:
        Whether it is read as of the last closed bar instead of the forming one.
    left, right:
        What arithmetic combines; ``right`` None: with ``factor``.
        Of a ``STREAK`` or ``SINCE`` they are what is compared, by the comparison ``n``.
    key:
        Names an external series, or the rule that a trailing extreme belongs to.
    """

    kind: int
    timeframe: int = NO_TIMEFRAME
    n: int = 0
    n2: int = 0
    n3: int = 0
    factor: float = 0.0
    closed: bool = False
    left: tuple[Indicator, int] | None = None
    right: tuple[Indicator, int] | None = None
    key: str = ""

    def forming(self) -> Indicator:
        """The same indicator as it is computed, whether it is read closed or not."""
        return self._replace(closed=False)


Reading = tuple[Indicator, int]
"""An indicator and which of its outputs."""

FRAME_FIELDS: Final = 16
(F_DURATION, F_ROW, F_ROW_END, F_OPENING) = range(4)
F_RING, F_CAPACITY = 4, 8
"""Of a timeframe: nanoseconds; its rows of ``ROW``; whether something is written where a bar begins; where its four
rings begin in the block, and how many bars each holds."""

ROW: Final = np.dtype(
    [
        ("factor", "f8"), ("kind", "i4"), ("n", "i4"), ("n2", "i4"), ("n3", "i4"), ("at", "i4"), ("stride", "i4"),
        ("out", "i4"), ("closed_out", "i4"), ("count", "i4"), ("frame", "i4"), ("left", "i4"), ("right", "i4"),
    ]
)  # fmt: skip
"""An indicator for its commits, or a computed reading. ``at``: its first number; ``out``: its first output, the others
``stride`` apart; ``closed_out``: those of the last closed bar, side by side; ``count``: its counts."""

# Flags of a layout: what makes more of a tick necessary than a new price.
READS_RECORD, TELLS_TIME = 1, 2
"""Something follows volume, extremes, or what is computed; something follows the time that has passed."""


@dataclass(frozen=True)
class Layout:
    """One block's plan.

    Attributes
    ----------
    size:
        Numbers in the block.
    durations:
        Its timeframes, shortest first.
    frames:
        A row of ``FRAME_FIELDS`` for each.
    rows:
        ``ROW``: those of each timeframe together, the computed ones last, each after what it reads.
    computed:
        Where the computed ones begin.
    groups:
        Where each group's numbers begin in the block.
    members:
        Where each group's members begin in ``constants``.
    spans:
        First and last member of each group: of all, then of each timeframe.
    constants:
        Of each member: 1/n, (n - 1)/n², factor, and its timeframe's place.
    flags:
        ``READS_RECORD``, ``TELLS_TIME``.
    places:
        Where each output of each indicator stands in the block.
    block:
        The block of a symbol that has seen no tick.
    """

    size: int
    durations: tuple[int, ...]
    frames: NDArray[np.int64]
    rows: NDArray[np.void]
    computed: int
    groups: tuple[int, ...]
    members: tuple[int, ...]
    spans: NDArray[np.int32]
    constants: NDArray[np.float64]
    flags: int
    places: Mapping[Indicator, tuple[int, ...]]
    block: NDArray[np.float64]

    def place(self, reading: Reading) -> int:
        """The offset of a reading in a block."""
        return self.places[reading[0]][reading[1]]


def plan(wanted: Iterable[Indicator]) -> Layout:
    """The layout of the indicators that the rules of a symbol read.

    Raises
    ------
    ConfigurationError
        A window is longer than ``LONGEST``, a parameter is below 1, or a block would have more than ``MOST_NUMBERS``.

    Examples
    --------
    >>> rsi = Indicator(kinds.RSI, TIMEFRAMES["1h"], 14)
    >>> layout = plan([rsi])
    >>> layout.size, layout.place((rsi, 0))
    (13, 11)
    """
    every: dict[Indicator, None] = {}
    for indicator in wanted:
        _gather(indicator, every)
    durations = tuple(sorted({each.timeframe for each in every if each.timeframe != NO_TIMEFRAME}))
    number_of = {duration: number for number, duration in enumerate(durations)}
    frames = len(durations)
    based = [one for one in every if one.kind not in kinds.COMPUTED and not one.closed]
    closed = [one for one in every if one.closed]
    loose = [one for one in every if one.kind in kinds.COMPUTED]
    places: dict[Indicator, tuple[int, ...]] = {}
    for one in based:
        if one.kind <= kinds.VOLUME:
            places[one] = (1 + one.kind * frames + number_of[one.timeframe],)
    at = 1 + kinds.BAR_SLOTS * frames
    groups, members, spans = [], [], np.zeros((1 + frames, 2 * kinds.GROUPS), np.int32)
    constants: list[tuple[float, ...]] = []
    standing: dict[Indicator, tuple[int, int]] = {}
    for group in range(kinds.GROUPS):
        some = sorted((one for one in based if kinds.GROUP.get(one.kind) == group), key=lambda one: one.timeframe)
        groups.append(at)
        members.append(len(constants))
        spans[0, 2 * group : 2 * group + 2] = 0, len(some)
        for number, duration in enumerate(durations):
            mine = [place for place, one in enumerate(some) if one.timeframe == duration]
            if mine:
                spans[1 + number, 2 * group : 2 * group + 2] = mine[0], mine[-1] + 1
        first_out = at + kinds.NUMBERS[group] * len(some)
        for member, one in enumerate(some):
            standing[one] = at + member, len(some)
            places[one] = tuple(first_out + output * len(some) + member for output in range(kinds.OUTPUTS[group]))
            n = max(one.n, 1)
            constants.append((1.0 / n, (n - 1.0) / (n * n), one.factor, number_of[one.timeframe]))
        at = first_out + kinds.OUTPUTS[group] * len(some)
    for one in (*loose, *closed):
        outputs = kinds.output_count(one.kind)
        places[one] = tuple(range(at, at + outputs))
        at += outputs
    rows: list[tuple[float, ...]] = []
    table = np.zeros((frames, FRAME_FIELDS), np.int64)
    for number, duration in enumerate(durations):
        mine_here = [one for one in based if one.timeframe == duration]
        table[number, [F_DURATION, F_ROW]] = duration, len(rows)
        for one in mine_here:
            shut = places.get(one._replace(closed=True), (-1,))[0]
            if one.kind <= kinds.VOLUME and shut < 0:
                continue
            first, stride = standing.get(one, (0, 1))
            rows.append(
                (one.factor, one.kind, one.n, one.n2, one.n3, first, stride, places[one][0], shut, at, number, -1, -1)
            )
            at += counts_of(one)
        table[number, F_ROW_END] = len(rows)
        table[number, F_OPENING] = any(kinds.GROUP.get(one.kind) == kinds.OPENING for one in mine_here)
        table[number, F_CAPACITY : F_CAPACITY + 4] = _rings(mine_here)
    computed = len(rows)
    for one in loose:
        left = places[one.left[0]][one.left[1]] if one.left else -1
        right = places[one.right[0]][one.right[1]] if one.right else -1
        frame = number_of.get(one.timeframe, -1)
        shut = int(all(side is None or side[0].closed for side in (one.left, one.right)))
        rows.append((one.factor, one.kind, one.n, shut, 0, 0, 1, places[one][0], -1, at, frame, left, right))
        at += counts_of(one)
    for number in range(frames):
        for ring in range(4):
            table[number, F_RING + ring] = at
            at += int(table[number, F_CAPACITY + ring])
    if at > MOST_NUMBERS:
        raise ConfigurationError(
            f"the indicators of one symbol need {at} numbers, more than {MOST_NUMBERS}",
            hint="shorter windows, or a longer timeframe for the norm of a time of day",
        )
    reads = {kinds.FLOW, kinds.REACH}
    follows = bool(loose) or any(
        kinds.GROUP.get(one.kind) in reads or one.kind in (kinds.HIGH, kinds.LOW, kinds.VOLUME) for one in based
    )
    flags = (READS_RECORD if follows else 0) | (TELLS_TIME if any(one.kind == kinds.SINCE for one in loose) else 0)
    table_rows = np.array(rows, ROW)
    block = _empty_block(at, frames, table, table_rows, places)
    for array in (table, table_rows, spans, block):
        array.flags.writeable = False
    return Layout(
        at, durations, table, table_rows, computed, tuple(groups), tuple(members), spans,
        np.array(constants).reshape(-1, 4), flags, MappingProxyType(places), block,
    )  # fmt: skip


def _gather(indicator: Indicator, every: dict[Indicator, None]) -> None:
    """The indicator after all that it needs."""
    kind = indicator.kind
    if not 0 <= kind < kinds.KINDS:
        raise ConfigurationError(f"kind = {kind} of an indicator is not known")
    if (kind not in kinds.COMPUTED or kind == kinds.STREAK) and indicator.timeframe <= 0:
        raise ConfigurationError(f"timeframe = {indicator.timeframe} of a bar's indicator must be positive")
    for name in ("n", "n2", "n3"):
        if not 0 <= getattr(indicator, name) <= LONGEST:
            raise ConfigurationError(f"a window of {getattr(indicator, name)} bars is not from 1 to {LONGEST}")
    if kind in kinds.GROUP and indicator.n < 1:
        raise ConfigurationError(f"a window of {indicator.n} bars is not from 1 to {LONGEST}")
    if kind == kinds.MACD and not (indicator.n < indicator.n2 and indicator.n3 >= 1):
        raise ConfigurationError(
            f"MACD({indicator.n}, {indicator.n2}, {indicator.n3}): the fast window must be shorter than the slow one"
        )
    if kind == kinds.VOLUME_NORM and (indicator.timeframe >= kinds.DAY or kinds.DAY % indicator.timeframe):
        raise ConfigurationError("the norm of a time of day needs bars of which a whole number fills a day, several")
    if kind in (kinds.STREAK, kinds.SINCE) and indicator.left is None:
        raise ConfigurationError("a streak needs a comparison: what is compared is missing")
    for side in (indicator.left, indicator.right):
        if side is not None:
            _gather(side[0], every)
    if indicator.closed:
        if kind in kinds.COMPUTED:
            raise ConfigurationError("only what bars bring can be read as of the last closed bar")
        every.setdefault(indicator.forming())
    every.setdefault(indicator)


def _rings(indicators: Sequence[Indicator]) -> list[int]:
    """Closed bars that each ring of a timeframe must hold: closes, highs, lows, volumes."""
    longest = [0, 0, 0, 0]
    for one in indicators:
        ring, count = RING_OF.get(one.kind, (0, 0))
        longest[ring] = max(longest[ring], one.n - 1 if count == FEWER else one.n * count)
    return longest


FEWER: Final = -1
RING_OF: Final = {
    kinds.SMA: (kinds.RING_CLOSE, FEWER), kinds.BOLLINGER: (kinds.RING_CLOSE, FEWER),
    kinds.CHANGE: (kinds.RING_CLOSE, 1), kinds.HIGHEST: (kinds.RING_HIGH, 1), kinds.LOWEST: (kinds.RING_LOW, 1),
    kinds.VOLUME_RATIO: (kinds.RING_VOLUME, 1), kinds.VOLUME_SCORE: (kinds.RING_VOLUME, 1),
}  # fmt: skip
"""Which ring a kind reads, and whether it needs its n bars or one fewer, the forming one being the last."""


def counts_of(one: Indicator) -> int:
    """Numbers of an indicator that only its commits touch."""
    if one.kind == kinds.VOLUME_NORM:
        return (one.n + 1) * (kinds.DAY // one.timeframe)
    if one.kind == kinds.SINCE:
        # Seconds and nanoseconds of the instant: one float would lose the last digits.
        return 2
    return 1 if one.kind in kinds.COUNTING or one.kind == kinds.STREAK else 0


def _empty_block(
    size: int,
    frames: int,
    table: NDArray[np.int64],
    rows: NDArray[np.void],
    places: Mapping[Indicator, tuple[int, ...]],
) -> NDArray[np.float64]:
    """A block that has seen no tick: nothing is known, no bar has closed."""
    block = np.zeros(size)
    block[: 1 + kinds.BAR_COUNT * frames] = np.nan
    for some in places.values():
        block[list(some)] = np.nan
    for row in rows:
        at, stride, n, kind = (int(row[name]) for name in ("at", "stride", "n", "kind"))
        if kind == kinds.SMA:
            block[at], block[at + stride] = 0.0 if n == 1 else np.nan, 1.0 / n
        elif kind == kinds.EMA:
            block[at + stride] = 1.0 if n == 1 else np.nan
        elif kind == kinds.MACD:
            block[[at + 3 * stride, at + 4 * stride]] = np.nan
            block[at + 5 * stride] = 1.0 if row["n3"] == 1 else np.nan
        elif kind == kinds.RSI:
            block[at + 2 * stride] = np.nan
        elif kind == kinds.ATR:
            block[at + stride] = np.nan
        elif kind == kinds.BOLLINGER:
            block[[at, at + stride]] = 0.0 if n == 1 else np.nan
        elif kind in (kinds.VOLUME_RATIO, kinds.VOLUME_SCORE):
            block[[at, at + stride]] = np.nan
        elif kind in (kinds.CHANGE, kinds.HIGHEST, kinds.LOWEST):
            block[at] = np.nan
        elif kind == kinds.SINCE:
            block[row["count"] : row["count"] + 2] = -1.0
    for frame in table:
        for ring in range(4):
            block[frame[F_RING + ring] : frame[F_RING + ring] + frame[F_CAPACITY + ring]] = np.nan
    return block
