"""Slippage: how much worse than the price that was seen an order is filled, always against the one who trades."""

from __future__ import annotations

import math
from typing import Annotated, Any, Final, Literal, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from tapeline.core.errors import ConfigurationError

FIXED: Final = 0.0
VOLUME_SHARE: Final = 1.0
POWER: Final = 2.0
PERMANENT_AND_TEMPORARY: Final = 3.0

ALMGREN_PERMANENT: Final = 0.314
ALMGREN_TEMPORARY: Final = 0.142
ALMGREN_TEMPORARY_EXPONENT: Final = 0.6
ALMGREN_TURNOVER_EXPONENT: Final = 0.25
"""Almgren, Thum, Hauptmann and Li, Direct Estimation of Equity Market Impact, May 2005, section 4.3.

Large orders of the Citigroup US equity desks: gamma 0.314 (standard error 0.041), eta 0.142 (0.0062), beta 3/5, delta
1/4, and permanent impact linear in the quantity."""


class SlippageModel(NamedTuple):
    """What kernels take: a kind and its coefficients, all floats; made by the ``compiled`` method of a model below.

    Attributes
    ----------
    kind:
        ``FIXED``, ``VOLUME_SHARE``, ``POWER`` or ``PERMANENT_AND_TEMPORARY``: what the impact of the quantity is.
    spread_share:
        How much of the half spread is paid: 1 the whole half spread.
    relative:
        A fixed part of the price.
    absolute:
        A fixed amount of price.
    coefficient, exponent:
        Of the impact in the participation, quantity over volume.
    volume_limit:
        The greatest share of a bar's volume that may be filled; infinite where there is no limit.
    permanent, turnover, turnover_exponent:
        Coefficient of the permanent impact; the instrument's units outstanding; the exponent of those over a day's
        volume.
    bars_per_day:
        Bars in a trading day, by which volume and volatility of a bar become a day's.
    """

    kind: float = FIXED
    spread_share: float = 1.0
    relative: float = 0.0
    absolute: float = 0.0
    coefficient: float = 0.0
    exponent: float = 1.0
    volume_limit: float = math.inf
    permanent: float = 0.0
    turnover: float = 0.0
    turnover_exponent: float = 0.0
    bars_per_day: float = 1.0


@njit(cache=True, nogil=True)
def permanent_impact(
    quantity: float, daily_volume: float, daily_volatility: float, coefficient: float, outstanding: float, power: float
) -> float:
    """The share by which a price stays moved after ``quantity`` was traded.

    gamma * sigma * (X / V) * (Theta / V) ** delta: linear in the quantity, so that it can not be earned by trading in
    parts. Theta is the number of units outstanding; ``power`` 0 leaves it out.

    Examples
    --------
    10% of a day's volume in IBM, 2005: 20 basis points (Almgren et al., table 3).

    >>> round(permanent_impact(656_100.0, 6_561_000.0, 0.0157, 0.314, 1_728e6, 0.25) * 1e4)
    20
    """
    return coefficient * daily_volatility * (quantity / daily_volume) * (outstanding / daily_volume) ** power


@njit(cache=True, nogil=True)
def temporary_impact(
    quantity: float, daily_volume: float, daily_volatility: float, days: float, coefficient: float, power: float
) -> float:
    """The share that is paid only while trading ``quantity`` evenly over ``days`` (of volume time, 0.1 is a tenth).

    eta * sigma * (X / (V * T)) ** beta.

    Examples
    --------
    >>> [round(temporary_impact(656_100.0, 6_561_000.0, 0.0157, days, 0.142, 0.6) * 1e4) for days in (0.1, 0.2, 0.5)]
    [22, 15, 8]
    """
    return coefficient * daily_volatility * (quantity / (daily_volume * days)) ** power


@njit(cache=True, nogil=True)
def impact(model: SlippageModel, quantity: float, volume: float, volatility: float) -> float:
    """The share of the price by which ``quantity`` moves it; the arguments are those of :func:`slipped`."""
    if model.kind == FIXED:
        return 0.0
    if not volume > 0.0:
        return math.nan
    participation = quantity / volume
    if model.kind == VOLUME_SHARE:
        return model.coefficient * min(participation, model.volume_limit) ** model.exponent
    if model.kind == POWER:
        return model.coefficient * volatility * participation**model.exponent
    day = volume * model.bars_per_day
    sigma = volatility * math.sqrt(model.bars_per_day)
    lasting = permanent_impact(quantity, day, sigma, model.permanent, model.turnover, model.turnover_exponent)
    passing = temporary_impact(quantity, day, sigma, 1.0 / model.bars_per_day, model.coefficient, model.exponent)
    # Half: the price moves evenly while the order is worked, so its average is moved by half of what stays.
    return 0.5 * lasting + passing


