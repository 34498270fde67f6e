"""``tapeline backtest`` and ``strategies``: a strategy traded on stored bars, and the strategies there are."""

from __future__ import annotations

from typing import Annotated

import typer

from tapeline.cli_options import Symbols, TimeframeName
from tapeline.console import new_table, terminal

Strategy = Annotated[str, typer.Option(help="A packaged strategy's name or a TOML file; 'tapeline strategies' lists.")]
SAMPLES = "unknown | in sample | out of sample | walk-forward: had these bars a part in choosing what is traded?"


def backtest(
    strategy: Strategy = "moving_average_cross",
    symbols: Symbols = "EURUSD",
    timeframe: TimeframeName = "H1",
    start: Annotated[str | None, typer.Option(help="First bar's open, UTC, inclusive.")] = None,
    end: Annotated[str | None, typer.Option(help="Open of the first bar left out, UTC.")] = None,
    source: Annotated[
        str | None, typer.Option(help="Bring the bars from here first, as sample; the lake alone if absent.")
    ] = None,
    capital: Annotated[
        float | None, typer.Option(min=0.01, help="Cash at the start; the strategy's if absent.")
    ] = None,
    sample: Annotated[str, typer.Option(help=SAMPLES)] = "unknown",
) -> None:
    """Trade a strategy on stored bars: figures, what each cost took, a verdict, and a tear sheet to open."""
    from tapeline.cli import check_request, orchestration, split_symbols
    from tapeline.core.errors import ConfigurationError
    from tapeline.core.request import parse_request
    from tapeline.strategy.strategy import load_strategy
    from tapeline.strategy.tear_sheet import SAMPLES as KNOWN

    names = split_symbols(symbols)
    if source is None:
        parse_request(names, timeframe, start, end)
    else:
        check_request(source, names, timeframe, start, end)
    if sample not in KNOWN:
        raise ConfigurationError(f"sample '{sample}' is unknown", hint=f"one of {', '.join(KNOWN)}")
    load_strategy(strategy).settings(names)
    with orchestration():
        from flows.backtest import backtest as backtest_flow

        backtest_flow(
            strategy=strategy,
            symbols=names,
            timeframe=timeframe,
            start=start,
            end=end,
            source=source,
            capital=capital,
            sample=sample,
        )


def strategies() -> None:
    """List the packaged strategies with what they trade by and their versions."""
    from tapeline.strategy.strategy import known_strategies, load_strategy

    table = new_table("Strategies", ["name", "signals", "what it does", "version"])
    for name in known_strategies():
        one = load_strategy(name)
        table.add_row(name, one.content.signals.source, one.content.description, one.version)
    terminal().print(table)
