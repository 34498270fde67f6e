"""Telegram, Slack and Discord against servers that hold requests to the services' own rules."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from tapeline.alerts.delivery.channel import Channel
from tapeline.alerts.delivery.discord import parse_discord
from tapeline.alerts.delivery.messengers import MessengerChannel
from tapeline.alerts.delivery.secret_vault import SecretVault, new_key
from tapeline.alerts.delivery.ssrf import TargetRules
from tapeline.alerts.store.store import Endpoint
from tapeline.core.errors import ConfigurationError
from tests.alerts.delivery.support import START, FakeClock, Receiver, Reply, firing
from tests.alerts.delivery.test_webhook import delivery
from tests.monitoring.fake_services import FakeServices, fake_services, parse_telegram_html, throttled_telegram

pytestmark = pytest.mark.network_shape

HOOK = "https://discord.com/api/webhooks/123456789012345678/abcdefghijklmnopqrstuvwxyz0123456789"


@pytest.fixture(scope="module")
def services():
    with fake_services() as running:
        yield running


def hostile(number: int = 0):
    from tapeline.alerts.delivery.messages import event_body

    one = firing(number, late=True, lateness=3 * 10**9)
    return replace(delivery(number), body=event_body(one, name="<b>&@everyone</b> *x*"))


def test_telegram_gets_html_that_parses_and_a_digest_is_one_message(services: FakeServices, clock: FakeClock) -> None:
    channel: Channel = MessengerChannel(
        "telegram", address=services.telegram_url("77"), own_servers=True, monotonic=clock.monotonic
    )
    assert channel.admit(None) == 0
    assert channel.send([hostile()], None, now=START).outcome == "sent"
    shown, _ = parse_telegram_html(services.to("telegram")[-1].json["text"])
    assert "<b>&@everyone</b> *x*" in shown
    assert "(late by 3.0 s)" in shown
    assert channel.admit(None) == pytest.approx(1.0)  # one message a second and chat
    clock.pass_(1.001)
    assert channel.admit(None) == 0
    assert channel.send([delivery(n) for n in range(400)], None, now=START).outcome == "sent"
    shown, _ = parse_telegram_html(services.to("telegram")[-1].json["text"])
    assert "400 alerts" in shown
    assert "and 380 more" in shown


def test_a_group_gets_twenty_a_minute_and_a_limit_of_telegram_is_honoured(services, clock: FakeClock) -> None:
    channel = MessengerChannel(
        "telegram", address=services.telegram_url("-1009"), own_servers=True, monotonic=clock.monotonic
    )
    sent = 0
    for _ in range(240):
        sent += channel.admit(None) == 0
        clock.pass_(0.25)
    assert 15 <= sent <= 20
    services.script["telegram"].append(throttled_telegram(31))
    answer = channel.send([delivery()], None, now=START)
    assert (answer.outcome, answer.retry_after) == ("throttled", 31.0)
    clock.pass_(30)
    assert channel.admit(None) == pytest.approx(1.0, abs=0.01)
    clock.pass_(1.1)
    assert channel.admit(None) == 0


def test_slack_obeys_no_mark_up(services: FakeServices, clock: FakeClock) -> None:
    channel = MessengerChannel("slack", address=services.slack_url(), own_servers=True, monotonic=clock.monotonic)
    assert channel.admit(None) == 0
    assert channel.send([hostile()], None, now=START).outcome == "sent"
    assert "&lt;b&gt;&amp;@everyone&lt;/b&gt;" in services.texts("slack")[-1]
    assert channel.admit(None) == pytest.approx(1.0)


def test_an_address_is_one_chat_of_the_messenger_and_no_server_of_the_user(services: FakeServices) -> None:
    with pytest.raises(ConfigurationError, match="server of its own"):
        MessengerChannel("telegram", address=services.telegram_url("77"))
    with pytest.raises(ConfigurationError):
        MessengerChannel("slack", address=services.slack_url())
    open_ = MessengerChannel("telegram", own_servers=True)
    for wrong in (services.telegram_url("77/78"), services.slack_url(), "json://127.0.0.1/", HOOK, "tgram://x"):
        with pytest.raises(ConfigurationError):
            open_.parse(wrong, own_server=True)
    answer = open_.send([delivery()], None, now=START)
    assert (answer.outcome, open_.admit(None)) == ("refused", 0.0)


def test_a_sealed_address_is_opened_and_one_that_cannot_be_is_said(services: FakeServices) -> None:
    vault, strange = SecretVault([new_key()]), SecretVault([new_key()])
    address = vault.seal_text(services.telegram_url("55"), "e1")
    endpoint = Endpoint("e1", "me", "telegram", address, settings={"operator": True})
    assert "AAExample" not in address
    sealed = MessengerChannel("telegram", vault=vault, own_servers=True)
    assert sealed.send([delivery()], endpoint, now=START).outcome == "sent"
    answer = MessengerChannel("telegram", vault=strange, own_servers=True).send([delivery()], endpoint, now=START)
    assert "cannot be decrypted" in answer.disable
    # The same address kept by a user leads nowhere, however it came into the database.
    said = sealed.send([delivery()], replace(endpoint, settings={}), now=START)
    assert (said.outcome, "server of its own" in said.detail) == ("refused", True)


def discord(hooks: Receiver, clock: FakeClock) -> MessengerChannel:
    rules = TargetRules(http=True, ports=(hooks.port,), networks=("127.0.0.1/32",))
    return MessengerChannel("discord", address=HOOK, api=f"{hooks.url}/api", rules=rules, monotonic=clock.monotonic)


def test_discord_gets_a_message_of_its_schema(hooks: Receiver, clock: FakeClock) -> None:
    hooks.otherwise = Reply(204)
    answer = discord(hooks, clock).send([hostile(), *map(delivery, range(60))], None, now=START)
    assert (answer.outcome, answer.detail) == ("sent", "HTTP 204")
    fields = json.loads(hooks.got[0].body)
    assert hooks.got[0].path.startswith("/api/webhooks/123456789012345678/abcdef")
    assert hooks.got[0].path.endswith("?wait=true")
    assert fields["allowed_mentions"] == {"parse": []}
    assert "@everyone" not in fields["content"]
    assert len(fields["content"]) <= 2_000


def test_messages_have_the_fields_that_the_services_publish(test_data: Path, services, hooks: Receiver, clock) -> None:
    discord(hooks, clock).send([hostile()], None, now=START)
    fields = json.loads(hooks.got[0].body)
    schemas = json.loads((test_data / "api" / "discord" / "openapi.json").read_text())["components"]["schemas"]
    published = schemas["IncomingWebhookRequestPartial"]["properties"]
    assert set(fields) <= set(published)
    assert len(fields["content"]) <= published["content"]["maxLength"]
    assert set(fields["allowed_mentions"]) <= set(schemas["MessageAllowedMentionsRequest"]["properties"])
    channel = MessengerChannel("telegram", address=services.telegram_url("5"), own_servers=True)
    channel.send([hostile()], None, now=START)
    api = json.loads((test_data / "api" / "telegram" / "api.min.json").read_text())
    known = {each["name"]: each["required"] for each in api["methods"]["sendMessage"]["fields"]}
    sent = services.to("telegram")[-1].json
    assert {name for name, required in known.items() if required} <= set(sent) <= set(known)


def test_discords_limits_are_read_from_each_answer(hooks: Receiver, clock: FakeClock) -> None:
    channel = discord(hooks, clock)
    body = json.dumps({"message": "You are being rate limited.", "retry_after": 64.57, "global": False})
    hooks.script = [
        Reply(204, headers=(("X-RateLimit-Remaining", "0"), ("X-RateLimit-Reset-After", "2.5"))),
        Reply(429, body, headers=(("Retry-After", "65"), ("X-RateLimit-Scope", "user"))),
    ]
    assert channel.admit(None) == 0
    assert channel.send([delivery()], None, now=START).outcome == "sent"
    assert channel.admit(None) == pytest.approx(2.5)
    clock.pass_(2.6)
    assert channel.admit(None) == 0
    answer = channel.send([delivery()], None, now=START)
    assert (answer.outcome, answer.retry_after) == ("throttled", 64.57)
    assert 64.57 <= channel.admit(None) <= 64.57 + 2.5  # and the place that the refused message took


@pytest.mark.parametrize(
    ("reply", "outcome"),
    [(Reply(404, '{"code": 10015}'), "gone"), (Reply(401), "refused"), (Reply(502), "retry"), (Reply(302), "retry")],
)
def test_an_answer_of_discord_is_judged(hooks: Receiver, clock: FakeClock, reply: Reply, outcome: str) -> None:
    hooks.script = [reply]
    answer = discord(hooks, clock).send([delivery()], None, now=START)
    assert answer.outcome == outcome
    assert "abcdefghijkl" not in answer.detail


def test_a_discord_address_is_read_strictly() -> None:
    assert parse_discord(HOOK.replace("discord.com", "discordapp.com") + "?thread_id=123456789012345679").thread
    assert "abcdef" not in repr(parse_discord(HOOK))
    for wrong in (
        HOOK + "/../x",
        HOOK.replace("https", "http"),
        HOOK.replace("discord.com", "discord.com.evil.com"),
        "",
    ):
        with pytest.raises(ConfigurationError) as caught:
            parse_discord(wrong)
        assert "abcdef" not in str(caught.value)