@njit(cache=True, nogil=True)
def slipped(
    model: SlippageModel,
    side: float,
    quantity: float,
    price: float,
    volume: float,
    volatility: float,
    half_spread: float,
) -> float:
    """The price at which a market order of ``quantity`` is filled: never better than ``price`` for its side.

    ``price + side * (spread_share * half_spread + absolute + |price| * (relative + impact))``. The half spread is part
    of it: a caller adds none of its own. Where ``price`` is a quote of the order's own side (an ask for a buy),
    ``half_spread`` is 0.

    Parameters
    ----------
    model:
        A :class:`SlippageModel`.
    side:
        1 a buy, -1 a sell.
    quantity:
        Units filled, not negative. Of an order filled in several bars, each fill counts against its own bar.
    price:
        The reference: the open or the middle.
    volume:
        Units traded in the bar, or those expected; not used by ``FIXED``.
    volatility:
        Standard deviation of the return of one bar, as a share of the price; not used by ``FIXED`` and
        ``VOLUME_SHARE``.
    half_spread:
        Half of ask less bid, in units of price.

    Returns
    -------
    The price. A positive price never falls below 0. NaN where the model needs a volume or a volatility that is not
    known (or a volume of 0): such an order can not be filled, and no cost is made up for it.

    Examples
    --------
    >>> slipped(FixedSlippage(bps=2).compiled(), 1, 10.0, 100.0, np.nan, np.nan, 0.05)
    100.07
    >>> model = VolumeShareSlippage().compiled()
    >>> slipped(model, -1, 20.0, 100.0, 1000.0, np.nan, 0.0)  # 100 * (1 - 0.1 * 0.02 ** 2)
    99.996
    """
    cost = model.spread_share * half_spread + model.absolute
    cost += abs(price) * (model.relative + impact(model, quantity, volume, volatility))
    filled = price + side * cost
    if price > 0.0 and filled < 0.0:
        return 0.0
    return filled


@njit(cache=True, nogil=True)
def fillable(model: SlippageModel, quantity: float, volume: float, taken: float) -> float:
    """How much of ``quantity`` the bar can fill: its volume times ``volume_limit``, less what was ``taken`` from it.

    All of it where the model has no limit and needs no volume; none where it needs one and the bar traded none.

    Examples
    --------
    >>> fillable(VolumeShareSlippage().compiled(), 100.0, 1000.0, 5.0)
    20.0
    """
    if model.kind == FIXED and math.isinf(model.volume_limit):
        return quantity
    if not volume > 0.0:
        return 0.0
    return max(0.0, min(quantity, volume * model.volume_limit - taken))


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    spread_share: float = Field(1.0, ge=0, le=10, description="how much of the half spread is paid")
    volume_limit: float | None = Field(None, gt=0, le=1, description="share of a bar's volume that may be filled")

    def _with(self, **values: float) -> SlippageModel:
        limit = math.inf if self.volume_limit is None else self.volume_limit
        return SlippageModel(spread_share=self.spread_share, volume_limit=limit, **values)


class FixedSlippage(_Model):
    """Basis points of the price and ticks, whatever the quantity, beside a share of the half spread.

    The default is the half spread alone.

    Examples
    --------
    >>> slipped(FixedSlippage(ticks=2, tick_size=0.25).compiled(), -1, 1.0, 4000.0, 0.0, 0.0, 0.125)
    3999.375
    """

    kind: Literal["fixed"] = "fixed"
    bps: float = Field(0.0, ge=0, le=10_000)
    ticks: float = Field(0.0, ge=0, le=100_000)
    tick_size: float = Field(0.0, ge=0, description="the smallest change of price; needed where ticks are given")

    def compiled(self) -> SlippageModel:
        """What kernels take; ConfigurationError where ticks have no size."""
        if self.ticks and not self.tick_size:
            raise ConfigurationError(f"ticks = {self.ticks:g} without a tick_size", hint="tick_size is a price, 0.01")
        return self._with(kind=FIXED, relative=self.bps / 1e4, absolute=self.ticks * self.tick_size)


class VolumeShareSlippage(_Model):
    """The price moves by ``price_impact * share ** 2``, share being the filled part of the bar's volume.

    Impact and limit are the defaults of zipline (``VolumeShareSlippage`` in zipline/finance/slippage.py: 0.1 and 2.5%
    for equities). There the share is of all that the simulation filled in the bar, here of this fill. They are round
    numbers, fitted to nothing; a share above the limit counts as the limit, so the impact is at most 0.6 basis points.
    """

    kind: Literal["volume_share"] = "volume_share"
    price_impact: float = Field(0.1, ge=0, le=1e6)
    volume_limit: float | None = Field(0.025, gt=0, le=1)

    def compiled(self) -> SlippageModel:
        """What kernels take."""
        return self._with(kind=VOLUME_SHARE, coefficient=self.price_impact, exponent=2.0)


