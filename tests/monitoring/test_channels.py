from __future__ import annotations

import json
import logging
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest

from tapeline.monitoring.channels import Channel, Delivery, open_channels, seconds, within
from tapeline.monitoring.notification import Notification, Severity
from tests.monitoring.fake_services import (
    BOT_TOKEN,
    SLACK_TOKENS,
    FakeServices,
    Reply,
    refused_telegram,
    throttled_telegram,
)

pytestmark = pytest.mark.network_shape

NOTE = Notification(
    "flow <ingest> failed",
    "ValueError: a & b",
    Severity.ERROR,
    key="k",
    link="http://127.0.0.1:4200/runs/flow-run/1?a=1&b=2",
    notes=("hint: try <again>",),
)
SECRETS = (BOT_TOKEN, BOT_TOKEN.split(":")[1], SLACK_TOKENS, SLACK_TOKENS.split("/")[2], "some-long-secret-path")


def only_channel(url: str, timeout_seconds: float = 5.0) -> Channel:
    channels, problems = open_channels([url], timeout_seconds)
    assert problems == []
    (channel,) = channels
    return channel


def test_telegram_request_is_what_the_bot_api_documents(services: FakeServices) -> None:
    delivery = only_channel(services.telegram_url("-1001:9", "&silent=yes")).send(NOTE)
    assert delivery.outcome == "sent"
    (request,) = services.requests
    assert request.path == f"/bot{BOT_TOKEN}/sendMessage"
    assert request.headers["Content-Type"] == "application/json"
    assert request.json == {
        "chat_id": "-1001",
        "message_thread_id": 9,
        "text": (
            "❌ <b>flow &lt;ingest&gt; failed</b>\nValueError: a &amp; b\n\n<i>hint: try &lt;again&gt;</i>\n"
            '<a href="http://127.0.0.1:4200/runs/flow-run/1?a=1&amp;b=2">Details</a>'
        ),
        "parse_mode": "HTML",
        "link_preview_options": {"is_disabled": True},
        "disable_notification": True,
    }


def test_telegram_fields_stand_in_the_published_specification(services: FakeServices, test_data: Path) -> None:
    only_channel(services.telegram_url("-1001:9")).send(NOTE)
    spec = json.loads((test_data / "api" / "telegram" / "api.min.json").read_text())
    fields = {f["name"]: f for f in spec["methods"]["sendMessage"]["fields"]}
    sent = services.requests[0].json
    assert {name for name, f in fields.items() if f["required"]} <= set(sent) <= set(fields)
    kinds = {"String": str, "Integer": int, "Boolean": bool}
    for name, value in sent.items():
        assert any(isinstance(value, kinds.get(kind, dict)) for kind in fields[name]["types"])
    options = {f["name"] for f in spec["types"]["LinkPreviewOptions"]["fields"]}
    assert set(sent["link_preview_options"]) <= options
    assert {"retry_after", "migrate_to_chat_id"} <= {f["name"] for f in spec["types"]["ResponseParameters"]["fields"]}


def test_slack_request_is_posted_to_the_webhook(services: FakeServices) -> None:
    delivery = only_channel(services.slack_url()).send(NOTE)
    assert delivery.outcome == "sent"
    (request,) = services.requests
    assert request.path == f"/services/{SLACK_TOKENS}"
    assert request.json["text"] == "❌ flow &lt;ingest&gt; failed"
    assert [block["type"] for block in request.json["blocks"]] == ["header", "section", "context", "section"]


def test_long_texts_are_cut_to_what_the_services_take(services: FakeServices) -> None:
    long = Notification("t" * 500, "<&🚨" * 4000, Severity.CRITICAL, key="k", link=NOTE.link, notes=("n" * 400,) * 9)
    for url in (services.telegram_url(), services.slack_url()):
        assert only_channel(url).send(long).outcome == "sent"


