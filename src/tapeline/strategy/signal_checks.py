"""What can be said of a signal alone, and the columns that are needed to say it."""

from __future__ import annotations

import numbers
from collections.abc import Iterable
from typing import Any, Final, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tapeline.core.errors import DataError
from tapeline.strategy.signal_rules import REASONS, SignalRules

Flags = NDArray[np.bool_]
Floats = NDArray[np.float64]
Instants = NDArray[np.int64]

MISSING: Final = int(np.iinfo(np.int64).min)
"""An instant that is none."""

NANOSECONDS: Final = "datetime64[ns, UTC]"
TIMES: Final = ("ts", "known_at", "expires_at")
NUMBERS: Final = ("side", "probability", "confidence", "price")
_NEEDED: Final = ("ts", "known_at", "symbol", "source", "side", "probability")
_QUOTE: Final = ("known_at", "symbol", "spread", "price")


class Signals(NamedTuple):
    """Signals as arrays; an instant that is none is ``MISSING``, a number NaN, a name None."""

    ts: Instants
    known_at: Instants
    expires_at: Instants
    side: Floats
    probability: Floats
    confidence: Floats
    price: Floats
    symbol: NDArray[np.object_]
    source: NDArray[np.object_]

    def take(self, rows: NDArray[Any]) -> Signals:
        """These rows."""
        return Signals(*(values[rows] for values in self))

    @property
    def bars(self) -> list[str]:
        """Symbol and bar as one name."""
        return [f"{symbol}\x00{ts}" for symbol, ts in zip(self.symbol, self.ts, strict=True)]

    @property
    def keys(self) -> list[str]:
        """What a repeat has in common with the signal before it."""
        rows = zip(self.bars, self.source, self.side, strict=True)
        return [f"{bar}\x00{source}\x00{side}" for bar, source, side in rows]


class Quotes(NamedTuple):
    """What each signal is held against: the newest quote, the greatest usual spread, its age in seconds or NaN."""

    spread: Floats
    price: Floats
    limit: Floats
    age: Floats


def signal_columns(signals: pd.DataFrame) -> Signals:
    """The columns that verdicts need; a value that is none of its kind is missing."""
    absent = [name for name in _NEEDED if name not in signals.columns]
    if absent:
        raise DataError(f"signals lack the columns {absent}")
    columns: dict[str, Any] = {}
    for name in TIMES:
        columns[name] = np.full(len(signals), MISSING)
        if name not in signals.columns or signals[name].isna().all():
            continue
        if not isinstance(signals[name].dtype, pd.DatetimeTZDtype):
            raise DataError(f"the signals' '{name}' holds {signals[name].dtype}, expected UTC instants")
        # pandas has the same least integer for a missing instant.
        columns[name] = np.array(pd.DatetimeIndex(signals[name]).as_unit("ns").asi8)
    for name in NUMBERS:
        columns[name] = np.full(len(signals), np.nan)
        if name in signals.columns:
            given = signals[name]
            columns[name] = (
                given.to_numpy(np.float64, na_value=np.nan) if given.dtype.kind in "iuf" else float_array(given)
            )
    for name in ("symbol", "source"):
        columns[name] = names_array(signals[name])
    return Signals(**columns)


def quote_columns(quotes: pd.DataFrame) -> pd.DataFrame:
    """The quotes by the instant from which they were known; DataError where a column or an instant is missing."""
    absent = [name for name in _QUOTE if name not in quotes.columns]
    if absent:
        raise DataError(f"quotes lack the columns {absent}")
    if not isinstance(quotes["known_at"].dtype, pd.DatetimeTZDtype) or quotes["known_at"].isna().any():
        raise DataError("a quote has no instant in UTC from which it was known")
    known = quotes["known_at"].dt.tz_convert("UTC").dt.as_unit("ns")
    figures = {name: pd.to_numeric(quotes[name], errors="coerce").astype(np.float64) for name in ("spread", "price")}
    found = pd.DataFrame({"known_at": known, "symbol": quotes["symbol"].astype(object), **figures})
    return found.sort_values("known_at", kind="stable").reset_index(drop=True)


