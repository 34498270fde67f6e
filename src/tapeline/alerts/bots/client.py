"""A client for authors of bots: takes signals in order, once each, and says what became of them."""

from __future__ import annotations

import json
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Protocol
from urllib.parse import quote, urlencode, urlsplit

from tapeline.alerts.bots.acknowledgement import Acknowledgement
from tapeline.alerts.bots.client_state import ClientStateFile
from tapeline.alerts.bots.signal import Signal, read_signal
from tapeline.alerts.delivery.signing import verify
from tapeline.core.errors import ConfigurationError, DataError, TemporaryError

Handle = Callable[[Signal], Acknowledgement]
"""Acts on a signal and says what came of it."""
WasExecuted = Callable[[Signal], Acknowledgement | None]
"""Looks at the exchange whether a signal was acted on before, by its id; None where it was not."""
STALE: Final = Acknowledgement("rejected", note="stale")
PAGE: Final = 100
_LARGEST: Final = 4 << 20


@dataclass(frozen=True, slots=True)
class OfferedSignal:
    """A signal as the API gives it, and what its bot has said of it so far."""

    signal: Signal
    state: str = "open"


class SignalApi(Protocol):
    """Where signals are asked for and acknowledged."""

    def signals(self, bot: str, after: int, *, limit: int, wait: float) -> Sequence[OfferedSignal]:
        """The signals of a bot behind a place; waits for one where there is none."""
        ...

    def acknowledge(self, bot: str, id: str, said: Acknowledgement) -> None:
        """Say what became of a signal. ``DataError`` where it will never be taken."""
        ...


class SignalClient:
    """Takes the signals of one bot.

    Each signal is written down before it is acted on and after. Killed in between, the client asks ``was_executed``
    when it starts again: give the exchange the signal's id as the id of the order, and it can answer. Then no signal is
    executed twice and none that is still valid is lost.

    Parameters
    ----------
    bot:
        The bot's id.
    state:
        The file of its state; one client at a time uses it.
    handle:
        Acts on a signal. What it raises leaves the signal begun.
    was_executed:
        Needed for a bot that trades; without it, a signal that was begun and not finished is never acted on again.
    api:
        Where signals are asked for and acknowledged; without it, only what is pushed comes in.
    secrets:
        Of signals that are pushed, the newest first.
    clock:
        Nanoseconds since 1970.

    Examples
    --------
    >>> import tempfile
    >>> def handle(signal):
    ...     return Acknowledgement("executed", fill_price=signal.price)
    >>> signal = Signal(id="evt_1", bot="me.desk", sequence=1, symbol="BTCUSDT", pair="BTCUSDT", action="open",
    ...                 side="long", price=60_000.0, rule="r", rule_version="v", ts=0, created_at=0, expires_at=5)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     client = SignalClient("me.desk", Path(folder) / "state.json", handle, clock=lambda: 1)
    ...     client.take(signal).state, client.take(signal)
    ('executed', None)
    """

    def __init__(
        self,
        bot: str,
        state: Path,
        handle: Handle,
        *,
        was_executed: WasExecuted | None = None,
        api: SignalApi | None = None,
        secrets: Sequence[str] = (),
        clock: Callable[[], int] = time.time_ns,
    ) -> None:
        self.bot = bot
        self._handle, self._was_executed, self._api = handle, was_executed, api
        self._secrets, self._clock = tuple(secrets), clock
        self._file = ClientStateFile(state)
        self._state = self._file.load()
        self._lock = threading.RLock()
        self._recover()

    @property
    def cursor(self) -> int:
        """The place of the last signal that it is done with."""
        return self._state.cursor

    def receive(self, headers: Mapping[str, str], body: bytes) -> Acknowledgement | None:
        """Take a signal that was pushed; what it says of it, None where it had it before.

        Raises
        ------
        SignatureError
            It was not signed with one of our secrets, or not within five minutes of now.
        DataError
            It is no signal, or one for another bot.
        """
        verify(self._secrets, headers, body, now=self._clock() / 1e9)
        signal = read_signal(body)
        with self._lock:
            if signal.sequence > self._state.cursor + 1 and self._api is not None:
                # Something before it has not come: it is asked for, so that the order holds.
                self.poll()
            return self.take(signal)

    def poll(self, *, wait: float = 0.0) -> int:
        """Ask for what is behind the cursor and take it; how many signals were new.

        Raises
        ------
        ConfigurationError
            It has no API.
        TemporaryError
            The API does not answer now.
        """
        if self._api is None:
            raise ConfigurationError("the signal client has no API to ask", hint="give it an HttpSignalApi")
        count = 0
        self.say()
        while True:
            found = self._api.signals(self.bot, self.cursor, limit=PAGE, wait=wait if not count else 0.0)
            with self._lock:
                for one in found:
                    if one.signal.sequence > self._state.cursor:
                        count += 1
                        self._take(one.signal, known=one.state)
            self.say()
            if len(found) < PAGE:
                return count

    def take(self, signal: Signal) -> Acknowledgement | None:
        """Take one signal; what is said of it, None where it was taken before.

        Raises
        ------
        DataError
            It is for another bot.
        """
        if signal.bot != self.bot:
            raise DataError(f"this signal is for the bot {signal.bot!r}, not for {self.bot!r}")
        with self._lock:
            if signal.sequence <= self._state.cursor or signal.id in self._state.done:
                return None
            return self._take(signal, known="open")

    def say(self) -> int:
        """Say what has not been said; how many acknowledgements were taken. What cannot be said now stays."""
        if self._api is None:
            return 0
        count = 0
        for id, said in list(self._state.unsaid.items()):
            try:
                self._api.acknowledge(self.bot, id, said)
            except TemporaryError:
                return count
            except DataError:
                pass  # it was said otherwise before, or is no longer kept: saying it again changes nothing
            with self._lock:
                left = {name: value for name, value in self._state.unsaid.items() if name != id}
                self._keep(replace(self._state, unsaid=left))
            count += 1
        return count

    def _take(self, signal: Signal, *, known: str) -> Acknowledgement | None:
        said: Acknowledgement | None
        # What was accepted before, as far as we remember, and cannot be asked for, is not acted on again.
        over = ("executed", "rejected") if self._was_executed is not None else ("accepted", "executed", "rejected")
        if known in over or signal.action == "hold":
            said = None
        else:
            before = self._was_executed(signal) if known == "accepted" and self._was_executed is not None else None
            said = before if before is not None else self._act(signal)
        self._keep(self._state.finished(signal.id, signal.sequence, said))
        return said

    def _act(self, signal: Signal) -> Acknowledgement:
        self._keep(replace(self._state, begun=signal.text()))
        # Asked last: writing it down takes its time too.
        if signal.is_stale(self._clock()):
            return STALE
        return self._handle(signal)

    def _recover(self) -> None:
        """Finish what was begun when the client ended."""
        if not self._state.begun:
            return
        signal = read_signal(self._state.begun)
        if self._was_executed is None:
            said = Acknowledgement("rejected", note="begun before a restart; whether it was executed is not known")
        else:
            found = self._was_executed(signal)
            said = found if found is not None else STALE
            if found is None and not signal.is_stale(self._clock()):
                said = self._handle(signal)
        self._keep(self._state.finished(signal.id, signal.sequence, said))

    def _keep(self, state: Any) -> None:
        self._file.save(state)
        self._state = state


