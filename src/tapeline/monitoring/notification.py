"""What is said to people: one notification, the digest of many, and the alert of one score."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from tapeline.core.errors import ConfigurationError, DataError
from tapeline.core.symbol import Symbol
from tapeline.core.versions import digest

if TYPE_CHECKING:
    # Only the alerts of scores need it: services that never make one do without its 70 MB.
    import pandas as pd

    from tapeline.core.timeframe import Timeframe

MAXIMUM_TITLE: Final = 200
MAXIMUM_BODY: Final = 20_000
MAXIMUM_NOTE: Final = 300
MAXIMUM_NOTES: Final = 8
MAXIMUM_KEY: Final = 400
MAXIMUM_LINK: Final = 2_000
DIGEST_LINES: Final = 20

# ANSI sequences, control characters other than tab and newline, and the marks that reverse the reading direction:
# none of them carries a message, all of them can forge one in a log or a chat.
_UNPRINTABLE: Final = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]|[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


class Severity(StrEnum):
    """How urgent a notification is, from ``info`` to ``critical``.

    Examples
    --------
    >>> max(Severity.WARNING, Severity.ERROR, key=lambda severity: severity.rank)
    <Severity.ERROR: 'error'>
    """

    INFO = "info"
    WARNING = "warning"
    ERROR = "error"
    CRITICAL = "critical"

    @property
    def rank(self) -> int:
        """0 for ``info`` to 3 for ``critical``."""
        return list(Severity).index(self)


@dataclass(frozen=True)
class Notification:
    """One message to people, as plain text; each channel escapes and shortens it for its own service.

    Parameters
    ----------
    title:
        One line; must hold a visible character.
    body:
        Plain text of any length; what exceeds a service's limit is cut and marked by an ellipsis.
    severity:
        Decides the icon, and which of two outranks the other in a digest.
    key:
        What makes two notifications the same: a second one with an equal key within the deduplication window is
        counted, not sent.
    link:
        An http or https address where the reader can see more, or None.
    error_type:
        The class name of the error behind it, or None.
    notes:
        Short lines below the body that are never cut away: a hint, a delay, a count.
    once:
        True where a key is never sent again, however long ago it was sent; else the deduplication window decides.

    Raises
    ------
    ConfigurationError
        An empty title or key, or a link that is not http or https.

    Examples
    --------
    >>> note = Notification("ingest failed", "no rows", Severity.ERROR, key="ingest", link="http://127.0.0.1:4200/runs/1")
    >>> Notification.from_json(note.to_json()) == note
    True
    """

    title: str
    body: str
    severity: Severity
    key: str
    link: str | None = None
    error_type: str | None = None
    notes: tuple[str, ...] = ()
    once: bool = False

    def __post_init__(self) -> None:
        title = " ".join(clean_text(self.title).split())
        if not title:
            raise ConfigurationError("a notification needs a title")
        if not self.key.strip():
            raise ConfigurationError(f"the notification {title!r} needs a key that says what makes two the same")
        # A key beyond the bound keeps a readable head; the digest of all of it keeps two long keys apart.
        key = self.key if len(self.key) <= MAXIMUM_KEY else f"{self.key[: MAXIMUM_KEY - 20]}...{digest(self.key)}"
        cleaned = (" ".join(clean_text(note).split()) for note in self.notes)
        notes = tuple(shorten(note, MAXIMUM_NOTE) for note in cleaned if note)[:MAXIMUM_NOTES]
        values = {
            "title": shorten(title, MAXIMUM_TITLE),
            "body": shorten(clean_text(self.body).strip(), MAXIMUM_BODY),
            "severity": Severity(self.severity),
            "key": key,
            "link": None if self.link is None else _checked_link(self.link),
            "notes": notes,
        }
        for name, value in values.items():
            object.__setattr__(self, name, value)

    def to_json(self) -> str:
        """The notification as one JSON text, as the outbox keeps it."""
        return json.dumps(asdict(self), ensure_ascii=True)

    @classmethod
    def from_json(cls, text: str) -> Notification:
        """Read :meth:`to_json` back."""
        fields: dict[str, Any] = json.loads(text)
        return cls(**{**fields, "severity": Severity(fields["severity"]), "notes": tuple(fields["notes"])})

    def with_notes(self, *notes: str) -> Notification:
        """The same notification with further notes below it."""
        return replace(self, notes=(*self.notes, *notes))


def digest_of(held: Sequence[Notification], since: datetime) -> Notification:
    """Many notifications that were held back, as one: how many of which title, the most urgent and frequent first.

    ``since`` is the instant from which they were held. Its severity is that of the most urgent one.

    Examples
    --------
    >>> held = [Notification("ingest failed", "", Severity.ERROR, key=str(i)) for i in range(3)]
    >>> print(digest_of(held, datetime(2026, 1, 2, 3, 4, tzinfo=UTC)).body)
    3 x ingest failed
    """
    ranks = {n.title: 0 for n in held}
    for notification in held:
        ranks[notification.title] = max(ranks[notification.title], notification.severity.rank)
    counts = Counter(n.title for n in held)
    order = sorted(counts, key=lambda title: (-ranks[title], -counts[title], title))
    lines = [f"{counts[title]} x {title}" for title in order[:DIGEST_LINES]]
    rest = order[DIGEST_LINES:]
    if rest:
        lines.append(f"and {sum(counts[title] for title in rest)} more of {len(rest)} other kinds")
    return Notification(
        title=f"{len(held)} notifications held back since {utc_text(since)}",
        body="\n".join(lines),
        severity=max((n.severity for n in held), key=lambda severity: severity.rank),
        key=digest(["digest", sorted(n.key for n in held)]),
    )


def score_alert(
    *,
    symbol: str,
    timeframe: str | Timeframe,
    ts: pd.Timestamp,
    side: int,
    confidence: float,
    probability: float,
    model: str,
    model_version: str,
    threshold: float | None = None,
    link: str | None = None,
) -> Notification:
    """The alert of one live score.

    Its key is made of the symbol, the timeframe, ``ts``, the model and its version and of nothing else, and the alert
    is marked ``once``: the same score never alerts twice, even after a restart.

    Parameters
    ----------
    ts:
        The bar's OPEN time, with a time zone. The message also names the close, from which the score was known.
    side:
        1 (long), -1 (short) or 0 (none).
    confidence, probability:
        Calibrated, from 0 to 1: of the side taken, and of the upper class.
    threshold:
        The bound that ``confidence`` passed; only shown.

    Raises
    ------
    DataError
        ``ts`` has no time zone, ``side`` is not -1, 0 or 1, or a probability does not lie in 0 to 1.

    Examples
    --------
    >>> import pandas as pd
    >>> alert = score_alert(symbol="EURUSD", timeframe="H1", ts=pd.Timestamp("2017-01-02 09:00", tz="UTC"), side=1,
    ...                     confidence=0.71, probability=0.71, model="direction", model_version="3")
    >>> alert.title, alert.key
    ('EURUSD H1: long, confidence 71.0 %', 'score/EURUSD/H1/2017-01-02T09:00:00+00:00/direction/3')
    """
    import pandas as pd

    from tapeline.core.timeframe import Timeframe

    name, frame = Symbol.parse(symbol), Timeframe.parse(timeframe)
    if pd.isna(ts) or ts.tzinfo is None:
        raise DataError(f"score_alert: ts {ts} of {name} has no time zone", hint="pass a UTC instant")
    if side not in (-1, 0, 1):
        raise DataError(f"score_alert: side {side!r} of {name} must be -1, 0 or 1")
    for what, value in (("confidence", confidence), ("probability", probability)):
        if not (math.isfinite(value) and 0 <= value <= 1):
            raise DataError(f"score_alert: {what} {value!r} of {name} at {ts} must lie in 0 to 1")
    opened = ts.tz_convert("UTC")
    word = {1: "long", -1: "short", 0: "no side"}[side]
    passed = "" if threshold is None else f", at or above the threshold {threshold:.1%}".replace("%", " %")
    return Notification(
        title=f"{name} {frame}: {word}, confidence {confidence * 100:.1f} %",
        body="\n".join(
            [
                f"bar {opened:%Y-%m-%d %H:%M} to {frame.close(opened):%Y-%m-%d %H:%M} UTC",
                f"probability of the upper class {probability * 100:.1f} %{passed}",
                f"model {model}, version {model_version}",
            ]
        ),
        severity=Severity.INFO,
        key=f"score/{name}/{frame}/{opened.isoformat()}/{model}/{model_version}",
        link=link,
        once=True,
    )


def score_alerts(
    scores: pd.DataFrame, *, symbol: str, timeframe: str | Timeframe, threshold: float, link: str | None = None
) -> list[Notification]:
    """The alerts of those rows of the ``scores`` table that take a side with a confidence at or above ``threshold``.

    ``scores`` is indexed by ``ts`` and has the columns ``probability``, ``side``, ``confidence``, ``model`` and
    ``model_version``. Pass only what is new: every row that qualifies makes one alert.

    Raises
    ------
    DataError
        A column is missing, or a qualifying row holds a value that :func:`score_alert` refuses.
    """
    import pandas as pd

    missing = {"probability", "side", "confidence", "model", "model_version"} - set(scores.columns)
    if missing:
        raise DataError(f"score_alerts: the scores lack the columns {sorted(missing)}")
    chosen = scores[(scores["confidence"] >= threshold) & (scores["side"] != 0)]
    return [
        score_alert(
            symbol=symbol,
            timeframe=timeframe,
            ts=pd.Timestamp(ts),
            side=int(row["side"]),
            confidence=float(row["confidence"]),
            probability=float(row["probability"]),
            model=str(row["model"]),
            model_version=str(row["model_version"]),
            threshold=threshold,
            link=link,
        )
        for ts, row in zip(chosen.index, _records(chosen), strict=True)
    ]


def clean_text(text: str) -> str:
    r"""Text without terminal sequences, control characters, direction marks and broken surrogates.

    Examples
    --------
    >>> clean_text("a\x1b[31mb\x00c\r\nd\ud800")
    'abc\nd\ufffd'
    """
    return _UNPRINTABLE.sub("", text).encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def shorten(text: str, limit: int) -> str:
    """The text, cut to ``limit`` UTF-16 units (as Telegram and Slack count) with an ellipsis where it is longer.

    Examples
    --------
    >>> shorten("abcdef", 4), shorten("🚨🚨", 3)
    ('abc…', '🚨…')
    """
    if utf16_length(text) <= limit:
        return text
    cut = text.encode("utf-16-le", "replace")[: 2 * max(limit - 1, 0)].decode("utf-16-le", "ignore")
    return f"{cut}…" if limit > 0 else ""


def utf16_length(text: str) -> int:
    """The length of a text in UTF-16 units: 2 for a character beyond the basic plane, such as most emoji.

    Examples
    --------
    >>> utf16_length("a🚨")
    3
    """
    return len(text.encode("utf-16-le", "replace")) // 2


def utc_text(instant: datetime) -> str:
    """An instant to the minute, in UTC.

    Examples
    --------
    >>> utc_text(datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC))
    '2026-01-02 03:04 UTC'
    """
    return f"{instant.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def _checked_link(link: str) -> str:
    try:
        parts = urlsplit(link)
    except ValueError:
        parts = None
    whole = parts is not None and parts.scheme in ("http", "https") and bool(parts.hostname)
    if not whole or len(link) > MAXIMUM_LINK or re.search(r"[\s<>\"|\x00-\x1f]", link):
        raise ConfigurationError(
            f"the link {shorten(link, 80)!r} of a notification is not an http or https address",
            hint=f"http:// or https://, without spaces, at most {MAXIMUM_LINK} characters",
        )
    return link


def _records(frame: pd.DataFrame) -> Iterator[dict[str, Any]]:
    rows: Iterable[dict[Any, Any]] = frame.to_dict("records")
    return iter(rows)
