"""Sizing as a settings file holds it: a method with its parameters, and what the instrument and the margin allow."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from tapeline.core.errors import ConfigurationError, DataError
from tapeline.strategy.position_sizing import (
    bet_size,
    fixed_fraction,
    kelly_binary,
    kelly_continuous,
    round_to_lot,
    to_units,
    volatility_target,
    within_margin,
)
from tapeline.strategy.risk_parity import risk_parity_weights


@dataclass(frozen=True)
class SizingInputs:
    """What a method may look at: numbers, or arrays of one row a bar, known when the decision is taken.

    A missing value (NaN) in a row gives no position in it. For :class:`RiskParity` the last axis of ``price``,
    ``rate``, ``side`` and ``free_margin`` (and of the result) runs over the assets.

    Attributes
    ----------
    equity:
        In the account's currency; for assets side by side, of shape (rows, 1) or a number.
    price, rate:
        Of one unit of the underlying in its quote currency, and one unit of that currency in the account's.
    side:
        1, -1 or 0; the result carries its sign.
    stop_distance:
        Points of price to the protective stop.
    volatility:
        A year, as a share.
    probability, payoff:
        Of the side taken; what is won for each unit that may be lost.
    mean, variance:
        Of one period's return of the side taken.
    covariance:
        Of the assets' returns, (n, n) or (rows, n, n).
    free_margin:
        In the account's currency; none is looked at where absent.
    """

    equity: Any
    price: Any
    rate: Any = 1.0
    side: Any = 1
    stop_distance: Any = None
    volatility: Any = None
    probability: Any = None
    payoff: Any = None
    mean: Any = None
    variance: Any = None
    covariance: Any = None
    free_margin: Any = None

    def row(self, at: int) -> SizingInputs:
        """One bar of arrays, as a live account sees it."""
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        whole = max((np.shape(value)[0] for value in values.values() if np.ndim(value)), default=1)
        return SizingInputs(
            **{
                name: np.asarray(value)[at] if np.ndim(value) and np.shape(value)[0] == whole else value
                for name, value in values.items()
            }
        )


class InstrumentTerms(BaseModel):
    """What may be traded of an instrument.

    Parameters
    ----------
    lot, minimum_lot, maximum_lot:
        Smallest step, least and greatest quantity, in units (a broker's lots are units with their contract size).
    contract_size:
        Units of the underlying in one unit of quantity.
    margin_rate:
        Margin as a share of the position's value: 1/30 at a leverage of 30. It needs ``free_margin`` of the inputs.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    lot: float = Field(0.0, ge=0)
    minimum_lot: float = Field(0.0, ge=0)
    maximum_lot: float | None = Field(None, gt=0)
    contract_size: float = Field(1.0, gt=0)
    margin_rate: float | None = Field(None, gt=0, le=10)

    @model_validator(mode="after")
    def _ordered(self) -> InstrumentTerms:
        if self.maximum_lot is not None and self.maximum_lot < self.minimum_lot:
            raise ValueError(f"maximum_lot = {self.maximum_lot:g} is below minimum_lot = {self.minimum_lot:g}")
        return self


class _Sizer(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    def units(self, inputs: SizingInputs, terms: InstrumentTerms | None = None) -> Any:
        """Signed units to hold: of the method, within the margin, in whole lots; 0 where an input is missing.

        Raises
        ------
        DataError
            The method needs an input that is absent, or a value is out of its bounds.
        """
        terms = terms or InstrumentTerms()
        point_value = np.asarray(inputs.rate, np.float64) * terms.contract_size
        units = self._units(inputs, point_value) * np.asarray(inputs.side, np.float64)
        if terms.margin_rate is not None:
            (free,) = self._needed(inputs, "free_margin")
            units = within_margin(units, inputs.price, free, terms.margin_rate, point_value=point_value)
        most = math.inf if terms.maximum_lot is None else terms.maximum_lot
        units = np.asarray(round_to_lot(units, terms.lot, minimum=terms.minimum_lot, maximum=most))
        units = np.where(np.isnan(units), 0.0, units)
        return units if units.ndim else float(units)

    def _units(self, inputs: SizingInputs, point_value: Any) -> Any:
        raise NotImplementedError

    def _needed(self, inputs: SizingInputs, *names: str) -> tuple[Any, ...]:
        values = tuple(getattr(inputs, name) for name in names)
        missing = [name for name, value in zip(names, values, strict=True) if value is None]
        if missing:
            raise DataError(f"{type(self).__name__} needs {', '.join(missing)} of the inputs, which is absent")
        return values


class FixedFraction(_Sizer):
    """Lose ``share`` of equity at the stop; see :func:`~tapeline.strategy.position_sizing.fixed_fraction`."""

    method: Literal["fixed_fraction"] = "fixed_fraction"
    share: float = Field(0.01, gt=0, le=1)

    def _units(self, inputs: SizingInputs, point_value: Any) -> Any:
        (distance,) = self._needed(inputs, "stop_distance")
        return fixed_fraction(inputs.equity, self.share, distance, point_value=point_value)


class VolatilityTarget(_Sizer):
    """Hold what has ``target`` volatility a year; see :func:`~tapeline.strategy.position_sizing.volatility_target`."""

    method: Literal["volatility_target"] = "volatility_target"
    target: float = Field(0.1, gt=0, le=10)
    maximum_leverage: float = Field(2.0, gt=0, le=1000)

    def _units(self, inputs: SizingInputs, point_value: Any) -> Any:
        (volatility,) = self._needed(inputs, "volatility")
        return volatility_target(
            inputs.equity,
            self.target,
            volatility,
            inputs.price,
            point_value=point_value,
            maximum_leverage=self.maximum_leverage,
        )


class Kelly(_Sizer):
    """Stake, up to the stop, a fraction of Kelly's share; ``observations`` shrinks it by the estimate's error."""

    method: Literal["kelly"] = "kelly"
    fraction: float = Field(0.5, gt=0, le=1)
    cap: float = Field(0.05, gt=0, le=1)
    observations: int | None = Field(None, ge=1)

    def _units(self, inputs: SizingInputs, point_value: Any) -> Any:
        probability, payoff, distance = self._needed(inputs, "probability", "payoff", "stop_distance")
        stake = kelly_binary(probability, payoff, fraction=self.fraction, cap=self.cap, observations=self.observations)
        return fixed_fraction(inputs.equity, stake, distance, point_value=point_value)


class KellyContinuous(_Sizer):
    """Hold a fraction of Kelly's leverage, mean over variance; ``observations`` shrinks it by the mean's error."""

    method: Literal["kelly_continuous"] = "kelly_continuous"
    fraction: float = Field(0.5, gt=0, le=1)
    cap: float = Field(1.0, gt=0, le=1000)
    observations: int | None = Field(None, ge=1)

    def _units(self, inputs: SizingInputs, point_value: Any) -> Any:
        mean, variance = self._needed(inputs, "mean", "variance")
        leverage = kelly_continuous(
            mean, variance, fraction=self.fraction, cap=self.cap, observations=self.observations
        )
        return to_units(np.maximum(inputs.equity, 0.0) * leverage, inputs.price, point_value=point_value)


class ProbabilityBet(_Sizer):
    """Hold ``leverage`` times the bet size of a classifier's probability; none at or below chance."""

    method: Literal["bet_size"] = "bet_size"
    leverage: float = Field(1.0, gt=0, le=1000)
    classes: int = Field(2, ge=2, le=100)
    step: float = Field(0.0, ge=0, le=1)

    def _units(self, inputs: SizingInputs, point_value: Any) -> Any:
        (probability,) = self._needed(inputs, "probability")
        share = np.maximum(bet_size(probability, classes=self.classes, step=self.step), 0.0) * self.leverage
        return to_units(np.maximum(inputs.equity, 0.0) * share, inputs.price, point_value=point_value)


class RiskParity(_Sizer):
    """Hold ``leverage`` times equity in assets side by side, each carrying its share of the risk."""

    method: Literal["risk_parity"] = "risk_parity"
    leverage: float = Field(1.0, gt=0, le=1000)
    budgets: tuple[Annotated[float, Field(gt=0)], ...] | None = None

    def _units(self, inputs: SizingInputs, point_value: Any) -> Any:
        (covariance,) = self._needed(inputs, "covariance")
        # A short position turns the sign of its correlations: equal risk is of the book as it will be held.
        side = np.asarray(inputs.side, np.float64)
        if side.ndim:
            signs = np.where(side < 0, -1.0, 1.0)
            covariance = np.asarray(covariance, np.float64) * signs[..., :, None] * signs[..., None, :]
        weights = risk_parity_weights(covariance, self.budgets)
        money = np.maximum(inputs.equity, 0.0) * (weights * self.leverage)
        return to_units(money, inputs.price, point_value=point_value)


PositionSizer = Annotated[
    FixedFraction | VolatilityTarget | Kelly | KellyContinuous | ProbabilityBet | RiskParity,
    Field(discriminator="method"),
]


def parse_position_sizer(values: Mapping[str, Any]) -> PositionSizer:
    """Read a sizer from a file's table, by its ``method``.

    Raises
    ------
    ConfigurationError
        A method or name is unknown, or a value out of its bounds.

    Examples
    --------
    >>> sizer = parse_position_sizer({"method": "fixed_fraction", "share": 0.01})
    >>> terms = InstrumentTerms(lot=0.01, minimum_lot=0.01, contract_size=100_000)
    >>> inputs = SizingInputs(equity=10_000.0, price=1.25, side=-1, stop_distance=np.array([0.0042, np.nan]))
    >>> sizer.units(inputs, terms).tolist(), sizer.units(inputs.row(0), terms)
    ([-0.23, 0.0], -0.23)
    """
    try:
        return TypeAdapter(PositionSizer).validate_python(dict(values))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "method"
        raise ConfigurationError(f"sizing '{place}': {first['msg']}", hint="see docs/risk.md") from None
