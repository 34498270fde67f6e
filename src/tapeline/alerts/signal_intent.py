"""What a rule tells trading bots when it fires: open, close or hold, how much, and with which stop."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Action = Literal["open", "close", "hold"]
PositionSide = Literal["long", "short"]
Said = Literal["buy", "sell", "close"]
"""What an alert that came in says."""
SHORTEST_LIFE: Final = timedelta(milliseconds=100)
LONGEST_LIFE: Final = timedelta(hours=1)
_Percent = Annotated[float, Field(gt=0, lt=100)]
_Positive = Annotated[float, Field(gt=0, le=1e15)]


class SignalIntent(BaseModel):
    """The ``signal`` of a rule.

    Parameters
    ----------
    action:
        ``open`` or ``close`` a position; ``hold``: the bot is told and has nothing to do.
    side:
        Which position: needed to open; of ``close`` absent means whichever there is.
    quantity, fraction:
        How much, in units of the symbol, or as a part of what the bot trades with (``open``) or holds (``close``); at
        most one. Absent: the bot decides.
    stop_percent, take_percent:
        Distance of stop and target from the firing's price, in per cent of it.
    confidence:
        0 to 1.
    ttl:
        How long after its event the signal is worth anything, instead of the bot's own setting.
    close_when_resolved:
        Whether the end of what the rule watches closes the position (needs ``notify_resolved``).

    Examples
    --------
    >>> SignalIntent(action="open", side="long", fraction=0.25, stop_percent=2).prices(50_000.0)
    (49000.0, None)
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    action: Action
    side: PositionSide | None = None
    quantity: _Positive | None = None
    fraction: Annotated[float, Field(gt=0, le=1)] | None = None
    stop_percent: _Percent | None = None
    take_percent: _Percent | None = None
    confidence: Annotated[float, Field(ge=0, le=1)] | None = None
    ttl: Annotated[timedelta, Field(ge=SHORTEST_LIFE, le=LONGEST_LIFE)] | None = None
    close_when_resolved: bool = False

    @model_validator(mode="after")
    def _sensible(self) -> SignalIntent:
        if self.action == "open" and self.side is None:
            raise ValueError("a signal that opens names its side: long or short")
        if self.quantity is not None and self.fraction is not None:
            raise ValueError("a signal has a quantity or a fraction, not both")
        if self.action != "open" and (self.stop_percent is not None or self.take_percent is not None):
            raise ValueError("stop_percent and take_percent belong to a signal that opens")
        if self.action == "hold" and (self.quantity is not None or self.fraction is not None):
            raise ValueError("a signal to hold has no quantity")
        return self

    def prices(self, price: float) -> tuple[float | None, float | None]:
        """Stop and target at a price; None where there is none."""
        sign = 1.0 if self.side == "long" else -1.0
        stop = None if self.stop_percent is None else price * (1 - sign * self.stop_percent / 100)
        take = None if self.take_percent is None else price * (1 + sign * self.take_percent / 100)
        return stop, take