class SquareRootSlippage(_Model):
    """The price moves by ``coefficient * volatility * sqrt(quantity / volume)``.

    Volatility and volume are of the same span, here a bar; with a diffusion's volatility the span cancels out. The
    coefficient is of order one in most markets: Toth, Lemperiere, Deremble, de Lataillade, Kockelkoren and Bouchaud,
    Anomalous Price Impact and the Critical Nature of Liquidity in Financial Markets, Physical Review X 1 (2011) 021006,
    equation 1. The formula is taken as the cost of the whole order, above its average of two thirds of the peak.

    Examples
    --------
    1% of a bar's volume where a bar's return has a deviation of 2%: 0.2%.

    >>> round(slipped(SquareRootSlippage().compiled(), 1, 10.0, 100.0, 1000.0, 0.02, 0.0), 10)
    100.2
    """

    kind: Literal["square_root"] = "square_root"
    coefficient: float = Field(1.0, ge=0, le=1000)
    exponent: float = Field(0.5, gt=0, le=2)

    def compiled(self) -> SlippageModel:
        """What kernels take."""
        return self._with(kind=POWER, coefficient=self.coefficient, exponent=self.exponent)


class AlmgrenSlippage(_Model):
    """Permanent and temporary impact with the published exponents and coefficients: half of the one plus the other.

    J = gamma / 2 * sigma * (X / V) * (Theta / V) ** (1/4) + eta * sigma * (X / (V * T)) ** (3/5), with sigma and V of
    a day and T, in days, the bar over which the fill is spread. Estimated for large US stocks in 2001 to 2003: for
    other markets the coefficients are the user's to estimate. A kernel charges the cost; the prices of later bars are
    recorded ones and are not moved.

    Examples
    --------
    Buying 10% of a day's volume of IBM in half a day (two bars a day): 18 basis points (table 3 of the paper).

    >>> model = AlmgrenSlippage(outstanding=1_728e6, bars_per_day=2).compiled()
    >>> price = slipped(model, 1, 656_100.0, 100.0, 6_561_000.0 / 2, 0.0157 / 2 ** 0.5, 0.0)
    >>> round((price / 100 - 1) * 1e4)
    18
    """

    kind: Literal["almgren"] = "almgren"
    permanent: float = Field(ALMGREN_PERMANENT, ge=0, le=100)
    temporary: float = Field(ALMGREN_TEMPORARY, ge=0, le=100)
    temporary_exponent: float = Field(ALMGREN_TEMPORARY_EXPONENT, gt=0, le=2)
    turnover_exponent: float = Field(ALMGREN_TURNOVER_EXPONENT, ge=0, le=2)
    outstanding: float | None = Field(None, gt=0, description="units outstanding; needed unless turnover_exponent is 0")
    bars_per_day: float = Field(1.0, gt=0, le=86_400)

    def compiled(self) -> SlippageModel:
        """What kernels take; ConfigurationError where the units outstanding are needed and not given."""
        if self.outstanding is None and self.turnover_exponent > 0:
            raise ConfigurationError(
                f"outstanding is absent, and turnover_exponent is {self.turnover_exponent:g}",
                hint="give the units outstanding, or turnover_exponent=0 to leave the turnover out",
            )
        return self._with(
            kind=PERMANENT_AND_TEMPORARY,
            coefficient=self.temporary,
            exponent=self.temporary_exponent,
            permanent=self.permanent,
            turnover=self.outstanding or 1.0,
            turnover_exponent=self.turnover_exponent,
            bars_per_day=self.bars_per_day,
        )


Slippage = Annotated[
    FixedSlippage | VolumeShareSlippage | SquareRootSlippage | AlmgrenSlippage, Field(discriminator="kind")
]
"""Any of the models, told apart by ``kind``: for a field of settings."""


def parse_slippage(
    values: dict[str, Any],
) -> FixedSlippage | VolumeShareSlippage | SquareRootSlippage | AlmgrenSlippage:
    """Read a model from a file's table, as ``{"kind": "fixed", "bps": 1.0}``.

    Raises
    ------
    ConfigurationError
        The kind or a parameter is unknown, or a value is out of its bounds.
    """
    try:
        return TypeAdapter(Slippage).validate_python(values)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise ConfigurationError(f"slippage '{place}': {first['msg']}", hint="see docs/costs.md") from None


def slipped_prices(
    model: SlippageModel,
    side: NDArray[Any],
    quantity: NDArray[Any],
    price: NDArray[Any],
    *,
    volume: NDArray[Any] | float = math.nan,
    volatility: NDArray[Any] | float = math.nan,
    half_spread: NDArray[Any] | float = 0.0,
) -> NDArray[np.float64]:
    """:func:`slipped` over arrays, for an estimate before or after trading.

    Examples
    --------
    >>> model = FixedSlippage(bps=10).compiled()
    >>> slipped_prices(model, np.array([1, -1]), np.ones(2), np.array([100.0, 50.0])).round(10).tolist()
    [100.1, 49.95]
    """
    arrays = np.broadcast_arrays(
        *(np.asarray(each, np.float64) for each in (side, quantity, price, volume, volatility, half_spread))
    )
    return _slipped_prices(model, *(np.ascontiguousarray(each).ravel() for each in arrays)).reshape(arrays[0].shape)


@njit(cache=True, nogil=True)
def _slipped_prices(
    model: SlippageModel, side: Any, quantity: Any, price: Any, volume: Any, volatility: Any, half_spread: Any
) -> Any:
    found = np.empty(price.size)
    for row in range(price.size):
        found[row] = slipped(
            model, side[row], quantity[row], price[row], volume[row], volatility[row], half_spread[row]
        )
    return found
