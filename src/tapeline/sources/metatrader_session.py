"""A session with a MetaTrader 5 terminal: log in, ask, and come back after a lost connection."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final

from tapeline.core.errors import ConfigurationError, ProviderError, TapelineError
from tapeline.core.settings import MetaTraderSettings, NetworkSettings
from tapeline.sources.base import Failed, Throttled, require, unknown_symbol
from tapeline.sources.metatrader_errors import AuthorizationFailedError, MetaTraderError, error_for
from tapeline.sources.metatrader_gateway import NativeGateway, PackageGateway, TerminalGateway
from tapeline.sources.retry import Retry

CONNECTION_CODES: Final = frozenset({-10000, -10001, -10002, -10004, -10005})
"""Codes after which the connection is left and entered again."""


class AnswerLostError(MetaTraderError, ProviderError):
    """The connection broke under a trade request: it may have been executed. Not a TemporaryError, on purpose."""


class MetaTraderSession:
    """One login, kept alive.

    A read that fails because the connection was lost is made again after a reconnection, with the waits of the network
    settings; any other failure is raised at once, as the exception of its code. A trade request is never repeated:
    after a lost answer it may stand. The password goes to the terminal and appears in no message.

    Parameters
    ----------
    gateway:
        How the terminal is reached.
    settings:
        ``login`` and ``server`` are held against the account that the terminal gives.
    sleep:
        Waits between tries; injected in tests.

    Raises
    ------
    MetaTraderError
        From every method: the exception of the terminal's code.
    """

    def __init__(
        self,
        gateway: TerminalGateway,
        settings: MetaTraderSettings,
        *,
        network: NetworkSettings | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._gateway = gateway
        self._settings = settings
        self._retry = Retry.of(network or NetworkSettings(), sleep)
        self._entered = False
        self._selected: set[str] = set()
        self.connections = 0

    def __enter__(self) -> MetaTraderSession:
        self.ask("account_info")
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def settings(self) -> MetaTraderSettings:
        """The settings it was opened with."""
        return self._settings

    def close(self) -> None:
        """Leave the terminal."""
        self._gateway.disconnect()
        self._entered = False

    def account(self) -> Any:
        """``AccountInfo``: balance, equity, margin, leverage, currency, whether trading is allowed, and the rest."""
        return self.ask("account_info")

    def terminal(self) -> Any:
        """``TerminalInfo``."""
        return self.ask("terminal_info")

    def symbols(self, group: str = "*") -> list[str]:
        """Names of the broker's instruments, by MetaTrader's patterns (``*USD*,!EUR*``)."""
        return [symbol.name for symbol in self.ask("symbols_get", group=group)]

    def symbol(self, symbol: str) -> Any:
        """``SymbolInfo`` of one instrument, selected."""
        self.select(symbol)
        return self.ask("symbol_info", symbol)

    def tick(self, symbol: str) -> Any:
        """The newest ``Tick`` of an instrument, on the server's clock."""
        self.select(symbol)
        return self.ask("symbol_info_tick", symbol)

    def select(self, symbol: str) -> None:
        """Put an instrument into the market watch, without which it has neither ticks nor history.

        Raises ProviderError where the broker has none of that name, with the nearest ones as a hint.
        """
        if symbol in self._selected:
            return
        # False is this call's way to say that there is no such instrument; a lost connection says so with its code.
        if not self.ask("symbol_select", symbol, True, none_is_error=False):
            raise ProviderError(
                f"the broker has no instrument {symbol!r}",
                hint=unknown_symbol(symbol, self.symbols(), "the broker"),
            )
        self._selected.add(symbol)

    def positions(self, symbol: str | None = None) -> tuple[Any, ...]:
        """Open positions."""
        return tuple(self.ask("positions_get", symbol=symbol) if symbol else self.ask("positions_get"))

    def orders(self, symbol: str | None = None) -> tuple[Any, ...]:
        """Waiting orders."""
        return tuple(self.ask("orders_get", symbol=symbol) if symbol else self.ask("orders_get"))

    def ask(self, name: str, *arguments: Any, none_is_error: bool = True, **options: Any) -> Any:
        """One reading call of the package; a lost connection is entered again and the call repeated."""
        outcome = self._retry.run(lambda: self._once(name, arguments, options, none_is_error), self._classify)
        if isinstance(outcome, Throttled | Failed):
            return require(outcome)
        return outcome

    def tell(self, name: str, request: dict[str, Any]) -> Any:
        """One call that may change something: the connection is made sure of first, the call is made once.

        Raises
        ------
        AnswerLostError
            The connection broke under the call, so that nobody knows what became of the request.
        """
        self.ask("account_info")
        answer = self._gateway.call(name, request)
        if answer is None:
            code, text = self._gateway.last_error()
            if code in CONNECTION_CODES:
                self.close()
                raise AnswerLostError(
                    f"MetaTrader 5: the answer to {name} was lost with code {code}: {text}",
                    hint="look at positions and orders before anything is sent again",
                )
            raise error_for((code, text), name)
        return answer

    def _once(self, name: str, arguments: tuple[Any, ...], options: dict[str, Any], none_is_error: bool) -> Any:
        if not self._entered:
            self._enter()
        answer = self._gateway.call(name, *arguments, **options)
        if answer is None or answer is False:
            code, text = self._gateway.last_error()
            if code in CONNECTION_CODES:
                self.close()
                raise error_for((code, text), name)
            if answer is None and none_is_error:
                raise error_for((code, text), name)
        return answer

    def _enter(self) -> None:
        if not self._gateway.connect():
            raise error_for(self._gateway.last_error(), "initialize")
        self._selected.clear()
        account = self._gateway.call("account_info")
        if account is None:
            error = error_for(self._gateway.last_error(), "account_info")
            self._gateway.disconnect()
            raise error
        for field in ("login", "server"):
            wanted = getattr(self._settings, field)
            if wanted is not None and getattr(account, field) != wanted:
                self._gateway.disconnect()
                raise AuthorizationFailedError(
                    f"MetaTrader 5: the terminal is logged in with another {field} than metatrader.{field}",
                    hint="log out in the terminal, or set metatrader.password so that it can change the account",
                )
        self._entered = True
        self.connections += 1

    @staticmethod
    def _classify(error: Exception) -> Failed:
        if isinstance(error, TapelineError):
            return Failed(error)
        return Failed(ProviderError(f"MetaTrader 5: {type(error).__name__}: {error}"))


def open_gateway(settings: MetaTraderSettings, network: NetworkSettings) -> PackageGateway:
    """The gateway that the settings name: a bridge where ``metatrader.bridge`` is set, else the native package."""
    if settings.bridge is None:
        return NativeGateway(settings, network)
    if settings.bridge_token is None:
        raise ConfigurationError(
            "metatrader.bridge is set without metatrader.bridge_token", hint="the bridge prints it"
        )

    def load() -> Any:
        from tapeline.sources.metatrader_bridge import bridged_package

        return bridged_package(settings, network.timeout_seconds)

    return PackageGateway(settings, network, load)
