"""Reliability: how often a finding's target was traded before its stop, against what the same prices do by chance.

A target near the price is reached often and one far away rarely, whatever was found; so a hit rate by itself says
nothing. Each finding is compared with its own base rate: the same distances to target and stop, in mean true ranges,
laid at earlier bars of the same series where nothing was asked.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import erfc, sqrt
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tapeline.charts.bar_arrays import BarArrays, Floats, Rows, mean_true_range
from tapeline.charts.events import event_rows
from tapeline.charts.fate import PENDING, TARGET, fates
from tapeline.core.multiple_testing import holm

HORIZON: Final = 200
REWARD: Final = 1.5
FEWEST_BARS: Final = 100
FEWEST_EVENTS: Final = 10
FORMING: Final = "forming_"
ALPHA: Final = 0.05
DRAWS: Final = 40
WINDOW: Final = 14
RESAMPLES: Final = 1_000


def outcomes(
    events: pd.DataFrame,
    bars: pd.DataFrame | BarArrays,
    *,
    horizon: int = HORIZON,
    reward: float = REWARD,
    draws: int = DRAWS,
    seed: int = 0,
) -> pd.DataFrame:
    """What became of each event that names a direction and a stop, and what chance makes of the same prices.

    The event is entered at the open of the bar after its confirmation. It is hit where its target is traded before its
    stop within ``horizon`` bars; a bar that holds both prices counts as stopped. Events whose open already lies beyond
    target or stop cannot be entered and are left out, so are those that are undecided when the bars end, those of
    kinds that are still forming, and those before which there are too few bars for a base rate.

    Parameters
    ----------
    events:
        Rows of the events schema of one series, in the order of ``confirmed_at``.
    bars:
        The bars of that series, with ``close_ts``.
    horizon:
        Bars after the confirmation within which it is decided.
    reward:
        Where an event names no target: the target's distance in multiples of the distance to the stop.
    draws:
        Bars drawn for each event's base rate, all so long before its confirmation that they were decided by then: what
        is known of an event at its end holds nothing that came after.
    seed:
        Of the draws: the same events and bars give the same numbers.

    Returns
    -------
    One row an event: ``id``, ``kind``, ``direction``, ``confirmed_at``; ``decided_at`` (the close at which it was hit,
    stopped or expired); ``hit`` (1.0 or 0.0); ``base`` (the share of draws that were hit); ``reward`` and ``risk`` (the
    distances from the entry, in mean true ranges); ``result`` in multiples of the risk, +reward / risk where hit, -1
    where stopped, and for the expired ones what the close of the last bar gave.

    Examples
    --------
    >>> from tapeline.charts.structure import break_of_structure
    >>> from tapeline.charts.synthetic import random_walk
    >>> bars = random_walk(3_000, seed=2)
    >>> breaks = break_of_structure(bars)
    >>> told = outcomes(breaks.assign(target=2 * breaks["high"] - breaks["stop"]), bars)
    >>> bool(abs(told["hit"].mean() - told["base"].mean()) < 0.15)
    True
    """
    arrays = BarArrays.of(bars)
    known, _ = event_rows(events, arrays)
    direction = events["direction"].to_numpy(dtype=np.int8)
    target, stop = (events[name].to_numpy(dtype=np.float64) for name in ("target", "stop"))
    usual = arrays.once(mean_true_range, WINDOW)
    inside = np.flatnonzero(known + 1 < len(arrays))
    entry = np.full(len(events), np.nan)
    entry[inside] = arrays.open[known[inside] + 1]
    unit = np.full(len(events), np.nan)
    unit[inside] = usual[known[inside]]
    target = np.where(np.isnan(target), entry + reward * (entry - stop), target)
    with np.errstate(divide="ignore", invalid="ignore"):
        gain, risk = direction * (target - entry) / unit, direction * (entry - stop) / unit
    formed = ~events["kind"].astype(str).str.startswith(FORMING).to_numpy(dtype=bool)
    seen = known > WINDOW + horizon + FEWEST_BARS
    chosen = np.flatnonzero((direction != 0) & formed & seen & (gain > 0.0) & (risk > 0.0) & np.isfinite(gain + risk))
    ended = fates(arrays, known[chosen], direction[chosen], target[chosen], stop[chosen], horizon)
    done = ended.outcome != PENDING
    chosen, row, outcome = chosen[done], ended.row[done], ended.outcome[done]
    gain, risk, way = gain[chosen], risk[chosen], direction[chosen]
    names = events["id"].to_numpy()[chosen]
    base = _by_chance(arrays, _shares(names, draws, seed), known[chosen], way, gain, risk, horizon)
    last = way * (arrays.close[row] - entry[chosen]) / unit[chosen] / risk
    result = np.where(outcome == TARGET, gain / risk, np.where(outcome == 0, last, -1.0))
    return pd.DataFrame(
        {
            "id": names,
            "kind": events["kind"].astype(str).to_numpy()[chosen],
            "direction": way,
            "confirmed_at": pd.DatetimeIndex(events["confirmed_at"])[chosen],
            "decided_at": pd.DatetimeIndex(arrays.closed[row].view("M8[ns]"), tz="UTC"),
            "hit": (outcome == TARGET).astype(np.float64),
            "base": base,
            "reward": gain,
            "risk": risk,
            "result": result,
        }
    )


def _shares(names: NDArray[Any], draws: int, seed: int) -> Floats:
    """Uniform numbers, a row an event, by its id alone: other events beside it, or later ones, change none of them."""
    state = pd.util.hash_array(names.astype(object)) ^ np.uint64(seed * 0x9E3779B97F4A7C15 % 2**64)
    # SplitMix64 (Steele, Lea, Flood 2014, OOPSLA) from the event's own state.
    mixed = state[:, None] + np.arange(1, draws + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
    return np.asarray(((mixed ^ (mixed >> np.uint64(31))) >> np.uint64(11)) * 2.0**-53)


def _by_chance(
    arrays: BarArrays,
    shares: Floats,
    known: Rows,
    direction: NDArray[np.int8],
    reward: Floats,
    risk: Floats,
    horizon: int,
) -> Floats:
    """The share of earlier bars, drawn at random, from which the same distances are hit; NaN where none can say."""
    if not direction.size:
        return np.empty(0)
    usual = arrays.once(mean_true_range, WINDOW)
    drawn: Rows = (WINDOW + shares * (known - horizon - WINDOW)[:, None]).astype(np.int64)
    entry, unit = arrays.open[drawn + 1], usual[drawn]
    goal = entry + (direction * reward)[:, None] * unit
    limit = entry - (direction * risk)[:, None] * unit
    ended = fates(arrays, drawn.ravel(), np.repeat(direction, shares.shape[1]), goal.ravel(), limit.ravel(), horizon)
    valid = (unit > 0.0).sum(axis=1)
    hit = ((ended.outcome.reshape(drawn.shape) == TARGET) & (unit > 0.0)).sum(axis=1)
    return np.divide(hit, valid, out=np.full(direction.size, np.nan), where=valid > 0)


def reliability(told: pd.DataFrame, by: Sequence[str] = ("kind",), *, seed: int = 0) -> pd.DataFrame:
    """Hit rates by group with what chance gives, and whether the difference is more than luck.

    Parameters
    ----------
    told:
        From :func:`outcomes`, of one or several series; further columns, such as ``symbol`` or ``regime``, may be used
        in ``by``.
    by:
        The columns that make a group.

    Returns
    -------
    One row a group: ``events``; ``hit_rate`` and its Wilson interval ``hit_low``, ``hit_high`` (95 %); ``base_rate``;
    ``edge``, their difference, with ``edge_low`` and ``edge_high``, the 95 % interval of a bootstrap over blocks of
    events that follow each other (findings close in time share their future); ``mean_result`` in multiples of the risk
    before costs; ``p_value`` of the edge, the larger of that of the bootstrap and that of independent draws at the base
    rates, adjusted for the number of groups (Holm 1979); ``verdict``: ``edge`` or ``worse than chance`` where that is
    below 0.05, else ``no edge shown``.

    Examples
    --------
    >>> told = pd.DataFrame({"kind": "flag", "confirmed_at": pd.date_range("2017", periods=400, tz="UTC"),
    ...                      "hit": [1.0, 0.0] * 200, "base": 0.3, "result": 0.1})
    >>> reliability(told)[["events", "hit_rate", "edge", "verdict"]].to_numpy().tolist()
    [[400, 0.5, 0.2, 'edge']]
    """
    rows = []
    known = told[told["base"].notna()].sort_values("confirmed_at", kind="stable")
    for key, group in known.groupby(list(by), observed=True, sort=True):
        hit, base = group["hit"].to_numpy(), group["base"].to_numpy()
        low, high = wilson_interval(float(hit.sum()), len(hit))
        edge_low, edge_high, p_value = block_interval(hit - base, seed=seed)
        # Hits that are all alike have no spread to resample: what chance alone would spread bounds the p-value.
        spread = np.sqrt((base * (1.0 - base)).sum()) / len(base)
        alone = erfc(abs(float((hit - base).mean())) / (spread * sqrt(2.0))) if spread > 0.0 else 1.0
        rows.append(
            {
                **dict(zip(by, key, strict=True)),
                "events": len(group),
                "hit_rate": hit.mean(),
                "hit_low": low,
                "hit_high": high,
                "base_rate": base.mean(),
                "edge": round(float((hit - base).mean()), 12),
                "edge_low": edge_low,
                "edge_high": edge_high,
                "mean_result": group["result"].mean(),
                "p_value": max(p_value, alone),
            }
        )
    numbers = ("events", "hit_rate", "hit_low", "hit_high", "base_rate", "edge", "edge_low", "edge_high", "mean_result")
    table = pd.DataFrame(rows, columns=[*by, *numbers, "p_value"])
    table["p_value"] = holm(table["p_value"].to_numpy(dtype=np.float64))
    shown = np.where(table["edge"] > 0, "edge", "worse than chance")
    return table.assign(verdict=np.where(table["p_value"] < ALPHA, shown, "no edge shown"))


def wilson_interval(hits: float, trials: int, z: float = 1.959964) -> tuple[float, float]:
    """The interval of a share (Wilson 1927, Journal of the American Statistical Association 22, p. 209).

    Examples
    --------
    >>> [round(bound, 4) for bound in wilson_interval(10, 20)]
    [0.2993, 0.7007]
    """
    if trials == 0:
        return np.nan, np.nan
    share, square = hits / trials, z * z
    middle = (share + square / (2 * trials)) / (1 + square / trials)
    half = z / (1 + square / trials) * np.sqrt(share * (1 - share) / trials + square / (4 * trials**2))
    return max(0.0, float(middle - half)), min(1.0, float(middle + half))


def block_interval(values: Floats, *, seed: int = 0, resamples: int = RESAMPLES) -> tuple[float, float, float]:
    """The 95 % interval of a mean and the two-sided p-value of its being 0, by the circular block bootstrap.

    Blocks of n ** (1/3) values that follow each other (Politis, Romano 1992); the p-value is that of the normal with
    the bootstrap's standard error. Fewer than 10 values, or values without spread, show nothing: (-inf, inf, 1).
    """
    count = values.size
    if count < FEWEST_EVENTS or np.ptp(values) == 0.0:
        return -np.inf, np.inf, 1.0
    length = max(1, round(count ** (1 / 3)))
    ends = np.concatenate(([0.0], np.cumsum(np.concatenate((values, values[:length])))))
    sums = ends[length : length + count] - ends[:count]
    picked: Any = np.random.default_rng(seed).integers(0, count, (resamples, -(-count // length)))
    means = sums[picked].mean(axis=1) / length
    low, high = np.quantile(means, (0.025, 0.975))
    return float(low), float(high), erfc(abs(float(values.mean())) / (float(means.std()) * sqrt(2.0)))
