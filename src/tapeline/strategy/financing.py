"""What holding a position costs: borrow fees of shorts, funding of perpetuals, swaps at the rollover."""

from __future__ import annotations

from datetime import date
from typing import Annotated, Any, Final, Literal, NamedTuple
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import numpy as np
import pandas as pd
from numba import njit
from numpy.typing import NDArray
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from tapeline.core.errors import ConfigurationError, DataError

WEDNESDAY: Final = 2
FRIDAY: Final = 4


class FinancingTerms(NamedTuple):
    """What kernels take, made by :meth:`Financing.compiled`.

    Attributes
    ----------
    borrow_per_day:
        Share of a short's notional that it costs a day.
    swap_long, swap_short:
        Money received for one unit of quantity a night; negative is paid.
    """

    borrow_per_day: float = 0.0
    swap_long: float = 0.0
    swap_short: float = 0.0


@njit(cache=True, nogil=True)
def borrow_payment(quantity: float, price: float, per_day: float, days: float) -> float:
    """Money that a position receives (negative: pays) for what it has borrowed, over calendar days.

    A long position has borrowed nothing. ``per_day`` is the annual rate over 360 or 365.

    Examples
    --------
    1,000 shares short at 50 and 3.6% a year on ACT/360, over a weekend: 50,000 * 0.036 / 360 * 3.

    >>> round(borrow_payment(-1000.0, 50.0, 0.036 / 360, 3.0), 9), borrow_payment(1000.0, 50.0, 0.036 / 360, 3.0)
    (-15.0, 0.0)
    """
    if quantity >= 0.0:
        return 0.0
    return quantity * abs(price) * per_day * days


@njit(cache=True, nogil=True)
def funding_payment(quantity: float, mark_price: float, rate: float) -> float:
    """Money that a perpetual position receives (negative: pays) at a funding stamp.

    ``- quantity * mark_price * rate``: where the rate is positive longs pay shorts. ``rate`` may be the sum of several
    stamps' rates.

    Examples
    --------
    >>> funding_payment(10.0, 11_000.0, 0.0001), funding_payment(-10.0, 11_000.0, 0.0001)
    (-11.0, 11.0)
    """
    return -quantity * mark_price * rate


@njit(cache=True, nogil=True)
def swap_payment(quantity: float, swap_long: float, swap_short: float, nights: float) -> float:
    """Money that a position receives (negative: pays) at the rollover, by its side; each rate is for a unit and night.

    Examples
    --------
    One lot of EURUSD (100,000) at -7.5 points of 0.00001 for a long and 2.5 for a short, on the triple day.

    >>> [round(swap_payment(units, -7.5e-5, 2.5e-5, 3.0), 9) for units in (100_000.0, -100_000.0)]
    [-22.5, 7.5]
    """
    return abs(quantity) * (swap_long if quantity > 0.0 else swap_short) * nights


@njit(cache=True, nogil=True)
def financing(terms: FinancingTerms, quantity: float, price: float, days: float, nights: float, rate: float) -> float:
    """Money that a position receives (negative: pays) for having been held until a bar's open.

    The sum of :func:`borrow_payment`, :func:`swap_payment` and :func:`funding_payment`, in the instrument's currency.
    Book it at the open of a bar, on the quantity carried into it, before its fills; ``days``, ``nights`` and ``rate``
    are those of :class:`Carry` for that bar.

    Examples
    --------
    >>> financing(Financing(borrow_rate=0.0365).compiled(), -10.0, 100.0, 1.0, 0.0, -0.001)
    -1.1
    """
    if quantity == 0.0:
        return 0.0
    money = borrow_payment(quantity, price, terms.borrow_per_day, days)
    money += swap_payment(quantity, terms.swap_long, terms.swap_short, nights)
    return money + funding_payment(quantity, price, rate)


def _zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(f"time zone {name!r} is unknown") from None
    return name


