"""The page of first steps, done as it says: its own files and commands, against a Telegram and an exchange of ours."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tapeline.alerts.delivery.signing import new_secret, verify
from tapeline.cli import application
from tests.alerts.delivery.support import receiver
from tests.monitoring.fake_services import fake_services, parse_telegram_html
from tests.streams.fake_exchange import FakeExchange

pytestmark = pytest.mark.network_shape
PAGE = (Path(__file__).parents[2] / "docs" / "alerts_first_steps.md").read_text(encoding="utf-8")


def block(language: str) -> str:
    """The page's only block of a language."""
    (found,) = re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)
    return found


def commands() -> list[str]:
    """What the page has one type, of ours."""
    return re.findall(r"^tapeline .*$", PAGE, re.MULTILINE)


def typed(command: str) -> str:
    """The output of a command, which must succeed."""
    outcome = CliRunner().invoke(application, command.split()[1:], catch_exceptions=False)
    assert outcome.exit_code == 0, outcome.output
    return outcome.output


async def line_of(process: asyncio.subprocess.Process, start: str) -> str:
    assert process.stdout is not None
    async with asyncio.timeout(60):
        while line := (await process.stdout.readline()).decode():
            if line.startswith(start):
                return line
    raise AssertionError(f"the service ended before it said {start!r}")


async def trade(exchange: FakeExchange, price: str) -> None:
    made = exchange.make("BTCUSDT")
    made["p"] = price
    await exchange.tell("BTCUSDT", made)


def test_the_first_alert_reaches_the_phone_and_a_webhook(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TAPELINE_ROOT", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "200")
    key, steps, secret = typed("tapeline alerts key").strip(), commands(), new_secret()
    assert steps == [f"tapeline alerts {rest}" for rest in ("key", "try phone", "lint rules", "serve")]

    async def story() -> None:
        async with FakeExchange(("BTCUSDT",)).serving() as exchange:
            phone = services.telegram_url("987654321")
            more = [
                block("toml").replace("<KEY>", key).replace("tgram://<TOKEN>/<CHAT>", phone),
                f'[alerts.channels.desk]\nkind = "webhook"\naddress = "{desk.url}"\nsecret = "{secret}"',
                f'[stream]\nbinance_stream = "{exchange.url}"\nbinance_rest = "{exchange.rest}"',
            ]
            alerts = f'plain_http = true\npermitted_ports = [{desk.port}]\npermitted_networks = ["127.0.0.0/8"]\n'
            toml = "\n".join(more).replace("[alerts]\n", f"[alerts]\nstream_port = 0\n{alerts}")
            (tmp_path / "tapeline.toml").write_text(toml)
            (tmp_path / "rules").mkdir()
            (tmp_path / "rules" / "btc.yaml").write_text(block("yaml").replace("[phone]", "[phone, desk]"))
            assert await asyncio.to_thread(typed, steps[1]) == "phone took it.\n"
            assert "Nothing to remark" in await asyncio.to_thread(typed, steps[2])
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-c", "from tapeline.cli import main; main()", *steps[3].split()[1:]),
                env={**os.environ, "TAPELINE_ROOT": str(tmp_path)},
                stdout=subprocess.PIPE,
            )
            try:
                await line_of(process, "Ctrl-C")
                await exchange.subscribed()
                await trade(exchange, "59999")
                await trade(exchange, "60001")
                async with asyncio.timeout(30):
                    while len(services.to("telegram")) < 2 or len(desk.got) < 1:
                        await asyncio.sleep(0.02)
                process.send_signal(signal.SIGINT)
                assert await line_of(process, "Stopped") == "Stopped; everything that was found is stored.\n"
                async with asyncio.timeout(30):
                    assert await process.wait() == 0
            finally:
                if process.returncode is None:
                    process.kill()

    with fake_services() as services, receiver() as desk:
        asyncio.run(story())
        tried, told = (parse_telegram_html(one.json["text"])[0] for one in services.to("telegram"))
        assert [one.json["chat_id"] for one in services.to("telegram")] == ["987654321"] * 2
        assert "alerts reach you here" in tried
        assert "BTCUSDT: Bitcoin crosses 60,000" in told
        assert "at 60001" in told
        (hook,) = desk.got
        assert verify([secret], hook.headers, hook.body, now=time.time())
    shown = typed("tapeline alerts firings")
    assert "btc-60k" in shown
    assert "sent, sent" in shown
