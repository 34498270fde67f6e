"""HTTP to one bot: each request goes to addresses that were checked once, and tells whether it may have arrived."""

from __future__ import annotations

import json
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Final

from tapeline.alerts.delivery.pinned_http import EXCERPT, request
from tapeline.alerts.delivery.ssrf import Resolve, Target, TargetRules, check_target, resolve_host
from tapeline.core.errors import TemporaryError
from tapeline.monitoring.channels import seconds, within
from tapeline.monitoring.notification import clean_text

LARGEST_ANSWER: Final = 1 << 20
SHORTEST_TIMEOUT: Final = 0.05


@dataclass(frozen=True)
class BotAnswer:
    """What a bot answered. ``data`` is its JSON, None where it was none; ``excerpt`` is fit to be shown."""

    status: int
    data: Any
    excerpt: str
    retry_after: float | None = None

    @property
    def good(self) -> bool:
        """Whether it is a 2xx."""
        return 200 <= self.status < 300


class BotHttp:
    """Requests to one bot while one signal is sent.

    Parameters
    ----------
    url:
        Where the bot is; paths are put behind it.
    rules, resolve, context:
        Where it may go, see :func:`tapeline.alerts.delivery.ssrf.check_target`, and which certificates are trusted.
    left:
        Seconds that are left for the signal: no request may take longer.
    redact:
        Takes secrets out of what is shown.
    """

    def __init__(
        self,
        url: str,
        *,
        rules: TargetRules,
        resolve: Resolve = resolve_host,
        context: ssl.SSLContext | None = None,
        left: Callable[[], float],
        redact: Callable[[str], str] = str,
    ) -> None:
        self._url, self._rules, self._resolve, self._context = url, rules, resolve, context
        self._left, self._redact = left, redact

    @cached_property
    def target(self) -> Target:
        """The place that was checked.

        Raises
        ------
        ConfigurationError
            It may not be delivered to.
        TemporaryError
            Its name does not resolve now.
        """
        try:
            return within(self._seconds(), lambda: check_target(self._url, self._rules, self._resolve))
        except TimeoutError:
            raise TemporaryError("the host did not resolve in time") from None

    def ask(
        self, method: str, path: str = "", body: object = None, headers: Mapping[str, str] | None = None
    ) -> BotAnswer:
        """One request: ``body`` is sent as JSON, bytes as they are.

        Raises
        ------
        UnansweredError
            The request left and no whole answer came: it may have been acted on.
        TemporaryError
            Nothing left.
        """
        target = self.target
        place = replace(target, path=target.path.rstrip("/") + path) if path else target
        raw = b""
        if body is not None:
            raw = body if isinstance(body, bytes) else json.dumps(body, separators=(",", ":")).encode()
        kind = {"Content-Type": "application/json"} if raw else {}
        response = request(
            method,
            place,
            raw,
            {**kind, **(headers or {})},
            most=LARGEST_ANSWER,
            timeout=self._seconds(),
            context=self._context,
        )
        text = response.body.decode("utf-8", "replace")
        try:
            data = json.loads(text)
        except (ValueError, RecursionError):
            data = None
        excerpt = self._redact(" ".join(clean_text(text[: 4 * EXCERPT]).split())[:EXCERPT])
        return BotAnswer(response.status, data, excerpt, seconds(response.headers.get("retry-after")))

    def _seconds(self) -> float:
        return max(self._left(), SHORTEST_TIMEOUT)
