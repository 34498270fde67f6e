"""Channels: one interface to send a notification, and what each service answered.

Telegram and Slack are spoken directly, because apprise returns only true or false: it hides the status code and the
wait that a 429 asks for. Every other service goes through apprise.
"""

from __future__ import annotations

import contextvars
import json
import logging
import math
import queue
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final, Literal, Protocol, TypeVar

from tapeline.core.errors import ConfigurationError
from tapeline.monitoring.addresses import AppriseAddress, SlackAddress, TelegramAddress, parse_address
from tapeline.monitoring.formatting import plain_text, slack_payload, telegram_html
from tapeline.monitoring.notification import Notification, Severity, clean_text, shorten
from tapeline.monitoring.redaction import Redactor, redacted_logs, secret_parts

Outcome = Literal["sent", "throttled", "refused", "failed", "duplicate"]
Result = TypeVar("Result")

MAXIMUM_RETRY_AFTER: Final = 86_400.0
MAXIMUM_ANSWER_BYTES: Final = 65_536
MAXIMUM_DETAIL: Final = 300


@dataclass(frozen=True)
class Delivery:
    """What became of one notification on one channel.

    Parameters
    ----------
    channel:
        The channel's name, which holds no secret.
    outcome:
        ``sent``: the service took it. ``throttled``: a rate limit, the service's or our own; it is kept. ``refused``:
        the service answered that it will not take it (a wrong token, an unknown chat). ``failed``: no usable answer
        (a time-out, a lost connection, a 5xx). ``duplicate``: the same was sent before; counted, not sent.
    detail:
        Why, in one line without secrets.
    retry_after:
        Seconds the service asked us to wait, where it said so.
    """

    channel: str
    outcome: Outcome
    detail: str = ""
    retry_after: float | None = None


class Channel(Protocol):
    """Somewhere a notification can be sent."""

    @property
    def name(self) -> str:
        """What the outbox, the rate limit and the log call it; constant for one address and without secrets."""
        ...

    def send(self, notification: Notification) -> Delivery:
        """Send it now, once. A bad answer is a ``Delivery``, not an exception."""
        ...


class TelegramChannel:
    """One chat of a Telegram bot, by ``sendMessage`` of the Bot API."""

    def __init__(self, address: TelegramAddress, timeout_seconds: float = 10.0) -> None:
        self.name = address.name
        self._address = address
        self._timeout = timeout_seconds
        self._redact = Redactor([address.token, address.token.partition(":")[2]])

    def payload(self, notification: Notification) -> dict[str, Any]:
        """The JSON body of ``sendMessage``: HTML with every user text escaped, at most 4096 characters when parsed."""
        fields: dict[str, Any] = {
            "chat_id": self._address.chat_id,
            "text": telegram_html(notification),
            "parse_mode": "HTML",
            "link_preview_options": {"is_disabled": True},
            "disable_notification": self._address.silent,
        }
        if self._address.topic is not None:
            fields["message_thread_id"] = self._address.topic
        return fields

    def send(self, notification: Notification) -> Delivery:
        """Send it; a group that became a supergroup is followed to its new id once."""
        payload = self.payload(notification)
        delivery, moved_to = self._post(payload)
        if moved_to is None:
            return delivery
        delivery, _ = self._post({**payload, "chat_id": str(moved_to)})
        detail = f"the chat has moved: change its id to {moved_to} in the address; {delivery.detail}"
        return Delivery(self.name, delivery.outcome, detail, delivery.retry_after)

    def _post(self, payload: dict[str, Any]) -> tuple[Delivery, int | None]:
        url = f"{self._address.api}/bot{self._address.token}/sendMessage"
        answer = _post(self.name, url, payload, self._timeout, self._redact)
        if isinstance(answer, Delivery):
            return answer, None
        fields = answer.fields()
        parameters = fields.get("parameters")
        parameters = parameters if isinstance(parameters, dict) else {}
        said = str(fields.get("description", "")) or answer.body
        if answer.status == 200 and fields.get("ok") is True:
            return Delivery(self.name, "sent"), None
        moved_to = parameters.get("migrate_to_chat_id")
        delivery = _judged(
            self.name, answer, said, self._redact, seconds(parameters.get("retry_after")), "is no answer of the Bot API"
        )
        moved = answer.status == 400 and isinstance(moved_to, int) and not isinstance(moved_to, bool)
        return delivery, moved_to if moved else None

    def __repr__(self) -> str:
        return f"TelegramChannel({self.name})"


