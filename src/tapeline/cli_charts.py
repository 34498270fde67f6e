"""``tapeline chart``, ``patterns`` and ``scan``: findings drawn, findings measured, harmonic patterns found."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from tapeline.console import new_table, print_table, say, terminal

if TYPE_CHECKING:
    import pandas as pd

    from tapeline.core.timeframe import Timeframe

Symbols = Annotated[str, typer.Argument(metavar="SYMBOLS", help="Comma-separated: EURUSD,BTC/USDT.")]
DEFAULT_FINDINGS: Final = "zigzag_swing,break_of_structure,change_of_character,order_block,fair_value_gap"


def chart(
    symbol: Annotated[str, typer.Argument(help="Such as EURUSD or BTC/USDT.")] = "",
    timeframe: Annotated[str, typer.Option(help="M1, M5, H1, D1, ...")] = "H1",
    start: Annotated[str | None, typer.Option("--from", help="First bar, UTC; the last 160 bars without.")] = None,
    end: Annotated[str | None, typer.Option("--to", help="First bar left out, UTC: nothing after it is used.")] = None,
    findings: Annotated[str, typer.Option(help="Detectors, comma-separated; 'none' for none.")] = DEFAULT_FINDINGS,
    overlay: Annotated[str, typer.Option(help="Features that are prices, comma-separated.")] = "",
    annotate: Annotated[bool, typer.Option(help="Name what single bars are.")] = False,
    trend: Annotated[bool, typer.Option(help="Show the trend beneath.")] = False,
    out: Annotated[Path | None, typer.Option(help="Folder of the files; the state folder's charts/ without.")] = None,
    show: Annotated[bool, typer.Option("--list", help="List the detectors and the overlays there are.")] = False,
) -> None:
    """Draw bars with chosen findings, as they were known at the last bar: a PNG and a page to zoom into."""
    if show:
        list_choices()
        return
    if not symbol:
        raise typer.BadParameter("name a symbol, such as EURUSD", param_hint="SYMBOL")
    from tapeline.charts.compose import compose
    from tapeline.charts.page import page
    from tapeline.charts.picture import draw
    from tapeline.charts.scan import choose
    from tapeline.cli import stored_bars
    from tapeline.core.request import parse_request
    from tapeline.core.settings import load_settings
    from tapeline.core.symbol import Symbol
    from tapeline.core.whole_file import write_whole

    request = parse_request([symbol], timeframe, start, end)
    with terminal().status("Reading the bars and looking for findings ..."):
        bars, step = stored_bars(symbol, timeframe)
        names = [] if findings.strip() == "none" else split(findings)
        drawn = compose(
            bars,
            choose(names),
            start=request.start,
            end=request.end,
            overlays=split(overlay),
            annotate=annotate,
            trend=trend,
            title=f"{symbol} {step}",
        )
        folder = out or load_settings().reports_path / "charts"
        stem = f"{Symbol.parse(symbol).path_segment}-{step}-{drawn.bars.index[-1]:%Y%m%dT%H%M}"
        picture = write_whole(folder / f"{stem}.png", draw(drawn), what="picture")
        shown = write_whole(folder / f"{stem}.html", page(drawn), what="page")
    found = drawn.marks()
    table = new_table(
        f"{len(found)} findings on {len(drawn.bars)} bars of {symbol} {step}", ["kind", "all", "standing"]
    )
    for kind in sorted({mark.kind for mark in found}):
        same = [mark for mark in found if mark.kind == kind]
        table.add_row(kind, str(len(same)), str(sum(mark.open for mark in same)))
    terminal().print(table)
    say(f"Picture {picture.as_uri()}")
    say(f"Page    {shown.as_uri()}")


def patterns(
    symbols: Symbols,
    timeframe: Annotated[str, typer.Option(help="M1, M5, H1, D1, ...")] = "H1",
) -> None:
    """Hold every kind of finding of stored series against chance, and say what speaks at their last bars."""
    from tapeline.cli import orchestration
    from tapeline.core.request import parse_request

    names = split(symbols)
    parse_request(names, timeframe, None, None)
    with orchestration():
        from flows.charts import charts

        charts(symbols=names, timeframe=timeframe)


def scan(
    symbols: Symbols,
    timeframes: Annotated[str, typer.Option(help="Comma-separated: H1,D1.")] = "H1",
    tolerance: Annotated[float, typer.Option(help="By what share a ratio may miss its published bounds.")] = 0.05,
    limit: Annotated[int, typer.Option(min=1, help="Print at most this many patterns.")] = 25,
    csv: Annotated[bool, typer.Option("--csv", help="Write all of them as CSV to standard output.")] = False,
) -> None:
    """Look for harmonic patterns, formed and forming, at the last bars of stored series; the most pressing first."""
    from rich.console import Console
    from rich.progress import Progress

    from tapeline.charts.harmonic_scanner import scan_harmonics
    from tapeline.core.request import parse_request

    names, steps = split(symbols), split(timeframes)
    for step in steps or [""]:
        parse_request(names, step, None, None)
    frames = StoredFrames([(name, step) for name in names for step in steps])
    with Progress(console=Console(stderr=True), transient=True) as progress:
        bar = progress.add_task("Looking for harmonic patterns", total=len(frames))
        found = scan_harmonics(
            frames,
            tolerance=tolerance,
            progress=lambda done, total, symbol, step: progress.update(
                bar, completed=done, total=total, description=f"{symbol} {step}"
            ),
        )
    if csv:
        found.to_csv(sys.stdout, index=False)
        return
    shown = found.head(limit)[
        ["rank", "symbol", "timeframe", "state", "kind", "direction", "age", "low", "high", "target", "stop", "close",
         "distance", "score", "weight"]
    ]  # fmt: skip
    print_table(f"{len(found)} harmonic patterns stand in {len(frames)} series", shown)


class StoredFrames(Mapping[tuple[str, "str | Timeframe"], "pd.DataFrame"]):
    """Stored bars by (symbol, timeframe), read when they are asked for, so that few of them are held at a time."""

    def __init__(self, keys: list[tuple[str, str | Timeframe]]) -> None:
        self._keys = dict.fromkeys(keys)

    def __getitem__(self, key: tuple[str, str | Timeframe]) -> pd.DataFrame:
        from tapeline.cli import stored_bars

        if key not in self._keys:
            raise KeyError(key)
        return stored_bars(key[0], str(key[1]))[0]

    def __iter__(self) -> Iterator[tuple[str, str | Timeframe]]:
        return iter(self._keys)

    def __len__(self) -> int:
        return len(self._keys)


def split(text: str) -> list[str]:
    """The names of a comma-separated list."""
    return [name.strip() for name in text.split(",") if name.strip()]


def list_choices() -> None:
    """Print the detectors, and the features that can lie over bars."""
    from tapeline.charts.compose import is_price
    from tapeline.core.registry import Catalog

    components = Catalog.discover(["tapeline.features", "tapeline.charts"])
    for title, chosen in (
        ("Detectors for --findings", components.of_kind("pattern")),
        ("Features for --overlay", [one for one in components.of_kind("feature") if is_price(one)]),
    ):
        table = new_table(title, ["name", "what it finds"])
        for one in chosen:
            table.add_row(one.name, one.summary)
        terminal().print(table)
