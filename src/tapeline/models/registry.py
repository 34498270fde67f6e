"""The model registry: versions, the aliases ``champion`` and ``challenger``, promotion and rollback, on MLflow."""

from __future__ import annotations

import json
import tempfile
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from filelock import FileLock

from tapeline.core.errors import ConfigurationError, DataError
from tapeline.core.settings import Settings
from tapeline.models.bundle import LIGHTGBM, Bundle, Model, load_model, save_model
from tapeline.models.model_file import ModelFile
from tapeline.models.tracking import TAG, Tracking, open_tracking
from tapeline.models.tuning import MODEL_NAME

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

CHAMPION: Final = "champion"
CHALLENGER: Final = "challenger"
BUNDLE_TAG: Final = f"{TAG}bundle_sha256"
SKILL_TAG: Final = f"{TAG}skill"
_FORMER_TAG: Final = f"{TAG}former_champions"
_ARTIFACT: Final = "model"
_LOCK_SECONDS: Final = 60.0


@dataclass(frozen=True)
class Registered:
    """One version of a registered model.

    Parameters
    ----------
    name, version:
        In the registry; versions count from 1.
    run_id:
        The run that made it.
    aliases:
        The aliases that point at it.
    tags:
        What was recorded with it: versions, hashes, skill.
    """

    name: str
    version: str
    run_id: str
    aliases: tuple[str, ...]
    tags: Mapping[str, str]


class Registry:
    """The registered models of a tracking store.

    Parameters
    ----------
    tracking:
        The open store.
    lock_path:
        A file that serialises changes of aliases between processes of this machine.
    """

    def __init__(self, tracking: Tracking, lock_path: Path) -> None:
        self._tracking = tracking
        self._client = tracking.client
        lock_path.parent.mkdir(parents=True, exist_ok=True)
        self.lock = FileLock(lock_path, timeout=_LOCK_SECONDS)

    @classmethod
    def open(cls, settings: Settings, tracking: Tracking | None = None) -> Registry:
        """The registry of the store that the settings name."""
        return cls(tracking or open_tracking(settings), settings.state_path / "registry.lock")

    def find(self, name: str, alias_or_version: str = CHAMPION) -> Registered | None:
        """The version that an alias points at, or that has this number; None where there is none."""
        from mlflow.exceptions import MlflowException

        _require_name(name)
        try:
            if alias_or_version.isdigit():
                return _registered(self._client.get_model_version(name, alias_or_version))
            return _registered(self._client.get_model_version_by_alias(name, alias_or_version))
        except MlflowException as error:
            # An alias that points nowhere is INVALID_PARAMETER_VALUE, a model or version that is absent the other one.
            if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                return None
            raise

    def versions(self, name: str) -> list[Registered]:
        """All versions of a model, the oldest first, each with its aliases."""
        _require_name(name)
        found = self._client.search_model_versions(f"name = '{name}'")
        return [_registered(self._client.get_model_version(name, one.version)) for one in _by_number(found)]

    def load(self, registered: Registered) -> Model:
        """Read a version's files and verify them against the registry's hash; DataError where they were changed."""
        from mlflow.exceptions import MlflowException

        expected = registered.tags.get(BUNDLE_TAG)
        if not expected:
            raise DataError(f"{registered.name} version {registered.version} has no recorded hash", hint="train again")
        try:
            folder = Path(self._client.download_artifacts(registered.run_id, f"{_ARTIFACT}/artifacts"))
        except (MlflowException, OSError) as error:
            raise DataError(
                f"the files of {registered.name} version {registered.version} are gone: {error}",
                hint="roll back to another version, or train again",
            ) from error
        return load_model(folder, bundle_sha256=expected)

    def register(
        self, run_id: str, bundle: Bundle, model: bytes | ModelFile, *, description: str, tags: Mapping[str, str]
    ) -> Registered:
        """Store a model with its run and make it a version; the very same model keeps the version it has.

        ``model`` is LightGBM's text or the files of any format. It is stored in MLflow's own pyfunc form, so
        ``mlflow.pyfunc.load_model("models:/<name>@champion")`` works.
        """
        from mlflow.exceptions import MlflowException

        _require_name(bundle.name)
        with tempfile.TemporaryDirectory(prefix="tapeline-model-") as scratch:
            digest = save_pyfunc(Path(scratch), bundle, model)
            same = [one for one in self._versions_tagged(bundle.name) if one.tags.get(BUNDLE_TAG) == digest]
            if same and self._readable(same[-1]):
                return same[-1]
            self._tracking.log_folder(run_id, Path(scratch) / _ARTIFACT, _ARTIFACT)
        try:
            self._client.create_registered_model(bundle.name)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        version = self._client.create_model_version(
            bundle.name,
            source=f"runs:/{run_id}/{_ARTIFACT}",
            run_id=run_id,
            tags={**tags, BUNDLE_TAG: digest},
            description=description,
        )
        return _registered(version)

    def challenge(self, name: str, version: str) -> None:
        """Point ``challenger`` at a version, unless it is the champion."""
        champion = self.find(name)
        if champion is None or champion.version != version:
            self._client.set_registered_model_alias(name, CHALLENGER, version)

    def promote(self, name: str, version: str) -> Registered:
        """Make a version the champion and remember the one before it.

        Raises
        ------
        ConfigurationError
            There is no such version.
        DataError
            Its files are gone or were changed.
        """
        candidate = self.find(name, version)
        if candidate is None:
            raise ConfigurationError(f"model '{name}' has no version {version}", hint="train first, or name another")
        self.load(candidate)
        champion = self.find(name)
        if champion is not None and champion.version != candidate.version:
            # Remembered before the alias moves: a crash in between leaves one entry too many, which rollback skips.
            self._remember(name, [*self._former(name), champion.version])
        self._client.set_registered_model_alias(name, CHAMPION, candidate.version)
        if CHALLENGER in candidate.aliases:
            self._client.delete_registered_model_alias(name, CHALLENGER)
        return self._require(name, candidate.version)

    def rollback(self, name: str) -> Registered:
        """Put the former champion back; the present one becomes the challenger.

        Raises
        ------
        ConfigurationError
            There is no champion, or none before it.
        DataError
            The former champion's files are gone or were changed.
        """
        champion = self.find(name)
        if champion is None:
            raise ConfigurationError(f"model '{name}' has no champion", hint="train first")
        former = self._former(name)
        while former and former[-1] == champion.version:
            former.pop()
        if not former:
            raise ConfigurationError(f"model '{name}' has no champion before version {champion.version}")
        target = self._require(name, former[-1])
        self.load(target)
        self._client.set_registered_model_alias(name, CHAMPION, target.version)
        self._client.set_registered_model_alias(name, CHALLENGER, champion.version)
        self._remember(name, former[:-1])
        return self._require(name, target.version)

    def _require(self, name: str, version: str) -> Registered:
        found = self.find(name, version)
        if found is None:
            raise ConfigurationError(f"model '{name}' has no version {version}")
        return found

    def _readable(self, registered: Registered) -> bool:
        try:
            self.load(registered)
        except DataError:
            return False
        return True

    def _versions_tagged(self, name: str) -> list[Registered]:
        found = self._client.search_model_versions(f"name = '{name}'")
        return [_registered(one) for one in _by_number(found)]

    def _former(self, name: str) -> list[str]:
        text = self._client.get_registered_model(name).tags.get(_FORMER_TAG, "[]")
        return [str(version) for version in json.loads(text)]

    def _remember(self, name: str, former: list[str]) -> None:
        self._client.set_registered_model_tag(name, _FORMER_TAG, json.dumps(former[-100:]))


