from __future__ import annotations

from dataclasses import replace

import pytest
from fastapi.testclient import TestClient

from tapeline.alerts.rule_files import load_rules
from tapeline.core.errors import ThrottledError
from tapeline.gateway.app import create_app
from tapeline.gateway.preview import PreviewWorker, TookTooLongError, previewed
from tapeline.gateway.routes import rule_checks
from tests.gateway.acting import act
from tests.support import make_bars

RULE = {"condition": "crosses_up(close, 1.1)", "symbols": ["EURUSD"], "timeframe": "1h", "channels": ["desk"]}


class Here:
    """Makes previews in this process: to begin another costs seconds."""

    def ask(self, *arguments):
        return previewed(*arguments)


@pytest.fixture
def ann(context, as_user, client, monkeypatch):
    asked = []

    def bars(symbol, timeframe, count):
        asked.append((symbol, timeframe, count))
        return make_bars(count, timeframe="H1").tail(count) if symbol == "EURUSD" else None

    monkeypatch.setattr(rule_checks, "_worker", lambda context: Here())
    as_user("ann")
    app = create_app(replace(context, bars=bars))
    with TestClient(app, raise_server_exceptions=False, headers=as_user("ann").headers) as made:
        made.asked = asked
        yield made


def test_a_preview_is_what_the_backtest_says(ann) -> None:
    from tapeline.alerts.backtest import backtest_rule
    from tapeline.alerts.rule import Rule

    answer = ann.post("/v1/rules/preview", json={"rule": RULE, "bars": 300})
    assert answer.status_code == 200, answer.text
    told = answer.json()
    rule = Rule(id="preview", owner="ann", **RULE)
    expected = backtest_rule(rule, {"EURUSD": make_bars(300, timeframe="H1")})
    assert told["firings"] == len(expected.firings) > 0
    assert [one["price"] for one in told["last"]] == expected.firings["price"].tolist()
    assert told["last"][0]["conditions"][0]["text"] == "crosses_up(close, 1.1)"
    assert told["forward"]["1"] == pytest.approx(expected.firings["return_1"].median())
    assert ann.asked == [("EURUSD", "1h", 300)]


@pytest.mark.parametrize(
    ("change", "status", "words"),
    [
        ({"rule": {**RULE, "condition": "rsii(14) > 1"}}, 422, "rsii"),
        ({"rule": {**RULE, "symbols": ["ETHUSDT"]}}, 404, "no stored bars"),
        ({"rule": {**RULE, "symbols": ["*"]}}, 422, "all symbols"),
        ({"rule": {**RULE, "timeframe": "5m"}}, 422, "finer bars"),
        ({"bars": 50_001}, 422, "50000"),
        ({"rule": {**RULE, "symbols": [f"S{n}" for n in range(11)]}, "bars": 5_000}, 422, "50000"),
    ],
)
def test_what_cannot_be_previewed_is_said(ann, change, status, words) -> None:
    answer = ann.post("/v1/rules/preview", json={"rule": RULE, "bars": 200} | change)
    assert (answer.status_code, words in answer.text) == (status, True), answer.text


def test_checks_find_what_lint_finds(ann) -> None:
    fine = ann.post("/v1/rules/validate", json=RULE).json()
    assert fine == {"valid": True, "findings": [], "needs": {}}
    silent = ann.post("/v1/rules/validate", json={**RULE, "channels": [], "condition": "rsi(14) > 101"}).json()
    assert {one["code"] for one in silent["findings"]} == {"never", "no_channel"}
    wrong = ann.post("/v1/rules/validate", json={**RULE, "condition": "close >"}).json()
    assert (wrong["valid"], wrong["findings"][0]["code"]) == (False, "condition")
    where = {text: _fault(ann, text) for text in ("close > rsii(14)", "close >", 'sma("x") > 1', "close # 1")}
    assert [(one["position"], one["length"]) for one in where.values()] == [(8, 4), (7, 0), (4, 3), (6, 1)]
    named = ann.post("/v1/rules", json={**RULE, "condition": "close > rsii(14)"}).json()["errors"]
    assert [(one["pointer"], one["position"], one["length"]) for one in named] == [("/condition", 8, 4)]
    assert ann.post("/v1/rules/validate", json={**RULE, "condition": 'sma(20, "1h") > 1'}).json()["needs"] == {"1h": 19}


def _fault(ann, condition):
    (found,) = ann.post("/v1/rules/validate", json={**RULE, "condition": condition}).json()["findings"]
    return found


def test_what_is_costly_is_asked_for_less_often(ann) -> None:
    statuses = [ann.post("/v1/rules/preview", json={"rule": RULE, "bars": 10}).status_code for _ in range(6)]
    assert statuses.count(429) == 1
    assert statuses[-1] == 429


def test_an_editor_learns_every_function_and_each_example_is_a_rule(ann) -> None:
    items = ann.get("/v1/functions").json()["items"]
    assert {"rsi", "crosses"} & {one["name"] for one in items} == {"rsi"}
    assert all(one["kind"] and one["signature"].startswith(one["name"]) for one in items)
    rsi = next(one for one in items if one["name"] == "rsi")
    assert [part["name"] for part in rsi["parameters"]] == ["bars", "timeframe", "state"]
    made = ann.post("/v1/rules/validate", json={**RULE, "condition": rsi["example"]}).json()
    assert made["valid"]


def test_the_schema_takes_what_files_hold(ann, tmp_path) -> None:
    schema = ann.get("/v1/schemas/rules").json()
    (tmp_path / "r.json").write_text('{"id": "r", "owner": "me", "condition": "close > 1", "symbols": ["A"]}')
    (rule,) = load_rules(tmp_path / "r.json")
    assert set(rule.model_fields_set) <= set(schema["$defs"]["rule"]["properties"])


def test_a_preview_that_takes_too_long_is_ended_and_the_next_begins_anew() -> None:
    worker = PreviewWorker(act, seconds=60.0, wait_seconds=0.01)
    try:
        assert worker.ask("well") == "well"
        with pytest.raises(RuntimeError, match="KeyError"):
            worker.ask("fail")
        with worker._turn, pytest.raises(ThrottledError, match="another preview"):
            worker.ask("well")
        busy, worker._seconds = worker._process, 0.05
        with pytest.raises(TookTooLongError, match=r"longer than 0\.05 s"):
            worker.ask("stay")
        assert not busy.is_alive()
        worker._seconds = 60.0
        with pytest.raises(TookTooLongError, match="ended"):
            worker.ask("die")
        assert worker._process is None
    finally:
        worker.close()