class Financing(BaseModel):
    """An instrument's terms; the numbers are the broker's or the venue's.

    Parameters
    ----------
    borrow_rate:
        Annual fee on a short's notional, 0.03 is 3%; accrued each calendar day.
    day_count:
        Days of the year by which it is divided: ACT/360 (money markets, most prime brokers) or ACT/365.
    swap_long, swap_short:
        Points a night for a position of either side, as a broker states them: positive is received.
    point_value:
        Money of one point for one unit of quantity: the point times the contract size.
    triple_day:
        Weekday (Monday 0) whose rollover counts three nights, for the weekend after it: Wednesday where trades settle
        after two days, Thursday after one (USDCAD), Friday for most indices.
    rollover_hour, rollover_zone:
        When a day ends: 17:00 in New York, which is 22:00 UTC in winter and 21:00 in summer.
    holidays:
        Local dates without a rollover of their own: their nights are charged with the last rollover before them that is
        on no holiday and no weekend.

    Examples
    --------
    >>> Financing(swap_long=-7.5, swap_short=2.5, point_value=1e-5 * 100_000).compiled().swap_long
    -7.5
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    borrow_rate: float = Field(0.0, ge=0, le=100)
    day_count: Literal[360, 365] = 365
    swap_long: float = 0.0
    swap_short: float = 0.0
    point_value: float = Field(1.0, gt=0)
    triple_day: int = Field(WEDNESDAY, ge=0, le=FRIDAY)
    rollover_hour: int = Field(17, ge=0, le=23)
    rollover_zone: Annotated[str, Field(max_length=64), AfterValidator(_zone)] = "America/New_York"
    holidays: tuple[date, ...] = ()

    def compiled(self) -> FinancingTerms:
        """What kernels take."""
        return FinancingTerms(
            borrow_per_day=self.borrow_rate / self.day_count,
            swap_long=self.swap_long * self.point_value,
            swap_short=self.swap_short * self.point_value,
        )

    def rollovers(self, start: pd.Timestamp, end: pd.Timestamp) -> pd.Series:
        """The nights of each rollover after ``start`` and up to ``end``, indexed by its instant in UTC.

        One a weekday, three on the triple day, none on Saturday and Sunday, so seven a week; a holiday's are moved to
        the last trading day before it. A day whose rollover hour the clocks skip rolls at the next hour that exists;
        where they show it twice, at the first.

        Examples
        --------
        The clocks of New York went forward on Sunday, 10 March 2024.

        >>> week = pd.Timestamp("2024-03-06 12:00", tz="UTC"), pd.Timestamp("2024-03-12 12:00", tz="UTC")
        >>> nights = Financing().rollovers(*week)
        >>> [f"{instant:%a %H}:{nights[instant]}" for instant in nights.index]
        ['Wed 22:3', 'Thu 22:1', 'Fri 22:1', 'Sat 22:0', 'Sun 21:0', 'Mon 21:1']
        """
        free = pd.DatetimeIndex(self.holidays).normalize()
        # So many days more on the right that holidays up to the last day wanted can hand their nights back.
        first, last = (each.tz_convert(self.rollover_zone).tz_localize(None).normalize() for each in (start, end))
        days = pd.date_range(first - pd.Timedelta(days=1), last + pd.Timedelta(days=31), freq="D")
        nights = np.select([days.day_of_week == self.triple_day, days.day_of_week > FRIDAY], [3, 0], 1)
        trading = (days.day_of_week <= FRIDAY) & ~days.isin(free)
        # A day that does not trade hands its nights to the newest trading day before it.
        owner = np.maximum.accumulate(np.where(trading, np.arange(len(days)), -1))
        owned = owner >= 0
        charged = np.bincount(owner[owned], weights=nights[owned], minlength=len(days)).astype(np.int64)
        local = (days + pd.Timedelta(hours=self.rollover_hour)).tz_localize(
            self.rollover_zone, nonexistent="shift_forward", ambiguous=np.ones(len(days), bool)
        )
        found = pd.Series(charged, index=local.tz_convert("UTC").as_unit("ns"), name="nights")
        return found[(found.index > start) & (found.index <= end)]

    def carry(self, opens: pd.DatetimeIndex, funding: pd.Series | None = None) -> Carry:
        """What each bar's :func:`financing` needs, for bars that open at ``opens``.

        Parameters
        ----------
        opens:
            Open times, increasing.
        funding:
            Rates of a perpetual, indexed by their stamps. Some sources stamp them milliseconds after the hour, which is
            after that hour's open: round such stamps first.

        Returns
        -------
        A :class:`Carry`. What falls after one open and up to the next, that one included, is charged at the next: a
        position opened at a bar's open does not pay for a stamp at that very instant, one closed at it does. Whatever
        lies up to the first open is charged to nobody.

        Raises
        ------
        DataError
            Opens that do not increase; a funding rate that is not finite, or two of one stamp.

        Examples
        --------
        >>> opens = pd.date_range("2024-01-03 20:00", periods=4, freq="1h", tz="UTC")
        >>> stamps = pd.Series([0.0001, 0.0003], pd.DatetimeIndex(["2024-01-03 20:00", "2024-01-03 22:30"], tz="UTC"))
        >>> carry = Financing().carry(opens, stamps)
        >>> carry.nights.tolist(), carry.days.tolist(), carry.rate.tolist()
        ([0.0, 0.0, 3.0, 0.0], [0.0, 0.0, 1.0, 0.0], [0.0, 0.0, 0.0, 0.0003])
        """
        if opens.tz is None:
            raise DataError("the opens of bars have no time zone", hint="bars are indexed in UTC")
        if len(opens) and not (opens.is_monotonic_increasing and opens.is_unique):
            raise DataError("the opens of bars must increase", hint="sort the bars and drop repeated ones")
        nights = self.rollovers(opens[0], opens[-1]) if len(opens) else pd.Series(dtype=np.float64)
        rate = np.zeros(len(opens))
        if funding is not None and len(funding):
            if not np.isfinite(funding.to_numpy(np.float64)).all():
                raise DataError("a funding rate is not finite", hint="drop such rows")
            if not funding.index.is_unique:
                raise DataError(f"two funding rates at {funding.index[funding.index.duplicated()][0]}")
            rate = _by_bar(opens, pd.DatetimeIndex(funding.index), funding.to_numpy(np.float64))
        stamps = pd.DatetimeIndex(nights.index)
        return Carry(
            days=_by_bar(opens, stamps, np.ones(len(nights))),
            nights=_by_bar(opens, stamps, nights.to_numpy(np.float64)),
            rate=rate,
        )

    def position_rates(
        self, opens: pd.DatetimeIndex, close: NDArray[Any], funding: pd.Series | None = None
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """What a long and a short position pay at each open, as a share of their value at the close before.

        The same money as :func:`financing` at that close; negative is received. For an engine that has two rates a bar
        and does not know of days, nights and stamps. 0 at the first bar.

        Parameters
        ----------
        opens, funding:
            As for :meth:`carry`.
        close:
            The close of each bar, positive.

        Examples
        --------
        >>> opens = pd.date_range("2024-01-02 12:00", periods=3, freq="1D", tz="UTC")
        >>> rates = Financing(swap_long=-0.5, swap_short=0.25).position_rates(opens, np.array([100.0, 50.0, 60.0]))
        >>> [rate.tolist() for rate in rates]
        [[0.0, 0.005, 0.03], [0.0, -0.0025, -0.015]]
        """
        close = np.asarray(close, np.float64)
        if close.shape != (len(opens),) or not (close > 0).all():
            raise DataError(f"{close.size} closes for {len(opens)} bars, or one that is not positive")
        terms, carry = self.compiled(), self.carry(opens, funding)
        before = np.r_[np.inf, close[:-1]] if close.size else close
        long_rate = carry.rate - terms.swap_long * carry.nights / before
        short_rate = terms.borrow_per_day * carry.days - terms.swap_short * carry.nights / before - carry.rate
        return long_rate + 0.0, short_rate + 0.0


class Carry(NamedTuple):
    """By bar, what a position carried into it is charged for: arrays of one length.

    Attributes
    ----------
    days:
        Calendar days that ended, weekends included: for borrow.
    nights:
        Nights of swap.
    rate:
        Sum of funding rates.
    """

    days: NDArray[np.float64]
    nights: NDArray[np.float64]
    rate: NDArray[np.float64]


def _by_bar(opens: pd.DatetimeIndex, stamps: pd.DatetimeIndex, values: NDArray[np.float64]) -> NDArray[np.float64]:
    total = np.zeros(len(opens))
    if not len(opens) or not len(stamps):
        return total
    bar = np.searchsorted(opens.as_unit("ns").asi8, stamps.as_unit("ns").asi8, side="left")
    held = (bar > 0) & (bar < len(opens))
    np.add.at(total, bar[held], values[held])
    return total


def parse_financing(values: dict[str, Any]) -> Financing:
    """Read terms from a file's table.

    Raises
    ------
    ConfigurationError
        A name is unknown, or a value out of its bounds.
    """
    try:
        return Financing.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise ConfigurationError(f"financing '{place}': {first['msg']}", hint="see docs/costs.md") from None
