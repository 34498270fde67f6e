"""The gate: sound batches pass each suite, each planted defect fails it by name, and verdicts do not vary."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tapeline.core.errors import ConfigurationError, QualityError
from tapeline.core.schemas import AUDIT
from tapeline.quality.checks import Reason
from tapeline.quality.gate import Verdict, judge, require, to_audit_rows, to_markdown
from tapeline.quality.suites import SUITE_FOLDER, feature_view, load_suite, suite_names
from tests.quality import batches
from tests.quality.batches import EXPECTATIONS

Change = Callable[[pd.DataFrame], pd.DataFrame]

SOUND = {
    "raw_bars": batches.raw_bars,
    "clean_bars": batches.clean_bars,
    "features": batches.features,
    "labels": batches.labels,
    "return_labels": lambda: batches.labels().assign(value=lambda f: f["outcome"]),
    "events": batches.events,
    "scores": batches.scores,
}


def first(**values: object) -> Change:
    """Put values into the first row."""
    return lambda frame: frame.assign(
        **{name: frame[name].where(np.arange(len(frame)) > 0, value) for name, value in values.items()}  # type: ignore[call-overload]
    )


def share(part: float, **values: object) -> Change:
    """Put values into the first rows, this share of all."""
    return lambda frame: frame.assign(
        **{
            name: frame[name].where(np.arange(len(frame)) >= part * len(frame), value)  # type: ignore[call-overload]
            for name, value in values.items()
        }
    )


EARLY = pd.Timestamp("2016-01-01", tz="UTC")

# suite, defect: how the batch is broken, and the expectation that must name it.
DEFECTS: dict[tuple[str, str], tuple[Change, str]] = {
    ("raw_bars", "mostly missing"): (share(0.06, close=math.nan), "not_be_null(close)"),
    ("raw_bars", "mostly infinite"): (share(0.06, high=math.inf), "be_between(high)"),
    ("raw_bars", "mostly inverted"): (share(0.06, high=0.1), "greater_than_b(high, low)"),
    ("raw_bars", "no rows"): (lambda f: f.iloc[:0], "row_count"),
    ("raw_bars", "one repeated"): (lambda f: pd.concat([f.iloc[:1], f]), "compound_columns_to_be_unique(ts, revision)"),
    ("raw_bars", "no close"): (lambda f: f.drop(columns="close"), "column_to_exist(close)"),
    ("raw_bars", "prices as text"): (lambda f: f.astype({"open": str}), "be_of_type(open)"),
    ("raw_bars", "known too early"): (first(known_at=EARLY), "greater_than_b(known_at, close_ts)"),
    ("clean_bars", "one missing"): (first(open=math.nan), "not_be_null(open)"),
    ("clean_bars", "one zero"): (first(low=0.0), "be_between(low)"),
    ("clean_bars", "one infinite"): (first(high=math.inf), "be_between(high)"),
    ("clean_bars", "close above high"): (first(close=9.0), "greater_than_b(high, close)"),
    ("clean_bars", "open below low"): (first(open=0.1), "greater_than_b(open, low)"),
    ("clean_bars", "volume missing"): (first(volume=math.nan), "not_be_null(volume)"),
    ("clean_bars", "volume negative"): (first(volume=-1.0), "be_between(volume)"),
    ("clean_bars", "unsorted"): (lambda f: f.iloc[::-1], "be_increasing(ts)"),
    ("clean_bars", "many outliers"): (share(0.11, outlier=True), "be_in_set(outlier)"),
    ("clean_bars", "closes before it opens"): (first(close_ts=EARLY), "greater_than_b(close_ts, ts)"),
    ("features", "one infinite"): (first(feature_0=np.float32(math.inf)), "be_between(row_infinite)"),
    ("features", "a dead column"): (lambda f: f.assign(feature_3=np.float32(math.nan)), "be_between(share_started)"),
    ("features", "dead from the middle on"): (
        lambda f: f.assign(feature_1=f["feature_1"].where(np.arange(len(f)) < len(f) / 2)),
        "mean_to_be_between(share_lapsed)",
    ),
    ("features", "one repeated"): (lambda f: pd.concat([f.iloc[:1], f]), "be_unique(ts)"),
    ("features", "known too early"): (first(known_at=EARLY), "greater_than_b(known_at, ts)"),
    ("labels", "another class"): (first(value=0.5), "be_in_set(value)"),
    ("labels", "ends before it starts"): (first(t_end=EARLY), "greater_than_b(t_end, ts)"),
    ("labels", "negative weight"): (first(weight=-0.1), "be_between(weight)"),
    ("labels", "no weight"): (lambda f: f.assign(weight=0.0), "mean_to_be_between(weight)"),
    ("labels", "missing value"): (first(value=math.nan), "not_be_null(value)"),
    ("events", "known before its last bar closed"): (
        lambda frame: frame.assign(confirmed_at=frame["end"]),
        "a_to_be_greater_than_b(confirmed_at, end)",
    ),
    ("events", "over before it was known"): (first(invalidated_at=EARLY), "a_to_be_greater_than_b(invalidated_at"),
    ("events", "upside down"): (lambda frame: frame.assign(high=frame["low"] - 1.0), "a_to_be_greater_than_b(high"),
    ("events", "no direction"): (first(direction=5), "be_in_set(direction)"),
    ("events", "told twice"): (first(id="0000000000000001"), "be_unique(id)"),
    ("return_labels", "absurd return"): (first(value=1e6), "be_between(value)"),
    ("scores", "probability above one"): (first(probability=1.01), "be_between(probability)"),
    ("scores", "missing probability"): (first(probability=math.nan), "not_be_null(probability)"),
    ("scores", "another side"): (first(side=np.int8(2)), "be_in_set(side)"),
    ("scores", "scored before it was known"): (first(scored_at=EARLY), "greater_than_b(scored_at, known_at)"),
    ("scores", "one repeated"): (lambda f: pd.concat([f.iloc[:1], f]), "be_unique(ts, model, model_version)"),
}


@pytest.mark.parametrize("suite", SOUND)
def test_a_sound_batch_passes(suite: str) -> None:
    verdict = require(judge(SOUND[suite](), suite, expectations=EXPECTATIONS, data_version="d"))
    assert (verdict.passed, verdict.rows_refused, verdict.failures) == (True, 0, ())
    assert len(verdict.details["expectations"]) == len(load_suite(EXPECTATIONS, suite).expectations)


@pytest.mark.parametrize(("suite", "defect"), DEFECTS)
def test_each_defect_is_refused_by_name(suite: str, defect: str) -> None:
    change, named = DEFECTS[suite, defect]
    verdict = judge(change(SOUND[suite]()), suite, expectations=EXPECTATIONS, data_version="d")
    assert not verdict.passed
    assert any(named in failure for failure in verdict.failures), verdict.failures
    with pytest.raises(QualityError, match=suite):
        require(verdict)


def test_every_suite_in_git_is_tested() -> None:
    assert set(suite_names(EXPECTATIONS)) == set(SOUND) == {suite for suite, _ in DEFECTS}


def test_some_bad_rows_are_tolerated_in_a_raw_batch_and_counted() -> None:
    bars = batches.raw_bars()
    bars.iloc[3, bars.columns.get_loc("close")] = math.nan
    bars.iloc[3, bars.columns.get_loc("volume")] = -1.0
    bars.iloc[9, bars.columns.get_loc("high")] = 0.1
    verdict = judge(bars, "raw_bars", expectations=EXPECTATIONS, data_version="d")
    assert (verdict.passed, verdict.rows, verdict.rows_refused) == (True, 200, 2)


def test_judging_leaves_no_file_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    judge(batches.labels(5), "labels", expectations=EXPECTATIONS, data_version="d")
    assert list(tmp_path.iterdir()) == []


def test_a_verdict_depends_on_suite_and_data_alone(tmp_path: Path) -> None:
    bars = batches.clean_bars(20)
    one = judge(bars, "clean_bars", expectations=EXPECTATIONS, data_version="d1")
    assert one == judge(bars, "clean_bars", expectations=EXPECTATIONS, data_version="d1")
    assert one.id != judge(bars, "clean_bars", expectations=EXPECTATIONS, data_version="d2").id
    path = tmp_path / SUITE_FOLDER / "clean_bars.json"
    path.parent.mkdir(parents=True)
    content = json.loads((EXPECTATIONS / SUITE_FOLDER / "clean_bars.json").read_text())
    content["notes"], content["expectations"][0]["id"] = "another note", None
    path.write_text(json.dumps(content))
    assert load_suite(tmp_path, "clean_bars").version == one.suite_version
    content["expectations"][0]["kwargs"]["min_value"] = 1000
    path.write_text(json.dumps(content))
    changed = judge(bars, "clean_bars", expectations=tmp_path, data_version="d1")
    assert changed.id != one.id
    assert changed.suite_version != one.suite_version
    assert not changed.passed


def test_the_newest_bar_and_the_details_go_on_record() -> None:
    bars = batches.clean_bars(20)
    verdict = judge(bars, "clean_bars", expectations=EXPECTATIONS, data_version="d")
    rows = to_audit_rows([verdict], "clean")
    assert rows.index.tolist() == [bars.index[-1]]
    assert AUDIT.to_arrow(rows).num_rows == 1
    assert json.loads(rows["details"].iloc[0])["expectations"] == verdict.details["expectations"]
    assert AUDIT.to_arrow(to_audit_rows([], "clean")).num_rows == 0


def test_hostile_values_cannot_break_the_table() -> None:
    verdict = Verdict("1", "raw_bars", "2", "a|b\n<script>", False, 1, 1, ("x | `y`\n# z <b>",), {})
    lines = to_markdown([verdict]).splitlines()
    assert lines[2].replace("\\|", "").count("|") == 8
    assert not any(text in to_markdown([verdict]) for text in ("<script>", "<b>", "\n# z"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "cannot be read"),
        ("[]", "is not a suite"),
        ('{"name": "bad", "expectations": []}', "expects nothing"),
        ('{"name": "other", "expectations": [{"type": "a", "kwargs": {}}]}', "calls itself 'other'"),
        ('{"name": "bad", "expectations": [{"kwargs": {}}]}', "is not a suite"),
        ('{"name": "bad", "expectations": [{"type": "a", "kwargs": {}}], "meta": {"view": "x"}}', "unknown view"),
        ('{"name": "bad", "expectations": [{"type": "expect_magic", "kwargs": {}}]}', "does not understand"),
        ('{"name": "bad", "expectations": [{"type": "expect_column_to_exist", "kwargs": {}}]}', "does not understand"),
        (
            '{"name": "bad", "expectations": [{"type": "expect_column_to_exist", "kwargs": {"column": "ts", "x": 1}}]}',
            "does not understand",
        ),
    ],
)
def test_a_suite_that_is_none_is_an_error_that_names_it(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / SUITE_FOLDER).mkdir(parents=True)
    (tmp_path / SUITE_FOLDER / "bad.json").write_text(content)
    with pytest.raises(ConfigurationError, match=message):
        judge(batches.raw_bars(3), "bad", expectations=tmp_path, data_version="d")


def test_a_missing_suite_says_which_there_are() -> None:
    with pytest.raises(ConfigurationError, match=r"no suite 'nope'.*raw_bars"):
        load_suite(EXPECTATIONS, "nope")
    with pytest.raises(ConfigurationError, match="valid name"):
        load_suite(EXPECTATIONS, "../../etc/passwd")


def test_great_expectations_reads_the_same_suites_and_leaves_the_project_alone(tmp_path: Path) -> None:
    import great_expectations as gx

    shutil.copytree(EXPECTATIONS, tmp_path / "expectations", ignore=shutil.ignore_patterns("uncommitted"))
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    context = gx.get_context(mode="file", project_root_dir=str(tmp_path / "expectations"))
    found = {suite.name: suite for suite in context.suites.all()}
    assert set(found) == set(suite_names(EXPECTATIONS))
    for name, suite in found.items():
        mine = [(one["type"], one["kwargs"]) for one in load_suite(EXPECTATIONS, name).expectations]
        assert mine == [(e.expectation_type, dict(e.configuration.kwargs)) for e in suite.expectations]
    for path, content in before.items():
        assert path.read_bytes() == content


def test_the_committed_project_holds_nothing_of_a_machine() -> None:
    for path in (EXPECTATIONS / "gx").rglob("*"):
        if path.is_file() and "uncommitted" not in path.parts:
            text = path.read_text()
            assert not any(
                word in text for word in ("/home/", "/root/", "/work/", "/Users/", "instance_id", "data_context_id")
            )
    assert "uncommitted/" in (EXPECTATIONS / "gx" / ".gitignore").read_text().splitlines()


def test_the_page_for_users_names_every_reason_and_suite() -> None:
    page = (EXPECTATIONS.parent / "docs" / "validation.md").read_text()
    for name in [*(reason.code for reason in Reason), *suite_names(EXPECTATIONS)]:
        assert f"`{name}`" in page, name


def test_the_feature_view_looks_at_the_past_only() -> None:
    frame = batches.features(60).reset_index()
    frame.loc[20:25, "feature_0"] = np.nan
    whole = feature_view(frame)
    for cut in (1, 15, 22, 40):
        pd.testing.assert_frame_equal(feature_view(frame.iloc[:cut]), whole.iloc[:cut])
    assert whole["share_started"].iloc[0] == 1 / 8
    assert whole["share_lapsed"].iloc[22] == 1 / 8


def test_importing_the_gate_does_not_import_great_expectations() -> None:
    code = "import sys, tapeline.quality.gate_process; sys.exit('great_expectations' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
