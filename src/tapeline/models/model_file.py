"""From a fitted estimator of any family to native files, and back to something that scores. No pickle anywhere.

=========== ================================= ====================================================
format      file                              of
=========== ================================= ====================================================
lightgbm    ``booster.txt``, LightGBM's text  gradient boosting
xgboost     ``booster.json``, XGBoost's JSON  gradient boosting
forest      ``forest.skops``                  random forests and extra trees
numbers     ``model.json``                    linear models, baselines, rules
composite   ``manifest.json`` and its members ensembles, each member with its own format and hash
=========== ================================= ====================================================

What a pipeline does before its model (columns, medians, scaling) is a :class:`Preparation`: plain numbers.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt

from tapeline.core.errors import ConfigurationError, DataError
from tapeline.models.column_map import ColumnMap

FILES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "lightgbm": "booster.txt",
        "xgboost": "booster.json",
        "forest": "forest.skops",
        "numbers": "model.json",
        "composite": "manifest.json",
    }
)
"""Each format's file."""

MAXIMUM_MEMBERS: Final = 64
MAXIMUM_DEPTH: Final = 3
"""An ensemble may be a member of one, so often."""

_MANIFEST: Final = 1
_MEMBER_FILE: Final = re.compile(r"member-[0-9]{1,3}(-[0-9]{1,3})*\.(txt|json|skops)")

Fetch = Callable[[str, str], bytes]
"""``(file name, SHA-256)`` to content that has this hash; DataError where there is none."""


class Predictor(Protocol):
    """What every format is read as."""

    @property
    def width(self) -> int:
        """Columns that a row must have."""
        ...

    def raw_probability(self, rows: npt.NDArray[np.float32], *, threads: int = 1) -> npt.NDArray[np.float64]:
        """The probability of class 1 for each row, before calibration."""
        ...


