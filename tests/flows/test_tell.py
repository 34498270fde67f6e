"""Telling beside the hooks: by severity and error type to the right channel, once, and never in the way."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from uuid import uuid4

import pytest

from tapeline.core.settings import load_settings
from tapeline.monitoring.notification import Severity
from tests.monitoring.fake_services import FakeServices, fake_services, parse_telegram_html

pytestmark = [pytest.mark.network_shape]


@pytest.fixture
def services() -> Iterator[FakeServices]:
    with fake_services() as running:
        yield running


@pytest.fixture
def project(services: FakeServices, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("TAPELINE_SETTINGS", raising=False)
    monkeypatch.setenv("TAPELINE_ROOT", str(tmp_path))
    monkeypatch.setenv("TAPELINE_NOTIFICATIONS__URLS", f'["{services.telegram_url()}"]')
    monkeypatch.setenv("TAPELINE_METATRADER__PASSWORD", "terminal-password")
    return tmp_path


def titles(services: FakeServices) -> list[str]:
    return [parse_telegram_html(text)[0].splitlines()[0] for text in services.texts()]


def test_an_alert_is_told_once_with_its_link_and_without_secrets(services: FakeServices, project: Path):
    from flows.hooks import tell

    for _ in range(2):
        tell("feed binance is behind", "lag 12 s, terminal-password", key="lag/binance", link="http://127.0.0.1/feeds")
    ((text, links),) = [parse_telegram_html(text) for text in services.texts()]
    assert "feed binance is behind" in text
    assert "terminal-password" not in text
    assert links == ["http://127.0.0.1/feeds"]


def test_a_route_takes_by_severity_and_by_error_type(
    services: FakeServices, project: Path, monkeypatch: pytest.MonkeyPatch
):
    from flows.hooks import tell

    routes = '[{"channel": "telegram-*", "minimum_severity": "error", "error_types": ["Feed*"]}]'
    monkeypatch.setenv("TAPELINE_NOTIFICATIONS__ROUTES", routes)
    tell("too mild", "", key="a", severity=Severity.WARNING, error_type="FeedAlert")
    tell("of another kind", "", key="b", severity=Severity.CRITICAL, error_type="DriftAlert")
    tell("without a kind", "", key="c", severity=Severity.CRITICAL)
    tell("the right one", "", key="d", severity=Severity.ERROR, error_type="FeedAlert")
    assert len(services.texts()) == 1
    assert "the right one" in titles(services)[0]


def test_telling_never_raises(project: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture):
    from flows.hooks import tell

    tell("", "a title is needed", key="a")
    tell("a key is needed", "", key=" ")
    monkeypatch.setenv("TAPELINE_TRAINING__TRIALS", "none")
    tell("settings that do not load", "", key="b")
    assert caplog.text.count("not told") == 3


def test_a_crash_that_the_hook_has_told_is_not_told_again(
    services: FakeServices, project: Path, monkeypatch: pytest.MonkeyPatch
):
    from flows import automations, hooks

    run = uuid4()
    monkeypatch.setattr(automations, "described", lambda what, identifier: ("flow live", [], None))
    notifier = hooks.open_notifier(load_settings())
    notifier.mark_told(hooks.crash_key(run))
    automations.tell_incident.fn("crashed", f"prefect.flow-run.{run}")
    assert services.texts() == []
    automations.tell_incident.fn("crashed", f"prefect.flow-run.{uuid4()}")
    assert titles(services) == ["🚨 flow live crashed"]


def test_every_watched_deployment_has_an_automation_and_a_heartbeat_may_be_lost():
    from flows.automations import HEARTBEAT_SECONDS, OVERDUE_AFTER, PREFIX, SILENT_AFTER, automations

    assert timedelta(seconds=2 * HEARTBEAT_SECONDS) < SILENT_AFTER
    teller = uuid4()
    watched = dict.fromkeys([*OVERDUE_AFTER, "another/one"], uuid4())
    found = {one.name.removeprefix(PREFIX): one for one in automations(teller, watched)}
    assert {name for name in found if name.endswith("is overdue")} == {f"{name} is overdue" for name in OVERDUE_AFTER}
    telling = [action for one in found.values() for action in one.actions if action.type == "run-deployment"]
    assert {action.deployment_id for action in telling} == {teller}
    assert len(telling) == len(found) - 1, "all but the one that marks a silent run tell"


def test_the_watched_deployments_are_those_of_the_project():
    import yaml

    from flows.automations import OVERDUE_AFTER

    project = yaml.safe_load((Path(__file__).parents[2] / "prefect.yaml").read_text())
    known = {f"{d['entrypoint'].split(':')[1]}/{d['name']}": d for d in project["deployments"]}
    assert set(OVERDUE_AFTER) <= set(known)


def test_an_ended_run_is_counted(project: Path):
    from datetime import UTC, datetime

    from flows.hooks import count_run
    from tasks.observe import open_metrics

    started = datetime(2026, 1, 2, tzinfo=UTC)
    state = SimpleNamespace(name="Completed", timestamp=started + timedelta(seconds=7))
    count_run(SimpleNamespace(name="pipeline"), SimpleNamespace(start_time=started), state)
    found = {series.metric.name: series for series in open_metrics(load_settings()).read()}
    assert found["tapeline_flow_runs_total"].labels == {"flow": "pipeline", "state": "Completed"}
    assert found["tapeline_flow_duration_seconds"].value == 7


def test_an_alert_of_a_feed_goes_the_same_way_routed_counted_and_without_secrets(
    services: FakeServices, project: Path, monkeypatch: pytest.MonkeyPatch
):
    from flows.hooks import open_notifier
    from tapeline.streams.alerts import FeedAlert
    from tasks.live_alerts import notification_of

    routes = '[{"channel": "telegram-*", "error_types": ["FeedAlert"]}]'
    monkeypatch.setenv("TAPELINE_NOTIFICATIONS__ROUTES", routes)
    counted: list = []
    monkeypatch.setattr("flows.hooks.measure_all", lambda *updates: counted.extend(updates))
    notifier = open_notifier(load_settings())
    notifier.notify(notification_of(FeedAlert("binance", "drift", "+1270 ms, terminal-password", 1)))
    assert titles(services) == ["⚠️ feed binance: drift"]
    assert "terminal-password" not in services.texts()[0]
    assert [(update.name, update.labels["outcome"]) for update in counted] == [("tapeline_notifications_total", "sent")]
