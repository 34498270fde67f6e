"""Inbound alerts: what a source of the rule's owner, such as a strategy on TradingView, has just said of a symbol."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from tapeline.alerts.catalogue import Built, Context, Function, Parameter, declared
from tapeline.alerts.external import External
from tapeline.alerts.operands import compare, external
from tapeline.alerts.signal_intent import Said
from tapeline.core.errors import ConfigurationError

SIDES: Final[Mapping[Said | None, float]] = {"buy": 1.0, "sell": -1.0, "close": 2.0, None: 0.0}
"""What an alert says, as the value of its record; None: neither."""
_SOURCE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,39}")


def inbound_key(owner: str, source: str) -> str:
    """The series of one source of one owner: a rule names the source, and whose it is follows from whose the rule is.

    Examples
    --------
    >>> inbound_key("ann", "macd")
    'inbound:ann/macd'
    """
    return f"inbound:{owner}/{source}"


def inbound_record(ts: int, symbol: str, owner: str, source: str, said: Said | None) -> External:
    """An alert that came in as a record: known when it came, not when its sender says that it was sent.

    Examples
    --------
    >>> inbound_record(0, "BTCUSDT", "ann", "macd", "buy")
    External(ts=0, symbol='BTCUSDT', key='inbound:ann/macd', value=1.0, event=True)
    """
    return External(ts, symbol, inbound_key(owner, source), SIDES[said], event=True)


def _inbound(given: Mapping[str, Any], context: Context) -> Built:
    source = given["source"]
    if not _SOURCE.fullmatch(source):
        raise ConfigurationError(f"source = {source!r:.50} is no name", hint='the name of a source, such as "macd"')
    event = external(inbound_key(context.owner, source))
    if given["side"] == "any":
        return compare(event, ">=", min(SIDES.values()))
    return compare(event, "==", SIDES[given["side"]])


FUNCTIONS: Final = declared(
    Function(
        "inbound",
        (
            Parameter("source", "text", description="of the rule's owner, as POST /v1/sources names it"),
            Parameter("side", "choice", "any", choices=("any", "buy", "sell", "close")),
        ),
        _inbound,
        "An alert of one of your sources, such as a strategy on TradingView, has come in for the symbol.",
        'inbound("macd", "buy") and close > sma(50)',
        event=True,
    ),
)
RANGES: Final = {"inbound:": (min(SIDES.values()), max(SIDES.values()))}
