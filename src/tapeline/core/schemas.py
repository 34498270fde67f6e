"""The one Arrow schema of each table.

A table is described once, here or, for what an account did, in :mod:`tapeline.core.account_tables`: its zone, its
columns, its key, the column that orders it and whether a later correction becomes a new revision.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final, Literal

import pyarrow as pa

from tapeline.core.account_tables import ACCOUNT_TABLES
from tapeline.core.table import INSTANT as INSTANT
from tapeline.core.table import NAME as NAME
from tapeline.core.table import PROVENANCE_COLUMNS as PROVENANCE_COLUMNS
from tapeline.core.table import ZONES as ZONES
from tapeline.core.table import TableSpec as TableSpec
from tapeline.core.table import Zone as Zone
from tapeline.core.table import empty as empty
from tapeline.core.table import fields as _fields

PRICES: Final = ("open", "high", "low", "close")
OHLCV: Final = (*PRICES, "volume")

TimeOrigin = Literal["exchange", "broker", "provider", "local"]
TIME_ORIGINS: Final[tuple[TimeOrigin, ...]] = ("exchange", "broker", "provider", "local")
"""Whose clock stamped a row: the venue's, a broker's server, a vendor who passes data on, or this machine."""

_PROVENANCE: Final = _fields(("ts_origin", NAME, True), ("ingested_at", INSTANT, True), ("data_version", NAME, True))
_ARRIVAL: Final = (
    _fields(
        ("close_ts", INSTANT, False),
        ("known_at", INSTANT, False),
        ("known_at_is_estimate", pa.bool_(), False),
        ("source", NAME, False),
        ("revision", pa.int32(), False),
    )
    + _PROVENANCE
)
_BARS: Final = [
    *_fields(("ts", INSTANT, False), *((name, pa.float64(), False) for name in OHLCV)),
    *_fields(("spread", pa.float64(), True), ("tick_count", pa.int64(), True)),
    *_fields(*((name, pa.float64(), True) for name in ("quote_volume", "taker_buy_volume"))),
    *_fields(("volume_kind", NAME, True)),
    *_ARRIVAL,
]

RAW_BARS: Final = TableSpec("raw", "bars", pa.schema(_BARS), key=("ts",), bitemporal=True)
"""Bars as the source served them, before any check: ``ts`` is the OPEN time; prices may be NaN or absurd here.

``volume_kind`` says what ``volume`` is: ``traded`` quantity, ``tick`` (price changes counted) or ``none`` (not known,
hence 0).
"""

CLEAN_BARS: Final = TableSpec(
    "clean",
    "bars",
    pa.schema(
        [
            *_BARS,
            *_fields(("repaired", pa.bool_(), False), ("outlier", pa.bool_(), False), ("filled", pa.bool_(), True)),
        ]
    ),
    key=("ts",),
    bitemporal=True,
)
"""Bars that passed the gate: sorted, unique, consistent; ``repaired`` and ``outlier`` say what cleaning saw.

``filled`` is true of a bar that was never served and stands in for an absent one by the run's policy, else null.
"""

# One instant may hold many rows: ``sequence`` keeps them apart and in order. It is the venue's own number where the
# venue numbers its rows (a trade's id, a book's update), else the position among the rows of that instant, from 0 in
# the order in which the source gave them; so the same rows fetched again have the same keys.
_TICK_LEAD: Final = _fields(("ts", INSTANT, False), ("sequence", pa.int64(), False))
_TICK_ARRIVAL: Final = [field for field in _ARRIVAL if field.name != "close_ts"]

RAW_TICKS: Final = TableSpec(
    "raw",
    "ticks",
    pa.schema(
        [
            *_TICK_LEAD,
            *_fields(*((name, pa.float64(), False) for name in ("bid", "ask", "last", "volume"))),
            *_fields(("flags", pa.int32(), False)),
            *_TICK_ARRIVAL,
        ]
    ),
    key=("ts", "sequence"),
    bitemporal=True,
)
"""Ticks as the source sent them, kept under the timeframe ``tick``.

