"""Reuse: a stage whose input, code and output are what they were is not computed again.

A Prefect cache policy. The key names what decides the outcome: the versions of the input series, of the feature or
label set, and of the code. Prefect alone would then also 'find' an output that was deleted from the lake since; so each
key is kept in a small file beside the version of the output that it stands for, and a key whose output is not in the
lake any more as it was is no key: the stage runs.
"""

from __future__ import annotations

import json
import os
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from prefect.cache_policies import CachePolicy
from prefect.context import TaskRunContext

from tapeline.core.errors import DataError
from tapeline.core.schemas import CLEAN_BARS, EVENTS, TableSpec, labels_spec
from tapeline.core.settings import Settings
from tapeline.core.symbol import Symbol
from tapeline.core.timeframe import Timeframe
from tapeline.core.versions import code_digest, digest
from tapeline.features.feature_set import load_feature_set
from tapeline.labels.label_set import load_label_set
from tapeline.lake.lake import Lake
from tasks.job import Job, history_start, open_lake

FOLDER: Final = "reuse"
"""The folder below the state folder that holds one small file a key."""


@dataclass(frozen=True)
class Plan:
    """What a stage would do for a job: the digest of all that decides its outcome, and the table it writes."""

    job: Job
    inputs: str
    spec: TableSpec


def plan_features(job: Job, settings: Settings, lake: Lake) -> Plan:
    """The clean bars behind the job's rows, those of every context series, the feature set and the code."""
    from tasks.features import feature_table

    feature_set, spec = feature_table(settings)
    context = {
        prefix: _version(lake, Symbol.parse(named.symbol), Timeframe.parse(named.timeframe), None, job)
        for prefix, named in feature_set.context.items()
    }
    start = history_start(lake, job, feature_set.lookback)
    own = _version(lake, job.symbol, job.timeframe, start, job)
    return _plan("features", job, spec, [own, context, load_feature_set(settings.feature_set).version])


def plan_labels(job: Job, _settings: Settings, lake: Lake) -> Plan:
    """The clean bars behind the job's rows, the label set and the code."""
    label_set = load_label_set()
    own = _version(lake, job.symbol, job.timeframe, history_start(lake, job, label_set.lookback), job)
    return _plan("labels", job, labels_spec(label_set.version), [own, label_set.version])


def plan_charts(job: Job, settings: Settings, lake: Lake) -> Plan:
    """The clean bars behind the job's rows, the detectors with their parameters, and the code."""
    from tasks.charts import choices_version, chosen

    choices = chosen(settings)
    start = history_start(lake, job, max(choice.lookback for choice in choices))
    own = _version(lake, job.symbol, job.timeframe, start, job)
    return _plan("charts", job, EVENTS, [own, choices_version(choices)])


PLANS: Final = {"features": plan_features, "labels": plan_labels, "charts": plan_charts}


@dataclass
class UnchangedInputs(CachePolicy):
    """The cache policy of a stage that is in :data:`PLANS` and works on one argument ``job``.

    A stage that uses it calls :func:`remember` when its output is written.
    """

    stage: str = ""

    def compute_key(
        self, task_ctx: TaskRunContext, inputs: dict[str, Any], flow_parameters: dict[str, Any], **_named: Any
    ) -> str | None:
        """The key, or None where the stage must run: an input is missing, or the output is not what it was."""
        settings, lake = open_lake()
        try:
            plan = PLANS[self.stage](inputs["job"], settings, lake)
        except DataError:
            return None  # the stage itself says what is missing
        held = _read(_file(settings, plan))
        if held is None:
            # The nonce: a key whose file was removed must not find an old result.
            held = {"nonce": secrets.token_hex(8), "output": None}
            _write(_file(settings, plan), held)
        if held["output"] is not None and held["output"] != _output(lake, plan):
            return None
        return f"tapeline-{self.stage}-{plan.inputs}-{held['nonce']}"


def remember(stage: str, job: Job, settings: Settings, lake: Lake) -> None:
    """Note which output belongs to the inputs as they are now. To be called before the task returns its result."""
    plan = PLANS[stage](job, settings, lake)
    held = _read(_file(settings, plan)) or {"nonce": secrets.token_hex(8)}
    _write(_file(settings, plan), {**held, "output": _output(lake, plan)})


def _plan(stage: str, job: Job, spec: TableSpec, decided_by: list[Any]) -> Plan:
    bounds = [None if bound is None else bound.isoformat() for bound in (job.start, job.end)]
    series = [str(job.symbol), str(job.timeframe), *bounds]
    # The module of the task: it imports all that computes.
    return Plan(job, digest([stage, series, decided_by, code_digest(f"tasks.{stage}")]), spec)


def _version(lake: Lake, symbol: Symbol, timeframe: Timeframe, start: Any, job: Job) -> str | None:
    try:
        return lake.version(CLEAN_BARS, symbol, timeframe, start=start, end=job.end)
    except DataError:
        return None


def _output(lake: Lake, plan: Plan) -> str | None:
    job = plan.job
    try:
        return lake.version(plan.spec, job.symbol, job.timeframe, start=job.start, end=job.end)
    except DataError:
        return None


def _file(settings: Settings, plan: Plan) -> Path:
    return settings.state_path / FOLDER / f"{plan.inputs}.json"


def _read(path: Path) -> dict[str, Any] | None:
    try:
        values = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    return values if isinstance(values, dict) and isinstance(values.get("nonce"), str) else None


def _write(path: Path, values: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{os.getpid()}-{secrets.token_hex(4)}.tmp")
    temporary.write_text(json.dumps(values, sort_keys=True))
    temporary.replace(path)
