"""What an order is: its kinds, its states and why it came to be, as codes that kernels and tables share."""

from __future__ import annotations

import math
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

MARKET: Final = 0
LIMIT: Final = 1
STOP: Final = 2
STOP_LIMIT: Final = 3
"""Kinds: bit 1 says that the order has a limit price, bit 2 that it has a stop price."""
KINDS: Final = ("market", "limit", "stop", "stop_limit")

BUY: Final = 1
SELL: Final = -1

WORKING: Final = 0
PARTIAL: Final = 1
FILLED: Final = 2
CANCELLED: Final = 3
EXPIRED: Final = 4
REJECTED: Final = 5
STATUSES: Final = ("working", "partial", "filled", "cancelled", "expired", "rejected")
"""``cancelled``, ``expired`` and ``rejected`` say what became of the rest; what was filled before stands."""

BY_SIGNAL: Final = 0
BY_STOP: Final = 1
BY_TARGET: Final = 2
REASONS: Final = ("signal", "stop", "target")
"""Why an order was sent: a decision, the protective stop of a position, or its profit target."""

Price = Annotated[float, Field(allow_inf_nan=False)]


class Order(BaseModel):
    """One order, checked once.

    Parameters
    ----------
    side:
        1 buys, -1 sells.
    quantity:
        Units, above zero.
    limit:
        The worst price at which it may fill; None: any price.
    stop:
        The price that must trade before it is live in the market; None: it is live at once.
    bars_in_force:
        Bars after which what is left of it expires; None: it works until it is filled or replaced.

    Examples
    --------
    >>> Order(side=1, quantity=10, stop=101.0, limit=102.0).kind
    3
    >>> Order(side=1, quantity=10).kind == MARKET
    True
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    side: Literal[1, -1]
    quantity: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    limit: Price | None = None
    stop: Price | None = None
    bars_in_force: Annotated[int, Field(ge=1)] | None = None

    @property
    def kind(self) -> int:
        """The code of its kind, which follows from the prices it has."""
        return (LIMIT if self.limit is not None else 0) + (STOP if self.stop is not None else 0)

    @property
    def prices(self) -> tuple[float, float]:
        """Limit and stop as kernels take them: NaN where there is none."""
        return (math.nan if self.limit is None else self.limit, math.nan if self.stop is None else self.stop)
