from __future__ import annotations

import pytest

from tapeline.core.errors import ConfigurationError
from tapeline.monitoring.addresses import AppriseAddress, SlackAddress, TelegramAddress, parse_address

TOKEN = "123456789:AAExampleExampleExampleExampleExample"
HOOK = "T0000EXAM/B0000EXAM/exampleexampleexample123"


def test_telegram_address_with_chats_topics_and_options() -> None:
    addresses = parse_address(f"tgram://{TOKEN}/-1001:5/@some_channel/?silent=yes&api=http://bot.local:8081/")
    assert addresses == [
        TelegramAddress(TOKEN, "-1001", 5, True, "http://bot.local:8081"),
        TelegramAddress(TOKEN, "@some_channel", None, True, "http://bot.local:8081"),
    ]


@pytest.mark.parametrize("spelling", [f"tgram://bot{TOKEN}/7", f"tgram://{TOKEN.replace(':', '%3A')}/7"])
def test_telegram_spellings_of_the_token(spelling: str) -> None:
    assert parse_address(spelling) == [TelegramAddress(TOKEN, "7")]


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        (f"slack://{HOOK}", [SlackAddress(HOOK)]),
        (f"slack://bot@{HOOK}/#general/@bob", [SlackAddress(HOOK, "#general"), SlackAddress(HOOK, "@bob")]),
        (f"https://hooks.slack.com/services/{HOOK}", [SlackAddress(HOOK)]),
        (f"https://hooks.slack-gov.com/services/{HOOK}", [SlackAddress(HOOK, None, "https://hooks.slack-gov.com")]),
        (f"slack://{HOOK}?api=http://127.0.0.1:9", [SlackAddress(HOOK, None, "http://127.0.0.1:9")]),
    ],
)
def test_slack_webhook_addresses(url: str, expected: list[SlackAddress]) -> None:
    assert parse_address(url) == expected


@pytest.mark.parametrize(
    "url", ["json://example.com/x", "mailto://bob:pw@example.com", "slack://xoxb-1-2-3/#general", "discord://1/2"]
)
def test_everything_else_is_apprise_s(url: str) -> None:
    (address,) = parse_address(url)
    assert isinstance(address, AppriseAddress)
    assert address.url == url


@pytest.mark.parametrize(
    "api",
    [
        "file:///etc/passwd",
        "ftp://host",
        "gopher://host",
        "javascript:x",
        "//host",
        "http://",
        "http://user:pw@host",
        "http://host/?x=1",
        "http://host/%23f#x",
        "http://host:99999",
        "http://host/../x",
        "http://ho st",
    ],
)
@pytest.mark.parametrize("scheme", ["tgram", "slack"])
def test_hostile_api_bases_are_refused(scheme: str, api: str) -> None:
    url = f"tgram://{TOKEN}/7" if scheme == "tgram" else f"slack://{HOOK}"
    from urllib.parse import quote

    with pytest.raises(ConfigurationError, match="not an http or https base"):
        parse_address(f"{url}?api={quote(api, safe='')}")


@pytest.mark.parametrize(
    "url",
    [
        f"tgram://{TOKEN}",
        f"tgram://{TOKEN}/",
        f"tgram://{TOKEN}/../getUpdates",
        f"tgram://{TOKEN}/7?unknown=1",
        f"tgram://{TOKEN}/7?silent=perhaps",
        "tgram://notoken/7",
        f"slack://{HOOK.replace('/', '-')}",
        f"slack://{HOOK}/../../x",
        f"slack://{HOOK}?x=1",
        "no scheme " + TOKEN,
    ],
)
def test_unreadable_addresses_are_refused_without_repeating_them(url: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        parse_address(url)
    for secret in (TOKEN, TOKEN.split(":")[1], HOOK.split("/")[2]):
        assert secret not in str(caught.value)


def test_names_tell_channels_apart_and_hold_no_secret() -> None:
    urls = [
        f"tgram://{TOKEN}/1",
        f"tgram://{TOKEN}/2",
        f"tgram://{TOKEN}/2:3",
        f"slack://{HOOK}",
        "json://example.com/x",
    ]
    addresses = [address for url in urls for address in parse_address(url)]
    assert len({a.name for a in addresses}) == len(urls)
    for address in addresses:
        assert TOKEN.split(":")[1] not in address.name + repr(address)
        assert HOOK not in address.name + repr(address)
