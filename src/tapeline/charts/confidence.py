"""Confidence: how much more often than chance a finding of this kind has come true so far, shrunk towards no edge."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import pandas as pd

from tapeline.charts.bar_arrays import Floats
from tapeline.core.errors import ConfigurationError, DataError

LEVELS: Final[tuple[tuple[str, ...], ...]] = (
    ("kind",),
    ("kind", "timeframe"),
    ("kind", "timeframe", "symbol"),
    ("kind", "timeframe", "symbol", "regime"),
)
"""From the widest group to the narrowest; a level whose columns are not there is left out."""

STRENGTH: Final = 50.0
_EDGE: Final = 1e-3


def confidence(
    events: pd.DataFrame,
    told: pd.DataFrame,
    *,
    levels: Sequence[Sequence[str]] = LEVELS,
    strength: float = STRENGTH,
) -> pd.DataFrame:
    """What past outcomes say of each event, by the instant of its confirmation.

    For each level of groups, from the widest to the narrowest, the hit rate of what was decided by then is a Beta
    posterior: its prior is worth ``strength`` events and lies at the group's own base rate plus the lift of the level
    above; the widest level's prior has no lift. So a kind with few outcomes weighs what its wider group weighs, and one
    that has shown nothing weighs nothing (Gelman et al., Bayesian Data Analysis, 3rd ed. 2013, section 5.3, with the
    prior's strength given instead of estimated).

    Parameters
    ----------
    events:
        With ``kind``, ``confirmed_at`` and the further columns of the levels.
    told:
        From :func:`tapeline.charts.reliability.outcomes`, of any number of series, with the same columns. Only what
        was decided at or before an event's confirmation is read for it.
    levels:
        Groups of columns, each narrower than the one before.
    strength:
        How many outcomes the prior of each level is worth.

    Returns
    -------
    On the index of the events: ``outcomes`` (decided ones of its narrowest group), ``base_rate`` (theirs; of the
    widest group where there are none), ``lift`` (posterior hit rate less base rate), ``weight`` (the log of the odds
    ratio of the two, 0 where nothing is known, negative where it has done worse than chance).

    Raises
    ------
    DataError
        A column of the first level is missing.
    ConfigurationError
        ``strength`` is not positive.

    Examples
    --------
    >>> days = pd.date_range("2017", periods=201, tz="UTC")
    >>> told = pd.DataFrame({"kind": "flag", "decided_at": days[:200], "hit": [1.0, 1.0, 0.0, 0.0] * 50, "base": 0.3})
    >>> asked = pd.DataFrame({"kind": ["flag", "flag"], "confirmed_at": days[[0, 200]]})
    >>> confidence(asked, told)[["outcomes", "lift"]].round(3).to_numpy().tolist()
    [[1.0, 0.014], [200.0, 0.16]]
    """
    if not strength > 0:
        raise ConfigurationError(f"strength = {strength} is not above 0", hint="50 outcomes is a usual prior")
    usable = [list(level) for level in levels if set(level) <= set(events.columns) & set(told.columns)]
    if not usable or list(levels[0]) != usable[0]:
        raise DataError(f"events or outcomes lack the columns {list(levels[0])}")
    known = told[told["base"].notna()].sort_values("decided_at", kind="stable")
    instants = pd.DatetimeIndex(events["confirmed_at"]).as_unit("ns").asi8
    lift, base, count = np.zeros(len(events)), np.full(len(events), np.nan), np.zeros(len(events))
    for level in usable:
        number, hits, bases = _so_far(events, known, level, instants)
        base = np.where(number > 0, bases / np.maximum(number, 1.0), base)
        lift = (hits - bases + strength * lift) / (number + strength)
        count = number
    usual = np.clip(base, _EDGE, 1 - _EDGE)
    odds = _log_odds(np.clip(usual + lift, _EDGE, 1 - _EDGE)) - _log_odds(usual)
    weight = np.where(np.isnan(base), 0.0, odds)
    return pd.DataFrame({"outcomes": count, "base_rate": base, "lift": lift, "weight": weight}, index=events.index)


def _so_far(
    events: pd.DataFrame, known: pd.DataFrame, level: list[str], instants: np.ndarray
) -> tuple[Floats, Floats, Floats]:
    """How many outcomes of each event's group were decided by its confirmation, how many hit, and their base rates."""
    number, hits, bases = np.zeros(len(events)), np.zeros(len(events)), np.zeros(len(events))
    asked = events.reset_index(drop=True).groupby(level, observed=True).indices
    for key, group in known.groupby(level, observed=True):
        places = asked.get(key if len(level) > 1 else key[0])
        if places is None:
            continue
        decided = pd.DatetimeIndex(group["decided_at"]).as_unit("ns").asi8
        by_then = np.searchsorted(decided, instants[places], side="right")
        number[places] = by_then
        for sums, name in ((hits, "hit"), (bases, "base")):
            sums[places] = np.concatenate(([0.0], np.cumsum(group[name].to_numpy(dtype=np.float64))))[by_then]
    return number, hits, bases


def _log_odds(share: Floats) -> Floats:
    return np.log(share / (1.0 - share))
