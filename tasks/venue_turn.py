"""Venue turns: runs that ask the same source take turns, whichever flow, process or machine they are in.

A source's own pacing holds inside one process. Two flows that ask the same exchange at once would each use the whole
of its allowance, so the question is asked under one of Prefect's global concurrency limits, one a source.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import GlobalConcurrencyLimitCreate
from prefect.concurrency.sync import concurrency
from prefect.context import TaskRunContext
from prefect.exceptions import ObjectAlreadyExists, ObjectNotFound, PrefectHTTPStatusError

TURNS: Final = 1
"""Runs that may ask one source at once, where nobody has set another number in Prefect."""
LOCAL: Final = ("sample", "files")
"""Sources that answer from this machine's own disk: they need no turns."""
_CONFLICT: Final = 409

_log: Final = logging.getLogger(__name__)


def limit_name(source: str) -> str | None:
    """The name of a source's limit, None where it needs none.

    Examples
    --------
    >>> limit_name("ccxt:binance"), limit_name("yahoo"), limit_name("files:/data/inbox")
    ('source-ccxt-binance', 'source-yahoo', None)
    """
    kind = source.partition(":")[0]
    return None if kind in LOCAL else "source-" + re.sub(r"[^a-z0-9]+", "-", source.casefold()).strip("-")


@contextmanager
def venue_turn(source: str) -> Iterator[None]:
    """Hold the source's turn during the block; wait for it as long as the task's own time limit allows.

    Outside a task run, where no server counts, the block simply runs.
    """
    name = limit_name(source)
    if name is None or TaskRunContext.get() is None:
        yield
        return
    ensure_limit(name)
    with concurrency(name, occupy=1):
        yield


def ensure_limit(name: str, turns: int = TURNS) -> None:
    """Create a global limit where there is none; one that a person has changed in Prefect stays as it is."""
    with get_client(sync_client=True) as client:
        try:
            client.read_global_concurrency_limit_by_name(name)
        except ObjectNotFound:
            try:
                client.create_global_concurrency_limit(GlobalConcurrencyLimitCreate(name=name, limit=turns))
            except ObjectAlreadyExists:
                _log.debug("another run made the limit %s first", name)
            except PrefectHTTPStatusError as error:
                if error.response.status_code != _CONFLICT:
                    raise
