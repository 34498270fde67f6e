"""How far trades move price for good: Hasbrouck's vector autoregression and Kyle's lambda, fitted to a tape."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from tapeline.core.errors import ConfigurationError, DataError
from tapeline.features.arrays import Floats

MAXIMUM_LAGS: Final = 100
MAXIMUM_HORIZON: Final = 10_000


@dataclass(frozen=True)
class TradeResponse:
    """What a trade that nobody expected does to the quote.

    Parameters
    ----------
    path:
        Expected change of the quote since before the trade, after the trade itself and after each of the following
        ones, in units of the quote per unit of trade.
    r_squared:
        Share of the variance of the changes of the quote that the fit explains.
    """

    path: Floats
    r_squared: float

    @property
    def impact(self) -> float:
        """The change at the end of the path: the information in the trade, once what is passing has passed."""
        return float(self.path[-1])


def hasbrouck_response(changes: Any, trades: Any, *, lags: int = 5, horizon: int = 20) -> TradeResponse:
    """Hasbrouck's measure of the information in trades: the cumulative response of the quote to a trade's surprise.

    With r the change of the middle of the quote that follows a trade x::

        r[t] = sum a[i] r[t-i] (i = 1..lags) + sum b[i] x[t-i] (i = 0..lags) + v1[t]
        x[t] = sum c[i] r[t-i] (i = 1..lags) + sum d[i] x[t-i] (i = 1..lags) + v2[t]

    both by least squares; the response is that of r to v2 of 1, added up. Fitted to a whole tape: use it on what comes
    after that tape.

    Parameters
    ----------
    changes:
        r, in the order of the trades: of the log of the middle for a response in returns.
    trades:
        x: signs, signed sizes or signed roots of value.
    lags, horizon:
        Trades looked back on, and trades the response is followed for.

    Raises
    ------
    ConfigurationError
        Lags or horizon out of bounds.
    DataError
        Lengths differ, a value is not finite, too few trades for the lags, or one side that does not vary.

    References
    ----------
    Hasbrouck, Measuring the Information Content of Stock Trades, Journal of Finance 46 (1991), sections I and II.

    Examples
    --------
    >>> trades = np.random.default_rng(0).choice([-1.0, 1.0], 500)
    >>> round(hasbrouck_response(0.5 * trades, trades, lags=1, horizon=3).impact, 1)
    0.5
    """
    if not 1 <= lags <= MAXIMUM_LAGS:
        raise ConfigurationError(f"lags = {lags} must be from 1 to {MAXIMUM_LAGS}")
    if not 0 <= horizon <= MAXIMUM_HORIZON:
        raise ConfigurationError(f"horizon = {horizon} must be from 0 to {MAXIMUM_HORIZON}")
    r, x = _pair(changes, trades, fewest=10 * (2 * lags + 1))
    size = r.size - lags
    before = [values[lags - i : lags - i + size] for values in (r, x) for i in range(1, lags + 1)]
    past = np.column_stack(before)
    now_r, now_x = r[lags:], x[lags:]
    with_now = np.column_stack((now_x, past))
    of_r = np.linalg.lstsq(with_now, now_r, rcond=None)[0]
    of_x = np.linalg.lstsq(past, now_x, rcond=None)[0]
    unexplained = now_r - with_now @ of_r
    shock_r, shock_x = np.zeros(horizon + 1 + lags), np.zeros(horizon + 1 + lags)
    for t in range(lags, horizon + 1 + lags):
        history = np.concatenate((shock_r[t - lags : t][::-1], shock_x[t - lags : t][::-1]))
        shock_x[t] = 1.0 if t == lags else history @ of_x
        shock_r[t] = of_r[0] * shock_x[t] + history @ of_r[1:]
    share = 1.0 - float(np.sum(unexplained**2) / np.sum((now_r - now_r.mean()) ** 2))
    return TradeResponse(np.cumsum(shock_r[lags:]), share)


def kyle_lambda(changes: Any, flow: Any) -> float:
    """Kyle's lambda: by how much price changes a unit of net order flow, the slope of least squares.

    Parameters
    ----------
    changes:
        Changes of price over intervals.
    flow:
        Bought less sold in the same intervals: ``delta`` of :class:`tapeline.features.trade_flow.TradeFlow`. Given its
        ``signed_root_value`` and log returns it is the lambda of Hasbrouck, Journal of Finance 64 (2009), section III.

    Raises
    ------
    DataError
        Lengths differ, a value is not finite, fewer than 10 intervals, or one side that does not vary.

    References
    ----------
    Kyle, Continuous Auctions and Insider Trading, Econometrica 53 (1985), theorem 1; by regression as in Glosten and
    Harris, Journal of Financial Economics 21 (1988).

    Examples
    --------
    >>> flow = np.arange(20.0)
    >>> round(kyle_lambda(0.25 * flow + 3.0, flow), 6)
    0.25
    """
    y, x = _pair(changes, flow, fewest=10)
    away = x - x.mean()
    return float(away @ (y - y.mean()) / (away @ away))


def _pair(changes: Any, flow: Any, *, fewest: int) -> tuple[Floats, Floats]:
    y, x = (np.asarray(values, dtype=np.float64) for values in (changes, flow))
    if y.ndim != 1 or y.shape != x.shape:
        raise DataError(f"{y.shape} changes do not go with {x.shape} of flow")
    if y.size < fewest:
        raise DataError(f"{y.size} rows are too few, {fewest} are needed", hint="take a longer tape or fewer lags")
    for name, values in (("changes", y), ("flow", x)):
        if not np.isfinite(values).all():
            raise DataError(f"{name}: row {int((~np.isfinite(values)).argmax())} is not finite")
        if np.ptp(values) == 0.0:
            raise DataError(f"{name} do not vary")
    return y, x
