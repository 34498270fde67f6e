"""What is in force, for shards and feeds: rules, symbols, routes, silences; looked at in a thread of its own."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, Protocol

from tapeline.alerts.engine_changes import EngineChanges
from tapeline.alerts.records import Silence
from tapeline.alerts.routing import Route
from tapeline.alerts.rule import Rule

_log = logging.getLogger(__name__)


class InForce(NamedTuple):
    """All at one look.

    ``generation`` rises where rules, symbols or owners changed; ``seen`` is the number of the newest acknowledgement;
    ``suspended`` are the owners of whose rules nothing is told.
    """

    generation: int
    rules: Sequence[Rule]
    symbols: Sequence[str]
    routes: Mapping[tuple[str, str], Route]
    silences: Mapping[str, Silence]
    seen: int = 0
    suspended: frozenset[str] = frozenset()


class Supply(Protocol):
    """Where it comes from."""

    def read(self) -> InForce:
        """What is in force now.

        Raises
        ------
        TemporaryError
            The database does not answer.
        """
        ...


class ChangedSupply:
    """The rules of files and database, with all that belongs to them.

    Parameters
    ----------
    changes:
        Reads them.
    newest:
        Gives the number of the newest acknowledgement.
    """

    def __init__(self, changes: EngineChanges, newest: Callable[[], int]) -> None:
        self._changes, self._newest = changes, newest
        self._generation = 0

    def read(self) -> InForce:
        """What is in force now."""
        changes = self._changes
        if not self._generation:
            changes.symbols()
            self._generation = 1
        else:
            changes.look()
            self._generation += changes.pass_over()
        newest = self._newest()
        return InForce(
            self._generation,
            changes.rules,
            changes.followed,
            changes.routes,
            changes.silences,
            newest,
            changes.suspended,
        )


class Watch:
    """A thread that looks, again and again; :attr:`found` is what it saw last.

    Parameters
    ----------
    every:
        Seconds between two looks.
    """

    def __init__(self, supply: Supply, every: float) -> None:
        self._supply, self._every = supply, every
        # The first look may fail: then there is nothing to begin with.
        self.found = supply.read()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="tapeline-alert-supply", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Look no more."""
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopping.wait(self._every):
            try:
                self.found = self._supply.read()
            except Exception as error:  # noqa: BLE001 - what stood goes on, whatever it is that cannot be read
                _log.error("what is in force was not changed: %s", error)