A price or volume that the source does not send is NaN. ``flags`` are MetaTrader's (2 bid, 4 ask, 8 last, 16 volume, 32
buy, 64 sell), 0 where the source has none.
"""

RAW_TRADES: Final = TableSpec(
    "raw",
    "trades",
    pa.schema(
        [
            *_TICK_LEAD,
            *_fields(
                ("price", pa.float64(), False),
                ("size", pa.float64(), False),
                ("side", pa.int8(), False),
                ("id", pa.string(), False),
            ),
            *_TICK_ARRIVAL,
        ]
    ),
    key=("ts", "sequence"),
    bitemporal=True,
)
"""Trades. ``side`` is who took liquidity: 1 a buyer, -1 a seller, 0 not said; ``id`` is the venue's, '' without one."""

RAW_BOOK: Final = TableSpec(
    "raw",
    "book",
    pa.schema(
        [
            *_TICK_LEAD,
            *_fields(
                ("side", pa.int8(), False),
                ("level", pa.int32(), False),
                ("price", pa.float64(), False),
                ("size", pa.float64(), False),
            ),
            *_TICK_ARRIVAL,
        ]
    ),
    key=("ts", "sequence", "side", "level"),
    bitemporal=True,
)
"""Book levels, one row a level of one update: ``side`` 1 a bid, -1 an ask; ``level`` 0 the first of its side.

Of a snapshot, level 0 is the best price. Of an update, ``level`` counts the changed levels as the venue listed them,
``size`` is the new total at that price, and 0 removes it.
"""

RAW_DEPTH: Final = TableSpec(
    "raw",
    "depth",
    pa.schema(
        _fields(
            ("ts", INSTANT, False),
            ("side", pa.int8(), False),
            ("level", pa.int16(), False),
            ("price", pa.float64(), False),
            ("size", pa.float64(), False),
            ("source", NAME, True),
        )
        + _PROVENANCE
    ),
    key=("ts", "side", "level"),
    keep="first",
)
"""A live book sampled at an interval, one row a level: ``side`` 1 a bid, -1 an ask; ``level`` 0 the best.

``ts`` is when it was seen. ``RAW_BOOK`` holds what the venue sent, this what a book kept from it showed.
"""

EVENTS: Final = TableSpec(
    "events",
    "events",
    pa.schema(
        [
            *_fields(
                ("id", pa.string(), False),
                ("kind", NAME, False),
                ("direction", pa.int8(), False),
                ("start", INSTANT, False),
                ("end", INSTANT, False),
                ("confirmed_at", INSTANT, False),
                ("invalidated_at", INSTANT, True),
                ("low", pa.float64(), True),
                ("high", pa.float64(), True),
                ("target", pa.float64(), True),
                ("stop", pa.float64(), True),
                ("score", pa.float64(), True),
            ),
            pa.field("points", pa.list_(pa.struct([("ts", INSTANT), ("price", pa.float64())])), nullable=True),
        ]
    ),
    key=("id",),
    order="confirmed_at",
)
"""One row a finding, confirmed when it was known; ``invalidated_at`` is filled in later and never deletes a row."""

OUTCOMES: Final = TableSpec(
    "events",
    "outcomes",
    pa.schema(
        _fields(
            ("id", pa.string(), False),
            ("kind", NAME, False),
            ("direction", pa.int8(), False),
            ("regime", NAME, True),
            ("confirmed_at", INSTANT, False),
            ("decided_at", INSTANT, False),
            ("hit", pa.float64(), False),
            ("base", pa.float64(), True),
            ("reward", pa.float64(), False),
            ("risk", pa.float64(), False),
            ("result", pa.float64(), False),
        )
    ),
    key=("id",),
    order="confirmed_at",
)
"""What became of each event with a stop, known at ``decided_at``, and ``base``, how often chance hits such a target."""

