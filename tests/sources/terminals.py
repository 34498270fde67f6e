"""A simulated terminal with the instruments that MetaQuotes' examples use."""

from __future__ import annotations

import numpy as np

from tapeline.core.settings import MetaTraderSettings, NetworkSettings
from tapeline.sources.metatrader_gateway import PackageGateway
from tapeline.sources.metatrader_session import MetaTraderSession
from tapeline.sources.metatrader_simulator import SimulatedTerminal
from tapeline.sources.metatrader_structures import TICKS_DTYPE, AccountInfo, MarginMode, SymbolInfo

SECOND = 1_600_000_000
PASSWORD = "a-secret-that-must-not-show"


def account(**changes):
    values = dict.fromkeys(AccountInfo._fields, 0) | {
        "login": 25115284, "leverage": 100, "margin_mode": int(MarginMode.HEDGING), "trade_allowed": True,
        "trade_expert": True, "balance": 10_000.0, "currency": "USD", "server": "MetaQuotes-Demo", "margin_so_so": 50.0,
        "name": "", "company": "",
    }  # fmt: skip
    return AccountInfo(**{**values, **changes})


def pair(name: str, **changes):
    digits = 3 if name.endswith("JPY") else 5
    values = dict.fromkeys(SymbolInfo._fields, 0) | {
        "name": name, "currency_base": name[:3], "currency_profit": name[3:], "currency_margin": name[:3],
        "digits": digits, "point": 10.0**-digits, "trade_contract_size": 100_000.0, "margin_hedged": 100_000.0,
        "volume_min": 0.01, "volume_max": 500.0, "volume_step": 0.01, "trade_mode": 4, "trade_exemode": 2,
        "filling_mode": 1,
    }  # fmt: skip
    return SymbolInfo(**{**values, **changes})


def ticks(rows, start_ms: int = SECOND * 1000) -> np.ndarray:
    """Rows of (milliseconds after the start, bid, ask)."""
    array = np.zeros(len(rows), dtype=TICKS_DTYPE)
    for i, (offset, bid, ask) in enumerate(rows):
        stamp = start_ms + offset
        array[i] = (stamp // 1000, bid, ask, 0.0, 0, stamp, 6, 0.0)
    return array


def terminal(*, mode: MarginMode = MarginMode.HEDGING, password: str | None = None, symbol=None, **changes):
    """EURUSD 1.09900/1.09910, USDJPY 108.480/108.490 and EURJPY, logged out."""
    symbols = [pair("EURUSD", **(symbol or {})), pair("USDJPY"), pair("EURJPY")]
    made = SimulatedTerminal(symbols, account(margin_mode=int(mode), **changes), password=password)
    made.load_ticks("EURUSD", ticks([(0, 1.0990, 1.0991)]))
    made.load_ticks("USDJPY", ticks([(0, 108.48, 108.49)]))
    made.load_ticks("EURJPY", ticks([(0, 119.21, 119.23)]))
    made.advance(SECOND * 1000)
    return made


def session_of(package, *, sleep=None, **settings):
    made = MetaTraderSettings(**settings)
    network = NetworkSettings(maximum_tries=4, backoff_seconds=1.0)
    gateway = PackageGateway(made, network, lambda: package)
    return MetaTraderSession(gateway, made, network=network, sleep=sleep or (lambda seconds: None))
