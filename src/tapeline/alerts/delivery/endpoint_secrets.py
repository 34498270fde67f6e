"""The secrets of an endpoint over time: the newest signs for ever, those before it until their grace is over."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final

from tapeline.alerts.store.store import Endpoint

MOST_SECRETS: Final = 3
_ENDS: Final = "retire_at"


def old_secrets(endpoint: Endpoint) -> list[tuple[bytes, int | None]]:
    """Every secret but the newest, and the instant (nanoseconds) from which it no longer signs; None: never.

    The instants are kept as ``retire_at`` among the endpoint's settings, in the order of the secrets.
    """
    ends: list[int | None] = [*endpoint.settings.get(_ENDS, ())]
    return list(zip(endpoint.secrets[1:], ends + [None] * len(endpoint.secrets), strict=False))


def valid_secrets(endpoint: Endpoint, now: int) -> tuple[bytes, ...]:
    """What a request is signed with at ``now``, the newest first.

    Examples
    --------
    >>> rotated = Endpoint("e", "me", "webhook", "", (b"new", b"old"), settings={"retire_at": [500]})
    >>> valid_secrets(rotated, 499), valid_secrets(rotated, 500)
    ((b'new', b'old'), (b'new',))
    """
    kept = (secret for secret, end in old_secrets(endpoint) if end is None or now < end)
    return (*endpoint.secrets[:1], *kept)


def rotated(endpoint: Endpoint, secret: bytes, *, now: int, until: int, readable: Callable[[bytes], bool]) -> Endpoint:
    """With a new secret in front; the one before it signs ``until``, those before that as long as they did.

    Parameters
    ----------
    readable:
        Whether a secret can be decrypted: one that cannot is what a rotation repairs, and is left out.
    """
    before = [*((one, until) for one in endpoint.secrets[:1]), *old_secrets(endpoint)]
    known = [(one, until if end is None else end) for one, end in before]
    kept = [(one, end) for one, end in known if now < end and readable(one)][: MOST_SECRETS - 1]
    return _with(endpoint, (secret, *(one for one, _ in kept)), [end for _, end in kept])


def only_valid(endpoint: Endpoint, now: int) -> Endpoint:
    """Without the secrets that no longer sign; the same where there are none."""
    kept = [(one, end) for one, end in old_secrets(endpoint) if end is None or now < end]
    if len(kept) == len(endpoint.secrets) - 1 or not endpoint.secrets:
        return endpoint
    return _with(endpoint, (*endpoint.secrets[:1], *(one for one, _ in kept)), [end for _, end in kept])


def only_newest(endpoint: Endpoint) -> Endpoint:
    """With its newest secret alone."""
    return _with(endpoint, endpoint.secrets[:1], [])


def _with(endpoint: Endpoint, secrets: tuple[bytes, ...], ends: list[Any]) -> Endpoint:
    rest: Mapping[str, Any] = {name: value for name, value in endpoint.settings.items() if name != _ENDS}
    return replace(endpoint, secrets=secrets, settings={**rest, _ENDS: ends} if ends else rest)
