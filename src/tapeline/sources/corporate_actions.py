"""Corporate actions from LEAN's map and factor files, applied when bars are read, as of an instant.

The stored prices stay what was paid. A map file says under which ticker a security traded until when; a factor file
says by what its prices must be multiplied so that splits and dividends leave no step. Formats: QuantConnect LEAN,
Data/equity/readme.md (Apache-2.0).
"""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Final, Literal

import numpy as np
import pandas as pd

from tapeline.core.errors import ConfigurationError, DataError
from tapeline.core.schemas import PRICES
from tapeline.core.symbol import Symbol

Adjust = Literal["splits", "splits and dividends"]
ADJUSTMENTS: Final = ("splits", "splits and dividends")
NEW_YORK: Final = "America/New_York"
SESSION_OPEN: Final = pd.Timedelta(hours=9, minutes=30)
_END_OF_TIME: Final = pd.Timestamp("2050-12-31")
_MAXIMUM_LINES: Final = 100_000


@dataclass(frozen=True)
class TickerPeriod:
    """Under which ticker a security traded: on sessions after ``after`` up to and with ``until`` (naive dates)."""

    ticker: str
    after: pd.Timestamp
    until: pd.Timestamp
    exchange: str


@dataclass(frozen=True)
class CorporateActions:
    """The history of one security: its tickers, and its cumulative factors.

    Parameters
    ----------
    tickers:
        The periods of its tickers, oldest first. Before the first one the security was not listed: rows that a file
        named after the ticker holds from then belong to another company.
    factors:
        On ``date`` (naive session dates, increasing): ``price_factor`` (dividends) and ``split_factor``, cumulative,
        each row valid up to and with its date; ``reference_price``, the raw close of that date where it is known.

    Examples
    --------
    >>> factors = pd.DataFrame(
    ...     {"price_factor": [0.9, 1.0], "split_factor": [0.5, 1.0], "reference_price": [100.0, 0.0]},
    ...     index=pd.DatetimeIndex(["2020-08-28", "2050-12-31"], name="date"),
    ... )
    >>> CorporateActions("aapl", (), factors).actions()[["kind", "ratio"]].to_numpy().tolist()
    [['split', 0.5], ['dividend', 0.9]]
    """

    symbol: str
    tickers: tuple[TickerPeriod, ...]
    factors: pd.DataFrame

    @property
    def listed(self) -> pd.Timestamp | None:
        """The first session of the security; None where no map file says."""
        return self.tickers[0].after if self.tickers else None

    def ticker_on(self, date: pd.Timestamp) -> str | None:
        """The ticker on a session's date; None before the listing and after the last one."""
        for period in self.tickers:
            first = period is self.tickers[0] and date == period.after
            if first or period.after < date <= period.until:
                return period.ticker
        return None

    def actions(self) -> pd.DataFrame:
        """One row a split or dividend, read from where the cumulative factors step.

        Columns ``kind`` (split, dividend), ``last_session`` (the last one at the old price), ``ratio`` (by what prices
        up to then are multiplied: 0.25 for four shares from one, 20 for one share from twenty) and ``known_at``: 09:30
        New York of the next weekday, where the action shows in the price. An announcement is public earlier; the files
        do not say when, so that this is late and never early.
        """
        rows = []
        for (date, row), (_, after) in pairwise(self.factors.iterrows()):
            for kind, column in (("split", "split_factor"), ("dividend", "price_factor")):
                ratio = float(row[column] / after[column])
                if not math.isclose(ratio, 1.0, rel_tol=1e-9):
                    rows.append(
                        {
                            "kind": kind,
                            "last_session": date,
                            "ratio": ratio,
                            "known_at": _next_open(pd.Timestamp(str(date))),
                        }
                    )
        table = pd.DataFrame(rows, columns=["kind", "last_session", "ratio", "known_at"])
        return table.astype({"ratio": "float64", "last_session": "datetime64[ns]", "known_at": "datetime64[ns, UTC]"})


