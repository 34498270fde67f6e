"""Where a webhook may go: one check for creating, changing and delivering, so that no rule is kept in two places.

A user names the address and our machine connects to it. Without a guard he could reach what only this machine can
reach: its own services, the local network, a cloud's metadata. The check resolves the name once and gives back the
addresses that were checked; the connection is made to one of these, so that a name which answers differently the next
time changes nothing.

Sources: IANA IPv4 and IPv6 Special-Purpose Address Registries; OWASP Server-Side Request Forgery Prevention Cheat
Sheet. ``ipaddress.is_global`` is not asked: on Python 3.11 it takes 64:ff9b::a00:1, 2002:7f00:1::, 224.0.0.1 and
192.0.0.8 for public.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final
from urllib.parse import urlsplit

from tapeline.core.errors import ConfigurationError, TemporaryError

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Resolve = Callable[[str, int], Sequence[str]]

LONGEST_URL: Final = 2_000
MOST_ADDRESSES: Final = 16
_PORTS: Final = {"https": 443, "http": 80}

_REFUSED_V4: Final = tuple(
    ipaddress.IPv4Network(each)
    for each in (
        *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12"),
        *("192.0.0.0/24", "192.0.2.0/24", "192.31.196.0/24", "192.52.193.0/24", "192.88.99.0/24", "192.168.0.0/16"),
        *("192.175.48.0/24", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4"),
        "168.63.129.16/32",  # a public number behind which Azure answers its machines
    )
)
_PUBLIC_V6: Final = ipaddress.IPv6Network("2000::/3")
"""All that is global unicast lies here; what maps or translates IPv4 (::ffff:0:0/96, 64:ff9b::/96) and all local
and multicast ranges lie outside."""
_REFUSED_V6: Final = tuple(
    ipaddress.IPv6Network(each)
    for each in (
        "2001::/23",  # Teredo, benchmarks, ORCHID and the rest of the protocol assignments
        "2001:db8::/32",
        "2002::/16",  # 6to4: holds an IPv4 address
        "2620:4f:8000::/48",
        "3ffe::/16",
        "3fff::/20",
    )
)
_LOCAL_NAMES: Final = ("localhost", "local", "localdomain", "internal", "intranet", "lan", "home", "corp", "arpa")
_LABEL: Final = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)")
_NUMERIC: Final = re.compile(r"[0-9]+|0x[0-9a-f]*")


@dataclass(frozen=True)
class TargetRules:
    """What is permitted beyond https to a public address on port 443.

    Parameters
    ----------
    http:
        Whether http on port 80 is permitted.
    ports:
        Further ports.
    networks:
        Networks such as ``10.1.0.0/16`` that are permitted although they are not public; none by default. With any,
        names without a dot are permitted as well; every address is checked all the same.

    Raises
    ------
    ConfigurationError
        A network or a port that is none.
    """

    http: bool = False
    ports: tuple[int, ...] = ()
    networks: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for port in self.ports:
            if not 1 <= port <= 65_535:
                raise ConfigurationError(f"{port} is no port")
        _ = self.permitted

    @cached_property
    def permitted(self) -> tuple[Network, ...]:
        """The networks, parsed."""
        try:
            return tuple(ipaddress.ip_network(each) for each in self.networks)
        except ValueError as error:
            raise ConfigurationError(f"a permitted network cannot be read: {error}", hint="10.1.0.0/16") from None


@dataclass(frozen=True)
class Target:
    """A checked place: connect to one of ``addresses``, and call it ``host`` in TLS and in the request."""

    scheme: str
    host: str
    port: int
    path: str
    addresses: tuple[str, ...]

    @property
    def authority(self) -> str:
        """The value of the ``Host`` header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"


def resolve_host(host: str, port: int) -> Sequence[str]:
    """Every address of a name, as the system resolves it."""
    return [str(each[4][0]) for each in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]


def check_target(url: str, rules: TargetRules | None = None, resolve: Resolve = resolve_host) -> Target:
    """Read an address, resolve its name once and check every address it has.

    Raises
    ------
    ConfigurationError
        The address is not one that may be delivered to. The message names the reason, never what a name resolved to:
        that would let a user map the network.
    TemporaryError
        The name does not resolve now.

    Examples
    --------
    >>> check_target("https://hooks.example.com/a", resolve=lambda host, port: ["93.184.216.34"]).addresses
    ('93.184.216.34',)
    >>> check_target("https://0x7f.1/")
    Traceback (most recent call last):
    ...
    tapeline.core.errors.ConfigurationError: a webhook's address has a host that is a number in disguise \
(write a name, or an IPv4 address as four decimal numbers)
    """
    rules = rules or TargetRules()
    scheme, host, port, path = _parts(url, rules)
    literal = _literal(host)
    if literal is None:
        _check_name(host, rules)
        found = _resolved(host, port, resolve)
    else:
        found = (literal,)
    for address in found:
        if not is_permitted(address, rules.permitted):
            raise ConfigurationError(
                "a webhook's address leads to a network that is not public",
                hint="an operator can permit networks of his own by their CIDR",
            )
    return Target(scheme, host, port, path, tuple(str(each) for each in found))