@dataclass(frozen=True)
class Preparation:
    """What is done to rows before a model reads them, in this order.

    Parameters
    ----------
    width:
        Columns that the rows have.
    kept:
        Positions of those that the model reads, in its order.
    fill:
        By kept column, what stands for a missing value; empty where nothing does.
    scaling:
        Of the kept columns; None where nothing is scaled.

    Examples
    --------
    >>> Preparation(3, (2, 0), fill=(7.0, 8.0)).apply(np.array([[np.nan, 1, 2]], dtype=np.float32)).tolist()
    [[2.0, 8.0]]
    """

    width: int
    kept: tuple[int, ...]
    fill: tuple[float, ...] = ()
    scaling: ColumnMap | None = None

    def __post_init__(self) -> None:
        if not self.kept or min(self.kept) < 0 or max(self.kept) >= self.width:
            raise DataError(f"a model keeps columns {self.kept[:5]} of {self.width}")
        if self.fill and (len(self.fill) != len(self.kept) or not np.isfinite(self.fill).all()):
            raise DataError(f"a model fills {len(self.fill)} columns and keeps {len(self.kept)}, or not with numbers")
        if self.scaling is not None and len(self.scaling) != len(self.kept):
            raise DataError(f"a model scales {len(self.scaling)} columns and keeps {len(self.kept)}")

    @property
    def only_takes(self) -> bool:
        """Whether values pass unchanged."""
        return not self.fill and self.scaling is None

    def apply(self, rows: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """The rows as the model reads them; DataError where they have another number of columns."""
        if rows.ndim != 2 or rows.shape[1] != self.width:
            raise DataError(f"the model reads rows of {self.width} columns, these have the shape {rows.shape}")
        taken = np.ascontiguousarray(rows[:, list(self.kept)])
        if self.fill:
            taken = np.where(np.isnan(taken), np.array(self.fill, dtype=np.float32), taken)
        return taken if self.scaling is None else self.scaling.apply(taken)

    @classmethod
    def of(cls, steps: list[tuple[str, Any]], width: int) -> Preparation:
        """What fitted steps of a pipeline do; ConfigurationError where one is not known."""
        kept: npt.NDArray[np.intp] = np.arange(width)
        fill: tuple[float, ...] = ()
        scaling: ColumnMap | None = None
        for name, step in steps:
            if hasattr(step, "kept_") and not fill and scaling is None:
                kept = kept[np.asarray(step.kept_, dtype=np.intp)]
            elif isinstance(getattr(step, "map_", None), ColumnMap) and scaling is None:
                scaling = step.map_
            elif hasattr(step, "statistics_") and not fill and scaling is None:
                fill = tuple(float(number) for number in step.statistics_)
            else:
                raise ConfigurationError(
                    f"the step '{name}' ({type(step).__name__}) of a pipeline cannot be written as plain numbers",
                    hint="columns are chosen first, then missing values filled, then columns scaled",
                )
        return cls(width, tuple(int(position) for position in kept), fill, scaling)

    def to_json(self) -> dict[str, Any]:
        """Plain numbers, each float exact."""
        parts: dict[str, Any] = {"width": self.width, "kept": list(self.kept)}
        if self.fill:
            parts["fill"] = list(self.fill)
        if self.scaling is not None:
            parts["scaling"] = self.scaling.to_json()
        return parts

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Preparation:
        """Read it back; DataError where it is none."""
        try:
            return cls(
                int(content["width"]),
                tuple(map(int, content["kept"])),
                tuple(map(float, content.get("fill", ()))),
                ColumnMap.from_json(content["scaling"]) if "scaling" in content else None,
            )
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise DataError(f"this is no preparation of rows: {type(error).__name__}: {error}") from error


@dataclass(frozen=True)
class ModelFile:
    """A model as files: one that says all, and for a composite its members' beside it.

    Parameters
    ----------
    format:
        A key of ``FILES``.
    content:
        Of the first file; its hash vouches for the others, whose hashes it holds.
    parts:
        Name to content of the others.
    """

    format: str
    content: bytes
    parts: Mapping[str, bytes] = field(default_factory=dict)

    @property
    def sha256(self) -> str:
        """Of the first file, in hexadecimal."""
        return hashlib.sha256(self.content).hexdigest()

    @property
    def name(self) -> str:
        """Of the first file."""
        return FILES[self.format]

    def fetch(self, name: str, sha256: str) -> bytes:
        """A part by name, after comparing its hash: a :data:`Fetch` for a file that is not on disk yet."""
        content = self.parts.get(name)
        if content is None or hashlib.sha256(content).hexdigest() != sha256:
            raise DataError(f"the model has no part {name[:60]!r} of this hash")
        return content


def write_model(estimator: Any, width: int) -> tuple[Preparation, ModelFile]:
    """A fitted estimator as files.

    Parameters
    ----------
    estimator:
        A pipeline of :func:`tapeline.models.estimator.build_estimator`, its model alone, or an ensemble of
        :mod:`tapeline.models.ensemble` whose members are such.
    width:
        Columns of the rows it was fitted on.

    Returns
    -------
    What is done to the rows, and the model behind it. The same estimator gives the same bytes.

    Raises
    ------
    ConfigurationError
        The model, or a step before it, is of a kind that no format knows.
    """
    steps = list(getattr(estimator, "steps", [("model", estimator)]))
    preparation = Preparation.of(steps[:-1], width)
    return preparation, _write(steps[-1][1], len(preparation.kept), "")


def read_model(format_: str, content: bytes, *, fetch: Fetch, depth: int = 0) -> Predictor:
    """Something that scores, of a file whose hash was compared before.

    Parameters
    ----------
    format_:
        A key of ``FILES``.
    content:
        The first file.
    fetch:
        Gives the parts of a composite.
    depth:
        How many composites this one is within.

    Raises
    ------
    DataError
        The format is unknown, or the file is not one of it.
    """
    if format_ == "lightgbm":
        from tapeline.models.fast_booster import FastBooster, read_booster

        return FastBooster(read_booster(content), content)
    if format_ == "xgboost":
        from tapeline.models.xgboost_file import read_xgboost

        return read_xgboost(content)
    if format_ == "forest":
        from tapeline.models.forest_file import read_forest

        return read_forest(content)
    if format_ == "numbers":
        from tapeline.models.number_file import read_numbers

        return read_numbers(content)
    if format_ == "composite":
        return _read_composite(content, fetch, depth)
    raise DataError(f"the model is of the format {str(format_)[:40]!r}", hint=f"known are {', '.join(FILES)}")


class Prepared:
    """A model behind its preparation, with scikit-learn's ``predict_proba``: a member of an ensemble."""

    def __init__(self, preparation: Preparation, predictor: Predictor) -> None:
        if predictor.width != len(preparation.kept):
            raise DataError(f"the model reads {predictor.width} columns, its preparation keeps {len(preparation.kept)}")
        self.width = preparation.width
        self.classes_ = np.array([0, 1])
        self._score = _scorer(preparation, predictor)

    def raw_probability(self, rows: npt.NDArray[np.float32], *, threads: int = 1) -> npt.NDArray[np.float64]:
        """The probability of class 1 for each row."""
        return self._score(rows, threads=threads)

    def predict_proba(self, X: Any) -> npt.NDArray[np.float64]:  # noqa: N803 - scikit-learn's name
        """Probabilities of 0 and of 1, shape (rows, 2)."""
        up = self._score(np.asarray(X, dtype=np.float32), threads=1)
        return np.column_stack([1 - up, up])


class Composite:
    """An ensemble that was made again of its plan and members."""

    def __init__(self, ensemble: Any, width: int) -> None:
        self.ensemble = ensemble
        self.width = width

    def raw_probability(self, rows: npt.NDArray[np.float32], *, threads: int = 1) -> npt.NDArray[np.float64]:
        """The ensemble's probability of class 1 for each row."""
        if rows.ndim != 2 or rows.shape[1] != self.width:
            raise DataError(f"the model reads rows of {self.width} columns, these have the shape {rows.shape}")
        return np.asarray(self.ensemble.predict_proba(rows)[:, 1], dtype=np.float64)


def _scorer(preparation: Preparation, predictor: Any) -> Any:
    """The shortest way from rows to probabilities."""
    if preparation.only_takes:
        if preparation.kept == tuple(range(preparation.width)):
            return predictor.raw_probability
        # Trees can read the columns where they are.
        direct = predictor.over(preparation.kept, preparation.width) if hasattr(predictor, "over") else None
        if direct is not None:
            return direct.raw_probability

    def score(rows: npt.NDArray[np.float32], *, threads: int = 1) -> npt.NDArray[np.float64]:
        return np.asarray(predictor.raw_probability(preparation.apply(rows), threads=threads), dtype=np.float64)

    return score


def _write(model: Any, width: int, prefix: str) -> ModelFile:
    names = {one.__name__ for one in type(model).__mro__}
    classes = list(getattr(model, "classes_", ()))
    if classes != [0, 1] and "DummyClassifier" not in names:
        raise ConfigurationError(f"a model file holds a model of the classes 0 and 1, this one knows {classes[:5]}")
    if "LGBMClassifier" in names:
        return ModelFile("lightgbm", model.booster_.model_to_string().encode())
    if "XGBClassifier" in names:
        from tapeline.models.xgboost_file import write_xgboost

        return ModelFile("xgboost", write_xgboost(model))
    if names & {"RandomForestClassifier", "ExtraTreesClassifier"}:
        from tapeline.models.forest_file import write_forest

        return ModelFile("forest", write_forest(model))
    if hasattr(model, "plan") and hasattr(model, "members_"):
        return _write_composite(model, width, prefix)
    from tapeline.models.number_file import write_numbers

    numbers = write_numbers(model, width)
    if numbers is None:
        raise ConfigurationError(f"no model file can hold a {type(model).__name__}", hint="a family of the zoo")
    return ModelFile("numbers", numbers)


def _write_composite(ensemble: Any, width: int, prefix: str) -> ModelFile:
    members: dict[str, Any] = {}
    parts: dict[str, bytes] = {}
    for number, (name, member) in enumerate(ensemble.members_.items()):
        steps = list(getattr(member, "steps", [("model", member)]))
        preparation = Preparation.of(steps[:-1], width)
        place = f"{prefix}-{number}"
        written = _write(steps[-1][1], len(preparation.kept), place)
        file = f"member{place}.{written.name.rpartition('.')[2]}"
        members[name] = {
            "format": written.format,
            "file": file,
            "sha256": written.sha256,
            "preparation": preparation.to_json(),
        }
        parts |= {file: written.content, **written.parts}
    content = {"manifest": _MANIFEST, "width": width, "plan": ensemble.plan(), "members": members}
    return ModelFile("composite", json.dumps(content, indent=1, sort_keys=True, allow_nan=False).encode(), parts)


def _read_composite(content: bytes, fetch: Fetch, depth: int) -> Composite:
    from tapeline.models.ensemble import ensemble_from_plan

    if depth >= MAXIMUM_DEPTH:
        raise DataError(f"ensembles within ensembles, more than {MAXIMUM_DEPTH} deep")
    try:
        manifest = json.loads(content)
        if manifest["manifest"] != _MANIFEST:
            raise DataError(f"the manifest has the format {manifest['manifest']!r}, this version reads {_MANIFEST}")
        width, entries = int(manifest["width"]), dict(manifest["members"])
        if not 0 < len(entries) <= MAXIMUM_MEMBERS:
            raise DataError(f"an ensemble of {len(entries)} members; 1 to {MAXIMUM_MEMBERS} are read")
        members = {str(name): _read_member(str(name), entry, width, fetch, depth) for name, entry in entries.items()}
        plan = dict(manifest["plan"])
        ensemble = ensemble_from_plan(members, plan)
        # A plan may name columns that the rows do not have, or weights that are none: seen here, not when it matters.
        said = np.asarray(ensemble.predict_proba(np.zeros((1, width), dtype=np.float32)))[:, 1]
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError, RecursionError) as error:
        raise DataError(f"this is no manifest of an ensemble: {type(error).__name__}: {error}") from error
    except ConfigurationError as error:
        raise DataError(f"this is no manifest of an ensemble: {error.message}") from error
    if not ((said >= 0) & (said <= 1)).all():
        raise DataError("the ensemble of this manifest gives no probabilities")
    return Composite(ensemble, width)


def _read_member(name: str, entry: Mapping[str, Any], width: int, fetch: Fetch, depth: int) -> Prepared:
    file = str(entry["file"])
    if not _MEMBER_FILE.fullmatch(file):
        raise DataError(f"the member '{name[:60]}' is said to lie in {file[:60]!r}, which is no member's file")
    preparation = Preparation.from_json(entry["preparation"])
    if preparation.width != width:
        raise DataError(f"the member '{name[:60]}' reads rows of {preparation.width} columns, its ensemble of {width}")
    content = fetch(file, str(entry["sha256"]))
    return Prepared(preparation, read_model(str(entry["format"]), content, fetch=fetch, depth=depth + 1))
