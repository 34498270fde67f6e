"""The stream flow: a live feed into the lake, long-running and supervised; its schedule starts it where it is down."""

from __future__ import annotations

from prefect import flow
from prefect.runtime import flow_run
from rich.live import Live
from rich.table import Table

from flows.hooks import HOOKS, open_notifier
from tapeline.console import cell, new_table, terminal
from tapeline.core.settings import load_settings
from tasks.live_run import StreamStatus
from tasks.live_venue import parse_stream
from tasks.stream import describe, stream_feed

NUMBERS = (
    "trades", "quotes", "bars", "depth_rows", "quarantined", "gaps_filled", "gaps_unfilled", "missing_bars", "lag_ms",
    "spread_bps",
)  # fmt: skip


@flow(name="stream", flow_run_name="stream {source}", persist_result=False, **HOOKS)
def stream(
    source: str = "binance",
    symbols: list[str] = ["BTCUSDT"],  # noqa: B006 - Prefect shows the default in its UI and never changes it
    channels: list[str] | None = None,
    depth_levels: int = 0,
    depth_seconds: float = 1.0,
    maximum_seconds: float | None = None,
) -> StreamStatus:
    """Collect trades, quotes and depth until the run is stopped.

    Parameters
    ----------
    source:
        ``binance``, native streams; or ``mt5``, the ticks of a terminal.
    symbols:
        As the source spells them.
    channels:
        Of Binance: ``aggTrade`` (or ``trade``) and ``bookTicker``, both where absent; ``kline_1m`` for the venue's own
        bars of a minute, ``kline_1h`` of an hour.
    depth_levels:
        Levels a side that are sampled from a live book into ``raw/depth``: 1 the best, more for level 2, 0 none.
    depth_seconds:
        How often.
    maximum_seconds:
        The run ends by itself after so long; None for ever.

    SIGTERM, a cancellation or Ctrl-C end it in good order: what was received is in the lake. A feed that gives up fails
    the run, which its hooks tell; its alerts go to the same channels.
    """
    request = parse_stream(
        source,
        symbols,
        channels,
        depth_levels=depth_levels,
        depth_seconds=depth_seconds,
        maximum_seconds=maximum_seconds,
        run_id=flow_run.get_id() or "local",
    )
    notifier = open_notifier(load_settings())
    console = terminal()
    if not console.is_terminal:
        return stream_feed(request, notify=notifier.notify)
    with Live(console=console, refresh_per_second=4) as live:
        return stream_feed(request, notify=notifier.notify, show=lambda status: live.update(table_of(status)))


def table_of(status: StreamStatus) -> Table:
    """A run's counters as a person sees them."""
    table = new_table(describe(status), ["symbol", *NUMBERS], right=list(NUMBERS))
    for row in status.symbols:
        shown = (float("nan") if row[name] is None else row[name] for name in NUMBERS)
        table.add_row(str(row["symbol"]), *(cell(value) for value in shown))
    return table
