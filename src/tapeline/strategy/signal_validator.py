"""Signals that may be acted on, and why the others may not: no row is lost, each comes back with its verdict.

A signal is judged at the instant at which it would be acted on, by what was known then: the quote of that instant, the
spreads before it, the signals that were judged before or with it. The reasons and their order stand in
:data:`tapeline.strategy.signal_rules.REASONS`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tapeline.core.errors import DataError
from tapeline.core.pit import asof_join
from tapeline.strategy import signal_kernels as kernels
from tapeline.strategy.signal_checks import (
    NANOSECONDS,
    NUMBERS,
    TIMES,
    Flags,
    Instants,
    Quotes,
    Signals,
    float_array,
    instant_array,
    names_array,
    quote_columns,
    row_flags,
    signal_columns,
)
from tapeline.strategy.signal_rules import REASONS, SignalRules

_POLICIES: Final = {
    "reject_both": kernels.REJECT_BOTH,
    "higher_confidence": kernels.HIGHER_CONFIDENCE,
    "net": kernels.NET,
}
_VERDICT: Final = ("at", "accepted", "reason", "reasons")


@dataclass(frozen=True)
class Verdict:
    """Whether a signal may be acted on; ``reasons`` are all that speak against it, ``reason`` the gravest."""

    accepted: bool
    reasons: tuple[str, ...]

    @property
    def reason(self) -> str | None:
        """The gravest reason, None where it is accepted."""
        return self.reasons[0] if self.reasons else None


def validate_signals(
    signals: pd.DataFrame,
    rules: SignalRules,
    *,
    at: pd.Timestamp | pd.DatetimeIndex,
    quotes: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """Judge signals, each at the instant at which it would be acted on.

    Parameters
    ----------
    signals:
        ``ts``, ``known_at``, ``symbol``, ``source``, ``side``, ``probability``; optionally ``confidence``,
        ``expires_at``, ``price``. In the order of arrival.
    rules:
        The bounds.
    at:
        The instant of acting, one for all or one a signal (:func:`acting_at`); missing: there is none yet.
    quotes:
        ``known_at``, ``symbol``, ``spread``, ``price``, in any order. Without them neither spread nor price is judged.

    Returns
    -------
    The signals in their order with ``at``, ``accepted``, ``reason`` and ``reasons`` (a tuple, the gravest first).

    Raises
    ------
    DataError
        A column is missing, or times carry no zone.

    Examples
    --------
    >>> ts = pd.Timestamp("2017-03-15 09:00", tz="UTC")
    >>> known = ts + pd.Timedelta(hours=1)
    >>> signals = pd.DataFrame({
    ...     "ts": ts, "known_at": known, "symbol": "EURUSD", "source": ["trend", "trend", "model", "model"],
    ...     "side": [1, 1, -1, 1], "probability": [0.6, 0.6, 0.7, np.nan], "confidence": [0.4, 0.4, 0.6, 0.5]})
    >>> judged = validate_signals(signals, SignalRules(contradiction="higher_confidence"), at=known)
    >>> judged["reason"].tolist()
    ['contradictory', 'duplicate', None, 'probability']
    """
    columns = signal_columns(signals)
    instants = pd.DatetimeIndex([at] * len(signals) if isinstance(at, pd.Timestamp) else at)
    if len(instants) != len(signals) or (instants.tz is None and len(signals)):
        raise DataError(f"at has {len(instants)} instants, perhaps without a zone, for {len(signals)} signals")
    if not len(signals):
        instants = pd.DatetimeIndex([], dtype=NANOSECONDS)
    instants = instants.tz_convert("UTC").as_unit("ns")
    acts = np.asarray(instants.notna(), dtype=bool)
    order = np.concatenate(
        (np.flatnonzero(acts)[np.argsort(instants[acts].asi8, kind="stable")], np.flatnonzero(~acts))
    )
    columns, instants = columns.take(order), instants.take(order)
    now = np.array(instants.asi8)
    held = None if quotes is None else _held_against(columns.symbol, instants, quote_columns(quotes), rules)
    flags = row_flags(columns, now, held, rules)
    bar, key = (
        pd.factorize(np.array(names, dtype=object))[0].astype(np.int64) for names in (columns.bars, columns.keys)
    )
    memory = kernels.signal_memory(int(key.max(initial=-1)) + 1, int(bar.max(initial=-1)) + 1)
    _settle(memory, 0, now[: int(acts.sum())], key, bar, columns, flags, rules)
    reasons = _reasons(flags)
    back = np.argsort(order, kind="stable")
    told = pd.Series([reasons[i] for i in back], index=signals.index, dtype=object)
    return signals.drop(columns=[name for name in _VERDICT if name in signals.columns]).assign(
        at=instants.take(back),
        accepted=(told.map(len) == 0).to_numpy(dtype=bool),
        reason=pd.Series([found[0] if found else None for found in told], index=signals.index, dtype=object),
        reasons=told,
    )


def acting_at(signals: pd.DataFrame, bars: pd.DataFrame) -> pd.DatetimeIndex:
    """When each signal on one symbol can be acted on first: the first open at or after it is known; NaT where none is.

    Examples
    --------
    >>> from tapeline.core.example import example_bars
    >>> bars = example_bars(10, 11)
    >>> signals = bars.reset_index()[["ts"]].assign(known_at=pd.DatetimeIndex(bars["close_ts"]))
    >>> acting_at(signals, bars).tolist()
    [Timestamp('2017-01-02 01:00:00+0000', tz='UTC'), NaT]
    """
    opens = pd.DatetimeIndex(bars.index).as_unit("ns")
    known = pd.DatetimeIndex(signals["known_at"]).as_unit("ns")
    places = np.searchsorted(opens.asi8, known.asi8)
    found = (places < len(opens)) & known.notna()
    return pd.DatetimeIndex(opens.take(np.where(found, places, 0) if len(opens) else places[:0]).where(found))


class SignalValidator:
    """The same verdicts live: quotes and signals as they come.

    Examples
    --------
    >>> validator = SignalValidator(SignalRules(symbols=["EURUSD"]))
    >>> ts = pd.Timestamp("2017-03-15 09:00", tz="UTC")
    >>> signal = {"ts": ts, "known_at": ts, "symbol": "EURUSD", "source": "model", "side": 1, "probability": 0.6}
    >>> validator.judge([signal], ts)[0].accepted, validator.judge([signal], ts)[0].reason
    (True, 'duplicate')
    """

    def __init__(self, rules: SignalRules, *, quoted: bool = False) -> None:
        """``quoted``: signals are held against the quotes given to :meth:`quote`; one without a quote is refused."""
        self.rules = rules
        self._quoted = quoted
        self._spreads: dict[str, kernels.SpreadMemory] = {}
        self._latest: dict[str, tuple[int, float, float, float]] = {}
        self._keys: dict[str, int] = {}
        self._bars: dict[str, int] = {}
        self._memory = kernels.signal_memory(64, 64)
        self._instants = 0
        self._now = kernels.NEVER

    def quote(self, symbol: str, known_at: pd.Timestamp, spread: float, price: float) -> None:
        """Take a quote; DataError where one of this symbol came later already, or the time has no zone."""
        instant = _instant(known_at, "known_at")
        if symbol in self._latest and instant < self._latest[symbol][0]:
            raise DataError(f"the quote of {symbol} at {known_at} is older than the one before it")
        rules = self.rules
        memory = self._spreads.setdefault(symbol, kernels.spread_memory(1, rules.spread_window))
        limit = np.empty(1)
        kernels.spread_limits(
            *(memory, np.zeros(1, np.int64), np.array([_hour(instant)]), np.array([spread], np.float64)),
            *(rules.spread_minimum, rules.spread_multiple, rules.spread_quantile, limit),
        )
        self._latest[symbol] = (instant, float(spread), float(price), float(limit[0]))

    def judge(self, signals: Sequence[Mapping[str, Any]], at: pd.Timestamp) -> list[Verdict]:
        """Judge the signals that are to be acted on at one instant, together.

        A signal that lacks a value, or whose value is none of its kind, is ``malformed``: nothing is raised for it.

        Raises
        ------
        DataError
            ``at`` has no zone, or lies before the instant judged last.
        """
        now = _instant(at, "at")
        if now < self._now:
            raise DataError(f"at = {at} lies before the instant that was judged last")
        if not signals:
            return []
        self._now = now
        given = {name: [signal.get(name) for signal in signals] for name in (*TIMES, *NUMBERS, "symbol", "source")}
        arrays: dict[str, Any] = {name: instant_array(given[name]) for name in TIMES}
        arrays |= {name: float_array(given[name]) for name in NUMBERS}
        columns = Signals(**arrays, symbol=names_array(given["symbol"]), source=names_array(given["source"]))
        held = None
        if self._quoted:
            nothing = (kernels.NEVER, math.nan, math.nan, math.nan)
            latest = [self._latest.get(symbol, nothing) for symbol in columns.symbol]
            ages = [math.nan if row[0] == kernels.NEVER else (now - row[0]) / 1e9 for row in latest]
            spread, price, limit = np.array([row[1:] for row in latest], dtype=np.float64).reshape(-1, 3).T
            held = Quotes(spread, price, limit, np.array(ages, dtype=np.float64))
        instants = np.full(len(signals), now)
        flags = row_flags(columns, instants, held, self.rules)
        self._make_room(now, len(signals))
        bar, key = _codes(self._bars, columns.bars), _codes(self._keys, columns.keys)
        self._instants = _settle(self._memory, self._instants, instants, key, bar, columns, flags, self.rules)
        return [Verdict(not found, found) for found in _reasons(flags)]

    def _make_room(self, now: int, rows: int) -> None:
        """Forget what the window has passed where memory is full, and enlarge it where that is not enough."""
        room = self._memory.bound.size
        if max(len(self._keys), len(self._bars)) + rows <= room:
            return
        since, old = now - pd.Timedelta(self.rules.window).value, self._memory
        keys = [name for name, code in self._keys.items() if old.bound[code] >= since]
        bars = [name for name, code in self._bars.items() if old.touched[code] >= since]
        room = max(room, 2 * (max(len(keys), len(bars)) + rows))
        new = kernels.signal_memory(room, room)
        from_keys, from_bars = [self._keys[name] for name in keys], [self._bars[name] for name in bars]
        new.bound[: len(keys)] = old.bound[from_keys]
        new.kept[: len(bars)], new.touched[: len(bars)] = old.kept[from_bars], old.touched[from_bars]
        self._memory = new
        self._keys = {name: code for code, name in enumerate(keys)}
        self._bars = {name: code for code, name in enumerate(bars)}


def _held_against(
    symbol: NDArray[np.object_], instants: pd.DatetimeIndex, quotes: pd.DataFrame, rules: SignalRules
) -> Quotes:
    """The newest quote of each signal's symbol at its instant, with the greatest usual spread and its age."""
    codes, symbols = pd.factorize(quotes["symbol"])
    known = pd.DatetimeIndex(quotes["known_at"])
    limit = np.empty(len(quotes))
    kernels.spread_limits(
        *(kernels.spread_memory(len(symbols), rules.spread_window), codes.astype(np.int64)),
        *(known.hour.to_numpy(dtype=np.int64), np.ascontiguousarray(quotes["spread"].to_numpy(dtype=np.float64))),
        *(rules.spread_minimum, rules.spread_multiple, rules.spread_quantile, limit),
    )
    right = quotes[["spread", "price"]].assign(limit=limit)
    group = pd.Index(symbols, dtype=object).get_indexer(pd.Index(symbol, dtype=object))
    order = np.flatnonzero(instants.notna())
    order = order[np.argsort(group[order], kind="stable")]
    joined = asof_join(
        pd.DataFrame(index=order),
        right,
        at=instants.take(order),
        known_at=known,
        age=True,
        by=(group[order].astype(np.int64), codes.astype(np.int64)),
    )
    found = joined.reindex(range(len(instants)))
    return Quotes(*(found[name].to_numpy(dtype=np.float64) for name in ("spread", "price", "limit", "age")))


