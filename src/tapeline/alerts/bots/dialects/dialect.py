"""One interface to every kind of bot, and what became of a try."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol

from tapeline.alerts.bots.acknowledgement import Acknowledgement
from tapeline.alerts.bots.bot_http import BotAnswer, BotHttp
from tapeline.alerts.bots.bot_settings import BotSettings
from tapeline.alerts.bots.signal import Signal

BUSY = frozenset({408, 425, 429, 500, 502, 503, 504})
"""Statuses after which the same request may succeed."""


@dataclass(frozen=True)
class Bot:
    """One bot: ``secrets`` sign requests, the newest first; ``credentials`` are user and password or tokens."""

    id: str
    settings: BotSettings
    secrets: tuple[str, ...] = ()
    credentials: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Reply:
    """What became of one try.

    Parameters
    ----------
    outcome:
        ``sent``; ``retry``: try again while the signal is valid; ``refused``: trying again gives the same; ``gone``:
        the bot asked to be left alone.
    detail:
        Why, in one line.
    retry_after:
        Seconds that were asked for.
    acknowledgement:
        What the bot said of the signal with its answer, where it did.
    """

    outcome: Literal["sent", "retry", "refused", "gone"]
    status: int = 0
    detail: str = ""
    retry_after: float | None = None
    acknowledgement: Acknowledgement | None = None


class BotDialect(Protocol):
    """A kind of bot. Called from several threads, for one bot from one at a time."""

    @property
    def recognises(self) -> bool:
        """Whether a repeat of what may have been acted on does no harm: the bot knows it, or is asked first."""
        ...

    def check(self, bot: Bot) -> None:
        """Refuse settings or credentials that could not work, before they are kept.

        Raises
        ------
        ConfigurationError
            Something is missing or has another form.
        """
        ...

    def send(self, signal: Signal, body: bytes, bot: Bot, http: BotHttp, *, now: int, repeat: bool) -> Reply:
        """Send a signal once.

        Parameters
        ----------
        body:
            The signal's JSON, the same on every try.
        now:
            Nanoseconds since 1970.
        repeat:
            Whether an earlier try may have been acted on.

        Raises
        ------
        UnansweredError, TemporaryError
            As :meth:`BotHttp.ask`.
        """
        ...


def said_no(answer: BotAnswer, what: str = "") -> Reply:
    """The reply for an answer that is no success: busy ones are tried again, all else is final."""
    detail = f"HTTP {answer.status}: {what or answer.excerpt}".rstrip(": ")
    if answer.status in BUSY:
        return Reply("retry", answer.status, detail, answer.retry_after)
    return Reply("refused", answer.status, detail)


def rejected(why: str, status: int = 0) -> Reply:
    """The reply for a signal that this bot cannot take: the try is over, and the signal counts as rejected."""
    return Reply("refused", status, why, acknowledgement=Acknowledgement("rejected", note=why))