def is_permitted(address: Address, networks: Sequence[Network] = ()) -> bool:
    """Whether an address is public, or lies in one of the networks that are permitted all the same.

    Examples
    --------
    >>> [is_permitted(ipaddress.ip_address(each)) for each in ("8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8")]
    [True, True, False]
    """
    if any(address in network for network in networks):
        return True
    if isinstance(address, ipaddress.IPv4Address):
        return not any(address in network for network in _REFUSED_V4)
    plain = address.scope_id is None and address in _PUBLIC_V6
    return plain and not any(address in network for network in _REFUSED_V6)


def _parts(url: str, rules: TargetRules) -> tuple[str, str, int, str]:
    if len(url) > LONGEST_URL:
        raise _refused(f"has more than {LONGEST_URL} characters")
    if re.search(r"[\s\\\x00-\x20\x7f-\x9f\u00ad\u200b-\u200f\u2028-\u202e\ufeff]", url):
        raise _refused("holds a space, a backslash or an invisible character")
    try:
        split = urlsplit(url)
        port = split.port
    except ValueError:
        raise _refused("cannot be read") from None
    scheme = split.scheme.lower()
    if scheme not in (("https", "http") if rules.http else ("https",)):
        raise _refused("is not an https address")
    if "@" in split.netloc:
        raise _refused("holds a user name or a password", "put a token into the path or check our signature")
    if split.fragment or "#" in url:
        raise _refused("holds a fragment (#)")
    if split.netloc.endswith(":") or port == 0:
        raise _refused("has no port after the colon")
    host = _ascii_host(split.netloc)
    port = port or _PORTS[scheme]
    if port != _PORTS[scheme] and port not in rules.ports:
        raise _refused(f"has port {port}, which is not permitted")
    path = split.path or "/"
    if not url.isascii() and not (path + split.query).isascii():
        raise _refused("holds characters that must be percent-encoded")
    return scheme, host, port, f"{path}?{split.query}" if split.query else path


def _ascii_host(netloc: str) -> str:
    if netloc.startswith("["):
        return netloc[1:].partition("]")[0].lower()
    host = netloc.rpartition(":")[0] if ":" in netloc else netloc
    host = host.lower()
    if not host.isascii():
        import idna

        try:
            # The mapping comes before every other check: a full-width 127。0。0。1 becomes 127.0.0.1 here.
            host = idna.encode(host, uts46=True, std3_rules=True).decode().lower()
        except (idna.IDNAError, UnicodeError):
            raise _refused("has a host that is no name") from None
    return host


def _literal(host: str) -> Address | None:
    if ":" in host:
        try:
            return ipaddress.IPv6Address(host)
        except ValueError:
            raise _refused("has a host that is no address") from None
    last = host.rstrip(".").rpartition(".")[2]
    if not _NUMERIC.fullmatch(last):
        return None
    try:
        return ipaddress.IPv4Address(host)
    except ValueError:
        # 2130706433, 0x7f.1, 0177.0.0.1, 127.1: what a resolver reads as an IPv4 address and a reader does not.
        raise _refused(
            "has a host that is a number in disguise", "write a name, or an IPv4 address as four decimal numbers"
        ) from None


def _check_name(host: str, rules: TargetRules) -> None:
    if host.endswith("."):
        raise _refused("has a host that ends in a dot")
    labels = host.split(".")
    if len(host) > 253 or not all(_LABEL.fullmatch(label) for label in labels):
        raise _refused("has a host that is no name")
    local = len(labels) == 1 or labels[-1] in _LOCAL_NAMES
    if local and not rules.permitted:
        raise _refused("has a local name for a host")


def _resolved(host: str, port: int, resolve: Resolve) -> tuple[Address, ...]:
    try:
        texts = list(dict.fromkeys(resolve(host, port)))
        found = tuple(ipaddress.ip_address(text) for text in texts)
    except UnicodeError:
        raise _refused("has a host that is no name") from None
    except (OSError, ValueError):
        raise TemporaryError(f"the host {host} does not resolve") from None
    if not found:
        raise TemporaryError(f"the host {host} does not resolve")
    if len(found) > MOST_ADDRESSES:
        raise _refused(f"has a host with more than {MOST_ADDRESSES} addresses")
    return found


def _refused(reason: str, hint: str | None = None) -> ConfigurationError:
    return ConfigurationError(f"a webhook's address {reason}", hint=hint)
