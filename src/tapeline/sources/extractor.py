"""The extractor's choice: from what bars of a wanted timeframe are best made, and the request that gets it.

Pure planning; building bars is the candles room's work, and ``tasks.extract`` joins the two.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal

from tapeline.core.errors import DataError
from tapeline.core.timeframe import Timeframe

Origin = Literal["native bars", "finer bars", "ticks", "trades"]
Held = Literal["bars", "ticks", "trades"]
PREFERENCE: Final[tuple[Origin, ...]] = ("native bars", "finer bars", "trades", "ticks")
"""Native bars are the provider's own word. Of the rest, finer bars are the least work and the same bars; trades are
what a bar of prices paid is made of; a quote is only an offer."""


@dataclass(frozen=True)
class Choice:
    """What bars are made from: the kind, and the timeframe in which it is held."""

    origin: Origin
    timeframe: Timeframe

    def __str__(self) -> str:
        return self.origin if self.origin != "finer bars" else f"{self.timeframe} bars"


def options(wanted: Timeframe, held: Iterable[tuple[Held, Timeframe]]) -> list[Choice]:
    """Every way to make bars of a timeframe from what is held, the best first.

    Finer bars count where their timeframe divides the wanted one and the wanted grid falls on theirs; the coarsest of
    them is the best, as it is the least to read.

    Examples
    --------
    >>> held = [("bars", Timeframe.parse("M1")), ("bars", Timeframe.parse("M15")), ("ticks", Timeframe.parse("tick"))]
    >>> [str(choice) for choice in options(Timeframe.parse("H1"), held)]
    ['M15 bars', 'M1 bars', 'ticks']
    """
    found = []
    for kind, timeframe in held:
        if kind != "bars":
            found.append(Choice(kind, timeframe))
        elif timeframe == wanted:
            found.append(Choice("native bars", timeframe))
        elif timeframe.length < wanted.length and wanted.length % timeframe.length == 0:
            found.append(Choice("finer bars", timeframe))
    return sorted(set(found), key=lambda choice: (PREFERENCE.index(choice.origin), -choice.timeframe.length))


def choose(wanted: Timeframe, held: Iterable[tuple[Held, Timeframe]], *, origin: Origin | None = None) -> Choice:
    """The best way, or the best of one kind.

    Raises
    ------
    DataError
        Nothing that is held can become bars of that timeframe.

    Examples
    --------
    >>> choose(Timeframe.parse("H1"), [("bars", Timeframe.parse("H1"))]).origin
    'native bars'
    """
    held = list(held)
    for choice in options(wanted, held):
        if origin is None or choice.origin == origin:
            return choice
    names = ", ".join(sorted({f"{timeframe} {kind}" if kind == "bars" else kind for kind, timeframe in held}))
    raise DataError(
        f"no {wanted} bars can be made from {origin or 'what there is'}: there is {names or 'nothing'}",
        hint="load bars of a timeframe that divides it, or ticks",
    )