class HttpSignalApi:
    """The API over HTTP, with what Python itself has.

    Parameters
    ----------
    url:
        Of the gateway, such as ``https://alerts.example.org``.
    token:
        An API key of the bot's owner.
    timeout:
        Seconds for one request, beside what it may wait.
    """

    def __init__(self, url: str, token: str, *, timeout: float = 10.0) -> None:
        if urlsplit(url).scheme not in ("http", "https"):
            raise ConfigurationError(f"{url!r} is no address of the API", hint="https://alerts.example.org")
        self._url, self._token, self._timeout = url.rstrip("/"), token, timeout

    def signals(self, bot: str, after: int, *, limit: int, wait: float) -> Sequence[OfferedSignal]:
        """The signals of a bot behind a place."""
        query = urlencode({"bot": bot, "after": after, "limit": limit, "wait": wait})
        return read_offer(self._ask("GET", f"/v1/signals?{query}", None, self._timeout + wait))

    def acknowledge(self, bot: str, id: str, said: Acknowledgement) -> None:
        """Say what became of a signal."""
        path = f"/v1/signals/{quote(bot, safe='')}/{quote(id, safe='')}/acknowledgement"
        self._ask("PUT", path, acknowledgement_json(said), self._timeout)

    def _ask(self, method: str, path: str, body: Mapping[str, Any] | None, timeout: float) -> Any:
        request = urllib.request.Request(  # noqa: S310 - the scheme was checked
            self._url + path,
            None if body is None else json.dumps(body).encode(),
            {"Authorization": f"Bearer {self._token}", "Content-Type": "application/json"},
            method=method,
        )
        try:
            with urllib.request.urlopen(request, timeout=timeout) as answer:  # noqa: S310
                return json.loads(answer.read(_LARGEST))
        except urllib.error.HTTPError as error:
            if error.code in (408, 425, 429) or error.code >= 500:
                raise TemporaryError(f"the API answered {error.code}") from None
            raise DataError(f"the API refused: {error.code}") from None
        except (OSError, ValueError) as error:
            raise TemporaryError(f"the API does not answer: {type(error).__name__}") from None


def read_offer(answer: Any) -> tuple[OfferedSignal, ...]:
    """The signals in an answer of ``GET /v1/signals``.

    Raises
    ------
    DataError
        It is none.
    """
    try:
        return tuple(
            OfferedSignal(read_signal(json.dumps(one["signal"])), str(one["state"])) for one in answer["items"]
        )
    except (KeyError, TypeError):
        raise DataError("the API's answer holds no signals") from None


def acknowledgement_json(said: Acknowledgement) -> dict[str, Any]:
    """An acknowledgement as the API takes it."""
    plain = {"state": said.state, "price": said.fill_price, "quantity": said.fill_quantity, "note": said.note or None}
    return {name: value for name, value in plain.items() if value is not None}
