"""E-mail through a real SMTP server and text messages through a gateway, both on the loopback interface."""

from __future__ import annotations

import email
import email.policy
import json
import socket
from dataclasses import replace
from email.message import EmailMessage

import pytest
from aiosmtpd.controller import Controller

from tapeline.alerts.delivery.dialects import sms_length
from tapeline.alerts.delivery.gateways import GatewayChannel
from tapeline.alerts.delivery.messages import event_body
from tapeline.alerts.store.store import Endpoint
from tapeline.core.errors import ConfigurationError
from tests.alerts.delivery.support import START, FakeClock, Receiver, Reply, firing
from tests.alerts.delivery.test_webhook import delivery

pytestmark = pytest.mark.network_shape


class Mailbox:
    def __init__(self) -> None:
        self.messages: list[EmailMessage] = []
        self.recipients: list[str] = []

    async def handle_DATA(self, server, session, envelope) -> str:
        self.messages.append(email.message_from_bytes(envelope.content, policy=email.policy.default))
        self.recipients += envelope.rcpt_tos
        return "250 taken"


@pytest.fixture(scope="module")
def mail():
    mailbox = Mailbox()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    controller = Controller(mailbox, hostname="127.0.0.1", port=port)
    controller.start()
    gateway = f"mailto://127.0.0.1:{port}?from=alerts@example.org&to={{to}}&mode=insecure"
    yield mailbox, gateway
    controller.stop()


def test_a_mail_arrives_once_with_one_subject(mail, clock: FakeClock) -> None:
    mailbox, gateway = mail
    channel = GatewayChannel("email", gateway, monotonic=clock.monotonic)
    endpoint = Endpoint("e1", "me", "email", "trader+desk@example.org")
    body = event_body(
        firing(late=True, lateness=10**9), name="up\r\nBcc: thief@example.org", template="at {price}\nnow"
    )
    assert channel.admit(endpoint) == 0
    assert channel.send([replace(delivery(), body=body)], endpoint, now=START).outcome == "sent"
    (message,) = mailbox.messages
    assert mailbox.recipients == ["trader+desk@example.org"]
    assert message["Subject"] == "BTCUSDT: up Bcc: thief@example.org (late by 1.0 s)"
    assert message["Bcc"] is None
    text = message.get_body(("plain", "html")).get_content()
    assert "at 60000" in text
    assert "found after a gap" in text
    for _ in range(3):
        assert channel.admit(endpoint) == 0
    assert channel.admit(endpoint) > 10  # four at once to one person, then one in 15 s
    assert channel.admit(replace(endpoint, address="other@example.org")) == 0


def test_a_text_message_is_one_and_goes_to_the_number(hooks: Receiver, clock: FakeClock) -> None:
    hooks.otherwise = Reply(200, '{"result": {"status": "ok", "message_id": 1}}')
    gateway = f"smseagle://{'t' * 24}@127.0.0.1:{hooks.port}/{{to}}"
    channel = GatewayChannel("sms", gateway, recipient="+4930123456", monotonic=clock.monotonic)
    assert channel.send([delivery(n) for n in range(30)], None, now=START).outcome == "sent"
    (got,) = hooks.got
    assert b"4930123456" in got.body
    text = json.loads(got.body)["params"]["message"]
    assert text.startswith("30 alerts")
    assert sms_length(text) == (160, 1)


@pytest.mark.parametrize(
    "recipient",
    [
        *("", "a@b", "a@b.c\r\nBcc: x@y.z", "a b@example.org", "a@example.org,b@example.org", "a@example.org?to=b"),
        *("a@example.org/x", "+49", "4930123456", "+49 30 1", "a..b@example.org", "@example.org", "a@exa_mple.org"),
    ],
)
def test_a_recipient_is_one_and_names_no_server(mail, recipient: str) -> None:
    for channel in (GatewayChannel("email", mail[1]), GatewayChannel("sms", "smseagle://token1234@127.0.0.1/{to}")):
        with pytest.raises(ConfigurationError):
            channel.parse(recipient)
        answer = channel.send([delivery()], Endpoint("e", "me", "email", recipient), now=START)
        assert answer.outcome == "refused"
    assert channel.send([delivery()], None, now=START).outcome == "refused"


@pytest.mark.parametrize("gateway", ["mailto://127.0.0.1", "nothing://{to}", "mailto://{to}/{to}", "slack://a/b/{to}"])
def test_an_unusable_gateway_is_refused_at_once(gateway: str) -> None:
    with pytest.raises(ConfigurationError):
        GatewayChannel("email", gateway)
