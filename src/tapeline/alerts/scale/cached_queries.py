"""Questions of the API that cost the database much and whose answers many share, through the cache."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from sqlalchemy import select

from tapeline.alerts.scale.cache import Cache
from tapeline.alerts.store.metadata import counter
from tapeline.alerts.store.sql_store import SqlStore
from tapeline.alerts.store.store import ChannelCount, FiringQuery

COUNTS = "firing-counts"
DELIVERIES = "delivery-counts"


class CachedQueries:
    """Counts of firings, which the database gets by reading every row.

    The version of an answer is the number of the newest commit: one row is read to know it, and an answer from before
    a commit is never given after it. A clean-up removes firings without a commit; what it removes may be counted for
    as long as the cache keeps an answer, unless :meth:`cleaned_up` is called.

    Parameters
    ----------
    store:
        What is asked.
    cache:
        Of this process.
    """

    def __init__(self, store: SqlStore, cache: Cache) -> None:
        self._store, self._cache = store, cache

    def count_firings(self, query: FiringQuery | None = None) -> int:
        """How many firings match; see ``Store.count_firings``."""
        asked: dict[str, Any] = asdict(query) if query is not None else {}
        name = repr(sorted(asked.items()))
        return self._cache.get(COUNTS, name, self._newest(), lambda: self._store.count_firings(query))

    def delivery_counts(self) -> tuple[ChannelCount, ...]:
        """How many deliveries stand in which state; see ``Store.delivery_counts``.

        They change with every attempt, which nothing counts: so an answer is as old as the cache lets it be.
        """

        def ask() -> list[list[Any]]:
            return [[one.channel, one.state, one.count, one.oldest] for one in self._store.delivery_counts()]

        return tuple(ChannelCount(*one) for one in self._cache.get(DELIVERIES, "", 0, ask))

    def cleaned_up(self) -> None:
        """Firings were removed: forget every count, in all processes."""
        self._cache.forget(COUNTS)

    def _newest(self) -> int:
        statement = select(counter.c.value).where(counter.c.name == "commit")
        return int(self._store.database.read(lambda db: db.execute(statement).scalar()) or 0)
