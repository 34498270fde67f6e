"""Which Elliott wave may be under way at a bar: every count that no rule forbids, ranked."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

import numpy as np
import pandas as pd

from tapeline.charts.bar_arrays import BarArrays, Floats
from tapeline.charts.elliott import degree_sizes, volume_of
from tapeline.charts.elliott_guidelines import guidelines_of, measured
from tapeline.charts.elliott_kernels import legs_within
from tapeline.charts.elliott_rules import (
    DIAGONALS,
    FLATS,
    KINDS,
    MOTIVE,
    POINTS,
    REGULAR_B,
    THREES,
    WIDEST_B,
    ZIGZAG_B,
    broken_rules,
)
from tapeline.charts.swings import Swings, Unit, swing_degrees
from tapeline.core.errors import ConfigurationError

_LABELS: Final = {
    **dict.fromkeys(MOTIVE, "12345"),
    **dict.fromkeys(THREES, "ABC"),
    "triangle": "ABCDE",
    "combination": "WWWXYYY",
}
_FIRST: Final = {**dict.fromkeys(MOTIVE, 2), **dict.fromkeys(DIAGONALS, 4), **dict.fromkeys(THREES, 2)}
"""The first wave under way that is told: before a diagonal's fourth nothing tells it from an impulse."""
_CONTEXT: Final = {"impulse": 0, **dict.fromkeys(DIAGONALS, 2)}
"""How many pivots before its start a kind is judged by; 1 for a correction."""


@dataclass(frozen=True)
class WaveCount:
    """One reading of the last pivots.

    Parameters
    ----------
    kind:
        The wave it would be.
    degree:
        The size of the pivots.
    wave:
        Which of its waves is under way; empty where all of it is finished and what follows is under way.
    direction:
        Where price goes while this wave is under way: 1 up, -1 down.
    score:
        0 to 1: its guidelines by weight over its finished waves; one that cannot be measured yet counts as 0, so that
        a count which has shown less of itself ranks lower.
    invalidation:
        The price beyond which it is wrong: where a wave against the move (2, 4, B, X, or any of a triangle) breaks a
        rule, where a wave with it falls back behind its start. How long a wave with the move may at most become is
        held against it too, but has no place here.
    points:
        The rows and prices of its pivots so far.
    """

    kind: str
    degree: float
    wave: str
    direction: int
    score: float
    invalidation: float
    points: tuple[tuple[int, float], ...]

    @property
    def position(self) -> str:
        """The position in words."""
        where = f"in wave {self.wave} of" if self.wave else "after"
        return f"{where} {self.kind}, degree {self.degree}"


def analyze_waves(
    bars: pd.DataFrame | BarArrays,
    *,
    as_of: pd.Timestamp | None = None,
    size: float = 3.0,
    degrees: int = 2,
    unit: Unit = "atr",
    window: int = 14,
    alternates: int = 20,
) -> pd.DataFrame:
    """The counts that the bars closed by ``as_of`` allow, best first.

    Confirmed pivots are finished waves; the wave under way is what the closed bars have made of it since the last one.
    A count is dropped when a rule is broken that no longer wave could mend. Counts of one degree may contradict each
    other: that is what alternates are. One through the same pivots as in a smaller degree is given once, there.

    Parameters
    ----------
    bars:
        Bars with ``close_ts``, by time.
    as_of:
        An instant (UTC); the last close where absent.
    size, degrees, unit, window:
        As in :func:`tapeline.charts.elliott.elliott_wave`.
    alternates:
        The most counts to give.

    Returns
    -------
    A frame, one row a count, ranked from 1: ``kind``, ``degree``, ``wave``, ``position``, ``direction``, ``score``,
    ``invalidation``, ``points`` (pairs of ts and price). What each means is said in :class:`WaveCount`.

    Raises
    ------
    ConfigurationError
        ``as_of`` without a time zone, ``degrees`` outside 1 to 4 or ``alternates`` below 1.

    Examples
    --------
    >>> from tapeline.charts.synthetic import bars_through
    >>> bars = bars_through([(0, 112.0), (24, 100.0), (44, 110.0), (56, 104.0), (88, 120.0), (94, 115.0)])
    >>> found = analyze_waves(bars, degrees=1)
    >>> found.loc[1, "position"], float(found.loc[1, "invalidation"]), float(found.loc[1, "score"].round(2))
    ('in wave 4 of impulse, degree 3.0', 110.0, 0.26)
    """
    if not 1 <= degrees <= 4:
        raise ConfigurationError(f"degrees = {degrees} is refused", hint="1 to 4")
    if alternates < 1:
        raise ConfigurationError(f"alternates = {alternates} is refused", hint="at least 1")
    arrays = BarArrays.of(bars)
    if as_of is not None:
        if as_of.tz is None:
            raise ConfigurationError(f"as_of = {as_of} has no time zone", hint="pd.Timestamp(..., tz='UTC')")
        closed = int(arrays.closed.searchsorted(as_of.as_unit("ns").value, side="right"))
        arrays = BarArrays(arrays.bars.iloc[:closed])
    counts = sorted(_counts(arrays, size, degrees, unit, window), key=lambda count: -count.score)[:alternates]
    index = arrays.bars.index
    data: dict[str, list[Any]] = {
        "kind": [count.kind for count in counts],
        "degree": [count.degree for count in counts],
        "wave": [count.wave for count in counts],
        "position": [count.position for count in counts],
        "direction": [count.direction for count in counts],
        "score": [count.score for count in counts],
        "invalidation": [count.invalidation for count in counts],
        "points": [[(index[row], price) for row, price in count.points] for count in counts],
    }
    return pd.DataFrame(data, index=pd.RangeIndex(1, len(counts) + 1, name="rank"))


