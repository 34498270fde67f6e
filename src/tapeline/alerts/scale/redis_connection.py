"""The connection to Redis: one way to make it, with time limits, retries, and an address that is checked first."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qs, urlsplit, urlunsplit

from tapeline.core.errors import ConfigurationError, MissingExtraError, TemporaryError

if TYPE_CHECKING:
    import redis

CONNECT_SECONDS: Final = 2.0
ANSWER_SECONDS: Final = 5.0
RETRIES: Final = 2
_SCHEMES: Final = ("redis", "rediss", "unix")
_LOOPBACK: Final = ("localhost", "127.0.0.1", "::1")
_WEAKENING: Final = ("ssl_cert_reqs", "ssl_check_hostname")


def redis_connection(
    address: str,
    *,
    answer_seconds: float = ANSWER_SECONDS,
    retries: int = RETRIES,
    most_connections: int = 16,
    plain_network: bool = False,
) -> redis.Redis:
    """A client of the server at an address; it connects at its first command, and any thread may use it.

    A command whose connection is refused or lost is tried again ``retries`` times, after 20 ms and then after up to
    half a second. So what is not idempotent must be made so by its caller (here: by explicit ids of stream entries).

    Parameters
    ----------
    address:
        ``redis://host:port/0``, ``rediss://...`` (TLS) or ``unix:///path``, each with ``user:password@`` where needed.
    answer_seconds:
        How long a command may take; one that blocks by itself must block for less.
    plain_network:
        Whether an address beyond this machine may be without TLS, as inside a private network.

    Raises
    ------
    MissingExtraError
        The extra ``redis`` is not installed.
    ConfigurationError
        The address is of another kind, or would send a password over a network without TLS, or turns the check of
        the server's certificate off. Messages repeat no password.

    Examples
    --------
    >>> redis_connection("redis://localhost:6379/0").connection_pool.connection_kwargs["db"]
    0
    >>> redis_connection("redis://:secret@queue.example.org/0")
    Traceback (most recent call last):
    tapeline.core.errors.ConfigurationError: the Redis address redis://queue.example.org/0 has a password and no TLS \
(write rediss://, or permit it for a private network)
    """
    check_address(address, plain_network=plain_network)
    try:
        import redis
        from redis.backoff import ExponentialBackoff
        from redis.retry import Retry
    except ImportError as error:
        raise MissingExtraError("redis", "redis") from error
    options: dict[str, Any] = {
        "socket_timeout": answer_seconds,
        "socket_connect_timeout": CONNECT_SECONDS,
        "retry": Retry(ExponentialBackoff(cap=0.5, base=0.02), retries),
        "max_connections": most_connections,
        "health_check_interval": 30,
        "client_name": "tapeline-alerts",
    }
    if not address.startswith("unix"):
        options["socket_keepalive"] = True
    try:
        return redis.Redis.from_url(address, **options)
    except ValueError as error:
        raise ConfigurationError(f"the Redis address {shown(address)} cannot be read: {error}") from None


def check_address(address: str, *, plain_network: bool = False) -> None:
    """Refuse an address that is none, or that is not safe; see :func:`redis_connection`."""
    parts = urlsplit(address)
    if parts.scheme not in _SCHEMES:
        raise ConfigurationError(
            f"the address {shown(address)} is not one of Redis", hint="redis://host:6379/0, rediss:// or unix:///path"
        )
    if parts.scheme == "unix":
        if not parts.path:
            raise ConfigurationError(f"the address {shown(address)} names no socket", hint="unix:///run/redis.sock")
        return
    try:
        host, _ = parts.hostname or "", parts.port
    except ValueError as error:
        raise ConfigurationError(f"the address {shown(address)} cannot be read: {error}") from None
    if not host:
        raise ConfigurationError(f"the address {shown(address)} names no host", hint="redis://localhost:6379/0")
    asked = parse_qs(parts.query)
    weakened = [name for name in _WEAKENING if asked.get(name, ["required"])[0].lower() in ("none", "false", "0", "no")]
    if parts.scheme == "rediss" and weakened:
        raise ConfigurationError(
            f"the Redis address {shown(address)} turns {weakened[0]} off", hint="give ssl_ca_certs=/path/of/your/ca.pem"
        )
    local = host in _LOOPBACK or plain_network
    if parts.scheme == "redis" and parts.password and not local:
        raise ConfigurationError(
            f"the Redis address {shown(address)} has a password and no TLS",
            hint="write rediss://, or permit it for a private network",
        )


def shown(address: str) -> str:
    """An address without what must not be told.

    Examples
    --------
    >>> shown("rediss://me:secret@queue.example.org:6380/0?password=again")
    'rediss://queue.example.org:6380/0'
    """
    parts = urlsplit(address)
    netloc = parts.netloc.rpartition("@")[2]
    return re.sub(r"[\x00-\x1f]", "", urlunsplit((parts.scheme, netloc, parts.path, "", "")))


@contextmanager
def own_redis_errors(where: str = "Redis") -> Iterator[None]:
    """Turn the client's errors into ours: what may pass, and what a person must change.

    Raises
    ------
    ConfigurationError
        The password is wrong or the user lacks a right.
    TemporaryError
        Everything else: the server does not answer, is loading, is full, or refuses a command.
    """
    import redis
    from redis.exceptions import NoPermissionError

    try:
        yield
    except (redis.AuthenticationError, NoPermissionError) as error:
        raise ConfigurationError(
            f"{where} refuses us: {error}", hint="[alerts.scale] redis names user and password"
        ) from error
    except (redis.RedisError, OSError) as error:
        raise TemporaryError(f"{where} does not answer as it should: {error or type(error).__name__}") from error
