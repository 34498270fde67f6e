"""What a trained model is on disk: native files and one JSON file that says everything else. No pickle.

``bundle.json`` holds the columns, the calibration, the versions, the model's format and its file's SHA-256; the
registry holds the SHA-256 of ``bundle.json``. A file that was changed after registration is refused before anything
parses it. The formats are those of :mod:`tapeline.models.model_file`.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from tapeline.core.errors import DataError
from tapeline.evaluation.result import Versions
from tapeline.models.calibration import Calibration
from tapeline.models.column_map import ColumnMap
from tapeline.models.model_file import FILES, ModelFile, Preparation, Prepared, read_model

FORMAT: Final = 1
LIGHTGBM: Final = "lightgbm"
BUNDLE_FILE: Final = "bundle.json"
BOOSTER_FILE: Final = FILES[LIGHTGBM]
MAXIMUM_BYTES: Final = 256 * 2**20


@dataclass(frozen=True)
class Bundle:
    """All of a model but its trees, or whatever it is made of.

    Parameters
    ----------
    name:
        The registered model's name.
    columns:
        The feature columns a frame must have.
    kept:
        Positions in ``columns`` of those that the model reads, in its order.
    calibration:
        From the model's own probability to the one that is reported.
    threshold:
        The calibrated probability above which the side is up.
    versions:
        Of features, labels and data.
    trained_until:
        The instant at which the last label of the training rows became known; scores before it are in-sample.
    booster_sha256:
        Of the model's file: LightGBM's ``booster.txt``, or that of its format.
    label:
        What the label means, as the caller described it.
    parameters:
        The estimator's.
    scaling:
        What is done to the kept columns before the model reads them, fitted on its training rows; None where nothing.
    model_format:
        One of ``tapeline.models.model_file.FILES``; bundles that do not name it are LightGBM's.
    fill:
        By kept column, what stands for a missing value before scaling; empty where nothing does.
    """

    name: str
    columns: tuple[str, ...]
    kept: tuple[int, ...]
    calibration: Calibration
    threshold: float
    versions: Versions
    trained_until: pd.Timestamp
    booster_sha256: str
    label: Mapping[str, Any] = field(default_factory=dict)
    parameters: Mapping[str, Any] = field(default_factory=dict)
    scaling: ColumnMap | None = None
    model_format: str = LIGHTGBM
    fill: tuple[float, ...] = ()

    @property
    def preparation(self) -> Preparation:
        """What is done to rows before the model reads them."""
        return Preparation(len(self.columns), self.kept, self.fill, self.scaling)

    def to_bytes(self) -> bytes:
        """The JSON text of the bundle; the same bundle gives the same bytes."""
        content = {
            "format": FORMAT,
            "name": self.name,
            "columns": list(self.columns),
            "kept": list(self.kept),
            "calibration": self.calibration.to_json(),
            "threshold": self.threshold,
            "versions": {
                "feature_set": self.versions.feature_set,
                "label": self.versions.label,
                "data": self.versions.data,
            },
            "trained_until": self.trained_until.isoformat(),
            "booster_sha256": self.booster_sha256,
            "label": dict(self.label),
            "parameters": dict(self.parameters),
            **({"scaling": self.scaling.to_json()} if self.scaling else {}),
            **({"model_format": self.model_format} if self.model_format != LIGHTGBM else {}),
            **({"fill": list(self.fill)} if self.fill else {}),
        }
        return json.dumps(content, indent=1, sort_keys=True, allow_nan=False).encode()

    @classmethod
    def from_bytes(cls, text: bytes) -> Bundle:
        """Read the JSON text back; DataError where a part is missing or of another kind."""
        try:
            content = json.loads(text)
            if content["format"] != FORMAT:
                raise DataError(f"the model bundle has format {content['format']}, this version reads {FORMAT}")
            bundle = cls(
                name=str(content["name"]),
                columns=tuple(map(str, content["columns"])),
                kept=tuple(map(int, content["kept"])),
                calibration=Calibration.from_json(content["calibration"]),
                threshold=float(content["threshold"]),
                versions=Versions(**{key: str(value) for key, value in content["versions"].items()}),
                trained_until=pd.Timestamp(content["trained_until"]).tz_convert("UTC"),
                booster_sha256=str(content["booster_sha256"]),
                label=dict(content["label"]),
                parameters=dict(content["parameters"]),
                scaling=ColumnMap.from_json(content["scaling"]) if "scaling" in content else None,
                model_format=str(content.get("model_format", LIGHTGBM)),
                fill=tuple(map(float, content.get("fill", ()))),
            )
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError, RecursionError) as error:
            raise DataError(f"this is not a model bundle: {type(error).__name__}: {error}") from error
        if bundle.model_format not in FILES:
            raise DataError(
                f"the model bundle names the format {bundle.model_format[:40]!r}", hint=f"known are {', '.join(FILES)}"
            )
        _ = bundle.preparation  # raises where columns, filling and scaling do not fit each other
        return bundle


@dataclass(frozen=True)
class Model:
    """A bundle with its booster: from feature rows to calibrated probabilities.

    Parameters
    ----------
    bundle:
        What is known of the model.
    booster:
        A ``lightgbm.Booster``, or of another format what :func:`tapeline.models.model_file.read_model` gives.
    """

    bundle: Bundle
    booster: Any

    def raw_probability(self, X: npt.NDArray[np.float32], *, threads: int = 1) -> npt.NDArray[np.float64]:  # noqa: N803
        """The model's own probability of up; X has the bundle's columns, in their order."""
        return self._score(X, threads=threads)

    def read(self, X: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:  # noqa: N803
        """The rows as the model reads them: the kept columns, filled and scaled where the model does."""
        return self.bundle.preparation.apply(X)

    def probability(self, X: npt.NDArray[np.float32], *, threads: int = 1) -> npt.NDArray[np.float64]:  # noqa: N803
        """The calibrated probability of up; X has the bundle's columns, in their order."""
        return self._calibrate(self._score(X, threads=threads))

    @cached_property
    def _score(self) -> Callable[..., npt.NDArray[np.float64]]:
        predictor = self.booster
        if self.bundle.model_format == LIGHTGBM:
            from tapeline.models.fast_booster import FastBooster

            predictor = FastBooster(self.booster)
        return Prepared(self.bundle.preparation, predictor).raw_probability

    @cached_property
    def _calibrate(self) -> Callable[[npt.NDArray[np.float64]], npt.NDArray[np.float64]]:
        calibration = self.bundle.calibration
        if calibration.kind != "isotonic":
            return calibration.apply
        # The knots as arrays: turning the tuples into such takes longer than a row's trees.
        x, y = np.array(calibration.x), np.array(calibration.y)
        return lambda raw: np.interp(raw, x, y)


