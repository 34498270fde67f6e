"""What a stream needs of HTTP: one GET, asynchronous, with errors that say whether to try again."""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Mapping
from typing import Final, Protocol
from urllib.parse import urlsplit

from tapeline.core.errors import ConfigurationError, ProviderError, TemporaryError, ThrottledError

MAXIMUM_BYTES: Final = 32 * 1024 * 1024
_THROTTLED: Final = (418, 429)  # Binance answers 418 to who goes on after a 429


class HttpClient(Protocol):
    """Fetches a path of one server. Tests pass their own."""

    async def get(self, path: str, parameters: Mapping[str, str]) -> bytes:
        """The body of a 200 answer.

        Raises
        ------
        ThrottledError, TemporaryError
            The same call may succeed later.
        ProviderError
            The server refused.
        """
        ...


class RequestsClient:
    """The default client: requests in a thread, no redirects, no proxy of the environment, bounded bodies.

    Parameters
    ----------
    base:
        ``https://``; ``http://`` on the loopback interface only.
    timeout:
        Seconds for connecting, and for each read.
    headers:
        Sent with each request, such as a token; no error names them.
    """

    def __init__(
        self,
        base: str,
        *,
        timeout: float = 10.0,
        maximum_bytes: int = MAXIMUM_BYTES,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self._headers = dict(headers or {})
        self.base, self.timeout, self.maximum_bytes = checked_address(base), timeout, maximum_bytes

    async def get(self, path: str, parameters: Mapping[str, str]) -> bytes:
        """See :class:`HttpClient`."""
        return await asyncio.to_thread(self._get, path, dict(parameters))

    def _get(self, path: str, parameters: dict[str, str]) -> bytes:
        import requests

        try:
            with requests.Session() as session:
                session.trust_env = False
                with session.get(
                    self.base + path,
                    params=parameters,
                    headers=self._headers,
                    timeout=self.timeout,
                    allow_redirects=False,
                    stream=True,
                ) as answer:
                    body = bytearray()
                    for part in answer.iter_content(65_536):
                        body += part
                        if len(body) > self.maximum_bytes:
                            raise ProviderError(f"{path}: the answer is longer than {self.maximum_bytes} bytes")
                    status, wait = answer.status_code, answer.headers.get("Retry-After", "")
        except requests.RequestException as error:
            raise TemporaryError(f"{path}: {type(error).__name__}") from error
        if status in _THROTTLED:
            raise ThrottledError(f"{path}: status {status}", retry_after=float(wait) if wait.isdecimal() else None)
        if status >= 500:
            raise TemporaryError(f"{path}: status {status}")
        if status != 200:
            raise ProviderError(f"{path}: status {status}: {bytes(body[:200])!r}")
        return bytes(body)


def checked_address(base: str) -> str:
    """The address of a server without its last slash: ``https://``, or ``http://`` on the loopback interface.

    Raises
    ------
    ConfigurationError
        Any other address.

    Examples
    --------
    >>> checked_address("https://api.example.org/")
    'https://api.example.org'
    """
    parts = urlsplit(base)
    if not parts.hostname or not (parts.scheme == "https" or (parts.scheme == "http" and _local(parts.hostname))):
        raise ConfigurationError(f"{base!r} is not an https:// address")
    return base.rstrip("/")


def _local(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
