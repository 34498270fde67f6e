"""Entity tags: which revision a caller has read, so that nobody overwrites what he has not seen.

References
----------
RFC 9110, HTTP Semantics (2022), sections 8.8.3, 13.1.1 and 13.1.2; RFC 6585, section 3.
"""

from __future__ import annotations

import re
from typing import Annotated, Final

from fastapi import Header

from tapeline.gateway.problems import ProblemError

_TAG: Final = re.compile(r'\s*(W/)?"([^"\x00-\x20\x7f]*)"\s*')
_REVISION: Final = re.compile(r"r([0-9]{1,9})")

IfMatch = Annotated[str | None, Header(max_length=200, description='the ETag that was read, such as "r3"')]
"""As a route's parameter: ``if_match: IfMatch = None``."""
IfNoneMatch = Annotated[str | None, Header(max_length=200, description="an ETag that is already known")]


def etag_of(revision: int) -> str:
    """The tag of a revision.

    Examples
    --------
    >>> etag_of(3), matched_revision('"r3"', standing=3)
    ('"r3"', 3)
    """
    return f'"r{revision}"'


def matched_revision(if_match: str | None, *, standing: int, required: bool = True) -> int:
    """The revision that a change applies to: the one that stands, where the caller has read it.

    Parameters
    ----------
    if_match:
        The header: tags, or ``*``.
    standing:
        The newest revision.
    required:
        Whether the header must be there.

    Raises
    ------
    ProblemError
        428 without the header, 412 where it names another revision.
    """
    if if_match is None:
        if required:
            raise ProblemError(
                428, "precondition-required", "If-Match is missing", hint="send the ETag of what you have read"
            )
        return standing
    if if_match.strip() == "*" or standing in _revisions(if_match, strong=True):
        return standing
    raise ProblemError(
        412, "changed-meanwhile", f"it is at revision {standing}", hint="read it again and repeat the change"
    )


def is_known(if_none_match: str | None, revision: int) -> bool:
    """Whether the caller has this revision already: the answer is then 304 without a body."""
    if if_none_match is None:
        return False
    return if_none_match.strip() == "*" or revision in _revisions(if_none_match, strong=False)


def _revisions(header: str, *, strong: bool) -> set[int]:
    found = set()
    for part in header.split(","):
        tag = _TAG.fullmatch(part)
        if tag is None or (strong and tag[1]):
            continue
        revision = _REVISION.fullmatch(tag[2])
        if revision is not None:
            found.add(int(revision[1]))
    return found
