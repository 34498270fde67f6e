"""Times as the API tells and takes them: ISO 8601 in UTC with nanoseconds, which no number of JavaScript can hold."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Annotated, Final

from pydantic import AfterValidator, Field

from tapeline.core.nanoseconds import SECOND

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_EARLIEST: Final = datetime(1970, 1, 1, tzinfo=UTC)
_LATEST: Final = datetime(2262, 1, 1, tzinfo=UTC)

Instant = Annotated[str, Field(json_schema_extra={"format": "date-time"}, examples=["2026-01-01T00:00:00.000000000Z"])]
"""A time in an answer."""


def _bounded(value: datetime) -> datetime:
    if value.tzinfo is None:
        raise ValueError("the time has no zone; write 2026-01-01T00:00:00Z")
    if not _EARLIEST <= value < _LATEST:
        raise ValueError("the time is not between 1970 and 2262")
    return value


GivenInstant = Annotated[datetime, AfterValidator(_bounded), Field(examples=["2026-01-01T00:00:00Z"])]
"""A time in a request."""


def instant(nanoseconds: int) -> str:
    """A time as text.

    Examples
    --------
    >>> instant(1_767_225_600_123_456_789)
    '2026-01-01T00:00:00.123456789Z'
    """
    minute, rest = divmod(nanoseconds, 60 * SECOND)
    # Two digits of seconds and nine of their fraction: a page of a list has a hundred times, most of few minutes.
    digits = f"{rest:011d}"
    return f"{_minute(minute)}{digits[:2]}.{digits[2:]}Z"


@lru_cache(maxsize=4_096)
def _minute(number: int) -> str:
    return datetime.fromtimestamp(60 * number, UTC).isoformat()[:17]


def instant_or_none(nanoseconds: int | None) -> str | None:
    """The same, where 0 and None mean that it did not happen."""
    return instant(nanoseconds) if nanoseconds else None


def nanoseconds_of(value: datetime) -> int:
    """A time as the store keeps it.

    Examples
    --------
    >>> nanoseconds_of(datetime(2026, 1, 1, tzinfo=UTC))
    1767225600000000000
    """
    return (value - _EPOCH) // timedelta(microseconds=1) * 1_000
