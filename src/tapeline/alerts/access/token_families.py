"""Token families: one login and all tokens that came of it, of which one refresh token is good at a time.

References
----------
RFC 9700, Best Current Practice for OAuth 2.0 Security, section 4.14.2: refresh token rotation (2025).
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import Final, Literal

from sqlalchemy import Connection, insert, select, update

from tapeline.alerts.access.forgetting import forget_before
from tapeline.alerts.store.people_tables import token_family
from tapeline.core.nanoseconds import SECOND

GRACE_SECONDS: Final = 10.0
"""For how long the token before still gives the same answer: two tabs of a browser refresh at the same moment."""
LONGEST_SECONDS: Final = 90 * 86_400.0
"""After which a login ends however often it was refreshed."""
_KEEP: Final = 86_400 * SECOND
Outcome = Literal["rotated", "repeated", "reused", "ended"]


@dataclass(frozen=True, slots=True)
class Family:
    """One login as it is kept; times are nanoseconds since 1970 UTC.

    Parameters
    ----------
    current, previous:
        The ids of the refresh token that is good, and of the one before.
    rotated_at, expires_at:
        When the current token was made, and until when it is good.
    revoked_at, reason:
        Since when nothing of it is good any more, and why.
    """

    id: str
    owner: str
    current: str
    previous: str
    created_at: int
    rotated_at: int
    expires_at: int
    revoked_at: int | None
    reason: str
    address: str

    def alive(self, now: int) -> bool:
        """Whether its tokens are good."""
        return self.revoked_at is None and now < self.expires_at


def begin_family(connection: Connection, owner: str, address: str, now: int, seconds: float) -> Family:
    """A new login; families that ended a day ago are forgotten on the way."""
    family = Family(
        id=secrets.token_urlsafe(16),
        owner=owner,
        current=secrets.token_urlsafe(16),
        previous="",
        created_at=now,
        rotated_at=now,
        expires_at=now + int(seconds * SECOND),
        revoked_at=None,
        reason="",
        address=address,
    )
    connection.execute(insert(token_family).values({name: getattr(family, name) for name in Family.__slots__}))
    forget_before(connection, token_family, token_family.c.expires_at, now - _KEEP)
    return family


def rotate_family(
    connection: Connection, id: str, token: str, now: int, seconds: float
) -> tuple[Outcome, Family | None]:
    """Take a refresh token for the next one.

    Parameters
    ----------
    id, token:
        The family's and the token's id, from a token whose signature is ours.
    now, seconds:
        The instant, and how long the next one is good.

    Returns
    -------
    tuple
        ``rotated``: the family with its new current token. ``repeated``: the token before came again within
        :data:`GRACE_SECONDS`; the current token is given once more, and nothing changed. ``reused``: a token that was
        used up came again: somebody else has it, or had it. ``ended``: there is no such family any more.

    Notes
    -----
    Of two requests with one token at the same moment both succeed and get the same next token. Who stole a token and
    uses it within the grace gets the next token too, and the family ends as soon as the second of the two uses it
    later than that.
    """
    row = connection.execute(select(token_family).where(token_family.c.id == id).with_for_update()).first()
    family = None if row is None else Family(*row)
    if family is None or not family.alive(now):
        return "ended", family
    if token == family.previous and now - family.rotated_at <= GRACE_SECONDS * SECOND:
        return "repeated", family
    if token != family.current:
        return "reused", family
    latest = family.created_at + int(max(LONGEST_SECONDS, seconds) * SECOND)
    values = {
        "current": secrets.token_urlsafe(16),
        "previous": token,
        "rotated_at": now,
        "expires_at": min(now + int(seconds * SECOND), latest),
    }
    changed = connection.execute(
        update(token_family).where(token_family.c.id == id).values(values).returning(*token_family.columns)
    ).one()
    return "rotated", Family(*changed)


def revoke_family(connection: Connection, id: str, reason: str, now: int) -> bool:
    """End a login; whether it had not ended before."""
    where = token_family.c.id == id, token_family.c.revoked_at.is_(None)
    return connection.execute(update(token_family).where(*where).values(revoked_at=now, reason=reason)).rowcount > 0


def revoke_families(connection: Connection, owner: str, reason: str, now: int, *, but: str = "") -> int:
    """End every login of a user, but one; how many ended."""
    where = token_family.c.owner == owner, token_family.c.revoked_at.is_(None), token_family.c.id != but
    return connection.execute(update(token_family).where(*where).values(revoked_at=now, reason=reason)).rowcount


def families_of(connection: Connection, owner: str, now: int) -> tuple[Family, ...]:
    """The logins of a user that have not ended, the newest first."""
    where = token_family.c.owner == owner, token_family.c.revoked_at.is_(None), token_family.c.expires_at > now
    order = token_family.c.created_at.desc(), token_family.c.id
    return tuple(Family(*row) for row in connection.execute(select(token_family).where(*where).order_by(*order)))
