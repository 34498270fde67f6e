"""Discord's mark-up and the lengths of text messages."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tapeline.alerts.delivery.dialects import discord_payload, sms_length, sms_notification, sms_text
from tapeline.core.errors import ConfigurationError
from tapeline.monitoring.notification import Notification, Severity, utf16_length

WILD = st.text(max_size=3_000) | st.text("@*_`<>|\\a\U0001f6a8", max_size=3_000)


@given(WILD, WILD)
def test_a_discord_message_is_within_its_limit_and_obeys_nothing(title: str, body: str) -> None:
    note = Notification(f"t{title}", body, Severity.ERROR, key="k", notes=("n" * 300,) * 3)
    fields = discord_payload(note)
    assert utf16_length(fields["content"]) <= 2_000
    assert fields["allowed_mentions"] == {"parse": []}
    assert not re.search(r"@(?!\u200b)", fields["content"])
    inside = fields["content"].split("\n", 1)[1] if "\n" in fields["content"] else ""
    assert not re.search(r"(?<!\\)(?:\\\\)*[*_`|<]", inside.rstrip("…\\"))


def test_a_discord_message_shows_what_was_said() -> None:
    fields = discord_payload(Notification("BTC up", "a [b](https://x.y) @here", Severity.INFO, key="k"))
    assert fields["content"].endswith("**BTC up**\na \\[b\\]\\(https://x.y\\) @\u200bhere")
    assert discord_payload(Notification("t", "x" * 5_000, Severity.INFO, key="k"))["content"].endswith("x…")


@given(st.text(st.sampled_from("abc €[]~\n—я\U0001f6a8@"), max_size=700), st.integers(1, 6))
def test_a_text_message_fits_into_its_parts_and_loses_nothing_that_fits(text: str, parts: int) -> None:
    cut = sms_text(text, parts)
    assert sms_length(cut)[1] <= parts
    plain = text.replace("—", "-")
    assert cut == plain if sms_length(plain)[1] <= parts else cut.endswith("...") and plain.startswith(cut[:-3])
    if sms_length(plain)[1] > parts:
        length, _ = sms_length(cut)
        room = (160 if parts == 1 else 153 * parts) if sms_length(plain)[0] != utf16_length(plain) else None
        assert room is None or length >= room - 2 or sms_length(cut)[0] <= room


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        *(("", (0, 1)), ("é" * 160, (160, 1)), ("ê" * 70, (70, 1)), ("ê" * 71, (71, 2))),
        *(("{" * 80, (160, 1)), ("{" * 81, (162, 2)), ("a" * 307, (307, 3))),
    ],
)
def test_lengths_follow_the_alphabet(text: str, expected: tuple[int, int]) -> None:
    assert sms_length(text) == expected


@given(st.text(max_size=400), st.text(max_size=400))
def test_title_and_body_share_one_text_message(title: str, body: str) -> None:
    note = sms_notification(Notification(f"t{title}", body, Severity.INFO, key="k"))
    assert sms_length(f"{note.title}\r\n{note.body}")[1] == 1
    assert note.body
    with pytest.raises(ConfigurationError):
        sms_text("a", 7)
