"""What a bot says of a signal."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

SignalState = Literal["open", "accepted", "executed", "rejected"]
LONGEST_NOTE: Final = 500


@dataclass(frozen=True, slots=True)
class Acknowledgement:
    """What a bot says of a signal: its state, at which price and how much was filled, and a line of its own."""

    state: SignalState
    fill_price: float | None = None
    fill_quantity: float | None = None
    note: str = ""