def row_flags(signals: Signals, now: Instants, held: Quotes | None, rules: SignalRules) -> Flags:
    """What can be said of each signal alone, one column a reason."""
    flags = np.zeros((now.size, len(REASONS)), dtype=bool)
    acts = now != MISSING
    known_there, stamped = signals.known_at != MISSING, signals.ts != MISSING
    probability, confidence = signals.probability, signals.confidence
    named = np.array([value is not None for value in signals.symbol], dtype=bool)
    named &= np.array([value is not None for value in signals.source], dtype=bool)
    latest = np.where(acts, now, 0) + pd.Timedelta(rules.clock_tolerance).value
    age = np.where(acts & known_there, now - np.where(known_there, signals.known_at, 0), 0)
    found = {
        "no_bar": ~acts,
        "malformed": ~named
        | ~stamped
        | ~known_there
        | ~np.isin(signals.side, (-1.0, 0.0, 1.0))
        | (known_there & (signals.known_at < signals.ts)),
        "future": acts & ((signals.known_at > latest) | (signals.ts > latest)),
        "probability": (rules.require_probability & np.isnan(probability))
        | (~np.isnan(probability) & ~((probability >= 0) & (probability <= 1)))
        | (~np.isnan(confidence) & ~((confidence >= 0) & (confidence <= 1))),
        "stale": (age > pd.Timedelta(rules.maximum_age).value)
        | (acts & (signals.expires_at != MISSING) & (now >= signals.expires_at)),
        "out_of_session": _closed(signals.symbol, now, rules),
    }
    if rules.symbols is not None:
        found["unknown_symbol"] = np.array([symbol not in rules.symbols for symbol in signals.symbol], dtype=bool)
    if held is not None:
        quoted = ~np.isnan(held.age)
        usual = (held.spread >= 0) & (held.spread <= held.limit) & np.isfinite(held.spread)
        near = np.abs(signals.price - held.price) <= rules.price_distance * np.abs(held.price)
        found["no_quote"] = acts & ~(held.age <= pd.Timedelta(rules.quote_age).total_seconds())
        found["spread"] = quoted & ~usual
        found["price"] = quoted & ~near & ~np.isnan(signals.price)
    for reason, where in found.items():
        flags[:, REASONS.index(reason)] = where
    return flags


def _closed(symbols: NDArray[np.object_], now: Instants, rules: SignalRules) -> Flags:
    closed = np.zeros(now.size, dtype=bool)
    codes, names = pd.factorize(symbols)
    for code, symbol in enumerate(names):
        chosen = np.flatnonzero((codes == code) & (now != MISSING))
        if chosen.size:
            starts = now[chosen]
            closed[chosen] = rules.calendar_of(str(symbol)).open_time(starts, starts + 1) == 0
    return closed


def is_name(value: object) -> bool:
    """Whether this can be the name of a symbol or a source."""
    return isinstance(value, str) and 0 < len(value) <= 64 and value.isprintable()


def names_array(values: Iterable[object]) -> NDArray[np.object_]:
    """The names; None for what is none."""
    return np.array([value if is_name(value) else None for value in values], dtype=object)


def float_array(values: Iterable[object]) -> Floats:
    """The numbers; NaN for what is none."""
    return np.array([_number(value) for value in values], dtype=np.float64)


def instant_array(values: Iterable[object]) -> Instants:
    """Times with a zone as nanoseconds; ``MISSING`` for what is none."""
    return np.array([_moment(value) for value in values], dtype=np.int64)


def _number(value: object) -> float:
    try:
        return float(value) if isinstance(value, numbers.Real) else np.nan
    except OverflowError:
        return np.nan


def _moment(value: object) -> int:
    try:
        found: Any = pd.Timestamp(value)  # type: ignore[arg-type]
        return MISSING if found is pd.NaT or found.tz is None else int(found.as_unit("ns").value)
    except (TypeError, ValueError, OverflowError):
        return MISSING
