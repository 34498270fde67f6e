"""What trading costs beside the price: commission by schedule, maker and taker, and money in another currency."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Final, Literal, NamedTuple

import numpy as np
import pandas as pd
from numba import njit
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from tapeline.core.errors import ConfigurationError, DataError
from tapeline.core.kernel_options import BORROWED
from tapeline.core.pit import asof_join

_PAIR: Final = re.compile(r"([A-Z]{3})([A-Z]{3})|([A-Z][A-Z0-9]{1,9})/([A-Z][A-Z0-9]{1,9})")

FLAT: Final = 0.0
BY_NOTIONAL: Final = 1.0
BY_TRADED: Final = 2.0
TIE: Final = 1e-6
"""Of the smallest unit of money: an amount so near to half a unit is half a unit, written in binary."""


class CommissionSchedule(NamedTuple):
    """What kernels take, made by :meth:`Commission.compiled`.

    Attributes
    ----------
    tiered:
        ``FLAT``, ``BY_NOTIONAL`` or ``BY_TRADED``.
    multiplier:
        Units of the underlying in one unit of quantity: the contract size.
    per_unit:
        Money for each unit of quantity.
    minimum, maximum_share, increment:
        Least money of an order, greatest share of its notional, smallest unit of money (0: not rounded).
    thresholds, maker, taker:
        From which notional or traded amount each tier holds, and its rates as shares of the notional. Arrays of one
        length; an infinite threshold is a tier that is never reached.
    """

    tiered: float
    multiplier: float
    per_unit: float
    minimum: float
    maximum_share: float
    increment: float
    thresholds: NDArray[np.float64]
    maker: NDArray[np.float64]
    taker: NDArray[np.float64]


@njit(cache=True, nogil=True)
def rounded(amount: float, increment: float) -> float:
    """``amount`` at the nearest multiple of ``increment``, halves away from 0; as it is where the increment is 0.

    Examples
    --------
    >>> [rounded(amount, 0.01) for amount in (1.005, -1.005, 2.344)], rounded(150.5, 1.0), rounded(0.123, 0.0)
    ([1.01, -1.01, 2.34], 151.0, 0.123)
    """
    if increment <= 0.0:
        return amount
    count = math.floor(abs(amount) / increment + 0.5 + TIE)
    # Dividing by 100 gives the double that is nearest to a number of cents; multiplying by 0.01 does not.
    inverse = round(1.0 / increment)
    money = count / inverse if abs(inverse * increment - 1.0) < 1e-12 else count * increment
    return math.copysign(money, amount)


@njit(**BORROWED)
def commission(schedule: CommissionSchedule, quantity: float, price: float, maker: bool, traded: float = 0.0) -> float:
    """The commission of one order in the schedule's currency: positive is paid, negative a rebate.

    The rate of the tier times the notional, plus the money per unit; then at least the minimum, then at most the
    maximum (which so wins over the minimum), then rounded.

    Parameters
    ----------
    schedule:
        A :class:`CommissionSchedule`.
    quantity:
        Units traded; its sign is ignored.
    price:
        Of one unit of the underlying; its sign is ignored.
    maker:
        Whether the order rested in the book.
    traded:
        Notional traded in the last 30 days, before this order; used where the tiers go by it.

    Returns
    -------
    The money, 0 for a quantity of 0. Of an order filled in parts see :func:`commission_of_part`.

    Examples
    --------
    The printed examples of Interactive Brokers' fixed pricing: 0.005 a share, at least 1, at most 1% of the trade.

    >>> schedule = Commission(per_unit=0.005, minimum=1.0, maximum_share=0.01).compiled()
    >>> [commission(schedule, *order, False) for order in ((100, 25.0), (1000, 25.0), (1000, 0.25), (10, 0.20))]
    [1.0, 5.0, 2.5, 0.02]
    """
    fee, _, _ = commission_of_part(schedule, quantity, price, maker, traded, 0.0, 0.0, 0.0)
    return fee


@njit(**BORROWED)
def commission_of_part(
    schedule: CommissionSchedule,
    quantity: float,
    price: float,
    maker: bool,
    traded: float,
    notional_before: float,
    money_before: float,
    charged_before: float,
) -> Any:
    """The commission of a further fill of one order: that of all filled so far, less what was charged.

    So a minimum is charged once an order, tiers by notional go by the whole order, and rounding errors of parts do not
    add up. A part that rested and one that took liquidity have each their own rate.

    Parameters
    ----------
    quantity, price, maker, traded:
        Of this part; see :func:`commission`.
    notional_before, money_before, charged_before:
        Sums over the parts before: their notional, their money before minimum, maximum and rounding, and what was
        charged; 0 for the first.

    Returns
    -------
    ``(commission, notional, money)``: of this part, and the two sums with it.

    Examples
    --------
    >>> schedule = Commission(per_unit=0.005, minimum=1.0).compiled()
    >>> first = commission_of_part(schedule, 100.0, 25.0, False, 0.0, 0.0, 0.0, 0.0)
    >>> first, commission_of_part(schedule, 150.0, 25.0, False, 0.0, first[1], first[2], first[0])[0]
    ((1.0, 2500.0, 0.5), 0.25)
    """
    units = abs(quantity)
    part = units * abs(price) * schedule.multiplier
    notional = notional_before + part
    rates = schedule.maker if maker else schedule.taker
    money = units * schedule.per_unit
    if schedule.tiered == BY_NOTIONAL:
        # Each part of the notional at the rate of its own tier, so that more is never cheaper in all.
        for tier in range(rates.size):
            start = max(schedule.thresholds[tier], notional_before)
            end = schedule.thresholds[tier + 1] if tier + 1 < rates.size else math.inf
            if notional > start and end > start:
                money += (min(notional, end) - start) * rates[tier]
    else:
        tier = 0
        if schedule.tiered == BY_TRADED:
            while tier + 1 < rates.size and traded >= schedule.thresholds[tier + 1]:
                tier += 1
        money += part * rates[tier]
    money += money_before
    if units == 0.0:
        return 0.0, notional, money
    whole = max(money, schedule.minimum)
    if schedule.maximum_share < math.inf:
        whole = min(whole, schedule.maximum_share * notional)
    return rounded(rounded(whole, schedule.increment) - charged_before, schedule.increment), notional, money


def traded_before(at: pd.DatetimeIndex, notional: Any, *, days: int = 30) -> NDArray[np.float64]:
    """What was traded in the ``days`` whole UTC days before the day of each fill: what tiers ``traded`` go by.

    The day itself does not count, as venues set an account's tier once a day.

    Parameters
    ----------
    at:
        Times of fills; must not decrease.
    notional:
        Of each fill; its sign is ignored.

    Examples
    --------
    >>> at = pd.DatetimeIndex(["2024-01-01 10:00", "2024-01-01 11:00", "2024-01-31 00:00", "2024-02-01"], tz="UTC")
    >>> traded_before(at, [1.0, 2.0, 4.0, 8.0]).tolist()
    [0.0, 0.0, 3.0, 4.0]
    """
    stamps = at.as_unit("ns").asi8
    if (np.diff(stamps) < 0).any():
        raise DataError("the times of fills decrease", hint="sort them first")
    day = stamps // 86_400_000_000_000
    total = np.r_[0.0, np.cumsum(np.abs(np.asarray(notional, np.float64)))]
    return total[np.searchsorted(day, day)] - total[np.searchsorted(day, day - days)]


class Tier(BaseModel):
    """Rates from a notional, or an amount traded in 30 days, on; negative rates are rebates."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    threshold: float = Field(0.0, ge=0, description="in the schedule's currency")
    maker_bps: float = Field(ge=-1000, le=10_000)
    taker_bps: float = Field(ge=-1000, le=10_000)


