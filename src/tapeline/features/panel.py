"""Features of many symbols: the newest bar of each at once, or all history split by symbol.

A component's value on a bar follows from the ``lookback`` bars that end there. So the ends of many symbols' histories
can be laid one behind the other, go through the component as one long series, and each symbol's last row is its own:
what a call costs beside its arithmetic is paid once for all symbols.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Executor
from typing import Any, Final

import numpy as np
import pandas as pd

from tapeline.core.errors import DataError
from tapeline.core.schemas import OHLCV, PRICES
from tapeline.core.timeframe import Timeframe
from tapeline.features.engine import ContextFrames, check_bars, compute, with_context
from tapeline.features.feature_set import Feature, FeatureSet

Panel = Mapping[str, pd.DataFrame]

CHUNK: Final = 250
"""Symbols that go through a component together; fixed, so that the result does not depend on the number of workers."""

SMALLEST_LENGTH: Final = 64


def latest(
    feature_set: FeatureSet,
    panel: Panel,
    timeframe: Timeframe,
    *,
    context: ContextFrames | None = None,
    executor: Executor | None = None,
) -> pd.DataFrame:
    """The features of each symbol's newest bar.

    Parameters
    ----------
    feature_set:
        What to compute.
    panel:
        Clean bars by symbol, as :func:`tapeline.features.engine.compute` takes them; the last ``feature_set.lookback``
        of each are read. Symbols need not end at the same time.
    timeframe:
        The bars' timeframe.
    context:
        As in :func:`tapeline.features.engine.compute`, the same for all symbols.
    executor:
        Processes that share the work, or anything else with ``map``; the same bits with any number of workers.

    Returns
    -------
    One row a symbol, in the panel's order: ``ts`` and ``known_at`` of its newest bar, then the set's columns as
    float32. Every value equals the one of ``compute(..., tail=1)`` within the component's declared tolerance and
    float32.

    Raises
    ------
    DataError
        As ``compute``, with the symbol; a symbol without a bar.

    Examples
    --------
    >>> from tapeline.core.example import example_bars
    >>> from tapeline.features.feature_set import parse_feature_set
    >>> chosen = parse_feature_set({"name": "mine", "feature": [{"component": "log_return"}]})
    >>> panel = {"A": example_bars(10, 11), "B": example_bars(10, 20, 10)}
    >>> latest(chosen, panel, Timeframe.parse("H1"))["log_return_1"].round(3).to_dict()
    {'A': 0.0949999988079071, 'B': -0.6930000185966492}
    """
    symbols = list(panel)
    needed = feature_set.lookback
    chunks = [
        {name: panel[name].iloc[-needed:] for name in symbols[first : first + CHUNK]}
        for first in range(0, len(symbols), CHUNK)
    ]
    work = _Latest(feature_set, timeframe, dict(context or {}))
    parts = list(_mapping(executor)(work, chunks))
    return pd.concat(parts) if parts else pd.DataFrame(columns=["ts", "known_at", *feature_set.columns])


def compute_panel(
    feature_set: FeatureSet,
    panel: Panel,
    timeframe: Timeframe,
    *,
    context: ContextFrames | None = None,
    executor: Executor | None = None,
) -> dict[str, pd.DataFrame]:
    """All history of each symbol, by symbol, computed by the workers of an executor.

    Parameters
    ----------
    feature_set, panel, timeframe, context:
        As in :func:`latest`.
    executor:
        Anything with ``map`` of :class:`concurrent.futures.Executor`: threads, processes, or the workers of a Dask
        cluster (``client.get_executor()``, extra ``dask``). None computes here.

    Returns
    -------
    By symbol the frame of :func:`tapeline.features.engine.compute`, the same bits whatever the executor.
    """
    work = _History(feature_set, timeframe, dict(context or {}))
    return dict(zip(panel, _mapping(executor)(work, list(panel.items())), strict=True))


def _mapping(executor: Executor | None) -> Callable[..., Iterable[pd.DataFrame]]:
    return map if executor is None else executor.map


class _Work:
    """What a worker does; an object instead of a closure, so that it travels to another process."""

    def __init__(self, feature_set: FeatureSet, timeframe: Timeframe, context: ContextFrames) -> None:
        self.feature_set, self.timeframe, self.context = feature_set, timeframe, context


class _Latest(_Work):
    def __call__(self, chunk: Panel) -> pd.DataFrame:
        return _latest_of(self.feature_set, chunk, self.timeframe, self.context)


class _History(_Work):
    def __call__(self, item: tuple[str, pd.DataFrame]) -> pd.DataFrame:
        symbol, bars = item
        try:
            return compute(self.feature_set, bars, self.timeframe, context=self.context)
        except DataError as error:
            raise _of_symbol(error, symbol) from error


def _latest_of(
    feature_set: FeatureSet, panel: Panel, timeframe: Timeframe, context: ContextFrames | None
) -> pd.DataFrame:
    columns, needed = list(feature_set.columns), feature_set.lookback
    names = list(panel)
    tails = list(panel.values())
    values = np.full((len(tails), len(columns)), np.nan, dtype=np.float32)
    long = [position for position, bars in enumerate(tails) if len(bars) == needed]
    stack = _Stack([tails[position] for position in long], feature_set) if long else None
    sound = stack is not None and stack.sound
    for position in range(len(names)) if not sound else sorted(set(range(len(names))) - set(long)):
        # The careful check names what is wrong; where the stack is sound only the young ones need it.
        try:
            check_bars(tails[position])
        except DataError as error:
            raise _of_symbol(error, names[position]) from error
        if tails[position].empty:
            raise DataError(f"{names[position]} has no bar", hint="leave it out until its first bar has closed")
    if stack is not None:
        stack.join(feature_set, timeframe, context or {})
        values[long] = stack.last_rows(feature_set)
    for position in sorted(set(range(len(names))) - set(long)):
        # A young symbol has no neighbour's bars in its warm-up.
        row = compute(feature_set, tails[position], timeframe, context=context, tail=1)
        values[position] = row[columns].to_numpy()[0]
    ends = pd.DatetimeIndex([bars.index[-1] for bars in tails])
    frame = pd.DataFrame(values, index=pd.Index(names, name="symbol"), columns=columns)
    frame.insert(0, "ts", ends)
    frame.insert(1, "known_at", timeframe.closes(ends))
    return frame


class _Stack:
    """The ends of several symbols' bars, one behind the other, each at a level near 1.

    A price level is taken out as a power of two, which changes no digit: a running sum that has passed a price of
    60,000 would otherwise have lost the digits of the next symbol's 1.1. A column's degrees put the level back.
    """

    def __init__(self, tails: list[pd.DataFrame], feature_set: FeatureSet) -> None:
        self.length = len(tails[0])
        shared = set.intersection(*(set(bars.columns) for bars in tails))
        wanted = [*OHLCV, *(name for feature in feature_set.features for name in feature.requires)]
        kept = [name for name in dict.fromkeys(wanted) if name in shared and name != "close_ts"]
        self.arrays = {name: np.stack([bars[name].to_numpy(dtype=np.float64) for bars in tails]) for name in kept}
        self.ts = np.stack([_instants(bars.index) for bars in tails])
        self.closes = np.stack([_instants(bars["close_ts"]) for bars in tails]) if "close_ts" in shared else None

    @property
    def sound(self) -> bool:
        """Whether every symbol passes :func:`tapeline.features.engine.check_bars`."""
        prices = [self.arrays[name] for name in PRICES if name in self.arrays]
        positive = all(((price > 0) & (price < np.inf)).all() for price in prices)
        return (
            len(prices) == len(PRICES) and "volume" in self.arrays and bool((np.diff(self.ts) > 0).all() and positive)
        )

    def join(self, feature_set: FeatureSet, timeframe: Timeframe, context: ContextFrames) -> None:
        """Take the levels out and join the contexts, once for all symbols."""
        self.price = np.exp2(-np.floor(np.log2(self.arrays["close"][:, -1:])))
        largest = np.max(self.arrays["volume"], axis=1, keepdims=True, initial=0.0, where=self.arrays["volume"] > 0)
        self.volume = np.exp2(-np.floor(np.log2(np.where(largest > 0, largest, 1.0))))
        for name, degrees in _DEGREES.items():
            if name in self.arrays:
                self.arrays[name] = self.arrays[name] * self.price ** degrees[0] * self.volume ** degrees[1]
        times = pd.DatetimeIndex(np.unique(self.ts), tz="UTC", name="ts")
        joined = with_context(feature_set, pd.DataFrame(index=times), timeframe, context)
        place = np.searchsorted(times.asi8, self.ts)
        if self.closes is None:
            self.closes = _instants(joined["close_ts"])[place]
        for name in joined.columns.difference(["close_ts"]):
            self.arrays[name] = joined[name].to_numpy(dtype=np.float64)[place]
        self.frames: dict[int, pd.DataFrame] = {}

    def last_rows(self, feature_set: FeatureSet) -> np.ndarray:
        parts = [self._last(feature) for feature in feature_set.features]
        return np.concatenate(parts, axis=1)

    def _last(self, feature: Feature) -> np.ndarray:
        length = self._length(feature.lookback)
        frame, component = self._frame(length), feature.component
        if component.stackable:
            found = component.compute(frame, **feature.parameters).iloc[length - 1 :: length]
        else:
            blocks = (frame.iloc[first : first + length] for first in range(0, len(frame), length))
            found = pd.concat([component.compute(block, **feature.parameters).iloc[-1:] for block in blocks])
        in_price, in_volume = component.scale
        level = self.price**in_price * self.volume**in_volume
        values = found.to_numpy(dtype=np.float64) / level
        if np.isinf(values).any():
            raise DataError(
                f"the feature '{component.name}' is infinite",
                hint="a component must give NaN where it is undefined",
            )
        return values.astype(np.float32)

    def _length(self, lookback: int) -> int:
        # A few lengths serve all components, so that few frames are laid out: 64, 96, 128, 192, 256, 384, ...
        length = SMALLEST_LENGTH
        while length < lookback:
            length = length * 3 // 2 if length & (length - 1) == 0 else length * 4 // 3
        return min(length, self.length)

    def _frame(self, length: int) -> pd.DataFrame:
        if length not in self.frames:
            # One block: a frame made of separate arrays would be copied once more.
            block = np.empty((len(self.ts) * length, len(self.arrays)), order="F")
            for position, values in enumerate(self.arrays.values()):
                block[:, position] = values[:, -length:].ravel()
            index = pd.DatetimeIndex(self.ts[:, -length:].ravel(), tz="UTC", name="ts")
            frame = pd.DataFrame(block, index=index, columns=list(self.arrays), copy=False)
            assert self.closes is not None  # noqa: S101 - for the type checker: joined before
            frame["close_ts"] = pd.DatetimeIndex(self.closes[:, -length:].ravel(), tz="UTC")
            self.frames[length] = frame
        return self.frames[length]


_DEGREES: Final = {
    **dict.fromkeys((*PRICES, "spread"), (1, 0)),
    **dict.fromkeys(("volume", "taker_buy_volume"), (0, 1)),
    "quote_volume": (1, 1),
}


def _instants(times: Any) -> np.ndarray:
    return pd.DatetimeIndex(times).as_unit("ns").asi8


def _of_symbol(error: DataError, symbol: str) -> DataError:
    return DataError(f"{symbol}: {error.message}", hint=error.hint)
