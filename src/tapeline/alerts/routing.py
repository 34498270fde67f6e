"""Who is told of a firing, and when: channels, silences, inhibition, quiet hours, groups. What is not told is kept."""

from __future__ import annotations

import fnmatch
import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final

from tapeline.alerts.bots.signal import CHANNEL as BOT
from tapeline.alerts.bots.signal import expiry
from tapeline.alerts.firing import Firing
from tapeline.alerts.records import Delivery, Silence
from tapeline.alerts.rule import Hours, Rule

Render = Callable[[Firing, Rule, "Route"], str]
"""The body of a delivery, made once: each retry sends the same bytes."""
GROUP_WAIT: Final = 30 * 1_000_000_000
"""How long the first firing of a group waits for the others."""
IN_ORDER: Final = frozenset({"webhook"})
"""Kinds of channels that programs read: what one rule says reaches an endpoint strictly one after the other.

People's channels are not held up by one message that waits for its retry, so that a flood can become a digest.
"""


@dataclass(frozen=True, slots=True)
class Route:
    """A channel of an owner: its kind, its endpoints, and how long its deliveries are worth anything (0: for ever)."""

    name: str
    kind: str
    endpoints: tuple[str, ...]
    lifetime: int = 0


@dataclass
class Router:
    """Turns firings into deliveries.

    Parameters
    ----------
    routes:
        By owner and channel name, ``(owner, name)``.
    render:
        Writes the body.
    silences:
        Those that are known; :meth:`silence` changes them.
    """

    routes: Mapping[tuple[str, str], Route]
    render: Render
    silences: dict[str, Silence] = field(default_factory=dict)

    def silence(self, silence: Silence) -> None:
        """Add a silence, or replace the one of its id."""
        self.silences[silence.id] = silence

    def silenced(self, firing: Firing) -> Silence | None:
        """The silence of the firing's owner that matches it at its time, if any does."""
        for one in self.silences.values():
            if one.owner == firing.owner and one.begins_at <= firing.ts < one.ends_at and _matches(one, firing):
                return one
        return None

    def deliveries(self, firing: Firing, rule: Rule, channels: Iterable[str] | None = None) -> tuple[Delivery, ...]:
        """The outbox rows of a firing that is to be told.

        Parameters
        ----------
        channels:
            Names; those of the rule where absent.
        """
        if rule.dry_run or self.silenced(firing) is not None:
            return ()
        held = quiet_until(rule.quiet_hours, firing.ts) if rule.priority != "critical" else 0
        group = _group(firing, rule)
        found: list[Delivery] = []
        for name in rule.channels if channels is None else channels:
            route = self.routes.get((firing.owner, name))
            if route is None:
                continue
            body = self.render(firing, rule, route)
            if route.kind == BOT:
                found.extend(_signal(firing, rule, route, endpoint, body) for endpoint in route.endpoints)
                continue
            wait = firing.detected_at + GROUP_WAIT if group else 0
            found.extend(
                Delivery(
                    id=f"{firing.id}.{_short(route.kind, endpoint)}",
                    firing=firing.id,
                    channel=route.kind,
                    endpoint=endpoint,
                    body=body,
                    created_at=firing.detected_at,
                    not_before=max(held, wait),
                    expires_at=firing.detected_at + route.lifetime if route.lifetime else 0,
                    order=f"{endpoint}/{rule.id}" if route.kind in IN_ORDER else "",
                    group=f"{endpoint}/{group}" if group else "",
                    priority=firing.priority,
                    state="held" if held else "waiting",
                )
                for endpoint in route.endpoints
            )
        return tuple(found)

    def missing(self, rule: Rule) -> tuple[str, ...]:
        """Channels of a rule that its owner does not have."""
        return tuple(name for name in rule.channels if (rule.owner, name) not in self.routes)


def quiet_until(hours: tuple[Hours, ...], ts: int) -> int:
    """When the quiet hours that hold at ``ts`` end, in nanoseconds; 0 where none hold.

    Examples
    --------
    >>> from datetime import time
    >>> night = Hours(begin=time(22), end=time(6))
    >>> at = int(datetime(2026, 1, 1, 23, tzinfo=UTC).timestamp()) * 10**9
    >>> datetime.fromtimestamp(quiet_until((night,), at) / 1e9, UTC).isoformat()
    '2026-01-02T06:00:00+00:00'
    """
    begun = datetime.fromtimestamp(ts // 1_000_000_000, UTC)
    instant = begun
    # Spans may follow each other; a week of them covers all there is, and quiet for ever is no longer than that.
    while instant < begun + timedelta(days=8):
        holding = next((one for one in hours if one.holds(instant)), None)
        if holding is None:
            return 0 if instant == begun else int(instant.timestamp()) * 1_000_000_000
        instant = holding.ends(instant)
    return int(instant.timestamp()) * 1_000_000_000


def opens_after(hours: tuple[Hours, ...], ts: int) -> int:
    """When the next span of the hours begins after ``ts``, in nanoseconds.

    Examples
    --------
    >>> from datetime import time
    >>> day = Hours(begin=time(9, 30), end=time(16), days={0}, zone="America/New_York")
    >>> at = int(datetime(2026, 3, 5, tzinfo=UTC).timestamp()) * 10**9
    >>> datetime.fromtimestamp(opens_after((day,), at) / 1e9, UTC).isoformat()
    '2026-03-09T13:30:00+00:00'
    """
    instant = datetime.fromtimestamp(ts // 1_000_000_000, UTC)
    return min(int(one.opens(instant).timestamp()) for one in hours) * 1_000_000_000


def _signal(firing: Firing, rule: Rule, route: Route, endpoint: str, body: str) -> Delivery:
    # Neither grouped nor held over quiet hours: it is worthless in seconds. All signals of a bot are in one order.
    return Delivery(
        id=f"{firing.id}.{_short(route.kind, endpoint)}",
        firing=firing.id,
        channel=route.kind,
        endpoint=endpoint,
        body=body,
        created_at=firing.detected_at,
        expires_at=expiry(firing, rule, route.lifetime),
        order=endpoint,
        priority=firing.priority,
    )


def _matches(silence: Silence, firing: Firing) -> bool:
    # A label that is called like one of these does not hide it.
    values = {
        **firing.labels,
        "rule": firing.rule,
        "symbol": firing.symbol,
        "owner": firing.owner,
        "priority": firing.priority,
        "kind": firing.kind,
    }
    return all(fnmatch.fnmatchcase(values.get(name, ""), pattern) for name, pattern in silence.matchers.items())


def _group(firing: Firing, rule: Rule) -> str:
    if not rule.group_by:
        return ""
    values = {**firing.labels, "rule": firing.rule, "symbol": firing.symbol, "priority": firing.priority}
    return _short(*(f"{name}={values.get(name, '')}" for name in rule.group_by))


def _short(*parts: str) -> str:
    return hashlib.sha256("\x1f".join(parts).encode()).hexdigest()[:16]
