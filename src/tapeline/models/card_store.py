"""Where model cards lie: with the run that trained the model, and as a file among the reports."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Final

from tapeline.core.errors import ConfigurationError, DataError
from tapeline.core.settings import Settings
from tapeline.core.whole_file import write_whole
from tapeline.evaluation.result import TrainingResult
from tapeline.models.bundle import Model
from tapeline.models.card_page import CARD_FILE, card_markdown, write_card_files
from tapeline.models.dataset import Dataset
from tapeline.models.model_card import ModelCard, make_card
from tapeline.models.registry import Registered, Registry
from tapeline.models.tracking import Tracking, open_tracking

FOLDER: Final = "card"


def keep_card(
    tracking: Tracking,
    run_id: str,
    result: TrainingResult,
    model: Model,
    development: Dataset,
    holdout: Dataset,
    *,
    settings: Settings,
    mean_block: float,
) -> TrainingResult:
    """Make the card of a training, store it with the run (``card/card.html``, ``card/card.json``) and as a report.

    Of paths and walks the run's metrics hold ``paths_<metric>_bad`` and ``_median``, and ``walk_<kind>_<metric>``.

    Returns
    -------
    The result, with the card's path and its text in short.
    """
    card = make_card(result, model, development, holdout, settings=settings, mean_block=mean_block)
    path = card_path(settings, result.name, result.model_version)
    with tempfile.TemporaryDirectory(prefix="tapeline-card-") as scratch:
        write_card_files(Path(scratch), card)
        tracking.log_folder(run_id, Path(scratch), FOLDER)
        tracking.log(run_id, metrics=_headline_metrics(card))
        write_whole(path, (Path(scratch) / CARD_FILE).read_bytes(), what="model card")
    return replace(result, card=str(path), card_text=card_markdown(card))


def fetch_card(settings: Settings, name: str, version: str | None = None) -> Path:
    """The card of a registered version, written anew from what its run keeps.

    Parameters
    ----------
    version:
        A number or an alias; where absent the champion, and where there is none the newest version.

    Raises
    ------
    ConfigurationError
        There is no such model or version.
    DataError
        Its run keeps no card.
    """
    from mlflow.exceptions import MlflowException

    tracking = open_tracking(settings)
    found = _version(Registry.open(settings, tracking), name, version)
    with tempfile.TemporaryDirectory(prefix="tapeline-card-") as scratch:
        try:
            kept = Path(tracking.client.download_artifacts(found.run_id, f"{FOLDER}/{CARD_FILE}", scratch))
            content = kept.read_bytes()
        except (MlflowException, OSError) as error:
            raise DataError(
                f"the run of {name} version {found.version} keeps no model card",
                hint="it was trained with card.write off, or before there were cards: train again",
            ) from error
    return write_whole(card_path(settings, name, found.version), content, what="model card")


def card_path(settings: Settings, name: str, version: str) -> Path:
    """Where a version's card lies among the reports."""
    return settings.reports_path / "cards" / f"{name}-{version}.html"


def _headline_metrics(card: ModelCard) -> dict[str, float]:
    found = {"holdout_outside_range": card.outside}
    if card.paths is not None:
        for row in card.paths.summary.to_dict("records"):
            found |= {f"paths_{row['metric']}_{part}": float(row[part]) for part in ("bad", "median")}
    for walk in card.walks:
        total = walk.total.iloc[0]
        found |= {f"walk_{walk.kind.split()[0]}_{name}": float(value) for name, value in total.items()}
    return found


def _version(registry: Registry, name: str, version: str | None) -> Registered:
    found = registry.find(name) if version is None else registry.find(name, version)
    if found is None and version is None:
        found = next(reversed(registry.versions(name)), None)
    if found is None:
        what = "version" if version is None else f"version or alias '{version}'"
        raise ConfigurationError(f"model '{name}' has no {what}", hint="tapeline models list NAME shows them")
    return found
