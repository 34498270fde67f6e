"""What else was known at a bar's close: sessions, holidays, events, macro figures, sentiment, volatility; with ages."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final

import numpy as np
import pandas as pd

from tapeline.core.errors import ConfigurationError, DataError
from tapeline.core.pit import asof_join
from tapeline.core.timeframe import Timeframe
from tapeline.features.event_mapper import event_columns, map_events
from tapeline.features.exchange_hours import exchange_clock
from tapeline.features.sessions import forex_sessions

AGE: Final = "_age"
"""Ending of the column that holds another one's age, in seconds at the bar's close."""


@dataclass(frozen=True)
class Context:
    """A table on a clock of its own, such as a volatility index, a macro figure or a sentiment score.

    Parameters
    ----------
    name:
        What its columns are prefixed with: ``vix`` gives ``vix_close``.
    table:
        Any rows; a column that is NaN in a row was not said there, and an older value of it goes on.
    known_at:
        For each row the instant from which it could be read, with a time zone.
    columns:
        The numeric columns taken; all of them where empty.
    lag:
        A delay added to every ``known_at``.
    tolerance:
        The greatest age at which a value may still be used; None for any.
    """

    name: str
    table: pd.DataFrame
    known_at: pd.DatetimeIndex
    columns: tuple[str, ...] = field(default=())
    lag: timedelta = timedelta(0)
    tolerance: timedelta | None = None

    def __post_init__(self) -> None:
        if not self.name.isidentifier():
            raise ConfigurationError(f"context name {self.name!r} must be letters, digits and _")
        absent = [name for name in self.columns if name not in self.table.columns]
        if absent:
            raise ConfigurationError(f"context '{self.name}' has no columns {absent}")


def enrich(
    bars: pd.DataFrame,
    timeframe: Timeframe,
    contexts: Iterable[Context] = (),
    *,
    exchanges: Collection[str] = (),
    sessions: bool = False,
    calendar: pd.DataFrame | None = None,
    symbol: str | None = None,
    before: timedelta = timedelta(hours=4),
    after: timedelta = timedelta(hours=4),
) -> pd.DataFrame:
    """Columns of context for each bar, as known at its close, each with its age.

    Parameters
    ----------
    contexts:
        Tables to join as of each close, every column by itself: a figure that one row leaves out keeps the age of the
        row that said it.
    exchanges:
        Calendars of exchange_calendars, such as XNYS, for :func:`~tapeline.features.exchange_hours.exchange_clock`
        (open, minutes from the open and to the close, holiday).
    sessions:
        Also the forex sessions of four cities.
    calendar, symbol:
        Statements about events, and whose bars these are: adds the columns of
        :func:`~tapeline.features.event_mapper.event_columns` within ``before`` and ``after``.

    Returns
    -------
    On the bars' index, for each column ``x`` also ``x_age``: seconds from the instant at which the value could be read
    to the bar's close, NaN with the value. Sessions and holidays are read from the clock at the bar's open, so their
    age is the bar's length. An event's age is that of the newest statement behind the bar's event columns.

    Raises
    ------
    ConfigurationError
        A calendar without a symbol, or two columns of one name.
    DataError
        A context's instants do not fit its table, or a column is not numeric.

    Examples
    --------
    >>> from tapeline.core.example import example_bars
    >>> vix = Context("vix", pd.DataFrame({"close": [12.5]}), pd.DatetimeIndex(["2017-01-02 00:30"], tz="UTC"))
    >>> enrich(example_bars(10, 11), Timeframe.parse("H1"), [vix]).values.tolist()
    [[12.5, 1800.0], [12.5, 5400.0]]
    """
    index = pd.DatetimeIndex(bars.index)
    closes = timeframe.closes(index)
    base = pd.DataFrame(index=bars.index)
    clocks = ([forex_sessions(base)] if sessions else []) + [exchange_clock(base, exchange) for exchange in exchanges]
    parts = [_with_age(clock, np.full(clock.shape, float(timeframe.seconds))) for clock in clocks]
    if calendar is not None:
        if symbol is None:
            raise ConfigurationError("a calendar needs a symbol", hint="whose bars are these?")
        parts.append(_events(base, calendar, symbol, timeframe, before, after))
    parts += [_joined(base, context, closes) for context in contexts]
    result = pd.concat([base, *parts], axis=1)
    twice = sorted(set(result.columns[result.columns.duplicated()]))
    if twice:
        raise ConfigurationError(f"two contexts give the columns {twice}", hint="give them other names")
    return result


def newest_period(vintages: pd.DataFrame, period: str = "period", known_at: str = "known_at") -> pd.DataFrame:
    """Of a revised series the rows at which the figure of its newest period changed: what a reader watches.

    A revision of an older period, published after the first figure of a newer one, is not news about the newest; with
    it left in, a join by time of publication would go back to the older period.

    Parameters
    ----------
    vintages:
        One row a figure and vintage, as ALFRED serves them: the period it speaks of, when it could be known.

    Returns
    -------
    The rows that count, by ``known_at``.

    Examples
    --------
    >>> gdp = pd.DataFrame({
    ...     "period": ["2013-10", "2014-01", "2013-10"], "known_at": pd.to_datetime(
    ...     ["2014-01-30", "2014-04-30", "2014-07-30"], utc=True), "value": [17102.5, 17149.6, 17078.3]})
    >>> newest_period(gdp)["value"].tolist()
    [17102.5, 17149.6]
    """
    ordered = vintages.sort_values([known_at, period], kind="stable").reset_index(drop=True)
    codes = pd.Series(pd.factorize(ordered[period], sort=True)[0])
    return ordered[codes == codes.cummax()].drop_duplicates(known_at, keep="last").reset_index(drop=True)


def _joined(base: pd.DataFrame, context: Context, closes: pd.DatetimeIndex) -> pd.DataFrame:
    if len(context.known_at) != len(context.table):
        raise DataError(f"context '{context.name}' has {len(context.known_at)} instants for {len(context.table)} rows")
    parts = []
    for name in context.columns or tuple(context.table.columns):
        values = pd.to_numeric(context.table[name], errors="coerce")
        if values.isna().sum() > context.table[name].isna().sum():
            raise DataError(f"context '{context.name}': column '{name}' is not numeric")
        said = values.notna().to_numpy()
        column = f"{context.name}_{name}"
        joined = asof_join(
            base,
            values[said].astype(np.float64).to_frame(column),
            at=closes,
            known_at=context.known_at[said],
            lag=context.lag,
            tolerance=context.tolerance,
            age=True,
        )
        parts.append(joined.rename(columns={"age": column + AGE}))
    return pd.concat(parts, axis=1) if parts else base


def _events(
    base: pd.DataFrame,
    calendar: pd.DataFrame,
    symbol: str,
    timeframe: Timeframe,
    before: timedelta,
    after: timedelta,
) -> pd.DataFrame:
    mapped = map_events(base, calendar, symbol, timeframe, before=before, after=after)
    values = event_columns(base, mapped)
    newest = mapped.groupby("ts")["known_at"].max().reindex(base.index)
    seconds = (timeframe.closes(pd.DatetimeIndex(base.index)) - pd.DatetimeIndex(newest)).total_seconds()
    ages = np.repeat(np.asarray(seconds, dtype=np.float64)[:, None], values.shape[1], axis=1)
    return _with_age(values, ages)


def _with_age(values: pd.DataFrame, ages: np.ndarray) -> pd.DataFrame:
    """Each column followed by its age, NaN where the value is."""
    result: dict[str, np.ndarray] = {}
    for number, name in enumerate(values.columns):
        result[str(name)] = values[name].to_numpy()
        result[f"{name}{AGE}"] = np.where(values[name].isna(), np.nan, ages[:, number])
    return pd.DataFrame(result, index=values.index)