@pytest.mark.parametrize(
    ("reply", "outcome", "detail", "wait"),
    [
        (
            refused_telegram(400, "Bad Request: chat not found"),
            "refused",
            "HTTP 400: Bad Request: chat not found",
            None,
        ),
        (refused_telegram(401, "Unauthorized"), "refused", "HTTP 401: Unauthorized", None),
        (refused_telegram(403, "Forbidden: bot was blocked by the user"), "refused", "HTTP 403", None),
        (throttled_telegram(17), "throttled", "HTTP 429: Too Many Requests: retry after 17", 17.0),
        (Reply(429, "slow down", (("Retry-After", "8"),)), "throttled", "HTTP 429: slow down", 8.0),
        (Reply(429, "{}"), "throttled", "HTTP 429", None),
        (Reply(500, "oops"), "failed", "HTTP 500: oops", None),
        (Reply(503, "", (("Retry-After", "40"),)), "failed", "HTTP 503", 40.0),
        (Reply(200, "<html>captive portal</html>"), "failed", "is no answer of the Bot API", None),
        (Reply(200, '{"ok": false}'), "failed", "is no answer of the Bot API", None),
        (Reply(200, "[1]"), "failed", "is no answer of the Bot API", None),
        (Reply(fault="drop"), "failed", "ConnectionError", None),
    ],
)
def test_telegram_answers(services: FakeServices, reply: Reply, outcome: str, detail: str, wait: float | None) -> None:
    services.script["telegram"].append(reply)
    delivery = only_channel(services.telegram_url()).send(NOTE)
    assert (delivery.outcome, delivery.retry_after) == (outcome, wait)
    assert detail in delivery.detail
    assert len(services.requests) == 1


@pytest.mark.parametrize(
    ("reply", "outcome", "detail", "wait"),
    [
        (Reply(400, "invalid_payload"), "refused", "HTTP 400: invalid_payload", None),
        (Reply(403, "invalid_token"), "refused", "HTTP 403: invalid_token", None),
        (Reply(404, "no_service"), "refused", "HTTP 404: no_service", None),
        (Reply(410, "channel_is_archived"), "refused", "HTTP 410: channel_is_archived", None),
        (Reply(429, "rate_limited", (("Retry-After", "30"),)), "throttled", "HTTP 429: rate_limited", 30.0),
        (Reply(500, "rollup_error"), "failed", "HTTP 500: rollup_error", None),
        (Reply(200, "<html>"), "failed", "is not Slack's 'ok'", None),
        (Reply(fault="drop"), "failed", "ConnectionError", None),
    ],
)
def test_slack_answers(services: FakeServices, reply: Reply, outcome: str, detail: str, wait: float | None) -> None:
    services.script["slack"].append(reply)
    delivery = only_channel(services.slack_url()).send(NOTE)
    assert (delivery.outcome, delivery.retry_after) == (outcome, wait)
    assert detail in delivery.detail


@pytest.mark.parametrize("fault", ["hang", "drip"])
@pytest.mark.parametrize("kind", ["telegram", "slack", "other"])
def test_a_server_that_hangs_or_drips_is_left_in_time(services: FakeServices, kind: str, fault: Any) -> None:
    services.script[kind].append(Reply(fault=fault))
    url = {"telegram": services.telegram_url(), "slack": services.slack_url(), "other": services.json_url()}[kind]
    channel = only_channel(url, 0.4)
    started = time.monotonic()
    delivery = channel.send(NOTE)
    assert delivery.outcome == "failed"
    # apprise's first call loads its plugins; the bound is on the wait, not on the machine.
    assert time.monotonic() - started < 4
    assert "no answer within 0.4 s" in delivery.detail or (kind == "other" and delivery.detail)


def test_a_group_that_became_a_supergroup_is_followed(services: FakeServices) -> None:
    moved = refused_telegram(400, "Bad Request: group chat was upgraded", migrate_to_chat_id=-100777)
    services.script["telegram"].append(moved)
    delivery = only_channel(services.telegram_url("-5")).send(NOTE)
    assert delivery.outcome == "sent"
    assert "change its id to -100777" in delivery.detail
    assert [r.json["chat_id"] for r in services.requests] == ["-5", "-100777"]


def test_a_redirect_is_refused_and_not_followed(services: FakeServices) -> None:
    services.script["slack"].append(Reply(302, "", (("Location", f"{services.base}/other"),)))
    assert only_channel(services.slack_url()).send(NOTE).outcome == "refused"
    assert len(services.requests) == 1


