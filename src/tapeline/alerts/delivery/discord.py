"""Discord's incoming webhooks, with the limits that each answer tells."""

from __future__ import annotations

import json
import re
import ssl
from dataclasses import dataclass, field
from typing import Any, Final

from tapeline.alerts.delivery.channel import Answer
from tapeline.alerts.delivery.dialects import discord_payload
from tapeline.alerts.delivery.pinned_http import post
from tapeline.alerts.delivery.ssrf import Resolve, TargetRules, check_target, resolve_host
from tapeline.core.errors import ConfigurationError, TemporaryError
from tapeline.monitoring.channels import seconds, within
from tapeline.monitoring.notification import Notification
from tapeline.monitoring.redaction import Redactor

API: Final = "https://discord.com/api"
_HOOK: Final = re.compile(
    r"(?:discord://|https://(?:(?:ptb|canary)\.)?discord(?:app)?\.com/api/(?:v\d{1,2}/)?webhooks/)"
    r"(?P<id>\d{15,22})/(?P<token>[\w-]{20,120})/?(?:\?thread_id=(?P<thread>\d{15,22}))?",
    re.ASCII,
)


@dataclass(frozen=True)
class DiscordAddress:
    """One incoming webhook, and the thread it writes to."""

    id: str
    token: str = field(repr=False)
    thread: str | None = None


def parse_discord(url: str) -> DiscordAddress:
    """Read ``https://discord.com/api/webhooks/<id>/<token>[?thread_id=<id>]`` or ``discord://<id>/<token>``.

    Raises
    ------
    ConfigurationError
        It is no such address. The message does not repeat it: it is a secret.

    Examples
    --------
    >>> parse_discord("https://discord.com/api/webhooks/123456789012345678/abcdefghijklmnopqrstuvwxyz")
    DiscordAddress(id='123456789012345678', thread=None)
    """
    found = _HOOK.fullmatch(url.strip())
    if found is None:
        raise ConfigurationError(
            "a Discord address cannot be read",
            hint="https://discord.com/api/webhooks/<id>/<token>, as Discord gives it",
        )
    return DiscordAddress(found["id"], found["token"], found["thread"])


def send_discord(
    address: DiscordAddress,
    notification: Notification,
    *,
    timeout: float = 10.0,
    api: str = API,
    rules: TargetRules | None = None,
    resolve: Resolve = resolve_host,
    context: ssl.SSLContext | None = None,
) -> tuple[Answer, float, bool]:
    """Post one message; the answer, the seconds for which the webhook must rest, and whether all of Discord must.

    The rest is asked for by a 429, or by an answer that says no further message is left in this window.
    """
    url = f"{api}/webhooks/{address.id}/{address.token}?wait=true"
    url += f"&thread_id={address.thread}" if address.thread else ""
    redact = Redactor([address.token])
    body = json.dumps(discord_payload(notification)).encode()
    try:
        target = within(timeout, lambda: check_target(url, rules, resolve))
        answer = post(target, body, {"Content-Type": "application/json"}, timeout=timeout, context=context)
    except (TemporaryError, ConfigurationError) as error:
        return Answer("retry", detail=redact(error.message)), 0.0, False
    except TimeoutError:
        return Answer("retry", detail="Discord's name did not resolve in time"), 0.0, False
    detail = redact(f"HTTP {answer.status}: {answer.excerpt}")
    rest = 0.0
    if answer.limits.get("x-ratelimit-remaining") == "0":
        rest = seconds(answer.limits.get("x-ratelimit-reset-after")) or 0.0
    if answer.status in (200, 204):
        # What was posted is repeated in the answer; the log of attempts does not keep it a second time.
        return Answer("sent", answer.status, f"HTTP {answer.status}"), rest, False
    if answer.status == 429:
        fields = _fields(answer.excerpt)
        wait = seconds(fields.get("retry_after"))
        wait = answer.retry_after if wait is None else wait
        return Answer("throttled", 429, detail, wait), max(rest, wait or 0.0), fields.get("global") is True
    if answer.status == 404:
        return Answer("gone", 404, detail, disable="Discord does not know the webhook any more"), rest, False
    if answer.status == 408 or answer.status >= 500 or answer.status < 400:
        return Answer("retry", answer.status, detail), rest, False
    return Answer("refused", answer.status, detail), rest, False


def _fields(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
