"""Answers that the API's workers share, where the settings name a Redis; without one each question is asked."""

from __future__ import annotations

from typing import Final

from tapeline.alerts.scale.cache import Cache
from tapeline.alerts.scale.cached_queries import CachedQueries
from tapeline.alerts.scale.redis_connection import redis_connection
from tapeline.alerts.store.store import ChannelCount
from tapeline.gateway.context import GatewayContext

SECONDS: Final = 2.0
"""How old an answer may be: metrics are read every few seconds by several."""


class SharedAnswers:
    """What the API asks of the database through the cache; part of the context, which closes it."""

    def __init__(self, context: GatewayContext) -> None:
        self._store = context.store
        self._cached: CachedQueries | None = None
        self._client = None
        redis = context.settings.alerts.scale.redis
        if redis is not None:
            self._client = redis_connection(redis.get_secret_value(), answer_seconds=0.5, retries=0)
            self._cached = CachedQueries(context.store, Cache(self._client, seconds=SECONDS))

    def delivery_counts(self) -> tuple[ChannelCount, ...]:
        """How many deliveries stand in which state."""
        return self._store.delivery_counts() if self._cached is None else self._cached.delivery_counts()

    def close(self) -> None:
        """Close the connection."""
        if self._client is not None:
            self._client.close()
