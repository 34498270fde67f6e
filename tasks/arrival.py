"""Arrivals: new bars in the raw zone are announced to Prefect, whose automations start what depends on them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from prefect.events import emit_event

from tasks.job import StageResult

EVENT: Final = "tapeline.bars.arrived"
RESOURCE: Final = "tapeline.lake.raw.bars"


def arrivals(results: Sequence[StageResult]) -> dict[str, Any] | None:
    """What to announce of some results of ingest or backfill: the series with new rows; None where there are none."""
    brought = [result for result in results if result.rows_out and not result.job.context]
    if not brought:
        return None
    first = brought[0].job
    return {
        "source": first.source,
        "symbols": sorted({str(result.job.symbol) for result in brought}),
        "timeframe": str(first.timeframe),
        "rows": sum(result.rows_out for result in brought),
        "run_id": first.run_id,
    }


def announce(results: Sequence[StageResult]) -> dict[str, Any] | None:
    """Emit one event for a run that brought bars; returns what it says, None where there was nothing to say.

    ``prefect.yaml`` names the event as the trigger of the deployment that rebuilds what depends on raw bars.
    """
    payload = arrivals(results)
    if payload is not None:
        resource = {"prefect.resource.id": RESOURCE, "prefect.resource.name": "raw bars"}
        emit_event(event=EVENT, resource=resource, payload=payload)
    return payload
