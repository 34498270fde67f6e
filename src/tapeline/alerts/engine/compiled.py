"""A rule as the engine takes it: its conditions over readings, how they combine, and when it may fire."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from tapeline.alerts.engine.layout import Indicator, Reading
from tapeline.alerts.engine.table import DEEPEST, END, EVERY_TIME
from tapeline.core.errors import ConfigurationError

MOST_CONDITIONS: Final = 64


@dataclass(frozen=True, slots=True)
class Condition:
    """One comparison.

    Parameters
    ----------
    left, right:
        What is compared; ``right`` None: with ``threshold``.
    comparison:
        A code of :mod:`tapeline.alerts.engine.table`.
    crossing:
        True only where it becomes true after it was known to be false.
    hysteresis:
        What the difference must fall back, in its own units, before it counts as false again.
    text:
        As a person wrote it.
    """

    left: Reading
    comparison: int
    right: Reading | None = None
    threshold: float = 0.0
    crossing: bool = False
    hysteresis: float = 0.0
    text: str = ""

    def readings(self) -> tuple[Reading, ...]:
        """What it reads."""
        return (self.left,) if self.right is None else (self.left, self.right)


@dataclass(frozen=True, slots=True)
class CompiledRule:
    """What the kernel needs to know of one rule; the same for each of its symbols.

    Parameters
    ----------
    id:
        The rule's id and version: what a change of its condition changes.
    conditions, program:
        The comparisons, and how they combine in reverse Polish notation (see ``table``); a single one needs none.
    frequency, cooldown, bar:
        A code of ``table``; milliseconds; seconds of the bars that 'once per bar' counts by.
    close_of:
        The timeframe, in nanoseconds, at whose closes it is asked; 0: at each tick.
    watched:
        Whether each change of truth is told, and what is done about it decided outside the kernel.
    """

    id: str
    conditions: tuple[Condition, ...]
    program: tuple[int, ...] = ()
    frequency: int = EVERY_TIME
    cooldown: int = 0
    bar: int = 60
    close_of: int = 0
    watched: bool = False

    def __post_init__(self) -> None:
        if not 1 <= len(self.conditions) <= MOST_CONDITIONS:
            raise ConfigurationError(
                f"rule {self.id}: {len(self.conditions)} conditions, not 1 to {MOST_CONDITIONS}",
                hint="split it into several rules",
            )
        if len(self.conditions) > 1 and not self.program:
            raise ConfigurationError(f"rule {self.id}: several conditions need a program")
        height = deepest = 0
        for step in self.program:
            height += 1 if step >= 0 else (0 if step in (-3, END) else -1)
            deepest = max(deepest, height)
        if deepest > DEEPEST:
            raise ConfigurationError(f"rule {self.id}: its condition nests deeper than {DEEPEST}")

    def indicators(self) -> frozenset[Indicator]:
        """All that it reads."""
        return frozenset(reading[0] for condition in self.conditions for reading in condition.readings())
