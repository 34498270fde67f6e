"""Long answers in pages: a cursor says where the next one begins, so that what is written meanwhile shifts nothing."""

from __future__ import annotations

import base64
import binascii
from typing import Annotated, Final, Generic, TypeVar

from fastapi import Query
from pydantic import BaseModel, ConfigDict, Field

from tapeline.gateway.problems import wrong_field

Item = TypeVar("Item")
LARGEST_PAGE: Final = 200
LONGEST_CURSOR: Final = 200

Limit = Annotated[int, Query(ge=1, le=LARGEST_PAGE, description="how many at most")]
"""As a route's parameter: ``limit: Limit = 50``."""
Cursor = Annotated[str | None, Query(max_length=LONGEST_CURSOR, description="the cursor of the page before")]
"""As a route's parameter: ``cursor: Cursor = None``."""


class Page(BaseModel, Generic[Item]):
    """A part of a longer answer."""

    model_config = ConfigDict(extra="forbid")

    items: list[Item]
    cursor: str | None = Field(None, description="asks for the next page; null after the last")


def cursor_after(key: str) -> str:
    """The place after the item of this key, as text that says nothing to its holder.

    Examples
    --------
    >>> key_of(cursor_after("btc-60k"))
    'btc-60k'
    """
    return base64.urlsafe_b64encode(key.encode()).decode().rstrip("=")


def key_of(cursor: str | None) -> str:
    """The key of a cursor; empty where there is none: the first page.

    A cursor is no right: what it points to is looked up among what the caller may see.

    Raises
    ------
    ProblemError
        It is none that :func:`cursor_after` made.
    """
    if cursor is None:
        return ""
    try:
        key = base64.b64decode(cursor + "=" * (-len(cursor) % 4), b"-_", validate=True).decode()
        if not key.isprintable() or cursor_after(key) != cursor:
            raise ValueError(cursor)
    except (ValueError, binascii.Error):
        raise wrong_field("cursor", "it is not one of ours", place="query", hint="begin without a cursor") from None
    return key
