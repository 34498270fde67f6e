"""Champion and challenger feature sets on disk: TOML files with their provenance, and the history of all selections."""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pandas as pd
from filelock import FileLock

from tapeline.core.errors import ConfigurationError
from tapeline.core.settings import Settings
from tapeline.core.versions import digest
from tapeline.features.feature_set import FeatureSet, load_feature_set
from tapeline.features.set_writer import feature_set_text, subset
from tapeline.models.feature_selection import ChampionSet, SelectionResult
from tapeline.models.tuning import MODEL_NAME

CHAMPION_FILE: Final = "champion.toml"
CHALLENGER_FILE: Final = "challenger.toml"
FORMER_FILE: Final = "former.toml"
HISTORY_FILE: Final = "history.jsonl"


@dataclass(frozen=True)
class Stored:
    """What a selection left behind: the challenger's version and file, and the champion's file after it, or None."""

    version: str
    challenger: Path | None
    champion: Path | None


class SelectionStore:
    """The feature sets that were selected for one model.

    Parameters
    ----------
    settings:
        The sets lie in ``data/_state/feature_sets/<model>/``.
    name:
        The registered model's name.
    """

    def __init__(self, settings: Settings, name: str) -> None:
        if not MODEL_NAME.fullmatch(name) or name in (".", ".."):
            raise ConfigurationError(f"model name {name!r} is not valid", hint="letters, digits, % _ . ~ - only")
        self.folder = settings.state_path / "feature_sets" / name
        self.name = name

    @property
    def champion_path(self) -> Path:
        """Where the champion lies once there is one: what ``feature_set`` of the settings may point at."""
        return self.folder / CHAMPION_FILE

    def champion(self) -> ChampionSet | None:
        """The set in force, or None; ConfigurationError where its file does not say what it was chosen on."""
        if not self.champion_path.is_file():
            return None
        chosen = load_feature_set(self.champion_path)
        provenance = tomllib.loads(self.champion_path.read_text("utf-8")).get("provenance", {})
        try:
            until = pd.Timestamp(provenance["selected_until"]).tz_convert("UTC")
        except (KeyError, TypeError, ValueError) as error:
            raise ConfigurationError(
                f"'{self.champion_path}' has no provenance.selected_until", hint="remove it, or select again"
            ) from error
        return ChampionSet(chosen.columns, until)

    def keep(self, result: SelectionResult, base: FeatureSet, *, provenance: Mapping[str, Any]) -> Stored:
        """Write the challenger, make it the champion where it was promoted, and add to the history.

        The former champion stays beside it. The same selection twice leaves the same bytes.
        """
        record = self._provenance(result, base, provenance)
        self.folder.mkdir(parents=True, exist_ok=True)
        with FileLock(self.folder / ".lock", timeout=60):
            challenger, version = None, ""
            if result.columns:
                chosen = subset(base, result.columns, name="selected")
                text = feature_set_text(chosen, description=result.reason, provenance=record)
                challenger, version = self.folder / CHALLENGER_FILE, chosen.version
                _write(challenger, text)
                if result.promoted:
                    if self.champion_path.is_file() and self.champion_path.read_text("utf-8") != text:
                        _write(self.folder / FORMER_FILE, self.champion_path.read_text("utf-8"))
                    _write(self.champion_path, text)
            self._remember({**record, "version": version, "columns": list(result.columns)})
        return Stored(version, challenger, self.champion_path if self.champion_path.is_file() else None)

    def restore(self) -> Path:
        """Make the former champion the champion again; the present one becomes the former."""
        former = self.folder / FORMER_FILE
        if not former.is_file():
            raise ConfigurationError(f"the model '{self.name}' has no former champion set")
        with FileLock(self.folder / ".lock", timeout=60):
            texts = former.read_text("utf-8"), self.champion_path.read_text("utf-8")
            _write(self.champion_path, texts[0])
            _write(former, texts[1])
        return self.champion_path

    def history(self) -> pd.DataFrame:
        """A row a selection, the oldest first."""
        path = self.folder / HISTORY_FILE
        lines = path.read_text("utf-8").splitlines() if path.is_file() else []
        return pd.DataFrame([json.loads(line) for line in lines])

    def _provenance(self, result: SelectionResult, base: FeatureSet, given: Mapping[str, Any]) -> dict[str, Any]:
        compared = result.comparison
        return {
            **given,
            "model": self.name,
            "base": base.version,
            "selector": result.selector,
            "promoted": result.promoted,
            "reason": result.reason,
            "selected_until": result.selected_until.isoformat(),
            **{f"rows_{key}": value for key, value in result.rows.items()},
            **(
                {"log_loss": compared.candidate, "incumbent_log_loss": compared.incumbent, "better": compared.better}
                if compared
                else {}
            ),
        }

    def _remember(self, record: Mapping[str, Any]) -> None:
        path = self.folder / HISTORY_FILE
        line = json.dumps({**record, "id": digest(record)}, sort_keys=True)
        before = path.read_text("utf-8") if path.is_file() else ""
        if line not in before.splitlines():
            _write(path, f"{before}{line}\n")


def _write(path: Path, text: str) -> None:
    """Whole or not at all."""
    scratch = path.with_suffix(f"{path.suffix}.new")
    with scratch.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    scratch.replace(path)
