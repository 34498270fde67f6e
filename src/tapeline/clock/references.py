"""References by their settings: an address becomes a probe."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Final

from tapeline.clock.probes import ENDPOINTS, EndpointProbe, HttpDateProbe, NtpProbe, Probe, Stopwatch
from tapeline.core.errors import ConfigurationError

_NTP: Final = re.compile(r"ntp://(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9.-]+)(?::(\d{1,5}))?/?")
_EXCHANGE: Final = re.compile(r"exchange:([a-z0-9-]+)(?:@(https?://\S+))?")
_HINT: Final = "ntp://pool.ntp.org, https://example.com, exchange:binance, exchange:binance@https://mirror/time"


def parse_reference(text: str, *, timeout: float = 3.0, clock: Stopwatch | None = None) -> tuple[str, Probe]:
    """Read an address: its kind (``ntp``, ``http`` or ``exchange``) and the probe that asks it.

    Parameters
    ----------
    text:
        ``ntp://host[:port]``; ``http://...`` or ``https://...``, whose ``Date`` header is read; ``exchange:<name>`` for
        one of :data:`tapeline.clock.probes.ENDPOINTS`, with ``@<address>`` where it is reached elsewhere.
    timeout:
        Of one round trip, in seconds.
    clock:
        The local clocks.

    Raises
    ------
    ConfigurationError
        None of these.

    Examples
    --------
    >>> kind, probe = parse_reference("ntp://127.0.0.1:1234")
    >>> kind, probe.host, probe.port
    ('ntp', '127.0.0.1', 1234)
    """
    clock = clock or Stopwatch()
    found = _NTP.fullmatch(text)
    if found and 0 < int(found[2] or 123) < 65_536:
        return "ntp", NtpProbe(found[1].strip("[]"), int(found[2] or 123), timeout, clock)
    if re.fullmatch(r"https?://[^\s@]+", text):
        return "http", HttpDateProbe(text, timeout, clock)
    found = _EXCHANGE.fullmatch(text)
    if found and found[1] in ENDPOINTS:
        endpoint = ENDPOINTS[found[1]]
        return "exchange", EndpointProbe(replace(endpoint, url=found[2] or endpoint.url), timeout, clock)
    known = f"; exchanges: {', '.join(ENDPOINTS)}" if text.startswith("exchange:") else ""
    raise ConfigurationError(f"clock reference {text!r} is not understood", hint=_HINT + known)