def test_apprise_carries_every_other_service(services: FakeServices) -> None:
    channel = only_channel(services.json_url())
    assert channel.send(NOTE).outcome == "sent"
    (request,) = services.requests
    assert request.json["title"] == NOTE.title
    assert request.json["message"] == f"ValueError: a & b\n\nhint: try <again>\n{NOTE.link}"
    assert request.json["type"] == "failure"
    services.script["other"].append(Reply(500, "no"))
    delivery = channel.send(NOTE)
    assert delivery.outcome == "failed"
    assert "500" in delivery.detail


def discord_request(services: FakeServices, monkeypatch: pytest.MonkeyPatch) -> Any:
    from apprise.plugins.discord import NotifyDiscord

    monkeypatch.setattr(NotifyDiscord, "notify_url", f"{services.base}/api/webhooks")
    note = Notification("failed", "@everyone " * 500, Severity.ERROR, key="k")
    url = "discord://123456789012345678/abcdefghijklmnopqrstuvwxyz0123456789"
    assert only_channel(url).send(note).outcome == "sent"
    (request,) = services.requests
    return request.json


def test_discord_gets_no_mention_and_no_more_than_its_limit(
    services: FakeServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = discord_request(services, monkeypatch)["content"]
    assert 1_900 < len(content) <= 2_000
    assert "@everyone" not in content
    assert "everyone" in content


def test_discord_fields_stand_in_the_published_specification(
    services: FakeServices, monkeypatch: pytest.MonkeyPatch, test_data: Path
) -> None:
    sent = discord_request(services, monkeypatch)
    spec = json.loads((test_data / "api" / "discord" / "openapi.json").read_text())
    fields = spec["components"]["schemas"]["IncomingWebhookRequestPartial"]["properties"]
    assert set(sent) - {"wait"} <= set(fields)  # apprise repeats the query's 'wait' in the body
    assert fields["content"]["maxLength"] == 2_000


@pytest.mark.parametrize("kind", ["telegram", "slack", "other"])
@pytest.mark.parametrize("reply", [None, Reply(500, "x"), Reply(fault="drop")])
def test_no_secret_in_deliveries_logs_or_output(
    services: FakeServices,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
    kind: str,
    reply: Reply | None,
) -> None:
    url = {"telegram": services.telegram_url(), "slack": services.slack_url(), "other": services.json_url()}[kind]
    # A service may well repeat the address in its error.
    own = {"telegram": SECRETS[:2], "slack": SECRETS[2:4], "other": SECRETS[4:]}[kind]
    echo = Reply(400, f"no such path {own}") if reply is None else reply
    services.script[kind].append(echo)
    with caplog.at_level(logging.DEBUG):
        channel = only_channel(url)
        delivery = channel.send(NOTE)
    assert caplog.records, "nothing was logged, so nothing was tested"
    printed = capfd.readouterr()
    for secret in SECRETS:
        assert secret not in f"{delivery} {channel!r} {channel.name} {caplog.text} {printed.out} {printed.err}"


def test_one_bad_address_does_not_silence_the_others(services: FakeServices) -> None:
    urls = ["tgram://nonsense", services.slack_url(), "json://", services.slack_url(), "nosuchservice://host/x"]
    channels, problems = open_channels(urls)
    assert [c.name.split("-")[0] for c in channels] == ["slack"]
    assert [(p.channel, p.outcome) for p in problems] == [
        ("address-1", "refused"),
        ("address-3", "refused"),
        ("address-5", "refused"),
    ]


def test_http_date_in_retry_after() -> None:
    later = format_datetime(datetime.now(UTC) + timedelta(seconds=100), usegmt=True)
    assert 90 < (seconds(later) or 0) <= 100
    assert seconds("99999999") == 86_400


def test_within_hands_over_results_and_errors() -> None:
    assert within(5, lambda: 3) == 3
    with pytest.raises(KeyError):
        within(5, lambda: {}["x"])


def test_delivery_is_plain_data() -> None:
    assert Delivery("slack-1", "sent") == Delivery("slack-1", "sent", "", None)
