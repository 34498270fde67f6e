"""What a candle type declares: its parameters, its kernel, its extra column."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar

from tapeline.candles.records import Floats, Integers, Records
from tapeline.core.errors import ConfigurationError
from tapeline.core.timeframe import Timeframe

Kernel = Callable[[Records, Floats, Integers, Floats, Integers, int], tuple[int, int, int]]
"""``(records, floats, integers, out_floats, out_integers, start)`` to ``(consumed, bars, needed)``: it stops at a
record whose bars do not fit into the output and says how many columns that record needs."""

Push = Callable[[int, int, float, float, int, float], int]
"""``(address, ts, price, size, side, spread)`` to the number of bars that one tick or trade completes, which then
lie in the memory at that address; -1 where the row must take the checked path."""


class CandleType(ABC):
    """One kind of candle with its parameters: a frozen dataclass that refuses parameters that make no bars.

    ``extra`` names the column that only this type has. ``traded_range`` is False where high and low are not the
    highest and lowest price traded in the bar.
    """

    extra: ClassVar[str | None] = None
    traded_range: ClassVar[bool] = True

    @property
    @abstractmethod
    def kernel(self) -> Kernel:
        """The compiled loop over records."""

    @property
    @abstractmethod
    def push(self) -> Push:
        """The compiled step for one record."""

    @abstractmethod
    def prepare(self, floats: Floats, integers: Integers) -> None:
        """Write the parameters into new state arrays."""

    def check(self, records: Records, from_bars: bool) -> None:
        """Refuse records this type cannot be built from: by default none."""
        return

    def describe(self) -> dict[str, Any]:
        """The type and its parameters as plain values, for a saved state."""
        parameters = {name: getattr(self, name) for name in getattr(self, "__dataclass_fields__", {})}
        plain = {name: value if isinstance(value, int | str) else str(value) for name, value in parameters.items()}
        return {"type": type(self).__name__, **plain}


def require(condition: bool, owner: object, name: str, value: object, bound: str) -> None:
    """Raise ConfigurationError that names the parameter, its value and the bound, unless the condition holds."""
    if not condition:
        raise ConfigurationError(f"{type(owner).__name__}: {name} = {value!r} is refused", hint=f"it must be {bound}")


def require_positive(owner: object, name: str, value: float) -> None:
    """Refuse what is not a finite number above 0."""
    good = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and value > 0
    require(good, owner, name, value, "a finite number above 0")


def require_count(owner: object, name: str, value: int, lowest: int = 1, highest: int = 10**9) -> None:
    """Refuse what is not a whole number within the bounds."""
    good = isinstance(value, int) and not isinstance(value, bool) and lowest <= value <= highest
    require(good, owner, name, value, f"a whole number from {lowest} to {highest}")


def require_interval(owner: object, timeframe: Timeframe | str) -> Timeframe:
    """The timeframe over which a type measures the market; a day at most, since its grid starts at the epoch."""
    parsed = Timeframe.parse(timeframe)
    require(parsed.seconds <= 86_400, owner, "timeframe", str(timeframe), "a day or shorter")
    return parsed