def _settle(
    memory: kernels.SignalMemory,
    first: int,
    instants: Instants,
    key: Instants,
    bar: Instants,
    columns: Signals,
    flags: Flags,
    rules: SignalRules,
) -> int:
    """Mark what repeats and contradicts among the first rows, those that have an instant; the number of instants."""
    rows = len(instants)
    duplicate, contradictory = np.zeros(rows, dtype=bool), np.zeros(rows, dtype=bool)
    clean = np.logical_not(flags[:rows].any(axis=1))
    weight = np.where(np.isnan(columns.confidence), columns.probability, columns.confidence)
    side, weight = np.nan_to_num(columns.side[:rows]), np.nan_to_num(weight[:rows])
    done = kernels.settle_instants(
        *(memory, first, instants, key[:rows], bar[:rows], side, weight, clean, _POLICIES[rules.contradiction]),
        *(pd.Timedelta(rules.window).value, duplicate, contradictory),
    )
    flags[:rows, REASONS.index("duplicate")] = duplicate
    flags[:rows, REASONS.index("contradictory")] = contradictory
    return int(done)


def _reasons(flags: Flags) -> list[tuple[str, ...]]:
    return [tuple(REASONS[place] for place in np.flatnonzero(row)) for row in flags]


def _codes(known: dict[str, int], names: list[str]) -> NDArray[np.int64]:
    return np.array([known.setdefault(name, len(known)) for name in names], dtype=np.int64)


def _instant(value: pd.Timestamp, name: str) -> int:
    if not isinstance(value, pd.Timestamp) or value.tz is None:
        raise DataError(f"{name} = {value} is no instant with a zone", hint="use UTC")
    return int(value.as_unit("ns").value)


def _hour(instant: int) -> int:
    return instant // 3_600_000_000_000 % 24
