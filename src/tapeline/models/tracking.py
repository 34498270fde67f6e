"""The tracking store: MLflow on SQLite, reached through its client, with no global state but the telemetry switches."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from tapeline.core.errors import ConfigurationError
from tapeline.core.settings import Settings

if TYPE_CHECKING:
    from mlflow import MlflowClient

EXPERIMENT: Final = "tapeline"
TAG: Final = "tapeline."
_QUIET: Final = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
}
PARENT_TAG: Final = "mlflow.parentRunId"
_BATCH: Final = 100


@dataclass(frozen=True)
class Tracking:
    """An open tracking store.

    Parameters
    ----------
    client:
        MLflow's client for both runs and registered models.
    uri:
        Where the store lies.
    experiment_id:
        The experiment that all runs of Tapeline belong to.
    """

    client: MlflowClient
    uri: str
    experiment_id: str

    @contextmanager
    def run(self, name: str, tags: Mapping[str, str]) -> Iterator[str]:
        """Open a run and give its id; it ends as FINISHED, or as FAILED where the block raises."""
        info = self.client.create_run(self.experiment_id, run_name=name, tags=dict(tags)).info
        try:
            yield info.run_id
        except BaseException:
            self.client.set_terminated(info.run_id, "FAILED")
            raise
        self.client.set_terminated(info.run_id, "FINISHED")

    def log(
        self,
        run_id: str,
        *,
        parameters: Mapping[str, Any] | None = None,
        metrics: Mapping[str, float] | None = None,
        tags: Mapping[str, str] | None = None,
        series: Mapping[str, Sequence[float]] | None = None,
    ) -> None:
        """Write everything in batches, for one call a metric is many times slower; metrics not finite are left out.

        ``series`` are metrics with a value a step, from 0.
        """
        from math import isfinite
        from time import time

        from mlflow.entities import Metric, Param, RunTag

        now = int(time() * 1000)
        params = [Param(key, str(value)) for key, value in (parameters or {}).items()]
        values = [Metric(key, float(value), now, 0) for key, value in (metrics or {}).items() if isfinite(value)]
        values += [
            Metric(key, float(value), now, step)
            for key, steps in (series or {}).items()
            for step, value in enumerate(steps)
            if isfinite(value)
        ]
        labels = [RunTag(key, str(value)) for key, value in (tags or {}).items()]
        for first in range(0, max(len(params), len(values), len(labels)), _BATCH):
            part = slice(first, first + _BATCH)
            self.client.log_batch(run_id, metrics=values[part], params=params[part], tags=labels[part])

    def child(self, parent: str, name: str, tags: Mapping[str, str]) -> str:
        """Open a run below another one and give its id; end it with :meth:`end`."""
        made = self.client.create_run(self.experiment_id, run_name=name, tags={PARENT_TAG: parent, **tags})
        return str(made.info.run_id)

    def end(self, run_id: str) -> None:
        """End a run as FINISHED."""
        self.client.set_terminated(run_id, "FINISHED")

    def log_folder(self, run_id: str, folder: Path, target: str | None = None) -> None:
        """Store every file below a folder with the run."""
        self.client.log_artifacts(run_id, str(folder), target)


def open_tracking(settings: Settings) -> Tracking:
    """Open the store that the settings name, and make it and the experiment where they are absent.

    Artifacts lie in ``mlruns/artifacts`` beside a SQLite backend; a tracking server keeps them where it was told to.

    Raises
    ------
    ConfigurationError
        The store cannot be opened.
    """
    for variable, value in _QUIET.items():
        os.environ.setdefault(variable, value)
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    uri = settings.mlflow_uri
    local = uri.startswith("sqlite:")
    if local:
        settings.mlflow_path.mkdir(parents=True, exist_ok=True)
    try:
        client = MlflowClient(tracking_uri=uri, registry_uri=uri)
        found = client.get_experiment_by_name(EXPERIMENT)
        if found is None:
            location = (settings.mlflow_path / "artifacts").as_uri() if local else None
            try:
                identifier = client.create_experiment(EXPERIMENT, artifact_location=location)
            except MlflowException:
                # Two first runs at once: the other one has just made it.
                found = client.get_experiment_by_name(EXPERIMENT)
                if found is None:
                    raise
                identifier = found.experiment_id
        else:
            identifier = found.experiment_id
    except (MlflowException, SQLAlchemyError, OSError) as error:
        scheme = uri.partition(":")[0]  # the rest of the address may hold a password
        raise ConfigurationError(
            f"the MLflow store ({scheme}) cannot be opened: {type(error).__name__}",
            hint="look at MLFLOW_TRACKING_URI and at the rights on mlruns/",
        ) from error
    return Tracking(client, uri, identifier)
