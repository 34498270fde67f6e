"""Each kind of finding against chance on real bars: ``python -m benchmarks.pattern_reliability [--write]``.

All detectors with their defaults on every series of the folder that TAPELINE_TEST_DATA names (``shared`` beside the
project without), or on the packaged sample where that is absent. With ``--write`` the tables replace those of
docs/reliability.md.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from tapeline.charts.reliability import outcomes, reliability
from tapeline.charts.scan import choose, scan
from tapeline.core.settings import load_settings
from tapeline.core.symbol import Symbol
from tapeline.core.timeframe import Timeframe
from tapeline.sources.base import BarRequest, Data, open_source, require
from tapeline.sources.corporate_actions import adjust, own_sessions, read_corporate_actions

PAGE = Path(__file__).parents[1] / "docs" / "reliability.md"
BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"
PRICES = ["open", "high", "low", "close"]
EQUITIES = ("aapl", "aig", "bac", "eem", "goog", "ibm", "iwm", "qqq", "spy", "uso", "wm")
EQUITY_SCALE = 10_000.0


@dataclass(frozen=True)
class Series:
    """A series of real bars: where it comes from, and how it is read."""

    symbol: str
    timeframe: str
    origin: str
    read: Callable[[], pd.DataFrame]


def series_of(folder: Path) -> Iterator[Series]:
    """Every series with bars enough; of a market and timeframe that two brokers have, one."""
    lean = folder / "lean"
    for name in ("eurgbp", "eurusd", "gbpusd", "nzdusd"):
        path = lean / "forex" / "oanda" / "daily" / f"{name}.zip"
        yield Series(name.upper(), "D1", "OANDA bid", partial(read_lean, path, "D1"))
    path = lean / "forex" / "oanda" / "hour" / "eurusd.zip"
    yield Series("EURUSD", "H1", "OANDA bid", partial(read_lean, path, "H1"))
    for name in EQUITIES:
        path = lean / "equity" / "usa" / "daily" / f"{name}.zip"
        yield Series(name.upper(), "D1", "US equities, adjusted", partial(read_equity, path, "D1"))
    for name in ("spy", "vxx"):
        path = lean / "equity" / "usa" / "hour" / f"{name}.zip"
        yield Series(name.upper(), "H1", "US equities, adjusted", partial(read_equity, path, "H1"))
    path = lean / "crypto" / "coinbase" / "daily" / "btcusd_trade.zip"
    yield Series("BTCUSD", "D1", "Coinbase trades", partial(read_lean, path, "D1"))
    path = folder / "smc_eurusd_m15_mt5" / "EURUSD_15M.csv"
    yield Series("EURUSD", "M15", "MetaTrader 5 bid", partial(read_metatrader, path))
    path = folder / "nautilus" / "fxcm" / "gbpusd-m1-bid-2012.csv"
    yield Series("GBPUSD", "M1", "FXCM bid", partial(read_columns, path, "M1"))
    path = folder / "nautilus" / "btc-perp-20211231-20220201_1m.csv"
    yield Series("BTC-PERP", "M1", "FTX trades", partial(read_columns, path, "M1"))
    path = folder / "freqtrade" / "ETH_BTC-5m.feather"
    yield Series("ETH/BTC", "M5", "trades, venue not stated", partial(read_feather, path))


def read_lean(path: Path, timeframe: str) -> pd.DataFrame:
    """Bars of a LEAN archive in UTC; of quotes the bid."""
    frame = pd.read_csv(path, header=None)
    ts = pd.to_datetime(frame[0], format="%Y%m%d %H:%M", utc=True)
    # Quotes have a size after each side's prices and no volume: what is not there says nothing.
    volume = frame[5] if frame.shape[1] == 6 else 0.0
    return bars_of(frame[[1, 2, 3, 4]], ts, volume, timeframe)


def read_equity(path: Path, timeframe: str) -> pd.DataFrame:
    """Bars of a US equity in UTC, adjusted for splits and dividends."""
    frame = pd.read_csv(path, header=None)
    ts = pd.to_datetime(frame[0], format="%Y%m%d %H:%M")
    # Daily bars carry the session's date, hours New York's clock.
    ts = ts.dt.tz_localize("UTC") if timeframe == "D1" else ts.dt.tz_localize("America/New_York").dt.tz_convert("UTC")
    raw = bars_of(frame[[1, 2, 3, 4]] / EQUITY_SCALE, ts, frame[5], timeframe)
    actions = read_corporate_actions(path.parents[1], path.stem)
    own = own_sessions(raw, actions, ticker=path.stem)
    found = adjust(own, actions)
    return own.assign(**{name: found[f"adjusted_{name}"] for name in [*PRICES, "volume"]})


def read_metatrader(path: Path) -> pd.DataFrame:
    """An export of MetaTrader 5, whose clock is New York's plus seven hours."""
    frame = pd.read_csv(path)
    ts = pd.to_datetime(frame["Date"], format="%Y.%m.%d %H:%M:%S") - pd.Timedelta(hours=7)
    ts = ts.dt.tz_localize("America/New_York").dt.tz_convert("UTC")
    return bars_of(frame[["Open", "High", "Low", "Close"]], ts, frame["Tickvol"], "M15")


def read_columns(path: Path, timeframe: str) -> pd.DataFrame:
    """A file with the columns timestamp, open, high, low, close and volume, in UTC."""
    frame = pd.read_csv(path)
    ts = pd.to_datetime(frame.iloc[:, 0], utc=True)
    return bars_of(frame[PRICES], ts, frame.get("volume", 0.0), timeframe)


