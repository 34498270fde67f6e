"""Points of interest: prices at which several kinds of findings agree, ranked by strength and by distance."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Annotated, Any, Final

import numpy as np
import pandas as pd
from numba import njit
from numpy.typing import NDArray
from pydantic import Field

from tapeline.charts.bar_arrays import BarArrays, Floats, mean_true_range
from tapeline.charts.detector import Detector, Found, detector
from tapeline.charts.event_kernels import first_crossings
from tapeline.charts.events import Findings
from tapeline.charts.gaps import fair_value_gap
from tapeline.charts.levels import support_resistance
from tapeline.charts.liquidity import equal_extremes
from tapeline.charts.liquidity_gaps import liquidity_void, session_gap
from tapeline.charts.order_blocks import order_block
from tapeline.charts.supply_demand import KINDS, supply_demand_zone
from tapeline.charts.swings import Period
from tapeline.charts.watch import Watch, expires_or_ends_at, joined
from tapeline.core.errors import DataError
from tapeline.core.registry import component_of

Needed = Annotated[int, Field(ge=2, le=7)]
Reach = Annotated[float, Field(ge=0.0, le=100.0)]
Width = Annotated[float, Field(gt=0.0, le=100.0)]
Life = Annotated[int, Field(ge=1, le=100_000)]

MEMBERS: Final[tuple[Detector[Any], ...]] = (
    support_resistance,
    supply_demand_zone,
    fair_value_gap,
    order_block,
    equal_extremes,
    session_gap,
    liquidity_void,
)
"""The detectors, with their defaults, whose findings :func:`point_of_interest` looks at."""

FAMILIES: Final[Mapping[str, str]] = MappingProxyType(
    dict.fromkeys(KINDS.values(), "supply_demand")
    | dict.fromkeys(("equal_highs", "equal_lows"), "equal_extremes")
    | dict.fromkeys(("session_gap", "weekend_gap"), "opening_gap")
    | dict.fromkeys(("value_area", "point_of_control", "high_volume_node", "low_volume_node"), "volume_profile")
)
"""Kinds that say one thing in several forms count as one; any other kind counts by itself."""

COLUMNS: Final = (
    "rank", "low", "high", "direction", "kinds", "members", "strength", "distance", "interest", "events",
)  # fmt: skip


def points_of_interest(
    events: pd.DataFrame,
    bars: pd.DataFrame | BarArrays,
    at: pd.Timestamp | None = None,
    *,
    within: float = 0.25,
    widest: float = 3.0,
    window: int = 14,
) -> pd.DataFrame:
    """Where the findings that stand at an instant cluster, the most interesting place first.

    An as-of read: an event counts if it was confirmed by then and not yet invalidated. Events wider than ``widest``
    mean true ranges point at no place and are left out. The others are joined from the lowest on: one belongs to the
    cluster below it if its low lies at most ``within`` mean true ranges above the cluster's high and the cluster stays
    no wider than ``widest``.

    Parameters
    ----------
    events:
        Rows of the events schema of one symbol, by any detectors: zones, gaps, levels, nodes of a volume profile.
    bars:
        Its bars with ``close_ts``.
    at:
        The last close where absent.
    within, widest:
        In mean true ranges over ``window`` bars, as they stand at the last bar that had closed.

    Returns
    -------
    A row a cluster. ``low``, ``high``: its range. ``kinds``: the different kinds in it; forms of one thing
    (``FAMILIES``) count once. ``members``: events. ``strength``: the sum over kinds of the heaviest member, whose
    weight is 0.5 plus half the share of its kind's scores known by then that were not above its own (0.75 where it has
    no score). ``direction``: the sign of the members' directions, weighted. ``distance``: mean true ranges from the
    close to the cluster, above 0 where it lies above, 0 inside. ``interest``: ``strength / (1 + |distance|)``, by which
    ``rank`` counts from 1. ``events``: the ids of the members.

    Raises
    ------
    DataError
        No bar had closed by then, or too few for a mean true range; or the instant has no time zone.

    Examples
    --------
    >>> from tapeline.charts.events import event_frame
    >>> from tapeline.core.example import example_bars
    >>> bars = example_bars(10, 10, 10, 10, 10)
    >>> one = np.array([0])
    >>> def finding(kind, low, high):
    ...     return Findings(kind, np.ones(1, np.int8), one, one, one, np.array([low]), np.array([high]))
    >>> events = event_frame(bars, [finding("a", 8.0, 9.0), finding("b", 8.5, 9.2), finding("c", 14.0, 14.5)], {})
    >>> found = points_of_interest(events, bars, window=2)
    >>> found[["rank", "low", "high", "members", "strength", "distance"]].round(2).to_numpy().tolist()
    [[1.0, 8.0, 9.2, 2.0, 1.5, -0.4], [2.0, 14.0, 14.5, 1.0, 0.75, 2.0]]
    >>> found["kinds"].tolist()
    [('a', 'b'), ('c',)]
    """
    arrays = BarArrays.of(bars)
    unit = arrays.once(mean_true_range, window)
    row = len(arrays) - 1
    if at is not None:
        if pd.Timestamp(at).tzinfo is None:
            raise DataError(f"at = {at} has no time zone", hint="give a UTC instant")
        row = int(arrays.closed.searchsorted(pd.Timestamp(at).as_unit("ns").value, side="right")) - 1
    if row < 0 or not unit[row] > 0.0:
        raise DataError(
            f"there is no mean true range over {window} bars as of {at if at is not None else 'the last bar'}",
            hint="give more bars, or a later instant",
        )
    now = pd.Timestamp(arrays.closed[row], unit="ns", tz="UTC") if at is None else at
    measure, price = float(unit[row]), float(arrays.close[row])
    known = events[events["confirmed_at"] <= now]
    weight = _weights(known)
    gone = known["invalidated_at"]
    low, high = known["low"].to_numpy(np.float64), known["high"].to_numpy(np.float64)
    stands = (gone.isna() | (gone > now)).to_numpy() & (high - low <= widest * measure)
    order = np.flatnonzero(stands)
    order = order[np.lexsort((known["id"].to_numpy(str)[order], high[order], low[order]))]
    low, high = low[order], high[order]
    cluster = _clusters(low, high, within * measure, widest * measure)
    chosen = known.iloc[order]
    families = chosen["kind"].astype(str).map(lambda kind: FAMILIES.get(kind, kind)).to_numpy(str)
    heavy, pull = weight[order], chosen["direction"].to_numpy(np.float64)
    lines = []
    for part in np.split(np.arange(order.size), np.flatnonzero(np.diff(cluster)) + 1) if order.size else ():
        bottom, top = float(low[part].min()), float(high[part].max())
        kinds = tuple(np.unique(families[part]).tolist())
        strength = float(sum(heavy[part][families[part] == kind].max() for kind in kinds))
        distance = (max(bottom - price, 0.0) - max(price - top, 0.0)) / measure
        lines.append(
            {
                "low": bottom, "high": top, "direction": int(np.sign((heavy[part] * pull[part]).sum())),
                "kinds": kinds, "members": len(part), "strength": strength, "distance": distance,
                "interest": strength / (1.0 + abs(distance)), "events": tuple(chosen["id"].iloc[part].tolist()),
            }
        )  # fmt: skip
    found = pd.DataFrame(lines, columns=list(COLUMNS[1:]))
    numbers = found[["low", "distance", "interest"]].to_numpy(np.float64)
    place = np.lexsort((numbers[:, 0], np.abs(numbers[:, 1]), -numbers[:, 2]))
    found = found.iloc[place].reset_index(drop=True)
    found.insert(0, "rank", np.arange(1, len(found) + 1))
    return found


def _weights(known: pd.DataFrame) -> Floats:
    """0.5 plus half the share of the scores of its kind that do not lie above its own."""
    score = known["score"]
    rank = score.groupby(known["kind"].astype(str)).rank(method="max", pct=True)
    return np.where(score.isna(), 0.75, 0.5 + 0.5 * rank).astype(np.float64)


@njit(cache=True, nogil=True)
def _clusters(low: Any, high: Any, within: Any, widest: Any) -> Any:
    """The number of the cluster of each range; ``low`` ascends."""
    result = np.empty(low.size, np.int64)
    count, bottom, top = -1, 0.0, 0.0
    for i in range(low.size):
        if count < 0 or low[i] > top + within or max(high[i], top) - bottom > widest:
            count, bottom, top = count + 1, low[i], high[i]
        top = max(top, high[i])
        result[i] = count
    return result


def member_memory(max_age: int) -> int:
    """The bars that decide whether the members of a confluence are there."""
    return max_age + max(component_of(member).lookback_of() for member in MEMBERS)


def _members_probed(arrays: BarArrays) -> bool:
    return any(arrays.once(member.probed) for member in MEMBERS if member.probed is not None)


@detector(
    lookback=member_memory,
    reference="confluence, as Murphy, Technical Analysis of the Financial Markets (1999), chapter 19, weighs agreement",
    watch=expires_or_ends_at("stop", closes=True),
    probe=_members_probed,
)
def point_of_interest(
    arrays: BarArrays,
    needed: Needed = 3,
    within: Reach = 0.25,
    widest: Width = 3.0,
    max_age: Life = 300,
    window: Period = 14,
) -> Iterator[Found]:
    """Prices at which findings of ``needed`` kinds agree, confirmed with the one that adds the last kind.

    Kind ``point_of_interest``. The findings are those of ``MEMBERS`` with their defaults: levels, supply and demand,
    fair value gaps, order blocks, equal highs and lows, opening gaps, voids. A finding that is confirmed meets those
    confirmed at most ``max_age`` bars before that still stand and lie at most ``within`` mean true ranges off its
    range; what is wider than ``widest`` mean true ranges counts for nothing. If no other of its kind is among them
    and there are now ``needed`` kinds or more, this is a point of interest.

    ``direction`` is the sign of the sum of the members' directions, ``start`` the earliest of their first bars, ``end``
    the confirming bar; ``low`` and ``high`` are the range of the members, cut off ``within`` beyond that of the last;
    ``stop`` is the far border, ``score`` the number of kinds. Invalidated by the first close beyond the far border
    (without a direction: never), at the latest ``max_age`` bars later. With findings of other detectors:
    :func:`points_of_interest`.

    Examples
    --------
    >>> from tapeline.charts.synthetic import random_walk
    >>> found = point_of_interest(random_walk(1_000, seed=1), needed=3)
    >>> bool((found["score"] >= 3).all()), len(found) > 0
    (True, True)
    """
    parts = [(family, part) for family, member in enumerate(MEMBERS) for part in arrays.once(member.found)]
    family = np.concatenate([np.full(len(part), number) for number, part in parts])
    known = np.concatenate([part.confirmed for _, part in parts])
    order = np.lexsort((family, known))
    numbers = np.column_stack(
        [np.concatenate(values)[order] for values in zip(*(_columns(part) for _, part in parts), strict=True)]
    )
    integers, prices = np.empty((known.size, 4), np.int64), np.empty((known.size, 2))
    count = _confluences(
        known[order], family[order], numbers, arrays.once(mean_true_range, window),
        needed, within, widest, max_age, integers, prices,
    )  # fmt: skip
    at, start, side, kinds = np.ascontiguousarray(integers[:count].T)
    low, high = np.ascontiguousarray(prices[:count].T)
    until = np.full(count, -1)
    for sign, far in ((1, low), (-1, high)):
        mine = side == sign
        until[mine] = first_crossings(-sign, arrays.close, at[mine], far[mine], strict=True)
    late = at + max_age
    until = np.where((late < len(arrays)) & ((until < 0) | (until > late)), late, until)
    yield Findings(
        "point_of_interest",
        direction=side.astype(np.int8),
        start=start,
        end=at,
        confirmed=at,
        low=low,
        high=high,
        invalidated=until,
        stop=np.where(side > 0, low, np.where(side < 0, high, np.nan)),
        score=kinds.astype(np.float64),
        point_rows=np.column_stack((start, at)),
        point_prices=np.column_stack((low, high)),
    )
    watches = [arrays.once(member.watched) for member in MEMBERS]
    newest = max((int(part.confirmed.max()) for _, part in parts if len(part)), default=-1)
    # A finding of a member's own may bring another at the next bar.
    always = newest == len(arrays) - 1 or any(watch is None for watch in watches)
    yield joined([watch for watch in watches if watch is not None])
    if always:
        yield Watch(until=len(arrays))


def _columns(part: Findings) -> tuple[Floats | NDArray[Any], ...]:
    gone = np.full(len(part), -1) if part.invalidated is None else part.invalidated
    return (
        gone.astype(np.float64),
        part.low,
        part.high,
        part.direction.astype(np.float64),
        part.start.astype(np.float64),
    )


@njit(cache=True, nogil=True)
def _confluences(
    known: Any,
    family: Any,
    numbers: Any,
    unit: Any,
    needed: Any,
    within: Any,
    widest: Any,
    max_age: Any,
    integers: Any,
    prices: Any,
) -> Any:
    """Log each finding that adds a kind to others at its price: (row, start, direction, kinds) and (low, high).

    ``numbers`` holds a finding's row of invalidation (-1 none), low, high, direction and start.
    """
    count, size, before = 0, 0, -1
    standing = np.empty(known.size, np.int64)
    for i in range(known.size):
        t = known[i]
        measure = unit[t]
        gone, low, high = numbers[i, 0], numbers[i, 1], numbers[i, 2]
        if t > before:
            kept = 0
            for k in range(size):
                j = standing[k]
                if t - known[j] <= max_age and (numbers[j, 0] < 0 or numbers[j, 0] > t):
                    standing[kept] = j
                    kept += 1
            size, before = kept, t
        if 0 <= gone <= t:
            continue
        standing[size] = i
        size += 1
        if not measure > 0.0 or not high - low <= widest * measure:
            continue
        slack = within * measure
        bottom, top, pull, start = low, high, numbers[i, 3], numbers[i, 4]
        mask, kinds, alone = np.int64(1) << family[i], 1, True
        # The last of those that stand is the finding itself.
        for k in range(size - 1):
            j = standing[k]
            near = numbers[j, 1] <= high + slack and numbers[j, 2] >= low - slack
            if near and numbers[j, 2] - numbers[j, 1] <= widest * measure:
                if family[j] == family[i]:
                    alone = False
                    break
                bit = np.int64(1) << family[j]
                kinds += 0 if mask & bit else 1
                mask |= bit
                bottom, top = min(bottom, numbers[j, 1]), max(top, numbers[j, 2])
                pull += numbers[j, 3]
                start = min(start, numbers[j, 4])
        if not alone or kinds < needed:
            continue
        integers[count, 0], integers[count, 1] = t, np.int64(start)
        integers[count, 2], integers[count, 3] = np.int64(np.sign(pull)), kinds
        prices[count, 0], prices[count, 1] = max(bottom, low - slack), min(top, high + slack)
        again = False
        k = count - 1
        while k >= 0 and integers[k, 0] == t:
            # Two kinds that join at one bar may point at the same prices: that is one place.
            again |= prices[k, 0] == prices[count, 0] and prices[k, 1] == prices[count, 1]
            k -= 1
        count += 0 if again else 1
    return count
