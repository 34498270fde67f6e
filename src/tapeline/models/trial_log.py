"""Every trial in MLflow: a run of its own below the training run, written in one batch."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Final, Self

from tapeline.models.ledger import STUDY_TAG, record_trials
from tapeline.models.tracking import TAG, Tracking
from tapeline.models.trial import TrialRecord

SLOT_TAG: Final = f"{TAG}trial"
FAMILY_TAG: Final = f"{TAG}family"
STATE_TAG: Final = f"{TAG}trial_state"
_PAGE: Final = 1000


class TrialLog:
    """Writes finished trials below a training run, each once, and counts them in the ledger.

    A trial becomes one run with its parameters, the log loss of each fold (``fold_log_loss``, a step a fold), the
    loss of all (``log_loss``; of a pruned one of the folds it reached), ``sharpe``, ``trades`` and ``seconds``, written
    by one ``log_batch``. Where a search is resumed, what an earlier run wrote stays below that run and is not
    repeated, and what it could not write any more is added.

    Use it as a context manager: a thread does the writing, most of which is waiting for a disk or a server, while the
    next trial is fitted already. What it could not write is raised by the next call, or at the end.

    Parameters
    ----------
    tracking:
        The open store.
    run_id:
        The training run.
    study:
        The study's name.
    """

    def __init__(self, tracking: Tracking, run_id: str, study: str) -> None:
        self._tracking = tracking
        self._run_id = run_id
        self._study = study
        self._logged = logged_slots(tracking, study)
        self._seen: set[int] = set()
        self._counted = 0
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="trial-log")
        self._written: list[Future[None]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._written.append(self._thread.submit(self._count))
        self._thread.shutdown(wait=True)
        if error is None:
            self._raise()

    def __call__(self, record: TrialRecord) -> None:
        """Have one finished trial written."""
        self._raise()
        self._written.append(self._thread.submit(self._write, record))

    def flush(self) -> None:
        """Wait until everything is written; raise what could not be."""
        for future in self._written:
            future.result()

    def _raise(self) -> None:
        waiting = [future for future in self._written if not future.done()]
        for future in self._written:
            if future.done():
                future.result()
        self._written = waiting

    def _write(self, record: TrialRecord) -> None:
        self._seen.add(record.slot)
        if record.slot not in self._logged:
            tags = {
                STUDY_TAG: self._study,
                SLOT_TAG: str(record.slot),
                FAMILY_TAG: record.family,
                STATE_TAG: record.state,
            }
            child = self._tracking.child(self._run_id, f"trial {record.slot + 1}", tags)
            self._tracking.log(
                child,
                parameters=record.parameters,
                metrics={
                    "log_loss": record.value,
                    "sharpe": record.sharpe,
                    "trades": record.trades,
                    "seconds": record.seconds,
                },
                series={"fold_log_loss": record.losses},
            )
            self._tracking.end(child)
            self._logged.add(record.slot)
            self._count()

    def _count(self) -> None:
        if len(self._seen) != self._counted:
            record_trials(self._tracking, self._run_id, self._study, len(self._seen))
            self._counted = len(self._seen)


def logged_slots(tracking: Tracking, study: str) -> set[int]:
    """The slots of a study that have a finished run already; a run that a kill left open is written again."""
    slots: set[int] = set()
    token: str | None = None
    while True:
        page = tracking.client.search_runs(
            [tracking.experiment_id],
            filter_string=f"tags.`{STUDY_TAG}` = '{study}' AND tags.`{SLOT_TAG}` LIKE '%' "
            "AND attributes.status = 'FINISHED'",
            max_results=_PAGE,
            page_token=token,
        )
        slots |= {int(run.data.tags[SLOT_TAG]) for run in page}
        token = page.token
        if not token:
            return slots
