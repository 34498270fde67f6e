"""Where a request comes from: the peer's address, and what a trusted proxy says about it."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final

from tapeline.core.errors import ConfigurationError

MOST_HOPS: Final = 32
Network = IPv4Network | IPv6Network
Address = IPv4Address | IPv6Address


def trusted_networks(names: Sequence[str]) -> tuple[Network, ...]:
    """The networks whose ``X-Forwarded-For`` is believed.

    Raises
    ------
    ConfigurationError
        One is no network, or is all addresses: everybody could then say where he comes from.
    """
    networks: list[Network] = []
    for name in names:
        try:
            network = ip_network(name, strict=False)
        except ValueError:
            raise ConfigurationError(
                f"trusted proxy {name!r} is no address or network", hint="such as 10.0.0.7 or 10.0.0.0/24"
            ) from None
        if network.prefixlen == 0:
            raise ConfigurationError(f"trusted proxy {name!r} is every address", hint="name the proxy's own")
        networks.append(network)
    return tuple(networks)


def client_address(peer: str | None, forwarded: Sequence[str], trusted: Sequence[Network]) -> str:
    """The address of him who asks.

    Parameters
    ----------
    peer:
        Of the other end of the connection.
    forwarded:
        The values of the ``X-Forwarded-For`` headers, in their order.
    trusted:
        From :func:`trusted_networks`.

    Returns
    -------
    str
        The peer, unless it is a trusted proxy: then the last address of the header that is not one too. What stands
        further left was written by strangers and is never read; an entry that is no address ends the search at the
        proxy that passed it on.

    Examples
    --------
    >>> proxies = trusted_networks(["10.0.0.0/8"])
    >>> client_address("203.0.113.9", ["1.1.1.1"], proxies)
    '203.0.113.9'
    >>> client_address("10.0.0.1", ["6.6.6.6, 198.51.100.4, 10.0.0.2"], proxies)
    '198.51.100.4'
    """
    address = _parsed(peer or "")
    if address is None:
        return ""
    hops = [hop.strip() for value in forwarded for hop in value.split(",")][-MOST_HOPS:]
    while hops and _within(address, trusted):
        before = _parsed(hops.pop())
        if before is None:
            break
        address = before
    return str(address)


def counted_as(address: str) -> str:
    """Under what a caller without a name is counted: his IPv4 address, or all that one customer has of IPv6.

    Examples
    --------
    >>> counted_as("198.51.100.4"), counted_as("2001:db8:1:2:3:4:5:6")
    ('198.51.100.4', '2001:db8:1:2::/64')
    """
    try:
        parsed = ip_address(address)
    except ValueError:
        return address
    return str(ip_network((parsed, 64), strict=False)) if isinstance(parsed, IPv6Address) else address


def _parsed(text: str) -> Address | None:
    """An address in the spellings that proxies use: with a port, in brackets, or IPv4 mapped into IPv6."""
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address


def _within(address: Address, networks: Sequence[Network]) -> bool:
    return any(address.version == network.version and address in network for network in networks)