def promote(settings: Settings, name: str, version: str) -> Registered:
    """Make a version the champion by hand; see :meth:`Registry.promote`."""
    registry = Registry.open(settings)
    with registry.lock:
        return registry.promote(name, version)


def rollback(settings: Settings, name: str) -> Registered:
    """Put the former champion back; see :meth:`Registry.rollback`."""
    registry = Registry.open(settings)
    with registry.lock:
        return registry.rollback(name)


def save_pyfunc(scratch: Path, bundle: Bundle, model: bytes | ModelFile) -> str:
    """Write ``<scratch>/model`` as an MLflow pyfunc model and return the SHA-256 of its bundle."""
    import mlflow.pyfunc
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, Schema

    files = scratch / "files"
    files.mkdir()
    digest = save_model(files, bundle, model)
    # float64 in the signature: MLflow widens float32 by itself, but refuses to narrow what a user's frame holds.
    inputs = Schema([ColSpec("double", column) for column in bundle.columns])
    outputs = Schema([ColSpec("double", "probability"), ColSpec("integer", "side"), ColSpec("double", "confidence")])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it asks for type hints and an input example; the signature says it all
        mlflow.pyfunc.save_model(
            scratch / _ARTIFACT,
            python_model=str(Path(__file__).with_name("pyfunc_model.py")),
            artifacts={path.stem: str(path) for path in sorted(files.iterdir())},
            signature=ModelSignature(inputs, outputs),
            pip_requirements=_requirements(bundle.model_format),
        )
    return digest


def _requirements(model_format: str) -> list[str]:
    from importlib.metadata import version

    # Other formats than LightGBM's are read by Tapeline, whose own requirements bring the rest.
    reader = "lightgbm" if model_format == LIGHTGBM else "tapeline"
    return [f"{package}=={version(package)}" for package in ("mlflow", reader, "numpy", "pandas")]


def _require_name(name: str) -> None:
    # Names reach MLflow's filter strings, between quotes.
    if not MODEL_NAME.fullmatch(name):
        raise ConfigurationError(f"model name {name!r} is not valid", hint="letters, digits, % _ . ~ - only")


def _registered(version: ModelVersion) -> Registered:
    aliases = tuple(str(alias) for alias in version.aliases)
    return Registered(version.name, str(version.version), str(version.run_id), aliases, dict(version.tags))


def _by_number(found: Any) -> list[ModelVersion]:
    return sorted(found, key=lambda one: int(one.version))
