"""A rule on history: the firings it would have had, through the same evaluator and processor that run live.

Bars become trades: of each bar its open, both extremes and its close, in the order that its direction makes likely, or
its close alone. Its volume comes with the last of them, so no trade knows of volume that had not been seen.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Final, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tapeline.alerts.catalogue import NAME_OF, Catalogue, catalogue
from tapeline.alerts.conditions import compile_rule, external_keys
from tapeline.alerts.engine import kernel
from tapeline.alerts.engine.compiled import CompiledRule
from tapeline.alerts.engine.evaluator import Batch, Evaluator
from tapeline.alerts.engine.layout import TIMEFRAMES, Indicator
from tapeline.alerts.external import External, external_batch, merged
from tapeline.alerts.firing import Firing
from tapeline.alerts.processor import AlertProcessor, Taken
from tapeline.alerts.routing import Router
from tapeline.alerts.rule import Rule
from tapeline.core.errors import ConfigurationError, DataError

BarPath = Literal["ohlc", "close"]
FORWARD: Final = (1, 4, 24)
"""Bars after a firing at which its return is taken."""
_DAY: Final = TIMEFRAMES["1d"]


@dataclass(frozen=True)
class AlertBacktest:
    """What a rule would have done.

    Parameters
    ----------
    firings:
        One row a firing (or end of one, where the rule tells it), by time: ``ts``, ``symbol``, ``kind``, ``price``,
        ``at_close``, ``id``, ``explanation`` (the
        conditions as they stood: texts, both sides, held) and ``return_1``, ``return_4``, ``return_24``: the close so
        many bars of the rule's timeframe after the one in which it fired, over the firing's price, less 1 (NaN where
        the history ends before).
    days:
        How long the history is.
    """

    firings: pd.DataFrame
    days: float

    @cached_property
    def per_day(self) -> pd.Series:
        """Firings by day (UTC), days without one included."""
        if self.firings.empty:
            return pd.Series(0, index=pd.DatetimeIndex([], tz="UTC", name="day"), name="firings")
        days = self.firings["ts"].dt.floor("D").rename("day")
        counts = days.value_counts().sort_index().rename("firings")
        every = pd.date_range(counts.index[0], counts.index[-1], freq="D", name="day")
        return counts.reindex(every, fill_value=0)


def backtest_rule(
    rule: Rule,
    bars: pd.DataFrame | Mapping[str, pd.DataFrame],
    *,
    path: BarPath = "ohlc",
    external: Iterable[External] = (),
    functions: Catalogue | None = None,
) -> AlertBacktest:
    """Ask a rule over a history of bars.

    Parameters
    ----------
    bars:
        Closed bars with ``close_ts`` by symbol (or of the rule's one symbol), no longer than the shortest bars that
        the rule reads. The rule's indicators begin with the history.
    path:
        ``ohlc``: four trades a bar: open, the extreme against the bar's direction, the other one, close. ``close``:
        one.
    external:
        Records of series from outside, such as sentiment; events of patterns are found on the bars.

    Raises
    ------
    ConfigurationError
        The rule does not compile, or reads bars shorter than those given.
    DataError
        The bars are not by time, or a symbol of the rule has none.

    Examples
    --------
    >>> from tapeline.core.example import example_bars
    >>> rule = Rule(id="r", owner="me", condition="crosses_up(close, 12.5)", symbols=("A",), timeframe="1h")
    >>> outcome = backtest_rule(rule, example_bars(10, 12, 14, 15, 15), path="close")
    >>> outcome.firings[["price", "return_1"]].round(3).to_numpy().tolist()
    [[14.0, 0.071]]
    """
    compiled = compile_rule(rule, functions)
    history = _by_symbol(rule, bars)
    _fine_enough(compiled, history)
    symbols = list(history)
    engine = Evaluator(symbols)
    engine.add(compiled, symbols)
    processor = AlertProcessor(Router({}, lambda firing, rule, route: ""), engine.names, engine.rule)
    processor.set_rules([(rule, compiled)])
    batch = history_batch(engine, history, path=path)
    records = [*external, *_told_by_bars(compiled, history, functions or catalogue())]
    if records:
        records.sort(key=lambda one: one.ts)
        batch = merged([external_batch(engine, records), batch])
    fired = engine.process(batch)
    taken = Taken(
        batch.symbols,
        batch.times,
        batch.prices,
        np.arange(batch.times.size, dtype=np.int64),
        np.zeros(batch.times.size, np.bool_),
        {},
        batch.records,
    )
    end = int(batch.times[-1])
    begin = min(int(frame.index[0].value) for frame in history.values())
    for symbol in symbols:
        processor.watch_silence(rule, [symbol], int(history[symbol].index[0].value))
    firings = processor.take(fired, taken, end).firings
    frame = _frame(rule, firings, history, batch, engine.symbols)
    return AlertBacktest(frame, (end - begin) / _DAY)


def history_batch(engine: Evaluator, bars: Mapping[str, pd.DataFrame], *, path: BarPath = "ohlc") -> Batch:
    """The trades that bars stand for, of all symbols by time, and at last a clock that closes the last bars."""
    batches = [_trades(engine, symbol, frame, path) for symbol, frame in bars.items()]
    end = max(int(frame["close_ts"].iloc[-1].value) for frame in bars.values())
    clock = Batch(
        np.array([-1], np.int32),
        np.array([end], np.int64),
        np.array([np.nan]),
        np.array([np.nan]),
        np.array([kernel.CLOCK], np.uint8),
    )
    return merged([*batches, clock])


def finest_timeframe(bars: pd.DataFrame) -> int:
    """Nanoseconds of the bars' timeframe: the least time from an open to a close."""
    return int((_nanoseconds(bars["close_ts"]) - _nanoseconds(bars.index)).min())


def _trades(engine: Evaluator, symbol: str, bars: pd.DataFrame, path: BarPath) -> Batch:
    opened, closed = _nanoseconds(bars.index), _nanoseconds(bars["close_ts"])
    if np.any(closed <= opened) or np.any(opened[1:] < closed[:-1]):
        raise DataError(f"{symbol}: bars must be by time and must not overlap")
    prices = bars[["open", "high", "low", "close"]].to_numpy(np.float64)
    volume = bars["volume"].to_numpy(np.float64)
    if not (np.isfinite(prices).all() and np.isfinite(volume).all()):
        raise DataError(f"{symbol}: prices and volumes of the history must be finite", hint="clean the bars first")
    if path == "close":
        return engine.trades(symbol, closed - 1, prices[:, 3], volume)
    quarter = (closed - opened) // 4
    times = np.stack((opened, opened + quarter, opened + 2 * quarter, closed - 1), axis=1).ravel()
    rising = prices[:, 3] >= prices[:, 0]
    first, second = np.where(rising, prices[:, 2], prices[:, 1]), np.where(rising, prices[:, 1], prices[:, 2])
    walk = np.stack((prices[:, 0], first, second, prices[:, 3]), axis=1).ravel()
    sizes = np.zeros((len(bars), 4))
    sizes[:, 3] = volume
    return engine.trades(symbol, times, walk, sizes.ravel())


def _by_symbol(rule: Rule, bars: pd.DataFrame | Mapping[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
    if isinstance(bars, pd.DataFrame):
        if len(rule.symbols) != 1 or rule.symbols == ("*",):
            raise ConfigurationError(f"the rule watches {len(rule.symbols)} symbols", hint="give the bars by symbol")
        bars = {rule.symbols[0]: bars}
    wanted = tuple(bars) if rule.symbols == ("*",) else rule.symbols
    missing = [symbol for symbol in wanted if symbol not in bars or bars[symbol].empty]
    if missing or not wanted:
        raise DataError(f"there are no bars of {', '.join(missing) or 'any symbol'}")
    return {symbol: bars[symbol] for symbol in wanted}


def _fine_enough(compiled: CompiledRule, history: Mapping[str, pd.DataFrame]) -> None:
    shortest = min((one.timeframe for one in _timed(compiled)), default=_DAY)
    for symbol, frame in history.items():
        finest = finest_timeframe(frame)
        if finest > shortest or shortest % finest:
            raise ConfigurationError(
                f"the rule reads bars of {NAME_OF[shortest]}, those of {symbol} last {finest / 1e9:g} seconds",
                hint="give finer bars, or give the rule and its functions a longer timeframe",
            )


def _timed(compiled: CompiledRule) -> list[Indicator]:
    found, waiting = [], [reading for condition in compiled.conditions for reading in condition.readings()]
    while waiting:
        one = waiting.pop()[0]
        if one.timeframe > 0:
            found.append(one)
        waiting.extend(side for side in (one.left, one.right) if side is not None)
    return found


def _told_by_bars(compiled: CompiledRule, history: Mapping[str, pd.DataFrame], functions: Catalogue) -> list[External]:
    """Records of series that follow from the bars themselves, such as patterns."""
    keys = external_keys(compiled)
    return [
        record
        for tell in functions.histories
        for symbol, frame in history.items()
        for record in tell(keys, symbol, partial(coarser, frame))
    ]


def coarser(bars: pd.DataFrame, timeframe: int) -> pd.DataFrame:
    """Closed bars of a longer timeframe, as the engine forms them: by whole multiples since 1970 in UTC.

    The last one is left out where it has not ended.
    """
    if finest_timeframe(bars) == timeframe:
        return bars
    opened = _nanoseconds(bars.index)
    starts = opened - opened % timeframe
    first = np.flatnonzero(np.r_[True, starts[1:] != starts[:-1]])
    last = np.r_[first[1:], starts.size] - 1
    index = pd.DatetimeIndex(starts[first].view("M8[ns]"), name="ts").tz_localize("UTC")
    frame = pd.DataFrame(
        {
            "open": bars["open"].to_numpy()[first],
            "high": np.maximum.reduceat(bars["high"].to_numpy(), first),
            "low": np.minimum.reduceat(bars["low"].to_numpy(), first),
            "close": bars["close"].to_numpy()[last],
            "volume": np.add.reduceat(bars["volume"].to_numpy(), first),
            "close_ts": index + pd.Timedelta(timeframe, unit="ns"),
        },
        index=index,
    )
    ended = bars["close_ts"].iloc[-1] >= frame["close_ts"].iloc[-1]
    return frame if ended else frame.iloc[:-1]


def _frame(
    rule: Rule,
    firings: Iterable[Firing],
    history: Mapping[str, pd.DataFrame],
    batch: Batch,
    numbers: Mapping[str, int],
) -> pd.DataFrame:
    rows = list(firings)
    times = np.array([one.ts for one in rows], np.int64)
    frame = pd.DataFrame(
        {
            "ts": pd.DatetimeIndex(times.view("M8[ns]")).tz_localize("UTC"),
            "symbol": [one.symbol for one in rows],
            "kind": [one.kind for one in rows],
            "price": [_price(one, batch, numbers) for one in rows],
            "at_close": np.array([one.at_close for one in rows], np.bool_),
            "id": [one.id for one in rows],
            "explanation": [one.explanation()["conditions"] for one in rows],
        }
    )
    length = TIMEFRAMES[rule.timeframe]
    closes = {symbol: coarser(bars, length) for symbol, bars in history.items()}
    for ahead in FORWARD:
        frame[f"return_{ahead}"] = _returns(frame, closes, length, ahead)
    return frame


def _price(firing: Firing, batch: Batch, numbers: Mapping[str, int]) -> float:
    """The firing's price; of one that a timer brought, the newest trade before it."""
    if not math.isnan(firing.price):
        return firing.price
    end = int(np.searchsorted(batch.times, firing.ts, side="right"))
    mine = (batch.symbols[:end] == numbers[firing.symbol]) & (batch.records[:end] == kernel.TRADE)
    found = np.flatnonzero(mine)
    return float(batch.prices[found[-1]]) if found.size else math.nan


def _returns(frame: pd.DataFrame, closes: Mapping[str, pd.DataFrame], length: int, ahead: int) -> NDArray[np.float64]:
    found = np.full(len(frame), np.nan)
    symbols = frame["symbol"].to_numpy()
    times, prices = _nanoseconds(frame["ts"]), frame["price"].to_numpy()
    for symbol, bars in closes.items():
        mine = np.flatnonzero(symbols == symbol)
        if not mine.size or bars.empty:
            continue
        # A firing at a close belongs to the bar that closed.
        inside = times[mine] - frame["at_close"].to_numpy()[mine].astype(np.int64)
        rows = np.searchsorted(_nanoseconds(bars.index), inside, side="right") - 1 + ahead
        there = (rows >= 0) & (rows < len(bars))
        found[mine[there]] = bars["close"].to_numpy()[rows[there]] / prices[mine[there]] - 1.0
    return found


def _nanoseconds(times: pd.Index | pd.Series) -> NDArray[np.int64]:
    return np.asarray(pd.DatetimeIndex(times).as_unit("ns").asi8, np.int64)


__all__ = ["AlertBacktest", "backtest_rule", "coarser", "finest_timeframe", "history_batch"]
