"""The command line: ``tapeline ...``. The outermost layer, and the only module here that may reach up to the flows.

Every import that takes time stands inside the command that needs it, so that ``tapeline --help`` answers at once.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from tapeline.cli_alerts import alerts_application
from tapeline.cli_charts import chart, patterns, scan
from tapeline.cli_models import models_application
from tapeline.cli_options import ModelName, SourceName, Symbols, TimeframeName
from tapeline.cli_paper import paper
from tapeline.cli_strategy import backtest, strategies
from tapeline.console import new_table, one_line, print_table, report_error, say, terminal, write_csv

if TYPE_CHECKING:
    import pandas as pd

    from tapeline.core.registry import Component
    from tapeline.core.timeframe import Timeframe

SERVER_ADDRESS: Final = ("127.0.0.1", 4200)
"""Where `make up` puts the Prefect server unless told otherwise."""
AUDIT_MARGIN: Final = 260
"""Bars beyond its lookback on which a component is audited at least."""
INTERRUPTED: Final = 130

application = typer.Typer(
    name="tapeline",
    help="Market data from the ticker tape to the decision.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
features_application = typer.Typer(help="Feature sets and their versions.", no_args_is_help=True)
for command in (chart, patterns, scan, backtest, strategies, paper):
    application.command()(command)
application.add_typer(features_application, name="features")
application.add_typer(models_application, name="models")
application.add_typer(alerts_application, name="alerts")
metrics_application = typer.Typer(help="The numbers of all runs, for Prometheus and for people.", no_args_is_help=True)
application.add_typer(metrics_application, name="metrics")


@application.callback()
def options(
    verbose: Annotated[bool, typer.Option("--verbose", help="Show the whole trace of an error.")] = False,
) -> None:
    """Market data from the ticker tape to the decision: collect, check, clean, describe, label, train, score."""


@application.command()
def run(
    source: SourceName = "sample",
    symbols: Symbols = "EURUSD",
    timeframe: TimeframeName = "H1",
    start: Annotated[str | None, typer.Option(help="First bar's open, UTC, inclusive.")] = None,
    end: Annotated[str | None, typer.Option(help="Open of the first bar left out, UTC.")] = None,
    train: Annotated[bool, typer.Option(help="Train a challenger; without, the champion scores.")] = True,
    model: ModelName = None,
) -> None:
    """Run the whole chain: ingest, validate, clean, features, labels, train, score, with a report at the end."""
    names = split_symbols(symbols)
    check_request(source, names, timeframe, start, end)
    with orchestration():
        from flows.pipeline import pipeline

        pipeline(source=source, symbols=names, timeframe=timeframe, start=start, end=end, train=train, model=model)


@application.command()
def backfill(
    start: Annotated[str, typer.Option(help="First bar's open, UTC, inclusive.")],
    source: SourceName = "sample",
    symbols: Symbols = "EURUSD",
    timeframe: TimeframeName = "H1",
    end: Annotated[str | None, typer.Option(help="Open of the first bar left out, UTC; up to now if absent.")] = None,
) -> None:
    """Load the bars of a range that the lake lacks; run it again after a crash and it goes on where it stopped."""
    names = split_symbols(symbols)
    check_request(source, names, timeframe, start, end)
    with orchestration():
        from flows.backfill import backfill as backfill_flow

        backfill_flow(source=source, symbols=names, timeframe=timeframe, start=start, end=end)


@application.command()
def stream(
    source: Annotated[str, typer.Option(help="binance | mt5")] = "binance",
    symbols: Symbols = "BTCUSDT",
    channels: Annotated[str | None, typer.Option(help="aggTrade or trade, bookTicker; both if absent.")] = None,
    depth: Annotated[int, typer.Option(min=0, max=1000, help="Levels a side to sample; 0 keeps no books.")] = 0,
    depth_seconds: Annotated[float, typer.Option(help="Seconds between two samples of the books.")] = 1.0,
    seconds: Annotated[float | None, typer.Option(help="End after so long; until Ctrl-C if absent.")] = None,
) -> None:
    """Collect a live feed into the lake until Ctrl-C; what a crash or a lost line left out is fetched at the start."""
    from tasks.live_venue import parse_stream

    names, kinds = split_symbols(symbols), split_symbols(channels) if channels else None
    asked = {"depth_levels": depth, "depth_seconds": depth_seconds, "maximum_seconds": seconds}
    parse_stream(source, names, kinds, **asked)  # type: ignore[arg-type]
    with orchestration():
        from flows.stream import stream as stream_flow

        stream_flow(source=source, symbols=names, channels=kinds, **asked)


@application.command()
def score(
    source: SourceName = "sample",
    symbols: Symbols = "EURUSD",
    timeframe: TimeframeName = "H1",
    model: ModelName = None,
    once: Annotated[bool, typer.Option("--once", help="Score the new closed bars and end.")] = False,
) -> None:
    """Score new closed bars with the champion; without --once again after every bar's close, until Ctrl-C."""
    names = split_symbols(symbols)
    frame = check_request(source, names, timeframe)
    with orchestration():
        from flows.score import score as score_flow

        while True:
            score_flow(source=source, symbols=names, timeframe=timeframe, model=model)
            if once:
                return
            wait_for_close(frame)


