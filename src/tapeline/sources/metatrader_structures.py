"""The structures of MetaTrader 5's Python package: named tuples, array types and constants, as the package has them.

Names, order and values are those of MetaQuotes' reference of the package.
"""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Mapping
from enum import IntEnum, IntFlag
from typing import Any, Final

import numpy as np

RATES_DTYPE: Final = np.dtype(
    [
        ("time", "<i8"),
        ("open", "<f8"),
        ("high", "<f8"),
        ("low", "<f8"),
        ("close", "<f8"),
        ("tick_volume", "<u8"),
        ("spread", "<i4"),
        ("real_volume", "<u8"),
    ]
)
"""What ``copy_rates_*`` return: ``time`` in seconds of the SERVER's clock, the two volumes unsigned."""

TICKS_DTYPE: Final = np.dtype(
    [
        ("time", "<i8"),
        ("bid", "<f8"),
        ("ask", "<f8"),
        ("last", "<f8"),
        ("volume", "<u8"),
        ("time_msc", "<i8"),
        ("flags", "<u4"),
        ("volume_real", "<f8"),
    ]
)
"""What ``copy_ticks_*`` return: ``time_msc`` in milliseconds of the SERVER's clock, ``volume`` unsigned."""

TIMEFRAMES: Final[Mapping[str, int]] = {
    **{f"M{n}": n for n in (1, 2, 3, 4, 5, 6, 10, 12, 15, 20, 30)},
    **{f"H{n}": n | 0x4000 for n in (1, 2, 3, 4, 6, 8, 12)},
    "D1": 24 | 0x4000,
    "W1": 1 | 0x8000,
}
"""MetaQuotes' ``TIMEFRAME_*`` constants."""

COPY_TICKS_ALL: Final = -1


class TickFlag(IntFlag):
    """What changed with a tick."""

    BID = 2
    ASK = 4
    LAST = 8
    VOLUME = 16
    BUY = 32
    SELL = 64


class Action(IntEnum):
    """``TRADE_ACTION_*``: what a request asks for."""

    DEAL = 1
    PENDING = 5
    SLTP = 6
    MODIFY = 7
    REMOVE = 8
    CLOSE_BY = 10


class OrderType(IntEnum):
    """``ORDER_TYPE_*``."""

    BUY = 0
    SELL = 1
    BUY_LIMIT = 2
    SELL_LIMIT = 3
    BUY_STOP = 4
    SELL_STOP = 5
    BUY_STOP_LIMIT = 6
    SELL_STOP_LIMIT = 7
    CLOSE_BY = 8


class Filling(IntEnum):
    """``ORDER_FILLING_*``: all or nothing, what there is, or the rest stays as an order."""

    FOK = 0
    IOC = 1
    RETURN = 2
    BOC = 3


class MarginMode(IntEnum):
    """``ACCOUNT_MARGIN_MODE_*``: one position an instrument, or any number."""

    NETTING = 0
    EXCHANGE = 1
    HEDGING = 2


Tick = namedtuple(
    "Tick",
    "time bid ask last volume time_msc flags volume_real",
)
"""The newest quote of an instrument; ``time`` in seconds and ``time_msc`` in milliseconds of the server's clock."""

BookInfo = namedtuple(
    "BookInfo",
    "type price volume volume_dbl",
)
"""One level of the book; type 1 sell, 2 buy, 3 and 4 at the market."""

TradeRequest = namedtuple(
    "TradeRequest",
    "action magic order symbol volume price stoplimit sl tp deviation type type_filling type_time expiration "
    "comment position position_by",
)
"""What was asked for, as the terminal understood it."""

OrderCheckResult = namedtuple(
    "OrderCheckResult",
    "retcode balance equity profit margin margin_free margin_level comment request",
)
"""The verdict of ``order_check``: what the account would look like; ``retcode`` 0 means that it would pass."""

OrderSendResult = namedtuple(
    "OrderSendResult",
    "retcode deal order volume price bid ask comment request_id retcode_external request",
)
"""The trade server's answer to ``order_send``."""

TradePosition = namedtuple(
    "TradePosition",
    "ticket time time_msc time_update time_update_msc type magic identifier reason volume price_open sl tp "
    "price_current swap profit symbol comment external_id",
)
"""An open position."""

TradeOrder = namedtuple(
    "TradeOrder",
    "ticket time_setup time_setup_msc time_done time_done_msc time_expiration type type_time type_filling state "
    "magic position_id position_by_id reason volume_initial volume_current price_open sl tp price_current "
    "price_stoplimit symbol comment external_id",
)
"""An order, waiting or past."""

TradeDeal = namedtuple(
    "TradeDeal",
    "ticket order time time_msc type entry magic position_id reason volume price commission swap profit fee "
    "symbol comment external_id",
)
"""One execution."""

AccountInfo = namedtuple(
    "AccountInfo",
    "login trade_mode leverage limit_orders margin_so_mode trade_allowed trade_expert margin_mode currency_digits "
    "fifo_close balance credit profit equity margin margin_free margin_level margin_so_call margin_so_so "
    "margin_initial margin_maintenance assets liabilities commission_blocked name server currency company",
)
"""The trading account."""

TerminalInfo = namedtuple(
    "TerminalInfo",
    "community_account community_connection connected dlls_allowed trade_allowed tradeapi_disabled email_enabled "
    "ftp_enabled notifications_enabled mqid build maxbars codepage ping_last community_balance retransmission "
    "company name language path data_path commondata_path",
)
"""The terminal itself."""

SymbolInfo = namedtuple(
    "SymbolInfo",
    "custom chart_mode select visible session_deals session_buy_orders session_sell_orders volume volumehigh "
    "volumelow time digits spread spread_float ticks_bookdepth trade_calc_mode trade_mode start_time "
    "expiration_time trade_stops_level trade_freeze_level trade_exemode swap_mode swap_rollover3days "
    "margin_hedged_use_leg expiration_mode filling_mode order_mode order_gtc_mode option_mode option_right bid "
    "bidhigh bidlow ask askhigh asklow last lasthigh lastlow volume_real volumehigh_real volumelow_real "
    "option_strike point trade_tick_value trade_tick_value_profit trade_tick_value_loss trade_tick_size "
    "trade_contract_size trade_accrued_interest trade_face_value trade_liquidity_rate volume_min volume_max "
    "volume_step volume_limit swap_long swap_short margin_initial margin_maintenance session_volume "
    "session_turnover session_interest session_buy_orders_volume session_sell_orders_volume session_open "
    "session_close session_aw session_price_settlement session_price_limit_min session_price_limit_max "
    "margin_hedged price_change price_volatility price_theoretical price_greeks_delta price_greeks_theta "
    "price_greeks_gamma price_greeks_vega price_greeks_rho price_greeks_omega price_sensitivity basis category "
    "currency_base currency_profit currency_margin bank description exchange formula isin name page path",
)
"""Everything the broker says of an instrument."""

STRUCTURES: Final[Mapping[str, Any]] = {
    kind.__name__: kind
    for kind in (
        Tick,
        BookInfo,
        TradeRequest,
        OrderCheckResult,
        OrderSendResult,
        TradePosition,
        TradeOrder,
        TradeDeal,
        AccountInfo,
        TerminalInfo,
        SymbolInfo,
    )
}
"""Every structure by its name."""
