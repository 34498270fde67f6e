"""Asking a reference for the time: NTP over UDP, an HTTP ``Date`` header, an exchange's time endpoint.

The local clock is given, and read once a round trip; what passes until the answer is measured on the monotonic clock,
so that a wall clock set in between spoils nothing.
"""

from __future__ import annotations

import http.client
import json
import socket
import struct
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any, Final, Protocol
from urllib.parse import urlsplit

from tapeline.clock.offset import OffsetSample, four_stamp_sample, one_stamp_sample
from tapeline.core.errors import ConfigurationError, ProviderError, TemporaryError, ThrottledError

Nanoseconds = Callable[[], int]
"""A clock: nanoseconds since the epoch, or since any start for a monotonic one."""

SECOND: Final = 1_000_000_000
MILLISECOND: Final = 1_000_000
_NTP_EPOCH: Final = 2_208_988_800
_ERA: Final = 2**32
_PACKET: Final = struct.Struct("!BBbbII4sQQQQ")
_MAXIMUM_BODY: Final = 65_536


class Probe(Protocol):
    """Something that can measure an offset once."""

    def measure(self) -> OffsetSample:
        """One round trip; raises TemporaryError where nothing answered, ProviderError where nonsense did."""
        ...


@dataclass(frozen=True)
class Stopwatch:
    """The local clocks. ``wall`` is what offsets are measured against."""

    wall: Nanoseconds = time.time_ns
    monotonic: Nanoseconds = time.monotonic_ns

    def start(self) -> Callable[[], tuple[int, int]]:
        """Begin a round trip; calling the result ends it and gives the local times of start and end."""
        sent, began = self.wall(), self.monotonic()
        return lambda: (sent, sent + self.monotonic() - began)


@dataclass(frozen=True)
class NtpProbe:
    """One NTP server, asked as an SNTP client does (RFC 4330; packet of RFC 5905, section 7.3).

    The answer must echo the request's transmit time, which is random to the nanosecond, so a packet that was not an
    answer to it is refused.
    """

    host: str
    port: int = 123
    timeout: float = 2.0
    clock: Stopwatch = Stopwatch()

    def measure(self) -> OffsetSample:
        """One exchange of packets."""
        try:
            family, kind, protocol, _, address = socket.getaddrinfo(self.host, self.port, type=socket.SOCK_DGRAM)[0]
            with socket.socket(family, kind, protocol) as channel:
                channel.settimeout(self.timeout)
                channel.connect(address)
                stop = self.clock.start()
                token = to_ntp(self.clock.wall())
                channel.send(_PACKET.pack(0x23, 0, 0, 0, 0, 0, b"\0" * 4, 0, 0, 0, token))
                packet = channel.recv(1024)
                sent, received = stop()
        except OSError as error:
            raise TemporaryError(f"NTP server {self.host}:{self.port} did not answer: {error}") from error
        return read_ntp(packet, token, sent, received)


def to_ntp(instant: int) -> int:
    """Nanoseconds since 1970 as a 64-bit NTP time of the current era.

    Examples
    --------
    >>> to_ntp(0) >> 32
    2208988800
    """
    seconds, rest = divmod(instant, SECOND)
    return ((seconds + _NTP_EPOCH) % _ERA) << 32 | (rest << 32) // SECOND


