"""The clock check: how far this machine's clock is from those it depends on, measured, stored, drawn and told."""

from __future__ import annotations

from prefect import flow
from prefect.runtime import flow_run

from flows.hooks import HOOKS, open_notifier
from tapeline.console import print_table
from tapeline.core.settings import load_settings
from tasks.clock import ClockReport, check_clocks

MAXIMUM_SECONDS = 480
"""A check ends before the next one begins, whatever its references do."""


@flow(name="clock", persist_result=False, timeout_seconds=MAXIMUM_SECONDS, **HOOKS)
def clock() -> ClockReport:
    """Measure the references of ``clock.references`` and tell those that are surely off by more than the threshold.

    Every measurement is stored in ``audit/clock``; a broker's measured zone is kept for the MetaTrader source. A
    reference that does not answer is named; only if none does the run fails.
    """
    report = check_clocks(open_notifier(load_settings()), flow_run.get_id() or "local")
    shown = report.table.drop(columns="problem").reset_index()
    print_table("Reference time less local time", shown.round(3))
    return report