class SlackChannel:
    """One Slack incoming webhook."""

    def __init__(self, address: SlackAddress, timeout_seconds: float = 10.0) -> None:
        self.name = address.name
        self._address = address
        self._timeout = timeout_seconds
        self._redact = Redactor([address.tokens, address.tokens.rpartition("/")[2]])

    def payload(self, notification: Notification) -> dict[str, Any]:
        """The JSON body, see :func:`tapeline.monitoring.formatting.slack_payload`."""
        fields = slack_payload(notification)
        if self._address.target is not None:
            fields["channel"] = self._address.target
        return fields

    def send(self, notification: Notification) -> Delivery:
        """Send it; only the plain answer ``ok`` counts as sent."""
        url = f"{self._address.api}/services/{self._address.tokens}"
        answer = _post(self.name, url, self.payload(notification), self._timeout, self._redact)
        if isinstance(answer, Delivery):
            return answer
        if answer.status == 200 and answer.body.strip() == "ok":
            return Delivery(self.name, "sent")
        return _judged(self.name, answer, answer.body, self._redact, None, "is not Slack's 'ok'")

    def __repr__(self) -> str:
        return f"SlackChannel({self.name})"


class AppriseChannel:
    """Any service that apprise knows; its answer is true or false, with apprise's own log lines as the reason."""

    def __init__(self, address: AppriseAddress, timeout_seconds: float = 10.0) -> None:
        import apprise

        self.name = address.name
        self._scheme = address.scheme
        self._timeout = timeout_seconds
        self._redact = Redactor(secret_parts(address.url))
        self._apprise = apprise.Apprise()
        with redacted_logs(self._redact):
            if not self._apprise.add(address.url):
                raise ConfigurationError(
                    f"a {address.scheme}:// address is refused by apprise",
                    hint="'apprise --details' lists every service and the form of its address",
                )
        for service in self._apprise:
            service.socket_connect_timeout = service.socket_read_timeout = timeout_seconds
            # One notification is one message: the rest of a long text is not worth a second one.
            service.overflow_mode = apprise.OverflowMode.TRUNCATE

    def send(self, notification: Notification) -> Delivery:
        """Send it as plain text."""
        import apprise

        kinds = {Severity.INFO: apprise.NotifyType.INFO, Severity.WARNING: apprise.NotifyType.WARNING}
        body = plain_text(notification)
        title = notification.title
        if self._scheme == "discord":
            # Discord obeys @everyone in a webhook's plain text; a zero-width space behind the @ keeps it a word.
            body, title = body.replace("@", "@\u200b"), title.replace("@", "@\u200b")

        def work() -> tuple[bool, str]:
            with redacted_logs(self._redact), apprise.LogCapture(level=logging.WARNING, fmt="%(message)s") as captured:
                taken = self._apprise.notify(
                    body=body,
                    title=title,
                    notify_type=kinds.get(notification.severity, apprise.NotifyType.FAILURE),
                    body_format=apprise.NotifyFormat.TEXT,
                )
                return bool(taken), captured.getvalue()

        try:
            taken, said = within(self._timeout, work)
        except TimeoutError:
            return Delivery(self.name, "failed", f"no answer within {self._timeout:g} s")
        except Exception as error:  # noqa: BLE001 - hundreds of plugins, each with errors of its own
            return Delivery(self.name, "failed", _line(f"{type(error).__name__}: {error}", self._redact))
        return Delivery(self.name, "sent") if taken else Delivery(self.name, "failed", _line(said, self._redact))

    def __repr__(self) -> str:
        return f"AppriseChannel({self.name})"


def open_channels(urls: Iterable[str], timeout_seconds: float = 10.0) -> tuple[list[Channel], list[Delivery]]:
    """The channels of these addresses, and for each unusable address a ``refused`` delivery that says why.

    One bad address must not silence the good ones, so none raises. An address that stands twice is opened once.
    """
    channels: dict[str, Channel] = {}
    problems: list[Delivery] = []
    for position, url in enumerate(urls, start=1):
        try:
            for address in parse_address(url):
                channels.setdefault(address.name, _open(address, timeout_seconds))
        except ConfigurationError as error:
            problems.append(Delivery(f"address-{position}", "refused", str(error)))
        except Exception as error:  # noqa: BLE001 - an apprise plugin may raise anything; its text may hold the address
            problems.append(Delivery(f"address-{position}", "refused", f"cannot be opened: {type(error).__name__}"))
    return list(channels.values()), problems


