"""Supply and demand: the bases that price left in a hurry, how fresh they are, and what became of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import Field

from tapeline.charts import zone_kernels as kernels
from tapeline.charts.bar_arrays import BarArrays, Floats, Rows, mean_true_range
from tapeline.charts.detector import Found, detector
from tapeline.charts.events import Findings
from tapeline.charts.swings import Period
from tapeline.charts.watch import Watch, ends_at, expires_or_ends_at, watch_levels
from tapeline.core.registry import feature
from tapeline.features.arrays import frame

BaseBars = Annotated[int, Field(ge=1, le=100)]
LegBars = Annotated[int, Field(ge=1, le=100)]
Share = Annotated[float, Field(gt=0.0, le=1.0)]
Multiple = Annotated[float, Field(gt=0.0, le=100.0)]
Life = Annotated[int, Field(ge=1, le=100_000)]

FARTHEST: Final = 20.0
"""The distance, in mean true ranges, that stands for no zone."""

KINDS: Final = {
    (1, -1): "rally_base_drop",
    (-1, 1): "drop_base_rally",
    (1, 1): "rally_base_rally",
    (-1, -1): "drop_base_drop",
}
"""By how the base was reached and how it was left, each 1 upwards."""

_COLUMNS: Final = tuple(
    f"{side}_{name}" for side in ("demand", "supply") for name in ("distance", "strength", "tests", "mitigated")
)


@dataclass(frozen=True)
class Zones:
    """Supply and demand zones in the order of their confirmation: arrays of one length.

    ``first`` and ``last`` are the rows of the base, ``known`` the row at whose close price had left it; ``side`` is 1
    for demand (left upwards), ``reached`` 1 where a rally led to the base; ``low`` and ``high`` its range, ``score``
    the strength.
    """

    first: Rows
    last: Rows
    known: Rows
    side: NDArray[np.int8]
    reached: NDArray[np.int8]
    low: Floats
    high: Floats
    score: Floats

    def __len__(self) -> int:
        return len(self.first)


@dataclass(frozen=True)
class Fates:
    """What became of zones: a row a zone, and a row a test.

    ``ended`` is the row at which each ended (-1 where it stands), ``broken`` whether by a close through it, ``tests``
    how often price came back to it and ``share`` how much of it was traded back through at most (0 to 1). ``tested``
    has the columns zone, row and number of the test.
    """

    ended: Rows
    broken: NDArray[np.bool_]
    tests: Rows
    share: Floats
    tested: Rows


def find_zones(
    bars: pd.DataFrame | BarArrays,
    base: int = 6,
    body: float = 0.5,
    narrow: float = 1.0,
    impulse: float = 1.5,
    leg: int = 3,
    window: int = 14,
) -> Zones:
    """The zones of bars; the parameters are those of :func:`supply_demand_zone`.

    Examples
    --------
    >>> from tapeline.core.example import example_bars
    >>> bars = example_bars(10, 10, 10, 14, 14.5, 20)
    >>> zones = find_zones(bars, window=2, impulse=1.0)
    >>> zones.low.tolist(), zones.high.tolist(), zones.known.tolist()
    ([13.0], [15.5], [5])
    """
    arrays = BarArrays.of(bars)
    rows = len(arrays)
    integers, numbers = np.empty((rows // 2 + 1, 5), np.int64), np.empty((rows // 2 + 1, 3))
    count = kernels.find_bases(
        arrays.open, arrays.high, arrays.low, arrays.close, arrays.volume, arrays.once(mean_true_range, window),
        base, body, narrow, leg, impulse, integers, numbers,
    )  # fmt: skip
    order = np.argsort(integers[:count, 2], kind="stable")
    first, last, known, side, reached = np.ascontiguousarray(integers[order].T)
    low, high, score = np.ascontiguousarray(numbers[order].T)
    return Zones(first, last, known, side.astype(np.int8), reached.astype(np.int8), low, high, score)


def zone_fates(
    arrays: BarArrays,
    base: int,
    body: float,
    narrow: float,
    impulse: float,
    leg: int,
    window: int,
    max_age: int,
    dense: Floats | None = None,
) -> Fates:
    """What became of the zones of these bars within ``max_age`` bars of their confirmation."""
    zones = arrays.once(find_zones, base, body, narrow, impulse, leg, window)
    rows = np.empty((0, kernels.DENSE)) if dense is None else dense
    room = 4 * len(zones) + 16
    while True:
        ended, tests = np.full(len(zones), -1), np.zeros(len(zones), np.int64)
        broken, share = np.zeros(len(zones), np.bool_), np.zeros(len(zones))
        tested = np.empty((room, 3), np.int64)
        count = kernels.follow_zones(
            arrays.high, arrays.low, arrays.close, arrays.once(mean_true_range, window),
            zones.known, zones.side, zones.low, zones.high, zones.score, max_age, FARTHEST,
            ended, broken, tests, share, tested, rows,
        )  # fmt: skip
        if count <= room:
            return Fates(ended, broken, tests, share, tested[:count])
        room = count


def zone_memory(base: int, leg: int, window: int) -> int:
    """The bars that decide whether a zone is confirmed at a bar."""
    return base + 2 * leg + window + 4


def _new_zone(arrays: BarArrays, base: int, body: float, narrow: float, impulse: float, leg: int, window: int) -> bool:
    """Whether the last bar confirms a zone, by the bars that decide that."""
    tail = arrays.tail(zone_memory(base, leg, window))
    known = find_zones(tail, base, body, narrow, impulse, leg, window).known
    return known.size > 0 and bool(known[-1] == len(tail) - 1)


@detector(
    lookback=zone_memory,
    reference="Seiden's supply and demand method: a base between two impulses, in its four forms",
    follows=("max_age",),
    watch=expires_or_ends_at("stop", closes=True),
    probe=_new_zone,
)
def supply_demand_zone(
    arrays: BarArrays,
    base: BaseBars = 6,
    body: Share = 0.5,
    narrow: Multiple = 1.0,
    impulse: Multiple = 1.5,
    leg: LegBars = 3,
    window: Period = 14,
    max_age: Life = 300,
) -> Iterator[Found]:
    """Bases between two impulses, confirmed at the close that completes the second.

    Kinds ``drop_base_rally`` and ``rally_base_rally`` (demand, ``direction`` 1), ``rally_base_drop`` and
    ``drop_base_drop`` (supply, -1). A base is a run of at most ``base`` bars, each with a body of at most ``body`` of
    its range and a range of at most ``narrow`` mean true ranges of the bars before it; a longer run is none. The
    measure of the impulses is the mean true range ``u`` over ``window`` bars just before the base. A rally (drop) led
    to it if the close before it lies ``impulse * u`` above the lowest low (below the highest high) of the ``leg`` bars
    before, the larger of the two counting; it was left by the first close that lies ``impulse * u`` beyond it within
    ``leg`` bars, with no close beyond its other border before.

    ``low`` and ``high`` are the range of the base, ``stop`` its far border. ``score``, the strength, is the mean of
    ``s / (1 + s)`` (``s``: the way left behind over the bars it took, in ``u``), ``u / (u + height)``, and the leaving
    bars' share of their mean volume and the base's together (left out without volume): three numbers between 0 and 1.
    Invalidated by the first close through the far border, or ``max_age`` bars later. How often a zone was tested and
    how much of it is mitigated: :func:`zone_test`, :func:`nearest_zones`, :func:`zone_states`.

    Examples
    --------
    >>> from tapeline.core.example import example_bars
    >>> found = supply_demand_zone(example_bars(10, 10, 10, 14, 14.5, 20), window=2, impulse=1.0)
    >>> found[["kind", "low", "high"]].to_numpy().tolist(), str(found["confirmed_at"].iloc[0])
    ([['rally_base_rally', 13.0, 15.5]], '2017-01-02 06:00:00+00:00')
    """
    zones = arrays.once(find_zones, base, body, narrow, impulse, leg, window)
    ended = arrays.once(zone_fates, base, body, narrow, impulse, leg, window, max_age).ended
    for (reached, side), kind in KINDS.items():
        mine = (zones.side == side) & (zones.reached == reached)
        low, high = zones.low[mine], zones.high[mine]
        first, last, known = zones.first[mine], zones.last[mine], zones.known[mine]
        yield Findings(
            kind,
            direction=zones.side[mine],
            start=first,
            end=last,
            confirmed=known,
            low=low,
            high=high,
            invalidated=ended[mine],
            stop=low if side > 0 else high,
            score=zones.score[mine],
            point_rows=np.column_stack((first, last, known)),
            point_prices=np.column_stack((low, high, arrays.close[known])),
        )


@detector(
    lookback=lambda base, leg, window, max_age: zone_memory(base, leg, window) + max_age,
    reference="Seiden's supply and demand method: a zone is fresh until price comes back to it",
    watch=ends_at(),
    probe=_new_zone,
)
def zone_test(
    arrays: BarArrays,
    base: BaseBars = 6,
    body: Share = 0.5,
    narrow: Multiple = 1.0,
    impulse: Multiple = 1.5,
    leg: LegBars = 3,
    window: Period = 14,
    max_age: Life = 300,
) -> Iterator[Found]:
    """Returns of price to a supply or demand zone, confirmed at the close of the bar that touched it.

    Kind ``zone_test``, ``direction`` and range those of the zone. ``start`` is the first bar of the base, ``end`` the
    touching bar; ``score`` is the number of the test: 1 where the zone was fresh. The next test counts once a whole
    bar has been outside. Invalidated when the zone is; a bar that comes back and closes through it makes a test that
    stood for no time. Followed for ``max_age`` bars after the zone's confirmation.

    Examples
    --------
    >>> from tapeline.core.example import example_bars
    >>> bars = example_bars(10, 10, 10, 14, 14.5, 20, 19, 16, 18, 20)
    >>> found = zone_test(bars, window=2, impulse=1.0)
    >>> found[["direction", "low", "high", "score"]].to_numpy().tolist(), str(found["confirmed_at"].iloc[0])
    ([[1.0, 13.0, 15.5, 1.0]], '2017-01-02 08:00:00+00:00')
    """
    zones = arrays.once(find_zones, base, body, narrow, impulse, leg, window)
    fates = arrays.once(zone_fates, base, body, narrow, impulse, leg, window, max_age)
    zone, at, number = np.ascontiguousarray(fates.tested.T)
    side, low, high = zones.side[zone], zones.low[zone], zones.high[zone]
    first = zones.first[zone]
    near, far = np.where(side > 0, high, low), np.where(side > 0, low, high)
    yield Findings(
        "zone_test",
        direction=side,
        start=first,
        end=at,
        confirmed=at,
        low=low,
        high=high,
        invalidated=fates.ended[zone],
        stop=far,
        score=number.astype(np.float64),
        point_rows=np.column_stack((first, zones.known[zone], at)),
        point_prices=np.column_stack((near, near, near)),
    )
    alive = fates.ended < 0
    yield watch_levels(zones.low[alive], zones.high[alive])
    if alive.any():
        yield Watch(until=int(zones.known[alive].min()) + max_age)


@feature(
    lookback=lambda base, leg, window, max_age: zone_memory(base, leg, window) + max_age,
    outputs=_COLUMNS,
    reference="Seiden's supply and demand method: strength, freshness and mitigation of the nearest zones",
)
def nearest_zones(
    bars: pd.DataFrame,
    base: BaseBars = 6,
    body: Share = 0.5,
    narrow: Multiple = 1.0,
    impulse: Multiple = 1.5,
    leg: LegBars = 3,
    window: Period = 14,
    max_age: Life = 300,
) -> pd.DataFrame:
    """The nearest demand zone below and supply zone above the close that still stand, as known at each close.

    Returns
    -------
    A side: ``_distance`` from the close to the near border in mean true ranges (below 0 inside the zone, 20 where
    there is none within 20), ``_strength``, ``_tests`` so far (0: fresh) and ``_mitigated``, the largest share of the
    zone that was traded back through; these are 0 where there is none. NaN where the mean true range is 0.

    Examples
    --------
    >>> from tapeline.core.example import example_bars
    >>> bars = example_bars(10, 10, 10, 14, 14.5, 20, 19, 16, 18, 20)
    >>> nearest_zones(bars, window=2, impulse=1.0).iloc[-1].round(2).tolist()
    [1.12, 0.56, 1.0, 0.2, 20.0, 0.0, 0.0, 0.0]
    """
    dense = np.empty((len(bars), kernels.DENSE))
    zone_fates(BarArrays.of(bars), base, body, narrow, impulse, leg, window, max_age, dense)
    return frame(bars, **dict(zip(_COLUMNS, dense.T, strict=True)))


def zone_states(
    bars: pd.DataFrame | BarArrays,
    base: int = 6,
    body: float = 0.5,
    narrow: float = 1.0,
    impulse: float = 1.5,
    leg: int = 3,
    window: int = 14,
    max_age: int = 300,
) -> pd.DataFrame:
    """All zones of these bars as they are at the last of them: a row a zone.

    ``state`` is ``fresh`` (price has not come back), ``tested`` (it has, through less than half of the zone),
    ``mitigated`` (through half of it or more), ``broken`` (a bar closed through it) or ``expired`` (``max_age`` bars
    without that). The parameters are those of :func:`supply_demand_zone`.

    Examples
    --------
    >>> from tapeline.core.example import example_bars
    >>> bars = example_bars(10, 10, 10, 14, 14.5, 20, 19, 16, 18, 20)
    >>> zone_states(bars, window=2, impulse=1.0)[["kind", "tests", "mitigated", "state"]].values.tolist()
    [['rally_base_rally', 1, 0.2, 'tested']]
    """
    arrays = BarArrays.of(bars)
    zones = arrays.once(find_zones, base, body, narrow, impulse, leg, window)
    fates = arrays.once(zone_fates, base, body, narrow, impulse, leg, window, max_age)
    state = np.where(fates.tests == 0, "fresh", np.where(fates.share < 0.5, "tested", "mitigated"))
    state = np.where(fates.ended >= 0, np.where(fates.broken, "broken", "expired"), state)
    close_ts = pd.DatetimeIndex(arrays.bars["close_ts"])
    return pd.DataFrame(
        {
            "kind": [KINDS[key] for key in zip(zones.reached.tolist(), zones.side.tolist(), strict=True)],
            "direction": zones.side,
            "confirmed_at": close_ts[zones.known],
            "low": zones.low,
            "high": zones.high,
            "strength": zones.score,
            "tests": fates.tests,
            "mitigated": fates.share,
            "state": state,
        }
    )
