"""One migrated MLflow database for all tests of this room: making one takes longer than any of them."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tapeline.core.settings import Settings
from tapeline.evaluation.result import TrainingResult
from tapeline.models.training import train
from tests.models.synthetic import VERSIONS, make_dataset, make_settings


@pytest.fixture(scope="session")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated, empty tracking database."""
    from mlflow import MlflowClient

    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    MlflowClient(tracking_uri=f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture(scope="session", autouse=True)
def _own_store() -> Iterator[None]:
    """A store that the environment names is somebody's own: no test may write there."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        yield


@pytest.fixture
def settings(database: Path, tmp_path: Path) -> Settings:
    """Settings on an empty project folder with a migrated database."""
    return prepare(database, tmp_path)


def prepare(database: Path, root: Path, *, card: bool = False) -> Settings:
    made = make_settings(root, card=card)
    made.mlflow_path.mkdir(parents=True)
    shutil.copy(database, made.mlflow_path / "mlflow.db")
    return made


@pytest.fixture(scope="session")
def trained(database: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Settings, TrainingResult]:
    """A model with a planted signal, trained once, with its card. Read it, do not change it."""
    settings = prepare(database, tmp_path_factory.mktemp("trained"), card=True)
    dataset = make_dataset(2400, signal=0.6)
    result = train(
        dataset, settings=settings, name="direction-H1", versions=VERSIONS, verdict_ids=("verdict-1",), label={"h": 1}
    )
    return settings, result
