"""``tapeline alerts`` as a person types it."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import SecretStr
from typer.testing import CliRunner

from tapeline.alerts.firing import Firing, dedupe_key
from tapeline.alerts.records import Commit
from tapeline.alerts.service_settings import make_channels, make_engine, open_alert_store
from tapeline.cli import application
from tapeline.core.errors import ConfigurationError
from tapeline.core.settings import AlertChannelSettings, AlertSettings, Settings, load_settings

RULES = """
- {id: up, owner: me, condition: "crosses_up(close, 60000)", symbols: [BTCUSDT], channels: [desk]}
- {id: never, owner: me, condition: "rsi(14) > 101", symbols: [BTCUSDT]}
"""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TAPELINE_ROOT", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rules").mkdir()
    (tmp_path / "rules" / "rules.yaml").write_text(RULES)
    return tmp_path


def test_rules_are_listed_and_a_rule_that_can_never_fire_is_an_error(home: Path) -> None:
    listed = CliRunner().invoke(application, ["alerts", "rules"])
    assert listed.exit_code == 0
    assert "crosses_up(close, 60000)" in listed.output
    linted = CliRunner().invoke(application, ["alerts", "lint", str(home / "rules")])
    assert linted.exit_code == 1
    assert "never" in linted.output


def test_firings_are_listed_with_what_became_of_them(home: Path) -> None:
    store = open_alert_store(load_settings())
    ts = 1_767_225_600_000_000_000
    key = dedupe_key("up", "v", "BTCUSDT", "firing", ts)
    store.commit(Commit((Firing(key, "up", "v", "me", "BTCUSDT", "firing", ts, ts, 60_001.5),)))
    store.close()
    shown = CliRunner().invoke(application, ["alerts", "firings", "--rule", "up"])
    assert shown.exit_code == 0
    assert "2026-01-01 00:00:00.000" in shown.output
    assert "No firings" in CliRunner().invoke(application, ["alerts", "firings", "--rule", "other"]).output


def test_a_channel_needs_a_key_and_keeps_no_address_in_the_clear(home: Path) -> None:
    store = open_alert_store(load_settings())
    desk = AlertChannelSettings(kind="telegram", address="tgram://123456789:AAbbccddeeffgghhiijjkkllmmnnooppqqr/42")
    with pytest.raises(ConfigurationError, match="keys is empty"):
        make_channels(Settings(alerts=AlertSettings(channels={"desk": desk})), store)
    key = CliRunner().invoke(application, ["alerts", "key"]).output.strip()
    settings = Settings(alerts=AlertSettings(channels={"desk": desk}, keys=(key,)))
    channels, manager = make_channels(settings, store)
    # Users may have all of these whatever the operator has himself; mail and text messages need his gateway.
    assert {channel.name for channel in channels} == {"telegram", "slack", "discord", "webhook", "bot"}
    endpoint = store.endpoint("me.desk")
    assert endpoint is not None
    assert "AAbbcc" not in endpoint.address
    make_channels(settings, store)
    assert store.endpoint("me.desk") == endpoint  # a second start changes nothing
    other = desk.model_copy(update={"address": SecretStr("tgram://123456789:AAbbccddeeffgghhiijjkkllmmnnooppqqr/43")})
    manager.disable("me.desk", reason="it failed")
    make_channels(Settings(alerts=AlertSettings(channels={"desk": other}, keys=(key,))), store)
    moved = store.endpoint("me.desk")
    assert (manager.shown(moved), moved.enabled) == ("chat 43", True)
    store.close()


def test_the_engine_follows_the_symbols_that_rules_name(home: Path) -> None:
    store = open_alert_store(load_settings())
    engine, server = make_engine(load_settings(), store)
    assert list(engine.changes.symbols()) == ["BTCUSDT"]
    assert server.connected == 0
    store.close()
