"""Which deliveries to one endpoint become one message: groups, floods, and what quiet hours held back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from tapeline.alerts.store.store import Claim
from tapeline.core.nanoseconds import SECOND

_URGENT: Final = "critical"


@dataclass(frozen=True)
class Grouping:
    """When several deliveries to one endpoint are told as one.

    Parameters
    ----------
    group_wait:
        Nanoseconds for which the first of a group waits for others.
    group_interval:
        Nanoseconds between two messages of one group.
    flood:
        More than so many that wait for one endpoint become a digest.
    held:
        Nanoseconds: two or more that were held back for at least so long (quiet hours, a limit) become a digest.
    """

    group_wait: int = 30 * SECOND
    group_interval: int = 300 * SECOND
    flood: int = 5
    held: int = 60 * SECOND


def messages(
    claims: Sequence[Claim], grouping: Grouping, told: Mapping[str, int], now: int
) -> tuple[list[list[Claim]], list[tuple[int, list[Claim]]]]:
    """The messages to send now, in order, and what must wait, each with until when.

    What is critical goes first and alone. A group goes as one message, not before its first waited ``group_wait`` and
    the group's last message is ``group_interval`` past. Of the rest, what was held back goes as one, and so does all
    of it where it is a flood.

    Parameters
    ----------
    claims:
        Of one endpoint, the most urgent first.
    told:
        When each group was last told (nanoseconds).
    """
    alone: list[list[Claim]] = []
    groups: dict[str, list[Claim]] = {}
    rest: list[Claim] = []
    for claim in claims:
        if claim.delivery.priority == _URGENT:
            alone.append([claim])
        elif claim.delivery.group:
            groups.setdefault(claim.delivery.group, []).append(claim)
        else:
            rest.append(claim)
    ready: list[list[Claim]] = []
    later: list[tuple[int, list[Claim]]] = []
    for name, members in groups.items():
        due = min(each.delivery.created_at for each in members) + grouping.group_wait
        if name in told:
            due = max(due, told[name] + grouping.group_interval)
        if now < due:
            later.append((due, members))
        else:
            ready.append(members)
    held = [each for each in rest if each.delivery.not_before - each.delivery.created_at >= grouping.held]
    if len(rest) > grouping.flood:
        ready.append(rest)
    else:
        if len(held) > 1:
            ready.append(held)
            rest = [each for each in rest if each not in held]
        ready += [[each] for each in rest]
    return alone + ready, later
