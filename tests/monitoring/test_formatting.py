from __future__ import annotations

import html

from hypothesis import example, given
from hypothesis import strategies as st

from tapeline.monitoring.formatting import escape_slack, slack_payload, telegram_html
from tapeline.monitoring.notification import (
    MAXIMUM_NOTE,
    MAXIMUM_NOTES,
    MAXIMUM_TITLE,
    Notification,
    Severity,
    shorten,
    utf16_length,
)
from tests.monitoring.fake_services import answer_slack, answer_telegram, parse_telegram_html

TEXTS = st.text(st.characters(codec="utf-8") | st.sampled_from("<>&\"'🚨|*_"), max_size=300)
LONG = st.builds(lambda text, times: text * times, TEXTS, st.integers(1, 60))


def note(title: str, body: str, notes: tuple[str, ...] = (), link: str | None = None) -> Notification:
    return Notification(f"t{title}", body, Severity.ERROR, key="k", notes=notes, link=link)


@given(title=LONG, body=LONG, notes=st.lists(LONG, max_size=3), link=st.sampled_from([None, "https://x.org/?a=1&b=2"]))
@example(title="🚨" * MAXIMUM_TITLE, body="🚨" * 9000, notes=["🚨" * MAXIMUM_NOTE] * MAXIMUM_NOTES, link=None)
@example(title="&" * 300, body="<" * 9000, notes=["&" * 400] * 9, link="https://x.org/?a=1&b=2")
def test_services_take_every_message_within_their_limits(
    title: str, body: str, notes: list[str], link: str | None
) -> None:
    message = note(title, body, tuple(notes), link)
    assert answer_telegram({"chat_id": "1", "parse_mode": "HTML", "text": telegram_html(message)}).status == 200
    assert answer_slack(slack_payload(message)).body == "ok"


@given(TEXTS)
def test_telegram_shows_what_was_said(body: str) -> None:
    message = note("itle", body, ("a<b",), "https://x.org/?a=1&b=2")
    shown, links = parse_telegram_html(telegram_html(message))
    assert shown == "\n".join(["❌ title", *([message.body] if message.body else []), "", "a<b", "Details"])
    assert links == ["https://x.org/?a=1&b=2"]


@given(LONG, st.integers(1, 200))
def test_slack_escapes_and_cuts_between_characters(text: str, limit: int) -> None:
    escaped = escape_slack(text, limit)
    assert utf16_length(escaped) <= limit
    assert "<" not in escaped
    assert ">" not in escaped
    if html.escape(text, quote=False) == escaped:
        return
    assert escaped.endswith("…")
    kept = escaped[:-1].replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
    assert text.startswith(kept)
    # No further character would have fitted.
    assert utf16_length(escaped[:-1]) + utf16_length(html.escape(text[len(kept)], quote=False)) + 1 > limit


def test_utf16_cut_never_splits_a_character() -> None:
    assert shorten("🚨🚨", 3) == "🚨…"
    assert shorten("🚨🚨", 2) == "…"
    assert shorten("ab", 0) == ""


def test_slack_payload_as_documented() -> None:
    message = note("itle <!channel>", "x & <b>", ("hint: y",), "https://x.org/?a=1&b=2")
    assert slack_payload(message) == {
        "text": "❌ title &lt;!channel&gt;",
        "blocks": [
            {"type": "header", "text": {"type": "plain_text", "text": "❌ title &lt;!channel&gt;", "emoji": True}},
            {"type": "section", "text": {"type": "plain_text", "text": "x &amp; &lt;b&gt;", "emoji": False}},
            {"type": "context", "elements": [{"type": "plain_text", "text": "hint: y", "emoji": False}]},
            {"type": "section", "text": {"type": "mrkdwn", "text": "<https://x.org/?a=1&amp;b=2|Details>"}},
        ],
    }