@application.command()
def profile(
    symbols: Annotated[str, typer.Argument(metavar="SYMBOL", help="One or several, comma-separated: EURUSD,BTC/USDT.")],
    timeframe: Annotated[str, typer.Option(help="M1, H1, D1, ... or tick for ticks and trades.")] = "H1",
    table: Annotated[str, typer.Option(help="raw/bars, clean/bars, raw/ticks, features, ...")] = "raw/bars",
    period: Annotated[str | None, typer.Option(help="day | week | month | year; by the timeframe if absent.")] = None,
    start: Annotated[str | None, typer.Option(help="First row, UTC, inclusive.")] = None,
    end: Annotated[str | None, typer.Option(help="First row left out, UTC.")] = None,
) -> None:
    """Describe each finished batch of a stored table column by column, and how far it drifted from those before."""
    from tapeline.core.request import parse_request
    from tapeline.core.timeframe import Timeframe

    names = split_symbols(symbols)
    parse_request(names, "M1" if Timeframe.parse(timeframe).is_tick else timeframe, start, end)
    with orchestration():
        from flows.data_profile import profile as profile_flow

        profile_flow(symbols=names, timeframe=timeframe, table=table, period=period, start=start, end=end)


@application.command()
def drift(
    symbols: Annotated[str, typer.Argument(metavar="SYMBOL", help="One or several, comma-separated: EURUSD,BTC/USDT.")],
    timeframe: TimeframeName = "H1",
    model: ModelName = None,
    window: Annotated[int, typer.Option(min=30, help="Newest rows that are judged.")] = 500,
    months: Annotated[int, typer.Option(min=1, help="Length of the reference where there is no champion.")] = 6,
    start: Annotated[str | None, typer.Option(help="First row, UTC, inclusive.")] = None,
    end: Annotated[str | None, typer.Option(help="First row left out, UTC.")] = None,
) -> None:
    """Hold the newest features, and the champion's errors as labels become known, against what it learned from."""
    from tapeline.core.request import parse_request

    names = split_symbols(symbols)
    parse_request(names, timeframe, start, end)
    with orchestration():
        from flows.drift import drift as drift_flow

        drift_flow(symbols=names, timeframe=timeframe, model=model, window=window, months=months, start=start, end=end)


@application.command()
def quality(
    symbols: Annotated[str, typer.Argument(metavar="SYMBOL", help="One or several, comma-separated: EURUSD,BTC/USDT.")],
    timeframe: TimeframeName = "H1",
    start: Annotated[str | None, typer.Option(help="First day, UTC, inclusive.")] = None,
    end: Annotated[str | None, typer.Option(help="First day left out, UTC.")] = None,
    day: Annotated[
        str | None, typer.Option(help="Only explain this day: which bars cost it how much, and why.")
    ] = None,
) -> None:
    """Score each finished day of the raw bars with its parts; with --day, say bar by bar what a day's score cost."""
    from tapeline.core.request import parse_request

    names = split_symbols(symbols)
    asked = parse_request(names, timeframe, day or start, None if day else end)
    if day is not None and asked.start is not None:
        from tapeline.core.settings import load_settings
        from tapeline.lake.lake import Lake
        from tasks.job import plan_jobs
        from tasks.quality import explain_day

        settings = load_settings()
        for job in plan_jobs("local", "", names, timeframe, None, None):
            found = explain_day(job, settings, Lake(settings.lake_path), asked.start)
            print_table(f"{job.name}, {asked.start:%Y-%m-%d}", found.days.reset_index())
            print_table("What it cost", found.faults)
        return
    with orchestration():
        from flows.quality import quality as quality_flow

        quality_flow(symbols=names, timeframe=timeframe, start=start, end=end)


