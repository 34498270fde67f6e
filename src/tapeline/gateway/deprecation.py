"""Telling that an operation will go, in time: the headers by which programs learn it.

References
----------
RFC 9745, The Deprecation HTTP Response Header Field (2025); RFC 8594, The Sunset HTTP Header Field (2019).
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import format_datetime

from fastapi import Request


def deprecated(since: datetime, *, sunset: datetime | None = None, successor: str | None = None) -> Callable[..., None]:
    """A dependency for a route that will go: ``dependencies=[Depends(deprecated(...))], deprecated=True``.

    Parameters
    ----------
    since:
        From when on nobody should begin to use it.
    sunset:
        From when on it may be gone.
    successor:
        The address of what takes its place.

    Examples
    --------
    >>> request = Request({"type": "http", "headers": []})
    >>> deprecated(datetime(2027, 1, 1, tzinfo=UTC), sunset=datetime(2028, 1, 1, tzinfo=UTC))(request)
    >>> request.scope["state"]["headers"]
    [(b'deprecation', b'@1798761600'), (b'sunset', b'Sat, 01 Jan 2028 00:00:00 GMT')]
    """
    headers = [("deprecation", f"@{int(since.timestamp())}")]
    if sunset is not None:
        headers.append(("sunset", format_datetime(sunset.astimezone(UTC), usegmt=True)))
    if successor is not None:
        headers.append(("link", f'<{successor}>; rel="successor-version"'))
    raw = [(name.encode(), value.encode("latin-1")) for name, value in headers]

    # Routes give answers of their own, which FastAPI leaves as they are: the envelope adds the headers.
    def told(request: Request) -> None:
        request.scope.setdefault("state", {})["headers"] = raw

    return told
