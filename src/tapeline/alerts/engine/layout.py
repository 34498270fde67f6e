"""Where the numbers of a symbol stand: bars, outputs, states and rings of the indicators that its rules read.

Symbols whose rules read the same indicators share one layout. A block of the arena is, in this order: bars by
timeframe, outputs, states, rings; what each tick touches comes first.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tapeline.alerts.engine import indicators as kinds
from tapeline.core.errors import ConfigurationError

MINUTE: Final = 60_000_000_000
TIMEFRAMES: Final[Mapping[str, int]] = MappingProxyType(
    {"1m": MINUTE, "5m": 5 * MINUTE, "15m": 15 * MINUTE, "1h": 60 * MINUTE, "4h": 240 * MINUTE, "1d": 1_440 * MINUTE}
)
"""Nanoseconds by name. Bars begin at whole multiples since 1970 in UTC."""
NO_TIMEFRAME: Final = -1
LONGEST: Final = 1_000
"""Bars that a window may have: rings hold so many."""
CLOCK_SLOTS: Final = 3
"""Of each timeframe: where its bar began, where it ends (``FAR`` where none is under way), where the last one ended."""
FAR: Final = 2**62


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

INDICATOR_ROW: Final = np.dtype(
    [
        ("kind", "i4"), ("n", "i4"), ("n2", "i4"), ("n3", "i4"), ("factor", "f8"), ("inverse", "f8"),
        ("alpha", "f8"), ("alpha2", "f8"), ("alpha3", "f8"),
        ("state", "i4"), ("out", "i4"), ("closed_out", "i4"), ("left", "i4"), ("right", "i4"), ("pad", "i4"),
    ]
)  # fmt: skip
TIMEFRAME_ROW: Final = np.dtype(
    [
        ("duration", "i8"), ("bar", "i4"), ("ring", "i4"), ("capacity", "i4"), ("begin", "i4"), ("end", "i4"),
        ("pad", "i4"),
    ]
)  # fmt: skip


@dataclass(frozen=True)
class Layout:
    """One block's plan.

    Attributes
    ----------
    size:
        Numbers in the block.
    timeframes, indicators:
        Rows of ``TIMEFRAME_ROW``, shortest first, and of ``INDICATOR_ROW``: those of each timeframe together, the
        computed ones last, each after what it reads.
    computed:
        Where the computed ones begin.
    places:
        Where each indicator's first output stands in the block.
    """

    size: int
    timeframes: NDArray[np.void]
    indicators: NDArray[np.void]
    computed: int
    places: Mapping[Indicator, int]

    def place(self, reading: Reading) -> int:
        """The offset of a reading in a block."""
        return self.places[reading[0]] + reading[1]


def plan(wanted: Iterable[Indicator]) -> Layout:
    """The layout of the indicators that the rules of a symbol read.

    Raises
    ------
    ConfigurationError
        A window is longer than ``LONGEST``, or a parameter is below 1.

    Examples
    --------
    >>> rsi = Indicator(kinds.RSI, TIMEFRAMES["1h"], 14)
    >>> layout = plan([rsi])
    >>> layout.size, layout.place((rsi, 0))
    (12, 7)
    """
    every: dict[Indicator, None] = {}
    for indicator in wanted:
        _gather(indicator, every)
    durations = sorted({each.timeframe for each in every if each.timeframe != NO_TIMEFRAME})
    based = {duration: [one for one in every if one.timeframe == duration] for duration in durations}
    loose = [one for one in every if one.timeframe == NO_TIMEFRAME]
    place = len(durations) * kinds.BAR_SLOTS
    outputs: dict[Indicator, int] = {}
    for one in (*(each for some in based.values() for each in some), *loose):
        outputs[one] = place
        place += kinds.OUTPUT_SLOTS[one.kind]
    rows: list[tuple[float, ...]] = []
    frames = []
    for number, duration in enumerate(durations):
        begin = len(rows)
        for one in based[duration]:
            if one.closed:
                continue
            closed = outputs.get(one._replace(closed=True), -1)
            rows.append((*_parameters(one), place, outputs[one], closed, -1, -1, 0))
            place += kinds.STATE_SLOTS[one.kind]
        frames.append((duration, number * kinds.BAR_SLOTS, 0, _ring(based[duration]), begin, len(rows), 0))
    computed = len(rows)
    for one in loose:
        left = outputs[one.left[0]] + one.left[1] if one.left else -1
        right = outputs[one.right[0]] + one.right[1] if one.right else -1
        rows.append((*_parameters(one), place, outputs[one], -1, left, right, 0))
        place += kinds.STATE_SLOTS[one.kind]
    table = np.array(frames, TIMEFRAME_ROW)
    for row in table:
        row["ring"] = place
        place += 4 * int(row["capacity"])
    return Layout(place, table, np.array(rows, INDICATOR_ROW), computed, MappingProxyType(outputs))


def _parameters(one: Indicator) -> tuple[float, ...]:
    lengths = (one.n, one.n2, one.n3)
    alphas = [2.0 / (length + 1.0) for length in lengths]
    return (one.kind, *lengths, one.factor, 1.0 / one.n if one.n else 0.0, *alphas)


def _gather(indicator: Indicator, every: dict[Indicator, None]) -> None:
    """The indicator after all that it needs."""
    if indicator.kind not in kinds.COMPUTED and indicator.timeframe <= 0:
        raise ConfigurationError(f"timeframe = {indicator.timeframe} of a bar's indicator must be positive")
    for name in ("n", "n2", "n3"):
        if not 0 <= getattr(indicator, name) <= LONGEST:
            raise ConfigurationError(f"a window of {getattr(indicator, name)} bars is not from 1 to {LONGEST}")
    for side in (indicator.left, indicator.right):
        if side is not None:
            _gather(side[0], every)
    if indicator.closed:
        every.setdefault(indicator.forming())
    every.setdefault(indicator)


def _ring(indicators: Sequence[Indicator]) -> int:
    """Closed bars that the rings of a timeframe must hold."""
    windowed = (
        kinds.SMA, kinds.BOLLINGER, kinds.VOLUME_RATIO, kinds.VOLUME_SCORE, kinds.CHANGE, kinds.HIGHEST, kinds.LOWEST
    )  # fmt: skip
    return max((one.n for one in indicators if one.kind in windowed), default=0)


def empty_block(layout: Layout) -> NDArray[np.float64]:
    """A block that has seen no tick: no output is known, no bar has closed."""
    block = np.zeros(layout.size)
    for row in layout.timeframes:
        block[row["bar"] : row["bar"] + kinds.BAR_SLOTS - 1] = np.nan
    for row in layout.indicators:
        for first, count in (
            (row["out"], kinds.OUTPUT_SLOTS[row["kind"]]),
            (row["closed_out"], kinds.OUTPUT_SLOTS[row["kind"]]),
        ):
            if first >= 0:
                block[first : first + count] = np.nan
        if row["kind"] in (kinds.VOLUME_SCORE, kinds.HIGHEST, kinds.LOWEST, kinds.CHANGE):
            block[row["state"] : row["state"] + kinds.STATE_SLOTS[row["kind"]]] = np.nan
    return block
