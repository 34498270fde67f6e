"""The gate of a lake zone: Great Expectations judges a whole batch, and the verdict goes on record.

Importing Great Expectations costs seconds and a quarter of a gigabyte, so it is imported where it is used; a flow that
wants to stay small judges in another process (:mod:`tapeline.quality.gate_process`).
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd

from tapeline.core.errors import ConfigurationError, QualityError
from tapeline.core.versions import digest
from tapeline.quality.suites import VIEWS, Suite, load_suite

EXAMPLES: Final = 3
"""How many offending values a verdict quotes for each expectation."""


@dataclass(frozen=True)
class Verdict:
    """What a suite said of a batch.

    Parameters
    ----------
    id:
        The hash of the suite's content and the batch's version: the same suite on the same data has the same id.
    suite, suite_version, data_version:
        What judged, and what was judged.
    passed:
        True where every expectation was met.
    rows, rows_refused:
        Rows in the batch, and rows that break at least one expectation about single rows. A batch may pass with some
        of these where the suite tolerates a share (``mostly``).
    failures:
        One sentence for each expectation that was not met.
    details:
        ``newest``, the last ``ts`` of the batch, and ``expectations``, the outcome of each; JSON-like, without
        anything that differs between two runs.
    """

    id: str
    suite: str
    suite_version: str
    data_version: str
    passed: bool
    rows: int
    rows_refused: int
    failures: tuple[str, ...]
    details: dict[str, Any]


def judge(frame: pd.DataFrame, suite: str, *, expectations: Path, data_version: str) -> Verdict:
    """Judge a batch by a suite.

    Parameters
    ----------
    frame:
        The batch; its time stands in the column or the index ``ts``.
    suite:
        The name of a suite under ``expectations``.
    expectations:
        The folder of the Great Expectations project.
    data_version:
        The content hash of the batch, as the lake gives it.

    Raises
    ------
    ConfigurationError
        The suite is missing, or Great Expectations does not understand it.
    """
    loaded = load_suite(Path(expectations), suite)
    if "ts" not in frame.columns and frame.index.name == "ts":
        frame = frame.reset_index()
    frame = frame.reset_index(drop=True)  # the results name rows by their label, which must be unique
    newest = _newest(frame)
    viewed = VIEWS[loaded.view](frame) if loaded.view else frame
    results = _validate(viewed, loaded)
    outcomes = [_outcome(result) for result in results]
    refused: set[int] = set()
    for result in results:
        refused.update(result["result"].get("unexpected_index_list") or ())
    return Verdict(
        id=digest({"suite": loaded.version, "data": data_version}),
        suite=loaded.name,
        suite_version=loaded.version,
        data_version=data_version,
        passed=all(outcome["passed"] for outcome in outcomes),
        rows=len(frame),
        rows_refused=len(refused),
        failures=tuple(_sentence(outcome) for outcome in outcomes if not outcome["passed"]),
        details={"newest": newest, "expectations": outcomes},
    )


def require(verdict: Verdict) -> Verdict:
    """Give the verdict back where the batch passed; raise QualityError, naming what failed, where it did not."""
    if verdict.passed:
        return verdict
    shown = "; ".join(verdict.failures[:5])
    more = f"; and {len(verdict.failures) - 5} more" if len(verdict.failures) > 5 else ""
    raise QualityError(
        f"the batch {verdict.data_version} of {verdict.rows} rows fails the suite '{verdict.suite}': {shown}{more}",
        hint=f"verdict {verdict.id} has the details; nothing of this batch was passed on",
    )


def to_audit_rows(verdicts: Iterable[Verdict], stage: str) -> pd.DataFrame:
    """Verdicts as rows of :data:`tapeline.core.schemas.AUDIT`, indexed by ``ts``, the newest bar judged.

    Examples
    --------
    >>> verdict = Verdict("1f", "labels", "2a", "3b", True, 10, 0, (), {"newest": "2017-01-02T09:00:00+00:00"})
    >>> to_audit_rows([verdict], "label").reset_index()[["ts", "stage", "passed", "rows"]].values.tolist()
    [[Timestamp('2017-01-02 09:00:00+0000', tz='UTC'), 'label', True, 10]]
    """
    held = list(verdicts)
    newest = [verdict.details.get("newest") or "1970-01-01T00:00:00+00:00" for verdict in held]
    index = pd.DatetimeIndex(pd.to_datetime(newest, utc=True, format="ISO8601"), name="ts")
    names = ("id", "suite", "suite_version", "data_version")
    return pd.DataFrame(
        {
            **{name: pd.array([getattr(verdict, name) for verdict in held], dtype="str") for name in names},
            "stage": pd.array([stage] * len(held), dtype="str"),
            "passed": np.array([verdict.passed for verdict in held], dtype=bool),
            "rows": np.array([verdict.rows for verdict in held], dtype=np.int64),
            "rows_refused": np.array([verdict.rows_refused for verdict in held], dtype=np.int64),
            "details": pd.array(
                [
                    json.dumps({"failures": list(v.failures), **v.details}, sort_keys=True, ensure_ascii=False)
                    for v in held
                ],
                dtype="str",
            ),
        },
        index=index.as_unit("ns"),
    )


def to_markdown(verdicts: Iterable[Verdict]) -> str:
    """Verdicts as a Markdown table, with every failure below it.

    Examples
    --------
    >>> print(to_markdown([Verdict("1f", "labels", "2a", "3b", False, 10, 2, ("ts is not unique",), {})]))
    | suite | verdict | rows | rows refused | data version | suite version | id |
    |---|---|---:|---:|---|---|---|
    | labels | **refused** | 10 | 2 | `3b` | `2a` | `1f` |
    <BLANKLINE>
    **labels** refused `3b`:
    <BLANKLINE>
    - ts is not unique
    """
    held = list(verdicts)
    lines = [
        "| suite | verdict | rows | rows refused | data version | suite version | id |",
        "|---|---|---:|---:|---|---|---|",
    ]
    lines += [
        f"| {_plain(v.suite)} | {'passed' if v.passed else '**refused**'} | {v.rows:,} | {v.rows_refused:,} "
        f"| `{_plain(v.data_version)}` | `{v.suite_version}` | `{v.id}` |"
        for v in held
    ]
    for v in held:
        if v.failures:
            lines += ["", f"**{_plain(v.suite)}** refused `{_plain(v.data_version)}`:", ""]
            lines += [f"- {_plain(failure)}" for failure in v.failures]
    return "\n".join(lines)


def _validate(frame: pd.DataFrame, suite: Suite) -> list[dict[str, Any]]:
    """The result of every expectation, in the suite's order, as Great Expectations' own JSON."""
    os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")  # read at import: judging data must not call home
    import great_expectations as gx
    from great_expectations.data_context.types.base import (
        DataContextConfig,
        InMemoryStoreBackendDefaults,
        ProgressBarsConfig,
    )

    # An ephemeral context without a documentation site reads and writes no file, so that two processes may judge at
    # once and nothing is left behind.
    stores = InMemoryStoreBackendDefaults(init_temp_docs_sites=False)
    context = gx.get_context(mode="ephemeral", project_config=DataContextConfig(store_backend_defaults=stores))
    context.variables.progress_bars = ProgressBarsConfig(globally=False, metric_calculations=False)
    wanted = [{**one, "meta": {"position": position}} for position, one in enumerate(suite.expectations)]
    try:
        expected = gx.ExpectationSuite(name=suite.name, expectations=wanted)
    except Exception as error:  # its own and pydantic's errors alike mean that the suite's text is wrong
        text = str(error).partition("\n")[0]
        raise ConfigurationError(f"Great Expectations does not understand the suite '{suite.name}': {text}") from error
    # It leaves out what it does not know and says so in its log only: a misspelt expectation would always be met.
    lost = {one["meta"]["position"] for one in wanted} - {
        one.meta["position"] for one in expected.expectations if one.meta
    }
    if lost:
        unknown = ", ".join(suite.expectations[position]["type"] for position in sorted(lost))
        raise ConfigurationError(f"Great Expectations does not understand the suite '{suite.name}': {unknown}")
    batch = (
        context.data_sources.add_pandas("memory")
        .add_dataframe_asset("batch")
        .add_batch_definition_whole_dataframe("whole")
        .get_batch(batch_parameters={"dataframe": frame})
    )
    found = batch.validate(
        expected,
        result_format={
            "result_format": "COMPLETE",
            "partial_unexpected_count": EXAMPLES,
            "return_unexpected_index_query": False,
        },
    )
    results = [
        {
            "config": result.expectation_config,
            "success": bool(result.success),
            "result": result.result or {},
            "exception": result.exception_info or {},
        }
        for result in found.results
    ]
    return sorted(results, key=lambda result: result["config"].meta["position"])


def _outcome(result: Mapping[str, Any]) -> dict[str, Any]:
    """What is worth keeping of one result; only what depends on suite and batch."""
    config, found = result["config"], result["result"]
    arguments = {key: value for key, value in config.kwargs.items() if key != "batch_id"}
    columns = [arguments.pop(key) for key in ("column", "column_A", "column_B", "column_list") if key in arguments]
    outcome: dict[str, Any] = {
        "expectation": config.type,
        "columns": [name for part in columns for name in (part if isinstance(part, list) else [part])],
        "arguments": _json(arguments),
        "passed": result["success"],
    }
    if "unexpected_count" in found:
        outcome["unexpected"] = int(found["unexpected_count"])
        outcome["examples"] = _json((found.get("partial_unexpected_list") or [])[:EXAMPLES])
    elif "observed_value" in found:
        outcome["observed"] = _json(found["observed_value"])
    error = _first_error(result["exception"])
    if error:
        outcome["error"] = error
    return outcome


def _first_error(info: Mapping[str, Any]) -> str | None:
    nested = [info, *(part for part in info.values() if isinstance(part, Mapping))]
    raised = [str(part["exception_message"]) for part in nested if part.get("raised_exception")]
    return raised[0].partition("\n")[0] if raised else None


def _sentence(outcome: Mapping[str, Any]) -> str:
    about = f"{outcome['expectation']}({', '.join(outcome['columns'])})"
    bounds = ", ".join(f"{key} {value}" for key, value in outcome["arguments"].items() if key != "ignore_row_if")
    about += f" with {bounds}" if bounds else ""
    if "error" in outcome:
        return f"{about}: {outcome['error']}"
    if "unexpected" in outcome:
        return f"{about}: {outcome['unexpected']} rows, such as {', '.join(map(str, outcome['examples']))}"
    return f"{about}: found {outcome['observed']}" if "observed" in outcome else f"{about}: not met"


def _newest(frame: pd.DataFrame) -> str | None:
    if "ts" not in frame.columns or not isinstance(frame["ts"].dtype, pd.DatetimeTZDtype) or frame["ts"].isna().all():
        return None
    return frame["ts"].max().tz_convert("UTC").isoformat()


def _json(value: Any) -> Any:
    """Plain JSON values: a verdict crosses processes and is stored."""
    if isinstance(value, Mapping):
        return {str(key): _json(part) for key, part in value.items()}
    if isinstance(value, list | tuple | set | np.ndarray):
        return [_json(part) for part in value]
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or value is pd.NaT or value is pd.NA:
        return None
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value if isinstance(value, str | int | float | bool) else str(value)


def _plain(text: str) -> str:
    # A suite's name or a value from a hostile batch must not end a table cell or start an HTML element.
    return text.replace("|", "\\|").replace("<", "&lt;").replace("`", "'").replace("\n", " ")
