from __future__ import annotations

import logging
import os
import signal
import sqlite3
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest

from tapeline.core.errors import (
    ConfigurationError,
    DataError,
    ProviderError,
    QualityError,
    TapelineError,
    TemporaryError,
    ThrottledError,
)
from tapeline.monitoring.notification import Severity
from tests.monitoring.fake_services import BOT_TOKEN, FakeServices, Reply, fake_services, parse_telegram_html

pytestmark = [pytest.mark.prefect, pytest.mark.network_shape]


@pytest.fixture
def services() -> Iterator[FakeServices]:
    with fake_services() as running:
        yield running


@pytest.fixture
def project(services: FakeServices, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project folder whose settings, by the environment, point at the local Telegram."""
    monkeypatch.delenv("TAPELINE_SETTINGS", raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TAPELINE_ROOT", str(tmp_path))
    monkeypatch.setenv("TAPELINE_NOTIFICATIONS__URLS", f'["{services.telegram_url()}"]')
    monkeypatch.setenv("TAPELINE_METATRADER__PASSWORD", "terminal-password")
    return tmp_path


def shown(services: FakeServices) -> list[tuple[list[str], list[str]]]:
    parsed = [parse_telegram_html(text) for text in services.texts()]
    return [(text.splitlines(), links) for text, links in parsed]


def test_severity_by_error_class() -> None:
    from flows.hooks import severity_of

    assert {type(e): severity_of(e) for e in (TemporaryError("x"), ThrottledError("x"))} == {
        TemporaryError: Severity.WARNING,
        ThrottledError: Severity.WARNING,
    }
    for error in (ProviderError("x"), DataError("x"), QualityError("x"), ConfigurationError("x")):
        assert severity_of(error) is Severity.ERROR
    for unknown in (TapelineError("x"), ValueError("x"), KeyboardInterrupt(), TimeoutError()):
        assert severity_of(unknown) is Severity.CRITICAL


def test_a_failing_flow_tells_what_why_and_where(prefect_server: str, services: FakeServices, project: Path) -> None:
    from prefect import flow

    from flows.hooks import HOOKS

    @flow(name="ingest-test", **HOOKS)
    def ingest(symbol: str, api_key: str, rows: list[int]) -> None:
        raise ProviderError(
            "answered <html> & token=abcdef123456 terminal-password", hint="check the symbol at the provider"
        )

    with pytest.raises(ProviderError):
        ingest("EURUSD", api_key="very-secret-key", rows=list(range(1000)))
    ((lines, links),) = shown(services)
    assert lines[0] == "❌ flow ingest-test failed"
    assert lines[1].startswith("run: ")
    assert lines[2:4] == ["state: Failed", "error: ProviderError: answered <html> & token=*** ***"]
    assert lines[4] == "parameters: symbol='EURUSD', api_key=***, rows=[0, 1, 2, 3, 4, 5, ...]"
    assert "hint: check the symbol at the provider" in lines
    ui = prefect_server.removesuffix("/api")
    assert len(links) == 1
    assert links[0].startswith(f"{ui}/runs/flow-run/")
    everything = services.texts()[0]
    for secret in ("abcdef123456", "terminal-password", "very-secret-key", BOT_TOKEN):
        assert secret not in everything


def test_the_link_comes_from_the_ui_s_address_and_may_be_missing(
    prefect_server: str, services: FakeServices, project: Path
) -> None:
    from prefect import flow
    from prefect.settings import PREFECT_UI_URL, temporary_settings

    from flows.hooks import HOOKS

    @flow(name="linked", **HOOKS)
    def linked(number: int) -> None:
        raise DataError("bad rows in " + "abc"[number])

    for number, address in enumerate(["https://prefect.example.com/ui/", "javascript:alert(1)", ""]):
        with temporary_settings({PREFECT_UI_URL: address}), pytest.raises(DataError):
            linked(number)
    links = [links for _, links in shown(services)]
    assert links[0][0].startswith("https://prefect.example.com/ui/runs/flow-run/")
    assert links[1:] == [[], []]


def test_the_same_failure_is_told_once_and_the_recovery_too(
    prefect_server: str, services: FakeServices, project: Path
) -> None:
    from prefect import flow

    from flows.hooks import HOOKS

    broken = [True]

    @flow(name="recovers", **HOOKS)
    def recovers() -> None:
        if broken[0]:
            raise TemporaryError(f"lost the connection after {uuid4()}")

    for _ in range(2):
        with pytest.raises(TemporaryError):
            recovers()
    broken[0] = False
    recovers()
    recovers()
    messages = [lines for lines, _ in shown(services)]
    assert [lines[0] for lines in messages] == ["⚠️ flow recovers failed", "ℹ️ flow recovers is well again"]  # noqa: RUF001
    assert any(line.startswith("it had failed 2 times since ") for line in messages[1])
    assert any(line.startswith("last error: TemporaryError: lost the connection") for line in messages[1])


def test_a_success_is_told_only_where_it_was_asked_for(
    prefect_server: str, services: FakeServices, project: Path
) -> None:
    from prefect import flow, tags

    from flows.hooks import HOOKS, NOTIFY_TAG, on_hooks

    @flow(name="quiet", **HOOKS)
    def quiet() -> None:
        pass

    @flow(name="loud", **on_hooks(completion=True))
    def loud() -> None:
        pass

    quiet()
    assert services.requests == []
    loud()
    with tags(NOTIFY_TAG):
        quiet()
    assert [lines[0] for lines, _ in shown(services)] == [
        "ℹ️ flow loud completed",  # noqa: RUF001
        "ℹ️ flow quiet completed",  # noqa: RUF001
    ]


@pytest.mark.parametrize("crash", [SystemExit, KeyboardInterrupt])
def test_a_flow_that_is_torn_down_tells_of_its_crash(
    prefect_server: str, services: FakeServices, project: Path, crash: type[BaseException]
) -> None:
    from prefect import flow

    from flows.hooks import HOOKS

    @flow(name="torn", **HOOKS)
    def torn() -> None:
        raise crash

    with pytest.raises(crash):
        torn()
    ((lines, _),) = shown(services)
    assert lines[0] == "🚨 flow torn crashed"
    assert lines[2] == "state: Crashed"
    assert lines[3].endswith(f"({crash.__name__})")


def test_a_process_that_is_terminated_tells_of_its_crash(
    prefect_server: str, services: FakeServices, project: Path
) -> None:
    program = textwrap.dedent(
        """
        import sys, time
        from prefect import flow
        from flows.hooks import HOOKS

        @flow(name="terminated", **HOOKS)
        def terminated():
            print("running", flush=True)
            time.sleep(60)

        terminated()
        """
    )
    root = Path(__file__).parents[2]
    process = subprocess.Popen(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": str(root)},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    guard = threading.Timer(120, process.kill)
    guard.start()
    try:
        assert process.stdout is not None
        assert any("running" in line for line in process.stdout)
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=60)
    finally:
        guard.cancel()
        process.kill()
    ((lines, _),) = shown(services)
    assert lines[0] == "🚨 flow terminated crashed"
    assert lines[3] == "error: Execution was aborted by a termination signal. (TerminationSignal)"


def test_a_process_that_is_killed_is_told_of_by_its_runner(
    prefect_server: str, services: FakeServices, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # SIGKILL leaves the process no chance; the runner that a worker or serve() puts beside it runs the hook instead.
    import asyncio

    from prefect.client.orchestration import get_client
    from prefect.runner import Runner

    source = project / "killed_flow.py"
    source.write_text(
        textwrap.dedent(
            """
            import os, signal
            from prefect import flow
            from flows.hooks import HOOKS

            @flow(name="killed", **HOOKS)
            def killed():
                os.kill(os.getpid(), signal.SIGKILL)
            """
        )
    )
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))

    async def run() -> None:
        from prefect import Flow

        flow = await Flow.afrom_source(source=str(project), entrypoint="killed_flow.py:killed")
        runner = Runner(name="test", pause_on_shutdown=False)
        deployment_id = await runner.add_flow(flow, name="killed")
        async with get_client() as client:
            await client.create_flow_run_from_deployment(deployment_id)
        await runner.start(run_once=True)

    asyncio.run(run())
    ((lines, _),) = shown(services)
    assert lines[0] == "🚨 flow killed crashed"


def test_a_task_tells_of_its_last_failure_only(prefect_server: str, services: FakeServices, project: Path) -> None:
    from prefect import flow, task

    from flows.hooks import TASK_HOOKS

    tries = []

    @task(name="fetch", retries=1, retry_delay_seconds=0, **TASK_HOOKS)
    def fetch() -> None:
        tries.append(1)
        raise DataError("row 7 is bad", hint="look at row 7")

    @flow(name="survivor")
    def survivor() -> None:
        fetch(return_state=True)
        return 1

    assert survivor() == 1
    assert len(tries) == 2
    ((lines, links),) = shown(services)
    assert lines[0] == "❌ task fetch failed"
    assert lines[2].startswith("flow: survivor, run ")
    assert lines[4] == "error: DataError: row 7 is bad"
    assert "hint: look at row 7" in lines
    assert "/runs/task-run/" in links[0]


def test_an_asynchronous_flow_is_told_of_as_well(prefect_server: str, services: FakeServices, project: Path) -> None:
    import asyncio

    from prefect import flow

    from flows.hooks import HOOKS

    @flow(name="asynchronous", **HOOKS)
    async def asynchronous() -> None:
        raise ValueError("x")

    with pytest.raises(ValueError):
        asyncio.run(asynchronous())
    ((lines, _),) = shown(services)
    assert (lines[0], lines[3]) == ("🚨 flow asynchronous failed", "error: ValueError: x")


def test_a_timeout_is_named(prefect_server: str, services: FakeServices, project: Path) -> None:
    import time

    from prefect import flow

    from flows.hooks import HOOKS

    @flow(name="slow", timeout_seconds=0.2, **HOOKS)
    def slow() -> None:
        for _ in range(300):
            time.sleep(0.01)

    with pytest.raises(Exception, match="timed out"):
        slow()
    ((lines, _),) = shown(services)
    assert lines[0] == "🚨 flow slow timed out"


@pytest.mark.parametrize("trouble", ["dead channel", "bad settings", "broken state file", "bad address"])
def test_no_trouble_of_the_hook_changes_the_run(
    prefect_server: str, services: FakeServices, project: Path, monkeypatch: pytest.MonkeyPatch, trouble: str
) -> None:
    from prefect import flow

    from flows.hooks import HOOKS

    if trouble == "dead channel":
        services.always["telegram"] = Reply(fault="drop")
    elif trouble == "bad settings":
        monkeypatch.setenv("TAPELINE_TRAINING__FOLDS", "1000")
    elif trouble == "broken state file":
        (project / "data").write_text("no folder")
    else:
        monkeypatch.setenv("TAPELINE_NOTIFICATIONS__URLS", '["tgram://nonsense"]')

    @flow(name="works", **HOOKS)
    def works() -> int:
        return 7

    @flow(name="fails", **HOOKS)
    def fails() -> None:
        raise DataError("bad")

    assert works() == 7
    state = fails(return_state=True)
    assert state.is_failed()
    assert state.message == "Flow run encountered an exception: DataError: bad"
    if trouble == "dead channel":
        with closing(sqlite3.connect(project / "data" / "_state" / "notifications.sqlite")) as db:
            assert db.execute("SELECT count(*) FROM outbox").fetchone() == (1,)


def test_a_hook_that_breaks_is_logged_without_secrets(caplog: pytest.LogCaptureFixture) -> None:
    from flows.hooks import harmless

    @harmless
    def breaks(subject: Any, run: Any, state: Any) -> None:
        raise RuntimeError("password=hunter2")

    with caplog.at_level(logging.WARNING, "flows.hooks"):
        breaks(None, SimpleNamespace(), None)
    assert "the notification hook failed: RuntimeError: password=***" in caplog.text


def test_prefect_blocks_are_channels(
    prefect_server: str, services: FakeServices, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from prefect import flow
    from prefect.blocks.notifications import CustomWebhookNotificationBlock, SlackWebhook

    from flows.hooks import HOOKS, block_channels

    tokens = "T0000EXAM/B0000EXAM/exampleexampleexample123"
    SlackWebhook(url=f"https://hooks.slack.com/services/{tokens}").save("alerts", overwrite=True)
    CustomWebhookNotificationBlock(
        name="hook",
        url=f"{services.base}/custom/{{{{key}}}}",
        json_data={"title": "{{subject}}", "message": "{{body}}"},
        secrets={"key": "custom-secret-key-123"},
    ).save("hook", overwrite=True)
    names = ["slack-webhook/alerts", "custom-webhook/hook", "slack-webhook/nosuch"]
    monkeypatch.setenv("TAPELINE_NOTIFICATIONS__PREFECT_BLOCKS", f"{names}".replace("'", '"'))
    channels = block_channels(names, 10)
    # The Slack block is opened as its address, so that its 429 is honoured; nothing is sent to it here.
    assert [c.name.split("-")[0] for c in channels] == ["slack", "block"]

    @flow(name="blocks", **HOOKS)
    def blocks() -> None:
        raise DataError("bad & <wrong>")

    monkeypatch.setenv("TAPELINE_NOTIFICATIONS__PREFECT_BLOCKS", '["custom-webhook/hook", "slack-webhook/nosuch"]')
    with pytest.raises(DataError):
        blocks()
    (request,) = services.to("other")
    assert request.path == "/custom/custom-secret-key-123"
    assert request.json["title"] == "flow blocks failed"
    assert "error: DataError: bad & <wrong>" in request.json["message"]
    assert len(services.to("telegram")) == 1, "a block that is missing must not silence the others"


def test_a_block_s_429_is_honoured_and_its_secret_kept(
    prefect_server: str, services: FakeServices, project: Path, caplog: pytest.LogCaptureFixture
) -> None:
    from prefect.blocks.notifications import CustomWebhookNotificationBlock

    from flows.hooks import BlockChannel
    from tapeline.monitoring.notification import Notification

    block = CustomWebhookNotificationBlock(
        name="hook",
        url=f"{services.base}/custom/{{{{key}}}}",
        json_data={"title": "{{subject}}"},
        secrets={"key": "custom-secret-key-123"},
    )
    channel = BlockChannel("custom-webhook/hook", block, 10)
    note = Notification("t", "b", Severity.INFO, key="k")
    services.script["other"].extend(
        [Reply(429, "", (("Retry-After", "12"),)), Reply(404), Reply(500), Reply(fault="drop")]
    )
    with caplog.at_level(logging.DEBUG):
        deliveries = [channel.send(note) for _ in range(4)]
    assert [(d.outcome, d.retry_after) for d in deliveries] == [
        ("throttled", 12.0),
        ("refused", None),
        ("failed", None),
        ("failed", None),
    ]
    assert "custom-secret-key-123" not in f"{deliveries} {caplog.text}"
