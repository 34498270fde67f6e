"""Volatility indices: VIX and its family by session, their term structure, and the join to bars as it was known.

Levels come from Yahoo (``^VIX`` through the yahoo source), from CBOE's history file, from the ``vix_utils`` package, or
for crypto from Deribit (:mod:`tapeline.sources.deribit`). All become one table: ``open high low close known_at`` on
``ts``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd

from tapeline.core.errors import ConfigurationError, DataError, MissingExtraError, SchemaError
from tapeline.core.pit import asof_join
from tapeline.core.schemas import PRICES
from tapeline.core.timeframe import Timeframe

TENOR_DAYS: Final[Mapping[str, int]] = {"VIX9D": 9, "VIX": 30, "VIX3M": 93, "VIX6M": 184, "VIX1Y": 365}
"""CBOE's family: the horizon of each index in days; Yahoo writes ``^`` before the name."""
NEW_YORK: Final = "America/New_York"
LAST_VALUE: Final = pd.Timedelta(hours=16, minutes=15)
"""The VIX of a regular session is calculated until 16:15 New York; on a short day the stamp is late, never early."""
EXCHANGE: Final = "XCBF"
"""The CBOE Futures Exchange in ``exchange_calendars``."""
MAXIMUM_BYTES: Final = 64 * 2**20