def save_model(folder: Path, bundle: Bundle, model: bytes | ModelFile) -> str:
    """Write all files into an existing folder; return the bundle's SHA-256, for the registry to keep.

    Parameters
    ----------
    folder:
        Where to.
    bundle:
        Names the format and the hash of the model.
    model:
        The model's files, or LightGBM's text.
    """
    files = ModelFile(LIGHTGBM, model) if isinstance(model, bytes) else model
    if files.format != bundle.model_format or files.sha256 != bundle.booster_sha256:
        raise DataError("the bundle names the SHA-256 of another booster")
    text = bundle.to_bytes()
    for name, content in {**files.parts, files.name: files.content, BUNDLE_FILE: text}.items():
        (folder / name).write_bytes(content)
    return sha256(text)


def load_model(folder: Path, *, bundle_sha256: str) -> Model:
    """Read all files, after comparing each with the hash that vouches for it.

    Raises
    ------
    DataError
        A file is missing, larger than 256 MiB, was changed after it was registered, or does not parse.
    """
    bundle = Bundle.from_bytes(_verified(folder / BUNDLE_FILE, bundle_sha256, "the registry"))
    content = _verified(folder / FILES[bundle.model_format], bundle.booster_sha256, "its bundle")
    return make_model(bundle, ModelFile(bundle.model_format, content), folder=folder)


def make_model(bundle: Bundle, files: ModelFile, *, folder: Path | None = None) -> Model:
    """The model of a bundle and the files that it names; parts of a composite may lie in a folder.

    Raises
    ------
    DataError
        A file does not parse, or reads another number of columns than the bundle keeps.
    """

    def fetch(name: str, expected: str) -> bytes:
        return files.fetch(name, expected) if folder is None else _verified(folder / name, expected, "its manifest")

    if files.format == LIGHTGBM:
        from tapeline.models.fast_booster import read_booster

        booster = read_booster(files.content)
        width = booster.num_feature()
    else:
        booster = read_model(files.format, files.content, fetch=fetch)
        width = booster.width
    if width != len(bundle.kept):
        raise DataError(f"the booster reads {width} features, its bundle keeps {len(bundle.kept)}")
    return Model(bundle, booster)


def sha256(content: bytes) -> str:
    """The SHA-256 of bytes, in hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def _verified(path: Path, expected: str, voucher: str) -> bytes:
    try:
        if path.is_symlink():
            raise DataError(f"the model file {path.name} is a link", hint="a model's files lie in its own folder")
        if path.stat().st_size > MAXIMUM_BYTES:
            raise DataError(f"the model file {path.name} is larger than {MAXIMUM_BYTES} bytes")
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"the model file {path.name} cannot be read: {error.strerror}") from error
    if not hmac.compare_digest(sha256(content), expected):
        raise DataError(
            f"the model file {path.name} has SHA-256 {sha256(content)[:16]}..., {voucher} says {expected[:16]}...",
            hint="it was changed after it was registered: roll back to another version, or train again",
        )
    return content
