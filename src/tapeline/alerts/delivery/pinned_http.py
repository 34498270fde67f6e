"""One HTTP request to an address that was checked, bounded in time and in what is read of the answer."""

from __future__ import annotations

import contextlib
import http.client
import socket
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from tapeline.alerts.delivery.ssrf import Target
from tapeline.core.errors import TemporaryError
from tapeline.monitoring.channels import seconds, within
from tapeline.monitoring.notification import clean_text

EXCERPT: Final = 256
_MOST_READ: Final = 4 * EXCERPT


@dataclass(frozen=True)
class Answer:
    """What was answered: the status, the seconds of ``Retry-After`` where it was given, and at most 256 characters.

    ``limits`` are the headers in which a service tells its rate limits, by their names in lower case.
    """

    status: int
    retry_after: float | None
    excerpt: str
    limits: Mapping[str, str] = field(default_factory=dict)


class UnansweredError(TemporaryError):
    """The request left and no whole answer came: it may have been acted on."""


@dataclass(frozen=True)
class Response:
    """A whole answer: its status, its headers by their names in lower case, and at most so much of its body."""

    status: int
    headers: Mapping[str, str]
    body: bytes


def post(
    target: Target,
    body: bytes,
    headers: Mapping[str, str],
    *,
    timeout: float = 15.0,
    context: ssl.SSLContext | None = None,
) -> Answer:
    """:func:`request` with POST; the start of the answer, fit to be shown.

    Raises
    ------
    TemporaryError
        No whole answer came in time, or what came was no HTTP.
    """
    response = request("POST", target, body, headers, timeout=timeout, context=context)
    excerpt = " ".join(clean_text(response.body.decode("utf-8", "replace")).split())[:EXCERPT]
    limits = {name: value[:100] for name, value in response.headers.items() if name.startswith("x-ratelimit-")}
    return Answer(response.status, seconds(response.headers.get("retry-after")), excerpt, limits)


def request(
    method: str,
    target: Target,
    body: bytes,
    headers: Mapping[str, str],
    *,
    most: int = _MOST_READ,
    timeout: float = 15.0,
    context: ssl.SSLContext | None = None,
) -> Response:
    """Send it to one of the target's own addresses; no redirect is followed and no proxy is asked.

    TLS is made with the target's name: its certificate must be valid for it.

    Parameters
    ----------
    most:
        Bytes of the answer's body that are read; the rest is left.
    timeout:
        Seconds for all of it: a server that answers one byte at a time does not hold us.
    context:
        Which certificates are trusted; those of the system by default.

    Raises
    ------
    UnansweredError
        The request left, and then no whole answer came in time, or what came was no HTTP.
    TemporaryError
        The same before anything of the request had left.
    """
    connection = _Connection(target, timeout, context)
    left = False

    def work() -> Response:
        nonlocal left
        connection.connect()
        connection.putrequest(method, target.path, skip_host=True, skip_accept_encoding=True)
        fixed = {"Host": target.authority, "User-Agent": "tapeline", "Accept-Encoding": "identity"}
        if body or method == "POST":
            fixed["Content-Length"] = str(len(body))
        for name, value in {**fixed, "Connection": "close", **headers}.items():
            connection.putheader(name, value)
        left = True
        connection.endheaders(body or None)
        response = connection.getresponse()
        read = response.read(most)
        return Response(response.status, {name.lower(): value for name, value in response.headers.items()}, read)

    def failed(message: str) -> TemporaryError:
        return UnansweredError(message) if left else TemporaryError(message)

    try:
        return within(timeout, work)
    except TimeoutError:
        raise failed(f"no answer within {timeout:g} s") from None
    except ssl.SSLError as error:
        raise failed(f"TLS failed: {error.reason or type(error).__name__}") from None
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise failed(f"the connection failed: {type(error).__name__}") from None
    finally:
        connection.abort()


class _Connection(http.client.HTTPConnection):
    def __init__(self, target: Target, timeout: float, context: ssl.SSLContext | None) -> None:
        super().__init__(target.host, target.port, timeout=timeout)
        self._target = target
        self._context = context

    def connect(self) -> None:
        for position, address in enumerate(self._target.addresses, start=1):
            try:
                self.sock = socket.create_connection((address, self.port), self.timeout)
                break
            except OSError:
                if position == len(self._target.addresses):
                    raise
        if self._target.scheme == "https":
            context = self._context or ssl.create_default_context()
            self.sock = context.wrap_socket(self.sock, server_hostname=self._target.host)

    def abort(self) -> None:
        """Close at once, also while the abandoned thread still reads."""
        sock = self.sock
        if sock is not None:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        self.close()
