r"""A message in the dialect of Discord and of a text message; Telegram's and Slack's are in ``tapeline.monitoring``."""

from __future__ import annotations

import re
from typing import Any, Final

from tapeline.core.errors import ConfigurationError
from tapeline.monitoring.formatting import ICONS
from tapeline.monitoring.notification import Notification, shorten, utf16_length

DISCORD_LIMIT: Final = 2_000  # https://discord.com/developers/docs/resources/webhook#execute-webhook
SUPPRESS_EMBEDS: Final = 4  # https://discord.com/developers/docs/resources/message#message-object-message-flags
GSM_LIMITS: Final = (160, 153)
"""Characters of one text message, and of each part of a longer one, in the GSM alphabet."""
UCS2_LIMITS: Final = (70, 67)
"""The same where a character is outside of it."""
MOST_PARTS: Final = 6

# 3GPP TS 23.038, sections 6.2.1 and 6.2.1.1.
_GSM: Final = frozenset(
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿"
    "abcdefghijklmnopqrstuvwxyzäöñüà"
)
_GSM_EXTENSION: Final = frozenset("^{}\\[~]|€\f")
_PLAIN: Final = str.maketrans({"…": "...", "–": "-", "—": "-", "‘": "'", "’": "'", "“": '"', "”": '"', "\t": " "})  # noqa: RUF001
_MARKDOWN: Final = re.compile(r"([\\`*_~|>#\[\]()<-])")


def discord_payload(notification: Notification) -> dict[str, Any]:
    r"""The JSON body for a Discord webhook: at most 2000 characters, of which none is obeyed.

    Mark-up is escaped, a zero-width space stands behind each @, and ``allowed_mentions`` names nobody.

    Examples
    --------
    >>> from tapeline.monitoring.notification import Severity
    >>> discord_payload(Notification("*a*", "@everyone", Severity.ERROR, key="k"))["content"]
    '❌ **\\*a\\***\n@\u200beveryone'
    """
    head = f"{ICONS[notification.severity]} **{_escape(notification.title)}**"
    notes = [_escape(note) for note in notification.notes]
    tail = "\n".join([*notes, *([f"<{notification.link}>"] if notification.link else [])])
    room = DISCORD_LIMIT - utf16_length(head) - utf16_length(tail) - 2
    body = _escape_within(notification.body, room)
    content = "\n".join(part for part in (head, body, tail) if part)
    return {
        "content": shorten(content, DISCORD_LIMIT),
        "allowed_mentions": {"parse": []},
        "flags": SUPPRESS_EMBEDS,
    }


def sms_length(text: str) -> tuple[int, int]:
    """The length of a text message in its units, and how many parts it is sent in.

    Examples
    --------
    >>> sms_length("a" * 160), sms_length("a" * 161), sms_length("€" * 80), sms_length("я" * 71)
    ((160, 1), (161, 2), (160, 1), (71, 2))
    """
    if _is_gsm(text):
        length, limits = sum(_septets(character) for character in text), GSM_LIMITS
    else:
        length, limits = utf16_length(text), UCS2_LIMITS
    return length, 1 if length <= limits[0] else -(-length // limits[1])


def sms_text(text: str, parts: int = 1) -> str:
    """A text cut to what fits into so many parts of a text message.

    Parameters
    ----------
    parts:
        1 to 6. One part holds 160 characters of the GSM alphabet (``^{}[]~|`` and the euro sign count twice), or 70
        where another character stands in it.

    Raises
    ------
    ConfigurationError
        Another number of parts.

    Examples
    --------
    >>> sms_text("BTCUSDT crossed 60000 — now"), len(sms_text("a" * 200)), len(sms_text("я" * 200))
    ('BTCUSDT crossed 60000 - now', 160, 70)
    """
    if not 1 <= parts <= MOST_PARTS:
        raise ConfigurationError(f"parts = {parts} of a text message must be 1 to {MOST_PARTS}")
    text = text.translate(_PLAIN)
    gsm = _is_gsm(text)
    single, several = GSM_LIMITS if gsm else UCS2_LIMITS
    room = single if parts == 1 else several * parts
    lengths = [_septets(character) if gsm else utf16_length(character) for character in text]
    if sum(lengths) <= room:
        return text
    room -= 3
    kept = 0
    for kept, length in enumerate(lengths):  # noqa: B007 - how many fit
        room -= length
        if room < 0:
            break
    return f"{text[:kept]}..."


def sms_notification(notification: Notification, parts: int = 1) -> Notification:
    """The message cut so that title, line end and body together fit into a text message, without notes or link."""
    body = " ".join(notification.body.split()) or notification.severity.value
    whole = sms_text(f"{shorten(notification.title.translate(_PLAIN), 50)}\r\n{body}", parts)
    title, _, rest = whole.partition("\r\n")
    return Notification(title, rest, notification.severity, key=notification.key, once=notification.once)


def _escape(text: str) -> str:
    return _MARKDOWN.sub(r"\\\1", text).replace("@", "@\u200b")


def _escape_within(text: str, room: int) -> str:
    pieces: list[str] = []
    used = 0
    for character in text[: max(room, 0)]:
        piece = _escape(character)
        used += utf16_length(piece)
        if used > room - 1:
            return "".join(pieces) + "…" if room > 0 else ""
        pieces.append(piece)
    return "".join(pieces) + ("…" if len(text) > max(room, 0) and room > 0 else "")


def _is_gsm(text: str) -> bool:
    return all(character in _GSM or character in _GSM_EXTENSION for character in text)


def _septets(character: str) -> int:
    return 2 if character in _GSM_EXTENSION else 1