CALENDAR: Final = TableSpec(
    "events",
    "calendar",
    pa.schema(
        [
            *_fields(
                ("id", pa.string(), False),
                ("known_at", INSTANT, False),
                ("status", NAME, False),
                ("scheduled_at", INSTANT, True),
                ("published_at", INSTANT, True),
                ("kind", NAME, False),
                ("title", pa.string(), True),
            ),
            pa.field("touches", pa.list_(pa.string()), nullable=False),
            *_fields(
                ("importance", pa.int8(), False),
                ("actual", pa.float64(), True),
                ("forecast", pa.float64(), True),
                ("previous", pa.float64(), True),
                ("source", NAME, False),
            ),
        ]
    ),
    key=("id", "known_at"),
    order="known_at",
    keep="first",
)
"""Calendar and news events, one row a statement: what was said of event ``id`` from ``known_at`` on.

A later statement about the same event (a new date, the figure, its revision, a cancellation) is a row of its own, so
that what stood at any instant can be read back. ``status`` is ``scheduled``, ``released``, ``revised`` or
``cancelled``; ``touches`` holds ``all``, ``currency:USD``, ``symbol:AAPL`` or ``sector:energy``; ``importance`` is 1
(low) to 3 (high).
"""

SCORES: Final = TableSpec(
    "scores",
    "scores",
    pa.schema(
        _fields(
            ("ts", INSTANT, False),
            ("known_at", INSTANT, False),
            ("probability", pa.float64(), False),
            ("side", pa.int8(), False),
            ("confidence", pa.float64(), False),
            ("model", NAME, False),
            ("model_version", pa.string(), False),
            ("feature_set_version", NAME, False),
            ("label_version", NAME, False),
            ("data_version", NAME, False),
            ("scored_at", INSTANT, False),
        )
    ),
    key=("ts", "model", "model_version"),
    keep="first",
)
"""One score a bar and model version. ``keep="first"``: what was said when it mattered is never rewritten."""

SHADOW_SCORES: Final = TableSpec("scores", "shadow", SCORES.schema, key=SCORES.key, keep="first")
"""What the challenger would have said, beside the champion and on the same bars; nothing acts on it."""

QUARANTINE: Final = TableSpec(
    "quarantine",
    "rows",
    pa.schema(
        [
            *_fields(
                ("id", pa.string(), False),
                ("ts", INSTANT, False),
                ("stage", NAME, False),
                ("source", NAME, False),
                ("row_number", pa.int64(), False),
            ),
            pa.field("reasons", pa.list_(pa.string()), nullable=False),
            pa.field("record", pa.string(), nullable=False),
        ]
    ),
    key=("id",),
    keep="first",
)
"""Rows that a check refused. ``record`` is the row as JSON, as it came; ``ts`` is the epoch where it had no time."""

AUDIT: Final = TableSpec(
    "audit",
    "verdicts",
    pa.schema(
        _fields(
            ("id", pa.string(), False),
            ("ts", INSTANT, False),
            ("stage", NAME, False),
            ("suite", NAME, False),
            ("suite_version", NAME, False),
            ("data_version", pa.string(), False),
            ("passed", pa.bool_(), False),
            ("rows", pa.int64(), False),
            ("rows_refused", pa.int64(), False),
            ("details", pa.string(), False),
        )
    ),
    key=("id",),
    keep="first",
)
"""One row a validation verdict; ``id`` is a hash of suite and data, ``ts`` the newest bar judged, ``details`` JSON."""

