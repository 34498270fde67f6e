"""Explanations: what looks like a fault in raw prices and is a split, a dividend or another company's row.

A filter that sees prices alone would delete a reverse split as an outlier. Corporate actions say what it was; the row
stays, with its reason.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import pandas as pd

from tapeline.cleaning.outlier_methods import flag_outliers, outlier_bounds
from tapeline.core.errors import ConfigurationError, DataError
from tapeline.sources.corporate_actions import CorporateActions, own_sessions, session_dates

COLUMNS: Final = ("ts", "change", "explanation", "detail", "unexplained", "known_at")
EXPLANATIONS: Final = ("ticker_reuse", "other_company", "split", "dividend", "absence", "unexplained")

LONG_ABSENCE: Final = pd.Timedelta(days=7)
"""After a hole of this length a step of the price is what happened meanwhile."""

_LEFT: Final = 0.25


def explain_jumps(
    bars: pd.DataFrame,
    actions: CorporateActions,
    *,
    ticker: str | None = None,
    threshold: float = 10.0,
    flagged: np.ndarray | None = None,
) -> pd.DataFrame:
    """Say of each unusual step of raw closes what it was.

    A step is explained, in this order, by a change of company under the ticker (``ticker_reuse``) or as one within
    another company's rows (``other_company``), by splits or
    dividends between the two closes whose ratio leaves no more than a quarter of it, or no more than the bounds allow,
    and by a long ``absence`` of bars before it. The rest is ``unexplained``, and that alone is for an outlier filter.

    Parameters
    ----------
    bars:
        Sorted daily or shorter bars with raw closes.
    actions:
        The splits, dividends and tickers of the security that the bars are meant to be.
    ticker:
        The ticker whose file the bars come from; the security's own name where absent.
    threshold:
        Robust standard deviations of the last 100 changes from which on a step is unusual.
    flagged:
        The rows to explain instead, one boolean a row.

    Returns
    -------
    One row an unusual step: ``ts``, ``change`` (log), ``explanation``, ``detail`` in words, ``unexplained`` (the log
    change that the action leaves) and ``known_at``, from when the explanation can be given: the bar's own time, or the
    action's where that is later.

    Raises
    ------
    ConfigurationError
        The flags are not as many as the bars.
    DataError
        The bars lack ``close`` or are not sorted and unique.

    Examples
    --------
    >>> factors = pd.DataFrame({"price_factor": 1.0, "split_factor": [20.0, 1.0], "reference_price": [1.16, 0.0]},
    ...                        index=pd.DatetimeIndex(["2009-06-30", "2050-12-31"], name="date"))
    >>> ts = pd.date_range("2009-05-01", "2009-07-02", freq="B", tz="UTC", name="ts")
    >>> close = np.where(ts < pd.Timestamp("2009-07-01", tz="UTC"), 1.0, 20.0) + 0.01 * np.sin(np.arange(len(ts)))
    >>> found = explain_jumps(pd.DataFrame({"close": close}, index=ts), CorporateActions("aig", (), factors))
    >>> found[["explanation", "detail"]].values.tolist()
    [['split', 'split of 2009-07-01: 1 new for 20 old']]
    """
    if "close" not in bars.columns:
        raise DataError("the bars lack the column close")
    index = pd.DatetimeIndex(bars.index)
    if (np.diff(index.asi8) <= 0).any():
        raise DataError("the bars are not sorted and unique in time")
    close = np.log(bars["close"].to_numpy(dtype=np.float64))
    change = np.diff(close, prepend=np.nan)
    bounds = outlier_bounds(change, "hampel", threshold=threshold)
    if flagged is None:
        flagged = flag_outliers(change, bounds)
    elif len(flagged) != len(bars):
        raise ConfigurationError(f"there are {len(flagged)} flags for {len(bars)} bars")
    own = index.isin(own_sessions(bars, actions, ticker=ticker or actions.symbol).index)
    dates = session_dates(index)
    table = actions.actions()
    rows = []
    for row in np.flatnonzero(flagged).tolist():
        if row == 0:
            continue
        known = index[row]
        between = table[(table["last_session"] >= dates[row - 1]) & (table["last_session"] < dates[row])]
        left = float(change[row] - np.log(between["ratio"].to_numpy(dtype=np.float64)).sum())
        reach = float(bounds.upper[row] - bounds.centre[row]) if np.isfinite(bounds.upper[row]) else 0.0
        enough = abs(left) <= max(_LEFT * abs(change[row]), reach)
        if own[row] != own[row - 1]:
            kind, detail, left = "ticker_reuse", _company(actions, dates[row], bool(own[row])), 0.0
        elif not own[row]:
            kind, detail, left = "other_company", f"not a row of {actions.symbol.upper()}", 0.0
        elif len(between) and enough:
            kind = "split" if (between["kind"] == "split").any() else "dividend"
            detail = "; ".join(_action(action, dates[row]) for _, action in between.iterrows())
            known = max(known, between["known_at"].max())
        elif index[row] - index[row - 1] > LONG_ABSENCE:
            kind, left = "absence", float(change[row])
            detail = f"no bar for {(index[row] - index[row - 1]).days} days before"
        else:
            kind, detail, left = "unexplained", "no corporate action on this day", float(change[row])
        rows.append((index[row], float(change[row]), kind, detail, left, known))
    out = pd.DataFrame(rows, columns=list(COLUMNS))
    return out.astype({"ts": "datetime64[ns, UTC]", "known_at": "datetime64[ns, UTC]"})


def _company(actions: CorporateActions, date: pd.Timestamp, own: bool) -> str:
    name = actions.symbol.upper()
    return f"from here on {name}; the rows before are another company's" if own else f"no longer {name}'s rows"


def _action(action: pd.Series, date: pd.Timestamp) -> str:
    ratio = float(action["ratio"])
    if action["kind"] == "dividend":
        return f"dividend of {date:%Y-%m-%d}: {1 - ratio:.2%} of the price"
    shares = f"1 new for {ratio:g} old" if ratio > 1 else f"{1 / ratio:g} new for 1 old"
    return f"split of {date:%Y-%m-%d}: {shares}"
