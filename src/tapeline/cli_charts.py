"""``tapeline chart``: bars with what the detectors find in them, as a picture and as a page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

import typer

from tapeline.console import new_table, say, terminal

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