def read_cboe_history(path: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Read CBOE's history file of an index (``DATE,OPEN,HIGH,LOW,CLOSE``).

    Returns
    -------
    Levels, and the lines that are none. Levels: on ``ts``, the session's date at 00:00 UTC, float64 ``open high low
    close`` and ``known_at``, 16:15 New York of that session. Refused lines keep their text in ``record`` and say in
    ``reason`` why: a date that is none, a level that is no number or not above 0, a session twice.

    Raises
    ------
    ConfigurationError
        There is no such file, or it is larger than 64 MiB.
    SchemaError
        The header lacks a column.
    """
    if not path.is_file() or path.stat().st_size > MAXIMUM_BYTES:
        raise ConfigurationError(f"'{path}' is not a file of at most {MAXIMUM_BYTES} bytes")
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    table.columns = [str(name).strip().lower() for name in table.columns]
    lacking = [name for name in ("date", "close") if name not in table.columns]
    if lacking:
        raise SchemaError(f"'{path.name}' lacks the columns {lacking}", hint="expected DATE,OPEN,HIGH,LOW,CLOSE")
    dates = pd.to_datetime(table["date"], format="%Y-%m-%d", errors="coerce")
    dates = dates.fillna(pd.to_datetime(table["date"], format="%m/%d/%Y", errors="coerce"))
    # The oldest indices have a close only; it then stands for all four, and invents no range.
    cells = {name: pd.to_numeric(table.get(name, table["close"]), errors="coerce") for name in PRICES}
    good = np.logical_and.reduce([np.isfinite(cell) & (cell > 0) for cell in cells.values()])
    reason = np.where(dates.isna(), "the date is none", np.where(~good, "a level is no number above 0", ""))
    reason = np.where((reason == "") & dates.duplicated(keep=False), "the session comes twice", reason)
    keep = reason == ""
    levels = pd.DataFrame({name: cell[keep].to_numpy(np.float64) for name, cell in cells.items()})
    levels.index = pd.DatetimeIndex(dates[keep], name="ts").tz_localize("UTC").as_unit("ns")
    records = table[~keep].apply(lambda row: ",".join(row), axis=1) if (~keep).any() else []
    refused = pd.DataFrame({"record": list(records), "reason": reason[~keep]})
    return with_known_at(levels.sort_index()), refused


def with_known_at(levels: pd.DataFrame) -> pd.DataFrame:
    """Add when each session's level was known: 16:15 New York of the date that ``ts`` carries.

    For daily bars of the yahoo source, which carry their session's date at 00:00 UTC.

    Examples
    --------
    >>> ts = pd.DatetimeIndex(["2024-07-05"], tz="UTC", name="ts")
    >>> with_known_at(pd.DataFrame({"close": [12.5]}, index=ts))["known_at"].iloc[0]
    Timestamp('2024-07-05 20:15:00+0000', tz='UTC')
    """
    index = pd.DatetimeIndex(levels.index)
    if index.tz is None or not (index == index.normalize()).all():
        raise DataError("levels must be on session dates at 00:00 UTC", hint="ask the source for D1 bars")
    local = (index.tz_localize(None) + LAST_VALUE).tz_localize(NEW_YORK)
    return levels.assign(known_at=local.tz_convert("UTC").as_unit("ns"))


def term_structure(levels: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """The term structure of each session from several indices.

    Parameters
    ----------
    levels:
        Tables with ``close`` and ``known_at`` by index name, of those in :data:`TENOR_DAYS`; ``VIX`` among them.

    Returns
    -------
    On ``ts``, for every session of ``VIX``: a column an index, in lower case, NaN where it has no value that day;
    ``slope``, the next longer index over ``VIX`` less 1 (above 0: contango, the usual state; below: backwardation,
    stress); ``curve``, the slope of log level on log days over all tenors that day (least squares, at least two);
    ``known_at``, when the last of the values that day was.

    Raises
    ------
    ConfigurationError
        An unknown index, ``VIX`` missing, or nothing beside it.

    Examples
    --------
    >>> ts = pd.DatetimeIndex(["2024-07-05"], tz="UTC", name="ts")
    >>> one = with_known_at(pd.DataFrame({"close": [12.5]}, index=ts))
    >>> float(term_structure({"VIX": one, "VIX3M": one.assign(close=15.0)})["slope"].iloc[0].round(4))
    0.2
    """
    unknown = sorted(set(levels) - set(TENOR_DAYS))
    if unknown or "VIX" not in levels or len(levels) < 2:
        raise ConfigurationError(
            f"a term structure needs VIX and another of {', '.join(TENOR_DAYS)}, was given {sorted(levels)}"
        )
    sessions = levels["VIX"].index
    names = [name for name in TENOR_DAYS if name in levels]
    closes = pd.DataFrame({name: levels[name]["close"].reindex(sessions) for name in names})
    known = pd.DataFrame({name: levels[name]["known_at"].reindex(sessions) for name in names})
    result = closes.rename(columns=str.lower)
    longer = [name for name in names if TENOR_DAYS[name] > TENOR_DAYS["VIX"]]
    result["slope"] = closes[longer].bfill(axis=1).iloc[:, 0] / closes["VIX"] - 1.0 if longer else np.nan
    days = np.log([float(TENOR_DAYS[name]) for name in names])
    result["curve"] = _slopes(days, np.log(closes.to_numpy(np.float64)))
    result["known_at"] = known.where(closes.notna()).max(axis=1)
    return result


def settlement_day(year: int, month: int) -> pd.Timestamp:
    """The day on which the monthly VIX future of a month settles.

    The Wednesday thirty days before the third Friday of the next month; where that Wednesday or that Friday is a
    holiday, the business day before the Wednesday (CFE rule book, rule 1202).

    Examples
    --------
    >>> settlement_day(2024, 1), settlement_day(2024, 6)  # a Tuesday, because of Juneteenth
    (Timestamp('2024-01-17 00:00:00'), Timestamp('2024-06-18 00:00:00'))
    """
    after = pd.Timestamp(year=year + month // 12, month=month % 12 + 1, day=1)
    friday = after + pd.Timedelta(days=(4 - after.day_of_week) % 7 + 14)
    wednesday = friday - pd.Timedelta(days=30)
    sessions = _exchange_days(year // 10 * 10)
    if wednesday in sessions and friday in sessions:
        return wednesday
    return pd.Timestamp(sessions[sessions < wednesday][-1])


@lru_cache(maxsize=8)
def _exchange_days(decade: int) -> pd.DatetimeIndex:
    """The days on which the exchange trades in ten years and the months around them."""
    from exchange_calendars import get_calendar

    days = get_calendar(EXCHANGE, start=f"{decade - 1}-12-01", end=f"{decade + 10}-03-01").sessions
    return pd.DatetimeIndex(days)


def futures_structure(futures: pd.DataFrame) -> pd.DataFrame:
    """The monthly VIX futures of each session, from the table of ``vix_utils.load_vix_term_structure``.

    Parameters
    ----------
    futures:
        Columns ``Trade Date, Tenor_Monthly, Tenor_Days, Close, Settle, Weekly``.

    Returns
    -------
    On ``ts``: ``front`` and ``second`` (the settlements of the two nearest monthly contracts), ``front_days``,
    ``slope`` (second over front less 1) and ``known_at``, 16:15 New York.

    Raises
    ------
    SchemaError
        A column is missing.
    DataError
        The table has the column ``Expiry``, and a monthly contract's is not its :func:`settlement_day`: vix_utils
        0.1.7 is a day early under pandas 3.
    """
    needed = ["Trade Date", "Tenor_Monthly", "Tenor_Days", "Settle", "Weekly"]
    lacking = [name for name in needed if name not in futures.columns]
    if lacking:
        raise SchemaError(f"the futures lack the columns {lacking}", hint="update vix_utils")
    monthly = futures[~futures["Weekly"].astype(bool) & (futures["Settle"] > 0)]
    if "Expiry" in monthly.columns:
        _check_expiries(pd.DatetimeIndex(pd.to_datetime(monthly["Expiry"].dropna().unique())))
    dates = pd.DatetimeIndex(monthly["Trade Date"])
    dates = (dates.tz_localize(None) if dates.tz is not None else dates).normalize().as_unit("ns")
    table = monthly.assign(ts=dates.tz_localize("UTC")).drop_duplicates(["ts", "Tenor_Monthly"], keep="last")
    wide = table.pivot_table(index="ts", columns="Tenor_Monthly", values=["Settle", "Tenor_Days"], aggfunc="last")
    blank = pd.Series(np.nan, index=wide.index)
    front, second = (wide["Settle"].get(tenor, blank) for tenor in (1.0, 2.0))
    days = wide["Tenor_Days"].get(1.0, blank)
    result = pd.DataFrame({"front": front, "second": second, "front_days": days, "slope": second / front - 1.0})
    return with_known_at(result.astype(np.float64))


def _check_expiries(expiries: pd.DatetimeIndex) -> None:
    days = (expiries.tz_localize(None) if expiries.tz is not None else expiries).normalize().sort_values()
    for day in days:
        settles = settlement_day(day.year, day.month)
        if day != settles:
            raise DataError(
                f"the table lets a contract expire on {day.date()}, which must settle on {settles.date()}",
                hint="vix_utils 0.1.7 under pandas 3 is a day early; its futures need pandas 2, its indices do not",
            )


def load_vix_utils(load: Callable[[], pd.DataFrame] | None = None) -> dict[str, pd.DataFrame]:
    """The cash indices of CBOE's family through the optional package ``vix_utils``, which downloads them.

    Parameters
    ----------
    load:
        Gives what ``vix_utils.get_vix_index_histories`` gives; that function where absent.

    Returns
    -------
    A table of levels for each index of :data:`TENOR_DAYS` that it has.

    Raises
    ------
    MissingExtraError
        The package is not installed.
    SchemaError
        Its table has other columns than ``Trade Date, Close, Symbol``.
    """
    if load is None:
        try:
            from vix_utils import get_vix_index_histories
        except ImportError as error:
            raise MissingExtraError("vix_utils", "volatility") from error
        load = get_vix_index_histories
    table = load()
    if "Trade Date" not in table.columns:
        table = table.reset_index()
    lacking = [name for name in ("Trade Date", "Close", "Symbol") if name not in table.columns]
    if lacking:
        raise SchemaError(f"vix_utils gave no columns {lacking}", hint="update vix_utils")
    found = {}
    for name in TENOR_DAYS:
        rows = table[(table["Symbol"] == name) & (table["Close"] > 0)].drop_duplicates("Trade Date", keep="last")
        if rows.empty:
            continue
        dates = pd.DatetimeIndex(pd.to_datetime(rows["Trade Date"]), name="ts")
        dates = (dates.tz_localize(None) if dates.tz is not None else dates).normalize().as_unit("ns")
        values: dict[str, Any] = {p: rows.get(p.capitalize(), rows["Close"]).fillna(rows["Close"]) for p in PRICES}
        plain = {price: column.to_numpy(np.float64) for price, column in values.items()}
        found[name] = with_known_at(pd.DataFrame(plain, index=dates.tz_localize("UTC")).sort_index())
    return found


def join_volatility(
    bars: pd.DataFrame,
    timeframe: Timeframe,
    levels: pd.DataFrame,
    *,
    prefix: str = "vix_",
    tolerance: timedelta | None = timedelta(days=5),
) -> pd.DataFrame:
    """Give each bar the newest level that was known at the bar's close.

    Parameters
    ----------
    bars:
        On ``ts``, the open.
    levels:
        Any columns with ``known_at``: levels, a term structure, or Deribit's candles.
    tolerance:
        An older level is not used; five days bridge a long weekend.

    Returns
    -------
    ``bars`` with ``levels``' columns under ``prefix`` and ``<prefix>age`` in seconds.

    Raises
    ------
    SchemaError
        ``levels`` lacks ``known_at``.
    """
    if "known_at" not in levels.columns:
        raise SchemaError("levels lack the column 'known_at'", hint="with_known_at adds it to a session's levels")
    return asof_join(
        bars,
        levels.drop(columns="known_at"),
        at=timeframe.closes(pd.DatetimeIndex(bars.index)),
        known_at=pd.DatetimeIndex(levels["known_at"]),
        prefix=prefix,
        tolerance=tolerance,
        age=True,
    )


def _slopes(x: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Least-squares slope of each row on x, over its finite cells; NaN where there are fewer than two."""
    seen = np.isfinite(rows)
    count = seen.sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        centred = np.where(seen, x - np.where(seen, x, 0.0).sum(axis=1, keepdims=True) / count[:, None], 0.0)
        slope = (centred * np.where(seen, rows, 0.0)).sum(axis=1) / (centred**2).sum(axis=1)
    return np.where(count >= 2, slope, np.nan)
