"""The one way from bars to features, on all history and on the live tail alike."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from tapeline.core.errors import ConfigurationError, DataError
from tapeline.core.pit import join_timeframe
from tapeline.core.schemas import OHLCV, PRICES
from tapeline.core.timeframe import Timeframe
from tapeline.features.feature_set import FeatureSet

ContextFrames = Mapping[str, tuple[pd.DataFrame, Timeframe]]


def compute(
    feature_set: FeatureSet,
    bars: pd.DataFrame,
    timeframe: Timeframe,
    *,
    context: ContextFrames | None = None,
    tail: int | None = None,
) -> pd.DataFrame:
    """Compute a feature set.

    Parameters
    ----------
    feature_set:
        What to compute.
    bars:
        Clean bars on a sorted, unique ``ts`` index (UTC), with finite positive prices; ``volume`` may be NaN. A
        missing ``close_ts`` is derived from the timeframe.
    timeframe:
        The bars' timeframe.
    context:
        By prefix, the bars and the timeframe of each context of the set. A row of them is used only from its close
        on, and from ``known_at`` on where that column says it came later.
    tail:
        Compute only the last ``tail`` rows, from the ``lookback`` bars that decide each of them. Every value equals
        the one on all history within the component's declared tolerance and float32.

    Returns
    -------
    A frame on the bars' ``ts``: ``known_at`` (each bar's close), then the set's columns as float32 in declared order.
    NaN in the warm-up, and where a number is undefined (a position in a range of height zero); never infinite.

    Raises
    ------
    DataError
        The bars are unsorted, repeat a time, have no UTC index, or hold a price that is not a positive number.
    ConfigurationError
        A column or a context that the set needs is missing.

    Examples
    --------
    >>> from tapeline.features.feature_set import parse_feature_set
    >>> ts = pd.date_range("2017-01-02", periods=3, freq="1h", tz="UTC", name="ts")
    >>> price = {name: [1.0, 2.0, 4.0] for name in ("open", "high", "low", "close", "volume")}
    >>> chosen = parse_feature_set({"name": "mine", "feature": [{"component": "log_return"}]})
    >>> compute(chosen, pd.DataFrame(price, index=ts), Timeframe.parse("H1"))["log_return_1"].round(3).tolist()
    [nan, 0.6930000185966492, 0.6930000185966492]
    """
    if tail is not None:
        if tail < 1:
            raise ConfigurationError(f"tail = {tail} is below 1")
        bars = bars.iloc[-(feature_set.lookback + tail - 1) :]
    check_bars(bars)
    wide = with_context(feature_set, bars, timeframe, context or {})
    # One block, a column contiguous: what a million bars of fifty columns cost is memory traffic.
    values = np.empty((len(wide), len(feature_set.columns)), dtype=np.float32, order="F")
    position = 0
    for feature in feature_set.features:
        result = feature.component.compute(wide, **feature.parameters)
        for name in result.columns:
            values[:, position] = result[name].to_numpy()
            if np.isinf(values[:, position]).any():
                raise DataError(
                    f"the feature '{name}' is infinite", hint="a component must give NaN where it is undefined"
                )
            position += 1
    features = pd.DataFrame(values, index=wide.index, columns=list(feature_set.columns), copy=False)
    features.insert(0, "known_at", wide["close_ts"])
    return features if tail is None else features.iloc[-tail:]


def with_context(
    feature_set: FeatureSet, bars: pd.DataFrame, timeframe: Timeframe, context: ContextFrames
) -> pd.DataFrame:
    """The bars with ``close_ts`` and the columns of the set's contexts, as each was known at a bar's close."""
    unknown = sorted(set(context) - set(feature_set.context))
    if unknown:
        raise ConfigurationError(f"the feature set '{feature_set.name}' has no context {unknown}")
    wide = bars if "close_ts" in bars.columns else bars.assign(close_ts=timeframe.closes(pd.DatetimeIndex(bars.index)))
    for prefix, wanted in feature_set.context.items():
        if prefix not in context:
            if not wanted.optional:
                raise ConfigurationError(
                    f"the feature set '{feature_set.name}' needs the context '{prefix}': "
                    f"{wanted.symbol} {wanted.timeframe}",
                    hint=f"ingest {wanted.symbol} {wanted.timeframe}, or mark the context optional = true",
                )
            wide = wide.assign(**dict.fromkeys(wanted.joined_columns, np.nan))
            continue
        other, other_timeframe = context[prefix]
        if other_timeframe != wanted.timeframe:
            raise ConfigurationError(
                f"context '{prefix}' has the timeframe {other_timeframe}, declared is {wanted.timeframe}"
            )
        kept = [*wanted.columns, *(["known_at"] if "known_at" in other.columns else [])]
        absent = [name for name in wanted.columns if name not in other.columns]
        if absent:
            raise ConfigurationError(f"context '{prefix}' ({wanted.symbol}) lacks the columns {absent}")
        wide = join_timeframe(
            wide, timeframe, other[kept], other_timeframe, prefix=f"{prefix}_", tolerance=wanted.tolerance
        )
    return wide


def check_bars(bars: pd.DataFrame) -> None:
    """Refuse bars that no feature may be computed from, with the reason: DataError."""
    index = bars.index
    if not isinstance(index, pd.DatetimeIndex) or str(index.tz) != "UTC":
        raise DataError("bars must be indexed by UTC open times", hint="set_index('ts') and tz_convert('UTC')")
    absent = [name for name in OHLCV if name not in bars.columns]
    if absent:
        raise DataError(f"bars lack the columns {absent}")
    if not (index.is_monotonic_increasing and index.is_unique):
        raise DataError("bars are not sorted by time or repeat one", hint="read them from the clean zone")
    for name in PRICES:
        values = bars[name].to_numpy(dtype=np.float64)
        bad = ~((values > 0) & (values < np.inf))
        if bad.any():
            row = int(bad.argmax())
            raise DataError(
                f"bars: {name} is {values[row]} at {index[row]}", hint="features are computed from the clean zone only"
            )
