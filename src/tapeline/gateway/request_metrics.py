"""What the API counts of itself, for Prometheus."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

_BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
_METHODS: Final = frozenset({"GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"})


class RequestMetrics:
    """Requests by route, method and status, and how long they took.

    Labels come from the routes, never from what was sent: their number is bounded.

    Examples
    --------
    >>> metrics = RequestMetrics()
    >>> metrics.observe("/v1/rules", "GET", 200, 0.004)
    >>> "tapeline_gateway_request_seconds_count" in metrics.exposition().decode()
    True
    """

    def __init__(self) -> None:
        from prometheus_client import CollectorRegistry, Counter, Histogram

        self.registry: CollectorRegistry = CollectorRegistry()
        self._seconds = Histogram(
            "tapeline_gateway_request_seconds",
            "From the first byte of a request to the last of its answer",
            ["route", "method"],
            buckets=_BUCKETS,
            registry=self.registry,
        )
        self._requests = Counter(
            "tapeline_gateway_requests", "Requests answered", ["route", "method", "status"], registry=self.registry
        )

    def observe(self, route: str, method: str, status: int, seconds: float) -> None:
        """Count one request."""
        method = method if method in _METHODS else "other"
        self._seconds.labels(route, method).observe(seconds)
        self._requests.labels(route, method, str(status)).inc()

    def exposition(self) -> bytes:
        """All of it, in Prometheus's text format."""
        from prometheus_client import generate_latest

        return generate_latest(self.registry)
