"""Who asks, and what he may do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from tapeline.core.errors import TapelineError

Role = Literal["viewer", "user", "operator", "admin"]
ROLES: Final[tuple[Role, ...]] = ("viewer", "user", "operator", "admin")
"""Each may do what those before it may: read what is his; change what is his; read health, dead letters and the audit
log of everybody; manage users and everything else."""


class NotAuthenticatedError(TapelineError):
    """Nobody is known by these credentials, or they are no longer valid."""


class NotPermittedError(TapelineError):
    """He who asks is known and may not do this."""


@dataclass(frozen=True, slots=True)
class Principal:
    """He who asks.

    Parameters
    ----------
    owner:
        The user's name, unique and never changed: what rules, channels, silences and firings carry as their owner.
    role:
        The highest role he has.
    scopes:
        What an API key is limited to (``rules:read`` and the like); None: all that the role permits.
    credential:
        By what he is known: the id of the token's family or of the key. It is written into the audit log.
    """

    owner: str
    role: Role
    scopes: frozenset[str] | None = None
    credential: str = ""

    def has(self, role: Role) -> bool:
        """Whether he has at least a role.

        Examples
        --------
        >>> Principal("ann", "operator").has("user"), Principal("ann", "user").has("operator")
        (True, False)
        """
        return ROLES.index(self.role) >= ROLES.index(role)

    def sees(self, owner: str) -> bool:
        """Whether what belongs to ``owner`` exists for him: his own, and an administrator sees everything."""
        return self.owner == owner or self.role == "admin"

    def may(self, scope: str) -> bool:
        """Whether his key, where he came with one, was given a scope."""
        return self.scopes is None or scope in self.scopes