def read_corporate_actions(folder: Path, symbol: str) -> CorporateActions:
    """Read ``map_files/<symbol>.csv`` and ``factor_files/<symbol>.csv`` of a LEAN market folder.

    A file that is not there means nothing to apply: no ticker change is known, no factor differs from 1.

    Raises
    ------
    ConfigurationError
        The folder has neither sub-folder, or the symbol is not a valid name.
    DataError
        A line does not parse, dates do not increase, or a factor is not a finite number above 0.
    """
    name = Symbol.parse(symbol).lower()
    if not ((folder / "map_files").is_dir() or (folder / "factor_files").is_dir()):
        raise ConfigurationError(f"'{folder}' has neither map_files nor factor_files", hint="for instance equity/usa")
    segment = Symbol.parse(name).path_segment
    return CorporateActions(
        name,
        _read_map(folder / "map_files" / f"{segment}.csv"),
        _read_factors(folder / "factor_files" / f"{segment}.csv"),
    )


def own_sessions(bars: pd.DataFrame, actions: CorporateActions, *, ticker: str | None = None) -> pd.DataFrame:
    """The rows that belong to this security under this ticker; the rest is another company's, or another file's.

    Parameters
    ----------
    bars:
        Bars on ``ts``; a session's date is that of ``ts`` in New York, or of ``ts`` itself where it is at 00:00 UTC.
    ticker:
        The ticker whose file the bars come from; any ticker of the security where absent.

    Returns
    -------
    The rows from the listing on, and of the periods of that ticker where one is given.
    """
    dates = session_dates(pd.DatetimeIndex(bars.index))
    if not actions.tickers:
        return bars
    keep = np.zeros(len(bars), dtype=bool)
    for period in actions.tickers:
        if ticker is None or period.ticker == ticker.lower():
            first = dates >= period.after if period is actions.tickers[0] else dates > period.after
            keep |= np.asarray(first & (dates <= period.until))
    return bars[keep]


def adjust(
    bars: pd.DataFrame,
    actions: CorporateActions,
    *,
    how: Adjust = "splits and dividends",
    as_of: pd.Timestamp | None = None,
) -> pd.DataFrame:
    """Adjusted prices beside the raw ones, as they were known at an instant.

    A price is multiplied by the ratios of every later action that was known at ``as_of``: read as of a day before a
    split, its prices show no split. Returns within the history do not depend on ``as_of``; levels do.

    Parameters
    ----------
    how:
        ``splits`` alone, or ``splits and dividends``.
    as_of:
        The instant; None applies every action that the files hold.

    Returns
    -------
    ``bars`` with ``adjusted_open, adjusted_high, adjusted_low, adjusted_close`` and, where there is one,
    ``adjusted_volume`` (divided by the splits, dividends leave it). The raw columns are untouched: raw and adjusted
    never share a column.

    Raises
    ------
    ConfigurationError
        An unknown ``how``, or ``as_of`` without a time zone.
    DataError
        The bars have adjusted columns already.

    Examples
    --------
    >>> factors = pd.DataFrame(
    ...     {"price_factor": 1.0, "split_factor": [0.25, 1.0], "reference_price": [499.23, 0.0]},
    ...     index=pd.DatetimeIndex(["2020-08-28", "2050-12-31"], name="date"),
    ... )
    >>> ts = pd.DatetimeIndex(["2020-08-28", "2020-08-31"], tz="UTC", name="ts")
    >>> bars = pd.DataFrame({name: [500.0, 129.0] for name in PRICES}, index=ts)
    >>> adjust(bars, CorporateActions("aapl", (), factors))["adjusted_close"].tolist()
    [125.0, 129.0]
    >>> before = pd.Timestamp("2020-08-29", tz="UTC")
    >>> adjust(bars, CorporateActions("aapl", (), factors), as_of=before)["adjusted_close"].tolist()
    [500.0, 129.0]
    """
    if how not in ADJUSTMENTS:
        raise ConfigurationError(f"how = {how!r} is unknown", hint=f"use one of {', '.join(ADJUSTMENTS)}")
    if as_of is not None and as_of.tzinfo is None:
        raise ConfigurationError(f"as_of {as_of} has no time zone", hint="for instance pd.Timestamp(..., tz='UTC')")
    clash = [name for name in bars.columns if str(name).startswith("adjusted_")]
    if clash:
        raise DataError(f"the bars have the columns {clash} already", hint="adjust the raw bars")
    table = actions.actions()
    if as_of is not None:
        table = table[table["known_at"] <= as_of]
    dates = session_dates(pd.DatetimeIndex(bars.index))
    splits = _cumulative(table[table["kind"] == "split"], dates)
    factor = splits if how == "splits" else splits * _cumulative(table[table["kind"] == "dividend"], dates)
    added = {f"adjusted_{name}": bars[name].to_numpy(np.float64) * factor for name in PRICES}
    if "volume" in bars.columns:
        added["adjusted_volume"] = bars["volume"].to_numpy(np.float64) / splits
    return bars.assign(**added)