def seconds(value: object) -> float | None:
    """A wait in seconds from a number, its text or an HTTP date; None where it is none; at most a day, at least 0.

    Examples
    --------
    >>> seconds("30"), seconds(-5), seconds("soon"), seconds("inf"), seconds(True)
    (30.0, 0.0, None, None, None)
    """
    if value is None or isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    try:
        wait = float(value)
    except (ValueError, OverflowError):
        try:
            wait = (parsedate_to_datetime(str(value)) - datetime.now(UTC)).total_seconds()
        except (ValueError, TypeError, IndexError):
            return None
    return min(max(wait, 0.0), MAXIMUM_RETRY_AFTER) if math.isfinite(wait) else None


def within(limit_seconds: float, work: Callable[[], Result]) -> Result:
    """Run ``work`` in a thread of its own and wait at most ``limit_seconds`` for it; then raise TimeoutError.

    A socket time-out bounds one read, not a server that sends a byte at a time; this bounds the whole. The abandoned
    thread is a daemon and ends with its socket.
    """
    context = contextvars.copy_context()
    box: queue.SimpleQueue[tuple[Result | None, BaseException | None]] = queue.SimpleQueue()

    def run() -> None:
        try:
            box.put((context.run(work), None))
        except BaseException as error:  # noqa: BLE001 - handed over to the waiting thread, which raises it
            box.put((None, error))

    threading.Thread(target=run, name="tapeline-notify", daemon=True).start()
    try:
        result, error = box.get(timeout=limit_seconds)
    except queue.Empty:
        raise TimeoutError(f"no result within {limit_seconds:g} s") from None
    if error is not None:
        raise error
    return result  # type: ignore[return-value]


@dataclass(frozen=True)
class _Answer:
    status: int
    retry_after: float | None
    body: str

    def fields(self) -> dict[str, Any]:
        try:
            found = json.loads(self.body)
        except ValueError:
            return {}
        return found if isinstance(found, dict) else {}


def _post(name: str, url: str, payload: dict[str, Any], timeout: float, redact: Redactor) -> _Answer | Delivery:
    import requests

    def work() -> _Answer:
        with (
            redacted_logs(redact),
            requests.post(
                url,
                json=payload,
                timeout=timeout,
                allow_redirects=False,  # a redirect would carry the message, and with it the token, elsewhere
                stream=True,
                headers={"User-Agent": "tapeline"},
            ) as response,
        ):
            body = next(response.iter_content(MAXIMUM_ANSWER_BYTES), b"")
            wait = seconds(response.headers.get("Retry-After"))
            return _Answer(response.status_code, wait, body.decode("utf-8", "replace"))

    try:
        return within(timeout, work)
    except (TimeoutError, requests.Timeout):
        return Delivery(name, "failed", f"no answer within {timeout:g} s")
    except (requests.RequestException, OSError, ValueError) as error:
        return Delivery(name, "failed", _line(f"{type(error).__name__}: {error}", redact))


def _judged(name: str, answer: _Answer, said: str, redact: Redactor, wait: float | None, otherwise: str) -> Delivery:
    wait = answer.retry_after if wait is None else wait
    if 200 <= answer.status < 300:
        return Delivery(name, "failed", _line(f"HTTP {answer.status}, but its text {otherwise}: {said}", redact))
    detail = _line(f"HTTP {answer.status}: {said}", redact)
    if answer.status == 429:
        return Delivery(name, "throttled", detail, wait)
    if answer.status == 408 or answer.status >= 500:
        return Delivery(name, "failed", detail, wait)
    return Delivery(name, "refused", detail)


def _open(address: TelegramAddress | SlackAddress | AppriseAddress, timeout_seconds: float) -> Channel:
    if isinstance(address, TelegramAddress):
        return TelegramChannel(address, timeout_seconds)
    if isinstance(address, SlackAddress):
        return SlackChannel(address, timeout_seconds)
    return AppriseChannel(address, timeout_seconds)


def _line(text: str, redact: Redactor) -> str:
    return shorten(redact(" ".join(clean_text(text).split())), MAXIMUM_DETAIL)