PROFILES: Final = TableSpec(
    "audit",
    "profiles",
    pa.schema(
        [
            *_fields(
                ("ts", INSTANT, False),
                ("end", INSTANT, False),
                ("known_at", INSTANT, False),
                ("period", NAME, False),
                ("table", NAME, False),
                ("version", pa.string(), False),
                ("column", NAME, False),
                ("kind", NAME, False),
                *((name, pa.int64(), False) for name in ("rows", "count", "nulls", "infinite", "uniques")),
                *((name, pa.float64(), True) for name in ("mean", "std", "skew", "kurtosis", "minimum")),
                *((name, pa.float64(), True) for name in ("q01", "q05", "q25", "q50", "q75", "q95", "q99", "maximum")),
                ("first", INSTANT, True),
                ("last", INSTANT, True),
                ("top", pa.string(), True),
                ("top_share", pa.float64(), True),
            ),
            pa.field("edges", pa.list_(pa.float64()), nullable=False),
            pa.field("labels", pa.list_(pa.string()), nullable=False),
            pa.field("counts", pa.list_(pa.int64()), nullable=False),
            *_fields(
                ("gaps", pa.int64(), True), ("missing_bars", pa.int64(), True), ("gap_reasons", pa.string(), True)
            ),
        ]
    ),
    key=("ts", "end", "table", "column", "version"),
    keep="first",
)
"""One row a column of a profiled batch ``[ts, end)`` of a table; :mod:`tapeline.quality.profile` says what each means.

``version`` is the hash of the batch's content and ``known_at`` when its last row was known: the same rows profiled
again change nothing, corrected rows make a profile of their own.
"""

CLOCK: Final = TableSpec(
    "audit",
    "clock",
    pa.schema(
        _fields(
            ("ts", INSTANT, False),
            ("source", NAME, False),
            ("kind", NAME, False),
            ("offset", pa.int64(), False),
            ("error", pa.int64(), False),
            ("round_trip", pa.int64(), False),
            ("zone_offset_hours", pa.float64(), True),
        )
    ),
    key=("ts", "source"),
    keep="first",
)
"""One row a measurement of a reference clock, in the local time of the middle of its round trip.

``offset`` is the reference's time less the local one, ``error`` the half width of what is possible, ``round_trip`` the
way there and back, all in ns. Of a broker, ``zone_offset_hours`` is how far its wall clock is ahead of UTC, which
``offset`` leaves out.
"""

GAPS: Final = TableSpec(
    "audit",
    "gaps",
    pa.schema(
        _fields(
            ("ts", INSTANT, False),
            ("end", INSTANT, False),
            ("known_at", INSTANT, False),
            ("missing_bars", pa.int64(), False),
            ("open_time", pa.int64(), False),
            ("reason", NAME, False),
            ("evidence", NAME, False),
            ("calendar", NAME, False),
        )
    ),
    key=("ts", "end"),
)
"""One row a hole between stored bars, from the close ``ts`` of the bar before to the open ``end`` of the bar after.

``missing_bars`` were due in it by the ``calendar``, ``open_time`` is the trading time in it (ns). ``reason`` is
``market_closed``, ``not_downloaded``, ``outage``, ``no_trade`` or ``unknown``, and ``filled`` once bars came in it;
``evidence`` says why in words, ``known_at`` is the close of the bar after.
"""

DRIFT: Final = TableSpec(
    "audit",
    "drift",
    pa.schema(
        _fields(
            ("ts", INSTANT, False),
            ("since", INSTANT, False),
            ("kind", NAME, False),
            ("subject", NAME, False),
            ("column", NAME, False),
            ("statistic", NAME, False),
            ("value", pa.float64(), True),
            ("typical", pa.float64(), True),
            ("limit", pa.float64(), True),
            ("p_value", pa.float64(), True),
            ("before", pa.float64(), True),
            ("after", pa.float64(), True),
            ("alarm", pa.bool_(), False),
            ("rows", pa.int64(), False),
            ("reference_start", INSTANT, False),
            ("reference_end", INSTANT, False),
            ("reference_version", pa.string(), False),
        )
    ),
    key=("ts", "kind", "subject", "column", "statistic", "reference_version"),
)
"""What a drift check found, known at ``ts`` of what came since ``since``.

``kind`` is ``distribution`` (``statistic`` a distance of the column's window from the reference, with its ``limit``) or
``concept`` (``statistic`` a detector, one row an alarm on the stream ``column``); of a model's own scores and outcomes
it is ``score``, ``calibration`` or ``performance``. ``subject`` names the table or model, ``rows`` how many rows the
finding rests on; the reference is its first and last row and a hash of its content.
"""

