"""What runs show on Prefect's pages, as a test of a flow sees it on the server that all share."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any


class Shown:
    """The artifacts of the runs that were started while this was open, newest first."""

    def __init__(self) -> None:
        self.all: list[Any] = []

    def of(self, kind: str, key: str | None = None) -> list[Any]:
        """The data of those of a kind (``table``, ``markdown``, ``progress``), under one key where one is given."""
        held = [each for each in self.all if each.type == kind and key in (None, each.key)]
        return [json.loads(each.data) if kind == "table" and isinstance(each.data, str) else each.data for each in held]

    def keys(self, kind: str) -> set[str]:
        """The keys of those of a kind."""
        return {str(each.key) for each in self.all if each.type == kind}


@contextmanager
def artifacts_shown(flow: str) -> Iterator[Shown]:
    """Collect what the runs of a flow, by its name, show that begin inside; there on leaving."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import (
        ArtifactFilter,
        ArtifactFilterFlowRunId,
        FlowFilter,
        FlowFilterName,
        FlowRunFilter,
        FlowRunFilterStartTime,
    )

    shown, began = Shown(), datetime.now(UTC)
    yield shown
    with get_client(sync_client=True) as client:
        runs = client.read_flow_runs(
            flow_filter=FlowFilter(name=FlowFilterName(any_=[flow])),
            flow_run_filter=FlowRunFilter(start_time=FlowRunFilterStartTime(after_=began)),
        )
        assert runs, f"no run of {flow} began"
        wanted = ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[run.id for run in runs]))
        shown.all = client.read_artifacts(artifact_filter=wanted)
