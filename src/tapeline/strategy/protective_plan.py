"""A protective plan: first stop, trailing, break-even, time and target, checked once."""

from __future__ import annotations

import math
from typing import Annotated, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from tapeline.strategy import protective_stop_kernels as kernels
from tapeline.strategy.protective_stop_kernels import Plan

Multiple = Annotated[float, Field(gt=0, le=1e6)]
Reward = Annotated[float, Field(ge=0, le=1_000)]
Bars = Annotated[int, Field(ge=1, le=100_000)]

_KINDS: Final = {
    "distance": kernels.BY_DISTANCE,
    "share": kernels.BY_SHARE,
    "atr": kernels.BY_ATR,
    "structure": kernels.BY_STRUCTURE,
    "chandelier": kernels.BY_CHANDELIER,
    "r": kernels.BY_RISK,
}
_HOUR: Final = 3_600_000_000_000


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class InitialStop(_Part):
    """The stop that an entry has from its fill on; its distance from the entry is the unit R of the rest.

    Parameters
    ----------
    kind:
        ``distance`` in price, ``share`` of the price, ``atr``: average true ranges (Wilder), ``structure``: the last
        confirmed swing on the losing side.
    value:
        How many of them; of ``structure``, the average true ranges that stand in where no level is there.
    buffer:
        Of ``structure``: how far beyond the level, in average true ranges.
    """

    kind: Literal["distance", "share", "atr", "structure"] = "atr"
    value: Multiple = 2.0
    buffer: Reward = 0.25


class TrailingStop(_Part):
    """A stop that follows the market and never loosens.

    Parameters
    ----------
    kind:
        ``distance``, ``share`` and ``atr`` hang from the best price since the entry, ``chandelier`` from the highest
        high (lowest low) of the last ``window`` bars, each ``value`` away; ``structure`` goes to the last confirmed
        swing on the losing side, ``value`` average true ranges beyond it. ``atr`` is the chandelier exit as Chuck
        LeBeau gave it, since the entry; ``chandelier`` the form with a fixed window (Elder, Come Into My Trading Room,
        2002, has 22 bars and 3 ranges).
    after_r:
        How many R the best price must have gained first.
    """

    kind: Literal["distance", "share", "atr", "chandelier", "structure"] = "chandelier"
    value: Multiple = 3.0
    window: Bars = 22
    after_r: Reward = 0.0


class BreakEven(_Part):
    """Once the best price has gained ``after_r`` R, the stop goes to the entry plus ``cost_share`` of its price."""

    after_r: Annotated[float, Field(gt=0, le=1_000)] = 1.0
    cost_share: Annotated[float, Field(ge=0, lt=1)] = 0.0


class TimeStop(_Part):
    """The position is closed at the open after it was held for so many bars (the entry's is the first), or hours."""

    bars: Bars | None = None
    hours: Annotated[float, Field(gt=0, le=100_000)] | None = None

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if self.bars is None and self.hours is None:
            raise ValueError("a time stop needs bars or hours")
        return self


class TakeProfit(_Part):
    """The target: ``value`` times R, a distance, a share of the price or average true ranges from the entry.

    ``structure`` is as far from the entry as the last confirmed swing on the winning side was from the close of the
    decision, ``buffer`` average true ranges nearer; where none is there, there is no target.
    """

    kind: Literal["r", "distance", "share", "atr", "structure"] = "r"
    value: Multiple = 2.0
    buffer: Reward = 0.0


class ProtectivePlan(_Part):
    """What protects a position.

    Parameters
    ----------
    atr_window:
        Bars of Wilder's average true range.
    reach:
        Bars on each side that a swing must exceed (``fractal_swing``).

    Examples
    --------
    >>> plan = ProtectivePlan(trailing=TrailingStop(kind="atr", value=3), break_even=BreakEven(after_r=1))
    >>> plan.initial.kind, plan.trailing.value, plan.time
    ('atr', 3.0, None)
    """

    initial: InitialStop = InitialStop()
    trailing: TrailingStop | None = None
    break_even: BreakEven | None = None
    time: TimeStop | None = None
    take: TakeProfit | None = None
    atr_window: Bars = 14
    reach: Annotated[int, Field(ge=1, le=10_000)] = 2

    def compiled(self) -> Plan:
        """What kernels take."""
        trailing, even, time, take = self.trailing, self.break_even, self.time, self.take
        return Plan(
            self.atr_window,
            _KINDS[self.initial.kind],
            self.initial.value,
            self.initial.buffer,
            _KINDS[trailing.kind] if trailing else kernels.NO_RULE,
            trailing.value if trailing else 0.0,
            trailing.after_r if trailing else math.inf,
            even.after_r if even else math.inf,
            even.cost_share if even else 0.0,
            (time.bars or 0) if time else 0,
            round((time.hours or 0.0) * _HOUR) if time else 0,
            _KINDS[take.kind] if take else kernels.NO_RULE,
            take.value if take else 0.0,
            take.buffer if take else 0.0,
        )

    @property
    def window(self) -> int:
        """Bars of the extremes that a chandelier hangs from."""
        return self.trailing.window if self.trailing else 1
