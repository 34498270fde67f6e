"""Settings: defaults, the file, the environment, in this order; and what is wrong is named without its value."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from tapeline.core import errors
from tapeline.core.errors import ConfigurationError, MissingExtraError, TapelineError, ThrottledError
from tapeline.core.settings import load_settings, settings_file


@pytest.fixture(autouse=True)
def alone(tmp_path, monkeypatch) -> Path:
    """An empty working directory, and none of the caller's own settings."""
    import os

    for name in [name for name in os.environ if name.startswith("TAPELINE_") or name == "MLFLOW_TRACKING_URI"]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_defaults_lie_in_the_working_directory(alone) -> None:
    settings = load_settings()
    assert settings.root == alone.resolve()
    for path in (settings.lake_path, settings.state_path, settings.reports_path, settings.mlflow_path):
        assert path.is_relative_to(settings.root)
    assert settings.mlflow_uri == f"sqlite:///{settings.root / 'mlruns' / 'mlflow.db'}"
    assert settings_file() is None


def test_the_environment_wins_over_the_file_and_arguments_over_both(alone, monkeypatch) -> None:
    (alone / "tapeline.toml").write_text("[training]\ntrials = 11\nfolds = 4\n")
    assert load_settings().training.trials == 11
    monkeypatch.setenv("TAPELINE_TRAINING__TRIALS", "30")
    settings = load_settings()
    assert (settings.training.trials, settings.training.folds) == (30, 4)
    assert load_settings(training={"trials": 5}).training.trials == 5


def test_the_file_may_be_named(alone, monkeypatch) -> None:
    file = alone / "mine.toml"
    file.write_text("[scoring]\nconfidence_threshold = 0.8\n")
    monkeypatch.setenv("TAPELINE_SETTINGS", str(file))
    assert load_settings().scoring.confidence_threshold == 0.8
    monkeypatch.setenv("TAPELINE_SETTINGS", str(alone / "nowhere.toml"))
    with pytest.raises(ConfigurationError, match=r"nowhere.toml', which is not a file"):
        load_settings()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[training]\ntrials = 0\n", "training.trials.*greater than or equal to 1"),
        ("[training]\ntrails = 3\n", "training.trails"),
        ("unknown = 1\n", "'unknown'"),
        ("[training\n", "do not parse"),
    ],
)
def test_what_is_wrong_is_named_with_its_place(alone, text, message) -> None:
    (alone / "tapeline.toml").write_text(text)
    with pytest.raises(ConfigurationError, match=message):
        load_settings()


def test_a_secret_is_never_repeated(alone, monkeypatch) -> None:
    monkeypatch.setenv("TAPELINE_METATRADER__PASSWORD", "hunter2")
    assert "hunter2" not in repr(load_settings())
    monkeypatch.setenv("TAPELINE_METATRADER__LOGIN", "hunter2")
    with pytest.raises(ConfigurationError) as caught:
        load_settings()
    assert "hunter2" not in str(caught.value)


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(Exception, match="frozen"):
        load_settings().root = Path("/")


def test_every_error_survives_a_process_border_and_has_an_exit_code() -> None:
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, TapelineError)]
    assert len(kinds) >= 11
    for kind in kinds:
        made = (
            MissingExtraError("torch", "deep") if kind is MissingExtraError else kind("what went wrong", hint="do this")
        )
        back = pickle.loads(pickle.dumps(made))
        assert type(back) is kind
        assert str(back) == str(made)
        assert back.hint == made.hint
        assert 0 < kind.exit_code < 126
    throttled = pickle.loads(pickle.dumps(ThrottledError("slow", retry_after=3.0)))
    assert throttled.retry_after == 3.0
