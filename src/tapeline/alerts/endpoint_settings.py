"""What an owner may set of an endpoint beside its address, and how an address is shown without its secrets."""

from __future__ import annotations

import re
from typing import Any, Final
from urllib.parse import urlsplit

from tapeline.core.errors import DataError

MOST_PER_MINUTE: Final = 6_000
LONGEST_LIFETIME: Final = 30 * 86_400.0
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:-]{0,63}")
_CHAT: Final = re.compile(r"-?[0-9]{1,20}|@\w{1,63}")


def checked_settings(
    *, name: str | None = None, per_minute: int | None = None, lifetime: float | None = None
) -> dict[str, Any]:
    """What is given, as it is kept.

    Parameters
    ----------
    name:
        What rules call the channel.
    per_minute:
        Messages that it takes a minute; 0: as many as come.
    lifetime:
        Seconds after which a delivery is worthless; 0: never.

    Raises
    ------
    DataError
        One is out of its bounds.

    Examples
    --------
    >>> checked_settings(name="desk", per_minute=60)
    {'name': 'desk', 'per_minute': 60}
    """
    found: dict[str, Any] = {}
    if name is not None:
        if not _NAME.fullmatch(name):
            raise DataError("an endpoint's name must be 1 to 64 letters, digits, '_', '.', ':' or '-'")
        found["name"] = name
    if per_minute is not None:
        if not 0 <= per_minute <= MOST_PER_MINUTE:
            raise DataError(f"per_minute = {per_minute} is not between 0 and {MOST_PER_MINUTE}")
        found["per_minute"] = per_minute
    if lifetime is not None:
        if not 0 <= lifetime <= LONGEST_LIFETIME:
            raise DataError(f"a lifetime of {lifetime:g} s is not between 0 and {LONGEST_LIFETIME:g}")
        found["lifetime_seconds"] = float(lifetime)
    return found


def masked_address(kind: str, address: str) -> str:
    """Enough of an address to recognise it: never a path, a query or a token, and of a person only the edges.

    Examples
    --------
    >>> masked_address("webhook", "https://desk.example.org/hooks/secret?key=1")
    'https://desk.example.org/...'
    >>> masked_address("email", "ann@example.org"), masked_address("sms", "+4930123456")
    ('a...@example.org', '+49...56')
    >>> masked_address("telegram", "tgram://123:token/-1001"), masked_address("slack", "slack://T/B/secret")
    ('chat -1001', 'a slack address')
    """
    if kind == "webhook":
        split = urlsplit(address)
        return f"{split.scheme}://{split.netloc}/" + ("..." if split.path.strip("/") or split.query else "")
    if kind == "email":
        name, _, host = address.partition("@")
        return f"{name[:1]}...@{host}"
    if kind == "sms":
        return f"{address[:3]}...{address[-2:]}"
    if kind == "telegram":
        # Chats follow the token; the token itself is the first part or stands before it.
        chat = urlsplit(address).path.rpartition("/")[2].partition(":")[0]
        if _CHAT.fullmatch(chat):
            return f"chat {chat}"
    return f"a {kind} address"
