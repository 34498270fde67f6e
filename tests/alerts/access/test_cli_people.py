"""People as somebody at a terminal manages them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import Result
from sqlalchemy import update
from typer.testing import CliRunner

from tapeline.alerts.access import access_control
from tapeline.alerts.service_settings import open_alert_store
from tapeline.alerts.store.people_tables import audit
from tapeline.cli import application
from tapeline.core.settings import load_settings
from tests.alerts.access.support import CHEAP, KEY, PASSWORD
from tests.alerts.conftest import _triggers_off


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TAPELINE_ROOT", str(tmp_path))
    monkeypatch.setenv("TAPELINE_ALERTS__GATEWAY__SIGNING_KEYS", json.dumps([KEY]))
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.chdir(tmp_path)
    cheap = access_control.AccessSettings((KEY,), costs=CHEAP)
    monkeypatch.setattr(access_control.AccessSettings, "of", lambda _: cheap)
    return tmp_path


def run(*arguments: str, typed: str | None = None, status: int = 0) -> str:
    result: Result = CliRunner().invoke(application, ["alerts", *arguments], input=typed)
    assert result.exit_code == status, (result.output, result.exception)
    return result.output


def test_from_nothing_to_an_administrator_and_a_key(home: Path) -> None:
    told = run("user", "add", "root", "--role", "admin", typed=f"{PASSWORD}\n{PASSWORD}\n")
    assert "root (admin) can log in" in told
    assert PASSWORD not in told
    run("user", "add", "bot", "--no-password")
    run("user", "quota", "bot", "rules", "5")
    key = run("api-key", "add", "bot", "freqtrade", "--scope", "signals:read", "--days", "7").strip()
    assert key.startswith("tlk_")
    listed = run("api-key", "list", "bot")
    assert key[4:16] in listed
    assert key not in listed
    listed = run("user", "list")
    assert "rules 5" in listed
    store = open_alert_store(load_settings())
    access = access_control.AccessControl(store.database, access_control.AccessSettings((KEY,), costs=CHEAP))
    assert access.login("root", PASSWORD).owner == "root"
    assert access.authenticate(key).owner == "bot"
    store.close()
    run("api-key", "revoke", "bot", key[4:16])
    run("user", "role", "bot", "operator")
    run("user", "disable", "bot")
    run("user", "password", "bot", "--password-stdin", typed=f"{PASSWORD}\n")
    shown = run("audit", "show")
    for action in ("user.create", "key.create", "key.revoke", "password.give", "(command line: "):
        assert action in shown
    assert PASSWORD not in shown
    assert run("user", "disable", "root", status=1) == ""


def test_a_log_that_was_changed_is_told(home: Path) -> None:
    run("user", "add", "root", "--role", "admin", "--no-password")
    head = run("audit", "verify").splitlines()[-1]
    assert head.startswith("1:")
    assert "nothing is wrong" in run("audit", "verify", "--head", head)
    assert "was noted" in run("audit", "verify", "--head", "9:" + "0" * 64, status=1)
    store = open_alert_store(load_settings())

    def tamper(connection) -> None:
        with _triggers_off(connection):
            connection.execute(update(audit).where(audit.c.number == 1).values(actor="nobody"))

    store.database.write(tamper)
    store.close()
    assert "row 1 was changed" in run("audit", "verify", status=1)
    assert "Row 2 says so" in run("audit", "accept", "a test")
    run("audit", "verify", "--head", "nonsense", status=1)


def test_without_a_signing_key_nothing_begins(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    monkeypatch.setenv("TAPELINE_ROOT", str(home))
    for keys in ([], ["super-secret" * 4]):
        monkeypatch.setenv("TAPELINE_ALERTS__GATEWAY__SIGNING_KEYS", json.dumps(keys))
        result = CliRunner().invoke(application, ["alerts", "user", "list"])
        assert result.exit_code == 1
        assert "sign" in str(result.exception)
        assert "super-secret" not in str(result.exception)
