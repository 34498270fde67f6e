"""How often an engine does what it does beside its batches."""

from __future__ import annotations

from dataclasses import dataclass, field

from tapeline.alerts.engine_changes import ChangeOptions
from tapeline.alerts.feeds.batcher import BatcherOptions
from tapeline.alerts.feeds.data_manager import ManagerOptions


@dataclass(frozen=True)
class EngineOptions:
    """How often the engine does what it does beside its batches; all in seconds.

    Parameters
    ----------
    look:
        Between two looks for changed rules, silences and acknowledgements.
    snapshot:
        Between two snapshots of kernel and processor.
    journal:
        Between two flushes of the tick journal. What a crash takes of it the sources give again.
    gather:
        For which the store's writer gathers commits.
    pause:
        Before a source that failed is run again, doubled with each failure up to a minute.
    beat:
        Between two reports of the engine in the database.
    """

    look: float = 1.0
    snapshot: float = 5.0
    journal: float = 0.25
    gather: float = 0.002
    pause: float = 1.0
    beat: float = 2.0
    changes: ChangeOptions = field(default_factory=ChangeOptions)
    batcher: BatcherOptions = field(default_factory=BatcherOptions)
    manager: ManagerOptions = field(default_factory=ManagerOptions)
