"""Where a webhook may go, and every disguise in which it may not."""

from __future__ import annotations

import ipaddress
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tapeline.alerts.delivery.ssrf import TargetRules, check_target, is_permitted
from tapeline.core.errors import ConfigurationError, TemporaryError

PUBLIC = "93.184.216.34"


def answering(*addresses: str):
    return lambda host, port: list(addresses)


def never(host: str, port: int) -> list[str]:
    raise AssertionError(f"{host} was resolved")


@pytest.mark.parametrize(
    "address",
    [
        *("127.0.0.1", "10.1.2.3", "172.16.0.1", "172.31.255.255", "192.168.1.1", "169.254.169.254", "100.64.0.1"),
        *("100.100.100.200", "0.0.0.0", "224.0.0.1", "239.255.255.250", "255.255.255.255", "240.0.0.1", "192.0.0.8"),
        *("192.0.2.1", "198.18.0.1", "198.51.100.7", "203.0.113.9", "192.88.99.1", "168.63.129.16"),
        *("::1", "::", "::ffff:127.0.0.1", "::ffff:8.8.8.8", "::127.0.0.1", "64:ff9b::a00:1", "64:ff9b:1::1"),
        *("2002:7f00:1::", "2001:0:53aa:64c::1", "2001:db8::1", "fc00::1", "fd00:ec2::254", "fe80::1", "fe80::1%eth0"),
        *("fec0::1", "ff02::1", "100::1", "3fff::1", "5f00::1"),
    ],
)
def test_what_is_not_public_is_refused_resolved_or_written(address: str) -> None:
    assert not is_permitted(ipaddress.ip_address(address))
    with pytest.raises(ConfigurationError, match="not public"):
        check_target("https://hooks.example.com/", resolve=answering(PUBLIC, address))
    host = f"[{address}]" if ":" in address else address
    with pytest.raises(ConfigurationError):
        check_target(f"https://{host}/", resolve=never)


@pytest.mark.parametrize(
    "address", ["8.8.8.8", PUBLIC, "172.32.0.1", "100.128.0.1", "2606:4700:4700::1111", "2a00:1450::1"]
)
def test_what_is_public_is_permitted(address: str) -> None:
    assert is_permitted(ipaddress.ip_address(address))


@given(st.ip_addresses())
def test_what_the_standard_library_calls_private_never_passes(address) -> None:
    if not address.is_global or address.is_multicast or address.is_reserved:
        assert not is_permitted(address)


@pytest.mark.parametrize(
    "host",
    [
        *(
            "2130706433",
            "0x7f000001",
            "0x7f.1",
            "017700000001",
            "0177.0.0.1",
            "127.1",
            "127.0.0.01",
            "1.2.3.4.5",
            "127.0.0.1.",
        ),
        *("0x", "1", "999.1.1.1", "\uff11\uff12\uff17.0.0.1", "127。0。0。1", "①②⑦.0.0.1", "[::1%25lo]", "[::1", "::1"),
        *(
            "localhost",
            "localhost.",
            "LOCALHOST",
            "a.localhost",
            "printer.local",
            "db.internal",
            "metadata",
            "example.com.",
        ),
        *("a..b", "-a.com", "a_b.c-.com", "%6c%6f.com", "exa mple.com", "", "a" * 64 + ".com", "user@example.com"),
        *("example.com:0", "example.com:", "example.com:22", "example.com:99999", "exam\u200bple.com", "a\\b.com"),
    ],
)
def test_a_host_in_disguise_is_refused_before_it_is_resolved(host: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        check_target(f"https://{host}/x", resolve=never)
    assert "a webhook's address" in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        *(
            "http://example.com/",
            "ftp://example.com/",
            "file:///etc/passwd",
            "unix:///run/docker.sock",
            "//example.com/",
        ),
        *("example.com", "", "https://example.com/#x", "https://u:p@example.com/", "https://example.com/\r\nX: y"),
        *("https://example.com/" + "a" * 2_000, "gopher://example.com/", "https://example.com/ä"),
    ],
)
def test_another_form_of_address_is_refused(url: str) -> None:
    with pytest.raises(ConfigurationError):
        check_target(url, resolve=never)


def test_a_name_in_another_script_goes_by_its_ascii_form() -> None:
    target = check_target("https://Bücher.example/a?b=c", resolve=answering(PUBLIC))
    assert (target.host, target.path, target.authority) == ("xn--bcher-kva.example", "/a?b=c", "xn--bcher-kva.example")


def test_http_a_port_and_a_network_are_permitted_only_where_an_operator_says_so() -> None:
    rules = TargetRules(http=True, ports=(8080,), networks=("127.0.0.0/8",))
    target = check_target("http://127.0.0.1:8080/x", rules, never)
    assert (target.addresses, target.authority) == (("127.0.0.1",), "127.0.0.1:8080")
    assert check_target("http://bot:8080/", rules, answering("127.0.0.2")).addresses == ("127.0.0.2",)
    for url, found in (("http://bot:8080/", "10.0.0.1"), ("http://bot:8081/", "127.0.0.1"), ("http://[::1]:8080/", "")):
        with pytest.raises(ConfigurationError):
            check_target(url, rules, answering(found))
    with pytest.raises(ConfigurationError):
        check_target("http://bot:8080/", rules, answering("::ffff:127.0.0.1"))
    for wrong in ({"networks": ("10.0.0.1/8",)}, {"ports": (0,)}):
        with pytest.raises(ConfigurationError):
            TargetRules(**wrong)


def test_the_name_is_resolved_once_and_no_refusal_says_what_it_resolved_to() -> None:
    asked = []

    def resolve(host: str, port: int) -> list[str]:
        asked.append((host, port))
        return [PUBLIC, PUBLIC] if len(asked) == 1 else ["10.9.8.7"]

    assert check_target("https://rebind.example.com/", resolve=resolve).addresses == (PUBLIC,)
    assert asked == [("rebind.example.com", 443)]
    with pytest.raises(ConfigurationError) as caught:
        check_target("https://rebind.example.com/", resolve=resolve)
    assert "10.9" not in str(caught.value)


def test_a_name_that_does_not_resolve_is_no_fault_of_the_address() -> None:
    def lost(host: str, port: int) -> list[str]:
        raise socket.gaierror(-2, "unknown")

    for resolve in (lost, answering()):
        with pytest.raises(TemporaryError):
            check_target("https://gone.example.com/", resolve=resolve)
