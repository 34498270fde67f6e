"""What a signal must be to be acted on, checked once."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from tapeline.core.errors import ConfigurationError
from tapeline.quality.calendars import ALWAYS, MarketCalendar, choose_calendar

REASONS: Final = (
    "no_bar",
    "malformed",
    "unknown_symbol",
    "future",
    "probability",
    "stale",
    "out_of_session",
    "no_quote",
    "spread",
    "price",
    "duplicate",
    "contradictory",
)
"""Why a signal is refused, the gravest first: of several, the first is ``reason``."""

Contradiction = Literal["reject_both", "higher_confidence", "net"]
Span = Annotated[timedelta, Field(ge=timedelta(0), le=timedelta(days=3_650))]


class SignalRules(BaseModel):
    """The bounds of :func:`tapeline.strategy.signal_validator.validate_signals`.

    Parameters
    ----------
    symbols:
        Those that are traded; None: any.
    maximum_age:
        How long after ``known_at`` a signal may be acted on.
    clock_tolerance:
        How far ahead of the instant of acting a signal's times may lie, for clocks that differ.
    require_probability:
        Whether a signal without a probability is refused; one that is no probability always is.
    window:
        For how long an accepted signal makes duplicates of its like, and contradicts those of its bar.
    contradiction:
        Of signals for both sides of one symbol and bar: ``reject_both``; ``higher_confidence``: the side with the most
        confident signal stands; ``net``: the side with the greater sum of confidences stands. A tie rejects both. The
        confidence is the signal's; without one its probability, without that 0.
    calendar, calendars:
        Of symbols without a rule, and by pattern of symbol, as :func:`tapeline.quality.calendars.choose_calendar`.
    quote_age:
        How old the quote may be that a signal is held against.
    spread_window, spread_minimum:
        How many quotes of an hour of the day (UTC) are remembered, and how few say nothing.
    spread_multiple, spread_quantile:
        A spread is abnormal above the greater of so many medians and this quantile of the remembered ones.
    price_distance:
        How far, as a share, a signal's reference price may lie from the quote's.

    Examples
    --------
    >>> SignalRules(symbols=["EURUSD"], maximum_age="PT5M").maximum_age
    datetime.timedelta(seconds=300)
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    symbols: frozenset[str] | None = None
    maximum_age: Span = timedelta(hours=1)
    clock_tolerance: Span = timedelta(seconds=1)
    require_probability: bool = True
    window: Span = timedelta(days=1)
    contradiction: Contradiction = "reject_both"
    calendar: str = ALWAYS
    calendars: dict[str, str] = {}
    quote_age: Span = timedelta(hours=1)
    spread_window: Annotated[int, Field(ge=10, le=10_000)] = 240
    spread_minimum: Annotated[int, Field(ge=2, le=10_000)] = 20
    spread_multiple: Annotated[float, Field(ge=1, le=1_000)] = 3.0
    spread_quantile: Annotated[float, Field(gt=0, lt=1)] = 0.95
    price_distance: Annotated[float, Field(gt=0, le=10)] = 0.02

    @field_validator("calendar", "calendars")
    @classmethod
    def _names_calendars(cls, value: str | dict[str, str]) -> str | dict[str, str]:
        for name in [value] if isinstance(value, str) else value.values():
            try:
                MarketCalendar.parse(name)
            except ConfigurationError as error:
                raise ValueError(str(error)) from error
        return value

    def calendar_of(self, symbol: str) -> MarketCalendar:
        """When a symbol trades."""
        return choose_calendar(symbol, default=self.calendar, symbols=self.calendars, sources={})