def read_feather(path: Path) -> pd.DataFrame:
    """Bars of five minutes as freqtrade stores them."""
    frame = pd.read_feather(path)
    return bars_of(frame[PRICES], pd.to_datetime(frame["date"], utc=True), frame["volume"], "M5")


def read_sample() -> pd.DataFrame:
    """The packaged hours of EURUSD."""
    step = Timeframe.parse("H1")
    request = BarRequest(Symbol.parse("EURUSD"), step, None, None)
    outcome = require(open_source("sample", load_settings()).fetch(request))
    assert isinstance(outcome, Data)
    return outcome.bars.assign(close_ts=step.closes(pd.DatetimeIndex(outcome.bars.index)))


def bars_of(prices: pd.DataFrame, ts: pd.Series, volume: pd.Series | float, timeframe: str) -> pd.DataFrame:
    """Bars by time, each once, with their closes."""
    index = pd.DatetimeIndex(ts, name="ts").as_unit("ns")
    bars = pd.DataFrame(prices.to_numpy(dtype=np.float64), index=index, columns=PRICES)
    bars["volume"] = np.asarray(volume, dtype=np.float64)
    bars = bars[~bars.index.duplicated()].sort_index()
    return bars.assign(close_ts=Timeframe.parse(timeframe).closes(pd.DatetimeIndex(bars.index)))


def measure(series: Series) -> tuple[pd.DataFrame, dict[str, object]]:
    """The outcomes of one series, and what it held."""
    bars = series.read()
    found = scan(bars, [one for one in choose() if not extra_columns(one)])
    told = outcomes(found, bars).assign(symbol=series.symbol, timeframe=series.timeframe)
    first, last = bars.index[0], bars.index[-1]
    held: dict[str, object] = {
        "series": f"{series.symbol} {series.timeframe}",
        "origin": series.origin,
        "from": f"{first:%Y-%m-%d}",
        "to": f"{last:%Y-%m-%d}",
        "bars": len(bars),
        "findings": len(found),
        "decided": len(told),
    }
    return told, held


def extra_columns(choice: object) -> set[str]:
    """Columns that a detector needs and bars have not."""
    component = choice.component  # type: ignore[attr-defined]
    return set(component.required_columns(**choice.parameters)) - {"close_ts"}  # type: ignore[attr-defined]


def to_markdown(table: pd.DataFrame) -> str:
    """A table with three digits after the point; bounds that are none are left empty."""
    lines = [f"| {' | '.join(map(str, table.columns))} |", f"|{' --- |' * table.shape[1]}"]
    for row in table.itertuples(index=False):
        cells = [
            ("" if not np.isfinite(value) else f"{value:.3f}") if isinstance(value, float) else str(value)
            for value in row
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def verdicts(table: pd.DataFrame) -> str:
    """How many groups show what."""
    counts = table["verdict"].value_counts()
    shown = ", ".join(f"{counts.get(one, 0)} {one}" for one in ("edge", "worse than chance", "no edge shown"))
    return f"{len(table)} groups: {shown}."


def measured(told: pd.DataFrame, by: tuple[str, ...] = ("kind",)) -> pd.DataFrame:
    """The reliability by group, with the median risk in mean true ranges before the verdict."""
    table = reliability(told, by)
    risk = told.groupby(list(by))["risk"].median().rename("median_risk")
    table = table.join(risk, on=list(by))
    return table[[*(name for name in table if name != "verdict"), "verdict"]]


def tables(told: pd.DataFrame, held: list[dict[str, object]]) -> str:
    """All that is measured, as Markdown."""
    kinds = measured(told)
    by_frame = measured(told, ("kind", "timeframe"))
    by_symbol = measured(told, ("kind", "timeframe", "symbol"))
    kinds = kinds.sort_values("edge_low", ascending=False, kind="stable")
    kinds = kinds.assign(kind=[f"`{kind}`" for kind in kinds["kind"]])
    parts = [
        to_markdown(pd.DataFrame(held)),
        "By kind, over all series, by the lower end of the edge's interval. " + verdicts(kinds),
        to_markdown(kinds),
    ]
    for name, table in (("kind and timeframe", by_frame), ("kind, timeframe and symbol", by_symbol)):
        shown = table[table["verdict"] != "no edge shown"]
        parts.append(f"By {name}, adjusted for their number; what shows nothing is left out. {verdicts(table)}")
        if len(shown):
            parts.append(to_markdown(shown))
    return "\n\n".join(parts)


def write(text: str) -> None:
    """Put the tables between their marks in the page."""
    page = PAGE.read_text()
    before, _, rest = page.partition(BEGIN)
    _, found, after = rest.partition(END)
    if not found:
        raise SystemExit(f"{PAGE} lacks the marks {BEGIN} and {END}")
    PAGE.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{after}")


def main() -> int:
    """Measure every series and print the tables."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--write", action="store_true", help="replace the tables in docs/reliability.md")
    given = options.parse_args()
    folder = Path(os.environ.get("TAPELINE_TEST_DATA", Path(__file__).parents[2] / "shared")) / "data"
    recorded = folder.is_dir()
    chosen = list(series_of(folder)) if recorded else [Series("EURUSD", "H1", "packaged sample, ask", read_sample)]
    parts, held = [], []
    for series in chosen:
        started = time.process_time()
        told, row = measure(series)
        parts.append(told)
        held.append(row)
        sys.stderr.write(f"{row['series']}: {row['bars']} bars, {time.process_time() - started:.1f} s\n")
    text = tables(pd.concat(parts, ignore_index=True), held)
    sys.stdout.write(f"{text}\n")
    if given.write and recorded:
        write(text)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
