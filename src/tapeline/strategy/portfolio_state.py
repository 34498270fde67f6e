"""What the engine of many symbols remembers, as tuples of arrays that kernels take and write in place."""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tapeline.strategy.orders import (
    REASONS,
)
from tapeline.strategy.risk_kernels import (
    RISK_REASONS,
    RiskRules,
    RiskState,
)

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

BY_MARGIN: Final = len(REASONS)
BY_KILL_SWITCH: Final = BY_MARGIN + 1
PORTFOLIO_REASONS: Final = (*REASONS, "margin", "kill_switch")
"""Why an order was sent: as of one symbol, or to close a position for want of margin or by the kill switch."""

MARGIN, CLOSING, STOPPING = range(len(RISK_REASONS), len(RISK_REASONS) + 3)
REFUSALS: Final = (*RISK_REASONS, "margin", "closing", "stopping")
"""Why a decision or a fill was cut or refused: a limit of risk; want of margin; its position is being closed by the
account, or by its own stop."""

CASH: Final = 0
FILLS, ORDERS, REFUSED, MARKED, INSTANT, WATCHED_AT, NEEDED = range(7)
TALLIES: Final = 7
"""Places in ``Account.tallies``: rows of the logs that are used, the instant of the newest rates, the time at which
limits were last looked at, and how much room a full log lacked."""

REFUSAL_BOOK, REFUSAL_ROW, REFUSAL_DECIDED, REFUSAL_ORDER, REFUSAL_REASON = range(5)
EQUITY, PATH_CASH, GROSS, NET, MARGIN_USED = range(5)


class Rows(NamedTuple):
    """Of each row of the market its book, and the book's next row; without the latter rows of a book are in line."""

    book: Integers
    following: Integers


class Terms(NamedTuple):
    """Costs and constraints by book: :class:`Rules` taken apart, since kernels are not compiled for a number of books.

    ``margin`` and ``maintenance`` are shares of a position's value; 0 asks nothing.
    """

    slippage: Floats
    schedule: Floats
    thresholds: Floats
    maker: Floats
    taker: Floats
    lot: Floats
    through: Floats
    in_force: Integers
    by_distance: NDArray[np.bool_]
    margin: Floats
    maintenance: Floats


class Books(NamedTuple):
    """What is remembered of each book, written in place; books of one symbol are neighbours.

    ``settled`` is the position up to the last fill that the account has paid for, ``mean`` its average entry price,
    ``rate`` the newest value of its money in the account's, ``fill_rate`` that of the open of its bar under way,
    ``closing`` 0 or the reason for which the account closes it.
    """

    amounts: Floats
    counts: Integers
    settled: Floats
    mean: Floats
    rate: Floats
    fill_rate: Floats
    closing: Integers
    symbol: Integers
    currency: Integers


class Account(NamedTuple):
    """What books share: switches, cash, counters, and by symbol the volume taken from the bar under way, and values."""

    larger_leg: bool
    margined: bool
    maintained: bool
    limited: bool
    totals: Floats
    tallies: Integers
    taken: Floats
    taken_at: Integers
    values: Floats


class Risk(NamedTuple):
    """Limits and their state; by symbol, in the order of books."""

    rules: RiskRules
    state: RiskState


class Notes(NamedTuple):
    """Beside the log of fills: when the account knew of each; and what was refused."""

    fill_known: Integers
    refusal_codes: Integers
    refusal_amounts: Floats


class Path(NamedTuple):
    """By instant of closes the account; by row of the market its position, financing and rate.

    The position is that at the row's close, the others are of its open, and empty where nothing is financed, or all
    money is the account's.
    """

    at: Integers
    amounts: Floats
    position: Floats
    charged: Floats
    rate: Floats
