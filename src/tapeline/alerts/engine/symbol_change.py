"""What a change of rules means for one symbol: for the set it shares with others, and for the levels of its own."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import NamedTuple

from tapeline.alerts.engine.compiled import CompiledRule
from tapeline.alerts.engine.levels import Coming, Levels, closes_read

LEVEL: int = -1
"""In place of the number of a rule: it is a level."""


class SymbolChange(NamedTuple):
    """One symbol's.

    Attributes
    ----------
    away, more:
        Ids that leave its set, and numbers of rules that join it.
    closes, dropped:
        The timeframes that its levels read afterwards, and whether they read one fewer than before.
    left, coming, again:
        Ids of levels that go; levels that come; those that did both, with their new place: what they know stays.
    """

    away: tuple[str, ...]
    more: tuple[int, ...]
    closes: frozenset[int]
    dropped: bool
    left: tuple[str, ...] = ()
    coming: tuple[Coming, ...] = ()
    again: tuple[tuple[str, int, int], ...] = ()


def change_of(
    symbol: int,
    gone: Collection[str],
    fresh: Mapping[str, tuple[CompiledRule, int]],
    in_set: Collection[str],
    levels: Levels,
) -> SymbolChange:
    """What ids that go and rules that come, each with its number or ``LEVEL``, mean for a symbol.

    ``in_set``: the ids of its set. One that is there already is left as it is, unless it goes in the same step.
    """
    held = levels.slots_of(symbol)
    away = tuple(id for id in gone if id not in held)
    after = len(in_set) - sum(id in in_set for id in away)
    more: list[int] = []
    coming: list[Coming] = []
    again: list[tuple[str, int, int]] = []
    for joined, (id, (rule, number)) in enumerate(fresh.items(), levels.joined):
        if (id in held or id in in_set) and id not in gone:
            continue
        if number != LEVEL:
            more.append(number)
            after += 1
        elif id in held and levels.rule(held[id]) == rule:
            again.append((id, after, joined))
        else:
            coming.append(Coming(symbol, rule, after, joined))
    back = {id for id, _, _ in again}
    left = tuple(id for id in gone if id in held and id not in back)
    closes, dropped = _closes_after(levels.closes_of(symbol), [levels.rule(held[id]) for id in left], coming)
    return SymbolChange(away, tuple(more), closes, dropped, left, tuple(coming), tuple(again))


def _closes_after(
    before: Mapping[int, int], left: Collection[CompiledRule], coming: Collection[Coming]
) -> tuple[frozenset[int], bool]:  # fmt: skip
    """The timeframes read by levels of a symbol after some left and some came; whether one is read no more."""
    counts = dict(before)
    for rules, one in ((left, -1), ([each.rule for each in coming], 1)):
        for rule in rules:
            for duration in closes_read(rule):
                counts[duration] = counts.get(duration, 0) + one
    after = frozenset(duration for duration, count in counts.items() if count > 0)
    return after, not after.issuperset(before)
