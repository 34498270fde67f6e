"""What a firing says: one JSON event, made once and kept, from which every channel takes its words."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from tapeline.alerts.bots.signal import CHANNEL as BOT
from tapeline.alerts.bots.signal import signal_draft
from tapeline.alerts.firing import Firing
from tapeline.alerts.rule import LONGEST_TEMPLATE, Rule
from tapeline.core.errors import ConfigurationError, DataError
from tapeline.monitoring.notification import Notification, Severity, clean_text, shorten

if TYPE_CHECKING:
    from tapeline.alerts.routing import Route

LONGEST_VALUE: Final = 200
LONGEST_TEXT: Final = 8_000
DIGEST_LINES: Final = 20
NAMES: Final = (
    *("symbol", "price", "rule", "name", "owner", "kind", "priority", "time", "late", "lateness", "conditions"),
    *("sequence", "id", "bar"),
)
"""What a template may name, beside ``label.<name>``."""

_ALIASES: Final = {"ticker": "symbol", "close": "price", "timenow": "time"}
_PLACEHOLDER: Final = re.compile(
    r"\{\{\s{0,5}(?P<double>[A-Za-z_][\w.:-]{0,80})\s{0,5}\}\}|"
    r"\{(?P<name>[A-Za-z_][\w.-]{0,80}?)(?::\.(?P<digits>[0-9])f)?\}"
)
_SEVERITY: Final = {"high": Severity.WARNING, "critical": Severity.CRITICAL}
_RANK: Final = {"critical": 0, "high": 1, "normal": 2, "low": 3}
_WORDS: Final = {
    "firing": "",
    "resolved": "resolved: ",
    "no_data": "no data: ",
    "escalation": "not acknowledged: ",
}


def check_template(template: str) -> None:
    """Refuse a template that names what there is not, before it is kept.

    Raises
    ------
    ConfigurationError
        It is too long, or names an unknown placeholder.

    Examples
    --------
    >>> check_template("{symbol} at {price:.2f}, {label.desk}")
    >>> check_template("{symbol.__class__}")
    Traceback (most recent call last):
    ...
    tapeline.core.errors.ConfigurationError: the template names 'symbol.__class__', which there is not \
