"""What a firing says, in whichever words."""

from __future__ import annotations

import json
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tapeline.alerts.delivery.messages import (
    NAMES,
    check_template,
    digest,
    event_body,
    fill,
    header_line,
    notification_of,
    read_event,
    render,
)
from tapeline.alerts.firing import Side
from tapeline.alerts.rule import Rule
from tapeline.core.errors import ConfigurationError, DataError
from tapeline.monitoring.notification import Severity
from tests.alerts.delivery.support import SECOND, firing

SIDES = (Side("close > 60000", 60_001.5, 60_000.0, True), Side('rsi(14, "1h") < 30', float("nan"), 30.0, None))


def test_an_event_explains_itself_and_is_the_same_each_time() -> None:
    one = firing(3, sides=SIDES, labels={"desk": "fx"}, priority="high", price=float("nan"))
    body = event_body(one, name="Above 60k")
    assert body == event_body(one, name="Above 60k")
    found = json.loads(body, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert (found["type"], found["id"]) == ("alert.firing", one.id)
    assert found["timestamp"].endswith("Z")
    data = found["data"]
    assert data["title"] == "BTCUSDT: Above 60k"
    assert data["price"] is None
    assert data["explanation"]["conditions"][1] == {"text": SIDES[1].text, "left": None, "right": 30.0, "held": None}
    assert "close > 60000: true (60001.5 against 60000)" in data["text"]
    assert "unknown against 30" in data["text"]
    assert notification_of(body).severity is Severity.WARNING


def test_a_late_firing_says_so_also_where_the_template_does_not() -> None:
    one = firing(late=True, lateness=90 * SECOND)
    data = read_event(event_body(one, template="{symbol}"))["data"]
    assert (data["late"], data["lateness_ms"]) == (True, 90_000.0)
    assert "(late by 90.0 s)" in data["title"]
    assert data["text"] == "BTCUSDT\nlate by 90.0 s: found after a gap in the feed"
    assert "late" not in read_event(event_body(firing()))["data"]["text"]


def test_every_name_of_a_template_is_filled() -> None:
    check_template(" ".join(f"{{{name}}}" for name in NAMES) + " {label.desk} {{ticker}} {{close}} {price:.1f}")
    template = " | ".join(f"{{{name}}}" for name in NAMES) + " {label.desk} {{ticker}} {price:.1f}"
    rule = Rule(id="btc-60k", owner="me", condition="close > 1", symbols=("BTCUSDT",), name="Above", template=template)
    text = read_event(render(firing(labels={"desk": "fx"}, bar=0), rule))["data"]["text"]
    assert "{" not in text
    assert text.startswith("BTCUSDT | 60000 | btc-60k | Above | me | firing | normal | ")
    assert text.endswith(" fx BTCUSDT 60000.0")


@pytest.mark.parametrize(
    "template",
    [
        *("{symbol.__class__}", "{{''.__class__}}", "{0.__init__}", "{__import__}", "{symbol!r}", "{price:>999999999}"),
        *("{price:.99f}", "%(symbol)s", "${symbol!s}", "{symbol[0]}", "{{7*7}}", "{% for x in y %}"),
    ],
)
def test_a_template_runs_nothing(template: str) -> None:
    text = fill(template, {"symbol": "BTCUSDT", "price": 1.0})
    assert len(text) <= len(template) + len("BTCUSDT")
    assert "class '" not in text
    assert "49" not in text


@given(st.text(string.printable, max_size=300), st.text(max_size=50))
def test_filling_never_raises_and_reads_no_value_again(template: str, value: str) -> None:
    text = fill(template + "{symbol}", {"symbol": value + "{secret}", "secret": "TREASURE"})
    assert "TREASURE" not in text or "{secret}" in template or "{{" in template


def test_lengths_are_bounded() -> None:
    with pytest.raises(ConfigurationError, match="longer"):
        check_template("x" * 4_001)
    with pytest.raises(ConfigurationError, match="evil"):
        check_template("{evil}")
    assert len(fill("{symbol}" * 500, {"symbol": "x" * 10_000})) <= 8_000
    assert len(fill("{symbol}", {"symbol": "x" * 10_000})) == 200


def test_a_body_that_is_no_event_is_told_as_it_stands() -> None:
    message = notification_of("first\nsecond")
    assert (message.title, message.body) == ("first", "second")
    assert notification_of("").title == "alert"
    for body in ("[]", "{}", '{"data": 1}', "NaN", ""):
        with pytest.raises(DataError):
            read_event(body)


def test_a_digest_tells_the_most_urgent_first_and_counts_the_rest() -> None:
    bodies = [event_body(firing(n, symbol=f"S{n:02d}")) for n in range(25)]
    bodies.append(event_body(firing(30, symbol="URGENT", priority="critical", late=True, lateness=SECOND)))
    message = digest(bodies)
    lines = message.body.splitlines()
    assert message.title == "26 alerts"
    assert "URGENT: btc-60k (late by 1.0 s)" in lines[0]
    assert "S00" in lines[1]
    assert lines[-1] == "and 6 more"
    assert message.severity is Severity.CRITICAL
    assert digest([*bodies, "no event"]).title == "27 alerts"
    with pytest.raises(DataError):
        digest([])


@pytest.mark.parametrize("text", ["a\r\nBcc: x@y.z", "a\nb", "a\x00b", "a\u2028b", "a\x7fb"])
def test_a_header_of_several_lines_is_refused(text: str) -> None:
    with pytest.raises(DataError, match="control character"):
        header_line(text)
    title = read_event(event_body(firing(), name=text))["data"]["title"]
    assert header_line(" ".join(title.split("\u2028")))
    assert "\n" not in title
    assert "\r" not in title