def session_dates(index: pd.DatetimeIndex) -> pd.DatetimeIndex:
    """The session's naive date of each bar: daily bars carry it at 00:00 UTC, others by New York's clock."""
    utc = index.tz_convert("UTC")
    daily = np.asarray(utc == utc.normalize()).all()
    local = utc if daily else index.tz_convert(NEW_YORK)
    return local.tz_localize(None).normalize()


def _cumulative(table: pd.DataFrame, dates: pd.DatetimeIndex) -> np.ndarray:
    """The product of the ratios of all actions whose last session is not before each date."""
    last = table["last_session"].to_numpy("datetime64[ns]")
    product = np.append(np.cumprod(table["ratio"].to_numpy(np.float64)[::-1])[::-1], 1.0)
    return product[np.searchsorted(last, dates.as_unit("ns").to_numpy(), side="left")]


def _next_open(date: pd.Timestamp) -> pd.Timestamp:
    following = date + pd.offsets.BusinessDay(1)
    return (following + SESSION_OPEN).tz_localize(NEW_YORK).tz_convert("UTC").as_unit("ns")


def _read_map(path: Path) -> tuple[TickerPeriod, ...]:
    rows = _lines(path, least=2)
    dates = _dates(path, rows)
    exchanges = [row[2] if len(row) > 2 else "" for row in rows]
    # The first row is the first day; each later one ends a period under its ticker.
    return tuple(
        TickerPeriod(rows[i][1].strip().lower(), dates[i - 1], dates[i], exchanges[i].strip())
        for i in range(1, len(rows))
        if dates[i] > dates[i - 1]
    )


def _read_factors(path: Path) -> pd.DataFrame:
    rows = _lines(path, least=3)
    columns = ["price_factor", "split_factor", "reference_price"]
    if not rows:
        rows, dates = [["", "1", "1", "0"]], [_END_OF_TIME]
    else:
        dates = _dates(path, rows)
    try:
        values = np.array([[float(cell) for cell in [*row[1:], "0"][:3]] for row in rows])
    except ValueError as error:
        raise DataError(f"'{path.name}' holds a factor that is no number: {error}") from error
    if not (np.isfinite(values).all() and (values[:, :2] > 0).all()):
        raise DataError(f"'{path.name}' holds a factor that is not a finite number above 0")
    return pd.DataFrame(values, columns=columns, index=pd.DatetimeIndex(dates, name="date").as_unit("ns"))


def _lines(path: Path, least: int) -> list[list[str]]:
    if not path.is_file():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        rows = [row for _, row in zip(range(_MAXIMUM_LINES + 1), csv.reader(file), strict=False) if row]
    short = [number for number, row in enumerate(rows, 1) if len(row) < least]
    if short or len(rows) > _MAXIMUM_LINES:
        raise DataError(f"'{path.name}' line {short[0] if short else _MAXIMUM_LINES} is not one of a LEAN file")
    return rows


def _dates(path: Path, rows: list[list[str]]) -> list[pd.Timestamp]:
    try:
        dates = [pd.Timestamp(pd.to_datetime(row[0].strip(), format="%Y%m%d")) for row in rows]
    except ValueError as error:
        raise DataError(f"'{path.name}' holds a date that is not YYYYMMDD: {error}") from error
    if any(later < earlier for earlier, later in pairwise(dates)):
        raise DataError(f"'{path.name}': its dates do not increase")
    return dates
