"""What a table of fills cost in commission: by order, by tier, in the account's currency, to the cent."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import pandas as pd
from numba import njit

from tapeline.core.errors import ConfigurationError, DataError
from tapeline.strategy.costs import (
    Commission,
    CommissionSchedule,
    ExchangeRates,
    commission_of_part,
    rounded,
    traded_before,
)

_COLUMNS: Final = ("order", "quantity", "price", "maker")


@njit(cache=True, nogil=True)
def _charge(schedule: CommissionSchedule, order: Any, quantity: Any, price: Any, maker: Any, traded: Any) -> Any:
    charged = np.zeros(order.size)
    orders = order.max() + 1 if order.size else 0
    notional, money, paid = np.zeros(orders), np.zeros(orders), np.zeros(orders)
    for row in range(order.size):
        one = order[row]
        charged[row], notional[one], money[one] = commission_of_part(
            schedule, quantity[row], price[row], maker[row], traded[row], notional[one], money[one], paid[one]
        )
        paid[one] += charged[row]
    return charged


def transaction_costs(
    fills: pd.DataFrame,
    schedule: Commission,
    *,
    account: str | None = None,
    rates: ExchangeRates | None = None,
    increment: float = 0.01,
) -> pd.DataFrame:
    """The commission of each fill, in the schedule's currency and in the account's.

    Tiers by traded notional go by what these fills traded in the 30 whole UTC days before each. A minimum or maximum
    holds for the parts of one order together; each part is charged at its own rate.

    Parameters
    ----------
    fills:
        Of instruments priced in the schedule's currency, indexed by time: ``order`` (its number), ``quantity`` (its
        sign is ignored), ``price``, ``maker`` (whether it rested).
    account:
        The account's currency; the schedule's where absent.
    rates:
        Needed where the two differ; a commission is converted at the rate known at its fill, as money that is owed.
    increment:
        The smallest unit of the account's currency.

    Returns
    -------
    On the fills' index: ``notional`` and ``commission`` in the schedule's currency, ``traded`` (in 30 days before), and
    ``cost``, the commission in the account's currency, rounded.

    Raises
    ------
    ConfigurationError
        The currencies differ and there are no rates, or none for the pair.
    DataError
        Columns are missing, times decrease, or a quantity or price is not finite.

    Examples
    --------
    >>> at = pd.DatetimeIndex(["2024-01-02 10:00", "2024-01-02 11:00", "2024-01-02 12:00"], tz="UTC")
    >>> fills = pd.DataFrame({"order": [1, 1, 2], "quantity": [100, 150, -9], "price": 25.0, "maker": False}, index=at)
    >>> transaction_costs(fills, Commission(per_unit=0.005, minimum=1.0))["cost"].tolist()
    [1.0, 0.25, 1.0]
    """
    absent = [name for name in _COLUMNS if name not in fills.columns]
    if absent:
        raise DataError(f"the fills lack {', '.join(absent)}")
    quantity, price = (np.ascontiguousarray(fills[name], np.float64) for name in ("quantity", "price"))
    if not (np.isfinite(quantity) & np.isfinite(price)).all():
        raise DataError("a fill's quantity or price is not finite")
    at = pd.DatetimeIndex(fills.index)
    notional = np.abs(quantity * price) * schedule.multiplier
    traded = traded_before(at, notional)
    maker = np.ascontiguousarray(fills["maker"], np.bool_)
    number = pd.factorize(fills["order"])[0].astype(np.int64)
    if (number < 0).any():
        raise DataError(f"the fill at {at[int(np.argmin(number))]} names no order")
    charged = _charge(schedule.compiled(), number, quantity, price, maker, traded)
    if account in (None, schedule.currency):
        cost = np.array([rounded(each, increment) for each in charged], np.float64)
    elif rates is None:
        raise ConfigurationError(
            f"commission is in {schedule.currency}, the account in {account}, and there are no rates",
            hint=f"pass rates=ExchangeRates with {schedule.currency}{account}",
        )
    else:
        # What is owed is negative money, so that a markup makes it dearer.
        cost = -rates.convert(-charged, schedule.currency, str(account), at, increment=increment)
    return pd.DataFrame(
        {"notional": notional, "commission": charged, "traded": traded, "cost": cost + 0.0}, index=fills.index
    )
