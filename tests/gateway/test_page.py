"""The page in a real browser, over a real server: what a person does from signing in to seeing an alert."""

from __future__ import annotations

import re
import shutil
import socket
import threading
from collections.abc import Iterator
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from tapeline.alerts.firing import Firing, Side
from tapeline.alerts.records import Commit, Delivery
from tapeline.alerts.rule import Rule
from tapeline.alerts.store.sqlite import open_sqlite
from tapeline.core.settings import Settings
from tapeline.gateway.app import create_app
from tests.alerts.access.support import PASSWORD, make_access
from tests.gateway.browser import Browser, browser_path
from tests.gateway.conftest import NOW, open_context

CHROMIUM = browser_path()
pytestmark = [
    pytest.mark.network_shape,
    pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium on this machine"),
]
DAY = 86_400 * 10**9


def make_firing(number: int, owner: str = "ann", **changes: Any) -> Firing:
    side = Side("crosses_up(close, 60000)", 60_001.5 + number, 60_000.0, True)
    given: dict[str, Any] = {
        "dedupe_key": f"{number:02x}" * 32,
        "rule": "btc-60k",
        "rule_version": "v1",
        "owner": owner,
        "symbol": "BTCUSDT",
        "kind": "firing",
        "ts": NOW + number * 10**9,
        "detected_at": NOW + number * 10**9 + 1_500_000,
        "price": 60_001.5 + number,
        "sides": (side,),
    }
    return Firing(**given | changes)


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory, empty_database: Path) -> Iterator[Any]:
    """The API and its stream over real sockets: the context, and the address of the page."""
    import uvicorn

    folder = tmp_path_factory.mktemp("page")
    shutil.copy(empty_database, folder / "alerts.db")
    listening, stream = (socket.create_server(("127.0.0.1", 0)) for _ in range(2))
    port, stream_port = (one.getsockname()[1] for one in (listening, stream))
    stream.close()
    settings = Settings(root=folder, alerts={"gateway": {"port": port, "stream_port": stream_port}})
    store = open_sqlite(folder / "alerts.db")
    access = make_access(store.database, lambda: NOW + DAY)
    access.users.add("ann", password=PASSWORD)
    with open_context(folder, store=store, access=access, settings=settings, clock=lambda: NOW + DAY) as context:
        server = uvicorn.Server(uvicorn.Config(create_app(context), log_config=None, ws="none"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
        thread.start()
        yield context, f"http://127.0.0.1:{port}/"
        server.should_exit = True
        thread.join(10)


@pytest.fixture(scope="module")
def browser(gateway: Any) -> Iterator[Browser]:
    """Signed in as ann."""
    with Browser(CHROMIUM) as opened:
        opened.open(gateway[1])
        opened.wait('document.querySelector("form")')
        opened.fill("Name", "ann")
        opened.fill("Password", "wrong")
        opened.press("Sign in")
        opened.wait('document.querySelector(".fault").textContent.length > 0')
        # The refusal is told by the browser as well; what comes after it is not expected.
        opened.errors.clear()
        opened.fill("Password", PASSWORD)
        opened.press("Sign in")
        opened.wait('document.querySelector("h1").textContent === "Firings"')
        yield opened


def shown(browser: Browser, part: str) -> None:
    browser.evaluate(f'location.hash = "#/{part}"')


def test_a_firing_appears_as_it_is_stored_and_explains_itself(browser: Browser, gateway: Any) -> None:
    context, _ = gateway
    shown(browser, "firings")
    browser.wait('document.querySelector(".tag.good")?.textContent === "live"')
    context.store.commit(Commit((make_firing(1), make_firing(2, owner="bob", symbol="ETHUSDT"))))
    browser.wait('document.querySelectorAll("tbody tr").length === 1')
    assert browser.evaluate('document.querySelector("tbody strong").textContent') == "BTCUSDT"
    browser.press("Seen")
    browser.wait('document.querySelector("tbody small")?.textContent === "seen by ann"')
    assert context.store.firing(make_firing(1).id).acknowledged_by == "ann"
    browser.press("btc-60k")
    browser.wait('document.querySelector("h2")?.textContent === "Why"')
    assert "crosses_up(close, 60000)" in browser.evaluate('document.querySelector("main").innerText')
    assert browser.errors == []


def test_a_rule_is_checked_while_it_is_written_and_kept(browser: Browser, gateway: Any) -> None:
    context, _ = gateway
    shown(browser, "rules/new")
    browser.wait('document.querySelector("textarea")')
    browser.fill("Condition", "crosses_up(close, 60000) and rsii(14) < 30")
    browser.wait('document.querySelector("main .tag.bad")?.textContent === "error"')
    assert browser.evaluate('document.querySelector(".pointed mark").textContent') == "rsii"
    browser.press("crosses_up(close, 60000) and rsii(14) < 30")
    assert browser.evaluate("getSelection().toString()") == "rsii"
    browser.fill("Condition", "crosses_up(close, 60000)")
    browser.fill("Symbols", "BTCUSDT, ETHUSDT")
    browser.fill("Id", "btc-60k")
    browser.fill("Name", "<img src=x onerror=alert(1)>")
    browser.fill("At most every", "60")
    browser.press("Keep the rule")
    browser.wait('document.querySelector("h1").textContent === "Rules" && document.querySelector("tbody tr")')
    # What people write is text, whatever it looks like.
    assert browser.evaluate('document.querySelector("main img")') is None
    kept = context.store.rule("btc-60k").rule
    assert (kept.owner, kept.symbols, kept.cooldown.total_seconds()) == ("ann", ("BTCUSDT", "ETHUSDT"), 60)
    browser.press("Switch off")
    browser.wait('[...document.querySelectorAll("button")].some((one) => one.textContent === "Switch on")')
    assert not context.store.rule("btc-60k").rule.enabled
    browser.press("<img src=x onerror=alert(1)>")
    browser.wait('document.querySelector("textarea")?.value === "crosses_up(close, 60000)"')
    browser.fill("Must hold for", "30")
    browser.press("Keep the change")
    browser.wait('document.querySelector("h1").textContent === "Rules"')
    changed = context.store.rule("btc-60k").rule
    assert changed == kept.model_copy(update={"enabled": False, "pending": changed.pending})
    assert changed.pending.total_seconds() == 30
    assert browser.errors == []


def test_a_silence_is_made_and_ended(browser: Browser, gateway: Any) -> None:
    context, _ = gateway
    # The page's clock is the machine's, the server's stands in the past: what ends in two hours has not ended.
    shown(browser, "silences")
    browser.wait('document.querySelector("h1").textContent === "Silences"')
    browser.fill("is", "btc-*")
    browser.press("Silence it")
    browser.wait('document.querySelector("tbody code")?.textContent === "rule = btc-*"')
    (kept,) = context.store.silences()
    assert (kept.owner, kept.matchers) == ("ann", {"rule": "btc-*"})
    browser.press("End now")
    browser.wait('document.querySelector(".empty")')
    assert browser.errors == []


def test_a_channel_is_added_and_its_token_is_not_shown(browser: Browser, gateway: Any) -> None:
    context, _ = gateway
    shown(browser, "channels")
    browser.wait('document.querySelector("h1").textContent === "Channels"')
    browser.fill("Name", "phone")
    browser.fill("Address", "tgram://123456:abcdefghijkl/77")
    browser.press("Add the channel")
    browser.wait('document.querySelector("tbody strong")?.textContent === "phone"')
    assert "abcdefghijkl" not in browser.evaluate("document.body.innerText")
    (kept,) = context.store.endpoints(owner="ann")
    assert kept.channel == "telegram"
    assert browser.errors == []


def test_each_part_fits_a_telephone_and_is_reached_by_the_keyboard_alone(browser: Browser, gateway: Any) -> None:
    context, _ = gateway
    for number in range(120):
        name = "W" * 200 if number == 0 else None
        kept = Rule(
            id=f"r{number:03d}" + "x" * 60 * (number == 0),
            owner="ann",
            name=name,
            condition="close > 1",
            symbols=("A" * 64,),
        )
        context.store.save_rule(kept, by="ann", at=NOW)
    browser.call("Emulation.setDeviceMetricsOverride", width=390, height=844, deviceScaleFactor=1, mobile=True)
    try:
        for part, ready in (
            ("firings", "tbody tr"), ("rules", "tbody tr"), ("rules/new", "textarea"), ("channels", "form"),
            ("silences", "form"), ("deliveries", ".scroll"), ("health", ".figures"),
        ):  # fmt: skip
            shown(browser, part)
            browser.wait(f"document.querySelector({ready!r}) && location.hash === '#/{part}'")
            assert browser.evaluate("document.documentElement.scrollWidth <= innerWidth"), part
            # What is pressed next comes after what was asked for: the focus is on it, not on the link before.
            browser.wait('document.activeElement.closest("main")')
        # Of many rules those that are looked for, whichever page of the list they came with.
        shown(browser, "rules")
        browser.wait('document.querySelectorAll("tbody tr").length === 100')
        browser.wait('document.querySelector("[role=status].quiet").textContent.startsWith("100 of 12")')
        browser.fill("Find", "r119 close")
        browser.wait('document.querySelectorAll("tbody tr").length === 1')
        browser.evaluate('document.querySelector("tbody button").focus()')
        for kind in ("keyDown", "keyUp"):
            browser.call(
                "Input.dispatchKeyEvent", type=kind, key="Enter", code="Enter", text="\r", windowsVirtualKeyCode=13
            )
        browser.wait('document.querySelector("tbody button")?.textContent === "Switch on"')
        # The row was drawn anew, and the focus is where it was.
        browser.wait('document.activeElement.textContent === "Switch on"')
        assert not context.store.rule("r119").rule.enabled
    finally:
        browser.call("Emulation.clearDeviceMetricsOverride")
    assert browser.errors == []


def test_what_is_written_stands_out_from_what_it_stands_on() -> None:
    style = (files("tapeline.gateway") / "page" / "style.css").read_text()
    light, dark = (dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6})", part)) for part in style.split("@media", 2)[:2])
    text = [(ink, paper) for ink in ("ink", "quiet", "accent", "bad") for paper in ("paper", "card", "code")]
    text += [("accent-ink", "accent"), *((f"{one}", f"{one}-paper") for one in ("bad", "warn", "good"))]
    for colours in (light, dark):
        assert {pair: round(contrast(colours, *pair), 2) for pair in text if contrast(colours, *pair) < 4.5} == {}
        # The borders of fields and buttons, by which one sees that they are some.
        assert min(contrast(colours, "edge", paper) for paper in ("paper", "card")) >= 3.0


def contrast(colours: dict[str, str], ink: str, paper: str) -> float:
    """The contrast ratio of two colours (WCAG 2.2, 1.4.3)."""

    def luminance(colour: str) -> float:
        parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted(luminance(colours[one]) for one in (ink, paper))
    return (high + 0.05) / (low + 0.05)


def test_what_was_given_up_is_sent_again(browser: Browser, gateway: Any) -> None:
    context, _ = gateway
    store, firing = context.store, make_firing(3)
    store.commit(Commit((firing,), deliveries=(Delivery(f"{firing.id}.x", firing.id, "webhook", "ep", "{}", NOW),)))
    (claim,) = store.claim("webhook", limit=1, lease=10**10, now=NOW + 1)
    begun = store.begin_attempt(claim, now=NOW + 2)
    store.settle(replace(begun, ended_at=NOW + 3, outcome="refused", status=404, detail="HTTP 404"))
    shown(browser, "deliveries")
    browser.press("Again")
    browser.wait(
        '!document.querySelector("main h2") && document.querySelector("tbody .tag")?.textContent === "waiting"'
    )
    assert store.delivery(f"{firing.id}.x").state == "waiting"
    shown(browser, "health")
    browser.wait('document.querySelector(".figures")')
    assert browser.errors == []
    browser.press("Sign out")
    browser.wait('document.querySelector("form input[type=password]")')
    assert browser.evaluate("sessionStorage.length") == 0