QUALITY: Final = TableSpec(
    "audit",
    "quality",
    pa.schema(
        _fields(
            ("ts", INSTANT, False),
            ("end", INSTANT, False),
            ("known_at", INSTANT, False),
            ("table", NAME, False),
            ("score", pa.float64(), False),
            *(
                (name, pa.float64(), True)
                for name in ("completeness", "validity", "uniqueness", "timeliness", "consistency")
            ),
            ("worst", NAME, False),
            *(
                (name, pa.int64(), False)
                for name in ("bars", "missing", "invalid", "repeated", "measured", "late", "inconsistent")
            ),
            ("calendar", NAME, False),
        )
    ),
    key=("ts", "table"),
)
"""The quality score of one day's bars ``[ts, end)`` and its parts, each from 0 to 1, NaN where nothing was measured.

:mod:`tapeline.quality.daily_score` says what each part and count means. ``worst`` is the part that cost most.
"""

PERFORMANCE: Final = TableSpec(
    "audit",
    "performance",
    pa.schema(
        _fields(
            ("ts", INSTANT, False),
            ("known_at", INSTANT, False),
            ("period", NAME, False),
            ("model", NAME, False),
            ("model_version", pa.string(), False),
            ("origin", NAME, False),
            ("metric", NAME, False),
            ("rows", pa.int64(), False),
            ("value", pa.float64(), True),
            ("low", pa.float64(), True),
            ("high", pa.float64(), True),
        )
    ),
    key=("ts", "period", "model", "model_version", "origin", "metric"),
)
"""A metric of one model version over one period of outcomes, with its 95 % block bootstrap interval.

``ts`` is where the period begins and ``known_at`` when the newest of its outcomes became known. ``origin`` says how the
scores came to be (live, shadow, holdout, backtest, out_of_fold); see :mod:`tapeline.models.performance`.
"""

_WIDE_LEAD: Final = _fields(("ts", INSTANT, False), ("known_at", INSTANT, False))


def features_spec(version: str, columns: Iterable[str]) -> TableSpec:
    """The table of one feature set version (``<set>@<hash>``): float32 columns, NaN in the warm-up."""
    fields = [*_WIDE_LEAD, *(pa.field(name, pa.float32(), nullable=False) for name in columns)]
    return TableSpec("features", version, pa.schema(fields), key=("ts",))


def labels_spec(version: str) -> TableSpec:
    """The table of one label version (``<label>@<hash>``).

    ``value`` is the label, ``t_end`` the instant at which it became known (purging reads it), ``outcome`` the return
    that the label stands for, ``weight`` the sample weight.
    """
    fields = _fields(
        ("ts", INSTANT, False),
        ("value", pa.float64(), False),
        ("t_end", INSTANT, False),
        ("outcome", pa.float64(), True),
        ("weight", pa.float64(), False),
    )
    return TableSpec("labels", version, pa.schema(fields), key=("ts",))


FIXED_TABLES: Final[Mapping[str, TableSpec]] = {
    spec.path: spec
    for spec in (
        RAW_BARS,
        RAW_TICKS,
        RAW_TRADES,
        RAW_BOOK,
        RAW_DEPTH,
        CLEAN_BARS,
        EVENTS,
        OUTCOMES,
        CALENDAR,
        SCORES,
        SHADOW_SCORES,
        QUARANTINE,
        AUDIT,
        PROFILES,
        CLOCK,
        GAPS,
        DRIFT,
        QUALITY,
        PERFORMANCE,
        *ACCOUNT_TABLES,
    )
}
"""The tables whose schema does not depend on a version, by ``<zone>/<name>``."""
