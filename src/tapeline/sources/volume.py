"""Four volumes in one schema, each marked real or synthetic: ticks, traded quantity, value, and what buyers took."""

from __future__ import annotations

from typing import Final, Literal, get_args

import numpy as np
import pandas as pd

from tapeline.core.errors import ConfigurationError, DataError, SchemaError
from tapeline.core.schemas import OHLCV
from tapeline.sources.base import VolumeKind

Mark = Literal["real", "synthetic", "absent"]
VOLUMES: Final = ("tick_volume", "real_volume", "quote_volume", "taker_buy_volume")
MARKS: Final[tuple[Mark, ...]] = get_args(Mark)


def integrate_volume(bars: pd.DataFrame, *, volume_kind: VolumeKind | None = None) -> pd.DataFrame:
    """Bring the volumes of bars from any source to one schema.

    A volume that the source reported is ``real``. Where it did not, a stand-in is made from the same bar alone, so that
    nothing later is used, and marked ``synthetic``; where not even that can be said the value is NaN and ``absent``.

    ============================ ============================ ==================================================
    column                       real                         synthetic
    ============================ ============================ ==================================================
    ``tick_volume``              ``tick_count``, else         (never)
                                 ``volume`` of kind tick
    ``real_volume``              ``volume`` of kind traded    ``tick_volume``: activity, in ticks, not in units
    ``quote_volume``             as reported                  real volume times typical price, (high+low+close)/3
    ``taker_buy_volume``         as reported                  ``real_volume`` times the place of the close in the
                                                              bar, (close-low)/(high-low); half where high = low
    ============================ ============================ ==================================================

    The place of the close as a guess at the buyers' share is M. Chaikin's (accumulation/distribution; S. Achelis,
    Technical Analysis from A to Z, 2nd ed., p. 56). A synthetic value made of another synthetic one is in that one's
    units; the quote volume is never made from ticks.

    Parameters
    ----------
    bars:
        ``open high low close volume`` and optionally ``tick_count, quote_volume, taker_buy_volume, volume_kind``.
    volume_kind:
        What ``volume`` is in all rows; the column ``volume_kind`` where absent.

    Returns
    -------
    On the bars' index: the four volumes (float64), and for each ``<name>_mark``, a categorical of real, synthetic and
    absent.

    Raises
    ------
    SchemaError
        A column is missing, or neither column nor argument says what ``volume`` is.
    ConfigurationError
        An unknown kind.
    DataError
        A volume is negative.

    Examples
    --------
    >>> ts = pd.DatetimeIndex(["2017-01-02"], tz="UTC", name="ts")
    >>> bar = pd.DataFrame({"open": 1.0, "high": 3.0, "low": 1.0, "close": 2.0, "volume": 10.0}, index=ts)
    >>> row = integrate_volume(bar, volume_kind="traded").iloc[0]
    >>> float(row["real_volume"]), row["real_volume_mark"], float(row["taker_buy_volume"]), row["taker_buy_volume_mark"]
    (10.0, 'real', 5.0, 'synthetic')
    """
    absent = [name for name in OHLCV if name not in bars.columns]
    if absent or (volume_kind is None and "volume_kind" not in bars.columns):
        raise SchemaError(
            f"bars lack the columns {absent or ['volume_kind']}", hint="volume_kind may be given as an argument"
        )
    kinds = bars["volume_kind"].astype(object) if volume_kind is None else pd.Series(volume_kind, index=bars.index)
    unknown = sorted({str(kind) for kind in kinds.dropna().unique()} - set(get_args(VolumeKind)))
    if unknown:
        raise ConfigurationError(f"volume_kind {unknown} is unknown", hint=f"use {', '.join(get_args(VolumeKind))}")
    traded, tick = (kinds == "traded").to_numpy(), (kinds == "tick").to_numpy()
    volume = _column(bars, "volume")

    counted = _column(bars, "tick_count")
    ticks = np.where(np.isnan(counted) & tick, volume, counted)
    real = np.where(traded, volume, np.nan)
    known = ~np.isnan(real)
    amount = np.where(known, real, ticks)

    high, low, close = (bars[name].to_numpy(np.float64) for name in ("high", "low", "close"))
    with np.errstate(invalid="ignore", divide="ignore"):
        place = np.where(high > low, (close - low) / (high - low), 0.5)
        estimated_value = real * (high + low + close) / 3.0
    estimated_buys = amount * np.clip(place, 0.0, 1.0)

    quoted, bought = _column(bars, "quote_volume"), _column(bars, "taker_buy_volume")
    values = {
        "tick_volume": (ticks, ticks),
        "real_volume": (real, amount),
        "quote_volume": (quoted, np.where(np.isnan(quoted), estimated_value, quoted)),
        "taker_buy_volume": (bought, np.where(np.isnan(bought), estimated_buys, bought)),
    }
    columns: dict[str, object] = {name: filled for name, (_, filled) in values.items()}
    for name, (reported, filled) in values.items():
        code = np.where(~np.isnan(reported), 0, np.where(~np.isnan(filled), 1, 2))
        columns[f"{name}_mark"] = pd.Categorical(np.array(MARKS)[code], categories=list(MARKS))
    return pd.DataFrame(columns, index=bars.index)


def _column(bars: pd.DataFrame, name: str) -> np.ndarray:
    if name not in bars.columns:
        return np.full(len(bars), np.nan)
    # Straight to float64: unsigned counts above 2**63 would turn negative on a detour over int64.
    values = bars[name].to_numpy(dtype=np.float64, na_value=np.nan)
    if (values < 0).any():
        row = int((values < 0).argmax())
        raise DataError(f"{name} {values[row]} at {bars.index[row]} is negative", hint="clean the bars first")
    return values