class Commission(BaseModel):
    """A schedule of commissions; the numbers are the user's, from his venue's published table.

    Parameters
    ----------
    maker_bps, taker_bps:
        Basis points of the notional a side, where there are no tiers.
    per_unit:
        Money for each unit of quantity: a share, a contract, a lot.
    minimum:
        Least money of an order; none where absent, so that rebates are paid.
    maximum_share:
        Greatest share of the notional; it wins over the minimum.
    tiers:
        Instead of maker_bps and taker_bps; the first begins at 0.
    tiered_by:
        ``notional``: each part of an order's notional at the rate of its tier. ``traded``: all of it at the rate of the
        tier that the notional traded in the 30 days before has reached.
    currency:
        Of all money here.
    increment:
        Its smallest unit: 0.01 for most, 1 for yen, 0 where commission is not rounded, as on exchanges of coins.
        Halves are rounded away from 0.
    multiplier:
        Contract size: units of the underlying in one unit of quantity.

    Examples
    --------
    >>> table = Commission(tiered_by="traded", tiers=(
    ...     Tier(threshold=0, maker_bps=2, taker_bps=5), Tier(threshold=15e6, maker_bps=1.6, taker_bps=4)))
    >>> [round(commission(table.compiled(), 1.0, 60_000.0, False, traded), 2) for traded in (0.0, 15e6)]
    [30.0, 24.0]
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    maker_bps: float = Field(0.0, ge=-1000, le=10_000)
    taker_bps: float = Field(0.0, ge=-1000, le=10_000)
    per_unit: float = Field(0.0, ge=0)
    minimum: float | None = Field(None, ge=0)
    maximum_share: float | None = Field(None, gt=0, le=1)
    tiers: tuple[Tier, ...] = Field((), max_length=100)
    tiered_by: Literal["notional", "traded"] = "traded"
    currency: str = Field("USD", pattern=r"^[A-Z][A-Z0-9]{1,9}$")
    increment: float = Field(0.01, ge=0, le=1000)
    multiplier: float = Field(1.0, gt=0)

    @model_validator(mode="after")
    def _ordered(self) -> Commission:
        thresholds = [tier.threshold for tier in self.tiers]
        if thresholds and thresholds[0] != 0:
            raise ValueError(f"the first tier begins at {thresholds[0]:g}, not at 0")
        if any(later <= earlier for earlier, later in itertools.pairwise(thresholds)):
            raise ValueError(f"the thresholds of the tiers must increase, were {thresholds}")
        if self.tiers and (self.maker_bps or self.taker_bps):
            raise ValueError("maker_bps and taker_bps stand beside tiers, which hold their own")
        return self

    def compiled(self) -> CommissionSchedule:
        """What kernels take."""
        tiers = self.tiers or (Tier(threshold=0.0, maker_bps=self.maker_bps, taker_bps=self.taker_bps),)
        tiered = BY_NOTIONAL if self.tiered_by == "notional" else BY_TRADED
        return CommissionSchedule(
            tiered=tiered if self.tiers else FLAT,
            multiplier=self.multiplier,
            per_unit=self.per_unit,
            minimum=-math.inf if self.minimum is None else self.minimum,
            maximum_share=math.inf if self.maximum_share is None else self.maximum_share,
            increment=self.increment,
            thresholds=np.array([tier.threshold for tier in tiers], np.float64),
            maker=np.array([tier.maker_bps / 1e4 for tier in tiers], np.float64),
            taker=np.array([tier.taker_bps / 1e4 for tier in tiers], np.float64),
        )


def parse_commission(values: dict[str, Any]) -> Commission:
    """Read a schedule from a file's table.

    Raises
    ------
    ConfigurationError
        A name is unknown, a value out of its bounds, or tiers out of order.
    """
    try:
        return Commission.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise ConfigurationError(f"commission '{place}': {first['msg']}", hint="see docs/costs.md") from None


class ExchangeRates:
    """Money of one currency in another, at the rate that was known.

    A pair that was not given is found as the inverse of one that was, or as the shortest chain of such (of two of one
    length the first by the alphabet): EUR to JPY over USD from EURUSD and USDJPY.

    Parameters
    ----------
    quotes:
        By pair, as ``"EURUSD"`` or ``"BTC/USDT"``: units of the second currency for one of the first, indexed by when
        each rate was known (of bars: their close, not their open).
    tolerance:
        The greatest age at which a rate may still be used; any age where absent.
    markup_bps:
        What the broker keeps of each conversion, in basis points, against whoever converts.

    Raises
    ------
    ConfigurationError
        A pair that is none, or a markup out of bounds.
    DataError
        A rate that is not positive and finite, or an index that is no time.

    Examples
    --------
    >>> known = pd.DatetimeIndex(["2017-01-02", "2017-01-03"], tz="UTC")
    >>> rates = ExchangeRates({"EURUSD": pd.Series([1.0, 1.25], known), "USDJPY": pd.Series([100.0, 120.0], known)})
    >>> noon = pd.DatetimeIndex(["2017-01-02 12:00", "2017-01-03 12:00"], tz="UTC")
    >>> rates.rates("EUR", "JPY", noon).tolist(), rates.convert([10.0, 10.0], "USD", "EUR", noon).tolist()
    ([100.0, 150.0], [10.0, 8.0])
    """

    def __init__(
        self, quotes: Mapping[str, pd.Series], *, tolerance: timedelta | None = None, markup_bps: float = 0.0
    ) -> None:
        if not 0 <= markup_bps <= 10_000:
            raise ConfigurationError(f"markup_bps = {markup_bps} must be from 0 to 10000")
        self._tolerance, self._markup = tolerance, markup_bps / 1e4
        self._quotes: dict[tuple[str, str], pd.Series] = {}
        for pair, quote in quotes.items():
            values = quote.to_numpy(np.float64)
            if not (np.isfinite(values) & (values > 0)).all():
                raise DataError(f"rate {pair}: {values[~(values > 0)][:1]} is not positive", hint="drop such rows")
            self._quotes[_pair(pair)] = quote

    def rates(self, base: str, quote: str, at: pd.DatetimeIndex) -> NDArray[np.float64]:
        """Units of ``quote`` for one of ``base`` at each instant, in any order of instants.

        Raises
        ------
        ConfigurationError
            No chain of pairs joins the two.
        DataError
            At some instant a pair of the chain had no rate yet, or one older than the tolerance.
        """
        found = np.ones(len(at))
        order = np.argsort(at.as_unit("ns").asi8, kind="stable")
        for pair, inverse in self._chain(base, quote):
            rates = self._quotes[pair]
            known = pd.DatetimeIndex(rates.index)
            left, right = pd.DataFrame(index=at[order]), pd.DataFrame({"rate": rates.to_numpy(np.float64)})
            joined = asof_join(left, right, at=at[order], known_at=known, tolerance=self._tolerance)
            values = joined["rate"].to_numpy(np.float64)
            if np.isnan(values).any():
                when = at[order][int(np.argmax(np.isnan(values)))]
                raise DataError(
                    f"{'/'.join(pair)} has no rate at {when}", hint="give rates from before it, or a longer tolerance"
                )
            found[order] *= 1.0 / values if inverse else values
        return found

    def convert(
        self, amounts: Any, base: str, quote: str, at: pd.DatetimeIndex, *, increment: float = 0.0
    ) -> NDArray[np.float64]:
        """Amounts of ``base`` in ``quote``, rounded to ``increment``.

        What is received is less by the markup, what is owed (negative) more.
        """
        amounts = np.asarray(amounts, np.float64)
        if base == quote:
            return np.array([rounded(each, increment) for each in amounts])
        with_markup = np.where(amounts < 0, 1.0 + self._markup, 1.0 - self._markup)
        money = amounts * self.rates(base, quote, at) * with_markup
        return np.array([rounded(each, increment) for each in money])

    def _chain(self, base: str, quote: str) -> list[tuple[tuple[str, str], bool]]:
        reached: dict[str, list[tuple[tuple[str, str], bool]]] = {base: []}
        waiting = [base]
        while waiting and quote not in reached:
            here = waiting.pop(0)
            legs = [(b, (a, b), False) for a, b in self._quotes if a == here]
            legs += [(a, (a, b), True) for a, b in self._quotes if b == here]
            for there, pair, inverse in sorted(legs, key=lambda leg: (leg[0], leg[2])):
                if there not in reached:
                    reached[there] = [*reached[here], (pair, inverse)]
                    waiting.append(there)
        if quote not in reached:
            held = ", ".join("/".join(pair) for pair in self._quotes) or "none"
            raise ConfigurationError(
                f"no rate for {base}/{quote}", hint=f"give {base}{quote}, or a chain; held: {held}"
            )
        return reached[quote]


def _pair(text: str) -> tuple[str, str]:
    found = _PAIR.fullmatch(text)
    if not found:
        raise ConfigurationError(f"pair {text!r} is none", hint="as EURUSD, or BTC/USDT where a code has not 3 letters")
    base, quote = (found[1], found[2]) if found[1] else (found[3], found[4])
    if base == quote:
        raise ConfigurationError(f"pair {text!r} names one currency twice")
    return base, quote
