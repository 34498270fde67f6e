"""Alerts that came in, as records for rules that name their sources.

What the desk made of an alert is a firing, and firings become visible in the order of their numbers: so they are the
log that is followed here, and the number of the last one that a symbol's rules read is journaled with its batch, as a
trade's is. What was journaled is not given again; what was not, is.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from typing import Final

from sqlalchemy import Connection, func, select

from tapeline.alerts.bots.inbound_alert import RULE, VERSION, said_by
from tapeline.alerts.feeds.data_manager import DataManager
from tapeline.alerts.firing import Firing
from tapeline.alerts.kinds.inbound import inbound_record
from tapeline.alerts.store import queries, rows
from tapeline.alerts.store.metadata import firing as told
from tapeline.alerts.store.sql_store import SqlStore
from tapeline.alerts.store.store import StoredFiring
from tapeline.core.errors import TapelineError
from tapeline.core.nanoseconds import SECOND

NAME: Final = "inbound"
EVERY: Final = 0.05
RESUMED: Final = 60 * SECOND
"""How long ago, at a start, an alert may have come in that nobody has journaled: what is older, no rule waits for."""
_EARLIER: Final = 300 * SECOND
"""How far an alert's own time, by which firings are ordered, may lie before the time at which it came in."""
_PAGE: Final = 500
_log: Final = logging.getLogger(__name__)


class InboundFeed:
    """Gives what came in to the rules, as one of the engine's sources.

    Parameters
    ----------
    store:
        Where the desk writes what it takes.
    manager:
        Takes the records.
    positions:
        What was journaled, by source and symbol.
    clock:
        Nanoseconds since 1970.
    every:
        Seconds between two looks.
    """

    def __init__(
        self,
        store: SqlStore,
        manager: DataManager,
        positions: Mapping[str, int],
        *,
        clock: Callable[[], int] = time.time_ns,
        every: float = EVERY,
    ) -> None:
        self._database, self._manager, self._clock, self._every = store.database, manager, clock, every
        self._journaled, self._place = positions, 0
        self._since: int | None = clock() - RESUMED
        self._stopping = asyncio.Event()

    async def run(self) -> None:
        """Look until :meth:`stop`."""
        while not self._stopping.is_set():
            try:
                await asyncio.to_thread(self.look)
            except TapelineError as error:
                _log.warning("alerts that came in cannot be read for now: %s", error)
            try:
                async with asyncio.timeout(self._every):
                    await self._stopping.wait()
            except TimeoutError:
                pass

    def stop(self) -> None:
        """Let :meth:`run` return."""
        self._stopping.set()

    def look(self) -> int:
        """Give what came in since the last look, in the caller's thread; how many."""
        count = 0
        while True:
            newest, found = self._database.read(self._read)
            count += sum(self._give(one.number, one.firing) for one in found)
            if len(found) < _PAGE:
                self._place, self._since = max(self._place, newest), None
                return count
            self._place = found[-1].number

    def _read(self, db: Connection) -> tuple[int, list[StoredFiring]]:
        newest = db.execute(select(func.coalesce(func.max(told.c.number), 0))).scalar_one()
        if newest <= self._place:
            return newest, []
        wanted = [told.c.number > self._place, told.c.rule.startswith(RULE), told.c.rule_version == VERSION]
        if self._since is not None:
            wanted += [told.c.ts >= self._since - _EARLIER, told.c.detected_at >= self._since]
        statement = queries.firings().where(*wanted).order_by(told.c.number).limit(_PAGE)
        return newest, [rows.firing_of(row) for row in db.execute(statement).mappings()]

    def _give(self, number: int, firing: Firing) -> bool:
        if number <= self._journaled.get(f"{NAME}:{firing.symbol}", 0):
            return False
        said = said_by(firing.labels.get("action"), firing.labels.get("position"))
        source = firing.labels.get("source", "")
        record = inbound_record(firing.detected_at, firing.symbol, firing.owner, source, said)
        self._manager.value(
            record.symbol, record.key, record.ts, record.value, event=True, sequence=number, source=NAME
        )
        return True
