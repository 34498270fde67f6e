"""The files under ops/ against what the exporter really exposes after stages ran: no name or label may be invented."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from tapeline.core.settings import load_settings
from tapeline.core.symbol import Symbol
from tapeline.core.timeframe import Timeframe
from tapeline.monitoring.exporter import Exporter, SeriesState
from tapeline.monitoring.metric_store import Update

OPS = Path(__file__).parents[2] / "ops"
DASHBOARD = OPS / "grafana" / "dashboards" / "tapeline.json"
RULES = OPS / "prometheus" / "rules.yml"
SERIES = (Symbol.parse("EURUSD"), Timeframe.parse("H1"))
ADDED_BY_PROMETHEUS = {"up": {"job", "instance"}}
FUNCTIONS = set(
    "sum by on group_left increase rate histogram_quantile abs max topk and or unless offset".split()  # noqa: SIM905
)


@pytest.fixture
def exposed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, set[str]]:
    """The labels of every sample name, after real observations: a stage that finished and one that failed."""
    from tapeline.quality.gate import Verdict
    from tasks.gate import verdict_labels
    from tasks.observe import measure, measure_all, observed, open_metrics

    monkeypatch.setenv("TAPELINE_ROOT", str(tmp_path))
    with observed("ingest", SERIES, flow="pipeline") as seen:
        seen.count(rows_in=3, rows_out=2, quarantined=1, reasons={"no_time": 1})
    with pytest.raises(ZeroDivisionError), observed("ingest", SERIES, flow="pipeline"):
        raise ZeroDivisionError
    measure("tapeline_feed_lag_seconds", 1, feed="a")
    measure("tapeline_clock_offset_seconds", 1, reference="ntp")
    measure_all(
        Update(
            "tapeline_gate_verdicts_total",
            1,
            verdict_labels("ingest", Verdict("1f", "raw_bars", "2a", "3b", False, 10, 3, ("too few",), {})),
        ),
        Update("tapeline_flow_runs_total", 1, {"flow": "pipeline", "state": "Completed"}),
        Update("tapeline_notifications_total", 1, {"channel": "slack-1", "outcome": "sent"}),
    )
    held = SeriesState("raw/bars", "EURUSD", "H1", 10, 1_000, 0, 3_600.0, 60.0, 60.0)
    exporter = Exporter(open_metrics(load_settings()), lambda: [held])
    found = {name: set(labels) for name, labels in ADDED_BY_PROMETHEUS.items()}
    for family in text_string_to_metric_families(generate_latest(exporter.registry()).decode()):
        for sample in family.samples:
            found.setdefault(sample.name, set()).update(sample.labels)
    return found


def expressions() -> Iterator[tuple[str, str]]:
    """Every PromQL expression with where it stands."""
    for group in yaml.safe_load(RULES.read_text())["groups"]:
        for rule in group["rules"]:
            yield rule["alert"], rule["expr"]
    dashboard = json.loads(DASHBOARD.read_text())
    for panel in dashboard["panels"]:
        for target in panel["targets"]:
            yield panel["title"], target["expr"]


def asked(expression: str) -> tuple[set[str], set[str]]:
    """The metric names and the label names of an expression."""
    bare = re.sub(r'"[^"]*"', '""', expression)
    labels = {name for inside in re.findall(r"\{([^}]*)\}", bare) for name in re.findall(r"(\w+)\s*(?:=|!)", inside)}
    labels |= {name for inside in re.findall(r"(?:by|on|group_left) ?\(([^)]*)\)", bare) for name in inside.split(", ")}
    rest = re.sub(r"\{[^}]*\}|\[[^\]]*\]|(?:by|on|group_left) ?\([^)]*\)|offset \w+", " ", bare)
    names = {word for word in re.findall(r"[a-zA-Z_]\w*", rest) if word not in FUNCTIONS}
    return names, labels - {""}


def test_every_name_and_label_that_is_asked_for_is_exposed(exposed: dict[str, set[str]]):
    checked = list(expressions())
    assert len(checked) > 20
    for where, expression in checked:
        names, labels = asked(expression)
        assert names, where
        assert names <= set(exposed), f"{where}: {names - set(exposed)}"
        known = set().union(*(exposed[name] for name in names))
        assert labels <= known, f"{where}: {labels - known}"


def test_a_renamed_metric_or_label_is_found(exposed: dict[str, set[str]]):
    names, labels = asked('sum by (flow, zone) (increase(tapeline_stage_rowz_total{direction="in"}[1h])) > 0')
    assert names == {"tapeline_stage_rowz_total"}
    assert labels == {"flow", "zone", "direction"}
    assert not names <= set(exposed)


def test_texts_name_labels_that_the_expression_keeps(exposed: dict[str, set[str]]):
    for group in yaml.safe_load(RULES.read_text())["groups"]:
        for rule in group["rules"]:
            names, labels = asked(rule["expr"])
            used = set(re.findall(r"\$labels\.(\w+)", rule["annotations"]["summary"]))
            kept = labels if "by (" in rule["expr"] else set().union(*(exposed[name] for name in names))
            assert used <= kept, rule["alert"]
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        for target in panel["targets"]:
            names, labels = asked(target["expr"])
            used = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
            kept = labels if "by (" in target["expr"] else set().union(*(exposed[name] for name in names))
            assert used <= kept, panel["title"]


def test_the_dashboard_fits_its_source_and_its_variables_are_exposed(exposed: dict[str, set[str]]):
    dashboard = json.loads(DASHBOARD.read_text())
    (source,) = yaml.safe_load((OPS / "grafana/provisioning/datasources/prometheus.yml").read_text())["datasources"]
    ids = [panel["id"] for panel in dashboard["panels"]]
    assert len(set(ids)) == len(ids)
    for panel in dashboard["panels"]:
        assert panel["datasource"]["uid"] == source["uid"]
    variables: list[dict[str, Any]] = dashboard["templating"]["list"]
    for variable in variables:
        metric, label = re.fullmatch(r"label_values\((\w+), (\w+)\)", variable["query"]["query"]).groups()
        assert label == variable["name"]
        assert label in exposed[metric]
    used = {name for _, expression in expressions() for name in re.findall(r"\$(\w+)", expression)}
    assert used <= {variable["name"] for variable in variables}


def test_the_servers_fit_together():
    compose = yaml.safe_load((OPS / "compose.yml").read_text())
    for service in compose["services"].values():
        for volume in service["volumes"]:
            source = volume.split(":")[0]
            assert (OPS / source).exists() if source.startswith(".") else source in compose["volumes"], volume
    prometheus = yaml.safe_load((OPS / "prometheus" / "prometheus.yml").read_text())
    assert prometheus["scrape_configs"][0]["static_configs"][0]["targets"] == ["127.0.0.1:9464"]
    routing = yaml.safe_load((OPS / "alertmanager" / "alertmanager.yml").read_text())
    receivers = {receiver["name"] for receiver in routing["receivers"]}
    routes = routing["route"]["routes"]
    assert {routing["route"]["receiver"], *(route["receiver"] for route in routes)} <= receivers
    severities = {
        rule["labels"]["severity"] for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]
    }
    assert all(any(severity in route["matchers"][0] for route in routes) for severity in severities)


def test_the_rules_fire_when_they_should():
    promtool = os.environ.get("PROMTOOL") or shutil.which("promtool")
    if not promtool:
        pytest.skip("promtool is not installed; set PROMTOOL")
    for command in (["check", "config", "prometheus.yml"], ["test", "rules", "rules_test.yml"]):
        done = subprocess.run([promtool, *command], cwd=OPS / "prometheus", capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