@application.command()
def clock() -> None:
    """Measure the clocks of the settings against this machine's, store and draw them, and tell which are off."""
    with orchestration():
        from flows.clock import clock as clock_flow

        clock_flow()


@application.command()
def status() -> None:
    """What the lake holds: table, symbol, timeframe, rows, first, last, gaps, versions."""
    lake = open_lake()
    held = lake.status()
    if held.empty:
        say(f"The lake at {lake.root} is empty. Fill it with: tapeline run --source sample --symbols EURUSD")
        return
    print_table("The lake", held)


@application.command()
def catalog(
    kind: Annotated[str | None, typer.Option(help="Only feature, pattern or label.")] = None,
) -> None:
    """Every registered component with its parameters, lookback, delay (in bars), outputs and reference."""
    from tapeline.core.registry import Catalog

    components = Catalog.discover()
    table = new_table("Components", ["name", "kind", "parameters", "lookback", "delay", "outputs", "reference"])
    for name in components:
        component = components[name]
        if kind in (None, component.kind):
            table.add_row(*describe(component))
    terminal().print(table)


@application.command()
def exchanges(
    names: Annotated[list[str] | None, typer.Argument(help="ccxt ids or oanda; those read natively if absent.")] = None,
) -> None:
    """What each exchange offers: by REST, as a stream, which credentials it wants, how fast it may be asked."""
    from tapeline.streams.capabilities import capabilities_summary

    print_table("Exchanges", capabilities_summary(tuple(names) if names else None))


@application.command()
def audit(
    targets: Annotated[
        list[str] | None,
        typer.Argument(
            help="Component names, module:function, or file.py[:function]; everything registered if absent."
        ),
    ] = None,
    symbol: Annotated[
        str, typer.Option(help="Audit on this symbol's stored clean bars, if the lake has them.")
    ] = "EURUSD",
    timeframe: TimeframeName = "H1",
    bars: Annotated[int, typer.Option(min=200, max=20_000, help="How many bars to audit on.")] = 700,
) -> None:
    """Check components for look-ahead and for the same last row on the tail; one verdict a line.

    A target outside the catalog is imported, which runs its code: audit only what you would run anyway.
    """
    from tapeline.core.audit import audit as run_audit

    components = components_to_audit(targets or [])
    held, step = stored_bars(symbol, timeframe)
    failed = 0
    for component in components:
        # The tail check needs bars beyond the lookback: a component that looks back further gets more of them.
        frame = held.tail(max(bars, component.lookback_of() + AUDIT_MARGIN))
        for finding in run_audit(component, frame, step):
            failed += not finding.passed
            say(one_line(str(finding), keep_spaces=True))
    if failed:
        raise typer.Exit(1)


@application.command()
def sql(
    query: Annotated[str, typer.Argument(help="One SELECT over views such as clean_bars; 'show tables' lists them.")],
    limit: Annotated[int, typer.Option(min=1, help="Print at most this many rows.")] = 50,
    csv: Annotated[bool, typer.Option("--csv", help="Write all rows as CSV to standard output.")] = False,
) -> None:
    """Query the lake with DuckDB, read-only."""
    from tapeline.lake.views import query as run_query

    result = run_query(open_lake(), query)
    if csv:
        write_csv(result)
    else:
        shown = result.slice(0, limit).to_pandas()
        print_table(f"{result.num_rows} rows" + (f", the first {limit}" if result.num_rows > limit else ""), shown)


@application.command()
def trace(
    symbol: Annotated[str, typer.Argument(help="As the lake spells it: EURUSD, BTC/USDT.")],
    timeframe: Annotated[str, typer.Argument(help="M1, H1, D1, ... or tick.")],
    ts: Annotated[str, typer.Argument(help="The row's time, UTC, such as 2017-03-01T12:00.")],
    table: Annotated[
        str | None, typer.Option(help="<zone>/<table>; the last of raw, clean, features, labels, scores if absent.")
    ] = None,
) -> None:
    """Follow one row of any table back to the raw rows it was made from, and to their raw file or service."""
    from tapeline.core.symbol import Symbol
    from tapeline.core.timeframe import Timeframe
    from tapeline.lake.trace import named_table, trace_lines
    from tapeline.lake.trace import trace as follow

    lake, name, step = open_lake(), Symbol.parse(symbol), Timeframe.parse(timeframe)
    for line in trace_lines(follow(lake, named_table(lake, name, step, table), name, step, ts)):
        say(one_line(line, keep_spaces=True))