(it may name symbol, price, rule, name, owner, kind, priority, time, late, lateness, conditions, sequence, id, bar \
and label.<name>)
    """
    if len(template) > LONGEST_TEMPLATE:
        raise ConfigurationError(f"a template of {len(template)} characters is longer than {LONGEST_TEMPLATE}")
    for found in _PLACEHOLDER.finditer(template):
        name = found["double"] or found["name"]
        if _ALIASES.get(name, name) not in NAMES and not name.startswith("label."):
            raise ConfigurationError(
                f"the template names {shorten(name, 80)!r}, which there is not",
                hint=f"it may name {', '.join(NAMES)} and label.<name>",
            )


def fill(template: str, values: Mapping[str, Any]) -> str:
    """A template with its placeholders replaced: ``{name}``, ``{{name}}`` and, for numbers, ``{name:.2f}``.

    A value is looked up by its whole name and never by attribute or index, and what a value holds is not read again.
    What is not known stays as it was written: a firing is not lost for a misspelt name.

    Examples
    --------
    >>> fill("{symbol} {{price}} {price:.2f} {0} {symbol.__class__}", {"symbol": "{price}", "price": 60000.125})
    '{price} 60000.125 60000.12 {0} {symbol.__class__}'
    """

    def value(found: re.Match[str]) -> str:
        name = found["double"] or found["name"]
        name = _ALIASES.get(name, name)
        if name not in values:
            return found[0]
        known = values[name]
        if found["digits"] and isinstance(known, int | float) and math.isfinite(known):
            return f"{known:.{found['digits']}f}"
        return shorten(_text(known), LONGEST_TEXT if name == "conditions" else LONGEST_VALUE)

    return shorten(_PLACEHOLDER.sub(value, template[:LONGEST_TEMPLATE]), LONGEST_TEXT)


def event(firing: Firing, *, name: str | None = None, template: str | None = None) -> dict[str, Any]:
    """A firing as the JSON that is kept and sent: ``type``, ``id``, ``timestamp`` and, in ``data``, all about it.

    The same firing gives the same event. ``data.title`` and ``data.text`` are for people; a firing that was found
    over a gap says there that it is late, and by how much.

    Parameters
    ----------
    name:
        What people call the rule; its id where it has no name.
    template:
        The rule's own words instead of ours.
    """
    words = name or firing.rule
    late = f"late by {_span(firing.lateness)}" if firing.late else ""
    explanation = firing.explanation()
    conditions = "\n".join(_condition(each) for each in explanation["conditions"])
    price = firing.price if math.isfinite(firing.price) else None
    values: dict[str, Any] = {
        "symbol": firing.symbol,
        "price": price,
        "rule": firing.rule,
        "name": words,
        "owner": firing.owner,
        "kind": firing.kind,
        "priority": firing.priority,
        "time": _instant(firing.ts),
        "late": late,
        "lateness": firing.lateness / 1e9,
        "conditions": conditions,
        "sequence": firing.sequence,
        "id": firing.id,
        "bar": "" if firing.bar is None else _instant(firing.bar),
        **{f"label.{key}": value for key, value in firing.labels.items()},
    }
    title = f"{_WORDS[firing.kind]}{firing.symbol}: {words}"
    if template is None:
        at = f"at {_text(price)}, " if price is not None else ""
        text = "\n".join([f"{at}{_instant(firing.ts)}", *([conditions] if conditions else [])])
    else:
        text = fill(template, values)
    if late:
        title, text = f"{title} ({late})", f"{text}\n{late}: found after a gap in the feed"
    return {
        "type": f"alert.{firing.kind}",
        "id": firing.id,
        "timestamp": _instant(firing.ts),
        "data": {
            "rule": firing.rule,
            "rule_version": firing.rule_version,
            "name": words,
            "owner": firing.owner,
            "symbol": firing.symbol,
            "kind": firing.kind,
            "priority": firing.priority,
            "price": price,
            "ts": firing.ts,
            "detected_at": firing.detected_at,
            "late": firing.late,
            "lateness_ms": firing.lateness / 1e6,
            "labels": dict(sorted(firing.labels.items())),
            "title": shorten(" ".join(clean_text(title).split()), LONGEST_VALUE),
            "text": clean_text(text),
            "explanation": explanation,
        },
    }


def event_body(firing: Firing, *, name: str | None = None, template: str | None = None) -> str:
    """:func:`event` as the text that the outbox keeps and every try sends: made once, so that it is one body.

    Examples
    --------
    >>> firing = Firing("ab" * 32, "btc-60k", "v1", "me", "BTCUSDT", "firing", 10**18, 10**18, 60001.0)
    >>> json.loads(event_body(firing, template="{symbol} at {price}"))["data"]["text"]
    'BTCUSDT at 60001'
    """
    return json.dumps(event(firing, name=name, template=template), ensure_ascii=False, separators=(",", ":"))


def service_event(kind: str, id: str, *, at: int, owner: str, title: str, text: str, **said: Any) -> str:
    """A body that tells of the service itself instead of a firing, in the same form: every channel can send it.

    Parameters
    ----------
    kind:
        Its ``type``, such as ``endpoint.disabled``.
    id, at:
        Its constant id, and nanoseconds.
    said:
        What else a program may want to know.

    Examples
    --------
    >>> notification_of(service_event("test", "t1", at=0, owner="me", title="A test", text="It works.")).title
    'A test'
    """
    data = {"owner": owner, **said, "title": shorten(" ".join(clean_text(title).split()), LONGEST_VALUE)}
    body = {"type": kind, "id": id, "timestamp": _instant(at), "data": {**data, "text": clean_text(text)}}
    return json.dumps(body, ensure_ascii=False, separators=(",", ":"))


def render(firing: Firing, rule: Rule, route: Route | None = None) -> str:
    """The body of a firing of a rule, in the rule's own words where it has some: what the router writes.

    For a bot it is the draft of a signal, see :mod:`tapeline.alerts.bots.signal`.
    """
    if route is not None and route.kind == BOT:
        return signal_draft(firing, rule, route.lifetime)
    return event_body(firing, name=rule.name, template=rule.template)


def read_event(body: str) -> dict[str, Any]:
    """The event in a stored body.

    Raises
    ------
    DataError
        It is no event.
    """
    try:
        found = json.loads(body)
    except ValueError:
        found = None
    if not isinstance(found, dict) or not isinstance(found.get("data"), dict):
        raise DataError("the body of a delivery is no event", hint="event_body() makes them")
    return found


def notification_of(body: str) -> Notification:
    """A stored body as a message to people; a body that is no event is told as it stands.

    Examples
    --------
    >>> firing = Firing("ab" * 32, "btc", "v1", "me", "BTCUSDT", "firing", 10**18, 10**18, 2.5, late=True,
    ...                 lateness=3 * 10**9)
    >>> message = notification_of(event_body(firing))
    >>> message.title
    'BTCUSDT: btc (late by 3.0 s)'
    """
    try:
        found = read_event(body)
    except DataError:
        first, _, rest = clean_text(body).strip().partition("\n")
        return Notification(first or "alert", rest, Severity.INFO, key=first or "alert")
    data = found["data"]
    return Notification(
        title=str(data.get("title") or found.get("type") or "alert"),
        body=str(data.get("text", "")),
        severity=_SEVERITY.get(str(data.get("priority")), Severity.INFO),
        key=str(found.get("id") or "alert"),
        once=True,
    )


def digest(bodies: Sequence[str]) -> Notification:
    """Many stored bodies as one message: the most urgent first, then by time, one line each; the rest are counted.

    Raises
    ------
    DataError
        There is none.
    """
    if not bodies:
        raise DataError("a digest of no firing says nothing")
    read = [(_rank_and_time(body), notification_of(body)) for body in bodies]
    read.sort(key=lambda each: each[0])
    shown = read[:DIGEST_LINES]
    lines = [f"{time[11:19]} {message.title}".strip() for (_, time), message in shown]
    if len(read) > len(shown):
        lines.append(f"and {len(read) - len(shown)} more")
    return Notification(
        title=f"{len(read)} alerts",
        body="\n".join(lines),
        severity=max((message.severity for _, message in read), key=lambda severity: severity.rank),
        key=f"digest/{read[0][1].key}/{len(read)}",
        once=True,
    )


def header_line(text: str) -> str:
    """A text that may stand in a header of a mail or a request.

    Raises
    ------
    DataError
        It holds a line end or another control character, with which a second header could be forged.

    Examples
    --------
    >>> header_line("BTCUSDT above 60k")
    'BTCUSDT above 60k'
    """
    if re.search(r"[\x00-\x1f\x7f\u0085\u2028\u2029]", text):
        raise DataError(f"{shorten(clean_text(text), 60)!r} holds a control character and cannot be a header")
    return text


def _rank_and_time(body: str) -> tuple[int, str]:
    try:
        found = read_event(body)
    except DataError:
        return _RANK["normal"], ""
    return _RANK.get(str(found["data"].get("priority")), 2), str(found.get("timestamp", ""))


def _condition(side: Mapping[str, Any]) -> str:
    held = {True: "true", False: "false"}.get(side["held"], "unknown")
    left, right = (_text(side[each]) for each in ("left", "right"))
    return f"{side['text']}: {held} ({left} against {right})"


def _text(value: object) -> str:
    if value is None:
        return "unknown"
    return f"{value:.10g}" if isinstance(value, float) else str(value)


def _span(nanoseconds: int) -> str:
    seconds = nanoseconds / 1e9
    return f"{seconds:.1f} s" if seconds < 120 else str(timedelta(seconds=round(seconds)))


def _instant(ts: int) -> str:
    """Nanoseconds as ISO 8601 in UTC, to the millisecond."""
    seconds, rest = divmod(ts, 1_000_000_000)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{rest // 1_000_000:03d}Z"
