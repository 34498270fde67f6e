"""Alerts that came in, as records for rules that name their sources.

What the desk made of an alert is a firing, and firings become visible in the order of their numbers: so they are the
log that is followed here, and the number of the last one that a symbol's rules read is journaled with its batch, as a
trade's is. What was journaled is not given again; what was not, is.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from sqlalchemy import Connection, func, select

from tapeline.alerts.bots.inbound_alert import RULE, VERSION, said_by
from tapeline.alerts.feeds.data_manager import DataManager
from tapeline.alerts.kinds.inbound import inbound_record
from tapeline.alerts.store.metadata import firing as told
from tapeline.alerts.store.sql_store import SqlStore
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
            count += sum(map(self._give, found))
            if len(found) < _PAGE:
                self._place, self._since = max(self._place, newest), None
                return count
            self._place = found[-1].number

    def _read(self, db: Connection) -> tuple[int, Sequence[Any]]:
        newest = db.execute(select(func.coalesce(func.max(told.c.number), 0))).scalar_one()
        if newest <= self._place:
            return newest, []
        wanted = [told.c.number > self._place, told.c.rule.startswith(RULE), told.c.rule_version == VERSION]
        if self._since is not None:
            wanted += [told.c.ts >= self._since - _EARLIER, told.c.detected_at >= self._since]
        statement = _TOLD.where(*wanted).order_by(told.c.number).limit(_PAGE)
        return newest, db.execute(statement).all()

    def _give(self, found: Any) -> bool:
        if found.number <= self._journaled.get(f"{NAME}:{found.symbol}", 0):
            return False
        labels = json.loads(found.labels)
        said = said_by(labels.get("action"), labels.get("position"))
        one = inbound_record(found.detected_at, found.symbol, found.owner, labels.get("source", ""), said)
        self._manager.value(one.symbol, one.key, one.ts, one.value, event=True, sequence=found.number, source=NAME)
        return True


_TOLD: Final = select(told.c.number, told.c.symbol, told.c.owner, told.c.detected_at, told.c.labels)
