"""A process among the others: it says that it lives, and sees who else does; in a thread that nothing holds up."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Final

from tapeline.alerts.scale.shard_leases import ShardLeases, View
from tapeline.core.errors import TemporaryError

_log = logging.getLogger(__name__)
LOOKS: Final = 6
"""Looks in the time of a lease: several may fail before it has run out."""
LONGEST_LOOK: Final = 1.0


class Membership:
    """Renews the lease and looks, several times in the time of a lease.

    Parameters
    ----------
    leases:
        Of this instance.
    on_view:
        Called in the thread with each view: takes shards and lets them go.
    healthy:
        Asked before each renewal: a process whose work hangs must not seem alive. Where it is not, the lease runs out.
    """

    def __init__(
        self, leases: ShardLeases, on_view: Callable[[View], None], healthy: Callable[[], bool] = lambda: True
    ) -> None:
        self.leases, self.view = leases, View((), {})
        self.problem: BaseException | None = None
        self._on_view, self._healthy = on_view, healthy
        self._every = min(leases.lease_seconds / LOOKS, LONGEST_LOOK)
        self._looked = self._calm_until = float("-inf")
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="tapeline-alert-membership", daemon=True)

    def start(self) -> None:
        """Join."""
        self._thread.start()

    def stop(self, *, leave: bool = True) -> None:
        """Look no more; with ``leave`` the others need not wait for the lease to run out."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()
        if leave:
            try:
                self.leases.leave()
            except TemporaryError as error:
                _log.warning("leaving takes as long as the lease: %s", error)

    def _run(self) -> None:
        try:
            while not self._stopping.is_set():
                begun = time.monotonic()
                if self._healthy():
                    self._look()
                else:
                    _log.error("the lease is not renewed: the work of this process hangs")
                self._stopping.wait(max(self._every - (time.monotonic() - begun), 0.01))
        except Exception as error:  # noqa: BLE001 - whatever it is, the process must not go on as if it were a member
            _log.exception("this process is no member any more")
            self.problem = error

    def _look(self) -> None:
        try:
            self.view = self.leases.look()
            now = time.monotonic()
            if self._looked > float("-inf") and now - self._looked > self.leases.lease_seconds:
                # The database was away, or we were: the others have not renewed either, and are not dead for that.
                self._calm_until = now + self.leases.lease_seconds / 2
            self._looked = now
            if now >= self._calm_until:
                self._on_view(self.view)
        except TemporaryError as error:
            # Who cannot renew loses what he has to the others; what he then still writes is refused.
            _log.warning("the lease is not renewed for now: %s", error)
