"""Suites: what a zone of the lake expects of a batch, read from the JSON that stands in git."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd

from tapeline.core.errors import ConfigurationError
from tapeline.core.symbol import parse_name
from tapeline.core.versions import digest

SUITE_FOLDER: Final = Path("gx", "expectations")
"""Where the suites lie inside the Great Expectations project folder."""

_LEAD: Final = ("ts", "known_at")


@dataclass(frozen=True)
class Suite:
    """One suite as it stands in git.

    Parameters
    ----------
    name, notes:
        Its name and what it is for.
    expectations:
        The type and the arguments of each expectation, in order.
    view:
        Which of :data:`VIEWS` a batch is looked at through, None for the batch itself.
    """

    name: str
    notes: str
    expectations: tuple[Mapping[str, Any], ...]
    view: str | None

    @property
    def version(self) -> str:
        """The content hash of what the suite expects; notes, ids and formatting do not count."""
        return digest({"name": self.name, "view": self.view, "expectations": list(self.expectations)})


def load_suite(expectations: Path, name: str) -> Suite:
    """Read one suite.

    Parameters
    ----------
    expectations:
        The folder of the Great Expectations project (``gx/`` lies inside).
    name:
        The suite's name, which is its file's.

    Raises
    ------
    ConfigurationError
        There is no such suite, or its file is not a suite that expects something.
    """
    path = expectations / SUITE_FOLDER / f"{parse_name(name, 'suite')}.json"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        known = ", ".join(suite_names(expectations)) or f"none in {path.parent}"
        raise ConfigurationError(f"there is no suite '{name}'", hint=f"there are: {known}") from None
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"suite '{name}' cannot be read: {error}", hint=f"mend {path}") from error
    try:
        found = tuple({"type": str(one["type"]), "kwargs": dict(one["kwargs"])} for one in content["expectations"])
        suite = Suite(
            str(content["name"]), str(content.get("notes") or ""), found, (content.get("meta") or {}).get("view")
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ConfigurationError(f"suite '{name}' is not a suite: {error!r}", hint=f"mend {path}") from error
    if suite.name != name or not suite.expectations:
        what = f"calls itself '{suite.name}'" if suite.name != name else "expects nothing, so it would pass anything"
        raise ConfigurationError(f"suite '{name}' {what}", hint=f"mend {path}")
    if suite.view is not None and suite.view not in VIEWS:
        raise ConfigurationError(
            f"suite '{name}' asks for the unknown view {suite.view!r}", hint=f"use {sorted(VIEWS)}"
        )
    return suite


def suite_names(expectations: Path) -> list[str]:
    """The names of all suites of a project, sorted."""
    return sorted(path.stem for path in (expectations / SUITE_FOLDER).glob("*.json"))


def feature_view(frame: pd.DataFrame) -> pd.DataFrame:
    """Sum the feature columns up, row by row, so that one suite serves every feature set.

    Returns
    -------
    ``ts`` and ``known_at`` as they are, and for each row: ``row_infinite``, how many features are infinite;
    ``share_started``, the share of the features that have had a finite value by this row; ``share_lapsed``, the share
    that had one in an earlier row and have none in this one. Each depends on rows up to its own only.

    Examples
    --------
    >>> frame = pd.DataFrame({"ts": [1, 2, 3], "a": [float("nan"), 1.0, 2.0], "b": [1.0, 2.0, float("nan")]})
    >>> feature_view(frame)["share_started"].tolist(), feature_view(frame)["share_lapsed"].tolist()
    ([0.5, 1.0, 1.0], [0.0, 0.0, 0.5])
    """
    names = [name for name in frame.columns if name not in _LEAD]
    values = frame[names].to_numpy(dtype=np.float32, na_value=np.nan)
    finite = np.isfinite(values)
    started = np.logical_or.accumulate(finite, axis=0)
    count = max(len(names), 1)
    return frame[[name for name in _LEAD if name in frame.columns]].assign(
        row_infinite=np.isinf(values).sum(axis=1),
        share_started=started.sum(axis=1) / count,
        share_lapsed=(started & ~finite).sum(axis=1) / count,
    )


VIEWS: Final[Mapping[str, Callable[[pd.DataFrame], pd.DataFrame]]] = {"features": feature_view}
"""What a suite may look at instead of the batch itself; a suite names one as ``view`` in its ``meta``."""