@features_application.command("diff")
def features_diff(
    old: Annotated[str, typer.Argument(help="A feature set file, or the name of a packaged set.")],
    new: Annotated[str, typer.Argument(help="The other one.")],
) -> None:
    """What lies between two feature sets: a line a feature, parameter, code or order that differs."""
    from tapeline.features.feature_set import diff, load_feature_set

    one, other = load_feature_set(old), load_feature_set(new)
    say(f"{one.version} -> {other.version}")
    for line in diff(one, other) or ["no difference"]:
        say(line)


@features_application.command("select")
def features_select(
    source: SourceName = "sample",
    symbols: Symbols = "EURUSD",
    timeframe: TimeframeName = "H1",
    feature_set: Annotated[str, typer.Option(help="What to choose from: a packaged set's name, or a file.")] = "core",
    start: Annotated[str | None, typer.Option(help="First bar's open, UTC, inclusive.")] = None,
    end: Annotated[str | None, typer.Option(help="Open of the first bar left out, UTC.")] = None,
    model: ModelName = None,
) -> None:
    """Choose features by what they do out of sample; the set becomes champion only if it is significantly better."""
    from tapeline.features.feature_set import load_feature_set

    names = split_symbols(symbols)
    check_request(source, names, timeframe, start, end)
    load_feature_set(feature_set)
    with orchestration():
        from flows.feature_selection import select

        given = {"source": source, "symbols": names, "timeframe": timeframe, "start": start, "end": end}
        select(feature_set=feature_set, model=model, **given)


@features_application.command("restore")
def features_restore(
    name: Annotated[str, typer.Argument(help="The registered model, such as direction-H1-EURUSD.")],
) -> None:
    """Make the champion feature set before this one the champion again."""
    from tapeline.core.settings import load_settings
    from tapeline.models.selection_store import SelectionStore

    say(f"{SelectionStore(load_settings(), name).restore()} is the champion set again")