def _counts(arrays: BarArrays, size: float, degrees: int, unit: Unit, window: int) -> Iterator[WaveCount]:
    if not len(arrays):
        return
    levels = swing_degrees(arrays, degree_sizes(size, degrees), unit=unit, window=window)
    sizes, told = list(levels), set()
    for below, degree in pairwise(sizes):
        pivots = levels[degree]
        if len(pivots) < 2:
            continue
        for kind in KINDS:
            for known in range(_FIRST.get(kind, 3 if kind == "triangle" else 4), POINTS[kind] + 1):
                if known + _CONTEXT.get(kind, 1) <= len(pivots):
                    count = _count(arrays, pivots, levels[below], kind, known, degree)
                    # Where degrees share their pivots the smallest says it for all.
                    if count is not None and (kind, count.points) not in told:
                        told.add((kind, count.points))
                        yield count


def _count(arrays: BarArrays, pivots: Swings, below: Swings, kind: str, known: int, degree: float) -> WaveCount | None:
    """The last ``known`` pivots as the beginning of a wave of this kind, None where that breaks a rule."""
    points = POINTS[kind]
    last = len(pivots) - 1
    side = int(pivots.side[last])
    sign = side if known % 2 == 0 else -side
    p, q = np.full(points, np.nan), np.full(2, np.nan)
    r = np.full(points, len(arrays) - 1)
    p[:known], r[:known] = sign * pivots.price[last - known + 1 :], pivots.row[last - known + 1 :]
    before = sign * pivots.price[: last - known + 1][-2:]
    q[2 - before.size :] = before
    if known < points:
        after = slice(int(pivots.row[last]) + 1, None)
        high, low = arrays.high[after], arrays.low[after]
        ahead, behind = (low, high) if side > 0 else (high, low)
        if not ahead.size or np.nanmax(side * behind) > side * pivots.price[last]:
            return None
        if not _possible(kind, p, q, known, float(sign * side * np.nanmin(side * ahead))):
            return None
    elif broken_rules(kind, p, q):
        return None
    limit = sign * _limit(kind, p, known)
    return WaveCount(
        kind,
        degree,
        wave=_LABELS[kind][known - 1] if known < points else "",
        direction=-side,
        score=_score(arrays, pivots, below, kind, known, p, r, sign),
        invalidation=float(limit),
        points=tuple(zip(pivots.row[last - known + 1 :].tolist(), (sign * p[:known]).tolist(), strict=True)),
    )


def _possible(kind: str, p: Floats, q: Floats, wave: int, extreme: float) -> bool:
    """Whether no rule is broken for good: broken by the wave as it is, and however much longer it becomes.

    Every rule is monotone in the end of the wave under way, so its two ends decide.
    """
    now, far = p.copy(), p.copy()
    now[wave], far[wave] = extreme, np.inf if wave % 2 else -np.inf
    broken = set(broken_rules(kind, now, q)) & set(broken_rules(kind, far, q))
    if kind == "combination":
        broken.discard("y_is_a_correction")
        if wave > 4:
            nowhere = np.full(2, np.nan)
            if not any(_possible(three, p[4:], nowhere, wave - 4, extreme) for three in THREES):
                return False
    return not broken


def _limit(kind: str, p: Floats, wave: int) -> float:
    """The signed price beyond which a count is wrong while this wave is under way (the last one + 1: finished)."""
    if kind == "triangle":
        return float(p[3] if wave == 6 else p[wave - 2])
    if wave == POINTS[kind] or wave % 2:
        return float(p[wave - 1])
    if kind == "impulse":
        return float(p[0] if wave == 2 else p[1])
    if kind in DIAGONALS:
        # As long as wave 2: it comes before the end of wave 2, as wave 3 has passed wave 1.
        return float(p[3] - (p[1] - p[2]))
    if kind == "combination":
        start = p[0] if wave == 4 else p[4]
        return float(p[wave - 1] - WIDEST_B * (p[wave - 1] - start))
    share = {"zigzag_correction": ZIGZAG_B[1], FLATS[0]: REGULAR_B}.get(kind, WIDEST_B)
    return float(p[1] - share * (p[1] - p[0]))


def _score(
    arrays: BarArrays, pivots: Swings, below: Swings, kind: str, known: int, p: Floats, r: Any, sign: int
) -> float:
    volume = volume_of(arrays)
    v = np.full(len(p) - 1, np.nan)
    within: list[tuple[int, bool]] = []
    for k in range(known - 1):
        v[k] = volume[r[k] + 1 : r[k + 1] + 1].mean()
        lower = (below.row, below.confirmed, below.price)
        within.append(legs_within(r[k], r[k + 1], pivots.confirmed[-1], sign, lower))
    values = measured(kind, p, r, v, within)
    total = weight = 0.0
    for each in guidelines_of(kind):
        value = values[each.name]
        if not np.isnan(value):
            total += each.weight * value
        elif each.wave is not None or each.name == "volume_of_the_waves":
            # Not held against it: there may be no volume, and the degree below may see nothing within.
            continue
        weight += each.weight
    return total / weight