def from_ntp(stamp: int, near: int) -> int:
    """A 64-bit NTP time as nanoseconds since 1970, in the era nearest to ``near`` (eras turn in 2036).

    Examples
    --------
    >>> from_ntp(to_ntp(1_500_000_000), near=0)
    1500000000
    >>> year_2037 = 2_114_380_800 * SECOND
    >>> from_ntp(to_ntp(year_2037), near=year_2037) == year_2037
    True
    """
    seconds, part = divmod(stamp, 1 << 32)
    passed = seconds - _NTP_EPOCH
    passed += round((near // SECOND - passed) / _ERA) * _ERA
    return passed * SECOND + (part * SECOND + (1 << 31) >> 32)


def read_ntp(packet: bytes, token: int, sent: int, received: int) -> OffsetSample:
    """The sample in a server's packet; raises ProviderError for one that is no valid answer to ``token``."""
    if len(packet) < _PACKET.size:
        raise ProviderError(f"NTP answer of {len(packet)} bytes, expected {_PACKET.size}")
    first, stratum, _, _, root_delay, root_dispersion, reference, _, origin, arrived, answered = _PACKET.unpack(
        packet[: _PACKET.size]
    )
    leap, mode = first >> 6, first & 7
    if mode != 4 or origin != token:
        raise ProviderError(f"NTP answer of mode {mode} that does not answer our request")
    if stratum == 0:
        raise ThrottledError(f"NTP server says {reference!r} instead of a time", hint="ask less often, or another one")
    if leap == 3 or stratum > 15 or not arrived or not answered:
        raise ProviderError(f"NTP server is not synchronised (stratum {stratum}, leap {leap})")
    extra = (root_delay // 2 + root_dispersion) * SECOND >> 16
    return four_stamp_sample(sent, from_ntp(arrived, sent), from_ntp(answered, sent), received, extra_error=extra)


@dataclass(frozen=True)
class HttpDateProbe:
    """Any HTTP server's ``Date`` header: one second coarse, so let an ``OffsetFilter`` join many samples."""

    url: str
    timeout: float = 5.0
    clock: Stopwatch = Stopwatch()

    def measure(self) -> OffsetSample:
        """One HEAD request; the connection is made before the clock starts."""
        sent, received, answer, _ = _request("HEAD", self.url, self.timeout, self.clock)
        text = answer.getheader("Date")
        try:
            told = parsedate_to_datetime(text or "")
            told_ns = int(told.timestamp()) * SECOND
        except (ValueError, OverflowError) as error:
            raise ProviderError(f"{self.url} answered without a usable Date header: {text!r}") from error
        return one_stamp_sample(sent, received, told_ns, resolution=SECOND)


@dataclass(frozen=True)
class TimeEndpoint:
    """Where an exchange tells its time, and how to read it.

    Parameters
    ----------
    url:
        The public address.
    path:
        Keys and positions that lead to the number in the JSON answer.
    unit:
        What one of it is, in ns.
    resolution:
        To what it is cut, in ns.
    """

    url: str
    path: tuple[str | int, ...]
    unit: int
    resolution: int

    def read(self, body: bytes) -> int:
        """The time in an answer, ns since the epoch.

        Examples
        --------
        >>> ENDPOINTS["binance"].read(b'{"serverTime": 1499827319559}')
        1499827319559000000
        """
        try:
            value: Any = json.loads(body)
            for step in self.path:
                value = value[step]
            told = int(value) * self.unit
        except (ValueError, LookupError, TypeError, RecursionError, OverflowError) as error:
            raise ProviderError(f"{self.url} answered without a time at {list(self.path)}: {body[:80]!r}") from error
        if not 0 < told < 2**63:
            raise ProviderError(f"{self.url} told the time {told}, which is no date")
        return told


ENDPOINTS: Final[Mapping[str, TimeEndpoint]] = {
    "binance": TimeEndpoint("https://api.binance.com/api/v3/time", ("serverTime",), MILLISECOND, MILLISECOND),
    "binance-futures": TimeEndpoint("https://fapi.binance.com/fapi/v1/time", ("serverTime",), MILLISECOND, MILLISECOND),
    "bybit": TimeEndpoint("https://api.bybit.com/v5/market/time", ("result", "timeNano"), 1, 1),
    "coinbase": TimeEndpoint(
        "https://api.coinbase.com/api/v3/brokerage/time", ("epochMillis",), MILLISECOND, MILLISECOND
    ),
    "deribit": TimeEndpoint("https://www.deribit.com/api/v2/public/get_time", ("result",), MILLISECOND, MILLISECOND),
    "kraken": TimeEndpoint("https://api.kraken.com/0/public/Time", ("result", "unixtime"), SECOND, SECOND),
    "okx": TimeEndpoint("https://www.okx.com/api/v5/public/time", ("data", 0, "ts"), MILLISECOND, MILLISECOND),
}
"""By exchange."""


@dataclass(frozen=True)
class EndpointProbe:
    """An exchange's time endpoint."""

    endpoint: TimeEndpoint
    timeout: float = 5.0
    clock: Stopwatch = Stopwatch()

    def measure(self) -> OffsetSample:
        """One GET request; the connection is made before the clock starts."""
        sent, received, answer, body = _request("GET", self.endpoint.url, self.timeout, self.clock)
        if answer.status in (418, 429):
            raise ThrottledError(f"{self.endpoint.url} answered {answer.status}")
        if answer.status != 200:
            raise ProviderError(f"{self.endpoint.url} answered {answer.status}")
        return one_stamp_sample(sent, received, self.endpoint.read(body), resolution=self.endpoint.resolution)


@dataclass(frozen=True)
class CallProbe:
    """Any call that tells a time: a broker's server through its terminal, a database, another process.

    Parameters
    ----------
    read:
        Gives the reference's time, ns since the epoch in UTC (convert a broker's wall time with ``BrokerTime`` first).
    resolution:
        How old or how coarse what it tells may be, ns. A terminal tells the time of the last tick: give the longest
        pause between ticks that is to be expected, and measure while the market is busy.

    Examples
    --------
    >>> CallProbe(lambda: 5_000, 10, Stopwatch(lambda: 1_000, lambda: 0)).measure()
    OffsetSample(offset=4005, error=5, delay=0, at=1000)
    """

    read: Nanoseconds
    resolution: int
    clock: Stopwatch = Stopwatch()

    def measure(self) -> OffsetSample:
        """One call; what it raises is raised."""
        stop = self.clock.start()
        told = self.read()
        sent, received = stop()
        return one_stamp_sample(sent, received, told, resolution=self.resolution)


def _request(
    method: str, url: str, timeout: float, clock: Stopwatch
) -> tuple[int, int, http.client.HTTPResponse, bytes]:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username:
        raise ConfigurationError(f"{url!r} is not an http or https address", hint="without user name and password")
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = kind(parts.hostname, parts.port, timeout=timeout)
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    try:
        connection.connect()
        stop = clock.start()
        connection.request(method, path, headers={"Cache-Control": "no-cache"})
        answer = connection.getresponse()
        sent, received = stop()
        return sent, received, answer, answer.read(_MAXIMUM_BODY)
    except (OSError, http.client.HTTPException) as error:
        raise TemporaryError(f"{url} did not answer: {error}") from error
    finally:
        connection.close()
