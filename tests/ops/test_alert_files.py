"""The alert service's files under ops/: whatever they name must be there, and systemd must take the unit."""

from __future__ import annotations

import configparser
import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from tapeline.cli_alerts import alerts_application
from tapeline.core.settings import Settings, load_settings

ROOT = Path(__file__).parents[2]
OPS = ROOT / "ops"
UNIT = OPS / "alerts.service"
OTHERS = {"TAPELINE_SETTINGS", "NUMBA_CACHE_DIR", "PYTHONUNBUFFERED"}
"""Variables that are not of the settings."""


def fields_of(model: Any, prefix: str = "TAPELINE_") -> set[str]:
    """Every variable that the settings read."""
    found = set()
    for name, field in model.model_fields.items():
        variable = f"{prefix}{name.upper()}"
        found.add(variable)
        if isinstance(field.annotation, type) and hasattr(field.annotation, "model_fields"):
            found |= fields_of(field.annotation, f"{variable}__")
    return found


def example(*, filled: bool) -> dict[str, str]:
    """The variables of the example, with those that are commented out."""
    text = (OPS / "alerts.env.example").read_text()
    found = re.findall(r"^#?([A-Z][A-Z0-9_]*)=(.*)$" if filled else r"^([A-Z][A-Z0-9_]*)=(.*)$", text, re.MULTILINE)
    assert len({name for name, _ in found}) == len(found)
    return dict(found)


def compose() -> dict[str, Any]:
    text = (OPS / "alerts.compose.yml").read_text()
    return yaml.safe_load(text)


def environments() -> dict[str, dict[str, str]]:
    dockerfile = (OPS / "alerts.Dockerfile").read_text()
    built = dict(re.findall(r"(?:ENV |\s)([A-Z][A-Z0-9_]+)=(\S+)", dockerfile))
    named = {name: dict(one["environment"]) for name, one in compose()["services"].items() if "build" in one}
    return {"example": example(filled=True), "Dockerfile": built, **named}


def test_every_variable_that_they_set_is_read() -> None:
    known = fields_of(Settings) | OTHERS
    for where, variables in environments().items():
        assert variables, where
        assert set(variables) <= known, where


def test_the_example_once_filled_in_is_what_the_engine_starts_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tapeline.alerts.delivery.secret_vault import new_key

    (tmp_path / "tapeline.toml").write_text('[alerts]\nsymbols = ["BTCUSDT"]\n')
    for name, value in example(filled=False).items():
        monkeypatch.setenv(name, json.dumps([new_key()]) if value == '[""]' else value)
    monkeypatch.setenv("TAPELINE_SETTINGS", str(tmp_path / "tapeline.toml"))
    alerts = load_settings().alerts
    assert alerts.symbols == ("BTCUSDT",)
    assert alerts.rules == Path("/etc/tapeline/rules")
    assert len(alerts.keys) == len(alerts.gateway.signing_keys) == 1
    assert alerts.scale.redis is None


def unit() -> configparser.RawConfigParser:
    class Parser(configparser.RawConfigParser):
        def optionxform(self, option: str) -> str:
            return option

    parser = Parser(strict=False, delimiters=("=",), comment_prefixes=("#",), interpolation=None)
    parser.read_string(UNIT.read_text())
    return parser


def command_of(arguments: list[str]) -> None:
    """Let the program parse what it would be called with, without running it."""
    commands = getattr(typer.main.get_command(alerts_application), "commands")  # noqa: B009 - typer's own type has none
    name, *rest = arguments
    commands[name].make_context(name, rest).close()


def test_what_they_start_is_a_command_with_these_options() -> None:
    program, *arguments = unit()["Service"]["ExecStart"].split()
    assert program.endswith("/bin/tapeline")
    assert arguments[0] == "alerts"
    command_of(arguments[1:])
    started = [one["command"] for one in compose()["services"].values() if "build" in one]
    assert len(started) == 2
    for each in started:
        command_of(each)
    with pytest.raises(Exception, match="No such option"):
        command_of(["serve", "--no-such-option"])


def test_the_unit_gives_the_engine_no_more_than_it_needs() -> None:
    service = unit()["Service"]
    for name in (
        *("NoNewPrivileges", "PrivateTmp", "PrivateDevices", "ProtectHome", "ProtectKernelTunables"),
        *("ProtectKernelModules", "ProtectControlGroups", "RestrictNamespaces", "RestrictSUIDSGID", "LockPersonality"),
    ):
        assert service[name] == "yes", name
    assert service["ProtectSystem"] == "strict"
    assert service["CapabilityBoundingSet"] == ""
    assert service["User"] not in ("", "root")
    # All that it may write lies where it is told to keep its state.
    state = f"/var/lib/{service['StateDirectory']}"
    variables = example(filled=False)
    assert variables["TAPELINE_ROOT"] == state
    assert variables["NUMBA_CACHE_DIR"].startswith(state)
    assert service["Restart"] == "always"


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
def test_systemd_takes_the_unit_and_finds_it_safe(tmp_path: Path) -> None:
    here = tmp_path / "alerts.service"
    here.write_text(re.sub(r"(?m)^ExecStart=\S+", "ExecStart=/bin/true", UNIT.read_text()))
    said = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(here)], capture_output=True, text=True, check=False
    )
    assert (said.returncode, said.stdout + said.stderr) == (0, "")
    judged = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--no-pager", str(here)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "SYSTEMD_COLORS": "0"},
    )
    exposure = re.search(r"Overall exposure level for \S+: ([0-9.]+)", judged.stdout)
    if exposure is None:
        pytest.skip("this systemd-analyze judges no unit that is not installed")
    assert float(exposure[1]) < 2.0


def test_containers_get_files_that_are_there_and_leave_nothing_open() -> None:
    services = compose()["services"]
    for name, one in services.items():
        if "build" in one:
            assert (OPS / one["build"]["context"] / one["build"]["dockerfile"]).resolve().is_file()
            assert one["cap_drop"] == ["ALL"]
            assert one["read_only"]
            for needed in one["depends_on"]:
                assert "healthcheck" in services[needed]
        for port in one.get("ports", []):
            assert port.startswith("127.0.0.1:"), name
        volumes = {each.split(":")[0] for each in one.get("volumes", [])}
        assert {each for each in volumes if not each.startswith(".")} <= set(compose()["volumes"])
    port = services["gateway"]["ports"][0].rpartition(":")[2]
    assert int(port) == Settings().alerts.gateway.port
    copied = re.findall(r"^COPY (.*) \S+$", (OPS / "alerts.Dockerfile").read_text(), re.MULTILINE)
    assert all((ROOT / each).exists() for line in copied for each in line.split())
    extras = re.search(r"'\.\[([a-z,]+)\]'", (OPS / "alerts.Dockerfile").read_text())
    assert extras is not None
    declared = re.findall(r"^([a-z]+) = \[", (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert set(extras[1].split(",")) <= set(declared)
