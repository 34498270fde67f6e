"""The registry: versions, aliases, rollback, the trial ledger, and files that nobody may change."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from tapeline.core.errors import ConfigurationError, DataError
from tapeline.core.settings import Settings
from tapeline.evaluation.result import TrainingResult
from tapeline.models.bundle import BOOSTER_FILE, BUNDLE_FILE, Bundle, load_model, make_model, save_model, sha256
from tapeline.models.calibration import Calibration
from tapeline.models.ensemble import VotingEnsemble
from tapeline.models.estimator import build_estimator, probability_up
from tapeline.models.ledger import MODEL_TAG, read_ledger, record_look, record_trials
from tapeline.models.model_file import ModelFile, write_model
from tapeline.models.registry import Registered, Registry, promote, rollback
from tapeline.models.tracking import open_tracking
from tests.models.synthetic import VERSIONS

Trained = tuple[Settings, TrainingResult]


def add(registry: Registry, seed: int, name: str = "direction") -> Registered:
    """Register a small model; another seed makes another model."""
    generator = np.random.default_rng(0)
    x = generator.standard_normal((200, 2)).astype(np.float32)
    fitted = build_estimator("lightgbm", seed=seed, parameters={"n_estimators": 3})
    booster = fitted.fit(x, (x[:, 0] > 0).astype(int))[-1].booster_
    text = booster.model_to_string().encode()
    bundle = Bundle(
        name=name,
        columns=("a", "b"),
        kept=(0, 1),
        calibration=Calibration("platt"),
        threshold=0.5,
        versions=VERSIONS,
        trained_until=pd.Timestamp("2017-06-01", tz="UTC"),
        booster_sha256=sha256(text),
    )
    tracking = registry._tracking
    with tracking.run("test", {MODEL_TAG: name}) as run_id:
        return registry.register(run_id, bundle, text, description="", tags={})


ROWS = np.random.default_rng(0).standard_normal((200, 2)).astype(np.float32)
TARGET = (ROWS[:, 0] > 0).astype(int)


def make_other(kind: str) -> tuple[Bundle, ModelFile, np.ndarray]:
    """A model of another family than LightGBM, its bundle, and what it says of ``ROWS``."""
    trees = build_estimator("extra_trees", parameters={"n_estimators": 3})
    members = [("trees", trees), ("line", build_estimator("logistic"))]
    made = VotingEnsemble(members) if kind == "voting" else build_estimator(kind)
    made.fit(ROWS, TARGET)
    preparation, files = write_model(made, 2)
    bundle = Bundle(
        name="direction",
        columns=("a", "b"),
        kept=preparation.kept,
        calibration=Calibration("isotonic", x=(0.0, 1.0), y=(0.0, 1.0)),
        threshold=0.5,
        versions=VERSIONS,
        trained_until=pd.Timestamp("2017-06-01", tz="UTC"),
        booster_sha256=files.sha256,
        scaling=preparation.scaling,
        model_format=files.format,
        fill=preparation.fill,
    )
    return bundle, files, probability_up(made, ROWS)


def register(registry: Registry, bundle: Bundle, files: ModelFile) -> Registered:
    with registry._tracking.run("test", {MODEL_TAG: bundle.name}) as run_id:
        return registry.register(run_id, bundle, files, description="", tags={})


def test_promotion_remembers_and_rollback_goes_back_step_by_step(settings: Settings) -> None:
    registry = Registry.open(settings)
    first, second, third = (add(registry, seed) for seed in (1, 2, 3))
    assert [one.version for one in (first, second, third)] == ["1", "2", "3"]
    for version in ("1", "2", "3"):
        promote(settings, "direction", version)
    assert registry.find("direction").version == "3"  # type: ignore[union-attr]
    assert rollback(settings, "direction").aliases == ("champion",)
    assert registry.find("direction").version == "2"  # type: ignore[union-attr]
    assert registry.find("direction", "challenger").version == "3"  # type: ignore[union-attr]
    assert rollback(settings, "direction").version == "1"
    with pytest.raises(ConfigurationError, match="no champion before version 1"):
        rollback(settings, "direction")
    # The one that was rolled back may come again, and is then no challenger any more.
    assert promote(settings, "direction", "2").aliases == ("champion",)
    assert registry.find("direction", "challenger") is None
    assert rollback(settings, "direction").version == "1"


def test_promotion_and_rollback_are_one_command_each(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    from tapeline.cli import application

    registry = Registry.open(settings)
    for seed in (1, 2):
        add(registry, seed)
    monkeypatch.setenv("TAPELINE_ROOT", str(settings.root))
    monkeypatch.delenv("TAPELINE_SETTINGS", raising=False)
    monkeypatch.chdir(settings.root)
    runner = CliRunner()
    for command, version in ((("promote", "direction", "1"), "1"), (("promote", "direction", "2"), "2")):
        said = runner.invoke(application, ["models", *command])
        assert (said.exit_code, registry.find("direction").version) == (0, version), said.output  # type: ignore[union-attr]
    said = runner.invoke(application, ["models", "rollback", "direction"])
    assert (said.exit_code, registry.find("direction").version) == (0, "1")  # type: ignore[union-attr]
    assert "version 1 is the champion again" in said.output
    listed = runner.invoke(application, ["models", "list", "direction"]).output
    assert "champion" in listed
    assert "challenger" in listed


def test_promoting_the_champion_again_changes_nothing(settings: Settings) -> None:
    registry = Registry.open(settings)
    add(registry, 1)
    add(registry, 2)
    for version in ("1", "2", "2", "2"):
        promote(settings, "direction", version)
    assert rollback(settings, "direction").version == "1"


def test_a_promotion_that_was_cut_short_does_not_break_rollback(settings: Settings) -> None:
    registry = Registry.open(settings)
    add(registry, 1)
    add(registry, 2)
    promote(settings, "direction", "1")
    promote(settings, "direction", "2")
    registry._remember("direction", ["1", "2"])  # killed after the entry, before the alias moved
    assert rollback(settings, "direction").version == "1"


def test_the_very_same_model_keeps_its_version(settings: Settings) -> None:
    registry = Registry.open(settings)
    assert add(registry, 1).version == add(registry, 1).version == "1"
    assert [one.version for one in registry.versions("direction")] == ["1"]


def test_what_is_not_there_is_named(settings: Settings) -> None:
    registry = Registry.open(settings)
    assert registry.find("nobody") is None
    add(registry, 1)
    assert registry.find("direction", "challenger") is None
    assert registry.find("direction", "7") is None
    with pytest.raises(ConfigurationError, match="no version 7"):
        promote(settings, "direction", "7")
    with pytest.raises(ConfigurationError, match="no champion"):
        rollback(settings, "direction")
    with pytest.raises(ConfigurationError, match="model name"):
        registry.find("x' or name != '")


@pytest.mark.parametrize("file", [BOOSTER_FILE, BUNDLE_FILE])
@pytest.mark.parametrize("damage", ["change", "remove"])
def test_a_file_that_was_changed_or_removed_is_refused(settings: Settings, file: str, damage: str) -> None:
    registry = Registry.open(settings)
    one = add(registry, 1)
    registry.load(one)
    path = next(settings.mlflow_path.rglob(file))
    if damage == "change":
        path.write_bytes(path.read_bytes().replace(b"0", b"1", 1))
    else:
        path.unlink()
    with pytest.raises(DataError, match=r"was changed after|cannot be read"):
        registry.load(one)
    with pytest.raises(DataError):
        promote(settings, "direction", "1")


def test_a_booster_of_another_model_is_refused_even_with_its_own_bundle(settings: Settings) -> None:
    registry = Registry.open(settings)
    first, second = add(registry, 1), add(registry, 2)
    folders = {one.version: _folder(settings, one) for one in (first, second)}
    for file in (BOOSTER_FILE, BUNDLE_FILE):
        (folders["1"] / file).write_bytes((folders["2"] / file).read_bytes())
    with pytest.raises(DataError, match="the registry says"):
        registry.load(first)


@pytest.mark.parametrize("kind", ["logistic", "xgboost", "voting"])
def test_a_model_of_any_family_is_registered_promoted_and_scored(
    settings: Settings, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mlflow

    from tapeline.models.scoring import load_scorer

    bundle, files, expected = make_other(kind)
    registry = Registry.open(settings)
    one = register(registry, bundle, files)
    assert register(registry, bundle, files).version == one.version, "the very same model keeps its version"
    promote(settings, "direction", one.version)
    scorer = load_scorer(settings, "direction")
    np.testing.assert_allclose(scorer.probability(ROWS), expected, rtol=0, atol=2e-7)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", settings.mlflow_uri)
    loaded = mlflow.pyfunc.load_model("models:/direction@champion")
    said = loaded.predict(pd.DataFrame(ROWS, columns=["b", "a"]))
    np.testing.assert_array_equal(said["probability"], scorer.probability(ROWS[:, ::-1]))
    names = [path.name for path in settings.mlflow_path.rglob("*") if path.is_file()]
    assert not [name for name in names if name.endswith((".pkl", ".pickle", ".joblib", ".cloudpickle"))]


@pytest.mark.parametrize("file", ["manifest.json", "member-0.skops", "member-1.json"])
def test_no_file_of_an_ensemble_can_be_changed_removed_or_linked(settings: Settings, file: str) -> None:
    bundle, files, _ = make_other("voting")
    registry = Registry.open(settings)
    one = register(registry, bundle, files)
    registry.load(one)
    path = next(settings.mlflow_path.rglob(file))
    content = path.read_bytes()
    path.write_bytes(content + b" ")
    with pytest.raises(DataError, match=f"{file} has SHA-256"):
        registry.load(one)
    path.unlink()
    with pytest.raises(DataError, match=f"{file} cannot be read"):
        registry.load(one)
    elsewhere = settings.mlflow_path / "elsewhere"
    elsewhere.write_bytes(content)
    path.symlink_to(elsewhere)
    with pytest.raises(DataError, match=f"{file} is a link"):
        load_model(path.parent, bundle_sha256=one.tags["tapeline.bundle_sha256"])


def test_a_file_that_is_too_large_is_refused_unread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tapeline.models import bundle as module

    bundle, files, _ = make_other("logistic")
    digest = save_model(tmp_path, bundle, files)
    monkeypatch.setattr(module, "MAXIMUM_BYTES", 100)
    monkeypatch.setattr(Path, "read_bytes", lambda path: pytest.fail("it was read"))
    with pytest.raises(DataError, match="larger than 100 bytes"):
        load_model(tmp_path, bundle_sha256=digest)


def test_a_bundle_of_lightgbm_has_the_bytes_that_it_always_had(tmp_path: Path) -> None:
    """Bundles written before there were other formats load, and are not another version now."""
    columns = b'[\n  "a",\n  "b"\n ]'
    fitted = build_estimator("lightgbm", parameters={"n_estimators": 3}).fit(ROWS, TARGET)
    text = fitted[-1].booster_.model_to_string().encode()
    former = (
        b'{\n "booster_sha256": "%s",\n "calibration": {\n  "a": 1.0,\n  "b": 0.0,\n  "kind": "platt"\n },\n'
        b' "columns": %s,\n "format": 1,\n "kept": [\n  0,\n  1\n ],\n "label": {},\n "name": "direction",\n'
        b' "parameters": {},\n "threshold": 0.5,\n "trained_until": "2017-06-01T00:00:00+00:00",\n "versions": {\n'
        b'  "data": "d1",\n  "feature_set": "test@1",\n  "label": "next_bar@1"\n }\n}'
    ) % (sha256(text).encode(), columns)
    (tmp_path / BUNDLE_FILE).write_bytes(former)
    (tmp_path / BOOSTER_FILE).write_bytes(text)
    model = load_model(tmp_path, bundle_sha256=sha256(former))
    assert model.bundle.to_bytes() == former
    np.testing.assert_array_equal(model.raw_probability(ROWS), probability_up(fitted, ROWS))


def test_a_bundle_and_a_model_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    bundle, files, _ = make_other("logistic")
    with pytest.raises(DataError, match="reads 2 features, its bundle keeps 1"):
        make_model(replace(bundle, kept=(0,), fill=(), scaling=None), files)
    with pytest.raises(DataError, match="of another booster"):
        save_model(tmp_path, replace(bundle, booster_sha256="0" * 64), files)
    with pytest.raises(DataError, match="of another booster"):
        save_model(tmp_path, replace(bundle, model_format="forest"), files)
    with pytest.raises(DataError, match="names the format 'pickle'"):
        Bundle.from_bytes(replace(bundle, model_format="pickle").to_bytes())
    for change in ({"fill": (1.0,)}, {"fill": (1.0, float("inf"))}):
        with pytest.raises((DataError, ValueError)):
            Bundle.from_bytes(replace(bundle, **change).to_bytes())


def test_no_pickle_is_stored(trained: Trained) -> None:
    settings, _ = trained
    names = [path.name for path in settings.mlflow_path.rglob("*") if path.is_file()]
    assert {"booster.txt", "bundle.json", "pyfunc_model.py", "MLmodel"} <= set(names)
    assert not [name for name in names if name.endswith((".pkl", ".pickle", ".joblib", ".cloudpickle"))]


def test_anyone_with_mlflow_can_load_the_champion(trained: Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    import mlflow

    from tapeline.models.scoring import load_scorer

    settings, _ = trained
    scorer = load_scorer(settings, "direction-H1")
    generator = np.random.default_rng(5)
    frame = pd.DataFrame(generator.standard_normal((50, 8)), columns=list(scorer.columns))
    frame.iloc[3, 2] = np.nan
    monkeypatch.setenv("MLFLOW_TRACKING_URI", settings.mlflow_uri)
    loaded = mlflow.pyfunc.load_model("models:/direction-H1@champion")
    said = loaded.predict(frame)
    narrow = loaded.predict(frame.astype(np.float32))
    np.testing.assert_array_equal(said["probability"], scorer.probability(frame.to_numpy(dtype=np.float32)))
    np.testing.assert_array_equal(said["probability"], narrow["probability"])
    assert set(said["side"]) <= {-1, 0, 1}
    assert "lightgbm" in (Path(_folder_of(settings, "requirements.txt")) / "requirements.txt").read_text()


def test_a_tampered_model_does_not_load_through_mlflow_either(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mlflow

    registry = Registry.open(settings)
    one = add(registry, 1)
    booster = _folder(settings, one) / BOOSTER_FILE
    booster.write_bytes(booster.read_bytes() + b"\n")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", settings.mlflow_uri)
    with pytest.raises(ValueError, match="changed after training"):
        mlflow.pyfunc.load_model("models:/direction/1")


def test_the_run_holds_what_made_the_model(trained: Trained) -> None:
    settings, result = trained
    client = open_tracking(settings).client
    run = client.get_run(result.run_id)
    assert run.info.status == "FINISHED"
    assert run.data.params["feature_set_version"] == VERSIONS.feature_set
    assert run.data.params["num_leaves"] == str(result.parameters["num_leaves"])
    assert run.data.tags["tapeline.verdicts"] == "verdict-1"
    auc = result.metrics.set_index("metric").loc["auc", "value"]
    assert run.data.metrics["holdout_auc"] == pytest.approx(auc)
    files = {item.path for item in client.list_artifacts(result.run_id)}
    assert {"equity.svg", "calibration.svg", "importance.svg", "metrics.csv", "lineage.json", "model"} <= files


def test_the_ledger_counts_over_runs_and_never_twice(settings: Settings) -> None:
    tracking = open_tracking(settings)

    def run(name: str, study: str, trials: int, booster: str, *, fail: bool = False) -> str:
        identifier = ""
        try:
            with tracking.run(name, {MODEL_TAG: name}) as identifier:
                record_trials(tracking, identifier, study, trials)
                record_look(tracking, identifier, study, booster)
                if fail:
                    raise RuntimeError
        except RuntimeError:
            pass
        return identifier

    run("one", "s1", 8, "b1")
    run("one", "s1", 8, "b1")  # the same again: nothing new was seen
    assert (read_ledger(tracking, "one").trials, read_ledger(tracking, "one").holdout_looks) == (8, 1)
    run("one", "s1", 20, "b2")  # continued with more trials
    deleted = run("one", "s2", 5, "b3")
    run("one", "s3", 4, "b4", fail=True)
    run("other", "s9", 100, "b9")
    tracking.client.delete_run(deleted)  # deleting a run does not unsee it
    ledger = read_ledger(tracking, "one")
    assert (ledger.trials, ledger.holdout_looks, ledger.total) == (29, 4, 33)


def test_a_store_that_cannot_be_opened_says_so_without_its_password(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/secret-word/absent/x.db")
    (tmp_path / "secret-word").write_text("a file where a folder should be")
    with pytest.raises(ConfigurationError, match="MLflow store") as caught:
        open_tracking(Settings(root=tmp_path))
    assert "secret-word" not in str(caught.value)


def _folder(settings: Settings, one: Registered) -> Path:
    return next(path.parent for path in settings.mlflow_path.rglob(BUNDLE_FILE) if one.run_id in str(path))


def _folder_of(settings: Settings, file: str) -> Path:
    return next(settings.mlflow_path.rglob(file)).parent
