"""What can be said of a signal alone, and the columns that are needed to say it."""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tapeline.core.errors import DataError
from tapeline.strategy.signal_rules import REASONS, SignalRules

Flags = NDArray[np.bool_]

NEEDED: Final = ("ts", "known_at", "symbol", "source", "side", "probability")
OPTIONAL: Final = ("confidence", "expires_at", "price")
TIMES: Final = ("ts", "known_at", "expires_at")
NANOSECONDS: Final = "datetime64[ns, UTC]"
_NUMBERS: Final = ("side", "probability", "confidence", "price")
_QUOTE: Final = ("known_at", "symbol", "spread", "price")


def signal_columns(signals: pd.DataFrame) -> pd.DataFrame:
    """The columns that verdicts need, times in UTC and numbers as floats; what is none of its kind is missing."""
    absent = [name for name in NEEDED if name not in signals.columns]
    if absent:
        raise DataError(f"signals lack the columns {absent}")
    columns: dict[str, Any] = {}
    for name in TIMES:
        if name not in signals.columns or signals[name].isna().all():
            columns[name] = pd.Series(pd.NaT, index=range(len(signals)), dtype=NANOSECONDS)
            continue
        if not isinstance(signals[name].dtype, pd.DatetimeTZDtype):
            raise DataError(f"the signals' '{name}' holds {signals[name].dtype}, expected UTC instants")
        columns[name] = signals[name].dt.tz_convert("UTC").dt.as_unit("ns").reset_index(drop=True)
    for name in _NUMBERS:
        given = signals[name] if name in signals.columns else pd.Series(math.nan, index=signals.index)
        columns[name] = pd.to_numeric(given, errors="coerce").astype(np.float64).reset_index(drop=True)
    for name in ("symbol", "source"):
        columns[name] = signals[name].astype(object).reset_index(drop=True)
    return pd.DataFrame(columns)


def quote_columns(quotes: pd.DataFrame) -> pd.DataFrame:
    """The quotes by the instant from which they were known; DataError where a column or an instant is missing."""
    absent = [name for name in _QUOTE if name not in quotes.columns]
    if absent:
        raise DataError(f"quotes lack the columns {absent}")
    if not isinstance(quotes["known_at"].dtype, pd.DatetimeTZDtype) or quotes["known_at"].isna().any():
        raise DataError("a quote has no instant in UTC from which it was known")
    known = quotes["known_at"].dt.tz_convert("UTC").dt.as_unit("ns")
    numbers = {name: pd.to_numeric(quotes[name], errors="coerce").astype(np.float64) for name in ("spread", "price")}
    found = pd.DataFrame({"known_at": known, "symbol": quotes["symbol"].astype(object), **numbers})
    return found.sort_values("known_at", kind="stable").reset_index(drop=True)


def row_flags(frame: pd.DataFrame, instants: pd.DatetimeIndex, held: pd.DataFrame | None, rules: SignalRules) -> Flags:
    """What can be said of each signal alone, one column a reason."""
    flags = np.zeros((len(frame), len(REASONS)), dtype=bool)

    def mark(reason: str, where: Any) -> None:
        flags[:, REASONS.index(reason)] = np.asarray(where, dtype=bool)

    now, known, stamp = pd.Series(instants), frame["known_at"], frame["ts"]
    named = frame["symbol"].map(is_name) & frame["source"].map(is_name)
    mark("no_bar", now.isna())
    mark(
        "malformed",
        ~named.to_numpy(dtype=bool)
        | stamp.isna()
        | known.isna()
        | ~frame["side"].isin((-1.0, 0.0, 1.0))
        | (known < stamp),
    )
    if rules.symbols is not None:
        mark("unknown_symbol", ~frame["symbol"].isin(rules.symbols))
    latest = now + rules.clock_tolerance
    mark("future", (known > latest) | (stamp > latest))
    probability, confidence = frame["probability"], frame["confidence"]
    mark(
        "probability",
        (rules.require_probability & probability.isna())
        | (probability.notna() & ~probability.between(0, 1))
        | (confidence.notna() & ~confidence.between(0, 1)),
    )
    mark("stale", (now - known > rules.maximum_age) | (now >= frame["expires_at"]))
    mark("out_of_session", _closed(frame["symbol"], instants, rules))
    if held is not None:
        age = held["age"].to_numpy(dtype=np.float64)
        absent = ~(age <= pd.Timedelta(rules.quote_age).total_seconds()) & np.asarray(instants.notna(), dtype=bool)
        spread, limit, market = (held[name].to_numpy(dtype=np.float64) for name in ("spread", "limit", "price"))
        price = frame["price"].to_numpy(dtype=np.float64)
        mark("no_quote", absent)
        mark("spread", ~np.isnan(age) & ~((spread >= 0) & (spread <= limit) & np.isfinite(spread)))
        far = ~(np.abs(price - market) <= rules.price_distance * np.abs(market))
        mark("price", far & ~np.isnan(price) & ~np.isnan(age))
    return flags


def _closed(symbols: pd.Series, instants: pd.DatetimeIndex, rules: SignalRules) -> Flags:
    closed = np.zeros(len(symbols), dtype=bool)
    stamps = instants.asi8
    acts = np.asarray(instants.notna(), dtype=bool)
    for symbol, rows in symbols.groupby(symbols, sort=False).indices.items():
        places = np.asarray(rows, dtype=np.int64)
        chosen = places[acts[places]]
        if len(chosen) and is_name(symbol):
            starts = stamps[chosen]
            closed[chosen] = rules.calendar_of(str(symbol)).open_time(starts, starts + 1) == 0
    return closed


def is_name(value: object) -> bool:
    """Whether this can be the name of a symbol or a source."""
    return isinstance(value, str) and 0 < len(value) <= 64 and value.isprintable()


def name_of(value: object) -> object:
    """The name, None where it is none."""
    return value if is_name(value) else None


def moment(value: object) -> Any:
    """A time with a zone, in UTC; missing where it is none."""
    try:
        found: Any = pd.Timestamp(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return pd.NaT
    return pd.NaT if found is pd.NaT or found.tz is None else found.tz_convert("UTC").as_unit("ns")
