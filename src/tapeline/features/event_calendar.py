"""Calendar and news events as statements: what was said about an event, and from when on.

The time of a scheduled release is known in advance, its figure is not. So an event is not one row but several: each
statement about it (the schedule, the figure, its revision, a cancellation) carries the instant from which it could be
read, and what stood at any instant is the newest statement known by then.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Final

import numpy as np
import pandas as pd

from tapeline.core.errors import ConfigurationError, DataError
from tapeline.core.schemas import CALENDAR
from tapeline.core.symbol import Symbol

STATUSES: Final = ("scheduled", "released", "revised", "cancelled")
# fmt: off
CURRENCIES: Final = frozenset(
    {
        "AED", "ARS", "AUD", "BRL", "CAD", "CHF", "CLP", "CNH", "CNY", "COP", "CZK", "DKK", "EUR", "GBP", "HKD",
        "HUF", "IDR", "ILS", "INR", "JPY", "KRW", "KWD", "MXN", "MYR", "NGN", "NOK", "NZD", "PEN", "PHP", "PLN",
        "QAR", "RON", "RUB", "SAR", "SEK", "SGD", "THB", "TRY", "TWD", "UAH", "USD", "VND", "XAG", "XAU", "XPD",
        "XPT", "ZAR", "BTC", "ETH", "USDT", "USDC", "BNB", "SOL", "XRP",
    }
)
# fmt: on
"""Currency codes that a symbol may be made of: ISO 4217, precious metals, and a few coins."""

_DOLLARS: Final = {"USDT": "USD", "USDC": "USD"}
_TARGET: Final = re.compile(r"all|currency:[A-Z]{3,5}|symbol:\S{1,64}|sector:[a-z0-9_-]{1,64}")
_TIMES: Final = ("known_at", "scheduled_at", "published_at")
_FIGURES: Final = ("actual", "forecast", "previous")


def parse_calendar(statements: pd.DataFrame) -> pd.DataFrame:
    """Check statements about events and put them in order; every function on events takes what this returns.

    Parameters
    ----------
    statements:
        Columns of the table ``events/calendar`` (:data:`tapeline.core.schemas.CALENDAR`); nullable ones may be absent.

    Returns
    -------
    The same rows with every column, sorted by ``known_at`` and then as they came.

    Raises
    ------
    DataError
        A required column is missing; a time has no zone; an event has two statements of one instant; a status, a
        target or an importance is unknown; a scheduled statement has no schedule or already has a figure; a released
        or revised one has no ``published_at`` or claims to be known before it.

    Examples
    --------
    >>> noon = pd.Timestamp("2017-03-15 12:00", tz="UTC")
    >>> calendar = parse_calendar(pd.DataFrame({
    ...     "id": ["n1"], "known_at": [noon], "published_at": [noon], "status": ["released"], "kind": ["news"],
    ...     "touches": [["currency:USD"]], "importance": [2], "source": ["wire"]}))
    >>> calendar["actual"].isna().all().item()
    True
    """
    required = [field.name for field in CALENDAR.schema if not field.nullable]
    absent = [name for name in required if name not in statements.columns]
    if absent:
        raise DataError(f"the calendar lacks the columns {absent}")
    result = statements.reset_index(drop=True).copy()
    for field in CALENDAR.schema:
        if field.name not in result.columns:
            result[field.name] = pd.NaT if field.name in _TIMES else None if field.name == "title" else np.nan
    result = result[CALENDAR.schema.names]
    for name in _TIMES:
        result[name] = _instants(result[name], name)
    for name in _FIGURES:
        result[name] = result[name].astype(np.float64)
    _refuse(result, result["known_at"].isna(), "has no known_at")
    _refuse(result, result.duplicated(["id", "known_at"]), "has two statements of one instant")
    _refuse(result, ~result["status"].isin(STATUSES), f"has a status that is none of {', '.join(STATUSES)}")
    _refuse(result, ~result["importance"].isin((1, 2, 3)), "has an importance other than 1, 2 or 3")
    _refuse(
        result,
        ~result["touches"].map(_is_target_list).astype(bool),
        "touches something other than a list of all, currency:XXX, symbol:... and sector:...",
    )
    scheduled = result["status"] == "scheduled"
    out = result["status"].isin(("released", "revised"))
    _refuse(result, scheduled & result["scheduled_at"].isna(), "is scheduled for no time")
    _refuse(result, scheduled & result["actual"].notna(), "has a figure before it is released")
    _refuse(result, out & result["published_at"].isna(), "is released at no time")
    _refuse(result, out & (result["known_at"] < result["published_at"]), "is known before it was published")
    return result.sort_values("known_at", kind="stable").reset_index(drop=True)


def as_of(calendar: pd.DataFrame, instant: pd.Timestamp) -> pd.DataFrame:
    """What stood at an instant: of each event the newest statement known by then, cancelled ones included.

    Raises
    ------
    ConfigurationError
        The instant has no time zone.

    Examples
    --------
    >>> early, late = pd.Timestamp("2014-04-30 12:30", tz="UTC"), pd.Timestamp("2014-05-29 12:30", tz="UTC")
    >>> calendar = parse_calendar(pd.DataFrame({
    ...     "id": "gdp-2014q1", "known_at": [early, late], "published_at": [early, late],
    ...     "status": ["released", "revised"], "kind": "gdp", "touches": [["currency:USD"]] * 2, "importance": 3,
    ...     "actual": [17149.6, 17101.3], "source": "alfred"}))
    >>> as_of(calendar, pd.Timestamp("2014-05-20", tz="UTC"))["actual"].tolist()
    [17149.6]
    """
    if instant.tzinfo is None:
        raise ConfigurationError(f"instant = {instant} has no time zone")
    known = calendar[calendar["known_at"] <= instant]
    return known.drop_duplicates("id", keep="last").reset_index(drop=True)


def currencies_of(symbol: str) -> tuple[str, ...]:
    """The currencies that a symbol is made of; none for a share or an index.

    A suffix of a broker or a venue is left out, and a dollar coin counts as the dollar too.

    Examples
    --------
    >>> currencies_of("EURUSD"), currencies_of("EURUSD.m"), currencies_of("AAPL")
    (('EUR', 'USD'), ('EUR', 'USD'), ())
    >>> currencies_of("BTC/USDT:USDT")
    ('BTC', 'USDT', 'USD')
    """
    name = str(Symbol.parse(symbol)).upper()
    if "/" in name:
        parts = name.split(":")[0].split("/")
    else:
        bare = re.split(r"[._#+-]", name)[0]
        cut = next((at for at in (3, 4) if bare[:at] in CURRENCIES and bare[at:] in CURRENCIES), None)
        # Brokers append lower-case letters without a point, such as EURUSDm.
        if cut is None and bare[:3] in CURRENCIES and bare[3:6] in CURRENCIES and not symbol[6:7].isupper():
            bare, cut = bare[:6], 3
        if cut is None:
            return ()
        parts = [bare[:cut], bare[cut:]]
    found = [part for part in parts if part in CURRENCIES]
    return tuple(dict.fromkeys([*found, *(_DOLLARS[part] for part in found if part in _DOLLARS)]))


def touching(calendar: pd.DataFrame, symbol: str, sectors: Collection[str] = ()) -> pd.DataFrame:
    """The statements about events that touch a symbol: by its currencies, its name, its sectors, or because all are.

    Examples
    --------
    >>> noon = pd.Timestamp("2017-03-15 12:00", tz="UTC")
    >>> calendar = parse_calendar(pd.DataFrame({
    ...     "id": ["a", "b", "c"], "known_at": noon, "published_at": noon, "status": "released", "kind": "news",
    ...     "touches": [["currency:USD"], ["symbol:AAPL"], ["all"]], "importance": 2, "source": "wire"}))
    >>> touching(calendar, "EURUSD")["id"].tolist(), touching(calendar, "AAPL")["id"].tolist()
    (['a', 'c'], ['b', 'c'])
    """
    wanted = {"all", f"symbol:{Symbol.parse(symbol)}"}
    wanted |= {f"currency:{name}" for name in currencies_of(symbol)}
    wanted |= {f"sector:{name}" for name in sectors}
    hit = [not wanted.isdisjoint(targets) for targets in calendar["touches"]]
    return calendar[np.asarray(hit, dtype=bool)].reset_index(drop=True)


def _is_target_list(value: object) -> bool:
    if not isinstance(value, list | tuple | np.ndarray) or len(value) == 0:
        return False
    return all(isinstance(target, str) and _TARGET.fullmatch(target) is not None for target in value)


def _instants(column: pd.Series, name: str) -> pd.Series:
    if isinstance(column.dtype, pd.DatetimeTZDtype):
        return column.dt.tz_convert("UTC").dt.as_unit("ns")
    if column.isna().all():
        return pd.Series(pd.DatetimeIndex([pd.NaT] * len(column), tz="UTC").as_unit("ns"), index=column.index)
    raise DataError(f"the calendar's '{name}' holds {column.dtype}, expected UTC instants")


def _refuse(calendar: pd.DataFrame, wrong: pd.Series, reason: str) -> None:
    if wrong.any():
        first = calendar.iloc[int(np.argmax(wrong.to_numpy()))]
        raise DataError(f"event '{first['id']}' (known_at {first['known_at']}) {reason}")
