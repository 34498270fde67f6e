"""A rule as people keep it: what it watches, when it fires, and who is told. Checked once, here."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, time, timedelta
from typing import Annotated, Any, Final, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator, model_validator

from tapeline.alerts.signal_intent import SignalIntent
from tapeline.alerts.timeframes import TIMEFRAMES
from tapeline.core.errors import ConfigurationError
from tapeline.core.symbol import Symbol
from tapeline.core.versions import digest

Frequency = Literal["every_time", "once", "once_per_bar", "once_per_bar_close"]
NoData = Literal["ok", "alerting", "nodata", "keep_last"]
Priority = Literal["low", "normal", "high", "critical"]
Kind = Literal["price", "volume", "technical", "pattern", "sentiment", "portfolio", "mixed"]
PRIORITIES: Final[tuple[Priority, ...]] = ("low", "normal", "high", "critical")
TIMEFRAME_NAMES: Final = tuple(TIMEFRAMES)
MOST_SYMBOLS: Final = 100_000
LONGEST_TEMPLATE: Final = 4_000

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.:-]{0,63}$")]
"""An id: of a rule, an owner, a channel, a group."""
Line = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]+$")]
"""One line of text without control characters."""


def _zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(f"time zone {name!r} is unknown; use an IANA name such as Europe/Berlin") from None
    return name


def _symbol(text: str) -> str:
    try:
        return "*" if text == "*" else str(Symbol.parse(text))
    except ConfigurationError as error:
        # As every other field: an error of ours would pass the model by and lose its place.
        raise ValueError(str(error)) from None


Zone = Annotated[str, Field(max_length=64, pattern=r"^[A-Za-z][A-Za-z0-9_+/-]*$"), AfterValidator(_zone)]
SymbolName = Annotated[str, AfterValidator(_symbol)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Hours(_Part):
    """A span of the day on some days of the week, in a time zone; one that ends before it begins passes midnight."""

    begin: time
    end: time
    days: frozenset[Annotated[int, Field(ge=0, le=6)]] = Field(frozenset(range(7)), min_length=1)
    zone: Zone = "UTC"

    def holds(self, instant: datetime) -> bool:
        """Whether an instant lies in it. The day is the one on which the span began.

        Examples
        --------
        >>> from datetime import UTC
        >>> night = Hours(begin=time(22), end=time(6), days={4})
        >>> [night.holds(datetime(2026, 1, day, 2, tzinfo=UTC)) for day in (2, 3)]
        [False, True]
        """
        local = instant.astimezone(ZoneInfo(self.zone))
        clock = local.time().replace(tzinfo=None)
        if self.begin < self.end:
            return self.begin <= clock < self.end and local.weekday() in self.days
        if clock >= self.begin:
            return local.weekday() in self.days
        return clock < self.end and (local.weekday() - 1) % 7 in self.days

    def ends(self, instant: datetime) -> datetime:
        """When the span that holds at an instant ends: the first instant after it at which the span does not hold.

        Examples
        --------
        >>> from datetime import UTC
        >>> night = Hours(begin=time(22), end=time(2, 30), zone="Europe/Berlin")
        >>> night.ends(datetime(2026, 3, 28, 23, tzinfo=UTC)).isoformat()  # no 02:30 on that day: 02:00 is 03:00
        '2026-03-29T01:00:00+00:00'
        """
        local = instant.astimezone(ZoneInfo(self.zone))
        day = local.date()
        if self.begin >= self.end and local.time().replace(tzinfo=None) >= self.begin:
            day += timedelta(days=1)
        return self._at(day, self.end, after=instant)

    def opens(self, instant: datetime) -> datetime:
        """When the next span begins after an instant."""
        zone = ZoneInfo(self.zone)
        day = instant.astimezone(zone).date()
        days = (day + timedelta(days=number) for number in range(9))
        begins = (self._at(one, self.begin, after=instant) for one in days if one.weekday() in self.days)
        return next(begin for begin in begins if begin > instant)

    def _at(self, day: date, clock: time, after: datetime) -> datetime:
        """When the clock of the zone shows a time on a day.

        Where it jumps over it: at the jump. Where it shows it twice: the first one after ``after``.
        """
        zone = ZoneInfo(self.zone)
        early, late = (datetime.combine(day, clock.replace(fold=fold), zone).astimezone(UTC) for fold in (0, 1))
        if early <= late:
            return early if early > after or late <= after else late
        # In the hour that is left out the two readings are turned round and the jump lies between them.
        low, high = late, early
        while high - low > timedelta(seconds=1):
            middle = low + (high - low) // 2
            if middle.astimezone(zone).time().replace(tzinfo=None) < clock:
                low = middle
            else:
                high = middle
        return high.replace(microsecond=0)


class Hysteresis(_Part):
    """What must be given back before what held is false again: in its own units, or per cent of the level."""

    absolute: float | None = Field(None, ge=0)
    percent: float | None = Field(None, ge=0, le=100)

    @model_validator(mode="after")
    def _one(self) -> Hysteresis:
        if (self.absolute is None) == (self.percent is None):
            raise ValueError("hysteresis is either 'absolute' or 'percent'")
        return self


class Escalation(_Part):
    """Who is told as well where nobody acknowledged in time."""

    after: timedelta = Field(ge=timedelta(seconds=10), le=timedelta(days=7))
    channels: tuple[Name, ...] = Field(min_length=1, max_length=20)


class Rule(_Part):
    """One rule.

    Parameters
    ----------
    id, owner, name:
        Its id, whose it is, and what people call it.
    condition:
        In the rule language, such as ``crosses_up(close, 60000) and rsi(14, "1h") < 30 for 2 bars``.
    symbols:
        Which it watches; ``*`` is all.
    timeframe:
        Of the bars that conditions without one of their own read, and by which frequencies count.
    frequency:
        ``every_time``: whenever the condition becomes true. ``once``: then never again. ``once_per_bar``: in each bar
        the first time that it is true. ``once_per_bar_close``: at each close at which it is true.
    cooldown:
        The least time between two firings of one symbol.
    pending, keep_firing:
        How long it must have been true before it fires, and how long it may be false before it is resolved.
    hysteresis:
        Of all its comparisons with a level.
    expires_at:
        From when on it is no longer asked.
    no_data, no_data_after:
        What silence of a symbol means, and from what length on: nothing; the condition; a firing of its own; the same
        as before.
    sessions, quiet_hours:
        It is asked only in the sessions (always where none is given); in quiet hours what fires is held for a digest.
    priority, group_by, labels, inhibited_by:
        For people and silences: how urgent, what is told together, names and values, and the ids of rules that, while
        they fire for the symbol, keep this one quiet.
    channels, template, escalation:
        Who is told, in which words (``{symbol}``, ``{price}``, ...), and who next.
    notify_resolved:
        Whether the end is told as well.
    dry_run, enabled:
        Fire without telling anyone; be asked at all.
    signal:
        What its channels of the kind ``bot`` are told to do; to hold, where absent.

    Examples
    --------
    >>> rule = Rule(id="btc-60k", owner="me", condition="crosses_up(close, 60000)", symbols=("BTCUSDT",))
    >>> rule.version == Rule(**rule.model_dump() | {"name": "Above 60k"}).version
    True
    """

    id: Name
    owner: Name
    name: Line | None = None
    condition: str = Field(min_length=1, max_length=2_000)
    symbols: tuple[SymbolName, ...] = Field(min_length=1, max_length=MOST_SYMBOLS)
    timeframe: Literal["1m", "5m", "15m", "1h", "4h", "1d"] = "1m"
    frequency: Frequency = "every_time"
    cooldown: timedelta = Field(timedelta(0), ge=timedelta(0), le=timedelta(days=30))
    pending: timedelta = Field(timedelta(0), ge=timedelta(0), le=timedelta(days=30))
    keep_firing: timedelta = Field(timedelta(0), ge=timedelta(0), le=timedelta(days=30))
    hysteresis: Hysteresis | None = None
    expires_at: datetime | None = None
    no_data: NoData = "ok"
    no_data_after: timedelta = Field(timedelta(minutes=5), ge=timedelta(seconds=5), le=timedelta(days=30))
    sessions: tuple[Hours, ...] = Field((), max_length=20)
    quiet_hours: tuple[Hours, ...] = Field((), max_length=20)
    priority: Priority = "normal"
    group_by: tuple[Name, ...] = Field((), max_length=10)
    labels: dict[Name, Line] = Field({}, max_length=20)
    inhibited_by: tuple[Name, ...] = Field((), max_length=20)
    channels: tuple[Name, ...] = Field((), max_length=20)
    template: str | None = Field(None, max_length=LONGEST_TEMPLATE)
    escalation: tuple[Escalation, ...] = Field((), max_length=5)
    notify_resolved: bool = False
    dry_run: bool = False
    enabled: bool = True
    # Left out where there is none: a rule without a signal reads and hashes as it did before there were any.
    signal: SignalIntent | None = Field(None, exclude_if=lambda value: value is None)

    @field_validator("expires_at")
    @classmethod
    def _aware(cls, value: datetime | None) -> datetime | None:
        if value is not None and value.tzinfo is None:
            raise ValueError(f"expires_at = {value} has no time zone; write 2026-01-01T00:00:00Z")
        return value

    @model_validator(mode="after")
    def _sensible(self) -> Rule:
        if "*" in self.symbols and len(self.symbols) > 1:
            raise ValueError("symbols: '*' is all of them; name no other beside it")
        if self.frequency == "once_per_bar_close" and self.pending:
            raise ValueError("pending and once_per_bar_close exclude each other; write 'for N bars' in the condition")
        if self.signal is not None and self.signal.close_when_resolved and not self.notify_resolved:
            raise ValueError("signal.close_when_resolved needs notify_resolved: true")
        return self

    @property
    def version(self) -> str:
        """The hash of what decides when it fires; names, texts and channels do not change it."""
        return str(digest(self.model_dump(mode="json", include=set(_DECIDING))))

    @property
    def watched(self) -> bool:
        """Whether its changes of truth must be followed outside the kernel."""
        told = self.notify_resolved or self.escalation or self.no_data != "ok"
        return bool(told or self.pending or self.keep_firing or self.sessions)


_DECIDING: Final = (
    *("id", "condition", "timeframe", "frequency", "cooldown", "pending", "keep_firing", "hysteresis", "no_data"),
    *("no_data_after", "sessions"),
)


def json_schema() -> dict[str, Any]:
    """The JSON Schema of a rule, for editors and for those who write rules by program."""
    return Rule.model_json_schema()


def safe_file_name(id: str) -> str:
    """The name of the file in which a rule lies in a folder of rules."""
    return re.sub(r"[^A-Za-z0-9_.-]", "_", id) + ".yaml"