@metrics_application.command("serve")
def metrics_serve(
    host: Annotated[
        str, typer.Option(help="The address to listen on; other machines reach only another one.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65_535, help="Where Prometheus scrapes.")] = 9464,
) -> None:
    """Serve the metrics to Prometheus until Ctrl-C."""
    from tapeline.core.errors import ConfigurationError
    from tapeline.monitoring.exporter import serve

    try:
        _, thread = serve(open_exporter(), host=host, port=port)
    except OSError as error:
        raise ConfigurationError(f"cannot listen on {host}:{port}: {error.strerror or error}") from error
    say(f"Metrics at http://{host}:{port}/metrics; Ctrl-C stops.")
    thread.join()


@metrics_application.command("show")
def metrics_show(
    match: Annotated[str, typer.Option(help="Only metrics whose name holds this text.")] = "",
) -> None:
    """Print every metric as it stands now; of a histogram the count and the mean."""
    import pandas as pd

    rows = []
    for one in open_exporter().series():
        if match in one.metric.name:
            count = one.buckets[-1][1] if one.buckets else None
            value = one.value / count if count else one.value
            labels = ", ".join(f"{name}={text}" for name, text in sorted(one.labels.items()))
            rows.append((one.metric.name, labels, f"{value:.6g}", "" if count is None else f"{count:.0f}"))
    print_table("Metrics", pd.DataFrame(rows, columns=["metric", "labels", "value", "count"]))


def main() -> None:
    """Run the command line: an error is one clear line with a hint and a status that is not 0."""
    verbose = "--verbose" in sys.argv[1:]
    # The option is understood anywhere on the line, as people type it last, after the run has failed.
    arguments = [argument for argument in sys.argv[1:] if argument != "--verbose"]
    try:
        application(arguments, prog_name="tapeline")
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except Exception as error:  # the one place where every error becomes a line and a status
        if verbose:
            raise
        sys.exit(report_error(error))


def split_symbols(text: str) -> list[str]:
    """Read the comma-separated list."""
    return [name.strip() for name in text.split(",") if name.strip()]


def check_request(
    source: str, symbols: list[str], timeframe: str, start: str | None = None, end: str | None = None
) -> Timeframe:
    """Refuse what can be refused before the seconds that Prefect takes to start."""
    from tapeline.core.request import parse_request
    from tapeline.core.settings import load_settings
    from tapeline.sources.base import open_source

    request = parse_request(symbols, timeframe, start, end)
    open_source(source, load_settings())
    return request.timeframe


@contextmanager
def orchestration() -> Iterator[None]:
    """Point Prefect at the server of `make up` where it runs, else at a temporary one on this project's database.

    Nothing of Prefect may be imported before: it reads its settings once.
    """
    import socket

    from tapeline.core.settings import load_settings

    # The flows lie in the project folder where Tapeline runs from a checkout.
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    os.environ.setdefault("PREFECT_HOME", str(load_settings().root / ".prefect"))
    os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
    os.environ.setdefault("PREFECT_FLOWS_HEARTBEAT_FREQUENCY", "30")
    os.environ.setdefault("DO_NOT_TRACK", "1")
    if "PREFECT_API_URL" in os.environ:
        yield
        return
    with socket.socket() as probe:
        probe.settimeout(0.5)
        running = probe.connect_ex(SERVER_ADDRESS) == 0
    if running:
        os.environ["PREFECT_API_URL"] = "http://{}:{}/api".format(*SERVER_ADDRESS)
        yield
        return
    from flows.server import temporary_server

    with temporary_server() as server:
        os.environ["PREFECT_API_URL"] = server.url
        import flows.pipeline  # noqa: F401 - takes seconds, in which the server boots

        server.wait_until_ready()
        yield


def wait_for_close(timeframe: Timeframe) -> None:
    """Sleep until a little after the next bar's close."""
    import time

    settle_seconds = 5.0
    now = time.time()
    time.sleep(timeframe.seconds - now % timeframe.seconds + settle_seconds)


def open_lake() -> Any:
    """The lake of the settings in force."""
    from tapeline.core.settings import load_settings
    from tapeline.lake.lake import Lake

    return Lake(load_settings().lake_path)


def open_exporter() -> Any:
    """The exporter over the store of metrics and the lake of the settings in force."""
    from tapeline.core.settings import load_settings
    from tapeline.lake.lake import Lake
    from tapeline.monitoring.exporter import Exporter
    from tapeline.monitoring.metric_store import STORE_FILE, MetricStore
    from tapeline.quality.freshness import LakeInventory

    settings = load_settings()
    inventory = LakeInventory(Lake(settings.lake_path), settings.calendars)
    return Exporter(MetricStore(settings.state_path / STORE_FILE), inventory)


def components_to_audit(targets: list[str]) -> list[Component]:
    """Catalog names and user targets as components; the whole catalog where nothing is named."""
    from tapeline.core.registry import Catalog
    from tapeline.core.user_code import load_user_component

    catalog = Catalog.discover()
    if not targets:
        return [catalog[name] for name in catalog]
    is_user_code = [":" in target or "." in target for target in targets]
    return [
        component
        for target, user in zip(targets, is_user_code, strict=True)
        for component in (load_user_component(target) if user else [catalog[target]])
    ]


def stored_bars(symbol: str, timeframe: str) -> tuple[pd.DataFrame, Timeframe]:
    """The stored clean bars of a symbol, else those of the packaged sample."""
    import pandas as pd

    from tapeline.core.errors import DataError
    from tapeline.core.schemas import CLEAN_BARS
    from tapeline.core.settings import load_settings
    from tapeline.core.symbol import Symbol
    from tapeline.core.timeframe import Timeframe
    from tapeline.sources.base import BarRequest, Data, open_source, require

    step, name = Timeframe.parse(timeframe), Symbol.parse(symbol)
    bars = open_lake().read(CLEAN_BARS, name, step)
    if bars.empty:
        outcome = require(open_source("sample", load_settings()).fetch(BarRequest(name, step, None, None)))
        if not isinstance(outcome, Data):
            raise DataError(f"there are no bars of {name} {step} to audit on: {outcome.reason}", hint="try EURUSD H1")
        bars = outcome.bars.assign(close_ts=step.closes(pd.DatetimeIndex(outcome.bars.index)))
    return bars, step


def describe(component: Component) -> tuple[str, ...]:
    """One catalog row: lookback and delay are those of the default parameters."""
    parameters = ", ".join(f"{name}={value!r}" for name, value in component.defaults.items())
    outputs = ", ".join(component.output_names()) or component.kind
    bars = str(component.lookback_of()), f"{component.delay_of():g}"
    return component.name, component.kind, parameters, *bars, outputs, component.reference


if __name__ == "__main__":
    main()
