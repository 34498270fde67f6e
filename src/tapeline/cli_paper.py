"""``tapeline paper``: a strategy traded on paper over new bars, until Ctrl-C or once."""

from __future__ import annotations

from typing import Annotated

import typer

from tapeline.cli_options import Symbols, TimeframeName
from tapeline.cli_strategy import Strategy
from tapeline.console import terminal


def paper(
    account: Annotated[str, typer.Option(help="The account's name; opened where it is not there yet.")] = "first",
    strategy: Strategy = "moving_average_cross",
    symbols: Symbols = "EURUSD",
    timeframe: TimeframeName = "H1",
    source: Annotated[
        str | None, typer.Option(help="Bring new bars from here first; the lake alone if absent.")
    ] = None,
    capital: Annotated[
        float | None, typer.Option(min=0.01, help="Cash at the start; the strategy's if absent.")
    ] = None,
    learn: Annotated[bool, typer.Option(help="Correct a model's probabilities by the account's own trades.")] = False,
    at: Annotated[str | None, typer.Option(help="Take this instant (UTC, past) for the present, and end.")] = None,
    once: Annotated[bool, typer.Option("--once", help="Trade the new closed bars and end.")] = False,
) -> None:
    """Trade a strategy on paper over the newest bars; without --once again after every bar's close, until Ctrl-C."""
    from tapeline.cli import check_request, orchestration, split_symbols, wait_for_close
    from tapeline.core.request import parse_request
    from tapeline.strategy.strategy import load_strategy

    names = split_symbols(symbols)
    frame = parse_request(names, timeframe).timeframe if source is None else check_request(source, names, timeframe)
    load_strategy(strategy).settings(names)
    with terminal().status("Starting the orchestration ..."), orchestration():
        from flows.paper import paper as paper_flow

    with orchestration():
        while True:
            paper_flow(
                account=account,
                strategy=strategy,
                symbols=names,
                timeframe=timeframe,
                source=source,
                capital=capital,
                learn=learn,
                at=at,
            )
            if once or at is not None:
                return
            wait_for_close(frame)
