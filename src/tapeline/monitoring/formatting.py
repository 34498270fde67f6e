"""A notification in each service's own dialect: escaped, and within its limits."""

from __future__ import annotations

import html
from typing import Any, Final

from tapeline.monitoring.notification import Notification, Severity, shorten, utf16_length

TELEGRAM_LIMIT: Final = 4_096  # characters after entities parsing: https://core.telegram.org/bots/api#sendmessage
SLACK_HEADER_LIMIT: Final = 150  # https://docs.slack.dev/reference/block-kit/blocks/header-block
SLACK_TEXT_LIMIT: Final = 3_000  # https://docs.slack.dev/reference/block-kit/blocks/section-block

ICONS: Final = {Severity.INFO: "ℹ️", Severity.WARNING: "⚠️", Severity.ERROR: "❌", Severity.CRITICAL: "🚨"}  # noqa: RUF001


def telegram_html(notification: Notification) -> str:
    """The text of a Telegram message in its HTML mode; at most 4096 UTF-16 units once the entities are parsed.

    Examples
    --------
    >>> print(telegram_html(Notification("a<b", "x & y", Severity.ERROR, key="k")))
    ❌ <b>a&lt;b</b>
    x &amp; y
    """
    head = f"{ICONS[notification.severity]} {notification.title}"
    tail = [*notification.notes, *(["Details"] if notification.link else [])]
    # The title, the notes and the link are bounded and always fit; the body takes what they leave.
    room = TELEGRAM_LIMIT - utf16_length("\n".join([head, "", "", *tail]))
    body = shorten(notification.body, room)
    lines = [f"{ICONS[notification.severity]} <b>{html.escape(notification.title, quote=False)}</b>"]
    if body:
        lines.append(html.escape(body, quote=False))
    if tail:
        lines.append("")
    lines += [f"<i>{html.escape(note, quote=False)}</i>" for note in notification.notes]
    if notification.link:
        lines.append(f'<a href="{html.escape(notification.link)}">Details</a>')
    return "\n".join(lines)


def slack_payload(notification: Notification) -> dict[str, Any]:
    """The body for a Slack webhook: a header, the text, the notes and the link as blocks, and a ``text`` for previews.

    User text stands in ``plain_text`` objects with ``& < >`` escaped, so that neither mark-up nor a mention in an
    error message is obeyed.
    """
    title = f"{ICONS[notification.severity]} {notification.title}"
    blocks: list[dict[str, Any]] = [
        {"type": "header", "text": _plain(escape_slack(title, SLACK_HEADER_LIMIT), emoji=True)}
    ]
    if notification.body:
        blocks.append({"type": "section", "text": _plain(escape_slack(notification.body, SLACK_TEXT_LIMIT))})
    if notification.notes:
        elements = [_plain(escape_slack(note, SLACK_TEXT_LIMIT)) for note in notification.notes]
        blocks.append({"type": "context", "elements": elements})
    if notification.link:
        # A | would end the address inside the angle brackets; a link holds none.
        link = f"<{escape_slack(notification.link, SLACK_TEXT_LIMIT - 20)}|Details>"
        blocks.append({"type": "section", "text": {"type": "mrkdwn", "text": link}})
    fields: dict[str, Any] = {"text": escape_slack(title, SLACK_TEXT_LIMIT), "blocks": blocks}
    return fields


def plain_text(notification: Notification) -> str:
    r"""The body with the notes and the link below it; what apprise and other blocks are given.

    Examples
    --------
    >>> plain_text(Notification("t", "body", Severity.INFO, key="k", notes=("hint",), link="https://example.com/1"))
    'body\n\nhint\nhttps://example.com/1'
    """
    below = [*notification.notes, *([notification.link] if notification.link else [])]
    text = notification.body or notification.title
    return "\n\n".join([text, "\n".join(below)]) if below else text


def escape_slack(text: str, limit: int) -> str:
    """``& < >`` as Slack wants them, cut so that the escaped text has at most ``limit`` UTF-16 units, never within one.

    Source: https://docs.slack.dev/messaging/formatting-message-text#escaping

    Examples
    --------
    >>> escape_slack("a < b & c", 100), escape_slack("<<<<", 9)
    ('a &lt; b &amp; c', '&lt;&lt;…')
    """
    escaped = [html.escape(character, quote=False) for character in text[: limit + 1]]
    lengths = [utf16_length(piece) for piece in escaped]
    if len(text) <= limit and sum(lengths) <= limit:
        return "".join(escaped)
    total, kept = 1, []  # 1 for the ellipsis
    for piece, length in zip(escaped, lengths, strict=True):
        total += length
        if total > limit:
            break
        kept.append(piece)
    return f"{''.join(kept)}…"


def _plain(text: str, *, emoji: bool = False) -> dict[str, Any]:
    return {"type": "plain_text", "text": text, "emoji": emoji}
