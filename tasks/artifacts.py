"""Artifacts: the tables, texts and progress that Prefect's pages show of each stage. None of them fails a run."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final
from uuid import UUID

from prefect.artifacts import (
    create_link_artifact,
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)
from prefect.context import FlowRunContext, TaskRunContext

from tasks.job import StageResult

_log: Final = logging.getLogger(__name__)


class Progress:
    """A bar on the run's page; each step is shown once it is a whole percent further.

    Parameters
    ----------
    key:
        What the artifact is called on the page of artifacts.
    description:
        What is under way.
    """

    def __init__(self, key: str, description: str) -> None:
        self._shown = 0
        self._id = _harmless(
            lambda: create_progress_artifact(progress=0.0, key=artifact_key(key), description=description)
        )

    def __call__(self, share: float) -> None:
        """Show that this share (0 to 1) is done."""
        percent = int(100 * min(max(share, 0.0), 1.0))
        if self._id is None or percent == self._shown:
            return
        self._shown = percent
        _harmless(lambda: update_progress_artifact(artifact_id=UUID(str(self._id)), progress=float(percent)))


def show_table(key: str, rows: Sequence[Mapping[str, Any]], description: str) -> None:
    """Show rows as a table; nothing where there is none."""
    if rows:
        _harmless(
            lambda: create_table_artifact([dict(row) for row in rows], key=artifact_key(key), description=description)
        )


def show_markdown(key: str, text: str, description: str) -> None:
    """Show a Markdown text."""
    _harmless(lambda: create_markdown_artifact(text, key=artifact_key(key), description=description))


def show_link(key: str, link: str, text: str) -> None:
    """Show a link."""
    _harmless(lambda: create_link_artifact(link, key=artifact_key(key), link_text=text))


def show_stage(stage: str, results: Sequence[StageResult]) -> None:
    """Show what a stage did, a row a series."""
    rows = [
        {
            "stage": result.stage,
            "series": result.job.name,
            "rows in": result.rows_in,
            "rows out": result.rows_out,
            "quarantined": result.quarantined,
            "reasons": ", ".join(f"{name}: {count}" for name, count in result.reasons.items()),
            "checks": ", ".join(f"{c.check} {'passed' if c.passed else 'refused'}" for c in result.checks),
            "version": result.version,
            "notes": "; ".join(result.notes),
        }
        for result in results
    ]
    show_table(f"stage-{stage}", rows, f"What the stage '{stage}' did")


def artifact_key(text: str) -> str:
    """A text as Prefect takes it for a key: lower-case letters, digits and dashes.

    Examples
    --------
    >>> artifact_key("backfill BTC/USDT M1")
    'backfill-btc-usdt-m1'
    """
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") or "artifact"


def _harmless(show: Callable[[], Any]) -> Any:
    if FlowRunContext.get() is None and TaskRunContext.get() is None:
        # A task's function called plainly, as in a notebook, has no page to show anything on.
        return None
    try:
        return show()
    except Exception as error:  # noqa: BLE001 - a page that cannot be drawn is no reason to fail the work
        _log.warning("an artifact could not be shown: %s: %s", type(error).__name__, error)
        return None
