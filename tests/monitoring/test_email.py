"""E-mail through a real SMTP server on the loopback interface: what arrives, once, and with its link."""

from __future__ import annotations

import email
import email.policy
import socket
from collections.abc import Iterator
from email.message import EmailMessage
from pathlib import Path

import pytest
from aiosmtpd.controller import Controller
from pydantic import SecretStr

from tapeline.core.settings import NotificationSettings, Settings
from tapeline.monitoring.notification import Notification, Severity
from tapeline.monitoring.notifier import Notifier

pytestmark = pytest.mark.network_shape

LINK = "http://127.0.0.1:4200/runs/flow-run/1"


class Mailbox:
    """Keeps every message that the server takes; refuses all while ``refuse`` is set."""

    def __init__(self) -> None:
        self.messages: list[EmailMessage] = []
        self.recipients: list[list[str]] = []
        self.refuse = False

    async def handle_DATA(self, server, session, envelope) -> str:
        if self.refuse:
            return "451 try again later"
        self.messages.append(email.message_from_bytes(envelope.content, policy=email.policy.default))
        self.recipients.append(envelope.rcpt_tos)
        return "250 taken"


@pytest.fixture
def mail() -> Iterator[tuple[Mailbox, int]]:
    mailbox = Mailbox()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    controller = Controller(mailbox, hostname="127.0.0.1", port=port)
    controller.start()
    try:
        yield mailbox, port
    finally:
        controller.stop()


def notifier(port: int, root: Path, **options: object) -> Notifier:
    url = f"mailto://127.0.0.1:{port}?from=tapeline@example.org&to=on-call@example.org&mode=insecure"
    return Notifier(Settings(root=root, notifications=NotificationSettings(urls=(SecretStr(url),), **options)))


def failure(**changes: object) -> Notification:
    values = {"title": "flow pipeline failed", "body": "error: <no rows> & more", "severity": Severity.ERROR}
    return Notification(**{**values, "key": "pipeline", "link": LINK, **changes})


def test_a_message_has_its_subject_body_and_link_and_comes_once(mail: tuple[Mailbox, int], tmp_path: Path) -> None:
    mailbox, port = mail
    for outcome in ("sent", "duplicate"):
        # A notifier of its own each time, as two runs are two processes.
        (delivery,) = notifier(port, tmp_path).notify(failure())
        assert delivery.outcome == outcome, delivery
    (message,) = mailbox.messages
    assert mailbox.recipients == [["on-call@example.org"]]
    assert message["Subject"] == "flow pipeline failed"
    assert "tapeline@example.org" in message["From"]
    body = message.get_body(("plain", "html")).get_content()
    assert "error: <no rows> & more" in body
    assert LINK in body


def test_a_line_end_in_a_title_makes_no_header(mail: tuple[Mailbox, int], tmp_path: Path) -> None:
    mailbox, port = mail
    notifier(port, tmp_path).notify(failure(title="late\r\nBcc: everyone@example.org"))
    (message,) = mailbox.messages
    assert message["Bcc"] is None
    assert mailbox.recipients == [["on-call@example.org"]]


def test_a_server_that_refuses_loses_nothing_and_fails_nobody(mail: tuple[Mailbox, int], tmp_path: Path) -> None:
    mailbox, port = mail
    mailbox.refuse = True
    (delivery,) = notifier(port, tmp_path).notify(failure())
    assert delivery.outcome == "failed"
    assert sum(notifier(port, tmp_path).pending().waiting.values()) == 1


def test_a_mailbox_may_take_only_what_is_urgent(mail: tuple[Mailbox, int], tmp_path: Path) -> None:
    mailbox, port = mail
    routes = ({"channel": "mailto-*", "minimum_severity": "error", "error_types": ["Provider*"]},)
    teller = notifier(port, tmp_path, routes=routes)
    assert teller.notify(failure(severity=Severity.WARNING, error_type="ProviderError", key="a")) == []
    assert teller.notify(failure(severity=Severity.CRITICAL, error_type="DataError", key="b")) == []
    (delivery,) = teller.notify(failure(severity=Severity.CRITICAL, error_type="ProviderError", key="c"))
    assert delivery.outcome == "sent"
    assert len(mailbox.messages) == 1
