"""What a trained model is on disk: a LightGBM text file and one JSON file that says everything else. No pickle.

``bundle.json`` holds the columns, the calibration, the versions and the booster's SHA-256; the registry holds the
SHA-256 of ``bundle.json``. A file that was changed after registration is refused before LightGBM parses it.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from tapeline.core.errors import DataError
from tapeline.evaluation.result import Versions
from tapeline.models.calibration import Calibration
from tapeline.models.column_map import ColumnMap

FORMAT: Final = 1
BUNDLE_FILE: Final = "bundle.json"
BOOSTER_FILE: Final = "booster.txt"
MAXIMUM_BYTES: Final = 256 * 2**20


@dataclass(frozen=True)
class Bundle:
    """All of a model but its trees.

    Parameters
    ----------
    name:
        The registered model's name.
    columns:
        The feature columns a frame must have.
    kept:
        Positions in ``columns`` of those that the booster reads, in its order.
    calibration:
        From the booster's probability to the one that is reported.
    threshold:
        The calibrated probability above which the side is up.
    versions:
        Of features, labels and data.
    trained_until:
        The instant at which the last label of the training rows became known; scores before it are in-sample.
    booster_sha256:
        Of ``booster.txt``.
    label:
        What the label means, as the caller described it.
    parameters:
        The estimator's.
    scaling:
        What is done to the kept columns before the booster reads them, fitted on its training rows; None where nothing.
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
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise DataError(f"this is not a model bundle: {type(error).__name__}: {error}") from error
        if not bundle.kept or min(bundle.kept) < 0 or max(bundle.kept) >= len(bundle.columns):
            raise DataError(f"the model bundle keeps columns {bundle.kept} of {len(bundle.columns)}")
        if bundle.scaling is not None and len(bundle.scaling) != len(bundle.kept):
            raise DataError(f"the model bundle scales {len(bundle.scaling)} columns and keeps {len(bundle.kept)}")
        return bundle


@dataclass(frozen=True)
class Model:
    """A bundle with its booster: from feature rows to calibrated probabilities."""

    bundle: Bundle
    booster: Any

    def raw_probability(self, X: npt.NDArray[np.float32], *, threads: int = 1) -> npt.NDArray[np.float64]:  # noqa: N803
        """The booster's own probability of up; X has the bundle's columns, in their order."""
        return np.asarray(self.booster.predict(self.read(X), num_threads=threads), dtype=np.float64)

    def read(self, X: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:  # noqa: N803
        """The rows as the booster reads them: the kept columns, scaled where the model scales."""
        rows = np.ascontiguousarray(X[:, self.bundle.kept])
        return rows if self.bundle.scaling is None else self.bundle.scaling.apply(rows)

    def probability(self, X: npt.NDArray[np.float32], *, threads: int = 1) -> npt.NDArray[np.float64]:  # noqa: N803
        """The calibrated probability of up; X has the bundle's columns, in their order."""
        return self.bundle.calibration.apply(self.raw_probability(X, threads=threads))


def save_model(folder: Path, bundle: Bundle, booster_text: bytes) -> str:
    """Write both files into an existing folder; return the bundle's SHA-256, for the registry to keep."""
    if sha256(booster_text) != bundle.booster_sha256:
        raise DataError("the bundle names the SHA-256 of another booster")
    text = bundle.to_bytes()
    (folder / BOOSTER_FILE).write_bytes(booster_text)
    (folder / BUNDLE_FILE).write_bytes(text)
    return sha256(text)


def load_model(folder: Path, *, bundle_sha256: str) -> Model:
    """Read both files, after comparing each with the hash that vouches for it.

    Raises
    ------
    DataError
        A file is missing, larger than 256 MiB, was changed after it was registered, or does not parse.
    """
    text = _verified(folder / BUNDLE_FILE, bundle_sha256, "the registry")
    bundle = Bundle.from_bytes(text)
    booster_text = _verified(folder / BOOSTER_FILE, bundle.booster_sha256, "its bundle")
    return Model(bundle, _parse_booster(booster_text, len(bundle.kept)))


def sha256(content: bytes) -> str:
    """The SHA-256 of bytes, in hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def _parse_booster(text: bytes, features: int) -> Any:
    import lightgbm

    try:
        booster = lightgbm.Booster(model_str=text.decode())
    except (lightgbm.basic.LightGBMError, UnicodeDecodeError) as error:
        raise DataError(f"the booster does not parse: {error}") from error
    if booster.num_feature() != features:
        raise DataError(f"the booster reads {booster.num_feature()} features, its bundle keeps {features}")
    return booster


def _verified(path: Path, expected: str, voucher: str) -> bytes:
    try:
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
