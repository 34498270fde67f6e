"""What an account did, step by step: signals, decisions, orders, fills, trades, equity, in the zone ``strategy``.

Every row carries ``run``: the content hash of the strategy, its settings and the data it was run on, or the name of a
paper account. The same run twice writes the same rows.
"""

from __future__ import annotations

from typing import Final

import pyarrow as pa

from tapeline.core.table import INSTANT, NAME, TableSpec, fields

_RUN: Final = ("run", pa.string(), False)
_INTEGER, _NUMBER = pa.int64(), pa.float64()

SIGNALS: Final = TableSpec(
    "strategy",
    "signals",
    pa.schema(
        fields(
            _RUN,
            ("ts", INSTANT, False),
            ("known_at", INSTANT, False),
            ("source", NAME, False),
            ("side", pa.int8(), False),
            ("probability", _NUMBER, True),
            ("confidence", _NUMBER, True),
            ("accepted", pa.bool_(), False),
            ("reason", NAME, True),
        )
    ),
    key=("run", "ts", "source"),
)
"""One row a signal, accepted or refused with its reason. ``probability`` is that of the side taken."""

DECISIONS: Final = TableSpec(
    "strategy",
    "decisions",
    pa.schema(
        fields(
            _RUN,
            ("ts", INSTANT, False),
            ("known_at", INSTANT, False),
            ("target", _NUMBER, False),
            ("stop", _NUMBER, True),
            ("take", _NUMBER, True),
            ("limit", _NUMBER, True),
            ("trigger", _NUMBER, True),
            ("strategy", NAME, False),
            ("explanation", pa.string(), True),
        )
    ),
    key=("run", "ts", "strategy"),
)
"""One row a decision at a bar's close: the position wanted, in signed units, its protection, and why (JSON)."""

ORDERS: Final = TableSpec(
    "strategy",
    "orders",
    pa.schema(
        fields(
            _RUN,
            ("order", _INTEGER, False),
            ("decided_at", INSTANT, False),
            ("arrived_at", INSTANT, False),
            ("ended_at", INSTANT, True),
            ("kind", NAME, False),
            ("reason", NAME, False),
            ("status", NAME, False),
            ("quantity", _NUMBER, False),
            ("filled", _NUMBER, False),
            ("limit", _NUMBER, True),
            ("stop", _NUMBER, True),
        )
    ),
    key=("run", "order"),
    order="decided_at",
)
"""One row an order; ``order`` counts within the run. Times are the opens of bars."""

FILLS: Final = TableSpec(
    "strategy",
    "fills",
    pa.schema(
        fields(
            _RUN,
            ("fill", _INTEGER, False),
            ("order", _INTEGER, False),
            ("ts", INSTANT, False),
            ("reason", NAME, False),
            ("quantity", _NUMBER, False),
            ("price", _NUMBER, False),
            ("reference", _NUMBER, False),
            ("commission", _NUMBER, False),
            ("rate", _NUMBER, False),
        )
    ),
    key=("run", "fill"),
)
"""One row a fill: ``quantity`` signed, ``price`` paid, ``reference`` what the market traded.

``commission`` is in the currency of the price, ``rate`` what one unit of it was worth in the account's currency.
"""

TRADES: Final = TableSpec(
    "strategy",
    "trades",
    pa.schema(
        fields(
            _RUN,
            ("trade", _INTEGER, False),
            ("entry_at", INSTANT, False),
            ("exit_at", INSTANT, True),
            ("reason", NAME, False),
            *(
                (name, _NUMBER, False)
                for name in ("quantity", "entry_price", "exit_price", "gross", "commission", "slippage", "financing")
            ),
            ("net", _NUMBER, False),
            ("adverse", _NUMBER, False),
            ("favourable", _NUMBER, False),
        )
    ),
    key=("run", "trade"),
    order="entry_at",
)
"""One row a round trip from flat to flat; without ``exit_at`` it is still open and valued at the last close."""

EQUITY: Final = TableSpec(
    "strategy",
    "equity",
    pa.schema(
        fields(
            _RUN,
            ("ts", INSTANT, False),
            ("equity", _NUMBER, False),
            ("cash", _NUMBER, False),
            ("gross", _NUMBER, False),
            ("net", _NUMBER, False),
            ("margin", _NUMBER, True),
        )
    ),
    key=("run", "ts"),
)
"""The account at each bar's close, in its currency: ``gross`` and ``net`` are the values of its positions."""

ACCOUNT_TABLES: Final = (SIGNALS, DECISIONS, ORDERS, FILLS, TRADES, EQUITY)
