"""Signatures: what the specification's own package accepts, and what ours refuses."""

from __future__ import annotations

import base64
import time
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from tapeline.alerts.delivery.signing import SignatureError, new_secret, secret_bytes, sign, verify
from tapeline.core.errors import ConfigurationError, DataError

SECRET, OLD, STRANGE = new_secret(), new_secret(), new_secret()


@given(st.text(st.characters(codec="utf-8"), max_size=200))
def test_the_independent_reader_signs_the_same(body: str) -> None:
    at = datetime(2026, 5, 6, 7, 8, 9, tzinfo=UTC)
    expected = Webhook(SECRET).sign("evt_1", at, body)
    assert sign([SECRET], "evt_1", int(at.timestamp()), body.encode())["webhook-signature"] == expected


def test_the_independent_reader_accepts_either_secret_during_a_rotation_and_no_other() -> None:
    headers = sign([SECRET, OLD], "evt_1", int(time.time()), b'{"a": 1}')
    assert Webhook(SECRET).verify(b'{"a": 1}', headers) == {"a": 1}
    assert Webhook(OLD).verify(b'{"a": 1}', headers) == {"a": 1}
    with pytest.raises(WebhookVerificationError):
        Webhook(STRANGE).verify(b'{"a": 1}', headers)
    for tampered in (headers | {"webhook-id": "evt_2"}, headers | {"webhook-timestamp": str(int(time.time()) - 1)}):
        with pytest.raises(WebhookVerificationError):
            Webhook(SECRET).verify(b'{"a": 1}', tampered)


def test_we_accept_what_the_independent_package_signs() -> None:
    at = datetime(2026, 5, 6, tzinfo=UTC)
    headers = {"Webhook-Id": "msg_9", "WEBHOOK-TIMESTAMP": str(int(at.timestamp()))}
    headers["webhook-signature"] = Webhook(OLD).sign("msg_9", at, "{}")
    assert verify([SECRET, OLD], headers, b"{}", now=at.timestamp() + 300) == "msg_9"


@pytest.mark.parametrize("off", [301, -301, float("nan")])
def test_a_timestamp_more_than_five_minutes_off_is_refused(off: float) -> None:
    with pytest.raises(SignatureError, match="300 s"):
        verify([SECRET], sign([SECRET], "evt_1", 1_000_000, b"{}"), b"{}", now=1_000_000 + off)


@pytest.mark.parametrize("part", ["webhook-id", "webhook-timestamp", "webhook-signature"])
@pytest.mark.parametrize("value", ["", "é", "1e6", "v1", "v1,", "v1a,abc", "v2,{}", "a.b", "-1", "9" * 20])
def test_a_changed_or_malformed_header_is_refused(part: str, value: str) -> None:
    headers = sign([SECRET], "evt_1", 1_000_000, b"{}")
    with pytest.raises(SignatureError):
        verify([SECRET], headers | {part: value}, b"{}", now=1_000_000)
    with pytest.raises(SignatureError):
        verify([SECRET], {k: v for k, v in headers.items() if k != part}, b"{}", now=1_000_000)


@given(st.binary(max_size=60), st.binary(max_size=60))
def test_only_the_signed_body_passes(body: bytes, other: bytes) -> None:
    headers = sign([SECRET], "evt_1", 1_000_000, body)
    assert verify([SECRET], headers, body, now=1_000_000) == "evt_1"
    if other != body:
        with pytest.raises(SignatureError):
            verify([SECRET], headers, other, now=1_000_000)


@pytest.mark.parametrize(
    "secret",
    ["", "whsec_", "whsec_" + base64.b64encode(b"short").decode(), "whsec_****", base64.b64encode(b"x" * 32).decode()],
)
def test_an_unusable_secret_is_refused_and_not_repeated(secret: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        secret_bytes(secret)
    assert not secret or secret not in str(caught.value).replace("is not whsec_", "")


def test_an_id_that_could_shift_the_signed_text_is_refused() -> None:
    with pytest.raises(DataError):
        sign([SECRET], "evt.1", 1, b"")
    with pytest.raises(ConfigurationError):
        sign([], "evt_1", 1, b"")
