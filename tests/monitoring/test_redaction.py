from __future__ import annotations

import logging
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from tapeline.core.settings import MetaTraderSettings, NotificationSettings, Settings
from tapeline.monitoring.redaction import Redactor, redacted_logs, secret_parts

TOKEN = "123456789:AAExampleExampleExampleExampleExample"


@pytest.mark.parametrize(
    ("text", "hidden"),
    [
        (f"POST /bot{TOKEN}/sendMessage", TOKEN),
        ("https://hooks.slack.com/services/T000/B000/XXXX failed", "T000/B000/XXXX"),
        ("https://discord.com/api/webhooks/1/abcdef", "abcdef"),
        ("token xoxb-1234567890-abcdef", "1234567890-abcdef"),
        ("postgresql://lake:hunter2@db:5432/x", "hunter2"),
        ("https://user@host/", "user@"),
        ("GET /data?apikey=K123456&symbol=EURUSD", "K123456"),
        ("{'password': 'pa ss'}", "pa ss"),
        ('{"client_secret": "s3"}', "s3"),
        ("Authorization: Bearer abcdefgh12345678", "abcdefgh12345678"),
        ("key AKIAABCDEFGHIJKLMNOP", "AKIAABCDEFGHIJKLMNOP"),
        ("jwt eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.c2lnbmF0dXJl", "eyJzdWIiOiIxMjM0In0"),
    ],
)
def test_shapes_of_secrets_are_hidden(text: str, hidden: str) -> None:
    shown = Redactor()(text)
    assert hidden not in shown
    assert "***" in shown


def test_ordinary_text_stays() -> None:
    text = "DataError: 12 of 6220 rows of EURUSD at 2017-01-02 09:00:00+00:00 refused (see https://example.com/a?b=1)"
    assert Redactor()(text) == text


@given(
    secret=st.text(st.characters(codec="utf-8", exclude_characters="*"), min_size=6, max_size=40),
    before=st.text(max_size=40),
    after=st.text(max_size=40),
)
def test_a_given_secret_never_survives(secret: str, before: str, after: str) -> None:
    assert secret not in Redactor([secret])(before + secret + after)


def test_every_secret_of_the_settings_is_known() -> None:
    settings = Settings(
        notifications=NotificationSettings(urls=(SecretStr("mailto://bob:open-sesame@example.com"),)),
        metatrader=MetaTraderSettings(password=SecretStr("terminal-pass")),
    )
    redact = Redactor.of(settings)
    assert redact("open-sesame terminal-pass") == "*** ***"
    assert "open-sesame" not in repr(redact)


def test_parts_of_addresses() -> None:
    parts = secret_parts("jsons://example.com/some-long-secret-path?token=0123456789abcdef0")
    assert "some-long-secret-path" in parts
    assert "0123456789abcdef0" in parts
    assert "example.com" not in parts


@pytest.mark.parametrize(
    "text", ["a" * 50_000, "eyJ-" * 12_000, "a://" * 12_000, "token=" * 8_000, "1" * 50_000, "'" * 50_000]
)
def test_hostile_text_is_searched_in_linear_time(text: str) -> None:
    started = time.process_time()
    Redactor()(text)
    assert time.process_time() - started < 2.0


def test_records_of_talkative_loggers_are_redacted_while_it_lasts(caplog: pytest.LogCaptureFixture) -> None:
    logger = logging.getLogger("urllib3.connectionpool")
    with caplog.at_level(logging.DEBUG):
        with redacted_logs(Redactor(["very-secret"])):
            logger.debug("POST %s", "/very-secret/x")
            try:
                raise ValueError("very-secret inside")
            except ValueError:
                logger.exception("it broke")
        logger.debug("POST %s", "/plain")
    assert "very-secret" not in caplog.text
    assert "ValueError: *** inside" in caplog.text
    assert "POST /plain" in caplog.text
