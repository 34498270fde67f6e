"""``tapeline alerts config`` and ``symbols`` as a person types them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tapeline.cli import application


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TAPELINE_ROOT", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def typed(*words: str, ends: int = 0) -> str:
    result = CliRunner().invoke(application, ["alerts", *words])
    assert result.exit_code == ends, result.output
    return result.output


FILE = "rules:\n- {id: r, condition: close > 1, symbols: [BTCUSDT]}\n"


def test_from_a_file_to_the_database_and_back(home: Path) -> None:
    file = home / "mine.yaml"
    file.write_text(FILE)
    assert "+ rule r" in typed("config", "diff", "mine.yaml", ends=1)
    assert "at version 2" in typed("config", "apply", "mine.yaml", "--comment", "first", "--expect", "0")
    exported = typed("config", "export")
    file.write_text(exported)
    assert typed("config", "diff", "mine.yaml").startswith("0 to add, 0 to change, 0 to remove")
    assert json.loads(typed("config", "export", "--json"))["rules"] == [
        {"id": "r", "condition": "close > 1", "symbols": ["BTCUSDT"]}
    ]
    file.write_text(FILE.replace("> 1", "> 2"))
    plan = json.loads(typed("config", "diff", "mine.yaml", "--json", ends=1))
    assert plan["changes"][0]["fields"] == [{"field": "condition", "before": "close > 1", "after": "close > 2"}]
    typed("config", "apply", "mine.yaml")
    assert "0 to add, 1 to change" in typed("config", "rollback", "2")
    assert "close > 1" in typed("config", "export")
    assert typed("config", "versions").count("command line") == 4
    assert "first" in typed("config", "versions")


def test_what_is_wrong_is_told_and_changes_nothing(home: Path) -> None:
    (home / "bad.yaml").write_text("rules:\n- {id: r, condition: rsii < 1, symbols: [A]}\n")
    result = CliRunner().invoke(application, ["alerts", "config", "apply", "bad.yaml"])
    assert result.exit_code != 0
    assert "rules[0].condition" in str(result.exception or result.output)
    assert "rules: []" in typed("config", "export")
    result = CliRunner().invoke(application, ["alerts", "config", "diff", "absent.yaml"])
    assert result.exit_code != 0


def test_symbols_are_added_named_and_imported(home: Path) -> None:
    typed("symbols", "add", "BTCUSD", "--base", "BTC", "--quote", "USD")
    typed("symbols", "name", "BTCUSD", "kraken", "XBT/USD")
    answer = {"symbols": [{"symbol": "ETHUSDT", "baseAsset": "ETH", "quoteAsset": "USDT", "status": "TRADING"}]}
    (home / "info.json").write_text(json.dumps(answer))
    assert "1 listed, 1 new or changed" in typed("symbols", "import", "binance", "info.json")
    listed = typed("symbols", "list")
    assert all(word in listed for word in ("BTCUSD", "ETHUSDT"))
