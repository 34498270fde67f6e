"""A bridge to a terminal elsewhere on this machine: RPyC between Linux and a Windows Python under Wine.

Started beside the terminal with ``python -m tapeline.sources.metatrader_bridge``, in the Windows Python that has the
``MetaTrader5`` package. It serves one function on the loopback interface. RPyC's classic server is not used: it
executes whatever a client sends. Here pickles and remote attributes are off, only the calls of the package pass, only
text and bytes are sent, and a client must know the secret that the bridge was started with. For a terminal on another
machine, put an SSH tunnel between.
"""

from __future__ import annotations

import hmac
import ipaddress
import os
import secrets
import sys
import threading
from collections.abc import Callable
from typing import Any, Final

from tapeline.core.errors import ConfigurationError, MissingExtraError, TemporaryError
from tapeline.core.settings import MetaTraderSettings
from tapeline.sources.metatrader_gateway import CALLS, import_package
from tapeline.sources.metatrader_wire import decode, encode

DEFAULT_PORT: Final = 18812
TOKEN_VARIABLE: Final = "TAPELINE_METATRADER__BRIDGE_TOKEN"  # noqa: S105 - the name of a variable
OWN_CALLS: Final = frozenset({"initialize", "login", "shutdown", "last_error"})
PROTOCOL: Final = {
    "allow_pickle": False,
    "allow_public_attrs": False,
    "allow_all_attrs": False,
    "allow_setattr": False,
    "allow_delattr": False,
    "import_custom_exceptions": False,
    "include_local_traceback": False,
}


class BridgeServer:
    """Serves a package on a port of the loopback interface.

    Parameters
    ----------
    package:
        Anything with the surface of the ``MetaTrader5`` package. Calls are made one at a time, as the package is not
        made for several threads.
    token:
        The secret that every call must carry.
    port:
        0 takes a free one; read it as ``port``.
    """

    def __init__(self, package: Any, token: str, *, host: str = "127.0.0.1", port: int = DEFAULT_PORT) -> None:
        rpyc, server = _rpyc()
        if len(token) < 16:
            raise ConfigurationError("the bridge's token is shorter than 16 characters", hint=f"set {TOKEN_VARIABLE}")

        lock = threading.Lock()

        class Service(rpyc.Service):  # type: ignore[name-defined]
            def exposed_call(self, given: str, name: str, text: str) -> Any:
                if not hmac.compare_digest(given.encode(), token.encode()):
                    raise PermissionError("the token is wrong")
                if name not in CALLS | OWN_CALLS:
                    raise PermissionError(f"the call {name!r} is not allowed")
                positional, named = decode(text, ())
                with lock:
                    return encode(getattr(package, name)(*positional, **named))

        self._server = server(
            Service,
            hostname=loopback(host),
            port=port,
            protocol_config=PROTOCOL,
            logger=_quiet(),
        )
        self.port: int = self._server.port

    def serve(self) -> None:
        """Serve until closed; blocks."""
        self._server.start()

    def close(self) -> None:
        """Stop serving."""
        self._server.close()


class BridgedPackage:
    """The near end of a bridge: the package's functions, each a call over the wire.

    A lost connection is what it is in the package, an answer of None with ``last_error`` -10004, so that everything
    above treats both alike; the gateway's next connection makes a new one.

    Raises
    ------
    ConfigurationError
        The host is not on the loopback interface, or the bridge refuses the token.
    TemporaryError
        Nothing listens there.
    """

    def __init__(self, host: str, port: int, token: str, *, timeout: float = 20.0) -> None:
        rpyc, _ = _rpyc()
        self._token = token
        self._lost = False
        try:
            self._connection = rpyc.connect(
                loopback(host), port, config={**PROTOCOL, "sync_request_timeout": timeout}, keepalive=True
            )
        except OSError as error:
            raise TemporaryError(
                f"no bridge answers at {host}:{port}: {error}", hint="start it beside the terminal"
            ) from error
        # A wrong token shows here, where a person can be told, and not as a failed login.
        try:
            self._remote("last_error")
        except ConfigurationError:
            self._connection.close()
            raise

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name not in CALLS | OWN_CALLS:
            raise AttributeError(name)
        return lambda *positional, **named: self._remote(name, *positional, **named)

    def shutdown(self) -> None:
        """Leave the terminal and hang up."""
        self._remote("shutdown")
        self._lost = True
        self._connection.close()

    def _remote(self, name: str, *positional: Any, **named: Any) -> Any:
        if self._lost:
            return (-10004, "the bridge was lost") if name == "last_error" else None
        try:
            text, _ = encode((positional, named))
            answer = self._connection.root.call(self._token, name, text)
        except PermissionError as error:
            raise ConfigurationError(
                "the bridge refused the call", hint=f"set {TOKEN_VARIABLE} on both sides"
            ) from error
        except (EOFError, OSError, TimeoutError):
            self._lost = True
            self._connection.close()
            return self._remote(name)
        return decode(str(answer[0]), tuple(bytes(part) for part in answer[1]))


def loopback(host: str) -> str:
    """The host, if it is on the loopback interface.

    Examples
    --------
    >>> loopback("127.0.0.1")
    '127.0.0.1'
    >>> loopback("192.168.0.7")
    Traceback (most recent call last):
    ...
    tapeline.core.errors.ConfigurationError: the bridge's host '192.168.0.7' is not on the loopback interface (use \
127.0.0.1, through an SSH tunnel where the terminal is on another machine)
    """
    try:
        local = ipaddress.ip_address("127.0.0.1" if host == "localhost" else host).is_loopback
    except ValueError:
        local = False
    if not local:
        raise ConfigurationError(
            f"the bridge's host {host!r} is not on the loopback interface",
            hint="use 127.0.0.1, through an SSH tunnel where the terminal is on another machine",
        )
    return "127.0.0.1" if host == "localhost" else host


def bridged_package(settings: MetaTraderSettings, timeout: float) -> BridgedPackage:
    """Connect to the bridge that the settings name."""
    host, mark, port = (settings.bridge or "").rpartition(":")
    if not mark or not port.isdigit() or settings.bridge_token is None:
        raise ConfigurationError(
            "metatrader.bridge must be 'host:port' and metatrader.bridge_token must be set",
            hint=f"for instance 127.0.0.1:{DEFAULT_PORT}",
        )
    return BridgedPackage(host, int(port), settings.bridge_token.get_secret_value(), timeout=timeout)


def _rpyc() -> tuple[Any, Any]:
    try:
        import rpyc
        from rpyc.utils.server import ThreadedServer
    except ImportError as error:
        raise MissingExtraError("rpyc", "mt5-bridge") from error
    return rpyc, ThreadedServer


def _quiet() -> Any:
    import logging

    logger = logging.getLogger("tapeline.sources.metatrader_bridge")
    logger.setLevel(logging.CRITICAL)  # rpyc logs the arguments of failed calls, and the token is one of them
    return logger


def main() -> None:
    """Serve the terminal of this machine; the secret is read from the environment, or made and printed once."""
    package = import_package()
    token = os.environ.get(TOKEN_VARIABLE) or secrets.token_urlsafe(24)
    server = BridgeServer(package, token, port=int(sys.argv[1]) if len(sys.argv) > 1 else DEFAULT_PORT)
    if TOKEN_VARIABLE not in os.environ:
        sys.stdout.write(f"{TOKEN_VARIABLE}={token}\n")
    sys.stdout.write(f"serving MetaTrader 5 on 127.0.0.1:{server.port}\n")
    server.serve()


if __name__ == "__main__":
    main()
