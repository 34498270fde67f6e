"""Options that several commands share."""

from __future__ import annotations

from typing import Annotated

import typer

Symbols = Annotated[str, typer.Option(help="Comma-separated, as the source spells them: EURUSD,BTC/USDT.")]
SourceName = Annotated[str, typer.Option(help="sample | files[:folder] | ccxt:<exchange> | yahoo | deribit | mt5")]
TimeframeName = Annotated[str, typer.Option(help="M1, M5, M15, H1, H4, D1, ... or 1m, 4h, 1d.")]
ModelName = Annotated[str | None, typer.Option(help="Registered model; derived from symbols and timeframe if absent.")]
