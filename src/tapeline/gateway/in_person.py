"""What only a person does who logged in: users, passwords and keys are out of the reach of a key."""

from __future__ import annotations

from fastapi import Request

from tapeline.alerts.access.principal import NotPermittedError, Principal, Role
from tapeline.gateway.callers import DEMAND, Caller, require


def in_person(role: Role = "viewer") -> Caller:
    """As :func:`~tapeline.gateway.callers.require`, and whoever comes with an API key is refused.

    Raises
    ------
    NotAuthenticatedError, NotPermittedError
        In the dependency.
    """
    known = require(role)

    async def permitted(request: Request) -> Principal:
        found = await known(request)
        if found.scopes is not None:
            raise NotPermittedError("this needs somebody who logged in; an API key cannot do it")
        return found

    setattr(permitted, DEMAND, (role, None))
    return permitted
